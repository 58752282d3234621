"""What ``--secrets`` gives: read for the overlay that git ignores, never part of a message, a log or a committed byte.

``cryptography`` is imported where a certificate is looked at: a bundle without keys doesn't pay for it.
"""

from __future__ import annotations

import base64
import codecs
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from generator import bundle
from generator.lint.places import seconds
from generator.wording import said

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography.x509 import Certificate

    from generator.model import Cluster, Host

TOKEN = "bootstrap-token"  # noqa: S105  a name
DISCOVERY = "stowage-discovery.conf"
# Names of the CAs: what every control plane shares, and kubeadm keeps where it finds it (facts.md 3.4).
CAS = {"pki/ca": "kubernetes", "pki/front-proxy-ca": "front-proxy-ca", "pki/etcd/ca": "etcd-ca"}
PKI = (*(f"{name}.{end}" for name in CAS for end in ("crt", "key")), "pki/sa.key", "pki/sa.pub")
ALGORITHMS = ("RSA-2048", "RSA-3072", "RSA-4096", "ECDSA-P256", "ECDSA-P384")
CHARACTERS = "A-Za-z0-9._+=/@%:,-"
ENCRYPTED = (".age", ".sops")

_LARGEST = 1 << 16

# The plain bytes of an encrypted file; raises SecretError.
Decrypt = Callable[[Path], bytes]


class SecretError(Exception):
    """A secret that can't be taken, and why; *remedy* says what to do.  Neither holds the secret."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


def names(cluster: Cluster) -> tuple[str, ...]:
    """Names of the secrets that the inventory of *cluster* wants, each a file of the directory given with ``--secrets``."""
    return tuple(dict.fromkeys((*passwords(cluster), *_logins(cluster))))


def passwords(cluster: Cluster) -> tuple[str, ...]:
    """Those of :func:`names` that chance can make: the VRRP password.  Another one is somebody else's to give."""
    wanted = cluster.load_balancer.keepalived.auth_secret if cluster.load_balancer else ""
    return (wanted,) if wanted else ()


def _logins(cluster: Cluster) -> tuple[str, ...]:
    """The other ones of :func:`names`: user and password of the site's registry."""
    return (cluster.registry.credentials,) if cluster.registry and cluster.registry.credentials else ()


def named_algorithm(cluster: Cluster) -> str:
    """The algorithm that kubeadm is told to make keys with, or empty; where the older gate is set, kubeadm goes by that alone."""
    gate = dict(cluster.feature_gates).get("PublicKeysECDSA")
    return cluster.encryption_algorithm if gate is None else "ECDSA-P256" if gate else "RSA-2048"


def read(folder: Path, cluster: Cluster, now: datetime, decrypt: Decrypt | None = None) -> dict[str, bytes]:
    """
    The secrets of *cluster* by name, a final newline taken away; other files of *folder* are not opened.

    Beside those that the inventory names, the eight files of the PKI and the bootstrap token, where they are there: all nine or none, each
    pair fitting, and valid at *now*.  A file ``NAME.age`` or ``NAME.sops`` stands for ``NAME`` and goes through *decrypt*.

    Raises :class:`SecretError` where one is missing or not what its name says (step 40 says the same of a VRRP password that is typed;
    keepalived.conf(5)), and where others than the owner may look into *folder* or read a key.
    """
    refuse_open(folder)
    refuse_names(folder, cluster)
    found = {}
    for name in names(cluster):
        file = folder / name
        data = _bytes(file, decrypt)
        if data is None:
            remedy = said(
                "the inventory of {cluster} names the secret {name}: put it there, or leave --secrets out and the host asks for it",
                cluster=cluster.name,
                name=name,
            )
            raise SecretError(said("{file}: no such file", file=file), remedy)
        if name in _logins(cluster) and not re.fullmatch(rb"[^:\x00-\x1f\x7f]+:[^\x00-\x1f\x7f]+", data):
            raise SecretError(said("{file}: no user and password", file=file), "write `user:password` on one line")
        if name in passwords(cluster) and not re.fullmatch(rf"[{CHARACTERS}]{{1,8}}".encode(), data):
            raise SecretError(said("{file}: no VRRP password", file=file), "write 1 to 8 of A-Z a-z 0-9 . _ + = / @ % : , - on one line")
        found[name] = data
    keys = joining(folder, decrypt)
    if keys:
        check(folder, keys, named_algorithm(cluster), now)
    return found | keys


def overlay(cluster: Cluster, known: Mapping[str, bytes]) -> dict[str, dict[str, bytes]]:
    """
    The secret files of each host: just those of *known* that the host needs.

    A load balancer gets the VRRP password, a host with a kubelet the login to the site's registry, a control plane the PKI, the first one
    the bootstrap token, and whoever joins the discovery file: with it a worker has the CA's certificate and the token, and no key.
    """
    # Also for a host that needs nothing (any more): what lay there goes.
    given: dict[str, dict[str, bytes]] = {host.name: {} for host in cluster.hosts if known}

    def give(hosts: tuple[Host, ...], entries: Mapping[str, bytes]) -> None:
        for host in hosts if entries else ():
            given[host.name].update(entries)

    give(cluster.load_balancers, {name: known[name] for name in passwords(cluster) if name in known})
    give(cluster.kubernetes_hosts, {name: known[name] for name in _logins(cluster) if name in known})
    if TOKEN in known:
        conf = {DISCOVERY: discovery(cluster, known["pki/ca.crt"], known[TOKEN])}
        give(cluster.control_planes, {name: known[name] for name in PKI})
        give(cluster.control_planes[:1], {TOKEN: known[TOKEN]})
        give((*cluster.control_planes[1:], *cluster.workers), conf)
    return given


def discovery(cluster: Cluster, authority: bytes, token: bytes) -> bytes:
    """The kubeconfig that a joining host trusts the cluster by; ``discovery_conf`` of kube.sh makes the same text."""
    lines = (
        "apiVersion: v1", "kind: Config",
        "clusters:", f"- name: {cluster.name}", "  cluster:", f"    server: https://{cluster.server}",
        f"    certificate-authority-data: {base64.b64encode(authority).decode()}",
        "contexts:", "- name: join", "  context:", f"    cluster: {cluster.name}", "    user: join", "current-context: join",
        "users:", "- name: join", "  user:", f"    token: {token.decode()}",
    )  # fmt: skip
    return "".join(f"{line}\n" for line in lines).encode()


# -- the directory -------------------------------------------------------------------------------------------------------------------------


def refuse_open(folder: Path) -> None:
    """Raise :class:`SecretError` where others than its owner may look into *folder*, or the next bundle would take it away."""
    refuse_bundle(folder)
    if folder.stat().st_mode & 0o077:
        raise SecretError(said("{folder}: others than its owner may look into it", folder=folder), f"chmod 0700 {folder}")


def refuse_bundle(folder: Path) -> None:
    """Raise :class:`SecretError` where *folder* lies in a bundle: what a bundle doesn't know is gone with the next one."""
    place = next((path for path in folder.resolve().parents if bundle.is_bundle(path)), None)
    if place is not None:
        raise SecretError(
            said("{folder}: in a bundle, {bundle}, which is replaced as a whole", folder=folder, bundle=place),
            "keep secrets outside the repository",
        )


def refuse_names(folder: Path, cluster: Cluster) -> None:
    """Raise :class:`SecretError` where a secret of *cluster* would stand in the place of the keys in *folder*."""
    for name in names(cluster):
        if name in (TOKEN, "pki"):
            raise SecretError(
                said("{folder}: {name} is the name of the cluster's keys", folder=folder, name=name),
                "name the secret `vrrp` in the inventory",
            )


def joining(folder: Path, decrypt: Decrypt | None = None) -> dict[str, bytes]:
    """The eight files of the PKI and the token as they stand in *folder*, or nothing where there are none; raises :class:`SecretError`."""
    found: dict[str, bytes] = {}
    for name in (*PKI, TOKEN):
        data = _bytes(folder / name, decrypt, private=True)
        if data is not None:
            if data.startswith(codecs.BOM_UTF8):
                raise SecretError(
                    said("{file}: begins with a byte order mark", file=folder / name), "save it without: kubeadm finds no PEM behind one"
                )
            # openssl, kubeadm and people end a PEM file with a newline.
            found[name] = data if name == TOKEN else data + b"\n"
    missing = [name for name in (*PKI, TOKEN) if name not in found]
    if found and missing:
        raise SecretError(
            said("{folder}: some of a cluster's keys are there, {names} missing", folder=folder, names=", ".join(missing)),
            "put all of them there, or none; `stowage keys new` makes a whole set in a new directory",
        )
    return found


def _bytes(file: Path, decrypt: Decrypt | None, *, private: bool = False) -> bytes | None:
    """The bytes of *file*, or of its encrypted form, without a final newline; None where there is neither."""
    encrypted = (file.with_name(file.name + end) for end in ENCRYPTED)
    place = next((path for path in (file, *encrypted) if path.is_symlink() or path.exists()), None)
    if place is None:
        return None
    try:
        status = place.stat()
        # A pipe in its place would be waited for without end.
        if not stat.S_ISREG(status.st_mode):
            raise SecretError(said("{file}: not a file", file=place), "put a regular file there")
        too_large = SecretError(said("{file}: too large for a key", file=place), "see what it is; a key has a few KiB")
        # Encrypted it has an envelope, and base64 in it.
        if status.st_size > 4 * _LARGEST:
            raise too_large
        if place is not file:
            data = _decrypted(place, decrypt)
        else:
            if private and status.st_mode & 0o077:
                raise SecretError(said("{file}: others than its owner may read it", file=file), f"chmod 0600 {file}")
            with file.open("rb") as stream:
                data = stream.read(_LARGEST + 1)
    except OSError as error:
        raise SecretError(f"{place}: {error.strerror}", "see that you may read it") from None
    if len(data) > _LARGEST:
        raise too_large
    return data.removesuffix(b"\n")


def _decrypted(file: Path, decrypt: Decrypt | None) -> bytes:
    if decrypt is None:
        raise SecretError(said("{file}: encrypted", file=file), "decrypt it first: only `stowage bundle` and `stowage keys show` do")
    return decrypt(file)


# -- keys and certificates -----------------------------------------------------------------------------------------------------------------


def check(folder: Path, keys: Mapping[str, bytes], algorithm: str, now: datetime) -> None:
    """
    Raise :class:`SecretError` unless *keys* is a PKI that kubeadm takes, valid at *now*, and a token of its form.

    *algorithm* is the one that the inventory names, or empty: then any that kubeadm reads is right.
    """
    for name in CAS:
        found, file = certificate(folder, keys, name), folder / f"{name}.crt"
        if public(private_key(folder, keys, f"{name}.key")) != public(found):
            raise SecretError(said("{file}: not the certificate of {key}", file=file, key=f"{name}.key"), "take both from one CA")
        if not _may_sign(found):
            raise SecretError(said("{file}: not a CA's certificate", file=file), "take one with CA:TRUE that may sign certificates")
        if found.issuer == found.subject and not _signed_by_itself(found):
            raise SecretError(said("{file}: damaged, its signature is not its own", file=file), "take it again from where it is whole")
        if found.not_valid_after_utc <= now:
            raise SecretError(said("{file}: ended on {day}", file=file, day=found.not_valid_after_utc.date()), "take a CA that is valid")
        if found.not_valid_before_utc > now:
            raise SecretError(
                said("{file}: begins on {day}", file=file, day=found.not_valid_before_utc.date()),
                "see that the clock of this machine is right",
            )
    file = folder / "pki/sa.pub"
    if public(private_key(folder, keys, "pki/sa.key")) != _public_key(file, keys["pki/sa.pub"]):
        raise SecretError(said("{file}: not the public key of {key}", file=file, key="pki/sa.key"), "take both from one key pair")
    for name in (*CAS, "pki/sa"):
        _check_algorithm(folder / f"{name}.key", algorithm_of(private_key(folder, keys, f"{name}.key")), algorithm)
    token_identity(folder, keys)


def token_identity(folder: Path, keys: Mapping[str, bytes]) -> str:
    """The half of the bootstrap token that may be shown; raises :class:`SecretError` where it is none, whose halves nobody knows."""
    found = re.fullmatch(rb"([a-z0-9]{6})\.[a-z0-9]{16}", keys[TOKEN])
    if not found:
        raise SecretError(said("{file}: no bootstrap token", file=folder / TOKEN), "write a new one: `stowage keys token`")
    return found[1].decode()


def ends_early(folder: Path, keys: Mapping[str, bytes], cluster: Cluster, now: datetime) -> list[str]:
    """A line for each CA of *keys*, if any, that ends before certificates that kubeadm signs with it at *now*: all end on that day."""
    life = cluster.certificate_validity or "8760h"
    ends = [(name, certificate(folder, keys, name).not_valid_after_utc) for name in CAS if TOKEN in keys]
    return [
        said(
            "{file}: ends on {day}, and so do the certificates of {life} that it signs",
            file=folder / f"{name}.crt",
            day=end.date(),
            life=life,
        )
        for name, end in ends
        if (end - now).total_seconds() < seconds(life)
    ]


def _check_algorithm(file: Path, found: str, wanted: str) -> None:
    if found not in ALGORITHMS or found != (wanted or found):
        known = wanted or ", ".join(ALGORITHMS)
        raise SecretError(
            said("{file}: a key of {found}", file=file, found=found),
            said("take one of {known}, which kubeadm and the inventory want", known=known),
        )


def certificate(folder: Path, keys: Mapping[str, bytes], name: str) -> Certificate:
    """The certificate of the CA *name* (``pki/ca``); raises :class:`SecretError` where that is none."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    file = folder / f"{name}.crt"
    try:
        found = x509.load_pem_x509_certificates(keys[f"{name}.crt"])
        # What is inside is read when it is asked for.
        _ = [(one.public_key(), one.not_valid_before_utc, one.not_valid_after_utc) for one in found]
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        found = []
    if len(found) != 1:
        raise SecretError(said("{file}: not one certificate in PEM", file=file), "put the CA's certificate there, and nothing else")
    return found[0]


def _may_sign(found: Certificate) -> bool:
    from cryptography import x509

    try:
        usages = [one.value for one in found.extensions if isinstance(one.value, x509.KeyUsage)]
        # Without usages it may be used for all, as one of `openssl req -x509` (RFC 5280, section 4.2.1.3; Go and OpenSSL take it).
        return found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca and all(usage.key_cert_sign for usage in usages)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError):
        return False


def _signed_by_itself(found: Certificate) -> bool:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    try:
        found.verify_directly_issued_by(found)
    except UnsupportedAlgorithm:
        # An old digest: nobody can tell here.
        return True
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def private_key(folder: Path, keys: Mapping[str, bytes], name: str) -> Any:
    """The private key *name* (``pki/ca.key``); raises :class:`SecretError` where that is none, or wants a passphrase."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return load_pem_private_key(keys[name], None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        remedy = "put the private key there in PEM, without a passphrase: kubeadm can't ask for one"
        raise SecretError(said("{file}: no private key", file=folder / name), remedy) from None


def _public_key(file: Path, data: bytes) -> bytes:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        return _encoded(load_pem_public_key(data))
    except (ValueError, UnsupportedAlgorithm):
        raise SecretError(said("{file}: no public key", file=file), "put the public half of sa.key there, in PEM") from None


def public(holder: Any) -> bytes:
    """SubjectPublicKeyInfo in DER of a certificate or a private key: what kubeadm's discovery hash is made of (facts.md 3.5)."""
    return _encoded(holder.public_key())


def _encoded(key: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return bytes(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def algorithm_of(key: Any) -> str:
    """``RSA-2048``, ``ECDSA-P256``, as the inventory names it, or what else the key is."""
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    if isinstance(key, rsa.RSAPrivateKey):
        return f"RSA-{key.key_size}"
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in ("secp256r1", "secp384r1"):
        return f"ECDSA-P{key.key_size}"
    return type(key).__name__.strip("_").removesuffix("PrivateKey")
