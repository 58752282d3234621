# ruff: noqa: T201 (a command prints)
"""``dnf`` of a RHEL-like host without any network: installs files, and what a repository folder of the lab has; versionlock."""

from __future__ import annotations

import fnmatch
import os
import re
import sys
from pathlib import Path
from typing import Any

import rpm
import store

REPOSITORY = store.ROOT / "opt/lab/repository"  # where a test wants packages: repository, a folder of "rpm" files
PLUGIN = "python3-dnf-plugin-versionlock"
SETTINGS = {"install_weak_deps", "disable_excludes", "keepcache", "localpkg_gpgcheck", "cachedir"}
OF_A_REPOSITORY = {"gpgcheck", "repo_gpgcheck", "module_hotfixes"}


class Options:
    """The words of a command line: options anywhere, as dnf takes them."""

    def __init__(self, words: list[str]) -> None:
        self.yes = self.quiet = self.cache = False
        self.disabled: list[str] = []
        self.without: list[str] = []
        self.words: list[str] = []
        self.paths: dict[str, Path] = {}  # --repofrompath: no --disablerepo has a say in these
        self.unsigned: set[str] = set()
        for word in words:
            if word in {"-y", "--assumeyes"}:
                self.yes = True
            elif word in {"-q", "--quiet"}:
                self.quiet = True
            elif word in {"-C", "--cacheonly"}:
                self.cache = True
            elif word.startswith("--disablerepo="):
                self.disabled.append(word.partition("=")[2])
            elif word.startswith("--disableplugin="):
                self.without += word.partition("=")[2].split(",")
            elif found := re.fullmatch(r"--repofrompath=([A-Za-z0-9_.:-]+),file://(/[^ ]*)", word):
                self.paths[found[1]] = Path(found[2])
            elif (found := re.fullmatch(r"--setopt=([A-Za-z0-9_:-]+)\.(\w+)=([01])", word)) and found[2] in OF_A_REPOSITORY:
                self.unsigned |= {found[1]} if (found[2], found[3]) == ("gpgcheck", "0") else set()
            elif word.startswith("--setopt=") and word[9:].partition("=")[0] in SETTINGS and word[9:].partition("=")[2]:
                pass
            elif word.startswith("-"):
                store.unknown("dnf", *words)
            else:
                self.words.append(word)
        self.repositories = "*" not in self.disabled or bool(self.paths)


def has_versionlock() -> bool:
    return bool(rpm.matches(PLUGIN, rpm.database()))


def available(options: Options) -> dict[Path, dict[str, Any]]:
    """The packages of the repository; without one there is no network."""
    found: dict[Path, dict[str, Any]] = {}
    for name, folder in options.paths.items():
        if not (folder / "repodata/repomd.xml").is_file():
            store.stop(f"Error: Failed to download metadata for repo '{name}': Cannot download repomd.xml: Curl error (37)")
        found |= {path: rpm.opened(path) for path in sorted(folder.glob("*.rpm"))}
    if "*" in options.disabled:
        return found
    if not REPOSITORY.is_dir():
        store.stop(
            "Errors during downloading metadata for repository 'baseos':\n"
            "  - Curl error (6): Couldn't resolve host name for https://mirrors.example/baseos [Could not resolve host: mirrors.example]\n"
            "Error: Failed to download metadata for repo 'baseos': Cannot prepare internal mirrorlist: Curl error (6): Couldn't resolve host name"
        )
    return found | {path: rpm.opened(path) for path in sorted(REPOSITORY.glob("*.rpm"))}


def locked(package: dict[str, Any], options: Options) -> bool:
    """Whether versionlock keeps this package from being the one that is installed."""
    if "versionlock" in options.without or not has_versionlock():
        return False
    entries = [entry for entry in store.read("versionlock", []) if entry.startswith(f"{package['name']}-")]
    return bool(entries) and not any(fnmatch.fnmatch(lock_of(package), entry) for entry in entries)


def wanted(options: Options, words: list[str]) -> dict[Path, dict[str, Any]]:
    """The files that the words name; names come from the repository."""
    chosen: dict[Path, dict[str, Any]] = {}
    for word in words:
        if word.endswith(".rpm"):
            if not Path(word).is_file():
                store.stop(f"Can not load RPM file: {word}.\nCould not open: {word}")
            chosen[Path(word)] = rpm.opened(word)
            continue
        if not options.repositories:
            store.stop('Error: There are no enabled repositories in "/etc/yum.repos.d", "/etc/yum/repos.d", "/etc/distro.repos.d".')
        candidates = {path: one for path, one in available(options).items() if rpm.matches(word, [one]) or store.satisfied(word, [one])}
        candidates = {path: one for path, one in candidates.items() if not locked(one, options)}
        if candidates:
            newest = max(candidates.items(), key=lambda item: Ordered(store.evr(item[1])))
            chosen[newest[0]] = newest[1]
        elif not store.satisfied(word, rpm.database()):
            store.stop(f"No match for argument: {word}\nError: Unable to find a match: {word}")
    return chosen


class Ordered(tuple[str, str, str]):
    """(epoch, version, release) in rpm's order."""

    __slots__ = ()

    def __lt__(self, other: Any) -> bool:
        return store.compare(tuple(self), tuple(other)) < 0

    def __gt__(self, other: Any) -> bool:
        return store.compare(tuple(self), tuple(other)) > 0


def install(options: Options, words: list[str]) -> int:
    """All or nothing: what is needed has to be there or among the files, and nothing may conflict."""
    if not words:
        store.stop(
            "usage: dnf install [-c [config file]] ... PACKAGE [PACKAGE ...]\ndnf install: error: the following arguments are required: PACKAGE",
            1,
        )
    installed = rpm.database()
    chosen = wanted(options, words)
    pool = available(options) if options.paths or (options.repositories and REPOSITORY.is_dir()) else {}
    for path, package in list(chosen.items()):
        if any(store.nevra(package) == store.nevra(one) for one in installed):
            print(f"Package {store.nevra(package)} is already installed.")
            del chosen[path]
        elif locked(package, options):
            store.stop(f"Error: \n Problem: conflicting requests\n  - package {store.nevra(package)} is filtered out by exclude filtering")
    problems = resolve(chosen, pool, installed)
    checked = {folder for name, folder in options.paths.items() if name not in options.unsigned}
    if not problems and any(path.parent in checked for path in chosen):  # what a test makes has no signature
        store.stop("Error: GPG check FAILED")
    if problems:
        store.stop(
            "Error: \n"
            + "\n".join(f" Problem {number}: {text}" for number, text in enumerate(problems, 1))
            + "\n(try to add '--skip-broken' to skip uninstallable packages)"
        )
    if not chosen:
        print("Dependencies resolved.\nNothing to do.\nComplete!")
        return 0
    for package in chosen.values():
        print(
            f" {package['name']:<24} {package['arch']:<8} {':'.join(filter(None, (str(package['epoch'] or ''), package['version'])))}-{package['release']}  @commandline"
        )
    if not options.yes:
        print("Is this ok [y/N]: ", end="")
        store.stop("Operation aborted.")
    for package in chosen.values():
        store.note("transactions", f"install {store.nevra(package)}")
    rpm.install(chosen)
    print("Complete!")
    return 0


def resolve(chosen: dict[Path, dict[str, Any]], pool: dict[Path, dict[str, Any]], installed: list[dict[str, Any]]) -> list[str]:
    """Adds what the chosen ones need from *pool*; what then is wrong."""
    while True:
        new = {package["name"] for package in chosen.values()}
        after = [package for package in installed if package["name"] not in new] + list(chosen.values())
        lacking = [(package, need) for package in after for need in package["requires"] if not store.satisfied(need, after)]
        helpers = [(path, one) for _, need in lacking for path, one in pool.items() if path not in chosen and store.satisfied(need, [one])]
        if not helpers:
            break
        chosen[helpers[0][0]] = helpers[0][1]
    problems = [
        f"conflicting requests\n  - nothing provides {need} needed by {store.nevra(package)} from @commandline"
        if package in chosen.values()
        else f"problem with installed package {store.nevra(package)}\n  - nothing provides {need} any more"
        for package, need in lacking
    ]
    problems += [
        f"package {store.nevra(package)} conflicts with {other['name']} provided by {store.nevra(other)}"
        for package in after
        for other in after
        if other is not package and other["name"] in package.get("conflicts", [])
    ]
    twice = [name for name in new if sum(package["name"] == name for package in chosen.values()) > 1]
    problems += [f"cannot install both versions of {name} from @commandline" for name in twice]
    return problems


# --- versionlock ----------------------------------------------------------------------------------------------------------------------


def lock_of(package: dict[str, Any]) -> str:
    return f"{package['name']}-{package['epoch'] or 0}:{package['version']}-{package['release']}.*"


def versionlock(options: Options, words: list[str]) -> int:
    if not has_versionlock() or "versionlock" in options.without:
        store.stop(
            "No such command: versionlock. Please use /usr/bin/dnf --help\nIt could be a DNF plugin command, try: \"dnf install 'dnf-command(versionlock)'\""
        )
    verb, names = (words or ["list"])[0], words[1:]
    if options.repositories and not options.cache:
        available(options)
    entries = store.read("versionlock", [])
    if verb == "list" and not names:
        print("".join(f"{entry}\n" for entry in entries), end="")
    elif verb == "add" and names:
        for name in names:
            found = rpm.matches(name, rpm.database())
            if not found:
                store.stop(f"Error: No package found for: {name}")
            for package in found:
                if lock_of(package) in entries:
                    print(f"Package already locked in equivalent form: {store.nevra(package)}")
                else:
                    print(f"Adding versionlock on: {lock_of(package)}")
                    entries.append(lock_of(package))
        store.write("versionlock", entries)
    elif verb == "delete" and names:
        going = [entry for entry in entries if entry in names or entry.rsplit("-", 2)[0] in names]
        if not going:
            store.stop("Error: No matching entries in the lock list") if not options.quiet else sys.exit(1)
        print("".join(f"Deleting versionlock for: {entry}\n" for entry in going), end="")
        store.write("versionlock", [entry for entry in entries if entry not in going])
    else:
        store.unknown("dnf versionlock", *words)
    return 0


def main(words: list[str]) -> int:
    options = Options(words)
    if not options.words:
        store.unknown("dnf", *words)
    verb, rest = options.words[0], options.words[1:]
    if verb == "versionlock":
        with store.alone():
            return versionlock(options, rest)
    if verb != "install":
        store.unknown("dnf", *words)
    if os.geteuid() != 0:
        store.stop("Error: This command has to be run with superuser privileges (under the root user on most systems).")
    with store.alone():
        return install(options, rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
