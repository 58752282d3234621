"""Inventory text to plain data, with the line and column of every key and value (SRC findings).

The loader walks the parser's *events*, so that nothing is built before it was looked at: anchors, aliases, tags, merge keys, duplicate and
non-string keys are refused where they stand, and depth, bytes and nodes are counted as they come.  The text is literal: a plain scalar is
an integer only as ``-?(0|[1-9][0-9]*)``, a boolean only as ``true`` or ``false``, everything else is the string as written
(``docs/design.md`` calls these rules the inventory's own; YAML's surprises such as ``0755``, dates or ``on`` never change a value).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from generator.diagnostics import Diagnostic, Fix, Path, Position, dotted
from generator.wording import said

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 100
MAX_NODES = 500_000
MAX_DIGITS = 18
MAX_PURE = 256 * 1024

# Where somebody may write a literal secret, whether the schema admits it (so that a rule can explain why not) or refuses it.
SECRETS: tuple[Path, ...] = (("loadBalancer", "keepalived", "authPass"), ("cluster", "registry", "credentials"))

# An inventory is text for people to review: nothing in it may be invisible or reorder what is shown.
_CONTROL = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)
# To the end of the line: where the text can't be parsed, nobody knows what ends a password.
_SECRET_TEXT = re.compile(r"""((?:auth[_-]?pass|password|credentials)["']?\s*:\s*)(?!\{\s*secret\b)(\S.*)""", re.IGNORECASE)
# In hand-written files: keepalived's password, kubeadm's token and certificate key; a shell's variable shows nothing.
_SECRET_WORD = re.compile(
    r"""((?:\bauth_pass|--token|--certificate-key)(?:[ \t]+|=)|\b(?:token|certificateKey)["']?:[ \t]*)"""
    r"""(?!["']?\$)("[^"]*"|'[^']*'|[^\s#;{}]+)"""
)
_SECRET_URL = re.compile(r"(?<=://)[^/@\s]*(?=@)")
_SECRET_NAME = re.compile("""["']?[a-z0-9-]+["']?""")
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")


def is_secret(path: Path) -> bool:
    """Whether a scalar at or below *path* is never to be shown: a password may stand where its secret's name belongs."""
    return any(path[: len(secret)] == secret for secret in SECRETS)


def masked(text: str) -> str:
    """*text* without what stands between ``://`` and ``@``: nobody's password belongs in a message."""
    return _SECRET_URL.sub(lambda match: "*" * len(match[0]), text)


@dataclass(frozen=True)
class Source:
    """
    One inventory as it was read.

    *data* holds plain dicts, lists, strings, integers, booleans and None.  *values* and *keys* give, per path, the zero-based line and
    column where the value or its key begins, and the length of it.
    """

    name: str
    text: str
    data: Any = None
    values: dict[Path, tuple[int, int, int]] = field(default_factory=dict, repr=False)
    keys: dict[Path, tuple[int, int, int]] = field(default_factory=dict, repr=False)

    def position(self, path: Path, *, on_key: bool = False) -> Position:
        """Where *path* stands; where it doesn't (a missing key, a default), the nearest ancestor's key does."""
        wanted = (self.keys, self.values) if on_key else (self.values, self.keys)
        while True:
            for marks in wanted:
                if path in marks:
                    line, column, length = marks[path]
                    return Position(line + 1, column + 1, length)
            if not path:
                return Position(1, 1)
            path, wanted = path[:-1], (self.keys, self.values)

    @cached_property
    def _lines(self) -> list[str]:
        return self.text.split("\n")

    def line(self, number: int) -> str:
        """Line *number* (from 1) as it may be shown: secrets are masked, whatever else is wrong with the text."""
        text = masked(self._lines[number - 1]) if 0 < number <= len(self._lines) else ""
        text = _SECRET_TEXT.sub(lambda match: match[1] + "*" * len(match[2].rstrip()), text)
        text = _SECRET_WORD.sub(lambda match: match[1] + "*" * len(match[2]), text)
        for path in SECRETS:
            named = (*path, "secret") in self.keys
            row, column, length = self.values.get((*path, "secret") if named else path, (-1, 0, 0))
            # Where the name belongs may stand a password, which is seldom fit for a name.
            shown = _SECRET_NAME.fullmatch(text, column, column + length) if named else text.startswith("{", column)
            if row == number - 1 and not shown:
                text = text[:column] + "*" * length + text[column + length :]
        return text


class _UnreadableError(Exception):
    """The text can't be read on from here."""

    def __init__(self, code: str, message: str, remedy: str, position: Position, fix: Fix | None = None) -> None:
        super().__init__(message)
        self.diagnostic = Diagnostic(code, "error", message, remedy=remedy, position=position, fix=fix)


def load(name: str, raw: bytes) -> tuple[Source, list[Diagnostic]]:
    """
    Read *raw*, the bytes of the file called *name*.

    Returns the source and what is wrong with it; where there are errors its data is not to be used.  A UTF-8 byte order mark and CRLF line
    ends are accepted.  Raises nothing for any input.
    """
    text = ""
    try:
        text = _decode(raw)
        _refuse_characters(text)
        return _build(name, text)
    except _UnreadableError as refused:
        return Source(name, text), [refused.diagnostic]


def _decode(raw: bytes) -> str:
    if len(raw) > MAX_BYTES:
        raise _UnreadableError(
            "SRC002",
            said("file is larger than {size} MiB", size=MAX_BYTES // 1024 // 1024),
            "an inventory describes one cluster; split it, or check that this is the right file",
            Position(1, 1),
        )
    try:
        text = raw.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8").removeprefix("\ufeff").replace("\r\n", "\n")
        line = before.count("\n")
        at = Position(line + 1, len(before) - before.rfind("\n"))
        raise _UnreadableError(
            "SRC001", said("byte 0x{byte:02x} is not UTF-8", byte=raw[error.start]), "save the file as UTF-8", at
        ) from None
    return text.replace("\r\n", "\n")


def _refuse_characters(text: str) -> None:
    """Refuse what parsers read differently or people can't see."""
    found = _CONTROL.search(text) or re.search("\r", text)
    if found:
        raise _UnreadableError(
            "SRC003",
            said("control character U+{code:04X}", code=ord(found[0])),
            "remove it; an inventory is reviewed by eye",
            _at(text, found.start()),
        )
    if "\t" in text:
        at = text.index("\t")
        raise _UnreadableError("SRC004", "tab character", "indent and separate with blanks", _at(text, at), Fix("blanks"))
    if text.startswith("%") or "\n%" in text:
        at = 0 if text.startswith("%") else text.index("\n%") + 1
        raise _UnreadableError("SRC005", "a YAML directive", "remove the line: the text is read as plain YAML 1.2", _at(text, at))


def _at(text: str, index: int) -> Position:
    return Position(text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index))


def _events(text: str, *, pure: bool) -> Iterator[Any]:
    """The parser's events: from ruamel's own parser where *pure*, else from libyaml's where ruamel.yaml.clib is there."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        yield from YAML(typ="safe", pure=pure).parse(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = Position(mark.line + 1, mark.column + 1) if mark else Position(1, 1)
        problem = str(error.problem or error.context or "") or said("unreadable")
        raise _UnreadableError(
            "SRC006", said("not YAML: {problem}", problem=problem), "check quotes, brackets and indentation here", at
        ) from None
    except (YAMLError, RecursionError, ValueError) as error:
        problem = next(iter(str(error).splitlines()), said("unreadable"))
        raise _UnreadableError(
            "SRC006", said("not YAML: {problem}", problem=problem), "check quotes, brackets and indentation", Position(1, 1)
        ) from None


class _Builder:
    """Plain data from events, one pass, no recursion."""

    def __init__(self, name: str, text: str) -> None:
        self.source = Source(name, text)
        self.found: list[Diagnostic] = []
        self.nodes = 0
        # One frame an open collection: [container, path, pending key or None]
        self.stack: list[list[Any]] = []
        self.root: Any = None

    def refuse(self, code: str, message: str, remedy: str, event: Any) -> None:
        mark = event.start_mark
        self.found.append(Diagnostic(code, "error", message, remedy=remedy, position=Position(mark.line + 1, mark.column + 1)))

    def count(self, event: Any) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES or len(self.stack) > MAX_DEPTH:
            what = (
                said("more than {count:,} values", count=MAX_NODES)
                if self.nodes > MAX_NODES
                else said("nested deeper than {depth} levels", depth=MAX_DEPTH)
            )
            at = Position(event.start_mark.line + 1, event.start_mark.column + 1)
            raise _UnreadableError("SRC002", what, "an inventory is at most a few thousand flat entries", at)

    def collection(self, event: Any, container: dict[str, Any] | list[Any]) -> None:
        self.check_node(event)
        path = self.add(event, container, 1)
        self.stack.append([container, path, None])

    def check_node(self, event: Any) -> None:
        self.count(event)
        if getattr(event, "anchor", None) is not None:
            self.refuse(
                "SRC008",
                said("anchor &{name}", name=event.anchor),
                "write the value out where it is used: the reviewed text is literal",
                event,
            )
        tag = getattr(event, "tag", None)
        if tag is not None:
            self.refuse("SRC008", said("tag {tag}", tag=tag), "remove it; quote the value to make it a string", event)

    def scalar(self, event: Any) -> None:
        self.check_node(event)
        length = max(1, event.end_mark.column - event.start_mark.column) if event.end_mark.line == event.start_mark.line else 1
        plain = event.style in (None, "") or event.implicit[0]
        value = _resolve(event.value) if plain else event.value
        hidden = _CONTROL.search(event.value) or re.search("[\t\n\r]", event.value)
        if event.style in ("|", ">") or event.end_mark.line != event.start_mark.line:
            self.refuse("SRC003", "a value over several lines", "write it on one line: the reviewed text is literal", event)
        elif hidden:
            self.refuse(
                "SRC003",
                said("character U+{code:04X} in a value", code=ord(hidden[0])),
                "an inventory's values are single lines of visible text",
                event,
            )
        frame = self.stack[-1] if self.stack else None
        if frame is not None and isinstance(frame[0], dict) and frame[2] is None:
            self.key(event, frame, value, length)
            return
        digits = len(event.value.lstrip("-"))
        if isinstance(value, int) and digits > MAX_DIGITS:
            self.refuse("SRC007", said("number of {digits} digits", digits=digits), "quote it if it is a name", event)
            value = 0
        self.add(event, value, length)

    def key(self, event: Any, frame: list[Any], value: Any, length: int) -> None:
        container, path, _ = frame
        name = event.value
        here = (*path, name)
        mark = event.start_mark
        if value == "<<" and name == "<<":
            self.refuse("SRC008", "merge key <<", "write the keys out: the reviewed text is literal", event)
        elif not isinstance(value, str):
            self.refuse("SRC007", said("key {name} is not a string", name=name or "null"), "quote it, or check the indentation", event)
        elif name in container:
            line, column, _ = self.source.keys[here]
            where = said("line {line}, column {column}", line=line + 1, column=column + 1)
            self.refuse(
                "SRC009", said("duplicate key {key}, first at {where}", key=dotted(here), where=where), "keep one of the two", event
            )
        # A refused key has its place too: `1: a` and `"1": b` are one name.
        self.source.keys.setdefault(here, (mark.line, mark.column, length))
        frame[2] = name

    def add(self, event: Any, value: Any, length: int) -> Path:
        mark = event.start_mark
        if not self.stack:
            self.root = value
            path: Path = ()
        else:
            frame = self.stack[-1]
            container = frame[0]
            if isinstance(container, dict):
                if frame[2] is None:
                    self.refuse("SRC007", "key is not a string", "a key is a plain name", event)
                    frame[2] = f"\0{self.nodes}"
                    # The value of this odd key follows; what is inside the key itself is looked at, then dropped.
                    return (*frame[1], frame[2])
                path = (*frame[1], frame[2])
                container.setdefault(frame[2], value)
                frame[2] = None
            else:
                path = (*frame[1], len(container))
                container.append(value)
        self.source.values.setdefault(path, (mark.line, mark.column, length))
        return path

    def alias(self, event: Any) -> None:
        self.count(event)
        self.refuse("SRC008", said("alias *{name}", name=event.anchor), "write the value out: the reviewed text is literal", event)
        frame = self.stack[-1] if self.stack else None
        if frame is not None and isinstance(frame[0], dict) and frame[2] is None:
            frame[2] = f"\0{self.nodes}"
        else:
            self.add(event, None, 1)


def _resolve(text: str) -> Any:
    """The inventory's own rule for plain scalars; an empty one is None."""
    if text in ("true", "false"):
        return text == "true"
    if _INTEGER.fullmatch(text):
        # A giant stays a string here; the caller refuses it by its length before anyone counts with it.
        return int(text) if len(text.lstrip("-")) <= MAX_DIGITS else 0
    return None if text in ("", "~", "null") else text


def _build(name: str, text: str) -> tuple[Source, list[Diagnostic]]:
    """
    Data and findings of *text*.

    What libyaml refuses is read again by ruamel's own parser, which knows more of YAML 1.2 (``[fd00::1/64]``): so the same text is taken,
    and the same error said, with libyaml and without.  For a text too large for the slow parser libyaml's word stands.
    """
    try:
        return _build_with(name, text, pure=False)
    except _UnreadableError as refused:
        if refused.diagnostic.code != "SRC006" or len(text) > MAX_PURE:
            raise
        return _build_with(name, text, pure=True)


def _build_with(name: str, text: str, *, pure: bool) -> tuple[Source, list[Diagnostic]]:
    builder = _Builder(name, text)
    documents = 0
    for event in _events(text, pure=pure):
        kind = type(event).__name__
        if kind == "ScalarEvent":
            builder.scalar(event)
        elif kind == "MappingStartEvent":
            builder.collection(event, {})
        elif kind == "SequenceStartEvent":
            builder.collection(event, [])
        elif kind in ("MappingEndEvent", "SequenceEndEvent"):
            builder.stack.pop()
        elif kind == "AliasEvent":
            builder.alias(event)
        elif kind == "DocumentStartEvent":
            documents += 1
            if documents > 1:
                builder.refuse("SRC010", "a second document", "one file holds one inventory: remove the --- line or split the file", event)
                break
    if documents == 0:
        remedy = "start from `stowage new` or inventories/example.yaml"
        builder.found.append(Diagnostic("SRC010", "error", "no inventory in the file", remedy=remedy, position=Position(1, 1)))
    source = Source(name, text, builder.root, builder.source.values, builder.source.keys)
    return source, builder.found
