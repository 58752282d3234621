"""KUB: what kubeadm, the API server and kube-proxy refuse or misread, release by release."""

import re
from collections.abc import Iterator

from netaddr import valid_ipv6

from generator import versions
from generator.diagnostics import Fix, Path, Related
from generator.lint import Finding, rule
from generator.lint.places import grouped, seconds, several
from generator.model import Cluster
from generator.wording import said

# Go's time.Duration: 63 bits of nanoseconds, somewhat more than 292 years.
_LONGEST = (1 << 63) // 10**9
_SUBDOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")


@rule("KUB001", "error")
def endpoint_without_port(cluster: Cluster) -> Iterator[Finding]:
    """
    The endpoint has no port.

    Why it hurts: kubeadm then takes the API server's own port, so every kubeconfig names VIP:6443 and nobody ever uses the load balancer
    on 16443: when the VIP's holder loses its API server, the cluster is gone for all.

    Example: `controlPlaneEndpoint: {name: backend, address: 192.168.1.31/24}`; the origin's `--control-plane-endpoint=192.168.1.31`.

    Use instead: `port: 16443`, the port that the load balancer is to listen on.

    Source: kubeadm, v1beta4/types.go ("without a TCP port, the BindPort is used"); kubesphere/kubekey#3021.
    """
    if cluster.endpoint is not None and cluster.endpoint.port == 0:
        yield Finding(
            ("controlPlaneEndpoint", "port"),
            "controlPlaneEndpoint has no port: kubeadm would take the API server's own, past the load balancer",
            "add `port: 16443`",
        )


@rule("KUB002", "error")
def no_image_tags(cluster: Cluster) -> Iterator[Finding]:
    """
    The tags of pause, etcd or CoreDNS are not known for this release.

    Why it hurts: kubeadm names these images by tables of its own, which change between patch releases; a payload with a guessed tag lacks
    the image that the host asks for, in a place without a network.

    Example: `kubernetesVersion: 1.33.40`, newer than this stowage.

    Use instead: `cluster.images: {pause: ..., etcd: ..., coredns: ...}`, copied from `kubeadm config images list` of that release.

    Source: kubeadm, constants.go and images.go; kubernetes/kubeadm#2801, #3232.
    """
    tags = cluster.kubeadm_image_tags
    missing = [name for name in ("pause", "etcd", "coredns") if not getattr(tags, name)]
    if missing:
        yield Finding(
            ("cluster", "kubernetesVersion"),
            said(
                "no image tags of {names} are known for Kubernetes {version}", names=", ".join(missing), version=cluster.kubernetes_version
            ),
            "add them to cluster.images, from `kubeadm config images list` of that release",
        )


@rule("KUB003", "error")
def unknown_minor(cluster: Cluster) -> Iterator[Finding]:
    """
    A Kubernetes minor that this stowage has no data for.

    Why it hurts: configuration versions, flags and feature gates differ between minors; for an unknown one they would be guessed.

    Example: `kubernetesVersion: 1.27.16`.

    Use instead: 1.28 to 1.36, or a newer stowage.

    Source: design.md, section 1; kubernetes/kubernetes#136016 (v1beta3 is gone from 1.37 on).
    """
    if not versions.OLDEST_MINOR <= cluster.minor <= versions.NEWEST_MINOR:
        yield Finding(
            ("cluster", "kubernetesVersion"),
            said(
                "Kubernetes {version} is not among 1.{oldest} to 1.{newest}",
                version=cluster.kubernetes_version,
                oldest=versions.OLDEST_MINOR,
                newest=versions.NEWEST_MINOR,
            ),
            "choose a release of these minors",
        )


@rule("KUB004", "error")
def endpoint_port_range(cluster: Cluster) -> Iterator[Finding]:
    """
    The endpoint's port is none.

    Why it hurts: kubeadm refuses the endpoint, nginx its configuration.

    Example: `port: 164430`.

    Use instead: 1 to 65535; 16443 is a good one.

    Source: kubeadm's ValidateHostPort.
    """
    endpoint = cluster.endpoint
    if endpoint is not None and endpoint.port != 0 and not 1 <= endpoint.port <= 65535:
        yield Finding(
            ("controlPlaneEndpoint", "port"), said("port {port} is not in 1 to 65535", port=endpoint.port), "write a port such as 16443"
        )


@rule("KUB005", "error")
def service_size(cluster: Cluster) -> Iterator[Finding]:
    """
    The service network is too small or too large.

    Why it hurts: kubeadm refuses fewer than 10 addresses (the tenth is the DNS service) and more than 20 bits of them.

    Example: `serviceSubnet: 10.96.0.0/29`, `serviceSubnet: fd00:10:96::/64`.

    Use instead: /12 to /28 for IPv4, /108 to /124 for IPv6.

    Source: kubeadm's ValidateServiceSubnetSize, MinimumAddressesInServiceSubnet.
    """
    for network in cluster.service_subnets:
        bits = (32 if network.version == 4 else 128) - network.prefixlen
        if 1 << bits < 10 or bits > 20:
            limits = said("/12 to /28") if network.version == 4 else said("/108 to /124")
            what = (
                said("serviceSubnet {network} is too wide", network=network)
                if bits > 20
                else said("serviceSubnet {network} is too small", network=network)
            )
            yield Finding(("cluster", "serviceSubnet"), what, said("write {limits}", limits=limits))


@rule("KUB007", "error")
def feature_gates(cluster: Cluster) -> Iterator[Finding]:
    """
    A feature gate that this kubeadm doesn't know.

    Why it hurts: kubeadm refuses its whole configuration for one unknown gate; gates come and go with the minors, and the components'
    gates belong into their extraArgs.

    Example: `featureGates: {EtcdLearnerMode: true}` with 1.33, which has dropped it.

    Use instead: no gates, the default; or those that `kubeadm init --help` of this minor lists.

    Source: kubeadm's ValidateFeatureGates and cmd/kubeadm/app/features of each minor.
    """
    for name, _ in cluster.feature_gates:
        first, last = versions.KUBEADM_GATES.get(name, (0, 0))
        if not first <= cluster.minor <= last:
            known = said("1.{first} to 1.{last} know it", first=first, last=last) if last else said("no release of kubeadm knows it")
            yield Finding(
                ("cluster", "featureGates", name),
                said("kubeadm 1.{minor} has no feature gate {name}", minor=cluster.minor, name=name),
                said("remove it: {known}", known=known),
                on_key=True,
            )


@rule("KUB008", "error")
def too_new_settings(cluster: Cluster) -> Iterator[Finding]:
    """
    A setting that this kubeadm doesn't have yet.

    Why it hurts: v1beta3, the configuration of 1.28 to 1.30, has no such field: the certificates would get kubeadm's defaults.

    Example: `encryptionAlgorithm: ECDSA-P256` with 1.29.3; ECDSA-P384 came with 1.34.

    Use instead: remove it, or choose a newer kubernetesVersion.

    Source: kubeadm, v1beta4/types.go; kubernetes/kubernetes#123054, #131677.
    """
    settings = {
        "encryptionAlgorithm": (cluster.encryption_algorithm, 34 if cluster.encryption_algorithm == "ECDSA-P384" else 31),
        "certificateValidityPeriod": (cluster.certificate_validity, 31),
        "caCertificateValidityPeriod": (cluster.ca_certificate_validity, 31),
    }
    for key, (value, minor) in settings.items():
        if value and cluster.minor < minor:
            yield Finding(
                ("cluster", key),
                said(
                    "{key} {value} needs Kubernetes 1.{minor}, this is {version}",
                    key=key,
                    value=value,
                    minor=minor,
                    version=cluster.kubernetes_version,
                ),
                "remove it, or choose a newer kubernetesVersion",
                related=(Related(("cluster", "kubernetesVersion"), "the release"),),
            )


def _is_san(text: str) -> bool:
    if ":" in text:
        return bool(valid_ipv6(text))
    return _SUBDOMAIN.fullmatch(text.removeprefix("*.")) is not None


@rule("KUB009", "error")
def bad_san(cluster: Cluster) -> Iterator[Finding]:
    """
    A certificate name that kubeadm refuses.

    Why it hurts: `kubeadm init` ends at the first one.

    Example: `certSANs: [API.example.net]`, `certSANs: ["api.example.net:6443"]`.

    Use instead: an address, a name in lower case, or a wildcard such as `*.example.net`.

    Source: kubeadm's ValidateCertSANs.
    """
    lists: dict[Path, tuple[str, ...]] = {
        ("cluster", "apiServer", "certSANs"): cluster.cert_sans,
        ("cluster", "etcd", "serverCertSANs"): cluster.etcd.server_cert_sans,
        ("cluster", "etcd", "peerCertSANs"): cluster.etcd.peer_cert_sans,
    }
    for path, names in lists.items():
        for index, name in enumerate(names):
            if not _is_san(name):
                # DNS knows no case.
                fix = Fix("set", name.lower()) if _is_san(name.lower()) else None
                message = said("{name} can't be a certificate's name", name=name)
                yield Finding((*path, index), message, "write an address or a name in lower case", fix=fix)


@rule("KUB010", "error")
def ignore_all(cluster: Cluster) -> Iterator[Finding]:
    """
    All preflight checks are ignored, and single ones too.

    Why it hurts: kubeadm refuses the mixture; and `all` hides the checks that would have stopped a broken host.

    Example: `ignorePreflightErrors: [all, Swap]`.

    Use instead: the names of the checks that are known to be wrong here.

    Source: kubeadm's ValidateIgnorePreflightErrors.
    """
    for path, hosts in grouped(cluster, cluster.kubernetes_hosts, "ignorePreflightErrors").items():
        names = {name.lower() for name in hosts[0].settings.ignore_preflight_errors}
        if "all" in names and len(names) > 1:
            yield Finding(
                path, said("ignorePreflightErrors of {hosts} mixes all with single checks", hosts=several(hosts)), "name single checks only"
            )


@rule("KUB040", "warning")
def ignore_everything(cluster: Cluster) -> Iterator[Finding]:
    """
    Every preflight check is ignored.

    Why it hurts: kubeadm goes on over a port that is in use, over the data of an old etcd, over a host without forwarding; what a check
    would have said in a second shows as a timeout minutes later.

    Example: `ignorePreflightErrors: [all]`.

    Use instead: the names of the checks that are known to be wrong here, such as `[SystemVerification]`; preflight lists them.

    Source: kubeadm, preflight/checks.go; kubeadm init, --ignore-preflight-errors ("Value 'all' ignores errors from all checks").
    """
    for path, hosts in grouped(cluster, cluster.kubernetes_hosts, "ignorePreflightErrors").items():
        # Beside others it is refused: rule KUB010.
        if {name.lower() for name in hosts[0].settings.ignore_preflight_errors} == {"all"}:
            yield Finding(
                path, said("ignorePreflightErrors of {hosts} ignores every check", hosts=several(hosts)), "name single checks only"
            )


@rule("KUB012", "warning")
def ipvs_proxy(cluster: Cluster) -> Iterator[Finding]:
    """
    kube-proxy in its deprecated ipvs mode.

    Why it hurts: the mode is deprecated from 1.35 on and will be removed; a cluster that starts with it has a migration ahead.

    Example: `kubeProxy: {mode: ipvs}` with 1.35.0.

    Use instead: `nftables`, or `iptables`, the default.

    Source: kubernetes/enhancements#6120; kubernetes/kubeadm#3309.
    """
    if cluster.proxy_mode == "ipvs" and cluster.minor >= 35:
        yield Finding(
            ("cluster", "kubeProxy", "mode"),
            said("ipvs is deprecated in Kubernetes 1.{minor}", minor=cluster.minor),
            "use nftables or iptables",
        )


@rule("KUB013", "error")
def nftables_proxy(cluster: Cluster) -> Iterator[Finding]:
    """
    nftables mode in a kube-proxy that doesn't have it.

    Why it hurts: up to 1.30 the mode is missing or behind a feature gate that is off, so kube-proxy doesn't start and no service works.

    Example: `kubeProxy: {mode: nftables}` with 1.30.14.

    Use instead: `iptables`, or 1.31 and newer.

    Source: KEP-3866 (alpha in 1.29, beta in 1.31, stable in 1.33).
    """
    if cluster.proxy_mode == "nftables" and cluster.minor < 31:
        yield Finding(
            ("cluster", "kubeProxy", "mode"),
            said("Kubernetes 1.{minor} has no nftables mode by default", minor=cluster.minor),
            "use iptables",
        )


@rule("KUB014", "warning")
def idle_strict_arp(cluster: Cluster) -> Iterator[Finding]:
    """
    strictARP without ipvs mode.

    Why it hurts: it changes nothing: only ipvs mode puts service addresses on an interface that could answer ARP for them.

    Example: `kubeProxy: {strictARP: true}` with the default mode iptables.

    Use instead: remove it.

    Source: kube-proxy, config/v1alpha1/types.go (*ipvs.strictARP*); MetalLB, installation.
    """
    if cluster.strict_arp and cluster.proxy_mode != "ipvs":
        yield Finding(
            ("cluster", "kubeProxy", "strictARP"),
            said("strictARP has no effect in {mode} mode", mode=cluster.proxy_mode),
            "remove it",
            on_key=True,
            fix=Fix("remove"),
        )


@rule("KUB015", "error")
def leaf_outlives_ca(cluster: Cluster) -> Iterator[Finding]:
    """
    Certificates outlive the CA that signs them.

    Why it hurts: on the day that the CA ends every certificate of it ends too, long before the date that is written in it and that
    everyone watches.

    Example: `certificateValidityPeriod: 175200h` with the CA's default of 87600h.

    Use instead: a `caCertificateValidityPeriod` that is several times as long.

    Source: RFC 5280, section 6.1; kubeadm, v1beta4 (8760h and 87600h).
    """
    leaf, authority = cluster.certificate_validity or "8760h", cluster.ca_certificate_validity or "87600h"
    if seconds(leaf) > seconds(authority):
        key = "certificateValidityPeriod" if cluster.certificate_validity else "caCertificateValidityPeriod"
        yield Finding(
            ("cluster", key),
            said("certificates of {leaf} outlive their CA of {authority}", leaf=leaf, authority=authority),
            "make the CA live longer",
        )


@rule("KUB039", "error")
def endless_duration(cluster: Cluster) -> Iterator[Finding]:
    """
    A duration that kubeadm can't count.

    Why it hurts: kubeadm's durations end at 292 years, 2562047h; it refuses its whole configuration for a longer one ("invalid duration").

    Example: `caCertificateValidityPeriod: 8760000h`, a thousand years.

    Use instead: at most 2562047h; 876000h is a hundred years.

    Source: Go, time.Duration and time.ParseDuration.
    """
    durations: dict[Path, str] = {
        ("cluster", "certificateValidityPeriod"): cluster.certificate_validity,
        ("cluster", "caCertificateValidityPeriod"): cluster.ca_certificate_validity,
        ("cluster", "bootstrapToken", "ttl"): cluster.token_ttl,
        ("cluster", "bootstrapToken", "trip"): cluster.trip,
        ("cluster", "timeouts", "controlPlane"): cluster.control_plane_timeout,
        ("cluster", "timeouts", "discovery"): cluster.discovery_timeout,
    }
    for path, text in durations.items():
        if seconds(text) >= _LONGEST:
            yield Finding(path, said("{key} {text} is longer than kubeadm can count", key=path[-1], text=text), "write at most 2562047h")
