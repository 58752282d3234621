"""
KubeKey's ``config.yaml`` (v1alpha2) as claims.

Facts: kubesphere/kubekey v3.1 ``docs/config-example.md`` and ``cmd/kk/apis/kubekey/v1alpha2`` (types and defaults).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from generator.adopt.claims import CONTROL_PLANE, MAX_MACHINES, WORKER, Claims, address
from generator.adopt.kubernetes import NAME, release
from generator.handwritten import Document, Files, Word, boolean, integer

_RUNTIMES = {"docker": "cri-dockerd", "containerd": "containerd", "crio": "cri-o"}


def config(files: Files, claims: Claims) -> None:
    """Every object of the kind; a cluster has one."""
    for _, document in files.documents("Cluster"):
        if document.api.startswith("kubekey.kubesphere.io/"):
            # KubeKey's own defaults hold where it alone installs the cluster.
            alone = ("cluster",) not in claims.told
            _hosts(document, claims)
            _endpoint(document, claims)
            _kubernetes(document, claims, alone=alone)
            _network(document, claims, alone=alone)
            _rest(document, claims)


def _words(value: Any) -> list[Word]:
    return [item for item in value if isinstance(item, Word)] if isinstance(value, list) else []


def _members(words: list[Word]) -> Iterator[tuple[str, Word]]:
    """Names of a role's list, ranges such as ``node[1:3]`` written out."""
    for word in words:
        found = re.fullmatch(r"([^\[\]]*)\[([0-9]{1,6}):([0-9]{1,6})\]([^\[\]]*)", word)
        if found is None:
            yield str(word), word
        else:
            first, last = int(found[2]), int(found[3])
            width = len(found[2]) if found[2].startswith("0") else 0
            yield from ((f"{found[1]}{number:0{width}d}{found[4]}", word) for number in range(first, last + 1))


def _hosts(document: Document, claims: Claims) -> None:
    hosts = document.get("spec", "hosts")
    for host in hosts if isinstance(hosts, list) else ():
        name = host.get("name") if isinstance(host, dict) else None
        if isinstance(name, Word) and name:
            _host(host, name, claims)
    groups = document.get("spec", "roleGroups")
    groups = groups if isinstance(groups, dict) else {}
    listed = {
        role: list(islice(_members(_words(groups.get(role))), MAX_MACHINES)) for role in ("control-plane", "master", "worker", "etcd")
    }
    planes = listed["control-plane"] or listed["master"]
    workers = {name for name, _ in listed["worker"]}
    for name, word in planes:
        machine = claims.machine(name)
        machine.plays(CONTROL_PLANE, word)
        if name in workers:
            # KubeKey takes the taint of control planes away from those that are workers too.
            machine.has("taints", [], word)
    for name, word in listed["worker"]:
        claims.machine(name).plays(WORKER, word)
    if planes:
        claims.complete = claims.complete or planes[0][1]
    if listed["etcd"] and {name for name, _ in listed["etcd"]} != {name for name, _ in planes}:
        claims.note("roleGroups.etcd, which differs from the control planes: an inventory has etcd on the control planes")


def _host(host: dict[str, Any], name: Word, claims: Claims) -> None:
    internal = host.get("internalAddress")
    text = internal if isinstance(internal, Word) and internal else host.get("address")
    machine = claims.machine(str(name), None, name)
    for piece in text.split(",") if isinstance(text, Word) else ():
        machine = claims.machine(str(name), address(piece.strip(), text), name)
    labels = host.get("labels")
    for key, value in labels.items() if isinstance(labels, dict) else ():
        machine.has(f"labels/{key}", str(value or ""), key)
    arch = host.get("arch")
    if isinstance(arch, Word) and arch not in ("amd64", "x86_64"):
        claims.note(f"{name}: arch {arch}; the payload is to be collected on a host of that kind")
    if any(isinstance(host.get(key), Word) for key in ("user", "password", "privateKeyPath")):
        claims.note("how KubeKey logs in (user, password, privateKeyPath): the bundle's steps run on each host itself")


def _endpoint(document: Document, claims: Claims) -> None:
    place = ("spec", "controlPlaneEndpoint")
    name, where, port = (document.get(*place, key) for key in ("domain", "address", "port"))
    vip = address(where, where) if isinstance(where, Word) else None
    own = vip is not None and claims.known_address(vip.text) is not None
    several = sum(machine.role.value == CONTROL_PLANE for machine in claims.machines) > 1
    if vip is not None and not own:
        claims.vips.append(vip)
    if several or (vip is not None and not own):
        claims.say(("controlPlaneEndpoint", "name"), str(name) if isinstance(name, Word) and name else "lb.kubesphere.local", name)
        number = integer(port) if isinstance(port, Word) else 6443
        claims.say(("controlPlaneEndpoint", "port"), number, port)
    internal = document.get(*place, "internalLoadbalancer")
    if isinstance(internal, Word) and internal:
        claims.note(f"controlPlaneEndpoint.internalLoadbalancer {internal}: keepalived and nginx of the bundle take its place")


def _kubernetes(document: Document, claims: Claims, *, alone: bool) -> None:
    place, cluster = ("spec", "kubernetes"), ("cluster",)
    claims.say(cluster, {}, document.place("kind"))

    def word(*below: str) -> Word | None:
        value = document.get(*place, *below)
        return value if isinstance(value, Word) and value else None

    version, domain, manager = word("version"), word("dnsDomain") or word("clusterName"), word("containerManager")
    claims.say((*cluster, "kubernetesVersion"), release(version or ""), version)
    for name in (word("clusterName"), document.get("metadata", "name")):
        if isinstance(name, Word) and NAME.fullmatch(name):
            claims.say((*cluster, "name"), str(name), name)
    if domain is not None and "." in domain:
        claims.say((*cluster, "dnsDomain"), str(domain), domain)
    claims.say((*cluster, "containerRuntime"), _RUNTIMES.get(manager or ("docker" if alone else "")), manager)
    mode = word("kubeProxyConfiguration", "mode") or word("proxyMode")
    claims.say((*cluster, "kubeProxy", "mode"), str(mode) if mode else "ipvs" if alone else None, mode)
    strict = word("kubeProxyConfiguration", "ipvs", "strictARP")
    claims.say((*cluster, "kubeProxy", "strictARP"), boolean(strict), strict)
    for number, san in enumerate(_words(document.get(*place, "apiserverCertExtraSans"))):
        claims.say((*cluster, "apiServer", "certSANs", number), str(san), san)
    for key in ("maxPods", "podPidsLimit"):
        claims.say(("hostDefaults", "kubelet", key), integer(word(key)), word(key))
    _arguments(document, claims)
    if document.get(*place, "featureGates"):
        claims.note("kubernetes.featureGates: gates of the components belong into their extraArgs")
    if alone and boolean(word("nodelocaldns")) is not False:
        claims.note("nodelocaldns: no part of an inventory")


def _arguments(document: Document, claims: Claims) -> None:
    """Flags of the components, and sizes of the nodes' pod networks, of which 24 and 64 are kubeadm's own."""
    place = ("spec", "kubernetes")
    lists = {
        "apiServer": (*place, "apiserverArgs"),
        "controllerManager": (*place, "controllerManagerArgs"),
        "scheduler": (*place, "schedulerArgs"),
        "etcd": ("spec", "etcd", "extraArgs"),
    }
    for component, where in lists.items():
        for flag, value, pair in _flags(document.get(*where)):
            if value.startswith("/"):
                claims.note(f"{component}'s flag {flag}: an inventory mounts no files for it")
            else:
                claims.say(("cluster", component, "extraArgs", flag), value, pair)
    for key, version, usual in (("nodeCidrMaskSize", 4, "24"), ("nodeCidrMaskSizeIPv6", 6, "64")):
        size = document.get(*place, key)
        if isinstance(size, Word) and size != usual:
            claims.say(("cluster", "controllerManager", "extraArgs", f"node-cidr-mask-size-ipv{version}"), str(size), size)


def _flags(value: Any) -> Iterator[tuple[str, str, Word]]:
    for word in _words(value):
        flag, equals, text = word.partition("=")
        if equals:
            yield flag, text, word


def _network(document: Document, claims: Claims, *, alone: bool) -> None:
    place = ("spec", "network")
    for key, target, default in (("kubePodsCIDR", "podSubnet", "10.233.64.0/18"), ("kubeServiceCIDR", "serviceSubnet", "10.233.0.0/18")):
        value = document.get(*place, key)
        known = isinstance(value, Word) and bool(value)
        if known or alone:
            claims.say(("cluster", target), str(value) if known else default, value if known else None)
    plugin = document.get(*place, "plugin")
    cni = ("cluster", "cni")
    if plugin in ("calico", "flannel", "none", None):
        claims.say((*cni, "name"), str(plugin) if plugin else "calico" if alone else None, plugin)
    else:
        claims.say((*cni, "name"), "none", plugin)
        claims.note(f"network.plugin {plugin}: an inventory installs flannel, calico or none")
    if plugin == "flannel":
        backend = document.get(*place, "flannel", "backendMode")
        if backend in ("vxlan", "host-gw", "wireguard"):
            claims.say((*cni, "backend"), str(backend), backend)
        routing = document.get(*place, "flannel", "directRouting")
        claims.say((*cni, "directRouting"), boolean(routing), routing)
    elif plugin in ("calico", None):
        _calico(document, claims)


def _calico(document: Document, claims: Claims) -> None:
    place, cni = ("spec", "network", "calico"), ("cluster", "cni")
    ipip, vxlan = (document.get(*place, key) for key in ("ipipMode", "vxlanMode"))
    modes = {"CrossSubnet": "CrossSubnet", "Always": ""}
    if vxlan in modes:
        claims.say((*cni, "encapsulation"), f"VXLAN{modes[vxlan]}", vxlan)
    elif ipip in modes or ipip is None:
        claims.say((*cni, "encapsulation"), f"IPIP{modes[ipip or 'Always']}", ipip)
    else:
        claims.say((*cni, "encapsulation"), "None", ipip)
    mtu = document.get(*place, "vethMTU")
    claims.say((*cni, "mtu"), integer(mtu) or None, mtu)
    nat = document.get(*place, "ipv4NatOutgoing")
    if boolean(nat) is False:
        claims.say((*cni, "natOutgoing"), "Disabled", nat)


def _rest(document: Document, claims: Claims) -> None:
    registry, project = (document.get("spec", "registry", key) for key in ("privateRegistry", "namespaceOverride"))
    if isinstance(registry, Word) and registry:
        claims.say(("cluster", "imageRepository"), f"{registry}/{project}" if project else str(registry), registry)
    servers = _words(document.get("spec", "system", "ntpServers"))
    if servers:
        claims.say(("hostDefaults", "ntpServers"), [str(word) for word in servers], servers[0])
    entries = document.get("spec", "dns", "nodeEtcHosts")
    for line in entries.splitlines() if isinstance(entries, Word) else ():
        where, *names = line.partition("#")[0].split() or [""]
        for name in names:
            if address(where):
                claims.say(("cluster", "extraHosts", name.lower()), where, entries)
    kind = document.get("spec", "etcd", "type")
    text = str(kind) if isinstance(kind, Word) and kind else "kubekey (KubeKey's default)"
    claims.note(f"etcd.type {text}: {_ETCD.get(text.partition(' ')[0], _ETCD['kubekey'])}")


_ETCD = {
    "kubeadm": "etcd runs as a static pod on each control plane, which is what an inventory means",
    "kubekey": (
        "KubeKey installs etcd as a service of its own on the hosts of roleGroups.etcd, and kubeadm takes it for external; an inventory "
        "means kubeadm's static pods instead, so a cluster that runs needs its data moved, not only this file"
    ),
    "external": "etcd was there before KubeKey; an inventory means kubeadm's static pods instead",
}
