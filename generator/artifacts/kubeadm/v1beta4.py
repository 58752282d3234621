"""kubeadm.k8s.io/v1beta4, for Kubernetes 1.31 and newer: flags are lists of name and value, timeouts have a block of their own."""

from __future__ import annotations

from typing import Any

from generator.artifacts.kubeadm.documents import Document
from generator.model import Cluster
from generator.model.settings import Pairs

API = "kubeadm.k8s.io/v1beta4"


def arguments(pairs: Pairs) -> Any:
    """A list of name and value."""
    return [{"name": name, "value": value} for name, value in pairs]


def api_server(cluster: Cluster) -> Document:
    """Nothing: the timeout stands in ``timeouts``."""
    del cluster
    return {}


def discovery(cluster: Cluster) -> Document:
    """Nothing: the timeout stands in ``timeouts``."""
    del cluster
    return {}


def cluster(cluster: Cluster) -> Document:
    """Algorithm of the keys and life of the certificates, where the inventory names them."""
    fields = {
        "encryptionAlgorithm": cluster.encryption_algorithm,
        "certificateValidityPeriod": cluster.certificate_validity,
        "caCertificateValidityPeriod": cluster.ca_certificate_validity,
    }
    return {name: value for name, value in fields.items() if value}


def timeouts(cluster: Cluster) -> Document:
    """``timeouts`` with what the inventory may set."""
    return {"timeouts": {"controlPlaneComponentHealthCheck": cluster.control_plane_timeout, "discovery": cluster.discovery_timeout}}
