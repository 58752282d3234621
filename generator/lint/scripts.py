"""SCR: the scripts by which keepalived learns whether its host is well."""

import re
from collections.abc import Iterator
from itertools import pairwise
from posixpath import basename

from generator.handwritten import File, Files, Node, Word
from generator.handwritten.vrrp import calls
from generator.lint import Found, file_rule
from generator.wording import said

_NAMED = re.compile(r"check|chk|health|alive")
# What no health check does: a script with one of these puts a host up.
_INSTALLS = frozenset(("kubeadm", "dnf", "yum", "apt", "apt-get", "zypper", "install", "useradd", "tar"))
_SERVICE_VERBS = frozenset(("stop", "start", "restart", "try-restart", "reload-or-restart", "force-stop", "kill"))
_ENDERS = frozenset(("kill", "pkill", "killall", "killall5"))


def _health_scripts(files: Files, *, notified: bool = False) -> Iterator[tuple[File, Node]]:
    """
    The scripts that a ``vrrp_script`` names (or, *notified*, a notify line); where no such line is there, what is called a check and
    speaks of keepalived.
    """
    seen: set[str] = set()
    for call in calls(files):
        if (call.line == "script" or (notified and call.line != "notify_stop")) and call.script.source.name not in seen:
            seen.add(call.script.source.name)
            yield call.script, call.root
    configured = {file.host for file, root in files.of("keepalived") if any(True for _ in root.walk("vrrp_script"))}
    for file, root in files.of("script"):
        alone = file.host not in configured and file.source.name not in seen
        if alone and _NAMED.search(basename(file.path)) and "keepalived" in file.source.text and not any(root.all(*_INSTALLS)):
            yield file, root


def _service(node: Node) -> tuple[str, Word] | None:
    """Verb and unit of a command that starts or stops a service: ``systemctl stop nginx``, ``service nginx stop``, an init script."""
    words = [word for word in node.args if not word.startswith("-")]
    program = basename(node.name)
    if program in ("timeout", "su") and len(words) > 1:
        return _service(Node(words[1], tuple(words[2:])))
    if program == "systemctl" and len(words) > 1 and words[0] in _SERVICE_VERBS:
        return str(words[0]), words[1]
    if program in ("service", "rc-service", "invoke-rc.d") and len(words) > 1 and words[1] in _SERVICE_VERBS:
        return str(words[1]), words[0]
    if node.name.startswith("/etc/init.d/") and words and words[0] in _SERVICE_VERBS:
        return str(words[0]), node.name
    return None


def _stops_keepalived(node: Node) -> bool:
    service = _service(node)
    if service is not None:
        return service[0] != "start" and basename(service[1]).removesuffix(".service") == "keepalived"
    # Signal 0 only asks.
    asks = any(word in ("-0", "-l") for word in node.args) or "0" in node.args
    return basename(node.name) in _ENDERS and not asks and any("keepalived" in word for word in node.args)


@file_rule("SCR001", "error")
def stops_keepalived(files: Files) -> Iterator[Found]:
    """
    A health script stops keepalived.

    Why it hurts: nothing starts it again: once each host has failed once, nobody holds the VIP, and the cluster is gone though all its
    parts work.

    Example: `service keepalived stop` where nginx doesn't answer, as in the origin.

    Use instead: `exit 1`: keepalived gives the VIP up by itself, and takes part again as soon as the script succeeds.

    Source: keepalived.conf(5), *vrrp_script*; checklist row 21; facts 4.3.
    """
    for _, root in _health_scripts(files, notified=True):
        for node in root.children or ():
            if _stops_keepalived(node):
                yield Found(node.name, "script stops keepalived, which nobody starts again", "end with exit 1 instead")


@file_rule("SCR002", "warning")
def changes_services(files: Files) -> Iterator[Found]:
    """
    A health script starts or stops a service.

    Why it hurts: it runs each second: it fights with systemd and with the administrator who has stopped the service, and hides that it
    died.

    Example: `service nginx start` in the check, as in the origin.

    Use instead: `Restart=on-failure` in a drop-in of the service; the script only looks.

    Source: checklist row 20; systemd.service(5), *Restart*.
    """
    for _, root in _health_scripts(files):
        for node in root.children or ():
            service = _service(node)
            if service is not None and not _stops_keepalived(node) and basename(service[1]).removesuffix(".service") != "keepalived":
                yield Found(
                    node.name,
                    said("health script runs {verb} for {unit}", verb=service[0], unit=basename(service[1])),
                    "leave it to systemd with Restart=on-failure",
                )


@file_rule("SCR003", "warning")
def counts_processes(files: Files) -> Iterator[Found]:
    """
    A health script looks for a name in the list of processes.

    Why it hurts: `vim nginx.conf` is a hit and so is a zombie; an nginx that hangs, or listens on nothing, counts as well.

    Example: `ps -ef | grep nginx | grep -v grep`, as in the origin.

    Use instead: ask the service: `curl --max-time 2` or a connection to its port.

    Source: checklist row 19; ShellCheck SC2009; acassen/keepalived#1152.
    """
    for _, root in _health_scripts(files):
        nodes = root.children or ()
        for node, after in pairwise(nodes):
            piped = any(True for _ in node.all("|"))
            if basename(node.name) == "ps" and piped and basename(after.name) in ("grep", "egrep", "fgrep", "awk", "gawk", "rg"):
                yield Found(node.name, "the list of processes doesn't say whether a service answers", "ask the service itself")


@file_rule("SCR004", "error")
def own_number(files: Files) -> Iterator[Found]:
    """
    A filter by the script's own process number.

    Why it hurts: the number is a piece of text for grep: script 12 hides every line with a 12 in it, process numbers and times too, and
    nginx seems dead while it runs.

    Example: `egrep -cv "grep|$$"`, as in the origin.

    Use instead: ask the service; or `pgrep -x nginx`, which doesn't find itself.

    Source: checklist row 19 (measured: scripts 9, 12, 23, 41 and 412 count no nginx with number 4123).
    """
    for _, root in files.of("script"):
        for node in root.walk("grep", "egrep", "fgrep"):
            for word in node.args:
                if re.search(r"(^|[|(])\$\$($|[|)])", word) and ("v" in "".join(a for a in node.args if re.match(r"-\w", a))):
                    yield Found(word, "$$ hides every line that holds these digits", "ask the service itself, or use pgrep -x")


@file_rule("SCR005", "info")
def unbounded_request(files: Files) -> Iterator[Found]:
    """
    A request without a time limit in a health script.

    Why it hurts: curl waits for minutes on a service that hangs; only keepalived's timeout ends it, and then nothing says why.

    Example: `curl -sf http://127.0.0.1:16444/`.

    Use instead: `curl --max-time 2`, `wget -T 2 -t 1`, `nc -w 2`, shorter than the timeout of the `vrrp_script`.

    Source: curl(1), *--max-time* (no limit by default).
    """
    limits = {
        "curl": r"-\w*m\d*$|--max-time|--connect-timeout|-K|--config",
        "wget": r"-\w*T|--timeout|--connect-timeout|--read-timeout",
        "nc": r"-\w*w",
        "ncat": r"-\w*w|--wait",
    }
    for _, root in _health_scripts(files):
        for node in root.children or ():
            limit = limits.get(basename(node.name))
            if limit is not None and not any(re.match(limit, word) or word.startswith("$") for word in node.args):
                yield Found(
                    node.name, said("{program} has no time limit", program=node.name), "give it one, shorter than the script's timeout"
                )


@file_rule("SCR006", "error")
def no_interpreter(files: Files) -> Iterator[Found]:
    """
    A health script without a first line that names its shell.

    Why it hurts: the kernel can't start it, and keepalived takes that for success: the check never fails.

    Example: a script that begins with `curl -sf ...`.

    Use instead: `#!/bin/sh` or `#!/bin/bash` as the very first line.

    Source: execve(2), ENOEXEC; keepalived 2.2.7, measured: "VRRP_Script succeeded" for a script that never ran.
    """
    for call in calls(files):
        if call.line == "script" and not call.script.source.text.startswith("#!"):
            first = next(iter(call.root.children or ()), None)
            if first is not None:
                yield Found(
                    first.name,
                    "script has no #! line: keepalived can't run it and counts a success",
                    "write #!/bin/sh into its first line",
                    related=(call.word.related("keepalived runs it here"),),
                )


@file_rule("SCR007", "error")
def never_fails(files: Files) -> Iterator[Found]:
    """
    A health script that can't fail.

    Why it hurts: its exit status is all that keepalived looks at; a script that always ends with 0 never gives the VIP up.

    Example: the origin's script, which stops keepalived in place of `exit 1`.

    Use instead: `exit 1` where the service doesn't answer.

    Source: keepalived.conf(5), SCRIPTS (b); checklist row 22.
    """
    for file, root in _health_scripts(files):
        nodes = root.children or ()
        stop = next((node for node in nodes if _stops_keepalived(node)), None)
        explicit = [node for node in nodes if node.name in ("exit", "return")]
        fails = any(node.value is not None and node.value != "0" for node in explicit) or any(node.value is None for node in explicit)
        otherwise = any(node.name in ("exec", "false", "trap", ".", "source") or (node.name == "set" and node.args) for node in nodes)
        # Only where stopping keepalived stands for the exit status, and the end is a branch or that command.
        ended = file.source.text.rstrip().rpartition("\n")[2].strip() in ("fi", "exit 0", "exit") or (nodes and nodes[-1] is stop)
        if stop is not None and ended and not fails and not otherwise and not file.source.text.startswith(("#!/bin/bash -", "#!/bin/sh -")):
            yield Found(
                stop.name,
                "script ends with 0 whatever it finds",
                "end with exit 1 where the service doesn't answer",
            )
