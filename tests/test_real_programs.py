"""Every golden bundle against the programs that will read it: nginx, keepalived, systemd, shells; and some of them running for real.

All of it in namespaces (``laid_host``): nothing of this machine changes, no packet leaves.  Each check is shown to be able to fail.
"""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from multiprocessing.pool import ThreadPool
from pathlib import Path

import pytest
from conftest import GOLDENS, Bundle, missing, needs, wants
from laid_host import LaidHost, environment
from ruamel.yaml import YAML

from generator import compiler, emit
from generator.artifacts import keepalived as keepalived_artifact

# Lines that a program may print about a good file, each with its reason.
ALLOWED = {
    "nginx": (
        r"^nginx: the configuration file .* syntax is ok$",  # what success looks like
        r"^nginx: configuration file .* test is successful$",
    ),
    "keepalived": (),
    "systemd": (
        r"^/(usr/)?lib/systemd/system/",  # units of this machine's own packages
    ),
}


def complaints(program: str, output: str) -> list[str]:
    """Lines of *output* that nothing allows."""
    return [line for line in output.splitlines() if line.strip() and not any(re.search(allowed, line) for allowed in ALLOWED[program])]


def refused(program: str, result: subprocess.CompletedProcess[str]) -> str:
    """Why a test must fail, or an empty string: an exit status or a line of output."""
    lines = complaints(program, result.stdout)
    return f"exit status {result.returncode}: {result.stdout}" if result.returncode or lines else ""


@pytest.fixture(scope="session")
def laid(tmp_path_factory):
    """A function from a bundle and a host's name to the host, laid afresh each time: tests may change it."""
    return lambda bundle, name: LaidHost(bundle.host(name), tmp_path_factory.mktemp("laid") / "root")


@pytest.fixture(scope="session")
def example(all_bundles) -> Bundle:
    return all_bundles(GOLDENS[0])


def balancers(bundle: Bundle, *, engine: str = "") -> list[str]:
    return [host.name for host in bundle.cluster.load_balancers if not engine or environment(bundle.host(host))["LB_ENGINE"] == engine]


# -- nginx ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.needs("nginx", "root")
def test_nginx_accepts_every_configuration(bundle, laid):
    wrong = {name: refused("nginx", laid(bundle, name).test_nginx()) for name in balancers(bundle, engine="nginx")}
    assert not {name: why for name, why in wrong.items() if why}


@pytest.mark.needs("nginx", "root")
@pytest.mark.parametrize(
    ("destination", "old", "new"),
    [
        ("/etc/nginx/nginx.conf", "proxy_socket_keepalive on;", "proxy_socket_keepalive maybe;"),
        ("/etc/nginx/nginx.conf", "load_module ", "# load_module "),
        ("/etc/nginx/nginx.conf", "listen 127.0.0.1:16444;", "listen 16443;"),
        ("/etc/nginx/nginx.conf", "user nginx;", "user nobody-by-this-name;"),
        ("/etc/nginx/nginx.conf", "zone apiserver 64k;", "zone apiserver 64;"),
        ("/etc/nginx/stowage/apiserver.conf", "server 192.168.1.25:6443", "server 192.168.1.25"),
    ],
)
def test_nginx_refuses_a_mistake(example, laid, destination, old, new):
    host = laid(example, "master-1")
    host.change(destination, old, new)
    assert refused("nginx", host.test_nginx())


def test_nginx_a_builtin_module_is_not_loaded(all_bundles):
    """The one host shape for which laid_host adds a line: make sure that the bundle itself hasn't it."""
    bundle = next(all_bundles(golden) for golden in GOLDENS if golden.name == "every-key")
    for name in balancers(bundle):
        assert "load_module" not in (bundle.host(name) / "rootfs/etc/nginx/nginx.conf").read_text()


# -- keepalived -------------------------------------------------------------------------------------------------------------------


@pytest.mark.needs("keepalived", "root")
def test_keepalived_accepts_every_configuration(bundle, laid):
    wrong = {name: refused("keepalived", laid(bundle, name).test_keepalived()) for name in balancers(bundle)}
    assert not {name: why for name, why in wrong.items() if why}


@pytest.mark.needs("keepalived", "root")
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("priority 200", "priority 300"),
        ("state BACKUP", "state MASTER"),
        ("virtual_router_id 51", "virtual_router_id 256"),
        ("interface ens160", "interface ens161"),
        ("track_script {", "track_scrpt {"),
        ("vrrp_version 3", "vrrp_version 2"),
        ("script_user root", "script_user nobody-by-this-name"),
        ("192.168.1.31/32 dev ens160", "192.168.1.31/32 dev ens160\n        fd00::31/128 dev ens160"),
    ],
)
def test_keepalived_refuses_a_mistake(example, laid, old, new):
    host = laid(example, "master-1")
    host.change("/etc/keepalived/keepalived.conf", old, new)
    assert refused("keepalived", host.test_keepalived())


@pytest.mark.needs("keepalived", "root")
def test_keepalived_traps(example, laid):
    """A file that isn't there passes keepalived's own test, and so does a check without its x bit: both are looked at by us."""
    host = laid(example, "master-1")
    assert host.sh("keepalived -t -f /etc/keepalived/no-such.conf").returncode == 0
    host.path("/etc/keepalived/keepalived.conf").unlink()
    assert refused("keepalived", host.test_keepalived())
    for mode in (0o777, None):
        host = laid(example, "master-1")
        check = host.path(keepalived_artifact.CHECK)
        check.chmod(mode) if mode else check.unlink()
        assert refused("keepalived", host.test_keepalived()), mode


@pytest.mark.needs("keepalived", "root")
def test_keepalived_reads_the_password_that_step_40_lays(all_bundles, laid):
    """Every character that step 40 takes; and a password file that isn't there, which keepalived only mentions."""
    bundle = next(all_bundles(golden) for golden in GOLDENS if golden.name == "every-key")
    host = laid(bundle, "c1")
    assert "    include /etc/keepalived/stowage-auth.conf\n" in host.text("/etc/keepalived/keepalived.conf")
    step = (bundle.host("c1") / "scripts/40-load-balancer.sh").read_text()
    assert "=~ ^[A-Za-z0-9._+=/@%:,-]{1,8}$ ]]" in step, "step 40 takes other characters now: try those here"
    assert r"""$'authentication {\n    auth_type PASS\n    auth_pass '"$PASSWORD"$'\n}'""" in step, (
        "step 40 lays another text now: LaidHost must too"
    )
    script = ""
    for password in ("AZaz09._", "+=/@%:,-", "@a", "%a", "-a", "+a", "=a", "/a", ":a", ",a", ".a", "_a"):
        text = f"authentication {{\n    auth_type PASS\n    auth_pass {password}\n}}"
        script += f"cat >/etc/keepalived/stowage-auth.conf <<'X'\n{text}\nX\nkeepalived -t -f /etc/keepalived/keepalived.conf || echo '{password}' $?\n"
    assert host.sh(script).stdout == ""
    host.path("/etc/keepalived/stowage-auth.conf").unlink()
    result = host.test_keepalived()
    assert result.returncode == 0, "its exit status says nothing: hence what it prints counts"
    assert refused("keepalived", result)


def test_keepalived_check_is_laid_as_root_and_executable(bundle):
    for name in balancers(bundle, engine="nginx"):
        rows = [line.split("\t") for line in (bundle.host(name) / "files.tsv").read_text().splitlines()]
        assert [row[2:4] for row in rows if row[1] == keepalived_artifact.CHECK] == [["0755", "root:root"]]


# -- systemd ----------------------------------------------------------------------------------------------------------------------


def verify_units(host: LaidHost) -> subprocess.CompletedProcess[str]:
    """``systemd-analyze verify`` on every unit that the bundle makes or drops into; what a host has and this machine hasn't is stubbed."""
    own = sorted((host.root / "etc/systemd/system").rglob("*.*")) if (host.root / "etc/systemd/system").exists() else []
    units = {path.parent.name.removesuffix(".d") if path.suffix == ".conf" else path.name for path in own if path.is_file()}
    for unit in units:
        if not host.path(f"/etc/systemd/system/{unit}").exists() and not Path("/usr/lib/systemd/system", unit).exists():
            host.put(f"/usr/lib/systemd/system/{unit}", "[Unit]\nDescription=stub\n[Service]\nExecStart=/bin/true\n")
    for path in own:
        for program in re.findall(r"(?m)^Exec\w+=[-@:+!]*(/\S+)", path.read_text() if path.is_file() else ""):
            if not Path(program).exists() and not host.path(program).exists():
                host.put(program, "#!/bin/sh\n", 0o755)
    if not units:
        return subprocess.CompletedProcess([], 0, "", "")
    return host.run("systemd-analyze", "verify", "--man=no", *sorted(units))


@pytest.mark.needs("systemd-analyze", "root")
def test_systemd_accepts_every_unit(bundle, laid):
    wrong = {host.name: refused("systemd", verify_units(laid(bundle, host.name))) for host in bundle.cluster.hosts}
    assert not {name: why for name, why in wrong.items() if why}


@pytest.mark.needs("systemd-analyze", "root")
@pytest.mark.parametrize(
    ("destination", "old", "new"),
    [
        ("/etc/systemd/system/keepalived.service.d/10-stowage.conf", "KillMode=mixed", "KillMode=mixd"),
        ("/etc/systemd/system/nginx.service.d/10-stowage.conf", "LimitNOFILE=", "LimitNoFile="),
        ("/etc/systemd/system/stowage-watcher.service", "ExecStart=/usr", "ExecStart=usr"),
        ("/etc/systemd/system/stowage-watcher.service", "SystemCallFilter=@system-service", "SystemCallFilter=@system-servce"),
        ("/etc/systemd/system/cri-docker.service.d/10-stowage.conf", "ExecStart=\n", ""),
    ],
)
def test_systemd_refuses_a_mistake(example, laid, destination, old, new):
    """systemd-analyze exits with 0 for some of these: what it prints counts."""
    host = laid(example, "master-1")
    host.change(destination, old, new)
    assert refused("systemd", verify_units(host))


@pytest.mark.needs("systemd-tmpfiles", "root")
def test_tmpfiles_copy_the_list_once(example, laid):
    host = laid(example, "master-1")
    script = f"""set -e
        {host.tmpfiles()}
        cmp /etc/nginx/stowage/apiserver.conf /run/nginx-stowage/apiserver.conf
        stat -c '%a %U' /run/nginx-stowage /run/nginx-stowage/apiserver.conf
        echo changed >/run/nginx-stowage/apiserver.conf
        {host.tmpfiles()}
        cat /run/nginx-stowage/apiserver.conf"""
    result = host.sh(script)
    assert (result.returncode, result.stdout) == (0, "755 root\n644 root\nchanged\n")


# -- what the kernel, the resolver and the runtime read ---------------------------------------------------------------------------


def laid_texts(bundle: Bundle, pattern: str) -> dict[str, str]:
    """Text by ``host: path`` of the laid files that match *pattern*, once a distinct text."""
    found: dict[str, str] = {}
    for host in bundle.cluster.hosts:
        for path in sorted((bundle.host(host) / "rootfs").glob(pattern)):
            text = path.read_text()
            if text not in found.values():
                found[f"{host.name}: {path.name}"] = text
    return found


SYSCTL_LINE = re.compile(r"(?P<key>[a-z0-9_]+([./][A-Za-z0-9_-]+)+) = (?P<value>\S.*)")


def test_sysctl_files(bundle):
    for name, text in laid_texts(bundle, "etc/sysctl.d/*.conf").items():
        keys = []
        for line in text.splitlines():
            if line and not line.startswith("#"):
                match = SYSCTL_LINE.fullmatch(line)
                assert match, f"{name}: {line!r}"
                keys.append(match["key"])
        assert keys, name
        assert len(keys) == len(set(keys)), f"{name}: a key twice"
        # Those that come with a module or a device aren't there before it.
        unknown = [
            key
            for key in keys
            if not key.startswith(("net.bridge.", "net.ipv4.conf.tunl0.")) and not Path("/proc/sys", key.replace(".", "/")).exists()
        ]
        assert not unknown, f"{name}: no such kernel settings"


@pytest.mark.needs("sysctl", "root")
def test_sysctl_itself_reads_them(bundle, laid):
    """The network's settings are the namespace's own, so those are set for real; the machine's are not touched."""
    for host in bundle.cluster.hosts[:1]:
        prepared = laid(bundle, host.name)
        lines = [line for text in laid_texts(bundle, "etc/sysctl.d/90-*.conf").values() for line in text.splitlines()]
        wanted = {
            match["key"]: match["value"]
            for line in lines
            if (match := SYSCTL_LINE.fullmatch(line)) and line.startswith(("net.ipv4.", "net.ipv6."))
        }
        if not wanted:
            continue
        prepared.put("/etc/sysctl.d/90-stowage.conf", "".join(f"{key} = {value}\n" for key, value in wanted.items()))
        result = prepared.sh(f"sysctl -q -p /etc/sysctl.d/90-stowage.conf && sysctl -n {' '.join(wanted)}")
        assert (result.returncode, result.stdout.splitlines()) == (0, list(wanted.values()))


def test_modules_have_sane_names(bundle):
    for name, text in laid_texts(bundle, "etc/modules-load.d/*.conf").items():
        modules = [line for line in text.splitlines() if not line.startswith("#")]
        assert modules, name
        assert len(set(modules)) == len(modules), name
        assert all(re.fullmatch(r"[a-z0-9_]+", module) for module in modules), f"{name}: {modules}"


@pytest.mark.needs("getent", "root")
def test_the_resolver_takes_the_hosts_block(bundle, laid):
    host = bundle.cluster.hosts[0]
    prepared = laid(bundle, host.name)
    prepared.put("/etc/hosts", "127.0.0.1 localhost\n" + (bundle.host(host) / "hosts.block").read_text())
    prepared.put("/etc/nsswitch.conf", "hosts: files\n")
    names = {h.name: {str(a.ip) for a in h.addresses} for h in bundle.cluster.hosts}
    if bundle.cluster.endpoint:
        names[bundle.cluster.endpoint.name] = {str(vip) for vip in bundle.cluster.endpoint.vips}
    script = "".join(f"getent -s files ahosts {name} | cut -d' ' -f1 | sort -u | tr '\\n' ' '; echo\n" for name in names)
    result = prepared.sh(script)
    assert [set(line.split()) for line in result.stdout.splitlines()] == list(names.values())


def test_chrony_accepts_its_configuration(bundle, laid):
    texts = [
        (host.name, path)
        for host in bundle.cluster.hosts
        for path in ("/etc/chrony.conf", "/etc/chrony/chrony.conf")
        if (bundle.host(host) / f"rootfs{path}").exists()
    ]
    for name, path in texts:
        host = laid(bundle, name)
        text = host.text(path)
        assert [line.split()[1] for line in text.splitlines() if line.startswith("server ")] == environment(bundle.host(name))[
            "NTP_SERVERS"
        ].split()
    if not texts:
        return
    wants("chronyd", "root")
    for name, path in texts:
        result = laid(bundle, name).sh(f"chronyd -p -f {path}")
        assert result.returncode == 0, result.stdout


def containerd_configs(bundle: Bundle) -> dict[str, str]:
    return laid_texts(bundle, "etc/containerd/config.toml")


def test_containerd_configuration(bundle):
    for host in bundle.cluster.kubernetes_hosts:
        path = bundle.host(host) / "rootfs/etc/containerd/config.toml"
        assert path.exists() is (bundle.cluster.runtime == "containerd")
        if not path.exists():
            continue
        data = tomllib.loads(path.read_text())
        pause, plugins = environment(bundle.host(host))["PAUSE_IMAGE"], data["plugins"]
        if bundle.cluster.containerd_version(host) >= (2, 0):
            assert data["version"] == 3
            images, runtime = plugins["io.containerd.cri.v1.images"], plugins["io.containerd.cri.v1.runtime"]
            assert images["pinned_images"] == {"sandbox": pause}
            assert images["registry"]["config_path"] == "/etc/containerd/certs.d"
        else:
            assert data["version"] == 2
            runtime = images = plugins["io.containerd.grpc.v1.cri"]
            assert images["sandbox_image"] == pause
            assert images["registry"]["config_path"] == "/etc/containerd/certs.d"
        runc = runtime["containerd"]["runtimes"]["runc"]
        assert runc == {"runtime_type": "io.containerd.runc.v2", "options": {"SystemdCgroup": True}}
        # The package of docker.com turns the CRI plugin off in its own file, which this one replaces.
        assert "disabled_plugins" not in data


def test_containerd_itself_reads_it(bundle, laid):
    if bundle.cluster.runtime != "containerd":
        return
    needs("containerd", "root")
    version = subprocess.run(["containerd", "--version"], capture_output=True, text=True, check=True).stdout
    for host in bundle.cluster.kubernetes_hosts:
        text = (bundle.host(host) / "rootfs/etc/containerd/config.toml").read_text()
        if re.search(r"\bv?2\.", version) or "version = 2" in text:
            result = laid(bundle, host.name).sh("containerd --config /etc/containerd/config.toml config dump")
            assert result.returncode == 0, result.stdout
            assert environment(bundle.host(host))["PAUSE_IMAGE"] in result.stdout
            assert "SystemdCgroup = true" in result.stdout


def test_docker_crio_and_crictl_configuration(bundle):
    for text in laid_texts(bundle, "etc/docker/daemon.json").values():
        daemon = json.loads(text)
        assert daemon["exec-opts"] == ["native.cgroupdriver=systemd"]
        assert all(isinstance(value, str) for value in daemon["log-opts"].values()), "docker takes strings only"
    for text in laid_texts(bundle, "etc/crio/crio.conf.d/*.conf").values():
        crio = tomllib.loads(text)["crio"]
        assert crio["image"]["pause_image"] == bundle.cluster.pause_image
        assert set(crio["image"]["pinned_images"]) == {*bundle.cluster.kubeadm_images, *bundle.cluster.cni_images}
        assert crio["runtime"] == {"cgroup_manager": "systemd", "conmon_cgroup": "pod"}
    for text in laid_texts(bundle, "etc/crictl.yaml").values():
        assert YAML(typ="safe").load(text) == {
            "runtime-endpoint": bundle.cluster.cri_socket,
            "image-endpoint": bundle.cluster.cri_socket,
            "timeout": 10,
        }
    for text in laid_texts(bundle, "etc/NetworkManager/conf.d/*.conf").values():
        parser = configparser.ConfigParser(delimiters=("=",))
        parser.read_string(text)
        assert all(entry.startswith("interface-name:") for entry in parser["keyfile"]["unmanaged-devices+"].split(";"))


# -- shells -----------------------------------------------------------------------------------------------------------------------


@cache
def scripts(bundle: Bundle) -> tuple[Path, ...]:
    """Every executable file of the bundle: its own, and those of the first control plane (all scripts)."""
    folders = [bundle.host(bundle.cluster.control_planes[0])]
    return (
        bundle.path / "verify.sh",
        *sorted((bundle.path / "scripts").glob("*.sh")),
        *(path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_mode & 0o100),
    )


def is_posix(path: Path) -> bool:
    return path.read_text().startswith("#!/bin/sh")


def test_scripts_are_the_same_bytes_everywhere(all_bundles):
    """So that it is enough to look at the example's."""
    texts: dict[str, dict[str, list[str]]] = {}
    for golden in GOLDENS:
        bundle = all_bundles(golden)
        for path in sorted(bundle.path.rglob("*.sh")):
            key = path.relative_to(bundle.path).as_posix().split("/", 2)[-1] if "hosts" in path.parts else path.name
            texts.setdefault(key, {}).setdefault(path.read_text(), []).append(f"{golden.name}/{path.parent.name}")
    assert not {key: list(found.values()) for key, found in texts.items() if len(found) != 1}


@pytest.mark.needs("bash")
def test_bash_parses_every_script(example):
    wrong = {
        path.name: result.stderr
        for path in scripts(example)
        if (result := subprocess.run(["bash", "-n", path], capture_output=True, text=True, check=False)).returncode or result.stderr
    }
    assert not wrong


@pytest.mark.needs("shellcheck")
def test_shellcheck_finds_nothing(example):
    """-x follows ``lib.sh``, in the places where a host has it."""
    bash = [path for path in scripts(example) if not is_posix(path)]
    assert len(bash) >= 15

    def check(path: Path) -> subprocess.CompletedProcess[str]:
        places = "SCRIPTDIR:SCRIPTDIR/scripts:SCRIPTDIR/../scripts"
        return subprocess.run(["shellcheck", "-x", "-P", places, path], capture_output=True, text=True, check=False)

    with ThreadPool(2) as pool:  # one process a script: it takes a second each
        wrong = [result.stdout + result.stderr for result in pool.map(check, bash) if result.returncode]
    assert not wrong, "".join(wrong)


@pytest.mark.needs("shellcheck", "dash")
def test_verify_is_for_any_posix_shell(example):
    posix = [path for path in scripts(example) if path.name == "verify.sh"]
    assert posix
    for path in posix:
        assert is_posix(path), f"{path}: not #!/bin/sh"
        for command in (["dash", "-n"], ["sh", "-n"], ["shellcheck", "-s", "sh"]):
            result = subprocess.run([*command, path], capture_output=True, text=True, check=False)
            assert (result.returncode, result.stdout + result.stderr) == (0, ""), command


@pytest.mark.needs("shellcheck", "bash", "dash")
def test_the_shells_and_shellcheck_can_refuse(tmp_path):
    bad = tmp_path / "bad.sh"
    bad.write_text("#!/bin/bash\nfor x in $1; do rm -rf $x/*; done\n")
    assert subprocess.run(["shellcheck", bad], capture_output=True, check=False).returncode
    bad.write_text("#!/bin/sh\n[[ $1 == a ]] && echo\n")
    assert subprocess.run(["shellcheck", "-s", "sh", bad], capture_output=True, check=False).returncode
    bad.write_text("if true; then echo\n")
    assert subprocess.run(["bash", "-n", bad], capture_output=True, check=False).returncode
    assert subprocess.run(["dash", "-n", bad], capture_output=True, check=False).returncode


@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_host_env_means_the_same_to_every_shell(bundle, shell):
    needs(shell)
    from generator.artifacts import scripts as artifact

    for host in bundle.cluster.hosts:
        wanted = artifact.environment(bundle.cluster, host)
        names = " ".join(wanted)
        script = (
            f'set -eu; . "$1"; for name in {names}; do eval "printf \'%s=%s\\0\' $name \\"\\${{$name}}\\""; done; set | cut -d= -f1 >&2'
        )
        result = subprocess.run(
            [shell, "-c", script, shell, str(bundle.host(host) / "host.env")],
            env={"PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert dict(pair.split("=", 1) for pair in result.stdout.split("\0")[:-1]) == wanted, host.name


# -- kubeadm ----------------------------------------------------------------------------------------------------------------------


def test_kubeadm_itself_validates(bundle, laid):
    """Where a kubeadm is on PATH; test_kubeadm.py has our own validator, which always runs."""
    wants("kubeadm", "root")
    version = subprocess.run(["kubeadm", "version", "-o", "short"], capture_output=True, text=True, check=True).stdout.strip()
    minor = int(version.split(".")[1])
    if minor - bundle.cluster.minor not in (0, 1):
        pytest.skip(f"kubeadm {version} doesn't take Kubernetes {bundle.cluster.kubernetes_version}")
    for host in bundle.cluster.kubernetes_hosts:
        prepared = laid(bundle, host.name)
        prepared.put("/etc/kubernetes/stowage-discovery.conf", "apiVersion: v1\nkind: Config\n", 0o600)
        (file,) = (bundle.host(host) / "kubeadm").glob("*.yaml")
        result = prepared.run("kubeadm", "config", "validate", "--config", str(file))
        assert result.returncode == 0, result.stdout


# -- nginx, running ---------------------------------------------------------------------------------------------------------------

PROXY = r"""
import json, socket, subprocess, sys, threading, time

given = json.loads(sys.argv[1])
family = socket.AF_INET6 if given["version"] == 6 else socket.AF_INET
own, *others = given["servers"]
for address in others:
    subprocess.run(["ip", "address", "add", address + given["length"], "dev", "lo", *given["nodad"]], check=True)


def serve(listener, name):
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        with client:
            client.sendall(name.encode() + b"\n")


listeners = {}
for address in given["servers"]:
    listener = listeners[address] = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, given["api_port"]))
    listener.listen(64)
    threading.Thread(target=serve, args=(listener, address), daemon=True).start()

nginx = subprocess.Popen(["nginx", "-c", "/etc/nginx/nginx.conf", "-g", "daemon off;"])


def ask(address, port):
    start = time.monotonic()
    try:
        with socket.create_connection((address, port), timeout=10) as client:
            data = b""
            while chunk := client.recv(100):
                data += chunk
    except OSError as error:
        return repr(error), time.monotonic() - start
    return data.decode(), time.monotonic() - start


def several(number):
    results = [ask(given["loopback"], given["port"]) for _ in range(number)]
    return {"answers": [text.strip() for text, _ in results], "slowest": max(seconds for _, seconds in results)}


for _ in range(100):
    if ask(given["loopback"], given["check_port"])[0] == "ok\n":
        break
    time.sleep(0.05)
said = {"check": ask(given["loopback"], given["check_port"])[0], "own_address": ask(own, given["port"])[0].strip(), "all": several(30)}
listeners[others[0]].shutdown(socket.SHUT_RDWR)
listeners[others[0]].close()
said["refused"] = several(20)
# A host that is dark: nobody answers ARP or NDP for it any more.
subprocess.run(["ip", "address", "del", others[1] + given["length"], "dev", "lo"], check=True)
said["dark"] = several(8)
said["rest"] = several(10)
nginx.terminate()
nginx.wait(10)
said["exit"] = nginx.returncode
print("RESULT " + json.dumps(said))
"""


def proxied(bundle: Bundle, host: LaidHost) -> dict:
    cluster = bundle.cluster
    version = cluster.ip_versions[0]
    given = {
        "version": version, "length": "/32" if version == 4 else "/128", "nodad": ["nodad"] if version == 6 else [],
        "servers": [str(h.address) for h in cluster.control_planes], "api_port": cluster.api_port, "port": cluster.endpoint.port,
        "loopback": cluster.check_listener[0], "check_port": cluster.check_listener[1],
    }  # fmt: skip
    host.put("/tmp-proxy.py", PROXY)
    result = host.sh(f"set -e\n{host.tmpfiles()}exec {sys.executable} {host.path('/tmp-proxy.py')} '{json.dumps(given)}'", timeout=40)
    lines = [line for line in result.stdout.splitlines() if line.startswith("RESULT ")]
    assert lines, result.stdout
    return json.loads(lines[0].removeprefix("RESULT "))


@pytest.mark.needs("nginx", "ip", "root")
@pytest.mark.parametrize("name", ["example", "debian-1.36", "ipv6-only"])
def test_nginx_proxies_skips_the_dead_and_answers_the_check(name, all_bundles, laid):
    bundle = next(all_bundles(golden) for golden in GOLDENS if golden.name == name)
    said = proxied(bundle, laid(bundle, bundle.cluster.control_planes[0].name))
    own, refusing, dark = (str(host.address) for host in bundle.cluster.control_planes)
    assert said["check"] == "ok\n"
    assert said["own_address"] in (own, refusing, dark)
    assert set(said["all"]["answers"]) == {own, refusing, dark}, "every API server gets its share"
    assert set(said["refused"]["answers"]) == {own, dark}, "a server that refuses is skipped, no client notices"
    assert said["refused"]["slowest"] < 0.5
    assert set(said["dark"]["answers"]) == {own}, "a host that is dark is skipped, no client notices"
    assert said["dark"]["slowest"] < 1.0 + 0.7, "after connectTimeout, which is 1s"
    assert set(said["rest"]["answers"]) == {own}
    assert said["rest"]["slowest"] < 0.5, "after maxFails it rests"
    assert said["exit"] == 0


# -- keepalived, running ----------------------------------------------------------------------------------------------------------

PAIR = r"""
import json, os, signal, subprocess, sys, time

given = json.loads(sys.argv[1])
started = time.monotonic()
subprocess.run("ip link add bridge type bridge mcast_snooping 0 && ip link set bridge up && ip link set lo up", shell=True, check=True)
holders, daemons = [], []


def start(number):
    log = open(given["hosts"][number]["log"], "a")
    daemons[number:number + 1] = [subprocess.Popen(
        ["nsenter", "-t", str(holders[number].pid), "-m", "-n", "keepalived", "--dont-fork", "--log-console", "--log-detail"],
        stdout=log, stderr=subprocess.STDOUT)]
    log.close()


for number, host in enumerate(given["hosts"]):
    process = subprocess.Popen(host["command"], env=host["environment"], stdin=subprocess.DEVNULL)
    holders.append(process)
    subprocess.run(["ip", "link", "add", f"port{number}", "type", "veth", "peer", "name", f"far{number}"], check=True)
    subprocess.run(["ip", "link", "set", f"port{number}", "master", "bridge", "up"], check=True)
    for _ in range(200):  # until it has left our network namespace
        if os.readlink(f"/proc/{process.pid}/ns/net") != os.readlink("/proc/self/ns/net"):
            break
        time.sleep(0.02)
    subprocess.run(["ip", "link", "set", f"far{number}", "netns", str(process.pid), "name", host["interface"]], check=True)
for number, host in enumerate(given["hosts"]):
    for _ in range(200):
        if os.path.exists(host["ready"]):
            break
        time.sleep(0.02)
    start(number)


def who():
    found = []
    for number, host in enumerate(given["hosts"]):
        text = subprocess.run(["nsenter", "-t", str(holders[number].pid), "-n", "ip", "-o", "address", "show"], capture_output=True, text=True).stdout
        if all(f" {vip}/" in text for vip in given["vips"]):
            found.append(number)
    return found


# Samples who holds the VIPs until *done* says so, for at most *limit* seconds; the longest time that two held them counts on.
most = {"double": 0.0}


def until(done, limit):
    begin = time.monotonic()
    double = None
    while (now := time.monotonic()) - begin < limit:
        holding = who()
        if len(holding) > 1:
            double = double or now
            most["double"] = max(most["double"], now - double)
        else:
            double = None
        if done(holding):
            return round(time.monotonic() - begin, 2)
        time.sleep(0.05)
    return None


said = {"elected": until(lambda found: len(found) == 1, 15)}
until(lambda found: False, 1.2)
said["first"] = who()
if len(said["first"]) == 1:
    first = said["first"][0]
    other = 1 - first
    daemons[first].send_signal(signal.SIGTERM)
    said["after_stop"] = until(lambda found: found == [other], 8)
    daemons[first].wait(10)
    start(first)
    until(lambda found: False, given["settle"])
    said["after_return"] = who()
    holder = who()[0] if who() else other
    # Its link stays up and leads nowhere, as when a switch dies: it holds on to its addresses, so who counts is the other one.
    subprocess.run(["ip", "link", "set", f"port{holder}", "nomaster"], check=True)
    said["holder_cut"] = holder
    said["after_cut"] = until(lambda found: 1 - holder in found, 8)
said["double"] = round(most["double"], 2)
said["seconds"] = round(time.monotonic() - started, 1)
for process in [*daemons, *holders]:
    process.kill()
print("RESULT " + json.dumps(said))
"""

VARIANTS = {
    "unicast": {},
    "multicast": {"transport": "multicast"},
    "password": {"vrrpVersion": 2, "advertInterval": 1, "authPass": {"secret": "vrrp"}},
    "IPv6": {},
    "dual stack": {},
    "preempt": {"preempt": True},
}


def pair_inventory(variant: str) -> dict:
    """Three control planes, two of which will run, with this variant's keepalived."""
    families = {"IPv6": [6], "dual stack": [4, 6]}.get(variant, [4])

    def addresses(number: int) -> list[str]:
        return [{4: f"10.99.0.{number}/24", 6: f"fd00:99::{number}/64"}[family] for family in families]

    pods, services = {4: "10.244.0.0/16", 6: "fd00:10:244::/56"}, {4: "10.96.0.0/16", 6: "fd00:10:96::/112"}
    return {
        "version": 1,
        "cluster": {
            "name": "pair",
            "kubernetesVersion": "1.34.10",
            "podSubnet": ",".join(pods[f] for f in families),
            "serviceSubnet": ",".join(services[f] for f in families),
        },
        "controlPlaneEndpoint": {"name": "api.pair.example", "address": addresses(10), "port": 16443},
        "loadBalancer": {"keepalived": {"virtualRouterId": 77, **VARIANTS[variant]}},
        "hostDefaults": {"interface": "ens9", "gateway": [{4: "10.99.0.1", 6: "fd00:99::1"}[f] for f in families], "os": "debian-12"},
        "hosts": [{"name": f"p{number}", "role": "control-plane", "address": addresses(10 + number)} for number in (1, 2, 3)],
    }


@pytest.fixture(scope="session")
def elections(tmp_path_factory):
    """What happened to each pair: all run at the same time, for they mostly wait."""
    lacking = missing("nginx", "keepalived", "ip", "nsenter", "root")
    if lacking:
        needs("nginx", "keepalived", "ip", "nsenter", "root")
    running, said = {}, {}
    for variant in VARIANTS:
        root = tmp_path_factory.mktemp("pair")
        checked = compiler.check(variant, emit.yaml(pair_inventory(variant)).encode())
        assert not checked.refused(), [d.message for d in checked.diagnostics]
        bundle = compiler.compile_to(root / "out", checked.cluster, {})
        hosts = []
        for name in ("p1", "p2"):
            host = LaidHost(bundle.path / "hosts" / name, root / name)
            ready = root / f"{name}.ready"
            command, environ = host.command("bash", "-c", f"set -e; {host.tmpfiles()} nginx; touch {ready}; exec sleep 120", hold=True)
            hosts.append(
                {"command": command, "environment": environ, "interface": "ens9", "log": str(root / f"{name}.log"), "ready": str(ready)}
            )
        given = {
            "hosts": hosts,
            "vips": [str(vip) for vip in checked.cluster.endpoint.vips],
            # Long enough that a host with a higher priority would have taken the VIPs back.
            "settle": 7 if variant == "password" else 5,
        }
        outer = ["unshare", "-m", "-n", "-p", "--fork", "--kill-child", "--mount-proc", sys.executable, "-c", PAIR, json.dumps(given)]
        running[variant] = (
            subprocess.Popen(outer, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True),
            root,
        )
    for variant, (process, root) in running.items():
        try:
            output, _ = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
        lines = [line for line in output.splitlines() if line.startswith("RESULT ")]
        logs = "".join(f"--- {log.name}\n{log.read_text()}" for log in sorted(root.glob("*.log")))
        said[variant] = (json.loads(lines[0].removeprefix("RESULT ")) if lines else {}, f"{output}\n{logs}")
    return said


@pytest.mark.parametrize("variant", VARIANTS)
def test_keepalived_elects_one_holder_and_fails_over(variant, elections):
    said, log = elections[variant]
    assert said, f"the test itself failed: {log}"
    assert said["elected"] is not None, f"nobody took the VIP: {log}"
    assert len(said["first"]) == 1, "not exactly one holder"
    assert said["after_stop"] is not None, "nobody took over from a keepalived that was stopped"
    assert said["after_stop"] < 5
    returned = [said["first"][0] if variant == "preempt" and said["first"][0] == 0 else 1 - said["first"][0]]
    assert said["after_return"] == returned, "preempt decides whether a host that returns takes the VIP back"
    assert said["after_cut"] is not None, "nobody took over from a host that is dark"
    assert said["after_cut"] < 5
    assert said["double"] < 1, "two holders"


def test_nothing_of_this_is_left_behind(tmp_path_factory):
    """The programs above ended with their namespaces: nothing runs whose files are this session's."""
    mark = f"LAID={tmp_path_factory.getbasetemp()}/".encode()
    assert not [path for path in Path("/proc").glob("[0-9]*/environ") if mark in _read(path)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_the_machine_has_what_this_file_needs():
    """One line in the summary says what was left out."""
    lacking = missing("nginx", "keepalived", "systemd-analyze", "shellcheck", "dash", "ip", "nsenter", "root")
    if lacking:
        needs(*lacking.split(", "))
    assert shutil.which("unshare")
