"""
The payload of a host as an SPDX 2.3 document (JSON): each file that it carries is a package with its SHA-256, and a purl where it has one.

Files are SPDX *packages*: its files must have a SHA-1 (spdx-spec 2.3, clause 8.4), which nothing here computes.  What a file is, its name
says: images as ``images.txt`` lists them, deb(5) and rpm files by the names that their tools give them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

# Debian's names have no underscore; apt writes the colon of an epoch as %3a.
_DEB = re.compile(r"([^_/]+)_([^_/]+)_([^_/.]+)\.deb")
_RPM = re.compile(r"([^/]+)-([^-/]+-[^-/]+)\.([^-/.]+)\.rpm")


@dataclass(frozen=True)
class About:
    """What a document says of itself: its *name*, the *tool*'s version, when it was *created* (ISO 8601, UTC), the host's *system*."""

    name: str
    tool: str
    created: str
    system: str


def document(about: About, payload: Mapping[str, str], images: Iterable[str]) -> dict[str, Any]:
    """
    The SPDX document of *payload*, SHA-256 by path below ``payload/``, its sums aside; *images* are the references that may be among it.

    The same payload gives the same document, its namespace too: that is a digest of all that is in it.
    """
    references = {f"images/{re.sub('[/:@]', '_', image)}.tar": image for image in images}
    packages = [_package(about, path, digest, references) for path, digest in sorted(payload.items())]
    root = {"SPDXID": "SPDXRef-payload", "name": about.name, "primaryPackagePurpose": "INSTALL", **_UNKNOWN}
    digest = hashlib.sha256(
        "".join(f"{payload[path]}  {path}\n" for path in sorted(payload)).encode("utf-8", "surrogateescape")
    ).hexdigest()
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": about.name,
        "documentNamespace": f"https://spdx.org/spdxdocs/{about.name}-{digest}",
        "creationInfo": {"created": about.created, "creators": [f"Tool: stowage-{about.tool}"]},
        "packages": [root, *packages],
        "relationships": [
            _relation("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-payload"),
            *(_relation("SPDXRef-payload", "CONTAINS", package["SPDXID"]) for package in packages),
        ],
    }


_UNKNOWN = {
    "downloadLocation": "NOASSERTION",
    "filesAnalyzed": False,
    "licenseConcluded": "NOASSERTION",
    "licenseDeclared": "NOASSERTION",
    "copyrightText": "NOASSERTION",
}


def _relation(element: str, kind: str, related: str) -> dict[str, str]:
    return {"spdxElementId": element, "relationshipType": kind, "relatedSpdxElement": related}


def _package(about: About, path: str, digest: str, references: Mapping[str, str]) -> dict[str, Any]:
    name, version, purl, purpose = _told(about.system, path, references)
    # An identifier has letters, digits, dots and dashes only (clause 7.2): the digest of the path makes it one of its own.
    number = hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    identifier = f"SPDXRef-{re.sub('[^A-Za-z0-9.-]', '-', path)}-{number}"
    reference = {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}
    return {
        "SPDXID": identifier,
        "name": name,
        **({"versionInfo": version} if version else {}),
        "packageFileName": f"payload/{path}".encode("utf-8", "replace").decode(),
        "primaryPackagePurpose": purpose,
        "checksums": [{"algorithm": "SHA256", "checksumValue": digest}],
        **({"externalRefs": [reference]} if purl else {}),
        **_UNKNOWN,
    }


def _told(system: str, path: str, references: Mapping[str, str]) -> tuple[str, str, str, str]:
    """Name, version, purl (package-url/purl-spec: types deb, rpm, oci) and purpose of the file at *path*; empty where it has none."""
    vendor, base = system.partition("-")[0], path.rpartition("/")[2]
    if path in references:
        reference = references[path]
        name, digest, tag = _parts(reference)
        at = f"@{quote(digest, safe=':')}" if digest else ""
        labels = f"repository_url={quote(name, safe='/:.-_')}" + (f"&tag={quote(tag, safe='.-_')}" if tag else "")
        return name, tag or digest, f"pkg:oci/{quote(name.rpartition('/')[2])}{at}?{labels}", "CONTAINER"
    if found := _DEB.fullmatch(base):
        name, version, architecture = found[1], found[2].replace("%3a", ":"), found[3]
        return name, version, f"pkg:deb/{vendor}/{quote(name)}@{quote(version, safe=':')}?arch={architecture}&distro={system}", "INSTALL"
    if found := _RPM.fullmatch(base):
        name, version, architecture = found[1], found[2], found[3]
        return name, version, f"pkg:rpm/{vendor}/{quote(name)}@{quote(version)}?arch={architecture}&distro={system}", "INSTALL"
    return path.encode("utf-8", "replace").decode(), "", "", "FILE"


def _parts(reference: str) -> tuple[str, str, str]:
    """Name with registry, digest and tag of an image *reference*; a port's colon stands before the last slash."""
    rest, _, digest = reference.partition("@")
    folder, slash, last = rest.rpartition("/")
    base, _, tag = last.partition(":")
    return f"{folder}{slash}{base}", digest, tag
