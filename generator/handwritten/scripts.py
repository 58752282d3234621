"""
Shell scripts as the simple commands in them, flat and in the order of the text.

A command is a node named by its program, with its words as arguments; commands in ``$(...)``, pipes, conditions and functions are commands
like all others.  What only says how a command runs is left out: ``sudo``, ``exec``, variables before it, ``if`` and ``then``.  A command's
children are its redirections, such as ``>`` with the file as argument, and ``|`` where its output goes to the next command.  A line that
only sets a variable is a node ``=`` with name and value.  Words keep their expansions as they are written.
"""

from __future__ import annotations

import re

from generator.diagnostics import Diagnostic, Position
from generator.handwritten import Node, Word
from generator.source import Source

# Substitutions in substitutions; deeper ones are text.
MAX_DEPTH = 12
# Words, quotes, brackets and blanks; a real script has some thousand.
MAX_STEPS = 500_000

_PLAIN = re.compile(r"[^\s;&|<>()`'\"\\$#]+")
_QUOTED = re.compile(r'[^"\\$`]+')
_ANSI_QUOTED = re.compile(r"\$'((?:[^'\\]|\\.)*+)'?", re.DOTALL)
_VARIABLE = re.compile(r"\$\{(?:\$\{[^{}`\n]{0,200}\}|[^{}`\n]){0,300}+\}|\$\w+|\$[-?$!#@*]?")
# Brackets of two levels; what has more is text and commands that mean nothing.
_ARITHMETIC = re.compile(r"\$\(\((?:[^()]|\([^()]*\))*+\)\)")
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(\[[^]]*\])?\+?=(.*)", re.DOTALL)
_SEPARATOR = re.compile(r";;&|;;|;&|;|&&|&(?!>)|\|\||\|&|\|")
_REDIRECTION = re.compile(r"(?:\d*|&)(?:<<<|<<-?|<>|>>|>\||[<>]&|[<>])")
_HEREDOC = re.compile(r"<<-?$")

# Words before a command that are none of it.
_KEYWORDS = frozenset(("if", "then", "elif", "else", "while", "until", "do", "!", "{", "time", "coproc"))
# Words that stand where a command might, and are none.
_NO_COMMANDS = frozenset(("fi", "done", "esac", "}", "for", "select", "case"))
# Programs that run the rest of their line, with those of their options that take a value.
_RUNNERS: dict[str, tuple[str, ...]] = {
    "sudo": ("-u", "-g", "-h", "-p", "-C", "-r", "-t", "-T", "-U", "-D", "-R"),
    "doas": ("-u", "-C"),
    "exec": ("-a",),
    "env": ("-u", "-C", "-S"),
    "command": (),
    "builtin": (),
    "nohup": (),
    "setsid": (),
    "nice": ("-n",),
    "ionice": ("-c", "-n"),
}


def read(source: Source) -> tuple[Node, tuple[Diagnostic, ...]]:
    """The commands of *source*, and SRC002 where there are too many; what is left open at the end is taken as closed there."""
    reader = _Reader(source)
    problems: tuple[Diagnostic, ...] = ()
    try:
        reader.run()
    except _TooMuchError:
        what, remedy = "more values or levels than such a file has", "check that this is the right file"
        problems = (Diagnostic("SRC002", "error", what, (), remedy, position=Position(1, 1)),)
    commands = sorted(reader.commands, key=lambda node: (node.name.spot.at.line, node.name.spot.at.column))
    return Node(Word.at("", source, 1, 1), (), tuple(commands)), problems


class _TooMuchError(Exception):
    """More of everything than such a file has."""


class _Frame:
    """One command that is being read: in the file itself, or in a substitution that began at *start* and ends with *closer*."""

    def __init__(self, closer: str = "", start: int = 0, *, quoted: bool = False) -> None:
        self.closer, self.start = closer, start
        # Whether the word around this substitution, and the word that is read now, are in double quotes.
        self.quoted_outside, self.quoted = quoted, False
        self.words: list[Word] = []
        self.redirections: list[tuple[Word, list[Word]]] = []
        self.text: list[str] = []
        self.begin = -1
        self.plain = True
        # Whether a pattern of `case` is read, up to its bracket.
        self.pattern = False


class _Reader:
    """Goes through the text once; *frames* are the command at hand and those around it."""

    def __init__(self, source: Source) -> None:
        self.source, self.whole = source, source.text
        self.commands: list[Node] = []
        self.steps = 0
        self.frames = [_Frame()]
        self.at = 0
        self.line, self.line_start = 1, 0
        # Ends of here-documents whose bodies begin on the next line.
        self.heredocs: list[tuple[str, bool]] = []
        self.await_heredoc = ""

    def run(self) -> None:
        while self.at < len(self.whole):
            self.steps += 1
            if self.steps > MAX_STEPS:
                raise _TooMuchError
            frame = self.frames[-1]
            if frame.quoted:
                self.in_quotes(frame)
            else:
                self.outside(frame, self.whole[self.at])
        while self.frames:
            self.end_command()
            self.frames.pop()

    # Places

    def position(self, at: int) -> tuple[int, int]:
        """Line and column of *at*, which is never far behind the last newline that was passed."""
        if at >= self.line_start:
            return self.line, at - self.line_start + 1
        before = self.whole.rfind("\n", 0, at)
        return self.line - self.whole.count("\n", at, self.line_start), at - before

    def newline(self, at: int) -> None:
        self.line += 1
        self.line_start = at + 1

    def skip_to(self, end: int) -> None:
        """Go to *end*, counting the lines between."""
        count = self.whole.count("\n", self.at, end)
        if count:
            self.line += count
            self.line_start = self.whole.rfind("\n", self.at, end) + 1
        self.at = end

    # Words

    def add(self, text: str, length: int, *, plain: bool = True) -> None:
        """*text* to the word at hand, for *length* characters of the file."""
        frame = self.frames[-1]
        if frame.begin < 0:
            frame.begin = self.at
        frame.text.append(text)
        frame.plain = frame.plain and plain
        self.skip_to(self.at + length)

    def end_word(self) -> None:
        frame = self.frames[-1]
        if frame.begin < 0:
            return
        line, column = self.position(frame.begin)
        length = self.at - frame.begin if line == self.line else None
        word = Word.at("".join(frame.text), self.source, line, column, length, plain=frame.plain)
        if self.await_heredoc:
            self.heredocs.append((str(word), self.await_heredoc == "<<-"))
            self.await_heredoc = ""
        if frame.redirections and not frame.redirections[-1][1]:
            frame.redirections[-1][1].append(word)
        else:
            frame.words.append(word)
            if word == "in" and len(frame.words) == 3 and frame.words[0] == "case":
                frame.words, frame.pattern = [], True
        frame.text, frame.begin, frame.plain = [], -1, True

    def in_quotes(self, frame: _Frame) -> None:
        char = self.whole[self.at]
        if char == '"':
            frame.quoted = False
            self.add("", 1, plain=False)
        elif char == "\\":
            after = self.whole[self.at + 1 : self.at + 2]
            self.add("" if after == "\n" else after if after in '"\\$`' else char + after, 1 + len(after), plain=False)
        elif char in "$`":
            self.expansion(frame)
        else:
            text = _QUOTED.match(self.whole, self.at)
            self.add(text[0] if text else char, len(text[0]) if text else 1, plain=False)

    def expansion(self, frame: _Frame) -> None:
        """A dollar or a backtick: the end or the begin of a substitution, or the name of a variable."""
        backtick = self.whole[self.at] == "`"
        if backtick and frame.closer == "`":
            self.end_substitution()
        elif not backtick and (arithmetic := _ARITHMETIC.match(self.whole, self.at)):
            self.add(arithmetic[0], len(arithmetic[0]), plain=False)
        elif (backtick or self.whole.startswith("$(", self.at)) and len(self.frames) <= MAX_DEPTH:
            if frame.begin < 0:
                frame.begin = self.at
            self.frames.append(_Frame("`" if backtick else ")", self.at, quoted=frame.quoted))
            self.at += 1 if backtick else 2
        else:
            found = _VARIABLE.match(self.whole, self.at)
            text = found[0] if found else self.whole[self.at]
            self.add(text, len(text), plain=False)

    def end_substitution(self) -> None:
        self.end_command()
        inner = self.frames.pop()
        self.at += 1
        outer = self.frames[-1]
        outer.quoted = inner.quoted_outside
        if inner.start >= 0:
            outer.text.append(self.whole[inner.start : self.at])
            outer.plain = False

    def outside(self, frame: _Frame, char: str) -> None:
        if char == "\n":
            self.end_command()
            self.at += 1
            self.newline(self.at - 1)
            self.skip_heredocs()
        elif char in " \t\r":
            self.end_word()
            self.at += 1
        elif char == "#" and frame.begin < 0:
            end = self.whole.find("\n", self.at)
            self.at = end if end >= 0 else len(self.whole)
        elif char == "\\":
            after = self.whole[self.at + 1 : self.at + 2]
            if after == "\n":
                self.at += 2
                self.newline(self.at - 1)
            else:
                self.add(after, 1 + len(after), plain=False)
        elif char == "'" or self.whole.startswith("$'", self.at):
            self.single_quoted(char)
        elif char == '"':
            frame.quoted = True
            self.add("", 1, plain=False)
        elif char in "$`":
            self.expansion(frame)
        else:
            self.operator(frame, char)

    def single_quoted(self, char: str) -> None:
        if char == "$" and (found := _ANSI_QUOTED.match(self.whole, self.at)):
            self.add(re.sub(r"\\(.)", r"\1", found[1]), len(found[0]), plain=False)
            return
        end = self.whole.find("'", self.at + 1)
        end = len(self.whole) if end < 0 else end
        self.add(self.whole[self.at + 1 : end], min(end + 1, len(self.whole)) - self.at, plain=False)

    # Commands

    def operator(self, frame: _Frame, char: str) -> None:
        if frame.pattern and char in "(|)":
            self.end_word()
            ended = frame.words[:1] == ["esac"]
            frame.words, frame.pattern = [], char != ")" and not ended
            if not ended:
                self.at += 1
                return
        test = bool(frame.words) and frame.words[0] == "[[" and frame.words[-1] != "]]"
        if not test and (redirection := _REDIRECTION.match(self.whole, self.at)) and (char in "<>&" or frame.begin < 0):
            self.redirect(frame, redirection[0])
        elif not test and (separator := _SEPARATOR.match(self.whole, self.at)):
            self.end_command(piped=separator[0] in ("|", "|&"))
            self.at += len(separator[0])
            frame.pattern = separator[0].startswith(";") and len(separator[0]) > 1
        elif char == "(" and not test:
            self.bracket(frame)
        elif char == ")" and not test:
            self.end_word()
            if frame.closer == ")":
                self.end_substitution()
            else:
                # A pattern of `case`, whose bracket was never opened.
                frame.words = []
                self.at += 1
        else:
            plain = _PLAIN.match(self.whole, self.at)
            self.add(plain[0] if plain else char, len(plain[0]) if plain else 1)

    def redirect(self, frame: _Frame, text: str) -> None:
        self.end_word()
        if self.whole.startswith("(", self.at + len(text)) and len(self.frames) <= MAX_DEPTH:
            # <(command): its commands are read, its file is none.
            frame.begin = self.at
            self.frames.append(_Frame(")", self.at))
            self.at += len(text) + 1
            return
        line, column = self.position(self.at)
        frame.redirections.append((Word.at(text.lstrip("0123456789"), self.source, line, column, len(text)), []))
        self.at += len(text)
        if _HEREDOC.search(text):
            self.await_heredoc = text.lstrip("0123456789")

    def bracket(self, frame: _Frame) -> None:
        """A bracket: a subshell where a command may begin, the mark of a function behind its name, else an array."""
        named = frame.begin >= 0 and not frame.words and frame.plain
        self.at += 1
        if named and self.whole.startswith(")", self.at):
            frame.text, frame.begin, frame.words = [], -1, []
            self.at += 1
        elif len(self.frames) <= MAX_DEPTH:
            self.frames.append(_Frame(")", -1 if frame.begin < 0 else self.at - 1))
            if frame.begin >= 0:
                # The values of an array are no command.
                self.frames[-1].words.append(Word.at("for", self.source, *self.position(self.at)))

    def end_command(self, *, piped: bool = False) -> None:
        self.end_word()
        frame = self.frames[-1]
        words, redirections = frame.words, frame.redirections
        frame.words, frame.redirections = [], []
        frame.pattern = frame.pattern and not words
        assigned = _assignment(words)
        words = words[_command_at(words) :]
        children = [Node(sign, tuple(target)) for sign, target in redirections]
        if words and words[0] not in _NO_COMMANDS:
            if piped:
                children.append(Node(Word.at("|", self.source, *self.position(self.at))))
            self.commands.append(Node(words[0], tuple(words[1:]), tuple(children) or None))
        elif assigned and not words:
            self.commands.append(assigned)

    def skip_heredocs(self) -> None:
        for end, tabs in self.heredocs:
            while self.at < len(self.whole):
                stop = self.whole.find("\n", self.at)
                stop = len(self.whole) if stop < 0 else stop
                text = self.whole[self.at : stop]
                self.skip_to(min(stop + 1, len(self.whole)))
                if (text.lstrip("\t") if tabs else text) == end:
                    break
        self.heredocs = []


def _assignment(words: list[Word]) -> Node | None:
    """``name=value`` as ``=`` with both, where the last of *words* is one."""
    if not words or not (found := _ASSIGNMENT.fullmatch(words[-1])):
        return None
    spot = words[-1].spot
    name, value = (Word.at(text, spot.source, spot.at.line, spot.at.column, spot.at.length) for text in (found[1], found[3]))
    value.plain = words[-1].plain
    return Node(Word.at("=", spot.source, spot.at.line, spot.at.column, spot.at.length), (name, value))


def _command_at(words: list[Word]) -> int:
    """Where in *words* the command begins."""
    at = 0
    while at < len(words):
        word = words[at]
        if word in _KEYWORDS or _ASSIGNMENT.fullmatch(word):
            at += 1
        elif word == "function":
            at += 2
        elif word in _RUNNERS and not (word == "command" and words[at + 1 : at + 2] in (["-v"], ["-V"])):
            at += 1
            while at < len(words) and words[at].startswith("-"):
                at += 2 if words[at] in _RUNNERS[word] else 1
        else:
            break
    return at
