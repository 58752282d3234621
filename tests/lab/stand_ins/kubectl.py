"""kubectl, played: what the bundle's scripts call, and a little for people who look at the lab. Real TLS, real refusals; any other word is refused."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml
from shared import LOADER, Client, Refused, dump, fail, say, seconds_of

ANNOTATION_LIMIT = 262144
APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
VALUES = {
    "kubeconfig", "server", "tls-server-name", "request-timeout", "raw", "output", "namespace", "filename", "for", "timeout", "selector", "field-selector",
    "field-manager",
}  # fmt: skip
SWITCHES = {"all-namespaces", "all", "server-side", "force-conflicts", "ignore-not-found", "no-headers", "client", "force", "wait"}
SHORT = {"n": "namespace", "o": "output", "f": "filename", "l": "selector", "A": "all-namespaces", "s": "server"}


@dataclass
class Call:
    verb: str = ""
    words: list[str] = field(default_factory=list)
    flags: dict[str, str] = field(default_factory=dict)

    @property
    def namespace(self) -> str:
        return self.flags.get("namespace", "default")


def parse(words: list[str]) -> Call:
    call, left = Call(), list(words)
    while left:
        word = left.pop(0)
        if not word.startswith("-"):
            call.words.append(word)
            continue
        name, equals, value = word.lstrip("-").partition("=")
        name = SHORT.get(name, name) if not word.startswith("--") else name
        if name in SWITCHES:
            call.flags[name] = value or "true"
        elif name in VALUES:
            if not equals and not left:
                fail(f"error: flag needs an argument: --{name}")
            call.flags[name] = value if equals else left.pop(0)
        else:
            fail(f"error: unknown flag: --{name}\nSee 'kubectl --help' for usage.")
    if not call.words:
        fail("kubectl controls the Kubernetes cluster manager.", 0)
    call.verb = call.words.pop(0)
    return call


def connect(call: Call) -> Client:
    path = call.flags.get("kubeconfig") or os.environ.get("KUBECONFIG") or str(Path("~/.kube/config").expanduser())
    if not Path(path).exists() and not call.flags.get("kubeconfig"):
        fail("The connection to the server localhost:8080 was refused - did you specify the right host or port?")
    timeout = seconds_of(call.flags.get("request-timeout", "0")) or 60
    return Client(Path(path), call.flags.get("server", ""), call.flags.get("tls-server-name", ""), timeout)


# -- kinds and objects ----------------------------------------------------------------------------------------------------------------


class Kinds:
    """What the API server knows, CRDs too."""

    def __init__(self, client: Client) -> None:
        self.rows = client.ask("GET", "/lab/kinds")["kinds"]

    def named(self, word: str) -> tuple[str, str, bool]:  # noqa: RET503  fail() does not return
        """Kind, its printed name and whether it is namespaced, of what a person types."""
        wanted = word.lower().partition(".")[0]
        for kind, api, plural, namespaced, short in self.rows:
            if wanted in (plural, kind.lower(), short) and wanted:
                group = api.rpartition("/")[0]
                return kind, kind.lower() + (f".{group}" if group else ""), namespaced
        fail(f'error: the server doesn\'t have a resource type "{word}"')

    def namespaced(self, document: dict[str, Any], source: str) -> bool:
        for kind, api, _, namespaced, _ in self.rows:
            if (kind, api) == (document["kind"], document["apiVersion"]):
                return namespaced
        group, _, number = document["apiVersion"].rpartition("/")
        where = f'"{group}/{number}"' if group else f'"{number}"'
        name = document["metadata"].get("name", "")
        raise Refused(
            f'error: resource mapping not found for name: "{name}" namespace: "{document["metadata"].get("namespace", "")}" from "{source}": '
            f'no matches for kind "{document["kind"]}" in version {where}\nensure CRDs are installed first'
        )


class Strict(LOADER):
    """YAML without a key twice."""


def _mapping(loader: Any, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    if len(keys) != len(set(map(str, keys))):
        raise yaml.constructor.ConstructorError(None, None, f"key already set in map: {keys}", node.start_mark)
    loader.flatten_mapping(node)
    return {loader.construct_object(key, deep=True): loader.construct_object(value, deep=True) for key, value in node.value}


Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read(source: str) -> list[dict[str, Any]]:
    """The objects of a file, Lists taken apart."""
    try:
        text = Path(source).read_text() if source != "-" else sys.stdin.read()
    except OSError:
        fail(f'error: the path "{source}" does not exist')
    found = []
    try:
        documents = [document for document in yaml.load_all(text, Loader=Strict) if document is not None]
    except yaml.YAMLError as error:
        fail(f"error: error parsing {source}: error converting YAML to JSON: yaml: {error}")
    for document in documents:
        if not isinstance(document, dict) or not document.get("apiVersion") or not document.get("kind"):
            fail(
                f'error: error validating "{source}": error validating data: [apiVersion not set, kind not set]; if you choose to ignore these errors, turn validation off with --validate=false'
            )
        found += document["items"] if document["kind"] == "List" else [document]
    if not found:
        fail("error: no objects passed to apply")
    for document in found:
        if not isinstance(document.get("metadata"), dict) or not isinstance(document["metadata"].get("name"), str):
            fail(f'error: error validating "{source}": metadata.name: Required value')
    return json.loads(json.dumps(found, default=str))


def objects(call: Call, client: Client) -> Iterator[tuple[dict[str, Any], str]]:
    """(object, namespace) of --filename; an object with no namespace gets the call's."""
    kinds = None
    for document in read(call.flags["filename"]):
        if kinds is None or document["kind"] not in {row[0] for row in kinds.rows}:
            kinds = Kinds(client)  # a CRD of this file may be there by now
        namespace = "-"
        if kinds.namespaced(document, call.flags["filename"]):
            namespace = document["metadata"].setdefault("namespace", call.namespace)
        yield document, namespace


def title(document: dict[str, Any]) -> str:
    group = document["apiVersion"].rpartition("/")[0]
    return f"{document['kind'].lower()}{'.' + group if group else ''}/{document['metadata']['name']}"


def within(part: Any, whole: Any) -> bool:
    """True when *whole* has all that *part* says; what the server added does not count."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(
            (value is None and key not in whole) or (key in whole and within(value, whole[key])) for key, value in part.items()
        )
    if isinstance(part, list):
        return isinstance(whole, list) and len(part) == len(whole) and all(map(within, part, whole))
    return part == whole


# -- verbs ----------------------------------------------------------------------------------------------------------------------------


def get(call: Call, client: Client) -> None:
    if "raw" in call.flags:
        status, data = client.request("GET", call.flags["raw"])
        text = data.decode(errors="replace")
        if status == 401:
            raise Refused("error: You must be logged in to the server (Unauthorized)")
        if status >= 300:
            message = json.loads(text).get("message", "") if text.startswith("{") else text
            raise Refused(
                f'Error from server (InternalError): an error on the server ("{message}") has prevented the request from succeeding'
            )
        sys.stdout.write(text)
        return
    if "filename" in call.flags:
        found = [client.get(document["kind"], document["metadata"]["name"], namespace) for document, namespace in objects(call, client)]
        say("\n".join(title(document) for document in found))
        return
    show(call, *select(call, client, call.words))


def select(call: Call, client: Client, words: list[str]) -> tuple[list[dict[str, Any]], str]:
    """The objects that the words and selectors name, and the printed name of their kind."""
    if not words:
        fail("error: You must specify the type of resource to get.")
    word, _, one = words[0].partition("/")
    names = [one] if one else words[1:]
    kind, printed, namespaced = Kinds(client).named(word)
    if names:
        found = []
        for name in names:
            try:
                found.append(client.get(kind, name, call.namespace if namespaced else "-"))
            except Refused as refused:
                if refused.status != 404 or "ignore-not-found" not in call.flags:
                    raise
        return found, printed
    found = client.list(kind)
    if namespaced and "all-namespaces" not in call.flags:
        found = [item for item in found if item["metadata"].get("namespace") == call.namespace]
    for pair in filter(None, call.flags.get("selector", "").split(",")):
        key, _, value = pair.replace("==", "=").partition("=")
        found = [item for item in found if (item["metadata"].get("labels") or {}).get(key) == value]
    for pair in filter(None, call.flags.get("field-selector", "").split(",")):
        key, _, value = pair.replace("==", "=").partition("=")
        found = [item for item in found if "".join(map(str, path_of(item, f".{key}"))) == value]
    return found, printed


def show(call: Call, found: list[dict[str, Any]], printed: str) -> None:
    output = call.flags.get("output", "")
    many = len(call.words) == 1 and "/" not in call.words[0]
    if not found and "ignore-not-found" in call.flags:
        return
    if output == "name":
        for item in found:
            say(f"{printed}/{item['metadata']['name']}")
    elif output.startswith("jsonpath="):
        sys.stdout.write(template(output.removeprefix("jsonpath="), {"items": found} if many else found[0]))
    elif output in ("json", "yaml"):
        whole = {"apiVersion": "v1", "kind": "List", "items": found} if many else found[0]
        say(json.dumps(whole, indent=4) if output == "json" else dump(whole))
    elif output not in ("", "wide"):
        fail(f'error: unable to match a printer suitable for the output format "{output}"')
    elif not found:
        sys.stderr.write("No resources found\n")
    else:
        table(found, heading="no-headers" not in call.flags)


def table(found: list[dict[str, Any]], *, heading: bool) -> None:
    rows = []
    for item in found:
        meta, status = item["metadata"], item.get("status") or {}
        where = {"NAMESPACE": meta["namespace"]} if meta.get("namespace") else {}
        if item["kind"] == "Node":
            ready = condition(item, "Ready")
            roles = [name.partition("/")[2] for name in meta.get("labels", {}) if name.startswith("node-role.kubernetes.io/")]
            rows.append(
                {
                    "NAME": meta["name"],
                    "STATUS": "Ready" if ready == "True" else "NotReady",
                    "ROLES": ",".join(roles) or "<none>",
                    "VERSION": status["nodeInfo"]["kubeletVersion"],
                }
            )
        elif item["kind"] == "Pod":
            ready = condition(item, "Ready") == "True"
            rows.append(
                {
                    **where,
                    "NAME": meta["name"],
                    "READY": f"{int(ready)}/1",
                    "STATUS": status.get("phase", ""),
                    "NODE": item["spec"].get("nodeName", ""),
                }
            )
        else:
            rows.append({**where, "NAME": meta["name"]})
    lines = [list(rows[0]), *(list(row.values()) for row in rows)][0 if heading else 1 :]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        say("   ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip())


def condition(item: dict[str, Any], name: str) -> str:
    return next((one["status"] for one in (item.get("status") or {}).get("conditions", []) if one["type"] == name), "")


def diff(call: Call, client: Client) -> None:
    """Exit 1 where something differs, and more than 1 where it cannot be compared."""
    different = False
    try:
        for document, namespace in objects(call, client):
            try:
                there = client.get(document["kind"], document["metadata"]["name"], namespace)
            except Refused as refused:
                if refused.status != 404:
                    raise
                if namespace != "-":
                    client.get("Namespace", namespace)
                there = {}
            before = there.get("metadata", {}).get("annotations", {}).get(APPLIED)
            gone = "server-side" not in call.flags and before is not None and json.loads(before) != document
            if not there or gone or not within(document, there):
                different = True
                say(f"diff -u -N LIVE/{title(document)} MERGED/{title(document)}")
    except Refused as refused:
        fail(str(refused), 2)
    raise SystemExit(int(different))


def create(call: Call, client: Client) -> None:
    failures = []
    try:
        for document, _ in objects(call, client):
            try:
                client.put(document, "create")
                say(f"{title(document)} created")
            except Refused as refused:
                if not refused.status:
                    raise
                prefix = (
                    "Error from server (AlreadyExists): error when creating"
                    if refused.status == 409
                    else "Error from server: error when creating"
                )
                failures.append(f'{prefix} "{call.flags["filename"]}": {refused}')
    except Refused as refused:
        failures.append(str(refused))
    if failures:
        fail("\n".join(failures))


def replace(call: Call, client: Client) -> None:
    for document, namespace in objects(call, client):
        client.get(document["kind"], document["metadata"]["name"], namespace)
        client.put(document, "replace")
        say(f"{title(document)} replaced")


def apply(call: Call, client: Client) -> None:
    failures = []
    for document, namespace in objects(call, client):
        try:
            say(f"{title(document)} {put(call, client, document, namespace)}")
        except Refused as refused:
            if not refused.status:
                raise
            failures.append(str(refused))
    if failures:
        fail("\n".join(failures))


def put(call: Call, client: Client, document: dict[str, Any], namespace: str) -> str:
    if "server-side" in call.flags:
        client.put(document, "apply")
        return "serverside-applied"
    text = json.dumps(document, separators=(",", ":"))
    if len(text) > ANNOTATION_LIMIT:
        raise Refused(
            f'The {document["kind"]} "{document["metadata"]["name"]}" is invalid: metadata.annotations: Too long: must have at most {ANNOTATION_LIMIT} bytes',
            422,
        )
    try:
        there = client.get(document["kind"], document["metadata"]["name"], namespace)
    except Refused as refused:
        if refused.status != 404:
            raise
        there = None
    kept = json.loads(text)
    kept["metadata"].setdefault("annotations", {})
    kept["metadata"]["annotations"] = {**(kept["metadata"]["annotations"] or {}), APPLIED: text}
    if there and within(document, there) and there["metadata"].get("annotations", {}).get(APPLIED) == text:
        return "unchanged"
    client.put(kept, "replace")
    return "configured" if there else "created"


def delete(call: Call, client: Client) -> None:
    if "filename" in call.flags:
        fail("stand-in: kubectl delete --filename is not played")
    kind, printed, namespaced = Kinds(client).named(call.words[0].partition("/")[0])
    names = call.words[1:] or [call.words[0].partition("/")[2]]
    for name in names:
        try:
            client.delete(kind, name, call.namespace if namespaced else "-")
            say(f'{printed} "{name}" deleted')
        except Refused as refused:
            if refused.status != 404 or "ignore-not-found" not in call.flags:
                raise


def wait(call: Call, client: Client) -> None:
    """Fails at once where there is nothing to wait for, as the real one does."""
    what = call.flags.get("for", "")
    end = time.monotonic() + (seconds_of(call.flags["timeout"]) if "timeout" in call.flags else 30)
    if not what.startswith("condition="):
        fail(f"stand-in: kubectl wait --for={what} is not played")
    name, _, value = what.removeprefix("condition=").partition("=")
    wanted = value or "True"
    while True:
        found, printed = select(call, client, call.words)
        if not found:
            fail("error: no matching resources found")
        missing = [item for item in found if condition(item, name).lower() != wanted.lower()]
        if not missing:
            for item in found:
                say(f"{printed}/{item['metadata']['name']} condition met")
            return
        if time.monotonic() > end:
            fail(
                "\n".join(
                    f"error: timed out waiting for the condition on {item['kind'].lower()}s/{item['metadata']['name']}" for item in missing
                )
            )
        time.sleep(0.3)


# -- jsonpath ------------------------------------------------------------------------------------------------------------------------


def path_of(value: Any, path: str) -> list[Any]:
    """The values of a path: .name, [*], [0], [?(@.key=="text")]."""
    found = [value]
    for name, index in re.findall(r"\.([A-Za-z0-9_-]+)|\[([^\]]*)\]", path):
        if name:
            found = [item[name] for item in found if isinstance(item, dict) and name in item]
        elif index == "*":
            found = [item for items in found for item in items]
        elif match := re.fullmatch(r'\?\(@\.([A-Za-z]+)\s*==\s*"([^"]*)"\)', index):
            found = [item for items in found for item in items if str(item.get(match[1])) == match[2]]
        else:
            found = [items[int(index)] for items in found if len(items) > int(index)]
    return found


def template(text: str, whole: Any) -> str:
    """Only what the scripts use: literals, paths, one range."""
    out, scope, block, left = [], [whole], "", text
    if match := re.fullmatch(r"(.*?)\{range ([^}]+)\}(.*)\{end\}(.*)", text, re.DOTALL):
        return (
            template(match[1], whole) + "".join(template(match[3], item) for item in path_of(whole, match[2])) + template(match[4], whole)
        )
    while left:
        block, brace, left = left.partition("{")
        out.append(block)
        if brace:
            # a filter may hold a brace only inside quotes, which the scripts do not have
            inner, _, left = left.partition("}")
            literal = re.fullmatch(r'"(.*)"', inner)
            out.append(json.loads(f'"{literal[1]}"') if literal else " ".join(map(str, path_of(scope[0], inner))))
    return "".join(out)


def version(call: Call, _: Client | None) -> NoReturn:
    from shared import version as number

    say(f"Client Version: v{number()}")
    raise SystemExit(0)


VERBS = {"get": get, "diff": diff, "create": create, "replace": replace, "apply": apply, "delete": delete, "wait": wait}


def main(words: list[str]) -> None:
    call = parse(words)
    if call.verb == "version":
        version(call, None)
    if call.verb not in VERBS:
        fail(f'error: unknown command "{call.verb}" for "kubectl"')
    try:
        VERBS[call.verb](call, connect(call))
    except Refused as refused:
        fail(str(refused))


if __name__ == "__main__":
    main(sys.argv[1:])
