"""A payload as ``fetch-payload.sh`` leaves it, of small stand-ins: image archives, packages that dpkg-deb made, headers of RPMs, indexes."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from generator.artifacts.payload import wanted
from generator.model import Cluster

# As upstream's manifests begin: links and names in what schemas say to people, on further lines, quoted or in blocks.
CRD = """\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
spec:
  versions:
  - name: v1
    schema:
      openAPIV3Schema:
        description: 'APIVersion is a version of the schema. More
          info: https://git.k8s.io/community/api-conventions.md#resources'
        properties:
          image:
            description: |-
              Which one.

              image: docker.io/library/unknown:1
              More info: https://kubernetes.io/docs/concepts/
            type: string
---
"""


def image(path: Path, *references: str, layer: bytes | int = b"layer", oci: bool = False) -> None:
    """A docker-archive of one image; *layer* may be a size, for a sparse one, and *oci* makes it an OCI layout too, as Docker 25 does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    known = f"sha256:{hashlib.sha256(layer).hexdigest()}" if isinstance(layer, bytes) else f"sha256:{layer:064}"
    labels = {"Labels": {"of": " ".join(references)}}
    about = {"architecture": "amd64", "os": "linux", "config": labels, "rootfs": {"type": "layers", "diff_ids": [known]}}
    config = json.dumps(about).encode()
    digest = hashlib.sha256(config).hexdigest()
    named = f"blobs/sha256/{digest}" if oci else f"{digest}.json"
    manifest = [{"Config": named, "RepoTags": list(references), "Layers": ["layer.tar"]}]
    files: dict[str, bytes] = {named: config, "manifest.json": json.dumps(manifest).encode()}
    if oci:
        files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [{"digest": f"sha256:{digest[::-1]}", "size": 1}]}).encode()
    with path.open("wb") as file:
        # The layer first: what is to be read stands behind it, as in Docker's own.
        info = tarfile.TarInfo("layer.tar")
        info.size = layer if isinstance(layer, int) else len(layer)
        file.write(info.tobuf(tarfile.USTAR_FORMAT))
        if isinstance(layer, bytes):
            file.write(layer)
        file.seek(512 + -(-info.size // 512) * 512)
        rest = io.BytesIO()
        with tarfile.open(fileobj=rest, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for name, data in files.items():
                one = tarfile.TarInfo(name)
                one.size = len(data)
                archive.addfile(one, io.BytesIO(data))
        file.write(rest.getvalue())


def deb(folder: Path, name: str, version: str = "1.0-1", **fields: str) -> Path:
    """A .deb with nothing in it."""
    folder.mkdir(parents=True, exist_ok=True)
    root = folder / f".build-{name}"
    (root / "DEBIAN").mkdir(parents=True)
    control = {"Package": name, "Version": version, "Architecture": "all", "Maintainer": "a", **fields, "Description": "x"}
    (root / "DEBIAN/control").write_text("".join(f"{key}: {value}\n" for key, value in control.items()))
    path = folder / f"{name}_{version.replace(':', '%3a')}_all.deb"
    subprocess.run(["dpkg-deb", "-Znone", "--root-owner-group", "--build", root, path], check=True, capture_output=True)
    (root / "DEBIAN/control").unlink()
    (root / "DEBIAN").rmdir()
    root.rmdir()
    return path


def index_debs(folder: Path) -> None:
    """``Packages``, ``Packages.gz`` and ``Release``."""
    listed = subprocess.run(["apt-ftparchive", "packages", "."], cwd=folder, check=True, capture_output=True).stdout
    (folder / "Packages").write_bytes(listed)
    subprocess.run(["gzip", "-knf", "Packages"], cwd=folder, check=True)
    (folder / "Release").write_text("Suite: local\n")


def rpm(folder: Path, name: str, version: str = "1.0", release: str = "1.el9", epoch: int = 0, provides: tuple[str, ...] = ()) -> Path:
    """The headers of a .rpm, in the format that librpm reads, and no files."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [name, *provides]
    tags: list[tuple[int, int, Any]] = [
        (100, 8, ["C"]), (1000, 6, name), (1001, 6, version), (1002, 6, release), (1004, 9, ["x"]), (1005, 9, ["x"]), (1009, 4, 0), (1014, 6, "MIT"),
        (1016, 9, ["x"]), (1021, 6, "linux"), (1022, 6, "noarch"), (1044, 6, f"{name}.src.rpm"), (1047, 8, names), (1112, 4, [8] * len(names)),
        (1113, 8, [f"{version}-{release}"] * len(names)), (1124, 6, "cpio"), (1125, 6, "gzip"), (1126, 6, "9"),
    ]  # fmt: skip
    tags += [(1003, 4, epoch)] if epoch else []
    main = _header(sorted(tags))
    payload = b""
    signature = _header(
        [(269, 6, hashlib.sha1(main).hexdigest()), (1000, 4, len(main) + len(payload)), (1004, 7, hashlib.md5(main).digest())]
    )
    lead = struct.pack(">4sBBHH66sHH16x", b"\xed\xab\xee\xdb", 3, 0, 0, 1, name.encode(), 1, 5)
    path = folder / f"{name}-{version}-{release}.noarch.rpm"
    path.write_bytes(lead + signature + bytes(-len(signature) % 8) + main + payload)
    return path


def _header(tags: list[tuple[int, int, Any]]) -> bytes:
    index, store = b"", b""
    for tag, kind, value in tags:
        listed = value if isinstance(value, list) else [value]
        if kind == 4:
            store += bytes(-len(store) % 4)
            data = b"".join(struct.pack(">I", one) for one in listed)
        elif kind == 7:
            data = value
        else:
            data = b"".join(one.encode() + b"\0" for one in listed)
        index += struct.pack(">IIII", tag, kind, len(store), len(value) if kind == 7 else len(listed))
        store += data
    return b"\x8e\xad\xe8\x01\0\0\0\0" + struct.pack(">II", len(tags), len(store)) + index + store


def fill(cluster: Cluster, folder: Path) -> Path:
    """All that the inventory of *cluster* wants, and one dependency more for each system."""
    data = wanted(cluster)
    for one in data["images"]:
        image(folder / one["path"], one["reference"], layer=one["reference"].encode() * 99)
    for system in data["packages"]:
        place = folder / system["path"]
        words = [name for group in system["wanted"] for name in group["names"]]
        if system["os"].startswith(("debian", "ubuntu")):
            for word in words:
                name, _, version = word.partition("=")
                deb(place, name, version.replace("*", "1.1") or "1:2.0-3")
            deb(place, "libdependency")
            index_debs(place)
        else:
            for word in words:
                name = word.removesuffix(f"-{cluster.kubernetes_version}")
                rpm(place, name, cluster.kubernetes_version if word != name else "2.0", epoch=int(word == "curl"))
            rpm(place, "dependency")
            subprocess.run(["createrepo_c", "-q", "--general-compress-type=gz", "."], cwd=place, check=True, capture_output=True)
    for one in data["files"]:
        (folder / one["path"]).parent.mkdir(parents=True, exist_ok=True)
        (folder / one["path"]).write_text(f"# {one['name']}\n" + (CRD if one["path"].endswith(".yaml") else ""))
    return folder
