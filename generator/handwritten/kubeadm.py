"""What kubeadm is told: by documents of its configuration, or by flags of its commands in scripts, each value with its place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_interface

from generator.handwritten import Document, File, Files, Node, Word

KINDS = ("InitConfiguration", "ClusterConfiguration", "JoinConfiguration")

# Flags of `kubeadm init` and `kubeadm join` that set a field of the configuration.
_FLAGS = {
    ("kubernetesVersion",): ("kubernetes-version",),
    ("controlPlaneEndpoint",): ("control-plane-endpoint",),
    ("networking", "podSubnet"): ("pod-network-cidr",),
    ("networking", "serviceSubnet"): ("service-cidr",),
    ("networking", "dnsDomain"): ("service-dns-domain",),
    ("imageRepository",): ("image-repository",),
    ("localAPIEndpoint", "advertiseAddress"): ("apiserver-advertise-address",),
    ("nodeRegistration", "criSocket"): ("cri-socket",),
    ("nodeRegistration", "name"): ("node-name",),
    ("certificateKey",): ("certificate-key",),
    ("discovery", "bootstrapToken", "token"): ("token", "discovery-token"),
}
# Flags that take no value of the next word.
_SWITCHES = frozenset((
    "control-plane", "upload-certs", "dry-run", "discovery-token-unsafe-skip-ca-verification", "skip-certificate-key-print",
    "skip-token-print", "yes", "force", "help", "experimental-control-plane",
))  # fmt: skip


@dataclass(frozen=True)
class Command:
    """
    One `kubeadm init` or `kubeadm join` of a script.

    *flags* has each flag's value by its name without dashes; that of a switch is the flag itself.
    """

    file: File
    verb: Word
    flags: dict[str, Word]
    named: dict[str, Word]


def commands(files: Files) -> Iterator[Command]:
    """Every whole `kubeadm init` and `kubeadm join`, not single phases of them."""
    for file, root in files.of("script"):
        for node in root.walk("kubeadm"):
            verb = next((word for word in node.args if word in ("init", "join")), None)
            before = node.args[: node.args.index(verb)] if verb is not None else ()
            if verb is None or "phase" in node.args or any(word in ("config", "token", "certs", "upgrade", "reset") for word in before):
                continue
            flags, named = _flags(node)
            if "help" not in flags:
                yield Command(file, verb, flags, named)


def _flags(node: Node) -> tuple[dict[str, Word], dict[str, Word]]:
    flags: dict[str, Word] = {}
    named: dict[str, Word] = {}
    for index, word in enumerate(node.args):
        if not word.startswith("--"):
            continue
        name, equals, value = word[2:].partition("=")
        following = node.args[index + 1] if index + 1 < len(node.args) else None
        if equals:
            # What stands behind `=`, quotes included.
            at = len(name) + 3
            place = word.spot.at
            flags[name] = Word.at(value, word.spot.source, place.line, place.column + at, max(1, place.length - at), plain=word.plain)
        elif following is not None and not following.startswith("-") and name not in _SWITCHES:
            flags[name] = following
        else:
            flags[name] = word
        named[name] = word
    return flags, named


def told(files: Files, *path: str) -> Iterator[tuple[File, Word]]:
    """Every value of the field *path*, such as ``("networking", "podSubnet")``, in documents and as the flag that sets it."""
    for file, document in files.documents(*KINDS):
        for place in (path, ("controlPlane", *path)):
            value = document.get(*place)
            if isinstance(value, Word):
                yield file, value
    for command in commands(files):
        for flag in _FLAGS.get(path, ()):
            if flag in command.flags:
                yield command.file, command.flags[flag]


def minors(files: Files) -> dict[str, int]:
    """The Kubernetes minor that each file says, by the file's name; below an empty name the first of them, for files that say none."""
    found: dict[str, int] = {}
    for file, word in told(files, "kubernetesVersion"):
        match = re.match(r"v?1\.([0-9]{1,3})(?:\.|$)", word)
        if match:
            found.setdefault("", int(match[1]))
            found.setdefault(file.source.name, int(match[1]))
    return found


def control_plane_joins(files: Files) -> Iterator[tuple[File, Word]]:
    """Every join of a control plane, at the word that says so."""
    for file, document in files.documents("JoinConfiguration"):
        if isinstance(document.tree, dict) and isinstance(document.tree.get("controlPlane"), dict):
            yield file, document.place("controlPlane")
    for command in commands(files):
        if command.verb == "join" and "control-plane" in command.named:
            yield command.file, command.named["control-plane"]


def endpoint_host(text: str) -> str:
    """The host of ``name:port``, ``1.2.3.4`` or ``[fd00::1]:6443``, in lower case."""
    host = text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0] if text.count(":") < 2 else text
    return host.lower()


def vips(files: Files) -> dict[str, tuple[File, Word]]:
    """The virtual addresses of keepalived's instances, without prefix lengths, each with the first word that says it."""
    found: dict[str, tuple[File, Word]] = {}
    for file, root in files.of("keepalived"):
        for block in root.walk("virtual_ipaddress", "virtual_ipaddress_excluded"):
            for child in block.children or ():
                address = plain_address(child.name)
                if address:
                    found.setdefault(address, (file, child.name))
    return found


def plain_address(text: str) -> str:
    """*text* as an address in its shortest form, without a prefix length; empty for what is none."""
    try:
        return str(ip_interface(text[:60]).ip)
    except ValueError:
        return ""


def value(document: Document, *path: str) -> Word | None:
    """The scalar at *path*."""
    word = document.get(*path)
    return word if isinstance(word, Word) else None
