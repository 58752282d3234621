"""The rules that hold the house together (docs/architecture.md), read from the source: who may import whom, who may touch the world."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
from conftest import REPOSITORY

GENERATOR = REPOSITORY / "generator"
MODULES = sorted(GENERATOR.rglob("*.py"))

# A module imports only what stands before it.
ORDER = (
    "generator", "wording", "diagnostics", "versions", "steps", "quoting", "emit", "resources", "messages", "render", "source", "spelling", "validate", "fixes", "handwritten", "model",
    "lint", "adopt", "artifacts", "swap", "bundle", "verify", "payload", "sbom", "pack", "signature", "attestation", "closure", "review", "report", "secrets", "keys",
    "compiler", "starter", "cli", "__main__",
)  # fmt: skip

# Only these may open a file to write it, make a directory, link, rename or remove.
WRITERS = ("swap", "bundle", "payload", "pack", "signature", "keys", "fixes", "starter")

# What the modules of a package share, each in one module of it.
SHARED = {"generator.lint.places"}

WORLD = {
    "asyncio", "concurrent", "datetime", "getpass", "http", "locale", "multiprocessing", "platform", "pwd", "random", "secrets", "signal", "socket",
    "ssl", "subprocess", "tempfile", "threading", "time", "urllib.request", "uuid",
}  # fmt: skip
# The time that something takes, and the machine, may be known by the command line alone.
OF_THE_WORLD = {
    "os.environ",
    "os.getenv",
    "os.environb",
    "os.getcwd",
    "os.urandom",
    "os.uname",
    "os.getpid",
    "os.times",
    "os.system",
    "os.popen",
    "Path.cwd",
    "Path.home",
}
BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "base", "core"}


def name_of(path: Path) -> str:
    """``generator.lint.hosts``."""
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer(name: str) -> str:
    """``lint`` for ``generator.lint.hosts``; ``generator`` for the package itself."""
    return [*name.split("."), ""][1] or "generator"


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imports(path: Path) -> set[str]:
    """Every module that *path* imports when it runs, wherever the statement stands; names of ours as modules."""
    found: set[str] = set()
    queue: list[ast.AST] = [tree(path)]
    while queue:
        node = queue.pop()
        if for_types(node):
            continue
        queue += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            assert node.module is not None
            known = {f"{node.module}.{alias.name}" for alias in node.names} & {name_of(module) for module in MODULES}
            found |= known or {node.module}
    return found


def calls(path: Path) -> set[str]:
    """Every dotted name that is used, such as ``os.environ``."""
    return {ast.unparse(node) for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute)}


each_module = pytest.mark.parametrize("path", MODULES, ids=name_of)


@each_module
def test_imports_point_down(path):
    own = name_of(path)
    assert layer(own) in ORDER, f"{own} has no place in the order of design.md, section 6"
    for imported in imports(path):
        if imported.split(".")[0] == "generator" and layer(imported) != layer(own):
            assert ORDER.index(layer(imported)) < ORDER.index(layer(own)), f"{own} imports {imported}, which stands above it"


@each_module
def test_neighbours_are_strangers(path):
    """Components never import each other, nor do the rules of two topics; what two share is the model's, or stands in one named module."""
    own = name_of(path).split(".")
    if len(own) < 3 or own[1] not in ("artifacts", "lint", "report"):
        return
    for imported in imports(path):
        other = imported.split(".")
        if other[:2] == own[:2] and len(other) > 2 and imported not in SHARED:
            assert other[2] == own[2], f"{name_of(path)} imports its neighbour {imported}"


@each_module
def test_only_the_command_line_knows_click(path):
    if layer(name_of(path)) != "cli":
        assert not any(name.split(".")[0] == "click" for name in imports(path))


@each_module
def test_only_the_command_line_knows_the_world(path):
    """No clock, chance, environment, network or other program: what is compiled depends on what is passed in."""
    if layer(name_of(path)) == "cli":
        return
    assert not {name for name in imports(path) if name in WORLD or name.split(".")[0] in WORLD}
    assert not calls(path) & OF_THE_WORLD


@each_module
def test_only_writers_write(path):
    if layer(name_of(path)) in WRITERS:
        return
    used = {name.rpartition(".")[2] for name in calls(path)}
    writing = {
        "write_text", "write_bytes", "mkdir", "makedirs", "touch", "unlink", "rmdir", "rename", "symlink_to", "hardlink_to", "link", "symlink", "chmod",
        "rmtree", "copyfile", "copytree", "copy2", "move", "chown", "truncate", "mkfifo", "mknod", "remove", "removedirs", "utime",
    }  # fmt: skip
    assert not used & writing
    opened = [
        node
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in ("open", "fdopen")
    ]
    assert all(isinstance(mode := (call.args or [None])[-1], ast.Constant) and mode.value in ("r", "rb") for call in opened), path


def test_the_command_line_writes_one_kind_of_file():
    """``new`` makes a file that isn't there yet; all else goes through the bundle."""
    text = "".join(path.read_text() for path in sorted((GENERATOR / "cli").glob("*.py")))
    modes = [
        ast.unparse(node)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".open") and node.args
    ]
    assert {re.sub(r"^.*?\.open\('(\w+)'.*$", r"\1", mode) for mode in modes} <= {"rb", "x"}


@each_module
def test_modules_are_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) < 400


@each_module
def test_names_say_something(path):
    assert path.stem not in BANNED_NAMES
    assert path.parent.name not in BANNED_NAMES


@each_module
def test_public_things_are_described(path):
    """Every public function, class and module; a method where it says more than its name."""
    module = tree(path)
    assert ast.get_docstring(module), f"{path}: the module"
    public = [node for node in module.body if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")]
    missing = [node.name for node in public if not ast.get_docstring(node)]
    assert not missing


@pytest.mark.parametrize("path", sorted((REPOSITORY / "schema").rglob("*.json")), ids=lambda path: path.name)
def test_schema_needs_no_network(path):
    schema = json.loads(path.read_text(encoding="utf-8"))
    found: list[str] = []

    def walk(node: object) -> None:
        if isinstance(node, dict):
            found.extend(value for key, value in node.items() if key in ("$ref", "$dynamicRef") and isinstance(value, str))
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(schema)
    for reference in found:
        assert reference.startswith("#/$defs/"), reference
        assert reference.removeprefix("#/$defs/") in schema["$defs"], reference
    unused = set(schema["$defs"]) - {reference.removeprefix("#/$defs/") for reference in found}
    # Those that validate.complete names by itself.
    text = (GENERATOR / "validate.py").read_text()
    assert not {name for name in unused if f'"{name}"' not in text}


def test_every_module_is_packaged():
    """A package that pyproject.toml doesn't name is silently absent from the wheel."""
    import tomllib

    setup = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = {name_of(path.parent / "__init__.py") for path in MODULES}
    assert packages | {"generator.schema", "generator.templates"} == set(setup["packages"])


def test_templates_belong_to_somebody():
    """No template that nothing loads; what a folder is listed for (the scripts) is not looked at."""
    text = "".join(path.read_text(encoding="utf-8") for path in MODULES)
    templates = REPOSITORY / "templates"
    orphans = []
    for path in templates.rglob("*"):
        name = f"templates/{path.relative_to(templates).as_posix()}"
        if path.is_file() and not name.startswith("templates/scripts/"):
            pattern = re.sub(r"[0-9]+", r"(?:[0-9]+|\\{[^}]*\\})", re.escape(name))
            if not re.search(f"[\"']{pattern}[\"']", text):
                orphans.append(name)
    assert not orphans
