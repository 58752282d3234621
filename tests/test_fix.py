"""``check --fix``: each safe remedy on every layout, nothing else touched, files written whole or not at all."""

from __future__ import annotations

import json
import os
import re
import stat

import pytest
from click.testing import CliRunner
from conftest import REPOSITORY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import inventories

from generator import compiler, fixes
from generator.cli import stowage
from generator.source import load

PLAIN = """\
# A comment above
version: 1
cluster:
  name: example   # beside a value
  kubernetesVersion: 1.34.1
  kubeProxy: {mode: iptables}
  cni: {name: flannel, backend: host-gw}
  etcd: {extraArgs: {snapshot-count: "1000"}}
controlPlaneEndpoint: {name: backend, address: 192.168.1.31/24, port: 16443}
loadBalancer:
  keepalived:
    virtualRouterId: 61   # {braces}, and: colons

hostDefaults: {interface: ens160, gateway: 192.168.1.1, os: rocky-9}
hosts:
- {name: master-1, role: control-plane, address: 192.168.1.25/24}
- name: master-2
  role: control-plane
  address: 192.168.1.26/24
- {name: master-3, role: control-plane, address: 192.168.1.27/24}
"""

# A rule, what is written, and what is written then (None: that line, or entry, is gone).
ROWS = [
    ("SRC004", "name: example   # beside", "name:\texample\t# beside", "name: example # beside"),
    ("SRC004", "\n  cni:", "\n\tcni:", "\n  cni:"),
    ("SCH001", "virtualRouterId:", "virtualRouterID:", None),
    ("SCH001", "virtualRouterId:", "virtual_router_id:", None),
    ("SCH001", "kubernetesVersion:", '"kubernetes-version":', '"kubernetesVersion":'),
    ("SCH001", "  address: 192.168.1.26/24", "  adress: 192.168.1.26/24", None),
    ("SCH001", "interface: ens160", "interfcae: ens160", None),
    ("SCH001", "hostDefaults:", "hostDefault:", None),
    ("SCH003", "virtualRouterId: 61", "virtualRouterId: '61'", None),
    ("SCH003", "port: 16443", 'port: "16443"', None),
    ("SCH003", "virtualRouterId: 61 ", "virtualRouterId: 61\n    preempt: yes", "virtualRouterId: 61\n    preempt: true"),
    ("SCH003", "name: master-2", "name: 2", 'name: "2"'),
    ("SCH004", "os: rocky-9", "os: Rocky-9", None),
    ("SCH004", "  role: control-plane", "  role: 'controlPlane'", "  role: 'control-plane'"),
    ("SCH004", "mode: iptables", "mode: IPTables", None),
    ("SCH005", "kubernetesVersion: 1.34.1", "kubernetesVersion: v1.34.1", None),
    ("SCH005", "name: flannel,", "name: flannel, version: 'v0.28.9',", "name: flannel, version: '0.28.9',"),
    ("SCH005", "  kubeProxy:", "  imageRepository: https://r.example/k8s/\n  kubeProxy:", "  imageRepository: r.example/k8s\n  kubeProxy:"),
    ("ETC001", 'snapshot-count: "1000"}', 'initial-cluster: a, snapshot-count: "1000"}', None),
    ("ETC001", '{snapshot-count: "1000"}', "{name: a}", "{}"),
    ("ETC004", 'snapshot-count: "1000"', "experimental-corrupt-check-time: 4h", "corrupt-check-time: 4h"),
    ("ETC005", "1.34.1", "1.33.1", None),
    ("ETC011", 'snapshot-count: "1000"}', 'snapshot-count: "1000", enable-v2: "false"}', None),
    ("CNI013", "backend: host-gw", "backend: host-gw, directRouting: true", None),
    ("KUB009", "  kubeProxy:", "  apiServer: {certSANs: [API.example.net]}\n  kubeProxy:", "  apiServer: {certSANs: [api.example.net]}\n  kubeProxy:"),
    ("KUB014", "{mode: iptables}", "{strictARP: true, mode: iptables}", None),
    ("KUB014", "{mode: iptables}", "{ strictARP: true }", "{ }"),
    ("KUB014", " {mode: iptables}", "\n    strictARP: true", " {}"),
    ("KUB014", " {mode: iptables}", "   # proxy\n    strictARP: true   # idle", " {}   # proxy\n    # idle"),
    ("KUB014", " {mode: iptables}", "\n    strictARP: true\n    mode: iptables", "\n    mode: iptables"),
    ("KUB014", "{mode: iptables}", "{mode: iptables,\n    strictARP: true,   # idle\n  }", "{mode: iptables,\n       # idle\n  }"),
    ("KUB014", "{mode: iptables}", "{mode: iptables,\n    strictARP: true}", "{mode: iptables,\n    }"),
    ("KUB026", "  kubeProxy:", "  scheduler: {extraArgs: {leader-elect: false}}\n  kubeProxy:", "  scheduler: {extraArgs: {}}\n  kubeProxy:"),
    ("LBR022", "address: 192.168.1.31/24", "address: fd00::31/64", None),
    ("LBR024", "    virtualRouterId: 61", "    killMode: process\n    virtualRouterId: 61", None),
    ("LBR024", "61   # {braces}", "61\n    killMode: process   # {braces}", "61\n    # {braces}"),
    ("RUN004", "- name: master-2", "- sysctl: {net.ipv4.ip_forward: 0}\n  name: master-2", "- sysctl: {}\n  name: master-2"),
]  # fmt: skip


def fixed(text: str) -> tuple[str, list[str]]:
    """*text* after ``--fix``, and the codes that were fixed."""
    after = compiler.fix("mine.yaml", text.encode())
    return after.raw.decode(), [one.code for _, one in after.done]


def changes(before: object, after: object, path: tuple = ()) -> set[tuple]:
    """Paths at which two plain values differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        return {p for key in before.keys() | after.keys() for p in changes(before.get(key, ...), after.get(key, ...), (*path, key))}
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return {p for i, (b, a) in enumerate(zip(before, after, strict=True)) for p in changes(b, a, (*path, i))}
    return set() if type(before) is type(after) and before == after else {path}


def test_the_plain_inventory_needs_nothing():
    assert not compiler.check("mine.yaml", PLAIN.encode()).refused(strict=True)
    assert fixed(PLAIN) == (PLAIN, [])


@pytest.mark.parametrize(("code", "right", "wrong", "wanted"), [r for r in ROWS if r[0] not in ("LBR022", "ETC005")])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "mark", "no end"])
def test_each_remedy(code, right, wrong, wanted, ends):
    """The whole text, byte for byte, whatever ends its lines."""

    def dressed(text: str) -> str:
        text = text.replace("\n", "\r\n") if ends == "\r\n" else text
        return "\ufeff" + text if ends == "mark" else text.rstrip("\n") if ends == "no end" else text

    assert PLAIN.count(right) >= 1
    before, after = PLAIN.replace(right, wrong, 1), PLAIN.replace(right, right if wanted is None else wanted, 1)
    assert fixed(dressed(before)) == (dressed(after), [code])


def test_version_2_goes_for_an_ipv6_vip():
    text = PLAIN.replace("192.168.1.31/24", "fd00:1::31/64").replace("virtualRouterId: 61", "vrrpVersion: 2\n    virtualRouterId: 61")
    text = text.replace("192.168.1.2", "fd00:1::2").replace("gateway: 192.168.1.1", "gateway: fd00:1::1")
    text = text.replace("25/24", "25/64").replace("26/24", "26/64").replace("27/24", "27/64")
    text = text.replace("  kubeProxy:", "  podSubnet: fd00:244::/56\n  serviceSubnet: fd00:96::/112\n  kubeProxy:")
    assert fixed(text) == (text.replace("    vrrpVersion: 2\n", ""), ["LBR022"])


def test_a_flag_of_a_later_etcd_gets_its_former_name():
    text = PLAIN.replace("1.34.1", "1.33.1").replace('snapshot-count: "1000"', "corrupt-check-time: 4h")
    assert fixed(text) == (text.replace("corrupt-check", "experimental-corrupt-check"), ["ETC005"])


def test_every_rule_with_a_fix_has_its_row():
    """And the docs name the same ones."""
    spoken = "".join(path.read_text(encoding="utf-8") for path in sorted((REPOSITORY / "generator/lint").glob("*.py")))
    blocks = re.split(r'\n@rule\("([A-Z]{3}[0-9]{3})"', spoken)
    fixing = {code for code, body in zip(blocks[1::2], blocks[2::2], strict=True) if "Fix(" in body.partition("\n@")[0]}
    fixing |= {"SRC004", "SCH001", "SCH003", "SCH004", "SCH005"}
    assert {row[0] for row in ROWS} == fixing
    page = (REPOSITORY / "docs/diagnostics.md").read_text(encoding="utf-8")
    table = page.partition("## Safe remedies")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| ([A-Z]{3}[0-9]{3}) \|", table, re.MULTILINE)) == fixing


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        # Two answers, or none.
        ("os: rocky-9", "os: rocky-8"),
        ("virtualRouterId: 61", "virtualRouterId: 61\n    virtualRouterID: 62"),
        ("virtualRouterId: 61", "virtualRouterId: 61\n    preemptDelay: 300"),
        ("interface: ens160", "interfaces: ens160, interfac: ens161"),
        ("name: backend", "nmae: backend, nam: b"),
        ("192.168.1.31/24", "192.168.1.31"),
        ("kubernetesVersion: 1.34.1", "kubernetesVersion: v1.34"),
        ("name: master-2", "name: Master-2"),
        # A tab in a value.
        ("name: example", 'name: "exam\tple"'),
        # Text that other findings leave nothing of.
        ("version: 1\n", "version: 1\nversion: 1\nhostDefault: {}\n"),
        # A password may be anything.
        ("virtualRouterId: 61", "virtualRouterId: 61\n    authPass: 12345"),
        ("virtualRouterId: 61", "virtualRouterId: 61\n    authPass: {Secret: 12345}"),
    ],
)
def test_what_is_left_to_people(right, wrong):
    text = PLAIN.replace(right, wrong, 1)
    assert compiler.check("mine.yaml", text.encode()).diagnostics
    assert fixed(text) == (text, [])


def test_one_fix_brings_another_to_light():
    text = PLAIN.replace("kubernetesVersion: 1.34.1", "kubernetes_version: v1.34.1").replace("{mode: iptables}", "{strictARP: true}")
    assert fixed(text) == (PLAIN.replace("{mode: iptables}", "{}"), ["SCH001", "SCH005", "KUB014"])


def test_an_edit_that_would_change_anything_else_is_not_made(monkeypatch):
    """Where the text around a place is not what it seems, nothing is written; the others are fixed all the same."""
    text = PLAIN.replace("{mode: iptables}", "{strictARP: true}").replace("backend: host-gw", "backend: host-gw, directRouting: true")
    cut = fixes._cut_entry
    monkeypatch.setattr(fixes, "_cut_entry", lambda lines, row, start, end: cut(lines, row, start, end - ("strict" in lines[row])))
    assert fixed(text) == (text.replace(", directRouting: true", ""), ["CNI013"])


def test_many_at_once():
    """Hundreds of findings are one edit and one reading."""
    hosts = "".join(f"- {{name: n-{n}, Role: worker, address: 192.168.1.{n % 250}/24}}\n" for n in range(400))
    after, codes = fixed(PLAIN + hosts)
    assert after == PLAIN + hosts.replace("Role", "role")
    assert codes == ["SCH001"] * 400


# --- property -------------------------------------------------------------------------------------------------------------------------

KEYS = {
    "virtualRouterId": "virtual-router-id",
    "kubernetesVersion": "KubernetesVersion",
    "address": "adress",
    "interface": "interfaces",
    "role": "Role",
}
VALUES = {
    "kubernetesVersion": lambda v: f"v{v}",
    "os": lambda v: v.upper(),
    "virtualRouterId": str,
    "port": str,
    "preempt": lambda v: "yes" if v else "no",
    "role": lambda v: v.replace("-", "_"),
}


@st.composite
def broken(draw: st.DrawFn, value: object, key: str = "") -> object:
    """*value* with mistakes that have one right answer."""
    if isinstance(value, dict):
        out = {}
        for name, child in value.items():
            written = KEYS[name] if name in KEYS and draw(st.integers(0, 5)) == 0 else name
            out[written] = draw(broken(child, name))
        if key == "keepalived" and draw(st.booleans()):
            out["killMode"] = "process"
        if key == "kubeProxy" and value.get("mode") != "ipvs" and draw(st.booleans()):
            out = {"strictARP": True, **out}
        return out
    if isinstance(value, list):
        return [draw(broken(child, key="entry")) for child in value]
    return VALUES[key](value) if key in VALUES and isinstance(value, str | int) and draw(st.integers(0, 5)) == 0 else value


@st.composite
def written(draw: st.DrawFn, data: dict) -> str:
    """*data* as somebody writes it: blocks and braces, quotes or none, a comment on many lines."""
    number = iter(range(10_000))

    def comment() -> str:
        return draw(st.sampled_from(["", "", f"   # c{next(number)} it's, {{: - }} \"x"]))

    def scalar(value: object) -> str:
        if isinstance(value, str) and re.fullmatch("[a-z][a-z.-]*", value) and value not in ("true", "false", "null"):
            return draw(st.sampled_from([value, f"'{value}'"]))
        return json.dumps(value, ensure_ascii=False)

    def flow(value: object) -> str:
        if isinstance(value, dict):
            return "{" + ", ".join(f"{scalar(k)}: {flow(v)}" for k, v in value.items()) + "}"
        return "[" + ", ".join(map(flow, value)) + "]" if isinstance(value, list) else scalar(value)

    def block(value: object, indent: str) -> list[str]:
        lines = []
        if isinstance(value, list):
            for child in value:
                inner = block(child, f"{indent}  ") if isinstance(child, dict) and draw(st.booleans()) else [f"{flow(child)}{comment()}"]
                lines += [f"{indent}- {inner[0].strip()}", *inner[1:]]
            return lines
        for key, child in value.items():
            if isinstance(child, dict | list) and child and draw(st.booleans()):
                lines += [f"{indent}{scalar(key)}:{comment()}", *block(child, f"{indent}  ")]
            else:
                lines.append(f"{indent}{scalar(key)}: {flow(child)}{comment()}")
        return lines

    return "\n".join(block(data, "")) + "\n"


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_property(data):
    """Comments are all there, only the fixed paths differ, most lines are as they were, and a second run finds nothing to do."""
    text = data.draw(written(data.draw(broken(data.draw(inventories())))))
    before = load("mine.yaml", text.encode())[0]
    after = compiler.fix("mine.yaml", text.encode())
    new = after.raw.decode()
    assert re.findall(r"# c\d+ it's.*", new) == re.findall(r"# c\d+ it's.*", text)
    renamed = {(*one.path[:-1], one.fix.to) for _, one in after.done if one.fix.action == "rename"}
    meant = {one.path for _, one in after.done} | renamed
    for path in changes(before.data, after.checked.source.data):
        assert any(path[: len(p)] == p or p[: len(path)] == path for p in meant), path
    touched = set(text.splitlines()) - set(new.splitlines())
    assert len(touched) <= 2 * len(after.done)
    again = compiler.fix("mine.yaml", after.raw)
    assert (again.raw, again.done) == (after.raw, ())


# --- the command ----------------------------------------------------------------------------------------------------------------------

WRONG = PLAIN.replace("    virtualRouterId", "    killMode: process\n    virtualRouterId")


def run(*arguments, **more):
    return CliRunner().invoke(stowage, ["check", *map(str, arguments)], **more)


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(WRONG.encode())
    path.chmod(0o640)
    return path


def test_fix_writes_and_says_so(mine):
    done = run("--fix", mine)
    assert (done.exit_code, done.stderr) == (0, f"fixed LBR024 at {mine}:12:15: removed loadBalancer.keepalived.killMode\n")
    assert done.stdout == "1 inventory checked, no errors\n"
    assert mine.read_text() == PLAIN
    assert stat.S_IMODE(mine.stat().st_mode) == 0o640
    assert [path.name for path in mine.parent.iterdir()] == ["mine.yaml"]


def test_nothing_to_fix_writes_nothing(mine):
    mine.write_text(PLAIN)
    former = mine.stat()
    assert run("--fix", mine).exit_code == 0
    assert (mine.stat().st_ino, mine.stat().st_mtime_ns) == (former.st_ino, former.st_mtime_ns)


def test_what_is_left_decides_the_status(mine):
    mine.write_text(WRONG.replace("192.168.1.26/24", "192.168.1.25/24"))
    done = run("--fix", "--format", "json", mine)
    assert done.exit_code == 1
    assert {finding["code"] for finding in json.loads(done.stdout)["findings"]} == {"HST002"}
    assert "killMode" not in mine.read_text()


def test_a_link_stays_a_link(mine):
    link = mine.with_name("link.yaml")
    link.symlink_to("mine.yaml")
    assert run("--fix", link).exit_code == 0
    assert link.is_symlink()
    assert mine.read_text() == PLAIN


def test_standard_input_goes_to_standard_output():
    done = run("--fix", "-", input=WRONG)
    assert (done.exit_code, done.stdout) == (0, PLAIN)
    assert done.stderr.startswith("fixed LBR024 at -:12:15: ")


def test_diff_writes_nothing(mine):
    for arguments in (["--diff"], ["--fix", "--diff"]):
        done = run(*arguments, mine)
        assert done.exit_code == 1
        assert [line for line in done.stdout.splitlines() if line[0] in "+-"] == [f"--- {mine}", f"+++ {mine}", "-    killMode: process"]
        assert mine.read_text() == WRONG
    mine.write_text(PLAIN)
    assert (run("--diff", mine).exit_code, run("--diff", mine).output) == (0, "")


def test_diff_shows_no_secret(mine):
    mine.write_text(WRONG.replace("    killMode", "    authPass: canary\n    killMode"))
    done = run("--diff", mine)
    assert "-    killMode" in done.stdout
    assert "canary" not in done.output


def test_a_file_that_cannot_be_written(mine, monkeypatch):
    """Exit status 2, the file as it was, no leftover: root may write anything, so the system is made to refuse."""

    def refuse(*_args, **_more):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(fixes.FilePath, "replace", refuse)
    done = run("--fix", mine)
    assert done.exit_code == 2
    assert "Permission denied" in done.stderr
    assert mine.read_text() == WRONG
    assert [path.name for path in mine.parent.iterdir()] == ["mine.yaml"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anything")
def test_a_write_protected_file(mine):
    mine.chmod(0o444)
    assert run("--fix", mine).exit_code == 2
    assert mine.read_text() == WRONG


def test_formats_exclude_each_other(mine):
    assert run("--annotate", "--format", "json", mine).exit_code == 2
