"""nginx stream: the whole ``nginx.conf``, and the list of API servers that the watcher keeps.

Facts: nginx's stream_core, stream_proxy and stream_upstream modules; paths and users of the distributions stand in ``versions.FAMILIES``.
"""

from __future__ import annotations

from collections.abc import Iterator

from generator.artifacts import File, rootfs
from generator.model import Cluster, Host, bracketed
from generator.render import render

CONFIG = "/etc/nginx/nginx.conf"
SERVERS = "/etc/nginx/stowage/apiserver.conf"


def for_host(cluster: Cluster, host: Host) -> Iterator[File]:
    """The configuration of a load balancer whose engine is nginx; nothing elsewhere."""
    if host.name not in cluster.load_balancer_names or cluster.nginx is None:
        return
    yield File(
        rootfs(CONFIG),
        config(cluster, host),
        ("cluster.name", "controlPlaneEndpoint.port", "loadBalancer.nginx", "hosts[].os"),
        CONFIG,
        40,
        "nginx.service",
    )
    yield File(
        rootfs(SERVERS),
        servers(cluster),
        ("hosts[].address", "hosts[].weight", "cluster.apiServer.bindPort", "loadBalancer.nginx"),
        SERVERS,
        40,
        # The watcher compares it every round: a restart would only cost reloads.
    )


def config(cluster: Cluster, host: Host) -> str:
    """``nginx.conf``; the same text on every load balancer of one family."""
    nginx, endpoint = cluster.nginx, cluster.endpoint
    assert nginx is not None
    assert endpoint is not None
    wildcards = {4: str(endpoint.port), 6: f"[::]:{endpoint.port}"}
    return render(
        "templates/nginx/nginx.conf.j2",
        {
            "cluster": cluster.name,
            "module": host.family.nginx_module if nginx.stream_module == "package" else "",
            "user": host.family.nginx_user,
            # A proxied client takes two descriptors; logs and listeners a few more.
            "file_limit": 2 * nginx.worker_connections + 1024,
            "worker_processes": nginx.worker_processes,
            "worker_connections": nginx.worker_connections,
            "shutdown_timeout": nginx.shutdown_timeout,
            "access_log": nginx.access_log,
            "least_conn": nginx.balance == "least_conn",
            "listens": [wildcards[version] for version in cluster.ip_versions],
            "tcp_keepalive": nginx.tcp_keepalive,
            "allow": nginx.allow,
            "connect_timeout": nginx.connect_timeout,
            "next_upstream_timeout": nginx.next_upstream_timeout,
            "idle_timeout": nginx.idle_timeout,
            "check": bracketed(*cluster.check_listener),
        },
    )


def servers(cluster: Cluster) -> str:
    """One ``server`` line an API server, in the inventory's order."""
    nginx = cluster.nginx
    assert nginx is not None
    return render(
        "templates/nginx/apiserver.conf.j2",
        {
            "cluster": cluster.name,
            "servers": [
                {"name": h.name, "address": bracketed(h.address, cluster.api_port), "weight": h.weight or nginx.weight}
                for h in cluster.control_planes
            ],
            "max_fails": nginx.max_fails,
            "fail_timeout": nginx.fail_timeout,
        },
    )
