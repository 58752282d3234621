"""Drop-ins for the units of nginx and keepalived: never an edited vendor unit.

Facts: systemd.service(5), systemd.kill(5); upstream's keepalived.service has KillMode=process, Debian's has none.
"""

from __future__ import annotations

from collections.abc import Iterator

from generator import resources
from generator.artifacts import File, rootfs
from generator.model import Cluster, Host
from generator.render import render

NGINX = "/etc/systemd/system/nginx.service.d/10-stowage.conf"
KEEPALIVED = "/etc/systemd/system/keepalived.service.d/10-stowage.conf"


def for_host(cluster: Cluster, host: Host) -> Iterator[File]:
    """The drop-ins of a load balancer; nothing elsewhere."""
    balancer = cluster.load_balancer
    if host.name not in cluster.load_balancer_names or balancer is None:
        return
    if cluster.nginx is not None:
        yield File(rootfs(NGINX), resources.text("templates/systemd/nginx.conf"), ("loadBalancer.nginx",), NGINX, 40, "systemd")
    view = {"cluster": cluster.name, "nginx": cluster.nginx is not None, "kill_mode": balancer.keepalived.kill_mode}
    text = render("templates/systemd/keepalived.conf.j2", view)
    yield File(rootfs(KEEPALIVED), text, ("loadBalancer.keepalived.killMode",), KEEPALIVED, 40, "systemd")
