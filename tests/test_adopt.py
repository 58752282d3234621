"""Hand-written files to an inventory and back; cluster rules in the words of files; the origin's own files, finding by finding."""

from __future__ import annotations

import shutil
from itertools import combinations
from pathlib import Path
from textwrap import dedent

import pytest
from click.testing import CliRunner
from conftest import GOLDENS, REPOSITORY, Golden, checked

from generator import adopt, cli, compiler, validate
from generator.diagnostics import Diagnostic
from generator.handwritten import Files, discovery

ORIGIN = REPOSITORY / "tests" / "origin"
# Goldens of which files say everything but prefix lengths, gateways and the exact system; that one with every key says more than that.
ROUND = tuple(golden for golden in GOLDENS if golden.name in ("example", "dedicated-lb", "dual-stack", "calico-crio", "ipvs"))
KINDS = ("nginx", "keepalived", "unit", "hosts", "script", "yaml")

# Every finding in the origin's files, by the file (of each master where it is a star), line and code, and why it is right.
JUDGED = {
    ("*/etc/hosts", 1, "HSF002"): "the post's whole file has no localhost",
    ("*/etc/keepalived/keepalived.conf", 4, "KAD005"): "the script has no interval and no fall",
    ("*/etc/keepalived/keepalived.conf", 5, "KAD002"): "no enable_script_security; keepalived -t ends with 6",
    ("*/etc/nginx/nginx.conf", 1, "NGX003"): "nginx -t: no events section",
    ("*/etc/nginx/nginx.conf", 1, "NGX013"): 'nginx -t without the module: unknown directive "stream"',
    ("*/etc/nginx/nginx.conf", 11, "NGX014"): "60 s for each host that is off",
    ("*/etc/nginxkeepalived.sh", 3, "SCR003"): "ps and grep; a hung nginx counts as alive",
    ("*/etc/nginxkeepalived.sh", 3, "SCR004"): "$$ is a number that other lines hold too",
    ("*/etc/nginxkeepalived.sh", 6, "SCR002"): "a check that starts what it checks",
    ("*/etc/nginxkeepalived.sh", 8, "KAD004"): "sleeps 2 s, killed after 1 s: the check fails though nginx comes up",
    ("*/etc/nginxkeepalived.sh", 9, "SCR003"): "as line 3",
    ("*/etc/nginxkeepalived.sh", 9, "SCR004"): "as line 3",
    ("*/etc/nginxkeepalived.sh", 12, "SCR001"): "stops keepalived for good",
    ("*/etc/nginxkeepalived.sh", 12, "SCR007"): "no way to end with another status than 0",
    ("*/etc/systemd/system/keepalived.service.d/override.conf", 1, "UNT007"): "KillMode alone doesn't bring keepalived back",
    ("master-1/etc/keepalived/keepalived.conf", 10, "LBR017"): "51 is everybody's",
    ("master-1/etc/keepalived/keepalived.conf", 15, "SEC003"): "1111",
    ("master-1/etc/keepalived/keepalived.conf", 24, "LBR004"): "virtual_server on nginx's port",
    ("master-1/etc/keepalived/keepalived.conf", 24, "LBR007"): "the directors are the real servers",
    ("master-1/etc/keepalived/keepalived.conf", 24, "LBR035"): "6 s, and twice 10 s",
    ("master-1/etc/nginx/nginx.conf", 5, "LBR034"): "weight=5 three times",
    ("master-1/root/install.sh", 5, "SCR017"): "enabled without --now; the post never starts keepalived",
    ("master-1/root/install.sh", 11, "KCF005"): "kubeadm asks the internet for the release",
    ("master-1/root/install.sh", 11, "KCF012"): "the holder of the VIP may advertise it",
    ("master-1/root/install.sh", 12, "KUB001"): "so every kubeconfig has 192.168.1.31:6443",
    ("master-1/root/install.sh", 12, "NET018"): "an address in every certificate",
    ("master-1/root/network.sh", 2, "SCR010"): "flannel's master branch",
    ("master-1/root/network.sh", 7, "SCR011"): "262,144 bytes of annotation",
    ("master-1/root/network.sh", 7, "SCR012"): "flannel is applied above",
    ("master-2/etc/kubernetes/manifests/etcd.yaml", 23, "MAN003"): "the whole list, and the state existing of the join",
    ("master-3/etc/kubernetes/manifests/etcd.yaml", 23, "MAN003"): "the whole list, and the state existing of the join",
}


def found(files: Files) -> list[tuple[str, Diagnostic]]:
    """What adoption alone finds, with the names of the files."""
    return [(source.name, diagnostic) for source, diagnostic in adopt.findings(files)]


def codes(files: Files, *, infos: bool = False) -> set[str]:
    return {diagnostic.code for _, diagnostic in found(files) if infos or diagnostic.severity != "info"}


def written(folder: Path, **texts: str) -> Files:
    """Files of *texts*, by names whose dots and slashes are written as ``_`` and ``__``."""
    for name, text in texts.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text), encoding="utf-8")
    return discovery.read([folder])


def lay(bundle: Path, out: Path) -> Path:
    """The bundle's own files as they lie on the hosts, one folder a host."""
    for host in sorted((bundle / "hosts").iterdir()):
        root = out / host.name
        shutil.copytree(host / "rootfs", root)
        kubernetes = root / "etc" / "kubernetes"
        kubernetes.mkdir(parents=True)
        for file in [*host.glob("kubeadm/*.yaml"), *host.glob("manifests/*.yaml")]:
            shutil.copy(file, kubernetes / file.name)
        (root / "etc" / "hosts").write_text("127.0.0.1 localhost\n::1 localhost\n" + (host / "hosts.block").read_text())
    return out


def adopted(files: Files, name: str = "adopted.yaml") -> tuple[str, compiler.Checked]:
    draft = adopt.draft(files)
    assert draft is not None
    text = adopt.text(draft, [file.source.name for file in files.files])
    return text, compiler.check(name, text.encode())


# -- the origin --------------------------------------------------------------------------------------------------------------------


def test_every_finding_in_the_origins_files_was_judged():
    wanted = set()
    for name, line, code in JUDGED:
        wanted |= {(name.replace("*", f"master-{n}"), line, code) for n in (1, 2, 3)} if "*" in name else {(name, line, code)}
    seen = {
        (Path(one.source.name).relative_to(ORIGIN).as_posix(), d.position.line, d.code)
        for one in compiler.lint_files(discovery.read([ORIGIN]))
        for d in one.diagnostics
    }
    assert seen == wanted
    assert len({code for _, _, code in seen}) >= 20


def test_a_cluster_rule_points_at_the_flag():
    """The missing port is reported where the endpoint stands."""
    name, finding = next(one for one in found(discovery.read([ORIGIN])) if one[1].code == "KUB001")
    line = Path(name).read_text().split("\n")[finding.position.line - 1]
    assert line[finding.position.column - 1 :][: finding.position.length] == "192.168.1.31"
    assert line.startswith("--control-plane-endpoint=")


def test_related_places_are_in_files_too():
    finding = next(finding for _, finding in found(discovery.read([ORIGIN])) if finding.code == "LBR004")
    (related,) = finding.related
    assert related.spot.source.name.endswith("nginx.conf")
    assert related.path == ()


def test_the_origin_compiles_once_corrected(tmp_path):
    """Its mistakes are adopted too; what a person then corrects is what `check` says."""
    text, wrong = adopted(discovery.read([ORIGIN]))
    assert {d.code for d in wrong.diagnostics if d.severity == "error"} == {"KUB001", "LBR004", "LBR007"}
    assert "1111" not in text
    assert "listens on 16443" in text
    text = text.replace('name: "192.168.1.31"', "name: backend").replace('"192.168.1.31/24"', '"192.168.1.31/24"\n  port: 16443')
    lines = text.split("\n")
    at = lines.index("  ipvs:")
    del lines[at : at + 5]
    right = compiler.check("right.yaml", "\n".join(lines).encode())
    assert not right.refused(), right.diagnostics
    path = compiler.compile_to(tmp_path, right.cluster, {"vrrp": b"x8Fk2mQ1"}).path
    assert "192.168.1.31/32 dev ens160" in (path / "hosts/master-2/rootfs/etc/keepalived/keepalived.conf").read_text()


# -- there and back ----------------------------------------------------------------------------------------------------------------


def told(data: dict) -> dict:
    """*data* with defaults, without what no file of a host says."""
    data = validate.complete(data)
    for host in data["hosts"]:
        listed = host["address"] if isinstance(host["address"], list) else [host["address"]]
        host["address"] = [text.partition("/")[0] for text in listed]
        for key in ("gateway", "os", "packages", "priority"):
            host.pop(key, None)
    for key in ("gateway", "os", "packages"):
        data["hostDefaults"].pop(key, None)
    vips = data["controlPlaneEndpoint"]["address"]
    data["controlPlaneEndpoint"]["address"] = [text.partition("/")[0] for text in ([vips] if isinstance(vips, str) else vips)]
    for key in ("version", "manifests"):
        # Calico's release stands in its operator's manifest, which is no part of a bundle.
        if data["cluster"]["cni"]["name"] == "calico":
            data["cluster"]["cni"].pop(key, None)
    return data


@pytest.mark.parametrize("committed", ROUND, ids=lambda golden: golden.name)
def test_there_and_back(committed: Golden, tmp_path):
    """The files of a bundle make its inventory again, and this one the same configuration of the load balancer."""
    original = checked(committed)
    files = discovery.read([lay(committed.parent / original.cluster.name, tmp_path / "laid")])
    draft = adopt.draft(files)
    assert draft is not None
    assert told(draft.data) == told(original.source.data)
    text, again = adopted(files)
    assert not again.refused(), again.diagnostics
    assert told(again.source.data) == told(draft.data)
    path = compiler.compile_to(tmp_path / "out", again.cluster, {}).path
    for host in again.cluster.load_balancers:
        for name in ("nginx/nginx.conf", "nginx/stowage/apiserver.conf", "keepalived/keepalived.conf", "keepalived/virtual-server.conf"):
            before = committed.parent / original.cluster.name / "hosts" / host.name / "rootfs" / "etc" / name
            after = path / "hosts" / host.name / "rootfs" / "etc" / name
            assert before.exists() == after.exists()
            assert not before.exists() or before.read_text() == after.read_text()
    assert text == adopted(files)[0]


def test_any_kinds_of_good_files_are_good(golden: Golden, tmp_path):
    """What is missing is guessed; a guess is never found wrong."""
    original = checked(golden)
    known = {d.code for d in original.diagnostics}
    files = discovery.read([lay(golden.parent / original.cluster.name, tmp_path)])
    for count in range(1, len(KINDS) + 1):
        for kinds in combinations(KINDS, count):
            some = Files([file for file in files.files if file.kind in kinds])
            assert codes(some, infos=True) <= known, kinds
    for file in files.files:
        assert codes(Files([file]), infos=True) <= known, file.source.name
    for host in files.hosts:
        assert codes(Files([file for file in files.files if file.host == host]), infos=True) <= known, host


# -- KubeKey -----------------------------------------------------------------------------------------------------------------------


def test_our_own_kubekey_file_comes_back():
    draft = adopt.draft(discovery.read([REPOSITORY / "out" / "example" / "kubekey" / "config.yaml"]))
    original = checked(GOLDENS[0]).source.data
    assert draft is not None
    mine, theirs = validate.complete(draft.data), validate.complete(original)
    assert mine["cluster"] == theirs["cluster"]
    assert [(h["name"], h["role"]) for h in mine["hosts"]] == [(h["name"], h["role"]) for h in theirs["hosts"]]


KUBEKEY = """\
    apiVersion: kubekey.kubesphere.io/v1alpha2
    kind: Cluster
    metadata:
      name: sample
    spec:
      hosts:
      - {name: node1, address: 172.16.0.2, internalAddress: "172.16.0.2", port: 8022, user: ubuntu, password: "Qcloud@123"}
      - {name: node2, address: 172.16.0.3, internalAddress: "172.16.0.3", password: "Qcloud@123", arch: arm64}
      - {name: node3, address: 172.16.0.4, internalAddress: "172.16.0.4"}
      - {name: node4, address: 172.16.0.5, internalAddress: "172.16.0.5"}
      roleGroups:
        etcd:
        - node[1:3]
        control-plane:
        - node[1:3]
        worker:
        - node1
        - node4
      controlPlaneEndpoint:
        domain: lb.kubesphere.local
        address: "172.16.0.100"
        port: 6443
      kubernetes:
        version: v1.32.13
        clusterName: cluster.local
        containerManager: containerd
        maxPods: 110
        proxyMode: ipvs
      etcd:
        type: kubekey
      network:
        plugin: calico
        calico: {ipipMode: Always, vxlanMode: Never, vethMTU: 1440}
        kubePodsCIDR: 10.233.64.0/18
        kubeServiceCIDR: 10.233.0.0/18
      registry: {privateRegistry: "", registryMirrors: [], insecureRegistries: []}
"""


def test_a_kubekey_file(tmp_path):
    text, check = adopted(written(tmp_path, config_yaml=KUBEKEY))
    data = check.source.data
    assert [(h["name"], h["role"]) for h in data["hosts"]] == [
        ("node1", "control-plane"),
        ("node2", "control-plane"),
        ("node3", "control-plane"),
        ("node4", "worker"),
    ]
    assert data["hosts"][0]["taints"] == []
    assert data["cluster"]["kubeProxy"] == {"mode": "ipvs"}
    assert data["cluster"]["cni"] == {"name": "calico", "encapsulation": "IPIP", "mtu": 1440}
    assert data["controlPlaneEndpoint"] == {"name": "lb.kubesphere.local", "address": "172.16.0.100/32", "port": 6443}
    assert "# - etcd.type kubekey: KubeKey installs etcd as a service" in text
    assert "Qcloud" not in text
    # KubeKey has a load balancer elsewhere; here the control planes carry it, beside their API servers.
    assert {d.code for d in check.diagnostics if d.severity == "error"} == {"LBR011"}


# -- guesses are no findings -------------------------------------------------------------------------------------------------------

KEEPALIVED = """\
    vrrp_instance VI_1 {{
        interface ens160
        virtual_router_id {id}
        priority {priority}
        advert_int {interval}
        virtual_ipaddress {{
            192.168.1.31/24
        }}
    }}
"""


@pytest.mark.parametrize(
    "text",
    [
        # An external load balancer on the API's own port.
        "controlPlaneEndpoint: lb.example.net:6443",
        "controlPlaneEndpoint: '[fd00::10]:6443'",
        # One control plane whose endpoint is its own name or address.
        "controlPlaneEndpoint: master-1:6443",
        # Gates and flags of unknown releases.
        "featureGates: {EtcdLearnerMode: true, WaitForAllControlPlaneComponents: true}",
        "etcd: {local: {extraArgs: {experimental-initial-corrupt-check: 'true'}}}",
        "controllerManager: {extraArgs: {leader-elect: 'false'}}",
        # An audit log in a volume of its own.
        "apiServer: {extraArgs: {audit-log-path: /var/log/k8s/audit.log}, extraVolumes: [{name: a, hostPath: /var/log/k8s, mountPath: /var/log/k8s}]}",
        "kubernetesVersion: stable-1",
        "kubernetesVersion: v1.27.16",
        "networking: {podSubnet: 10.128.0.0/9}",
    ],
)
def test_a_guess_is_never_found_wrong(tmp_path, text):
    body = f"apiVersion: kubeadm.k8s.io/v1beta3\nkind: ClusterConfiguration\n{text}\n"
    assert codes(written(tmp_path, kubeadm_yaml=body)) <= ({"KUB006"} if "/9" in text else set())


def test_two_members_of_etcd_may_be_a_join_on_its_way(tmp_path):
    pod = """\
        apiVersion: v1
        kind: Pod
        spec:
          containers:
          - command: [etcd, "--initial-cluster=a=https://10.0.0.1:2380,b=https://10.0.0.2:2380", --name=b]
    """
    assert codes(written(tmp_path, etcd_yaml=pod)) == set()


def test_hosts_of_unknown_prefix_may_be_neighbours(tmp_path):
    nginx = "stream { upstream a { server 10.1.1.11:6443; server 10.1.2.11:6443; server 10.1.3.11:6443; } server { listen 16443; proxy_pass a; } }"
    vip = KEEPALIVED.format(id=7, priority=100, interval=1).replace("192.168.1.31/24", "10.1.9.9")
    assert codes(written(tmp_path, nginx_conf=nginx, keepalived_conf=vip)) == set()


STREAM = "stream {{ upstream a {{ {servers} }} server {{ listen 16443; proxy_pass a; }} }}\n"


@pytest.mark.parametrize(
    "servers",
    [
        # One server copied, one with words that nginx refuses, one that may be this host: how many there are is not known.
        ("10.0.0.1:6443", "10.0.0.2:6443", "10.0.0.2:6443"),
        ("10.0.0.1:6443", "10.0.0.2:6443 server 10.0.0.3:6443"),
        ("127.0.0.1:6443", "10.0.0.2:6443"),
    ],
)
def test_an_upstream_that_is_wrong_in_itself_counts_no_control_planes(tmp_path, servers):
    text = STREAM.format(servers=" ".join(f"server {one};" for one in servers))
    assert codes(written(tmp_path, nginx_conf=text)) == set()


def test_an_endpoint_that_leads_elsewhere_is_one_mistake_alone(tmp_path):
    """Nobody listens on that port (NGX028): nothing more is said of a load balancer that had it."""
    servers = " ".join(f"server 10.0.0.{n}:6443;" for n in (1, 2, 3))
    init = "kubeadm init --control-plane-endpoint api.example.net:6443 --apiserver-advertise-address 10.0.0.1\n"
    files = written(tmp_path, m1__etc__nginx__nginx_conf=STREAM.format(servers=servers), m1__root__init_sh=init)
    assert codes(files) == set()


def test_priorities_of_two_clusters_are_strangers(tmp_path):
    one = KEEPALIVED.format(id=7, priority=100, interval=1)
    files = written(tmp_path, a__keepalived_conf=one, b__keepalived_conf=one.replace("192.168.1.31", "192.168.1.41"))
    assert codes(files) == set()


def test_a_unit_alone_is_no_cluster(tmp_path):
    files = written(tmp_path, kubelet_service="[Service]\nExecStart=/usr/bin/kubelet\n")
    assert found(files) == []
    assert adopt.draft(files) is None


# -- what is wrong is found --------------------------------------------------------------------------------------------------------


def test_each_host_is_taken_at_its_word(tmp_path):
    """The first host's values are good; what the second says otherwise is found in its own file."""
    good, slow = KEEPALIVED.format(id=7, priority=110, interval=1), KEEPALIVED.format(id=7, priority=100, interval=10)
    files = written(tmp_path, a__etc__keepalived__keepalived_conf=good, b__etc__keepalived__keepalived_conf=slow)
    assert [(Path(name).relative_to(tmp_path).parts[0], d.code) for name, d in found(files)] == [("b", "LBR033")]


def test_equal_priorities_are_named_by_host(tmp_path):
    same = KEEPALIVED.format(id=7, priority=100, interval=1)
    files = written(tmp_path, **{f"{name}__etc__keepalived__keepalived_conf": same for name in ("one", "two")})
    ((name, finding),) = found(files)
    assert (finding.code, finding.message) == ("LBR020", "two and one have one VRRP priority 100")
    assert name.startswith(str(tmp_path / "two"))
    assert finding.related[0].spot.source.name.startswith(str(tmp_path / "one"))


@pytest.mark.parametrize(
    ("code", "line", "texts"),
    [
        ("LBR016", 3, {"keepalived_conf": KEEPALIVED.format(id=300, priority=100, interval=1)}),
        ("LBR018", 5, {"keepalived_conf": KEEPALIVED.format(id=7, priority=100, interval=0.5)}),
        ("LBR019", 4, {"keepalived_conf": KEEPALIVED.format(id=7, priority=255, interval=1)}),
        ("LBR024", 2, {"keepalived_service": "[Service]\nKillMode=process\n", "keepalived_conf": KEEPALIVED.format(id=7, priority=9, interval=1)}),
        ("SEC002", 2, {"keepalived_conf": KEEPALIVED.format(id=7, priority=9, interval=1).replace("{\n", "{ authentication { auth_type PASS\n auth_pass ninechars\n }\n", 1).lstrip()}),
        ("LBR029", 2, {"nginx_conf": "stream { upstream a { server 10.0.0.1:6443; server 10.0.0.2:6443; server 10.0.0.3:6443; }\nproxy_connect_timeout 30s; server { listen 16443; proxy_pass a; } }\n"}),
        ("HST012", 1, {"nginx_conf": "stream { upstream a { server 10.0.0.1:6443; server 10.0.0.2:6443; } server { listen 16443; proxy_pass a; } }\n"}),
        ("NET001", 2, {"install_sh": "kubeadm init --kubernetes-version v1.34.2 --pod-network-cidr=10.96.0.0/12 \\\n --service-cidr 10.96.0.0/16\n"}),
        ("NET001", 1, {"install_sh": "kubeadm init --pod-network-cidr 10.96.0.0/16\n"}),
        ("SCH005", 4, {"kubeadm_yaml": "apiVersion: kubeadm.k8s.io/v1beta3\nkind: ClusterConfiguration\nnetworking:\n  podSubnet: 10.244.0.0\n"}),
        ("KUB007", 4, {"kubeadm_yaml": "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nkubernetesVersion: v1.34.2\nfeatureGates: {EtcdLearnerMode: true}\n"}),
        ("NET002", 3, {"kubeadm_yaml": "apiVersion: kubeadm.k8s.io/v1beta3\nkind: ClusterConfiguration\nnetworking: {podSubnet: 192.168.0.0/16}\n", "hosts": "192.168.1.25 node-1\n"}),
        ("KUB017", 6, {"kubeadm_yaml": "apiVersion: kubeadm.k8s.io/v1beta3\nkind: ClusterConfiguration\nkubernetesVersion: v1.29.3\n---\nnodeRegistration: {name: a, kubeletExtraArgs: {\n container-runtime: remote}}\nkind: InitConfiguration\napiVersion: kubeadm.k8s.io/v1beta3\n"}),
    ],
)  # fmt: skip
def test_a_mistake_is_found_at_its_word(tmp_path, code, line, texts):
    files = written(tmp_path, **texts)
    places = {d.position.line for _, d in found(files) if d.code == code}
    assert places == {line}
    for name, finding in found(files):
        text = Path(name).read_text().split("\n")[finding.position.line - 1]
        assert text[finding.position.column - 1 :][: finding.position.length].strip()
        assert "hosts[" not in finding.message + finding.remedy


# -- the command -------------------------------------------------------------------------------------------------------------------


def run(*arguments: str):
    return CliRunner().invoke(cli.stowage, ["adopt", *arguments])


def test_adopt_prints_an_inventory_and_its_findings():
    result = run(str(ORIGIN))
    assert result.exit_code == 0
    assert result.stdout.startswith("# Adopted by `stowage adopt`, from:\n")
    assert "KUB001" in result.stderr
    assert "KUB001" not in result.stdout


def test_adopt_writes_a_new_file_alone(tmp_path):
    out = tmp_path / "mine.yaml"
    assert run(str(ORIGIN), "-o", str(out)).exit_code == 0
    before = out.read_bytes()
    result = run(str(ORIGIN), "-o", str(out))
    assert out.read_bytes() == before
    assert result.exit_code != 0


def test_adopt_says_when_there_is_nothing(tmp_path):
    (tmp_path / "a.service").write_text("[Service]\nExecStart=/bin/true\n")
    result = run(str(tmp_path))
    assert result.exit_code == 2
    assert "nothing here says anything of a cluster" in result.stderr


def test_a_balancer_of_nobody_runs_on_the_control_planes(tmp_path):
    """One folder of files, and none says whose they are: no host is made up for keepalived, and the note says what was taken for granted."""
    (tmp_path / "nginx.conf").write_text(
        "events {}\nstream {\n  upstream api { zone a 64k; server 10.0.0.11:6443; server 10.0.0.12:6443; server 10.0.0.13:6443; }\n"
        "  server { listen 16443; proxy_pass api; proxy_connect_timeout 1s; }\n}\n"
    )
    (tmp_path / "keepalived.conf").write_text(
        "vrrp_instance a {\n  interface eth0\n  virtual_router_id 61\n  priority 120\n  virtual_ipaddress {\n    10.0.0.9/24\n  }\n}\n"
    )
    (tmp_path / "kubeadm.yaml").write_text(
        "apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\nlocalAPIEndpoint: {advertiseAddress: 10.0.0.12}\n---\n"
        "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nkubernetesVersion: v1.34.2\ncontrolPlaneEndpoint: api.example:16443\n"
    )
    text = adopt.text(adopt.draft(discovery.read([tmp_path])), ["kubeadm.yaml"])
    found = compiler.check("adopted.yaml", text.encode())
    assert not found.refused()
    assert [str(host.address) for host in found.cluster.control_planes] == ["10.0.0.12", "10.0.0.11", "10.0.0.13"]
    assert found.cluster.load_balancer_names == {host.name for host in found.cluster.control_planes}
    assert "taken to run on the control planes" in text


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("kind: Cluster\nspec:\n  hosts:\n  - {name: node[1:3], address: 10.0.0.1}\n")
    result = CliRunner().invoke(cli.stowage, ["adopt", str(path)])
    assert result.exit_code == 2
    assert f"{path}:4:16: error SRC006" in result.output
