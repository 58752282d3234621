"""What must be gathered where there is a network: ``payload.lock.yaml`` for people and the tool, ``payload.tsv`` as rows for bash.

``scripts/fetch-payload.sh`` reads the rows and fills a directory; ``stowage lock`` records what lies there; ``stowage bundle --payload``
lays each host's part into ``hosts/<host>/payload/``.  ``docs/scripts.md`` has the columns.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from generator import emit, resources
from generator.artifacts import File
from generator.model import Calico, Cluster, Host
from generator.model.packages import loose_packages, repositories, repository_of

FORMAT = 1
LOCK, TSV = "payload.lock.yaml", "payload.tsv"
PAYLOAD_TSV = "kind\tname\tos\tsource\tpath"
SOURCES = ("cluster", "hosts[]")

_SCRIPT = "templates/payload/fetch-payload.sh"
_HEADER = (
    "# stowage, cluster {name}: what its payload must hold, where that comes from, and which hosts need it.\n"
    "# Gathered by scripts/fetch-payload.sh; sizes and digests are recorded beside the files, by `stowage lock`.\n"
)
_OPERATOR = "tigera-operator.yaml"
_MANIFESTS = "https://raw.githubusercontent.com/projectcalico/calico/v{version}/manifests/{name}"


def for_cluster(cluster: Cluster) -> Iterator[File]:
    """The list, the rows, and the script that reads them."""
    data = wanted(cluster)
    yield File(LOCK, _HEADER.format(name=cluster.name) + emit.yaml(data), SOURCES)
    yield File(TSV, emit.tsv(PAYLOAD_TSV, rows(cluster, data)), SOURCES)
    yield File("scripts/fetch-payload.sh", resources.text(_SCRIPT), (), executable=True)


@lru_cache(maxsize=1)
def wanted(cluster: Cluster) -> dict[str, Any]:
    """
    The list as data: images, packages a system, files.  Paths are relative to the directory in which the payload is gathered.

    Hosts are named by ``hosts: all``, by ``roles`` where all of a role need it, else by their names: the list stays short however many
    there are.  A package without a version in its name is whichever is current when it is gathered; ``stowage lock`` records which.
    """
    return {
        "version": FORMAT,
        "cluster": cluster.name,
        "kubernetes": cluster.kubernetes_version,
        "images": list(_images(cluster)),
        "packages": [_system(cluster, system, hosts) for system, hosts in _systems(cluster).items()],
        "files": list(_files(cluster)),
    }


def image_path(reference: str) -> str:
    """Where the archive of *reference* stands: no ``:`` in a name, so that any medium will do."""
    return f"images/{re.sub('[/:@]', '_', reference)}.tar"


def _images(cluster: Cluster) -> Iterator[dict[str, Any]]:
    roles: dict[str, list[str]] = {}
    for role in dict.fromkeys(host.role for host in cluster.hosts):
        for image in cluster.images(role):
            roles.setdefault(image, []).append(role)
    for image, needing in roles.items():
        yield {"reference": image, "path": image_path(image), "roles": needing}


def _systems(cluster: Cluster) -> dict[str, list[Host]]:
    """Hosts that take their packages from the payload, by operating system."""
    found: dict[str, list[Host]] = {}
    for host in cluster.hosts:
        if host.settings.packages == "payload":
            found.setdefault(host.settings.os, []).append(host)
    return found


def _system(cluster: Cluster, system: str, hosts: Sequence[Host]) -> dict[str, Any]:
    needing: dict[str, list[Host]] = {}
    # Most hosts share their settings with all others of their role.
    alike: dict[tuple[str, int], tuple[str, ...]] = {}
    for host in hosts:
        key = (host.role, id(host.settings))
        if key not in alike:
            alike[key] = cluster.packages(host)
        for package in alike[key]:
            needing.setdefault(package, []).append(host)
    totals = Counter(host.role for host in hosts)
    groups: dict[tuple[str, Any], dict[str, Any]] = {}
    for package, those in needing.items():
        need, whom = _named(those, totals)
        groups.setdefault((need, whom), {need: whom, "names": []})["names"].append(package)
    folder = f"packages/{system}"
    used = {repository_of(cluster, package) for package in needing}
    sources = [one for name, one in repositories(cluster, system).items() if name in used]
    loose = [(name, url) for name, url in loose_packages(system).items() if name in needing]
    return {
        "os": system,
        "path": folder,
        "repositories": [{"name": one.name, "source": one.source, "key": one.key} for one in sources],
        "wanted": list(groups.values()),
        "files": [{"name": name, "source": url, "path": f"{folder}/{url.rpartition('/')[2]}"} for name, url in loose],
    }


def _named(hosts: Sequence[Host], totals: Mapping[str, int]) -> tuple[str, Any]:
    """How *hosts* are named, of those that *totals* counts by role."""
    counts = Counter(host.role for host in hosts)
    if counts == totals:
        return "hosts", "all"
    if all(counts[role] == totals[role] for role in counts):
        return "roles", tuple(counts)
    return "hosts", tuple(host.name for host in hosts)


def _files(cluster: Cluster) -> Iterator[dict[str, Any]]:
    """Upstream manifests, with the digest that the inventory has for them."""
    cni = cluster.cni
    if isinstance(cni, Calico):
        digests = dict(cni.manifests)
        for name in cluster.upstream_manifests:
            digest = {"sha256": digests[name]} if name in digests else {}
            source = _MANIFESTS.format(version=cni.version, name=name)
            yield {"name": name, "path": f"files/{name}", "source": source, **digest, "hosts": [cluster.control_planes[0].name]}


def rows(cluster: Cluster, data: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str, str]]:
    """
    The same for bash, in the order of the work: repositories and packages of each system, then files, then images.

    A package's source is the name of its repository, or ``distribution``.
    """
    for system in data["packages"]:
        for one in system["repositories"]:
            yield "repository", one["name"], system["os"], one["source"], one["key"]
        loose = {one["name"] for one in system["files"]}
        for package in (name for group in system["wanted"] for name in group["names"]):
            if package not in loose:
                yield "package", package, system["os"], repository_of(cluster, package), system["path"]
        for one in system["files"]:
            yield "file", one["name"], system["os"], one["source"], one["path"]
    for one in data["files"]:
        yield "file", one["name"], "-", one["source"], one["path"]
    if isinstance(cluster.cni, Calico) and cluster.cni.registry:
        # The operator's own image can be named nowhere else (docs.tigera.io, image registry).
        yield "edit", _OPERATOR, "-", f"s?quay.io?{cluster.cni.registry}?g", f"files/{_OPERATOR}"
    for one in data["images"]:
        yield "image", one["reference"], "-", one["reference"], one["path"]
