"""A compiled host folder laid as its steps would lay it, over a private view of this machine: for real programs, in namespaces of their own.

Nothing of this machine changes: /etc, /usr and /var are overlays, /run and the network are empty, and what a command starts ends with it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

MODULE = Path("nginx/modules/ngx_stream_module.so")

# The environment says: LAID what lies over this machine's files, NIC and CARRIES the interface and its addresses, HOLD the link comes from outside.
ENTER = r"""
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /mnt
cp -a "$LAID/." /mnt/
for top in etc usr var; do
    mkdir -p "/mnt/$top" "/mnt/.work/$top"
    mount -t overlay overlay -o "lowerdir=/$top,upperdir=/mnt/$top,workdir=/mnt/.work/$top" "/$top"
done
mount -t tmpfs tmpfs /run
mkdir -p /run/keepalived
ip link set lo up
if [ -n "$NIC" ]; then
    if [ -n "$HOLD" ]; then
        for _ in $(seq 200); do [ -e "/proc/self/net/dev" ] && grep -q "$NIC:" /proc/self/net/dev && break; sleep 0.05; done
    else
        ip link add name "$NIC" type veth peer name peer0
        ip link set dev peer0 up
    fi
    ip link set dev "$NIC" up
    for address in $CARRIES; do ip address add "$address" dev "$NIC" $(case $address in *:*) echo nodad ;; esac); done
fi
"$@" || exit
"""


def stream_module() -> Path:
    """The stream module of this machine; skips (in CI fails) where there is none."""
    for folder in ("/usr/lib", "/usr/lib64"):
        if (Path(folder) / MODULE).exists():
            return Path(folder) / MODULE
    if os.environ.get("CI") == "true":
        pytest.fail("CI must have nginx's stream module (libnginx-mod-stream)", pytrace=False)
    pytest.skip("needs nginx's stream module (libnginx-mod-stream)")
    return None


def environment(folder: Path) -> dict[str, str]:
    """``host.env`` of a host folder."""
    pairs = (shlex.split(line)[0].partition("=") for line in (folder / "host.env").read_text().splitlines())
    return {name: value for name, _, value in pairs}


class LaidHost:
    """The files of host folder *folder* below *root*, which becomes the upper layer over this machine's own files."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder, self.root = folder, root
        self.values = environment(folder)
        root.mkdir(parents=True)
        for line in (folder / "files.tsv").read_text().splitlines()[1:]:
            source, destination, mode, owner, _step, _unit, how = line.split("\t")
            assert owner == "root:root", line
            if how == "file":
                self.put(destination, (folder / source).read_text(), int(mode, 8))
        self._users()
        if self.values["LB_ENGINE"] == "nginx":
            self._stream()
        if self.values["VRRP_AUTH"]:
            # As step 40 lays it.
            self.put("/etc/keepalived/stowage-auth.conf", "authentication {\n    auth_type PASS\n    auth_pass k7Rm2wqX\n}\n", 0o600)

    def _users(self) -> None:
        """The users that the distribution's nginx package makes."""
        for name in ("passwd", "group"):
            text = Path("/etc", name).read_text()
            for user in ("nginx", "www-data"):
                if f"\n{user}:" not in text:
                    text += f"{user}:x:990:990::/:/usr/sbin/nologin\n" if name == "passwd" else f"{user}:x:990:\n"
            self.put(f"/etc/{name}", text)

    def _stream(self) -> None:
        """
        The stream module where this host's family has it.

        A host whose nginx has the module built in (nginx.org's packages) loads none; the nginx of a Debian or Red Hat test machine hasn't,
        so a line that loads it is put first, for the test alone.
        """
        module = stream_module()
        config = self.text("/etc/nginx/nginx.conf")
        if "load_module" not in config:
            self.put("/etc/nginx/nginx.conf", f"load_module {module};\n{config}")
        for folder in ("/usr/lib64", "/usr/lib"):
            wanted = Path(folder) / MODULE
            if not wanted.exists():
                self.path(str(wanted)).parent.mkdir(parents=True)
                shutil.copy(module, self.path(str(wanted)))
        (self.root / "var/log/nginx").mkdir(parents=True, exist_ok=True)
        (self.root / "var/lib/nginx").mkdir(parents=True, exist_ok=True)

    def path(self, destination: str) -> Path:
        """Where *destination* lies in the upper layer."""
        return self.root / destination.lstrip("/")

    def text(self, destination: str) -> str:
        """Text of a laid file."""
        return self.path(destination).read_text()

    def put(self, destination: str, text: str, mode: int = 0o644) -> None:
        """Lays *text*."""
        path = self.path(destination)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def change(self, destination: str, old: str, new: str) -> None:
        """Replaces *old*, which must be there, in a laid file."""
        text = self.text(destination)
        assert old in text, f"{old!r} isn't in {destination}"
        self.path(destination).write_text(text.replace(old, new))

    def command(self, *words: str, hold: bool = False) -> tuple[list[str], dict[str, str]]:
        """Command and environment that run *words* in namespaces with the laid files; with *hold* somebody else makes the interface."""
        settings = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "LAID": str(self.root),
            "NIC": self.values["INTERFACE"], "CARRIES": self.values["ADDRESSES"], "HOLD": "1" if hold else "",
        }  # fmt: skip
        # A holder outside must know the process by its id, so there it gets no PID namespace; its caller ends it.
        own = ["-m", "-n"] if hold else ["-m", "-n", "-p", "--fork", "--kill-child", "--mount-proc"]
        return ["unshare", *own, "bash", "-c", ENTER, "laid-host", *words], settings

    def run(self, *words: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
        """Runs *words* to its end; standard error is part of ``stdout``, for several programs report there and exit with 0."""
        command, settings = self.command(*words)
        return subprocess.run(
            command, env=settings, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout, check=False
        )  # fmt: skip

    def sh(self, script: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
        """Runs a bash script."""
        return self.run("bash", "-c", script, timeout=timeout)

    def tmpfiles(self) -> str:
        """The commands that do what systemd-tmpfiles would do at boot, for scripts of :meth:`sh`."""
        if "LB_ENGINE" not in self.values or self.values["LB_ENGINE"] != "nginx":
            return ""
        if shutil.which("systemd-tmpfiles"):
            return "systemd-tmpfiles --create /etc/tmpfiles.d/stowage-nginx.conf\n"
        return "mkdir -p /run/nginx-stowage && cp /etc/nginx/stowage/apiserver.conf /run/nginx-stowage/\n"

    def test_nginx(self) -> subprocess.CompletedProcess[str]:
        """``nginx -t`` on the laid configuration."""
        return self.sh(f"set -e\n{self.tmpfiles()}nginx -t -c /etc/nginx/nginx.conf")

    def test_keepalived(self) -> subprocess.CompletedProcess[str]:
        """``keepalived -t`` on the laid configuration; a file that isn't there would pass it, so that is looked at first."""
        return self.sh("test -s /etc/keepalived/keepalived.conf || exit 99\nkeepalived -t -f /etc/keepalived/keepalived.conf")
