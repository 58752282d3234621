"""NET: what the site has already, its servers, names and public addresses, against what the cluster takes for itself."""

from collections.abc import Iterator

from netaddr import IPNetwork, valid_ipv4, valid_ipv6

from generator.diagnostics import Path, Related
from generator.lint import Finding, rule
from generator.lint.places import grouped, overlap
from generator.model import Cluster
from generator.wording import said

PODS: Path = ("cluster", "podSubnet")
SERVICES: Path = ("cluster", "serviceSubnet")
# RFC 1918, RFC 6598 (shared), and for documentation and benchmarks (RFC 5737, RFC 2544); rule NET017 speaks of what is never routed.
_NOT_PUBLIC = tuple(
    IPNetwork(text)
    for text in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "198.18.0.0/15",
        "192.0.2.0/24",
        "198.51.100.0/24",
        "203.0.113.0/24",
    )
)
_NEVER_ROUTED = tuple(IPNetwork(text) for text in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"))


def _servers(cluster: Cluster) -> Iterator[tuple[Path, str, str]]:
    """The servers outside of the cluster that its hosts ask: where they stand, what they are, name or address."""
    for path, hosts in grouped(cluster, cluster.hosts, "ntpServers").items():
        for index, server in enumerate(hosts[0].settings.ntp_servers):
            yield (*path, index), said("time server"), server
    if cluster.registry is not None:
        yield ("cluster", "registry", "address"), said("the site's registry"), cluster.registry.host.partition(":")[0]
    for path, hosts in grouped(cluster, cluster.hosts, "proxy").items():
        proxy = hosts[0].settings.proxy
        if proxy is not None:
            for key, url in {"httpProxy": proxy.http, "httpsProxy": proxy.https}.items():
                # Unset, the second one is the first.
                if key == "httpProxy" or url != proxy.http:
                    yield (*path, key), said("proxy"), url.partition("://")[2].partition("/")[0].partition(":")[0]


@rule("NET022", "error")
def servers_in_cluster_networks(cluster: Cluster) -> Iterator[Finding]:
    """
    A server of the site in the pod or service network.

    Why it hurts: once the CNI runs, every node sends what is for that address into the pod network, and kube-proxy rewrites it when a
    service gets it: the registry, the proxy or the time server is there until the cluster is.

    Example: `ntpServers: [10.96.0.5]` with `serviceSubnet: 10.96.0.0/12`; `extraHosts: [{name: registry, address: 10.244.0.5}]`.

    Use instead: a pod and a service network that the site doesn't use.

    Source: kubernetes/kubeadm#3312; aws/eks-anywhere#2086; checklist rows 4 and 43.
    """
    pods = (said("pod"), PODS, cluster.pod_subnets)
    services = (said("service"), SERVICES, cluster.service_subnets)
    found = [(path, what, text, [pods, services]) for path, what, text in _servers(cluster)]
    for index, (name, address) in enumerate(cluster.extra_hosts):
        # The address of a service may be meant here: a registry inside of the cluster.
        found.append((("cluster", "extraHosts", index, "address"), name, address, [pods]))
    for path, what, text, taken in found:
        for kind, other, networks in taken if valid_ipv4(text) or valid_ipv6(text) else ():
            for network in networks:
                if overlap(network, IPNetwork(text)):
                    yield Finding(
                        path,
                        said(
                            "{what} {address} lies in the {kind} network {network}",
                            what=what,
                            address=text,
                            kind=kind,
                            network=network.cidr,
                        ),
                        said("choose a {kind} network that the site doesn't use", kind=kind),
                        related=(Related(other, said("the {what} network", what=kind)),),
                    )


@rule("NET023", "warning")
def names_in_cluster_domain(cluster: Cluster) -> Iterator[Finding]:
    """
    A name of the site in the cluster's DNS domain.

    Why it hurts: for its domain CoreDNS asks nobody else; to every pod such a name, and all others of the site's domain, don't exist.

    Example: `dnsDomain: example.net` with `controlPlaneEndpoint: {name: api.example.net}`.

    Use instead: `cluster.local`, or a domain of the cluster's own such as `k8s.example.net`.

    Source: CoreDNS, plugin kubernetes (authoritative for its zones; *fallthrough* is for reverse zones in kubeadm's Corefile).
    """
    names: list[tuple[Path, str]] = [(("hosts", host.index, "name"), host.name.lower()) for host in cluster.hosts]
    names += [(("cluster", "extraHosts", index, "name"), name.lower()) for index, (name, _) in enumerate(cluster.extra_hosts)]
    if cluster.endpoint is not None:
        names.insert(0, (("controlPlaneEndpoint", "name"), cluster.endpoint.name))
    inside = [(path, name) for path, name in names if f".{name}".endswith(f".{cluster.dns_domain}")]
    if inside:
        path, name = inside[0]
        yield Finding(
            path,
            said("{name} lies in the cluster's DNS domain {domain}", name=name, domain=cluster.dns_domain),
            "give the cluster a DNS domain of its own, such as cluster.local",
            related=(Related(("cluster", "dnsDomain"), "the cluster's domain"),),
        )


@rule("NET024", "info")
def public_networks(cluster: Cluster) -> Iterator[Finding]:
    """
    A pod or service network of public addresses.

    Why it hurts: whoever has these addresses on the internet can't be reached from the cluster; often it is a slip, such as 172.168 for
    172.16.

    Example: `podSubnet: 172.168.0.0/16`; `serviceSubnet: 192.167.0.0/16`.

    Use instead: nothing, where the addresses are yours or nobody's concern; else 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16.

    Source: RFC 1918; RFC 6598.
    """
    for networks, path in ((cluster.pod_subnets, PODS), (cluster.service_subnets, SERVICES)):
        for network in networks:
            if network.version == 4 and not any(overlap(network, other) for other in (*_NOT_PUBLIC, *_NEVER_ROUTED)):
                yield Finding(
                    path,
                    said("{key} {network} has public addresses", key=path[-1], network=network.cidr),
                    "nothing to do if they are meant; else take a private network such as 10.244.0.0/16",
                )
