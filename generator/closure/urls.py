"""URLs, and other words that name a host: what would leave the cluster is an error; what people read in a comment is none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_address

from generator.closure.commands import code_of, every, parsed
from generator.closure.folders import Cluster
from generator.closure.needs import Use, Verdict, missing, provided
from generator.closure.shell import Lines
from generator.wording import said

_URL = re.compile(r"(?<![\w+.-])(?:https?|ftps?|git|oci|docker|ssh|rsync)://[^\s\"'`<>()\\|;,]{1,500}", re.IGNORECASE)
_SOCKET = re.compile(r"/dev/(?:tcp|udp)/[^\s\"'/]{1,255}/[^\s\"'<>;)]{1,10}")
# Names of a format, which nobody fetches.
_IDENTIFIER = re.compile(r"""["']?(?:\$schema|\$id|xmlns(?::\w+)?|Documentation|description)["']?\s*[:=][^#]*$""")
_HOST = re.compile(r"[a-z]+://(?:[^/@\s]*@)?(\[[0-9a-f:.%]*\]|[^/:?#]*)", re.IGNORECASE)
_BARE = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}(?::[0-9]+)?(?:/\S*)?", re.IGNORECASE)
_ADDRESS = re.compile(r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?::[0-9]+)?(?:/\S*)?|\[[0-9a-fA-F:.]+\](?::[0-9]+)?(?:/\S*)?")
# Whom nginx, chrony and the resolver are told to ask.
_PEER = re.compile(r"(?:^|[\s{;])(?:server|pool|peer|nameserver|resolver|proxy_pass|fastcgi_pass)[ \t]+([^\s;{}]+)")
_FETCHERS = frozenset(("curl", "wget", "git", "rsync", "scp", "sftp", "ssh", "nc", "ncat", "telnet", "ping", "ntpdate", "dig", "nslookup"))
# Options of curl that stand alone; behind any other the next word is its value.
_ALONE = re.compile(
    r"-[fsSLkgqIvOJ46#]+|-[a-zA-Z][0-9]+|--[\w-]+=.*|--(?:fail|silent|show-error|location|insecure|remote-name|quiet|no-verbose)"
)


def uses(path: str, text: str) -> Iterator[Use]:
    """Every URL of *text* outside comments, every literal host that a program which fetches is given, or a daemon is told to ask."""
    for number, line in enumerate(text.split("\n"), 1):
        if "://" not in line and "/dev/" not in line:
            continue
        end = comment_at(line)
        for match in (*_URL.finditer(line), *_SOCKET.finditer(line)):
            if match.start() < end and not _IDENTIFIER.search(line[max(0, match.start() - 200) : match.start()]):
                yield Use("url", match[0], path, number, match.start() + 1)
    yield from _fetched(path, text)
    if path.startswith("rootfs/"):
        yield from _asked(path, text)


def _fetched(path: str, text: str) -> Iterator[Use]:
    lines = Lines(text)
    for words, _, inside in every(parsed(code_of(path, text))):
        names = [word.text.rpartition("/")[2] for word in words]
        at = next((i for i, name in enumerate(names) if name in _FETCHERS), len(names))
        for before, word in zip(words[at:], words[at + 1 :], strict=False):
            free = not before.text.startswith("-") or _ALONE.fullmatch(before.text)
            if word.literal and ((free and _BARE.fullmatch(word.text)) or _ADDRESS.fullmatch(word.text)):
                yield Use("url", word.text, path, *lines.place(word.at if inside is None else inside))


def _asked(path: str, text: str) -> Iterator[Use]:
    for number, line in enumerate(text.split("\n"), 1):
        for match in _PEER.finditer(line[: comment_at(line)]):
            if _BARE.fullmatch(match[1]) or _ADDRESS.fullmatch(match[1]):
                yield Use("url", match[1], path, number, match.start(1) + 1)


def comment_at(line: str) -> int:
    """Where (from 0) the comment of *line* begins: at a ``#`` that begins a word outside quotes; its length where it has none."""
    if line.lstrip().startswith(("#", "!", ";")):
        return 0
    quotes, double, at = 0, 0, 0
    while (mark := line.find(" #", at)) >= 0:
        quotes += line.count("'", at, mark)
        double += line.count('"', at, mark)
        if quotes % 2 == 0 and double % 2 == 0:
            return mark
        at = mark + 1
    return len(line)


def host_of(url: str) -> str:
    """The host that *url* names, in lower case, without brackets and port; empty where it is made at run time."""
    if url.startswith("/dev/"):
        host = url.split("/")[3]
    elif found := _HOST.match(url):
        host = found[1].strip("[]")
    else:
        host = url[1:].partition("]")[0] if url.startswith("[") else re.split(r"[:/]", url)[0]
    return "" if any(mark in host for mark in "${}%*") else host.lower()


def judge(cluster: Cluster, use: Use) -> Verdict | None:
    """Whose the URL is; None for one that host.env or a variable makes."""
    host = host_of(use.name)
    if not host:
        return None
    try:
        address = ip_address(host)
    except ValueError:
        address = None
    if host == "localhost" or (address and (address.is_loopback or address.is_unspecified)):
        return provided(said("this host"))
    if host in cluster.names or str(address) in cluster.addresses or host.endswith((".svc", ".cluster.local")):
        return provided(said("the cluster itself"))
    if host in cluster.site:
        return provided(said("the site, as the inventory says"))
    return missing(
        said("{host} is neither of the cluster nor named in the inventory: it would be asked over the network", host=host),
        "carry what it gives in the payload, or take it out",
    )
