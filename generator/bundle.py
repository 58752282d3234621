"""The bundle on disk: streamed, hashed, and swapped in whole.

A bundle is written to a sibling directory and exchanged with the one in place (``generator.swap``).  A file that is right already is not
touched: it moves along as a hard link.  This module is the only one of the compiler that writes; ``generator.verify`` reads what it wrote.
"""

# A Path object a file would take as long as its write.
# ruff: noqa: PTH102, PTH105, PTH116, PTH123

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, TextIO

from generator import swap
from generator.artifacts import File
from generator.emit import compact_json
from generator.wording import said

FORMAT = 1
MANIFEST, SUMS, SIGNATURE = "manifest.json", "SHA256SUMS", "SHA256SUMS.sig"
OVERLAYS = ("secrets", "payload")

_MARK = '{"stowage": '
_SHARED_TEXTS = 512


class BundleError(Exception):
    """The bundle could not be written or read, and why; *remedy* says what to do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Written:
    """What :func:`write` did: how many *files* the bundle has, and how many of them are new, changed, or gone."""

    path: Path
    files: int
    added: int
    changed: int
    removed: int

    @property
    def touched(self) -> bool:
        """Whether anything on disk is different now."""
        return bool(self.added or self.changed or self.removed)


Folders = Iterable[tuple[str, Sequence[File]]]
Secrets = Mapping[str, Mapping[str, bytes]]


class Payload(Protocol):
    """What is laid into ``payload/`` of hosts (``generator.payload``)."""

    def sums(self) -> Iterable[tuple[str, bytes]]:
        """Each host that gets anything, with the ``SHA256SUMS`` of it."""

    def lay(self, host: str, target: str, staging: str) -> Iterable[str]:
        """Fill ``payload/`` of *host* below *staging*; yields ``same``, ``changed`` or ``added`` for each file."""


def write(
    out: Path,
    name: str,
    about: Mapping[str, Any],
    folders: Folders,
    secrets: Secrets,
    payload: Payload | None = None,
    *,
    accept: Callable[[Path], None] | None = None,
) -> Written:
    """
    Write the bundle *name* below *out* and return what changed.

    *about* is the head of the manifest; *folders* are consumed as they come: ``""`` or ``hosts/<host>`` with its files, each folder once.
    *secrets* maps a host's name to its secret files, which may be none; a host that isn't in it keeps the overlay that is there, as every
    host does without a *payload*.  *accept* is called with the whole new bundle before it is swapped in, and refuses it by raising.  Raises
    :class:`BundleError`, or whatever *folders* or *accept* raise, with the former bundle whole.
    """
    target = out / name
    try:
        with swap.staging(target, is_bundle) as staging:
            if os.path.lexists(target) and not is_bundle(target):
                remedy = "move it away, or choose another directory with --output: only what stowage made is ever replaced"
                raise BundleError(said("{folder}: not a bundle of stowage's", folder=target), remedy)
            written = _Writer(target, staging).run(about, folders, secrets, payload)
            if accept is not None:
                accept(staging)
            if written.touched:
                swap.exchange(staging, target)
    except swap.BusyError:
        raise BundleError(
            said("{folder}: another stowage is writing here", folder=out), "wait for it to end, then run this again"
        ) from None
    except OSError as error:
        where = os.fsdecode(error.filename) if error.filename else out
        remedy = _REMEDIES.get(error.errno or 0, "the bundle that was there, if any, is whole")
        raise BundleError(f"{where}: {error.strerror or error}", remedy) from error
    return written


_REMEDIES = {
    errno.ENOSPC: "the disk is full; the bundle that was there, if any, is whole",
    errno.EDQUOT: "your quota is used up; the bundle that was there, if any, is whole",
    errno.EACCES: "choose another directory with --output, or mend its rights",
    errno.EPERM: "choose another directory with --output, or mend its rights",
    errno.EBUSY: "something is mounted there: unmount it first",
    errno.EROFS: "the file system is read-only: choose another directory with --output",
    errno.EXDEV: "this file system can't swap directories (an overlay's lower layer?): choose another directory with --output",
    errno.ENAMETOOLONG: "choose a shorter directory with --output",
}


def is_bundle(target: Path) -> bool:
    """Whether *target* is a bundle: its manifest begins as ours do."""
    manifest = target / MANIFEST
    if target.is_symlink() or not manifest.is_file():
        return False
    with manifest.open("rb") as file:
        return file.read(len(_MARK)) == _MARK.encode()


class _Writer:
    """One pass over the files into *staging*, beside the bundle in *target*."""

    def __init__(self, target: Path, staging: Path) -> None:
        self.path = target
        self.target, self.staging = f"{target}/", f"{staging}/"
        self.replaces = target.exists()
        self.keeps_modes = not self.replaces or _keeps_modes(staging)
        self.made = {""}
        self.texts: dict[str, tuple[bytes, str]] = {}
        self.files = self.added = self.changed = self.removed = 0

    def run(self, about: Mapping[str, Any], folders: Folders, secrets: Secrets, payload: Payload | None) -> Written:
        manifest, sums = f"{self.staging}{MANIFEST}", f"{self.staging}{SUMS}"
        with open(manifest, "x", encoding="utf-8", newline="\n") as listing, open(sums, "x", encoding="utf-8", newline="\n") as total:
            listing.write(f"{_MARK}{FORMAT},\n")
            listing.writelines(f" {compact_json(key)}: {compact_json(value)},\n" for key, value in about.items())
            listing.write(' "files": [')
            separator = "\n  "
            for folder, files in folders:
                separator = self._folder(folder, files, separator, listing, total)
            listing.write("\n]}\n")
            listing.flush()
            total.write(f"{digest_of(manifest)}  {MANIFEST}\n")
        self._settle(MANIFEST)
        self._settle(SUMS)
        self._put_secrets(secrets)
        if payload is not None:
            self._put_payload(payload)
        if self.replaces:
            self._leave_or_carry(secrets, keeps_payload=payload is None)
        return Written(self.path, self.files, self.added, self.changed, self.removed)

    def _folder(self, folder: str, files: Sequence[File], separator: str, listing: TextIO, total: TextIO) -> str:
        """Write one folder; a host's gets sums of its own, so that it is complete in itself."""
        prefix = f"{folder}/" if folder else ""
        lines = []
        for file in files:
            data, digest = self._bytes(file.text)
            path = prefix + file.path
            self._put(path, data, executable=file.executable)
            about = _described(file.executable, file.destination, file.mode, file.owner, file.step, file.sources)
            listing.write(f'{separator}{{"path": {compact_json(path)}, "sha256": "{digest}", {about}')
            separator = ",\n  "
            total.write(f"{digest}  {path}\n")
            lines.append(f"{digest}  {file.path}\n")
        if folder:
            data = "".join(sorted(lines, key=lambda line: line[66:])).encode()
            self._put(prefix + SUMS, data)
            total.write(f"{hashlib.sha256(data).hexdigest()}  {prefix}{SUMS}\n")
        return separator

    def _bytes(self, text: str) -> tuple[bytes, str]:
        """Bytes and digest of *text*; texts that many hosts share are encoded and hashed once."""
        known = self.texts.get(text)
        if known is None:
            if len(self.texts) >= _SHARED_TEXTS:
                self.texts.clear()
            data = text.encode()
            known = self.texts[text] = (data, hashlib.sha256(data).hexdigest())
        return known

    def _put(self, path: str, data: bytes, *, executable: bool = False, mode: int = 0) -> None:
        """*data* at *path* in staging: a link to the file in place where that is right already, else a new file with *mode*, if any."""
        self.files += 1
        parent = path.rpartition("/")[0]
        if parent not in self.made:
            self._make(parent, 0o700 if mode else 0o777)
        if not self.replaces:
            self.added += 1
        elif not self._fits(path, len(data), executable=executable, mode=mode):
            self._count(path)
        elif not _holds(self.target + path, data):
            self.changed += 1
        elif linked(self.target + path, self.staging + path):
            return
        handle = os.open(self.staging + path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode or (0o777 if executable else 0o666))
        try:
            written = os.write(handle, data)
            while written < len(data):
                written += os.write(handle, memoryview(data)[written:])
        finally:
            os.close(handle)

    def _make(self, folder: str, mode: int) -> None:
        parent, _, name = folder.rpartition("/")
        if name in ("", ".", ".."):
            raise ValueError(f"{folder!r} is no folder of a bundle")
        if parent not in self.made:
            self._make(parent, 0o777)
        os.mkdir(self.staging + folder, mode)
        self.made.add(folder)

    def _fits(self, path: str, size: int, *, executable: bool, mode: int) -> bool:
        """Whether the file in place at *path* is a regular one of that size with the right x bit (or *mode*)."""
        try:
            status = os.lstat(self.target + path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        actual, wanted = (stat.S_IMODE(status.st_mode), mode) if mode else (bool(status.st_mode & stat.S_IXUSR), executable)
        return stat.S_ISREG(status.st_mode) and status.st_size == size and (actual == wanted or not self.keeps_modes)

    def _count(self, path: str) -> None:
        """Count a file that is not in place as it should be."""
        if os.path.lexists(self.target + path):
            self.changed += 1
        else:
            self.added += 1

    def _settle(self, name: str) -> None:
        """Count a file that was streamed into staging, and take the one in place where it is the same."""
        self.files += 1
        fresh, present, link = self.staging + name, self.target + name, f"{self.staging}{name}.same"
        if not self._fits(name, os.stat(fresh).st_size, executable=False, mode=0):
            self._count(name)
        elif digest_of(present) != digest_of(fresh):
            self.changed += 1
        elif linked(present, link):
            os.replace(link, fresh)

    def _put_secrets(self, secrets: Secrets) -> None:
        for host, entries in secrets.items():
            if not entries:
                continue
            sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(entries.items()))
            for name, data in sorted({**entries, SUMS: sums.encode()}.items()):
                self._put(f"hosts/{host}/secrets/{name}", data, mode=0o600)

    def _put_payload(self, payload: Payload) -> None:
        for host, sums in payload.sums():
            self._put(f"hosts/{host}/payload/{SUMS}", sums)
            for word in payload.lay(host, self.target, self.staging):
                self.files += 1
                self.added += word == "added"
                self.changed += word == "changed"

    def _leave_or_carry(self, secrets: Secrets, *, keeps_payload: bool) -> None:
        """
        What lies in an overlay of a host that still exists, and isn't written anew, moves along; all else not in staging is gone.

        A signature stays where what it covers does.
        """
        signatures = []
        for path in walk(self.path):
            if is_signature(path):
                signatures.append(path)
                continue
            if in_overlay(path):
                _, host, overlay, _ = path.split("/", 3)
                if f"hosts/{host}" in self.made and (keeps_payload if overlay == "payload" else host not in secrets):
                    self._carry(path)
                    continue
            if not os.path.lexists(self.staging + path):
                self.removed += 1

        for path in signatures:
            if all(self._stays(sums) for sums in signed_by(path)):
                self._carry(path)
            else:
                self.removed += 1

    def _stays(self, path: str) -> bool:
        """Whether *path* is the same file as in the bundle in place."""
        present, fresh = Path(self.target, path), Path(self.staging, path)
        return present.is_file() and fresh.is_file() and digest_of(present) == digest_of(fresh)

    def _carry(self, path: str) -> None:
        present, destination = self.target + path, self.staging + path
        missing = []
        folder = path.rpartition("/")[0]
        while folder not in self.made:
            missing.append(folder)
            folder = folder.rpartition("/")[0]
        for folder in reversed(missing):
            self._make(folder, stat.S_IMODE(os.stat(self.target + folder).st_mode) | 0o700)
        if not linked(present, destination):
            shutil.copy2(present, destination, follow_symlinks=False)


@lru_cache(maxsize=4096)
def _described(executable: bool, destination: str, mode: int, owner: str, step: int, sources: tuple[str, ...]) -> str:
    """A file's entry in the manifest after its digest; the same for many files, so made once."""
    entry: dict[str, Any] = {"mode": "0755" if executable else "0644"}
    if destination:
        entry |= {"mode": f"{mode:04o}", "destination": destination, "owner": owner, "step": step}
    if executable:
        entry["executable"] = True
    return compact_json(entry | {"from": sources})[1:]


def _keeps_modes(staging: Path) -> bool:
    """Whether the file system keeps the x bit; FAT gives every file the same, and there it is neither written nor compared."""
    bits = []
    for mode in (0o600, 0o700):
        probe = staging / f"probe-{mode}"
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
        bits.append(bool(probe.stat().st_mode & stat.S_IXUSR))
        probe.unlink()
    return bits == [False, True]


def _holds(path: str, data: bytes) -> bool:
    """Whether the file at *path*, known to be regular and as long, holds *data*."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        read = os.read(handle, len(data) + 1)
        while len(read) < len(data) and (more := os.read(handle, len(data) - len(read))):
            read += more
    finally:
        os.close(handle)
    return read == data


def linked(present: str, destination: str) -> bool:
    """Whether *destination* is now a second name of *present*; file systems without hard links say no."""
    try:
        os.link(present, destination, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV):
            return False
        raise
    return True


def walk(root: Path) -> Iterator[str]:
    """Paths of all files below *root*, relative, sorted; links and other odd things count as files."""
    stack = [""]
    while stack:
        prefix = stack.pop()
        with os.scandir(root / prefix) as entries:
            found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
        yield from (prefix + name for name, is_folder in found if not is_folder)
        stack += [f"{prefix}{name}/" for name, is_folder in reversed(found) if is_folder]


def in_overlay(path: str) -> bool:
    """Whether *path*, relative to a bundle, lies in an overlay that git ignores."""
    parts = path.split("/", 3)
    return len(parts) > 3 and parts[0] == "hosts" and parts[2] in OVERLAYS


def is_signature(path: str) -> bool:
    """Whether *path*, relative to a bundle, is where the signature of sums stands: at the top, in a host's folder, or in an overlay."""
    parts = path.split("/")
    hosts, overlay = len(parts) in (3, 4) and parts[0] == "hosts", len(parts) < 4 or parts[2] in OVERLAYS
    return parts[-1] == SIGNATURE and (len(parts) == 1 or (hosts and overlay))


def signed_by(path: str) -> tuple[str, ...]:
    """What the signature at *path* covers (``generator.signature``): the sums beside it, in an overlay those of its host too."""
    folder = path.removesuffix(SIGNATURE)
    return (f"{folder[: folder.rstrip('/').rindex('/') + 1]}{SUMS}", folder + SUMS) if in_overlay(path) else (folder + SUMS,)


def digest_of(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
