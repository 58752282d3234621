"""KKY: KubeKey's config.yaml (kubekey.kubesphere.io/v1alpha2)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from generator.handwritten import Document, Files, Word, boolean
from generator.handwritten.kubeadm import value
from generator.lint import Found, file_rule
from generator.wording import said

_RANGE = re.compile(r"(.*)\[([0-9]{1,6}):([0-9]{1,6})\](.*)")
# KubeKey makes clusters of hundreds of hosts; what goes on for longer is a slip of the pen.
_LONGEST = 5_000
# A cluster has one such file.
_MOST = 50


def _clusters(files: Files) -> Iterator[Document]:
    return islice((one for _, one in files.documents("Cluster") if one.api == "kubekey.kubesphere.io/v1alpha2"), _MOST)


def _hosts(document: Document) -> dict[str, Word]:
    hosts = document.get("spec", "hosts")
    names = (host.get("name") for host in hosts if isinstance(host, dict)) if isinstance(hosts, list) else ()
    return {str(name): name for name in names if isinstance(name, Word)}


def _members(document: Document, *roles: str) -> Iterator[tuple[str, Word]]:
    """Host names of *roles*, ranges such as ``node[1:3]`` written out, each with its word."""
    return islice(_written_out(document, roles), _LONGEST)


def _written_out(document: Document, roles: tuple[str, ...]) -> Iterator[tuple[str, Word]]:
    for role in roles:
        group = document.get("spec", "roleGroups", role)
        for word in group if isinstance(group, list) else ():
            match = _RANGE.fullmatch(word[:300]) if isinstance(word, Word) else None
            if match:
                yield from ((f"{match[1]}{number}{match[4]}", word) for number in range(int(match[2]), int(match[3]) + 1))
            elif isinstance(word, Word):
                yield str(word), word


@file_rule("KKY001", "info")
def etcd_of_kubekey(files: Files) -> Iterator[Found]:
    """
    KubeKey's etcd runs as a service of the system.

    Why it hurts: it needn't. `kubekey` is KubeKey v3's default and not obsolete: etcd as a binary under systemd, which kubeadm sees as an
    external one. Its health check speaks etcd's API version 2 and fails with a newer etcdctl in the path or data of an earlier attempt;
    that version is gone in etcd 3.6.

    Example: `etcd: {type: kubekey}`, and "etcd health check failed" at the second attempt.

    Use instead: `kubeadm` for etcd as static pods of the control planes, as kubeadm makes them; `external` for an etcd that is there
    already; `kubekey` where systemd is wanted, with the data and certificates of earlier attempts removed first.

    Source: kubesphere/kubekey, docs/config-example.md of v3; kubesphere/kubekey#2464, #2244, #2316, #1129; checklist row 72.
    """
    for document in _clusters(files):
        kind = value(document, "spec", "etcd", "type")
        if kind == "kubekey":
            message = "etcd.type kubekey makes etcd a service of systemd, not static pods of kubeadm"
            yield Found(kind, message, "keep it, or write kubeadm for static pods; it is not obsolete")


@file_rule("KKY002", "error")
def unknown_etcd(files: Files) -> Iterator[Found]:
    """
    A type of etcd that KubeKey doesn't have.

    Why it hurts: KubeKey v3 finds no way to make etcd and ends, or makes a cluster without one.

    Example: `etcd: {type: internal}`, which is the language of KubeKey v4.

    Use instead: `kubekey`, `kubeadm` or `external`.

    Source: kubesphere/kubekey, docs/config-example.md of v3; checklist row 72.
    """
    for document in _clusters(files):
        kind = value(document, "spec", "etcd", "type")
        if kind and kind not in ("kubekey", "kubeadm", "external"):
            yield Found(kind, said("KubeKey v3 has no etcd.type {kind}", kind=kind[:60]), "write kubekey, kubeadm or external")


@file_rule("KKY003", "error")
def undefined_host(files: Files) -> Iterator[Found]:
    """
    A role is given to a host that isn't there.

    Why it hurts: KubeKey ends, or leaves the host out without a word: a control plane less than planned.

    Example: `roleGroups: {etcd: [master1, master3]}` where hosts lists master1 and master2 twice.

    Use instead: a name from hosts; `node[1:3]` stands for node1, node2 and node3.

    Source: kubesphere/kubekey#1845; checklist row 1.
    """
    for document in _clusters(files):
        hosts = _hosts(document)
        reported: set[tuple[int, int]] = set()
        for name, word in _members(document, "etcd", "master", "control-plane", "worker", "registry"):
            place = (word.spot.at.line, word.spot.at.column)
            if hosts and name not in hosts and place not in reported:
                reported.add(place)
                yield Found(word, said("host {name} has a role and is not in hosts", name=name[:80]), "add the host, or correct the name")


@file_rule("KKY004", "warning")
def password(files: Files) -> Iterator[Found]:
    """
    A password of a host or registry in KubeKey's file.

    Why it hurts: whoever reads the file is root on that host; a copy in a repository stays there.

    Example: `- {name: master1, address: 192.168.1.25, user: root, password: Qcloud@123}`.

    Use instead: `privateKeyPath` with a key that an agent or a passphrase protects; for registries a file that isn't shared.

    Source: kubesphere/kubekey, docs/config-example.md (*privateKeyPath*).
    """
    for document in _clusters(files):
        hosts = document.get("spec", "hosts")
        registries = document.get("spec", "registry", "auths")
        held: list[Any] = [*(hosts if isinstance(hosts, list) else ()), *(registries.values() if isinstance(registries, dict) else ())]
        words = (one.get("password") for one in held if isinstance(one, dict))
        for word in islice((word for word in words if isinstance(word, Word) and word), 20):
            yield Found(word, "a password stands in the file", "use privateKeyPath for hosts, and a file that isn't shared for registries")


@file_rule("KKY005", "error")
def no_balancer(files: Files) -> Iterator[Found]:
    """
    Several control planes, and nothing that leads to all of them.

    Why it hurts: KubeKey prints a warning and lets the endpoint's name lead to the first control plane: with that host the API is gone for
    all, and nodes can't be moved to another endpoint without new certificates.

    Example: three hosts below `control-plane`, and `controlPlaneEndpoint: {domain: lb.kubesphere.local, address: ""}`.

    Use instead: `address` with the VIP of load balancers, or `internalLoadbalancer: haproxy` or `kube-vip`.

    Source: kubesphere/kubekey v3.1.12, default.go; KubeSphere, *Set up an HA cluster*.
    """
    for document in _clusters(files):
        planes = {name for name, _ in _members(document, "master", "control-plane")}
        endpoint = ("spec", "controlPlaneEndpoint")
        balanced = any(value(document, *endpoint, key) for key in ("address", "internalLoadbalancer"))
        if len(planes) > 1 and not balanced and not boolean(document.get(*endpoint, "externalDNS")):
            message = said("{count} control planes and no load balancer", count=len(planes))
            yield Found(document.place(*endpoint), message, "set address to a VIP, or internalLoadbalancer to haproxy or kube-vip")


@file_rule("KKY006", "error")
def two_balancers(files: Files) -> Iterator[Found]:
    """
    An address beside KubeKey's own haproxy.

    Why it hurts: KubeKey prints one line, does nothing and ends with exit status 0, so a script goes on as if there were a cluster.

    Example: `internalLoadbalancer: haproxy` with `address: 192.168.1.31`.

    Use instead: `address: ""` with haproxy; or the address of your load balancers and no internalLoadbalancer.

    Source: kubesphere/kubekey v3.1.12, default.go.
    """
    for document in _clusters(files):
        endpoint = ("spec", "controlPlaneEndpoint")
        kind, address = value(document, *endpoint, "internalLoadbalancer"), value(document, *endpoint, "address")
        if kind == "haproxy" and address:
            message = said("KubeKey takes no address {address} beside haproxy", address=address[:60])
            yield Found(address, message, "remove one of the two", (kind.related("the load balancer"),))


@file_rule("KKY007", "warning")
def stacked_elsewhere(files: Files) -> Iterator[Found]:
    """
    Hosts for etcd that are not the control planes, with etcd.type kubeadm.

    Why it hurts: kubeadm makes etcd on every control plane and nowhere else; what the file says of etcd's hosts is not what comes of it.

    Example: `etcd: {type: kubeadm}` with `roleGroups: {etcd: [node1], control-plane: [master1, master2, master3]}`.

    Use instead: the same hosts in both groups.

    Source: kubesphere/kubekey v3, docs/config-example.md; kubeadm, *Options for highly available topology* (stacked).
    """
    for document in _clusters(files):
        planes = {name for name, _ in _members(document, "master", "control-plane")}
        members = dict(_members(document, "etcd"))
        if value(document, "spec", "etcd", "type") == "kubeadm" and members and planes and members.keys() != planes:
            wrong = next((word for name, word in members.items() if name not in planes), document.place("spec", "roleGroups", "etcd"))
            yield Found(wrong, "etcd's hosts are not the control planes, where kubeadm makes it", "list the control planes below etcd")
