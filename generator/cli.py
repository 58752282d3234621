"""The command line: options, files in, text out, exit status.  0 clean, 1 findings, 2 usage, I/O or internal error.

Everything but click is imported where it is used: ``stowage --help`` is instant.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from generator import __version__

if TYPE_CHECKING:
    from generator.compiler import Checked

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


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


def main() -> NoReturn:
    """Run the command line; whatever goes wrong is one line and exit status 2, with the traceback only for STOWAGE_DEBUG."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Names and values are any text; a terminal's encoding may not have it.
            stream.reconfigure(errors="backslashreplace")
    status: str | int | None = 2
    failure: click.ClickException | None = None
    stdout = sys.stdout
    try:
        status = stowage.main(prog_name="stowage", standalone_mode=False) or 0
    except SystemExit as end:
        # Who read our output has gone: click puts another stream in its place and ends with 1, which would say findings.
        status = end.code if sys.stdout is stdout else 2
    except click.ClickException as error:
        failure = error
    except click.Abort:
        failure = Stop("interrupted; bundles that were there are whole")
    except OSError as error:
        failure = Stop(f"{error.filename or 'standard output'}: {error.strerror}")
    except Exception as error:
        if os.environ.get("STOWAGE_DEBUG"):
            raise
        failure = Stop(
            f"internal error: {type(error).__name__}: {error}",
            "please report it, with the output of the same command under STOWAGE_DEBUG=1",
        )
    if failure is not None:
        # Where standard error is full or closed, the status still tells.
        with suppress(OSError):
            failure.show()
    _end(status)


def _end(status: str | int | None) -> NoReturn:
    """Exit; with 2 where the last output can't be written, which Python would say with 120."""
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except OSError:
        os._exit(2)
    sys.exit(status)


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Keep an option that stands before or after the command."""
    settings = context.ensure_object(dict)
    if value is not None:
        settings[parameter.name] = value


def _shared(command: Any) -> Any:
    """Options of the group and of every command that prints findings."""
    colors = click.Choice(["auto", "always", "never"])
    for option in (
        click.option("-q", "--quiet", is_flag=True, default=None, expose_value=False, callback=_remember, help="Findings only."),
        click.option("--color", type=colors, expose_value=False, callback=_remember, help="Colour; NO_COLOR is honoured.  [default: auto]"),
    ):
        command = option(command)
    return command


@click.group(context_settings=_CONTEXT)
@click.version_option(__version__, prog_name="stowage")
@_shared
def stowage() -> None:
    """
    Compile one reviewed inventory into a bundle for a highly available, air-gapped Kubernetes control plane.

    Nothing is executed remotely and no network is used: the bundle is read in a pull request, carried to the hosts, and run there.

    \b
    stowage new > inventories/mine.yaml      a commented inventory to start from
    stowage check inventories/*.yaml         every finding, nothing written
    stowage bundle inventories/*.yaml        write out/<cluster>/
    """


_inventories = click.argument(
    "inventories", nargs=-1, required=True, metavar="INVENTORY...", type=click.Path(path_type=Path, readable=False)
)
_strict = click.option("--strict", is_flag=True, help="Warnings count as errors.")


def _colored(context: click.Context, stream: Any) -> bool:
    wanted = context.obj.get("color", "auto")
    if wanted != "auto":
        return bool(wanted == "always")
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return not plain and stream is not None and stream.isatty()


def _say(context: click.Context, text: str, *, err: bool = False) -> None:
    """Print what is no finding."""
    if not context.obj.get("quiet"):
        click.echo(text, err=err)


def _check_all(paths: Iterable[Path]) -> list[Checked]:
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


@stowage.command(context_settings=_CONTEXT)
@_inventories
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), default="out", show_default=True, help="Where bundles go."
)
@click.option(
    "--secrets", type=click.Path(path_type=Path, file_okay=False, exists=True), help="Directory with one file a secret, mode 0700."
)
@_strict
@_shared
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
    from generator import compiler, report
    from generator.bundle import BundleError

    checked = _check_all(inventories)
    # What is only worth knowing is for `check`: here it would be said at every run.
    told = [replace(one, diagnostics=tuple(d for d in one.diagnostics if d.severity != "info")) for one in checked]
    findings = report.render("text", told, color=_colored(context, sys.stderr))
    click.echo(findings, nl=False, err=True, color=_colored(context, sys.stderr))
    if any(one.refused(strict=strict) for one in checked):
        _say(context, "nothing was written", err=True)
        context.exit(1)
    _refuse_twins(checked)
    known = [_read_secrets(secrets, one) if secrets else {} for one in checked]
    for number, one in enumerate(checked):
        assert one.cluster is not None
        if len(checked) > 1 and sys.stderr is not None and sys.stderr.isatty():
            _say(context, f"[{number + 1}/{len(checked)}] {one.cluster.name}", err=True)
        try:
            written = compiler.compile_to(output, one.cluster, known[number])
        except BundleError as error:
            raise Stop(str(error), error.remedy) from None
        what = f"{written.added} new, {written.changed} changed, {written.removed} removed" if written.touched else "unchanged"
        _say(context, f"{written.path}: {written.files} files for {len(one.cluster.hosts)} hosts, {what}")


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


@stowage.command(context_settings=_CONTEXT)
@_inventories
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "github", "sarif"]),
    default="text",
    show_default=True,
    help="How findings are printed: for people, programs, pull requests, or code scanners.",
)
@_strict
@_shared
@click.pass_context
def check(context: click.Context, inventories: tuple[Path, ...], form: str, *, strict: bool) -> None:
    """
    Print every finding of every INVENTORY; write nothing.

    Exit status 1 where there are errors. Each finding has the place, what is wrong and what to do; `stowage explain CODE` says why.

    \b
    stowage check inventories/*.yaml
    stowage check --strict --format github inventories/*.yaml     annotations in a pull request
    """
    from generator import report

    checked = _check_all(inventories)
    click.echo(report.render(form, checked, color=_colored(context, sys.stdout)), nl=False, color=_colored(context, sys.stdout))
    if any(one.refused(strict=strict) for one in checked):
        context.exit(1)
    if form == "text":
        _say(context, f"{len(checked)} {'inventory' if len(checked) == 1 else 'inventories'} checked, no errors")


@stowage.command(context_settings=_CONTEXT)
@click.argument("code")
def explain(code: str) -> None:
    """
    Print the essay of one rule: what is wrong, why it hurts, what to write instead, and the source.

    \b
    stowage explain NET006
    """
    from generator import lint

    rules = {rule.code: rule for rule in lint.rules()}
    rule = rules.get(code.strip().upper())
    if rule is None:
        from difflib import get_close_matches

        close = (
            ", ".join(get_close_matches(code.upper(), rules, n=3)) or ", ".join(sorted({known[:3] for known in rules})) + " and a number"
        )
        raise Stop(f"no rule {code}", f"did you mean {close}? `stowage rules` lists all")
    click.echo(f"{rule.code} ({rule.severity}): {rule.essay}")


@stowage.command(context_settings=_CONTEXT)
def rules() -> None:
    """
    List all rules: code, severity, and the problem it names. `stowage explain CODE` prints the essay of one.

    \b
    stowage rules | grep error
    """
    from generator import lint

    for rule in lint.rules():
        click.echo(f"{rule.code}  {rule.severity:7}  {rule.title}")


@stowage.command(context_settings=_CONTEXT)
@click.argument("folder", metavar="BUNDLE", type=click.Path(path_type=Path, file_okay=False, exists=True))
@_shared
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
    _say(context, f"{folder}: every file is as it was compiled")


@stowage.command(context_settings=_CONTEXT)
def schema() -> None:
    """
    Print the inventory's JSON Schema, for editors and other tools.

    \b
    stowage schema > inventory.v1.schema.json
    # yaml-language-server: $schema=inventory.v1.schema.json      (the first line of an inventory)
    """
    from generator import resources, validate

    click.echo(resources.text(validate.SCHEMA), nl=False)


@stowage.command(context_settings=_CONTEXT)
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
    from generator import compiler, report, starter

    for name, value in told.items():
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str) and not text.isprintable():
                raise click.BadParameter("holds a character that nobody can see", param_hint=f"--{name.replace('_', '-')}")
    asks = not told["control_planes"] and sys.stdin.isatty() and sys.stdout.isatty()
    answers = starter.asked(told, partial(click.prompt, err=True)) if asks else starter.completed(told)
    text = starter.starter(answers)
    checked = [compiler.check(str(output or "<new>"), text.encode())]
    click.echo(report.render("text", checked, color=_colored(context, sys.stderr)), nl=False, err=True)
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
