"""The container runtime of a Kubernetes host: systemd cgroups, the sandbox image that kubeadm lists, crictl, the HTTP proxy.

Facts: containerd ``docs/cri/config.md`` (configuration 2 for 1.6 and 1.7, 3 for 2.x), CRI-O ``docs/crio.conf.5.md``, cri-dockerd's units,
Docker's ``daemon.json``.  The runtime's own default sandbox image is seldom the one that kubeadm lists, and in an air gap its pull fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from generator import emit
from generator.artifacts import File, rootfs
from generator.model import Cluster, Host
from generator.render import render

_KEYS = ("cluster.containerRuntime", "cluster.kubernetesVersion", "cluster.imageRepository")
CRICTL = "/etc/crictl.yaml"


def for_host(cluster: Cluster, host: Host) -> Iterator[File]:
    """The runtime's files where a kubelet runs; nothing on a dedicated load balancer."""
    if not host.runs_kubernetes:
        return
    yield File(rootfs(CRICTL), _crictl(cluster.cri_socket), ("cluster.containerRuntime",), CRICTL, 20)
    yield from {"containerd": _containerd, "cri-dockerd": _docker, "cri-o": _crio}[cluster.runtime](cluster, host)
    if host.settings.proxy is not None:
        yield from _proxies(cluster, host)


@cache
def _crictl(socket: str) -> str:
    return emit.yaml({"runtime-endpoint": socket, "image-endpoint": socket, "timeout": 10})


def _containerd(cluster: Cluster, host: Host) -> Iterator[File]:
    generation = 3 if cluster.containerd_version(host)[0] >= 2 else 2
    text = render(f"templates/runtime/containerd-{generation}.toml.j2", {"cluster": cluster.name, "pause": cluster.pause_image})
    destination = "/etc/containerd/config.toml"
    yield File(rootfs(destination), text, (*_KEYS, "hosts[].containerRuntimeVersion"), destination, 20, "containerd.service")


def _docker(cluster: Cluster, host: Host) -> Iterator[File]:
    del host
    daemon: dict[str, object] = {
        "exec-opts": ["native.cgroupdriver=systemd"],
        "log-driver": "json-file",
        "log-opts": {"max-size": "50m", "max-file": "5"},
        "storage-driver": "overlay2",
    }
    if cluster.registry is not None and cluster.registry.plain_http:
        daemon["insecure-registries"] = [cluster.registry.host]
    destination = "/etc/docker/daemon.json"
    sources = ("cluster.containerRuntime", "cluster.registry")
    yield File(rootfs(destination), emit.indented_json(daemon), sources, destination, 20, "docker.service")
    text = render("templates/runtime/cri-dockerd.conf.j2", {"cluster": cluster.name, "pause": cluster.pause_image})
    destination = "/etc/systemd/system/cri-docker.service.d/10-stowage.conf"
    yield File(rootfs(destination), text, _KEYS, destination, 20, "cri-docker.service")


def _crio(cluster: Cluster, host: Host) -> Iterator[File]:
    del host
    view = {"cluster": cluster.name, "pause": cluster.pause_image, "pinned": (*cluster.kubeadm_images, *cluster.cni_images)}
    destination = "/etc/crio/crio.conf.d/10-stowage.conf"
    yield File(rootfs(destination), render("templates/runtime/crio.conf.j2", view), _KEYS, destination, 20, "crio.service")


def _proxies(cluster: Cluster, host: Host) -> Iterator[File]:
    proxy = host.settings.proxy
    assert proxy is not None
    no_proxy = ",".join(dict.fromkeys((*cluster.no_proxy, *proxy.no_proxy)))
    text = render(
        "templates/systemd/proxy.conf.j2", {"cluster": cluster.name, "http": proxy.http, "https": proxy.https, "no_proxy": no_proxy}
    )
    runtime = {"containerd": "containerd", "cri-dockerd": "docker", "cri-o": "crio"}[cluster.runtime]
    sources = ("hostDefaults.proxy", "hosts[].proxy", "cluster.podSubnet", "cluster.serviceSubnet", "controlPlaneEndpoint")
    for unit in (runtime, "kubelet"):
        destination = f"/etc/systemd/system/{unit}.service.d/20-stowage-proxy.conf"
        # The kubelet starts in step 50, 60 or 65 only: there is nothing to restart yet.
        yield File(rootfs(destination), text, sources, destination, 20, f"{unit}.service" if unit == runtime else "systemd")
