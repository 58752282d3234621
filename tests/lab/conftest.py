"""What the tests of the lab share: the site of a session, and the report that a rehearsal ends with.

``make test`` runs the short tests; ``make rehearse`` (``--rehearse``) also those marked ``rehearsal``, on the inventory of ``--inventory``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lab import base, site
from lab.site import Site

LAB = Path(__file__).resolve().parent
REPOSITORY = LAB.parent.parent
ORDER = ("test_refusals", "test_bring_up", "test_faults", "test_inventories", "test_kills")
EXAMPLE = LAB / "inventories" / "example.yaml"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "rehearsal: takes minutes; only with --rehearse")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # The session's site goes through its life in this order.
    items.sort(key=lambda item: ORDER.index(item.path.stem) if item.path.parent == LAB and item.path.stem in ORDER else -1)
    if config.getoption("--inventory"):  # somebody's own bundle: what is about it, and nothing else
        long = [item for item in items if "hosts" not in getattr(item, "fixturenames", ())]
    elif config.getoption("--rehearse"):
        return
    else:
        long = [item for item in items if item.get_closest_marker("rehearsal")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in long]


@contextmanager
def lab_of(inventory: Path, *, rehearsal: bool = False) -> Iterator[Site]:
    """A site of *inventory*; skips where there can be no lab (fails with CI=true; ends a *rehearsal*), refuses an inventory with errors."""
    if lacking := base.missing():
        what = "there can be no lab here; missing:\n" + "\n".join(f"  {line}" for line in lacking)
        if rehearsal:
            pytest.exit(what, 2)
        if os.environ.get("CI") == "true":
            pytest.fail(what, pytrace=False)
        pytest.skip(what)
    try:
        with site.opened(inventory) as opened:
            yield opened
    except base.LabError as error:
        pytest.exit(str(error), 2) if isinstance(error, site.Refused) else pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def inventory(pytestconfig: pytest.Config) -> Path:
    """The inventory that is rehearsed."""
    return Path(pytestconfig.getoption("--inventory") or EXAMPLE).resolve()


@pytest.fixture(scope="session")
def hosts(inventory: Path, pytestconfig: pytest.Config) -> Iterator[Site]:
    """The session's site, as the operator finds it: booted, the folders carried, nothing run.  Its tests follow each other, file by file."""
    with lab_of(inventory, rehearsal=pytestconfig.getoption("--rehearse")) as opened:
        yield opened


@pytest.fixture(scope="session")
def prepared(hosts: Site) -> Site:
    """The site after steps 00 to 30."""
    hosts.walk((0, 10, 20, 30))
    return hosts


@pytest.fixture(scope="session")
def say(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """One line of progress, at once."""
    reporter = pytestconfig.pluginmanager.get_plugin("terminalreporter")

    def line(text: str) -> None:
        if reporter is not None and pytestconfig.getoption("--rehearse"):
            reporter.write_line(f"    {text}")

    return line
