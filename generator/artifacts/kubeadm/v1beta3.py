"""kubeadm.k8s.io/v1beta3, for Kubernetes 1.28 to 1.30: flags are maps, timeouts stand where they are used."""

from __future__ import annotations

from typing import Any

from generator.artifacts.kubeadm.documents import Document
from generator.model import Cluster
from generator.model.settings import Pairs

API = "kubeadm.k8s.io/v1beta3"


def arguments(pairs: Pairs) -> Any:
    """A map of name to value."""
    return dict(pairs)


def api_server(cluster: Cluster) -> Document:
    """``timeoutForControlPlane``, which v1beta4 has in ``timeouts``."""
    return {"timeoutForControlPlane": cluster.control_plane_timeout}


def discovery(cluster: Cluster) -> Document:
    """``timeout``, which v1beta4 has in ``timeouts``."""
    return {"timeout": cluster.discovery_timeout}


def cluster(cluster: Cluster) -> Document:
    """Nothing: key algorithm and validity came with v1beta4."""
    del cluster
    return {}


def timeouts(cluster: Cluster) -> Document:
    """Nothing: they came with v1beta4."""
    del cluster
    return {}
