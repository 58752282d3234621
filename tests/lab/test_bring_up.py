"""A bundle brings its hosts up as the runbook says, changes nothing the second time, and takes back what it did.

The tests of this file follow each other on the session's site: planned, brought up and looked at, run again, rolled back, grown.
"""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
from conftest import wants

from generator.steps import STEPS
from lab.hosts import Host, within
from lab.site import Site

NUMBERS = tuple(step.number for step in STEPS)
FOUR = {"etcd.yaml", "kube-apiserver.yaml", "kube-controller-manager.yaml", "kube-scheduler.yaml"}
CERTIFICATES = "--cacert=/etc/kubernetes/pki/etcd/ca.crt --cert=/etc/kubernetes/pki/etcd/healthcheck-client.crt --key=/etc/kubernetes/pki/etcd/healthcheck-client.key"


def etcd(host: Host, words: str) -> str:
    """What etcdctl says on *host*, against its own member."""
    return host.sh(f"ETCDCTL_API=3 /opt/lab/bin/etcdctl --endpoints=https://127.0.0.1:2379 {CERTIFICATES} {words}")


def touched(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """The paths that differ between two snapshots."""
    return {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}


def state(site: Site) -> dict[str, tuple[dict[str, str], dict[str, str]]]:
    """Files and units of every host."""
    return {host.name: (site.snapshot(host), site.units(host)) for host in site.hosts}


def same(before: dict[str, Any], after: dict[str, Any]) -> None:
    for name, was in before.items():
        for kind, old, new in zip(("files", "units"), was, after[name], strict=True):
            assert not (changed := touched(old, new)), f"{kind} of {name}: " + "; ".join(
                f"{p}: {old.get(p)} -> {new.get(p)}" for p in sorted(changed)
            )


def test_every_step_says_what_it_did_and_what_comes_next(up: Site) -> None:
    for (host, step), said in up.said.items():
        last = said.rstrip().splitlines()[-1]
        assert re.match(rf"{step}-[a-z-]+: .*Next: ", last), f"{host} {step}: {last}"
        assert "warning: no " not in said, f"{host} {step}: {said}"
    assert all("checks passed" in up.said[host.name, "90"] for host in up.hosts)


def test_one_host_holds_the_vip(up: Site) -> None:
    if not up.vips:
        pytest.skip("the inventory has no VIP")
    assert len(up.holders()) == 1
    for vip in up.vips:
        assert [host.name for host in up.load_balancers if host.has(vip)] == [up.holders()[0].name]


def curl(site: Site, name: str, address: str, port: int) -> subprocess.CompletedProcess[str]:
    """``/readyz`` from the client machine, with the certificate verified for *name*."""
    where = f"[{address}]" if ":" in address else address
    words = [
        "curl",
        "-sS",
        "--max-time",
        "5",
        "--cacert",
        str(site.ca()),
        "--resolve",
        f"{name}:{port}:{where}",
        "-w",
        "%{http_code}",
        f"https://{name}:{port}/readyz",
    ]
    return subprocess.run(site.lab.client(*words), capture_output=True, text=True, check=False)


def test_every_api_server_answers_through_every_path(up: Site) -> None:
    """From a seventh machine: each API server by its own address, and the endpoint's name through each load balancer and the VIP."""
    paths = [("kubernetes", up.address(host), int(up.common["API_PORT"])) for host in up.control_planes]
    if up.vips:
        paths += [(up.name, vip, up.port) for vip in up.vips]
    if up.engine == "nginx":
        paths += [(up.name, up.address(host), up.port) for host in up.load_balancers]
    for name, address, port in paths:
        done = curl(up, name, address, port)
        assert done.stdout.endswith("200"), f"{name} at {address}:{port}: {done.stdout} {done.stderr}"


def test_etcd_has_all_members_and_its_manifests_list_them(up: Site) -> None:
    names = {host.name for host in up.control_planes}
    members = [line.split(", ") for line in etcd(up.first, "member list").splitlines()]
    assert {member[2] for member in members} == names
    assert {(member[1], member[5]) for member in members} == {("started", "false")}
    assert etcd(up.first, "endpoint health --cluster").count("is healthy") == len(names)
    for host in up.control_planes:
        files = {path.name for path in host.path("/etc/kubernetes/manifests").iterdir() if not path.name.startswith(".")}
        assert files == FOUR
        running = [words for words in processes(host) if words and words[0] == "etcd" and f"--name={host.name}" in words]
        assert len(running) == 1
        (listed,) = [word for word in running[0] if word.startswith("--initial-cluster=")]
        assert {pair.partition("=")[0] for pair in listed.partition("=")[2].split(",")} == names
        assert not [word for word in running[0] if word.startswith("--initial-cluster-state")]


def processes(host: Host) -> list[list[str]]:
    """The command lines on *host*."""
    return [line.split() for line in host.sh("ps -ww -e -o args").splitlines()]


def test_a_real_kubeadm_accepts_the_files(up: Site) -> None:
    """Where this machine has one, it judges what the stand-in has taken; its discovery file is named, not read."""
    wants("kubeadm")
    for host in up.control_planes + up.workers:
        for file in sorted((up.bundle / "hosts" / host.name / "kubeadm").glob("*.yaml")):
            text = file.read_text().replace("/etc/kubernetes/stowage-discovery.conf", str(up.ca()))
            copy = up.scratch / "kubeadm.yaml"
            copy.write_text(text)
            done = subprocess.run(["kubeadm", "config", "validate", "--config", copy], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr


def test_no_key_and_no_archive_lies_about(up: Site) -> None:
    for host in up.hosts:
        assert not host.sh(f"find {up.var} /run -name '*.handoff' -o -name 'stowage-discovery.conf' 2>/dev/null | cat").strip()
    for host in up.workers:
        assert not host.sh("find /etc/kubernetes -name '*.key'").strip()


def test_no_secret_is_in_a_log(up: Site) -> None:
    from lab.site import PASSPHRASE, PASSWORD

    for host in up.hosts:
        text = host.sh("cat /var/log/stowage/*; journalctl -q --no-pager | cat")
        assert PASSPHRASE not in text
        assert "PRIVATE KEY" not in text
        assert not re.search(r"\b[a-z0-9]{6}\.[a-z0-9]{16}\b", text)
        assert PASSWORD.decode() not in text
        assert {line.split()[0] for line in host.sh("stat -c '%a %n' /var/log/stowage/*").splitlines()} == {"600"}


def test_a_second_run_changes_nothing(up: Site) -> None:
    before = state(up)
    up.said.clear()
    up.walk(NUMBERS)
    for (host, step), said in up.said.items():
        last = said.rstrip().splitlines()[-1]
        assert re.search(r"nothing to change|nothing was changed|checks passed", last), f"{host} {step}: {last}"
    same(before, state(up))


def test_rollback_of_70_restores_the_manifest(up: Site) -> None:
    host = up.control_planes[-1]
    manifest = host.path("/etc/kubernetes/manifests/etcd.yaml").read_bytes()
    before = up.snapshot(host), up.units(host)
    up.step(host, 70, "--rollback")
    kept = host.path("/etc/kubernetes/manifests/etcd.yaml").read_bytes()
    if len(up.control_planes) > 1:  # kubeadm lists a single member as step 70 does
        assert kept != manifest
        assert b"--initial-cluster-state=existing" in kept
    up.step(host, 70)
    assert host.path("/etc/kubernetes/manifests/etcd.yaml").read_bytes() == manifest
    same({host.name: before}, {host.name: (up.snapshot(host), up.units(host))})


def test_rollback_of_40_takes_the_load_balancer_off_and_40_brings_it_back(up: Site) -> None:
    if not up.vips:
        pytest.skip("the inventory has no load balancer")
    (holder,) = up.holders()
    before = up.snapshot(holder), up.units(holder)
    # A connection through nginx, as the kubelets have theirs: the RHEL family's nginx waits for it, is killed and "failed".
    held = subprocess.Popen([*up.lab.client("bash", "-c", f"exec 3<>/dev/tcp/{up.address(holder)}/{up.port}; read -rt 60 -u 3")])
    try:
        up.step(holder, 40, "--rollback")
    finally:
        held.terminate()
        held.wait(10)
    assert not holder.has(up.vips[0])
    units = up.units(holder)
    assert units["keepalived.service"].endswith("inactive")
    assert "stowage-watcher.service" not in units
    assert not holder.path("/etc/systemd/system/keepalived.service.d/10-stowage.conf").exists()
    if len(up.load_balancers) > 1:
        within(10, "another holder", lambda: len(up.holders()) == 1)
    up.step(holder, 40)
    within(10, "one holder", lambda: len(up.holders()) == 1)
    same({holder.name: before}, {holder.name: (up.snapshot(holder), up.units(holder))})


@pytest.mark.rehearsal
def test_steps_10_to_40_are_rolled_back_on_hosts_that_never_joined(up: Site, say: Any) -> None:
    """Two more hosts of each kind would be dear: the last load balancer and the last worker of a fresh lab of the same inventory."""
    from lab import site

    with site.opened(up.inventory) as fresh:
        for host in {host.name: host for host in (fresh.load_balancers or fresh.control_planes)[-1:] + fresh.workers[-1:]}.values():
            steps = [step.number for step in STEPS if step.number in (10, 20, 30, 40) and host in fresh.of_step(step)]
            had = packages(host)
            before: dict[int, tuple[dict[str, str], dict[str, str]]] = {}
            for number in steps:
                before[number] = fresh.snapshot(host, "var/lib/stowage/"), fresh.units(host)
                fresh.step(host, number)
            for number in reversed(steps):
                say(f"{host.name}: rollback of {number}")
                fresh.step(host, number, "--rollback")
                if number in (20, 40):
                    same({host.name: before[number]}, {host.name: (fresh.snapshot(host, "var/lib/stowage/"), fresh.units(host))})
                if number == 30:
                    assert not host.path("/var/lib/lab-docker/images").exists() or not list(
                        host.path("/var/lib/lab-docker/images").iterdir()
                    )
            assert packages(host) == had


def packages(host: Host) -> set[str]:
    """What the package manager of *host* has installed."""
    return set(
        host.sh(
            "if command -v dpkg-query >/dev/null; then dpkg-query -W -f='${db:Status-Status} ${Package}\\n' | sed -n 's/^installed //p'; else rpm -qa --qf '%{NAME}\\n'; fi"
        ).split()
    )


def test_a_worker_joins_a_day_later(up: Site) -> None:
    """From a FAT stick, read-only and noexec. With the archive of the first day its token is refused; ops/handoff.sh makes a new one."""
    if not up.workers:
        pytest.skip("the inventory has no worker")
    model = up.workers[-1]

    def one_more(data: dict[str, Any]) -> None:
        entry = dict(next(host for host in data["hosts"] if host["name"] == model.name))
        used = {word.partition("/")[0] for values in up.env.values() for word in values["ADDRESSES"].split()} | set(up.vips)
        entry |= {"name": "late", "address": free(up.env[model.name]["ADDRESSES"], used)}
        data["hosts"].append(entry)

    bundle = up.changed(one_more)
    late = up.add(bundle, "late")
    assert late.run("touch", f"{up.folder(late)}/x", check=False).returncode
    assert "ermission denied" in late.run(f"{up.folder(late)}/run.sh", check=False).stdout
    for number in (0, 10, 20, 30):
        up.step(late, number)
    late.take(up.scratch / "old.handoff", f"{up.var}/handoff/worker.handoff")
    before = up.snapshot(late)
    said = up.step(late, 65, check=1).stdout
    assert "has expired" in said
    assert "ops/handoff.sh" in said
    assert not touched(before, up.snapshot(late))
    up.carry(up.first)
    up.ops(up.first, "handoff")
    up.hand_off(late)
    up.step(late, 65)
    up.carry(*(host for host in up.hosts if host not in (up.first, late)))
    for host in up.hosts:  # everybody learns of it
        up.step(host, 20)
    up.step(up.first, 80)  # removes the archives again
    for host in up.hosts:
        up.step(host, 90)


def free(addresses: str, used: set[str]) -> str | list[str]:
    """Addresses like these, with prefix, that nobody has."""
    import ipaddress

    found = []
    for word in addresses.split():
        network = ipaddress.ip_interface(word).network
        ip = next(ip for ip in (network.network_address + n for n in range(40, 5000)) if str(ip) not in used)
        found.append(f"{ip}/{network.prefixlen}")
    return found[0] if len(found) == 1 else found


def test_every_folder_is_the_one_that_was_carried(up: Site) -> None:
    """Nothing is ever written beside the bundle."""
    for host in up.hosts:
        carried = host.path(up.folder(host))
        built = up.bundle / "hosts" / host.name
        assert {path.relative_to(carried) for path in carried.rglob("*")} == {path.relative_to(built) for path in built.rglob("*")}
