"""LBR: whether there is a load balancer where one is needed, on the right hosts, by one engine."""

from collections.abc import Iterator

from netaddr import IPAddress

from generator.diagnostics import Related
from generator.lint import Finding, rule
from generator.lint.places import grouped, several, vip_places
from generator.model import LOAD_BALANCER, Cluster, Host
from generator.wording import said


@rule("LBR001", "error")
def no_endpoint(cluster: Cluster) -> Iterator[Finding]:
    """
    Several control planes and no endpoint.

    Why it hurts: kubeadm writes the first control plane's address into every kubeconfig, and refuses the second one to join ("a stable
    controlPlaneEndpoint address"); the endpoint can't easily be added later.

    Example: three hosts with `role: control-plane`, and neither `controlPlaneEndpoint` nor `loadBalancer`.

    Use instead: both: the name, the VIP and the port, and `loadBalancer: {keepalived: {virtualRouterId: ...}}`.

    Source: kubeadm, v1beta4 ClusterConfiguration, *controlPlaneEndpoint*; kubernetes/kubeadm#1447.
    """
    if len(cluster.control_planes) > 1 and cluster.endpoint is None and cluster.load_balancer is None:
        yield Finding(
            ("hosts", cluster.control_planes[1].index, "role"),
            said("{count} control planes without controlPlaneEndpoint and loadBalancer", count=len(cluster.control_planes)),
            "add both: a name, a VIP and a port, and keepalived's virtualRouterId",
        )


@rule("LBR002", "error")
def half_endpoint(cluster: Cluster) -> Iterator[Finding]:
    """
    An endpoint without a load balancer, or the reverse.

    Why it hurts: nobody holds the VIP that every kubeconfig names, so `kubeadm init` waits for it in vain; or keepalived has no VIP to
    hold.

    Example: `controlPlaneEndpoint:` without `loadBalancer:`.

    Use instead: both, or, with one control plane, neither.

    Source: design.md, section 1; checklist row 6.
    """
    if (cluster.endpoint is None) != (cluster.load_balancer is None):
        has, lacks = ("controlPlaneEndpoint", "loadBalancer") if cluster.endpoint else ("loadBalancer", "controlPlaneEndpoint")
        yield Finding(
            (has,),
            said("{has} without {lacks}", has=has, lacks=lacks),
            said("add {lacks}; one control plane alone needs neither", lacks=lacks),
            on_key=True,
        )


@rule("LBR003", "error")
def idle_load_balancers(cluster: Cluster) -> Iterator[Finding]:
    """
    A load-balancer host with nothing to balance.

    Why it hurts: without endpoint and load balancer these hosts get no nginx, no keepalived and no VIP.

    Example: `{name: lb-1, role: load-balancer}` without `controlPlaneEndpoint` and `loadBalancer`.

    Use instead: add both; or another role for the host.

    Source: design.md, section 1 (roles).
    """
    hosts = [h for h in cluster.hosts if h.role == LOAD_BALANCER]
    if hosts and cluster.endpoint is None and cluster.load_balancer is None:
        yield Finding(
            ("hosts", hosts[0].index, "role"),
            said("{hosts}: load balancer without controlPlaneEndpoint and loadBalancer", hosts=several(hosts)),
            "add both, or give the host another role",
        )


@rule("LBR004", "error")
def two_engines(cluster: Cluster) -> Iterator[Finding]:
    """
    IPVS beside nginx.

    Why it hurts: IPVS takes the packets for VIP and port in the kernel, before nginx sees them: nginx and its health check become dead
    code that still decides who holds the VIP.

    Example: `loadBalancer: {nginx: {}, ipvs: {}, ...}`; the origin's optional `virtual_server 192.168.1.31 16443`.

    Use instead: `nginx`; or `ipvs` alone, on dedicated load balancers.

    Source: checklist row 40 (the combination passes `keepalived -t`); k0sproject/k0s#5178.
    """
    balancer = cluster.load_balancer
    if balancer is not None and balancer.nginx is not None and balancer.ipvs is not None:
        yield Finding(
            ("loadBalancer", "ipvs"),
            "ipvs beside nginx: both want the VIP's port",
            "keep nginx, or ipvs alone",
            on_key=True,
            related=(Related(("loadBalancer", "nginx"), "the other engine", on_key=True),),
        )


@rule("LBR005", "error")
def single_load_balancer(cluster: Cluster) -> Iterator[Finding]:
    """
    One load balancer before several control planes.

    Why it hurts: three API servers survive the loss of one of them, and all of them end with the only host that holds the VIP.

    Example: three control planes and one host with `role: load-balancer`.

    Use instead: two load balancers; or none, and the control planes carry it themselves.

    Source: checklist row 6; kubernetes/kubeadm#2472.
    """
    if len(cluster.load_balancers) == 1 < len(cluster.control_planes):
        host = cluster.load_balancers[0]
        yield Finding(
            ("hosts", host.index, "role"),
            said("{host} is the only load balancer of {count} control planes", host=host.label(), count=len(cluster.control_planes)),
            "add a second one, or leave the role out: then the control planes carry the VIP",
        )


@rule("LBR006", "info")
def vip_on_one_host(cluster: Cluster) -> Iterator[Finding]:
    """
    One host alone can hold the VIP.

    Why it hurts: it doesn't yet: a VIP from the beginning lets a single control plane grow to three without new kubeconfigs. But until
    then it moves nowhere.

    Example: one control plane with `controlPlaneEndpoint` and `loadBalancer`.

    Use instead: nothing, where the cluster is to grow; three control planes, where it is to survive one.

    Source: kubeadm, ha-considerations.md.
    """
    if len(cluster.load_balancers) == 1 and len(cluster.control_planes) <= 1:
        yield Finding(
            ("controlPlaneEndpoint",),
            said("{host} alone can hold the VIP", host=cluster.load_balancers[0].label()),
            "nothing to do if the cluster is to grow later",
            on_key=True,
        )


def _ipvs(cluster: Cluster, forwarding: str) -> bool:
    """Whether dedicated load balancers forward so."""
    return cluster.ipvs is not None and cluster.dedicated_load_balancers and cluster.ipvs.forwarding == forwarding


def _networks(host: Host) -> set[tuple[int, int, int]]:
    return {(a.version, a.first, a.prefixlen) for a in host.addresses}


@rule("LBR007", "error")
def ipvs_on_control_planes(cluster: Cluster) -> Iterator[Finding]:
    """
    IPVS on the control planes.

    Why it hurts: a director that is its own real server answers in a circle: the other hosts have the VIP too, forward what the director
    sent them, and packets loop.

    Example: `loadBalancer: {ipvs: {}, ...}` without a host of `role: load-balancer`.

    Use instead: `nginx` on the control planes; `ipvs` on two dedicated load balancers.

    Source: k0s, cplb.md ("routing loops"); k0sproject/k0s#5178 ("infinite loop").
    """
    if cluster.ipvs is not None and not cluster.dedicated_load_balancers:
        yield Finding(
            ("loadBalancer", "ipvs"),
            "ipvs on the control planes themselves",
            "use nginx, or give two hosts `role: load-balancer`",
            on_key=True,
        )


@rule("LBR008", "error")
def ipvs_port(cluster: Cluster) -> Iterator[Finding]:
    """
    IPVS can't translate the port.

    Why it hurts: direct routing and tunnels hand the packet on as it is, with the VIP's port; keepalived reports "ports don't match" and
    takes the API's.

    Example: `port: 16443` with `ipvs: {forwarding: DR}` and API servers on 6443.

    Use instead: the API's own port as the endpoint's.

    Source: keepalived, check_data.c; LVS HOWTO, LVS-DR.
    """
    endpoint = cluster.endpoint
    if endpoint is None or cluster.ipvs is None or endpoint.port in (0, cluster.api_port):
        return
    if _ipvs(cluster, "DR") or _ipvs(cluster, "TUN"):
        yield Finding(
            ("controlPlaneEndpoint", "port"),
            said(
                "{forwarding} can't translate port {port} to the API's {api}",
                forwarding=cluster.ipvs.forwarding,
                port=endpoint.port,
                api=cluster.api_port,
            ),
            said("write port {api}", api=cluster.api_port),
            related=(Related(("loadBalancer", "ipvs"), "the engine", on_key=True),),
        )


@rule("LBR009", "error")
def ipvs_nat(cluster: Cluster) -> Iterator[Finding]:
    """
    IPVS with NAT on one subnet.

    Why it hurts: the API server answers a client of its own subnet directly, past the director; the client sees an answer from an address
    that it never asked, and resets the connection.

    Example: `ipvs: {forwarding: NAT}` with load balancers and control planes in 192.168.1.0/24.

    Use instead: `DR` on one subnet; NAT where the director is the gateway of the API servers' own network.

    Source: LVS HOWTO, LVS-NAT; checklist row 40.
    """
    if not _ipvs(cluster, "NAT"):
        return
    networks = {network for h in cluster.load_balancers for network in _networks(h)}
    near = [h for h in cluster.control_planes if networks & _networks(h)]
    if near:
        yield Finding(
            ("loadBalancer", "ipvs", "forwarding"),
            said("NAT with the load balancers in the subnet of {hosts}", hosts=several(near)),
            "use DR, or a network of their own for the API servers",
            related=(Related(("hosts", near[0].index, "address"), "in one subnet with the load balancers"),),
        )


@rule("LBR010", "error")
def ipvs_dr(cluster: Cluster) -> Iterator[Finding]:
    """
    IPVS with direct routing across subnets.

    Why it hurts: direct routing changes the MAC address only, so the server must be in the director's segment; through a router the packet
    comes back to the director.

    Example: `ipvs: {forwarding: DR}` with load balancers in 192.168.1.0/24 and control planes in 192.168.2.0/24.

    Use instead: `TUN` across networks, or `nginx`.

    Source: LVS HOWTO, LVS-DR (director and real servers share a segment).
    """
    if not _ipvs(cluster, "DR"):
        return
    networks = {network for h in cluster.load_balancers for network in _networks(h)}
    far = [h for h in cluster.control_planes if not networks & _networks(h)]
    if far and networks:
        yield Finding(
            ("loadBalancer", "ipvs", "forwarding"),
            said("DR with {hosts} in another subnet than the load balancers", hosts=several(far)),
            "use TUN or nginx",
            related=(Related(("hosts", far[0].index, "address"), "in another subnet"),),
        )


@rule("LBR031", "error")
def ipvs_nat_return(cluster: Cluster) -> Iterator[Finding]:
    """
    IPVS with NAT where the answers go past the director.

    Why it hurts: NAT rewrites the destination on the way in and must rewrite the source on the way out; an API server that answers through
    another router answers from an address that the client never asked, and no connection is ever made.

    Example: `ipvs: {forwarding: NAT}` with `gateway: 192.168.2.1`, the site's router, on the control planes.

    Use instead: `DR` on one segment, `TUN` across networks, or `nginx`, which needs no way back.

    Source: LVS HOWTO, LVS-NAT (the director is the default gateway of the real servers); checklist row 40.
    """
    if not _ipvs(cluster, "NAT") or cluster.endpoint is None:
        return
    directors = {*cluster.endpoint.vips, *(a.ip for h in cluster.load_balancers for a in h.addresses)}
    families = {vip.version for vip in cluster.endpoint.vips}
    for path, hosts in grouped(cluster, cluster.control_planes, "gateway").items():
        for gateway in map(IPAddress, hosts[0].settings.gateways):
            if gateway.version in families and gateway not in directors:
                yield Finding(
                    ("loadBalancer", "ipvs", "forwarding"),
                    said("NAT with gateway {gateway} of {hosts}, which is no load balancer", gateway=gateway, hosts=several(hosts)),
                    "use DR, TUN or nginx; NAT needs the director as gateway of the API servers",
                    related=(Related(path, "the way of the answers"),),
                )


@rule("LBR032", "error")
def ipvs_tun_ipv6(cluster: Cluster) -> Iterator[Finding]:
    """
    IPVS tunnels for an IPv6 VIP.

    Why it hurts: the API servers take the packets out of `tunl0`, which carries IPv4 in IPv4 only; what is for an IPv6 VIP arrives in a
    tunnel that nobody opens.

    Example: `ipvs: {forwarding: TUN}` with `address: fd00:192:168:1::31/64`.

    Use instead: `DR` on one segment, or `nginx`.

    Source: Linux, net/ipv4/ipip.c (tunl0); net/netfilter/ipvs/ip_vs_xmit.c (an IPv6 service is sent through IPv6 tunnels).
    """
    if _ipvs(cluster, "TUN"):
        for place in vip_places(cluster):
            if place.network.version == 6:
                yield Finding(
                    ("loadBalancer", "ipvs", "forwarding"),
                    said("TUN with the IPv6 {place}", place=place.label),
                    "use DR or nginx",
                    related=(Related(place.path, "the VIP"),),
                )
