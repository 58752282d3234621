"""``lock``, and what ``bundle --payload`` asks of a gathered payload before anything is written."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from generator.cli.shared import CONTEXT, Stop, check_all, language_of, print_findings, say, shared, stowage, strict_option
from generator.wording import said

if TYPE_CHECKING:
    from generator.model import Cluster
    from generator.payload import Gathered, Overlay

LOCK = "payload.lock.yaml"

payload_option = click.option(
    "--payload",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Directory that scripts/fetch-payload.sh filled and `stowage lock` recorded.",
)
lock_option = click.option(
    "--lock", "lock_file", type=click.Path(path_type=Path, dir_okay=False), help=f"Its lock.  [default: {LOCK} in that directory]"
)


@stowage.command("lock", context_settings=CONTEXT)
@click.argument("inventory", type=click.Path(path_type=Path, readable=False))
@click.option(
    "--payload",
    "folder",
    required=True,
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Directory that scripts/fetch-payload.sh filled.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help=f"File to write.  [default: {LOCK} in that directory]"
)
@click.option("--check", "only_check", is_flag=True, help="Write nothing; exit status 1 where the lock would be another.")
@strict_option
@shared
@click.pass_context
def lock(context: click.Context, inventory: Path, folder: Path, output: Path | None, *, only_check: bool, strict: bool) -> None:
    """
    Record size and SHA-256 of every file of a gathered payload, and what each image and package is.

    Every image, package and file that INVENTORY wants must be there; where one is missing, it is named and nothing is written. Commit the
    lock or keep it with the payload: `stowage bundle --payload` takes no file that is not as it says.

    \b
    bash out/mine/scripts/fetch-payload.sh payload          where there is a network
    stowage lock mine.yaml --payload payload                write payload/payload.lock.yaml
    stowage bundle mine.yaml --payload payload              lay each host's part into its folder
    """
    from generator import payload

    checked = check_all([inventory])
    print_findings(context, "text", [one for one in checked if one.refused(strict=strict)], err=True)
    cluster = checked[0].cluster
    if cluster is None or checked[0].refused(strict=strict):
        say(context, "nothing was written", err=True)
        context.exit(1)
    gathered = _survey(context, folder)
    _refuse(context, folder, payload.lacking(cluster, gathered))
    text, path = payload.text(cluster, gathered), output or folder / LOCK
    try:
        new = not payload.is_at(path, text) if only_check else payload.write(path, text)
    except OSError as error:
        raise Stop(f"{path}: {error.strerror}", "choose another file with --output") from None
    count, size = len(gathered.entries), sum(entry.size for entry in gathered.entries)
    if only_check and new:
        _refuse(context, path, [said("not the lock of what lies in {folder}", folder=folder)])
    what = said("written") if new else said("unchanged")
    say(context, said("{path}: {files} files, {size} MB, {what}", path=path, files=count, size=f"{size / 1e6:.1f}", what=what))


def overlay_of(context: click.Context, cluster: Cluster, folder: Path, lock_file: Path | None) -> Overlay:
    """What each host of *cluster* gets of the payload in *folder*; ends the command where that isn't whole, with each thing named."""
    from generator import payload

    path = lock_file or folder / LOCK
    try:
        record = payload.read(path)
    except payload.RecordError as error:
        raise Stop(error.args[0], error.remedy) from None
    about = (record.cluster, record.kubernetes)
    if about != (cluster.name, cluster.kubernetes_version):
        whose = said("cluster {cluster} with Kubernetes {version}", cluster=record.cluster, version=record.kubernetes)
        ours = said("cluster {cluster} with Kubernetes {version}", cluster=cluster.name, version=cluster.kubernetes_version)
        message = said("{file}: a lock for {whose}, not for {ours}", file=path, whose=whose, ours=ours)
        raise Stop(message, said("make it with `stowage lock INVENTORY --payload {folder}`", folder=folder))
    gathered = _survey(context, folder)
    _refuse(context, folder, dict.fromkeys([*payload.differences(record, gathered), *payload.lacking(cluster, gathered)]))
    return payload.overlay(cluster, gathered)


def _survey(context: click.Context, folder: Path) -> Gathered:
    from generator import payload

    try:
        return payload.survey(folder, _progress(context))
    except OSError as error:
        raise Stop(f"{error.filename or folder}: {error.strerror}", "run this as a user who may read all of it") from None


def _progress(context: click.Context) -> Callable[[str, int, int], None]:
    """Tells on a terminal what is read, on one line that is gone in the end; elsewhere says nothing."""
    shown = sys.stderr is not None and sys.stderr.isatty() and not context.obj.get("quiet")

    def tell(path: str, done: int, total: int) -> None:
        if shown:
            line = f"[{100 * done // max(total, 1):3} %] {path}"[:79] if path else ""
            click.echo(f"\r\033[K{line}", nl=False, err=True)

    return tell


def _refuse(context: click.Context, where: Path, problems: Iterable[str]) -> None:
    """Print *problems*, if any, and end with 1."""
    from generator.messages import translated
    from generator.report import visible

    lines = [f"{where}: {visible(translated(problem, language_of(context)))}" for problem in problems]
    if lines:
        click.echo("\n".join(lines), err=True)
        say(context, "nothing was written", err=True)
        context.exit(1)
