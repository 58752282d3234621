"""What keepalived files say of VRRP: instances with their addresses, scripts that are tracked, and which of the given files those are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from posixpath import basename

from generator.handwritten import File, Files, Node, Word, integer
from generator.handwritten.keepalived import INCLUDES, joined, whose

# A network segment has 255 router ids; more instances than these are no configuration.
MAX_INSTANCES = 1_000


@dataclass(frozen=True)
class Instance:
    """
    A ``vrrp_instance`` *node* of *file*; *root* is all that its keepalived reads.

    *scripts* are all ``vrrp_script`` of *root* by name, *groups* the sync groups that the instance is in, *settings* all ``global_defs``;
    *whole* says that all that *root* includes is among the files.
    """

    file: File
    root: Node
    node: Node
    scripts: Mapping[str, Node] = field(repr=False)
    groups: Sequence[Node]
    settings: Sequence[Node]
    whole: bool

    @property
    def host(self) -> str:
        """Whose instance it is; hosts without a name are told apart by their files."""
        return whose(self.file)

    @property
    def name(self) -> Word:
        """A word to point at for the whole instance."""
        return self.node.value or self.node.name

    def word(self, name: str) -> Word | None:
        """The argument of *name*, or None."""
        node = self.node.one(name)
        return node.value if node else None

    def number(self, name: str) -> int | None:
        """The number behind *name*, or None."""
        return integer(self.word(name))

    def entries(self, name: str) -> tuple[Node, ...]:
        """The entries of the lists called *name*."""
        return tuple(entry for block in self.node.all(name) for entry in block.children or ())

    @cached_property
    def vips(self) -> dict[str, Word]:
        """The advertised addresses, without prefix, each with its place."""
        return {str(entry.name.partition("/")[0]): entry.name for entry in self.entries("virtual_ipaddress")}

    @cached_property
    def tracked(self) -> dict[str, tuple[Node, Node | None]]:
        """Names in ``track_script``, here or in the instance's sync group: the entry, and the ``vrrp_script`` of that name."""
        blocks = [block for node in (self.node, *self.groups) for block in node.all("track_script")]
        return {str(entry.name): (entry, self.scripts.get(entry.name)) for block in blocks for entry in block.children or ()}


@dataclass(frozen=True)
class Call:
    """
    A script among the given files that keepalived runs: *script* with its commands in *root*.

    *word* is the command in the configuration, *node* the line's block, *line* its keyword (``script``, ``notify_master``).
    """

    script: File
    root: Node
    word: Word
    node: Node
    line: str


def configurations(files: Files) -> Iterator[tuple[File, Node]]:
    """Every whole configuration: a file with VRRP instances or virtual servers, with all that it includes."""
    for file, root in joined(files):
        if any(root.all("vrrp_instance", "virtual_server")):
            yield file, root


def complete(root: Node) -> bool:
    """Whether everything that *root* includes is there."""
    return not any(True for _ in root.walk(*INCLUDES))


def instances(files: Files) -> Sequence[Instance]:
    """Every instance of the configurations, up to a bound."""
    if "vrrp" not in files.derived:
        files.derived["vrrp"] = list(islice(_instances(files), MAX_INSTANCES))
    found: list[Instance] = files.derived["vrrp"]
    return found


def _instances(files: Files) -> Iterator[Instance]:
    for file, root in joined(files):
        scripts = {str(node.value): node for node in root.all("vrrp_script")}
        groups: dict[str, list[Node]] = {}
        for group in root.all("vrrp_sync_group"):
            for name in {word for block in group.all("group") for entry in block.children or () for word in (entry.name, *entry.args)}:
                groups.setdefault(name, []).append(group)
        settings, whole = list(root.all("global_defs")), complete(root)
        for node in root.all("vrrp_instance"):
            yield Instance(file, root, node, scripts, groups.get(str(node.value), [])[:8], settings, whole)


def command(node: Node) -> list[str]:
    """The words of a ``script`` or ``notify`` line, which may stand in one pair of quotes."""
    words = [*node.args]
    return [*words[0].split(), *words[1:]] if words else []


def commands(root: Node) -> Iterator[tuple[Node, Node]]:
    """Every line that names a program to run, each with its block."""
    for block in root.walk("vrrp_script", "vrrp_instance", "vrrp_sync_group"):
        for line in block.children or ():
            if line.value is not None and (line.name == "script" or line.name.startswith("notify")):
                yield block, line


def calls(files: Files) -> Iterator[Call]:
    """Every script among *files* that a keepalived file of the same host runs."""
    given: dict[tuple[str, str], list[tuple[File, Node]]] = {}
    for script, tree in files.of("script"):
        given.setdefault((script.host, basename(script.path)), []).append((script, tree))
    for file, root in joined(files):
        for block, line in commands(root):
            path = next(iter(command(line)), "")
            for script, tree in given.get((file.host, basename(path)), ()):
                # A file whose folders nobody gave has its bare name as path.
                if script.path in (path, basename(path)):
                    yield Call(script, tree, line.value or line.name, block, str(line.name))


def weight_of(entry: Node, script: Node | None) -> Word | None:
    """The weight behind an entry of ``track_script``, else that of the script itself."""
    own = next((after for before, after in zip(entry.args, entry.args[1:], strict=False) if before == "weight"), None)
    line = script.one("weight") if script else None
    return own or (line.value if line else None)
