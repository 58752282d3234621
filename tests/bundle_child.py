"""What test_bundle.py kills: a small bundle written by a process of its own.

``points OUT MODE`` kills a child before each of its calls of the operating system in turn and says, as JSON, what was left each time;
``for-ever OUT`` writes two versions in turns until somebody ends it; ``full OUT`` writes onto a small tmpfs that has ever less room.
"""

# ruff: noqa: T201

from __future__ import annotations

import builtins
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from generator import bundle, resources, swap
from generator.artifacts import File
from generator.verify import verify

NAME = "small"
ABOUT = {"tool": "0", "cluster": NAME}
CALLS = ("open", "write", "close", "mkdir", "link", "rename", "replace", "unlink", "rmdir", "scandir", "lstat", "stat")


def folders(version: str, hosts: tuple[str, ...] = ("one", "two")):
    """A plan as ``artifacts.plan`` yields it; *version* changes some of the files."""
    checker = File("verify.sh", resources.text("templates/scripts/verify.sh"), (), executable=True)
    yield (
        "",
        [File("README.md", f"version {version}\n", ("cluster",)), checker, File(".gitignore", "hosts/*/secrets/\nhosts/*/payload/\n", ())],
    )
    for host in hosts:
        yield (
            f"hosts/{host}",
            [
                checker,
                File("host.env", f"HOST='{host}'\n", ("hosts[].name",)),
                File("rootfs/etc/a", f"{version}\n" * 9, ("cluster",), "/etc/a", 20, mode=0o640),
                File("rootfs/etc/sub dir/ä", "the same\n", ("cluster",), "/etc/sub dir/ä", 20),
                File("rootfs/usr/bin/tool", "#!/bin/sh\n", ("cluster",), "/usr/bin/tool", 20, mode=0o755, executable=True),
                File("files.tsv", f"#{version}\n", ("hosts[]",)),
            ],
        )


def write(out: Path, version: str, secrets: dict[str, dict[str, bytes]] | None = None, **changes):
    """Write the small bundle."""
    return bundle.write(out, NAME, ABOUT, folders(version, **changes), secrets or {})


def overlay(root: Path) -> None:
    """Fill a host's payload by hand, as people do."""
    folder = root / "hosts/one/payload/images"
    folder.mkdir(parents=True)
    (folder / "big.tar").write_bytes(b"payload" * 1000)
    sums = subprocess.run(["sha256sum", "images/big.tar"], cwd=folder.parent, capture_output=True, check=True, text=True).stdout
    (folder.parent / "SHA256SUMS").write_text(sums)


def without_exchange() -> None:
    """As on a file system that refuses RENAME_EXCHANGE."""
    swap._libc = lambda _: None


def without_links() -> None:
    """As on a file system without hard links."""

    def refused(*_, **__):
        raise OSError(errno.EPERM, "Operation not permitted")

    os.link = refused


def killed_before(call: int) -> None:
    """From now on this process is killed before its call number *call* of the operating system."""
    seen = 0

    def counted(function):
        def counting(*arguments, **options):
            nonlocal seen
            seen += 1
            if seen == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return counting

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))
    builtins.open = counted(builtins.open)
    # renameat2 and syncfs; a kill before the next call is one after these.
    found = swap._libc
    swap._libc = lambda name: counted(function) if (function := found(name)) is not None else None


def names(folder: Path) -> list[str]:
    """What lies in *folder*, also hidden."""
    return sorted(path.name for path in folder.iterdir())


def version_of(target: Path) -> str:
    """The version of the bundle in *target* where it is whole, else what is wrong."""
    wrong = verify(target)
    return f"torn: {wrong}" if wrong else (target / "README.md").read_text().split()[1]


def standing(out: Path) -> str:
    """Which version stands in *out* with its payload; ``between`` two renames the old one has its other name."""
    for name, found in ((NAME, ""), (f".{NAME}.stowage-old", "between")):
        if (out / name).exists():
            payload = out / name / "hosts/one/payload/images/big.tar"
            return (found or version_of(out / name)) if payload.is_file() and payload.stat().st_size == 7000 else "payload lost"
    return "none"


def points(out: Path, mode: str) -> dict[str, int]:
    """Kill at every point; returns how often which version stood there, and raises AssertionError where it was none, or a trace stayed."""
    target, found = out / NAME, {}
    for call in count(1):
        shutil.rmtree(out, ignore_errors=True)
        if mode != "first":
            write(out, "old")
            overlay(target)
        child = os.fork()
        if child == 0:
            {"renames": without_exchange, "links": without_links}.get(mode, lambda: None)()
            killed_before(call)
            write(out, "new")
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, -signal.SIGKILL), status
        if mode != "first":
            stood = standing(out)
            assert stood in ("old", "new", "between"), f"call {call}: {stood}"
        else:
            stood = version_of(target) if target.exists() else "none"
            assert stood in ("none", "new"), f"call {call}: {stood}"
        found[stood] = found.get(stood, 0) + 1
        write(out, "new")
        assert names(out) == [NAME], f"call {call}: {names(out)}"
        assert (version_of(target) if mode == "first" else standing(out)) == "new", f"call {call}: {standing(out)}"
        if status == 0:
            return found
    raise AssertionError


def full(out: Path) -> dict[str, int]:
    """Write with ever less room; returns how often it failed, and raises AssertionError where the old bundle suffered."""
    found = {"failed": 0, "written": 0}
    for room in range(0, 160, 4):
        shutil.rmtree(out / "x", ignore_errors=True)
        (out / "filler").unlink(missing_ok=True)
        write(out / "x", "old")
        overlay(out / "x" / NAME)
        left = os.statvfs(out).f_bavail * os.statvfs(out).f_frsize // 1024 - room
        (out / "filler").write_bytes(b"x" * max(0, left) * 1024)
        try:
            write(out / "x", "new")
        except bundle.BundleError as error:
            if "No space left" not in str(error) or "disk is full" not in error.remedy:
                raise
            expected = "old"
            found["failed"] += 1
        else:
            expected = "new"
            found["written"] += 1
        assert standing(out / "x") == expected, f"{room}: {standing(out / 'x')}"
        assert names(out / "x") == [NAME], f"{room}: {names(out / 'x')}"
    return found


if __name__ == "__main__":
    command, folder, *more = sys.argv[1:]
    if command == "points":
        print(json.dumps(points(Path(folder), *more)))
    elif command == "full":
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "small", folder], check=True)
        print(json.dumps(full(Path(folder))))
    else:
        for turn in count():
            write(Path(folder), ("old", "new")[turn % 2])
            if turn == 1:
                print("begun", flush=True)
