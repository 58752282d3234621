"""What ``generator.emit`` writes is read back equal by YAML 1.2, YAML 1.1 and Kubernetes' own reader, by shells, by JSON readers."""

from __future__ import annotations

import json
import re
import subprocess
from io import StringIO
from typing import Any

import pytest
import yaml as pyyaml
from conftest import needs
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from generator import emit

WORDS = """
y Y n N yes Yes YES no No NO on On ON off Off OFF true True TRUE false False FALSE null Null NULL ~ nil Nil none None
0 1 -1 +1 007 0755 0o755 0x1F 0b101 1_000 1. .5 1.5 1e3 1E-3 -0.0 +.5e2 .inf -.inf +.INF .nan .NaN NaN Infinity inf nan
10:20 1:30:00 190:20:30 192.168.1.1 fd00::1 ::1 ::
2024-01-01 2024-01-01T00:00:00Z 2001-12-14t21:59:43.10-05:00 << = ! !! !!str & &a * *a | > |- >+ - -- --- ... ? : , [ ] { } # % @ `
"""
MARKS = "a:b|a: b|a :b|a #b|a# b|#a|- a|-a|? a|?a|: a|:a|[a]|{a}|[a|{a: b}|a]|a,b|%a|@a|`a|!a|&a|*a|'|''|\"|'a'|\"a\"|it's|say \"a\"|a\\b|\\|\\n|\\x41"

# Strings that one reader or another takes for something else.
HOSTILE = [
    *WORDS.split(),
    *MARKS.split("|"),
    "", " ", "  ", " a", "a ", "a  b", "\t", "a\tb", "\ta", "a\n", "\n", "\n\n", "\na", "a\nb", "a\nb\n", "a\nb\n\n", " a\nb\n", "a\n b\n", "a \nb\n",
    "a\n\nb\n", "a\n\n\nb\n", "a\r\n", "a\rb", "a\n\tb\n", "\ta\nb\n", "# a\nb\n", "---\na\n", "...\na\n", "a: b\nc: d\n", "- a\n- b\n", "%YAML 1.1\n", "a\n# b\n",
    "\x00", "\x01", "\x07", "\x1b[0m", "\x7f", "\x85", "\xa0", "\u2028", "\u2029", "\ufeff", "\ufeffa", "a\ufeff", "\ufffd", "\ufffe", "\x80", "a\x85b", "a\u2028b\n",
    "ä", "日本", "😀", "e\u0301", "\u200b", "\u202e", "\U0010ffff", "\ud7ff", "$(id)", "`id`", "${HOME}", "'; rm -rf /", "{{ a }}", "{% a %}", "%s", "&&", "||", ";",
    "a" * 5000, "a " * 500, "x" * 200 + " " + "y" * 200,
]  # fmt: skip

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=30) | st.text(
    st.sampled_from("ab01 \t\n-:#'\"\\|>{}[],&*!%@`~.$_yon"), max_size=12
)
DATA = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def modern(text: str) -> Any:
    """YAML 1.2, pure, duplicate keys refused."""
    return YAML(typ="safe", pure=True).load(text)


def goyaml(text: str) -> str:
    """
    What Kubernetes' reader takes the plain scalar *text* for: str, bool, null, int, float, merge or time.

    By ``kubernetes-sigs/yaml`` ``goyaml.v2/resolve.go``: a table of words; numbers by Go's base 0 parsing without underscores; no base 60.
    """
    words = {"": "null", "~": "null", "null": "null", "Null": "null", "NULL": "null", "<<": "merge"}
    for word in ("y", "yes", "on", "true", "n", "no", "off", "false"):
        words |= {word: "bool", word.capitalize(): "bool", word.upper(): "bool"}
    for word in (".nan", ".NaN", ".NAN", *(f"{sign}{inf}" for sign in ("", "+", "-") for inf in (".inf", ".Inf", ".INF"))):
        words[word] = "float"
    if text in words:
        return words[text]
    plain = text.replace("_", "")
    if re.fullmatch(r"[-+]?(0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]*|[1-9][0-9]*)", plain):
        return "int"
    if re.fullmatch(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", plain):
        return "float"
    if re.fullmatch(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ].*)?", text):
        return "time"
    return "str"


def plain_scalars(text: str) -> list[str]:
    """Every scalar of *text* that stands neither quoted nor in a block."""
    return [event.value for event in pyyaml.parse(StringIO(text)) if isinstance(event, pyyaml.ScalarEvent) and event.style is None]


def leaves(data: Any) -> list[Any]:
    """Keys and values of *data* in order."""
    if isinstance(data, dict):
        return [leaf for key, value in data.items() for leaf in (key, *leaves(value))]
    if isinstance(data, list):
        return [leaf for item in data for leaf in leaves(item)]
    return [data]


def kind(value: Any) -> str:
    return {type(None): "null", bool: "bool", int: "int", str: "str"}[type(value)]


def agree(data: Any) -> None:
    """Every reader makes *data* of what is emitted for it."""
    text = emit.yaml(data)
    assert modern(text) == data, text
    assert pyyaml.safe_load(text) == data, text
    assert _types(modern(text)) == _types(data), "true is not 1"
    plain = plain_scalars(text)
    wanted = [leaf for leaf in leaves(data) if not isinstance(leaf, list | dict)]
    for scalar in plain:  # one of the leaves, and Go reads the type that the leaf has
        assert goyaml(scalar) in _kinds(wanted, scalar), (scalar, text)
    assert text.endswith("\n")
    assert not re.search(r"[ \t]$", text, re.MULTILINE), "blanks at a line's end"


def _kinds(wanted: list[Any], scalar: str) -> set[str]:
    """Types of the leaves that would be written as *scalar*."""
    return {kind(leaf) for leaf in wanted if emit.yaml(leaf).strip() == scalar}


def _types(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _types(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_types(item) for item in data]
    return type(data).__name__


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text)[:30])
def test_a_hostile_string_comes_back(text):
    agree(text)
    agree([text])
    agree({"a": text})
    agree({"a": {"b": [text, {"c": text}]}})
    if len(text) < 1000:  # YAML's own limit for a key is 1024
        agree({text: "a"})
        agree({"a": {text: [text]}})


@settings(max_examples=300, derandomize=True, deadline=None)
@given(DATA)
def test_any_data_comes_back(data):
    agree(data)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.text(st.sampled_from("ab \n\t-#:|"), max_size=20))
def test_any_text_of_lines_comes_back(text):
    agree({"a": text, "b": [text, {"c": text}]})


@pytest.mark.parametrize("text", [item for item in HOSTILE if goyaml(item) != "str"], ids=ascii)
def test_what_kubernetes_would_misread_is_quoted(text):
    assert plain_scalars(emit.yaml({"a": text})) == ["a"]


def test_readable_text_stays_plain():
    for text in ("a", "a/b", "registry.k8s.io/pause", "kube-apiserver", "a b", "/etc/kubernetes", "_a", "a@b"):
        assert emit.yaml({"k": text}) == f"k: {text}\n"


def test_lines_become_a_block():
    assert emit.yaml({"k": "a\nb\n", "l": [1]}) == "k: |\n  a\n  b\nl:\n- 1\n"
    assert emit.yaml({"k": {"l": "a\n\nb\n"}}) == "k:\n  l: |\n    a\n\n    b\n"
    assert emit.yaml(["a\nb\n"]) == "- |\n  a\n  b\n"
    # These would not come back from a plain literal block.
    for text in (" a\nb\n", "a\nb", "a\nb\n\n", "a \nb\n", "\na\n", "a\tb\n", "a\r\nb\n"):
        assert "|" not in emit.yaml({"k": text}), text


def test_order_is_kept_and_nothing_is_shared():
    shared = {"z": 1, "a": [1]}
    text = emit.yaml({"second": shared, "first": shared, "empty": {}, "nothing": None, "list": []})
    assert list(modern(text)) == ["second", "first", "empty", "nothing", "list"]
    assert text == "second:\n  z: 1\n  a:\n  - 1\nfirst:\n  z: 1\n  a:\n  - 1\nempty: {}\nnothing: null\nlist: []\n"


@pytest.mark.parametrize("data", [1.5, b"a", {1, 2}, 1j, {"a": 1.5}, [b"a"]], ids=repr)
def test_anything_else_is_an_error(data):
    with pytest.raises(TypeError):
        emit.yaml(data)


def test_documents():
    text = emit.yaml_documents([{"a": "---\n"}, ["b"], "c"])
    assert list(YAML(typ="safe", pure=True).load_all(text)) == [{"a": "---\n"}, ["b"], "c"]
    assert text.startswith("---\n")


def test_every_golden_file_means_the_same_to_every_reader(bundle):
    """Of all YAML files that a bundle holds: both dialects and Go read the same."""
    files = sorted({path.read_text(): path for path in bundle.path.rglob("*.yaml")}.values())
    assert files
    for path in files:
        text = path.read_text()
        documents = list(YAML(typ="safe", pure=True).load_all(text))
        assert documents == list(pyyaml.safe_load_all(text)), path
        strings = {leaf for leaf in leaves(documents) if isinstance(leaf, str)}
        others = {emit.yaml(leaf).strip() for leaf in leaves(documents) if not isinstance(leaf, str)}
        for scalar in plain_scalars(text):
            assert goyaml(scalar) == "str" or scalar in others, f"{path}: {scalar} is a string to one reader, and {goyaml(scalar)} to Go"
            assert goyaml(scalar) != "str" or scalar in strings, f"{path}: {scalar}"


# -- the other syntaxes -----------------------------------------------------------------------------------------------------------


@settings(max_examples=100, derandomize=True, deadline=None)
@given(DATA)
def test_json(data):
    assert json.loads(emit.compact_json(data)) == data
    assert json.loads(emit.indented_json(data)) == data
    assert "\n" not in emit.compact_json(data)


SHELL_TEXT = [text for text in HOSTILE if not re.search("[\x00-\x1f\x7f\x85\u2028\u2029]", text)]


@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_environment_is_read_back_by_shells(shell, tmp_path):
    needs(shell)
    values = {f"V{number}": text for number, text in enumerate(SHELL_TEXT)}
    path = tmp_path / "host.env"
    path.write_text(emit.environment(values))
    script = 'set -eu; . "$1"; ' + "; ".join(f'printf "%s\\0" "$V{number}"' for number in range(len(values)))
    result = subprocess.run([shell, "-c", script, shell, str(path)], capture_output=True, check=True)
    assert result.stderr == b""
    assert result.stdout.decode().split("\0")[:-1] == SHELL_TEXT


@pytest.mark.parametrize("text", ["a\nb", "\0", "a\r", "\x1b", "\x85", "\u2028"], ids=ascii)
def test_environment_refuses_what_ends_a_line(text):
    with pytest.raises(ValueError, match="control character"):
        emit.environment({"A": text})


def test_tsv():
    assert emit.tsv("a\tb", [("1", "x y"), ("2", "'")]) == "#a\tb\n1\tx y\n2\t'\n"
    for bad in ("", "a\tb", "a\nb", "a\r"):
        with pytest.raises(ValueError, match="a row can't hold"):
            emit.tsv("a", [(bad,)])
