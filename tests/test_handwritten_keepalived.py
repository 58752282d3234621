"""keepalived.conf as a tree: places, odd forms, hostile text; what the real keepalived takes; and our own bundles."""

from __future__ import annotations

import shutil
import subprocess
import time

import pytest

from generator import lint
from generator.handwritten import File, Files, discovery, keepalived, vrrp
from generator.source import MAX_BYTES, Source


def read(text, host=""):
    return keepalived.read(Source("keepalived.conf", text), host)


def shape(node):
    """A node as its words, with those of its children."""
    words = " ".join([node.name, *node.args])
    return words if node.children is None else (words, [shape(child) for child in node.children])


def shapes(text, host=""):
    root, problems = read(text, host)
    assert not problems
    return [shape(child) for child in root.children]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a 1\nb\n", ["a 1", "b"]),
        ("a { b 1\n}", [("a", ["b 1"])]),
        ("a\n{\nb 1 }", [("a", ["b 1"])]),
        ("a{b}", [("a", ["b"])]),
        ("authentication { auth_type PASS auth_pass 1111 }", [("authentication", ["auth_type PASS auth_pass 1111"])]),
        ("a 1 # b {\n! c }\nd 2!e\nf 3#g", ["a 1", "d 2", "f 3"]),
        ('script "/bin/x #a ! {b}" 2', ["script /bin/x #a ! {b} 2"]),
        ('script "/bin/x \\"a b\\""', ['script /bin/x "a b"']),
        ("script '/bin/x a {b}'\nauth_pass it's", ["script /bin/x a {b}", "auth_pass it's"]),
        ('state BAC"KUP"', ["state BAC KUP"]),
        ("auth_pass a\\#b\\!c", ["auth_pass a#b!c"]),
        ("$A=7\n$B=${A}1\nx $A ${B} $C", ["x 7 71 $C"]),
        ("$A= \\\n priority 99 \\\n state BACKUP # x\nv {\n$A\n}", [("v", ["priority 99", "state BACKUP"])]),
        ("$V=10.0.0.1 dev e0\nl { $V }", [("l", ["10.0.0.1 dev e0"])]),
        ("~SEQ(i, 1, 3) a $i\nb", ["a 1", "a 2", "a 3", "b"]),
        ("~SEQ(i, 5, -2, 1) a $i", ["a 5", "a 3", "a 1"]),
        ("track_script {\n chk weight -5\n}", [("track_script", ["chk weight -5"])]),
        ("", []),
    ],
)
def test_tree(text, expected):
    assert shapes(text) == expected


def test_lines_for_one_host():
    text = "@a priority 1\n@b priority 2\n@^a state BACKUP\nx\n"
    assert shapes(text, "a") == ["priority 1", "x"]
    assert shapes(text, "b") == ["priority 2", "state BACKUP", "x"]
    assert shapes(text, "nobody") == shapes(text, "a")


def test_every_word_knows_its_place():
    root, _ = read('a {\n  script "x y" 7 # z\n  $V\n}\n$W=1 2\n@h b $W\n')
    block, last = root.children
    script = block.children[0]
    places = [(str(word), word.spot.at.line, word.spot.at.column, word.spot.at.length, word.plain) for word in (script.name, *script.args)]
    assert places == [("script", 2, 3, 6, True), ("x y", 2, 10, 5, False), ("7", 2, 16, 1, True)]
    assert [(str(w), w.spot.at.line, w.spot.at.column, w.spot.at.length) for w in (last.name, *last.args)] == [
        ("b", 6, 4, 1),
        ("1", 6, 6, 2),
        ("2", 6, 6, 2),
    ]


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [("a {\n b\n", 1, 1), ("a\n}\n", 2, 1), ("a {\n}\n {\n", 3, 2), ('a\nscript "x\nb', 2, 8), ('a "', 1, 3)],
)
def test_what_does_not_match(text, line, column):
    _, problems = read(text)
    assert [(d.code, d.position.line, d.position.column) for d in problems] == [("KAD001", line, column)]


@pytest.mark.parametrize(
    "piece",
    ["{", "}", "a{", "a{\n", '"', "'", "\\", "$A", "${", "a ", "\n", "@h b\n", "~SEQ(i, 1, 999999) $i\n", "$A=$A$A\n", "#", "notify '"],
)
def test_hostile_text_ends_soon(piece):
    begin = time.process_time()
    root, problems = read("$A=$A $A b\n" + piece * (MAX_BYTES // len(piece)))
    assert time.process_time() - begin < 20
    assert len(problems) <= 51
    assert sum(1 for _ in root.walk("a")) <= keepalived.MAX_WORDS


def files(**texts):
    """Files of host ``h``, by path."""
    found = []
    for path, text in texts.items():
        source = Source(f"h{path}", text)
        root, problems = keepalived.read(source)
        found.append(File(source, "keepalived", "h", path, root=root, problems=problems))
    return Files(found)


def test_included_files_stand_where_they_are_included():
    given = files(
        **{
            "/etc/keepalived/keepalived.conf": "include conf.d/*.conf\nb {\n include /etc/auth.conf\n include gone.conf\n}\n",
            "/etc/keepalived/conf.d/x.conf": "x 1\ninclude y.conf\n",
            "/etc/keepalived/conf.d/y.conf": "y 2\ninclude x.conf\n",
            "/etc/auth.conf": "c 3\n",
        }
    )
    ((file, root),) = keepalived.joined(given)
    assert file.path == "/etc/keepalived/keepalived.conf"
    assert [shape(child) for child in root.children] == ["x 1", "y 2", ("b", ["c 3", "include gone.conf"])]
    assert not vrrp.complete(root)
    assert next(root.walk("c")).name.spot.source.name == "h/etc/auth.conf"


# What the real program says of each: whether there is a mistake in its form.
FORMS = {
    "plain": ("%s", True),
    "comment": ("garp_master_delay 1#}\n! {\n%s", True),
    "quoted": ('garp_master_delay "1"\n%s', True),
    "unclosed": ("virtual_routes {\n%s", False),
    "extra": ("}\n%s", False),
    "password": ("authentication { auth_type PASS auth_pass 1111 }\n%s", False),
    "password on lines": ("authentication { auth_type PASS\n auth_pass 1111 }\n%s", True),
    "peers": ("unicast_peer { 10.0.0.5 10.0.0.6 }\n%s", False),
}
VIP = "virtual_ipaddress {\n 10.0.0.1\n}\n"


@pytest.mark.needs("keepalived", "root")
@pytest.mark.parametrize("form", FORMS)
def test_the_real_program_agrees(form, tmp_path):
    """Where keepalived refuses a form, we find something; where it doesn't, nothing of KAD001 or KAD003."""
    text, fine = FORMS[form]
    body = text % VIP
    path = tmp_path / "keepalived.conf"
    path.write_text(f"vrrp_instance V {{\ninterface e0\nvirtual_router_id 5\npriority 100\n{body}}}\n")
    network = "ip link add e0 type veth peer name e1 && ip addr add 10.0.0.9/24 dev e0 && ip link set e0 up && ip link set e1 up"
    ran = subprocess.run(
        ["unshare", "-n", "sh", "-c", f"{network} && exec keepalived -t -f {path}"], capture_output=True, text=True, timeout=30, check=False
    )
    assert (ran.returncode == 0) == fine, ran.stderr
    given = discovery.read([path])
    found = [d.code for d in given.files[0].problems] + [d.code for _, d in lint.run_files(given) if d.code == "KAD003"]
    assert bool(found) == (not fine)


def test_our_own_bundles_have_nothing_of_it(bundle, tmp_path):
    """All hosts of a bundle, each under its own name, with their scripts."""
    for host in (bundle.path / "hosts").iterdir():
        for name, folder in (("etc", "rootfs/etc"), ("usr", "rootfs/usr"), ("opt", "scripts"), ("srv", "ops")):
            if (host / folder).is_dir():
                shutil.copytree(host / folder, tmp_path / host.name / name)
    given = discovery.read([tmp_path])
    assert any(True for _ in given.of("script"))
    assert any(True for _ in given.of("keepalived")) or not any(bundle.path.rglob("keepalived.conf"))
    assert [(s.name, d.code, d.position.line, d.message) for s, d in lint.run_files(given) if d.code[:3] in ("KAD", "SCR")] == []
