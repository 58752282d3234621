"""RUN, SEC: the registry of the site, as the runtimes are told of it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator

from generator.diagnostics import Path, Related
from generator.lint import Finding, rule
from generator.model import Cluster
from generator.model.registry import registry_of
from generator.wording import said

_REGISTRY: Path = ("cluster", "registry")


def _strangers(cluster: Cluster, known: tuple[str, ...]) -> Iterator[tuple[Path, str]]:
    """The first image of kubeadm and the first of the CNI that name no registry of *known*, and the key that would name another one."""
    for path, images in ((("cluster", "imageRepository"), cluster.kubeadm_images), (("cluster", "cni"), cluster.cni_images)):
        image = next((image for image in images if registry_of(image) not in known), "")
        if image:
            yield path, image


@rule("RUN009", "error")
def docker_mirrors_docker_hub(cluster: Cluster) -> Iterator[Finding]:
    """
    Docker asks no mirror for these images.

    Why it hurts: Docker's `registry-mirrors` stand in for Docker Hub alone; for images of any other registry it goes to the internet, and
    step 30 ends there.

    Example: `containerRuntime: cri-dockerd` with `registry: {address: registry.site:5000}` and the default `imageRepository`.

    Use instead: images that name it: `imageRepository: registry.site:5000` and `cni: {name: flannel, registry: registry.site:5000/cni}`; or
    `containerd`.

    Source: Docker, *Registry as a pull through cache* (only Docker Hub can be mirrored); daemon.json, *registry-mirrors*.
    """
    if cluster.registry is None or cluster.runtime != "cri-dockerd":
        return
    for path, image in _strangers(cluster, (cluster.registry.host,)):
        yield Finding(
            path,
            said("Docker asks {registry} for {image}, not the site's registry", registry=registry_of(image), image=image),
            said("name {address} there, or choose containerd", address=cluster.registry.address),
            related=(Related((*_REGISTRY, "address"), "the site's registry"),),
        )


@rule("RUN010", "error")
def not_mirrored(cluster: Cluster) -> Iterator[Finding]:
    """
    An image of a registry that nothing stands in for.

    Why it hurts: the runtime asks that registry itself; without a way to it step 30 ends there.

    Example: `registry: {address: registry.site:5000, mirrors: [registry.k8s.io]}` with flannel, whose images are ghcr.io's.

    Use instead: `mirrors` with that one too, or without `mirrors`: then it is all that the images name.

    Source: containerd, docs/hosts.md; containers-registries.conf(5).
    """
    if cluster.registry is None or not cluster.registry.mirrors or cluster.runtime == "cri-dockerd":
        return
    for path, image in _strangers(cluster, (*cluster.mirrored, cluster.registry.host)):
        yield Finding(
            (*_REGISTRY, "mirrors"),
            said("the site's registry does not stand in for {registry}, which {image} names", registry=registry_of(image), image=image),
            said("add {registry}", registry=registry_of(image)),
            related=(Related(path, "where the image comes from"),),
        )


@rule("RUN011", "error")
def no_certificate(cluster: Cluster) -> Iterator[Finding]:
    """
    The registry's CA is no certificate.

    Why it hurts: the runtime refuses a file that it can't read, and every pull ends with it; and a private key that was pasted here is
    in the history of the repository for ever.

    Example: `ca:` with the lines of a key, of two certificates, or with one line less.

    Use instead: what `sed '/CERTIFICATE/d' ca.crt | tr -d '\\n'` prints, for a file with one certificate.

    Source: RFC 7468, section 5; RFC 5280, section 4.1 (Certificate is a sequence that begins with one).
    """
    if cluster.registry is not None and cluster.registry.ca and not _is_certificate(cluster.registry.ca):
        yield Finding(
            (*_REGISTRY, "ca"),
            "the CA of the site's registry is not a certificate",
            "join the lines between BEGIN CERTIFICATE and END CERTIFICATE of one certificate to one line",
            on_key=True,
        )


def _is_certificate(text: str) -> bool:
    """Whether *text* is the base64 of one DER sequence as long as it says, which begins with another one (a key begins with a number)."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    # A length above 127 stands in as many bytes as the low bits of the first one say (X.690, 8.1.3.5).
    more = data[1] & 0x7F if data[0] == 0x30 and data[1] & 0x80 else 0
    head = 2 + more
    return 0 < more <= 4 and head + int.from_bytes(data[2:head], "big") == len(data) and data[head] == 0x30


@rule("SEC005", "warning")
def clear_password(cluster: Cluster) -> Iterator[Finding]:
    """
    The registry's password goes over the network in the clear.

    Why it hurts: HTTP Basic sends it with every request; without TLS everybody on the way reads it.

    Example: `registry: {address: registry.site:5000, credentials: {secret: registry}, plainHttp: true}`.

    Use instead: TLS, with the certificate of the site's own CA as `ca`; or a registry that may be read without a password.

    Source: RFC 7617, section 4.
    """
    if cluster.registry is not None and cluster.registry.credentials and cluster.registry.plain_http:
        yield Finding(
            (*_REGISTRY, "plainHttp"),
            said("the password of {registry} goes over the network in the clear", registry=cluster.registry.host),
            "remove plainHttp, and name the registry's CA as `ca`",
            related=(Related((*_REGISTRY, "credentials"), "the password"),),
        )
