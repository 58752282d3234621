"""NET: the networks of pods, services and hosts; kubeadm checks none of this."""

from collections.abc import Iterable, Iterator

from netaddr import IPNetwork

from generator.diagnostics import Path, Related
from generator.lint import Finding, rule
from generator.lint.places import LOCAL_NAMES, Place, holds, host_networks, overlap, vip_places
from generator.model import Cluster, Host
from generator.wording import conjoined, said

PODS: Path = ("cluster", "podSubnet")
SERVICES: Path = ("cluster", "serviceSubnet")
_SPECIAL = tuple(
    (IPNetwork(text), what)
    for text, what in {
        "0.0.0.0/8": said("this host on this network"),
        "127.0.0.0/8": said("loopback"),
        "169.254.0.0/16": said("link-local"),
        "224.0.0.0/4": said("multicast"),
        "::/127": said("loopback"),
        "fe80::/10": said("link-local"),
        "ff00::/8": said("multicast"),
    }.items()
)


@rule("NET001", "error")
def pods_over_services(cluster: Cluster) -> Iterator[Finding]:
    """
    Pod and service network overlap.

    Why it hurts: a pod may get the address of a service; who connects to the one reaches the other.

    Example: `podSubnet: 10.96.0.0/12` with `serviceSubnet: 10.96.0.0/16`, whichever contains the other.

    Use instead: two networks apart, such as 10.244.0.0/16 and 10.96.0.0/16.

    Source: kubernetes/kubeadm#3312 (kubeadm accepts the overlap); coreos/coreos-kubernetes#335 (both directions).
    """
    for pods in cluster.pod_subnets:
        for services in cluster.service_subnets:
            if overlap(pods, services):
                yield Finding(
                    SERVICES,
                    said("service network {services} overlaps pod network {pods}", services=services.cidr, pods=pods.cidr),
                    "choose two networks apart",
                    related=(Related(PODS, "the pod network"),),
                )


def _over_hosts(cluster: Cluster, networks: tuple[IPNetwork, ...], what: str, path: Path) -> Iterator[Finding]:
    places = host_networks(cluster)
    for network in networks:
        hit = [place for place in places if overlap(network, place.network)]
        if hit:
            label = said("{host} and {count} more networks", host=hit[0].label, count=len(hit) - 1) if len(hit) > 1 else hit[0].label
            yield Finding(
                path,
                said(
                    "{what} network {network} overlaps {other} of {label}",
                    what=what,
                    network=network.cidr,
                    other=hit[0].network.cidr,
                    label=label,
                ),
                "choose a network that no host stands in",
                related=(Related(hit[0].path, "the host"),),
            )


@rule("NET002", "error")
def pods_over_hosts(cluster: Cluster) -> Iterator[Finding]:
    """
    The pod network overlaps a network that hosts stand in.

    Why it hurts: every node gets routes for the pod network into the tunnel; hosts, gateway and VIP behind them become unreachable, often
    only once a certain node has joined.

    Example: `podSubnet: 192.168.0.0/16`, Calico's own default, with hosts in 192.168.1.0/24.

    Use instead: `podSubnet: 10.244.0.0/16`, or another private network that the site doesn't use.

    Source: Calico's custom-resources.yaml (default pool 192.168.0.0/16); coreos/coreos-kubernetes#335; aws/eks-anywhere#2086.
    """
    yield from _over_hosts(cluster, cluster.pod_subnets, said("pod"), PODS)


@rule("NET003", "error")
def services_over_hosts(cluster: Cluster) -> Iterator[Finding]:
    """
    The service network overlaps a network that hosts stand in.

    Why it hurts: kube-proxy rewrites what goes to a service address on every node, so a host with such an address disappears for pods and
    nodes as soon as a service gets it.

    Example: `serviceSubnet: 10.96.0.0/12` with hosts in 10.100.3.0/24: a /12 reaches up to 10.111.255.255.

    Use instead: a smaller service network, such as 10.96.0.0/16, or another one.

    Source: coreos/coreos-kubernetes#335; openshift/installer#3436; kubernetes/kubeadm#3312.
    """
    yield from _over_hosts(cluster, cluster.service_subnets, said("service"), SERVICES)


@rule("NET010", "error")
def vip_in_cluster_networks(cluster: Cluster) -> Iterator[Finding]:
    """
    The VIP lies in the pod or service network.

    Why it hurts: nodes send what is for the VIP into the pod network, or kube-proxy rewrites it; the API is gone once the CNI runs.

    Example: `address: 10.244.0.5/24` with `podSubnet: 10.244.0.0/16`.

    Use instead: a free address of the load balancers' own network.

    Source: checklist row 2; kubernetes/kubeadm#3312.
    """
    hosts = [place.network for place in host_networks(cluster)]
    for place in vip_places(cluster):
        vip = place.network
        around = [network for network in hosts if holds(network, vip)]
        for networks, what, path in ((cluster.pod_subnets, said("pod"), PODS), (cluster.service_subnets, said("service"), SERVICES)):
            for network in networks:
                # Where the hosts' own network overlaps, rules NET002 and NET003 have said so.
                if overlap(network, vip) and not any(overlap(network, own) for own in around):
                    yield Finding(
                        place.path,
                        said(
                            "{place} or its network {own} lies in the {what} network {network}",
                            place=place.label,
                            own=vip.cidr,
                            what=what,
                            network=network.cidr,
                        ),
                        "take a free address of the load balancers' network",
                        related=(Related(path, said("the {what} network", what=what)),),
                    )


@rule("NET011", "error")
def host_bits(cluster: Cluster) -> Iterator[Finding]:
    """
    A network is written with host bits.

    Why it hurts: kubeadm takes it, but BIRD does not start with such a pool ("Invalid network prefix") and Calico refuses it; and a reader
    can't tell whether the address or the prefix is the mistake.

    Example: `podSubnet: 10.244.3.1/16`.

    Use instead: the network itself, `10.244.0.0/16`.

    Source: projectcalico/libcalico-go#425 ("IP pool CIDR is not strictly masked").
    """
    for networks, path in ((cluster.pod_subnets, PODS), (cluster.service_subnets, SERVICES)):
        for network in networks:
            if network.value != network.first:
                yield Finding(
                    path,
                    said("{key} {network} has host bits", key=path[-1], network=network),
                    said("write {network}, or correct the prefix", network=network.cidr),
                )


def _in_order(versions: Iterable[int]) -> str:
    """``IPv4 then IPv6``."""
    return conjoined([f"IPv{version}" for version in versions], "{first} then {last}")


def _wrong_families(cluster: Cluster, host: Host) -> str:
    """What is wrong with the families of *host*'s addresses, or an empty string."""
    versions = [a.version for a in host.addresses]
    wanted = list(dict.fromkeys(cluster.ip_versions))
    if len(set(versions)) != len(versions):
        return said("has two IPv{version} addresses", version=versions[0])
    if not host.runs_kubernetes:
        return "" if wanted[0] in versions else said("has no IPv{version} address", version=wanted[0])
    missing = [v for v in wanted if v not in versions]
    if missing:
        return said("has no IPv{version} address", version=missing[0])
    return "" if versions[: len(wanted)] == wanted else said("has its IPv{version} address first", version=versions[0])


@rule("NET012", "error")
def host_families(cluster: Cluster) -> Iterator[Finding]:
    """
    A host's addresses are not of the cluster's families.

    Why it hurts: the first address is the node's, for the kubelet and etcd; it must be of the family that podSubnet names first, and a
    dual-stack node that lacks one family gets no pods of it.

    Example: `podSubnet: 10.244.0.0/16,fd00:10:244::/56` with `address: 192.168.1.25/24` alone.

    Use instead: one address of each family, in podSubnet's order: `address: [192.168.1.25/24, fd00:192:168:1::25/64]`.

    Source: kubelet --node-ip; Kubernetes, IPv4/IPv6 dual-stack (nodes need addresses of both families).
    """
    for host in cluster.hosts:
        wrong = _wrong_families(cluster, host)
        if wrong:
            order = _in_order(dict.fromkeys(cluster.ip_versions))
            yield Finding(
                ("hosts", host.index, "address"),
                said("{host} {wrong}", host=host.label(), wrong=wrong),
                said("write one address a family, {order}, as in podSubnet", order=order),
                related=(Related(PODS, "the cluster's families"),),
            )


@rule("NET013", "error")
def subnet_families(cluster: Cluster) -> Iterator[Finding]:
    """
    The pod and service networks are of different families.

    Why it hurts: kubeadm refuses two networks of one family; where the two keys differ, services get addresses that no pod can answer
    with, and the node's family is ambiguous.

    Example: `podSubnet: 10.244.0.0/16,fd00:10:244::/56` with `serviceSubnet: 10.96.0.0/16`.

    Use instead: the same families in the same order in both.

    Source: kubeadm's ValidateIPNetFromString (one of each family); Kubernetes, IPv4/IPv6 dual-stack.
    """
    pods, services = ([n.version for n in s] for s in (cluster.pod_subnets, cluster.service_subnets))
    twice = False
    for versions, path in ((pods, PODS), (services, SERVICES)):
        if len(set(versions)) != len(versions):
            twice = True
            yield Finding(
                path,
                said("{key} has two IPv{version} networks", key=path[-1], version=versions[0]),
                "write one network, or one of each family",
            )
    if not twice and pods != services:
        yield Finding(
            SERVICES,
            said("serviceSubnet is {services}, podSubnet is {pods}", services=_in_order(services), pods=_in_order(pods)),
            "write the same families in the same order",
            related=(Related(PODS, "podSubnet"),),
        )


@rule("NET016", "error")
def extra_hosts(cluster: Cluster) -> Iterator[Finding]:
    """
    An extraHosts entry for a name that has an address already.

    Why it hurts: the hosts file then has two addresses for one name, and the resolver takes the one that stands first; for a host or the
    endpoint that is the wrong one on some of them.

    Example: `extraHosts: [{name: master-1, address: 192.168.1.99}]`.

    Use instead: names that the inventory doesn't know by itself, each once an address family.

    Source: hosts(5); checklist row 42.
    """
    owners = {h.name.lower(): h.label() for h in cluster.hosts} | dict.fromkeys(LOCAL_NAMES, said("the loopback address"))
    if cluster.endpoint is not None:
        owners[cluster.endpoint.name] = "controlPlaneEndpoint"
    seen: dict[tuple[str, bool], int] = {}
    for index, (name, address) in enumerate(cluster.extra_hosts):
        first = seen.setdefault((name, ":" in address), index)
        owner = owners.get(name) or (f"extraHosts[{first}]" if first != index else "")
        if owner:
            yield Finding(
                ("cluster", "extraHosts", index, "name"),
                said("extraHosts[{index}]: {name} is the name of {owner}", index=index, name=name, owner=owner),
                "remove one of the two",
            )


@rule("NET017", "error")
def special_networks(cluster: Cluster) -> Iterator[Finding]:
    """
    A pod or service network in a range that is never routed.

    Why it hurts: kernels drop or keep for themselves what goes to loopback, link-local and multicast addresses.

    Example: `serviceSubnet: 169.254.0.0/16`.

    Use instead: private networks: 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, fd00::/8.

    Source: RFC 6890; Calico refuses pools in the link-local range (projectcalico/calico#1580).
    """
    for networks, path in ((cluster.pod_subnets, PODS), (cluster.service_subnets, SERVICES)):
        for network in networks:
            for special, what in _SPECIAL:
                if overlap(network, special):
                    yield Finding(
                        path,
                        said("{key} {network} lies in {special}, {what}", key=path[-1], network=network, special=special, what=what),
                        "take a private network such as 10.244.0.0/16",
                    )


@rule("NET020", "warning")
def nested_networks(cluster: Cluster) -> Iterator[Finding]:
    """
    One host's network holds another's.

    Why it hurts: one of the prefixes is wrong. The host with the wide one takes the hosts of the others for neighbours and asks for them
    by ARP, in vain where a router stands between; to them its answers don't come back.

    Example: `address: 10.1.0.14/16` beside hosts at `10.1.2.11/24`.

    Use instead: the prefix that `ip address` shows on that host; a prefix of /31, /32, /127 or /128 says that no network is meant.

    Source: RFC 1122, section 3.3.1.1 (local and remote destinations).
    """
    spans = sorted(
        ((p.network.version, p.network.first, p.network.prefixlen), p.network.last, index, p)
        for index, p in enumerate(host_networks(cluster))
        if p.network.prefixlen < (31 if p.network.version == 4 else 127)
    )
    inner: dict[Path, list[Place]] = {}
    outer: tuple[int, int, Place] | None = None
    for (version, first, _), last, _, place in spans:
        if outer is not None and outer[0] == version and first <= outer[1]:
            inner.setdefault(outer[2].path, [outer[2]]).append(place)
        else:
            outer = version, last, place
    for path, (wide, *others) in inner.items():
        label = others[0].label
        if len(others) > 1:
            label = said("{host} and {count} more", host=label, count=len(others) - 1)
        yield Finding(
            path,
            said(
                "network {network} of {place} holds {inner} of {label}",
                network=wide.network.cidr,
                place=wide.label,
                inner=others[0].network.cidr,
                label=label,
            ),
            "write the prefix that `ip address` shows on each of them",
            related=(Related(others[0].path, "a host in the smaller network"),),
        )


@rule("NET021", "warning")
def few_services(cluster: Cluster) -> Iterator[Finding]:
    """
    A service network for fewer than 256 services.

    Why it hurts: every service takes an address; when they have run out the API server refuses new ones ("failed to allocate"), and up to
    1.32 the network of a running cluster can't be changed.

    Example: `serviceSubnet: 10.96.0.0/26`: 62 services, of which the cluster has two itself.

    Use instead: `10.96.0.0/16`, or at least a /24 (IPv6: /120).

    Source: Kubernetes, Service ClusterIP allocation; KEP-1880 (ServiceCIDR, stable in 1.33); checklist row 4.
    """
    for network in cluster.service_subnets:
        bits = (32 if network.version == 4 else 128) - network.prefixlen
        if bits < 8:
            yield Finding(
                SERVICES,
                said("serviceSubnet {network} has {count} addresses", network=network, count=1 << bits),
                "write a larger one such as 10.96.0.0/16",
            )
