"""kubeadm, played: init, join, reset, token, config, version; --config only.

It refuses what the real one refuses, phase by phase in the real order, and leaves the real one's files (facts.md 1.4 to 1.16, 3.1 to 3.7, 9.5).
Harsher than the real one: init and join refuse an unknown field (the real ones warn), and a missing image also with imagePullPolicy Never.
Played: keys are P-256; kube-proxy and CoreDNS are objects only; there is no certificateKey, no upgrade, no external etcd.

/run/lab/kubeadm-stop-at: a phase (as printed, "certs"); when it begins, /run/lab/kubeadm-reached appears and it waits there to be killed.
/run/lab/kubeadm-fail-at: a phase that fails.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn
from urllib.request import urlopen

import manifests
import yaml
from shared import (
    BIN,
    COMPONENTS,
    KUBE,
    KUBELET,
    LAB,
    LOADER,
    MANIFESTS,
    PKI,
    RUN,
    SHARED_PKI,
    Client,
    Refused,
    complain,
    dump,
    encoded,
    end_containers,
    fail,
    has_image,
    host_port,
    kubeconfig,
    matches,
    minor,
    new_ca,
    new_leaf,
    openssl,
    say,
    seconds_of,
    socket_answers,
    until,
    version,
    write,
)  # fmt: skip

sys.path.insert(0, str(LAB))
import kubeadm_schema

ADMIN = KUBE / "admin.conf"
BESIDE = {
    "config",
    "ignore-preflight-errors",
    "kubeconfig",
    "node-name",
    "kubeconfig-dir",
    "upload-certs",
    "print-join-command",
    "rootfs",
    "v",
    "log-file",
    "yes",
}
SWITCHES = {
    "skip-token-print",
    "skip-certificate-key-print",
    "upload-certs",
    "print-join-command",
    "yes",
    "force",
    "f",
    "control-plane",
    "dry-run",
    "help",
    "h",
}
KNOWN = BESIDE | SWITCHES | {
    "skip-phases", "cri-socket", "certificate-key", "patches", "pod-network-cidr", "service-cidr", "apiserver-advertise-address", "control-plane-endpoint", "token", "ttl",
    "description", "discovery-token-ca-cert-hash", "kubernetes-version", "output", "o", "image-repository", "cert-dir", "cleanup-tmp-dir", "groups", "usages",
}  # fmt: skip
TOKEN = re.compile(r"[a-z0-9]{6}\.[a-z0-9]{16}")
CRI_ANNOTATION = "kubeadm.alpha.kubernetes.io/cri-socket"
API_ANNOTATION = "kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint"
ETCD_ANNOTATION = "kubeadm.kubernetes.io/etcd.advertise-client-urls"
TRACE = "To see the stack trace of this error execute with --v=5 or higher"


def stop(phase: str, why: str) -> NoReturn:
    fail(f"error execution phase {phase}: {why}\n{TRACE}")


# -- the command line and the configuration ----------------------------------------------------------------------------------------


def parse(words: list[str]) -> tuple[list[str], dict[str, str]]:
    found: dict[str, str] = {}
    rest, left = [], list(words)
    while left:
        word = left.pop(0)
        if not word.startswith("-"):
            rest.append(word)
            continue
        name, equals, value = word.lstrip("-").partition("=")
        if name not in KNOWN:
            fail(f"unknown flag: --{name}\n{TRACE}")
        if name in SWITCHES:
            found[name] = value or "true"
        else:
            found[name] = value if equals or not left else left.pop(0)
    return rest, found


def only_beside(flags: dict[str, str]) -> None:
    if "config" not in flags:
        fail("stand-in: only --config is played")
    if mixed := [name for name in flags if name not in BESIDE and not name.startswith("skip-")]:
        fail(f"can not mix '--config' with arguments [{' '.join(sorted(mixed))}]\n{TRACE}")


def load(path: str) -> dict[str, dict[str, Any]]:
    """kind -> document; refused where ``config validate`` of this version would."""
    try:
        text = Path(path).read_text()
    except OSError as error:
        fail(f'unable to read config from "{path}": open {path}: {(error.strerror or "").lower()}\n{TRACE}')
    if complaints := kubeadm_schema.complaints(text, minor(version())):
        fail("\n".join([*(f"error: {why}" for why in complaints), TRACE]))
    found = {document["kind"]: document for document in yaml.load_all(text, Loader=LOADER) if document}
    discovery = found.get("JoinConfiguration", {}).get("discovery", {}).get("file", {}).get("kubeConfigPath")
    if discovery and not discovery.startswith("https://") and not Path(discovery).is_file():
        fail(f'discovery: Invalid value: "": not a valid HTTPS URL or a file on disk\n{TRACE}')
    return found


@dataclass
class Run:
    """What all phases of one init or join share; *document* is the InitConfiguration or the JoinConfiguration."""

    command: str
    documents: dict[str, dict[str, Any]]
    flags: dict[str, str]
    document: dict[str, Any] = field(default_factory=dict)
    cluster: dict[str, Any] = field(default_factory=dict)
    kubelet: dict[str, Any] = field(default_factory=dict)
    patches: list[tuple[str, str, Any]] = field(default_factory=list)
    skipped: set[str] = field(default_factory=set)
    discovered: Client | None = None

    def __post_init__(self) -> None:
        self.document = self.documents["InitConfiguration" if self.command == "init" else "JoinConfiguration"]
        self.cluster = self.documents.get("ClusterConfiguration", {})
        self.skipped = {*self.document.get("skipPhases", []), *filter(None, self.flags.get("skip-phases", "").split(","))}

    @property
    def registration(self) -> dict[str, Any]:
        return self.document.get("nodeRegistration") or {}

    @property
    def node(self) -> str:
        return self.registration.get("name") or socket.gethostname().lower()

    @property
    def socket(self) -> str:
        return self.registration.get("criSocket", "unix:///var/run/containerd/containerd.sock")

    @property
    def is_control_plane(self) -> bool:
        return self.command == "init" or "controlPlane" in self.document

    @property
    def local(self) -> tuple[str, int]:
        """advertiseAddress and bindPort."""
        endpoint = (
            self.document.get("localAPIEndpoint")
            if self.command == "init"
            else (self.document.get("controlPlane") or {}).get("localAPIEndpoint")
        )
        endpoint = endpoint or {}
        return endpoint.get("advertiseAddress") or fail("stand-in: advertiseAddress is not derived"), endpoint.get("bindPort", 6443)

    @property
    def local_server(self) -> str:
        return f"https://{host_port(*self.local)}"

    @property
    def server(self) -> str:
        """What kubeconfigs name: the endpoint, or the first API server."""
        endpoint = self.cluster.get("controlPlaneEndpoint")
        return f"https://{endpoint}" if endpoint else self.local_server

    def timeout(self, name: str, default: float) -> float:
        own = self.document.get("timeouts") or {}
        if name == "controlPlaneComponentHealthCheck" and name not in own:
            own = {name: (self.cluster.get("apiServer") or {}).get("timeoutForControlPlane", "")}
        if name == "discovery" and name not in own:
            own = {name: (self.document.get("discovery") or {}).get("timeout", "")}
        return seconds_of(own.get(name) or "") or default

    def phase(self, name: str) -> bool:
        """Begins a phase; false when it is to be skipped."""
        if name in self.skipped:
            return False
        say(f"[{name}]")
        begin(name)
        return True


def knob(name: str) -> str:
    try:
        return (RUN / name).read_text().strip()
    except OSError:
        return ""


def begin(phase: str) -> None:
    if knob("kubeadm-fail-at") == phase:
        stop(phase, "the lab said so")
    if knob("kubeadm-stop-at") == phase:
        (RUN / "kubeadm-reached").touch()
        time.sleep(600)
        stop(phase, "nobody killed it within 600 s")


# -- preflight ----------------------------------------------------------------------------------------------------------------------


def port_taken(port: int) -> bool:
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        try:
            with socket.socket(family, socket.SOCK_STREAM) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind((address, port))
                sock.listen(1)
        except OSError as error:
            if error.errno == 98:
                return True
    return False


class Checks:
    """Errors by the names that ignorePreflightErrors has."""

    def __init__(self, run: Run) -> None:
        self.run, self.found = run, []
        self.ignored = {name.lower() for name in run.registration.get("ignorePreflightErrors", [])} | {
            name.lower() for name in run.flags.get("ignore-preflight-errors", "").split(",")
        }

    def no(self, name: str, why: str) -> None:
        word = "WARNING" if {name.lower(), "all"} & self.ignored else "ERROR"
        complain(f"\t[{word} {name}]: {why}") if word == "WARNING" else self.found.append(f"\t[ERROR {name}]: {why}")

    def files(self, *paths: Path) -> None:
        for path in paths:
            if path.exists():
                self.no(f"FileAvailable-{str(path).replace('/', '-')}", f"{path} already exists")

    def ports(self, *numbers: int) -> None:
        for number in numbers:
            if port_taken(number):
                self.no(f"Port-{number}", f"Port {number} is in use")

    def general(self) -> None:
        if os.geteuid() != 0:
            self.no("IsPrivilegedUser", "user is not running as root")
        if not socket_answers(self.run.socket):
            self.no(
                "CRI",
                f"could not connect to the container runtime: failed to create new CRI runtime service: validate service connection: dial {self.run.socket}: connect: no such file or directory",
            )
        programs = ["ip", "mount", "nsenter", *(["crictl"] if minor(version()) < 32 else [])]
        for program in programs:
            if not shutil.which(program):
                self.no(f"FileExisting-{program}", f"{program} not found in system path")
        forward = Path("/proc/sys/net/ipv4/ip_forward")
        if forward.exists() and forward.read_text().strip() != "1":
            self.no("FileContent--proc-sys-net-ipv4-ip_forward", f"{forward} contents are not set to 1")
        if not shutil.which("kubelet"):
            self.no("KubeletVersion", "couldn't get kubelet version: cannot execute 'kubelet --version'")

    def skew(self) -> None:
        """Of the cluster's version and kubeadm's own."""
        own, wanted = version(), str(self.run.cluster["kubernetesVersion"]).removeprefix("v")
        number = [int(part) for part in wanted.split(".")]
        if number[1] < minor(own) - 1:
            stop(
                "preflight",
                f"this version of kubeadm only supports deploying clusters with the control plane version >= 1.{minor(own) - 1}.0. Current version: v{wanted}",
            )
        if number[1] > minor(own):
            self.no(
                "KubernetesVersion",
                f"Kubernetes version is greater than kubeadm version. Please consider to upgrade kubeadm. Kubernetes version: {wanted}. Kubeadm version: {own}",
            )

    def control_plane(self) -> None:
        if (os.cpu_count() or 0) < 2:
            self.no("NumCPU", "the number of available CPUs 1 is less than the required 2")
        self.ports(self.run.local[1], 10259, 10257)
        self.files(*(MANIFESTS / f"{name}.yaml" for name in COMPONENTS))
        self.ports(2379, 2380)
        data = Path(manifests.data_directory(self.run.cluster))
        if data.is_dir() and any(data.iterdir()):
            self.no(f"DirAvailable-{str(data).replace('/', '-')}", f"{data} is not empty")

    def images(self) -> None:
        """The pull, which cannot work here: what is missing stays missing."""
        say("[preflight] Pulling images required for setting up a Kubernetes cluster")
        policy = self.run.registration.get("imagePullPolicy", "IfNotPresent")
        for name, ref in manifests.images(self.run.cluster).items():
            if policy == "Always" or not has_image(ref, self.run.socket):
                self.no(
                    "ImagePull",
                    f'failed to pull image {ref}: failed to pull and unpack image "{ref}": dial tcp: lookup {ref.partition("/")[0]}: no such host ({name})',
                )

    def end(self) -> None:
        if self.found:
            stop(
                "preflight",
                "\n".join(
                    [
                        "[preflight] Some fatal errors occurred:",
                        *self.found,
                        "[preflight] If you know what you are doing, you can make a check non-fatal with `--ignore-preflight-errors=...`",
                    ]
                ),
            )


# -- certificates and kubeconfigs ---------------------------------------------------------------------------------------------------


def keep_pair(path: Path, crt: bytes, key: bytes) -> None:
    write(path.with_name(path.name + ".key"), key, 0o600)
    write(path.with_name(path.name + ".crt"), crt, 0o644)


def certs(run: Run) -> None:
    """CA pairs that lie there are taken; so are leaves, when their CA signed them."""
    for name, common in (("ca", "kubernetes"), ("front-proxy-ca", "front-proxy-ca"), ("etcd/ca", "etcd-ca")):
        there = [(PKI / f"{name}.{end}").exists() for end in ("crt", "key")]
        if all(there):
            say(f"[certs] Using existing {name} certificate authority")
            public = [
                openssl("x509", "-noout", "-pubkey", "-in", PKI / f"{name}.crt"),
                openssl("pkey", "-pubout", "-in", PKI / f"{name}.key"),
            ]
            if public[0] != public[1]:
                stop(f"certs/{name}", f"failure loading {name} certificate: {PKI}/{name}.crt does not match its key")
        elif any(there):
            stop(f"certs/{name}", f"{name}: only one of certificate and key is there, and external CA mode is not played")
        else:
            say(f'[certs] Generating "{name}" certificate and key')
            keep_pair(PKI / name, *new_ca(common))
    leaves(run)
    if not (PKI / "sa.key").exists():
        say('[certs] Generating "sa" key and public key')
        key = openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")
        write(PKI / "sa.key", key)
        write(PKI / "sa.pub", openssl("pkey", "-pubout", text=key))


def leaves(run: Run) -> None:
    address, _ = run.local
    networking = run.cluster.get("networking") or {}
    domain = networking.get("dnsDomain", "cluster.local")
    endpoint = run.cluster.get("controlPlaneEndpoint", "").rpartition(":")[0].strip("[]")
    own = (run.cluster.get("etcd") or {}).get("local") or {}
    names = [
        run.node,
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        f"kubernetes.default.svc.{domain}",
        manifests.service_address(run.cluster, 1),
        address,
    ]
    names += [endpoint] if endpoint else []
    names += (run.cluster.get("apiServer") or {}).get("certSANs", [])
    members = [run.node, "localhost", address, "127.0.0.1", "::1"]
    both = "serverAuth,clientAuth"
    wanted: list[tuple[str, str, str, str, list[str] | None, str]] = [
        ("apiserver", "ca", "kube-apiserver", "serverAuth", names, ""),
        ("apiserver-kubelet-client", "ca", "kube-apiserver-kubelet-client", "clientAuth", None, "kubeadm:cluster-admins"),
        ("front-proxy-client", "front-proxy-ca", "front-proxy-client", "clientAuth", None, ""),
        ("etcd/server", "etcd/ca", run.node, both, members + own.get("serverCertSANs", []), ""),
        ("etcd/peer", "etcd/ca", run.node, both, members + own.get("peerCertSANs", []), ""),
        ("etcd/healthcheck-client", "etcd/ca", "kube-etcd-healthcheck-client", "clientAuth", None, ""),
        ("apiserver-etcd-client", "etcd/ca", "kube-apiserver-etcd-client", "clientAuth", None, ""),
    ]
    for name, ca, common, usage, sans, organisation in wanted:
        crt = PKI / f"{name}.crt"
        if crt.exists() and (PKI / f"{name}.key").exists():
            if not matches(crt.read_bytes(), PKI / f"{ca}.crt"):
                stop(f"certs/{name.replace('/', '-')}", f"[certs] certificate {name} is not signed by corresponding CA")
            say(f"[certs] Using existing {name} certificate and key on disk")
            continue
        say(f'[certs] Generating "{name}" certificate and key')
        keep_pair(PKI / name, *new_leaf(PKI / ca, common, usage, sans, organisation))


def conf(run: Run, name: str, server: str, common: str, organisation: str) -> None:
    path = KUBE / f"{name}.conf"
    if path.exists():
        say(f'[kubeconfig] Using existing kubeconfig file: "{path}"')
        return
    say(f'[kubeconfig] Writing "{name}.conf" kubeconfig file')
    crt, key = new_leaf(PKI / "ca", common, "clientAuth", None, organisation)
    user = {"admin": "kubernetes-admin", "super-admin": "kubernetes-super-admin"}.get(name, common)
    credentials = {"client-certificate-data": encoded(crt), "client-key-data": encoded(key)}
    write(path, kubeconfig(server, (PKI / "ca.crt").read_bytes(), user, credentials, run.cluster.get("clusterName", "kubernetes")))


def kubeconfigs(run: Run) -> None:
    new = minor(run.cluster["kubernetesVersion"]) >= 29
    conf(run, "admin", run.server, "kubernetes-admin", "kubeadm:cluster-admins" if new else "system:masters")
    if run.command == "init":
        if new:
            conf(run, "super-admin", run.server, "kubernetes-super-admin", "system:masters")
        conf(run, "kubelet", run.local_server if local_mode(run) else run.server, f"system:node:{run.node}", "system:nodes")
    for name in ("controller-manager", "scheduler"):
        conf(run, name, run.local_server, f"system:kube-{name}", "")


def local_mode(run: Run) -> bool:
    """ControlPlaneKubeletLocalMode: the kubelet of a control plane asks its own API server."""
    gates = run.cluster.get("featureGates") or {}
    number = minor(run.cluster["kubernetesVersion"])
    return number >= 35 or gates.get("ControlPlaneKubeletLocalMode", number >= 33)


# -- the kubelet ----------------------------------------------------------------------------------------------------------------------


def kubelet_configuration(run: Run) -> dict[str, Any]:
    """KubeletConfiguration as init uploads it (facts.md 1.14)."""
    networking = run.cluster.get("networking") or {}
    base = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration", "staticPodPath": str(MANIFESTS),
        "clusterDNS": [manifests.service_address(run.cluster, 10)], "clusterDomain": networking.get("dnsDomain", "cluster.local"), "cgroupDriver": "systemd",
        "healthzBindAddress": "127.0.0.1", "healthzPort": 10248, "rotateCertificates": True,
        "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True}, "x509": {"clientCAFile": str(PKI / "ca.crt")}},
        "authorization": {"mode": "Webhook"},
    }  # fmt: skip
    return {**base, **run.documents.get("KubeletConfiguration", {}), "rotateCertificates": True}


def kubelet_start(run: Run) -> None:
    systemctl("stop")
    flags = {"container-runtime-endpoint": run.socket}
    if minor(version()) < 35:
        flags["pod-infra-container-image"] = manifests.images(run.cluster)["pause"]
    if run.node != socket.gethostname():
        flags["hostname-override"] = run.node
    own = manifests.pairs(run.registration.get("kubeletExtraArgs"))
    words = [f"--{name}={value}" for name, value in sorted([*((n, v) for n, v in flags.items() if n not in dict(own)), *own])]
    say(f'[kubelet-start] Writing kubelet environment file with flags to file "{KUBELET}/kubeadm-flags.env"')
    write(KUBELET / "kubeadm-flags.env", f'KUBELET_KUBEADM_ARGS="{" ".join(words)}"\n', 0o644)
    say(f'[kubelet-start] Writing kubelet configuration to file "{KUBELET}/config.yaml"')
    write(KUBELET / "config.yaml", dump(manifests.patched(dict(run.kubelet), "kubeletconfiguration", run.patches)), 0o644)
    say("[kubelet-start] Starting the kubelet")
    systemctl("start")


def systemctl(verb: str) -> None:
    done = subprocess.run(["systemctl", verb, "kubelet"], capture_output=True, text=True, check=False)
    if done.returncode:
        complain(f"\t[WARNING] the kubelet service could not be told to {verb}: [{done.stderr.strip()}]")


def kubelet_healthy(run: Run) -> None:
    limit = run.timeout("kubeletHealthCheck", 240)
    say(f"[kubelet-check] Waiting for a healthy kubelet at http://127.0.0.1:10248/healthz. This can take up to {limit:g}s")

    def healthy() -> bool:
        try:
            with urlopen("http://127.0.0.1:10248/healthz", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    if not until(limit, healthy):
        stop(
            "kubelet-start",
            f"The HTTP call equal to 'curl -sSL http://127.0.0.1:10248/healthz' returned error after {limit:g}s: the kubelet is not healthy",
        )


def bootstrapped(run: Run) -> None:
    limit = run.timeout("tlsBootstrap", 300)
    say(f"[kubelet-start] Waiting for the kubelet to perform the TLS Bootstrap (up to {limit:g}s)")

    def done() -> bool:
        return (KUBE / "kubelet.conf").is_file() and answers(Client(KUBE / "kubelet.conf", timeout=5))

    if not until(limit, done):
        stop("kubelet-start", "timed out waiting for the condition: the kubelet did not get its certificate")
    (KUBE / "bootstrap-kubelet.conf").unlink(missing_ok=True)
    node = wait_node(run, Client(KUBE / "kubelet.conf"))
    node["metadata"].setdefault("annotations", {})[CRI_ANNOTATION] = run.socket
    Client(KUBE / "kubelet.conf").put(
        {"kind": "Node", "metadata": {"name": run.node, "annotations": {CRI_ANNOTATION: run.socket}}}, "update"
    )


def answers(client: Client) -> bool:
    try:
        return client.request("GET", "/readyz")[0] == 200
    except (Refused, OSError):
        return False


def wait_node(run: Run, client: Client) -> dict[str, Any]:
    def there() -> Any:
        try:
            return client.get("Node", run.node)
        except Refused:
            return None

    return until(run.timeout("kubernetesAPICall", 60), there) or stop(
        "mark-control-plane", f'error uploading crisocket: nodes "{run.node}" not found'
    )


# -- the cluster ---------------------------------------------------------------------------------------------------------------------


def patiently(run: Run, phase: str, call: Any) -> Any:
    """A call of the API server, repeated for kubernetesAPICall while there is no answer."""
    end = time.monotonic() + run.timeout("kubernetesAPICall", 60)
    while True:
        try:
            return call()
        except Refused as refused:
            if time.monotonic() > end or refused.status in (401, 403):
                stop(phase, str(refused))
            time.sleep(0.5)


def config_map(name: str, data: dict[str, str], namespace: str = "kube-system") -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data}


def put_token(client: Client, token: str, description: str, ttl: float) -> None:
    identity, _, secret = token.partition(".")
    data = {
        "token-id": identity, "token-secret": secret, "usage-bootstrap-authentication": "true", "usage-bootstrap-signing": "true", "description": description,
        "auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token",
    }  # fmt: skip
    if ttl:
        data["expiration"] = (datetime.now(UTC) + timedelta(seconds=ttl)).strftime("%Y-%m-%dT%H:%M:%SZ")
    client.put(
        {
            "apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
            "metadata": {"name": f"bootstrap-token-{identity}", "namespace": "kube-system"}, "data": {name: encoded(value) for name, value in data.items() if value},
        },
        "create",
    )  # fmt: skip


def new_token() -> str:
    alphabet = "abcdefghijklmnopqrstuvwxyz0123456789"
    return "".join(secrets.choice(alphabet) for _ in range(6)) + "." + "".join(secrets.choice(alphabet) for _ in range(16))


def upload(run: Run) -> None:
    client = Client(ADMIN)
    say('[upload-config] Storing the configuration used in ConfigMap "kubeadm-config" in the "kube-system" Namespace')
    patiently(run, "upload-config/kubeadm", lambda: client.put(config_map("kubeadm-config", {"ClusterConfiguration": dump(run.cluster)})))
    patiently(run, "upload-config/kubelet", lambda: client.put(config_map("kubelet-config", {"kubelet": dump(run.kubelet)})))
    info = {
        "kubeconfig": dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [
                    {"name": "", "cluster": {"server": run.server, "certificate-authority-data": encoded((PKI / "ca.crt").read_bytes())}}
                ],
            }
        )
    }
    patiently(run, "bootstrap-token", lambda: client.put(config_map("cluster-info", info, "kube-public")))
    wait_node(run, client)
    patiently(
        run,
        "upload-config/kubelet",
        lambda: client.put({"kind": "Node", "metadata": {"name": run.node, "annotations": {CRI_ANNOTATION: run.socket}}}, "update"),
    )


def mark_control_plane(run: Run) -> None:
    client = Client(ADMIN)
    wait_node(run, client)
    labels = {"node-role.kubernetes.io/control-plane": "", "node.kubernetes.io/exclude-from-external-load-balancers": ""}
    taints = run.registration.get("taints", [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}])
    patiently(
        run,
        "mark-control-plane",
        lambda: client.put({"kind": "Node", "metadata": {"name": run.node, "labels": labels}, "spec": {"taints": taints}}, "update"),
    )


def addons(run: Run) -> None:
    client = Client(ADMIN)
    refs = manifests.images(run.cluster)

    def workload(kind: str, name: str, image: str) -> dict[str, Any]:
        template = {"metadata": {"labels": {"k8s-app": name}}, "spec": {"containers": [{"name": name, "image": image}]}}
        return {
            "apiVersion": "apps/v1",
            "kind": kind,
            "metadata": {"name": name, "namespace": "kube-system"},
            "spec": {"template": template},
        }

    for skip, document in (
        ("addon/kube-proxy", workload("DaemonSet", "kube-proxy", refs["kube-proxy"])),
        ("addon/coredns", workload("Deployment", "coredns", refs["coredns"])),
    ):
        if not {skip, "addon"} & run.skipped:
            patiently(run, skip, lambda document=document: client.put(document))


def local_api(run: Run) -> None:
    """Waits for the API server of this host itself."""
    limit = run.timeout("controlPlaneComponentHealthCheck", 240)
    say(f"[control-plane-check] Waiting for a healthy API server. This can take up to {limit:g}s")
    client = Client(ADMIN, run.local_server, timeout=5)
    if not until(limit, lambda: answers(client), 0.3):
        stop(
            "wait-control-plane",
            f"kube-apiserver check failed at {run.local_server}/livez: could not initialize a Kubernetes cluster after {limit:g}s (crictl ps -a; journalctl -xeu kubelet)",
        )


# -- etcd ------------------------------------------------------------------------------------------------------------------------------


def etcdctl(endpoints: list[str], *words: str) -> str:
    pki = PKI / "etcd"
    command = [
        BIN / "etcdctl",
        f"--endpoints={','.join(endpoints)}",
        f"--cacert={pki}/ca.crt",
        f"--cert={pki}/healthcheck-client.crt",
        f"--key={pki}/healthcheck-client.key",
        "--command-timeout=5s",
        "--dial-timeout=3s",
        *words,
    ]
    done = subprocess.run(command, capture_output=True, text=True, env={"ETCDCTL_API": "3"}, check=False, timeout=60)
    if done.returncode:
        raise RuntimeError((done.stderr or done.stdout).strip().splitlines()[-1])
    return done.stdout


def members(endpoints: list[str]) -> list[tuple[str, str, str, str]]:
    """(id, name, peer URL, client URL)."""
    rows = [line.split(", ") for line in etcdctl(endpoints, "member", "list").splitlines()]
    return [(row[0], row[2], row[3], row[4]) for row in rows]


def etcd_endpoints(client: Client) -> list[str]:
    """From the mirror pods of etcd, then from etcd itself."""
    first = [
        pod["metadata"]["annotations"][ETCD_ANNOTATION] for pod in client.list("Pod") if pod["metadata"]["annotations"].get(ETCD_ANNOTATION)
    ]
    if not first:
        raise RuntimeError("could not retrieve the list of etcd endpoints")
    return [url for _, _, _, url in members(first) if url]


def etcd_join(run: Run) -> None:
    """A learner, then its manifest, then a voter (facts.md 3.2)."""
    address = run.local[0]
    peer, client = f"https://{host_port(address, 2380)}", f"https://{host_port(address, 2379)}"
    end = time.monotonic() + run.timeout("etcdAPICall", 120)
    learner = minor(version()) >= 29

    def patient(call: Any) -> Any:
        while True:
            try:
                return call()
            except (RuntimeError, Refused, subprocess.TimeoutExpired) as error:
                if time.monotonic() > end:
                    stop("control-plane-join/etcd", f"error creating local etcd static pod manifest file: {error}")
                time.sleep(0.5)

    others = [url for url in patient(lambda: etcd_endpoints(Client(ADMIN))) if url != client]
    if not any(url == peer for _, _, url, _ in patient(lambda: members(others))):
        say("[etcd] Announced new etcd member joining to the existing etcd cluster")
        patient(lambda: etcdctl(others, "member", "add", run.node, f"--peer-urls={peer}", *(["--learner"] if learner else [])))
    begin("etcd-added")
    listed = patient(lambda: members(others))
    cluster = [(run.node if url == peer else name or identity, url) for identity, name, url, _ in listed]
    say('[etcd] Creating static Pod manifest for "etcd"')
    manifests.write_manifest(manifests.etcd(run.cluster, run.node, address, cluster), run.patches)
    begin("etcd-learner")
    identity = next(identity for identity, _, url, _ in listed if url == peer)

    def promote() -> None:
        try:
            etcdctl(others, "member", "promote", identity)
        except RuntimeError as error:
            if not str(error).endswith("can only promote a learner member"):  # it votes already
                raise

    if learner:
        say("[etcd] Waiting for the etcd learner to be in sync, then it votes")
        patient(promote)
    begin("etcd-voter")
    say("[etcd] Waiting for the new etcd member to join the cluster. This can take up to 40s")
    if not until(40, lambda: healthy_member(client), 0.5):
        stop("control-plane-join/etcd", "timeout waiting for etcd cluster to be available")


def healthy_member(endpoint: str) -> bool:
    try:
        etcdctl([endpoint], "endpoint", "health")
    except (RuntimeError, subprocess.TimeoutExpired):
        return False
    return True


# -- init ------------------------------------------------------------------------------------------------------------------------------


def init(words: list[str], flags: dict[str, str]) -> None:
    only_beside(flags)
    if words:
        fail(f'unknown command "{words[0]}" for "kubeadm init"')
    run = Run("init", load(flags["config"]), flags)
    run.kubelet = kubelet_configuration(run)
    run.patches = manifests.read_patches((run.document.get("patches") or {}).get("directory"))
    say(f"[init] Using Kubernetes version: {run.cluster['kubernetesVersion']}")
    token = new_token()
    phases: dict[str, Callable[[Run], None]] = {
        "preflight": init_preflight, "certs": certs, "kubeconfig": kubeconfigs, "etcd": first_etcd, "control-plane": control_plane,
        "kubelet-start": kubelet_start, "wait-control-plane": wait_control_plane, "upload-config": upload, "mark-control-plane": mark_control_plane,
        "bootstrap-token": lambda run: first_tokens(run, token), "kubelet-finalize": finalize, "addon": addons,
    }  # fmt: skip
    for name, call in phases.items():
        if run.phase(name):
            call(run)
    say("\nYour Kubernetes control-plane has initialized successfully!\n")
    say(f"kubeadm join {run.server.removeprefix('https://')} --token {'<value withheld>' if 'skip-token-print' in flags else token}")


def init_preflight(run: Run) -> None:
    say("[preflight] Running pre-flight checks")
    checks = Checks(run)
    checks.skew()
    checks.general()
    checks.control_plane()
    checks.ports(10250)
    checks.files(KUBE / "kubelet.conf", KUBE / "bootstrap-kubelet.conf")
    checks.images()
    checks.end()


def first_etcd(run: Run) -> None:
    manifests.write_manifest(manifests.etcd(run.cluster, run.node, run.local[0], []), run.patches)
    Path(manifests.data_directory(run.cluster)).mkdir(parents=True, exist_ok=True, mode=0o700)


def wait_control_plane(run: Run) -> None:
    kubelet_healthy(run)
    local_api(run)


def first_tokens(run: Run, token: str) -> None:
    for own in run.document.get("bootstrapTokens") or [{"token": token}]:
        put_token(Client(ADMIN), own.get("token", token), own.get("description", ""), seconds_of(own.get("ttl", "24h")))


def control_plane(run: Run) -> None:
    for pod in (
        manifests.kube_apiserver(run.cluster, *run.local),
        manifests.kube_controller_manager(run.cluster),
        manifests.kube_scheduler(run.cluster),
    ):
        say(f'[control-plane] Creating static Pod manifest for "{pod["metadata"]["name"]}"')
        manifests.write_manifest(pod, run.patches)


def finalize(run: Run) -> None:
    """kubelet.conf with the rotatable certificate instead of the embedded one."""
    path = KUBE / "kubelet.conf"
    config = yaml.load(path.read_text(), Loader=LOADER)
    user = config["users"][0]["user"]
    if "client-certificate-data" not in user:
        return
    both = KUBELET / "pki" / "kubelet-client-current.pem"
    stamped = both.with_name(time.strftime("kubelet-client-%Y-%m-%d-%H-%M-%S.pem"))
    write(stamped, base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"]))
    both.unlink(missing_ok=True)
    both.symlink_to(stamped)
    config["users"][0]["user"] = {"client-certificate": str(both), "client-key": str(both)}
    write(path, dump(config))
    say(f"[kubelet-finalize] Updating {path} of {run.node} to point to a rotatable kubelet client certificate and key")


# -- join ------------------------------------------------------------------------------------------------------------------------------


def join(words: list[str], flags: dict[str, str]) -> None:
    only_beside(flags)
    if words:
        fail("stand-in: only --config is played")
    run = Run("join", load(flags["config"]), flags)
    if "file" not in run.document["discovery"]:
        fail("stand-in: only discovery by file is played")
    run.patches = manifests.read_patches((run.document.get("patches") or {}).get("directory"))
    if run.phase("preflight"):
        join_preflight(run)
    if run.is_control_plane:
        prepare(run)
    if run.phase("kubelet-start"):
        join_kubelet(run)
    if run.is_control_plane:
        become_control_plane(run)
    else:
        bootstrapped(run)
    begin("last")
    kind = " and a new control plane instance was created" if run.is_control_plane else ""
    say(f"\nThis node has joined the cluster{kind}:\n* Certificate signing request was sent to apiserver and a response was received.")


def prepare(run: Run) -> None:
    """What a control plane needs before its kubelet starts: everything but etcd."""
    if run.phase("control-plane-prepare"):
        leaves(run)
        begin("kubeconfig")
        kubeconfigs(run)
        begin("control-plane")
        control_plane(run)
    begin("check-etcd")
    try:
        endpoints = etcd_endpoints(Client(ADMIN))
    except (RuntimeError, Refused) as error:
        stop("check-etcd", f"error syncing endpoints with etcd: {error}")
    if not any(map(healthy_member, endpoints)):
        stop("check-etcd", "etcd cluster is not healthy")


def become_control_plane(run: Run) -> None:
    """etcd after the kubelet has its certificate; before it, where the kubelet asks its own API server for that."""
    local = local_mode(run)
    if not local:
        bootstrapped(run)
    if run.phase("etcd-join" if local else "control-plane-join"):
        etcd_join(run)
    if local:
        bootstrapped(run)
    if run.phase("mark-control-plane"):
        mark_control_plane(run)
    if minor(version()) >= 31 and run.phase("wait-control-plane"):
        local_api(run)


def join_preflight(run: Run) -> None:
    say("[preflight] Running pre-flight checks")
    checks = Checks(run)
    checks.general()
    checks.ports(10250)
    checks.files(KUBE / "kubelet.conf", KUBE / "bootstrap-kubelet.conf")
    if not run.is_control_plane:
        checks.files(Path(run.document.get("caCertPath", PKI / "ca.crt")))
    checks.end()
    discover(run)
    checks.skew()
    if run.is_control_plane:
        shared_files(run)
        checks.control_plane()
        checks.images()
    checks.end()


def discover(run: Run) -> None:
    """The cluster's configuration with the credentials of the discovery file, for as long as its timeout says."""
    client = Client(Path(run.document["discovery"]["file"]["kubeConfigPath"]))
    say(f"[discovery] Created cluster-info discovery client, requesting info from {client.server}")
    end = time.monotonic() + run.timeout("discovery", 300)
    why = ""
    while True:
        try:
            cluster = client.get("ConfigMap", "kubeadm-config", "kube-system")["data"]["ClusterConfiguration"]
            kubelet = client.get("ConfigMap", "kubelet-config", "kube-system")["data"]["kubelet"]
            info = yaml.load(client.get("ConfigMap", "cluster-info", "kube-public")["data"]["kubeconfig"], Loader=LOADER)
            break
        except Refused as refused:
            why = str(refused)
            if refused.status in (401, 403) or "x509" in why or time.monotonic() > end:
                stop("preflight", f"couldn't validate the identity of the API Server: {why}")
            time.sleep(1)
    if base64.b64decode(info["clusters"][0]["cluster"]["certificate-authority-data"]).strip() != client.ca.strip():
        stop("preflight", "couldn't validate the identity of the API Server: the CA of the discovery file is not the cluster's")
    run.cluster, run.kubelet, run.discovered = yaml.load(cluster, Loader=LOADER), yaml.load(kubelet, Loader=LOADER), client


def shared_files(run: Run) -> None:
    assert run.discovered
    missing = [name for name in SHARED_PKI if not (PKI / name).is_file()]
    if missing:
        stop(
            "preflight",
            "\nOne or more conditions for hosting a new control plane instance is not satisfied.\n\n"
            + "\n".join(
                f"failure loading certificate: couldn't load the certificate file {PKI}/{name}: open {PKI}/{name}: no such file or directory"
                for name in missing
            )
            + "\n\nPlease ensure that:\n* The cluster has a stable controlPlaneEndpoint address.\n* The certificates that must be shared among control plane instances are provided.",
        )
    if not run.cluster.get("controlPlaneEndpoint"):
        stop(
            "preflight",
            "\nOne or more conditions for hosting a new control plane instance is not satisfied.\n\nunable to add a new control plane instance to a cluster that doesn't have a stable controlPlaneEndpoint address",
        )
    if (PKI / "ca.crt").read_bytes().strip() != run.discovered.ca.strip():
        stop("preflight", f"{PKI}/ca.crt is not the CA of the cluster")
    for name in ("ca", "front-proxy-ca", "etcd/ca"):
        if openssl("x509", "-noout", "-pubkey", "-in", PKI / f"{name}.crt") != openssl("pkey", "-pubout", "-in", PKI / f"{name}.key"):
            stop("preflight", f"failure loading {name}: certificate and key do not match")


def join_kubelet(run: Run) -> None:
    assert run.discovered
    token = run.document["discovery"].get("tlsBootstrapToken") or run.discovered.user.get("token")
    if not token:
        stop("kubelet-start", "stand-in: a discovery file without a token")
    ca = Path(run.document.get("caCertPath", PKI / "ca.crt"))
    server = run.local_server if run.is_control_plane and local_mode(run) else run.discovered.server
    write(KUBE / "bootstrap-kubelet.conf", kubeconfig(server, run.discovered.ca, "tls-bootstrap-token-user", {"token": token}))
    if not ca.exists():
        write(ca, run.discovered.ca, 0o644)
    begin("bootstrap-conf")
    try:
        there = run.discovered.get("Node", run.node)
    except Refused as refused:
        there = None
        if refused.status != 404:
            stop("kubelet-start", f'cannot get Node "{run.node}": {refused}')
    if there and any(one["type"] == "Ready" and one["status"] == "True" for one in there["status"]["conditions"]):
        stop(
            "kubelet-start",
            f'a Node with name "{run.node}" and status "Ready" already exists in the cluster. You must delete the existing Node or change the name of this new joining Node',
        )
    kubelet_start(run)
    kubelet_healthy(run)


# -- reset -----------------------------------------------------------------------------------------------------------------------------


def own_configuration() -> tuple[dict[str, Any], str] | None:
    """The cluster's configuration and this host's address, as reset finds them: by admin.conf, kubelet.conf, the Node and the API server's pod."""
    if not ADMIN.exists():
        return None
    say("[reset] Reading configuration from the cluster...")
    try:
        client = Client(ADMIN, timeout=5)
        cluster = yaml.load(client.get("ConfigMap", "kubeadm-config", "kube-system")["data"]["ClusterConfiguration"], Loader=LOADER)
        client.get("ConfigMap", "kubelet-config", "kube-system")
        user = Client(KUBE / "kubelet.conf").user  # an error where it is not there
        crt = (
            base64.b64decode(user["client-certificate-data"])
            if "client-certificate-data" in user
            else Path(user["client-certificate"]).read_bytes()
        )
        name = re.sub(
            r".*CN=system:node:([^,\s]+).*", r"\1", openssl("x509", "-noout", "-subject", "-nameopt", "RFC2253", text=crt).decode().strip()
        )
        client.get("Node", name)["metadata"]["annotations"][CRI_ANNOTATION]  # so is this
        pod = client.get("Pod", f"kube-apiserver-{name}", "kube-system")
        return cluster, pod["metadata"]["annotations"][API_ANNOTATION].rpartition(":")[0].strip("[]")
    except (Refused, OSError, RuntimeError, KeyError, ValueError) as error:
        complain(f"W [reset] Unable to fetch the kubeadm-config ConfigMap from cluster: failed to get config map: {error}")
        return None


def reset(words: list[str], flags: dict[str, str]) -> None:
    if unknown := words or [
        name for name in flags if name not in {"f", "force", "cri-socket", "kubeconfig", "cert-dir", "cleanup-tmp-dir", "v"}
    ]:
        fail(f"stand-in: kubeadm reset {unknown[0]} is not played")
    if (
        "cri-socket" not in flags
        and sum(socket_answers(path) for path in ("/run/containerd/containerd.sock", "/run/cri-dockerd.sock", "/run/crio/crio.sock")) > 1
    ):
        fail(
            "error: found multiple CRI endpoints on the host. Please define which one do you wish to use by setting the 'criSocket' field in the kubeadm configuration file"
        )
    if not {"f", "force"} & flags.keys() and input("[reset] Are you sure you want to proceed? [y/N]: ").lower() != "y":
        fail("error execution phase preflight: aborted reset operation")
    found = own_configuration()
    say("[preflight] Running pre-flight checks")
    begin("reset")
    remove_member(found)
    begin("reset-removed")
    say("[reset] Stopping the kubelet service")
    systemctl("stop")
    end_containers()
    begin("reset-half")
    say(f"[reset] Deleting contents of directories: [{MANIFESTS} {KUBELET} {PKI}]")
    for directory in (MANIFESTS, KUBELET, PKI):
        clean(directory)
    names = ["admin", "super-admin", "kubelet", "bootstrap-kubelet", "controller-manager", "scheduler"]
    say(f"[reset] Deleting files: [{' '.join(f'{KUBE}/{name}.conf' for name in names)}]")
    for name in names:
        (KUBE / f"{name}.conf").unlink(missing_ok=True)
    say("\nThe reset process does not perform cleanup of CNI plugin configuration,\nnetwork filtering rules and kubeconfig files.")


def remove_member(found: tuple[dict[str, Any], str] | None) -> None:
    """Out of etcd, where the configuration could be read; the data goes in any case that the real one knows where it is."""
    manifest = MANIFESTS / "etcd.yaml"
    directory = manifests.data_directory(found[0]) if found else ""
    if not directory and manifest.is_file():
        complain("W [reset] No kubeadm config, using etcd pod spec to get data directory")
        pod = yaml.load(manifest.read_text(), Loader=LOADER)
        directory = next(item["hostPath"]["path"] for item in pod["spec"]["volumes"] if item["name"] == "etcd-data")
    if not directory:
        say("[reset] No etcd config found. Assuming external etcd\n[reset] Please, manually reset etcd to prevent further issues")
        return
    if found:
        address = found[1]
        if why := leave_etcd(f"https://{host_port(address, 2380)}", f"https://{host_port(address, 2379)}"):
            complain(f"W [reset] Failed to remove etcd member: {why}, please manually remove this etcd member using etcdctl")
    clean(Path(directory))
    say(f"[reset] Deleted contents of the etcd data directory: {directory}")


def leave_etcd(peer: str, own: str) -> str:
    """Why this host's member could not be removed; empty when it is gone, or the last. The real one tries again for about as long, too."""
    end = time.monotonic() + 60
    while True:
        try:
            endpoints = etcd_endpoints(Client(ADMIN))
            there = members(endpoints)
            identity = next((one for one, _, url, _ in there if url == peer), "")
            if len(there) > 1 and identity:
                etcdctl([url for url in endpoints if url != own] or endpoints, "member", "remove", identity)
        except (RuntimeError, Refused, subprocess.TimeoutExpired) as error:
            if time.monotonic() > end:
                return str(error)
            time.sleep(1)
        else:
            return ""


def clean(directory: Path) -> None:
    """What is in a directory; mounts below it stay."""
    for path in directory.iterdir() if directory.is_dir() else []:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


# -- the small ones ------------------------------------------------------------------------------------------------------------------


def token(words: list[str], flags: dict[str, str]) -> None:
    verb = words.pop(0) if words else "list"
    client = Client(Path(flags.get("kubeconfig", str(ADMIN))))
    if verb == "create":
        new = words[0] if words else new_token()
        if not TOKEN.fullmatch(new):
            fail(f'the bootstrap token "{new}" was not of the form "\\\\A([a-z0-9]{{6}})\\\\.([a-z0-9]{{16}})\\\\z"')
        put_token(client, new, flags.get("description", ""), seconds_of(flags.get("ttl", "24h")))
        say(new)
    elif verb == "delete":
        for word in words:
            name = f"bootstrap-token-{word.partition('.')[0]}"
            client.delete("Secret", name, "kube-system")
            say(f'bootstrap token "{word.partition(".")[0]}" deleted')
    elif verb == "list":
        say("TOKEN                     TTL         EXPIRES                DESCRIPTION")
        for one in client.list("Secret"):
            if one.get("type") == "bootstrap.kubernetes.io/token":
                data = {name: base64.b64decode(value).decode() for name, value in one["data"].items()}
                say(
                    f"{data['token-id']}.{data['token-secret']}   -           {data.get('expiration', '<forever>'):<20}   {data.get('description', '')}"
                )
    else:
        fail(f'unknown command "{verb}" for "kubeadm token"')


def config(words: list[str], flags: dict[str, str]) -> None:
    if words == ["validate"]:
        if {"help", "h"} & flags.keys():
            say("This command lets you validate a kubeadm configuration API file and report warnings and errors.")
            return
        load(flags.get("config") or fail("the --config flag is mandatory"))
        say("ok")
    elif words == ["images", "list"]:
        cluster = (
            load(flags["config"])["ClusterConfiguration"]
            if "config" in flags
            else {"kubernetesVersion": flags.get("kubernetes-version", version())}
        )
        if "image-repository" in flags:
            cluster["imageRepository"] = flags["image-repository"]
        say("\n".join(manifests.images(cluster).values()))
    else:
        fail(f"stand-in: kubeadm config {' '.join(words)} is not played")


def show_version(_: list[str], flags: dict[str, str]) -> None:
    short = flags.get("output") or flags.get("o")
    say(
        f"v{version()}"
        if short == "short"
        else json.dumps({"clientVersion": {"gitVersion": f"v{version()}"}})
        if short == "json"
        else f'kubeadm version: &version.Info{{GitVersion:"v{version()}"}}'
    )


COMMANDS = {"init": init, "join": join, "reset": reset, "token": token, "config": config, "version": show_version}


def main(words: list[str]) -> None:
    if not words or words[0] not in COMMANDS:
        fail(f'unknown command "{words[0] if words else ""}" for "kubeadm"\n{TRACE}')
    rest, flags = parse(words[1:])
    try:
        COMMANDS[words[0]](rest, flags)
    except Refused as refused:
        fail(f"{refused}\n{TRACE}")


if __name__ == "__main__":
    main(sys.argv[1:])
