"""Mutated real files and drawn inventories through the command line: never a traceback, never more than 5 s or 500 MB (``tests/fuzz/``)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).resolve().parent / "fuzz"
ENVIRONMENT = os.environ | {"PYTHONPATH": f"{FUZZ.parents[1]}:{FUZZ.parent}"}
SEEDS = sorted(path for path in (FUZZ / "seeds").iterdir() if path.name != ".gitignore")


def child(*arguments: object, seconds: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, FUZZ / "child.py", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        env=ENVIRONMENT,
    )


def test_mutated_files_break_nothing(tmp_path):
    """``FUZZ_SECONDS`` and ``FUZZ_SEED`` look further: ``make fuzz``. What is found goes to ``tests/fuzz/seeds/`` by hand, for ever."""
    seconds = float(os.environ.get("FUZZ_SECONDS", "30"))
    done = child(os.environ.get("FUZZ_SEED", "1"), seconds, tmp_path, seconds=seconds + 120)
    assert done.returncode == 0, done.stdout + done.stderr
    inputs = int(done.stdout.split(" inputs")[0].rsplit(" ", 1)[1])
    assert inputs > 40  # the drawn inventories come first
    assert int(done.stdout.split("'bundle': ")[1].partition(",")[0]) > 30  # and some inputs go all the way


@pytest.mark.skipif(not SEEDS, reason="no input has broken anything yet")
def test_what_once_broke_something_does_not_any_more():
    done = child("--again", *SEEDS, seconds=20 * (len(SEEDS) + 1))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_fuzzer_sees_a_traceback_a_hang_and_a_giant(tmp_path):
    """Else it proves nothing: each kind of break, planted in the code."""
    for planted, word in (
        ("1 / 0", "ZeroDivisionError"),
        ("exec('while True: pass')", "more than"),
        ("[bytearray(1 << 20) for _ in range(2000)]", "MemoryError"),
    ):
        program = f"""
import sys, runpy
import generator.compiler as c
c.lint_files = lambda *_: {planted}
sys.argv = ['child.py', '1', '15', {str(tmp_path)!r}]
runpy.run_path({str(FUZZ / "child.py")!r}, run_name='__main__')
"""
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False, env=ENVIRONMENT)
        assert done.returncode == 1, done.stdout + done.stderr
        assert word in done.stderr
        assert list(tmp_path.iterdir())
        for kept in tmp_path.iterdir():
            kept.unlink()
