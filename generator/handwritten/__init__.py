"""
Files that people wrote by hand, as trees whose every word knows where it stands.

One module a format turns text into the same two shapes: a :class:`Node` for what has directives, blocks or commands (nginx, keepalived,
systemd units, the hosts file, shell scripts), a :class:`Document` for YAML.  Nothing here judges: rules about these files stand in
``generator/lint/``, and ``generator.adopt`` makes an inventory of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Literal

from generator.diagnostics import Diagnostic, Position, Related, Spot
from generator.source import Source

Kind = Literal["nginx", "keepalived", "unit", "hosts", "script", "yaml"]


class Word(str):
    """
    A piece of a file: the value as the program that reads the file takes it (without quotes), and where it stands.

    *plain* is False for what was quoted: a quoted YAML ``"6443"`` is a string, a plain one an integer.
    """

    __slots__ = ("plain", "spot")
    spot: Spot
    plain: bool

    @classmethod
    def at(cls, text: str, source: Source, line: int, column: int, length: int | None = None, *, plain: bool = True) -> Word:
        """*text* at *line* and *column*, from 1; *length* is that of the text as it is written, quotes included."""
        word = cls(text)
        word.spot = Spot(source, Position(line, column, max(1, len(text) if length is None else length)))
        word.plain = plain
        return word

    def related(self, label: str) -> Related:
        """The word as the second place of a finding."""
        return Related((), label, spot=self.spot)


@dataclass(frozen=True, slots=True)
class Node:
    """
    A directive with its arguments and, for a block, its *children* (None for a directive without a block).

    nginx and keepalived: ``upstream backend { server 10.0.0.1:6443; }``.  Units: ``[Service]`` has children ``KillMode`` with one argument.
    Hosts files: the address is the name, host names are arguments.  Scripts: a simple command and its words, flat and in order.
    The root of a file has an empty name, at the file's first character.
    """

    name: Word
    args: tuple[Word, ...] = ()
    children: tuple[Node, ...] | None = None

    def all(self, *names: str) -> Iterator[Node]:
        """Direct children called one of *names*."""
        return (child for child in self.children or () if child.name in names)

    def one(self, name: str) -> Node | None:
        """The last direct child called *name*, which counts in most formats."""
        return next((child for child in reversed(self.children or ()) if child.name == name), None)

    def walk(self, *names: str) -> Iterator[Node]:
        """Every node below this one called one of *names*, at any depth, in the order of the text."""
        for child in self.children or ():
            if child.name in names:
                yield child
            yield from child.walk(*names)

    @property
    def value(self) -> Word | None:
        """The first argument."""
        return self.args[0] if self.args else None


@dataclass(frozen=True, slots=True)
class Document:
    """
    One YAML document: *tree* of dicts (with :class:`Word` keys), lists and words; null is None.

    Every scalar is its text as written; :func:`integer` and :func:`boolean` say what a plain one means.
    """

    tree: Any
    start: Word

    @property
    def kind(self) -> str:
        """``ClusterConfiguration``; empty where there is none."""
        return str(self.get("kind") or "")

    @property
    def api(self) -> str:
        """``kubeadm.k8s.io/v1beta4``; empty where there is none."""
        return str(self.get("apiVersion") or "")

    def get(self, *path: str | int) -> Any:
        """The value at *path*, or None."""
        value = self.tree
        for part in path:
            if isinstance(part, int):
                value = value[part] if isinstance(value, list) and part < len(value) else None
            else:
                value = value.get(part) if isinstance(value, dict) else None
        return value

    def place(self, *path: str | int) -> Word:
        """A word to point at for *path*: the scalar there, else the key of it, else that of what should hold it, else the first word."""
        word, value = self.start, self.tree
        for part in path:
            if isinstance(value, dict) and part in value:
                word = next(key for key in value if key == part)
                value = value[part]
            elif isinstance(value, list) and isinstance(part, int) and part < len(value):
                value = value[part]
            else:
                return word
            if isinstance(value, Word):
                word = value
        return word


@dataclass(frozen=True)
class File:
    """
    One file.  *host* names the host whose set it belongs to, empty where nobody said; *path* is where it stands on that host, as far as
    the folders say (``/etc/nginx/nginx.conf``), else its bare name.

    *root* is set for all but YAML, *documents* for YAML.  *problems* are what the reader could not take, with positions.
    """

    source: Source
    kind: Kind
    host: str
    path: str
    root: Node | None = None
    documents: tuple[Document, ...] = ()
    problems: tuple[Diagnostic, ...] = ()


@dataclass(frozen=True)
class Files:
    """
    All files of one run, in the order in which they were named; *skipped* are names of files that no reader knows.

    *derived* keeps what a reader makes of all of them together, such as includes put in place, so that it is made once for all rules.
    """

    files: Sequence[File]
    skipped: Sequence[str] = field(default=())
    derived: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def of(self, kind: Kind) -> Iterator[tuple[File, Node]]:
        """Every file of *kind* (not YAML) that could be read, with its root."""
        return ((file, file.root) for file in self.files if file.kind == kind and file.root is not None)

    def documents(self, *kinds: str) -> Iterator[tuple[File, Document]]:
        """Every YAML document whose ``kind`` is one of *kinds* (all of them without)."""
        return ((file, one) for file in self.files for one in file.documents if not kinds or one.kind in kinds)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The named hosts, in order."""
        return tuple(dict.fromkeys(file.host for file in self.files if file.host))


def integer(value: object) -> int | None:
    """What a plain word of digits means; None for anything else."""
    if (
        isinstance(value, Word)
        and value.plain
        and len(value) <= 18
        and value.removeprefix("-").isascii()
        and value.removeprefix("-").isdecimal()
    ):
        return int(value)
    return None


def unspecified(text: str) -> bool:
    """Whether *text* is ``0.0.0.0`` or ``::``, which stand for any address of a host."""
    try:
        return ip_address(text).is_unspecified
    except ValueError:
        return False


def boolean(value: object) -> bool | None:
    """What a plain ``true`` or ``false`` means; None for anything else."""
    return value == "true" if isinstance(value, Word) and value.plain and value in ("true", "false") else None
