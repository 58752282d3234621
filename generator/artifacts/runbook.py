"""``README.md`` of a bundle: what to carry where, what to run in which order, the step x host table, the topology drawn."""

from __future__ import annotations

from collections.abc import Iterator

from generator import versions
from generator.artifacts import File
from generator.model import CONTROL_PLANE, Cluster, Host
from generator.model.settings import Calico, Flannel
from generator.render import render
from generator.steps import STEPS, Step

# More workers than this are drawn as one box.
_DRAWN = 8


def for_cluster(cluster: Cluster) -> Iterator[File]:
    """The runbook."""
    yield File("README.md", runbook(cluster), ("cluster", "controlPlaneEndpoint", "loadBalancer", "hosts[]"))


def runbook(cluster: Cluster) -> str:
    """Its text."""
    others = ", ".join(h.name for h in cluster.control_planes[1:])
    balancer = cluster.load_balancer
    return render(
        "templates/runbook/README.md.j2",
        {
            "cluster": cluster.name,
            "version": cluster.kubernetes_version,
            "host_count": len(cluster.hosts),
            "facts": _facts(cluster),
            "topology": list(_topology(cluster)),
            "manifests": _manifests(cluster),
            "registry": cluster.cni.registry if isinstance(cluster.cni, Calico) else "",
            "secret": balancer.keepalived.auth_secret if balancer else "",
            "table": list(_table(cluster)),
            "steps": [{"number": f"{s.number:02}", "title": s.title} for s in STEPS],
            "first": cluster.control_planes[0].name,
            "token_ttl": cluster.token_ttl,
            "trip": cluster.trip,
            "joins": len(cluster.kubernetes_hosts) > 1,
            "other_control_planes": others,
            "has_workers": bool(cluster.workers),
            "load_balancers": bool(cluster.nginx),
        },
    )


def _facts(cluster: Cluster) -> list[tuple[str, str]]:
    facts = [("API for clients", f"https://{cluster.server}")]
    if cluster.endpoint is not None and cluster.load_balancers:
        engine = "nginx and keepalived" if cluster.nginx else "keepalived with IPVS"
        vips = ", ".join(str(vip) for vip in cluster.endpoint.vips)
        facts += [
            ("virtual IP", vips),
            ("load balancer", f"{engine} on {', '.join(h.name for h in cluster.load_balancers)} (highest priority first)"),
        ]
    cni = cluster.cni
    release = f"{cni.name} {cni.version}" if isinstance(cni, Flannel | Calico) else "none: install one after step 65"
    return [
        *facts,
        ("control planes", ", ".join(h.name for h in cluster.control_planes)),
        ("etcd", f"{len(cluster.control_planes)} stacked members, {(len(cluster.control_planes) - 1) // 2} may fail"),
        ("pods, services", ", ".join(str(n) for n in (*cluster.pod_subnets, *cluster.service_subnets))),
        ("container runtime", cluster.runtime),
        ("pod network", release),
    ]


def _manifests(cluster: Cluster) -> list[tuple[str, str]]:
    if not isinstance(cluster.cni, Calico):
        return []
    minor, _ = versions.split_patch(cluster.cni.version)
    row = versions.CALICO.get(minor)
    digests = dict(cluster.cni.manifests)
    return [(name, digests.get(name, "")) for name in (row.manifests if row else ())]


def _topology(cluster: Cluster) -> Iterator[str]:
    """Mermaid lines: clients, the VIP, load balancers, API servers with their etcd members, workers."""
    yield 'clients(["clients, kubelets"])'
    source = "clients"
    if cluster.endpoint is not None and cluster.load_balancers:
        vips = "<br/>".join(str(vip) for vip in cluster.endpoint.vips)
        yield f'vip{{{{"{cluster.endpoint.name}:{cluster.endpoint.port}<br/>VIP {vips}"}}}}'
        yield "clients --> vip"
        source = "vip"
    if cluster.dedicated_load_balancers:
        for host in cluster.load_balancers:
            yield f'{_id(host)}["{host.name}<br/>{host.address}<br/>priority {cluster.priorities[host.name]}"]'
            yield f"{source} -. one holds it .-> {_id(host)}"
    for host in cluster.control_planes:
        carries = host.name in cluster.load_balancer_names
        role = "nginx, API, etcd" if carries else "API, etcd"
        priority = f"<br/>priority {cluster.priorities[host.name]}" if carries else ""
        yield f'{_id(host)}["{host.name}<br/>{host.address}<br/>{role}{priority}"]'
        for before in cluster.load_balancers if cluster.dedicated_load_balancers else ():
            yield f"{_id(before)} --> {_id(host)}"
        if not cluster.dedicated_load_balancers:
            yield f"{source} -. one holds it .-> {_id(host)}" if carries else f"{source} --> {_id(host)}"
            if carries and len(cluster.control_planes) > 1:
                yield f"{_id(host)} --> api"
    if cluster.nginx and not cluster.dedicated_load_balancers and len(cluster.control_planes) > 1:
        yield f'api["every API server that answers, port {cluster.api_port}"]'
    yield from _drawn_workers(cluster)


def _drawn_workers(cluster: Cluster) -> Iterator[str]:
    if len(cluster.workers) > _DRAWN:
        first, last = cluster.workers[0], cluster.workers[-1]
        yield f'workers["{first.name} to {last.name}<br/>{len(cluster.workers)} workers"]'
        yield "workers --> clients"
    else:
        for host in cluster.workers:
            yield f'{_id(host)}["{host.name}<br/>{host.address}"]'
            yield f"{_id(host)} --> clients"


def _id(host: Host) -> str:
    return f"h{host.index}"


def _table(cluster: Cluster) -> Iterator[str]:
    """The step x host table in Markdown: a row a host, a column a step."""
    yield f"| host | {' | '.join(f'{s.number:02}' for s in STEPS)} |"
    yield f"| --- |{' --- |' * len(STEPS)}"
    for host in cluster.hosts:
        yield f"| {host.name} | {' | '.join(('s' if s.serial else '1') if takes_part(cluster, host, s) else ' ' for s in STEPS)} |"


def takes_part(cluster: Cluster, host: Host, step: Step) -> bool:
    """Whether *host* runs *step*."""
    first = host is cluster.control_planes[0]
    return {
        "all": True,
        "kubernetes": host.runs_kubernetes,
        "load-balancers": host.name in cluster.load_balancer_names,
        "first": first,
        "other": host.role == CONTROL_PLANE and not first,
        "control-planes": host.role == CONTROL_PLANE,
        "workers": host.role == "worker",
    }[step.hosts]
