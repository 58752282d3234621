"""The root file system that every host of the lab boots from: a minimal Debian 12, built once and kept in a cache.

Packages that the bundle installs (nginx, keepalived, containerd ...) are not in it: step 10 installs them from the payload.
Python and etcd lie below /opt/lab, off every PATH: the stand-ins need them, the bundle's scripts must do without.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CACHE = Path(os.environ.get("STOWAGE_LAB_CACHE", "/var/cache/stowage-lab"))
SUITE = "bookworm"
# What any installation of a Debian server has, and openssl, python3 for the stand-ins.
PACKAGES = (
    "systemd", "systemd-sysv", "dbus", "iproute2", "procps", "kmod", "logrotate", "netbase", "openssl", "less",
    "python3", "python3-yaml", "python3-ruamel.yaml",
)  # fmt: skip
NEEDED = ("debootstrap", "systemd-nspawn", "nsenter", "unshare", "setpriv", "ip", "curl", "mkfs.vfat", "fusefat")

# Runs in the fresh root: python3 leaves the PATH, etcd goes to where "its image" is, nothing waits at boot for what a container lacks.
FINISH = r"""
set -e
mkdir -p /opt/lab/bin
for python in /usr/bin/python3 /usr/bin/python3.[0-9]*; do mv "$python" /opt/lab/bin/; done
rm -f /usr/bin/py3compile /usr/bin/py3clean /usr/bin/py3versions
cd /tmp
apt-get -q download etcd-server etcd-client
for deb in etcd-*.deb; do dpkg-deb -x "$deb" etcd; done
mv etcd/usr/bin/etcd etcd/usr/bin/etcdctl /opt/lab/bin/
rm -rf etcd etcd-*.deb
rm -f /etc/machine-id /etc/hostname /usr/sbin/modprobe
: >/etc/resolv.conf
printf '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n' >/etc/hosts
systemctl --root=/ enable systemd-networkd.service
systemctl --root=/ mask systemd-networkd-wait-online.service systemd-firstboot.service console-getty.service getty@.service systemd-timesyncd.service e2scrub_reap.service apt-daily.timer apt-daily-upgrade.timer
: >/etc/machine-id
rm -f /var/cache/apt/archives/*.deb
"""


class LabError(Exception):
    """The lab cannot be had here; the message says why and what to do."""


def missing() -> list[str]:
    """What this machine lacks, one remedy a line."""
    lacking = [] if os.geteuid() == 0 else ["root: run as root (sudo make rehearse)"]
    programs = [name for name in NEEDED if shutil.which(name) is None]
    if programs:
        lacking.append(f"{', '.join(programs)}: sh tests/setup.sh installs them on Debian and Ubuntu")
    return lacking


@contextmanager
def locked(name: str) -> Iterator[None]:
    """One process at a time builds *name* of the cache."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(*words: str | Path, log: Path) -> None:
    """Runs *words* to the end; raises :class:`LabError` with the end of its output."""
    with log.open("ab") as output:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
        raise LabError(f"{words[0]} failed ({done.returncode}), see {log}:\n{tail}\n   help: the Debian mirror has to be reachable, once")


def root() -> Path:
    """The base root file system, built if it isn't there; read-only for everybody."""
    if lacking := missing():
        raise LabError("the lab cannot be had here; missing:\n" + "\n".join(f"  {line}" for line in lacking))
    recipe = hashlib.sha256(" ".join((SUITE, *PACKAGES, FINISH)).encode()).hexdigest()[:12]
    built = CACHE / f"{SUITE}-{recipe}"
    with locked("base"):
        if built.exists():
            return built
        sys.stderr.write(f"building the base of the lab's hosts in {built} (once, a minute or two)\n")
        new = built.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        log = CACHE / "base.log"
        log.unlink(missing_ok=True)
        run("debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, new, log=log)
        run("chroot", new, "sh", "-c", FINISH, log=log)
        for old in CACHE.glob(f"{SUITE}-*"):
            if old != new:
                shutil.rmtree(old)
        new.rename(built)
    return built


def debs(*packages: str) -> list[Path]:
    """
    The .deb files of Debian *packages* and of all that they need and the base lacks, from the cache or, once, from the mirror.

    Raises :class:`LabError` when there is no such package.
    """
    base = root()
    pool = CACHE / "debs"
    with locked("debs"):
        pool.mkdir(exist_ok=True)
        key = hashlib.sha256(f"{base.name} {' '.join(sorted(packages))}".encode()).hexdigest()[:16]
        known = pool / f"{key}.list"
        if not known.exists():
            log = CACHE / "debs.log"
            # The pool is bound into a private view of the base, whose own files stay as they are.
            view = (
                f'mount --bind "{pool}" /mnt; mount -t tmpfs tmpfs "{base}/var/cache/apt"; mkdir -p "{base}/var/cache/apt/archives/partial"; '
                f'mount --bind /etc/resolv.conf "{base}/etc/resolv.conf"; mount --bind /mnt "{base}/var/cache/apt/archives"; mkdir -p "{pool}/partial"; '
                f'exec chroot "{base}" apt-get -q -y --no-install-recommends -o APT::Sandbox::User=root "$@" install {" ".join(packages)}'
            )
            words = ("unshare", "--mount", "--propagation", "private", "sh", "-ec", view, "debs")
            run(*words, "--download-only", log=log)
            said = subprocess.run([*words, "-s"], capture_output=True, text=True, check=True).stdout
            known.write_text("".join(f"{line.split()[1]}\n" for line in said.splitlines() if line.startswith("Inst ")))
        return [deb for name in known.read_text().split() for deb in sorted(pool.glob(f"{name}_*.deb"))]
