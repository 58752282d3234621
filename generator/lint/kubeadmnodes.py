"""KCF: what kubeadm is told on each host: addresses, sockets, secrets, and flags that don't go together."""

from __future__ import annotations

import re
from collections.abc import Iterator

from generator.handwritten import Files, Word, unspecified
from generator.handwritten.kubeadm import commands, told, value, vips
from generator.lint import Found, file_rule
from generator.wording import said

# What may stand beside --config (ValidateMixedArguments), besides flags that begin with skip-.
_BESIDE_CONFIG = frozenset((
    "config", "ignore-preflight-errors", "dry-run", "kubeconfig", "node-name", "kubeconfig-dir", "upload-certs", "print-join-command",
    "rootfs", "v", "log-file", "yes", "vmodule",
))  # fmt: skip
_TOKEN = re.compile(r"[a-z0-9]{6}\.[a-z0-9]{16}")
_KEY = re.compile(r"[0-9a-fA-F]{64}")


@file_rule("KCF010", "error")
def flags_beside_config(files: Files) -> Iterator[Found]:
    """
    Flags of kubeadm that can't stand beside --config.

    Why it hurts: kubeadm ends with "can not mix '--config' with arguments".

    Example: `kubeadm init --config init.yaml --pod-network-cidr=10.244.0.0/16`.

    Use instead: the field of the file; only `--ignore-preflight-errors`, `--upload-certs`, `--dry-run` and few more may stay.

    Source: kubeadm, validation.go (ValidateMixedArguments); checklist row 45.
    """
    for command in commands(files):
        if "config" in command.flags:
            for name, word in command.named.items():
                if name not in _BESIDE_CONFIG and not name.startswith("skip-"):
                    message = said("kubeadm {verb} takes no --{name} beside --config", verb=command.verb, name=name[:60])
                    yield Found(word, message, "write it in the file", (command.named["config"].related("the file"),))


@file_rule("KCF011", "warning")
def unsafe_discovery(files: Files) -> Iterator[Found]:
    """
    A join that trusts whoever answers.

    Why it hurts: without the hash of the CA, anybody who answers at the endpoint's address becomes the cluster for this host, and runs what
    he likes on it as root.

    Example: `unsafeSkipCAVerification: true`, `--discovery-token-unsafe-skip-ca-verification`.

    Use instead: `caCertHashes: [sha256:...]`, which `kubeadm token create --print-join-command` prints, or file discovery.

    Source: kubeadm join, *Token-based discovery without CA pinning*; checklist row 57.
    """
    message, remedy = "the join doesn't verify the cluster's CA", "give the hash of the CA: caCertHashes or --discovery-token-ca-cert-hash"
    for _, document in files.documents("JoinConfiguration"):
        switch = value(document, "discovery", "bootstrapToken", "unsafeSkipCAVerification")
        if switch == "true":
            yield Found(switch, message, remedy)
    flag = "discovery-token-unsafe-skip-ca-verification"
    for command in commands(files):
        if flag in command.flags and command.flags[flag] != "false":
            yield Found(command.named[flag], message, remedy)


@file_rule("KCF012", "warning")
def advertise_unset(files: Files) -> Iterator[Found]:
    """
    The API server's address is guessed on a host that may hold the VIP.

    Why it hurts: kubeadm takes the first address of the interface with the default route; on a host that holds the VIP at that moment, or
    has a second network card, the member of etcd and the certificates get the wrong one for ever.

    Example: `kubeadm init --control-plane-endpoint=...` without `--apiserver-advertise-address`, beside keepalived.

    Use instead: `localAPIEndpoint.advertiseAddress` with the host's own address, at init and at every join of a control plane.

    Source: kubernetes/website#43862 ("catastrophic"); kubernetes/kubeadm#2275, #3175; checklist row 48.
    """
    holders = {file.host for file, _ in vips(files).values()} | {
        file.host for file, root in files.of("keepalived") if any(True for _ in root.walk("virtual_ipaddress"))
    }
    message, remedy = (
        "no address to advertise is set on a host that may hold the VIP",
        "set localAPIEndpoint.advertiseAddress to the host's own",
    )
    for file, document in files.documents("InitConfiguration", "JoinConfiguration"):
        path = ("localAPIEndpoint", "advertiseAddress")
        joins = document.kind == "JoinConfiguration"
        if joins and not isinstance(document.get("controlPlane"), dict):
            continue
        place = ("controlPlane", *path) if joins else path
        if file.host in holders and _unset(value(document, *place)):
            yield Found(document.place(*place) if document.get(*place) else document.place("kind"), message, remedy)
    for command in commands(files):
        makes = command.verb == "init" or "control-plane" in command.flags
        if makes and "config" not in command.flags and command.file.host in holders:
            address = command.flags.get("apiserver-advertise-address")
            if _unset(address):
                yield Found(address or command.verb, message, remedy)


def _unset(address: Word | None) -> bool:
    """Whether kubeadm works the address out (ChooseAPIServerBindAddress): an unspecified one counts as none."""
    return not address or unspecified(address)


_DEAD = ("docker.sock", "dockershim.sock")


@file_rule("KCF013", "error")
def dead_socket(files: Files) -> Iterator[Found]:
    """
    A socket at which no container runtime answers the kubelet.

    Why it hurts: preflight ends with "container runtime is not running"; docker's own socket speaks another protocol than the kubelet.

    Example: `--cri-socket=unix:///var/run/docker.sock`, or `/var/run/dockershim.sock`.

    Use instead: `unix:///var/run/containerd/containerd.sock`, `unix:///var/run/cri-dockerd.sock` or `unix:///var/run/crio/crio.sock`.

    Source: Kubernetes, container runtimes; KEP-2221 (dockershim was removed in 1.24).
    """
    for _, word in told(files, "nodeRegistration", "criSocket"):
        name = word.rpartition("/")[2]
        scheme = word.partition("://")[0] if "://" in word else ""
        if name in _DEAD:
            why = said("docker speaks no CRI") if name == "docker.sock" else said("dockershim is gone since Kubernetes 1.24")
            message = said("no container runtime answers at {socket}: {why}", socket=word[:80], why=why)
            yield Found(word, message, "name the socket of containerd, cri-dockerd or CRI-O")
        elif scheme and scheme not in ("unix", "npipe") and "$" not in scheme:
            message = said("kubeadm takes no socket of scheme {scheme}", scheme=scheme[:40])
            yield Found(word, message, "write unix:// before the path")


@file_rule("KCF014", "warning")
def bare_socket(files: Files) -> Iterator[Found]:
    """
    A container runtime's socket without a scheme.

    Why it hurts: kubeadm puts unix:// before it with a warning as long as it does; the kubelet's own settings and crictl need the scheme.

    Example: `criSocket: /run/containerd/containerd.sock`.

    Use instead: `criSocket: unix:///run/containerd/containerd.sock`.

    Source: kubernetes/kubernetes#107295 (deprecated in 1.24); kubeadm, validation.go (ValidateSocketPath).
    """
    for _, word in told(files, "nodeRegistration", "criSocket"):
        if word.startswith("/") and word.rpartition("/")[2] not in _DEAD:
            yield Found(word, said("socket {socket} has no scheme", socket=word[:80]), said("write unix://{socket}", socket=word[:80]))


@file_rule("KCF015", "warning")
def join_without_socket(files: Files) -> Iterator[Found]:
    """
    A join that leaves the container runtime to chance.

    Why it hurts: where init names a socket there are two on the host (docker brings containerd along), and kubeadm refuses to choose:
    "found multiple CRI endpoints".

    Example: `kubeadm join ... --control-plane` without `--cri-socket`, after `kubeadm init --cri-socket=unix:///var/run/cri-dockerd.sock`.

    Use instead: `nodeRegistration.criSocket` in every JoinConfiguration, `--cri-socket` at every join.

    Source: kubeadm, app/util/runtime (DetectCRISocket); checklist row 51.
    """
    named = [word for word in _sockets(files, "init") if word is not None]
    if not named:
        return
    related = (named[0].related("init names one"),)
    message = said("the join names no container runtime, init has {socket}", socket=named[0][:80])
    for _, document in files.documents("JoinConfiguration"):
        if document.get("nodeRegistration", "criSocket") is None:
            yield Found(document.place("kind"), message, "set nodeRegistration.criSocket", related)
    for command in commands(files):
        if command.verb == "join" and not {"config", "cri-socket"} & command.flags.keys():
            yield Found(command.verb, message, "add --cri-socket", related)


def _sockets(files: Files, verb: str) -> Iterator[Word | None]:
    for _, document in files.documents("InitConfiguration"):
        yield value(document, "nodeRegistration", "criSocket")
    for command in commands(files):
        if command.verb == verb:
            yield command.flags.get("cri-socket")


@file_rule("KCF016", "warning")
def literal_secret(files: Files) -> Iterator[Found]:
    """
    A bootstrap token or certificate key in a file.

    Why it hurts: whoever reads the file can join a host to the cluster while the token lives, or open all CA keys while the uploaded ones
    do; a copy of the file in a repository stays there. After a day the token is dead and the file doesn't work any more.

    Example: `token: abcdef.0123456789abcdef`, `certificateKey` with its 64 digits, `kubeadm join --token ...` in a script.

    Use instead: a token made at the time of the join (`kubeadm token create`), or file discovery; pass it by a variable.

    Source: kubeadm token (default life 24 hours), kubeadm init phase upload-certs (2 hours); checklist row 57.
    """
    secrets = [
        *told(files, "discovery", "bootstrapToken", "token"),
        *told(files, "discovery", "tlsBootstrapToken"),
        *told(files, "certificateKey"),
    ]
    for file, document in files.documents("InitConfiguration"):
        tokens = document.get("bootstrapTokens")
        secrets += [(file, one["token"]) for one in tokens or () if isinstance(one, dict) and isinstance(one.get("token"), Word)]
    for _, word in secrets:
        if _TOKEN.fullmatch(word):
            yield Found(word, "a bootstrap token stands in the file", "make one when a host joins, and pass it by a variable")
        elif _KEY.fullmatch(word):
            yield Found(
                word, "the key of the uploaded certificates stands in the file", "upload when a host joins, and pass the key by a variable"
            )
