"""Where the inventory says something, which networks it speaks of, how long a duration is: what the rules of several topics ask."""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from netaddr import IPNetwork

from generator.diagnostics import Path
from generator.lint import Finding
from generator.model import Cluster, Host
from generator.wording import said

LOCAL_NAMES = frozenset(("localhost", "localhost.localdomain", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback"))


class Place(NamedTuple):
    """An address with its prefix, its path, and how findings name it."""

    network: IPNetwork
    path: Path
    label: str


def stated_at(cluster: Cluster, host: Host, key: str, *below: str) -> Path:
    """Path of *host*'s setting *key*: the host's own where it has one, else the one in ``hostDefaults``."""
    own = cluster.lock["hosts"][host.index]
    # KubeletConfiguration alone is merged field by field.
    mine = below[0] in own.get(key, ()) if key == "kubelet" and below else key in own
    return ("hosts", host.index, key, *below) if mine else ("hostDefaults", key, *below)


def grouped(cluster: Cluster, hosts: Iterable[Host], key: str) -> dict[Path, list[Host]]:
    """*hosts* by the path that their setting *key* comes from, so that a default is reported once and not once a host."""
    groups: dict[Path, list[Host]] = {}
    for host in hosts:
        groups.setdefault(stated_at(cluster, host, key), []).append(host)
    return groups


def several(hosts: list[Host]) -> str:
    """``hosts[1] (a)``, or ``hosts[1] (a) and 3 more``."""
    return said("{host} and {count} more", host=hosts[0].label(), count=len(hosts) - 1) if len(hosts) > 1 else hosts[0].label()


def per_kubelet(cluster: Cluster, check: Callable[[dict[str, Any]], Iterator[tuple[str, str, str]]]) -> Iterator[Finding]:
    """
    Findings of *check* over each distinct KubeletConfiguration, once a place.

    *check* takes the fields and yields the field that is wrong (``field/key`` for one of its keys), a message and a remedy.
    """
    found: dict[tuple[Path, str], tuple[str, list[Host]]] = {}
    known: dict[int, list[tuple[str, str, str]]] = {}
    for host in cluster.kubernetes_hosts:
        key = id(host.settings)
        if key not in known:
            known[key] = list(check(dict(host.settings.kubelet)))
        for field, message, remedy in known[key]:
            path = stated_at(cluster, host, "kubelet", *field.split("/"))
            found.setdefault((path, message), (remedy, []))[1].append(host)
    for (path, message), (remedy, hosts) in found.items():
        yield Finding(path, said("{hosts}: {message}", hosts=several(hosts), message=message), remedy, on_key=True)


def seconds(text: str) -> int:
    """Seconds of a Go duration such as ``1h30m``; ``validate`` has seen to its form."""
    return sum(int(number) * {"h": 3600, "m": 60, "s": 1}[unit] for number, unit in re.findall(r"([0-9]+)([hms])", text))


def host_places(cluster: Cluster, host: Host) -> list[Place]:
    """The addresses of *host*."""
    listed = isinstance(cluster.lock["hosts"][host.index]["address"], list)
    base: Path = ("hosts", host.index, "address")
    return [Place(a, (*base, i) if listed else base, host.label()) for i, a in enumerate(host.addresses)]


def vip_places(cluster: Cluster) -> list[Place]:
    """The virtual IPs; none without an endpoint."""
    if cluster.endpoint is None:
        return []
    listed = isinstance(cluster.lock["controlPlaneEndpoint"]["address"], list)
    base: Path = ("controlPlaneEndpoint", "address")
    return [Place(a, (*base, i) if listed else base, said("VIP {address}", address=a.ip)) for i, a in enumerate(cluster.endpoint.addresses)]


def host_networks(cluster: Cluster, hosts: Iterable[Host] | None = None) -> list[Place]:
    """One place for each distinct network that *hosts* (all of them where none are given) stand in: that of the first host in it."""
    seen: dict[tuple[int, int, int], tuple[Host, int]] = {}
    for host in cluster.hosts if hosts is None else hosts:
        for index, address in enumerate(host.addresses):
            seen.setdefault((address.version, address.first, address.prefixlen), (host, index))
    return [host_places(cluster, host)[index] for host, index in seen.values()]


def node_mask(cluster: Cluster, network: IPNetwork) -> tuple[str, str]:
    """
    The flag by which kube-controller-manager cuts pod network *network* into node networks, and its value: 24 or 64 without a flag.

    A single-stack cluster may have the plain flag (cmd/kube-controller-manager/app/core.go, setNodeCIDRMaskSizes).
    """
    args = dict(cluster.controller_manager_args)
    single = "node-cidr-mask-size" in args and len(cluster.pod_subnets) == 1
    flag = "node-cidr-mask-size" if single else f"node-cidr-mask-size-ipv{network.version}"
    return flag, args.get(flag, "24" if network.version == 4 else "64")


def overlap(one: IPNetwork, other: IPNetwork) -> bool:
    """Whether two networks share an address, whichever contains the other."""
    return bool(one.version == other.version and one.first <= other.last and other.first <= one.last)


def holds(network: IPNetwork, address: IPNetwork) -> bool:
    """Whether the address of *address*, without its prefix, lies in *network*."""
    return bool(network.version == address.version and network.first <= address.value <= network.last)


def union(networks: Iterable[IPNetwork]) -> Callable[[IPNetwork], bool]:
    """A quick test whether an address (its prefix doesn't matter) lies in any of *networks*."""
    ranges: list[tuple[int, int, int]] = []
    for version, first, last in sorted((n.version, n.first, n.last) for n in networks):
        if ranges and ranges[-1][0] == version and ranges[-1][2] >= first - 1:
            ranges[-1] = (version, ranges[-1][1], max(last, ranges[-1][2]))
        else:
            ranges.append((version, first, last))

    def test(address: IPNetwork) -> bool:
        index = bisect_right(ranges, (address.version, address.value, 1 << 128)) - 1
        return index >= 0 and ranges[index][0] == address.version and address.value <= ranges[index][2]

    return test


def unusable(address: IPNetwork) -> str:
    """
    Why the address of *address* can't be that of an interface here, or an empty string.

    Loopback, multicast, link-local and unspecified addresses are refused by the kubelet too (``validateNodeIP``).  Of an IPv6 network the
    first address is the subnet-router anycast address (RFC 4291, 2.6.1); /31, /32, /127 and /128 have neither it nor a broadcast address.
    """
    value: int = address.value
    if address.version == 4:
        top = value >> 24
        kinds = {0: said("unspecified"), 127: said("a loopback address"), 255: said("reserved")}
        if top in kinds or 224 <= top < 240 or value >> 16 == 0xA9FE:
            return kinds.get(top, said("a link-local address") if value >> 16 == 0xA9FE else said("a multicast address"))
        if address.prefixlen <= 30 and value in (address.first, address.last):
            return said("the network address") if value == address.first else said("the broadcast address")
        return ""
    if value <= 1:
        return said("a loopback address") if value else said("unspecified")
    if value >> 120 == 0xFF or value >> 118 == 0x3FA or value >> 32 == 0xFFFF:
        return {0xFF: said("a multicast address"), 0xFE: said("a link-local address")}.get(value >> 120, said("an IPv4-mapped address"))
    return said("the subnet-router anycast address") if address.prefixlen <= 126 and value == address.first else ""
