"""A host to run the scripts on, made of namespaces: nothing of this machine changes.

``FakeHost`` writes a host folder of its own (it does not use the compiler) and runs scripts of ``templates/scripts`` in a mount, network and
PID namespace with overlays on /etc, /var and /usr, an own /run, and stand-ins for systemctl and the like first on PATH.
What a run changes stays for the next run of the same ``FakeHost``.  Killing the sandbox kills all that ran in it.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
SCRIPTS = REPOSITORY / "templates" / "scripts"

ENVIRONMENT = {
    "FORMAT": "1", "CLUSTER": "example", "HOST": "master-1", "ROLE": "control-plane", "FIRST": "1",
    "OS_FAMILY": "debian", "OS_ID": "debian", "OS_VERSION": "12", "ADDRESSES": "192.0.2.25/24", "INTERFACE": "ens160", "GATEWAY": "192.0.2.1",
    "ENDPOINT": "backend:16443", "ENDPOINT_NAME": "backend", "ENDPOINT_PORT": "16443", "VIPS": "192.0.2.31", "SERVER": "backend:16443", "TOKEN_TTL": "24h",
    "LB": "1", "LB_ENGINE": "nginx", "LB_HOSTS": "master-1=192.0.2.25 master-2=192.0.2.26 master-3=192.0.2.27", "LB_CHECK": "127.0.0.1 16444",
    "VRRP_AUTH": "", "CONTROL_PLANES": "master-1=192.0.2.25 master-2=192.0.2.26 master-3=192.0.2.27", "API_PORT": "6443",
    "WORKERS": "node-1=192.0.2.28", "KUBERNETES_VERSION": "1.29.3", "KUBERNETES": "1", "RUNTIME": "containerd",
    "RUNTIME_UNITS": "containerd.service", "CRI_SOCKET": "unix:///run/containerd/containerd.sock", "PAUSE_IMAGE": "registry.k8s.io/pause:3.9",
    "REGISTRY": "", "REGISTRY_SECRET": "",
    "PACKAGES": "nginx keepalived", "PACKAGE_SOURCE": "payload", "NTP_SERVERS": "", "SWAP": "off", "FIREWALL": "auto",
    "PORTS": "6443/tcp 2379-2380/tcp vrrp", "TRUSTED_CIDRS": "10.244.0.0/16 10.96.0.0/16", "SELINUX_PORTS": "16443 16444",
    "PROXY_MODE": "iptables", "ETCD_DATA_DIR": "/var/lib/etcd", "CNI": "flannel",
}  # fmt: skip

# A systemd of files: units/UNIT/{exists,enabled,masked,active}; every call that changes something is a line of `calls`.
SYSTEMCTL = r"""#!/bin/bash
units=$FAKE/units; mkdir -p "$units"
words=(); for word; do case $word in -*) ;; *) words+=("$word") ;; esac; done
set -- "${words[@]}"; verb=$1; shift
case $verb in
  is-enabled) [[ -e $units/$1/masked ]] && { echo masked; exit 1; }; [[ -e $units/$1/enabled ]] && { echo enabled; exit; }
    [[ -e $units/$1/exists || -e /etc/systemd/system/$1 ]] && { echo disabled; exit 1; }; echo "Failed to get unit file state" >&2; exit 1 ;;
  is-active) [[ -e $units/$1/active ]] && { echo active; exit; }; echo inactive; exit 3 ;;
  list-units | list-unit-files) cat "$FAKE/$verb" 2>/dev/null; exit 0 ;;
  show | cat | status) exit 0 ;;
esac
echo "$verb $*" >>"$FAKE/calls"
for unit; do
  case $verb in
    daemon-reload) ;;
    enable | start | restart) [[ -e $units/$unit/exists || -e /etc/systemd/system/$unit || $unit == systemd-* ]] || { echo "Unit $unit not found." >&2; exit 5; } ;;&
    enable) mkdir -p "$units/$unit"; touch "$units/$unit/enabled" ;;
    disable) rm -f "$units/$unit/enabled" ;;
    mask) mkdir -p "$units/$unit"; touch "$units/$unit/masked" ;;
    unmask) rm -f "$units/$unit/masked" ;;
    start | restart) mkdir -p "$units/$unit"; touch "$units/$unit/active" ;;
    stop) rm -f "$units/$unit/active" ;;
    try-restart | reload | try-reload-or-restart) [[ ! -e $units/$unit/active ]] || echo "REALLY $verb $unit" >>"$FAKE/calls" ;;
  esac
  if [[ -x $FAKE/hooks/$verb-$unit ]]; then "$FAKE/hooks/$verb-$unit" || exit; fi
done
exit 0
"""

# Commands whose call is only written down.
RECORDED = ("modprobe", "systemd-tmpfiles", "swapoff", "swapon", "restorecon", "timedatectl")

SETUP = r"""
set -e
layer() { mkdir -p "$1"; mkdir -p "$ROOT/upper$1" "$ROOT/work$1"; mount -t overlay overlay -o "lowerdir=$1,upperdir=$ROOT/upper$1,workdir=$ROOT/work$1" "$1"; }
mount --make-rprivate /
for directory in /etc /var /usr; do layer "$directory"; done
mkdir -p "$ROOT/run/lock"; mount --bind "$ROOT/run" /run
ip link set lo up
ip link add "$NIC" type dummy 2>/dev/null || ip link add "$NIC" type veth peer name peer0
ip link set "$NIC" up
for address in $CARRIES; do ip address add "$address" dev "$NIC" nodad 2>/dev/null || ip address add "$address" dev "$NIC"; done
if [ -f "$ROOT/before.sh" ]; then . "$ROOT/before.sh"; fi
PATH=$BIN:$PATH "$@" || exit  # not exec: PID 1 of a namespace takes no signal
"""


class FakeHost:
    """One host folder below *root* and the sandbox to run it in."""

    def __init__(self, root: Path, **environment: str) -> None:
        self.root = root
        self.bundle = root / "medium with blank" / "host"
        self.environment = ENVIRONMENT | environment
        self.carries = self.environment["ADDRESSES"]
        self.rows: list[str] = []
        self.fake = root / "fake"
        self.bin = root / "bin"
        for directory in (self.bundle, self.fake / "units", self.fake / "hooks", self.bin):
            directory.mkdir(parents=True)
        shutil.copytree(SCRIPTS, self.bundle / "scripts", ignore=shutil.ignore_patterns("run.sh", "verify.sh", "ops"))
        for name in ("run.sh", "verify.sh"):
            if (SCRIPTS / name).exists():
                shutil.copyfile(SCRIPTS / name, self.bundle / name)
        if (SCRIPTS / "ops").exists():
            shutil.copytree(SCRIPTS / "ops", self.bundle / "ops")
        (self.bundle / "images.txt").write_text("")
        self.stand_in("systemctl", SYSTEMCTL)
        for name in RECORDED:
            self.stand_in(name, f'#!/bin/sh\necho "{name} $*" >>"$FAKE/calls"\n')
        self.seal()

    def stand_in(self, name: str, text: str) -> None:
        """Puts a command first on PATH; ``$FAKE`` is a directory that it may keep things in."""
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)

    def row(
        self,
        destination: str,
        text: str,
        *,
        mode: str = "0644",
        owner: str = "root:root",
        step: str = "20",
        unit: str = "-",
        how: str = "file",
    ) -> None:
        """A row of files.tsv, with its file under rootfs/; a second call for one destination replaces the first."""
        source = self.bundle / "rootfs" / destination.lstrip("/")
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(text)
        self.drop(destination)
        self.rows.append("\t".join((f"rootfs{destination}", destination, mode, owner, step, unit, how)))
        self.seal()

    def drop(self, destination: str) -> None:
        """Takes a row out again; the file under rootfs/ stays."""
        self.rows = [row for row in self.rows if row.split("\t")[1] != destination]
        self.seal()

    def unit(self, name: str, *states: str) -> None:
        """A unit that systemctl knows, with any of ``enabled``, ``masked``, ``active``."""
        directory = self.fake / "units" / name
        directory.mkdir(parents=True, exist_ok=True)
        for state in ("exists", *states):
            (directory / state).touch()

    def states(self) -> dict[str, set[str]]:
        """What systemctl knows of every unit, ``exists`` aside."""
        found = {path.name: {state.name for state in path.iterdir()} - {"exists"} for path in (self.fake / "units").iterdir()}
        return {name: states for name, states in found.items() if states}

    def calls(self) -> list[str]:
        """The calls that changed something, since the last time this was asked."""
        path = self.fake / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    def seal(self, **environment: str) -> None:
        """Writes host.env, files.tsv and all sums; after every change of the folder."""
        self.environment |= environment
        quoted = ("{}='{}'".format(name, value.replace("'", "'\\''")) for name, value in self.environment.items())
        (self.bundle / "host.env").write_text("\n".join(quoted) + "\n")
        (self.bundle / "files.tsv").write_text("\n".join(["#source\tdestination\tmode\towner\tstep\tunit\thow", *self.rows]) + "\n")
        for overlay in ("secrets", "payload"):
            if (self.bundle / overlay).is_dir():
                sums(self.bundle / overlay)
        sums(self.bundle, without=("secrets", "payload"))

    def command(self, *words: str) -> tuple[list[str], dict[str, str]]:
        """The command and environment that run *words* in the sandbox, from the folder /."""
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "BIN": str(self.bin), "FAKE": str(self.fake), "ROOT": str(self.root / "layers"), "TERM": "dumb",
            "NIC": self.environment["INTERFACE"], "CARRIES": self.carries,
        }  # fmt: skip
        (self.root / "layers").mkdir(exist_ok=True)
        unshare = ["unshare", "-m", "-n", "-p", "-u", "--fork", "--kill-child", "--mount-proc", "bash", "-c", SETUP, "sandbox"]
        return [*unshare, *words], environment

    def sh(self, *words: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
        """Runs a command in the sandbox."""
        command, environment = self.command(*words)
        return subprocess.run(
            command,
            check=False,
            env=environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            start_new_session=True,
        )

    def run(self, script: str, *options: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
        """Runs a script of the bundle (``20-host.sh``, ``run.sh``, ``ops/reset.sh``) in the sandbox."""
        return self.sh("bash", str(self.path(script)), *options, timeout=timeout)

    def start(self, script: str, *options: str) -> subprocess.Popen[str]:
        """The same, not waited for: for a test that kills it."""
        command, environment = self.command("bash", str(self.path(script)), *options)
        return subprocess.Popen(
            command,
            env=environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def path(self, script: str) -> Path:
        """Where a script lies in the bundle."""
        top = self.bundle / script
        return top if top.exists() else self.bundle / "scripts" / script

    def file(self, path: str) -> Path:
        """A path as the sandbox sees it, from outside; only right for what a run has written, or for /run."""
        if path.startswith("/run/"):
            return self.root / "layers" / path.lstrip("/")
        return self.root / "layers" / "upper" / path.lstrip("/")

    def put(self, path: str, text: str, mode: int = 0o644) -> None:
        """A file that the host has before any script runs."""
        place = self.file(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(mode)

    def snapshot(self) -> dict[str, tuple[int, int, str]]:
        """Mode, mtime and digest of all that differs from this machine, without our own log, lock and state."""
        found = {}
        base = self.root / "layers" / "upper"
        for path in sorted(base.rglob("*")):
            name = "/" + str(path.relative_to(base))
            if name.startswith(("/var/log/stowage", "/var/lib/stowage")) or path.is_dir():
                continue
            status = path.lstat()
            digest = (
                hashlib.sha256(path.read_bytes()).hexdigest()
                if path.is_file() and not path.is_symlink()
                else str(path.readlink() if path.is_symlink() else status.st_rdev)
            )
            found[name] = (status.st_mode, status.st_mtime_ns, digest)
        return found


def sums(folder: Path, without: tuple[str, ...] = ()) -> None:
    """Writes SHA256SUMS of *folder*, as the compiler does."""
    lines = []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.is_file() and str(relative) != "SHA256SUMS" and relative.parts[0] not in without:
            lines.append(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {relative}\n")
    (folder / "SHA256SUMS").write_text("".join(lines))
