"""SCR: scripts and notes by which people put a cluster up."""

import re
from collections.abc import Iterator
from posixpath import basename

from generator.handwritten import Files, Node, Word
from generator.lint import Found, file_rule
from generator.wording import said

_MANIFESTS = "/etc/kubernetes/manifests"
_PKI = "/etc/kubernetes/pki/"
# What each control plane makes for itself; only ca, sa, front-proxy-ca and etcd/ca are shared.
_OWN = re.compile(rf"{_PKI}(apiserver(-kubelet-client)?|front-proxy-client|etcd/(server|peer|healthcheck-client))\.(crt|key)$")
_BACKUP = re.compile(r"\.(bak|backup|old|orig|save|copy)\d*$|\.(ya?ml|json)[.~_-].+$|~$|\.(ya?ml|json)\{,", re.IGNORECASE)
_BRANCH = re.compile(
    r"https?://(?:raw\.githubusercontent\.com/[^/]+/[^/]+/(?:refs/heads/)?(?:master|main|HEAD)/"
    r"|github\.com/[^/]+/[^/]+/(?:raw|blob)/(?:refs/heads/)?(?:master|main|HEAD)/)",
)


def _manifests(node: Node) -> list[Word]:
    """What ``kubectl apply`` or ``create`` reads, of the command *node*; nothing for another one."""
    if basename(node.name) != "kubectl" or not any(word in ("apply", "create", "replace") for word in node.args):
        return []
    return [after for before, after in zip(node.args, node.args[1:], strict=False) if before in ("-f", "--filename")] + [
        word for word in node.args if word.startswith(("--filename=", "-f="))
    ]


@file_rule("SCR008", "error")
def own_certificates(files: Files) -> Iterator[Found]:
    """
    Certificates that belong to one control plane are copied to another.

    Why it hurts: they bear the name and address of the first host; clients refuse the second one's API server and etcd, and kubeadm keeps
    what it finds instead of making its own.

    Example: `scp /etc/kubernetes/pki/apiserver.crt master-2:/etc/kubernetes/pki/`.

    Use instead: the eight shared files alone (ca, sa, front-proxy-ca and etcd/ca, each with its key), or `--upload-certs`.

    Source: kubeadm, creating highly available clusters, manual certificate distribution; kubernetes/website#12407.
    """
    for _, root in files.of("script"):
        for node in root.walk("scp", "rsync"):
            sources = [word for word in node.args if not word.startswith("-")][:-1]
            target = node.args[-1] if node.args else ""
            for word in sources:
                if (_OWN.match(word) or word.rstrip("/*") == _PKI.rstrip("/")) and ":/etc/kubernetes" in target:
                    yield Found(word, said("{file} holds what belongs to this host alone", file=word), "copy only what is shared")


@file_rule("SCR009", "warning")
def stored_token(files: Files) -> Iterator[Found]:
    """
    The join command with its token is written to a file.

    Why it hurts: whoever reads the file may add a machine to the cluster for a day, and a copy of it often stays in backups and images.

    Example: `kubeadm token create --print-join-command > /root/join.sh`.

    Use instead: hand it over at the time of the join; else a file that only root can read, removed after it.

    Source: kubeadm, `kubeadm token create` (lives 24 hours).
    """
    for _, root in files.of("script"):
        nodes = root.children or ()
        for node, after in zip(nodes, (*nodes[1:], None), strict=False):
            if basename(node.name) == "kubeadm" and "--print-join-command" in node.args:
                files_named = [r.value for r in node.all(">", ">>") if r.value is not None]
                if after is not None and after.name == "tee" and any(True for _ in node.all("|")):
                    files_named += [word for word in after.args if not word.startswith("-")]
                for target in files_named:
                    if not target.startswith(("/dev/", "$", "&")):
                        yield Found(
                            target, said("the token for joining is written to {file}", file=target), "remove the file after the join"
                        )


@file_rule("SCR010", "warning")
def branch_manifest(files: Files) -> Iterator[Found]:
    """
    A manifest from a branch.

    Why it hurts: the branch is another file tomorrow: the second cluster gets other versions than the first, and nobody has changed
    anything.

    Example: `wget https://raw.githubusercontent.com/coreos/flannel/master/Documentation/kube-flannel.yml`.

    Use instead: a release (`.../v0.28.9/...`), kept with its checksum beside the script.

    Source: checklist row 67.
    """
    for _, root in files.of("script"):
        for node in root.walk("wget", "curl", "kubectl"):
            for word in node.args:
                if _BRANCH.match(word) and re.search(r"\.(ya?ml|json)$", word):
                    yield Found(word, said("{file} comes from a branch", file=basename(word)), "name a release")


@file_rule("SCR011", "error")
def too_large_for_apply(files: Files) -> Iterator[Found]:
    """
    kubectl apply of Calico's operator manifest.

    Why it hurts: apply keeps the whole object in an annotation of at most 262,144 bytes; the operator's definitions are larger and are
    refused.

    Example: `kubectl apply -f tigera-operator.yaml`, as in the origin.

    Use instead: `kubectl create -f`, or `kubectl apply --server-side -f`.

    Source: projectcalico/calico#7826; facts 7.4.
    """
    for _, root in files.of("script"):
        for node in root.walk("kubectl"):
            if "apply" in node.args and not any(word.startswith("--server-side") for word in node.args):
                for word in _manifests(node):
                    if basename(word) == "tigera-operator.yaml":
                        yield Found(word, "this manifest is too large for a client-side apply", "add --server-side, or use kubectl create")


@file_rule("SCR012", "error")
def two_networks(files: Files) -> Iterator[Found]:
    """
    Two pod networks are installed.

    Why it hurts: the runtime takes the file that is first in `/etc/cni/net.d`: pods of one host end up in either network and don't reach
    each other.

    Example: `kubectl apply -f kube-flannel.yml` and `kubectl create -f custom-resources.yaml` in one script.

    Use instead: one of the two.

    Source: checklist row 70; kubeadm, installing a pod network add-on (one per cluster).
    """
    for _, root in files.of("script"):
        if any(node.name in ("[", "[[", "test") for node in root.children or ()):
            # Somebody chooses.
            continue
        found: dict[str, Word] = {}
        for node in root.walk("kubectl"):
            for word in _manifests(node):
                name = basename(word)
                kind = "flannel" if "flannel" in name else "Calico" if re.match(r"calico\b|tigera-operator|custom-resources", name) else ""
                other = next((place for known, place in found.items() if known != kind), None)
                if kind and kind not in found:
                    found[kind] = word
                    if other is not None:
                        yield Found(
                            word,
                            "a second pod network beside the first one",
                            "install one of them",
                            related=(other.related("the first network"),),
                        )


@file_rule("SCR013", "error")
def backup_among_manifests(files: Files) -> Iterator[Found]:
    """
    A backup in the folder of static pods.

    Why it hurts: the kubelet reads every file there whose name doesn't begin with a dot, whatever it ends in: the old and the new pod
    replace each other without end.

    Example: `cp etcd.yaml etcd.yaml.bak` in `/etc/kubernetes/manifests`.

    Use instead: another folder, such as `/etc/kubernetes/backup`.

    Source: kubernetes/kubernetes#129364; kubernetes/kubeadm#2823; facts 3.3.
    """
    for _, root in files.of("script"):
        inside = False
        for node in root.children or ():
            if node.name == "cd":
                inside = (node.value or "").rstrip("/") == _MANIFESTS
            target = _backup(node, inside=inside)
            if target is not None:
                yield Found(target, said("the kubelet runs {file}, too", file=basename(target)), "put backups into another folder")


def _backup(node: Node, *, inside: bool) -> Word | None:
    """The word of *node* that makes a backup in the folder of static pods, where the command may run *inside* of it."""
    words = [word for word in node.args if not word.startswith("-")]

    def here(word: str) -> bool:
        return word.startswith(_MANIFESTS + "/") or (inside and not word.startswith(("/", "$", "~", "..")) and "/" not in word)

    if node.name == "sed":
        option = next((word for word in node.args if re.match(r"-[nrEsz]*i.+|--in-place=.+", word)), None)
        return option if words and here(words[-1]) else None
    if node.name in ("cp", "mv") and words:
        hidden = basename(words[-1]).startswith(".")
        return words[-1] if here(words[-1]) and _BACKUP.search(words[-1]) and not hidden else None
    return None


@file_rule("SCR014", "error")
def edited_members(files: Files) -> Iterator[Found]:
    """
    The members of etcd are edited in its static pod.

    Why it hurts: kubeadm has added the member at the join; the flag counts only for an empty data directory, and each edit restarts that
    member: on all hosts at once, etcd loses its majority.

    Example: `sed -i s/--initial-cluster=.*/.../ /etc/kubernetes/manifests/etcd.yaml`.

    Use instead: nothing; `etcdctl member list` shows the members.

    Source: etcd, clustering guide; kubeadm, `join --control-plane`; facts 3.0 and 3.2.
    """
    for _, root in files.of("script"):
        for node in root.walk("sed", "yq", "perl"):
            edits = any(re.match(r"-\w*i|--in-?place", word) for word in node.args)
            for word in node.args:
                if edits and "initial-cluster" in word and any(basename(other) == "etcd.yaml" for other in node.args):
                    yield Found(word, "the members of etcd are none of its manifest's business", "remove it: the join has added the member")


@file_rule("SCR015", "info")
def needless_restart(files: Files) -> Iterator[Found]:
    """
    The kubelet is restarted for a static pod.

    Why it hurts: it watches the folder by itself; the restart does nothing for the pod, and on all hosts at once it hides which edit has
    broken what.

    Example: an edit of `/etc/kubernetes/manifests/etcd.yaml`, then `systemctl restart kubelet`, as in the origin.

    Use instead: wait until the pod of one host is back before the next one is edited.

    Source: checklist row 62; Kubernetes, static pods.
    """
    for _, root in files.of("script"):
        edited: Word | None = None
        for node in root.children or ():
            pod = next((word for word in node.args if word.startswith(_MANIFESTS + "/")), None)
            if pod is not None and node.name in ("vim", "vi", "nano", "sed", "yq", "perl"):
                edited = pod
            if node.name == "systemctl" and "restart" in node.args and edited is not None:
                for word in node.args:
                    if word in ("kubelet", "kubelet.service"):
                        yield Found(
                            word,
                            "the kubelet needs no restart to see a static pod",
                            "remove it, and go from host to host",
                            related=(edited.related("the static pod"),),
                        )


@file_rule("SCR016", "warning")
def switched_off(files: Files) -> Iterator[Found]:
    """
    A guard of the host is switched off.

    Why it hurts: the whole host is open for the sake of a few ports or one label, and the next update or boot brings the guard back.

    Example: `setenforce 0`, `systemctl disable --now firewalld`.

    Use instead: open the ports (6443, 2379, 2380, 10250, the endpoint's, VRRP), label nginx's port with `semanage port`.

    Source: Kubernetes, ports and protocols; facts 5.7 and 6.4.
    """
    for _, root in files.of("script"):
        for node in root.children or ():
            if node.name == "setenforce" and node.value in ("0", "Permissive", "permissive"):
                yield Found(node.name, "SELinux is switched off until the next boot", "label the port with semanage instead")
            if node.name == "systemctl" and any(word in ("disable", "stop", "mask") for word in node.args):
                for word in node.args:
                    if word.removesuffix(".service") in ("firewalld", "ufw"):
                        yield Found(word, said("{unit} is switched off altogether", unit=word), "open the ports that the cluster needs")


@file_rule("SCR017", "warning")
def never_started(files: Files) -> Iterator[Found]:
    """
    keepalived is enabled and not started.

    Why it hurts: `enable` counts from the next boot on: until then no host holds the VIP, and `kubeadm init` waits for an endpoint that
    isn't there.

    Example: `systemctl enable keepalived.service` and nothing else, beside `systemctl enable --now nginx`, as in the origin.

    Use instead: `systemctl enable --now keepalived`, after nginx has been started.

    Source: systemctl(1), *enable* and *--now*; checklist row 27.
    """
    for _, root in files.of("script"):
        commands = list(root.walk("systemctl", "service", "reboot", "init", "shutdown"))
        if any(node.name in ("reboot", "init", "shutdown") or "reboot" in node.args for node in commands):
            continue
        here = [(node, word) for node in commands for word in node.args if word.removesuffix(".service") == "keepalived"]
        started = any("--now" in node.args or {"start", "restart", "reload-or-restart"} & set(node.args) for node, _ in here)
        for node, word in here:
            if not started and node.name == "systemctl" and "enable" in node.args:
                yield Found(word, "keepalived is enabled, and nothing starts it before the next boot", "add --now")


@file_rule("SCR018", "info")
def swap_until_boot(files: Files) -> Iterator[Found]:
    """
    Swap is switched off until the next boot.

    Why it hurts: after it the kubelet refuses to start, on all hosts of a rack at once after a power cut.

    Example: `swapoff -a`, and the line stays in `/etc/fstab`.

    Use instead: comment the line out as well, or mask the `.swap` unit.

    Source: kubeadm, before you begin; systemd.swap(5); facts 6.3.
    """
    for file, root in files.of("script"):
        for node in root.walk("swapoff"):
            if "-a" in node.args and not re.search(r"fstab|\.swap\b|swap\.target|zram", file.source.text):
                yield Found(node.name, "swap is back after the next boot", "comment it out in /etc/fstab, too")
