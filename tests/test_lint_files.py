"""The rules over hand-written files, on folders of such files; the origin's own files; and cluster rules said in the words of those files."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from generator import compiler, lint
from generator.diagnostics import Diagnostic
from generator.handwritten import discovery

ROOT = Path(__file__).resolve().parent / "lint"
# A folder is a fixture; a cluster rule may have one too, where only files can show it.
BAD = sorted(p for p in ROOT.glob("*/bad-*") if p.is_dir())
GOOD = sorted(p for p in ROOT.glob("*/good-*") if p.is_dir())
FILE_RULES = {r.code: r for r in lint.rules() if r.file_check}


def name(path: Path) -> str:
    return f"{path.parent.name}-{path.name}"


def linted(path: Path) -> list[tuple[str, Diagnostic]]:
    return [(one.source.name, finding) for one in compiler.lint_files(discovery.read([path])) for finding in one.diagnostics]


@cache
def said(path: Path) -> list[tuple[str, Diagnostic]]:
    return linted(path)


def expected(path: Path) -> set[tuple[str, int, str]]:
    """``# expect: CODE`` at the end of the line; where the format has no such comments, ``# expect-next: CODE`` on the line above."""
    marks = set()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if mark := re.search(r"# expect(-next)?: ([A-Z0-9, ]+)$", line):
                marks |= {(str(file), number + bool(mark[1]), code) for code in mark[2].split(", ")}
    return marks


@pytest.mark.parametrize("path", BAD, ids=name)
def test_bad_files_yield_their_code_where_it_is_marked(path):
    code = path.parent.name
    assert {mark[2] for mark in expected(path)} == {code}
    assert {(file, d.position.line, d.code) for file, d in said(path) if d.code == code} == expected(path)


@pytest.mark.parametrize("path", BAD, ids=name)
def test_a_finding_points_at_text(path):
    """The place lies in its file, what is marked is not blank, and the finding reads well."""
    for file, d in said(path):
        lines = Path(file).read_text(encoding="utf-8").split("\n")
        shown = lines[d.position.line - 1][d.position.column - 1 :][: d.position.length]
        assert shown.strip(), (file, d)
        assert d.message
        assert d.remedy
        assert not d.message.endswith((".", ":", " "))
        assert not d.remedy.endswith(".")
        assert "\n" not in d.message + d.remedy


@pytest.mark.parametrize("path", GOOD, ids=name)
def test_good_files_come_close_without_an_error(path):
    assert path.parent.name not in {d.code for _, d in said(path)}
    assert [d for _, d in said(path) if d.severity == "error"] == []


@pytest.mark.parametrize("code", sorted({r.code for r in lint.rules() if r.code[:3] in {code[:3] for code in FILE_RULES}}))
def test_file_rule_has_fixtures(code):
    """What a reader finds has fixtures, too."""
    assert [p for p in BAD if p.parent.name == code]
    assert [p for p in GOOD if p.parent.name == code]


@pytest.mark.parametrize("code", sorted(FILE_RULES))
def test_without_its_rule_a_fixture_passes(code, monkeypatch):
    rest = tuple(r for r in lint.rules() if r.code != code)
    monkeypatch.setattr(lint, "rules", lambda: rest)
    for path in BAD:
        if path.parent.name == code:
            assert code not in {d.code for _, d in linted(path)}
