"""keepalived's ``virtual_server``, the alternative to nginx: forwarding in the kernel on dedicated load balancers.

Facts: keepalived.conf(5), *Virtual server(s)*; the LVS HOWTO on direct routing: every real server carries the VIP on a device that
answers no ARP.
"""

from __future__ import annotations

from collections.abc import Iterator

from generator.artifacts import File, rootfs
from generator.model import CONTROL_PLANE, Cluster, Host
from generator.render import render

CONFIG = "/etc/keepalived/virtual-server.conf"
UNIT = "/etc/systemd/system/stowage-vip.service"
SYSCTL = "/etc/sysctl.d/91-stowage-ipvs.conf"


def for_host(cluster: Cluster, host: Host) -> Iterator[File]:
    """The virtual servers of a load balancer, and what a control plane needs to accept them; nothing where the engine is nginx."""
    ipvs = cluster.ipvs
    if ipvs is None or cluster.endpoint is None:
        return
    sources = ("loadBalancer.ipvs", "controlPlaneEndpoint", "hosts[].address")
    if host.name in cluster.load_balancer_names:
        yield File(rootfs(CONFIG), config(cluster), sources, CONFIG, 40, "keepalived.service")
        if ipvs.forwarding == "NAT":
            names = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}
            settings = [(names[vip.version], "1") for vip in cluster.endpoint.vips]
            yield File(rootfs(SYSCTL), _sysctl(cluster, tuple(settings)), sources, SYSCTL, 20, "sysctl")
    elif host.role == CONTROL_PLANE and ipvs.forwarding != "NAT":
        device = "tunl0" if ipvs.forwarding == "TUN" else "lo"
        yield File(rootfs(UNIT), _unit(cluster, device), sources, UNIT, 20, "systemd")
        settings = [("net.ipv4.conf.all.arp_ignore", "1"), ("net.ipv4.conf.all.arp_announce", "2")]
        if device == "tunl0":
            # What comes out of the tunnel has a source that the routing table would expect elsewhere.
            settings += [("net.ipv4.conf.all.rp_filter", "0"), ("net.ipv4.conf.tunl0.rp_filter", "0")]
        yield File(rootfs(SYSCTL), _sysctl(cluster, tuple(settings)), sources, SYSCTL, 20, "sysctl")


def config(cluster: Cluster) -> str:
    """``virtual-server.conf``: one virtual server a VIP, with the API servers of its family."""
    ipvs, endpoint = cluster.ipvs, cluster.endpoint
    assert ipvs is not None
    assert endpoint is not None
    vips = [
        {
            "address": str(vip),
            "servers": [
                {"name": h.name, "address": str(h.address_of(vip.version)), "weight": h.weight or 1} for h in cluster.control_planes
            ],
        }
        for vip in endpoint.vips
    ]
    return render(
        "templates/keepalived/virtual-server.conf.j2",
        {
            "cluster": cluster.name,
            "vips": vips,
            "port": endpoint.port,
            "api_port": cluster.api_port,
            "scheduler": ipvs.scheduler,
            "forwarding": ipvs.forwarding,
            "delay_loop": ipvs.delay_loop,
            "connect_timeout": ipvs.connect_timeout,
        },
    )


def _unit(cluster: Cluster, device: str) -> str:
    assert cluster.endpoint is not None
    vips = [f"{vip}/{32 if vip.version == 4 else 128}" for vip in cluster.endpoint.vips]
    return render(
        "templates/systemd/vip.service.j2", {"cluster": cluster.name, "device": device, "tunnel": device == "tunl0", "vips": vips}
    )


def _sysctl(cluster: Cluster, settings: tuple[tuple[str, str], ...]) -> str:
    return render("templates/host/sysctl.conf.j2", {"cluster": cluster.name, "settings": settings})
