"""The bundle on disk: streamed, hashed, swapped in whole, or read back and checked.

A bundle is written to a sibling directory and exchanged with the one in place in one step, so that at any moment, after any failure and
any kill, a whole bundle stands there.  A file that is right already is not touched: it moves along as a hard link.  This module is the only
one of the compiler that writes.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import filecmp
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from generator.artifacts import File
from generator.emit import compact_json

FORMAT = 1
MANIFEST, SUMS = "manifest.json", "SHA256SUMS"
OVERLAYS = ("secrets", "payload")
_SHARED_TEXTS = 512


class BundleError(Exception):
    """Nothing was written, and why; *remedy* says what to do."""

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


def write(out: Path, name: str, about: Mapping[str, Any], files: Iterable[File], secrets: Mapping[str, Mapping[str, bytes]]) -> Written:
    """
    Write the bundle *name* below *out* and return what changed.

    *about* is the head of the manifest; *files* are consumed as they come, a host's together.  *secrets* maps a host's name to its secret
    files; a host that isn't in it keeps the overlay that is there.  Raises :class:`BundleError` with the former bundle whole.
    """
    target, staging, former = out / name, out / f".{name}.stowage-new", out / f".{name}.stowage-old"
    try:
        out.mkdir(parents=True, exist_ok=True)
        with _only_writer(out):
            _recover(target, staging, former)
            _refuse_strangers(target)
            staging.mkdir()
            try:
                written = _Writer(target, staging).run(about, files, secrets)
                if written.touched:
                    _exchange(staging, target, former)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        where = error.filename or out
        raise BundleError(f"{where}: {error.strerror or error}", _REMEDIES.get(error.errno or 0, "nothing was changed")) from error
    return written


_REMEDIES = {
    errno.ENOSPC: "the disk is full; nothing was changed",
    errno.EACCES: "choose another directory with --output, or mend its rights; nothing was changed",
    errno.EROFS: "the file system is read-only: choose another directory with --output",
    errno.EXDEV: "this file system can't swap directories (an overlay's lower layer?): choose another directory with --output",
}


@contextmanager
def _only_writer(out: Path) -> Iterator[None]:
    """One writer at a time below *out*; the lock goes with the process, whatever ends it."""
    handle = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise BundleError(f"{out}: another stowage is writing here", "wait for it to end, then run this again") from None
    finally:
        os.close(handle)


def _recover(target: Path, staging: Path, former: Path) -> None:
    """Put right what a killed run left behind."""
    if former.exists():
        if target.exists():
            shutil.rmtree(former)
        else:
            former.rename(target)
    if staging.exists():
        shutil.rmtree(staging)


def _refuse_strangers(target: Path) -> None:
    if not target.exists() and not target.is_symlink():
        return
    ours = False
    if target.is_dir() and not target.is_symlink():
        try:
            with (target / MANIFEST).open(encoding="utf-8") as manifest:
                ours = manifest.readline().startswith('{"stowage": ')
        except (OSError, UnicodeDecodeError):
            ours = False
    if not ours:
        remedy = "move it away, or choose another directory with --output: only what stowage made is ever replaced"
        raise BundleError(f"{target}: not a bundle of stowage's", remedy)


@dataclass
class _Writer:
    """One pass over the files into *staging*, beside the bundle in *target*."""

    target: Path
    staging: Path
    made: set[str] = field(default_factory=set)
    texts: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    count: int = 0
    added: int = 0
    changed: int = 0
    seen: set[str] = field(default_factory=set)

    def run(self, about: Mapping[str, Any], files: Iterable[File], secrets: Mapping[str, Mapping[str, bytes]]) -> Written:
        manifest, sums = self.staging / MANIFEST, self.staging / SUMS
        with manifest.open("w", encoding="utf-8", newline="\n") as listing, sums.open("w", encoding="utf-8", newline="\n") as total:
            listing.write(f'{{"stowage": {FORMAT},\n')
            listing.writelines(f" {compact_json(key)}: {compact_json(value)},\n" for key, value in about.items())
            listing.write(' "files": [')
            self._files(files, listing, total)
            listing.write("\n]}\n")
            listing.flush()
            total.write(f"{_digest_of(manifest)}  {MANIFEST}\n")
        for name in (MANIFEST, SUMS):
            self._settle(name)
        self._overlays(secrets)
        gone = sum(1 for path in _walk(self.target) if path not in self.seen) if self.target.exists() else 0
        return Written(self.target, self.count, self.added, self.changed, gone)

    def _files(self, files: Iterable[File], listing: TextIO, total: TextIO) -> None:
        separator, host, lines = "\n", "", []
        for file in files:
            folder = file.path.split("/", 2)[1] if file.path.startswith("hosts/") else ""
            if folder != host:
                self._host_sums(host, lines, total)
                host, lines = folder, []
            data, digest = self._bytes(file.text)
            self._put(file.path, data, executable=file.executable)
            listing.write(f"{separator}  {_manifest_line(file, digest)}")
            separator = ",\n"
            total.write(f"{digest}  {file.path}\n")
            if host:
                lines.append(f"{digest}  {file.path.split('/', 2)[2]}\n")
        self._host_sums(host, lines, total)

    def _host_sums(self, host: str, lines: list[str], total: TextIO) -> None:
        if host:
            path = f"hosts/{host}/{SUMS}"
            data = "".join(sorted(lines, key=lambda line: line[66:])).encode()
            self._put(path, data, executable=False)
            total.write(f"{hashlib.sha256(data).hexdigest()}  {path}\n")

    def _bytes(self, text: str) -> tuple[bytes, str]:
        """Bytes and digest of *text*; texts that many hosts share are encoded and hashed once."""
        known = self.texts.get(text)
        if known is None:
            if len(self.texts) >= _SHARED_TEXTS:
                self.texts.clear()
            data = text.encode()
            known = self.texts[text] = (data, hashlib.sha256(data).hexdigest())
        return known

    def _put(self, path: str, data: bytes, *, executable: bool, mode: int | None = None) -> None:
        """*data* at *path* in staging: a link to the file in place where that is right already, else a new file."""
        self.seen.add(path)
        self.count += 1
        destination, present = f"{self.staging}/{path}", f"{self.target}/{path}"
        self._folder(path, 0o700 if mode else 0o777)
        status = _same(present, data, executable=executable, mode=mode)
        if status == "same" and _linked(present, destination):
            return
        if status == "absent":
            self.added += 1
        elif status == "different":
            self.changed += 1
        handle = os.open(destination, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode or (0o777 if executable else 0o666))
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(handle, view) :]
        finally:
            os.close(handle)

    def _folder(self, path: str, mode: int) -> None:
        folder = path.rpartition("/")[0]
        if folder and folder not in self.made:
            self._folder(folder, 0o777)
            os.mkdir(f"{self.staging}/{folder}", mode)
            self.made.add(folder)

    def _settle(self, name: str) -> None:
        """Count a file that was streamed into staging, and take the one in place where it is the same."""
        self.seen.add(name)
        self.count += 1
        fresh, present = self.staging / name, self.target / name
        if not present.exists():
            self.added += 1
        elif filecmp.cmp(fresh, present, shallow=False):
            fresh.unlink()
            if not _linked(str(present), str(fresh)):
                shutil.copy2(present, fresh)
        else:
            self.changed += 1

    def _overlays(self, secrets: Mapping[str, Mapping[str, bytes]]) -> None:
        """New secrets where there are any; what else lies in an overlay of a host that still exists moves along."""
        for host, entries in secrets.items():
            lines = []
            for name, data in sorted(entries.items()):
                self._put(f"hosts/{host}/secrets/{name}", data, executable=False, mode=0o600)
                lines.append(f"{hashlib.sha256(data).hexdigest()}  {name}\n")
            self._put(f"hosts/{host}/secrets/{SUMS}", "".join(lines).encode(), executable=False, mode=0o600)
        for path in list(_walk(self.target)) if self.target.exists() else []:
            _, host, overlay = path.split("/")[:3] if _in_overlay(path) else ("", "", "")
            if f"hosts/{host}" in self.made and not (overlay == "secrets" and host in secrets):
                self.seen.add(path)
                self._carry(path)

    def _carry(self, path: str) -> None:
        self._folder(path, stat.S_IMODE((self.target / path).parent.stat().st_mode))
        present, destination = f"{self.target}/{path}", f"{self.staging}/{path}"
        if not _linked(present, destination):
            shutil.copy2(present, destination, follow_symlinks=False)


def _manifest_line(file: File, digest: str) -> str:
    entry: dict[str, Any] = {"path": file.path, "sha256": digest, "mode": "0755" if file.executable else "0644"}
    if file.destination:
        entry |= {"destination": file.destination, "mode": f"{file.mode:04o}", "owner": file.owner, "step": file.step}
    if file.executable:
        entry["executable"] = True
    entry["from"] = file.sources
    return compact_json(entry)


def _same(path: str, data: bytes, *, executable: bool, mode: int | None) -> str:
    """Whether *path* is a regular file with *data* and the right x bit: ``same``, ``different`` or ``absent``."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return "absent"
    right_mode = stat.S_IMODE(status.st_mode) == mode if mode else bool(status.st_mode & stat.S_IXUSR) is executable
    if not stat.S_ISREG(status.st_mode) or status.st_size != len(data) or not right_mode:
        return "different"
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        read = os.read(handle, len(data) + 1)
        while len(read) < len(data) and (more := os.read(handle, len(data))):
            read += more
    finally:
        os.close(handle)
    return "same" if read == data else "different"


def _linked(present: str, destination: str) -> bool:
    """Whether *destination* is now a second name of *present*; file systems without hard links say no."""
    try:
        os.link(present, destination, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV):
            return False
        raise
    return True


def _walk(root: Path) -> Iterator[str]:
    """Paths of all files below *root*, relative, sorted; links and other odd things count as files."""
    stack = [""]
    while stack:
        prefix = stack.pop()
        with os.scandir(root / prefix) as entries:
            for entry in sorted(entries, key=lambda e: e.name, reverse=True):
                path = f"{prefix}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    stack.append(f"{path}/")
                else:
                    yield path


def _in_overlay(path: str) -> bool:
    parts = path.split("/")
    return len(parts) > 3 and parts[0] == "hosts" and parts[2] in OVERLAYS


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_RENAME_EXCHANGE = 2
_AT_FDCWD = -100


def _exchange(staging: Path, target: Path, former: Path) -> None:
    """Swap the two directories in one step; where the file system can't, by two renames that :func:`_recover` can finish."""
    if not target.exists():
        staging.rename(target)
        return
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is not None and rename(_AT_FDCWD, bytes(staging), _AT_FDCWD, bytes(target), _RENAME_EXCHANGE) == 0:
        return
    target.rename(former)
    try:
        staging.rename(target)
    except OSError:
        former.rename(target)
        raise
    shutil.rmtree(former)


def verify(bundle: Path) -> list[str]:
    """
    What is wrong with the bundle at *bundle*: one line for each changed, missing or extra file, and each wrong x bit.

    Empty when it is as it was compiled.  Raises :class:`BundleError` where there is no readable manifest.
    """
    try:
        manifest = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
        entries = {entry["path"]: entry for entry in manifest["files"]}
        known = manifest["stowage"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = getattr(error, "strerror", None) or "not a manifest of stowage's"
        raise BundleError(f"{bundle / MANIFEST}: {reason}", "name the folder of one cluster, such as out/example") from None
    if not known:
        raise BundleError(
            f"{bundle / MANIFEST}: format {manifest['stowage']}", f"this stowage reads format {FORMAT}: use the one that made it"
        )
    return sorted(_differences(bundle, entries))


def _differences(bundle: Path, entries: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    hosts = sorted({path.split("/")[1] for path in entries if path.startswith("hosts/")})
    sums = [SUMS, *(f"hosts/{host}/{SUMS}" for host in hosts)]
    tracked = {path for path in _walk(bundle) if not _in_overlay(path)}
    expected = {MANIFEST, *sums, *entries}
    yield from (f"extra: {path}" for path in tracked - expected)
    yield from (f"missing: {path}" for path in expected - tracked)
    for path, entry in entries.items():
        file = bundle / path
        if path in tracked and (not file.is_file() or file.is_symlink() or _digest_of(file) != entry["sha256"]):
            yield f"changed: {path}"
        elif path in tracked and bool(file.stat().st_mode & stat.S_IXUSR) is not bool(entry.get("executable")):
            yield f"changed: {path} (x bit)"
    for path in sums:
        if path in tracked:
            yield from _check_sums(bundle, path, entries)
    for host in hosts:
        for overlay in OVERLAYS:
            yield from _check_overlay(bundle, f"hosts/{host}/{overlay}")


def _check_sums(bundle: Path, path: str, entries: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """``SHA256SUMS`` says the same as the manifest."""
    prefix = path.removesuffix(SUMS)
    stated = _read_sums(bundle / path)
    wanted = {p.removeprefix(prefix): entry["sha256"] for p, entry in entries.items() if p.startswith(prefix)}
    others = {name: digest for name, digest in stated.items() if name not in wanted}
    right = all(stated.get(name) == digest for name, digest in wanted.items())
    own = all((bundle / prefix / name).is_file() and _digest_of(bundle / prefix / name) == digest for name, digest in others.items())
    if not right or not own:
        yield f"changed: {path}"


def _read_sums(path: Path) -> dict[str, str]:
    """Digest by path, as ``sha256sum`` writes them."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def _check_overlay(bundle: Path, folder: str) -> Iterator[str]:
    """An overlay answers to the sums inside it."""
    root = bundle / folder
    if not root.is_dir():
        return
    if not (root / SUMS).is_file():
        yield f"missing: {folder}/{SUMS}"
        return
    stated = _read_sums(root / SUMS)
    present = [path for path in _walk(root) if path != SUMS]
    yield from (f"extra: {folder}/{path}" for path in present if path not in stated)
    for name, digest in stated.items():
        if name not in present:
            yield f"missing: {folder}/{name}"
        elif (root / name).is_symlink() or _digest_of(root / name) != digest:
            yield f"changed: {folder}/{name}"
