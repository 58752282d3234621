"""The numbered steps: one row a step, the same number on every host.

A number is a barrier: all hosts finish a step before any starts the next.  ``templates/scripts/NN-name.sh`` is the script of a row;
the runbook's table and ``manifest.json`` are made from here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """
    One numbered step.

    *hosts* says where it runs: ``all``, ``kubernetes`` (all but dedicated load balancers), ``load-balancers``, ``first`` (the first control
    plane), ``other`` (the other control planes), ``control-planes`` or ``workers``.  *serial* steps run on one host after the other.
    """

    number: int
    name: str
    hosts: str
    title: str
    serial: bool = False

    @property
    def script(self) -> str:
        """File name of the script, ``20-host.sh``."""
        return f"{self.number:02}-{self.name}.sh"


STEPS = (
    Step(0, "preflight", "all", "read-only checks of this host"),
    Step(10, "packages", "all", "operating system packages"),
    Step(20, "host", "all", "names, kernel, time, firewall, runtime"),
    Step(30, "images", "kubernetes", "container images"),
    Step(40, "load-balancer", "load-balancers", "nginx or IPVS, keepalived, the VIP"),
    Step(50, "init", "first", "kubeadm init, handoff archives"),
    Step(60, "join", "other", "control planes join", serial=True),
    Step(65, "join", "workers", "workers join"),
    Step(70, "etcd", "control-planes", "etcd manifest lists all members", serial=True),
    Step(80, "network", "first", "the pod network"),
    Step(90, "verify", "all", "what runs is what was planned"),
)
