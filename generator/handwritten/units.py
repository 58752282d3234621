"""
Reader of systemd units and drop-ins: a node a section, with a child an assignment in the order of the file.

As systemd has it (systemd.syntax(7)): comments begin at the start of a line, a backslash at its end goes on with the next one (comments
between are left out), white space around ``=`` means nothing.  What an empty assignment resets is left to :func:`effective`: which keys
are lists is for the rules to know.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from generator.diagnostics import Diagnostic
from generator.handwritten import Node, Word
from generator.source import Source
from generator.wording import said

# Units have some hundred lines at most.
MAX_LINES = 20_000

_BLANK = " \t\r"


def read(source: Source) -> tuple[Node, tuple[Diagnostic, ...]]:
    """The sections of *source*, one called twice as two nodes, and a finding (UNT001) for each line that systemd passes over."""
    root = Word.at("", source, 1, 1)
    sections: list[tuple[Word, list[Node]]] = []
    problems: list[Diagnostic] = []
    for count, (text, first) in enumerate(_logical(source)):
        if count == MAX_LINES:
            what, remedy = "more values or levels than such a file has", "check that this is the right file"
            return Node(root, (), ()), (Diagnostic("SRC002", "error", what, (), remedy, position=first.spot.at),)
        if text.startswith("["):
            if not text.endswith("]"):
                problems.append(_problem(first, said("{text} is no section", text=text[:60]), "close the name with a bracket"))
                # What follows belongs to nobody; one finding is enough.
                sections.append((first, []))
            else:
                sections.append((_part(first, 1, text[1:-1]), []))
            continue
        key, equals, value = text.partition("=")
        if not equals or not key:
            problems.append(_problem(first, said("{text} assigns nothing", text=text[:60]), "write Key=value, or make it a comment"))
        elif not sections:
            message = said("{key} stands before any section", key=key.rstrip(_BLANK)[:60])
            problems.append(_problem(first, message, "write a section such as [Service] above it"))
        else:
            stripped = value.lstrip(_BLANK)
            place = _part(first, len(key) + 1 + len(value) - len(stripped), stripped)
            sections[-1][1].append(Node(_part(first, 0, key.rstrip(_BLANK)), (place,)))
    return Node(root, (), tuple(Node(name, (), tuple(children)) for name, children in sections)), tuple(problems)


def effective(assignments: Iterable[Node]) -> list[Node]:
    """The *assignments* of one list such as ``ExecStart`` that count: those behind the last empty one."""
    kept: list[Node] = []
    for node in assignments:
        if node.value:
            kept.append(node)
        else:
            kept.clear()
    return kept


def _logical(source: Source) -> Iterator[tuple[str, Word]]:
    """Each line with its continuations, joined by blanks, and what stands on its first line as a word that knows its place."""
    parts: list[str] = []
    start: Word | None = None
    for number, line in enumerate([*source.text.split("\n"), ""], 1):
        text = line.strip(_BLANK)
        if text[:1] in ("#", ";") or (not text and start is None):
            continue
        # An even number of backslashes are escaped ones.
        more = (len(text) - len(text.rstrip("\\"))) % 2 == 1
        parts.append(text[:-1] if more else text)
        if start is None:
            start = Word.at(parts[0].rstrip(_BLANK), source, number, len(line) - len(line.lstrip(_BLANK)) + 1)
        if not more:
            yield " ".join(parts).strip(_BLANK), start
            parts, start = [], None


def _part(first: Word, at: int, text: str) -> Word:
    """*text*, *at* characters behind the start of *first*, which is as much of it as its line shows."""
    shown = max(1, min(len(text), len(first) - at))
    # A value that begins on the second line of its assignment is shown at the key.
    column = first.spot.at.column + (at if at < len(first) else 0)
    return Word.at(text, first.spot.source, first.spot.at.line, column, shown if at < len(first) else len(first))


def _problem(first: Word, message: str, remedy: str) -> Diagnostic:
    return Diagnostic("UNT001", "error", message, (), remedy, position=first.spot.at)
