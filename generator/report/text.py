"""Findings for people: place, clause, the line with a caret, what to do."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from generator.diagnostics import SEVERITIES, Diagnostic, Spot
from generator.messages import translated
from generator.report import Paint, Read, painter, related, spot, visible
from generator.source import Source
from generator.wording import conjoined, said

# For one, and for several.
_COUNTED = {"error": ("{count} error", "{count} errors"), "warning": ("{count} warning", "{count} warnings"), "info": ("{count} info",) * 2}
_WIDTH = 120
_MOST = 100


def render(checked: Sequence[Read], *, color: bool, language: str) -> str:
    """Every finding, then one line that counts them (nothing at all where there are none)."""
    paint = painter(color=color)
    found = [(one.source, finding) for one in checked for finding in one.diagnostics]
    if not found:
        return ""
    words = {word: translated(word, language) for word in (*SEVERITIES, "help:")}
    blocks = ["\n".join(_block(source, finding, paint, words)) for source, finding in found[:_MOST]]
    if len(found) > _MOST:
        blocks.append(translated(said("and {count} more (all of them: --format json)", count=len(found) - _MOST), language))
    counts = Counter(finding.severity for _, finding in found)
    parts = [said(_COUNTED[s][counts[s] != 1], count=counts[s]) for s in SEVERITIES if counts[s]]
    worst = min((finding for _, finding in found), key=lambda finding: SEVERITIES.index(finding.severity))
    last = said("{counts}; `stowage explain {code}` says more", counts=conjoined(parts, "{first}, {last}"), code=worst.code)
    return "\n\n".join(blocks) + f"\n\n{translated(last, language)}\n"


def _block(source: Source, finding: Diagnostic, paint: Paint, words: Mapping[str, str]) -> Iterator[str]:
    here = spot(source, finding)
    severity = paint(finding.severity, f"{words[finding.severity]} {finding.code}")
    yield f"{paint('bold', _place(here))} {severity}: {visible(finding.message)}"
    yield from _excerpt(here, lambda carets: paint(finding.severity, carets))
    for place in finding.related:
        there = related(source, place)
        yield f"      {paint('dim', _place(there))} {visible(place.label)}"
        yield from _excerpt(there, lambda carets: paint("dim", carets.replace("^", "-")))
    if finding.remedy:
        yield f"      {paint('bold', words['help:'])} {visible(finding.remedy)}"


def _place(spot: Spot) -> str:
    return f"{visible(spot.source.name)}:{spot.at.line}:{spot.at.column}:"


def _excerpt(spot: Spot, mark: Callable[[str], str]) -> Iterator[str]:
    """The line, cut to a window around the place, and carets below the place; nothing for an empty line."""
    # One column a tab, as the position counts it.
    at, line = spot.at, spot.source.line(spot.at.line).replace("\t", " ")
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
