"""LBR: nginx and its watcher before the API servers: times, and who may connect."""

import re
from collections.abc import Iterator

from netaddr import IPNetwork

from generator.diagnostics import Path, Related
from generator.lint import Finding, rule
from generator.lint.places import several, union
from generator.model import Cluster
from generator.wording import said

_NGINX: Path = ("loadBalancer", "nginx")
_WATCHER: Path = ("loadBalancer", "watcher")
# The kubelet's connection and kube-proxy's, and as many again while they reconnect.
_CLIENTS_OF_A_NODE = 4
_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def _milliseconds(text: str) -> int:
    found = re.fullmatch(r"([0-9]+)(ms|s|m|h|d)", text)
    return int(found[1]) * _UNITS[found[2]] if found else 0


@rule("LBR025", "error")
def watcher_rise(cluster: Cluster) -> Iterator[Finding]:
    """
    The longest wait of the watcher is shorter than its first.

    Why it hurts: `rise` is how long a server must be good before it is up again and grows up to `riseMax` for one that flaps; the other
    way round neither says what happens.

    Example: `watcher: {rise: 60, riseMax: 30}`.

    Use instead: `riseMax` of at least `rise`.

    Source: design.md, section 5 (*Load balancer*).
    """
    if cluster.load_balancer is not None:
        watcher = cluster.load_balancer.watcher
        if watcher.rise_max < watcher.rise:
            yield Finding(
                (*_WATCHER, "riseMax"),
                said("riseMax {most} is less than rise {rise}", most=watcher.rise_max, rise=watcher.rise),
                "write at least rise",
            )


@rule("LBR026", "warning")
def slow_watcher(cluster: Cluster) -> Iterator[Finding]:
    """
    The watcher takes long to notice a hung API server.

    Why it hurts: nginx learns of a dead server from failed connections, of a hung one from the watcher alone; until then each new
    connection may end there.

    Example: `watcher: {interval: 10, fall: 3}`: up to 30 s.

    Use instead: the defaults, 1 s and two failures.

    Source: checklist rows 11 and 41; kubernetes-sigs/kubespray#2091 ("nginx isn't performing active health checking").
    """
    if cluster.nginx is not None and cluster.load_balancer is not None:
        watcher = cluster.load_balancer.watcher
        worst = max(watcher.interval, watcher.timeout) * watcher.fall
        if worst > 10:
            yield Finding(
                _WATCHER,
                said("the watcher takes up to {worst} s to notice a hung API server", worst=worst),
                "keep the larger of interval and timeout, times fall, at 10 s or less",
                on_key=True,
            )


@rule("LBR027", "error")
def locked_out(cluster: Cluster) -> Iterator[Finding]:
    """
    The allow list locks a node out.

    Why it hurts: every kubelet reaches the API through the VIP; a node that may not connect never becomes ready. On the VIP's holder the
    connection comes from the VIP itself.

    Example: `allow: [10.0.0.0/8]` with hosts in 192.168.1.0/24.

    Use instead: the networks of all nodes and, where control planes carry the load balancer, the VIP; or an empty list.

    Source: nginx, ngx_stream_access_module; RFC 6724, section 5, rule 1 (a connection to an own address comes from that address).
    """
    endpoint, nginx = cluster.endpoint, cluster.nginx
    if endpoint is None or nginx is None or not nginx.allow:
        return
    allowed = union(map(IPNetwork, nginx.allow))
    families = {a.version for a in endpoint.addresses}
    out = [h for h in cluster.kubernetes_hosts if any(a.version in families and not allowed(a) for a in h.addresses)]
    if out:
        yield Finding(
            (*_NGINX, "allow"),
            said("allow locks {hosts} out", hosts=several(out)),
            "add the networks of all nodes",
            on_key=True,
            related=(Related(("hosts", out[0].index, "address"), "not in the list"),),
        )
    for vip in endpoint.addresses if not out and not cluster.dedicated_load_balancers else ():
        if not allowed(vip):
            yield Finding(
                (*_NGINX, "allow"), said("allow locks the holder of VIP {vip} out", vip=vip.ip), said("add {vip}", vip=vip.ip), on_key=True
            )


@rule("LBR028", "error")
def no_second_server(cluster: Cluster) -> Iterator[Finding]:
    """
    The search for an API server ends before a second one is tried.

    Why it hurts: the search for a server ends after `nextUpstreamTimeout`; when one dark server alone takes `connectTimeout`, the client
    gets nothing although two others are well.

    Example: `connectTimeout: 10s` with `nextUpstreamTimeout: 10s`.

    Use instead: a `nextUpstreamTimeout` of several times `connectTimeout`.

    Source: nginx, ngx_stream_proxy_module, *proxy_next_upstream_timeout*.
    """
    if cluster.nginx is not None:
        connect, search = cluster.nginx.connect_timeout, cluster.nginx.next_upstream_timeout
        if _milliseconds(search) <= _milliseconds(connect):
            yield Finding(
                (*_NGINX, "nextUpstreamTimeout"),
                said(
                    "nextUpstreamTimeout {search} ends before a second server is tried (connectTimeout {connect})",
                    search=search,
                    connect=connect,
                ),
                "make it several times connectTimeout",
                related=(Related((*_NGINX, "connectTimeout"), "one attempt"),),
            )


@rule("LBR029", "warning")
def connect_timeout(cluster: Cluster) -> Iterator[Finding]:
    """
    A long wait for an API server that is gone.

    Why it hurts: a host that is off answers nothing, so each new connection that is sent there waits this long before the next server is
    tried: 60 s by nginx's own default.

    Example: `connectTimeout: 30s`.

    Use instead: 1s to 3s.

    Source: nginx, *proxy_connect_timeout*; measured: 60.06 s against 2.01 s (checklist row 12).
    """
    if cluster.nginx is not None and _milliseconds(cluster.nginx.connect_timeout) > 5000:
        text = cluster.nginx.connect_timeout
        yield Finding(
            (*_NGINX, "connectTimeout"), said("connectTimeout {text} holds clients up when a host is off", text=text), "write 1s to 3s"
        )


@rule("LBR030", "warning")
def idle_timeout(cluster: Cluster) -> Iterator[Finding]:
    """
    Silent connections are cut early.

    Why it hurts: `kubectl exec`, `logs -f` and `port-forward` end when nothing is said for this long, and watches that are cut are all
    made anew.

    Example: `idleTimeout: 15s`.

    Use instead: 10m at least; the default is 1h.

    Source: kubernetes-sigs/kubespray#655 (3 s cost "enormous amount of CPU load"); kubernetes/kubeadm#1685.
    """
    if cluster.nginx is not None and _milliseconds(cluster.nginx.idle_timeout) < 600_000:
        text = cluster.nginx.idle_timeout
        yield Finding((*_NGINX, "idleTimeout"), said("idleTimeout {text} cuts exec and watches", text=text), "write 10m or more")


@rule("LBR034", "info")
def equal_weights(cluster: Cluster) -> Iterator[Finding]:
    """
    Every API server has the same weight.

    Why it hurts: it doesn't: weights count against each other, and equal ones say no more than none.

    Example: `nginx: {weight: 5}`, the origin's `weight=5` on every server.

    Use instead: nothing; or `weight` on the hosts that are to get more than others.

    Source: nginx, ngx_stream_upstream_module, *weight* (default 1).
    """
    if cluster.nginx is not None and len(cluster.control_planes) > 1:
        weights = {host.weight or cluster.nginx.weight for host in cluster.control_planes}
        if len(weights) == 1 and weights != {1}:
            own = cluster.control_planes[0]
            path: Path = (*_NGINX, "weight") if own.weight is None else ("hosts", own.index, "weight")
            yield Finding(path, said("weight {weight} on every API server changes nothing", weight=weights.pop()), "remove it", on_key=True)


@rule("LBR035", "warning")
def slow_director(cluster: Cluster) -> Iterator[Finding]:
    """
    IPVS takes long to notice a dead API server.

    Why it hurts: until keepalived's second attempt has failed too, the kernel hands new connections to a server that doesn't answer.

    Example: `ipvs: {delayLoop: 6, connectTimeout: 10}`, the origin's numbers: up to 27 s.

    Use instead: the defaults: every 2 s, with 1 s for a connect.

    Source: keepalived.conf(5), *delay_loop*, *connect_timeout*, *retry*; checklist row 41 (more than 10 s).
    """
    if cluster.ipvs is not None:
        worst = cluster.ipvs.delay_loop + 2 * cluster.ipvs.connect_timeout + 1
        if worst > 10:
            yield Finding(
                ("loadBalancer", "ipvs"),
                said("IPVS takes up to {worst} s to notice a dead API server", worst=worst),
                "keep delayLoop, and twice connectTimeout, at 9 s or less together",
                on_key=True,
            )


@rule("LBR036", "warning")
def few_connections(cluster: Cluster) -> Iterator[Finding]:
    """
    Too few connections for all nodes.

    Why it hurts: a client takes two connections of a worker, its own and the one to the API server; when they are used up nginx refuses
    new ones ("worker_connections are not enough"), first of all after a failover, when every node connects at once.

    Example: `nginx: {workerProcesses: 1, workerConnections: 512}`, room for 256 clients, with 70 nodes of four clients each.

    Use instead: the default of 8192 and two workers, which carry 2048 nodes.

    Source: nginx, *worker_connections* (proxied ones count too); kubespray has 16384; checklist row 15.
    """
    if cluster.nginx is not None:
        room = cluster.nginx.worker_processes * cluster.nginx.worker_connections // 2
        clients = _CLIENTS_OF_A_NODE * len(cluster.kubernetes_hosts)
        if clients > room:
            yield Finding(
                (*_NGINX, "workerConnections"),
                said(
                    "room for {room} clients, {nodes} nodes may have {clients}",
                    room=room,
                    nodes=len(cluster.kubernetes_hosts),
                    clients=clients,
                ),
                "write a larger workerConnections such as 16384, or more workerProcesses",
            )
