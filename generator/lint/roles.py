"""HST: how many hosts of each role there are, and settings that reach nobody because of a host's role."""

from collections.abc import Iterator

from generator.lint import Finding, rule
from generator.model import CONTROL_PLANE, LOAD_BALANCER, Cluster
from generator.wording import said

_KUBERNETES_KEYS = (
    "kubelet",
    "kubeletExtraArgs",
    "labels",
    "taints",
    "imagePullPolicy",
    "ignorePreflightErrors",
    "containerRuntimeVersion",
    "proxy",
)


@rule("HST011", "error")
def no_control_plane(cluster: Cluster) -> Iterator[Finding]:
    """
    No host is a control plane.

    Why it hurts: there is nothing to join.

    Example: an inventory whose hosts are all `role: worker`.

    Use instead: `role: control-plane` on one, three or five hosts.

    Source: design.md, section 1.
    """
    if not cluster.control_planes:
        yield Finding(("hosts",), "no host is a control plane", "give one, three or five hosts `role: control-plane`", on_key=True)


@rule("HST012", "error")
def even_control_planes(cluster: Cluster) -> Iterator[Finding]:
    """
    An even number of control planes.

    Why it hurts: etcd needs more than half of its members. Two stop when either one fails, four when two fail: one more host to break, and
    none more that may.

    Example: two hosts with `role: control-plane`.

    Use instead: three (one may fail) or five (two may fail).

    Source: etcd FAQ, "Why an odd number of cluster members?"; kubespray and KubeKey refuse it too.
    """
    planes = cluster.control_planes
    if planes and len(planes) % 2 == 0:
        yield Finding(
            ("hosts", planes[-1].index, "role"),
            said("{count} control planes, an even number", count=len(planes)),
            said(
                "make it {fewer} or {more}: {count} survive no more failures than {fewer}",
                fewer=len(planes) - 1,
                more=len(planes) + 1,
                count=len(planes),
            ),
        )


@rule("HST013", "warning")
def many_control_planes(cluster: Cluster) -> Iterator[Finding]:
    """
    More than seven control planes.

    Why it hurts: every write waits for more than half of the etcd members, so each further one makes the cluster slower.

    Example: nine hosts with `role: control-plane`.

    Use instead: three, five or seven; the others as workers.

    Source: etcd FAQ, "What is maximum cluster size?" (no more than seven).
    """
    planes = cluster.control_planes
    if len(planes) > 7:
        yield Finding(
            ("hosts", planes[7].index, "role"), said("{count} control planes", count=len(planes)), "seven are the most that etcd advises"
        )


@rule("HST014", "error")
def idle_priority(cluster: Cluster) -> Iterator[Finding]:
    """
    A VRRP priority on a host that never holds the VIP.

    Why it hurts: whoever wrote it expects this host to carry the VIP, and it won't.

    Example: `{name: node-1, role: worker, priority: 150}`.

    Use instead: `priority` on the load balancers; where no host has that role, these are the control planes.

    Source: design.md, section 1 (roles).
    """
    carriers = {h.index for h in cluster.load_balancers}
    if carriers or len(cluster.control_planes) == 1:
        for host in cluster.hosts:
            if host.priority is not None and host.index not in carriers:
                yield Finding(
                    ("hosts", host.index, "priority"),
                    said("{host} never holds the VIP: priority {priority} has no effect", host=host.label(), priority=host.priority),
                    "remove it, or set it on a host that carries the load balancer",
                    on_key=True,
                )


@rule("HST015", "error")
def idle_weight(cluster: Cluster) -> Iterator[Finding]:
    """
    A weight on a host without an API server.

    Why it hurts: the load balancer forwards to control planes only, so the weight changes nothing.

    Example: `{name: node-1, role: worker, weight: 5}`.

    Use instead: `weight` on control planes, or `loadBalancer.nginx.weight` for all of them.

    Source: design.md, section 1 (roles).
    """
    for host in cluster.hosts:
        if host.weight is not None and host.role != CONTROL_PLANE:
            yield Finding(
                ("hosts", host.index, "weight"),
                said("{host} has no API server: weight {weight} has no effect", host=host.label(), weight=host.weight),
                "remove it, or set it on a control plane",
                on_key=True,
            )


@rule("HST016", "error")
def no_kubelet(cluster: Cluster) -> Iterator[Finding]:
    """
    Kubernetes settings on a dedicated load balancer.

    Why it hurts: no kubelet and no container runtime run there, so a label or a taint that somebody relies on never exists.

    Example: `{name: lb-1, role: load-balancer, labels: {zone: hall-2}}`.

    Use instead: remove the key; or `role: worker`, where the host is to be a node.

    Source: design.md, section 1 (roles).
    """
    for host in cluster.hosts:
        if host.role == LOAD_BALANCER:
            for key in _KUBERNETES_KEYS:
                if key in cluster.lock["hosts"][host.index]:
                    yield Finding(
                        ("hosts", host.index, key),
                        said("{host} runs no kubelet: {key} has no effect", host=host.label(), key=key),
                        "remove it",
                        on_key=True,
                    )
