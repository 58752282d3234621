"""
The end of a rehearsal: the targets, what missed them, the table as text, and ``rehearsal.json``.

A figure of ours has to be no worse than the hand-tuned one, which was measured once on another machine. What chance alone moves is allowed
for: how long after a health check or an advertisement a fault begins (``PHASE``), and a request or two that are under way in the moment of
the fault (``FEW``). A row that misses is done twice more and the middle one of the three counts, so that neither one unlucky run fails nor
one lucky run passes; all three are in the report. The limits need no luck and get none: every run has to keep them.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from lab.drills import Drill
from lab.faults import BEFORE, DURING, ORIGIN, ROWS, STOWAGE, Outcome, Row
from lab.load import INTERVAL

FORMAT = 1
# Half of a check's interval of 1 s, in seconds: the middle of a delay that the phase makes uniform is known to that.
PHASE = 0.5
# Percent of the requests of a row: four of 750 at most, less than 0.55 %.
FEW = 0.5
# design.md 7: no outage over 2.5 s, none needs an operator, never two holders for over 5 s.
OUTAGE_SECONDS = 2.5
SEVERAL_SECONDS = 5.0
BACK_SECONDS = 3.0


@dataclass
class Rehearsed:
    """What a session has measured: *site* is (inventory, its digest, host to role), empty where no lab was opened."""

    outcomes: dict[str, dict[str, list[Outcome]]] = field(default_factory=lambda: {STOWAGE: {}, ORIGIN: {}})
    drills: list[Drill] = field(default_factory=list)
    site: tuple[str, str, dict[str, str]] | tuple[()] = ()


@dataclass(frozen=True)
class Target:
    """What a row of ours may have at most: *failed* in percent of its requests, *outage* in seconds; None where the table says nothing."""

    failed: float | None
    outage: float | None


def target(row: Row) -> Target:
    """The hand-tuned figures of *row* with what chance alone moves; a row that has an outage begins it at any phase of the check."""
    failed, outage = row.tuned.failed, row.tuned.outage
    phase = PHASE if outage else 0.0
    share = 100 * phase / (BEFORE + DURING)
    return Target(
        None if failed is None else failed + FEW + share,
        None if outage is None else outage + phase + (0.0 if phase else 4 * INTERVAL),
    )


def limits(row: Row, outcome: Outcome) -> list[str]:
    """What *outcome* breaks of the limits that hold in every run."""
    broken = []
    if row.heals and max(outcome.outage, outcome.silence) > OUTAGE_SECONDS:
        broken.append(f"{max(outcome.outage, outcome.silence):.1f} s out (at most {OUTAGE_SECONDS} s)")
    if not outcome.healed:
        broken.append("did not heal by itself")
    if not outcome.mended:
        broken.append("needed an operator")
    if outcome.several > SEVERAL_SECONDS:
        broken.append(f"{outcome.several:.1f} s with {outcome.holders} holders (at most {SEVERAL_SECONDS:.0f} s)")
    if row.moves is not None and outcome.moves > row.moves:
        broken.append(f"the VIP moved {outcome.moves} times (at most {row.moves})")
    if outcome.back is not None and outcome.back > BACK_SECONDS:
        broken.append(f"served {outcome.back:.1f} s after the return (at most {BACK_SECONDS:.0f} s)")
    return broken


def misses(row: Row, outcome: Outcome) -> list[str]:
    """What *outcome* misses of the target of *row*."""
    aim, missed = target(row), []
    if aim.failed is not None and 100 * outcome.failed > aim.failed:
        missed.append(f"{100 * outcome.failed:.1f} % failed (at most {aim.failed:.1f} %)")
    if aim.outage is not None and outcome.outage > aim.outage:
        missed.append(f"{outcome.outage:.2f} s out (at most {aim.outage:.2f} s)")
    return missed


def middle(outcomes: Sequence[Outcome]) -> Outcome:
    """The one that counts: that with the middle share of failed requests."""
    share = statistics.median_low(outcome.failed for outcome in outcomes)
    return next(outcome for outcome in outcomes if outcome.failed == share)


def verdict(row: Row, outcomes: Sequence[Outcome]) -> list[str]:
    """All that is wrong with what ours did in *row*: nothing, where it holds."""
    broken = [said for outcome in outcomes for said in limits(row, outcome)]
    return list(dict.fromkeys(broken + misses(row, middle(outcomes))))


# --- text -----------------------------------------------------------------------------------------------------------------------------------


def cell(outcome: Outcome | None) -> str:
    """The figures of *outcome* as the issue words them."""
    if outcome is None:
        return "-"
    words = [f"{100 * outcome.failed:.1f} %"]
    if outcome.outage >= 0.1:
        words.append(f"{outcome.outage:.1f} s out")
    elif outcome.worst >= 0.5:
        words.append(f"worst request {outcome.worst:.1f} s")
    if not outcome.healed:
        words.append("for as long as it lasts")
    if outcome.several >= 1:
        words.append(f"{outcome.holders} holders")
    if outcome.back is not None:
        words = [f"served {outcome.back:.1f} s after the return"]
    return ", ".join(words)


def _holders(outcome: Outcome) -> str:
    return str(outcome.holders) + (f" for {outcome.several:.1f} s" if outcome.several else "")


def _healed(outcome: Outcome) -> str:
    if not outcome.mended:
        return "no: an operator"
    return "yes" if outcome.healed else "when mended"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """*rows* in columns, the first one ruled off."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]]) + "\n"


def table(outcomes: Mapping[str, Mapping[str, Sequence[Outcome]]]) -> str:
    """The table of faults: *outcomes* by setup and name of the row; what was not done is a dash."""
    lines = [("fault", "the origin", "stowage", "hand-tuned", "holders", "heals by itself", "")]
    for row in ROWS:
        ours, theirs = outcomes.get(STOWAGE, {}).get(row.name, ()), outcomes.get(ORIGIN, {}).get(row.name, ())
        if not ours and not theirs:
            continue
        mine = middle(ours) if ours else None
        lines.append((
            row.name, cell(middle(theirs) if theirs else None), cell(mine), row.tuned.text,
            _holders(mine) if mine else "-", _healed(mine) if mine else "-", "MISSED" if ours and verdict(row, ours) else "",
        ))  # fmt: skip
    return aligned(lines)


def text(
    outcomes: Mapping[str, Mapping[str, Sequence[Outcome]]], drills: Sequence[Drill], others: Sequence[tuple[str, bool, str]] = ()
) -> str:
    """The whole report: the table, what it misses, and the checks beside it; *others* are (name, held, what it said) of other tests."""
    parts = [f"Faults under one new TLS connection every {1000 * INTERVAL:.0f} ms through the VIP\n\n{table(outcomes)}"]
    for row in ROWS:
        ours = outcomes.get(STOWAGE, {}).get(row.name, ())
        if ours and (wrong := verdict(row, ours)):
            runs = "; ".join(cell(outcome) for outcome in ours)
            parts.append(f"MISSED  {row.name}: {', '.join(wrong)} (runs: {runs})\n")
    checks = [(drill.name, drill.held, drill.said) for drill in drills] + list(others)
    if checks:
        parts.append(aligned([("check", "", "figures"), *((name, "held" if held else "FAILED", said) for name, held, said in checks)]))
    return "\n".join(parts)


# --- rehearsal.json ---------------------------------------------------------------------------------------------------------------------------


def _plain(outcome: Outcome) -> dict[str, Any]:
    """*outcome* as data, seconds and shares with the digits that mean something."""
    data = asdict(replace(outcome, failed=round(outcome.failed, 4)))
    rounded = {key: round(value, 3) if isinstance(value, float) and key != "failed" else value for key, value in data.items()}
    return {key: value for key, value in rounded.items() if key not in {"setup", "name"}}


def data(
    version: str, inventory: str, digest: str, hosts: Mapping[str, str], outcomes: Mapping[str, Mapping[str, Sequence[Outcome]]],
    drills: Sequence[Drill], others: Sequence[tuple[str, bool, str]] = (),
) -> dict[str, Any]:  # fmt: skip
    """
    ``rehearsal.json``: the keys stand in this order in every report. *hosts* is name to role, *digest* the SHA-256 of the inventory's bytes;
    what was not done is missing from its list.
    """
    faults = []
    for row in ROWS:
        runs = {setup: list(outcomes.get(setup, {}).get(row.name, ())) for setup in (STOWAGE, ORIGIN)}
        if not any(runs.values()):
            continue
        wrong = verdict(row, runs[STOWAGE]) if runs[STOWAGE] else []
        faults.append({
            "name": row.name, "held": not wrong, "missed": wrong, "target": asdict(target(row)),
            "reference": {"origin": row.origin.text, "handTuned": row.tuned.text},
            **{setup: [_plain(outcome) for outcome in done] for setup, done in runs.items()},
        })  # fmt: skip
    checks = [(drill.name, drill.held, drill.said) for drill in drills] + list(others)
    return {
        "format": FORMAT,
        "tool": {"name": "stowage", "version": version},
        "inventory": {"path": inventory, "sha256": digest},
        "hosts": [{"name": name, "role": role} for name, role in hosts.items()],
        "held": all(fault["held"] for fault in faults) and all(held for _, held, _ in checks),
        "faults": faults,
        "checks": [{"name": name, "held": held, "said": said} for name, held, said in checks],
    }


def write(path: Path, report: Mapping[str, Any]) -> None:
    """Writes *report*, whole or not at all."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", encoding="utf-8", delete=False) as file:
        json.dump(report, file, indent=2, ensure_ascii=False)
        file.write("\n")
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)
