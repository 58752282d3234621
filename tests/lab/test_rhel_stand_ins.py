"""What the stand-ins for a RHEL-like host and for Docker refuse, and that they keep what they are told. No host is booted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from lab import docker, rhel
from lab.rhel.packages import Header, write


class Ran(NamedTuple):
    status: int
    out: str
    err: str


class Red:
    """A root with nothing but the state of the stand-ins."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = root / "var/lib/lab-rhel"
        self.state.mkdir(parents=True)
        self.pool = root / "pool"
        self.pool.mkdir()
        self.installed()

    def run(self, module: str, *words: str | Path) -> Ran:
        done = subprocess.run(
            [sys.executable, "-E", "-s", "-S", "-B", rhel.HERE / f"{module}.py", *words],
            env={"LAB_RHEL_ROOT": str(self.root), "PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return Ran(done.returncode, done.stdout, done.stderr)

    def installed(self, *headers: Header) -> None:
        rows = [
            {
                "name": h.name,
                "version": h.version,
                "release": h.release,
                "arch": h.arch,
                "epoch": h.epoch,
                "provides": h.provides,
                "requires": h.requires,
                "files": {},
            }
            for h in headers
        ]
        (self.state / "rpmdb.json").write_text(json.dumps(rows))

    def file(self, name: str, version: str = "1.0", files: dict[str, str] | None = None, **more: object) -> Path:
        header = Header(name, version, "1.el9", **more)
        return write(self.pool / header.file, header, {path: (text.encode(), 0o644, "root:root") for path, text in (files or {}).items()})

    def install(self, *files: Path) -> Ran:
        return self.run(
            "dnf", "-y", "--disablerepo=*", "--disableplugin=versionlock", "--setopt=install_weak_deps=False", "install", *files
        )

    def names(self) -> list[str]:
        return sorted(self.run("rpm", "-qa", "--qf", "%{NAME}-%{VERSION}\\n").out.split())


@pytest.fixture
def red(tmp_path: Path) -> Red:
    return Red(tmp_path)


CURL = Header("curl-minimal", "7.76.1", "29.el9", provides=("curl = 7.76.1-29.el9",))


def test_rpm_answers_as_rpm_does(red: Red) -> None:
    red.installed(CURL, Header("kubelet", "1.29.3", "150500.1.1"), Header("bind-libs", "9.16.23", "1.el9", epoch=32))
    assert red.run("rpm", "-q", "--quiet", "kubelet-1.29.3").status == 0
    assert red.run("rpm", "-q", "--quiet", "kubelet-1.29.3-150500.1.1.x86_64").status == 0
    assert red.run("rpm", "-q", "kubelet-1.29.4") == Ran(1, "package kubelet-1.29.4 is not installed\n", "")
    assert red.run("rpm", "-q", "--quiet", "curl").status == 1
    assert red.run("rpm", "-q", "--quiet", "--whatprovides", "curl").status == 0
    assert red.run("rpm", "-q", "--qf", "%{EPOCHNUM} %{VERSION} %{RELEASE}\\n", "bind-libs").out == "32 9.16.23 1.el9\n"
    assert "unknown tag" in red.run("rpm", "-q", "--qf", "%{NAMES}", "kubelet").err
    assert red.run("rpm", "--import", "key").status == 97
    for this, that, order in (
        ("1.10", "1.9", "1"),
        ("1.0~rc1", "1.0", "-1"),
        ("1.0^git", "1.0", "1"),
        ("2.el9", "2.el9", "0"),
        ("1.0a", "1.0", "1"),
        ("a", "1", "-1"),
    ):
        assert red.run("rpm", "--eval", f"%{{lua: print(rpm.vercmp('{this}', '{that}'))}}").out == f"{order}\n", (this, that)
    file = red.file("glibc", "2.40", epoch=1)
    asked = red.run("rpm", "-qp", "--nosignature", "--qf", "%{NAME} %{EPOCHNUM} %{VERSION} %{RELEASE}\\n", file)
    assert asked == Ran(0, "glibc 1 2.40 1.el9\n", "")
    file.write_text("not one")
    assert "not an rpm package" in red.run("rpm", "-qp", "--nosignature", file).err


@pytest.mark.needs("root")
def test_dnf_installs_all_or_nothing(red: Red) -> None:
    red.installed(CURL)
    one = red.file("one", files={"etc/one.conf": "stock\n", "usr/bin/one": "1"}, requires=("two >= 1.1",))
    refused = red.install(one)
    assert (refused.status, red.names()) == (1, ["curl-minimal-7.76.1"])
    assert "nothing provides two >= 1.1 needed by one-1.0-1.el9.x86_64" in refused.err
    assert red.install(one, red.file("two", "1.0")).status == 1
    two = red.file("two", "1.2")
    assert red.install(one, two).status == 0
    assert (red.root / "usr/bin/one").read_text() == "1"
    again = red.install(one)
    assert (again.status, "already installed" in again.out) == (0, True)
    # a name has to come from somewhere, a conflict is nobody's to solve, an answer is nobody's to give
    assert "no enabled repositories" in red.install(Path("three")).err
    assert "Failed to download metadata" in red.run("dnf", "-y", "install", "three").err
    assert "conflicts with curl-minimal" in red.install(red.file("curl", "7.76.1", conflicts=("curl-minimal",))).err
    assert "Operation aborted" in red.run("dnf", "--disablerepo=*", "install", red.file("three")).err
    assert red.run("dnf", "-y", "upgrade").status == 97
    assert red.names() == ["curl-minimal-7.76.1", "one-1.0", "two-1.2"]
    # an older file that is named goes in, as dnf has it; unless something needs the newer one
    assert "nothing provides two >= 1.1" in red.install(red.file("two", "1.0")).err
    # rpm -e takes nothing along that is needed, saves what was changed, leaves no folder of its own
    needed = red.run("rpm", "-e", "two")
    assert (needed.status, "two >= 1.1 is needed by (installed) one-1.0-1.el9.x86_64" in needed.err) == (1, True)
    (red.root / "etc/one.conf").write_text("changed\n")
    assert red.run("rpm", "-e", "one", "no-such-thing").status == 1
    assert red.run("rpm", "-e", "one", "two").status == 0
    assert (red.root / "etc/one.conf.rpmsave").read_text() == "changed\n"
    assert not (red.root / "usr").exists()


@pytest.mark.needs("root")
def test_dnf_takes_a_repository_by_its_path(red: Red) -> None:
    """As step 10 gives it: by name, with what it needs, unless it is unsigned and nobody said so; without its metadata it is none."""
    red.installed(CURL)
    red.file("a", requires=("b >= 1.0",))
    red.file("b", "2.0")
    red.file("unneeded")
    words = ["-y", "--disablerepo=*", f"--repofrompath=stowage-payload,file://{red.pool}", "--setopt=stowage-payload.gpgcheck=0"]
    more = [
        "--setopt=stowage-payload.repo_gpgcheck=0",
        "--setopt=stowage-payload.module_hotfixes=1",
        "--setopt=cachedir=/x",
        "install",
        "a",
    ]
    assert "Cannot download repomd.xml" in red.run("dnf", *words, *more).err
    (red.pool / "repodata").mkdir()
    (red.pool / "repodata/repomd.xml").touch()
    assert "GPG check FAILED" in red.run("dnf", *words[:3], "install", "a").err
    assert "No match for argument: c" in red.run("dnf", *words, "install", "c").err
    done = red.run("dnf", *words, *more)
    assert (done.status, red.names()) == (0, ["a-1.0", "b-2.0", "curl-minimal-7.76.1"]), done.err


@pytest.mark.needs("root")
def test_versionlock(red: Red) -> None:
    lock = ("dnf", "-q", "--cacheonly", "--disablerepo=*", "versionlock")
    assert red.run(*lock, "list").status == 1  # no plugin
    red.installed(Header("python3-dnf-plugin-versionlock", "4.3.0", "13.el9"), Header("kubelet", "1.29.3", "1"))
    assert red.run(*lock, "add", "kubeadm").status == 1
    assert red.run(*lock, "add", "kubelet").status == 0
    assert red.run(*lock, "list").out == "kubelet-0:1.29.3-1.*\n"
    newer = red.file("kubelet", "1.30.0")
    assert "excl" in red.run("dnf", "-y", "--disablerepo=*", "install", newer).err
    assert red.install(newer).status == 0
    assert red.run(*lock, "delete", "kubelet").status == 0
    assert red.run(*lock, "delete", "kubelet").status == 1
    assert red.run(*lock, "list").out == ""


def test_firewalld_keeps_two_configurations_and_merges_ports(red: Red) -> None:
    def firewall(*words: str) -> Ran:
        return red.run("firewalld", *words)

    assert firewall("--permanent", "--get-default-zone").status == 252  # not running
    (red.root / "run/lab-rhel").mkdir(parents=True)
    (red.root / "run/lab-rhel/firewalld.json").write_text(
        (red.state / "firewalld.json").read_text() if firewall("--defaults").status == 0 else ""
    )
    assert firewall("--get-zone-of-interface=eth0") == Ran(2, "", "no zone\n")
    assert firewall("-q", "--permanent", "--add-port=30000-32767/tcp") == Ran(0, "", "")
    assert firewall("--list-ports").out == "\n"
    assert firewall("--permanent", "--list-ports").out == "30000-32767/tcp\n"
    inside = firewall("--permanent", "--add-port=31000/tcp")
    assert (inside.status, "ALREADY_ENABLED" in inside.err) == (0, True)
    assert firewall("--permanent", "--remove-port=31000/tcp").status == 0
    assert firewall("--permanent", "--list-ports").out == "30000-30999/tcp 31001-32767/tcp\n"
    assert firewall("--permanent", "--add-port=30500-40000/tcp").status == 0
    assert firewall("--permanent", "--list-ports").out == "30000-40000/tcp\n"
    assert "NOT_ENABLED" in firewall("--remove-port=1/tcp").err
    assert firewall("--add-port=6443").status == 102
    assert firewall("--zone=trust", "--list-ports").status == 112
    assert firewall('--add-rich-rule=rule protocol value="nonsense" accept').status == 103
    assert firewall('--add-rich-rule=rule protocol value="vrrp" accept').status == 0
    assert firewall("--list-rich-rules").out == 'rule protocol value="vrrp" accept\n'
    assert firewall("--zone=trusted", "--add-source=10.244.0.0/16").status == 0
    assert firewall("--zone=work", "--add-source=10.244.0.0/16").status == 49
    assert firewall("--direct").status == 97


@pytest.mark.needs("root")
def test_selinux_knows_its_ports(red: Red) -> None:
    def semanage(*words: str) -> Ran:
        return red.run("selinux", "semanage", "port", *words)

    conf = red.root / "nginx.conf"
    conf.write_text("stream {\n    server {\n        listen 16443 so_keepalive=on;\n        proxy_pass x;\n    }\n}\n")
    assert "80, 81, 443, 488, 8008, 8009, 8443, 9000" in semanage("-l").out
    assert semanage("-l", "-C").out == ""
    assert "Permission denied" in red.run("selinux", "confined", conf).err
    assert semanage("-a", "-t", "http_ports_t", "-p", "tcp", "16443").status == 1
    assert semanage("-m", "-t", "http_port_t", "-p", "tcp", "16443").status == 1
    assert semanage("-a", "-t", "http_port_t", "-p", "tcp", "16443").status == 0
    assert "tcp      16443, 80, 81" in semanage("-l").out
    assert "httpd_can_network_connect is off" in red.run("selinux", "confined", conf).err
    assert red.run("selinux", "getsebool", "httpd_can_network_connect").out == "httpd_can_network_connect --> off\n"
    assert red.run("selinux", "setsebool", "-P", "httpd_can_network_connect", "1").status == 0
    assert red.run("selinux", "setsebool", "-P", "httpd_can", "1").status == 1
    assert red.run("selinux", "confined", conf).status == 0
    assert "defined in policy" in semanage("-d", "-p", "tcp", "80").err
    assert semanage("-d", "-p", "tcp", "16443").status == 0
    assert semanage("-d", "-p", "tcp", "16443").status == 1
    assert red.run("selinux", "restorecon", "-F", "/nowhere").status == 255


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"exec-opts": ["native.cgroupdriver=systemd"], "log-driver": "json-file", "log-opts": {"max-size": "50m", "max-file": "5"}}', ""),
        ('{"exec-opts": ["native.cgroupdriver=systemd"]', "invalid character"),
        ('{"exec-opt": []}', "don't match any configuration option: exec-opt"),
        ('{"hosts": ["fd://"]}', "both as a flag and in the configuration file: hosts"),
        ('{"live-restore": "yes"}', "cannot unmarshal"),
        ('{"log-opts": {"max-file": 5}}', "cannot unmarshal"),
        ('{"log-opts": {"max-files": "5"}}', "unknown log opt 'max-files'"),
        ('{"exec-opts": ["native.cgroupdriver=systemdd"]}', "invalid exec-opt"),
        ('{"registry-mirrors": ["registry.example"]}', "invalid mirror"),
    ],
)
def test_dockerd_reads_its_configuration(tmp_path: Path, text: str, said: str) -> None:
    config = tmp_path / "daemon.json"
    config.write_text(text)
    words = [sys.executable, "-B", docker.HERE / "dockerd.py", "-H", "fd://", f"--config-file={config}", "--validate"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, said in done.stderr) == (1 if said else 0, True), done.stderr


def test_docker_needs_its_daemon_and_cri_dockerd_its_flags(tmp_path: Path) -> None:
    environment = {"LAB_DOCKER_ROOT": str(tmp_path)}
    asked = subprocess.run(
        [sys.executable, "-B", docker.HERE / "docker.py", "image", "inspect", "a:b"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (asked.returncode, "Is the docker daemon running?" in asked.stderr) == (1, True)
    for flag, said in (
        ("--pod-infra-image=a", "unknown flag"),
        ("--network-plugin=calico", "invalid argument"),
        ("--container-runtime-endpoint=fd://", "no sockets"),
    ):
        done = subprocess.run([sys.executable, "-B", docker.HERE / "cri_dockerd.py", flag], capture_output=True, text=True, check=False)
        assert (done.returncode, said in done.stderr) == (1, True), done.stderr
