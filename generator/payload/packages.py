"""What packages say of themselves: a .deb in the index beside it, a .rpm in its own header.

Facts: deb-control(5) and *Debian Repository Format* (fields of ``Packages``); rpm.org *Package format* (lead, signature, header; tags).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO

_LEAD, _MAGIC = b"\xed\xab\xee\xdb", b"\x8e\xad\xe8\x01"
_NAME, _VERSION, _RELEASE, _EPOCH, _ARCHITECTURE, _PROVIDES = 1000, 1001, 1002, 1003, 1022, 1047
_STRING, _STRINGS = 6, 8
_MOST_TAGS, _MOST_BYTES, _MOST_INDEX = 4096, 64 * 1024 * 1024, 256 * 1024 * 1024


class UnreadableError(Exception):
    """No package, or no index of packages."""


@dataclass(frozen=True, slots=True)
class Package:
    """
    One package as its file or its index has it.

    *version* is complete, as the package manager prints it.  *provides* are other names that it can be asked for by.
    *listed* is the (size, SHA-256) that an index has for its file; a .rpm has none here.
    """

    name: str
    version: str
    architecture: str
    provides: frozenset[str]
    listed: tuple[int, str] | None = None

    def answers(self, word: str) -> bool:
        """Whether this is what *word* of ``host.env``'s PACKAGES asks the package manager for."""
        if self.listed:
            name, _, version = word.partition("=")
            name = name.partition(":")[0]
            return name == self.name and fnmatchcase(self.version, version) if version else name in {self.name, *self.provides}
        version = self.version.rpartition(":")[2]
        spelled = (self.name, f"{self.name}-{version.rpartition('-')[0]}", f"{self.name}-{version}")
        return word in self.provides or word.removesuffix(f".{self.architecture}") in spelled


def index(path: Path) -> dict[str, Package]:
    """The packages of a ``Packages`` index by the base name of their file; raises :class:`UnreadableError` and OSError."""
    if path.stat().st_size > _MOST_INDEX:
        raise UnreadableError
    found = {}
    for stanza in path.read_text(encoding="utf-8", errors="replace").split("\n\n"):
        fields = dict(_fields(stanza))
        if fields:
            try:
                listed = int(fields["Size"]), fields["SHA256"]
                package = Package(fields["Package"], fields["Version"], fields["Architecture"], _provided(fields), listed)
                found[fields["Filename"].removeprefix("./")] = package
            except (KeyError, ValueError):
                raise UnreadableError from None
    return found


def _fields(stanza: str) -> Iterator[tuple[str, str]]:
    for line in stanza.split("\n"):
        name, colon, value = line.partition(":")
        if colon and not line.startswith((" ", "\t")):
            yield name, value.strip()


def _provided(fields: Mapping[str, str]) -> frozenset[str]:
    return frozenset(re.split(r"[ (:]", one.strip(), maxsplit=1)[0] for one in fields.get("Provides", "").split(",") if one.strip())


def rpm(path: Path) -> Package:
    """The package in the .rpm at *path*, of which only the headers are read; raises :class:`UnreadableError` and OSError."""
    with path.open("rb") as file:
        if file.read(96)[:4] != _LEAD:
            raise UnreadableError
        _, store = _header(file)
        # The signature is padded to eight bytes.
        file.seek(-len(store) % 8, 1)
        tags, store = _header(file)
    try:
        name, version, release = (_strings(tags, store, tag)[0] for tag in (_NAME, _VERSION, _RELEASE))
        architecture = _strings(tags, store, _ARCHITECTURE)[0]
        epoch = struct.unpack_from(">I", store, tags[_EPOCH][1])[0] if _EPOCH in tags else 0
        provides = frozenset(_strings(tags, store, _PROVIDES)) if _PROVIDES in tags else frozenset()
    except (KeyError, IndexError, ValueError, struct.error):
        raise UnreadableError from None
    return Package(name, f"{epoch}:{version}-{release}" if epoch else f"{version}-{release}", architecture, provides)


def _header(file: BinaryIO) -> tuple[dict[int, tuple[int, int, int]], bytes]:
    """One header structure: (type, offset, count) by tag, and the store that the offsets are in."""
    head = file.read(16)
    if len(head) < 16 or head[:4] != _MAGIC:
        raise UnreadableError
    count, size = struct.unpack(">II", head[8:])
    if count > _MOST_TAGS or size > _MOST_BYTES:
        raise UnreadableError
    entries, store = file.read(16 * count), file.read(size)
    if len(entries) < 16 * count or len(store) < size:
        raise UnreadableError
    return {tag: (kind, offset, number) for tag, kind, offset, number in struct.iter_unpack(">IIII", entries)}, store


def _strings(tags: Mapping[int, tuple[int, int, int]], store: bytes, tag: int) -> list[str]:
    kind, offset, count = tags[tag]
    if kind not in (_STRING, _STRINGS) or offset >= len(store):
        raise ValueError(kind)
    found = []
    for _ in range(count if kind == _STRINGS else 1):
        end = store.index(b"\0", offset)
        found.append(store[offset:end].decode("utf-8", "replace"))
        offset = end + 1
    return found
