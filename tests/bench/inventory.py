"""Inventories of any size: three control planes with nginx and keepalived, workers for the rest.  ``python inventory.py 1000 > big.yaml``"""

from __future__ import annotations

import sys
from ipaddress import ip_address

_HEAD = """\
version: 1
cluster:
  name: {name}
  kubernetesVersion: 1.29.3
  podSubnet: 10.0.0.0/8
  serviceSubnet: 192.168.0.0/16
controlPlaneEndpoint: {{name: api, address: 172.31.255.254/12, port: 16443}}
loadBalancer:
  keepalived: {{virtualRouterId: 61}}
hostDefaults: {{interface: ens160, gateway: 172.16.0.1, os: rocky-9}}
hosts:
"""


def inventory(hosts: int, name: str = "bench") -> str:
    """The text of an inventory with so many *hosts* (3 to 60,000), clean under ``--strict``."""
    first = int(ip_address("172.16.1.0"))
    lines = [
        f"- {{name: {'master' if n < 3 else 'node'}-{n + 1}, role: {'control-plane' if n < 3 else 'worker'}, address: {ip_address(first + n)}/12}}\n"
        for n in range(hosts)
    ]
    return _HEAD.format(name=name) + "".join(lines)


if __name__ == "__main__":
    sys.stdout.write(inventory(int(sys.argv[1])))
