"""The committed bundles are what the compiler makes of their inventories: the same set of files, the same bytes, the same x bit.

``pytest tests/test_golden.py --update-golden`` writes them anew and says what changed.  What it writes is read in review like any other code.
"""

from __future__ import annotations

import difflib
import os
import shutil
import stat
from pathlib import Path

import pytest
from conftest import GOLDENS, REPOSITORY, checked, compiled

SHOWN = 60  # lines of a difference


def tree(root: Path) -> dict[str, Path]:
    """Every file below *root* by its relative path; links and other odd things count as files, what git ignores does not."""
    found = {}
    for folder, folders, names in os.walk(root):
        below = Path(folder).relative_to(root)
        if len(below.parts) == 2 and below.parts[0] == "hosts":
            folders[:] = [name for name in folders if name not in ("secrets", "payload")]
        for name in [*names, *(name for name in folders if (Path(folder) / name).is_symlink())]:
            found[(below / name).as_posix()] = Path(folder) / name
    return found


def executable(path: Path) -> bool:
    return bool(path.lstat().st_mode & stat.S_IXUSR)


def difference(name: str, committed: Path, made: Path) -> str:
    """What a reviewer would see, shortened."""
    if committed.is_symlink() or made.is_symlink():
        return f"{name}: a link"
    old, new = (path.read_text(encoding="utf-8", errors="backslashreplace").splitlines(keepends=True) for path in (committed, made))
    lines = list(difflib.unified_diff(old, new, f"committed/{name}", f"compiled/{name}"))
    if not lines:
        return f"{name}: the x bit is {'set' if executable(committed) else 'not set'}, it should be {'set' if executable(made) else 'not set'}\n"
    more = f"... and {len(lines) - SHOWN} more lines\n" if len(lines) > SHOWN else ""
    return "".join(lines[:SHOWN]) + more


def compare(committed: Path, made: Path) -> str:
    """An empty string, or everything that is wrong with the committed tree in one text, with the first difference in full."""
    old, new = tree(committed), tree(made)
    wrong = [
        name
        for name in sorted(old.keys() & new.keys())
        if old[name].is_symlink() or old[name].read_bytes() != new[name].read_bytes() or executable(old[name]) != executable(new[name])
    ]
    lines = [f"stale, the compiler doesn't make it: {name}" for name in sorted(old.keys() - new.keys())]
    lines += [f"missing: {name}" for name in sorted(new.keys() - old.keys())]
    lines += [f"different: {name}" for name in wrong]
    if not lines:
        return ""
    shown = "\n".join(lines[:40]) + (f"\n... and {len(lines) - 40} more" if len(lines) > 40 else "")
    first = f"\n\n{difference(wrong[0], old[wrong[0]], new[wrong[0]])}" if wrong else ""
    return f"{committed.relative_to(REPOSITORY) if committed.is_relative_to(REPOSITORY) else committed} is not what its inventory gives; if the change is meant: pytest tests/test_golden.py --update-golden\n{shown}{first}"


def test_golden(golden, bundle, request, capsys):
    committed = golden.parent / bundle.cluster.name
    if request.config.getoption("--update-golden"):
        why = compare(committed, bundle.path) if committed.exists() else "new\n"
        compiled(golden, golden.parent)
        if why:
            with capsys.disabled():
                print(f"\n{golden.name}: {why}")  # noqa: T201 - what changed, for whoever asked for it
    why = compare(committed, bundle.path) if committed.is_dir() else f"{committed} is missing: pytest tests/test_golden.py --update-golden"
    if why:
        pytest.fail(why, pytrace=False)


def test_no_stranger_beside_the_goldens():
    """A golden that was renamed leaves no bundle behind; ``out/`` holds what ``inventories/`` gives and nothing else."""
    for golden in GOLDENS:
        if golden.parent != REPOSITORY / "out":
            extra = {path.name for path in golden.parent.iterdir()} - {"inventory.yaml", checked(golden).cluster.name}
            assert not extra, f"{golden.parent}: {extra}"
    out = REPOSITORY / "out"
    if out.exists():
        wanted = {checked(golden).cluster.name for golden in GOLDENS if golden.parent == out}
        assert {path.name for path in out.iterdir() if not path.name.startswith(".")} == wanted


@pytest.mark.parametrize("mistake", ["stale", "missing", "bytes", "x bit", "link"])
def test_every_kind_of_difference_is_seen(mistake, all_bundles, tmp_path):
    made = all_bundles(GOLDENS[0]).path
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    assert compare(copy, made) == ""
    victim = copy / "hosts/master-1/host.env"
    if mistake == "stale":
        (copy / "hosts/master-1/left-over.conf").write_text("")
        wanted = "stale, the compiler doesn't make it: hosts/master-1/left-over.conf"
    elif mistake == "missing":
        victim.unlink()
        wanted = "missing: hosts/master-1/host.env"
    elif mistake == "bytes":
        victim.write_text(victim.read_text().replace("CLUSTER='example'", "CLUSTER='exampel'"))
        wanted = "-CLUSTER='exampel'\n+CLUSTER='example'\n"
    elif mistake == "x bit":
        victim.chmod(0o755)
        wanted = "the x bit is set, it should be not set"
    else:
        victim.unlink()
        victim.symlink_to(made / "hosts/master-1/host.env")
        wanted = "different: hosts/master-1/host.env"
    assert wanted in compare(copy, made)


def test_other_mode_bits_do_not_count(all_bundles, tmp_path):
    """A checkout's modes are 664 or 600 by umask."""
    made = all_bundles(GOLDENS[0]).path
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    for path in copy.rglob("*"):
        if path.is_file():
            path.chmod(0o775 if executable(path) else 0o600)
    assert compare(copy, made) == ""


def test_update_golden_writes_what_is_compared(all_bundles, tmp_path):
    golden = GOLDENS[0]
    compiled(golden, tmp_path)
    assert compare(tmp_path / checked(golden).cluster.name, all_bundles(golden).path) == ""
    (tmp_path / "example/hosts/master-1/left-over.conf").write_text("")
    (tmp_path / "example/hosts/master-1/host.env").write_text("")
    compiled(golden, tmp_path)
    assert compare(tmp_path / "example", all_bundles(golden).path) == ""
