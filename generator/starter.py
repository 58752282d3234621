"""A commented inventory to start from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from generator import versions
from generator.render import render


@dataclass(frozen=True, slots=True)
class Answers:
    """What ``stowage new`` was told; *control_planes* and *workers* are ``name=address/prefix``."""

    name: str
    version: str
    control_planes: Sequence[str]
    workers: Sequence[str]
    vip: str
    endpoint: str
    port: int
    router_id: int
    interface: str
    gateway: str
    os: str
    runtime: str
    cni: str


def starter(answers: Answers) -> str:
    """The inventory's text; whether it makes sense is for ``check`` to say."""
    roles = (("control-plane", answers.control_planes), ("worker", answers.workers))
    hosts = [
        {"name": name, "role": role, "address": address}
        for role, entries in roles
        for name, _, address in (e.partition("=") for e in entries)
    ]
    return render(
        "templates/starter/inventory.yaml.j2",
        {
            "name": answers.name,
            "version": answers.version,
            "pod_subnet": "10.244.0.0/16",
            "service_subnet": "10.96.0.0/16",
            "runtime": answers.runtime,
            "cni": answers.cni,
            "vip": answers.vip,
            "endpoint": answers.endpoint,
            "port": answers.port,
            "router_id": answers.router_id,
            "interface": answers.interface,
            "gateway": answers.gateway,
            "os": answers.os,
            "systems": " | ".join(versions.OPERATING_SYSTEMS),
            "hosts": hosts,
        },
    )


def completed(told: Mapping[str, Any]) -> Answers:
    """Answers from the options *told*; the example plan for what they leave out."""
    told = dict(told)
    if not told["control_planes"]:
        told["control_planes"] = tuple(f"master-{n}=192.168.1.{24 + n}/24" for n in (1, 2, 3))
        told["workers"] = told["workers"] or tuple(f"node-{n}=192.168.1.{27 + n}/24" for n in (1, 2, 3))
        told["vip"] = told["vip"] or "192.168.1.31/24"
        told["gateway"] = told["gateway"] or "192.168.1.1"
    told["vip"] = told["vip"] or ""
    told["version"] = told["version"] or versions.newest_patch(versions.NEWEST_MINOR)
    if told["router_id"] is None:
        told["router_id"] = router_id_of(told["vip"])
    return Answers(os=told.pop("system"), **told)


def asked(told: Mapping[str, Any], prompt: Callable[..., str]) -> Answers:
    """Answers from a person through *prompt*, ``click.prompt``'s signature; an empty name ends a list."""

    def listed(what: str, least: int) -> tuple[str, ...]:
        entries: list[str] = []
        while True:
            text = f"{what} {len(entries) + 1}, NAME=ADDRESS/PREFIX (empty: no more)"
            if entry := prompt(text, default="", show_default=False):
                entries.append(entry)
            elif len(entries) >= least:
                return tuple(entries)

    told = dict(told)
    told["name"] = prompt("Name of the cluster", default=told["name"])
    told["control_planes"] = listed("Control plane", 1)
    told["workers"] = told["workers"] or listed("Worker", 0)
    if len(told["control_planes"]) > 1 and not told["vip"]:
        told["vip"] = prompt("Virtual IP with prefix, free in the control planes' network")
    for key, what in (("interface", "Interface"), ("gateway", "Default gateway"), ("system", "Operating system")):
        told[key] = prompt(what, default=told[key], show_default=bool(told[key]))
    return completed(told)


def write(path: Path, text: str) -> None:
    """*text* at *path*, whole or not at all; raises FileExistsError where something is there already, and other OSErrors."""
    draft = path.with_name(f".{path.name}.stowage-new")
    try:
        draft.write_text(text, encoding="utf-8", newline="\n")
        # A link, unlike a rename, never replaces what is there.
        path.hardlink_to(draft)
    finally:
        draft.unlink(missing_ok=True)


def router_id_of(vip: str) -> int:
    """A VRRP router id to start from: the last number of *vip*, so that two clusters of one network differ; 1 where that can't be."""
    tail = vip.partition("/")[0].replace(":", ".").rsplit(".", 1)[-1]
    number = int(tail) if tail.isdecimal() else int(tail, 16) if tail and all(c in "0123456789abcdefABCDEF" for c in tail) else 1
    return number if 1 <= number <= 255 else 1
