"""What a bundle holds: pure functions from the cluster to files, one module a component, discovered.

A component has ``for_host(cluster, host)``, ``for_cluster(cluster)``, or both; each yields :class:`File`.  A file that a host lays names
its destination and step and so becomes a row of ``files.tsv``: a component adds rows, never a script of its own.  Components never import
each other; what two of them share is a property of the model.  Texts that are equal on many hosts are made once and shared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

from generator import emit
from generator.model import Cluster


@dataclass(frozen=True, slots=True)
class File:
    """
    One file of a bundle.

    *path* is relative to the bundle, or to the host's folder when ``for_host`` yields it.  *sources* are the inventory keys that its
    content came from, ``hosts[].address`` style.  With a *destination* the host lays it there in *step*, with *mode* and *owner*, and
    reloads *unit*; *how* is ``file`` for a whole file, ``login`` for one that the host completes with the login
    to the site's registry, ``block`` for a managed block in a file that is not ours.
    *executable* is the x bit in the bundle.
    """

    path: str
    text: str
    sources: tuple[str, ...]
    destination: str = ""
    step: int = 0
    unit: str = "-"
    mode: int = 0o644
    owner: str = "root:root"
    how: str = "file"
    executable: bool = False


# Headers of the tables that the scripts read (docs/scripts.md).
ORDER_TSV = "verb\tfile\tsha256\twait"
FILES_TSV = "source\tdestination\tmode\towner\tstep\tunit\thow"


def rootfs(destination: str) -> str:
    """Where a file that a host lays at *destination* stands in the host's folder."""
    return f"rootfs{destination}"


@cache
def _components() -> tuple[ModuleType, ...]:
    return tuple(import_module(f"{__name__}.{name}") for name in sorted(entry.name for entry in iter_modules(__path__)))


def plan(cluster: Cluster) -> Iterator[tuple[str, list[File]]]:
    """
    Every folder of the bundle with its files, but for what the writer makes (sums, manifest): ``""``, then ``hosts/<name>`` of each host.

    Paths are relative to the folder.  One folder at a time, a host's files sorted by path with its ``files.tsv`` last: memory stays flat
    however many hosts there are.
    """
    components = _components()
    on_host = [component.for_host for component in components if hasattr(component, "for_host")]
    yield "", [file for component in components if hasattr(component, "for_cluster") for file in component.for_cluster(cluster)]
    for host in cluster.hosts:
        files = sorted((file for component in on_host for file in component(cluster, host)), key=lambda file: file.path)
        laid = sorted((file for file in files if file.destination), key=lambda file: (file.step, file.destination))
        rows = tuple((f.path, f.destination, f"{f.mode:04o}", f.owner, f"{f.step:02}", f.unit, f.how) for f in laid)
        files.append(File("files.tsv", _listed(rows), ("hosts[]",)))
        yield f"hosts/{host.name}", files


@lru_cache(maxsize=64)
def _listed(rows: tuple[tuple[str, ...], ...]) -> str:
    return emit.tsv(FILES_TSV, rows)
