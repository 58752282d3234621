"""What comes back: the attestation that step 90 writes on a host, and what `stowage attest` says of it."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import random
import re
import stat
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import GOLDENS
from hypothesis import given, settings
from hypothesis import strategies as st
from test_scripts_kube import ADDRESSES, Cloud, Kube, cloud, first, made, ok, pki, up, whole

from generator import cli
from generator.attestation import MAX_BYTES, Attestation, AttestationError, Planned, parsed, read_planned, seconds
from generator.attestation.comparison import DAY, compare
from generator.steps import STEPS

# Hosts of the tests of the scripts; pytest finds fixtures by their names here.
__all__ = ["cloud", "first", "made", "pki", "up"]

TIME = "2026-11-20T10:00:00Z"
NOW = seconds(TIME)
FAR = "2027-11-20T10:00:00Z"


# --- the command --------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def example(all_bundles) -> Path:
    return all_bundles(GOLDENS[0]).path


@pytest.fixture(scope="module")
def planned(example):
    return read_planned(example)


def said_by(example: Path, host: str) -> dict:
    """An attestation of *host* in which all is as planned; written by hand, not by the reader's rules."""
    manifest = json.loads((example / "manifest.json").read_text())
    role = next(entry["role"] for entry in manifest["hosts"] if entry["name"] == host)
    number = [entry["name"] for entry in manifest["hosts"]].index(host)
    rows = [line.split("\t") for line in (example / "hosts" / host / "files.tsv").read_text().splitlines()[1:]]
    files = []
    for source, path, mode, owner, step, _unit, how in rows:
        digest = hashlib.sha256((example / "hosts" / host / source).read_bytes()).hexdigest()
        files.append({"path": path, "how": how, "step": step, "state": "as-laid", "sha256": digest, "mode": mode, "owner": owner})
    masters = [entry["name"] for entry in manifest["hosts"] if entry["role"] == "control-plane"]
    join = "65" if role == "worker" else "50" if number == 0 else "60"
    data = {
        "stowage-attestation": 1, "cluster": "example", "host": host, "role": role, "time": TIME, "kernel": "5.14.0", "os": "Rocky Linux 9.4",
        "bundle": hashlib.sha256((example / "hosts" / host / "SHA256SUMS").read_bytes()).hexdigest(), "kubernetes": "1.29.3",
        "mac": f"52:54:00:00:00:0{number}", "passed": 20, "failed": [],
        "steps": ["10", "20", "30", join, *(["40", "70"] if role == "control-plane" else []), *(["80"] if number == 0 else [])],
        "marks": [f"{join}-started", f"{join}-finished"],
        "files": files,
        "private": [{"path": "/etc/kubernetes/kubelet.conf", "mode": "0600", "owner": "root:root"}],
        "units": [{"unit": "kubelet.service", "enabled": "enabled", "active": "active"}],
        "vips": [{"address": "192.168.1.31", "here": number == 0, "answers": "here" if number == 0 else "52:54:00:00:00:00"}] if role == "control-plane" else [],
        "certificates": [{"path": "/etc/kubernetes/pki/ca.crt", "subject": "CN=kubernetes", "ends": FAR, "sha256": "0" * 64}],
        "packages": [{"name": "keepalived", "version": "2.2.8-3"}],
        "programs": [{"name": "kubelet", "version": "v1.29.3"}, {"name": "kubeadm", "version": "v1.29.3"}],
    }  # fmt: skip
    if role == "control-plane":
        members = [
            {"id": f"{n:x}", "name": name, "status": "started", "peers": f"https://{name}:2380", "learner": False}
            for n, name in enumerate(masters, 10)
        ]
        data |= {"etcd": members, "healthy": True}
    return data


@pytest.fixture
def all_well(example, planned) -> dict[str, dict]:
    """An attestation of each host, to be changed."""
    return {host: said_by(example, host) for host in planned.roles}


def differences(planned, data, *, now: int = NOW, days: int = 30) -> list[tuple[str, str, str]]:
    """Host, kind and message of each difference; a note's kind has a question mark."""
    each = data.values() if isinstance(data, dict) else data
    attestations = [Attestation(f"{number}.json", parsed("x", json.dumps(one).encode())) for number, one in enumerate(each)]
    return [(d.host, d.kind + "?" * d.note, str(d.message)) for d in compare(planned, attestations, now, days).differences]


def test_all_well(planned, all_well):
    assert differences(planned, all_well) == []


def file_of(data: dict, path: str) -> dict:
    return next(entry for entry in data["files"] if entry["path"] == path)


def change(data: dict, what: str) -> None:  # noqa: PLR0912, PLR0915 - a table of changes
    nginx, hosts = file_of(data, "/etc/nginx/nginx.conf"), file_of(data, "/etc/hosts")
    match what:
        case "changed":
            nginx["state"] = "changed"
            del nginx["sha256"]
        case "missing":
            nginx.clear()
            nginx |= {"path": "/etc/nginx/nginx.conf", "how": "file", "step": "40", "state": "missing"}
        case "link":
            nginx["state"] = "other"
        case "older":
            nginx["sha256"] = "1" * 64
        case "mode":
            nginx["mode"] = "0666"
        case "owner":
            nginx["owner"] = "nobody:root"
        case "block":
            hosts["state"] = "changed"
        case "no block":
            hosts["state"] = "missing"
        case "block mode":
            hosts["mode"] = "0600"  # not ours
        case "unattested":
            data["files"].remove(nginx)
        case "more":
            data["files"].append(nginx | {"path": "/etc/former"})
        case "bundle":
            data["bundle"] = "2" * 64
        case "role":
            data["role"] = "worker"
        case "not run":
            data["steps"].remove("40")
            for entry in data["files"]:
                if entry["step"] == "40":
                    entry["state"] = "missing"
        case "no mark":
            data["marks"] = []
        case "half":
            data["marks"] = ["50-started"]
        case "settling":
            data["marks"].append("70-started")
        case "private":
            data["private"][0]["mode"] = "0640"
        case "private owner":
            data["private"][0]["owner"] = "admin:root"
        case "no auth":
            data["private"].append({"path": "/etc/keepalived/stowage-auth.conf"})
        case "unit":
            data["units"][0]["active"] = "failed"
        case "disabled":
            data["units"][0]["enabled"] = "disabled"
        case "check":
            data["failed"] = ["an API server answers at backend:16443"]
        case "kubelet":
            data["programs"][0]["version"] = "v1.29.4"
        case "no kubelet":
            del data["programs"][0]["version"]
        case "package":
            del data["packages"][0]["version"]
        case "other package":
            data["packages"][0]["version"] = "2.2.8-4"
        case "kernel":
            data["kernel"] = "5.14.1"
        case "ends":
            data["certificates"][0]["ends"] = "2026-12-19T10:00:00Z"
        case "ended":
            data["certificates"][0]["ends"] = TIME
        case "no certificate":
            del data["certificates"][0]["ends"]
        case "etcd silent":
            data["etcd"] = []
        case "learner":
            data["etcd"][1]["learner"] = True
        case "unstarted":
            data["etcd"][1] |= {"status": "unstarted", "name": ""}
        case "stranger":
            data["etcd"][1]["name"] = "master-9"
        case "ill":
            data["healthy"] = False
        case "two holders":
            data["vips"][0]["here"] = False
        case "future":
            data["time"] = "2026-11-30T10:00:00Z"


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("changed", ["file changed: /etc/nginx/nginx.conf"]),
        ("missing", ["file missing: /etc/nginx/nginx.conf"]),
        ("link", ["file no regular file: /etc/nginx/nginx.conf"]),
        ("older", ["file as another bundle has it: /etc/nginx/nginx.conf"]),
        ("mode", ["file mode 0666, planned 0644: /etc/nginx/nginx.conf"]),
        ("owner", ["file owner nobody:root, planned root:root: /etc/nginx/nginx.conf"]),
        ("block", ["file block changed: /etc/hosts"]),
        ("no block", ["file block missing: /etc/hosts"]),
        ("block mode", []),
        ("unattested", ["file not attested: /etc/nginx/nginx.conf"]),
        ("more", ["file not in the bundle: /etc/former"]),
        ("bundle", ["bundle another bundle: its SHA256SUMS is 222222222222, planned SUMS"]),
        ("role", ["role it is a worker, planned control-plane"]),
        ("not run", ["step step 40-load-balancer has not run"]),
        ("no mark", ["step step 50-init has not run"]),
        ("half", ["step step 50-init has begun and not ended"]),
        ("settling", ["step step 70-etcd has begun and not ended"]),
        ("private", ["private holds a secret and is open to others, mode 0640: /etc/kubernetes/kubelet.conf"]),
        ("private owner", ["private owner admin:root, planned root:root: /etc/kubernetes/kubelet.conf"]),
        ("no auth", ["private missing: /etc/keepalived/stowage-auth.conf"]),
        ("unit", ["unit kubelet.service is failed"]),
        ("disabled", ["unit kubelet.service does not come back with the host: disabled"]),
        ("check", ["check step 90: an API server answers at backend:16443"]),
        ("kubelet", ["version kubelet is v1.29.4, planned v1.29.3",
                     "* version kubelet differs: v1.29.4: master-1; v1.29.3: master-2, master-3, node-1, node-2, node-3"]),
        ("no kubelet", ["version kubelet does not say its version"]),
        ("package", ["package package keepalived is not installed"]),
        ("other package", ["* version package keepalived differs: 2.2.8-4: master-1; 2.2.8-3: master-2, master-3, node-1, node-2, node-3"]),
        ("kernel", ["* kernel? the kernel differs: 5.14.1: master-1; 5.14.0: master-2, master-3, node-1, node-2, node-3"]),
        ("ends", ["certificate certificate ends 2026-12-19T10:00:00Z, in 29 days: /etc/kubernetes/pki/ca.crt"]),
        ("ended", ["certificate certificate ended 2026-11-20T10:00:00Z: /etc/kubernetes/pki/ca.crt"]),
        ("no certificate", ["certificate no certificate that can be read: /etc/kubernetes/pki/ca.crt"]),
        ("etcd silent", ["etcd its etcd lists no members"]),
        ("learner", ["etcd member master-2 of etcd is a learner, it does not vote yet"]),
        ("unstarted", ["etcd member b of etcd is unstarted", "etcd master-2 is no member of etcd",
                       "* etcd control planes list different members of etcd: master-1; master-2, master-3"]),
        ("stranger", ["etcd member master-9 of etcd is not in the inventory", "etcd master-2 is no member of etcd",
                      "* etcd control planes list different members of etcd: master-1; master-2, master-3"]),
        ("ill", ["etcd not every member of etcd is healthy"]),
        ("two holders", ["* vip no load balancer holds the VIP 192.168.1.31"]),
        ("future", ["clock? written at 2026-11-30T10:00:00Z, which is yet to come: its clock is wrong, or the one here"]),
    ],
)  # fmt: skip
def test_each_difference(planned, all_well, what, expected):
    change(all_well["master-1"], what)
    found = [f"{'* ' if not host else ''}{kind} {message}" for host, kind, message in differences(planned, all_well)]
    assert [line.replace(planned.sums["master-1"][:12], "SUMS") for line in found] == expected


def test_a_certificate_is_seen_from_the_host_and_from_here(planned, all_well):
    """The later of both clocks counts: the file may be old, or the clock here slow."""
    all_well["node-1"]["certificates"][0]["ends"] = "2026-12-30T10:00:00Z"
    assert differences(planned, all_well) == []
    assert "in 30 days" not in str(differences(planned, all_well, now=NOW + 10 * DAY))
    assert "in 29 days" in str(differences(planned, all_well, now=NOW + 11 * DAY))
    assert "in 40 days" in str(differences(planned, all_well, now=NOW - DAY // 2, days=41))
    assert "ended" in str(differences(planned, all_well, now=NOW + 41 * DAY, days=0))


def test_the_holder_of_the_vip(planned, all_well):
    all_well["master-3"]["vips"][0]["here"] = True
    assert differences(planned, all_well) == [("", "vip", "2 hosts hold the VIP 192.168.1.31: master-1, master-3")]
    all_well["master-3"]["time"] = "2026-11-20T11:00:00Z"
    assert ("", "vip?", "they were asked 60 minutes apart: the VIP 192.168.1.31 may have moved") in differences(planned, all_well)
    for host in ("master-1", "master-3"):
        all_well[host]["vips"][0] |= {"here": False}
    all_well["master-3"]["time"] = TIME
    assert differences(planned, all_well) == [("", "vip", "no load balancer holds the VIP 192.168.1.31")]
    del all_well["master-1"]  # it may be the one
    assert ("", "vip?", "none of those that attested holds the VIP 192.168.1.31") in differences(planned, all_well)


def test_a_stranger_answers_for_the_vip(planned, all_well):
    all_well["master-2"]["vips"][0]["answers"] = "52:54:00:00:00:00 de:ad:be:ef:00:01"
    assert differences(planned, all_well) == [("", "vip", "de:ad:be:ef:00:01 answers for the VIP 192.168.1.31 and is none of these hosts")]
    all_well["master-2"]["vips"][0]["answers"] = "00:00:5e:00:01:33"  # VRRP's own
    assert differences(planned, all_well) == []


def test_hosts_that_are_missing_twice_or_unknown(planned, all_well):
    older = copy.deepcopy(all_well["node-2"]) | {"time": "2026-11-19T10:00:00Z", "kernel": "4"}
    stranger = all_well.pop("node-3") | {"host": "node-9"}
    assert differences(planned, [*all_well.values(), older, stranger]) == [
        ("node-2", "older?", "5.json does not count: 4.json is newer"),
        ("node-3", "attestation", "no attestation"),
        ("node-9", "host", "6.json: the bundle has no host of that name"),
    ]


# --- what a person sees -------------------------------------------------------------------------------------------------------------------


def attest(*words: object):
    return CliRunner().invoke(cli.stowage, ["attest", *map(str, words)])


@pytest.fixture
def folder(tmp_path, all_well) -> Path:
    for host, data in all_well.items():
        (tmp_path / f"{host}.json").write_text(json.dumps(data))
    return tmp_path


def test_text_and_status(example, folder, all_well):
    files = sorted(folder.glob("*.json"))
    done = attest(example, *files)
    assert (done.exit_code, done.output.splitlines()[-1]) == (0, "6 hosts attested, all as planned")
    assert done.output.splitlines()[0] == "master-1  control-plane  2026-11-20T10:00:00Z  as planned"
    assert attest(example, *files, "--quiet").output == ""
    change(all_well["master-1"], "changed")
    change(all_well["master-1"], "kernel")
    files[0].write_text(json.dumps(all_well["master-1"]))
    done = attest(example, *files[:-1])
    assert done.exit_code == 1
    assert done.output == attest(example, *reversed(files[:-1])).output
    assert done.output.splitlines() == [
        "master-1  control-plane  2026-11-20T10:00:00Z",
        "  changed: /etc/nginx/nginx.conf",
        "master-2  control-plane  2026-11-20T10:00:00Z  as planned",
        "master-3  control-plane  2026-11-20T10:00:00Z  as planned",
        "node-1    worker         2026-11-20T10:00:00Z  as planned",
        "node-2    worker         2026-11-20T10:00:00Z  as planned",
        "node-3    worker",
        "  no attestation",
        "between the hosts",
        "  note: the kernel differs: 5.14.1: master-1; 5.14.0: master-2, master-3, node-1, node-2",
        "5 of 6 hosts attested, 2 differences",
    ]
    chinese = attest(example, *files[:-1], "--lang", "zh")
    assert "已改动：/etc/nginx/nginx.conf" in chinese.output


def test_json(example, folder):
    files = sorted(folder.glob("*.json"))
    done = attest(example, *files[1:], "--format", "json")
    data = json.loads(done.output)
    assert (done.exit_code, data["well"], data["cluster"], len(data["hosts"])) == (1, False, "example", 6)
    assert data["differences"][0] == {"host": "master-1", "kind": "attestation", "level": "difference", "message": "no attestation"}
    assert data["hosts"][1]["file"] == str(files[1])


def test_control_characters_reach_no_terminal(example, folder, all_well):
    odd = "\x1b]0;owned\x07\x1b[2J\n\u202eevil\x9b31m\ud800"
    all_well["node-1"] |= {"failed": [odd], "kernel": odd, "os": odd}
    all_well["node-1"]["files"].append({"path": odd, "how": "file", "step": odd, "state": "as-laid"})
    all_well["node-1"]["programs"][0]["version"] = odd
    (folder / "node-1.json").write_text(json.dumps(all_well["node-1"]))
    (folder / "zz.json").write_text(json.dumps(all_well["node-1"] | {"host": odd}))
    for words in ((), ("--format", "json")):
        done = attest(example, *folder.glob("*.json"), *words)
        assert done.exit_code == 1, done.output
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\ud800]", done.output)


# --- what is no attestation ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"1" * 5_000, "not JSON"),
        (b"[]", "not an attestation"),
        (b"{}", "not an attestation"),
        (b'{"stowage": 1}', "not an attestation"),
        (b'{"stowage-attestation": 2}', "not as an attestation has it"),
        (b'{"stowage-attestation": 1}', "not as an attestation has it"),
        (b" " * (MAX_BYTES + 1), "longer than"),
        ("folder", "not a regular file"),
        ("missing", "No such file"),
        ("pipe", "not a regular file"),
    ],
    ids=range(13),
)
def test_files_that_are_none(example, tmp_path, content, words):
    path = tmp_path / "bad.json"
    match content:
        case "folder":
            path.mkdir()
        case "missing":
            pass
        case "pipe":
            subprocess.run(["mkfifo", path], check=True)
        case _:
            path.write_bytes(content)
    done = attest(example, path)
    assert done.exit_code == 2
    assert words in done.output
    assert f"stowage: {path}:" in done.output


def test_another_cluster_and_no_bundle(example, folder, all_well, tmp_path):
    path = folder / "node-1.json"
    path.write_text(json.dumps(all_well["node-1"] | {"cluster": "other"}))
    done = attest(example, path)
    assert (done.exit_code, "of cluster other, the bundle is of example" in done.output) == (2, True)
    (tmp_path / "empty").mkdir()
    assert attest(tmp_path / "empty", path).exit_code == 2
    for text in ("{}", "[]", '{"stowage": 2}', '{"stowage": 1, "hosts": [{}]}', '{"stowage": 1, "hosts": {"a": 1}, "files": 1}'):
        (tmp_path / "empty" / "manifest.json").write_text(text)
        done = attest(tmp_path / "empty", path)
        assert done.exit_code == 2
        assert "manifest.json" in done.output


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from([TIME, "0644", "0" * 64, "as-laid", "file"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["path", "state", "how", "x"]), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(chance=st.randoms(use_true_random=False), value=JSON, times=st.integers(1, 4))
def test_whatever_stands_in_it_is_refused_or_compared(example, planned, chance: random.Random, value, times):
    """Values of a whole one are replaced at random places, or left out."""
    data = said_by(example, "master-1")
    for _ in range(times):
        place = data
        while True:
            key = chance.choice(list(place) if isinstance(place, dict) else range(len(place)))
            inner = place[key]
            if not isinstance(inner, dict | list) or not inner or chance.random() < 0.3:
                break
            place = inner
        if chance.random() < 0.3 and len(place) > 1:
            del place[key]
        else:
            place[key] = copy.deepcopy(value)
    try:
        one = Attestation("x", parsed("x", json.dumps(data).encode()))
    except AttestationError:
        return
    compare(planned, [one], NOW, 30)


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, 10**6), byte=st.integers(0, 255))
def test_a_damaged_byte_gives_no_traceback(example, planned, at, byte):
    text = bytearray(json.dumps(said_by(example, "master-1")).encode())
    text[at % len(text)] = byte
    try:
        one = Attestation("x", parsed("x", bytes(text)))
    except AttestationError:
        return
    compare(planned, [one], NOW, 30)


# --- on a host ----------------------------------------------------------------------------------------------------------------------------

on_a_host = pytest.mark.needs("root", "unshare", "ip", "openssl", "etcd", "etcdctl")
LOGIN = base64.b64encode(b"puller:kayaking").decode()
CANARIES = ("kayaking", LOGIN, "abcdef.0123456789abcdef", "canary-service-account-key", "PRIVATE KEY")


def canary_digests() -> list[str]:
    """What one could try passwords against."""
    texts = [f"{CANARIES[0]}{end}" for end in ("", "\n")] + [
        AUTH,
        "auth_pass kayaking\n",
        f'{{"auth": "{LOGIN}", "again": "Basic {LOGIN}"}}\n',
    ]
    return [hashlib.new(kind, text.encode()).hexdigest() for text in texts for kind in ("sha256", "sha1", "md5")]


AUTH = "authentication {\n    auth_type PASS\n    auth_pass kayaking\n}\n"


@pytest.fixture
def master(up: Kube) -> Kube:
    """The first control plane, all as planned, with files of every kind and secrets in their places."""
    for name, version in (("kubelet", "Kubernetes v1.29.3"), ("containerd", "containerd github.com/containerd/containerd v1.7.20")):
        up.stand_in(name, f"#!/bin/sh\necho '{version}'\n")
    up.stand_in("dpkg-query", '#!/bin/sh\ncase $3 in nginx) echo "installed 1.22.1-9+deb12u2" ;; *) exit 1 ;; esac\n')
    up.environment |= {"LB_HOSTS": "", "VRRP_AUTH": "vrrp"}
    up.row("/etc/nginx/nginx.conf", "events {}\n", step="40", unit="nginx.service")
    up.row("/etc/sysctl.d/90-stowage.conf", "a = 1\n", mode="0600")
    up.row("/etc/former", "x\n")
    up.row("/etc/hosts", "192.0.2.31\tbackend\n", how="block")
    for path in ("/etc/login", "/etc/login-changed", "/etc/login-gone"):
        up.row(path, '{"auth": "@login@", "again": "Basic @login@"}\n', how="login", mode="0600")
    up.put("/etc/login", f'{{"auth": "{LOGIN}", "again": "Basic {LOGIN}"}}\n', 0o600)
    up.put("/etc/login-changed", f'{{"auth": "{LOGIN}", "again": "{LOGIN}"}}\n', 0o600)
    up.put("/etc/login-gone", '{"auth": "", "again": "Basic "}\n', 0o600)
    up.put("/etc/nginx/nginx.conf", "events {}\n")
    up.put("/etc/sysctl.d/90-stowage.conf", "auth_pass kayaking\n", 0o640)
    up.put("/etc/hosts", "127.0.0.1 localhost\n# BEGIN stowage example\n192.0.2.31\tbackend\n# END stowage example\n::1 six\n")
    up.put("/etc/keepalived/stowage-auth.conf", AUTH, 0o600)
    up.put("/var/lib/stowage/example/secrets/vrrp", "kayaking", 0o600)
    up.put("/etc/kubernetes/stowage-discovery.conf", "    token: abcdef.0123456789abcdef\n", 0o600)
    pem = up.file("/etc/kubernetes/pki/ca.crt").read_text() + up.file("/etc/kubernetes/pki/ca.key").read_text()
    up.put("/var/lib/kubelet/pki/kubelet-client-current.pem", pem, 0o600)
    up.unit("containerd.service", "enabled", "active")
    up.unit("stowage-watcher.service", "enabled")
    up.seal()
    whole(up)
    return up


@pytest.fixture
def worker(cloud: Cloud) -> Kube:
    """A worker that has not joined, whose checks are few and soon done."""
    return cloud.host("node-1", 28, VIPS="")


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    folder = tmp_path / "stick of ours"
    folder.mkdir()
    return folder / "master 1.json"


def attested(path: Path) -> dict:
    text = path.read_bytes()
    assert len(text) < 64 * 1024
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [other.name for other in path.parent.iterdir()] == [path.name]
    return dict(parsed(str(path), text))


@on_a_host
def test_a_host_attests(master: Kube, stick: Path) -> None:
    text = ok(master.do("run.sh", "90", "--attest", str(stick)), 1)  # the token lies about, the watcher is off
    assert "attested in" in text
    data = attested(stick)
    raw = stick.read_text()
    assert not [canary for canary in (*CANARIES, *canary_digests(), *master.cloud.tokens()) if canary in raw]
    about = (data["cluster"], data["host"], data["role"], data["bundle"], data["kubernetes"])
    assert about == (
        "example",
        "master-1",
        "control-plane",
        hashlib.sha256((master.bundle / "SHA256SUMS").read_bytes()).hexdigest(),
        "1.29.3",
    )
    files = {entry["path"]: entry for entry in data["files"]}
    digest = {
        path: hashlib.sha256((master.bundle / f"rootfs{path}").read_bytes()).hexdigest() for path in ("/etc/nginx/nginx.conf", "/etc/hosts")
    }
    nginx = {
        "how": "file",
        "step": "40",
        "state": "as-laid",
        "sha256": digest["/etc/nginx/nginx.conf"],
        "mode": "0644",
        "owner": "root:root",
    }
    assert files["/etc/nginx/nginx.conf"] == nginx | {"path": "/etc/nginx/nginx.conf"}
    changed = {
        "path": "/etc/sysctl.d/90-stowage.conf",
        "how": "file",
        "step": "20",
        "state": "changed",
        "mode": "0640",
        "owner": "root:root",
    }
    assert files["/etc/sysctl.d/90-stowage.conf"] == changed
    assert files["/etc/former"] == {"path": "/etc/former", "how": "file", "step": "20", "state": "missing"}
    assert (files["/etc/hosts"]["state"], files["/etc/hosts"]["sha256"]) == ("as-laid", digest["/etc/hosts"])
    digest_of_login = hashlib.sha256((master.bundle / "rootfs/etc/login").read_bytes()).hexdigest()
    assert (files["/etc/login"]["state"], files["/etc/login"]["sha256"]) == ("as-laid", digest_of_login)
    for path in ("/etc/login-changed", "/etc/login-gone"):
        assert (files[path]["state"], files[path].get("sha256")) == ("changed", None)
    private = {entry["path"]: entry.get("mode") for entry in data["private"]}
    assert private["/etc/keepalived/stowage-auth.conf"] == private["/etc/kubernetes/pki/ca.key"] == "0600"
    assert all(set(entry) == {"path", "mode", "owner"} for entry in data["private"])
    units = {entry["unit"]: (entry["enabled"], entry["active"]) for entry in data["units"]}
    assert units["nginx.service"] == ("enabled", "active")
    assert units["stowage-watcher.service"][1] == "active"
    assert set(units) == {"kubelet.service", "containerd.service", "keepalived.service", "nginx.service", "stowage-watcher.service"}
    assert data["steps"] == ["50"]
    assert data["marks"] == ["50-finished", "50-started"]
    assert data["vips"] == [{"address": "192.0.2.31", "here": True, "answers": "here"}]
    assert re.fullmatch("([0-9a-f]{2}:){5}[0-9a-f]{2}", data["mac"])
    assert [(entry["name"], entry["status"], entry["learner"]) for entry in data["etcd"]] == [
        (name, "started", False) for name in ADDRESSES
    ]
    assert data["healthy"] is True
    assert data["packages"] == [{"name": "nginx", "version": "1.22.1-9+deb12u2"}, {"name": "keepalived"}]
    versions = {entry["name"]: entry.get("version", "") for entry in data["programs"]}
    assert versions == {"kubelet": "v1.29.3", "kubeadm": "v1.29.3", "containerd": "containerd github.com/containerd/containerd v1.7.20"}
    assert [line.partition(":")[0] for line in data["failed"]] == ["no handoff and no token lie about"]
    assert data["passed"] > 10


@on_a_host
def test_certificates_of_a_host(master: Kube, stick: Path) -> None:
    """As openssl has them: kubelet's, whose key stands beside it, and those inside kubeconfigs."""
    pem = master.file("/etc/kubernetes/pki/ca.crt")
    inside = base64.b64encode(pem.read_bytes()).decode()
    master.put(
        "/etc/kubernetes/admin.conf", f"server: https://backend:16443\nusers:\n- user:\n    client-certificate-data: {inside}\n", 0o600
    )
    ok(master.do("90-verify.sh", "--attest", str(stick)), 1)
    found = {entry.pop("path"): entry for entry in attested(stick)["certificates"]}
    words = ["openssl", "x509", "-noout", "-fingerprint", "-sha256", "-enddate", "-in", str(pem)]
    fingerprint, ends = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    end = datetime.strptime(ends.partition("=")[2], "%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC)
    one = {
        "subject": "CN=kubernetes",
        "ends": f"{end:%Y-%m-%dT%H:%M:%SZ}",
        "sha256": fingerprint.partition("=")[2].replace(":", "").lower(),
    }
    for path in (
        "/etc/kubernetes/pki/ca.crt",
        "/etc/kubernetes/pki/etcd/ca.crt",
        "/var/lib/kubelet/pki/kubelet-client-current.pem",
        "/etc/kubernetes/admin.conf",
    ):
        assert found[path] == one, path


@on_a_host
def test_odd_values_are_json(worker: Kube, stick: Path) -> None:
    odd = 'quote" back\\slash tab\t del\x7f esc\x1b[31m Zürich \u2028'
    worker.stand_in("containerd", "#!/bin/sh\nprintf '%s\\377\\300\\200 end' '" + odd + "'\n")
    worker.stand_in("kubelet", "#!/bin/sh\nprintf '\\n\\n'\n")
    worker.put("/etc/os-release", 'PRETTY_NAME="' + "ü" * 400 + '"\n')  # cut within a letter
    worker.row('/etc/odd " ä', "x\n")
    ok(worker.do("90-verify.sh", "--attest", str(stick)), 1)
    data = attested(stick)
    assert {entry["name"]: entry.get("version") for entry in data["programs"]} == {
        "kubelet": None,
        "kubeadm": "v1.29.3",
        "containerd": odd + " end",
    }
    assert data["os"] == "ü" * 250
    assert data["files"][-1]["path"] == '/etc/odd " ä'


@on_a_host
def test_where_an_attestation_may_be_written(worker: Kube, stick: Path) -> None:
    assert "is a directory" in ok(worker.do("90-verify.sh", "--attest", str(stick.parent)), 1)
    assert "would write" in ok(worker.do("90-verify.sh", "--plan", "--attest", str(stick)))
    assert not stick.exists()
    for content in ("precious\n", '{"other": 1}'):
        stick.write_text(content)
        assert "is no attestation" in ok(worker.do("90-verify.sh", "--attest", str(stick)), 1)
        assert stick.read_text() == content
    stick.unlink()
    stick.symlink_to("/etc/passwd")
    assert "is no attestation" in ok(worker.do("90-verify.sh", "--attest", str(stick)), 1)
    stick.unlink()
    assert "no directory" in ok(worker.do("90-verify.sh", "--attest", str(stick.parent / "none" / "x")), 1)
    for words in (("--attest",), ("--attest", ""), ("--attest", "--plan"), ("--attest=x",)):
        assert "does not take" in ok(worker.do("90-verify.sh", *words), 2)
    stick.write_text('{"stowage-attestation": 1, "old": 1}')
    (stick.parent / f".{stick.name}.stowage").symlink_to("/etc/passwd")  # what somebody left, or put there
    ok(worker.do("90-verify.sh", "--attest", str(stick)), 1)
    assert attested(stick)["host"] == "node-1"
    no_space = 'mount -t tmpfs -o size=4k tmpfs "$1"; cd "$1"; echo >other; bash "$0" --attest full.json; echo "$?" *'
    done = worker.sh("bash", "-c", no_space, str(worker.path("90-verify.sh")), str(stick.parent))
    assert "cannot write full.json" in done.stdout
    assert done.stdout.splitlines()[-1] == "1 other"


@on_a_host
def test_a_host_that_waits_attests_too(master: Kube, stick: Path) -> None:
    (master.cloud.root / "ready").write_text("False\n")
    assert "waits for: step 80" in ok(master.do("90-verify.sh", "--attest", str(stick)), 3)
    assert attested(stick)["failed"] == ["waits for step 80 on master-1, the pod network"]


@on_a_host
def test_a_worker_and_a_load_balancer_attest(worker: Kube, stick: Path) -> None:
    script = worker.path("90-verify.sh")
    for environment in (
        {},
        {"ROLE": "load-balancer", "KUBERNETES": "", "RUNTIME": "", "RUNTIME_UNITS": "", "LB": "1", "VIPS": "192.0.2.31"},
    ):
        worker.seal(**environment)
        done = worker.sh("bash", str(script), "--attest", str(stick))
        data = attested(stick)
        assert "etcd" not in data
        assert done.returncode == 1
        assert bool(data["programs"]) is not bool(environment)
        assert bool(data["vips"]) is bool(environment)


@on_a_host
def test_what_a_host_writes_is_what_stowage_compares(master: Kube, stick: Path) -> None:
    """The reader finds what the writer says, and nothing else."""
    ok(master.do("90-verify.sh", "--attest", str(stick)), 1)
    data = parsed(str(stick), stick.read_bytes())
    rows = [row.split("\t") for row in master.rows]
    files = {
        path: {"sha256": hashlib.sha256((master.bundle / source).read_bytes()).hexdigest(), "mode": mode, "owner": owner, "step": int(step)}
        for source, path, mode, owner, step, *_ in rows
    }
    roles = dict.fromkeys(ADDRESSES, "control-plane")
    steps = [{"number": step.number, "hosts": step.hosts, "script": step.script} for step in STEPS]
    planned = Planned("example", roles, steps, dict.fromkeys(roles, files), dict.fromkeys(roles, data["bundle"]))
    found = [
        (d.kind, d.message)
        for d in compare(planned, [Attestation("x", data)], seconds(data["time"]), 30).differences
        if d.host == "master-1"
    ]
    assert [message for kind, message in found if kind == "step"] == [
        f"step {step} has not run" for step in ("10-packages", "20-host", "30-images", "40-load-balancer", "70-etcd", "80-network")
    ]
    assert ("file", "changed: /etc/sysctl.d/90-stowage.conf") in found
    assert ("package", "package keepalived is not installed") in found
    assert ("private", "holds a secret and is open to others, mode 0644: /etc/kubernetes/pki/front-proxy-ca.key") in found  # the stand-in's
    assert {kind for kind, _ in found} == {"step", "file", "private", "package", "check"}


@on_a_host
def test_packages_of_the_rhel_family(worker: Kube, stick: Path) -> None:
    """A pin is no part of the name, and curl may be curl-minimal."""
    rpm = '#!/bin/sh\ncase $5 in kubelet) echo 1.29.3-150500.1.1 ;; curl) echo 7.76.1-29.el9 ;; *) echo "no package provides $5"; exit 1 ;; esac\n'
    worker.stand_in("rpm", rpm)
    worker.seal(OS_FAMILY="rhel", PACKAGES="curl nginx-mod-stream kubelet-1.29.3")
    ok(worker.do("90-verify.sh", "--attest", str(stick)), 1)
    assert attested(stick)["packages"] == [
        {"name": "curl", "version": "7.76.1-29.el9"},
        {"name": "nginx-mod-stream"},
        {"name": "kubelet", "version": "1.29.3-150500.1.1"},
    ]
