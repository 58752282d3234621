"""The directory that makes a host of the lab look like a Red Hat release: it lies over the Debian base as a second lower layer.

The stand-ins lie in it, at /opt/lab/rhel_stand_ins; a bind of ``HERE`` to ``INSIDE`` would show the host this checkout's instead.
``DIGEST`` names what the layer is made of, for a cache of layers.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from lab import base as lab_base

HERE = Path(__file__).resolve().parent
INSIDE = "/opt/lab/rhel_stand_ins"
DIGEST = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(HERE.glob("*.py")))).hexdigest()[:12]
PYTHON = "/opt/lab/bin/python3 -E -s -S -B"

# release: ID, NAME, VERSION_ID, ID_LIKE, whether dnf has versionlock from the start (a minimal AlmaLinux stands for those that have not)
RELEASES = {
    "rocky": ("rocky", "Rocky Linux", "{}.4", "rhel centos fedora", True),
    "rhel": ("rhel", "Red Hat Enterprise Linux", "{}.4", "fedora", True),
    "almalinux": ("almalinux", "AlmaLinux", "{}.4", "rhel centos fedora", False),
    "openeuler": ("openEuler", "openEuler", "{}", "", True),
}
# command: module and what stands before the arguments
COMMANDS = {
    "usr/bin/rpm": "rpm.py", "usr/bin/dnf": "dnf.py", "usr/bin/firewall-cmd": "firewalld.py", "usr/sbin/firewalld": "firewalld.py --daemon",
    "usr/sbin/setsebool": "selinux.py setsebool", "usr/sbin/getsebool": "selinux.py getsebool", "usr/sbin/restorecon": "selinux.py restorecon",
    "usr/sbin/selinuxenabled": "selinux.py selinuxenabled", "usr/sbin/getenforce": "selinux.py getenforce",
}  # fmt: skip
SEMANAGE = f'#!/bin/sh\nexec {PYTHON} {INSIDE}/selinux.py semanage "$@"\n'  # comes with policycoreutils-python-utils
NETWORK_MANAGER = r"""#!/bin/sh
# NetworkManager stand-in: reads its configuration as a keyfile, at start and on reload; manages nothing.
check() {
    for file in /etc/NetworkManager/NetworkManager.conf /etc/NetworkManager/conf.d/*.conf; do
        [ ! -e "$file" ] || awk '/^[[:space:]]*([#;]|$)/ { next } /^\[[^]]+\]$/ { group = 1; next } !group || !/^[A-Za-z0-9._-]+[+-]?[[:space:]]*=/ { print FILENAME ": " $0; exit 1 }' "$file" || return 1
    done
}
if [ "$1" = reload ]; then check; exit; fi
check || exit 1
exec sleep infinity
"""
UNITS = {
    "firewalld": "[Unit]\nDescription=firewalld - dynamic firewall daemon\nBefore=network-pre.target\nWants=network-pre.target\n"
    "Conflicts=iptables.service ip6tables.service ebtables.service ipset.service\n\n[Service]\nType=simple\nExecStart=/usr/sbin/firewalld\n"
    "ExecStartPost=/bin/sh -c 'for i in $(seq 100); do [ -e /run/lab-rhel/firewalld.json ] && exit; sleep 0.05; done; exit 1'\n"
    "ExecReload=/bin/kill -HUP $MAINPID\nKillMode=mixed\n\n[Install]\nWantedBy=multi-user.target\n",
    "NetworkManager": "[Unit]\nDescription=Network Manager\nAfter=dbus.service\n\n[Service]\nType=simple\nExecStart=/usr/sbin/NetworkManager\n"
    "ExecReload=/usr/sbin/NetworkManager reload\nRestart=on-failure\n\n[Install]\nWantedBy=multi-user.target\n",
}
# What a minimal installation has: name, epoch, version, provides, and the program that has to be there for it.
MINIMAL: tuple[tuple[str, int, str, tuple[str, ...], str], ...] = (
    ("bash", 0, "5.1.8", (), "usr/bin/bash"), ("coreutils", 0, "8.32", (), "usr/bin/stat"), ("util-linux", 0, "2.37.4", (), "usr/bin/mount"),
    ("systemd", 0, "252", (), "usr/bin/systemctl"), ("iproute", 0, "6.2.0", (), "usr/sbin/ip"), ("openssl", 1, "3.0.7", (), "usr/bin/openssl"),
    ("tar", 2, "1.34", (), "usr/bin/tar"), ("kmod", 0, "28", (), "usr/bin/kmod"), ("procps-ng", 0, "3.3.17", (), "usr/bin/ps"),
    ("glibc", 0, "2.34", (), "usr/bin/ldd"), ("curl-minimal", 0, "7.76.1", ("curl = 7.76.1-29.el9", "curl-full"), "usr/bin/curl"),
    ("libcurl-minimal", 0, "7.76.1", ("libcurl = 7.76.1-29.el9",), "usr/bin/curl"), ("nftables", 1, "1.0.9", (), "usr/sbin/nft"),
    ("policycoreutils", 0, "3.6", (), ""), ("libselinux-utils", 0, "3.6", (), ""), ("firewalld", 0, "1.3.4", (), ""),
    ("NetworkManager", 1, "1.46.0", (), ""), ("rpm", 0, "4.16.1.3", (), ""), ("dnf", 0, "4.14.0", (), ""), ("container-selinux", 2, "2.229.0", (), ""),
)  # fmt: skip
DEBIAN_ONLY = (
    "usr/bin/apt", "usr/bin/apt-get", "usr/bin/apt-cache", "usr/bin/apt-mark", "usr/bin/apt-config", "usr/bin/apt-key", "usr/bin/apt-cdrom", "usr/bin/dpkg",
    "usr/bin/dpkg-deb", "usr/bin/dpkg-query", "usr/bin/dpkg-split", "usr/bin/dpkg-trigger", "usr/bin/dpkg-divert", "usr/bin/dpkg-statoverride",
    "usr/bin/dpkg-realpath", "usr/bin/dpkg-maintscript-helper", "usr/sbin/dpkg-preconfigure", "usr/sbin/dpkg-reconfigure", "usr/bin/update-alternatives",
    "usr/sbin/invoke-rc.d", "usr/sbin/update-rc.d", "usr/sbin/service", "usr/bin/deb-systemd-helper", "usr/bin/deb-systemd-invoke", "usr/sbin/policy-rc.d",
    "usr/bin/debconf", "etc/debian_version", "etc/apt", "var/lib/apt", "var/lib/dpkg",
)  # fmt: skip


def put(layer: Path, path: str, text: str, mode: int = 0o644) -> None:
    file = layer / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(mode)


def wrapper(command: str) -> str:
    return f'#!/bin/sh\nexec {PYTHON} {INSIDE}/{command} "$@"\n'


def whiteout(layer: Path, path: str) -> None:
    """Makes *path* of the layers below disappear."""
    file = layer / path
    file.parent.mkdir(parents=True, exist_ok=True)
    os.mknod(file, stat.S_IFCHR | 0o000, os.makedev(0, 0))


def entry(name: str, epoch: int, version: str, provides: Iterable[str] = ()) -> dict[str, Any]:
    """A package of the database whose files nobody asks for."""
    package = {"name": name, "epoch": epoch, "version": version, "release": "29.el9", "arch": "x86_64", "provides": list(provides)}
    return package | {"requires": [], "conflicts": [], "files": {}}


def lay(base: Path, layer: Path, os_id: str, version: str, debs: Callable[..., list[Path]] = lab_base.debs) -> None:
    """Fills *layer*, so that *base* below it looks like a minimal installation of the release *os_id* *version*."""
    identity, name, number, like, versionlock = RELEASES[os_id]
    number = number.format(version)
    layer.mkdir(parents=True, exist_ok=True)
    for deb in debs("curl", "nftables"):  # every RHEL host has both
        subprocess.run(
            [
                "sh",
                "-ec",
                'dpkg-deb --fsys-tarfile "$1" | tar -x -C "$2" --exclude=./usr/share/doc --exclude=./usr/share/man',
                "-",
                deb,
                layer,
            ],
            check=True,
        )
    merged(layer)
    lines = [
        f'NAME="{name}"',
        f'VERSION="{number}"',
        f'ID="{identity}"',
        *([f'ID_LIKE="{like}"'] if like else []),
        f'VERSION_ID="{number}"',
    ]
    put(layer, "usr/lib/os-release", "\n".join([*lines, f'PLATFORM_ID="platform:el{version}"', f'PRETTY_NAME="{name} {number}"']) + "\n")
    put(layer, "etc/redhat-release", f"{name} release {number}\n")
    for path in DEBIAN_ONLY:
        if os.path.lexists(base / path):
            whiteout(layer, path)
    for module in ("store", "rpm", "dnf", "firewalld", "selinux"):
        put(layer, f"{INSIDE.lstrip('/')}/{module}.py", (HERE / f"{module}.py").read_text())
    for path, command in COMMANDS.items():
        put(layer, path, wrapper(command), 0o755)
    put(layer, "usr/sbin/NetworkManager", NETWORK_MANAGER, 0o755)
    put(layer, "etc/NetworkManager/NetworkManager.conf", "[main]\n")
    for unit, text in UNITS.items():
        put(layer, f"usr/lib/systemd/system/{unit}.service", text)
        wants = layer / "etc/systemd/system/multi-user.target.wants"
        wants.mkdir(parents=True, exist_ok=True)
        (wants / f"{unit}.service").symlink_to(f"/usr/lib/systemd/system/{unit}.service")
    for folder in ("etc/NetworkManager/conf.d", "usr/lib64", "usr/libexec", "etc/sysconfig", "etc/yum.repos.d"):
        (layer / folder).mkdir(parents=True, exist_ok=True)
    there = [entry(*row[:4]) for row in MINIMAL if not row[4] or (base / row[4]).exists() or (layer / row[4]).exists()]
    if versionlock:
        there.append(entry("python3-dnf-plugin-versionlock", 0, "4.3.0"))
    state = {"rpmdb": there, "selinux-ports": {}, "selinux-booleans": {"httpd_can_network_connect": False}, "versionlock": []}
    for document, value in state.items():
        put(layer, f"var/lib/lab-rhel/{document}.json", json.dumps(value, indent=1))
    subprocess.run([sys.executable, "-B", HERE / "firewalld.py", "--defaults"], check=True, env={"LAB_RHEL_ROOT": str(layer)})


def merged(layer: Path) -> None:
    """What packages have in /lib, /bin and /sbin goes below /usr, for those are links of the base."""
    for name in ("lib", "bin", "sbin", "lib64"):
        if (layer / name).is_dir() and not (layer / name).is_symlink():
            subprocess.run(
                ["sh", "-ec", 'mkdir -p "$1/usr/$2"; cp -a "$1/$2/." "$1/usr/$2/"; rm -rf "$1/$2"', "-", layer, name], check=True
            )
