"""HST: the hosts by themselves: names, addresses, interfaces."""

import re
from collections.abc import Iterator

from netaddr import IPAddress

from generator.diagnostics import Related
from generator.lint import Finding, rule
from generator.lint.places import LOCAL_NAMES, grouped, host_places, several, unusable
from generator.model import Cluster, Host
from generator.wording import said

# Labels of RFC 1123, in lower case; the whole is the value of a node label, which has at most 63 characters.
_NAME = re.compile(r"(?=.{1,63}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
# Interfaces that container networks make; ``lo`` carries no VRRP.
_FOREIGN = re.compile(r"lo|(docker|cni|kube-ipvs|tunl)[0-9]+|(flannel|flannel-v6|vxlan|vxlan-v6)\..*|(cali|veth).*|br-[0-9a-f]{12}")


@rule("HST001", "error")
def duplicate_name(cluster: Cluster) -> Iterator[Finding]:
    """
    Two hosts have one name.

    Why it hurts: the second node takes over the first one's Node object, its etcd member and its folder in the bundle.

    Example: `{name: master-2, ...}` twice, or `master-2` and `Master-2`.

    Use instead: a name of its own for every host; letter case makes no difference in DNS or on FAT media.

    Source: kubesphere/kubekey#1845; kubeadm, installation (a host name of its own for every node).
    """
    first: dict[str, Host] = {}
    for host in cluster.hosts:
        other = first.setdefault(host.name.lower(), host)
        if other is not host:
            yield Finding(
                ("hosts", host.index, "name"),
                said("{host} has the name of {other}", host=host.label(), other=other.label()),
                "give every host a name of its own",
                related=(Related(("hosts", other.index, "name"), "the first of them"),),
            )


@rule("HST002", "error")
def duplicate_address(cluster: Cluster) -> Iterator[Finding]:
    """
    Two hosts have one address.

    Why it hurts: both answer ARP for it and connections end at either; etcd gets two members with one peer URL.

    Example: two hosts with `address: 192.168.1.25/24`.

    Use instead: the address that each host really has.

    Source: kubesphere/kubekey#1845; RFC 5227, section 1.
    """
    first: dict[tuple[int, int], Host] = {}
    for host in cluster.hosts:
        for index, address in enumerate(host.addresses):
            other = first.setdefault((address.version, address.value), host)
            if other is not host:
                yield Finding(
                    host_places(cluster, host)[index].path,
                    said("{host} and {other} have one address {address}", host=host.label(), other=other.label(), address=address.ip),
                    "write the address that each of them really has",
                    related=(Related(("hosts", other.index, "address"), "the first of them"),),
                )


@rule("HST003", "error")
def bad_name(cluster: Cluster) -> Iterator[Finding]:
    """
    A host name is none for Kubernetes.

    Why it hurts: the name becomes the Node object, a label value, an etcd member and a folder of the bundle; the kubelet can't register
    with another form, and a name with `/` or `..` would leave the bundle.

    Example: `Master_1`, `node-1.`, a name of 64 characters.

    Use instead: lower-case letters, digits, hyphens, and dots between the parts, at most 63 characters in all.

    Source: kubeadm's ValidateNodeRegistrationOptions (DNS-1123 subdomain); kubernetes.io/hostname is a label value of at most 63
    characters (awslabs/amazon-eks-ami#618).
    """
    for host in cluster.hosts:
        if not _NAME.fullmatch(host.name):
            shown = host.name if len(host.name) <= 63 else said("of {count} characters", count=len(host.name))
            yield Finding(
                ("hosts", host.index, "name"),
                said("host name {shown} can't be a node's", shown=shown),
                "use lower-case letters, digits, hyphens and dots, at most 63 characters, a letter or digit at each end",
            )


@rule("HST004", "error")
def reserved_name(cluster: Cluster) -> Iterator[Finding]:
    """
    A host is called localhost.

    Why it hurts: the generated hosts file would resolve the loopback name to a network address, and every program that trusts localhost
    would talk to that host.

    Example: `{name: localhost, ...}`.

    Use instead: the host's own name.

    Source: RFC 6761, section 6.3.
    """
    for host in cluster.hosts:
        if host.name.lower() in LOCAL_NAMES:
            yield Finding(
                ("hosts", host.index, "name"),
                said("hosts[{index}] is called {name}", index=host.index, name=host.name),
                "write the host's own name",
            )


@rule("HST005", "error")
def unusable_address(cluster: Cluster) -> Iterator[Finding]:
    """
    An address that no host can have.

    Why it hurts: the kubelet refuses loopback, multicast, link-local and unspecified addresses as node addresses, and the first and last
    address of a network belong to the network itself.

    Example: `address: 192.168.1.0/24`, `address: 192.168.1.255/24`, `address: fe80::25/64`.

    Use instead: the address that `ip address` shows on the host; where the prefix is wrong, correct that.

    Source: kubelet, validateNodeIP (pkg/kubelet/kubelet_node_status.go); RFC 1122, section 3.2.1.3; RFC 4291, section 2.6.1.
    """
    for host in cluster.hosts:
        for index, address in enumerate(host.addresses):
            why = unusable(address)
            if why:
                yield Finding(
                    host_places(cluster, host)[index].path,
                    said("{host} can't have {address}: it is {why}", host=host.label(), address=address, why=why),
                    "write the address that `ip address` shows on the host, with the prefix of its network",
                )


@rule("HST006", "warning")
def gateway_elsewhere(cluster: Cluster) -> Iterator[Finding]:
    """
    A gateway outside of the host's network.

    Why it hurts: a host reaches its gateway only within its own network, so either the gateway or the host's prefix is wrong; with the
    wrong prefix the VIP is out of reach too.

    Example: `address: 192.168.2.25/24` under `hostDefaults: {gateway: 192.168.1.1}`; `gateway: fd00::1` on hosts with IPv4 alone.

    Use instead: a `gateway` of its own on that host, of a family that it has.

    Source: RFC 1122, section 3.3.1.1.
    """
    for path, hosts in grouped(cluster, cluster.hosts, "gateway").items():
        for gateway in map(IPAddress, hosts[0].settings.gateways):
            value, version = int(gateway), gateway.version
            near = [h for h in hosts if any(a.version == version for a in h.addresses)]
            far = [h for h in near if not any(a.version == version and a.first <= value <= a.last for a in h.addresses)]
            # A load balancer may lack the second family of a shared default; nobody has a use for a family that all lack.
            if not near:
                yield Finding(
                    path,
                    said("gateway {gateway}: no IPv{version} address on {hosts}", gateway=gateway, version=version, hosts=several(hosts)),
                    "remove it, or add such an address",
                )
            elif far:
                yield Finding(
                    path,
                    said("gateway {gateway} is outside of the network of {hosts}", gateway=gateway, hosts=several(far)),
                    "give such a host a gateway of its own",
                )


@rule("HST007", "error")
def own_gateway(cluster: Cluster) -> Iterator[Finding]:
    """
    A host is its own gateway.

    Why it hurts: it would send all that leaves its network to itself.

    Example: `{address: 192.168.1.1/24, gateway: 192.168.1.1}`.

    Use instead: the router's address; or another address for the host, where the router really has this one.

    Source: RFC 1122, section 3.3.1.
    """
    for hosts in grouped(cluster, cluster.hosts, "gateway").values():
        gateways = {(g.version, int(g)) for g in map(IPAddress, hosts[0].settings.gateways)}
        for host in hosts if gateways else ():
            for index, address in enumerate(host.addresses):
                if (address.version, address.value) in gateways:
                    yield Finding(
                        host_places(cluster, host)[index].path,
                        said("{host} has the address of its gateway {address}", host=host.label(), address=address.ip),
                        "write the router's address as gateway, or the host's own as address",
                    )


@rule("HST008", "error")
def no_interface(cluster: Cluster) -> Iterator[Finding]:
    """
    A host has no interface.

    Why it hurts: keepalived, the CNI and the preflight checks name the interface that carries the address; a guess takes another one as
    soon as the host has two.

    Example: `hostDefaults: {os: rocky-9}` with hosts that have no `interface` either.

    Use instead: `interface:` in hostDefaults, and on every host whose interface has another name.

    Source: keepalived.conf(5), *interface* ("interface ens160 doesn't exist", exit status 5).
    """
    hosts = [h for h in cluster.hosts if not h.settings.interface]
    if hosts:
        yield Finding(
            ("hosts", hosts[0].index),
            said("{hosts}: no interface", hosts=several(hosts)),
            "add `interface:` to hostDefaults or to the host",
        )


@rule("HST009", "error")
def no_os(cluster: Cluster) -> Iterator[Finding]:
    """
    A host has no operating system.

    Why it hurts: package names, the path of nginx's stream module and its user differ between families; there is no default that is right.

    Example: `hostDefaults: {interface: ens160}` with hosts that have no `os` either.

    Use instead: `os:` in hostDefaults or on the host, such as `rocky-9` or `debian-12`.

    Source: checklist row 5 (nginx-mod-stream or libnginx-mod-stream).
    """
    hosts = [h for h in cluster.hosts if not h.settings.os]
    if hosts:
        yield Finding(
            ("hosts", hosts[0].index),
            said("{hosts}: no os", hosts=several(hosts)),
            "add `os:` to hostDefaults or to the host, such as rocky-9",
        )


@rule("HST010", "error")
def foreign_interface(cluster: Cluster) -> Iterator[Finding]:
    """
    An interface that a container network makes.

    Why it hurts: it isn't there when the host boots, or it reaches nobody; a VIP on `lo` answers no ARP, and one on `cni0` is inside of
    the pod network.

    Example: `interface: docker0`, `interface: lo`.

    Use instead: the interface that carries the host's address, such as `ens160`.

    Source: keepalived.conf(5), *interface*; the names are those of docker, flannel and Calico.
    """
    for path, hosts in grouped(cluster, cluster.hosts, "interface").items():
        name = hosts[0].settings.interface
        if _FOREIGN.fullmatch(name):
            yield Finding(
                path,
                said("interface {name} can't carry the address of {hosts}", name=name, hosts=several(hosts)),
                "name the interface of the host's network",
            )


@rule("HST017", "warning")
def silent_time_server(cluster: Cluster) -> Iterator[Finding]:
    """
    A time server that answers nobody.

    Why it hurts: step 20 makes that host's chrony a client like all others, one that serves no time; every host that asks it goes by its
    own clock, and certificates and etcd want one clock.

    Example: `hostDefaults: {ntpServers: [192.168.1.25]}` where master-1 is 192.168.1.25.

    Use instead: the site's time server; or `ntpServers: []` on that host, whose own chrony then `allow`s the others.

    Source: chrony.conf(5), *allow* (no client may connect by default).
    """
    owners = {str(a.ip): h for h in cluster.hosts for a in h.addresses} | {h.name.lower(): h for h in cluster.hosts}
    for path, hosts in grouped(cluster, cluster.hosts, "ntpServers").items():
        for index, server in enumerate(hosts[0].settings.ntp_servers):
            owner = owners.get(server.lower())
            if owner is not None and owner.settings.ntp_servers:
                yield Finding(
                    (*path, index),
                    said(
                        "time server {server} of {hosts} is {owner}, a client itself",
                        server=server,
                        hosts=several(hosts),
                        owner=owner.label(),
                    ),
                    said("name the site's time server, or write `ntpServers: []` on {owner}", owner=owner.label()),
                )
