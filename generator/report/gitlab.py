"""
Findings as GitLab's code quality report, which shows them in a merge request.

Source: docs.gitlab.com, *Code Quality*, report format: a JSON array; a fingerprint names one finding and stays while lines move.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from generator.diagnostics import Diagnostic, dotted
from generator.report import Read, spot
from generator.source import Source

_SEVERITIES = {"error": "major", "warning": "minor", "info": "info"}


def render(checked: Sequence[Read], *, color: bool, language: str) -> str:
    """One array with all findings, in ASCII."""
    del color, language
    seen: Counter[str] = Counter()
    return json.dumps([_entry(one.source, finding, seen) for one in checked for finding in one.diagnostics], indent=2) + "\n"


def _entry(source: Source, finding: Diagnostic, seen: Counter[str]) -> dict[str, Any]:
    name = PurePath(source.name).as_posix()
    at = spot(source, finding).at
    # What stands there and not what is said of it: the same finding in any language.
    what = json.dumps([name, finding.code, dotted(finding.path), source.line(at.line).strip()])
    seen[what] += 1
    return {
        "description": f"{finding.message}; {finding.remedy}" if finding.remedy else finding.message,
        "check_name": finding.code,
        "fingerprint": hashlib.sha256(f"{what}{seen[what]}".encode()).hexdigest(),
        "severity": _SEVERITIES[finding.severity],
        "location": {"path": name, "lines": {"begin": at.line}},
    }
