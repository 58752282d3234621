"""The prose is true: generated pages are current, what pages name exists, and README's inventory compiles."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from generator import compiler, lint
from generator.cli import stowage
from generator.steps import STEPS

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def generated() -> dict[str, str]:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs/generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.pages()


@pytest.mark.parametrize("name", ["inventory.md", "rules.md"])
def test_generated_pages_are_current(name):
    """`make docs` would change nothing."""
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == generated()[name], "run make docs"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    """Relative links name files of the repository."""
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_named_commands_and_codes_exist(page):
    """`stowage X`, `make X` and rule codes in prose are real."""
    text = page.read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    codes = {rule.code for rule in lint.rules()} | {"NET099"}
    for command in re.findall(r"`stowage ([a-z]+)", text):
        assert command in stowage.commands, command
    for target in re.findall(r"`make ([a-z]+)", text):
        assert target in targets, target
    for code in re.findall(r"\b((?:SRC|SCH|HST|NET|LBR|KUB|ETC|CNI|RUN|SEC)[0-9]{3})\b", text):
        assert code in codes, code


def test_the_readme_inventory_has_no_error_but_the_one_it_shows():
    """README's inventory is clean, and its finding is what `check` prints."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    inventory = re.search(r"```yaml\n(version: 1\n.*?)```", readme, re.DOTALL)[1]
    assert not compiler.check("inventory.yaml", inventory.encode()).refused(strict=True)
    broken = inventory.replace("192.168.1.31/24", "192.168.1.26/24")
    (found,) = [d for d in compiler.check("inventory.yaml", broken.encode()).diagnostics if d.severity == "error"]
    assert f"error {found.code}: {found.message}" in readme
    assert f"help: {found.remedy}" in readme


def test_every_step_has_its_script_and_the_contract_names_every_variable():
    """The table of steps, the scripts, host.env and docs/scripts.md agree."""
    scripts = {path.name for path in (ROOT / "templates/scripts").glob("[0-9][0-9]-*.sh")}
    assert {step.script for step in STEPS} == scripts
    contract = (ROOT / "docs/scripts.md").read_text(encoding="utf-8")
    section = contract.split("## host.env")[1].split("\n## ")[0]
    documented = {
        name for row in section.splitlines() if row.startswith("| `") for name in re.findall(r"`([A-Z][A-Z0-9_]*)`", row.split("|")[1])
    }
    emitted = {line.partition("=")[0] for line in (ROOT / "out/example/hosts/master-1/host.env").read_text(encoding="utf-8").splitlines()}
    assert emitted == documented
