"""LBR: keepalived's VRRP instance: ids, priorities, times."""

from collections.abc import Iterator

from generator.diagnostics import Fix, Path, Related
from generator.lint import Finding, rule
from generator.lint.places import vip_places
from generator.model import Cluster, Host
from generator.wording import said

_KEEPALIVED: Path = ("loadBalancer", "keepalived")


@rule("LBR016", "error")
def router_id(cluster: Cluster) -> Iterator[Finding]:
    """
    A VRRP router id outside of 1 to 255.

    Why it hurts: the field has eight bits; keepalived refuses the instance and no host holds the VIP.

    Example: `virtualRouterId: 300`.

    Use instead: 1 to 255, unused by others on the segment.

    Source: RFC 5798, section 5.2.3; keepalived.conf(5), *virtual_router_id* (`-t` gives exit status 5).
    """
    if cluster.load_balancer is not None:
        number = cluster.load_balancer.keepalived.virtual_router_id
        if not 1 <= number <= 255:
            yield Finding(
                (*_KEEPALIVED, "virtualRouterId"),
                said("virtualRouterId {number} is not in 1 to 255", number=number),
                "write a number from 1 to 255",
            )


@rule("LBR017", "info")
def router_id_51(cluster: Cluster) -> Iterator[Finding]:
    """
    The VRRP router id of every tutorial.

    Why it hurts: two clusters with one id on one segment take each other's advertisements; 51 is what most examples and distributions
    have.

    Example: `virtualRouterId: 51`.

    Use instead: nothing, where you know the segment; `tcpdump -n proto 112` on it shows the ids in use.

    Source: kubeadm, ha-considerations.md ("many distros pre-configure its value to 51"); openshift/baremetal-runtimecfg#22.
    """
    if cluster.load_balancer is not None and cluster.load_balancer.keepalived.virtual_router_id == 51:
        yield Finding(
            (*_KEEPALIVED, "virtualRouterId"),
            "virtualRouterId 51 is that of every tutorial",
            "make sure that nobody else on the segment has it",
        )


@rule("LBR018", "error")
def advert_interval(cluster: Cluster) -> Iterator[Finding]:
    """
    An advertisement interval that this VRRP version can't send.

    Why it hurts: version 2 has whole seconds, from 1 to 255; version 3 hundredths, from 0.01 to 40.95. Another value is rounded, with
    version 2 down to 0, and the hosts flood or ignore each other.

    Example: `vrrpVersion: 2` with the default `advertInterval: 0.5`.

    Use instead: `advertInterval: 1` with version 2.

    Source: RFC 3768, 5.3.7; RFC 5798, 5.2.7; acassen/keepalived#1615, #2424 (`-t` gives exit status 5).
    """
    if cluster.load_balancer is None:
        return
    keepalived = cluster.load_balancer.keepalived
    whole, _, part = keepalived.advert_interval.partition(".")
    hundredths = int(whole) * 100 + int(part.ljust(2, "0") or 0)
    two = keepalived.vrrp_version == 2
    if not (100 <= hundredths <= 25_500 and hundredths % 100 == 0 if two else 1 <= hundredths <= 4095):
        yield Finding(
            (*_KEEPALIVED, "advertInterval"),
            said(
                "VRRP version {version} can't advertise every {seconds} s",
                version=keepalived.vrrp_version,
                seconds=keepalived.advert_interval,
            ),
            "write whole seconds from 1 to 255" if two else "write seconds from 0.01 to 40.95",
            related=(Related((*_KEEPALIVED, "vrrpVersion"), "the version"),) if two else (),
        )


@rule("LBR019", "error")
def priority_range(cluster: Cluster) -> Iterator[Finding]:
    """
    A VRRP priority outside of 1 to 254.

    Why it hurts: 0 is the message by which a holder gives the VIP up, 255 belongs to a router that owns the address and ignores its health
    check.

    Example: `priority: 255`.

    Use instead: 1 to 254; unset, the hosts get 200 and downwards in the inventory's order.

    Source: RFC 5798, section 5.2.4; keepalived.conf(5), *priority*.
    """
    for host in cluster.load_balancers:
        number = host.priority if host.priority is not None else cluster.priorities[host.name]
        if not 1 <= number <= 254:
            yield Finding(
                ("hosts", host.index, "priority"),
                said("{host} has VRRP priority {number}, not 1 to 254", host=host.label(), number=number),
                "write a number from 1 to 254",
            )


@rule("LBR020", "error")
def equal_priorities(cluster: Cluster) -> Iterator[Finding]:
    """
    Two load balancers have one VRRP priority.

    Why it hurts: after a failure both become master at once and send advertisements until the higher address has won: for that long there
    are two holders of the VIP.

    Example: `priority: 100` on two hosts.

    Use instead: distinct numbers, or none: unset, the hosts get 200 and downwards in the inventory's order.

    Source: RFC 5798, section 6.4.3; kubeadm, ha-considerations.md; KubeKey's template gives 50 to every node.
    """
    first: dict[int, Host] = {}
    for host in cluster.load_balancers:
        if host.priority is not None:
            other = first.setdefault(host.priority, host)
            if other is not host:
                yield Finding(
                    ("hosts", host.index, "priority"),
                    said(
                        "{host} and {other} have one VRRP priority {priority}",
                        host=host.label(),
                        other=other.label(),
                        priority=host.priority,
                    ),
                    "give them distinct numbers, or none",
                    related=(Related(("hosts", other.index, "priority"), "the first of them"),),
                )


@rule("LBR021", "error")
def idle_preempt_delay(cluster: Cluster) -> Iterator[Finding]:
    """
    A preempt delay without preemption.

    Why it hurts: without preemption a returning host never takes the VIP back, so the delay that somebody relies on doesn't exist;
    keepalived calls the two a contradiction.

    Example: `preemptDelay: 300` with the default `preempt: false`.

    Use instead: remove it, or add `preempt: true`.

    Source: keepalived.conf(5), *preempt_delay* (`-t` gives exit status 5 beside nopreempt).
    """
    if cluster.load_balancer is not None:
        keepalived = cluster.load_balancer.keepalived
        if keepalived.preempt_delay is not None and not keepalived.preempt:
            yield Finding(
                (*_KEEPALIVED, "preemptDelay"),
                said("preemptDelay {seconds} without preempt", seconds=keepalived.preempt_delay),
                "remove it, or add `preempt: true`",
                on_key=True,
            )


@rule("LBR022", "error")
def version_2_ipv6(cluster: Cluster) -> Iterator[Finding]:
    """
    An IPv6 VIP with VRRP version 2.

    Why it hurts: version 2 knows IPv4 only; keepalived turns the instance into version 3, and every setting that was made for version 2 is
    wrong.

    Example: `vrrpVersion: 2` with `address: fd00:192:168:1::31/64`.

    Use instead: version 3, the default.

    Source: RFC 5798, section 1; keepalived.conf(5), *vrrp_version*.
    """
    if cluster.load_balancer is None or cluster.load_balancer.keepalived.vrrp_version != 2:
        return
    places = vip_places(cluster)
    # The second family only travels along (virtual_ipaddress_excluded): the first one decides.
    if places and places[0].network.version == 6:
        yield Finding(
            (*_KEEPALIVED, "vrrpVersion"),
            said("VRRP version 2 has no IPv6: {other}", other=places[0].label),
            "remove vrrpVersion: 3 is the default",
            related=(Related(places[0].path, "the VIP"),),
            fix=Fix("remove"),
        )


@rule("LBR023", "warning")
def slow_check(cluster: Cluster) -> Iterator[Finding]:
    """
    The health check takes long to notice a dead load balancer.

    Why it hurts: until it has failed `fall` times in a row, the VIP stays on a host where nothing answers, and so do all clients.

    Example: `check: {interval: 10, fall: 3}`: up to 32 s.

    Use instead: the defaults: every second, one failure of a check that retries by itself.

    Source: keepalived.conf(5), *vrrp_script*; checklist rows 29 and 41 (more than 10 s).
    """
    if cluster.load_balancer is not None and cluster.load_balancer.nginx is not None:
        check = cluster.load_balancer.keepalived.check
        worst = check.interval * check.fall + check.timeout
        if worst > 10:
            yield Finding(
                (*_KEEPALIVED, "check"),
                said("the health check takes up to {worst} s to notice a dead load balancer", worst=worst),
                "keep interval * fall + timeout at 10 s or less",
                on_key=True,
            )


@rule("LBR024", "warning")
def kill_mode(cluster: Cluster) -> Iterator[Finding]:
    """
    KillMode process for keepalived.

    Why it hurts: systemd then ends the main process alone; what is left of it after a kill still holds the VIP beside the host that took
    over.

    Example: `killMode: process`, upstream's own unit file.

    Use instead: `mixed`, the default: keepalived gives the VIP up, then all that is left is ended.

    Source: systemd/systemd#13288 ("KillMode=process is a red flag"); systemd.kill(5); acassen/keepalived#2361.
    """
    if cluster.load_balancer is not None and cluster.load_balancer.keepalived.kill_mode == "process":
        message = "killMode process leaves keepalived's children alive"
        yield Finding((*_KEEPALIVED, "killMode"), message, "remove it: mixed is the default", fix=Fix("remove"))


@rule("LBR033", "warning")
def slow_advertisements(cluster: Cluster) -> Iterator[Finding]:
    """
    Advertisements so rare that the VIP moves late.

    Why it hurts: a backup takes the VIP over once it has heard nothing for three intervals and a fraction of one; until then the API is
    gone for all.

    Example: `advertInterval: 10`: half a minute without an API after the holder has lost its power.

    Use instead: 0.5, the default; 1 with VRRP version 2.

    Source: RFC 5798, section 6.1 (Master_Down_Interval).
    """
    if cluster.load_balancer is not None:
        text = cluster.load_balancer.keepalived.advert_interval
        if not text.startswith("-") and float(text) > 3:
            yield Finding(
                (*_KEEPALIVED, "advertInterval"),
                said("with advertisements every {text} s the VIP moves after {most:g} s and more", text=text, most=3 * float(text)),
                "write 1 or less",
            )
