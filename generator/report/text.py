"""Findings for people: place, clause, the line with a caret, what to do."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from generator.diagnostics import SEVERITIES, Diagnostic, Position

if TYPE_CHECKING:
    from generator.compiler import Checked
    from generator.source import Source

_COLORS = {"error": "31;1", "warning": "33;1", "info": "36;1", "bold": "1", "dim": "2"}
_WIDTH = 120


def render(checked: Sequence[Checked], *, color: bool) -> str:
    """Every finding, then one line that counts them (nothing at all where there are none)."""

    def paint(style: str, text: str) -> str:
        return f"\033[{_COLORS[style]}m{text}\033[0m" if color else text

    blocks = ["\n".join(_block(one.source, finding, paint)) for one in checked for finding in one.diagnostics]
    if not blocks:
        return ""
    counts = Counter(finding.severity for one in checked for finding in one.diagnostics)
    parts = [f"{counts[s]} {s if s == 'info' or counts[s] == 1 else s + 's'}" for s in SEVERITIES if counts[s]]
    codes = sorted({finding.code for one in checked for finding in one.diagnostics})
    return "\n\n".join(blocks) + f"\n\n{', '.join(parts)}; `stowage explain {codes[0]}` says more\n"


def _block(source: Source, finding: Diagnostic, paint: object) -> Iterator[str]:
    assert callable(paint)
    at = finding.position or source.position(finding.path, on_key=finding.on_key)
    place = paint("bold", f"{source.name}:{at.line}:{at.column}:")
    yield f"{place} {paint(finding.severity, f'{finding.severity} {finding.code}')}: {finding.message}"
    yield from _excerpt(source, at, lambda carets: paint(finding.severity, carets))
    for related in finding.related:
        where = source.position(related.path, on_key=related.on_key)
        yield f"      {paint('dim', f'{source.name}:{where.line}:{where.column}:')} {related.label}"
        yield from _excerpt(source, where, lambda carets: paint("dim", carets.replace("^", "-")))
    if finding.remedy:
        yield f"      {paint('bold', 'help:')} {finding.remedy}"


def _excerpt(source: Source, at: Position, mark: object) -> Iterator[str]:
    """The line, cut to a window around the place, and a line of carets below it."""
    assert callable(mark)
    line = source.line(at.line)
    if not line.strip():
        return
    start = max(0, at.column - 1 - _WIDTH // 2) if len(line) > _WIDTH else 0
    window = line[start : start + _WIDTH]
    before = window[: at.column - 1 - start]
    under = window[at.column - 1 - start : at.column - 1 - start + at.length] or " "
    yield f"{at.line:5} | {'…' if start else ''}{_visible(window)}"
    yield f"      | {' ' * (_columns(before) + bool(start))}{mark('^' * max(1, _columns(under)))}"


def _columns(text: str) -> int:
    """Columns that *text* takes on a terminal: East Asian wide characters take two, combining ones none."""
    return sum(0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def _visible(text: str) -> str:
    """*text* without anything that a terminal would act on."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
