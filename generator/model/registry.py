"""The registry of the site: what the inventory says of it, and what is derived from an image's name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Registry:
    """
    ``cluster.registry``; *address* is ``host[:port][/path]``, *ca* the base64 text of a certificate.

    *mirrors* is empty where the inventory leaves it to the images; *credentials* names a secret.
    """

    address: str
    mirrors: tuple[str, ...]
    ca: str
    credentials: str
    plain_http: bool

    @property
    def host(self) -> str:
        """``host[:port]``, which names it in an image reference, in the runtimes' folders of certificates and in their logins."""
        return self.address.partition("/")[0]

    @property
    def path(self) -> str:
        """The path below which it has the images; empty where they lie at its top."""
        return self.address.partition("/")[2]

    @property
    def url(self) -> str:
        """``https://host[:port]``."""
        return f"{'http' if self.plain_http else 'https'}://{self.host}"


def registry_of(image: str) -> str:
    """The registry that a reference names; Docker Hub where it names none (distribution/reference, *splitDockerDomain*)."""
    first, slash, _ = image.partition("/")
    return first if slash and ("." in first or ":" in first or first == "localhost") else "docker.io"
