"""Words of a shell script: quotes, expansions and substitutions, whose commands are read by whoever reads commands (``shell``)."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass

# Substitutions, brackets and cases in each other; a real script has some six.
MAX_DEPTH = 40

_PLAIN = re.compile(r"[^\s;&|<>()`'\"\\$]+")
_QUOTED = re.compile(r'[^"\\$`]+')
_ANSI_QUOTED = re.compile(r"\$'((?:[^'\\]|\\.)*+)'?", re.DOTALL)
_SINGLE_QUOTED = re.compile(r"'([^']*+)'?")
_VARIABLE = re.compile(r"\$(?:[A-Za-z_]\w*|[0-9?$!#@*-])?")
_BRACED = re.compile(r"[^}'\"\\$`]+")
_ARITHMETIC = re.compile(r"[^()'\"\\$`]+")


@dataclass(frozen=True, slots=True)
class Word:
    """A word without its quotes, *at* its place in the text; *literal* where no expansion stands in it; *bare* where no quote does."""

    text: str
    at: int
    literal: bool = True
    bare: bool = True


class TooDeepError(Exception):
    """More levels than a script has."""


class WordReader(ABC):
    """Goes through *text* from *at* on, never back; *depth* counts what is open."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.depth = 0

    @abstractmethod
    def list_of(self, end: str) -> bool:
        """Read commands up to *end*, which is passed."""

    def peek(self, length: int = 1) -> str:
        """The next characters; fewer at the end of the text."""
        return self.text[self.at : self.at + length]

    def deeper(self) -> None:
        """One more level; raises :class:`TooDeepError` where that is one too many."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise TooDeepError

    def word(self, end: str) -> Word:
        """The word that begins here, which is empty where none does."""
        start = self.at
        parts: list[str] = []
        literal = bare = True
        while self.at < len(self.text):
            char = self.peek()
            if char in " \t\r\n;&|()" or (char in "<>" and self.peek(2) not in ("<(", ">(")) or (char == "`" and end == "`"):
                break
            if char in "<>":
                begin = self.at
                self.at += 2
                self.list_of(")")
                parts.append(self.text[begin : self.at])
                literal = False
            elif char == "\\":
                after = self.text[self.at + 1 : self.at + 2]
                parts.append("" if after == "\n" else after)
                self.at += 2
            elif char == "'" or self.peek(2) == "$'":
                found = (_ANSI_QUOTED if char == "$" else _SINGLE_QUOTED).match(self.text, self.at)
                assert found
                parts.append(re.sub(r"\\(.)", _unescaped, found[1]) if char == "$" else found[1])
                self.at, bare = found.end(), False
            elif char == '"':
                text, all_literal = self.quoted()
                parts.append(text)
                literal, bare = literal and all_literal, False
            elif char in "$`":
                parts.append(self.expansion())
                literal = False
            else:
                plain = _PLAIN.match(self.text, self.at)
                parts.append(plain[0] if plain else char)
                self.at += len(parts[-1])
        return Word("".join(parts), start, literal, bare)

    def quoted(self) -> tuple[str, bool]:
        """What stands in the double quotes that begin here, and whether no expansion is in it."""
        parts: list[str] = []
        literal = True
        self.at += 1
        while self.at < len(self.text):
            char = self.peek()
            if char == '"':
                self.at += 1
                break
            if char == "\\":
                after = self.text[self.at + 1 : self.at + 2]
                parts.append("" if after == "\n" else after if after in '"\\$`' else char + after)
                self.at += 2
            elif char in "$`":
                parts.append(self.expansion())
                literal = False
            else:
                text = _QUOTED.match(self.text, self.at)
                parts.append(text[0] if text else char)
                self.at += len(parts[-1])
        return "".join(parts), literal

    def expansion(self) -> str:
        """The text of what begins here with a dollar or a backtick; commands in it are read."""
        start = self.at
        if self.peek() == "`":
            self.at += 1
            self.list_of("`")
        elif self.peek(3) == "$((":
            self.at += 3
            self.arithmetic(2)
        elif self.peek(2) == "$(":
            self.at += 2
            self.list_of(")")
        elif self.peek(2) == "${":
            self.at += 2
            self.braced()
        else:
            found = _VARIABLE.match(self.text, self.at)
            assert found
            self.at = found.end()
        return self.text[start : self.at]

    def braced(self) -> None:
        """Up to the brace that closes ``${``."""
        self.nested(_BRACED, "", "}", 1)

    def arithmetic(self, opened: int) -> None:
        """Up to the last of the *opened* brackets."""
        self.nested(_ARITHMETIC, "(", ")", opened)

    def nested(self, plain: re.Pattern[str], opens: str, closes: str, opened: int) -> None:
        """Up to the *closes* that ends the last of the *opened*; what is quoted or expanded in between is read as such."""
        self.deeper()
        while opened and self.at < len(self.text):
            char = self.peek()
            if char == '"':
                self.quoted()
            elif char in "$`":
                self.expansion()
            elif char == "\\":
                self.at += 2
            elif char == "'" and closes == "}":
                found = _SINGLE_QUOTED.match(self.text, self.at)
                self.at = found.end() if found else self.at + 1
            else:
                opened += (char == opens) - (char == closes)
                found = plain.match(self.text, self.at)
                self.at = found.end() if found else self.at + 1
        self.depth -= 1


def _unescaped(match: re.Match[str]) -> str:
    return {"n": "\n", "t": "\t"}.get(match[1], match[1])
