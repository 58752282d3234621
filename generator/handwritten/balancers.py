"""What nginx files say of the load balancer before the API servers: who listens where, and who answers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import PurePosixPath

from generator.handwritten import Files, Node, Word, unspecified
from generator.handwritten.nginx import Config, whole

API_PORT = 6443
# More balancers, or servers of one of them, than these have other things before them than an API server; the rules compare them.
MAX_BALANCERS = 200
LOOPBACK = frozenset(("127.0.0.1", "localhost", "::1"))


@dataclass(frozen=True)
class Balancer:
    """A stream server that proxies TCP: its blocks from the outermost in, and the upstream that it names (None for an address)."""

    config: Config
    scope: Node
    server: Node
    target: Word
    upstream: Node | None

    @cached_property
    def listens(self) -> tuple[Word, ...]:
        """Where it listens, as written: ``16443``, ``192.168.1.31:16443``, ``[::]:16443``."""
        return tuple(node.value for node in self.server.all("listen") if node.value is not None)

    @cached_property
    def ports(self) -> frozenset[int]:
        """The ports that it listens on."""
        return frozenset(port for word in self.listens if (port := endpoint(word)[1]))

    @cached_property
    def servers(self) -> tuple[Node, ...]:
        """The servers of its upstream, those that are taken out (``down``) left out; none where it names an address itself."""
        return tuple(node for node in servers(self.upstream)[:MAX_BALANCERS] if "down" not in node.args)

    @cached_property
    def addresses(self) -> dict[str, Word]:
        """The hosts of its upstream, those that are taken out too, each where it stands."""
        return {endpoint(node.args[0])[0]: node.args[0] for node in servers(self.upstream)[:MAX_BALANCERS]}

    @cached_property
    def answering(self) -> tuple[Word, ...]:
        """Addresses of those who answer."""
        return tuple(node.args[0] for node in self.servers) if self.upstream else (self.target,)

    def says(self, name: str) -> Node | None:
        """The directive *name* that counts for it: its own, else the stream block's."""
        return self.server.one(name) or self.scope.one(name)

    @property
    def known(self) -> bool:
        """Whether all that its own blocks say is among the files: they include nothing from elsewhere."""
        return not included(self.scope, self.server)

    @property
    def answering_known(self) -> bool:
        """Whether all of its upstream's servers are among the files."""
        return self.upstream is None or not included(self.upstream)


def included(*blocks: Node) -> bool:
    """Whether one of *blocks* includes what is not among the files."""
    return any(True for block in blocks for _ in block.all("include"))


def servers(upstream: Node | None) -> tuple[Node, ...]:
    """The servers of *upstream*."""
    return tuple(node for node in upstream.all("server") if node.args) if upstream else ()


def endpoint(text: str) -> tuple[str, int | None]:
    """Host (``*`` for any) and port of ``16443``, ``192.168.1.31:16443``, ``[::]:16443`` or ``name``, as nginx reads it."""
    if re.fullmatch(r"[0-9]{1,5}", text):
        return "*", int(text)
    found = re.fullmatch(r"\[([0-9A-Fa-f:.]*)\](?::([0-9]{1,5}))?|([^:\[\]]*)(?::([0-9]{1,5}))?", text)
    if found is None:
        return text, None
    host, port = found[1] or found[3] or "*", found[2] or found[4]
    return "*" if unspecified(host) else host.lower(), int(port) if port else None


def scopes(config: Config) -> Iterator[Node]:
    """Every ``stream`` block, wherever it stands; the file itself where it is what a stream block includes."""
    yield from config.root.walk("stream")
    blocks = [node for node in config.root.all("server", "upstream") if node.children is not None]
    stream = "stream" in PurePosixPath(config.file.path).parent.name or any(node.one("proxy_pass") for node in blocks)
    if not config.main and blocks and stream:
        yield config.root


def balancers(files: Files) -> Iterator[Balancer]:
    """Every stream server that proxies TCP to fixed addresses, up to a bound."""
    return islice(_balancers(files), MAX_BALANCERS)


def _balancers(files: Files) -> Iterator[Balancer]:
    for config in whole(files):
        for scope in scopes(config):
            upstreams = {node.value: node for node in scope.all("upstream") if node.value}
            for server in scope.all("server"):
                passed = server.one("proxy_pass")
                udp = any("udp" in node.args for node in server.all("listen"))
                if passed is not None and passed.value and "$" not in passed.value and not udp:
                    yield Balancer(config, scope, server, passed.value, upstreams.get(passed.value))


def api(files: Files) -> list[Balancer]:
    """
    The balancers before API servers: one of those who answer has port 6443, or they are included from elsewhere and it listens where the
    API is looked for.

    A stream block may balance other things too, for which other times are right.
    """
    return [
        one
        for one in balancers(files)
        if any(endpoint(address)[1] == API_PORT for address in one.answering)
        or (not one.answering_known and not one.servers and one.ports & {API_PORT, 8443, 16443})
    ]
