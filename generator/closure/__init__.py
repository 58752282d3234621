"""
The closure proof: everything that a bundle's scripts, manifests and configurations need, and who provides it.

A static walk over what was written, not over what was meant: every file of every host's folder is read as the program that reads it on
the host would.  ``needs`` has what the walk yields; one module a kind of need finds uses and judges them; this one walks and counts.
A text is read once on however many hosts it is, and judged once for all hosts that are alike.

What a name in a variable becomes is not known here; such names come from ``host.env``, ``images.txt`` and ``files.tsv``, which are judged.
What runs on the connected machine (``scripts/fetch-payload.sh``, ``payload.tsv``) is no part of it: there the network is the point.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from generator.bundle import MANIFEST, BundleError
from generator.closure import commands, files, images, packages, surroundings, urls
from generator.closure.folders import Cluster, Folder, Texts, spoken, texts_of
from generator.closure.needs import KINDS, Kind, Need, Status, Use, Verdict, missing
from generator.wording import said

__all__ = ["KINDS", "Kind", "Need", "Proof", "Status", "Verdict", "prove"]

Judged = tuple[Use, Verdict]


@dataclass(frozen=True, slots=True)
class Proof:
    """Every need of a bundle, sorted by kind and name; *without_payload* are the hosts that have none."""

    needs: tuple[Need, ...]
    without_payload: tuple[str, ...]

    def of(self, status: Status) -> tuple[Need, ...]:
        """The needs with that status: ``missing`` are the errors."""
        return tuple(need for need in self.needs if need.verdict.status == status)


def prove(root: Path, *, require_payload: bool = False) -> Proof:
    """
    Walk over the bundle at *root*, which may still be a staging folder.

    A host without a payload wants its images and packages from one; with *require_payload* they are missing.  Raises
    :class:`BundleError` where there is no readable bundle.
    """
    try:
        return _Walk(root, require_payload=require_payload).run()
    except OSError as error:
        raise BundleError(f"{error.filename or root}: {error.strerror}", "read it as a user who may read all of it") from None


@dataclass(frozen=True)
class _Payload:
    images: images.Payload
    packages: packages.Payload


class _Walk:
    def __init__(self, root: Path, *, require_payload: bool) -> None:
        self.root, self.required = root, require_payload
        self.archives, self.repositories = images.Archives(), packages.Repositories()
        self.scripts: dict[tuple[tuple[str, str], ...], commands.Scripts] = {}
        self.uses: dict[tuple[int, str, str], tuple[Use, ...]] = {}
        # What is judged alike, by its key: the verdicts, and the hosts that they are for.
        self.found: dict[tuple[Any, ...], tuple[tuple[Judged, ...], list[str]]] = {}
        self.needs: dict[tuple[Kind, str, Verdict], tuple[str, int, int, dict[str, None]]] = {}
        self.laid: dict[tuple[int, frozenset[str]], Mapping[str, str]] = {}

    def run(self) -> Proof:
        steps = _steps(self.root)
        texts = Texts()
        folders = [self._folder(path, texts, steps) for path in sorted((self.root / "hosts").iterdir()) if path.is_dir()]
        cluster = surroundings.cluster(self.root, folders)
        payloads = {folder.name: self._payload(folder.root / "payload") for folder in folders}
        grouped: dict[Use, str] = {}
        for folder in folders:
            for use in self._host(cluster, folder, payloads[folder.name]):
                grouped.setdefault(use, folder.name)
        for folder in (one for one in folders if one.get("KUBERNETES")):
            for use, origin in grouped.items():
                if use.group == images.KUBERNETES or use.group == folder.get("ROLE"):
                    self._add(use, self._image(cluster, folder, use, payloads[folder.name]), origin, (folder.name,))
        self._top(cluster, folders)
        for judged, hosts in self.found.values():
            for use, verdict in judged:
                self._add(use, verdict, hosts[0], hosts)
        order = {kind: number for number, kind in enumerate(KINDS)}
        needs = sorted(
            (Need(*key, path, line, column, tuple(hosts)) for key, (path, line, column, hosts) in self.needs.items()),
            key=lambda need: (order[need.kind], need.name, need.path),
        )
        return Proof(tuple(needs), tuple(name for name, payload in payloads.items() if payload is None))

    def _folder(self, path: Path, texts: Texts, steps: Mapping[str, str]) -> Folder:
        folder = Folder(path.name, path, texts_of(path, texts))
        scripts = self._scripts(folder)
        never = {f"scripts/{name}" for name, group in steps.items() if not surroundings.runs(folder, group)}
        never |= {path for path in scripts.texts if path.startswith("ops/") and not folder.get("KUBERNETES")}
        libraries = scripts.libraries()
        reached = {one for path in scripts.texts if path not in never | libraries for one in scripts.sourced[path]}
        return Folder(folder.name, folder.root, folder.texts, frozenset(never | (libraries - reached)))

    def _scripts(self, folder: Folder) -> commands.Scripts:
        key = tuple((path, text) for path, text in folder.texts.items() if commands.is_script(path, text))
        if key not in self.scripts:
            self.scripts[key] = commands.Scripts(dict(key))
        return self.scripts[key]

    def _payload(self, path: Path) -> _Payload | None:
        if path.is_symlink() or not path.is_dir():
            return None
        return _Payload(self.archives.of(path), self.repositories.of(path))

    def _host(self, cluster: Cluster, folder: Folder, payload: _Payload | None) -> Iterator[Use]:
        """Judge the host's own uses; yield those that are for others to have, too."""
        scripts = self._scripts(folder)
        key = (folder.profile, id(scripts), payload and (_frozen(payload.images.files), id(payload.packages.index), payload.packages.files))
        made: Mapping[str, str] | None = None
        for path, text in folder.texts.items():
            if path in folder.skipped:
                continue
            uses = self._uses(scripts, path, text)
            yield from (use for use in uses if use.group)
            at = (key, path, text)
            if at not in self.found:
                if made is None:
                    made = {**self._laid(scripts, folder.skipped), **files.made_by_tmpfiles(folder)}
                verdicts = ((use, self._judge(cluster, folder, use, payload, made)) for use in uses if not use.group)
                self.found[at] = tuple((use, verdict) for use, verdict in verdicts if verdict), []
            self.found[at][1].append(folder.name)
        if payload:
            self._overlay(folder, payload)

    def _laid(self, scripts: commands.Scripts, skipped: frozenset[str]) -> Mapping[str, str]:
        key = (id(scripts), skipped)
        if key not in self.laid:
            self.laid[key] = files.made_by_steps(scripts, set(scripts.texts) - skipped)
        return self.laid[key]

    def _uses(self, scripts: commands.Scripts, path: str, text: str) -> tuple[Use, ...]:
        script = path in scripts.texts
        key = (id(scripts) if script else 0, path, text)
        if key not in self.uses:
            if path.startswith("payload/manifests/"):
                text = spoken(text)
            found: list[Use] = [*urls.uses(path, text), *images.uses(path, text), *packages.uses(path, text)]
            found += scripts.uses(path) if script else (*commands.uses(path, text), *files.uses(path, text))
            self.uses[key] = tuple({(use.kind, use.name, use.group): use for use in reversed(found)}.values())
        return self.uses[key]

    def _judge(self, cluster: Cluster, folder: Folder, use: Use, payload: _Payload | None, made: Mapping[str, str]) -> Verdict | None:
        if use.kind == "command":
            return commands.judge(folder, use)
        if use.kind == "file":
            return files.judge(folder, use, made)
        if use.kind == "url":
            return urls.judge(cluster, use)
        if use.kind == "package" and use.path != "host.env":
            return packages.judge_installed(folder, use)
        if use.kind == "package":
            return packages.judge(folder, use, payload.packages if payload else None, required=self.required)
        return self._image(cluster, folder, use, payload)

    def _image(self, cluster: Cluster, folder: Folder, use: Use, payload: _Payload | None) -> Verdict:
        return images.judge(cluster, folder, use, payload.images if payload else None, required=self.required)

    def _overlay(self, folder: Folder, payload: _Payload) -> None:
        """What is wrong with the payload itself."""
        hosts = (folder.name,)
        for use, verdict in self.repositories.needs(folder, payload.packages):
            self._add(use, verdict, folder.name, hosts)
        for path in (*payload.images.unreadable, *filter(None, (payload.packages.broken,))):
            what = said("no archive of one image") if path.startswith("payload/images/") else said("its index can't be read")
            self._add(Use("file", path, path), missing(what, "gather it again"), folder.name, hosts)

    def _top(self, cluster: Cluster, folders: Iterable[Folder]) -> None:
        """The check at the bundle's top, which has to run on any host."""
        path = self.root / "verify.sh"
        first = next(iter(folders), None)
        if first is None or path.is_symlink() or not path.is_file():
            return
        top = Folder(
            "", self.root, {"verify.sh": Texts().read(path), "host.env": first.texts.get("host.env", "")}, frozenset(("host.env",))
        )
        list(self._host(cluster, top, None))

    def _add(self, use: Use, verdict: Verdict, origin: str, hosts: Iterable[str]) -> None:
        key = (use.kind, use.name, verdict)
        if key not in self.needs:
            self.needs[key] = (f"hosts/{origin}/{use.path}" if origin else use.path, use.line, use.column, {})
        self.needs[key][3].update(dict.fromkeys(filter(None, hosts)))


def _frozen(files_by_name: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(files_by_name.items())


def _steps(root: Path) -> dict[str, str]:
    """The group of hosts that runs each script of a step, as the manifest has it."""
    manifest = root / MANIFEST
    remedy = "name the folder of one cluster, such as out/example"
    try:
        steps = json.loads(manifest.read_text(encoding="utf-8") if manifest.is_file() else "")["steps"]
        found = {str(step["script"]): str(step["hosts"]) for step in steps}
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BundleError(said("{file}: not a manifest of stowage's", file=manifest), remedy) from None
    if not (root / "hosts").is_dir():
        raise BundleError(said("{folder}: not a bundle of stowage's", folder=root), remedy)
    return found
