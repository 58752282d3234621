"""The directory in which a payload is gathered: every file of it read, hashed, and asked what it is."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from generator.bundle import digest_of, walk
from generator.payload import images, packages
from generator.wording import said

# What is not below these is the user's own: the lock itself, what fetch-payload.sh has not done yet.
FOLDERS = ("files", "images", "packages")

# Called before each file with its place in the directory, how many bytes lie before it, and how many there are in all.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Entry:
    """One file: *path* is relative to the directory, with its *size* and *sha256*; an image or a package where it is one."""

    path: str
    size: int
    sha256: str
    image: images.Image | None = None
    package: packages.Package | None = None

    @property
    def folder(self) -> str:
        """``packages/debian-12`` for what lies below it, else ``images`` or ``files``."""
        parts = self.path.split("/")
        return "/".join(parts[:2]) if parts[0] == "packages" else parts[0]


@dataclass(frozen=True)
class Gathered:
    """What lies in *root*: *entries* sorted by path, and what is wrong with single files, a line each."""

    root: Path
    entries: tuple[Entry, ...]
    problems: tuple[str, ...] = field(default=())


def survey(root: Path, progress: Progress) -> Gathered:
    """Every file below ``images``, ``packages`` and ``files`` of *root*, each read once; raises OSError where one can't be read."""
    problems: list[str] = []
    sizes = dict(_files(root, problems))
    total, done = sum(sizes.values()), 0
    indexes = _indexes(root, sizes, problems)
    entries = []
    for path, size in sizes.items():
        progress(path, done, total)
        entry = Entry(path, size, digest_of(root / path), _image(root, path, problems), _package(root, path, indexes, problems))
        if entry.package and entry.package.listed not in (None, (entry.size, entry.sha256)):
            problems.append(said("{path}: Packages beside it lists another file", path=path))
        entries.append(entry)
        done += size
    progress("", done, total)
    return Gathered(root, tuple(entries), tuple(problems))


def _files(root: Path, problems: list[str]) -> Iterator[tuple[str, int]]:
    """Paths and sizes in order; what is no regular file is a problem, and so is what a bundle could not carry to any medium."""
    for folder in FOLDERS:
        if not os.path.lexists(root / folder):
            continue
        if (root / folder).is_symlink() or not (root / folder).is_dir():
            problems.append(said("{path}: no directory", path=folder))
            continue
        for below in walk(root / folder):
            path = f"{folder}/{below}"
            status = (root / path).lstat()
            if not stat.S_ISREG(status.st_mode):
                problems.append(said("{path}: neither a file nor a directory", path=path))
            elif not path.isprintable() or "\\" in path:
                problems.append(said("{path}: a name that sums can't hold", path=path))
            else:
                yield path, status.st_size


def _indexes(root: Path, sizes: dict[str, int], problems: list[str]) -> dict[str, packages.Package]:
    """The packages of every ``packages/<os>/Packages`` by the path of their file."""
    found: dict[str, packages.Package] = {}
    for path in sizes:
        folder, _, name = path.rpartition("/")
        if name == "Packages" and folder.startswith("packages/"):
            try:
                found |= {f"{folder}/{file}": package for file, package in packages.index(root / path).items()}
            except packages.UnreadableError:
                problems.append(said("{path}: no index of packages", path=path))
    problems += (said("missing: {path}", path=path) for path in found.keys() - sizes.keys())
    return found


def _image(root: Path, path: str, problems: list[str]) -> images.Image | None:
    if path.startswith("images/"):
        try:
            return images.read(root / path)
        except images.UnreadableError:
            problems.append(said("{path}: no archive of one image", path=path))
    return None


def _package(root: Path, path: str, indexes: dict[str, packages.Package], problems: list[str]) -> packages.Package | None:
    if path.startswith("packages/") and path.endswith(".rpm"):
        try:
            return packages.rpm(root / path)
        except packages.UnreadableError:
            problems.append(said("{path}: no package", path=path))
    elif path.startswith("packages/") and path.endswith(".deb"):
        if path in indexes:
            return indexes[path]
        problems.append(said("{path}: not in Packages beside it", path=path))
    return None
