"""The "rpm" files of a RHEL-like host's payload.

Such a file is a tar of ``rpm.json`` (what the real file's header says) and ``data.tar`` (what it lays). Its content comes from the Debian packages
of the same programs, moved to where Red Hat's package has it, with Red Hat's units, users and stock configuration. No script of a Debian
package runs: what comes is neither enabled nor started, as on RHEL.
"""

from __future__ import annotations

import hashlib
import inspect
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import base
from lab.rhel.layer import MINIMAL, SEMANAGE

Content = dict[str, tuple[bytes | str, int, str]]  # path: (bytes, or the target of a link), mode, owner "user:group"
Move = Callable[[str], str | None]

NGINX, NGINX_ORG = ("1.22.1", "4.el9"), ("1.26.3", "1.el9.ngx")
NGINX_UNIT = """[Unit]
Description=The nginx HTTP and reverse proxy server
After=network-online.target remote-fs.target nss-lookup.target
Wants=network-online.target

[Service]
Type=forking
PIDFile=/run/nginx.pid
ExecStartPre=/opt/lab/bin/python3 -E -s -S -B /opt/lab/rhel_stand_ins/selinux.py confined
ExecStartPre=/usr/bin/rm -f /run/nginx.pid
ExecStartPre=/usr/sbin/nginx -t
ExecStart=/usr/sbin/nginx
ExecReload=/usr/sbin/nginx -s reload
KillSignal=SIGQUIT
TimeoutStopSec=5
KillMode=mixed
PrivateTmp=true

[Install]
WantedBy=multi-user.target
"""
NGINX_ORG_UNIT = """[Unit]
Description=nginx - high performance web server
Documentation=https://nginx.org/en/docs/
After=network-online.target remote-fs.target nss-lookup.target
Wants=network-online.target

[Service]
Type=forking
PIDFile=/run/nginx.pid
ExecStartPre=/opt/lab/bin/python3 -E -s -S -B /opt/lab/rhel_stand_ins/selinux.py confined
ExecStart=/usr/sbin/nginx -c /etc/nginx/nginx.conf
ExecReload=/bin/sh -c "/bin/kill -s HUP $(/bin/cat /run/nginx.pid)"
ExecStop=/bin/sh -c "/bin/kill -s TERM $(/bin/cat /run/nginx.pid)"

[Install]
WantedBy=multi-user.target
"""
NGINX_CONF = """user nginx;
worker_processes auto;
error_log /var/log/nginx/error.log;
pid /run/nginx.pid;

# Load dynamic modules. See /usr/share/doc/nginx/README.dynamic.
include /usr/share/nginx/modules/*.conf;

events {
    worker_connections 1024;
}

http {
    access_log /var/log/nginx/access.log;
    include /etc/nginx/mime.types;
    include /etc/nginx/conf.d/*.conf;

    server {
        listen 80;
        root /usr/share/nginx/html;
    }
}
"""
KEEPALIVED_UNIT = """[Unit]
Description=LVS and VRRP High Availability Monitor
After=network-online.target syslog.target
Wants=network-online.target

[Service]
Type=notify
NotifyAccess=all
PIDFile=/run/keepalived.pid
KillMode=process
EnvironmentFile=-/etc/sysconfig/keepalived
ExecStart=/usr/sbin/keepalived --dont-fork $KEEPALIVED_OPTIONS
ExecReload=/bin/kill -HUP $MAINPID

[Install]
WantedBy=multi-user.target
"""
# The sample that Red Hat's package lays: it would put up addresses of its own if anybody started it.
KEEPALIVED_CONF = """! Configuration File for keepalived

vrrp_instance VI_1 {
    state MASTER
    interface eth0
    virtual_router_id 51
    priority 100
    virtual_ipaddress {
        192.168.200.16
    }
}
"""
# -x: a container must not set the clock
CHRONY_UNIT = """[Unit]
Description=NTP client/server
After=ntpdate.service sntp.service ntpd.service
Conflicts=ntpd.service systemd-timesyncd.service

[Service]
Type=simple
EnvironmentFile=-/etc/sysconfig/chronyd
ExecStart=/usr/sbin/chronyd -x -d -u chrony -f /etc/chrony.conf $OPTIONS

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True)
class Header:
    """What an "rpm" file says of itself, beside what it lays."""

    name: str
    version: str
    release: str
    arch: str = "x86_64"
    epoch: int = 0
    provides: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    users: tuple[tuple[str, str], ...] = ()  # name, home
    preset: tuple[str, ...] = ()  # units that Red Hat's presets enable

    @property
    def file(self) -> str:
        return f"{self.name}-{self.version}-{self.release}.{self.arch}.rpm"


def merged(path: str) -> str:
    """A path of a package where a host with /lib -> /usr/lib has it, without a leading slash."""
    path = path.removeprefix("./").strip("/")
    return f"usr/{path}" if path.split("/")[0] in {"bin", "sbin", "lib", "lib64"} else path


def content(debs: Iterable[Path], move: Move = merged) -> Content:
    """The files of Debian packages, each where *move* says (None: not at all)."""
    found: Content = {}
    for deb in debs:
        data = subprocess.run(["dpkg-deb", "--fsys-tarfile", deb], check=True, capture_output=True).stdout
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for member in archive:
                path = move(merged(member.name))
                if member.isdir() or not path or re.match(r"usr/share/(doc|man|locale|lintian|bug)/|etc/init\.d/", path):
                    continue
                if member.issym():
                    found[path] = (member.linkname, 0o777, "root:root")
                else:
                    source = archive.extractfile(member)
                    assert source is not None
                    found[path] = (source.read(), member.mode, "root:root")
    return found


def text(data: str, mode: int = 0o644) -> tuple[bytes, int, str]:
    return data.encode(), mode, "root:root"


def write(path: Path, header: Header, files: Content, folders: Mapping[str, tuple[int, str]] | None = None) -> Path:
    """Writes an "rpm" file; *folders* are directories of its own: mode, owner."""
    sums = {}
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, (mode, owner) in sorted((folders or {}).items()):
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, mode
            info.uname, _, info.gname = owner.partition(":")
            archive.addfile(info)
        for name, (what, mode, owner) in sorted(files.items()):
            info = tarfile.TarInfo(name)
            info.mode = mode
            info.uname, _, info.gname = owner.partition(":")
            if isinstance(what, str):
                info.type, info.linkname = tarfile.SYMTYPE, what
                archive.addfile(info)
                sums[f"/{name}"] = f"-> {what}"
            else:
                info.size = len(what)
                archive.addfile(info, io.BytesIO(what))
                sums[f"/{name}"] = hashlib.sha256(what).hexdigest()
    about: dict[str, Any] = {
        key: getattr(header, key)
        for key in ("name", "version", "release", "arch", "epoch", "provides", "requires", "conflicts", "groups", "preset")
    }
    about |= {"users": dict(header.users), "files": sums, "folders": [f"/{name}" for name in (folders or {})]}
    with tarfile.open(path, "w") as outer:
        for name, value in (("rpm.json", json.dumps(about).encode()), ("data.tar", data.getvalue())):
            info = tarfile.TarInfo(name)
            info.size = len(value)
            outer.addfile(info, io.BytesIO(value))
    return path


def rpm(path: Path, header: Header, debs: Iterable[Path]) -> Path:
    """Writes an "rpm" file that lays what *debs* lay."""
    return write(path, header, content(debs))


# --- what Red Hat's packages have -----------------------------------------------------------------------------------------------------

Made = tuple[Header, Content, Mapping[str, tuple[int, str]]]


def nginx(debs: Callable[[str], list[Path]]) -> list[Made]:
    """nginx of RHEL: nginx, nginx-core, nginx-filesystem."""
    version, release = NGINX
    exact = f"= 1:{version}-{release}"
    found = content(debs("nginx"))
    binary = {path: what for path, what in found.items() if path == "usr/sbin/nginx" or path.startswith("usr/lib/x86_64-linux-gnu/")}
    conf: Content = {
        path: what for path, what in found.items() if re.fullmatch(r"etc/nginx/(mime\.types|fastcgi.*|.*_params|koi-.*|win-utf)", path)
    }
    conf |= {"etc/nginx/nginx.conf": text(NGINX_CONF), "usr/share/nginx/html/index.html": text("lab\n")}
    folders = {
        "etc/nginx/conf.d": (0o755, "root:root"),
        "usr/share/nginx/modules": (0o755, "root:root"),
        "usr/lib64/nginx/modules": (0o755, "root:root"),
    }
    folders |= {"var/lib/nginx": (0o770, "nginx:root"), "var/log/nginx": (0o711, "root:root")}
    return [
        (Header("nginx-filesystem", version, release, "noarch", 1, users=(("nginx", "/var/lib/nginx"),)), {}, folders),
        (
            Header(
                "nginx-core",
                version,
                release,
                epoch=1,
                requires=(f"nginx-filesystem {exact}", "openssl >= 1:1"),
                provides=("nginx(abi) = 1.22.1",),
            ),
            {**binary, **conf},
            {},
        ),
        (
            Header("nginx", version, release, epoch=1, requires=(f"nginx-core {exact}",)),
            {"usr/lib/systemd/system/nginx.service": text(NGINX_UNIT)},
            {},
        ),
    ]


def nginx_org(debs: Callable[[str], list[Path]]) -> list[Made]:
    """nginx.org's package, which has the stream module built in: here a wrapper loads it before any configuration is read."""
    version, release = NGINX_ORG

    def move(path: str) -> str | None:
        if path == "usr/sbin/nginx":
            return "usr/lib/lab/nginx"
        return (
            path
            if path.startswith(("usr/lib/x86_64-linux-gnu/", "usr/lib/nginx/modules/ngx_stream_module.so"))
            or path == "etc/nginx/mime.types"
            else None
        )

    files = content([*debs("nginx"), *debs("libnginx-mod-stream")], move)
    files["usr/sbin/nginx"] = text(
        "#!/bin/sh\nexec /usr/lib/lab/nginx -g 'load_module /usr/lib/nginx/modules/ngx_stream_module.so;' \"$@\"\n", 0o755
    )
    files["usr/lib/systemd/system/nginx.service"] = text(NGINX_ORG_UNIT)
    files["etc/nginx/nginx.conf"] = text(NGINX_CONF)
    folders = {"etc/nginx/conf.d": (0o755, "root:root"), "var/log/nginx": (0o755, "root:root"), "var/lib/nginx": (0o755, "root:root")}
    return [(Header("nginx", version, release, epoch=1, users=(("nginx", "/nonexistent"),)), files, folders)]


def nginx_mod_stream(debs: Callable[[str], list[Path]]) -> list[Made]:
    version, release = NGINX
    module = "usr/lib64/nginx/modules/ngx_stream_module.so"
    files = content(debs("libnginx-mod-stream"), lambda path: module if path.endswith("/ngx_stream_module.so") else None)
    files["usr/share/nginx/modules/mod-stream.conf"] = text(f'load_module "/{module}";\n')
    return [
        (
            Header("nginx-mod-stream", version, release, epoch=1, requires=("nginx(abi) = 1.22.1", f"nginx-core = 1:{version}-{release}")),
            files,
            {},
        )
    ]


def keepalived(debs: Callable[[str], list[Path]]) -> list[Made]:
    files = content(debs("keepalived"), lambda path: None if path.startswith("etc/default/") or path.endswith(".conf.sample") else path)
    files["usr/lib/systemd/system/keepalived.service"] = text(KEEPALIVED_UNIT)
    files["etc/keepalived/keepalived.conf"] = text(KEEPALIVED_CONF)
    files["etc/sysconfig/keepalived"] = text('KEEPALIVED_OPTIONS="-D"\n')
    return [(Header("keepalived", "2.2.8", "4.el9"), files, {"usr/libexec/keepalived": (0o755, "root:root")})]


def chrony(debs: Callable[[str], list[Path]]) -> list[Made]:
    def move(path: str) -> str | None:
        if path == "usr/share/chrony/chrony.conf":
            return "etc/chrony.conf"
        return None if path.startswith(("etc/", "usr/lib/systemd/")) else path

    files = content(debs("chrony"), move)
    files.setdefault("etc/chrony.conf", text("pool 2.rocky.pool.ntp.org iburst\ndriftfile /var/lib/chrony/drift\nmakestep 1.0 3\n"))
    files["usr/lib/systemd/system/chronyd.service"] = text(CHRONY_UNIT)
    header = Header("chrony", "4.5", "1.el9", users=(("chrony", "/var/lib/chrony"),), preset=("chronyd.service",))
    return [(header, files, {"var/lib/chrony": (0o750, "chrony:chrony")})]


def iptables(debs: Callable[[str], list[Path]]) -> list[Made]:
    """EL9's iptables is iptables-nft."""
    files = content(debs("iptables"))
    for family in ("iptables", "ip6tables"):
        for verb in ("", "-save", "-restore"):
            files[f"usr/sbin/{family}{verb}"] = ("xtables-nft-multi", 0o777, "root:root")
    return [(Header("iptables-nft", "1.8.10", "2.el9", provides=("iptables = 1.8.10-2.el9", "ebtables")), files, {})]


def semanage(_: Callable[[str], list[Path]]) -> list[Made]:
    files: Content = {"usr/sbin/semanage": text(SEMANAGE, 0o755)}
    return [(Header("policycoreutils-python-utils", "3.6", "2.1.el9", "noarch", requires=("policycoreutils",)), files, {})]


def curl(_: Callable[[str], list[Path]]) -> list[Made]:
    """What a careless gatherer has in the payload: it conflicts with what every EL9 host has instead."""
    return [(Header("curl", "7.76.1", "31.el9", conflicts=("curl-minimal",)), {}, {})]


SHAPED: dict[str, Callable[[Callable[[str], list[Path]]], list[Made]]] = {
    "nginx-mod-stream": nginx_mod_stream, "keepalived": keepalived, "chrony": chrony, "iptables": iptables, "policycoreutils-python-utils": semanage, "curl": curl,
}  # fmt: skip
# The Debian packages with the programs of a RHEL package, where nothing has to be moved.
DEBIAN = {
    "iputils": ("iputils-arping",), "conntrack-tools": ("conntrack",), "containerd.io": ("containerd.io",), "socat": ("socat",), "ethtool": ("ethtool",),
    "ipvsadm": ("ipvsadm",), "tcpdump": ("tcpdump",), "strace": ("strace",), "skopeo": ("skopeo",),
}  # fmt: skip
PROVIDES = {"conntrack-tools": ("conntrack = 1.4.7",), "containerd.io": ("containerd", "runc")}
REQUIRES = {
    "kubelet": ("iptables >= 1.4.21", "kubernetes-cni >= 1.1.1", "socat", "util-linux", "ethtool", "iproute", "conntrack"),
    "kubeadm": ("cri-tools >= 1.28.0",),
    "docker-ce": ("container-selinux >= 2:2.74", "iptables or nftables", "systemd", "tar"),
    "cri-dockerd": ("container-selinux >= 2:2.74", "systemd", "iptables or nftables", "tar"),
}
KUBERNETES = ("kubelet", "kubeadm", "kubectl", "cri-tools", "kubernetes-cni")
VERSIONS = {"containerd.io": ("2.1.5", "1.el9"), "docker-ce": ("26.1.4", "1.el9"), "cri-dockerd": ("0.3.24", "3.el9")}


def make(
    word: str, words: set[str], kubernetes: str, debs: Callable[[str], list[Path]], stand_in_deb: Callable[[str, str], Path]
) -> list[Made]:
    """The "rpm" files for one word of ``PACKAGES``; a payload has what a package needs, too."""
    pinned = re.fullmatch(r"(.+?)-([0-9][^-]*)(?:-([^-]+))?", word)
    name, version, release = (pinned[1], pinned[2], pinned[3]) if pinned else (word, None, None)
    if name == "nginx":
        return nginx(debs) if "nginx-mod-stream" in words else nginx_org(debs)
    if name in SHAPED:
        return SHAPED[name](debs)
    minimal = {row[0]: row for row in MINIMAL}
    if name in minimal:  # the host has it; the payload brings a newer build
        return [(Header(name, minimal[name][2], "30.el9", epoch=minimal[name][1]), {}, {})]
    if name in KUBERNETES:
        found = [stand_in_deb(name, version or kubernetes)]
        header = Header(
            name, version or ("1.29.0" if name == "cri-tools" else "1.4.0"), release or "150500.1.1", requires=REQUIRES.get(name, ())
        )
        return [(header, content(found), {})]
    if name in {"docker-ce", "cri-dockerd"}:
        from lab import docker, payload

        found = [deb for deb in docker.docker_debs(payload.build) if deb.name.startswith(f"{name}_")]
        epoch = 3  # of Docker's packages, and of Mirantis'
        header = Header(name, *VERSIONS[name], epoch=epoch, requires=REQUIRES[name], groups=("docker",) if name == "docker-ce" else ())
        return [(header, content(found), {})]
    if name not in DEBIAN:
        raise base.LabError(f"the lab has no rpm for {name}: add it to the tables of {Path(__file__).name}")
    found = [deb for package in DEBIAN[name] for deb in debs(package)]
    version, release = (version, release or "1.el9") if version else VERSIONS.get(name, ("1.0", "1.el9"))
    return [(Header(name, version, release, provides=PROVIDES.get(name, ()), requires=REQUIRES.get(name, ())), content(found), {})]


def packages(host_env: dict[str, str], debs: Callable[[str], list[Path]], stand_in_deb: Callable[[str, str], Path], folder: Path) -> None:
    """Fills *folder*, payload/packages of the RHEL-like host with this host.env."""
    words = host_env["PACKAGES"].split()
    recipe = inspect.getsource(sys.modules[__name__])
    with base.locked("rpms"):
        for word in words:
            sources: list[Path] = []

            def remembered(name: str, into: list[Path] = sources) -> list[Path]:
                into += debs(name)
                return debs(name)

            def stood_in(name: str, version: str, into: list[Path] = sources) -> Path:
                into.append(stand_in_deb(name, version))
                return into[-1]

            key = hashlib.sha256(
                "\n".join([recipe, word, str("nginx-mod-stream" in words), host_env["KUBERNETES_VERSION"]]).encode()
            ).hexdigest()[:16]
            made = base.CACHE / "rpms" / key
            known = made / "sources"
            if (
                not known.exists()
                or any(not Path(line).exists() for line in known.read_text().splitlines())
                or changed(word, known, stand_in_deb, host_env)
            ):
                shutil.rmtree(made, ignore_errors=True)
                made.mkdir(parents=True)
                for header, files, folders in make(word, set(words), host_env["KUBERNETES_VERSION"], remembered, stood_in):
                    write(made / header.file, header, files, folders)
                known.write_text("".join(f"{path}\n" for path in sources))
            for file in made.glob("*.rpm"):
                shutil.copy(file, folder)


def changed(word: str, known: Path, stand_in_deb: Callable[[str, str], Path], host_env: dict[str, str]) -> bool:
    """Whether what a cached file was made of is another one now: stand-ins are built from this checkout."""
    name = re.sub(r"-[0-9].*", "", word)
    if name in {"docker-ce", "cri-dockerd"}:
        return True
    if name not in KUBERNETES:
        return False
    version = word.removeprefix(f"{name}-") if word != name else host_env["KUBERNETES_VERSION"]
    return str(stand_in_deb(name, version)) not in known.read_text().splitlines()
