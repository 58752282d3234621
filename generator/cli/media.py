"""Commands about a bundle on its way to the hosts: ``verify``, ``sign``, ``pack``."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click

from generator.cli.shared import CONTEXT, Stop, language_of, say, shared, stowage
from generator.wording import said

_folder = click.argument("folder", metavar="BUNDLE", type=click.Path(path_type=Path, file_okay=False, exists=True))
# A key in hardware waits for a touch, one with a passphrase for a person.
_PATIENCE = 300


def _print_wrong(context: click.Context, folder: Path, lines: list[str]) -> None:
    """What is wrong with the bundle at *folder*, a line each; exit status 1."""
    from generator.messages import translated
    from generator.report import visible

    for line in lines:
        click.echo(f"{folder}: {visible(translated(line, language_of(context)))}")
    context.exit(1)


def _differences(folder: Path) -> list[str]:
    from generator.bundle import BundleError
    from generator.verify import verify as differences

    try:
        return differences(folder)
    except BundleError as error:
        raise Stop(error.args[0], error.remedy) from None


@stowage.command(context_settings=CONTEXT)
@_folder
@click.option(
    "--signers",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Keys that may have signed, as allowed_signers of ssh-keygen(1); all sums must be signed then.",
)
@shared
@click.pass_context
def verify(context: click.Context, folder: Path, signers: Path | None) -> None:
    """
    Check every file of BUNDLE against its manifest, and the overlays against their sums.

    BUNDLE may also be the folder of one host, or what `stowage pack` made. Exit status 1 where a file was changed, is missing or is extra,
    or, with --signers, where a signature is missing or isn't by one of those keys. verify.sh in the bundle does the same without Python.

    \b
    stowage verify out/example
    stowage verify out/example --signers ~/allowed_signers
    """
    wrong = _differences(folder)
    if signers is not None:
        wrong += _unsigned(folder, signers)
    if wrong:
        _print_wrong(context, folder, wrong)
    if signers is None:
        say(context, said("{folder}: every file is as it was compiled", folder=folder))
    else:
        say(context, said("{folder}: every file is as it was compiled, and signed", folder=folder))


def _unsigned(folder: Path, signers: Path) -> Iterator[str]:
    """A line for each signature that *folder* lacks, or that none of *signers* made of these sums."""
    from generator import signature

    try:
        for path, statement in signature.statements(folder):
            file = folder.absolute() / path
            if not file.is_file() or file.is_symlink():
                yield said("missing: {path}", path=path)
                continue
            keys = ("-s", str(file), "-f", str(signers.absolute()))
            done = _ssh_keygen("-Y", "find-principals", *keys)
            if done.returncode == 0:
                principal = done.stdout.decode(errors="replace").splitlines()[0].split(",")[0]
                done = _ssh_keygen("-Y", "verify", "-n", signature.NAMESPACE, "-I", principal, *keys, statement=statement)
            if done.returncode:
                yield said("bad signature: {path} ({why})", path=path, why=_words(done)[0])
    except OSError as error:
        raise Stop(f"{error.filename or folder}: {error.strerror}", "verify it as a user who may read all of it") from None


def _ssh_keygen(*arguments: str, statement: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["ssh-keygen", *arguments], input=statement, capture_output=True, check=False, timeout=_PATIENCE)  # noqa: S603, S607
    except FileNotFoundError:
        raise Stop("ssh-keygen is not there", "install openssh-client (Debian, Ubuntu) or openssh (RHEL)") from None
    except subprocess.TimeoutExpired:
        raise Stop("ssh-keygen did not end", "see whether it waits for a key to be touched, or for a passphrase") from None


def _words(done: subprocess.CompletedProcess[bytes]) -> list[str]:
    """What ssh-keygen says is wrong, line by line."""
    return done.stderr.decode(errors="replace").strip().splitlines() or [""]


@stowage.command(context_settings=CONTEXT)
@_folder
@click.option(
    "--key",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="SSH key: a private one, or a public one whose private half an agent holds.",
)
@shared
@click.pass_context
def sign(context: click.Context, folder: Path, key: Path) -> None:
    """
    Sign what makes BUNDLE whole: its sums, those of each host's folder, and those of the overlays.

    Each SHA256SUMS gets its SHA256SUMS.sig, made by `ssh-keygen -Y sign -n stowage`; a signature that is there is replaced. BUNDLE may also
    be what `stowage pack` made. A bundle that is not as it was compiled is not signed. A key with a passphrase is asked for at each
    signature: an agent asks once.

    \b
    stowage sign out/example --key ~/.ssh/id_ed25519
    stowage verify out/example --signers allowed_signers       a line of it: you@example.org ssh-ed25519 AAAA...
    """
    from generator import signature

    wrong = _differences(folder)
    if wrong:
        say(context, "nothing was signed", err=True)
        _print_wrong(context, folder, wrong)
    made = {}
    try:
        for path, statement in signature.statements(folder):
            done = _ssh_keygen("-Y", "sign", "-n", signature.NAMESPACE, "-f", str(key.absolute()), statement=statement)
            if done.returncode:
                raise Stop(f"{key}: {_words(done)[-1]}", "name a private key of your own, mode 0600, or a public one that your agent has")
            made[path] = done.stdout
        signature.write(folder, made)
    except OSError as error:
        raise Stop(f"{error.filename or folder}: {error.strerror}", "sign it where you may write") from None
    say(context, said("{folder}: signed, {count} sums", folder=folder, count=len(made)))


def _bytes(context: click.Context, parameter: click.Parameter, value: str) -> int:
    """The number of bytes that *value* says, ``3900M`` or ``4G``: binary multiples, at least one mebibyte."""
    found = re.fullmatch(r"([1-9][0-9]{0,8})([MGT])", value)
    if found is None:
        raise click.BadParameter(f"{value!r} is no size such as 3900M or 4G.", context, parameter)
    return int(found[1]) << {"M": 20, "G": 30, "T": 40}[found[2]]


@stowage.command(context_settings=CONTEXT)
@_folder
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default="packed",
    show_default=True,
    help="Where archives go; replaced as a whole.",
)
@click.option("--host", "hosts", multiple=True, metavar="NAME", help="Only this host; one option each.  [default: all]")
@click.option(
    "--volume-size",
    "volume",
    metavar="SIZE",
    callback=_bytes,
    default="3900M",
    show_default=True,
    help="Size of a part: what fits a medium; FAT holds no file of 4G.",
)
@click.option(
    "--compress",
    "compression",
    type=click.Choice(["gzip", "zstd", "none"]),
    default="gzip",
    show_default=True,
    help="gzip is on every host; zstd is faster, and the host must have it.",
)
@shared
@click.pass_context
def pack(context: click.Context, folder: Path, output: Path, hosts: tuple[str, ...], volume: int, compression: str) -> None:
    """
    Pack an archive a host, with its overlays, for media to carry: in parts, with sums and join.sh, which puts them together.

    A bundle that is not as it was compiled is refused. The same bundle gives the same archives. Each holds its provenance and an SPDX list
    of its payload. Archives hold the secrets of hosts/*/secrets/: they are as secret as these.

    \b
    stowage pack out/example
    stowage pack out/example -o /media/usb/packed --host master-1 --volume-size 4000M
    sh packed/join.sh master-1 /root                           on the host: unpacks /root/master-1
    """
    from generator import pack as packing
    from generator.bundle import BundleError

    trip = packing.Trip(compression, volume, _commit(folder), _created())
    try:
        for packed in packing.pack(folder, output, hosts, trip):
            size, parts = f"{packed.size / 1e6:.1f}", len(packed.parts)
            say(context, said("{host}: {size} MB, parts: {parts}", host=packed.host, size=size, parts=parts), err=True)
    except packing.NotAsBuiltError as error:
        say(context, "nothing was packed", err=True)
        _print_wrong(context, folder, [error.args[0]])
    except BundleError as error:
        raise Stop(error.args[0], error.remedy) from None
    say(context, said("{folder}: packed; the sums of all parts stand in {sums}", folder=output, sums=output / "SHA256SUMS"))


def _commit(folder: Path) -> str:
    """The git commit that the bundle at *folder* stands in; empty where it stands in none, or anything in the work tree is not of it."""
    answers = []
    for arguments in (("ls-files", "--error-unmatch", "manifest.json"), ("status", "--porcelain"), ("rev-parse", "HEAD")):
        try:
            command = ["git", "-C", str(folder), *arguments]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PATIENCE, stdin=subprocess.DEVNULL)  # noqa: S603
        except (OSError, subprocess.TimeoutExpired):
            return ""
        if done.returncode:
            return ""
        answers.append(done.stdout.strip())
    return "" if answers[1] else answers[2]


def _created() -> str:
    """When the SPDX list was made, as SOURCE_DATE_EPOCH says (reproducible-builds.org); without it 1970: nothing of today is in it."""
    told = os.environ.get("SOURCE_DATE_EPOCH", "0")
    if not re.fullmatch("[0-9]{1,11}", told):
        raise Stop("SOURCE_DATE_EPOCH is no number of seconds", "unset it, or take the time of a commit: git log -1 --format=%ct")
    return datetime.fromtimestamp(int(told), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
