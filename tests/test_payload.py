"""The payload: what the inventory wants of it, the lock of what was gathered, and each host's part of it in the bundle."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import subprocess
import tarfile
import xml.etree.ElementTree as ET
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import GOLDENS, REPOSITORY, checked
from gathered_payload import deb, fill, image, index_debs, rpm
from ruamel.yaml import YAML

from generator import compiler, payload
from generator.artifacts import payload as artifact
from generator.bundle import in_overlay, walk
from generator.cli import stowage
from generator.payload import images, laying, packages, record
from generator.verify import verify

# Two systems, roles with and without Kubernetes, upstream manifests, and a host that takes packages from a repository.
INVENTORY = """\
version: 1
cluster:
  name: site
  kubernetesVersion: 1.31.14
  podSubnet: 10.244.0.0/16
  serviceSubnet: 10.96.0.0/16
  cni: {name: calico, version: 3.29.7, apiServer: false}
controlPlaneEndpoint: {name: api, address: 10.0.0.9/24, port: 16443}
loadBalancer:
  keepalived: {virtualRouterId: 9}
hostDefaults: {interface: eth0, gateway: 10.0.0.1, os: debian-12}
hosts:
- {name: cp-1, role: control-plane, address: 10.0.0.11/24}
- {name: node-1, role: worker, address: 10.0.0.21/24}
- {name: node-2, role: worker, address: 10.0.0.22/24}
- {name: node-3, role: worker, address: 10.0.0.23/24, packages: repository}
- {name: lb-1, role: load-balancer, address: 10.0.0.31/24, os: rocky-9}
- {name: lb-2, role: load-balancer, address: 10.0.0.32/24, os: rocky-9}
"""
pytestmark = pytest.mark.needs("dpkg-deb", "apt-ftparchive", "createrepo_c")


def cluster_of(text: str = INVENTORY):
    result = compiler.check("site.yaml", text.encode())
    assert not result.refused(), [f"{d.code}: {d.message}" for d in result.diagnostics]
    return result.cluster


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """What was gathered for INVENTORY; never to be changed by a test."""
    return fill(cluster_of(), tmp_path_factory.mktemp("gathered"))


@pytest.fixture
def site(tmp_path, filled):
    """A folder with ``site.yaml``, and ``payload`` to be spoiled."""
    shutil.copytree(filled, tmp_path / "payload")
    (tmp_path / "site.yaml").write_text(INVENTORY)
    return tmp_path


def invoke(folder: Path, *arguments: object):
    return CliRunner().invoke(stowage, [str(argument).replace("@", f"{folder}/") for argument in arguments])


def locked(site: Path) -> Path:
    done = invoke(site, "lock", "@site.yaml", "--payload", "@payload")
    assert done.exit_code == 0, done.output
    return site / "payload/payload.lock.yaml"


def bundled(site: Path, *more: object):
    return invoke(site, "bundle", "@site.yaml", "-o", "@out", "--payload", "@payload", *more)


def add(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def state(root: Path, *, tracked: bool) -> dict[str, tuple[int, bytes]]:
    return {path: ((root / path).stat().st_ino, (root / path).read_bytes()) for path in walk(root) if in_overlay(path) is not tracked}


# --- what is wanted -------------------------------------------------------------------------------------------------------------------


def test_every_image_and_package_of_every_host_is_wanted(golden):
    """The list names just what images.txt and host.env of each host name."""
    cluster = checked(golden).cluster
    data = artifact.wanted(cluster)

    def needs(one, host) -> bool:
        return one.get("hosts") == "all" or host.role in one.get("roles", ()) or host.name in one.get("hosts", ())

    for host in cluster.hosts:
        assert {one["reference"] for one in data["images"] if needs(one, host)} == set(cluster.images(host.role))
        named = {
            name
            for system in data["packages"]
            for group in system["wanted"]
            if system["os"] == host.settings.os and needs(group, host)
            for name in group["names"]
        }
        if host.settings.packages == "payload":
            assert named == set(cluster.packages(host))
    rows = list(artifact.rows(cluster, data))
    assert {row[1] for row in rows if row[0] == "image"} == {image for host in cluster.hosts for image in cluster.images(host.role)}
    asked = {row[1] for row in rows if row[0] in ("package", "file") and row[2] != "-"}
    assert asked == {name for host in cluster.hosts if host.settings.packages == "payload" for name in cluster.packages(host)}
    repositories = {(row[1], row[2]) for row in rows if row[0] == "repository"}
    assert repositories == {(row[3], row[2]) for row in rows if row[0] == "package"} - {("distribution", row[2]) for row in rows}
    assert len({row[4] for row in rows if row[0] in ("file", "image")}) == len([row for row in rows if row[0] in ("file", "image")])


def test_the_list_stays_short():
    """Many hosts are named by role; a subset by name."""
    hosts = "".join(f"- {{name: n-{n}, role: worker, address: 10.0.{n // 250 + 1}.{n % 250 + 1}/16}}\n" for n in range(1000))
    odd = "- {name: odd, role: worker, address: 10.0.200.1/16, extraPackages: [strace]}\n"
    cluster = cluster_of(INVENTORY.replace("/24", "/16") + hosts + odd)
    text = next(file.text for file in artifact.for_cluster(cluster) if file.path == artifact.LOCK)
    assert len(text) < 9000
    (group,) = (group for system in artifact.wanted(cluster)["packages"] for group in system["wanted"] if "strace" in group["names"])
    assert group == {"hosts": ("odd",), "names": ["strace"]}


@pytest.mark.parametrize(
    ("runtime", "system", "sources"),
    [
        ("cri-dockerd", "ubuntu-24.04", {"https://download.docker.com/linux/ubuntu noble stable", "https://pkgs.k8s.io/core:/stable:/v1.31/deb/ /"}),
        ("cri-o", "openeuler-24.03", {"https://download.opensuse.org/repositories/isv:/cri-o:/stable:/v1.31/rpm/", "https://pkgs.k8s.io/core:/stable:/v1.31/rpm/"}),
        ("containerd", "rhel-9", {"https://download.docker.com/linux/rhel/9/x86_64/stable/", "https://pkgs.k8s.io/core:/stable:/v1.31/rpm/"}),
        ("containerd", "debian-12", {"https://pkgs.k8s.io/core:/stable:/v1.31/deb/ /"}),
    ],
)  # fmt: skip
def test_repositories(runtime, system, sources):
    text = INVENTORY.replace("cni:", f"containerRuntime: {runtime}\n  cni:").replace("os: debian-12", f"os: {system}")
    cluster = cluster_of(text)
    rows = [row for row in artifact.rows(cluster, artifact.wanted(cluster)) if row[2] == system]
    assert {row[3] for row in rows if row[0] == "repository"} == sources
    loose = [row for row in rows if row[0] == "file"]
    assert [row[1] for row in loose] == (["cri-dockerd"] if runtime == "cri-dockerd" else [])
    assert all(row[4].startswith(f"packages/{system}/cri-dockerd") and row[3].endswith(row[4].rpartition("/")[2]) for row in loose)


def test_a_registry_of_calicos_is_edited_in():
    (golden,) = (golden for golden in GOLDENS if golden.name == "calico-crio")
    cluster = checked(golden).cluster
    rows = list(artifact.rows(cluster, artifact.wanted(cluster)))
    assert ("edit", "tigera-operator.yaml", "-", f"s?quay.io?{cluster.cni.registry}?g", "files/tigera-operator.yaml") in rows


# --- the lock -------------------------------------------------------------------------------------------------------------------------


def test_lock(site):
    path = locked(site)
    text = path.read_text()
    found = record.read(path)
    assert (found.cluster, found.kubernetes) == ("site", "1.31.14")
    files = {entry for entry in walk(site / "payload") if entry != "payload.lock.yaml"}
    assert set(found.files) == files
    sums = "".join(f"{digest}  {name}\n" for name, (_, digest) in found.files.items())
    subprocess.run(["sha256sum", "--check", "--quiet", "--strict"], input=sums, cwd=site / "payload", text=True, check=True)
    assert all((site / "payload" / name).stat().st_size == size for name, (size, _) in found.files.items())
    assert 'name: kubelet\n    version: "1.31.14-1.1"\n    architecture: all\n' in text
    assert '    version: "1:2.0-3"\n' in text
    assert '  references:\n  - "registry.k8s.io/pause:3.10"\n  config: "sha256:' in text
    data = YAML(typ="safe").load(text)
    pause = next(one for one in data["images"] if one["path"].endswith("pause_3.10.tar"))
    assert pause["roles"] == ["control-plane", "worker"]
    assert data["files"][0]["source"].endswith(f"/{data['files'][0]['path'].removeprefix('files/')}")
    assert data["files"][0]["hosts"] == ["cp-1"]
    systems = {one["os"]: one for one in data["packages"]}
    assert {name: one["roles"] for name, one in systems.items()} == {
        "debian-12": ["control-plane", "worker"],
        "rocky-9": ["load-balancer"],
    }
    assert [one["name"] for one in systems["debian-12"]["repositories"]] == ["kubernetes"]
    before = path.stat()
    again = invoke(site, "lock", "@site.yaml", "--payload", "@payload")
    assert "unchanged" in again.output
    assert path.stat() == before


def test_lock_is_the_same_wherever_it_was_gathered(site, tmp_path_factory):
    other = fill(cluster_of(), tmp_path_factory.mktemp("elsewhere"))
    first = locked(site).read_text()
    # createrepo_c and apt-ftparchive write the time; dpkg-deb does into its archive.
    entries = [line for line in first.splitlines() if "images/" in line]
    assert entries == [
        line for line in payload.text(cluster_of(), payload.survey(other, lambda *_: None)).splitlines() if "images/" in line
    ]
    os.utime(site / "payload/images", (1, 1))
    assert locked(site).read_text() == first


def test_lock_elsewhere_and_check(site):
    assert invoke(site, "lock", "@site.yaml", "--payload", "@payload", "--check").exit_code == 1
    assert not (site / "payload/payload.lock.yaml").exists()
    done = invoke(site, "lock", "@site.yaml", "--payload", "@payload", "-o", "@site.lock.yaml")
    assert done.exit_code == 0
    assert [path.name for path in sorted(site.iterdir())] == ["payload", "site.lock.yaml", "site.yaml"]
    arguments = ("lock", "@site.yaml", "--payload", "@payload", "-o", "@site.lock.yaml", "--check")
    assert invoke(site, *arguments).exit_code == 0
    (site / "payload/files/notes.txt").write_text("x")
    done = invoke(site, *arguments)
    assert (done.exit_code, "not the lock of what lies in" in done.stderr) == (1, True)
    assert bundled(site, "--lock", "@site.lock.yaml").exit_code == 1
    (site / "payload/files/notes.txt").unlink()
    assert bundled(site, "--lock", "@site.lock.yaml").exit_code == 0


PAUSE = "images/registry.k8s.io_pause_3.10.tar"


DEBS, RPMS = "packages/debian-12", "packages/rocky-9"


def one(folder: Path, pattern: str) -> Path:
    """The one file of *folder* that *pattern* is for."""
    (found,) = folder.glob(pattern)
    return found


def link_folder(folder: Path) -> None:
    (folder / "files").rename(folder / "elsewhere")
    (folder / "files").symlink_to("elsewhere")


def change_debs(folder: Path, *, gone: str = "", version: str = "") -> None:
    """The .deb files without *gone*, or with it in another *version*, and an index that knows."""
    one(folder, f"{DEBS}/{gone}_*.deb").unlink()
    if version:
        deb(folder / DEBS, gone, version)
    index_debs(folder / DEBS)


# What is done to a payload, and what is then wrong with it.
SPOILED = {
    "image gone": (lambda p: (p / PAUSE).unlink(), [f"missing: {PAUSE}"]),
    "other image": (
        lambda p: image(p / PAUSE, "registry.k8s.io/pause:3.9"),
        [f"{PAUSE}: holds no image called registry.k8s.io/pause:3.10"],
    ),
    "no archive": (lambda p: (p / PAUSE).write_bytes(b"\0" * 4096), [f"{PAUSE}: no archive of one image"]),
    "cut archive": (lambda p: os.truncate(p / PAUSE, 700), [f"{PAUSE}: no archive of one image"]),
    "link": (lambda p: (p / "files/link").symlink_to("/etc/passwd"), ["files/link: neither a file nor a directory"]),
    "linked folder": (link_folder, ["files: no directory", "missing: files/tigera-operator.yaml"]),
    "pipe": (lambda p: os.mkfifo(p / "images/pipe.tar"), ["images/pipe.tar: neither a file nor a directory"]),
    "newline": (
        lambda p: (p / "files/a\nb").write_text("x"),
        ["files/a\N{REPLACEMENT CHARACTER}b: a name that sums can't hold"],
    ),
    "package gone": (lambda p: change_debs(p, gone="kubelet"), [f"{DEBS}: no package kubelet=1.31.14-*"]),
    "other version": (
        lambda p: change_debs(p, gone="kubelet", version="1.31.13-1.1"),
        [f"{DEBS}: no package kubelet=1.31.14-*"],
    ),
    "stale index": (
        lambda p: one(p, f"{DEBS}/tar_*.deb").write_bytes(b"!<arch>\n"),
        [f"{DEBS}/tar_1%3a2.0-3_all.deb: Packages beside it lists another file"],
    ),
    "package not listed": (
        lambda p: deb(p / DEBS, "straggler"),
        [f"{DEBS}/straggler_1.0-1_all.deb: not in Packages beside it"],
    ),
    "listed package gone": (
        lambda p: one(p, f"{DEBS}/libdependency_*.deb").unlink(),
        [f"missing: {DEBS}/libdependency_1.0-1_all.deb"],
    ),
    "no index": (lambda p: (p / DEBS / "Packages").unlink(), [f"missing: {DEBS}/Packages", f"{DEBS}: no package iproute2"]),
    "torn index": (
        lambda p: (p / DEBS / "Packages").write_text("Package: tar\nSize: many\n"),
        [f"{DEBS}/Packages: no index of packages", f"{DEBS}: no package iproute2"],
    ),
    "no repodata": (lambda p: shutil.rmtree(p / RPMS / "repodata"), [f"missing: {RPMS}/repodata/repomd.xml"]),
    "rpm gone": (lambda p: one(p, f"{RPMS}/keepalived-*.rpm").unlink(), [f"{RPMS}: no package keepalived"]),
    "torn rpm": (
        lambda p: os.truncate(one(p, f"{RPMS}/keepalived-*.rpm"), 130),
        [f"{RPMS}/keepalived-2.0-1.el9.noarch.rpm: no package", f"{RPMS}: no package keepalived"],
    ),
    "manifest gone": (lambda p: (p / "files/tigera-operator.yaml").unlink(), ["missing: files/tigera-operator.yaml"]),
}


@pytest.mark.parametrize("what", SPOILED)
def test_what_is_wrong_is_named_and_nothing_written(site, what):
    path = locked(site)
    lock = path.read_bytes()
    spoil, wrong = SPOILED[what]
    spoil(site / "payload")
    for done in (invoke(site, "lock", "@site.yaml", "--payload", "@payload"), bundled(site)):
        assert done.exit_code == 1, done.output
        lines = done.stderr.splitlines()
        assert not {f"{site}/payload: {line}" for line in wrong} - set(lines)
        assert lines[-1] == "nothing was written"
    assert path.read_bytes() == lock
    assert not (site / "out").exists()


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda folder: (folder / "files/tigera-operator.yaml").write_text("# tigera-operator.yamX\n"), "changed: files/tigera-operator.yaml"),
        (lambda folder: (folder / "packages/debian-12/Release").write_text("Suite: other\n"), "changed: packages/debian-12/Release"),
        (lambda folder: (folder / "files/notes").write_text(""), "extra: files/notes"),
        (lambda folder: rpm(folder / "packages/rocky-9", "extra"), "extra: packages/rocky-9/extra-1.0-1.el9.noarch.rpm"),
        (lambda folder: image(folder / "images/extra.tar", "a/b:1"), "extra: images/extra.tar"),
        (lambda folder: next(folder.glob("packages/rocky-9/dependency-*")).unlink(), "missing: packages/rocky-9/dependency-1.0-1.el9.noarch.rpm"),
    ],
)  # fmt: skip
def test_what_is_not_as_locked_is_refused(site, change, line):
    locked(site)
    assert bundled(site).exit_code == 0
    before = state(site / "out/site", tracked=False)
    change(site / "payload")
    done = bundled(site)
    assert done.exit_code == 1
    assert done.stderr.splitlines() == [f"{site}/payload: {line}", "nothing was written"]
    if not line.startswith(("changed", "missing")):
        assert state(site / "out/site", tracked=False) == before


def test_a_flipped_bit_is_found(site):
    locked(site)
    path = site / "payload" / PAUSE
    data = bytearray(path.read_bytes())
    data[700] ^= 1
    path.write_bytes(data)
    assert f"changed: {PAUSE}" in bundled(site).stderr


@pytest.mark.parametrize(
    ("plant", "lines"),
    [
        (
            lambda folder: deb(folder / "packages/debian-12", "socat", "1:2.0-3", Depends="libnowhere (>= 3)"),
            ("payload/packages/Packages:", "error: package libnowhere: socat depends on it"),
        ),
        (
            lambda folder: add(folder / "files/tigera-operator.yaml", "spec:\n  image: quay.io/tigera/key-cert-provisioner:v1\n"),
            ("payload/manifests/tigera-operator.yaml:21:10: error: image quay.io/tigera/key-cert-provisioner:v1",),
        ),
        (
            lambda folder: add(
                folder / "files/tigera-operator.yaml", "---\nkind: ConfigMap\ndata:\n  from: https://example.com/more.yaml\n"
            ),
            ("payload/manifests/tigera-operator.yaml:23:9: error: URL https://example.com/more.yaml",),
        ),
    ],
    ids=["dependency", "image", "url"],
)
def test_what_is_locked_but_not_closed_is_refused(site, plant, lines):
    """The lock takes what was gathered as it is; that something in it needs more is for the closure proof, which runs before the swap."""
    locked(site)
    assert bundled(site).exit_code == 0
    former = state(site / "out", tracked=True) | state(site / "out", tracked=False)
    # A copy: what is laid into a bundle is the gathered file itself.
    shutil.copytree(site / "payload", site / "anew")
    plant(site / "anew")
    index_debs(site / "anew/packages/debian-12")
    assert invoke(site, "lock", "@site.yaml", "--payload", "@anew").exit_code == 0
    done = invoke(site, "bundle", "@site.yaml", "-o", "@out", "--payload", "@anew")
    assert done.exit_code == 1, done.output
    assert [line for line in lines if line not in done.output] == [], done.output
    assert "nothing was written" in done.output
    assert "Traceback" not in done.output
    assert state(site / "out", tracked=True) | state(site / "out", tracked=False) == former
    assert [path.name for path in (site / "out").iterdir()] == ["site"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("name: site", "name: other"), "a lock for cluster site with Kubernetes 1.31.14, not for cluster other with Kubernetes 1.31.14"),
        (("1.31.14", "1.31.13"), "a lock for cluster site with Kubernetes 1.31.14, not for cluster site with Kubernetes 1.31.13"),
    ],
)
def test_a_foreign_lock(site, change, message):
    locked(site)
    (site / "site.yaml").write_text(INVENTORY.replace(*change))
    done = bundled(site)
    assert (done.exit_code, message in done.stderr) == (2, True), done.output
    assert not (site / "out").exists()


def test_an_inventory_that_wants_more(site):
    locked(site)
    (site / "site.yaml").write_text(INVENTORY.replace("apiServer: false", "apiServer: true"))
    done = bundled(site)
    assert done.exit_code == 1
    assert "missing: images/" in done.stderr
    assert "apiserver" in done.stderr


@pytest.mark.parametrize(
    "text", ["", "[]", "version: 1", "version: 2\ncluster: site\n", "\0", "a: *b", "version: 1\ncluster: site\nkubernetes: 1\nimages: 5\n"]
)
def test_no_lock(site, text):
    assert "make it with `stowage lock" in bundled(site).stderr
    (site / "payload/payload.lock.yaml").write_text(text)
    done = bundled(site)
    assert (done.exit_code, "no lock of a gathered payload" in done.stderr) == (2, True), done.output


def test_misuse(site):
    locked(site)
    assert invoke(site, "bundle", "@site.yaml", "@site.yaml", "--payload", "@payload").exit_code == 2
    assert invoke(site, "bundle", "@site.yaml", "--lock", "@site.yaml").exit_code == 2
    assert invoke(site, "lock", "@site.yaml", "--payload", "@payload", "-o", "@missing/lock.yaml").exit_code == 2
    (site / "site.yaml").write_text("version: 1\n")
    done = invoke(site, "lock", "@site.yaml", "--payload", "@payload")
    assert (done.exit_code, "error SCH" in done.stderr) == (1, True)


# --- each host's part -----------------------------------------------------------------------------------------------------------------


def part(site: Path, host: str) -> set[str]:
    root = site / "out/site/hosts" / host / "payload"
    return set(walk(root)) if root.exists() else set()


def test_each_host_has_what_it_needs_and_nothing_else(site):
    locked(site)
    done = bundled(site)
    assert done.exit_code == 0, done.output
    root = site / "out/site"
    assert verify(root) == []
    for host in cluster_of().hosts:
        wanted = {artifact.image_path(name) for name in (root / "hosts" / host.name / "images.txt").read_text().split()}
        found = part(site, host.name)
        assert {path for path in found if path.startswith("images/")} == wanted
        system = site / "payload/packages" / host.settings.os
        packages_there = {f"packages/{path}" for path in walk(system)} if host.settings.packages == "payload" else set()
        assert {path for path in found if path.startswith("packages/")} == packages_there
        assert {path for path in found if path.startswith("manifests/")} == (
            {"manifests/tigera-operator.yaml"} if host.name == "cp-1" else set()
        )
        if found:
            subprocess.run(
                ["sha256sum", "--check", "--quiet", "--strict", "SHA256SUMS"], cwd=root / "hosts" / host.name / "payload", check=True
            )
    assert "payload/manifests/tigera-operator.yaml" in (root / "hosts/cp-1/manifests/order.tsv").read_text()
    assert subprocess.run(["sh", "verify.sh"], cwd=root / "hosts/cp-1", capture_output=True, check=False).returncode == 0


def test_files_are_linked_and_a_second_run_touches_nothing(site):
    locked(site)
    bundled(site)
    root = site / "out/site"
    for host in ("cp-1", "node-1", "node-2", "node-3"):
        assert (root / "hosts" / host / "payload" / PAUSE).samefile(site / "payload" / PAUSE)
    before = {**state(root, tracked=False), **state(root, tracked=True)}
    done = bundled(site)
    assert "unchanged" in done.output
    assert {**state(root, tracked=False), **state(root, tracked=True)} == before


def test_tracked_bytes_do_not_know_the_payload(site):
    locked(site)
    bundled(site)
    invoke(site, "bundle", "@site.yaml", "-o", "@without")
    with_payload, without = (
        {path: data for path, (_, data) in state(site / name / "site", tracked=True).items()} for name in ("out", "without")
    )
    assert with_payload == without
    assert "hosts/*/payload/" in (site / "out/site/.gitignore").read_text()


def test_without_the_option_it_stays_and_with_it_it_is_replaced(site):
    locked(site)
    bundled(site)
    before = state(site / "out/site", tracked=False)
    invoke(site, "bundle", "@site.yaml", "-o", "@out")
    assert state(site / "out/site", tracked=False) == before
    stranger = site / "out/site/hosts/node-1/payload/images/old.tar"
    stranger.write_text("old")
    (site / "out/site/hosts/node-2/payload" / PAUSE).unlink()
    assert "1 new, 0 changed, 1 removed" in bundled(site).output
    assert not stranger.exists()
    assert verify(site / "out/site") == []


def test_a_file_in_place_that_is_not_right_is_mended(site):
    locked(site)
    bundled(site)
    place = site / "out/site/hosts/node-1/payload" / PAUSE
    data = place.read_bytes()
    place.unlink()
    place.write_bytes(data[:-1] + b"x")
    assert verify(site / "out/site") == [f"changed: hosts/node-1/payload/{PAUSE}"]
    assert "1 changed" in bundled(site).output
    assert place.samefile(site / "payload" / PAUSE)
    place.unlink()
    place.symlink_to(site / "payload" / PAUSE)
    assert "1 changed" in bundled(site).output
    assert not place.is_symlink()


def test_the_same_bytes_gathered_anew_are_left_alone(site):
    """Another file of the same bytes: what is in place is right."""
    locked(site)
    bundled(site)
    path = site / "payload" / PAUSE
    path.write_bytes(path.read_bytes())
    draft = path.with_name("draft")
    draft.write_bytes(path.read_bytes())
    draft.replace(path)
    assert "unchanged" in bundled(site).output


def test_verify_reads_a_linked_file_once(site, monkeypatch):
    from generator import verify as module

    locked(site)
    bundled(site)
    read, real = [], module.digest_of
    monkeypatch.setattr(module, "digest_of", lambda path: read.append(str(path)) or real(path))
    assert verify(site / "out/site") == []
    assert len([path for path in read if path.endswith(PAUSE)]) == 1
    # A changed one is named under each of its names.
    gathered = site / "payload" / PAUSE
    gathered.write_bytes(gathered.read_bytes() + b"x")
    assert verify(site / "out/site") == [f"changed: hosts/{host}/payload/{PAUSE}" for host in ("cp-1", "node-1", "node-2", "node-3")]


def test_across_file_systems_there_is_one_copy(site, monkeypatch):
    """As where the payload lies on another file system: one copy, which the other hosts link to; again nothing is touched."""
    locked(site)
    real, source = laying.linked, str(site / "payload")
    monkeypatch.setattr(laying, "linked", lambda present, fresh: not present.startswith(source) and real(present, fresh))
    bundled(site)
    root = site / "out/site/hosts"
    assert verify(site / "out/site") == []
    assert not (root / "cp-1/payload" / PAUSE).samefile(site / "payload" / PAUSE)
    assert (root / "cp-1/payload" / PAUSE).samefile(root / "node-2/payload" / PAUSE)
    before = state(site / "out/site", tracked=False)
    assert "unchanged" in bundled(site).output
    assert state(site / "out/site", tracked=False) == before
    # A host more links to what was copied once.
    (site / "site.yaml").write_text(INVENTORY + "- {name: node-4, role: worker, address: 10.0.0.24/24}\n")
    assert bundled(site).exit_code == 0
    assert (root / "cp-1/payload" / PAUSE).samefile(root / "node-4/payload" / PAUSE)


def test_on_a_file_system_without_links(site, monkeypatch):
    locked(site)
    monkeypatch.setattr(laying, "linked", lambda *_: False)
    for _ in range(2):
        assert bundled(site).exit_code == 0
        assert verify(site / "out/site") == []
    assert "unchanged" in bundled(site).output


def test_more_links_than_a_file_may_have(site, monkeypatch):
    """Every third link is refused, as a file with 65,000 names refuses it: the copy made then is linked on."""
    locked(site)
    real, count = laying.linked, iter(range(10**6))
    monkeypatch.setattr(laying, "linked", lambda present, fresh: next(count) % 3 != 2 and real(present, fresh))
    assert bundled(site).exit_code == 0
    assert verify(site / "out/site") == []


def test_with_a_registry_on_the_site_hosts_carry_no_images(site):
    text = INVENTORY.replace("cni: {", "registry: {address: 'registry.site:5000'}\n  cni: {")
    (site / "site.yaml").write_text(text)
    (site / "payload" / PAUSE).unlink()
    locked(site)
    assert bundled(site).exit_code == 0
    assert not any(path.startswith("images/") for path in part(site, "node-1"))
    assert part(site, "node-1")


# --- archives and packages ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("oci", [False, True])
def test_image(tmp_path, oci):
    image(tmp_path / "a.tar", "docker.io/library/a:1", "b:2", layer=b"x" * 3000, oci=oci)
    found = images.read(tmp_path / "a.tar")
    assert found.references == ("b:2", "docker.io/library/a:1")
    assert bool(found.manifest) is oci
    assert found.config.startswith("sha256:")


@pytest.mark.needs("skopeo")
@pytest.mark.parametrize("reference", ["registry.k8s.io/pause:3.9", "docker.io/flannel/flannel:v0.25.1", "docker.io/library/a:1"])
def test_image_as_skopeo_writes_and_reads_it(tmp_path, reference):
    """What the test makes is an archive to skopeo, and what skopeo makes of it is one to us, under a name that we know again."""
    image(tmp_path / "a.tar", reference, layer=_layer())
    copy = ["skopeo", "--insecure-policy", "copy", "-q", f"docker-archive:{tmp_path}/a.tar"]
    done = subprocess.run([*copy, f"docker-archive:{tmp_path}/b.tar:{reference}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = images.read(tmp_path / "b.tar")
    assert images.familiar(reference) in map(images.familiar, found.references)
    inspected = subprocess.run(["skopeo", "inspect", "--raw", f"docker-archive:{tmp_path}/b.tar"], capture_output=True, check=True)
    assert json.loads(inspected.stdout)["config"]["digest"] == found.config


def _layer() -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("file"))
    return data.getvalue()


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"manifest.json": b"[]"},
        {"manifest.json": b"{}"},
        {"manifest.json": b"[" * 100_000},
        {"manifest.json": b'[{"Config": "c", "RepoTags": ["a:1"], "Layers": []}]'},
        {"manifest.json": b'[{"Config": "c", "RepoTags": ["a:1"], "Layers": ["gone"]}]', "c": b"{}"},
        {"manifest.json": b'[{"Config": "c", "RepoTags": 5, "Layers": []}]', "c": b"{}"},
        {"manifest.json": b'[{"Config": [], "RepoTags": null, "Layers": []}]', "c": b"{}"},
        {"manifest.json": b"\xff\xfe", "c": b"{}"},
        {"manifest.json": b" " * (5 << 20)},
    ],
)
def test_no_image(tmp_path, files):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    with pytest.raises(images.UnreadableError):
        images.read(tmp_path / "a.tar")


def test_rpm_is_what_librpm_reads(tmp_path):
    rpm(tmp_path, "iptables-nft", "1.8.10", "4.el9", epoch=2, provides=("iptables",))
    rpm(tmp_path, "tar")
    subprocess.run(["createrepo_c", "-q", "--general-compress-type=gz", "."], cwd=tmp_path, check=True, capture_output=True)
    (primary,) = tmp_path.glob("repodata/*primary.xml.gz")
    space = "{http://linux.duke.edu/metadata/common}"
    listed = set()
    for one in ET.fromstring(gzip.decompress(primary.read_bytes())).iter(f"{space}package"):
        version = one.find(f"{space}version").attrib
        epoch = "" if version["epoch"] == "0" else f"{version['epoch']}:"
        listed.add((one.findtext(f"{space}name"), f"{epoch}{version['ver']}-{version['rel']}", one.findtext(f"{space}arch")))
    read = [packages.rpm(path) for path in tmp_path.glob("*.rpm")]
    assert {(one.name, one.version, one.architecture) for one in read} == listed


@pytest.mark.parametrize(
    "word",
    ["iptables", "iptables-nft", "iptables-nft-1.8.10", "iptables-nft-1.8.10-4.el9", "iptables-nft.noarch", "iptables-nft-1.8.10.noarch"],
)
def test_words_for_dnf(tmp_path, word):
    package = packages.rpm(rpm(tmp_path, "iptables-nft", "1.8.10", "4.el9", epoch=2, provides=("iptables",)))
    assert package.answers(word)
    assert not package.answers(f"{word}x")
    assert not package.answers("iptables-nft-1.8")


def test_words_for_apt(tmp_path):
    deb(tmp_path, "kubelet", "1.31.14-1.1", Provides="node-agent (= 3), other")
    index_debs(tmp_path)
    (package,) = packages.index(tmp_path / "Packages").values()
    assert package.listed is not None
    for word in ("kubelet", "kubelet=1.31.14-*", "kubelet=1.31.14-1.1", "kubelet:amd64", "node-agent", "other"):
        assert package.answers(word), word
    for word in ("kubelet=1.31.1-*", "kubelets", "other=1.31.14-*", "kubelet=", "node"):
        assert package.answers(word) is (word == "kubelet="), word


@pytest.mark.parametrize("cut", [0, 50, 96, 100, 112, 200, 300, 500])
def test_a_torn_rpm(tmp_path, cut):
    path = rpm(tmp_path, "tar")
    os.truncate(path, cut)
    with pytest.raises(packages.UnreadableError):
        packages.rpm(path)


def test_an_rpm_that_lies_about_sizes(tmp_path):
    path = rpm(tmp_path, "tar")
    data = path.read_bytes()
    for at in range(96, len(data), 3):
        path.write_bytes(data[:at] + b"\xff\xff" + data[at + 2 :])
        with suppress(packages.UnreadableError):
            packages.rpm(path)


def test_the_contract_names_every_kind():
    text = (REPOSITORY / "docs/scripts.md").read_text()
    for kind in ("repository", "package", "file", "edit", "image"):
        assert f"| `{kind}` |" in text
