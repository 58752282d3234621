"""ETC: etcd's flags and directory."""

import re
from collections.abc import Iterator

from generator.diagnostics import Fix, Path
from generator.lint import Finding, rule
from generator.model import Cluster
from generator.wording import conjoined, said

_ARGS: Path = ("cluster", "etcd", "extraArgs")
_DATA_DIR: Path = ("cluster", "etcd", "dataDir")
_MEMBERSHIP = (
    "discovery",
    "discovery-srv",
    "force-new-cluster",
    "initial-cluster",
    "initial-cluster-state",
    "initial-cluster-token",
    "name",
)
_OWNED = frozenset(
    (
        "advertise-client-urls",
        "cert-file",
        "client-cert-auth",
        "data-dir",
        "initial-advertise-peer-urls",
        "key-file",
        "listen-client-urls",
        "listen-peer-urls",
        "peer-cert-file",
        "peer-client-cert-auth",
        "peer-key-file",
        "peer-trusted-ca-file",
        "trusted-ca-file",
    )
)
# etcd 3.6, server/features: what became a gate; the two may not be given together.
_GATES = {
    "experimental-compact-hash-check-enabled": "CompactHashCheck",
    "experimental-enable-lease-checkpoint": "LeaseCheckpoint",
    "experimental-enable-lease-checkpoint-persist": "LeaseCheckpointPersist",
    "experimental-initial-corrupt-check": "InitialCorruptCheck",
    "experimental-stop-grpc-service-on-defrag": "StopGRPCServiceOnDefrag",
    "experimental-txn-mode-write-with-shared-buffer": "TxnModeWriteWithSharedBuffer",
}
_GONE_IN_36 = frozenset(
    (
        "enable-v2",
        "experimental-enable-v2v3",
        "proxy",
        "proxy-dial-timeout",
        "proxy-failure-wait",
        "proxy-read-timeout",
        "proxy-refresh-interval",
        "proxy-write-timeout",
    )
)
# Directories that packages, kubeadm, the kubelet or a container runtime fill and empty; of the second ones only they themselves.
_FOREIGN = re.compile(
    r"/(etc|usr|bin|sbin|lib|lib64|boot|var/lib/(kubelet|containerd|docker|containers|cni|dpkg|rpm)|opt/cni)(/.*)?"
    r"|/(var|var/lib|var/log|opt|home|root)"
)
_NUMBERS = ("max-request-bytes", "max-snapshots", "max-txn-ops", "max-wals", "quota-backend-bytes", "snapshot-count")
_SINCE_36 = frozenset(
    (
        "compact-hash-check-time",
        "compaction-batch-limit",
        "compaction-sleep-interval",
        "corrupt-check-time",
        "distributed-tracing-address",
        "downgrade-check-time",
        "enable-distributed-tracing",
        "feature-gates",
        "memory-mlock",
        "peer-skip-client-san-verification",
        "warning-apply-duration",
        "watch-progress-notify-interval",
    )
)


def _version(cluster: Cluster) -> tuple[int, int]:
    """Major and minor of etcd by its image tag, else by the Kubernetes minor."""
    found = re.match(r"v?([0-9]{1,3})\.([0-9]{1,3})\.", cluster.kubeadm_image_tags.etcd)
    if found:
        return int(found[1]), int(found[2])
    return (3, 6) if cluster.minor >= 34 else (3, 5)


@rule("ETC001", "error")
def membership_flags(cluster: Cluster) -> Iterator[Finding]:
    """
    A flag that says who the members of etcd are.

    Why it hurts: at `kubeadm init` a list of members that don't exist yet keeps etcd waiting for them for ever; at join it replaces what
    kubeadm has worked out. Once etcd runs it ignores the flag.

    Example: `etcd: {extraArgs: {initial-cluster: "master-1=https://192.168.1.25:2380,..."}}`, the origin's edit.

    Use instead: nothing: `kubeadm join` adds each member, and step 70 writes the whole list once all have joined.

    Source: kubeadm, phases/etcd/local.go; etcd clustering guide; facts.md 3.0 (measured: 50 committed writes lost).
    """
    for name, _ in cluster.etcd.extra_args:
        if name in _MEMBERSHIP:
            yield Finding(
                (*_ARGS, name),
                said("etcd flag {name} breaks init and join", name=name),
                "remove it: step 70 sees to the members",
                on_key=True,
                fix=Fix("remove"),
            )


@rule("ETC002", "error")
def owned_flags(cluster: Cluster) -> Iterator[Finding]:
    """
    An etcd flag that kubeadm works out for each member.

    Why it hurts: extraArgs are the same on every control plane, these values are not; with one host's URL or certificate on all of them
    the members can't find or trust each other.

    Example: `etcd: {extraArgs: {listen-client-urls: "https://192.168.1.25:2379"}}`.

    Use instead: nothing; `cluster.etcd.dataDir`, `serverCertSANs` and `peerCertSANs` for what may differ.

    Source: kubeadm, phases/etcd/local.go (getEtcdCommand).
    """
    for name, _ in cluster.etcd.extra_args:
        if name in _OWNED:
            yield Finding((*_ARGS, name), said("etcd flag {name} is kubeadm's to set", name=name), "remove it", on_key=True)


@rule("ETC003", "error")
def flag_and_gate(cluster: Cluster) -> Iterator[Finding]:
    """
    An experimental flag beside the feature gate that replaced it.

    Why it hurts: etcd 3.6 ends with "cannot specify both flags", and kubeadm sets the gate InitialCorruptCheck from 1.34 on.

    Example: `etcd: {extraArgs: {experimental-initial-corrupt-check: "true"}}` with 1.34.2.

    Use instead: remove it; other gates go into `feature-gates`, together with InitialCorruptCheck=true.

    Source: etcd 3.6, embed/config.go (SetFeatureGatesFromExperimentalFlags); kubeadm, phases/etcd/local.go.
    """
    args = dict(cluster.etcd.extra_args)
    gates = args.get("feature-gates", "InitialCorruptCheck=true")
    for name in args:
        if _version(cluster) >= (3, 6) and _GATES.get(name, "=") in gates.replace("=", ","):
            yield Finding(
                (*_ARGS, name), said("etcd flag {name} beside the gate {gate}", name=name, gate=_GATES[name]), "remove it", on_key=True
            )


@rule("ETC004", "warning")
def experimental_flags(cluster: Cluster) -> Iterator[Finding]:
    """
    An experimental flag that etcd 3.6 has renamed.

    Why it hurts: 3.6 still takes it and warns, 3.7 ends with "unknown flag" on every control plane after an upgrade.

    Example: `etcd: {extraArgs: {experimental-corrupt-check-time: 4h}}` with 1.34.2.

    Use instead: the name without `experimental-`, or a gate in `feature-gates`.

    Source: etcd, feature gates of 3.6 ("will be decommissioned in v3.7").
    """
    if _version(cluster) >= (3, 6):
        given = dict(cluster.etcd.extra_args)
        for name in given:
            if name.startswith("experimental-") and name not in _GONE_IN_36:
                use = (
                    said("use the gate {gate} in feature-gates", gate=_GATES[name])
                    if name in _GATES
                    else said("write {name}", name=name.removeprefix("experimental-"))
                )
                renamed = name.removeprefix("experimental-")
                # A name that 3.6 doesn't have, or that stands here too, is for somebody to look at.
                fix = Fix("rename", renamed) if renamed in _SINCE_36 and renamed not in given else None
                yield Finding((*_ARGS, name), said("etcd flag {name} is deprecated in etcd 3.6", name=name), use, on_key=True, fix=fix)


@rule("ETC005", "error")
def too_new_flags(cluster: Cluster) -> Iterator[Finding]:
    """
    An etcd flag that this etcd doesn't have yet.

    Why it hurts: etcd ends with "flag provided but not defined", the static pod crashes in a loop and `kubeadm init` times out.

    Example: `etcd: {extraArgs: {feature-gates: CompactHashCheck=true}}` with 1.33.1, which has etcd 3.5.

    Use instead: the flag's name with `experimental-` up to Kubernetes 1.33.

    Source: etcd, upgrade to 3.6 (flags added); kubeadm, phases/etcd/local.go.
    """
    version = _version(cluster)
    if version < (3, 6):
        for name, _ in cluster.etcd.extra_args:
            if name in _SINCE_36:
                gates = name == "feature-gates"
                use = "remove it" if gates else said("write experimental-{name}", name=name)
                former = f"experimental-{name}"
                yield Finding(
                    (*_ARGS, name),
                    said("etcd {major}.{minor} has no flag {name}", major=version[0], minor=version[1], name=name),
                    use,
                    on_key=True,
                    fix=None if gates or former in dict(cluster.etcd.extra_args) else Fix("rename", former),
                )


@rule("ETC006", "error")
def election_timeout(cluster: Cluster) -> Iterator[Finding]:
    """
    An election timeout of less than five heartbeats.

    Why it hurts: etcd refuses to start; and just above it, one lost packet starts an election.

    Example: `etcd: {extraArgs: {heartbeat-interval: "500"}}` with the default election-timeout of 1000 ms.

    Use instead: ten heartbeats: 500 and 5000.

    Source: etcd, embed/config.go ("should be at least as 5 times", at most 50000 ms); etcd tuning guide.
    """
    args = dict(cluster.etcd.extra_args)
    given = [name for name in ("heartbeat-interval", "election-timeout") if name in args]
    values = [args.get("heartbeat-interval", "100"), args.get("election-timeout", "1000")]
    if not all(re.fullmatch("[0-9]{1,9}", value) for value in values):
        yield Finding((*_ARGS, given[0]), said("etcd's {names}: not in milliseconds", names=conjoined(given)), "write a whole number")
        return
    beat, election = (int(value) for value in values)
    if given and not (beat > 0 and 5 * beat <= election <= 50_000):
        message = said("etcd's election-timeout {election} with heartbeat-interval {beat}", election=election, beat=beat)
        yield Finding((*_ARGS, given[-1]), message, "make election-timeout ten heartbeats, at most 50000")


@rule("ETC007", "warning")
def mount_root(cluster: Cluster) -> Iterator[Finding]:
    """
    The root of a file system as etcd's directory.

    Why it hurts: a directory right below / is mostly a mount of its own, a fresh ext4 one holds lost+found, and kubeadm's preflight wants
    an empty directory (DirAvailable).

    Example: `etcd: {dataDir: /data}`.

    Use instead: a directory below it: `/data/etcd`.

    Source: kubeadm, preflight/checks.go (DirAvailable--var-lib-etcd); facts.md 1.16.
    """
    if cluster.etcd.data_dir.count("/") == 1 and not _FOREIGN.fullmatch(cluster.etcd.data_dir):
        text = cluster.etcd.data_dir
        yield Finding(
            _DATA_DIR, said("etcd's directory {text} is likely the root of a file system", text=text), said("write {text}/etcd", text=text)
        )


@rule("ETC008", "error")
def volatile_directory(cluster: Cluster) -> Iterator[Finding]:
    """
    etcd's directory doesn't survive a boot.

    Why it hurts: a member that comes back empty has forgotten its votes; when all hosts lose power, the cluster is gone.

    Example: `etcd: {dataDir: /tmp/etcd}`, `/run/etcd`, `/dev/shm/etcd`.

    Use instead: `/var/lib/etcd`, on a disk of its own where there is one.

    Source: facts.md 3.0 (measured); systemd, file-hierarchy(7).
    """
    if re.match(r"/(tmp|var/tmp|run|var/run|dev|proc|sys)(/|$)", cluster.etcd.data_dir):
        yield Finding(
            _DATA_DIR, said("etcd's directory {folder} doesn't survive a boot", folder=cluster.etcd.data_dir), "write /var/lib/etcd"
        )


@rule("ETC009", "warning")
def large_quota(cluster: Cluster) -> Iterator[Finding]:
    """
    A database quota beyond what etcd advises.

    Why it hurts: each start reads the whole database and each new member copies it; etcd warns above 8 GiB.

    Example: `etcd: {extraArgs: {quota-backend-bytes: "17179869184"}}`.

    Use instead: 8589934592 at most.

    Source: etcd, system limits (8 GiB is the suggested maximum).
    """
    text = dict(cluster.etcd.extra_args).get("quota-backend-bytes", "0")
    if re.fullmatch("[0-9]{1,20}", text) and int(text) > 8 << 30:
        yield Finding(
            (*_ARGS, "quota-backend-bytes"), said("etcd's quota of {text} bytes is above 8 GiB", text=text), "write 8589934592 or less"
        )


@rule("ETC010", "error")
def foreign_directory(cluster: Cluster) -> Iterator[Finding]:
    """
    etcd's directory belongs to something else.

    Why it hurts: kubeadm's preflight wants an empty directory and refuses this one; and what else lives there (packages, the kubelet,
    the container runtime, `kubeadm reset`) empties or replaces it, and with it every object of the cluster.

    Example: `etcd: {dataDir: /var/lib/kubelet/etcd}`, `/etc/kubernetes/etcd`, `/var/lib`.

    Use instead: `/var/lib/etcd`, or a directory of its own on a disk of its own.

    Source: kubeadm, preflight/checks.go (DirAvailable--var-lib-etcd) and cmd/phases/reset (what it empties); FHS 3.0.
    """
    if _FOREIGN.fullmatch(cluster.etcd.data_dir):
        yield Finding(
            _DATA_DIR, said("etcd's directory {folder} belongs to something else", folder=cluster.etcd.data_dir), "write /var/lib/etcd"
        )


@rule("ETC011", "error")
def removed_flags(cluster: Cluster) -> Iterator[Finding]:
    """
    An etcd flag that is gone.

    Why it hurts: etcd ends with "flag provided but not defined", the static pod crashes in a loop and `kubeadm init` times out.

    Example: `etcd: {extraArgs: {enable-v2: "false"}}` with 1.34.2, which has etcd 3.6.

    Use instead: remove it: Kubernetes never uses etcd's old API.

    Source: etcd, CHANGELOG-3.6 (flags removed; etcd-io/etcd#19914, #21264).
    """
    version = _version(cluster)
    if version >= (3, 6):
        for name, _ in cluster.etcd.extra_args:
            if name in _GONE_IN_36:
                message = said("etcd {major}.{minor} has no flag {name}", major=version[0], minor=version[1], name=name)
                yield Finding((*_ARGS, name), message, "remove it", on_key=True, fix=Fix("remove"))


@rule("ETC012", "error")
def lost_log(cluster: Cluster) -> Iterator[Finding]:
    """
    A write-ahead log in the container's own file system.

    Why it hurts: of the host etcd's container has its data directory alone. What it writes elsewhere is gone with the container, at the
    next upgrade or reboot; the member comes back with data and without its log, and refuses to start.

    Example: `etcd: {extraArgs: {wal-dir: /data/wal}}`.

    Use instead: remove it, and put the whole `dataDir` on the fast disk.

    Source: kubeadm, phases/etcd/local.go (volumes: data and certificates); etcd, --wal-dir.
    """
    text, own = dict(cluster.etcd.extra_args).get("wal-dir", ""), cluster.etcd.data_dir
    if text and not f"{text}/".startswith(f"{own}/"):
        yield Finding((*_ARGS, "wal-dir"), said("wal-dir {text} is outside of dataDir {own}", text=text, own=own), "remove it")


@rule("ETC013", "error")
def no_number(cluster: Cluster) -> Iterator[Finding]:
    """
    An etcd number that is none.

    Why it hurts: etcd ends with "invalid value", the static pod crashes in a loop and `kubeadm init` times out; sizes are plain bytes here,
    without the units that Kubernetes knows.

    Example: `etcd: {extraArgs: {quota-backend-bytes: 8Gi}}`.

    Use instead: `quota-backend-bytes: "8589934592"`.

    Source: etcd, configuration flags; Go, strconv.ParseInt.
    """
    for name, value in cluster.etcd.extra_args:
        if name in _NUMBERS and not re.fullmatch(r"-?(0[xX][0-9A-Fa-f]+|[0-9][0-9_]*)", value):
            yield Finding((*_ARGS, name), said("etcd's {name} {value} is no number", name=name, value=value), "write a whole number")
