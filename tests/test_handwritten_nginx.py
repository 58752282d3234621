"""The reader of nginx files: trees, places, hostile text, and the real nginx's word on what is a file of its own."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from conftest import REPOSITORY

from generator import compiler, lint
from generator.handwritten import File, Files, Node, discovery, nginx
from generator.handwritten.balancers import api, endpoint
from generator.source import Source


def read(text: str) -> Node:
    root, problems = nginx.read(Source("nginx.conf", text))
    assert problems == ()
    return root


def refused(text: str) -> tuple[str, str, int, int]:
    root, problems = nginx.read(Source("nginx.conf", text))
    assert root.children == ()
    (problem,) = problems
    return problem.code, problem.message, problem.position.line, problem.position.column


def plain(node: Node) -> list:
    """``["listen", "16443"]``, with a list of children at the end for a block."""
    return [[str(c.name), *map(str, c.args), *([plain(c)] if c.children is not None else [])] for c in node.children or ()]


def places(node: Node) -> list[tuple[str, int, int, int]]:
    found = []
    for child in node.children or ():
        found += [(str(w), w.spot.at.line, w.spot.at.column, w.spot.at.length) for w in (child.name, *child.args)]
        found += places(child)
    return found


def test_tree():
    text = "events {}\nstream { upstream a { server 10.0.0.1:6443 weight=2; server 10.0.0.2:6443; } # }\n server { listen 1; } }"
    assert plain(read(text)) == [
        ["events", []],
        [
            "stream",
            [["upstream", "a", [["server", "10.0.0.1:6443", "weight=2"], ["server", "10.0.0.2:6443"]]], ["server", [["listen", "1"]]]],
        ],
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("# only; a { comment", []),
        ("a;# b", [("a", 1, 1, 1)]),
        ("a#b c#;", [("a#b", 1, 1, 3), ("c#", 1, 5, 2)]),
        ("\n  a\tbc\r\n   d;", [("a", 2, 3, 1), ("bc", 2, 5, 2), ("d", 3, 4, 1)]),
        ("a 'b c' \"d;e\"  f;", [("a", 1, 1, 1), ("b c", 1, 3, 5), ("d;e", 1, 9, 5), ("f", 1, 16, 1)]),
        (r'a "b\"c" d\;e;', [("a", 1, 1, 1), ('b"c', 1, 3, 6), (r"d\;e", 1, 10, 4)]),
        (r"a '\t\\\.';", [("a", 1, 1, 1), ("\t\\\\.", 1, 3, 8)]),
        ('a "" b;', [("a", 1, 1, 1), ("", 1, 3, 2), ("b", 1, 6, 1)]),
        ("a ${b}c $d;", [("a", 1, 1, 1), ("${b}c", 1, 3, 5), ("$d", 1, 9, 2)]),
        ("a 'b\nc' d;", [("a", 1, 1, 1), ("b\nc", 1, 3, 2), ("d", 2, 4, 1)]),
        ("a\u00a0b c;", [("a\u00a0b", 1, 1, 3), ("c", 1, 5, 1)]),
        ("中文 'é' x;", [("中文", 1, 1, 2), ("é", 1, 4, 3), ("x", 1, 8, 1)]),
        ("a{b;}", [("a", 1, 1, 1), ("b", 1, 3, 1)]),
        ("a \0b;", [("a", 1, 1, 1), ("\0b", 1, 3, 2)]),
    ],
)
def test_words_and_their_places(text, words):
    assert places(read(text)) == words


def test_quoted_words_are_not_plain():
    (node,) = read("a '1' 2;").children
    assert [word.plain for word in node.args] == [False, True]


@pytest.mark.parametrize(
    ("text", "message", "line", "column"),
    [
        ("a", "no semicolon after a", 1, 1),
        ("a b\n", "no semicolon after a", 1, 3),
        ("a {\n b c\n}", "no semicolon after b", 2, 4),
        ("a {\n b; c {", "c is never closed", 2, 5),
        ("a {}\n}", "a closing brace without a block", 2, 1),
        ("a;;", "; without a directive before it", 1, 3),
        ("a; {}", "{ without a directive before it", 1, 4),
        ("a;\nb 'c;\n", "a quote that is never closed", 2, 3),
        ("a 'b'c;", "a quoted word with no blank after it", 1, 3),
        ("a \\", "no semicolon after a", 1, 3),
        ("a ${b", "no semicolon after a", 1, 3),
    ],
)
def test_what_cannot_be_read_is_one_finding(text, message, line, column):
    assert refused(text) == ("NGX001", message, line, column)


def test_a_long_word_is_named_short():
    assert refused("a" * 1000)[1] == "no semicolon after " + "a" * 40 + "..."


@pytest.mark.parametrize(
    "text",
    [
        "a{" * 100_000, "a;" * 2_097_152, "a" * 4_194_304, '"' * 4_194_303, "'" + "\\" * 4_194_303, "#" * 4_194_304, " " * 4_194_304,
        "\\" * 4_194_304, "a ${" * 1_000_000, "}" * 4_194_304, "a\n" * 2_097_152, "\u00a0" * 2_000_000,
    ],
    ids=lambda text: ascii(text[:6]),
)  # fmt: skip
def test_hostile_text_is_read_in_bounded_time(text):
    before = time.process_time()
    root, problems = nginx.read(Source("nginx.conf", text))
    assert len(problems) <= 1
    assert not (problems and root.children)
    assert time.process_time() - before < 10


def files(**texts: str) -> Files:
    found = []
    for path, text in texts.items():
        source = Source(path, text)
        root, problems = nginx.read(source)
        found.append(File(source, "nginx", "host", path, root=root, problems=problems))
    return Files(found)


def test_includes_stand_in_their_place_with_their_own_source():
    (config,) = nginx.whole(
        files(
            **{
                "/etc/nginx/conf.d/b.conf": "b;",
                "/etc/nginx/nginx.conf": "stream { include conf.d/*.conf; include /nowhere/*; } include deep.conf;",
                "/etc/nginx/conf.d/a.conf": "a;",
                "/etc/nginx/deep.conf": "include /etc/nginx/deeper.conf;",
                "/etc/nginx/deeper.conf": "d;",
            }
        )
    )
    assert plain(config.root) == [["stream", [["a"], ["b"], ["include", "/nowhere/*"]]], ["d"]]
    assert config.root.children[1].name.spot.source.name == "/etc/nginx/deeper.conf"


def test_a_file_without_a_folder_is_included_by_its_name_only():
    (config,) = nginx.whole(files(**{"nginx.conf": "include /etc/nginx/stream.conf;", "stream.conf": "a;"}))
    assert plain(config.root) == [["a"]]
    assert len(list(nginx.whole(files(**{"nginx.conf": "include /etc/nginx/*.conf;", "stream.conf": "a;"})))) == 2


def test_what_includes_an_unreadable_file_is_left_out():
    assert list(nginx.whole(files(**{"/etc/nginx/nginx.conf": "include a.conf;", "/etc/nginx/a.conf": "a"}))) == []


def test_circles_end():
    circle = {"/etc/nginx/nginx.conf": "a; include b.conf;", "/etc/nginx/b.conf": "b; include nginx.conf; include b.conf;"}
    assert [plain(config.root) for config in nginx.whole(files(**circle))] == [
        [["a"], ["b"], ["include", "nginx.conf"], ["include", "b.conf"]]
    ]


def test_includes_of_includes_are_bounded():
    many = {f"/etc/nginx/{n}.conf": f"include {n + 1}.conf;" * 10 for n in range(9)} | {"/etc/nginx/9.conf": "a;" * 1000}
    before = time.process_time()
    assert list(nginx.whole(files(**many)))
    assert time.process_time() - before < 10


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("16443", ("*", 16443)),
        ("*:16443", ("*", 16443)),
        ("0.0.0.0:16443", ("*", 16443)),
        ("[::]:16443", ("*", 16443)),
        ("192.168.1.31:16443", ("192.168.1.31", 16443)),
        ("[FD00::31]:16443", ("fd00::31", 16443)),
        ("Name", ("name", None)),
        ("unix:/run/a.sock", ("unix:/run/a.sock", None)),
        ("::1", ("::1", None)),
    ],
)
def test_endpoint(text, expected):
    assert endpoint(text) == expected


def test_balancers_of_a_snippet():
    (one,) = api(
        files(
            **{
                "stream-conf.d/a.conf": "upstream u { server 10.0.0.1:6443; server 10.0.0.2:6443 down; } server { listen 16443; proxy_pass u; }"
            }
        )
    )
    assert one.ports == {16443}
    assert [str(word) for word in one.answering] == ["10.0.0.1:6443"]


OWN = sorted(
    [
        *REPOSITORY.glob("out/*/hosts/*/rootfs/etc/nginx/nginx.conf"),
        *REPOSITORY.glob("tests/golden/*/*/hosts/*/rootfs/etc/nginx/nginx.conf"),
    ]
)


@pytest.mark.parametrize("path", OWN, ids=lambda path: "-".join(path.parts[-7:-4:2]))
def test_bundles_are_clean(path):
    """By itself, and with the host's other files."""
    for what in (path, path.parent.parent.parent):
        found = [d for one in compiler.lint_files(discovery.read([what])) for d in one.diagnostics if d.code.startswith("NGX")]
        assert [d for d in found if d.severity != "info"] == []
        assert {d.code for d in found} <= {"NGX013"}


def test_there_are_bundles():
    assert len(OWN) > 10


def verdict(text: str, folder: Path) -> str:
    """What ``nginx -t`` says of *text*."""
    file = folder / "nginx.conf"
    file.write_bytes(text.encode())
    said = subprocess.run(["nginx", "-t", "-c", str(file), "-e", "stderr"], capture_output=True, timeout=30, check=False)
    return said.stderr.decode(errors="replace")


SHAPES = [
    "events {} stream { upstream a { server 127.0.0.1:6443; } }",
    "events {} stream { upstream a { server 127.0.0.1:6443; }",
    "events {} stream { upstream a { server 127.0.0.1:6443 } }",
    "events {} stream { upstream a { server 127.0.0.1:6443; } } }",
    "events {} stream { upstream 'a;b' { server \"127.0.0.1:6443\"; } }",
    "events {} stream { upstream 'a'b { server 127.0.0.1:6443; } }",
    "events {} stream { upstream 'a'{ server '127.0.0.1:6443'; } }",
    "events {} stream { upstream 'a { server 127.0.0.1:6443; } }",
    "events {} ; stream {}",
    "events {} {}",
    "events {} # } {\nstream { # ;\n log_format a '$remote_addr' # b\n '#$status'; }",
    "events {} stream { log_format a '${remote_addr}x' ${status}; }",
    'events {} stream { log_format a \\"; }',
    'events {} stream { log_format a "\\""; }',
    "events {} stream { log_format a 'b\nc'; }",
    "events {}\r\nstream {\r\n}\r\n",
    "events {}\n\nworker_processes 1",
    "events {}\n\nworker_processes 1;#",
    "events {} stream { log_format a",
    "events {} stream { log_format a \\",
    "events {} stream { log_format a 'b'c; }",
    "events{}stream{log_format a b;}",
]


@pytest.mark.needs("nginx", "root")
@pytest.mark.parametrize("text", SHAPES)
def test_nginx_agrees_on_what_is_a_file(text, tmp_path):
    """What nginx refuses for its shape, the reader refuses, and nothing else."""
    text = (
        ""
        if not Path("/usr/lib/nginx/modules/ngx_stream_module.so").exists()
        else "load_module /usr/lib/nginx/modules/ngx_stream_module.so;"
    ) + text
    _, problems = nginx.read(Source("nginx.conf", text))
    said = verdict(text, tmp_path)
    assert bool(problems) == ("unexpected" in said or "is not terminated" in said), said
    if not problems:
        assert "syntax is ok" in said or "test is successful" in said, said


# What a rule says that nginx refuses, nginx refuses; what the fixture for the contrary says, it takes.
REFUSED = ("NGX002", "NGX003", "NGX005", "NGX006", "NGX007", "NGX008", "NGX009", "NGX010", "NGX011", "NGX012")
FIXTURES = [
    path
    for code in REFUSED
    for path in sorted((REPOSITORY / "tests" / "lint" / code).glob("*/nginx.conf"))
    # Of a later nginx; and one whose events block stands in a file that isn't there.
    if path.parent.name not in ("good-newer-directives", "good-included-events")
]


@pytest.mark.needs("nginx", "root")
@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: f"{path.parent.parent.name}-{path.parent.name}")
def test_nginx_agrees_with_the_rules(path, tmp_path):
    module = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
    if not module.exists():
        pytest.skip("needs the stream module")
    text = path.read_text().replace("/var/log/nginx", str(tmp_path))
    text = text.replace("modules/ngx_stream_module.so", str(module)) if "load_module" in text else f"load_module {module};\n{text}"
    said = verdict(text, tmp_path)
    assert ("test is successful" in said) == path.parent.name.startswith("good-"), said


@pytest.mark.parametrize(
    "text",
    [
        "stream {" + "".join(f"upstream u{n} {{ server 10.0.{n >> 8}.{n & 255}:6443; }} server {{ listen {n + 1}; proxy_pass u{n}; }}" for n in range(2500)) + "}",
        "stream { upstream u {" + "server 127.0.0.1:6443;" * 8000 + "} server {" + "listen 6443;" * 8000 + "proxy_pass u; } }",
        "stream { upstream u {" + "server a:6443 backup;" * 3000 + "}" + "server { listen 1; proxy_pass u; }" * 3000 + "}",
        "http {" * 50 + "stream { listen 1; }" * 5000 + "}" * 50,
    ],
    ids=["upstreams", "servers", "balancers", "blocks"],
)  # fmt: skip
def test_rules_end_in_bounded_time(text):
    """On two hosts whose files are as large as the reader takes them."""
    sources = [Source(f"{host}/nginx.conf", text) for host in ("a", "b")]
    one, two = (File(source, "nginx", source.name[0], "/etc/nginx/nginx.conf", root=nginx.read(source)[0]) for source in sources)
    assert one.root.children
    before = time.process_time()
    for rule in lint.rules():
        if rule.code.startswith("NGX") and rule.file_check:
            list(rule.file_check(Files([one, two])))
    assert time.process_time() - before < 30
