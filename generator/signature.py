"""What a signature covers, and where it stands: ``SHA256SUMS.sig`` beside the sums that make a bundle, a host's folder or an overlay whole.

``ssh-keygen -Y sign -n stowage`` makes it (PROTOCOL.sshsig of OpenSSH); running that is for the command line.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from generator.bundle import OVERLAYS, SIGNATURE, SUMS

NAMESPACE = "stowage"


def statements(folder: Path) -> Iterator[tuple[str, bytes]]:
    """
    Where in *folder* signatures belong, relative to it, and what each is a signature of.

    *folder* is a bundle, the folder of one host, or what ``stowage pack`` made.  The sums of an overlay are signed with those of its host
    before them: so they can't stand in for another host's, whose names and addresses its own sums cover.  Sums that aren't there, or are no
    regular file, are left out: ``verify`` names them.  Raises OSError.
    """
    top = _read(folder / SUMS)
    if top is not None:
        yield SIGNATURE, top
    if (folder / "host.env").is_file():
        yield from _overlays(folder, "", top)
    elif (folder / "hosts").is_dir():
        for host in sorted(path.name for path in (folder / "hosts").iterdir() if path.is_dir() and not path.is_symlink()):
            prefix = f"hosts/{host}/"
            sums = _read(folder / prefix / SUMS)
            if sums is not None:
                yield prefix + SIGNATURE, sums
                yield from _overlays(folder, prefix, sums)


def _overlays(folder: Path, prefix: str, host: bytes | None) -> Iterator[tuple[str, bytes]]:
    for overlay in OVERLAYS:
        root = folder / prefix / overlay
        sums = None if root.is_symlink() else _read(root / SUMS)
        if host is not None and sums is not None:
            yield f"{prefix}{overlay}/{SIGNATURE}", host + f"overlay {overlay}\n".encode() + sums


def _read(path: Path) -> bytes | None:
    """Bytes of a regular file; a pipe in its place would be waited for without end."""
    try:
        return path.read_bytes() if stat.S_ISREG(path.lstat().st_mode) else None
    except (FileNotFoundError, NotADirectoryError):
        return None


def write(folder: Path, signatures: Mapping[str, bytes]) -> None:
    """Put *signatures*, by their paths below *folder*, there; raises OSError."""
    for path, data in signatures.items():
        # A new file: the one in place may be a second name of a file in another bundle.
        (folder / path).unlink(missing_ok=True)
        handle = os.open(folder / path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if "secrets" in path.split("/") else 0o666)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
