"""Findings for programs: one JSON object, its keys documented in ``docs/diagnostics.md``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from generator.diagnostics import SEVERITIES, Diagnostic, Spot, dotted
from generator.report import Read, related, spot
from generator.source import Source


def render(checked: Sequence[Read], *, color: bool, language: str) -> str:
    """``{"version", "files", "findings", "summary"}`` in ASCII; positions count from 1, in code points."""
    del color, language
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
    return {
        "code": finding.code,
        "severity": finding.severity,
        "message": finding.message,
        "remedy": finding.remedy,
        "path": dotted(finding.path),
        **_place(spot(source, finding)),
        "related": [{"message": place.label, "path": dotted(place.path), **_place(related(source, place))} for place in finding.related],
    }


def _place(spot: Spot) -> dict[str, Any]:
    at = spot.at
    return {"file": spot.source.name, "line": at.line, "column": at.column, "endColumn": at.column + at.length}
