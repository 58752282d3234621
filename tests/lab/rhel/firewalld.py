# ruff: noqa: T201 (a command prints)
"""``firewall-cmd`` and the daemon behind it, with firewalld's own rules for zones, ports that overlap, and the two configurations.

Where the host has ``nft``, the runtime configuration filters for real: what no rule lets in is refused, as on a RHEL host.
"""

from __future__ import annotations

import ipaddress
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import store

ZONES = ("block", "dmz", "drop", "external", "home", "internal", "public", "trusted", "work")
SERVICES = {"ssh": "22/tcp", "cockpit": "9090/tcp", "dhcpv6-client": "546/udp"}
PROTOCOLS = {"icmp": 1, "ipip": 4, "tcp": 6, "udp": 17, "gre": 47, "esp": 50, "ipv6-icmp": 58, "ospf": 89, "vrrp": 112, "sctp": 132}
EMPTY = {"services": [], "ports": [], "rich-rules": [], "sources": [], "interfaces": []}
ENABLED, NOT_ENABLED = 11, 12
Ports = list[tuple[int, int]]


class FirewallError(Exception):
    """An error of firewalld: its name, its status, what it is about."""

    def __init__(self, name: str, status: int, about: str) -> None:
        super().__init__(f"{name}: {about}" if about else name)
        self.status = status


def defaults() -> dict[str, Any]:
    zones = {name: {key: list(value) for key, value in EMPTY.items()} for name in ZONES}
    zones["public"]["services"] = ["cockpit", "dhcpv6-client", "ssh"]
    return {"default": "public", "zones": zones}


def running() -> bool:
    return (store.RUN / "firewalld.json").exists()


def configuration(*, permanent: bool) -> dict[str, Any]:
    return store.read("firewalld", defaults()) if permanent else store.read("firewalld", defaults(), store.RUN)


# --- ports: firewalld merges what overlaps, and cuts a hole where a part is removed -----------------------------------------------


def span(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (-1, -1)
    if not 0 <= first <= last <= 65535 or (match and match[2] and first == last):
        raise FirewallError("INVALID_PORT", 102, text)
    return first, last


def port(text: str) -> tuple[tuple[int, int], str]:
    ports, slash, protocol = text.partition("/")
    if not slash:
        raise FirewallError("INVALID_PORT", 102, "bad port (most likely missing protocol), correct syntax is portid[-portid]/protocol")
    if protocol not in {"tcp", "udp", "sctp", "dccp"}:
        raise FirewallError("INVALID_PROTOCOL", 103, protocol)
    return span(ports), protocol


def shown(ports: tuple[int, int], protocol: str) -> str:
    return f"{ports[0]}/{protocol}" if ports[0] == ports[1] else f"{ports[0]}-{ports[1]}/{protocol}"


def add_port(have: list[str], text: str, zone: str) -> list[str]:
    (first, last), protocol = port(text)
    ours = [one for one in have if port(one)[1] == protocol]
    if any(port(one)[0][0] <= first and last <= port(one)[0][1] for one in ours):
        raise FirewallError("ALREADY_ENABLED", ENABLED, f"'{text.replace('/', ':')}' already in '{zone}'")
    merged = [one for one in ours if port(one)[0][0] <= last and first <= port(one)[0][1]]
    for one in merged:
        first, last = min(first, port(one)[0][0]), max(last, port(one)[0][1])
    return [one for one in have if one not in merged] + [shown((first, last), protocol)]


def remove_port(have: list[str], text: str, zone: str) -> list[str]:
    (first, last), protocol = port(text)
    ours = [one for one in have if port(one)[1] == protocol]
    if not any(port(one)[0][0] <= first and last <= port(one)[0][1] for one in ours):
        raise FirewallError("NOT_ENABLED", NOT_ENABLED, f"'{text.replace('/', ':')}' not in '{zone}'")
    after = []
    for one in have:
        (low, high), its = port(one)
        if its != protocol or high < first or last < low:
            after.append(one)
            continue
        after += [shown((low, first - 1), protocol)] if low < first else []
        after += [shown((last + 1, high), protocol)] if last < high else []
    return after


# --- other items ----------------------------------------------------------------------------------------------------------------------


def protocol_of(rule: str) -> int:
    """The number of the IP protocol that a rich rule of the form the scripts use accepts."""
    match = re.fullmatch(r'rule(?: family="?ipv[46]"?)? protocol value="?([\w-]+)"? accept', rule)
    if match is None:
        if not rule.startswith("rule"):
            raise FirewallError("INVALID_RULE", 122, rule)
        store.unknown("firewall-cmd rich rule", rule)
    if match[1].isdigit() and int(match[1]) <= 255:
        return int(match[1])
    if match[1] not in PROTOCOLS:
        raise FirewallError("INVALID_PROTOCOL", 103, match[1])
    return PROTOCOLS[match[1]]


def changed(kind: str, have: list[str], value: str, *, add: bool, zone: str, zones: dict[str, Any]) -> list[str]:
    """The list of *kind* with *value* added or removed; raises what firewalld would."""
    if kind == "ports":
        return (add_port if add else remove_port)(have, value, zone)
    if kind == "rich-rules":
        protocol_of(value)
        value = re.sub(r'value="?([\w-]+)"?', r'value="\1"', value)
    elif kind == "sources":
        try:
            ipaddress.ip_network(value, strict=False)
        except ValueError:
            raise FirewallError("INVALID_ADDR", 105, value) from None
        other = next((name for name, one in zones.items() if name != zone and value in one["sources"]), None)
        if add and other:
            raise FirewallError("ZONE_CONFLICT", 49, f"'{value}' already bound to '{other}'")
    elif kind == "services" and value not in SERVICES:
        raise FirewallError("INVALID_SERVICE", 101, value)
    if add == (value in have):
        word, status = ("ALREADY_ENABLED", ENABLED) if add else ("NOT_ENABLED", NOT_ENABLED)
        raise FirewallError(word, status, f"'{value}' {'already' if add else 'not'} in '{zone}'")
    return [*have, value] if add else [one for one in have if one != value]


# --- the packet filter ----------------------------------------------------------------------------------------------------------------


def ruleset(active: dict[str, Any]) -> str:
    """nft rules of the runtime configuration: one filter of what comes in and what is forwarded."""
    rules = [
        "ct state established,related accept",
        'iifname "lo" accept',
        "ct state invalid drop",
        "meta l4proto { icmp, ipv6-icmp } accept",
    ]
    rules += [f"ip{'6' if ':' in source else ''} saddr {source} accept" for source in active["zones"]["trusted"]["sources"]]
    names = {name for name, zone in active["zones"].items() if zone["interfaces"]} | {active["default"]}
    opened = []
    for name in sorted(names):
        zone = active["zones"][name]
        condition = ""
        if name != active["default"]:
            condition = "iifname { " + ", ".join(f'"{one}"' for one in zone["interfaces"]) + " } "
        if name == "trusted":
            opened.append(f"{condition}accept")
        for item in [*zone["ports"], *(SERVICES[service] for service in zone["services"])]:
            ports, protocol = item.split("/")
            opened.append(f"{condition}{protocol} dport {ports} accept")
        opened += [f"{condition}meta l4proto {protocol_of(rule)} accept" for rule in zone["rich-rules"]]
    body = "\n    ".join([*rules, *opened, "reject with icmpx admin-prohibited"])
    forward = "\n    ".join([*rules, "reject with icmpx admin-prohibited"])
    return f"""table inet firewalld {{}}
delete table inet firewalld
table inet firewalld {{
  chain filter_INPUT {{
    type filter hook input priority 10; policy accept;
    {body}
  }}
  chain filter_FORWARD {{
    type filter hook forward priority 10; policy accept;
    {forward}
  }}
}}
"""


def apply(active: dict[str, Any] | None) -> None:
    """Makes the kernel filter as *active* says; None takes the filter away."""
    if Path("/") != store.ROOT or shutil.which("nft") is None:
        return
    text = ruleset(active) if active else "table inet firewalld {}\ndelete table inet firewalld\n"
    done = subprocess.run(["nft", "-f", "-"], input=text, text=True, capture_output=True, check=False)
    if done.returncode:
        raise FirewallError("COMMAND_FAILED", 13, f"'nft -f' failed: {done.stderr}")


def activate() -> None:
    """The permanent configuration becomes the runtime's."""
    active = configuration(permanent=True)
    store.write("firewalld", active, store.RUN)
    apply(active)


def daemon() -> int:
    """The process behind firewalld.service; SIGHUP reloads."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, signal.SIGTERM})
    with store.alone():
        activate()
    while signal.sigwait({signal.SIGHUP, signal.SIGTERM}) == signal.SIGHUP:
        with store.alone():
            activate()
    with store.alone():
        (store.RUN / "firewalld.json").unlink(missing_ok=True)
        apply(None)
    return 0


# --- the command ----------------------------------------------------------------------------------------------------------------------


def report(what: Any) -> int:
    print(what)
    return 0


def command(words: list[str]) -> int:
    """One call of firewall-cmd."""
    quiet = bool({"-q", "--quiet"} & set(words))
    permanent = "--permanent" in words
    zone = next((word.partition("=")[2] for word in words if word.startswith("--zone=")), "")
    actions = [word for word in words if word not in {"-q", "--quiet", "--permanent"} and not word.startswith("--zone=")]
    if len(actions) != 1:
        store.unknown("firewall-cmd", *words)
    if not running():
        store.stop("" if quiet else "FirewallD is not running", 252)
    verb, _, value = actions[0].partition("=")
    with store.alone():
        config = configuration(permanent=permanent)
        zone = zone or config["default"]
        if zone not in config["zones"]:
            raise FirewallError("INVALID_ZONE", 112, zone)
        if listed := re.fullmatch(r"--list-(ports|rich-rules|sources|services|interfaces)", verb):
            have = config["zones"][zone][listed[1]]
            return report(("\n" if listed[1] == "rich-rules" else " ").join(have))
        match = re.fullmatch(r"--(add|remove)-(port|rich-rule|source|service|interface)", verb)
        if match is None or not value:
            return other(verb, value, config, permanent=permanent)
        try:
            change(config, zone, f"{match[2]}s", value, add=match[1] == "add")
        except FirewallError as error:
            if error.status not in {ENABLED, NOT_ENABLED}:
                raise
            if not quiet:
                print(f"Warning: {error}", file=sys.stderr)
        else:
            if not permanent:
                apply(config)
            store.write("firewalld", config, store.STATE if permanent else store.RUN)
    return 0 if quiet else report("success")


def change(config: dict[str, Any], zone: str, kind: str, value: str, *, add: bool) -> None:
    """Adds or removes an item of a zone."""
    zones = config["zones"]
    zones[zone][kind] = changed(kind, zones[zone][kind], value, add=add, zone=zone, zones=zones)


def other(verb: str, value: str, config: dict[str, Any], *, permanent: bool) -> int:
    """What isn't about the items of a zone."""
    if verb == "--get-zone-of-interface" and value:
        name = next((name for name, zone in config["zones"].items() if value in zone["interfaces"]), None)
        if name is None:
            store.stop("no zone", 2)
        return report(name)
    if verb == "--get-default-zone":
        return report(config["default"])
    if verb == "--state":
        return report("running")
    if verb == "--reload" and not permanent:
        activate()
        return report("success")
    return store.unknown("firewall-cmd", verb, value)


def main(words: list[str]) -> int:
    if words == ["--daemon"]:
        return daemon()
    if words == ["--defaults"]:  # of a host that is being made
        store.write("firewalld", defaults())
        return 0
    try:
        return command(words)
    except FirewallError as error:
        store.stop(f"Error: {error}", error.status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
