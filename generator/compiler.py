"""The order of the stages, and nothing else: text, plain data, model, findings, files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from generator import __version__, artifacts, bundle, lint, secrets, source, validate
from generator.artifacts import lock
from generator.diagnostics import Diagnostic, has_errors
from generator.model import build
from generator.steps import STEPS

if TYPE_CHECKING:
    from generator.handwritten import Files
    from generator.model import Cluster


@dataclass(frozen=True)
class Checked:
    """One inventory after every stage that could run; *cluster* is None where its text or data was refused."""

    source: source.Source
    diagnostics: tuple[Diagnostic, ...]
    cluster: Cluster | None

    def refused(self, *, strict: bool = False) -> bool:
        """Whether nothing may be compiled from it."""
        return self.cluster is None or has_errors(self.diagnostics, strict=strict)


def check(name: str, raw: bytes) -> Checked:
    """
    Every finding of the inventory *raw*, called *name*; an error in a stage stops the next.

    Findings are in the order of the text.  Raises nothing for any input.
    """
    read, found = source.load(name, raw)
    cluster = None
    if not has_errors(found):
        found += validate.run(read.data)
    if not has_errors(found):
        cluster = build(validate.complete(read.data))
        found += lint.run(cluster)
    return Checked(read, tuple(sorted(found, key=lambda d: _place(read, d))), cluster)


@dataclass(frozen=True)
class Fixed:
    """An inventory after its safe remedies: its new bytes, the check of these, and each fix with the text that it was applied to."""

    raw: bytes
    checked: Checked
    done: tuple[tuple[source.Source, Diagnostic], ...]


def fix(name: str, raw: bytes) -> Fixed:
    """The inventory *raw*, called *name*, with safe remedies applied until there are none; raises nothing for any input."""
    from generator import fixes

    checked, done = check(name, raw), []
    for _ in range(fixes.MAX_ROUNDS):
        raw, applied = fixes.apply(checked.source, raw, checked.diagnostics)
        if not applied:
            break
        done += [(checked.source, one) for one in applied]
        checked = check(name, raw)
    return Fixed(raw, checked, tuple(done))


@dataclass(frozen=True)
class Linted:
    """One hand-written file and what was found in it."""

    source: source.Source
    diagnostics: tuple[Diagnostic, ...]


def lint_files(files: Files) -> list[Linted]:
    """
    Every finding of hand-written *files*, a file each, in the order of its text.

    What the rules over files say, and what all other stages say of the inventory that the files amount to, where it is about a value that
    stands in them.
    """
    from generator import adopt

    found = [(file.source, problem) for file in files.files for problem in file.problems]
    found += lint.run_files(files)
    found += adopt.findings(files)
    # Two rules, or a rule and the draft, may say the same of one place.
    by_file: dict[str, dict[object, Diagnostic]] = {file.source.name: {} for file in files.files}
    for read, diagnostic in found:
        by_file[read.name].setdefault((diagnostic.code, diagnostic.position, diagnostic.message), diagnostic)
    return [
        Linted(file.source, tuple(sorted(by_file[file.source.name].values(), key=lambda d: _place(file.source, d)))) for file in files.files
    ]


def _place(read: source.Source, diagnostic: Diagnostic) -> tuple[int, int, str, str]:
    position = diagnostic.position or read.position(diagnostic.path, on_key=diagnostic.on_key)
    return position.line, position.column, diagnostic.code, diagnostic.message


def compile_to(
    out: Path,
    cluster: Cluster,
    known: Mapping[str, bytes],
    payload: bundle.Payload | None = None,
    *,
    accept: Callable[[Path], None] | None = None,
) -> bundle.Written:
    """
    Write the bundle of *cluster* below *out*; *known* holds what ``secrets.read`` gave, *payload* is of ``payload.overlay``.

    *accept* is as for ``bundle.write``.  Raises ``bundle.BundleError``, and what *accept* raises.
    """
    about, files, overlay = _about(cluster), artifacts.plan(cluster), secrets.overlay(cluster, known)
    return bundle.write(out, cluster.name, about, files, overlay, payload, accept=accept)


def _about(cluster: Cluster) -> dict[str, Any]:
    """Head of the manifest: nothing of the clock, the machine or the secrets."""
    return {
        "tool": __version__,
        "cluster": cluster.name,
        "lock": hashlib.sha256(lock.text(cluster).encode()).hexdigest(),
        "hosts": [{"name": host.name, "role": host.role} for host in cluster.hosts],
        "steps": [asdict(step) | {"script": step.script} for step in STEPS],
    }
