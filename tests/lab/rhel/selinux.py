# ruff: noqa: T201 (a command prints)
"""SELinux's commands on a RHEL-like host: ports, booleans, labels. ``selinux.py COMMAND ARGUMENTS``.

``confined`` is what enforcement would do to nginx as a service: it stands in its unit as ExecStartPre.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import store

# Of RHEL 9's policy: type, protocol, ports. A port of a range belongs to the range's type until it has one of its own.
POLICY = (
    ("dns_port_t", "tcp", "53, 853"), ("http_cache_port_t", "tcp", "8080, 8118, 8123, 10001-10010"),
    ("http_port_t", "tcp", "80, 81, 443, 488, 8008, 8009, 8443, 9000"), ("kerberos_port_t", "tcp", "88, 750, 4444"),
    ("kubernetes_port_t", "tcp", "10250, 10257, 10259, 6443"), ("ssh_port_t", "tcp", "22"), ("websm_port_t", "tcp", "9090"),
    ("unreserved_port_t", "tcp", "61001-65535, 1024-32767"), ("ephemeral_port_t", "tcp", "32768-60999"),
    ("reserved_port_t", "tcp", "1-511"), ("dns_port_t", "udp", "53, 853"), ("kerberos_port_t", "udp", "88, 750, 4444"),
)  # fmt: skip
BOOLEANS = {"httpd_can_network_connect": False, "httpd_can_network_relay": False, "domain_can_mmap_files": True}
HEADER = "SELinux Port Type              Proto    Port Number\n"


def root() -> None:
    if os.geteuid() != 0:
        store.stop("ValueError: SELinux policy is not managed or store cannot be accessed.")


def custom() -> dict[str, str]:
    """The ports that were labelled on this host: "tcp/16443" to a type."""
    return store.read("selinux-ports", {})


def rows(*, local: bool) -> list[str]:
    """The listing: what was labelled here comes first in its type's line."""
    found: dict[tuple[str, str], list[str]] = {}
    for key, name in custom().items():
        protocol, _, port = key.partition("/")
        found.setdefault((name, protocol), []).append(port)
    if not local:
        for name, protocol, ports in POLICY:
            found.setdefault((name, protocol), []).extend(ports.split(", "))
    return [f"{name:<30} {protocol:<8} {', '.join(ports)}" for (name, protocol), ports in sorted(found.items())]


def defined(protocol: str, port: str) -> bool:
    return f"{protocol}/{port}" in custom() or any(its == protocol and port in ports.split(", ") for _, its, ports in POLICY)


def semanage(words: list[str]) -> int:
    if words[:1] != ["port"]:
        store.unknown("semanage", *words)
    root()
    options, rest, flags = {}, [], set()
    arguments = iter(words[1:])
    for word in arguments:
        if word in {"-t", "-p"}:
            options[word] = next(arguments, "")
        elif word in {"-l", "-C", "-n", "-a", "-m", "-d"}:
            flags.add(word)
        elif word.startswith("-"):
            store.unknown("semanage", *words)
        else:
            rest.append(word)
    if "-l" in flags and not rest and not options:
        lines = rows(local="-C" in flags)
        print(("" if "-n" in flags or not lines else HEADER + "\n") + "".join(f"{line}\n" for line in lines), end="")
        return 0
    protocol, kind = options.get("-p", ""), options.get("-t", "")
    if len(flags) != 1 or len(rest) != 1:
        store.unknown("semanage", *words)
    if protocol not in {"tcp", "udp", "sctp", "dccp"}:
        store.stop("ValueError: Protocol has to be one of udp, tcp, dccp or sctp")
    if not re.fullmatch(r"\d+(-\d+)?", rest[0]) or max(int(one) for one in rest[0].split("-")) > 65535:
        store.stop("ValueError: Invalid Port")
    return change(flags.pop(), f"{protocol}/{rest[0]}", kind)


def change(verb: str, key: str, kind: str) -> int:
    protocol, _, port = key.partition("/")
    with store.alone():
        ports = custom()
        if verb == "-d":
            if key not in ports:
                store.stop(
                    f"ValueError: Port {key} is {'defined in policy, cannot be deleted' if defined(protocol, port) else 'not defined'}"
                )
            del ports[key]
        else:
            if not kind:
                store.stop("ValueError: Type is required" if verb == "-a" else "ValueError: Requires setype or serange")
            if kind not in {name for name, _, _ in POLICY}:
                store.stop(f"ValueError: Type {kind} is invalid, must be a port type")
            if verb == "-m" and not defined(protocol, port):
                store.stop(f"ValueError: Port {key} is not defined")
            if verb == "-a" and defined(protocol, port):
                print(f"Port {key} already defined, modifying instead")  # since policycoreutils 3.6; before, it was refused
            ports[key] = kind
        store.write("selinux-ports", ports)
    return 0


def getsebool(words: list[str]) -> int:
    if len(words) != 1 or words[0].startswith("-"):
        store.unknown("getsebool", *words)
    values = BOOLEANS | store.read("selinux-booleans", {})
    if words[0] not in values:
        store.stop(f"Error getting active value for {words[0]}")
    print(f"{words[0]} --> {'on' if values[words[0]] else 'off'}")
    return 0


def setsebool(words: list[str]) -> int:
    if len(words) != 3 or words[0] != "-P" or words[2].lower() not in {"0", "1", "on", "off", "true", "false"}:
        store.unknown("setsebool", *words)
    if os.geteuid() != 0:
        store.stop("Cannot set persistent booleans, please try as root.")
    if words[1] not in BOOLEANS:
        store.stop(f"Boolean {words[1]} is not defined")
    with store.alone():
        store.write("selinux-booleans", store.read("selinux-booleans", {}) | {words[1]: words[2].lower() in {"1", "on", "true"}})
    return 0


def restorecon(words: list[str]) -> int:
    paths = [word for word in words if not word.startswith("-")]
    if not paths or any(word not in {"-F", "-R", "-v", "-i"} for word in words if word.startswith("-")):
        store.unknown("restorecon", *words)
    for path in paths:
        if not os.path.lexists(store.ROOT / path.lstrip("/")):
            store.stop(f"restorecon: SELinux: Could not get canonical path for {path} restorecon: No such file or directory.", 255)
        store.note("relabelled", path)
    return 0


def confined(words: list[str]) -> int:
    """Whether nginx as httpd_t may listen where its configuration says, and reach its upstreams."""
    text = Path(words[0] if words else "/etc/nginx/nginx.conf").read_text()
    allowed = {
        port.strip()
        for row in rows(local=False)
        if row.startswith("http_port_t ") and " tcp " in row
        for port in row.split(None, 2)[2].split(",")
    }
    for address in re.findall(r"^\s*listen\s+([^\s;]+)", text, re.MULTILINE):
        if (port := address.rpartition(":")[2]) not in allowed:
            store.stop(f"nginx: [emerg] bind() to {address} failed (13: Permission denied) (SELinux: {port} is no http_port_t)")
    if "proxy_pass" in text and not (BOOLEANS | store.read("selinux-booleans", {}))["httpd_can_network_connect"]:
        store.stop("nginx: connect() to upstream would fail (13: Permission denied) (SELinux: httpd_can_network_connect is off)")
    return 0


def enabled(words: list[str]) -> int:
    return store.unknown("selinuxenabled", *words) if words else 0


def getenforce(words: list[str]) -> int:
    if words:
        store.unknown("getenforce", *words)
    print("Enforcing")
    return 0


COMMANDS = {
    "semanage": semanage, "getsebool": getsebool, "setsebool": setsebool, "restorecon": restorecon,
    "selinuxenabled": enabled, "getenforce": getenforce, "confined": confined,
}  # fmt: skip

if __name__ == "__main__":
    sys.exit(COMMANDS[sys.argv[1]](sys.argv[2:]))
