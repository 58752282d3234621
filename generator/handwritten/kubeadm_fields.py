"""Names of the fields of kubeadm's configuration, a version each; a field that holds no others, or any, has None."""

from __future__ import annotations

from functools import cache
from typing import Any

Fields = dict[str, Any]

# Versions of kubeadm.k8s.io: the first kubeadm minor that takes it, and the first that no longer does.
VERSIONS = {"v1beta1": (13, 22), "v1beta2": (15, 27), "v1beta3": (22, 37), "v1beta4": (31, None)}


def _names(text: str) -> Fields:
    return dict.fromkeys(text.split())


@cache
def fields(version: str) -> dict[str, Fields]:
    """Kinds of ``kubeadm.k8s.io/VERSION`` (v1beta3 and v1beta4; source: their types.go) with their fields."""
    four = version == "v1beta4"
    endpoint = _names("advertiseAddress bindPort")
    component = _names("extraArgs extraVolumes" + " extraEnvs" * four)
    node = _names("name criSocket taints kubeletExtraArgs ignorePreflightErrors imagePullPolicy" + " imagePullSerial" * four)
    whole = {
        "apiVersion": None,
        "kind": None,
        "metadata": None,
        "nodeRegistration": node,
        "skipPhases": None,
        "patches": {"directory": None},
        **(_names("dryRun timeouts") if four else {}),
    }
    return {
        "InitConfiguration": {**whole, **_names("bootstrapTokens certificateKey"), "localAPIEndpoint": endpoint},
        "JoinConfiguration": {
            **whole,
            "caCertPath": None,
            "discovery": {
                "bootstrapToken": _names("token apiServerEndpoint caCertHashes unsafeSkipCAVerification"),
                "file": {"kubeConfigPath": None},
                **_names("tlsBootstrapToken" + " timeout" * (not four)),
            },
            "controlPlane": {"localAPIEndpoint": endpoint, "certificateKey": None},
        },
        "ClusterConfiguration": {
            **_names(
                "apiVersion kind metadata kubernetesVersion controlPlaneEndpoint certificatesDir imageRepository featureGates clusterName"
            ),
            **(_names("encryptionAlgorithm certificateValidityPeriod caCertificateValidityPeriod") if four else {}),
            **({"proxy": {"disabled": None}} if four else {}),
            "etcd": {
                "local": _names("imageRepository imageTag dataDir extraArgs serverCertSANs peerCertSANs" + " extraEnvs" * four),
                "external": _names("endpoints caFile certFile keyFile httpEndpoints"),
            },
            "networking": _names("serviceSubnet podSubnet dnsDomain"),
            "apiServer": {**component, **_names("certSANs" + " timeoutForControlPlane" * (not four))},
            "controllerManager": component,
            "scheduler": component,
            "dns": _names("imageRepository imageTag" + " disabled" * four),
        },
    }
