"""What has to hold beside the table of faults: reloads, upgrades, open connections, a server that flaps, networkd, VRRP blocked.

Each drill leaves the site well and returns a :class:`Drill`: whether it held, and the figures that say so.
"""

from __future__ import annotations

import itertools
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lab.faults import APISERVER, LIVE, STOWAGE, api_down, api_up, scene, settle
from lab.hosts import Host, within
from lab.load import LATE, Holders, Load, Served

if TYPE_CHECKING:
    from lab.site import Site

ATTEMPTS = 3
RELOADED = re.compile(r"^\[? *(\d+\.\d+)\]? .*: reloaded nginx: ", re.MULTILINE)

STREAM = """
import socket, ssl, sys, time
address, port, name, ca = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
with context.wrap_socket(socket.create_connection((address, int(port)), 5), server_hostname=name) as stream:
    stream.sendall(f"GET /lab/stream HTTP/1.1\\r\\nHost: {name}\\r\\n\\r\\n".encode())
    end = time.monotonic() + 600
    while time.monotonic() < end and (data := stream.recv(4096)):
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
"""


@dataclass(frozen=True)
class Drill:
    """*held*: it did as it has to; *said*: the figures, in a line."""

    name: str
    held: bool
    said: str


def _figures(served: Served) -> str:
    failed = ", ".join(f"{count} {kind}" for kind, count in served.kinds.items()) or "none"
    return f"{served.requests} requests, failed: {failed}"


def _under_load(site: Site, work: Callable[[], object]) -> tuple[Served, Holders]:
    """What a load saw of *work*, and who held the VIP; done anew (at most twice) where the machine was too busy to start the requests in time."""
    for _ in range(ATTEMPTS):
        settle(site, STOWAGE)
        with Holders(site.load_balancers, site.vips[0]) as holders:
            with Load(site.lab, site.vips[0], site.port, site.name, site.ca()) as load:
                time.sleep(1)
                work()
                time.sleep(3)
            holders.close()
        if load.late <= LATE:
            break
    return load.served(), holders


def reloads(site: Site) -> Drill:
    """nginx of the holder, reloaded five times under load."""
    (holder,) = site.holders()

    def work() -> None:
        for _ in range(5):
            holder.run("systemctl", "reload", "nginx")
            time.sleep(1)

    served, _ = _under_load(site, work)
    return Drill("a reload of nginx under load", not served.failed, f"5 reloads, {_figures(served)}")


def upgrade(site: Site, work: Callable[[], object]) -> Drill:
    """A changed bundle through step 40 on all load balancers in turn, which *work* does."""
    served, holders = _under_load(site, work)
    return Drill("an upgrade through step 40", not served.failed, f"{_figures(served)}; the VIP moved {holders.moves()} times")


def networkd(site: Site) -> Drill:
    """systemd-networkd restarted on the holder, which does not know the VIP as its own."""
    (holder,) = site.holders()
    served, holders = _under_load(site, lambda: holder.run("systemctl", "restart", "systemd-networkd"))
    kept = not holders.moves() and holders.now() == [holder.name]
    return Drill(
        "systemd-networkd restarted on the holder", kept and not served.failed, f"the VIP moved {holders.moves()} times, {_figures(served)}"
    )


# --- open connections ---------------------------------------------------------------------------------------------------------------------


@dataclass
class Stream:
    """One connection that stays open: what it said, and when it ended."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def server(self) -> str:
        """The address of the API server that it is connected to, "" until it has said so."""
        found = re.findall(r"^([0-9a-f.:]+) \d+\r?$", self.log.read_text(errors="replace"), re.MULTILINE)
        return found[-1] if found else ""

    @property
    def lines(self) -> int:
        return self.log.read_text(errors="replace").count("\n")


def streams(site: Site, number: int = 12) -> Drill:
    """Connections held open through the VIP while the API server of another host is killed and taken out: those to other servers live on."""
    settle(site, STOWAGE)
    at = scene(site, STOWAGE)
    words = site.lab.client(sys.executable, "-c", STREAM, site.vips[0], str(site.port), site.name, site.ca())
    opened: list[Stream] = []
    try:
        for index in range(number):
            log = site.scratch / f"stream-{index}"
            with log.open("wb") as file:
                opened.append(
                    Stream(subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, cwd="/"), log)
                )
        within(10, "line of each stream", lambda: all(stream.server for stream in opened), 0.2)
        theirs = [stream for stream in opened if stream.server == site.address(at.api)]
        ours = [stream for stream in opened if stream not in theirs]
        api_down(at.api)
        within(15, "reload without the stopped server", lambda: " down;" in at.holder.path(LIVE).read_text(), 0.2)
        before = [stream.lines for stream in ours]
        time.sleep(8)  # a reload that ended them would have by now
        api_up(at.api)
        within(60, "reload with the server that is back", lambda: " down;" not in at.holder.path(LIVE).read_text(), 0.2)
        time.sleep(3)
        alive = [stream.process.poll() is None and stream.lines > lines + 8 for stream, lines in zip(ours, before, strict=True)]
    finally:
        for stream in opened:
            stream.process.kill()
            stream.process.wait()
    held = all(alive) and bool(ours) and bool(theirs)
    said = f"{len(alive)} connections to the other API servers, {sum(alive)} lived on; {len(theirs)} to the stopped one"
    return Drill("connections open across a watcher's reload", held, said)


# --- a server that flaps ------------------------------------------------------------------------------------------------------------------


def _reload_times(host: Host, since: float) -> list[float]:
    """When the watcher of *host* said that it reloaded, seconds since boot, later than *since*."""
    said = host.sh("journalctl --unit=stowage-watcher --output=short-monotonic --no-pager")
    return [moment for moment in map(float, RELOADED.findall(said)) if moment > since]


def flapping(site: Site, seconds: float = 120) -> Drill:
    """An API server that hangs for three seconds and works for three, over and over."""
    settle(site, STOWAGE)
    at = scene(site, STOWAGE)
    begun = time.clock_gettime(time.CLOCK_MONOTONIC)
    with Load(site.lab, site.vips[0], site.port, site.name, site.ca()) as load:
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                at.api.signal(APISERVER, signal.SIGSTOP)
                time.sleep(3)
                at.api.signal(APISERVER, signal.SIGCONT)
                time.sleep(3)
        finally:
            at.api.signal(APISERVER, signal.SIGCONT)
    times = {host.name: _reload_times(host, begun) for host in site.load_balancers}
    gaps = [later - sooner for moments in times.values() for sooner, later in itertools.pairwise(moments)]
    # journald's clock and the watcher's differ by what one line takes.
    held = all(times.values()) and all(gap >= 4.8 for gap in gaps)
    counts = ", ".join(f"{name} {len(moments)}" for name, moments in times.items())
    least = f"{min(gaps):.1f} s apart at least" if gaps else "once at most"
    return Drill(f"an API server that flaps for {seconds:.0f} s", held, f"reloads: {counts}, {least}; {_figures(load.served())}")


# --- VRRP blocked ---------------------------------------------------------------------------------------------------------------------------


def block(site: Site, one: Host, other: Host) -> None:
    """No VRRP (IP protocol 112) between two hosts, both ways, by a filter on the ports of the bridge; all else passes."""
    for here, there in ((one, other), (other, one)):
        source = sum(int(part) << shift for part, shift in zip(site.address(there).split("."), (24, 16, 8, 0), strict=True))
        # Ethernet type IPv4, protocol 112, that source: 2 is drop; anything else passes.
        code = f"8,40 0 0 12,21 0 5 2048,48 0 0 23,21 0 3 112,32 0 0 26,21 0 1 {source},6 0 0 2,6 0 0 4294967295"
        for words in (
            ("qdisc", "add", "dev", here.link, "clsact"),
            ("filter", "add", "dev", here.link, "egress", "bpf", "da", "bytecode", code),
        ):
            subprocess.run(site.lab.client("tc", *words), check=True, capture_output=True)


def unblock(site: Site, *hosts: Host) -> None:
    for host in hosts:
        subprocess.run(site.lab.client("tc", "qdisc", "del", "dev", host.link, "clsact"), check=False, capture_output=True)


def vrrp_blocked(site: Site) -> Drill:
    """VRRP blocked between the holder and the next in line: two holders, which 90-verify reports on both; one again when it is unblocked."""
    settle(site, STOWAGE)
    at = scene(site, STOWAGE)
    notes: list[str] = []
    held = True
    with Holders(site.load_balancers, site.vips[0]) as holders:
        block(site, at.holder, at.other)
        try:
            within(10, "second holder", lambda: len(holders.now()) > 1)
            both = [site.host(name) for name in holders.now()]
            with ThreadPoolExecutor(len(both)) as pool:
                said = list(pool.map(lambda host: site.step(host, 90, check=False), both))
            for host, other, done in zip(both, reversed(both), said, strict=True):
                # Of itself a host says "here" or its name, of the other one its name or its MAC.
                other_mac = f"02:00:00:00:00:{other.number:02x}"
                line = next((line for line in done.stdout.splitlines() if "FAILED" in line and "for the VIP" in line), "")
                told = done.returncode == 1 and ("here" in line or host.name in line) and (other_mac in line or other.name in line)
                held &= told
                notes.append(f"90 on {host.name} {'reports both' if told else 'says: ' + line.strip()} (exit {done.returncode})")
        finally:
            unblock(site, at.holder, at.other)
        began = time.monotonic()
        with suppress(AssertionError):
            within(10, "one holder", lambda: len(holders.now()) == 1)
        seconds = time.monotonic() - began
    held &= seconds <= 5
    return Drill(
        "VRRP blocked between two hosts", held, f"{len(both)} holders; {'; '.join(notes)}; one again {seconds:.1f} s after the end of it"
    )


def verified(site: Site) -> Drill:
    """90-verify passes on every host: whatever was done before has left nothing behind."""
    settle(site, STOWAGE)
    failed = [host.name for host in site.hosts if site.step(host, 90, check=False).returncode]
    return Drill("90-verify afterwards", not failed, f"failed on {', '.join(failed)}" if failed else "passed on every host")


# Those that need nothing but the site, the short ones first.
ALL: tuple[Callable[[Site], Drill], ...] = (reloads, networkd, streams, vrrp_blocked, flapping)
