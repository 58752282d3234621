"""Claims to the data of an inventory; what no file says is guessed, and said to be guessed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from netaddr import IPNetwork

from generator import validate
from generator.adopt import hosts
from generator.adopt.addressing import Addressing, networks
from generator.adopt.casting import cast
from generator.adopt.claims import CONTROL_PLANE, Address, Claims, family
from generator.adopt.sheet import Draft, Guessing, Refused, Sheet
from generator.diagnostics import Diagnostic, Path
from generator.handwritten import Word

_ENDPOINT: Path = ("controlPlaneEndpoint",)
_PORT: Path = ("controlPlaneEndpoint", "port")
_NGINX: Path = ("loadBalancer", "nginx")
_KEEPALIVED: Path = ("loadBalancer", "keepalived")
_CNI: Path = ("cluster", "cni")
_PODS = ("10.244.0.0/16", "172.30.0.0/16", "10.10.0.0/16", "192.168.0.0/16")
_SERVICES = ("10.96.0.0/16", "172.31.0.0/16", "10.11.0.0/16")
# kubeadm's default, and the inventory's.
_OWN_SERVICES = "10.96.0.0/12"
_MAX_ROUNDS = 8


def drafted(claims: Claims, guessing: Guessing, view: str = "", *, literal: bool = False) -> Draft | None:
    """
    The draft of *claims* as the host *view* tells them; None where they can't be made an inventory.

    Values that the schema refuses are taken out and guessed.  With *literal* a password stays as it is.
    """
    refused: dict[tuple[Path, str], tuple[Diagnostic, Word | None]] = {}
    for _ in range(_MAX_ROUNDS):
        draft = _draft(claims, guessing, view, set(refused), literal=literal)
        problems = validate.run(draft.data)
        if not problems:
            draft.refused = [(problem, word) for problem, word in refused.values() if word is not None]
            return draft
        for problem in problems:
            refused[_where(draft.data, problem.path)] = (problem, draft.origins.get(problem.path))
    return None


def _where(data: Any, path: Path) -> tuple[Path, str]:
    """The name of a refused value; hosts keep their places, entries of other lists are known by themselves."""
    value = data
    for part in path:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return path, ""
    return (path[:-1], str(value)) if path and isinstance(path[-1], int) and path[0] != "hosts" else (path, "")


def _draft(claims: Claims, guessing: Guessing, view: str, refused: Refused, *, literal: bool) -> Draft:
    sheet = Sheet(claims.heard(view), refused)
    spoken = any(path[0] in ("controlPlaneEndpoint", "loadBalancer") for path in sheet.heard)
    balanced = spoken or bool(claims.vips) or claims.addressed is not None or any(machine.carries for machine in claims.machines)
    roles = cast(claims, dedicated=guessing.dedicated, balanced=balanced)
    sheet.draft.notes += claims.notes
    where = Addressing(claims, sheet.heard, roles, guessing)
    sheet.origin(("hosts",), claims.complete)
    sheet.put(("version",), 1)
    _cluster(sheet, where, guessing)
    if balanced or sum(role.name == CONTROL_PLANE for role in roles) > 1:
        _endpoint(sheet, where, claims)
        _load_balancer(sheet, literal=literal)
    hosts.defaults(sheet, roles)
    hosts.listed(sheet, where, roles)
    _names_of_certificates(sheet, where)
    return sheet.draft


def _cluster(sheet: Sheet, where: Addressing, guessing: Guessing) -> None:
    sheet.say(("cluster", "name"), "kubernetes", "no file names the cluster; the bundle's folder is called so")
    sheet.say(("cluster", "kubernetesVersion"), guessing.version, "no file says which release")
    if _told(sheet):
        sheet.origin(("cluster",), sheet.heard["cluster",].word)
    _subnets(sheet, where)
    sheet.say(("cluster", "containerRuntime"), "containerd", "no file names a container runtime")
    _cni(sheet)
    apart = {"name", "kubernetesVersion", "podSubnet", "serviceSubnet", "containerRuntime", "cni", "extraHosts"}
    for path, known in sheet.below(("cluster",)):
        if len(path) > 1 and path[1] not in apart and not isinstance(path[-1], int):
            sheet.put(path, known.value, known.word)
    for key in ("serverCertSANs", "peerCertSANs"):
        _entries(sheet, ("cluster", "etcd", key), ())
    for number, (path, known) in enumerate(sheet.below(("cluster", "extraHosts"))):
        sheet.put(("cluster", "extraHosts", number, "name"), path[2], known.word)
        sheet.put(("cluster", "extraHosts", number, "address"), known.value, known.word)


def _told(sheet: Sheet) -> bool:
    """Whether it is known what kubeadm is told."""
    return ("cluster",) in sheet.heard


def _subnets(sheet: Sheet, where: Addressing) -> None:
    """Networks that overlap nothing that is known; kubeadm's own service network where kubeadm is told of none."""
    others = [known.value for _, known in sheet.below(("cluster", "extraHosts"))]
    taken = [IPNetwork(f"{text}/{24 if family(text) == 4 else 64}") for text in (*sorted(where.known), *others)]
    for key in ("podSubnet", "serviceSubnet"):
        taken += networks(sheet.heard["cluster", key]) if ("cluster", key) in sheet.heard else []
    pods = [*taken, IPNetwork(_OWN_SERVICES)]
    sheet.say(("cluster", "podSubnet"), _plan(_PODS, "fd00:10:244::/56", pods, where.families), "no file says the pod network")
    if not (_told(sheet) and where.families == (4,)):
        services = _plan(_SERVICES, "fd00:10:96::/112", taken, where.families)
        sheet.say(("cluster", "serviceSubnet"), services, "no file says the service network")
    else:
        sheet.say(("cluster", "serviceSubnet"))


def _plan(fours: tuple[str, ...], six: str, taken: list[IPNetwork], families: tuple[int, ...]) -> str:
    """One network a family, the first of *fours* that is free for IPv4."""
    four = next((text for text in fours if not any(_overlap(IPNetwork(text), other) for other in taken)), fours[0])
    return ",".join(four if version == 4 else six for version in families)


def _overlap(one: IPNetwork, other: IPNetwork) -> bool:
    return bool(one.version == other.version and one.first <= other.last and other.first <= one.last)


def _cni(sheet: Sheet) -> None:
    known = sheet.heard.get((*_CNI, "name"))
    if known is None:
        sheet.put(_CNI, "none", guess="no file installs a pod network; flannel and calico can be installed")
        return
    sheet.put((*_CNI, "name"), known.value, known.word)
    sheet.origin(_CNI, known.word)
    branch = {"flannel": "flannel", "calico": "calico", "none": "noCni"}[known.value]
    for key in validate.schema()["$defs"][branch]["properties"]:
        if key != "name":
            sheet.say((*_CNI, key))
    if len(sheet.draft.data["cluster"]["cni"]) == 1:
        sheet.draft.data["cluster"]["cni"] = known.value


def _entries(sheet: Sheet, path: Path, without: Iterable[str]) -> None:
    """A list whose entries were heard one by one, without those that the model adds by itself."""
    number = 0
    for _, known in sheet.below(path):
        if known.value not in without and sheet.put((*path, number), known.value, known.word):
            number += 1


def _names_of_certificates(sheet: Sheet, where: Addressing) -> None:
    own = {"127.0.0.1", sheet.draft.data.get("controlPlaneEndpoint", {}).get("name", ""), *(vip.text for vip in where.vips)}
    for index, role in enumerate(where.roles):
        texts = [one.text for listed in role.machine.addresses.values() for one in listed]
        if role.name == where.carrier:
            own |= {sheet.draft.data["hosts"][index]["name"], *texts}
        elif role.name == CONTROL_PLANE:
            own |= set(texts[1:])
    _entries(sheet, ("cluster", "apiServer", "certSANs"), own)


def _endpoint(sheet: Sheet, where: Addressing, claims: Claims) -> None:
    sheet.say((*_ENDPOINT, "name"), "api", "no file names the endpoint")
    vips = where.vips or [Address(where.free(where.families[0]), None, None)]
    for number, vip in enumerate(vips):
        path = (*_ENDPOINT, "address", number) if len(vips) > 1 else (*_ENDPOINT, "address")
        length = vip.prefix or where.prefix(vip.text, carries=True)
        sheet.put(path, f"{vip.text}/{length}", vip.word, "" if vip.word is not None else "no file says the virtual IP")
        if vip.word is not None and vip.prefix is None:
            sheet.draft.guesses[path] = "no file says the prefix length"
    port = sheet.heard.get(_PORT)
    if port is not None and port.value == 0:
        # A port that kubeadm isn't told stays away, and rule KUB001 says so.
        sheet.origin(_PORT, port.word)
        others = [known.value for known in claims.told[_PORT].values() if known.value]
        sheet.draft.guesses[_PORT] = f"kubeadm is told none; the load balancer listens on {others[0]}" if others else "kubeadm is told none"
    elif port is not None and not _listening(claims, port.value):
        # Nobody listens where the endpoint leads, which is another mistake than what the port itself may be.
        sheet.put(_PORT, port.value)
    else:
        sheet.say(_PORT, 16443, "no file says the load balancer's port")


def _listening(claims: Claims, port: int) -> bool:
    """Whether a load balancer has this port, as far as one is known."""
    ports = {known.value for who, known in claims.told[_PORT].items() if who}
    return not ports or port in ports


def _load_balancer(sheet: Sheet, *, literal: bool) -> None:
    for path, known in sheet.below(("loadBalancer",)):
        if known.value == {}:
            if path != (*_KEEPALIVED, "check"):
                sheet.put(path, {})
            sheet.origin(path, known.word)
    for path, known in sheet.below(("loadBalancer",)):
        if known.value != {}:
            secret = path[-1] == "authPass" and not literal
            sheet.put(path, {"secret": "vrrp"} if secret else known.value, known.word)
    _between(sheet)
    address = sheet.draft.data["controlPlaneEndpoint"]["address"]
    tail = str(address if isinstance(address, str) else address[0]).partition("/")[0].rpartition(".")[2]
    number = int(tail) if re.fullmatch("[0-9]{1,3}", tail) and 1 <= int(tail) <= 255 and int(tail) != 51 else 1
    if (*_KEEPALIVED, "virtualRouterId") not in sheet.heard:
        sheet.put((*_KEEPALIVED, "virtualRouterId"), number, guess="no file has a vrrp_instance; it must be unused on the segment")


def _between(sheet: Sheet) -> None:
    """Defaults that would contradict what was heard."""
    nginx = sheet.draft.data.get("loadBalancer", {}).get("nginx", {})
    connect = re.fullmatch(r"([0-9]+)(ms|s|m|h)", nginx.get("connectTimeout", ""))
    if connect and "nextUpstreamTimeout" not in nginx:
        limit = f"{5 * int(connect[1])}{connect[2]}"
        sheet.put((*_NGINX, "nextUpstreamTimeout"), limit, guess="nginx has no limit unless it is said")
    port = sheet.draft.data["controlPlaneEndpoint"].get("port")
    if port == nginx.get("checkPort", 16444) and "checkPort" not in nginx:
        other = port + 1 if port < 65535 else port - 1
        sheet.put((*_NGINX, "checkPort"), other, guess="16444, the default, is the endpoint's port")
