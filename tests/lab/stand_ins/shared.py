"""What the stand-ins share: paths, a client of the API server with real TLS, certificates by openssl, images by the container runtime.

A host has this folder at /opt/lab/stand_ins, read-only; nothing of the bundle's scripts knows of it.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import re
import secrets
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote, urlsplit

import yaml

LAB = Path(__file__).resolve().parent.parent
BIN = LAB / "bin"
PYTHON = BIN / "python3"
STAND_INS = Path(__file__).resolve().parent
KUBE = Path("/etc/kubernetes")
PKI = KUBE / "pki"
MANIFESTS = KUBE / "manifests"
KUBELET = Path("/var/lib/kubelet")
RUN = Path("/run/lab")
CONTAINERS = RUN / "containers"
SHARED_PKI = ("ca.crt", "ca.key", "sa.key", "sa.pub", "front-proxy-ca.crt", "front-proxy-ca.key", "etcd/ca.crt", "etcd/ca.key")
COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd")
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# kind, apiVersion, plural, namespaced, short name: those that the bundle's manifests hold, and what the stand-ins store.
KINDS = [
    ("Namespace", "v1", "namespaces", False, "ns"),
    ("Node", "v1", "nodes", False, "no"),
    ("Pod", "v1", "pods", True, "po"),
    ("Secret", "v1", "secrets", True, ""),
    ("ConfigMap", "v1", "configmaps", True, "cm"),
    ("ServiceAccount", "v1", "serviceaccounts", True, "sa"),
    ("Service", "v1", "services", True, "svc"),
    ("DaemonSet", "apps/v1", "daemonsets", True, "ds"),
    ("Deployment", "apps/v1", "deployments", True, "deploy"),
    ("ClusterRole", "rbac.authorization.k8s.io/v1", "clusterroles", False, ""),
    ("ClusterRoleBinding", "rbac.authorization.k8s.io/v1", "clusterrolebindings", False, ""),
    ("Role", "rbac.authorization.k8s.io/v1", "roles", True, ""),
    ("RoleBinding", "rbac.authorization.k8s.io/v1", "rolebindings", True, ""),
    ("CustomResourceDefinition", "apiextensions.k8s.io/v1", "customresourcedefinitions", False, "crd"),
    ("PodDisruptionBudget", "policy/v1", "poddisruptionbudgets", True, "pdb"),
    ("NetworkPolicy", "networking.k8s.io/v1", "networkpolicies", True, "netpol"),
    ("PriorityClass", "scheduling.k8s.io/v1", "priorityclasses", False, "pc"),
    ("ValidatingAdmissionPolicy", "admissionregistration.k8s.io/v1", "validatingadmissionpolicies", False, ""),
    ("ValidatingAdmissionPolicyBinding", "admissionregistration.k8s.io/v1", "validatingadmissionpolicybindings", False, ""),
]


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def complain(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def fail(text: str, status: int = 1) -> NoReturn:
    complain(text)
    raise SystemExit(status)


def version() -> str:
    """The one version of all Kubernetes packages of the lab."""
    return (LAB / "kubernetes-version").read_text().strip().removeprefix("v")


def minor(text: str) -> int:
    return int(text.removeprefix("v").split(".")[1])


def write(path: Path, data: str | bytes, mode: int = 0o600) -> None:
    """A whole new file by rename; its temporary name begins with a dot, which the kubelet does not read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{os.getpid()}"
    with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        file.write(data.encode() if isinstance(data, str) else data)
        file.flush()
        os.fsync(file.fileno())
    temporary.chmod(mode)
    temporary.replace(path)


def dump(document: Any) -> str:
    """YAML as Kubernetes' own writer has it: sorted, lists at the indent of their key, no folded lines."""
    return yaml.safe_dump(json.loads(json.dumps(document)), width=1 << 20, allow_unicode=True)  # through JSON: no anchors


def until(seconds: float, true: Callable[[], Any], every: float = 0.2) -> Any:
    """What *true* returned when it was true; its last answer after *seconds*."""
    end = time.monotonic() + seconds
    while not (answer := true()) and time.monotonic() < end:
        time.sleep(every)
    return answer


def host_port(host: str, port: int | str) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def set_name(name: str) -> None:
    """The name that pgrep -x and /proc/PID/comm have for this process."""
    Path("/proc/self/comm").write_text(name[:15])


def seconds_of(text: str) -> float:
    """A Go duration."""
    unit = {"h": 3600, "m": 60, "s": 1, "ms": 0.001}
    return sum(float(number) * unit[word] for number, word in re.findall(r"([0-9.]+)(ms|h|m|s)", text))


# -- certificates -----------------------------------------------------------------------------------------------------------------


def openssl(*words: str | Path, text: str | bytes = "") -> bytes:
    data = text.encode() if isinstance(text, str) else text
    done = subprocess.run(["openssl", *map(str, words)], input=data, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"openssl {words[0]}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def new_key() -> bytes:
    """P-256, where kubeadm would take RSA-2048 unless told otherwise: the lab's machines are small."""
    return openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")


def _request(key: bytes, subject: str) -> bytes:
    with tempfile.NamedTemporaryFile() as file:
        file.write(key)
        file.flush()
        return openssl(
            "req", "-new", "-key", file.name, "-subj", subject, "-config", "/dev/stdin", text="[req]\ndistinguished_name=d\n[d]\n"
        )


def new_ca(name: str) -> tuple[bytes, bytes]:
    key = new_key()
    config = f"[req]\ndistinguished_name=d\nx509_extensions=x\n[d]\n[x]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,digitalSignature,keyEncipherment,keyCertSign\nsubjectKeyIdentifier=hash\nsubjectAltName=DNS:{name}\n"
    with tempfile.NamedTemporaryFile() as file:
        file.write(key)
        file.flush()
        crt = openssl(
            "req", "-x509", "-new", "-key", file.name, "-days", "3650", "-subj", f"/CN={name}", "-config", "/dev/stdin", text=config
        )
    return crt, key


def sign(request: bytes, ca: Path, usage: str, sans: list[str] | None = None, days: int = 365) -> bytes:
    """A certificate for *request* by the pair *ca*.crt and *ca*.key; *usage* is extendedKeyUsage."""
    extensions = f"basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature,keyEncipherment\nextendedKeyUsage={usage}\nauthorityKeyIdentifier=keyid\n"
    if sans:
        extensions += "subjectAltName=" + ",".join(f"{'IP' if is_address(name) else 'DNS'}:{name}" for name in dict.fromkeys(sans)) + "\n"
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(extensions)
        file.flush()
        serial = f"0x{secrets.token_hex(8)}"
        return openssl(
            "x509", "-req", "-CA", f"{ca}.crt", "-CAkey", f"{ca}.key", "-set_serial", serial, "-days", str(days), "-extfile", file.name, text=request
        )  # fmt: skip


def new_leaf(ca: Path, common: str, usage: str, sans: list[str] | None = None, organisation: str = "") -> tuple[bytes, bytes]:
    key = new_key()
    subject = (f"/O={organisation}" if organisation else "") + f"/CN={common}"
    return sign(_request(key, subject), ca, usage, sans), key


def new_request(common: str, organisation: str) -> tuple[bytes, bytes]:
    key = new_key()
    return _request(key, f"/O={organisation}/CN={common}"), key


def matches(crt: bytes, ca: Path) -> bool:
    """True when the certificate is signed by the CA whose certificate is *ca*."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(crt)
        file.flush()
        return subprocess.run(["openssl", "verify", "-CAfile", str(ca), file.name], capture_output=True, check=False).returncode == 0


def is_address(text: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            socket.inet_pton(family, text)
            return True
    return False


def encoded(data: bytes | str) -> str:
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


# -- kubeconfigs and the client of the API server -------------------------------------------------------------------------------------


def kubeconfig(server: str, ca: bytes, user: str, credentials: dict[str, str], cluster: str = "kubernetes") -> str:
    return dump(
        {
            "apiVersion": "v1", "kind": "Config", "preferences": {},
            "clusters": [{"name": cluster, "cluster": {"server": server, "certificate-authority-data": encoded(ca)}}],
            "contexts": [{"name": f"{user}@{cluster}", "context": {"cluster": cluster, "user": user}}],
            "current-context": f"{user}@{cluster}",
            "users": [{"name": user, "user": credentials}],
        }
    )  # fmt: skip


class Refused(Exception):  # noqa: N818  an answer, not a fault
    """The API server's answer was no, or there was none; *status* is 0 then, the message is as client-go words it."""

    def __init__(self, message: str, status: int = 0, reason: str = "") -> None:
        super().__init__(message)
        self.status, self.reason = status, reason


@dataclass
class Client:
    """A client by a kubeconfig. The server's certificate is verified for real: the kubeconfig's CA, and the name or address asked for."""

    path: Path
    server: str = ""
    name: str = ""
    timeout: float = 10
    config: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            config = yaml.load(self.path.read_text(), Loader=LOADER)
            context = next(item["context"] for item in config["contexts"] if item["name"] == config["current-context"])
            self.cluster = next(item["cluster"] for item in config["clusters"] if item["name"] == context["cluster"])
            self.user = (
                next(item["user"] for item in config.get("users") or [] if item["name"] == context["user"]) if context.get("user") else {}
            )
        except FileNotFoundError:
            raise Refused(f"error: stat {self.path}: no such file or directory") from None
        except (yaml.YAMLError, KeyError, TypeError, StopIteration) as error:
            raise Refused(f"error: error loading config file {str(self.path)!r}: {error!r}") from None
        self.server = self.server or self.cluster["server"]

    @property
    def ca(self) -> bytes:
        if data := self.cluster.get("certificate-authority-data"):
            return base64.b64decode(data)
        return Path(self.cluster["certificate-authority"]).read_bytes()

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.hostname_checks_common_name = False
        try:
            context.load_verify_locations(cadata=self.ca.decode())
        except (ssl.SSLError, KeyError, OSError) as error:
            raise Refused(f"error: unable to load root certificates: {error}") from None
        crt, key = (self.user.get(f"client-{word}-data") for word in ("certificate", "key"))
        if crt and key:
            with tempfile.NamedTemporaryFile(dir="/dev/shm") as file:
                file.write(base64.b64decode(crt) + b"\n" + base64.b64decode(key))
                file.flush()
                context.load_cert_chain(file.name)
        elif self.user.get("client-certificate"):
            context.load_cert_chain(self.user["client-certificate"], self.user["client-key"])
        return context

    def request(self, method: str, path: str, body: bytes | None = None, timeout: float | None = None) -> tuple[int, bytes]:
        url = urlsplit(self.server)
        host, port = url.hostname or "", url.port or 443
        where = host_port(host, port)
        connection = http.client.HTTPConnection(host, port)
        try:
            sock = socket.create_connection((host, port), timeout or self.timeout)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sock = self._context().wrap_socket(sock, server_hostname=self.name or host)
            headers = {"Authorization": f"Bearer {self.user['token']}"} if self.user.get("token") else {}
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except ConnectionRefusedError:
            raise Refused(f"The connection to the server {where} was refused - did you specify the right host or port?") from None
        except ssl.SSLCertVerificationError as error:
            raise Refused(
                f"Unable to connect to the server: tls: failed to verify certificate: x509: {self._why(error, host, port)}"
            ) from None
        except socket.gaierror:
            raise Refused(f"Unable to connect to the server: dial tcp: lookup {host}: no such host") from None
        except TimeoutError:
            raise Refused(
                f"Unable to connect to the server: net/http: request canceled (Client.Timeout exceeded) ({where}: i/o timeout)"
            ) from None
        except ssl.SSLError as error:
            # Go's client sends no certificate that the server's CA did not sign; Python's does, and the server hangs up.
            if "UNKNOWN_CA" in str(error) or "DECRYPT_ERROR" in str(error):
                return 401, b""
            raise Refused(f"Unable to connect to the server: {error.reason or 'EOF'}") from None
        except (ConnectionError, http.client.HTTPException):
            raise Refused("Unable to connect to the server: EOF") from None
        except OSError as error:
            raise Refused(f"Unable to connect to the server: dial tcp {where}: connect: {(error.strerror or str(error)).lower()}") from None
        finally:
            connection.close()

    def _why(self, error: ssl.SSLCertVerificationError, host: str, port: int) -> str:
        if error.verify_code in (62, 64):  # X509_V_ERR_HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH
            with contextlib.suppress(OSError, RuntimeError):
                text = openssl(
                    "x509", "-noout", "-ext", "subjectAltName", text=ssl.get_server_certificate((host, port), timeout=5)
                ).decode()
                names = ", ".join(re.findall(r"(?:DNS|IP Address):([^,\s]+)", text))
                return f"certificate is valid for {names}, not {self.name or host}"
        if error.verify_code == 10:
            return "certificate has expired or is not yet valid"
        return "certificate signed by unknown authority"

    def ask(self, method: str, path: str, body: Any = None, timeout: float | None = None) -> Any:
        """The JSON of a successful answer; :class:`Refused` with the server's status otherwise."""
        status, data = self.request(method, path, None if body is None else json.dumps(body).encode(), timeout)
        try:
            answer = json.loads(data) if data else {}
        except ValueError:
            answer = {"message": data.decode(errors="replace")}
        if status < 300:
            return answer
        if status == 401:
            raise Refused("error: You must be logged in to the server (Unauthorized)", status, "Unauthorized")
        reason = answer.get("reason", "InternalError")
        raise Refused(f"Error from server ({reason}): {answer.get('message', '')}", status, reason)

    def get(self, kind: str, name: str, namespace: str = "-") -> Any:
        return self.ask("GET", f"/lab/objects/{kind}/{namespace}/{quote(name)}")

    def list(self, kind: str) -> list[Any]:
        return self.ask("GET", f"/lab/objects/{kind}")["items"]

    def put(self, document: dict[str, Any], how: str = "replace", kind: str = "") -> Any:
        """*how*: create, apply (as kubectl), merge (what is there and *document*), update (merge; 404 where there is none), replace."""
        meta = document["metadata"]
        return self.ask(
            "PUT", f"/lab/objects/{kind or document['kind']}/{meta.get('namespace', '-')}/{quote(meta['name'])}?{how}", document
        )

    def delete(self, kind: str, name: str, namespace: str = "-") -> None:
        self.ask("DELETE", f"/lab/objects/{kind}/{namespace}/{quote(name)}")


# -- what the runtime and the kubelet know -------------------------------------------------------------------------------------------


def socket_answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        try:
            sock.connect(path.removeprefix("unix://"))
        except OSError:
            return False
    return True


def _runtime(path: str, *words: str) -> subprocess.CompletedProcess[str]:
    """The runtime's own tool; 127 when it is not there."""
    if not shutil.which(words[0]):
        return subprocess.CompletedProcess(words, 127, "", f"{words[0]}: not found")
    full = [words[0], "--address", path, "--namespace", "k8s.io", *words[1:]] if words[0] == "ctr" else list(words)
    try:
        return subprocess.run(full, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, 124, "", "timeout")


def image_tool(path: str) -> str:
    return "docker" if "docker" in path else "podman" if "crio" in path else "ctr"


def images(path: str) -> list[str]:
    """Every image of the runtime behind the socket."""
    if not socket_answers(path):
        return []
    words = {
        "ctr": ("images", "ls", "-q"),
        "docker": ("images", "--format", "{{.Repository}}:{{.Tag}}"),
        "podman": ("images", "--format", "{{.Repository}}:{{.Tag}}"),
    }
    tool = image_tool(path)
    return _runtime(path.removeprefix("unix://"), tool, *words[tool]).stdout.split()


def has_image(ref: str, path: str) -> bool:
    """True when the runtime behind the socket *path* has the image: the real containerd is asked, or the stand-ins of docker and podman."""
    tool = image_tool(path)
    if tool == "ctr":
        return ref in images(path)
    words = ("image", "inspect", ref) if tool == "docker" else ("image", "exists", ref)
    return socket_answers(path) and _runtime(path, tool, *words).returncode == 0


def remove_image(ref: str, path: str) -> bool:
    tool = image_tool(path)
    words = ("images", "rm", ref) if tool == "ctr" else ("rmi", ref)
    return _runtime(path.removeprefix("unix://"), tool, *words).returncode == 0


def started(pid: int) -> int:
    """When a process began, in ticks after boot; 0 when it is gone (or a zombie)."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if words[0] in "ZX" else int(words[19])


def containers() -> Iterator[dict[str, Any]]:
    """The kubelet's containers, as it wrote them down; "state" is Running or Exited."""
    for path in sorted(CONTAINERS.glob("*.json")):
        with contextlib.suppress(OSError, ValueError):
            state = json.loads(path.read_text())
            alive = state["pid"] and started(state["pid"]) == state["start"]
            yield state | {"state": "Running" if alive else "Exited"}


def end_containers(seconds: float = 10) -> None:
    """What ``crictl rmp -f`` does to all sandboxes: every container stops, SIGKILL after *seconds*, and is forgotten."""
    there = [state for state in containers() if state["state"] == "Running"]
    for state in there:
        with contextlib.suppress(ProcessLookupError):
            os.kill(state["pid"], 15)
    until(seconds, lambda: not any(started(state["pid"]) == state["start"] for state in there), 0.1)
    for state in there:
        if started(state["pid"]) == state["start"]:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(state["pid"], 9)
    until(5, lambda: not any(started(state["pid"]) == state["start"] for state in there), 0.05)
    shutil.rmtree(CONTAINERS, ignore_errors=True)
