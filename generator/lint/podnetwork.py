"""CNI: what keeps the pod network away from a node, or pods inside of it."""

from collections.abc import Iterator

from generator.lint import Finding, rule
from generator.lint.places import grouped, several
from generator.model import Calico, Cluster, Flannel
from generator.wording import said


@rule("CNI015", "error")
def taint_against_flannel(cluster: Cluster) -> Iterator[Finding]:
    """
    A taint that keeps flannel away.

    Why it hurts: flannel's pods tolerate every NoSchedule and no NoExecute; on a node with such a taint they don't stay, so the node has
    no pod network and is NotReady for ever.

    Example: `cni: flannel` with `taints: [{key: dedicated, value: db, effect: NoExecute}]`.

    Use instead: `effect: NoSchedule`; NoExecute can follow by `kubectl taint`, with a toleration added to flannel; or Calico, which
    tolerates all.

    Source: flannel, Documentation/kube-flannel.yml (*tolerations*); Kubernetes, Taints and Tolerations; tigera/operator,
    pkg/render/node.go.
    """
    if isinstance(cluster.cni, Flannel):
        for path, hosts in grouped(cluster, cluster.kubernetes_hosts, "taints").items():
            for index, taint in enumerate(hosts[0].settings.taints or ()):
                if taint.effect == "NoExecute":
                    yield Finding(
                        (*path, index, "effect"),
                        said("flannel doesn't tolerate {taint} with effect NoExecute on {hosts}", taint=taint.key, hosts=several(hosts)),
                        "write NoSchedule",
                    )


@rule("CNI016", "warning")
def no_way_out(cluster: Cluster) -> Iterator[Finding]:
    """
    Pods whose addresses nobody outside knows.

    Why it hurts: without NAT a pod's address stands on what leaves the cluster, and without BGP no router learns the way back: the site's
    DNS, registry and databases never answer a pod.

    Example: `cni: {name: calico, encapsulation: VXLAN, bgp: Disabled, natOutgoing: Disabled}`.

    Use instead: `natOutgoing: Enabled`, the default; or nothing, where the routers have static routes to every node's blocks.

    Source: Calico, "Configure outgoing NAT" and "Overlay networking".
    """
    if isinstance(cluster.cni, Calico) and cluster.cni.nat_outgoing == "Disabled" and cluster.cni.bgp == "Disabled":
        yield Finding(
            ("cluster", "cni", "natOutgoing"),
            "natOutgoing Disabled with bgp Disabled: nobody outside knows the way to a pod",
            "enable one of the two, unless the routers have static routes",
        )
