"""Inventories as hypothesis draws them: plausible ones, nearly all of which every rule accepts, over all roles, systems, runtimes and networks.

Written by hand: nothing here is derived from the schema, so that the two can disagree.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from hypothesis import strategies as st

MINORS = range(28, 37)
# The newest release of each minor that the tables know.
RELEASES = {
    28: "1.28.15",
    29: "1.29.15",
    30: "1.30.14",
    31: "1.31.14",
    32: "1.32.13",
    33: "1.33.13",
    34: "1.34.10",
    35: "1.35.7",
    36: "1.36.3",
}
SYSTEMS = ("rocky-9", "rhel-9", "almalinux-9", "openeuler-24.03", "debian-12", "debian-13", "ubuntu-22.04", "ubuntu-24.04")
RUNTIMES = ("containerd", "cri-dockerd", "cri-o")
FAMILIES = ((4,), (6,), (4, 6), (6, 4))

# What somebody may write where the schema takes any text (flags of components): a shell, a template, nginx or YAML would do something with it.
HOSTILE = (
    "'; rm -rf /", "$(id)", "`id`", "${HOME}", '"', "'", "\\", "}", "{", "#", " # x", ";", "|", "&& reboot", "%i", "%%", "$$", "{{ 7*7 }}", "{% x %}", "!", "~", "@",
    "a: b", "- a", "---", "yes", "0755", "1:20", "null", "<<", "*a", "&a", "|", ">", "", " ", "  a  ", "ä日本😀", "<script>", "a,b=c", "--flag=x", "\\n", "../..",
)  # fmt: skip

NETWORKS = {
    4: {"hosts": "10.77.0.0/22", "pods": "10.244.0.0/16", "services": "10.96.0.0/16"},
    6: {"hosts": "fd00:77::/64", "pods": "fd00:244::/56", "services": "fd00:96::/112"},
}


def inventory(
    *,
    minor: int = 34,
    runtime: str = "containerd",
    cni: Any = "flannel",
    families: tuple[int, ...] = (4,),
    planes: int = 3,
    workers: int = 1,
    balancers: int = 0,
    os: str = "debian-12",
    **cluster: Any,
) -> dict[str, Any]:
    """A plain valid inventory of that shape; *cluster* adds to its ``cluster``."""

    def addresses(number: int) -> Any:
        found = [f"{ipaddress.ip_network(NETWORKS[f]['hosts'])[number]}/{NETWORKS[f]['hosts'].split('/')[1]}" for f in families]
        return found if len(found) > 1 else found[0]

    def gateways() -> Any:
        found = [str(ipaddress.ip_network(NETWORKS[f]["hosts"])[1]) for f in families]
        return found if len(found) > 1 else found[0]

    roles = ["load-balancer"] * balancers + ["control-plane"] * planes + ["worker"] * workers
    data: dict[str, Any] = {
        "version": 1,
        "cluster": {
            "name": "drawn",
            "kubernetesVersion": RELEASES[minor],
            "podSubnet": ",".join(NETWORKS[f]["pods"] for f in families),
            "serviceSubnet": ",".join(NETWORKS[f]["services"] for f in families),
            "containerRuntime": runtime,
            "cni": cni,
            **cluster,
        },
        "hostDefaults": {"interface": "eth0", "gateway": gateways(), "os": os},
        "hosts": [{"name": f"h{number}", "role": role, "address": addresses(10 + number)} for number, role in enumerate(roles)],
    }
    if planes > 1 or balancers:
        data["controlPlaneEndpoint"] = {"name": "api.drawn.example", "address": addresses(9), "port": 16443}
        data["loadBalancer"] = {"keepalived": {"virtualRouterId": 61}}
    return data


WORD = st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,12}[a-z0-9])?\Z")
NAME = WORD | st.just("a" * 63) | st.builds("{}.{}".format, WORD, WORD)
FLAG_VALUE = (
    st.sampled_from(HOSTILE)
    | st.text(st.characters(exclude_categories=("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")), max_size=12)
    | st.booleans()
    | st.integers(0, 99)
)
TIME = st.builds("{}{}".format, st.integers(1, 999), st.sampled_from(["s", "m"]))


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A mapping that has each of *fields* or hasn't."""
    return st.fixed_dictionaries({}, optional=fields)


def flags(*names: str) -> st.SearchStrategy[dict[str, Any]]:
    """Flags of a component, with values of any text."""
    return st.dictionaries(st.sampled_from(names), FLAG_VALUE, max_size=3)


@st.composite
def cnis(draw: st.DrawFn, minor: int, families: tuple[int, ...], proxy: str) -> Any:
    name = draw(st.sampled_from(["flannel", "calico", "none"]))
    if name == "calico":
        calico: dict[str, Any] = {"name": "calico"}
        if proxy == "nftables":
            calico["linuxDataplane"] = "Nftables"
        calico |= draw(
            optional(
                encapsulation=st.sampled_from(
                    ["VXLANCrossSubnet", "VXLAN", "None"] + (["IPIP", "IPIPCrossSubnet"] if 6 not in families else [])
                ),
                natOutgoing=st.sampled_from(["Enabled", "Disabled"]),
                mtu=st.integers(1280, 9216),
                apiServer=st.booleans(),
                registry=st.just("registry.example.net:5000/a/b_c"),
                blockSize=st.integers(24, 28),
            )
        )
        if calico.get("encapsulation") == "VXLAN" and draw(st.booleans()):
            calico["bgp"] = "Disabled"
        return calico
    if name == "flannel" and draw(st.booleans()):
        return {
            "name": "flannel",
            **draw(
                optional(
                    backend=st.sampled_from(["vxlan", "host-gw", "wireguard"]),
                    version=st.sampled_from(["0.22.0", "0.25.5", "0.26.4", "0.27.4", "0.28.9"]),
                    mtu=st.integers(1280, 9216),
                    vni=st.integers(1, 16777215),
                    port=st.sampled_from([4789, 8472, 9999]),
                    registry=st.just("registry.example.net/flannel"),
                )
            ),
        }
    return name


@st.composite
def balancing(draw: st.DrawFn, families: tuple[int, ...], *, ipvs: bool, port: int) -> dict[str, Any]:
    """``loadBalancer``."""
    keepalived: dict[str, Any] = {"virtualRouterId": draw(st.sampled_from([1, 52, 255]) | st.integers(1, 255))}
    if families[0] == 4 and draw(st.integers(0, 3)) == 0:
        keepalived |= {"vrrpVersion": 2, "advertInterval": draw(st.sampled_from([1, 2, "3"]))}
        if draw(st.booleans()):
            keepalived["authPass"] = {"secret": draw(WORD)}
    else:
        keepalived |= draw(optional(advertInterval=st.sampled_from(["0.1", "0.5", "0.01", 1, "1.25", "40.95"])))
    keepalived |= draw(
        optional(
            transport=st.sampled_from(["unicast", "multicast"]),
            garpRefresh=st.sampled_from([0, 1, 60, 86400]),
            killMode=st.sampled_from(["mixed", "control-group", "process"]),
            check=optional(interval=st.integers(1, 5), timeout=st.integers(1, 5), fall=st.integers(1, 5), rise=st.integers(1, 5)),
        )
    )
    if draw(st.booleans()):
        keepalived |= {"preempt": True, **draw(optional(preemptDelay=st.sampled_from([0, 1, 300, 1000])))}
    if ipvs:
        return {
            "keepalived": keepalived,
            "ipvs": draw(
                optional(
                    scheduler=st.sampled_from(["rr", "wrr", "lc", "wlc", "sh"]),
                    delayLoop=st.integers(1, 60),
                    connectTimeout=st.integers(1, 60),
                )
            ),
        }
    nginx = draw(
        optional(
            balance=st.sampled_from(["least_conn", "round_robin"]),
            weight=st.sampled_from([1, 5, 1000]),
            maxFails=st.sampled_from([0, 1, 1000]),
            failTimeout=TIME,
            connectTimeout=st.sampled_from(["1ms", "500ms", "1s", "9s"]),
            idleTimeout=st.sampled_from(["10m", "1h", "7d", "999999s"]),
            tcpKeepalive=st.sampled_from(["60s:10s:3", "30m:1m:4", "1:1:1"]),
            workerConnections=st.sampled_from([512, 8192, 262144]),
            shutdownTimeout=TIME,
            checkPort=st.sampled_from([number for number in (1, 16444, 29999, 65535) if number != port]),
            accessLog=st.booleans(),
            streamModule=st.sampled_from(["package", "builtin"]),
            allow=st.just([NETWORKS[f]["hosts"] for f in families]),
        )
    )
    watcher = draw(optional(interval=st.integers(1, 9), timeout=st.integers(1, 9), fall=st.integers(1, 9), rise=st.integers(1, 99)))
    return {"nginx": nginx, "watcher": watcher, "keepalived": keepalived}


PROXY = st.just({"httpProxy": "http://10.77.0.3:3128"}) | st.just(
    {"httpProxy": "http://p.example:1/a~b", "httpsProxy": "https://p", "noProxy": [".a.example", "*.b"]}
)
OWN = optional(
    interface=st.sampled_from(["eth1", "enp1s0f0np0", "bond0.100", "a", "x" * 15, "Wan_1-2"]),
    os=st.sampled_from(SYSTEMS),
    packages=st.sampled_from(["payload", "repository"]),
    extraPackages=st.just(["g++", "a=1:2~3-4", "tcpdump"]),
    ntpServers=st.just(["10.77.0.2", "ntp.example.net", "fd00:77::2"]),
    swap=st.just("off"),
    firewall=st.sampled_from(["auto", "none"]),
    sysctl=st.just({"vm.max_map_count": 262144, "net.ipv4.tcp_rmem": "4096 87380 6291456"}),
)
OWN_KUBERNETES = optional(
    proxy=PROXY,
    kubelet=optional(
        maxPods=st.integers(1, 1000),
        podPidsLimit=st.integers(-1, 9999),
        kubeReserved=st.just({"cpu": "100m", "memory": "1.5Gi"}),
        serverTLSBootstrap=st.booleans(),
    ),
    kubeletExtraArgs=flags("v", "max-open-files", "event-qps"),
    labels=st.dictionaries(
        st.sampled_from(["example.net/a", "b", "topology.kubernetes.io/zone", "c.d_e"]),
        st.sampled_from(["", "yes", "1e3", "on", "A_b.c-d"]),
        max_size=3,
    ),
    taints=st.lists(
        st.fixed_dictionaries(
            {"key": st.just("example.net/t"), "effect": st.sampled_from(["NoSchedule", "PreferNoSchedule"])},
            optional={"value": st.sampled_from(["", "true", "0x1"])},
        ),
        max_size=1,
    ),
    imagePullPolicy=st.sampled_from(["IfNotPresent", "Never", "Always"]),
    ignorePreflightErrors=st.sampled_from([["all"], ["NumCPU", "Mem"], []]),
)


@st.composite
def inventories(draw: st.DrawFn) -> dict[str, Any]:
    """One inventory, valid against the schema; rules may still have warnings, seldom an error."""
    minor = draw(st.sampled_from(MINORS))
    families = draw(st.sampled_from(FAMILIES))
    balancers = draw(st.sampled_from([0, 0, 2, 3]))
    planes = draw(st.sampled_from([1, 3, 3, 5]))
    ipvs = balancers > 0 and draw(st.booleans())
    mode = draw(st.sampled_from(["iptables", "ipvs", *(["nftables"] if minor >= 31 else [])]))
    data = inventory(
        minor=minor, runtime=draw(st.sampled_from(RUNTIMES)), cni=draw(cnis(minor, families, mode)), families=families, planes=planes,
        workers=draw(st.integers(0, 3)), balancers=balancers, os=draw(st.sampled_from(SYSTEMS)),
    )  # fmt: skip
    cluster = data["cluster"]
    cluster["name"] = draw(WORD)
    cluster |= draw(
        optional(
            imageRepository=st.sampled_from(["registry.k8s.io", "registry.example.net:5000/a/b", "r"]),
            dnsDomain=st.sampled_from(["cluster.local", "k8s", "a.b.c"]),
            apiServer=optional(
                certSANs=st.sampled_from([["api.example.net", "203.0.113.10"], ["*.example.net"], ["fd00::5"]]),
                extraArgs=flags("v", "audit-log-maxage", "event-ttl"),
            ),
            controllerManager=optional(extraArgs=flags("v", "terminated-pod-gc-threshold")),
            scheduler=optional(extraArgs=flags("v", "kube-api-qps")),
            etcd=optional(
                dataDir=st.sampled_from(["/data/etcd", "/a/b_c@1+2"]),
                extraArgs=flags("log-level", "auto-compaction-retention"),
                serverCertSANs=st.just(["e.example"]),
            ),
            timeouts=optional(controlPlane=st.sampled_from(["8m", "1h0m1s"]), discovery=st.just("10m0s")),
            bootstrapToken=optional(ttl=st.sampled_from(["48h", "2h30m"]), trip=st.just("2h")),
            extraHosts=st.just([{"name": "registry.example.net", "address": "10.99.9.9"}]),
        )
    )
    cluster["kubeProxy"] = {"mode": mode, **({"strictARP": True} if mode == "ipvs" and draw(st.booleans()) else {})}
    if minor >= 31 and draw(st.booleans()):
        cluster["certificateValidityPeriod"] = "17520h"
    if "controlPlaneEndpoint" in data:
        port = 6443 if ipvs else draw(st.sampled_from([16443, 8443, 1024, 29998]))
        data["controlPlaneEndpoint"]["port"] = port
        data["controlPlaneEndpoint"]["name"] = draw(st.builds("api-{}".format, WORD) | st.just("a." * 30 + "example"))
        data["loadBalancer"] = draw(balancing(families, ipvs=ipvs, port=port))
    names = draw(st.lists(NAME, min_size=len(data["hosts"]), max_size=len(data["hosts"]), unique=True))
    for name, host in zip(names, data["hosts"], strict=True):
        host["name"] = name
        host.update(draw(OWN))
        if host["role"] != "load-balancer" and draw(st.booleans()):
            host.update(draw(OWN_KUBERNETES))
        if host["role"] == "control-plane" and draw(st.integers(0, 3)) == 0 and planes > 1:
            host["weight"] = draw(st.integers(1, 1000))
    if "controlPlaneEndpoint" in data and draw(st.booleans()):
        carrier = "load-balancer" if balancers else "control-plane"
        for priority, host in enumerate((h for h in data["hosts"] if h["role"] == carrier), 5):
            host["priority"] = priority
    return data
