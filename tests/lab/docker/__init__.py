"""Docker and cri-dockerd of the lab: commands and daemons that keep images as files and run nothing.

The units are those of the real packages; ``docker``, ``dockerd`` and ``cri-dockerd`` are one program each, below, that goes into a .deb whole.
Images are known by files of /var/lib/lab-docker/images: the name is the reference, percent-encoded (``urllib.parse.quote(ref, safe="")``),
the text the image's id. Docker drops ``docker.io/`` and ``docker.io/library/`` from references; the files have the full ones.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
Files = dict[str, tuple[bytes, int]]

DOCKER_SERVICE = """[Unit]
Description=Docker Application Container Engine
Documentation=https://docs.docker.com
After=network-online.target docker.socket firewalld.service time-set.target
Wants=network-online.target
Requires=docker.socket
StartLimitBurst=3
StartLimitIntervalSec=60

[Service]
Type=notify
ExecStart=/usr/bin/dockerd -H fd://
ExecReload=/bin/kill -s HUP $MAINPID
TimeoutStartSec=0
RestartSec=2
Restart=always
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
Delegate=yes
KillMode=process
OOMScoreAdjust=-500

[Install]
WantedBy=multi-user.target
"""
DOCKER_SOCKET = """[Unit]
Description=Docker Socket for the API

[Socket]
ListenStream=/run/docker.sock
SocketMode=0660
SocketUser=root
SocketGroup=docker

[Install]
WantedBy=sockets.target
"""
CRI_SERVICE = """[Unit]
Description=CRI Interface for Docker Application Container Engine
Documentation=https://docs.mirantis.com
After=network-online.target firewalld.service docker.service
Wants=network-online.target
Requires=cri-docker.socket

[Service]
Type=notify
ExecStart=/usr/bin/cri-dockerd --container-runtime-endpoint fd://
ExecReload=/bin/kill -s HUP $MAINPID
TimeoutSec=0
RestartSec=2
Restart=always
StartLimitBurst=3
StartLimitInterval=60s
LimitNOFILE=infinity
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
Delegate=yes
KillMode=process

[Install]
WantedBy=multi-user.target
"""
CRI_SOCKET = """[Unit]
Description=CRI Docker Socket for the API
PartOf=cri-docker.service

[Socket]
ListenStream=%t/cri-dockerd.sock
SocketMode=0660
SocketUser=root
SocketGroup=docker

[Install]
WantedBy=sockets.target
"""
# As debhelper's: enabled and started, unless policy-rc.d forbids the start.
POSTINST = """#!/bin/sh
set -e
{}
if [ "$1" = configure ] && [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    systemctl enable {units}
    if [ ! -x /usr/sbin/policy-rc.d ] || /usr/sbin/policy-rc.d {first} start; then systemctl start {units}; fi
fi
"""
PRERM = """#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then systemctl stop {units} || :; systemctl disable {units} || :; fi
"""
POSTRM = """#!/bin/sh
set -e
if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
"""


def scripts(units: str, before: str = ":") -> dict[str, str]:
    return {
        "postinst": POSTINST.format(before, units=units, first=units.split(maxsplit=1)[0]),
        "prerm": PRERM.format(units=units),
        "postrm": POSTRM,
    }


def docker_debs(build: Callable[..., Path]) -> list[Path]:
    """docker-ce and cri-dockerd, made by ``build(name, version, files, scripts)``."""

    def program(name: str) -> tuple[bytes, int]:
        return b"#!/opt/lab/bin/python3 -EsB\n" + (HERE / f"{name}.py").read_bytes(), 0o755

    docker: Files = {
        "/usr/bin/docker": program("docker"),
        "/usr/bin/dockerd": program("dockerd"),
        "/usr/lib/systemd/system/docker.service": (DOCKER_SERVICE.encode(), 0o644),
        "/usr/lib/systemd/system/docker.socket": (DOCKER_SOCKET.encode(), 0o644),
    }
    cri: Files = {
        "/usr/bin/cri-dockerd": program("cri_dockerd"),
        "/usr/lib/systemd/system/cri-docker.service": (CRI_SERVICE.encode(), 0o644),
        "/usr/lib/systemd/system/cri-docker.socket": (CRI_SOCKET.encode(), 0o644),
    }
    group = "getent group docker >/dev/null || groupadd --system docker"
    return [
        build("docker-ce", "26.1.4-1", docker, scripts("docker.service docker.socket", group)),
        build("cri-dockerd", "0.3.24", cri, scripts("cri-docker.service cri-docker.socket")),
    ]
