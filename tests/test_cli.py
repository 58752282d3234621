"""The command line's contract: exit status, one clear error for whatever is put in, nothing written unless all is right, help that teaches."""

from __future__ import annotations

import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from conftest import GOLDENS, REPOSITORY

from generator import cli, report, swap
from generator.bundle import walk

EXAMPLE = REPOSITORY / "inventories/example.yaml"
WITH_SECRET = next(golden.inventory for golden in GOLDENS if golden.name == "every-key")
COMMANDS = sorted(cli.stowage.commands)


def stowage(*arguments: object, stdin: bytes = b"", cwd: Path = REPOSITORY, **options) -> subprocess.CompletedProcess:
    """The command line in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)} | options.pop("env", {})
    return subprocess.run(
        [sys.executable, "-m", "generator", *map(os.fsencode, map(str, arguments))],
        input=stdin, cwd=cwd, env=environment, capture_output="stdout" not in options, check=False, timeout=60, **options,
    )  # fmt: skip


def invoke(*arguments: object):
    """The same within this process, for what needs no process; as ``main`` handles it."""
    return CliRunner().invoke(cli.stowage, [str(argument) for argument in arguments])


def refused(done: subprocess.CompletedProcess, status: int, *words: str) -> None:
    """That exit status, those words, and no traceback."""
    said = done.stderr.decode() + (done.stdout or b"").decode()
    assert done.returncode == status, said
    assert "Traceback" not in said
    for word in words:
        assert word in said, said


# --- exit status ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "status", "words"),
    [
        ("missing", None, 2, "No such file"),
        ("folder", "folder", 2, "Is a directory"),
        ("empty", b"", 1, "SRC010"),
        ("blank", b"\n\n# nothing\n", 1, "SRC010"),
        ("binary", bytes(range(256)), 1, "SRC0"),
        ("gzip", b"\x1f\x8b\x08\x00" * 99, 1, "SRC001"),
        ("utf-16", "version: 1\n".encode("utf-16"), 1, "SRC0"),
        ("huge", b"a" * (4 * 1024 * 1024 + 1), 1, "SRC002"),
        ("endless", "/dev/zero", 1, "SRC002"),
        ("broken", b"hosts: [\n", 1, "SRC006"),
        ("deep", b"[" * 100_000, 1, "SRC0"),
        ("scalar", b"just a word\n", 1, "SCH0"),
        ("list", b"- 1\n- 2\n", 1, "SCH0"),
        ("another kind", b"apiVersion: v1\nkind: ConfigMap\n", 1, "SCH0"),
        ("two documents", b"version: 1\n---\nversion: 1\n", 1, "SRC010"),
        ("duplicate", b"version: 1\nversion: 1\n", 1, "SRC009"),
        ("control", b"version: 1\ncluster: {name: \x1b[31mred}\n", 1, "SRC003"),
        ("billion", b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", 1, "SRC008"),
        ("json", b'{"version": 1}', 1, "SCH0"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["check", "bundle"])
def test_bad_inventories(tmp_path, command, name, content, status, words):
    path = tmp_path / f"{name}.yaml"
    if content == "folder":
        path.mkdir()
    elif isinstance(content, str):
        path = Path(content)
    elif content is not None:
        path.write_bytes(content)
    done = stowage(command, path, *(["-o", tmp_path / "out"] if command == "bundle" else []))
    refused(done, status, words)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_unreadable_inventory(tmp_path):
    path = tmp_path / "closed.yaml"
    path.write_bytes(EXAMPLE.read_bytes())
    path.chmod(0)
    refused(stowage("check", path), 2, "Permission denied")


def test_unreadable(monkeypatch, tmp_path):
    def closed(self, *_):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", closed)
    done = invoke("bundle", tmp_path / "closed.yaml", "-o", tmp_path / "out")
    assert (done.exit_code, done.stderr) == (
        2,
        f"stowage: {tmp_path}/closed.yaml: Permission denied\n   help: name an inventory file, such as inventories/example.yaml\n",
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bundle"], "Missing argument"),
        (["bundle", EXAMPLE, "--bogus"], "No such option"),
        (["bogus"], "No such command"),
        (["check", EXAMPLE, "--format", "xml"], "Invalid value"),
        (["--color", "sometimes", "rules"], "Invalid value"),
        (["explain"], "Missing argument"),
        (["explain", "NET0006"], "did you mean"),
        (["explain", "XYZ"], "stowage rules"),
        (["explain", ""], "stowage rules"),
        (["verify", "nowhere"], "does not exist"),
        (["verify", REPOSITORY], "manifest.json"),
        (["verify", EXAMPLE], "is a file"),
        (["bundle", EXAMPLE, "-o", EXAMPLE], "is a file"),
        (["bundle", EXAMPLE, "-o", "/proc/nothing"], "help:"),
        (["bundle", EXAMPLE, "--secrets", "nowhere"], "does not exist"),
        (["bundle", EXAMPLE, "--secrets", EXAMPLE], "is a file"),
        (["check", "a\0b"], ""),
        ([], "Usage:"),
    ],
    ids=lambda value: " ".join(str(v) for v in value)[-40:] if isinstance(value, list) else "",
)  # fmt: skip
def test_misuse(tmp_path, arguments, words):
    if any("\0" in str(argument) for argument in arguments):
        done = invoke(*arguments)
        assert done.exit_code in (1, 2)
        return
    refused(stowage(*arguments, cwd=tmp_path), 2, words)
    assert list(tmp_path.iterdir()) == []


def test_clean(tmp_path):
    done = stowage("check", EXAMPLE, "--strict")
    assert done.returncode == 0
    assert done.stdout.endswith(b"1 inventory checked, no errors\n")
    done = stowage("bundle", EXAMPLE, "-o", tmp_path / "out")
    assert done.returncode == 0
    files = len(list(walk(tmp_path / "out/example")))
    assert done.stdout.decode() == f"{tmp_path}/out/example: {files} files for 6 hosts, {files} new, 0 changed, 0 removed\n"
    done = stowage("bundle", EXAMPLE, "-o", tmp_path / "out")
    assert done.stdout.decode() == f"{tmp_path}/out/example: {files} files for 6 hosts, unchanged\n"
    done = stowage("verify", tmp_path / "out/example")
    assert (done.returncode, done.stdout.decode()) == (0, f"{tmp_path}/out/example: every file is as it was compiled\n")


def test_verify_names_what_is_wrong(tmp_path):
    stowage("bundle", EXAMPLE, "-o", tmp_path)
    (tmp_path / "example/README.md").write_text("mine")
    (tmp_path / "example" / os.fsdecode(b"evil\x1b[31m\n\xff")).write_text("mine")
    done = stowage("verify", tmp_path / "example")
    assert done.returncode == 1
    assert (
        done.stdout.decode()
        == f"{tmp_path}/example: changed: README.md\n{tmp_path}/example: extra: evil\N{REPLACEMENT CHARACTER}[31m"
        + "\N{REPLACEMENT CHARACTER}" * 2
        + "\n"
    )


def test_strict(tmp_path):
    text = EXAMPLE.read_text().replace("  name: example\n", "  name: example\n  kubeProxy: {strictARP: true}\n")
    (tmp_path / "warned.yaml").write_text(text)
    loose, strict = (stowage("check", *option, tmp_path / "warned.yaml") for option in ([], ["--strict"]))
    assert b"warning KUB014" in loose.stdout
    assert loose.returncode == 0
    assert strict.returncode == 1
    done = stowage("bundle", "--strict", tmp_path / "warned.yaml", "-o", tmp_path / "out")
    refused(done, 1, "nothing was written")
    assert not (tmp_path / "out").exists()


def test_internal_errors_are_one_line(tmp_path):
    """The traceback is for those who ask for it."""
    program = "import generator.compiler as c; c.check = lambda *_: 1 / 0; from generator.cli import main; main()"
    for debug in ("", "1"):
        done = subprocess.run(
            [sys.executable, "-c", program, "check", str(EXAMPLE)],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "STOWAGE_DEBUG": debug}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ("Traceback" in done.stderr) is bool(debug)
        if not debug:
            assert done.returncode == 2
            assert done.stderr.startswith("stowage: internal error: ZeroDivisionError: division by zero\n   help: please report it")


# --- several inventories --------------------------------------------------------------------------------------------------------------


def test_all_are_checked_before_any_is_written(tmp_path):
    (tmp_path / "bad.yaml").write_text("version: 1\n")
    done = stowage("bundle", EXAMPLE, tmp_path / "bad.yaml", WITH_SECRET, "-o", tmp_path / "out")
    refused(done, 1, "bad.yaml:1:1: error SCH", "nothing was written")
    assert not (tmp_path / "out").exists()
    refused(stowage("bundle", EXAMPLE, tmp_path / "missing.yaml", "-o", tmp_path / "out"), 2, "missing.yaml")
    assert not (tmp_path / "out").exists()


def test_several(tmp_path):
    done = stowage("bundle", EXAMPLE, WITH_SECRET, "-o", tmp_path / "out")
    assert done.returncode == 0
    assert [line.split(":")[0] for line in done.stdout.decode().splitlines()] == [f"{tmp_path}/out/example", f"{tmp_path}/out/every"]
    assert stowage("check", EXAMPLE, WITH_SECRET).stdout.endswith(b"2 inventories checked, no errors\n")


def test_twins_are_refused(tmp_path):
    twin = tmp_path / "twin.yaml"
    twin.write_text(EXAMPLE.read_text())
    refused(stowage("bundle", EXAMPLE, twin, "-o", tmp_path / "out"), 2, "twin.yaml: cluster example is in", "a name of its own")
    assert not (tmp_path / "out").exists()


def test_a_stranger_is_not_replaced(tmp_path):
    (tmp_path / "out/example").mkdir(parents=True)
    (tmp_path / "out/example/thesis.tex").write_text("mine")
    refused(stowage("bundle", EXAMPLE, "-o", tmp_path / "out"), 2, "not a bundle of stowage's", "--output")
    assert list(walk(tmp_path / "out")) == ["example/thesis.tex"]


def test_another_writer(tmp_path):
    with swap.staging(tmp_path / "out/other", lambda _: True):
        refused(stowage("bundle", EXAMPLE, "-o", tmp_path / "out"), 2, "another stowage is writing here", "wait")


# --- secrets --------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def secrets(tmp_path):
    folder = tmp_path / "secrets"
    folder.mkdir(mode=0o700)
    (folder / "vrrp").write_text("canary\n")
    (folder / "registry").write_text("puller:raven\n")
    return folder


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o701, 0o777])
def test_open_secrets_are_refused(tmp_path, secrets, mode):
    secrets.chmod(mode)
    refused(
        stowage("bundle", WITH_SECRET, "-o", tmp_path / "out", "--secrets", secrets), 2, "others than its owner", f"chmod 0700 {secrets}"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["missing", "folder", "empty", "long", "two lines", "blank", "binary", "huge"])
def test_bad_secrets(tmp_path, secrets, kind):
    """All of them before anything is written, also for the cluster that is fine."""
    file = secrets / "vrrp"
    file.unlink()
    if kind == "folder":
        file.mkdir()
    elif kind != "missing":
        file.write_bytes(
            {"empty": b"", "long": b"canary789", "two lines": b"cana\nry", "blank": b"ca ry", "binary": b"\0\xff", "huge": b"x" * 10_000}[
                kind
            ]
        )
    done = stowage("bundle", EXAMPLE, WITH_SECRET, "-o", tmp_path / "out", "--secrets", secrets)
    refused(done, 2, f"{secrets}/vrrp", "help:")
    assert b"cana" not in done.stderr + done.stdout
    assert not (tmp_path / "out").exists()


def test_secrets_that_nobody_names(tmp_path, secrets):
    """An inventory without secrets takes none; other files are not even read."""
    os.mkfifo(secrets / "pipe")
    (secrets / "other").write_text("x")
    assert stowage("bundle", EXAMPLE, "-o", tmp_path / "out", "--secrets", secrets).returncode == 0
    assert not [path for path in walk(tmp_path / "out") if "/secrets/" in path]
    assert stowage("bundle", WITH_SECRET, "-o", tmp_path / "out", "--secrets", secrets).returncode == 0
    assert {Path(path).name for path in walk(tmp_path / "out") if "/secrets/" in path} == {"vrrp", "registry", "SHA256SUMS"}


# --- streams --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [("rules",), ("schema",), ("check", WITH_SECRET), ("--help",), ("check", "--format", "sarif", EXAMPLE)], ids=str
)
def test_a_reader_that_goes_away(arguments):
    """``stowage rules | head``: no traceback, no complaint of Python's at its end, and not the status of findings."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as stdout:
        done = stowage(*arguments, stdout=stdout, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (2, b"")


def test_a_full_device():
    with Path("/dev/full").open("wb") as full:
        done = stowage("rules", stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr.decode().splitlines()[0] == "stowage: standard output: No space left on device"
    assert "Traceback" not in done.stderr.decode()


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&-"])
def test_closed_streams(tmp_path, closed):
    command = shlex.join([sys.executable, "-m", "generator", "bundle", str(EXAMPLE), "-o", str(tmp_path / "out")])
    done = subprocess.run(["sh", "-c", f"{command} {closed}"], cwd=REPOSITORY, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert stowage("verify", tmp_path / "out/example").returncode == 0


def test_quiet(tmp_path):
    """Findings only."""
    done = stowage("-q", "bundle", EXAMPLE, "-o", tmp_path / "out")
    assert (done.returncode, done.stdout) == (0, b"")
    assert stowage("-q", "verify", tmp_path / "out/example").stdout == b""
    (tmp_path / "bad.yaml").write_text("version: 1\n")
    done = stowage("-q", "bundle", tmp_path / "bad.yaml", "-o", tmp_path / "out")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"error SCH" in done.stderr
    assert b"nothing was written" not in done.stderr
    (tmp_path / "clean.yaml").write_text(re.sub("virtualRouterId: 51", "virtualRouterId: 77", EXAMPLE.read_text()))
    assert stowage("-q", "check", tmp_path / "clean.yaml").stdout == b""


def test_findings_go_where_they_belong(tmp_path):
    """``check``'s findings are its output; ``bundle``'s stand beside it."""
    (tmp_path / "bad.yaml").write_text("version: 1\n")
    done = stowage("check", tmp_path / "bad.yaml")
    assert b"SCH" in done.stdout
    assert done.stderr == b""
    done = stowage("bundle", tmp_path / "bad.yaml", "-o", tmp_path / "out")
    assert done.stdout == b""
    assert b"SCH" in done.stderr


@pytest.mark.parametrize(
    ("options", "variables", "terminal", "colored"),
    [
        ([], {}, False, False),
        ([], {}, True, True),
        ([], {"NO_COLOR": "1"}, True, False),
        ([], {"NO_COLOR": ""}, True, True),
        ([], {"TERM": "dumb"}, True, False),
        (["--color", "never"], {}, True, False),
        (["--color", "always"], {}, False, True),
        (["--color", "always"], {"NO_COLOR": "1"}, False, True),
    ],
)  # fmt: skip
def test_color(options, variables, terminal, colored):
    environment = (
        {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
        | {"PYTHONPATH": str(REPOSITORY), "TERM": "xterm"}
        | variables
    )
    program = [sys.executable, "-m", "generator", *options, "check", str(EXAMPLE)]
    if terminal:
        control, child = pty.openpty()
        subprocess.run(program, stdout=child, stdin=child, env=environment, cwd=REPOSITORY, check=True)
        os.close(child)
        said = os.read(control, 100_000)
        os.close(control)
    else:
        said = subprocess.run(program, stdout=subprocess.PIPE, env=environment, cwd=REPOSITORY, check=True).stdout
    assert b"LBR017" in said, "the example has one finding"
    assert (b"\033[" in said) is colored


@pytest.mark.parametrize("locale", ["C", "POSIX", "tr_TR.ISO-8859-9", "C.UTF-8"])
@pytest.mark.parametrize("form", report.FORMATS)
def test_any_locale(tmp_path, locale, form):
    """What a terminal's encoding doesn't have is written in another way, not refused; JSON is JSON."""
    path = tmp_path / os.fsdecode(b"m\xc3\xbcnchen \xe6\x97\xa5 \xff.yaml")
    path.write_text(EXAMPLE.read_text().replace("name: example", "name: münchen-日本"))
    done = stowage("check", "--format", form, path, env={"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})
    refused(done, 1, "SCH005")
    if form in ("json", "sarif"):
        import json

        assert json.loads(done.stdout.decode("ascii"))


def test_interrupted(tmp_path):
    """Ctrl-C: one line, no bundle torn, not the status of findings."""
    program = "import os, signal, generator.compiler as c; real = c.check; c.check = lambda *a: (os.kill(os.getpid(), signal.SIGINT), real(*a))[1]; from generator.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "bundle", str(EXAMPLE), "-o", str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "stowage: interrupted" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_pipe_for_an_inventory(tmp_path):
    assert stowage("check", "/dev/stdin", stdin=EXAMPLE.read_bytes()).returncode == 0


# --- help -----------------------------------------------------------------------------------------------------------------------------


def test_every_command_is_known():
    assert {"bundle", "check", "explain", "rules", "verify", "schema", "new"} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches(command):
    """What it does, an example to copy, and every option explained; within 110 columns."""
    done = invoke(command, "--help")
    assert done.exit_code == 0
    assert f"stowage {command} " in done.stdout.split("Usage:")[1].split("\n", 1)[1] or command == "rules", "an example"
    assert all(parameter.help for parameter in cli.stowage.commands[command].params if isinstance(parameter, click.Option))
    assert max(map(len, done.stdout.splitlines())) <= 110
    assert invoke(command, "-h").stdout == done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_in_help_are_commands(command):
    """An example's options exist."""
    for line in (cli.stowage.commands[command].help or "").splitlines():
        found = re.match(r"\s*stowage ((?:[^ ]+ ?)+)", line)
        if found is None:
            continue
        name, *words = found[1].split()
        options = {option for parameter in cli.stowage.commands[name].params for option in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= options


def test_the_help_of_all():
    done = stowage("--help")
    assert done.returncode == 0
    for command in COMMANDS:
        assert f"  {command} " in done.stdout.decode()
    assert done.stdout == stowage("-h").stdout


def test_formats_are_those_there_are():
    """The list stands in the option, so that --help imports nothing."""
    (option,) = (parameter for parameter in cli.stowage.commands["check"].params if parameter.name == "form")
    assert sorted(option.type.choices) == sorted(report.FORMATS)


def test_help_imports_click_alone():
    """``stowage --help`` is instant: none of the libraries is loaded for it."""
    program = "import sys; sys.argv = ['stowage', '--help']\nfrom generator.cli import main\ntry: main()\nexcept SystemExit: pass\nprint(sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, check=True
    )
    for library in ("jinja2", "jsonschema", "netaddr", "ruamel", "hashlib", "json"):
        assert f"'{library}'" not in done.stderr


def test_explain_and_rules():
    listed = invoke("rules").stdout.splitlines()
    assert len(listed) > 100
    assert listed == sorted(listed)
    for line in listed[:: len(listed) // 5]:
        code, severity, title = line.split(None, 2)
        essay = invoke("explain", code.lower()).stdout
        assert essay.startswith(f"{code} ({severity}): {title}")
        assert "Why it hurts" in essay


def test_completion():
    """Shells ask through this variable."""
    done = stowage(env={"_STOWAGE_COMPLETE": "bash_source"})
    assert b"complete -o nosort -F _stowage_completion stowage" in done.stdout


def test_killed_while_writing(tmp_path):
    """The real program, killed at random: the bundle is one or the other, and the next run says nothing of it."""
    first = EXAMPLE.read_text()
    versions = [tmp_path / "a.yaml", tmp_path / "b.yaml"]
    versions[0].write_text(first)
    versions[1].write_text(first.replace("192.168.1.30/24", "192.168.1.40/24"))
    assert stowage("bundle", versions[0], "-o", tmp_path / "out").returncode == 0
    program = [sys.executable, "-m", "generator", "-q", "bundle"]
    for turn in range(6):
        with subprocess.Popen(
            [*program, str(versions[(turn + 1) % 2]), "-o", str(tmp_path / "out")], cwd=REPOSITORY, stderr=subprocess.DEVNULL
        ) as process:
            time.sleep(0.15 + 0.05 * turn)
            process.send_signal(signal.SIGKILL)
        assert stowage("verify", tmp_path / "out/example").returncode == 0
    assert stowage("bundle", versions[0], "-o", tmp_path / "out").returncode == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["example"]


# --- what a review found --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["text", "json", "github", "sarif"])
def test_no_format_shows_the_password_of_a_url(tmp_path, form):
    """A proxy URL with a password is refused; neither the message nor the excerpt shows the password."""
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text(
        EXAMPLE.read_text().replace("os: rocky-9}", "os: rocky-9, proxy: {httpProxy: 'http://site:S3cr3tPw@proxy.example.net:3128'}}")
    )
    done = stowage("check", "--format", form, inventory)

    refused(done, 1, "SCH005", "proxy.example.net")
    assert b"S3cr3tPw" not in done.stdout + done.stderr


@pytest.mark.parametrize("option", ["--name", "--vip", "--control-plane"])
@pytest.mark.parametrize("value", ["a\nb", "\udcff", "a\x1b[31m"])
def test_new_takes_visible_text_only(option, value):
    """An option that nobody can see is a usage error, not ours."""
    done = stowage("new", option, value)

    refused(done, 2, "nobody can see")
    assert b"internal error" not in done.stderr


def test_new_says_what_is_wrong_and_prints_nothing():
    """An option that was given is taken, also a wrong one."""
    done = stowage("new", "--router-id", 0)

    refused(done, 1, "LBR016")
    assert done.stdout == b""


def test_standard_input_is_an_inventory():
    """A dash names standard input."""
    done = stowage("check", "-", stdin=EXAMPLE.read_bytes())

    assert done.returncode == 0
    refused(stowage("check", "-", stdin=b"version: 2\n"), 1, "-:1:10:", "SCH004")


def test_a_full_standard_error_does_not_change_the_status():
    """The exit status tells where nothing can be said."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-m", "generator", "check", "nosuch"], cwd=REPOSITORY, stderr=full, check=False, timeout=60)

    assert done.returncode == 2


def test_a_flood_of_findings_is_cut(tmp_path):
    """Thousands of findings take no quadratic time and are not all printed."""
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text(EXAMPLE.read_text() + "".join(f"unknown-{number}: 1\n" for number in range(20_000)))
    done = stowage("check", inventory)

    refused(done, 1, "SCH001", "and 400 more")
