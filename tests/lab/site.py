"""A bundle on the hosts of a lab, and the operator who carries it there: copies folders and archives, runs steps, keeps the barriers.

The operator does what the runbook says and nothing more; whatever a step needs beyond that is the step's fault.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from generator import compiler, secrets
from generator.steps import STEPS, Step
from lab import base, payload
from lab.hosts import REPOSITORY, Host, Lab, Spec, within

PASSPHRASE = "canary of fifteen barges"
PASSWORD = b"k7Rm2wqX"  # of VRRP, where the inventory wants one
STEP_SECONDS = 400
# What may differ after a second run: logs, what runs inside the cluster, and what the programs themselves keep.
RESTLESS = (
    "var/log/",
    "var/lib/etcd",
    "var/lib/containerd/",
    "var/lib/kubelet/",
    "var/lib/systemd/",
    "var/cache/",
    "var/tmp/",
    "tmp/",
    "root/",
    "run/",
    "var/lib/lab-rhel/relabelled",
)


class Refused(base.LabError):
    """The inventory has errors; the message is what ``stowage check`` says."""


def read(folder: Path) -> dict[str, str]:
    """``host.env`` of a host folder."""
    pairs = (shlex.split(line)[0].partition("=") for line in (folder / "host.env").read_text().splitlines())
    return {name: value for name, _, value in pairs}


def compile_inventory(inventory: Path, out: Path) -> Path:
    """Compiles *inventory* below *out*, with made-up secrets; the bundle's folder.  Raises :class:`Refused`."""
    checked = compiler.check(inventory.name, inventory.read_bytes())
    if checked.refused() or checked.cluster is None:
        raise Refused("\n".join(f"{d.code}: {d.message}" for d in checked.diagnostics) + f"\n   help: stowage check {inventory}")
    known = dict.fromkeys(secrets.names(checked.cluster), PASSWORD)
    return compiler.compile_to(out, checked.cluster, known).path


@dataclass
class Site:
    """The bundle *bundle* on the running hosts of *lab*; ``env`` is each host's host.env."""

    lab: Lab
    bundle: Path
    inventory: Path
    env: dict[str, dict[str, str]]
    scratch: Path
    said: dict[tuple[str, str], str] = field(default_factory=dict)  # (host, step) -> what its last run said

    # -- who is who ----------------------------------------------------------------------------------------------------------------

    def host(self, name: str) -> Host:
        return self.lab.hosts[name]

    def where(self, **values: str) -> list[Host]:
        """The hosts whose host.env has these values, in the inventory's order."""
        return [self.host(name) for name, env in self.env.items() if all(env[key] == value for key, value in values.items())]

    @property
    def hosts(self) -> list[Host]:
        return [self.host(name) for name in self.env]

    @property
    def control_planes(self) -> list[Host]:
        return self.where(ROLE="control-plane")

    @property
    def workers(self) -> list[Host]:
        return self.where(ROLE="worker")

    @property
    def load_balancers(self) -> list[Host]:
        return self.where(LB="1")

    @property
    def first(self) -> Host:
        return self.where(FIRST="1")[0]

    @property
    def common(self) -> dict[str, str]:
        """host.env of the first control plane, for what is equal on all."""
        return self.env[self.first.name]

    @property
    def name(self) -> str:
        return self.common["ENDPOINT_NAME"]

    @property
    def port(self) -> int:
        return int(self.common["ENDPOINT_PORT"])

    @property
    def vips(self) -> list[str]:
        return self.common["VIPS"].split()

    @property
    def engine(self) -> str:
        """``nginx`` or ``ipvs``; empty where nothing balances."""
        return self.env[self.load_balancers[0].name]["LB_ENGINE"] if self.load_balancers else ""

    def address(self, host: Host) -> str:
        """The node address of *host*."""
        return self.env[host.name]["ADDRESSES"].split()[0].partition("/")[0]

    @property
    def var(self) -> str:
        """Where the scripts keep their state."""
        return f"/var/lib/stowage/{self.common['CLUSTER']}"

    def holders(self) -> list[Host]:
        """The hosts that carry the first VIP, asked of each kernel."""
        return [host for host in self.load_balancers if host.has(self.vips[0])]

    def ca(self) -> Path:
        """The certificate of the cluster's CA, a copy on this machine."""
        copy = self.scratch / "ca.crt"
        copy.write_bytes(self.first.path("/etc/kubernetes/pki/ca.crt").read_bytes())
        return copy

    # -- the operator --------------------------------------------------------------------------------------------------------------

    def folder(self, host: Host) -> str:
        """Where the operator has put the folder of *host*."""
        return f"/root/stowage/{host.name}"

    def carry(self, *hosts: Host, bundle: Path | None = None) -> None:
        """Copies each host's folder to it, with its payload, and verifies it as the runbook says."""
        for host in hosts or self.hosts:
            host.run("rm", "-rf", self.folder(host))
            host.take((bundle or self.bundle) / "hosts" / host.name, self.folder(host))
            host.run("sh", f"{self.folder(host)}/verify.sh")
            host.path("/run/phrase").write_text(PASSPHRASE + "\n")

    def step(
        self, host: Host, number: int | str, *options: str, check: bool | int = True, timeout: float = STEP_SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """Runs one step of *host* as the operator does, ``run.sh NN``."""
        words = ["bash", f"{self.folder(host)}/run.sh", f"{int(number):02}", *options]
        done = host.run(*words, check=check, timeout=timeout, env={"STOWAGE_PASSPHRASE_FILE": "/run/phrase"})
        self.said[host.name, f"{int(number):02}"] = done.stdout
        return done

    def ops(self, host: Host, script: str, *options: str, check: bool | int = True) -> subprocess.CompletedProcess[str]:
        """Runs a script of ``ops/`` on *host*."""
        return host.run(
            "bash",
            f"{self.folder(host)}/ops/{script}.sh",
            *options,
            check=check,
            timeout=STEP_SECONDS,
            env={"STOWAGE_PASSPHRASE_FILE": "/run/phrase"},
        )

    def of_step(self, step: Step) -> list[Host]:
        """The hosts of a row of ``generator.steps``."""
        return {
            "all": self.hosts, "kubernetes": self.where(KUBERNETES="1"), "load-balancers": self.load_balancers, "first": [self.first],
            "other": [host for host in self.control_planes if host is not self.first], "control-planes": self.control_planes, "workers": self.workers,
        }[step.hosts]  # fmt: skip

    def each(self, hosts: Iterable[Host], work: Callable[[Host], object], *, at_once: int = 3) -> None:
        """Does *work* on several hosts side by side, as several operators do; the first failure is raised when all are done."""
        with ThreadPoolExecutor(at_once) as pool:
            for result in [pool.submit(work, host) for host in hosts]:
                result.result()

    def walk(self, numbers: Sequence[int] = tuple(step.number for step in STEPS), *options: str) -> None:
        """All steps of *numbers* with their barriers: every host ends one before any starts the next."""
        for step in STEPS:
            if step.number not in numbers:
                continue
            hosts = self.of_step(step)
            self.each(hosts, lambda host, number=step.number: self.step(host, number, *options), at_once=1 if step.serial else 3)
            if step.number == 50 and not options:
                self.hand_off()
            if step.number == 80 and self.common["CNI"] == "none":
                self.own_network()

    def changed(self, change: Callable[[dict[str, Any]], None]) -> Path:
        """The bundle of the inventory as *change* leaves it, with payloads; later changes build on this one."""
        data = yaml.safe_load(self.inventory.read_text())
        change(data)
        folder = Path(tempfile.mkdtemp(dir=self.scratch))
        self.inventory = folder / "inventory.yaml"
        self.inventory.write_text(yaml.safe_dump(data, sort_keys=False))
        return filled(compile_inventory(self.inventory, folder / "out"))

    def upgrade(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Carries the changed bundle to the load balancers, one after the other, each through step 40."""
        bundle = self.changed(change)
        for host in self.load_balancers:
            self.carry(host, bundle=bundle)
            self.step(host, 40)

    def add(self, bundle: Path, name: str) -> Host:
        """The host *name*, which *bundle* has and this site has not yet; booted, its folder on a FAT stick, mounted read-only and noexec."""
        self.bundle = bundle
        self.env[name] = read(bundle / "hosts" / name)
        (spec,) = specs({name: self.env[name]})
        host = self.lab.add(spec, {self.lab.stick(bundle / "hosts" / name): f"/root/stowage/{name}"})
        host.run("sh", f"{self.folder(host)}/verify.sh")
        host.path("/run/phrase").write_text(PASSPHRASE + "\n")
        return host

    def reorder(self, first: str) -> None:
        """Carries the bundle of the inventory with *first* as the first control plane to every host."""

        def move(data: dict[str, Any]) -> None:
            data["hosts"].sort(key=lambda host: host["name"] != first)

        self.bundle = self.changed(move)
        for host in self.hosts:
            self.env[host.name] = read(self.bundle / "hosts" / host.name)
            if not host.binds:  # its folder is on a stick, which stays as it is
                self.carry(host)

    def save(self, name: str, *hosts: Host) -> None:
        """Keeps the disks of *hosts* (all) under *name*: power off, copy, power on."""
        for host in hosts or self.hosts:
            host.power_off()
            host.save(name)
        self.boot(*hosts)

    def restore(self, name: str, *hosts: Host) -> None:
        """Hosts (all) as they were at ``save``, freshly booted."""
        for host in hosts or self.hosts:
            host.restore(name)
        self.boot(*hosts)

    def boot(self, *hosts: Host) -> None:
        """Switches hosts (all) on and waits until they are up."""
        for host in hosts or self.hosts:
            host.power_on()
        for host in hosts or self.hosts:
            host.booted()
            host.path("/run/phrase").write_text(PASSPHRASE + "\n")

    def own_network(self) -> None:
        """What the user of `cni: none` brings: here, flannel as the example has it."""
        manifest = (REPOSITORY / "out/example/hosts/master-1/manifests/80-flannel.yaml").read_text()
        archive = payload.images(sorted(set(re.findall(r"""^ *image: "?([^"\s]+)"?$""", manifest, re.MULTILINE))))
        for host in self.where(RUNTIME="containerd"):
            host.path("/root/network.tar").write_bytes(archive)
            host.run("ctr", "--namespace=k8s.io", "images", "import", "/root/network.tar")
        self.first.path("/root/network.yaml").write_text(manifest)
        kubectl = ("kubectl", "--kubeconfig=/etc/kubernetes/admin.conf")
        self.first.run(*kubectl, "apply", "--filename=/root/network.yaml")
        within(60, "ready node", lambda: " Ready" in self.first.run(*kubectl, "get", "nodes").stdout, 1)

    def hand_off(self, *hosts: Host, source: Host | None = None) -> None:
        """Copies the archives of *source* (the first control plane) to the hosts that need them: all, or *hosts*."""
        source = source or self.first
        for host in hosts or [host for host in self.control_planes + self.workers if host is not source]:
            kind = "control-plane" if host in self.control_planes else "worker"
            path = f"{self.var}/handoff/{kind}.handoff"
            if source.path(path).exists():
                host.take(source.path(path), path)

    # -- what is there -------------------------------------------------------------------------------------------------------------

    def snapshot(self, host: Host, *without: str) -> dict[str, str]:
        """
        Every file that *host* has beyond its base, as one line each: mode, owner, and the digest of its bytes or the target of its link.

        What is :data:`RESTLESS`, and paths that begin as *without*, are left out.
        """
        upper = self.lab.path(f"/mnt/{host.name}/upper")
        found = {}
        for folder, _, names in os.walk(upper):
            for name in names:
                path = Path(folder, name)
                relative = str(path.relative_to(upper))
                if relative.startswith((*RESTLESS, *without)):
                    continue
                what = looks(path)
                if what and what != next(
                    filter(None, (looks(layer / relative) for layer in (*reversed(host.spec.layers), base.root()))), ""
                ):
                    found[relative] = what
        return found

    def units(self, host: Host) -> dict[str, str]:
        """Each service, socket, timer and swap of *host* with its enabled and active state; those that D-Bus or a clock starts are left out."""
        lines = host.sh("systemctl list-unit-files --no-legend --no-pager --type=service,socket,timer,swap").splitlines()
        states = {line.split()[0]: f"{line.split()[1]} inactive" for line in lines if line}
        shown = host.sh("systemctl show --property=Id,ActiveState --type=service,socket,timer,swap '*'")  # those that are loaded
        for block in shown.split("\n\n"):
            pairs = dict(line.partition("=")[::2] for line in block.splitlines())
            if "Id" in pairs and not pairs["Id"].startswith(("user@", "user-runtime")):
                states[pairs["Id"]] = f"{states.get(pairs['Id'], '-').split()[0]} {pairs.get('ActiveState', '')}"
        return {
            name: words
            for name, words in states.items()
            if words != "- inactive" and not (name.startswith("systemd-") and words.startswith("static"))
        }

    def well(self, but: Host | None = None) -> bool:
        """One holder, every API server that is to run ready, and the VIP serves; that of *but*, which a step has yet to finish, need not."""
        others = [host for host in self.control_planes if host is not but]
        running = [host for host in others if host.path("/etc/kubernetes/manifests/kube-apiserver.yaml").exists()]
        if self.vips and len(self.holders()) != 1:
            return False
        return all(map(self.ready, running)) and (not running or not self.vips or self.answers(self.vips[0], self.port))

    def ready(self, host: Host) -> bool:
        """Whether the API server of *host* answers ``/readyz`` with 200, asked from the client machine."""
        return self.answers(self.address(host), int(self.common["API_PORT"]))

    def answers(self, address: str, port: int) -> bool:
        """Whether ``/readyz`` at *address* gives 200."""
        where = f"[{address}]" if ":" in address else address
        words = self.lab.client(
            "curl", "-gsk", "--max-time", "2", "-o", "/dev/null", "-w", "%{http_code}", f"https://{where}:{port}/readyz"
        )
        return subprocess.run(words, capture_output=True, text=True, check=False).stdout == "200"

    def settle(self, seconds: float = 60, but: Host | None = None) -> None:
        """Waits until the site is well."""
        within(seconds, "well site (one holder, every API server ready)", lambda: self.well(but), 0.3)


def looks(path: Path) -> str:
    """Mode, owner and content of *path*; empty when there is none."""
    try:
        status = path.lstat()
        if stat.S_ISREG(status.st_mode):
            what = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        elif stat.S_ISLNK(status.st_mode):
            what = f"-> {path.readlink()}"
        else:
            what = "gone"  # a whiteout
    except (FileNotFoundError, NotADirectoryError):
        return ""
    return f"{stat.S_IMODE(status.st_mode):04o} {status.st_uid}:{status.st_gid} {what}"


def specs(env: Mapping[str, Mapping[str, str]]) -> list[Spec]:
    """The lab's hosts for these host.env."""
    return [
        Spec(name, values["INTERFACE"], tuple(values["ADDRESSES"].split()), tuple(values["GATEWAY"].split()), layers(values))
        for name, values in env.items()
    ]


def layers(env: Mapping[str, str]) -> tuple[Path, ...]:
    """What lies above the base on a host that is no Debian 12: the looks of its release, and its package manager's stand-ins."""
    if env["OS_FAMILY"] == "debian":
        return ()
    from lab import rhel

    name = f"{env['OS_ID']}-{env['OS_VERSION']}"
    with base.locked("layers"):
        layer = base.CACHE / "layers" / f"{base.root().name}-{name}-{rhel.DIGEST}"
        if not layer.exists():
            new = layer.with_suffix(".new")
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(parents=True)
            rhel.lay(base.root(), new, env["OS_ID"], env["OS_VERSION"])
            new.rename(layer)
    return (layer,)


def clients(env: Mapping[str, Mapping[str, str]]) -> list[str]:
    """A free address in each network that a VIP is in (else, of the first host), for the client machine."""
    first = next(iter(env.values()))
    used = {
        word.partition("/")[0]
        for values in env.values()
        for word in values["ADDRESSES"].split() + values["VIPS"].split() + values["GATEWAY"].split()
    }
    found = []
    for address in first["VIPS"].split() or first["ADDRESSES"].split():
        ip = ipaddress.ip_address(address.partition("/")[0])
        networks = [ipaddress.ip_interface(word).network for values in env.values() for word in values["ADDRESSES"].split()]
        network = next(network for network in networks if ip in network)
        top = int(network.network_address) + min(network.num_addresses, 2**16) - 2
        free = next(ip for ip in (ipaddress.ip_address(top - n) for n in range(1000)) if str(ip) not in used)
        found.append(f"{free}/{network.prefixlen}")
    return found


def names(bundle: Path) -> list[str]:
    """The hosts of *bundle*, in the inventory's order."""
    return [host["name"] for host in json.loads((bundle / "manifest.json").read_text())["hosts"]]


def filled(bundle: Path) -> Path:
    """*bundle* with a payload in each host's folder."""
    for name in names(bundle):
        folder = bundle / "hosts" / name
        payload.fill(folder / "payload", read(folder), (folder / "images.txt").read_text().split())
    return bundle


def built(inventory: Path, scratch: Path) -> Path:
    """The bundle of *inventory* in *scratch* with the secrets that it names and a payload that somebody filled by hand: the hosts hand over."""
    return filled(compile_inventory(inventory, scratch / "out"))


@contextmanager
def opened(inventory: Path, build: Callable[[Path, Path], Path] = built) -> Iterator[Site]:
    """
    A lab with the hosts of *inventory*, just booted, and the bundle that *build* makes of it carried to them.

    Raises :class:`Refused` for an inventory with errors, :class:`lab.base.LabError` where the lab cannot be had.
    """
    base.root()
    with tempfile.TemporaryDirectory(prefix="stowage-site-") as folder:
        scratch = Path(folder)
        scratch.chmod(0o755)
        bundle = build(inventory, scratch)
        env = {name: read(bundle / "hosts" / name) for name in names(bundle)}
        with Lab(specs(env), clients(env)) as lab:
            site = Site(lab, bundle, inventory, env, scratch)
            site.carry()
            yield site
