"""The etcd manifest patch of each member, for after every control plane has joined (step 70).

A member whose data directory was lost starts by its flags: with itself only it becomes a new, empty one-member cluster; with all members
and ``--initial-cluster-state=existing`` it may vote with an empty log.  With all members and no state it refuses, and nothing is lost
(measured with etcd 3.5.16 and 3.5.30).  A member with its log ignores both flags.  At init or join they would break the bootstrap, so they
are never in ``extraArgs`` and never in the patches that init and join name.
"""

from __future__ import annotations

from collections.abc import Iterator

from generator import emit
from generator.artifacts import File
from generator.model import CONTROL_PLANE, Cluster, Host


def for_host(cluster: Cluster, host: Host) -> Iterator[File]:
    """``etcd/manifest-patch.tsv`` on control planes: flags to set and to remove in the static pod's command."""
    if host.role != CONTROL_PLANE:
        return
    rows = [("set", "initial-cluster", cluster.etcd_initial_cluster), ("remove", "initial-cluster-state", "-")]
    yield File("etcd/manifest-patch.tsv", emit.tsv("action\tflag\tvalue", rows), ("hosts[].name", "hosts[].address"))
