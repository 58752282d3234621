"""The only code that formats: one file an output format, each with ``render(checked, color=...)``."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Protocol

from generator.diagnostics import Diagnostic, Related, Spot

if TYPE_CHECKING:
    from generator.source import Source

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


def render(name: str, checked: Sequence[Read], *, color: bool) -> str:
    """All findings of *checked* in the format *name*, one of :data:`FORMATS`; only ``text`` knows colours."""
    text: str = import_module(f"{__name__}.{name}").render(checked, color=color)
    return text


def visible(text: str) -> str:
    """*text* on one line, without anything that a terminal would act on: file names and values are other people's."""
    return text if text.isprintable() else "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
