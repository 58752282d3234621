"""keepalived: the VRRP instance of each load balancer, and the health check it runs.

Facts: keepalived.conf(5); the defaults and their reasons are design.md's section 5 (*Load balancer*).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from generator import resources
from generator.artifacts import File, rootfs
from generator.model import Cluster, Host
from generator.render import render

CONFIG = "/etc/keepalived/keepalived.conf"
# SELinux runs what lies here unconfined (keepalived_unconfined_script_exec_t); elsewhere a check may not connect.
CHECK = "/usr/libexec/keepalived/stowage-check"
AUTH = "/etc/keepalived/stowage-auth.conf"
VIRTUAL_SERVER = "/etc/keepalived/virtual-server.conf"


def for_host(cluster: Cluster, host: Host) -> Iterator[File]:
    """``keepalived.conf`` of a load balancer and, with nginx, the health check; nothing elsewhere."""
    if host.name not in cluster.load_balancer_names:
        return
    sources = ("cluster.name", "controlPlaneEndpoint.address", "loadBalancer.keepalived", "hosts[]")
    # keepalived refuses a configuration that others can write; with VRRP passwords in play 0640 is its own packages' habit.
    yield File(rootfs(CONFIG), config(cluster, host), sources, CONFIG, 40, "keepalived.service", mode=0o644)
    if cluster.nginx is not None:
        text = resources.text("templates/keepalived/check-load-balancer.sh")
        yield File(rootfs(CHECK), text, ("loadBalancer.nginx.checkPort",), CHECK, 40, "-", mode=0o755, executable=True)


def config(cluster: Cluster, host: Host) -> str:
    """``keepalived.conf`` of *host*."""
    endpoint, balancer = cluster.endpoint, cluster.load_balancer
    assert endpoint is not None
    assert balancer is not None
    keepalived = balancer.keepalived
    first, *others = endpoint.vips
    peers = [str(peer.address_of(first.version)) for peer in cluster.peers(host)]
    unicast = keepalived.transport == "unicast" and peers
    return render(
        "templates/keepalived/keepalived.conf.j2",
        {
            "cluster": cluster.name,
            "host": host.name,
            "vrrp_version": keepalived.vrrp_version,
            "garp_refresh": keepalived.garp_refresh,
            "check": _check(cluster),
            "preempt": keepalived.preempt,
            "preempt_delay": keepalived.preempt_delay if keepalived.preempt else 0,
            "interface": host.settings.interface,
            "virtual_router_id": keepalived.virtual_router_id,
            "priority": cluster.priorities[host.name],
            "advert_interval": keepalived.advert_interval,
            # Without a peer keepalived would fall back to multicast by itself, with a warning; then it is said so plainly.
            "unicast_source": str(host.address_of(first.version)) if unicast else "",
            "unicast_peers": peers,
            "auth_file": AUTH if keepalived.auth_secret else "",
            "vip": _single(first),
            "excluded": [_single(vip) for vip in others],
            "virtual_server_file": VIRTUAL_SERVER if cluster.nginx is None else "",
        },
    )


def _single(vip: Any) -> str:
    """The VIP alone, /32 or /128: the interface's own network has its route already."""
    return f"{vip}/{32 if vip.version == 4 else 128}"


def _check(cluster: Cluster) -> dict[str, Any]:
    balancer = cluster.load_balancer
    if cluster.nginx is None or balancer is None:
        return {}
    check = balancer.keepalived.check
    address, port = cluster.check_listener
    return {
        "program": CHECK,
        "address": address,
        "port": port,
        "interval": check.interval,
        "timeout": check.timeout,
        "fall": check.fall,
        "rise": check.rise,
    }
