# ruff: noqa: T201 (a command prints)
"""The ``docker`` command of the lab: version, info, load, pull, rmi, image inspect, images. It asks the daemon before anything else."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import tarfile
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote, unquote

ROOT = Path(os.environ.get("LAB_DOCKER_ROOT", "/"))  # another one only in tests of the stand-in itself
SOCKET = ROOT / "var/run/docker.sock"
IMAGES = ROOT / "var/lib/lab-docker/images"
UNKNOWN = 97
REFERENCE = re.compile(
    r"([a-z0-9]+([._-]+[a-z0-9]+)*(:\d+)?/)?[a-z0-9]+([._/-]+[a-z0-9]+)*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?(@sha256:[0-9a-f]{64})?"
)


def stop(message: str, status: int = 1) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(status)


def full(reference: str) -> str:
    """A reference with its registry and tag, as the CRI names it."""
    if not REFERENCE.fullmatch(reference):
        stop(f"invalid reference format: {reference}")
    first, slash, _ = reference.partition("/")
    if not slash:
        reference = f"docker.io/library/{reference}"
    elif not re.search(r"[.:]", first) and first != "localhost":
        reference = f"docker.io/{reference}"
    return reference if re.search(r":[^/]*$|@", reference) else f"{reference}:latest"


def short(reference: str) -> str:
    return reference.removeprefix("docker.io/").removeprefix("library/")


def answers() -> bool:
    """Whether a daemon answers on the socket: one that systemd only listens for doesn't."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(3)
            connection.connect(str(SOCKET))
            connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b"OK" in connection.recv(100)
    except OSError:
        return False


def daemon() -> None:
    if not answers():
        stop("Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?")


def file(reference: str) -> Path:
    return IMAGES / quote(full(reference), safe="")


def found(reference: str) -> Path | None:
    """The file of an image by its reference or its id."""
    if not re.fullmatch(r"(sha256:)?[0-9a-f]{12,64}", reference):
        return file(reference) if file(reference).exists() else None
    return next(
        (path for path in IMAGES.glob("*") if path.read_text().removeprefix("sha256:").startswith(reference.removeprefix("sha256:"))), None
    )


def load(words: list[str]) -> None:
    """An archive of ``docker save`` on standard input (or of -i): all its RepoTags."""
    source = None
    if len(words) == 2 and words[0] in {"-i", "--input"}:
        source = Path(words[1]).open("rb")  # noqa: SIM115 - or standard input; the process ends with it
    elif words and words != ["-q"]:
        unknown("load", *words)
    elif sys.stdin.isatty():
        stop("requested load from stdin, but stdin is empty")
    daemon()
    try:
        with tarfile.open(fileobj=source or sys.stdin.buffer, mode="r|") as archive:
            names, manifest = set(), None
            for member in archive:
                names.add(member.name)
                if member.name == "manifest.json":
                    data = archive.extractfile(member)
                    manifest = json.loads(data.read() if data else b"")
    except (tarfile.TarError, json.JSONDecodeError, EOFError) as error:
        stop(f"Error response from daemon: archive/tar: invalid tar header ({error})")
    if manifest is None:
        stop("open /var/lib/docker/tmp/docker-import-1/repositories: no such file or directory")
    IMAGES.mkdir(parents=True, exist_ok=True)
    for image in manifest:
        for needed in [image["Config"], *image["Layers"]]:
            if needed not in names:
                stop(f"Error response from daemon: open /var/lib/docker/tmp/docker-import-1/{needed}: no such file or directory")
        identity = "sha256:" + Path(image["Config"]).name.removesuffix(".json")
        for reference in image.get("RepoTags") or []:
            new = IMAGES / ".new"
            new.write_text(identity)
            new.replace(file(reference))
            print(f"Loaded image: {short(reference)}")
        if not image.get("RepoTags"):
            print(f"Loaded image ID: {identity}")


def unknown(*words: str) -> NoReturn:
    stop(f"lab stand-in: not stood in for: docker {' '.join(words)}", UNKNOWN)


def inspect(references: list[str]) -> int:
    status, out = 0, []
    for reference in references:
        path = found(reference)
        if path is None:
            print(
                f"Error response from daemon: No such image: {reference}" if ":" in reference else f"Error: No such image: {reference}",
                file=sys.stderr,
            )
            status = 1
        else:
            out.append({"Id": path.read_text(), "RepoTags": [short(unquote(path.name))]})
    print(json.dumps(out, indent=4))
    return status


def remove(references: list[str]) -> int:
    status = 0
    for reference in references:
        path = found(reference)
        if path is None:
            print(f"Error response from daemon: No such image: {reference}", file=sys.stderr)
            status = 1
        else:
            path.unlink()
            print(f"Untagged: {short(unquote(path.name))}")
    return status


def main(words: list[str]) -> int:
    if words in (["version"], ["info"]):
        print("Client: Docker Engine - Community (lab stand-in)\n Version:           26.1.4")
        daemon()
        print(
            "\nServer: Docker Engine - Community\n Engine:\n  Version:          26.1.4"
            if words == ["version"]
            else "Server:\n Cgroup Driver: systemd\n Cgroup Version: 2"
        )
        return 0
    if words == ["--version"]:
        print("Docker version 26.1.4, build 5650f9b")
        return 0
    if words[:2] == ["image", "inspect"] and len(words) > 2 and not words[2].startswith("-"):
        daemon()
        return inspect(words[2:])
    if words[:1] == ["load"]:
        load(words[1:])
        return 0
    if words[:1] == ["rmi"] and len(words) > 1 and not words[1].startswith("-"):
        daemon()
        return remove(words[1:])
    if words[:1] == ["pull"] and len(words) == 2:
        daemon()
        registry = full(words[1]).partition("/")[0]
        stop(f'Error response from daemon: Get "https://{registry}/v2/": dial tcp: lookup {registry}: no such host')
    if words in (["images"], ["images", "--format", "{{.Repository}}:{{.Tag}}"]):
        daemon()
        print("REPOSITORY   TAG   IMAGE ID\n" if len(words) == 1 else "", end="")
        for path in sorted(IMAGES.glob("[!.]*")):
            name, _, tag = short(unquote(path.name)).rpartition(":")
            print(f"{name}   {tag}   {path.read_text()[7:19]}" if len(words) == 1 else f"{name}:{tag}")
        return 0
    unknown(*words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
