"""
Reader of hosts files: one node a line, the address its name and the host names its arguments.

As the C library has it (hosts(5)): fields are separated by blanks and tabs, ``#`` starts a comment wherever it stands.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from itertools import islice

from generator.diagnostics import Diagnostic
from generator.handwritten import Node, Word
from generator.source import Source
from generator.wording import said

# Lists of names to block have that many; nobody's cluster does.
MAX_WORDS = 200_000

_FIELD = re.compile(r"[^ \t\r\f\v]+")


def read(source: Source) -> tuple[Node, tuple[Diagnostic, ...]]:
    """The entries of *source*, and a finding (HSF001) for each line that the C library passes over."""
    entries: list[Node] = []
    problems: list[Diagnostic] = []
    count = 0
    for number, line in enumerate(source.text.split("\n"), 1):
        fields = islice(_FIELD.finditer(line.partition("#")[0]), MAX_WORDS + 1)
        words = [Word.at(field[0], source, number, field.start() + 1) for field in fields]
        if not words:
            continue
        count += len(words)
        if count > MAX_WORDS:
            return Node(Word.at("", source, 1, 1), (), ()), (_too_much(words[0]),)
        address, *names = words
        if not _is_address(address):
            problems.append(
                Diagnostic(
                    "HSF001",
                    "error",
                    said("{text} is no address", text=address[:60]),
                    (),
                    "begin the line with an IPv4 or IPv6 address, without a prefix length",
                    position=address.spot.at,
                )
            )
        elif not names:
            problems.append(
                Diagnostic(
                    "HSF001",
                    "error",
                    said("{address} has no name", address=address),
                    (),
                    "write the names behind the address, or remove the line",
                    position=address.spot.at,
                )
            )
        else:
            entries.append(Node(address, tuple(names)))
    return Node(Word.at("", source, 1, 1), (), tuple(entries)), tuple(problems)


def _too_much(word: Word) -> Diagnostic:
    return Diagnostic(
        "SRC002", "error", "more values or levels than such a file has", (), "check that this is the right file", position=word.spot.at
    )


def _is_address(text: str) -> bool:
    """Whether inet_pton(3) takes *text*; it knows no zone such as ``%eth0``."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return "%" not in text
