"""``inventory.lock.yaml``: the inventory with every default written out, so that a later tool's other default can't change a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from generator import emit
from generator.artifacts import File
from generator.model import Calico, Cluster

_HEADER = "# stowage, cluster {name}: the inventory with every default written out. Compiling it gives the same host folders.\n"


def for_cluster(cluster: Cluster) -> Iterator[File]:
    """The lock."""
    yield File("inventory.lock.yaml", text(cluster), ("version", "cluster", "hosts"))


@lru_cache(maxsize=1)
def text(cluster: Cluster) -> str:
    """Its text, also digested for the manifest; what the tool chose by a table (a Calico release) is pinned in it too."""
    data = dict(cluster.lock)
    if isinstance(cluster.cni, Calico):
        # In the schema's order, so that the lock of a lock is the same text.
        data["cluster"] = data["cluster"] | {"cni": {"name": "calico", "version": cluster.cni.version} | data["cluster"]["cni"]}
    return _HEADER.format(name=cluster.name) + emit.yaml(data)
