"""The registry of the site: each runtime asks it in the place of the upstream registries, and never goes past it to the internet.

Facts: containerd ``docs/hosts.md`` (certs.d, read at every pull), containers-registries.conf(5), containers-certs.d(5),
containers-auth.json(5), crio.conf(5), Docker's *Test an insecure registry* and *Verify repository client with certificates*.  Docker's
mirrors stand in for Docker Hub alone, so rule RUN009 wants images that name the registry itself there.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, lru_cache

from generator import emit
from generator.artifacts import File, rootfs
from generator.model import Cluster, Host
from generator.model.registry import Registry
from generator.render import render

_SOURCES = ("cluster.registry", "cluster.imageRepository", "cluster.cni")
# The authority's certificate, for containerd; the other two look for it in a folder of the registry's name.
CONTAINERD_CA = "/etc/containerd/stowage-registry.crt"
CRIO_LOGIN = "/etc/crio/stowage-registry.json"
# Of the kubelet (kubernetes.io, *Configure Nodes to Authenticate to a Private Registry*), and of `docker --config` in step 30.
KUBELET_LOGIN = "/var/lib/kubelet/config.json"


def for_host(cluster: Cluster, host: Host) -> Iterator[File]:
    """What tells the runtime of a Kubernetes host; nothing without ``cluster.registry``."""
    if host.runs_kubernetes:
        yield from _files(cluster)


@lru_cache(maxsize=1)
def _files(cluster: Cluster) -> tuple[File, ...]:
    if cluster.registry is None:
        return ()
    return tuple({"containerd": _containerd, "cri-dockerd": _docker, "cri-o": _crio}[cluster.runtime](cluster, cluster.registry))


def _file(destination: str, text: str, unit: str = "-", *, login: bool = False) -> File:
    """A file of step 20; one with a *login* in it is the host's to complete, and nobody else's to read."""
    # A name with a colon is none on some media.
    source = rootfs(destination.replace(":", "_"))
    return File(source, text, _SOURCES, destination, 20, unit, mode=0o600 if login else 0o644, how="login" if login else "file")


def _containerd(cluster: Cluster, registry: Registry) -> Iterator[File]:
    authority = bool(registry.ca) and not registry.plain_http
    if authority:
        yield _file(CONTAINERD_CA, _pem(registry.ca))
    for upstream in (*cluster.mirrored, registry.host):
        path = registry.path if upstream != registry.host else ""
        view = {
            "cluster": cluster.name,
            "upstream": upstream,
            "endpoint": f"{registry.url}/v2/{path}" if path else registry.url,
            "override": bool(path),
            "ca": CONTAINERD_CA if authority else "",
            "login": "Basic @login@" if registry.credentials else "",
        }
        # containerd looks for host_port_ before host:port.
        name, colon, port = upstream.partition(":")
        folder = f"{name}_{port}_" if colon else name
        text = render("templates/runtime/hosts.toml.j2", view)
        yield _file(f"/etc/containerd/certs.d/{folder}/hosts.toml", text, login=bool(registry.credentials))


def _crio(cluster: Cluster, registry: Registry) -> Iterator[File]:
    places = [(upstream, registry.address) for upstream in cluster.mirrored]
    view = {"cluster": cluster.name, "places": [*places, (registry.host, registry.host)], "insecure": registry.plain_http}
    yield _file("/etc/containers/registries.conf.d/90-stowage.conf", render("templates/runtime/registries.conf.j2", view), "crio.service")
    if registry.ca:
        yield _file(f"/etc/containers/certs.d/{registry.host}/ca.crt", _pem(registry.ca))
    if registry.credentials:
        yield _file(CRIO_LOGIN, _login(registry.host), login=True)
        text = render("templates/runtime/crio-login.conf.j2", {"cluster": cluster.name, "login": CRIO_LOGIN})
        yield _file("/etc/crio/crio.conf.d/20-stowage-registry.conf", text, "crio.service")


def _docker(cluster: Cluster, registry: Registry) -> Iterator[File]:
    del cluster
    if registry.ca:
        yield _file(f"/etc/docker/certs.d/{registry.host}/ca.crt", _pem(registry.ca))
    if registry.credentials:
        yield _file(KUBELET_LOGIN, _login(registry.host), login=True)


def _pem(certificate: str) -> str:
    """The inventory's one line as a file (RFC 7468: 64 characters a line)."""
    lines = [certificate[start : start + 64] for start in range(0, len(certificate), 64)]
    return "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""])


@cache
def _login(host: str) -> str:
    return emit.indented_json({"auths": {host: {"auth": "@login@"}}})
