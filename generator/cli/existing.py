"""Commands about what is there already: ``lint`` and ``adopt`` for hand-written files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from generator.cli.shared import (
    CONTEXT,
    Stop,
    annotate_option,
    format_of,
    format_option,
    language_of,
    print_findings,
    say,
    shared,
    stowage,
    strict_option,
)
from generator.wording import said

if TYPE_CHECKING:
    from generator.handwritten import Files


@stowage.command(context_settings=CONTEXT)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(path_type=Path, readable=False))
@format_option
@annotate_option
@strict_option
@shared
@click.pass_context
def lint(context: click.Context, paths: tuple[Path, ...], form: str, *, annotate: bool, strict: bool) -> None:
    """
    Print every finding in hand-written files; write nothing.

    It reads nginx.conf, keepalived.conf with its health scripts, kubeadm's YAML and command lines, static pods, hosts files, systemd units
    and their drop-ins, manifests of flannel and Calico, and KubeKey's config.yaml. A PATH is a file, a folder with the files of one host
    (flat, or as etc/... below it), or a folder of such folders, one a host. Several files are also compared with each other.

    \b
    stowage lint /etc/nginx/nginx.conf /etc/keepalived/keepalived.conf
    stowage lint collected/                  collected/master-1/etc/nginx/nginx.conf, ...
    """
    from generator import compiler
    from generator.diagnostics import has_errors

    form = format_of(form, annotate=annotate)
    files = _files(context, paths)
    linted = compiler.lint_files(files)
    print_findings(context, form, linted)
    if any(has_errors(one.diagnostics, strict=strict) for one in linted):
        context.exit(1)
    if form == "text":
        count = len(linted)
        say(context, said("{count} file read, no errors" if count == 1 else "{count} files read, no errors", count=count))


def _files(context: click.Context, paths: Iterable[Path]) -> Files:
    """The hand-written files at *paths*; files that nobody here reads are named, and it is misuse when there is nothing else."""
    from generator.handwritten import discovery
    from generator.messages import translated

    try:
        files = discovery.read(paths)
    except discovery.UnreadableError as error:
        raise Stop(error.args[0], error.remedy) from None
    if not files.files:
        names = ", ".join(map(str, paths))
        raise Stop(said("{names}: no file that stowage can read", names=names), "`stowage lint --help` says which files it knows")
    if files.skipped:
        names = ", ".join(files.skipped[:3]) + (" ..." if len(files.skipped) > 3 else "")
        skipped = said("stowage: skipped, of no kind that it knows ({count}): {names}", count=len(files.skipped), names=names)
        click.echo(translated(skipped, language_of(context)), err=True)
    return files


@stowage.command(context_settings=CONTEXT)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(path_type=Path, readable=False))
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="File to write; an existing one is not replaced.")
@shared
@click.pass_context
def adopt(context: click.Context, paths: tuple[Path, ...], output: Path | None) -> None:
    """
    Print an inventory made from hand-written files, or write it to a file.

    It reads what `stowage lint` reads, and KubeKey's config.yaml. What no file says is guessed, with a comment at the value; what an
    inventory can't hold is listed at the end. A password is not copied, but named as a secret. Mistakes of the files are adopted too:
    what `stowage check` finds in the inventory goes to standard error, and the exit status is 0 as soon as it is written.

    \b
    stowage adopt collected/ -o inventories/mine.yaml
    stowage adopt config.yaml                    KubeKey's, v1alpha2
    """
    from generator import adopt as adoption
    from generator import compiler, starter

    files = _files(context, paths)
    # What can't be read is missing in the inventory.
    print_findings(context, "text", [compiler.Linted(file.source, file.problems) for file in files.files if file.problems], err=True)
    draft = adoption.draft(files)
    if draft is None:
        names = ", ".join(map(str, paths))
        raise Stop(said("{names}: nothing here says anything of a cluster", names=names), "`stowage adopt --help` says what it reads")
    text = adoption.text(draft, [file.source.name for file in files.files])
    checked = compiler.check(str(output or "<adopted>"), text.encode())
    if output is None:
        click.echo(text, nl=False)
    else:
        try:
            starter.write(output, text)
        except OSError as error:
            raise Stop(f"{output}: {error.strerror}", "choose another name with --output") from None
        say(context, said("{output}: written; now read it, then `stowage check {output}`", output=output), err=True)
    print_findings(context, "text", [checked], err=True)
