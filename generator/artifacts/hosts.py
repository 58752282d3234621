"""The managed block of ``/etc/hosts``: every host, the endpoint's name on the VIP, and the inventory's extra entries."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from generator.artifacts import File
from generator.model import Cluster, Host
from generator.render import render

DESTINATION = "/etc/hosts"


def for_host(cluster: Cluster, host: Host) -> Iterator[File]:
    """The block, the same on every host; step 20 keeps the rest of the file (localhost lines among it) as it is."""
    del host
    sources = ("hosts[].name", "hosts[].address", "controlPlaneEndpoint", "cluster.extraHosts")
    yield File("hosts.block", block(cluster), sources, DESTINATION, 20, how="block")


@lru_cache(maxsize=1)
def block(cluster: Cluster) -> str:
    """One line an address, the endpoint first."""
    entries: list[tuple[str, str]] = []
    if cluster.endpoint is not None:
        entries += [(str(vip), cluster.endpoint.name) for vip in cluster.endpoint.vips]
    entries += [(str(address.ip), host.name) for host in cluster.hosts for address in host.addresses]
    entries += [(address, name) for name, address in cluster.extra_hosts]
    return render("templates/hosts/hosts.j2", {"entries": entries})
