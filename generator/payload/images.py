"""What a container image archive says of itself (docker-archive: ``docker save``, ``skopeo copy docker-archive:``, ``podman save``)."""

from __future__ import annotations

import hashlib
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# A manifest or a configuration has some kilobytes; an archive of one image some hundred members.
_MOST_BYTES = 4 * 1024 * 1024
_MOST_MEMBERS = 10_000


class UnreadableError(Exception):
    """No archive of one image."""


@dataclass(frozen=True, slots=True)
class Image:
    """The *references* that an archive has for its image, the digest of its configuration, and its manifest's where the archive says it."""

    references: tuple[str, ...]
    config: str
    manifest: str = ""


def read(path: Path) -> Image:
    """The image in the archive at *path*, of which no layer is read; raises :class:`UnreadableError` and OSError."""
    try:
        with tarfile.open(path, "r:") as archive:
            return _read(archive)
    except (tarfile.TarError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError):
        raise UnreadableError from None


def familiar(reference: str) -> str:
    """*reference* as Docker shortens it: no tool writes ``docker.io/`` into an archive, or every tool does."""
    for prefix in ("docker.io/library/", "docker.io/"):
        if reference.startswith(prefix):
            return reference.removeprefix(prefix)
    return reference


def _read(archive: tarfile.TarFile) -> Image:
    members = {}
    for number, member in enumerate(archive):
        if number >= _MOST_MEMBERS:
            raise UnreadableError
        members[member.name.removeprefix("./")] = member
    (entry,) = _json(archive, members["manifest.json"])
    config = _bytes(archive, members[entry["Config"]])
    references = tuple(sorted(str(name) for name in entry["RepoTags"] or ()))
    if any(layer not in members for layer in entry["Layers"]):
        raise UnreadableError
    return Image(references, f"sha256:{hashlib.sha256(config).hexdigest()}", _manifest(archive, members))


def _manifest(archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo]) -> str:
    """The manifest's digest: an archive of Docker 25 and newer is an OCI layout too, which names it."""
    if "index.json" not in members:
        return ""
    found = {str(one["digest"]) for one in _json(archive, members["index.json"])["manifests"]}
    return found.pop() if len(found) == 1 else ""


def _json(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Any:
    return json.loads(_bytes(archive, member))


def _bytes(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member)
    if stream is None or member.size > _MOST_BYTES:
        raise UnreadableError
    return stream.read()
