"""What the walk yields: uses, which stand in a text, verdicts on them, and needs, which are all uses of one thing with one verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["image", "package", "url", "file", "command"]
Status = Literal["provided", "wanted", "optional", "missing"]

KINDS: tuple[Kind, ...] = ("image", "package", "url", "file", "command")


@dataclass(frozen=True, slots=True)
class Use:
    """
    *name* is used in the file at *path* (relative to the folder of the host, or of the cluster), at *line* and *column*, from 1.

    *guarded*: the text asks first whether it is there.  *group*: who uses it, where not every host that has the file does.
    """

    kind: Kind
    name: str
    path: str
    line: int = 1
    column: int = 1
    guarded: bool = False
    group: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    Whether a use is *provided*, and *by* what.

    *wanted* is what only a payload can bring that isn't there yet; *optional* what the text does without; *missing* is an error, and
    *remedy* says what to do about it.
    """

    status: Status
    by: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Need:
    """One thing that *hosts* need, with one verdict; *path*, *line* and *column* are where it is used first, *path* from the bundle on."""

    kind: Kind
    name: str
    verdict: Verdict
    path: str
    line: int
    column: int
    hosts: tuple[str, ...]


def provided(by: str) -> Verdict:
    """It is there."""
    return Verdict("provided", by)


def missing(by: str, remedy: str) -> Verdict:
    """Nothing provides it."""
    return Verdict("missing", by, remedy)
