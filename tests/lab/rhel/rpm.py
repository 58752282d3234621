# ruff: noqa: T201 (a command prints)
"""``rpm`` of a RHEL-like host, and the database of what is installed. See ``packages`` for what an "rpm" file of the lab is."""

from __future__ import annotations

import contextlib
import grp
import hashlib
import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import store

Package = dict[str, Any]


def database() -> list[Package]:
    return store.read("rpmdb", [])


def opened(path: str | Path) -> Package:
    """The description in an "rpm" file; ends the command as rpm does where there is none."""
    try:
        with tarfile.open(path) as archive:
            member = archive.extractfile("rpm.json")
            assert member is not None
            return json.loads(member.read())
    except FileNotFoundError:
        store.stop(f"error: open of {path} failed: No such file or directory")
    except (tarfile.TarError, KeyError, OSError):
        store.stop(f"error: {path}: not an rpm package (or package manifest): ")


def matches(word: str, packages: Iterable[Package]) -> list[Package]:
    """Installed packages that *word* names: NAME, NAME-VERSION, NAME-VERSION-RELEASE, each with or without .ARCH."""
    found = []
    for package in packages:
        names = [package["name"], f"{package['name']}-{package['version']}", f"{package['name']}-{package['version']}-{package['release']}"]
        if word in names or word in [f"{name}.{package['arch']}" for name in names]:
            found.append(package)
    return found


def formatted(text: str, package: Package) -> str:
    """A query format filled in."""
    values = {key.upper(): str(package[key]) for key in ("name", "version", "release", "arch")}
    values |= {"EPOCH": str(package["epoch"]) if package["epoch"] else "(none)", "EPOCHNUM": str(package["epoch"] or 0)}
    values["NVRA"] = store.nevra(package, epoch=False)

    def tag(match: re.Match[str]) -> str:
        name = match[1].upper().removeprefix("RPMTAG_")
        if name not in values:
            store.stop(f"error: incorrect format: unknown tag: {match[1]!r}")
        return values[name]

    return re.sub(r"%\{(\w+)\}", tag, text).replace("\\n", "\n").replace("\\t", "\t")


# --- changing the host ----------------------------------------------------------------------------------------------------------------


def tell(*words: str) -> None:
    """Runs a program of the host; not where a test has another root."""
    if Path("/") == store.ROOT:
        subprocess.run(words, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def digest(path: Path) -> str:
    if path.is_symlink():
        return f"-> {path.readlink()}"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def units(package: Package) -> list[str]:
    return [
        path.rpartition("/")[2]
        for path in package["files"]
        if re.fullmatch(r"/usr/lib/systemd/system/[^/@]+\.(service|socket|timer)", path)
    ]


def accounts(package: Package) -> None:
    """The groups and users that its %pre makes; rpm never removes them again."""
    for group in package.get("groups", []):
        tell("groupadd", "--force", "--system", group)
    for user, home in package.get("users", {}).items():
        tell("useradd", "--system", "--no-create-home", "--user-group", "--home-dir", home, "--shell", "/sbin/nologin", user)


def folder(path: Path, made: list[str]) -> None:
    """Makes a directory and what is missing above it, and writes down which."""
    if not path.is_dir():
        folder(path.parent, made)
        path.mkdir(mode=0o755)
        made.append("/" + str(path.relative_to(store.ROOT)))


def unpack(path: Path, package: Package, former: Package | None) -> None:
    """Lays the files; a configuration file that was changed on the host stays, and ours lies beside it (%config(noreplace))."""
    accounts(package)
    made: list[str] = store.read("folders", [])
    with tarfile.open(path) as outer:
        data = outer.extractfile("data.tar")
        assert data is not None
        with tarfile.open(fileobj=data) as archive:
            for member in archive:
                target = store.ROOT / member.name
                if member.isdir():
                    folder(target, made)
                    own(target, member)
                    continue
                name = f"/{member.name}"
                if name.startswith("/etc/") and os.path.lexists(target):
                    was = (former or {"files": {}})["files"].get(name)
                    if digest(target) == package["files"][name]:
                        continue
                    if digest(target) != was:
                        print(f"warning: {name} created as {name}.rpmnew", file=sys.stderr)
                        target = target.with_name(target.name + ".rpmnew")
                folder(target.parent, made)
                new = target.with_name(f".{target.name}.lab-rpm")
                new.unlink(missing_ok=True)
                if member.issym():
                    new.symlink_to(member.linkname)
                else:
                    content = archive.extractfile(member)
                    assert content is not None
                    with new.open("wb") as file:
                        shutil.copyfileobj(content, file)
                    new.chmod(member.mode)
                    own(new, member)
                new.replace(target)
    store.write("folders", made)


def own(path: Path, member: tarfile.TarInfo) -> None:
    if os.geteuid() == 0 and Path("/") == store.ROOT:
        try:
            os.chown(path, pwd.getpwnam(member.uname).pw_uid, grp.getgrnam(member.gname).gr_gid)
        except KeyError:
            os.chown(path, 0, 0)
        path.chmod(member.mode)


def install(files: dict[Path, Package]) -> None:
    """The transaction itself: checked before, by dnf."""
    for path, package in files.items():
        installed = database()
        former = next((one for one in installed if one["name"] == package["name"]), None)
        unpack(path, package, former)
        if former is not None:
            remove_files(former, keep=set(package["files"]))
        store.write("rpmdb", [one for one in installed if one["name"] != package["name"]] + [package])
    tell("ldconfig")
    tell("systemctl", "daemon-reload")  # a file trigger of systemd's package; presets leave what comes disabled
    enabled = [unit for package in files.values() for unit in units(package) if unit in package.get("preset", [])]
    if enabled:
        tell("systemctl", "enable", *enabled)


def remove_files(package: Package, keep: set[str]) -> None:
    """Takes files away that nothing else has, but those of *keep*; what was changed below /etc is saved."""
    others = {path for one in database() if one["name"] != package["name"] for path in one["files"]}
    for name, was in package["files"].items():
        target = store.ROOT / name.lstrip("/")
        if name in keep or name in others or not os.path.lexists(target) or (target.is_dir() and not target.is_symlink()):
            continue
        if name.startswith("/etc/") and digest(target) != was:
            print(f"warning: {name} saved as {name}.rpmsave", file=sys.stderr)
            target.replace(target.with_name(target.name + ".rpmsave"))
        else:
            target.unlink()


def erase(words: list[str]) -> int:
    """``rpm -e``: refuses as a whole when a name isn't installed or something that stays needs one of them."""
    installed = database()
    unknown = [word for word in words if not matches(word, installed)]
    if unknown:
        for word in unknown:
            print(f"error: package {word} is not installed", file=sys.stderr)
        return len(unknown)
    going = [package for word in words for package in matches(word, installed)]
    staying = [package for package in installed if package not in going]
    failed = [
        f"\t{requirement} is needed by (installed) {store.nevra(package, epoch=False)}"
        for package in staying
        for requirement in package["requires"]
        if not store.satisfied(requirement, staying) and store.satisfied(requirement, installed)
    ]
    if failed:
        print("error: Failed dependencies:\n" + "\n".join(failed), file=sys.stderr)
        return len(words)
    for package in going:
        if names := units(package):  # %systemd_preun
            tell("systemctl", "--no-reload", "disable", "--now", *names)
        remove_files(package, keep=set())
        store.write("rpmdb", [one for one in database() if one != package])
    owned = {path for one in database() for path in one.get("folders", [])}
    for name in sorted(set(store.read("folders", [])) - owned, key=len, reverse=True):
        with contextlib.suppress(OSError):  # a file of somebody else is in it
            (store.ROOT / name.lstrip("/")).rmdir()
    tell("ldconfig")
    tell("systemctl", "daemon-reload")
    return 0


# --- queries --------------------------------------------------------------------------------------------------------------------------


def lua(text: str) -> int:
    """``--eval`` of the one macro that the scripts expand."""
    match = re.fullmatch(r"%\{lua: ?print\(rpm\.vercmp\((['\"])(.*?)\1, ?(['\"])(.*?)\3\)\)\}", text)
    if match is None:
        store.unknown("rpm", "--eval", text)
    print(store.vercmp(match[2], match[4]))
    return 0


def asked(words: list[str]) -> tuple[set[str], list[str], str]:
    """The options, the names and the format of a query."""
    options, names, text = set(), [], "%{NVRA}\\n"
    while words:
        word = words.pop(0)
        if word in {"--qf", "--queryformat"} and words:
            text = words.pop(0)
        elif re.fullmatch("-q[pa]*", word):
            options |= set(word[2:])
        elif word in {"--whatprovides", "--quiet", "--nosignature"}:
            options.add(word)
        elif word.startswith("-"):
            store.unknown("rpm -q", word)
        else:
            names.append(word)
    if not names and "a" not in options:
        store.stop("rpm: no arguments given for query")
    return options, names, text


def query(words: list[str]) -> int:
    """``rpm -q``: the exit status is the number of words that name nothing."""
    options, names, text = asked(words)
    missing, out = 0, []
    if "a" in options:
        out = [formatted(text, package) for package in database() if not names or package["name"] in names]
        names = []
    for name in names:
        if "p" in options:
            if "--nosignature" not in options:
                print(f"warning: {name}: Header V4 RSA/SHA256 Signature, key ID 350d275d: NOKEY", file=sys.stderr)
            found = [opened(name)]
        elif "--whatprovides" in options:
            found = [package for package in database() if any(provided == name for provided, _ in store.capabilities(package))]
        else:
            found = matches(name, database())
        if not found:
            missing += 1
            out.append(f"no package provides {name}\n" if "--whatprovides" in options else f"package {name} is not installed\n")
        out += [formatted(text, package) for package in found]
    if "--quiet" not in options:
        print("".join(out), end="")
    return min(missing, 255)


def main(words: list[str]) -> int:
    if words[:1] == ["--eval"] and len(words) == 2:
        return lua(words[1])
    if words and re.fullmatch("-q[pa]*", words[0]):
        return query(words)
    if words[:1] == ["-e"] and len(words) > 1 and not any(word.startswith("-") for word in words[1:]):
        if os.geteuid() != 0:
            store.stop("error: can't create transaction lock on /var/lib/rpm/.rpm.lock (Permission denied)")
        with store.alone():
            return min(erase(words[1:]), 255)
    return store.unknown("rpm", *words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
