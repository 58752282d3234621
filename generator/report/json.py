"""Findings for programs: one JSON object, its keys documented in ``docs/diagnostics.md``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from generator.diagnostics import SEVERITIES, Diagnostic, Position, dotted

if TYPE_CHECKING:
    from generator.compiler import Checked
    from generator.source import Source


def render(checked: Sequence[Checked], *, color: bool) -> str:
    """``{"version", "files", "findings", "summary"}`` in ASCII; positions count from 1, in code points."""
    del color
    findings = [_entry(one.source, finding) for one in checked for finding in one.diagnostics]
    counts = Counter(entry["severity"] for entry in findings)
    document = {
        "version": 1,
        "files": [one.source.name for one in checked],
        "findings": findings,
        "summary": {severity: counts[severity] for severity in SEVERITIES},
    }
    # ASCII, so that it is the same document whatever the locale of the pipe is.
    return json.dumps(document, indent=2) + "\n"


def _entry(source: Source, finding: Diagnostic) -> dict[str, Any]:
    at = finding.position or source.position(finding.path, on_key=finding.on_key)
    return {
        "code": finding.code,
        "severity": finding.severity,
        "message": finding.message,
        "remedy": finding.remedy,
        "path": dotted(finding.path),
        **_place(source, at),
        "related": [
            {"message": related.label, "path": dotted(related.path), **_place(source, source.position(related.path, on_key=related.on_key))}
            for related in finding.related
        ],
    }


def _place(source: Source, at: Position) -> dict[str, Any]:
    return {"file": source.name, "line": at.line, "column": at.column, "endColumn": at.column + at.length}
