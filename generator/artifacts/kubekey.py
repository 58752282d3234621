"""``kubekey/config.yaml``: the same cluster in the words of KubeKey v3, for those who install with it.

Facts: kubesphere/kubekey v3.1 ``cmd/kk/apis/kubekey/v1alpha2`` (types and defaults), ``cmd/kk/pkg/kubernetes/templates/kubeadm_config.go``
(what becomes of them: ``clusterName`` and ``dnsDomain`` are kubeadm's own; fields of ``kubeProxyConfiguration`` and
``kubeletConfiguration`` take the place of KubeKey's), ``docs/config-example.md``.  KubeKey v4 has another format.

KubeKey installs no load balancer of ours and knows no hosts but the cluster's; nothing here logs in anywhere: no user, no password, no key.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from generator import emit
from generator.artifacts import File
from generator.model import Calico, Cluster, Endpoint, Flannel, Host

PATH = "kubekey/config.yaml"
SOURCES = ("cluster", "controlPlaneEndpoint", "hostDefaults", "hosts[]")

_RUNTIMES = {"containerd": "containerd", "cri-dockerd": "docker", "cri-o": "crio"}
_MASKS = ("node-cidr-mask-size", "node-cidr-mask-size-ipv4", "node-cidr-mask-size-ipv6")
# kubeadm's own (kube-controller-manager's) prefix lengths; KubeKey's for IPv6 is 120.
_MASK = {4: "24", 6: "64"}

_INTRODUCTION = """\
# This cluster for KubeKey v3 (kk create cluster -f config.yaml). Compiled from the inventory: change that, not this.
# Add to each host how KubeKey logs in (user, privateKeyPath).
# KubeKey reserves resources and sets eviction, process limits, log sizes and signing in its own way, so those differ from this bundle's.
"""

_BALANCED = "# KubeKey sets no load balancer up for this endpoint: before it, take the load balancers through step 40 of this bundle.\n"

Document = dict[str, Any]


def for_cluster(cluster: Cluster) -> Iterator[File]:
    """One file; its comment names the settings of this inventory that the format has no word for."""
    notes = [
        _INTRODUCTION,
        *([_BALANCED] if cluster.load_balancers else []),
        *(f"# Not expressible here: {name}\n" for name in unsaid(cluster)),
    ]
    yield File(PATH, "".join(notes) + emit.yaml(config(cluster)), SOURCES)


def config(cluster: Cluster) -> Document:
    """The ``Cluster`` object; whatever KubeKey would decide differently than kubeadm is said."""
    spec: Document = {
        "hosts": [_host(host) for host in cluster.kubernetes_hosts],
        "roleGroups": {
            "etcd": [host.name for host in cluster.control_planes],
            "control-plane": [host.name for host in cluster.control_planes],
            "worker": [host.name for host in cluster.workers],
        },
    }
    if cluster.endpoint is not None:
        spec["controlPlaneEndpoint"] = {
            "internalLoadbalancer": "",
            "domain": cluster.endpoint.name,
            "address": _address(cluster.endpoint),
            "port": cluster.endpoint.port,
        }
    servers = dict.fromkeys(server for host in cluster.kubernetes_hosts for server in host.settings.ntp_servers)
    if servers:
        spec["system"] = {"ntpServers": list(servers)}
    # kubeadm's stacked etcd. KubeKey's own (type kubekey, the default) is checked by etcd's v2 API, which 3.6 no longer has.
    spec["etcd"] = {"type": "kubeadm", **_arguments(extraArgs=cluster.etcd.extra_args)}
    spec["kubernetes"] = _kubernetes(cluster)
    spec["network"] = _network(cluster)
    if cluster.extra_hosts:
        spec["dns"] = {"nodeEtcHosts": "".join(f"{address} {name}\n" for name, address in cluster.extra_hosts)}
    spec |= _registry(cluster)
    return {"apiVersion": "kubekey.kubesphere.io/v1alpha2", "kind": "Cluster", "metadata": {"name": cluster.name}, "spec": spec}


def _address(endpoint: Endpoint) -> str:
    """The VIP, of which KubeKey takes one: the IPv4 one."""
    return str(min(endpoint.vips, key=lambda vip: vip.version))


def _host(host: Host) -> Document:
    """One host; KubeKey takes the first of two internal addresses for the IPv4 one."""
    internal = ",".join(str(a.ip) for a in sorted(host.addresses, key=lambda a: a.version))
    labels = {"labels": dict(host.settings.labels)} if host.settings.labels else {}
    return {"name": host.name, "address": str(host.address), "internalAddress": internal, **labels}


def _kubernetes(cluster: Cluster) -> Document:
    kubelet: Document = {name: dict(value) if isinstance(value, tuple) else value for name, value in cluster.default_kubelet}
    own: Document = {name: kubelet.pop(name) for name in ("maxPods", "podPidsLimit") if name in kubelet}
    names = _certificate_names(cluster)
    proxy = _proxy(cluster)
    manager = tuple(pair for pair in cluster.controller_manager_args if pair[0] not in _MASKS)
    flags = {host.settings.kubelet_extra_args for host in cluster.kubernetes_hosts}
    return {
        "version": f"v{cluster.kubernetes_version}",
        "clusterName": cluster.name,
        "dnsDomain": cluster.dns_domain,
        "containerManager": _RUNTIMES[cluster.runtime],
        "proxyMode": "iptables" if cluster.proxy_mode == "nftables" else cluster.proxy_mode,
        # The default is a DNS cache on every node, which is no part of the inventory's cluster.
        "nodelocaldns": False,
        **own,
        **_masks(cluster),
        **({"apiserverCertExtraSans": names} if names else {}),
        **_arguments(apiserverArgs=cluster.api_server_args, controllerManagerArgs=manager, schedulerArgs=cluster.scheduler_args),
        **_arguments(kubeletArgs=flags.pop() if len(flags) == 1 else ()),
        **({"kubeletConfiguration": kubelet} if kubelet else {}),
        **({"kubeProxyConfiguration": proxy} if proxy else {}),
    }


def _arguments(**lists: tuple[tuple[str, str], ...]) -> Document:
    """Lists of ``flag=value`` under their keys, those that hold something."""
    return {key: [f"{name}={value}" for name, value in pairs] for key, pairs in lists.items() if pairs}


def _masks(cluster: Cluster) -> Document:
    """
    Prefix lengths of the nodes' pod networks.

    KubeKey writes the flags from these fields and would write them twice if they stood among controllerManagerArgs.
    """
    flags = dict(cluster.controller_manager_args)
    of = {version: flags.get(f"node-cidr-mask-size-ipv{version}", flags.get("node-cidr-mask-size", _MASK[version])) for version in (4, 6)}
    first, second = cluster.ip_versions[0], len(cluster.ip_versions) == 2
    if second:
        return {"nodeCidrMaskSize": int(of[4]), "nodeCidrMaskSizeIPv6": int(of[6])}
    return {"nodeCidrMaskSize": int(of[first])} if first == 6 or flags.keys() & set(_MASKS) else {}


def _certificate_names(cluster: Cluster) -> list[str]:
    """Names for the API server's certificate beside KubeKey's own: domain, address and every host (``GenerateCertSANs``)."""
    known = {"127.0.0.1", *(name for h in cluster.kubernetes_hosts for name in (h.name, *(str(a.ip) for a in h.addresses)))}
    if cluster.endpoint is not None:
        known |= {cluster.endpoint.name, _address(cluster.endpoint)}
    return [name for name in cluster.api_cert_sans if name not in known]


def _proxy(cluster: Cluster) -> Document:
    """Fields of KubeProxyConfiguration beside KubeKey's; the mode stands here where ``proxyMode`` doesn't know it."""
    if cluster.proxy_mode == "nftables":
        return {"mode": "nftables"}
    return {"ipvs": {"strictARP": True}} if cluster.proxy_mode == "ipvs" and cluster.strict_arp else {}


def _network(cluster: Cluster) -> Document:
    cni = cluster.cni
    network: Document = {
        "plugin": cni.name,
        "kubePodsCIDR": ",".join(str(n) for n in cluster.pod_subnets),
        "kubeServiceCIDR": ",".join(str(n) for n in cluster.service_subnets),
    }
    if isinstance(cni, Flannel):
        network["flannel"] = {"backendMode": cni.backend, "directRouting": cni.direct_routing}
    if isinstance(cni, Calico):
        mode = "CrossSubnet" if cni.encapsulation.endswith("CrossSubnet") else "Always"
        nat = cni.nat_outgoing == "Enabled"
        network["calico"] = {
            "ipipMode": mode if cni.encapsulation.startswith("IPIP") else "Never",
            "vxlanMode": mode if cni.encapsulation.startswith("VXLAN") else "Never",
            **({"vethMTU": cni.mtu} if cni.mtu is not None else {}),
            # The default, first-found, takes the VIP on its holder.
            "ipAutoDetectionMethod": "kubernetes-internal-ip",
            **{f"ipv{version}NatOutgoing": nat for version in sorted(cluster.ip_versions)},
        }
    return network


def _registry(cluster: Cluster) -> Document:
    """A repository of one's own as host and project; then KubeKey takes every image from there, those of the network too."""
    if cluster.image_repository == "registry.k8s.io":
        return {}
    host, _, project = cluster.image_repository.partition("/")
    return {"registry": {"privateRegistry": host, **({"namespaceOverride": project} if project else {})}}


def unsaid(cluster: Cluster) -> Iterator[str]:
    """Inventory keys with a value that KubeKey v3's format cannot express; the load balancer's are the bundle's own business."""
    etcd, lock = cluster.etcd, cluster.lock["cluster"]
    told: dict[str, Any] = {
        "cluster.apiServer.bindPort": cluster.api_port != 6443,
        "cluster.etcd.dataDir": etcd.data_dir != "/var/lib/etcd",
        "cluster.etcd.serverCertSANs": etcd.server_cert_sans,
        "cluster.etcd.peerCertSANs": etcd.peer_cert_sans,
        "cluster.featureGates": cluster.feature_gates,
        **{f"cluster.{name}": name in lock for name in ("encryptionAlgorithm", "certificateValidityPeriod", "caCertificateValidityPeriod")},
        "cluster.bootstrapToken": cluster.token_ttl not in ("24h", "24h0m0s"),
        "cluster.podSubnet, for IPv6 alone": 4 not in cluster.ip_versions,
    }
    yield from (name for name, is_set in told.items() if is_set)
    yield from _unsaid_network(cluster)
    yield from _unsaid_hosts(cluster.kubernetes_hosts)


def _unsaid_network(cluster: Cluster) -> Iterator[str]:
    """KubeKey brings releases of its own, flannel without its interface and for IPv4 alone, Calico without its operator."""
    cni = cluster.cni
    if isinstance(cni, Flannel):
        yield "cluster.cni.version, registry, mtu, vni, port, and the interface"
        if 6 in cluster.ip_versions:
            yield "cluster.podSubnet, the IPv6 network: KubeKey's flannel has IPv4 alone"
    if isinstance(cni, Calico):
        yield "cluster.cni.version, registry, bgp, linuxDataplane, blockSize, blockSizeIPv6, apiServer"


def _unsaid_hosts(hosts: tuple[Host, ...]) -> Iterator[str]:
    def some(name: str) -> bool:
        return any(getattr(host.settings, name) for host in hosts)

    told = {
        "hosts[].kubelet": any(host.own_kubelet for host in hosts),
        "hosts[].kubeletExtraArgs, which differ": len({host.settings.kubelet_extra_args for host in hosts}) > 1,
        "hosts[].taints": any(host.settings.taints is not None for host in hosts),
        "hosts[].proxy": some("proxy"),
        "hosts[].sysctl": some("sysctl"),
        "hosts[].extraPackages": some("extra_packages"),
        "hosts[].swap": any(host.settings.swap == "keep" for host in hosts),
        "hosts[].imagePullPolicy": any(host.settings.image_pull_policy != "IfNotPresent" for host in hosts),
        "hosts[].ignorePreflightErrors": some("ignore_preflight_errors"),
    }
    yield from (name for name, is_set in told.items() if is_set)
