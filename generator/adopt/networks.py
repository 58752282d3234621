"""Manifests of flannel and Calico, and the commands that fetch or apply them, as claims."""

from __future__ import annotations

import json
import re
from typing import Any

from generator import versions
from generator.adopt.claims import Claims, part, whole
from generator.handwritten import Document, Files, Word, integer

_CNI = ("cluster", "cni")
_ENCAPSULATIONS = ("VXLANCrossSubnet", "VXLAN", "IPIPCrossSubnet", "IPIP", "None")


def manifests(files: Files, claims: Claims) -> None:
    """The pod network that is there as manifests; of two, the first."""
    for _, document in files.documents("ConfigMap"):
        text = document.get("data", "net-conf.json")
        if isinstance(text, Word) and _is(claims, "flannel", document.place("data", "net-conf.json")):
            _net_conf(text, claims)
    for _, document in files.documents("DaemonSet"):
        for container in _dicts(document.get("spec", "template", "spec", "containers")):
            image = container.get("image")
            found = re.fullmatch(r"(.+)/flannel:v(0\.[0-9]+\.[0-9]+)", image) if isinstance(image, Word) else None
            if found and isinstance(image, Word) and _is(claims, "flannel", image):
                claims.say((*_CNI, "version"), found[2], image)
                row = versions.flannel_row(found[2])
                if row is not None and found[1] != row.registry:
                    claims.say((*_CNI, "registry"), found[1], image)
    for _, document in files.documents("Installation"):
        if document.api.startswith("operator.tigera.io/") and _is(claims, "calico", document.place("kind")):
            _installation(document, claims)
    others = {document.kind for _, document in files.documents("APIServer") if document.api.startswith("operator.tigera.io/")}
    if ("calico" in _names(claims)) and any(True for _ in files.documents("Installation")):
        claims.say((*_CNI, "apiServer"), bool(others))
    _operator(files, claims)


def _names(claims: Claims) -> set[Any]:
    return {known.value for known in claims.told.get((*_CNI, "name"), {}).values()}


def _is(claims: Claims, name: str, word: Word) -> bool:
    """Whether *name* is the network, which it becomes where nobody has said one."""
    claims.say((*_CNI, "name"), name, word)
    if name not in _names(claims):
        claims.note(f"{name}, which is there too: a cluster has one pod network")
        return False
    return True


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _inside(text: Word, piece: str) -> Word:
    """*piece* where it stands in the block of text that begins at *text*."""
    start = text.spot.at.line
    for number, line in enumerate(text.spot.source.text.split("\n")[start - 1 : start + 200], start):
        if piece in line:
            return Word.at(piece, text.spot.source, number, line.index(piece) + 1)
    return text


def _net_conf(text: Word, claims: Claims) -> None:
    try:
        conf = json.loads(text)
    except (ValueError, RecursionError):
        return
    if not isinstance(conf, dict):
        return
    networks = [value for key in ("Network", "IPv6Network") if isinstance(value := conf.get(key), str) and value]
    if networks:
        claims.say(("cluster", "podSubnet"), ",".join(networks), _inside(text, networks[0]))
    backend = conf.get("Backend")
    if not isinstance(backend, dict):
        return
    kind = backend.get("Type")
    if kind in ("vxlan", "host-gw", "wireguard"):
        claims.say((*_CNI, "backend"), kind, _inside(text, f'"{kind}"'))
    elif kind is not None:
        claims.note("flannel's backend: an inventory has vxlan, host-gw and wireguard")
    for key, name, least, most in (("VNI", "vni", 1, 16_777_215), ("Port", "port", 1, 65_535), ("MTU", "mtu", 1280, 9216)):
        number = backend.get(key)
        if isinstance(number, int) and not isinstance(number, bool):
            claims.say((*_CNI, name), whole(str(number), least, most), _inside(text, f'"{key}"'))
    if isinstance(backend.get("DirectRouting"), bool):
        claims.say((*_CNI, "directRouting"), backend["DirectRouting"], _inside(text, '"DirectRouting"'))


def _installation(document: Document, claims: Claims) -> None:
    network = ("spec", "calicoNetwork")
    registry = document.get("spec", "registry")
    if isinstance(registry, Word) and registry.rstrip("/"):
        claims.say((*_CNI, "registry"), registry.rstrip("/"), registry)
    for key in ("linuxDataplane", "bgp"):
        value = document.get(*network, key)
        if value in ("Iptables", "Nftables", "Enabled", "Disabled"):
            claims.say((*_CNI, key), str(value), value)
        elif isinstance(value, Word):
            claims.note(f"Calico's {key} {value}")
    mtu = document.get(*network, "mtu")
    claims.say((*_CNI, "mtu"), integer(mtu), mtu)
    pools = _dicts(document.get(*network, "ipPools"))
    cidrs = [pool["cidr"] for pool in pools if isinstance(pool.get("cidr"), Word)]
    first: dict[int, Word] = {}
    for cidr in cidrs:
        first.setdefault(6 if ":" in cidr else 4, cidr)
    if first:
        claims.say(("cluster", "podSubnet"), ",".join(first.values()), next(iter(first.values())))
    for pool in pools:
        six = ":" in str(pool.get("cidr"))
        encapsulation = pool.get("encapsulation")
        if encapsulation in _ENCAPSULATIONS and not (six and encapsulation == "None"):
            claims.say((*_CNI, "encapsulation"), str(encapsulation), encapsulation)
        nat = pool.get("natOutgoing")
        if nat in ("Enabled", "Disabled"):
            claims.say((*_CNI, "natOutgoing"), str(nat), nat)
        size = pool.get("blockSize")
        claims.say((*_CNI, "blockSizeIPv6" if six else "blockSize"), integer(size), size)


def _operator(files: Files, claims: Claims) -> None:
    """Calico's release by its operator's image."""
    for _, document in files.documents("Deployment"):
        for container in _dicts(document.get("spec", "template", "spec", "containers")):
            image = container.get("image")
            found = re.search(r"/operator:(v1\.[0-9]+\.[0-9]+)$", image) if isinstance(image, Word) else None
            if found is None or not isinstance(image, Word) or not _is(claims, "calico", image):
                continue
            for minor, row in versions.CALICO.items():
                if found[1] in row.operators:
                    claims.say((*_CNI, "version"), f"3.{minor}.{row.operators.index(found[1])}", image)


def commands(files: Files, claims: Claims) -> None:
    """``kubectl apply``, ``wget`` and the like of a manifest whose name says whose it is."""
    for _, root in files.of("script"):
        for node in root.walk("kubectl", "wget", "curl", "helm"):
            for word in node.args:
                if "flannel" in word.lower() and re.search(r"\.ya?ml$|/flannel$", word):
                    _is(claims, "flannel", word)
                elif re.search(r"(calico|tigera)[^/]*\.ya?ml$|projectcalico", word) and _is(claims, "calico", word):
                    release = re.search(r"/v(3\.[0-9]{1,3}\.[0-9]{1,3})/", word)
                    claims.say((*_CNI, "version"), release[1] if release else None, part(word, release[1]) if release else None)
