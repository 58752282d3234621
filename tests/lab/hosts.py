"""Hosts of the lab: systemd-nspawn containers of the base, each with a real systemd, on one bridge.

``Lab`` is one private PID, mount and network namespace. Its first process, the keeper, dies with the process that made the lab (also by
SIGKILL), and with it every host, mount, bridge and running program: nothing has to be found and cleaned up by name but empty cgroups.
The lab's own network namespace is the router between the hosts' networks and the machine that clients run on.

``Host.run`` runs a command on a host, ``Host.path`` is one of its files, ``Lab.client`` a command on the client machine. A host is booted,
cut off (``dark``), powered off without warning and booted again; what it wrote stays until the lab ends.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from lab import base

LAB = Path(__file__).resolve().parent
REPOSITORY = LAB.parent.parent
BOOT_SECONDS = 60
# The machine's own view of the lab's files is /proc/KEEPER/root; nothing is mounted where the machine sees it.
TOP = Path("/mnt")

KEEPER = r"""
set -e
mount -t tmpfs -o mode=755 tmpfs /mnt
mount -t tmpfs -o mode=755 tmpfs /run
mount -t cgroup2 none /sys/fs/cgroup
ip link set lo up
ip link add name lab type bridge forward_delay 0
ip link set lab up
echo 1 >/proc/sys/net/ipv4/ip_forward
echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
echo up
while :; do read -r -t 3600 _ || :; done
"""

# What a kernel module would bring, where the lab's kernel has none: modprobe is a stand-in, and its modules' directories and sysctls are files.
KERNEL = r"""
set -e
mount -o remount,rw /sys
mkdir /sys/module
mount -t tmpfs -o mode=755 tmpfs /sys/module
mount -o remount,bind,ro /sys
for known; do mkdir "/sys/module/$known"; done
if [ ! -e /proc/sys/net/bridge ]; then
    mkdir -p /run/lab/net
    mount --bind /proc/sys/net /run/lab/net
    mount -t tmpfs -o mode=755 tmpfs /proc/sys/net
    for known in /run/lab/net/*; do
        if [ -d "$known" ]; then mkdir "/proc/sys/net/${known##*/}"; else : >"/proc/sys/net/${known##*/}"; fi
        mount --bind "$known" "/proc/sys/net/${known##*/}"
    done
    umount /run/lab/net
    rmdir /sys/module/br_netfilter 2>/dev/null || :
fi
"""

CLEAR = r"""
mount -t cgroup2 none /sys/fs/cgroup
cd /sys/fs/cgroup
for lab in stowage-lab-*; do
    [ -d "$lab" ] || continue
    maker=${lab#stowage-lab-}; maker=${maker%%-*}
    if [ "$lab" = "$1" ] || [ ! -d "/proc/$maker" ]; then find "$lab" -depth -type d -exec rmdir {} +; fi
done
"""

MODPROBE = r"""#!/bin/sh
# The lab's modprobe: the kernel is the machine's, so a module is "loaded" when its directory and its sysctls are there.
dry='' quiet='' ; while :; do case $1 in -n) dry=1 ;; -q) quiet=1 ;; -*) echo "modprobe stand-in: $1" >&2; exit 1 ;; *) break ;; esac; shift; done
for module; do
    case $module in
        overlay | br_netfilter | ip_vs | ip_vs_rr | ip_vs_wrr | ip_vs_lc | ip_vs_wlc | ip_vs_sh | nf_conntrack | ipip | wireguard | vxlan | nf_tables) ;;
        *) [ "$quiet" ] || echo "modprobe: FATAL: Module $module not found in directory /lib/modules/$(uname -r)" >&2; exit 1 ;;
    esac
    [ -z "$dry" ] || continue
    mkdir -p "/sys/module/$module"
    if [ "$module" = br_netfilter ] && [ ! -e /proc/sys/net/bridge ]; then
        mkdir /proc/sys/net/bridge
        for name in bridge-nf-call-iptables bridge-nf-call-ip6tables; do echo 0 >/proc/sys/net/bridge/$name; done
    fi
done
"""


@dataclass(frozen=True)
class Spec:
    """One host as the inventory has it; *addresses* with prefix, *gateways* may be empty, *layers* lie above the base, the last one on top."""

    name: str
    interface: str
    addresses: tuple[str, ...]
    gateways: tuple[str, ...] = ()
    layers: tuple[Path, ...] = ()


class FailedError(AssertionError):
    """A command on a host ended otherwise than it had to; the message holds its output."""


def within(seconds: float, what: str, true: Callable[[], object], every: float = 0.05) -> None:
    """Waits until *true* is; fails after *seconds*."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise FailedError(f"no {what} within {seconds} s")
        time.sleep(every)


def children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


@dataclass
class Host:
    """A host of *lab*; ``number`` makes its MAC and the names of its link."""

    lab: Lab
    spec: Spec
    number: int
    leader: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    binds: dict[str, str] = field(
        default_factory=dict
    )  # paths of the lab's mount namespace: where this host sees them from its next boot on

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def link(self) -> str:
        """The outer end of this host's cable, a port of the bridge."""
        return f"port{self.number}"

    # -- power ---------------------------------------------------------------------------------------------------------------------

    def lay(self) -> None:
        """Makes this host's file system: what it writes goes into a directory of its own above the base and its layers."""
        own = self.lab.path(TOP / self.name)
        for name in ("upper", "work", "root", "containerd"):
            (own / name).mkdir(parents=True)
        upper = own / "upper"
        for path, text, mode in (
            ("etc/hostname", f"{self.name}\n", 0o644),
            ("etc/machine-id", f"{self.number:032x}\n", 0o444),
            ("usr/sbin/modprobe", MODPROBE, 0o755),
            ("etc/systemd/network/10-lab.network", self._network(), 0o644),
        ):
            file = upper / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            file.chmod(mode)
        self._mount()

    def _mount(self) -> None:
        lower = ":".join(str(layer) for layer in (*reversed(self.spec.layers), base.root()))
        inner = TOP / self.name
        self.lab.do(
            "mount", "-t", "overlay", "overlay", "-o", f"lowerdir={lower},upperdir={inner}/upper,workdir={inner}/work", f"{inner}/root"
        )

    def save(self, name: str) -> None:
        """Keeps the disk as it is under *name*; the power has to be off."""
        assert self.process is None
        inner = TOP / self.name
        self.lab.do("sh", "-ec", f"rm -rf {inner}/{name}; mkdir {inner}/{name}; cp -a {inner}/upper {inner}/containerd {inner}/{name}/")

    def restore(self, name: str) -> None:
        """Makes the disk what it was at ``save``, whatever runs; the power is off afterwards."""
        self.power_off()
        inner = TOP / self.name
        self.lab.do("umount", f"{inner}/root")
        self.lab.do("sh", "-ec", f"cd {inner}; rm -rf upper work containerd; mkdir work; cp -a {name}/upper {name}/containerd .")
        self._mount()

    def _network(self) -> str:
        lines = [f"[Match]\nName={self.spec.interface}\n\n[Network]\nIPv6AcceptRA=no\nLinkLocalAddressing=ipv6"]
        lines += [f"Address={address}" for address in self.spec.addresses]
        lines += [f"Gateway={gateway}" for gateway in self.spec.gateways]
        return "\n".join(lines) + "\n"

    def power_on(self) -> None:
        """Boots, and returns as soon as there is a first process; ``booted`` waits for the rest."""
        cgroup = f"/sys/fs/cgroup/{self.lab.name}/{self.name}"
        words = [
            "systemd-nspawn", "--quiet", "--boot", "--settings=no", "--register=no", "--keep-unit", "--private-network", "--link-journal=no", "--resolv-conf=off",
            "--timezone=off", "--console=pipe", f"--directory={TOP}/{self.name}/root", f"--machine={self.name}",
            f"--bind={TOP}/{self.name}/containerd:/var/lib/containerd",
            *(f"--bind={source}:{target}" for source, target in self.binds.items()), *(f"--bind-ro={source}:{target}" for source, target in self.lab.binds.items()),
        ]  # fmt: skip
        script = f'mkdir -p {cgroup}; echo $$ >{cgroup}/cgroup.procs; exec "$@"'
        environment = {"PATH": os.environ["PATH"], "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1", "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network"}
        log = self.lab.path(TOP / self.name / "console").open("ab")
        with log:
            self.process = subprocess.Popen(
                self.lab.command("sh", "-ec", script, "boot", *words),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd="/",
            )
        within(20, f"first process of {self.name}", self._find_leader, 0.02)
        self._plug()

    def _find_leader(self) -> bool:
        # nsenter -> (its child in the lab's PID namespace, exec'd to) systemd-nspawn -> the first process of the host
        assert self.process is not None
        if self.process.poll() is not None:
            raise FailedError(f"{self.name} does not boot:\n{self.console()}")
        for nspawn in children(self.process.pid):
            for leader in children(nspawn):
                with contextlib.suppress(OSError):
                    if Path(f"/proc/{leader}/comm").read_text() == "systemd\n" and Path(f"/proc/{leader}/root/run/systemd/system").exists():
                        self.leader = leader
                        return True
        return False

    def _plug(self) -> None:
        inner, mac = f"cable{self.number}", f"02:00:00:00:00:{self.number:02x}"
        self.lab.net("link", "add", "name", self.link, "type", "veth", "peer", "name", inner, "address", mac)
        self.lab.net("link", "set", inner, "netns", str(self.leader), "name", self.spec.interface)
        self.lab.net("link", "set", self.link, "master", "lab", "up")
        modules = sorted(entry.name for entry in Path("/sys/module").iterdir())
        self.run("sh", "-c", KERNEL, "kernel", *modules)

    def booted(self) -> None:
        """Waits until systemd has started all that it is to start and the address is there."""
        within(BOOT_SECONDS, f"end of the boot of {self.name}", self._is_up, 0.1)

    def _is_up(self) -> bool:
        state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        if state not in {"running", "degraded"}:
            return False
        addresses = self.run("ip", "-o", "address", "show", "dev", self.spec.interface, check=False).stdout
        return all(address in addresses for address in self.spec.addresses) and "tentative" not in addresses

    def power_off(self) -> None:
        """Cuts the power: every process is gone at once, nothing is written any more."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.leader, signal.SIGKILL)
        self.process.wait(20)
        self.process, self.leader = None, 0
        self.lab.net("link", "delete", self.link, check=False)

    def dark(self) -> None:
        """Pulls the cable."""
        self.lab.net("link", "set", self.link, "down")

    def light(self) -> None:
        """Plugs it in again."""
        self.lab.net("link", "set", self.link, "up")

    # -- work ----------------------------------------------------------------------------------------------------------------------

    def command(self, *words: str | Path) -> list[str]:
        """The command line that runs *words* on this host, for ``subprocess``."""
        enter = ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd", "--"]
        return ["nsenter", "--target", str(self.leader), *enter, *map(str, words)]

    def run(
        self,
        *words: str | Path,
        check: bool | int = True,
        timeout: float = 60,
        env: Mapping[str, str] | None = None,
        text: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """
        Runs *words* on this host with a login's environment; standard error is part of ``stdout``, *text* its standard input.

        *check* is the exit status that it must have (True: 0; False: any); raises :class:`FailedError` otherwise and after *timeout* seconds.
        """
        environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "TERM": "dumb",
            "LANG": "C.UTF-8",
            **(env or {}),
        }
        try:
            done = subprocess.run(
                self.command(*words), env=environment, cwd="/", input=text, stdin=subprocess.DEVNULL if text is None else None,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            said = error.stdout.decode(errors="replace") if isinstance(error.stdout, bytes) else str(error.stdout)
            raise FailedError(f"{self.name}: {' '.join(map(str, words))}: not done within {timeout} s\n{said}") from None
        wanted = 0 if check is True else check
        if check is not False and done.returncode != wanted:
            raise FailedError(f"{self.name}: {' '.join(map(str, words))}: exit {done.returncode} (not {wanted})\n{done.stdout}")
        return done

    def sh(self, script: str, check: bool | int = True, timeout: float = 60) -> str:
        """Output of a bash script on this host."""
        return self.run("bash", "-c", script, check=check, timeout=timeout).stdout

    def path(self, path: str | Path) -> Path:
        """A file of this host, as this machine reaches it; absolute symbolic links in it lead astray."""
        return Path(f"/proc/{self.leader}/root", str(path).lstrip("/"))

    def take(self, source: Path, target: str) -> None:
        """Copies a file or directory of this machine to *target* of the host, as a stick does."""
        destination = self.path(target)
        destination.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", "--", source, destination], check=True)

    def pids(self, name: str) -> list[int]:
        """Processes of this host whose name is *name*, as this machine numbers them, the oldest first."""
        namespace = Path(f"/proc/{self.leader}/ns/pid").readlink()
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and (entry / "comm").read_text() == f"{name}\n" and (entry / "ns/pid").readlink() == namespace:
                    found.append((int((entry / "stat").read_text().rpartition(")")[2].split()[19]), int(entry.name)))
        return [pid for _, pid in sorted(found)]

    def signal(self, name: str, number: signal.Signals) -> int:
        """Sends a signal to every process of that name on this host; how many there were."""
        sent = 0
        for pid in self.pids(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
                sent += 1
        return sent

    def has(self, address: str) -> bool:
        """Whether this host carries *address* (without prefix)."""
        shown = self.run("ip", "-o", "address", "show", check=False).stdout
        return f" {address}/" in shown

    def console(self) -> str:
        """What the host printed while it booted."""
        return self.lab.path(TOP / self.name / "console").read_text(errors="replace")[-4000:]


class Lab:
    """
    The hosts of *specs*, a router for their gateways, and a client with *clients*, addresses with prefix.

    *binds* are files of this machine that every host sees, read-only: source to target.  A context manager: hosts are up inside of it.
    """

    def __init__(self, specs: Sequence[Spec], clients: Iterable[str], binds: Mapping[Path, str] | None = None) -> None:
        self.name = f"stowage-lab-{os.getpid()}-{id(self):x}"
        self.binds = {
            LAB / "stand_ins": "/opt/lab/stand_ins",
            REPOSITORY / "tests/kubeadm_schema.py": "/opt/lab/kubeadm_schema.py",
            **(binds or {}),
        }
        self.hosts = {spec.name: Host(self, spec, number) for number, spec in enumerate(specs, 1)}
        self.clients = tuple(clients)
        self.keeper: subprocess.Popen[str] | None = None
        self.pid = 0

    def __enter__(self) -> Self:
        try:
            self._open()
            for host in self.hosts.values():
                host.lay()
                host.power_on()
            for host in self.hosts.values():
                host.booted()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def fill(self) -> None:
        """Makes every host's disk full, as it is now."""
        self.do("sh", "-ec", f"mount -o remount,size=$(df -k {TOP} | awk 'NR == 2 {{ print $3 }}')k {TOP}")

    def empty(self) -> None:
        """Gives every host room again."""
        self.do("mount", "-o", "remount,size=50%", TOP)

    def stick(self, folder: Path) -> str:
        """A FAT image with a copy of *folder*, mounted read-only and noexec; the path of the copy, for ``Host.binds``."""
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        script = """
            cd /mnt; truncate -s "$1" stick.img; mkfs.vfat stick.img; mkdir -p stick
            fusefat -o rw+ stick.img stick; cp -r -- "$2" stick/; umount stick
            fusefat -o ro -o noexec -o allow_other stick.img stick
        """
        self.do("sh", "-ec", script, "stick", str(2 * size + 64 * 2**20), folder)
        return f"{TOP}/stick/{folder.name}"

    def add(self, spec: Spec, binds: Mapping[str, str] | None = None) -> Host:
        """One host more, booted."""
        host = self.hosts[spec.name] = Host(self, spec, len(self.hosts) + 1, binds=dict(binds or {}))
        host.lay()
        host.power_on()
        host.booted()
        return host

    def _open(self) -> None:
        base.root()
        words = [
            "setpriv",
            "--pdeathsig",
            "KILL",
            "unshare",
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--propagation",
            "private",
        ]
        self.keeper = subprocess.Popen([*words, "bash", "-c", KEEPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/")
        assert self.keeper.stdout is not None
        if self.keeper.stdout.readline() != "up\n":
            raise base.LabError("the lab's namespaces could not be made (see above)")
        (self.pid,) = children(self.keeper.pid)
        for address in dict.fromkeys(self._routers() + list(self.clients)):
            self.net("address", "add", address, "dev", "lab", *(["nodad"] if ":" in address else []))

    def _routers(self) -> list[str]:
        """The gateways of all hosts, with the prefix of the network that they are in."""
        found = []
        for host in self.hosts.values():
            networks = [ipaddress.ip_interface(address).network for address in host.spec.addresses]
            found += [f"{gateway}/{n.prefixlen}" for gateway in host.spec.gateways for n in networks if ipaddress.ip_address(gateway) in n]
        return found

    def close(self) -> None:
        """Ends everything; safe to call twice."""
        if self.keeper is not None:
            self.keeper.kill()
            self.keeper.communicate()
            self.keeper = None
        for host in self.hosts.values():
            if host.process is not None:
                host.process.kill()
                host.process.wait()
                host.process = None
        self._clear()

    def _clear(self) -> None:
        """Empty cgroups are all that a lab leaves: takes away its own, and those of labs whose maker is gone."""
        for _ in range(50):  # the last process in one may still be on its way out
            done = subprocess.run(
                ["unshare", "--mount", "--propagation", "private", "sh", "-ec", CLEAR, "clear", self.name], capture_output=True, check=False
            )
            if done.returncode == 0:
                break
            time.sleep(0.1)

    def command(self, *words: str | Path) -> list[str]:
        """The command line that runs *words* in the lab's namespaces."""
        return ["nsenter", "--target", str(self.pid), "--mount", "--net", "--pid", "--wd=/", "--", *map(str, words)]

    def client(self, *words: str | Path) -> list[str]:
        """The command line that runs *words* of this machine's programs on the lab's network, from the client's address."""
        return ["nsenter", "--target", str(self.pid), "--net", "--", *map(str, words)]

    def do(self, *words: str | Path) -> str:
        """Runs *words* in the lab's namespaces."""
        done = subprocess.run(
            self.command(*words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd="/",
            check=False,
        )
        if done.returncode:
            raise FailedError(f"{' '.join(map(str, words))}: {done.stdout}")
        return done.stdout

    def net(self, *words: str, check: bool = True) -> str:
        """Runs ``ip`` in the lab's network."""
        done = subprocess.run(
            self.client("ip", *words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        if check and done.returncode:
            raise FailedError(f"ip {' '.join(words)}: {done.stdout}")
        return done.stdout

    def path(self, path: str | Path) -> Path:
        """A file of the lab's mount namespace, as this machine reaches it."""
        return Path(f"/proc/{self.pid}/root", str(path).lstrip("/"))
