"""What the stages say of an inventory: values only, no formatting.

A check yields a *path* (a tuple of keys and indices), never a location: ``Source.position`` is the one place that turns paths into line
and column, and ``generator.report`` the only code that formats.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from generator.source import Source

Path = tuple[str | int, ...]
Severity = Literal["error", "warning", "info"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a text: *line* and *column* from 1, in code points, and the *length* of what stands there."""

    line: int
    column: int
    length: int = 1


@dataclass(frozen=True, slots=True)
class Spot:
    """A place in a file that is not an inventory."""

    source: Source
    at: Position


@dataclass(frozen=True, slots=True)
class Related:
    """A second place that belongs to a finding, such as the first of two equal names: a path, or a *spot* in any file."""

    path: Path
    label: str
    on_key: bool = False
    spot: Spot | None = None


@dataclass(frozen=True, slots=True)
class Fix:
    """
    A remedy with exactly one right answer, as data: what becomes of the value, or the key, that a finding is about.

    ``set`` makes *to* the value, ``quote`` makes a string of the value as it is written, ``rename`` makes *to* the key, ``remove`` takes
    key and value away; ``blanks`` is about a text with tabs, which has no paths yet.
    """

    action: Literal["set", "quote", "rename", "remove", "blanks"]
    to: str | int = ""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """
    One finding.

    *message* is one clause that stands alone, *remedy* says what to do.  *path* names the value it is about (with *on_key*, the key);
    *position* is set only where there is no path to name: text that could not be read, or a hand-written file.
    *fix* is set where the remedy can be applied by a program.
    """

    code: str
    severity: Severity
    message: str
    path: Path = ()
    remedy: str = ""
    on_key: bool = False
    related: tuple[Related, ...] = ()
    position: Position | None = None
    fix: Fix | None = None


def has_errors(diagnostics: Iterable[Diagnostic], *, strict: bool = False) -> bool:
    """Whether a compile must stop here; *strict* counts warnings as errors."""
    refused = ("error", "warning") if strict else ("error",)
    return any(d.severity in refused for d in diagnostics)


def dotted(path: Path) -> str:
    """*path* as people write it: ``hosts[2].address``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
