"""Commands about what is there already: ``lint`` for hand-written files, ``verify`` for bundles."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from generator.cli.shared import CONTEXT, Stop, format_option, print_findings, say, shared, stowage, strict_option

if TYPE_CHECKING:
    from generator.handwritten import Files


@stowage.command(context_settings=CONTEXT)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(path_type=Path, readable=False))
@format_option
@strict_option
@shared
@click.pass_context
def lint(context: click.Context, paths: tuple[Path, ...], form: str, *, strict: bool) -> None:
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

    files = _files(paths)
    linted = compiler.lint_files(files)
    print_findings(context, form, linted)
    if any(has_errors(one.diagnostics, strict=strict) for one in linted):
        context.exit(1)
    if form == "text":
        say(context, f"{len(linted)} {'file' if len(linted) == 1 else 'files'} read, no errors")


def _files(paths: Iterable[Path]) -> Files:
    """The hand-written files at *paths*; files that nobody here reads are named, and it is misuse when there is nothing else."""
    from generator.handwritten import discovery

    try:
        files = discovery.read(paths)
    except discovery.UnreadableError as error:
        raise Stop(str(error), error.remedy) from None
    if not files.files:
        names = ", ".join(map(str, paths))
        raise Stop(f"{names}: no file that stowage can read", "`stowage lint --help` says which files it knows")
    for name in files.skipped:
        click.echo(f"stowage: {name}: not a kind of file that stowage knows, skipped", err=True)
    return files


@stowage.command(context_settings=CONTEXT)
@click.argument("folder", metavar="BUNDLE", type=click.Path(path_type=Path, file_okay=False, exists=True))
@shared
@click.pass_context
def verify(context: click.Context, folder: Path) -> None:
    """
    Check every file of BUNDLE against its manifest, and the overlays against their sums.

    Exit status 1 where a file was changed, is missing or is extra. verify.sh in the bundle does the same without Python.

    \b
    stowage verify out/example
    """
    from generator.bundle import BundleError
    from generator.report import visible
    from generator.verify import verify as differences

    try:
        wrong = differences(folder)
    except BundleError as error:
        raise Stop(str(error), error.remedy) from None
    for line in wrong:
        click.echo(f"{folder}: {visible(line)}")
    if wrong:
        context.exit(1)
    say(context, f"{folder}: every file is as it was compiled")
