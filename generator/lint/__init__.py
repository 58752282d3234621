"""Rules over the whole cluster and over hand-written files, one function each, discovered.

A new rule is one function in the topic's file and its fixtures in ``tests/lint/CODE/``; nothing else is touched.  The function's docstring
is its essay, shown by ``stowage explain`` and in ``docs/rules.md``: one line that names the problem, then *Why it hurts*, *Example*,
*Use instead* and *Source*.  It yields findings and knows neither its code nor its severity; the runner stamps both.

``@rule`` takes the :class:`Cluster` that an inventory, or an adopted draft of one, says; ``@file_rule`` takes hand-written files, for what
an inventory can't say.  A mistake has one code wherever it stands: a file rule is written only where no rule over the cluster can be.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from generator.diagnostics import Diagnostic, Fix, Path, Related, Severity
from generator.handwritten import Files, Word
from generator.model import Cluster
from generator.source import Source


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule says: the path of the value (with *on_key*, of its key), one clause, and what to do; *fix* where that has one answer."""

    path: Path
    message: str
    remedy: str
    on_key: bool = False
    related: tuple[Related, ...] = ()
    fix: Fix | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What a rule over files says: the word it is about, one clause, what to do, and other words that belong to it."""

    word: Word
    message: str
    remedy: str
    related: tuple[Related, ...] = ()


Check = Callable[[Cluster], Iterator[Finding]]
FileCheck = Callable[[Files], Iterator[Found]]


@dataclass(frozen=True, slots=True)
class Rule:
    """A registered rule with *check* or *file_check*; neither for what the loader and the schema find before there is a cluster."""

    code: str
    severity: Severity
    title: str
    essay: str
    check: Check | None = None
    file_check: FileCheck | None = None


_REGISTERED: dict[str, Rule] = {}


def rule(code: str, severity: Severity) -> Callable[[Check], Check]:
    """Register the function below as rule *code*; raises ValueError when the code is taken or the essay is missing."""

    def register(check: Check) -> Check:
        _add(code, severity, inspect.getdoc(check) or "", check=check)
        return check

    return register


def file_rule(code: str, severity: Severity) -> Callable[[FileCheck], FileCheck]:
    """As :func:`rule`, for hand-written files."""

    def register(check: FileCheck) -> FileCheck:
        _add(code, severity, inspect.getdoc(check) or "", file_check=check)
        return check

    return register


def essay(code: str, text: str) -> None:
    """Register the essay of a finding that the loader or the schema makes (a function named as a submodule would be hidden by it)."""
    _add(code, "error", inspect.cleandoc(text))


def _add(code: str, severity: Severity, text: str, check: Check | None = None, file_check: FileCheck | None = None) -> None:
    title, _, rest = text.partition("\n")
    # python -OO takes every docstring away; what is compiled must not depend on it.
    if code in _REGISTERED or (sys.flags.optimize < 2 and not rest.strip()):
        raise ValueError(f"rule {code}: taken already, or without an essay")
    _REGISTERED[code] = Rule(code, severity, title.strip().rstrip("."), text, check, file_check)


@cache
def rules() -> tuple[Rule, ...]:
    """Every rule, sorted by code."""
    for module in sorted(entry.name for entry in iter_modules(__path__)):
        import_module(f"{__name__}.{module}")
    return tuple(sorted(_REGISTERED.values(), key=lambda r: r.code))


def run(cluster: Cluster) -> list[Diagnostic]:
    """All that the rules find in *cluster*, in the order of their codes."""
    return [
        Diagnostic(r.code, r.severity, f.message, f.path, f.remedy, on_key=f.on_key, related=f.related, fix=f.fix)
        for r in rules()
        if r.check is not None
        for f in r.check(cluster)
    ]


def run_files(files: Files) -> list[tuple[Source, Diagnostic]]:
    """All that the rules over files find in *files*, each with the file it is about, in the order of their codes."""
    return [
        (f.word.spot.source, Diagnostic(r.code, r.severity, f.message, (), f.remedy, related=f.related, position=f.word.spot.at))
        for r in rules()
        if r.file_check is not None
        for f in r.file_check(files)
    ]
