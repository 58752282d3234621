"""nginx and hosts files as claims."""

from __future__ import annotations

import re

from generator.adopt.claims import CONTROL_PLANE, MAX_NAMES, WORKER, Address, Claims, Machine, address, nginx_time, whole
from generator.handwritten import Files, Node, Word
from generator.handwritten.balancers import LOOPBACK, Balancer, api, endpoint, servers
from generator.handwritten.keepalived import whose
from generator.handwritten.nginx import Config

_NGINX = ("loadBalancer", "nginx")
_ENDPOINT_PORT = ("controlPlaneEndpoint", "port")
_API_PORT = ("cluster", "apiServer", "bindPort")
_LOCAL = re.compile(r"localhost.*|ip6-.*|.*\.localdomain\d?|broadcasthost")
_WORKER = re.compile(r"(node|worker|wk|work|compute|agent|minion|w|n|k8s-(node|worker))[-_.]?[0-9]*")
_SWITCHES = ("backup", "down", "resolve")
_SERVER_PARAMETER = re.compile(r"(weight|max_fails|fail_timeout)=(.*)")


def hosts_files(files: Files, claims: Claims) -> None:
    """Names and addresses; who is a host and who the VIP is decided when all files were heard."""
    for _, root in files.of("hosts"):
        for entry in root.children or ():
            where = address(entry.name, entry.name)
            names = [name for name in entry.args if not _LOCAL.fullmatch(name.lower())]
            if where is None or not names or where.text.startswith("127.") or where.text == "::1":
                continue
            for name in names if len(claims.names) < MAX_NAMES else ():
                claims.names.setdefault(name.lower(), []).append(where._replace(word=name))


def named_hosts(claims: Claims) -> None:
    """
    Entries of hosts files as hosts: those that other files speak of, and those that are called like nodes.

    The VIP's name is the endpoint's; what is left is no host of the cluster, but a name that its hosts resolve.
    """
    vips = {vip.text for vip in claims.vips}
    entries = [(name, where) for name, listed in claims.names.items() for where in listed]
    for name, where in entries:
        known, owner = claims.known_name(name), claims.known_address(where.text)
        if where.text in vips:
            if known is None:
                claims.say(("controlPlaneEndpoint", "name"), name, where.word)
        elif known is not None or (owner is not None and not owner.name.value and "." not in name):
            claims.machine(name, _at_line(where), where.word)
        elif owner is None and _WORKER.fullmatch(name):
            claims.machine(name, _at_line(where), where.word).plays(WORKER, where.word)
    _other_names(claims, [(name, where) for name, where in entries if where.text not in vips])


def _other_names(claims: Claims, entries: list[tuple[str, Address]]) -> None:
    """Hosts that have a long name alone, and names of others."""
    endpoints = {known.value for known in claims.told.get(("controlPlaneEndpoint", "name"), {}).values()}
    for name, where in entries:
        owner = claims.known_address(where.text)
        if owner is not None and not owner.name.value:
            claims.machine(name.partition(".")[0], _at_line(where), where.word)
        elif owner is None and claims.known_name(name) is None and name not in endpoints and re.fullmatch(r"[a-z0-9.-]+", name):
            claims.say(("cluster", "extraHosts", name), where.text, where.word)


def _at_line(where: Address) -> Address:
    """*where* with the word at the beginning of its line, the address."""
    if where.word is None:
        return where
    source, number = where.word.spot.source, where.word.spot.at.line
    line = source.line(number)
    text = line.split(maxsplit=1)[0]
    return where._replace(word=Word.at(text, source, number, line.index(text) + 1))


def nginx(files: Files, claims: Claims) -> None:
    """The first balancer before the API of each configuration, and its loopback listener."""
    seen: set[int] = set()
    groups: set[frozenset[str]] = set()
    loose = _loose_servers(files)
    for one in api(files):
        if id(one.config) in seen:
            continue
        seen.add(id(one.config))
        who = whose(one.config.file)
        members = one.servers or loose.get(who, ())
        if one.config.file.host:
            claims.machine(one.config.file.host).carries = True
        claims.say(_NGINX, {}, one.server.name, who)
        _listener(one, claims, who)
        if members or one.upstream is None:
            groups.add(frozenset(node.args[0] for node in members) or frozenset({one.target}))
        _members(_elsewhere(one, members, claims), claims, who)
        _times(one, claims, who)
        _surroundings(one.config, claims, who)
        if _is_whole(one, members):
            claims.complete = claims.complete or members[0].name
    for who, members in loose.items():
        if not seen:
            _members(members, claims, who)
    if len(groups) > 1:
        claims.complete = None


def _is_whole(one: Balancer, members: tuple[Node, ...]) -> bool:
    """Whether *members* are all API servers: none twice, none that is a host of unknown name, none with words that nginx doesn't know."""
    loopback = any(endpoint(node.args[0])[0] in LOOPBACK for node in members)
    odd = any("=" not in word and word not in _SWITCHES for node in members for word in node.args[1:])
    once = len({node.args[0] for node in members}) == len(members)
    return bool(members) and once and not odd and (bool(one.config.file.host) or not loopback)


def _elsewhere(one: Balancer, members: tuple[Node, ...], claims: Claims) -> tuple[Node, ...]:
    """*members* without the balancer's own host, which it may call by a loopback address."""
    own = [node for node in members if endpoint(node.args[0])[0] in LOOPBACK]
    if own and one.config.file.host:
        claims.machine(one.config.file.host).plays(CONTROL_PLANE, own[0].args[0])
    return tuple(node for node in members if node not in own)


def _loose_servers(files: Files) -> dict[str, tuple[Node, ...]]:
    """Lists of servers in files of their own, which an upstream includes from elsewhere, by whose file it is."""
    found = {}
    for file, root in files.of("nginx"):
        listed = tuple(node for node in servers(root) if node.children is None and endpoint(node.args[0])[1])
        if listed and len(listed) == len(root.children or ()):
            found[whose(file)] = listed
    return found


def _listener(one: Balancer, claims: Claims, who: str) -> None:
    for node in one.server.all("listen"):
        port = endpoint(node.value or "")[1]
        if port:
            claims.say(_ENDPOINT_PORT, port, node.value, who)
        for option in node.args[1:]:
            times = option.removeprefix("so_keepalive=").split(":")
            if option.startswith("so_keepalive=") and len(times) == 3 and all(times):
                claims.say((*_NGINX, "tcpKeepalive"), option.removeprefix("so_keepalive="), option, who)


def _members(members: tuple[Node, ...], claims: Claims, who: str) -> None:
    """The upstream's servers are the control planes; what all of them say is the balancer's."""
    told: dict[str, list[tuple[Machine, Word]]] = {"weight": [], "max_fails": [], "fail_timeout": []}
    for node in members:
        host, port = endpoint(node.args[0])
        where = address(host, node.args[0])
        machine = claims.machine("" if where else host, where, None if where else node.args[0])
        machine.plays(CONTROL_PLANE, node.args[0])
        machine.listed = True
        claims.say(_API_PORT, whole(str(port or ""), 1, 65535), node.args[0], who)
        for argument in node.args[1:]:
            if found := _SERVER_PARAMETER.fullmatch(argument):
                told[found[1]].append((machine, argument))
    _weights(told["weight"], len(members), claims, who)
    for _, word in told["max_fails"]:
        claims.say((*_NGINX, "maxFails"), whole(word.partition("=")[2], 0, 1000), word, who)
    for _, word in told["fail_timeout"]:
        text = nginx_time(word.partition("=")[2])
        claims.say((*_NGINX, "failTimeout"), None if text is None or text.endswith("ms") else text, word, who)
    if members:
        # nginx's own, where no server says another.
        claims.say((*_NGINX, "maxFails"), 1, None, who)
        claims.say((*_NGINX, "failTimeout"), "10s", None, who)


def _weights(weights: list[tuple[Machine, Word]], members: int, claims: Claims, who: str) -> None:
    """One weight of all servers, or each its own."""
    numbers = [(machine, word, whole(word.partition("=")[2], 1, 1000)) for machine, word in weights]
    if len({str(word) for _, word in weights}) == 1 and len(weights) == members:
        _, word, number = numbers[0]
        claims.say((*_NGINX, "weight"), number, word, who)
        return
    for machine, word, number in numbers:
        if number is not None:
            machine.has("weight", number, word)


_TIMES = {
    "proxy_connect_timeout": "connectTimeout",
    "proxy_timeout": "idleTimeout",
    "proxy_next_upstream_timeout": "nextUpstreamTimeout",
}


def _times(one: Balancer, claims: Claims, who: str) -> None:
    for directive, key in _TIMES.items():
        node = one.says(directive)
        if node is not None and node.value:
            claims.say((*_NGINX, key), nginx_time(node.value), node.value, who)
    log = one.says("access_log")
    claims.say((*_NGINX, "accessLog"), log is not None and log.value != "off", log.value if log else None, who)
    if one.upstream is not None and one.known:
        least = one.upstream.one("least_conn")
        hashed = one.upstream.one("hash") or one.upstream.one("random")
        claims.say((*_NGINX, "balance"), "least_conn" if least else "round_robin", least.name if least else None, who)
        if hashed is not None:
            claims.note(f"nginx's {hashed.name}: an inventory has least_conn and round_robin")
    allowed = [node.value for node in one.server.all("allow") if node.value]
    denies = any(node.value == "all" for node in one.server.all("deny"))
    if allowed and denies and all(address(word) for word in allowed):
        networks = [word if "/" in word else f"{word}/{128 if ':' in word else 32}" for word in allowed]
        claims.say((*_NGINX, "allow"), networks, allowed[0], who)


def _surroundings(config: Config, claims: Claims, who: str) -> None:
    """What stands around the stream block, and the listener for health checks: an answer on the loopback address."""
    for name, key, most in (("worker_processes", "workerProcesses", 64), ("worker_connections", "workerConnections", 262_144)):
        node = next(config.root.walk(name), None)
        claims.say((*_NGINX, key), whole(node.value if node else None, 512 if most > 64 else 1, most), node.value if node else None, who)
    shutdown = config.root.one("worker_shutdown_timeout")
    if shutdown is not None and shutdown.value:
        claims.say((*_NGINX, "shutdownTimeout"), nginx_time(shutdown.value), shutdown.value, who)
    for block in config.root.walk("stream"):
        for server in block.all("server"):
            listen = server.one("listen")
            host, port = endpoint(listen.value or "") if listen else ("", None)
            if server.one("return") and host in LOOPBACK and port and listen:
                claims.say((*_NGINX, "checkPort"), port, listen.value, who)
    module = config.root.one("load_module")
    if module is not None and module.value and config.file.host:
        system = "rocky-9" if module.value.startswith("/usr/lib64/") else "debian-12" if module.value.startswith("/usr/lib/nginx/") else ""
        if system:
            claims.machine(config.file.host).has("os", system)
    if config.root.one("http") is not None:
        claims.note(f"{config.file.source.name}: its http block; the balancer has its nginx for itself")
