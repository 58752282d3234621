"""The active watcher of the API servers: a static program, its unit and its settings."""

from __future__ import annotations

from collections.abc import Iterator

from generator import emit, resources
from generator.artifacts import File, rootfs
from generator.model import Cluster, Host

PROGRAM = "/usr/libexec/stowage/nginx-watcher"
SETTINGS = "/etc/stowage/watcher.env"
UNIT = "/etc/systemd/system/stowage-watcher.service"
TMPFILES = "/etc/tmpfiles.d/stowage-nginx.conf"


def for_host(cluster: Cluster, host: Host) -> Iterator[File]:
    """The watcher on a load balancer whose engine is nginx; nothing elsewhere."""
    if host.name not in cluster.load_balancer_names or cluster.nginx is None:
        return
    unit = "stowage-watcher.service"
    key = ("loadBalancer.watcher",)
    yield File(rootfs(PROGRAM), resources.text("templates/nginx/watcher.sh"), key, PROGRAM, 40, unit, mode=0o755, executable=True)
    yield File(rootfs(SETTINGS), settings(cluster), (*key, "loadBalancer.nginx.checkPort"), SETTINGS, 40, unit)
    yield File(rootfs(UNIT), resources.text("templates/systemd/stowage-watcher.service"), key, UNIT, 40, unit)
    yield File(rootfs(TMPFILES), resources.text("templates/nginx/tmpfiles.conf"), key, TMPFILES, 40, "tmpfiles")


def settings(cluster: Cluster) -> str:
    """``watcher.env``: seconds and counts, and the local listener that tells whether nginx answers."""
    balancer = cluster.load_balancer
    assert balancer is not None
    watcher = balancer.watcher
    address, port = cluster.check_listener
    return emit.environment(
        {
            "INTERVAL": str(watcher.interval),
            "TIMEOUT": str(watcher.timeout),
            "FALL": str(watcher.fall),
            "RISE": str(watcher.rise),
            "RISE_MAX": str(watcher.rise_max),
            "RELOAD_INTERVAL": str(watcher.reload_interval),
            "CHECK_ADDRESS": address,
            "CHECK_PORT": str(port),
        }
    )
