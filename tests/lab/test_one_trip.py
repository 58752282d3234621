"""One trip: with ``--secrets`` and ``--payload`` every host comes up from what was carried to it at first, and nothing is carried back."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from lab import payload
from lab import test_bring_up as bring_up
from lab.conftest import EXAMPLE, REPOSITORY, lab_of
from lab.site import Host, Site, names, read

CHECKS = (
    bring_up.test_every_step_says_what_it_did_and_what_comes_next,
    bring_up.test_one_host_holds_the_vip,
    bring_up.test_every_api_server_answers_through_every_path,
    bring_up.test_etcd_has_all_members_and_its_manifests_list_them,
    bring_up.test_no_key_and_no_archive_lies_about,
    bring_up.test_no_secret_is_in_a_log,
    bring_up.test_every_folder_is_the_one_that_was_carried,
)


def stowage(*words: str | Path) -> str:
    """What ``stowage`` says; it has to succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "generator", *map(str, words)], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def sealed(inventory: Path, scratch: Path) -> Path:
    """The bundle of *inventory* with new keys and a closed payload, all by the commands that an engineer types."""
    out, gathered, keys = scratch / "out", scratch / "payload", scratch / "keys"
    (bundle,) = Path(stowage("bundle", inventory, "--output", out).split(":", 1)[0]).parent.glob("*")
    hosts = {name: read(bundle / "hosts" / name) for name in names(bundle)}
    references = {line for name in hosts for line in (bundle / "hosts" / name / "images.txt").read_text().split()}
    payload.gathered(gathered, hosts, sorted(references))
    stowage("keys", "new", keys, inventory)
    stowage("lock", inventory, "--payload", gathered)
    stowage("bundle", inventory, "--output", out, "--secrets", keys, "--payload", gathered)
    stowage("verify", bundle)
    stowage("closure", "--require-payload", bundle)
    return bundle


def canaries(site: Site) -> list[bytes]:
    """What no log and no file that others read may hold: the secrets of the trip."""
    keys = site.scratch / "keys"
    secrets = [line for file in keys.rglob("*.key") for line in file.read_bytes().splitlines() if len(line) == 64][::7]
    return [*secrets, (keys / "bootstrap-token").read_bytes().strip()]


def open_to_others(host: Host) -> Iterator[tuple[str, bytes]]:
    """Every smaller file of *host*, where something may have been written, that anybody but its owner may read or change."""
    for top in ("/etc", "/home", "/opt", "/root", "/run", "/srv", "/tmp", "/var", "/usr/local"):
        for folder, _, files in os.walk(host.path(top)):
            for name in files:
                path = Path(folder, name)
                with suppress(FileNotFoundError):
                    status = path.lstat()
                    if stat.S_ISREG(status.st_mode) and status.st_mode & 0o077 and status.st_size < 1 << 18:
                        yield str(path), path.read_bytes()


def no_route(host: Host) -> None:
    """Nothing but its own network can be reached from *host*."""
    assert not host.sh("ip -4 route get 1.1.1.1 2>/dev/null | cat; ip -6 route get 2606:4700:4700::1111 2>/dev/null | cat").strip()


def come_up(site: Site, say: Callable[[str], None]) -> None:
    """All steps, no file between hosts, no passphrase; then the looks of any bring-up, and no secret in sight."""
    for host in site.hosts:
        host.path("/run/phrase").unlink()
        host.sh("ip route del default 2>/dev/null || :; ip -6 route del default 2>/dev/null || :")
        no_route(host)
    site.hand_off = lambda *_, **__: None  # type: ignore[method-assign]  # nobody walks between the hosts
    for number in bring_up.NUMBERS:
        say(f"step {number:02}")
        site.walk((number,))
        assert not site.first.sh(f"find {site.var} -path '*/handoff/*' -type f 2>/dev/null || :").strip()
    for check in CHECKS:
        say(check.__name__.removeprefix("test_").replace("_", " "))
        check(site)
    looked_for = canaries(site)
    for host in site.hosts:
        text = host.sh("cat /var/log/stowage/*; journalctl -q --no-pager | cat").encode()
        assert not [canary for canary in looked_for if canary in text], host.name
        assert not [path for path, data in open_to_others(host) if any(canary in data for canary in looked_for)], host.name
    # The bundle's is gone with the last node that joined, kubeadm init's own a minute after it was made.
    for _ in range(14):
        tokens = site.first.sh("kubectl --kubeconfig=/etc/kubernetes/admin.conf --namespace=kube-system get secrets --output=name")
        assert f"bootstrap-token-{canaries(site)[-1][:6].decode()}" not in tokens
        if "bootstrap-token" not in tokens:
            return
        time.sleep(5)
    pytest.fail(tokens)


@pytest.mark.rehearsal
def test_six_folders_and_nothing_carried_back(say: Callable[[str], None]) -> None:
    with lab_of(EXAMPLE, build=sealed) as site:
        come_up(site, say)
        bring_up.test_a_second_run_changes_nothing(site)
        attested(site)


def attested(site: Site) -> None:
    """What comes back on the stick says that all is well."""
    files = []
    for host in site.hosts:
        host.run("bash", f"{site.folder(host)}/scripts/90-verify.sh", "--attest", "/root/attest.json")
        copy = site.scratch / f"attest-{host.name}.json"
        copy.write_bytes(host.path("/root/attest.json").read_bytes())
        json.loads(copy.read_text())
        assert copy.stat().st_size < 64 * 1024
        assert not [canary for canary in canaries(site) if canary in copy.read_bytes()]
        files.append(copy)
    stowage("attest", site.bundle, *files)


@pytest.mark.rehearsal
def test_the_same_from_split_archives(say: Callable[[str], None]) -> None:
    with lab_of(EXAMPLE, build=sealed) as site:
        packed = site.scratch / "packed"
        stowage("pack", site.bundle, "--output", packed, "--volume-size", "3M")
        for host in site.hosts:
            parts = sorted(packed.glob(f"*{host.name}*.part-*"))
            assert len(parts) > 1
            host.run("rm", "-rf", site.folder(host))
            host.take(packed, "/root/stick")
            host.run("sh", "/root/stick/join.sh", host.name, "/root/stowage", timeout=120)
            host.run("rm", "-rf", "/root/stick")
            host.run("sh", f"{site.folder(host)}/verify.sh")
        come_up(site, say)
