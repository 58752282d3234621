"""Hooks, pipelines and shells: what is documented, and what other programs call, runs."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from conftest import REPOSITORY, wants

from generator import lint
from generator.cli import stowage

HOOKS = {hook["id"]: hook for hook in yaml.safe_load((REPOSITORY / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))}
PAGE = (REPOSITORY / "docs/diagnostics.md").read_text(encoding="utf-8")
SNIPPETS = {text.splitlines()[0].removeprefix("# "): yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)}


@pytest.fixture
def site(tmp_path):
    """A site's repository: inventories, and files collected from its hosts."""
    (tmp_path / "inventories").mkdir()
    shutil.copy(REPOSITORY / "inventories/example.yaml", tmp_path / "inventories/mine.yaml")
    nginx = tmp_path / "collected/lb-1/etc/nginx"
    nginx.mkdir(parents=True)
    (nginx / "nginx.conf").write_text("events {}\nstream {\n    server { listen 16443; proxy_pass 10.0.0.1:6443; }\n}\n")
    return tmp_path


def run(command: str, folder: Path) -> subprocess.CompletedProcess:
    """*command* as a shell of the pipeline runs it, with our program in its PATH."""
    program = Path(sys.executable).with_name("stowage")
    if not program.exists():
        pytest.skip("stowage is not installed")
    environment = {"PATH": f"{program.parent}:/usr/bin:/bin", "HOME": str(folder), "LC_ALL": "C.UTF-8"}
    return subprocess.run(["sh", "-ec", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


# --- pre-commit -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hook", HOOKS)
def test_hooks_have_what_pre_commit_wants(hook):
    """Its manifest's keys (pre-commit.com, *Creating new hooks*), and expressions that compile."""
    known = {"id", "name", "description", "entry", "language", "types", "files", "require_serial"}
    assert set(HOOKS[hook]) == known
    assert HOOKS[hook]["language"] == "python"
    re.compile(HOOKS[hook]["files"])


@pytest.mark.parametrize(("hook", "file"), [("stowage-check", "mine"), ("stowage-fix", "mine"), ("stowage-lint", "nginx")])
def test_hooks_run_on_the_files_that_they_name(hook, file, site):
    """The entry with the names of files behind it, from the repository's root."""
    names = [path.relative_to(site).as_posix() for path in sorted(site.rglob("*.*")) if path.is_file()]
    chosen = [name for name in names if re.search(HOOKS[hook]["files"], name)]
    assert [Path(name).stem for name in chosen] == [file]
    done = run(f"{HOOKS[hook]['entry']} {shlex.join(chosen)}", site)
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr


def test_a_hook_stops_a_commit(site):
    mine = site / "inventories/mine.yaml"
    mine.write_text(mine.read_text().replace("192.168.1.26/24", "192.168.1.25/24"))
    done = run(f"{HOOKS['stowage-check']['entry']} inventories/mine.yaml", site)
    assert done.returncode == 1
    assert "HST002" in done.stdout


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("nginx.conf", True),
        ("a/etc/nginx/nginx.conf", True),
        ("a/keepalived.conf", True),
        ("kubeadm-init.yaml", True),
        ("a/etc/hosts", True),
        ("a/keepalived.service.d/10-restart.conf", True),
        ("my-hosts", False),
        ("README.md", False),
        ("nginx.conf.j2", False),
    ],
)
def test_which_files_are_linted(name, taken):
    assert bool(re.search(HOOKS["stowage-lint"]["files"], name)) is taken


def test_the_documented_hooks_exist():
    (repo,) = SNIPPETS[".pre-commit-config.yaml"]["repos"]
    assert {hook["id"] for hook in repo["hooks"]} <= set(HOOKS)
    assert set(re.findall(r"stowage-[a-z]+", PAGE)) == set(HOOKS)
    for hook in repo["hooks"]:
        command = stowage.commands[HOOKS[hook["id"]]["entry"].split()[1]]
        assert set(hook.get("args", [])) <= {option for parameter in command.params for option in parameter.opts}


# --- pipelines ------------------------------------------------------------------------------------------------------------------------


def commands() -> list[str]:
    (github,) = SNIPPETS[".github/workflows/inventory.yml"]["jobs"].values()
    scripts = [step["run"] for step in github["steps"] if "run" in step] + SNIPPETS[".gitlab-ci.yml"]["inventory"]["script"]
    assert sum(script.startswith("pip install git+") for script in scripts) == 2
    return [script for script in scripts if not script.startswith("pip ")]


@pytest.mark.parametrize("command", commands())
def test_documented_pipelines_run(command, site):
    done = run(command, site)
    assert (done.returncode, done.stderr) == (0, "")
    mine = site / "inventories/mine.yaml"
    mine.write_text(mine.read_text().replace("192.168.1.26/24", "192.168.1.25/24"))
    done = run(command, site)
    assert (done.returncode, done.stderr) == (1, "")
    target = command.partition("> ")[2]
    assert "HST002" in ((site / target).read_text() if target else done.stdout)


def test_pipelines_take_what_the_commands_wrote():
    (github,) = SNIPPETS[".github/workflows/inventory.yml"]["jobs"].values()
    written = {command.partition("> ")[2] for command in commands()} - {""}
    taken = {step["with"]["sarif_file"] for step in github["steps"] if "sarif_file" in step.get("with", {})}
    assert written == taken | {SNIPPETS[".gitlab-ci.yml"]["inventory"]["artifacts"]["reports"]["codequality"]}


# --- shells ---------------------------------------------------------------------------------------------------------------------------


def asked(words: list[str], at: int, shell: str = "bash") -> str:
    """What the program answers to a shell's completion script."""
    environment = {"_STOWAGE_COMPLETE": f"{shell}_complete", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(at)}
    return CliRunner().invoke(stowage, prog_name="stowage", env=environment).output


def test_codes_are_completed():
    assert asked(["stowage", "explain", "net00"], 2).split() == [
        f"plain,{rule.code}" for rule in lint.rules() if rule.code.startswith("NET00")
    ]


def test_zsh_gets_titles():
    assert "A network is written with host bits" in asked(["stowage", "explain", "NET011"], 2, "zsh")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("stowage ", set(stowage.commands)),
        ("stowage check --format ", {"text", "annotated", "json", "github", "gitlab", "sarif"}),
        ("stowage check --a", {"--annotate"}),
        ("stowage explain ETC00", {f"ETC00{n}" for n in range(1, 10)}),
        ("stowage completion ", {"bash", "zsh", "fish"}),
    ],
)
def test_bash_completes(line, expected, site):
    """The printed script in a real bash, asked as a pressed TAB asks."""
    wants("bash")
    words = line.split(" ")
    script = f"""eval "$(stowage completion bash)"
COMP_WORDS=({shlex.join(words)}) COMP_CWORD={len(words) - 1} COMPREPLY=()
_stowage_completion stowage
printf '%s\\n' "${{COMPREPLY[@]}}"
complete -p stowage"""
    done = run(f"bash --norc -c {shlex.quote(script)}", site)
    *offered, registered = done.stdout.splitlines()
    assert expected <= set(offered), done.stderr
    assert registered == "complete -o nosort -F _stowage_completion stowage"


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_scripts_are_read_by_their_shells(shell, site):
    wants(shell)
    done = run(f"stowage completion {shell} > script && {shell} -n script", site)
    assert (done.returncode, done.stderr) == (0, "")
