"""
Archives of a bundle's hosts for the trip: one a host, reproducible, in parts that a medium holds, with sums over all and ``join.sh``.

An archive is USTAR (pax(1p)) and is streamed: a file is read once, in pieces, and what was read must have the digest that the bundle's own
sums say; nothing is ever held whole.  The same bundle gives the same tar stream everywhere, and the same compressed bytes with the same
release of the compressing library.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import stat
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, cast

from generator import resources, sbom, swap
from generator.bundle import MANIFEST, OVERLAYS, SIGNATURE, SUMS, BundleError, digest_of, walk
from generator.emit import indented_json
from generator.verify import Entries, entries, parsed
from generator.wording import said

ENDINGS = {"gzip": ".tar.gz", "zstd": ".tar.zst", "none": ".tar"}
JOIN = "join.sh"
MAX_PARTS = 999

# Fixed: another level is other bytes.
_GZIP_LEVEL, _ZSTD_LEVEL = 6, 3
# What eleven octal digits of a USTAR header hold (pax(1p), ustar Interchange Format).
_MAX_SIZE = 8 << 30
_PIECE = 1 << 20
_OURS = re.compile(rf"{re.escape(JOIN)}|{SUMS}(\.sig)?|\.gitignore|.+\.part-[0-9]{{3}}")


class NotAsBuiltError(Exception):
    """The bundle is not as it was compiled; the argument names the first file that isn't, as ``verify`` does."""


@dataclass(frozen=True)
class Packed:
    """One archive: its *host*, the names of its *parts* and their *size* in bytes together."""

    host: str
    parts: tuple[str, ...]
    size: int


@dataclass(frozen=True)
class Trip:
    """How to pack: what compresses, the size of a part in bytes, and what provenance can't read off the bundle."""

    compression: str
    volume: int
    commit: str
    created: str


def pack(bundle: Path, out: Path, hosts: Sequence[str], trip: Trip) -> Iterator[Packed]:
    """
    Pack *hosts* of the bundle at *bundle* (all, where it is empty) into *out*, which is replaced as a whole after the last one.

    Yields each archive when it is written.  Raises :class:`NotAsBuiltError`, or :class:`BundleError` where *out* holds files of somebody
    else's, a name or a size is too long for USTAR, or reading or writing fails; *out* is as it was then.
    """
    packing = _Packing(bundle, entries(bundle), trip)
    unknown = sorted(set(hosts) - set(packing.hosts))
    if unknown:
        raise BundleError(said("{bundle}: no host {host}", bundle=bundle, host=unknown[0]), "`stowage pack` without --host packs all")
    try:
        with swap.staging(out, _is_ours) as staging:
            if os.path.lexists(out) and not _is_ours(out):
                raise BundleError(said("{folder}: holds what stowage did not pack", folder=out), "choose another directory with --output")
            # The archives hold secrets.
            staging.chmod(0o700)
            (staging / ".gitignore").write_text("*\n", encoding="utf-8", newline="\n")
            sums: dict[str, str] = {}
            for host in hosts or packing.hosts:
                packed, digests = packing.archive(host, staging)
                sums |= digests
                yield packed
            (staging / JOIN).write_text(resources.text("templates/media/join.sh"), encoding="utf-8", newline="\n")
            sums |= {name: digest_of(staging / name) for name in (".gitignore", JOIN)}
            (staging / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())), newline="\n")
            swap.exchange(staging, out)
    except swap.BusyError:
        raise BundleError(
            said("{folder}: another stowage is writing here", folder=out.parent), "wait for it to end, then run this again"
        ) from None
    except OSError as error:
        raise BundleError(f"{error.filename or out}: {error.strerror or error}", "what was packed before, if anything, is whole") from error


def _is_ours(out: Path) -> bool:
    """Whether *out* is a folder with nothing in it but what is written here."""
    return not out.is_symlink() and out.is_dir() and all(_OURS.fullmatch(entry.name) and entry.is_file() for entry in out.iterdir())


@dataclass(frozen=True)
class _Member:
    """One file of an archive: where it is read, the digest that it must have, its mode, and how a message names it."""

    source: Path
    digest: str
    mode: int
    named: str


class _Sink(Protocol):
    def write(self, data: bytes, /) -> object: ...


class _Tar:
    """A USTAR stream: owned by root, of one time, so that nothing of this machine is in it."""

    # 1980-01-01: no older one can stand on FAT.
    MTIME = 315_532_800

    def __init__(self, stream: _Sink) -> None:
        self.stream = stream

    def add_bytes(self, path: str, data: bytes) -> None:
        self._head(path, len(data), 0o644)
        self.stream.write(data)
        self._end(len(data))

    def add_folder(self, path: str, mode: int) -> None:
        self._head(path, 0, mode, tarfile.DIRTYPE)

    def add_file(self, path: str, member: _Member) -> None:
        """*member* as *path*; raises :class:`NotAsBuiltError` where it isn't the file that the sums name."""
        changed = NotAsBuiltError(said("changed: {path}", path=member.named))
        if not stat.S_ISREG(member.source.lstat().st_mode):
            raise changed
        with member.source.open("rb") as file:
            size = left = os.fstat(file.fileno()).st_size
            self._head(path, size, member.mode)
            digest = hashlib.sha256()
            while left and (piece := file.read(min(_PIECE, left))):
                digest.update(piece)
                self.stream.write(piece)
                left -= len(piece)
        if left or digest.hexdigest() != member.digest:
            raise changed
        self._end(size)

    def close(self) -> None:
        """Two empty blocks end an archive."""
        self.stream.write(bytes(2 * tarfile.BLOCKSIZE))

    def _head(self, path: str, size: int, mode: int, kind: bytes = tarfile.REGTYPE) -> None:
        if size >= _MAX_SIZE:
            raise BundleError(
                said("{path}: larger than the 8 GiB that a USTAR archive can hold of one file", path=path),
                "split it, or carry the folder itself",
            )
        info = tarfile.TarInfo(path)
        info.size, info.mode, info.type, info.mtime = size, mode, kind, self.MTIME
        try:
            header = info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "surrogateescape")
        except ValueError:
            raise BundleError(
                said("{path}: too long a name for a USTAR archive", path=path), "shorten it (100 bytes, and 155 for its folders)"
            ) from None
        self.stream.write(header)

    def _end(self, size: int) -> None:
        self.stream.write(bytes(-size % tarfile.BLOCKSIZE))


class _Parts:
    """A stream into ``name.part-001``, ``name.part-002``, ... of *volume* bytes each, hashed as they are written."""

    def __init__(self, folder: Path, name: str, volume: int) -> None:
        self.folder, self.name, self.volume = folder, name, volume
        self.digests: dict[str, str] = {}
        self.size = self.room = 0
        self.file: IO[bytes] | None = None
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        rest = memoryview(data)
        while rest:
            if not self.room:
                self._next()
            assert self.file is not None
            piece = rest[: self.room]
            self.file.write(piece)
            self.digest.update(piece)
            self.size += len(piece)
            self.room -= len(piece)
            rest = rest[len(piece) :]
        return len(data)

    def flush(self) -> None:
        """Nothing to do: what compresses asks for it at its end."""

    def close(self) -> None:
        """The part that is open is complete."""
        if self.file is not None:
            self.file.close()
            self.digests[Path(self.file.name).name] = self.digest.hexdigest()
            self.file = None

    def _next(self) -> None:
        self.close()
        if len(self.digests) == MAX_PARTS:
            raise BundleError(said("{name}: more than {parts} parts", name=self.name, parts=MAX_PARTS), "choose a larger --volume-size")
        self.file = (self.folder / f"{self.name}.part-{len(self.digests) + 1:03}").open("xb")
        # For when it is copied out of its folder.
        os.fchmod(self.file.fileno(), 0o600)
        self.digest, self.room = hashlib.sha256(), self.volume


@contextmanager
def _compressing(kind: str, parts: _Parts) -> Iterator[_Sink]:
    """A stream whose bytes go compressed into *parts*: nothing of the clock or the machine is in it."""
    if kind == "none":
        yield parts
    elif kind == "gzip":
        with gzip.GzipFile("", "wb", _GZIP_LEVEL, cast("IO[bytes]", parts), mtime=0) as stream:
            yield stream
    else:
        import zstandard  # takes 10 ms, which most commands need not

        with zstandard.ZstdCompressor(_ZSTD_LEVEL, write_checksum=True).stream_writer(cast("IO[bytes]", parts), closefd=False) as stream:
            yield stream


class _Packing:
    def __init__(self, bundle: Path, manifest: Entries, trip: Trip) -> None:
        self.bundle, self.manifest, self.trip = bundle, manifest, trip
        self.sums = _sums_bytes(bundle / SUMS, SUMS)
        self.stated = parsed(self.sums)
        if self.stated.get(MANIFEST) != digest_of(bundle / MANIFEST):
            raise NotAsBuiltError(said("changed: {path}", path=MANIFEST))
        self.hosts = sorted({path.split("/")[1] for path in manifest if path.startswith("hosts/") and path.count("/") > 1})
        self.about = _about(bundle)

    def archive(self, host: str, staging: Path) -> tuple[Packed, dict[str, str]]:
        """Write the archive of *host* into *staging*; returns it with the digests of its parts."""
        name = f"{self.about['cluster']}_{host}"
        parts = _Parts(staging, f"{name}{ENDINGS[self.trip.compression]}", self.trip.volume)
        members = self._members(host)
        folders = {f"{host}/{path[: at.start()]}" for path in members for at in re.finditer("/", path)} | {host}
        with closing(parts), _compressing(self.trip.compression, parts) as stream:
            tar = _Tar(stream)
            for file, text in sorted(self._about_archive(host, name, members).items()):
                tar.add_bytes(file, text.encode())
            for path in sorted({*folders, *(f"{host}/{path}" for path in members)}):
                if path in folders:
                    tar.add_folder(path, 0o700 if f"{path}/".startswith(f"{host}/secrets/") else 0o755)
                else:
                    tar.add_file(path, members[path.removeprefix(f"{host}/")])
            tar.close()
        return Packed(host, tuple(parts.digests), parts.size), parts.digests

    def _members(self, host: str) -> dict[str, _Member]:
        """The files of *host* by their paths in its folder; what is missing or extra ends it here, what is changed when it is read."""
        root, prefix = self.bundle / "hosts" / host, f"hosts/{host}/"
        wanted = {path.removeprefix(prefix): entry["sha256"] for path, entry in self.manifest.items() if path.startswith(prefix)}
        sums = _sums_bytes(root / SUMS, prefix + SUMS)
        changed = said("changed: {path}", path=prefix + SUMS)
        if hashlib.sha256(sums).hexdigest() != self.stated.get(prefix + SUMS) or parsed(sums) != wanted:
            raise NotAsBuiltError(changed)
        wanted[SUMS] = self.stated[prefix + SUMS]
        modes = {path: 0o755 for path in wanted if self.manifest.get(prefix + path, {}).get("executable")}
        for overlay in OVERLAYS:
            if (root / overlay).is_dir() and not (root / overlay).is_symlink():
                sums = _sums_bytes(root / overlay / SUMS, f"{prefix}{overlay}/{SUMS}")
                wanted |= {f"{overlay}/{path}": digest for path, digest in parsed(sums).items()}
                wanted[f"{overlay}/{SUMS}"] = hashlib.sha256(sums).hexdigest()
        present = set(walk(root))
        for path in (f"{folder}{SIGNATURE}" for folder in ("", *(f"{overlay}/" for overlay in OVERLAYS))):
            if path in present:
                wanted[path] = digest_of(root / path)
        for path in sorted(present ^ set(wanted)):
            text = said("extra: {path}", path=prefix + path) if path in present else said("missing: {path}", path=prefix + path)
            raise NotAsBuiltError(text)
        return {
            path: _Member(root / path, digest, 0o600 if path.startswith("secrets/") else modes.get(path, 0o644), prefix + path)
            for path, digest in wanted.items()
        }

    def _about_archive(self, host: str, name: str, members: Mapping[str, _Member]) -> dict[str, str]:
        """Provenance and the list of the payload: what stands beside the host's folder."""
        digests = {path: member.digest for path, member in members.items()}
        provenance = {
            "stowageProvenance": 1,
            "tool": self.about["tool"],
            "cluster": self.about["cluster"],
            "host": host,
            "lock": self.about["lock"],
            **({"commit": self.trip.commit} if self.trip.commit else {}),
            # Not those of secrets/: a digest of eight letters gives them away.
            "sha256": {
                SUMS: hashlib.sha256(self.sums).hexdigest(),
                **{f"hosts/{host}/{path}": digests[path] for path in (SUMS, f"payload/{SUMS}") if path in digests},
            },
        }
        payload = {path.removeprefix("payload/"): digest for path, digest in digests.items() if path.startswith("payload/")}
        for path in (SUMS, SIGNATURE):
            payload.pop(path, None)
        listed = sbom.document(
            sbom.About(name, self.about["tool"], self.trip.created, _system(self.bundle / "hosts" / host)),
            payload,
            (self.bundle / "hosts" / host / "images.txt").read_text(encoding="utf-8").splitlines(),
        )
        return {f"{name}.provenance.json": indented_json(provenance), f"{name}.spdx.json": indented_json(listed)}


def _about(bundle: Path) -> dict[str, str]:
    """What the manifest says of the whole bundle."""
    head = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    return {key: str(head[key]) for key in ("tool", "cluster", "lock")}


def _system(host: Path) -> str:
    """The operating system of a host, such as ``rocky-9``, as its ``host.env`` has it."""
    names = dict(line.partition("=")[::2] for line in (host / "host.env").read_text(encoding="utf-8").splitlines())
    return "{}-{}".format(*(names.get(name, "").strip("'") for name in ("OS_ID", "OS_VERSION")))


def _sums_bytes(path: Path, named: str) -> bytes:
    """The bytes of sums, read once: what is packed is what was compared."""
    if not path.is_file() or path.is_symlink():
        raise NotAsBuiltError(said("missing: {path}", path=named))
    return path.read_bytes()
