"""``attest``: what came back from the hosts, against the bundle."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from generator.cli.shared import CONTEXT, Stop, colored, language_of, shared, stowage
from generator.wording import said

if TYPE_CHECKING:
    from generator.attestation.comparison import Comparison


@stowage.command(context_settings=CONTEXT)
@click.argument("folder", metavar="BUNDLE", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path, readable=False))
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True, help="For people, or programs.")
@click.option(
    "--days", type=click.IntRange(0, 36_500), default=30, show_default=True, help="A certificate that ends within so many days is named."
)
@shared
@click.pass_context
def attest(context: click.Context, folder: Path, files: tuple[Path, ...], form: str, days: int) -> None:
    """
    Say how the hosts differ from BUNDLE, by the attestations that were carried back from them.

    `run.sh 90 --attest FILE` writes one on a host: files, steps, units, the VIP, etcd, certificates, versions; no secret. Several of one
    host may be named, the newest counts. Exit status 1 where anything differs or a host has none.

    \b
    bash run.sh 90 --attest /media/stick/master-1.json       (on a host)
    stowage attest out/example /media/stick/*.json
    """
    import json

    from generator.attestation import AttestationError, read, read_planned
    from generator.attestation.comparison import compare
    from generator.bundle import BundleError

    try:
        planned = read_planned(folder)
        attestations = [read(file, planned.cluster) for file in files]
    except (AttestationError, BundleError) as error:
        raise Stop(error.args[0], error.remedy) from None
    comparison = compare(planned, attestations, int(time.time()), days)
    if form == "json":
        click.echo(json.dumps(_described(comparison), indent=1))
    else:
        color = colored(context, sys.stdout)
        quiet = context.obj.get("quiet", False)
        for line in _lines(comparison, language_of(context), quiet=quiet):
            click.echo(line, color=color)
    if not comparison.well:
        context.exit(1)


def _described(comparison: Comparison) -> dict[str, object]:
    """Everything, for a program."""
    hosts = [
        {"host": host, "role": role} | ({"file": one.name, "time": one.data["time"]} if (one := comparison.counted.get(host)) else {})
        for host, role in comparison.planned.roles.items()
    ]
    differences = [
        {"host": each.host or None, "kind": each.kind, "level": "note" if each.note else "difference", "message": str(each.message)}
        for each in comparison.differences
    ]
    return {"stowage-attest": 1, "cluster": comparison.planned.cluster, "well": comparison.well, "hosts": hosts, "differences": differences}


def _lines(comparison: Comparison, language: str, *, quiet: bool) -> Iterator[str]:
    """A heading a host with its differences below it, the cluster's, and a sum."""
    from generator.messages import translated
    from generator.report import visible

    roles, counted = comparison.planned.roles, comparison.counted
    hosts = list(dict.fromkeys([*roles, *(each.host for each in comparison.differences if each.host)]))
    wide = max(map(len, hosts), default=0)
    for host in [*hosts, ""]:
        own = [each for each in comparison.differences if each.host == host]
        if not own and (quiet or not host):
            continue
        when = counted[host].data["time"] if host in counted else ""
        heading = f"{host:{wide}}  {roles.get(host, ''):13}  {when:20}" if host else translated("between the hosts", language)
        state = "" if own else click.style(translated("as planned", language), fg="green")
        yield f"{click.style(visible(heading.rstrip() if own else heading), bold=True)}{'  ' if state else ''}{state}"
        for each in own:
            text = said("note: {message}", message=each.message) if each.note else each.message
            yield f"  {visible(translated(text, language))}"
    count = sum(not each.note for each in comparison.differences)
    total = len(roles)
    attested = len(roles.keys() & counted.keys())
    if count:
        text = said(
            "{attested} of {total} hosts attested, {count} difference"
            if count == 1
            else "{attested} of {total} hosts attested, {count} differences",
            attested=attested,
            total=total,
            count=count,
        )
        yield translated(text, language)
    elif not quiet:
        yield translated(said("{total} hosts attested, all as planned", total=total), language)
