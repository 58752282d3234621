"""LBR: ports that two programs of one host want."""

from collections.abc import Iterator

from generator.diagnostics import Path
from generator.lint import Finding, rule
from generator.lint.places import several
from generator.model import Calico, Cluster, Flannel, Host
from generator.wording import said

BIND_PORT: Path = ("cluster", "apiServer", "bindPort")
ENDPOINT_PORT: Path = ("controlPlaneEndpoint", "port")
CHECK_PORT: Path = ("loadBalancer", "nginx", "checkPort")
# kubeadm's constants.go and kube-proxy's types.go; every control plane has these.
_COMPONENTS = {
    22: "SSH",
    2379: said("etcd's clients"),
    2380: said("etcd's peers"),
    2381: said("etcd's metrics"),
    10248: said("the kubelet's health"),
    10249: said("kube-proxy's metrics"),
    10250: said("the kubelet"),
    10256: said("kube-proxy's health"),
    10257: "kube-controller-manager",
    10259: "kube-scheduler",
}
_CALICO = {179: said("Calico's BGP"), 5473: "Typha", 9098: said("Typha's health"), 9099: said("Felix's health")}


def _colocated(cluster: Cluster) -> tuple[Host, ...]:
    """Control planes that carry nginx too."""
    return () if cluster.dedicated_load_balancers or cluster.nginx is None else cluster.load_balancers


def _ours(cluster: Cluster) -> dict[Path, int]:
    """Ports of the load balancer, by path; only where nginx is the engine and the port can be one."""
    if cluster.endpoint is None or cluster.nginx is None:
        return {}
    ports = {ENDPOINT_PORT: cluster.endpoint.port, CHECK_PORT: cluster.nginx.check_port}
    return {path: port for path, port in ports.items() if 0 < port < 65536}


@rule("LBR011", "error")
def api_port_taken(cluster: Cluster) -> Iterator[Finding]:
    """
    The load balancer wants the API server's port on the same host.

    Why it hurts: the API server listens on every address of the host, so whoever comes second can't start; kubeadm's preflight says
    "Port 6443 is in use".

    Example: `port: 6443` with the load balancer on the control planes.

    Use instead: another port such as 16443; or dedicated load balancers, which may have 6443.

    Source: kubernetes/kubeadm#2472; kubernetes/community#7524; checklist row 6.
    """
    hosts = _colocated(cluster)
    if hosts and cluster.endpoint is not None and cluster.endpoint.port == cluster.api_port:
        yield Finding(
            ENDPOINT_PORT,
            said("endpoint port {api} is the API server's on {hosts}", api=cluster.api_port, hosts=several(list(hosts))),
            "choose another port such as 16443, or dedicated load balancers",
        )


@rule("LBR012", "error")
def component_port(cluster: Cluster) -> Iterator[Finding]:
    """
    A port that another program of the host has.

    Why it hurts: that program can't start, or ours can't, whichever comes second after a boot.

    Example: `port: 10250` (the kubelet) on control planes; `bindPort: 2379` (etcd); `checkPort: 9099` with Calico (Felix).

    Use instead: a port below 30000 that nothing on the host has, such as 16443 and 16444.

    Source: Kubernetes, ports and protocols; kubeadm, constants.go; Calico, Felix configuration.
    """
    taken = dict(_COMPONENTS)
    if isinstance(cluster.cni, Calico):
        taken |= _CALICO
    elif isinstance(cluster.cni, Flannel):
        taken[8081] = said("flannel's health")
    wanted = {BIND_PORT: (cluster.api_port, taken)} if cluster.control_planes else {}
    # A dedicated load balancer has no component of Kubernetes, but somebody logs in there too.
    beside = taken | {cluster.api_port: "kube-apiserver"} if _colocated(cluster) else {22: taken[22]}
    wanted |= {path: (port, beside) for path, port in _ours(cluster).items()}
    for path, (port, owners) in wanted.items():
        owner = owners.get(port)
        # Rule LBR011 speaks of the endpoint on the API server's port.
        if owner and not (path == ENDPOINT_PORT and port == cluster.api_port):
            yield Finding(path, said("port {port} is that of {owner}", port=port, owner=owner), "choose a free port such as 16443")


@rule("LBR013", "error")
def check_port(cluster: Cluster) -> Iterator[Finding]:
    """
    The health check has the endpoint's port.

    Why it hurts: nginx takes it and tells the two listeners apart by address: whoever connects to the endpoint's port over loopback gets
    the check's answer in place of the API.

    Example: `port: 16444` beside the default `checkPort: 16444`.

    Use instead: two ports, such as 16443 and 16444.

    Source: nginx, ngx_stream_core_module, *listen*; measured with nginx 1.22.1.
    """
    ours = _ours(cluster)
    if ENDPOINT_PORT in ours and ours[ENDPOINT_PORT] == ours.get(CHECK_PORT):
        yield Finding(CHECK_PORT, said("checkPort {port} is the endpoint's port", port=ours[CHECK_PORT]), "choose two ports")


@rule("LBR014", "error")
def node_port(cluster: Cluster) -> Iterator[Finding]:
    """
    A port in the NodePort range.

    Why it hurts: kube-proxy rewrites what goes to such a port on every node before a program sees it, as soon as a service is given that
    port: the API disappears on the day that somebody creates a service.

    Example: `port: 30443` with the load balancer on the control planes.

    Use instead: a port below the range, such as 16443.

    Source: kube-apiserver, --service-node-port-range (30000-32767); kubespray, ha-mode.md.
    """
    first, last = cluster.node_ports
    wanted = {BIND_PORT: cluster.api_port} if cluster.control_planes else {}
    if _colocated(cluster):
        wanted |= _ours(cluster)
    for path, port in wanted.items():
        if first <= port <= last:
            yield Finding(
                path,
                said("port {port} is in the NodePort range {first}-{last}", port=port, first=first, last=last),
                "choose a port below it such as 16443",
            )


@rule("LBR015", "warning")
def ephemeral_port(cluster: Cluster) -> Iterator[Finding]:
    """
    A port in the range of outgoing connections.

    Why it hurts: any program's outgoing connection may have that port at the moment when nginx or the API server starts, which then fails
    with "address already in use"; rarely, and after a boot.

    Example: `port: 44300`.

    Use instead: a port below 32768, such as 16443.

    Source: Linux, ip-sysctl, *ip_local_port_range* (32768 to 60999).
    """
    wanted = {BIND_PORT: cluster.api_port} if cluster.control_planes else {}
    if cluster.load_balancers:
        wanted |= _ours(cluster)
    node_ports = cluster.node_ports
    for path, port in wanted.items():
        if 32768 <= port <= 60999 and not node_ports[0] <= port <= node_ports[1]:
            yield Finding(
                path, said("port {port} is in the range of outgoing connections, 32768-60999", port=port), "choose a port below 30000"
            )
