"""Operating system packages of a host, and the repositories outside its distribution that they come from.

Sources: kubernetes.io *Installing kubeadm* (pkgs.k8s.io, one repository a minor), docs.docker.com *Install Docker Engine* of each
distribution, cri-o.io *Installation*, ``packaging/`` of Mirantis/cri-dockerd (what its releases are built for, and how they are named).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from generator import versions

if TYPE_CHECKING:
    from generator.model.cluster import Cluster, Host

_FROM = {
    **dict.fromkeys(("kubelet", "kubeadm", "kubectl", "cri-tools", "kubernetes-cni"), "kubernetes"),
    **dict.fromkeys(("containerd.io", "docker-ce"), "docker"),
    "cri-o": "cri-o",
}


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository beside the distribution's own; *source* is a base URL for dnf, or ``URI SUITE COMPONENT`` for apt."""

    name: str
    source: str
    key: str


def packages(cluster: Cluster, host: Host) -> tuple[str, ...]:
    """
    Operating system packages of *host* in its family's names, each Kubernetes package named by itself.

    kubeadm's package depends on none of the others from 1.32 on, and kubelet's no longer on conntrack and socat (kubernetes/release).
    """
    family = host.family
    names: list[str] = []
    if host.name in cluster.load_balancer_names:
        names += [*family.nginx_packages, "curl"] if cluster.nginx else ["ipvsadm"]
        # arping sees a second holder of the VIP, which the neighbour table can't.
        names += ["keepalived", family.arping_package]
        if cluster.nginx and cluster.nginx.stream_module == "builtin":
            names = [name for name in names if "mod" not in name]
        # semanage labels nginx's ports, on a dedicated load balancer too.
        names += family.selinux_packages if cluster.nginx else ()
    if host.runs_kubernetes:
        names += [*family.host_packages, *_kubernetes_packages(cluster, host)]
    if host.settings.ntp_servers:
        names.append("chrony")
    return tuple(dict.fromkeys([*names, *host.settings.extra_packages]))


def _kubernetes_packages(cluster: Cluster, host: Host) -> list[str]:
    """
    kubeadm, kubelet and kubectl of exactly the cluster's release, and the runtime.

    Debian and Ubuntu ship containerd 1.x, which would silently ignore a configuration for 2.x; 2.x is Docker's containerd.io.  CRI-O has no
    command of its own to load an image archive: skopeo does.
    """
    rhel = host.family.name == "rhel"
    pin = f"-{cluster.kubernetes_version}" if rhel else f"={cluster.kubernetes_version}-*"
    containerd = "containerd.io" if rhel or cluster.containerd_version(host)[0] >= 2 else "containerd"
    runtime = {"containerd": [containerd], "cri-dockerd": ["docker-ce", "cri-dockerd"], "cri-o": ["cri-o", "skopeo"]}
    return ["kubernetes-cni", "cri-tools", *(f"{name}{pin}" for name in ("kubelet", "kubeadm", "kubectl")), *runtime[cluster.runtime]]


def repository_of(cluster: Cluster, package: str) -> str:
    """Name of the :class:`Repository` that *package*, a word of :func:`packages`, comes from; ``distribution`` for the host's own."""
    version = cluster.kubernetes_version
    return _FROM.get(package.removesuffix(f"-{version}").partition("=")[0], "distribution")


def repositories(cluster: Cluster, system: str) -> Mapping[str, Repository]:
    """The repositories that hosts with *system* may need beside their distribution's own, by name."""
    where = f"stable:/v1.{cluster.minor}"
    core, crio = f"https://pkgs.k8s.io/core:/{where}", f"https://download.opensuse.org/repositories/isv:/cri-o:/{where}"
    docker = f"https://download.docker.com/linux/{versions.DOCKER_PLACES[system][0]}"
    if versions.OPERATING_SYSTEMS[system][0] == "rhel":
        found = (
            Repository("kubernetes", f"{core}/rpm/", f"{core}/rpm/repodata/repomd.xml.key"),
            Repository("docker", f"{docker}/{versions.DOCKER_PLACES[system][1]}/x86_64/stable/", f"{docker}/gpg"),
            Repository("cri-o", f"{crio}/rpm/", f"{crio}/rpm/repodata/repomd.xml.key"),
        )
    else:
        found = (
            Repository("kubernetes", f"{core}/deb/ /", f"{core}/deb/Release.key"),
            Repository("docker", f"{docker} {versions.DOCKER_PLACES[system][1]} stable", f"{docker}/gpg"),
            Repository("cri-o", f"{crio}/deb/ /", f"{crio}/deb/Release.key"),
        )
    return {one.name: one for one in found}


def loose_packages(system: str) -> Mapping[str, str]:
    """Packages that are in no repository, each with the URL of its file for *system*."""
    version = versions.CRI_DOCKERD
    file = versions.CRI_DOCKERD_FILES[system].format(version=version)
    return {"cri-dockerd": f"https://github.com/Mirantis/cri-dockerd/releases/download/v{version}/{file}"}
