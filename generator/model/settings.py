"""Settings as the inventory has them, frozen; nothing here is derived.  Field names are the inventory's in snake case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Nginx:
    """``loadBalancer.nginx``."""

    stream_module: str
    balance: str
    weight: int
    max_fails: int
    fail_timeout: str
    connect_timeout: str
    next_upstream_timeout: str
    idle_timeout: str
    tcp_keepalive: str
    worker_processes: int
    worker_connections: int
    shutdown_timeout: str
    check_port: int
    access_log: bool
    allow: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Watcher:
    """``loadBalancer.watcher``: seconds, and counts of probes."""

    interval: int
    timeout: int
    fall: int
    rise: int
    rise_max: int
    reload_interval: int


@dataclass(frozen=True, slots=True)
class Check:
    """``loadBalancer.keepalived.check``: seconds, and counts of checks."""

    interval: int
    timeout: int
    fall: int
    rise: int


@dataclass(frozen=True, slots=True)
class Keepalived:
    """``loadBalancer.keepalived``; *auth_secret* names a secret, *auth_literal* is a password that rule SEC001 refuses."""

    virtual_router_id: int
    vrrp_version: int
    advert_interval: str
    transport: str
    preempt: bool
    preempt_delay: int | None
    auth_secret: str
    auth_literal: str
    garp_refresh: int
    kill_mode: str
    check: Check


@dataclass(frozen=True, slots=True)
class Ipvs:
    """``loadBalancer.ipvs``."""

    scheduler: str
    forwarding: str
    delay_loop: int
    connect_timeout: int


@dataclass(frozen=True, slots=True)
class LoadBalancer:
    """``loadBalancer``; at least one of *nginx* and *ipvs* is there, both only until rule LBR004 has spoken."""

    keepalived: Keepalived
    watcher: Watcher
    nginx: Nginx | None
    ipvs: Ipvs | None


@dataclass(frozen=True, slots=True)
class Flannel:
    """``cluster.cni`` with name flannel."""

    version: str
    backend: str
    registry: str
    mtu: int | None
    vni: int
    port: int
    direct_routing: bool
    name: str = "flannel"


@dataclass(frozen=True, slots=True)
class Calico:
    """``cluster.cni`` with name calico; *version* is chosen by the Kubernetes minor where the inventory has none."""

    version: str
    encapsulation: str
    bgp: str
    linux_dataplane: str
    block_size: int
    block_size_ipv6: int
    nat_outgoing: str
    mtu: int | None
    registry: str
    api_server: bool
    manifests: Pairs
    name: str = "calico"


@dataclass(frozen=True, slots=True)
class NoCni:
    """``cluster.cni`` with name none."""

    name: str = "none"


Cni = Flannel | Calico | NoCni


@dataclass(frozen=True, slots=True)
class Proxy:
    """``proxy`` of a host."""

    http: str
    https: str
    no_proxy: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Taint:
    """One entry of ``taints``."""

    key: str
    value: str
    effect: str


@dataclass(frozen=True, slots=True)
class Etcd:
    """``cluster.etcd``."""

    data_dir: str
    extra_args: Pairs
    server_cert_sans: tuple[str, ...]
    peer_cert_sans: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HostSettings:
    """What ``hostDefaults`` and a host may both say; *kubelet* holds KubeletConfiguration fields."""

    interface: str
    gateways: tuple[str, ...]
    os: str
    container_runtime_version: str
    packages: str
    extra_packages: tuple[str, ...]
    ntp_servers: tuple[str, ...]
    proxy: Proxy | None
    swap: str
    firewall: str
    sysctl: Pairs
    kubelet: tuple[tuple[str, Any], ...]
    kubelet_extra_args: Pairs
    labels: Pairs
    taints: tuple[Taint, ...] | None
    image_pull_policy: str
    ignore_preflight_errors: tuple[str, ...]
