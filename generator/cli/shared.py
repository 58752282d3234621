"""What the commands share: the group, options, findings printed, files read; nothing here is a command."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from generator import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from generator.compiler import Checked
    from generator.report import Read

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class Stop(click.ClickException):
    """An I/O error or a misuse that click can't see: one line, what to do, exit status 2."""

    exit_code = 2

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy

    def show(self, file: Any = None) -> None:
        """Print to standard error."""
        click.echo(f"stowage: {self.message}", file=file, err=True)
        if self.remedy:
            click.echo(f"   help: {self.remedy}", file=file, err=True)


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Keep an option that stands before or after the command."""
    settings = context.ensure_object(dict)
    if value is not None:
        settings[parameter.name] = value


def shared(command: Any) -> Any:
    """Options of the group and of every command that prints findings."""
    colors = click.Choice(["auto", "always", "never"])
    for option in (
        click.option("-q", "--quiet", is_flag=True, default=None, expose_value=False, callback=_remember, help="Findings only."),
        click.option("--color", type=colors, expose_value=False, callback=_remember, help="Colour; NO_COLOR is honoured.  [default: auto]"),
    ):
        command = option(command)
    return command


@click.group(context_settings=CONTEXT)
@click.version_option(__version__, prog_name="stowage")
@shared
def stowage() -> None:
    """
    Compile one reviewed inventory into a bundle for a highly available, air-gapped Kubernetes control plane.

    Nothing is executed remotely and no network is used: the bundle is read in a pull request, carried to the hosts, and run there.

    \b
    stowage new > inventories/mine.yaml      a commented inventory to start from
    stowage check inventories/*.yaml         every finding, nothing written
    stowage bundle inventories/*.yaml        write out/<cluster>/
    """


inventories_argument = click.argument(
    "inventories", nargs=-1, required=True, metavar="INVENTORY...", type=click.Path(path_type=Path, readable=False)
)
format_option = click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "github", "sarif"]),
    default="text",
    show_default=True,
    help="How findings are printed: for people, programs, pull requests, or code scanners.",
)
strict_option = click.option("--strict", is_flag=True, help="Warnings count as errors.")


def colored(context: click.Context, stream: Any) -> bool:
    """Whether *stream* gets colours."""
    wanted = context.obj.get("color", "auto")
    if wanted != "auto":
        return bool(wanted == "always")
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return not plain and stream is not None and stream.isatty()


def say(context: click.Context, text: str, *, err: bool = False) -> None:
    """Print what is no finding."""
    if not context.obj.get("quiet"):
        click.echo(text, err=err)


def check_all(paths: Iterable[Path]) -> list[Checked]:
    """The inventories at *paths* (``-`` is standard input), after every stage that could run."""
    from generator import compiler
    from generator.source import MAX_BYTES

    checked = []
    for path in paths:
        try:
            with path.open("rb") if str(path) != "-" else click.open_file("-", "rb") as file:
                raw = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise Stop(f"{path}: {error.strerror}", "name an inventory file, such as inventories/example.yaml") from None
        checked.append(compiler.check(str(path), raw))
    return checked


def print_findings(context: click.Context, form: str, read: Sequence[Read], *, err: bool = False) -> None:
    """All findings of *read* in the format *form*, to standard output or (*err*) standard error."""
    from generator import report

    color = colored(context, sys.stderr if err else sys.stdout)
    click.echo(report.render(form, read, color=color), nl=False, err=err, color=color)
