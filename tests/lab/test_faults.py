"""The faults of the issue under load, ours beside the origin's in one run; then what has to hold besides, and members of etcd that lose their disk."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from lab import drills, faults, origin, report
from lab.hosts import Host, within
from lab.site import Site
from lab.test_bring_up import etcd, touched

# In `make test`.
SHORT = {"nginx killed on the VIP holder", "VIP holder dark"}
ROWS = [pytest.param(row, id=row.name.replace(" ", "-"), marks=() if row.name in SHORT else pytest.mark.rehearsal) for row in faults.ROWS]


@pytest.fixture(scope="session")
def balanced(up: Site) -> Site:
    """The site, where its API is behind nginx and a VIP with more than one load balancer."""
    if up.engine != "nginx" or len(up.load_balancers) < 2:
        pytest.skip("the inventory has no two load balancers with nginx")
    return up


@pytest.mark.parametrize("row", ROWS)
def test_fault(balanced: Site, row: faults.Row, rehearsed: report.Rehearsed, say: Callable[[str], None]) -> None:
    if row.needs > len(balanced.load_balancers):
        pytest.skip(f"needs {row.needs} load balancers")
    outcomes = faults.run(balanced, row, missed=lambda outcome: report.limits(row, outcome) or report.misses(row, outcome))
    rehearsed.outcomes[faults.STOWAGE][row.name] = outcomes
    say(report.cell(report.middle(outcomes)))
    assert not (wrong := report.verdict(row, outcomes)), f"{row.name}: {', '.join(wrong)}"


def held(drill: drills.Drill, rehearsed: report.Rehearsed, say: Callable[[str], None]) -> None:
    rehearsed.drills.append(drill)
    say(drill.said)
    assert drill.held, f"{drill.name}: {drill.said}"


@pytest.mark.rehearsal
@pytest.mark.parametrize("drill", drills.ALL, ids=lambda drill: drill.__name__)
def test_drill(balanced: Site, drill: Callable[[Site], drills.Drill], rehearsed: report.Rehearsed, say: Callable[[str], None]) -> None:
    held(drill(balanced), rehearsed, say)


@pytest.mark.rehearsal
def test_an_upgrade_of_the_bundle_fails_no_request(balanced: Site, rehearsed: report.Rehearsed, say: Callable[[str], None]) -> None:
    def heavier(data: dict[str, Any]) -> None:
        next(host for host in data["hosts"] if host["role"] == "control-plane")["weight"] = 3

    held(drills.upgrade(balanced, lambda: balanced.upgrade(heavier)), rehearsed, say)
    for host in balanced.load_balancers:
        assert "weight=3" in host.path("/etc/nginx/stowage/apiserver.conf").read_text()


@pytest.mark.rehearsal
def test_the_same_faults_with_the_configuration_of_the_origin(
    balanced: Site, rehearsed: report.Rehearsed, say: Callable[[str], None]
) -> None:
    """Measured, not judged: the other column of the table."""
    if balanced.load_balancers != balanced.control_planes:
        pytest.skip("the origin's load balancers are its control planes")
    for host in balanced.load_balancers:
        balanced.step(host, 40, "--rollback")
    origin.lay(balanced)
    try:
        for row in faults.ROWS:
            outcomes = faults.run(balanced, row, faults.ORIGIN)
            rehearsed.outcomes[faults.ORIGIN][row.name] = outcomes
            say(f"{row.name}: {report.cell(report.middle(outcomes))}")
    finally:
        origin.remove(balanced)
        balanced.walk((40,))
        balanced.settle()


@pytest.mark.rehearsal
def test_a_kubelet_that_notices_the_manifest_20_s_late(up: Site) -> None:
    """Step 70 waits for the etcd that runs, not for the file."""
    host = up.control_planes[-1]
    up.step(host, 70, "--rollback")
    host.path("/run/lab").mkdir(exist_ok=True)
    host.path("/run/lab/kubelet-late").write_text("20\n")
    before = up.snapshot(host)
    try:
        said = up.step(host, 70).stdout
    finally:
        host.path("/run/lab/kubelet-late").unlink()
    assert "waiting for etcd running with the flags of its manifest" in said
    assert "etc/kubernetes/manifests/etcd.yaml" in touched(before, up.snapshot(host))
    up.step(host, 90)


def wipe(host: Host, directory: str) -> None:
    """etcd's data directory is gone, as after a new disk; the kubelet starts etcd anew."""
    host.run("systemctl", "stop", "kubelet")
    for name in ("etcd-shim", "etcd"):
        host.signal(name, signal.SIGKILL)
    host.sh(f"rm -rf {directory}/member; rm -f /var/log/pods/etcd.log")
    host.run("systemctl", "start", "kubelet")


@pytest.mark.rehearsal
def test_a_wiped_member_is_refused_and_nothing_is_lost(up: Site, say: Callable[[str], None]) -> None:
    """Each member in turn: it does not start with an empty log, what was written is there, and the runbook's way back works."""
    if len(up.control_planes) < 3:
        pytest.skip("needs three control planes")
    for host in reversed(up.control_planes):
        others = [other for other in up.control_planes if other is not host]
        etcd(others[0], f"put lab/{host.name} kept")
        wipe(host, up.common["ETCD_DATA_DIR"])
        within(60, "refusal in the log of etcd", lambda host=host: refused(host), 0.5)
        assert etcd(others[0], f"get --print-value-only lab/{host.name}").strip() == "kept"
        say(f"{host.name}: refused; back by remove-member, reset, handoff and a join")
        up.ops(others[0], "remove-member", host.name)
        # It may register its node anew, as after a reboot: kubeadm refuses a name that is Ready.
        host.run("systemctl", "restart", "kubelet")
        time.sleep(3)
        up.ops(host, "reset", "--yes", host.name, "--last")
        if host is up.first:
            said = up.step(host, 50, check=1).stdout
            assert "is there already" in said
            up.reorder(others[0].name)
        up.ops(up.first, "handoff")
        up.hand_off(host, source=up.first)
        up.step(host, 60)
        up.step(host, 70)
        up.ops(up.first, "handoff", "--remove")
        assert etcd(host, f"get --print-value-only lab/{host.name}").strip() == "kept"
    for host in up.hosts:
        up.step(host, 90)


def refused(host: Host) -> bool:
    log = host.path("/var/log/pods/etcd.log")
    text = log.read_text(errors="replace") if log.exists() else ""
    return any(words in text for words in ("has already been bootstrapped", "cluster ID mismatch", "mismatch member ID"))
