"""The hosts of a draft, and what they share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from generator.adopt.addressing import Addressing
from generator.adopt.casting import Role
from generator.adopt.claims import CONTROL_PLANE, LOAD_BALANCER, Address, Machine, family
from generator.adopt.sheet import Sheet
from generator.diagnostics import Path

# What most hosts say is the default of all; of the others, only what all nodes say.
_OF_MOST = ("interface", "os")
_OF_ALL = ("imagePullPolicy", "ignorePreflightErrors", "taints", "labels", "kubeletExtraArgs")
_OS = "by the path of nginx's modules"


def defaults(sheet: Sheet, roles: Sequence[Role]) -> None:
    """``hostDefaults``: what was heard of all, and what hosts share."""
    for path, known in sheet.below(("hostDefaults",)):
        sheet.put(path, known.value, known.word)
    nodes = [role.machine for role in roles if role.name != LOAD_BALANCER]
    for key in _OF_MOST:
        speaking = [role.machine for role in roles if _said(role.machine, key) is not None]
        if speaking:
            values = [_said(machine, key) for machine in speaking]
            common = max(values, key=values.count)
            _share(sheet, key, speaking[values.index(common)])
    for key in _OF_ALL:
        values = [_said(machine, key) for machine in nodes]
        if values and values[0] is not None and all(value == values[0] for value in values):
            _share(sheet, key, nodes[0])
    given = sheet.draft.data.setdefault("hostDefaults", {})
    if "interface" not in given:
        sheet.put(("hostDefaults", "interface"), "eth0", guess="no file names the hosts' interface")
    if "os" in given:
        sheet.draft.guesses["hostDefaults", "os"] = _OS
    else:
        sheet.put(("hostDefaults", "os"), "rocky-9", guess="no file names the operating system")
    sheet.draft.guesses["hostDefaults", "gateway"] = "no file says it; add the hosts' default gateway"


def _said(machine: Machine, key: str) -> Any:
    """What *machine* says of *key*, what stands below it put together; None where it says nothing."""
    if key in machine.settings:
        return machine.settings[key].value
    below = {name.partition("/")[2]: known.value for name, known in machine.settings.items() if name.startswith(f"{key}/")}
    return below or None


def _share(sheet: Sheet, key: str, machine: Machine) -> None:
    if key not in sheet.draft.data.get("hostDefaults", {}):
        for name, known in machine.settings.items():
            if name.partition("/")[0] == key:
                sheet.put(("hostDefaults", *name.split("/", 1)), known.value, known.word)


def listed(sheet: Sheet, where: Addressing, roles: Sequence[Role]) -> None:
    """``hosts``, in their order."""
    names = {role.machine.name.value.lower() for role in roles}
    counters: dict[str, int] = {}
    for index, role in enumerate(roles):
        path: Path = ("hosts", index)
        name = role.machine.name.value
        if name:
            sheet.put((*path, "name"), name, role.machine.name.word)
        else:
            sheet.put((*path, "name"), _free_name(role.name, counters, names), guess="no file names this host")
        sheet.put((*path, "role"), role.name, role.word, role.guess)
        _addresses(sheet, path, where, role)
        first = next((one.text for found in role.machine.addresses.values() for one in found), "")
        sheet.draft.shown.append(name or first or role.machine.source or sheet.draft.data["hosts"][index]["name"])
        for key in role.machine.settings:
            if _has_effect(key.partition("/")[0], role, where.carrier):
                _setting(sheet, path, key, role.machine)


def _has_effect(key: str, role: Role, carrier: str) -> bool:
    if key == "priority":
        return role.name == carrier
    if key == "weight":
        return role.name == CONTROL_PLANE
    return key in _OF_MOST or role.name != LOAD_BALANCER


def _setting(sheet: Sheet, path: Path, key: str, machine: Machine) -> None:
    """A setting of its own, unless it is that of all."""
    known = machine.settings[key]
    shared = sheet.draft.data["hostDefaults"].get(key.partition("/")[0])
    if shared is None or shared != _said(machine, key.partition("/")[0]):
        sheet.put((*path, *key.split("/", 1)), known.value, known.word, _OS if key == "os" else "")


def _addresses(sheet: Sheet, path: Path, where: Addressing, role: Role) -> None:
    """One address of each of the cluster's families, in their order, then those of others; a load balancer needs the first alone."""
    own = role.machine.addresses
    wanted = where.families if role.name != LOAD_BALANCER else where.families[:1]
    found: list[Address] = []
    for version in (*wanted, *sorted(set(own) - set(wanted))):
        found += own.get(version, [])[:1] or [Address(where.free(version), None, None)]
    for number, one in enumerate(found):
        at = (*path, "address", number) if len(found) > 1 else (*path, "address")
        length = one.prefix if one.prefix is not None else where.prefix(one.text, carries=role.name == where.carrier)
        known = one in own.get(family(one.text), ())
        sheet.put(at, f"{one.text}/{length}", one.word, "" if known else "no file says this host's address")
        if known and one.prefix is None:
            sheet.draft.guesses[at] = "no file says the prefix length"


def _free_name(role: str, counters: dict[str, int], names: set[str]) -> str:
    while True:
        counters[role] = counters.get(role, 0) + 1
        name = f"{role}-{counters[role]}"
        if name not in names:
            return name
