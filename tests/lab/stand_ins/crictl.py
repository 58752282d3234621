"""
crictl, played: containers are those that the played kubelet wrote down, images those of the runtime behind the socket.

A command in a container ("exec") runs on the host: etcdctl is the real one, no other is known. A pull fails: there is no network.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from shared import BIN, containers, end_containers, fail, has_image, images, remove_image, say, socket_answers

BOTH = ("runtime-endpoint", "image-endpoint", "timeout", "config")
USAGE = 'crictl stand-in: "{}" is not played'


def take(words: list[str], known: dict[str, bool]) -> dict[str, str]:
    """Flags off the front of *words*; *known* says which take a value. A short one may stand for a long one."""
    found = {}
    while words and words[0].startswith("-") and words[0] != "--":
        name, equals, value = words.pop(0).lstrip("-").partition("=")
        if name not in known:
            fail(f"Incorrect Usage: flag provided but not defined: -{name}")
        found[name] = (value if equals else words.pop(0)) if known[name] else "true"
    return found


def endpoint(flags: dict[str, str]) -> str:
    """The socket, by flag or by /etc/crictl.yaml; the real one's guesses are not made."""
    path = flags.get("runtime-endpoint", flags.get("r", ""))
    if not path:
        try:
            lines = Path("/etc/crictl.yaml").read_text().splitlines()
            path = next(line.partition(":")[2].strip().strip("\"'") for line in lines if line.startswith("runtime-endpoint"))
        except (OSError, StopIteration):
            fail("FATA[0000] validate service connection: no runtime endpoint was given")
    for one in {path, flags.get("image-endpoint", path)}:
        if not one.startswith("unix://") or not socket_answers(one):
            fail(
                f'FATA[0000] validate service connection: validate CRI v1 runtime API for endpoint "{one}": rpc error: code = Unavailable desc = connection error: dial unix {one.removeprefix("unix://")}: connect: no such file or directory'
            )
    return path


def ps(words: list[str]) -> None:
    flags = take(words, {"quiet": False, "q": False, "state": True, "s": True, "name": True, "all": False, "a": False, "no-trunc": False})
    state = flags.get("state", flags.get("s", "")).lower()
    everything = "all" in flags or "a" in flags
    found = [
        one for one in containers()
        if re.search(flags.get("name", ""), one["name"]) and (one["state"].lower() == state if state else everything or one["state"] == "Running") and one["id"]
    ]  # fmt: skip
    if "quiet" in flags or "q" in flags:
        for one in found:
            say(one["id"])
        return
    say("CONTAINER           STATE      NAME                      ATTEMPT")
    for one in found:
        say(f"{one['id'][:13]}       {one['state']:<10} {one['name']:<25} {one['attempt']}")


def run(words: list[str]) -> None:
    take(words, {"sync": False, "s": False, "i": False, "t": False, "it": False, "timeout": True})
    if not words:
        fail("FATA[0000] ID cannot be empty")
    wanted, command = words[0], words[1:]
    found = [one for one in containers() if one["id"].startswith(wanted) and one["state"] == "Running"]
    if len(found) != 1:
        fail(
            f'FATA[0000] execing command in container: rpc error: code = NotFound desc = an error occurred when try to find container "{wanted}": not found'
        )
    if found[0]["name"] != "etcd" or command[:1] != ["etcdctl"]:
        fail(f'FATA[0000] execing command in container: exec: "{command[0] if command else ""}": executable file not found in $PATH')
    sys.stdout.flush()
    os.execve(BIN / "etcdctl", command, {"PATH": "/usr/bin:/bin", "ETCDCTL_API": "3"})


def main(words: list[str]) -> None:
    left = list(words)
    if left[:1] in (["--version"], ["version"]):
        say("crictl version v1.31.1")
        return
    path = endpoint(take(left, {**dict.fromkeys(BOTH, True), "r": True, "i": True, "debug": False, "D": False}))
    verb = left.pop(0) if left else ""
    if verb in ("ps", "exec"):
        (ps if verb == "ps" else run)(left)
    elif verb == "inspecti":
        take(left, {"q": False, "quiet": False, "output": True, "o": True})
        if not left or not has_image(left[0], path):
            fail(f'FATA[0000] no such image "{left[0] if left else ""}" present')
        say(left[0])
    elif verb == "images":
        take(left, {"q": False, "quiet": False})
        say("\n".join(images(path)))
    elif verb == "rmi":
        if not left or not all(has_image(ref, path) and remove_image(ref, path) for ref in left):
            fail(f"ERRO[0000] no such image {' '.join(left)}")
    elif verb == "pull":
        ref = left[-1] if left else ""
        fail(
            f'FATA[0000] pulling image: rpc error: code = Unknown desc = failed to pull and unpack image "{ref}": dial tcp: lookup {ref.partition("/")[0]}: no such host'
        )
    elif verb == "info":
        say("{}")
    elif verb == "rmp":
        end_containers()
    else:
        fail(USAGE.format(verb))


if __name__ == "__main__":
    main(sys.argv[1:])
