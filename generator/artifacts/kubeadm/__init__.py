"""kubeadm's configuration: ``init.yaml`` on the first control plane, ``join.yaml`` on every other host.

``documents`` builds both from the model in a shape of its own; ``v1beta3`` and ``v1beta4`` only spell what differs between kubeadm's
versions.  Everything is explicit that kubeadm would guess on a host: name, socket, addresses, release.
"""

from __future__ import annotations

from collections.abc import Iterator

from generator import emit
from generator.artifacts import File
from generator.artifacts.kubeadm import documents, v1beta3, v1beta4
from generator.model import Cluster, Host

_VERSIONS: dict[str, documents.Version] = {"v1beta3": v1beta3, "v1beta4": v1beta4}
_HEADER = "# stowage, cluster {cluster}: kubeadm {verb} --config for {host}. Change the inventory, not this file.\n"


def for_host(cluster: Cluster, host: Host) -> Iterator[File]:
    """The host's kubeadm file; nothing on a dedicated load balancer."""
    if not host.runs_kubernetes:
        return
    version = _VERSIONS[cluster.kubeadm_api]
    if host is cluster.control_planes[0]:
        parts = documents.init(version, cluster, host)
        text = _HEADER.format(cluster=cluster.name, verb="init", host=host.name) + emit.yaml_documents(parts)
        yield File("kubeadm/init.yaml", text, ("cluster", "controlPlaneEndpoint", "hosts[]", "hostDefaults"))
    else:
        text = _HEADER.format(cluster=cluster.name, verb="join", host=host.name) + emit.yaml(documents.join(version, cluster, host))
        yield File("kubeadm/join.yaml", text, ("cluster.kubernetesVersion", "cluster.containerRuntime", "hosts[]", "hostDefaults"))
