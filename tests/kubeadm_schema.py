"""kubeadm's configuration as kubeadm itself would judge it: field tables as data, and the rules of ``kubeadm config validate``.

Sources: ``cmd/kubeadm/app/apis/kubeadm/v1beta3`` and ``v1beta4`` (types.go), ``validation/validation.go``, ``features``;
KubeletConfiguration v1beta1; KubeProxyConfiguration v1alpha1.  Written apart from the compiler, which it does not import.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import yaml as pyyaml
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

# -- types ------------------------------------------------------------------------------------------------------------------------

# A field is one of these words, or a table (an object), or a list of one table (a list of objects).
#   string bool int duration strings map (string to string) gates (string to bool) arguments (as the version has them)
Table = dict[str, Any]

DURATION = re.compile(r"([0-9]+(\.[0-9]+)?(h|m|s|ms|us|ns))+|0")
SUBDOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
TOKEN = re.compile(r"[a-z0-9]{6}\.[a-z0-9]{16}")
REPOSITORY = re.compile(
    r"(?=.{1,255}$)((?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*(?::[0-9]+)?/?)?[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
)

# -- field tables: (both versions), + what only one of them has ---------------------------------------------------------------------

TAINT = {"key": "string", "value": "string", "effect": "string", "timeAdded": "string"}
ENVIRONMENT = {"name": "string", "value": "string", "valueFrom": "map"}
VOLUME = {"name": "string", "hostPath": "string", "mountPath": "string", "readOnly": "bool", "pathType": "string"}
ENDPOINT = {"advertiseAddress": "string", "bindPort": "int"}
PATCHES = {"directory": "string"}
TIMEOUTS = {
    "controlPlaneComponentHealthCheck": "duration", "kubeletHealthCheck": "duration", "kubernetesAPICall": "duration", "etcdAPICall": "duration",
    "tlsBootstrap": "duration", "discovery": "duration", "upgradeManifests": "duration",
}  # fmt: skip
BOOTSTRAP_TOKEN = {
    "token": "string",
    "description": "string",
    "ttl": "duration",
    "expires": "string",
    "usages": "strings",
    "groups": "strings",
}


def tables(version: str) -> dict[str, Table]:
    """Kinds of ``kubeadm.k8s.io/VERSION``, with their fields."""
    four = version == "v1beta4"

    def only_four(**fields: Any) -> Table:
        return fields if four else {}

    component = {"extraArgs": "arguments", "extraVolumes": [VOLUME], **only_four(extraEnvs=[ENVIRONMENT])}
    registration = {
        "name": "string", "criSocket": "string", "taints": [TAINT], "kubeletExtraArgs": "arguments", "ignorePreflightErrors": "strings",
        "imagePullPolicy": "string", **only_four(imagePullSerial="bool"),
    }  # fmt: skip
    local = {
        "imageRepository": "string", "imageTag": "string", "dataDir": "string", "extraArgs": "arguments", "serverCertSANs": "strings",
        "peerCertSANs": "strings", **only_four(extraEnvs=[ENVIRONMENT]),
    }  # fmt: skip
    external = {"endpoints": "strings", "caFile": "string", "certFile": "string", "keyFile": "string"}
    bootstrap = {"token": "string", "apiServerEndpoint": "string", "caCertHashes": "strings", "unsafeSkipCAVerification": "bool"}
    discovery = {
        "bootstrapToken": bootstrap, "file": {"kubeConfigPath": "string"}, "tlsBootstrapToken": "string", **({} if four else {"timeout": "duration"}),
    }  # fmt: skip
    kinds: dict[str, Table] = {
        "InitConfiguration": {
            "bootstrapTokens": [BOOTSTRAP_TOKEN], "nodeRegistration": registration, "localAPIEndpoint": ENDPOINT, "certificateKey": "string",
            "skipPhases": "strings", "patches": PATCHES, **only_four(dryRun="bool", timeouts=TIMEOUTS),
        },
        "ClusterConfiguration": {
            "etcd": {"local": local, "external": external},
            "networking": {"serviceSubnet": "string", "podSubnet": "string", "dnsDomain": "string"},
            "kubernetesVersion": "string", "controlPlaneEndpoint": "string",
            "apiServer": {**component, "certSANs": "strings", **({} if four else {"timeoutForControlPlane": "duration"})},
            "controllerManager": component, "scheduler": component,
            "dns": {"imageRepository": "string", "imageTag": "string", **only_four(disabled="bool")},
            "certificatesDir": "string", "imageRepository": "string", "featureGates": "gates", "clusterName": "string",
            **only_four(
                proxy={"disabled": "bool"}, encryptionAlgorithm="string", certificateValidityPeriod="duration", caCertificateValidityPeriod="duration"
            ),
        },
        "JoinConfiguration": {
            "nodeRegistration": registration, "caCertPath": "string", "discovery": discovery,
            "controlPlane": {"localAPIEndpoint": ENDPOINT, "certificateKey": "string"}, "skipPhases": "strings", "patches": PATCHES,
            **only_four(dryRun="bool", timeouts=TIMEOUTS),
        },
    }  # fmt: skip
    return {kind: {"apiVersion": "string", "kind": "string", **fields} for kind, fields in kinds.items()}


KUBELET = {
    "apiVersion": "string", "kind": "string", "cgroupDriver": "string", "maxPods": "int", "podPidsLimit": "int", "failSwapOn": "bool",
    "failCgroupV1": "bool", "serverTLSBootstrap": "bool", "protectKernelDefaults": "bool", "imageGCHighThresholdPercent": "int",
    "imageGCLowThresholdPercent": "int", "containerLogMaxSize": "string", "containerLogMaxFiles": "int", "shutdownGracePeriod": "duration",
    "shutdownGracePeriodCriticalPods": "duration", "systemReserved": "map", "kubeReserved": "map", "evictionHard": "map", "evictionSoft": "map",
    "staticPodPath": "string", "clusterDNS": "strings", "clusterDomain": "string", "healthzBindAddress": "string", "healthzPort": "int",
    "readOnlyPort": "int", "rotateCertificates": "bool", "resolvConf": "string", "fileCheckFrequency": "duration", "featureGates": "gates",
    "tlsCipherSuites": "strings", "serializeImagePulls": "bool", "maxParallelImagePulls": "int", "containerRuntimeEndpoint": "string",
    "memorySwap": {"swapBehavior": "string"},
}  # fmt: skip
KUBE_PROXY = {
    "apiVersion": "string", "kind": "string", "mode": "string", "clusterCIDR": "string", "bindAddress": "string", "healthzBindAddress": "string",
    "metricsBindAddress": "string", "nodePortAddresses": "strings", "detectLocalMode": "string", "clientConnection": {"kubeconfig": "string"},
    "conntrack": {"maxPerCore": "int", "min": "int"}, "featureGates": "gates",
    "ipvs": {
        "scheduler": "string", "strictARP": "bool", "excludeCIDRs": "strings", "syncPeriod": "duration", "minSyncPeriod": "duration",
        "tcpTimeout": "duration", "tcpFinTimeout": "duration", "udpTimeout": "duration",
    },
}  # fmt: skip
COMPONENTS = {
    ("kubelet.config.k8s.io/v1beta1", "KubeletConfiguration"): KUBELET,
    ("kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration"): KUBE_PROXY,
}
ACCEPTED = {"v1beta3": range(22, 37), "v1beta4": range(31, 99)}

# Which kubeadm minors know a gate: an unknown one is an error.
GATES = {
    "PublicKeysECDSA": range(19, 37), "RootlessControlPlane": range(22, 37), "EtcdLearnerMode": range(27, 33),
    "UpgradeAddonsBeforeControlPlane": range(28, 31), "WaitForAllControlPlaneComponents": range(30, 35),
    "ControlPlaneKubeletLocalMode": range(31, 99), "NodeLocalCRISocket": range(32, 99),
}  # fmt: skip
ALGORITHMS = ("RSA-2048", "RSA-3072", "RSA-4096", "ECDSA-P256", "ECDSA-P384")

# -- reading ----------------------------------------------------------------------------------------------------------------------


def documents(text: str) -> list[Any]:
    """
    The documents of *text*, read twice.

    Raises ValueError where YAML 1.2 (duplicate keys refused) and YAML 1.1 read different data: kubeadm's parser is between the two.
    """
    try:
        modern = list(YAML(typ="safe", pure=True).load_all(text))
    except YAMLError as error:
        raise ValueError(str(error)) from None
    old = list(pyyaml.safe_load_all(text))
    if modern != old:
        raise ValueError("YAML 1.1 and 1.2 disagree")
    return modern


def complaints(text: str, minor: int) -> list[str]:
    """Everything that ``kubeadm config validate`` of Kubernetes 1.*minor* would refuse in *text*."""
    try:
        read = documents(text)
    except ValueError as error:
        return [str(error)]
    found: list[str] = []
    seen: dict[str, Any] = {}
    for document in read:
        if not isinstance(document, dict) or not isinstance(document.get("apiVersion"), str) or not isinstance(document.get("kind"), str):
            found.append("a document without apiVersion or kind")
            continue
        group, _, version = document["apiVersion"].rpartition("/")
        kind = document["kind"]
        if kind in seen:
            found.append(f"{kind} twice")
        seen[kind] = document
        if group == "kubeadm.k8s.io":
            kinds = tables(version) if version in ACCEPTED else {}
            if version not in ACCEPTED or minor not in ACCEPTED[version]:
                found.append(f"kubeadm 1.{minor} doesn't take {document['apiVersion']}")
            table = kinds.get(kind)
        else:
            table = COMPONENTS.get((document["apiVersion"], kind))
        if table is None:
            found.append(f"no kind {document['apiVersion']} {kind}")
            continue
        found += _fields(document, table, kind, version)
    if {"InitConfiguration", "JoinConfiguration"} <= seen.keys():
        found.append("InitConfiguration and JoinConfiguration in one file")
    if len({d["apiVersion"] for d in seen.values() if d["apiVersion"].startswith("kubeadm.")}) > 1:
        found.append("two versions of kubeadm's configuration in one file")
    if not found:  # the rules count on right types
        for kind, document in seen.items():
            found += [f"{kind}.{why}" for why in RULES[kind](document, minor)]
    return found


def _fields(value: dict[str, Any], table: Table, where: str, version: str) -> Iterator[str]:
    for name, item in value.items():
        if name not in table:
            yield f"unknown field {where}.{name}"
        else:
            yield from _typed(item, table[name], f"{where}.{name}", version)


def _typed(value: Any, wanted: Any, where: str, version: str) -> Iterator[str]:
    if isinstance(wanted, dict):
        if isinstance(value, dict):
            yield from _fields(value, wanted, where, version)
        else:
            yield f"{where} is no object"
    elif isinstance(wanted, list):
        if not isinstance(value, list):
            yield f"{where} is no list"
        else:
            for index, item in enumerate(value):
                yield from _typed(item, wanted[0], f"{where}[{index}]", version)
    elif wanted == "arguments" and version != "v1beta3":
        yield from _arguments(value, where)
    elif wanted == "arguments":
        yield from _typed(value, "map", where, version)
    elif not _is(value, wanted):
        yield f"{where} is no {wanted}: {value!r}"


def _arguments(value: Any, where: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{where} is no list of name and value"
        return
    for index, item in enumerate(value):
        if not isinstance(item, dict) or set(item) != {"name", "value"} or not all(isinstance(part, str) for part in item.values()):
            yield f"{where}[{index}] is no name and value"
        elif not item["name"]:
            yield f"{where}[{index}] has no name"


def _is(value: Any, wanted: str) -> bool:
    return {
        "string": lambda: isinstance(value, str),
        "bool": lambda: isinstance(value, bool),
        "int": lambda: isinstance(value, int) and not isinstance(value, bool),
        "duration": lambda: isinstance(value, str) and DURATION.fullmatch(value) is not None,
        "strings": lambda: isinstance(value, list) and all(isinstance(item, str) for item in value),
        "map": lambda: isinstance(value, dict) and all(isinstance(k, str) and isinstance(v, str) for k, v in value.items()),
        "gates": lambda: isinstance(value, dict) and all(isinstance(k, str) and isinstance(v, bool) for k, v in value.items()),
    }[wanted]()


# -- rules ------------------------------------------------------------------------------------------------------------------------


def address(text: str) -> bool:
    """Whether *text* is an address, as Go's net.ParseIP has it."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def _registration(node: dict[str, Any]) -> Iterator[str]:
    if not SUBDOMAIN.fullmatch(node.get("name", "")):
        yield "nodeRegistration.name is no DNS-1123 subdomain"
    if urlsplit(node.get("criSocket", "")).scheme != "unix":
        yield "nodeRegistration.criSocket has no scheme unix"
    if node.get("imagePullPolicy", "IfNotPresent") not in ("Always", "IfNotPresent", "Never"):
        yield "nodeRegistration.imagePullPolicy"
    ignored = [name.lower() for name in node.get("ignorePreflightErrors", [])]
    if "all" in ignored and len(ignored) > 1:
        yield "nodeRegistration.ignorePreflightErrors: all must stand alone"
    for taint in node.get("taints", []):
        if not taint.get("key") or taint.get("effect") not in ("NoSchedule", "PreferNoSchedule", "NoExecute"):
            yield "nodeRegistration.taints"


def _local_endpoint(endpoint: dict[str, Any]) -> Iterator[str]:
    if not address(endpoint.get("advertiseAddress", "")) or ipaddress.ip_address(endpoint["advertiseAddress"]).is_unspecified:
        yield "localAPIEndpoint.advertiseAddress is no address to advertise"
    if not 1 <= endpoint.get("bindPort", 6443) <= 65535:
        yield "localAPIEndpoint.bindPort"


def _shared(document: dict[str, Any], minor: int) -> Iterator[str]:
    yield from _registration(document.get("nodeRegistration", {}))
    # Both are known, but secret: the bundle holds none.
    if re.search(r"certificateKey|[^.]\btoken\b", str(document)):
        yield "holds a secret"
    if minor >= 35 and "pod-infra-container-image" in str(document):
        yield "nodeRegistration.kubeletExtraArgs: the kubelet doesn't know pod-infra-container-image"
    if document.get("patches", {"directory": "/x"}).get("directory", "")[:1] != "/":
        yield "patches.directory is not absolute"


def _init(document: dict[str, Any], minor: int) -> Iterator[str]:
    yield from _shared(document, minor)
    yield from _local_endpoint(document.get("localAPIEndpoint", {}))
    for token in document.get("bootstrapTokens", []):
        # Without one kubeadm makes it (util/config/initconfiguration.go), before it validates.
        if not TOKEN.fullmatch(token.get("token", "abcdef.0123456789abcdef")) or ("ttl" in token and "expires" in token):
            yield "bootstrapTokens"


def _join(document: dict[str, Any], minor: int) -> Iterator[str]:
    yield from _shared(document, minor)
    discovery = document.get("discovery", {})
    if len({"bootstrapToken", "file"} & discovery.keys()) != 1:
        yield "discovery is not exactly one of bootstrapToken and file"
    if "file" in discovery and not discovery["file"].get("kubeConfigPath", "").startswith(("/", "https://")):
        yield "discovery.file.kubeConfigPath is neither a path nor an https URL"
    if "caCertPath" in document and not re.fullmatch(r"/.*\.crt", document["caCertPath"]):
        yield "caCertPath"
    if "localAPIEndpoint" in document.get("controlPlane", {}):
        yield from _local_endpoint(document["controlPlane"]["localAPIEndpoint"])


def _networks(text: str, least: int, where: str) -> Iterator[str]:
    try:
        networks = [ipaddress.ip_network(part) for part in text.split(",")]
    except ValueError:
        yield f"networking.{where} is no network"
        return
    if len(networks) > 2 or len({n.version for n in networks}) != len(networks):
        yield f"networking.{where} is not one network, or one a family"
    for network in networks:
        if network.num_addresses < least:
            yield f"networking.{where} {network} is too small"
        if where == "serviceSubnet" and network.max_prefixlen - network.prefixlen > 20:
            yield f"networking.{where} {network} is too large"


def _cluster(document: dict[str, Any], minor: int) -> Iterator[str]:
    match = re.fullmatch(r"v1\.([0-9]+)\.[0-9]+", document.get("kubernetesVersion", ""))
    if not match or int(match[1]) != minor:
        yield "kubernetesVersion is not pinned to this minor"
    networking = document.get("networking", {})
    yield from _networks(networking.get("serviceSubnet", "10.96.0.0/12"), 10, "serviceSubnet")
    yield from _networks(networking.get("podSubnet", "10.244.0.0/16"), 14, "podSubnet")
    yield from _node_masks(document)
    if not SUBDOMAIN.fullmatch(networking.get("dnsDomain", "cluster.local")):
        yield "networking.dnsDomain"
    yield from _endpoint(document.get("controlPlaneEndpoint", ""))
    yield from _etcd(document.get("etcd", {"local": {}}))
    for where, names in (("apiServer.certSANs", document.get("apiServer", {}).get("certSANs", [])),):
        yield from _sans(names, where)
    for name in document.get("featureGates", {}):
        if minor not in GATES.get(name, ()):
            yield f"featureGates: kubeadm 1.{minor} doesn't know {name}"
    algorithm = document.get("encryptionAlgorithm", "RSA-2048")
    if algorithm not in ALGORITHMS or (algorithm == "ECDSA-P384" and minor < 34):
        yield "encryptionAlgorithm"
    if not REPOSITORY.fullmatch(document.get("imageRepository", "registry.k8s.io")):
        yield "imageRepository"
    if not document.get("certificatesDir", "/").startswith("/"):
        yield "certificatesDir"


def _node_masks(document: dict[str, Any]) -> Iterator[str]:
    arguments = document.get("controllerManager", {}).get("extraArgs", {})
    if isinstance(arguments, list):
        arguments = {item["name"]: item["value"] for item in arguments}
    if arguments.get("allocate-node-cidrs") == "false":
        return
    for part in document.get("networking", {}).get("podSubnet", "10.244.0.0/16").split(","):
        try:
            network = ipaddress.ip_network(part)
        except ValueError:
            continue
        mask = int(arguments.get(f"node-cidr-mask-size-ipv{network.version}", {4: 24, 6: 64}[network.version]))
        if not 0 <= mask - network.prefixlen <= 16:
            yield f"networking.podSubnet {network} doesn't go with a node mask of {mask}"


def _endpoint(text: str) -> Iterator[str]:
    if not text:
        return
    match = re.fullmatch(r"(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<name>[^:\[\]]+))(?::(?P<port>[0-9]+))?", text)
    host = match and (match["six"] or match["name"])
    if not match or not host or not (address(host) or SUBDOMAIN.fullmatch(host)):
        yield "controlPlaneEndpoint"
    elif match["port"] is None:
        yield "controlPlaneEndpoint has no port: kubeadm would take bindPort"
    elif not 1 <= int(match["port"]) <= 65535:
        yield "controlPlaneEndpoint: port"


def _sans(names: list[str], where: str) -> Iterator[str]:
    for name in names:
        if not (address(name) or SUBDOMAIN.fullmatch(name.removeprefix("*."))):
            yield f"{where} {name!r}"


def _etcd(etcd: dict[str, Any]) -> Iterator[str]:
    if len(etcd) != 1:
        yield "etcd is not exactly one of local and external"
    local = etcd.get("local", {})
    if not local.get("dataDir", "/var/lib/etcd").startswith("/"):
        yield "etcd.local.dataDir is not absolute"
    for where in ("serverCertSANs", "peerCertSANs"):
        yield from _sans(local.get(where, []), f"etcd.local.{where}")
    arguments = local.get("extraArgs", {})
    names = [item["name"] for item in arguments] if isinstance(arguments, list) else list(arguments)
    # At init and join they break the bootstrap.
    if {"initial-cluster", "initial-cluster-state"} & set(names):
        yield "etcd.local.extraArgs names the members"


def _kubelet(document: dict[str, Any], minor: int) -> Iterator[str]:
    if document.get("cgroupDriver") != "systemd":
        yield "cgroupDriver is not systemd"
    if "failCgroupV1" in document and minor < 31:
        yield "failCgroupV1 came with 1.31"
    if document.get("imageGCLowThresholdPercent", 80) >= document.get("imageGCHighThresholdPercent", 85):
        yield "imageGCLowThresholdPercent is not below imageGCHighThresholdPercent"
    if document.get("podPidsLimit", -1) < -1:
        yield "podPidsLimit"


def _kube_proxy(document: dict[str, Any], minor: int) -> Iterator[str]:
    if document.get("mode", "") not in ("", "iptables", "ipvs", "nftables") or (document.get("mode") == "nftables" and minor < 31):
        yield "mode"
    for network in document.get("ipvs", {}).get("excludeCIDRs", []):
        try:
            ipaddress.ip_network(network)
        except ValueError:
            yield f"ipvs.excludeCIDRs {network}"


RULES = {
    "InitConfiguration": _init, "ClusterConfiguration": _cluster, "JoinConfiguration": _join,
    "KubeletConfiguration": _kubelet, "KubeProxyConfiguration": _kube_proxy,
}  # fmt: skip
