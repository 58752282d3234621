"""``kubekey/config.yaml``: the same cluster in KubeKey v3's words, no secret, and what it cannot say."""

from __future__ import annotations

from io import StringIO

import pytest
import yaml as pyyaml
from ruamel.yaml import YAML

from generator import model, source, validate
from generator.artifacts import kubekey

HOSTS = """\
- {name: master-1, role: control-plane, address: 192.168.1.25/24}
- {name: master-2, role: control-plane, address: 192.168.1.26/24}
- {name: master-3, role: control-plane, address: 192.168.1.27/24}
- {name: node-1, role: worker, address: 192.168.1.28/24, labels: {zone: hall-2}}
"""
ENDPOINT = """\
controlPlaneEndpoint: {name: backend, address: 192.168.1.31/24, port: 16443}
loadBalancer: {keepalived: {virtualRouterId: 51, authPass: {secret: vrrp}}}
"""


def cluster_of(cluster="", *, hosts=HOSTS, endpoint=ENDPOINT, defaults="{os: rocky-9, interface: ens160}"):
    text = (
        f"version: 1\ncluster:\n  name: test\n  kubernetesVersion: 1.29.3\n{cluster}\n{endpoint}hostDefaults: {defaults}\nhosts:\n{hosts}"
    )
    read, found = source.load("test.yaml", text.encode())
    assert not found, found
    found = validate.run(read.data)
    assert not found, found
    return model.build(validate.complete(read.data))


def text_of(*args, **kwargs):
    [file] = kubekey.for_cluster(cluster_of(*args, **kwargs))
    assert file.path == "kubekey/config.yaml"
    assert file.sources
    return file.text


def spec_of(*args, **kwargs):
    text = text_of(*args, **kwargs)
    data = pyyaml.safe_load(text)
    assert data == YAML(typ="safe", pure=True).load(StringIO(text))
    assert (data["apiVersion"], data["kind"], data["metadata"]) == ("kubekey.kubesphere.io/v1alpha2", "Cluster", {"name": "test"})
    return data["spec"]


def lost(*args, **kwargs):
    head = "# Not expressible here: "
    return [line.removeprefix(head) for line in text_of(*args, **kwargs).splitlines() if line.startswith(head)]


def test_example():
    assert spec_of("  cni: flannel\n  containerRuntime: cri-dockerd\n  imageRepository: registry.aliyuncs.com/google_containers") == {
        "hosts": [
            {"name": "master-1", "address": "192.168.1.25", "internalAddress": "192.168.1.25"},
            {"name": "master-2", "address": "192.168.1.26", "internalAddress": "192.168.1.26"},
            {"name": "master-3", "address": "192.168.1.27", "internalAddress": "192.168.1.27"},
            {"name": "node-1", "address": "192.168.1.28", "internalAddress": "192.168.1.28", "labels": {"zone": "hall-2"}},
        ],
        "roleGroups": {
            "etcd": ["master-1", "master-2", "master-3"],
            "control-plane": ["master-1", "master-2", "master-3"],
            "worker": ["node-1"],
        },
        "controlPlaneEndpoint": {"internalLoadbalancer": "", "domain": "backend", "address": "192.168.1.31", "port": 16443},
        "etcd": {"type": "kubeadm"},
        "kubernetes": {
            "version": "v1.29.3",
            "clusterName": "test",
            "dnsDomain": "cluster.local",
            "containerManager": "docker",
            "proxyMode": "iptables",
            "nodelocaldns": False,
        },
        "network": {
            "plugin": "flannel",
            "kubePodsCIDR": "10.244.0.0/16",
            "kubeServiceCIDR": "10.96.0.0/12",
            "flannel": {"backendMode": "vxlan", "directRouting": False},
        },
        "registry": {"privateRegistry": "registry.aliyuncs.com", "namespaceOverride": "google_containers"},
    }


def test_one_control_plane_has_no_endpoint():
    spec = spec_of(hosts="- {name: only, role: control-plane, address: 192.168.1.25/24}\n", endpoint="")
    assert "controlPlaneEndpoint" not in spec
    assert spec["roleGroups"] == {"etcd": ["only"], "control-plane": ["only"], "worker": []}


def test_dedicated_load_balancers_are_no_hosts_of_kubekey():
    spec = spec_of(hosts=HOSTS + "- {name: lb-1, role: load-balancer, address: 192.168.1.41/24}\n")
    assert "lb-1" not in [host["name"] for host in spec["hosts"]]
    assert spec["kubernetes"]["apiserverCertExtraSans"] == ["lb-1", "192.168.1.41"]


@pytest.mark.parametrize("ipv6_first", [False, True])
def test_dual_stack(ipv6_first):
    def pair(*values):
        return ",".join(reversed(values) if ipv6_first else values)

    subnets = f"""\
  cni: calico
  podSubnet: "{pair("10.244.0.0/16", "fd00:10:244::/56")}"
  serviceSubnet: "{pair("10.96.0.0/16", "fd00:10:96::/112")}"
"""
    quoted = ('"192.168.1.25/24"', '"fd00:1::25/64"')
    hosts = f"- {{name: a, role: control-plane, address: [{pair(*quoted)}]}}\n"
    address = pair('"192.168.1.31/24"', '"fd00:1::31/64"')
    spec = spec_of(subnets, hosts=hosts, endpoint=ENDPOINT.replace("192.168.1.31/24", f"[{address}]"))
    assert spec["hosts"][0]["internalAddress"] == "192.168.1.25,fd00:1::25"
    assert spec["controlPlaneEndpoint"]["address"] == "192.168.1.31"
    kubernetes, calico = spec["kubernetes"], spec["network"]["calico"]
    # KubeKey's own default for IPv6 is 120.
    assert (kubernetes["nodeCidrMaskSize"], kubernetes["nodeCidrMaskSizeIPv6"]) == (24, 64)
    assert kubernetes["apiserverCertExtraSans"] == ["fd00:1::31"]
    assert (calico["ipv4NatOutgoing"], calico["ipv6NatOutgoing"]) == (True, True)
    assert spec["network"]["kubePodsCIDR"] == pair("10.244.0.0/16", "fd00:10:244::/56")


def test_ipv6_alone():
    cluster = '  podSubnet: "fd00:10:244::/56"\n  serviceSubnet: "fd00:10:96::/112"'
    hosts = '- {name: a, role: control-plane, address: "fd00:1::25/64"}\n'
    spec = spec_of(cluster, hosts=hosts, endpoint="")
    assert spec["hosts"][0] == {"name": "a", "address": "fd00:1::25", "internalAddress": "fd00:1::25"}
    assert spec["kubernetes"]["nodeCidrMaskSize"] == 64
    assert "cluster.podSubnet, for IPv6 alone" in lost(cluster, hosts=hosts, endpoint="")


@pytest.mark.parametrize(("runtime", "manager"), [("containerd", "containerd"), ("cri-dockerd", "docker"), ("cri-o", "crio")])
def test_container_manager(runtime, manager):
    assert spec_of(f"  containerRuntime: {runtime}")["kubernetes"]["containerManager"] == manager


@pytest.mark.parametrize(
    ("settings", "mode", "configuration"),
    [
        ("{mode: iptables}", "iptables", None),
        ("{mode: ipvs}", "ipvs", None),
        ("{mode: ipvs, strictARP: true}", "ipvs", {"ipvs": {"strictARP": True}}),
        # The field knows two modes; what the configuration says takes its place (GetKubeProxyConfiguration).
        ("{mode: nftables}", "iptables", {"mode": "nftables"}),
    ],
)
def test_proxy(settings, mode, configuration):
    kubernetes = spec_of(f"  kubeProxy: {settings}")["kubernetes"]
    assert kubernetes["proxyMode"] == mode
    assert kubernetes.get("kubeProxyConfiguration") == configuration


def test_arguments_are_lists_and_mask_sizes_fields():
    spec = spec_of(
        """\
  apiServer: {certSANs: [api.example.net], extraArgs: {audit-log-maxage: "30", profiling: false}}
  controllerManager: {extraArgs: {node-cidr-mask-size: "25", v: "2"}}
  scheduler: {extraArgs: {v: "3"}}
  etcd: {extraArgs: {quota-backend-bytes: "8589934592"}}
"""
    )
    kubernetes = spec["kubernetes"]
    assert kubernetes["apiserverArgs"] == ["audit-log-maxage=30", "profiling=false"]
    assert kubernetes["controllerManagerArgs"] == ["v=2"]
    assert kubernetes["nodeCidrMaskSize"] == 25
    assert kubernetes["schedulerArgs"] == ["v=3"]
    assert kubernetes["apiserverCertExtraSans"] == ["api.example.net"]
    assert spec["etcd"] == {"type": "kubeadm", "extraArgs": ["quota-backend-bytes=8589934592"]}


def test_kubelet():
    defaults = (
        "{os: rocky-9, kubelet: {maxPods: 200, podPidsLimit: 4096, evictionHard: {memory.available: 200Mi}}, kubeletExtraArgs: {v: 2}}"
    )
    kubernetes = spec_of(defaults=defaults)["kubernetes"]
    assert (kubernetes["maxPods"], kubernetes["podPidsLimit"]) == (200, 4096)
    assert kubernetes["kubeletConfiguration"] == {"evictionHard": {"memory.available": "200Mi"}}
    assert kubernetes["kubeletArgs"] == ["v=2"]


@pytest.mark.parametrize(
    ("encapsulation", "ipip", "vxlan"),
    [
        ("VXLANCrossSubnet", "Never", "CrossSubnet"),
        ("VXLAN", "Never", "Always"),
        ("IPIPCrossSubnet", "CrossSubnet", "Never"),
        ("IPIP", "Always", "Never"),
        ("None", "Never", "Never"),
    ],
)
def test_calico(encapsulation, ipip, vxlan):
    calico = spec_of(f"  cni: {{name: calico, encapsulation: {encapsulation}, natOutgoing: Disabled, mtu: 1450}}")["network"]["calico"]
    assert calico == {
        "ipipMode": ipip,
        "vxlanMode": vxlan,
        "vethMTU": 1450,
        "ipAutoDetectionMethod": "kubernetes-internal-ip",
        "ipv4NatOutgoing": False,
    }


def test_no_network():
    assert spec_of("  cni: none")["network"] == {"plugin": "none", "kubePodsCIDR": "10.244.0.0/16", "kubeServiceCIDR": "10.96.0.0/12"}


@pytest.mark.parametrize(
    ("repository", "registry"),
    [
        ("registry.k8s.io", None),
        ("registry.example.net:5000", {"privateRegistry": "registry.example.net:5000"}),
        ("registry.example.net/a/b", {"privateRegistry": "registry.example.net", "namespaceOverride": "a/b"}),
    ],
)
def test_registry(repository, registry):
    assert spec_of(f"  imageRepository: {repository}").get("registry") == registry


def test_time_and_names():
    hosts = HOSTS.replace("192.168.1.28/24", "192.168.1.28/24, ntpServers: [192.168.1.2]")
    defaults = "{os: rocky-9, ntpServers: [192.168.1.1]}"
    spec = spec_of("  extraHosts: [{name: registry.example.net, address: 192.168.1.5}]", hosts=hosts, defaults=defaults)
    assert spec["system"] == {"ntpServers": ["192.168.1.1", "192.168.1.2"]}
    assert spec["dns"] == {"nodeEtcHosts": "192.168.1.5 registry.example.net\n"}


def test_what_is_not_expressible_is_named_where_it_is_set():
    assert lost("  cni: none") == []
    assert lost("  cni: flannel") == ["cluster.cni.version, registry, mtu, vni, port, and the interface"]
    cluster = """\
  cni: none
  apiServer: {bindPort: 6444}
  etcd: {dataDir: /data/etcd, serverCertSANs: [a.example.net], peerCertSANs: [b.example.net]}
  featureGates: {EtcdLearnerMode: true}
  images: {pause: "3.9"}
  encryptionAlgorithm: ECDSA-P256
"""
    hosts = HOSTS.replace(
        "192.168.1.28/24",
        "192.168.1.28/24, taints: [], swap: keep, sysctl: {vm.max_map_count: 1}, kubelet: {maxPods: 5}, kubeletExtraArgs: {v: 1}",
    )
    assert lost(cluster, hosts=hosts) == [
        "cluster.apiServer.bindPort",
        "cluster.etcd.dataDir",
        "cluster.etcd.serverCertSANs",
        "cluster.etcd.peerCertSANs",
        "cluster.featureGates",
        "cluster.encryptionAlgorithm",
        "hosts[].kubelet",
        "hosts[].kubeletExtraArgs, which differ",
        "hosts[].taints",
        "hosts[].sysctl",
        "hosts[].swap",
    ]


def test_no_secret_and_no_login():
    text = text_of()
    assert "vrrp" not in text
    data = pyyaml.safe_load(text)
    assert not {"user", "password", "privateKey", "privateKeyPath"} & {key for host in data["spec"]["hosts"] for key in host}
