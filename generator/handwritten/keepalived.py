"""
``keepalived.conf``: keywords with their arguments, and blocks of them.

A line is one keyword with its arguments, wherever braces cut it: of ``authentication { auth_type PASS auth_pass 1111 }`` keepalived takes
``auth_type`` with three arguments, and so does the tree.  An entry of a list (``virtual_ipaddress``, ``track_script``) is a node named by
its first word.  Definitions (``$NAME=``) and ``~SEQ`` are put in where they are used; every word of what they stand for is placed there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from posixpath import basename, dirname, join

from generator.diagnostics import Diagnostic
from generator.handwritten import File, Files, Node, Word
from generator.source import Source

INCLUDES = ("include", "includer", "includem", "includew", "includeb", "includea")

# A real file has four levels and some hundred lines.
MAX_DEPTH = 40
MAX_WORDS = 100_000
MAX_PROBLEMS = 50
# What definitions may grow to, in characters.
MAX_EXPANDED = 1_000_000

_TOKEN = re.compile(
    r'"(?P<quoted>(?:\\.|[^"\\]++)*+)(?P<closed>"?)'
    r"|(?P<brace>[{}])"
    r"|(?P<comment>[#!].*)"
    r"|(?P<word>(?:\$\{\w+\}|\\.|[^\s\"{}#!\\$]++|[\\$])++)"
)
# The one kind of line whose words may stand in single quotes, too: a command.
_COMMAND = re.compile(r"\s*(?:script|notify\w*|misc_path)\s+('([^'\n]*)')")
_CONDITION = re.compile(r"@(\^?)\s*(\S+)[ \t]?")
_DEFINITION = re.compile(r"\s*\$(\w+)=(.*)")
_USE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_SEQUENCE = re.compile(r"~SEQ\(\s*(\w+)\s*,\s*(-?\d{1,6})\s*,\s*(-?\d{1,6})\s*(?:,\s*(-?\d{1,6})\s*)?\)\s*")


def read(source: Source, host: str = "") -> tuple[Node, tuple[Diagnostic, ...]]:
    """
    The tree of *source*, and what keepalived can't make sense of (KAD001) or what no such file has (SRC002).

    Lines after ``@name`` are for that host alone: those of *host* are taken, or of the first one named where *host* isn't among them.
    """
    reader = _Reader(source, host)
    try:
        reader.run()
    except _TooMuchError:
        reader.problem("SRC002", reader.here, "more values or levels than such a file has", "check that this is the right file")
    return reader.tree(), tuple(reader.problems)


def joined(files: Files) -> Iterator[tuple[File, Node]]:
    """
    Every keepalived file that no other one includes, with what it includes (of the given files of its host) in its place.

    A file stands in the first place that includes it.
    """
    known: _Known = {}
    for file, root in files.of("keepalived"):
        parts = known.setdefault(_set(file), {})
        # Folders of several hosts may have one name.
        (known.setdefault(file.source.name, {}) if file.path in parts else parts)[file.path] = (file, root)
    for parts in known.values():
        inner = {path for file, root in parts.values() for node in root.walk(*INCLUDES) for path in _included(parts, file, node)}
        for path, (file, root) in parts.items():
            if path not in inner:
                yield file, _with_included(parts, file, root, {path})


def whose(file: File) -> str:
    """The host of *file*, or the file itself where nobody said: loose files are taken as one host's each."""
    return file.host or file.source.name


_Parts = dict[str, tuple[File, Node]]
_Known = dict[str, _Parts]


def _set(file: File) -> str:
    """What *file* may include things of: the files of its host, or the loose ones in its folder."""
    return file.host or "/" + dirname(file.source.name)


def _included(parts: _Parts, file: File, node: Node) -> list[str]:
    """Which of *parts* the line *node* of *file* names: patterns by their path, or beside *file*."""
    if node.value is None:
        return []
    pattern = join(dirname(file.path), node.value) if file.host else basename(node.value)
    return [path for path in parts if path != file.path and fnmatchcase(path, pattern)]


def _with_included(parts: _Parts, file: File, node: Node, seen: set[str]) -> Node:
    children: list[Node] = []
    for child in node.children or ():
        if child.name not in INCLUDES:
            children.append(_with_included(parts, file, child, seen) if child.children else child)
            continue
        paths = _included(parts, file, child)
        if not paths:
            # The line stays, for what it names isn't here.
            children.append(child)
        for path in paths:
            if path not in seen:
                seen.add(path)
                children += _with_included(parts, *parts[path], seen).children or ()
    return Node(node.name, node.args, tuple(children))


class _TooMuchError(Exception):
    """More levels or lines than such a file has."""


class _Reader:
    """Words go to *line* until it ends, lines to the innermost of the open *blocks*, whose first is the file."""

    def __init__(self, source: Source, host: str) -> None:
        self.source = source
        self.problems: list[Diagnostic] = []
        self.here = Word.at("", source, 1, 1)
        self.line: list[Word] = []
        self.blocks: list[tuple[Word, tuple[Word, ...], list[Node]]] = [(self.here, (), [])]
        self.definitions: dict[str, str] = {}
        self.expanded = self.words = 0
        # Whether the last line may be the head of a block whose brace stands on the next one.
        self.headed = False
        ids = [m[2] for text in source.text.split("\n") if (m := _CONDITION.match(text))]
        self.host = host if host in ids else next(iter(ids), "")

    def problem(self, code: str, word: Word, message: str, remedy: str) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Diagnostic(code, "error", message, (), remedy, position=word.spot.at))

    def run(self) -> None:
        lines = iter(enumerate(self.source.text.split("\n"), 1))
        for number, line in lines:
            condition = _CONDITION.match(line)
            begin = condition.end() if condition else 0
            text = line[begin:]
            if not text or text.isspace() or (condition and (condition[2] == self.host) is (condition[1] == "^")):
                continue
            if definition := _DEFINITION.match(text):
                self.definitions[definition[1]] = self.definition(definition[2], lines)
            elif sequence := _SEQUENCE.match(text):
                self.sequence(sequence, text[sequence.end() :], number)
            else:
                self.text(text, number, begin + 1)
        for name, _, _ in self.blocks[:0:-1]:
            self.problem("KAD001", name, "block is never closed", "close it with a brace")

    def definition(self, value: str, lines: Iterator[tuple[int, str]]) -> str:
        """The text that a definition stands for, without comments; a backslash at the end goes on with the next line."""
        parts = []
        while True:
            value = "".join(m[0] if not m["comment"] else "" for m in re.finditer(rf"\s+|{_TOKEN.pattern}", value)).rstrip()
            parts.append(value.removesuffix("\\").strip())
            if not value.endswith("\\"):
                return "\n".join(parts)
            value = next(lines, (0, ""))[1]

    def sequence(self, sequence: re.Match[str], text: str, number: int) -> None:
        """``~SEQ(i, first, last)`` or ``~SEQ(i, first, step, last)``: the line once for each value."""
        first, last = int(sequence[2]), int(sequence[4] or sequence[3])
        step = int(sequence[3]) if sequence[4] else 1 if first <= last else -1
        for value in range(first, last + (1 if step > 0 else -1), step) if step else ():
            self.definitions[sequence[1]] = str(value)
            self.spend(len(text))
            self.text(text, number, sequence.end() + 1)

    def spend(self, characters: int) -> None:
        self.expanded += characters
        if self.expanded > MAX_EXPANDED:
            raise _TooMuchError

    def text(self, text: str, number: int, column: int) -> None:
        """One line of the file, whose first character stands at *column*."""
        if (command := _COMMAND.match(text)) and "#" not in command[2]:
            # Double quotes say the same, in as many characters.
            text = text[: command.start(1)] + '"' + command[2].replace('"', "'") + '"' + text[command.end(1) :]
        for token in _TOKEN.finditer(text):
            at = Word.at(token[0], self.source, number, column + token.start(), plain=token["quoted"] is None)
            if not at.plain and not token["closed"]:
                self.problem("KAD001", at, "quoted text is never closed", "close it on the same line")
            self.token(token, at)
        self.end_line()

    def token(self, token: re.Match[str], at: Word) -> None:
        self.here = at
        self.words += 1
        if self.words > MAX_WORDS:
            raise _TooMuchError
        if token["brace"] == "{":
            self.begin(at)
        elif token["brace"] == "}":
            self.close(at)
        elif token["quoted"] is not None:
            self.line.append(self.word(self.value(token["quoted"]).replace('\\"', '"'), at))
        elif token["word"]:
            value = self.value(token["word"])
            if value == token["word"]:
                self.line.append(self.word(re.sub(r"\\([#!])", r"\1", value), at))
            else:
                self.stand_in(value, at)

    def stand_in(self, value: str, at: Word) -> None:
        """What a definition stands for, which may be several words, lines or a block, all of them *at* its use."""
        for number, line in enumerate(value.split("\n")):
            if number:
                self.end_line()
            for token in _TOKEN.finditer(line):
                if token["brace"]:
                    self.begin(at) if token["brace"] == "{" else self.close(at)
                elif not token["comment"]:
                    self.line.append(self.word(token["word"] or token["quoted"], at))

    def word(self, text: str, at: Word) -> Word:
        place = at.spot.at
        return Word.at(text, self.source, place.line, place.column, place.length, plain=at.plain)

    def value(self, text: str) -> str:
        """*text* with definitions put in, a few levels deep; names that nobody has defined stay."""
        for _ in range(8):
            filled = _USE.sub(lambda m: self.definitions.get(m[1] or m[2], m[0]), text) if "$" in text else text
            if filled == text:
                break
            self.spend(len(filled))
            text = filled
        return text

    def add(self, node: Node) -> None:
        self.blocks[-1][2].append(node)

    def end_line(self) -> None:
        if self.line:
            self.add(Node(self.line[0], tuple(self.line[1:])))
            self.line, self.headed = [], True

    def begin(self, at: Word) -> None:
        if not self.line and self.headed:
            head = self.blocks[-1][2].pop()
            self.line = [head.name, *head.args]
        if not self.line:
            self.problem("KAD001", at, "brace opens a block that has no name", "remove it")
            return
        if len(self.blocks) > MAX_DEPTH:
            raise _TooMuchError
        self.blocks.append((self.line[0], tuple(self.line[1:]), []))
        self.line, self.headed = [], False

    def close(self, at: Word) -> None:
        self.end_line()
        self.headed = False
        if len(self.blocks) == 1:
            self.problem("KAD001", at, "brace closes nothing", "remove it")
            return
        name, args, children = self.blocks.pop()
        self.add(Node(name, args, tuple(children)))

    def tree(self) -> Node:
        while len(self.blocks) > 1:
            name, args, children = self.blocks.pop()
            self.blocks[-1][2].append(Node(name, args, tuple(children)))
        name, args, children = self.blocks[0]
        return Node(name, args, tuple(children))
