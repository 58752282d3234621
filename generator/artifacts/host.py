"""What step 20 lays on a host beside the runtime: kernel modules and settings, time, and NetworkManager's hands off the pod network.

Facts: kubernetes.io *Container runtimes* and *Virtual IPs* (IPVS modules); the kernel settings of ``protectKernelDefaults`` are those that
the kubelet checks (``pkg/kubelet/cm``); chrony.conf(5).
"""

from __future__ import annotations

from collections.abc import Iterator

from generator import resources, versions
from generator.artifacts import File, rootfs
from generator.model import CONTROL_PLANE, Cluster, Host
from generator.render import render

MODULES = "/etc/modules-load.d/stowage.conf"
SYSCTL = "/etc/sysctl.d/90-stowage.conf"
NETWORK_MANAGER = "/etc/NetworkManager/conf.d/stowage-pod-network.conf"


def for_host(cluster: Cluster, host: Host) -> Iterator[File]:
    """Modules and settings where a kubelet runs, time where servers are named, NetworkManager's file on its distributions."""
    modules = _modules(cluster, host)
    if modules:
        text = render("templates/host/modules.conf.j2", {"cluster": cluster.name, "modules": modules})
        yield File(rootfs(MODULES), text, ("cluster.kubeProxy.mode", "loadBalancer.ipvs"), MODULES, 20, "modules")
    settings = _settings(cluster, host)
    if settings:
        text = render("templates/host/sysctl.conf.j2", {"cluster": cluster.name, "settings": settings})
        sources = ("cluster.podSubnet", "hostDefaults.sysctl", "hosts[].sysctl", "hostDefaults.kubelet")
        yield File(rootfs(SYSCTL), text, sources, SYSCTL, 20, "sysctl")
    if host.settings.ntp_servers:
        yield _time(cluster, host)
    if host.runs_kubernetes and host.family.name == "rhel":
        text = resources.text("templates/host/network-manager.conf")
        yield File(rootfs(NETWORK_MANAGER), text, ("cluster.cni",), NETWORK_MANAGER, 20, "NetworkManager.service")


def _modules(cluster: Cluster, host: Host) -> tuple[str, ...]:
    modules = ["overlay", "br_netfilter"] if host.runs_kubernetes else []
    proxies = host.runs_kubernetes and cluster.proxy_mode == "ipvs"
    balances = cluster.ipvs is not None and host.name in cluster.load_balancer_names
    if proxies or balances:
        modules += ["ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_sh", "ip_vs_lc", "ip_vs_wlc", "nf_conntrack"]
    if cluster.ipvs is not None and cluster.ipvs.forwarding == "TUN" and host.role == CONTROL_PLANE:
        modules += ["ipip"]
    if host.runs_kubernetes and cluster.proxy_mode == "nftables":
        modules += ["nf_tables"]
    return tuple(modules)


def _settings(cluster: Cluster, host: Host) -> tuple[tuple[str, str], ...]:
    settings: dict[str, str] = {}
    if host.runs_kubernetes:
        if 4 in cluster.ip_versions:
            settings |= {"net.ipv4.ip_forward": "1", "net.bridge.bridge-nf-call-iptables": "1"}
        if 6 in cluster.ip_versions:
            settings |= {"net.ipv6.conf.all.forwarding": "1", "net.bridge.bridge-nf-call-ip6tables": "1"}
        # Outgoing connections never take a NodePort.
        settings["net.ipv4.ip_local_reserved_ports"] = "{}-{}".format(*cluster.node_ports)
        if dict(host.settings.kubelet).get("protectKernelDefaults"):
            settings |= versions.KERNEL_DEFAULTS
    return tuple(sorted((settings | dict(host.settings.sysctl)).items()))


def _time(cluster: Cluster, host: Host) -> File:
    rhel = host.family.name == "rhel"
    destination = "/etc/chrony.conf" if rhel else "/etc/chrony/chrony.conf"
    view = {"cluster": cluster.name, "servers": host.settings.ntp_servers, "driftfile": "drift" if rhel else "chrony.drift"}
    text = render("templates/host/chrony.conf.j2", view)
    unit = "chronyd.service" if rhel else "chrony.service"
    return File(rootfs(destination), text, ("hostDefaults.ntpServers", "hosts[].ntpServers"), destination, 20, unit)
