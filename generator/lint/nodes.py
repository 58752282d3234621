"""KUB: what the kubelet makes of a node: reserved resources, eviction, serving certificates, cgroups."""

from collections.abc import Iterator
from typing import Any

from generator.diagnostics import Path, Related
from generator.lint import Finding, rule
from generator.lint.places import per_kubelet, several, stated_at
from generator.model import Cluster, Host
from generator.wording import conjoined, said

_RESERVABLE = ("cpu", "memory", "ephemeral-storage", "pid")
# Without these two a node runs out of memory or of disk with nobody to clear it; the others may be meant.
_VITAL = ("memory.available", "nodefs.available")


@rule("KUB036", "error")
def reserved_resources(cluster: Cluster) -> Iterator[Finding]:
    """
    A resource that the kubelet can't reserve.

    Why it hurts: the kubelet ends with "cannot reserve ... resource", or with "failed to parse quantity" for a percentage, and never
    registers the node.

    Example: `systemReserved: {storage: 10Gi}`; `kubeReserved: {memory: 10%}`.

    Use instead: cpu, memory, ephemeral-storage and pid, each with an amount.

    Source: kubelet, cmd/kubelet/app/server.go (parseResourceList).
    """

    def check(fields: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
        for field in ("systemReserved", "kubeReserved"):
            for name, amount in fields.get(field, ()):
                if name not in _RESERVABLE:
                    known = said("use {names}", names=", ".join(_RESERVABLE))
                    yield f"{field}/{name}", said("the kubelet can't reserve {name} ({field})", name=name, field=field), known
                elif amount.endswith("%"):
                    message = said("{field} {name} {amount} is no amount", field=field, name=name, amount=amount)
                    yield f"{field}/{name}", message, "write an amount such as 500m or 1Gi"

    yield from per_kubelet(cluster, check)


@rule("KUB037", "warning")
def lost_thresholds(cluster: Cluster) -> Iterator[Finding]:
    """
    Eviction thresholds that turn the other ones off.

    Why it hurts: once evictionHard names a signal, the ones that it doesn't name are off and no longer at their defaults; a node without
    memory.available runs into the kernel's OOM killer, one without nodefs.available fills its disk until nothing works.

    Example: `evictionHard: {memory.available: 500Mi}`, by which the 10% of nodefs.available are gone.

    Use instead: every signal, the unchanged ones with their defaults: memory.available 100Mi, nodefs.available 10%, nodefs.inodesFree 5%,
    imagefs.available 15%.

    Source: Kubernetes, Node-pressure Eviction ("will be set to zero"); kubernetes/kubernetes#127577 (*mergeDefaultEvictionSettings*).
    """
    # A host's own thresholds are merged into the cluster's (kubeadm's patch of type merge).
    shared = dict(dict(cluster.default_kubelet).get("evictionHard", ()))

    def check(fields: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
        given = shared | dict(fields.get("evictionHard", ()))
        missing = [name for name in _VITAL if name not in given]
        if given and missing:
            yield "evictionHard", said("evictionHard turns {names} off", names=conjoined(missing)), "name every signal, the others too"

    yield from per_kubelet(cluster, check)


@rule("KUB038", "info")
def requested_certificates(cluster: Cluster) -> Iterator[Finding]:
    """
    Serving certificates that somebody must approve.

    Why it hurts: each kubelet asks for its certificate and waits; until somebody approves the request, and each renewal of it,
    `kubectl logs` and `exec` end with "remote error: tls: internal error" and metrics-server has nothing.

    Example: `kubelet: {serverTLSBootstrap: true}`.

    Use instead: nothing, where a controller approves them; else remove it, or `kubectl certificate approve` once all have joined.

    Source: Kubernetes, "Certificate Management with kubeadm" (*Enabling signed kubelet serving certificates*).
    """

    def check(fields: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
        if fields.get("serverTLSBootstrap"):
            yield (
                "serverTLSBootstrap",
                "kubelets wait for somebody to approve their certificates",
                "nothing to do if a controller approves them",
            )

    yield from per_kubelet(cluster, check)


@rule("KUB041", "warning")
def half_cgroup_v1(cluster: Cluster) -> Iterator[Finding]:
    """
    The kubelet takes cgroup v1, and kubeadm's preflight doesn't.

    Why it hurts: from 1.35 on both refuse a host with cgroup v1, each by itself; with the kubelet's key alone `kubeadm init` and `join`
    end at the check SystemVerification.

    Example: `kubelet: {failCgroupV1: false}` with 1.35.0.

    Use instead: a host with cgroup v2, and no such key; else `ignorePreflightErrors: [SystemVerification]` beside it.

    Source: kubernetes/kubernetes#134744; kubernetes/website#53082 ("You must also explicitly skip this kubeadm validation").
    """
    found: dict[Path, list[Host]] = {}
    for host in cluster.kubernetes_hosts if cluster.minor >= 35 else ():
        ignored = {name.lower() for name in host.settings.ignore_preflight_errors}
        if dict(host.settings.kubelet).get("failCgroupV1") is False and not ignored & {"all", "systemverification"}:
            found.setdefault(stated_at(cluster, host, "kubelet", "failCgroupV1"), []).append(host)
    for path, hosts in found.items():
        yield Finding(
            path,
            said("failCgroupV1 false, and preflight of {hosts} still refuses cgroup v1", hosts=several(hosts)),
            "remove it, or add `ignorePreflightErrors: [SystemVerification]`",
            on_key=True,
            related=(Related(("cluster", "kubernetesVersion"), "the release"),),
        )
