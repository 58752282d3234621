"""Data to text: YAML, JSON, shell assignments and tab separated rows; never a template.

YAML for Kubernetes is read by parsers of both dialects: YAML 1.1 and Go's own take ``yes``, ``on``, ``0755`` or ``10:20`` for something
else than the string they are, and coerce them into typed fields without a word.  So a string stands plain only where every dialect reads
the same string, and in double quotes otherwise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from generator.quoting import shell

_COMPACT = json.JSONEncoder(ensure_ascii=False, separators=(", ", ": "))
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./@-]*(?: [A-Za-z0-9_./@-]+)*")
# Booleans and nulls of YAML 1.1, 1.2 and goyaml, in any case.
_WORDS = frozenset(("y", "n", "yes", "no", "on", "off", "true", "false", "null", "nil", "nan", "inf", "infinity", "none"))


def yaml(data: Any) -> str:
    """One YAML document of plain data, insertion order kept; raises TypeError for anything but dict, list, tuple, str, int, bool, None."""
    lines: list[str] = []
    _append(lines, data, 0)
    return "".join(lines)


def yaml_documents(documents: Iterable[Any]) -> str:
    """Several documents, each after its ``---`` line."""
    return "".join(f"---\n{yaml(document)}" for document in documents)


def _append(lines: list[str], data: Any, depth: int) -> None:
    pad = "  " * depth
    if isinstance(data, Mapping) and data:
        for key, value in data.items():
            _append_entry(lines, f"{pad}{scalar(str(key))}:", value, depth)
    elif isinstance(data, list | tuple) and data:
        for item in data:
            if isinstance(item, Mapping) and item:
                first = len(lines)
                _append(lines, item, depth + 1)
                lines[first] = f"{pad}- {lines[first].lstrip()}"
            else:
                _append_entry(lines, f"{pad}-", item, depth)
    else:
        lines.append(f"{pad}{scalar(data)}\n")


def _append_entry(lines: list[str], head: str, value: Any, depth: int) -> None:
    if isinstance(value, str) and "\n" in value and _is_block(value):
        lines.append(f"{head} |\n")
        lines += (f"{'  ' * (depth + 1)}{text}\n" if text else "\n" for text in value.removesuffix("\n").split("\n"))
    elif not isinstance(value, str) and isinstance(value, Mapping | list | tuple) and value:
        lines.append(f"{head}\n")
        # A sequence in a mapping stands at the mapping's own indentation, as kubectl prints it.
        _append(lines, value, depth if isinstance(value, list | tuple) and not head.endswith("-") else depth + 1)
    else:
        lines.append(f"{head} {scalar(value)}\n")


def _is_block(text: str) -> bool:
    """Whether *text* may be a literal block: visible lines without blanks at their ends, one newline at the end."""
    lines = text.split("\n")
    return (
        len(lines) > 1
        and lines[-1] == ""
        and lines[-2] != ""
        and lines[0] != ""
        and not lines[0].startswith(" ")
        and all(part.isprintable() and part == part.rstrip() for part in lines)
    )


def scalar(value: Any) -> str:
    """One YAML scalar (or an empty collection), plain where every dialect reads the same, else in double quotes."""
    if isinstance(value, str):
        return _quoted(value)
    if value is None or isinstance(value, bool | int):
        return json.dumps(value)
    if isinstance(value, Mapping | list | tuple) and not value:
        return "{}" if isinstance(value, Mapping) else "[]"
    raise TypeError(f"{type(value).__name__} can't be emitted as YAML")


@lru_cache(maxsize=4096)
def _quoted(value: str) -> str:
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    # JSON's escapes are YAML's; but not its pairs of surrogates, so what a reader might not take is escaped as one code point.
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else "".join(c if c.isprintable() else f"\\U{ord(c):08X}" for c in text)


def compact_json(data: Any) -> str:
    """JSON on one line, keys in their order."""
    return _COMPACT.encode(data)


def indented_json(data: Any) -> str:
    """JSON for people, with a newline at its end."""
    return json.dumps(data, ensure_ascii=False, indent=2) + "\n"


def environment(values: Mapping[str, str]) -> str:
    """Shell assignments, one a line, every value in single quotes; raises ValueError for a value with a line break."""
    return "".join(f"{name}={shell(value)}\n" for name, value in values.items())


def tsv(header: str, rows: Iterable[Iterable[str]]) -> str:
    """Tab separated rows after a header line; raises ValueError where a field is empty or holds a tab or a line break."""
    out = [f"#{header}\n"]
    for row in rows:
        fields = list(row)
        if any(not field or re.search(r"[\t\n\r]", field) for field in fields):
            raise ValueError(f"a row can't hold {fields}")
        out.append("\t".join(fields) + "\n")
    return "".join(out)
