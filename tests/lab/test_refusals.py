"""A plan changes nothing; and what a step finds wrong, it says before it changes anything."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lab.hosts import Host
from lab.site import Site
from lab.test_bring_up import same, state

OURS = "var/lib/stowage/"  # lock, empty directories


@contextmanager
def unchanged(site: Site, host: Host) -> Iterator[None]:
    """Files and units of *host* are the same afterwards."""
    before = site.snapshot(host, OURS), site.units(host)
    yield
    same({host.name: before}, {host.name: (site.snapshot(host, OURS), site.units(host))})


def refused(site: Site, host: Host, number: int, message: str, *, folder: str = "") -> str:
    """Step *number* of *host* ends with 1 and a message that *message* (a pattern) finds, and changes nothing."""
    with unchanged(site, host):
        said = host.run("bash", f"{folder or site.folder(host)}/run.sh", f"{number:02}", check=1).stdout
    assert re.search(message, said), said
    assert "Traceback" not in said
    return said


def test_a_plan_changes_nothing(hosts: Site) -> None:
    before = state(hosts)
    for host in hosts.hosts:
        said = host.run("bash", f"{hosts.folder(host)}/run.sh", "--plan").stdout
        assert "nothing was changed" in said
    same(before, state(hosts))


def test_the_folder_of_another_host(prepared: Site) -> None:
    mine, other = prepared.hosts[-1], prepared.hosts[-2]
    mine.take(prepared.bundle / "hosts" / other.name, "/root/wrong")
    said = refused(prepared, mine, 20, rf"this is not {other.name}", folder="/root/wrong")
    assert "remedy: " in said
    mine.run("rm", "-rf", "/root/wrong")


@pytest.mark.parametrize("file", ["host.env", "hosts.block", "scripts/lib.sh", "files.tsv"])
def test_a_tampered_file(prepared: Site, file: str) -> None:
    host = prepared.hosts[-1]
    path = host.path(f"{prepared.folder(host)}/{file}")
    kept = path.read_bytes()
    path.write_bytes(kept + b"\n")
    try:
        refused(prepared, host, 20, re.escape(file))
    finally:
        path.write_bytes(kept)


def test_a_payload_file_that_is_missing_or_flipped(prepared: Site) -> None:
    host = prepared.hosts[-1]
    host.run(
        "sh",
        "-c",
        "apt-mark unhold kubelet kubeadm kubectl; dpkg --purge kubectl"
        if prepared.env[host.name]["OS_FAMILY"] == "debian"
        else "rpm -e kubectl",
    )
    packages = host.path(f"{prepared.folder(host)}/payload/packages")
    file = next(path for path in sorted(packages.iterdir()) if path.name.startswith("kubectl"))
    kept = file.read_bytes()
    try:
        file.unlink()
        refused(prepared, host, 10, re.escape(file.name))
        file.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
        refused(prepared, host, 10, re.escape(file.name))
    finally:
        file.write_bytes(kept)
    prepared.step(host, 10)


def test_an_interface_that_is_not_there(prepared: Site) -> None:
    host = prepared.hosts[-1]
    name = host.spec.interface
    host.sh(f"ip link set {name} down; ip link set {name} name other0")
    try:
        refused(prepared, host, 20, rf"{name} carries none of")
        with unchanged(prepared, host):
            said = prepared.step(host, 0, check=1).stdout
        assert f"there is no interface {name} (there are: lo other0)" in said
    finally:
        host.sh(f"ip link set other0 down; ip link set other0 name {name}; ip link set {name} up; systemctl restart systemd-networkd")
        host.booted()


def balancer(site: Site) -> Host:
    if site.engine != "nginx":
        pytest.skip("the inventory has no nginx")
    return site.load_balancers[-1]


def test_a_busy_port(prepared: Site) -> None:
    host = balancer(prepared)
    port = prepared.port
    listener = f"import socket, time; s = socket.socket(socket.AF_INET6); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(('::', {port})); s.listen(); time.sleep(60)"
    host.sh(
        f'systemd-run -q --unit=busy /opt/lab/bin/python3 -c "{listener}"; for i in $(seq 50); do ss -Hltn | grep -q :{port} && break; sleep 0.1; done'
    )
    try:
        refused(prepared, host, 40, rf"TCP port {port} is held by .*python3")
    finally:
        host.run("systemctl", "stop", "busy")


def test_a_vip_that_another_machine_has(prepared: Site) -> None:
    host = balancer(prepared)
    vip = prepared.vips[0]
    prepared.lab.net("address", "add", vip, "dev", "lab")
    try:
        refused(prepared, host, 40, rf"{vip} is answered by [0-9a-f:]+, which is no load balancer of this cluster")
    finally:
        prepared.lab.net("address", "delete", f"{vip}/{128 if ':' in vip else 32}", "dev", "lab")
        host.sh("ip neigh flush all")


@pytest.mark.parametrize("number", [20, 40])
def test_a_read_only_etc(prepared: Site, number: int) -> None:
    host = balancer(prepared)
    change(host, prepared)
    host.run("mount", "--bind", "/etc", "/etc")
    host.run("mount", "-o", "remount,bind,ro", "/etc")
    try:
        refused(prepared, host, number, r"[Rr]ead-only")
    finally:
        host.run("umount", "/etc")
        prepared.step(host, 20)


def change(host: Host, site: Site) -> None:
    """Gives step 20 something to do."""
    site.step(host, 20, "--rollback")


@pytest.mark.parametrize("number", [20, 40])
def test_a_full_disk(prepared: Site, number: int) -> None:
    host = balancer(prepared)
    change(host, prepared)
    host.run("true")
    prepared.lab.fill()
    try:
        refused(prepared, host, number, r"[Nn]o space left|disk is full")
    finally:
        prepared.lab.empty()
        prepared.step(host, 20)


def test_a_broken_configuration_never_replaces_what_runs(prepared: Site) -> None:
    """A bundle whose nginx.conf nginx refuses: step 40 says so, puts back what was there, and starts nothing."""
    host = balancer(prepared)
    folder = prepared.folder(host)
    host.sh(
        f"cp -a {folder} /root/broken; cd /root/broken; echo 'garbage here;' >>rootfs/etc/nginx/nginx.conf; rm -f SHA256SUMS.new; "
        "grep -v ' rootfs/etc/nginx/nginx.conf$' SHA256SUMS >s; sha256sum rootfs/etc/nginx/nginx.conf >>s; LC_ALL=C sort -k 2 s >SHA256SUMS; rm s"
    )
    said = refused(prepared, host, 40, r"does not pass its test", folder="/root/broken")
    assert "garbage" in said
    host.run("rm", "-rf", "/root/broken")
