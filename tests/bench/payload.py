"""How fast a large payload is verified, against ``sha256sum`` alone, and in how much memory it is packed: ``payload.py [GIGABYTES]``.

Files are sparse, so that the disk is not measured.  Processor time is what is compared, in runs that took turns.
"""

# ruff: noqa: T201

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = 20
TIMES = 3


def run(*command: str | Path) -> tuple[float, float, float]:
    """Seconds of processor time, seconds by the clock, peak memory in MB; stops everything when it fails."""
    start = perf_counter()
    process = subprocess.Popen(
        list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}
    )
    said = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(map(str, command))}: exit {process.returncode}\n{said}")
    return usage.ru_utime + usage.ru_stime, perf_counter() - start, usage.ru_maxrss / 1024


def target(what: str, *, reached: bool) -> None:
    """One line."""
    print(f"  {'reached' if reached else 'MISSED '}: {what}")


def measure(scratch: Path, gigabytes: float) -> None:
    """Print every figure of a payload of so many *gigabytes*."""
    stowage = (sys.executable, "-m", "generator", "-q")
    run(*stowage, "bundle", REPOSITORY / "inventories" / "example.yaml", "-o", scratch)
    bundle = scratch / "example"
    host = bundle / "hosts" / "node-1"
    images = host / "payload" / "images"
    images.mkdir(parents=True)
    for number in range(FILES):
        with (images / f"{number:02}.tar").open("wb") as file:
            file.truncate(int(gigabytes * 1e9 / FILES))
    sums = subprocess.run("sha256sum images/*.tar >SHA256SUMS", shell=True, cwd=host / "payload", check=False)
    if sums.returncode:
        sys.exit("sha256sum failed")
    programs = {
        "sha256sum -c": ("sh", "-c", f"cd '{host}/payload' && sha256sum -c --quiet SHA256SUMS"),
        "verify.sh": ("sh", host / "verify.sh"),
        "stowage verify": (*stowage, "verify", host),
    }
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in programs}
    for _ in range(TIMES):
        for name, command in programs.items():
            found[name].append(run(*command))
    medians = {name: tuple(map(statistics.median, zip(*runs, strict=True))) for name, runs in found.items()}
    bare = medians["sha256sum -c"][0]
    print(
        f"\n{gigabytes:g} GB payload in {FILES} sparse files{'processor':>11}{'clock':>10}{'memory':>10}{'speed':>13}{'of sha256sum':>14}"
    )
    for name, (cpu, clock, memory) in medians.items():
        print(f"{name:30}{cpu:12.2f} s{clock:8.2f} s{memory:7.0f} MB{gigabytes * 1000 / cpu:8.0f} MB/s{bare / cpu * 100:12.0f} %")
    for name in ("verify.sh", "stowage verify"):
        target(f"{name}: at least 80 % of sha256sum's speed", reached=bare / medians[name][0] >= 0.8)
    for compression in ("none", "zstd", "gzip"):
        cpu, clock, memory = run(*stowage, "pack", bundle, "-o", scratch / "packed", "--host", "node-1", "--compress", compression)
        shutil.rmtree(scratch / "packed")
        print(f"stowage pack, {compression:16}{cpu:12.2f} s{clock:8.2f} s{memory:7.0f} MB{gigabytes * 1000 / cpu:8.0f} MB/s")
        target("packed in under 200 MB of memory", reached=memory < 200)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        free = shutil.disk_usage(folder).free / 1e9
        # Uncompressed archives are not sparse.
        measure(Path(folder), float(sys.argv[1]) if sys.argv[1:] else min(5.0, free / 3))
