"""Each script killed at many points, then run again: the end is that of an undisturbed run.

A kill is SIGKILL to the script's whole process group; the last one of each step is a power cut of the host. Before each, the disks are put
back to what they were before the step, so that no kill profits from another one.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from generator.steps import STEPS
from lab.conftest import LAB, lab_of
from lab.hosts import Host
from lab.site import Site
from lab.test_bring_up import touched

POINTS = 3
# What no two runs of kubeadm make alike: only that it is there, with its mode and owner, is compared.
RANDOM = ("etc/kubernetes/", "var/lib/stowage/")


@pytest.fixture(scope="module")
def victim() -> Iterator[Site]:
    """Three control planes and a worker, of which disks are kept before each step."""
    with lab_of(LAB / "inventories" / "kills.yaml") as site:
        yield site


def alike(snapshot: dict[str, str]) -> dict[str, str]:
    """*snapshot* without the bytes of what is made at random."""
    return {
        path: what.rsplit(" ", 1)[0] if path.startswith(RANDOM) else what
        for path, what in snapshot.items()
        if not re.search(r"/handoff/|/state/|/lock$", path)
    }


def killed(process: subprocess.Popen[bytes], _: Site, __: Host) -> None:
    """SIGKILL to the process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def cut(_: subprocess.Popen[bytes], site: Site, host: Host) -> None:
    """The power fails, and comes back."""
    host.power_off()
    site.boot(host)


def interrupted(site: Site, host: Host, number: int, after: float, end: Callable[[subprocess.Popen[bytes], Site, Host], None]) -> bool:
    """Starts step *number* and does *end* to it *after* so many seconds; whether it was still running."""
    words = host.command("env", "STOWAGE_PASSPHRASE_FILE=/run/phrase", "bash", f"{site.folder(host)}/run.sh", f"{number:02}")
    process = subprocess.Popen(
        words, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}, cwd="/", start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(after)
    running = process.poll() is None
    if running or end is cut:
        end(process, site, host)
    process.wait(20)
    return running


def subject(site: Site, number: int) -> Host:
    """The host that the step is killed on."""
    return {60: site.control_planes[1], 65: site.workers[0], 70: site.control_planes[1], 80: site.first, 50: site.first}.get(
        number, site.load_balancers[-1]
    )


@pytest.mark.rehearsal
@pytest.mark.parametrize("number", [step.number for step in STEPS if step.number not in (0, 90)])
def test_killed_and_run_again(victim: Site, number: int, say: Callable[[str], None]) -> None:
    site, host = victim, subject(victim, number)
    earlier = {step for _, step in site.said}
    site.walk([step.number for step in STEPS if step.number < number and f"{step.number:02}" not in earlier])
    whole = number >= 50  # the step changes the cluster, whose state is on several disks
    disks = site.control_planes + site.workers if whole else [host]
    others = [other for step in STEPS if step.number == number for other in site.of_step(step) if other is not host]
    before = site.control_planes[: site.control_planes.index(host)] if number == 70 else []
    for other in before:
        site.step(other, number)
    if number in (60, 65):
        site.hand_off(*others, host)
    site.save("kept", *disks)
    if whole:
        site.settle()
    start = time.monotonic()
    site.step(host, number)
    took = time.monotonic() - start
    wanted, units = alike(site.snapshot(host)), site.units(host)
    for point in range(POINTS + 1):
        site.restore("kept", *disks)
        if whole:
            site.settle()
        after = took * (point + 0.6) / (POINTS + 1)
        kill = cut if point == POINTS else killed
        running = interrupted(site, host, number, after, kill)
        say(
            f"{number}: {'power cut' if kill is cut else 'killed'} after {after:.1f} of {took:.1f} s{'' if running else ' (it was through)'}"
        )
        if kill is cut and number > 50:
            # Its own API server waits for an etcd that may still be a learner, until the step is run again.
            site.settle(but=host)
        site.step(host, number)
        changed = touched(wanted, alike(site.snapshot(host)))
        assert not changed, f"step {number} killed after {after:.1f} s: {sorted(changed)}"
        if kill is not cut:
            assert not touched(units, site.units(host)), f"step {number} killed after {after:.1f} s"
        said = site.step(host, number).stdout
        assert "nothing to change" in said, f"step {number} killed after {after:.1f} s: {said}"
    for other in others:
        if other not in before:
            site.step(other, number)
    if number == 50:
        site.hand_off()


@pytest.mark.rehearsal
def test_the_cluster_is_well_after_all_that(victim: Site) -> None:
    for host in victim.hosts:
        victim.step(host, 90)
