"""YAML files (kubeadm's configuration, static pods, KubeKey's ``config.yaml``): documents, with the place of every word."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from generator.diagnostics import Diagnostic, Position
from generator.handwritten import Document, Word
from generator.source import MAX_PURE, Source
from generator.wording import said

# The manifest of Calico's operator, the largest that people apply, has some 100,000.
MAX_NODES = 200_000
MAX_DEPTH = 100


class _TooMuchError(Exception):
    """More values than such a file has."""


def read(source: Source) -> tuple[tuple[Document, ...], tuple[Diagnostic, ...]]:
    """The documents of *source*, and the finding that stopped the reader (SRC002, SRC006), behind which nothing was read."""
    documents, problems = _read(source, pure=False)
    # ruamel's own parser knows more of YAML 1.2 (``[https://192.168.1.25:2379]``), and is slow.
    if [problem.code for problem in problems] == ["SRC006"] and len(source.text) <= MAX_PURE:
        return _read(source, pure=True)
    return documents, problems


def _read(source: Source, *, pure: bool) -> tuple[tuple[Document, ...], tuple[Diagnostic, ...]]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    documents: list[Document] = []
    builder = _Builder(source)
    try:
        _refuse_giants(YAML(typ="safe", pure=pure).parse(source.text))
        for node in YAML(typ="safe", pure=pure).compose_all(source.text):
            if node is not None:
                mark = node.start_mark
                start = builder.word(source.line(mark.line + 1).strip().split(" ")[0] or "-", node)
                documents.append(Document(builder.tree(node, 0), start))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = Position(mark.line + 1, mark.column + 1) if mark else Position(1, 1)
        problem = str(error.problem or error.context or "unreadable")
        found = Diagnostic(
            "SRC006", "error", said("not YAML: {problem}", problem=problem), (), "check quotes, brackets and indentation here", position=at
        )
        return tuple(documents), (found,)
    except (YAMLError, ValueError) as error:
        found = Diagnostic(
            "SRC006",
            "error",
            said("not YAML: {problem}", problem=str(error).splitlines()[0]),
            (),
            "check the file's characters",
            position=Position(1, 1),
        )
        return tuple(documents), (found,)
    except (_TooMuchError, RecursionError):
        found = Diagnostic(
            "SRC002",
            "error",
            "more values or levels than such a file has",
            (),
            "check that this is the right file",
            position=Position(1, 1),
        )
        return (), (found,)
    return tuple(documents), ()


def _refuse_giants(events: Iterable[Any]) -> None:
    """Look at the parser's *events* first: libyaml's composer descends into whatever it is given, until the process dies."""
    depth = nodes = 0
    for event in events:
        name = type(event).__name__
        depth += name.endswith("StartEvent") - name.endswith("EndEvent")
        nodes += not name.endswith("EndEvent")
        # Stream and document count as well.
        if depth > MAX_DEPTH + 2 or nodes > MAX_NODES:
            raise _TooMuchError


class _Builder:
    """Nodes of the composer to words; aliases are followed, and what they stand for is counted each time."""

    def __init__(self, source: Source) -> None:
        self.source, self.count = source, 0

    def word(self, text: str, node: Any) -> Word:
        start, end = node.start_mark, node.end_mark
        length = end.column - start.column if end.line == start.line else None
        return Word.at(text, self.source, start.line + 1, start.column + 1, length, plain=getattr(node, "style", None) in (None, ""))

    def tree(self, node: Any, depth: int) -> Any:
        self.count += 1
        if self.count > MAX_NODES or depth > MAX_DEPTH:
            raise _TooMuchError
        if node.id == "mapping":
            return {self.word(str(key.value) if key.id == "scalar" else "?", key): self.tree(value, depth + 1) for key, value in node.value}
        if node.id == "sequence":
            return [self.tree(item, depth + 1) for item in node.value]
        word = self.word(str(node.value), node)
        return None if word.plain and word in ("", "~", "null", "Null", "NULL") else word
