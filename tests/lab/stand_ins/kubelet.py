"""kubelet, played: static pods as processes, TLS bootstrap, the Node object.

Real: which files of the manifest directory count and which of two wins, one container after the other, restarts with back-off, refusal without
its configuration, its runtime or a pod's image, containers that outlive it and that the next one adopts, certificates and the API server's
answers. Played: a container is a process in a session and a cgroup of its own, with no image, mount or limit; probes are not made; pods of
DaemonSets are objects only, Ready when the images of their DaemonSet are in the runtime.

/run/lab/kubelet-late: a number of seconds by which a changed manifest is noticed late.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import container
import yaml
from shared import (
    BIN,
    CONTAINERS,
    LAB,
    LOADER,
    PYTHON,
    RUN,
    STAND_INS,
    Client,
    Refused,
    complain,
    fail,
    has_image,
    kubeconfig,
    minor,
    new_request,
    set_name,
    socket_answers,
    started,
    version,
    write,
)  # fmt: skip

sys.path.insert(0, str(LAB))
FLAGS = {
    "bootstrap-kubeconfig", "kubeconfig", "config", "container-runtime-endpoint", "hostname-override", "node-ip", "node-labels", "register-with-taints",
    "pod-infra-container-image", "cert-dir", "cgroup-driver", "cloud-provider", "provider-id", "resolv-conf", "root-dir", "v", "volume-plugin-dir",
    "image-credential-provider-bin-dir", "image-credential-provider-config", "max-pods", "system-reserved", "kube-reserved", "read-only-port", "fail-swap-on",
    "feature-gates", "seccomp-default", "runtime-cgroups", "kubelet-cgroups", "tls-cipher-suites", "tls-min-version", "rotate-server-certificates",
}  # fmt: skip
FIELDS = {"authentication", "authorization", "cpuManagerReconcilePeriod", "evictionPressureTransitionPeriod", "nodeStatusUpdateFrequency", "logging", "imageMinimumGCAge", "streamingConnectionIdleTimeout", "syncFrequency", "volumeStatsAggPeriod"}  # fmt: skip
STOP_SECONDS = 30
CGROUPS = Path("/sys/fs/cgroup")
# "$0": the container's cgroup, or nothing where the host has none; then its name, its program and its words.
LAUNCH = '[ -z "$0" ] || echo $$ >"$0/cgroup.procs"; name=$1 program=$2; shift 2; exec -a "$name" "$program" "$@"'


def late() -> float:
    try:
        return float((RUN / "kubelet-late").read_text() or 0)
    except (OSError, ValueError):
        return 0


@dataclass
class Container:
    """One pod's container, and what the file of its name in CONTAINERS has of it."""

    name: str
    digest: str = ""
    pid: int = 0
    start: int = 0
    id: str = ""
    image: str = ""
    attempt: int = 0
    exits: int = 0
    began: float = 0.0
    next: float = 0.0
    stopping: float = 0.0
    pod: dict[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return CONTAINERS / f"{self.name}.json"

    def save(self) -> None:
        write(self.path, json.dumps(asdict(self)))

    def alive(self) -> bool:
        if not self.pid:
            return False
        with contextlib.suppress(ChildProcessError):  # adopted: it is the first process's child
            os.waitpid(self.pid, os.WNOHANG)
        return started(self.pid) == self.start

    def launch(self) -> None:
        spec = self.pod["spec"]["containers"][0]
        words = [str(word) for word in [*(spec.get("command") or []), *(spec.get("args") or [])]] or [spec["name"]]
        name, program, environment = words[0], "", dict(os.environ)
        if words[0] == "etcd" and container.needs_shim(words):
            environment["LAB_WORDS"] = "\n".join(words)
            program, *words = container.command()
            name = program
        elif words[0] == "etcd":
            program, words = str(BIN / "etcd"), words[1:]
            environment |= container.ALWAYS
        elif words[0] == "kube-apiserver":
            name = program = str(PYTHON)
            words = ["-E", "-s", "-B", str(STAND_INS / "kube_apiserver.py"), *words[1:]]
        else:
            name = program = str(PYTHON)
            port = {"kube-controller-manager": 10257, "kube-scheduler": 10259}.get(words[0], 0)
            words = ["-E", "-s", "-B", str(STAND_INS / "container.py"), words[0], str(port)]
        log = Path("/var/log/pods", f"{self.name}.log")
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            process = subprocess.Popen(
                ["/bin/bash", "-c", LAUNCH, self._cgroup(), name, program, *words], stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                env=environment, cwd="/", start_new_session=True,
            )  # fmt: skip
        process.returncode = 0  # waited for in alive(), not by subprocess
        self.attempt += 1
        self.pid, self.start, self.began, self.stopping = process.pid, started(process.pid), time.time(), 0.0
        self.id = hashlib.sha256(f"{self.name} {self.pid} {self.began}".encode()).hexdigest()
        self.image = spec.get("image", "")
        self.save()
        complain(f"started container {self.name}, attempt {self.attempt}, pid {self.pid}")

    def _cgroup(self) -> str:
        """A cgroup of its own, out of the kubelet's unit: systemd ends what is in the unit's."""
        if not (CGROUPS / "cgroup.procs").exists():
            return ""
        path = CGROUPS / "kubepods" / self.name
        path.mkdir(parents=True, exist_ok=True)
        return str(path)

    def ended(self) -> None:
        """Back-off: 1 s after the first end, then 10, 20, 40 up to 300 s; forgotten when it had run for 10 minutes."""
        self.exits = 1 if time.time() - self.began > 600 else self.exits + 1
        wait = 1 if self.exits == 1 else min(300, 10 * 2 ** (self.exits - 2))
        self.pid, self.next = 0, time.time() + wait
        self.save()
        complain(f"container {self.name} ended; back-off {wait} s")

    def stop(self) -> bool:
        """True when it is gone: SIGTERM, and SIGKILL after 30 s."""
        if not self.alive():
            self.pid = 0
            return True
        if not self.stopping:
            self.stopping = time.time()
            os.kill(self.pid, signal.SIGTERM)
            complain(f"stopping container {self.name}, pid {self.pid}")
        elif time.time() - self.stopping > STOP_SECONDS:
            os.killpg(self.pid, signal.SIGKILL)
        return False


@dataclass
class Kubelet:
    flags: dict[str, str]
    config: dict[str, Any]
    node: str
    socket: str
    containers: dict[str, Container] = field(default_factory=dict)
    noticed: dict[str, tuple[str, float]] = field(default_factory=dict)
    images: dict[str, bool] = field(default_factory=dict)

    # -- static pods

    def read(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """name -> (digest, pod) of every regular file whose name does not begin with a dot; of two with one name the later file wins."""
        found: dict[str, tuple[str, dict[str, Any]]] = {}
        directory = Path(self.config.get("staticPodPath") or "/nonexistent")
        for path in sorted(directory.iterdir()) if directory.is_dir() else []:
            if path.name.startswith(".") or not path.is_file():
                continue
            try:
                data = path.read_bytes()
                pod = yaml.load(data, Loader=LOADER)
                name = (
                    pod["metadata"]["name"]
                    if (pod["apiVersion"], pod["kind"]) == ("v1", "Pod") and pod["spec"]["containers"][0]["name"]
                    else ""
                )
            except (OSError, yaml.YAMLError, KeyError, TypeError, IndexError, ValueError) as error:
                complain(f"Could not process manifest file {path}: {error!r}")
                continue
            if name:
                found[name] = (hashlib.sha256(data).hexdigest(), pod)
        return found

    def wanted(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """As ``read``, but a change counts only when it is kubelet-late seconds old."""
        now, found, wait = time.time(), self.read(), late()
        result = {}
        for name in {*found, *self.containers}:
            digest = found[name][0] if name in found else ""
            known = self.containers[name].digest if name in self.containers else ""
            if digest != known and wait:
                seen, since = self.noticed.get(name, ("", 0))
                if seen != digest:
                    self.noticed[name] = seen, since = digest, now
                if now - since < wait:
                    if known:
                        result[name] = (known, self.containers[name].pod)
                    continue
            elif digest == known:
                self.noticed.pop(name, None)
            if name in found:
                result[name] = found[name]
        return result

    def adopt(self) -> None:
        for path in CONTAINERS.glob("*.json"):
            try:
                there = Container(**json.loads(path.read_text()))
            except (OSError, ValueError, TypeError):
                continue
            self.containers[there.name] = there
            complain(f"adopted container {there.name}, pid {there.pid}")

    def sync(self) -> None:
        wanted = self.wanted()
        for name in [name for name in self.containers if name not in wanted]:
            if self.containers[name].stop():
                self.containers.pop(name).path.unlink(missing_ok=True)
        for name, (digest, pod) in wanted.items():
            one = self.containers.get(name)
            if one and one.digest != digest:
                if not one.stop():
                    continue
                one = None
            if one is None:
                one = self.containers[name] = Container(name, digest, pod=pod)
            if one.alive():
                continue
            if one.pid:
                one.ended()
            if time.time() >= one.next:
                self.start(one)

    def start(self, one: Container) -> None:
        image = one.pod["spec"]["containers"][0].get("image", "")
        pause = self.pause_image()
        for ref in [ref for ref in (pause, image) if ref]:
            if not has_image(ref, self.socket):
                complain(f'Failed to pull image "{ref}" for pod {one.name}: there is no network (ErrImagePull)')
                one.next = time.time() + 5
                return
        one.launch()

    def pause_image(self) -> str:
        """The sandbox image that containerd's configuration names; of the other runtimes it is not asked."""
        path = Path("/etc/containerd/config.toml")
        if "containerd" not in self.socket or not path.is_file():
            return ""
        match = re.search(r'^\s*sandbox(?:_image)?\s*=\s*["\']([^"\']+)["\']', path.read_text(), re.MULTILINE)
        return match[1] if match else ""

    # -- the API server

    def bootstrapped(self) -> bool:
        """kubelet.conf is there, or is made now: a request for a certificate with the bootstrap token."""
        conf = Path(self.flags["kubeconfig"])
        if conf.exists():
            return True
        client = Client(Path(self.flags["bootstrap-kubeconfig"]))
        request, key = new_request(f"system:node:{self.node}", "system:nodes")
        status, data = client.request("POST", "/lab/csr", request)
        if status != 200:
            raise Refused(
                f"cannot create certificate signing request: {'Unauthorized' if status == 401 else data.decode(errors='replace')}", status
            )
        both = Path("/var/lib/kubelet/pki/kubelet-client-current.pem")
        stamped = both.with_name(time.strftime("kubelet-client-%Y-%m-%d-%H-%M-%S.pem"))
        write(stamped, json.loads(data)["certificate"].encode() + key)
        both.unlink(missing_ok=True)
        both.symlink_to(stamped)
        write(conf, kubeconfig(client.server, client.ca, "default-auth", {"client-certificate": str(both), "client-key": str(both)}))
        return True

    def pods(self, client: Client) -> Iterator[dict[str, Any]]:
        """The mirror pods of the static ones, and the pods that DaemonSets would have here."""
        for one in list(self.containers.values()):
            meta = one.pod["metadata"]
            running = one.alive() and not one.stopping
            yield self.pod(meta.get("namespace", "default"), one.name, meta, ready=running)
        for daemon in client.list("DaemonSet"):
            template = daemon["spec"]["template"]
            spec = template["spec"]
            refs = {item["image"] for item in (*spec.get("containers", []), *spec.get("initContainers", []))}
            for ref in sorted(refs):
                if not self.images.get(ref):
                    self.images[ref] = has_image(ref, self.socket)
            meta = daemon["metadata"]
            yield self.pod(meta["namespace"], meta["name"], template["metadata"], ready=all(self.images[ref] for ref in refs))

    def pod(self, namespace: str, name: str, meta: dict[str, Any], *, ready: bool) -> dict[str, Any]:
        return {
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": f"{name}-{self.node}", "namespace": namespace, "labels": meta.get("labels") or {}, "annotations": meta.get("annotations") or {}},
            "spec": {"nodeName": self.node},
            "status": {"phase": "Running" if ready else "Pending", "conditions": [{"type": "Ready", "status": str(ready)}]},
        }  # fmt: skip

    def report(self) -> None:
        """For ever, in a thread: registers the node once, then its status and its pods every 5 s."""
        registered, known = False, {}
        while True:
            try:
                if self.bootstrapped():
                    client = Client(Path(self.flags["kubeconfig"]), timeout=5)
                    pods = list(self.pods(client))
                    network = any(
                        pod["metadata"]["name"].startswith(("kube-flannel-ds", "calico-node")) and pod["status"]["phase"] == "Running"
                        for pod in pods
                    )
                    client.put(self.status(network), "update" if registered else "merge")
                    registered = True
                    known = self.mirror(client, pods, known)
            except (Refused, OSError, RuntimeError, KeyError, ValueError) as error:
                complain(f"Error updating node status: {error}")
                time.sleep(1)
                continue
            time.sleep(5 if network else 1)

    def mirror(self, client: Client, pods: list[dict[str, Any]], known: dict[str, str]) -> dict[str, str]:
        """Writes the pods that changed, removes those that are gone."""
        now = {f"{pod['metadata']['namespace']}/{pod['metadata']['name']}": json.dumps(pod) for pod in pods}
        for pod, (name, text) in zip(pods, now.items(), strict=True):
            if known.get(name) != text:
                client.put(pod)
        for name in known.keys() - now.keys():
            try:
                client.delete("Pod", name.partition("/")[2], name.partition("/")[0])
            except Refused as refused:
                if refused.status != 404:
                    raise
        return now

    def status(self, network: bool) -> dict[str, Any]:
        ready = {
            "type": "Ready",
            "status": str(network),
            "heartbeat": time.time(),
            "reason": "KubeletReady" if network else "KubeletNotReady",
        }
        address = {"type": "InternalIP", "address": self.flags.get("node-ip", "")}
        return {
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": self.node, "labels": {"kubernetes.io/hostname": self.node}},
            "status": {"conditions": [ready], "nodeInfo": {"kubeletVersion": f"v{version()}"}, "addresses": [address]},
        }  # fmt: skip


class Healthz(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        known = self.path == "/healthz"
        self.send_response(200 if known else 404)
        self.end_headers()
        self.wfile.write(b"ok" if known else b"404 page not found")

    def log_message(self, *_: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self) -> None:
        """Both families on one socket; no look-up of names."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "kubelet", self.server_address[1]


class Both(Server):
    address_family = socket.AF_INET6


def parse(words: list[str]) -> dict[str, str]:
    flags = {}
    for word in words:
        name, _, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or name not in FLAGS or (name == "pod-infra-container-image" and minor(version()) >= 35):
            fail(f'E run.go: "command failed" err="failed to parse kubelet flag: unknown flag: {word.partition("=")[0]}"')
        flags[name] = value
    return flags


def configuration(path: str) -> dict[str, Any]:
    import kubeadm_schema

    def no(why: str) -> None:
        fail(f'E run.go: "command failed" err="failed to load kubelet config file, path: {path}, error: {why}"')

    try:
        config = yaml.load(Path(path).read_text(), Loader=LOADER)
    except FileNotFoundError:
        no(f"open {path}: no such file or directory")
    except yaml.YAMLError as error:
        no(str(error))
    if not isinstance(config, dict) or config.get("kind") != "KubeletConfiguration":
        no("no KubeletConfiguration")
    if unknown := config.keys() - kubeadm_schema.KUBELET.keys() - FIELDS:
        no(f'strict decoding error: unknown field "{min(unknown)}"')
    return config


def main(words: list[str]) -> None:
    if words[:1] == ["--version"]:
        sys.stdout.write(f"Kubernetes v{version()}\n")
        return
    set_name("kubelet")
    flags = parse(words)
    config = configuration(flags.get("config", ""))
    endpoint = config.get("containerRuntimeEndpoint") or flags.get("container-runtime-endpoint", "unix:///run/containerd/containerd.sock")
    if not socket_answers(endpoint):
        fail(
            f'E run.go: "command failed" err="failed to run Kubelet: validate service connection: dial unix {endpoint}: no such file or directory"'
        )
    conf, bootstrap = flags.get("kubeconfig", ""), flags.get("bootstrap-kubeconfig", "")
    if not Path(conf).exists() and not Path(bootstrap).exists():
        fail(
            f'E run.go: "command failed" err="failed to run Kubelet: unable to load bootstrap kubeconfig: stat {bootstrap}: no such file or directory"'
        )
    kubelet = Kubelet(flags, config, flags.get("hostname-override") or socket.gethostname().lower(), endpoint)
    try:
        servers = [Server(("127.0.0.1", config.get("healthzPort", 10248)), Healthz), any_address(10250)]
    except OSError as error:
        fail(f'E run.go: "command failed" err="failed to start listener: {error}"')
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # the containers stay
    kubelet.adopt()
    for call in (kubelet.report, *(server.serve_forever for server in servers)):
        daemon(call)
    complain(f"Started kubelet v{version()} on node {kubelet.node}")
    while True:
        kubelet.sync()
        time.sleep(0.5)


def any_address(port: int) -> Server:
    try:
        return Both(("::", port), Healthz)
    except OSError as error:
        if error.errno == 98:  # taken
            raise
        return Server(("0.0.0.0", port), Healthz)


def daemon(call: Callable[[], None]) -> None:
    threading.Thread(target=call, daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1:])
