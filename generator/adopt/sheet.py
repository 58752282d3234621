"""The draft of an inventory while it is filled: every value with its word, or with the reason why it had to be guessed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from generator import versions
from generator.adopt.claims import Known
from generator.diagnostics import Diagnostic, Path
from generator.handwritten import Word

# Values that the schema has refused: by their path, or in lists by the list's path and their text, since positions move.
Refused = set[tuple[Path, str]]


@dataclass(frozen=True)
class Guessing:
    """
    How to guess the *version* of Kubernetes, *prefixes* of hosts, and whether unknown load balancers are *dedicated* hosts.

    ``natural`` is for an inventory.  ``wide`` puts all hosts and the VIP into one network, ``narrow`` each address into one of its own:
    what is found with both doesn't depend on the guess.
    """

    version: str = versions.newest_patch(versions.NEWEST_MINOR)
    prefixes: Literal["natural", "wide", "narrow"] = "natural"
    dedicated: bool = False


@dataclass
class Draft:
    """
    Inventory *data* as ``validate.run`` takes it; *origins* says which word a value comes from, *guesses* why it had to be guessed.

    A value in neither follows from what the files leave out.  ``("hosts",)`` has an origin where all control planes are known, and
    ``("cluster",)`` where it is known what kubeadm is told.  *shown* names each host for people, *notes* are what was left out.
    """

    data: dict[str, Any] = field(default_factory=dict)
    origins: dict[Path, Word] = field(default_factory=dict)
    guesses: dict[Path, str] = field(default_factory=dict)
    refused: list[tuple[Diagnostic, Word]] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Sheet:
    """A *draft*, and what was *heard* for it as far as the schema doesn't refuse it."""

    def __init__(self, heard: Mapping[Path, Known], refused: Refused) -> None:
        self.draft = Draft()
        self._refused = refused
        self.heard = {path: known for path, known in heard.items() if not self._is_refused(path)}

    def _is_refused(self, path: Path) -> bool:
        return any((path[: end + 1], "") in self._refused for end in range(len(path)))

    def put(self, path: Path, value: Any, word: Word | None = None, guess: str = "") -> bool:
        """Set *value*, unless the schema has refused it there; what is guessed is always good."""
        if not guess and (self._is_refused(path) or (path[:-1], str(value)) in self._refused):
            return False
        node: Any = self.draft.data
        for here, below in pairwise(path):
            if isinstance(node, list):
                while len(node) <= int(here):
                    node.append({})
                node = node[int(here)]
            else:
                node = node.setdefault(here, [] if isinstance(below, int) else {})
        if isinstance(node, list):
            node.append(value)
        else:
            node[path[-1]] = value
        if word is not None:
            self.draft.origins[path] = word
        if guess:
            self.draft.guesses[path] = guess
        return True

    def say(self, path: Path, guess: Any = None, why: str = "") -> None:
        """Set what was heard at *path*, else the *guess*, else nothing."""
        known = self.heard.get(path)
        if not (known is not None and self.put(path, known.value, known.word)) and guess is not None:
            self.put(path, guess, guess=why)

    def origin(self, path: Path, word: Word | None) -> None:
        """What stands at *path* comes from *word*."""
        if word is not None:
            self.draft.origins[path] = word

    def below(self, path: Path) -> list[tuple[Path, Known]]:
        """What was heard of *path* and of all below it."""
        return [(where, known) for where, known in self.heard.items() if where[: len(path)] == path]
