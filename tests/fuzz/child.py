"""
The fuzzer's own process: mutated files through the command line, until the time is over or something breaks.

    PYTHONPATH=.:tests python tests/fuzz/child.py SEED SECONDS SEEDS     runs; an input that breaks something is kept in the folder SEEDS
    PYTHONPATH=.:tests python tests/fuzz/child.py --again FILE...        runs kept inputs alone

Breaks are: an exception that is not the command line's own, more than 5 s for one input, more than 500 MB.  A limit of the address space
turns the last into a MemoryError.  It prints one line: how many inputs, and how many of them each command took without an error.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from types import FrameType

import click
import strategies
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded

from generator.cli import stowage

REPOSITORY = Path(__file__).resolve().parents[2]

LIMIT_SECONDS = 5
LIMIT_BYTES = 500_000_000
DRAWN = 40

# What parsers have stumbled over, here or elsewhere.
TOKENS = [
    b"\0", b"\xed\xa0\xbd\xed\xb8\x80", b"\xed\xa0\x80", b"\xff\xfe", b"\xef\xbb\xbf", b"\r\n", b"\r", b"\t", b"\x85", b"\xe2\x80\xa8", b"\xe2\x80\xae", b"\x1b[31m",
    b"&a ", b"*a", b"<<: *a", b"!!python/object:os.system ", b"!!binary ", b"--- ", b"...\n", b"%YAML 1.1\n", b"? ", b": ", b"- ", b"|\n", b">-\n", b"'", b'"', b"\\",
    b"{", b"}", b"[", b"]", b"{" * 200, b"[" * 5000, b"- " * 300, b"a: {" * 120, b"9" * 5000, b"-9" * 30, b"1e999", b"0x" + b"f" * 400, b"1" + b"0" * 100_000,
    b"null", b"~", b"true", b"-1", b"65536", b"0", b"999.999.999.999", b"::", b"::/0", b"0.0.0.0/0", b"1.2.3.4/33", b"fe80::1%lo/64", b"1:2:3:4:5:6:7:8:9", b"/",
    b"..", b"$(id)", b"${x", b"`", b"~SEQ(a,1,999999999)", b"$A=$A", b"@", b"!", b"#", b"include /etc/*;", b"include *;", b";", b"\\\n", b"<<E\n", b"$((", b"kubeadm init --",
    "😀".encode(), "é".encode(), "\u202e".encode(), b"node[1:999999999]", b"name: ", b"hosts:\n", b"controlPlaneEndpoint: ", b"stream {", b"vrrp_instance x {", b"[Service]\n",
]  # fmt: skip


class SlowError(Exception):
    """One input took too long."""


def files() -> list[tuple[str, bytes]]:
    """Real files of every kind, by a name that says the kind."""
    found = [*sorted((REPOSITORY / "inventories").glob("*.yaml")), *sorted((REPOSITORY / "tests" / "golden").glob("*.yaml"))]
    found += sorted(path for path in (REPOSITORY / "tests" / "lint").glob("*/*") if path.is_file())[::7]
    emitted = (
        "rootfs/etc/nginx/nginx.conf",
        "rootfs/etc/keepalived/keepalived.conf",
        "hosts.block",
        "kubeadm/init.yaml",
        "kubeadm/join.yaml",
    )
    for host in ("master-1", "master-2"):
        found += [path for name in emitted if (path := REPOSITORY / "out/example/hosts" / host / name).is_file()]
    found += sorted((REPOSITORY / "out/example/hosts/master-1/rootfs").rglob("*.conf"))[:12]
    found += [
        *sorted((REPOSITORY / "out/example").glob("kubekey/*")),
        *sorted((REPOSITORY / "out/example/hosts/master-1/scripts").glob("*.sh")),
    ]
    found += sorted(path for path in (REPOSITORY / "tests" / "lint").glob("*/bad-*/**/*") if path.is_file())
    found += sorted(path for path in (REPOSITORY / "tests" / "origin").rglob("*") if path.is_file())
    return [(path.name, path.read_bytes()) for path in found]


def mutated(rng: random.Random, raw: bytes, others: list[tuple[str, bytes]]) -> bytes:
    """*raw* with a few spans changed, removed, repeated, moved or taken from another file."""
    text = bytearray(raw)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at = rng.randrange(len(text) + 1)
        to = min(len(text), at + rng.choice((1, 1, 2, 5, 20, 200)))
        match rng.randrange(7):
            case 0:
                text[at:to] = bytes(rng.randrange(256) for _ in range(rng.choice((1, 2, 4))))
            case 1:
                del text[at:to]
            case 2:
                text[at:at] = text[at:to] * rng.choice((1, 2, 50))
            case 3:
                text[at:to] = rng.choice(TOKENS)
            case 4:
                text[at:at] = rng.choice(TOKENS)
            case 5:
                other = rng.choice(others)[1]
                begin = rng.randrange(len(other) + 1)
                text[at:to] = other[begin : begin + rng.choice((10, 100, 1000))]
            case _:
                lines = bytes(text).split(b"\n")
                one, two = rng.randrange(len(lines)), rng.randrange(len(lines))
                lines[one], lines[two] = lines[two], lines[one]
                text = bytearray(b"\n".join(lines))
    return bytes(text)


def run(*arguments: str) -> int:
    """One command in this process, its output thrown away; an exception of the command line's own is a status."""
    sink = io.StringIO()
    with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
        try:
            return int(stowage.main([*arguments], prog_name="stowage", standalone_mode=False) or 0)
        except SystemExit as end:
            return int(end.code or 0)
        except click.ClickException:
            return 2


def tried(folder: Path, name: str, raw: bytes, count: Counter[str]) -> None:
    """Every command that reads such a file."""
    path = folder / name
    path.write_bytes(raw)
    for form in ("text", "json", "sarif", "github", "gitlab"):
        count[f"lint {form}"] += run("lint", "--format", form, str(path)) == 0
    count["lint annotated"] += run("--lang", "zh_CN", "lint", "--annotate", str(path)) == 0
    count["adopt"] += run("adopt", str(path)) == 0
    if path.suffix in (".yaml", ".yml"):
        count["check"] += run("check", "--format", "text", "--color", "always", str(path)) == 0
        count["fix"] += run("check", "--fix", "--diff", "--lang", "zh", str(path)) == 0
        count["bundle"] += run("bundle", str(path), "-o", str(folder / "out")) == 0
    path.unlink()


def alarm(_number: int, _frame: FrameType | None) -> None:
    raise SlowError


def timed(folder: Path, name: str, raw: bytes, count: Counter[str]) -> str:
    """What broke, or an empty string."""
    signal.setitimer(signal.ITIMER_REAL, LIMIT_SECONDS)
    try:
        tried(folder, name, raw, count)
    except SlowError:
        return f"more than {LIMIT_SECONDS} s\n{traceback.format_exc()}"
    except Exception:  # noqa: BLE001 - whatever it is, it is a bug
        return traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return ""


def drawn(number: int, into: list[tuple[str, bytes]]) -> None:
    """Inventories as our own strategies draw them."""

    @seeded(number)
    @settings(max_examples=DRAWN, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(strategies.inventories())
    def draw(data: object) -> None:
        # Through JSON: what two keys share would become an anchor.
        text = yaml.safe_dump(json.loads(json.dumps(data)), allow_unicode=True, sort_keys=False)
        into.append(("drawn.yaml", text.encode()))

    draw()


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (2 * LIMIT_BYTES, resource.RLIM_INFINITY))  # address space is more than memory
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, alarm)
    os.environ.pop("STOWAGE_DEBUG", None)
    count: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if sys.argv[1] == "--again":
            for path in map(Path, sys.argv[2:]):
                if broke := timed(folder, path.name.partition("-")[2], path.read_bytes(), count):
                    sys.exit(f"{path}: {broke}")
            return
        number, seconds, seeds = int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3])
        rng, bases, first, inputs = random.Random(number), files(), [], 0
        drawn(number, first)
        sound = first + [(path.name, path.read_bytes()) for path in sorted((REPOSITORY / "inventories").glob("*.yaml"))]
        bases += sound
        kinds = [sound] + [
            group for group in ([base for base in bases if base[0].endswith(end)] for end in (".yaml", ".conf", ".sh", "")) if group
        ]
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            name, raw = first.pop() if first else rng.choice(rng.choice(kinds))
            changed = raw if inputs < DRAWN else mutated(rng, raw, bases)
            if inputs >= DRAWN and rng.random() < 0.1:
                name = "unnamed"  # what it is has to be seen from the text
            if broke := timed(folder, name, changed, count):
                kept = seeds / f"{hashlib.sha256(changed).hexdigest()[:12]}-{name}"
                kept.write_bytes(changed)
                sys.exit(f"seed {number}, input {inputs}, kept as {kept}: {broke}")
            inputs += 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    told = f"{inputs} inputs in {seconds:.0f} s, {peak / 1e6:.0f} MB at most"
    sys.stdout.write(f"seed {number}: {told}, without an error: {dict(sorted(count.items()))}\n")
    if peak > LIMIT_BYTES:
        sys.exit(f"{peak / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
