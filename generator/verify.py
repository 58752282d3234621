"""A bundle read back and checked against its manifest and its sums: writes nothing, so that a read-only medium will do."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from generator.bundle import FORMAT, MANIFEST, OVERLAYS, SUMS, BundleError, digest_of, in_overlay, walk
from generator.wording import said

Entries = Mapping[str, Mapping[str, Any]]


def verify(bundle: Path) -> list[str]:
    """
    What is wrong with the bundle at *bundle*: one line for each changed, missing or extra file, and each wrong x bit.

    Empty when it is as it was compiled.  An overlay answers to its own sums.  On a medium that keeps no x bits (FAT gives every file the
    same) those are not looked at.  Raises :class:`BundleError` where there is no readable manifest, or a file can't be read.
    """
    entries = _entries(bundle)
    try:
        return sorted(_differences(bundle, entries))
    except OSError as error:
        raise BundleError(f"{error.filename or bundle}: {error.strerror}", "verify it as a user who may read all of it") from None


def _entries(bundle: Path) -> Entries:
    """The manifest's files by path."""
    manifest = bundle / MANIFEST
    try:
        # A pipe in its place would be waited for without end.
        data = json.loads(manifest.read_text(encoding="utf-8") if stat.S_ISREG(manifest.stat().st_mode) else "")
        form = data["stowage"]
        entries = {str(entry["path"]): {"sha256": entry["sha256"], "executable": bool(entry.get("executable"))} for entry in data["files"]}
    except OSError as error:
        raise BundleError(f"{manifest}: {error.strerror}", "name the folder of one cluster, such as out/example") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BundleError(
            said("{file}: not a manifest of stowage's", file=manifest), "name the folder of one cluster, such as out/example"
        ) from None
    if form != FORMAT:
        raise BundleError(
            said("{file}: format {form}", file=manifest, form=form),
            said("this stowage reads format {form}: use the one that made it", form=FORMAT),
        )
    return entries


def _differences(bundle: Path, entries: Entries) -> Iterator[str]:
    listed: dict[str, dict[str, str]] = {"": {path: entry["sha256"] for path, entry in entries.items()}}
    for path, entry in entries.items():
        folder, _, rest = path.partition("/")
        host, _, below = rest.partition("/")
        if folder == "hosts" and below:
            listed.setdefault(f"hosts/{host}/", {})[below] = entry["sha256"]
    own = {MANIFEST, *(prefix + SUMS for prefix in listed)}
    tracked = {path for path in walk(bundle) if not in_overlay(path)}
    yield from (said("extra: {path}", path=path) for path in tracked - own - set(entries))
    yield from (said("missing: {path}", path=path) for path in (own | set(entries)) - tracked)
    changed = {path for path, digest in listed[""].items() if path in tracked and not _is(bundle / path, digest)}
    changed.update(_wrong_sums(bundle, listed, tracked))
    yield from (said("changed: {path}", path=path) for path in changed)
    bits = {path: path in entries and entries[path]["executable"] for path in tracked & (own | set(entries)) - changed}
    yield from _x_bits(bundle, bits)
    for prefix in listed:
        if prefix:
            for overlay in OVERLAYS:
                yield from _overlay(bundle, prefix + overlay)


def _wrong_sums(bundle: Path, listed: Mapping[str, Mapping[str, str]], tracked: set[str]) -> Iterator[str]:
    """Every ``SHA256SUMS`` that lists other than the manifest does, or isn't what the one at the top says; so the manifest too."""
    own = {MANIFEST, *(prefix + SUMS for prefix in listed if prefix)}
    stated = _read_sums(bundle / SUMS) if SUMS in tracked else {}
    if SUMS in tracked and (stated.keys() != own | listed[""].keys() or any(stated[path] != digest for path, digest in listed[""].items())):
        yield SUMS
    yield from (path for path in own & tracked & stated.keys() if not _is(bundle / path, stated[path]))
    for prefix, wanted in listed.items():
        if prefix and prefix + SUMS in tracked and _read_sums(bundle / (prefix + SUMS)) != wanted:
            yield prefix + SUMS


def _is(path: Path, digest: str) -> bool:
    """Whether *path* is a regular file with that digest."""
    return stat.S_ISREG(path.lstat().st_mode) and digest_of(path) == digest


def _x_bits(bundle: Path, executable: Mapping[str, bool]) -> Iterator[str]:
    actual = {path: bool((bundle / path).stat().st_mode & stat.S_IXUSR) for path in executable}
    if len(set(actual.values())) > 1:
        yield from (said("changed: {path} (x bit)", path=path) for path, bit in actual.items() if bit is not executable[path])


def _read_sums(path: Path) -> dict[str, str]:
    """Digest by path, as ``sha256sum`` writes them; nothing where *path* is no regular file or names one file twice."""
    if not stat.S_ISREG(path.lstat().st_mode):
        return {}
    lines = path.read_text(encoding="utf-8", errors="surrogateescape").removesuffix("\n").split("\n")
    stated = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    return stated if len(stated) == len(lines) else {}


def _overlay(bundle: Path, folder: str) -> Iterator[str]:
    """An overlay answers to the sums inside it."""
    root = bundle / folder
    if root.is_symlink() or not root.is_dir():
        return
    present = set(walk(root))
    if SUMS not in present:
        yield said("missing: {path}", path=f"{folder}/{SUMS}")
        return
    stated = _read_sums(root / SUMS)
    yield from (said("extra: {path}", path=f"{folder}/{path}") for path in present - {SUMS} - set(stated))
    yield from (said("missing: {path}", path=f"{folder}/{path}") for path in set(stated) - present)
    yield from (said("changed: {path}", path=f"{folder}/{path}") for path in present & set(stated) if not _is(root / path, stated[path]))
