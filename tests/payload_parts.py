"""Real sources of a payload on loopback: a registry with small images, an apt repository, a web server that knows ranges.

Everything lies below a folder of the test and ends with it.  Images hold one text file a layer; packages one file each.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import tarfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

OCI = "application/vnd.oci.image"


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]


# --- images ----------------------------------------------------------------------------------------------------------


class Layout:
    """An OCI layout with one image an architecture, for skopeo to push."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "blobs/sha256").mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')

    def blob(self, data: bytes, media: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (self.path / "blobs/sha256" / digest).write_bytes(data)
        return {"mediaType": f"{OCI}.{media}", "digest": f"sha256:{digest}", "size": len(data)}

    def manifest(self, text: str, architecture: str, padding: int = 0) -> dict[str, object]:
        """An image whose one file says *text*; *padding* bytes that no compression makes smaller stand beside it."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as layer:
            for name, data in (("text", text.encode()), ("padding", os.urandom(padding))):
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                layer.addfile(entry, io.BytesIO(data))
        config = {
            "architecture": architecture,
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(packed.getvalue()).hexdigest()}"]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": self.blob(json.dumps(config).encode(), "config.v1+json"),
            "layers": [self.blob(gzip.compress(packed.getvalue(), 1, mtime=0), "layer.v1.tar+gzip")],
        }
        found = self.blob(json.dumps(manifest).encode(), "manifest.v1+json")
        return found | {"platform": {"architecture": architecture, "os": "linux"}}

    def finish(self, manifests: Sequence[dict[str, object]]) -> None:
        index = {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": list(manifests)}
        if len(manifests) > 1:
            index = {"schemaVersion": 2, "manifests": [self.blob(json.dumps(index).encode(), "index.v1+json")]}
        (self.path / "index.json").write_text(json.dumps(index))


class Registry:
    """Debian's docker-registry on a port of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        folder.mkdir()
        config = folder / "config.yml"
        config.write_text(
            f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder}/storage}}}}\nhttp: {{addr: '{self.host}'}}\n"
        )
        with (folder / "log").open("w") as log:
            self.process = subprocess.Popen(["docker-registry", "serve", config], stdout=log, stderr=log)
        wait_for(lambda: urllib.request.urlopen(f"http://{self.host}/v2/", timeout=1).status == 200)

    def push(self, name: str, text: str, architectures: Sequence[str] = ("amd64",), padding: int = 0) -> str:
        """Puts an image there; returns its reference."""
        layout = Layout(self.folder / hashlib.sha256(name.encode()).hexdigest()[:12])
        layout.finish([layout.manifest(f"{text} {one}", one, padding) for one in architectures])
        command = ["skopeo", "copy", "--quiet", "--all", "--dest-tls-verify=false", f"oci:{layout.path}", f"docker://{self.host}/{name}"]
        subprocess.run(command, check=True, capture_output=True)
        return f"{self.host}/{name}"

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def text_of(archive: Path) -> str:
    """What the one file of the image in a docker-archive says (also of the archives that ctr writes, whose layers stay compressed)."""
    with tarfile.open(archive) as outer:
        listed = json.load(outer.extractfile("manifest.json"))
        with tarfile.open(fileobj=io.BytesIO(outer.extractfile(listed[0]["Layers"][0]).read())) as layer:
            return layer.extractfile("text").read().decode()


def names_in(archive: Path) -> list[str]:
    """The names under which a docker-archive knows its image."""
    with tarfile.open(archive) as outer:
        return json.load(outer.extractfile("manifest.json"))[0]["RepoTags"]


@contextmanager
def containerd(folder: Path) -> Iterator[dict[str, str]]:
    """Debian's containerd with root, state and socket in *folder* (a short path); gives ctr's environment."""
    config = folder / "config.toml"
    config.write_text(
        f'version = 2\nroot = "{folder}/root"\nstate = "{folder}/state"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
        f'[grpc]\naddress = "{folder}/s"\n[ttrpc]\naddress = "{folder}/t"\n'
    )
    environment = os.environ | {"CONTAINERD_ADDRESS": f"{folder}/s", "CONTAINERD_SNAPSHOTTER": "native"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(["containerd", "--config", config], stdout=log, stderr=log)
    try:
        wait_for(lambda: subprocess.run(["ctr", "version"], env=environment, capture_output=True, timeout=5, check=False).returncode == 0)
        yield environment
    finally:
        process.kill()
        process.wait()


# --- packages --------------------------------------------------------------------------------------------------------


def deb(folder: Path, name: str, version: str = "1.0", depends: str = "", architecture: str = "amd64") -> Path:
    """A package that holds one file, made by dpkg-deb."""
    tree = folder / f".{name}"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "usr/share" / name).mkdir(parents=True)
    (tree / "usr/share" / name / "version").write_text(f"{version}\n")
    fields = {
        "Package": name,
        "Version": version,
        "Architecture": architecture,
        "Maintainer": "test <test@example.test>",
        "Depends": depends,
    }
    control = "".join(f"{key}: {value}\n" for key, value in fields.items() if value)
    (tree / "DEBIAN/control").write_text(f"{control}Description: made by a test\n")
    made = folder / f"{name}_{version.partition(':')[2] or version}_{architecture}.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, made], check=True, capture_output=True)
    shutil.rmtree(tree)
    return made


def index(folder: Path) -> None:
    """Makes *folder* a flat repository, as a vendor would."""
    packages = subprocess.run(["apt-ftparchive", "packages", "."], cwd=folder, check=True, capture_output=True).stdout
    (folder / "Packages").write_bytes(packages)
    release = subprocess.run(["apt-ftparchive", "release", "."], cwd=folder, check=True, capture_output=True).stdout
    (folder / "Release").write_bytes(release)


# --- web -------------------------------------------------------------------------------------------------------------


class _Ranges(SimpleHTTPRequestHandler):
    """Serves a folder, and the rest of a file from an offset; notes what was asked for."""

    server: Web

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        asked = self.headers.get("Range", "")
        self.server.asked.append((self.path, asked))
        path = Path(self.translate_path(self.path))
        if not asked or not path.is_file() or not self.server.ranges:
            super().do_GET()
            return
        start, size = int(asked.removeprefix("bytes=").partition("-")[0]), path.stat().st_size
        if start >= size:
            self.send_error(416)
            return
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.send_header("Content-Length", str(size - start))
        self.end_headers()
        self.wfile.write(path.read_bytes()[start:])


class Web(ThreadingHTTPServer):
    """A web server for a folder, on loopback, in a thread."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(("127.0.0.1", 0), partial(_Ranges, directory=str(folder)))
        self.folder = folder
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.asked: list[tuple[str, str]] = []
        self.ranges = True
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()


def wait_for(ready, seconds: float = 20) -> None:
    """Asks until *ready* says so; what it raises meanwhile counts as no."""
    end = time.monotonic() + seconds
    while True:
        try:
            if ready():
                return
        except (OSError, subprocess.SubprocessError):
            pass
        assert time.monotonic() < end, "not ready in time"
        time.sleep(0.05)
