"""flannel: its manifest for the first control plane, written anew from the inventory and never from upstream's file.

Facts: flannel-io/flannel ``Documentation/kube-flannel.yml`` of each tag (six objects, the same in all but what the constants below name),
``Documentation/configuration.md`` and ``backends.md``, ``main.go`` and ``pkg/ipmatch/match.go`` (which interface and address are taken),
``pkg/subnet/config.go`` (``EnableIPv4`` is true unless it is said).  Upstream's file lags behind its own tag now and then (0.23.0, 0.26.3,
...); here the image is always the release's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from generator import emit
from generator.artifacts import ORDER_TSV, File
from generator.model import Cluster, Flannel, Host
from generator.versions import split_patch

PATH = "manifests/80-flannel.yaml"
NAMESPACE = "kube-flannel"
NAME = "kube-flannel-ds"
SOURCES = ("cluster.cni", "cluster.podSubnet", "cluster.kubeProxy.mode", "controlPlaneEndpoint", "hosts[].address", "hosts[].interface")

# First release, as (minor, patch) of 0.minor.patch, that has a thing, by the manifests of the tags.
_NO_CLUSTER_CIDRS = (25, 0)
_NFTABLES = (25, 0)
_CACHE_NOT_READY = (27, 3)
_INSTALL_CONF = (28, 6)
_HEALTHZ = (28, 9)
_HEALTHZ_PORT = 8081

# A kernel takes no argument over 128 KiB: so many hosts, two addresses each, stand in one.
_ADDRESSED = 500

_CNI_CONF = {
    "name": "cbr0",
    "cniVersion": "0.3.1",
    "plugins": [
        {"type": "flannel", "delegate": {"hairpinMode": True, "isDefaultGateway": True}},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}
_RBAC = "rbac.authorization.k8s.io/v1"
_LINUX = {"matchExpressions": [{"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]}]}
_LABELS = {"tier": "node", "app": "flannel", "k8s-app": "flannel"}

Document = dict[str, Any]


def for_host(cluster: Cluster, host: Host) -> Iterator[File]:
    """The manifest and the order of application for the first control plane; nothing anywhere else, nor with another network."""
    if isinstance(cluster.cni, Flannel) and host is cluster.control_planes[0]:
        yield File(PATH, emit.yaml_documents(objects(cluster)), SOURCES)
        yield File("manifests/order.tsv", emit.tsv(ORDER_TSV, [("apply", PATH, "-", _wait(host))]), ("cluster.cni", "hosts[].name"))


def _wait(host: Host) -> str:
    """
    ``kubectl wait`` for flanneld on this host alone.

    Not for the rollout, which ``kubectl wait`` doesn't know, and not for every pod: a node that is down must not fail the step; step 90
    looks at each.
    """
    return f"--for=condition=Ready -n {NAMESPACE} pod -l app=flannel --field-selector=spec.nodeName={host.name}"


def objects(cluster: Cluster) -> tuple[Document, ...]:
    """The six objects in the order of upstream's file; raises AssertionError for another network than flannel."""
    cni = cluster.cni
    assert isinstance(cni, Flannel)
    account = {"name": "flannel", "namespace": NAMESPACE}
    labels = {"k8s-app": "flannel"}
    return (
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": NAMESPACE, "labels": {**labels, "pod-security.kubernetes.io/enforce": "privileged"}},
        },
        {"apiVersion": _RBAC, "kind": "ClusterRole", "metadata": {"name": "flannel", "labels": labels}, "rules": _rules(cni)},
        {
            "apiVersion": _RBAC,
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "flannel", "labels": labels},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "flannel"},
            "subjects": [{"kind": "ServiceAccount", **account}],
        },
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {**account, "labels": labels}},
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "kube-flannel-cfg", "namespace": NAMESPACE, "labels": _LABELS},
            "data": {"cni-conf.json": emit.indented_json(_CNI_CONF), "net-conf.json": emit.indented_json(network(cluster, cni))},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": _LABELS},
            "spec": {"selector": {"matchLabels": {"app": "flannel"}}, "template": _pod(cluster, cni)},
        },
    )


def _rules(cni: Flannel) -> list[Document]:
    rules = [("", "pods", ["get"]), ("", "nodes", ["get", "list", "watch"]), ("", "nodes/status", ["patch"])]
    if split_patch(cni.version) < _NO_CLUSTER_CIDRS:
        rules.append(("networking.k8s.io", "clustercidrs", ["list", "watch"]))
    return [{"apiGroups": [group], "resources": [resource], "verbs": verbs} for group, resource, verbs in rules]


def network(cluster: Cluster, cni: Flannel) -> Document:
    """
    ``net-conf.json``: the pod networks by family and the backend.

    ``EnableNFTables`` follows kube-proxy, where the release knows it: one host, one kind of rules.  Subnet lengths don't stand here: with
    the Kubernetes subnet manager every node's subnet is its ``podCIDR``.
    """
    subnets = {subnet.version: str(subnet) for subnet in cluster.pod_subnets}
    conf: Document = {"Network": subnets[4]} if 4 in subnets else {"EnableIPv4": False}
    if 6 in subnets:
        conf |= {"IPv6Network": subnets[6], "EnableIPv6": True}
    if split_patch(cni.version) >= _NFTABLES:
        conf["EnableNFTables"] = cluster.proxy_mode == "nftables"
    return conf | {"Backend": _backend(cni)}


def _backend(cni: Flannel) -> Document:
    """The backend's own keys: host-gw has none, neither MTU nor port."""
    backend: Document = {"Type": cni.backend}
    if cni.backend == "vxlan":
        backend |= {"VNI": cni.vni, "Port": cni.port, "DirectRouting": cni.direct_routing}
    if cni.mtu is not None and cni.backend != "host-gw":
        backend["MTU"] = cni.mtu
    return backend


def _pod(cluster: Cluster, cni: Flannel) -> Document:
    return {
        "metadata": {"labels": {"tier": "node", "app": "flannel"}},
        "spec": {
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [_LINUX]}}},
            "hostNetwork": True,
            "priorityClassName": "system-node-critical",
            "tolerations": [{"operator": "Exists", "effect": "NoSchedule"}],
            "serviceAccountName": "flannel",
            "initContainers": _init_containers(cluster, cni),
            "containers": [_flanneld(cluster, cni)],
            "volumes": [
                {"name": "run", "hostPath": {"path": "/run/flannel"}},
                {"name": "cni-plugin", "hostPath": {"path": "/opt/cni/bin"}},
                {"name": "cni", "hostPath": {"path": "/etc/cni/net.d"}},
                {"name": "flannel-cfg", "configMap": {"name": "kube-flannel-cfg"}},
                {"name": "xtables-lock", "hostPath": {"path": "/run/xtables.lock", "type": "FileOrCreate"}},
            ],
        },
    }


def _init_containers(cluster: Cluster, cni: Flannel) -> list[Document]:
    image, plugin = cluster.cni_images
    paths = ["/etc/kube-flannel/cni-conf.json", "/etc/cni/net.d/10-flannel.conflist"]
    # install-conf writes beside the file and renames; before it came, cp was all there was.
    renames = split_patch(cni.version) >= _INSTALL_CONF
    return [
        {
            "name": "install-cni-plugin",
            "image": plugin,
            "command": ["cp"],
            "args": ["-f", "/flannel", "/opt/cni/bin/flannel"],
            "volumeMounts": _mounts({"cni-plugin": "/opt/cni/bin"}),
        },
        {
            "name": "install-cni",
            "image": image,
            "command": ["/opt/bin/install-conf"] if renames else ["cp"],
            "args": paths if renames else ["-f", *paths],
            "volumeMounts": _mounts({"cni": "/etc/cni/net.d", "flannel-cfg": "/etc/kube-flannel/"}),
        },
    ]


def _flanneld(cluster: Cluster, cni: Flannel) -> Document:
    at = split_patch(cni.version)
    container: Document = {
        "name": "kube-flannel",
        "image": cluster.cni_images[0],
        "command": ["/opt/bin/flanneld"],
        "args": ["--ip-masq", "--kube-subnet-mgr", *interface(cluster)],
        "resources": {"requests": {"cpu": "100m", "memory": "50Mi"}},
        "securityContext": {"privileged": False, "capabilities": {"add": ["NET_ADMIN", "NET_RAW"]}},
        "env": _environment(cluster, cni),
        "volumeMounts": _mounts({"run": "/run/flannel", "flannel-cfg": "/etc/kube-flannel/", "xtables-lock": "/run/xtables.lock"}),
    }
    if at >= _HEALTHZ:
        container["args"].append(f"--healthz-port={_HEALTHZ_PORT}")
        container |= {
            "ports": [{"name": "healthz", "containerPort": _HEALTHZ_PORT, "protocol": "TCP"}],
            "livenessProbe": {"httpGet": {"path": "/healthz", "port": "healthz"}, "initialDelaySeconds": 10, "periodSeconds": 30},
            "readinessProbe": {"httpGet": {"path": "/readyz", "port": "healthz"}, "initialDelaySeconds": 5, "periodSeconds": 10},
        }
    return container


def _environment(cluster: Cluster, cni: Flannel) -> list[Document]:
    fields = {"POD_NAME": "metadata.name", "POD_NAMESPACE": "metadata.namespace"}
    if len(cluster.ip_versions) == 1:
        fields["NODE_IP"] = "status.hostIP"
    values = {"EVENT_QUEUE_DEPTH": "5000"}
    if split_patch(cni.version) >= _CACHE_NOT_READY:
        values["CONT_WHEN_CACHE_NOT_READY"] = "false"
    return [
        *({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in fields.items()),
        *({"name": name, "value": value} for name, value in values.items()),
    ]


def _mounts(paths: dict[str, str]) -> list[Document]:
    return [{"name": name, "mountPath": path} for name, path in paths.items()]


def interface(cluster: Cluster) -> list[str]:
    """
    Flags that give flanneld the node's own address and never the VIP.

    ``--iface=NAME`` takes the first address of the interface that the kernel lists.  On the holder that may be the VIP: IPv6 lists the
    newest first, and for IPv4 it is enough that the interface was down once while keepalived stood.  The tunnel would then end at an
    address that moves away.  ``--iface-regex`` is matched against every address, and the one that matches is taken (all releases since
    0.17).  So with one family the pattern is the node's own address, which the kubelet registered (``node-ip``, always set): it is right
    on every host, whatever its interface is called, and also on hosts that join later.  Kubernetes puts ``$(NODE_IP)`` in.

    With two families one pattern must match both addresses, and the downward API has no way to write that.  There the hosts that may hold
    the VIP are named by address and the others by interface; where the interfaces differ, every host is named by address.
    """
    if len(cluster.ip_versions) == 1:
        return ["--iface-regex=^$(NODE_IP)$"]
    hosts = cluster.kubernetes_hosts
    names = {host.settings.interface for host in hosts}
    name = names.pop() if len(names) == 1 else ""
    named = [host for host in hosts if not name or host.name in cluster.load_balancer_names]
    groups = [[str(a.ip) for host in named[at : at + _ADDRESSED] for a in host.addresses] for at in range(0, len(named), _ADDRESSED)]
    return [f"--iface-regex={_pattern(group)}" for group in (*groups, *([[name]] if name else []))]


def _pattern(literals: list[str]) -> str:
    """A regular expression (RE2) for exactly one of *literals*, of which only the dot is special."""
    return f"^(?:{'|'.join(literals)})$".replace(".", r"\.")
