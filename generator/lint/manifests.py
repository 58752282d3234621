"""MAN: static pods of the control plane, and the manifests of flannel and Calico."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import PurePosixPath
from typing import Any

from generator.handwritten import Document, File, Files, Word
from generator.handwritten.kubeadm import told, value, vips
from generator.lint import Found, file_rule
from generator.wording import said

_STATIC = PurePosixPath("/etc/kubernetes/manifests")


@file_rule("MAN001", "error")
def twin_pods(files: Files) -> Iterator[Found]:
    """
    Two files in the kubelet's manifest folder describe one pod.

    Why it hurts: the kubelet reads every file there whose name doesn't begin with a dot, whatever its ending, in the order of the names; of
    two with one pod the later wins. `etcd.yaml.bak` comes after `etcd.yaml`, so the old copy runs.

    Example: `cp etcd.yaml etcd.yaml.bak` in /etc/kubernetes/manifests before an edit.

    Use instead: copies in another folder, such as /etc/kubernetes/backup.

    Source: kubernetes/kubernetes#136962, #129364; kubernetes/kubeadm#2823; kubernetes/website#54427; checklist row 64.
    """
    first: dict[tuple[str, str, str], Word] = {}
    here = [(file, one) for file, one in files.documents("Pod") if PurePosixPath(file.path).parent == _STATIC]
    for file, document in sorted(here, key=lambda item: item[0].path):
        name = value(document, "metadata", "name")
        if name is None or PurePosixPath(file.path).name.startswith("."):
            continue
        key = (file.host, value(document, "metadata", "namespace") or "default", str(name))
        other = first.setdefault(key, name)
        if other is not name:
            message = said("{file} describes pod {name} a second time, and wins", file=PurePosixPath(file.path).name[:80], name=name[:80])
            yield Found(name, message, "move the copy out of the folder", (other.related("the first file"),))


def _members(files: Files) -> Iterator[tuple[File, dict[str, Word]]]:
    """Each static pod of etcd with its flags, by name; the last of equal ones counts."""
    for file, document in files.documents("Pod"):
        command = document.get("spec", "containers", 0, "command")
        labels = document.get("metadata", "labels")
        named = isinstance(labels, dict) and labels.get("component") == "etcd"
        if isinstance(command, list) and (named or value(document, "metadata", "name") == "etcd"):
            words = [word for word in command if isinstance(word, Word)]
            yield file, {word.partition("=")[0].lstrip("-"): word for word in words if word.startswith("--")}


def _said(flags: dict[str, Word], name: str) -> str:
    return flags[name].partition("=")[2] if name in flags else ""


@file_rule("MAN002", "error")
def not_a_member(files: Files) -> Iterator[Found]:
    """
    An etcd member that isn't in its own list of members.

    Why it hurts: with its data the member doesn't read the list; once they are lost, or at the first start, etcd ends: "couldn't find local
    name", or the URL in the list is not the one it advertises.

    Example: `--name=master-2` with `--initial-cluster=master-1=https://192.168.1.25:2380`.

    Use instead: a list that has the member's own name with the URL of `--initial-advertise-peer-urls`.

    Source: etcd, op-guide/clustering; etcd, server/embed/config.go; checklist rows 60 to 62.
    """
    for _, flags in _members(files):
        name, cluster = _said(flags, "name"), _said(flags, "initial-cluster")
        urls = set(_said(flags, "initial-advertise-peer-urls").split(",")) - {""}
        if not name or not cluster or "$" in name + cluster:
            continue
        own = {url for member, _, url in (one.partition("=") for one in cluster.split(",")) if member.strip() == name}
        if not own:
            message = said("etcd member {name} is not in its own list of members", name=name[:80])
            yield Found(flags["initial-cluster"], message, "add the member's own name and peer URL", (flags["name"].related("its name"),))
        elif urls and own != urls:
            message = said("etcd member {name} is listed with another peer URL than it advertises", name=name[:80])
            related = (flags["initial-advertise-peer-urls"].related("what it advertises"),)
            yield Found(flags["initial-cluster"], message, "write the URL of --initial-advertise-peer-urls", related)


@file_rule("MAN003", "warning")
def edited_but_existing(files: Files) -> Iterator[Found]:
    """
    An edited list of etcd's members with the state existing.

    Why it hurts: the list counts only when the member's data are lost. With `existing` it then starts under its old identity with an empty
    log and has forgotten its votes: it panics, or helps to elect a member that lags behind, and committed writes are lost.

    Example: all members written into `--initial-cluster` on every control plane, and `--initial-cluster-state=existing` left where kubeadm
    wrote it at the join.

    Use instead: the whole list and no `--initial-cluster-state`, on every control plane, one at a time, once all have joined: a member
    without its data then refuses to start, and nothing is lost.

    Source: etcd, op-guide/clustering; facts.md 3.0 (measured with etcd 3.5); etcd-io/etcd#12227; checklist row 60.
    """
    members = list(_members(files))

    def several(flags: dict[str, Word]) -> bool:
        return "," in _said(flags, "initial-cluster")

    # kubeadm itself writes the state wherever it lists several: a list without it was written by hand.
    edited = next((flags for _, flags in members if several(flags) and "initial-cluster-state" not in flags), None)
    if edited is None:
        return
    for _, flags in members:
        if several(flags) and _said(flags, "initial-cluster-state") == "existing":
            message = said("member {name} would start empty under its old identity", name=_said(flags, "name")[:80])
            related = (edited["initial-cluster"].related("the list that was edited"),)
            yield Found(flags["initial-cluster-state"], message, "remove --initial-cluster-state where the list has all members", related)


@file_rule("MAN004", "error")
def open_etcd(files: Files) -> Iterator[Found]:
    """
    Anybody who reaches etcd may read and write it.

    Why it hurts: etcd holds every Secret of the cluster and knows no permissions of Kubernetes: without client certificates whoever reaches
    the port is the cluster's administrator.

    Example: `--listen-client-urls=http://0.0.0.0:2379`, or an https URL with `--client-cert-auth=false`.

    Use instead: https URLs with `--client-cert-auth=true` and `--trusted-ca-file`, as kubeadm writes them.

    Source: etcd, op-guide/security; Kubernetes, operating etcd clusters (*securing etcd clusters*).
    """
    for _, flags in _members(files):
        verified = "client-cert-auth" in flags and _said(flags, "client-cert-auth") in ("", "true")
        for url in _said(flags, "listen-client-urls").split(","):
            match = re.match(r"\s*(https?)://(\[[^\]]*\]|[^:/]*)", url[:300])
            if match and match[2] not in ("127.0.0.1", "[::1]", "localhost") and (match[1] == "http" or not verified):
                message = said("etcd serves {url} without client certificates", url=url.strip()[:80])
                yield Found(flags["listen-client-urls"], message, "use https, --client-cert-auth=true and --trusted-ca-file")
                break


def _pools(files: Files) -> Iterator[tuple[Word, list[str]]]:
    """What each CNI manifest takes for the pod network: a word to point at, and its networks."""
    for _, document in files.documents("ConfigMap"):
        text = value(document, "data", "net-conf.json")
        if text is not None:
            try:
                read = json.loads(text)
            except (ValueError, RecursionError):
                continue
            networks = [read.get(key) for key in ("Network", "IPv6Network")] if isinstance(read, dict) else []
            yield text, [one for one in networks if isinstance(one, str)]
    for _, document in _installations(files):
        pools = document.get("spec", "calicoNetwork", "ipPools")
        cidrs = (
            [one["cidr"] for one in pools if isinstance(one, dict) and isinstance(one.get("cidr"), Word)] if isinstance(pools, list) else []
        )
        if cidrs:
            yield cidrs[0], [str(one) for one in cidrs]


def _installations(files: Files) -> Iterator[tuple[File, Document]]:
    return ((file, one) for file, one in files.documents("Installation") if one.api == "operator.tigera.io/v1")


@file_rule("MAN005", "error")
def other_pod_network(files: Files) -> Iterator[Found]:
    """
    The CNI's pod network is not the one that kubeadm was told.

    Why it hurts: flannel's nodes get networks outside of its own and it ends with an error; Calico's operator refuses a pool outside of the
    pod network. No pod gets an address, and every node stays NotReady.

    Example: `podSubnet: 10.244.0.0/16` with Calico's default `cidr: 192.168.0.0/16`.

    Use instead: the value of podSubnet, or of --pod-network-cidr.

    Source: flannel, Documentation/kubernetes.md; tigera/operator, installation validation; checklist rows 67 and 69.
    """
    told_pods = [word for _, word in told(files, "networking", "podSubnet")]
    networks = [network for text in (told_pods[0].split(",") if told_pods else ()) if (network := _network(text))]
    for word, texts in _pools(files) if networks else ():
        pools = [network for text in texts if (network := _network(text))]
        for version in (4, 6):
            mine = [pool for pool in pools if pool.version == version]
            whole = [network for network in networks if network.version == version]
            if mine and whole and not any(pool.subnet_of(network) for pool in mine for network in whole):
                message = said("the CNI's network {pool} is not in podSubnet {subnet}", pool=str(mine[0]), subnet=str(whole[0]))
                yield Found(word, message, said("write {subnet}", subnet=str(whole[0])), (told_pods[0].related("what kubeadm is told"),))


def _network(text: str) -> Any:
    try:
        return ip_network(text.strip()[:60], strict=False)
    except ValueError:
        return None


def _containers(document: Document) -> Iterator[Word]:
    for path in (("spec",), ("spec", "template", "spec")):
        for key in ("initContainers", "containers"):
            found = document.get(*path, key)
            for one in found if isinstance(found, list) else ():
                image = one.get("image") if isinstance(one, dict) else None
                if isinstance(image, Word):
                    yield image


@file_rule("MAN006", "warning")
def moving_image(files: Files) -> Iterator[Found]:
    """
    An image without a release.

    Why it hurts: what runs depends on the day on which each host pulled it; without the internet the tag that was carried in is not the one
    that is asked for, and `latest` is pulled at every start.

    Example: `image: docker.io/flannel/flannel:latest`, or no tag at all.

    Use instead: the tag of a release, `ghcr.io/flannel-io/flannel:v0.28.9`, or a digest.

    Source: Kubernetes, images (*imagePullPolicy* of :latest is Always); checklist row 67.
    """
    for _, document in files.documents("DaemonSet", "Deployment", "Pod"):
        for image in _containers(document):
            tag = image.rpartition("/")[2].partition(":")[2]
            if "@sha256:" not in image and not any(mark in image for mark in ("{{", "$")) and tag in ("", "latest", "master", "main"):
                yield Found(image, said("image {image} has no release", image=image[:100]), "write the tag of a release, or a digest")


@file_rule("MAN007", "warning")
def autodetected_vip(files: Files) -> Iterator[Found]:
    """
    Calico may take the VIP for a node's address.

    Why it hurts: the first address that is found is taken; on the host that holds the VIP this can be the VIP itself. Calico then ends with
    a conflict, or sends the pods' packets to another host after the next failover.

    Example: an Installation without `nodeAddressAutodetectionV4`, or with `firstFound: true`, on hosts with keepalived.

    Use instead: `nodeAddressAutodetectionV4: {kubernetes: NodeInternalIP}`, and node-ip for the kubelet.

    Source: projectcalico/calico#5094, #5346, #6711; checklist row 69.
    """
    held = vips(files)
    if not held:
        return
    for _, document in _installations(files):
        network = ("spec", "calicoNetwork")
        detection = document.get(*network, "nodeAddressAutodetectionV4")
        only_six = isinstance(document.get(*network, "nodeAddressAutodetectionV6"), dict) and not any("." in address for address in held)
        if not only_six and (not isinstance(detection, dict) or detection.get("firstFound") == "true"):
            vip = next(iter(held))
            place = document.place(*network, "nodeAddressAutodetectionV4", "firstFound") if detection else document.place("kind")
            message = said("Calico may take the VIP {vip} for a node's address", vip=vip)
            remedy = "set nodeAddressAutodetectionV4 to kubernetes: NodeInternalIP"
            yield Found(place, message, remedy, (held[vip][1].related("keepalived's address"),))


@file_rule("MAN008", "error")
def two_networks(files: Files) -> Iterator[Found]:
    """
    Manifests of flannel and of Calico in one set.

    Why it hurts: both write a configuration to /etc/cni/net.d, and the first by name counts on each host; pods get addresses of one and
    routes of the other.

    Example: kube-flannel.yml and Calico's custom-resources.yaml in one folder that is applied as a whole.

    Use instead: one of the two; where both were tried, remove the other's files from /etc/cni/net.d and start the hosts again.

    Source: Kubernetes, network plugins; checklist row 70.
    """
    flannel = [document.place("metadata", "name") for _, document in files.documents("DaemonSet") if _called(document, "kube-flannel")]
    calico = [document.place("kind") for _, document in _installations(files)]
    calico += [document.place("metadata", "name") for _, document in files.documents("DaemonSet") if _called(document, "calico-node")]
    if flannel and calico:
        yield Found(calico[0], "flannel and Calico are both there", "keep one of them", (flannel[0].related("flannel's manifest"),))


def _called(document: Document, name: str) -> bool:
    return (value(document, "metadata", "name") or "").startswith(name)
