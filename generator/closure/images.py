"""Images: every reference in manifests, kubeadm's configuration, the runtimes' files and scripts, against images.txt and the payload."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from generator import versions
from generator.closure.commands import code_of, every, is_script, parsed
from generator.closure.folders import Cluster, Folder, yaml
from generator.closure.needs import Use, Verdict, missing, provided
from generator.closure.shell import Lines
from generator.closure.urls import comment_at
from generator.handwritten import Document, Word
from generator.payload import images as archives
from generator.wording import said

KUBERNETES, CONTROL_PLANES = "kubernetes", "control-plane"

# With a registry in front and a tag or digest behind: nothing else looks like that.
_REFERENCE = re.compile(
    r"(?<![\w./:@-])(?:(?:[a-z0-9][a-z0-9-]*\.)+[a-z0-9-]+|localhost)(?::[0-9]{1,5})?(?:/[a-z0-9][a-z0-9._-]*)+"
    r"(?::[A-Za-z0-9_][A-Za-z0-9._-]{0,127}|@sha256:[0-9a-f]{64})(?![\w/])"
)
_CONFIGURED = re.compile(r"""(?:\b(?:sandbox|sandbox_image|pause_image)["']?\s*[=:]\s*["']?|--pod-infra-container-image[= ])([^\s"']+)""")
# A pinned image is one that isn't cleaned up where it is there.
_PINNED = re.compile(r"^\s*pinned_images\s*=\s*\[")
_LISTED = re.compile(r"""^\s*(?:- )?image:\s*["']?([^\s"'#|>&*]+)""")
_LINE = re.compile(r"\s*([^\s#]\S*)")
_TAGGED = re.compile(r"[a-z0-9][a-z0-9._/-]*:[\w.-]+")
_UNTAGGED = re.compile(r"[a-z0-9][a-z0-9._/:-]*")
_PULLS = frozenset(("pull", "run", "create"))
_RUNTIMES = frozenset(("docker", "podman", "nerdctl", "crictl", "ctr"))
_COMPONENTS = (("kube-apiserver", CONTROL_PLANES), ("kube-controller-manager", CONTROL_PLANES), ("kube-scheduler", CONTROL_PLANES))


def uses(path: str, text: str) -> Iterator[Use]:
    """Every image that the file at *path* names; a name without a tag means any tag."""
    if path == "images.txt" or path.startswith("payload/manifests/"):
        yield from _listed(path, text)
        return
    if path.startswith(("manifests/", "kubeadm/")) and path.endswith((".yaml", ".yml")):
        for document in yaml(path, text):
            yield from _scalars(path, document.tree)
            yield from _of_kubeadm(path, document)
            yield from _of_calico(path, document)
        return
    yield from _pulled(path, code_of(path, text))
    if path.startswith("rootfs/") and not is_script(path, text):
        yield from _configured(path, text)


def _listed(path: str, text: str) -> Iterator[Use]:
    """One a line: of images.txt all, of upstream's manifests, which have over a megabyte, the containers'."""
    whole = path == "images.txt"
    for number, line in enumerate(text.split("\n"), 1):
        if found := (_LINE if whole else _LISTED).match(line):
            yield Use("image", found[1], path, number, found.start(1) + 1, group="" if whole else KUBERNETES)


def _configured(path: str, text: str) -> Iterator[Use]:
    """What a runtime's file or a unit names, comments and pinned images left out."""
    pinned = False
    for number, line in enumerate(text.split("\n"), 1):
        pinned = (pinned or bool(_PINNED.match(line))) and "]" not in line
        if pinned:
            continue
        places = [(found[1], found.start(1)) for found in _CONFIGURED.finditer(line)]
        places += [(found[0], found.start()) for found in _REFERENCE.finditer(line)]
        end = comment_at(line)
        yield from (Use("image", name, path, number, at + 1) for name, at in places if at < end)


def _use(path: str, name: str, word: Word, group: str) -> Use:
    return Use("image", name, path, word.spot.at.line, word.spot.at.column, group=group)


def _scalars(path: str, tree: Any) -> Iterator[Use]:
    """Images of containers, and whatever looks like one: in arguments, in the environment, in a ConfigMap."""
    queue = [("", tree)]
    while queue:
        key, value = queue.pop()
        if isinstance(value, dict):
            queue += list(value.items())
        elif isinstance(value, list):
            queue += [(key, one) for one in value]
        elif isinstance(value, Word):
            names = [str(value)] if key == "image" and value else [found[0] for found in _REFERENCE.finditer(value)]
            yield from (_use(path, name, value, KUBERNETES) for name in names)


def _of_kubeadm(path: str, document: Document) -> Iterator[Use]:
    """What kubeadm makes of ``imageRepository`` and the release (``cmd/kubeadm/app/images/images.go``), on the hosts that run it."""
    if document.kind != "ClusterConfiguration":
        return
    version = str(document.get("kubernetesVersion") or "").removeprefix("v")
    if not re.fullmatch(r"1\.[0-9]{1,3}\.[0-9]{1,3}", version):
        return
    repository = str(document.get("imageRepository") or "registry.k8s.io")
    place = document.place("imageRepository")
    tags = versions.kubeadm_tags(version)
    etcd = (str(document.get("etcd", "local", "imageRepository") or repository), document.get("etcd", "local", "imageTag"))
    dns = document.get("dns", "imageRepository")
    dns_path = f"{dns or repository}/{'coredns/' if not dns and repository == 'registry.k8s.io' else ''}coredns"
    for name, group in (*_COMPONENTS, ("kube-proxy", KUBERNETES)):
        yield _use(path, f"{repository}/{name}:v{version}", place, group)
    yield _use(path, _tagged(f"{repository}/pause", tags and tags.pause), place, KUBERNETES)
    yield _use(path, _tagged(f"{etcd[0]}/etcd", etcd[1], tags and tags.etcd), place, CONTROL_PLANES)
    yield _use(path, _tagged(dns_path, document.get("dns", "imageTag"), tags and tags.coredns), place, KUBERNETES)


def _tagged(name: str, *tags: object) -> str:
    return next((f"{name}:{tag}" for tag in tags if tag), name)


def _of_calico(path: str, document: Document) -> Iterator[Use]:
    """What Calico's operator makes of an Installation; without a registry, the operator's own, which no file of the bundle says."""
    if not document.api.startswith("operator.tigera.io/"):
        return
    if document.kind == "Installation" and (registry := document.get("spec", "registry")):
        folder = str(document.get("spec", "imagePath") or "calico")
        for name in versions.calico_components(api_server=False):
            yield _use(path, f"{str(registry).rstrip('/')}/{folder}/{name}", document.place("spec", "registry"), KUBERNETES)
    if document.kind in ("Installation", "APIServer") and not document.get("spec", "registry"):
        names = ("apiserver",) if document.kind == "APIServer" else versions.calico_components(api_server=False)
        yield from (_use(path, f"calico/{name}", document.place("kind"), KUBERNETES) for name in names)


def _pulled(path: str, text: str) -> Iterator[Use]:
    """What a script pulls or runs by its name; a name in a variable comes from images.txt or host.env."""
    lines = Lines(text)
    for words, _, inside in every(parsed(text)):
        names = [word.text for word in words]
        at = next((i for i, name in enumerate(names) if name.rpartition("/")[2] in _RUNTIMES), None)
        if at is None or not _PULLS & set(names[at:]):
            continue
        for before, word in zip(words[at:], words[at + 1 :], strict=False):
            # Behind the verb a name may go without a tag; it is one of no option's.
            untagged = before.text in _PULLS and _UNTAGGED.fullmatch(word.text)
            if word.literal and (untagged or _REFERENCE.fullmatch(word.text) or _TAGGED.fullmatch(word.text)):
                yield Use("image", word.text, path, *lines.place(word.at if inside is None else inside))


@dataclass(frozen=True)
class Payload:
    """The archives of a host's overlay: file by reference, and those that can't be read."""

    files: Mapping[str, str]
    unreadable: tuple[str, ...]


class Archives:
    """Reads archives once, whatever number of hosts has them by hard links."""

    def __init__(self) -> None:
        self.known: dict[tuple[int, int, int, int], tuple[str, ...] | None] = {}

    def of(self, root: Path) -> Payload:
        """Those below *root*, a host's ``payload/``."""
        files: dict[str, str] = {}
        unreadable = []
        for path in sorted((root / "images").glob("*.tar*")):
            references = self._read(path)
            if references is None:
                unreadable.append(f"payload/images/{path.name}")
                continue
            # By its name too: step 30 tags the one image of an archive that is named for a reference.
            files |= dict.fromkeys((*map(archives.familiar, references), path.name.removesuffix(".gz")), f"payload/images/{path.name}")
        return Payload(files, tuple(unreadable))

    def _read(self, path: Path) -> tuple[str, ...] | None:
        status = path.stat()
        key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        if key not in self.known:
            try:
                # A compressed one would have to be read whole: its name is what it says.
                self.known[key] = () if path.name.endswith(".gz") else archives.read(path).references
            except (archives.UnreadableError, OSError):
                self.known[key] = None
        return self.known[key]


def archive_name(reference: str) -> str:
    """The name of the archive of *reference*."""
    return re.sub(r"[/:@]", "_", reference) + ".tar"


def judge(cluster: Cluster, folder: Folder, use: Use, payload: Payload | None, *, required: bool) -> Verdict:
    """Where the host of *folder* has the image from; *payload* is None where it has none."""
    known = {archives.familiar(one): one for one in sorted(folder.images)}
    wanted = archives.familiar(use.name)
    name = known.get(wanted) or next((ref for short, ref in known.items() if f"/{short}".rpartition(":")[0].endswith(f"/{wanted}")), "")
    if not name:
        return missing(
            said("images.txt of {host} doesn't list it", host=folder.name), "take it out, or make the inventory name it, and compile again"
        )
    file = archive_name(name)
    if payload is not None and (found := payload.files.get(archives.familiar(name)) or payload.files.get(file)):
        return provided(found)
    if cluster.registry:
        return provided(said("the site's registry {registry}", registry=cluster.registry))
    if payload is None and folder.get("PACKAGE_SOURCE") == "repository":
        return provided(said("pulled from its registry (packages: repository)"))
    if payload is None and not required:
        return Verdict("wanted", said("the payload"))
    return missing(said("the payload of {host} has no archive of it", host=folder.name), said("put {file} into payload/images", file=file))
