"""RUN: the container runtime and the kernel below it."""

from collections.abc import Iterator

from netaddr import IPNetwork

from generator import versions
from generator.diagnostics import Path, Related
from generator.lint import Finding, rule
from generator.lint.places import grouped, host_networks, overlap, several
from generator.model import Cluster

_DOCKER = IPNetwork("172.17.0.0/16")
_FORWARDING = {
    "net.bridge.bridge-nf-call-ip6tables",
    "net.bridge.bridge-nf-call-iptables",
    "net.ipv4.conf.all.forwarding",
    "net.ipv4.ip_forward",
}


@rule("RUN001", "warning")
def old_containerd(cluster: Cluster) -> Iterator[Finding]:
    """
    An older containerd than this Kubernetes wants.

    Why it hurts: its project tests each Kubernetes minor with certain releases; older ones lack fixes that it needs.

    Example: `containerRuntimeVersion: "1.7"` with Kubernetes 1.36.0.

    Use instead: the minor that the finding names, or none: then one that fits.

    Source: containerd, RELEASES.md (Kubernetes support).
    """
    for path, hosts in grouped(cluster, cluster.kubernetes_hosts, "containerRuntimeVersion").items():
        floor = versions.CONTAINERD_FLOOR.get(cluster.minor, (1, 6))
        if cluster.runtime == "containerd" and (1, 6) <= cluster.containerd_version(hosts[0]) < floor:
            text = hosts[0].settings.container_runtime_version
            message = f"containerd {text} of {several(hosts)} is older than Kubernetes 1.{cluster.minor} wants"
            yield Finding(path, message, f'write "{floor[0]}.{floor[1]}" or newer')


@rule("RUN002", "error")
def no_cri_v1(cluster: Cluster) -> Iterator[Finding]:
    """
    A containerd that doesn't speak the kubelet's CRI.

    Why it hurts: the kubelet needs CRI v1 from 1.26 on, containerd has it from 1.6 on; with an older one no pod starts.

    Example: `containerRuntimeVersion: "1.5"`.

    Use instead: "1.7" or "2.2".

    Source: Kubernetes 1.26 release notes (CRI v1alpha2 removed); containerd, RELEASES.md.
    """
    for path, hosts in grouped(cluster, cluster.kubernetes_hosts, "containerRuntimeVersion").items():
        if cluster.runtime == "containerd" and cluster.containerd_version(hosts[0]) < (1, 6):
            text = hosts[0].settings.container_runtime_version
            yield Finding(path, f"containerd {text} of {several(hosts)} has no CRI v1", 'write "1.7" or newer')


@rule("RUN003", "warning")
def docker_bridge(cluster: Cluster) -> Iterator[Finding]:
    """
    A network that docker takes for its bridge.

    Why it hurts: docker gives its bridge docker0 172.17.0.0/16 on every host when it starts; what has an address there becomes unreachable
    from the host.

    Example: `containerRuntime: cri-dockerd` with hosts in 172.17.3.0/24.

    Use instead: another network; or `containerd`, which makes no bridge.

    Source: docker, daemon.json (*bip*, *default-address-pools*); checklist row 4.
    """
    if cluster.runtime != "cri-dockerd":
        return
    taken: list[tuple[Path, str, IPNetwork]] = [(("cluster", "podSubnet"), "podSubnet", n) for n in cluster.pod_subnets]
    taken += [(("cluster", "serviceSubnet"), "serviceSubnet", n) for n in cluster.service_subnets]
    taken += [(p.path, f"network of {p.label}", p.network) for p in host_networks(cluster)]
    for path, what, network in taken:
        if overlap(network, _DOCKER):
            yield Finding(
                path,
                f"{what} {network.cidr} overlaps docker's bridge {_DOCKER}",
                "choose another network, or containerd",
                related=(Related(("cluster", "containerRuntime"), "the runtime"),),
            )


@rule("RUN004", "error")
def no_forwarding(cluster: Cluster) -> Iterator[Finding]:
    """
    A kernel setting that cuts pods off.

    Why it hurts: kubeadm's preflight refuses a host that doesn't forward; without bridge-nf-call, kube-proxy's rules don't see what goes
    from pod to pod, and services fail for pods of one node.

    Example: `sysctl: {net.ipv4.ip_forward: 0}`.

    Use instead: remove it: step 20 sets it to 1.

    Source: Kubernetes, container runtimes (*Install and configure prerequisites*); kubeadm, preflight/checks.go.
    """
    wanted = _FORWARDING | ({"net.ipv6.conf.all.forwarding"} if 6 in cluster.ip_versions else set())
    for path, hosts in grouped(cluster, cluster.kubernetes_hosts, "sysctl").items():
        for name, value in hosts[0].settings.sysctl:
            if name.replace("/", ".") in wanted and value == "0":
                yield Finding((*path, name), f"sysctl {name} = 0 cuts pods of {several(hosts)} off", "remove it: step 20 sets it to 1")
