"""What a verdict needs of the whole cluster: its own addresses and names, those of the site, its registry; and which host runs a step."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from generator.closure.folders import Cluster, Folder, Texts
from generator.closure.urls import host_of
from generator.handwritten import documents
from generator.source import Source

_LOCK = "inventory.lock.yaml"
_CLUSTER = re.compile(r"^cluster:\n(?:[ #-].*\n|\n)*", re.MULTILINE)
_PROXY = re.compile(r"""^ +https?Proxy: +["']?([^\s"']+)""", re.MULTILINE)
_CLOCKS = re.compile(r"^ +ntpServers:\n((?: +- .+\n)+)", re.MULTILINE)
_ENTRY = re.compile(r"""- ["']?([^\s"']+)""")


def cluster(root: Path, folders: Iterable[Folder]) -> Cluster:
    """As the host folders and the lock of the inventory at *root* say."""
    addresses: set[str] = set()
    names: set[str] = set()
    for folder in folders:
        names |= {folder.name, folder.get("HOST"), folder.get("ENDPOINT_NAME")}
        pairs = (pair.rpartition("=")[2] for name in ("LB_HOSTS", "CONTROL_PLANES", "WORKERS") for pair in folder.get(name).split())
        plain = (one.partition("/")[0] for name in ("ADDRESSES", "VIPS") for one in folder.get(name).split())
        addresses |= {_address(one) for one in (*pairs, *plain)}
    lock = Texts().read(root / _LOCK) if (root / _LOCK).is_file() else ""
    site = {host_of(url) for url in _PROXY.findall(lock)}
    site |= {host_of(one) for servers in _CLOCKS.findall(lock) for one in _ENTRY.findall(servers)}
    settings = _settings(lock)
    registry = settings.get("registry")
    address = str(registry.get("address") or "") if isinstance(registry, dict) else ""
    site.add(address.partition("/")[0].partition(":")[0])
    for entry in settings.get("extraHosts") or () if isinstance(settings.get("extraHosts"), list) else ():
        site |= {str(value) for value in entry.values()} if isinstance(entry, dict) else set()
    return Cluster(frozenset(addresses - {""}), frozenset(names - {""}), frozenset(site - {""}), address)


def _settings(lock: str) -> dict[str, Any]:
    """``cluster`` of the lock: the hosts below it may be a thousand, and nothing here asks for them."""
    found = _CLUSTER.search(lock)
    read = documents.read(Source(_LOCK, found[0]))[0] if found else ()
    settings = read[0].get("cluster") if read else None
    return settings if isinstance(settings, dict) else {}


def _address(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        return ""


def runs(folder: Folder, group: str) -> bool:
    """Whether the host runs the steps of *group* (``generator.steps``)."""
    role, first = folder.get("ROLE"), folder.get("FIRST") == "1"
    return {
        "kubernetes": folder.get("KUBERNETES") == "1",
        "load-balancers": folder.get("LB") == "1",
        "first": first,
        "other": role == "control-plane" and not first,
        "workers": role == "worker",
        "control-planes": role == "control-plane",
    }.get(group, True)
