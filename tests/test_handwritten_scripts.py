"""Shell scripts as simple commands: places, what is and isn't a command, hostile text."""

from __future__ import annotations

import time

import pytest

from generator.handwritten import scripts
from generator.source import MAX_BYTES, Source


def read(text):
    return scripts.read(Source("x.sh", text))[0]


def commands(text):
    """Each command with its words, and after a bar what it redirects."""
    return [
        " ".join([node.name, *node.args]) + "".join(f" |{' '.join([child.name, *child.args])}" for child in node.children or ())
        for node in read(text).children
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a 1; b && c || d & e", ["a 1", "b", "c", "d", "e"]),
        ("a | b |& c", ["a ||", "b ||", "c"]),
        ("sudo -u root -E kubeadm init", ["kubeadm init"]),
        ("FOO=1 BAR='x y' env -u Z Q=2 nohup cmd a", ["cmd a"]),
        ("exec nice -n 5 cmd; exec >log", ["cmd"]),
        ("command -v kubeadm; command kubeadm x", ["command -v kubeadm", "kubeadm x"]),
        ("if a; then b; elif ! c; then d; else e; fi", ["a", "b", "c", "d", "e"]),
        ("for x in 1 2; do a $x; done > f", ["a $x"]),
        ("while read -r l; do a; done < f", ["read -r l", "a"]),
        ("f() { a; }\nfunction g { b; }\nfunction h() { c; }", ["a", "b", "c"]),
        ("(cd /x && a) > f", ["cd /x", "a"]),
        ('case "$1" in\n a|b) c ;;\n (d) e;;\n *) f\nesac\ng', ["c", "e", "f", "g"]),
        ("x=$(case y in y) a;; esac); b", ["= x $(case y in y) a;; esac)", "a", "b"]),
        ('n=$(ps -ef | grep "a|$$")', ['= n $(ps -ef | grep "a|$$")', "ps -ef ||", "grep a|$$"]),
        ('a `b c` "$(d "$(e)")"', ['a `b c` $(d "$(e)")', "b c", "d $(e)", "e"]),
        ("x=$(( 1 + (2*3) )); a $((1))", ["= x $(( 1 + (2*3) ))", "a $((1))"]),
        ("a=(1 b 3); c", ["= a (1 b 3)", "c"]),
        ("diff <(a) <(b)", ["diff <(a) <(b)", "a", "b"]),
        ("[[ $a == b && $c < d ]] && e", ["[[ $a == b && $c < d ]]", "e"]),
        ("a > f 2>&1 >>g <<< 'x y'", ["a |> f |>& 1 |>> g |<<< x y"]),
        ("cat > f <<EOF\nkubeadm $(never) 'x\nEOF\na", ["cat |> f |<< EOF", "a"]),
        ("a <<-'E1' <<E2\n\tx\n\tE1\ny\nE2\nb", ["a |<<- E1 |<< E2", "b"]),
        ("a \\\n  b\\\nc # d 'e\nf", ["a bc", "f"]),
        ("a 'b $(c)' \"d\\\"e\" f\\ g $'h\\'i' j\"k\"l ${m:-n o} $# a#b", ["a b $(c) d\"e f g h'i jkl ${m:-n o} $# a#b"]),
        ('grep "x$" b; echo $"y"', ["grep x$ b", "echo $y"]),
        (': ${a="${b}/c"} d', [': ${a="${b}/c"} d']),
        ("a 'never closed\nb", ["a never closed\nb"]),
        ("", []),
    ],
)
def test_commands(text, expected):
    assert commands(text) == expected


def test_every_word_knows_its_place():
    root = read('if x; then\n  kubeadm init \\\n    "--a b" $(c d)\nfi\n')
    places = [(str(w), w.spot.at.line, w.spot.at.column, w.spot.at.length, w.plain) for n in root.children for w in (n.name, *n.args)]
    assert places == [
        ("x", 1, 4, 1, True),
        ("kubeadm", 2, 3, 7, True),
        ("init", 2, 11, 4, True),
        ("--a b", 3, 5, 7, False),
        ("$(c d)", 3, 13, 6, False),
        ("c", 3, 15, 1, True),
        ("d", 3, 17, 1, True),
    ]


@pytest.mark.parametrize(
    "piece",
    [
        "$(",
        "`",
        '"',
        "'",
        "(",
        ")",
        "{",
        "${",
        "$((",
        "a ",
        "a;",
        "a\n",
        "\\",
        "\\\n",
        "<<E\n",
        "$'",
        "<(",
        "1>",
        "if ",
        "case x in ",
        '"$(',
        "[[ ",
    ],
)
def test_hostile_text_ends_soon(piece):
    begin = time.process_time()
    root, _ = scripts.read(Source("x.sh", piece * (MAX_BYTES // len(piece))))
    assert time.process_time() - begin < 20
    assert len(root.children) <= scripts.MAX_STEPS
