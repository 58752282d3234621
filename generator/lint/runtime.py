"""RUN: the container runtime and the kernel below it."""

import re
from collections.abc import Iterator

from netaddr import IPNetwork

from generator import versions
from generator.diagnostics import Fix, Path, Related
from generator.lint import Finding, rule
from generator.lint.places import grouped, host_networks, overlap, several, stated_at
from generator.model import CONTROL_PLANE, Cluster, Host
from generator.wording import said

_DOCKER = IPNetwork("172.17.0.0/16")
_FORWARDING = {
    "net.bridge.bridge-nf-call-ip6tables",
    "net.bridge.bridge-nf-call-iptables",
    "net.ipv4.conf.all.forwarding",
    "net.ipv4.ip_forward",
}

# Gone in 4.9 (kernel commit adf0516845bc) and 4.12 (4396e46187ca); every system that the inventory can name has 5.14 and newer.
_NO_SETTING = re.compile(r"net\.ipv4\.(tcp_tw_recycle|ip_conntrack_max|netfilter\..*)")


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
            message = said(
                "containerd {text} of {hosts} is older than Kubernetes 1.{minor} wants",
                text=text,
                hosts=several(hosts),
                minor=cluster.minor,
            )
            yield Finding(path, message, said('write "{major}.{minor}" or newer', major=floor[0], minor=floor[1]))


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
            yield Finding(path, said("containerd {text} of {hosts} has no CRI v1", text=text, hosts=several(hosts)), 'write "1.7" or newer')


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
    taken += [(p.path, said("network of {place}", place=p.label), p.network) for p in host_networks(cluster)]
    for path, what, network in taken:
        if overlap(network, _DOCKER):
            yield Finding(
                path,
                said("{what} {network} overlaps docker's bridge {bridge}", what=what, network=network.cidr, bridge=_DOCKER),
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
                yield Finding(
                    (*path, name),
                    said("sysctl {name} = 0 cuts pods of {hosts} off", name=name, hosts=several(hosts)),
                    "remove it: step 20 sets it to 1",
                    fix=Fix("remove"),
                )


@rule("RUN005", "error")
def refused_kernel_setting(cluster: Cluster) -> Iterator[Finding]:
    """
    A kernel setting that the kubelet refuses.

    Why it hurts: with `protectKernelDefaults` the kubelet ends with "invalid kernel flag" when a setting isn't its own; step 20 lays yours
    in place of the one that it wants.

    Example: `kubelet: {protectKernelDefaults: true}` with `sysctl: {vm.overcommit_memory: 0}`.

    Use instead: remove the setting, or `protectKernelDefaults`: the kubelet then sets it by itself when it starts.

    Source: kubelet, pkg/kubelet/cm/container_manager_linux.go (setupKernelTunables).
    """
    for path, hosts in grouped(cluster, cluster.kubernetes_hosts, "sysctl").items():
        strict = [host for host in hosts if dict(host.settings.kubelet).get("protectKernelDefaults")]
        for name, value in hosts[0].settings.sysctl if strict else ():
            wanted = versions.KERNEL_DEFAULTS.get(name.replace("/", "."), value)
            if value != wanted:
                yield Finding(
                    (*path, name),
                    said("the kubelet of {hosts} refuses sysctl {name} = {value}", hosts=several(strict), name=name, value=value),
                    said("remove it: the kubelet wants {wanted}", wanted=wanted),
                    related=(Related(stated_at(cluster, strict[0], "kubelet", "protectKernelDefaults"), "by this"),),
                )


def _ports(cluster: Cluster, host: Host) -> set[int]:
    """The ports below the range of outgoing connections that programs of the cluster listen on here."""
    ports = {10250, 10256} if host.runs_kubernetes else set()
    if host.role == CONTROL_PLANE:
        ports |= {2379, 2380, 10257, 10259, cluster.api_port}
    if host.name in cluster.load_balancer_names and cluster.endpoint is not None and cluster.nginx is not None:
        ports |= {cluster.endpoint.port, cluster.nginx.check_port}
    return {port for port in ports if port < 32768}


def _reserved(text: str) -> tuple[int, int]:
    """First and last port of ``ip_local_reserved_ports``; the schema lets one range through."""
    found = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", text)
    return (int(found[1]), int(found[2] or found[1])) if found else (0, 0)


@rule("RUN006", "warning")
def outgoing_ports(cluster: Cluster) -> Iterator[Finding]:
    """
    Outgoing connections may take the cluster's ports.

    Why it hurts: a connection that any program opens may have the port of the kubelet, the API server or nginx just when that one starts,
    which then fails with "address already in use"; rarely, and after a boot.

    Example: `sysctl: {net.ipv4.ip_local_port_range: 1024 65535}`, a tuning guide's.

    Use instead: `32768 60999`, the kernel's own; or a first port above all of these, such as `20000 60999`.

    Source: Linux, ip-sysctl, *ip_local_port_range*, *ip_local_reserved_ports*.
    """
    for path, hosts in grouped(cluster, cluster.hosts, "sysctl").items():
        settings = {name.replace("/", "."): (name, value) for name, value in hosts[0].settings.sysctl}
        key, value = settings.get("net.ipv4.ip_local_port_range", ("", ""))
        found = re.fullmatch(r"([0-9]{1,5}) +([0-9]{1,5})", value.strip())
        first, last = _reserved(settings.get("net.ipv4.ip_local_reserved_ports", ("", ""))[1])
        taken = {port for host in hosts for port in _ports(cluster, host)} if found else set()
        ports = sorted(port for port in taken if found and int(found[1]) <= port <= int(found[2]) and not first <= port <= last)
        if ports:
            shown = ", ".join(map(str, ports))
            yield Finding(
                (*path, key),
                said("outgoing connections of {hosts} may take port {ports}", hosts=several(hosts), ports=shown),
                said("write a first port above {port}, such as 32768", port=ports[-1]),
            )


@rule("RUN007", "error")
def no_ipv6(cluster: Cluster) -> Iterator[Finding]:
    """
    IPv6 is turned off where the cluster needs it.

    Why it hurts: the host loses its IPv6 address, or the interfaces of the pod network get none; the kubelet refuses a node address that
    no interface has, and pods of the second family are cut off.

    Example: `sysctl: {net.ipv6.conf.all.disable_ipv6: 1}`, a hardening guide's, with `podSubnet: 10.244.0.0/16,fd00:10:244::/56`.

    Use instead: remove it; or an IPv4 podSubnet alone.

    Source: Linux, ip-sysctl, *disable_ipv6*; kubelet, validateNodeIP.
    """
    for path, hosts in grouped(cluster, cluster.hosts if 6 in cluster.ip_versions else (), "sysctl").items():
        interfaces = {"all", "default", *(host.settings.interface for host in hosts)}
        for name, value in hosts[0].settings.sysctl:
            found = re.fullmatch(r"net[./]ipv6[./]conf[./](.+)[./]disable_ipv6", name)
            if found and found[1] in interfaces and value == "1":
                yield Finding(
                    (*path, name),
                    said("sysctl {name} = 1 turns IPv6 of {hosts} off", name=name, hosts=several(hosts)),
                    "remove it",
                    related=(Related(("cluster", "podSubnet"), "the cluster's families"),),
                )


@rule("RUN008", "error")
def removed_kernel_setting(cluster: Cluster) -> Iterator[Finding]:
    """
    A kernel setting that no kernel here has.

    Why it hurts: step 20 ends at it on every host ("the kernel has no sysctl").

    Example: `sysctl: {net.ipv4.tcp_tw_recycle: 0}`, which many guides still have; it went with Linux 4.12.

    Use instead: remove it; `net.netfilter.nf_conntrack_max` for ip_conntrack_max.

    Source: Linux, commits 4396e46187ca (4.12) and adf0516845bc (4.9).
    """
    for path, hosts in grouped(cluster, cluster.hosts, "sysctl").items():
        for name, _ in hosts[0].settings.sysctl:
            if _NO_SETTING.fullmatch(name.replace("/", ".")):
                yield Finding(
                    (*path, name),
                    said("the kernel of {hosts} has no sysctl {name}", hosts=several(hosts), name=name),
                    "remove it",
                    on_key=True,
                )
