"""Attestations against the bundle: drift, missing steps, two holders of a VIP, certificates that end.  Pure: the clock is the caller's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from generator.attestation import Attestation, Planned, seconds
from generator.model import CONTROL_PLANE
from generator.wording import said

DAY = 86_400

# Steps that only read leave nothing behind; those that call kubeadm have a mark around it.
_READ_ONLY = (0, 90)
_MARKED = (50, 60, 65)
_STATES = {
    ("missing", False): "missing: {path}",
    ("missing", True): "block missing: {path}",
    ("changed", False): "changed: {path}",
    ("changed", True): "block changed: {path}",
    ("other", False): "no regular file: {path}",
    ("other", True): "no regular file: {path}",
}
_ENABLED = ("enabled", "static", "indirect", "generated", "alias", "transient")
# VRRP's own addresses (RFC 9568, section 7.3): a VIP may answer with one instead of its holder's.
_VRRP = ("00:00:5e:00:01:", "00:00:5e:00:02:")
# Claims about the VIP that lie farther apart than this, in seconds, may both have been true.
_TOGETHER = 600


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not as planned, on *host* or (empty) in the cluster; a *note* is no reason to act."""

    host: str
    kind: str
    message: str
    note: bool = False


@dataclass(frozen=True, slots=True)
class Comparison:
    """All *differences*, by host in the order of the inventory, those of the cluster last; *counted* is what each host says."""

    planned: Planned
    counted: Mapping[str, Attestation]
    differences: Sequence[Difference]

    @property
    def well(self) -> bool:
        """Whether all is as planned."""
        return all(difference.note for difference in self.differences)


def compare(planned: Planned, attestations: Iterable[Attestation], now: int, days: int) -> Comparison:
    """
    What *attestations* say against what is *planned*.

    Of several of one host the newest counts.  A certificate is named when it ends within *days* of *now*, or of its host's clock.
    """
    counted: dict[str, Attestation] = {}
    found: dict[str, list[Difference]] = {host: [] for host in planned.roles}
    for one in sorted(attestations, key=lambda one: (one.written, one.name)):
        former = counted.get(one.host)
        counted[one.host] = one
        if former is not None:
            message = said("{file} does not count: {other} is newer", file=former.name, other=one.name)
            found.setdefault(one.host, []).append(Difference(one.host, "older", message, note=True))
    for host in sorted(counted.keys() - planned.roles.keys()):
        message = said("{file}: the bundle has no host of that name", file=counted[host].name)
        found.setdefault(host, []).append(Difference(host, "host", message))
    for host in planned.roles:
        if host in counted:
            found[host] += _on_host(planned, counted[host], now, days)
        else:
            found[host].append(Difference(host, "attestation", "no attestation"))
    known = {host: counted[host] for host in planned.roles if host in counted}
    cluster = [Difference("", kind, message, note) for kind, message, note in _between(planned, known)]
    return Comparison(planned, counted, [difference for differences in found.values() for difference in differences] + cluster)


def _on_host(planned: Planned, one: Attestation, now: int, days: int) -> Iterator[Difference]:
    host = one.host
    if one.written > now + DAY:
        message = said("written at {time}, which is yet to come: its clock is wrong, or the one here", time=one.data["time"])
        yield Difference(host, "clock", message, note=True)
    if one.data["bundle"] != planned.sums[host]:
        message = said(
            "another bundle: its SHA256SUMS is {found}, planned {planned}", found=one.data["bundle"][:12], planned=planned.sums[host][:12]
        )
        yield Difference(host, "bundle", message)
    if one.data["role"] != planned.roles[host]:
        yield Difference(host, "role", said("it is a {found}, planned {planned}", found=one.data["role"], planned=planned.roles[host]))
    missing = dict(_steps(planned, one))
    topics: dict[str, Iterable[str]] = {
        "step": missing.values(),
        "file": _files(planned.files[host], one.data, missing),
        "private": _private(one.data),
        "unit": _units(one.data),
        "package": (
            said("package {name} is not installed", name=entry["name"]) for entry in one.data["packages"] if not entry.get("version")
        ),
        "version": _kubernetes(one.data),
        "etcd": _etcd(planned, one.data) if planned.roles[host] == CONTROL_PLANE else (),
        "certificate": _certificates(one.data, max(now, one.written), days),
        "check": (said("step 90: {problem}", problem=problem) for problem in one.data["failed"]),
    }
    for kind, messages in topics.items():
        yield from (Difference(host, kind, message) for message in messages)


def _steps(planned: Planned, one: Attestation) -> Iterator[tuple[int, str]]:
    """Steps that the host has yet to run, or to end."""
    marks, begun = set(one.data["marks"]), set(one.data["steps"])
    for number, name in planned.steps_of(one.host).items():
        finished = f"{number}-finished" in marks
        if f"{number}-started" in marks and not finished:
            yield number, said("step {step} has begun and not ended", step=name)
        elif number not in _READ_ONLY and not finished and (number in _MARKED or f"{number:02}" not in begun):
            yield number, said("step {step} has not run", step=name)


def _files(planned: Mapping[str, Mapping[str, Any]], data: Mapping[str, Any], undone: Iterable[int]) -> Iterator[str]:
    """Of a step that has yet to run no file is missed."""
    late = {path for path, wanted in planned.items() if wanted["step"] in set(undone)}
    found = {entry["path"]: entry for entry in data["files"]}
    for path, wanted in planned.items():
        entry = found.get(path)
        if entry is None:
            yield said("not attested: {path}", path=path)
        elif not (entry["state"] == "missing" and path in late):
            yield from _file(path, wanted, entry)
    yield from (said("not in the bundle: {path}", path=path) for path in found if path not in planned)


def _file(path: str, wanted: Mapping[str, Any], entry: Mapping[str, Any]) -> Iterator[str]:
    """Of a block neither mode nor owner is ours."""
    is_block, state = entry["how"] == "block", entry["state"]
    if state == "as-laid" and entry.get("sha256") != wanted["sha256"]:
        yield said("as another bundle has it: {path}", path=path)
    elif state != "as-laid":
        yield said(_STATES[state, is_block], path=path)
    if not is_block and state in ("as-laid", "changed"):
        for key, template in (("mode", "mode {found}, planned {planned}: {path}"), ("owner", "owner {found}, planned {planned}: {path}")):
            if entry.get(key) != wanted[key]:
                yield said(template, found=entry.get(key, "?"), planned=wanted[key], path=path)


def _private(data: Mapping[str, Any]) -> Iterator[str]:
    for entry in data["private"]:
        path, mode = entry["path"], entry.get("mode")
        if mode is None:
            yield said("missing: {path}", path=path)
        elif int(mode, 8) & 0o077:
            yield said("holds a secret and is open to others, mode {mode}: {path}", mode=mode, path=path)
        if entry.get("owner", "root:root") != "root:root":
            yield said("owner {found}, planned {planned}: {path}", found=entry["owner"], planned="root:root", path=path)


def _units(data: Mapping[str, Any]) -> Iterator[str]:
    for entry in data["units"]:
        if entry["active"] != "active":
            yield said("{unit} is {state}", unit=entry["unit"], state=entry["active"])
        if entry["enabled"] not in _ENABLED:
            yield said("{unit} does not come back with the host: {state}", unit=entry["unit"], state=entry["enabled"])


def _kubernetes(data: Mapping[str, Any]) -> Iterator[str]:
    wanted = f"v{data['kubernetes']}"
    for entry in data["programs"]:
        if not entry.get("version"):
            yield said("{program} does not say its version", program=entry["name"])
        elif entry["name"] in ("kubelet", "kubeadm") and entry["version"] != wanted:
            yield said("{program} is {found}, planned {planned}", program=entry["name"], found=entry["version"], planned=wanted)


def _etcd(planned: Planned, data: Mapping[str, Any]) -> Iterator[str]:
    members = data.get("etcd", [])
    if not members:
        yield said("its etcd lists no members")
        return
    wanted = [host for host, role in planned.roles.items() if role == CONTROL_PLANE]
    for member in members:
        name = member.get("name") or member["id"]
        if member["status"] != "started":
            yield said("member {name} of etcd is {state}", name=name, state=member["status"])
        elif name not in wanted:
            yield said("member {name} of etcd is not in the inventory", name=name)
        if member["learner"]:
            yield said("member {name} of etcd is a learner, it does not vote yet", name=name)
    there = {member.get("name") for member in members}
    yield from (said("{name} is no member of etcd", name=name) for name in wanted if name not in there)
    if data.get("healthy") is not True:
        yield said("not every member of etcd is healthy")


def _certificates(data: Mapping[str, Any], reference: int, days: int) -> Iterator[str]:
    for entry in data["certificates"]:
        path, ends = entry["path"], entry.get("ends")
        if ends is None:
            yield said("no certificate that can be read: {path}", path=path)
        elif seconds(ends) <= reference:
            yield said("certificate ended {time}: {path}", time=ends, path=path)
        elif seconds(ends) < reference + days * DAY:
            yield said("certificate ends {time}, in {days} days: {path}", time=ends, days=(seconds(ends) - reference) // DAY, path=path)


# --- between hosts ------------------------------------------------------------------------------------------------------------------------


def _between(planned: Planned, counted: Mapping[str, Attestation]) -> Iterator[tuple[str, str, bool]]:
    """Kind, message, and whether it is a note."""
    yield from _vips(planned, counted)
    lists = _groups(counted, lambda data: tuple(sorted((m["id"], m.get("name", "")) for m in data["etcd"])) if data.get("etcd") else None)
    if len(lists) > 1:
        yield "etcd", said("control planes list different members of etcd: {groups}", groups=_spelled(lists, with_value=False)), False
    for program in sorted({entry["name"] for one in counted.values() for entry in one.data["programs"]}):
        groups = _groups(counted, partial(_version, "programs", program))
        if len(groups) > 1:
            yield "version", said("{program} differs: {groups}", program=program, groups=_spelled(groups)), False
    # Another system has other versions of everything.
    for system in sorted({one.data["os"] for one in counted.values()}):
        alike = {host: one for host, one in counted.items() if one.data["os"] == system}
        programs = {entry["name"] for one in alike.values() for entry in one.data["programs"]}
        for package in sorted({entry["name"] for one in alike.values() for entry in one.data["packages"]} - programs):
            groups = _groups(alike, partial(_version, "packages", package))
            if len(groups) > 1:
                yield "version", said("package {name} differs: {groups}", name=package, groups=_spelled(groups)), False
        groups = _groups(alike, lambda data: data["kernel"])
        if len(groups) > 1:
            yield "kernel", said("the kernel differs: {groups}", groups=_spelled(groups)), True


def _vips(planned: Planned, counted: Mapping[str, Attestation]) -> Iterator[tuple[str, str, bool]]:
    claims: dict[str, dict[str, Mapping[str, Any]]] = defaultdict(dict)
    balancers = [host for host in planned.roles if planned.balances(host)]
    for host in balancers:
        for entry in counted[host].data["vips"] if host in counted else ():
            claims[entry["address"]][host] = entry
    macs = {one.data["mac"] for one in counted.values()}
    whole = all(host in counted for host in balancers)
    for vip, entries in claims.items():
        holders = [host for host, entry in entries.items() if entry["here"]]
        if len(holders) > 1:
            yield "vip", said("{count} hosts hold the VIP {vip}: {hosts}", count=len(holders), vip=vip, hosts=", ".join(holders)), False
        elif not holders and whole:
            yield "vip", said("no load balancer holds the VIP {vip}", vip=vip), False
        elif not holders:
            yield "vip", said("none of those that attested holds the VIP {vip}", vip=vip), True
        answers = {mac for entry in entries.values() for mac in entry.get("answers", "").split()} - {"here"} - macs
        strangers = sorted(mac for mac in answers if not mac.startswith(_VRRP))
        if strangers and whole:
            yield "vip", said("{macs} answers for the VIP {vip} and is none of these hosts", macs=", ".join(strangers), vip=vip), False
        times = [counted[host].written for host in entries]
        if len(holders) != 1 and max(times) - min(times) > _TOGETHER:
            minutes = (max(times) - min(times)) // 60
            yield "vip", said("they were asked {minutes} minutes apart: the VIP {vip} may have moved", minutes=minutes, vip=vip), True


def _version(kind: str, name: str, data: Mapping[str, Any]) -> str | None:
    return next((entry["version"] for entry in data[kind] if entry["name"] == name and entry.get("version")), None)


def _groups(counted: Mapping[str, Attestation], value: Callable[[Mapping[str, Any]], Any]) -> dict[Any, list[str]]:
    """Hosts by what *value* makes of their data, those without one left out."""
    groups: dict[Any, list[str]] = defaultdict(list)
    for host, one in counted.items():
        if (found := value(one.data)) is not None:
            groups[found].append(host)
    return groups


def _spelled(groups: Mapping[Any, Sequence[str]], *, with_value: bool = True) -> str:
    return "; ".join((f"{value}: " if with_value else "") + ", ".join(hosts) for value, hosts in groups.items())
