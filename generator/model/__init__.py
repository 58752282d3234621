"""The model: one frozen ``Cluster`` that every rule and artifact reads and none can change.

``settings`` holds what the inventory says, ``cluster`` what follows from it, ``build`` makes one from validated data.
"""

from generator.model.build import build
from generator.model.cluster import CONTROL_PLANE, LOAD_BALANCER, WORKER, Cluster, Endpoint, Host, bracketed
from generator.model.settings import Calico, Flannel, NoCni

__all__ = ["CONTROL_PLANE", "LOAD_BALANCER", "WORKER", "Calico", "Cluster", "Endpoint", "Flannel", "Host", "NoCni", "bracketed", "build"]
