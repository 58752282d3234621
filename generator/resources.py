"""Finds the data folders ``schema`` and ``templates``: inside the package in a wheel, beside it in a checkout."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path


@cache
def tree(name: str) -> Traversable:
    """The data folder *name*; raises RuntimeError where the installation is broken."""
    packaged = files("generator") / name
    if packaged.is_dir():
        return packaged
    checkout = Path(__file__).resolve().parent.parent
    # Without this guard a broken wheel would read site-packages/schema, which may be somebody else's.
    if (checkout / "pyproject.toml").is_file():
        return checkout / name
    raise RuntimeError(f"stowage is installed without its folder {name}: install it again")


@cache
def text(path: str) -> str:
    """Text of the data file *path*, such as ``templates/scripts/lib.sh``; raises FileNotFoundError."""
    folder, _, rest = path.partition("/")
    return tree(folder).joinpath(*rest.split("/")).read_text(encoding="utf-8")


def names(folder: str) -> list[str]:
    """Sorted paths of the files right in *folder*, such as ``templates/scripts``."""
    top, _, rest = folder.partition("/")
    entries = tree(top).joinpath(*rest.split("/")) if rest else tree(top)
    return sorted(f"{folder}/{entry.name}" for entry in entries.iterdir() if entry.is_file())
