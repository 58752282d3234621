"""The text of an adopted inventory: a comment at each guess, and what could not be carried over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from generator import emit, validate
from generator.adopt.sheet import Draft
from generator.diagnostics import Path
from generator.model.cluster import FIRST_PRIORITY

_PASSWORD: Path = ("loadBalancer", "keepalived", "authPass")


def text(draft: Draft, names: Iterable[str]) -> str:
    """The inventory of *draft*, made from the files *names*; what is a default is left out, unless it was guessed."""
    data = _pruned(draft, draft.data, validate.schema(), ())
    lines = ["# Adopted by `stowage adopt`, from:", *(f"#   {_visible(name)}" for name in names)]
    lines.append("# What no file says is guessed, with a comment; correct it, then `stowage check`.")
    hosts = data.pop("hosts")
    given = [host["priority"] for host in hosts if "priority" in host]
    if given == list(range(FIRST_PRIORITY, FIRST_PRIORITY - len(given), -1)):
        # Those that the hosts get by their order.
        hosts = [{key: value for key, value in host.items() if key != "priority"} for host in hosts]
    lines += _block(draft, data, (), "")
    lines.append("hosts:")
    lines += [f"- {_flow(host)}{_host_comment(draft, index)}" for index, host in enumerate(hosts)]
    if draft.notes:
        lines.append("# Not carried over, or not as it was:")
        lines += [f"# - {_visible(note)}" for note in draft.notes]
    return "\n".join(lines) + "\n"


def _visible(note: str) -> str:
    """*note* on one line of visible characters."""
    return "".join(char if char.isprintable() else "?" for char in note)


def _pruned(draft: Draft, value: Any, node: dict[str, Any], path: Path) -> Any:
    """*value* in the schema's order, without defaults that nobody guessed."""
    node = validate.resolved(node)
    if path == ("cluster", "cni") and isinstance(value, dict):
        kept = _pruned(draft, value, validate.schema()["$defs"][value["name"]], (*path, value["name"]))
        return kept if len(kept) > 1 else value["name"]
    if isinstance(value, list) and "items" in node:
        return [_pruned(draft, item, node["items"], (*path, number)) for number, item in enumerate(value)]
    if not isinstance(value, dict) or "properties" not in node:
        return value
    out = {}
    for name, child in node["properties"].items():
        here = (*path, name)
        if name not in value:
            continue
        kept = _pruned(draft, value[name], child, here)
        default = validate.resolved(child).get("default", child.get("default"))
        engine = here in (("loadBalancer", "nginx"), ("loadBalancer", "ipvs"))
        if here in draft.guesses or engine or (kept != default and kept not in ({}, [])) or here[-1] == "taints":
            out[name] = kept
    return out


def _block(draft: Draft, data: Mapping[str, Any], path: Path, pad: str) -> Iterator[str]:
    """Mappings as blocks, all else in one line each."""
    for key, value in data.items():
        here = (*path, key)
        if isinstance(value, Mapping) and value and here != _PASSWORD:
            yield f"{pad}{emit.scalar(key)}:{_comment(draft, here)}"
            yield from _block(draft, value, here, f"{pad}  ")
        else:
            yield f"{pad}{emit.scalar(key)}: {_flow(_number(here, value))}{_comment(draft, here)}"
    # What could only be guessed wrong is left to a person.
    yield from (
        f"{pad}# {where[-1]}: {why}" for where, why in draft.guesses.items() if where[:-1] == path and where[-1] not in data and path
    )


def _number(path: Path, value: Any) -> Any:
    """An interval of whole seconds as a number, as people write it."""
    return int(value) if path[-1] == "advertInterval" and value.isdecimal() else value


def _comment(draft: Draft, path: Path) -> str:
    if path == _PASSWORD:
        return "  # the password goes into a file called vrrp, in the folder for `stowage bundle --secrets`"
    whys = dict.fromkeys(why for where, why in draft.guesses.items() if where[: len(path)] == path and _leaf(where, path))
    return f"  # guessed: {'; '.join(whys)}" if whys else ""


def _leaf(where: Path, path: Path) -> bool:
    """Whether a guess at *where* belongs to the line of *path*: itself, or an entry of its list."""
    return where == path or isinstance(where[len(path)], int)


def _host_comment(draft: Draft, index: int) -> str:
    whys: dict[str, list[str]] = {}
    for where, why in draft.guesses.items():
        if where[:2] == ("hosts", index) and str(where[2]) not in whys.setdefault(why, []):
            whys[why].append(str(where[2]))
    told = "; ".join(f"{', '.join(keys)} ({why})" for why, keys in whys.items())
    return f"  # guessed: {told}" if told else ""


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{emit.scalar(key)}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return emit.scalar(value)
