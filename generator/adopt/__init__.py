"""Hand-written files to an inventory, and what all stages say of it in the words of those files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from generator import lint, validate, versions
from generator.adopt import balancing, kubekey, kubernetes, networks, vrrp
from generator.adopt.claims import Claims
from generator.adopt.drafting import drafted
from generator.adopt.inventory import text
from generator.adopt.sheet import Draft, Guessing
from generator.diagnostics import Diagnostic, Path, Related
from generator.handwritten import Files, Word
from generator.model import build
from generator.source import Source
from generator.wording import Said, said

__all__ = ["Draft", "draft", "findings", "text"]

# Two ways to guess: what is found both times is no child of a guess.
_GUESSES = (
    Guessing(prefixes="wide"),
    Guessing(version=versions.newest_patch(versions.OLDEST_MINOR), prefixes="narrow", dedicated=True),
)
# Hosts whose files differ are each taken at their word, so many of them.
_MAX_VIEWS = 8

# Mistakes that only an inventory can make: they are about its secrets, about what its bundle needs, and about what this stowage knows.
_OF_INVENTORIES = frozenset(
    (
        *("CNI001", "CNI002", "CNI010", "CNI011", "CNI012", "HST008", "HST009", "HST014"),
        *("KUB002", "KUB003", "KUB041", "LBR003", "LBR006", "SEC001"),
    )
)
# Fields whose form the schema has from the program that reads them; elsewhere an inventory is narrower.
_SAME_FORM: tuple[Path, ...] = (
    ("cluster", "podSubnet"),
    ("cluster", "serviceSubnet"),
    ("cluster", "imageRepository"),
    ("cluster", "dnsDomain"),
    ("cluster", "etcd", "dataDir"),
    ("controlPlaneEndpoint", "name"),
)
_VERSION: Path = ("cluster", "kubernetesVersion")
_KUBEADM: Path = ("cluster",)
_PLANES: Path = ("hosts",)
_VIP: Path = ("controlPlaneEndpoint", "address")
_CNI: Path = ("cluster", "cni")
_NGINX: Path = ("loadBalancer", "nginx")
_IPVS: Path = ("loadBalancer", "ipvs")
# What must be known for a finding to be one: guessed otherwise, another value would be as likely.
_NEEDS: dict[str, tuple[Path, ...]] = {
    "CNI003": (_VERSION,),
    "CNI007": (_KUBEADM, _PLANES, _CNI),
    "CNI008": (_PLANES,),
    "CNI009": (_KUBEADM,),
    "CNI015": (_CNI,),
    "ETC003": (_VERSION,),
    "ETC004": (_VERSION,),
    "ETC005": (_VERSION,),
    "ETC011": (_VERSION,),
    "HST012": (_PLANES,),
    "HST013": (_PLANES,),
    "KUB006": (_KUBEADM,),
    "KUB007": (_VERSION,),
    "KUB008": (_VERSION,),
    "KUB012": (_VERSION,),
    "KUB013": (_VERSION,),
    "KUB017": (_VERSION,),
    "KUB018": (_VERSION,),
    "KUB024": (("cluster", "podSubnet"),),
    "KUB026": (_PLANES,),
    "KUB027": (_VERSION,),
    "KUB028": (_KUBEADM, _CNI),
    "KUB029": (_VERSION,),
    "KUB031": (_VERSION,),
    "LBR007": (_PLANES,),
    "LBR012": (_PLANES,),
    "LBR027": (_PLANES,),
    "LBR035": ((*_IPVS, "delayLoop"), (*_IPVS, "connectTimeout")),
    "LBR036": (_PLANES, (*_NGINX, "workerConnections"), (*_NGINX, "workerProcesses")),
    "NET004": (_VIP,),
    "NET015": (_VIP,),
    "NET019": (_VIP,),
    "NET023": (_KUBEADM,),
}


def draft(files: Files) -> Draft | None:
    """The inventory that *files* amount to; None where they say nothing of a cluster."""
    claims = _claims(files)
    return drafted(claims, Guessing()) if claims.told or claims.machines else None


def _claims(files: Files) -> Claims:
    """What counts most is heard first: kubeadm's own word, then KubeKey's, then what stands around them."""
    claims = Claims()
    balancing.hosts_files(files, claims)
    kubernetes.kubeadm(files, claims)
    kubekey.config(files, claims)
    networks.manifests(files, claims)
    networks.commands(files, claims)
    balancing.nginx(files, claims)
    vrrp.instances(files, claims)
    vrrp.virtual_servers(files, claims)
    vrrp.units(files, claims)
    kubernetes.etcd(files, claims)
    balancing.named_hosts(claims)
    return claims


def findings(files: Files) -> list[tuple[Source, Diagnostic]]:
    """What schema and rules say of the values that stand in *files*; nothing that comes from a guess."""
    claims = _claims(files)
    if not claims.told and not claims.machines:
        return []
    found: dict[_Place, tuple[Source, Diagnostic]] = {}
    for view in _views(claims):
        one, *others = (_found(claims, guessing, view) for guessing in _GUESSES)
        for place, told in one.items():
            if all(place in other for other in others):
                found.setdefault(place, told)
    return list(found.values())


# A file's name, line, column, and a code.
_Place = tuple[str, int, int, str]


def _views(claims: Claims) -> Iterator[str]:
    """The hosts whose files are to be taken at their word, one for each set of values, the first of them first."""
    seen: list[dict[Path, object]] = []
    for view in ("", *claims.speakers()):
        heard: dict[Path, object] = {path: known.value for path, known in claims.heard(view).items()}
        if heard not in seen and len(seen) < _MAX_VIEWS:
            seen.append(heard)
            yield view


def _found(claims: Claims, guessing: Guessing, view: str) -> dict[_Place, tuple[Source, Diagnostic]]:
    """What is found in one draft, by its place."""
    made = drafted(claims, guessing, view, literal=True)
    if made is None:
        return {}
    told = [(word, problem) for problem, word in made.refused if any(problem.path[: len(path)] == path for path in _SAME_FORM)]
    for diagnostic in lint.run(build(validate.complete(made.data))):
        needed = _NEEDS.get(diagnostic.code, ())
        word = _word(made, diagnostic.path)
        if word is not None and diagnostic.code not in _OF_INVENTORIES and all(path in made.origins for path in needed):
            told.append((word, diagnostic))
    found: dict[_Place, tuple[Source, Diagnostic]] = {}
    for word, diagnostic in told:
        at = word.spot.at
        place = (word.spot.source.name, at.line, at.column, diagnostic.code)
        found.setdefault(place, (word.spot.source, _in_their_words(made, diagnostic, word)))
    return found


def _word(made: Draft, path: Path) -> Word | None:
    """Where *path* stands in the files; for a key that the draft lacks, where what should hold it does."""
    if path in made.origins:
        return made.origins[path] if path != _PLANES else None
    return _word(made, path[:-1]) if path and not _stands(made.data, path) else None


def _stands(data: Any, path: Path) -> bool:
    try:
        for part in path:
            data = data[part]
    except (KeyError, IndexError, TypeError):
        return False
    return True


def _in_their_words(made: Draft, diagnostic: Diagnostic, word: Word) -> Diagnostic:
    """*diagnostic* at *word*, with the hosts' own names, and the related places that stand in files too."""
    related = []
    for other in diagnostic.related:
        where = _word(made, other.path)
        if where is not None and where.spot != word.spot:
            related.append(Related((), _named(made, other.label), spot=where.spot))
    return replace(
        diagnostic,
        message=_named(made, diagnostic.message),
        remedy=_named(made, diagnostic.remedy),
        path=(),
        on_key=False,
        # What would be right in an inventory is another text in these files.
        fix=None,
        related=tuple(related),
        position=word.spot.at,
    )


def _named(made: Draft, text: str) -> str:
    """*text* with hosts by name alone: their numbers are those of the draft."""

    def name(match: re.Match[str]) -> str:
        index = int(match[1])
        return made.shown[index] if index < len(made.shown) else match[2]

    if isinstance(text, Said):
        return said(text.template, **{key: _named(made, value) if isinstance(value, str) else value for key, value in text.values.items()})
    return re.sub(r"hosts\[([0-9]+)\] \(([^)]*)\)", name, text)
