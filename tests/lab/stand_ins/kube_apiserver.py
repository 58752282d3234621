"""kube-apiserver, played: real TLS, real flags, real etcd; a tiny REST interface of our own.

Real: the certificates and who they let in, bearer tokens and their expiry, /readyz that asks etcd for a linearizable read, connections that
stay open, state that lives in etcd and nowhere else. Played: the objects' interface (/lab/objects/KIND/NAMESPACE/NAME) and, in
``Controllers``, the little of the controller manager and of Calico's operator that the scripts wait for.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import http.client
import json
import re
import signal
import socket
import ssl
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from shared import KINDS, complain, encoded, fail, openssl, set_name, sign, version

ROOT = "/registry/lab/"
NAMESPACED = {kind: namespaced for kind, _, _, namespaced, _ in KINDS}
PREFIX = {200: "OK", 201: "Created", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 409: "Conflict", 422: "Unprocessable", 500: "Internal Server Error"}  # fmt: skip
OPEN = ("/readyz", "/livez", "/healthz", "/version", "/lab/stream")
ADMINISTRATORS = {"system:masters", "kubeadm:cluster-admins"}


class NoError(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason = status, reason


def parse() -> argparse.Namespace:
    """The flags that are played, and the real ones that are taken in without effect; any other is refused as the real one does."""
    parser = argparse.ArgumentParser(prog="kube-apiserver", allow_abbrev=False)
    for name in ("tls-cert-file", "tls-private-key-file", "client-ca-file", "etcd-servers", "etcd-cafile", "etcd-certfile", "etcd-keyfile"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--advertise-address", required=True)
    parser.add_argument("--secure-port", type=int, default=6443)
    parser.add_argument("--bind-address", default="::")
    for name in (
        "allow-privileged", "authorization-mode", "enable-admission-plugins", "disable-admission-plugins", "enable-bootstrap-token-auth", "kubelet-client-certificate",
        "kubelet-client-key", "kubelet-preferred-address-types", "proxy-client-cert-file", "proxy-client-key-file", "requestheader-allowed-names",
        "requestheader-client-ca-file", "requestheader-extra-headers-prefix", "requestheader-group-headers", "requestheader-username-headers",
        "service-account-issuer", "service-account-key-file", "service-account-signing-key-file", "service-cluster-ip-range", "audit-log-path",
        "audit-policy-file", "audit-log-maxage", "audit-log-maxbackup", "audit-log-maxsize", "event-ttl", "feature-gates", "profiling", "runtime-config",
        "tls-cipher-suites", "tls-min-version", "v", "encryption-provider-config", "anonymous-auth", "service-node-port-range", "max-requests-inflight",
        "max-mutating-requests-inflight", "default-not-ready-toleration-seconds", "default-unreachable-toleration-seconds", "goaway-chance",
    ):  # fmt: skip
        parser.add_argument(f"--{name}")
    return parser.parse_args()


class Etcd:
    """The JSON gateway of the real etcd, from threads; a connection a thread, made anew when it broke."""

    def __init__(self, flags: argparse.Namespace) -> None:
        url = urlsplit(flags.etcd_servers.split(",")[0])
        self.host, self.port = url.hostname or "", url.port or 2379
        self.context = ssl.create_default_context(cafile=flags.etcd_cafile)
        self.context.load_cert_chain(flags.etcd_certfile, flags.etcd_keyfile)
        self.local = threading.local()

    def call(self, path: str, body: dict[str, Any], timeout: float = 7) -> dict[str, Any]:
        last: Exception | None = None
        for _ in range(2):  # an idle connection may have ended
            connection = getattr(self.local, "connection", None)
            fresh = connection is None
            if fresh:
                connection = self.local.connection = http.client.HTTPSConnection(self.host, self.port, context=self.context)
            connection.timeout = timeout
            if connection.sock:
                connection.sock.settimeout(timeout)
            try:
                connection.request("POST", f"/v3/{path}", json.dumps(body), {"Content-Type": "application/json"})
                answer = connection.getresponse()
                data = answer.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                self.local.connection = None
                last = error
                if fresh or isinstance(error, TimeoutError):
                    break
                continue
            if answer.status != 200:
                raise NoError(500, "InternalError", json.loads(data).get("error", "etcdserver: request failed"))
            return json.loads(data)
        raise NoError(500, "InternalError", f"etcdserver: request timed out ({last})")

    def range(self, key: str, *, prefix: bool = False) -> list[tuple[str, dict[str, Any], str]]:
        """(key, value, revision) of a key, or of all below it."""
        body = {"key": encoded(key)}
        if prefix:
            body["range_end"] = encoded(key[:-1] + chr(ord(key[-1]) + 1))
        return [
            (base64.b64decode(item["key"]).decode(), json.loads(base64.b64decode(item["value"])), item["mod_revision"])
            for item in self.call("kv/range", body).get("kvs", [])
        ]

    def put(self, key: str, value: dict[str, Any], revision: str) -> bool:
        """Writes when the key still has *revision* ("0": it is not there)."""
        compare = {"key": encoded(key), "target": "MOD", "mod_revision": revision, "result": "EQUAL"}
        write = {"requestPut": {"key": encoded(key), "value": encoded(json.dumps(value))}}
        return self.call("kv/txn", {"compare": [compare], "success": [write]}).get("succeeded", False)

    def delete(self, key: str) -> bool:
        return int(self.call("kv/deleterange", {"key": encoded(key)}).get("deleted", "0")) > 0


def merge(old: Any, new: Any) -> Any:
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    result = dict(old)
    for key, value in new.items():
        result[key] = merge(result.get(key), value)
    return result


@dataclass
class Store:
    """Objects in etcd: ROOT KIND/NAMESPACE/NAME."""

    etcd: Etcd

    def list(self, kind: str) -> list[dict[str, Any]]:
        return [item for _, value, _ in self.etcd.range(f"{ROOT}{kind}/", prefix=True) if (item := self.seen(kind, value))]

    def get(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
        for _, value, _ in self.etcd.range(f"{ROOT}{kind}/{namespace}/{name}"):
            if item := self.seen(kind, value):
                return item
        raise NoError(404, "NotFound", f'{kind.lower()}s "{name}" not found')

    def seen(self, kind: str, value: dict[str, Any]) -> dict[str, Any] | None:
        """What a reader sees now: the token cleaner removed expired tokens, the node controller marked kubelets that are silent for 40 s."""
        if kind == "Secret" and (expires := value.get("data", {}).get("expiration")):
            if base64.b64decode(expires).decode() <= datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"):
                self.etcd.delete(f"{ROOT}Secret/{value['metadata']['namespace']}/{value['metadata']['name']}")
                return None
        elif kind == "Node":
            for condition in value.get("status", {}).get("conditions", []):
                if time.time() - condition.get("heartbeat", 0) > 40:
                    condition |= {"status": "Unknown", "reason": "NodeStatusUnknown"}
        return value

    def put(self, kind: str, namespace: str, name: str, new: dict[str, Any], how: str) -> dict[str, Any]:
        if namespace != "-" and kind != "Namespace" and not self.etcd.range(f"{ROOT}Namespace/-/{namespace}"):
            raise NoError(404, "NotFound", f'namespaces "{namespace}" not found')
        key = f"{ROOT}{kind}/{namespace}/{name}"
        if kind == "Secret":
            new = written(new)
        for _ in range(10):
            there = self.etcd.range(key)
            if there and how == "create":
                raise NoError(409, "AlreadyExists", f'{kind.lower()}s "{name}" already exists')
            if not there and how == "update":
                raise NoError(404, "NotFound", f'{kind.lower()}s "{name}" not found')
            old = there[0][1] if there else {}
            value = {"status": old["status"], **new} if "status" in old else dict(new)
            value = merge(old, new) if how in ("merge", "update", "apply") else value
            meta = dict(value["metadata"])
            meta.setdefault("uid", str(uuid.uuid4()))
            meta.setdefault("creationTimestamp", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
            value["metadata"] = meta
            Controllers.touch(kind, value)
            if self.etcd.put(key, value, there[0][2] if there else "0"):
                Controllers.after(self, kind, value)
                return value
        raise NoError(409, "Conflict", f"{key} has been modified")

    def delete(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
        if not self.etcd.delete(f"{ROOT}{kind}/{namespace}/{name}"):
            raise NoError(404, "NotFound", f'{kind.lower()}s "{name}" not found')
        if kind == "Node":  # the pod garbage collector
            for key, pod, _ in self.etcd.range(f"{ROOT}Pod/", prefix=True):
                if pod.get("spec", {}).get("nodeName") == name:
                    self.etcd.delete(key)
        return {"status": "Success"}

    def kinds(self) -> list[list[Any]]:
        """Kind, apiVersion, plural, namespaced, short name; those of CRDs too."""
        found: list[list[Any]] = [list(kind) for kind in KINDS]
        for crd in self.list("CustomResourceDefinition"):
            spec = crd["spec"]
            names = spec["names"]
            found += [
                [names["kind"], f"{spec['group']}/{item['name']}", names["plural"], spec["scope"] == "Namespaced", ""]
                for item in spec["versions"]
                if item.get("served", True)
            ]
        return found


def written(secret: dict[str, Any]) -> dict[str, Any]:
    """A Secret as it is kept: stringData is for writing only."""
    given = secret.get("stringData") or {}
    if not all(isinstance(text, str) for text in given.values()):
        raise NoError(400, "BadRequest", "Secret in version v1 cannot be handled as a Secret: cannot unmarshal into a string")
    kept = {name: value for name, value in secret.items() if name != "stringData"}
    return {**kept, "data": {**(secret.get("data") or {}), **{name: encoded(text) for name, text in given.items()}}}


def groups_of(secret: dict[str, Any], given: str) -> set[str]:
    """Who a bootstrap token makes of its bearer; nobody, where it is not whole or not for that (the API server's bootstrap authenticator)."""
    data = {name: base64.b64decode(value).decode() for name, value in secret["data"].items()}
    whole = (secret.get("type"), secret["metadata"]["name"]) == ("bootstrap.kubernetes.io/token", f"bootstrap-token-{data.get('token-id')}")
    ends, now = data.get("expiration", "9999-12-31T23:59:59Z"), datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    valid = re.fullmatch(r"[0-9]{4}(-[0-9]{2}){2}T[0-9]{2}(:[0-9]{2}){2}Z", ends) and ends > now
    if not (whole and valid and data.get("token-secret") == given and data.get("usage-bootstrap-authentication") == "true"):
        raise NoError(401, "Unauthorized", "Unauthorized")
    return {"system:bootstrappers", *filter(None, data.get("auth-extra-groups", "").split(","))}


class Controllers:
    """What other components would do about an object, done at its writing."""

    @staticmethod
    def touch(kind: str, value: dict[str, Any]) -> None:
        if kind in ("CustomResourceDefinition", "Deployment"):
            word = "Established" if kind == "CustomResourceDefinition" else "Available"
            value["status"] = {"conditions": [{"type": word, "status": "True"}]}

    @staticmethod
    def after(store: Store, kind: str, value: dict[str, Any]) -> None:
        """Calico's operator: an Installation becomes a namespace and a DaemonSet."""
        if kind != "Installation":
            return
        with contextlib.suppress(NoError):
            store.put(
                "Namespace",
                "-",
                "calico-system",
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "calico-system"}},
                "create",
            )
        registry = value.get("spec", {}).get("registry", "quay.io/").rstrip("/")
        labels = {"k8s-app": "calico-node"}
        daemon = {
            "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "calico-node", "namespace": "calico-system"},
            "spec": {"template": {"metadata": {"labels": labels}, "spec": {"containers": [], "registry": registry}}},
        }  # fmt: skip
        store.put("DaemonSet", "calico-system", "calico-node", daemon, "replace")


@dataclass
class Server:
    flags: argparse.Namespace
    etcd: Etcd
    store: Store
    pool: ThreadPoolExecutor
    answered: float = 0.0
    leaving: bool = False

    # -- health

    def watch_etcd(self) -> None:
        """For ever, in a thread: a linearizable read every half second."""
        while True:
            with contextlib.suppress(NoError):
                self.etcd.call("kv/range", {"key": encoded(f"{ROOT}health")}, timeout=2)
                self.answered = time.monotonic()
            time.sleep(0.5)

    @property
    def ready(self) -> bool:
        return not self.leaving and time.monotonic() - self.answered < 2.5

    def first_start(self) -> None:
        """The real one gives up when its etcd does not answer, too."""
        end = time.monotonic() + 20
        while True:
            try:
                for name in ("default", "kube-system", "kube-public", "kube-node-lease"):
                    with contextlib.suppress(NoError) if self.etcd.range(f"{ROOT}Namespace/-/{name}") else contextlib.nullcontext():
                        self.store.put(
                            "Namespace", "-", name, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, "replace"
                        )
            except NoError as no:
                if time.monotonic() > end:
                    fail(f"Error: context deadline exceeded: error while dialing: dial tcp {self.etcd.host}:{self.etcd.port}: {no}")
                time.sleep(0.3)
            else:
                self.answered = time.monotonic()
                return

    # -- who asks

    async def user(self, certificate: Any, headers: dict[str, str]) -> tuple[str, set[str]]:
        """Name and groups; refuses a bearer token that is not known, on every path."""
        bearer = headers.get("authorization", "")
        if bearer.startswith("Bearer "):
            identity, _, secret = bearer[7:].strip().partition(".")
            try:
                found = await self.run(self.store.get, "Secret", "kube-system", f"bootstrap-token-{identity}")
            except NoError as no:
                raise NoError(401 if no.status == 404 else no.status, "Unauthorized", "Unauthorized") from None
            return f"system:bootstrap:{identity}", groups_of(found, secret)
        if certificate:
            subject = [pair for part in certificate["subject"] for pair in part]
            return dict(subject).get("commonName", ""), {value for name, value in subject if name == "organizationName"}
        return "system:anonymous", set()

    @staticmethod
    def allowed(user: str, groups: set[str], method: str, path: str) -> bool:
        if groups & ADMINISTRATORS or user.startswith("system:kube-"):
            return True
        if user.startswith("system:node:"):
            return (
                method == "GET"
                or (method == "PUT" and path.startswith(("/lab/objects/Node/", "/lab/objects/Pod/")))
                or path.startswith("/lab/objects/Pod/")
            )
        return "system:bootstrappers:kubeadm:default-node-token" in groups and (
            path == "/lab/csr"
            or (method == "GET" and (path == "/lab/kinds" or path.startswith(("/lab/objects/ConfigMap/", "/lab/objects/Node/"))))
        )

    def run(self, *call: Any) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().run_in_executor(self.pool, partial(*call))

    # -- answers

    async def answer(self, method: str, target: str, body: bytes, who: tuple[str, set[str]]) -> Any:
        """An object for JSON, or text."""
        path, _, query = target.partition("?")
        if path in ("/readyz", "/livez", "/healthz"):
            if not self.ready:
                raise NoError(500, "InternalError", f"[+]ping ok\n[-]etcd failed: reason withheld\n{path[1:]} check failed")
            return "ok"
        if path == "/version":
            return {"gitVersion": f"v{version()}"}
        user, groups = who
        if user == "system:anonymous" and path != "/lab/objects/ConfigMap/kube-public/cluster-info":
            raise NoError(401, "Unauthorized", "Unauthorized")
        if user != "system:anonymous" and not self.allowed(user, groups, method, path):
            raise NoError(403, "Forbidden", f'User "{user}" cannot {method.lower()} "{path}"')
        if path == "/lab/whoami":
            return {"user": user, "groups": sorted(groups)}
        if path == "/lab/kinds":
            return {"kinds": await self.run(self.store.kinds)}
        if path == "/lab/csr" and method == "POST":
            return await self.run(self.signed, body)
        if not path.startswith("/lab/objects/"):
            raise NoError(404, "NotFound", "the server could not find the requested resource")
        return await self.objects(method, [unquote(part) for part in path.split("/")[3:]], query, body)

    async def objects(self, method: str, parts: list[str], query: str, body: bytes) -> Any:
        if len(parts) == 1 and method == "GET":
            return {"items": await self.run(self.store.list, parts[0])}
        if len(parts) != 3:
            raise NoError(404, "NotFound", "the server could not find the requested resource")
        if method == "GET":
            return await self.run(self.store.get, *parts)
        if method == "DELETE":
            return await self.run(self.store.delete, *parts)
        return await self.run(self.store.put, *parts, json.loads(body), query or "replace")

    def signed(self, request: bytes) -> dict[str, str]:
        """The signer of the controller manager: a kubelet's client certificate, by the key that lies beside the CA's certificate."""
        subject = openssl("req", "-noout", "-verify", "-subject", "-nameopt", "RFC2253", text=request).decode()
        if "O=system:nodes" not in subject or "CN=system:node:" not in subject:
            raise NoError(403, "Forbidden", f"not a request of a node: {subject.strip()}")
        return {"certificate": sign(request, Path(self.flags.client_ca_file).with_suffix(""), "clientAuth").decode()}

    # -- connections

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, ssl.SSLError, TimeoutError):
            certificate = writer.get_extra_info("ssl_object").getpeercert()
            while await self.one(reader, writer, certificate):
                pass
        writer.transport.abort() if writer.is_closing() else writer.close()

    async def one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, certificate: Any) -> bool:
        """One request; true when the connection stays. An idle one is never ended."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, protocol = head[0].split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        status = 200
        try:
            who = await self.user(certificate, headers)
            if target == "/lab/stream":
                await self.stream(writer)
                return False
            answer = await self.answer(method, target, body, who)
        except NoError as no:
            status = no.status
            answer = (
                str(no)
                if target.partition("?")[0] in OPEN and status != 401
                else {"kind": "Status", "status": "Failure", "reason": no.reason, "message": str(no)}
            )
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            status, answer = 400, {"kind": "Status", "status": "Failure", "reason": "BadRequest", "message": repr(error)}
        text = answer if isinstance(answer, str) else json.dumps(answer)
        data = text.encode()
        stays = headers.get("connection", "").lower() != "close" and (
            protocol == "HTTP/1.1" or headers.get("connection", "").lower() == "keep-alive"
        )
        kind = "text/plain" if isinstance(answer, str) else "application/json"
        lines = [
            f"HTTP/1.1 {status} {PREFIX.get(status, '-')}",
            f"Content-Type: {kind}",
            f"Content-Length: {len(data)}",
            f"Connection: {'keep-alive' if stays else 'close'}",
        ]
        writer.write("\r\n".join([*lines, "", ""]).encode() + data)
        await writer.drain()
        return stays

    async def stream(self, writer: asyncio.StreamWriter) -> None:
        """One line a second for ever, as a watch: it tells which server it is."""
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n")
        number = 0
        while not self.leaving:
            writer.write(f"{self.flags.advertise_address} {number}\n".encode())
            await writer.drain()
            number += 1
            await asyncio.sleep(1)


def listener(flags: argparse.Namespace) -> socket.socket:
    """0.0.0.0 and :: both mean all addresses of both families."""
    if flags.bind_address in ("::", "0.0.0.0"):
        with contextlib.suppress(OSError):
            return socket.create_server(("::", flags.secure_port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
        return socket.create_server(("0.0.0.0", flags.secure_port), backlog=1024)
    family = socket.AF_INET6 if ":" in flags.bind_address else socket.AF_INET
    return socket.create_server((flags.bind_address, flags.secure_port), family=family, backlog=1024)


async def main(flags: argparse.Namespace) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(flags.tls_cert_file, flags.tls_private_key_file)
    context.load_verify_locations(flags.client_ca_file)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.num_tickets = 1  # its sending also acknowledges the end of the handshake, for clients without TCP_NODELAY
    etcd = Etcd(flags)
    server = Server(flags, etcd, Store(etcd), ThreadPoolExecutor(4))
    server.first_start()
    sock = listener(flags)
    threading.Thread(target=server.watch_etcd, daemon=True).start()
    running = await asyncio.start_server(server.serve, sock=sock, ssl=context, ssl_handshake_timeout=10, limit=1 << 20)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    complain(f"Serving securely on [::]:{flags.secure_port}")
    await ended.wait()
    server.leaving = True  # /readyz says no for a moment, then the port closes
    await asyncio.sleep(0.3)
    running.close()
    raise SystemExit(0)


if __name__ == "__main__":
    set_name("kube-apiserver")
    try:
        asyncio.run(main(parse()))
    except (OSError, ssl.SSLError) as problem:
        fail(f"Error: {problem}")
