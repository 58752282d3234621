# ruff: noqa: T201 (a command prints)
"""The Docker daemon of the lab: reads /etc/docker/daemon.json as dockerd does, listens, answers a ping. ``--validate`` only reads."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any, NoReturn

CONFIG = Path("/etc/docker/daemon.json")
# The keys of daemon.json (dockerd 26) and what each holds.
KEYS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(
        (
            "bip", "bridge", "cgroup-parent", "containerd", "containerd-namespace", "containerd-plugin-namespace", "data-root", "default-cgroupns-mode",
            "default-gateway", "default-gateway-v6", "default-ipc-mode", "default-runtime", "default-shm-size", "exec-root", "fixed-cidr", "fixed-cidr-v6",
            "group", "host-gateway-ip", "init-path", "ip", "log-driver", "log-format", "log-level", "metrics-addr", "oom-score-adjust", "pidfile",
            "seccomp-profile", "storage-driver", "tlscacert", "tlscert", "tlskey", "userland-proxy-path", "userns-remap", "cluster-advertise",
        ),
        str,
    ),
    **dict.fromkeys(
        (
            "allow-nondistributable-artifacts", "authorization-plugins", "cdi-spec-dirs", "default-address-pools", "dns", "dns-opts", "dns-search",
            "exec-opts", "hosts", "insecure-registries", "labels", "node-generic-resources", "registry-mirrors", "storage-opts",
        ),
        list,
    ),
    **dict.fromkeys(
        (
            "debug", "experimental", "icc", "init", "ip-forward", "ip-masq", "ip6tables", "iptables", "ipv6", "live-restore", "no-new-privileges",
            "raw-logs", "selinux-enabled", "tls", "tlsverify", "userland-proxy", "validate",
        ),
        bool,
    ),
    **dict.fromkeys(("builder", "default-network-opts", "default-ulimits", "features", "log-opts", "proxies", "runtimes"), dict),
    **dict.fromkeys(("max-concurrent-downloads", "max-concurrent-uploads", "max-download-attempts", "mtu", "network-control-plane-mtu", "shutdown-timeout"), int),
    "cpu-rt-period": int, "cpu-rt-runtime": int, "api-cors-header": str, "http-proxy": str, "https-proxy": str, "no-proxy": str,
}  # fmt: skip
LOG_OPTIONS = {
    "json-file": {"max-size", "max-file", "labels", "labels-regex", "env", "env-regex", "compress", "tag", "mode", "max-buffer-size"}
}
LOG_OPTIONS["local"] = {"max-size", "max-file", "compress", "mode", "max-buffer-size"}
LOG_DRIVERS = {"json-file", "local", "journald", "none", "syslog", "gelf", "fluentd", "awslogs", "splunk", "gcplogs"}
STORAGE = {"overlay2", "btrfs", "zfs", "vfs", "fuse-overlayfs", "overlayfs"}


def fail(message: str, prefix: str = "failed to start daemon: ") -> NoReturn:
    print(f"{prefix}{message}", file=sys.stderr)
    sys.exit(1)


def configuration(path: Path, flags: set[str]) -> dict[str, Any]:
    """daemon.json, if there is one; the daemon does not start on one that it would not take."""
    if not path.exists():
        return {}
    prefix = f"unable to configure the Docker daemon with file {path}: "
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        fail(f"invalid character: {error}", prefix)
    if not isinstance(found, dict):
        fail("json: cannot unmarshal into Go value of type map[string]interface {}", prefix)
    if strangers := sorted(set(found) - set(KEYS)):
        fail(f"the following directives don't match any configuration option: {', '.join(strangers)}", prefix)
    if twice := sorted(set(found) & flags):
        fail(f"the following directives are specified both as a flag and in the configuration file: {', '.join(twice)}", prefix)
    for key, value in found.items():
        if not isinstance(value, KEYS[key]) or (isinstance(value, bool) and KEYS[key] is int):
            fail(f"json: cannot unmarshal {type(value).__name__} into Go struct field Config.{key}", prefix)
    values(found, prefix)
    return found


def values(found: dict[str, Any], prefix: str) -> None:
    """What dockerd looks at beyond a value's type."""
    for key in ("log-opts", "proxies"):
        if any(not isinstance(value, str) for value in found.get(key, {}).values()):
            fail(f"json: cannot unmarshal number into Go struct field .{key} of type string", prefix)
    if strangers := set(found.get("proxies", {})) - {"http-proxy", "https-proxy", "no-proxy"}:
        fail(f"the following directives don't match any configuration option: {', '.join(sorted(strangers))}", prefix)
    for option in found.get("exec-opts", []):
        key, _, value = option.partition("=")
        if key != "native.cgroupdriver" or value not in {"systemd", "cgroupfs"}:
            fail(f'invalid exec-opt "{option}"')
    driver = found.get("log-driver", "json-file")
    if driver not in LOG_DRIVERS:
        fail(f"failed to set log opts: logger: no log driver named '{driver}' is registered")
    if driver in LOG_OPTIONS and (strangers := set(found.get("log-opts", {})) - LOG_OPTIONS[driver]):
        fail(f"failed to set log opts: unknown log opt '{min(strangers)}' for {driver} log driver")
    if found.get("storage-driver", "overlay2") not in STORAGE:
        fail(f"error initializing graphdriver: driver not supported: {found['storage-driver']}")
    for mirror in found.get("registry-mirrors", []):
        scheme, _, rest = mirror.partition("://")
        if scheme not in {"http", "https"} or not rest or "/" in rest.rstrip("/") or "?" in rest or "@" in rest:
            fail(
                f'invalid mirror: unsupported scheme "{scheme}" in "{mirror}"'
                if scheme not in {"http", "https"}
                else f"invalid mirror: path, query, or fragment at end of the URI {mirror!r}"
            )
    for registry in found.get("insecure-registries", []):
        if not isinstance(registry, str) or (registry.startswith(("http://", "https://")) and "/" in registry.partition("://")[2]):
            fail(f"insecure registry {registry} should not contain '://'")


def ready() -> None:
    """Tells systemd (Type=notify)."""
    if path := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.connect("\0" + path[1:] if path.startswith("@") else path)
            out.sendall(b"READY=1")


def main(words: list[str]) -> int:
    flags, hosts, path, validate = set(), [], CONFIG, False
    arguments = iter(words)
    for word in arguments:
        name, equals, value = word.partition("=")
        if name in {"-H", "--host"}:
            hosts.append(value if equals else next(arguments, ""))
            flags.add("hosts")
        elif name == "--config-file":
            path = Path(value if equals else next(arguments, ""))
        elif name == "--validate":
            validate = True
        elif name == "--containerd":
            flags.add("containerd")
        else:
            print(f"unknown flag: {name}\nSee 'dockerd --help'.", file=sys.stderr)
            return 125
    configuration(path, flags)
    if validate:
        print("configuration OK")
        return 0
    if hosts != ["fd://"] or os.environ.get("LISTEN_FDS", "0") == "0":
        fail("no sockets found via socket activation: make sure the service was started by systemd", "failed to load listeners: ")
    with socket.socket(fileno=3) as listener:
        Path("/var/lib/lab-docker/images").mkdir(parents=True, exist_ok=True)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        signal.signal(signal.SIGHUP, lambda *_: None)  # few settings are read again; the cgroup driver is not
        ready()
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(3)
                try:
                    connection.recv(1000)
                    connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nOK")
                except OSError:
                    pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
