"""What a finding looks like: for people exactly, for programs by the shape that docs/diagnostics.md promises."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path

import pytest
from conftest import REPOSITORY
from jsonschema import Draft4Validator

from generator import compiler, lint, report
from generator.compiler import Checked
from generator.diagnostics import Diagnostic, Position, Related, Spot
from generator.handwritten import discovery
from generator.source import Source, load

EXAMPLE = (REPOSITORY / "inventories/example.yaml").read_text()


def checked(text: str, *findings: Diagnostic, name: str = "mine.yaml") -> Checked:
    """As the compiler would give it, with these findings alone."""
    return Checked(load(name, text.encode())[0], findings, None)


def text(*inventories: Checked, color: bool = False) -> str:
    return report.render("text", inventories, color=color)


def finding(path=(), message="the message", severity="error", **more) -> Diagnostic:
    return Diagnostic("TST001", severity, message, path, **more)


# --- text -----------------------------------------------------------------------------------------------------------------------------


def test_one_finding():
    one = checked("version: 1\ncluster:\n  name: Example\n", finding(("cluster", "name"), remedy="write it small"))
    assert text(one) == (
        "mine.yaml:3:9: error TST001: the message\n"
        "    3 |   name: Example\n"
        "      |         ^^^^^^^\n"
        "      help: write it small\n"
        "\n"
        "1 error; `stowage explain TST001` says more\n"
    )  # fmt: skip


def test_the_whole_way():
    """Through every stage, with a second place."""
    twin = EXAMPLE.replace("name: node-3", "name: node-2")
    said = text(compiler.check("mine.yaml", twin.encode()))
    line = 1 + twin[: twin.rindex("node-2")].count("\n")
    first = 1 + twin[: twin.index("node-2")].count("\n")
    assert re.search(rf"^mine.yaml:{line}:10: error HST0\d\d: .*node-2", said, re.MULTILINE), said
    assert f"{line:5} | - {{name: node-2, role: worker, address: 192.168.1.30/24}}\n      |          ^^^^^^\n" in said
    assert f"      mine.yaml:{first}:10: " in said
    assert "      |          ------\n" in said


def test_color():
    one = checked("a: 1\n", finding(("a",), remedy="other", related=(Related(("a",), "first here"),)))
    assert text(one, color=True) == (
        "\033[1mmine.yaml:1:4:\033[0m \033[31;1merror TST001\033[0m: the message\n"
        "    1 | a: 1\n"
        "      |    \033[31;1m^\033[0m\n"
        "      \033[2mmine.yaml:1:4:\033[0m first here\n"
        "    1 | a: 1\n"
        "      |    \033[2m-\033[0m\n"
        "      \033[1mhelp:\033[0m other\n"
        "\n"
        "1 error; `stowage explain TST001` says more\n"
    )
    assert re.sub(r"\033\[[0-9;]*m", "", text(one, color=True)) == text(one)


def test_nothing_found():
    assert text() == ""
    assert text(checked("a: 1\n")) == ""


def test_summary_counts():
    one = checked(
        "a: 1\n", finding(severity="warning"), finding(severity="warning"), finding(severity="info"), Diagnostic("ZZZ001", "error", "worst")
    )
    assert text(one, one).endswith("\n\n2 errors, 4 warnings, 2 info; `stowage explain ZZZ001` says more\n")


def carets(inventory: Checked) -> tuple[str, str]:
    """The excerpt's line and the line below it, without their margin."""
    lines = text(inventory).splitlines()
    return lines[1].partition(" | ")[2], lines[2].partition(" | ")[2]


def columns(shown: str) -> int:
    return sum(0 if unicodedata.category(c) in ("Mn", "Me") else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in shown)


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("東京: x", ("東京",)),
        ("{東京: 大阪府, b: x}", ("b",)),
        ("{a: 'ｆｕｌｌ', b: x}", ("b",)),
        ("{a: 'café', b: x}", ("b",)),
        ("{a: 'cafe\u0301', b: x}", ("b",)),
        ("{a: '😀😀', b: x}", ("b",)),
        ("{a: 'x\u20dd', b: x}", ("b",)),
        ("{a: '½…§', b: x}", ("b",)),
    ],
)
def test_carets_stand_below_what_is_meant(line, path):
    """Wide characters take two columns on a terminal and combining ones none; the position counts code points all the same."""
    shown, under = carets(checked(f"{line}\n", finding(path)))
    assert shown == line
    assert columns(shown[: line.rindex("x", 0, len(line.rstrip("}")))]) == len(under) - 1
    assert under.strip() == "^"
    assert text(checked(f"{line}\n", finding(path))).startswith(f"mine.yaml:1:{line.rindex('x', 0, len(line.rstrip('}'))) + 1}:")


def test_wide_values_have_wide_carets():
    assert carets(checked("a: 東京\n", finding(("a",)))) == ("a: 東京", "   ^^^^")
    assert carets(checked("東京: 1\n", finding(("東京",), on_key=True))) == ("東京: 1", "^^^^")


def test_on_the_key():
    assert carets(checked("cluster: {nam: x}\n", finding(("cluster", "nam"), on_key=True))) == ("cluster: {nam: x}", "          ^^^")


def test_a_missing_key_is_shown_at_its_parent():
    said = text(checked("a: 1\ncluster: {name: x}\n", finding(("cluster", "podSubnet"))))
    assert said.startswith("mine.yaml:2:1: ")


def test_the_end_of_a_line_and_an_empty_one():
    assert carets(checked("a: 1\n", finding(position=Position(1, 5)))) == ("a: 1", "    ^")
    assert text(checked("a: 1\n\n", finding(position=Position(2, 1)))).splitlines()[1:] == [
        "",
        "1 error; `stowage explain TST001` says more",
    ]
    assert "|" not in text(checked("", finding(position=Position(1, 1))))


@pytest.mark.parametrize("before", [0, 30, 59, 60, 61, 119, 120, 121, 200, 5000])
@pytest.mark.parametrize("after", [0, 1, 59, 60, 120, 5000])
def test_long_lines_are_windowed(before, after):
    """Whatever stands around it, the place is in sight, with its carets below it."""
    line = f"{{a: '{'b' * before}', here: WORD, c: '{'d' * after}'}}"
    shown, under = carets(checked(f"{line}\n", finding(("here",))))
    assert len(shown) <= 122
    assert shown[len(under) - 4 : len(under)] == "WORD"
    assert under.strip() == "^^^^"
    assert shown.startswith("…") is (not line.startswith(shown[:5]))
    assert shown.endswith("…") is (not line.endswith(shown[-5:]))
    assert shown.strip("…") in line


def test_a_long_value_is_cut():
    shown, under = carets(checked(f"a: {'x' * 500}\n", finding(("a",))))
    assert shown == f"a: {'x' * 117}…"
    assert under == "   " + "^" * 117


@pytest.mark.parametrize("name", ["a\033[31mred.yaml", "a\nb.yaml", "a\u202eb.yaml", "a\udcffb.yaml", "a\x07.yaml"])
def test_nothing_acts_on_the_terminal(name):
    """File names, messages and lines are other people's text."""
    nasty = "x\033]0;title\007\r\n\u202e\x9b"
    one = Checked(load(name, b"a: 1\n")[0], (finding(("a",), nasty, remedy=nasty, related=(Related(("a",), nasty),)),), None)
    assert all(char.isprintable() for line in text(one).splitlines() for char in line)
    assert len(text(one).splitlines()) == len(
        text(checked("a: 1\n", finding(("a",), remedy="x", related=(Related(("a",), "x"),)))).splitlines()
    )
    source, found = load("mine.yaml", f"a: '{nasty}'\n".encode())
    assert all(char.isprintable() for line in text(Checked(source, tuple(found), None)).splitlines() for char in line)


# --- secrets --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", report.FORMATS)
@pytest.mark.parametrize(
    "written",
    [
        "canary",
        '"canary"',
        "canary # a comment with canary",
        "[canary]",
        "{password: canary}",
        "{secret: CANARY.canary}",
        "&canary canary",
        "!canary canary",
        "'canary",
        "{canary",
    ],
)
@pytest.mark.parametrize("more", ["", ", bogus: 1"])
def test_secrets_are_masked(form, written, more):
    """A password that stands in the inventory is found, not shown; whatever else is wrong with the line or the file."""
    inventory = EXAMPLE.replace("{virtualRouterId: 51}", f"{{virtualRouterId: 51{more}, authPass: {written}}}")
    assert "canary" in inventory
    one = compiler.check("mine.yaml", inventory.encode())
    assert one.refused()
    said = report.render(form, [one], color=False)
    if written.startswith(("&", "!")):
        # The name of an anchor or a tag is not a secret.
        said = re.sub(r"(anchor &|tag !|&|!)canary", "", said)
    assert "canary" not in said


def test_the_mask_keeps_the_place():
    one = compiler.check("mine.yaml", EXAMPLE.replace("{virtualRouterId: 51}", "{virtualRouterId: 51, authPass: canary}").encode())
    said = text(Checked(one.source, tuple(d for d in one.diagnostics if d.code == "SEC001"), None)).splitlines()
    assert said[1].endswith("authPass: ******" + said[1].partition("******")[2])
    assert said[2].index("^^^^^^") == said[1].index("******")
    assert said[2].strip(" |") == "^^^^^^"


# --- for programs ---------------------------------------------------------------------------------------------------------------------


def test_json_shape():
    """The keys that docs/diagnostics.md names, and no other."""
    one = checked(
        "cluster:\n  name: 東京\n",
        finding(("cluster", "name"), "wrong", remedy="right", related=(Related(("cluster",), "here", on_key=True),)),
    )
    document = json.loads(report.render("json", [one, checked("", name="other.yaml")], color=True))
    assert document == {
        "version": 1,
        "files": ["mine.yaml", "other.yaml"],
        "findings": [
            {
                "code": "TST001", "severity": "error", "message": "wrong", "remedy": "right", "path": "cluster.name",
                "file": "mine.yaml", "line": 2, "column": 9, "endColumn": 11,
                "related": [{"message": "here", "path": "cluster", "file": "mine.yaml", "line": 1, "column": 1, "endColumn": 8}],
            }
        ],
        "summary": {"error": 1, "warning": 0, "info": 0},
    }  # fmt: skip
    described = (REPOSITORY / "docs/diagnostics.md").read_text()
    for key in (*document, *document["findings"][0]):
        assert f"`{key}`" in described or f"`findings[].{key}" in described or f"`{key}[]`" in described, key


@pytest.mark.parametrize("form", ["json", "sarif"])
def test_json_is_ascii(form):
    """The same bytes in every locale, also for a file name that is no text."""
    said = report.render(form, [checked("a: ü\n", finding(("a",), "日本"), name="m\udcff日.yaml")], color=False)
    assert said.isascii()
    assert said.endswith("}\n")
    json.loads(said)


def test_github():
    one = checked(
        "a: 1\n",
        finding(("a",), "50% of\nit: a, b", remedy="say ::error::"),
        finding(severity="warning"),
        finding(severity="info"),
        name="a,b:c%.yaml",
    )
    assert report.render("github", [one], color=True) == (
        "::error file=a%2Cb%3Ac%25.yaml,line=1,col=4,endColumn=5,title=TST001::50%25 of%0Ait: a, b%0Ahelp: say ::error::\n"
        "::warning file=a%2Cb%3Ac%25.yaml,line=1,col=1,endColumn=2,title=TST001::the message\n"
        "::notice file=a%2Cb%3Ac%25.yaml,line=1,col=1,endColumn=2,title=TST001::the message\n"
    )
    assert report.render("github", [checked("a: 1\n")], color=False) == ""


def test_sarif():
    rule = lint.rules()[0]
    one = Checked(
        load("a b/ü.yaml", b"a: 1\n")[0], (Diagnostic(rule.code, "error", "wrong", ("a",), "right", related=(Related((), "here"),)),), None
    )
    document = json.loads(report.render("sarif", [one], color=False))
    (run,) = document["runs"]
    assert document["version"] == "2.1.0"
    assert run["columnKind"] == "unicodeCodePoints"
    (told,) = run["tool"]["driver"]["rules"]
    assert (told["id"], told["shortDescription"]["text"], told["help"]["text"]) == (rule.code, rule.title, rule.essay)
    (result,) = run["results"]
    assert (result["ruleId"], result["level"], result["message"]["text"]) == (rule.code, "error", "wrong; right")
    assert result["locations"] == [
        {
            "physicalLocation": {
                "artifactLocation": {"uri": "a%20b/%C3%BC.yaml"},
                "region": {"startLine": 1, "startColumn": 4, "endColumn": 5},
            }
        }
    ]
    assert result["relatedLocations"][0]["message"] == {"text": "here"}


def test_sarif_of_an_absolute_path():
    document = json.loads(report.render("sarif", [checked("a: 1\n", finding(("a",)), name="/tmp/a b.yaml")], color=False))
    assert document["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "file:///tmp/a%20b.yaml"


def test_sarif_without_findings():
    """A run that found nothing still says so: code hosts close what was open."""
    document = json.loads(report.render("sarif", [checked("a: 1\n")], color=False))
    assert document["runs"][0]["results"] == []


def fixtures() -> list[Path]:
    return sorted((REPOSITORY / "tests/lint").glob("*/bad-*"))


def read_of(path: Path) -> list:
    """A fixture's findings: of an inventory, or of a folder of hand-written files."""
    return compiler.lint_files(discovery.read([path])) if path.is_dir() else [compiler.check(str(path), path.read_bytes())]


def test_sarif_is_what_the_standard_says():
    """Of every bad fixture, by the standard's own schema; and the schema can refuse."""
    schema = json.loads((REPOSITORY / "tests/schemas/sarif-2.1.0-rtm.5.json").read_text(encoding="utf-8"))
    run = schema["definitions"]["run"] | {"definitions": schema["definitions"], "$schema": schema["$schema"]}
    everything = [one for path in fixtures() for one in read_of(path)]
    document = json.loads(report.render("sarif", everything, color=False))
    (log,) = document["runs"]
    results = log.pop("results")
    assert len(results) > len(fixtures()) // 2
    assert any("relatedLocations" in result for result in results)
    Draft4Validator(run).validate(log)
    result = Draft4Validator(schema["definitions"]["result"] | {"definitions": schema["definitions"]})
    for one in results:
        result.validate(one)
    Draft4Validator(schema).validate(document | {"runs": [log | {"results": results[:1]}]})
    assert not result.is_valid(results[0] | {"level": "fatal"})
    assert not result.is_valid({name: value for name, value in results[0].items() if name != "message"})


def test_sarif_names_other_files():
    """A second place in another file has that file's address."""
    one, other = load("a.yaml", b"a: 1\n")[0], load("b.yaml", b"\nb: 1\n")[0]
    there = Related((), "there", spot=Spot(other, Position(2, 1)))
    document = json.loads(report.render("sarif", [Checked(one, (finding(("a",), related=(there,)),), None)], color=False))
    (place,) = document["runs"][0]["results"][0]["relatedLocations"]
    assert place["physicalLocation"]["artifactLocation"]["uri"] == "b.yaml"
    assert place["physicalLocation"]["region"]["startLine"] == 2


def test_gitlab():
    """The keys that GitLab reads; a fingerprint a finding, the same where only lines have moved."""
    findings = (finding(("a",), remedy="right"), finding(severity="warning"), finding(severity="warning"), finding(severity="info"))
    one = json.loads(report.render("gitlab", [checked("a: 1\n", *findings, name="./x/mine.yaml")], color=False))
    moved = json.loads(report.render("gitlab", [checked("# more\n\na: 1\n", *findings, name="x/mine.yaml")], color=False))
    assert one[0] | {"fingerprint": ""} == {
        "description": "the message; right",
        "check_name": "TST001",
        "fingerprint": "",
        "severity": "major",
        "location": {"path": "x/mine.yaml", "lines": {"begin": 1}},
    }
    assert [entry["severity"] for entry in one] == ["major", "minor", "minor", "info"]
    assert len({entry["fingerprint"] for entry in one}) == 4
    assert [entry["fingerprint"] for entry in one] == [entry["fingerprint"] for entry in moved]
    assert moved[0]["location"]["lines"]["begin"] == 3
    assert json.loads(report.render("gitlab", [checked("a: 1\n")], color=False)) == []


# --- annotated ------------------------------------------------------------------------------------------------------------------------


def annotated(*inventories: Checked, color: bool = False) -> str:
    return report.render("annotated", inventories, color=color)


def test_annotated():
    one = checked(
        "a: 1   # mine\nb:\n\tc: 2\n",
        finding(("a",), remedy="other", related=(Related(("b",), "this too", on_key=True),)),
        finding(("a",), "and more", "warning"),
        finding(position=Position(3, 2)),
    )
    one = Checked(
        Source(one.source.name, "a: 1   # mine\nb:\n\tc: 2\n", None, {("a",): (0, 3, 1)}, {("b",): (1, 0, 1)}), one.diagnostics, None
    )
    assert annotated(one) == (
        "a: 1   # mine  # E1, W1\n"
        "b:\n"
        "\tc: 2  # E2\n"
        "\n"
        "# E1 TST001: the message\n"
        "#    2:1: this too\n"
        "#    help: other\n"
        "# W1 TST001: and more\n"
        "# E2 TST001: the message\n"
    )
    assert re.sub(r"\033\[[0-9;]*m", "", annotated(one, color=True)) == annotated(one) != annotated(one, color=True)


@pytest.mark.parametrize("raw", ["", "a: 1", "a: 1\n", "a: 1\n\n", "\n# x\n"])
def test_annotated_without_findings_is_the_file(raw):
    assert annotated(checked(raw)) == raw


def test_annotated_files_have_heads():
    said = annotated(checked("a: 1", name="a.yaml"), checked("b: 1\n", finding(("b",)), name="b.yaml"))
    assert said == "# ==> a.yaml <==\na: 1\n\n# ==> b.yaml <==\nb: 1  # E1\n\n# E1 TST001: the message\n"


def test_annotated_names_another_file():
    there = Related((), "there", spot=Spot(load("b.yaml", b"b: 1\n")[0], Position(1, 1)))
    assert "#    b.yaml:1:1: there\n" in annotated(checked("a: 1\n", finding(("a",), related=(there,))))


@pytest.mark.parametrize("raw", ["", "a: 1", "a: 1\n"])
def test_annotated_places_beyond_the_end(raw):
    assert annotated(checked(raw, finding(position=Position(9, 9)))).count("E1") == 2


def test_annotated_shows_what_could_not_be_read():
    one = compiler.check("mine.yaml", b"a:\t1\nb: 2\n")
    assert annotated(one).startswith("a:\t1  # E1\nb: 2\n\n# E1 SRC004: ")
    assert text(one).splitlines()[1:3] == ["    1 | a: 1", "      |   ^"]


@pytest.mark.parametrize(
    "line",
    [
        "auth_pass canary",
        "  auth_pass  'can ary canary' # x",
        "- token: canary.0123456789abcdef",
        'certificateKey: "canary"',
        "kubeadm join a:6443 --token canary.x --discovery-token-ca-cert-hash sha256:aa",
        "kubeadm init phase upload-certs --certificate-key=canary",
    ],
)
@pytest.mark.parametrize("form", ["text", "annotated"])
def test_secrets_of_hand_written_files_are_masked(form, line):
    one = Checked(Source("x.conf", f"{line}\n"), (finding(position=Position(1, 1)),), None)
    said = report.render(form, [one], color=False)
    assert "canary" not in said
    assert "****" in said
    assert len(said.splitlines()[0 if form == "annotated" else 1].split("  # E1")[0].removeprefix("    1 | ").rstrip()) == len(line)


def test_a_variable_is_no_secret():
    assert Source("x.sh", 'kubeadm join a --token "$TOKEN"').line(1) == 'kubeadm join a --token "$TOKEN"'


def test_order_is_that_of_the_text():
    """File by file, line by line, column by column; the same every time."""
    inventory = (
        EXAMPLE.replace("192.168.1.26/24", "192.168.1.25/24").replace("port: 16443", "port: 6443").replace("name: node-2", "name: node-1")
    )
    one = compiler.check("mine.yaml", inventory.encode())
    places = [
        (entry["line"], entry["column"], entry["code"]) for entry in json.loads(report.render("json", [one], color=False))["findings"]
    ]
    assert len(places) > 2
    assert places == sorted(places)
