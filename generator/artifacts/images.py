"""``images.txt``: every image that a host must have before kubeadm runs, as its manifests name it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from generator.artifacts import File
from generator.model import Cluster, Host


def for_host(cluster: Cluster, host: Host) -> Iterator[File]:
    """One reference a line; empty on a dedicated load balancer."""
    sources = ("cluster.kubernetesVersion", "cluster.imageRepository", "cluster.images", "cluster.cni")
    yield File("images.txt", listed(cluster, host.role), sources)


@lru_cache(maxsize=4)
def listed(cluster: Cluster, role: str) -> str:
    """The images of a host of *role*, one a line."""
    return "".join(f"{image}\n" for image in cluster.images(role))
