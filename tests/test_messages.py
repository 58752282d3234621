"""What stowage says in another language: every sentence of it, the same values in it, and English as if there were no other."""

from __future__ import annotations

import ast
import json
import re
import string
import tomllib
from functools import cache

import pytest
from click.testing import CliRunner
from conftest import REPOSITORY

from generator import compiler, lint, messages, report, validate
from generator.cli import stowage
from generator.handwritten import discovery
from generator.wording import Said, conjoined, in_words_of, joined, said

GENERATOR = REPOSITORY / "generator"
CATALOGUES = sorted((GENERATOR / "messages" / "zh_CN").glob("*.toml"))
ESSAY_PARTS = ("危害：", "示例：", "正确做法：", "来源：")
LINT = REPOSITORY / "tests" / "lint"
CHINESE = re.compile("[\u4e00-\u9fff]")
LETTERS = re.compile("[A-Za-z]")

# Calls whose literals are words for people: where those stand among the arguments, from 0, and as keywords.
SPEAKING = {
    "said": ((0,), ()),
    "Finding": ((1, 2), ("message", "remedy")),
    "Found": ((1, 2), ("message", "remedy")),
    "Diagnostic": ((2, 4), ("message", "remedy")),
    "Related": ((1,), ("label",)),
    "related": ((0,), ("label",)),
    "refuse": ((1, 2), ()),
    "_UnreadableError": ((1, 2), ()),
    "UnreadableError": ((0, 1), ()),
    "BundleError": ((0, 1), ()),
    "SecretError": ((0, 1), ()),
    "Stop": ((0, 1), ()),
    "say": ((1,), ()),
    "conjoined": ((1,), ("template",)),
}


def literals(node: ast.AST | None):
    """The texts that an expression may be: a literal, or one of two."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from literals(node.body)
        yield from literals(node.orelse)


def name_of(call: ast.Call) -> str:
    name = ast.unparse(call.func)
    return "" if name.endswith(".say") else name.rpartition(".")[2]


def holes(template: str) -> list[str]:
    """Its holes with their conversions and formats, in the order of the alphabet: another language has another order."""
    return sorted(f"{name}!{conversion}:{spec}" for _, name, spec, conversion in string.Formatter().parse(template) if name is not None)


def has_words(template: str) -> bool:
    """Whether there is anything to translate: more than holes and signs."""
    return bool(LETTERS.search("".join(text for text, *_ in string.Formatter().parse(template))))


@cache
def schema_phrases() -> frozenset[str]:
    """What the messages quote of the schema: what is expected of a value, and what a key that must be there is."""
    phrases = set()

    def walk(node: object) -> None:
        if isinstance(node, dict):
            phrases.update({node["x-expected"]} if isinstance(node.get("x-expected"), str) else ())
            for name in node["required"] if isinstance(node.get("required"), list) else ():
                phrases.add(validate.summary(node["properties"][name]))
        for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            walk(child)

    walk(validate.schema())
    return frozenset(phrases - {""})


@cache
def spoken() -> dict[str, str]:
    """Every template that the source says for certain, and the file that says it."""
    found = dict.fromkeys(schema_phrases(), "schema")
    for path in sorted(GENERATOR.rglob("*.py")):
        where = path.relative_to(GENERATOR).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and name_of(node) in SPEAKING:
                places, keywords = SPEAKING[name_of(node)]
                arguments = [node.args[place] for place in places if place < len(node.args)]
                arguments += [keyword.value for keyword in node.keywords if keyword.arg in keywords]
                found |= {text: where for argument in arguments for text in literals(argument) if has_words(text)}
    return found


@cache
def written() -> frozenset[str]:
    """Every literal of the source: a message may be chosen from a table."""
    texts = set(schema_phrases())
    for path in GENERATOR.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.add(node.value)
    return frozenset(texts)


@cache
def entries(table: str) -> dict[str, str]:
    return {key: text for path in CATALOGUES for key, text in tomllib.loads(path.read_text(encoding="utf-8")).get(table, {}).items()}


@cache
def findings() -> tuple:
    """What stowage finds in every fixture of the rules, as (file, finding)."""
    read = [compiler.check(str(path), path.read_bytes()) for path in sorted(LINT.glob("*/*.yaml"))]
    for folder in sorted(path for path in LINT.glob("*/*-*") if path.is_dir()):
        read += compiler.lint_files(discovery.read([folder]))
    return tuple((one, finding) for one in read for finding in one.diagnostics)


def is_data(text: str) -> bool:
    """Whether *text* has no words of ours: a name, a path, a value."""
    if isinstance(text, Said):
        return not has_words(text.template) and all(is_data(value) for value in text.values.values() if isinstance(value, Said))
    return text not in written() and " " not in text


# --- the catalogues -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.name)
def test_catalogue_holds_nothing_else(path):
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    assert set(tables) <= ({"essays"} if path.name.endswith(".essays.toml") else {"titles", "messages"})
    family = path.name.split(".")[0]
    for table in ("titles", "essays"):
        assert all(code.startswith(family) for code in tables.get(table, ()))


def test_no_template_has_two_translations():
    seen: dict[str, str] = {}
    for path in CATALOGUES:
        for english, text in tomllib.loads(path.read_text(encoding="utf-8")).get("messages", {}).items():
            assert seen.setdefault(english, text) == text, f"{path.name}: {english}"


def test_every_template_is_translated():
    missing = {text: where for text, where in spoken().items() if text not in entries("messages")}
    assert not missing


def test_no_entry_is_stale():
    assert not [english for english in entries("messages") if english not in written()]


@pytest.mark.parametrize("english", sorted(entries("messages")))
def test_a_translation_has_the_same_values(english):
    text = entries("messages")[english]
    assert holes(text) == holes(english)
    assert CHINESE.search(text) or not has_words(text) or len(english.split()) <= 2  # a name stays
    assert english.endswith(".") or not text.endswith(("。", ".", " "))
    assert "\n" not in text


def test_few_translations_are_the_english():
    """Names stay; a sentence that stays was forgotten."""
    same = [english for english, text in entries("messages").items() if english == text]
    assert all(len(english.split()) <= 2 for english in same), same


def test_quoted_words_stay():
    """What stands between backticks is typed by somebody."""
    for english, text in entries("messages").items():
        assert sorted(re.findall("`[^`]*`", english)) == sorted(re.findall("`[^`]*`", text)), english


def test_the_phrases_of_the_schema_hold_no_holes():
    """They are templates: a brace in one would be taken for a value."""
    assert not [phrase for phrase in schema_phrases() if holes(phrase)]


# --- rules --------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", lint.rules(), ids=lambda rule: rule.code)
def test_rule_has_title_and_essay(rule):
    title, essay = entries("titles").get(rule.code, ""), entries("essays").get(rule.code, "").rstrip("\n")
    assert CHINESE.search(title)
    assert not title.endswith(("。", "."))
    assert essay.split("\n")[0] == title
    at = [essay.find(f"\n\n{part}") for part in ESSAY_PARTS]
    assert -1 not in at
    assert at == sorted(at)
    assert messages.essay(rule.code, rule.essay, "zh_CN") == essay
    assert messages.title(rule.code, rule.title, "zh_CN") == title


def test_titles_differ_and_belong_to_rules():
    codes = {rule.code for rule in lint.rules()}
    assert len(set(entries("titles").values())) == len(entries("titles"))
    assert not (set(entries("titles")) | set(entries("essays"))) - codes


# --- findings -----------------------------------------------------------------------------------------------------------------------------


def test_no_finding_stays_english():
    """Every text of every finding in the fixtures, and every word of ours that is a value in one."""
    assert len(findings()) > 300
    stayed = set()
    for _, finding in findings():
        for text in (finding.message, finding.remedy, *(place.label for place in finding.related)):
            if not is_data(text) and not CHINESE.search(messages.translated(text, "zh_CN")):
                stayed.add((finding.code, text))
    assert not stayed


def test_a_finding_has_no_english_words_between():
    """Where a value is a word for people, it is looked up too."""
    words = re.compile(r"(?<![\w`'\"./=-])(the|an|of|is|are|has|have|and|with|without|which|write|remove|doesn't|can't)(?![\w`'\"./=-])")
    left = {
        (finding.code, text)
        for _, finding in findings()
        for english in (finding.message, finding.remedy, *(place.label for place in finding.related))
        if words.search(re.sub("`[^`]*`", "", text := messages.translated(english, "zh_CN"))) and "YAML：" not in text
    }
    assert not left


def test_english_never_changes():
    """Neither by what a message is made from, nor by a language that has no catalogue."""
    for _, finding in findings():
        for text in (finding.message, finding.remedy, *(place.label for place in finding.related)):
            assert messages.translated(text, "en") == in_words_of({}, text) == str(text)
    read = [one for one, _ in findings()[:50]]
    for form in report.FORMATS:
        assert report.render(form, read, color=False) == report.render(form, read, color=False, language="en")


def test_the_values_are_the_same():
    """Names, addresses and numbers of a finding stand in its translation too."""
    for _, finding in findings():
        text = messages.translated(finding.message, "zh_CN")
        for value in finding.message.values.values() if isinstance(finding.message, Said) else ():
            assert isinstance(value, Said | int | float) or str(value) in text


def test_places_and_carets_are_those_of_the_english_report():
    """The language changes words, not the excerpt: carets stand below what they mean in a text with wide characters too."""
    raw = "version: 1\ncluster: {name: 集群, kubernetesVersion: 1.29.3}  # 说明\nhosts: []\n".encode()
    for one in (compiler.check("清单.yaml", raw), next(one for one, _ in findings())):
        english, chinese = (report.render("text", [one], color=False, language=language).splitlines() for language in messages.LANGUAGES)
        assert len(english) == len(chinese)
        excerpts = [(a, b) for a, b in zip(english, chinese, strict=True) if re.match(r" *[0-9]* \| ", a)]
        assert excerpts
        assert all(a == b for a, b in excerpts)
        assert "个错误" in chinese[-1]
        assert not any("help:" in line for line in chinese)


# --- the words themselves -----------------------------------------------------------------------------------------------------------------


def test_values_that_are_sentences_are_looked_up():
    text = said("{host} is {why}", host="a {b}", why=said("late"))
    assert text == "a {b} is late"
    assert in_words_of({"{host} is {why}": "{why}: {host}", "late": "迟"}, text) == "迟: a {b}"
    assert in_words_of({}, text) == text
    assert in_words_of({"plain": "明"}, "plain") == "明"


def test_lists_are_sentences():
    assert conjoined(["a"]) == "a"
    assert conjoined(["a", "b", "c"]) == "a and b and c"
    assert conjoined(["a", said("b")], "{first} then {last}") == "a then b"
    assert joined("; ", ["a", said("b")]) == "a; b"
    assert in_words_of({"{first} and {last}": "{first} 和 {last}", "b": "乙"}, conjoined(["a", said("b")])) == "a 和 乙"


# --- the command line ---------------------------------------------------------------------------------------------------------------------

BROKEN = "version: 1\nhosts: []\n"


def invoke(*arguments: str, **environment: str):
    cleared = dict.fromkeys(("LC_ALL", "LC_MESSAGES", "LANG"), "") | environment
    return CliRunner(env=cleared).invoke(stowage, list(arguments), input=BROKEN)


@pytest.mark.parametrize(
    "tag", ["zh", "zh_CN", "zh-CN", "ZH_cn", "zh_CN.UTF-8", "zh_SG", "zh-Hans", "zh_Hans_CN", "zh_CN.GB18030", "zh@pinyin"]
)
def test_spellings_of_simplified_chinese(tag):
    assert messages.language(tag) == "zh_CN"


@pytest.mark.parametrize("tag", ["en", "en_US.UTF-8", "en-GB", "EN"])
def test_spellings_of_english(tag):
    assert messages.language(tag) == "en"


@pytest.mark.parametrize("tag", ["", "C", "C.UTF-8", "POSIX", "zh_TW", "zh_HK.UTF-8", "zh_Hant", "zh_Hant_TW", "de_DE", "../zh_CN", "zhx"])
def test_what_stowage_does_not_speak(tag):
    assert messages.language(tag) is None


def test_the_option_stands_before_or_after_the_command():
    before, after = invoke("--lang", "zh", "check", "-"), invoke("check", "--lang", "zh-CN", "-")
    assert before.exit_code == after.exit_code == 1
    assert before.output == after.output
    assert "错误 SCH002" in before.output
    assert "建议:" in before.output


@pytest.mark.parametrize("tag", ["fr", "zh_TW", "", "/etc/passwd"])
def test_an_unknown_language_is_misuse(tag):
    done = invoke("check", "--lang", tag, "-")
    assert done.exit_code == 2
    assert "en, zh_CN" in done.output


@pytest.mark.parametrize(
    ("environment", "chinese"),
    [
        ({}, False),
        ({"LANG": "zh_CN.UTF-8"}, True),
        ({"LC_MESSAGES": "zh_CN.UTF-8", "LANG": "en_US.UTF-8"}, True),
        ({"LC_ALL": "C", "LC_MESSAGES": "zh_CN.UTF-8", "LANG": "zh_CN.UTF-8"}, False),
        ({"LC_ALL": "zh_CN.UTF-8", "LANG": "C"}, True),
        ({"LANG": "zh_TW.UTF-8"}, False),
        ({"LANG": "xx" * 9}, False),
    ],
)
def test_text_follows_the_locale(environment, chinese):
    assert ("错误" in invoke("check", "-", **environment).output) is chinese
    assert ("错误" in invoke("check", "--lang", "en", "-", **environment).output) is False


@pytest.mark.parametrize("form", sorted({*report.FORMATS} - {"text", "annotated"}))
def test_what_programs_read_follows_the_option_alone(form):
    english = invoke("check", "--format", form, "-")
    assert invoke("check", "--format", form, "-", LC_ALL="zh_CN.UTF-8").output == english.output
    chinese = invoke("check", "--format", form, "--lang", "zh_CN", "-").output
    assert chinese != english.output
    if form != "github":
        assert CHINESE.search(json.dumps(json.loads(chinese), ensure_ascii=False))
    else:
        assert "%0A建议:" in chinese


def test_the_keys_of_programs_stay():
    """Only texts are translated: codes, severities, places and paths are the same."""
    english, chinese = (json.loads(invoke("check", "--format", "json", "--lang", tag, "-").output) for tag in ("en", "zh"))
    for one in (*english["findings"], *chinese["findings"]):
        del one["message"], one["remedy"], one["related"]
    assert english == chinese


def test_other_commands_speak_it_too():
    assert invoke("explain", "net004", "--lang", "zh").output.startswith("NET004 (错误): ")
    assert "\n\n危害：" in invoke("explain", "NET004", LANG="zh_CN.UTF-8").output
    assert "NET004" in (titles := invoke("--lang", "zh", "rules").output)
    assert all(CHINESE.search(line) for line in titles.splitlines())
    assert "没有规则 NET999" in invoke("explain", "NET999", "--lang", "zh").output
    example = str(REPOSITORY / "inventories/example.yaml")
    assert "检查了 1 份清单，没有错误" in invoke("check", "--lang", "zh", example).output
    assert "所有文件都与编译时一致" in invoke("verify", "--lang", "zh", str(REPOSITORY / "out/example")).output
    assert "没有写入任何文件" in invoke("bundle", "--lang", "zh", "-").output


def test_misuse_is_said_in_the_language(tmp_path):
    done = invoke("lint", "--lang", "zh", str(tmp_path / "missing"))
    assert done.exit_code == 2
    assert "没有这个文件或目录" in done.output
    assert "建议:" in done.output


# --- README -------------------------------------------------------------------------------------------------------------------------------


def blocks(text: str) -> list[tuple[str, str]]:
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_chinese_readme_is_the_readme():
    """The same headings, links, commands and inventory; what stowage prints there is what it prints."""
    english, chinese = ((REPOSITORY / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md"))
    assert "README.zh-CN.md" in english.split("\n## ")[0]
    assert "README.md" in chinese.split("\n## ")[0]
    assert re.findall("^#+ ", english, re.MULTILINE) == re.findall("^#+ ", chinese, re.MULTILINE)
    links = [sorted(re.findall(r"\]\(([^)]*)\)", text.partition("\n## ")[2])) for text in (english, chinese)]
    assert links[0] == links[1]
    commands = [sorted(re.findall(r"`((?:stowage|make|pip|bash|kubeadm) [^`]*)`", text)) for text in (english, chinese)]
    assert commands[0] == commands[1]
    for (kind, one), (other_kind, other) in zip(blocks(english), blocks(chinese), strict=True):
        assert kind == other_kind
        if kind in ("yaml", "diff"):
            assert one == other
        elif kind == "sh":
            assert [line.split("#")[0] for line in one.splitlines()] == [line.split("#")[0] for line in other.splitlines()]
    inventory = dict(blocks(chinese))["yaml"].replace("192.168.1.31/24", "192.168.1.26/24")
    printed = report.render("text", [compiler.check("inventory.yaml", inventory.encode())], color=False, language="zh_CN")
    shown = next(text for _, text in blocks(chinese) if text.startswith("$ stowage check")).partition("\n")[2]
    assert shown in printed
