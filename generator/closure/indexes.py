"""Package indexes of a payload: ``Packages`` of apt, ``primary.xml`` of dnf; what each package provides and needs."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

# A distribution's whole index is some hundred megabytes; that of a payload has a few hundred packages.
MOST_BYTES = 128 * 1024 * 1024
_CHUNK = 1024 * 1024


class UnreadableError(Exception):
    """No index, or one larger than a payload's."""


@dataclass(slots=True)
class Package:
    """One package: *version* without epoch; *needs* are alternatives each, with the *line* of the index that says so."""

    name: str
    version: str = ""
    file: str = ""
    provides: set[str] = field(default_factory=set)
    needs: list[tuple[str, ...]] = field(default_factory=list)
    line: int = 1


@dataclass(frozen=True, slots=True)
class Index:
    """The index at *path*, relative to the payload's ``packages/``: its *packages*, and who provides a name."""

    path: str
    packages: tuple[Package, ...]
    providers: Mapping[str, tuple[Package, ...]]


def read(folder: Path) -> Index | None:
    """The index in *folder*; None where there is none. Raises :class:`UnreadableError` and OSError."""
    packages: list[Package] = []
    for name in ("Packages", "Packages.gz"):
        if (folder / name).is_file():
            packages = list(_debs(_text(folder / name)))
            return _index(name, packages)
    repomd = folder / "repodata" / "repomd.xml"
    if not repomd.is_file():
        return None
    primary = _primary(repomd)
    return _index(primary, _rpms(folder / primary))


def _index(path: str, packages: list[Package]) -> Index:
    providers: dict[str, list[Package]] = {}
    for package in packages:
        for name in {package.name, *package.provides}:
            providers.setdefault(name, []).append(package)
    return Index(path, tuple(packages), {name: tuple(found) for name, found in providers.items()})


def _bytes(path: Path) -> bytes:
    """What the file at *path* holds, inflated where it is a gzip file, at most :data:`MOST_BYTES`."""
    try:
        with path.open("rb") as raw, gzip.open(raw, "rb") if path.suffix == ".gz" else raw as file:
            data: bytes = file.read(MOST_BYTES + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise UnreadableError from None
    if len(data) > MOST_BYTES:
        raise UnreadableError
    return data


def _text(path: Path) -> str:
    return _bytes(path).decode("utf-8", errors="replace")


def _debs(text: str) -> Iterator[Package]:
    """Stanzas of ``Packages`` (deb-control(5)); versions are not compared, for the gatherer's apt resolved them."""
    line = 1
    for stanza in text.split("\n\n"):
        fields = dict(_fields(stanza))
        if "Package" in fields:
            relations = [one for name in ("Pre-Depends", "Depends") for one in fields.get(name, "").split(",") if one.strip()]
            yield Package(
                fields["Package"],
                fields.get("Version", ""),
                fields.get("Filename", "").removeprefix("./"),
                {_bare(one) for one in fields.get("Provides", "").split(",")},
                [tuple(_bare(one) for one in relation.split("|")) for relation in relations],
                line,
            )
        line += stanza.count("\n") + 2


def _fields(stanza: str) -> Iterator[tuple[str, str]]:
    for line in stanza.split("\n"):
        name, colon, value = line.partition(":")
        if colon and not line.startswith((" ", "\t")):
            yield name, value.strip()


def _bare(relation: str) -> str:
    return re.split(r"[\s(:\[]", relation.strip(), maxsplit=1)[0]


def _primary(repomd: Path) -> str:
    """Where ``repomd.xml`` says that the list of packages is."""
    found: list[str] = []
    inside: list[str] = []

    def start(tag: str, attributes: dict[str, str]) -> None:
        if tag == "data":
            inside[:] = [attributes.get("type", "")]
        elif tag == "location" and inside == ["primary"]:
            found.append(attributes.get("href", ""))

    _parse(_bytes(repomd), start)
    if not found or not re.fullmatch(r"repodata/[\w.-]+", found[0]) or not found[0].endswith((".xml", ".xml.gz")):
        raise UnreadableError
    return found[0]


class _Primary:
    """``primary.xml`` as expat goes through it."""

    def __init__(self) -> None:
        self.packages: list[Package] = []
        self.inside = ""
        self.text: list[str] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self.text.clear()
        if tag == "package":
            self.packages.append(Package(""))
        package = self.packages[-1] if self.packages else Package("")
        name = attributes.get("name", "")
        if tag == "version":
            package.version = f"{attributes.get('ver', '')}-{attributes.get('rel', '')}"
        elif tag == "location":
            package.file = attributes.get("href", "").removeprefix("./")
        elif tag != "rpm:entry":
            self.inside = tag
        elif self.inside == "rpm:provides":
            package.provides.add(name)
        elif self.inside == "rpm:requires":
            package.needs.append((name,))

    def end(self, tag: str) -> None:
        if tag == "name" and self.packages:
            self.packages[-1].name = "".join(self.text)
        elif tag == "file" and self.packages:
            self.packages[-1].provides.add("".join(self.text))


def _rpms(path: Path) -> list[Package]:
    primary = _Primary()
    _parse(_bytes(path), primary.start, primary.end, primary.text.append)
    return primary.packages


def _parse(
    data: bytes,
    start: Callable[[str, dict[str, str]], None],
    end: Callable[[str], None] | None = None,
    text: Callable[[str], None] | None = None,
) -> None:
    """XML by expat; no entity is ever expanded, for a document that declares one is refused."""
    parser = expat.ParserCreate()

    def refuse(*_: object) -> None:
        raise UnreadableError

    parser.EntityDeclHandler = parser.StartDoctypeDeclHandler = refuse
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, text
    try:
        for begin in range(0, len(data), _CHUNK):
            parser.Parse(data[begin : begin + _CHUNK])
        parser.Parse(b"", True)
    except expat.ExpatError:
        raise UnreadableError from None
