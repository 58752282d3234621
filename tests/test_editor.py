"""What an editor makes of the schema: the real yaml-language-server, over its protocol, on inventories with the header that names the schema."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
from conftest import REPOSITORY

# tests/setup.sh installs it there.
VERSION = re.search(r"yaml-language-server@([0-9.]+)", (REPOSITORY / "tests/setup.sh").read_text(encoding="utf-8"))[1]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / f"stowage/yaml-language-server-{VERSION}"
SERVER = CACHE / "node_modules/yaml-language-server/bin/yaml-language-server"
HEADER = "# yaml-language-server: $schema=inventory.v1.schema.json\n"
SETTINGS = {"schemaStore": {"enable": False}, "validate": True, "hover": True, "completion": True, "disableDefaultProperties": True}
# Seconds; the first answer waits for node to start and the schema to be read.
PATIENCE = 15


class Server:
    """One server over its standard streams."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            ["node", str(SERVER), "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.folder, self.count, self.files = folder, 0, 0
        self.heard: queue.Queue[dict | None] = queue.Queue()
        threading.Thread(target=self.listen, daemon=True).start()

    def greet(self) -> None:
        capabilities = {
            "workspace": {"configuration": True},
            "textDocument": {"hover": {"contentFormat": ["markdown"]}, "completion": {"completionItem": {"snippetSupport": True}}},
        }
        self.ask("initialize", {"processId": os.getpid(), "rootUri": self.folder.as_uri(), "capabilities": capabilities})
        self.tell("initialized", {})

    def listen(self) -> None:
        while header := self.process.stdout.readline():
            length = int(header.partition(b":")[2])
            while self.process.stdout.readline() != b"\r\n":
                pass
            self.heard.put(json.loads(self.process.stdout.read(length)))
        self.heard.put(None)

    def send(self, **message: object) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self.process.stdin.flush()

    def tell(self, method: str, params: object) -> None:
        self.send(method=method, params=params)

    def ask(self, method: str, params: object) -> object:
        self.count += 1
        self.send(id=self.count, method=method, params=params)
        return self.until(lambda said: said.get("id") == self.count and "method" not in said)["result"]

    def until(self, wanted) -> dict:
        """The first message that is *wanted*; what the server asks meanwhile is answered, what it tells is dropped."""
        while True:
            said = self.heard.get(timeout=PATIENCE)
            assert said is not None, "the server has ended"
            if wanted(said):
                return said
            if "id" in said and "method" in said:
                sections = [item.get("section") for item in said["params"].get("items", [])]
                self.send(id=said["id"], result=[SETTINGS if section == "yaml" else None for section in sections] or None)

    def opened(self, text: str) -> tuple[str, list[str]]:
        """Opens *text* as a file of its own; its address and the messages of its diagnostics."""
        self.files += 1
        uri = (self.folder / f"{self.files}.yaml").as_uri()
        self.tell("textDocument/didOpen", {"textDocument": {"uri": uri, "languageId": "yaml", "version": 1, "text": text}})
        said = self.until(lambda said: said.get("method") == "textDocument/publishDiagnostics" and said["params"]["uri"] == uri)
        return uri, [one["message"] for one in said["params"]["diagnostics"]]

    def at(self, method: str, uri: str, text: str, place: str) -> object:
        """Asks about the end of the first *place* in *text*."""
        before = text[: text.index(place) + len(place)]
        position = {"line": before.count("\n"), "character": len(before) - before.rfind("\n") - 1}
        return self.ask(f"textDocument/{method}", {"textDocument": {"uri": uri}, "position": position})

    def completed(self, text: str, place: str) -> dict[str, dict]:
        uri, _ = self.opened(text)
        said = self.at("completion", uri, text, place)
        return {item["label"]: item for item in (said["items"] if isinstance(said, dict) else said)}

    def hovered(self, text: str, place: str) -> str:
        uri, _ = self.opened(text)
        return self.at("hover", uri, text, place)["contents"]["value"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if not SERVER.exists():
        if os.environ.get("CI") == "true" and shutil.which("npm"):
            pytest.fail("CI has npm and no yaml-language-server: tests/setup.sh installs it", pytrace=False)
        pytest.skip(f"needs {SERVER} (tests/setup.sh)")
    folder = tmp_path_factory.mktemp("editor")
    shutil.copy(REPOSITORY / "schema/inventory.v1.schema.json", folder)
    server = Server(folder)
    try:
        server.greet()
        yield server
        with contextlib.suppress(OSError, AssertionError, queue.Empty, subprocess.TimeoutExpired):
            server.ask("shutdown", None)
            server.tell("exit", None)
            server.process.wait(5)
    finally:
        # By its own id; a server that has ended doesn't mind.
        server.process.kill()
        server.process.wait()
        server.process.stdin.close()
        server.process.stdout.close()


@pytest.fixture
def example() -> str:
    """The example inventory, beside its schema."""
    return (REPOSITORY / "inventories/example.yaml").read_text(encoding="utf-8").replace("../schema/", "")


def test_the_example_has_no_diagnostics(server, example):
    assert example.startswith(HEADER)
    assert server.opened(example)[1] == []


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("role: worker", "role: wroker", 'Value is not accepted. Valid values: "control-plane", "worker", "load-balancer".'),
        ("port: 16443", "prot: 16443", "Property prot is not allowed."),
        ("virtualRouterId: 51", "virtualRouterId: '51'", 'Incorrect type. Expected "integer".'),
        ("  kubernetesVersion: 1.29.3\n", "", 'Missing property "kubernetesVersion".'),
    ],
)
def test_a_mistake_is_underlined(server, example, right, wrong, said):
    assert server.opened(example.replace(right, wrong, 1))[1] == [said]


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("", {"cluster", "controlPlaneEndpoint", "loadBalancer", "hostDefaults", "hosts", "version"}),
        ("cluster:\n  name: a\n  ", {"kubernetesVersion", "podSubnet", "cni", "etcd"}),
        ("loadBalancer:\n  ", {"nginx", "watcher", "keepalived", "ipvs"}),
        ("cluster:\n  cni:\n    name: calico\n    ", {"encapsulation", "bgp"}),
        ("hosts:\n- name: a\n  r", {"role", "address", "labels"}),
        ("cluster:\n  containerRuntime: ", {"containerd", "cri-dockerd", "cri-o"}),
        ("cluster:\n  cni: ", {"flannel", "calico", "none"}),
        ("hosts:\n- role: ", {"control-plane", "worker", "load-balancer"}),
        ("hostDefaults: {os: ", {"rocky-9", "debian-12", "ubuntu-24.04"}),
    ],
)
def test_completion(server, text, labels):
    """Keys where keys go, the known values where a value goes."""
    offered = server.completed(HEADER + text, HEADER + text)
    assert labels <= set(offered)
    assert "wireguard" not in offered


def test_a_completed_key_says_what_it_is(server):
    """What the schema says of it stands beside it, and nothing but its name and its required keys is put in."""
    offered = server.completed(f"{HEADER}loadBalancer:\n  ", "Balancer:\n  ")
    assert offered["keepalived"]["documentation"] == "The virtual IP."
    assert offered["keepalived"]["insertText"] == "keepalived:\n  virtualRouterId: "


@pytest.mark.parametrize(
    ("place", "wanted"),
    [
        ("kubernetesVer", ["Exact release", "Example", "1.29.3"]),
        ("podSub", ["Network of the pods", "10.244.0.0/16"]),
        ("cri-docke", ["Container runtime of every Kubernetes host", "`containerd`", "`cri-o`"]),
        ("  keepaliv", ["The virtual IP", "virtualRouterId: 51"]),
        ("os: roc", ["Operating system", "`debian-12`"]),
    ],
)
def test_hover(server, example, place, wanted):
    """Description, values and an example."""
    shown = server.hovered(example, place)
    for part in wanted:
        assert part in shown
