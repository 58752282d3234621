"""KUB: flags of the API server, the controller manager and the scheduler: whose they are, and what they break."""

import re
from collections.abc import Iterator

from netaddr import IPNetwork

from generator.diagnostics import Fix, Path, Related
from generator.lint import Finding, rule
from generator.lint.places import node_mask
from generator.model import Cluster
from generator.model.settings import Pairs
from generator.wording import said

_MANAGER: Path = ("cluster", "controllerManager", "extraArgs")
# Flags that the inventory, and through it several files at once, says by other keys.
_OWNED: dict[str, dict[str, str]] = {
    "apiServer": {
        "advertise-address": "hosts[].address",
        "secure-port": "cluster.apiServer.bindPort",
        "etcd-servers": said("nothing: etcd is stacked"),
        "service-cluster-ip-range": "cluster.serviceSubnet",
    },
    "controllerManager": {
        "cluster-cidr": "cluster.podSubnet",
        "cluster-name": "cluster.name",
        "kubeconfig": said("nothing: kubeadm makes the file"),
        "service-cluster-ip-range": "cluster.serviceSubnet",
    },
    "scheduler": {"kubeconfig": said("nothing: kubeadm makes the file")},
}
_NOTHING = said("nothing")
# What every component of 1.28 and newer refuses: klog's flags went in 1.26 (KEP-2845), those for the insecure port in 1.24
# (kubernetes/kubernetes#95856, kubernetes/kubeadm#2207); with what stands in their place.
_LOGGING = dict.fromkeys(
    (
        "add-dir-header",
        "alsologtostderr",
        "log-backtrace-at",
        "log-dir",
        "log-file",
        "log-file-max-size",
        "logtostderr",
        "one-output",
        "skip-headers",
        "skip-log-headers",
        "stderrthreshold",
    ),
    said("nothing: components log to standard error"),
)
_GONE: dict[str, dict[str, str]] = {
    "apiServer": _LOGGING
    | {
        "address": _NOTHING,
        "basic-auth-file": _NOTHING,
        "insecure-bind-address": _NOTHING,
        "insecure-port": _NOTHING,
        "port": "cluster.apiServer.bindPort",
    },
    "controllerManager": _LOGGING
    | {
        "address": "bind-address",
        "enable-taint-manager": _NOTHING,
        "experimental-cluster-signing-duration": "cluster-signing-duration",
        "pod-eviction-timeout": said("the API server's default-not-ready-toleration-seconds and default-unreachable-toleration-seconds"),
        "port": "secure-port",
    },
    "scheduler": _LOGGING
    | {"address": "bind-address", "algorithm-provider": "config", "policy-config-file": "config", "port": "secure-port"},
}
# kubeadm, phases/controlplane/volumes.go: what it mounts into the static pods beside the scheduler's and the manager's own kubeconfig.
_CERTIFICATES = (
    "/etc/kubernetes/pki/",
    "/etc/ssl/certs/",
    "/etc/pki/",
    "/etc/ca-certificates/",
    "/usr/share/ca-certificates/",
    "/usr/local/share/ca-certificates/",
)
_MOUNTED: dict[str, tuple[str, ...]] = {
    "apiServer": _CERTIFICATES,
    "controllerManager": (*_CERTIFICATES, "/etc/kubernetes/controller-manager.conf"),
    "scheduler": ("/etc/kubernetes/scheduler.conf",),
}


def _given(cluster: Cluster) -> dict[str, Pairs]:
    """The flags of each component, by its key in the inventory."""
    return {
        "apiServer": cluster.api_server_args,
        "controllerManager": cluster.controller_manager_args,
        "scheduler": cluster.scheduler_args,
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
            yield Finding(
                ("cluster", "podSubnet"),
                said("podSubnet {network} has fewer than 14 addresses", network=network),
                "write 10.244.0.0/16 or the like",
            )
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
        yield Finding(path, said("{flag} {text} is no prefix length", flag=flag, text=text), said("write a number up to {bits}", bits=bits))
    elif not 0 <= int(text) - network.prefixlen <= 16:
        yield Finding(
            path,
            said("podSubnet {network} can't be cut into /{text} networks, one a node", network=network, text=text),
            said(
                "make {flag} {shortest} to {longest}, or change podSubnet",
                flag=flag,
                shortest=network.prefixlen,
                longest=min(bits, network.prefixlen + 16),
            ),
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
    for component, args in _given(cluster).items():
        for name, _ in args:
            key = _OWNED[component].get(name)
            if key:
                yield Finding(
                    ("cluster", component, "extraArgs", name),
                    said("{component}'s flag {name} is the inventory's to set", component=component, name=name),
                    said("remove it; use {key}", key=key),
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
        use = said("write {plain}-ipv4 and {plain}-ipv6", plain=plain)
        yield Finding(
            (*_MANAGER, plain), said("kube-controller-manager refuses {plain} in a dual-stack cluster", plain=plain), use, on_key=True
        )
    elif len(cluster.pod_subnets) == 1:
        for version in (4, 6):
            flag = f"{plain}-ipv{version}"
            why = (
                said("in a cluster without IPv{version}", version=version)
                if version not in cluster.ip_versions
                else said("beside {plain}", plain=plain)
                if plain in args
                else ""
            )
            if flag in args and why:
                yield Finding(
                    (*_MANAGER, flag), said("kube-controller-manager refuses {flag} {why}", flag=flag, why=why), "remove it", on_key=True
                )


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
                said("leader-elect false with {count} control planes: all of them act at once", count=len(cluster.control_planes)),
                "remove it",
                on_key=True,
                fix=Fix("remove"),
                related=(Related(("hosts", cluster.control_planes[1].index, "role"), "the second of them"),),
            )


@rule("KUB029", "error")
def removed_flags(cluster: Cluster) -> Iterator[Finding]:
    """
    A flag of a control-plane component that is gone.

    Why it hurts: the component ends with "unknown flag", its static pod crashes in a loop and `kubeadm init` times out.

    Example: `controllerManager: {extraArgs: {pod-eviction-timeout: 1m}}`, gone in 1.27; `logtostderr`, gone in 1.26; `insecure-port`, gone
    in 1.24.

    Use instead: what the finding names.

    Source: kubernetes/kubernetes#95856, #108476, #115840; KEP-2845 (klog's flags); kubernetes/kops#15909.
    """
    for component, args in _given(cluster).items():
        for name, _ in args:
            use = _GONE[component].get(name)
            if use:
                yield Finding(
                    ("cluster", component, "extraArgs", name),
                    said("{component} of Kubernetes 1.{minor} has no flag {name}", component=component, minor=cluster.minor, name=name),
                    said("remove it; use {key}", key=use),
                    on_key=True,
                )


@rule("KUB030", "error")
def unmounted_files(cluster: Cluster) -> Iterator[Finding]:
    """
    A file that the component's container doesn't have.

    Why it hurts: the component is a static pod and sees of the host what kubeadm mounts: certificates and its own kubeconfig. It ends with
    "no such file or directory" although the file is there, and `kubeadm init` times out.

    Example: `apiServer: {extraArgs: {audit-policy-file: /etc/kubernetes/audit-policy.yaml}}`.

    Use instead: a file below /etc/kubernetes/pki on every control plane, which the API server and the controller manager have; the
    scheduler has /etc/kubernetes/scheduler.conf alone.

    Source: kubeadm, phases/controlplane/volumes.go; kubernetes/kubernetes#101521 ("you must mount the file").
    """
    for component, args in _given(cluster).items():
        for name, value in args:
            # Flags of files end so; others with a slash, such as etcd-prefix, name no file.
            if name.endswith(("config", "file")) and value.startswith("/") and not value.startswith(_MOUNTED[component]):
                yield Finding(
                    ("cluster", component, "extraArgs", name),
                    said("{component} has no {file} in its container ({name})", component=component, file=value, name=name),
                    "remove it" if component == "scheduler" else "put the file below /etc/kubernetes/pki",
                )
