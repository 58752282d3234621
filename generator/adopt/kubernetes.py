"""kubeadm's documents and command lines, and etcd's static pod, as claims."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from generator import validate
from generator.adopt.claims import CONTROL_PLANE, WORKER, Claims, Machine, address, part, whole
from generator.diagnostics import Path
from generator.handwritten import Document, File, Files, Word, boolean, integer, unspecified
from generator.handwritten.kubeadm import Command, commands, told

_SOCKETS = {
    "/run/containerd/containerd.sock": "containerd",
    "/run/cri-dockerd.sock": "cri-dockerd",
    "/run/crio/crio.sock": "cri-o",
}
# etcd advises seven.
_MAX_MEMBERS = 100
_COMPONENTS = ("apiServer", "controllerManager", "scheduler")
# Keys below ``cluster``, and where kubeadm has them.
_SCALARS: dict[Path, Path] = {
    ("etcd", "dataDir"): ("etcd", "local", "dataDir"),
    ("encryptionAlgorithm",): ("encryptionAlgorithm",),
    ("certificateValidityPeriod",): ("certificateValidityPeriod",),
    ("caCertificateValidityPeriod",): ("caCertificateValidityPeriod",),
    ("timeouts", "controlPlane"): ("apiServer", "timeoutForControlPlane"),
    ("images", "etcd"): ("etcd", "local", "imageTag"),
    ("images", "coredns"): ("dns", "imageTag"),
}
_SINCE_V1BETA4 = ("encryptionAlgorithm", "certificateValidityPeriod", "caCertificateValidityPeriod")
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
# Flags that an inventory says by other keys; kubeadm's files have them rightly.
_KUBELET_OWNED = frozenset((
    "node-ip", "node-labels", "register-with-taints", "hostname-override", "container-runtime-endpoint", "cgroup-driver", "config",
    "kubeconfig", "bootstrap-kubeconfig", "cluster-dns", "cluster-domain",
))  # fmt: skip
# What kubeadm itself writes into etcd's manifest.
_ETCD_OWNED = frozenset((
    "advertise-client-urls", "cert-file", "client-cert-auth", "data-dir", "experimental-initial-corrupt-check", "initial-cluster-state",
    "experimental-watch-progress-notify-interval", "feature-gates", "initial-advertise-peer-urls", "initial-cluster",
    "initial-cluster-token", "key-file", "listen-client-urls", "listen-metrics-urls", "listen-peer-urls", "name", "peer-cert-file",
    "peer-client-cert-auth", "peer-key-file", "peer-trusted-ca-file", "snapshot-count", "trusted-ca-file", "watch-progress-notify-interval",
))  # fmt: skip


def kubeadm(files: Files, claims: Claims) -> None:
    """Documents and commands, whichever stand there."""
    _anywhere(files, claims)
    for file, document in files.documents():
        if document.kind in ("InitConfiguration", "JoinConfiguration"):
            _node(file, document, claims)
        elif document.kind == "ClusterConfiguration":
            _cluster(document, claims)
        elif document.kind == "KubeletConfiguration":
            _kubelet(document, claims)
        elif document.kind == "KubeProxyConfiguration":
            mode = document.get("mode")
            if mode:
                claims.say(("cluster", "kubeProxy", "mode"), str(mode), mode)
            strict = document.get("ipvs", "strictARP")
            claims.say(("cluster", "kubeProxy", "strictARP"), boolean(strict), strict)
    for command in commands(files):
        _command(command, claims)


def _anywhere(files: Files, claims: Claims) -> None:
    """What documents and flags say alike."""
    for path in (("networking", "podSubnet"), ("networking", "serviceSubnet"), ("networking", "dnsDomain"), ("imageRepository",)):
        for _, word in told(files, *path):
            if word and "$" not in word:
                claims.say(("cluster", path[-1]), str(word), word)
    for _, word in told(files, "kubernetesVersion"):
        claims.say(("cluster", "kubernetesVersion"), release(word), word)
    for _, word in told(files, "controlPlaneEndpoint"):
        endpoint(word, claims)
    for _, word in told(files, "nodeRegistration", "criSocket"):
        socket = re.sub(r"^/var/run/", "/run/", word.removeprefix("unix://"))
        claims.say(("cluster", "containerRuntime"), _SOCKETS.get(socket), word)
    for _, word in told(files, "localAPIEndpoint", "bindPort"):
        claims.say(("cluster", "apiServer", "bindPort"), whole(word, 1, 65535), word)


def release(text: str) -> str | None:
    """``1.29.3`` of ``v1.29.3``; None for a label such as ``stable-1``."""
    found = re.fullmatch(r"v?(1\.[0-9]{1,3}\.[0-9]{1,3})", text)
    return found[1] if found else None


def endpoint(word: Word, claims: Claims) -> None:
    """``name:port``; without a port the claim is that there is none."""
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]$/ ]+)(?::([0-9]{1,9}))?", word)
    if found is None:
        return
    if found[1].startswith("["):
        # A name in an inventory has no colons: the address stands for itself.
        where = address(found[1], word)
        if where is not None:
            claims.addressed = where
    else:
        claims.say(("controlPlaneEndpoint", "name"), found[1], part(word, found[1]))
    if found[2] is None:
        claims.say(("controlPlaneEndpoint", "port"), 0, word)
    else:
        claims.say(("controlPlaneEndpoint", "port"), int(found[2]), part(word, found[2]))


def _pairs(data: Any) -> Iterator[tuple[Word, Any]]:
    """Flags in either shape: a mapping (v1beta3), or a list of names and values (v1beta4)."""
    if isinstance(data, dict):
        yield from ((key, value) for key, value in data.items() if isinstance(value, Word))
    for item in data if isinstance(data, list) else ():
        if isinstance(item, dict) and isinstance(item.get("name"), Word) and isinstance(item.get("value"), Word):
            yield item["name"], item["value"]


def _list(value: Any) -> list[Word]:
    return [item for item in value if isinstance(item, Word)] if isinstance(value, list) else []


def _cluster(document: Document, claims: Claims) -> None:
    claims.say(("cluster",), {}, document.place("kind"))
    name = document.get("clusterName")
    if isinstance(name, Word) and NAME.fullmatch(name):
        claims.say(("cluster", "name"), str(name), name)
    for component in _COMPONENTS:
        _component(document, component, claims)
    local = ("etcd", "local")
    for flag, value in _pairs(document.get(*local, "extraArgs")):
        claims.say(("cluster", "etcd", "extraArgs", str(flag)), str(value), value)
    names: dict[tuple[str, str], Path] = {
        ("apiServer", "certSANs"): ("apiServer",),
        ("etcd", "serverCertSANs"): local,
        ("etcd", "peerCertSANs"): local,
    }
    for (component, key), place in names.items():
        for number, word in enumerate(_list(document.get(*place, key))):
            claims.say(("cluster", component, key, number), str(word), word)
    if isinstance(document.get("etcd", "external"), dict):
        claims.note("external etcd: an inventory has etcd on the control planes")
    gates = document.get("featureGates")
    for gate, value in gates.items() if isinstance(gates, dict) else ():
        claims.say(("cluster", "featureGates", str(gate)), boolean(value), gate)
    for path, where in _SCALARS.items():
        if where[0] in _SINCE_V1BETA4 and document.api != "kubeadm.k8s.io/v1beta4":
            # An unknown field, which is another mistake.
            continue
        claims.say(("cluster", *path), _text(document.get(*where)), document.get(*where))


def _component(document: Document, component: str, claims: Claims) -> None:
    """Flags of a component; those that name a file of a volume, which an inventory doesn't mount, stay behind."""
    volumes = document.get(component, "extraVolumes")
    for flag, value in _pairs(document.get(component, "extraArgs")):
        if volumes and value.startswith("/"):
            claims.note(f"{component}'s flag {flag}, and extraVolumes: an inventory mounts none")
        else:
            claims.say(("cluster", component, "extraArgs", str(flag)), str(value), value)


def _text(value: Any) -> str | None:
    return str(value) if isinstance(value, Word) and value else None


def _node(file: File, document: Document, claims: Claims) -> None:
    """One node's registration; the role follows from the kind."""
    registration = document.get("nodeRegistration")
    name = document.get("nodeRegistration", "name")
    joins = document.kind == "JoinConfiguration"
    local = ("controlPlane", "localAPIEndpoint") if joins else ("localAPIEndpoint",)
    own = document.get(*local, "advertiseAddress")
    name = name if isinstance(name, Word) and name else None
    where = address(own, own) if isinstance(own, Word) else None
    if not name and not file.host and where is None:
        return
    machine = claims.machine(str(name or file.host), None if where and unspecified(where.text) else where, name)
    machine.first |= not joins
    plane = not joins or isinstance(document.get("controlPlane"), dict)
    machine.plays(CONTROL_PLANE if plane else WORKER, document.place("controlPlane") if joins and plane else document.place("kind"))
    claims.say(("cluster", "timeouts", "controlPlane"), _text(document.get("timeouts", "controlPlaneComponentHealthCheck")), None)
    for path in (("timeouts", "discovery"), ("discovery", "timeout")):
        claims.say(("cluster", "timeouts", "discovery"), _text(document.get(*path)), None)
    if isinstance(registration, dict):
        _registration(document, machine)


def _registration(document: Document, machine: Machine) -> None:
    place = "nodeRegistration"
    policy = document.get(place, "imagePullPolicy")
    if isinstance(policy, Word) and policy:
        machine.has("imagePullPolicy", str(policy), policy)
    ignored = _list(document.get(place, "ignorePreflightErrors"))
    if ignored:
        machine.has("ignorePreflightErrors", [str(word) for word in ignored], ignored[0])
    taints = document.get(place, "taints")
    if isinstance(taints, list):
        known = [
            {str(k): str(v) for k, v in taint.items() if v and k in ("key", "value", "effect")}
            for taint in taints
            if isinstance(taint, dict)
        ]
        machine.has("taints", known, document.place(place, "taints"))
    for flag, value in _pairs(document.get(place, "kubeletExtraArgs")):
        if flag == "node-ip":
            for text in value.split(","):
                machine.at(address(text, part(value, text)))
        elif flag == "node-labels":
            for pair in value.split(","):
                key, _, label = pair.partition("=")
                machine.has(f"labels/{key}", label, part(value, pair))
        elif flag not in _KUBELET_OWNED:
            machine.has(f"kubeletExtraArgs/{flag}", str(value), flag)


def _kubelet(document: Document, claims: Claims) -> None:
    """The fields that an inventory has."""
    fields = validate.schema()["$defs"]["kubelet"]["properties"]
    for name, schema in fields.items():
        value = document.get(name)
        path: Path = ("hostDefaults", "kubelet", name)
        if name == "evictionHard" and boolean(document.get("mergeDefaultEvictionSettings")):
            # Signals that aren't named keep their defaults then, which an inventory can't say.
            continue
        if isinstance(value, dict):
            for key, amount in value.items():
                claims.say((*path, str(key)), _text(amount), key)
        elif schema.get("type") == "integer":
            claims.say(path, integer(value), value)
        elif schema.get("type") == "boolean":
            claims.say(path, boolean(value), value)
        else:
            claims.say(path, _text(value), value)


def _command(command: Command, claims: Claims) -> None:
    """What the flags of one ``kubeadm init`` or ``join`` say beside what documents can say too."""
    flags = command.flags
    init = command.verb == "init"
    own = flags.get("apiserver-advertise-address")
    name = flags.get("node-name")
    where = address(own, own) if own is not None else None
    plane = init or "control-plane" in flags
    if plane and (command.file.host or where is not None):
        machine = claims.machine(str(name or command.file.host), where, name)
        machine.first |= init
        machine.plays(CONTROL_PLANE, command.verb if init else flags["control-plane"])
    if init and "config" not in flags:
        claims.say(("cluster",), {}, command.verb)
    port = flags.get("apiserver-bind-port")
    claims.say(("cluster", "apiServer", "bindPort"), whole(port, 1, 65535), port)
    names = flags.get("apiserver-cert-extra-sans")
    for number, text in enumerate(names.split(",") if names else ()):
        if text and "$" not in text:
            claims.say(("cluster", "apiServer", "certSANs", number), text, part(names, text) if names else None)
    gates = flags.get("feature-gates")
    for pair in gates.split(",") if gates else ():
        gate, _, value = pair.partition("=")
        if value in ("true", "false"):
            claims.say(("cluster", "featureGates", gate), value == "true", part(gates, pair) if gates else None)
    ignored = flags.get("ignore-preflight-errors")
    if ignored and "$" not in ignored:
        claims.say(("hostDefaults", "ignorePreflightErrors"), [text for text in ignored.split(",") if text], ignored)


def etcd(files: Files, claims: Claims) -> None:
    """etcd's static pods: who the members are, and flags that kubeadm doesn't write by itself."""
    for _, document in files.documents("Pod"):
        containers = document.get("spec", "containers")
        for container in containers if isinstance(containers, list) else ():
            words = _list(container.get("command")) + _list(container.get("args")) if isinstance(container, dict) else []
            if not words or words[0] != "etcd":
                continue
            for word in words[1:]:
                flag, equals, value = word.removeprefix("--").partition("=")
                if not equals:
                    continue
                if flag == "initial-cluster":
                    _members(word, value, claims)
                elif flag == "data-dir":
                    claims.say(("cluster", "etcd", "dataDir"), value, word)
                elif flag == "wal-dir":
                    claims.note("etcd's flag wal-dir: an inventory has no volume for it")
                elif flag not in _ETCD_OWNED:
                    claims.say(("cluster", "etcd", "extraArgs", flag), value, word)


def _members(word: Word, value: str, claims: Claims) -> None:
    for entry in value.split(",")[:_MAX_MEMBERS]:
        name, _, url = entry.partition("=")
        found = re.fullmatch(r"https?://(\[[0-9A-Fa-f:.]+\]|[^:/]+):[0-9]+", url)
        where = address(found[1], part(word, entry)) if found else None
        if name and where is not None:
            claims.machine(name, where, part(word, entry)).plays(CONTROL_PLANE, part(word, entry))
