"""
The faults of the rehearsal, each under load: done, watched, mended, and the site well again before the next.

``ROWS`` is the table: what is done to the hosts, and beside it what the origin's and a hand-tuned configuration made of it. ``run`` does
one row to a site, with our configuration on it or with the origin's, and returns an :class:`Outcome`. What is no row stands in ``drills``.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lab.hosts import FailedError, Host, within
from lab.load import LATE, Holders, Load

if TYPE_CHECKING:
    from lab.site import Site

STOWAGE, ORIGIN = "stowage", "origin"
# Load before a fault and with it, in seconds: the shares of the table are shares of the sum.
BEFORE, DURING = 1.5, 13.5
# The end of a fault, in which nothing fails any more when it has healed by itself.
LAST = 3.0
WELL_SECONDS = 60
MENDED_SECONDS = 20
LIVE = "/run/nginx-stowage/apiserver.conf"
NGINX, KEEPALIVED, APISERVER = "nginx", "keepalived", "kube-apiserver"
# Runs of one row, at most: those in which the machine was too busy say nothing.
ATTEMPTS = RUNS = 3
# The kubelet stand-in keeps its back-off here, as the real one does; a rehearsal kills the same container more often than it forgives.
BACK_OFF = r"""sed -i 's/"exits": [0-9]*/"exits": 0/' /run/lab/containers/kube-apiserver.json 2>/dev/null || :"""


@dataclass(frozen=True)
class Figure:
    """A figure of the table: *failed* in percent, *outage* in seconds, None where it says nothing; *text* as it stands there."""

    text: str
    failed: float | None = 0.0
    outage: float | None = 0.0


@dataclass(frozen=True)
class Outcome:
    """
    What a fault did. ``failed`` is a share, ``outage`` the longest run of failing requests and ``silence`` the longest stretch without any
    answer, both in seconds; ``healed``: served again, by one holder, while the fault was still there; ``mended``: well again without help
    once the fault itself was put right; ``holders``, ``several``: how many carried the VIP at most, for how many seconds more than one;
    ``back``: seconds from the return of the first API server until all was served, where the row asks for it.
    """

    setup: str
    name: str
    requests: int
    failed: float
    outage: float
    silence: float
    worst: float
    kinds: dict[str, int]
    late: float
    healed: bool
    mended: bool
    holders: int
    several: float
    moves: int
    back: float | None = None
    notes: tuple[str, ...] = ()


@dataclass
class Scene:
    """A site as a fault finds it: who holds the VIP, another load balancer, and a control plane that is not the holder."""

    site: Site
    setup: str
    holder: Host
    other: Host
    api: Host
    saved: dict[str, bytes] = field(default_factory=dict)

    def spoil(self, host: Host, path: str) -> None:
        """Breaks a file as an edit half done does."""
        file = host.path(path)
        self.saved[path] = file.read_bytes()
        file.write_bytes(self.saved[path] + b"\nstream { this is no configuration\n")

    def restore(self, host: Host, path: str) -> None:
        host.path(path).write_bytes(self.saved[path])


@dataclass(frozen=True)
class Row:
    """
    A fault of the table. *inject* does it and *mend* takes it away, the latter with the load still on where the row has a *tail*;
    *first* comes before the load. *heals*: it has to be served again while it lasts. *moves*: how often the VIP may move, None: as it likes.
    *answers*: any HTTP answer counts as served: what is behind the load balancers can't be ready. *needs*: load balancers, at least.
    """

    name: str
    origin: Figure
    tuned: Figure
    inject: Callable[[Scene], None]
    mend: Callable[[Scene], None]
    first: Callable[[Scene], None] | None = None
    during: float = DURING
    tail: float = 0.0
    heals: bool = True
    moves: int | None = None
    answers: bool = False
    needs: int = 2


# --- how ----------------------------------------------------------------------------------------------------------------------------------


def _nothing(_: Scene) -> None:
    pass


def control(host: Host, *words: str) -> None:
    host.run("systemctl", *words, check=False)


def api_down(host: Host) -> None:
    """Kills the API server; without its kubelet, which leaves containers running when it is stopped, it stays away."""
    control(host, "stop", "kubelet")
    host.signal(APISERVER, signal.SIGKILL)


def api_up(host: Host) -> None:
    host.sh(BACK_OFF)
    control(host, "start", "kubelet")


def _nginx_killed_and_broken(scene: Scene) -> None:
    scene.spoil(scene.holder, "/etc/nginx/nginx.conf")
    scene.holder.signal(NGINX, signal.SIGKILL)


def _nginx_stopped_and_broken(scene: Scene) -> None:
    scene.spoil(scene.holder, "/etc/nginx/nginx.conf")
    control(scene.holder, "stop", "nginx")


def _nginx_mended_and_started(scene: Scene) -> None:
    scene.restore(scene.holder, "/etc/nginx/nginx.conf")
    control(scene.holder, "start", "nginx")


def _holder_away(scene: Scene) -> None:
    scene.holder.dark()
    within(30, "host that takes the VIP over", lambda: any(host is not scene.holder for host in scene.site.holders()), 0.2)
    time.sleep(8)  # until the watchers have noticed, too


def _two_dark(scene: Scene) -> None:
    scene.holder.dark()
    scene.other.dark()


def _two_light(scene: Scene) -> None:
    scene.holder.light()
    scene.other.light()


def _all(hosts: Sequence[Host], work: Callable[[Host], object]) -> None:
    with ThreadPoolExecutor(len(hosts)) as pool:
        list(pool.map(work, hosts))


def _apis_down(scene: Scene) -> None:
    _all(scene.site.control_planes, api_down)


def _apis_up(scene: Scene) -> None:
    """Lets the API servers come back, one a second, as hosts that boot do."""
    for number, host in enumerate(scene.site.control_planes):
        time.sleep(min(number, 1))
        api_up(host)


ROWS = (
    Row("an API server killed", Figure("0 %"), Figure("0 %"), lambda s: api_down(s.api), lambda s: api_up(s.api)),
    Row(
        "an API server's host dark (link down)", Figure("28 % for as long as it lasts", 28, None), Figure("0 % (worst request 1.0 s)"),
        lambda s: s.api.dark(), lambda s: s.api.light(),
    ),
    Row(
        "an API server hung (SIGSTOP)", Figure("30 % for as long as it lasts", 30, None), Figure("0.2 %", 0.2, None),
        lambda s: s.api.signal(APISERVER, signal.SIGSTOP), lambda s: s.api.signal(APISERVER, signal.SIGCONT),
    ),
    Row(
        "nginx killed on the VIP holder", Figure("9 %, 1.0 s out", 9, 1.0), Figure("3 %, 0.4 s out", 3, 0.4),
        lambda s: s.holder.signal(NGINX, signal.SIGKILL), _nothing,
    ),
    Row(
        "nginx killed and its configuration broken", Figure("8 %, 1.2 s out", 8, 1.2), Figure("8 %, 1.2 s out, heals when mended", 8, 1.2),
        _nginx_killed_and_broken, lambda s: s.restore(s.holder, "/etc/nginx/nginx.conf"),
    ),
    Row(
        "nginx stopped by hand and its configuration broken", Figure("42 %, 6.3 s out", 42, 6.3), Figure("11 %, 1.6 s out", 11, 1.6),
        _nginx_stopped_and_broken, _nginx_mended_and_started,
    ),
    Row(
        "nginx hung on the VIP holder (SIGSTOP)", Figure("90 %, out until someone comes", 90, None), Figure("13 %, 2.5 s out", 13, 2.5),
        lambda s: s.holder.signal(NGINX, signal.SIGSTOP), lambda s: s.holder.signal(NGINX, signal.SIGCONT),
    ),
    Row("VIP holder dark", Figure("39 %, 2.3 s out", 39, 2.3), Figure("5 %, 0.8 s out", 5, 0.8), lambda s: s.holder.dark(), lambda s: s.holder.light()),
    Row("VIP holder comes back", Figure("2 %", 2, None), Figure("0 %"), lambda s: s.holder.light(), _nothing, first=_holder_away),
    Row(
        "keepalived killed on the VIP holder", Figure("two holders for ever", None, None), Figure("0 %, one holder"),
        lambda s: s.holder.signal(KEEPALIVED, signal.SIGKILL), _nothing,
    ),
    Row(
        "keepalived stopped for maintenance", Figure("0 %"), Figure("0 %"),
        lambda s: control(s.holder, "stop", KEEPALIVED), lambda s: control(s.holder, "start", KEEPALIVED), tail=5,
    ),
    Row("two of three hosts dark", Figure("65 %, 1.9 s out", 65, 1.9), Figure("6 %, 0.8 s out", 6, 0.8), _two_dark, _two_light, answers=True, needs=3),
    Row(
        "all API servers down, then back", Figure("", None, None), Figure("the VIP does not wander; all served within 3 s of the return", None, None),
        _apis_down, _apis_up, tail=20, heals=False, moves=0,
    ),
)  # fmt: skip


# --- one fault, from well to well ---------------------------------------------------------------------------------------------------------


def well(site: Site) -> bool:
    """One holder, every API server ready, nginx and keepalived active on every load balancer, and the VIP serves."""
    if not site.well():
        return False
    for host in site.load_balancers:
        if host.run("systemctl", "is-active", NGINX, KEEPALIVED, check=False).returncode:
            return False
    return all(site.answers(site.vips[0], site.port) for _ in range(5))


def settle(site: Site, setup: str) -> None:
    """Waits until the site is well, then has nginx and the watchers forget what they have seen: each fault finds the same site."""
    within(WELL_SECONDS, "well site", lambda: well(site), 0.3)
    if setup == ORIGIN:
        # Its MASTER takes the VIP back when it likes; a fault is for a holder that stays.
        within(WELL_SECONDS, "VIP on the origin's master", lambda: site.holders() == site.load_balancers[:1], 0.3)
        for host in site.load_balancers:
            host.run("systemctl", "reload", "nginx")
    else:
        for host in site.load_balancers:
            host.run("systemctl", "restart", "stowage-watcher")
        within(10, "list with every API server in it", lambda: not any(map(_without, site.load_balancers)), 0.2)
    time.sleep(1)  # the reload


def _without(host: Host) -> bool:
    """Whether the list of *host* has an API server out."""
    return " down;" in host.path(LIVE).read_text()


def put_right(site: Site) -> None:
    """What an operator would do about anything that a fault may have left: the site is well after it, or beyond help."""
    for host in site.lab.hosts.values():
        host.light()
        for name in (NGINX, KEEPALIVED, APISERVER):
            host.signal(name, signal.SIGCONT)
    for host in site.load_balancers:
        control(host, "stop", KEEPALIVED)
        host.signal(KEEPALIVED, signal.SIGKILL)
        for vip in site.vips:
            if host.has(vip):
                host.sh(f"ip -o address show to {vip} | while read -r _ device _ found _; do ip address del $found dev $device; done")
        control(host, "reset-failed", NGINX, KEEPALIVED)
        if not host.pids(NGINX):
            control(host, "restart", NGINX)
        control(host, "start", KEEPALIVED)
    for host in site.control_planes:
        control(host, "start", "kubelet")


def scene(site: Site, setup: str) -> Scene:
    (holder,) = site.holders()
    others = [host for host in site.load_balancers if host is not holder]
    apis = [host for host in site.control_planes if host is not holder]
    # Colocated, another host than *other*, so that two of three dark are two of three.
    return Scene(site, setup, holder, others[0], apis[-1])


def _watch(row: Row, scene: Scene, holders: Holders) -> tuple[Load, float, float, float | None]:
    """The load around the fault; when it began, when it was mended, and when the first API server was back."""
    site, back = scene.site, None
    with Load(site.lab, site.vips[0], site.port, site.name, site.ca()) as load:
        time.sleep(BEFORE)
        begun = time.monotonic()
        row.inject(scene)
        time.sleep(max(0.0, begun + row.during - time.monotonic()))
        mended = time.monotonic()
        if row.tail:
            with ThreadPoolExecutor(1) as pool:
                mending = pool.submit(row.mend, scene)
                while time.monotonic() < mended + row.tail:
                    if not row.heals and back is None and any(map(site.ready, site.control_planes)):
                        back = time.monotonic()
                    time.sleep(0.05)
                mending.result()
    holders.close()
    return load, begun, mended, back


def once(site: Site, row: Row, setup: str = STOWAGE) -> Outcome:
    """Does the fault of *row* once; the site is well before and after it.  Raises :class:`lab.hosts.FailedError` when it can't be made well."""
    settle(site, setup)
    at = scene(site, setup)
    notes: list[str] = []
    if row.first:
        row.first(at)
    with Holders(site.load_balancers, site.vips[0]) as holders:
        load, begun, mended, back = _watch(row, at, holders)
    if not row.tail:
        row.mend(at)
    helped = False
    try:
        within(MENDED_SECONDS, f"well site after '{row.name}'", lambda: well(site), 0.3)
    except FailedError:
        helped = True
        notes.append("had to be put right by hand")
        put_right(site)
    whole = load.served(answers=row.answers)
    end = load.served(mended - LAST, mended, answers=row.answers) if row.heals else load.served(load.requests[-1].start - LAST)
    healed = end.failed == 0 and holders.most(mended - 0.01, mended) == 1
    if row.moves is not None and holders.moves(begun) > row.moves:
        notes.append(f"the VIP moved {holders.moves(begun)} times")
    return Outcome(
        setup, row.name, whole.requests, whole.failed, whole.outage, whole.silence, whole.worst, whole.kinds, whole.late,
        healed, not helped, holders.most(begun), holders.several(begun), holders.moves(begun),
        None if back is None else max(0.0, load.served_from(back) - back), tuple(notes),
    )  # fmt: skip


def run(site: Site, row: Row, setup: str = STOWAGE, missed: Callable[[Outcome], object] = lambda _: False) -> list[Outcome]:
    """
    The outcomes of *row*, once; where *missed* says so of the first, three, for the one in the middle to count.

    A run in which the machine was too busy to start the requests in time says nothing, good or bad, and is done anew (at most twice).
    """
    outcomes: list[Outcome] = []
    while len(outcomes) < (RUNS if outcomes and missed(outcomes[0]) else 1):
        for _ in range(ATTEMPTS):
            outcome = once(site, row, setup)
            if outcome.late <= LATE:
                break
        outcomes.append(outcome)
    return outcomes
