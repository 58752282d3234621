"""Reader of nginx files."""

from __future__ import annotations

from generator.diagnostics import Diagnostic
from generator.handwritten import Node, Word
from generator.source import Source


def read(source: Source) -> tuple[Node, tuple[Diagnostic, ...]]:
    """The tree of *source*, and what could not be read."""
    return Node(Word.at("", source, 1, 1), (), ()), ()
