"""Findings in the file that they are about: its own text, marks at the ends of the lines that are meant, and a list of them below it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from generator.diagnostics import Spot
from generator.messages import translated
from generator.report import Paint, Read, painter, related, shown, spot, visible


def render(checked: Sequence[Read], *, color: bool, language: str) -> str:
    """Every file as it is read, secrets masked; one without findings is unchanged. Each of several has its name above it."""
    paint = painter(color=color)
    texts = ["".join(_annotated(one, paint, translated("help:", language))) for one in checked]
    if len(checked) == 1:
        return texts[0]
    heads = [paint("bold", f"# ==> {visible(one.source.name)} <==") for one in checked]
    return "\n".join(f"{head}\n{text}" if text.endswith("\n") else f"{head}\n{text}\n" for head, text in zip(heads, texts, strict=True))


def _annotated(one: Read, paint: Paint, help_word: str) -> Iterator[str]:
    count = one.source.text.count("\n") + 1
    marks: dict[int, list[str]] = {}
    numbers: Counter[str] = Counter()
    notes = [""]
    for finding in one.diagnostics:
        letter = finding.severity[0].upper()
        numbers[letter] += 1
        mark = f"{letter}{numbers[letter]}"
        here = spot(one.source, finding)
        marks.setdefault(min(here.at.line, count), []).append(paint(finding.severity, mark))
        notes.append(f"# {paint(finding.severity, f'{mark} {finding.code}')}: {visible(finding.message)}")
        notes += (f"#    {_place(related(one.source, place), here)} {visible(place.label)}" for place in finding.related)
        if finding.remedy:
            notes.append(f"#    {paint('bold', help_word)} {visible(finding.remedy)}")
    for number in range(1, count + 1):
        line = shown(one.source.line(number))
        marked = f"  # {', '.join(marks[number])}" if number in marks else ""
        yield f"{line}{marked}" if number == count and not marked else f"{line}{marked}\n"
    if marks:
        # A text that doesn't end its last line gets that end here.
        yield "\n" * (count not in marks and not one.source.text.endswith("\n")) + "\n".join(notes) + "\n"


def _place(there: Spot, here: Spot) -> str:
    """``line 8:``, or the place in another file."""
    name = "" if there.source.name == here.source.name else f"{visible(there.source.name)}:"
    return f"{name}{there.at.line}:{there.at.column}:"
