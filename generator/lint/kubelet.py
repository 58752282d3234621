"""KUB: what the kubelet refuses: flags, labels, taints, fields of KubeletConfiguration."""

from collections.abc import Iterator
from typing import Any

from generator.lint import Finding, rule
from generator.lint.places import grouped, node_mask, per_kubelet, seconds, several
from generator.model import Cluster, Flannel
from generator.wording import said

_OWNED = {
    "bootstrap-kubeconfig": said("nothing: kubeadm makes the file"),
    "cgroup-driver": said("nothing: it is systemd, as in the container runtime"),
    "cluster-dns": "cluster.serviceSubnet",
    "cluster-domain": "cluster.dnsDomain",
    "config": "kubelet",
    "container-runtime-endpoint": "cluster.containerRuntime",
    "hostname-override": "hosts[].name",
    "kubeconfig": said("nothing: kubeadm makes the file"),
    "node-ip": "hosts[].address",
    "node-labels": "labels",
    "register-with-taints": "taints",
}
_CNI = said("nothing: the container runtime calls the plugins")
_STDERR = said("nothing: the journal has what the kubelet logs")
# Flag: first minor without it, and what stands in its place (kubernetes/kubernetes#106907, #107096, #114017, #122082, #122363, #133779;
# klog's flags: KEP-2845).
_REMOVED: dict[str, tuple[int, str]] = {
    "alsologtostderr": (26, _STDERR),
    "cni-bin-dir": (24, _CNI),
    "cni-cache-dir": (24, _CNI),
    "cni-conf-dir": (24, _CNI),
    "container-runtime": (27, "cluster.containerRuntime"),
    "docker-endpoint": (24, "cluster.containerRuntime"),
    "image-pull-progress-deadline": (24, said("nothing")),
    "iptables-drop-bit": (31, said("nothing")),
    "iptables-masquerade-bit": (31, said("nothing")),
    "keep-terminated-pod-volumes": (30, said("nothing")),
    "log-dir": (26, _STDERR),
    "log-file": (26, _STDERR),
    "logtostderr": (26, _STDERR),
    "network-plugin": (24, _CNI),
    "network-plugin-mtu": (24, "cluster.cni.mtu"),
    "non-masquerade-cidr": (24, said("nothing")),
    "pod-infra-container-image": (35, "cluster.images.pause"),
    "stderrthreshold": (26, _STDERR),
}
# pkg/kubelet/eviction/api: signal and the first minor that knows it.
_SIGNALS = {
    "containerfs.available": 29,
    "containerfs.inodesFree": 29,
    "imagefs.available": 0,
    "imagefs.inodesFree": 0,
    "memory.available": 0,
    "nodefs.available": 0,
    "nodefs.inodesFree": 0,
    "pid.available": 0,
}
_KUBELET_LABELS = frozenset(
    (
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/instance-type",
        "beta.kubernetes.io/os",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "kubernetes.io/arch",
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "node.kubernetes.io/instance-type",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
    )
)


@rule("KUB016", "error")
def owned_kubelet_flags(cluster: Cluster) -> Iterator[Finding]:
    """
    A kubelet flag that another key of the inventory sets.

    Why it hurts: the value is worked out for each host by itself; written by hand it is one for all, or differs from what kubeadm and the
    certificates have. `node-ip` is always set, or the kubelet may take the VIP for its own address.

    Example: `kubeletExtraArgs: {node-ip: 192.168.1.25}` in hostDefaults.

    Use instead: the key that the finding names.

    Source: kubernetes/website#43862 ("catastrophic"); openshift/baremetal-runtimecfg#157 (the VIP as node address).
    """
    for path, hosts in grouped(cluster, cluster.kubernetes_hosts, "kubeletExtraArgs").items():
        for name, _ in hosts[0].settings.kubelet_extra_args:
            key = _OWNED.get(name)
            if key:
                message = said("kubelet flag {name} of {hosts} is the inventory's to set", name=name, hosts=several(hosts))
                yield Finding((*path, name), message, said("remove it; use {key}", key=key), on_key=True)


@rule("KUB017", "error")
def removed_kubelet_flags(cluster: Cluster) -> Iterator[Finding]:
    """
    A kubelet flag that is gone.

    Why it hurts: the kubelet ends with "unknown flag" and never registers the node.

    Example: `kubeletExtraArgs: {container-runtime: remote}`, gone in 1.27; `pod-infra-container-image` with 1.35.0.

    Use instead: the key that the finding names: runtime and sandbox image stand in the container runtime's configuration (step 20).

    Source: kubernetes/kubernetes#114017, #122082, #122363, #133779; the dockershim's flags went with it in 1.24 (KEP-2221).
    """
    for path, hosts in grouped(cluster, cluster.kubernetes_hosts, "kubeletExtraArgs").items():
        for name, _ in hosts[0].settings.kubelet_extra_args:
            gone, key = _REMOVED.get(name, (999, ""))
            if cluster.minor >= gone:
                message = said("kubelet 1.{minor} of {hosts} refuses the flag {name}", minor=cluster.minor, hosts=several(hosts), name=name)
                yield Finding((*path, name), message, said("remove it; use {key}", key=key), on_key=True)


@rule("KUB018", "error")
def too_new_field(cluster: Cluster) -> Iterator[Finding]:
    """
    A kubelet field that this minor doesn't have yet.

    Why it hurts: the kubelet reads the rest of its configuration as if the field weren't there, with a warning that nobody sees.

    Example: `kubelet: {failCgroupV1: true}` with 1.30.14.

    Use instead: remove it, or 1.31 and newer.

    Source: kubelet, config/v1beta1/types.go (*failCgroupV1*, 1.31).
    """

    def check(fields: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
        if "failCgroupV1" in fields and cluster.minor < 31:
            yield "failCgroupV1", said("kubelet 1.{minor} has no field failCgroupV1", minor=cluster.minor), "remove it"

    yield from per_kubelet(cluster, check)


@rule("KUB019", "error")
def image_thresholds(cluster: Cluster) -> Iterator[Finding]:
    """
    The kubelet would stop to delete images before it starts.

    Why it hurts: the kubelet refuses its configuration when the low threshold is not below the high one. Unset they are 80 and 85.

    Example: `kubelet: {imageGCLowThresholdPercent: 90}` alone.

    Use instead: both, such as 95 and 90: in an air gap an image that was deleted doesn't come back.

    Source: kubelet, ValidateKubeletConfiguration (*imageGCLowThresholdPercent*).
    """

    def check(fields: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
        high, low = fields.get("imageGCHighThresholdPercent", 85), fields.get("imageGCLowThresholdPercent", 80)
        field = "imageGCLowThresholdPercent" if "imageGCLowThresholdPercent" in fields else "imageGCHighThresholdPercent"
        if low >= high:
            yield field, said("image thresholds are {low} and {high}", low=low, high=high), "make imageGCLowThresholdPercent the lower one"

    yield from per_kubelet(cluster, check)


@rule("KUB020", "error")
def shutdown_periods(cluster: Cluster) -> Iterator[Finding]:
    """
    Critical pods get more time than the whole shutdown has.

    Why it hurts: the time of critical pods is a part of the whole; the kubelet refuses a part that is larger.

    Example: `kubelet: {shutdownGracePeriodCriticalPods: 20s}` without `shutdownGracePeriod`.

    Use instead: `shutdownGracePeriod: 60s` with `shutdownGracePeriodCriticalPods: 20s`.

    Source: kubelet, ValidateKubeletConfiguration ("must be <= shutdownGracePeriod").
    """

    def check(fields: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
        critical, whole = fields.get("shutdownGracePeriodCriticalPods", "0s"), fields.get("shutdownGracePeriod", "0s")
        if seconds(critical) > seconds(whole):
            yield (
                "shutdownGracePeriodCriticalPods",
                said("critical pods get {critical} of {whole}", critical=critical, whole=whole),
                "make shutdownGracePeriod the longer one",
            )

    yield from per_kubelet(cluster, check)


@rule("KUB021", "error")
def restricted_labels(cluster: Cluster) -> Iterator[Finding]:
    """
    A label that the kubelet may not give itself.

    Why it hurts: the kubelet ends with "unknown 'kubernetes.io' or 'k8s.io' labels" and never registers the node.

    Example: `labels: {node-role.kubernetes.io/worker: ""}`.

    Use instead: a prefix of your own, or node.kubernetes.io/; roles are given with `kubectl label node` once the node is there.

    Source: kubelet, ValidateKubeletFlags and IsKubeletLabel; KEP-279 (node isolation).
    """
    for path, hosts in grouped(cluster, cluster.kubernetes_hosts, "labels").items():
        for name, _ in hosts[0].settings.labels:
            domain = name.partition("/")[0] if "/" in name else ""
            ours = f".{domain}".endswith((".kubernetes.io", ".k8s.io"))
            allowed = f".{domain}".endswith((".kubelet.kubernetes.io", ".node.kubernetes.io")) or name in _KUBELET_LABELS
            if ours and not allowed:
                message = said("label {name} of {hosts} is not the kubelet's to set", name=name, hosts=several(hosts))
                yield Finding((*path, name), message, "use a prefix of your own, or node.kubernetes.io/", on_key=True)


@rule("KUB022", "error")
def equal_taints(cluster: Cluster) -> Iterator[Finding]:
    """
    Two taints of one key and effect.

    Why it hurts: the API server refuses a Node with such taints, so the host never joins.

    Example: `taints: [{key: dedicated, value: db, effect: NoSchedule}, {key: dedicated, value: web, effect: NoSchedule}]`.

    Use instead: one of the two, or another key.

    Source: Kubernetes, ValidateNode ("taints must be unique by key and effect pair").
    """
    for path, hosts in grouped(cluster, cluster.kubernetes_hosts, "taints").items():
        seen: set[tuple[str, str]] = set()
        for index, taint in enumerate(hosts[0].settings.taints or ()):
            if (taint.key, taint.effect) in seen:
                message = said(
                    "{hosts}: two taints {taint} with effect {effect}", hosts=several(hosts), taint=taint.key, effect=taint.effect
                )
                yield Finding((*path, index), message, "keep one of the two")
            seen.add((taint.key, taint.effect))


@rule("KUB023", "error")
def swap_kept(cluster: Cluster) -> Iterator[Finding]:
    """
    Swap is kept and the kubelet refuses it.

    Why it hurts: the kubelet doesn't start on a host with swap unless it is told to; every boot ends in a restart loop.

    Example: `swap: keep` alone.

    Use instead: `swap: off`, the default; or `kubelet: {failSwapOn: false}` beside it.

    Source: kubelet, config/v1beta1/types.go (*failSwapOn*, default true); Kubernetes, swap memory management.
    """
    for path, hosts in grouped(cluster, cluster.kubernetes_hosts, "swap").items():
        refusing = [h for h in hosts if h.settings.swap == "keep" and dict(h.settings.kubelet).get("failSwapOn", True)]
        if refusing:
            yield Finding(
                path,
                said("swap stays on {hosts}, where the kubelet refuses it", hosts=several(refusing)),
                "add `kubelet: {failSwapOn: false}`",
            )


@rule("KUB027", "error")
def eviction_signals(cluster: Cluster) -> Iterator[Finding]:
    """
    An eviction signal that the kubelet doesn't know.

    Why it hurts: the kubelet ends with "unsupported eviction signal" and never registers the node.

    Example: `evictionHard: {memory.free: 200Mi}`; `nodefs.inodesfree`, whose F is a small letter.

    Use instead: memory.available, nodefs.available, nodefs.inodesFree, imagefs.available, imagefs.inodesFree, pid.available; from 1.29
    on also containerfs.available and containerfs.inodesFree, which the kubelet works out by itself.

    Source: kubelet, pkg/kubelet/eviction/helpers.go (validSignal); KEP-4191 (containerfs).
    """

    def check(fields: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
        for signal, _ in fields.get("evictionHard", ()):
            if cluster.minor < _SIGNALS.get(signal, 999):
                known = ", ".join(name for name, minor in _SIGNALS.items() if cluster.minor >= minor)
                yield (
                    f"evictionHard/{signal}",
                    said("kubelet 1.{minor} has no eviction signal {signal}", minor=cluster.minor, signal=signal),
                    said("use one of {known}", known=known),
                )

    yield from per_kubelet(cluster, check)


@rule("KUB028", "warning")
def more_pods_than_addresses(cluster: Cluster) -> Iterator[Finding]:
    """
    A node may have more pods than its pod network has addresses.

    Why it hurts: flannel's nodes take the addresses of pods from one network each, by default a /24; when it is used up the scheduler,
    which counts maxPods alone, still sends pods, and they stay in ContainerCreating ("no IP addresses available in range").

    Example: `kubelet: {maxPods: 500}` with node networks of /24, which hold 253: one address is the bridge's, the gateway.

    Use instead: a lower maxPods, or a shorter node-cidr-mask-size-ipv4: 23 for 500 pods.

    Source: containernetworking/plugins, host-local; kube-controller-manager, --node-cidr-mask-size-ipv4; kubelet, maxPods (110).
    """
    if not isinstance(cluster.cni, Flannel):
        return
    room = {
        1 << (32 - int(text)): text
        for network in cluster.pod_subnets
        if network.version == 4 and (text := node_mask(cluster, network)[1]).isascii() and text.isdecimal() and int(text) <= 30
    }

    def check(fields: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
        pods = fields.get("maxPods", 110)
        for size, text in room.items():
            if pods > size - 3:  # the network's own, the broadcast and the bridge's address
                message = said("{pods} pods a node, its /{text} network holds {size}", pods=pods, text=text, size=size - 3)
                yield (
                    "maxPods",
                    message,
                    said("make maxPods {size} or less, or node-cidr-mask-size-ipv4 less than {text}", size=size - 3, text=text),
                )

    yield from per_kubelet(cluster, check)
