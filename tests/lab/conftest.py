"""What the tests of the lab share: the site of a session, and the report that a rehearsal ends with.

``make test`` runs the short tests; ``make rehearse`` (``--rehearse``) also those marked ``rehearsal``, on the inventory of ``--inventory``.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from generator import __version__
from lab import base, report, site
from lab.site import Site

LAB = Path(__file__).resolve().parent
REPOSITORY = LAB.parent.parent
ORDER = ("test_refusals", "test_bring_up", "test_faults", "test_inventories", "test_one_trip", "test_kills")
REHEARSED = pytest.StashKey[report.Rehearsed]()
EXAMPLE = LAB / "inventories" / "example.yaml"


def end(*_: object) -> None:
    """SIGTERM ends a session as Ctrl-C does: in order."""
    raise KeyboardInterrupt


def pytest_configure(config: pytest.Config) -> None:
    signal.signal(signal.SIGTERM, end)
    config.stash[REHEARSED] = report.Rehearsed()
    config.addinivalue_line("markers", "rehearsal: takes minutes; only with --rehearse")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # The session's site goes through its life in this order, in one process where tests run in several.
    items.sort(key=lambda item: ORDER.index(item.path.stem) if item.path.parent == LAB and item.path.stem in ORDER else -1)
    for item in items:
        if item.path.parent == LAB:
            item.add_marker(pytest.mark.xdist_group("lab"))
    if config.getoption("--inventory"):  # somebody's own bundle: what is about it, and nothing else
        long = [item for item in items if "hosts" not in getattr(item, "fixturenames", ())]
    elif config.getoption("--rehearse"):
        return
    else:
        long = [item for item in items if item.get_closest_marker("rehearsal")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in long]


@contextmanager
def lab_of(inventory: Path, *, rehearsal: bool = False, build: Callable[[Path, Path], Path] = site.built) -> Iterator[Site]:
    """A site of *inventory*, its bundle made by *build*; skips where there can be no lab (fails with CI=true; ends a *rehearsal*), refuses an inventory with errors."""
    if lacking := base.missing():
        what = "there can be no lab here; missing:\n" + "\n".join(f"  {line}" for line in lacking)
        if rehearsal:
            pytest.exit(what, 2)
        if os.environ.get("CI") == "true":
            pytest.fail(what, pytrace=False)
        pytest.skip(what)
    try:
        with site.opened(inventory, build) as opened:
            yield opened
    except base.LabError as error:
        pytest.exit(str(error), 2) if isinstance(error, site.Refused) else pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def inventory(pytestconfig: pytest.Config) -> Path:
    """The inventory that is rehearsed."""
    return Path(pytestconfig.getoption("--inventory") or EXAMPLE).resolve()


@pytest.fixture(scope="session")
def hosts(inventory: Path, pytestconfig: pytest.Config, rehearsed: report.Rehearsed) -> Iterator[Site]:
    """The session's site, as the operator finds it: booted, the folders carried, nothing run.  Its tests follow each other, file by file."""
    with lab_of(inventory, rehearsal=pytestconfig.getoption("--rehearse")) as opened:
        digest = hashlib.sha256(inventory.read_bytes()).hexdigest()
        rehearsed.site = inventory.name, digest, {name: env["ROLE"] for name, env in opened.env.items()}
        yield opened


@pytest.fixture(scope="session")
def prepared(hosts: Site) -> Site:
    """The site after steps 00 to 30."""
    hosts.walk((0, 10, 20, 30))
    return hosts


@pytest.fixture(scope="session")
def up(prepared: Site) -> Site:
    """The site after all its steps. In between, what can be seen only then is looked at."""
    hosts = prepared
    hosts.walk((40,))
    if hosts.vips:
        assert len(hosts.holders()) == 1
    hosts.walk((50,))
    handed_over(hosts)
    hosts.walk((60, 65))
    for host in hosts.control_planes[1:] + hosts.workers:
        assert not list(host.path(f"{hosts.var}/handoff").glob("*")), f"{host.name} keeps the archive that it took in"
        assert not host.path("/etc/kubernetes/stowage-discovery.conf").exists()
    hosts.walk((70, 80, 90))
    return hosts


def handed_over(site: Site) -> None:
    """The archive for workers holds no key; the one for control planes cannot be read without the passphrase. One of the former is kept."""
    if site.workers:
        archive = site.first.path(f"{site.var}/handoff/worker.handoff")
        shutil.copy(archive, site.scratch / "old.handoff")
        text = subprocess.run(["tar", "-xOf", archive], capture_output=True, check=True).stdout
        assert b"PRIVATE KEY" not in text
        assert b"certificate-authority-data" in text
    if len(site.control_planes) > 1:
        assert site.first.path(f"{site.var}/handoff/control-plane.handoff").read_bytes().startswith(b"Salted__")


@pytest.fixture(scope="session")
def rehearsed(pytestconfig: pytest.Config) -> report.Rehearsed:
    """What the session has measured; its report is the end of a rehearsal."""
    return pytestconfig.stash[REHEARSED]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    measured = config.stash[REHEARSED]
    if not config.getoption("--rehearse") or not measured.site:
        return
    terminalreporter.section("rehearsal")
    others = [
        (test.nodeid.partition("::")[2].removeprefix("test_").replace("_", " "), test.passed, f"{test.duration:.0f} s")
        for kind in ("passed", "failed") for test in terminalreporter.stats.get(kind, ())
        if test.when == "call" and not test.nodeid.partition("::")[2].startswith(("test_fault", "test_drill"))
    ]  # fmt: skip
    terminalreporter.write_line(report.text(measured.outcomes, measured.drills, others))
    target = config.invocation_params.dir / "rehearsal.json"
    report.write(target, report.data(__version__, *measured.site, measured.outcomes, measured.drills, others))
    terminalreporter.write_line(f"the figures are in {target}")


@pytest.fixture(scope="session")
def say(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """One line of progress, at once."""
    reporter = pytestconfig.pluginmanager.get_plugin("terminalreporter")
    capture = pytestconfig.pluginmanager.get_plugin("capturemanager")

    def line(text: str) -> None:
        if pytestconfig.getoption("--rehearse"):
            with capture.global_and_fixture_disabled():
                reporter.write_line(f"    {text}")

    return line
