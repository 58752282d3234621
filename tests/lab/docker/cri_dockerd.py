# ruff: noqa: T201 (a command prints)
"""cri-dockerd of the lab: looks at its flags, needs a Docker that answers, then holds its socket. It speaks no CRI: crictl is a stand-in too."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import time
from pathlib import Path
from typing import NoReturn

# Flags of cri-dockerd 0.3 and what they take.
FLAGS = {
    "container-runtime-endpoint": r"fd://|unix:///.+", "pod-infra-container-image": r"[a-z0-9][\w./:@-]*", "network-plugin": r"cni|kubenet|",
    "cni-bin-dir": r".+", "cni-conf-dir": r".+", "cni-cache-dir": r".+", "log-level": r"debug|info|warn|error|fatal|panic|trace", "hairpin-mode": r"\S+",
    "image-pull-progress-deadline": r"\d+[smh].*", "ipv6-dual-stack": r"true|false|", "docker-endpoint": r"unix:///.+", "network-plugin-mtu": r"\d+",
    "runtime-cgroups": r"/.*", "cri-dockerd-root-directory": r"/.+", "pod-cidr": r"\S*", "streaming-bind-addr": r".*",
}  # fmt: skip


def fail(message: str) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(1)


def docker_answers() -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(3)
            connection.connect("/var/run/docker.sock")
            connection.sendall(b"GET /version HTTP/1.0\r\n\r\n")
            return bool(connection.recv(100))
    except OSError:
        return False


def main(words: list[str]) -> int:
    seen = {}
    arguments = iter(words)
    for word in arguments:
        name, equals, value = word.partition("=")
        if name == "--version":
            print("cri-dockerd 0.3.24 (lab stand-in)")
            return 0
        flag = name.removeprefix("--")
        if not name.startswith("--") or flag not in FLAGS:
            fail(f"Error: unknown {'flag' if name.startswith('-') else 'command'}: {name}")
        value = value if equals else next(arguments, "")
        if not re.fullmatch(FLAGS[flag], value):
            fail(f'Error: invalid argument "{value}" for "--{flag}" flag')
        seen[flag] = value
    if seen.get("container-runtime-endpoint") != "fd://" or os.environ.get("LISTEN_FDS", "0") == "0":
        fail("fatal: no sockets found via socket activation: make sure the service was started by systemd")
    end = time.monotonic() + 10
    while not docker_answers():
        if time.monotonic() > end:
            fail("fatal: failed to get docker version from dockerd: Cannot connect to the Docker daemon at unix:///var/run/docker.sock")
        time.sleep(0.2)
    Path("/run/lab-docker").mkdir(exist_ok=True)
    Path("/run/lab-docker/pause").write_text(seen.get("pod-infra-container-image", "registry.k8s.io/pause:3.9"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGHUP, lambda *_: None)
    if path := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.connect("\0" + path[1:] if path.startswith("@") else path)
            out.sendall(b"READY=1")
    with socket.socket(fileno=3) as listener:
        while True:
            connection, _ = listener.accept()
            connection.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
