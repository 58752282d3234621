"""Essays of what the loader (SRC) and the schema (SCH) find; their checks stand in ``source.py`` and ``validate.py``."""

from generator.lint import essay

essay(
    "SRC001",
    """The file is not UTF-8.

    Why it hurts: another encoding reads as other names on another machine.

    Example: a file saved as Latin-1, where `name: münchen-1` holds the byte 0xfc.

    Use instead: save the file as UTF-8; a byte order mark and Windows line ends are accepted.

    Source: YAML 1.2.2, section 5.2.
    """,
)
essay(
    "SRC002",
    """The file is larger or deeper than an inventory can be.

    Why it hurts: a parser that reads whatever it is given can be brought down by a file that a pull request carries.

    Example: more than 4 MiB, more than 100 levels of brackets, or more than 500,000 values.

    Use instead: an inventory describes one cluster with at most a few thousand flat entries; check that this is the right file.

    Source: the limits are this project's own (design.md, section 1).
    """,
)
essay(
    "SRC003",
    """A character that nobody can see.

    Why it hurts: control characters, line breaks inside of values and bidirectional marks make a review show something else than what is
    compiled.

    Example: `name: "master-1\\u202e"`, which a terminal may show reversed.

    Use instead: values are single lines of visible text; remove the character.

    Source: YAML 1.2.2, section 5.1 (printable characters); CVE-2021-42574 (bidirectional marks in reviewed text).
    """,
)
essay(
    "SRC004",
    """A tab character.

    Why it hurts: YAML forbids tabs as indentation and allows them elsewhere, parsers differ in where, and a review can't tell one from
    blanks.

    Example: a tab between `port:` and `16443`.

    Use instead: blanks.

    Source: YAML 1.2.2, section 6.1.
    """,
)
essay(
    "SRC005",
    """A YAML directive.

    Why it hurts: `%YAML 1.1` changes what `on`, `0755` and `1:30` mean for the lines below it, and `%TAG` what tags mean.

    Example: `%YAML 1.1` in the first line.

    Use instead: remove the line; the text is read as plain YAML 1.2.

    Source: YAML 1.2.2, section 6.8.
    """,
)
essay(
    "SRC006",
    """The text is not YAML.

    Why it hurts: nothing behind this place can be read.

    Example: `{name: master-1, role: control-plane` without the closing brace.

    Use instead: check quotes, brackets and indentation at the place named and in the lines above it.

    Source: YAML 1.2.2.
    """,
)
essay(
    "SRC007",
    """A key that is not a name, or a number that nobody can have meant.

    Why it hurts: other tools read such keys as numbers, dates or lists and find something else in the same file; numbers of more than 18
    digits lose digits in most of them.

    Example: `1: master-1`, `[a, b]: c`, `virtualRouterId: 100000000000000000000`.

    Use instead: keys are plain names; quote a name that looks like a number.

    Source: YAML 1.2.2, section 10.3.2; design.md, section 1.
    """,
)
essay(
    "SRC008",
    """An anchor, alias, tag or merge key.

    Why it hurts: the line that a reviewer reads is then not the line that is compiled: its value stands elsewhere and changes with it.

    Example: `hosts: *hosts`, `<<: *defaults`, `!!str 51`.

    Use instead: write the value out; what all hosts share goes into `hostDefaults`.

    Source: YAML 1.2.2, section 6.9; an alias can stand for ten thousand million values (the "billion laughs").
    """,
)
essay(
    "SRC009",
    """A key stands twice in one mapping.

    Why it hurts: most YAML readers take the last one silently, a reader of the file takes the first.

    Example: `port: 16443` at the top of `controlPlaneEndpoint` and `port: 6443` at its end.

    Use instead: keep one of the two.

    Source: YAML 1.2.2, section 3.2.1.1 (keys are unique).
    """,
)
essay(
    "SRC010",
    """Not exactly one document in the file.

    Why it hurts: an empty file compiles to nothing, and of two documents one would be left out in silence.

    Example: `---` between two inventories.

    Use instead: one inventory a file; `stowage bundle a.yaml b.yaml` takes several files.

    Source: YAML 1.2.2, section 9.
    """,
)
essay(
    "SCH001",
    """A key that the inventory doesn't have.

    Why it hurts: a misspelt key would otherwise be ignored, and the default used in its place.

    Example: `virtualRouterID: 51` for `virtualRouterId: 51`.

    Use instead: the key that the finding proposes; docs/inventory.md lists them all.

    Source: schema/inventory.v1.schema.json.
    """,
)
essay(
    "SCH002",
    """A key that must be there is missing.

    Why it hurts: these have no default that is right anywhere: names, addresses, the release, the VRRP router id.

    Example: `keepalived: {}` without `virtualRouterId`.

    Use instead: add the key that the finding names.

    Source: schema/inventory.v1.schema.json.
    """,
)
essay(
    "SCH003",
    """A value of the wrong type.

    Why it hurts: a list where a mapping belongs says nothing that could be compiled.

    Example: `hosts: {master-1: 192.168.1.25/24}`, or `name: 1` for `name: "1"`.

    Use instead: the type that the finding names. A plain word is an integer only as decimal digits without leading zeros, a boolean only as
    `true` or `false`; in quotes it is a string.

    Source: schema/inventory.v1.schema.json; design.md, section 1.
    """,
)
essay(
    "SCH004",
    """A value that is none of the known ones.

    Why it hurts: what it names isn't there: no template, package or socket belongs to it.

    Example: `containerRuntime: docker` for `cri-dockerd`, `os: centos-7`.

    Use instead: one of the values that the finding lists.

    Source: schema/inventory.v1.schema.json.
    """,
)
essay(
    "SCH005",
    """A value that is not of the right form.

    Why it hurts: it would end up in a configuration file that the program behind it refuses, or reads as something else.

    Example: `address: 192.168.1.25` without the prefix, `kubernetesVersion: v1.29` for `1.29.3`.

    Use instead: the form that the finding shows.

    Source: schema/inventory.v1.schema.json.
    """,
)
essay(
    "SCH006",
    """A value beyond its limits.

    Why it hurts: the program that reads it has the same limits, or nobody can have meant it.

    Example: `bindPort: 70000`, `hosts: []`, three addresses for one host.

    Use instead: a value within the limits that the finding names.

    Source: schema/inventory.v1.schema.json.
    """,
)
essay(
    "SCH007",
    """A name that can't be a key here.

    Why it hurts: flags, labels, kernel settings and feature gates have names of a known form; another one is refused on the host.

    Example: `extraArgs: {--v: "2"}`; flags stand without their dashes.

    Use instead: a name of the form that the finding shows.

    Source: schema/inventory.v1.schema.json.
    """,
)
