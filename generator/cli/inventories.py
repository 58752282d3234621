"""Commands about inventories: ``bundle``, ``check``, ``new``."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from generator.cli.closure import closed
from generator.cli.keys import decrypt_with, identity_option
from generator.cli.payload import lock_option, overlay_of, payload_option
from generator.cli.shared import (
    CONTEXT,
    Stop,
    annotate_option,
    check_all,
    format_of,
    format_option,
    inventories_argument,
    language_of,
    print_findings,
    read_inventory,
    say,
    shared,
    stowage,
    strict_option,
)
from generator.wording import said

if TYPE_CHECKING:
    from generator.compiler import Checked


@stowage.command(context_settings=CONTEXT)
@inventories_argument
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), default="out", show_default=True, help="Where bundles go."
)
@click.option(
    "--secrets",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Directory with one file a secret, mode 0700 (`stowage keys new`).",
)
@identity_option
@payload_option
@lock_option
@strict_option
@shared
@click.pass_context
def bundle(
    context: click.Context,
    /,
    inventories: tuple[Path, ...],
    output: Path,
    secrets: Path | None,
    identity: Path | None,
    *,
    strict: bool,
    **gathered: Path | None,
) -> None:
    """
    Check every INVENTORY, then write OUT/<cluster>/ for each.

    With an error anywhere nothing is written. A bundle is swapped in whole, and a file that is right already is not touched.
    --secrets and --payload fill the overlays that git ignores (hosts/*/secrets/, hosts/*/payload/); the committed bytes stay the same.
    With --payload the closure is proved (`stowage closure`) before anything is replaced.

    \b
    stowage bundle inventories/*.yaml                     write out/<cluster>/ for each
    stowage bundle mine.yaml --secrets ~/secrets/mine     and what joins and VRRP need (`stowage keys new`)
    stowage bundle mine.yaml --payload payload            and each host's images and packages (`stowage lock`)
    """
    from generator import compiler
    from generator.bundle import BundleError
    from generator.secrets import TOKEN

    payload, lock_file = gathered["payload"], gathered["lock_file"]
    if payload and len(inventories) > 1:
        raise click.UsageError("--payload holds what one cluster needs; name one INVENTORY")
    if lock_file and not payload:
        raise click.UsageError("--lock is the lock of a payload; name that with --payload")

    checked = check_all(inventories)
    # What is only worth knowing is for `check`: here it would be said at every run.
    told = [replace(one, diagnostics=tuple(d for d in one.diagnostics if d.severity != "info")) for one in checked]
    print_findings(context, "text", told, err=True)
    if any(one.refused(strict=strict) for one in checked):
        say(context, "nothing was written", err=True)
        context.exit(1)
    _refuse_twins(checked)
    known = [_read_secrets(context, secrets, one, identity) if secrets else {} for one in checked]
    if len(known) > 1 and any(TOKEN in one for one in known):
        raise Stop(
            said("{folder}: the keys of one cluster, and these are {count}", folder=secrets, count=len(known)),
            "make keys for each (`stowage keys new`), and a bundle with its own: with the CA of one, whoever runs it runs the other too",
        )
    overlay = overlay_of(context, checked[0].cluster, payload, lock_file) if payload and checked[0].cluster else None
    for number, one in enumerate(checked):
        assert one.cluster is not None
        if len(checked) > 1 and sys.stderr is not None and sys.stderr.isatty():
            say(context, f"[{number + 1}/{len(checked)}] {one.cluster.name}", err=True)
        try:
            accept = partial(closed, context, output / one.cluster.name) if overlay else None
            written = compiler.compile_to(output, one.cluster, known[number], overlay, accept=accept)
        except BundleError as error:
            raise Stop(error.args[0], error.remedy) from None
        what = said("unchanged")
        if written.touched:
            counts = {"added": written.added, "changed": written.changed, "removed": written.removed}
            what = said("{added} new, {changed} changed, {removed} removed", **counts)
        hosts = len(one.cluster.hosts)
        say(
            context, said("{path}: {files} files for {hosts} hosts, {what}", path=written.path, files=written.files, hosts=hosts, what=what)
        )


def _refuse_twins(checked: list[Checked]) -> None:
    """Two inventories of one cluster name would overwrite each other."""
    seen: dict[str, str] = {}
    for one in checked:
        assert one.cluster is not None
        other = seen.setdefault(one.cluster.name, one.source.name)
        if other != one.source.name:
            message = said("{file}: cluster {cluster} is in {other} too", file=one.source.name, cluster=one.cluster.name, other=other)
            raise Stop(message, "give each cluster a name of its own")


def _read_secrets(context: click.Context, folder: Path, checked: Checked, identity: Path | None) -> dict[str, bytes]:
    from generator import secrets

    assert checked.cluster is not None
    now = datetime.now(UTC)
    try:
        found = secrets.read(folder, checked.cluster, now, decrypt_with(identity))
        for line in secrets.ends_early(folder, found, checked.cluster, now):
            say(context, line, err=True)
    except secrets.SecretError as error:
        raise Stop(error.args[0], error.remedy) from None
    return found


@stowage.command(context_settings=CONTEXT)
@inventories_argument
@format_option
@annotate_option
@click.option("--fix", is_flag=True, help="Apply the remedies that have one right answer to the files, then print what is left.")
@click.option("--diff", is_flag=True, help="Print what --fix would change; write nothing.")
@strict_option
@shared
@click.pass_context
def check(
    context: click.Context, /, inventories: tuple[Path, ...], form: str, *, annotate: bool, fix: bool, diff: bool, strict: bool
) -> None:
    """
    Print every finding of every INVENTORY; without --fix, write nothing.

    Exit status 1 where there are errors. Each finding has the place, what is wrong and what to do; `stowage explain CODE` says why.

    \b
    stowage check inventories/*.yaml
    stowage check --strict --format github inventories/*.yaml     annotations in a pull request
    stowage check --fix mine.yaml                                 comments and layout stay as they are
    """
    form = format_of(form, annotate=annotate)
    if diff:
        _show_fixes(context, inventories, strict=strict)
        return
    checked = [_fixed(context, path) for path in inventories] if fix else check_all(inventories)
    # Standard output has the fixed text then.
    aside = fix and Path("-") in inventories
    print_findings(context, form, checked, err=aside)
    if any(one.refused(strict=strict) for one in checked):
        context.exit(1)
    if form == "text":
        count = len(checked)
        last = said("{count} inventory checked, no errors" if count == 1 else "{count} inventories checked, no errors", count=count)
        say(context, last, err=aside)


def _fixed(context: click.Context, path: Path) -> Checked:
    """The inventory at *path* after its safe remedies, which are written there; for ``-``, to standard output."""
    from generator import compiler, fixes
    from generator.report import spot, visible

    former = read_inventory(path)
    fixed = compiler.fix(str(path), former)
    try:
        if str(path) == "-":
            click.echo(fixed.raw, nl=False)
        elif fixed.raw != former:
            fixes.write(path, fixed.raw)
    except OSError as error:
        raise Stop(f"{path}: {error.strerror}", "see that you may write it; `--fix --diff` prints what would change") from None
    for source, one in fixed.done:
        at = spot(source, one).at
        place = f"{visible(source.name)}:{at.line}:{at.column}"
        say(context, said("fixed {code} at {place}: {what}", code=one.code, place=place, what=fixes.described(one)), err=True)
    return fixed.checked


def _show_fixes(context: click.Context, inventories: tuple[Path, ...], *, strict: bool) -> None:
    """What ``--fix`` would change; exit status 1 where that is something, or where errors would be left."""
    from generator import compiler, report
    from generator.source import load

    status = 0
    for path in inventories:
        former = read_inventory(path)
        fixed = compiler.fix(str(path), former)
        if fixed.done:
            click.echo(report.difference(load(str(path), former)[0], fixed.checked.source), nl=False)
        status |= bool(fixed.done) or fixed.checked.refused(strict=strict)
    context.exit(status)


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
    from generator.messages import translated

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
        last = said("{file}: written; now read it, then `stowage check {file}`", file=output)
        click.echo(translated(last, language_of(context)), err=True)
