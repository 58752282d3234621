"""CNI: the pod network's release, its encapsulation, and room for all nodes."""

from collections.abc import Iterator

from generator import versions
from generator.diagnostics import Fix, Path, Related
from generator.lint import Finding, rule
from generator.lint.places import Place, host_networks, node_mask
from generator.model import Calico, Cluster, Flannel, NoCni
from generator.wording import conjoined, said

_CNI: Path = ("cluster", "cni")
_PROXY: Path = ("cluster", "kubeProxy", "mode")


@rule("CNI001", "error")
def unknown_flannel(cluster: Cluster) -> Iterator[Finding]:
    """
    A release of flannel that this stowage doesn't know.

    Why it hurts: image names, registry and the version of the CNI plugin differ between releases; guessed, the payload lacks an image.

    Example: `cni: {name: flannel, version: 0.27.9}`, which doesn't exist.

    Use instead: a release from 0.22.0 to 0.28.9; 0.28.9 is the default.

    Source: flannel-io/flannel, Documentation/kube-flannel.yml of each tag.
    """
    if isinstance(cluster.cni, Flannel) and versions.flannel_row(cluster.cni.version) is None:
        yield Finding(
            (*_CNI, "version"), said("flannel {version} is not known", version=cluster.cni.version), "choose a known release such as 0.28.9"
        )


@rule("CNI002", "error")
def unknown_calico(cluster: Cluster) -> Iterator[Finding]:
    """
    A release of Calico that this stowage doesn't know.

    Why it hurts: the operator's tag, the registry and the manifests differ between releases; guessed, the payload lacks an image.

    Example: `cni: {name: calico, version: 3.31.99}`.

    Use instead: a release of the table (3.27.0 to 3.32.1), or none: then the newest that was tested with this Kubernetes.

    Source: projectcalico/calico, manifests/tigera-operator.yaml of each tag.
    """
    if isinstance(cluster.cni, Calico) and versions.calico_operator(cluster.cni.version) is None:
        use = versions.calico_for(cluster.minor)
        yield Finding(
            (*_CNI, "version"),
            said("Calico {version} is not known", version=cluster.cni.version),
            said("choose a known release such as {use}", use=use),
        )


@rule("CNI003", "warning")
def untested_calico(cluster: Cluster) -> Iterator[Finding]:
    """
    Calico was not tested with this Kubernetes.

    Why it hurts: its project names the minors that a release was tested with; with others, API versions may be gone that it needs.

    Example: `cni: {name: calico, version: 3.27.5}` with Kubernetes 1.33.1.

    Use instead: no version: then the newest that was tested with this minor.

    Source: Calico, system requirements of each version; the minors of 3.27 and 3.28 are from memory, so this is a warning.
    """
    if isinstance(cluster.cni, Calico) and versions.calico_operator(cluster.cni.version) is not None:
        oldest, newest = versions.CALICO[versions.split_patch(cluster.cni.version)[0]].tested
        if not oldest <= cluster.minor <= newest:
            yield Finding(
                (*_CNI, "version"),
                said(
                    "Calico {version} was tested with Kubernetes 1.{oldest} to 1.{newest}, this is 1.{minor}",
                    version=cluster.cni.version,
                    oldest=oldest,
                    newest=newest,
                    minor=cluster.minor,
                ),
                said("use {version}, or remove the key", version=versions.calico_for(cluster.minor)),
                related=(Related(("cluster", "kubernetesVersion"), "the release"),),
            )


def _two_networks(cluster: Cluster) -> Iterator[tuple[Place, Place]]:
    """For each of the cluster's families of which nodes stand in several networks, two of these."""
    places = host_networks(cluster, cluster.kubernetes_hosts)
    for version in dict.fromkeys(cluster.ip_versions):
        nets = [p for p in places if p.network.version == version]
        if len(nets) > 1:
            yield nets[0], nets[1]


@rule("CNI004", "error")
def host_gw_across(cluster: Cluster) -> Iterator[Finding]:
    """
    Backend host-gw with nodes in several subnets.

    Why it hurts: host-gw writes routes with the other node as next hop, which must be in the same segment; across a router the kernel
    refuses them and pods of different subnets don't reach each other.

    Example: `cni: {name: flannel, backend: host-gw}` with nodes in 192.168.1.0/24 and 192.168.2.0/24.

    Use instead: `vxlan` with `directRouting: true`: plain routes in one subnet, tunnels between them.

    Source: flannel, Documentation/backends.md ("requires direct layer2 connectivity").
    """
    if isinstance(cluster.cni, Flannel) and cluster.cni.backend == "host-gw":
        for one, other in _two_networks(cluster):
            yield Finding(
                (*_CNI, "backend"),
                said("host-gw with nodes in {one} and {other}", one=one.network.cidr, other=other.network.cidr),
                "use vxlan with directRouting",
                related=(Related(one.path, "a node"), Related(other.path, "a node")),
            )


@rule("CNI005", "error")
def encapsulation_without_bgp(cluster: Cluster) -> Iterator[Finding]:
    """
    Calico needs BGP for this encapsulation.

    Why it hurts: routes for IPIP and for unencapsulated pools are BIRD's to write; Calico's operator refuses the Installation and installs
    nothing.

    Example: `cni: {name: calico, encapsulation: None, bgp: Disabled}`.

    Use instead: `encapsulation: VXLAN` or `VXLANCrossSubnet`, whose routes Felix writes; or `bgp: Enabled`.

    Source: tigera/operator, validation of *ipPools* ("IPIP encapsulation requires that BGP is enabled").
    """
    cni = cluster.cni
    if isinstance(cni, Calico) and cni.bgp == "Disabled" and not cni.encapsulation.startswith("VXLAN"):
        yield Finding(
            (*_CNI, "encapsulation"),
            said("encapsulation {encapsulation} with bgp Disabled", encapsulation=cni.encapsulation),
            "use VXLAN, or enable bgp",
        )


@rule("CNI006", "error")
def ipip_for_ipv6(cluster: Cluster) -> Iterator[Finding]:
    """
    IPIP for an IPv6 pool.

    Why it hurts: IPIP carries IPv4 in IPv4; Calico's operator refuses the Installation and installs nothing.

    Example: `cni: {name: calico, encapsulation: IPIP}` with `podSubnet: 10.244.0.0/16,fd00:10:244::/56`.

    Use instead: `VXLAN` or `VXLANCrossSubnet`.

    Source: tigera/operator, validation of *ipPools* ("IPIP encapsulation is not supported by IPv6 pools").
    """
    cni = cluster.cni
    if isinstance(cni, Calico) and cni.encapsulation.startswith("IPIP") and 6 in cluster.ip_versions:
        yield Finding(
            (*_CNI, "encapsulation"),
            said("{encapsulation} with an IPv6 podSubnet", encapsulation=cni.encapsulation),
            "use VXLAN or VXLANCrossSubnet",
        )


@rule("CNI007", "error")
def flannel_room(cluster: Cluster) -> Iterator[Finding]:
    """
    The pod network has too few parts for all nodes.

    Why it hurts: kube-controller-manager gives each node one part, a /24 unless told otherwise; the nodes that come last get none, and
    flannel on them waits for ever ("pod cidr not assigned").

    Example: `podSubnet: 10.244.0.0/23`, two parts, with three nodes.

    Use instead: a larger podSubnet such as a /16, or a larger node-cidr-mask-size-ipv4.

    Source: flannel, Documentation/kubernetes.md; kube-controller-manager, --allocate-node-cidrs (true by kubeadm).
    """
    if not isinstance(cluster.cni, Flannel):
        return
    args = dict(cluster.controller_manager_args)
    if args.get("allocate-node-cidrs") == "false":
        path = ("cluster", "controllerManager", "extraArgs", "allocate-node-cidrs")
        yield Finding(path, "flannel needs the node networks that allocate-node-cidrs: false turns off", "remove the flag", on_key=True)
        return
    nodes = len(cluster.kubernetes_hosts)
    for network in cluster.pod_subnets:
        _, text = node_mask(cluster, network)
        spare = int(text) - network.prefixlen if text.isascii() and text.isdecimal() and len(text) < 4 else -1
        # A mask that doesn't fit at all is for rule KUB006.
        if 0 <= spare <= 128 and 1 << spare < nodes:
            message = said(
                "podSubnet {network} has /{text} networks for {count} of {nodes} nodes",
                network=network,
                text=text,
                count=1 << spare,
                nodes=nodes,
            )
            yield Finding(("cluster", "podSubnet"), message, "make it larger")


@rule("CNI008", "error")
def calico_blocks(cluster: Cluster) -> Iterator[Finding]:
    """
    The pod network has too few address blocks for all nodes.

    Why it hurts: Calico's operator refuses a pool that is smaller than one block; with fewer blocks than nodes the last ones have no
    addresses of their own and borrow single ones, each with a route of its own.

    Example: `podSubnet: 10.244.0.0/24` with `blockSize: 24` and three nodes.

    Use instead: a larger podSubnet, or a larger blockSize (smaller blocks).

    Source: tigera/operator, validation of *ipPools*; Calico, IPPool *blockSize*.
    """
    if not isinstance(cluster.cni, Calico):
        return
    nodes = len(cluster.kubernetes_hosts)
    for network in cluster.pod_subnets:
        size = cluster.cni.block_size if network.version == 4 else cluster.cni.block_size_ipv6
        blocks = 1 << (size - network.prefixlen) if size >= network.prefixlen else 0
        if blocks < nodes:
            key = "blockSize" if network.version == 4 else "blockSizeIPv6"
            yield Finding(
                ("cluster", "podSubnet"),
                said(
                    "podSubnet {network} has blocks of /{size} for {blocks} of {nodes} nodes",
                    network=network,
                    size=size,
                    blocks=blocks,
                    nodes=nodes,
                ),
                said("make podSubnet larger, or {key} a higher number", key=key),
                related=(Related((*_CNI, key), "the size of a block"),),
            )


@rule("CNI009", "error")
def calico_nftables(cluster: Cluster) -> Iterator[Finding]:
    """
    Calico and kube-proxy filter in different ways.

    Why it hurts: Calico's nftables data plane works only with kube-proxy in nftables mode, and its iptables one not with it: services are
    then dropped by the one or the other. Calico has it from 3.29 on.

    Example: `kubeProxy: {mode: nftables}` with `cni: calico`, whose default is Iptables.

    Use instead: `linuxDataplane: Nftables` with `mode: nftables`, or neither.

    Source: Calico, nftables data plane ("kube-proxy must also be in nftables mode"); kubernetes-sigs/kubespray#12198.
    """
    if not isinstance(cluster.cni, Calico):
        return
    plane, mode = cluster.cni.linux_dataplane, cluster.proxy_mode
    related = (Related(_PROXY, "kube-proxy's mode"),)
    if plane == "Nftables" and versions.split_patch(cluster.cni.version) < (29, 0):
        yield Finding(
            (*_CNI, "linuxDataplane"),
            said("Calico {version} has no nftables data plane", version=cluster.cni.version),
            "use Calico 3.29 or newer",
        )
    elif plane == "Nftables" and mode != "nftables":
        yield Finding(
            (*_CNI, "linuxDataplane"),
            said("linuxDataplane Nftables with kube-proxy in {mode} mode", mode=mode),
            "set kubeProxy.mode to nftables",
            related=related,
        )
    elif plane == "Iptables" and mode == "nftables":
        yield Finding(_PROXY, "kube-proxy in nftables mode with Calico's linuxDataplane Iptables", "set linuxDataplane to Nftables")


@rule("CNI010", "info")
def no_cni(cluster: Cluster) -> Iterator[Finding]:
    """
    Nobody installs a pod network.

    Why it hurts: nodes stay NotReady and CoreDNS pending until somebody does; step 90 says so.

    Example: `cni: none`.

    Use instead: nothing, where you bring one of your own; its images belong into the payload too.

    Source: Kubernetes, "Installing a pod network add-on".
    """
    if isinstance(cluster.cni, NoCni):
        yield Finding(_CNI, "cni none: nodes stay NotReady until somebody installs a pod network", "nothing to do if you bring your own")


@rule("CNI011", "info")
def no_digests(cluster: Cluster) -> Iterator[Finding]:
    """
    Calico's manifests have no digest in the inventory.

    Why it hurts: the manifests are upstream's files and travel in the payload; without a digest nobody who reviews the inventory knows
    which bytes are applied.

    Example: `cni: calico`.

    Use instead: `cni: {name: calico, manifests: {tigera-operator.yaml: <sha256>}}`.

    Source: design.md, section 3; Calico, releases.
    """
    if isinstance(cluster.cni, Calico):
        row = versions.CALICO.get(versions.split_patch(cluster.cni.version)[0])
        given = {name for name, _ in cluster.cni.manifests}
        missing = [name for name in (row.manifests if row else ()) if name not in given]
        if missing:
            message = said("no digest of {names} of Calico {version}", names=conjoined(missing), version=cluster.cni.version)
            yield Finding(_CNI, message, "add them to cni.manifests", on_key=True)


@rule("CNI012", "error")
def other_manifests(cluster: Cluster) -> Iterator[Finding]:
    """
    A digest of a manifest that this Calico doesn't have.

    Why it hurts: the files differ between releases (their CRDs moved to operator-crds.yaml in 3.30 and to v1_crd_projectcalico_org.yaml
    in 3.32); a digest for another one protects nothing.

    Example: `version: 3.29.7` with `manifests: {operator-crds.yaml: ...}`.

    Use instead: the manifests that the finding names.

    Source: projectcalico/calico, manifests of each tag; Calico, onpremises.mdx.
    """
    if isinstance(cluster.cni, Calico):
        row = versions.CALICO.get(versions.split_patch(cluster.cni.version)[0])
        for name, _ in cluster.cni.manifests if row else ():
            if row and name not in row.manifests:
                message = said("Calico {version} has no manifest {name}", version=cluster.cni.version, name=name)
                yield Finding(
                    (*_CNI, "manifests", name), message, said("its manifests are {names}", names=conjoined(row.manifests)), on_key=True
                )


@rule("CNI013", "warning")
def idle_direct_routing(cluster: Cluster) -> Iterator[Finding]:
    """
    directRouting with another backend than vxlan.

    Why it hurts: it has no effect: host-gw never encapsulates, wireguard always does.

    Example: `cni: {name: flannel, backend: wireguard, directRouting: true}`.

    Use instead: remove it.

    Source: flannel, Documentation/backends.md (*DirectRouting* of vxlan).
    """
    if isinstance(cluster.cni, Flannel) and cluster.cni.direct_routing and cluster.cni.backend != "vxlan":
        message = said("directRouting has no effect with backend {backend}", backend=cluster.cni.backend)
        yield Finding((*_CNI, "directRouting"), message, "remove it", on_key=True, fix=Fix("remove"))


@rule("CNI014", "warning")
def unencapsulated_across(cluster: Cluster) -> Iterator[Finding]:
    """
    Calico without encapsulation and nodes in several subnets.

    Why it hurts: pod addresses then travel as they are, and the router between the subnets knows none of them; unless it is a BGP peer,
    which step 90 doesn't set up, pods of different subnets don't reach each other.

    Example: `cni: {name: calico, encapsulation: None}` with nodes in 192.168.1.0/24 and 192.168.2.0/24.

    Use instead: `VXLANCrossSubnet`: plain routes in one subnet, tunnels between them; or nothing, where the routers peer with every node.

    Source: Calico, "Overlay networking" (an unencapsulated network must route pod addresses) and "Configure BGP peering".
    """
    cni = cluster.cni
    # Without BGP it is refused: rule CNI005.
    if isinstance(cni, Calico) and cni.encapsulation == "None" and cni.bgp == "Enabled":
        for one, other in _two_networks(cluster):
            yield Finding(
                (*_CNI, "encapsulation"),
                said("no encapsulation with nodes in {one} and {other}", one=one.network.cidr, other=other.network.cidr),
                "use VXLANCrossSubnet, unless the routers are BGP peers",
                related=(Related(one.path, "a node"), Related(other.path, "a node")),
            )
