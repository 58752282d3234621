"""The pod network's manifests: flannel and Calico, for every release that the tables know, both families and both together."""

from __future__ import annotations

import json
import re
from io import StringIO

import pytest
import yaml as pyyaml
from ruamel.yaml import YAML

from generator import model, source, validate, versions
from generator.artifacts import calico, flannel

FLANNEL = [f"0.{minor}.{patch}" for minor, last in versions._FLANNEL_LAST.items() for patch in range(last + 1)]
CALICO = [f"3.{minor}.{patch}" for minor, row in versions.CALICO.items() for patch in range(len(row.operators))]

FAMILIES = {
    "ipv4": ("10.244.0.0/16", "10.96.0.0/16", ("192.168.1.{}/24",)),
    "ipv6": ("fd00:10:244::/56", "fd00:10:96::/112", ("fd00:192:168:1::{}/64",)),
    "dual": ("10.244.0.0/16,fd00:10:244::/56", "10.96.0.0/16,fd00:10:96::/112", ("192.168.1.{}/24", "fd00:192:168:1::{}/64")),
    "dual, IPv6 first": ("fd00:10:244::/56,10.244.0.0/16", "fd00:10:96::/112,10.96.0.0/16", ("fd00:192:168:1::{}/64", "192.168.1.{}/24")),
}


def cluster_of(cni, *, family="ipv4", kubernetes="1.29.3", interfaces=("ens160",) * 4, cluster="", dedicated=False):
    """Three control planes and a worker; *cni* and *cluster* are YAML for the inventory."""
    pods, services, pattern = FAMILIES[family]

    def addresses(number):
        return "[" + ", ".join(f'"{p.format(number)}"' for p in pattern) + "]"

    names = ("master-1", "master-2", "master-3", "node-1")
    hosts = [
        f"- {{name: {name}, role: {'worker' if name == 'node-1' else 'control-plane'}, address: {addresses(25 + i)}, interface: {interfaces[i]}}}"
        for i, name in enumerate(names)
    ]
    if dedicated:
        hosts += [f"- {{name: lb-{i}, role: load-balancer, address: {addresses(40 + i)}, interface: bond0}}" for i in (1, 2)]
    text = f"""\
version: 1
cluster:
  name: test
  kubernetesVersion: {kubernetes}
  podSubnet: "{pods}"
  serviceSubnet: "{services}"
  cni: {cni}
{cluster}
controlPlaneEndpoint: {{name: backend, address: {addresses(31)}, port: 16443}}
loadBalancer: {{keepalived: {{virtualRouterId: 51}}}}
hostDefaults: {{os: rocky-9}}
hosts:
""" + "\n".join(hosts)
    read, found = source.load("test.yaml", text.encode())
    assert not found, found
    found = validate.run(read.data)
    assert not found, found
    return model.build(validate.complete(read.data))


def files(component, cluster, host=None):
    return {file.path: file for file in component.for_host(cluster, host or cluster.control_planes[0])}


def documents(text):
    """The documents of *text*, the same for a reader of YAML 1.2 and for one of YAML 1.1."""
    one = list(YAML(typ="safe", pure=True).load_all(StringIO(text)))
    two = list(pyyaml.safe_load_all(text))
    assert one == two
    return two


def order(file):
    header, *rows = file.text.splitlines()
    assert header == "#verb\tfile\tsha256\twait"
    return [tuple(row.split("\t")) for row in rows]


# -- flannel -----------------------------------------------------------------------------------------------------------------------


def flannel_objects(cluster):
    found = documents(files(flannel, cluster)[flannel.PATH].text)
    return {document["kind"]: document for document in found}, found


def net_conf(objects):
    return json.loads(objects["ConfigMap"]["data"]["net-conf.json"])


def flanneld(objects):
    [container] = objects["DaemonSet"]["spec"]["template"]["spec"]["containers"]
    return container


@pytest.mark.parametrize("version", FLANNEL)
def test_flannel_has_what_upstreams_manifest_of_this_release_has(version):
    cluster = cluster_of(f"{{name: flannel, version: {version}}}")
    objects, found = flannel_objects(cluster)
    at = versions.split_patch(version)
    assert [d["kind"] for d in found] == ["Namespace", "ClusterRole", "ClusterRoleBinding", "ServiceAccount", "ConfigMap", "DaemonSet"]
    assert objects["Namespace"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"

    resources = [rule["resources"][0] for rule in objects["ClusterRole"]["rules"]]
    assert resources == ["pods", "nodes", "nodes/status"] + (["clustercidrs"] if at < (25, 0) else [])
    assert ("EnableNFTables" in net_conf(objects)) == (at >= (25, 0))

    pod = objects["DaemonSet"]["spec"]["template"]["spec"]
    plugin, install = pod["initContainers"]
    assert (plugin["command"], plugin["args"]) == (["cp"], ["-f", "/flannel", "/opt/cni/bin/flannel"])
    assert install["command"] == (["/opt/bin/install-conf"] if at >= (28, 6) else ["cp"])
    assert install["args"][-2:] == ["/etc/kube-flannel/cni-conf.json", "/etc/cni/net.d/10-flannel.conflist"]
    assert ("-f" in install["args"]) == (at < (28, 6))

    main = flanneld(objects)
    assert main["image"] == install["image"] == cluster.cni_images[0]
    assert main["image"].endswith(f"/flannel:v{version}")
    assert plugin["image"] == cluster.cni_images[1]
    environment = {entry["name"]: entry.get("value") for entry in main["env"]}
    assert environment["EVENT_QUEUE_DEPTH"] == "5000"
    assert environment.get("CONT_WHEN_CACHE_NOT_READY") == ("false" if at >= (27, 3) else None)
    assert ("--healthz-port=8081" in main["args"]) == ("livenessProbe" in main) == ("readinessProbe" in main) == (at >= (28, 9))
    assert main["securityContext"] == {"privileged": False, "capabilities": {"add": ["NET_ADMIN", "NET_RAW"]}}
    assert {m["name"] for c in (plugin, install, main) for m in c["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
    assert (
        objects["DaemonSet"]["spec"]["selector"]["matchLabels"].items()
        <= objects["DaemonSet"]["spec"]["template"]["metadata"]["labels"].items()
    )
    assert objects["ClusterRoleBinding"]["subjects"][0]["namespace"] == objects["ServiceAccount"]["metadata"]["namespace"] == "kube-flannel"


# facts.md 7.3: release: tag of the CNI plugin, registry.
@pytest.mark.parametrize(
    ("version", "plugin", "registry"),
    [
        ("0.22.0", "v1.1.2", "docker.io/flannel"),
        ("0.22.3", "v1.2.0", "docker.io/flannel"),
        ("0.23.0", "v1.2.0", "docker.io/flannel"),
        ("0.24.1", "v1.2.0", "docker.io/flannel"),
        ("0.24.2", "v1.4.0-flannel1", "docker.io/flannel"),
        ("0.25.1", "v1.4.0-flannel1", "docker.io/flannel"),
        ("0.25.4", "v1.4.1-flannel1", "docker.io/flannel"),
        ("0.25.5", "v1.5.1-flannel1", "docker.io/flannel"),
        ("0.26.1", "v1.5.1-flannel2", "docker.io/flannel"),
        ("0.26.3", "v1.6.0-flannel1", "docker.io/flannel"),
        ("0.26.4", "v1.6.2-flannel1", "ghcr.io/flannel-io"),
        ("0.27.3", "v1.7.1-flannel1", "ghcr.io/flannel-io"),
        ("0.28.0", "v1.8.0-flannel1", "ghcr.io/flannel-io"),
        ("0.28.2", "v1.9.0-flannel1", "ghcr.io/flannel-io"),
        ("0.28.5", "v1.9.1-flannel1", "ghcr.io/flannel-io"),
        ("0.28.8", "v1.9.1-flannel2", "ghcr.io/flannel-io"),
        ("0.28.9", "v1.9.1-flannel3", "ghcr.io/flannel-io"),
    ],
)
def test_flannel_images(version, plugin, registry):
    text = files(flannel, cluster_of(f"{{name: flannel, version: {version}}}"))[flannel.PATH].text
    assert set(re.findall(r"image: (.*)", text)) == {f'"{registry}/flannel:v{version}"', f'"{registry}/flannel-cni-plugin:{plugin}"'}


def test_flannel_registry():
    cluster = cluster_of("{name: flannel, registry: registry.example.net:5000/flannel}")
    assert flanneld(flannel_objects(cluster)[0])["image"] == "registry.example.net:5000/flannel/flannel:v0.28.9"


@pytest.mark.parametrize(
    ("family", "wanted"),
    [
        ("ipv4", {"Network": "10.244.0.0/16"}),
        ("ipv6", {"EnableIPv4": False, "IPv6Network": "fd00:10:244::/56", "EnableIPv6": True}),
        ("dual", {"Network": "10.244.0.0/16", "IPv6Network": "fd00:10:244::/56", "EnableIPv6": True}),
        ("dual, IPv6 first", {"Network": "10.244.0.0/16", "IPv6Network": "fd00:10:244::/56", "EnableIPv6": True}),
    ],
)
def test_flannel_networks(family, wanted):
    backend = {"Type": "vxlan", "VNI": 1, "Port": 8472, "DirectRouting": False}
    assert net_conf(flannel_objects(cluster_of("flannel", family=family))[0]) == {**wanted, "EnableNFTables": False, "Backend": backend}


@pytest.mark.parametrize(
    ("settings", "backend"),
    [
        ("", {"Type": "vxlan", "VNI": 1, "Port": 8472, "DirectRouting": False}),
        (
            "vni: 4096, port: 4789, directRouting: true, mtu: 1450",
            {"Type": "vxlan", "VNI": 4096, "Port": 4789, "DirectRouting": True, "MTU": 1450},
        ),
        ("backend: host-gw, mtu: 1450", {"Type": "host-gw"}),
        ("backend: wireguard", {"Type": "wireguard"}),
        ("backend: wireguard, mtu: 1420", {"Type": "wireguard", "MTU": 1420}),
    ],
)
def test_flannel_backends(settings, backend):
    assert net_conf(flannel_objects(cluster_of(f"{{name: flannel, {settings}}}"))[0])["Backend"] == backend


@pytest.mark.parametrize(("version", "wanted"), [("0.24.4", None), ("0.25.0", True), ("0.28.9", True)])
def test_flannel_follows_kube_proxy_to_nftables(version, wanted):
    cluster = cluster_of(f"{{name: flannel, version: {version}}}", cluster="  kubeProxy: {mode: nftables}", kubernetes="1.33.6")
    assert net_conf(flannel_objects(cluster)[0]).get("EnableNFTables") is wanted


def match(arguments, interfaces):
    """The interface and addresses that flanneld takes, as its main.go and LookupExtIface do; *interfaces* are name: IPv4 list, IPv6 list."""
    for pattern in (re.compile(a.removeprefix("--iface-regex=")) for a in arguments if a.startswith("--iface-regex=")):
        for name, families in interfaces.items():
            taken = [next((a for a in addresses if pattern.search(a)), None) for addresses in families]
            if all(taken):
                return name, *taken
        for name, families in interfaces.items():
            if pattern.search(name):
                return name, *(addresses[0] for addresses in families)
    return None


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_flannel_takes_the_node_address_and_never_the_vip(family):
    # The interfaces of hosts differ, and the VIP is the first that the kernel lists.
    objects, _ = flannel_objects(cluster_of("flannel", family=family, interfaces=("ens160", "eth1", "eno1", "eth0")))
    main = flanneld(objects)
    assert {"name": "NODE_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}} in main["env"]
    vip, node, other = (FAMILIES[family][2][0].format(n).split("/")[0] for n in (31, 25, 250))
    arguments = [a.replace("$(NODE_IP)", node) for a in main["args"]]
    assert match(arguments, {"lo": ([],), "eth1": ([other],), "ens160": ([vip, node],)}) == ("ens160", node)
    assert match(arguments, {"ens160": ([vip],)}) is None


@pytest.mark.parametrize("family", ["dual", "dual, IPv6 first"])
@pytest.mark.parametrize("interfaces", [("ens160",) * 4, ("ens160", "eth0.100", "eth1", "ens160")])
def test_flannel_takes_both_node_addresses_and_never_a_vip(family, interfaces):
    cluster = cluster_of("flannel", family=family, interfaces=interfaces)
    main = flanneld(flannel_objects(cluster)[0])
    assert "NODE_IP" not in [entry["name"] for entry in main["env"]]
    vips = {vip.version: str(vip) for vip in cluster.endpoint.vips}
    for host in cluster.control_planes:
        own = {version: str(host.address_of(version)) for version in (4, 6)}
        there = {"lo": ([], []), host.settings.interface: ([vips[4], own[4]], [vips[6], own[6]])}
        assert match(main["args"], there) == (host.settings.interface, own[4], own[6])
    [worker] = cluster.workers
    own = {version: str(worker.address_of(version)) for version in (4, 6)}
    assert match(main["args"], {worker.settings.interface: ([own[4]], [own[6]])}) == (worker.settings.interface, own[4], own[6])


def test_flannel_names_hosts_by_interface_where_no_vip_can_be():
    cluster = cluster_of("flannel", family="dual", dedicated=True)
    assert flannel.interface(cluster) == ["--iface-regex=^(?:ens160)$"]


def test_flannel_regex_stays_below_the_kernels_limit():
    cluster = cluster_of("flannel", family="dual", interfaces=("ens160", "eth1", "eth2", "eth3"))
    flags = flannel.interface(cluster)
    assert len(flags) == 1
    longest = len("255.255.255.255|") + 3 + len("fd00:ffff:ffff:ffff:ffff:ffff:ffff:ffff|")
    assert longest * flannel._ADDRESSED < 128 * 1024


def test_flannel_stands_on_the_first_control_plane_alone():
    cluster = cluster_of("flannel")
    for host in cluster.hosts[1:]:
        assert not files(flannel, cluster, host)
    found = files(flannel, cluster)
    assert list(found) == [flannel.PATH, "manifests/order.tsv"]
    assert all(file.sources and not file.destination for file in found.values())
    wait = "--for=condition=Ready -n kube-flannel pod -l app=flannel --field-selector=spec.nodeName=master-1"
    assert order(found["manifests/order.tsv"]) == [("apply", flannel.PATH, "-", wait)]
    assert not files(calico, cluster)


def test_no_network_no_files():
    cluster = cluster_of("none")
    assert not files(flannel, cluster)
    assert not files(calico, cluster)


# -- Calico ------------------------------------------------------------------------------------------------------------------------


def calico_resources(cluster):
    return {document["kind"]: document for document in documents(files(calico, cluster)[calico.PATH].text)}


def installation(cluster):
    return calico_resources(cluster)["Installation"]["spec"]


# facts.md 7.4.
MANIFESTS = {
    **dict.fromkeys((27, 28, 29), ("tigera-operator.yaml",)),
    **dict.fromkeys((30, 31), ("operator-crds.yaml", "tigera-operator.yaml")),
    32: ("v1_crd_projectcalico_org.yaml", "tigera-operator.yaml"),
}


@pytest.mark.parametrize("version", CALICO)
def test_calico_order(version):
    minor = versions.split_patch(version)[0]
    cluster = cluster_of(f"{{name: calico, version: {version}}}")
    *upstream, ours = order(files(calico, cluster)["manifests/order.tsv"])
    assert [row[:3] for row in upstream] == [("server-side", f"payload/manifests/{name}", "-") for name in MANIFESTS[minor]]
    assert upstream[0][3] == "--for=condition=Established crd --all"
    assert all(row[3] == "--for=condition=Available -n tigera-operator deployment/tigera-operator" for row in upstream[1:])
    wait = "--for=condition=Ready -n calico-system pod -l k8s-app=calico-node --field-selector=spec.nodeName=master-1"
    assert ours == ("create", calico.PATH, "-", wait)


def test_calico_digests():
    digest = "ab" * 32
    cluster = cluster_of(f"{{name: calico, version: 3.31.5, manifests: {{tigera-operator.yaml: {digest}}}}}")
    rows = order(files(calico, cluster)["manifests/order.tsv"])
    assert {row[1]: row[2] for row in rows} == {
        "payload/manifests/operator-crds.yaml": "-",
        "payload/manifests/tigera-operator.yaml": digest,
        calico.PATH: "-",
    }


@pytest.mark.parametrize("version", [f"3.{minor}.{len(row.operators) - 1}" for minor, row in versions.CALICO.items()])
def test_calico_installation(version):
    resources = calico_resources(cluster_of(f"{{name: calico, version: {version}}}"))
    named = {"name": "default-ipv4-ippool"} if versions.split_patch(version) >= (28, 0) else {}
    assert list(resources) == ["Installation", "APIServer"]
    assert resources["Installation"] == {
        "apiVersion": "operator.tigera.io/v1",
        "kind": "Installation",
        "metadata": {"name": "default"},
        "spec": {
            "calicoNetwork": {
                "linuxDataplane": "Iptables",
                "bgp": "Enabled",
                "ipPools": [
                    {
                        **named,
                        "cidr": "10.244.0.0/16",
                        "blockSize": 26,
                        "encapsulation": "VXLANCrossSubnet",
                        "natOutgoing": "Enabled",
                        "nodeSelector": "all()",
                    }
                ],
                "nodeAddressAutodetectionV4": {"kubernetes": "NodeInternalIP"},
            }
        },
    }
    assert resources["APIServer"] == {
        "apiVersion": "operator.tigera.io/v1",
        "kind": "APIServer",
        "metadata": {"name": "default"},
        "spec": {},
    }


@pytest.mark.parametrize(
    ("family", "wanted"),
    [
        ("ipv6", [("default-ipv6-ippool", "fd00:10:244::/56", 120)]),
        ("dual", [("default-ipv4-ippool", "10.244.0.0/16", 24), ("default-ipv6-ippool", "fd00:10:244::/56", 120)]),
        ("dual, IPv6 first", [("default-ipv6-ippool", "fd00:10:244::/56", 120), ("default-ipv4-ippool", "10.244.0.0/16", 24)]),
    ],
)
def test_calico_families(family, wanted):
    spec = installation(cluster_of("{name: calico, version: 3.31.5, blockSize: 24, blockSizeIPv6: 120}", family=family))["calicoNetwork"]
    assert [(pool["name"], pool["cidr"], pool["blockSize"]) for pool in spec["ipPools"]] == wanted
    assert ("nodeAddressAutodetectionV4" in spec) == ("dual" in family)
    assert spec["nodeAddressAutodetectionV6"] == {"kubernetes": "NodeInternalIP"}


@pytest.mark.parametrize("encapsulation", ["IPIP", "IPIPCrossSubnet"])
def test_calico_has_no_ipip_for_ipv6(encapsulation):
    spec = installation(cluster_of(f"{{name: calico, version: 3.31.5, encapsulation: {encapsulation}}}", family="dual"))["calicoNetwork"]
    assert [pool["encapsulation"] for pool in spec["ipPools"]] == [encapsulation, "None"]


def test_calico_settings():
    settings = "encapsulation: VXLAN, bgp: Disabled, linuxDataplane: Nftables, natOutgoing: Disabled, mtu: 1450, apiServer: false"
    resources = calico_resources(cluster_of(f"{{name: calico, version: 3.31.5, {settings}}}"))
    network = resources["Installation"]["spec"]["calicoNetwork"]
    assert list(resources) == ["Installation"]
    assert (network["bgp"], network["linuxDataplane"], network["mtu"]) == ("Disabled", "Nftables", 1450)
    assert (network["ipPools"][0]["encapsulation"], network["ipPools"][0]["natOutgoing"]) == ("VXLAN", "Disabled")


@pytest.mark.parametrize("version", ["3.27.5", "3.31.5", "3.32.1"])
@pytest.mark.parametrize("registry", ["registry.example.net", "registry.example.net:5000/mirror"])
def test_calico_registry_is_what_the_operator_joins(version, registry):
    cluster = cluster_of(f"{{name: calico, version: {version}, registry: '{registry}'}}")
    spec = installation(cluster)
    assert spec["registry"] == f"{registry}/"
    # <registry><imagePath>/<imageName>:<tag>, the image path being calico: installation_types.go.
    assert f"{spec['registry']}calico/node:v{version}" in cluster.cni_images
    # What `sed s?quay.io?REGISTRY?g` makes of the operator's own image.
    assert cluster.cni_images[0] == f"{registry}/tigera/operator:{versions.calico_operator(version)}"


@pytest.mark.parametrize(
    ("version", "operator", "registry"),
    [
        ("3.27.0", "v1.32.3", "docker.io"),
        ("3.30.3", "v1.38.6", "docker.io"),
        ("3.30.4", "v1.38.7", "quay.io"),
        ("3.32.1", "v1.42.3", "quay.io"),
    ],
)
def test_calico_images(version, operator, registry):
    cluster = cluster_of(f"{{name: calico, version: {version}}}")
    assert cluster.cni_images[0] == f"quay.io/tigera/operator:{operator}"
    assert {image.split("/calico/")[0] for image in cluster.cni_images[1:]} == {registry}
    assert "registry" not in installation(cluster)


def test_calico_stands_on_the_first_control_plane_alone():
    cluster = cluster_of("calico")
    for host in cluster.hosts[1:]:
        assert not files(calico, cluster, host)
    found = files(calico, cluster)
    assert list(found) == [calico.PATH, "manifests/order.tsv"]
    assert all(file.sources and not file.destination for file in found.values())
    assert not files(flannel, cluster)
    assert "Goldmane" not in found[calico.PATH].text
