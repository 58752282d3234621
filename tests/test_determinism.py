"""The committed bytes depend on the inventory and the tool's version, and on nothing else; secrets stand in their overlay and nowhere else."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from conftest import GOLDENS, REPOSITORY

from generator.bundle import in_overlay, walk

# Between them: every component, two kubeadm versions, Calico, a secret.
INVENTORIES = [golden.inventory for golden in GOLDENS if golden.name in ("example", "every-key", "calico-crio", "dual-stack")]
CANARY = "k4n4Ry%="


def tracked(out: Path) -> dict[str, tuple[bytes, bool]]:
    """Bytes and x bit of every file that git takes."""
    found = {}
    for cluster in sorted(out.iterdir()):
        for path in walk(cluster):
            if not in_overlay(path):
                file = cluster / path
                found[f"{cluster.name}/{path}"] = (file.read_bytes(), bool(file.stat().st_mode & 0o100))
    return found


def stowage(*arguments: object, python: tuple[str, ...] = (sys.executable,), cwd: Path = REPOSITORY, umask: int = 0o022, **variables: str):
    """The command line in a process of its own, with little else in its environment."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1", **variables}
    return subprocess.run(
        [*python, "-m", "generator", *map(str, arguments)],
        cwd=cwd, env=environment, umask=umask, capture_output=True, check=False, timeout=60,
    )  # fmt: skip


@cache
def reference(folder: Path) -> dict[str, tuple[bytes, bool]]:
    """The bundles as this machine compiles them, once."""
    done = stowage("bundle", *INVENTORIES, "-o", folder)
    assert done.returncode == 0, done.stderr
    return tracked(folder)


@pytest.fixture
def expected(tmp_path_factory):
    return reference(tmp_path_factory.getbasetemp() / "determinism")


@pytest.fixture
def secrets(tmp_path):
    folder = tmp_path / "secrets"
    folder.mkdir(mode=0o700)
    (folder / "vrrp").write_text(f"{CANARY}\n")
    (folder / "registry").write_text("puller:raven\n")
    return folder


def same(found: dict, expected: dict) -> None:
    """Fails with the names of what differs, not with megabytes."""
    assert sorted(path for path in found.keys() | expected.keys() if found.get(path) != expected.get(path)) == []


@pytest.mark.parametrize(
    "variables",
    [
        {"TZ": "Pacific/Kiritimati"},
        {"LC_ALL": "C"},
        {"LC_ALL": "tr_TR.UTF-8"},
        {"LC_ALL": "tr_TR.ISO-8859-9", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONHASHSEED": "0"},
        {"PYTHONHASHSEED": "4294967295"},
        {"HOME": "/nonexistent", "USER": "nobody", "COLUMNS": "20", "TERM": "dumb"},
    ],
    ids=lambda variables: "-".join(variables.values()).replace("/", "_"),
)
def test_environment(tmp_path, expected, variables):
    done = stowage("bundle", *INVENTORIES, "-o", tmp_path / "out", **variables)
    assert done.returncode == 0, done.stderr
    same(tracked(tmp_path / "out"), expected)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_umask(tmp_path, expected, umask):
    done = stowage("bundle", *INVENTORIES, "-o", tmp_path / "out", umask=umask)
    assert done.returncode == 0, done.stderr
    same(tracked(tmp_path / "out"), expected)


def test_paths(tmp_path, expected):
    """Another working directory, relative and absolute and linked names, other file names, in another order."""
    for number, inventory in enumerate(reversed(INVENTORIES)):
        shutil.copy(inventory, tmp_path / f"ünï {number}.txt")
    (tmp_path / "link").symlink_to(tmp_path / "ünï 0.txt")
    done = stowage("bundle", "link", "./ünï 1.txt", tmp_path / "ünï 2.txt", f"../{tmp_path.name}/ünï 3.txt", "-o", "a/b", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    same(tracked(tmp_path / "a/b"), expected)


@pytest.mark.parametrize("options", [("-O",), ("-OO",), ("-X", "utf8=0"), ("-b", "-Werror", "-X", "dev"), ("-I",)], ids=" ".join)
def test_interpreter_options(tmp_path, expected, options):
    if options == ("-I",):
        # Isolated: neither PYTHONPATH nor the working directory are looked at.
        program = (
            sys.executable,
            "-I",
            "-c",
            f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); from generator.cli import main; main()",
        )
        done = subprocess.run([*program, "bundle", *map(str, INVENTORIES), "-o", str(tmp_path / "out")], capture_output=True, check=False)
    else:
        done = stowage("bundle", *INVENTORIES, "-o", tmp_path / "out", python=(sys.executable, *options))
    assert done.returncode == 0, done.stderr
    same(tracked(tmp_path / "out"), expected)


def other_pythons() -> list[str]:
    """Interpreters of this machine beside the one that runs the tests, 3.11 and newer; STOWAGE_PYTHONS names more (a colon between two)."""
    found = [
        *Path("/usr/bin").glob("python3.*"),
        *Path("/usr/local/bin").glob("python3.*"),
        *Path.home().glob(".pyenv/versions/*/bin/python3.*"),
    ]
    resolved = {str(path.resolve()) for path in found if re.fullmatch(r"python3\.1[1-9]", path.name)} - {
        str(Path(sys.executable).resolve())
    }
    return [*sorted(resolved), *filter(None, os.environ.get("STOWAGE_PYTHONS", "").split(":"))]


@pytest.mark.parametrize("python", other_pythons() or ["none"])
def test_other_pythons(tmp_path, expected, python):
    if python == "none":
        pytest.skip("no other Python here")
    import click

    program = "import click, jinja2, jsonschema, netaddr, ruamel.yaml"
    for libraries in (str(REPOSITORY), f"{REPOSITORY}:{Path(click.__file__).parents[1]}"):
        if subprocess.run([python, "-c", program], env={"PYTHONPATH": libraries}, capture_output=True, check=False).returncode == 0:
            break
    else:
        pytest.skip(f"{python} can't import our libraries")
    done = stowage("bundle", *INVENTORIES, "-o", tmp_path / "out", python=(python,), PYTHONPATH=libraries)
    assert done.returncode == 0, done.stderr
    same(tracked(tmp_path / "out"), expected)


def test_without_libyaml(tmp_path, expected):
    """ruamel's own parser, where libyaml isn't there."""
    program = "import sys; sys.modules['_ruamel_yaml'] = None; from generator.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    arguments = [sys.executable, "-c", program, "bundle", *map(str, INVENTORIES), "-o", str(tmp_path / "out")]
    done = subprocess.run(arguments, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    same(tracked(tmp_path / "out"), expected)


# --- secrets --------------------------------------------------------------------------------------------------------------------------


def places(folder: Path, what: bytes) -> set[str]:
    """Every file below *folder* that holds *what*, in its bytes or its name."""
    return {path for path in walk(folder) if what in (folder / path).read_bytes() or what in os.fsencode(path)}


def test_secrets_stand_in_their_overlay(tmp_path, expected, secrets):
    done = stowage("bundle", *INVENTORIES, "-o", tmp_path / "out", "--secrets", secrets)
    assert done.returncode == 0, done.stderr
    same(tracked(tmp_path / "out"), expected)
    found = places(tmp_path / "out", CANARY.encode())
    assert found
    assert all(path.split("/")[0] == "every" and path.endswith("/secrets/vrrp") for path in found)
    assert all((tmp_path / "out" / path).read_bytes() == CANARY.encode() for path in found)
    assert CANARY.encode() not in done.stdout + done.stderr
    # Neither does a digest of it stand in what is committed: that of eight letters can be guessed back.
    assert {path.rpartition("/")[2] for path in places(tmp_path / "out", hashlib.sha256(CANARY.encode()).hexdigest().encode())} == {
        "SHA256SUMS"
    }
    digests = places(tmp_path / "out", hashlib.sha256(CANARY.encode()).hexdigest().encode())
    assert all("/secrets/" in path for path in digests)


def test_a_run_without_keeps_them(tmp_path, secrets):
    inventory = next(i for i in INVENTORIES if "every-key" in str(i))
    assert stowage("bundle", inventory, "-o", tmp_path / "out", "--secrets", secrets).returncode == 0
    kept = {path: (tmp_path / "out" / path).stat().st_ino for path in places(tmp_path / "out", CANARY.encode())}
    done = stowage("bundle", inventory, "-o", tmp_path / "out")
    assert done.stdout.endswith(b"unchanged\n")
    assert {path: (tmp_path / "out" / path).stat().st_ino for path in places(tmp_path / "out", CANARY.encode())} == kept


@pytest.mark.parametrize("secret", [f"{CANARY}{CANARY}", f"{CANARY}\n{CANARY}", f"{CANARY} x", f"{CANARY}\0"])
@pytest.mark.parametrize("debug", ["", "1"])
def test_a_wrong_secret_is_not_shown(tmp_path, secrets, secret, debug):
    (secrets / "vrrp").write_text(secret)
    done = stowage("bundle", *INVENTORIES, "-o", tmp_path / "out", "--secrets", secrets, STOWAGE_DEBUG=debug)
    assert done.returncode == 2
    assert CANARY.encode() not in done.stdout + done.stderr
    assert b"no VRRP password" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "written",
    [
        CANARY,
        f'"{CANARY}"',
        f"'{CANARY}'",
        f"[{CANARY}]",
        f"{{secret: {CANARY}}}",
        f"{{password: {CANARY}}}",
        f"{CANARY}  # {CANARY}",
    ],
)
@pytest.mark.parametrize("form", ["text", "json", "github", "sarif"])
def test_a_literal_secret_is_not_shown(tmp_path, written, form):
    """Whatever shape it was written in: the finding has its place, not its value."""
    inventory = next(i for i in INVENTORIES if "every-key" in str(i))
    text = inventory.read_text().replace("authPass: {secret: vrrp}", f"authPass: {written}")
    (tmp_path / "inventory.yaml").write_text(text)
    done = stowage("check", "--format", form, tmp_path / "inventory.yaml")
    assert done.returncode == 1
    assert CANARY.encode() not in done.stdout + done.stderr
    assert not stowage("bundle", tmp_path / "inventory.yaml", "-o", tmp_path / "out").stdout
    assert not (tmp_path / "out").exists()
