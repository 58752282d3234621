"""``stowage keys`` and the secrets of a bundle: what openssl, kubeadm's names and a thief would say of them."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import secrets as chance
import shutil
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from conftest import REPOSITORY

from generator import compiler, keys, secrets, swap
from generator.cli import stowage

NAMES = {"pki/ca": "kubernetes", "pki/front-proxy-ca": "front-proxy-ca", "pki/etcd/ca": "etcd-ca"}
FILES = {*(f"{name}.{end}" for name in NAMES for end in ("crt", "key")), "pki/sa.key", "pki/sa.pub", "bootstrap-token"}
INVENTORY = """\
version: 1
cluster: {name: keyed, kubernetesVersion: VERSION, SETTINGS}
controlPlaneEndpoint: {name: api, address: 10.0.0.9/24, port: 16443}
loadBalancer: {keepalived: {virtualRouterId: 61, vrrpVersion: 2, advertInterval: 1, authPass: {secret: vrrp-word}}}
hostDefaults: {interface: eth0, os: debian-12}
hosts:
- {name: a, role: control-plane, address: 10.0.0.1/24}
- {name: b, role: control-plane, address: 10.0.0.2/24}
- {name: c, role: control-plane, address: 10.0.0.3/24}
- {name: w, role: worker, address: 10.0.0.4/24}
"""
NOW = datetime.now(UTC)


def run(*words: object) -> Result:
    return CliRunner().invoke(stowage, [str(word) for word in words])


def inventory(folder: Path, settings: str = "", version: str = "1.31.4") -> Path:
    path = folder / "inventory.yaml"
    path.write_text(INVENTORY.replace("VERSION", version).replace(", SETTINGS", f", {settings}" if settings else ""))
    return path


def openssl(*words: object) -> str:
    return subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True, check=True).stdout


def private_parts(folder: Path) -> list[bytes]:
    """What nobody may see: a line of each key, the token's second half, the password."""
    parts = [path.read_bytes().splitlines()[2] for path in folder.rglob("*.key")]
    parts += [(folder / "bootstrap-token").read_bytes().strip().split(b".")[1]]
    return [*parts, (folder / "vrrp-word").read_bytes().strip()] if (folder / "vrrp-word").exists() else parts


def shows(done: Result, folder: Path) -> bool:
    return any(part in done.stdout_bytes + done.stderr_bytes for part in private_parts(folder))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    done = run("keys", "new", root / "keys", inventory(root, "encryptionAlgorithm: ECDSA-P256"))
    assert done.exit_code == 0, done.output
    assert not shows(done, root / "keys")
    return root / "keys"


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy that the test may spoil."""
    inventory(tmp_path, "encryptionAlgorithm: ECDSA-P256")
    return Path(shutil.copytree(made, tmp_path / "keys"))


def bundled(folder: Path, *options: object) -> Result:
    return run("bundle", folder.parent / "inventory.yaml", "-o", folder.parent / "out", "--secrets", folder, *options)


# --- what is made -------------------------------------------------------------------------------------------------------------------------


def test_the_directory(made: Path) -> None:
    files = {path.relative_to(made).as_posix(): path for path in made.rglob("*") if path.is_file()}
    assert files.keys() == FILES | {"vrrp-word"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files.values()} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (made, made / "pki", made / "pki" / "etcd")} == {0o700}
    assert re.fullmatch(r"[a-z0-9]{6}\.[a-z0-9]{16}\n", files["bootstrap-token"].read_text())
    assert re.fullmatch(r"[A-Za-z0-9]{8}\n", files["vrrp-word"].read_text())
    assert len({path.read_bytes() for path in files.values()}) == len(files)


@pytest.mark.needs("openssl")
@pytest.mark.parametrize(
    ("algorithm", "key", "signature", "head"),
    [
        ("", "Public-Key: (2048 bit)", "sha256WithRSAEncryption", "RSA PRIVATE KEY"),
        ("RSA-3072", "Public-Key: (3072 bit)", "sha256WithRSAEncryption", "RSA PRIVATE KEY"),
        ("ECDSA-P256", "NIST CURVE: P-256", "ecdsa-with-SHA256", "EC PRIVATE KEY"),
        ("ECDSA-P384", "NIST CURVE: P-384", "ecdsa-with-SHA384", "EC PRIVATE KEY"),
    ],
)
def test_certificates_are_kubeadms(tmp_path: Path, algorithm: str, key: str, signature: str, head: str) -> None:
    """facts.md 3.4, client-go's NewSelfSignedCACert; openssl reads them."""
    settings = f"encryptionAlgorithm: {algorithm}, caCertificateValidityPeriod: 48h, certificateValidityPeriod: 24h" if algorithm else ""
    done = run("keys", "new", tmp_path / "keys", inventory(tmp_path, settings, "1.34.1"))
    assert done.exit_code == 0, done.output
    serials = set()
    for name, common in NAMES.items():
        crt, private = tmp_path / "keys" / f"{name}.crt", tmp_path / "keys" / f"{name}.key"
        text = openssl("x509", "-noout", "-text", "-in", crt)
        for part in (
            f"Subject: CN = {common}\n",
            f"Issuer: CN = {common}\n",
            key,
            f"Signature Algorithm: {signature}",
            f"DNS:{common}\n",
            "CA:TRUE\n",
            "Subject Key Identifier",
        ):
            assert part in text, text
        assert re.search(r"Basic Constraints: critical\s+CA:TRUE\n", text)
        assert re.search(r"Key Usage: critical\s+Digital Signature, Key Encipherment, Certificate Sign\n", text)
        serials.add(re.search(r"Serial Number:\s+(\S+)", text)[1])
        dates = [
            datetime.strptime(line.partition("=")[2], "%b %d %H:%M:%S %Y %Z").replace(tzinfo=UTC)
            for line in openssl("x509", "-noout", "-dates", "-in", crt).splitlines()
        ]
        life = timedelta(hours=48 if algorithm else 87600)
        assert dates[1] - dates[0] == life + timedelta(minutes=5)
        assert NOW - timedelta(minutes=6) < dates[0] < datetime.now(UTC) - timedelta(minutes=4)
        assert openssl("verify", "-CAfile", crt, crt).endswith(": OK\n")
        assert openssl("x509", "-noout", "-pubkey", "-in", crt) == openssl("pkey", "-pubout", "-in", private)
        assert private.read_text().startswith(f"-----BEGIN {head}-----\n")
    assert len(serials) == 3
    assert (tmp_path / "keys/pki/sa.key").read_text().startswith(f"-----BEGIN {head}-----\n")
    assert (tmp_path / "keys/pki/sa.pub").read_text() == openssl("pkey", "-pubout", "-in", tmp_path / "keys/pki/sa.key")
    assert bundled(tmp_path / "keys").exit_code == 0


@pytest.mark.parametrize(("gate", "head"), [("true", "EC PRIVATE KEY"), ("false", "RSA PRIVATE KEY")])
def test_the_older_gate(tmp_path: Path, gate: str, head: str) -> None:
    """Before 1.31 it is PublicKeysECDSA that says the algorithm (facts.md 1.12)."""
    assert run("keys", "new", tmp_path / "keys", inventory(tmp_path, f"featureGates: {{PublicKeysECDSA: {gate}}}", "1.29.3")).exit_code == 0
    assert (tmp_path / "keys/pki/ca.key").read_text().startswith(f"-----BEGIN {head}-----\n")


def test_without_an_inventory(tmp_path: Path) -> None:
    assert run("keys", "new", tmp_path / "deep" / "keys").exit_code == 0
    found = secrets.joining(tmp_path / "deep" / "keys")
    assert found.keys() == FILES
    assert {secrets.algorithm_of(secrets.private_key(Path(), found, f"{name}.key")) for name in (*NAMES, "pki/sa")} == {"RSA-2048"}


def test_chance_is_asked_for_every_character() -> None:
    drawn = []

    def choose(characters: str) -> str:
        drawn.append(characters)
        return characters[len(drawn) % len(characters)]

    assert keys.token(choose) == b"bcdefg.hijklmnopqrstuvw\n"
    assert set(drawn) == {"abcdefghijklmnopqrstuvwxyz0123456789"}
    assert len({keys.token(chance.choice) for _ in range(100)}) == 100


def test_a_life_without_end_is_cut(tmp_path: Path) -> None:
    done = run(
        "keys", "new", tmp_path / "keys", inventory(tmp_path, "encryptionAlgorithm: ECDSA-P256, caCertificateValidityPeriod: 2562047h")
    )
    assert done.exit_code == 0, done.output
    assert bundled(tmp_path / "keys").exit_code == 0


# --- all or nothing -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bootstrap-token", "vrrp-word", "pki", "bootstrap-token.age", "vrrp-word.sops"])
def test_nothing_is_replaced(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o700)
    (folder / name).write_text("mine")
    done = run("keys", "new", folder, inventory(tmp_path))
    assert done.exit_code == 2
    assert f"has {name} already" in done.stderr
    assert [path.name for path in folder.iterdir()] == [name]
    assert (folder / name).read_text() == "mine"


def test_a_directory_with_other_things(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o700)
    (folder / "registry").write_text("mine")
    assert run("keys", "new", folder, inventory(tmp_path)).exit_code == 0
    assert sorted(path.name for path in folder.iterdir()) == ["bootstrap-token", "pki", "registry", "vrrp-word"]
    assert run("keys", "new", folder, inventory(tmp_path)).exit_code == 2


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("after", [3, 8])
def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int, fresh: bool) -> None:
    folder = tmp_path / "keys"
    if not fresh:
        folder.mkdir(mode=0o700)
    real, calls = os.fsync, []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) > after:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    done = run("keys", "new", folder)
    assert (done.exit_code, "No space left" in done.stderr) == (2, True)
    assert [path for path in tmp_path.rglob("*") if path != folder] == []
    assert folder.exists() is not fresh


def test_a_move_that_fails_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o700)
    (folder / "registry").write_text("mine")
    real = Path.rename

    def rename(path: Path, target: Path) -> Path:
        if target == folder / "pki":
            raise OSError(5, "Input/output error")
        return real(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    assert run("keys", "new", folder).exit_code == 2
    assert [path.name for path in folder.iterdir()] == ["registry"]


def test_an_empty_directory_is_filled_by_one_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill at any moment leaves it empty or whole."""
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o700)
    real, renamed = Path.rename, []
    monkeypatch.setattr(Path, "rename", lambda path, target: renamed.append(target) or real(path, target))
    assert run("keys", "new", folder).exit_code == 0
    assert renamed == [folder]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert secrets.joining(folder).keys() == FILES


def test_new_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory of a shell is not put away under its feet."""
    (tmp_path / "keys").mkdir(mode=0o700)
    monkeypatch.chdir(tmp_path / "keys")
    assert run("keys", "new", ".").exit_code == 0
    assert sorted(os.listdir()) == ["bootstrap-token", "pki"]  # noqa: PTH208  the one that we stand in


def test_two_runs_at_once(tmp_path: Path) -> None:
    with swap.staging(tmp_path / "other", lambda _: False):
        done = run("keys", "new", tmp_path / "keys")
    assert (done.exit_code, "another stowage is writing here" in done.stderr) == (2, True)
    assert not (tmp_path / "keys").exists()


def test_keys_in_a_bundle_are_refused(folder: Path) -> None:
    """The next bundle would take them away."""
    assert bundled(folder).exit_code == 0
    inside = folder.parent / "out" / "keyed" / "keys"
    refused = run("keys", "new", inside)
    assert (refused.exit_code, "is replaced as a whole" in refused.stderr) == (2, True)
    shutil.copytree(folder, inside)
    done = run("bundle", folder.parent / "inventory.yaml", "-o", folder.parent / "out", "--secrets", inside)
    assert (done.exit_code, "is replaced as a whole" in done.stderr) == (2, True)
    assert (inside / "pki/ca.key").exists()


def test_a_repository_is_pointed_out(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    assert "in a git repository" in run("keys", "new", tmp_path / "deep" / "keys").stderr


def test_what_a_killed_run_left_goes(tmp_path: Path) -> None:
    (tmp_path / ".keys.stowage-new").mkdir()
    (tmp_path / ".keys.stowage-new" / "bootstrap-token").write_text("half")
    assert run("keys", "new", tmp_path / "keys").exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["keys"]


@pytest.mark.parametrize("kind", ["open", "file", "bad inventory", "no inventory"])
def test_new_refuses(tmp_path: Path, kind: str) -> None:
    folder, path = tmp_path / "keys", inventory(tmp_path)
    if kind == "open":
        folder.mkdir(mode=0o755)
    elif kind == "file":
        folder.write_text("x")
    elif kind == "bad inventory":
        path.write_text("version: 2\n")
    else:
        path.unlink()
    done = run("keys", "new", folder, path)
    assert done.exit_code == (1 if kind == "bad inventory" else 2)
    assert not (folder / "pki").exists()


# --- what may be shown --------------------------------------------------------------------------------------------------------------------


@pytest.mark.needs("openssl")
def test_show(made: Path) -> None:
    done = run("keys", "show", made)
    assert done.exit_code == 0
    assert not shows(done, made)
    der = subprocess.run(["openssl", "x509", "-in", made / "pki/ca.crt", "-outform", "DER"], capture_output=True, check=True).stdout
    public = openssl("x509", "-noout", "-pubkey", "-in", made / "pki/ca.crt")
    spki = base64.b64decode("".join(public.splitlines()[1:-1]))
    assert f"sha256:{hashlib.sha256(der).hexdigest()}" in done.stdout
    assert f"discovery hash of the cluster: sha256:{hashlib.sha256(spki).hexdigest()}" in done.stdout
    assert f"bootstrap token: {(made / 'bootstrap-token').read_text()[:6]} (its public half)" in done.stdout
    assert "ECDSA-P256, valid from" in done.stdout


def test_show_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir(mode=0o700)
    assert "no keys of a cluster" in run("keys", "show", tmp_path / "keys").stdout


@pytest.mark.parametrize("text", ["ravenabcdef00000", "ravenabcdef00000.abcdef", "raven"], ids=str.__len__)
def test_show_of_no_token(folder: Path, text: str) -> None:
    """Which half of it is which nobody knows."""
    (folder / "bootstrap-token").write_text(text)
    done = run("keys", "show", folder)
    assert (done.exit_code, "no bootstrap token" in done.stderr, "raven" in done.output) == (2, True, False)


def test_a_new_token(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    done = run("keys", "token", folder)
    assert done.exit_code == 0
    assert not shows(done, folder)
    changed = [path for path, data in before.items() if path.read_bytes() != data]
    assert changed == [folder / "bootstrap-token"]
    assert stat.S_IMODE(changed[0].stat().st_mode) == 0o600
    assert re.fullmatch(rb"[a-z0-9]{6}\.[a-z0-9]{16}\n", changed[0].read_bytes())
    (folder / "bootstrap-token").unlink()
    assert "bootstrap-token missing" in run("keys", "token", folder).stderr
    (folder.parent / "empty").mkdir(mode=0o700)
    assert "stowage keys new" in run("keys", "token", folder.parent / "empty").stderr


# --- the overlay --------------------------------------------------------------------------------------------------------------------------


def test_each_host_gets_what_it_needs(folder: Path) -> None:
    done = bundled(folder)
    assert done.exit_code == 0, done.output
    out = folder.parent / "out" / "keyed"
    found = {
        name: {
            path.relative_to(out / "hosts" / name / "secrets").as_posix()
            for path in (out / "hosts" / name / "secrets").rglob("*")
            if path.is_file()
        }
        for name in "abcw"
    }
    pki = FILES - {"bootstrap-token"}
    assert found["a"] == pki | {"bootstrap-token", "vrrp-word", "SHA256SUMS"}
    assert found["b"] == found["c"] == pki | {"stowage-discovery.conf", "vrrp-word", "SHA256SUMS"}
    assert found["w"] == {"stowage-discovery.conf", "SHA256SUMS"}
    for path in out.glob("hosts/*/secrets/**/*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    for name in pki:
        assert (out / "hosts/b/secrets" / name).read_bytes() == (folder / name).read_bytes()
    conf = (out / "hosts/w/secrets/stowage-discovery.conf").read_text()
    token = (folder / "bootstrap-token").read_text().strip()
    assert (out / "hosts/a/secrets/bootstrap-token").read_text() == token
    assert f"    token: {token}\n" in conf
    assert "    server: https://api:16443\n" in conf
    assert base64.b64decode(re.search("certificate-authority-data: (.*)", conf)[1]) == (folder / "pki/ca.crt").read_bytes()
    assert not run("verify", out).exit_code
    assert subprocess.run(["sh", out / "verify.sh"], capture_output=True, check=False).returncode == 0


def test_no_byte_of_it_is_tracked(folder: Path) -> None:
    """The same tracked bytes with and without; nothing of a secret outside the overlays, in what is printed, or in a message."""
    done = bundled(folder)
    assert not shows(done, folder)
    out = folder.parent / "out"
    assert run("bundle", folder.parent / "inventory.yaml", "-o", folder.parent / "without").exit_code == 0

    def tracked(root: Path) -> dict[str, bytes]:
        files = (path for path in root.rglob("*") if path.is_file() and "secrets" not in path.relative_to(root).parts)
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}

    assert tracked(out) == tracked(folder.parent / "without")
    assert not [path for path, data in tracked(out).items() for part in private_parts(folder) if part in data]


def test_a_bundle_without_keys_does_not_pay_for_them(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir(mode=0o700)
    (tmp_path / "keys" / "vrrp-word").write_text("canary")
    code = f"import sys; from generator.cli import stowage; stowage(['bundle', {str(inventory(tmp_path))!r}, '-o', {str(tmp_path / 'out')!r}, '--secrets', {str(tmp_path / 'keys')!r}], standalone_mode=False); assert 'cryptography' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_nobody_else_may_read_a_copy(folder: Path) -> None:
    """Whatever the umask: the overlay, and the archives that hold it."""
    words = ("pack", folder.parent / "out" / "keyed", "-o", folder.parent / "packed", "--compress", "none")
    before = os.umask(0)
    try:
        assert bundled(folder).exit_code == 0
        assert run(*words).exit_code == 0
    finally:
        os.umask(before)
    found = [
        path for path in folder.parent.rglob("*") if path.is_file() and any(part in path.read_bytes() for part in private_parts(folder))
    ]
    assert {path.parent.name for path in found} >= {"packed", "secrets", "pki", "etcd"}
    assert not [path for path in found if path.stat().st_mode & 0o077]


def test_one_directory_is_for_one_cluster(folder: Path) -> None:
    other = folder.parent / "other.yaml"
    other.write_text((folder.parent / "inventory.yaml").read_text().replace("name: keyed", "name: other"))
    done = bundled(folder, other)
    assert (done.exit_code, "the keys of one cluster, and these are 2" in done.stderr) == (2, True)
    assert not (folder.parent / "out").exists()


def test_what_a_host_no_longer_needs_goes(folder: Path) -> None:
    """With other secrets, nothing of the former ones stays on any host."""
    assert bundled(folder).exit_code == 0
    (folder / "bootstrap-token").unlink()
    shutil.rmtree(folder / "pki")
    assert bundled(folder).exit_code == 0
    assert sorted(path.name for path in folder.parent.glob("out/keyed/hosts/*/secrets/*")) == [*["SHA256SUMS"] * 3, *["vrrp-word"] * 3]


def test_a_ca_that_ends_before_what_it_signs(folder: Path) -> None:
    for name, data in keys.make("ECDSA-P256", NOW - timedelta(days=1), NOW + timedelta(days=300), (), chance.choice).items():
        (folder / name).write_bytes(data)
    done = bundled(folder)
    assert done.exit_code == 0
    assert done.stderr.count("and so do the certificates of 8760h that it signs") == 3
    inventory(folder.parent, "encryptionAlgorithm: ECDSA-P256, certificateValidityPeriod: 7000h")
    assert not bundled(folder).stderr


@pytest.mark.needs("openssl")
def test_the_ca_of_the_kubernetes_documentation(folder: Path) -> None:
    """``openssl req -x509`` without more: no KeyUsage, so nothing is forbidden to it."""
    openssl(
        "req",
        "-x509",
        "-new",
        "-nodes",
        "-key",
        folder / "pki/ca.key",
        "-subj",
        "/CN=10.0.0.9",
        "-days",
        "10000",
        "-out",
        folder / "pki/ca.crt",
    )
    assert "Key Usage" not in openssl("x509", "-noout", "-text", "-in", folder / "pki/ca.crt")
    done = bundled(folder)
    assert done.exit_code == 0, done.output


def spoil(folder: Path, how: str) -> None:
    """One mistake in *folder*."""
    place = folder / "pki/sa.key"

    def made(begin: int, end: int, *names: str) -> dict[str, bytes]:
        found = keys.make("ECDSA-P256", NOW + timedelta(days=begin), NOW + timedelta(days=end), (), chance.choice)
        return {name: found[name] for name in names}

    def damaged() -> dict[str, bytes]:
        der = base64.b64decode("".join((folder / "pki/ca.crt").read_text().splitlines()[1:-1]))
        pem = base64.encodebytes(der[:-1] + bytes([der[-1] ^ 1])).decode()
        return {"pki/ca.crt": f"-----BEGIN CERTIFICATE-----\n{pem}-----END CERTIFICATE-----\n".encode()}

    def guarded() -> bytes:
        words = ["openssl", "ec", "-aes256", "-passout", "pass:canary0000"]
        return subprocess.run(words, input=(folder / "pki/ca.key").read_bytes(), capture_output=True, check=True).stdout

    changes = {
        "another key": lambda: made(-1, 1, "pki/etcd/ca.key"),
        "another public half": lambda: made(-1, 1, "pki/sa.pub"),
        "ended": lambda: made(-2, -1, "pki/front-proxy-ca.crt", "pki/front-proxy-ca.key"),
        "early": lambda: made(1, 2, "pki/ca.crt", "pki/ca.key"),
        "no certificate": lambda: {"pki/ca.crt": b"-----BEGIN CERTIFICATE-----\ncanary0000\n-----END CERTIFICATE-----\n"},
        "two certificates": lambda: {"pki/ca.crt": made(-1, 1, "pki/ca.crt")["pki/ca.crt"] * 2},
        "no key": lambda: {"pki/ca.key": b"canary0000\n"},
        "no public key": lambda: {"pki/sa.pub": b"canary0000\n"},
        "another algorithm": rsa,
        "no token": lambda: {"bootstrap-token": b"abcdef.canary0000\n"},
        "a key with a passphrase": lambda: {"pki/ca.key": guarded()},
        "large": lambda: {"pki/sa.key": b"canary0000" * 10_000},
        "a mark": lambda: {"pki/ca.key": b"\xef\xbb\xbf" + (folder / "pki/ca.key").read_bytes()},
        "damaged": damaged,
        "a CA that may not sign": lambda: dict(
            zip(("pki/ca.crt", "pki/ca.key"), leaf(folder.parent, "basicConstraints=CA:TRUE", "keyUsage=cRLSign"), strict=True)
        ),
        "no CA": lambda: dict(zip(("pki/ca.crt", "pki/ca.key"), leaf(folder.parent), strict=True)),
    }
    for name, data in changes.get(how, dict)().items():
        (folder / name).write_bytes(data)
    if how == "missing":
        (folder / "pki/sa.pub").unlink()
    elif how == "readable":
        place.chmod(0o640)
    elif how in ("pipe", "folder", "dangling"):
        place.unlink()
        {"pipe": lambda: os.mkfifo(place), "folder": place.mkdir, "dangling": lambda: place.symlink_to("nowhere")}[how]()


def rsa() -> dict[str, bytes]:
    key = subprocess.run(["openssl", "genrsa", "2048"], capture_output=True, check=True).stdout
    return {
        "pki/sa.key": key,
        "pki/sa.pub": subprocess.run(["openssl", "pkey", "-pubout"], input=key, capture_output=True, check=True).stdout,
    }


def leaf(folder: Path, *extensions: str) -> tuple[bytes, bytes]:
    words = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=kubernetes",
        "-days",
        "9",
        *(word for one in extensions or ("basicConstraints=CA:FALSE",) for word in ("-addext", one)),
    ]
    openssl(*words, "-keyout", folder / "leaf.key", "-out", folder / "leaf.crt")
    return (folder / "leaf.crt").read_bytes(), (folder / "leaf.key").read_bytes()


@pytest.mark.needs("openssl")
@pytest.mark.parametrize(
    ("how", "named"),
    [
        ("another key", "pki/etcd/ca.crt: not the certificate of pki/etcd/ca.key"), ("another public half", "pki/sa.pub: not the public key of pki/sa.key"), ("ended", "pki/front-proxy-ca.crt: ended on"),
        ("early", "pki/ca.crt: begins on"), ("no certificate", "pki/ca.crt: not one certificate"), ("two certificates", "pki/ca.crt: not one certificate"), ("no key", "pki/ca.key: no private key"),
        ("no public key", "pki/sa.pub: no public key"), ("another algorithm", "pki/sa.key: a key of RSA-2048"), ("no token", "bootstrap-token: no bootstrap token"),
        ("a key with a passphrase", "pki/ca.key: no private key"), ("large", "pki/sa.key: too large"), ("no CA", "pki/ca.crt: not a CA's certificate"), ("a CA that may not sign", "pki/ca.crt: not a CA's certificate"), ("a mark", "pki/ca.key: begins with a byte order mark"), ("damaged", "pki/ca.crt: damaged"), ("missing", "pki/sa.pub missing"),
        ("readable", "chmod 0600"), ("pipe", "pki/sa.key: not a file"), ("folder", "pki/sa.key: not a file"), ("dangling", "pki/sa.key: No such file"),
    ],
)  # fmt: skip
def test_bad_keys(folder: Path, how: str, named: str) -> None:
    """Each is found before anything is written, named with a remedy, and not shown."""
    spoil(folder, how)
    done = bundled(folder)
    assert done.exit_code == 2, done.output
    assert named in done.stderr
    assert "help: " in done.stderr
    assert "canary" not in done.output
    assert "Traceback" not in done.output
    assert not (folder.parent / "out").exists()


def test_a_name_that_the_keys_have(folder: Path) -> None:
    path = folder.parent / "inventory.yaml"
    path.write_text(path.read_text().replace("vrrp-word", "bootstrap-token"))
    assert "is the name of the cluster's keys" in bundled(folder).stderr
    assert "is the name of the cluster's keys" in run("keys", "new", folder.parent / "new", path).stderr
    assert not (folder.parent / "new").exists()


# --- encrypted ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.needs("age", "age-keygen")
def test_age(folder: Path) -> None:
    identity = folder.parent / "identity"
    subprocess.run(["age-keygen", "-o", identity], capture_output=True, check=True)
    recipient = subprocess.run(["age-keygen", "-y", identity], capture_output=True, text=True, check=True).stdout.strip()
    assert bundled(folder).exit_code == 0
    plain = {path: path.read_bytes() for path in (folder.parent / "out").rglob("*") if path.is_file()}
    shutil.rmtree(folder.parent / "out")
    for name in ("pki/ca.key", "pki/sa.key", "bootstrap-token", "vrrp-word"):
        subprocess.run(["age", "-r", recipient, "-o", folder / f"{name}.age", folder / name], check=True)
        (folder / name).unlink()
    refused = bundled(folder)
    assert (refused.exit_code, "encrypted with age" in refused.stderr, "--identity" in refused.stderr) == (2, True, True)
    done = bundled(folder, "--identity", identity)
    assert done.exit_code == 0, done.output
    assert {path: path.read_bytes() for path in (folder.parent / "out").rglob("*") if path.is_file()} == plain
    assert "bootstrap token: " in run("keys", "show", folder, "--identity", identity).stdout
    assert "decrypt it first" in run("keys", "token", folder).stderr
    other = folder.parent / "other"
    subprocess.run(["age-keygen", "-o", other], capture_output=True, check=True)
    wrong = bundled(folder, "--identity", other)
    assert (wrong.exit_code, "age can't decrypt it" in wrong.stderr) == (2, True)


def test_sops(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian has none: a stand-in that takes just the words of its documentation."""
    (folder / "bootstrap-token").rename(folder / "bootstrap-token.sops")
    monkeypatch.setenv("PATH", str(folder.parent / "bin"))
    assert "sops: not on this machine" in bundled(folder).stderr
    (folder.parent / "bin").mkdir()
    program = folder.parent / "bin" / "sops"
    program.write_text('#!/bin/sh\n[ "$*" = "--decrypt --input-type binary --output-type binary $6" ] && exec /bin/cat "$6"\nexit 1\n')
    program.chmod(0o755)
    assert bundled(folder).exit_code == 0


def test_the_overlay_of_one_control_plane(tmp_path: Path) -> None:
    """No endpoint, no load balancer, nobody to join."""
    text = "version: 1\ncluster: {name: one, kubernetesVersion: 1.31.4}\nhosts:\n- {name: a, role: control-plane, address: 10.0.0.1/24, interface: eth0, os: debian-12}\n"
    cluster = compiler.check("one", text.encode()).cluster
    made = keys.make("ECDSA-P256", NOW - timedelta(days=1), NOW + timedelta(days=1), (), chance.choice)
    keys.write(tmp_path / "keys", made)
    known = secrets.read(tmp_path / "keys", cluster, NOW)
    assert secrets.overlay(cluster, known).keys() == {"a"}
    assert secrets.overlay(cluster, {}) == {}
