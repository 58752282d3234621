"""How fast, how flat, how small: ``make bench``.  Every figure is of whole processes; ratios are of runs that took turns.

Processor time (user and system) is what is compared: on a machine with other work the clock says little.  Bundles are written to a tmpfs
(/dev/shm) where there is one, so that the disk is not measured.  ``run.py --quick`` leaves 5,000 hosts out.
"""

# ruff: noqa: T201

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
sys.path[:0] = [str(HERE), str(HERE.parent), str(REPOSITORY)]

import bare_jinja  # noqa: E402 - found by the path above
from inventory import inventory  # noqa: E402 - as above

# What a check can't do without: the parser and the schema, with the same imports.
READING = """
import json, sys, click
from jsonschema import Draft202012Validator
from netaddr import IPNetwork
from ruamel.yaml import YAML
from generator import validate
with open(sys.argv[1]) as file:
    data = YAML(typ="safe").load(file)
assert not validate.run(data)
"""
LIBRARIES = "import click, jinja2, jsonschema, netaddr, ruamel.yaml"


@dataclass(frozen=True)
class Run:
    """One process: seconds of processor time and by the clock, and its peak memory in MB."""

    cpu: float
    clock: float
    memory: float


class Bench:
    """Runs programs in turns, in an environment where nothing is compiled anew."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self.environment = kept | {"PYTHONPYCACHEPREFIX": str(scratch / "pycache"), "PYTHONPATH": str(REPOSITORY)}

    def once(self, *arguments: str) -> Run:
        """One run of Python with *arguments*; stops everything when it fails."""
        start = perf_counter()
        process = subprocess.Popen([sys.executable, *arguments], env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        said = process.stderr.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"{' '.join(arguments)}: exit {process.returncode}\n{said}")
        return Run(usage.ru_utime + usage.ru_stime, perf_counter() - start, usage.ru_maxrss / 1024)

    def turns(self, times: int, *programs: tuple[str, ...], fresh: Path | None = None) -> list[Run]:
        """The median of so many runs of each program, one after the other in turns; *fresh* is removed before each."""
        runs: list[list[Run]] = [[] for _ in programs]
        for _ in range(times):
            for program, found in zip(programs, runs, strict=True):
                if fresh is not None:
                    shutil.rmtree(fresh, ignore_errors=True)
                found.append(self.once(*program))
        return [Run(*(statistics.median(getattr(run, name) for run in found) for name in ("cpu", "clock", "memory"))) for found in runs]


def startup(bench: Bench) -> None:
    """The command line and the example, against the bare import of the five libraries."""
    out = bench.scratch / "example"
    example = ("-m", "generator", "-q", "bundle", str(REPOSITORY / "inventories/example.yaml"), "-o", str(out))
    bench.once(*example)  # compiles the byte code
    names = ("import of the libraries", "stowage --help", "stowage check, example", "stowage bundle, example", "the same, unchanged")
    imported, asked, check, fresh = bench.turns(
        15, ("-c", LIBRARIES), ("-m", "generator", "--help"), ("-m", "generator", "-q", "check", example[4]), example, fresh=out
    )
    bench.once(*example)
    (unchanged,) = bench.turns(15, example)
    print(f"{'':28}{'processor':>12}{'clock':>12}{'import':>9}")
    for name, run in zip(names, (imported, asked, check, fresh, unchanged), strict=True):
        print(f"{name:28}{run.cpu * 1000:9.0f} ms{run.clock * 1000:9.0f} ms{run.cpu / imported.cpu:8.2f}x")
    _target("--help under 0.1 s", asked.cpu < 0.1)
    _target("bundle of the example at most twice the import", fresh.cpu <= 2 * imported.cpu)


def checking(bench: Bench, hosts: int) -> None:
    """``stowage check`` of *hosts* against loading the YAML and validating it alone."""
    path = bench.scratch / "checked.yaml"
    path.write_text(inventory(hosts))
    ours, yardstick = ("-m", "generator", "-q", "check", str(path)), ("-c", READING, str(path))
    bench.once(*yardstick)
    check, read = bench.turns(11, ours, yardstick)
    print(f"\ncheck of {hosts:,} hosts: {check.cpu * 1000:.0f} ms, its YAML load and schema validation alone {read.cpu * 1000:.0f} ms")
    _target("1,000 hosts are checked in under 1.5x of that", check.cpu < 1.5 * read.cpu)


def size(bench: Bench, hosts: int, times: int) -> Run:
    """One inventory of *hosts* against the bare loop; returns the run of ours."""
    folder = bench.scratch / str(hosts)
    folder.mkdir()
    (folder / "inventory.yaml").write_text(inventory(hosts))
    out, templates = folder / "out", folder / "templates"
    ours = ("-m", "generator", "-q", "bundle", str(folder / "inventory.yaml"), "-o", str(out))
    bare = (str(HERE / "bare_jinja.py"), "render", str(templates), str(out))
    bench.once(*ours)
    bundle = folder / "bundle"
    (out / "bench").rename(bundle)
    bare_jinja.prepare(bundle, templates)
    bench.once(*bare)
    unlike = bare_jinja.differences(bundle, out)
    if unlike:
        sys.exit(f"the bare loop writes other bytes: {unlike[:3]} and {len(unlike) - 3} more")
    ours_bytes, bare_bytes = _bytes(bundle), _bytes(out)
    shutil.rmtree(bundle)
    run, yardstick = bench.turns(times, ours, bare, fresh=out)
    shutil.rmtree(folder)
    speeds = [size / one.cpu / 1e6 for size, one in ((ours_bytes, run), (bare_bytes, yardstick))]
    per_byte = speeds[1] / speeds[0]
    print(
        f"{hosts:6,} hosts{run.cpu:9.2f} s{run.clock:9.2f} s{run.cpu / hosts * 1000:9.2f} ms{ours_bytes / 1e6:9.1f} MB"
        f"{speeds[0]:9.0f} MB/s{speeds[1]:9.0f} MB/s{per_byte:8.2f}x{run.memory:8.0f} MB"
    )
    if hosts == 1000:
        _target("1,000 hosts: per byte no slower than the bare loop", per_byte <= 1)
    return run


def payload(bench: Bench, size: int) -> None:
    """``lock``, ``bundle --payload`` and ``verify`` of a payload of *size* bytes in sparse archives, against ``sha256sum`` of the same files."""
    from gathered_payload import image

    from generator import compiler
    from generator.artifacts.payload import wanted

    folder, out = bench.scratch / "payload", bench.scratch / "with payload"
    path = bench.scratch / "payload.yaml"
    path.write_text(inventory(6).replace("os: rocky-9", "os: rocky-9, packages: repository"))
    cluster = compiler.check(str(path), path.read_bytes()).cluster
    assert cluster is not None
    archives = [(folder / one["path"], one["reference"]) for one in wanted(cluster)["images"]]
    for archive, reference in archives:
        image(archive, reference, layer=size // len(archives))
    lock = ("-m", "generator", "-q", "lock", str(path), "--payload", str(folder))
    bundle = ("-m", "generator", "-q", "bundle", str(path), "--payload", str(folder), "-o", str(out))
    bench.once(*lock)
    bench.once(*bundle)
    sums = ("-c", "import os, sys; os.execvp('sha256sum', sys.argv[1:])", "sha256sum", *(str(archive) for archive, _ in archives))
    runs = bench.turns(3, sums, lock, bundle, ("-m", "generator", "-q", "verify", str(out / cluster.name)))
    print(f"\n{'payload of':12}{size / 1e9:6.1f} GB{'processor':>12}{'clock':>12}{'speed':>15}{'memory':>11}")
    for name, run in zip(("sha256sum", "stowage lock", "stowage bundle", "stowage verify"), runs, strict=True):
        print(f"{name:21}{run.cpu:10.2f} s{run.clock:10.2f} s{size / run.clock / 1e6:10.0f} MB/s{run.memory:8.0f} MB")
    _target("a payload is read at 80 % of sha256sum's speed, at least", all(runs[0].cpu >= 0.8 * run.cpu for run in runs[1:]))
    _target("and never held: under 100 MB", all(run.memory < 100 for run in runs[1:]))
    shutil.rmtree(folder)
    shutil.rmtree(out)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _target(what: str, reached: bool) -> None:
    print(f"  {'reached' if reached else 'MISSED '}: {what}")


def main() -> None:
    """Print every figure; the exit status is 0 whatever they are."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() and os.access(memory, os.W_OK) else None) as scratch:
        bench = Bench(Path(scratch))
        print(f"Python {sys.version.split()[0]}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}, writing to {scratch}\n")
        startup(bench)
        checking(bench, 1000)
        payload(bench, 5_000_000_000)
        print(
            f"\n{'':12}{'processor':>11}{'clock':>11}{'a host':>12}{'written':>12}{'ours':>14}{'bare loop':>14}{'ratio':>9}{'memory':>11}"
        )
        runs = {
            hosts: size(bench, hosts, times)
            for hosts, times in ((100, 7), (1000, 5), (5000, 3))
            if hosts < 5000 or "--quick" not in sys.argv
        }
        slopes = [(runs[b].cpu - runs[a].cpu) / (b - a) * 1000 for a, b in zip(list(runs), list(runs)[1:], strict=False)]
        print(f"  each further host: {', '.join(f'{slope:.2f} ms' for slope in slopes)}")
        if 5000 in runs:
            _target("linear: a further host costs at most half as much again at 5,000 as at 1,000", slopes[1] <= 1.5 * slopes[0])
            _target("5,000 hosts: under 300 MB", runs[5000].memory < 300)


if __name__ == "__main__":
    main()
