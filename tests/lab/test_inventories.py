"""Other inventories, brought up whole and run again: hosts of the RHEL family, dedicated load balancers behind a router, two address families."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lab import test_bring_up as bring_up
from lab.conftest import REPOSITORY, handed_over, lab_of
from lab.site import Site

GOLDEN = REPOSITORY / "tests" / "golden"
CHECKS = (
    bring_up.test_one_host_holds_the_vip,
    bring_up.test_every_api_server_answers_through_every_path,
    bring_up.test_etcd_has_all_members_and_its_manifests_list_them,
    bring_up.test_no_key_and_no_archive_lies_about,
    bring_up.test_no_secret_is_in_a_log,
    bring_up.test_a_second_run_changes_nothing,
    bring_up.test_rollback_of_70_restores_the_manifest,
    bring_up.test_rollback_of_40_takes_the_load_balancer_off_and_40_brings_it_back,
    bring_up.test_every_folder_is_the_one_that_was_carried,
)


@pytest.mark.rehearsal
@pytest.mark.parametrize(
    "inventory", [REPOSITORY / "inventories/example.yaml", *(GOLDEN / name / "inventory.yaml" for name in ("dedicated-lb", "dual-stack", "single"))],
    ids=["example-rocky-9", "dedicated-lb", "dual-stack", "single"],
)  # fmt: skip
def test_bring_up(inventory: Path, say: Callable[[str], None]) -> None:
    with lab_of(inventory) as site:
        for number in bring_up.NUMBERS:
            say(f"step {number:02}")
            site.walk((number,))
            if number == 50:
                handed_over(site)
        bring_up.test_every_step_says_what_it_did_and_what_comes_next(site)
        for check in CHECKS:
            say(check.__name__.removeprefix("test_").replace("_", " "))
            try:
                check(site)
            except pytest.skip.Exception as why:
                say(f"  not here: {why}")
        stand_ins_understood(site)


def stand_ins_understood(site: Site) -> None:
    """No stand-in of the RHEL family met a call that it does not know."""
    for host in site.where(OS_FAMILY="rhel"):
        unknown = host.path("/var/lib/lab-rhel/unknown")
        assert not unknown.exists(), f"{host.name}: {unknown.read_text()}"
