"""``fetch-payload.sh`` against real sources on loopback: a registry, an apt repository, a web server; and what it fetched at work."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import payload_parts as parts
import pytest
from conftest import REPOSITORY, checked

from generator import payload
from generator.artifacts import payload as wanted

SCRIPT = REPOSITORY / "templates/payload/fetch-payload.sh"
HEADER = ("#kind", "name", "os", "source", "path", "sha256")
Row = tuple[str, ...]

pytestmark = pytest.mark.needs("bash")


class Fetch:
    """A bundle with rows of the test's own, and the directory that it fills."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.directory = folder / "a payload"
        self.bin = folder / "bin"
        self.script = folder / "bundle/scripts/fetch-payload.sh"
        self.script.parent.mkdir(parents=True)
        self.bin.mkdir()
        shutil.copy(SCRIPT, self.script)
        self.stand_in("sleep", "exit")  # between tries
        self.rows()

    def rows(self, *rows: Row) -> None:
        lines = ["\t".join(row + ("-",) * (len(HEADER) - len(row))) for row in (HEADER, *rows)]
        (self.folder / "bundle/payload.tsv").write_text("".join(f"{line}\n" for line in lines))

    def stand_in(self, name: str, text: str) -> None:
        (self.bin / name).write_text(f"#!/bin/bash\n{text}\n")
        (self.bin / name).chmod(0o755)

    def environment(self, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        return kept | {"PATH": f"{self.bin}:{os.environ['PATH']}", "HOME": str(self.folder)} | more

    def __call__(self, *arguments: str | Path, code: int = 0, **environment: str) -> str:
        result = subprocess.run(
            ["bash", self.script, *arguments, self.directory],
            env=self.environment(**environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert result.returncode == code, result.stdout + result.stderr
        return result.stdout + result.stderr

    def without(self, *names: str) -> dict[str, str]:
        """A PATH on which *names* aren't."""
        kept = self.folder / "few"
        kept.mkdir(exist_ok=True)
        for folder in ("/bin", "/usr/bin", "/usr/sbin"):
            for program in Path(folder).iterdir():
                if program.name not in names and not (kept / program.name).exists():
                    (kept / program.name).symlink_to(program)
        return {"PATH": f"{self.bin}:{kept}"}

    def there(self) -> list[str]:
        """What lies in the directory, without the work folder."""
        return sorted(
            path.relative_to(self.directory).as_posix()
            for path in self.directory.rglob("*")
            if path.is_file() and ".fetch" not in path.parts
        )


@pytest.fixture
def fetch(tmp_path: Path) -> Fetch:
    return Fetch(tmp_path)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[parts.Web]:
    server = parts.Web(tmp_path / "web")
    yield server
    server.close()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[parts.Registry]:
    server = parts.Registry(tmp_path_factory.mktemp("registry") / "r")
    yield server
    server.close()


def image(reference: str) -> Row:
    path = reference.translate(str.maketrans("/:@", "___"))
    return ("image", reference, "-", reference, f"images/{path}.tar")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# --- style and usage -------------------------------------------------------------------------------------------------


@pytest.mark.needs("shellcheck")
def test_is_clean() -> None:
    result = subprocess.run(["shellcheck", SCRIPT], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
    assert max(map(len, SCRIPT.read_text().splitlines())) < 200


def test_help_is_the_header(fetch: Fetch) -> None:
    said = fetch("--help")
    assert said.startswith("fetch-payload.sh")
    assert "Exit status" in said
    assert not fetch.directory.exists()


@pytest.mark.parametrize(
    "arguments",
    [("--bogus",), ("other",), ("--only", "pictures"), ("--with", "wget"), ("--sources", "debian-12"), ("--sources", "debian-12=/nowhere")],
)
def test_wrong_usage(fetch: Fetch, arguments: tuple[str, ...]) -> None:
    assert "remedy:" in fetch(*arguments, code=2)
    assert not fetch.directory.exists()


@pytest.mark.parametrize(
    "row",
    [
        ("image", "--all", "-", "x", "images/x.tar"),
        ("image", "a:1", "-", "a:1", "images/../../x.tar"),
        ("image", "a:1", "-", "a:1", "/etc/x.tar"),
        ("image", "a:1", "-", "-oX", "images/x.tar"),
        ("package", "nginx", "debian-12", "distribution", "packages/rocky-9"),
        ("package", "-oX=y", "debian-12", "distribution", "packages/debian-12"),
        ("package", "nginx", "../x", "distribution", "packages/../x"),
        ("file", "x", "-", "http://127.0.0.1/x", "files/.x"),
        ("file", "x", "-", "http://127.0.0.1/x", "files/x", "abc"),
        ("nonsense", "x", "-", "x", "files/x"),
        ("image",),
    ],
)
def test_a_row_that_is_none_ends_it(fetch: Fetch, row: Row) -> None:
    fetch.rows(row)
    assert "payload.tsv line 2 is not a row of a payload" in fetch(code=1)
    assert not fetch.directory.exists()


def test_without_rows_it_says_where_they_are(fetch: Fetch) -> None:
    (fetch.folder / "bundle/payload.tsv").unlink()
    assert "payload.tsv is missing" in fetch(code=1)


def test_the_directory_may_have_no_name_that_apt_cannot_read(fetch: Fetch) -> None:
    fetch.directory = fetch.folder / 'a"b'
    assert "quote" in fetch(code=1)


# --- plan ------------------------------------------------------------------------------------------------------------


@pytest.mark.needs("skopeo")
def test_the_plan_asks_no_network_and_writes_nothing(fetch: Fetch) -> None:
    fetch.rows(
        (
            "repository",
            "kubernetes",
            "debian-12",
            "https://pkgs.k8s.io/core:/stable:/v1.34/deb/ /",
            "https://pkgs.k8s.io/core:/stable:/v1.34/deb/Release.key",
        ),
        (
            "repository",
            "docker",
            "rocky-9",
            "https://download.docker.com/linux/centos/9/x86_64/stable/",
            "https://download.docker.com/linux/centos/gpg",
        ),
        ("package", "kubelet=1.34.3-*", "debian-12", "kubernetes", "packages/debian-12"),
        ("package", "containerd.io", "rocky-9", "docker", "packages/rocky-9"),
        ("file", "tigera-operator.yaml", "-", "http://127.0.0.1:1/t.yaml", "files/tigera-operator.yaml"),
        image("registry.k8s.io/pause:3.9"),
    )
    for name in ("curl", "apt-get", "dnf"):
        fetch.stand_in(name, f'echo "$0 $*" >>{fetch.folder}/calls; exit 1')
    fetch.stand_in("skopeo", f'echo "$0 $*" >>{fetch.folder}/calls; exit 1')
    keyrings = fetch.folder / "keyrings"
    keyrings.mkdir()
    (keyrings / "debian-archive-keyring.gpg").write_text("x")
    said = fetch("--plan", "--keyrings", keyrings)
    assert not (fetch.folder / "calls").exists()
    assert not fetch.directory.exists()
    for line in (
        "packages of debian-12: from https://deb.debian.org/debian-security bookworm-security main",
        f"  signed by {keyrings}/debian-archive-keyring.gpg",
        "packages of debian-12: from https://pkgs.k8s.io/core:/stable:/v1.34/deb/ /",
        f"  its keyring kubernetes is missing: lay https://pkgs.k8s.io/core:/stable:/v1.34/deb/Release.key, once you trust it, at {keyrings}/kubernetes.asc",
        "packages of rocky-9: from https://download.docker.com/linux/centos/9/x86_64/stable/",
        "[1/4] packages of debian-12 (1 named) ... to fetch into packages/debian-12",
        "[4/4] image registry.k8s.io/pause:3.9 ... to fetch into images/registry.k8s.io_pause_3.9.tar",
        "plan: 4 to fetch, 0 there already, nothing was fetched",
    ):
        assert f"{line}\n" in said
    assert fetch("--plan", "--only", "packages", "--os", "rocky-9").count("to fetch into") == 1
    assert fetch("--plan", "--only", "files").count("to fetch into") == 1
    assert "wants no packages for debian-11" in fetch("--plan", "--os", "debian-11", code=1)


@pytest.mark.needs("skopeo")
def test_it_reads_what_the_compiler_writes(fetch: Fetch, golden) -> None:
    """Each thing of the golden's list is a line of the plan: nothing is refused, nothing is left out."""
    cluster = checked(golden).cluster
    files = {file.path: file.text for file in wanted.for_cluster(cluster)}
    (fetch.folder / "bundle/payload.tsv").write_text(files["payload.tsv"])
    said = fetch("--plan")
    listed = wanted.wanted(cluster)
    for name in (*(one["reference"] for one in listed["images"]), *(one["name"] for one in listed["files"])):
        assert f" {name} ... to fetch into " in said
    for system in listed["packages"]:
        words = sum(len(group["names"]) for group in system["wanted"]) - len(system["files"])
        assert f" packages of {system['os']} ({words} named) ... to fetch into {system['path']}\n" in said
    count = len(listed["images"]) + len(listed["files"]) + len(listed["packages"])
    assert f"plan: {count} to fetch, 0 there already" in said


def surveyed(fetch: Fetch) -> list[str]:
    """What `stowage lock` finds in the directory; it has nothing against any of it."""
    found = payload.survey(fetch.directory, lambda *_: None)
    assert found.problems == ()
    return [entry.path for entry in found.entries]


# --- images ----------------------------------------------------------------------------------------------------------


@pytest.mark.needs("skopeo", "docker-registry")
class TestImages:
    def test_each_is_an_archive_with_exactly_its_name(self, fetch: Fetch, registry: parts.Registry) -> None:
        one = registry.push("pause:3.9", "pause")
        both = registry.push("flannel/flannel:v0.27", "flannel", ("arm64", "amd64"))
        fetch.rows(image(one), image(both))
        said = fetch("--plain-http", registry.host)
        assert f"[1/2] image {one} ... " in said
        assert "2 fetched, 0 there already. Next: stowage lock INVENTORY --payload " in said
        assert not (fetch.directory / ".fetch").exists()
        archives = [fetch.directory / image(reference)[4] for reference in (one, both)]
        assert [parts.names_in(path) for path in archives] == [[one], [both]]
        assert surveyed(fetch) == sorted(image(reference)[4] for reference in (one, both))
        assert [parts.text_of(path) for path in archives] == ["pause amd64", "flannel amd64"]
        before = [path.stat().st_mtime_ns for path in archives]
        assert "0 fetched, 2 there already" in fetch("--plain-http", registry.host)
        assert [path.stat().st_mtime_ns for path in archives] == before

    def test_one_missing_image_is_named_and_the_others_come(self, fetch: Fetch, registry: parts.Registry) -> None:
        there = registry.push("etcd:3.6", "etcd")
        fetch.rows(image(f"{registry.host}/missing:1"), image(there))
        said = fetch("--plain-http", registry.host, code=1)
        assert "error: 1 of 2 could not be fetched" in said
        assert f"image {registry.host}/missing:1: skopeo does not get" in said
        assert "manifest unknown" in said
        assert fetch.there() == [image(there)[4]]

    def test_a_cut_archive_or_one_with_another_name_is_fetched_anew(self, fetch: Fetch, registry: parts.Registry) -> None:
        wanted, other = registry.push("a:1", "a", padding=50_000), registry.push("b:1", "b")
        fetch.rows(image(wanted), image(other))
        fetch("--plain-http", registry.host)
        a, b = (fetch.directory / image(one)[4] for one in (wanted, other))
        os.truncate(a, a.stat().st_size // 2)
        shutil.copy(b, b.with_name("kept"))
        assert "1 fetched, 1 there already" in fetch("--plain-http", registry.host)
        shutil.copy(b, a)
        assert "1 fetched, 1 there already" in fetch("--plain-http", registry.host)
        assert parts.text_of(a) == "a amd64"

    def test_tls_is_asked_for_unless_the_registry_is_named(self, fetch: Fetch, registry: parts.Registry) -> None:
        fetch.rows(image(registry.push("tls:1", "tls")))
        assert "server gave HTTP response to HTTPS client" in fetch("--plain-http", "127.0.0.2", code=1)

    def test_a_digest_is_asked_for_and_the_tag_is_the_name(self, fetch: Fetch, registry: parts.Registry) -> None:
        reference = registry.push("digest:1", "digest")
        asked = ["skopeo", "inspect", "--tls-verify=false", "--format", "{{.Digest}}", f"docker://{reference}"]
        digest = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
        registry.push("digest:1b", "another")
        fetch.rows(image(f"{reference}@{digest}"), image(f"{registry.host}/digest@{digest}"))
        said = fetch("--plain-http", registry.host, code=1)
        assert "has no tag" in said
        (archive,) = (fetch.directory / name for name in fetch.there())
        assert (parts.names_in(archive), parts.text_of(archive)) == ([reference], "digest amd64")
        fetch.rows(image(f"{reference}@sha256:{'0' * 64}"))
        fetch("--plain-http", registry.host, code=1)

    def test_a_killed_run_leaves_nothing_half_and_is_gone_on_with(self, fetch: Fetch, registry: parts.Registry) -> None:
        first, big = registry.push("first:1", "first"), registry.push("big:1", "big", padding=1_000_000)
        fetch.rows(image(first), image(big))
        # The big one never comes to its end: half an archive, then nothing more.
        fetch.stand_in(
            "skopeo",
            f'[[ $* == *big* ]] || exec {shutil.which("skopeo")} "$@"\nf=${{*: -1}} f=${{f#*:}}\nhead -c 5000 /dev/zero >"${{f%%.tar:*}}.tar"\n/bin/sleep 60',
        )
        process = subprocess.Popen(
            ["bash", fetch.script, "--plain-http", registry.host, fetch.directory],
            env=fetch.environment(),
            start_new_session=True,
            stdout=subprocess.DEVNULL,
        )
        parts.wait_for((fetch.directory / ".fetch" / Path(image(big)[4]).name).exists)
        assert "another fetch works in" in fetch(code=1)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert fetch.there() == [image(first)[4]]
        (fetch.bin / "skopeo").unlink()
        assert "1 fetched, 1 there already" in fetch("--plain-http", registry.host)
        assert parts.text_of(fetch.directory / image(big)[4]) == "big amd64"

    @pytest.mark.needs("containerd", "ctr", "root")
    def test_containerd_knows_them_by_their_exact_name(self, fetch: Fetch, registry: parts.Registry) -> None:
        """Fetched by skopeo and by ctr itself, imported as 30-images.sh does."""
        references = [registry.push("pause:3.10", "pause", ("amd64", "arm64")), registry.push("coredns/coredns:v1.12", "dns")]
        fetch.rows(*map(image, references))
        with tempfile.TemporaryDirectory(prefix="ctr", dir="/tmp") as short, parts.containerd(Path(short)) as environment:
            for tool in ("skopeo", "ctr"):
                shutil.rmtree(fetch.directory, ignore_errors=True)
                socket = {name: environment[name] for name in ("CONTAINERD_ADDRESS", "CONTAINERD_SNAPSHOTTER")}
                fetch("--with", tool, "--plain-http", registry.host, **socket)
                ctr = ["ctr", "--namespace", f"k8s-{tool}"]
                for path in sorted(fetch.directory.glob("images/*.tar")):
                    with path.open("rb") as archive:
                        subprocess.run([*ctr, "images", "import", "-"], stdin=archive, env=environment, check=True, capture_output=True)
                listed = subprocess.run([*ctr, "images", "ls", "-q"], env=environment, check=True, capture_output=True, text=True).stdout
                assert listed.split() == sorted(references)


@pytest.mark.parametrize("tool", ["docker", "podman"])
def test_the_other_tools_are_called_with_platform_and_name(fetch: Fetch, tool: str) -> None:
    """Stand-ins, for neither has a daemon or a store here: pull, then an archive under the name that was asked for."""
    fetch.stand_in(
        tool,
        f'echo "$*" >>{fetch.folder}/calls\n[[ $1 == save ]] || exit 0\nwhile [[ $1 != -o ]]; do shift; done\n'
        f'cd "$(mktemp -d)"\nprintf \'[{{"RepoTags":["%s"]}}]\' "${{3#docker.io/library/}}" >manifest.json\ntar -cf "$2" manifest.json',
    )
    fetch.rows(image("docker.io/library/nginx:1.27"), image("quay.io/x/y:2"))
    assert "2 fetched" in fetch("--with", tool, "--plain-http", "quay.io")
    calls = (fetch.folder / "calls").read_text()
    platform, plain = {"docker": ("--platform linux/amd64", ""), "podman": ("--os linux --arch amd64", "--tls-verify=false ")}[tool]
    assert f"pull {platform} docker.io/library/nginx:1.27\n" in calls
    assert f"pull {platform} {plain}quay.io/x/y:2\n" in calls
    assert "2 there already" in fetch("--with", tool)


def test_without_any_tool_it_says_what_to_install(fetch: Fetch) -> None:
    fetch.rows(image("a.example/b:1"))
    few = fetch.without("skopeo", "docker", "podman", "ctr")
    assert "install skopeo" in fetch(code=1, **few)


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.needs("curl")
class TestFiles:
    BODY = bytes(range(256)) * 400

    @pytest.fixture
    def file(self, fetch: Fetch, web: parts.Web) -> Path:
        (web.folder / "tool.tgz").write_bytes(self.BODY)
        fetch.rows(("file", "tool", "-", f"{web.url}/tool.tgz", "files/tool.tgz", sha256(self.BODY)))
        return fetch.directory / "files/tool.tgz"

    def test_a_file_comes_and_stays(self, fetch: Fetch, web: parts.Web, file: Path) -> None:
        fetch()
        assert file.read_bytes() == self.BODY
        asked = len(web.asked)
        assert "1 there already" in fetch()
        assert len(web.asked) == asked

    @pytest.mark.parametrize("ranges", [True, False])
    @pytest.mark.parametrize(
        "part", [BODY[:30_000], BODY, BODY + b"more", b"x" * 30_000], ids=["cut", "whole", "longer", "of another file"]
    )
    def test_a_part_is_gone_on_with_or_thrown_away(self, fetch: Fetch, web: parts.Web, file: Path, part: bytes, ranges) -> None:
        web.ranges = ranges
        (fetch.directory / ".fetch").mkdir(parents=True)
        (fetch.directory / ".fetch/tool.tgz.part").write_bytes(part)
        fetch()
        assert file.read_bytes() == self.BODY
        if ranges and part == self.BODY[:30_000]:
            assert web.asked == [("/tool.tgz", "bytes=30000-")]

    @pytest.mark.usefixtures("file")
    def test_another_file_than_wanted_is_refused(self, fetch: Fetch, web: parts.Web) -> None:
        (web.folder / "tool.tgz").write_bytes(self.BODY[::-1])
        said = fetch(code=1)
        assert f"should be {sha256(self.BODY)}" in said
        assert fetch.there() == []

    def test_a_file_that_was_changed_is_fetched_anew(self, fetch: Fetch, file: Path) -> None:
        fetch()
        file.write_bytes(b"changed")
        assert "1 fetched" in fetch()
        assert file.read_bytes() == self.BODY

    def test_the_sum_beside_it_counts_where_the_row_has_none(self, fetch: Fetch, web: parts.Web) -> None:
        (web.folder / "crictl").write_bytes(self.BODY)
        (web.folder / "crictl.sha256").write_text(f"{'0' * 64}  crictl\n")
        fetch.rows(("file", "crictl", "-", f"{web.url}/crictl", "files/crictl"))
        assert f"should be {'0' * 64}" in fetch(code=1)
        (web.folder / "crictl.sha256").write_text(f"{sha256(self.BODY)}\n")
        fetch()
        assert fetch.there() == ["files/crictl"]

    def test_an_edit_is_made_once_and_runs_nothing(self, fetch: Fetch, web: parts.Web) -> None:
        body = b"image: quay.io/tigera/operator:v1\n"
        (web.folder / "t.yaml").write_bytes(body)
        edited = body.replace(b"quay.io", b"r.example/quay.io")
        file = ("file", "t.yaml", "-", f"{web.url}/t.yaml", "files/t.yaml", sha256(edited))
        fetch.rows(file, ("edit", "t.yaml", "-", "s?quay.io?r.example/quay.io?g", "files/t.yaml"))
        for _ in range(2):
            fetch()
            assert (fetch.directory / "files/t.yaml").read_bytes() == edited
        shutil.rmtree(fetch.directory)
        fetch.rows((*file[:5], sha256(body)), ("edit", "t.yaml", "-", "s?quay.io?r.example/quay.io?g", "files/t.yaml"))
        assert f"once edited, its SHA-256 is {sha256(edited)}" in fetch(code=1)
        fetch.rows(file, ("edit", "t.yaml", "-", f"1e touch {fetch.folder}/ran", "files/t.yaml"))
        assert "sandbox" in fetch(code=1)
        assert not (fetch.folder / "ran").exists()
        assert fetch.there() == []

    def test_a_file_that_is_nowhere_is_named_after_three_tries(self, fetch: Fetch, web: parts.Web) -> None:
        fetch.rows(("file", "gone", "-", f"{web.url}/gone", "files/gone", "0" * 64))
        assert "file gone: curl does not get" in fetch(code=1)
        assert len(web.asked) == 3


# --- Debian's packages -----------------------------------------------------------------------------------------------


def wants(*names: str, system: str = "debian-12") -> list[Row]:
    return [("package", name, system, "distribution", f"packages/{system}") for name in names]


@pytest.mark.needs("apt-get", "apt-ftparchive", "dpkg-deb")
class TestDebs:
    @pytest.fixture
    def sources(self, web: parts.Web) -> Path:
        """A repository in which kubelet needs a chain of packages, one of which every Debian has; and one that nobody asked for."""
        folder = web.folder / "debian"
        folder.mkdir()
        parts.deb(folder, "kubelet", "1.34.3-1.1", "conntrack-x, libc-x (>= 2)")
        parts.deb(folder, "kubelet-other", "1.34.3-1.1")
        parts.deb(folder, "conntrack-x", "1:2.0+b~3", "base-x | nothing-x", architecture="all")
        parts.deb(folder, "libc-x", "2.36")
        parts.deb(folder, "base-x", "5")
        parts.index(folder)
        sources = web.folder / "sources.list"
        sources.write_text(f"deb [trusted=yes] {web.url}/debian ./\n")
        return sources

    def test_with_all_they_depend_on_and_installable_from_it_alone(self, fetch: Fetch, sources: Path) -> None:
        fetch.rows(*wants("kubelet=1.34.3-*", "base-x"))
        said = fetch("--sources", f"debian-12={sources}")
        assert "[1/1] packages of debian-12 (2 named) ... " in said
        folder = fetch.directory / "packages/debian-12"
        names = sorted(path.name.partition("_")[0] for path in folder.glob("*.deb"))
        assert names == ["base-x", "conntrack-x", "kubelet", "libc-x"]
        assert {"Packages", "Packages.gz", "Release"} < {path.name for path in folder.iterdir()}
        assert not (fetch.directory / ".fetch").exists()
        assert surveyed(fetch) == fetch.there()
        self.install(fetch.folder / "host", folder, "kubelet=1.34.3-*")
        assert "0 fetched, 1 there already" in fetch("--sources", f"debian-12={sources}")

    def install(self, host: Path, folder: Path, word: str) -> None:
        """apt-get on a host that has nothing and no network: what it would install is all there, whole, from *folder* alone."""
        for name in ("lists/partial", "archives/partial", "etc", "dpkg"):
            (host / name).mkdir(parents=True)
        (host / "dpkg/status").touch()
        (host / "packages").symlink_to(folder)
        for method in ("file", "copy"):
            (host / "sources.list").write_text(f"deb [trusted=yes check-date=no] {method}:{host}/packages ./\n")
            options = {
                "Dir::State::Lists": "lists",
                "Dir::State::status": "dpkg/status",
                "Dir::Cache": ".",
                "Dir::Cache::archives": "archives",
                "Dir::Etc::SourceList": "sources.list",
                "Dir::Etc::SourceParts": "none",
            }
            apt = ["apt-get", "-y", "-q", "-o", "APT::Sandbox::User=root", *(f"-o{key}={host / value}" for key, value in options.items())]
            subprocess.run([*apt, "-oAPT::Update::Error-Mode=any", "update"], check=True, capture_output=True)
            said = subprocess.run([*apt, "--download-only", "install", word], check=True, capture_output=True, text=True).stdout
            assert "4 newly installed" in said
        assert len(list((host / "archives").glob("*.deb"))) == 4  # by copy: they have come, with the sums of the index

    @pytest.mark.needs("root", "dpkg")
    def test_dpkg_installs_it_into_an_empty_root(self, fetch: Fetch, sources: Path) -> None:
        fetch.rows(*wants("kubelet"))
        fetch("--sources", f"debian-12={sources}")
        root = fetch.folder / "root"
        (root / "var/lib/dpkg/info").mkdir(parents=True)
        (root / "var/lib/dpkg/status").touch()
        files = (fetch.directory / "packages/debian-12").glob("*.deb")
        subprocess.run(["dpkg", f"--root={root}", "--force-not-root", "--install", *files], check=True, capture_output=True)
        assert (root / "usr/share/conntrack-x/version").read_text() == "1:2.0+b~3\n"

    def test_what_is_asked_for_now_or_was_changed_is_seen(self, fetch: Fetch, sources: Path) -> None:
        fetch.rows(*wants("libc-x"))
        fetch("--sources", f"debian-12={sources}")
        fetch.rows(*wants("libc-x", "base-x"))
        assert "1 fetched" in fetch("--sources", f"debian-12={sources}")
        fetch.rows(*wants("libc-x=2.35*"))
        assert "libc-x" in fetch("--sources", f"debian-12={sources}", code=1)
        fetch.rows(*wants("libc-x", "base-x"))
        assert "1 there already" in fetch("--sources", f"debian-12={sources}")
        (changed,) = (fetch.directory / "packages/debian-12").glob("base-x_*.deb")
        changed.write_bytes(changed.read_bytes()[:-1] + b"!")
        assert "1 fetched" in fetch("--sources", f"debian-12={sources}")

    def test_deb822_and_dpkg_scanpackages_will_do(self, fetch: Fetch, sources: Path, web: parts.Web) -> None:
        sources.write_text(f"Types: deb\nURIs: {web.url}/debian\nSuites: ./\nTrusted: yes\n")
        fetch.rows(*wants("kubelet"))
        fetch("--sources", f"debian-12={sources}", **fetch.without("apt-ftparchive"))
        self.install(fetch.folder / "host", fetch.directory / "packages/debian-12", "kubelet")

    def test_an_unsigned_repository_is_refused(self, fetch: Fetch, sources: Path, web: parts.Web) -> None:
        sources.write_text(f"deb {web.url}/debian ./\n")
        fetch.rows(*wants("kubelet"))
        assert "is not signed" in fetch("--sources", f"debian-12={sources}", code=1)
        assert fetch.there() == []

    @pytest.mark.needs("gpg", "gpgv")
    def test_a_signed_one_is_believed_by_its_key_alone(self, fetch: Fetch, sources: Path, web: parts.Web) -> None:
        with tempfile.TemporaryDirectory(prefix="gpg", dir="/tmp") as home:  # a socket's path must be short
            gpg = ["gpg", "--homedir", home, "--batch", "--quiet"]
            for name in ("vendor", "other"):
                made = [*gpg, "--passphrase", "", "--quick-generate-key", f"{name} <{name}@example.test>", "ed25519", "sign", "never"]
                subprocess.run(made, check=True, capture_output=True)
                (web.folder / f"{name}.asc").write_bytes(
                    subprocess.run([*gpg, "--armor", "--export", name], check=True, capture_output=True).stdout
                )
            release = web.folder / "debian/Release"
            subprocess.run(
                [*gpg, "--local-user", "vendor", "--clearsign", "--output", release.with_name("InRelease"), release],
                check=True,
                capture_output=True,
            )
            subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=True)
        fetch.rows(*wants("kubelet"))
        sources.write_text(f"deb [signed-by={web.folder}/other.asc] {web.url}/debian ./\n")
        assert "NO_PUBKEY" in fetch("--sources", f"debian-12={sources}", code=1)
        sources.write_text(f"deb [signed-by={web.folder}/vendor.asc] {web.url}/debian ./\n")
        fetch("--sources", f"debian-12={sources}")

    def test_a_package_of_no_repository_becomes_part_of_it(self, fetch: Fetch, sources: Path, web: parts.Web) -> None:
        loose = parts.deb(web.folder, "cri-dockerd", "0.3.21", "base-x")
        row = ("file", "cri-dockerd", "debian-12", f"{web.url}/{loose.name}", f"packages/debian-12/{loose.name}")
        fetch.rows(*wants("libc-x"), row)
        assert "[1/1]" in fetch("--sources", f"debian-12={sources}")
        assert [name.split("/")[-1].partition("_")[0] for name in fetch.there()] == [
            "Packages",
            "Packages.gz",
            "Release",
            "base-x",
            "cri-dockerd",
            "libc-x",
        ]
        assert "Package: cri-dockerd\n" in (fetch.directory / "packages/debian-12/Packages").read_text()
        assert "1 there already" in fetch("--sources", f"debian-12={sources}")

    def test_a_killed_run_is_gone_on_with(self, fetch: Fetch, sources: Path, web: parts.Web) -> None:
        """Killed at its last download: the folder isn't there, and what has come isn't asked for again."""
        fetch.rows(*wants("kubelet"))
        fetch.stand_in("apt-ftparchive", f"touch {fetch.folder}/indexing; /bin/sleep 60")
        process = subprocess.Popen(
            ["bash", fetch.script, "--sources", f"debian-12={sources}", fetch.directory],
            env=fetch.environment(),
            start_new_session=True,
            stdout=subprocess.DEVNULL,
        )
        parts.wait_for((fetch.folder / "indexing").exists)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert fetch.there() == []
        (fetch.bin / "apt-ftparchive").unlink()
        web.asked.clear()
        fetch("--sources", f"debian-12={sources}")
        assert not [path for path, _ in web.asked if path.endswith(".deb")]
        self.install(fetch.folder / "host", fetch.directory / "packages/debian-12", "kubelet")

    def test_without_sources_the_missing_keyring_is_named(self, fetch: Fetch) -> None:
        (fetch.folder / "keyrings").mkdir()
        fetch.rows(*wants("nginx", system="ubuntu-24.04"))
        said = fetch("--keyrings", fetch.folder / "keyrings", code=1)
        assert "the keyring ubuntu-archive-keyring is not in" in said
        assert "install the package ubuntu-keyring" in said

    @pytest.mark.parametrize(
        ("tools", "remedy"),
        [
            (("apt-get",), "run this on a Debian or Ubuntu machine"),
            (("apt-ftparchive", "dpkg-scanpackages"), "install the package apt-utils"),
        ],
    )
    def test_a_missing_tool_is_said_after_the_rest_was_done(
        self, fetch: Fetch, web: parts.Web, sources: Path, tools: tuple[str, ...], remedy: str
    ) -> None:
        (web.folder / "f").write_text("f")
        fetch.rows(*wants("kubelet"), ("file", "f", "-", f"{web.url}/f", "files/f"))
        assert remedy in fetch("--sources", f"debian-12={sources}", code=1, **fetch.without(*tools))
        assert fetch.there() == ["files/f"]


# --- the RHEL family's packages --------------------------------------------------------------------------------------


@pytest.mark.needs("createrepo_c", "root")
class TestRpms:
    ROWS = (
        (
            "repository",
            "kubernetes",
            "rocky-9",
            "https://pkgs.k8s.io/core:/stable:/v1.34/rpm/",
            "https://pkgs.k8s.io/core:/stable:/v1.34/rpm/repodata/repomd.xml.key",
        ),
        *wants("kubelet-1.34.3", "nginx", system="rocky-9"),
    )

    @pytest.fixture
    def dnf(self, fetch: Fetch) -> Fetch:
        """dnf and createrepo_c stand in (there is no .rpm to be had here): they note their words and leave what they would."""
        fetch.stand_in(
            "dnf",
            f"""if [[ $1 == --version ]]; then echo 4.14.0; exit; fi
printf '%s\\n' "$@" >{fetch.folder}/dnf
for word; do case $word in --destdir=*) cd "${{word#*=}}" ;; --setopt=reposdir=*) cat "${{word##*[=,]}}"/*.repo >{fetch.folder}/repo ;; esac; done
touch kubelet-1.34.3-150500.1.1.x86_64.rpm nginx-1.20.1-22.el9.x86_64.rpm openssl-libs-3.2.2-6.el9.x86_64.rpm""",
        )
        fetch.stand_in("createrepo_c", 'mkdir -p "${*: -1}/repodata"; echo x >"${*: -1}/repodata/repomd.xml"')
        fetch.rows(*self.ROWS)
        return fetch

    def test_dnf_resolves_against_an_empty_root_and_looks_at_signatures(self, dnf: Fetch) -> None:
        given = dnf.folder / "rocky.repo"
        given.write_text("[baseos]\nname=baseos\nbaseurl=https://mirror.example/\ngpgcheck=1\n")
        dnf("--sources", f"rocky-9={given}")
        words = (dnf.folder / "dnf").read_text().splitlines()
        work = dnf.directory / ".fetch/rocky-9"
        for word in (
            f"--installroot={work}/root",
            "--releasever=9",
            f"--setopt=reposdir={work}/repos.d",
            "--downloadonly",
            f"--destdir={work}/rpms",
            "-y",
        ):
            assert word in words
        assert words[-3:] == ["install", "kubelet-1.34.3", "nginx"]
        assert not [word for word in words if "gpgcheck" in word]
        assert (dnf.folder / "repo").read_text() == given.read_text()
        assert [name for name in dnf.there() if name.endswith(("repomd.xml", "openssl-libs-3.2.2-6.el9.x86_64.rpm"))] == [
            "packages/rocky-9/openssl-libs-3.2.2-6.el9.x86_64.rpm",
            "packages/rocky-9/repodata/repomd.xml",
        ]
        assert "1 there already" in dnf("--sources", f"rocky-9={given}")
        dnf.rows(*self.ROWS, *wants("keepalived", system="rocky-9"))
        assert "1 fetched" in dnf("--sources", f"rocky-9={given}")

    def test_another_machine_is_told_where_to_run_it(self, dnf: Fetch) -> None:
        said = dnf(code=1)
        assert "name them: --sources rocky-9=FILE.repo, or run this on a rocky-9 machine" in said
        (dnf.bin / "dnf").unlink()
        assert "dnf is missing" in dnf(code=1, **dnf.without("dnf"))

    def test_dnf_5_is_refused(self, dnf: Fetch) -> None:
        dnf.stand_in("dnf", "echo dnf5 version 5.2.8")
        assert "dnf 5 looks at no signature" in dnf(code=1)

    def test_on_its_own_system_the_makers_repositories_are_added(self, dnf: Fetch) -> None:
        script = dnf.script.read_text()
        (dnf.folder / "os-release").write_text('ID="rocky"\nVERSION_ID="9.6"\n')
        dnf.script.write_text(script.replace("/etc/os-release", f"{dnf.folder}/os-release"))
        dnf()
        assert f"--setopt=reposdir=/etc/yum.repos.d,{dnf.directory}/.fetch/rocky-9/repos.d" in (dnf.folder / "dnf").read_text()
        repo = (dnf.folder / "repo").read_text()
        assert "[stowage-kubernetes]\n" in repo
        assert "baseurl=https://pkgs.k8s.io/core:/stable:/v1.34/rpm/\n" in repo
        assert "gpgcheck=1\ngpgkey=https://pkgs.k8s.io/core:/stable:/v1.34/rpm/repodata/repomd.xml.key\n" in repo


def test_it_is_quick_where_all_is_there(fetch: Fetch) -> None:
    """A hundred rows are read without a process each."""
    fetch.rows(*wants(*(f"p{number}" for number in range(100))))
    start = time.monotonic()
    fetch("--plan")
    assert time.monotonic() - start < 5
