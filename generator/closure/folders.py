"""The folder of a host as the walk sees it: its texts, ``host.env``, ``files.tsv``, and what its steps are."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from generator.handwritten import Document, documents
from generator.source import MAX_BYTES, Source

_ASSIGNED = re.compile(r"([A-Z][A-Z0-9_]*)='((?:[^']|'\\'')*)'")
OVERLAYS = ("secrets/", "payload/")
_MAX_DEPTH = 20


class Texts:
    """Texts by their bytes: what many hosts have is decoded and kept once."""

    def __init__(self) -> None:
        self.known: dict[bytes, str] = {}

    def read(self, path: str | Path) -> str:
        """The text at *path*, its first 4 MiB; what is no UTF-8 is replaced."""
        with Path(path).open("rb") as file:
            raw = file.read(MAX_BYTES)
        text = self.known.get(raw)
        if text is None:
            text = self.known[raw] = raw.decode("utf-8", errors="replace").removeprefix("\ufeff").replace("\r\n", "\n")
        return text


@dataclass(frozen=True)
class Folder:
    """One host's: its *name*, *texts* by path relative to *root*, and those of them that this host never comes to, *skipped*."""

    name: str
    root: Path
    texts: Mapping[str, str]
    skipped: frozenset[str] = frozenset()

    @cached_property
    def env(self) -> Mapping[str, str]:
        """``host.env``."""
        return environment(self.texts.get("host.env", ""))

    def get(self, name: str) -> str:
        """The value of *name* in ``host.env``; empty where there is none."""
        return self.env.get(name, "")

    @property
    def os(self) -> str:
        """As the inventory names it: ``rocky-9``."""
        return f"{self.get('OS_ID')}-{self.get('OS_VERSION')}"

    @cached_property
    def rows(self) -> Mapping[str, str]:
        """``files.tsv``: source by destination."""
        return destinations(self.texts.get("files.tsv", ""))

    @cached_property
    def packages(self) -> Mapping[str, str]:
        """``PACKAGES``: the word by the package's bare name."""
        family = self.get("OS_FAMILY")
        return {bare(word, family): word for word in self.get("PACKAGES").split()}

    @cached_property
    def images(self) -> frozenset[str]:
        """``images.txt``."""
        return frozenset(line.strip() for line in self.texts.get("images.txt", "").splitlines() if line.strip() and line[0] != "#")

    @cached_property
    def profile(self) -> tuple[Any, ...]:
        """What a verdict on a text may depend on; equal for most hosts of a cluster."""
        env = tuple(self.get(name) for name in PROFILE)
        return (*env, self.texts.get("files.tsv", ""), self.texts.get("images.txt", ""), frozenset(self.texts))


PROFILE = (
    "OS_FAMILY", "OS_ID", "OS_VERSION", "PACKAGES", "PACKAGE_SOURCE", "RUNTIME", "KUBERNETES", "KUBERNETES_VERSION", "LB", "LB_ENGINE",
    "ROLE", "FIRST", "SELINUX_PORTS", "ETCD_DATA_DIR",
)  # fmt: skip


def environment(text: str) -> dict[str, str]:
    """The assignments of an environment file with single quotes."""
    found = (_ASSIGNED.fullmatch(line) for line in text.splitlines())
    return {match[1]: match[2].replace("'\\''", "'") for match in found if match}


@lru_cache(maxsize=64)
def yaml(path: str, text: str) -> tuple[Document, ...]:
    """The documents of a YAML file, as far as they can be read; several kinds of need ask."""
    return documents.read(Source(path, text))[0]


_CRD = re.compile(r"^kind:[ ]*[\"']?CustomResourceDefinition\b", re.MULTILINE)
_DESCRIPTION = re.compile(r"([ ]*(?:- )?)description:")


@lru_cache(maxsize=64)
def spoken(text: str) -> str:
    """
    Text of YAML without what the schemas of CustomResourceDefinitions say to people; every line stays where it is.

    A description goes on below itself, on lines that are indented further; upstream's are full of links.
    """
    return "\n---".join(_undescribed(part) if _CRD.search(part) else part for part in text.split("\n---"))


def _undescribed(document: str) -> str:
    lines, inside = [], -1
    for line in document.split("\n"):
        if inside >= 0 and (not line.strip() or len(line) - len(line.lstrip(" ")) > inside):
            lines.append("")
            continue
        found = _DESCRIPTION.match(line)
        inside = len(found[1]) if found else -1
        lines.append("" if found else line)
    return "\n".join(lines)


def destinations(text: str) -> dict[str, str]:
    """Source by destination, as ``files.tsv`` has them."""
    rows = (line.split("\t") for line in text.splitlines() if line and line[0] != "#")
    return {row[1]: row[0] for row in rows if len(row) > 1}


def bare(word: str, family: str) -> str:
    """The name of the package in a word of ``PACKAGES``: without ``=version``, or ``-version`` on RHEL."""
    if family != "rhel":
        return word.partition("=")[0]
    found = re.fullmatch(r"(.+?)-[0-9][^-]*(?:-[^-]+)?", word)
    return found[1] if found else word


def texts_of(root: Path, known: Texts) -> dict[str, str]:
    """Every text of the folder at *root* by its path; of the overlays, manifests alone; what is no regular file isn't read."""
    return {path: known.read(root / path) for path in _texts(root, "", 0)}


def _texts(root: Path, prefix: str, depth: int) -> Iterator[str]:
    with os.scandir(root / prefix) as entries:
        found = sorted((entry.name, entry.is_dir(follow_symlinks=False), entry.is_file(follow_symlinks=False)) for entry in entries)
    for name, is_folder, is_file in found:
        path = prefix + name
        manifest = path.startswith("payload/manifests/") and path.endswith((".yaml", ".yml"))
        if is_file and path != "SHA256SUMS" and (manifest or not path.startswith(OVERLAYS)):
            yield path
        elif is_folder and depth < _MAX_DEPTH and path != "secrets" and (prefix != "payload/" or name == "manifests"):
            yield from _texts(root, f"{path}/", depth + 1)


@dataclass(frozen=True)
class Cluster:
    """*addresses* and *names* that are the cluster's own, those of the *site* that the inventory names, and its *registry*."""

    addresses: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    site: frozenset[str] = frozenset()
    registry: str = ""
