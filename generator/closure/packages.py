"""Packages: the words of ``PACKAGES`` against the payload's index, the base system or repositories; and all that these depend on."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from generator.closure import indexes, tools
from generator.closure.commands import code_of, every, parsed
from generator.closure.folders import Folder, bare
from generator.closure.indexes import Index, Package
from generator.closure.needs import Use, Verdict, missing, provided
from generator.closure.shell import Lines
from generator.wording import said

_PACKAGES = re.compile(r"^PACKAGES='([^']*)'", re.MULTILINE)
_MANAGERS = frozenset(("apt", "apt-get", "dnf", "microdnf", "yum"))
_NAME = re.compile(r"[a-z0-9][A-Za-z0-9.+_-]+(?:=\S+)?")
_T64 = re.compile(r"t64(?=$|:)")
_BINARIES = re.compile(r"/(?:usr/)?s?bin/([^/]+)")
# Libraries that a minimal RHEL has, by the beginning of what rpm calls them.
_SONAMES = (
    "ld-linux", "libacl.so", "libattr.so", "libaudit.so", "libblkid.so", "libbz2.so", "libc.so", "libcap.so", "libcap-ng.so",
    "libcom_err.so", "libcrypt.so", "libcrypto.so", "libdl.so", "libgcc_s.so", "libgssapi_krb5.so", "libkmod.so", "libkrb5.so",
    "liblz4.so", "liblzma.so", "libm.so", "libmnl.so", "libmount.so", "libnl-3.so", "libnl-genl-3.so", "libnftnl.so", "libpam.so",
    "libpcre2-8.so", "libpopt.so", "libpthread.so", "libresolv.so", "librt.so", "libseccomp.so", "libselinux.so", "libsemanage.so",
    "libsepol.so", "libssl.so", "libstdc++.so", "libsystemd.so", "libtinfo.so", "libudev.so", "libuuid.so", "libxml2.so", "libz.so",
    "libzstd.so", "rtld(GNU_HASH)",
)  # fmt: skip


@dataclass(frozen=True)
class Payload:
    """The packages of a host's overlay: their *index* (None where there is none), and the names of all *files*."""

    index: Index | None
    files: frozenset[str]
    broken: str = ""


class Repositories:
    """Reads indexes once, whatever number of hosts has them by hard links."""

    def __init__(self) -> None:
        self.known: dict[tuple[object, ...], tuple[Index | None, str]] = {}
        self.closures: dict[tuple[object, ...], tuple[tuple[Use, Verdict], ...]] = {}

    def of(self, root: Path) -> Payload:
        """Those below *root*, a host's ``payload/``."""
        folder = root / "packages"
        if not folder.is_dir():
            return Payload(None, frozenset())
        index, broken = self._read(folder)
        with os.scandir(folder) as entries:
            return Payload(index, frozenset(entry.name for entry in entries if entry.name.endswith((".deb", ".rpm"))), broken)

    def _read(self, folder: Path) -> tuple[Index | None, str]:
        stats = [path.stat() for name in ("Packages", "Packages.gz", "repodata/repomd.xml") if (path := folder / name).is_file()]
        key = tuple((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns) for status in stats)
        if key not in self.known:
            try:
                self.known[key] = (indexes.read(folder), "") if stats else (None, "")
            except (indexes.UnreadableError, OSError):
                self.known[key] = (None, "payload/packages")
        return self.known[key]

    def needs(self, folder: Folder, payload: Payload) -> tuple[tuple[Use, Verdict], ...]:
        """Every dependency of what the host installs that neither the payload nor its base system has; counted once for equal hosts."""
        if payload.index is None:
            return ()
        key = (id(payload.index), folder.get("PACKAGES"), folder.os)
        if key not in self.closures:
            self.closures[key] = tuple(_unmet(folder, payload.index))
        return self.closures[key]


def uses(path: str, text: str) -> Iterator[Use]:
    """The words of ``PACKAGES`` in ``host.env``, and packages that a script installs by their name."""
    yield from _installed(path, code_of(path, text))
    found = _PACKAGES.search(text) if path == "host.env" else None
    if found:
        line, column = text.count("\n", 0, found.start()) + 1, found.start(1) - found.start() + 1
        for word in re.finditer(r"\S+", found[1]):
            yield Use("package", word[0], path, line, column + word.start())


def _installed(path: str, text: str) -> Iterator[Use]:
    lines = Lines(text)
    for words, _, inside in every(parsed(text)):
        names = [word.text for word in words]
        at = next((i for i, name in enumerate(names) if name in _MANAGERS), len(names))
        if "install" in names[at:]:
            for word in words[names.index("install", at) + 1 :]:
                if word.literal and _NAME.fullmatch(word.text):
                    yield Use("package", word.text, path, *lines.place(word.at if inside is None else inside))


def judge(folder: Folder, use: Use, payload: Payload | None, *, required: bool) -> Verdict:
    """Where the host of *folder* has a word of ``PACKAGES`` from; *payload* is None where it has none."""
    family = folder.get("OS_FAMILY")
    name = bare(use.name, family)
    if folder.get("PACKAGE_SOURCE") == "repository":
        return provided(said("the repositories of this host (packages: repository)"))
    if payload is None and not required:
        if name in tools.base(folder.os) and name == use.name:
            return provided(said("the base system: {package}", package=name))
        return Verdict("wanted", said("the payload"))
    payload = payload or Payload(None, frozenset())
    if payload.index is None:
        file = next((one for one in sorted(payload.files) if _named(one, use.name, family)), "")
    else:
        file = next(
            (one.file for one in payload.index.providers.get(name, ()) if _fits(one, use.name, family) and one.file in payload.files), ""
        )
    if file:
        return provided(f"payload/packages/{file}")
    if name in tools.base(folder.os) and name == use.name:
        return provided(said("the base system: {package}", package=name))
    return _absent(folder)


def judge_installed(folder: Folder, use: Use) -> Verdict:
    """Whether a package that a script installs by its name is one of the host of *folder*, whose own words are judged for themselves."""
    name = bare(use.name, folder.get("OS_FAMILY"))
    if name in folder.packages or name in tools.base(folder.os):
        return provided(said("package {package}", package=name))
    return missing(
        said("no package of this host: PACKAGES in its host.env doesn't have it"),
        said("take it out, or add {package} to extraPackages of this host", package=name),
    )


def _absent(folder: Folder) -> Verdict:
    remedy = "gather the payload with the lock of this bundle, for the operating system of this host"
    return missing(said("the payload of {host} has no such package", host=folder.name), remedy)


def _fits(package: Package, word: str, family: str) -> bool:
    """Whether *package* is of the version that *word* of ``PACKAGES`` is pinned to, if it is."""
    if family != "rhel":
        _, pinned, version = word.partition("=")
        return not pinned or (package.name == word.partition("=")[0] and fnmatchcase(package.version, version))
    name = bare(word, family)
    return name == word or (package.name == name and f"{name}-{package.version}-".startswith(f"{word}-"))


def _named(file: str, word: str, family: str) -> bool:
    """Whether a file without an index is *word*, by its name."""
    if family != "rhel":
        name, _, version = word.partition("=")
        parts = file.split("_")
        return parts[0] == name and (not version or (len(parts) > 1 and fnmatchcase(parts[1].replace("%3a", ":"), version)))
    return bool(re.match(re.escape(word) + (r"-[0-9]" if bare(word, family) == word else r"[-.]"), file))


def _unmet(folder: Folder, index: Index) -> Iterator[tuple[Use, Verdict]]:
    """Go from the words of ``PACKAGES`` to all that they need; what is not in the index has to be in the base system."""
    base = tools.base(folder.os)
    queue = [package for name in folder.packages for package in index.providers.get(name, ())[:1]]
    seen = {id(package) for package in queue}
    while queue:
        package = queue.pop()
        for alternatives in package.needs:
            found = next((index.providers[name] for name in alternatives if name in index.providers), ())
            if found:
                if not any(id(one) in seen for one in found):
                    seen.add(id(found[0]))
                    queue.append(found[0])
            elif not any(_in_base(name, base) for name in alternatives):
                use = Use("package", " | ".join(alternatives), f"payload/packages/{index.path}", package.line)
                yield (
                    use,
                    missing(
                        said("{package} depends on it: neither the payload nor a minimal {os} has it", package=package.name, os=folder.os),
                        "gather the payload again, with all dependencies",
                    ),
                )


def _in_base(name: str, base: frozenset[str]) -> bool:
    """Whether the base system has what a package calls *name*: a package, a library or a program of rpm's, or a condition of its own."""
    if not name or _T64.sub("", name) in base or name.startswith(("(", "rpmlib(", "config(")):
        return True
    if name.split("(", 1)[0].removesuffix("(x86-64)") in base or name.startswith(_SONAMES):
        return bool(base)
    program = _BINARIES.fullmatch(name)
    return bool(program) and any(
        package in base for family in ("debian", "rhel") for package in tools.packages(program[1] if program else "", family)
    )
