"""Commands about inventories: ``bundle``, ``check``, ``new``."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from generator.cli.shared import (
    CONTEXT,
    Stop,
    check_all,
    format_option,
    inventories_argument,
    print_findings,
    say,
    shared,
    stowage,
    strict_option,
)

if TYPE_CHECKING:
    from generator.compiler import Checked


@stowage.command(context_settings=CONTEXT)
@inventories_argument
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), default="out", show_default=True, help="Where bundles go."
)
@click.option(
    "--secrets", type=click.Path(path_type=Path, file_okay=False, exists=True), help="Directory with one file a secret, mode 0700."
)
@strict_option
@shared
@click.pass_context
def bundle(context: click.Context, inventories: tuple[Path, ...], output: Path, secrets: Path | None, *, strict: bool) -> None:
    """
    Check every INVENTORY, then write OUT/<cluster>/ for each.

    With an error anywhere nothing is written. A bundle is swapped in whole, and a file that is right already is not touched.
    --secrets fills the overlay that git ignores (hosts/*/secrets/); the committed bytes stay the same.

    \b
    stowage bundle inventories/*.yaml                     write out/<cluster>/ for each
    stowage bundle mine.yaml --secrets ~/secrets/mine     and the VRRP password, from ~/secrets/mine/vrrp
    """
    from generator import compiler
    from generator.bundle import BundleError

    checked = check_all(inventories)
    # What is only worth knowing is for `check`: here it would be said at every run.
    told = [replace(one, diagnostics=tuple(d for d in one.diagnostics if d.severity != "info")) for one in checked]
    print_findings(context, "text", told, err=True)
    if any(one.refused(strict=strict) for one in checked):
        say(context, "nothing was written", err=True)
        context.exit(1)
    _refuse_twins(checked)
    known = [_read_secrets(secrets, one) if secrets else {} for one in checked]
    for number, one in enumerate(checked):
        assert one.cluster is not None
        if len(checked) > 1 and sys.stderr is not None and sys.stderr.isatty():
            say(context, f"[{number + 1}/{len(checked)}] {one.cluster.name}", err=True)
        try:
            written = compiler.compile_to(output, one.cluster, known[number])
        except BundleError as error:
            raise Stop(str(error), error.remedy) from None
        what = f"{written.added} new, {written.changed} changed, {written.removed} removed" if written.touched else "unchanged"
        say(context, f"{written.path}: {written.files} files for {len(one.cluster.hosts)} hosts, {what}")


def _refuse_twins(checked: list[Checked]) -> None:
    """Two inventories of one cluster name would overwrite each other."""
    seen: dict[str, str] = {}
    for one in checked:
        assert one.cluster is not None
        other = seen.setdefault(one.cluster.name, one.source.name)
        if other != one.source.name:
            raise Stop(f"{one.source.name}: cluster {one.cluster.name} is in {other} too", "give each cluster a name of its own")


def _read_secrets(folder: Path, checked: Checked) -> dict[str, bytes]:
    from generator import secrets

    assert checked.cluster is not None
    try:
        return secrets.read(folder, checked.cluster)
    except secrets.SecretError as error:
        raise Stop(str(error), error.remedy) from None


@stowage.command(context_settings=CONTEXT)
@inventories_argument
@format_option
@strict_option
@shared
@click.pass_context
def check(context: click.Context, inventories: tuple[Path, ...], form: str, *, strict: bool) -> None:
    """
    Print every finding of every INVENTORY; write nothing.

    Exit status 1 where there are errors. Each finding has the place, what is wrong and what to do; `stowage explain CODE` says why.

    \b
    stowage check inventories/*.yaml
    stowage check --strict --format github inventories/*.yaml     annotations in a pull request
    """
    checked = check_all(inventories)
    print_findings(context, form, checked)
    if any(one.refused(strict=strict) for one in checked):
        context.exit(1)
    if form == "text":
        say(context, f"{len(checked)} {'inventory' if len(checked) == 1 else 'inventories'} checked, no errors")


@stowage.command(context_settings=CONTEXT)
@click.option("--name", default="example", show_default=True, help="Name of the cluster.")
@click.option("--kubernetes-version", "version", help="Exact release.  [default: the newest one known]")
@click.option(
    "--control-plane", "control_planes", multiple=True, metavar="NAME=ADDRESS/PREFIX", help="A control plane; one option each, in order."
)
@click.option("--worker", "workers", multiple=True, metavar="NAME=ADDRESS/PREFIX", help="A worker; one option each.")
@click.option("--vip", help="Virtual IP with prefix; needed from two control planes on.")
@click.option("--endpoint", default="api", show_default=True, help="Name that clients use.")
@click.option("--port", default=16443, show_default=True, help="Port of the load balancer.")
@click.option("--router-id", type=int, help="VRRP router id.  [default: the VIP's last number]")
@click.option("--interface", default="ens160", show_default=True, help="Interface of the hosts.")
@click.option("--gateway", default="", help="Default gateway.")
@click.option("--os", "system", default="rocky-9", show_default=True, help="Operating system, such as debian-12.")
@click.option("--runtime", default="containerd", show_default=True, help="containerd, cri-dockerd or cri-o.")
@click.option("--cni", default="flannel", show_default=True, help="flannel, calico or none.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="File to write; an existing one is not replaced.")
@click.pass_context
def new(context: click.Context, /, output: Path | None, **told: Any) -> None:
    """
    Print a commented inventory to start from, or write it to a file.

    Without --control-plane, at a terminal, it asks; elsewhere it prints the example plan of three control planes and three workers.

    \b
    stowage new > inventories/mine.yaml
    stowage new -o inventories/mine.yaml --control-plane cp-1=10.0.0.11/24 --worker node-1=10.0.0.21/24
    """
    from generator import compiler, starter

    for name, value in told.items():
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str) and not text.isprintable():
                raise click.BadParameter("holds a character that nobody can see", param_hint=f"--{name.replace('_', '-')}")
    asks = not told["control_planes"] and sys.stdin.isatty() and sys.stdout.isatty()
    answers = starter.asked(told, partial(click.prompt, err=True)) if asks else starter.completed(told)
    text = starter.starter(answers)
    checked = [compiler.check(str(output or "<new>"), text.encode())]
    print_findings(context, "text", checked, err=True)
    if checked[0].refused():
        context.exit(1)
    if output is None:
        click.echo(text, nl=False)
    else:
        try:
            starter.write(output, text)
        except OSError as error:
            raise Stop(f"{output}: {error.strerror}", "choose another name with --output") from None
        click.echo(f"{output}: written; now read it, then `stowage check {output}`", err=True)
