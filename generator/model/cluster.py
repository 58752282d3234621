"""The cluster as every artifact reads it: frozen values, and what is derived from them, each with its source.

Properties that depend on all hosts are cached: an uncached filter over the hosts, read once per host, would be quadratic.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from netaddr import IPAddress, IPNetwork

from generator import versions
from generator.model.packages import packages
from generator.model.registry import Registry, registry_of
from generator.model.settings import Calico, Cni, Etcd, Flannel, HostSettings, Ipvs, LoadBalancer, Nginx, Pairs

CONTROL_PLANE, WORKER, LOAD_BALANCER = "control-plane", "worker", "load-balancer"
FIRST_PRIORITY = 200

CRI_SOCKETS = {
    "containerd": "unix:///var/run/containerd/containerd.sock",
    "cri-dockerd": "unix:///var/run/cri-dockerd.sock",
    "cri-o": "unix:///var/run/crio/crio.sock",
}


@dataclass(frozen=True)
class Endpoint:
    """``controlPlaneEndpoint``; *port* is 0 where the inventory has none, which rule KUB001 refuses."""

    name: str
    addresses: tuple[IPNetwork, ...]
    port: int

    @cached_property
    def vips(self) -> tuple[IPAddress, ...]:
        """The virtual IPs without prefix, in the inventory's order."""
        return tuple(a.ip for a in self.addresses)

    def __str__(self) -> str:
        return f"{self.name}:{self.port}"


@dataclass(frozen=True, eq=False)
class Host:
    """One host; *index* is its place in the inventory, *own* holds the kubelet fields that it says by itself."""

    index: int
    name: str
    role: str
    addresses: tuple[IPNetwork, ...]
    priority: int | None
    weight: int | None
    settings: HostSettings
    own_kubelet: tuple[tuple[str, Any], ...] = ()

    @cached_property
    def address(self) -> IPAddress:
        """The node address: the first in the inventory, of the cluster's first family."""
        return self.addresses[0].ip

    def address_of(self, version: int) -> IPAddress:
        """The address of family *version* (4 or 6); the node address where the host has none of it, which rule NET012 refuses."""
        return next((a.ip for a in self.addresses if a.version == version), self.address)

    @cached_property
    def family(self) -> versions.OsFamily:
        """The operating system's family."""
        return versions.FAMILIES[versions.OPERATING_SYSTEMS[self.settings.os][0]]

    @property
    def runs_kubernetes(self) -> bool:
        """Whether a kubelet runs here: everywhere but on dedicated load balancers."""
        return self.role != LOAD_BALANCER

    def label(self) -> str:
        """How findings name a host: ``hosts[2] (master-3)``."""
        return f"hosts[{self.index}] ({self.name})"


@dataclass(frozen=True, eq=False)
class Cluster:
    """Everything that the inventory says, with defaults; compared and hashed by identity, so that artifacts can cache by cluster."""

    name: str
    kubernetes_version: str
    image_repository: str
    registry: Registry | None
    pod_subnets: tuple[IPNetwork, ...]
    service_subnets: tuple[IPNetwork, ...]
    dns_domain: str
    runtime: str
    cni: Cni
    proxy_mode: str
    strict_arp: bool
    api_port: int
    cert_sans: tuple[str, ...]
    api_server_args: Pairs
    controller_manager_args: Pairs
    scheduler_args: Pairs
    etcd: Etcd
    feature_gates: tuple[tuple[str, bool], ...]
    encryption_algorithm: str
    certificate_validity: str
    ca_certificate_validity: str
    token_ttl: str
    trip: str
    control_plane_timeout: str
    discovery_timeout: str
    image_tags: Mapping[str, str]
    extra_hosts: tuple[tuple[str, str], ...]
    endpoint: Endpoint | None
    load_balancer: LoadBalancer | None
    default_kubelet: tuple[tuple[str, Any], ...]
    hosts: tuple[Host, ...]
    lock: Mapping[str, Any] = field(repr=False, compare=False)

    # -- hosts by role -------------------------------------------------------------------------------------------------------------

    @cached_property
    def node_ports(self) -> tuple[int, int]:
        """First and last NodePort: kube-apiserver's ``--service-node-port-range``, as ``first-last`` or ``first+count``."""
        found = re.fullmatch(r"([0-9]{1,5})([-+])([0-9]{1,5})", dict(self.api_server_args).get("service-node-port-range", ""))
        if not found:
            return 30000, 32767
        first = int(found[1])
        return first, int(found[3]) + (first if found[2] == "+" else 0)

    @cached_property
    def control_planes(self) -> tuple[Host, ...]:
        """Control planes in the inventory's order; the first runs ``kubeadm init``."""
        return tuple(h for h in self.hosts if h.role == CONTROL_PLANE)

    @cached_property
    def workers(self) -> tuple[Host, ...]:
        """Workers in the inventory's order."""
        return tuple(h for h in self.hosts if h.role == WORKER)

    @cached_property
    def dedicated_load_balancers(self) -> bool:
        """Whether any host is a load-balancer: then nginx and keepalived go to those hosts only."""
        return any(h.role == LOAD_BALANCER for h in self.hosts)

    @cached_property
    def load_balancers(self) -> tuple[Host, ...]:
        """Hosts with nginx (or IPVS) and keepalived, highest VRRP priority first; none without an endpoint."""
        if self.endpoint is None or self.load_balancer is None:
            return ()
        role = LOAD_BALANCER if self.dedicated_load_balancers else CONTROL_PLANE
        carriers = [h for h in self.hosts if h.role == role]
        return tuple(sorted(carriers, key=lambda h: (-self.priorities[h.name], h.index)))

    @cached_property
    def load_balancer_names(self) -> frozenset[str]:
        """Names of :attr:`load_balancers`, for a quick look."""
        return frozenset(h.name for h in self.load_balancers)

    @cached_property
    def kubernetes_hosts(self) -> tuple[Host, ...]:
        """Hosts that run a kubelet."""
        return tuple(h for h in self.hosts if h.runs_kubernetes)

    @cached_property
    def nginx(self) -> Nginx | None:
        """Settings of nginx where it is the engine, else None."""
        return self.load_balancer.nginx if self.load_balancers and self.load_balancer else None

    @cached_property
    def ipvs(self) -> Ipvs | None:
        """Settings of IPVS where it is the engine, else None."""
        return self.load_balancer.ipvs if self.load_balancers and self.load_balancer else None

    @cached_property
    def check_listener(self) -> tuple[str, int]:
        """Address and port of nginx's loopback listener that the health check and the watcher read."""
        loopback = "127.0.0.1" if 4 in self.ip_versions else "::1"
        return loopback, self.nginx.check_port if self.nginx else 0

    @cached_property
    def priorities(self) -> dict[str, int]:
        """
        VRRP priority by host name: as the inventory says, else 200 downwards by inventory order, skipping numbers that are taken.

        Distinct priorities make the election the same every time (keepalived.conf(5), *priority*).
        """
        role = LOAD_BALANCER if self.dedicated_load_balancers else CONTROL_PLANE
        carriers = [h for h in self.hosts if h.role == role]
        taken = {h.priority for h in carriers if h.priority is not None}
        free = (number for number in range(FIRST_PRIORITY, 0, -1) if number not in taken)
        return {h.name: h.priority if h.priority is not None else next(free, 0) for h in carriers}

    def peers(self, host: Host) -> tuple[Host, ...]:
        """The other load balancers, VRRP's unicast peers of *host*."""
        return tuple(h for h in self.load_balancers if h is not host)

    # -- addresses -----------------------------------------------------------------------------------------------------------------

    @cached_property
    def ip_versions(self) -> tuple[int, ...]:
        """Families of the cluster in order, (4,), (6,), (4, 6) or (6, 4): those of podSubnet (kubeadm takes the node's from the first)."""
        return tuple(s.version for s in self.pod_subnets)

    @cached_property
    def api_service_address(self) -> IPAddress:
        """First address of the first service network, the ``kubernetes`` service (kubeadm's GetAPIServerVirtualIP)."""
        return self.service_subnets[0][1]

    @cached_property
    def server(self) -> str:
        """``host:port`` that kubeconfigs name: the endpoint, else the first control plane's API server (kubeadm)."""
        if self.endpoint is not None:
            return str(self.endpoint)
        return bracketed(self.control_planes[0].address, self.api_port)

    @cached_property
    def api_cert_sans(self) -> tuple[str, ...]:
        """
        Names and addresses for the API server's certificate beside those that kubeadm adds by itself.

        kubeadm adds the node name, the ``kubernetes`` names, the first service address, the advertise address and the endpoint's host
        (``pkiutil.GetAPIServerAltNames``); the VIPs and every load balancer, by name and address, are not among them.
        """
        names: list[str] = []
        if self.endpoint is not None:
            names += [self.endpoint.name, *(str(vip) for vip in self.endpoint.vips)]
        for host in self.load_balancers:
            names += [host.name, *(str(a.ip) for a in host.addresses)]
        for host in self.control_planes:
            names += [str(a.ip) for a in host.addresses[1:]]
        names += ["127.0.0.1"] if self.load_balancers else []
        return tuple(dict.fromkeys([*names, *self.cert_sans]))

    # -- Kubernetes ----------------------------------------------------------------------------------------------------------------

    @cached_property
    def minor(self) -> int:
        """29 for 1.29.3."""
        return int(self.kubernetes_version.split(".")[1])

    @property
    def kubeadm_api(self) -> str:
        """Configuration version of kubeadm for this minor."""
        return versions.kubeadm_api(self.minor)

    @property
    def cri_socket(self) -> str:
        """Socket of the container runtime, always explicit: with two sockets kubeadm refuses to choose."""
        return CRI_SOCKETS[self.runtime]

    @cached_property
    def etcd_initial_cluster(self) -> str:
        """Value of etcd's ``--initial-cluster`` with every member (etcd clustering guide; ``name=https://address:2380``)."""
        return ",".join(f"{h.name}=https://{bracketed(h.address, 2380)}" for h in self.control_planes)

    @cached_property
    def kubeadm_image_tags(self) -> versions.KubeadmTags:
        """Tags of pause, etcd and coredns: the inventory's, else the table's; empty strings where neither has one (rule KUB002)."""
        known = versions.kubeadm_tags(self.kubernetes_version) or versions.KubeadmTags("", "", "")
        return versions.KubeadmTags(**{n: self.image_tags.get(n, getattr(known, n)) for n in ("pause", "etcd", "coredns")})

    @cached_property
    def pause_image(self) -> str:
        """The sandbox image, as the runtime must name it: its own default is seldom the one that kubeadm lists."""
        return f"{self.image_repository}/pause:{self.kubeadm_image_tags.pause}"

    @cached_property
    def kubeadm_images(self) -> tuple[str, ...]:
        """
        What ``kubeadm config images list`` prints for this cluster, in its order (``cmd/kubeadm/app/images/images.go``).

        CoreDNS has one more path element in registry.k8s.io than in any other repository.
        """
        repository, tags = self.image_repository, self.kubeadm_image_tags
        core = "coredns/coredns" if repository == "registry.k8s.io" else "coredns"
        components = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy")
        return (
            *(f"{repository}/{name}:v{self.kubernetes_version}" for name in components),
            f"{repository}/{core}:{tags.coredns}",
            self.pause_image,
            f"{repository}/etcd:{tags.etcd}",
        )

    @cached_property
    def cni_images(self) -> tuple[str, ...]:
        """
        Images of the pod network that every Kubernetes host needs, as its manifests name them.

        flannel: each tag's ``Documentation/kube-flannel.yml``; Calico: ``pkg/components/calico.go`` of the operator, and itself.
        """
        cni = self.cni
        if isinstance(cni, Flannel):
            row = versions.flannel_row(cni.version)
            registry = cni.registry or (row.registry if row else "ghcr.io/flannel-io")
            return (f"{registry}/flannel:v{cni.version}", f"{registry}/flannel-cni-plugin:{row.plugin if row else ''}")
        if isinstance(cni, Calico):
            registry = cni.registry or versions.calico_registry(cni.version)
            return (
                f"{cni.registry or 'quay.io'}/tigera/operator:{versions.calico_operator(cni.version)}",
                *(f"{registry}/calico/{name}:v{cni.version}" for name in versions.calico_components(api_server=cni.api_server)),
            )
        return ()

    def images(self, role: str) -> tuple[str, ...]:
        """
        The images that a host of *role* must have before kubeadm runs, as its manifests name them.

        A worker needs kube-proxy, pause, and CoreDNS, which may be scheduled there; the other components stay on control planes.
        """
        if role == CONTROL_PLANE:
            return (*self.kubeadm_images, *self.cni_images)
        if role == WORKER:
            proxy, dns, pause = self.kubeadm_images[3:6]
            return (proxy, dns, pause, *self.cni_images)
        return ()

    @cached_property
    def upstream_manifests(self) -> tuple[str, ...]:
        """Names of the upstream manifests that the payload carries to the first control plane, in order of application."""
        return versions.CALICO[versions.split_patch(self.cni.version)[0]].manifests if isinstance(self.cni, Calico) else ()

    def packages(self, host: Host) -> tuple[str, ...]:
        """Operating system packages of *host* (``packages.packages``)."""
        return packages(self, host)

    @cached_property
    def mirrored(self) -> tuple[str, ...]:
        """Registries that the site's own stands in for: as the inventory says, else those that the images name; none without it."""
        if self.registry is None:
            return ()
        named = self.registry.mirrors or (registry_of(image) for image in (*self.kubeadm_images, *self.cni_images))
        return tuple(name for name in dict.fromkeys(named) if name != self.registry.host)

    @cached_property
    def no_proxy(self) -> tuple[str, ...]:
        """What must never go through an HTTP proxy: every name, network and address of the cluster itself."""
        entries = ["localhost", "127.0.0.1", "::1", ".svc", f".{self.dns_domain}"]
        if self.endpoint is not None:
            entries += [self.endpoint.name, *(str(vip) for vip in self.endpoint.vips)]
        entries += [str(n) for n in (*self.pod_subnets, *self.service_subnets)]
        entries += dict.fromkeys(str(a.cidr) for h in self.hosts for a in h.addresses)
        entries += [self.registry.host.partition(":")[0]] if self.registry is not None else []
        return tuple(dict.fromkeys(entries))

    def containerd_version(self, host: Host) -> tuple[int, int]:
        """The containerd minor on *host* as (major, minor): what the inventory says, else by Kubernetes minor."""
        major, minor = (host.settings.container_runtime_version or versions.containerd_for(self.minor)).split(".")
        return int(major), int(minor)


def bracketed(address: IPAddress | str, port: int) -> str:
    """``address:port``, with brackets around an IPv6 address."""
    text = str(address)
    return f"[{text}]:{port}" if ":" in text else f"{text}:{port}"
