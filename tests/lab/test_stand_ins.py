"""The lab's stand-ins for Kubernetes by themselves: what they refuse, and one small cluster, in namespaces instead of booted hosts."""

from __future__ import annotations

import base64
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.needs("root", "unshare", "nsenter", "setpriv", "ip", "etcd", "etcdctl", "openssl")

HERE = Path(__file__).resolve().parent
VERSION = "1.31.14"
PKI = "/etc/kubernetes/pki"
SETUP = r"""
set -e
mount -t tmpfs tmpfs "$ROOM"
for one in etc var usr opt; do mkdir -p "$ROOM/$one" "$ROOM/.$one"; mount -t overlay overlay -o "lowerdir=/$one,upperdir=$ROOM/$one,workdir=$ROOM/.$one" "/$one"; done
mount -t tmpfs tmpfs /run
ip link set lo up
echo 1 >/proc/sys/net/ipv4/ip_forward
hostname "$NAME"
rm -rf /opt/lab; mkdir -p /opt/lab/bin /opt/lab/stand_ins /run/lab /etc/kubernetes
mount --bind "$STAND_INS" /opt/lab/stand_ins
cp "$SCHEMA" /opt/lab/
echo "$VERSION" >/opt/lab/kubernetes-version
ln -s /usr/bin/etcd /usr/bin/etcdctl /opt/lab/bin/
printf '#!/bin/sh\nexec %s "$@"\n' "$PYTHON" >/opt/lab/bin/python3
for one in kubeadm kubelet kubectl crictl; do printf '#!/bin/sh\nexec /opt/lab/bin/python3 -E -s -B /opt/lab/stand_ins/%s.py "$@"\n' $one >/usr/bin/$one; chmod 755 /usr/bin/$one; done
printf '%s' "$SYSTEMCTL" >/usr/bin/systemctl; printf '%s' "$DOCKER" >/usr/bin/docker
chmod 755 /opt/lab/bin/python3 /usr/bin/systemctl /usr/bin/docker
/usr/bin/kubeadm config images list >/etc/images
echo 10.77.0.25 endpoint >>/etc/hosts
"$PYTHON" -c 'import socket; s=socket.socket(socket.AF_UNIX); s.bind("/run/cri-dockerd.sock"); s.listen(9)
while True: s.accept()[0].close()' &
while [ ! -S /run/cri-dockerd.sock ]; do sleep 0.02; done
echo up
wait
"""
# Only what kubeadm asks of it; the kubelet comes back at once, not after 10 s.
SYSTEMCTL = r"""#!/bin/bash
[ "$2" = kubelet ] || exit 1
if [ "$1" = start ]; then
  setsid bash -c 'echo $$ >/run/unit; while :; do . /var/lib/kubelet/kubeadm-flags.env; kubelet --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf --config=/var/lib/kubelet/config.yaml $KUBELET_KUBEADM_ARGS & echo $! >/run/kubelet; wait $!; sleep 1; done' >>/var/log/kubelet.log 2>&1 </dev/null &
elif [ -s /run/unit ]; then kill -9 $(cat /run/unit); kill $(cat /run/kubelet); rm /run/unit; sleep 0.1; fi
exit 0
"""
DOCKER = '#!/bin/sh\n[ "$1 $2" = "image inspect" ] && grep -Fxq -- "$3" /etc/images\n'
JOIN = """\
apiVersion: kubeadm.k8s.io/v1beta4
kind: JoinConfiguration
nodeRegistration: {{name: {name}, criSocket: "unix:///run/cri-dockerd.sock"}}
discovery: {{file: {{kubeConfigPath: /etc/kubernetes/discovery.conf}}}}
timeouts: {{discovery: 3s}}
{more}"""
INIT = """\
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
nodeRegistration: {name: master-1, criSocket: "unix:///run/cri-dockerd.sock"}
localAPIEndpoint: {advertiseAddress: 10.77.0.25}
patches: {directory: /etc/kubernetes/patches}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: v1.31.14
controlPlaneEndpoint: endpoint:6443
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: systemd
"""
FLANNEL = """\
apiVersion: v1
kind: Namespace
metadata: {name: kube-flannel}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: kube-flannel-ds, namespace: kube-flannel}
spec: {template: {metadata: {labels: {app: flannel}}, spec: {containers: [{name: f, image: registry.k8s.io/pause:3.10}]}}}
"""


class Room:
    """A host: a PID, mount, network and UTS namespace of its own, all of it gone with ``close``."""

    def __init__(self, path: Path, name: str, number: int) -> None:
        path.mkdir()
        self.name, self.address = name, f"10.77.0.{number}"
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "ROOM": str(path), "NAME": name, "STAND_INS": str(HERE / "stand_ins"), "SCHEMA": str(HERE.parent / "kubeadm_schema.py"),
            "VERSION": VERSION, "PYTHON": sys.executable, "SYSTEMCTL": SYSTEMCTL, "DOCKER": DOCKER,
        }  # fmt: skip
        words = [
            "setpriv",
            "--pdeathsig",
            "KILL",
            "unshare",
            "--mount",
            "--net",
            "--pid",
            "--uts",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "bash",
            "-c",
            SETUP,
        ]
        self.process = subprocess.Popen(
            words, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout
        if self.process.stdout.readline() != "up\n":
            self.process.kill()
            raise AssertionError(self.process.communicate()[1])
        self.pid = int(Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text())

    def run(self, *words: str, status: int = 0, timeout: float = 60) -> str:
        done = subprocess.run(
            ["nsenter", f"--target={self.pid}", "--mount", "--net", "--pid", "--uts", *words],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False, cwd="/", env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )  # fmt: skip
        assert done.returncode == status, f"{shlex.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def sh(self, script: str, status: int = 0) -> str:
        return self.run("bash", "-c", script, status=status)

    def write(self, path: str, text: str) -> None:
        self.sh(f"mkdir -p $(dirname {path}); base64 -d >{path} <<<{base64.b64encode(text.encode()).decode()}")

    def read(self, path: str) -> str:
        return self.run("cat", path)

    def kubectl(self, words: str, status: int = 0) -> str:
        return self.run("kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", *shlex.split(words), status=status)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


def within(seconds: float, true: Callable[[], object]) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    room = Room(tmp_path_factory.mktemp("rooms") / "alone", "master-1", 25)
    try:
        room.write("/etc/init.yaml", INIT)
        room.sh("mkdir /etc/kubernetes/patches; ip address add 10.77.0.25/24 dev lo")
        yield room
    finally:
        room.close()


REFUSALS = {
    "flag beside": ("", "--control-plane", "can not mix '--config' with arguments [control-plane]"),
    "unknown flag": ("", "--no-such", "unknown flag: --no-such"),
    "unknown field": ("sed -i 's/^localAPIEndpoint/nosuch: 1\\n&/' /etc/init.yaml", "", "unknown field InitConfiguration.nosuch"),
    "newer": ("echo 1.30.2 >/opt/lab/kubernetes-version; sed -i s/v1beta4/v1beta3/ /etc/init.yaml", "", "kubernetesVersion is not pinned to this minor"),
    "manifest": ("mkdir -p /etc/kubernetes/manifests; touch /etc/kubernetes/manifests/etcd.yaml", "", "[ERROR FileAvailable--etc-kubernetes-manifests-etcd.yaml]"),
    "kubelet.conf": ("touch /etc/kubernetes/kubelet.conf", "", "[ERROR FileAvailable--etc-kubernetes-kubelet.conf]"),
    "bootstrap": ("touch /etc/kubernetes/bootstrap-kubelet.conf", "", "[ERROR FileAvailable--etc-kubernetes-bootstrap-kubelet.conf]"),
    "data": ("mkdir -p /var/lib/etcd/lost+found", "", "[ERROR DirAvailable--var-lib-etcd]: /var/lib/etcd is not empty"),
    "socket": ("sed -i s/cri-dockerd.sock/other.sock/ /etc/init.yaml", "", "[ERROR CRI]"),
    "patches": ("rmdir /etc/kubernetes/patches", "", "could not list patch files"),
    "patch type": ("touch /etc/kubernetes/patches/etcd+no.yaml", "", "unknown patch type"),
    "image": ("sed -i /coredns/d /etc/images", "", "failed to pull image registry.k8s.io/coredns/coredns:v1.11.3"),
    "forwarding": ("echo 0 >/proc/sys/net/ipv4/ip_forward", "", "[ERROR FileContent--proc-sys-net-ipv4-ip_forward]"),
}  # fmt: skip
UNDO = "rm -rf /etc/kubernetes /var/lib/etcd; mkdir -p /etc/kubernetes/patches; cp /etc/init.kept /etc/init.yaml; cp /etc/images.kept /etc/images; echo 1.31.14 >/opt/lab/kubernetes-version; echo 1 >/proc/sys/net/ipv4/ip_forward"


def test_init_refuses(alone: Room) -> None:
    """Each one by itself, and nothing is left behind by any."""
    alone.sh("cp /etc/init.yaml /etc/init.kept; cp /etc/images /etc/images.kept")
    for name, (script, flags, message) in REFUSALS.items():
        said = alone.sh(f"{script or ':'}; kubeadm init --config=/etc/init.yaml --skip-token-print {flags}; echo status $?; {UNDO}")
        assert "status 1\n" in said, name
        assert message in said, (name, said)
    said = alone.sh("kubeadm config validate --config=/etc/init.yaml")
    assert said == "ok\n"
    busy = 'import socket; s = [socket.create_server(("127.0.0.1", p)) for p in (6443, 10250, 2380)]; import subprocess; subprocess.run(["kubeadm", "init", "--config=/etc/init.yaml"])'
    said = alone.run(sys.executable, "-c", busy)
    assert [f"[ERROR Port-{port}]" in said for port in (6443, 10250, 2380, 2379)] == [True, True, True, False]


def test_what_needs_no_cluster(alone: Room) -> None:
    assert alone.run("kubeadm", "version", "--output=short") == f"v{VERSION}\n"
    assert "was refused" in alone.run("kubectl", "get", "nodes", status=1)
    assert "no such file" in alone.run("kubectl", "--kubeconfig=/none", "get", "nodes", status=1)
    assert "config.yaml" in alone.run("kubelet", "--config=/var/lib/kubelet/config.yaml", status=1)
    assert "unknown flag: --no-such" in alone.run("kubelet", "--no-such", status=1)
    assert "no such file" in alone.run("crictl", "--runtime-endpoint=unix:///none.sock", "ps", status=1)
    crictl = ("crictl", "--runtime-endpoint=unix:///run/cri-dockerd.sock")
    assert alone.run(*crictl, "inspecti", "-q", "registry.k8s.io/pause:3.10")
    assert "no such image" in alone.run(*crictl, "inspecti", "-q", "none:1", status=1)
    assert "no such host" in alone.run(*crictl, "pull", "registry.k8s.io/pause:3.10", status=1)


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Room]]:
    """Two control planes and a worker on one bridge; nobody is in a cluster yet."""
    root = tmp_path_factory.mktemp("cluster")
    found: list[Room] = []
    try:
        for name, number in (("master-1", 25), ("master-2", 26), ("node-1", 28)):
            found.append(Room(root / name, name, number))
        first = found[0]
        first.sh("ip link add br0 type bridge; ip link set br0 up; ip address add 10.77.0.25/24 dev br0")
        for other in found[1:]:
            port = f"p{other.name}"
            subprocess.run(
                [
                    "nsenter",
                    f"--target={first.pid}",
                    "--net",
                    "ip",
                    "link",
                    "add",
                    port,
                    "type",
                    "veth",
                    "peer",
                    "name",
                    "eth0",
                    "netns",
                    str(other.pid),
                ],
                check=True,
            )
            first.sh(f"ip link set {port} master br0 up")
            other.sh(f"ip link set eth0 up; ip address add {other.address}/24 dev eth0")
        yield found
    finally:
        for room in found:
            room.close()


def discovery(first: Room, token: str) -> str:
    ca = base64.b64encode(first.read(f"{PKI}/ca.crt").encode()).decode()
    return yaml.safe_dump(
        {
            "apiVersion": "v1", "kind": "Config", "current-context": "j", "clusters": [{"name": "c", "cluster": {"server": "https://endpoint:6443", "certificate-authority-data": ca}}],
            "contexts": [{"name": "j", "context": {"cluster": "c", "user": "u"}}], "users": [{"name": "u", "user": {"token": token}}],
        }
    )  # fmt: skip


def ready(first: Room, *nodes: str) -> bool:
    lines = [line.split() for line in first.kubectl("get nodes --no-headers").splitlines()]
    return {line[0] for line in lines if line[1] == "Ready"} >= set(nodes)


def test_cluster(rooms: list[Room]) -> None:
    first, second, worker = rooms
    init(first)
    token = first.run("kubeadm", "token", "create", "--ttl=24h").strip()
    joins(first, second, worker, token)
    network(first)
    leaves(first, second)
    kubelet(first)


def init(first: Room) -> None:
    first.write("/etc/init.yaml", INIT)
    first.write(
        "/etc/kubernetes/patches/etcd0+json.yaml", "- {op: add, path: /spec/containers/0/command/-, value: --heartbeat-interval=120}\n"
    )
    said = first.run("kubeadm", "init", "--config=/etc/init.yaml", "--skip-token-print")
    assert "initialized successfully" in said
    assert "<value withheld>" in said
    names = first.run("openssl", "x509", "-noout", "-ext", "subjectAltName", "-in", f"{PKI}/apiserver.crt")
    for name in ("DNS:endpoint", "DNS:kubernetes.default.svc.cluster.local", "IP Address:10.96.0.1", "IP Address:10.77.0.25"):
        assert name in names
    words = first.sh("tr '\\0' '\\n' <$(grep -lzFx --regexp=--name=master-1 /proc/[0-9]*/cmdline)").splitlines()
    manifest = yaml.safe_load(first.read("/etc/kubernetes/manifests/etcd.yaml"))
    assert words == manifest["spec"]["containers"][0]["command"]
    assert {"--initial-cluster=master-1=https://10.77.0.25:2380", "--heartbeat-interval=120"} < set(words)
    assert "    - --name=master-1\n" in first.read("/etc/kubernetes/manifests/etcd.yaml")
    assert first.sh("pgrep -cx kube-apiserver") == "1\n"
    assert first.run("stat", "-c", "%a", "/etc/kubernetes/manifests/etcd.yaml", f"{PKI}/ca.key", f"{PKI}/ca.crt") == "600\n600\n644\n"
    assert first.kubectl("get --raw=/readyz") == "ok"
    assert "is valid for" in first.kubectl("--tls-server-name=other get --raw=/readyz", 1)
    crictl = "crictl --runtime-endpoint=unix:///run/cri-dockerd.sock"
    etcdctl = (
        f"etcdctl --cacert={PKI}/etcd/ca.crt --cert={PKI}/etcd/healthcheck-client.crt --key={PKI}/etcd/healthcheck-client.key member list"
    )
    said = first.sh(f"{crictl} exec --sync $({crictl} ps --quiet --state=Running --name='^etcd$') {etcdctl}")
    assert "started, master-1, https://10.77.0.25:2380, https://10.77.0.25:2379, false" in said


def joins(first: Room, second: Room, worker: Room, token: str) -> None:
    worker.write("/etc/join.yaml", JOIN.format(name="node-1", more=""))
    join = ("kubeadm", "join", "--config=/etc/join.yaml")
    assert "not a valid HTTPS URL or a file on disk" in worker.run(*join, status=1)
    worker.write("/etc/kubernetes/discovery.conf", discovery(first, "abcdef.0123456789abcdef"))
    assert "You must be logged in" in worker.run(*join, status=1)
    assert "Unauthorized" in worker.run("kubectl", "--kubeconfig=/etc/kubernetes/discovery.conf", "get", "--raw=/readyz", status=1)
    other = worker.sh(
        "cd /tmp; openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=x -keyout /dev/null 2>/dev/null"
    )
    text = yaml.safe_load(discovery(first, token))
    text["clusters"][0]["cluster"]["certificate-authority-data"] = base64.b64encode(other.encode()).decode()
    worker.write("/etc/kubernetes/discovery.conf", yaml.safe_dump(text))
    assert "unknown authority" in worker.run(*join, status=1)
    worker.write("/etc/kubernetes/discovery.conf", discovery(first, token))
    worker.sh(f"mkdir -p {PKI}; touch {PKI}/ca.crt")
    assert "FileAvailable--etc-kubernetes-pki-ca.crt" in worker.run(*join, status=1)
    worker.sh(f"rm {PKI}/ca.crt")
    assert "joined the cluster" in worker.run(*join)
    assert worker.sh("ls /etc/kubernetes/*.conf") == "/etc/kubernetes/discovery.conf\n/etc/kubernetes/kubelet.conf\n"
    assert worker.run("kubectl", "--kubeconfig=/etc/kubernetes/kubelet.conf", "get", "--raw=/readyz") == "ok"

    second.write("/etc/join.yaml", JOIN.format(name="master-2", more="controlPlane: {localAPIEndpoint: {advertiseAddress: 10.77.0.26}}\n"))
    second.write("/etc/kubernetes/discovery.conf", discovery(first, token))
    assert "couldn't load the certificate file" in second.run(*join, status=1)
    for name in ("ca.crt", "ca.key", "sa.key", "sa.pub", "front-proxy-ca.crt", "front-proxy-ca.key", "etcd/ca.crt", "etcd/ca.key"):
        second.write(f"{PKI}/{name}", first.read(f"{PKI}/{name}"))
    of_token = ("kubectl", "--kubeconfig=/etc/kubernetes/discovery.conf", "get")
    ready = '--output=jsonpath={.status.conditions[?(@.type=="Ready")].status}'
    assert second.run(*of_token, "node", "master-1", ready) == "False"
    assert second.run(*of_token, "node", "master-2", "--ignore-not-found", ready) == ""
    assert "Forbidden" in second.run(*of_token, "nodes", status=1)
    assert "a new control plane instance was created" in second.run(*join)
    manifest = second.read("/etc/kubernetes/manifests/etcd.yaml")
    listed = manifest.partition("--initial-cluster=")[2].partition("\n")[0]
    assert set(listed.split(",")) == {"master-1=https://10.77.0.25:2380", "master-2=https://10.77.0.26:2380"}
    assert "--initial-cluster-state=existing" in manifest
    assert second.kubectl("--server=https://10.77.0.26:6443 get nodes --output=name").splitlines() == [
        "node/master-1",
        "node/master-2",
        "node/node-1",
    ]
    first.run("kubeadm", "token", "delete", token.partition(".")[0])
    assert "NotFound" in first.kubectl(f"--namespace=kube-system get secret bootstrap-token-{token[:6]}", 1)


def network(first: Room) -> None:
    path = '{range .items[*]}{.metadata.name} {.status.nodeInfo.kubeletVersion} {.status.conditions[?(@.type=="Ready")].status}{"\\n"}{end}'
    said = first.run("kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", "get", "nodes", f"--output=jsonpath={path}")
    assert said == "".join(f"{name} v{VERSION} False\n" for name in ("master-1", "master-2", "node-1"))
    first.write("/etc/flannel.yaml", FLANNEL)
    assert "no matching resources" in first.kubectl("wait --for=condition=Ready -n kube-flannel pod -l app=flannel --timeout=1s", 1)
    first.kubectl("diff --filename=/etc/flannel.yaml", 2)
    first.kubectl("apply --filename=/etc/flannel.yaml")
    first.kubectl("diff --filename=/etc/flannel.yaml")
    first.sh("sed -i s/3.10/3.11/ /etc/flannel.yaml")
    first.kubectl("diff --filename=/etc/flannel.yaml", 1)
    assert "AlreadyExists" in first.kubectl("create --filename=/etc/flannel.yaml", 1)
    within(10, lambda: ready(first, "master-1", "master-2", "node-1"))
    first.kubectl("wait --for=condition=Ready -n kube-flannel pod -l app=flannel --field-selector=spec.nodeName=master-1 --timeout=5s")
    first.write("/etc/none.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: none}\n")
    assert 'namespaces "none" not found' in first.kubectl("apply --filename=/etc/none.yaml", 1)


def kubelet(first: Room) -> None:
    """A restart leaves etcd alone; a second manifest of the same pod wins by its name; a changed one is noticed late where the lab says so."""
    pid = first.run("pgrep", "-x", "etcd")
    first.sh("systemctl stop kubelet; sleep 0.2; systemctl start kubelet")
    within(10, lambda: "ok" in first.sh("curl -s http://127.0.0.1:10248/healthz || :"))
    assert first.run("pgrep", "-x", "etcd") == pid
    first.sh(
        "echo 1.5 >/run/lab/kubelet-late; sed s/interval=120/interval=110/ /etc/kubernetes/manifests/etcd.yaml >/etc/kubernetes/manifests/etcd.yaml.bak"
    )
    time.sleep(0.7)
    assert first.run("pgrep", "-x", "etcd") == pid
    within(15, lambda: "interval=110" in first.sh("cat /proc/$(pgrep -x etcd)/cmdline | tr '\\0' ' ' || :"))


def leaves(first: Room, second: Room) -> None:
    said = second.run("kubeadm", "reset", "-f", "--cri-socket=unix:///run/cri-dockerd.sock")
    assert "manually remove" not in said
    assert second.sh("ls -A /var/lib/etcd /etc/kubernetes/manifests /etc/kubernetes/pki; pgrep -x etcd || :").split() == [
        "/etc/kubernetes/manifests:",
        "/etc/kubernetes/pki:",
        "/var/lib/etcd:",
    ]
    pki = f"{PKI}/etcd"
    members = first.run(
        "etcdctl",
        "--endpoints=https://127.0.0.1:2379",
        f"--cacert={pki}/ca.crt",
        f"--cert={pki}/server.crt",
        f"--key={pki}/server.key",
        "member",
        "list",
    )
    assert members.count("\n") == 1
