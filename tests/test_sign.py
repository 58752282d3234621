"""Signatures of a bundle: what was changed, added, removed or swapped is named by ``stowage verify --signers`` and by verify.sh, without Python."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import GOLDENS
from fakehost import FakeHost, sums

from generator import bundle
from generator.cli import stowage

pytestmark = pytest.mark.needs("ssh-keygen")

HOST, OTHER = "master-1", "master-2"


def keygen(*arguments: str | Path) -> str:
    done = subprocess.run(["ssh-keygen", *map(str, arguments)], capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    return done.stdout


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the keys ``ours`` and ``theirs``, and ``signers``, which has the first one only."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "theirs"):
        keygen("-q", "-t", "ed25519", "-N", "", "-f", folder / name)
    (folder / "signers").write_text(f"# who may sign\nsite@example.org {(folder / 'ours.pub').read_text()}")
    return folder


def run(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(stowage, list(map(str, arguments)))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def fill(host: Path, word: str) -> None:
    """Both overlays of a host, as ``bundle`` lays them."""
    for path in ("secrets/vrrp", "secrets/pki/ca.key", "payload/images/pause.tar", "payload/packages/Packages"):
        (host / path).parent.mkdir(parents=True, exist_ok=True)
        (host / path).write_text(f"{word} {path}")
    (host / "secrets").chmod(0o700)
    for overlay in ("secrets", "payload"):
        sums(host / overlay)


@pytest.fixture(scope="session")
def signed(tmp_path_factory: pytest.TempPathFactory, all_bundles, keys: Path) -> Path:
    """The example with overlays on two hosts, signed; never changed."""
    root = tmp_path_factory.mktemp("signed") / "example"
    shutil.copytree(all_bundles(GOLDENS[0]).path, root)
    for host in (HOST, OTHER):
        fill(root / "hosts" / host, host)
    assert run("sign", root, "--key", keys / "ours")[0] == 0
    return root


@pytest.fixture
def root(signed: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    shutil.copytree(signed, tmp_path / "example", symlinks=True)
    return tmp_path / "example"


def both(folder: Path, keys: Path, shell: str = "sh") -> tuple[set[str], set[str]]:
    """Lines of the two programs with --signers, each 0 without a line and 1 with one."""
    status, output = run("verify", folder, "--signers", keys / "signers")
    ours = {line.removeprefix(f"{folder}: ") for line in output.splitlines() if "every file is as" not in line}
    assert status == (1 if ours else 0), output
    command = [shell, str(folder / "verify.sh"), "--signers", str(keys / "signers")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    theirs = {line.replace("extra, no regular file", "extra") for line in done.stdout.splitlines() if not line.startswith("verify:")}
    assert done.returncode == (1 if theirs else 0), done
    return ours, theirs


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_signed_bundle_is_fine(signed: Path, keys: Path, shell: str) -> None:
    assert both(signed, keys, shell) == (set(), set())
    assert both(signed / "hosts" / HOST, keys, shell) == (set(), set())
    assert "and signed" in run("verify", signed, "--signers", keys / "signers")[1]
    # Without signers a signature is neither looked at nor an extra file.
    assert run("verify", signed)[0] == 0
    assert subprocess.run(["sh", signed / "verify.sh"], check=False).returncode == 0
    assert stat.S_IMODE((signed / "hosts" / HOST / "secrets" / bundle.SIGNATURE).stat().st_mode) == 0o600


def test_every_sum_is_signed(signed: Path) -> None:
    summed = {path.parent for path in signed.rglob("SHA256SUMS")}
    assert summed == {path.parent for path in signed.rglob("SHA256SUMS.sig")}
    assert len(summed) == 1 + 6 + 4


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("path", ["host.env", "scripts/lib.sh", "SHA256SUMS", "SHA256SUMS.sig", "secrets/pki/ca.key", "secrets/SHA256SUMS", "secrets/SHA256SUMS.sig", "payload/images/pause.tar", "payload/SHA256SUMS", "payload/SHA256SUMS.sig"])  # fmt: skip
@pytest.mark.parametrize("at", [0, -2])
def test_one_flipped_bit_is_found(root: Path, keys: Path, path: str, at: int) -> None:
    """In the whole bundle, and in the host's folder alone, by both programs."""
    host = root / "hosts" / HOST
    flip(host / path, at)
    for folder, name in ((root, f"hosts/{HOST}/{path}"), (host, path)):
        status, output = run("verify", folder, "--signers", keys / "signers")
        assert status == 1
        assert name in output or path.endswith("SUMS")
        done = subprocess.run(["sh", folder / "verify.sh", "--signers", keys / "signers"], capture_output=True, text=True, check=False)
        # Sums that can't be read are no sums: 2.
        assert done.returncode in ((1, 2) if path.endswith("SUMS") else (1,)), done
        assert path in done.stdout + done.stderr or f"SHA256SUMS of hosts/{HOST}/{path.split('/', maxsplit=1)[0]}" in done.stderr


def resealed(host: Path) -> None:
    """Somebody changed a file, and its sum with it."""
    with (host / "host.env").open("a") as file:
        file.write("EVIL='1'\n")
    lines = [line for line in (host / "SHA256SUMS").read_text().splitlines() if not line.endswith("  host.env")]
    (host / "SHA256SUMS").write_text("\n".join(sorted([*lines, f"{bundle.digest_of(host / 'host.env')}  host.env"], key=lambda line: line[66:])) + "\n")  # fmt: skip


SPOILS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a file with its sum": (resealed, "bad signature: SHA256SUMS.sig"),
    "an extra file": (lambda host: (host / "scripts" / "99-evil.sh").touch(), "extra: scripts/99-evil.sh"),
    "an extra secret": (lambda host: (host / "secrets" / "more").touch(), "extra: secrets/more"),
    "a missing file": (lambda host: (host / "files.tsv").unlink(), "missing: files.tsv"),
    "a missing image": (lambda host: (host / "payload/images/pause.tar").unlink(), "missing: payload/images/pause.tar"),
    "no signature": (lambda host: (host / bundle.SIGNATURE).unlink(), "missing: SHA256SUMS.sig"),
    "no signature of the payload": (lambda host: (host / "payload" / bundle.SIGNATURE).unlink(), "missing: payload/SHA256SUMS.sig"),
    "no sums of the payload": (lambda host: (host / "payload/SHA256SUMS").unlink(), "missing: payload/SHA256SUMS"),
    "the payload of another host": (
        lambda host: (shutil.rmtree(host / "payload"), shutil.copytree(host.parent / OTHER / "payload", host / "payload")),
        "bad signature: payload/SHA256SUMS.sig",
    ),
    "the secrets of another host": (
        lambda host: (shutil.rmtree(host / "secrets"), shutil.copytree(host.parent / OTHER / "secrets", host / "secrets")),
        "bad signature: secrets/SHA256SUMS.sig",
    ),
    "one overlay as the other": (
        lambda host: (shutil.rmtree(host / "payload"), shutil.copytree(host / "secrets", host / "payload")),
        "bad signature: payload/SHA256SUMS.sig",
    ),
    "a signature that is a link": (
        lambda host: ((host / bundle.SIGNATURE).rename(host.parent / "kept"), (host / bundle.SIGNATURE).symlink_to(host.parent / "kept")),
        "missing: SHA256SUMS.sig",
    ),
    "a pipe as signature": (
        lambda host: ((host / bundle.SIGNATURE).unlink(), os.mkfifo(host / bundle.SIGNATURE)),
        "missing: SHA256SUMS.sig",
    ),
    "garbage as signature": (lambda host: (host / bundle.SIGNATURE).write_text("x"), "bad signature: SHA256SUMS.sig"),
}


@pytest.mark.parametrize("how", SPOILS)
def test_what_was_done_to_a_host_is_named(root: Path, keys: Path, how: str) -> None:
    spoil, line = SPOILS[how]
    host = root / "hosts" / HOST
    spoil(host)
    kind, _, path = line.partition(": ")
    for folder, prefix in ((root, f"hosts/{HOST}/"), (host, "")):
        ours, theirs = both(folder, keys)
        for found in (ours, theirs):
            assert any(said.startswith(f"{kind}: {prefix}{path}") for said in found), found


@pytest.mark.parametrize("path", ["SHA256SUMS.sig", "README.md", "hosts/node-3/SHA256SUMS.sig"])
def test_what_was_removed_from_the_top_is_named(root: Path, keys: Path, path: str) -> None:
    (root / path).unlink()
    assert both(root, keys) == ({f"missing: {path}"}, {f"missing: {path}"})


def test_a_signature_stands_in_its_places_alone(root: Path, keys: Path) -> None:
    extra = {"hosts/SHA256SUMS.sig", "hosts/master-1/rootfs/SHA256SUMS.sig", "hosts/nobody/SHA256SUMS.sig"}
    for path in extra:
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).touch()
    wrong = {f"extra: {path}" for path in extra}
    assert both(root, keys) == (wrong, wrong)


def test_swapped_host_folders_are_found(root: Path, keys: Path) -> None:
    """Each is signed and whole by itself; on a host its address gives it away (lib.sh, identity)."""
    hosts = root / "hosts"
    (hosts / HOST).rename(hosts / "aside")
    (hosts / OTHER).rename(hosts / HOST)
    (hosts / "aside").rename(hosts / OTHER)
    ours, theirs = both(root, keys)
    for found in (ours, theirs):
        assert {f"changed: hosts/{HOST}/host.env", f"changed: hosts/{OTHER}/host.env"} <= found


@pytest.mark.parametrize("folder", ["", f"hosts/{HOST}"])
def test_another_key_is_no_signer(root: Path, keys: Path, folder: str) -> None:
    assert run("sign", root, "--key", keys / "theirs")[0] == 0
    for found in both(root / folder, keys):
        assert found
        assert all(line.startswith("bad signature: ") for line in found)
        assert any("SHA256SUMS.sig (No principal matched" in line for line in found)


def test_a_signature_for_another_purpose_is_none(root: Path, keys: Path) -> None:
    host = root / "hosts" / HOST
    (host / bundle.SIGNATURE).unlink()
    keygen("-q", "-Y", "sign", "-n", "git", "-f", keys / "ours", host / "SHA256SUMS")
    for found in both(host, keys):
        assert len(found) == 1
        assert "namespace" in found.pop()


def test_signers_that_are_bound_to_another_purpose(signed: Path, keys: Path, tmp_path: Path) -> None:
    shutil.copytree(keys, tmp_path / "keys")
    (tmp_path / "keys" / "signers").write_text(f'site@example.org namespaces="git" {(keys / "ours.pub").read_text()}')
    for found in both(signed / "hosts" / HOST, tmp_path / "keys"):
        assert any(line.startswith("bad signature: SHA256SUMS.sig") for line in found)


def test_any_of_several_signers_will_do(signed: Path, keys: Path, tmp_path: Path) -> None:
    lines = [f"{who} {(keys / key).read_text()}" for who, key in (("a@x", "theirs.pub"), ("b@x,c@x", "ours.pub"))]
    (tmp_path / "signers").write_text("".join(lines))
    assert both(signed / "hosts" / HOST, tmp_path) == (set(), set())


def test_verify_sh_says_what_it_lacks(signed: Path, keys: Path, tmp_path: Path) -> None:
    script = str(signed / "verify.sh")
    for words in (["--signers"], ["--signers", ""], ["--signers", str(tmp_path / "none")], ["--signers", str(tmp_path)], ["--in"], ["--in", str(tmp_path / "none")]):  # fmt: skip
        assert subprocess.run(["sh", script, *words], capture_output=True, check=False).returncode == 2, words
    for program in ("sh", "dirname", "sha256sum", "awk", "find", "sed"):
        (tmp_path / program).symlink_to(shutil.which(program) or "")
    done = subprocess.run(
        ["sh", script, "--signers", str(keys / "signers")], capture_output=True, text=True, check=False, env={"PATH": str(tmp_path)}
    )
    assert (done.returncode, done.stderr) == (2, "verify: ssh-keygen is not there\n")


def test_a_trusted_copy_verifies_another_folder(root: Path, keys: Path, tmp_path: Path) -> None:
    """What came on the medium can't vouch for itself; a relative name of the signers is the caller's."""
    shutil.copy(root / "verify.sh", tmp_path / "trusted.sh")
    shutil.copy(keys / "signers", tmp_path / "signers")
    host = root / "hosts" / HOST
    command = ["sh", "trusted.sh", "--signers", "signers", "--in", str(host)]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    (host / "verify.sh").write_text("#!/bin/sh\necho 'verify: as built and signed'\n")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "changed: verify.sh\n")


# --- signing --------------------------------------------------------------------------------------------------------------------------


def test_what_is_not_as_compiled_is_not_signed(root: Path, keys: Path) -> None:
    before = (root / bundle.SIGNATURE).read_bytes()
    (root / "README.md").write_text("x")
    status, output = run("sign", root, "--key", keys / "theirs")
    assert status == 1
    assert "nothing was signed" in output
    assert "changed: README.md" in output
    assert (root / bundle.SIGNATURE).read_bytes() == before


def test_a_key_that_is_none(root: Path, keys: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in root.rglob("*.sig")}
    (tmp_path / "key").write_text("no key")
    shutil.copy(keys / "ours.pub", tmp_path / "public.pub")
    for key in ("key", "public.pub"):
        status, output = run("sign", root, "--key", tmp_path / key)
        assert status == 2
        assert "help: name a private key" in output
    assert {path: path.read_bytes() for path in root.rglob("*.sig")} == before


@pytest.mark.needs("ssh-agent")
def test_an_agent_signs_with_the_public_key(root: Path, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "public.pub").write_text((keys / "theirs.pub").read_text())
    (tmp_path / "signers").write_text(f"me {(keys / 'theirs.pub').read_text()}")
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(tmp_path / "agent")], stdout=subprocess.PIPE)
    try:
        assert agent.stdout is not None
        agent.stdout.readline()
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
        subprocess.run(["ssh-add", "-q", keys / "theirs"], check=True, stderr=subprocess.DEVNULL)
        assert run("sign", root, "--key", tmp_path / "public.pub")[0] == 0
    finally:
        agent.terminate()
        agent.communicate()
    assert both(root, tmp_path) == (set(), set())


def test_signatures_are_kept_while_they_hold(root: Path, keys: Path) -> None:
    """A run that changes nothing leaves them; one that changes sums takes away just those that no longer hold."""
    inventory = GOLDENS[0].inventory
    before = {path: path.stat().st_ino for path in root.rglob("*.sig")}
    assert "unchanged" in run("bundle", inventory, "-o", root.parent)[1]
    assert {path: path.stat().st_ino for path in root.rglob("*.sig")} == before
    changed = root.parent / "changed.yaml"
    changed.write_text(inventory.read_text().replace("192.168.1.30/24", "192.168.1.33/24"))
    assert run("bundle", changed, "-o", root.parent)[0] == 0
    left = {path.relative_to(root).as_posix() for path in root.rglob("*.sig")}
    assert "SHA256SUMS.sig" not in left
    assert "hosts/node-3/SHA256SUMS.sig" not in left
    # An overlay's signature covers its host's sums: both go, or both stay.
    for host in (HOST, OTHER):
        assert (f"hosts/{host}/SHA256SUMS.sig" in left) == (f"hosts/{host}/payload/SHA256SUMS.sig" in left)
    assert run("verify", root)[0] == 0
    assert all(line.startswith("missing: ") for line in both(root, keys)[0])


# --- on a host ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.needs("root")
def test_a_host_with_signers_runs_nothing_unsigned(tmp_path: Path, keys: Path) -> None:
    host = FakeHost(tmp_path)
    assert host.run("20-host.sh", "--plan").returncode == 0
    host.put("/etc/stowage/signers", (keys / "signers").read_text())
    done = host.run("20-host.sh", "--plan")
    assert done.returncode == 1
    assert "missing: SHA256SUMS.sig" in done.stderr
    assert run("sign", host.bundle, "--key", keys / "ours")[0] == 0
    done = host.run("20-host.sh", "--plan")
    assert done.returncode == 0, done.stderr
    assert run("sign", host.bundle, "--key", keys / "theirs")[0] == 0
    assert "bad signature: SHA256SUMS.sig" in host.run("20-host.sh", "--plan").stderr
