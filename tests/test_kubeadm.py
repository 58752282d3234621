"""kubeadm's files against our own strict validator (``kubeadm_schema``), which needs no kubeadm; and the validator against mistakes."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import kubeadm_schema
import pytest
from conftest import GOLDENS, Bundle

from generator import emit, versions


def kubeadm_file(bundle: Bundle, name: str) -> str:
    (path,) = sorted((bundle.host(name) / "kubeadm").glob("*.yaml"))
    return path.read_text()


def by_kind(text: str) -> dict[str, Any]:
    return {document["kind"]: document for document in kubeadm_schema.documents(text)}


def test_every_file_is_valid(bundle):
    for host in bundle.cluster.kubernetes_hosts:
        assert kubeadm_schema.complaints(kubeadm_file(bundle, host.name), bundle.cluster.minor) == [], host.name


def test_who_has_which_file(bundle):
    first = bundle.cluster.control_planes[0]
    for host in bundle.cluster.hosts:
        names = {path.name for path in (bundle.host(host) / "kubeadm").glob("*.yaml")}
        assert names == ({"init.yaml"} if host is first else {"join.yaml"} if host.runs_kubernetes else set()), host.name


def test_the_version_is_that_of_the_minor(bundle):
    wanted = "kubeadm.k8s.io/v1beta4" if bundle.cluster.minor >= 31 else "kubeadm.k8s.io/v1beta3"
    for host in bundle.cluster.kubernetes_hosts:
        found = re.findall(r"(?m)^apiVersion: (kubeadm\S+)$", kubeadm_file(bundle, host.name))
        assert set(found) == {wanted}, host.name


def test_what_kubeadm_would_guess_is_said(bundle):
    """Name, socket, addresses, release, endpoint with its port."""
    cluster = bundle.cluster
    for host in cluster.kubernetes_hosts:
        kinds = by_kind(kubeadm_file(bundle, host.name))
        document = kinds.get("InitConfiguration") or kinds["JoinConfiguration"]
        node = document["nodeRegistration"]
        assert node["name"] == host.name
        assert node["criSocket"] == cluster.cri_socket
        flags = node["kubeletExtraArgs"]
        flags = flags if isinstance(flags, dict) else {flag["name"]: flag["value"] for flag in flags}
        assert flags["node-ip"].split(",")[0] == str(host.address), "without it a kubelet may take the VIP for its own address"
        own = document.get("localAPIEndpoint") or document.get("controlPlane", {}).get("localAPIEndpoint")
        assert own == ({"advertiseAddress": str(host.address), "bindPort": cluster.api_port} if host.role == "control-plane" else None)
        assert ("controlPlane" in kinds.get("JoinConfiguration", {})) is (
            host.role == "control-plane" and host is not cluster.control_planes[0]
        )
    configuration = by_kind(kubeadm_file(bundle, cluster.control_planes[0].name))["ClusterConfiguration"]
    assert configuration["kubernetesVersion"] == f"v{cluster.kubernetes_version}"
    if cluster.endpoint:
        assert configuration["controlPlaneEndpoint"] == f"{cluster.endpoint.name}:{cluster.endpoint.port}"
        assert {str(vip) for vip in cluster.endpoint.vips} <= set(configuration["apiServer"]["certSANs"])


def test_discovery_is_by_file_and_holds_no_secret(bundle):
    for host in bundle.cluster.kubernetes_hosts[1:]:
        discovery = by_kind(kubeadm_file(bundle, host.name))["JoinConfiguration"]["discovery"]
        assert discovery["file"] == {"kubeConfigPath": "/etc/kubernetes/stowage-discovery.conf"}
        assert "bootstrapToken" not in discovery
        assert "tlsBootstrapToken" not in discovery


PATCH_NAME = re.compile(
    r"(kube-apiserver|kube-controller-manager|kube-scheduler|etcd|kubeletconfiguration)[^.+]*(\+(strategic|merge|json))?\.(json|yaml)"
)


def test_patch_folders(bundle):
    """A name that kubeadm doesn't know is ignored with a note, a folder that isn't there is fatal."""
    for host in bundle.cluster.kubernetes_hosts:
        kinds = by_kind(kubeadm_file(bundle, host.name))
        document = kinds.get("InitConfiguration") or kinds["JoinConfiguration"]
        rows = [line.split("\t") for line in (bundle.host(host) / "files.tsv").read_text().splitlines()[1:]]
        laid = {row[1]: row for row in rows}
        if "patches" in document:
            folder = document["patches"]["directory"]
            assert any(destination.startswith(f"{folder}/") for destination in laid), "named, so it must exist"
            # Of the step that runs kubeadm or an earlier one.
            step = 50 if host is bundle.cluster.control_planes[0] else 60 if host.role == "control-plane" else 65
            assert all(int(row[4]) <= step for destination, row in laid.items() if destination.startswith(f"{folder}/"))
        for path in sorted((bundle.host(host) / "kubeadm").glob("patches*/*")):
            assert PATCH_NAME.fullmatch(path.name), path.name
            assert kubeadm_schema.documents(path.read_text())
            assert laid[f"/etc/kubernetes/{path.parent.name}/{path.name}"][2] == "0600"
            if path.name.startswith("kubeletconfiguration"):
                (patch,) = kubeadm_schema.documents(path.read_text())
                assert set(patch) <= kubeadm_schema.KUBELET.keys()
            if path.name.startswith("etcd"):
                assert path.parent.name == "patches-upgrade", "at init or join it would break the bootstrap"
                (patch,) = kubeadm_schema.documents(path.read_text())
                assert [sorted(operation) for operation in patch] == [["op", "path", "value"]]
                assert (patch[0]["op"], patch[0]["path"]) == ("add", "/spec/containers/0/command/-")


def test_the_etcd_patch_names_every_member(bundle):
    planes = bundle.cluster.control_planes
    wanted = ",".join(f"{host.name}=https://{f'[{host.address}]' if host.address.version == 6 else host.address}:2380" for host in planes)
    for host in planes:
        lines = (bundle.host(host) / "etcd/manifest-patch.tsv").read_text().splitlines()
        assert lines[1:] == [f"set\tinitial-cluster\t{wanted}", "remove\tinitial-cluster-state\t-"]
        (patch,) = kubeadm_schema.documents((bundle.host(host) / "kubeadm/patches-upgrade/etcd0+json.yaml").read_text())
        assert patch[0]["value"] == f"--initial-cluster={wanted}"
    assert not [host.name for host in bundle.cluster.hosts if host not in planes and (bundle.host(host) / "etcd").exists()]


def test_component_documents(bundle):
    kinds = by_kind(kubeadm_file(bundle, bundle.cluster.control_planes[0].name))
    assert list(kinds) == ["InitConfiguration", "ClusterConfiguration", "KubeletConfiguration", "KubeProxyConfiguration"]
    proxy = kinds["KubeProxyConfiguration"]
    assert proxy["mode"] == bundle.cluster.proxy_mode
    if proxy["mode"] == "ipvs":
        vips = bundle.cluster.endpoint.vips if bundle.cluster.endpoint else ()
        assert proxy["ipvs"]["excludeCIDRs"] == [f"{vip}/{32 if vip.version == 4 else 128}" for vip in vips]


def test_gates_agree_with_the_validator():
    """The compiler's own table and this one were written apart."""
    for minor in range(versions.OLDEST_MINOR, versions.NEWEST_MINOR + 1):
        ours = {name for name, (first, last) in versions.KUBEADM_GATES.items() if first <= minor <= last}
        assert ours == {name for name, minors in kubeadm_schema.GATES.items() if minor in minors}, minor


# -- the validator can refuse -----------------------------------------------------------------------------------------------------


def changed(documents: list[Any], path: tuple[Any, ...], value: Any) -> list[Any]:
    """A copy with *value* at *path*; ``...`` removes what is there."""
    copied = copy.deepcopy(documents)
    place = copied
    for part in path[:-1]:
        place = place.setdefault(part, {}) if isinstance(place, dict) else place[part]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return copied


# Documents 0 to 3 of an init.yaml are Init, Cluster, Kubelet, KubeProxy.
INIT_MISTAKES = {
    "unknown field": ((0, "nodeRegistraton"), {}, "unknown field InitConfiguration.nodeRegistraton"),
    "unknown field below": ((1, "apiServer", "certSans"), [], "unknown field ClusterConfiguration.apiServer.certSans"),
    "unknown kubelet field": ((2, "maxPod"), 5, "unknown field KubeletConfiguration.maxPod"),
    "unknown kube-proxy field": ((3, "strictARP"), True, "unknown field KubeProxyConfiguration.strictARP"),
    "no kind": ((0, "kind"), ..., "without apiVersion or kind"),
    "unknown kind": ((0, "kind"), "InitConfig", "no kind kubeadm.k8s.io/"),
    "unknown version": ((0, "apiVersion"), "kubeadm.k8s.io/v1beta2", "doesn't take kubeadm.k8s.io/v1beta2"),
    "wrong version of a component": ((3, "apiVersion"), "kubeproxy.config.k8s.io/v1", "no kind kubeproxy"),
    "string for an integer": ((0, "localAPIEndpoint", "bindPort"), "6443", "bindPort is no int"),
    "boolean for a string": ((1, "clusterName"), True, "clusterName is no string"),
    "list for a string": ((1, "controlPlaneEndpoint"), ["a"], "is no string"),
    "string for a list": ((1, "apiServer", "certSANs"), "a", "certSANs is no strings"),
    "object for a list": ((0, "nodeRegistration", "taints"), {}, "is no list"),
    "no unit": ((2, "shutdownGracePeriod"), "60", "is no duration"),
    "address with prefix": ((0, "localAPIEndpoint", "advertiseAddress"), "10.0.0.1/24", "no address"),
    "unspecified address": ((0, "localAPIEndpoint", "advertiseAddress"), "0.0.0.0", "no address"),
    "port": ((0, "localAPIEndpoint", "bindPort"), 65536, "bindPort"),
    "node name": ((0, "nodeRegistration", "name"), "Master_1", "DNS-1123"),
    "bare socket": ((0, "nodeRegistration", "criSocket"), "/run/containerd/containerd.sock", "scheme unix"),
    "all and more": ((0, "nodeRegistration", "ignorePreflightErrors"), ["all", "Swap"], "alone"),
    "pull policy": ((0, "nodeRegistration", "imagePullPolicy"), "Sometimes", "imagePullPolicy"),
    "taint effect": ((0, "nodeRegistration", "taints"), [{"key": "a", "effect": "NoRun"}], "taints"),
    "certificate key": ((0, "certificateKey"), "0" * 64, "secret"),
    "label for a release": ((1, "kubernetesVersion"), "stable-1", "pinned"),
    "another minor": ((1, "kubernetesVersion"), "v1.20.0", "pinned"),
    "service network too large": ((1, "networking", "serviceSubnet"), "10.0.0.0/8", "too large"),
    "service network too small": ((1, "networking", "serviceSubnet"), "10.96.0.0/29", "too small"),
    "host bits": ((1, "networking", "serviceSubnet"), "10.96.0.1/16", "no network"),
    "two of one family": ((1, "networking", "podSubnet"), "10.1.0.0/16,10.2.0.0/16", "one a family"),
    "node mask": ((1, "networking", "podSubnet"), "10.244.0.0/26", "node mask"),
    "endpoint without port": ((1, "controlPlaneEndpoint"), "backend", "no port"),
    "endpoint with scheme": ((1, "controlPlaneEndpoint"), "https://backend:1", "controlPlaneEndpoint"),
    "endpoint of bare IPv6": ((1, "controlPlaneEndpoint"), "fd00::1:16443", "controlPlaneEndpoint"),
    "SAN": ((1, "apiServer", "certSANs"), ["a b"], "certSANs"),
    "etcd SAN": ((1, "etcd", "local", "serverCertSANs"), ["-a"], "serverCertSANs"),
    "relative data directory": ((1, "etcd", "local", "dataDir"), "etcd", "absolute"),
    "local and external etcd": ((1, "etcd", "external"), {"endpoints": []}, "exactly one"),
    "image repository": ((1, "imageRepository"), "https://registry", "imageRepository"),
    "unknown gate": ((1, "featureGates"), {"IPv6DualStack": True}, "IPv6DualStack"),
    "gate as text": ((1, "featureGates"), {"PublicKeysECDSA": "true"}, "gates"),
    "cgroup driver": ((2, "cgroupDriver"), "cgroupfs", "systemd"),
    "image thresholds": ((2, "imageGCLowThresholdPercent"), 99, "below"),
    "proxy mode": ((3, "mode"), "userspace", "mode"),
}


@pytest.mark.parametrize("name", ["example", "every-key"])
@pytest.mark.parametrize("mistake", INIT_MISTAKES)
def test_a_mistake_in_init_is_refused(name, mistake, all_bundles):
    bundle = next(all_bundles(golden) for golden in GOLDENS if golden.name == name)
    path, value, wanted = INIT_MISTAKES[mistake]
    documents = kubeadm_schema.documents(kubeadm_file(bundle, bundle.cluster.control_planes[0].name))
    found = kubeadm_schema.complaints(emit.yaml_documents(changed(documents, path, value)), bundle.cluster.minor)
    assert any(wanted in why for why in found), found


JOIN_MISTAKES = {
    "no discovery": (("discovery",), ..., "exactly one"),
    "both discoveries": (("discovery", "bootstrapToken"), {}, "exactly one"),
    "discovery by http": (("discovery", "file", "kubeConfigPath"), "http://a/b", "https"),
    "certificate path": (("caCertPath",), "/etc/ca.pem", "caCertPath"),
    "control plane's address": (("controlPlane", "localAPIEndpoint", "advertiseAddress"), "backend", "no address"),
    "certificate key": (("controlPlane", "certificateKey"), "0" * 64, "secret"),
    "relative patches": (("patches",), {"directory": "patches"}, "absolute"),
}


@pytest.mark.parametrize("mistake", JOIN_MISTAKES)
def test_a_mistake_in_join_is_refused(mistake, all_bundles):
    bundle = all_bundles(GOLDENS[0])
    path, value, wanted = JOIN_MISTAKES[mistake]
    documents = kubeadm_schema.documents(kubeadm_file(bundle, "master-2"))
    found = kubeadm_schema.complaints(emit.yaml_documents(changed(documents, (0, *path), value)), bundle.cluster.minor)
    assert any(wanted in why for why in found), found


# The two versions against each other: name of the golden, path, value, what is said.
VERSION_MISTAKES = [
    ("example", (1, "apiServer", "extraArgs"), [{"name": "a", "value": "b"}], "extraArgs is no map"),
    ("example", (1, "apiServer", "extraArgs"), {"a": 1}, "extraArgs is no map"),
    ("example", (0, "timeouts"), {"discovery": "5m"}, "unknown field InitConfiguration.timeouts"),
    ("example", (1, "encryptionAlgorithm"), "RSA-2048", "unknown field ClusterConfiguration.encryptionAlgorithm"),
    ("example", (0, "nodeRegistration", "imagePullSerial"), True, "unknown field"),
    ("example", (2, "failCgroupV1"), False, "1.31"),
    ("every-key", (1, "apiServer", "extraArgs"), {"a": "b"}, "no list of name and value"),
    ("every-key", (1, "apiServer", "extraArgs"), [{"name": "a", "value": 1}], "no name and value"),
    ("every-key", (1, "apiServer", "extraArgs"), [{"name": "", "value": "b"}], "has no name"),
    ("every-key", (1, "apiServer", "timeoutForControlPlane"), "4m", "unknown field"),
    ("every-key", (1, "encryptionAlgorithm"), "RSA-1024", "encryptionAlgorithm"),
    ("every-key", (1, "etcd", "local", "extraArgs"), [{"name": "initial-cluster", "value": "a=b"}], "members"),
    ("debian-1.36", (0, "nodeRegistration", "kubeletExtraArgs"), [{"name": "pod-infra-container-image", "value": "a"}], "pod-infra"),
]


@pytest.mark.parametrize(("name", "path", "value", "wanted"), VERSION_MISTAKES)
def test_a_mistake_between_versions_is_refused(name, path, value, wanted, all_bundles):
    bundle = next(all_bundles(golden) for golden in GOLDENS if golden.name == name)
    documents = kubeadm_schema.documents(kubeadm_file(bundle, bundle.cluster.control_planes[0].name))
    found = kubeadm_schema.complaints(emit.yaml_documents(changed(documents, path, value)), bundle.cluster.minor)
    assert any(wanted in why for why in found), found


def test_a_mistake_in_the_text_is_refused(all_bundles):
    text = kubeadm_file(all_bundles(GOLDENS[0]), "master-1")
    assert "duplicate key" in kubeadm_schema.complaints(text.replace("clusterName:", "clusterName: a\nclusterName:"), 29)[0]
    assert "disagree" in kubeadm_schema.complaints(text.replace("clusterName: example", "clusterName: yes"), 29)[0]
    kinds = kubeadm_schema.documents(text)
    assert "ClusterConfiguration twice" in kubeadm_schema.complaints(emit.yaml_documents([*kinds, kinds[1]]), 29)
    join = kubeadm_schema.documents(kubeadm_file(all_bundles(GOLDENS[0]), "master-2"))
    assert "InitConfiguration and JoinConfiguration in one file" in kubeadm_schema.complaints(emit.yaml_documents([*kinds, *join]), 29)
    assert any("doesn't take" in why for why in kubeadm_schema.complaints(text.replace("v1beta3", "v1beta4"), 29))
    assert any("doesn't take" in why for why in kubeadm_schema.complaints(text, 37))


def test_what_the_validator_reads_is_plain_data(bundle):
    """No dates, no tags: nothing that a JSON reader, as Kubernetes has one, couldn't hold."""
    for host in bundle.cluster.kubernetes_hosts:
        for document in kubeadm_schema.documents(kubeadm_file(bundle, host.name)):
            assert json.loads(json.dumps(document)) == document
