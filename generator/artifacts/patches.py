"""kubeadm patch folders: ``patches/`` for init and join, ``patches-upgrade/`` named by upgrade only.

A file's name is its address: kubeadm ignores a name it doesn't know with a printed note (``cmd/kubeadm/app/util/patches``).  The etcd patch
appends, never an index, for indices shift between etcd 3.5 and 3.6; ``kubeadm upgrade`` writes the manifest anew with this member only, and
of two equal flags etcd takes the last.
"""

from __future__ import annotations

from collections.abc import Iterator

from generator import emit
from generator.artifacts import File
from generator.model import CONTROL_PLANE, Cluster, Host

KUBELET = "kubeletconfiguration0+merge.yaml"
ETCD = "etcd0+json.yaml"
STEP = {True: 50, False: 60}


def for_host(cluster: Cluster, host: Host) -> Iterator[File]:
    """The host's own kubelet fields in both folders, the etcd flags in the upgrade's."""
    if not host.runs_kubernetes:
        return
    control_plane = host.role == CONTROL_PLANE
    step = 65 if not control_plane else STEP[host is cluster.control_planes[0]]
    if host.own_kubelet:
        text = emit.yaml({name: dict(value) if isinstance(value, tuple) else value for name, value in host.own_kubelet})
        yield _patch("patches", KUBELET, text, ("hosts[].kubelet",), step)
        yield _patch("patches-upgrade", KUBELET, text, ("hosts[].kubelet",), 70 if control_plane else step)
    if control_plane:
        append = [{"op": "add", "path": "/spec/containers/0/command/-", "value": f"--initial-cluster={cluster.etcd_initial_cluster}"}]
        yield _patch("patches-upgrade", ETCD, emit.yaml(append), ("hosts[].name", "hosts[].address"), 70)


def _patch(folder: str, name: str, text: str, sources: tuple[str, ...], step: int) -> File:
    return File(f"kubeadm/{folder}/{name}", text, sources, f"/etc/kubernetes/{folder}/{name}", step, mode=0o600)
