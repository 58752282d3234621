"""KUB: what the API server's flags turn off: admission, authorization, the audit log, the range of NodePorts."""

import re
from collections.abc import Iterator

from generator.diagnostics import Path, Related
from generator.lint import Finding, rule
from generator.lint.places import several, stated_at
from generator.model import Cluster
from generator.wording import conjoined, said

_ARGS: Path = ("cluster", "apiServer", "extraArgs")
_ENABLE, _DISABLE = "enable-admission-plugins", "disable-admission-plugins"
# Plugin: first minor without it (PodSecurityPolicy: KEP-2579; kubernetes/kubernetes#122612, #124505).
_GONE = {"Initializers": 14, "PodSecurityPolicy": 25, "SecurityContextDeny": 30, "PersistentVolumeLabel": 31}


def _listed(cluster: Cluster, flag: str) -> list[str]:
    """The values of a flag that takes several with commas between them; none where it isn't given."""
    return [part.strip() for part in dict(cluster.api_server_args).get(flag, "").split(",") if part.strip()]


@rule("KUB031", "error")
def removed_plugins(cluster: Cluster) -> Iterator[Finding]:
    """
    An admission plugin that is gone.

    Why it hurts: the API server ends with "admission-plugin ... is unknown", its static pod crashes in a loop and `kubeadm init` times out.

    Example: `enable-admission-plugins: NodeRestriction,PodSecurityPolicy`, gone in 1.25; SecurityContextDeny, gone in 1.30.

    Use instead: PodSecurity, which is on by default: labels of the namespaces say what it enforces.

    Source: kubernetes/kubernetes#122612, #124505; Kubernetes, "Migrate from PodSecurityPolicy to the Built-In PodSecurity Admission
    Controller".
    """
    for flag in (_ENABLE, _DISABLE):
        for plugin in _listed(cluster, flag):
            if cluster.minor >= _GONE.get(plugin, 999):
                yield Finding(
                    (*_ARGS, flag),
                    said("Kubernetes 1.{minor} has no admission plugin {plugin}", minor=cluster.minor, plugin=plugin),
                    said("remove {plugin}", plugin=plugin),
                )


@rule("KUB032", "warning")
def no_node_restriction(cluster: Cluster) -> Iterator[Finding]:
    """
    The admission plugin NodeRestriction is lost.

    Why it hurts: it keeps a kubelet to its own node and the pods on it; without it whoever takes one worker may change the labels, taints
    and pods of all. kubeadm turns it on by the same flag, of which your value takes the place.

    Example: `apiServer: {extraArgs: {enable-admission-plugins: PodNodeSelector}}`.

    Use instead: `enable-admission-plugins: NodeRestriction,PodNodeSelector`.

    Source: kubeadm, phases/controlplane/manifests.go; kubernetes/kubeadm#2075 (it is not on by default); k3s-io/k3s#794.
    """
    given = dict(cluster.api_server_args)
    if _ENABLE in given and "NodeRestriction" not in _listed(cluster, _ENABLE):
        yield Finding((*_ARGS, _ENABLE), "enable-admission-plugins takes kubeadm's NodeRestriction away", "add NodeRestriction to the list")
    elif "NodeRestriction" in _listed(cluster, _DISABLE):
        yield Finding((*_ARGS, _DISABLE), "disable-admission-plugins turns NodeRestriction off", "remove NodeRestriction from the list")


@rule("KUB033", "error")
def authorization_modes(cluster: Cluster) -> Iterator[Finding]:
    """
    Authorization without Node and RBAC, or with AlwaysAllow.

    Why it hurts: kubelets have their rights from the mode Node, and kubeadm's join, the controllers and the CNI theirs from RBAC; without
    one of the two nodes don't register or pods get no network. AlwaysAllow gives every user every right.

    Example: `apiServer: {extraArgs: {authorization-mode: RBAC}}`; `authorization-mode: AlwaysAllow`.

    Use instead: remove it: kubeadm sets `Node,RBAC`; further modes such as Webhook go behind these two.

    Source: kubeadm, phases/controlplane/manifests.go (a value takes the default's place); Kubernetes, "Using Node Authorization".
    """
    modes = _listed(cluster, "authorization-mode")
    path = (*_ARGS, "authorization-mode")
    missing = [mode for mode in ("Node", "RBAC") if mode not in modes]
    if "AlwaysAllow" in modes:
        yield Finding(path, "authorization-mode AlwaysAllow gives every user every right", "remove it: kubeadm sets Node,RBAC")
    elif modes and missing:
        yield Finding(path, said("authorization-mode lacks {modes}", modes=conjoined(missing)), "write Node,RBAC before other modes")


@rule("KUB034", "warning")
def hidden_audit_log(cluster: Cluster) -> Iterator[Finding]:
    """
    An audit log that nobody finds.

    Why it hurts: the API server writes the file in its container, which has no such directory of the host; the log can't be collected and
    is gone with the container, and with it what an incident would be cleared up by.

    Example: `apiServer: {extraArgs: {audit-log-path: /var/log/kubernetes/audit.log}}`.

    Use instead: `audit-log-path: "-"`: then it stands in the container's log, below /var/log/pods on the host.

    Source: kubeadm, phases/controlplane/volumes.go; Kubernetes, Auditing (*Log backend*: "-" is standard out; mount the hostPath).
    """
    text = dict(cluster.api_server_args).get("audit-log-path", "-")
    if text not in ("-", ""):
        yield Finding(
            (*_ARGS, "audit-log-path"),
            said("audit log {file} is written inside of the API server's container", file=text),
            'write "-": it is then in the container\'s log on the host',
        )


@rule("KUB035", "error")
def node_port_range(cluster: Cluster) -> Iterator[Finding]:
    """
    A range of NodePorts that is none.

    Why it hurts: the API server ends with "is not a valid port range" and `kubeadm init` times out.

    Example: `service-node-port-range: 30000-327670`; `30000:32767`; `32767-30000`.

    Use instead: `30000-32767`, the default, or another range within 1 to 65535.

    Source: kube-apiserver, --service-node-port-range; apimachinery, util/net (ParsePortRange).
    """
    text = dict(cluster.api_server_args).get("service-node-port-range", "30000-32767")
    found = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5})|\+[0-9]{1,5})?", text.strip())
    if not found or not int(found[1]) <= int(found[2] or 65535) <= 65535:
        yield Finding(
            (*_ARGS, "service-node-port-range"),
            said("service-node-port-range {text} is no range of ports", text=text),
            "write a range such as 30000-32767",
        )


@rule("KUB042", "warning")
def always_and_never(cluster: Cluster) -> Iterator[Finding]:
    """
    AlwaysPullImages where images are never pulled.

    Why it hurts: the plugin makes every pod's pull policy Always, so the images that were imported count for nothing: without a registry
    that has them, CoreDNS, kube-proxy and the CNI stay in ImagePullBackOff.

    Example: `enable-admission-plugins: NodeRestriction,AlwaysPullImages`, as security scanners advise, with `imagePullPolicy: Never`.

    Use instead: remove the plugin; or a registry for all images, and no `imagePullPolicy`.

    Source: Kubernetes, Admission Control (*AlwaysPullImages*).
    """
    never = [host for host in cluster.kubernetes_hosts if host.settings.image_pull_policy == "Never"]
    if never and "AlwaysPullImages" in _listed(cluster, _ENABLE):
        yield Finding(
            (*_ARGS, _ENABLE),
            said("AlwaysPullImages, with imagePullPolicy Never on {hosts}", hosts=several(never)),
            "remove AlwaysPullImages, or imagePullPolicy where a registry has every image",
            related=(Related(stated_at(cluster, never[0], "imagePullPolicy"), "the policy"),),
        )
