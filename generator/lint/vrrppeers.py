"""KAD: the keepalived.conf of several hosts beside each other."""

from collections.abc import Iterator
from itertools import pairwise

from generator.handwritten import Files, Word, integer
from generator.handwritten.keepalived import joined, whose
from generator.handwritten.vrrp import Instance, instances, weight_of
from generator.lint import Found, file_rule
from generator.wording import said


def _groups(files: Files) -> list[list[Instance]]:
    """Instances of different hosts that share a VIP, one a host."""
    by_vip: dict[str, dict[str, Instance]] = {}
    for instance in instances(files):
        if instance.whole:
            for vip in instance.vips:
                by_vip.setdefault(vip, {}).setdefault(instance.host, instance)
    groups: dict[tuple[int, ...], list[Instance]] = {}
    for hosts in by_vip.values():
        if len(hosts) > 1:
            groups.setdefault(tuple(id(one.node) for one in hosts.values()), list(hosts.values()))
    return list(groups.values())


@file_rule("KAD023", "warning")
def several_masters(files: Files) -> Iterator[Found]:
    """
    State MASTER on several hosts.

    Why it hurts: each of them takes the VIP when it starts and gives it up again when it hears the other one: clients are cut off twice.

    Example: one keepalived.conf with `state MASTER` copied to all hosts.

    Use instead: `state BACKUP` on every host; the priorities say who holds the VIP.

    Source: keepalived.conf(5), *state*; acassen/keepalived#497 (the maintainer).
    """
    for group in _groups(files):
        masters = [state for one in group if (state := one.word("state")) is not None and state == "MASTER"]
        for state in masters[1:]:
            yield Found(
                state,
                said("{count} hosts begin as MASTER of one VIP", count=len(masters)),
                "write state BACKUP on all",
                related=(masters[0].related("the first of them"),),
            )


@file_rule("KAD024", "error")
def different_settings(files: Files) -> Iterator[Found]:
    """
    Hosts of one VIP that don't speak the same VRRP.

    Why it hurts: a host ignores advertisements with another router id, interval, version or password, takes itself for the only one, and
    holds the VIP beside the others.

    Example: `virtual_router_id 51` on one host and `virtual_router_id 52` on the other, for the same address.

    Use instead: the same `virtual_router_id`, `advert_int`, `version` and `authentication` on all hosts of a VIP.

    Source: RFC 5798, section 7.1; keepalived.conf(5), *vrrp_instance*.
    """
    for group in _groups(files):
        for name in ("virtual_router_id", "advert_int", "vrrp_version", "auth_type", "auth_pass"):
            first = _setting(group[0], name)
            for other in group[1:]:
                mine = _setting(other, name)
                if (mine[0] or first[0]) and _value(name, mine) != _value(name, first):
                    place = mine[0] or other.name
                    yield Found(
                        place,
                        said("{setting} is another one than on the other host of this VIP", setting=mine[1]),
                        "write the same on all hosts",
                        related=((first[0] or group[0].name).related("the other host"),),
                    )


def _setting(instance: Instance, name: str) -> tuple[Word | None, str]:
    """The word of setting *name*, with the keyword that it stands behind."""
    if name == "vrrp_version":
        everywhere = next((line.value for node in instance.settings for line in node.all(name)), None)
        return instance.word("version") or everywhere, "version"
    if name.startswith("auth_"):
        line = next((line for block in instance.node.all("authentication") for line in block.all(name)), None)
        return (line.value if line else None), name
    return instance.word(name), name


def _value(name: str, setting: tuple[Word | None, str]) -> str | None:
    """What counts of a setting: numbers as numbers, eight characters of a password, the default where nothing is written."""
    word = setting[0]
    if word is None:
        return {"advert_int": "1", "vrrp_version": "2"}.get(name)
    if name == "auth_pass":
        return word[:8]
    if name == "advert_int":
        whole, _, part = word.partition(".")
        return f"{whole.lstrip('0')}.{part.rstrip('0')}".rstrip(".") or "0"
    return str(number) if (number := integer(word)) is not None else str(word)


@file_rule("KAD025", "error")
def different_addresses(files: Files) -> Iterator[Found]:
    """
    Hosts of one instance with different addresses.

    Why it hurts: a backup compares the advertised addresses with its own list and drops the advertisement when they differ: both hosts are
    holders.

    Example: `192.168.1.31` on one host; `192.168.1.31` and `192.168.1.32` on the other one.

    Use instead: the same list on all hosts; addresses that shall only move along stand in `virtual_ipaddress_excluded`.

    Source: RFC 5798, section 7.1; keepalived.conf(5), *vrrp_skip_check_adv_addr*.
    """
    for group in _groups(files):
        first = group[0]
        for other in group[1:]:
            for mine, theirs in ((other, first), (first, other)):
                extra = [vip for vip in mine.vips if vip not in theirs.vips]
                if extra and theirs.word("virtual_router_id") == mine.word("virtual_router_id"):
                    yield Found(
                        mine.vips[extra[0]],
                        said("{address} is missing on the other host of this instance", address=extra[0]),
                        "write the same addresses on all hosts",
                        related=(theirs.name.related("the other host"),),
                    )


@file_rule("KAD026", "warning")
def own_peer(files: Files) -> Iterator[Found]:
    """
    A host that is its own peer.

    Why it hurts: it hears its own advertisements; its log is full of them, and where the list was copied, the address of another host is
    often missing.

    Example: `unicast_src_ip 192.168.1.25` and `192.168.1.25` in `unicast_peer`.

    Use instead: all other hosts, and not the host itself.

    Source: keepalived.conf(5), *unicast_peer*; `keepalived -t` accepts it.
    """
    for instance in instances(files):
        source = instance.word("unicast_src_ip")
        for peer in instance.entries("unicast_peer"):
            if source is not None and peer.name == source:
                yield Found(
                    peer.name,
                    said("{address} is the host itself", address=peer.name),
                    "remove it",
                    related=(source.related("its own address"),),
                )


@file_rule("KAD027", "error")
def missing_peer(files: Files) -> Iterator[Found]:
    """
    A host that sends its advertisements not to all others.

    Why it hurts: the host that is left out hears nothing and takes the VIP, too; two holders answer for one address.

    Example: three hosts, and only one of the two others in `unicast_peer`.

    Use instead: on each host the `unicast_src_ip` of all others.

    Source: keepalived.conf(5), *unicast_peer*; acassen/keepalived#2370.
    """
    for group in _groups(files):
        for one in group:
            peers = {str(peer.name) for peer in one.entries("unicast_peer")}
            for other in group:
                source = other.word("unicast_src_ip")
                block = one.node.one("unicast_peer")
                if other is not one and peers and block is not None and source is not None and source not in peers:
                    yield Found(
                        block.name,
                        said("{address} is a host of this VIP and no peer here", address=source),
                        "list all other hosts",
                        related=(source.related("the host that is left out"),),
                    )


@file_rule("KAD028", "error")
def mixed_modes(files: Files) -> Iterator[Found]:
    """
    Unicast on one host and multicast on another.

    Why it hurts: a host with peers sends to them alone and a host without to the group: they don't hear each other, and both hold the VIP.

    Example: `unicast_peer` in the file of one host only.

    Use instead: `unicast_peer` on all hosts, or on none.

    Source: acassen/keepalived#2458; keepalived.conf(5), *unicast_peer*.
    """
    for group in _groups(files):
        unicast = [one for one in group if one.entries("unicast_peer")]
        for one in group:
            if unicast and one not in unicast:
                yield Found(
                    one.name,
                    said("instance {name} uses multicast, and another host of its VIP unicast", name=one.name),
                    "write unicast_peer on all hosts",
                    related=((unicast[0].node.one("unicast_peer") or unicast[0].node).name.related("the host with unicast"),),
                )


@file_rule("KAD029", "error")
def small_weight(files: Files) -> Iterator[Found]:
    """
    A weight that is smaller than the distance of the priorities.

    Why it hurts: with its check failed the holder still has the highest priority, and the VIP stays where nothing answers.

    Example: `weight -20`, with the priorities 150 and 100.

    Use instead: no weight, with which the holder gives the VIP up; or a weight greater than the distance.

    Source: keepalived.conf(5), *vrrp_script*: weight; labring/sealos#2; acassen/keepalived#2599.
    """
    for group in _groups(files):
        ranked = sorted((one for one in group if one.number("priority") is not None), key=lambda one: -(one.number("priority") or 0))
        if len(ranked) < len(group):
            continue
        for holder, backup in pairwise(ranked[:2]):
            gap = (holder.number("priority") or 0) - (backup.number("priority") or 0)
            for name, (entry, script) in holder.tracked.items():
                weight = weight_of(entry, script)
                number = integer(weight)
                if weight is not None and number and gap and abs(number) <= gap:
                    yield Found(
                        weight,
                        said(
                            "weight {weight} of {script} is not more than the distance of the priorities, {gap}",
                            weight=number,
                            script=name,
                            gap=gap,
                        ),
                        "remove the weight, or make it greater than the distance",
                        related=tuple(word.related(label) for one, label in _ranks(holder, backup) if (word := one.word("priority"))),
                    )


def _ranks(holder: Instance, backup: Instance) -> tuple[tuple[Instance, str], ...]:
    return (holder, "the highest priority"), (backup, "the next one")


@file_rule("KAD030", "info")
def one_router_name(files: Files) -> Iterator[Found]:
    """
    Several hosts with one router_id in global_defs.

    Why it hurts: mails and logs of all hosts bear one name, and nobody sees which one has failed.

    Example: `router_id LVS_DEVEL` of the sample file on every host.

    Use instead: the name of the host, or no line: the host name is the default.

    Source: keepalived.conf(5), *router_id*.
    """
    first: dict[str, tuple[str, Word]] = {}
    for file, root in joined(files):
        for node in root.all("global_defs"):
            line = node.one("router_id")
            if line is None or line.value is None:
                continue
            host, word = first.setdefault(line.value, (whose(file), line.value))
            if host != whose(file):
                yield Found(
                    line.value,
                    said("another host has router_id {name}, too", name=line.value),
                    "write the name of the host",
                    related=(word.related("the first of them"),),
                )
