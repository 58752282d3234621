"""The static pods that kubeadm writes, and its patches (facts.md 1.10, 1.11, 2.1, 3.1)."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Any

import yaml
from shared import KUBE, LOADER, MANIFESTS, PKI, dump, fail, host_port, minor, write

# Last patch release of a row: tags of pause, etcd, coredns.
TAGS = {
    (1, 27, 99): ("3.9", "3.5.12-0", "v1.10.1"), (1, 28, 5): ("3.9", "3.5.9-0", "v1.10.1"), (1, 28, 7): ("3.9", "3.5.10-0", "v1.10.1"),
    (1, 28, 13): ("3.9", "3.5.12-0", "v1.10.1"), (1, 28, 99): ("3.9", "3.5.15-0", "v1.10.1"), (1, 29, 2): ("3.9", "3.5.10-0", "v1.11.1"),
    (1, 29, 8): ("3.9", "3.5.12-0", "v1.11.1"), (1, 29, 10): ("3.9", "3.5.15-0", "v1.11.1"), (1, 29, 99): ("3.9", "3.5.16-0", "v1.11.1"),
    (1, 30, 4): ("3.9", "3.5.12-0", "v1.11.1"), (1, 30, 99): ("3.9", "3.5.15-0", "v1.11.3"), (1, 31, 0): ("3.10", "3.5.15-0", "v1.11.1"),
    (1, 31, 13): ("3.10", "3.5.15-0", "v1.11.3"), (1, 31, 99): ("3.10", "3.5.24-0", "v1.11.3"), (1, 32, 9): ("3.10", "3.5.16-0", "v1.11.3"),
    (1, 32, 99): ("3.10", "3.5.24-0", "v1.11.3"), (1, 33, 5): ("3.10", "3.5.21-0", "v1.12.0"), (1, 33, 99): ("3.10", "3.5.24-0", "v1.12.0"),
    (1, 34, 1): ("3.10.1", "3.6.4-0", "v1.12.1"), (1, 34, 99): ("3.10.1", "3.6.5-0", "v1.12.1"), (1, 35, 99): ("3.10.1", "3.6.6-0", "v1.13.1"),
    (1, 36, 99): ("3.10.2", "3.6.8-0", "v1.14.2"),
}  # fmt: skip


def images(cluster: dict[str, Any]) -> dict[str, str]:
    """The images of a ClusterConfiguration, in the order of ``kubeadm config images list``."""
    wanted = str(cluster["kubernetesVersion"]).removeprefix("v")
    number = tuple(int(part) for part in wanted.split("."))
    tags = next((tags for last, tags in TAGS.items() if number[:2] == last[:2] and number <= last), None)
    if tags is None:
        fail(f"stand-in: no image tags are known for {wanted}")
    pause, etcd, coredns = tags
    repository = cluster.get("imageRepository", "registry.k8s.io").rstrip("/")
    dns, local = cluster.get("dns") or {}, (cluster.get("etcd") or {}).get("local") or {}
    dns_repository = dns.get("imageRepository") or (f"{repository}/coredns" if repository == "registry.k8s.io" else repository)
    return {
        **{
            name: f"{repository}/{name}:v{wanted}" for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy")
        },
        "coredns": f"{dns_repository}/coredns:{dns.get('imageTag', coredns)}",
        "pause": f"{repository}/pause:{pause}",
        "etcd": f"{local.get('imageRepository', repository)}/etcd:{local.get('imageTag', etcd)}",
    }


def pairs(arguments: Any) -> list[tuple[str, str]]:
    """extraArgs of v1beta3 (a map) and of v1beta4 (a list)."""
    if isinstance(arguments, dict):
        return list(arguments.items())
    return [(item["name"], item["value"]) for item in arguments or []]


def _command(program: str, flags: dict[str, str], extra: Any) -> list[str]:
    """A user's argument takes the place of kubeadm's own of that name."""
    own = pairs(extra)
    names = {name for name, _ in own}
    merged = sorted([(name, value) for name, value in flags.items() if name not in names] + own)
    return [program, *(f"--{name}={value}" for name, value in merged)]


def service_address(cluster: dict[str, Any], number: int) -> str:
    subnet = (cluster.get("networking") or {}).get("serviceSubnet", "10.96.0.0/12").split(",")[0]
    return str(ipaddress.ip_network(subnet)[number])


def data_directory(cluster: dict[str, Any]) -> str:
    return ((cluster.get("etcd") or {}).get("local") or {}).get("dataDir", "/var/lib/etcd")


def _pod(
    name: str, image: str, command: list[str], mounts: dict[str, str], annotations: dict[str, str], probe: dict[str, Any]
) -> dict[str, Any]:
    probes = {
        "livenessProbe": {"failureThreshold": 8, "httpGet": probe, "initialDelaySeconds": 10, "periodSeconds": 10, "timeoutSeconds": 15},
        "startupProbe": {"failureThreshold": 24, "httpGet": probe, "initialDelaySeconds": 10, "periodSeconds": 10, "timeoutSeconds": 15},
    }
    container = {
        "command": command, "image": image, "imagePullPolicy": "IfNotPresent", "name": name, "resources": {"requests": {"cpu": "100m"}}, **probes,
        "volumeMounts": [{"mountPath": path, "name": volume} for volume, path in sorted(mounts.items())],
    }  # fmt: skip
    kind = {"etcd-data": "DirectoryOrCreate", "kubeconfig": "FileOrCreate"}
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"labels": {"component": name, "tier": "control-plane"}, "name": name, "namespace": "kube-system", **({"annotations": annotations} if annotations else {})},
        "spec": {
            "containers": [container], "hostNetwork": True, "priority": 2000001000, "priorityClassName": "system-node-critical",
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
            "volumes": [{"hostPath": {"path": path, "type": kind.get(volume, "DirectoryOrCreate")}, "name": volume} for volume, path in sorted(mounts.items())],
        },
        "status": {},
    }  # fmt: skip


def etcd(cluster: dict[str, Any], node: str, address: str, members: list[tuple[str, str]]) -> dict[str, Any]:
    """*members* (name, peer URL) is empty at init: itself alone then, and no state."""
    client, peer, pki = f"https://{host_port(address, 2379)}", f"https://{host_port(address, 2380)}", PKI / "etcd"
    local = "[::1]" if ":" in address else "127.0.0.1"
    new = minor(cluster["kubernetesVersion"]) >= 34
    flags = {
        "name": node, "data-dir": data_directory(cluster), "listen-client-urls": f"https://{local}:2379,{client}", "advertise-client-urls": client,
        "listen-peer-urls": peer, "initial-advertise-peer-urls": peer, "cert-file": f"{pki}/server.crt", "key-file": f"{pki}/server.key",
        "trusted-ca-file": f"{pki}/ca.crt", "client-cert-auth": "true", "peer-cert-file": f"{pki}/peer.crt", "peer-key-file": f"{pki}/peer.key",
        "peer-trusted-ca-file": f"{pki}/ca.crt", "peer-client-cert-auth": "true", "snapshot-count": "10000", "listen-metrics-urls": f"http://{local}:2381",
        "initial-cluster": ",".join(f"{name}={url}" for name, url in members) or f"{node}={peer}",
        ("watch-progress-notify-interval" if new else "experimental-watch-progress-notify-interval"): "5s",
    }  # fmt: skip
    flags |= {"feature-gates": "InitialCorruptCheck=true"} if new else {"experimental-initial-corrupt-check": "true"}
    if members:
        flags["initial-cluster-state"] = "existing"
    own = (cluster.get("etcd") or {}).get("local") or {}
    return _pod(
        "etcd", images(cluster)["etcd"], _command("etcd", flags, own.get("extraArgs")), {"etcd-certs": str(pki), "etcd-data": flags["data-dir"]},
        {"kubeadm.kubernetes.io/etcd.advertise-client-urls": client}, {"host": "127.0.0.1", "path": "/livez", "port": 2381, "scheme": "HTTP"},
    )  # fmt: skip


def kube_apiserver(cluster: dict[str, Any], address: str, port: int) -> dict[str, Any]:
    local = "[::1]" if ":" in address else "127.0.0.1"
    networking = cluster.get("networking") or {}
    flags = {
        "advertise-address": address, "allow-privileged": "true", "authorization-mode": "Node,RBAC", "client-ca-file": f"{PKI}/ca.crt",
        "enable-admission-plugins": "NodeRestriction", "enable-bootstrap-token-auth": "true", "etcd-cafile": f"{PKI}/etcd/ca.crt",
        "etcd-certfile": f"{PKI}/apiserver-etcd-client.crt", "etcd-keyfile": f"{PKI}/apiserver-etcd-client.key", "etcd-servers": f"https://{local}:2379",
        "kubelet-client-certificate": f"{PKI}/apiserver-kubelet-client.crt", "kubelet-client-key": f"{PKI}/apiserver-kubelet-client.key",
        "kubelet-preferred-address-types": "InternalIP,ExternalIP,Hostname", "proxy-client-cert-file": f"{PKI}/front-proxy-client.crt",
        "proxy-client-key-file": f"{PKI}/front-proxy-client.key", "requestheader-allowed-names": "front-proxy-client",
        "requestheader-client-ca-file": f"{PKI}/front-proxy-ca.crt", "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "requestheader-group-headers": "X-Remote-Group", "requestheader-username-headers": "X-Remote-User", "secure-port": str(port),
        "service-account-issuer": f"https://kubernetes.default.svc.{networking.get('dnsDomain', 'cluster.local')}",
        "service-account-key-file": f"{PKI}/sa.pub", "service-account-signing-key-file": f"{PKI}/sa.key",
        "service-cluster-ip-range": networking.get("serviceSubnet", "10.96.0.0/12"), "tls-cert-file": f"{PKI}/apiserver.crt",
        "tls-private-key-file": f"{PKI}/apiserver.key",
    }  # fmt: skip
    extra = (cluster.get("apiServer") or {}).get("extraArgs")
    return _pod(
        "kube-apiserver", images(cluster)["kube-apiserver"], _command("kube-apiserver", flags, extra), {"k8s-certs": str(PKI), "ca-certs": "/etc/ssl/certs"},
        {"kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint": host_port(address, port)},
        {"host": address, "path": "/livez", "port": port, "scheme": "HTTPS"},
    )  # fmt: skip


def kube_controller_manager(cluster: dict[str, Any]) -> dict[str, Any]:
    conf, networking = f"{KUBE}/controller-manager.conf", cluster.get("networking") or {}
    flags = {
        "authentication-kubeconfig": conf, "authorization-kubeconfig": conf, "bind-address": "127.0.0.1", "client-ca-file": f"{PKI}/ca.crt",
        "cluster-name": cluster.get("clusterName", "kubernetes"), "cluster-signing-cert-file": f"{PKI}/ca.crt",
        "cluster-signing-key-file": f"{PKI}/ca.key", "controllers": "*,bootstrapsigner,tokencleaner", "kubeconfig": conf, "leader-elect": "true",
        "requestheader-client-ca-file": f"{PKI}/front-proxy-ca.crt", "root-ca-file": f"{PKI}/ca.crt",
        "service-account-private-key-file": f"{PKI}/sa.key", "use-service-account-credentials": "true",
    }  # fmt: skip
    if networking.get("podSubnet"):
        flags |= {
            "allocate-node-cidrs": "true",
            "cluster-cidr": networking["podSubnet"],
            "service-cluster-ip-range": networking.get("serviceSubnet", "10.96.0.0/12"),
        }
    command = _command("kube-controller-manager", flags, (cluster.get("controllerManager") or {}).get("extraArgs"))
    probe = {"host": "127.0.0.1", "path": "/healthz", "port": 10257, "scheme": "HTTPS"}
    mounts = {"k8s-certs": str(PKI), "kubeconfig": conf}
    return _pod("kube-controller-manager", images(cluster)["kube-controller-manager"], command, mounts, {}, probe)


def kube_scheduler(cluster: dict[str, Any]) -> dict[str, Any]:
    conf = f"{KUBE}/scheduler.conf"
    flags = {
        "authentication-kubeconfig": conf,
        "authorization-kubeconfig": conf,
        "bind-address": "127.0.0.1",
        "kubeconfig": conf,
        "leader-elect": "true",
    }
    command = _command("kube-scheduler", flags, (cluster.get("scheduler") or {}).get("extraArgs"))
    probe = {"host": "127.0.0.1", "path": "/healthz", "port": 10259, "scheme": "HTTPS"}
    return _pod("kube-scheduler", images(cluster)["kube-scheduler"], command, {"kubeconfig": conf}, {}, probe)


# -- patches ----------------------------------------------------------------------------------------------------------------------

PATCH = re.compile(
    r"(etcd|kube-apiserver|kube-controller-manager|kube-scheduler|kubeletconfiguration|corednsdeployment)([^.+]*)(?:\+([a-z]+))?\.(json|yaml)"
)


def read_patches(directory: str | None) -> list[tuple[str, str, Any]]:
    """(target, type, patch) by file name; a directory that is not there, or is a link, is refused."""
    if not directory:
        return []
    path = Path(directory)
    if path.is_symlink() or not path.is_dir():
        fail(f'error execution phase preflight: could not list patch files for path "{directory}": lstat {directory}: no such directory')
    found = []
    for file in sorted(path.iterdir()):
        match = PATCH.fullmatch(file.name)
        if not match:
            if "+" in file.name and re.search(r"\.(json|yaml)$", file.name):
                fail(f'error: unknown patch type or target in "{file.name}"')
            continue
        if match[3] not in (None, "strategic", "merge", "json"):
            fail(f'error: unknown patch type "{match[3]}" from filename "{file.name}"')
        found += [
            (match[1], match[3] or "strategic", patch) for patch in yaml.load_all(file.read_text(), Loader=LOADER) if patch is not None
        ]
    return found


def merged(old: Any, new: Any) -> Any:
    """A JSON merge patch; it stands in for the strategic one too, which would merge lists of objects by their key."""
    if not isinstance(new, dict):
        return new
    result = dict(old) if isinstance(old, dict) else {}
    for key, value in new.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def _operate(document: Any, operation: dict[str, Any]) -> None:
    """One operation of a JSON patch, in place: add, replace, remove, test."""
    *way, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
    for part in way:
        document = document[int(part)] if isinstance(document, list) else document[part]
    verb, value = operation["op"], operation.get("value")
    key: Any = last
    if isinstance(document, list):
        key = len(document) if last == "-" else int(last)
    if verb == "add" and isinstance(document, list):
        document.insert(key, value)
    elif verb == "add":
        document[key] = value
    elif verb == "replace":
        del document[key]  # it has to be there
        if isinstance(document, list):
            document.insert(key, value)
        else:
            document[key] = value
    elif verb == "remove":
        del document[key]
    elif verb != "test" or document[key] != value:
        raise ValueError(f"{verb} {operation['path']}")


def patched(document: dict[str, Any], target: str, patches: list[tuple[str, str, Any]]) -> dict[str, Any]:
    for wanted, kind, patch in patches:
        if wanted != target:
            continue
        if kind == "json":
            try:
                for operation in patch:
                    _operate(document, operation)
            except (KeyError, IndexError, ValueError, TypeError) as error:
                fail(f'error: could not apply the following patch of type "application/json-patch+json" to target "{target}": {error}')
        else:
            document = merged(document, patch)
    return document


def write_manifest(pod: dict[str, Any], patches: list[tuple[str, str, Any]]) -> None:
    name = pod["metadata"]["name"]
    write(MANIFESTS / f"{name}.yaml", dump(patched(pod, name, patches)))
