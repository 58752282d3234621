"""``cluster.registry``: what each runtime is told, by its own reader where there is one, and a real registry with a CA and a password."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
import tarfile
import tomllib
from pathlib import Path

import gathered_payload
import pytest
import yaml
from conftest import needs
from fakehost import FakeHost, sums
from strategies import inventory
from test_scripts_host import good, unable

from generator import artifacts, secrets, validate
from generator.model import Cluster, build
from generator.source import load

CANARY = "Zq7-rAvEn"
LOGIN = f"puller:{CANARY}:%s"
ENCODED = base64.b64encode(LOGIN.encode()).decode()
ADDRESS = "registry.site:5000"


def cluster(runtime: str = "containerd", minor: int = 29, **registry: object) -> Cluster:
    """One with that registry; every other key is strategies' own."""
    data = inventory(minor=minor, runtime=runtime, registry={"address": ADDRESS, **registry})
    return build(validate.complete(data))


def laid(one: Cluster) -> dict[str, artifacts.File]:
    """What step 20 lays on the first control plane, by destination."""
    files = dict(artifacts.plan(one))[f"hosts/{one.control_planes[0].name}"]
    return {file.destination: file for file in files if file.destination}


def hosts(one: Cluster, folder: str) -> dict[str, object]:
    return tomllib.loads(laid(one)[f"/etc/containerd/certs.d/{folder}/hosts.toml"].text)


# --- what is emitted -------------------------------------------------------------------------------------------------


def test_containerd_is_told_of_every_upstream() -> None:
    one = cluster()
    assert one.mirrored == ("registry.k8s.io", "ghcr.io")
    for upstream in one.mirrored:
        assert hosts(one, upstream) == {
            "server": f"https://{ADDRESS}",
            "host": {f"https://{ADDRESS}": {"capabilities": ["pull", "resolve"]}},
        }
    assert not [path for path, file in laid(one).items() if file.how == "login"]


def test_a_path_a_certificate_and_a_password() -> None:
    one = cluster(address="harbor.site/k8s", mirrors=["quay.io", "10.0.0.1:5000"], ca="MIIB" * 40, credentials={"secret": "registry"})
    assert hosts(one, "quay.io") == hosts(one, "10.0.0.1_5000_")
    told = hosts(one, "quay.io")
    assert told.pop("server") == "https://harbor.site/v2/k8s"
    assert told.pop("host") == {"https://harbor.site/v2/k8s": {"capabilities": ["pull", "resolve"], **told}}
    assert told["override_path"] is True
    assert told["header"] == {"Authorization": "Basic @login@"}
    assert laid(one)[told["ca"]].text.splitlines()[0] == "-----BEGIN CERTIFICATE-----"
    assert max(map(len, laid(one)[told["ca"]].text.splitlines())) == 64
    # images that name the registry itself bring their own path
    assert hosts(one, "harbor.site")["server"] == "https://harbor.site"
    assert "override_path" not in hosts(one, "harbor.site")
    login = [file for file in laid(one).values() if file.how == "login"]
    assert len(login) == 3
    assert {file.mode for file in login} == {0o600}


def test_without_tls() -> None:
    one = cluster(plainHttp=True, ca="MIIB" * 40)
    told = hosts(one, "ghcr.io")
    assert told == {"server": f"http://{ADDRESS}", "host": {f"http://{ADDRESS}": {"capabilities": ["pull", "resolve"]}}}
    assert tomllib.loads(laid(cluster("cri-o", plainHttp=True))["/etc/containers/registries.conf.d/90-stowage.conf"].text)["registry"][
        0
    ] == {
        "prefix": "registry.k8s.io",
        "location": ADDRESS,
        "insecure": True,
    }
    docker = json.loads(laid(cluster("cri-dockerd", plainHttp=True))["/etc/docker/daemon.json"].text)
    assert docker["insecure-registries"] == [ADDRESS]
    assert "insecure-registries" not in json.loads(laid(cluster("cri-dockerd"))["/etc/docker/daemon.json"].text)


def test_crio_and_docker() -> None:
    files = laid(cluster("cri-o", ca="MIIB" * 40, credentials={"secret": "registry"}))
    entries = tomllib.loads(files["/etc/containers/registries.conf.d/90-stowage.conf"].text)["registry"]
    assert {entry["prefix"]: entry["location"] for entry in entries} == dict.fromkeys(("registry.k8s.io", "ghcr.io", ADDRESS), ADDRESS)
    login = tomllib.loads(files["/etc/crio/crio.conf.d/20-stowage-registry.conf"].text)["crio"]["image"]["global_auth_file"]
    assert (files[login].mode, files[login].how) == (0o600, "login")
    assert f"/etc/containers/certs.d/{ADDRESS}/ca.crt" in files
    files = laid(cluster("cri-dockerd", ca="MIIB" * 40, credentials={"secret": "registry"}))
    assert f"/etc/docker/certs.d/{ADDRESS}/ca.crt" in files
    assert json.loads(files["/var/lib/kubelet/config.json"].text) == {"auths": {ADDRESS: {"auth": "@login@"}}}
    # a colon is no letter of a file name on some media
    assert not [file.path for file in files.values() if ":" in file.path]


def test_the_proxy_does_not_stand_between() -> None:
    assert "registry.site" in cluster().no_proxy


@pytest.mark.parametrize("text", ["", "nobody", ":x", "user:", "user:a\nb", "user:\0"])
def test_what_is_no_login(tmp_path: Path, text: str) -> None:
    tmp_path.chmod(0o700)
    one = cluster(credentials={"secret": "registry"})
    (tmp_path / "registry").write_text(text)
    with pytest.raises(secrets.SecretError, match="no user and password"):
        read(tmp_path, one)
    (tmp_path / "registry").write_text(LOGIN + "\n")
    assert read(tmp_path, one) == {"registry": LOGIN.encode()}
    given = secrets.overlay(one, read(tmp_path, one))
    assert given.keys() == {host.name for host in one.kubernetes_hosts}


def read(folder: Path, one: Cluster) -> dict[str, bytes]:
    from datetime import UTC, datetime

    return secrets.read(folder, one, datetime.now(UTC))


@pytest.mark.parametrize("written", [CANARY, f"user:{CANARY}", f"{{secret: {CANARY}}}", f"[{CANARY}]", f"{{password: {CANARY}}}"])
def test_a_login_in_the_inventory_is_not_shown(written: str) -> None:
    text = f"version: 1\ncluster:\n  registry:\n    address: {ADDRESS}\n    credentials: {written}\n"
    source, _ = load("x.yaml", text.encode())
    found = validate.run(source.data)
    assert any(CANARY in line for line in text.splitlines())
    assert CANARY not in "".join(source.line(number) for number in range(1, 7)) + "".join(f"{one.message} {one.remedy}" for one in found)


# --- a real registry -------------------------------------------------------------------------------------------------

# crictl's part: the CRI pulls through the same folder as `ctr --hosts-dir`, and asks by the same names.
CRICTL = r"""#!/bin/bash
while [[ $1 == --* ]]; do shift 2; done
ctr() { /usr/bin/ctr --address /run/containerd/containerd.sock --namespace k8s.io "$@"; }
case $1 in
  inspecti) ctr images ls -q | grep -Fxq -- "$3" ;;
  pull) ctr images pull --hosts-dir /etc/containerd/certs.d "$2" >"$FAKE/pulled" 2>&1 || { tail -n 1 "$FAKE/pulled" >&2; exit 1; } ;;
  *) exit 9 ;;
esac
"""
# All in one sandbox: processes do not outlive it. $1: what to run when containerd and the registry are up.
SITE = r"""
set -e
echo '127.0.0.1 registry.site' >>/etc/hosts
mount -t tmpfs tmpfs /var/lib/containerd 2>/dev/null || { mkdir -p /var/lib/containerd; mount -t tmpfs tmpfs /var/lib/containerd; }
docker-registry serve "$SITE/registry.yaml" >"$SITE/registry.log" 2>&1 &
for _ in {1..100}; do if (: </dev/tcp/127.0.0.1/5000) 2>/dev/null; then break; fi; sleep 0.1; done
shopt -s nullglob
for archive in "$SITE"/images/*.tar; do
  skopeo copy -q --dest-cert-dir "$SITE/certs" --authfile "$SITE/push.json" "docker-archive:$archive" "docker://registry.site:5000/$(basename "$archive" .tar):3.9"
done
bash "$BUNDLE/scripts/20-host.sh"
containerd >"$SITE/containerd.log" 2>&1 &
for _ in {1..100}; do if ctr version >/dev/null 2>&1; then break; fi; sleep 0.1; done
eval "$1"
"""


def image(path: Path, *names: str, text: str = "") -> None:
    """A docker-archive whose image has one file that says *text*."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as layer:
        entry = tarfile.TarInfo("text")
        entry.size = len(text)
        layer.addfile(entry, io.BytesIO(text.encode()))
    gathered_payload.image(path, *names, layer=packed.getvalue())


def certificate(folder: Path) -> str:
    """A CA, and a certificate of registry.site signed by it; gives the CA as the inventory wants it."""
    name = "subjectAltName=DNS:registry.site"
    commands = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=site -keyout ca.key -out ca.crt",
        f"openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=registry.site -addext {name} -keyout tls.key -out tls.csr",
        "openssl x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -copy_extensions copy -out tls.crt",
    )
    for command in commands:
        subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    (folder / "certs").mkdir()
    shutil.copy(folder / "ca.crt", folder / "certs/ca.crt")
    return "".join(line for line in (folder / "ca.crt").read_text().splitlines() if "CERTIFICATE" not in line)


class Site:
    """A host told of the registry by what was compiled, and that registry, below one folder."""

    def __init__(self, folder: Path, runtime: str = "containerd", **registry: object) -> None:
        self.folder = folder / "site"
        (self.folder / "images").mkdir(parents=True)
        authority = certificate(self.folder)
        self.cluster = cluster(runtime, ca=authority, credentials={"secret": "registry"}, **registry)
        word = subprocess.run(["perl", "-e", "print crypt(<STDIN>, '$2b$05$abcdefghijklmnopqrstuu')"], input=LOGIN.partition(":")[2], capture_output=True, text=True, check=True)  # fmt: skip
        (self.folder / "htpasswd").write_text(f"puller:{word.stdout}\n")
        settings = {
            "version": 0.1,
            "storage": {"filesystem": {"rootdirectory": str(self.folder / "store")}},
            "http": {"addr": "127.0.0.1:5000", "tls": {"certificate": str(self.folder / "tls.crt"), "key": str(self.folder / "tls.key")}},
            "auth": {"htpasswd": {"realm": "site", "path": str(self.folder / "htpasswd")}},
        }
        (self.folder / "registry.yaml").write_text(yaml.safe_dump(settings))
        (self.folder / "push.json").write_text(json.dumps({"auths": {ADDRESS: {"auth": ENCODED}}}))
        self.host = FakeHost(folder, SWAP="keep", SELINUX_PORTS="", PORTS="", TRUSTED_CIDRS="", FIREWALL="none", REGISTRY=self.cluster.registry.address, REGISTRY_SECRET="registry")  # fmt: skip
        self.host.stand_in("crictl", CRICTL)
        self.host.environment |= {"RUNTIME": runtime, "RUNTIME_UNITS": "containerd.service"}
        for unit in ("containerd.service", "kubelet.service"):
            self.host.unit(unit)
        for file in laid(self.cluster).values():
            if file.destination.startswith(("/etc/containerd", "/etc/containers", "/etc/crio")):
                self.host.row(file.destination, file.text, mode=f"{file.mode:04o}", unit=file.unit, how=file.how)
        (self.host.bundle / "secrets").mkdir()
        (self.host.bundle / "secrets" / "registry").write_text(LOGIN)
        self.host.seal()

    def wants(self, *references: str) -> None:
        (self.host.bundle / "images.txt").write_text("".join(f"{one}\n" for one in references))
        self.host.seal()

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        variables = [f"SITE={self.folder}", f"BUNDLE={self.host.bundle}"]
        return self.host.sh("env", *variables, "bash", "-c", SITE, "site", script, timeout=120)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    needs("root", "unshare", "docker-registry", "skopeo", "containerd", "ctr", "openssl", "perl")
    trial = FakeHost(tmp_path / "trial").sh("true")
    if trial.returncode != 0:
        unable(f"no sandbox here: {trial.stderr}")
    return Site(tmp_path)


IMAGES = 'ctr --namespace k8s.io images ls -q; echo "end"; bash "$BUNDLE/scripts/30-images.sh"; ctr --namespace k8s.io images ls -q'


def test_images_come_from_the_registry_of_the_site(site: Site) -> None:
    """In a namespace without any other network: TLS by its CA, its password, the upstream's name kept; nothing of it anywhere to read."""
    image(site.folder / "images/pause.tar", "anything:1")
    image(site.folder / "images/kube-proxy.tar", "anything:1", text="other")
    site.wants("registry.k8s.io/pause:3.9", "ghcr.io/kube-proxy:3.9", f"{ADDRESS}/pause:3.9")
    again = 'bash "$BUNDLE/scripts/30-images.sh"; bash "$BUNDLE/scripts/20-host.sh"; cat /proc/[0-9]*/cmdline | tr "\\0" " "'
    back = 'bash "$BUNDLE/scripts/30-images.sh" --rollback >/dev/null; echo gone; ctr --namespace k8s.io images ls -q'
    done = site.run(f"{IMAGES}; {again}; {back}")
    out = good(done)
    assert sorted(re.findall(r"^\S+:3\.9$", out, re.MULTILINE)) == [
        "ghcr.io/kube-proxy:3.9",
        "registry.k8s.io/pause:3.9",
        f"{ADDRESS}/pause:3.9",
    ]
    assert f"pull registry.k8s.io/pause:3.9 from {ADDRESS}" in out
    assert out.count("nothing to change") == 2
    assert out.endswith("gone\n")
    file = site.host.file("/etc/containerd/certs.d/ghcr.io/hosts.toml")
    assert f'"Basic {ENCODED}"' in file.read_text()
    assert (file.stat().st_mode & 0o777, file.stat().st_uid) == (0o600, 0)
    # neither said, nor logged, nor on a command line
    logs = "".join(path.read_text() for path in site.host.file("/var/log/stowage").iterdir())
    for text in (out, done.stderr, logs):
        assert CANARY not in text
        assert ENCODED not in text
    readable = [
        path
        for path in (site.host.root / "layers/upper").rglob("*")
        if path.is_file() and not path.is_symlink() and path.stat().st_mode & 0o077 and path.stat().st_size < 1 << 20
    ]
    assert not [path for path in readable if ENCODED.encode() in path.read_bytes() or CANARY.encode() in path.read_bytes()]


def test_what_the_registry_lacks_is_named(site: Site) -> None:
    image(site.folder / "images/pause.tar", "anything:1")
    site.wants("registry.k8s.io/pause:3.9", "registry.k8s.io/etcd:3.9")
    result = site.run('bash "$BUNDLE/scripts/30-images.sh"')
    assert result.returncode == 1
    assert "still missing: registry.k8s.io/etcd:3.9\n" in result.stdout
    assert "registry.k8s.io/etcd:3.9: not found" in result.stdout
    assert "registry.site" in (site.folder / "registry.log").read_text()


@pytest.mark.parametrize("what", ["password", "authority"])
def test_another_password_or_authority_is_refused(site: Site, what: str) -> None:
    image(site.folder / "images/pause.tar", "anything:1")
    site.wants("registry.k8s.io/pause:3.9")
    if what == "password":
        (site.host.bundle / "secrets" / "registry").write_text("puller:wrong")
        sums(site.host.bundle / "secrets")
    else:
        (site.folder / "other").mkdir()
        other = certificate(site.folder / "other")
        lines = [other[start : start + 64] for start in range(0, len(other), 64)]
        text = "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""])
        site.host.row("/etc/containerd/stowage-registry.crt", text)
    result = site.run('bash "$BUNDLE/scripts/30-images.sh"')
    assert result.returncode == 1
    assert {"password": "401 Unauthorized", "authority": "x509"}[what] in result.stdout


def test_images_below_a_path(tmp_path: Path, site: Site) -> None:
    del site
    other = Site(tmp_path / "below", address=f"{ADDRESS}/mirror/k8s")
    image(other.folder / "images/pause.tar", "anything:1")
    other.wants("registry.k8s.io/pause:3.9")
    push = 'skopeo copy -q --src-cert-dir "$SITE/certs" --dest-cert-dir "$SITE/certs" --authfile "$SITE/push.json" docker://registry.site:5000/pause:3.9 docker://registry.site:5000/mirror/k8s/pause:3.9'
    assert "registry.k8s.io/pause:3.9" in good(other.run(f"{push}; {IMAGES}")).partition("end\n")[2]
    log = (other.folder / "registry.log").read_text()
    assert "/v2/mirror/k8s/pause/manifests/3.9?ns=registry.k8s.io" in log


def test_the_files_of_crio_by_skopeo(tmp_path: Path, site: Site) -> None:
    """CRI-O and skopeo read them with the same library (containers/image): upstream's name, the site's registry, its CA, its password."""
    del site
    other = Site(tmp_path / "crio", "cri-o", address=f"{ADDRESS}/mirror")
    image(other.folder / "images/pause.tar", "anything:1")
    push = (
        'skopeo copy -q --src-cert-dir "$SITE/certs" --dest-cert-dir "$SITE/certs" --authfile "$SITE/push.json" '
        "docker://registry.site:5000/pause:3.9 docker://registry.site:5000/mirror/pause:3.9"
    )
    pull = 'skopeo copy -q --authfile /etc/crio/stowage-registry.json docker://registry.k8s.io/pause:3.9 "dir:$SITE/pulled"'
    good(other.run(f"{push}; {pull}"))
    assert (other.folder / "pulled/manifest.json").exists()
    log = (other.folder / "registry.log").read_text()
    assert "GET /v2/mirror/pause/manifests/3.9 " in log
    file = other.host.file("/etc/crio/stowage-registry.json")
    assert file.stat().st_mode & 0o777 == 0o600
    (other.folder / "none.json").write_text("{}")
    refused = other.run(f"{push}; {pull.replace('/etc/crio/stowage-registry.json', str(other.folder / 'none.json'))}")
    assert "authentication required" in refused.stderr


# --- archives --------------------------------------------------------------------------------------------------------

LOADED = "ctr --namespace k8s.io images ls -q | grep -v ^sha256: | sort"


def test_a_real_containerd_loads_archives(site: Site) -> None:
    """By the archive's name what is missing alone; under exactly the wanted name, whatever the archive calls it; and back again."""
    site.host.seal(REGISTRY="", REGISTRY_SECRET="")
    images = site.host.bundle / "payload" / "images"
    images.mkdir(parents=True)
    image(images / "registry.k8s.io_pause_3.9.tar", "registry.k8s.io/pause:3.9")
    image(images / "docker.io_flannel_flannel_v0.24.2.tar", "flannel/flannel:v0.24.2", text="as docker save names it")
    image(images / "quay.io_calico_node_v3.27.3.tar", "localhost/another:1", text="as somebody named it")
    image(images / "quay.io_there_already_1.tar", "quay.io/there/already:1", text="not to be loaded again")
    image(images / "unneeded.tar", "example.net/unneeded:1", text="not needed")
    site.wants("registry.k8s.io/pause:3.9", "docker.io/flannel/flannel:v0.24.2", "quay.io/calico/node:v3.27.3", "quay.io/there/already:1")
    first = f'ctr --namespace k8s.io images import "{images}/quay.io_there_already_1.tar" >/dev/null; ctr --namespace k8s.io images tag quay.io/there/already:1 quay.io/kept:1; echo A; {LOADED}; echo B'
    step = f'bash "$BUNDLE/scripts/30-images.sh"; echo C; {LOADED}; echo D; bash "$BUNDLE/scripts/30-images.sh"; bash "$BUNDLE/scripts/30-images.sh" --rollback; echo E; {LOADED}'
    out = good(site.run(f"{first}; {step}"))
    before, between, after = (
        out.partition("A\n")[2].partition("B\n")[0],
        out.partition("C\n")[2].partition("D\n")[0],
        out.partition("E\n")[2],
    )
    assert before.split() == ["quay.io/kept:1", "quay.io/there/already:1"]
    wanted = {"registry.k8s.io/pause:3.9", "docker.io/flannel/flannel:v0.24.2", "quay.io/calico/node:v3.27.3"}
    assert set(between.split()) == {*before.split(), *wanted, "localhost/another:1"}
    assert "there_already" not in out.partition("C\n")[0].partition("B\n")[2]
    assert "unneeded" not in out
    assert after == before
    assert "nothing to change" in out


def test_an_archive_by_any_name_is_found_when_one_is_still_missing(site: Site) -> None:
    site.host.seal(REGISTRY="", REGISTRY_SECRET="")
    images = site.host.bundle / "payload" / "images"
    images.mkdir(parents=True)
    image(images / "all.tar", "registry.k8s.io/pause:3.9", "quay.io/other:1")
    subprocess.run(["gzip", images / "all.tar"], check=True)
    site.wants("registry.k8s.io/pause:3.9")
    rollback = f'bash "$BUNDLE/scripts/30-images.sh" --rollback; echo E; {LOADED}; true'
    out = good(site.run(f'bash "$BUNDLE/scripts/30-images.sh"; {LOADED}; {rollback}'))
    assert "load all.tar.gz" in out
    assert out.partition("E\n")[2] == ""


SKOPEO_AS_CRIO = r"""#!/bin/bash
while [[ $1 == --* ]]; do shift 2; done
case $1 in
  inspecti) skopeo inspect --raw "containers-storage:$3" >/dev/null ;;
  rmi) skopeo delete "containers-storage:$2" ;;
  *) exit 9 ;;
esac
"""


def test_a_real_storage_of_crio_takes_archives(tmp_path: Path, site: Site) -> None:
    del site
    other = Site(tmp_path / "crio", "cri-o")
    other.host.stand_in("crictl", SKOPEO_AS_CRIO)
    other.host.seal(REGISTRY="", REGISTRY_SECRET="", CRI_SOCKET="unix:///run/containerd/containerd.sock")
    images = other.host.bundle / "payload" / "images"
    images.mkdir(parents=True)
    image(images / "registry.k8s.io_pause_3.9.tar", "registry.k8s.io/pause:3.9")
    image(images / "quay.io_calico_node_v3.27.3.tar", "localhost/another:1", text="as somebody named it")
    other.wants("registry.k8s.io/pause:3.9", "quay.io/calico/node:v3.27.3")
    listed = "grep -o '\"names\":\\[[^]]*\\]' /var/lib/containers/storage/*-images/images.json | sort"
    storage = "mkdir -p /var/lib/containers; mount -t tmpfs tmpfs /var/lib/containers"
    step = f'bash "$BUNDLE/scripts/30-images.sh"; {listed}; bash "$BUNDLE/scripts/30-images.sh"; bash "$BUNDLE/scripts/30-images.sh" --rollback; echo E; {listed}; true'
    out = good(other.run(f"{storage}; {step}"))
    assert '"names":["registry.k8s.io/pause:3.9"]' in out
    assert '"names":["quay.io/calico/node:v3.27.3"]' in out
    assert "nothing to change" in out
    assert "names" not in out.partition("E\n")[2]
