"""
Safe remedies, applied to an inventory's text: comments, order and layout stay byte for byte where nothing is fixed.

A fix is an edit at the place that the loader knows, not a round trip through a YAML writer, which would lay out anew what nobody asked
for.  The edited text is read again, and counts only where its data is the former data with exactly these changes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path as FilePath
from typing import Any

from generator.diagnostics import Diagnostic, Fix, Path, dotted, has_errors
from generator.source import Source, is_secret, load
from generator.wording import said

# A fix may bring another to light, as a right key does a wrong value; more rounds than these nothing needs.
MAX_ROUNDS = 5
# Where all fixes of a round can't be applied together, this many are tried one by one.
_MAX_SINGLE = 40
_MAX_SINGLE_BYTES = 256 * 1024

_PLAIN = re.compile(r"(?!(?:true|false|null|-?[0-9]+)$)[A-Za-z0-9][A-Za-z0-9._/-]*")


class _UnfitError(Exception):
    """The text around the place is not what an edit is made for."""


def apply(read: Source, raw: bytes, found: Iterable[Diagnostic]) -> tuple[bytes, tuple[Diagnostic, ...]]:
    """*raw*, from which *read* was loaded, with the fixes of *found* applied, and the findings whose fixes these are; raises nothing."""
    wanted: dict[Path, Diagnostic] = {}
    for one in found:
        # What may be a password is left to people.
        if one.fix and not is_secret(one.path):
            wanted.setdefault(one.path, one)
    if not wanted:
        return raw, ()
    if any(one.fix == Fix("blanks") for one in wanted.values()):
        untabbed = _untabbed(read.name, raw.decode())
        return (untabbed.encode(), tuple(wanted.values())) if untabbed is not None else (raw, ())
    chosen = tuple(wanted.values())
    together = _edited(read, raw, chosen)
    if together is not None:
        return together, chosen
    done: tuple[Diagnostic, ...] = ()
    for one in chosen[:_MAX_SINGLE] if len(raw) < _MAX_SINGLE_BYTES else ():
        edited = _edited(read, raw, (*done, one))
        if edited is not None:
            together, done = edited, (*done, one)
    return together or raw, done


def described(one: Diagnostic) -> str:
    """What the fix of *one* did."""
    assert one.fix is not None
    if one.fix.action == "set":
        return said("wrote {value} for {key}", value=json.dumps(one.fix.to, ensure_ascii=False), key=dotted(one.path))
    if one.fix.action == "rename":
        return said("renamed {key} to {name}", key=dotted(one.path), name=one.fix.to)
    if one.fix.action == "quote":
        return said("quoted {key}", key=dotted(one.path))
    return said("removed {key}", key=dotted(one.path)) if one.fix.action == "remove" else said("wrote blanks for tabs")


def write(path: FilePath, raw: bytes) -> None:
    """*raw* in the place of the file at *path*, whole or not at all, with its mode; a link stays one.  Raises OSError."""
    target = path.resolve(strict=True)
    # A rename asks the directory alone: a file that is write-protected is meant to be.
    with target.open("r+b"):
        pass
    draft = target.with_name(f".{target.name}.stowage-new")
    draft.unlink(missing_ok=True)
    try:
        draft.touch(mode=0o600, exist_ok=False)
        draft.write_bytes(raw)
        shutil.copymode(target, draft)
        with suppress(PermissionError):
            os.chown(draft, target.stat().st_uid, target.stat().st_gid)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def _edited(read: Source, raw: bytes, chosen: Sequence[Diagnostic]) -> bytes | None:
    """*raw* with the fixes of *chosen*; None where its data would not be what it should."""
    text = raw.decode()
    mark = text[: text.startswith("\ufeff")]
    lines = text.removeprefix(mark).split("\n")
    data = json.loads(json.dumps(read.data))
    try:
        # From the end of the text: what stands before an edit keeps its place.
        for one in sorted(chosen, key=lambda one: _place(read, one), reverse=True):
            assert one.fix is not None
            _change(read, lines, data, one.path, one.fix)
    except _UnfitError:
        return None
    edited = (mark + "\n".join(lines)).encode()
    again, problems = load(read.name, edited)
    return edited if not has_errors(problems) and _same(again.data, data) else None


def _same(one: object, other: object) -> bool:
    """Equal, and of equal types: for Python 1 is true."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _place(read: Source, one: Diagnostic) -> tuple[int, int]:
    at = read.position(one.path, on_key=one.fix is not None and one.fix.action in ("rename", "remove"))
    return at.line, at.column


def _change(read: Source, lines: list[str], data: Any, path: Path, fix: Fix) -> None:
    """One fix, in *lines* and in *data*.  Raises :class:`_UnfitError` with *lines* as they were."""
    *above, last = path
    holder = data
    for part in above:
        holder = holder[part]
    if fix.action in ("rename", "remove") and (path not in read.keys or not isinstance(holder, dict)):
        raise _UnfitError
    if fix.action == "rename":
        if fix.to in holder:
            raise _UnfitError
        _replace(lines, read.keys[path], str(fix.to))
        holder[fix.to] = holder.pop(last)
    elif fix.action == "remove":
        if isinstance(holder[last], dict | list):
            raise _UnfitError
        del holder[last]
        _remove(read, lines, path, emptied=not holder)
    else:
        if path not in read.values or isinstance(holder[last], dict | list):
            raise _UnfitError
        row, column, length = read.values[path]
        written = lines[row][column : column + length]
        holder[last] = fix.to if fix.action == "set" else written
        _replace(lines, read.values[path], _scalar(holder[last]))


def _replace(lines: list[str], place: tuple[int, int, int], new: str) -> None:
    """*new* for the token at *place*, in the quotes that stand there."""
    row, column, length = place
    quote = lines[row][column : column + 1]
    if quote in ('"', "'") and _PLAIN.fullmatch(new):
        new = f"{quote}{new}{quote}"
    lines[row] = lines[row][:column] + new + lines[row][column + length :]


def _scalar(value: object) -> str:
    """*value* as YAML, in quotes where it must be."""
    return value if isinstance(value, str) and _PLAIN.fullmatch(value) else json.dumps(value, ensure_ascii=False)


def _remove(read: Source, lines: list[str], path: Path, *, emptied: bool) -> None:
    """Key and value at *path* go, with their comma or line; a comment beside them stays."""
    row, column, _ = read.keys[path]
    value_row, value_column, length = read.values[path]
    if value_row != row:
        raise _UnfitError
    line, end = lines[row], value_column + length
    holder_row, holder_column, _ = read.values[path[:-1]]
    if lines[holder_row][holder_column : holder_column + 1] == "{":
        _cut_entry(lines, row, column, end)
        return
    before, after = line[:column], line[end:].strip()
    if after and not after.startswith("#"):
        raise _UnfitError
    if emptied:
        _empty(read, lines, path[:-1], row)
    carriage = line[len(line.rstrip("\r")) :]
    following = lines[row + 1] if row + 1 < len(lines) else ""
    if after:
        lines[row] = before.rstrip(" ") + " " * (len(before) - len(before.rstrip(" "))) + after + carriage
    elif not before.strip():
        del lines[row]
    elif following[:column].strip() == "" and following[column : column + 1] not in ("", " ", "#", "-", "\r"):
        # The first key of a list's entry: the next one takes its place behind the dash.
        lines[row : row + 2] = [before + following[column:]]
    else:
        lines[row] = before.rstrip() + carriage


def _empty(read: Source, lines: list[str], path: Path, row: int) -> None:
    """The block mapping at *path* has lost its only key, in *row*: it becomes ``{}`` behind its own key."""
    if path not in read.keys:
        raise _UnfitError
    key_row, column, length = read.keys[path]
    colon = re.match(" *:", lines[key_row][column + length :])
    if key_row >= row or colon is None:
        raise _UnfitError
    at = column + length + colon.end()
    lines[key_row] = f"{lines[key_row][:at]} {{}}{lines[key_row][at:]}"


def _cut_entry(lines: list[str], row: int, start: int, end: int) -> None:
    """The entry from *start* to *end* of a mapping in braces goes, with the comma behind it, else with the one before."""
    line = lines[row]
    if comma := re.match(" *, *(?![ #])| *,", line[end:]):
        end += comma.end()
    elif comma := re.search(", *$", line[:start]):
        start = comma.start()
    if line[:start].endswith("{ ") and line[end:].startswith(" }"):
        end += 1
    lines[row] = line[:start] + line[end:]
    if not lines[row].strip():
        del lines[row]


def _untabbed(name: str, text: str) -> str | None:
    """*text* with blanks for tabs, where it says the same however wide a tab is: tabs then stand between values, not in them."""

    def spaced(indent: int, between: int) -> str:
        lines = []
        for line in text.split("\n"):
            body = line.lstrip(" \t")
            lines.append(line[: len(line) - len(body)].replace("\t", " " * indent) + body.replace("\t", " " * between))
        return "\n".join(lines)

    # Indentation: where only one width can be read, that one is meant.
    readings = [
        (indent, read) for indent in (2, 4, 8, 1) for read, problems in [load(name, spaced(indent, 1).encode())] if not has_errors(problems)
    ]
    if not readings or not all(_same(read.data, readings[0][1].data) for _, read in readings):
        return None
    indent, read = readings[0]
    wider, problems = load(name, spaced(indent, 3).encode())
    return spaced(indent, 1) if not has_errors(problems) and _same(wider.data, read.data) else None
