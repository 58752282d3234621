"""
The origin's load balancer as its author wrote it, on the hosts of a site: what the figures of ours stand beside.

The text is that of "通过 Nginx 实现 Kubernetes 故障转移和高可用性" (2024-03-20): the stream block, the check script and keepalived.conf. Of the
values only addresses, interface, name and port are the site's; where it says "lower" the priorities are 90 and 80. The stream block follows
Debian's own nginx.conf, which loads the stream module by its ``modules-enabled``; units are those of the packages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.hosts import FailedError, Host, within

if TYPE_CHECKING:
    from lab.site import Site

NGINX, CHECK, KEEPALIVED = "/etc/nginx/nginx.conf", "/etc/nginxkeepalived.sh", "/etc/keepalived/keepalived.conf"
KEPT = "/root/nginx.conf.stock"
UNITS = ("nginx", "keepalived")

STREAM = """stream {{
    log_format  main  '$remote_addr $upstream_addr - [$time_local] $status $upstream_bytes_sent';
    access_log  /var/log/nginx/control-plane.log  main;
    upstream backend {{
{servers}
    }}
    server {{
        listen {port};  # control-plane
        proxy_pass backend;
    }}
}}
"""
SERVER = "        server {address}:{port} weight=5 max_fails=4 fail_timeout=20s;  # {name}"

SCRIPT = r"""#!/bin/bash
# 1. Check if Nginx is alive
counter=$(ps -ef |grep nginx | grep sbin | egrep -cv "grep|$$" )
if [ $counter -eq 0 ]; then
    # 2. If not alive, try to start Nginx
    service nginx start
    # 3. Wait for 2 seconds and then check the Nginx status again
    sleep 2
    counter=$(ps -ef |grep nginx | grep sbin | egrep -cv "grep|$$" )
    # 4. Check again, if Nginx is still not alive, stop Keepalived to let the address drift
    if [ $counter -eq 0 ]; then
        service keepalived stop
    fi
fi
"""

VRRP = """global_defs {{
   router_id {name}
}}
vrrp_script nginx {{
    script "/etc/nginxkeepalived.sh"
}}
vrrp_instance VI_1 {{
    state {state}
    interface {interface}
    virtual_router_id 51
    priority {priority}
    advert_int 1
    authentication {{
        auth_type PASS
        auth_pass 1111
    }}
    virtual_ipaddress {{
        {vip}/{prefix}
    }}
    track_script {{
        nginx
    }}
}}
"""


def files(site: Site, host: Host) -> dict[str, tuple[str, int]]:
    """What the author has *host* have beyond its packages: path to text and mode. nginx.conf is the block alone."""
    env = site.env[host.name]
    first, _, prefix = env["ADDRESSES"].split()[0].partition("/")
    if ":" in first:
        raise FailedError("the origin knows IPv4 alone")
    number = site.load_balancers.index(host)
    servers = [word.partition("=") for word in env["CONTROL_PLANES"].split()]
    stream = STREAM.format(
        port=site.port, servers="\n".join(SERVER.format(name=name, address=address, port=env["API_PORT"]) for name, _, address in servers)
    )
    vrrp = VRRP.format(
        name=host.name,
        state="BACKUP" if number else "MASTER",
        interface=env["INTERFACE"],
        priority=100 - 10 * number,
        vip=site.vips[0],
        prefix=prefix,
    )
    return {NGINX: (stream, 0o644), CHECK: (SCRIPT, 0o755), KEEPALIVED: (vrrp, 0o644)}


def lay(site: Site) -> None:
    """Puts it on every load balancer, which carries none of ours any more (``run.sh 40 --rollback``), and waits for one holder."""
    for host in site.load_balancers:
        host.run("systemctl", "stop", *UNITS, check=False)
        kept = host.path(KEPT)
        if not kept.exists():
            kept.write_bytes(host.path(NGINX).read_bytes())
        stock = kept.read_text() + "\n"
        for path, (text, mode) in files(site, host).items():
            file = host.path(path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(stock + text if path == NGINX else text)
            file.chmod(mode)
        # As he does; that nothing starts keepalived in his text, but the next boot, is left out.
        host.run("systemctl", "daemon-reload")
        host.run("systemctl", "enable", "keepalived.service")
        host.run("systemctl", "enable", "--now", "nginx.service")
        host.run("systemctl", "start", "keepalived.service")
    within(30, "holder of the VIP by the origin's configuration", lambda: site.holders() == site.load_balancers[:1], 0.3)


def remove(site: Site) -> None:
    """Takes it off again: the hosts are as ``run.sh 40 --rollback`` left them, their units disabled and stopped."""
    for host in site.load_balancers:
        host.run("systemctl", "disable", "--now", *UNITS, check=False)
        for path in (CHECK, KEEPALIVED):
            host.path(path).unlink(missing_ok=True)
        kept = host.path(KEPT)
        if kept.exists():
            host.path(NGINX).write_bytes(kept.read_bytes())
            kept.unlink()
        # KillMode=process leaves children, and a keepalived that was killed leaves the VIP.
        host.sh(f"ip -o address show to {site.vips[0]} | while read -r _ device _ found _; do ip address del $found dev $device; done")
        host.run("systemctl", "reset-failed", *UNITS, check=False)
