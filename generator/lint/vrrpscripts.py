"""KAD: the scripts that keepalived runs, as its configuration names them."""

import re
from collections.abc import Iterator
from posixpath import basename, dirname

from generator.handwritten import Files, Word, integer
from generator.handwritten.vrrp import calls, command, commands, complete, configurations, instances, weight_of
from generator.lint import Found, file_rule
from generator.wording import said

# What only a shell understands, outside of single quotes.
_SHELL = re.compile(r"(?:^|\s)(?:\|\|?|&&|\d?>>?|<|;)(?:\s|$)|;(?:\s|$)|\$\(|`|\w\|\s?\w")
# Where a service is ended, in one of the words that people use for it.
_STOPS_KEEPALIVED = re.compile(r"\b(?:stop|restart|kill|pkill|killall)\b.*\bkeepalived\b|\bkeepalived\b.*\b(?:stop|restart)\b")


@file_rule("KAD002", "warning")
def script_security(files: Files) -> Iterator[Found]:
    """
    Scripts run without enable_script_security.

    Why it hurts: keepalived runs them as root even where another user may change them; whoever can write the script is root within a
    second.

    Example: a `vrrp_script` and no `enable_script_security` in `global_defs`, as in the origin.

    Use instead: `enable_script_security` and `script_user root` in `global_defs`, the script and its folders writable by root alone.

    Source: keepalived.conf(5), *enable_script_security*; `keepalived -t` 2.2.7 says SECURITY VIOLATION and exits with 6.
    """
    for _, root in configurations(files):
        secured = any(True for node in root.all("global_defs") for _ in node.all("enable_script_security"))
        first = next(commands(root), None)
        if first is not None and not secured and complete(root):
            word = first[1].value or first[1].name
            yield Found(
                word,
                said("{script} runs without enable_script_security", script=next(iter(command(first[1])), "script")),
                "write enable_script_security and script_user root into global_defs",
            )


@file_rule("KAD004", "error")
def slow_script(files: Files) -> Iterator[Found]:
    """
    A health script sleeps longer than keepalived waits for it.

    Why it hurts: keepalived kills it at its timeout (its interval, where none is written; 1 s, where neither is) and takes that for a
    failure; the lines behind the sleep never run.

    Example: `sleep 2` in a script whose `vrrp_script` has neither `interval` nor `timeout`, as in the origin.

    Use instead: a check that only looks and answers at once; `fall` is there for patience.

    Source: keepalived.conf(5), *vrrp_script*: timeout; facts 4.3.
    """
    for call in calls(files):
        given = call.node.one("timeout") or call.node.one("interval")
        limit = _seconds(given.value if given else None) if given else 1.0
        sleeps = [node for node in call.root.all("sleep") if node.value is not None]
        total = sum(_seconds(node.value) or 0 for node in sleeps)
        if call.line == "script" and limit is not None and sleeps and total >= limit:
            yield Found(
                sleeps[0].name,
                said("script sleeps {total} s, and keepalived kills it after {limit} s", total=f"{total:g}", limit=f"{limit:g}"),
                "remove the sleep, or give the vrrp_script a longer timeout",
                related=((given.name if given else call.word).related("the time that it gets"),),
            )


def _seconds(word: Word | None) -> float | None:
    found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)([sm]?)", word or "")
    return float(found[1]) * (60 if found[2] == "m" else 1) if found else None


@file_rule("KAD005", "info")
def default_times(files: Files) -> Iterator[Found]:
    """
    A vrrp_script with none of its times.

    Why it hurts: the defaults are hard: it runs each second, is killed after one, and a single failure takes the VIP away.

    Example: `vrrp_script nginx { script "/etc/nginxkeepalived.sh" }` on three lines, as in the origin.

    Use instead: `interval`, `timeout`, `fall` and `rise` as the script needs them, such as 2, 2, 2 and 2.

    Source: keepalived.conf(5), *vrrp_script*; facts 4.2.
    """
    for _, root in files.of("keepalived"):
        for node in root.all("vrrp_script"):
            if node.one("script") and not any(node.all("interval", "timeout", "fall")):
                word = node.value or node.name
                yield Found(
                    word,
                    said("{script} runs each second, and one failure moves the VIP", script=word),
                    "write interval, timeout, fall and rise",
                )


@file_rule("KAD006", "error")
def weight_without_preemption(files: Files) -> Iterator[Found]:
    """
    A weight that can do nothing because of nopreempt.

    Why it hurts: a failing script with a weight lowers the priority, and with nopreempt nobody takes the VIP from a holder with a lower
    priority: it stays where nothing answers.

    Example: `weight -20` in the script and `nopreempt` in the instance.

    Use instead: `weight 0` (no weight): the holder goes to FAULT and gives the VIP up; or no `nopreempt`.

    Source: acassen/keepalived#2599 and #2483 (the maintainer); keepalived.conf(5), *nopreempt*.
    """
    for instance in instances(files):
        preempt = instance.node.one("nopreempt")
        if preempt is None or instance.word("state") == "MASTER":
            continue
        for name, (entry, script) in instance.tracked.items():
            weight = weight_of(entry, script)
            if weight is not None and integer(weight) not in (0, None):
                yield Found(
                    weight,
                    said("weight {weight} of {script} can't move the VIP with nopreempt", weight=weight, script=name),
                    "remove the weight, or nopreempt",
                    related=(preempt.name.related("nobody takes over from a running holder"),),
                )


@file_rule("KAD007", "warning")
def untracked_script(files: Files) -> Iterator[Found]:
    """
    A vrrp_script that no instance tracks.

    Why it hurts: keepalived doesn't even run it; the VIP stays on a host whose check would fail.

    Example: `vrrp_script nginx {...}`, and an instance without `track_script { nginx }`.

    Use instead: name it in the `track_script` of the instance, or remove it.

    Source: keepalived.conf(5), *track_script*.
    """
    for _, root in configurations(files):
        if not any(root.all("vrrp_instance")) or not complete(root):
            continue
        tracked = {str(word) for block in root.walk("track_script") for e in block.children or () for word in (e.name, *e.args)}
        for node in root.all("vrrp_script"):
            if node.value is not None and node.value not in tracked:
                yield Found(node.value, said("nobody tracks the script {script}", script=node.value), "name it in a track_script")


@file_rule("KAD008", "error")
def unknown_script(files: Files) -> Iterator[Found]:
    """
    A track_script that names no vrrp_script.

    Why it hurts: keepalived ignores the entry: the instance tracks nothing, and the VIP stays where nothing answers.

    Example: `track_script { chk_nginx }` where the script is called `check_nginx`.

    Use instead: the name of a `vrrp_script` of this configuration.

    Source: keepalived 2.2.7, measured: "track script chk_nginx not found, ignoring" (exit status 5 of `-t`).
    """
    for instance in instances(files):
        if instance.whole:
            for name, (entry, script) in instance.tracked.items():
                if script is None:
                    yield Found(entry.name, said("there is no vrrp_script {script}", script=name), "name one that is defined")


@file_rule("KAD013", "error")
def shell_syntax(files: Files) -> Iterator[Found]:
    """
    Shell syntax in a script line.

    Why it hurts: keepalived starts the first word as the program, without a shell; pipes, `&&` and `;` become arguments of it, and only its
    own exit status counts: the check succeeds whatever the rest would say.

    Example: `script "/usr/bin/true && /usr/local/bin/check"`.

    Use instead: a script file, or `/bin/sh -c '...'` with single quotes.

    Source: keepalived 2.2.7, measured: `/bin/true && /bin/false` succeeds; keepalived.conf(5), SCRIPTS.
    """
    for _, root in files.of("keepalived"):
        for _, line in commands(root):
            word = line.value
            text = re.sub(r"'[^']*'", "''", " ".join(line.args))
            found = _SHELL.search(text)
            if word is not None and found and not text.startswith("<"):
                sign = found[0].strip() or ";"
                yield Found(
                    word,
                    said("{sign} is an argument here: keepalived starts programs without a shell", sign=sign),
                    "put it into a script file",
                )


@file_rule("KAD019", "error")
def weight_range(files: Files) -> Iterator[Found]:
    """
    A script's weight outside of -253 to 253.

    Why it hurts: keepalived ignores the line, and the script has a weight of 0 or the one before.

    Example: `weight -300`.

    Use instead: no weight, with which a failing script gives the VIP up; else a number greater than the difference of the priorities.

    Source: keepalived 2.2.7, measured: "weight 300 must be in [-253, 253]" (exit status 5 of `-t`).
    """
    for _, root in files.of("keepalived"):
        lines = [line for node in root.walk("vrrp_script", "vrrp_track_process") for line in node.all("weight")]
        for line in lines:
            number = integer(line.value)
            if line.value is not None and number is not None and not -253 <= number <= 253:
                yield Found(line.value, said("weight {number} is not in -253 to 253", number=number), "remove it, or write a smaller one")


@file_rule("KAD021", "error")
def line_stops_keepalived(files: Files) -> Iterator[Found]:
    """
    keepalived is told to stop itself.

    Why it hurts: nothing starts it again: after the first failure of each host nobody is left to hold the VIP.

    Example: `notify_fault "/usr/bin/systemctl stop keepalived"`.

    Use instead: nothing: a host in FAULT holds no VIP, and takes part again when its script succeeds.

    Source: checklist row 21; keepalived.conf(5), *vrrp_script*.
    """
    for _, root in files.of("keepalived"):
        for _, line in commands(root):
            if line.value is not None and line.name != "notify_stop" and _STOPS_KEEPALIVED.search(" ".join(line.args)):
                yield Found(line.value, said("{line} stops keepalived itself", line=line.name), "remove it: FAULT gives the VIP up")


@file_rule("KAD022", "info")
def absent_script(files: Files) -> Iterator[Found]:
    """
    A script that is not among the files of its host.

    Why it hurts: where it is missing on the host, too, keepalived drops the check, and the VIP stays on a host where nothing answers.

    Example: `script "/etc/keepalived/check_nginx.sh"`, and only `check_haproxy.sh` stands there.

    Use instead: the path of the script as it is installed.

    Source: keepalived 2.2.7, measured: "Disabling track script" (exit status 5 of `-t`); facts 4.5.
    """
    for file, root in configurations(files):
        given = [other.path for other in files.files if other.host == file.host]
        for block, line in commands(root):
            path = next(iter(command(line)), "")
            # Only a folder of scripts that was handed over says that one of them is missing.
            beside = any(other.endswith((".sh", ".py")) and dirname(other) == dirname(path) for other in given)
            there = path in given or any(name.endswith(path) for name in files.skipped)
            if block.name == "vrrp_script" and line.value is not None and path.startswith("/") and beside and not there:
                yield Found(
                    line.value,
                    said("{script} is not among the files of {folder}", script=basename(path), folder=dirname(path)),
                    "see that it is on the host, with this name",
                )
