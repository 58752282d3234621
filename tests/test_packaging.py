"""What is shipped is what is in the repository, and it works wherever it lies: wheel, editable install, zip on the path, bare checkout.

Nothing is downloaded.  The wheel is built without isolation by the setuptools of this environment; the environments it is installed into see
this one's libraries through a .pth file, which is all that ``--system-site-packages`` would do, without what else lies in the system.
"""

from __future__ import annotations

import email
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import click
import pytest
from conftest import REPOSITORY

import generator
from generator.bundle import walk

LIBRARIES = Path(click.__file__).parents[1]
DATA = ("schema", "templates")
EXAMPLE = REPOSITORY / "inventories/example.yaml"


def run(*arguments: object, cwd: Path, **variables: str) -> str:
    """Standard output of a program; fails with all that it said."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd), "PYTHONDONTWRITEBYTECODE": "1", **variables}
    done = subprocess.run(list(map(str, arguments)), cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def repository_files() -> set[str]:
    """Everything of the three folders that git tracks or would take."""
    if (REPOSITORY / ".git").exists() and shutil.which("git"):
        listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "--", "generator", *DATA, cwd=REPOSITORY).splitlines()
        return {name for name in listed if (REPOSITORY / name).exists()}
    found = [f"{folder}/{path}" for folder in ("generator", *DATA) for path in walk(REPOSITORY / folder)]
    return {name for name in found if "__pycache__" not in name and not name.endswith(".pyc")}


def copy_of_the_repository(folder: Path) -> Path:
    """What a build needs, in *folder*: a build leaves traces."""
    for name in ("generator", *DATA, "inventories"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, folder)
    return folder


def virtual_environment(folder: Path) -> Path:
    """An empty one that sees this one's libraries, but not what is installed in it from somewhere else (a .pth in there isn't read)."""
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "libraries.pth").write_text(f"{LIBRARIES}\n")
    return folder


def install(environment: Path, *what: object) -> None:
    """Without an index, so without a network."""
    pip = (sys.executable, "-m", "pip", "--python", environment / "bin/python", "--disable-pip-version-check", "install")
    run(*pip, "--quiet", "--no-index", "--no-deps", "--ignore-installed", "--root-user-action", "ignore", *what, cwd=environment)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with the sdist and the wheel that was built from it."""
    pytest.importorskip("build")
    pytest.importorskip("setuptools")
    source = copy_of_the_repository(tmp_path_factory.mktemp("source"))
    dist = tmp_path_factory.mktemp("dist")
    # Somebody's editable install must not be taken for the thing that is built.
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, source, cwd=dist, SOURCE_DATE_EPOCH="1700000000")
    return dist


@pytest.fixture(scope="module")
def wheel(built):
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The example's bundle as the checkout compiles it."""
    out = tmp_path_factory.mktemp("checkout")
    run(sys.executable, "-m", "generator", "bundle", EXAMPLE, "-o", out, cwd=REPOSITORY)
    return contents(out / "example")


@pytest.fixture(scope="module")
def environment(tmp_path_factory, wheel):
    """A virtual environment with the wheel in it and nothing else of its own."""
    folder = virtual_environment(tmp_path_factory.mktemp("environment"))
    install(folder, wheel)
    return folder


def contents(root: Path) -> dict[str, tuple[bytes, bool]]:
    return {path: ((root / path).read_bytes(), bool((root / path).stat().st_mode & 0o100)) for path in walk(root)}


def test_the_wheel_holds_everything_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        wanted = {name if name.startswith("generator/") else f"generator/{name}": name for name in repository_files()}
        assert names == set(wanted)
        different = [name for name, source in wanted.items() if archive.read(name) != (REPOSITORY / source).read_bytes()]
    assert not different


def test_the_wheel_runs_on_any_machine(wheel):
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        told = email.message_from_bytes(archive.read(metadata))
        licences = [name for name in archive.namelist() if name.endswith("/LICENSE")]
    assert told["Name"] == "stowage"
    assert told["Version"] == generator.__version__
    assert told["License-Expression"] == "Apache-2.0"
    assert licences
    required = {line.split(">")[0].split("[")[0].lower() for line in told.get_all("Requires-Dist") if "extra ==" not in line}
    assert required == {"click", "crossplane", "cryptography", "jinja2", "jsonschema", "netaddr", "ruamel.yaml", "zstandard"}


def test_the_sdist_builds_by_itself(built):
    """The wheel was built from it, so all that the build needs is there; and no tree of somebody's machine."""
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "generator/cli/__init__.py", "schema/inventory.v1.schema.json"} <= names
    assert not {name for name in names if "__pycache__" in name or name.startswith(("out/", ".venv", ".git/"))}


def test_installed(environment, expected, tmp_path):
    """From another directory, with a name of its own on the path."""
    program = environment / "bin/stowage"
    assert run(program, "--version", cwd=tmp_path).split() == ["stowage,", "version", generator.__version__]
    where = run(environment / "bin/python", "-c", "import generator; print(generator.__file__)", cwd=tmp_path)
    assert where.startswith(str(environment))
    shutil.copy(EXAMPLE, tmp_path / "mine.yaml")
    run(program, "bundle", "mine.yaml", cwd=tmp_path)
    assert contents(tmp_path / "out/example") == expected
    assert run(program, "verify", "out/example", cwd=tmp_path) == "out/example: every file is as it was compiled\n"
    assert run(program, "schema", cwd=tmp_path) == (REPOSITORY / "schema/inventory.v1.schema.json").read_text()
    assert "NET0" in run(program, "rules", cwd=tmp_path)


def test_a_strange_folder_beside_it(environment, expected, tmp_path):
    """``schema`` and ``templates`` of somebody else, in the working directory and in site-packages, are not taken for ours."""
    (packages,) = environment.glob("lib/python*/site-packages")
    for folder in (tmp_path / "templates/nginx", packages / "schema", tmp_path / "generator"):
        folder.mkdir(parents=True)
    (tmp_path / "templates/nginx/nginx.conf.j2").write_text("not ours")
    (packages / "schema/inventory.v1.schema.json").write_text("{}")
    try:
        run(environment / "bin/stowage", "bundle", EXAMPLE, "-o", tmp_path / "out", cwd=tmp_path)
    finally:
        shutil.rmtree(packages / "schema")
    assert contents(tmp_path / "out/example") == expected


def test_a_zip_on_the_path(wheel, expected, tmp_path):
    """The wheel as it is, not unpacked: code, rules, components, templates and schema are found in it."""
    program = "import generator, sys; assert '.whl/' in generator.__file__, generator.__file__; from generator.cli import main; main()"
    run(
        sys.executable,
        "-I",
        "-c",
        f"import sys; sys.path[:0] = [{str(wheel)!r}, {str(LIBRARIES)!r}]; {program}",
        "bundle",
        EXAMPLE,
        "-o",
        tmp_path / "out",
        cwd=tmp_path,
    )
    assert contents(tmp_path / "out/example") == expected


def test_editable(expected, tmp_path):
    """As ``make bundle`` installs it."""
    pytest.importorskip("setuptools")
    source = copy_of_the_repository(tmp_path / "source")
    folder = virtual_environment(tmp_path / "environment")
    install(folder, "--no-build-isolation", "--editable", source)
    run(folder / "bin/stowage", "bundle", EXAMPLE, "-o", tmp_path / "out", cwd=tmp_path)
    assert contents(tmp_path / "out/example") == expected
    # It is the checkout that runs: a changed template is a changed bundle.
    template = source / "templates/nginx/nginx.conf.j2"
    template.write_text(f"{template.read_text()}# changed\n")
    assert "changed" in run(folder / "bin/stowage", "bundle", EXAMPLE, "-o", tmp_path / "out", cwd=tmp_path)


def test_a_broken_installation_says_so(wheel, tmp_path):
    """Without its data it is no stowage, whatever lies around."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    shutil.rmtree(tmp_path / "generator/schema")
    (tmp_path / "schema").mkdir()
    program = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(LIBRARIES)!r}]; from generator.cli import main; main()"
    done = subprocess.run([sys.executable, "-I", "-c", program, "check", str(EXAMPLE)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "stowage is installed without its folder schema" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_wheel_is_reproducible(wheel, tmp_path):
    """From another folder at another time, with SOURCE_DATE_EPOCH: the same bytes."""
    source = copy_of_the_repository(tmp_path / "elsewhere")
    run(
        sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path / "dist", source, cwd=tmp_path, SOURCE_DATE_EPOCH="1700000000"
    )
    (again,) = (tmp_path / "dist").glob("*.whl")
    assert again.read_bytes() == wheel.read_bytes()
