"""
Which of the files that a person names are which: by name and place, else by what stands in them.

A folder is one host's set when it holds files, or a host's root (``etc/``, ``usr/`` ...); a folder of such folders is several hosts' sets,
each named after its folder, or after ``etc/hostname`` in it.  A file named by itself belongs to no host, unless a folder of its path is
called ``etc``: then the one above it is the host.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

from generator.diagnostics import Diagnostic, Position
from generator.handwritten import File, Files, Kind, documents, hosts, keepalived, nginx, scripts, units
from generator.source import MAX_BYTES, Source
from generator.wording import said

# More than these is no set of configuration files, but a whole disk.
MAX_FILES = 5_000
MAX_DEPTH = 40
# Manifests are large; what people write by hand is not.
MAX_TEXT = 512 * 1024

_ROOT = frozenset(("etc", "usr", "opt", "root", "var", "lib", "srv", "home"))
_READERS = {"nginx": nginx.read, "keepalived": keepalived.read, "unit": units.read, "hosts": hosts.read, "script": scripts.read}
# A name says more than the text; the first that matches counts.
_BY_NAME: tuple[tuple[str, Kind], ...] = (
    (r"\.(ya?ml|json)$", "yaml"),
    (r"\.(service|timer|socket|target|mount|slice|path)(\.d/[^/]+\.conf)?$", "unit"),
    (r"(^|/)hosts$", "hosts"),
    (r"\.(sh|bash)$", "script"),
    (r"(^|/)keepalived[^/]*\.conf$", "keepalived"),
    (r"(^|/)nginx[^/]*\.conf$", "nginx"),
)
_BY_TEXT: tuple[tuple[str, Kind], ...] = (
    (r"\A#!.*\b(sh|bash|dash|ash|ksh|zsh)\b", "script"),
    (
        r"^[ \t]*(global_defs|vrrp_instance|vrrp_script|vrrp_sync_group|virtual_server|virtual_server_group|vrrp_track_process)\b",
        "keepalived",
    ),
    (r"^[ \t]*(sudo[ \t]+)?(kubeadm|kubectl|systemctl)[ \t]+[a-z]", "script"),
    (r"^[ \t]*(stream|http|events|upstream[ \t]+\S+|server|load_module|worker_processes)\b[^\n]*[{;]", "nginx"),
    (r"^\[(Unit|Service|Install)\]", "unit"),
    (r"^(apiVersion|kind):", "yaml"),
)
# The first line that is neither empty nor a comment.
_HOSTS = re.compile(r"([0-9]{1,3}(\.[0-9]{1,3}){3}|[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)[ \t]+[A-Za-z0-9]")


class UnreadableError(Exception):
    """A path can't be read; its text says which, *remedy* what to do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


def read(paths: Iterable[Path]) -> Files:
    """Every file at and below *paths* that some reader knows.  Raises :class:`UnreadableError`."""
    files: list[File] = []
    skipped: list[str] = []
    seen: set[Path] = set()
    for path in paths:
        for one, host, place in _found(path):
            if one in seen:
                continue
            seen.add(one)
            if len(seen) > MAX_FILES:
                what = said("{path}: more than {count} files", path=path, count=MAX_FILES)
                raise UnreadableError(what, "name the configuration files, or a folder that holds them alone")
            file = _file(one, host, place)
            if file is None:
                skipped.append(str(one))
            else:
                files.append(file)
    return Files(files, skipped)


def _found(path: Path) -> Iterator[tuple[Path, str, str]]:
    """Files at *path*, each with its host and its place there."""
    if path.is_dir():
        root = _root(path)
        yield from _below(path, _host(root) if root else "", root)
    elif path.exists():
        yield (path, *_by_itself(path))
    else:
        raise UnreadableError(said("{path}: No such file or directory", path=path), "name configuration files, or a folder of them")


def _by_itself(path: Path) -> tuple[str, str]:
    root = _above_etc(path)
    return (_host(root), "/" + PurePosixPath(path.absolute().relative_to(root)).as_posix()) if root else ("", path.name)


def _above_etc(path: Path) -> Path | None:
    """The root of the host whose ``etc`` *path* is or stands in."""
    parts = path.absolute().parts
    return Path(*parts[: len(parts) - 1 - parts[::-1].index("etc")]) if "etc" in parts else None


def _root(folder: Path) -> Path | None:
    """The root of the host that *folder* is the whole of, or a part of ``etc`` of; None where it is neither."""
    entries = [entry for entry in _entries(folder) if entry.is_dir()]
    if any(entry.name in _ROOT for entry in entries):
        return folder
    # A collection of hosts may be kept below /etc, too.
    collection = any(child.name == "etc" for entry in entries for child in _entries(entry))
    return None if collection else _above_etc(folder)


def _host(root: Path) -> str:
    """What a host's root says its name is, else what its folder is called; a bundle's ``rootfs`` is in the folder of its host."""
    name = root / "etc" / "hostname"
    with suppress(OSError):
        words = name.read_text(encoding="utf-8", errors="replace").split() if name.is_file() and name.stat().st_size < 1024 else []
        if words:
            return words[0]
    full = root.resolve()
    return (full.parent if full.name == "rootfs" else full).name


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith(".git"))
    except OSError as error:
        raise UnreadableError(f"{folder}: {error.strerror}", "see that you may read it") from None


def _below(folder: Path, host: str, root: Path | None, depth: int = 0) -> Iterator[tuple[Path, str, str]]:
    if depth > MAX_DEPTH:
        return
    for entry in _entries(folder):
        if entry.is_dir() and not entry.is_symlink():
            inner = root or _root(entry)
            # Below a folder of folders, one that holds files is one host's.
            named = host or (_host(inner) if inner else entry.name if any(child.is_file() for child in _entries(entry)) else "")
            yield from _below(entry, named, inner, depth + 1)
        elif entry.is_file():
            yield entry, host, "/" + PurePosixPath(entry.absolute().relative_to(root.absolute())).as_posix() if root else entry.name


def _file(path: Path, host: str, place: str) -> File | None:
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise UnreadableError(f"{path}: {error.strerror}", "see that you may read it") from None
    name = str(path)
    if b"\0" in raw[:4096] and not raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return None
    text = raw.decode("utf-8", errors="surrogateescape").removeprefix("\ufeff").replace("\r\n", "\n")
    kind = _kind(place, text[:65536])
    if kind is None:
        return None
    source = Source(name, text)
    problem = _not_text(kind, raw, text)
    if problem is not None:
        return File(source, kind, host, place, problems=(problem,))
    if kind == "yaml":
        parsed, problems = documents.read(source)
        return File(source, kind, host, place, documents=parsed, problems=problems)
    root, problems = keepalived.read(source, host) if kind == "keepalived" else _READERS[kind](source)
    return File(source, kind, host, place, root=root, problems=problems)


def _not_text(kind: Kind, raw: bytes, text: str) -> Diagnostic | None:
    most = MAX_BYTES if kind == "yaml" else MAX_TEXT
    if len(raw) > most:
        what = said("file is larger than {size} KiB", size=most // 1024)
        return Diagnostic("SRC002", "error", what, (), "check that this is the right file", position=Position(1, 1))
    # What could not be decoded.
    found = re.search("[\udc80-\udcff]", text)
    if found is None:
        return None
    before = text[: found.start()]
    what = said("byte 0x{byte:02x} is not UTF-8", byte=ord(found[0]) - 0xDC00)
    at = Position(before.count("\n") + 1, len(before) - before.rfind("\n"))
    return Diagnostic("SRC001", "error", what, (), "save the file as UTF-8", position=at)


def _kind(place: str, text: str) -> Kind | None:
    """The kind of a file at *place* that begins with *text*; None for one that nobody here reads."""
    named = (kind for pattern, kind in _BY_NAME if re.search(pattern, place))
    found = next(named, None) or next((kind for pattern, kind in _BY_TEXT if re.search(pattern, text, re.MULTILINE)), None)
    if found is None:
        lines = (line.strip() for line in text.split("\n"))
        if _HOSTS.match(next((line for line in lines if line and not line.startswith("#")), "")):
            return "hosts"
    return found
