"""KAD: one keepalived.conf: its form, its instances, its virtual servers."""

import re
from collections.abc import Iterator

from generator.handwritten import Files, Node, Word
from generator.handwritten.vrrp import instances
from generator.lint import Found, essay, file_rule
from generator.wording import said

# Settings of one value: what stands behind it on the line is lost.
_SINGLE = {
    "auth_type", "auth_pass", "state", "interface", "virtual_router_id", "priority", "advert_int", "version", "interval", "timeout",
    "weight", "fall", "rise", "router_id", "connect_timeout", "connect_port", "retry", "delay_before_retry", "delay_loop", "lb_algo",
    "lb_kind", "protocol",
}  # fmt: skip
_TRACKERS = ("track_script", "track_process", "track_file", "track_bfd")
_CHECKS = (
    "TCP_CHECK",
    "HTTP_GET",
    "SSL_GET",
    "MISC_CHECK",
    "SMTP_CHECK",
    "DNS_CHECK",
    "UDP_CHECK",
    "PING_CHECK",
    "BFD_CHECK",
    "FILE_CHECK",
)

essay(
    "KAD001",
    """Braces or quotes that keepalived can't match.

    Why it hurts: keepalived goes on after it: what stands behind belongs to another block or to none, and it starts with half of the
    configuration.

    Example: `vrrp_instance VI_1 {` without its closing brace, `script "/etc/check.sh` without its second quote.

    Use instead: one closing brace a block, and both quotes on one line; `keepalived -t` names the line.

    Source: keepalived 2.2.7, measured: exit status 5 of `-t`, and a crash for a quote that is never closed.
    """,
)


@file_rule("KAD003", "error")
def one_line(files: Files) -> Iterator[Found]:
    """
    Several settings on one line of a block.

    Why it hurts: a line is one keyword with its arguments, whatever braces stand on it; keepalived takes the first setting and loses the
    rest, such as the password.

    Example: `authentication { auth_type PASS auth_pass 1111 }`: "Authentication specified but no password given".

    Use instead: a line for each setting, each address and each script.

    Source: keepalived 2.2.7, measured with `-t` (exit status 5).
    """
    for _, root in files.of("keepalived"):
        for block in root.walk(
            "virtual_ipaddress", "unicast_peer", "track_script", "authentication", "vrrp_instance", *_CHECKS, "vrrp_script"
        ):
            for entry in block.children or ():
                lost = _lost(block, entry)
                if lost is not None:
                    yield Found(lost, said("{word} is lost behind {name}", word=lost, name=entry.name), "write it on a line of its own")


def _lost(block: Node, entry: Node) -> Word | None:
    """What keepalived doesn't take of *entry*."""
    if entry.name in _SINGLE:
        return next((word for word in entry.args[1:] if word in _SINGLE), None)
    if block.name in ("virtual_ipaddress", "unicast_peer"):
        return next((word for word in entry.args[:1] if re.fullmatch(r"\d+(\.\d+){3}(/\d+)?", word)), None)
    if block.name == "track_script":
        return next((word for word in entry.args[:1] if word not in ("weight", "reverse", "no_reverse")), None)
    return None


@file_rule("KAD009", "warning")
def nothing_tracked(files: Files) -> Iterator[Found]:
    """
    An instance with addresses that tracks nothing.

    Why it hurts: keepalived sees its own interface and the other hosts, and nothing else; with a dead load balancer on it the host keeps
    the VIP.

    Example: a `vrrp_instance` with `virtual_ipaddress` and without `track_script` or `track_process`.

    Use instead: a `vrrp_script` that asks the load balancer of the host, and `track_script` in the instance.

    Source: keepalived.conf(5), *track_script*; k0sproject/k0s#6866.
    """
    busy: dict[int, bool] = {}
    for instance in instances(files):
        root = instance.root
        if id(root) not in busy:
            busy[id(root)] = any(True for _ in root.walk(*_TRACKERS)) or any(root.all("virtual_server", "vrrp_script"))
        if instance.vips and instance.whole and not instance.tracked and not busy[id(root)]:
            yield Found(
                instance.name,
                said("instance {name} keeps the VIP when nothing answers on it", name=instance.name),
                "add a vrrp_script that asks the load balancer, and track it",
                related=(next(iter(instance.vips.values())).related("the VIP"),),
            )


@file_rule("KAD010", "error")
def master_without_preemption(files: Files) -> Iterator[Found]:
    """
    Settings against preemption beside state MASTER.

    Why it hurts: keepalived clears them and goes on: the returning host takes the VIP back at once, which is what they were to prevent.

    Example: `state MASTER` and `nopreempt`, or `preempt_delay 300`.

    Use instead: `state BACKUP` on every host; the priority says who is first.

    Source: keepalived.conf(5), *nopreempt* and *preempt_delay*; `keepalived -t` 2.2.7 exits with 5.
    """
    for instance in instances(files):
        state = instance.word("state")
        if state is not None and state == "MASTER":
            for line in instance.node.all("nopreempt", "preempt_delay"):
                yield Found(
                    line.name,
                    said("{setting} has no effect with state MASTER", setting=line.name),
                    "write state BACKUP",
                    related=(state.related("the state"),),
                )


@file_rule("KAD011", "error")
def incomplete_instance(files: Files) -> Iterator[Found]:
    """
    An instance without interface or router id.

    Why it hurts: keepalived doesn't run it, and no host holds the VIP.

    Example: a `vrrp_instance` without `virtual_router_id`.

    Use instead: `interface` and `virtual_router_id` in every instance.

    Source: keepalived 2.2.7, measured: "the virtual router id must be set", "Unknown interface!" (exit status 5 of `-t`).
    """
    for instance in instances(files):
        if not instance.whole:
            continue
        for name in ("interface", "virtual_router_id"):
            default = name == "interface" and any(True for one in instance.settings for _ in one.all("default_interface"))
            if instance.word(name) is None and not default:
                yield Found(
                    instance.name,
                    said("instance {name} has no {setting}", name=instance.name, setting=name),
                    said("write {setting}", setting=name),
                )


@file_rule("KAD012", "warning")
def default_priority(files: Files) -> Iterator[Found]:
    """
    An instance without a priority.

    Why it hurts: it gets 100, or 255 with `state MASTER`; two hosts with one priority are both holders for a while after a failure.

    Example: a `vrrp_instance` without `priority`.

    Use instead: another number from 1 to 254 on each host.

    Source: keepalived.conf(5), *priority*; facts 4.6.
    """
    for instance in instances(files):
        if instance.word("priority") is None and instance.whole:
            number = 255 if instance.word("state") == "MASTER" else 100
            yield Found(
                instance.name,
                said("instance {name} has priority {number} because none is written", name=instance.name, number=number),
                "write a priority, another one on each host",
            )


@file_rule("KAD014", "error")
def strict(files: Files) -> Iterator[Found]:
    """
    vrrp_strict before a load balancer.

    Why it hurts: it makes the VIP an address that answers nothing but ping and ARP: keepalived drops all other packets to it; it also
    refuses passwords, and unicast peers in later versions.

    Example: `vrrp_strict` in `global_defs`, as in the sample file of some packages.

    Use instead: remove the line.

    Source: keepalived.conf(5), *vrrp_strict* and *accept*; facts 4.1.
    """
    for instance in instances(files):
        line = next((line for node in instance.settings for line in node.all("vrrp_strict")), None)
        if line is not None and instance.vips and not any(instance.node.all("accept", "strict_mode")):
            yield Found(line.name, "vrrp_strict drops the packets that come for the VIP", "remove it")


@file_rule("KAD015", "error")
def one_id_twice(files: Files) -> Iterator[Found]:
    """
    Two instances with one router id on one interface.

    Why it hurts: keepalived refuses the second one, whose addresses then belong to nobody.

    Example: `VI_1` and `VI_2`, both with `virtual_router_id 51` on `ens160`.

    Use instead: another id, unused on the segment; an IPv4 and an IPv6 instance may share one.

    Source: keepalived 2.2.7, measured: "V and W both use VRID 5 with IPv4 on interface e0" (exit status 5 of `-t`).
    """
    first: dict[tuple[str, ...], Word] = {}
    for instance in instances(files):
        number, interface = instance.word("virtual_router_id"), instance.word("interface")
        if number is None or interface is None or not instance.vips:
            continue
        family = "6" if ":" in next(iter(instance.vips)) else "4"
        other = first.setdefault((instance.file.source.name, interface, number, family), number)
        if other is not number:
            yield Found(
                number,
                said("two instances have router id {number} on {interface}", number=number, interface=interface),
                "give one of them another number",
                related=(other.related("the first of them"),),
            )


@file_rule("KAD016", "error")
def mixed_families(files: Files) -> Iterator[Found]:
    """
    IPv4 and IPv6 addresses in one virtual_ipaddress.

    Why it hurts: an advertisement carries one family; keepalived drops the addresses of the other one, and nobody holds them.

    Example: `192.168.1.31/32` and `fd00::31/128` in one `virtual_ipaddress`.

    Use instead: `virtual_ipaddress_excluded` for the second family, or an instance of its own.

    Source: keepalived.conf(5), *virtual_ipaddress_excluded*; facts 4.6 (exit status 5 of `-t`).
    """
    for instance in instances(files):
        vips = list(instance.vips.values())
        for vip in vips[1:]:
            if (":" in vip) is not (":" in vips[0]):
                yield Found(
                    vip,
                    said("{address} is of another family than {first}", address=vip, first=vips[0]),
                    "move it to virtual_ipaddress_excluded",
                    related=(vips[0].related("the first address"),),
                )


@file_rule("KAD017", "warning")
def no_peers(files: Files) -> Iterator[Found]:
    """
    A list of unicast peers without a peer.

    Why it hurts: keepalived falls back to multicast, which is what the list was to avoid; where the network has none, each host holds the
    VIP.

    Example: `unicast_peer { }`, as a template leaves it for the only host.

    Use instead: the addresses of all other hosts, or no list.

    Source: keepalived 2.2.7, measured: "Defaulting to multicast. This usage is deprecated" (exit status 5 of `-t`).
    """
    for instance in instances(files):
        for block in instance.node.all("unicast_peer"):
            if not block.children and instance.whole:
                yield Found(block.name, "no peer in the list: keepalived goes back to multicast", "name the other hosts, or remove it")


@file_rule("KAD018", "info")
def no_source(files: Files) -> Iterator[Found]:
    """
    Unicast peers without a source address.

    Why it hurts: keepalived sends from the interface's first address; where that changes, or is another one than the peers have listed,
    they don't take the advertisements.

    Example: `unicast_peer { ... }` and no `unicast_src_ip`.

    Use instead: `unicast_src_ip` with the address of this host that the other hosts list.

    Source: keepalived.conf(5), *unicast_src_ip* (default: the primary address of the interface).
    """
    for instance in instances(files):
        block = instance.node.one("unicast_peer")
        if block is not None and block.children and instance.word("unicast_src_ip") is None:
            yield Found(
                block.name,
                said("instance {name} has unicast peers and no unicast_src_ip", name=instance.name),
                "write unicast_src_ip with the address that the peers list",
            )


@file_rule("KAD020", "warning")
def unchecked_server(files: Files) -> Iterator[Found]:
    """
    A real_server without a check.

    Why it hurts: keepalived never takes it out: connections go on being sent to a server that is gone.

    Example: `real_server 192.168.1.25 6443 { weight 1 }`.

    Use instead: `SSL_GET` of `/readyz`, or a `TCP_CHECK` with a short `connect_timeout`.

    Source: keepalived.conf(5), *real_server*.
    """
    for _, root in files.of("keepalived"):
        for node in root.walk("real_server"):
            if node.value is not None and not any(node.all(*_CHECKS)):
                yield Found(node.value, said("nobody checks the real server {server}", server=" ".join(node.args)), "add a check")
