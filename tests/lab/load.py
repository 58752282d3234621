"""
The load of the rehearsal, one new TLS connection every 20 ms from a machine that is no host, and who carries the VIP meanwhile.

``Load`` runs this file as a program on the lab's network, with the standard library alone. It is an open loop: a request starts when it is
due, whatever became of those before; what it took counts from then. A request is served when its TCP connection, its TLS handshake (the
certificate verified, where a CA is given) and ``GET /readyz`` answered 200 took 2 s together at most.

``Holders`` hears from each host's kernel which addresses come and go; it asks nobody and costs nothing.
All times are seconds of the monotonic clock, the same in every process of the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import ipaddress
import itertools
import json
import os
import select
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from lab.hosts import Host, Lab

INTERVAL = 0.02
TIMEOUT = 2.0
# No load goes on for longer, whoever forgot it.
LONGEST = 900.0
# A client that starts a request this much later than it was due measures the machine, not the hosts.
LATE = 0.1
ANSWER = 65536


class Request(NamedTuple):
    """When it was due, the seconds that it took from then, and what became of it: ``ok`` or the kind of the error."""

    start: float
    seconds: float
    result: str


# --- the program on the client machine ------------------------------------------------------------------------------------------------


# The first that fits names the error.
KINDS: tuple[tuple[type[BaseException], str], ...] = (
    (TimeoutError, "timeout"),
    (ssl.SSLCertVerificationError, "certificate"),
    (ssl.SSLEOFError, "closed"),
    (ssl.SSLError, "tls"),
    (ConnectionRefusedError, "refused"),
    (ConnectionError, "closed"),
)


def _kind(error: BaseException) -> str:
    for kind, name in KINDS:
        if isinstance(error, kind):
            return name
    return f"errno {error.errno}" if isinstance(error, OSError) and error.errno else type(error).__name__


async def _ask(address: str, port: int, name: str, context: ssl.SSLContext) -> str:
    reader, writer = await asyncio.open_connection(address, port, ssl=context, server_hostname=name, ssl_shutdown_timeout=0.1)
    try:
        writer.write(f"GET /readyz HTTP/1.1\r\nHost: {name}:{port}\r\nConnection: close\r\n\r\n".encode())
        line = await reader.readline()
        while len(await reader.read(ANSWER)):
            pass
    finally:
        writer.transport.abort()
    words = line.split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/"):
        return "closed"
    return "ok" if words[1] == b"200" else f"HTTP {words[1].decode(errors='replace')}"


async def _request(due: float, address: str, port: int, name: str, context: ssl.SSLContext) -> Request:
    try:
        async with asyncio.timeout_at(due + TIMEOUT):
            result = await _ask(address, port, name, context)
    except (OSError, ValueError) as error:
        result = _kind(error)
    return Request(due, time.monotonic() - due, result)


async def _fire(options: argparse.Namespace) -> tuple[list[Request], float]:
    """All requests until the time is over or standard input ends, and by how much the worst of them was started late."""
    context = ssl.create_default_context(cafile=options.ca)
    if not options.ca:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    tasks: list[asyncio.Task[Request]] = []
    late = 0.0
    first = time.monotonic() + 0.05  # asyncio's clock is the monotonic one
    for number in range(int(min(options.seconds, LONGEST) / INTERVAL)):
        due = first + number * INTERVAL
        now = time.monotonic()
        if due > now:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await ended.wait()
        if ended.is_set():
            break
        late = max(late, time.monotonic() - due)
        tasks.append(asyncio.create_task(_request(due, options.address, options.port, options.name, context)))
    loop.remove_reader(sys.stdin.fileno())
    return list(await asyncio.gather(*tasks)), late


def program(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("name")
    parser.add_argument("--ca")
    parser.add_argument("--seconds", type=float, default=LONGEST)
    options = parser.parse_args(arguments)
    sys.stdout.write("up\n")
    sys.stdout.flush()
    requests, late = asyncio.run(_fire(options))
    json.dump({"late": late, "requests": requests}, sys.stdout)


# --- what the rehearsal sees of it ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Served:
    """
    What became of the requests that were due between *start* and *end*.

    ``failed`` is a share (0 to 1); ``outage`` the longest run of requests, in seconds between the times they were due, none of which was
    served; ``silence`` the longest stretch in which no answer came, which is more where the first packet was lost and its repetition
    served; ``worst`` what the slowest served one took; ``kinds`` how many failed how; ``late`` by how much the client itself started
    one too late: above LATE the machine was too busy for the figures to mean anything.
    """

    start: float
    end: float
    requests: int
    failed: float
    outage: float
    silence: float
    worst: float
    kinds: dict[str, int]
    late: float

    @property
    def steady(self) -> bool:
        return self.late <= LATE


class Load:
    """One new connection every 20 ms to *address*:*port* from the client machine of *lab*, inside of ``with`` or from start to stop."""

    def __init__(self, lab: Lab, address: str, port: int, name: str, ca: Path | None = None, seconds: float = LONGEST) -> None:
        options = ["--ca", str(ca)] if ca else []
        self.words = lab.client(sys.executable, Path(__file__).resolve(), address, str(port), name, "--seconds", str(seconds), *options)
        self.process: subprocess.Popen[str] | None = None
        self.requests: list[Request] = []
        self.late = 0.0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.stop()
        elif self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def start(self) -> None:
        self.process = subprocess.Popen(self.words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/")
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "up\n", "the load did not start"

    def stop(self) -> None:
        """Ends it and waits for the requests under way; ``requests`` is filled then, by the time they were due."""
        if self.process is None:
            return
        process, self.process = self.process, None
        try:
            said, _ = process.communicate(timeout=TIMEOUT + 20)
        finally:
            process.kill()
            process.wait()
        answer = json.loads(said)
        self.late = answer["late"]
        self.requests = sorted(Request(*request) for request in answer["requests"])

    def served(self, start: float = 0.0, end: float = float("inf"), *, answers: bool = False) -> Served:
        """The figures of the requests that were due from *start* to *end*; with *answers* any HTTP answer counts as served."""
        assert self.requests, "the load has not run to its end"
        start, end = max(start, self.requests[0].start), min(end, self.requests[-1].start + INTERVAL)
        chosen = [request for request in self.requests if start <= request.start < end]
        fine = {"ok", *(request.result for request in chosen if answers and request.result.startswith("HTTP "))}
        good = [request for request in chosen if request.result in fine]
        kinds: dict[str, int] = {}
        run = outage = 0
        for request in chosen:
            run = 0 if request.result in fine else run + 1
            outage = max(outage, run)
            if run:
                kinds[request.result] = kinds.get(request.result, 0) + 1
        # A silence begins and ends with an answer, or with the edge of the time that is looked at.
        moments = [start, *sorted(min(request.start + request.seconds, end) for request in good), end]
        silence = max(b - a for a, b in itertools.pairwise(moments))
        worst = max((request.seconds for request in good), default=0.0)
        failed = 1 - len(good) / len(chosen) if chosen else 0.0
        return Served(start, end, len(chosen), failed, outage * INTERVAL, silence, worst, kinds, self.late)

    def served_from(self, start: float) -> float:
        """The moment after *start* from which on no request failed any more: the last failed one's due time, or *start*."""
        return max([start, *(request.start for request in self.requests if request.result != "ok")])


# --- who carries an address -----------------------------------------------------------------------------------------------------------

CLONE_NEWNET = 0x40000000
RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR = 0x10, 0x100
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
NLM_F_REQUEST_DUMP = 0x301
NLMSG = struct.Struct("=IHHII")  # length, type, flags, sequence, port
IFADDR = struct.Struct("=BBBBI")  # family, prefix, flags, scope, index
IFA_ADDRESS = 1


class Change(NamedTuple):
    """*host* has the address from *time* on (*has*), or has it no more."""

    time: float
    host: str
    has: bool


def _addresses(data: bytes) -> Iterable[tuple[int, str]]:
    """The (type, address) of every address message in *data*."""
    at = 0
    while at + NLMSG.size <= len(data):
        length, kind, _, _, _ = NLMSG.unpack_from(data, at)
        if length < NLMSG.size:
            return
        if kind in {RTM_NEWADDR, RTM_DELADDR}:
            attribute = at + NLMSG.size + IFADDR.size
            while attribute + 4 <= at + length:
                size, name = struct.unpack_from("=HH", data, attribute)
                if size < 4:
                    break
                if name == IFA_ADDRESS:
                    yield kind, str(ipaddress.ip_address(data[attribute + 4 : attribute + size]))
                attribute += (size + 3) & ~3
        at += (length + 3) & ~3


def _listen(leader: int) -> socket.socket:
    """A socket that hears of the addresses of the network namespace of *leader*, those there already first."""
    libc = ctypes.CDLL(None, use_errno=True)

    def inside() -> socket.socket:
        # The namespace is the thread's, and the thread ends with its pool; the socket stays where it was made.
        with Path(f"/proc/{leader}/ns/net").open("rb") as namespace:
            if libc.setns(namespace.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)

    with ThreadPoolExecutor(1) as pool:
        listener = pool.submit(inside).result()
    listener.bind((0, RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR))
    listener.send(NLMSG.pack(NLMSG.size + IFADDR.size, RTM_GETADDR, NLM_F_REQUEST_DUMP, 1, 0) + IFADDR.pack(0, 0, 0, 0, 0))
    return listener


class Holders:
    """Which of *hosts* carry *address*, from the moment it is made to ``close``; a host that is booted anew has to be ``add``-ed."""

    def __init__(self, hosts: Iterable[Host], address: str) -> None:
        self.address = str(ipaddress.ip_address(address))
        self.changes: list[Change] = []
        self.begun = time.monotonic()
        self.ended = float("inf")
        self._holding: set[str] = set()
        self._listeners: dict[socket.socket, str] = {}
        self._wake, self._waker = os.pipe()
        self._thread = threading.Thread(target=self._hear, daemon=True)
        for host in hosts:
            self.add(host)
        self._drain(0.2)
        self.begun = time.monotonic()
        self.changes = [Change(self.begun, name, True) for name in sorted(self._holding)]
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def add(self, host: Host) -> None:
        self._listeners[_listen(host.leader)] = host.name

    def close(self) -> None:
        if self.ended < float("inf"):
            return
        os.write(self._waker, b"x")
        self._thread.join(5)
        self.ended = time.monotonic()
        for listener in self._listeners:
            listener.close()
        os.close(self._wake)
        os.close(self._waker)

    def _drain(self, seconds: float) -> bool:
        """Reads what the kernels say within *seconds*; False once it is to end."""
        ready, _, _ = select.select([self._wake, *self._listeners], [], [], seconds)
        now = time.monotonic()
        for listener in ready:
            if listener == self._wake:
                return False
            for kind, address in _addresses(listener.recv(1 << 17)):
                name, has = self._listeners[listener], kind == RTM_NEWADDR
                if address == self.address and has != (name in self._holding):
                    (self._holding.add if has else self._holding.discard)(name)
                    self.changes.append(Change(now, name, has))
        return True

    def _hear(self) -> None:
        while time.monotonic() < self.begun + LONGEST and self._drain(60):
            pass

    def now(self) -> list[str]:
        return sorted(self._holding)

    def _spans(self, start: float, end: float) -> Iterable[tuple[float, float, frozenset[str]]]:
        """(from, to, holders) without a gap from *start* to *end*."""
        holding: set[str] = set()
        since = start
        for change in [*self.changes, Change(end, "", False)]:
            moment = min(max(change.time, start), end)
            if moment > since:
                yield since, moment, frozenset(holding)
                since = moment
            if change.time <= end:
                (holding.add if change.has else holding.discard)(change.host)

    def most(self, start: float = 0.0, end: float = float("inf")) -> int:
        """How many carried the address at a time, at most."""
        return max(
            (len(holding) for _, _, holding in self._spans(max(start, self.begun), min(end, self.ended, time.monotonic()))), default=0
        )

    def several(self, start: float = 0.0, end: float = float("inf")) -> float:
        """The longest stretch in seconds during which more than one carried it."""
        longest = so_far = 0.0
        for since, until, holding in self._spans(max(start, self.begun), min(end, self.ended, time.monotonic())):
            so_far = so_far + until - since if len(holding) > 1 else 0.0
            longest = max(longest, so_far)
        return longest

    def moves(self, start: float = 0.0, end: float = float("inf")) -> int:
        """How often a host got the address that was not the last one to get it."""
        last = ""
        moves = 0
        for change in self.changes:
            if change.time > end or not change.has:
                continue
            if last and change.host != last and change.time >= start:
                moves += 1
            last = change.host
        return moves


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the rehearsal, whose end of the pipe ends this
    program(sys.argv[1:])
