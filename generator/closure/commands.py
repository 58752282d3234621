"""Commands: every word of a script or unit that is run, and the package, the base system or the bundle that brings it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from posixpath import dirname, join, normpath

from generator.closure import shell, tools
from generator.closure.folders import OVERLAYS, Folder
from generator.closure.needs import Use, Verdict, missing, provided
from generator.closure.shell import Lines, Script
from generator.closure.shellwords import Word
from generator.wording import said

_BUILTINS = frozenset(
    (
        *(
            ":",
            ".",
            "[",
            "[[",
            "alias",
            "bg",
            "bind",
            "break",
            "builtin",
            "caller",
            "cd",
            "command",
            "compgen",
            "complete",
            "compopt",
            "continue",
        ),
        *("declare", "dirs", "disown", "echo", "enable", "eval", "exec", "exit", "export", "false", "fc", "fg", "getopts", "hash", "help"),
        *(
            "history",
            "jobs",
            "kill",
            "let",
            "local",
            "logout",
            "mapfile",
            "popd",
            "printf",
            "pushd",
            "pwd",
            "read",
            "readarray",
            "readonly",
        ),
        *("return", "select", "set", "shift", "shopt", "source", "suspend", "test", "times", "trap", "true", "type", "typeset", "ulimit"),
        *("umask", "unalias", "unset", "wait"),
    )
)
# Programs that run the rest of their words: options of theirs with a value, and how many words stand before the command.
_PREFIXES: dict[str, tuple[tuple[str, ...], int]] = {
    "exec": (("-a",), 0),
    "builtin": ((), 0),
    "command": ((), 0),
    "env": (("-u", "-C", "-S"), 0),
    "nice": (("-n",), 0),
    "ionice": (("-c", "-n"), 0),
    "nohup": ((), 0),
    "setsid": ((), 0),
    "stdbuf": (("-i", "-o", "-e"), 0),
    "sudo": (("-u", "-g", "-h", "-p", "-C", "-D", "-R"), 0),
    "nsenter": (("-t", "-S", "-G"), 0),
    "systemd-run": (("-u", "-p", "-E", "-M", "--unit", "--property", "--setenv", "--slice", "--uid", "--gid", "--description"), 0),
    "unshare": (("-S", "-G"), 0),
    "chroot": ((), 1),
    "chrt": ((), 1),
    "flock": (("-w", "-E"), 1),
    "taskset": ((), 1),
    "timeout": (("-k", "-s"), 1),
    "xargs": (("-n", "-I", "-P", "-d", "-s", "-L", "-a", "-E"), 0),
}
# Functions of lib.sh, lay.sh and 90-verify.sh that run their last words (docs/scripts.md): how many stand before those.
_RUNNERS = {"act": 1, "bounded": 2, "undo": 0, "check": 1, "silent": 0, "each_line": 0}
_LAYERS = frozenset(("lay_text", "lay_file", "lay_block", "lay_whole", "place"))
_SHELLS = frozenset(("sh", "bash", "dash", "ash"))
_FINDS = frozenset(("-exec", "-execdir", "-ok", "-okdir"))
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*|\.|\[")
_PATH = re.compile(r"/[A-Za-z0-9_./+-]+")
_NAMED = re.compile(r"\$(\w+)|\$\{(\w+)-?\}")
_ARRAY = re.compile(r"\$\{(\w+)\[@\]\}")
# What awk gives to a shell: system("..."), "..." | getline, print | "...".
_AWK = frozenset(("awk", "mawk", "gawk"))
_AWK_RUNS = re.compile(r'''\bsystem\(\s*"((?:[^"\\\n]|\\.)*)"|"((?:[^"\\\n]|\\.)*)"\s*\|\s*getline\b|\|\s*"((?:[^"\\\n]|\\.)*)"''')
# Where no base system has a file.
_FOREIGN = re.compile(r"/(?:home|media|mnt|opt|srv|usr/local)/[\w.@+/-]+")
# A test whether a file of the bundle is there.
_ASKED = re.compile(r"""-[defrsx] +"?\$\{?BUNDLE\}?/([\w./-]+)""")
_IN_BUNDLE = re.compile(r"\$\{?BUNDLE\}?/([\w./-]+)")
_BESIDE = re.compile(r'\$\((?:cd -P -- "?)?"?\$\(?dirname.*\)/([\w./-]+)|\$\(dirname .*\)/([\w./-]+)', re.DOTALL)
# What a script does when a command that it asks for isn't there, where it can't go on.
_GIVES_UP = re.compile(r"[^\n;|&]*\|\|\s*(?:die|stop|fail|exit|error|return 1)\b|[^\n;|&]*\|\|[ \t]*\\?\n\s*(?:die|stop|exit)\b")
_INTERPRETER = re.compile(r"#![ \t]*(?:/usr/bin/env[ \t]+(?:-S[ \t]+)?)?([\w./+-]+)")
UNIT = re.compile(r"rootfs/(?:etc|usr/lib)/systemd/.*\.(?:conf|service|socket|timer|path|mount)")
_EXEC = re.compile(r"^[ \t]*Exec(?:Start|Stop|Reload|Condition)(?:Pre|Post)?[ \t]*=[ \t]*[@:+!|-]*", re.MULTILINE)
# A line that is no command line and does not go on one.
_NO_EXEC = re.compile(rf"^(?!{_EXEC.pattern[1:]})(?<!\\\n).*$", re.MULTILINE)
_MAX_NESTED = 8
_MAX_PATH = 4096


def is_script(path: str, text: str) -> bool:
    """Whether the file is a shell script: by its name, or by its first line."""
    return path.endswith(".sh") or bool(re.match(r"#![^\n]*\b(?:ba|da)?sh\b", text[:200]))


def code_of(path: str, text: str) -> str:
    """What of the file is commands, every line where it stands: a script, or the command lines of a unit of systemd; else nothing."""
    if is_script(path, text):
        return text
    return (
        _EXEC.sub(lambda found: " " * len(found[0]), _NO_EXEC.sub(lambda found: " " * len(found[0]), text)) if UNIT.fullmatch(path) else ""
    )


@lru_cache(maxsize=512)
def parsed(text: str) -> Script:
    """*text* read once, on however many hosts it is."""
    return shell.read(text)


class Scripts:
    """The scripts of one folder, which source each other; *uses* are what they run, by the path of the script."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self.texts = {path: text for path, text in texts.items() if is_script(path, text)}
        self.read = {path: parsed(text) for path, text in self.texts.items()}
        self.sourced = {path: self._sourced(path) for path in self.texts}

    def _sourced(self, path: str) -> set[str]:
        """Every script that the one at *path* sources, directly or by another."""
        found: set[str] = set()
        queue = [path]
        while queue:
            here = queue.pop()
            for command in self.read[here].commands:
                sources = len(command.words) > 1 and command.words[0].text in (".", "source")
                target = beside(here, command.words[1]) if sources else ""
                if target in self.read and target not in found:
                    found.add(target)
                    queue.append(target)
        return found

    def libraries(self) -> set[str]:
        """The scripts that others source."""
        return set().union(*self.sourced.values()) if self.sourced else set()

    def functions(self, path: str) -> set[str]:
        """Names that are functions to the script at *path*: its own, of what it sources, and of those that source it."""
        around = [path, *(other for other, sourced in self.sourced.items() if path in sourced)]
        return set().union(*(self.read[one].functions for here in around for one in (here, *self.sourced[here])))

    def made(self, path: str) -> set[str]:
        """Absolute paths that the script at *path* lays by the functions of lay.sh and kube.sh, as far as its text says which."""
        names: dict[str, list[Word]] = {}
        for one in (path, *self.sourced[path]):
            for name, values in self.read[one].assigned.items():
                names.setdefault(name, []).extend(values)
        found = set()
        for command in self.read[path].commands:
            for words in _runs(list(command.words), self.read[path]):
                if words[0].text in _LAYERS:
                    found |= {_constant(word.text, names) for word in words[1:]}
        return {one for one in found if one.startswith("/")}

    def uses(self, path: str) -> Iterator[Use]:
        """Commands, and files of the bundle, that the script at *path* uses: each once, where it stands first."""
        functions = self.functions(path)
        lines = Lines(self.texts[path])
        # What a function of a library reads, a script that never calls it doesn't need.
        library = path in self.libraries()
        guards = {name for one in (path, *self.sourced[path]) for name in _guarded(self.texts[one])}
        guards |= {normpath(name) for name in _ASKED.findall(self.texts[path])}
        seen: set[tuple[str, str]] = set()
        for kind, name, at in sorted(_walk(self.read[path], path), key=lambda found: found[2]):
            if (kind, name) in seen or (kind == "command" and (name in functions or name in _BUILTINS)):
                continue
            if library and kind == "file" and not name.startswith("/") and not name.endswith(".sh"):
                continue
            seen.add((kind, name))
            line, column = lines.place(at)
            yield Use("file" if kind == "file" else "command", name, path, line, column, guarded=name in guards)


def uses(path: str, text: str) -> Iterator[Use]:
    """Commands, and files that they are given, of a file that is no script: a unit's command lines, or the interpreter that it names."""
    lines = Lines(text)
    for kind, name, at in _walk(parsed(code_of(path, text)), path):
        if kind == "file" or name not in _BUILTINS:
            yield Use("file" if kind == "file" else "command", name, path, *lines.place(at))
    if found := _INTERPRETER.match(text):
        yield Use("command", found[1], path, *lines.place(found.start(1)))


def _constant(text: str, names: Mapping[str, list[Word]]) -> str:
    """*text* with the variables in it that are set once, and those in their values."""

    def value(match: re.Match[str]) -> str:
        values = names.get(match[1] or match[2], [])
        return values[0].text if len(values) == 1 else match[0]

    for _ in range(_MAX_NESTED):
        text = _NAMED.sub(value, text[:_MAX_PATH])
    return text[:_MAX_PATH]


@lru_cache(maxsize=512)
def _guarded(text: str) -> frozenset[str]:
    """Commands that *text* asks for by ``command -v`` and can do without."""
    names: set[str] = set()
    for command in parsed(text).commands:
        texts = [word.text for word in command.words]
        if "command" in texts[:2] and "-v" in texts and not _GIVES_UP.match(text, command.words[-1].at):
            names.update(texts[texts.index("-v") + 1 :])
    return frozenset(names)


def beside(path: str, word: Word) -> str:
    """The file of the bundle that *word* of the script at *path* names; empty where it names none that can be told."""
    if found := _IN_BUNDLE.fullmatch(word.text):
        return normpath(found[1])
    if found := _BESIDE.fullmatch(word.text):
        return normpath(join(dirname(path), found[1] or found[2]))
    return ""


def every(script: Script, at: int | None = None, depth: int = 0) -> Iterator[tuple[list[Word], Script, int | None]]:
    """
    Every command of *script*, and of the code in words and here-documents of shells: its words, and the script that they are of.

    The last is None, or the place of the word that holds the code: places in that code mean nothing outside.
    """
    for command in script.commands:
        words = list(command.words)
        inner = [(body.text, body.at) for body in command.heredocs] if words and _program(words[0]) in _SHELLS else []
        yield words, script, at
        inner += [found for run in _runs(words, script) for found in _code(run)]
        for code, where in inner if depth < _MAX_NESTED else ():
            yield from every(parsed(code), where if at is None else at, depth + 1)


def _walk(script: Script, path: str) -> Iterator[tuple[str, str, int]]:
    """Kind, name and place of all that *script* runs, and of the files that it is given."""
    for words, inner, at in every(script):
        for run in _runs(words, inner):
            yield from ((kind, name, place if at is None else at) for kind, name, place in _one(run, path))


def _one(words: list[Word], path: str) -> Iterator[tuple[str, str, int]]:
    name = words[0]
    if name.literal and (_NAME.fullmatch(name.text) or _PATH.fullmatch(name.text)):
        yield "command", name.text, name.at
    if target := beside(path, name):
        yield "file", target, name.at
    if len(words) > 1 and (name.text in (".", "source") or _program(name) in _SHELLS):
        if target := beside(path, words[1]):
            yield "file", target, words[1].at
        elif name.text in (".", "source") and words[1].literal and words[1].text.startswith("/"):
            yield "file", words[1].text, words[1].at
    for word in words[1:]:
        found = _IN_BUNDLE.fullmatch(word.text)
        if found and not found[1].startswith(OVERLAYS):
            yield "file", normpath(found[1]), word.at
        elif word.literal and _FOREIGN.fullmatch(word.text):
            yield "file", word.text, word.at


def _code(words: list[Word]) -> Iterator[tuple[str, int]]:
    """Shell code in the words of a command, each with its place."""
    name, texts = _program(words[0]), [word.text for word in words]
    if name in _SHELLS:
        yield from ((words[i + 1].text, words[i + 1].at) for i, text in enumerate(texts[:-1]) if re.fullmatch(r"-[a-z]*c", text))
    elif name in ("trap", "eval") and len(words) > 1 and words[1].literal:
        yield words[1].text, words[1].at
    elif name in _AWK:
        for word in words[1:]:
            yield from ((next(filter(None, run.groups()), ""), word.at) for run in _AWK_RUNS.finditer(word.text))


def _program(word: Word) -> str:
    """The name of the program that *word* names, by a path or not."""
    return word.text.rpartition("/")[2] if word.text.startswith("/") else word.text


def _runs(words: list[Word], script: Script) -> Iterator[list[Word]]:
    """The commands in one: itself, and what it runs in turn."""
    while words:
        name = _program(words[0])
        if found := _ARRAY.fullmatch(name):
            # An array that holds a command: its first word.
            yield from ([first] for first in script.assigned.get(found[1], ()))
            return
        yield words
        if name == "command" and words[1:2] and words[1].text in ("-v", "-V"):
            return
        if name == "find":
            for i, word in enumerate(words[:-1]):
                if word.text in _FINDS:
                    yield from _runs(words[i + 1 :], script)
            return
        if name in _RUNNERS:
            words = words[1 + _RUNNERS[name] :]
        elif name in _PREFIXES:
            words = _behind(words, *_PREFIXES[name])
        else:
            return


def _behind(words: list[Word], valued: tuple[str, ...], before: int) -> list[Word]:
    """What stands behind a program, its options and *before* words of its own."""
    at = 1
    while at < len(words) and (words[at].text.startswith("-") or (_program(words[0]) == "env" and "=" in words[at].text)):
        if words[at].text == "--":
            at += 1
            break
        at += 2 if words[at].text in valued else 1
    return words[at + before :]


def judge(folder: Folder, use: Use) -> Verdict | None:
    """Who brings the command to the host of *folder*; None where no script comes to it there."""
    name = use.name.rpartition("/")[2]
    if use.name in folder.rows:
        return provided(said("the bundle: {file}", file=folder.rows[use.name]))
    if any(folder.get(key) != value if value else not folder.get(key) for key, value in tools.condition(name)):
        return None
    candidates = tools.packages(name, folder.get("OS_FAMILY"))
    if by := _by(folder, name, candidates):
        return provided(by)
    if name in tools.OWN or use.guarded:
        return Verdict("optional", said("the host's own, where it is there"))
    if name == "etcdctl" and folder.get("ROLE") != "control-plane":
        return None
    if candidates:
        remedy = said("add {package} to extraPackages of this host", package=candidates[0])
    else:
        remedy = said("take {name} out, or add the package of that name to extraPackages of this host", name=name)
    return missing(said("no package of this host and nothing of its base system brings it"), remedy)


def _by(folder: Folder, name: str, candidates: tuple[str, ...]) -> str:
    """The package that brings *name*, of the host or of its base system; for etcdctl, the image that it runs in."""
    package = next((one for one in (*candidates, name) if one in folder.packages), "")
    if package:
        return said("package {package}", package=package)
    package = next((one for one in candidates if one in tools.base(folder.os)), "")
    if package:
        return said("the base system: {package}", package=package)
    image = next((one for one in sorted(folder.images) if "/etcd:" in one), "") if name == "etcdctl" else ""
    return said("image {image}", image=image) if image else ""
