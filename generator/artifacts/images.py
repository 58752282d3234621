"""``images.txt``: every image that a host must have before kubeadm runs, as its manifests name it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from generator.artifacts import File
from generator.model import CONTROL_PLANE, Cluster, Host


def for_host(cluster: Cluster, host: Host) -> Iterator[File]:
    """One reference a line; empty on a dedicated load balancer."""
    sources = ("cluster.kubernetesVersion", "cluster.imageRepository", "cluster.images", "cluster.cni")
    yield File("images.txt", listed(cluster, host.role), sources)


@lru_cache(maxsize=4)
def listed(cluster: Cluster, role: str) -> str:
    """
    The images of a host of *role*.

    A worker needs kube-proxy, pause, and CoreDNS, which may be scheduled there; the other components stay on control planes.
    """
    if role == CONTROL_PLANE:
        images = (*cluster.kubeadm_images, *cluster.cni_images)
    elif role == "worker":
        proxy, dns, pause = cluster.kubeadm_images[3:6]
        images = (proxy, dns, pause, *cluster.cni_images)
    else:
        images = ()
    return "".join(f"{image}\n" for image in images)
