"""Commands about a cluster's keys: ``keys new``, ``keys show``, ``keys token``; and how encrypted secrets are opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from generator.cli.shared import CONTEXT, Stop, check_all, print_findings, say, shared, stowage
from generator.wording import said

if TYPE_CHECKING:
    from generator.model import Cluster
    from generator.secrets import Decrypt

_SECONDS = 60

identity_option = click.option(
    "--identity",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Key file that opens secrets encrypted with age (NAME.age).",
)
_existing = click.Path(path_type=Path, file_okay=False, exists=True)


@stowage.group(context_settings=CONTEXT)
def keys() -> None:
    """
    Make and look at the keys of a cluster, for --secrets.

    With them every host can be prepared and run without carrying anything back from the first one. Keep the directory outside the
    repository: who has it has the cluster.

    \b
    stowage keys new ~/secrets/mine mine.yaml     CAs, service account key, bootstrap token, VRRP password
    stowage bundle mine.yaml --secrets ~/secrets/mine
    """


@keys.command(context_settings=CONTEXT)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.argument("inventory", required=False, type=click.Path(path_type=Path, readable=False))
@shared
@click.pass_context
def new(context: click.Context, folder: Path, inventory: Path | None) -> None:
    """
    Write new keys to DIR, which may not have any yet.

    INVENTORY says the algorithm (cluster.encryptionAlgorithm), the life of the CAs (cluster.caCertificateValidityPeriod) and whether there
    is a VRRP password; without it they are kubeadm's: RSA-2048, ten years. Everything is written or nothing.

    \b
    stowage keys new ~/secrets/mine mine.yaml
    """
    import secrets as chance

    from generator import keys as new_keys
    from generator import secrets
    from generator.lint.places import seconds

    cluster = _cluster(context, inventory) if inventory else None
    passwords = secrets.passwords(cluster) if cluster else ()
    algorithm = (secrets.named_algorithm(cluster) if cluster else "") or secrets.ALGORITHMS[0]
    now = datetime.now(UTC).replace(microsecond=0)
    life = seconds((cluster.ca_certificate_validity if cluster else "") or new_keys.CA_LIFE)
    with _stops(folder):
        if cluster:
            secrets.refuse_names(folder, cluster)
        # Before keys are made, which may take seconds.
        new_keys.refuse_taken(folder, (*secrets.PKI, secrets.TOKEN, *passwords))
        try:
            end = now + timedelta(seconds=life)
        except OverflowError:
            end = datetime.max.replace(microsecond=0, tzinfo=UTC)
        files = new_keys.make(algorithm, now - timedelta(seconds=new_keys.BACKDATE_SECONDS), end, passwords, chance.choice)
        new_keys.write(folder, files)
    say(context, said("{folder}: {count} files; now `stowage bundle --secrets`, and keep them safe", folder=folder, count=len(files)))
    if any((path / ".git").exists() for path in folder.resolve().parents):
        say(
            context,
            said("{folder}: in a git repository: see that it is never committed, who has it has the cluster", folder=folder),
            err=True,
        )
    for name in secrets.names(cluster) if cluster else ():
        if name not in files:
            say(context, said("{folder}: put {name} there yourself: it is given by somebody else", folder=folder, name=name))


@keys.command(context_settings=CONTEXT)
@click.argument("folder", metavar="DIR", type=_existing)
@identity_option
@shared
@click.pass_context
def show(context: click.Context, folder: Path, identity: Path | None) -> None:
    """
    Print what may be known of the keys in DIR: fingerprints, dates, discovery hash; no secret.

    \b
    stowage keys show ~/secrets/mine
    """
    from generator import keys as shown
    from generator import secrets
    from generator.cli.shared import language_of
    from generator.messages import translated

    with _stops(folder):
        secrets.refuse_open(folder)
        found = secrets.joining(folder, decrypt_with(identity))
        lines = shown.described(folder, found) if found else [said("{folder}: no keys of a cluster", folder=folder)]
    for line in lines:
        click.echo(translated(line, language_of(context)))


@keys.command(context_settings=CONTEXT)
@click.argument("folder", metavar="DIR", type=_existing)
@shared
@click.pass_context
def token(context: click.Context, folder: Path) -> None:
    """
    Put a new bootstrap token in the place of the one in DIR.

    It is for a token that somebody else may have seen. One that has only expired gets a new life on the first control plane, by
    ops/handoff.sh, and nothing is carried.

    \b
    stowage keys token ~/secrets/mine
    stowage bundle mine.yaml --secrets ~/secrets/mine     then carry the folders of the first control plane and of hosts that join
    """
    import secrets as chance

    from generator import keys as renewed

    with _stops(folder):
        renewed.renew(folder, renewed.token(chance.choice))
    say(context, said("{folder}: a new token; now `stowage bundle --secrets`, then carry the folders that hold it", folder=folder))


def _cluster(context: click.Context, inventory: Path) -> Cluster:
    """The cluster of *inventory*; findings and exit status 1 where it has errors."""
    (checked,) = check_all([inventory])
    if checked.cluster is None or checked.refused():
        print_findings(context, "text", [checked], err=True)
        say(context, "nothing was written", err=True)
        context.exit(1)
    return checked.cluster


@contextmanager
def _stops(folder: Path) -> Iterator[None]:
    """What is wrong with secrets or their directory, in one line with exit status 2."""
    from generator.secrets import SecretError

    try:
        yield
    except SecretError as error:
        raise Stop(error.args[0], error.remedy) from None
    except OSError as error:
        raise Stop(f"{error.filename or folder}: {error.strerror}", "choose another directory, or mend its rights") from None


def decrypt_with(identity: Path | None) -> Decrypt:
    """What opens an encrypted secret: age with the key file *identity*, sops with what its environment gives it."""
    return partial(_decrypted, identity)


def _decrypted(identity: Path | None, file: Path) -> bytes:
    import subprocess

    from generator.secrets import SecretError

    if file.suffix == ".age":
        if identity is None:
            raise SecretError(said("{file}: encrypted with age", file=file), "name the key file that opens it: --identity")
        command = ["age", "--decrypt", "--identity", str(identity), str(file)]
    else:
        command = ["sops", "--decrypt", "--input-type", "binary", "--output-type", "binary", str(file)]
    try:
        # Its words go nowhere: they are another program's, and may say what nobody should read here.
        done = subprocess.run(command, capture_output=True, check=False, timeout=_SECONDS, stdin=subprocess.DEVNULL)  # noqa: S603
    except FileNotFoundError:
        raise SecretError(said("{program}: not on this machine", program=command[0]), "install it, or decrypt the secrets first") from None
    except subprocess.TimeoutExpired:
        raise SecretError(
            said("{file}: {program} took longer than {seconds} s", file=file, program=command[0], seconds=_SECONDS), "see what it waits for"
        ) from None
    if done.returncode:
        raise SecretError(
            said("{file}: {program} can't decrypt it", file=file, program=command[0]),
            said("try it by hand: `{command}`", command=" ".join(command)),
        )
    return done.stdout
