"""UNT: systemd units and drop-ins."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from generator.handwritten import File, Files, Node, Word
from generator.handwritten.kubeadm import minors
from generator.handwritten.units import effective
from generator.lint import Found, essay, file_rule
from generator.wording import said

essay(
    "UNT001",
    """A line of a unit that systemd can't read.

    Why it hurts: an assignment outside of a section, or a line without `=`, is passed over with a line in the journal; a section without
    its bracket makes systemd refuse the whole unit.

    Example: a drop-in with `KillMode=mixed` alone, without `[Service]` above it.

    Use instead: `[Service]`, then the assignments; `systemd-analyze verify UNIT` shows such lines (its exit status doesn't).

    Source: systemd.syntax(7); systemd 252, conf-parser.c.
    """,
)

_SECTIONS = frozenset(
    ("Unit", "Install", "Service", "Socket", "Timer", "Path", "Mount", "Automount", "Swap", "Slice", "Scope", "Target", "Device")
)
_OF_UNIT = frozenset((
    "After", "Before", "Requires", "Wants", "BindsTo", "PartOf", "Upholds", "Conflicts", "Description", "Documentation", "OnFailure",
    "StartLimitIntervalSec", "DefaultDependencies", "Requisite",
))  # fmt: skip
_OF_SERVICE = frozenset((
    "ExecStart", "ExecStartPre", "ExecStartPost", "ExecReload", "ExecStop", "ExecStopPost", "Restart", "RestartSec", "KillMode", "Type",
    "User", "Group", "Environment", "EnvironmentFile", "LimitNOFILE", "TimeoutStopSec", "TimeoutStartSec", "TimeoutSec", "PIDFile",
    "KillSignal", "WorkingDirectory", "Delegate", "OOMScoreAdjust", "TasksMax", "RuntimeDirectory", "NoNewPrivileges", "PrivateTmp",
))  # fmt: skip
_OF_INSTALL = frozenset(("WantedBy", "RequiredBy", "Alias", "Also", "DefaultInstance"))
_VALUES = {
    "KillMode": frozenset(("control-group", "mixed", "process", "none")),
    "Restart": frozenset(("no", "always", "on-success", "on-failure", "on-abnormal", "on-abort", "on-watchdog")),
    "Type": frozenset(("simple", "exec", "forking", "oneshot", "dbus", "notify", "notify-reload", "idle")),
}
# Services whose unit, from whatever package, has an ExecStart of its own and is no oneshot.
_LONG_RUNNING = frozenset(("kubelet", "nginx", "keepalived", "containerd", "docker", "cri-docker", "crio", "etcd", "haproxy"))


def _service(file: File) -> tuple[str, bool]:
    """The service that *file* is about, without its ending, and whether it is a drop-in; empty where the place doesn't say."""
    path = PurePosixPath(file.source.name)
    parent = path.parent.name
    if parent.endswith(".service.d"):
        return parent.removesuffix(".service.d"), True
    return path.name.removesuffix(".service") if path.name.endswith(".service") else "", False


def _assignments(root: Node) -> Iterator[tuple[Node, Node]]:
    """Each assignment with its section."""
    for section in root.children or ():
        for node in section.children or ():
            yield section, node


@file_rule("UNT002", "error")
def unknown_section(files: Files) -> Iterator[Found]:
    """
    A section that systemd doesn't know.

    Why it hurts: systemd passes over the section with all that stands in it, and says so in the journal only; case matters.

    Example: `[service]`, `[Services]`.

    Use instead: `[Service]`; a section of your own begins with `X-`.

    Source: systemd.unit(5); systemd-analyze verify ("Unknown section ... Ignoring").
    """
    for _, root in files.of("unit"):
        for section in root.children or ():
            if section.name not in _SECTIONS and not section.name.startswith(("X-", "[")):
                message = said("systemd has no section [{section}]", section=section.name[:60])
                yield Found(section.name, message, "write [Unit], [Service] or [Install]")


@file_rule("UNT003", "error")
def wrong_section(files: Files) -> Iterator[Found]:
    """
    A setting in a section that doesn't have it.

    Why it hurts: systemd passes over it and says so in the journal only: the service runs with the old setting.

    Example: `KillMode=mixed` below `[Unit]`, `StartLimitIntervalSec=0` or `After=nginx.service` below `[Service]`.

    Use instead: the section of the manual page that describes it.

    Source: systemd.unit(5), systemd.service(5), systemd.kill(5); systemd-analyze verify ("Unknown key ... ignoring").
    """
    for _, root in files.of("unit"):
        for section, node in _assignments(root):
            key = node.name
            home = "Unit" if key in _OF_UNIT else "Service" if key in _OF_SERVICE else "Install" if key in _OF_INSTALL else ""
            # Sockets, mounts and the like share many settings with services.
            if home and section.name in ("Unit", "Service", "Install") and section.name != home:
                message = said("systemd has no {key} in [{section}]", key=key, section=section.name)
                yield Found(key, message, said("write it below [{section}]", section=home))


@file_rule("UNT004", "error")
def unknown_value(files: Files) -> Iterator[Found]:
    """
    A value that systemd doesn't know.

    Why it hurts: systemd passes over the line and says so in the journal only; `systemd-analyze verify` ends with 0.

    Example: `KillMode=controlgroup`, `Restart=on-fail`.

    Use instead: a value of the manual page, such as `KillMode=mixed`, `Restart=on-failure`.

    Source: systemd.kill(5), systemd.service(5); checklist row 26 (measured with systemd 252).
    """
    for _, root in files.of("unit"):
        for section, node in _assignments(root):
            known = _VALUES.get(node.name)
            value = node.value
            if section.name == "Service" and known and value and value not in known and "%" not in value:
                message = said("systemd knows no {key}={value}", key=node.name, value=value[:60])
                yield Found(value, message, said("write one of {values}", values=", ".join(sorted(known))))


@file_rule("UNT005", "error")
def second_command(files: Files) -> Iterator[Found]:
    """
    A second ExecStart for a service that can have one.

    Why it hurts: a drop-in adds to the unit's list; systemd refuses to start a service that isn't oneshot with two commands.

    Example: `ExecStart=/usr/bin/kubelet --v=4` as the first line of a drop-in for kubelet.service.

    Use instead: an empty `ExecStart=` above it, which takes the unit's own away.

    Source: systemd.service(5), *ExecStart*; systemd-analyze verify ("more than one ExecStart= setting").
    """
    for file, root in files.of("unit"):
        service, drop_in = _service(file)
        nodes = [node for section in root.all("Service") for node in section.children or ()]
        if not service or any(node.name == "Type" and node.value == "oneshot" for node in nodes):
            continue
        starts = [node for node in nodes if node.name == "ExecStart"]
        counted = effective(starts)
        reset = len(counted) < len(starts)
        adds = drop_in and counted and not reset and service in _LONG_RUNNING
        extra = counted[0] if adds else counted[1] if len(counted) > 1 else None
        if extra is not None:
            message = said("{service} gets a second ExecStart, and systemd refuses it", service=service[:60])
            yield Found(extra.name, message, "write an empty ExecStart= above it")


@file_rule("UNT006", "warning")
def copied_unit(files: Files) -> Iterator[Found]:
    """
    A whole unit in the place of the package's.

    Why it hurts: the file in /etc hides the package's unit for ever: what an update mends there never arrives, and nobody sees which line
    was meant.

    Example: /etc/systemd/system/keepalived.service, a copy with another KillMode.

    Use instead: a drop-in, /etc/systemd/system/keepalived.service.d/10-killmode.conf, with the one setting.

    Source: systemd.unit(5), *systemctl edit*; checklist row 26.
    """
    for file, root in files.of("unit"):
        if file.path in ("/etc/systemd/system/keepalived.service", "/etc/systemd/system/nginx.service"):
            start = next((node for _, node in _assignments(root) if node.name == "ExecStart"), None)
            if start is not None:
                message = said("{name} hides the unit of the package", name=PurePosixPath(file.path).name)
                yield Found(start.name, message, "keep what differs in a drop-in, and remove this file")


@file_rule("UNT007", "info")
def no_restart(files: Files) -> Iterator[Found]:
    """
    Nobody starts keepalived again when it has ended.

    Why it hurts: neither upstream's unit nor Debian's has Restart; after a crash the host never holds the VIP again, and once this has
    happened on each of them nobody does.

    Example: a drop-in for keepalived with KillMode alone.

    Use instead: `Restart=on-failure` with `RestartSec=1` in the drop-in.

    Source: acassen/keepalived, keepalived.service.in; systemd.service(5), *Restart*; checklist rows 21 and 26.
    """
    units = [(file, root) for file, root in files.of("unit") if _service(file)[0] == "keepalived"]
    restarted = {file.host for file, root in units for _, node in _assignments(root) if node.name == "Restart"}
    for host in dict.fromkeys(file.host for file, _ in units):
        places = [section.name for file, root in units if file.host == host for section in root.all("Service")]
        if places and host not in restarted:
            yield Found(places[0], "keepalived is not started again when it ends", "add Restart=on-failure and RestartSec=1")


# Flags of the kubelet that are gone, and the first minor without them.
_GONE = {
    "network-plugin": 24, "cni-bin-dir": 24, "cni-conf-dir": 24, "network-plugin-mtu": 24, "docker-endpoint": 24, "container-runtime": 27,
    "pod-infra-container-image": 35,
}  # fmt: skip
_FLAG = re.compile(r"--([a-z][a-z0-9-]{0,60})")


@file_rule("UNT008", "error")
def gone_flags(files: Files) -> Iterator[Found]:
    """
    The kubelet's unit has a flag that is gone.

    Why it hurts: the kubelet ends with "unknown flag", systemd starts it again for ever, and the node never registers.

    Example: `Environment="KUBELET_EXTRA_ARGS=--container-runtime=remote"` in a drop-in, gone in 1.27; `--network-plugin=cni`, in 1.24.

    Use instead: no flag; the runtime is kubeadm's criSocket, the network its own configuration in /etc/cni/net.d.

    Source: kubernetes/kubernetes#114017, #133779; KEP-2221 (the dockershim's flags went with it in 1.24).
    """
    # Without a version: what no kubelet since 1.28 takes.
    here = minors(files).get("", 28)
    for file, root in files.of("unit"):
        if _service(file)[0] != "kubelet":
            continue
        for _, node in _assignments(root):
            for flag in _flags(node):
                if here >= _GONE.get(flag, 999):
                    message = said("kubelet 1.{minor} and later refuse --{flag}", minor=_GONE[flag], flag=flag)
                    yield Found(node.value or node.name, message, "remove it")


def _flags(node: Node) -> list[str]:
    value: Word | None = node.value
    if node.name not in ("ExecStart", "Environment") or value is None:
        return []
    return list(dict.fromkeys(_FLAG.findall(value)))
