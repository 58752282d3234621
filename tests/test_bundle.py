"""The writer's promises: what is right is not touched, a whole bundle stands there at any moment, and what differs is found."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import bundle_child
import pytest
from bundle_child import NAME, folders, names, overlay, standing, version_of, write
from conftest import GOLDENS, REPOSITORY, checked, wants

from generator import bundle, compiler, swap
from generator.bundle import BundleError, walk
from generator.verify import verify

CHILD = Path(bundle_child.__file__)
MEMORY = Path("/dev/shm")


@pytest.fixture
def out(tmp_path: Path):
    """A directory in memory where there is one: the tests swap hundreds of bundles, and each waits for the disk."""
    if not (MEMORY.is_dir() and os.access(MEMORY, os.W_OK)):
        yield tmp_path / "out"
        return
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        yield Path(folder) / "out"


def state(root: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Inode, time, mode and bytes of every file."""
    found = {}
    for path in walk(root):
        status = (root / path).lstat()
        found[path] = (
            status.st_ino,
            status.st_mtime_ns,
            stat.S_IMODE(status.st_mode),
            (root / path).read_bytes() if (root / path).is_file() else b"",
        )
    return found


def moved(before: dict, after: dict) -> set[str]:
    """Files that are not the very same as before."""
    return {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}


def counts(written: bundle.Written) -> tuple[int, int, int]:
    return written.added, written.changed, written.removed


def alone(out: Path) -> bool:
    """Nothing but the bundle lies in *out*."""
    return names(out) == [NAME]


# --- what is written ------------------------------------------------------------------------------------------------------------------


def test_fresh(out):
    written = write(out / "deep" / "er", "a")
    target = out / "deep" / "er" / NAME
    files = list(walk(target))
    assert written == bundle.Written(target, len(files), len(files), 0, 0)
    assert alone(out / "deep" / "er")
    assert verify(target) == []
    assert (target / "hosts/one/rootfs/etc/a").read_text() == "a\n" * 9


def test_manifest_and_sums(out):
    write(out, "a")
    manifest = json.loads((out / NAME / "manifest.json").read_text())
    assert {key: manifest[key] for key in ("stowage", *bundle_child.ABOUT)} == {"stowage": bundle.FORMAT, **bundle_child.ABOUT}
    entries = {entry["path"]: entry for entry in manifest["files"]}
    assert set(entries) == {path for path in walk(out / NAME) if path.rpartition("/")[2] not in ("SHA256SUMS", "manifest.json")}
    assert entries["hosts/one/rootfs/etc/a"] == {
        "path": "hosts/one/rootfs/etc/a", "sha256": bundle.digest_of(out / NAME / "hosts/one/rootfs/etc/a"), "mode": "0640", "destination": "/etc/a",
        "owner": "root:root", "step": 20, "from": ["cluster"],
    }  # fmt: skip
    assert entries["hosts/one/rootfs/usr/bin/tool"]["executable"] is True
    assert entries["verify.sh"]["mode"] == "0755"
    for folder in (out / NAME, out / NAME / "hosts/one"):
        subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
    own = {line[66:] for line in (out / NAME / "hosts/one/SHA256SUMS").read_text().splitlines()}
    assert own == set(walk(out / NAME / "hosts/one")) - {"SHA256SUMS"}


def test_unchanged_touches_nothing(out):
    write(out, "a", {"one": {"vrrp": b"canary"}})
    overlay(out / NAME)
    before = state(out / NAME)
    folder = (out / NAME).stat().st_ino
    assert counts(write(out, "a")) == (0, 0, 0)
    assert counts(write(out, "a", {"one": {"vrrp": b"canary"}})) == (0, 0, 0)
    assert state(out / NAME) == before
    assert (out / NAME).stat().st_ino == folder
    assert alone(out)


def test_a_change_touches_what_changes(out):
    write(out, "a")
    before = state(out / NAME)
    written = write(out, "b")
    changed = {"README.md", "manifest.json", "SHA256SUMS"} | {
        f"hosts/{host}/{name}" for host in ("one", "two") for name in ("rootfs/etc/a", "files.tsv", "SHA256SUMS")
    }
    assert moved(before, state(out / NAME)) == changed
    assert counts(written) == (0, len(changed), 0)
    assert verify(out / NAME) == []


def test_one_inventory_value(out):
    """Through the whole compiler: another worker label changes that host's files and what lists all hosts."""
    golden = next(golden for golden in GOLDENS if golden.name == "single")
    text = golden.inventory.read_text()
    host = next(iter(checked(golden).cluster.hosts)).name
    for value in ("a", "b"):
        one = compiler.check("x", text.replace(f"name: {host},", f"name: {host}, labels: {{example.net/x: {value}}},").encode())
        assert one.cluster is not None
        before = state(out / one.cluster.name) if value == "b" else {}
        written = compiler.compile_to(out, one.cluster, {})
    changed = moved(before, state(out / one.cluster.name))
    assert {"inventory.lock.yaml", "manifest.json", "SHA256SUMS", f"hosts/{host}/SHA256SUMS", f"hosts/{host}/kubeadm/init.yaml"} <= changed
    assert counts(written) == (0, len(changed), 0)
    assert len(changed) < 8
    assert not any("scripts/" in path for path in changed)


def test_hosts_come_and_go(out):
    write(out, "a", {"two": {"vrrp": b"canary"}})
    written = write(out, "a", hosts=("one", "three"))
    assert written.added == len(list(walk(out / NAME / "hosts/three")))
    assert written.removed == written.added + 2  # and the two files of its overlay
    assert not (out / NAME / "hosts/two").exists()
    assert verify(out / NAME) == []


@pytest.mark.parametrize(
    "path", ["notes.txt", "hosts/one/rootfs/etc/b", "hosts/nobody/host.env", "hosts/nobody/secrets/vrrp", "new/deep/file", "link"]
)
def test_extra_files_go(out, path):
    write(out, "a")
    extra = out / NAME / path
    extra.parent.mkdir(parents=True, exist_ok=True)
    if path == "link":
        extra.symlink_to("/etc/passwd")
    else:
        extra.write_text("mine")
    before = state(out / NAME)
    assert counts(write(out, "a")) == (0, 0, 1)
    assert not os.path.lexists(extra)
    assert moved(before, state(out / NAME)) == {path}


@pytest.mark.parametrize(
    "path", ["verify.sh", "README.md", "manifest.json", "SHA256SUMS", "hosts/one/rootfs/usr/bin/tool", "hosts/one/SHA256SUMS"]
)
def test_x_bit_is_mended(out, path):
    write(out, "a")
    file = out / NAME / path
    mode = file.stat().st_mode
    file.chmod(mode ^ stat.S_IXUSR)
    assert verify(out / NAME) == [f"changed: {path} (x bit)"]
    assert counts(write(out, "a")) == (0, 1, 0)
    assert bool(file.stat().st_mode & stat.S_IXUSR) is bool(mode & stat.S_IXUSR)
    assert verify(out / NAME) == []


@pytest.mark.parametrize("path", ["README.md", "manifest.json", "SHA256SUMS", "hosts/one/rootfs/etc/a", "hosts/two/SHA256SUMS"])
@pytest.mark.parametrize("how", ["changed", "longer", "missing", "link", "folder", "pipe"])
def test_tampering_is_mended(out, path, how):
    write(out, "a")
    before = {name: entry[2:] for name, entry in state(out / NAME).items()}
    file = out / NAME / path
    data = file.read_bytes()
    file.unlink()
    if how in ("changed", "longer"):
        # The manifest is still to be known as ours.
        file.write_bytes(data[:-1] + (b"x" if how == "changed" else b"\nlonger\n"))
    elif how == "link":
        (file.parent / "elsewhere").write_bytes(data)
        file.symlink_to("elsewhere")
    elif how == "folder":
        file.mkdir()
        (file / "in it").write_text("x")
    elif how == "pipe":
        os.mkfifo(file)
    if path == "manifest.json" and how in ("missing", "folder", "pipe"):
        with pytest.raises(BundleError, match="not a bundle"):
            write(out, "a")
        return
    assert write(out, "a").touched
    assert {name: entry[2:] for name, entry in state(out / NAME).items()} == before
    assert alone(out)


def test_modes_whatever_the_umask(out):
    """Files are the user's umask, secrets are not."""
    for umask, file_mode, folder_mode in ((0o022, 0o644, 0o755), (0o077, 0o600, 0o700), (0o000, 0o666, 0o777)):
        shutil.rmtree(out, ignore_errors=True)
        previous = os.umask(umask)
        try:
            write(out, "a", {"one": {"vrrp": b"canary"}})
            assert counts(write(out, "a", {"one": {"vrrp": b"canary"}})) == (0, 0, 0)
        finally:
            os.umask(previous)
        modes = {
            path: stat.S_IMODE((out / NAME / path).stat().st_mode) for path in ("README.md", "verify.sh", "hosts/one", "hosts/one/secrets")
        }
        assert modes == {
            "README.md": file_mode,
            "verify.sh": file_mode | (0o111 & ~umask),
            "hosts/one": folder_mode,
            "hosts/one/secrets": 0o700,
        }
        assert {stat.S_IMODE(path.stat().st_mode) for path in (out / NAME / "hosts/one/secrets").iterdir()} == {0o600}
        assert verify(out / NAME) == []


# --- overlays -------------------------------------------------------------------------------------------------------------------------


def test_overlays_stay(out):
    write(out, "a", {"one": {"vrrp": b"canary"}})
    overlay(out / NAME)
    link = out / NAME / "hosts/one/payload/latest"
    link.symlink_to("images")
    before = {path: entry for path, entry in state(out / NAME).items() if bundle.in_overlay(path)}
    assert len(before) == 5
    write(out, "b")
    after = state(out / NAME)
    assert {path: entry for path, entry in after.items() if bundle.in_overlay(path)} == before
    assert stat.S_IMODE((out / NAME / "hosts/one/secrets").stat().st_mode) == 0o700
    link.unlink()
    assert verify(out / NAME) == []


def test_secrets_are_replaced(out):
    write(out, "a", {"one": {"vrrp": b"canary", "old": b"x"}, "two": {"vrrp": b"canary"}})
    overlay(out / NAME)
    before = state(out / NAME)
    written = write(out, "a", {"one": {"vrrp": b"raven"}})
    changed = {"hosts/one/secrets/vrrp", "hosts/one/secrets/old", "hosts/one/secrets/SHA256SUMS"}
    assert moved(before, state(out / NAME)) == changed
    assert counts(written) == (0, 2, 1)
    assert (out / NAME / "hosts/one/secrets/vrrp").read_bytes() == b"raven"
    assert verify(out / NAME) == []


def test_open_secrets_are_closed(out):
    write(out, "a", {"one": {"vrrp": b"canary"}})
    secret = out / NAME / "hosts/one/secrets/vrrp"
    secret.chmod(0o644)
    assert counts(write(out, "a", {"one": {"vrrp": b"canary"}})) == (0, 1, 0)
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600


def test_tracked_bytes_do_not_know_secrets(out):
    write(out / "with", "a", {"one": {"vrrp": b"canary"}})
    write(out / "without", "a")
    with_secrets, without = (
        {path: entry[2:] for path, entry in state(out / name / NAME).items() if not bundle.in_overlay(path)} for name in ("with", "without")
    )
    assert with_secrets == without


def test_a_removed_hosts_overlay_goes(out):
    write(out, "a", {"two": {"vrrp": b"canary"}})
    write(out, "a", hosts=("one",))
    assert not any("two" in path for path in walk(out / NAME))


# --- strangers ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["file", "link to a bundle", "dangling link", "empty folder", "foreign folder", "foreign manifest", "pipe for a manifest"]
)
def test_strangers_are_refused(out, kind):
    target = out / NAME
    out.mkdir()
    write(out / "other", "a")
    if kind == "file":
        target.write_text("mine")
    elif kind == "link to a bundle":
        target.symlink_to(Path("other") / NAME)
    elif kind == "dangling link":
        target.symlink_to("nowhere")
    else:
        target.mkdir()
        if kind != "empty folder":
            (target / "thesis.tex").write_text("mine")
        if kind == "foreign manifest":
            (target / "manifest.json").write_text('{"name": "a browser extension"}')
        elif kind == "pipe for a manifest":
            os.mkfifo(target / "manifest.json")
    before = (state(target) if target.is_dir() else None, state(out / "other"))
    with pytest.raises(BundleError, match="not a bundle of stowage's") as raised:
        write(out, "b")
    assert "--output" in raised.value.remedy
    assert (state(target) if target.is_dir() else None, state(out / "other")) == before
    assert names(out) == ["other", NAME]


def test_a_stranger_between_two_renames(out):
    """Killed between two renames, and then somebody made a directory of that name: both stay."""
    write(out, "a")
    (out / NAME).rename(out / f".{NAME}.stowage-old")
    (out / NAME).mkdir()
    with pytest.raises(BundleError, match="not a bundle"):
        write(out, "b")
    assert version_of(out / f".{NAME}.stowage-old") == "a"
    (out / NAME).rmdir()
    write(out, "b")
    assert version_of(out / NAME) == "b"
    assert alone(out)


def test_paths_stay_inside(out):
    for path in ("../escaped", "hosts/../../escaped", "hosts//x"):
        with pytest.raises((ValueError, BundleError)):
            bundle.write(out, NAME, {}, [("", [bundle.File(f"{path}/file", "x", ())])], {})
    assert names(out) == []


# --- kills ----------------------------------------------------------------------------------------------------------------------------


def child(*arguments: str | Path, within: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*within, sys.executable, str(CHILD), *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.parametrize("mode", ["exchange", "renames", "links", "first"])
def test_killed_at_every_call(out, mode):
    """A kill before every single call: the old bundle stands there whole or the new one does, and the next run leaves no trace of it."""
    done = child("points", out, mode)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    if mode == "first":
        assert found.keys() == {"none", "new"}
    else:
        assert found["old"] > 100
        assert found["new"] > 20
        assert found.get("between", 0) == (1 if mode == "renames" else 0)


def test_killed_at_random(out):
    write(out, "old")
    overlay(out / NAME)
    chance = random.Random(7)
    for _ in range(25):
        with subprocess.Popen([sys.executable, str(CHILD), "for-ever", str(out)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"begun\n"
            time.sleep(chance.uniform(0, 0.02))
            process.send_signal(signal.SIGKILL)
        assert standing(out) in ("old", "new")
    write(out, "old")
    assert alone(out)
    assert standing(out) == "old"


def test_leftovers_of_other_clusters_go_too(out):
    """A run that was killed over a cluster which has another name now."""
    write(out, "a")
    shutil.copytree(out / NAME, out / ".gone.stowage-new")
    shutil.copytree(out / NAME, out / ".lost.stowage-old")
    (out / ".file.stowage-new").write_text("no folder of ours")
    write(out, "a")
    assert names(out) == [".file.stowage-new", "lost", NAME]


# --- failures -------------------------------------------------------------------------------------------------------------------------


def test_a_plan_that_raises(out):
    write(out, "a")
    before = state(out / NAME)

    def broken():
        plan = folders("b")
        yield next(plan)
        yield next(plan)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        bundle.write(out, NAME, bundle_child.ABOUT, broken(), {})
    assert state(out / NAME) == before
    assert alone(out)


@pytest.mark.needs("root", "mount", "unshare")
def test_full_disk(tmp_path):
    """Ever less room on a small file system: it fails with a clear error, and the old bundle stands, or it is written."""
    done = child("full", tmp_path, within=("unshare", "-m"))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["failed"] > 4
    assert found["written"] > 4


@pytest.mark.needs("root", "mount", "unshare")
def test_full_disk_at_the_command_line(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    program = f"{sys.executable} -m generator -q bundle {REPOSITORY}/inventories/example.yaml -o {small}/out"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", f"mount -t tmpfs -o size=300k small {small} && {program}; echo $?; ls -A {small}/out"],
        capture_output=True, text=True, check=False, cwd=REPOSITORY,
    )  # fmt: skip
    assert done.stdout == "2\n"
    assert done.stderr.endswith("No space left on device\n   help: the disk is full; the bundle that was there, if any, is whole\n")


def test_a_write_that_comes_short(out, monkeypatch):
    """The operating system may take a part of what is written."""
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: real(handle, bytes(data)[:3]))
    write(out, "a")
    monkeypatch.undo()
    assert verify(out / NAME) == []


def refusal(out: Path, version: str) -> BundleError | None:
    """Why it could not be written; None where it was."""
    try:
        write(out, version)
    except BundleError as error:
        return error
    return None


@pytest.mark.parametrize("call", ["open", "write", "mkdir", "link", "rename"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EACCES])
def test_every_failing_call(out, monkeypatch, call, number):
    """Whichever call fails, the first time or a later one: one error, the old bundle, no trace."""
    monkeypatch.setattr(swap, "_libc", lambda _: None)
    write(out, "a")
    before = state(out / NAME)
    real, failed = getattr(os, call), 0
    for turn in range(6):
        left = turn

        def failing(*arguments, **options):
            nonlocal left
            left -= call == "write" or any("stowage-" in str(argument) for argument in arguments)
            if left == -1:
                left -= 1
                raise OSError(number, os.strerror(number))
            return real(*arguments, **options)

        with monkeypatch.context() as patched:
            patched.setattr(os, call, failing)
            error = refusal(out, "b")
        if error is not None:
            failed += 1
            assert os.strerror(number) in str(error)
            assert error.remedy
            assert state(out / NAME) == before
        assert alone(out)
        write(out, "a")
        before = state(out / NAME)
    assert failed > 1


@pytest.mark.needs("root", "mount", "unshare")
def test_read_only_file_system(tmp_path):
    program = f"{sys.executable} -m generator -q bundle {REPOSITORY}/inventories/example.yaml -o {tmp_path}/ro/out"
    (tmp_path / "ro").mkdir()
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", f"mount -t tmpfs -o ro small {tmp_path}/ro && {program}; echo $?"],
        capture_output=True, text=True, check=False, cwd=REPOSITORY,
    )  # fmt: skip
    assert done.stdout == "2\n"
    assert "Read-only file system\n   help: the file system is read-only: choose another directory with --output\n" in done.stderr


@pytest.mark.needs("root", "mount", "unshare")
@pytest.mark.parametrize("inside", ["hosts/one/payload/more images", "."])
def test_what_is_mounted_is_not_emptied(out, inside):
    """A payload that is mounted into the bundle would be removed with the old one."""
    write(out, "a")
    overlay(out / NAME)
    treasure = out.parent / "treasure"
    treasure.mkdir()
    (treasure / "images.tar").write_text("x")
    point = out / NAME / inside
    point.mkdir(exist_ok=True)
    script = f"mount --bind '{treasure if inside != '.' else point}' '{point}' && {sys.executable} -c 'import bundle_child, pathlib; bundle_child.write(pathlib.Path(\"{out}\"), \"b\")'"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(CHILD.parent)},
    )
    assert "Device or resource busy" in done.stderr
    assert (treasure / "images.tar").read_text() == "x"
    assert standing(out) == "a"
    assert alone(out)


def test_no_right_to_write(out):
    """As a user who may read the bundle but not write beside it."""
    write(out, "a")
    before = state(out / NAME)
    out.chmod(0o555)
    process = os.fork() if os.geteuid() == 0 else -1
    if process == 0:
        try:
            out.parent.chmod(0o755)
            os.seteuid(65534)
            write(out, "b")
        except BundleError as error:
            os._exit(3 if "Permission denied" in str(error) and "--output" in error.remedy else 4)
        os._exit(5)
    if process > 0:
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 3
    else:
        with pytest.raises(BundleError, match="Permission denied"):
            write(out, "b")
    out.chmod(0o755)
    assert state(out / NAME) == before
    assert alone(out)


def test_renames_where_exchange_is_refused(out, monkeypatch):
    monkeypatch.setattr(swap, "_libc", lambda _: None)
    write(out, "a")
    overlay(out / NAME)
    before = state(out / NAME)
    assert counts(write(out, "b"))[1] > 0
    assert version_of(out / NAME) == "b"
    assert "hosts/one/payload/images/big.tar" not in moved(before, state(out / NAME))
    assert alone(out)


def test_the_second_rename_fails(out, monkeypatch):
    monkeypatch.setattr(swap, "_libc", lambda _: None)
    write(out, "a")
    before = state(out / NAME)
    real = os.rename

    def failing(source, target, **options):
        if str(source).endswith("-new"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(source, target, **options)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(BundleError, match="Input/output error"):
        write(out, "b")
    assert state(out / NAME) == before
    assert alone(out)


# --- other file systems ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK])
def test_without_hard_links(out, monkeypatch, number):
    def refused(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refused)
    write(out, "a", {"one": {"vrrp": b"canary"}})
    overlay(out / NAME)
    before = state(out / NAME)
    assert counts(write(out, "a")) == (0, 0, 0)
    assert state(out / NAME) == before
    written = write(out, "b")
    assert counts(written) == (0, 9, 0)
    assert verify(out / NAME) == []
    assert (out / NAME / "hosts/one/secrets/vrrp").read_bytes() == b"canary"
    assert stat.S_IMODE((out / NAME / "hosts/one/secrets/vrrp").stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o755, 0o644])
def test_without_x_bits(out, monkeypatch, mode):
    """FAT gives every file the same mode: an unchanged run is still one, and verify doesn't name each file."""
    real = os.open

    def flat(path, flags, _=0o777, **options):
        handle = real(path, flags, mode, **options)
        if flags & os.O_CREAT:
            os.fchmod(handle, mode)
        return handle

    monkeypatch.setattr(os, "open", flat)
    write(out, "a", {"one": {"vrrp": b"canary"}})
    for path in walk(out / NAME):
        (out / NAME / path).chmod(mode)
    before = state(out / NAME)
    assert counts(write(out, "a", {"one": {"vrrp": b"canary"}})) == (0, 0, 0)
    assert state(out / NAME) == before
    assert verify(out / NAME) == []


def test_on_fat(tmp_path):
    """The real thing, where the kernel has it."""
    wants("root", "mount", "unshare", "mkfs.vfat")
    if "vfat" not in Path("/proc/filesystems").read_text():
        pytest.skip("this kernel has no vfat")
    image, mounted = tmp_path / "image", tmp_path / "mounted"
    mounted.mkdir()
    with image.open("wb") as file:
        file.truncate(32 * 1024 * 1024)
    subprocess.run(["mkfs.vfat", str(image)], check=True, capture_output=True)
    program = f"{sys.executable} -m generator bundle {REPOSITORY}/inventories/example.yaml -o '{mounted}/out'"
    script = f"mount -o loop {image} {mounted} && {program} && {program} && {sys.executable} -m generator verify {mounted}/out/example && sh {mounted}/out/example/verify.sh; ls -A {mounted}/out"
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert "hosts, unchanged" in done.stdout, done.stderr
    assert done.stdout.endswith("verify: as built\nexample\n")


@pytest.mark.parametrize("name", ["with blanks", "ünïcode 目录", "-o", "quote'\"", "new\nline"])
def test_odd_directories(out, name):
    write(out / name, "a")
    write(out / name, "b")
    assert verify(out / name / NAME) == []
    assert subprocess.run(["sh", str(out / name / NAME / "verify.sh")], check=False, capture_output=True).returncode == 0


def test_long_paths(out, monkeypatch):
    """As deep as the system goes; one deeper is one clear error."""
    deep = out / "/".join(["d" * 200] * 18)
    write(deep, "a")
    assert verify(deep / NAME) == []
    with pytest.raises(BundleError, match="File name too long") as raised:
        write(deep / ("d" * 200) / ("d" * 200) / ("d" * 200), "a")
    assert "shorter" in raised.value.remedy


# --- two at once ----------------------------------------------------------------------------------------------------------------------


def test_one_writer_at_a_time(out):
    write(out, "a")
    with swap.staging(out / "other", lambda _: True), pytest.raises(BundleError, match="another stowage is writing here"):
        write(out, "b")
    assert version_of(out / NAME) == "a"
    write(out, "b")
    assert alone(out)


def test_two_writers(out):
    """Two at once for a while: each writes whole bundles or is told to wait."""
    write(out, "old")
    overlay(out / NAME)
    programs = [
        subprocess.Popen([sys.executable, str(CHILD), "for-ever", str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    time.sleep(1)
    for program in programs:
        program.kill()
        _, said = program.communicate()
        assert not said or "another stowage is writing here" in said
    assert standing(out) in ("old", "new")


def test_where_a_directory_takes_no_lock(out, monkeypatch):
    """NFS: better without the lock than not at all."""

    def refused(*_):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    monkeypatch.setattr(swap.fcntl, "flock", refused)
    write(out, "a")
    assert version_of(out / NAME) == "a"


# --- verify ---------------------------------------------------------------------------------------------------------------------------


def said(root: Path) -> tuple[set[str], set[str]]:
    """Paths that ``stowage verify`` and verify.sh find wrong."""
    ours = {line.partition(": ")[2].removesuffix(" (x bit)") for line in verify(root)}
    done = subprocess.run(["sh", str(root / "verify.sh")], capture_output=True, text=True, check=False)
    theirs = {line.partition(": ")[2] for line in done.stdout.splitlines() if not line.startswith("verify:")}
    assert done.returncode == (1 if theirs else 0), done
    return ours, theirs


FILES = (
    "README.md", ".gitignore", "verify.sh", "hosts/one/host.env", "hosts/one/files.tsv", "hosts/one/rootfs/usr/bin/tool", "hosts/one/rootfs/etc/sub dir/ä",
    "hosts/one/SHA256SUMS", "manifest.json", "hosts/one/secrets/vrrp", "hosts/one/payload/images/big.tar",
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A bundle with both overlays; never changed."""
    folder = tmp_path_factory.mktemp("whole")
    write(folder, "a", {"one": {"vrrp": b"canary"}})
    overlay(folder / NAME)
    assert said(folder / NAME) == (set(), set())
    return folder / NAME


@pytest.mark.parametrize("path", FILES)
@pytest.mark.parametrize("how", ["changed", "missing", "link", "folder"])
def test_verify_finds(whole, out, path, how):
    root = out / NAME
    shutil.copytree(whole, root, symlinks=True)
    file = root / path
    data = file.read_bytes()
    if how == "changed":
        # A manifest must still be one to be read at all.
        changes = {"manifest.json": (b'"tool": "0"', b'"tool": "1"'), "verify.sh": (b"# Needs", b"# needs")}
        file.write_bytes(data.replace(*changes[path]) if path in changes else data[:-1] + b"?")
    else:
        file.unlink()
        if how == "link":
            (out / "elsewhere").write_bytes(data)
            file.symlink_to(out / "elsewhere")
        elif how == "folder":
            file.mkdir()
    if path == "verify.sh" and how in ("missing", "folder"):
        assert {line.partition(": ")[2] for line in verify(root)} == {path}
        return
    if path == "manifest.json" and how in ("missing", "folder"):
        with pytest.raises(BundleError):
            verify(root)
        return
    ours, theirs = said(root)
    assert path in ours
    assert ours == theirs


@pytest.mark.parametrize(
    "path",
    [
        "extra",
        "hosts/one/rootfs/etc/cron.d/extra",
        "hosts/one/secrets/extra",
        "hosts/one/payload/images/extra",
        "hosts/three/host.env",
        "odd name ä",
    ],
)
@pytest.mark.parametrize("kind", ["file", "link", "pipe"])
def test_verify_finds_extra(whole, out, path, kind):
    root = out / NAME
    shutil.copytree(whole, root, symlinks=True)
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    if kind == "file":
        (root / path).write_text("x")
    elif kind == "link":
        (root / path).symlink_to("README.md")
    else:
        os.mkfifo(root / path)
    assert said(root) == ({path}, {path})


@pytest.mark.parametrize("sums", ["SHA256SUMS", "hosts/one/SHA256SUMS", "hosts/one/secrets/SHA256SUMS"])
def test_verify_reads_the_sums(whole, out, sums):
    """A line that was changed, added or taken away; both programs say that something is wrong, each from its own point of view."""
    for change in (
        lambda lines: [lines[0].translate({ord("a"): "b", ord("1"): "2"}), *lines[1:]],
        lambda lines: lines[1:],
        lambda lines: [*lines, "0" * 64 + "  nowhere"],
        lambda lines: [*lines, lines[0]],
    ):
        shutil.rmtree(out, ignore_errors=True)
        root = out / NAME
        shutil.copytree(whole, root, symlinks=True)
        (root / sums).write_text("\n".join(change((root / sums).read_text().splitlines())) + "\n")
        assert verify(root), change
        assert subprocess.run(["sh", str(root / "verify.sh")], capture_output=True, check=False).returncode in (1, 2)


def test_verify_finds_what_was_covered_up(whole, out):
    """A file changed together with every sum of it: the manifest knows; with the manifest too, only a signature would."""
    root = out / NAME
    shutil.copytree(whole, root, symlinks=True)
    path, host = "hosts/one/host.env", root / "hosts/one"
    was = bundle.digest_of(root / path)
    (root / path).write_text("HOST='evil'\n")
    for sums in (root / "SHA256SUMS", host / "SHA256SUMS"):
        sums.write_text(sums.read_text().replace(was, bundle.digest_of(root / path)))
    assert f"changed: {path}" in verify(root)


@pytest.mark.parametrize("path", ["README.md", "hosts/one/rootfs/etc/a"])
def test_unreadable(whole, out, path, monkeypatch):
    root = out / NAME
    shutil.copytree(whole, root, symlinks=True)

    def refused(file):
        raise PermissionError(errno.EACCES, "Permission denied", str(file))

    monkeypatch.setattr("generator.verify.digest_of", refused)
    with pytest.raises(BundleError, match="Permission denied"):
        verify(root)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", "null", '{"stowage": 1}', '{"stowage": 1, "files": [1]}', '{"stowage": 1, "files": [{"path": 1}]}', '{"stowage": 1, "files": 3}', "[" * 100_000, "\udcff", '{"stowage": 99, "files": []}'],
    ids=range(11),
)  # fmt: skip
def test_manifests_that_are_none(out, text):
    out.mkdir()
    (out / "manifest.json").write_text(text, errors="surrogateescape")
    with pytest.raises(BundleError, match=r"not a manifest|format 99") as raised:
        verify(out)
    assert raised.value.remedy


def test_a_manifest_that_reaches_out(out):
    """Whatever a manifest names, nothing outside the bundle is read."""
    out.mkdir()
    entries = [
        {"path": path, "sha256": "0" * 64} for path in ("/etc/passwd", "../../../../etc/passwd", "hosts/..", "hosts/x/../../../etc/passwd")
    ]
    (out / "manifest.json").write_text(json.dumps({"stowage": 1, "files": entries}))
    found = verify(out)
    assert {f"missing: {entry['path']}" for entry in entries} <= set(found)
    assert not any(line.startswith(("changed: /", "changed: ..")) for line in found)
