"""Which hosts there are and what each of them is."""

from __future__ import annotations

from dataclasses import dataclass, replace

from generator.adopt.claims import CONTROL_PLANE, LOAD_BALANCER, WORKER, Claims, Known, Machine
from generator.handwritten import Word

_TAKEN = "keepalived and nginx: taken to run on the control planes; give other hosts of theirs the role load-balancer"


@dataclass(frozen=True)
class Role:
    """A host and its role: *word* says so, or *guess* says why it had to be guessed."""

    machine: Machine
    name: str
    word: Word | None = None
    guess: str = ""


def cast(claims: Claims, *, dedicated: bool, balanced: bool) -> list[Role]:
    """
    The hosts of *claims*, and as many control planes more as a cluster needs.

    A host with keepalived or the balancer that is known not to be a control plane is a load balancer; where that isn't known, *dedicated*
    decides.
    """
    order = {name: number for number, name in enumerate(claims.names)}
    places = {one.text: order[name] for name, listed in reversed(claims.names.items()) for one in listed}

    def place(machine: Machine) -> tuple[int, bool]:
        by_address = [places[one.text] for listed in machine.addresses.values() for one in listed if one.text in places]
        return order.get(machine.name.value.lower(), min(by_address, default=len(order))), not machine.first

    machines = _paired(sorted(claims.machines, key=place), claims, dedicated=dedicated)
    if not dedicated:
        machines = _colocated(machines, claims)
    return _completed([_role(machine, claims, dedicated=dedicated) for machine in machines], claims, dedicated=dedicated, balanced=balanced)


def _paired(machines: list[Machine], claims: Claims, *, dedicated: bool) -> list[Machine]:
    """
    Control planes that are known by their names alone and those that are known by their addresses alone, taken as one in their order.

    A host with the load balancer is taken as one of them too, unless load balancers are *dedicated*.
    """
    nameless = [machine for machine in machines if machine.role.value == CONTROL_PLANE and not machine.name.value and not machine.carries]
    gone: set[int] = set()
    paired: list[Machine] = []
    for machine in machines:
        plane = machine.role.value == CONTROL_PLANE and claims.complete is not None
        if nameless and not machine.addresses and not machine.listed and (plane or (machine.carries and not dedicated)):
            other = nameless.pop(0)
            gone.add(id(other))
            if not plane:
                claims.note(_TAKEN)
            role = machine.role if plane else other.role
            settings = {**other.settings, **machine.settings}
            paired.append(replace(machine, addresses=other.addresses, role=role, settings=settings, first=machine.first or other.first))
        else:
            paired.append(machine)
    return [machine for machine in paired if id(machine) not in gone]


def _colocated(machines: list[Machine], claims: Claims) -> list[Machine]:
    """Load balancers of which nothing else is known, taken as control planes: the one that ran ``kubeadm init`` comes first."""
    nameless = [machine for machine in machines if machine.carries and not machine.name.value and not machine.addresses]
    free = [machine for machine in machines if machine.role.value == CONTROL_PLANE and not machine.carries and machine.addresses]
    pairs = list(zip(sorted(free, key=lambda machine: not machine.first), nameless, strict=False))
    if pairs:
        claims.note(_TAKEN)
    merged = {id(plane): replace(plane, settings={**plane.settings, **one.settings}, carries=True) for plane, one in pairs}
    gone = {id(one) for _, one in pairs}
    return [merged.get(id(machine), machine) for machine in machines if id(machine) not in gone]


def _role(machine: Machine, claims: Claims, *, dedicated: bool) -> Role:
    if machine.role.value == CONTROL_PLANE:
        return Role(machine, CONTROL_PLANE, machine.role.word)
    if machine.carries:
        known = claims.complete is not None and bool(machine.addresses)
        role = LOAD_BALANCER if known or dedicated else CONTROL_PLANE
        return Role(machine, role, None, "" if known else "keepalived or nginx runs there")
    if machine.role.value == WORKER:
        return Role(machine, WORKER, machine.role.word)
    return Role(machine, WORKER, None, "no file says what this host is")


def _completed(roles: list[Role], claims: Claims, *, dedicated: bool, balanced: bool) -> list[Role]:
    """With control planes (and *dedicated* load balancers) that no file speaks of, and the first control plane before the others."""
    planes = [role for role in roles if role.name == CONTROL_PLANE]
    wanted = len(planes)
    if claims.complete is None or not planes:
        wanted = max(wanted, 3 if balanced else 1)
        wanted += wanted > 1 and wanted % 2 == 0
    why = "an odd number of control planes, three or more, survives the loss of one"
    planes += [Role(Machine(Known("")), CONTROL_PLANE, None, why) for _ in range(wanted - len(planes))]
    planes.sort(key=lambda role: not role.machine.first)
    rest = [role for role in roles if role.name != CONTROL_PLANE]
    if dedicated and balanced and not any(role.machine.carries or role.name == LOAD_BALANCER for role in roles):
        rest = [Role(Machine(Known("")), LOAD_BALANCER, None, "no file says where the load balancer runs") for _ in range(2)] + rest
    at = next((number for number, role in enumerate(roles) if role.name == CONTROL_PLANE), 0)
    before = [role for role in roles[:at] if role.name != CONTROL_PLANE]
    return [*before, *planes, *(role for role in rest if role not in before)]
