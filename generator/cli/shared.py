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
        # The command that says this has ended when it is shown.
        self.language = language_of(click.get_current_context(silent=True))

    def show(self, file: Any = None) -> None:
        """Print to standard error."""
        from generator.messages import translated

        click.echo(f"stowage: {translated(self.message, self.language)}", file=file, err=True)
        if self.remedy:
            click.echo(f"   {translated('help:', self.language)} {translated(self.remedy, self.language)}", file=file, err=True)


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Keep an option that stands before or after the command."""
    settings = context.ensure_object(dict)
    if value is not None:
        settings[parameter.name] = value


def _remember_language(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    """The same for a language, in whatever spelling."""
    from generator import messages

    known = None if value is None else messages.language(value)
    if value is not None and known is None:
        raise click.BadParameter(f"{value!r} is not one of {', '.join(messages.LANGUAGES)}.")
    _remember(context, parameter, known)


def language_of(context: click.Context | None, *, of_machine: bool = False) -> str:
    """
    The language that --lang, or else the environment, asks for; English where that is none of ours.

    What a program reads (*of_machine*) doesn't depend on the environment.
    """
    from generator import messages

    told: str | None = (context.obj or {}).get("language") if context is not None else None
    if told is not None or of_machine:
        return told or messages.ENGLISH
    locale = next((value for name in ("LC_ALL", "LC_MESSAGES", "LANG") if (value := os.environ.get(name))), messages.ENGLISH)
    return messages.language(locale) or messages.ENGLISH


language_option = click.option(
    "--lang",
    "language",
    metavar="en|zh_CN",
    expose_value=False,
    callback=_remember_language,
    help="Language of findings and essays.  [default: that of the locale, for text]",
)


def shared(command: Any) -> Any:
    """Options of the group and of every command that prints findings."""
    colors = click.Choice(["auto", "always", "never"])
    for option in (
        click.option("-q", "--quiet", is_flag=True, default=None, expose_value=False, callback=_remember, help="Findings only."),
        click.option("--color", type=colors, expose_value=False, callback=_remember, help="Colour; NO_COLOR is honoured.  [default: auto]"),
        language_option,
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
    type=click.Choice(["text", "annotated", "json", "github", "gitlab", "sarif"]),
    default="text",
    show_default=True,
    help="How findings are printed: for people, programs, pull and merge requests, or code scanners.",
)
annotate_option = click.option("--annotate", is_flag=True, help="Print each file itself, with the findings in it (--format annotated).")
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
    from generator.messages import translated

    if not context.obj.get("quiet"):
        click.echo(translated(text, language_of(context)), err=err)


def read_inventory(path: Path) -> bytes:
    """The bytes at *path* (``-`` is standard input), at most one more than an inventory may have."""
    from generator.source import MAX_BYTES

    try:
        with path.open("rb") if str(path) != "-" else click.open_file("-", "rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise Stop(f"{path}: {error.strerror}", "name an inventory file, such as inventories/example.yaml") from None


def check_all(paths: Iterable[Path]) -> list[Checked]:
    """The inventories at *paths*, after every stage that could run."""
    from generator import compiler

    return [compiler.check(str(path), read_inventory(path)) for path in paths]


def format_of(form: str, *, annotate: bool) -> str:
    """The format that ``--format`` and ``--annotate`` ask for."""
    if annotate and form not in ("text", "annotated"):
        raise click.UsageError(f"--annotate prints the file itself, --format {form} something else; leave one out")
    return "annotated" if annotate else form


def print_findings(context: click.Context, form: str, read: Sequence[Read], *, err: bool = False) -> None:
    """All findings of *read* in the format *form*, to standard output or (*err*) standard error."""
    from generator import report

    color = colored(context, sys.stderr if err else sys.stdout)
    text = report.render(form, read, color=color, language=language_of(context, of_machine=form not in ("text", "annotated")))
    click.echo(text, nl=False, err=err, color=color)
