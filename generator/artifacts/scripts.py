"""The static scripts of a host's folder, and ``host.env``, all that differs between two hosts' runs of them.

``docs/scripts.md`` is the contract: every name of ``host.env`` stands there with its meaning.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, lru_cache

from generator import emit, resources
from generator.artifacts import File
from generator.model import CONTROL_PLANE, Cluster, Host
from generator.model.settings import Calico, Flannel

FORMAT = "1"
IGNORED = "hosts/*/secrets/\nhosts/*/payload/\n"
_RUNTIME_UNITS = {
    "containerd": "containerd.service",
    "cri-dockerd": "docker.socket docker.service cri-docker.socket cri-docker.service",
    "cri-o": "crio.service",
}


def for_cluster(cluster: Cluster) -> Iterator[File]:
    """What stands at the bundle's top: the check without Python, and what git must not take."""
    del cluster
    yield File("verify.sh", resources.text("templates/scripts/verify.sh"), (), executable=True)
    yield File(".gitignore", IGNORED, ())


def for_host(cluster: Cluster, host: Host) -> Iterator[File]:
    """Every script, the same bytes on every host, and ``host.env``."""
    yield from _static()
    yield File(
        "host.env", emit.environment(environment(cluster, host)), ("version", "cluster", "controlPlaneEndpoint", "loadBalancer", "hosts[]")
    )


@cache
def _static() -> tuple[File, ...]:
    """``run.sh`` and ``verify.sh`` at the folder's top, the rest below ``scripts`` and ``ops``."""
    top = ("run.sh", "verify.sh")
    files = []
    for folder in ("templates/scripts", "templates/scripts/ops"):
        for name in resources.names(folder):
            base = name.rsplit("/", 1)[1]
            below = base if base in top else f"ops/{base}" if folder.endswith("/ops") else f"scripts/{base}"
            files.append(File(below, resources.text(name), (), executable=True))
    return tuple(files)


def environment(cluster: Cluster, host: Host) -> dict[str, str]:
    """The names and values of ``host.env``, every name always there."""
    return {
        **_identity(cluster, host),
        **_shared(cluster),
        **_balancing(cluster, host),
        **_kubernetes(cluster, host),
        **_settings(cluster, host),
    }


def _identity(cluster: Cluster, host: Host) -> dict[str, str]:
    system, _, release = host.settings.os.partition("-")
    return {
        "FORMAT": FORMAT,
        "CLUSTER": cluster.name,
        "HOST": host.name,
        "ROLE": host.role,
        "FIRST": _flag(host is cluster.control_planes[0]),
        "OS_FAMILY": host.family.name,
        "OS_ID": system,
        "OS_VERSION": release,
        "ADDRESSES": " ".join(str(a) for a in host.addresses),
        "INTERFACE": host.settings.interface,
        "GATEWAY": " ".join(host.settings.gateways),
    }


@lru_cache(maxsize=1)
def _shared(cluster: Cluster) -> dict[str, str]:
    """What is equal on every host of the cluster."""
    endpoint = cluster.endpoint
    return {
        "ENDPOINT": str(endpoint) if endpoint else "",
        "ENDPOINT_NAME": endpoint.name if endpoint else "",
        "ENDPOINT_PORT": str(endpoint.port) if endpoint else "",
        "VIPS": " ".join(str(vip) for vip in endpoint.vips) if endpoint else "",
        "SERVER": cluster.server,
        "TOKEN_TTL": cluster.token_ttl,
    }


def _balancing(cluster: Cluster, host: Host) -> dict[str, str]:
    carries = host.name in cluster.load_balancer_names
    check = cluster.check_listener if carries and cluster.nginx else None
    return {
        "LB": _flag(carries),
        "LB_ENGINE": ("nginx" if cluster.nginx else "ipvs") if carries else "",
        "LB_HOSTS": _named(cluster.load_balancers),
        "LB_CHECK": f"{check[0]} {check[1]}" if check else "",
        "VRRP_AUTH": cluster.load_balancer.keepalived.auth_secret if carries and cluster.load_balancer else "",
        "CONTROL_PLANES": _named(cluster.control_planes),
        "API_PORT": str(cluster.api_port),
        # On every host it would make the bundle grow with the square of the hosts.
        "WORKERS": _named(cluster.workers) if host.role == CONTROL_PLANE else "",
    }


def _kubernetes(cluster: Cluster, host: Host) -> dict[str, str]:
    runs = host.runs_kubernetes
    return {
        "KUBERNETES_VERSION": cluster.kubernetes_version,
        "KUBERNETES": _flag(runs),
        "RUNTIME": cluster.runtime if runs else "",
        "RUNTIME_UNITS": _RUNTIME_UNITS[cluster.runtime] if runs else "",
        "CRI_SOCKET": cluster.cri_socket if runs else "",
        "PAUSE_IMAGE": cluster.pause_image if runs else "",
        "REGISTRY": cluster.registry.address if runs and cluster.registry else "",
        "REGISTRY_SECRET": cluster.registry.credentials if runs and cluster.registry else "",
    }


def _settings(cluster: Cluster, host: Host) -> dict[str, str]:
    settings = host.settings
    nginx = cluster.nginx if host.name in cluster.load_balancer_names else None
    listeners = (cluster.endpoint.port, nginx.check_port) if nginx and cluster.endpoint else ()
    return {
        "PACKAGES": " ".join(cluster.packages(host)),
        "PACKAGE_SOURCE": settings.packages,
        "NTP_SERVERS": " ".join(settings.ntp_servers),
        "SWAP": settings.swap if host.runs_kubernetes else "keep",
        "FIREWALL": settings.firewall,
        "PORTS": " ".join(ports(cluster, host)),
        "TRUSTED_CIDRS": " ".join(str(n) for n in (*cluster.pod_subnets, *cluster.service_subnets)) if host.runs_kubernetes else "",
        "SELINUX_PORTS": " ".join(str(port) for port in listeners),
        "PROXY_MODE": cluster.proxy_mode if host.runs_kubernetes else "",
        "ETCD_DATA_DIR": cluster.etcd.data_dir if host.role == CONTROL_PLANE else "",
        "CNI": cluster.cni.name,
    }


def ports(cluster: Cluster, host: Host) -> tuple[str, ...]:
    """What others must reach on *host* (kubernetes.io *Ports and Protocols*, flannel and Calico requirements, VRRP for load balancers)."""
    names: list[str] = []
    if host.name in cluster.load_balancer_names and cluster.endpoint:
        names += [f"{cluster.endpoint.port}/tcp", "vrrp"]
    if host.role == CONTROL_PLANE:
        names += [f"{cluster.api_port}/tcp", "2379-2380/tcp", "10257/tcp", "10259/tcp"]
        names += ["ipip"] if cluster.ipvs and cluster.ipvs.forwarding == "TUN" else []
    if host.runs_kubernetes:
        node_ports = "{}-{}".format(*cluster.node_ports)
        names += ["10250/tcp", "10256/tcp", f"{node_ports}/tcp", f"{node_ports}/udp", *_network_ports(cluster)]
    return tuple(dict.fromkeys(names))


def _network_ports(cluster: Cluster) -> list[str]:
    cni = cluster.cni
    if isinstance(cni, Flannel):
        return {"vxlan": [f"{cni.port}/udp"], "wireguard": ["51820/udp", "51821/udp"], "host-gw": []}[cni.backend]
    if isinstance(cni, Calico):
        names = ["5473/tcp"]
        names += ["179/tcp"] if cni.bgp == "Enabled" else []
        names += ["4789/udp"] if cni.encapsulation.startswith("VXLAN") else ["ipip"] if cni.encapsulation.startswith("IPIP") else []
        return names
    return []


def _flag(value: bool) -> str:
    return "1" if value else ""


def _named(hosts: tuple[Host, ...]) -> str:
    return " ".join(f"{h.name}={h.address}" for h in hosts)
