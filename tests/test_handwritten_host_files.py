"""Hosts files, units, and what kubeadm is told: trees with the place of every word, hostile text, agreement with systemd, clean bundles."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pytest
from conftest import REPOSITORY

from generator import lint
from generator.handwritten import Files, Node, discovery, hosts, kubeadm, units
from generator.source import MAX_BYTES, Source

FAMILIES = ("KCF", "MAN", "HSF", "UNT", "KKY")
BUNDLES = sorted(path.parent for root in ("out", "tests/golden") for path in (REPOSITORY / root).glob("**/inventory.lock.yaml"))
UNITS = sorted(
    path for path in (Path(__file__).parent / "lint").glob("UNT*/**/*") if path.is_file() and path.suffix in (".service", ".conf")
)


def place(word) -> tuple[int, int, int]:
    at = word.spot.at
    return at.line, at.column, at.length


def flat(node: Node) -> list[tuple]:
    """Every node but the root: its name and arguments, each with its place."""
    return [
        entry
        for child in node.children or ()
        for entry in [(str(child.name), place(child.name), [(str(word), place(word)) for word in child.args]), *flat(child)]
    ]


def read(tmp_path: Path, **texts: str) -> Files:
    for name, text in texts.items():
        (tmp_path / name.replace("_", ".")).write_text(text)
    return discovery.read([tmp_path])


def found(files: Files) -> list[str]:
    return [f"{d.code} {Path(source.name).name}:{d.position.line}" for source, d in lint.run_files(files) if d.code[:3] in FAMILIES]


# -- hosts ------------------------------------------------------------------------------------------------------------------------


def test_hosts_entries_know_their_places():
    root, problems = hosts.read(Source("hosts", "# local\n127.0.0.1\tlocalhost  lo # not me\n\n ::1 localhost#nor me\n"))
    assert problems == ()
    assert flat(root) == [
        ("127.0.0.1", (2, 1, 9), [("localhost", (2, 11, 9)), ("lo", (2, 22, 2))]),
        ("::1", (4, 2, 3), [("localhost", (4, 6, 9))]),
    ]


@pytest.mark.parametrize(
    ("line", "column", "says"),
    [
        ("192.168.1.25/24 master-1", 1, "192.168.1.25/24 is no address"),
        ("  master-1 192.168.1.25", 3, "master-1 is no address"),
        ("010.1.1.1 a", 1, "010.1.1.1 is no address"),
        ("fe80::1%lo0 localhost", 1, "fe80::1%lo0 is no address"),
        ("192.168.1.25 # master-1", 1, "192.168.1.25 has no name"),
    ],
)
def test_hosts_lines_that_nobody_reads(line, column, says):
    root, problems = hosts.read(Source("hosts", f"127.0.0.1 localhost\n{line}\n::1 localhost"))
    assert [node.name for node in root.children] == ["127.0.0.1", "::1"]
    assert [(p.code, p.message, p.position.line, p.position.column) for p in problems] == [("HSF001", says, 2, column)]


# -- units ------------------------------------------------------------------------------------------------------------------------


def test_unit_assignments_know_their_places():
    text = "# a comment\n[Unit]\nAfter = a.service\n\n[Service]\n; another\n ExecStart=\nExecStart=/bin/a \\\n# between\n  --b c\n"
    root, problems = units.read(Source("a.service", text))
    assert problems == ()
    assert flat(root) == [
        ("Unit", (2, 2, 4), []),
        ("After", (3, 1, 5), [("a.service", (3, 9, 9))]),
        ("Service", (5, 2, 7), []),
        ("ExecStart", (7, 2, 9), [("", (7, 2, 10))]),
        ("ExecStart", (8, 1, 9), [("/bin/a  --b c", (8, 11, 6))]),
    ]
    starts = [node for section in root.all("Service") for node in section.all("ExecStart")]
    assert [node.value for node in units.effective(starts)] == ["/bin/a  --b c"]


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("KillMode=mixed\n[Service]\n", 1, "KillMode stands before any section"),
        ("[Service]\nRestart always\n", 2, "Restart always assigns nothing"),
        ("[Service]\n=always\n", 2, "=always assigns nothing"),
        ("[Unit]\n[Service\nRestart=always\n", 2, "[Service is no section"),
    ],
)
def test_unit_lines_that_systemd_passes_over(text, line, says):
    _, problems = units.read(Source("a.service", text))
    assert [(p.code, p.message, p.position.line) for p in problems] == [("UNT001", says, line)]


@pytest.mark.parametrize(("backslashes", "joined"), [(0, False), (1, True), (2, False), (3, True)])
def test_only_an_odd_backslash_goes_on(backslashes, joined):
    root, _ = units.read(Source("a.service", "[Service]\nExecStart=/bin/a " + "\\" * backslashes + "\nUser=b\n"))
    assert ("User" not in [node.name for node in root.children[0].children]) == joined


PASSED_OVER = re.compile(r":(\d+): (?:Unknown |Missing |Assignment outside|Failed to parse |Invalid section header)")


@pytest.mark.needs("systemd-analyze")
@pytest.mark.parametrize("path", UNITS, ids=lambda path: "-".join(path.parts[-6:]))
def test_systemd_passes_over_what_is_found(path, tmp_path):
    """Every line of our fixtures that systemd passes over is found, and no other; the same for the second command."""
    text = path.read_text()
    # A drop-in alone has no command; as a unit it needs one, behind its own lines.
    whole = text if "ExecStart" in text else text + "\n[Service]\nExecStart=/bin/true\n"
    unit = tmp_path / "fixture.service"
    unit.write_text(whole)
    result = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    passed_over = {int(number) for number in PASSED_OVER.findall(result.stderr)}
    source = Source(str(unit), whole)
    root, problems = units.read(source)
    files = Files([discovery.File(source, "unit", "", str(unit), root=root, problems=problems)])
    ours = {p.position.line for p in problems}
    ours |= {d.position.line for _, d in lint.run_files(files) if d.code in ("UNT002", "UNT003", "UNT004")}
    if path.parts[-1] == "docker.socket" or "[Socket]" in text:
        return
    assert ours == passed_over, result.stderr
    if not problems:
        refused = "more than one ExecStart=" in result.stderr
        assert refused == any(d.code == "UNT005" for _, d in lint.run_files(files))


# -- kubeadm ----------------------------------------------------------------------------------------------------------------------


def test_flags_and_fields_are_told_alike(tmp_path):
    script = 'sudo kubeadm init --pod-network-cidr "10.244.0.0/16" \\\n  --control-plane-endpoint=backend:16443 --upload-certs -v 5\n'
    text = "apiVersion: kubeadm.k8s.io/v1beta3\nkind: ClusterConfiguration\nnetworking:\n  podSubnet: 10.245.0.0/16\n"
    files = read(tmp_path, install_sh=script, kubeadm_yaml=text)
    told = [(str(word), *place(word)) for _, word in kubeadm.told(files, "networking", "podSubnet")]
    assert told == [("10.245.0.0/16", 4, 14, 13), ("10.244.0.0/16", 1, 38, 15)]
    assert [(str(word), *place(word)) for _, word in kubeadm.told(files, "controlPlaneEndpoint")] == [("backend:16443", 2, 28, 13)]


@pytest.mark.parametrize(
    "line", ["kubeadm init phase upload-certs --upload-certs", "kubeadm token create", "kubeadm init --help", "kubeadm"]
)
def test_single_phases_and_other_commands_are_no_init(tmp_path, line):
    assert list(kubeadm.commands(read(tmp_path, install_sh=f"#!/bin/sh\n{line}\n"))) == []


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("backend:16443", "backend"),
        ("Backend", "backend"),
        ("10.0.0.1:6443", "10.0.0.1"),
        ("[fd00::1]:6443", "fd00::1"),
        ("fd00::1", "fd00::1"),
    ],
)
def test_the_host_of_an_endpoint(text, host):
    assert kubeadm.endpoint_host(text) == host


# -- hostile text -----------------------------------------------------------------------------------------------------------------

HEAD = "apiVersion: kubeadm.k8s.io/v1beta3\nkind: ClusterConfiguration\n"
HOSTILE = {
    "hosts": [b"127.0.0.1 a\n", b"1.1.1.1 " + b"a " * 10, b"\xff", b"1.2.3.4 a#", b":" * 50],
    "a.service": [b"[Service]\nExecStart=a\n", b"[Service]\nA=\\\n", b"\\\n", b"[", b"[Service]\nExecStart=\n", b"=\n"],
    "kubeadm.yaml": [
        HEAD.encode() + b"---\n",
        b"a: 1\n" * 10,
        b"[" * 10,
        b"- a\n",
        b"kind: JoinConfiguration\napiVersion: kubeadm.k8s.io/v1beta4\ncontrolPlane: []\ndiscovery: {bootstrapToken: x}\n---\n",
        b"kind: Cluster\napiVersion: kubekey.kubesphere.io/v1alpha2\nspec: {hosts: a, roleGroups: {etcd: ['n[1:999999]', x]}}\n---\n",
        b"kind: Pod\nmetadata: []\nspec: {containers: {a: b}}\n---\n",
        b"kind: ConfigMap\ndata: {net-conf.json: '[[[[1]]]]'}\n---\nkind: ConfigMap\ndata: {net-conf.json: '{\"Network\": 1e999}'}\n---\n",
    ],
    "install.sh": [b"kubeadm init --config=a --b\n", b"kubeadm join --token\n", b"kubeadm " + b"init " * 50 + b"\n"],
}


@pytest.mark.parametrize(
    ("name", "piece"), [(name, piece) for name, pieces in HOSTILE.items() for piece in pieces], ids=lambda value: str(value)[:24]
)
def test_hostile_text_is_read_within_bounds(tmp_path, name, piece):
    for size in (len(piece), 100_000):
        (tmp_path / name).write_bytes((piece * (size // len(piece) + 1))[: max(size, len(piece))])
        start = time.monotonic()
        files = discovery.read([tmp_path / name])
        for file in files.files:
            assert len(file.source.text) <= MAX_BYTES
        rules = [r for r in lint.rules() if r.file_check and r.code[:3] in FAMILIES]
        for rule in rules:
            list(rule.file_check(files))
        assert time.monotonic() - start < 10


# -- what is right ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_bundles_are_clean(bundle):
    """What we emit ourselves has neither an error nor a warning, the whole set together and each host alone."""
    for folder in (bundle, *sorted((bundle / "hosts").iterdir())):
        files = discovery.read([folder])
        problems = [problem for file in files.files for problem in file.problems if problem.code[:3] in FAMILIES]
        assert problems == []
        assert [one for one in found(files) if one] == []
    assert len(files.files) > 3
