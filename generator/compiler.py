"""The order of the stages, and nothing else: text, plain data, model, findings, files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from generator import __version__, artifacts, bundle, lint, source, validate
from generator.artifacts import lock
from generator.diagnostics import Diagnostic, has_errors
from generator.model import build
from generator.steps import STEPS

if TYPE_CHECKING:
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


def _place(read: source.Source, diagnostic: Diagnostic) -> tuple[int, int, str, str]:
    position = diagnostic.position or read.position(diagnostic.path, on_key=diagnostic.on_key)
    return position.line, position.column, diagnostic.code, diagnostic.message


def compile_to(out: Path, cluster: Cluster, secrets: Mapping[str, bytes]) -> bundle.Written:
    """Write the bundle of *cluster* below *out*; *secrets* holds what ``--secrets`` gave, by name.  Raises ``bundle.BundleError``."""
    return bundle.write(out, cluster.name, _about(cluster), artifacts.plan(cluster), _overlay(cluster, secrets))


def _about(cluster: Cluster) -> dict[str, Any]:
    """Head of the manifest: nothing of the clock, the machine or the secrets."""
    return {
        "tool": __version__,
        "cluster": cluster.name,
        "lock": hashlib.sha256(lock.text(cluster).encode()).hexdigest(),
        "hosts": [{"name": host.name, "role": host.role} for host in cluster.hosts],
        "steps": [asdict(step) | {"script": step.script} for step in STEPS],
    }


def secret_names(cluster: Cluster) -> tuple[str, ...]:
    """Names of the secrets that the inventory of *cluster* wants, each a file in the directory given with ``--secrets``."""
    wanted = cluster.load_balancer.keepalived.auth_secret if cluster.load_balancer else ""
    return (wanted,) if wanted else ()


def wrong_secret(data: bytes) -> str:
    """What a VRRP password must be, where *data* is none; else empty.  Step 40 says the same of one that is typed (keepalived.conf(5))."""
    return "" if re.fullmatch(rb"[A-Za-z0-9._+=/@%:,-]{1,8}", data) else "write 1 to 8 of A-Z a-z 0-9 . _ + = / @ % : , - on one line"


def _overlay(cluster: Cluster, secrets: Mapping[str, bytes]) -> dict[str, dict[str, bytes]]:
    """The secret files of each host: just those that the host needs."""
    wanted = {name: secrets[name] for name in secret_names(cluster) if name in secrets}
    return {host.name: wanted for host in cluster.load_balancers} if wanted else {}
