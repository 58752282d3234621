"""Addresses of a draft: which VIPs, which families, which prefix lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from netaddr import IPAddress, IPNetwork

from generator.adopt.casting import Role
from generator.adopt.claims import CONTROL_PLANE, LOAD_BALANCER, Address, Claims, Known, address, family
from generator.adopt.sheet import Guessing
from generator.diagnostics import Path

_NAME: Path = ("controlPlaneEndpoint", "name")


class Addressing:
    """The addresses of *roles*; those that are guessed are none that somebody has."""

    def __init__(self, claims: Claims, heard: Mapping[Path, Known], roles: Sequence[Role], guessing: Guessing) -> None:
        self.roles, self.guessing = roles, guessing
        self.carrier = LOAD_BALANCER if any(role.name == LOAD_BALANCER for role in roles) else CONTROL_PLANE
        pods = heard.get(("cluster", "podSubnet"))
        self.pods = tuple(dict.fromkeys(one.version for one in networks(pods))) if pods else ()
        self.vips = _vips(claims, heard, self.pods)
        hosts = [one for role in roles for one in role.machine.all_addresses()]
        self.known = {one.text for one in (*hosts, *self.vips)}
        self.families = self.pods or tuple(sorted({family(text) for text in self.known})) or (4,)
        self._near = [*self.vips, *hosts]
        self._carried = _spans([*self.vips, *(one for role in roles if role.name == self.carrier for one in role.machine.all_addresses())])
        self._all = _spans(self._near)
        self._numbers = {4: iter(range(11, 1 << 16)), 6: iter(range(11, 1 << 16))}

    def prefix(self, text: str, *, carries: bool) -> int:
        """The prefix length of an address of which nobody said it; hosts that carry the VIP are in one network with it."""
        version = family(text)
        bits = 32 if version == 4 else 128
        if self.guessing.prefixes == "narrow":
            return bits
        around = [vip.prefix for vip in self.vips if vip.prefix and 8 <= vip.prefix < bits - 1 and _holds(vip, text)]
        most = around[0] if around else 24 if version == 4 else 64
        if self.guessing.prefixes == "wide":
            return _cover(text, self._all, most)
        return _cover(text, self._carried, most) if carries else most

    def free(self, version: int) -> str:
        """An address that nobody has, beside the VIP or the first host."""
        fallback = "192.168.1.1" if version == 4 else "fd00:192:168:1::1"
        near = next((one.text for one in self._near if family(one.text) == version), fallback)
        first = IPNetwork(f"{near}/{24 if version == 4 else 64}").first
        for number in self._numbers[version]:
            text = str(IPAddress(first + number, version))
            if text not in self.known:
                return text
        return near


def _vips(claims: Claims, heard: Mapping[Path, Known], pods: tuple[int, ...]) -> list[Address]:
    """One VIP a family: that of the endpoint's name, else the first that keepalived has."""
    name = heard.get(_NAME, Known(""))
    named = claims.names.get(name.value, [])
    literal = [one for one in (address(name.value, name.word), claims.addressed) if one is not None]
    free = [one for one in (*named, *literal) if claims.known_address(one.text) is None]
    wanted = {one.text for one in (*named, *literal)}
    # keepalived takes an address without a prefix length for one of its own.
    held = [vip._replace(prefix=32 if family(vip.text) == 4 else 128) if vip.prefix is None else vip for vip in claims.vips]
    held.sort(
        key=lambda vip: (vip.text not in wanted, vip.prefix in (32, 128) and any(o.text == vip.text and o.prefix for o in claims.vips))
    )
    first: dict[int, Address] = {}
    for vip in held or free:
        first.setdefault(family(vip.text), vip)
    return [vip for number, vip in enumerate(first.values()) if number == 0 or not pods or family(vip.text) in pods]


def networks(known: Known) -> list[IPNetwork]:
    """The networks that a claim such as ``10.244.0.0/16,fd00:10:244::/56`` names, as far as they are some."""
    found = (address(text) for text in str(known.value).split(",")[:2])
    return [IPNetwork(f"{where.text}/{where.prefix}") for where in found if where is not None and where.prefix is not None]


def _holds(vip: Address, text: str) -> bool:
    return family(vip.text) == family(text) and IPAddress(text) in IPNetwork(f"{vip.text}/{vip.prefix}")


def _spans(near: Sequence[Address]) -> dict[int, tuple[int, int]]:
    """The lowest and the highest address of each family, as numbers."""
    spans: dict[int, tuple[int, int]] = {}
    for one in near:
        number, version = int(IPAddress(one.text)), family(one.text)
        low, high = spans.get(version, (number, number))
        spans[version] = min(low, number), max(high, number)
    return spans


def _cover(text: str, spans: Mapping[int, tuple[int, int]], most: int) -> int:
    """The longest prefix, up to *most*, whose network holds *text* and its family's span; *most* where they are too far apart."""
    version, number = family(text), int(IPAddress(text))
    bits = 32 if version == 4 else 128
    low, high = spans.get(version, (number, number))
    common = bits - (min(low, number) ^ max(high, number)).bit_length()
    return min(most, common) if common >= bits // 4 else most
