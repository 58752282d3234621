"""Calico by its operator: what is applied in which order, and the Installation that says what the operator makes.

Facts: projectcalico/calico ``manifests/`` of each tag (which files, how large), tigera/operator ``api/v1/installation_types.go``,
``pkg/controller/installation`` and ``pkg/controller/ippool`` (defaults and validation), ``pkg/components`` (image names); docs.tigera.io
*Configure use of your image registry*.

The upstream manifests travel in the payload, untouched but for one thing: with ``cluster.cni.registry`` the operator's own image must be
right in ``tigera-operator.yaml``.  Installation.registry reaches every image but that one; an override by server-side apply would be taken
back whenever the step runs again.  So it is edited where the payload is put together, before its digest goes into the inventory, as
Calico's documentation has it: ``sed -i "s?quay.io?REGISTRY?g" tigera-operator.yaml``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from generator import emit, versions
from generator.artifacts import ORDER_TSV, File
from generator.model import Calico, Cluster, Host

if TYPE_CHECKING:
    from netaddr import IPNetwork

PATH = "manifests/80-calico-custom-resources.yaml"
OPERATOR = "tigera-operator.yaml"
SOURCES = ("cluster.cni", "cluster.podSubnet")

_ESTABLISHED = "--for=condition=Established crd --all"
_AVAILABLE = "--for=condition=Available -n tigera-operator deployment/tigera-operator"
# Pools have names from Calico 3.28 (operator 1.34) on; an older operator's schema would drop the field.
_NAMED_POOLS = (28, 0)

Document = dict[str, Any]


def for_host(cluster: Cluster, host: Host) -> Iterator[File]:
    """The custom resources and the order of application for the first control plane; nothing anywhere else, nor with another network."""
    cni = cluster.cni
    if isinstance(cni, Calico) and host is cluster.control_planes[0]:
        documents = [_installation(cluster, cni)]
        if cni.api_server:
            documents.append({"apiVersion": "operator.tigera.io/v1", "kind": "APIServer", "metadata": {"name": "default"}, "spec": {}})
        yield File(PATH, emit.yaml_documents(documents), SOURCES)
        yield File(
            "manifests/order.tsv", emit.tsv(ORDER_TSV, order(cni, host)), ("cluster.cni", "cluster.kubernetesVersion", "hosts[].name")
        )


def order(cni: Calico, host: Host) -> list[tuple[str, str, str, str]]:
    """
    Rows of ``order.tsv``: upstream's manifests, then ours.

    Upstream's go by server-side apply.  A client-side apply would put 1.4 MB of CRD into an annotation that may have 262,144 bytes, and
    ``create`` would leave an older release's CRDs and operator alone when the inventory names a newer one.  Our own go by ``create``: the
    operator writes its defaults into the Installation, into the list of pools too, which is one value for an apply.  Applying it again
    would take them out, the operator would put them back, and so on at each run; what a running pool has is no longer the inventory's.

    Until 3.29 the CRDs stand in the operator's own manifest, and they are what the next row needs.  The last row waits for calico-node on
    this host alone: a node that is down must not fail the step.
    """
    names = versions.CALICO[versions.split_patch(cni.version)[0]].manifests
    digests = dict(cni.manifests)
    waits = {name: _AVAILABLE if name == OPERATOR and len(names) > 1 else _ESTABLISHED for name in names}
    rows = [("server-side", f"payload/manifests/{name}", digests.get(name, "-"), waits[name]) for name in names]
    ready = f"--for=condition=Ready -n calico-system pod -l k8s-app=calico-node --field-selector=spec.nodeName={host.name}"
    return [*rows, ("create", PATH, "-", ready)]


def _installation(cluster: Cluster, cni: Calico) -> Document:
    """
    The Installation, which is always called ``default``.

    The registry may hold a path: the operator joins it with ``calico/NAME`` (1.30 to 1.42 alike), so it needs no ``imagePath``.  Goldmane
    and Whisker, which upstream's file makes from 3.30 on, are left out: three images less to carry.
    """
    spec: Document = {}
    if cni.registry:
        spec["registry"] = f"{cni.registry}/"
    spec["calicoNetwork"] = {
        "linuxDataplane": cni.linux_dataplane,
        "bgp": cni.bgp,
        **({"mtu": cni.mtu} if cni.mtu is not None else {}),
        "ipPools": [_pool(cni, subnet) for subnet in cluster.pod_subnets],
        # The default, first-found, takes the VIP on its holder.  The kubelet's node-ip is always the inventory's address.
        **{f"nodeAddressAutodetectionV{version}": {"kubernetes": "NodeInternalIP"} for version in sorted(cluster.ip_versions)},
    }
    return {"apiVersion": "operator.tigera.io/v1", "kind": "Installation", "metadata": {"name": "default"}, "spec": spec}


def _pool(cni: Calico, subnet: IPNetwork) -> Document:
    """One pool for one pod network; an IPv6 pool has no IPIP (the operator refuses it), so there it has no encapsulation."""
    is_v6 = subnet.version == 6
    plain = is_v6 and cni.encapsulation.startswith("IPIP")
    return {
        **({"name": f"default-ipv{subnet.version}-ippool"} if versions.split_patch(cni.version) >= _NAMED_POOLS else {}),
        "cidr": str(subnet),
        "blockSize": cni.block_size_ipv6 if is_v6 else cni.block_size,
        "encapsulation": "None" if plain else cni.encapsulation,
        "natOutgoing": cni.nat_outgoing,
        "nodeSelector": "all()",
    }
