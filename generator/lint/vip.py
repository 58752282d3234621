"""NET: the virtual IP and the endpoint's name, against the hosts that are to carry them."""

from collections.abc import Iterator

from netaddr import IPAddress, valid_ipv4

from generator.diagnostics import Related
from generator.lint import Finding, rule
from generator.lint.places import LOCAL_NAMES, grouped, holds, host_places, several, unusable, vip_places
from generator.model import Cluster, Host
from generator.wording import said


@rule("NET004", "error")
def vip_is_host(cluster: Cluster) -> Iterator[Finding]:
    """
    The VIP is the address of a host.

    Why it hurts: that host answers for it for ever; keepalived takes the address away from it when it becomes backup, and with it the
    node's own connections.

    Example: `controlPlaneEndpoint: {address: 192.168.1.25/24}` where master-1 is 192.168.1.25.

    Use instead: a free address of the same network, outside of the DHCP range.

    Source: keepalived.conf(5), *virtual_ipaddress*; RFC 5798, section 1.5 (address owner).
    """
    vips = {(p.network.version, p.network.value): p for p in vip_places(cluster)}
    for host in cluster.hosts if vips else ():
        for index, address in enumerate(host.addresses):
            place = vips.get((address.version, address.value))
            if place is not None:
                yield Finding(
                    place.path,
                    said("{place} is the address of {host}", place=place.label, host=host.label()),
                    "take a free address of the same network",
                    related=(Related(host_places(cluster, host)[index].path, "the host"),),
                )


@rule("NET005", "error")
def vip_is_gateway(cluster: Cluster) -> Iterator[Finding]:
    """
    The VIP is the address of the gateway.

    Why it hurts: the holder answers ARP for the router, and everything that leaves the network ends there.

    Example: `controlPlaneEndpoint: {address: 192.168.1.1/24}` with `gateway: 192.168.1.1`.

    Use instead: a free address of the same network.

    Source: checklist row 2; RFC 5227, section 1.
    """
    vips = {p.network.ip: p for p in vip_places(cluster)}
    for path, hosts in grouped(cluster, cluster.hosts if vips else (), "gateway").items():
        for gateway in map(IPAddress, hosts[0].settings.gateways):
            if gateway in vips:
                yield Finding(
                    vips[gateway].path,
                    said("VIP {gateway} is the gateway of {hosts}", gateway=gateway, hosts=several(hosts)),
                    "take a free address of the same network",
                    related=(Related(path, "the gateway"),),
                )


@rule("NET006", "error")
def vip_unusable(cluster: Cluster) -> Iterator[Finding]:
    """
    The VIP is an address that no interface can have.

    Why it hurts: network and broadcast addresses reach every host or none, loopback and link-local ones no other host.

    Example: `controlPlaneEndpoint: {address: 192.168.1.255/24}`.

    Use instead: a free address of the load balancers' network.

    Source: RFC 1122, section 3.2.1.3; RFC 4291, section 2.6.1.
    """
    for place in vip_places(cluster):
        why = unusable(place.network)
        if why:
            yield Finding(
                place.path,
                said("{place}/{prefix} is {why}", place=place.label, prefix=place.network.prefixlen, why=why),
                "take a free address of the same network",
            )


@rule("NET007", "error")
def vip_out_of_reach(cluster: Cluster) -> Iterator[Finding]:
    """
    The VIP is outside of a load balancer's network.

    Why it hurts: a host can hold the VIP only in the segment where clients and routers ask for it by ARP or NDP; elsewhere nobody does,
    and after a failover to that host the API is gone.

    Example: `address: 192.168.2.31/24` with load balancers in 192.168.1.0/24.

    Use instead: an address of the network that all load balancers share; hosts elsewhere can't be load balancers.

    Source: kubeadm, ha-considerations.md (all hosts in one IP subnet); easzlab/kubeasz#1280.
    """
    for place in vip_places(cluster):
        far = [h for h in cluster.load_balancers if not any(holds(a, place.network) for a in h.addresses)]
        if far:
            yield Finding(
                place.path,
                said("{place} is outside of the networks of {hosts}", place=place.label, hosts=several(far)),
                "take an address of the network that all load balancers stand in",
                related=(Related(("hosts", far[0].index, "address"), "a host that can't hold it"),),
            )


@rule("NET008", "warning")
def vip_prefix(cluster: Cluster) -> Iterator[Finding]:
    """
    The VIP has another prefix than the hosts around it.

    Why it hurts: one of the two is wrong; a host whose prefix is too long takes its neighbours for strangers and sends what is for them to
    the gateway.

    Example: `address: 192.168.1.31/16` with load balancers at `192.168.1.25/24`.

    Use instead: the prefix of the network that the VIP lives in; /32 (/128) says that none is meant.

    Source: acassen/keepalived#497 ("you are adding the specific addresses, not creating the whole subnetwork").
    """
    for place in vip_places(cluster):
        vip = place.network
        if vip.prefixlen == (32 if vip.version == 4 else 128):
            continue
        other = [h for h in cluster.load_balancers for a in h.addresses if holds(a, vip) and a.prefixlen != vip.prefixlen]
        if other:
            length = next(a.prefixlen for a in other[0].addresses if holds(a, vip))
            yield Finding(
                place.path,
                said(
                    "{place} has prefix /{prefix}, {hosts} /{length}",
                    place=place.label,
                    prefix=vip.prefixlen,
                    hosts=several(other),
                    length=length,
                ),
                said("write {vip}/{length}, or correct the host", vip=vip.ip, length=length),
                related=(Related(("hosts", other[0].index, "address"), "the host"),),
            )


@rule("NET009", "error")
def vips_of_one_family(cluster: Cluster) -> Iterator[Finding]:
    """
    Two VIPs of one family.

    Why it hurts: the endpoint's name would have two addresses of which clients take any; the second is for the other family of a
    dual-stack cluster.

    Example: `address: [192.168.1.31/24, 192.168.1.32/24]`.

    Use instead: one VIP, or one IPv4 and one IPv6 VIP.

    Source: keepalived.conf(5), *virtual_ipaddress_excluded*; design.md, section 5 (*Load balancer*).
    """
    places = vip_places(cluster)
    if len(places) == 2 and places[0].network.version == places[1].network.version:
        yield Finding(
            places[1].path,
            said("{place} is of the same family as {other}", place=places[1].label, other=places[0].label),
            "write one VIP a family",
        )


@rule("NET014", "error")
def vip_family(cluster: Cluster) -> Iterator[Finding]:
    """
    The VIP is of a family that the cluster doesn't have.

    Why it hurts: hosts need an address of each of the cluster's families and of no other, so nobody makes sure that they can reach it; and
    nginx listens on the cluster's families alone.

    Example: `address: fd00:192:168:1::31/64` with `podSubnet: 10.244.0.0/16`.

    Use instead: a VIP of a family of podSubnet.

    Source: Kubernetes, IPv4/IPv6 dual-stack; design.md, section 5 (*Load balancer*).
    """
    for place in vip_places(cluster):
        if place.network.version not in cluster.ip_versions:
            yield Finding(
                place.path,
                said("{place} is an IPv{version} address, podSubnet has none", place=place.label, version=place.network.version),
                "take a VIP of podSubnet's family, or make the cluster dual-stack",
                related=(Related(("cluster", "podSubnet"), "the cluster's families"),),
            )


@rule("NET015", "error")
def endpoint_name(cluster: Cluster) -> Iterator[Finding]:
    """
    The endpoint has the name of a host.

    Why it hurts: the hosts file would have two addresses for the name; on every host that takes the wrong one, the cluster depends on that
    one control plane.

    Example: `controlPlaneEndpoint: {name: master-1}`.

    Use instead: a name for the API alone, such as `api.example.net` or `backend`.

    Source: hosts(5); kubeadm, creating highly available clusters; checklist row 3.
    """
    if cluster.endpoint is None:
        return
    name = cluster.endpoint.name
    owner: Host | None = next((h for h in cluster.hosts if h.name.lower() == name), None)
    if owner is not None or name in LOCAL_NAMES:
        holder = owner.label() if owner else said("the loopback address")
        yield Finding(
            ("controlPlaneEndpoint", "name"),
            said("endpoint name {name} is the name of {holder}", name=name, holder=holder),
            "choose a name for the API alone",
            related=(Related(("hosts", owner.index, "name"), "the host"),) if owner else (),
        )


def _named_address(cluster: Cluster) -> IPAddress | None:
    """The endpoint's name where it is an address; the schema has no colons in a name."""
    return IPAddress(cluster.endpoint.name) if cluster.endpoint is not None and valid_ipv4(cluster.endpoint.name) else None


@rule("NET018", "warning")
def endpoint_is_address(cluster: Cluster) -> Iterator[Finding]:
    """
    The endpoint's name is an address.

    Why it hurts: every kubeconfig and certificate then names the address itself; the VIP can never move to another network without new
    certificates and an edit on every host.

    Example: `controlPlaneEndpoint: {name: 192.168.1.31, address: 192.168.1.31/24}`, as the origin has it.

    Use instead: a name; the generated hosts file resolves it.

    Source: kubernetes/kubeadm#1447; labring/sealos#615; checklist row 3.
    """
    address = _named_address(cluster)
    if cluster.endpoint is not None and address in cluster.endpoint.vips:
        name = cluster.endpoint.name
        yield Finding(
            ("controlPlaneEndpoint", "name"), said("endpoint name {name} is an address", name=name), "choose a name such as api.example.net"
        )


@rule("NET019", "error")
def endpoint_is_other_address(cluster: Cluster) -> Iterator[Finding]:
    """
    The endpoint's name is an address, and not that of the VIP.

    Why it hurts: an address needs no hosts file, so every client goes where it says and never to the VIP: to one control plane, with which
    the API ends for all, or to nobody.

    Example: `controlPlaneEndpoint: {name: 192.168.1.25, address: 192.168.1.31/24}` where master-1 is 192.168.1.25.

    Use instead: a name such as `api.example.net`; the generated hosts file resolves it to the VIP.

    Source: kubeadm, creating highly available clusters (the endpoint leads to the load balancer); checklist row 3.
    """
    address = _named_address(cluster)
    if cluster.endpoint is None or address is None or address in cluster.endpoint.vips:
        return
    owner = next((p for h in cluster.hosts for p in host_places(cluster, h) if p.network.ip == address), None)
    what = said("the address of {host}", host=owner.label) if owner else said("an address")
    yield Finding(
        ("controlPlaneEndpoint", "name"),
        said("endpoint name {address} is {what} and not the VIP", address=address, what=what),
        "choose a name such as api.example.net",
        related=(Related(owner.path, "the host"),) if owner else (),
    )
