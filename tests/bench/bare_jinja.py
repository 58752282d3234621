"""The yardstick: what a loop over hosts, Jinja templates and ``open().write()`` takes for the files of a bundle, and nothing else.

No schema, no rule, no digest, no swap.  ``python bare_jinja.py prepare BUNDLE FOLDER`` makes templates of a compiled bundle (a host's name
and address become prints, one set of templates a role); ``python bare_jinja.py render FOLDER OUT`` is what is measured.
"""

# As plain as such a loop is written.
# ruff: noqa: PTH103, PTH123

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

MADE_BY_THE_WRITER = {"SHA256SUMS", "manifest.json"}


def prepare(bundle: Path, folder: Path) -> None:
    """Templates and the list of hosts, from *bundle*; checks that each host's files come out as they are there."""
    hosts = []
    for entry in json.loads((bundle / "manifest.json").read_text())["hosts"]:
        own = (bundle / "hosts" / entry["name"] / "host.env").read_text()
        address = re.search("^ADDRESSES='([^/ ]+)/", own, re.MULTILINE)[1]
        kind = entry["name"] if entry["role"] != "worker" else "worker"
        hosts.append({"name": entry["name"], "address": address, "kind": kind})
    for path in _files(bundle):
        if path.parts[0] != "hosts":
            _write(folder / "cluster" / path, _raw((bundle / path).read_text()))
    # The last host of each kind stands for all of it.
    for host in {host["kind"]: host for host in hosts}.values():
        root = bundle / "hosts" / host["name"]
        for path in _files(root):
            text = _raw((root / path).read_text())
            if path.name != "hosts.block" and host["kind"] == "worker":
                for what in ("name", "address"):
                    text = re.sub(rf"(?<![\w.-]){re.escape(host[what])}(?![\w-])", f"{{% endraw %}}{{{{ {what} }}}}{{% raw %}}", text)
            _write(folder / host["kind"] / path, text)
    (folder / "hosts.json").write_text(json.dumps(hosts))


def _files(folder: Path) -> list[Path]:
    return [path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and path.name not in MADE_BY_THE_WRITER]


def _raw(text: str) -> str:
    return f"{{% raw %}}{text}{{% endraw %}}"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def render(folder: str, out: str) -> None:
    """The loop that is measured."""
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(loader=FileSystemLoader(folder), keep_trailing_newline=True, autoescape=False)
    kinds = {}
    for name in environment.list_templates():
        kind, _, path = name.partition("/")
        if path:
            kinds.setdefault(kind, []).append((path, environment.get_template(name)))
    made = set()
    with open(f"{folder}/hosts.json") as file:
        hosts = json.load(file)
    for host in [{"kind": "cluster", "name": ""}, *hosts]:
        root = f"{out}/hosts/{host['name']}" if host["name"] else out
        for path, template in kinds[host["kind"]]:
            target = f"{root}/{path}"
            parent = target.rpartition("/")[0]
            if parent not in made:
                os.makedirs(parent, exist_ok=True)
                made.add(parent)
            with open(target, "w") as file:
                file.write(template.render(host))


def differences(bundle: Path, out: Path) -> list[str]:
    """Files of *bundle* that the loop did not write with the same bytes; nothing when it is a fair yardstick."""
    return [str(path) for path in _files(bundle) if not (out / path).is_file() or (out / path).read_bytes() != (bundle / path).read_bytes()]


if __name__ == "__main__":
    if sys.argv[1] == "prepare":
        prepare(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        render(sys.argv[2], sys.argv[3])
