"""keepalived's health check, with the real nginx and with listeners that misbehave, on loopback only."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

CHECK = Path(__file__).resolve().parent.parent / "templates" / "keepalived" / "check-load-balancer.sh"
STREAM_MODULES = ("/usr/lib/nginx/modules/ngx_stream_module.so", "/usr/lib64/nginx/modules/ngx_stream_module.so")
LIMIT = 0.8  # seconds; keepalived checks once a second


def need(*tools: str) -> None:
    """Skips the test where a tool is missing; fails it in CI, where nothing may be."""
    missing = [tool for tool in tools if not shutil.which(tool)]
    if missing and os.environ.get("CI") == "true":
        pytest.fail(f"missing in CI: {', '.join(missing)}")
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


@pytest.fixture(autouse=True)
def _tools():
    need("bash", "timeout")


def check(*arguments: object) -> tuple[int, float]:
    """Exit status and seconds of one check, which must be quiet."""
    start = time.monotonic()
    done = subprocess.run(["bash", CHECK, *map(str, arguments)], check=False, capture_output=True, text=True, timeout=10)
    seconds = time.monotonic() - start
    assert done.stdout == ""
    assert done.stderr == "" or done.returncode == 2
    return done.returncode, seconds


@contextlib.contextmanager
def listener(answer: bytes | None, host: str = "127.0.0.1", silent: int = 0):
    """A listener that answers each connection with `answer` and closes; None, and the first `silent` ones: says nothing."""
    held = []
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as server:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    one = server.accept()[0]
                    held.append(one)
                    if answer is not None and len(held) > silent:
                        one.sendall(answer)
                        one.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)
        for one in held:
            one.close()


@pytest.fixture
def nginx(tmp_path):
    need("nginx")
    module = next((one for one in STREAM_MODULES if Path(one).exists()), "")
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    conf = tmp_path / "nginx.conf"
    conf.write_text(
        f"{module and f'load_module {module};'} daemon off; pid {tmp_path}/pid; error_log {tmp_path}/log; worker_processes 2;\n"
        f'events {{}} stream {{ server {{ listen 127.0.0.1:{port}; return "ok\\n"; }} }}\n'
    )
    process = subprocess.Popen(["nginx", "-p", tmp_path, "-c", conf], start_new_session=True)
    end = time.monotonic() + 5
    while check("127.0.0.1", port)[0] and time.monotonic() < end:
        time.sleep(0.05)
    yield process, port
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(5)


def test_an_nginx_that_works(nginx):
    status, seconds = check("127.0.0.1", nginx[1])
    assert status == 0
    assert seconds < 0.4


@pytest.mark.parametrize("whole", [True, False], ids=["master and workers", "workers"])
def test_a_frozen_nginx_accepts_but_fails(nginx, whole):
    process, port = nginx
    workers = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    for pid in [*workers, *([process.pid] if whole else [])]:
        os.kill(pid, signal.SIGSTOP)
    socket.create_connection(("127.0.0.1", port), 1).close()
    status, seconds = check("127.0.0.1", port)
    assert status == 1
    assert seconds < LIMIT
    for pid in [*workers, process.pid]:
        os.kill(pid, signal.SIGCONT)
    assert check("127.0.0.1", port)[0] == 0


@pytest.mark.parametrize(
    ("answer", "status"), [(b"ok\n", 0), (b"ok then\n", 1), (b"", 1), (None, 1)], ids=["ok", "more", "closed", "silent"]
)
def test_only_ok_is_ok(answer, status):
    with listener(answer) as port:
        got, seconds = check("127.0.0.1", port)
    assert got == status
    assert seconds < LIMIT


def test_one_slow_answer_is_forgiven():
    with listener(b"ok\n", silent=1) as port:
        assert check("127.0.0.1", port)[0] == 0


def test_nginx_that_systemd_starts_again_meanwhile_is_forgiven():
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        port = one.getsockname()[1]
        result = []
        thread = threading.Thread(target=lambda: result.append(check("127.0.0.1", port)))
        thread.start()
        time.sleep(0.25)
        one.listen()
        one.settimeout(5)
        with one.accept()[0] as connection:
            connection.sendall(b"ok\n")
        thread.join(5)
    assert result[0][0] == 0


def test_refused():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        status, seconds = check("127.0.0.1", one.getsockname()[1])
    assert status == 1
    assert seconds < LIMIT


@contextlib.contextmanager
def full_backlog():
    """A port whose connect blocks: what a frozen nginx comes to after some minutes."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, contextlib.ExitStack() as stack:
        for _ in range(4):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                one.connect(server.getsockname())
        yield server.getsockname()[1]


def test_a_full_backlog_is_bounded():
    with full_backlog() as port:
        status, seconds = check("127.0.0.1", port)
    assert status == 1
    assert seconds < LIMIT


def test_ipv6():
    try:
        with listener(b"ok\n", "::1") as port:
            assert check("::1", port)[0] == 0
    except OSError as error:
        pytest.skip(f"no IPv6 loopback: {error}")
    assert check("::1", port)[0] == 1


@pytest.mark.parametrize("arguments", [(), ("127.0.0.1",), ("127.0.0.1", "x"), ("localhost;id", "1"), ("127.0.0.1", "1", "2")])
def test_wrong_arguments(arguments):
    assert check(*arguments)[0] == 2


def processes(marker: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if marker.encode() in path.read_bytes():
                found.append(path.parent.name)
    return found


@pytest.mark.parametrize("group", [True, False], ids=["as keepalived does", "the script alone"])
def test_no_stray_child_when_it_is_killed(group):
    marker = f"STOWAGE_TEST_{os.getpid()}_{group}"
    with full_backlog() as port:
        process = subprocess.Popen(["bash", CHECK, "127.0.0.1", str(port)], start_new_session=True, env={"MARK": marker})
        time.sleep(0.3)
        assert len(processes(marker)) >= 3  # itself, timeout, the bash that is stuck in connect
        (os.killpg if group else os.kill)(process.pid, signal.SIGKILL)
        process.wait(5)
        end = time.monotonic() + (0.2 if group else LIMIT)
        while processes(marker) and time.monotonic() < end:
            time.sleep(0.02)
        assert processes(marker) == []


def test_it_needs_coreutils_and_changes_nothing():
    text = re.sub(r"^\s*#.*", "", CHECK.read_text(), flags=re.MULTILINE)
    assert not re.search(r"\b(curl|ps|pgrep|pidof|systemctl|service|start|stop|restart|reload|kill)\b", text.replace("--signal=KILL", ""))
    assert not re.search(r"(?<![0-9&])>(?!&)\s*(?!/dev/null)", text.replace("3<>", "").replace("<&3", ""))
