"""Plain data against the JSON Schema (SCH findings), and the defaults that stand there and nowhere else."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any

from generator import resources, spelling
from generator.diagnostics import Diagnostic, Path, dotted
from generator.source import is_secret, masked
from generator.wording import conjoined, said

if TYPE_CHECKING:
    from jsonschema import FormatChecker

    # jsonschema's own class: its attributes are typed as unset or anything, which says nothing here.
    ValidationError = Any

# More than these say nothing new: the file is not an inventory.
MAX_FINDINGS = 500

SCHEMA = "schema/inventory.v1.schema.json"

_IPV4 = r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])(?:\.(?!$)|(?=$|/))){4}"
_ADDRESS = re.compile(rf"{_IPV4}|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")
_PREFIXED = re.compile(rf"(?:{_IPV4}/(?:3[0-2]|[12]?[0-9]))|(?:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*/(?:12[0-8]|1[01][0-9]|[1-9]?[0-9]))")


@cache
def schema() -> dict[str, Any]:
    """The inventory's JSON Schema as data; not to be changed by callers."""
    data: dict[str, Any] = json.loads(resources.text(SCHEMA))
    return data


def run(data: Any) -> list[Diagnostic]:
    """In which ways *data* is not an inventory, at most ``MAX_FINDINGS`` of them; raises nothing for any plain data."""
    from jsonschema import Draft202012Validator

    validator = Draft202012Validator(schema(), format_checker=_formats())
    return list(islice((d for error in validator.iter_errors(data) for d in _explain(error)), MAX_FINDINGS))


@cache
def _formats() -> FormatChecker:
    """Our own format names; a plain ``format: ipv4`` would take what netaddr and kubeadm don't."""
    from jsonschema import FormatChecker
    from netaddr import AddrFormatError, IPAddress, IPNetwork

    def parses(kind: type, text: str) -> bool:
        try:
            kind(text)
        except (AddrFormatError, ValueError):
            return False
        return True

    def address(value: object) -> bool:
        return not isinstance(value, str) or (_ADDRESS.fullmatch(value) is not None and parses(IPAddress, value))

    def prefixed(value: object) -> bool:
        return not isinstance(value, str) or (_PREFIXED.fullmatch(value) is not None and parses(IPNetwork, value))

    def networks(value: object) -> bool:
        return not isinstance(value, str) or (len(parts := value.split(",")) <= 2 and all(prefixed(part) for part in parts))

    checker = FormatChecker(formats=())
    for name, check in {"ip-address": address, "ip-interface": prefixed, "ip-network": prefixed, "ip-networks": networks}.items():
        checker.checks(name)(check)
    return checker


def _explain(error: ValidationError) -> Iterator[Diagnostic]:
    """One jsonschema error as findings that name what is wrong and what would be right."""
    path: Path = tuple(error.absolute_path)
    keyword, expected = error.validator, error.validator_value
    if keyword == "oneOf":
        yield from _best_branch(error)
    elif keyword == "additionalProperties" and expected is False:
        known = sorted(error.schema.get("properties", {}))
        meant = {name: spelling.key(name, (k for k in known if k not in error.instance)) for name in error.instance if name not in known}
        claimed = Counter(meant.values())
        for name in error.instance:
            if name not in known:
                message = said("unknown key {key}", key=dotted((*path, name)))
                # Of two that mean one key, somebody must choose.
                fix = meant[name] if claimed[meant[name]] == 1 else None
                yield Diagnostic("SCH001", "error", message, (*path, name), _nearest(name, known), on_key=True, fix=fix)
    elif keyword == "required":
        for name in expected:
            if name not in error.instance:
                message = said("{key} is missing", key=dotted((*path, name)))
                remedy = said("add `{name}:` ({what})", name=name, what=said(summary(error.schema["properties"][name])))
                yield Diagnostic("SCH002", "error", message, path, remedy, on_key=True)
    elif keyword == "propertyNames" or "propertyNames" in error.absolute_schema_path:
        message = said("{name!r} can't be a key of {key}", name=error.instance, key=dotted(path))
        yield Diagnostic("SCH007", "error", message, path, said("a key here matches {pattern}", pattern=expected), on_key=True)
    else:
        yield _wrong_value(error, path)


def summary(node: dict[str, Any]) -> str:
    """The first sentence of what the schema's *node* says of itself."""
    text: str = node.get("description", "").partition(". ")[0].rstrip(".")
    return text


def _wrong_value(error: ValidationError, path: Path) -> Diagnostic:
    name = dotted(path) or said("the document")
    hidden = is_secret(path) or isinstance(error.instance, dict | list)
    shown = said("its value") if hidden else masked(json.dumps(error.instance, ensure_ascii=False))
    keyword, expected, wanted = str(error.validator), error.validator_value, said(error.schema.get("x-expected", ""))
    refused = said("{name} can't be {shown}", name=name, shown=shown)
    if keyword == "type":
        kinds = conjoined([_KINDS[kind] for kind in ([expected] if isinstance(expected, str) else expected)], "{first} or {last}")
        message = said("{name} is {kind}", name=name, kind=_KINDS[_kind(error.instance)])
        remedy = said("write {wanted}", wanted=wanted or kinds)
        if "string" in str(expected) and isinstance(error.instance, int):
            remedy = said('write {wanted}; quote it: "{value}"', wanted=wanted or kinds, value=error.instance)
        fix = spelling.kind(error.instance, [expected] if isinstance(expected, str) else expected, error.schema.get("pattern", ""))
        return Diagnostic("SCH003", "error", message, path, remedy, fix=fix)
    if keyword in ("enum", "const"):
        allowed = [str(v) for v in (expected if isinstance(expected, list) else [expected])]
        fix = spelling.choice(error.instance, allowed)
        return Diagnostic("SCH004", "error", refused, path, _nearest(str(error.instance), allowed), fix=fix)
    if keyword in ("pattern", "format"):
        wanted = wanted or said("text that matches {pattern}", pattern=expected)
        fix = spelling.form(error.instance, expected) if keyword == "pattern" else None
        return Diagnostic("SCH005", "error", refused, path, said("write {wanted}", wanted=wanted), fix=fix)
    if isinstance(error.instance, list):
        refused = said("{name} has {count} entries", name=name, count=len(error.instance))
    limits = {
        "minimum": said("at least {limit}", limit=expected),
        "maximum": said("at most {limit}", limit=expected),
        "minItems": said("at least {limit} of them", limit=expected),
        "maxItems": said("at most {limit} of them", limit=expected),
        "minLength": said("at least {limit} characters", limit=expected),
        "maxLength": said("at most {limit} characters", limit=expected),
    }
    return Diagnostic("SCH006", "error", refused, path, said("write {wanted}", wanted=wanted or limits.get(keyword, keyword)))


_KINDS = {
    "object": said("a mapping"),
    "array": said("a list"),
    "string": said("a string"),
    "integer": said("an integer"),
    "number": said("a number"),
    "boolean": said("true or false"),
    "null": said("empty"),
}


def _kind(value: Any) -> str:
    kinds = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer"}
    return kinds.get(type(value), "null")


def _best_branch(error: ValidationError) -> Iterator[Diagnostic]:
    """The findings of the branch that the author meant: the right type, then the right name, then the fewest errors."""
    branches: dict[int, list[ValidationError]] = {}
    for sub in error.context:
        branches.setdefault(int(sub.relative_schema_path[0]), []).append(sub)

    def distance(subs: list[ValidationError]) -> tuple[int, int, int]:
        wrong_type = any(not s.relative_path and s.validator in ("type", "enum") for s in subs)
        wrong_name = any(s.validator == "const" for s in subs)
        return (wrong_type, wrong_name, len(subs))

    best = min(branches.values(), key=distance)
    if distance(best)[0] and not isinstance(error.instance, str):
        path: Path = tuple(error.absolute_path)
        message = said("{name} is {kind}", name=dotted(path), kind=_KINDS[_kind(error.instance)])
        wanted = said(error.schema.get("x-expected") or "a name or a mapping")
        yield Diagnostic("SCH003", "error", message, path, said("write {wanted}", wanted=wanted))
        return
    for sub in best:
        yield from _explain(sub)


def _nearest(name: str, known: list[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=1)
    listed = ", ".join(known)
    if close:
        return said("did you mean `{name}`? One of: {names}", name=close[0], names=listed)
    return said("one of: {names}", names=listed)


def complete(data: dict[str, Any]) -> dict[str, Any]:
    """
    A copy of valid *data* with every default of the schema written out.

    The short form of ``cluster.cni`` becomes its mapping, and ``loadBalancer.nginx`` appears where no engine is named.  Values that depend
    on other values (a Calico release by minor, priorities by order) are properties of the model and stay out.
    """
    root = schema()
    data = json.loads(json.dumps(data))
    balancer = data.get("loadBalancer")
    if balancer is not None and "ipvs" not in balancer:
        balancer.setdefault("nginx", {})
    filled: dict[str, Any] = _filled(data, root)
    cni = filled["cluster"]["cni"]
    if isinstance(cni, str):
        cni = {"name": cni}
    branch = {"flannel": "flannel", "calico": "calico", "none": "noCni"}[cni["name"]]
    filled["cluster"]["cni"] = _filled(cni, root["$defs"][branch])
    return filled


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    """*node* of the schema with what its ``$ref`` names; what stands beside the reference counts."""
    if "$ref" not in node:
        return node
    target: dict[str, Any] = schema()["$defs"][node["$ref"].removeprefix("#/$defs/")]
    return target | {name: value for name, value in node.items() if name != "$ref"}


def _filled(value: Any, node: dict[str, Any]) -> Any:
    """*value* with the defaults of *node* below it; keys in the schema's order, so that a lock reads the same for any input."""
    node = resolved(node)
    if isinstance(value, list) and "items" in node:
        return [_filled(item, node["items"]) for item in value]
    if not isinstance(value, dict) or "properties" not in node:
        return dict(sorted(value.items())) if isinstance(value, dict) else value
    out = {}
    for name, child in node["properties"].items():
        if name in value:
            out[name] = _filled(value[name], child)
        elif "default" in child:
            out[name] = _filled(child["default"], child)
    return out
