"""Every Kubernetes minor with a sample of runtimes, networks and address families: it compiles clean, and what depends on a release is right.

The tables here were copied from upstream's sources apart from ``generator.versions`` (minikube's list of kubeadm's images; containerd's
RELEASES.md; flannel's and Calico's tags), so that one slip of the pen is seen.
"""

from __future__ import annotations

import itertools
import tomllib
from typing import Any

import kubeadm_schema
import pytest
import strategies

from generator import artifacts, compiler, emit, versions

# first and last release: pause, etcd, coredns
TAGS = {
    ("1.28.0", "1.28.5"): ("3.9", "3.5.9-0", "v1.10.1"),
    ("1.28.6", "1.28.7"): ("3.9", "3.5.10-0", "v1.10.1"),
    ("1.28.8", "1.28.13"): ("3.9", "3.5.12-0", "v1.10.1"),
    ("1.28.14", "1.28.15"): ("3.9", "3.5.15-0", "v1.10.1"),
    ("1.29.0", "1.29.2"): ("3.9", "3.5.10-0", "v1.11.1"),
    ("1.29.3", "1.29.8"): ("3.9", "3.5.12-0", "v1.11.1"),
    ("1.29.9", "1.29.10"): ("3.9", "3.5.15-0", "v1.11.1"),
    ("1.29.11", "1.29.15"): ("3.9", "3.5.16-0", "v1.11.1"),
    ("1.30.0", "1.30.4"): ("3.9", "3.5.12-0", "v1.11.1"),
    ("1.30.5", "1.30.14"): ("3.9", "3.5.15-0", "v1.11.3"),
    ("1.31.0", "1.31.0"): ("3.10", "3.5.15-0", "v1.11.1"),
    ("1.31.1", "1.31.13"): ("3.10", "3.5.15-0", "v1.11.3"),
    ("1.31.14", "1.31.14"): ("3.10", "3.5.24-0", "v1.11.3"),
    ("1.32.0", "1.32.9"): ("3.10", "3.5.16-0", "v1.11.3"),
    ("1.32.10", "1.32.13"): ("3.10", "3.5.24-0", "v1.11.3"),
    ("1.33.0", "1.33.5"): ("3.10", "3.5.21-0", "v1.12.0"),
    ("1.33.6", "1.33.13"): ("3.10", "3.5.24-0", "v1.12.0"),
    ("1.34.0", "1.34.1"): ("3.10.1", "3.6.4-0", "v1.12.1"),
    ("1.34.2", "1.34.10"): ("3.10.1", "3.6.5-0", "v1.12.1"),
    ("1.35.0", "1.35.7"): ("3.10.1", "3.6.6-0", "v1.13.1"),
    ("1.36.0", "1.36.3"): ("3.10.2", "3.6.8-0", "v1.14.2"),
}
# Kubernetes minor: the containerd generations that speak with it without a warning (RELEASES.md).
CONTAINERD = dict.fromkeys(range(28, 32), ("1.7",)) | dict.fromkeys(range(32, 36), ("1.7", "2.1")) | {36: ("2.2", "2.3")}


def compiled(data: dict[str, Any]) -> tuple[compiler.Checked, dict[str, str]]:
    """The inventory checked, without error or warning, and its files."""
    result = compiler.check("inventory.yaml", emit.yaml(data).encode())
    assert not [f"{d.code}: {d.message}" for d in result.diagnostics if d.severity != "info"]
    return result, {
        f"{folder}/{file.path}".removeprefix("/"): file.text for folder, files in artifacts.plan(result.cluster) for file in files
    }


# Each minor with each runtime and each network, and the families in turn.
SAMPLE = [
    (minor, runtime, cni, strategies.FAMILIES[number % len(strategies.FAMILIES)])
    for number, (minor, (runtime, cni)) in enumerate(
        itertools.product(strategies.MINORS, itertools.product(strategies.RUNTIMES, ("flannel", "calico", "none")))
    )
]


def test_the_minors_are_those_of_the_compiler():
    assert (strategies.MINORS.start, strategies.MINORS.stop - 1) == (versions.OLDEST_MINOR, versions.NEWEST_MINOR)
    assert {minor: versions.newest_patch(minor) for minor in strategies.MINORS} == strategies.RELEASES
    assert {int(first.split(".")[1]) for first, _ in TAGS} == set(strategies.MINORS)


@pytest.mark.parametrize(
    ("minor", "runtime", "cni", "families"), SAMPLE, ids=lambda v: "".join(map(str, v)) if isinstance(v, tuple) else str(v)
)
def test_it_compiles_clean_and_fits_the_release(minor, runtime, cni, families):
    result, files = compiled(strategies.inventory(minor=minor, runtime=runtime, cni=cni, families=families))
    cluster = result.cluster
    for host in cluster.hosts:
        name = "init" if host is cluster.control_planes[0] else "join"
        text = files[f"hosts/{host.name}/kubeadm/{name}.yaml"]
        assert kubeadm_schema.complaints(text, minor) == []
        assert f"apiVersion: kubeadm.k8s.io/{'v1beta4' if minor >= 31 else 'v1beta3'}\n" in text
        assert f"criSocket: {emit.scalar(cluster.cri_socket)}\n" in text
    images = files["hosts/h0/images.txt"].split()
    pause, etcd, coredns = next(tags for (_, last), tags in TAGS.items() if last == strategies.RELEASES[minor])
    assert images[:7] == [
        *(f"registry.k8s.io/{name}:v{strategies.RELEASES[minor]}" for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy")),
        f"registry.k8s.io/coredns/coredns:{coredns}", f"registry.k8s.io/pause:{pause}", f"registry.k8s.io/etcd:{etcd}",
    ]  # fmt: skip
    assert {"flannel": "flannel", "calico": "calico/node", "none": ""}[cni] in " ".join(images[7:])
    assert (len(images) > 7) is (cni != "none")
    runtime_fits(files, runtime, minor, f"registry.k8s.io/pause:{pause}")
    listens = [line.split()[1] for line in files["hosts/h0/rootfs/etc/nginx/nginx.conf"].splitlines() if line.strip().startswith("listen ")]
    assert listens[:-1] == [{4: "16443", 6: "[::]:16443"}[family] for family in families]
    assert listens[-1].rstrip(";") == ("127.0.0.1:16444" if 4 in families else "[::1]:16444")


def runtime_fits(files: dict[str, str], runtime: str, minor: int, pause: str) -> None:
    """The sandbox image is the one that kubeadm lists, in the file that this runtime reads."""
    containerd, docker, crio = (
        f"hosts/h0/rootfs/etc/{path}" for path in ("containerd/config.toml", "docker/daemon.json", "crio/crio.conf.d/10-stowage.conf")
    )
    assert [path in files for path in (containerd, docker, crio)] == [runtime == "containerd", runtime == "cri-dockerd", runtime == "cri-o"]
    if runtime == "containerd":
        config = tomllib.loads(files[containerd])
        assert config["version"] == (3 if minor >= 33 else 2)
        if minor >= 33:
            assert config["plugins"]["io.containerd.cri.v1.images"]["pinned_images"]["sandbox"] == pause
        else:
            assert config["plugins"]["io.containerd.grpc.v1.cri"]["sandbox_image"] == pause
    elif runtime == "cri-o":
        assert tomllib.loads(files[crio])["crio"]["image"]["pause_image"] == pause
    else:
        assert f"--pod-infra-container-image={pause}\n" in files["hosts/h0/rootfs/etc/systemd/system/cri-docker.service.d/10-stowage.conf"]


@pytest.mark.parametrize(
    ("span", "tags"), TAGS.items(), ids=lambda value: value[0] if isinstance(value, tuple) and value[0].count(".") == 2 else ""
)
def test_tags_of_every_release(span, tags):
    first, last = (int(release.split(".")[2]) for release in span)
    minor = span[0].split(".")[1]
    for patch in range(first, last + 1):
        found = versions.kubeadm_tags(f"1.{minor}.{patch}")
        assert found is not None
        assert (found.pause, found.etcd, found.coredns) == tags, f"1.{minor}.{patch}"


def test_a_release_without_a_row_is_not_guessed():
    for minor in strategies.MINORS:
        _, _, patch = strategies.RELEASES[minor].split(".")
        assert versions.kubeadm_tags(f"1.{minor}.{int(patch) + 1}") is None
        data = strategies.inventory(minor=minor)
        data["cluster"]["kubernetesVersion"] = f"1.{minor}.{int(patch) + 1}"
        assert "KUB002" in {d.code for d in compiler.check("i", emit.yaml(data).encode()).diagnostics}
        data["cluster"]["images"] = {"pause": "3.99", "etcd": "3.9.9-0", "coredns": "v1.99.0"}
        _, files = compiled(data)
        assert files["hosts/h0/images.txt"].split()[4:7] == [
            "registry.k8s.io/coredns/coredns:v1.99.0",
            "registry.k8s.io/pause:3.99",
            "registry.k8s.io/etcd:3.9.9-0",
        ]
    for minor in (versions.OLDEST_MINOR - 1, versions.NEWEST_MINOR + 1):
        data["cluster"]["kubernetesVersion"] = f"1.{minor}.0"
        assert "KUB003" in {d.code for d in compiler.check("i", emit.yaml(data).encode()).diagnostics}


@pytest.mark.parametrize("minor", strategies.MINORS)
def test_containerd_by_release(minor):
    for release in CONTAINERD[minor]:
        data = strategies.inventory(minor=minor)
        data["hostDefaults"]["containerRuntimeVersion"] = release
        _, files = compiled(data)
        assert tomllib.loads(files["hosts/h0/rootfs/etc/containerd/config.toml"])["version"] == (3 if release.startswith("2") else 2)


@pytest.mark.parametrize("repository", ["registry.k8s.io", "registry.example.net:5000/k8s"])
def test_coredns_has_one_more_path_element_in_the_default_repository(repository):
    _, files = compiled(strategies.inventory(imageRepository=repository))
    core = "coredns/coredns" if repository == "registry.k8s.io" else "coredns"
    images = files["hosts/h0/images.txt"].split()
    assert f"{repository}/{core}:v1.12.1" in images
    assert all(image.startswith(f"{repository}/") for image in images[:7])


@pytest.mark.parametrize("os", strategies.SYSTEMS)
def test_every_operating_system(os):
    result, files = compiled(strategies.inventory(os=os))
    rhel = result.cluster.hosts[0].family.name == "rhel"
    config = files["hosts/h0/rootfs/etc/nginx/nginx.conf"]
    assert f"user {'nginx' if rhel else 'www-data'};\n" in config
    assert f"load_module /usr/{'lib64' if rhel else 'lib'}/nginx/modules/ngx_stream_module.so;\n" in config
    environment = files["hosts/h0/host.env"]
    assert f"OS_FAMILY='{'rhel' if rhel else 'debian'}'\n" in environment
    assert f"OS_ID='{os.split('-')[0]}'\nOS_VERSION='{os.split('-')[1]}'\n" in environment
    packages = next(line for line in environment.splitlines() if line.startswith("PACKAGES=")).replace("'", " ").split()
    assert ("nginx-mod-stream" in packages, "libnginx-mod-stream" in packages) == (rhel, not rhel)


# flannel's release: image, plugin image, as its tag's manifest names them (facts of flannel-io/flannel, Documentation/kube-flannel.yml)
FLANNEL = {
    "0.22.0": ("docker.io/flannel/flannel:v0.22.0", "docker.io/flannel/flannel-cni-plugin:v1.1.2"),
    "0.25.5": ("docker.io/flannel/flannel:v0.25.5", "docker.io/flannel/flannel-cni-plugin:v1.5.1-flannel1"),
    "0.26.3": ("docker.io/flannel/flannel:v0.26.3", "docker.io/flannel/flannel-cni-plugin:v1.6.0-flannel1"),
    "0.26.4": ("ghcr.io/flannel-io/flannel:v0.26.4", "ghcr.io/flannel-io/flannel-cni-plugin:v1.6.2-flannel1"),
    "0.28.9": ("ghcr.io/flannel-io/flannel:v0.28.9", "ghcr.io/flannel-io/flannel-cni-plugin:v1.9.1-flannel3"),
}


@pytest.mark.parametrize("release", FLANNEL)
def test_flannel_images(release):
    _, files = compiled(strategies.inventory(cni={"name": "flannel", "version": release}))
    assert files["hosts/h0/images.txt"].split()[7:] == list(FLANNEL[release])
    manifests = "".join(text for path, text in files.items() if path.startswith("hosts/h0/manifests/"))
    assert all(image in manifests for image in FLANNEL[release]), "images.txt and the manifest name the same images"


# The newest Calico whose requirements page names the minor.
NEWEST_CALICO = {28: "3.28", 29: "3.29", 30: "3.29", 31: "3.30", 32: "3.31", 33: "3.31", 34: "3.32", 35: "3.32", 36: "3.32"}


@pytest.mark.parametrize("minor", strategies.MINORS)
def test_calico_by_release(minor):
    """The newest that was tested with this minor; its manifests are applied in upstream's order, from the payload, with create."""
    result, files = compiled(strategies.inventory(minor=minor, cni="calico"))
    version = result.cluster.cni.version
    assert version.rpartition(".")[0] == NEWEST_CALICO[minor]
    order = [line.split("\t") for line in files["hosts/h0/manifests/order.tsv"].splitlines()[1:]]
    names = [row[1].rsplit("/", 1)[1] for row in order if row[1].startswith("payload/")]
    generation = int(version.split(".")[1])
    wanted = (
        ["tigera-operator.yaml"]
        if generation < 30
        else ["operator-crds.yaml", "tigera-operator.yaml"]
        if generation < 32
        else ["v1_crd_projectcalico_org.yaml", "tigera-operator.yaml"]
    )
    assert names == wanted
    registry = "quay.io" if generation > 30 or (generation == 30 and int(version.split(".")[2]) >= 4) else "docker.io"
    assert f"{registry}/calico/node:v{version}" in files["hosts/h0/images.txt"].split()


@pytest.mark.parametrize(("told", "ports"), [("20000-22767", "20000-22767"), ("20000+100", "20000-20100")])
def test_the_hosts_know_the_node_ports_of_the_api_server(told, ports):
    _, files = compiled(strategies.inventory(apiServer={"extraArgs": {"service-node-port-range": told}}))
    for name in (name for name in files if name.endswith("/host.env")):
        assert f"{ports}/tcp" in files[name]
        assert f"{ports}/udp" in files[name]
    settings = next(text for path, text in files.items() if "sysctl.d" in path)
    assert f"net.ipv4.ip_local_reserved_ports = {ports}" in settings
