"""What ``--secrets`` gives: read for the overlay that git ignores, never part of a message, a log or a committed byte."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from generator.model import Cluster
from generator.wording import said


class SecretError(Exception):
    """A secret that can't be taken, and why; *remedy* says what to do.  Neither holds the secret."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


def names(cluster: Cluster) -> tuple[str, ...]:
    """Names of the secrets that the inventory of *cluster* wants, each a file of the directory given with ``--secrets``."""
    wanted = cluster.load_balancer.keepalived.auth_secret if cluster.load_balancer else ""
    return (wanted,) if wanted else ()


def read(folder: Path, cluster: Cluster) -> dict[str, bytes]:
    """
    The secrets of *cluster* by name, a final newline taken away; other files of *folder* are not opened.

    Raises :class:`SecretError` where one is missing or no VRRP password (step 40 says the same of one that is typed; keepalived.conf(5)),
    and where others than the owner may look into *folder*.
    """
    if folder.stat().st_mode & 0o077:
        raise SecretError(said("{folder}: others than its owner may look into it", folder=folder), f"chmod 0700 {folder}")
    found = {}
    for name in names(cluster):
        file = folder / name
        try:
            with file.open("rb") as stream:
                data = stream.read(4096).removesuffix(b"\n")
        except OSError as error:
            remedy = said(
                "the inventory of {cluster} names the secret {name}: put it there, or leave --secrets out and the host asks for it",
                cluster=cluster.name,
                name=name,
            )
            raise SecretError(f"{file}: {error.strerror}", remedy) from None
        if not re.fullmatch(rb"[A-Za-z0-9._+=/@%:,-]{1,8}", data):
            raise SecretError(said("{file}: no VRRP password", file=file), "write 1 to 8 of A-Z a-z 0-9 . _ + = / @ % : , - on one line")
        found[name] = data
    return found


def overlay(cluster: Cluster, known: Mapping[str, bytes]) -> dict[str, dict[str, bytes]]:
    """The secret files of each host: just those of *known* that the host needs."""
    wanted = {name: known[name] for name in names(cluster) if name in known}
    return {host.name: wanted for host in cluster.load_balancers} if wanted else {}
