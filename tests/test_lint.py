"""The rules: each on fixtures that break it and fixtures that come close, and what holds for all of them."""

from __future__ import annotations

import random
import re
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from generator import lint, source, validate
from generator.diagnostics import Diagnostic, has_errors
from generator.model import build

ROOT = Path(__file__).resolve().parent
FIXTURES = sorted((ROOT / "lint").glob("*/*.yaml"))
BAD = [p for p in FIXTURES if p.name.startswith("bad-")]
GOOD = [p for p in FIXTURES if p.name.startswith("good-")]
ORIGIN = [p for p in FIXTURES if p.parent.name == "origin"]
EXAMPLE = ROOT.parent / "inventories" / "example.yaml"
RULES = {r.code: r for r in lint.rules()}
# Families of hand-written files: tests/test_lint_files.py has their fixtures.
READERS = sorted((ROOT.parent / "generator" / "handwritten").glob("*.py"))
FILE_FAMILIES = {"NGX", "KAD", "SCR", "UNT", "HSF", "KCF", "MAN", "KKY"}


def name(path: Path) -> str:
    return f"{path.parent.name}-{path.stem}"


@cache
def diagnose(path: Path) -> tuple[source.Source, tuple[Diagnostic, ...]]:
    """What the first stage that finds an error says of a file, or the rules."""
    text, found = source.load(path.name, path.read_bytes())
    if not found:
        found = validate.run(text.data)
    if not found:
        found = lint.run(build(validate.complete(text.data)))
    return text, tuple(found)


def expected(path: Path) -> set[tuple[str, int]]:
    marks = set()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        mark = re.search(r"# expect: ([A-Z0-9, ]+)$", line)
        if mark:
            marks |= {(code, number) for code in mark[1].split(", ")}
    return marks


def places(text: source.Source, found: tuple[Diagnostic, ...], codes: set[str]) -> set[tuple[str, int]]:
    return {(d.code, (d.position or text.position(d.path, on_key=d.on_key)).line) for d in found if d.code in codes}


def look_up(data: Any, path: tuple[str | int, ...]) -> Any:
    for part in path:
        data = data[part]
    return data


@pytest.mark.parametrize("path", BAD, ids=name)
def test_bad_fixture_yields_its_code_where_it_is_marked(path):
    code = path.parent.name
    text, found = diagnose(path)
    assert expected(path), "a bad fixture marks its lines"
    assert {c for c, _ in expected(path)} == {code}
    assert places(text, found, {code}) == expected(path)


@pytest.mark.parametrize("path", BAD, ids=name)
def test_column_points_at_the_key_or_the_value(path):
    text, found = diagnose(path)
    for d in found:
        if d.code != path.parent.name:
            continue
        marks = text.keys if d.on_key else text.values
        at = text.position(d.path, on_key=d.on_key)
        shown = text.text.split("\n")[at.line - 1][at.column - 1 :]
        if d.path not in marks:  # it is missing, or an item of a list: what holds it says where it belongs
            assert shown.startswith((*map(str, d.path[:-1]), "{", "[", "version", "name")), shown
        elif d.on_key:
            assert shown.lstrip("\"'").startswith(str(d.path[-1])), shown
        else:
            value = look_up(text.data, d.path)
            if isinstance(value, dict | list):
                assert shown.startswith(("{", "[", "-", *(f"{key}:" for key in value))), shown
            else:
                scalar = str(value).lower() if isinstance(value, bool) else str(value)
                assert shown[: at.length].strip("\"'") == scalar, shown


@pytest.mark.parametrize("path", GOOD, ids=name)
def test_good_fixture_comes_close_without_an_error(path):
    _, found = diagnose(path)
    assert path.parent.name not in {d.code for d in found}
    assert [d for d in found if d.severity == "error"] == []


@pytest.mark.parametrize("path", ORIGIN, ids=name)
def test_mistakes_of_the_origin(path):
    text, found = diagnose(path)
    said = {d.code for d in found if d.severity != "info"}
    assert places(text, found, said) == expected(path)
    assert has_errors(found)


def test_all_eight_mistakes_of_the_origin_have_a_file():
    assert len(ORIGIN) == 8


def test_example_is_clean_under_strict():
    _, found = diagnose(EXAMPLE)
    assert not has_errors(found, strict=True)
    assert [d.code for d in found] == ["LBR017"]


@pytest.mark.parametrize("code", sorted(RULES))
def test_rule_has_fixtures(code):
    if code.startswith("SRC"):
        pytest.skip("tests/test_source.py makes these from bytes")
    if code[:3] in FILE_FAMILIES:
        pytest.skip("tests/test_lint_files.py has its fixtures")
    assert [p for p in BAD if p.parent.name == code]
    assert [p for p in GOOD if p.parent.name == code]


def test_fixtures_have_a_rule():
    assert {p.parent.name for p in FIXTURES} - {"origin"} <= {code for code in RULES if code[:3] not in FILE_FAMILIES}


@pytest.mark.parametrize("code", sorted(code for code, rule in RULES.items() if rule.check))
def test_without_its_rule_a_fixture_passes(code, monkeypatch):
    """Each code comes from one rule alone; a fixture that another rule answers for proves nothing."""
    rest = tuple(r for c, r in RULES.items() if c != code)
    monkeypatch.setattr(lint, "rules", lambda: rest)
    for path in BAD:
        if path.parent.name == code:
            _, found = diagnose.__wrapped__(path)
            assert code not in {d.code for d in found}


def test_every_emitted_code_has_an_essay():
    emitted = set()
    for module in [ROOT.parent / "generator" / name for name in ("source.py", "validate.py")] + READERS:
        emitted |= set(re.findall(r'"([A-Z]{3}[0-9]{3})"', module.read_text(encoding="utf-8")))
    assert emitted == {code for code, rule in RULES.items() if rule.check is None and rule.file_check is None}


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda r: r.code)
def test_essay_has_its_parts(rule):
    at = [rule.essay.find(f"\n\n{part}: ") for part in ("Why it hurts", "Example", "Use instead", "Source")]
    assert -1 not in at
    assert at == sorted(at)
    assert 10 <= len(rule.title) <= 90
    assert not rule.title.endswith(".")
    assert all(len(line) <= 140 for line in rule.essay.splitlines())


def test_titles_differ():
    titles = [r.title for r in RULES.values()]
    assert len(set(titles)) == len(titles)


def test_codes_are_of_their_topic():
    topics = {
        "HST": {"hosts", "roles"},
        "NET": {"network", "site", "vip"},
        "LBR": {"loadbalancer", "ports", "upstream", "vrrp"},
        "KUB": {"apiserver", "components", "kubeadm", "kubelet", "nodes"},
        "ETC": {"etcd"},
        "CNI": {"cni", "podnetwork"},
        "RUN": {"registry", "runtime"},
        "SEC": {"registry", "secrets"},
        "NGX": {"endpoints", "nginx", "proxying"},
        "KAD": {"keepalived", "vrrppeers", "vrrpscripts"},
        "SCR": {"installing", "scripts"},
        "UNT": {"units"},
        "HSF": {"hostsfile"},
        "KCF": {"kubeadmfiles", "kubeadmnodes"},
        "MAN": {"manifests"},
        "KKY": {"kubekey"},
    }
    for code, rule in RULES.items():
        if rule.check or rule.file_check:
            assert (rule.check or rule.file_check).__module__.rpartition(".")[2] in topics[code[:3]]


def test_at_least_sixty_rules():
    assert len([r for r in RULES.values() if r.check]) >= 60


def test_a_rule_needs_an_essay_and_a_free_code():
    with pytest.raises(ValueError, match="XYZ001"):
        lint.rule("XYZ001", "error")(lambda _: iter(()))
    with pytest.raises(ValueError, match="HST001"):
        lint.essay("HST001", "Taken.\n\nWhy it hurts: it is taken.")


@pytest.mark.parametrize("path", [*BAD, *ORIGIN], ids=name)
def test_findings_read_well(path):
    """One clause, no full stop, a remedy, and paths that exist up to their last part."""
    text, found = diagnose(path)
    lock = validate.complete(text.data) if not any(d.code.startswith(("SRC", "SCH")) for d in found) else None
    for d in found:
        assert d.message
        assert not d.message.endswith((".", ":", " "))
        assert d.remedy
        assert not d.remedy.endswith(".")
        assert "\n" not in d.message + d.remedy
        assert "None" not in d.message + d.remedy or "None" in text.text
        if lock is not None:
            look_up(lock, d.path[:-1])
            for other in d.related:
                look_up(lock, other.path[:-1])


@pytest.mark.parametrize("path", [p for p in FIXTURES if "authPass" in p.read_text(encoding="utf-8")], ids=name)
def test_no_finding_shows_a_password(path):
    text, found = diagnose(path)
    password = text.data["loadBalancer"]["keepalived"]["authPass"]
    if not isinstance(password, str) or not password:
        return
    for d in found:
        assert password not in repr(d)
        assert password not in text.line(text.position(d.path, on_key=d.on_key).line)


# -- any inventory that the schema admits -------------------------------------------------------------------------------------------------

V4 = ["10.0.0.1/24", "10.0.0.255/24", "192.168.1.25/24", "172.17.0.9/16", "10.244.1.1/32", "127.0.0.1/8", "0.0.0.0/0", "10.0.0.3/31"]
V6 = ["fd00:1::5/64", "fe80::1/64", "::/0", "::1/128", "ff02::1/16", "::ffff:10.0.0.1/96", "fd00:1::/64"]
POOLS: dict[str, list[Any]] = {
    "cluster.podSubnet": [
        "10.244.0.0/16",
        "0.0.0.0/0",
        "::/0",
        "10.0.0.1/32,fd00::/128",
        "10.0.0.0/8,10.1.0.0/16",
        "fd00:2::/56,10.244.0.0/16",
    ],
    "cluster.serviceSubnet": ["10.96.0.0/16", "0.0.0.0/0", "::/0,::/0", "fd00:3::/112,10.96.0.0/12", "10.96.0.1/32"],
    "cluster.kubernetesVersion": ["1.0.0", "1.27.1", "1.28.0", "1.31.4", "1.34.2", "1.36.0", "1.999.999"],
    "cluster.containerRuntime": ["containerd", "cri-dockerd", "cri-o"],
    "cluster.cni": [
        "flannel",
        "calico",
        "none",
        {"name": "flannel", "version": "0.999.999", "backend": "host-gw", "directRouting": True},
        {"name": "calico", "version": "3.999.0", "encapsulation": "None", "bgp": "Disabled", "manifests": {"operator-crds.yaml": "0" * 64}},
        {"name": "calico", "blockSize": 20, "blockSizeIPv6": 128, "linuxDataplane": "Nftables"},
    ],
    "cluster.kubeProxy": [{}, {"mode": "ipvs", "strictARP": True}, {"mode": "nftables", "strictARP": True}],
    "cluster.apiServer": [
        {},
        {"extraArgs": {"anonymous-auth": False}},
        {"bindPort": 1, "certSANs": ["::::", "a.b", "*.x"], "extraArgs": {"service-node-port-range": "x", "secure-port": 1}},
        {"bindPort": 65535, "extraArgs": {"service-node-port-range": "99999-0", "advertise-address": True}},
    ],
    "cluster.controllerManager": [
        {},
        {"extraArgs": {"node-cidr-mask-size-ipv4": "many", "node-cidr-mask-size-ipv6": "999"}},
        {"extraArgs": {"node-cidr-mask-size-ipv4": -3, "allocate-node-cidrs": False}},
        {"extraArgs": {"node-cidr-mask-size-ipv4": "²", "node-cidr-mask-size-ipv6": ""}},
        {"extraArgs": {"node-cidr-mask-size": 27, "leader-elect": False}},
        {"extraArgs": {"node-cidr-mask-size": "-1", "node-cidr-mask-size-ipv4": 24}},
    ],
    "cluster.etcd": [
        {},
        {"dataDir": "/a", "extraArgs": {"heartbeat-interval": "x", "election-timeout": -1, "quota-backend-bytes": "²"}},
        {"dataDir": "/etc", "extraArgs": {"enable-v2": False, "experimental-enable-v2v3": ""}},
        {"dataDir": "/tmp", "extraArgs": {"feature-gates": "", "experimental-initial-corrupt-check": True, "heartbeat-interval": 0}},
    ],
    "cluster.images": [{}, {"etcd": "latest"}, {"etcd": "3.6.5-0", "pause": "x", "coredns": "y"}, {"etcd": "99999.1"}],
    "cluster.featureGates": [{}, {"X": True, "EtcdLearnerMode": False}],
    "cluster.extraHosts": [[], [{"name": "a", "address": "::1"}, {"name": "a", "address": "::1"}]],
    "cluster.certificateValidityPeriod": [None, "1s", "999999h"],
    "cluster.encryptionAlgorithm": [None, "ECDSA-P384"],
    "controlPlaneEndpoint": [
        None,
        {"name": "a", "address": "10.0.0.9/24"},
        {"name": "api", "address": ["fd00:1::9/64", "10.0.0.9/24"], "port": -(10**17)},
        {"name": "api", "address": "0.0.0.0/0", "port": 16443},
        {"name": "localhost", "address": ["::1/128", "::1/128"], "port": 10**17},
        {"name": "10.0.0.1", "address": ["fd00:1::9/64", "10.0.0.9/24"]},
    ],
    "loadBalancer": [
        None,
        {"keepalived": {"virtualRouterId": -5, "advertInterval": -7, "authPass": ""}},
        {"keepalived": {"virtualRouterId": 51, "vrrpVersion": 2, "preemptDelay": 0}, "ipvs": {}, "nginx": {"allow": ["::/0", "0.0.0.0/0"]}},
        {"keepalived": {"virtualRouterId": 1, "advertInterval": "99.99", "check": {"interval": 3600}}, "ipvs": {"forwarding": "NAT"}},
        {"keepalived": {"virtualRouterId": 1, "authPass": {"secret": "x"}}, "nginx": {"allow": ["10.0.0.0/32"], "connectTimeout": "1d"}},
        {"keepalived": {"virtualRouterId": 1, "advertInterval": 3.5}, "ipvs": {"forwarding": "TUN"}},
        {"keepalived": {"virtualRouterId": 1, "killMode": "process"}, "watcher": {"rise": 9, "riseMax": 1}, "ipvs": {"forwarding": "DR"}},
    ],
    "hostDefaults": [
        {},
        {"interface": "lo", "os": "debian-12", "gateway": ["10.0.0.1", "::1"], "swap": "keep", "taints": []},
        {
            "kubelet": {"maxPods": 300, "evictionHard": {"x": "1", "pid.available": "5%"}},
            "kubeletExtraArgs": {"container-runtime": "remote"},
        },
        {"labels": {"k8s.io/x": "", "a": "b"}, "kubelet": {"imageGCLowThresholdPercent": 100, "shutdownGracePeriodCriticalPods": "1h"}},
        {
            "containerRuntimeVersion": "1.0",
            "kubeletExtraArgs": {"node-ip": 1},
            "ignorePreflightErrors": ["all", "x"],
            "sysctl": {"net/ipv4/ip_forward": 0},
        },
    ],
}


def any_inventory(chance: random.Random) -> dict[str, Any]:
    data: dict[str, Any] = {"version": 1, "cluster": {"name": "x", "kubernetesVersion": "1.31.4"}, "hosts": []}
    for key, pool in POOLS.items():
        value = chance.choice(pool)
        if value is not None and chance.random() < 0.6:
            target, _, last = key.rpartition(".")
            (data[target] if target else data)[last] = value
    for index in range(chance.randint(1, 6)):
        addresses = chance.choice([chance.choice(V4), chance.choice(V6), [chance.choice(V4), chance.choice(V6)], [chance.choice(V6)] * 2])
        host = {"name": chance.choice(["a", "b", "..", "/", "ä", str(index), "x" * 99]), "address": addresses}
        host["role"] = chance.choice(["control-plane", "control-plane", "worker", "load-balancer"])
        extra = [
            {},
            {"priority": -1},
            {"priority": 10**15, "weight": 7},
            {"kubelet": {"failCgroupV1": True}},
            {"swap": "keep"},
            {"os": "rhel-9"},
        ]
        data["hosts"].append(host | chance.choice(extra))
    return data


def test_rules_raise_nothing_for_what_the_schema_admits():
    chance = random.Random(20240228)
    seen = set()
    for _ in range(400):
        data = any_inventory(chance)
        assert validate.run(data) == []
        seen |= {d.code for d in lint.run(build(validate.complete(data)))}
    assert len(seen) > 80, "the pools reach most rules"


def test_rules_are_quick_and_linear():
    """A thousand hosts take milliseconds a rule, and four times the hosts no more than about four times as long."""

    def cost(count: int) -> float:
        hosts = [
            {
                "name": f"h{i}",
                "role": "control-plane" if i < 3 else "worker",
                "address": f"10.{i // 250}.{i % 250}.5/24",
                "gateway": f"10.{i // 250}.{i % 250}.1",
            }
            for i in range(count)
        ]
        data = {"version": 1, "cluster": {"name": "x", "kubernetesVersion": "1.31.4", "podSubnet": "172.16.0.0/12"}, "hosts": hosts}
        data["loadBalancer"] = {
            "keepalived": {"virtualRouterId": 3},
            "nginx": {"allow": [f"10.{i // 250}.{i % 250}.0/24" for i in range(count)]},
        }
        data["controlPlaneEndpoint"] = {"name": "api", "address": "10.0.0.9/24", "port": 16443}
        best = 9.0
        for _ in range(3):
            cluster = build(validate.complete(data))
            start = time.perf_counter()
            lint.run(cluster)
            best = min(best, time.perf_counter() - start)
        return best

    small, large = cost(500), cost(2000)
    assert large < 2.0
    assert large < small * 10
