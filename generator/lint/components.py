"""KUB: flags of the API server, the controller manager and the scheduler: whose they are, and what they break."""

import re
from collections.abc import Iterator

from netaddr import IPNetwork

from generator.diagnostics import Path, Related
from generator.lint import Finding, rule
from generator.lint.places import node_mask
from generator.model import Cluster

_MANAGER: Path = ("cluster", "controllerManager", "extraArgs")
# Flags that the inventory, and through it several files at once, says by other keys.
_OWNED: dict[str, dict[str, str]] = {
    "apiServer": {
        "advertise-address": "hosts[].address",
        "secure-port": "cluster.apiServer.bindPort",
        "etcd-servers": "nothing: etcd is stacked",
        "service-cluster-ip-range": "cluster.serviceSubnet",
    },
    "controllerManager": {
        "cluster-cidr": "cluster.podSubnet",
        "cluster-name": "cluster.name",
        "kubeconfig": "nothing: kubeadm makes the file",
        "service-cluster-ip-range": "cluster.serviceSubnet",
    },
    "scheduler": {"kubeconfig": "nothing: kubeadm makes the file"},
}


@rule("KUB006", "error")
def node_networks(cluster: Cluster) -> Iterator[Finding]:
    """
    The pod network can't be cut into node networks.

    Why it hurts: each node gets a part of the pod network, a /24 (IPv6: a /64) unless told otherwise; kubeadm refuses a pod network that
    is smaller than one part, or more than 16 bits larger.

    Example: `podSubnet: 10.244.0.0/25`; `podSubnet: fd00:10:244::/40`, 24 bits more than a /64.

    Use instead: `podSubnet: 10.244.0.0/16`, `fd00:10:244::/56`; or node-cidr-mask-size-ipv4 and -ipv6 in controllerManager.extraArgs.

    Source: kubeadm's ValidatePodSubnetNodeMask, PodSubnetNodeMaskMaxDiff.
    """
    args = dict(cluster.controller_manager_args)
    for network in cluster.pod_subnets:
        if 1 << ((32 if network.version == 4 else 128) - network.prefixlen) < 14:
            yield Finding(("cluster", "podSubnet"), f"podSubnet {network} has fewer than 14 addresses", "write 10.244.0.0/16 or the like")
        elif args.get("allocate-node-cidrs") != "false":
            # kubeadm looks at the family's flag alone, kube-controller-manager takes the plain one: both must fit.
            flag = f"node-cidr-mask-size-ipv{network.version}"
            other, text = node_mask(cluster, network)
            for size, name in {args.get(flag, "24" if network.version == 4 else "64"): flag, text: other}.items():
                yield from _mask(network, name, size, given=name in args)


def _mask(network: IPNetwork, flag: str, text: str, *, given: bool) -> Iterator[Finding]:
    """Whether *network* can be cut into networks of prefix *text*, the value of *flag* where it is *given*."""
    bits = 32 if network.version == 4 else 128
    path: Path = (*_MANAGER, flag) if given else ("cluster", "podSubnet")
    if not re.fullmatch(r"[0-9]{1,3}", text) or int(text) > bits:
        yield Finding(path, f"{flag} {text} is no prefix length", f"write a number up to {bits}")
    elif not 0 <= int(text) - network.prefixlen <= 16:
        yield Finding(
            path,
            f"podSubnet {network} can't be cut into /{text} networks, one a node",
            f"make {flag} {network.prefixlen} to {min(bits, network.prefixlen + 16)}, or change podSubnet",
        )


@rule("KUB011", "error")
def owned_flags(cluster: Cluster) -> Iterator[Finding]:
    """
    A flag that another key of the inventory sets.

    Why it hurts: the flag wins in one manifest, while kubeadm's ConfigMap, kube-proxy, the CNI and the load balancer keep the key's value;
    `advertise-address` is even the same on every control plane then.

    Example: `apiServer: {extraArgs: {service-cluster-ip-range: 10.97.0.0/16}}`.

    Use instead: the key that the finding names.

    Source: kubeadm, manifests.go (extraArgs replace what kubeadm has worked out); kubernetes/website#43862.
    """
    given = {
        "apiServer": cluster.api_server_args,
        "controllerManager": cluster.controller_manager_args,
        "scheduler": cluster.scheduler_args,
    }
    for component, args in given.items():
        for name, _ in args:
            key = _OWNED[component].get(name)
            if key:
                yield Finding(
                    ("cluster", component, "extraArgs", name),
                    f"{component}'s flag {name} is the inventory's to set",
                    f"remove it; use {key}",
                    on_key=True,
                )


@rule("KUB024", "error")
def refused_masks(cluster: Cluster) -> Iterator[Finding]:
    """
    A node-cidr-mask-size flag that kube-controller-manager refuses.

    Why it hurts: kubeadm doesn't look at these flags together; kube-controller-manager ends with "usage of --node-cidr-mask-size is not
    allowed", no node gets a pod network, and no controller runs at all.

    Example: `node-cidr-mask-size: "25"` in a dual-stack cluster; `node-cidr-mask-size-ipv6` in one with IPv4 alone; both at once.

    Use instead: `node-cidr-mask-size-ipv4` and `-ipv6`, each where podSubnet has a network of that family.

    Source: kube-controller-manager, app/core.go (setNodeCIDRMaskSizes).
    """
    args = dict(cluster.controller_manager_args)
    plain = "node-cidr-mask-size"
    if args.get("allocate-node-cidrs") == "false":
        return
    if plain in args and len(cluster.pod_subnets) > 1:
        use = f"write {plain}-ipv4 and {plain}-ipv6"
        yield Finding((*_MANAGER, plain), f"kube-controller-manager refuses {plain} in a dual-stack cluster", use, on_key=True)
    elif len(cluster.pod_subnets) == 1:
        for version in (4, 6):
            flag = f"{plain}-ipv{version}"
            why = f"in a cluster without IPv{version}" if version not in cluster.ip_versions else f"beside {plain}" if plain in args else ""
            if flag in args and why:
                yield Finding((*_MANAGER, flag), f"kube-controller-manager refuses {flag} {why}", "remove it", on_key=True)


def _off(text: str | None) -> bool:
    """Whether the value of a flag is Go's false (strconv.ParseBool)."""
    return text is not None and text.lower() in ("false", "f", "0")


@rule("KUB025", "error")
def anonymous_probes(cluster: Cluster) -> Iterator[Finding]:
    """
    Anonymous requests are turned off altogether.

    Why it hurts: the kubelet probes the API server without credentials, gets 401 and restarts it for ever; `kubeadm join` reads the
    cluster-info ConfigMap the same way, and so do health checks of load balancers.

    Example: `apiServer: {extraArgs: {anonymous-auth: "false"}}`, as security scanners advise.

    Use instead: remove it: RBAC gives anonymous users health, version and cluster-info alone. From 1.32 on `authentication-config` can
    name a file below /etc/kubernetes/pki whose `anonymous.conditions` list these paths (beta; stable from 1.34 on).

    Source: kubernetes/kubeadm#798 (probes), #1105 (join); kubernetes-sigs/kubespray#6242; KEP-4633.
    """
    if _off(dict(cluster.api_server_args).get("anonymous-auth")):
        yield Finding(
            ("cluster", "apiServer", "extraArgs", "anonymous-auth"),
            "anonymous-auth false: the kubelet's probes of the API server get 401 and restart it",
            "remove it" if cluster.minor < 32 else "remove it, or name the paths in a file for authentication-config",
            on_key=True,
        )


@rule("KUB026", "error")
def no_election(cluster: Cluster) -> Iterator[Finding]:
    """
    Several control planes without leader election.

    Why it hurts: every control plane runs a scheduler and a controller manager; without election all of them act at once, bind one pod
    twice, give two nodes one pod network and create or delete more than was asked for.

    Example: `controllerManager: {extraArgs: {leader-elect: "false"}}` with three control planes.

    Use instead: remove it: true is what kubeadm sets.

    Source: kube-controller-manager and kube-scheduler, --leader-elect ("when running replicated components"); kubeadm, manifests.go.
    """
    given = {"controllerManager": cluster.controller_manager_args, "scheduler": cluster.scheduler_args}
    for component, args in given.items():
        if len(cluster.control_planes) > 1 and _off(dict(args).get("leader-elect")):
            yield Finding(
                ("cluster", component, "extraArgs", "leader-elect"),
                f"leader-elect false with {len(cluster.control_planes)} control planes: all of them act at once",
                "remove it",
                on_key=True,
                related=(Related(("hosts", cluster.control_planes[1].index, "role"), "the second of them"),),
            )
