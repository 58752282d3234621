"""
nginx files, whole ones and snippets: words from crossplane's lexer, places and blocks from here; and one tree a host, includes in place.

crossplane's parser opens files by name and follows includes on the disk of the machine that lints, so that only its lexer is used, on text
that was read already (docs/decisions/0006).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import PurePosixPath

from generator.diagnostics import Diagnostic, Position, Related
from generator.handwritten import File, Files, Node, Word
from generator.source import Source
from generator.wording import said

# Far more than a load balancer says; every rule looks at all of them.
MAX_WORDS = 50_000
MAX_DEPTH = 100
MAX_INCLUDES = 200

# nginx separates words by these four alone; Python knows more blanks, which are characters of a word there.
_OTHER_BLANKS = {ord(c): "x" for c in map(chr, range(0x3001)) if c.isspace() and c not in " \t\r\n"}
_ESCAPE = re.compile(r"""\\(["'\\trn])""")
_MEANS = {"t": "\t", "r": "\r", "n": "\n"}


class _UnreadableError(Exception):
    """nginx can't read on from here."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostic.message)
        self.diagnostic = diagnostic


def read(source: Source) -> tuple[Node, tuple[Diagnostic, ...]]:
    """The tree of *source*; where something can't be read, an empty one and the finding (NGX001, SRC002)."""
    top = Word.at("", source, 1, 1)
    try:
        return Node(top, (), _children(source)), ()
    except _UnreadableError as unreadable:
        return Node(top, (), ()), (unreadable.diagnostic,)


@dataclass(slots=True)
class _Block:
    """A block that is open: its words and what it holds so far."""

    words: list[Word]
    children: list[Node]


def _children(source: Source) -> tuple[Node, ...]:
    blocks = [_Block([], [])]
    words: list[Word] = []
    for count, (word, mark) in enumerate(_words(source)):
        if count > MAX_WORDS or len(blocks) > MAX_DEPTH:
            what, remedy = "more values or levels than such a file has", "check that this is the right file"
            raise _UnreadableError(Diagnostic("SRC002", "error", what, (), remedy, position=Position(1, 1)))
        if not mark:
            words.append(word)
        elif mark == "}":
            _close(blocks, words, word)
        elif not words:
            raise _refused(word, said("{mark} without a directive before it", mark=mark), "remove it, or write the directive")
        elif mark == "{":
            blocks.append(_Block(words, []))
            words = []
        else:
            blocks[-1].children.append(Node(words[0], tuple(words[1:])))
            words = []
    if words:
        raise _no_semicolon(words)
    if len(blocks) > 1:
        raise _refused(blocks[-1].words[0], said("{name} is never closed", name=_shown(blocks[-1].words[0])), "add the closing brace")
    return tuple(blocks[0].children)


def _close(blocks: list[_Block], words: list[Word], brace: Word) -> None:
    """End the innermost of *blocks*; *words* are what stands before its *brace* and should have ended."""
    if words:
        raise _no_semicolon(words, brace)
    if len(blocks) == 1:
        raise _refused(brace, "a closing brace without a block", "remove it, or add the opening one")
    done = blocks.pop()
    blocks[-1].children.append(Node(done.words[0], tuple(done.words[1:]), tuple(done.children)))


def _words(source: Source) -> Iterator[tuple[Word, str]]:
    """Every word and mark but comments, each with the mark (one of ``{};``) that it is, or an empty string."""
    from crossplane.lexer import _lex_file_object

    text = source.text + "\n"
    lines = [0, *accumulate(len(line) + 1 for line in source.text.split("\n"))]
    taken = 0

    def characters() -> Iterator[str]:
        nonlocal taken
        for char in text.translate(_OTHER_BLANKS):
            taken += 1
            yield char

    def word(start: int, end: int) -> Word:
        line = bisect_right(lines, start)
        raw, plain = text[start:end], text[start] not in "\"'"
        value = _ESCAPE.sub(lambda found: _MEANS.get(found[1], found[1]), raw if plain else raw[1:-1])
        # What stands on several lines is marked on its first.
        return Word.at(value, source, line, start - lines[line - 1] + 1, len(raw.split("\n", 1)[0]), plain=plain)

    end = 0
    for token, _, quoted in _lex_file_object([characters()]):
        start = _after_blanks(text, end)
        end = taken if quoted else start + len(token)
        if token.startswith("#") and not quoted:
            continue
        mark = token if token in ("{", "}", ";") and not quoted else ""
        if quoted and text[end] not in " \t\r\n;{)":
            raise _refused(word(start, end), "a quoted word with no blank after it", "put a blank or a semicolon after the quote")
        yield word(start, end), mark
    rest = _after_blanks(text, end)
    if rest < len(text) and text[rest] in "\"'":
        raise _refused(word(rest, len(text) - 1), "a quote that is never closed", "close the quote")
    if rest < len(text) and text[rest] != "#":
        # The lexer keeps a last word that a backslash or an open ${ carries to the end of the file.
        yield word(rest, len(text) - 1), ""


def _after_blanks(text: str, start: int) -> int:
    while start < len(text) and text[start] in " \t\r\n":
        start += 1
    return start


def _no_semicolon(words: list[Word], brace: Word | None = None) -> _UnreadableError:
    related = (brace.related("the end of the block"),) if brace is not None else ()
    what = said("no semicolon after {name}", name=_shown(words[0]))
    return _refused(words[-1], what, "end the directive with a semicolon", related)


def _shown(word: Word) -> str:
    """*word* as a message may name it: on one line, and short."""
    text = " ".join(word.split())
    return text if len(text) <= 40 else text[:40] + "..."


def _refused(word: Word, message: str, remedy: str, related: tuple[Related, ...] = ()) -> _UnreadableError:
    return _UnreadableError(Diagnostic("NGX001", "error", message, (), remedy, related=related, position=word.spot.at))


@dataclass(frozen=True)
class Config:
    """What one nginx reads: the *file* that it begins with, and its *root* with the given files in the place of their ``include``."""

    file: File
    root: Node

    @property
    def main(self) -> bool:
        """Whether the file is a whole configuration, and not a snippet that another file includes."""
        return PurePosixPath(self.file.path).name == "nginx.conf" or any(
            child.name in ("events", "http", "worker_processes", "user", "pid") for child in self.root.children or ()
        )


def whole(files: Files) -> Sequence[Config]:
    """
    Every nginx configuration of *files*, once: what another file of its host includes is looked at there alone.

    An ``include`` that names none of the files stays where it is.  What includes a file that can't be read is left out, and that file too.
    """
    if "nginx" not in files.derived:
        hosts: dict[str, list[File]] = {}
        for file, _ in files.of("nginx"):
            hosts.setdefault(file.host, []).append(file)
        files.derived["nginx"] = [config for own in hosts.values() for config in _Set(own).configs()]
    found: list[Config] = files.derived["nginx"]
    return found


class _Set:
    """The files of one host; *left* and *patterns* bound the work that includes of includes can make."""

    def __init__(self, files: list[File]) -> None:
        self.files = files
        self.paths = [PurePosixPath(file.path) for file in files]
        main = next(
            (path for path in self.paths if path.is_absolute() and path.name == "nginx.conf"), PurePosixPath("/etc/nginx/nginx.conf")
        )
        # Relative names start where the main file stands, whichever file includes.
        self.prefix = main.parent
        self.patterns: dict[str, list[int]] = {}
        self.placed: set[int] = set()
        self.left = MAX_WORDS

    def configs(self) -> Iterator[Config]:
        included = {at for file in self.files if file.root for node in file.root.walk("include") for at in self.named(node)}
        # Files that include each other in a circle come last, unless they were placed by then.
        for at in sorted(range(len(self.files)), key=lambda at: at in included):
            if at not in self.placed:
                chain = (at,)
                children = self.children(self.files[at].root, chain, 0)
                if children is not None:
                    yield Config(self.files[at], Node(Word.at("", self.files[at].source, 1, 1), (), children))

    def named(self, include: Node) -> list[int]:
        """Numbers of the files that *include* names, in the order in which nginx reads them."""
        pattern = str(include.value or "")
        if pattern not in self.patterns:
            if not pattern or len(self.patterns) >= MAX_INCLUDES:
                return []
            full = self.prefix / pattern
            found = [at for at, path in enumerate(self.paths) if _matches(path, full)]
            self.patterns[pattern] = sorted(found, key=lambda at: self.files[at].path)
        return self.patterns[pattern]

    def children(self, node: Node | None, chain: tuple[int, ...], depth: int) -> tuple[Node, ...] | None:
        """What stands in *node* with includes in place; None where one of them can't be read."""
        self.placed.add(chain[-1])
        if node is None or self.files[chain[-1]].problems:
            return None
        found: list[Node] = []
        for child in node.children or ():
            self.left -= 1
            files = [at for at in self.named(child) if at not in chain] if child.name == "include" else []
            if self.left < 0 or depth > MAX_DEPTH or not (files or child.children):
                found.append(child)
                continue
            parts = [(self.files[at].root, (*chain, at)) for at in files] or [(child, chain)]
            for part, below in parts:
                inner = self.children(part, below, depth + 1)
                if inner is None:
                    return None
                found += inner if files else [Node(child.name, child.args, inner)]
        return tuple(found)


def _matches(path: PurePosixPath, pattern: PurePosixPath) -> bool:
    """Whether *pattern* names *path*; a file of which only the name is known is the one of that name, never one of a pattern's."""
    return path.match(str(pattern)) if path.is_absolute() else path == PurePosixPath(pattern.name)
