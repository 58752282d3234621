"""
A bundle read back and checked against its manifest and its sums: writes nothing, so that a read-only medium will do.

The folder of one host, and what ``stowage pack`` made, have no manifest: they answer to their sums.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from generator.bundle import FORMAT, MANIFEST, OVERLAYS, SIGNATURE, SUMS, BundleError, digest_of, in_overlay, walk
from generator.wording import said

Entries = Mapping[str, Mapping[str, Any]]
# By device and inode.
Digests = dict[tuple[int, int], str]


def verify(bundle: Path) -> list[str]:
    """
    What is wrong with the bundle at *bundle*: one line for each changed, missing or extra file, and each wrong x bit.

    Empty when it is as it was compiled.  An overlay answers to its own sums.  On a medium that keeps no x bits (FAT gives every file the
    same) those are not looked at.  Raises :class:`BundleError` where there is no readable manifest, or a file can't be read.
    """
    manifest = None if _has_sums_alone(bundle) else entries(bundle)
    try:
        return sorted(_of_folder(bundle) if manifest is None else _differences(bundle, manifest))
    except OSError as error:
        raise BundleError(f"{error.filename or bundle}: {error.strerror}", "verify it as a user who may read all of it") from None


def _has_sums_alone(folder: Path) -> bool:
    """Whether *folder* is a host's, or of ``stowage pack``: without the manifest, but not because somebody took it away."""
    return (folder / SUMS).is_file() and not (folder / MANIFEST).exists() and not (folder / "hosts").exists()


def entries(bundle: Path) -> Entries:
    """The files of the manifest by path: ``sha256`` and ``executable``.  Raises :class:`BundleError` where there is no readable one."""
    manifest = bundle / MANIFEST
    try:
        # A pipe in its place would be waited for without end.
        data = json.loads(manifest.read_text(encoding="utf-8") if stat.S_ISREG(manifest.stat().st_mode) else "")
        form = data["stowage"]
        found = {str(entry["path"]): {"sha256": entry["sha256"], "executable": bool(entry.get("executable"))} for entry in data["files"]}
    except OSError as error:
        raise BundleError(f"{manifest}: {error.strerror}", "name the folder of one cluster, such as out/example") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BundleError(
            said("{file}: not a manifest of stowage's", file=manifest), "name the folder of one cluster, such as out/example"
        ) from None
    if form != FORMAT:
        raise BundleError(
            said("{file}: format {form}", file=manifest, form=form),
            said("this stowage reads format {form}: use the one that made it", form=FORMAT),
        )
    return found


def _differences(bundle: Path, manifest: Entries) -> Iterator[str]:
    listed: dict[str, dict[str, str]] = {"": {path: entry["sha256"] for path, entry in manifest.items()}}
    for path, entry in manifest.items():
        folder, _, rest = path.partition("/")
        host, _, below = rest.partition("/")
        if folder == "hosts" and below:
            listed.setdefault(f"hosts/{host}/", {})[below] = entry["sha256"]
    own = {MANIFEST, *(prefix + SUMS for prefix in listed)}
    tracked = {path for path in walk(bundle) if not in_overlay(path)}
    tracked -= {prefix + SIGNATURE for prefix in listed if _is_regular(bundle / (prefix + SIGNATURE))}
    yield from (said("extra: {path}", path=path) for path in tracked - own - set(manifest))
    yield from (said("missing: {path}", path=path) for path in (own | set(manifest)) - tracked)
    changed = {path for path, digest in listed[""].items() if path in tracked and not _is(bundle / path, digest)}
    changed.update(_wrong_sums(bundle, listed, tracked))
    yield from (said("changed: {path}", path=path) for path in changed)
    bits = {path: path in manifest and manifest[path]["executable"] for path in tracked & (own | set(manifest)) - changed}
    yield from _x_bits(bundle, bits)
    # One gathered file is linked into every host's payload.
    known: Digests = {}
    for prefix in listed:
        if prefix:
            for overlay in OVERLAYS:
                yield from _overlay(bundle, f"{prefix}{overlay}/", known)


def _wrong_sums(bundle: Path, listed: Mapping[str, Mapping[str, str]], tracked: set[str]) -> Iterator[str]:
    """Every ``SHA256SUMS`` that lists other than the manifest does, or isn't what the one at the top says; so the manifest too."""
    own = {MANIFEST, *(prefix + SUMS for prefix in listed if prefix)}
    stated = read_sums(bundle / SUMS) if SUMS in tracked else {}
    if SUMS in tracked and (stated.keys() != own | listed[""].keys() or any(stated[path] != digest for path, digest in listed[""].items())):
        yield SUMS
    yield from (path for path in own & tracked & stated.keys() if not _is(bundle / path, stated[path]))
    for prefix, wanted in listed.items():
        if prefix and prefix + SUMS in tracked and read_sums(bundle / (prefix + SUMS)) != wanted:
            yield prefix + SUMS


def _is(path: Path, digest: str, known: Digests | None = None) -> bool:
    """Whether *path* is a regular file with that digest; a file of several names is read once where *known* remembers it."""
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        return False
    if known is None or status.st_nlink == 1:
        return digest_of(path) == digest
    key = (status.st_dev, status.st_ino)
    if key not in known:
        known[key] = digest_of(path)
    return known[key] == digest


def _x_bits(bundle: Path, executable: Mapping[str, bool]) -> Iterator[str]:
    actual = {path: bool((bundle / path).stat().st_mode & stat.S_IXUSR) for path in executable}
    if len(set(actual.values())) > 1:
        yield from (said("changed: {path} (x bit)", path=path) for path, bit in actual.items() if bit is not executable[path])


def _is_regular(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def read_sums(path: Path) -> dict[str, str]:
    """Digest by path, as ``sha256sum`` writes them; nothing where *path* is no regular file or names one file twice."""
    return parsed(path.read_bytes()) if stat.S_ISREG(path.lstat().st_mode) else {}


def parsed(sums: bytes) -> dict[str, str]:
    """The same of the bytes of such a file."""
    lines = sums.decode("utf-8", "surrogateescape").removesuffix("\n").split("\n")
    stated = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    return stated if len(stated) == len(lines) else {}


def _of_folder(root: Path) -> Iterator[str]:
    """The folder of one host, or one without overlays."""
    yield from _against_sums(root, "", [path for path in walk(root) if path.split("/", 1)[0] not in OVERLAYS or "/" not in path])
    for overlay in OVERLAYS:
        yield from _overlay(root, f"{overlay}/", {})


def _overlay(bundle: Path, prefix: str, known: Digests) -> Iterator[str]:
    """An overlay answers to the sums inside it."""
    root = bundle / prefix.rstrip("/")
    if not root.is_symlink() and root.is_dir():
        yield from _against_sums(root, prefix, walk(root), known)


def _against_sums(root: Path, prefix: str, found: Iterable[str], known: Digests | None = None) -> Iterator[str]:
    """The files *found* below *root*, whose names get *prefix*, against the sums in it."""
    present = set(found)
    if SUMS not in present:
        yield said("missing: {path}", path=prefix + SUMS)
        return
    stated = read_sums(root / SUMS)
    own = {SUMS, SIGNATURE} if _is_regular(root / SIGNATURE) else {SUMS}
    yield from (said("extra: {path}", path=prefix + path) for path in present - own - set(stated))
    yield from (said("missing: {path}", path=prefix + path) for path in set(stated) - present)
    yield from (said("changed: {path}", path=prefix + path) for path in present & set(stated) if not _is(root / path, stated[path], known))
