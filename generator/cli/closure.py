"""``closure``: what a bundle needs, and who provides it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from generator.cli.shared import CONTEXT, Stop, language_of, say, shared, stowage
from generator.wording import Said, joined, said

if TYPE_CHECKING:
    from generator.closure import Need, Proof


@stowage.command(context_settings=CONTEXT)
@click.argument("folder", metavar="BUNDLE", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True, help="For people or programs.")
@click.option("--require-payload", is_flag=True, help="A host without a payload lacks what only a payload can bring.")
@shared
@click.pass_context
def closure(context: click.Context, folder: Path, form: str, *, require_payload: bool) -> None:
    """
    List every image, package, URL, file and command that BUNDLE needs, and who provides it.

    It walks over all scripts, manifests and configurations in the folders of the hosts, without running anything. Exit status 1 where
    something is needed that neither the bundle, its payload, a package nor the base system provides. A bundle without a payload is closed
    when all that is left open can come from one.

    \b
    stowage closure out/example
    stowage closure --require-payload out/example     before it is carried
    """
    from generator.bundle import BundleError
    from generator.closure import prove
    from generator.report import visible

    try:
        proof = prove(folder, require_payload=require_payload)
    except BundleError as error:
        raise Stop(error.args[0], error.remedy) from None
    language = language_of(context, of_machine=form == "json")
    if form == "json":
        click.echo(_json(folder, proof), nl=False)
    else:
        _print_missing(folder, proof, language)
        if not context.obj.get("quiet"):
            for line in _table(proof, language):
                click.echo(visible(line))
        say(context, _summary(folder, proof))
    if proof.of("missing"):
        context.exit(1)


def closed(context: click.Context, folder: Path, new: Path) -> None:
    """See that the bundle at *new*, which is to be *folder*, is closed with its payload; else name what is missing and end with 1."""
    from generator.closure import prove

    proof = prove(new, require_payload=True)
    if proof.of("missing"):
        _print_missing(folder, proof, language_of(context), err=True)
        say(context, "nothing was written", err=True)
        context.exit(1)


def _print_missing(folder: Path, proof: Proof, language: str, *, err: bool = False) -> None:
    """Each thing that the bundle at *folder* needs and nobody provides: place, error and remedy."""
    from generator.messages import translated
    from generator.report import visible

    for need in proof.of("missing"):
        click.echo(f"{visible(_place(folder, need))}: {visible(translated(_error(need), language))}", err=err)
        click.echo(f"   {translated('help:', language)} {visible(translated(need.verdict.remedy, language))}", err=err)


def _place(folder: Path, need: Need) -> str:
    return f"{folder}/{need.path}:{need.line}:{need.column}"


def _error(need: Need) -> Said:
    kind = {"image": said("image"), "package": said("package"), "url": said("URL"), "file": said("file"), "command": said("command")}[
        need.kind
    ]
    others = len(need.hosts) - 1
    if others > 0:
        return said("error: {kind} {name}: {why} (and {count} more hosts)", kind=kind, name=need.name, why=need.verdict.by, count=others)
    return said("error: {kind} {name}: {why}", kind=kind, name=need.name, why=need.verdict.by)


def _table(proof: Proof, language: str) -> Iterator[str]:
    """One block a kind, one line a need: name, provider, number of hosts."""
    from generator.closure import KINDS
    from generator.messages import translated

    headings = {
        "image": said("images"),
        "package": said("packages"),
        "url": said("URLs"),
        "file": said("files"),
        "command": said("commands"),
    }
    for kind in KINDS:
        needs = [need for need in proof.needs if need.kind == kind and need.verdict.status != "missing"]
        if not needs:
            continue
        yield f"{translated(headings[kind], language)} ({len(needs)})"
        # That each file of a folder is in it needs no line.
        shown = [need for need in needs if kind != "file" or need.name.startswith("/")]
        width = min(60, max((len(need.name) for need in shown), default=0))
        for need in shown:
            by = need.verdict.by
            if need.verdict.status == "wanted":
                by = said("wanted from {by}", by=by)
            yield f"  {need.name:{width}}  {translated(by, language)}  [{len(need.hosts)}]"
        yield ""


def _summary(folder: Path, proof: Proof) -> Said:
    open_ones, wanted = len(proof.of("missing")), len(proof.of("wanted"))
    counts = {kind: sum(need.kind == kind for need in proof.needs) for kind in ("image", "package", "url", "file", "command")}
    what = said(
        "{image} images, {package} packages, {url} URLs, {file} files, {command} commands",
        **counts,
    )
    state = said("not closed, {count} missing", count=open_ones) if open_ones else said("closed")
    line = said("{folder}: {state}: {what}", folder=folder, state=state, what=what)
    if not wanted:
        return line
    hosts = len(proof.without_payload)
    note = said("{count} of them are wanted from a payload, which {hosts} hosts don't have yet", count=wanted, hosts=hosts)
    return joined("; ", (line, note))


def _json(folder: Path, proof: Proof) -> str:
    from generator.emit import indented_json

    needs = [
        {
            "kind": need.kind,
            "name": need.name,
            "status": need.verdict.status,
            "by": str(need.verdict.by),
            **({"remedy": str(need.verdict.remedy)} if need.verdict.remedy else {}),
            "path": need.path,
            "line": need.line,
            "column": need.column,
            "hosts": list(need.hosts),
        }
        for need in proof.needs
    ]
    return indented_json(
        {
            "format": 1,
            "bundle": str(folder),
            "closed": not proof.of("missing"),
            "withoutPayload": list(proof.without_payload),
            "needs": needs,
        }
    )
