"""
The payload of a cluster: what was gathered, held against what the inventory wants and against its lock, and shared out to the hosts.

``gathered`` reads the directory, ``images`` and ``packages`` ask single files what they are, ``record`` is its lock, ``laying`` is the
writer's hand.  What is wanted is ``generator.artifacts.payload``'s to say.  Nothing is fetched, and no gathered file is changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from generator import versions
from generator.artifacts.payload import image_path, wanted
from generator.payload import images
from generator.payload.gathered import Entry, Gathered, survey
from generator.payload.laying import Carried, Overlay
from generator.payload.record import Record, RecordError, is_at, read, text, write
from generator.wording import said

if TYPE_CHECKING:
    from generator.model import Cluster

__all__ = [
    "Entry",
    "Gathered",
    "Overlay",
    "Record",
    "RecordError",
    "differences",
    "is_at",
    "lacking",
    "overlay",
    "read",
    "survey",
    "text",
    "write",
]

Wanted = Iterable[Mapping[str, Any]]

# What makes a folder of packages a repository without network.
_INDEXES = {"debian": ("Packages", "Packages.gz", "Release"), "rhel": ("repodata/repomd.xml",)}


def lacking(cluster: Cluster, gathered: Gathered) -> list[str]:
    """What the inventory of *cluster* wants and *gathered* has not, or has otherwise; a line each."""
    entries = {entry.path: entry for entry in gathered.entries}
    data = wanted(cluster)
    found = [*gathered.problems, *_lacking_files(data["files"], entries)]
    for system in data["packages"]:
        found += _lacking_packages(system, entries)
    return [*found, *_lacking_images(cluster, data["images"], entries)]


def _lacking_images(cluster: Cluster, images_wanted: Wanted, entries: Mapping[str, Entry]) -> Iterator[str]:
    for one in images_wanted:
        entry = entries.get(one["path"])
        # A registry on the site may have them already.
        if entry is None and cluster.registry is None:
            yield said("missing: {path}", path=one["path"])
        elif entry and entry.image and images.familiar(one["reference"]) not in map(images.familiar, entry.image.references):
            yield said("{path}: holds no image called {reference}", path=one["path"], reference=one["reference"])


def _lacking_packages(system: Mapping[str, Any], entries: Mapping[str, Entry]) -> Iterator[str]:
    folder = system["path"]
    present = [entry.package for entry in entries.values() if entry.package and entry.folder == folder]
    for word in (name for group in system["wanted"] for name in group["names"]):
        if not any(package.answers(word) for package in present):
            yield said("{path}: no package {name}", path=folder, name=word)
    for name in _INDEXES[versions.OPERATING_SYSTEMS[system["os"]][0]]:
        if f"{folder}/{name}" not in entries:
            yield said("missing: {path}", path=f"{folder}/{name}")


def _lacking_files(files: Wanted, entries: Mapping[str, Entry]) -> Iterator[str]:
    for one in files:
        entry = entries.get(one["path"])
        if entry is None:
            yield said("missing: {path}", path=one["path"])
        elif entry.sha256 != one.get("sha256", entry.sha256):
            yield said("{path}: not the file whose SHA-256 the inventory has", path=one["path"])


def differences(record: Record, gathered: Gathered) -> Iterator[str]:
    """What lies in *gathered* otherwise than *record* has it, in the order of paths; a line each."""
    found = {entry.path: (entry.size, entry.sha256) for entry in gathered.entries}
    for path in sorted(found.keys() | record.files.keys()):
        if path not in found:
            yield said("missing: {path}", path=path)
        elif path not in record.files:
            yield said("extra: {path}", path=path)
        elif found[path] != record.files[path]:
            yield said("changed: {path}", path=path)


def overlay(cluster: Cluster, gathered: Gathered) -> Overlay:
    """
    What each host needs of *gathered*, which lacks nothing.

    Images of its role, unless the site has a registry; the repository of its system, where it takes its packages from the payload; upstream
    manifests on the first control plane, as ``manifests/...``.
    """
    entries = {entry.path: entry for entry in gathered.entries}
    shares: dict[tuple[str, str, bool], dict[str, Carried]] = {}
    found = {}
    for host in cluster.hosts:
        system = host.settings.os if host.settings.packages == "payload" else ""
        key = (host.role, system, host is cluster.control_planes[0])
        if key not in shares:
            places = {} if cluster.registry else {path: path for path in map(image_path, cluster.images(host.role))}
            folder = f"packages/{system}/"
            places |= {path: f"packages/{path.removeprefix(folder)}" for path in entries if system and path.startswith(folder)}
            places |= _manifests(cluster) if key[2] else {}
            shares[key] = {to: _carried(gathered, entries[path]) for path, to in sorted(places.items(), key=lambda place: place[1])}
        found[host.name] = shares[key]
    return Overlay(found)


def _manifests(cluster: Cluster) -> dict[str, str]:
    return {f"files/{name}": f"manifests/{name}" for name in cluster.upstream_manifests}


def _carried(gathered: Gathered, entry: Entry) -> Carried:
    return Carried(str(gathered.root / entry.path), entry.size, entry.sha256)
