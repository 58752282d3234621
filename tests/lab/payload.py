"""The payload of a rehearsed host: real Debian packages, packages with the stand-ins for Kubernetes, and image archives.

The archives have the right names and nothing in them: what runs in the images is played by ``stand_ins``.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from lab import base

STAND_INS = Path(__file__).resolve().parent / "stand_ins"
WRAPPER = '#!/bin/sh\nexec /opt/lab/bin/python3 -E -s -B /opt/lab/stand_ins/{}.py "$@"\n'
KUBERNETES = ("kubelet", "kubeadm", "kubectl", "cri-tools", "kubernetes-cni")
CONTAINERD = """#!/bin/sh
# The lab's containerd 2 (containerd.io): Debian's 1.6 does the work, behind the version and the judgement of configurations of the newer one.
case ${1-} in --version | -v) echo "containerd containerd.io v2.1.5 lab"; exit ;; esac
[ $# = 0 ] || { echo "containerd stand-in: $*" >&2; exit 1; }
config=/etc/containerd/config.toml
if [ -e $config ]; then
    /opt/lab/bin/python3 -E -s -S -c '
import sys, tomllib
data = tomllib.load(open(sys.argv[1], "rb"))
version, plugins = data.get("version", 1), data.get("plugins", {})
if version not in (2, 3): sys.exit(f"containerd: failed to load TOML: expected containerd config version `3`, got `{version}`")
if version == 3 and any(name.startswith("io.containerd.grpc.v1.cri") for name in plugins): sys.exit("containerd: io.containerd.grpc.v1.cri is no plugin of version 3")
' $config || exit 1
fi
printf 'version = 2\n' >/run/lab-containerd.toml
exec /usr/bin/containerd --config /run/lab-containerd.toml
"""
CONTAINERD_UNIT = "[Service]\nExecStart=\nExecStart=/usr/local/bin/containerd\n"
Files = dict[str, tuple[bytes, int]]


def build(name: str, version: str, files: Files, scripts: Mapping[str, str] | None = None) -> Path:
    """A .deb of *files* (destination: bytes, mode) and maintainer *scripts* (``postinst`` ...); the same ones give the same file, made once."""
    parts = [
        name,
        version,
        *(f"{path} {mode} {data!r}" for path, (data, mode) in sorted(files.items())),
        *map(str, sorted((scripts or {}).items())),
    ]
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
    made = base.CACHE / "built" / digest / f"{name}_{version}_all.deb"
    with base.locked("built"), tempfile.TemporaryDirectory() as scratch:
        if made.exists():
            return made
        root = Path(scratch)
        for path, (data, mode) in files.items():
            file = root / path.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
            file.chmod(mode)
        control = root / "DEBIAN"
        control.mkdir()
        (control / "control").write_text(
            f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: the lab <lab@localhost>\nDescription: stand-in of the lab for {name}\n"
        )
        for kind, text in (scripts or {}).items():
            (control / kind).write_text(text)
            (control / kind).chmod(0o755)
        made.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["dpkg-deb", "--build", "--root-owner-group", "-Zgzip", root, made], check=True, capture_output=True)
    return made


@cache
def stand_in(name: str, kubernetes: str) -> Path:
    """The .deb that stands for one of ``KUBERNETES``, of the release *kubernetes*."""
    files: Files = {}
    if name in {"kubelet", "kubeadm", "kubectl"}:
        files[f"/usr/bin/{name}"] = (WRAPPER.format(name).encode(), 0o755)
    if name == "kubeadm":
        files["/opt/lab/kubernetes-version"] = (f"{kubernetes}\n".encode(), 0o644)
    elif name == "kubelet":
        files["/usr/lib/systemd/system/kubelet.service"] = ((STAND_INS / "kubelet.service").read_bytes(), 0o644)
        files["/usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf"] = ((STAND_INS / "10-kubeadm.conf").read_bytes(), 0o644)
    elif name == "cri-tools":
        files["/usr/bin/crictl"] = (WRAPPER.format("crictl").encode(), 0o755)
    elif name == "kubernetes-cni":
        files["/opt/cni/bin/loopback"] = (b"#!/bin/sh\nexit 1\n", 0o755)
    return build(name, f"{kubernetes}-1.1", files)


def debs(*names: str) -> list[Path]:
    """As :func:`lab.base.debs`; ``containerd.io`` is Debian's containerd behind a stand-in."""
    newer = "containerd.io" in names
    found = base.debs(*("containerd" if name == "containerd.io" else name for name in names))
    if newer:
        files: Files = {
            "/usr/local/bin/containerd": (CONTAINERD.encode(), 0o755),
            "/usr/lib/systemd/system/containerd.service.d/10-lab.conf": (CONTAINERD_UNIT.encode(), 0o644),
        }
        found.append(build("containerd.io", "2.1.5", files))
    return found


def images(references: list[str]) -> bytes:
    """An archive as ``docker save`` writes it, of images with these names."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("lab"))
    layer_id = hashlib.sha256(layer.getvalue()).hexdigest()
    members: dict[str, bytes] = {f"{layer_id}.tar": layer.getvalue()}
    manifest = []
    for reference in references:
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Labels": {"lab": reference}},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_id}"]},
        }
        data = json.dumps(config).encode()
        name = f"{hashlib.sha256(data).hexdigest()}.json"
        members[name] = data
        manifest.append({"Config": name, "RepoTags": [reference], "Layers": [f"{layer_id}.tar"]})
    members["manifest.json"] = json.dumps(manifest).encode()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return archive.getvalue()


def sums(folder: Path) -> None:
    """Writes ``SHA256SUMS`` of a payload, as the runbook says."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "SHA256SUMS")
    (folder / "SHA256SUMS").write_text(
        "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(folder)}\n" for file in files)
    )


def fill(folder: Path, env: Mapping[str, str], references: list[str]) -> None:
    """
    Makes *folder*, the payload of the host with host.env *env* and these image *references*.

    Raises :class:`lab.base.LabError` for a package that neither Debian nor the lab has.
    """
    packages = folder / "packages"
    packages.mkdir(parents=True)
    if env["OS_FAMILY"] == "rhel":
        from lab import rhel

        rhel.packages(dict(env), debs, stand_in, packages)
    else:
        for deb in debian(env):
            shutil.copy(deb, packages)
    if references:
        (folder / "images").mkdir()
        (folder / "images" / "all.tar").write_bytes(images(references))
    sums(folder)


def gathered(folder: Path, hosts: Mapping[str, Mapping[str, str]], references: list[str]) -> None:
    """Makes *folder* what ``fetch-payload.sh`` would leave for Debian *hosts* (host.env by name): a repository an os, an archive an image."""
    for values in hosts.values():
        packages = folder / "packages" / f"{values['OS_ID']}-{values['OS_VERSION']}"
        packages.mkdir(parents=True, exist_ok=True)
        for deb in debian(values, "-o", "Dir::State::status=/dev/null"):  # for a host that has nothing, as fetch-payload.sh does
            shutil.copy(deb, packages)
    for packages in (folder / "packages").iterdir():
        index = subprocess.run(["apt-ftparchive", "packages", "."], cwd=packages, capture_output=True, check=True).stdout
        (packages / "Packages").write_bytes(index)
        (packages / "Packages.gz").write_bytes(gzip.compress(index, mtime=0))
        release = subprocess.run(["apt-ftparchive", "release", "."], cwd=packages, capture_output=True, check=True).stdout
        (packages / "Release").write_bytes(release)
    (folder / "images").mkdir()
    for reference in references:
        (folder / "images" / f"{re.sub('[/:@]', '_', reference)}.tar").write_bytes(images([reference]))


def debian(env: Mapping[str, str], *options: str) -> list[Path]:
    """The .deb files of a Debian host's ``PACKAGES``, and what these need beyond the base, by ``apt-get install`` with *options*."""
    real, found = [], []
    for word in env["PACKAGES"].split():
        name = word.partition("=")[0]
        if name in KUBERNETES:
            found.append(stand_in(name, env["KUBERNETES_VERSION"]))
        elif name in {"docker-ce", "cri-dockerd"}:
            from lab import docker

            found += [deb for deb in docker.docker_debs(build) if deb.name.startswith(f"{name}_")]
        else:
            real.append(name)
    return found + (debs(*options, *real) if real else [])
