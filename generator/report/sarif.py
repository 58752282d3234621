"""Findings as SARIF, which code hosts and editors read.

Source: OASIS *Static Analysis Results Interchange Format* 2.1.0; columns count code points from 1 (3.14.17), ends are exclusive (3.30.8).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from generator import __version__, lint, messages
from generator.diagnostics import Diagnostic, Spot
from generator.report import Read, related, spot
from generator.source import Source

_LEVELS = {"error": "error", "warning": "warning", "info": "note"}


def render(checked: Sequence[Read], *, color: bool, language: str) -> str:
    """One run with all findings, and the essays of the rules that made them."""
    del color
    results = [_result(one.source, finding) for one in checked for finding in one.diagnostics]
    codes = {result["ruleId"] for result in results}
    driver = {"name": "stowage", "version": __version__, "rules": [_rule(rule, language) for rule in lint.rules() if rule.code in codes]}
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    document = {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [run]}
    return json.dumps(document, indent=2) + "\n"


def _rule(rule: lint.Rule, language: str) -> dict[str, Any]:
    return {
        "id": rule.code,
        "shortDescription": {"text": messages.title(rule.code, rule.title, language)},
        "help": {"text": messages.essay(rule.code, rule.essay, language)},
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
    }


def _result(source: Source, finding: Diagnostic) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": finding.code,
        "level": _LEVELS[finding.severity],
        "message": {"text": f"{finding.message}; {finding.remedy}" if finding.remedy else finding.message},
        "locations": [_location(spot(source, finding))],
    }
    if finding.related:
        result["relatedLocations"] = [_location(related(source, place)) | {"message": {"text": place.label}} for place in finding.related]
    return result


def _location(spot: Spot) -> dict[str, Any]:
    path, at = PurePath(spot.source.name), spot.at
    uri = path.as_uri() if path.is_absolute() else quote(path.as_posix(), errors="surrogateescape")
    region = {"startLine": at.line, "startColumn": at.column, "endColumn": at.column + at.length}
    return {"physicalLocation": {"artifactLocation": {"uri": uri}, "region": region}}
