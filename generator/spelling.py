"""What somebody meant who misspelt a key or a value: a fix where there is exactly one answer, else None."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from generator.diagnostics import Fix

# A shorter name has too many neighbours.
_LEAST = 5
_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def key(name: str, known: Iterable[str]) -> Fix | None:
    """The one of *known* that differs from *name* in case, hyphens and underscores alone, or else by one slip of a finger."""
    known = list(known)
    meant = [k for k in known if _folded(k) == _folded(name)] or [k for k in known if len(k) >= _LEAST and _one_slip(name, k)]
    return Fix("rename", meant[0]) if len(meant) == 1 else None


def choice(value: object, allowed: Iterable[object]) -> Fix | None:
    """The one of *allowed* that is *value* but for case, hyphens and underscores; nothing looser: `rocky-8` is no slip of `rocky-9`."""
    meant = [a for a in allowed if isinstance(a, str) and isinstance(value, str) and _folded(a) == _folded(value)]
    return Fix("set", meant[0]) if len(meant) == 1 else None


def form(value: object, pattern: str) -> Fix | None:
    """*value* as *pattern* wants it, without what says nothing: blanks around it, a ``v`` before a release, a scheme before a registry."""
    if not isinstance(value, str):
        return None
    plain = value.strip()
    candidates = (
        plain,
        re.sub("^v(?=[0-9])", "", plain),
        plain.removeprefix("https://").rstrip("/"),
        plain.lower() if re.fullmatch("[0-9A-Fa-f]{64}", plain) else plain,
    )
    return next((Fix("set", candidate) for candidate in candidates if candidate and re.search(pattern, candidate)), None)


def kind(value: object, wanted: Sequence[str], pattern: str) -> Fix | None:
    """*value* as one of the JSON types *wanted*: a number in quotes where text belongs, a quoted number without, YAML 1.1's ``yes``."""
    if isinstance(value, int):
        return Fix("quote") if "string" in wanted and re.search(pattern, str(value).lower()) else None
    if not isinstance(value, str):
        return None
    if "integer" in wanted and re.fullmatch("-?(0|[1-9][0-9]{0,17})", value):
        return Fix("set", int(value))
    return Fix("set", _WORDS[value.lower()]) if "boolean" in wanted and value.lower() in _WORDS else None


def _folded(name: str) -> str:
    return name.casefold().replace("-", "").replace("_", "")


def _one_slip(name: str, known: str) -> bool:
    """Whether one letter is missing or too much, or two neighbours have changed places; another letter would be another word."""
    if abs(len(name) - len(known)) == 1:
        long, short = sorted((name, known), key=len, reverse=True)
        return any(long[:i] + long[i + 1 :] == short for i in range(len(long)))
    return len(name) == len(known) and any(name[:i] + name[i + 1] + name[i] + name[i + 2 :] == known for i in range(len(name) - 1))
