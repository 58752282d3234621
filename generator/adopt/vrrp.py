"""keepalived's files and units as claims."""

from __future__ import annotations

import re

from generator.adopt.claims import CONTROL_PLANE, Address, Claims, address, whole
from generator.handwritten import File, Files, Node, Word
from generator.handwritten.keepalived import joined, whose

_KEEPALIVED = ("loadBalancer", "keepalived")
_IPVS = ("loadBalancer", "ipvs")
_SCHEDULERS = ("rr", "wrr", "lc", "wlc", "sh")
# More than these are none of one API.
_MAX_VIPS, _MAX_PEERS = 20, 100
_KILL_MODES = ("mixed", "control-group", "process")


def instances(files: Files, claims: Claims) -> None:
    """The instance of each host that holds the API's VIP: the one that the endpoint or most hosts name, else the first."""
    sets = [(file, root, [node for node in root.walk("vrrp_instance") if _virtual(node)]) for file, root in joined(files)]
    counts: dict[str, int] = {}
    for _, _, found in sets:
        for text in {_virtual(node)[0].text for node in found}:
            counts[text] = counts.get(text, 0) + 1
    wanted = {known.value for known in claims.told.get(("controlPlaneEndpoint", "name"), {}).values()}
    wanted |= {where.text for name in wanted for where in claims.names.get(str(name), ())}
    # Priorities are compared among the holders of one VIP.
    common = max(counts, key=lambda text: (text in wanted, counts[text]), default="")
    for file, root, found in sets:
        vips = [_virtual(node)[0].text for node in found]
        if found:
            best = max(range(len(found)), key=lambda i: (vips[i] in wanted, counts[vips[i]], -i))
            _instance(file, root, found[best], claims, elects=vips[best] == common)
        if len(found) > 1:
            claims.note(f"{file.source.name}: its other vrrp_instance blocks; an inventory has one VIP a family")


def _virtual(instance: Node) -> list[Address]:
    """VIPs of an instance, the advertised ones first."""
    blocks = [*instance.all("virtual_ipaddress"), *instance.all("virtual_ipaddress_excluded")]
    found = [address(child.name, child.name) for block in blocks for child in (block.children or ())[:_MAX_VIPS]]
    return [one for one in found if one is not None]


def _instance(file: File, root: Node, instance: Node, claims: Claims, *, elects: bool) -> None:
    who = whose(file)
    source = instance.one("unicast_src_ip")
    machine = claims.machine(file.host, address(source.value, source.value) if source and source.value else None)
    machine.source = machine.source or who
    machine.carries = True
    for vip in _virtual(instance):
        claims.vips.append(vip)
    interface = instance.one("interface")
    if interface is not None and interface.value:
        machine.has("interface", interface.value, interface.value)
    priority = instance.one("priority")
    number = whole(priority.value if priority else None, 0, 999_999_999)
    if elects:
        machine.has("priority", 100 if number is None else number, priority.value if priority and number is not None else None)
    router = instance.one("virtual_router_id")
    if router is not None and router.value:
        claims.say((*_KEEPALIVED, "virtualRouterId"), whole(router.value, 0, 999_999_999), router.value, who)
    peers = instance.one("unicast_peer")
    claims.say((*_KEEPALIVED, "transport"), "unicast" if peers else "multicast", peers.name if peers else None, who)
    for peer in (peers.children or ())[:_MAX_PEERS] if peers else ():
        where = address(peer.name, peer.name)
        if where is not None:
            claims.machine("", where).carries = True
    _version(root, instance, claims, who)
    _preemption(instance, claims, who)
    password = next((node.one("auth_pass") for node in instance.all("authentication")), None)
    if password is not None and password.value is not None:
        claims.say((*_KEEPALIVED, "authPass"), str(password.value), password.value, who)
    refresh = instance.one("garp_master_refresh") or next(root.walk("vrrp_garp_master_refresh"), None)
    claims.say((*_KEEPALIVED, "garpRefresh"), whole(refresh.value if refresh else None, 0, 86_400), refresh.value if refresh else None, who)
    _check(root, instance, claims, who)


def _version(root: Node, instance: Node, claims: Claims, who: str) -> None:
    """VRRP version and interval; unsaid, they are keepalived's own: 2 (3 for an IPv6 VIP) and one second."""
    node = instance.one("version") or next(root.walk("vrrp_version"), None)
    number = whole(node.value if node else None, 2, 3)
    if number is None and next(root.walk("include"), None) is None:
        number = 3 if any(":" in vip.text for vip in _virtual(instance)[:1]) else 2
    claims.say((*_KEEPALIVED, "vrrpVersion"), number, node.value if node else None, who)
    interval = instance.one("advert_int")
    text = interval.value if interval else None
    if text is None:
        claims.say((*_KEEPALIVED, "advertInterval"), "1", None, who)
    elif found := re.fullmatch(r"0*([0-9]{1,2})(?:\.([0-9]{1,2}?)0*)?", text):
        claims.say((*_KEEPALIVED, "advertInterval"), found[1] + (f".{found[2]}" if found[2] else ""), text, who)


def _preemption(instance: Node, claims: Claims, who: str) -> None:
    never = instance.one("nopreempt")
    claims.say((*_KEEPALIVED, "preempt"), never is None, never.name if never else None, who)
    delay = instance.one("preempt_delay")
    claims.say((*_KEEPALIVED, "preemptDelay"), whole(delay.value if delay else None, 0, 1000), delay.name if delay else None, who)


def _check(root: Node, instance: Node, claims: Claims, who: str) -> None:
    """The first script that the instance tracks; unsaid, keepalived runs it every second, for at most that long."""
    tracked = [entry.name for block in instance.all("track_script") for entry in block.children or ()]
    scripts = {node.value: node for node in root.walk("vrrp_script") if node.value}
    script = next((scripts[name] for name in tracked if name in scripts), None)
    if script is None:
        return
    path = (*_KEEPALIVED, "check")
    numbers = {name: node for name in ("interval", "timeout", "fall", "rise") if (node := script.one(name)) and node.value}
    given = {name: whole(node.value, 1, 100 if name in ("fall", "rise") else 3600) for name, node in numbers.items()}
    if None in given.values():
        return
    values = {"interval": 1, "fall": 1, "rise": 1} | given
    values.setdefault("timeout", values["interval"])
    word = next((numbers[name].value for name in ("interval", "fall", "timeout") if name in numbers), None)
    claims.say(path, {}, word, who)
    for name, value in values.items():
        claims.say((*path, name), value, numbers[name].value if name in numbers else None, who)
    said = script.one("script")
    ours = said is not None and said.value is not None and said.value.startswith("/usr/libexec/keepalived/stowage-check ")
    if not ours:
        claims.note(f"the health check {said.value if said and said.value else script.value}: the bundle brings its own")


def virtual_servers(files: Files, claims: Claims) -> None:
    """IPVS before API servers: a virtual server of the VIP whose real servers have the API's port, or that has the endpoint's."""
    vips = {vip.text for vip in claims.vips}
    ports = {known.value for known in claims.told.get(("controlPlaneEndpoint", "port"), {}).values()} - {None}
    for file, root in joined(files):
        who = whose(file)
        for node in root.walk("virtual_server"):
            where = address(node.value or "", node.value)
            port = whole(node.args[1] if len(node.args) > 1 else None, 1, 65535)
            reals = [real for real in node.all("real_server") if len(real.args) > 1 and address(real.args[0])]
            of_api = bool(reals) and all(real.args[1] == "6443" for real in reals)
            if where is None or port is None or not (of_api or port in ports) or (vips and where.text not in vips):
                continue
            balanced = ("loadBalancer", "nginx") in claims.told
            if balanced and port not in ports:
                continue
            if file.host:
                claims.machine(file.host).carries = True
            if not vips:
                claims.vips.append(where)
            claims.say(_IPVS, {}, node.name, who)
            claims.say(("controlPlaneEndpoint", "port"), port, node.args[1], who)
            _settings(node, reals, claims, who)
            break


def _settings(node: Node, reals: list[Node], claims: Claims, who: str) -> None:
    algorithm = node.one("lb_algo") or node.one("lvs_sched")
    kind = node.one("lb_kind") or node.one("lvs_method")
    for key, said, known in (("scheduler", algorithm, _SCHEDULERS), ("forwarding", kind, ("DR", "NAT", "TUN"))):
        if said is not None and said.value in known:
            claims.say((*_IPVS, key), str(said.value), said.value, who)
        elif said is not None:
            claims.note(f"IPVS's {said.name} {said.value}: an inventory has {', '.join(known)}")
    loop = node.one("delay_loop")
    claims.say((*_IPVS, "delayLoop"), whole(loop.value if loop else None, 1, 3600), loop.value if loop else None, who)
    timeout = next((found for real in reals for found in real.walk("connect_timeout")), None)
    claims.say((*_IPVS, "connectTimeout"), whole(timeout.value if timeout else None, 1, 3600), timeout.value if timeout else None, who)
    for real in reals:
        claims.machine("", address(real.args[0], real.args[0])).plays(CONTROL_PLANE, real.args[0])
        claims.say(("cluster", "apiServer", "bindPort"), whole(real.args[1], 1, 65535), real.args[1], who)
    claims.complete = claims.complete or reals[0].name if reals else claims.complete


def units(files: Files, claims: Claims) -> None:
    """KillMode of keepalived's unit: that of a drop-in, else that of the unit itself."""
    found: list[tuple[bool, str, Word]] = []
    for file, root in files.of("unit"):
        if "keepalived.service" in file.source.name or "keepalived.service" in file.path:
            for section in root.all("Service"):
                mode = section.one("KillMode")
                if mode is not None and mode.value in _KILL_MODES:
                    found.append((".service.d/" not in f"{file.source.name}{file.path}", whose(file), mode.value))
    dropped = {who for own, who, _ in found if not own}
    for own, who, word in sorted(found, key=lambda one: one[0]):
        if not (own and who in dropped):
            claims.say((*_KEEPALIVED, "killMode"), str(word), word, who)
