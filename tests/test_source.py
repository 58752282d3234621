"""The loader: what it refuses and where, what plain scalars mean, and that nothing makes it raise."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from generator import source

EXAMPLE = (Path(__file__).resolve().parent.parent / "inventories" / "example.yaml").read_bytes()
LIBYAML = source._events


def pure_events(text, *, pure):
    """ruamel's own parser for everything, as on a machine without ruamel.yaml.clib."""
    return LIBYAML(text, pure=True)


@pytest.fixture(params=["libyaml", "pure"])
def load(request, monkeypatch):
    if request.param == "pure":
        monkeypatch.setattr(source, "_events", pure_events)
    return lambda raw: source.load("inventory.yaml", raw if isinstance(raw, bytes) else raw.encode("utf-8", "surrogatepass"))


def found(diagnostics):
    return [(d.code, d.position.line, d.position.column) for d in diagnostics]


def test_libyaml_is_there():
    """Without it these tests would compare the pure parser with itself."""
    assert (
        type(next(iter(LIBYAML("a: 1", pure=False)))).__module__ != type(next(iter(LIBYAML("a: 1", pure=True)))).__module__
        or YAML(typ="safe").Parser is not YAML(typ="safe", pure=True).Parser
    )


def test_example_reads(load):
    text, diagnostics = load(EXAMPLE)
    assert diagnostics == []
    assert text.data["cluster"]["kubernetesVersion"] == "1.29.3"
    assert text.data["hosts"][0] == {"name": "master-1", "role": "control-plane", "address": "192.168.1.25/24"}
    at = text.position(("controlPlaneEndpoint", "port"))
    assert EXAMPLE.decode().split("\n")[at.line - 1][at.column - 1 :][: at.length] == "16443"


REFUSED = {
    # Bytes and characters
    "latin-1": (b"a: b\nc: \xe9t\xe9\n", [("SRC001", 2, 4)]),
    "utf-16": ("a: b".encode("utf-16"), [("SRC001", 1, 1)]),
    "cut-off": ("a: é".encode()[:-1], [("SRC001", 1, 4)]),
    "latin-1 after others": ("ü: ü\r\nö: ".encode() + b"\xff", [("SRC001", 2, 4)]),
    "overlong": (b"a: \xc0\xaf", [("SRC001", 1, 4)]),
    "surrogate": (b"a: \xed\xa0\x80", [("SRC001", 1, 4)]),
    "NUL": ("a: b\n\0c: d", [("SRC003", 2, 1)]),
    "bell": ("a: b\nü: é\x07", [("SRC003", 2, 5)]),
    "delete": ("a: \x7f", [("SRC003", 1, 4)]),
    "next line": ("a: b\x85c: d", [("SRC003", 1, 5)]),
    "line separator": ("a: b\u2028c: d", [("SRC003", 1, 5)]),
    "lone carriage return": ("a: b\rc: d", [("SRC003", 1, 5)]),
    "right-to-left override": ("name: x\u202eabc", [("SRC003", 1, 8)]),
    "isolate": ("# \u2066\na: b", [("SRC003", 1, 3)]),
    "mark inside": ("a: b\ufeff", [("SRC003", 1, 5)]),
    "two marks": ("\ufeff\ufeffa: b", [("SRC003", 1, 1)]),
    "tab": ("a:\tb", [("SRC004", 1, 3)]),
    "tab as indentation": ("a:\n\tb: c", [("SRC004", 2, 1)]),
    "directive": ("%YAML 1.1\n---\na: b", [("SRC005", 1, 1)]),
    "later directive": ("a: b\n...\n%TAG ! x\n---\nc: d", [("SRC005", 3, 1)]),
    # Escapes that bring in what the text may not hold
    "escaped NUL": ('a: "x\\0"', [("SRC003", 1, 4)]),
    "escaped bell": ('a: "\\x07"', [("SRC003", 1, 4)]),
    "escaped newline": ('ü: "x\\ny"', [("SRC003", 1, 4)]),
    "escaped tab": ('a: "\\t"', [("SRC003", 1, 4)]),
    "escaped surrogate": ('a: "\\ud83d"', [("SRC003", 1, 4)]),
    "escaped override": ('a: "\\u202E"', [("SRC003", 1, 4)]),
    "escaped key": ('"a\\0": b', [("SRC003", 1, 1)]),
    "literal block": ("a: |\n  x\n  y\n", [("SRC003", 1, 4)]),
    "folded block with its newline": ("a: >\n  x\n", [("SRC003", 1, 4)]),
    # Structure
    "unclosed": ("a: [b", [("SRC006", 1, 6)]),
    "colon": ("ü: b: c", [("SRC006", 1, 5)]),
    "at sign": ("a: @b", [("SRC006", 1, 4)]),
    "empty item": ("[a, , b]", [("SRC006", 1, 5)]),
    "integer key": ("1: a", [("SRC007", 1, 1)]),
    "null key": ("~: a", [("SRC007", 1, 1)]),
    "boolean key": ("a: {true: b}", [("SRC007", 1, 5)]),
    "list key": ("[a, b]: c", [("SRC007", 1, 1)]),
    "mapping key": ("{a: b}: c", [("SRC007", 1, 1)]),
    "explicit key": ("a: 1\n? [x]\n: 2\n", [("SRC007", 2, 3)]),
    "giant": ("a: 1\nü: -123456789012345678901234567890", [("SRC007", 2, 4)]),
    "giant key": ("100000000000000000000: b", [("SRC007", 1, 1)]),
    "anchor and alias": ("a: &x 1\nb: *x\n", [("SRC008", 1, 4), ("SRC008", 2, 4)]),
    "anchor of a collection": ("a: &x {b: c}", [("SRC008", 1, 4)]),
    "alias as key": ("*a : b\nc: d", [("SRC008", 1, 1)]),
    "alias in a list": ("[*a, b]", [("SRC008", 1, 2)]),
    "tag": ("a: !!str 1", [("SRC008", 1, 4)]),
    "own tag": ("a: !x [b]", [("SRC008", 1, 4)]),
    "python tag": ("a: !!python/object/apply:os.system [id]", [("SRC008", 1, 4)]),
    "merge": ("a: {b: c}\nd: {<<: {b: e}}", [("SRC008", 2, 5)]),
    "quoted merge": ('"<<": 1', [("SRC008", 1, 1)]),
    "duplicate": ("a: 1\nb: 2\na: 3", [("SRC009", 3, 1)]),
    "duplicate in quotes": ("{ü: 1, 'ü': 2}", [("SRC009", 1, 8)]),
    "duplicate deep": ("a:\n- b: {c: 1, c: 2}", [("SRC009", 2, 13)]),
    "thrice": ("a: 1\na: 2\na: 3", [("SRC009", 2, 1), ("SRC009", 3, 1)]),
    "integer and quoted key": ('{1: a, "1": b}', [("SRC007", 1, 2), ("SRC009", 1, 8)]),
    "null and quoted key": ('{~: a, "~": b}', [("SRC007", 1, 2), ("SRC009", 1, 8)]),
    "empty": ("", [("SRC010", 1, 1)]),
    "comments": ("# nothing\n\n", [("SRC010", 1, 1)]),
    "mark alone": ("\ufeff", [("SRC010", 1, 1)]),
    "two documents": ("a: 1\n---\nb: 2\n", [("SRC010", 2, 1)]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_where_it_stands(load, case):
    raw, expected = REFUSED[case]
    _, diagnostics = load(raw)
    assert found(diagnostics) == expected
    for d in diagnostics:
        assert d.severity == "error"
        assert d.message
        assert d.remedy


def test_every_code_of_the_loader_is_covered():
    assert {code for _, expected in REFUSED.values() for code, _, _ in expected} | {"SRC002"} == {f"SRC{n:03}" for n in range(1, 11)}


def test_all_is_found_at_once(load):
    _, diagnostics = load("a: &x 1\na: !!str 2\n3: *x\n<<: y\n")
    assert [d.code for d in diagnostics] == ["SRC008", "SRC009", "SRC008", "SRC007", "SRC008", "SRC008"]


def test_duplicate_names_its_first_place(load):
    _, diagnostics = load("a: {b: 1}\nü: 1\nü: 2")
    assert diagnostics[0].message == "duplicate key ü, first at line 2, column 1"


PLAIN = {
    "0755": "0755",
    "0": 0,
    "-0": 0,
    "-17": -17,
    "+17": "+17",
    "16443": 16443,
    "123456789012345678": 123456789012345678,
    "-123456789012345678": -123456789012345678,
    "2024-01-01": "2024-01-01",
    "2024-01-01 10:00:00": "2024-01-01 10:00:00",
    "1:30": "1:30",
    "on": "on",
    "off": "off",
    "yes": "yes",
    "No": "No",
    "y": "y",
    "True": "True",
    "TRUE": "TRUE",
    "true": True,
    "false": False,
    "~": None,
    "null": None,
    "Null": "Null",
    "": None,
    "1e3": "1e3",
    "0x10": "0x10",
    "0o17": "0o17",
    "0b1": "0b1",
    "1_000": "1_000",
    "1.0": "1.0",
    "1.29.3": "1.29.3",
    ".5": ".5",
    ".inf": ".inf",
    ".NaN": ".NaN",
    "=": "=",
    "<": "<",
    "192.168.1.25/24": "192.168.1.25/24",
    "fd00::1/64": "fd00::1/64",
    "a#b": "a#b",
    "a # b": "a",
    '"0755"': "0755",
    "'1'": "1",
    '"true"': "true",
    "'~'": "~",
    '""': "",
    "'it''s'": "it's",
    '"\\u00e9"': "é",
    '"\\U0001F600"': "😀",
}


@pytest.mark.parametrize("written", PLAIN)
def test_plain_scalars_are_literal(load, written):
    for text in (f"a: {written}", f"a:\n- {written}"):
        read, diagnostics = load(text)
        assert diagnostics == []
        value = read.data["a"] if isinstance(read.data["a"], type(PLAIN[written])) else read.data["a"][0]
        assert value == PLAIN[written]
        assert type(value) is type(PLAIN[written])


def test_addresses_in_flow_style(load):
    read, diagnostics = load("a: [fd00::1/64, 10.0.0.1/24]\nb: {c: fd00::2/64}")
    assert diagnostics == []
    assert read.data == {"a": ["fd00::1/64", "10.0.0.1/24"], "b": {"c": "fd00::2/64"}}


@pytest.mark.parametrize("written", ["x\n  y", '"x\n  y"', "'x\n  y'", ">-\n  x\n  y", ">-\n  x", "|\n  x", "|-\n  x"])
def test_a_value_over_several_lines_is_refused(load, written):
    _, diagnostics = load(f"a: {written}\nb: 1\n")
    assert [(d.code, d.position.line, d.position.column) for d in diagnostics] == [("SRC003", 1, 4)]
    assert "several lines" in diagnostics[0].message


@pytest.mark.parametrize("text", ["x", "[a]", "- a\n- b", "---\n..."])
def test_what_is_no_mapping_is_for_the_schema(load, text):
    _, diagnostics = load(text)
    assert diagnostics == []


def test_mark_and_windows_line_ends(load):
    read, diagnostics = load("\ufeffa:\r\n- é: 1\r\n  b: 2\r\n")
    assert diagnostics == []
    assert read.data == {"a": [{"é": 1, "b": 2}]}
    assert read.position(("a", 0, "b"), on_key=True).line == 3
    assert read.line(3) == "  b: 2"


POSITIONS = [
    ("é: ü\nk: 😀\n", ("k",), False, (2, 4, 1)),
    ("z: [a, 😀b, c]\n", ("z", 2), False, (1, 12, 1)),
    ("z: [a, 😀b, c]\n", ("z", 1), False, (1, 8, 2)),
    ("ü: {éé: 1, k: abc}\n", ("ü", "k"), False, (1, 15, 3)),
    ("ü: {éé: 1, k: abc}\n", ("ü", "k"), True, (1, 12, 1)),
    ("ü: {éé: 1, k: abc}\n", ("ü", "éé"), True, (1, 5, 2)),
    ("- a: b\n  c: d\n", (0, "c"), False, (2, 6, 1)),
    ("- a: b\n  c: d\n", (0,), False, (1, 3, 1)),
    ("a: 'x y'\n", ("a",), False, (1, 4, 5)),
    ("a:\n  b:\n    c: 1\n", ("a", "b"), True, (2, 3, 1)),
    ("a:\n  b:\n    c: 1\n", ("a", "b", "missing"), False, (2, 3, 1)),
    ("a:\n  b:\n    c: 1\n", ("a", "missing", "deeper"), False, (1, 1, 1)),
    ("a: [1, {b: 2}]\n", ("a", 1, "missing"), True, (1, 8, 1)),
    ("\n\na: 1\n", ("missing",), False, (3, 1, 1)),
    ("", ("missing",), False, (1, 1, 1)),
]


@pytest.mark.parametrize(("text", "path", "on_key", "expected"), POSITIONS)
def test_positions_count_code_points(load, text, path, on_key, expected):
    read, _ = load(text)
    at = read.position(path, on_key=on_key)
    assert (at.line, at.column, at.length) == expected


# -- sizes ---------------------------------------------------------------------------------------------------------------------------------


def test_too_many_bytes():
    read, diagnostics = source.load("x", b"#" * (source.MAX_BYTES + 1))
    assert found(diagnostics) == [("SRC002", 1, 1)]
    assert read.text == ""
    assert source.load("x", b"a: b #" + b"#" * (source.MAX_BYTES - 6))[1] == []


def test_too_deep(load):
    depth = source.MAX_DEPTH
    assert load("[" * depth + "]" * depth)[1] == []
    assert found(load("[" * (depth + 2) + "]" * (depth + 2))[1]) == [("SRC002", 1, depth + 2)]
    assert found(load("{a: " * (depth + 2) + "1" + "}" * (depth + 2))[1])[0][0] == "SRC002"


def test_very_deep_without_recursion(load):
    assert [d.code for d in load("[" * 50_000)[1]] == ["SRC002"]
    assert [d.code for d in load("- " * 50_000 + "a")[1]] == ["SRC002"]


def test_too_many_nodes(monkeypatch, load):
    monkeypatch.setattr(source, "MAX_NODES", 50)
    assert load("[" + "a," * 48 + "]")[1] == []
    assert found(load("[" + "a," * 60 + "]")[1]) == [("SRC002", 1, 100)]
    assert [d.code for d in load("{" + ",".join(f"k{i}: [a, b]" for i in range(60)) + "}")[1]] == ["SRC002"]


def test_half_a_million_nodes_are_refused_in_time():
    _, diagnostics = source.load("x", b"[" + b"a," * 600_000 + b"]")
    assert [d.code for d in diagnostics] == ["SRC002"]
    assert diagnostics[0].message == "more than 500,000 values"


def test_billion_laughs_stays_small(load):
    text = "a: &a [x, x]\n" + "\n".join(f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]" for i in range(20))
    assert {d.code for d in load(text)[1]} == {"SRC008"}


# -- secrets -------------------------------------------------------------------------------------------------------------------------------

KEEPALIVED = "loadBalancer:\n  keepalived:\n    "
CANARY = "Zq7canary"


@pytest.mark.parametrize(
    "written",
    [
        f"authPass: {CANARY}",
        f'authPass: "{CANARY}"',
        f'authPass: "x#{CANARY}"',
        f"authPass: x}}{CANARY}",
        f"authPass: '{CANARY}'  # a comment",
        f'"authPass": {CANARY}',
        f"authPass:\n      {CANARY}",
        f"auth_pass: {CANARY}",
        f"AuthPass: {CANARY}",
        f"password: {CANARY}",
    ],
)
def test_excerpts_mask_a_password(load, written):
    read, _ = load(KEEPALIVED + written + "\n")
    shown = "\n".join(read.line(number) for number in range(7))
    assert CANARY not in shown
    assert "***" in shown


@pytest.mark.parametrize("broken", ["\n  x: [", "\na: b: c", "\n\ta: b", "\n? {", "\nauthPass: 1"])
def test_excerpts_mask_a_password_of_broken_text(load, broken):
    read, diagnostics = load(f'{KEEPALIVED}authPass: "x#{CANARY}"{broken}\n')
    assert CANARY not in "\n".join(read.line(number) for number in range(9))
    assert CANARY not in repr(diagnostics)


@pytest.mark.parametrize("written", ["authPass: {secret: vrrp}", "authPass: { secret: vrrp }", "authPass:\n      secret: vrrp"])
def test_excerpts_show_the_name_of_a_secret(load, written):
    read, diagnostics = load(KEEPALIVED + written + "\n")
    assert diagnostics == []
    assert "secret: vrrp" in "\n".join(read.line(number) for number in range(6))


def test_is_secret():
    path = ("loadBalancer", "keepalived", "authPass")
    assert source.is_secret(path)
    assert source.is_secret((*path, "secret")), "a password may stand where the name belongs"
    assert not source.is_secret(path[:-1])
    assert not source.is_secret(("cluster", "authPass"))


# -- anything at all -----------------------------------------------------------------------------------------------------------------------

TOKENS = st.sampled_from(
    [
        *b"{}[]:,#&*!|>%@`\"'\\-?~<=\n\r\t 0a",
        b"- ",
        b"? ",
        b": ",
        b"&a ",
        b"*a ",
        b"!t ",
        b"<<: ",
        b"---\n",
        b"...\n",
        b"\xc3\xa9",
        b"\xff",
        "\u2028".encode(),
        "😀".encode(),
        b"\xef\xbb\xbf",
        b"\x00",
        b"1: ",
        b'"1": ',
        b"~: ",
        b"true: ",
        b"[a]: ",
    ]
).map(lambda token: token if isinstance(token, bytes) else bytes([token]))


def both(raw):
    """What the two parsers make of *raw*."""
    fast = source.load("x", raw)
    source._events = pure_events
    try:
        return fast, source.load("x", raw)
    finally:
        source._events = LIBYAML


def agree(raw):
    (fast, fast_found), (slow, slow_found) = both(raw)
    if b"&" in raw or b"*" in raw:  # `&a:` is an anchor called "a" for libyaml and "a:" for ruamel; both are refused
        assert bool(fast_found) == bool(slow_found)
    else:
        assert [d.code for d in fast_found] == [d.code for d in slow_found]
    assert all(d.position is not None and d.position.line >= 1 and d.position.column >= 1 for d in fast_found)
    if not fast_found:
        assert fast.data == slow.data
        assert set(fast.values) == set(slow.values)
        assert fast.keys == slow.keys


BOUNDED = settings(max_examples=150, derandomize=True, deadline=None, database=None)


@BOUNDED
@given(st.lists(TOKENS, max_size=25).map(b"".join))
def test_tokens_never_raise_and_parsers_agree(raw):
    agree(raw)


@BOUNDED
@given(st.binary(max_size=60))
def test_bytes_never_raise_and_parsers_agree(raw):
    agree(raw)


@BOUNDED
@given(st.lists(st.tuples(st.integers(0, len(EXAMPLE)), st.integers(0, 30), TOKENS), min_size=1, max_size=4))
def test_mutations_of_the_example_never_raise_and_parsers_agree(changes):
    raw = EXAMPLE
    for at, dropped, token in changes:
        raw = raw[:at] + token + raw[at + dropped :]
    agree(raw)


@BOUNDED
@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(1 - 10**18, 10**18 - 1), st.text("abc é😀:#-0", max_size=8)),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcé", min_size=1, max_size=4), inner, max_size=4),
        max_leaves=12,
    )
)
def test_json_reads_as_itself(value):
    """JSON is YAML 1.2; every string in quotes is the string."""
    import json

    read, diagnostics = source.load("x", json.dumps(value, ensure_ascii=False).encode())
    assert diagnostics == []
    assert read.data == value
