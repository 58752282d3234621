"""
The programs inside the played containers of the kubelet, but for the real etcd and the API server.

``container.py etcd WORDS...`` is a shim: its own command line becomes exactly WORDS (what a manifest says), and its child is the real
etcd 3.4, which has its flags from ETCD_* variables. It is taken only where WORDS hold a flag that etcd 3.4 has under another name.
``container.py NAME PORT`` is a process of that name that holds 127.0.0.1:PORT (0: none): the controller manager, the scheduler.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

from shared import BIN, PYTHON, fail, set_name

# etcd 3.6 -> 3.4: the same thing under another name.
RENAMED = {"watch-progress-notify-interval": "experimental-watch-progress-notify-interval"}
GATES = {"InitialCorruptCheck": "experimental-initial-corrupt-check"}


def known() -> set[str]:
    """Flags of the real etcd of the lab."""
    text = subprocess.run([BIN / "etcd", "--help"], capture_output=True, text=True, check=False)
    return {word[2:] for word in (text.stdout + text.stderr).split() if word.startswith("--")}


def needs_shim(words: list[str]) -> bool:
    return any(word[2:].partition("=")[0] in {*RENAMED, "feature-gates"} for word in words[1:])


# What etcd does by itself from 3.5 on: a member that comes back forces no election on the others.
ALWAYS = {"ETCD_PRE_VOTE": "true"}


def environment(words: list[str]) -> dict[str, str]:
    """ETCD_* of the flags; refuses what etcd 3.4 does not know, as it does itself. Of a flag given twice the last counts."""
    found, flags = {}, known()
    for word in words[1:]:
        name, _, value = word[2:].partition("=")
        if name == "feature-gates":
            gates = dict(part.split("=") for part in value.split(","))
            if set(gates) - set(GATES):
                fail(f'invalid value "{value}" for flag -feature-gates: unrecognized feature gate')
            found |= {GATES[gate]: setting for gate, setting in gates.items()}
            continue
        name = RENAMED.get(name, name)
        if name not in flags:
            fail(f"flag provided but not defined: -{name}")
        found[name] = value or "true"
    return {f"ETCD_{name.upper().replace('-', '_')}": value for name, value in found.items()}


def command() -> list[str]:
    """The command line of the shim before it is overwritten; the words travel in LAB_WORDS."""
    return [str(PYTHON), "-E", "-s", "-B", str(Path(__file__).resolve()), "etcd", "x"]


def shim() -> None:
    words = os.environ["LAB_WORDS"].split("\n")
    text = b"".join(word.encode() + b"\0" for word in words)
    # fields 48 and 49 of stat: where the command line lies in this process
    begin, end = (int(word) for word in Path("/proc/self/stat").read_text().rpartition(")")[2].split()[45:47])
    if missing := len(text) - (end - begin):
        if sys.argv[-1] != "x":
            fail(f"the shim's command line cannot be {len(text)} bytes long")
        os.execv(sys.executable, [*sys.orig_argv[:-1], "x" * (1 + missing)])
    ctypes.memmove(begin, text, len(text))
    set_name("etcd-shim")
    variables = environment(words)
    child = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", BIN / "etcd"], env=variables | ALWAYS | {"PATH": "/usr/bin:/bin"})
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    raise SystemExit(child.wait() & 255)


def hold(name: str, port: int) -> None:
    set_name(name)
    sockets = []
    if port:
        try:
            sockets.append(socket.create_server(("127.0.0.1", port), backlog=64))
        except OSError as error:
            fail(f"failed to create listener: failed to listen on 127.0.0.1:{port}: {error}")
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    threading.Event().wait()


if __name__ == "__main__":
    if sys.argv[1] == "etcd":
        shim()
    hold(sys.argv[1], int(sys.argv[2]))
