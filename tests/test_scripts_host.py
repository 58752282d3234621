"""The frame of the host scripts, verify.sh and steps 00 to 40, run for real in namespaces (see fakehost.py)."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import re
import select
import shutil
import subprocess
from pathlib import Path

import pytest
from fakehost import SCRIPTS, FakeHost, sums

HOST_SCRIPTS = ("lib.sh", "lay.sh", "run.sh", "00-preflight.sh", "10-packages.sh", "20-host.sh", "30-images.sh", "40-load-balancer.sh")
STEPS = tuple(name for name in HOST_SCRIPTS if name[0].isdigit())


def unable(reason: str) -> None:
    """Skips; in CI, where everything has to be there, fails."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must be able to run this: {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def namespaces(tmp_path_factory: pytest.TempPathFactory) -> None:
    if os.geteuid() != 0:
        unable("needs root for namespaces")
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        unable("needs unshare and ip")
    trial = FakeHost(tmp_path_factory.mktemp("trial")).sh("true")
    if trial.returncode != 0:
        unable(f"no sandbox here: {trial.stderr}")


@pytest.fixture
def host(tmp_path: Path, namespaces: None) -> FakeHost:
    """A control plane that is a load balancer, with files to lay in step 20."""
    fake = FakeHost(tmp_path, SELINUX_PORTS="", PORTS="", TRUSTED_CIDRS="", FIREWALL="none")
    for unit in ("containerd.service", "kubelet.service", "nginx.service"):
        fake.unit(unit)
    fake.unit("keepalived.service", "active", "enabled")
    fake.put("/etc/hosts", "127.0.0.1 localhost\n192.0.2.99 keep")
    fake.put("/etc/fstab", "# swap was here\n/dev/sda1 / ext4 defaults 0 1\n/dev/sda2 none swap sw 0 0\n")
    fake.put("/etc/keepalived/keepalived.conf", "old\n", 0o640)
    fake.file("/etc/link.conf").symlink_to("elsewhere")
    fake.row("/etc/link.conf", "a file now\n", step="20")
    fake.row("/etc/hosts", "192.0.2.31 backend\n", how="block")
    fake.row("/etc/sysctl.d/90-stowage.conf", "# ours\nnet.ipv4.ip_forward = 1\nnet.ipv4.conf.all.rp_filter=2\n", unit="sysctl")
    fake.row("/etc/modules-load.d/stowage.conf", "# ours\nstowage_not_there\n", unit="modules")
    fake.row("/etc/systemd/system/containerd.service.d/10-proxy.conf", "[Service]\n", unit="containerd.service")
    fake.row("/etc/stowage/deep/secret.conf", "x\n", mode="0600", owner="root:root")
    fake.row("/etc/keepalived/keepalived.conf", "new\n", unit="keepalived.service")
    # a boot applies what lies in sysctl.d; the sandbox boots at every run
    before = "if compgen -G '/etc/sysctl.d/90-*' >/dev/null; then /usr/lib/systemd/systemd-sysctl /etc/sysctl.d/90-*; fi\n"
    before += 'mkdir -p "$ROOT/run"; [ -e "$ROOT/swaps" ] || echo Filename >"$ROOT/swaps"; mount --bind "$ROOT/swaps" /proc/swaps\n'
    (fake.root / "layers" / "before.sh").write_text(before)
    (fake.root / "layers" / "swaps").write_text("Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n")
    fake.stand_in(
        "swapoff",
        '#!/bin/sh\necho "swapoff $*" >>"$FAKE/calls"\nsed -i "\\,^$1 ,d" "$ROOT/swaps.new" 2>/dev/null || :\ngrep -v "^$1 " "$ROOT/swaps" >"$ROOT/s" || :; cat "$ROOT/s" >"$ROOT/swaps"\n',
    )
    fake.stand_in("swapon", '#!/bin/sh\necho "swapon $*" >>"$FAKE/calls"\necho "$1 partition 1 0 -2" >>"$ROOT/swaps"\n')
    return fake


def good(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


# --- style -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*HOST_SCRIPTS, "verify.sh"])
def test_is_clean_and_short(name: str) -> None:
    shell = "sh" if name == "verify.sh" else "bash"
    subprocess.run([shell, "-n", SCRIPTS / name], check=True)
    assert len((SCRIPTS / name).read_text().splitlines()) < 350
    if shutil.which("shellcheck") is None:
        unable("needs shellcheck")
    result = subprocess.run(["shellcheck", "-x", "-P", SCRIPTS, "-s", shell, SCRIPTS / name], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("name", [*STEPS, "run.sh", "verify.sh"])
def test_help_is_the_header_and_touches_nothing(tmp_path: Path, name: str) -> None:
    fake = FakeHost(tmp_path)
    result = subprocess.run(["bash", fake.path(name), "--help"], capture_output=True, text=True, check=True)
    assert result.stdout.startswith(name)
    assert "Exit status" in result.stdout
    assert result.stderr == ""
    wrong = subprocess.run(["bash", fake.path(name), "--bogus"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2


# --- verify.sh -------------------------------------------------------------------------------------------------------


def verify(folder: Path, *parts: str, shell: str = "sh", cwd: str = "/") -> tuple[int, list[str]]:
    result = subprocess.run([shell, folder / "verify.sh", *parts], capture_output=True, text=True, cwd=cwd, check=False)
    return result.returncode, sorted(result.stdout.splitlines())


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_verify_names_what_differs(tmp_path: Path, shell: str) -> None:
    bundle = FakeHost(tmp_path).bundle
    assert verify(bundle, shell=shell) == (0, ["verify: as built"])
    (bundle / "scripts" / "20-host.sh").write_text("# changed\n")
    (bundle / "files.tsv").unlink()
    (bundle / "ex tra \N{SNOWMAN}").touch()
    (bundle / "new\nline\x1b[31m").touch()
    (bundle / "host.env\n.").mkdir()
    (bundle / "host.env\n." / "run.sh").touch()
    (bundle / "link").symlink_to("/etc/hosts")
    (bundle / "images.txt").unlink()
    os.mkfifo(bundle / "images.txt")
    status, lines = verify(bundle, shell=shell)
    assert status == 1
    assert lines == sorted(
        [
            "changed: scripts/20-host.sh", "missing: files.tsv", "missing: images.txt", "extra, no regular file: images.txt",
            "extra, no regular file: link", "extra: ex tra \N{SNOWMAN}", "extra: new?line?[31m", "extra: host.env?./run.sh",
        ]
    )  # fmt: skip


def test_verify_of_overlays(tmp_path: Path) -> None:
    bundle = FakeHost(tmp_path).bundle
    (bundle / "secrets").mkdir()
    (bundle / "secrets" / "vrrp").write_text("abc")
    assert verify(bundle)[0] == 0  # no sums: not ours to judge
    sums(bundle / "secrets")
    assert verify(bundle)[0] == 0
    (bundle / "secrets" / "more").touch()
    assert verify(bundle) == (1, ["extra: secrets/more"])
    assert verify(bundle, "bundle")[0] == 0
    assert verify(bundle, "secrets")[0] == 1


def test_verify_of_a_whole_bundle(tmp_path: Path) -> None:
    root = tmp_path / "b"
    (root / "hosts" / "a b").mkdir(parents=True)
    (root / "hosts" / "a b" / "host.env").write_text("x")
    shutil.copy(SCRIPTS / "verify.sh", root / "verify.sh")
    sums(root)
    payload = root / "hosts" / "a b" / "payload"
    payload.mkdir()
    (payload / "x.tar").write_text("x")
    assert verify(root)[0] == 0
    sums(payload)
    assert verify(root)[0] == 0
    (payload / "x.tar").write_text("y")
    assert verify(root) == (1, ["changed: hosts/a b/payload/x.tar"])
    (root / "hosts" / "a b" / "rootfs" / "secrets").mkdir(parents=True)
    (root / "hosts" / "a b" / "rootfs" / "secrets" / "x").touch()  # an overlay only where it belongs
    assert "extra: hosts/a b/rootfs/secrets/x" in verify(root)[1]


@pytest.mark.parametrize(
    "line",
    [
        f"{'0' * 64}  /etc/passwd",
        f"{'0' * 64}  ../x",
        f"{'0' * 64}  a/../b",
        f"{'0' * 64}  -",
        f"\\{'0' * 64}  a",
        "abc  x",
        f"{'0' * 64}  ./x",
    ],
)
def test_verify_refuses_sums_that_reach_out(tmp_path: Path, line: str) -> None:
    bundle = FakeHost(tmp_path).bundle
    with (bundle / "SHA256SUMS").open("a") as file:
        file.write(line + "\n")
    assert verify(bundle)[0] == 2
    (bundle / "SHA256SUMS").unlink()
    assert verify(bundle)[0] == 2


# --- the frame -------------------------------------------------------------------------------------------------------


def test_nothing_is_read_that_has_no_sum(host: FakeHost) -> None:
    with (host.bundle / "host.env").open("a") as file:
        file.write("touch /tmp/stowage-canary\n")
    result = host.run("20-host.sh")
    assert result.returncode == 1
    assert "changed: host.env" in result.stderr
    sums(host.bundle, without=("secrets",))
    result = host.run("20-host.sh")
    assert result.returncode == 1
    assert "not assignments" in result.stderr
    host.seal(CLUSTER="../../etc")
    assert host.run("20-host.sh").returncode == 1
    assert not Path("/tmp/stowage-canary").exists()
    assert not host.file("/var/lib/stowage").exists()


def test_the_wrong_host_is_refused(host: FakeHost) -> None:
    host.carries = "192.0.2.250/24"
    before = host.snapshot()
    result = host.run("20-host.sh")
    assert result.returncode == 1
    assert "this is not master-1" in result.stderr
    assert host.snapshot() == before


def test_one_script_at_a_time(host: FakeHost) -> None:
    host.stand_in("modprobe", '#!/bin/sh\n: >"$FAKE/waiting"; sleep 20\n')
    script = f"(cd /; exec bash '{host.path('20-host.sh')}') & for i in $(seq 100); do [ -e $FAKE/waiting ] && break; sleep 0.05; done; bash '{host.path('20-host.sh')}'; s=$?; kill -9 -1; exit $s"
    result = host.sh("bash", "-c", script)
    assert "another Stowage script is running" in result.stdout + result.stderr


def test_a_secret_is_asked_for_twice_and_kept(host: FakeHost) -> None:
    script = host.bundle / "scripts" / "99-ask.sh"
    script.write_text(
        'STEP=99 TITLE=ask\n. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"\n'
        'step_do() { local word; word=$(secret vrrp); lay_text /etc/word 0600 root:root - "$word"; finish asked none; }\nstowage_main "$@"\n'
    )
    host.seal()
    assert host.run("99-ask.sh").returncode == 1  # no terminal: told, not invented

    def ask(*answers: str) -> tuple[int, str]:
        command, environment = host.command("bash", str(script))
        pid, terminal = pty.fork()
        if pid == 0:
            os.execvpe(command[0], command, environment)
        said, waiting = "", list(answers)
        while select.select([terminal], [], [], 20)[0]:
            try:
                said += os.read(terminal, 4096).decode()
            except OSError:  # the other end is closed
                break
            if waiting and said.count("(not shown): ") + said.count("again: ") > len(answers) - len(waiting):
                os.write(terminal, waiting.pop(0).encode() + b"\n")
        os.close(terminal)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said

    assert ask("CaNaRy7", "different")[0] == 1
    assert not host.file("/var/lib/stowage/example/secrets").exists()
    status, said = ask("CaNaRy7", "CaNaRy7")
    assert status == 0, said
    assert "CaNaRy7" not in said + host.file("/var/log/stowage/99-ask.log").read_text()
    assert host.file("/var/lib/stowage/example/secrets/vrrp").read_text() == "CaNaRy7"
    assert host.file("/var/lib/stowage/example/secrets/vrrp").stat().st_mode & 0o777 == 0o600
    assert host.file("/etc/word").read_text() == "CaNaRy7\n"
    assert "nothing to change" in good(host.run("99-ask.sh"))


# --- 20-host: plan, lay, again, roll back, kill ----------------------------------------------------------------------


def test_plan_changes_nothing_at_all(host: FakeHost) -> None:
    good(host.sh("true"))
    before = sorted(path for path in (host.root / "layers").rglob("*") if "/work/" not in str(path))
    content = host.snapshot()
    out = good(host.run("20-host.sh", "--plan"))
    assert "would lay /etc/keepalived/keepalived.conf" in out
    assert "would reload keepalived.service" in out
    assert "would switch swap off on /dev/sda2" in out
    assert "would start containerd.service" in out
    assert host.calls() == []
    assert host.snapshot() == content
    assert sorted(path for path in (host.root / "layers").rglob("*") if "/work/" not in str(path)) == before


def test_lays_once_and_rolls_back_to_the_byte(host: FakeHost) -> None:
    before, states = host.snapshot(), host.states()
    out = good(host.run("20-host.sh"))
    calls = host.calls()
    assert "REALLY try-reload-or-restart keepalived.service" in calls
    assert calls.index("daemon-reload ") < calls.index("start containerd.service")
    assert "modprobe stowage_not_there" in calls
    assert "swapoff /dev/sda2" in calls
    assert out.splitlines()[-1].startswith("20-host: the host is prepared (")
    assert host.states() == states | {"containerd.service": {"enabled", "active"}, "kubelet.service": {"enabled"}}
    assert (
        host.file("/etc/hosts").read_text()
        == "127.0.0.1 localhost\n192.0.2.99 keep\n# BEGIN stowage example\n192.0.2.31 backend\n# END stowage example\n"
    )
    assert "# stowage example: /dev/sda2 none swap sw 0 0\n" in host.file("/etc/fstab").read_text()
    assert host.file("/etc/stowage/deep/secret.conf").stat().st_mode & 0o777 == 0o600
    assert host.file("/etc/keepalived/keepalived.conf").stat().st_mode & 0o777 == 0o644
    assert host.file("/var/lib/stowage/example").stat().st_mode & 0o777 == 0o700
    assert host.file("/var/log/stowage/20-host.log").stat().st_mode & 0o777 == 0o600
    host.stand_in("modprobe", "#!/bin/sh\nexit 0\n")
    after = host.snapshot()
    host.calls()
    again = good(host.run("20-host.sh"))
    assert (
        re.sub(r".*stowage_not_there\n", "", again)
        .splitlines()[-1]
        .startswith(("20-host: nothing to change", "20-host: the host is prepared (1 changed)"))
    )
    assert host.snapshot() == after
    assert host.calls() == []
    out = good(host.run("20-host.sh", "--rollback"))
    assert "put back" not in out
    assert host.snapshot() == before
    assert host.states() == states
    assert "swapon /dev/sda2" in host.calls()
    assert not host.file("/etc/stowage").exists()
    assert "has changed nothing" in good(host.run("20-host.sh", "--rollback"))


def test_the_first_backup_wins_and_others_edits_stay(host: FakeHost) -> None:
    before = host.snapshot()
    good(host.run("20-host.sh"))
    host.row("/etc/keepalived/keepalived.conf", "newer\n", unit="keepalived.service")
    host.drop("/etc/stowage/deep/secret.conf")
    good(host.run("20-host.sh"))
    assert host.file("/etc/keepalived/keepalived.conf").read_text() == "newer\n"
    assert not host.file("/etc/stowage/deep/secret.conf").exists()  # its row is gone: so is the file
    with host.file("/etc/hosts").open("a") as file:
        file.write("192.0.2.7 late\n")
    good(host.run("20-host.sh", "--rollback"))
    after = host.snapshot()
    assert host.file("/etc/hosts").read_text() == "127.0.0.1 localhost\n192.0.2.99 keep\n192.0.2.7 late\n"
    assert {name: value for name, value in after.items() if name != "/etc/hosts"} == {
        name: value for name, value in before.items() if name != "/etc/hosts"
    }


def test_half_a_block_is_refused(host: FakeHost) -> None:
    host.put("/etc/hosts", "# BEGIN stowage example\n127.0.0.1 localhost\n")
    result = host.run("20-host.sh")
    assert result.returncode == 1
    assert "without the other" in result.stdout
    assert host.file("/etc/hosts").read_text() == "# BEGIN stowage example\n127.0.0.1 localhost\n"


KILLING = """#!/bin/bash
n=$(($(cat "$FAKE/n" 2>/dev/null || echo 0) + 1)); echo $n >"$FAKE/n"
if [[ $n == "$(cat "$FAKE/at" 2>/dev/null)" && $(cat "$FAKE/when") == before ]]; then kill -9 -1; exit 137; fi
PATH=${PATH#*:} %s "$@"; s=$?
if [[ $n == "$(cat "$FAKE/at" 2>/dev/null)" ]]; then kill -9 -1; fi
exit $s
"""


CHANGING = ("mv", "cp", "rm", "sync", "mkdir", "chmod", "chown")


def disarm(host: FakeHost) -> None:
    for name in CHANGING:
        (host.bin / name).unlink(missing_ok=True)


def arm(host: FakeHost, at: int, when: str) -> None:
    """The at-th call of anything that changes a file kills every process of the sandbox, before or after its work; 0 only counts."""
    for name in CHANGING:
        host.stand_in(name, KILLING % name)
    (host.fake / "n").unlink(missing_ok=True)
    (host.fake / "at").write_text(str(at))
    (host.fake / "when").write_text(when)


def test_a_kill_anywhere_is_made_good(host: FakeHost) -> None:
    host.stand_in("modprobe", "#!/bin/sh\nexit 0\n")
    before, states = host.snapshot(), host.states()
    arm(host, 0, "before")
    good(host.run("20-host.sh"))
    total = int((host.fake / "n").read_text())
    finished = {name: (value[0], value[2]) for name, value in host.snapshot().items()}
    disarm(host)
    assert total > 40
    points = range(1, total + 1) if os.environ.get("STOWAGE_EVERY_KILL") else range(3, total + 1, total // 4)
    for at in points:
        good(host.run("20-host.sh", "--rollback"))
        assert host.snapshot() == before, at
        arm(host, at, ("before", "after")[at % 2])
        host.calls()
        assert host.run("20-host.sh").returncode == 137
        disarm(host)
        good(host.run("20-host.sh"))
        assert {name: (value[0], value[2]) for name, value in host.snapshot().items()} == finished, at
        assert sum("REALLY try-reload-or-restart keepalived" in call for call in host.calls()) >= 1, at  # the reload is not lost
    for at in range(1, 40) if os.environ.get("STOWAGE_EVERY_KILL") else (17,):  # and in the middle of a rollback
        good(host.run("20-host.sh"))
        arm(host, at, "after")
        host.run("20-host.sh", "--rollback")
        disarm(host)
        good(host.run("20-host.sh", "--rollback"))
        assert host.snapshot() == before, at
        assert host.states() == states


FIREWALLD = r"""#!/bin/bash
where=run; zone=public; for word; do case $word in
  --permanent) where=permanent ;; --zone=*) zone=${word#*=} ;;
  --get-zone-of-interface=*) echo public; exit ;;
  --list-*) cat "$FAKE/fw/$where.$zone.${word#--list-}" 2>/dev/null | if [[ $word == *rich* ]]; then cat; else tr '\n' ' '; fi; exit 0 ;;
  --add-*) change=add; rest=${word#--add-} ;; --remove-*) change=remove; rest=${word#--remove-} ;; esac; done
mkdir -p "$FAKE/fw"; file="$FAKE/fw/$where.$zone.${rest%%=*}s"
if [[ $change == add ]]; then echo "${rest#*=}" >>"$file"; else grep -Fxv -- "${rest#*=}" "$file" >"$file.n"; mv "$file.n" "$file"; fi
"""

UFW = r"""#!/bin/bash
[[ $1 != --force ]] || shift
words=$*
case $words in
  status) echo "Status: active" ;;
  'show added') echo "Added user rules (see 'ufw status' for running firewall):"; sed 's/^/ufw /' "$FAKE/ufw" 2>/dev/null; exit 0 ;;
  reload) echo "ufw reload" >>"$FAKE/calls" ;;
  *delete*) grep -Fxv -- "${words/delete /}" "$FAKE/ufw" >"$FAKE/ufw.n"; mv "$FAKE/ufw.n" "$FAKE/ufw" ;;
  *) echo "$*" >>"$FAKE/ufw" ;;
esac
"""


def test_firewalld(host: FakeHost) -> None:
    host.seal(FIREWALL="auto", PORTS="6443/tcp 2379-2380/tcp vrrp ipip", TRUSTED_CIDRS="10.244.0.0/16")
    host.unit("firewalld.service", "active", "enabled")
    host.stand_in("firewall-cmd", FIREWALLD)
    (host.fake / "fw").mkdir()
    (host.fake / "fw" / "permanent.public.ports").write_text("6443/tcp\n22/tcp\n")
    good(host.run("20-host.sh"))
    for where in ("permanent", "run"):
        assert {"6443/tcp", "2379-2380/tcp"} <= set((host.fake / "fw" / f"{where}.public.ports").read_text().split())
        assert (
            host.fake / "fw" / f"{where}.public.rich-rules"
        ).read_text() == 'rule protocol value="vrrp" accept\nrule protocol value="4" accept\n'
        assert (host.fake / "fw" / f"{where}.trusted.sources").read_text() == "10.244.0.0/16\n"
    assert "firewalld" not in good(host.run("20-host.sh"))
    good(host.run("20-host.sh", "--rollback"))
    assert (host.fake / "fw" / "permanent.public.ports").read_text() == "6443/tcp\n22/tcp\n"
    assert (host.fake / "fw" / "run.public.ports").read_text() == ""
    assert (host.fake / "fw" / "run.public.rich-rules").read_text() == ""


def test_firewalld_ranges_of_others(host: FakeHost) -> None:
    """What a range of somebody else has open is neither added nor taken back: firewalld would cut a hole into it."""
    host.seal(FIREWALL="auto", PORTS="6443/tcp 30000-32767/tcp 8472/udp", TRUSTED_CIDRS="")
    host.unit("firewalld.service", "active", "enabled")
    host.stand_in("firewall-cmd", FIREWALLD)
    (host.fake / "fw").mkdir()
    for where in ("permanent", "run"):
        (host.fake / "fw" / f"{where}.public.ports").write_text("6000-7000/tcp\n32000-33000/tcp\n8000-9000/tcp\n")
    good(host.run("20-host.sh"))
    for where in ("permanent", "run"):
        assert (host.fake / "fw" / f"{where}.public.ports").read_text().split()[3:] == ["30000-31999/tcp", "8472/udp"]
    assert "firewalld" not in good(host.run("20-host.sh"))
    good(host.run("20-host.sh", "--rollback"))
    assert (host.fake / "fw" / "run.public.ports").read_text().split() == ["6000-7000/tcp", "32000-33000/tcp", "8000-9000/tcp"]


def test_ufw(host: FakeHost) -> None:
    host.seal(FIREWALL="auto", PORTS="6443/tcp 2379-2380/tcp vrrp", TRUSTED_CIDRS="10.244.0.0/16")
    host.unit("ufw.service", "active", "enabled")
    host.stand_in("ufw", UFW)
    (host.fake / "ufw").write_text("allow 22/tcp\nallow 6443/tcp\n")
    rules = "*filter\n:ufw-before-input - [0:0]\nCOMMIT\n"
    host.put("/etc/ufw/before.rules", rules, 0o640)
    good(host.run("20-host.sh"))
    added = (host.fake / "ufw").read_text().splitlines()
    assert added == [
        "allow 22/tcp",
        "allow 6443/tcp",
        "allow 2379:2380/tcp",
        "allow from 10.244.0.0/16",
        "route allow from 10.244.0.0/16",
        "route allow to 10.244.0.0/16",
    ]
    assert (
        host.file("/etc/ufw/before.rules").read_text()
        == rules + "# BEGIN stowage example\n*filter\n-A ufw-before-input -p 112 -j ACCEPT\nCOMMIT\n# END stowage example\n"
    )
    assert host.file("/etc/ufw/before.rules").stat().st_mode & 0o777 == 0o640
    assert "ufw reload" in host.calls()
    good(host.run("20-host.sh"))
    assert (host.fake / "ufw").read_text().splitlines() == added
    good(host.run("20-host.sh", "--rollback"))
    assert (host.fake / "ufw").read_text() == "allow 22/tcp\nallow 6443/tcp\n"
    assert host.file("/etc/ufw/before.rules").read_text() == rules


def test_a_configuration_that_containerd_would_ignore(host: FakeHost) -> None:
    def containerd(version: str) -> None:
        host.stand_in("containerd", f"#!/bin/sh\necho containerd github.com/containerd/containerd {version} abcdef\n")

    host.row("/etc/containerd/config.toml", '# version = 2 was once\nversion = 3\n[plugins.x]\n  version = "2"\n')
    containerd("1.6.20~ds1")
    result = host.run("20-host.sh")
    assert result.returncode == 1
    assert "error: containerd here is 1.6.20, the bundle's configuration is for containerd 2\n" in result.stdout
    assert 'remedy: set containerRuntimeVersion: "1.6"' in result.stdout
    assert not host.file("/etc/stowage").exists()  # nothing was laid
    assert "containerd here is 1.6.20" in good(host.run("20-host.sh", "--plan"))
    containerd("v2.1.4")
    assert "containerd here" not in good(host.run("20-host.sh"))
    host.row("/etc/containerd/config.toml", "version = 2\n")
    containerd("1.7.24")
    good(host.run("20-host.sh"))


SEMANAGE = r"""#!/bin/bash
# port list: http_port_t 80, and 16444 belongs to another type
case "$*" in
  'port -l') echo 'http_port_t                    tcp      80, 443'; echo 'other_port_t tcp 16444'; [[ ! -s $FAKE/se ]] || awk '{ print $2, "tcp", $1 }' "$FAKE/se" ;;
  'port -l -C') [[ ! -s $FAKE/se ]] || awk '{ print $2, "tcp", $1 }' "$FAKE/se" ;;
  'port -a '*) port=$7; [[ $port != 16444 ]] || exit 1; echo "$port $4" >>"$FAKE/se" ;;
  'port -m '*) echo "$7 $4" >>"$FAKE/se" ;;
  'port -d '*) sed -i "/^$5 /d" "$FAKE/se" ;;
esac
"""


def test_selinux_labels_ports_and_leaves_the_mode(host: FakeHost) -> None:
    host.seal(SELINUX_PORTS="443 16443 16444")
    host.stand_in("semanage", SEMANAGE)
    host.stand_in("selinuxenabled", "#!/bin/sh\n")
    host.stand_in("setenforce", '#!/bin/sh\necho setenforce >>"$FAKE/calls"\n')
    host.stand_in("getsebool", '#!/bin/sh\necho "$1 --> $(cat "$FAKE/bool" 2>/dev/null || echo off)"\n')
    host.stand_in("setsebool", '#!/bin/sh\n[ "$3" = 1 ] && echo on >"$FAKE/bool" || echo off >"$FAKE/bool"\n')
    good(host.run("20-host.sh"))
    assert (host.fake / "se").read_text() == "16443 http_port_t\n16444 http_port_t\n"
    assert (host.fake / "bool").read_text() == "on\n"
    assert "label" not in good(host.run("20-host.sh"))
    good(host.run("20-host.sh", "--rollback"))
    assert (host.fake / "se").read_text() == ""
    assert (host.fake / "bool").read_text() == "off\n"
    assert "setenforce" not in host.calls()


# --- 00-preflight ----------------------------------------------------------------------------------------------------


def findings(host: FakeHost) -> dict[str, list[str]]:
    result = host.run("00-preflight.sh", "--json")
    assert result.stderr == ""
    report = json.loads(result.stdout)
    found: dict[str, list[str]] = {}
    for finding in report["findings"]:
        found.setdefault(finding["severity"], []).append(finding["check"])
        assert finding["message"]
    assert result.returncode == (1 if "error" in found else 0)
    return found


def test_preflight_collects_every_failure(host: FakeHost) -> None:
    host.seal(OS_FAMILY="rhel", OS_ID="rocky", PACKAGES="no-such-package", KUBERNETES_VERSION="1.35.0", PROXY_MODE="nftables")
    host.put("/etc/hosts", "127.0.0.1 localhost\n10.0.0.9 backend # old\n")
    host.put("/etc/kubernetes/kubelet.conf", "    server: https://elsewhere:6443\n")
    host.put("/var/lib/etcd/member/x", "x")
    host.put("/etc/machine-id", "")
    host.stand_in("nproc", "#!/bin/sh\necho 1\n")
    host.carries = "192.0.2.77/24"
    good(host.sh("true"))
    before = host.snapshot()
    host.stand_in("modprobe", "#!/bin/sh\nexit 1\n")
    busy = "exec {fd}<>/dev/null; python3 -c 'import socket,time; s=socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind((\"\", 6443)); s.listen(); time.sleep(25)' & for i in $(seq 50); do ss -Hltn 'sport = :6443' | grep -q . && break; sleep 0.1; done\n"
    with (host.root / "layers" / "before.sh").open("a") as file:
        file.write(busy)
    found = findings(host)
    assert {"os", "address", "cpu", "port", "hosts", "leftovers", "machine-id", "payload", "module"} <= set(found["error"]), found
    assert {"hostname", "gateway"} <= set(found["warning"])
    assert host.snapshot() == before
    text = host.run("00-preflight.sh")
    assert text.returncode == 1
    assert "remedy: " in text.stdout
    assert re.search(r"^00-preflight: \d+ errors, \d+ warnings; nothing was changed. Next: ", text.stdout.splitlines()[-1])


def test_preflight_passes_a_good_host(host: FakeHost) -> None:
    host.seal(PACKAGES="bash", GATEWAY="")
    host.row("/etc/modules-load.d/stowage.conf", "", unit="modules")
    found = findings(host)
    assert found.get("error", []) == [], found


def test_preflight_knows_whose_the_vip_is(host: FakeHost) -> None:
    host.seal(PACKAGES="bash", GATEWAY="")
    host.row("/etc/modules-load.d/stowage.conf", "", unit="modules")
    peer = (
        "rm -f /run/netns/peer; ip link del ens160; ip netns add peer; ip link add ens160 type veth peer name eth0 netns peer; ip address add 192.0.2.25/24 dev ens160; ip link set ens160 up; "
        "ip -n peer link set eth0 up; ip -n peer address add {address}/24 dev eth0; ip -n peer address add 192.0.2.31/32 dev eth0\n"
    )
    script = host.root / "layers" / "before.sh"
    text = script.read_text()
    script.write_text(text + peer.format(address="192.0.2.26"))  # master-2
    assert findings(host).get("error", []) == []
    script.write_text(text + peer.format(address="192.0.2.200"))
    assert findings(host)["error"] == ["vip"]


def test_preflight_knows_the_vip_of_an_api_server_behind_ipvs(host: FakeHost) -> None:
    host.seal(PACKAGES="bash", GATEWAY="", LB="")
    host.row("/etc/modules-load.d/stowage.conf", "", unit="modules")
    with (host.root / "layers" / "before.sh").open("a") as file:
        file.write("ip address add 192.0.2.31/32 dev lo\n")
    assert findings(host)["error"] == ["vip"]
    host.unit("stowage-vip.service", "active")
    assert findings(host).get("error", []) == []


def test_preflight_knows_what_step_10_brings(host: FakeHost) -> None:
    host.row("/etc/modules-load.d/stowage.conf", "", unit="modules")
    with (host.root / "layers" / "before.sh").open("a") as file:
        file.write("rm -f /usr/bin/openssl /usr/bin/tar\n")
    host.seal(GATEWAY="", PACKAGE_SOURCE="repository", PACKAGES="openssl-libs tar=1.34-*")
    found = findings(host)
    assert "command" not in found.get("error", [])
    assert found["info"].count("command") == 1  # tar; openssl-libs is not openssl
    assert found["warning"].count("command") == 1
    host.seal(PACKAGES="tar openssl")
    assert findings(host)["info"].count("command") == 2
    host.seal(KUBERNETES="", PACKAGES="")
    assert "command" not in [check for checks in findings(host).values() for check in checks]


# --- 10-packages -----------------------------------------------------------------------------------------------------


def deb(folder: Path, name: str, version: str, depends: str = "") -> Path:
    root = folder / f"build-{name}-{version}"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN" / "control").write_text(
        f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: x <x@example.org>\n{depends}Description: x\n"
    )
    (root / "usr" / "share" / name).mkdir(parents=True)
    (root / "usr" / "share" / name / "file").write_text(version)
    (root / "DEBIAN" / "postinst").write_text('#!/bin/sh\n/usr/sbin/policy-rc.d x start; echo "policy $?" >>"$FAKE/policy"\n')
    (root / "DEBIAN" / "postinst").chmod(0o755)
    target = folder / f"{name}_{version}_all.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", "-Zgzip", root, target], check=True, capture_output=True)
    return target


@pytest.fixture
def debian(host: FakeHost) -> FakeHost:
    if shutil.which("apt-get") is None:
        unable("needs apt")
    packages = host.bundle / "payload" / "packages"
    packages.mkdir(parents=True)
    for built in (
        deb(host.root, "stowage-a", "1.0", "Depends: stowage-b\n"),
        deb(host.root, "stowage-b", "2.0"),
        deb(host.root, "kubelet", "1.29.3-1.1"),
    ):
        shutil.copy(built, packages)
    host.put("/etc/dpkg/dpkg.cfg.d/fast", "force-unsafe-io\n")
    host.seal(PACKAGES="stowage-a kubelet=1.29.3-*", PACKAGE_SOURCE="payload")
    return host


def test_packages_from_the_payload_without_a_network(debian: FakeHost) -> None:
    had_policy = Path("/usr/sbin/policy-rc.d").exists()
    out = good(debian.run("10-packages.sh", "--plan"))
    assert "would install stowage-a kubelet=1.29.3-*" in out
    good(debian.run("10-packages.sh"))
    assert debian.file("/usr/share/stowage-b/file").read_text() == "2.0"
    assert (debian.fake / "policy").read_text().splitlines() == ["policy 101"] * 3
    assert good(debian.sh("apt-mark", "showhold")) == "kubelet\n"
    check = debian.sh("test", "-e", "/usr/sbin/policy-rc.d")
    assert (check.returncode == 0) == had_policy
    assert "nothing to change" in good(debian.run("10-packages.sh"))
    good(debian.run("10-packages.sh", "--rollback"))
    assert not debian.file("/usr/share/stowage-a/file").is_file()
    assert "stowage" not in good(debian.sh("dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n"))
    assert good(debian.sh("apt-mark", "showhold")) == ""


def indexed(packages: Path, program: str) -> None:
    """Makes *packages* the repository that fetch-payload.sh leaves: flat, unsigned, with a date that is to come."""
    if shutil.which(program) is None:
        unable(f"needs {program}")
    words = [program, "packages", "."] if program == "apt-ftparchive" else [program, "--multiversion", "."]
    index = subprocess.run(words, cwd=packages, capture_output=True, text=True, check=True).stdout
    digest = hashlib.sha256(index.encode()).hexdigest()
    (packages / "Packages").write_text(index)
    (packages / "Release").write_text(f"Date: Sat, 01 Jan 2050 00:00:00 UTC\nSHA256:\n {digest} {len(index)} Packages\n")


@pytest.mark.parametrize("program", ["apt-ftparchive", "dpkg-scanpackages"])
def test_packages_from_the_repository_of_the_payload(debian: FakeHost, program: str) -> None:
    """Real apt: what is named and what that needs, nothing else; neither the host's lists nor its sources and pins have a say."""
    packages = debian.bundle / "payload" / "packages"
    for built in (
        deb(debian.root, "stowage-unneeded", "1.0"),
        deb(debian.root, "kubelet", "1.30.0-1.1"),
        deb(debian.root, "stowage-b", "1.0"),
    ):
        shutil.copy(built, packages)
    indexed(packages, program)
    debian.put("/etc/apt/preferences.d/never", "Package: stowage-*\nPin: release *\nPin-Priority: -1\n")
    debian.put("/etc/apt/sources.list.d/away.list", "deb http://192.0.2.200/debian stable main\n")
    debian.seal()
    debian.sh("true")
    lists = "find /var/lib/apt/lists /var/cache/apt -type f -printf '%p %s %T@\\n' | sort"
    before = good(debian.sh("sh", "-c", lists))
    good(debian.run("10-packages.sh", "--plan"))
    good(debian.run("10-packages.sh"))
    shown = good(debian.sh("dpkg-query", "-W", "-f", "${Package} ${Version}\n", "stowage-*", "kubelet"))
    assert set(shown.splitlines()) - {"stowage-unneeded "} == {"kubelet 1.29.3-1.1", "stowage-a 1.0", "stowage-b 2.0"}
    assert good(debian.sh("sh", "-c", lists)) == before
    assert good(debian.sh("apt-mark", "showmanual", "stowage-a", "stowage-b")) == "stowage-a\n"
    assert debian.sh("test", "-e", "/var/lib/stowage/example/repository").returncode == 1
    assert "nothing to change" in good(debian.run("10-packages.sh"))
    good(debian.run("10-packages.sh", "--rollback"))
    assert "stowage-" not in good(debian.sh("dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n"))


def test_a_repository_that_is_not_closed(debian: FakeHost) -> None:
    """apt says what is missing, and nothing was installed."""
    packages = debian.bundle / "payload" / "packages"
    (packages / "stowage-b_2.0_all.deb").unlink()
    indexed(packages, "apt-ftparchive")
    debian.seal()
    result = debian.run("10-packages.sh")
    assert result.returncode == 1
    assert "stowage-a : Depends: stowage-b but it is not installable" in result.stdout
    assert "stowage-a" not in good(debian.sh("dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n"))
    assert debian.sh("test", "-e", "/var/lib/stowage/example/repository").returncode == 1


def test_packages_after_a_kill(debian: FakeHost) -> None:
    debian.stand_in("apt-get", '#!/bin/bash\nPATH=${PATH#*:} apt-get "$@" || exit; [[ -e $FAKE/spared ]] || kill -9 -1\n')
    assert debian.run("10-packages.sh").returncode == 137
    assert debian.sh("cat", "/usr/sbin/policy-rc.d").stdout.endswith("exit 101\n")
    (debian.fake / "spared").touch()
    good(debian.run("10-packages.sh"))
    assert "Stowage" not in debian.sh("cat", "/usr/sbin/policy-rc.d").stdout
    good(debian.run("10-packages.sh", "--rollback"))
    assert "stowage" not in good(debian.sh("dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n"))


def test_packages_wait_for_the_payload(debian: FakeHost) -> None:
    shutil.rmtree(debian.bundle / "payload")
    result = debian.run("10-packages.sh")
    assert result.returncode == 3
    assert "stowage-a kubelet" in result.stdout
    (debian.bundle / "payload").mkdir()
    (debian.bundle / "payload" / "x").touch()
    debian.seal()
    (debian.bundle / "payload" / "x").write_text("changed")
    assert debian.run("10-packages.sh").returncode == 1


# $FAKE/rpms is the database: "name epoch version release what-it-provides..."; a file of the payload holds such a line.
RPM = r"""#!/bin/bash
last=${!#}
case "$*" in
  '-q --quiet --whatprovides '*) awk -v w="$last" '{ for (i = 1; i <= NF; i++) if ((i == 1 || i > 4) && $i == w) found = 1 } END { exit !found }' "$FAKE/rpms" ;;
  '-q --quiet '*) awk -v w="$last" '$1 == w || $1 "-" $3 == w { found = 1 } END { exit !found }' "$FAKE/rpms" ;;
  '-q --qf '*) awk -v w="$last" '$1 == w { print $2, $3, $4; found = 1 } END { exit !found }' "$FAKE/rpms" ;;
  '-qp '*) cut -d ' ' -f 1-4 "$last" ;;
  '-qa '*) cut -d ' ' -f 1 "$FAKE/rpms" ;;
  --eval*) [[ $2 =~ \'(.*)\',\ \'(.*)\' ]]; if [[ ${BASH_REMATCH[1]} == "${BASH_REMATCH[2]}" ]]; then echo 0
    elif [[ $(printf '%s\n' "${BASH_REMATCH[@]:1}" | sort -V | tail -n 1) == "${BASH_REMATCH[1]}" ]]; then echo 1; else echo -1; fi ;;
  *) exit 9 ;;
esac
"""
DNF = r"""#!/bin/bash
[[ $* != *versionlock\ list* ]] || exit 1
for word; do if [[ $word == *.rpm ]]; then echo "dnf ${word##*/}" >>"$FAKE/calls"; read -r name _ <"$word"; sed -i "/^$name /d" "$FAKE/rpms"; cat "$word" >>"$FAKE/rpms"; fi; done
"""


def test_rpms_that_something_else_stands_in_for(host: FakeHost) -> None:
    host.stand_in("rpm", RPM)
    host.stand_in("dnf", DNF)
    there = "curl-minimal 0 7.76.1 29.el9 curl\nlibcurl-minimal 0 7.76.1 29.el9 libcurl\niptables-nft 0 1.8.10 2.el9 iptables\n"
    (host.fake / "rpms").write_text(there + "kubelet 0 1.29.4 1\nbash 0 5.1.8 9.el9\nglibc 0 2.34 100.el9\nbind-libs 32 9.16.23 1.el9\n")
    packages = host.bundle / "payload" / "packages"
    packages.mkdir(parents=True)
    for name, epoch, version in (
        ("curl", 0, "7.76.1"),  # conflicts with what is there
        ("libcurl", 0, "7.76.1"),
        ("kubelet", 0, "1.29.3"),  # pinned: also when it is older
        ("keepalived", 0, "2.2.8"),
        ("bash", 0, "5.1.8"),
        ("glibc", 0, "2.40"),
        ("bind-libs", 0, "9.18.1"),  # older, by its epoch
    ):
        (packages / f"{name}.rpm").write_text(f"{name} {epoch} {version} {9 if name == 'bash' else 1}.el9\n")
    host.seal(OS_FAMILY="rhel", PACKAGES="curl iptables bash kubelet-1.29.3 keepalived")
    out = good(host.run("10-packages.sh"))
    assert "install kubelet-1.29.3 keepalived (from the payload)" in out
    assert sorted(call for call in host.calls() if call.startswith("dnf")) == ["dnf glibc.rpm", "dnf keepalived.rpm", "dnf kubelet.rpm"]
    assert "nothing to change" in good(host.run("10-packages.sh"))
    host.seal(PACKAGES="curl iptables no-such-thing")
    result = host.run("10-packages.sh")
    assert result.returncode == 1
    assert "still missing: no-such-thing" in result.stdout
    shutil.rmtree(host.bundle / "payload")
    assert "these packages are missing: no-such-thing" in host.run("00-preflight.sh").stdout


def test_rpms_from_the_repository_of_the_payload(host: FakeHost) -> None:
    """dnf is given names and no other repository; the link that it follows leads to the payload, whatever its path is called."""
    host.stand_in("rpm", RPM)
    record = 'for word; do [[ $word != --repofrompath=* ]] || ls "${word#*file://}" >>"$FAKE/calls"; done\n'
    (host.fake / "rpms").write_text("curl-minimal 0 7.76.1 29.el9 curl\n")
    add = 'echo "keepalived 0 2.2.8 1" >>"$FAKE/rpms"\n'
    versionlock = "[[ $* != *versionlock\\ list* ]] || exit 1\n"
    host.stand_in("dnf", f'#!/bin/bash\n{versionlock}printf "dnf %s\\n" "$*" >>"$FAKE/calls"\n{record}{add}')
    packages = host.bundle / "payload" / "packages"
    (packages / "repodata").mkdir(parents=True)
    (packages / "repodata" / "repomd.xml").touch()
    (packages / "keepalived.rpm").touch()
    host.seal(OS_FAMILY="rhel", PACKAGES="curl keepalived")
    good(host.run("10-packages.sh"))
    call, *listed = (line for line in host.calls() if "systemctl" not in line)
    assert "--disablerepo=* --repofrompath=stowage-payload,file:///var/lib/stowage/example/repository/packages " in call
    assert call.endswith(" install keepalived")
    assert listed == ["keepalived.rpm", "repodata"]


# --- 30-images -------------------------------------------------------------------------------------------------------

CTR = r"""#!/bin/bash
while [[ $1 == --* ]]; do shift 2; done
case "$*" in
  version) ;;
  'images ls -q') cat "$FAKE/images" 2>/dev/null; exit 0 ;;
  'images import -') tee >(cat >/dev/null) | grep . >>"$FAKE/images" ;;
  'images rm '*) grep -Fxv -- "$3" "$FAKE/images" >"$FAKE/i"; mv "$FAKE/i" "$FAKE/images" ;;
esac
"""


def test_images(host: FakeHost) -> None:
    host.stand_in("ctr", CTR)
    (host.bundle / "images.txt").write_text("r.io/a:1\nr.io/b:2\nr.io/old:1\n")
    (host.fake / "images").write_text("r.io/old:1\n")
    host.seal()
    result = host.run("30-images.sh")
    assert result.returncode == 3
    assert "r.io/a:1 r.io/b:2" in result.stdout
    images = host.bundle / "payload" / "images"
    images.mkdir(parents=True)
    (images / "a.tar").write_text("r.io/a:1\n")
    host.seal()
    result = host.run("30-images.sh")
    assert result.returncode == 1
    assert "still missing: r.io/b:2" in result.stdout
    (images / "b.tar").write_text("r.io/b:2\n")
    subprocess.run(["gzip", images / "b.tar"], check=True)
    host.seal()
    assert "would load a.tar" not in good(host.run("30-images.sh"))
    assert "nothing to change" in good(host.run("30-images.sh"))
    good(host.run("30-images.sh", "--rollback"))
    assert (host.fake / "images").read_text() == "r.io/old:1\n"


CRICTL = r"""#!/bin/bash
while [[ $1 == --* ]]; do shift 2; done
case $1 in
  inspecti) grep -Fxq -- "$3" "$FAKE/images" ;;
  rmi) echo "crictl rmi $2" >>"$FAKE/calls"; sed -i "\\,^$2\$,d" "$FAKE/images" ;;
  *) exit 9 ;;
esac
"""
SKOPEO = r"""#!/bin/bash
[[ $1 == copy && $2 == docker-archive:*:*:* && $3 == containers-storage:* ]] || exit 9
archive=${2#docker-archive:} ref=${3#containers-storage:}; archive=${archive%":$ref"}
grep -Fxq -- "$ref" "$archive" && echo "$ref" >>"$FAKE/images"
"""


def test_images_of_crio(host: FakeHost) -> None:
    host.stand_in("crictl", CRICTL)
    (host.fake / "images").touch()
    (host.bundle / "images.txt").write_text("r/a:1\nr/b:2\n")
    with (host.root / "layers" / "before.sh").open("a") as file:
        file.write(
            "rm -f /usr/bin/skopeo /usr/bin/podman /run/crio.sock; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"/run/crio.sock\")'\n"
        )
    images = host.bundle / "payload" / "images"
    images.mkdir(parents=True)
    for name, ref in (("a", "r/a:1"), ("b", "r/b:2")):
        (images / f"{name}.tar").write_text(ref + "\n")
    host.seal(RUNTIME="cri-o", CRI_SOCKET="unix:///run/crio.sock")
    result = host.run("30-images.sh")
    assert result.returncode == 1
    assert "neither skopeo nor podman is there" in result.stdout
    assert "is not in" not in result.stdout
    assert "would load a.tar" in good(host.run("30-images.sh", "--plan"))
    host.stand_in("skopeo", SKOPEO)
    assert "r/b:2 is not in a.tar" in good(host.run("30-images.sh"))
    assert (host.fake / "images").read_text() == "r/a:1\nr/b:2\n"
    good(host.run("30-images.sh", "--rollback"))
    assert host.calls() == ["crictl rmi r/b:2", "crictl rmi r/a:1"]
    assert (host.fake / "images").read_text() == ""


# --- 40-load-balancer ------------------------------------------------------------------------------------------------

NGINX = """load_module /usr/lib/nginx/modules/ngx_stream_module.so;
error_log /var/log/nginx/error.log;
pid /run/nginx.pid;
events {}
stream {
  server { listen 16443; return "x\\n"; }
  server { listen 127.0.0.1:16444; return "ok\\n"; }
}
"""
KEEPALIVED = """global_defs { router_id master-1 }
vrrp_instance VI { state BACKUP
 interface ens160
 virtual_router_id 51
 priority 100
 include /etc/keepalived/stowage-auth.conf
 virtual_ipaddress { 192.0.2.31/32 } }
"""


@pytest.fixture
def balancer(host: FakeHost) -> FakeHost:
    if (
        shutil.which("nginx") is None
        or shutil.which("keepalived") is None
        or not Path("/usr/lib/nginx/modules/ngx_stream_module.so").exists()
    ):
        unable("needs nginx with its stream module, and keepalived")
    host.rows.clear()
    shutil.rmtree(host.fake / "units" / "keepalived.service")
    host.unit("keepalived.service")
    host.unit("systemd-networkd.service", "active", "enabled")
    host.stand_in(
        "networkctl",
        '#!/bin/sh\n[ "$1" = reload ] && echo "networkctl reload" >>"$FAKE/calls" || echo "      Network File: /run/systemd/network/10-netplan-ens160.network"\n',
    )
    host.put("/etc/nginx/nginx.conf", "events {}\n")
    host.row("/etc/nginx/nginx.conf", NGINX, step="40", unit="nginx.service")
    host.row("/etc/keepalived/keepalived.conf", KEEPALIVED, step="40", unit="keepalived.service")
    host.row("/etc/systemd/system/stowage-watcher.service", "[Service]\n", step="40", unit="systemd")
    hooks = {
        "start-nginx.service": "nginx",
        "start-keepalived.service": "ip address add 192.0.2.31/32 dev ens160",
        "stop-nginx.service": "nginx -s stop",
    }
    for name, text in hooks.items():
        (host.fake / "hooks" / name).write_text(f"#!/bin/sh\n{text}\n")
        (host.fake / "hooks" / name).chmod(0o755)
    with (host.root / "layers" / "before.sh").open("a") as file:  # what runs, runs again after a boot
        file.write(
            'if [ -e "$FAKE/units/nginx.service/active" ]; then nginx; fi\nif [ -e "$FAKE/units/keepalived.service/active" ]; then ip address add 192.0.2.31/32 dev "$NIC"; fi\n'
        )
    (host.bundle / "secrets").mkdir()
    (host.bundle / "secrets" / "vrrp").write_text("CaNaRy7")
    host.seal(VRRP_AUTH="vrrp")
    return host


def test_load_balancer_up_again_and_back(balancer: FakeHost) -> None:
    before, states = balancer.snapshot(), balancer.states()
    plan = good(balancer.run("40-load-balancer.sh", "--plan"))
    assert "would lay /etc/keepalived/stowage-auth.conf" in plan
    assert balancer.snapshot() == before
    out = good(balancer.run("40-load-balancer.sh"))
    assert "192.0.2.31 is held by this host" in out
    order = [call for call in balancer.calls() if call.startswith("start ")]
    assert order == ["start nginx.service", "start stowage-watcher.service", "start keepalived.service"]
    secret = balancer.file("/etc/keepalived/stowage-auth.conf")
    assert "auth_pass CaNaRy7" in secret.read_text()
    assert secret.stat().st_mode & 0o777 == 0o600
    assert "KeepConfiguration=yes" in balancer.file("/etc/systemd/network/10-netplan-ens160.network.d/50-stowage-vip.conf").read_text()
    assert "CaNaRy7" not in out + balancer.file("/var/log/stowage/40-load-balancer.log").read_text()
    assert "nothing to change" in good(balancer.run("40-load-balancer.sh"))
    balancer.calls()
    out = good(balancer.run("40-load-balancer.sh", "--rollback"))
    stops = [call for call in balancer.calls() if call.startswith("stop ")]
    assert stops == ["stop keepalived.service", "stop stowage-watcher.service", "stop nginx.service"]
    logs = {name: value for name, value in balancer.snapshot().items() if not name.startswith("/var/log/nginx")}
    assert logs == {name: value for name, value in before.items() if not name.startswith("/var/log/nginx")}
    assert balancer.states() == states


@pytest.mark.parametrize("broken", ["nginx", "keepalived"])
def test_what_fails_its_test_is_put_back(balancer: FakeHost, broken: str) -> None:
    good(balancer.run("40-load-balancer.sh"))
    before = balancer.snapshot()
    balancer.calls()
    if broken == "nginx":
        balancer.row("/etc/nginx/nginx.conf", NGINX + "nonsense;\n", step="40", unit="nginx.service")
        balancer.row("/etc/keepalived/keepalived.conf", KEEPALIVED.replace("100", "90"), step="40", unit="keepalived.service")
    else:
        balancer.row(
            "/etc/keepalived/keepalived.conf", KEEPALIVED.replace("priority 100", "priority 300"), step="40", unit="keepalived.service"
        )
    result = balancer.run("40-load-balancer.sh")
    assert result.returncode == 1
    assert "does not pass its test" in result.stdout
    assert {name: value for name, value in balancer.snapshot().items() if not name.startswith("/var/log/nginx")} == {
        name: value for name, value in before.items() if not name.startswith("/var/log/nginx")
    }
    assert not [call for call in balancer.calls() if "reload" in call or "start" in call]


def test_a_busy_port_is_told_before_anything_changes(balancer: FakeHost) -> None:
    with (balancer.root / "layers" / "before.sh").open("a") as file:
        file.write(
            "python3 -c 'import socket,time; s=socket.socket(); s.bind((\"\", 16443)); s.listen(); time.sleep(20)' & for i in $(seq 50); do ss -Hltn 'sport = :16443' | grep -q . && break; sleep 0.1; done\n"
        )
    before = balancer.snapshot()
    result = balancer.run("40-load-balancer.sh")
    assert result.returncode == 1
    assert "TCP port 16443 is held by" in result.stdout
    assert "python3" in result.stdout
    assert balancer.snapshot() == before


# --- run.sh ----------------------------------------------------------------------------------------------------------


def test_run_lists_the_steps_of_each_role(host: FakeHost) -> None:
    def steps() -> list[str]:
        return [line.split()[0][:2] for line in good(host.run("run.sh", "--list")).splitlines()[1:]]

    assert steps() == ["00", "10", "20", "30", "40", "50", "70", "80", "90"]
    host.seal(FIRST="")
    assert steps() == ["00", "10", "20", "30", "40", "60", "70", "90"]
    host.seal(ROLE="worker", LB="")
    assert steps() == ["00", "10", "20", "30", "65", "90"]
    host.seal(ROLE="load-balancer", LB="1", KUBERNETES="")
    assert steps() == ["00", "10", "20", "40", "90"]


def test_run_stops_where_something_is_missing_and_goes_on(host: FakeHost) -> None:
    for name in ("00-preflight", "10-packages", "20-host", "30-images", "65-join", "90-verify"):
        code = 'cat "$FAKE/status" 2>/dev/null || echo 3' if name == "30-images" else "echo 0"
        (host.bundle / "scripts" / f"{name}.sh").write_text(f'STEP=x TITLE="the {name}"\necho "ran {name} $*"; exit $({code})\n')
    host.seal(ROLE="worker", FIRST="", LB="")
    result = host.run("run.sh")
    assert result.returncode == 3
    assert "[ 4/6] 30-images the 30-images" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("run: stopped before 30-images")
    (host.fake / "status").write_text("0")
    assert "all 6 steps" in good(host.run("run.sh")).splitlines()[-1]
    (host.fake / "status").write_text("7")
    assert host.run("run.sh").returncode == 7
    assert good(host.run("run.sh", "20", "--rollback")) == "ran 20-host --rollback\n"
    assert host.run("run.sh", "50").returncode == 2
