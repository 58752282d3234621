"""Findings for people: place, clause, the line with a caret, what to do."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from generator.diagnostics import SEVERITIES, Diagnostic, Spot
from generator.report import Read, related, spot, visible
from generator.source import Source

_COLORS = {"error": "31;1", "warning": "33;1", "info": "36;1", "bold": "1", "dim": "2"}
_WIDTH = 120
_MOST = 100

# Style and text to text.
Paint = Callable[[str, str], str]


def render(checked: Sequence[Read], *, color: bool) -> str:
    """Every finding, then one line that counts them (nothing at all where there are none)."""

    def paint(style: str, text: str) -> str:
        return f"\033[{_COLORS[style]}m{text}\033[0m" if color else text

    found = [(one.source, finding) for one in checked for finding in one.diagnostics]
    if not found:
        return ""
    blocks = ["\n".join(_block(source, finding, paint)) for source, finding in found[:_MOST]]
    if len(found) > _MOST:
        blocks.append(f"and {len(found) - _MOST} more (all of them: --format json)")
    counts = Counter(finding.severity for _, finding in found)
    parts = [f"{counts[s]} {s if s == 'info' or counts[s] == 1 else s + 's'}" for s in SEVERITIES if counts[s]]
    worst = min((finding for _, finding in found), key=lambda finding: SEVERITIES.index(finding.severity))
    return "\n\n".join(blocks) + f"\n\n{', '.join(parts)}; `stowage explain {worst.code}` says more\n"


def _block(source: Source, finding: Diagnostic, paint: Paint) -> Iterator[str]:
    here = spot(source, finding)
    severity = paint(finding.severity, f"{finding.severity} {finding.code}")
    yield f"{paint('bold', _place(here))} {severity}: {visible(finding.message)}"
    yield from _excerpt(here, lambda carets: paint(finding.severity, carets))
    for place in finding.related:
        there = related(source, place)
        yield f"      {paint('dim', _place(there))} {visible(place.label)}"
        yield from _excerpt(there, lambda carets: paint("dim", carets.replace("^", "-")))
    if finding.remedy:
        yield f"      {paint('bold', 'help:')} {visible(finding.remedy)}"


def _place(spot: Spot) -> str:
    return f"{visible(spot.source.name)}:{spot.at.line}:{spot.at.column}:"


def _excerpt(spot: Spot, mark: Callable[[str], str]) -> Iterator[str]:
    """The line, cut to a window around the place, and carets below the place; nothing for an empty line."""
    at, line = spot.at, spot.source.line(spot.at.line)
    if not line.strip():
        return
    start = max(0, at.column - 1 - _WIDTH // 2) if len(line) > _WIDTH else 0
    end = start + _WIDTH
    before, there = line[start : at.column - 1], line[at.column - 1 : min(end, at.column - 1 + at.length)]
    head, tail = "…" * (start > 0), "…" * (end < len(line))
    yield f"{at.line:5} | {head}{visible(line[start:end])}{tail}".rstrip()
    yield f"      | {' ' * (len(head) + _columns(before))}{mark('^' * max(1, _columns(there)))}"


def _columns(text: str) -> int:
    """Columns that *text* takes on a terminal: East Asian wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.category(char) in ("Mn", "Me") else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)
