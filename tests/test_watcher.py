"""The watcher, with the real nginx, real TLS API server stand-ins and a stand-in for systemctl, on loopback only."""

from __future__ import annotations

import contextlib
import http.server
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

TEMPLATES = Path(__file__).resolve().parent.parent / "templates"
WATCHER = TEMPLATES / "nginx" / "watcher.sh"
STREAM_MODULES = ("/usr/lib/nginx/modules/ngx_stream_module.so", "/usr/lib64/nginx/modules/ngx_stream_module.so")
QUICK = {"INTERVAL": "0.1", "TIMEOUT": "0.4", "FALL": "2", "RISE": "0.3", "RISE_MAX": "1.2", "RELOAD_INTERVAL": "0.3"}


def need(*tools: str) -> None:
    """Skips the test where a tool is missing; fails it in CI, where nothing may be."""
    missing = [tool for tool in tools if not shutil.which(tool)]
    if missing and os.environ.get("CI") == "true":
        pytest.fail(f"missing in CI: {', '.join(missing)}")
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def until(condition, what: str, seconds: float = 8.0):
    """What `condition` returns once it is true; fails after `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    pytest.fail(f"not within {seconds} s: {what}")


def children(pid: int) -> list[int]:
    listing = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in listing.read_text().split()] if listing.exists() else []


def end(process: subprocess.Popen) -> None:
    """Ends a process that this test started, stopped or not, by its pid."""
    if process.poll() is None:
        process.kill()
    process.wait(5)
    if process.stdout:
        process.stdout.close()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory) -> Path:
    need("openssl")
    pem = tmp_path_factory.mktemp("tls") / "server.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=kube-apiserver",
            "-keyout",
            pem,
            "-out",
            f"{pem}.crt",
        ],
        check=True,
        capture_output=True,
        timeout=20,
    )
    pem.write_text(pem.read_text() + Path(f"{pem}.crt").read_text())
    return pem


class ApiServer:
    """One API server: answers /readyz over TLS with `status`, or hangs after the kernel accepted, or refuses."""

    def __init__(self, certificate: Path, host: str = "127.0.0.1") -> None:
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(certificate)
        self.host, self.port, self.status, self.hung, self.served = host, 0, 200, False, 0
        self.server = None
        self.open()

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def open(self) -> None:
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.served += 1
                self.send_response(outer.status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
            daemon_threads = True

            def finish_request(self, request, client_address):
                held = time.monotonic() + 5
                while outer.hung and time.monotonic() < held:
                    time.sleep(0.02)
                request.settimeout(5)
                with outer.tls.wrap_socket(request, server_side=True) as secure:
                    Handler(secure, client_address, self)

            def handle_error(self, *_):
                pass

        self.server = Server((self.host, self.port), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def refuse(self) -> None:
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None


STOPPABLE = """
import http.server, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); tls.load_cert_chain(sys.argv[1])
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print(server.server_address[1], flush=True)
server.serve_forever()
"""

SYSTEMCTL = """#!/bin/bash
# What the watcher uses of systemctl, on the nginx of the test.
echo "$(cut -d' ' -f1 /proc/uptime) $*" >>"$LAB/calls"
case $1 in
is-active) [[ -e $LAB/active ]] ;;
reload) [[ $2 == --no-block ]] && shift; [[ $2 == nginx.service && -e $LAB/active ]] && kill -HUP "$(cat "$LAB/nginx.pid")" ;;
kill) [[ $2 == --signal=KILL ]] && kill -KILL -- "-$(cat "$LAB/group")" ;;
*) exit 1 ;;
esac
"""

NGINX_CONF = """
{module}
daemon off; pid {lab}/nginx.pid; error_log {lab}/error.log info; worker_processes 2; worker_shutdown_timeout 5s;
events {{ worker_connections 256; }}
stream {{
    upstream apiserver {{ zone apiserver 64k; least_conn; include {lab}/live/apiserver.conf; }}
    server {{ listen 127.0.0.1:{port}; proxy_pass apiserver; proxy_connect_timeout 1s; }}
    server {{ listen 127.0.0.1:{check}; return "ok\\n"; }}
}}
"""


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Lab:
    """A temporary prefix with nginx, its unit's stand-in, the API servers and the watcher."""

    def __init__(self, path: Path, certificate: Path) -> None:
        self.path, self.certificate = path, certificate
        self.port, self.check = free_ports(2)
        self.seed, self.live = path / "seed.conf", path / "live" / "apiserver.conf"
        self.servers: list[ApiServer] = []
        self.started: list[subprocess.Popen] = []
        self.nginx = self.watcher = None
        self.live.parent.mkdir()
        (path / "bin").mkdir()
        (path / "calls").touch()
        self.tool("systemctl", SYSTEMCTL)
        self.tool("nginx", f'#!/bin/bash\nexec {shutil.which("nginx")} -p {path} -c {path}/nginx.conf "$@"\n')
        module = next((one for one in STREAM_MODULES if Path(one).exists()), "")
        self.conf = NGINX_CONF.format(lab=path, port=self.port, check=self.check, module=module and f"load_module {module};")
        (path / "nginx.conf").write_text(self.conf)

    def tool(self, name: str, text: str) -> None:
        (self.path / "bin" / name).write_text(text)
        (self.path / "bin" / name).chmod(0o755)

    @property
    def env(self) -> dict[str, str]:
        return {
            "PATH": f"{self.path}/bin:{os.environ['PATH']}",
            "LAB": str(self.path),
            "SEED": str(self.seed),
            "LIVE": str(self.live),
            "CHECK_PORT": str(self.check),
            **QUICK,
        }

    def api(self, count: int = 1, host: str = "127.0.0.1") -> list[ApiServer]:
        new = [ApiServer(self.certificate, host) for _ in range(count)]
        self.servers += new
        return new

    def stoppable(self) -> tuple[str, subprocess.Popen]:
        process = subprocess.Popen([sys.executable, "-c", STOPPABLE, self.certificate], stdout=subprocess.PIPE, text=True)
        self.started.append(process)
        return f"127.0.0.1:{int(process.stdout.readline())}", process

    def write_seed(self, *addresses: str) -> None:
        text = "".join(f"server {address} max_fails=2 fail_timeout=5s;  # master-{i}\n" for i, address in enumerate(addresses, 1))
        new = self.seed.with_suffix(".new")
        new.write_text(text)
        new.rename(self.seed)

    def run_nginx(self) -> None:
        """Starts nginx as its unit would; `Restart=` is the job of `supervise`."""
        self.nginx = subprocess.Popen([str(self.path / "bin" / "nginx")], start_new_session=True, env=self.env)
        self.started.append(self.nginx)
        (self.path / "group").write_text(str(self.nginx.pid))
        (self.path / "active").touch()
        until(lambda: self.answers() == b"ok\n", "nginx answers")

    def supervise(self) -> None:
        until(lambda: self.nginx.poll() is not None, "nginx was killed", 12)
        self.run_nginx()

    def answers(self) -> bytes:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.check), 0.5) as one:
            return one.recv(16)
        return b""

    def watch(self, wait: bool = True, **settings: str) -> subprocess.Popen:
        self.log = self.path / f"log.{len(self.started)}"
        with self.log.open("w") as log:
            self.watcher = subprocess.Popen(["bash", WATCHER], env={**self.env, **settings}, stdout=log, stderr=log)
        self.started.append(self.watcher)
        if wait:
            until(lambda: "watching" in self.said(), "the watcher starts")
        return self.watcher

    def up(self, *addresses: str, **settings: str) -> None:
        """The usual start: SEED, LIVE as tmpfiles lays it, nginx, watcher."""
        self.write_seed(*addresses)
        shutil.copy(self.seed, self.live)
        self.run_nginx()
        self.watch(**settings)

    def said(self) -> str:
        return self.log.read_text()

    def down(self) -> set[str]:
        text = self.live.read_text() if self.live.exists() else ""
        return set(re.findall(r"^server (\S+) [^;]* down;", text, re.MULTILINE))

    def calls(self, verb: str) -> list[float]:
        return [float(line.split()[0]) for line in (self.path / "calls").read_text().splitlines() if line.split()[1] == verb]

    def rounds(self, count: int = 3) -> None:
        """Waits until the watcher has probed `count` more times, by what the first good server has served."""
        server = next(one for one in self.servers if one.server and not one.hung)
        goal = server.served + count
        until(lambda: server.served >= goal, f"{count} rounds")

    def close(self) -> None:
        for server in self.servers:
            server.hung = False
            server.refuse()
        if self.nginx:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.nginx.pid, signal.SIGKILL)
        for process in self.started:
            end(process)


@pytest.fixture
def lab(tmp_path, certificate):
    need("nginx", "curl", "bash")
    built = subprocess.run(["nginx", "-V"], capture_output=True, text=True, check=True).stderr
    if not any(Path(one).exists() for one in STREAM_MODULES) and "--with-stream " not in built:
        need("nginx with its stream module")
    one = Lab(tmp_path, certificate)
    yield one
    one.close()


def test_every_kind_of_failure_and_no_other(lab):
    ready, unauthorized, failing, hung, refused = lab.api(5)
    stopped, process = lab.stoppable()
    lab.up(ready.address, unauthorized.address, failing.address, hung.address, refused.address, stopped)
    unauthorized.status = 401
    lab.rounds()
    assert lab.down() == set()
    assert lab.calls("reload") == [], "nothing changed, so nothing is reloaded"
    assert lab.live.read_bytes() == lab.seed.read_bytes()
    failing.status, hung.hung = 500, True
    refused.refuse()
    process.send_signal(signal.SIGSTOP)
    bad = {failing.address, hung.address, refused.address, stopped}
    until(lambda: lab.down() == bad, "all four are out")
    lab.rounds()
    assert lab.live.read_text().replace(" down;", ";") == lab.seed.read_text()
    assert f"server {refused.address} max_fails=2 fail_timeout=5s down;  # master-5\n" in lab.live.read_text()
    for text in (
        f"master-3 {failing.address} is down: HTTP 500, 2 times",
        f"master-4 {hung.address} is down: no answer in 0.4 s",
        f"master-5 {refused.address} is down: no connection",
        f"master-6 {stopped} is down: no answer in 0.4 s",
    ):
        assert lab.said().count(text) == 1
    assert len(lab.calls("reload")) <= 2
    assert not re.search(r"master-[12] .* is down", lab.said())


def connect_through(lab) -> bool:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", lab.port), 1) as raw, tls.wrap_socket(raw):
        return True
    return False


def test_nginx_no_longer_sends_connections_to_a_server_that_hangs(lab):
    good, bad = lab.api(2)
    lab.up(good.address, bad.address)
    assert all(connect_through(lab) for _ in range(4))
    bad.hung = True
    until(lambda: lab.calls("reload"), "nginx is reloaded")
    time.sleep(0.3)
    assert all(connect_through(lab) for _ in range(20))


def test_one_failure_alone_changes_nothing(lab):
    good, shaky = lab.api(2)
    lab.up(good.address, shaky.address, FALL="3", INTERVAL="0.2")
    shaky.status = 500
    lab.rounds(1)
    shaky.status = 200
    lab.rounds(4)
    assert "is down" not in lab.said()
    assert lab.calls("reload") == []


def test_it_comes_back_after_rise_and_a_flapping_one_waits_longer_each_time(lab):
    good, flapping = lab.api(2)
    lab.up(good.address, flapping.address, RELOAD_INTERVAL="0.1", RISE="0.25", RISE_MAX="0.8")
    for wait, hold in enumerate((0.25, 0.5, 0.8)):
        flapping.status = 500
        until(lambda: lab.down() == {flapping.address}, "it is out")
        flapping.status = 200
        since = time.monotonic()
        until(lambda: lab.down() == set(), "it is back in")
        waited = time.monotonic() - since
        assert hold - 0.15 < waited < hold + 1.5, f"round {wait}: {waited:.2f} s"
        assert lab.said().count("is up") == wait + 1
    flapping.status = 500
    until(lambda: lab.said().count("is down") == 4, "it is down again")


def test_a_failure_while_it_recovers_starts_the_wait_anew(lab):
    good, bad = lab.api(2)
    lab.up(good.address, bad.address, RISE="0.8")
    bad.refuse()
    until(lambda: lab.down() == {bad.address}, "it is out")
    bad.open()
    time.sleep(0.5)
    bad.status = 503
    lab.rounds()
    bad.status = 200
    time.sleep(0.5)
    assert lab.down() == {bad.address}
    until(lambda: lab.down() == set(), "it is back in")


def test_all_stay_in_when_none_answers(lab):
    one, two = lab.api(2)
    lab.up(one.address, two.address)
    one.status = 500
    until(lambda: lab.down() == {one.address}, "the first is out")
    two.status = 500
    until(lambda: lab.said().count("is down") == 2 and lab.down() == set(), "all are in again")
    seed = re.sub(r"max_fails=\d+", "max_fails=0", lab.seed.read_text())
    wanted = seed if "max_fails" in seed else re.sub(r"(server [^;]*);", r"\1 max_fails=0;", seed)
    assert lab.live.read_text() == wanted, "nginx asks each of them every time"
    two.status = 200
    until(lambda: lab.down() == {one.address}, "the second is up, so the first is out")
    assert "max_fails=0" not in lab.live.read_text()


def test_the_first_that_is_good_again_is_in_at_once_and_who_does_not_answer_is_out_before(lab):
    one, two = lab.api(2)
    lab.up(one.address, two.address, RISE="60", RISE_MAX="60")
    one.status = two.status = 500
    until(lambda: lab.said().count("is down") == 2, "both are down")
    two.hung = True
    until(lambda: lab.down() == {two.address}, "the one that answers at all stays in")
    one.status = 200
    until(lambda: "is up" in lab.said(), "the good one is up, long before RISE")
    assert lab.down() == {two.address}


def test_a_failing_test_keeps_the_former_list_says_so_once_and_is_tried_again(lab):
    good, bad = lab.api(2)
    lab.up(good.address, bad.address)
    (lab.path / "nginx.conf").write_text(lab.conf + "nonsense;\n")
    bad.status = 500
    until(lambda: "nginx -t fails" in lab.said(), "it says so")
    time.sleep(1)
    assert lab.said().count("nginx -t fails") == 1
    assert 'unknown directive "nonsense"' in lab.said()
    assert lab.calls("reload") == []
    assert lab.down() <= {bad.address}
    (lab.path / "nginx.conf").write_text(lab.conf)
    until(lambda: lab.calls("reload"), "it is reloaded once the test passes")
    assert lab.down() == {bad.address}
    assert lab.said().count("nginx -t passes again") == 1


def test_a_failing_test_leaves_live_byte_for_byte(lab):
    good, bad = lab.api(2)
    lab.up(good.address, bad.address, RELOAD_INTERVAL="60")
    (lab.path / "nginx.conf").write_text(lab.conf + "nonsense;\n")
    bad.status = 500
    until(lambda: "nginx -t fails" in lab.said(), "it says so")
    assert lab.live.read_bytes() == lab.seed.read_bytes()


def test_the_first_reload_is_immediate_and_the_next_ones_are_apart(lab):
    good, one, two = lab.api(3)
    lab.up(good.address, one.address, two.address, RELOAD_INTERVAL="1")
    since = time.monotonic()
    one.refuse()
    until(lambda: len(lab.calls("reload")) == 1, "the first reload")
    assert time.monotonic() - since < 0.9
    two.refuse()
    until(lambda: lab.said().count("is down") == 2, "both are down")
    until(lambda: len(lab.calls("reload")) == 2, "the second reload")
    first, second = lab.calls("reload")
    assert second - first >= 0.95
    assert lab.down() == {one.address, two.address}


@pytest.mark.parametrize("whole", [True, False], ids=["master and workers", "workers"])
def test_an_nginx_that_hangs_is_killed_and_works_again(lab, whole):
    (good,) = lab.api()
    lab.up(good.address)
    for pid in [*children(lab.nginx.pid), *([lab.nginx.pid] if whole else [])]:
        os.kill(pid, signal.SIGSTOP)
    lab.supervise()
    assert lab.answers() == b"ok\n"
    assert len(lab.calls("kill")) == 1
    lab.rounds()
    assert len(lab.calls("kill")) == 1
    assert lab.said().count("does not answer") == 1


def test_an_nginx_that_hangs_again_is_killed_ever_more_seldom(lab):
    (good,) = lab.api()
    lab.up(good.address, RISE="0.8", RISE_MAX="60", TIMEOUT="0.3")
    times = []
    for _ in range(2):
        os.killpg(lab.nginx.pid, signal.SIGSTOP)
        lab.supervise()
        times = lab.calls("kill")
    assert times[1] - times[0] >= 0.75
    os.killpg(lab.nginx.pid, signal.SIGSTOP)
    time.sleep(1.2)
    assert len(lab.calls("kill")) == 2, "twice as long must pass before the third"


def test_a_stopped_unit_is_left_alone(lab):
    good, bad = lab.api(2)
    lab.up(good.address, bad.address, TIMEOUT="0.2", FALL="3")
    os.killpg(lab.nginx.pid, signal.SIGSTOP)  # `systemctl stop` of an nginx that hangs takes its time
    (lab.path / "active").unlink()
    bad.refuse()
    until(lambda: lab.down() == {bad.address}, "LIVE is kept right all the same")
    lab.rounds(4)
    assert lab.calls("kill") == []
    assert lab.calls("reload") == []
    os.killpg(lab.nginx.pid, signal.SIGKILL)
    lab.nginx.wait(5)
    lab.rounds(5)
    assert lab.calls("reload") == []
    assert lab.nginx.poll() is not None, "it starts nothing"
    lab.run_nginx()
    until(lambda: lab.calls("reload"), "what was owed is done when it runs again")
    lab.rounds(5)
    assert len(lab.calls("reload")) == 1


def test_a_refusing_or_overloaded_nginx_is_not_killed(lab):
    (good,) = lab.api()
    lab.write_seed(good.address)
    shutil.copy(lab.seed, lab.live)
    (lab.path / "active").touch()
    lab.watch()  # nothing listens
    lab.rounds()
    with socket.create_server(("127.0.0.1", lab.check)) as listener:
        listener.settimeout(5)
        for _ in range(5):  # accepts and closes: out of worker connections
            listener.accept()[0].close()
    assert lab.calls("kill") == []


def test_a_full_backlog_counts_as_hanging(lab):
    (good,) = lab.api()
    lab.write_seed(good.address)
    shutil.copy(lab.seed, lab.live)
    (lab.path / "active").touch()
    (lab.path / "group").write_text("none")
    with socket.create_server(("127.0.0.1", lab.check), backlog=0), contextlib.ExitStack() as stack:
        for _ in range(4):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                one.connect(("127.0.0.1", lab.check))
        lab.watch(TIMEOUT="0.2")
        until(lambda: lab.calls("kill"), "it is seen to hang")
    assert len(children(lab.watcher.pid)) <= 2


def test_live_follows_seed_at_the_start_and_while_it_runs(lab):
    one, two, three = lab.api(3)
    lab.write_seed(one.address)
    shutil.copy(lab.seed, lab.live)
    lab.run_nginx()
    lab.write_seed(one.address, two.address)
    lab.watch()
    until(lambda: lab.live.read_bytes() == lab.seed.read_bytes(), "a list that changed while it was not running")
    until(lambda: len(lab.calls("reload")) == 1, "reloaded")
    two.status = 500
    until(lambda: lab.down() == {two.address}, "the second is out")
    lab.write_seed(one.address, two.address, three.address)
    until(lambda: three.address in lab.live.read_text(), "a list that changed while it runs")
    assert lab.down() == {two.address}, "one that is down stays down"
    lab.seed.write_text("# empty\n")
    until(lambda: "no server line" in lab.said(), "it refuses an empty list")
    lab.rounds()
    assert lab.said().count("no server line") == 1
    assert three.address in lab.live.read_text()


@pytest.mark.parametrize("harm", ["edited", "lost"])
def test_live_heals(lab, harm):
    (good,) = lab.api()
    lab.up(good.address)
    if harm == "edited":
        lab.live.write_text("server 127.0.0.1:1;\n")
    else:
        lab.live.unlink()
    until(lambda: lab.live.exists() and lab.live.read_bytes() == lab.seed.read_bytes(), "LIVE is right again")
    until(lambda: lab.calls("reload"), "reloaded")


def test_a_clean_stop_puts_all_servers_back_in(lab):
    good, bad = lab.api(2)
    lab.up(good.address, bad.address)
    bad.status = 500
    until(lambda: lab.down() == {bad.address} and lab.calls("reload"), "it is out")
    lab.watcher.terminate()
    assert lab.watcher.wait(5) == 0
    assert lab.live.read_bytes() == lab.seed.read_bytes()
    assert len(lab.calls("reload")) == 2
    # Waiting for nginx's reload while systemd waits for this one's end would hold up both.
    assert (lab.path / "calls").read_text().rstrip().endswith("reload --no-block nginx.service")
    assert not list(lab.live.parent.glob(".*"))


def test_a_killed_one_goes_on_where_it_was(lab):
    good, bad = lab.api(2)
    lab.up(good.address, bad.address)
    bad.status = 500
    until(lambda: lab.calls("reload"), "it is out")
    lab.watcher.kill()
    lab.watcher.wait(5)
    lab.watch()
    lab.rounds(5)
    assert lab.down() == {bad.address}
    assert len(lab.calls("reload")) == 1
    bad.status = 200
    until(lambda: lab.down() == set(), "it is back in")


def test_it_leaks_nothing(lab):
    good, bad = lab.api(2)
    lab.up(good.address, bad.address, INTERVAL="0.01")
    bad.refuse()
    until(lambda: lab.calls("reload"), "it is out")
    lab.rounds(10)
    pid = lab.watcher.pid

    def held() -> tuple[int, int]:
        status = Path(f"/proc/{pid}/status").read_text()
        return len(list(Path(f"/proc/{pid}/fd").iterdir())), int(re.search(r"VmRSS:\s+(\d+)", status)[1])

    _, memory = held()
    lab.rounds(30)
    for _ in range(20):
        time.sleep(0.02)
        files, now = held()
        assert files <= 12  # three streams, the script, the nap, two probes and what a pipe takes while it is made
        assert now < memory + 1024
        assert len(children(pid)) <= 3, "a probe, a check and one that ends just now"


def test_without_curl_it_changes_nothing_and_says_so_once(lab):
    (good,) = lab.api()
    lab.tool("curl", "#!/bin/bash\nexit 127\n")
    lab.up(good.address)
    until(lambda: "not watched" in lab.said(), "it says so")
    time.sleep(0.5)
    assert lab.said().count("not watched") == 1
    assert "is down" not in lab.said()
    (lab.path / "bin" / "curl").unlink()
    until(lambda: "curl works again" in lab.said(), "it goes on")


def test_a_curl_that_hangs_is_ended_and_no_reason_to_kill_nginx(lab):
    (good,) = lab.api()
    lab.tool("curl", "#!/bin/bash\nexec sleep 30\n")
    lab.up(good.address, TIMEOUT="0.1")
    until(lambda: "not watched" in lab.said(), "it says so")
    time.sleep(1.5)
    assert lab.calls("kill") == []
    assert len(children(lab.watcher.pid)) <= 3


def test_ipv6(lab):
    try:
        good, bad = lab.api(2, "::1")
    except OSError as error:
        pytest.skip(f"no IPv6 loopback: {error}")
    lab.up(good.address, bad.address)
    bad.status = 500
    until(lambda: lab.down() == {bad.address}, "it is out")
    assert f"server {good.address} max_fails=2 fail_timeout=5s;  # master-1" in lab.live.read_text()


@pytest.mark.parametrize(("name", "value"), [("INTERVAL", "x"), ("TIMEOUT", "0"), ("FALL", "0"), ("RISE", "-1"), ("RISE_MAX", "1e3")])
def test_a_wrong_setting_is_refused(lab, name, value):
    assert lab.watch(wait=False, **{name: value}).wait(5) == 2
    assert name in lab.said()


@pytest.mark.parametrize("script", ["nginx/watcher.sh", "keepalived/check-load-balancer.sh"])
def test_shell_is_clean(script):
    need("shellcheck", "bash")
    for command in (["bash", "-n"], ["shellcheck", "-x"]):
        result = subprocess.run([*command, TEMPLATES / script], check=False, capture_output=True, text=True, timeout=60)
        assert (result.returncode, result.stdout + result.stderr) == (0, "")
    text = (TEMPLATES / script).read_text()
    assert len(text.splitlines()) < 250
    assert not re.search(r"EPOCH|SECONDS|\bdate\b", text.replace("SECONDS/", "")), "a clock that can jump"


def test_the_unit_is_valid(tmp_path):
    need("systemd-analyze")
    unit = (TEMPLATES / "systemd" / "stowage-watcher.service").read_text()
    program = tmp_path / "nginx-watcher"
    program.write_bytes(WATCHER.read_bytes())
    program.chmod(0o755)
    copy = tmp_path / "stowage-watcher.service"
    copy.write_text(unit.replace("/usr/libexec/stowage/nginx-watcher", str(program)))
    assert copy.read_text() != unit
    result = subprocess.run(["systemd-analyze", "verify", "--man=no", copy], check=False, capture_output=True, text=True, timeout=60)
    mine = [line for line in result.stderr.splitlines() if "stowage" in line]
    assert (result.returncode, mine) == (0, [])  # it returns 0 for a wrong value, so stderr counts


def test_tmpfiles_lays_live_once(tmp_path):
    need("systemd-tmpfiles")
    seed, live = tmp_path / "etc/nginx/stowage/apiserver.conf", tmp_path / "run/nginx-stowage/apiserver.conf"
    seed.parent.mkdir(parents=True)
    seed.write_text("server 192.0.2.1:6443;\n")
    for content in ("", "server 192.0.2.9:6443;\n"):
        if content:
            live.write_text(content)
        result = subprocess.run(
            ["systemd-tmpfiles", "--create", f"--root={tmp_path}", TEMPLATES / "nginx" / "tmpfiles.conf"],
            check=False,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert (result.returncode, result.stderr) == (0, "")
        assert live.read_text() == (content or seed.read_text())
