"""NGX: whether nginx, keepalived, kubeadm and the other hosts mean the same address, port and servers."""

from collections.abc import Iterator

from generator.handwritten import Files, integer, kubeadm
from generator.handwritten.balancers import LOOPBACK, Balancer, api, balancers, endpoint
from generator.handwritten.nginx import whole
from generator.lint import Found, file_rule
from generator.wording import said


@file_rule("NGX022", "warning")
def listen_on_vip(files: Files) -> Iterator[Found]:
    """
    nginx listens on the VIP alone.

    Why it hurts: only one host has the VIP. On the others nginx can't bind (99: Cannot assign requested address) and doesn't start, so that
    nobody answers when the VIP arrives there; `nginx -t` fails too.

    Example: `listen 192.168.1.31:16443;` with 192.168.1.31 in keepalived.conf.

    Use instead: `listen 16443;`; or `net.ipv4.ip_nonlocal_bind=1` on every load balancer.

    Source: measured with nginx 1.22.1; Linux, ip-sysctl, *ip_nonlocal_bind*; checklist row 14.
    """
    vips = kubeadm.vips(files)
    allowed = any("sysctl" in name for name in files.skipped) or any(
        "ip_nonlocal_bind" in word for _, root in files.of("script") for node in root.walk("sysctl", "echo") for word in node.args
    )
    for one in balancers(files) if not allowed else ():
        for word in one.listens:
            address = kubeadm.plain_address(endpoint(word)[0])
            if address in vips:
                what = said("{address} is the VIP, which one host has at a time", address=address)
                yield Found(word, what, "listen on the port alone", (vips[address][1].related("the VIP"),))


def _pairs(files: Files) -> Iterator[tuple[Balancer, Balancer]]:
    """
    The first balancer of each set of API servers, with each of another host that has one of these servers.

    Loopback is each host's own; a host is known only where it was named.
    """
    first: list[Balancer] = []
    for one in api(files):
        mine = one.addresses.keys()
        if not one.config.file.host or not one.answering_known or not mine or mine & LOOPBACK:
            continue
        near = [other for other in first if mine & other.addresses.keys()]
        other = next((other for other in near if other.config.file.host != one.config.file.host), None)
        if other is not None:
            yield other, one
        elif not near:
            first.append(one)


@file_rule("NGX026", "error")
def other_servers(files: Files) -> Iterator[Found]:
    """
    Load balancers that know different API servers.

    Why it hurts: what the cluster survives depends on which host has the VIP: a control plane that one of them doesn't know gets nothing,
    and one that was removed still gets its share.

    Example: a third control plane in the upstream of master-1, and not in that of master-2.

    Use instead: the same servers on every load balancer; change them together.

    Source: checklist row 17; kubeadm, ha-considerations.md (the same configuration on each host).
    """
    for other, one in _pairs(files):
        mine, theirs = one.addresses, other.addresses
        for these, those, where in ((mine, theirs, one), (theirs, mine, other)):
            missing = [those[name] for name in those if name not in these]
            if missing:
                what = said("upstream {name} of {host} lacks {server}", name=where.target, host=where.config.file.host, server=missing[0])
                place = where.upstream.args[0] if where.upstream else where.target
                yield Found(place, what, "list the same servers on every load balancer", (missing[0].related("listed there"),))


@file_rule("NGX027", "error")
def other_ports(files: Files) -> Iterator[Found]:
    """
    Load balancers that listen on different ports.

    Why it hurts: kubeconfigs name one port. When the VIP moves to a host that listens on another one, nobody answers there.

    Example: `listen 16443;` on master-1, `listen 6443;` on master-2.

    Use instead: one port on every load balancer, that of controlPlaneEndpoint.

    Source: kubeadm, v1beta4 ClusterConfiguration, *controlPlaneEndpoint*.
    """
    for other, one in _pairs(files):
        if one.ports and other.ports and not one.ports & other.ports:
            host, port = one.config.file.host, min(one.ports)
            what = said(
                "{host} listens on port {port}, {other} on {others}",
                host=host,
                port=port,
                other=other.config.file.host,
                others=min(other.ports),
            )
            yield Found(one.listens[0], what, "listen on one port everywhere", (other.listens[0].related("another port"),))


@file_rule("NGX028", "error")
def nobody_listens(files: Files) -> Iterator[Found]:
    """
    Nobody listens on the endpoint's port.

    Why it hurts: every kubeconfig names controlPlaneEndpoint; on this port nginx isn't, so that `kubeadm init` waits in vain, or goes past
    nginx to the one API server that is on the VIP's holder.

    Example: `--control-plane-endpoint=backend:6443` with `listen 16443;`.

    Use instead: the port that nginx listens on.

    Source: kubeadm, v1beta4 ClusterConfiguration, *controlPlaneEndpoint*; checklist row 6.
    """
    found = api(files)
    if not found or any(file.kind == "nginx" and file.problems for file in files.files):
        return
    roots = [config.root for config in whole(files)]
    ports = {endpoint(node.value)[1] for root in roots for node in root.walk("listen") if node.value}
    ports |= {integer(node.args[1]) for _, root in files.of("keepalived") for node in root.walk("virtual_server") if len(node.args) > 1}
    listens = [word for one in found for word in one.listens if endpoint(word)[1]]
    for _, word in kubeadm.told(files, "controlPlaneEndpoint"):
        port = endpoint(word)[1]
        if port is not None and port not in ports and listens and all(one.known for one in found):
            what = said("nginx doesn't listen on port {port} of the endpoint", port=port)
            related = (listens[0].related("where nginx listens"),)
            yield Found(word, what, "write the port that nginx listens on", related)
