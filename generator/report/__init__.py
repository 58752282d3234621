"""The only code that formats: one file an output format, each with ``render(checked, color=..., language=...)``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Protocol

from generator import messages
from generator.diagnostics import Diagnostic, Related, Spot

if TYPE_CHECKING:
    from generator.source import Source

_COLORS = {"error": "31;1", "warning": "33;1", "info": "36;1", "bold": "1", "dim": "2"}

# Style and text to text.
Paint = Callable[[str, str], str]

FORMATS = tuple(sorted(entry.name for entry in iter_modules(__path__)))


class Read(Protocol):
    """A file and what was found in it: an inventory that was checked, or a hand-written file."""

    @property
    def source(self) -> Source:
        """The file's text."""

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """In the order of the text."""


def spot(source: Source, finding: Diagnostic) -> Spot:
    """Where *finding*, which is about *source*, stands."""
    return Spot(source, finding.position or source.position(finding.path, on_key=finding.on_key))


def related(source: Source, place: Related) -> Spot:
    """Where the second place of a finding about *source* stands: there, or in another file."""
    return place.spot or Spot(source, source.position(place.path, on_key=place.on_key))


@dataclass(frozen=True, slots=True)
class _Translated:
    source: Source
    diagnostics: tuple[Diagnostic, ...]


def render(name: str, checked: Sequence[Read], *, color: bool, language: str = messages.ENGLISH) -> str:
    """All findings of *checked* in the format *name*, one of :data:`FORMATS`, and in *language*; what is for people knows colours."""
    if language != messages.ENGLISH:
        checked = [_Translated(one.source, tuple(_translated(finding, language) for finding in one.diagnostics)) for one in checked]
    text: str = import_module(f"{__name__}.{name}").render(checked, color=color, language=language)
    return text


def _translated(finding: Diagnostic, language: str) -> Diagnostic:
    return replace(
        finding,
        message=messages.translated(finding.message, language),
        remedy=messages.translated(finding.remedy, language),
        related=tuple(replace(place, label=messages.translated(place.label, language)) for place in finding.related),
    )


def painter(*, color: bool) -> Paint:
    """Text in a style (a severity, bold, dim) for terminals; with no *color*, text as it is."""
    return lambda style, text: f"\033[{_COLORS[style]}m{text}\033[0m" if color else text


def shown(line: str) -> str:
    """A *line* of a file for a terminal: as :func:`visible`, but a tab is a tab."""
    return "\t".join(visible(part) for part in line.split("\t"))


def difference(before: Source, after: Source) -> str:
    """A unified diff of two texts of one file, secrets masked in both."""
    from difflib import unified_diff

    def lines(read: Source) -> list[str]:
        return [shown(read.line(number)) + "\n" for number in range(1, read.text.removesuffix("\n").count("\n") + 2)]

    name = visible(before.name)
    return "".join(unified_diff(lines(before), lines(after), name, name))


def visible(text: str) -> str:
    """*text* on one line, without anything that a terminal would act on: file names and values are other people's."""
    return text if text.isprintable() else "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
