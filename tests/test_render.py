"""The templates and the strict environment: every print names its quoting, nothing undefined, empty or boolean reaches an output."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

import pytest
from conftest import REPOSITORY
from jinja2 import TemplateAssertionError, UndefinedError, nodes

from generator import quoting, render, resources

TEMPLATES = sorted((REPOSITORY / "templates").rglob("*.j2"))
FILTERS = {"shell", "shell_word", "nginx", "keepalived", "systemd", "toml", "line", "markdown"}

# Which quoting a folder's templates may use; ``line`` is for comments and for files that know no quoting.
SYNTAX = {
    "nginx": {"nginx", "line"},
    "keepalived": {"keepalived", "line"},
    "systemd": {"systemd", "line"},
    "runtime": {"toml", "systemd", "line"},
    "host": {"line"},
    "hosts": {"line"},
    "starter": {"yaml", "line"},
    "runbook": {"markdown", "shell", "shell_word", "line"},
}


def name_of(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def prints(source: str) -> list[tuple[int, str]]:
    """Line and outermost filter of every ``{{ }}`` in a template; an empty name where there is none."""
    outputs = render._environment().parse(source).find_all(nodes.Output)
    printed = (node for output in outputs for node in output.nodes if not isinstance(node, nodes.TemplateData))
    return [(node.lineno, node.name if isinstance(node, nodes.Filter) else "") for node in printed]


@pytest.mark.parametrize("path", TEMPLATES, ids=name_of)
def test_every_print_ends_in_a_quoting_filter_of_its_syntax(path):
    allowed = SYNTAX[path.parent.name]
    wrong = [f"{name_of(path)}:{line}: | {name or 'nothing'}" for line, name in prints(path.read_text()) if name not in allowed]
    assert not wrong


def test_the_walk_sees_a_print_without_one():
    assert prints("a {{ b }}\n{% if c %}{{ d | shell }}{% endif %}\n{{ e | shell | upper }}{{ f ~ (g | shell) }}{{ h if i else (j | shell) }}") == [
        (1, ""), (2, "shell"), (3, "upper"), (3, ""), (3, ""),
    ]  # fmt: skip


def test_there_is_a_filter_for_each_quoting_function():
    own = {
        name
        for name, value in vars(quoting).items()
        if callable(value) and not name.startswith("_") and value.__module__ == quoting.__name__
    }
    assert own == FILTERS
    assert not FILTERS - render._environment().filters.keys()


def test_no_filter_swallows_a_mistake():
    environment = render._environment()
    assert not {"default", "d"} & environment.filters.keys()
    for path in TEMPLATES:
        assert not re.search(r"\|\s*(default|d|safe|string|join|replace|tojson|format)\b|\bis\s+(not\s+)?defined\b", path.read_text()), (
            name_of(path)
        )


@pytest.mark.parametrize("path", TEMPLATES, ids=name_of)
def test_templates_hold_loops_and_conditions_only(path):
    allowed = (
        nodes.Template,
        nodes.Output,
        nodes.TemplateData,
        nodes.For,
        nodes.If,
        nodes.Name,
        nodes.Getattr,
        nodes.Filter,
        nodes.Tuple,
        nodes.Compare,
        nodes.Operand,
        nodes.Const,
        nodes.Not,
        nodes.And,
        nodes.Or,
    )
    tree = render._environment().parse(path.read_text())
    assert not {type(node).__name__ for node in tree.find_all(nodes.Node) if not isinstance(node, allowed)}


def test_only_templates_are_templates():
    """A static file is never rendered, so it holds no template syntax; a template without any needn't be one."""
    for path in sorted((REPOSITORY / "templates").rglob("*")):
        if path.is_file():
            has = re.search(r"\{\{ |\{% ", path.read_text()) is not None
            assert has is (path.suffix == ".j2"), name_of(path)


def test_every_data_file_is_used():
    """Nothing stands in templates/ that no module names: a forgotten file would be reviewed for nothing."""
    code = "".join(path.read_text() for path in (REPOSITORY / "generator").rglob("*.py"))
    for path in sorted((REPOSITORY / "templates").rglob("*")):
        if path.is_file() and "scripts" not in path.parts:
            name = re.sub(r"containerd-[23]", "containerd-{generation}", name_of(path))
            assert name in code, f"{name} is named nowhere"


@pytest.fixture
def template(monkeypatch):
    """A function that renders a text as templates/test/NUMBER.j2."""
    texts: dict[str, str] = {}
    real = resources.text
    monkeypatch.setattr(resources, "text", lambda name: texts[name] if name in texts else real(name))

    def rendered(source: str, **view):
        name = f"templates/test/{abs(hash(source))}.j2"
        texts[name] = source
        return render.render(name, view)

    return rendered


@pytest.mark.parametrize(
    ("source", "view", "error"),
    [
        ("one\n{{ a | line }}\n", {}, UndefinedError),
        ("one\n{{ a.b | line }}\n", {"a": {}}, UndefinedError),
        ("one\n{% if a.b %}x{% endif %}\n", {"a": {}}, UndefinedError),
        ("one\n{% for x in a %}x{% endfor %}\n", {}, UndefinedError),
        ("one\n{{ a | line }}\n", {"a": None}, TypeError),
        ("one\n{{ a | line }}\n", {"a": True}, TypeError),
        ("one\n{{ a | line }}\n", {"a": False}, TypeError),
        ("one\n{{ a }}\n", {"a": None}, TypeError),
        ("one\n{{ a }}\n", {"a": True}, TypeError),
        ("one\n{{ a | line }}\n", {"a": "x\ny"}, ValueError),
        ("one\n{{ a | nginx }}\n", {"a": "$x"}, ValueError),
        ("one\n{{ a | keepalived }}\n", {"a": "}"}, ValueError),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_mistake_raises_with_the_template_and_its_line(template, source, view, error):
    with pytest.raises(error) as caught:
        template(source, **view)
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(caught.tb)]
    assert any(name.startswith("templates/test/") and line == 2 for name, line in frames), frames


@pytest.mark.parametrize("name", ["default", "d", "no_such_filter"])
def test_an_unknown_filter_is_an_error_when_it_is_compiled(template, name):
    with pytest.raises(TemplateAssertionError, match="No filter named") as caught:
        template(f"one\n{{{{ a | {name}('x') }}}}\n")
    assert caught.value.lineno == 2
    assert caught.value.name.startswith("templates/test/")


def test_numbers_and_blocks(template):
    assert template("{% if a %}\nx {{ b | line }}\n{% endif %}\ny\n", a=1, b=5) == "x 5\ny\n"
    assert template("{{ a | shell }}\n", a="it's") == "'it'\\''s'\n"
    assert template("no newline is added", a=1) == "no newline is added"


def test_nothing_is_escaped_as_html(template):
    assert template("{{ a | toml }}", a="<&>") == '"<&>"'


def test_every_rendered_golden_file_is_whole(bundle):
    """No leftover of a template, one newline at the end of every text file."""
    for path in sorted(bundle.path.rglob("*")):
        if path.is_file() and path.stat().st_size:
            text = path.read_text()
            assert text.endswith("\n"), path
            assert not re.search(r"\{\{ |\{% |\bNone\b(?!,)|\bUndefined\b", text) or path.suffix in (".sh", ".md", ".yaml"), path
            assert "\r" not in text, path
