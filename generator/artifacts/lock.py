"""``inventory.lock.yaml``: the inventory with every default written out, so that a later tool's other default can't change a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from generator import emit, validate, versions
from generator.artifacts import File
from generator.model import Calico, Cluster

_HEADER = "# stowage, cluster {name}: the inventory with every default written out. Compiling it gives the same host folders.\n"


def for_cluster(cluster: Cluster) -> Iterator[File]:
    """The lock."""
    yield File("inventory.lock.yaml", text(cluster), ("version", "cluster", "hosts"))


@lru_cache(maxsize=1)
def text(cluster: Cluster) -> str:
    """
    Its text, also digested for the manifest.

    What the tool chose by its tables is pinned too: image tags, a Calico release, containerd's minor.  All of it stands in the schema's
    order, so that the lock of a lock is the same text.
    """
    data = dict(cluster.lock)
    tags = cluster.kubeadm_image_tags
    data["cluster"] = data["cluster"] | {"images": {"pause": tags.pause, "etcd": tags.etcd, "coredns": tags.coredns}}
    if isinstance(cluster.cni, Calico):
        data["cluster"]["cni"] = data["cluster"]["cni"] | {"version": cluster.cni.version}
    if cluster.runtime == "containerd":
        data["hostDefaults"] = {"containerRuntimeVersion": versions.containerd_for(cluster.minor)} | data["hostDefaults"]
    pinned = validate.complete(data | {"hosts": []}) | {"hosts": data["hosts"]}
    return _HEADER.format(name=cluster.name) + emit.yaml(pinned)
