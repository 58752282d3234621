"""The only code that formats: one file an output format, each with ``render(checked, color=...)``."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from generator.compiler import Checked

FORMATS = tuple(sorted(entry.name for entry in iter_modules(__path__)))


def render(name: str, checked: Sequence[Checked], *, color: bool) -> str:
    """All findings of *checked* in the format *name*, one of :data:`FORMATS`; only ``text`` knows colours."""
    text: str = import_module(f"{__name__}.{name}").render(checked, color=color)
    return text


def visible(text: str) -> str:
    """*text* on one line, without anything that a terminal would act on: file names and values are other people's."""
    return text if text.isprintable() else "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
