"""What files say of a cluster, claim by claim, each with its word: settings by their path in an inventory, and the hosts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_interface
from typing import Any, NamedTuple

from generator.diagnostics import Path
from generator.handwritten import Word

CONTROL_PLANE, WORKER, LOAD_BALANCER = "control-plane", "worker", "load-balancer"
# More of these are no cluster; what is beyond is not looked at.
MAX_MACHINES, MAX_ADDRESSES, MAX_NAMES, MAX_CLAIMS = 2000, 4, 5000, 5000
# No one looks for a word on a longer line.
_LONG = 20_000


class Known(NamedTuple):
    """A value and the word that says it; None where it follows from what isn't there (a program's own default)."""

    value: Any
    word: Word | None = None


class Address(NamedTuple):
    """An address without its prefix, the prefix length where somebody said one, and the word."""

    text: str
    prefix: int | None
    word: Word | None


def address(text: str, word: Word | None = None) -> Address | None:
    """*text* (``10.0.0.1``, ``10.0.0.1/24``, ``[fd00::1]``) as an address; None for what is none."""
    plain, slash, _ = text.strip("[]").partition("/")
    try:
        where = ip_interface(text.strip("[]")) if slash else ip_interface(str(ip_address(plain)))
    except ValueError:
        return None
    return None if "%" in plain else Address(str(where.ip), where.network.prefixlen if slash else None, word)


def family(text: str) -> int:
    """4 or 6."""
    return 6 if ":" in text else 4


@dataclass(eq=False)
class Machine:
    """
    One host as far as it is known.

    *carries*: it has a load balancer before the API; *first*: ``kubeadm init`` ran there; *listed*: it is among those that a load balancer
    knows as API servers; *source*: the file that spoke of it first.
    """

    name: Known
    addresses: dict[int, list[Address]] = field(default_factory=dict)
    role: Known = field(default_factory=lambda: Known(""))
    settings: dict[str, Known] = field(default_factory=dict)
    carries: bool = False
    first: bool = False
    listed: bool = False
    source: str = ""

    def at(self, found: Address | None) -> None:
        """It has this address."""
        if found is not None:
            listed = self.addresses.setdefault(family(found.text), [])
            same = next((i for i, one in enumerate(listed) if one.text == found.text), None)
            if same is None:
                if len(listed) < MAX_ADDRESSES:
                    listed.append(found)
            elif listed[same].word is None or (listed[same].prefix is None and found.prefix is not None):
                listed[same] = found

    def all_addresses(self) -> Iterator[Address]:
        """Every address of it."""
        return (one for listed in self.addresses.values() for one in listed)

    def plays(self, role: str, word: Word | None = None) -> None:
        """It has this role; who runs a control plane is one, whatever else is said of it."""
        said = self.role.value
        if not said or (said, role) == (WORKER, CONTROL_PLANE) or (self.role.word is None and said == role):
            self.role = Known(role, word)

    def has(self, key: str, value: Any, word: Word | None = None) -> None:
        """Its setting *key*; the first that says it counts."""
        self.settings.setdefault(key, Known(value, word))


class Claims:
    """
    All claims.

    *complete* is the word by which all control planes are known, *addressed* an endpoint that is an IPv6 address, *notes* are what no
    inventory can hold.
    """

    def __init__(self) -> None:
        self.told: dict[Path, dict[str, Known]] = {}
        self.machines: list[Machine] = []
        self.vips: list[Address] = []
        self.names: dict[str, list[Address]] = {}
        self.complete: Word | None = None
        self.addressed: Address | None = None
        self.notes: dict[str, None] = {}
        self._by_name: dict[str, Machine] = {}
        self._by_address: dict[str, Machine] = {}

    def say(self, path: Path, value: Any, word: Word | None = None, who: str = "") -> None:
        """*who* (a host's own file; empty: the cluster's) says *value* at *path*; the first word of each counts."""
        if value is not None and (path in self.told or len(self.told) < MAX_CLAIMS):
            self.told.setdefault(path, {}).setdefault(who, Known(value, word))

    def speakers(self) -> tuple[str, ...]:
        """Whose files say something of their own, in order."""
        return tuple(dict.fromkeys(who for entries in self.told.values() for who in entries if who))

    def heard(self, view: str) -> dict[Path, Known]:
        """What counts, path by path: the cluster's word, else that of *view*, else the first."""
        picked = {}
        for path, entries in self.told.items():
            first = next(iter(entries))
            picked[path] = entries[first if first == "" or view not in entries else view]
        return picked

    def note(self, text: str) -> None:
        """Something that an adopted inventory leaves out, told once."""
        self.notes.setdefault(text)

    def machine(self, name: str = "", where: Address | None = None, word: Word | None = None) -> Machine:
        """The host of this name or address, made where it is new."""
        by_name = self._by_name.get(name.lower()) if name else None
        by_address = self._by_address.get(where.text) if where else None
        found = by_name or by_address
        if found is None or (name and found.name.value and found is by_address and by_name is None):
            found = Machine(Known(""))
            if len(self.machines) >= MAX_MACHINES:
                return found
            self.machines.append(found)
        elif by_name and by_address and by_address is not by_name and not by_address.name.value:
            self._merge(by_name, by_address)
        if name and not found.name.value:
            found.name = Known(name, word)
        elif name and found.name.word is None and word is not None:
            found.name = Known(found.name.value, word)
        found.at(where)
        if name:
            self._by_name[name.lower()] = found
        if where:
            self._by_address.setdefault(where.text, found)
        return found

    def _merge(self, into: Machine, other: Machine) -> None:
        for listed in other.addresses.values():
            for one in listed:
                into.at(one)
        if other.role.value:
            into.plays(*other.role)
        for key, known in other.settings.items():
            into.settings.setdefault(key, known)
        into.carries |= other.carries
        self.machines = [machine for machine in self.machines if machine is not other]
        self._by_address |= {text: into for text, machine in self._by_address.items() if machine is other}

    def known_address(self, text: str) -> Machine | None:
        """The host that has this address."""
        return self._by_address.get(text)

    def known_name(self, text: str) -> Machine | None:
        """The host of this name."""
        return self._by_name.get(text.lower())


def part(word: Word, text: str) -> Word:
    """*text*, which is a piece of *word*, at its own place where it is found on the word's line."""
    at = word.spot.at
    line = word.spot.source.line(at.line) if len(word) < _LONG else ""
    column = line.find(text, at.column - 1)
    if column < 0:
        return word
    return Word.at(text, word.spot.source, at.line, column + 1)


_TIME = re.compile(r"(?:([0-9]{1,6})d)?(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,6})s?)?(?:([0-9]{1,6})ms)?")


def nginx_time(text: str) -> str | None:
    """nginx's ``1m30s``, ``20`` or ``500ms`` with one unit, as an inventory has it; None for zero and for what is no time."""
    found = _TIME.fullmatch(text.replace(" ", ""))
    if found is None or not text:
        return None
    days, hours, minutes, seconds, rest = (int(piece or 0) for piece in found.groups())
    total = (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1000 + rest
    for unit, size in (("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        if total and total % size == 0 and total // size <= 999_999:
            return f"{total // size}{unit}"
    return None


def whole(text: str | None, least: int, most: int) -> int | None:
    """*text* as a whole number between *least* and *most*; None for anything else."""
    if text is None or not re.fullmatch(r"[0-9]{1,9}", text):
        return None
    return int(text) if least <= int(text) <= most else None
