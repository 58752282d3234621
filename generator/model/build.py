"""Validated data to the model: types and names only, no rule and no default of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from netaddr import IPNetwork

from generator import versions
from generator.model.cluster import Cluster, Endpoint, Host
from generator.model.registry import Registry
from generator.model.settings import (
    Calico,
    Check,
    Cni,
    Etcd,
    Flannel,
    HostSettings,
    Ipvs,
    Keepalived,
    LoadBalancer,
    Nginx,
    NoCni,
    Pairs,
    Proxy,
    Taint,
    Watcher,
)


def build(data: Mapping[str, Any]) -> Cluster:
    """
    The cluster of *data*, which is valid against the schema and completed with its defaults (``validate.complete``).

    Raises nothing for such data; whether it makes sense is for the rules to say.
    """
    cluster = data["cluster"]
    defaults = data["hostDefaults"]
    minor = int(cluster["kubernetesVersion"].split(".")[1])
    return Cluster(
        name=cluster["name"],
        kubernetes_version=cluster["kubernetesVersion"],
        image_repository=cluster["imageRepository"],
        registry=_registry(cluster.get("registry")),
        pod_subnets=_networks(cluster["podSubnet"]),
        service_subnets=_networks(cluster["serviceSubnet"]),
        dns_domain=cluster["dnsDomain"],
        runtime=cluster["containerRuntime"],
        cni=_cni(cluster["cni"], minor),
        proxy_mode=cluster["kubeProxy"]["mode"],
        strict_arp=cluster["kubeProxy"]["strictARP"],
        api_port=cluster["apiServer"]["bindPort"],
        cert_sans=tuple(cluster["apiServer"]["certSANs"]),
        api_server_args=_pairs(cluster["apiServer"]["extraArgs"]),
        controller_manager_args=_pairs(cluster["controllerManager"]["extraArgs"]),
        scheduler_args=_pairs(cluster["scheduler"]["extraArgs"]),
        etcd=Etcd(
            data_dir=cluster["etcd"]["dataDir"],
            extra_args=_pairs(cluster["etcd"]["extraArgs"]),
            server_cert_sans=tuple(cluster["etcd"]["serverCertSANs"]),
            peer_cert_sans=tuple(cluster["etcd"]["peerCertSANs"]),
        ),
        feature_gates=tuple(sorted(cluster["featureGates"].items())),
        encryption_algorithm=cluster.get("encryptionAlgorithm", ""),
        certificate_validity=cluster.get("certificateValidityPeriod", ""),
        ca_certificate_validity=cluster.get("caCertificateValidityPeriod", ""),
        token_ttl=cluster["bootstrapToken"]["ttl"],
        trip=cluster["bootstrapToken"].get("trip", ""),
        control_plane_timeout=cluster["timeouts"]["controlPlane"],
        discovery_timeout=cluster["timeouts"]["discovery"],
        image_tags=cluster["images"],
        extra_hosts=tuple((entry["name"], entry["address"]) for entry in cluster["extraHosts"]),
        endpoint=_endpoint(data.get("controlPlaneEndpoint")),
        load_balancer=_load_balancer(data.get("loadBalancer")),
        default_kubelet=_fields(defaults["kubelet"]),
        hosts=_hosts(data["hosts"], defaults),
        lock=data,
    )


def _networks(text: str) -> tuple[IPNetwork, ...]:
    return tuple(IPNetwork(part) for part in text.split(","))


def _listed(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list) else () if value is None else (value,)


def _pairs(mapping: Mapping[str, Any]) -> Pairs:
    """Sorted by name, values as text: a reader of YAML may have written ``true`` or ``5`` for a flag."""
    return tuple((name, str(v).lower() if isinstance(v, bool) else str(v)) for name, v in sorted(mapping.items()))


def _fields(mapping: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple((name, tuple(sorted(v.items())) if isinstance(v, dict) else v) for name, v in sorted(mapping.items()))


def _snake(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Keys in snake case, lists as tuples."""
    return {
        re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower(): tuple(value) if isinstance(value, list) else value
        for name, value in mapping.items()
    }


def _cni(data: Mapping[str, Any], minor: int) -> Cni:
    settings = _snake(data)
    if data["name"] == "flannel":
        return Flannel(**{"registry": "", "mtu": None, **settings})
    if data["name"] == "calico":
        settings["manifests"] = _pairs(settings["manifests"])
        return Calico(**{"version": versions.calico_for(minor), "registry": "", "mtu": None, **settings})
    return NoCni()


def _registry(data: Mapping[str, Any] | None) -> Registry | None:
    if data is None:
        return None
    credentials = data.get("credentials", {}).get("secret", "")
    return Registry(data["address"], tuple(data.get("mirrors", ())), data.get("ca", ""), credentials, data["plainHttp"])


def _endpoint(data: Mapping[str, Any] | None) -> Endpoint | None:
    if data is None:
        return None
    return Endpoint(data["name"], tuple(IPNetwork(a) for a in _listed(data["address"])), data.get("port", 0))


def _load_balancer(data: Mapping[str, Any] | None) -> LoadBalancer | None:
    if data is None:
        return None
    keepalived = _snake(data["keepalived"])
    password = keepalived.pop("auth_pass", None)
    keepalived |= {
        "auth_secret": password["secret"] if isinstance(password, dict) else "",
        "auth_literal": password if isinstance(password, str) else "",
        "advert_interval": str(keepalived["advert_interval"]),
        "check": Check(**_snake(keepalived["check"])),
    }
    return LoadBalancer(
        keepalived=Keepalived(**{"preempt_delay": None, **keepalived}),
        watcher=Watcher(**_snake(data["watcher"])),
        nginx=Nginx(**_snake(data["nginx"])) if "nginx" in data else None,
        ipvs=Ipvs(**_snake(data["ipvs"])) if "ipvs" in data else None,
    )


def _hosts(hosts: list[Mapping[str, Any]], defaults: Mapping[str, Any]) -> tuple[Host, ...]:
    """Hosts with the defaults merged in; hosts that say nothing of their own share one settings object."""
    own_keys = ("name", "role", "address", "priority", "weight")
    shared = _settings(defaults)
    built = []
    for index, host in enumerate(hosts):
        own = {name: value for name, value in host.items() if name not in own_keys}
        merged = {**defaults, **own}
        if "kubelet" in own:
            merged["kubelet"] = {**defaults["kubelet"], **own["kubelet"]}
        built.append(
            Host(
                index=index,
                name=host["name"],
                role=host["role"],
                addresses=tuple(IPNetwork(a) for a in _listed(host["address"])),
                priority=host.get("priority"),
                weight=host.get("weight"),
                settings=_settings(merged) if own else shared,
                own_kubelet=_fields(own.get("kubelet", {})),
            )
        )
    return tuple(built)


def _settings(data: Mapping[str, Any]) -> HostSettings:
    proxy = data.get("proxy")
    taints = data.get("taints")
    return HostSettings(
        interface=data.get("interface", ""),
        gateways=_listed(data.get("gateway")),
        os=data.get("os", ""),
        container_runtime_version=data.get("containerRuntimeVersion", ""),
        packages=data["packages"],
        extra_packages=tuple(data["extraPackages"]),
        ntp_servers=tuple(data["ntpServers"]),
        proxy=Proxy(proxy["httpProxy"], proxy.get("httpsProxy", proxy["httpProxy"]), tuple(proxy.get("noProxy", ()))) if proxy else None,
        swap=data["swap"],
        firewall=data["firewall"],
        sysctl=_pairs(data["sysctl"]),
        kubelet=_fields(data["kubelet"]),
        kubelet_extra_args=_pairs(data["kubeletExtraArgs"]),
        labels=_pairs(data["labels"]),
        taints=tuple(Taint(t["key"], t.get("value", ""), t["effect"]) for t in taints) if taints is not None else None,
        image_pull_policy=data["imagePullPolicy"],
        ignore_preflight_errors=tuple(data["ignorePreflightErrors"]),
    )
