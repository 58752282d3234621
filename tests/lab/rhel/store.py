# ruff: noqa: T201 (a command prints)
"""What the stand-ins keep on a RHEL-like host of the lab, below /var/lib/lab-rhel, and what they share."""

from __future__ import annotations

import fcntl
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(os.environ.get("LAB_RHEL_ROOT", "/"))  # another one only in tests of the stand-ins themselves
STATE = ROOT / "var/lib/lab-rhel"
RUN = ROOT / "run/lab-rhel"
UNKNOWN = 97


def stop(message: str, status: int = 1) -> NoReturn:
    """Ends the command with *message* on standard error."""
    print(message, file=sys.stderr)
    sys.exit(status)


def unknown(*words: str) -> NoReturn:
    """The scripts use a form that the stand-in doesn't know: that is a gap of the lab, and told as such."""
    said = f"lab stand-in: not stood in for: {' '.join(words)}"
    STATE.mkdir(parents=True, exist_ok=True)
    with (STATE / "unknown").open("a") as file:
        file.write(said + "\n")
    stop(said, UNKNOWN)


def read(name: str, default: Any, folder: Path = STATE) -> Any:
    """A document of the state."""
    path = folder / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else default


def write(name: str, value: Any, folder: Path = STATE) -> None:
    """Writes a document of the state, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    new = folder / f".{name}.new"
    new.write_text(json.dumps(value, indent=1))
    new.replace(folder / f"{name}.json")


def note(name: str, line: str) -> None:
    """Adds a line to a journal of the state, for tests to read."""
    STATE.mkdir(parents=True, exist_ok=True)
    with (STATE / name).open("a") as file:
        file.write(line + "\n")


@contextmanager
def alone() -> Iterator[None]:
    """One stand-in at a time changes the state."""
    STATE.mkdir(parents=True, exist_ok=True)
    with (STATE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def vercmp(this: str, that: str) -> int:
    """The order of two versions (or releases) as rpm has it: -1, 0 or 1."""
    parts = [re.findall(r"\d+|[A-Za-z]+|~|\^", version) for version in (this, that)]
    for left, right in zip_longest(*parts):
        if left == right:
            continue
        if "~" in (left, right):  # older than anything, even than nothing
            return -1 if left == "~" else 1
        if left is None or right is None:
            return -1 if left is None else 1
        if "^" in (left, right):  # newer than nothing, older than anything
            return -1 if left == "^" else 1
        if left.isdigit() != right.isdigit():
            return 1 if left.isdigit() else -1
        if left.isdigit() and int(left) == int(right):
            continue
        return 1 if ((int(left) > int(right)) if left.isdigit() else (left > right)) else -1
    return 0


def evr(package: dict[str, Any]) -> tuple[str, str, str]:
    """Epoch, version, release."""
    return str(package["epoch"] or 0), package["version"], package["release"]


def compare(this: tuple[str, str, str], that: tuple[str, str, str]) -> int:
    """The order of two (epoch, version, release); an empty release of a requirement is any."""
    for left, right in zip(this, that, strict=True):
        order = vercmp(left, right) if left and right else 0
        if order:
            return order
    return 0


def nevra(package: dict[str, Any], *, epoch: bool = True) -> str:
    """``nginx-core-1:1.22.1-1.el9.x86_64``; without epoch as ``rpm -q`` prints it."""
    shown = f"{package['epoch']}:" if epoch and package["epoch"] else ""
    return f"{package['name']}-{shown}{package['version']}-{package['release']}.{package['arch']}"


def capabilities(package: dict[str, Any]) -> list[tuple[str, tuple[str, str, str] | None]]:
    """All that a package provides, with versions where it says so: its name, its provides, its files."""
    found: list[tuple[str, tuple[str, str, str] | None]] = [(package["name"], evr(package))]
    found += [split(text)[::2] for text in package["provides"]]
    found += [(path, None) for path in package["files"]]
    return found


def split(text: str) -> tuple[str, str, tuple[str, str, str] | None]:
    """``iptables >= 1.4.21`` as name, operator and (epoch, version, release)."""
    name, _, rest = text.partition(" ")
    if not rest:
        return name, "", None
    operator, _, version = rest.partition(" ")
    epoch, colon, version = version.rpartition(":")
    version, _, release = version.partition("-")
    return name, operator, (epoch if colon else "0", version, release)


def satisfied(requirement: str, packages: list[dict[str, Any]]) -> bool:
    """Whether one of *packages* provides it. ``a or b`` is rpm's rich dependency in the one form that is met."""
    if " or " in requirement:
        return any(satisfied(one.strip(" ()"), packages) for one in requirement.split(" or "))
    name, operator, wanted = split(requirement)
    for package in packages:
        for provided, version in capabilities(package):
            if provided != name:
                continue
            if wanted is None or version is None:
                return True
            order = compare(version, wanted)
            if (order < 0 and "<" in operator) or (order > 0 and ">" in operator) or (order == 0 and "=" in operator):
                return True
    return False
