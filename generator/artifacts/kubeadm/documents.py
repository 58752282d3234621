"""kubeadm's documents over one shared model, and the component documents that have versions of their own.

Facts: ``cmd/kubeadm/app/apis/kubeadm/v1beta3`` and ``v1beta4`` (types.go, defaults.go, validation.go); KubeletConfiguration v1beta1;
KubeProxyConfiguration v1alpha1.
"""

from __future__ import annotations

from typing import Any, Protocol

from generator.model import CONTROL_PLANE, Cluster, Host
from generator.model.settings import Pairs

DISCOVERY = "/etc/kubernetes/stowage-discovery.conf"
PATCHES = "/etc/kubernetes/patches"

Document = dict[str, Any]


class Version(Protocol):
    """How one of kubeadm's configuration versions spells what the versions spell differently."""

    API: str

    def arguments(self, pairs: Pairs) -> Any:
        """Flags of a component."""

    def api_server(self, cluster: Cluster) -> Document:
        """Fields of ``apiServer`` that only this version has."""

    def discovery(self, cluster: Cluster) -> Document:
        """Fields of ``discovery`` that only this version has."""

    def cluster(self, cluster: Cluster) -> Document:
        """Fields of ClusterConfiguration that only this version has."""

    def timeouts(self, cluster: Cluster) -> Document:
        """``timeouts`` of Init- and JoinConfiguration."""


def init(version: Version, cluster: Cluster, host: Host) -> list[Document]:
    """What ``kubeadm init`` reads: InitConfiguration, ClusterConfiguration, KubeletConfiguration, KubeProxyConfiguration."""
    first = {
        "apiVersion": version.API,
        "kind": "InitConfiguration",
        # kubeadm makes a token in any case (SetBootstrapTokensDynamicDefaults), for 24h unless told otherwise; nobody uses this one.
        "bootstrapTokens": [{"description": "kubeadm init's own, used by nobody", "ttl": "1m0s"}],
        "nodeRegistration": _node_registration(version, cluster, host),
        "localAPIEndpoint": _local_endpoint(cluster, host),
        **_patches(host),
        **version.timeouts(cluster),
    }
    return [first, _cluster_configuration(version, cluster), kubelet(cluster), kube_proxy(cluster)]


def join(version: Version, cluster: Cluster, host: Host) -> Document:
    """
    JoinConfiguration of a control plane or a worker.

    Discovery is by a file with CA and token that the step lays which takes the handoff in: so this document is final when it is compiled,
    and holds no secret.
    """
    document: Document = {
        "apiVersion": version.API,
        "kind": "JoinConfiguration",
        "nodeRegistration": _node_registration(version, cluster, host),
        "discovery": {"file": {"kubeConfigPath": DISCOVERY}, **version.discovery(cluster)},
        **_patches(host),
        **version.timeouts(cluster),
    }
    if host.role == CONTROL_PLANE:
        document["controlPlane"] = {"localAPIEndpoint": _local_endpoint(cluster, host)}
    return document


def _cluster_configuration(version: Version, cluster: Cluster) -> Document:
    document: Document = {
        "apiVersion": version.API,
        "kind": "ClusterConfiguration",
        "clusterName": cluster.name,
        "kubernetesVersion": f"v{cluster.kubernetes_version}",
        "imageRepository": cluster.image_repository,
    }
    if cluster.endpoint is not None:
        document["controlPlaneEndpoint"] = str(cluster.endpoint)
    document["networking"] = {
        "dnsDomain": cluster.dns_domain,
        "podSubnet": ",".join(str(n) for n in cluster.pod_subnets),
        "serviceSubnet": ",".join(str(n) for n in cluster.service_subnets),
    }
    api_server = {
        **({"certSANs": list(cluster.api_cert_sans)} if cluster.api_cert_sans else {}),
        **_arguments(version, cluster.api_server_args),
        **version.api_server(cluster),
    }
    if api_server:
        document["apiServer"] = api_server
    for key, pairs in (("controllerManager", cluster.controller_manager_args), ("scheduler", cluster.scheduler_args)):
        if pairs:
            document[key] = _arguments(version, pairs)
    etcd = cluster.etcd
    names = {"serverCertSANs": list(etcd.server_cert_sans), "peerCertSANs": list(etcd.peer_cert_sans)}
    local = {"dataDir": etcd.data_dir, **_arguments(version, etcd.extra_args), **{k: v for k, v in names.items() if v}}
    document["etcd"] = {"local": local}
    if cluster.feature_gates:
        document["featureGates"] = dict(cluster.feature_gates)
    return document | version.cluster(cluster)


def _arguments(version: Version, pairs: Pairs) -> Document:
    return {"extraArgs": version.arguments(pairs)} if pairs else {}


def kubelet_flags(cluster: Cluster, host: Host) -> Pairs:
    """
    Flags of the kubelet that only a host can know: its addresses, its labels.

    Without ``node-ip`` a kubelet may take the VIP for its own address when it restarts on the holder.
    """
    flags = dict(host.settings.kubelet_extra_args)
    own = [str(host.address_of(version)) for version in cluster.ip_versions]
    flags["node-ip"] = ",".join(dict.fromkeys(own))
    if host.settings.labels:
        flags["node-labels"] = ",".join(f"{name}={value}" for name, value in host.settings.labels)
    return tuple(sorted(flags.items()))


def _node_registration(version: Version, cluster: Cluster, host: Host) -> Document:
    settings = host.settings
    document: Document = {
        "name": host.name,
        "criSocket": cluster.cri_socket,
        "imagePullPolicy": settings.image_pull_policy,
        "kubeletExtraArgs": version.arguments(kubelet_flags(cluster, host)),
    }
    if settings.taints is not None:
        document["taints"] = [
            {"key": taint.key, **({"value": taint.value} if taint.value else {}), "effect": taint.effect} for taint in settings.taints
        ]
    if settings.ignore_preflight_errors:
        document["ignorePreflightErrors"] = list(settings.ignore_preflight_errors)
    return document


def _local_endpoint(cluster: Cluster, host: Host) -> Document:
    # Always explicit: on its holder the VIP is one of the host's addresses too.
    return {"advertiseAddress": str(host.address), "bindPort": cluster.api_port}


def _patches(host: Host) -> Document:
    # The folder must exist wherever it is named.
    return {"patches": {"directory": PATCHES}} if host.own_kubelet else {}


def kubelet(cluster: Cluster) -> Document:
    """KubeletConfiguration of the whole cluster; what a host says by itself is a patch of that host."""
    document: Document = {"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration", "cgroupDriver": "systemd"}
    fields = {name: dict(value) if isinstance(value, tuple) else value for name, value in cluster.default_kubelet}
    return document | fields


def kube_proxy(cluster: Cluster) -> Document:
    """KubeProxyConfiguration; in ipvs mode the VIPs are excluded, or kube-proxy would clear virtual servers that aren't its own."""
    document: Document = {"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration", "mode": cluster.proxy_mode}
    if cluster.proxy_mode == "ipvs":
        vips = cluster.endpoint.vips if cluster.endpoint else ()
        excluded = [f"{vip}/{32 if vip.version == 4 else 128}" for vip in vips]
        document["ipvs"] = {"strictARP": cluster.strict_arp} | ({"excludeCIDRs": excluded} if excluded else {})
    return document
