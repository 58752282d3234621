"""Archives for the trip: reproducible, streamed, refused when the bundle is not as built, put together without Python, and what is in them."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

import jsonschema
import pytest
from conftest import GOLDENS, REPOSITORY
from fakehost import sums
from test_sign import keys, run  # noqa: F401 - a fixture

from generator import pack, sbom
from generator.bundle import BundleError

HOST, MEBI = "master-1", 1 << 20


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, all_bundles) -> Path:
    """The example with overlays on its first host, 3 MB of them that nothing compresses; never changed."""
    root = tmp_path_factory.mktemp("whole") / "example"
    shutil.copytree(all_bundles(GOLDENS[0]).path, root)
    host = root / "hosts" / HOST
    images = [f"images/{line.translate(str.maketrans('/:@', '___'))}.tar" for line in (host / "images.txt").read_text().splitlines()]
    noise = os.urandom(3 * MEBI)
    for path, data in {
        "secrets/vrrp": b"CaNaRy7",
        "secrets/pki/ca.key": b"CANARY KEY",
        f"payload/{images[0]}": noise,
        "payload/images/other.tar": b"",
        "payload/packages/nginx_1%3a1.22.1-9+deb12u1_amd64.deb": b"deb",
        "payload/packages/kubelet-1.29.3-150500.1.1.x86_64.rpm": b"rpm",
        "payload/packages/odd name ä": b"odd",
        "payload/files/crictl": b"binary",
    }.items():
        (host / path).parent.mkdir(parents=True, exist_ok=True)
        (host / path).write_bytes(data)
    (host / "secrets").chmod(0o700)
    for overlay in ("secrets", "payload"):
        sums(host / overlay)
    return root


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    shutil.copytree(whole, tmp_path / "example", symlinks=True)
    return tmp_path / "example"


def packed(root: Path, out: Path, *options: str | Path) -> Path:
    status, output = run("pack", root, "-o", out, *options)
    assert status == 0, output
    return out


def content(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


def opened(out: Path, host: str = HOST) -> tarfile.TarFile:
    """The archive of *host*, its parts put together here."""
    data = b"".join(path.read_bytes() for path in sorted(out.glob(f"*_{host}.tar*")))
    if data[:4] == b"\x28\xb5\x2f\xfd":
        data = subprocess.run(["zstd", "-dcq"], input=data, capture_output=True, check=True).stdout
    return tarfile.open(fileobj=io.BytesIO(data))


def join(out: Path, target: Path, *options: str | Path, host: str = HOST, shell: str = "sh") -> subprocess.CompletedProcess[str]:
    target.mkdir(exist_ok=True)
    command = [shell, out / "join.sh", *options, host, target]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=target.parent)


def same(one: Path, other: Path) -> bool:
    return subprocess.run(["diff", "-r", one, other], capture_output=True, check=False).returncode == 0


# --- what is in it --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["gzip", "none", pytest.param("zstd", marks=pytest.mark.needs("zstd"))])
def test_the_same_bundle_gives_the_same_bytes(whole, tmp_path, compression):
    """Copied elsewhere, at another time, with other modes and another umask."""
    first = packed(whole, tmp_path / "first", "--compress", compression)
    shutil.copytree(whole, tmp_path / "example", copy_function=shutil.copyfile)
    before = os.umask(0o077)
    try:
        second = packed(tmp_path / "example", tmp_path / "deep" / "second", "--compress", compression)
    finally:
        os.umask(before)
    assert content(first) == content(second)
    assert len(list(first.glob("*.part-001"))) == 6
    assert stat.S_IMODE(first.stat().st_mode) == 0o700


def test_members(whole, tmp_path):
    with opened(packed(whole, tmp_path / "out")) as archive:
        members = {member.name: member for member in archive}
    assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in members.values()} == {(0, 0, "", "", 315532800)}
    assert {name.split("/", maxsplit=1)[0] for name in members} == {HOST, f"example_{HOST}.provenance.json", f"example_{HOST}.spdx.json"}
    host = whole / "hosts" / HOST
    assert {f"{HOST}/{path.relative_to(host).as_posix()}" for path in host.rglob("*")} == {name for name in members if "/" in name}
    modes = {name: members[f"{HOST}/{name}"].mode for name in ("host.env", "run.sh", "scripts", "secrets", "secrets/pki", "secrets/pki/ca.key", "payload/files/crictl")}  # fmt: skip
    assert modes == {"host.env": 0o644, "run.sh": 0o755, "scripts": 0o755, "secrets": 0o700, "secrets/pki": 0o700, "secrets/pki/ca.key": 0o600, "payload/files/crictl": 0o644}  # fmt: skip
    names = [name for name in members if "/" in name]
    assert names == sorted(names)


def test_real_tar_reads_it(whole, tmp_path):
    out = packed(whole, tmp_path / "out", "--host", "node-1")
    listed = subprocess.run(["tar", "-tzf", out / "example_node-1.tar.gz.part-001"], capture_output=True, text=True, check=True)
    assert listed.stderr == ""
    assert "node-1/host.env" in listed.stdout.splitlines()
    kind = subprocess.run(["sh", "-c", f"gzip -dc {out}/*.part-001 | tail -c +258 | head -c 8 | od -An -c"], capture_output=True, text=True, check=True).stdout.split()  # fmt: skip
    assert kind == ["u", "s", "t", "a", "r", "\\0", "0", "0"]


def test_chosen_hosts_only(whole, tmp_path):
    out = packed(whole, tmp_path / "out", "--host", "node-2", "--host", "master-3")
    assert {path.name for path in out.glob("*.part-*")} == {"example_master-3.tar.gz.part-001", "example_node-2.tar.gz.part-001"}
    status, output = run("pack", whole, "-o", out, "--host", "nobody")
    assert (status, "no host nobody" in output) == (2, True)
    assert len(list(out.glob("*.part-*"))) == 2


def test_provenance(whole, tmp_path):
    with opened(packed(whole, tmp_path / "out")) as archive:
        said = json.load(archive.extractfile(f"example_{HOST}.provenance.json"))
    manifest = json.loads((whole / "manifest.json").read_text())
    assert (said["lock"], said["tool"], said["cluster"], said["host"]) == (manifest["lock"], manifest["tool"], "example", HOST)
    assert set(said["sha256"]) == {"SHA256SUMS", f"hosts/{HOST}/SHA256SUMS", f"hosts/{HOST}/payload/SHA256SUMS"}
    for path, digest in said["sha256"].items():
        assert digest == subprocess.run(["sha256sum", whole / path], capture_output=True, text=True, check=True).stdout.split()[0]
    assert "commit" not in said


@pytest.mark.needs("git")
def test_a_clean_commit_is_named(root, tmp_path):
    def git(*words: str) -> str:
        identity = ("-c", "user.name=x", "-c", "user.email=x@x", "-c", "commit.gpgsign=false")
        return subprocess.run(["git", "-C", root, *identity, *words], capture_output=True, text=True, check=True).stdout.strip()

    def commit(out: Path) -> str | None:
        with opened(out) as archive:
            return json.load(archive.extractfile(f"example_{HOST}.provenance.json")).get("commit")

    git("init", "-q")
    assert commit(packed(root, tmp_path / "out")) is None
    git("add", ".")
    git("commit", "-q", "-m", "bundle")
    head = git("rev-parse", "HEAD")
    # Where archives lie in the work tree, they don't make it unclean, and git doesn't take the secrets in them.
    for _ in range(2):
        assert commit(packed(root, root.parent / "example" / "hosts" / ".." / ".." / "out")) == head
    (tmp_path / "repository").mkdir()
    (root.parent / "notes").write_text("outside")
    assert commit(packed(root, tmp_path / "out")) == head
    (root / ".git" / "info" / "exclude").write_text("")
    git("rm", "-q", "--cached", "README.md")
    assert commit(packed(root, tmp_path / "out")) is None


def test_archives_are_no_secret_for_git(whole, tmp_path):
    assert (packed(whole, tmp_path / "out") / ".gitignore").read_text() == "*\n"


# --- SPDX -----------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spdx():
    """The validator of SPDX 2.3."""
    schema = json.loads((REPOSITORY / "tests" / "schemas" / "spdx-2.3.json").read_text())
    return jsonschema.Draft7Validator(schema)


def test_the_list_of_the_payload_is_spdx(whole, tmp_path, spdx):
    with opened(packed(whole, tmp_path / "out")) as archive:
        document = json.load(archive.extractfile(f"example_{HOST}.spdx.json"))
    assert not list(spdx.iter_errors(document))
    packages = {package.get("packageFileName"): package for package in document["packages"]}
    root = packages.pop(None)
    payload = whole / "hosts" / HOST / "payload"
    assert set(packages) == {
        f"payload/{p.relative_to(payload).as_posix()}" for p in payload.rglob("*") if p.is_file() and p.name != "SHA256SUMS"
    }
    for path, package in packages.items():
        digest = (
            subprocess.run(["sha256sum", payload.parent / path], capture_output=True, text=True, check=True).stdout.split()[0].lstrip("\\")
        )
        assert package["checksums"] == [{"algorithm": "SHA256", "checksumValue": digest}]
    identifiers = [package["SPDXID"] for package in document["packages"]]
    assert len(set(identifiers)) == len(identifiers)
    related = [(r["spdxElementId"], r["relationshipType"], r["relatedSpdxElement"]) for r in document["relationships"]]
    assert related[0] == ("SPDXRef-DOCUMENT", "DESCRIBES", root["SPDXID"])
    assert {other for one, kind, other in related[1:] if (one, kind) == (root["SPDXID"], "CONTAINS")} == set(identifiers) - {root["SPDXID"]}
    deb = packages["payload/packages/nginx_1%3a1.22.1-9+deb12u1_amd64.deb"]
    assert (deb["name"], deb["versionInfo"]) == ("nginx", "1:1.22.1-9+deb12u1")
    image = next(package for path, package in packages.items() if path.startswith("payload/images/registry"))
    reference = (payload.parent / "images.txt").read_text().splitlines()[0]
    assert f"{image['name']}:{image['versionInfo']}" == reference
    assert image["primaryPackagePurpose"] == "CONTAINER"
    assert document["creationInfo"]["created"] == "1970-01-01T00:00:00Z"


def test_the_schema_refuses(spdx):
    """A validator that takes anything proves nothing."""
    document = sbom.document(sbom.About("a", "0", "1970-01-01T00:00:00Z", "debian-12"), {"files/x": "0" * 64}, ())
    assert not list(spdx.iter_errors(document))
    for spoil in (
        lambda d: d.pop("spdxVersion"),
        lambda d: d["packages"][1].update(primaryPackagePurpose="SONG"),
        lambda d: d["packages"][1].pop("downloadLocation"),
        lambda d: d["relationships"][0].update(relationshipType="KNOWS"),
        lambda d: d.update(more=1),
    ):
        spoiled = json.loads(json.dumps(document))
        spoil(spoiled)
        assert list(spdx.iter_errors(spoiled))


@pytest.mark.parametrize(
    ("path", "name", "version", "purl"),
    [
        ("packages/socat_1.7.4.4-2_amd64.deb", "socat", "1.7.4.4-2", "pkg:deb/debian/socat@1.7.4.4-2?arch=amd64&distro=debian-12"),
        ("packages/libstdc++6_12.2.0-14_amd64.deb", "libstdc++6", "12.2.0-14", "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14?arch=amd64&distro=debian-12"),
        ("packages/containerd.io-1.7.22-3.1.el9.x86_64.rpm", "containerd.io", "1.7.22-3.1.el9", "pkg:rpm/debian/containerd.io@1.7.22-3.1.el9?arch=x86_64&distro=debian-12"),
        ("images/h_5000_a_b_1.tar", "h:5000/a/b", "1", "pkg:oci/b?repository_url=h:5000/a/b&tag=1"),
        ("images/c_d_sha256_00.tar", "c/d", "sha256:00", "pkg:oci/d@sha256:00?repository_url=c/d"),
        ("packages/Packages.gz", "packages/Packages.gz", None, None),
        ("packages/a_b.deb", "packages/a_b.deb", None, None),
    ],
)  # fmt: skip
def test_what_a_name_says(path, name, version, purl):
    about = sbom.About("a", "0", "1970-01-01T00:00:00Z", "debian-12")
    package = sbom.document(about, {path: "0" * 64}, ["h:5000/a/b:1", "c/d@sha256:00"])["packages"][1]
    assert (package["name"], package.get("versionInfo")) == (name, version)
    assert [one["referenceLocator"] for one in package.get("externalRefs", [])] == ([purl] if purl else [])


def test_another_payload_is_another_namespace():
    about = sbom.About("a", "0", "1970-01-01T00:00:00Z", "debian-12")
    spaces = {sbom.document(about, {"x": digest * 64}, ())["documentNamespace"] for digest in "01"}
    assert len(spaces) == 2


def test_the_time_may_be_told(whole, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    with opened(packed(whole, tmp_path / "out", "--host", "node-1"), "node-1") as archive:
        assert json.load(archive.extractfile("example_node-1.spdx.json"))["creationInfo"]["created"] == "2023-11-14T22:13:20Z"
    for wrong in ("", "-1", "today", "9" * 12):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", wrong)
        assert run("pack", whole, "-o", tmp_path / "out")[0] == 2


# --- what is refused ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "how", "line"),
    [
        ("host.env", "changed", "changed: hosts/master-1/host.env"),
        ("SHA256SUMS", "changed", "changed: hosts/master-1/SHA256SUMS"),
        ("payload/images/other.tar", "changed", "changed: hosts/master-1/payload/images/other.tar"),
        ("secrets/vrrp", "changed", "changed: hosts/master-1/secrets/vrrp"),
        ("secrets/vrrp", "missing", "missing: hosts/master-1/secrets/vrrp"),
        ("scripts/lib.sh", "missing", "missing: hosts/master-1/scripts/lib.sh"),
        ("scripts/lib.sh", "link", "changed: hosts/master-1/scripts/lib.sh"),
        ("scripts/lib.sh", "pipe", "changed: hosts/master-1/scripts/lib.sh"),
        ("payload/more", "extra", "extra: hosts/master-1/payload/more"),
        ("more", "extra", "extra: hosts/master-1/more"),
        ("../../manifest.json", "changed", "changed: manifest.json"),
        ("payload/SHA256SUMS", "missing", "missing: hosts/master-1/payload/SHA256SUMS"),
    ],
)
def test_what_is_not_as_built_is_not_packed(root, tmp_path, path, how, line):
    out = packed(root, tmp_path / "out", "--host", "node-1")
    before = content(out)
    file = root / "hosts" / HOST / path
    if how == "changed":
        file.write_bytes(file.read_bytes() + b" ")
    elif how == "extra":
        file.touch()
    else:
        data = file.read_bytes()
        file.unlink()
        if how == "link":
            (tmp_path / "elsewhere").write_bytes(data)
            file.symlink_to(tmp_path / "elsewhere")
        elif how == "pipe":
            os.mkfifo(file)
    status, output = run("pack", root, "-o", out)
    assert status == 1
    assert line in output.splitlines()[-1], output
    assert "CaNaRy7" not in output
    assert content(out) == before
    assert sorted(entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")) == []


def test_what_others_put_there_is_not_replaced(whole, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "photos").touch()
    status, output = run("pack", whole, "-o", tmp_path / "out")
    assert status == 2
    assert "holds what stowage did not pack" in output
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert content(tmp_path / "out") == {"photos": b""}


def test_what_ustar_cannot_hold_is_named(root, tmp_path):
    payload = root / "hosts" / HOST / "payload"
    with (payload / "files" / "huge").open("wb") as file:
        file.truncate(8 << 30)
    (payload / "SHA256SUMS").write_text((payload / "SHA256SUMS").read_text() + f"{'0' * 64}  files/huge\n")
    status, output = run("pack", root, "-o", tmp_path / "out")
    assert (status, "8 GiB" in output, "files/huge" in output) == (2, True, True)
    (payload / "files" / "huge").unlink()
    (payload / "files" / ("n" * 101)).touch()
    sums(payload)
    status, output = run("pack", root, "-o", tmp_path / "out")
    assert (status, "too long a name" in output, "n" * 101 in output) == (2, True, True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", ["", "0M", "1", "1K", "4GB", "-1M", "9999999999M", "1.5G"])
def test_sizes_that_are_none(whole, tmp_path, size):
    assert run("pack", whole, "-o", tmp_path / "out", "--volume-size", size)[0] == 2


def test_too_many_parts(whole, tmp_path):
    with pytest.raises(BundleError, match="more than 999 parts"):
        list(pack.pack(whole, tmp_path / "out", [HOST], pack.Trip("none", 512, "", "1970-01-01T00:00:00Z")))
    assert not (tmp_path / "out").exists()


# --- parts, and join.sh ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def parts(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Archives of two hosts, the first in four parts; never changed."""
    return packed(whole, tmp_path_factory.mktemp("parts") / "out", "--volume-size", "1M", "--host", HOST, "--host", "node-1")


@pytest.fixture
def out(parts: Path, tmp_path: Path) -> Path:
    shutil.copytree(parts, tmp_path / "medium of one" / "out")
    return tmp_path / "medium of one" / "out"


def names(out: Path) -> list[str]:
    return sorted(path.name for path in out.glob(f"*_{HOST}.tar*"))


def test_parts_fit_the_medium(parts):
    sizes = [(parts / name).stat().st_size for name in names(parts)]
    assert len(sizes) > 3 or sum(sizes) <= 3 * MEBI
    assert all(size == MEBI for size in sizes[:-1])
    assert names(parts)[0] == f"example_{HOST}.tar.gz.part-001"
    subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=parts, check=True)
    assert run("verify", parts)[0] == 0


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize("compression", ["gzip", "none", pytest.param("zstd", marks=pytest.mark.needs("zstd"))])
def test_join_gives_the_folder(whole, tmp_path, shell, compression):
    out = packed(whole, tmp_path / "out", "--volume-size", "1M", "--compress", compression, "--host", HOST)
    done = join(out, tmp_path / "root of it", shell=shell)
    assert (done.returncode, done.stderr) == (0, "")
    unpacked = tmp_path / "root of it" / HOST
    assert same(unpacked, whole / "hosts" / HOST)
    assert stat.S_IMODE((unpacked / "secrets").stat().st_mode) == 0o700
    assert stat.S_IMODE((unpacked / "secrets" / "vrrp").stat().st_mode) == 0o600
    assert {path.name for path in (tmp_path / "root of it").iterdir()} == {
        HOST,
        f"example_{HOST}.provenance.json",
        f"example_{HOST}.spdx.json",
    }
    again = join(out, tmp_path / "root of it", shell=shell)
    assert (again.returncode, "is there already" in again.stderr) == (2, True)


def test_parts_on_several_media(out, whole, tmp_path):
    second = tmp_path / "second medium"
    second.mkdir()
    for name in names(out)[1::2]:
        (out / name).rename(second / name)
    assert join(out, tmp_path / "root").returncode == 1
    assert join(out, tmp_path / "root", "--from", second).returncode == 0
    assert same(tmp_path / "root" / HOST, whole / "hosts" / HOST)


def swapped(out: Path, one: str, other: str) -> None:
    (out / one).rename(out / "aside")
    (out / other).rename(out / one)
    (out / "aside").rename(out / other)


def cut(out: Path, name: str) -> None:
    with (out / name).open("r+b") as file:
        file.truncate(MEBI // 2)


def flipped(out: Path, name: str) -> None:
    data = bytearray((out / name).read_bytes())
    data[len(data) // 2] ^= 4
    (out / name).write_bytes(data)


FIRST, SECOND = f"example_{HOST}.tar.gz.part-001", f"example_{HOST}.tar.gz.part-002"


@pytest.mark.parametrize(
    ("spoil", "lines"),
    [
        (lambda out: flipped(out, FIRST), [f"changed: {FIRST}"]),
        (lambda out: cut(out, SECOND), [f"changed: {SECOND}"]),
        (lambda out: (out / SECOND).unlink(), [f"missing: {SECOND}"]),
        (lambda out: swapped(out, FIRST, SECOND), [f"changed: {FIRST}", f"changed: {SECOND}"]),
        (lambda out: swapped(out, FIRST, "example_node-1.tar.gz.part-001"), [f"changed: {FIRST}"]),
        (lambda out: ((out / FIRST).unlink(), os.mkfifo(out / FIRST)), [f"missing: {FIRST}"]),
    ],
    ids=["flipped", "cut", "missing", "swapped", "of another host", "pipe"],
)
def test_join_names_the_part(out, tmp_path, spoil, lines):
    spoil(out)
    done = join(out, tmp_path / "root")
    assert (done.returncode, done.stdout.splitlines()) == (1, lines)
    assert list((tmp_path / "root").iterdir()) == []
    assert run("verify", out)[0] == 1


@pytest.mark.parametrize("last", [True, False])
def test_a_part_that_the_sums_leave_out(out, tmp_path, last):
    """What is unpacked must be whole, whatever the sums say."""
    gone = names(out)[-1] if last else SECOND
    (out / "SHA256SUMS").write_text(
        "".join(line for line in (out / "SHA256SUMS").read_text().splitlines(keepends=True) if gone not in line)
    )
    done = join(out, tmp_path / "root")
    assert done.returncode == 1
    assert list((tmp_path / "root").iterdir()) == []


@pytest.mark.needs("ssh-keygen")
def test_signed_archives(whole, tmp_path, keys):  # noqa: F811 - the fixture
    root = tmp_path / "example"
    shutil.copytree(whole, root)
    assert run("sign", root, "--key", keys / "ours")[0] == 0
    out = packed(root, tmp_path / "out", "--host", HOST)
    assert "missing: SHA256SUMS.sig" in join(out, tmp_path / "root", "--signers", keys / "signers").stderr
    assert run("sign", out, "--key", keys / "theirs")[0] == 0
    assert "bad signature: SHA256SUMS.sig" in join(out, tmp_path / "root", "--signers", keys / "signers").stderr
    assert run("verify", out, "--signers", keys / "signers")[0] == 1
    assert run("sign", out, "--key", keys / "ours")[0] == 0
    assert run("verify", out, "--signers", keys / "signers")[0] == 0
    shutil.copy(keys / "signers", tmp_path / "signers")
    done = join(out, tmp_path / "root", "--signers", "signers")
    assert (done.returncode, "as built and signed" in done.stdout) == (0, True), done.stderr
    assert same(tmp_path / "root" / HOST, root / "hosts" / HOST)
    # Sums of parts that were changed together with a part.
    (out / "SHA256SUMS").write_text((out / "SHA256SUMS").read_text().replace("0", "1"))
    assert "bad signature" in join(out, tmp_path / "other", "--signers", keys / "signers").stderr


@pytest.mark.needs("ssh-keygen")
def test_an_unsigned_folder_in_signed_parts(whole, tmp_path, keys):  # noqa: F811 - the fixture
    """Who signs the parts doesn't speak for what is in them: --signers asks both."""
    out = packed(whole, tmp_path / "out", "--host", HOST)
    assert run("sign", out, "--key", keys / "ours")[0] == 0
    done = join(out, tmp_path / "root", "--signers", keys / "signers")
    assert (done.returncode, "missing: SHA256SUMS.sig" in done.stdout) == (1, True)
    assert list((tmp_path / "root").iterdir()) == []


def test_join_without_zstd_says_so(whole, tmp_path):
    out = packed(whole, tmp_path / "out", "--compress", "zstd", "--host", "node-1")
    (tmp_path / "bin").mkdir()
    for program in ("sh", "dirname", "sha256sum", "tar", "sed", "sort"):
        (tmp_path / "bin" / program).symlink_to(shutil.which(program) or "")
    (tmp_path / "root").mkdir()
    done = subprocess.run(
        ["sh", out / "join.sh", "node-1", tmp_path / "root"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": str(tmp_path / "bin")},
    )
    assert (done.returncode, "zstd is not there" in done.stderr) == (2, True)


@pytest.mark.parametrize("words", [[], ["node-1"], ["node-1", "/nowhere"], ["--bogus", "node-1", "/tmp"], ["nobody", "/tmp"], ["../x", "/tmp"], ["node-1", "/tmp", "more"], ["node-1", "/tmp", "--from"], [".*", "/tmp"]])  # fmt: skip
def test_join_used_wrongly(parts, words):
    assert subprocess.run(["sh", parts / "join.sh", *words], capture_output=True, check=False).returncode == 2


@pytest.mark.needs("shellcheck")
def test_join_is_clean(parts):
    script = REPOSITORY / "templates" / "media" / "join.sh"
    subprocess.run(["shellcheck", "-s", "sh", script], check=True)
    done = subprocess.run(["sh", parts / "join.sh", "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("join.sh")


# --- memory ---------------------------------------------------------------------------------------------------------------------------


def test_nothing_is_held(root, tmp_path):
    """A payload far larger than the memory that packing it takes."""
    payload = root / "hosts" / HOST / "payload"
    with (payload / "files" / "big").open("wb") as file:
        file.truncate(600 * MEBI)
    sums(payload)
    # Not ru_maxrss: that begins with the peak of the process that forked this one.
    program = "from generator.cli import stowage; stowage.main(standalone_mode=False); print([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0])"
    command = [sys.executable, "-c", program, "pack", root, "-o", tmp_path / "out", "--host", HOST, "--compress", "zstd"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout.splitlines()[-1]) < 200_000
