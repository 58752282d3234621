"""Findings as GitHub's workflow commands, which show them beside the lines of a pull request.

Source: docs.github.com, *Workflow commands for GitHub Actions*; the escapes are those of ``@actions/core``.
"""

from __future__ import annotations

from collections.abc import Sequence

from generator.diagnostics import Diagnostic
from generator.messages import translated
from generator.report import Read, spot
from generator.source import Source
from generator.wording import said

_COMMANDS = {"error": "error", "warning": "warning", "info": "notice"}


def render(checked: Sequence[Read], *, color: bool, language: str) -> str:
    """One command a finding; nothing where there are none."""
    del color
    return "".join(_command(one.source, finding, language) for one in checked for finding in one.diagnostics)


def _command(source: Source, finding: Diagnostic, language: str) -> str:
    at = spot(source, finding).at
    place = {"file": source.name, "line": at.line, "col": at.column, "endColumn": at.column + at.length, "title": finding.code}
    properties = ",".join(f"{name}={_property(str(value))}" for name, value in place.items())
    remedy = "\n" + translated(said("help: {remedy}", remedy=finding.remedy), language) if finding.remedy else ""
    return f"::{_COMMANDS[finding.severity]} {properties}::{_data(finding.message + remedy)}\n"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
