"""HSF: hosts files, by themselves, against each other, and against what kubeadm and keepalived have."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import PurePosixPath

from generator.handwritten import File, Files, Node, Word
from generator.handwritten.kubeadm import endpoint_host, plain_address, told, vips
from generator.lint import Found, essay, file_rule
from generator.wording import said

essay(
    "HSF001",
    """A line of the hosts file that nobody reads.

    Why it hurts: the C library passes over a line that doesn't begin with an address, without a word; the name is looked up in the DNS
    instead, or not found.

    Example: `192.168.1.25/24 master-1`, `master-1 192.168.1.25`, or an address without a name.

    Use instead: the address alone, then the names, divided by blanks or tabs.

    Source: hosts(5).
    """,
)


def _whole(files: Files) -> Iterator[tuple[File, Node]]:
    """Files that stand in the place of /etc/hosts; a fragment has another name."""
    return ((file, root) for file, root in files.of("hosts") if PurePosixPath(file.path).name == "hosts")


def _entries(root: Node) -> Iterator[tuple[Word, Word]]:
    """Each name with its address."""
    for node in root.children or ():
        for name in node.args:
            yield name, node.name


def _addresses(root: Node, name: str) -> list[Word]:
    return [address for one, address in _entries(root) if one.lower() == name]


def _cluster_names(files: Files) -> set[str]:
    """Names that mean the cluster on every host: hosts of the set, nodes as kubeadm names them, and the endpoint."""
    names = {*files.hosts, *(word for _, word in told(files, "nodeRegistration", "name"))}
    return {name.lower() for name in names} | {endpoint_host(word) for _, word in told(files, "controlPlaneEndpoint")}


@file_rule("HSF002", "warning")
def no_localhost(files: Files) -> Iterator[Found]:
    """
    A hosts file without localhost.

    Why it hurts: programs that ask for localhost then ask the DNS, or fail; etcd's and the kubelet's probes are among those that use it.

    Example: a file that lists the hosts of the cluster only, written over the system's.

    Use instead: add the cluster's lines below `127.0.0.1 localhost` and `::1 localhost`.

    Source: hosts(5); RFC 6761, section 6.3; checklist row 42.
    """
    for _, root in _whole(files):
        first = next(iter(root.children or ()), None)
        if first is not None and not _addresses(root, "localhost"):
            yield Found(first.name, "the hosts file has no localhost", "put 127.0.0.1 localhost and ::1 localhost above it")


@file_rule("HSF003", "warning")
def two_addresses(files: Files) -> Iterator[Found]:
    """
    A name with two addresses of one family.

    Why it hurts: some programs take the first line, others try both in any order; one half of them goes to the wrong host.

    Example: `192.168.1.25 master-1` and, left over from an earlier plan, `192.168.1.35 master-1`.

    Use instead: one line a name and family.

    Source: hosts(5); getaddrinfo(3).
    """
    for _, root in files.of("hosts"):
        first: dict[tuple[str, int], Word] = {}
        for node in root.children or ():
            value = ip_address(node.name)
            names = [] if value.is_loopback else [name for name in node.args if not name.lower().startswith(("ip6-", "localhost"))]
            for name in names:
                other = first.setdefault((name.lower(), value.version), node.name)
                if other != node.name and ip_address(other) != value:
                    message = said("{name} has two addresses: {first} and {second}", name=name[:80], first=other, second=node.name)
                    yield Found(name, message, "keep the line that is right", (other.related("the first address"),))


@file_rule("HSF004", "info")
def own_name_on_loopback(files: Files) -> Iterator[Found]:
    """
    A host of the cluster has a loopback address for its own name.

    Why it hurts: what asks for the host's name (`hostname -i`, scripts, programs that listen by name) gets 127.0.1.1 and tells the others
    that; the kubelet falls back to the address of the default route, which may be another one than is meant.

    Example: `127.0.1.1 master-1`, as Debian's installer writes it.

    Use instead: the host's own address, and node-ip for the kubelet.

    Source: Debian Reference, *The hostname resolution*; kubernetes/website#43862; checklist row 48.
    """
    endpoints = {endpoint_host(word) for _, word in told(files, "controlPlaneEndpoint")}
    for file, root in files.of("hosts"):
        for node in root.children or ():
            own = {file.host.lower()} if node.name != "127.0.1.1" else {name.lower() for name in node.args} - {"localhost"}
            name = next((name for name in node.args if name.lower() in own - endpoints), None)
            if name is not None and ip_address(node.name).is_loopback:
                yield Found(name, said("{name} is {address} to itself", name=name[:80], address=node.name), "write the host's own address")


@file_rule("HSF005", "error")
def endpoint_missing(files: Files) -> Iterator[Found]:
    """
    The hosts file doesn't have the endpoint's name.

    Why it hurts: a name without a dot is hardly in any DNS; kubeadm, the kubelet and kubectl on this host then find no API server.

    Example: `controlPlaneEndpoint: backend:16443`, and a hosts file with all masters and nodes but no backend.

    Use instead: a line with the VIP and the name, on every host, before kubeadm init.

    Source: kubeadm, creating highly available clusters; checklist rows 3 and 42.
    """
    endpoints = [word for _, word in told(files, "controlPlaneEndpoint")]
    host = endpoint_host(endpoints[0]) if endpoints else ""
    if not host or "." in host or "$" in host or plain_address(host):
        return
    for _, root in _whole(files):
        others = [address for _, address in _entries(root) if not ip_address(address).is_loopback and not ip_address(address).is_multicast]
        if len(others) > 1 and not _addresses(root, host):
            message = said("endpoint name {name} is not in the hosts file", name=host[:80])
            yield Found(others[0], message, "add a line with the VIP and the name", (endpoints[0].related("the endpoint"),))


@file_rule("HSF006", "error")
def endpoint_elsewhere(files: Files) -> Iterator[Found]:
    """
    The endpoint's name leads past the VIP.

    Why it hurts: keepalived moves an address that nobody on this host uses; the cluster hangs on the one host that the name leads to.

    Example: `192.168.1.25 backend` where keepalived holds 192.168.1.31.

    Use instead: the VIP's line; an entry that was made for the first init is to be changed after it.

    Source: kubeadm, creating highly available clusters; checklist row 42.
    """
    held = vips(files)
    if not held:
        return
    for host in dict.fromkeys(endpoint_host(word) for _, word in told(files, "controlPlaneEndpoint")):
        for _, root in files.of("hosts"):
            found = _addresses(root, host)
            # A load balancer of its own on every host answers at its loopback address.
            if found and not any(plain_address(address) in held or ip_address(address).is_loopback for address in found):
                vip = next(iter(held))
                message = said("endpoint name {name} leads to {address}, the VIP is {vip}", name=host[:80], address=found[0], vip=vip)
                yield Found(found[0], message, "write the VIP", (held[vip][1].related("keepalived's address"),))


@file_rule("HSF007", "error")
def hosts_disagree(files: Files) -> Iterator[Found]:
    """
    Two hosts have different addresses for one host of the cluster.

    Why it hurts: one of them goes to the wrong host or to nobody; joins, etcd and certificates then fail on this host alone.

    Example: `192.168.1.26 master-2` on one host, 192.168.1.36 on another.

    Use instead: the same lines on every host.

    Source: hosts(5); checklist rows 1 and 42.
    """
    first: dict[tuple[str, int], tuple[File, Word]] = {}
    names = _cluster_names(files)
    for file, root in files.of("hosts"):
        for name, address in _entries(root):
            if name.lower() not in names or ip_address(address).is_loopback:
                continue
            version = ip_address(address).version
            owner, other = first.setdefault((name.lower(), version), (file, address))
            if owner is not file and plain_address(other) != plain_address(address):
                message = said("{name} is {address} here, {other} on another host", name=name[:80], address=address, other=other)
                yield Found(address, message, "write the same on every host", (other.related("the other address"),))


@file_rule("HSF008", "warning")
def host_missing(files: Files) -> Iterator[Found]:
    """
    A host of the set is missing in a hosts file that lists the others.

    Why it hurts: without the DNS this host can't be reached by its name from there: logs, exec and copies by name fail.

    Example: master-3 was added to the cluster, and the hosts file of master-1 still has two names.

    Use instead: the same lines on every host.

    Source: hosts(5); kubernetes/kubeadm, preflight (*Hostname*); checklist row 42.
    """
    for _, root in _whole(files):
        listed = {name.lower().partition(".")[0] for name, _ in _entries(root)}
        known = [host for host in files.hosts if host.lower().partition(".")[0] in listed]
        if len(known) < 2:
            continue
        place = next(address for name, address in _entries(root) if name.lower().partition(".")[0] == known[0].lower().partition(".")[0])
        for host in files.hosts:
            if host not in known:
                yield Found(place, said("the hosts file doesn't have {host}", host=host[:80]), "add its line")
