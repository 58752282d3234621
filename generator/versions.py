"""What depends on a release: tables copied from upstream, and the questions that the compiler asks of them.

Sources: image tags from ``kubeadm config images list`` of each release (minikube's machine-maintained list and
``cmd/kubeadm/app/constants/constants.go``); flannel from each tag's ``Documentation/kube-flannel.yml``; Calico from each tag's
``manifests/tigera-operator.yaml`` and its requirements page; containerd from ``RELEASES.md`` and ``docs/cri/config.md``.
A release that has no row is never guessed: rule KUB002 asks for its tags.
"""

from __future__ import annotations

from dataclasses import dataclass

OLDEST_MINOR = 28
NEWEST_MINOR = 36

Patch = tuple[int, int]


@dataclass(frozen=True, slots=True)
class KubeadmTags:
    """Tags of the images that kubeadm names by itself: pause, etcd, coredns."""

    pause: str
    etcd: str
    coredns: str


# (minor, first patch, last patch): tags
_TAGS: dict[tuple[int, int, int], KubeadmTags] = {
    (28, 0, 5): KubeadmTags("3.9", "3.5.9-0", "v1.10.1"),
    (28, 6, 7): KubeadmTags("3.9", "3.5.10-0", "v1.10.1"),
    (28, 8, 13): KubeadmTags("3.9", "3.5.12-0", "v1.10.1"),
    (28, 14, 15): KubeadmTags("3.9", "3.5.15-0", "v1.10.1"),
    (29, 0, 2): KubeadmTags("3.9", "3.5.10-0", "v1.11.1"),
    (29, 3, 8): KubeadmTags("3.9", "3.5.12-0", "v1.11.1"),
    (29, 9, 10): KubeadmTags("3.9", "3.5.15-0", "v1.11.1"),
    (29, 11, 15): KubeadmTags("3.9", "3.5.16-0", "v1.11.1"),
    (30, 0, 4): KubeadmTags("3.9", "3.5.12-0", "v1.11.1"),
    (30, 5, 14): KubeadmTags("3.9", "3.5.15-0", "v1.11.3"),
    (31, 0, 0): KubeadmTags("3.10", "3.5.15-0", "v1.11.1"),
    (31, 1, 13): KubeadmTags("3.10", "3.5.15-0", "v1.11.3"),
    (31, 14, 14): KubeadmTags("3.10", "3.5.24-0", "v1.11.3"),
    (32, 0, 9): KubeadmTags("3.10", "3.5.16-0", "v1.11.3"),
    (32, 10, 13): KubeadmTags("3.10", "3.5.24-0", "v1.11.3"),
    (33, 0, 5): KubeadmTags("3.10", "3.5.21-0", "v1.12.0"),
    (33, 6, 13): KubeadmTags("3.10", "3.5.24-0", "v1.12.0"),
    (34, 0, 1): KubeadmTags("3.10.1", "3.6.4-0", "v1.12.1"),
    (34, 2, 10): KubeadmTags("3.10.1", "3.6.5-0", "v1.12.1"),
    (35, 0, 7): KubeadmTags("3.10.1", "3.6.6-0", "v1.13.1"),
    (36, 0, 3): KubeadmTags("3.10.2", "3.6.8-0", "v1.14.2"),
}


def kubeadm_tags(version: str) -> KubeadmTags | None:
    """The tags for exactly *version* (``1.29.3``), or None where the table has no row."""
    _, minor, patch = (int(part) for part in version.split("."))
    for (row, first, last), tags in _TAGS.items():
        if row == minor and first <= patch <= last:
            return tags
    return None


def newest_patch(minor: int) -> str:
    """The newest release of *minor* in the table."""
    return f"1.{minor}.{max(last for row, _, last in _TAGS if row == minor)}"


def kubeadm_api(minor: int) -> str:
    """Configuration version of kubeadm for *minor*: v1beta4 from 1.31 on, where it came; v1beta3 is gone from 1.37 on."""
    return "v1beta4" if minor >= 31 else "v1beta3"


# kubeadm's own feature gates: name, first minor, last minor that knows it (cmd/kubeadm/app/features).
KUBEADM_GATES: dict[str, tuple[int, int]] = {
    "PublicKeysECDSA": (28, 36),
    "RootlessControlPlane": (28, 36),
    "EtcdLearnerMode": (28, 32),
    "UpgradeAddonsBeforeControlPlane": (28, 30),
    "WaitForAllControlPlaneComponents": (30, 34),
    "ControlPlaneKubeletLocalMode": (31, 36),
    "NodeLocalCRISocket": (32, 36),
}


@dataclass(frozen=True, slots=True)
class FlannelRow:
    """One range of flannel releases: first and last as (minor, patch) of 0.minor.patch, and what their manifest names."""

    first: Patch
    last: Patch
    plugin: str
    registry: str
    image: str = ""  # where the in-tree manifest lags behind its own tag


_DOCKER, _GHCR = "docker.io/flannel", "ghcr.io/flannel-io"
_FLANNEL = (
    FlannelRow((22, 0), (22, 0), "v1.1.2", _DOCKER),
    FlannelRow((22, 1), (23, 0), "v1.2.0", _DOCKER),
    FlannelRow((24, 0), (24, 1), "v1.2.0", _DOCKER),
    FlannelRow((24, 2), (25, 1), "v1.4.0-flannel1", _DOCKER),
    FlannelRow((25, 2), (25, 4), "v1.4.1-flannel1", _DOCKER),
    FlannelRow((25, 5), (25, 5), "v1.5.1-flannel1", _DOCKER),
    FlannelRow((25, 6), (26, 1), "v1.5.1-flannel2", _DOCKER),
    FlannelRow((26, 2), (26, 3), "v1.6.0-flannel1", _DOCKER),
    FlannelRow((26, 4), (26, 7), "v1.6.2-flannel1", _GHCR),
    FlannelRow((27, 0), (27, 3), "v1.7.1-flannel1", _GHCR),
    FlannelRow((27, 4), (28, 0), "v1.8.0-flannel1", _GHCR),
    FlannelRow((28, 1), (28, 2), "v1.9.0-flannel1", _GHCR),
    FlannelRow((28, 3), (28, 5), "v1.9.1-flannel1", _GHCR),
    FlannelRow((28, 6), (28, 8), "v1.9.1-flannel2", _GHCR),
    FlannelRow((28, 9), (28, 9), "v1.9.1-flannel3", _GHCR),
)
# Last patch of each flannel minor; a release beyond has no row.
_FLANNEL_LAST = {22: 3, 23: 0, 24: 4, 25: 7, 26: 7, 27: 4, 28: 9}


def split_patch(version: str) -> Patch:
    """``0.28.9`` or ``3.31.5`` as (28, 9) or (31, 5)."""
    _, minor, patch = (int(part) for part in version.split("."))
    return minor, patch


def flannel_row(version: str) -> FlannelRow | None:
    """The row of flannel *version*, or None where it isn't known."""
    at = split_patch(version)
    if at[1] > _FLANNEL_LAST.get(at[0], -1):
        return None
    return next((row for row in _FLANNEL if row.first <= at <= row.last), None)


@dataclass(frozen=True, slots=True)
class CalicoMinor:
    """One Calico minor: its operator tag per patch, the Kubernetes minors it was tested with, its manifests in order of creation."""

    operators: tuple[str, ...]
    tested: tuple[int, int]
    manifests: tuple[str, ...]


_ONE = ("tigera-operator.yaml",)
_TWO = ("operator-crds.yaml", "tigera-operator.yaml")
_CRDS = ("v1_crd_projectcalico_org.yaml", "tigera-operator.yaml")
CALICO: dict[int, CalicoMinor] = {
    27: CalicoMinor(("v1.32.3", "v1.32.4", "v1.32.5", "v1.32.7", "v1.32.10", "v1.32.12"), (27, 29), _ONE),
    28: CalicoMinor(("v1.34.0", "v1.34.3", "v1.34.5", "v1.34.8", "v1.34.10", "v1.34.13"), (27, 30), _ONE),
    29: CalicoMinor(("v1.36.0", "v1.36.2", "v1.36.5", "v1.36.7", "v1.36.9", "v1.36.12", "v1.36.14", "v1.36.16"), (29, 32), _ONE),
    30: CalicoMinor(("v1.38.0", "v1.38.1", "v1.38.3", "v1.38.6", "v1.38.7", "v1.38.9", "v1.38.11", "v1.38.13"), (31, 35), _TWO),
    31: CalicoMinor(("v1.40.0", "v1.40.1", "v1.40.2", "v1.40.3", "v1.40.7", "v1.40.8", "v1.40.13", "v1.40.15"), (32, 35), _TWO),
    32: CalicoMinor(("v1.42.0", "v1.42.3"), (34, 36), _CRDS),
}


def calico_operator(version: str) -> str | None:
    """Tag of quay.io/tigera/operator for Calico *version*, or None where it isn't known."""
    minor, patch = split_patch(version)
    row = CALICO.get(minor)
    return row.operators[patch] if row and patch < len(row.operators) else None


def calico_for(minor: int) -> str:
    """The newest Calico that was tested with Kubernetes *minor*."""
    best = max((m for m, row in CALICO.items() if row.tested[0] <= minor <= row.tested[1]), default=max(CALICO))
    return f"3.{best}.{len(CALICO[best].operators) - 1}"


def calico_registry(version: str) -> str:
    """The operator's built-in registry: docker.io until Calico 3.30.3, quay.io from 3.30.4 on (operator v1.38.7)."""
    return "quay.io" if split_patch(version) >= (30, 4) else "docker.io"


def calico_components(*, api_server: bool) -> tuple[str, ...]:
    """What Calico's operator starts on Linux without optional parts, the same from 3.27 to 3.32; *api_server* adds Calico's own."""
    always = ("node", "cni", "kube-controllers", "typha", "pod2daemon-flexvol", "csi", "node-driver-registrar")
    return (*always, "apiserver") if api_server else always


# Kubernetes minor: the oldest containerd minor recommended for it (containerd RELEASES.md), as (major, minor).
CONTAINERD_FLOOR: dict[int, Patch] = {
    28: (1, 6),
    29: (1, 6),
    30: (1, 6),
    31: (1, 6),
    32: (1, 6),
    33: (1, 6),
    34: (1, 6),
    35: (1, 7),
    36: (2, 2),
}


def containerd_for(minor: int) -> str:
    """The containerd minor that is taken where a host names none; 2.x comes from Docker's package, no distribution here ships one."""
    return "2.2" if minor >= 33 else "1.7"


@dataclass(frozen=True, slots=True)
class OsFamily:
    """What the compiler must know of a family of distributions."""

    name: str
    nginx_user: str
    nginx_module: str
    nginx_packages: tuple[str, ...]
    arping_package: str
    host_packages: tuple[str, ...]
    selinux_packages: tuple[str, ...]


FAMILIES = {
    "rhel": OsFamily(
        "rhel",
        "nginx",
        "/usr/lib64/nginx/modules/ngx_stream_module.so",
        ("nginx", "nginx-mod-stream"),
        "iputils",
        # Names are what packages provide: on EL9 iptables-nft provides iptables, and curl-minimal curl. Step 10 asks for the provider.
        ("iproute", "iptables", "conntrack-tools", "socat", "ethtool", "tar", "openssl"),
        ("policycoreutils-python-utils",),
    ),
    "debian": OsFamily(
        "debian",
        "www-data",
        "/usr/lib/nginx/modules/ngx_stream_module.so",
        ("nginx", "libnginx-mod-stream"),
        "iputils-arping",
        ("iproute2", "iptables", "conntrack", "socat", "ethtool", "tar", "openssl"),
        (),
    ),
}

# name: family, kernel (major, minor) that the release ships with
OPERATING_SYSTEMS: dict[str, tuple[str, Patch]] = {
    "rocky-9": ("rhel", (5, 14)),
    "rhel-9": ("rhel", (5, 14)),
    "almalinux-9": ("rhel", (5, 14)),
    "openeuler-24.03": ("rhel", (6, 6)),
    "debian-12": ("debian", (6, 1)),
    "debian-13": ("debian", (6, 12)),
    "ubuntu-22.04": ("debian", (5, 15)),
    "ubuntu-24.04": ("debian", (6, 8)),
}

# The newest cri-dockerd whose files are known by name for each release here; it is in no repository (packaging/ of Mirantis/cri-dockerd).
# Debian 13 and openEuler have no build of their own: they take the next best, as does Docker's repository for the RHEL family.
CRI_DOCKERD = "0.3.21"
_EL9 = "cri-dockerd-{version}-3.el9.x86_64.rpm"
_BOOKWORM = "cri-dockerd_{version}.3-0.debian-bookworm_amd64.deb"
CRI_DOCKERD_FILES: dict[str, str] = {
    **dict.fromkeys(("rocky-9", "rhel-9", "almalinux-9", "openeuler-24.03"), _EL9),
    **dict.fromkeys(("debian-12", "debian-13"), _BOOKWORM),
    "ubuntu-22.04": "cri-dockerd_{version}.3-0.ubuntu-jammy_amd64.deb",
    "ubuntu-24.04": "cri-dockerd_{version}.3-0.ubuntu-noble_amd64.deb",
}
# Folder of download.docker.com/linux, and the release or suite in it (docs.docker.com, Install Docker Engine).
DOCKER_PLACES: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("rocky-9", "almalinux-9", "openeuler-24.03"), ("centos", "9")),
    "rhel-9": ("rhel", "9"),
    "debian-12": ("debian", "bookworm"),
    "debian-13": ("debian", "trixie"),
    "ubuntu-22.04": ("ubuntu", "jammy"),
    "ubuntu-24.04": ("ubuntu", "noble"),
}

# What the kubelet checks with protectKernelDefaults (pkg/kubelet/cm/container_manager_linux.go, setupKernelTunables).
KERNEL_DEFAULTS = {
    "kernel.keys.root_maxbytes": "25000000",
    "kernel.keys.root_maxkeys": "1000000",
    "kernel.panic": "10",
    "kernel.panic_on_oops": "1",
    "vm.overcommit_memory": "1",
    "vm.panic_on_oom": "0",
}
