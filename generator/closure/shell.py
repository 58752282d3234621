"""
Shell scripts as simple commands, for the closure proof: which words are commands, which functions a script defines, what it sources.

``generator.handwritten.scripts`` reads what people send, as loosely as people write; here a command that is overlooked is a hole in the
proof, so this reader follows the grammar: quotes, here-documents, substitutions in words and in ``${...}``, ``case`` with its patterns,
``[[ ]]`` and arithmetic, arrays, functions.  One pass, every step goes forward, depth is bounded; text of any kind gives some answer.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

from generator.closure.shellwords import TooDeepError, Word, WordReader

_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(?:\[[^=]{0,200}\])?\+?=(.*)", re.DOTALL)
_REDIRECTION = re.compile(r"&>>?|<<<|<<-?|<>|>>|>\||[<>]&|[<>]")
_DESCRIPTOR = re.compile(r"(?:\d+|\{\w+\})(?=[<>])")
_KEYWORDS = frozenset(("if", "then", "elif", "else", "fi", "while", "until", "do", "done", "!", "{", "}", "time", "coproc", "esac"))


@dataclass(frozen=True, slots=True)
class Command:
    """A simple command: its words, the first of which is its name, and the bodies of its here-documents, where they begin."""

    words: tuple[Word, ...]
    heredocs: Sequence[Word] = ()


@dataclass(slots=True)
class Script:
    """
    What :func:`read` found: *commands* in no order, names of *functions*, and by name what is *assigned*: each value's first word.

    *whole* is False where the text nests deeper than a script does; what follows there was not read.
    """

    commands: list[Command] = field(default_factory=list)
    functions: set[str] = field(default_factory=set)
    assigned: dict[str, list[Word]] = field(default_factory=dict)
    whole: bool = True


class Lines:
    """Line and column, from 1, of an offset in a text."""

    def __init__(self, text: str) -> None:
        self.starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def place(self, at: int) -> tuple[int, int]:
        """Of offset *at*."""
        line = bisect_right(self.starts, at)
        return line, at - self.starts[line - 1] + 1


def read(text: str) -> Script:
    """The commands of *text*; what is left open at its end is taken as closed there."""
    reader = _Reader(text)
    try:
        while reader.at < len(text):
            reader.list_of("")
    except TooDeepError:
        reader.script.whole = False
    return reader.script


@dataclass(slots=True)
class _Heredoc:
    end: str
    tabs: bool
    bodies: list[Word]


class _Reader(WordReader):
    """Reads commands, and with its base their words."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.script = Script()
        self.awaited: list[_Heredoc] = []

    # Lists of commands

    def list_of(self, end: str) -> bool:
        """
        Read commands up to *end*: ``)``, a backtick, ``;;`` (of a case), or the text's end where it is empty.

        For ``;;`` the answer is whether another pattern may follow.
        """
        self.deeper()
        more = True
        while self.at < len(self.text):
            char = self.peek()
            if char == "\n":
                self.newline()
            elif char in " \t\r":
                self.at += 1
            elif char == "#":
                self.comment()
            elif end == ";;" and self.text.startswith((";;", ";&"), self.at):
                self.at += 3 if self.peek(3) == ";;&" else 2
                break
            elif char == end:
                self.at += 1
                break
            elif char == "(":
                self.bracket()
            elif char in ";|)" or self.is_background():
                self.at += 1
            elif not self.simple(end):
                more = False
                break
        self.depth -= 1
        return more

    def bracket(self) -> None:
        """A subshell, or arithmetic."""
        if self.peek(2) == "((":
            self.at += 2
            self.arithmetic(2)
        else:
            self.at += 1
            self.list_of(")")

    def is_background(self) -> bool:
        """Whether an ampersand here ends a command: that of ``&>`` does not."""
        return self.peek() == "&" and self.peek(2) != "&>"

    def newline(self) -> None:
        self.at += 1
        awaited, self.awaited = self.awaited, []
        for heredoc in awaited:
            begin = self.at
            while self.at < len(self.text):
                stop = self.text.find("\n", self.at)
                stop = len(self.text) if stop < 0 else stop
                line, here = self.text[self.at : stop], self.at
                self.at = min(stop + 1, len(self.text))
                if (line.lstrip("\t") if heredoc.tabs else line) == heredoc.end:
                    heredoc.bodies.append(Word(self.text[begin:here], begin))
                    break
            else:
                heredoc.bodies.append(Word(self.text[begin:], begin))

    def comment(self) -> None:
        end = self.text.find("\n", self.at)
        self.at = end if end >= 0 else len(self.text)

    def blanks(self, *, lines: bool = False) -> None:
        """Skip blanks and joined lines; with *lines*, newlines and comments too."""
        while self.at < len(self.text):
            if self.peek(2) == "\\\n":
                self.at += 2
            elif self.peek() in " \t\r":
                self.at += 1
            elif lines and self.peek() == "\n":
                self.newline()
            elif lines and self.peek() == "#":
                self.comment()
            else:
                return

    # One command

    def simple(self, end: str) -> bool:
        """One command, or a keyword before one; False at the ``esac`` of the case that is read (*end* is ``;;``)."""
        words: list[Word] = []
        heredocs: list[Word] = []
        start = self.at
        while not self.ends(end):
            before = self.at
            if self.peek() == "(":
                if self.function(words):
                    return True
            elif not self.redirected(heredocs):
                word = self.word(end)
                if not words and word.bare and word.literal and self.keyword(word):
                    return not (word.text == "esac" and end == ";;")
                if self.at > before:
                    self.assigned(words, word, end)
            self.at += self.at == before
        self.at += self.at == start
        if words or heredocs:
            self.script.commands.append(Command(tuple(words), heredocs))
        return True

    def ends(self, end: str) -> bool:
        """Whether the command ends here, behind blanks and a comment."""
        self.blanks()
        if self.peek() == "#":
            self.comment()
        char = self.peek()
        return not char or char in "\n;|)" or self.is_background() or (char == end == "`")

    def function(self, words: list[Word]) -> bool:
        """A bracket behind words: with one word the mark of a function, True; else what nobody should write, read as a list."""
        self.at += 1
        self.blanks()
        if len(words) == 1 and words[0].bare and self.peek() == ")":
            self.script.functions.add(words[0].text)
            self.at += 1
            return True
        self.list_of(")")
        return False

    def keyword(self, word: Word) -> bool:
        """Whether *word*, where a command may begin, is none; then what belongs to it is read as far as it holds no command."""
        if word.text in _KEYWORDS:
            return True
        if word.text == "case":
            self.case()
        elif word.text in ("for", "select"):
            self.loop()
        elif word.text == "function":
            self.blanks()
            self.script.functions.add(self.word("").text)
            self.blanks()
            if self.peek(2) == "()":
                self.at += 2
        elif word.text == "[[":
            self.test()
        else:
            return False
        return True

    def assigned(self, words: list[Word], word: Word, end: str) -> None:
        """Add *word* to *words*, unless it only sets a variable before any command; its array is read."""
        found = _ASSIGNMENT.fullmatch(word.text)
        if found:
            value: Word | None = Word(found[2], word.at + word.text.index("=") + 1, word.literal, word.bare)
            if self.peek() == "(" and not found[2]:
                self.at += 1
                value = self.array(end)
            if value:
                self.script.assigned.setdefault(found[1], []).append(value)
        if words or not found:
            words.append(word)

    def array(self, end: str) -> Word | None:
        first = None
        while True:
            self.blanks(lines=True)
            if self.peek() in ("", ")"):
                break
            before = self.at
            word = self.word(end)
            first = first or word
            if self.at == before:
                self.at += 1
        self.at += 1
        return first

    def case(self) -> None:
        self.blanks()
        self.word("")
        self.blanks(lines=True)
        self.word("")  # in
        more = True
        while more and self.at < len(self.text):
            self.blanks(lines=True)
            if re.compile(r"esac\b").match(self.text, self.at):
                self.at += 4
                return
            if self.peek() == "(":
                self.at += 1
            self.pattern()
            more = self.list_of(";;")

    def pattern(self) -> None:
        """Up to the bracket behind the patterns, which may have brackets of their own: ``@(a|b)``."""
        opened = 0
        while self.at < len(self.text):
            char = self.peek()
            if char == ")":
                self.at += 1
                if not opened:
                    return
                opened -= 1
                continue
            opened += char == "("
            before = self.at
            self.word("")
            if self.at == before:
                self.at += 1

    def loop(self) -> None:
        """The words of ``for`` and ``select``; no command is among them."""
        self.blanks()
        if self.peek(2) == "((":
            self.at += 2
            self.arithmetic(2)
            return
        while self.at < len(self.text) and self.peek() not in "\n;&|":
            before = self.at
            self.word("")
            if self.at == before:
                self.at += 1
            self.blanks()

    def test(self) -> None:
        """``[[ ... ]]``: brackets, comparisons and patterns are words of it."""
        while self.at < len(self.text):
            self.blanks(lines=self.peek() == "\n")
            if self.peek(2) == "]]":
                self.at += 2
                return
            before = self.at
            self.word("")
            if self.at == before:
                self.at += 1

    def redirected(self, heredocs: list[Word]) -> bool:
        """Read a redirection with its file, if one stands here."""
        number = _DESCRIPTOR.match(self.text, self.at)
        found = _REDIRECTION.match(self.text, number.end() if number else self.at)
        if not found:
            return False
        at = found.end()
        if self.text.startswith("(", at) and found[0] in "<>":
            # <(command) is a word: its name is a file.
            self.at = at + 1
            self.list_of(")")
            return True
        self.at = at
        self.blanks()
        if self.peek(2) in ("<(", ">("):
            self.at += 2
            self.list_of(")")
            return True
        target = self.word("")
        if found[0] in ("<<", "<<-"):
            self.awaited.append(_Heredoc(target.text, found[0] == "<<-", heredocs))
        return True
