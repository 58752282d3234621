"""What the tests share: the golden inventories and their bundles, and what a test needs of the machine.

Import from a test with ``from conftest import GOLDENS, needs``.  A test that takes the argument ``golden`` runs once a golden inventory;
``bundle`` gives its compiled bundle, made once a session.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from generator.compiler import Checked
    from generator.model import Cluster, Host

# What people read is in the language of the locale; the tests read English.
os.environ["LC_ALL"] = "C.UTF-8"

REPOSITORY = Path(__file__).resolve().parent.parent
GOLDEN_FOLDER = REPOSITORY / "tests" / "golden"


@dataclass(frozen=True)
class Golden:
    """An inventory whose whole bundle is committed: *parent* holds the bundle's folder, named as the cluster."""

    name: str
    inventory: Path
    parent: Path


@dataclass(frozen=True)
class Bundle:
    """A compiled bundle in a folder of this session; never to be changed by a test."""

    golden: Golden
    cluster: Cluster
    path: Path

    def host(self, host: Host | str) -> Path:
        """The folder of one host."""
        return self.path / "hosts" / (host if isinstance(host, str) else host.name)


# The example first, then whatever else stands beside it, then the goldens of the tests.
GOLDENS = (
    *(
        Golden(path.stem, path, REPOSITORY / "out")
        for path in sorted((REPOSITORY / "inventories").glob("*.yaml"), key=lambda p: (p.stem != "example", p))
    ),
    *(Golden(path.parent.name, path, path.parent) for path in sorted(GOLDEN_FOLDER.glob("*/inventory.yaml"))),
)


@cache
def checked(golden: Golden) -> Checked:
    """The golden inventory after every check; fails the test where it has an error."""
    from generator import compiler

    result = compiler.check(golden.inventory.relative_to(REPOSITORY).as_posix(), golden.inventory.read_bytes())
    assert not result.refused(), [f"{d.code}: {d.message}" for d in result.diagnostics]
    return result


def compiled(golden: Golden, out: Path) -> Path:
    """Compiles *golden* below *out* and returns the bundle's folder."""
    from generator import compiler

    cluster = checked(golden).cluster
    assert cluster is not None
    return compiler.compile_to(out, cluster, {}).path


@cache
def missing(*needed: str) -> str:
    """What of *needed* this machine doesn't have, as one phrase; empty where it has all."""
    lacking = []
    for name in needed:
        if name == "root":
            if os.geteuid() != 0:
                lacking.append("root")
            elif subprocess.run(["unshare", "-m", "-n", "true"], capture_output=True, check=False).returncode:
                lacking.append("the right to make namespaces")
        elif shutil.which(name) is None and not Path("/usr/sbin", name).exists():
            lacking.append(name)
    return ", ".join(lacking)


def needs(*needed: str) -> None:
    """
    Skips the running test where a program, or ``root`` (with the right to make namespaces), is missing; says which.

    With CI=true that is a failure: a check that doesn't run there doesn't run anywhere.  Also a mark: ``@pytest.mark.needs("nginx", "root")``.
    """
    lacking = missing(*needed)
    if lacking and os.environ.get("CI") == "true":
        pytest.fail(f"CI must have {lacking}", pytrace=False)
    if lacking:
        pytest.skip(f"needs {lacking}")


def wants(*needed: str) -> None:
    """As :func:`needs`, for what CI may lack too: it only ever skips."""
    if lacking := missing(*needed):
        pytest.skip(f"would like {lacking}")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden bundles anew (test_golden.py), and say what changed")
    parser.addoption("--rehearse", action="store_true", help="run the long tests of tests/lab, too (make rehearse)")
    parser.addoption("--inventory", help="the inventory that tests/lab rehearses (default: tests/lab/inventories/example.yaml)")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*names): programs, or root, without which the test is skipped; with CI=true it fails")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        needs(*mark.args)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "golden" in metafunc.fixturenames:
        metafunc.parametrize("golden", GOLDENS, ids=lambda golden: golden.name, scope="session")


@pytest.fixture(scope="session")
def all_bundles(tmp_path_factory: pytest.TempPathFactory):
    """A function from a golden to its compiled bundle, compiled at the first call."""
    out = tmp_path_factory.mktemp("bundles")

    @cache
    def bundle_of(golden: Golden) -> Bundle:
        return Bundle(golden, checked(golden).cluster, compiled(golden, out / golden.name))

    return bundle_of


@pytest.fixture(scope="session")
def bundle(golden: Golden, all_bundles) -> Bundle:
    """The compiled bundle of the golden that the test runs for."""
    return all_bundles(golden)
