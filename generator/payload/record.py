"""``payload.lock.yaml`` of a gathered payload: what lay there when it was locked, written and read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from generator import emit, source
from generator.artifacts.payload import FORMAT, wanted
from generator.diagnostics import has_errors
from generator.wording import said

if TYPE_CHECKING:
    from generator.model import Cluster
    from generator.payload.gathered import Entry, Gathered

_HEADER = "# stowage, cluster {name}: every file of its payload as `stowage lock` found it.\n"


class RecordError(Exception):
    """A lock that can't be read, and why; *remedy* says what to do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Record:
    """A lock that was read: the *cluster* and Kubernetes release that it is for, and (size, SHA-256) of each file by path."""

    cluster: str
    kubernetes: str
    files: Mapping[str, tuple[int, str]]


def text(cluster: Cluster, gathered: Gathered) -> str:
    """
    The lock of *gathered* for *cluster*: the same text for the same files, however and wherever they were gathered.

    Where each comes from and which hosts need it is said as in the list of what is wanted; packages go to all hosts of their system.
    """
    known = wanted(cluster)
    places = {
        one["path"]: one for one in (*known["images"], *known["files"], *(one for system in known["packages"] for one in system["files"]))
    }
    folders: dict[str, list[dict[str, Any]]] = {}
    for entry in gathered.entries:
        folders.setdefault(entry.folder, []).append(_described(entry, places.get(entry.path, {})))
    systems = {system["path"]: system["repositories"] for system in known["packages"]}
    data = {
        "version": FORMAT,
        "cluster": cluster.name,
        "kubernetes": cluster.kubernetes_version,
        "images": folders.get("images", []),
        "packages": [
            {
                "os": folder.partition("/")[2],
                "repositories": systems.get(folder, []),
                "roles": _roles(cluster, folder.partition("/")[2]),
                "files": files,
            }
            for folder, files in folders.items()
            if folder.startswith("packages/")
        ],
        "files": folders.get("files", []),
    }
    return _HEADER.format(name=cluster.name) + emit.yaml(data)


def _roles(cluster: Cluster, system: str) -> list[str]:
    hosts = (host for host in cluster.hosts if (host.settings.os, host.settings.packages) == (system, "payload"))
    return list(dict.fromkeys(host.role for host in hosts))


def _described(entry: Entry, place: Mapping[str, Any]) -> dict[str, Any]:
    about: dict[str, Any] = {"path": entry.path}
    if entry.image is not None:
        about |= {"references": list(entry.image.references), "config": entry.image.config}
        about |= {"manifest": entry.image.manifest} if entry.image.manifest else {}
    if entry.package is not None:
        about |= {name: getattr(entry.package, name) for name in ("name", "version", "architecture")}
    about |= {name: place[name] for name in ("source", "roles", "hosts") if name in place}
    return {**about, "size": entry.size, "sha256": entry.sha256}


def read(path: Path) -> Record:
    """The lock at *path*; raises :class:`RecordError`."""
    remedy = said("make it with `stowage lock INVENTORY --payload {folder}`", folder=path.parent)
    try:
        with path.open("rb") as file:
            raw = file.read(source.MAX_BYTES + 1)
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror}", remedy) from None
    loaded, problems = source.load(str(path), raw)
    record = None if has_errors(problems) else _record(loaded.data)
    if record is None:
        raise RecordError(said("{file}: no lock of a gathered payload", file=path), remedy)
    return record


def _record(data: Any) -> Record | None:
    try:
        record = Record(str(data["cluster"]), str(data["kubernetes"]), dict(_files(data)))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return record if data.get("version") == FORMAT else None


def _files(data: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, str]]]:
    for one in (*data["images"], *(file for system in data["packages"] for file in system["files"]), *data["files"]):
        yield str(one["path"]), (int(one["size"]), str(one["sha256"]))


def is_at(path: Path, content: str) -> bool:
    """Whether the file at *path* holds just *content*.  Raises OSError."""
    data = content.encode()
    return path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data


def write(path: Path, content: str) -> bool:
    """*content* at *path*, whole or not at all; whether that was not there already.  Raises OSError."""
    if is_at(path, content):
        return False
    draft = path.with_name(f".{path.name}.stowage-new")
    draft.unlink(missing_ok=True)
    try:
        with draft.open("xb") as file:
            file.write(content.encode())
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return True
