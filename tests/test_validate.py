"""The schema, what is said of data that breaks it, and the defaults that stand in it."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from generator import source, validate
from generator.diagnostics import dotted

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = json.loads((ROOT / "schema" / "inventory.v1.schema.json").read_text(encoding="utf-8"))
EXAMPLE = source.load("example", (ROOT / "inventories" / "example.yaml").read_bytes())[0].data
VALID = [p for p in sorted((ROOT / "tests" / "lint").glob("*/*.yaml")) if not p.parent.name.startswith("SCH") or p.name.startswith("good-")]
SCALARS = (str, int, bool)


def resolved(node):
    if "$ref" in node:
        return SCHEMA["$defs"][node["$ref"].removeprefix("#/$defs/")] | {k: v for k, v in node.items() if k != "$ref"}
    return node


def properties(node, path=()):
    """Every property below *node*, with the path of the schema that it stands in."""
    for name, child in node.get("properties", {}).items():
        yield (*path, name), resolved(child)
        yield from properties(resolved(child), (*path, name))
    if "items" in node:
        yield from properties(resolved(node["items"]), (*path, "[]"))
    for branch in node.get("oneOf", ()):
        yield from properties(resolved(branch), path)


ALL = {".".join(path): node for path, node in properties(SCHEMA)}


def errors(node, value):
    """What a plain validator with our formats says of *value* against *node*."""
    validator = Draft202012Validator({**node, "$defs": SCHEMA["$defs"]}, format_checker=validate._formats())
    return [e.message for e in validator.iter_errors(value)]


# -- the schema ----------------------------------------------------------------------------------------------------------------------------


def test_schema_is_a_schema():
    Draft202012Validator.check_schema(SCHEMA)
    assert len(ALL) > 100


@pytest.mark.parametrize("name", ALL)
def test_property_is_described_with_an_example(name):
    node = ALL[name]
    assert node.get("description", "").endswith((".", "?")), "a sentence"
    assert node.get("examples"), "an example"


@pytest.mark.parametrize("name", ALL)
def test_examples_and_defaults_are_valid(name):
    node = ALL[name]
    for value in node.get("examples", []):
        # As the loader reads it: 0.5 is the text "0.5" here.
        assert errors(node, source.load("x", json.dumps(value).encode())[0].data) == []
    if "default" in node:
        assert errors(node, node["default"]) == []


@pytest.mark.parametrize("name", [n for n, node in ALL.items() if node.get("type") == "object" and "properties" in node])
def test_mappings_are_closed(name):
    assert ALL[name]["additionalProperties"] is False
    assert set(ALL[name].get("required", ())) <= set(ALL[name]["properties"])


@pytest.mark.parametrize("name", [n for n, node in ALL.items() if "pattern" in node or "format" in node])
def test_patterns_say_what_they_expect(name):
    assert ALL[name].get("x-expected")
    assert "\\" not in ALL[name]["x-expected"]


def test_formats_are_ours():
    """An unknown format name would be taken for anything."""
    named = {node["format"] for _, node in properties({"properties": {"x": SCHEMA, **SCHEMA["$defs"]}}) if "format" in node}
    text = json.dumps(SCHEMA)
    named |= {part.split('"')[0] for part in text.split('"format": "')[1:]}
    assert named == set(validate._formats().checkers)


def test_references_exist_and_are_used():
    text = json.dumps(SCHEMA)
    used = {part.split('"')[0] for part in text.split("#/$defs/")[1:]}
    assert used == set(SCHEMA["$defs"])


# -- formats -------------------------------------------------------------------------------------------------------------------------------

FORMATS = {
    "ip-address": (
        ["192.168.1.1", "fd00::1", "::", "::ffff:10.0.0.1"],
        ["192.168.1", "192.168.1.256", "192.168.01.1", "1", "a", "", "fe80::1%eth0"],
    ),
    "ip-interface": (
        ["192.168.1.25/24", "10.0.0.1/32", "fd00::1/64", "0.0.0.0/0", "::1/128"],
        [
            "192.168.1.25",
            "10/8",
            "192.168.1.25/33",
            "192.168.1.25/024",
            "192.168.1.25/255.255.255.0",
            "fd00::1/129",
            "fd00::g/64",
            "10.0.0.1/24 ",
        ],
    ),
    "ip-network": (["10.0.0.0/8", "fd00::/8"], ["10.0.0.0", "any"]),
    "ip-networks": (["10.0.0.0/8", "10.0.0.0/8,fd00::/8"], ["10.0.0.0/8, fd00::/8", "10.0.0.0/8,", "10.0.0.0/8,fd00::/8,fd01::/8", ""]),
}


@pytest.mark.parametrize("name", FORMATS)
def test_formats(name):
    checker = validate._formats()
    good, bad = FORMATS[name]
    assert [text for text in good if not checker.conforms(text, name)] == []
    assert [text for text in bad if checker.conforms(text, name)] == []
    assert checker.conforms(17, name), "what is no text is for the type"


# -- messages ------------------------------------------------------------------------------------------------------------------------------


def changed(path, value):
    data = copy.deepcopy(EXAMPLE)
    target = data
    for part in path[:-1]:
        target = target[part]
    if value is ...:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return data


CNI = ("cluster", "cni")
KEEPALIVED = ("loadBalancer", "keepalived")
SAID = [
    # path, value, code, path of the finding, words of message and remedy
    (("hots",), [], "SCH001", ("hots",), "unknown key hots", "`hosts`"),
    ((*KEEPALIVED, "virtualRouterID"), 51, "SCH001", (*KEEPALIVED, "virtualRouterID"), "virtualRouterID", "did you mean `virtualRouterId`"),
    (("hosts", 1, "adress"), "x", "SCH001", ("hosts", 1, "adress"), "unknown key hosts[1].adress", "`address`"),
    (("xyz",), 1, "SCH001", ("xyz",), "unknown key xyz", "one of: cluster,"),
    ((*KEEPALIVED, "virtualRouterId"), ..., "SCH002", KEEPALIVED, "loadBalancer.keepalived.virtualRouterId is missing", "VRRP router id"),
    (("cluster", "name"), ..., "SCH002", ("cluster",), "cluster.name is missing", "add `name:`"),
    (("hosts", 0, "role"), ..., "SCH002", ("hosts", 0), "hosts[0].role is missing", "add `role:`"),
    (("hosts",), ..., "SCH002", (), "hosts is missing", "add `hosts:`"),
    (("cluster",), [], "SCH003", ("cluster",), "cluster is a list", "write a mapping"),
    (("hosts",), {"a": 1}, "SCH003", ("hosts",), "hosts is a mapping", "write a list"),
    (("hosts",), None, "SCH003", ("hosts",), "hosts is empty", "write a list"),
    (("hosts", 2), "x", "SCH003", ("hosts", 2), "hosts[2] is a string", "write a mapping"),
    (("hosts", 2, "name"), 17, "SCH003", ("hosts", 2, "name"), "hosts[2].name is an integer", 'quote it: "17"'),
    ((*KEEPALIVED, "preempt"), "on", "SCH003", (*KEEPALIVED, "preempt"), "preempt is a string", "write true or false"),
    ((*KEEPALIVED, "virtualRouterId"), "51", "SCH003", (*KEEPALIVED, "virtualRouterId"), "is a string", "write an integer"),
    ((*KEEPALIVED, "virtualRouterId"), True, "SCH003", (*KEEPALIVED, "virtualRouterId"), "is true or false", "write an integer"),
    ((*KEEPALIVED, "advertInterval"), [1], "SCH003", (*KEEPALIVED, "advertInterval"), "is a list", "seconds such as"),
    (("cluster", "kubernetesVersion"), 1, "SCH003", ("cluster", "kubernetesVersion"), "is an integer", "1.29.3"),
    (("version",), 2, "SCH004", ("version",), "version can't be 2", "one of: 1"),
    (("cluster", "containerRuntime"), "docker", "SCH004", ("cluster", "containerRuntime"), 'can\'t be "docker"', "cri-dockerd"),
    (("hosts", 0, "role"), "master", "SCH004", ("hosts", 0, "role"), 'role can\'t be "master"', "control-plane"),
    (("hosts", 0, "role"), "controlplane", "SCH004", ("hosts", 0, "role"), "controlplane", "did you mean `control-plane`"),
    (CNI, "cilium", "SCH004", CNI, 'cluster.cni can\'t be "cilium"', "flannel, calico, none"),
    (CNI, {"name": "cilium"}, "SCH004", (*CNI, "name"), "cilium", "flannel"),
    (CNI, {"name": "calico", "bgp": "off"}, "SCH004", (*CNI, "bgp"), "bgp", "Enabled, Disabled"),
    (CNI, {"name": "calico", "backend": "vxlan"}, "SCH001", (*CNI, "backend"), "unknown key cluster.cni.backend", "encapsulation"),
    (CNI, {"name": "none", "mtu": 1450}, "SCH001", (*CNI, "mtu"), "unknown key cluster.cni.mtu", "name"),
    (CNI, {}, "SCH002", CNI, "cluster.cni.name is missing", "add `name:`"),
    (CNI, 5, "SCH003", CNI, "cluster.cni is an integer", "write"),
    (
        ("cluster", "kubernetesVersion"),
        "v1.29.3",
        "SCH005",
        ("cluster", "kubernetesVersion"),
        "v1.29.3",
        "a release such as 1.29.3, without v",
    ),
    (("cluster", "podSubnet"), "10.244.0.0", "SCH005", ("cluster", "podSubnet"), "10.244.0.0", "one CIDR such as"),
    (("cluster", "name"), "../x", "SCH005", ("cluster", "name"), "../x", "lower-case letters"),
    (("hosts", 0, "address"), "192.168.1.25", "SCH005", ("hosts", 0, "address"), "192.168.1.25", "an address with prefix"),
    (
        ("hosts", 0, "address"),
        ["10.0.0.1/24", "x"],
        "SCH005",
        ("hosts", 0, "address", 1),
        'address[1] can\'t be "x"',
        "an address with prefix",
    ),
    (("hosts", 0, "address"), 17, "SCH003", ("hosts", 0, "address"), "is an integer", "an address with prefix such as"),
    (("hosts", 0, "address"), [], "SCH006", ("hosts", 0, "address"), "address has 0 entries", "at least 1"),
    (("hosts", 0, "gateway"), "10.0.0.1/24", "SCH005", ("hosts", 0, "gateway"), "10.0.0.1/24", "without prefix"),
    (("hosts",), [], "SCH006", ("hosts",), "hosts has 0 entries", "at least 1 of them"),
    (("hosts", 0, "name"), "", "SCH006", ("hosts", 0, "name"), 'name can\'t be ""', "at least 1 characters"),
    (("loadBalancer", "watcher"), {"fall": 0}, "SCH006", ("loadBalancer", "watcher", "fall"), "fall can't be 0", "at least 1"),
    (
        ("cluster", "apiServer"),
        {"bindPort": 65536},
        "SCH006",
        ("cluster", "apiServer", "bindPort"),
        "bindPort can't be 65536",
        "at most 65535",
    ),
    (("cluster", "scheduler"), {"extraArgs": {"--v": "2"}}, "SCH007", ("cluster", "scheduler", "extraArgs"), "--v", "matches"),
    (("hosts", 0, "labels"), {"-x": "y"}, "SCH007", ("hosts", 0, "labels"), "-x", "matches"),
]


@pytest.mark.parametrize(
    ("path", "value", "code", "at", "message", "remedy"), SAID, ids=lambda v: dotted(v) if isinstance(v, tuple) else ""
)
def test_message(path, value, code, at, message, remedy):
    found = validate.run(changed(path, value))
    assert [(d.code, d.path) for d in found] == [(code, at)], found
    assert message in found[0].message
    assert remedy in found[0].remedy
    assert found[0].severity == "error"


def test_every_code_has_a_message():
    assert {case[2] for case in SAID} == {f"SCH{n:03}" for n in range(1, 8)}


@pytest.mark.parametrize("data", [None, [], "x", 17, True, [{}]])
def test_what_is_no_mapping(data):
    found = validate.run(data)
    assert [(d.code, d.path) for d in found] == [("SCH003", ())]
    assert found[0].message.startswith("the document is")


def test_all_is_found_at_once():
    data = changed(("cluster", "name"), "UPPER")
    data["hosts"][1] = {"name": "x", "role": "master", "adress": "10.0.0.1/24"}
    assert sorted(d.code for d in validate.run(data)) == ["SCH001", "SCH002", "SCH004", "SCH005"]


@pytest.mark.parametrize(
    "password", ["Zq7 canary", ["Zq7canary"], {"secret": "Zq7canary!"}, {"name": "Zq7canary"}, {"secret": ["Zq7canary"]}, 77123977]
)
def test_no_message_shows_a_password(password):
    for path in ((*KEEPALIVED, "authPass"),):
        for d in validate.run(changed(path, password)):
            assert "Zq7" not in repr(d)
            assert "77123977" not in repr(d)


PLAIN_DATA = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=6)
    | st.sampled_from(["calico", "10.0.0.1/24", "1.29.3", "name", "control-plane"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted({n.rpartition(".")[2] for n in ALL})), inner, max_size=4)
    ),
    max_leaves=10,
)


@settings(max_examples=80, derandomize=True, deadline=None, database=None)
@given(
    PLAIN_DATA, st.sampled_from([(), ("cluster",), CNI, ("loadBalancer",), KEEPALIVED, ("hosts",), ("hosts", 0), ("hosts", 0, "address")])
)
def test_run_raises_nothing_and_points_into_the_data(value, path):
    data = changed(path, value) if path else value
    valid = errors(SCHEMA, data) == []
    found = validate.run(data)
    assert (found == []) is valid
    for d in found:
        at = data
        for part in d.path if d.code != "SCH001" else d.path[:-1]:
            at = at[part]


# -- defaults ------------------------------------------------------------------------------------------------------------------------------


def load(path):
    read, found = source.load(path.name, path.read_bytes())
    assert found == []
    return read.data


def shuffled(value, chance):
    if isinstance(value, dict):
        items = [(k, shuffled(v, chance)) for k, v in value.items()]
        chance.shuffle(items)
        return dict(items)
    return [shuffled(v, chance) for v in value] if isinstance(value, list) else value


def test_example_completes():
    data = validate.complete(EXAMPLE)
    assert data["cluster"]["serviceSubnet"] == "10.96.0.0/16", "what is said stays"
    assert data["cluster"]["dnsDomain"] == "cluster.local"
    assert data["cluster"]["cni"] == {
        "name": "flannel",
        "version": "0.28.9",
        "backend": "vxlan",
        "vni": 1,
        "port": 8472,
        "directRouting": False,
    }
    assert data["loadBalancer"]["keepalived"]["check"] == {"interval": 1, "timeout": 2, "fall": 1, "rise": 2}
    assert data["hosts"][0] == EXAMPLE["hosts"][0], "defaults of hosts stay in hostDefaults"
    assert "port" in data["controlPlaneEndpoint"]


def test_complete_leaves_its_argument_alone():
    before = copy.deepcopy(EXAMPLE)
    validate.complete(EXAMPLE)
    assert before == EXAMPLE


def test_engine_is_nginx_unless_said():
    assert validate.complete(changed(("loadBalancer",), {"keepalived": {"virtualRouterId": 1}}))["loadBalancer"]["nginx"]["maxFails"] == 2
    assert "nginx" not in validate.complete(changed(("loadBalancer",), {"keepalived": {"virtualRouterId": 1}, "ipvs": {}}))["loadBalancer"]
    assert "loadBalancer" not in validate.complete(changed(("loadBalancer",), ...))


@pytest.mark.parametrize("path", [ROOT / "inventories" / "example.yaml", *VALID[::7]], ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_complete_is_idempotent_valid_and_blind_to_order(path):
    data = load(path)
    once = validate.complete(data)
    assert validate.run(once) == []
    assert json.dumps(validate.complete(once)) == json.dumps(once)
    assert json.dumps(validate.complete(shuffled(data, random.Random(7)))) == json.dumps(once)


def test_every_default_is_written_out():
    """Each default of the schema stands in the completed data where its mapping is there."""
    data = validate.complete({**copy.deepcopy(EXAMPLE), "loadBalancer": {"keepalived": {"virtualRouterId": 1}}})
    data["loadBalancer"]["ipvs"] = validate.complete(
        {**copy.deepcopy(EXAMPLE), "loadBalancer": {"keepalived": {"virtualRouterId": 1}, "ipvs": {}}}
    )["loadBalancer"]["ipvs"]

    def check(node, value, path):
        for name, child in node.get("properties", {}).items():
            full = resolved(child)
            if "default" in full:
                assert name in value, dotted((*path, name))
                if isinstance(full["default"], SCALARS) and name not in (
                    "podSubnet",
                    "serviceSubnet",
                    "imageRepository",
                    "containerRuntime",
                    "cni",
                ):
                    assert value[name] == full["default"], dotted((*path, name))
            if isinstance(value.get(name), dict):
                check(full, value[name], (*path, name))

    check(SCHEMA, data, ())


@pytest.mark.parametrize(("name", "branch"), [("flannel", "flannel"), ("calico", "calico"), ("none", "noCni")])
def test_short_form_of_cni(name, branch):
    short = validate.complete(changed(CNI, name))["cluster"]["cni"]
    assert short == validate.complete(changed(CNI, {"name": name}))["cluster"]["cni"]
    defaults = {k: v["default"] for k, v in SCHEMA["$defs"][branch]["properties"].items() if "default" in v}
    assert short == {"name": name, **defaults}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("loadBalancer", "nginx", "failTimeout"), "1500ms"),
        (("loadBalancer", "nginx", "tcpKeepalive"), "0s:0s:0"),
        (("loadBalancer", "nginx", "tcpKeepalive"), "60s:10s:0"),
        (("cluster", "timeouts", "controlPlane"), "0s"),
        (("cluster", "certificateValidityPeriod"), "0h"),
    ],
)
def test_what_the_programs_refuse_is_refused(path, value):
    """nginx wants whole seconds and a keepalive of more than nothing; kubeadm would give up at once."""
    data = copy.deepcopy(EXAMPLE)
    place = data
    for part in path[:-1]:
        place = place.setdefault(part, {})
    place[path[-1]] = value
    assert [(d.code, d.path) for d in validate.run(data)] == [("SCH005", path)]
