"""What holds for every inventory: whatever the check accepts compiles, the real programs take it, and no text breaks out of its place."""

from __future__ import annotations

import copy
import ipaddress
import json
import random
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubeadm_schema
import pytest
import strategies
from conftest import GOLDENS, REPOSITORY, checked, missing, needs
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from laid_host import LaidHost

from generator import artifacts, compiler, emit, quoting, resources
from generator.artifacts import scripts as scripts_artifact

PURE = settings(max_examples=100, derandomize=True, deadline=None)
# Without shrinking, which would start programs for minutes.
REAL = settings(max_examples=25, derandomize=True, deadline=None, phases=[Phase.generate])
# What differs when anything in the inventory does.
ALWAYS = {"inventory.lock.yaml", "manifest.json", "SHA256SUMS", "README.md"}


def check(data: dict[str, Any]) -> compiler.Checked:
    return compiler.check("inventory.yaml", emit.yaml(data).encode())


def errors(result: compiler.Checked) -> list[str]:
    return [f"{d.code}: {d.message}" for d in result.diagnostics if d.severity == "error"]


def plan(result: compiler.Checked) -> dict[str, str]:
    """Every planned file by its path, with how it is laid."""
    return {
        f"{folder}/{file.path}".removeprefix(
            "/"
        ): f"{file.destination} {file.mode:o} {file.owner} {file.step} {file.executable}\n{file.text}"
        for folder, files in artifacts.plan(result.cluster)
        for file in files
    }


# -- every inventory --------------------------------------------------------------------------------------------------------------


@PURE
@given(strategies.inventories())
def test_what_is_accepted_compiles_into_readable_files(data):
    result = check(data)
    assert errors(result) == [], "the strategy draws what the rules accept: one of the two is wrong"
    cluster = result.cluster
    folders = dict(artifacts.plan(cluster))
    for host in cluster.hosts:
        for file in folders[f"hosts/{host.name}"]:
            readable(file, cluster, host)
        wanted = scripts_artifact.environment(cluster, host)
        lines = emit.environment(wanted).splitlines()
        assert dict(shlex.split(line)[0].split("=", 1) for line in lines) == wanted


def readable(file: artifacts.File, cluster: Any, host: Any) -> None:
    """The syntax of one file, by a reader that isn't ours."""
    name, text = file.path, file.text
    assert not file.destination or file.mode & 0o022 == 0, f"{name}: others could write it"
    assert text == "" or text.endswith("\n"), name
    if name in ("kubeadm/init.yaml", "kubeadm/join.yaml"):
        assert kubeadm_schema.complaints(text, cluster.minor) == [], host.name
    elif name.endswith((".yaml", ".yml")):
        kubeadm_schema.documents(text)
    elif name.endswith(".json"):
        json.loads(text)
    elif name.endswith(".toml") or "crio.conf.d" in name:
        tomllib.loads(text)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A function that compiles a cluster into a new folder and lays the named host."""

    def lay(cluster: Any, name: str) -> LaidHost:
        root = tmp_path_factory.mktemp("drawn")
        bundle = compiler.compile_to(root / "out", cluster, {}).path
        return LaidHost(bundle / "hosts" / name, root / "laid")

    return lay


@pytest.mark.needs("nginx", "keepalived", "root")
@REAL
@given(strategies.inventories())
def test_nginx_and_keepalived_take_what_is_accepted(fresh, data):
    result = check(data)
    assert errors(result) == []
    for host in result.cluster.load_balancers[:1]:
        laid = fresh(result.cluster, host.name)
        if result.cluster.nginx:
            ran = laid.test_nginx()
            assert ran.returncode == 0, ran.stdout
            assert not re.search(r"\[(warn|alert|crit|emerg)\]", ran.stdout), ran.stdout
        ran = laid.test_keepalived()
        assert (ran.returncode, ran.stdout) == (0, "")


@settings(max_examples=30, derandomize=True, deadline=None)
@given(strategies.inventories(), st.randoms(use_true_random=False))
def test_the_order_of_keys_makes_no_difference(data, rng):
    assert plan(check(shuffled(data, rng))) == plan(check(data))


def shuffled(data: Any, rng: random.Random) -> Any:
    """Mappings in another order, lists as they are."""
    if isinstance(data, dict):
        keys = list(data)
        rng.shuffle(keys)
        return {key: shuffled(data[key], rng) for key in keys}
    return [shuffled(item, rng) for item in data] if isinstance(data, list) else data


@settings(max_examples=30, derandomize=True, deadline=None)
@given(strategies.inventories())
def test_the_lock_gives_the_same_hosts(data):
    first = plan(check(data))
    lock = first["inventory.lock.yaml"].split("\n", 1)[1]
    result = compiler.check("inventory.lock.yaml", lock.encode())
    assert errors(result) == []
    second = plan(result)
    assert second == first, "the lock of a lock is the lock"


def test_the_lock_of_a_golden_gives_the_same_hosts(bundle):
    result = compiler.check("inventory.lock.yaml", (bundle.path / "inventory.lock.yaml").read_bytes())
    assert errors(result) == []
    assert plan(result) == plan(checked(bundle.golden))


# -- every leaf -------------------------------------------------------------------------------------------------------------------

SCHEMA = json.loads((REPOSITORY / "schema/inventory.v1.schema.json").read_text())

# Keys of the schema that no golden can change, with the reason.
UNCHANGEABLE = {
    "version": "there is one version",
    "cluster.cni.name": "changing it makes the other keys of the mapping unknown; test_matrix has all three",
    "cluster.bootstrapToken.trip": "SEC006 compares it with the life of the token, and the runbook says it; no host needs to know",
}

Path_ = tuple[Any, ...]


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in node:
        return resolved(SCHEMA["$defs"][node["$ref"].removeprefix("#/$defs/")]) | {k: v for k, v in node.items() if k != "$ref"}
    return node


def schema_leaves(node: dict[str, Any], where: str = "") -> Iterator[str]:
    """Every leaf key of the schema; ``[]`` is an entry of a list, ``*`` a key that the inventory chooses."""
    node = resolved(node)
    branches = [resolved(branch) for branch in node.get("oneOf", [])]
    objects = [branch for branch in branches if branch.get("type") == "object"]
    if objects:
        for branch in objects:
            yield from schema_leaves(branch, where)
        return
    if branches:  # one or a list of them: the scalar stands for both
        yield where
    elif "properties" in node:
        for name, child in node["properties"].items():
            yield from schema_leaves(child, f"{where}.{name}".removeprefix("."))
    elif isinstance(node.get("additionalProperties"), dict):
        yield from schema_leaves(node["additionalProperties"], f"{where}.*")
    elif node.get("type") == "array" and "items" in node:
        yield from schema_leaves(node["items"], f"{where}[]")
    else:
        yield where


def leaves(data: Any, path: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    if isinstance(data, dict) and data:
        for key, value in data.items():
            yield from leaves(value, (*path, key))
    elif isinstance(data, list) and data:
        for index, value in enumerate(data):
            yield from leaves(value, (*path, index))
    else:
        yield path, data


def described(path: Path_, data: Any) -> tuple[str, dict[str, Any]]:
    """The name that :func:`schema_leaves` has for *path*, and its schema node."""
    node, where = SCHEMA, ""
    value: Any = data
    for part in path:
        node = resolved(node)
        if "oneOf" in node:
            node = branch_for(node, value)
        value = value[part]
        if isinstance(part, int):
            # Addresses and gateways are one or a list of two: the same leaf.
            where = where if "oneOf" in node.get("_parent", {}) else f"{where}[]"
            node = resolved(node["items"])
        elif part in node.get("properties", {}):
            node, where = resolved(node["properties"][part]), f"{where}.{part}".removeprefix(".")
        else:
            node, where = resolved(node["additionalProperties"]), f"{where}.*"
    if "oneOf" in node and not isinstance(value, dict):
        node = {**branch_for(node, value), "examples": node.get("examples", [])}
    return where, node


def branch_for(node: dict[str, Any], value: Any) -> dict[str, Any]:
    """The branch of a oneOf that *value* is of."""
    for branch in map(resolved, node["oneOf"]):
        if isinstance(value, dict):
            if branch.get("type") == "object" and branch["properties"].get("name", {}).get("const") in (value.get("name"), None):
                return branch
        elif isinstance(value, list):
            if branch.get("type") == "array":
                return {**branch, "_parent": node}
        elif branch.get("type", "string") == "string":
            return branch
    raise AssertionError(f"no branch for {value!r}")


def others(value: Any, node: dict[str, Any]) -> Iterator[Any]:
    """Other values for a leaf: of the schema's enum and examples, the reverse, one more, one less, another address or text."""
    yield from (item for item in node.get("enum", ()) if item != value)
    yield from (item for item in node.get("examples", ()) if item != value and type(item) is type(value))
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value + 1, value - 1)
    elif isinstance(value, str):
        yield from other_texts(value)


def other_texts(value: str) -> Iterator[str]:
    try:
        one = ipaddress.ip_interface(value.partition(",")[0])
    except ValueError:
        pass
    else:
        prefix = f"/{one.network.prefixlen}" if "/" in value else ""
        step = one.network.num_addresses if one.ip == one.network.network_address and prefix else 60
        yield ",".join([f"{one.ip + step}{prefix}", *value.split(",")[1:]])
    for match in re.finditer(r"[0-9]+", value):
        yield f"{value[: match.start()]}{int(match[0]) + 1}{value[match.end() :]}"
        yield f"{value[: match.start()]}{max(int(match[0]) - 1, 0)}{value[match.end() :]}"
    yield f"{value}a"
    yield f"a{value}"
    yield f"{value[:-1]}0" if value.endswith("f") else f"{value[:-1]}f"


def replaced(data: Any, path: Path_, value: Any) -> Any:
    copied = copy.deepcopy(data)
    place = copied
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    return copied


def signature(result: compiler.Checked) -> list[tuple[str, str]]:
    return [(d.code, d.message) for d in result.diagnostics]


def everything(golden: Any) -> dict[str, Any]:
    """The golden's data; with dual stack, on Calico, whose IPv6 settings no golden has."""
    data = copy.deepcopy(checked(golden).source.data)
    if golden.name == "dual-stack":
        data["cluster"]["cni"] = {"name": "calico", "blockSizeIPv6": 120}
    return data


@cache
def base(golden: Any) -> tuple[list[tuple[str, str]], dict[str, str]]:
    result = check(everything(golden))
    assert errors(result) == []
    return signature(result), {path: text for path, text in plan(result).items() if path not in ALWAYS}


def outcome(golden: Any, path: Path_, value: Any) -> str:
    """What changing one leaf does: ``refused`` by the schema, ``finding``, ``file``, or ``nothing``."""
    found, files = base(golden)
    result = check(replaced(everything(golden), path, value))
    if result.cluster is None:
        return "refused"
    if not any(d.severity == "error" for d in result.diagnostics):
        changed = {name: text for name, text in plan(result).items() if name not in ALWAYS}
        if changed != files:
            return "file"
    return "finding" if signature(result) != found else "nothing"


def test_every_leaf_changes_something(golden):
    """A key that changes no file and no finding is a promise that nobody keeps."""
    data = everything(golden)
    dead = {}
    for path, value in leaves(data):
        name, node = described(path, data)
        if name in UNCHANGEABLE:
            continue
        seen: dict[str, Any] = {}
        for other in others(value, node):
            seen.setdefault(outcome(golden, path, other), other)
            if "file" in seen or "nothing" in seen:
                break
        if "nothing" in seen:
            dead[".".join(map(str, path))] = f"{value!r} -> {seen['nothing']!r} changes nothing"
        elif not {"file", "finding"} & seen.keys():
            dead[".".join(map(str, path))] = f"no other valid value found for {value!r}: {seen}"
    assert not dead


def test_the_goldens_cover_every_key_of_the_schema():
    wanted = set(schema_leaves(SCHEMA))
    covered = {described(path, everything(golden))[0] for golden in GOLDENS for path, _ in leaves(everything(golden))}
    uncovered = wanted - covered - UNCHANGEABLE.keys()
    assert len(wanted) > 150
    assert not uncovered, f"no golden has {sorted(uncovered)}: add them to one, or to everything()"
    # What is no leaf of the schema is an empty mapping or list, or the short form of one.
    assert not {name for name in covered - wanted if not any(leaf.startswith((f"{name}.", f"{name}[]")) for leaf in wanted)}, (
        "the two walks disagree"
    )


# -- hostile text through the schema ----------------------------------------------------------------------------------------------

# Dots and slashes are what networks and domains are made of, and the value goes into NO_PROXY alone.
HARMLESS = {("hostDefaults.proxy.noProxy[]", "../../a"), ("hosts[].proxy.noProxy[]", "../../a")}
BREAKERS = ("'; rm -rf /", "$(id)", "a\nb", "a\tb", "../../a", "{{ 7*7 }}", "\u2028", "")
# Behind a value that is right, so that a pattern with an open end is seen.
TAILS = ("'; rm -rf /", "$(id)", '"', "\\", "}", " #", ";")


def texts(golden: Any) -> list[tuple[Path_, str]]:
    return [(path, value) for path, value in leaves(everything(golden)) if isinstance(value, str)]


@pytest.mark.parametrize("name", ["example", "every-key", "calico-crio", "dual-stack", "ipvs"])
def test_hostile_text_is_refused_or_stays_text(name):
    """
    Every text of an inventory is replaced by what would break out of a shell, nginx, keepalived, YAML or path.

    Only the flags of components take any text, so only there may it be accepted; and then it is a value of kubeadm's file, whole.
    """
    golden = next(golden for golden in GOLDENS if golden.name == name)
    data = everything(golden)
    files = base(golden)[1]
    accepted = set()
    seen: set[str] = set()
    for path, value in texts(golden):
        key = described(path, data)[0]
        if key in seen:
            continue
        seen.add(key)
        for hostile in (*BREAKERS, *(f"{value}{tail}" for tail in TAILS)):
            result = check(replaced(data, path, hostile))
            if result.refused() or (key, hostile) in HARMLESS:
                continue
            accepted.add((key, hostile))
            made = {other: text for other, text in plan(result).items() if other not in ALWAYS}
            assert made.keys() == files.keys(), (key, hostile)
            for other, text in made.items():
                if text != files[other]:
                    assert other.endswith(("kubeadm/init.yaml", "kubeadm/join.yaml", "kubekey/config.yaml")) or hostile == "", (
                        f"{key} {hostile!r} reached {other}"
                    )
                if other.endswith((".yaml",)):
                    documents = kubeadm_schema.documents(text.split("\n", 1)[1])
                    # A value by itself, or after its name: KubeKey's arguments, the kubelet's labels.
                    assert (
                        text == files[other]
                        or not hostile
                        or any(str(scalar) == hostile or str(scalar).endswith(f"={hostile}") for scalar in scalars(documents))
                    ), (key, hostile, other)
        # A final line break, which a pattern's $ lets through.
        assert check(replaced(data, path, f"{value}\n")).refused(), f"{key}: {value!r} and a line break"
    free = {key for key, hostile in accepted if hostile}
    assert free <= {key for key in seen if re.search(r"([aA]rgs|Args)\.\*$", key)}, free


def scalars(data: Any) -> Iterator[Any]:
    for _, value in leaves(data):
        yield value


@PURE
@given(st.dictionaries(st.sampled_from(["v", "audit-log-path", "event-ttl"]), strategies.FLAG_VALUE, min_size=1, max_size=3))
def test_any_flag_value_arrives_whole(values):
    for minor in (30, 34):
        result = check(strategies.inventory(minor=minor, apiServer={"extraArgs": values}))
        if result.refused():
            # Nothing but what cannot be seen or said is refused.
            assert {d.code for d in result.diagnostics if d.severity == "error"} <= {"SRC003", "SRC007", "KUB011"}
            continue
        text = plan(result)["hosts/h0/kubeadm/init.yaml"].split("\n", 1)[1]
        configuration = next(d for d in kubeadm_schema.documents(text) if d["kind"] == "ClusterConfiguration")
        found = configuration["apiServer"]["extraArgs"]
        found = {item["name"]: item["value"] for item in found} if isinstance(found, list) else found
        wanted = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in values.items()}
        assert {name: found[name] for name in wanted} == wanted


# -- hostile text and each quoting function ---------------------------------------------------------------------------------------

CONTROL = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029]")
WORDS = [
    *strategies.HOSTILE,
    "a b",
    "a'b",
    'a"b',
    "a\\",
    "\\'",
    "'\"'\"'",
    "a;b",
    "a{b}",
    "a\\nb",
    "-n",
    "*",
    "?",
    "[a]",
    "~root",
    "a=b",
    "a:b",
    "$'x'",
    "${a:-b}",
    "<(id)",
    "𝕏",
]


def quoted(function: Any, words: list[str]) -> dict[str, str]:
    """What *function* makes of each word that it takes."""
    made = {}
    for word in words:
        try:
            made[word] = function(word)
        except ValueError:
            continue
    return made


@pytest.mark.parametrize("function", [quoting.shell, quoting.shell_word], ids=lambda f: f.__name__)
@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_shell_words_come_back_from_a_shell(function, shell):
    needs(shell)
    words = quoted(function, WORDS)
    assert words.keys() == set(WORDS), "a shell can hold any line"
    script = "".join(f"printf '%s\\0' {word}\n" for word in words.values())
    result = subprocess.run([shell, "-c", script], capture_output=True, check=True, cwd="/")
    assert result.stdout.decode().split("\0")[:-1] == list(words)


@PURE
@given(st.text(max_size=30))
def test_shell_words_come_back_from_a_parser(word):
    for function in (quoting.shell, quoting.shell_word):
        if CONTROL.search(word):
            with pytest.raises(ValueError, match="control character"):
                function(word)
        else:
            assert shlex.split(function(word)) == [word]


@pytest.mark.parametrize("character", ["\0", "\n", "\r", "\t", "\x1b", "\x7f", "\x85", "\u2028", "\u2029"], ids=ascii)
@pytest.mark.parametrize("name", ["shell", "shell_word", "nginx", "keepalived", "systemd", "toml", "line", "markdown"])
def test_no_syntax_takes_a_control_character(name, character):
    for word in (character, f"a{character}", f"{character}a", f"a{character}b"):
        with pytest.raises(ValueError, match="control character U"):
            getattr(quoting, name)(word)


NGINX_ANSWERS = r"""
import json, socket, subprocess, sys, time
number = int(sys.argv[1])
nginx = subprocess.Popen(["nginx", "-c", "/etc/nginx/words.conf", "-g", "daemon off;"])
said = []
for port in range(20000, 20000 + number):
    for _ in range(100):
        try:
            client = socket.create_connection(("127.0.0.1", port), timeout=5)
            break
        except OSError:
            time.sleep(0.05)
    with client:
        data = b""
        while chunk := client.recv(1000):
            data += chunk
    said.append(data.decode())
nginx.terminate()
nginx.wait(10)
print("RESULT " + json.dumps(said))
"""


@pytest.mark.needs("nginx", "root")
def test_nginx_parameters_come_back_from_nginx(all_bundles, tmp_path):
    """A server a word that answers with it: what nginx read is what was meant."""
    import sys

    with pytest.raises(ValueError, match="dollar"):
        quoting.nginx("$a")
    words = {word: text for word, text in quoted(quoting.nginx, WORDS).items() if word}
    assert {word for word in WORDS if "$" not in word and word} == words.keys()
    host = LaidHost(all_bundles(GOLDENS[0]).host("master-1"), tmp_path / "root")
    module = host.text("/etc/nginx/nginx.conf").split("load_module ", 1)[1].split(";", 1)[0]
    servers = "".join(f"server {{ listen 127.0.0.1:{20000 + number}; return {text}; }}\n" for number, text in enumerate(words.values()))
    host.put("/etc/nginx/words.conf", f"load_module {module};\nuser nginx;\npid /run/words.pid;\nevents {{}}\nstream {{\n{servers}}}\n")
    host.put("/answers.py", NGINX_ANSWERS)
    result = host.run(sys.executable, str(host.path("/answers.py")), str(len(words)))
    lines = [line for line in result.stdout.splitlines() if line.startswith("RESULT ")]
    assert lines, result.stdout
    assert json.loads(lines[0].removeprefix("RESULT ")) == list(words)


@pytest.mark.needs("keepalived", "root")
def test_keepalived_words_are_one_word_to_keepalived(all_bundles, tmp_path):
    """What isn't refused is taken by keepalived as one word, whatever it is; and what is refused would not have been."""
    words = quoted(quoting.keepalived, WORDS)
    for word in WORDS:
        assert (word in words) is not bool(re.search(r"""[$~!#"\\{}@]""", word)), word
    host = LaidHost(all_bundles(GOLDENS[0]).host("master-1"), tmp_path / "root")
    plain = host.text("/etc/keepalived/keepalived.conf")
    tested = []
    for number, text in enumerate(text for word, text in words.items() if word):
        path = f"/etc/keepalived/word-{number}.conf"
        host.put(path, plain.replace("router_id master-1", f"router_id {text}"))
        tested.append(path)
    script = "".join(f"keepalived -t -f {path} || echo {path} $?\n" for path in tested)
    assert host.sh(script).stdout == ""
    # What it would do with the others: a comment to the line's end, a block that ends too early.
    host.put("/etc/keepalived/bad.conf", plain.replace("router_id master-1", "router_id a}"))
    assert host.sh("keepalived -t -f /etc/keepalived/bad.conf").returncode != 0


def unescaped(text: str) -> str:
    """systemd.syntax(7) between double quotes: C escapes; then specifiers."""
    return re.sub(r"\\(.)", r"\1", text).replace("%%", "%")


@pytest.mark.parametrize("word", WORDS)
def test_systemd_values_stay_between_their_quotes(word):
    if "$" in word:
        with pytest.raises(ValueError, match="dollar sign"):
            quoting.systemd(word)
        return
    text = quoting.systemd(word)
    assert re.fullmatch(r'([^"\\%$]|\\["\\]|%%)*', text), "nothing is left that would end the value or be expanded"
    assert unescaped(text) == word


@PURE
@given(st.text(max_size=30))
def test_toml_strings_come_back(word):
    if CONTROL.search(word):
        with pytest.raises(ValueError, match="control character"):
            quoting.toml(word)
    else:
        assert tomllib.loads(f"a = {quoting.toml(word)}") == {"a": word}


def test_lines_and_markdown():
    for word in WORDS:
        if "#" in word:
            with pytest.raises(ValueError, match="hash"):
                quoting.line(word)
        else:
            assert quoting.line(word) == word
        assert re.sub(r"\\([\\`*_\[\]<>|])", r"\1", quoting.markdown(word)) == word
        assert not re.search(r"(?<!\\)(\\\\)*[`*_\[\]<>|]", quoting.markdown(word).replace("\\\\", "")) or re.fullmatch(
            r"(\\.|[^`*_\[\]<>|\\])*", quoting.markdown(word)
        )


def test_the_strategies_reach_what_they_should():
    """Among the drawn inventories are all roles, runtimes, networks, families and engines; or the properties above say little."""
    seen: set[str] = set()

    @settings(max_examples=200, derandomize=True, deadline=None, database=None)
    @given(strategies.inventories())
    def look(data):
        seen.update(host["role"] for host in data["hosts"])
        seen.update(host["os"] for host in data["hosts"] if "os" in host)
        cni = data["cluster"]["cni"]
        seen.update(
            [
                data["cluster"]["containerRuntime"],
                cni if isinstance(cni, str) else cni["name"],
                data["cluster"]["kubeProxy"]["mode"],
                data["hostDefaults"]["os"],
            ]
        )
        seen.add(f"1.{data['cluster']['kubernetesVersion'].split('.')[1]}")
        seen.add("families " + "".join(str(ipaddress.ip_network(part).version) for part in data["cluster"]["podSubnet"].split(",")))
        balancer = data.get("loadBalancer", {})
        seen.update(balancer)
        seen.add(f"vrrp {balancer.get('keepalived', {}).get('vrrpVersion', 3)}")

    look()
    wanted = {
        "control-plane",
        "worker",
        "load-balancer",
        *strategies.RUNTIMES,
        "flannel",
        "calico",
        "none",
        "iptables",
        "ipvs",
        "nftables",
        *strategies.SYSTEMS,
    }
    wanted |= {f"1.{minor}" for minor in strategies.MINORS} | {
        "families 4",
        "families 6",
        "families 46",
        "families 64",
        "nginx",
        "vrrp 2",
        "vrrp 3",
    }
    assert wanted <= seen, wanted - seen


def test_nothing_here_reads_the_templates_by_hand():
    """The words above reach real programs through the same functions as the templates do."""
    assert "environment.filters[name] = _quoted(getattr(quoting, name))" in Path(REPOSITORY / "generator/render.py").read_text()
    assert resources.text("templates/nginx/nginx.conf.j2")
    assert missing() == ""
