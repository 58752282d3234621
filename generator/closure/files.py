"""Files: paths that scripts, units and configurations name, and the row, step or package that puts something there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from generator.closure.commands import UNIT, Scripts
from generator.closure.folders import Folder, yaml
from generator.closure.needs import Use, Verdict, missing, provided
from generator.handwritten import Node, Word, keepalived, nginx, units
from generator.source import Source
from generator.wording import said

_NGINX = ("include", "load_module", "ssl_certificate", "ssl_certificate_key", "ssl_trusted_certificate")
_KEEPALIVED = ("script", "include", "misc_path", "notify", "notify_master", "notify_backup", "notify_fault", "notify_stop")
_AUTHORITY = re.compile(r"""^\s*["']?(?:ca|ca_file|cert|client|key)["']?\s*[=:]\s*\[?\s*["'](/[^"']+)["']""")
# Tables with a file of the folder in each row, and its column.
_TABLES = {"files.tsv": 0, "manifests/order.tsv": 1}
# Fields of kubeadm's and the kubelet's with a path, and the ends of flags that take one.
_PATHS = frozenset(
    ("kubeConfigPath", "directory", "caFile", "certFile", "keyFile", "clientCAFile", "tlsCertFile", "tlsPrivateKeyFile", "resolvConf")
)
_FLAGS = ("-file", "-config", "-config-file")
_MADE = frozenset(("DirectoryOrCreate", "FileOrCreate"))

# Beginning of a path: the package that brings it (the base system where that is empty), or who makes it.
_PACKAGES = {
    "/usr/lib64/nginx/modules/ngx_stream_module.so": "nginx-mod-stream",
    "/usr/lib/nginx/modules/ngx_stream_module.so": "libnginx-mod-stream",
    "/etc/nginx/": "nginx",
    "/etc/containerd/certs.d": "containerd.io containerd",
    "/etc/cni/net.d": "kubernetes-cni",
    "/opt/cni/bin": "kubernetes-cni",
}
_BASE = ("/etc/os-release", "/proc", "/sys", "/dev", "/run", "/var/run", "/var/log", "/var/lib/calico", "/lib/modules", "/usr/lib/modules",
    "/etc/ssl/certs", "/etc/pki", "/usr/share/ca-certificates", "/etc/localtime", "/etc/hosts")  # fmt: skip
_KUBEADM = ("/etc/kubernetes/pki", "/etc/kubernetes/manifests", "/etc/kubernetes/tmp", "/var/lib/etcd", "/var/lib/kubelet")
_KUBECONFIG = re.compile(r"/etc/kubernetes/[a-z-]+\.conf")


def uses(path: str, text: str) -> Iterator[Use]:
    """Every path, and every command of a unit, that the configuration at *path* names."""
    if path.startswith(("kubeadm/", "manifests/")) and path.endswith((".yaml", ".yml")):
        for document in yaml(path, text):
            yield from _document(path, document.tree)
    elif path in _TABLES:
        column = _TABLES[path]
        for number, line in enumerate(text.split("\n"), 1):
            fields = line.split("\t")
            if len(fields) > 1 and not line.startswith("#"):
                yield Use("file", fields[column], path, number, 1 + sum(len(field) + 1 for field in fields[:column]))
    elif path.startswith("rootfs/"):
        yield from _laid(path, text)


def _laid(path: str, text: str) -> Iterator[Use]:
    """Of a file that the host lays."""
    source = Source(path, text)
    if UNIT.fullmatch(path):
        yield from _unit(path, units.read(source)[0])
    elif path.startswith("rootfs/etc/nginx/"):
        yield from _words(path, nginx.read(source)[0].walk(*_NGINX))
    elif path.startswith("rootfs/etc/keepalived/") and path.endswith(".conf"):
        yield from _words(path, keepalived.read(source)[0].walk(*_KEEPALIVED))
    elif path.startswith("rootfs/etc/tmpfiles.d/"):
        yield from (Use("file", fields[6], path, number) for number, fields in _lines(text) if fields[0][0] == "C" and len(fields) > 6)
    else:
        for number, line in enumerate(text.split("\n"), 1):
            if found := _AUTHORITY.match(line):
                yield Use("file", found[1], path, number, found.start(1) + 1)


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip() and line.lstrip()[0] != "#":
            yield number, line.split()


def _use(kind: str, name: str, path: str, word: Word, *, guarded: bool = False) -> Use:
    at = word.spot.at
    return Use("command" if kind == "command" else "file", name, path, at.line, at.column, guarded)


def _unit(path: str, root: Node) -> Iterator[Use]:
    for section in root.children or ():
        for node in section.children or ():
            value = node.value
            if not value:
                continue
            first = value.split()[0]
            if node.name == "EnvironmentFile":
                yield _use("file", first.lstrip("-"), path, value, guarded=first.startswith("-"))


def _words(path: str, nodes: Iterable[Node]) -> Iterator[Use]:
    for node in nodes:
        if value := node.value:
            try:
                first = (shlex.split(value) or [""])[0]
            except ValueError:
                first = value.split()[0]
            if first.startswith("/"):
                yield _use("file", first, path, value)


def _document(path: str, tree: Any) -> Iterator[Use]:
    """Paths of the host in a document of kubeadm's, or in a manifest."""
    queue: list[tuple[Any, Any]] = [(tree, "")]
    while queue:
        value, key = queue.pop()
        if isinstance(value, list):
            queue += [(one, key) for one in value]
            continue
        if not isinstance(value, dict):
            continue
        for name, child in value.items():
            if isinstance(child, dict | list):
                queue.append((child, name))
            elif not isinstance(child, Word) or not child.startswith("/"):
                continue
            elif name in _PATHS and path.startswith("kubeadm/"):
                yield _use("file", child, path, child)
            elif (key == "hostPath" and name == "path") or name == "hostPath":
                made = str(value.get("type") or value.get("pathType") or "") in _MADE
                yield _use("file", child, path, child, guarded=made)
            elif key in ("extraArgs", "kubeletExtraArgs") and str(value.get("name", "") if name == "value" else name).endswith(_FLAGS):
                yield _use("file", child, path, child)


def made_by_tmpfiles(folder: Folder) -> Mapping[str, str]:
    """Paths that tmpfiles.d of the bundle makes, with the file that says so."""
    found = {}
    for source in folder.rows.values():
        if source.startswith("rootfs/etc/tmpfiles.d/"):
            for _, fields in _lines(folder.texts.get(source, "")):
                if len(fields) > 1:
                    found[fields[1]] = source
    return found


def made_by_steps(scripts: Scripts, paths: Iterable[str]) -> Mapping[str, str]:
    """Paths that the scripts at *paths* lay, with the script that does."""
    return {made: path for path in sorted(paths, reverse=True) for made in scripts.made(path)}


def judge(folder: Folder, use: Use, made: Mapping[str, str]) -> Verdict:
    """Who puts the file there; a relative path is one of the folder itself."""
    name = use.name
    if not name.startswith("/"):
        return _of_bundle(folder, name, guarded=use.guarded)
    if name in folder.rows or any(row.startswith(f"{name.rstrip('/')}/") for row in folder.rows):
        return provided(said("the bundle: {file}", file=folder.rows.get(name, f"rootfs{name}")))
    if name in made:
        return provided(said("made by {file}", file=made[name]))
    if use.guarded:
        return Verdict("optional", said("made, or done without, where it isn't there"))
    by = _by_others(folder, name)
    remedy = said("lay {path} in a step, or take it out", path=name)
    return provided(by) if by else missing(said("no row of files.tsv, no step and no package of this host puts it there"), remedy)


def _by_others(folder: Folder, name: str) -> str:
    """Who puts *name* there that is not the bundle; empty where nobody is known to."""
    if name.startswith(_KUBEADM) or _KUBECONFIG.fullmatch(name) or name == folder.get("ETCD_DATA_DIR"):
        return said("made by kubeadm or the kubelet")
    for beginning, packages in _PACKAGES.items():
        if name.startswith(beginning) and (package := next((one for one in packages.split() if one in folder.packages), "")):
            return said("package {package}", package=package)
    return said("the base system") if name.startswith(_BASE) else ""


def _of_bundle(folder: Folder, name: str, *, guarded: bool) -> Verdict:
    if name in folder.texts or (not name.startswith("../") and (folder.root / name).exists()):
        return provided(said("the bundle: {file}", file=name))
    if name.startswith("payload/"):
        if (folder.root / "payload").is_dir():
            return missing(said("the payload doesn't have it"), "gather the payload again with the lock of this bundle")
        return Verdict("wanted", said("the payload"))
    if guarded:
        return Verdict("optional", said("made, or done without, where it isn't there"))
    return missing(said("the folder doesn't have it"), "compile the bundle again")
