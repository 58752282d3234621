"""KCF: kubeadm's configuration files: versions, fields, and documents that don't go together."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from itertools import islice
from typing import Any

from generator.handwritten import Document, File, Files, Word
from generator.handwritten.kubeadm import KINDS, commands, control_plane_joins, minors, told, value
from generator.handwritten.kubeadm_fields import VERSIONS, Fields, fields
from generator.lint import Found, file_rule
from generator.wording import said

# In one file; what has more is no configuration of kubeadm.
_MOST = 20


def _version(document: Document) -> str:
    """``v1beta4``; empty for another group."""
    group, _, version = document.api.partition("/")
    return version if group == "kubeadm.k8s.io" else ""


@file_rule("KCF001", "error")
def unknown_field(files: Files) -> Iterator[Found]:
    """
    A field that kubeadm's configuration doesn't have.

    Why it hurts: init and join print a warning among many lines and go on without the setting; `kubeadm config validate` refuses the file.

    Example: `podSubnet: 10.244.0.0/16` at the top of a ClusterConfiguration: the cluster gets no pod network at all.

    Use instead: the field's place in the configuration's reference; `kubeadm config validate --config FILE` checks the whole file.

    Source: kubernetes/kubernetes#118013 (strict only in validate and migrate); kubeadm, types.go of v1beta3 and v1beta4.
    """
    for file in files.files:
        yield from islice(_fields_of(file), _MOST)


def _fields_of(file: File) -> Iterator[Found]:
    for document in file.documents:
        version = _version(document)
        if document.kind in KINDS and version in ("v1beta3", "v1beta4"):
            for name, path, level in _unknown(document.tree, fields(version)[document.kind], ""):
                message = said("{kind} of {version} has no field {path}", kind=document.kind, version=version, path=path)
                yield Found(name, message, _instead(name, path, level, document.kind, version))


def _unknown(tree: Any, known: Fields, above: str) -> Iterator[tuple[Word, str, Fields]]:
    for name, below in tree.items() if isinstance(tree, dict) else ():
        path = f"{above}{name[:60]}"
        if name not in known:
            yield name, path, known
        elif known[name] is not None:
            yield from _unknown(below, known[name], f"{path}.")


def _instead(name: Word, path: str, level: Fields, kind: str, version: str) -> str:
    other = "v1beta3" if version == "v1beta4" else "v1beta4"
    if path in _paths(fields(other)[kind]):
        return said("remove it, or use apiVersion kubeadm.k8s.io/{version}, which has it", version=other)
    elsewhere = [place for place in _paths(fields(version)[kind]) if place.rpartition(".")[2] == name]
    if len(elsewhere) == 1:
        return said("write it as {path}", path=elsewhere[0])
    close = get_close_matches(name[:60], [*level], n=1)
    if close:
        return said("did you mean {name}", name=close[0])
    return "remove it; `kubeadm config validate` checks the whole file"


def _paths(known: Fields, above: str = "") -> Iterator[str]:
    for name, below in known.items():
        yield f"{above}{name}"
        yield from _paths(below or {}, f"{above}{name}.")


@file_rule("KCF002", "error")
def refused_version(files: Files) -> Iterator[Found]:
    """
    A version of kubeadm's configuration that this kubeadm doesn't take.

    Why it hurts: kubeadm ends at once and names neither the version to take nor the fields that are other there.

    Example: `apiVersion: kubeadm.k8s.io/v1beta2` with `kubernetesVersion: v1.29.3`; v1beta4 below 1.31; v1beta3 from 1.37 on.

    Use instead: v1beta3 up to 1.30, v1beta4 from 1.31 on; `kubeadm config migrate` rewrites a file.

    Source: kubernetes/kubernetes#101129, #136016; kubernetes/kubeadm#2459; checklist row 47.
    """
    known = minors(files)
    for file, document in files.documents(*KINDS):
        version, here = _version(document), known.get(file.source.name, known.get(""))
        if not version:
            continue
        first, end = VERSIONS.get(version, (None, None))
        place = document.place("apiVersion")
        # Without a version in any file: what no kubeadm since 1.28 takes.
        if first is None or (end is not None and (here if here is not None else 28) >= end):
            message = said("kubeadm doesn't know {version}", version=version[:40])
            if first is not None:
                message = said("kubeadm 1.{minor} and later don't take {version}", minor=end, version=version)
            yield Found(place, message, "use v1beta3 up to 1.30, v1beta4 from 1.31 on; `kubeadm config migrate` rewrites a file")
        elif here is not None and here < first:
            message = said("{version} came with kubeadm 1.{first}, the version is 1.{minor}", version=version, first=first, minor=here)
            yield Found(place, message, "use v1beta3 up to 1.30, v1beta4 from 1.31 on; `kubeadm config migrate` rewrites a file")


@file_rule("KCF003", "warning")
def deprecated_version(files: Files) -> Iterator[Found]:
    """
    A deprecated version of kubeadm's configuration.

    Why it hurts: kubeadm 1.36 is the last that takes v1beta3 and the last that can rewrite it; the file fails at a later rebuild.

    Example: `apiVersion: kubeadm.k8s.io/v1beta3` with `kubernetesVersion: v1.33.2`.

    Use instead: v1beta4, whose extraArgs are lists of name and value; `kubeadm config migrate` rewrites a file.

    Source: kubernetes/kubernetes#125029, #136016; checklist row 47.
    """
    known = minors(files)
    for file, document in files.documents(*KINDS):
        here = known.get(file.source.name, known.get(""))
        if _version(document) == "v1beta3" and here is not None and 31 <= here <= 36:
            yield Found(
                document.place("apiVersion"),
                said("v1beta3 is deprecated since kubeadm 1.31, the version is 1.{minor}", minor=here),
                "rewrite the file with `kubeadm config migrate`",
            )


_ARGUMENTS = (
    ("apiServer", "extraArgs"),
    ("controllerManager", "extraArgs"),
    ("scheduler", "extraArgs"),
    ("etcd", "local", "extraArgs"),
    ("nodeRegistration", "kubeletExtraArgs"),
)


@file_rule("KCF004", "error")
def argument_shape(files: Files) -> Iterator[Found]:
    """
    Extra arguments in the shape of another version.

    Why it hurts: v1beta3 has a map, v1beta4 a list of name and value; kubeadm can't read the file and ends.

    Example: `extraArgs: {audit-log-path: /var/log/audit.log}` in v1beta4.

    Use instead: `- name: audit-log-path` with `value: /var/log/audit.log` below it in v1beta4, the map in v1beta3.

    Source: kubernetes/kubernetes#125029; kubeadm, v1beta4 doc.go.
    """
    for _, document in files.documents(*KINDS):
        version = _version(document)
        for path in _ARGUMENTS:
            arguments = document.get(*path)
            if version == "v1beta4" and isinstance(arguments, dict) and arguments:
                message = said("{field} is a map, in v1beta4 it is a list", field=".".join(path))
                yield Found(document.place(*path), message, "write a list of entries with name and value")
            elif version == "v1beta3" and isinstance(arguments, list) and arguments:
                message = said("{field} is a list, in v1beta3 it is a map", field=".".join(path))
                yield Found(document.place(*path), message, "write one line an argument, its name as the key")


@file_rule("KCF005", "warning")
def moving_version(files: Files) -> Iterator[Found]:
    """
    A Kubernetes version that is not said.

    Why it hurts: kubeadm then asks dl.k8s.io which release is the newest; without the internet it waits, then takes a version of its own,
    for which no images were carried in.

    Example: `kubeadm init` without `--kubernetes-version`, or `kubernetesVersion: stable-1`.

    Use instead: the exact release, `kubernetesVersion: v1.29.3`.

    Source: kubeadm init, *Using custom images* and the default `stable-1`; checklist row 46.
    """
    remedy = "write the exact release, such as v1.29.3"
    for _, document in files.documents("ClusterConfiguration"):
        if _version(document):
            version = value(document, "kubernetesVersion")
            if version is None:
                yield Found(document.place("kind"), "ClusterConfiguration has no kubernetesVersion", remedy)
            elif _moving(version):
                yield Found(version, said("version {version} is looked up on the internet", version=version[:60]), remedy)
    for command in commands(files):
        if command.verb == "init" and "config" not in command.flags:
            version = command.flags.get("kubernetes-version")
            if version is None:
                yield Found(command.verb, "kubeadm init without --kubernetes-version", remedy)
            elif _moving(version):
                yield Found(version, said("version {version} is looked up on the internet", version=version[:60]), remedy)


def _moving(version: str) -> bool:
    return version.startswith(("stable", "latest", "ci/", "release/"))


@file_rule("KCF006", "error")
def joins_without_endpoint(files: Files) -> Iterator[Found]:
    """
    Control planes join a cluster that was made without an endpoint.

    Why it hurts: kubeadm refuses every further control plane, and the name can't be added without new certificates and kubeconfigs.

    Example: `kubeadm init` without `--control-plane-endpoint`, then `kubeadm join --control-plane`.

    Use instead: `controlPlaneEndpoint: api.example.net:16443` from the first init on, even with one control plane.

    Source: kubeadm, creating highly available clusters ("doesn't have a stable controlPlaneEndpoint address"); checklist row 44.
    """
    joins = list(control_plane_joins(files))
    if not joins or any(True for _ in told(files, "controlPlaneEndpoint")):
        return
    related = (joins[0][1].related("a control plane that joins"),)
    made = [document.place("kind") for _, document in files.documents("ClusterConfiguration")]
    made += [command.verb for command in commands(files) if command.verb == "init" and "config" not in command.flags]
    for place in made:
        yield Found(
            place,
            "a control plane joins, and there is no controlPlaneEndpoint",
            "set it to the name and port of the load balancer",
            related,
        )


@file_rule("KCF007", "error")
def documents_together(files: Files) -> Iterator[Found]:
    """
    Documents of kubeadm's configuration that can't stand in one file.

    Why it hurts: kubeadm refuses a kind that stands twice; nobody can say which of the two was meant.

    Example: two ClusterConfigurations, divided by `---`, one of them left over from a copy.

    Use instead: one document a kind.

    Source: kubeadm, app/util/marshal.go (SplitConfigDocuments, "specified twice in YAML file").
    """
    for file in files.files:
        first: dict[str, Document] = {}
        for document in file.documents:
            if document.kind and _version(document):
                other = first.setdefault(document.kind, document)
                if other is not document:
                    message = said("a second {kind} in one file", kind=document.kind[:60])
                    related = (other.place("kind").related("the first"),)
                    yield Found(document.place("kind"), message, "keep one of them", related)


_SHARED = (("networking", "podSubnet"), ("networking", "serviceSubnet"), ("networking", "dnsDomain"), ("controlPlaneEndpoint",))


@file_rule("KCF008", "warning")
def contradiction(files: Files) -> Iterator[Found]:
    """
    Two files tell kubeadm different things about one cluster.

    Why it hurts: only the first init counts, and the cluster keeps what it said; a rebuild from the other file makes another cluster, which
    the CNI's manifest, the load balancer and the certificates of the rest don't fit.

    Example: `podSubnet: 10.244.0.0/16` in the first host's file, 10.245.0.0/16 in another's.

    Use instead: one value; joining hosts need no ClusterConfiguration at all.

    Source: kubeadm, v1beta4 doc.go (the cluster's ConfigMap holds the one ClusterConfiguration).
    """
    for path in _SHARED:
        first: Word | None = None
        for _, word in told(files, *path):
            first = first if first is not None else word
            if word != first and "$" not in word + first:
                message = said("{field} is {value} here, elsewhere {other}", field=path[-1], value=word[:60], other=first[:60])
                yield Found(word, message, "write the same in all files", (first.related("the other value"),))


@file_rule("KCF009", "warning")
def cgroupfs(files: Files) -> Iterator[Found]:
    """
    The kubelet with cgroupfs on a host of systemd.

    Why it hurts: two managers then count and limit the same memory; under pressure the host becomes unstable, and a runtime that uses
    systemd's cgroups makes every pod fail to start.

    Example: `cgroupDriver: cgroupfs` in a KubeletConfiguration.

    Use instead: `cgroupDriver: systemd`, kubeadm's default, and `SystemdCgroup = true` in containerd.

    Source: Kubernetes, container runtimes (*cgroup drivers*); kubernetes/kubeadm#2687.
    """
    for _, document in files.documents("KubeletConfiguration"):
        driver = value(document, "cgroupDriver")
        if driver == "cgroupfs":
            yield Found(driver, "the kubelet's cgroup driver is cgroupfs", "write systemd here, and in the container runtime")
