"""
New keys of a cluster: what ``kubeadm init`` would make on the first control plane, made before anybody travels.

Names, extensions and formats are kubeadm's (facts.md 3.4): kubeadm keeps a CA that it finds, and signs all else with it on the host.  The
clock and chance come from the command line; a key's own randomness is the library's (docs/decisions/0008-cryptography.md).
"""

from __future__ import annotations

import os
import string
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from generator import secrets, swap
from generator.secrets import SecretError
from generator.wording import said

if TYPE_CHECKING:
    from datetime import datetime

# One of these characters, by chance that nobody can guess.
Choose = Callable[[str], str]

CA_LIFE = "87600h"
# kubeadm's, for hosts whose clock is a little behind.
BACKDATE_SECONDS = 300


def make(algorithm: str, begin: datetime, end: datetime, passwords: Iterable[str], choose: Choose) -> dict[str, bytes]:
    """The files of a new secrets directory: the PKI with keys of *algorithm*, the bootstrap token, and a VRRP password for each name."""
    files = {}
    for name, common in secrets.CAS.items():
        key = _key(algorithm)
        files[f"{name}.crt"] = _certificate(common, key, begin, end)
        files[f"{name}.key"] = _private(key)
    key = _key(algorithm)
    files["pki/sa.key"], files["pki/sa.pub"] = _private(key), _public(key)
    files[secrets.TOKEN] = token(choose)
    letters = string.ascii_letters + string.digits
    return files | {name: "".join(choose(letters) for _ in range(8)).encode() + b"\n" for name in passwords}


def token(choose: Choose) -> bytes:
    """A bootstrap token: six characters that may be known, sixteen that may not (facts.md 1.6)."""
    characters = string.ascii_lowercase + string.digits
    drawn = "".join(choose(characters) for _ in range(22))
    return f"{drawn[:6]}.{drawn[6:]}\n".encode()


def _key(algorithm: str) -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    kind, _, size = algorithm.partition("-")
    if kind == "RSA":
        return rsa.generate_private_key(65537, int(size))
    return ec.generate_private_key({"P256": ec.SECP256R1(), "P384": ec.SECP384R1()}[size])


def _certificate(common: str, key: Any, begin: datetime, end: datetime) -> bytes:
    """Self-signed, as client-go's NewSelfSignedCACert makes it for kubeadm."""
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256, SHA384
    from cryptography.hazmat.primitives.serialization import Encoding

    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common)])
    usage = dict.fromkeys(
        ("content_commitment", "data_encipherment", "key_agreement", "crl_sign", "encipher_only", "decipher_only"),
        False,
    )
    usage |= dict.fromkeys(("digital_signature", "key_encipherment", "key_cert_sign"), True)
    builder = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(common)]), critical=False)
    )
    digest = SHA384() if secrets.algorithm_of(key) == "ECDSA-P384" else SHA256()
    return builder.sign(key, digest).public_bytes(Encoding.PEM)


def _private(key: Any) -> bytes:
    """PKCS 1 or SEC 1, which is what kubeadm writes."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))


def _public(key: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


# -- the directory -------------------------------------------------------------------------------------------------------------------------


def refuse_taken(folder: Path, names: Iterable[str]) -> None:
    """Raise :class:`SecretError` where *folder* is open to others, or has any of *names*, encrypted ones too: nothing is replaced."""
    secrets.refuse_bundle(folder)
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise SecretError(said("{folder}: not a directory", folder=folder), "name a new one")
    secrets.refuse_open(folder)
    firsts = sorted({name.partition("/")[0] for name in names})
    taken = [name + end for name in firsts for end in ("", *secrets.ENCRYPTED) if os.path.lexists(folder / (name + end))]
    if taken:
        raise SecretError(
            said("{folder}: has {names} already", folder=folder, names=", ".join(taken)),
            "name a new directory: keys are never replaced, a cluster may live by them",
        )


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """
    *files* in *folder*, 0700 and 0600, all of them or none: a new directory, or one in the place of an empty one, comes by one rename.

    Raises :class:`SecretError` as :func:`refuse_taken`, and where another run is at it, and OSError.
    """
    whole = not os.path.lexists(folder) or _replaceable(folder)
    try:
        with swap.staging(folder if whole else folder / "keys", lambda _: False) as draft:
            refuse_taken(folder, files)
            draft.chmod(0o700)
            for name, data in files.items():
                (draft / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                _put(draft / name, data)
            if whole:
                draft.rename(folder)
            else:
                _move(draft, folder)
    except swap.BusyError:
        raise SecretError(
            said("{folder}: another stowage is writing here", folder=folder), "wait for it to end, then run this again"
        ) from None


def _replaceable(folder: Path) -> bool:
    """Whether another directory may take the place of *folder*: it is empty, no link or mount, and nobody's shell stands in it."""
    if folder.is_symlink() or folder.is_mount() or any(folder.iterdir()):
        return False
    return os.access(folder.parent, os.W_OK) and not folder.samefile(os.curdir)


def _move(draft: Path, folder: Path) -> None:
    """All of *draft* into *folder*, or nothing."""
    moved = []
    try:
        for entry in sorted(draft.iterdir()):
            entry.rename(folder / entry.name)
            moved.append(entry)
    except OSError:
        for entry in moved:
            (folder / entry.name).rename(entry)
        raise


def _put(path: Path, data: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def renew(folder: Path, data: bytes) -> None:
    """Put *data* in the place of the bootstrap token of *folder*; raises :class:`SecretError` where there is none, and OSError."""
    secrets.refuse_open(folder)
    # Also sees to it that this is a directory of keys, and that none of them is encrypted.
    if not secrets.joining(folder):
        raise SecretError(said("{folder}: no keys of a cluster", folder=folder), "make them: `stowage keys new`")
    draft = folder / f".{secrets.TOKEN}.stowage-new"
    draft.unlink(missing_ok=True)
    try:
        _put(draft, data)
        draft.replace(folder / secrets.TOKEN)
    finally:
        draft.unlink(missing_ok=True)


# -- what may be shown ---------------------------------------------------------------------------------------------------------------------


def described(folder: Path, keys: Mapping[str, bytes]) -> list[str]:
    """A line for each thing of *keys* (``secrets.joining``) that may be shown; raises :class:`SecretError` where one is none."""
    import hashlib

    lines: list[str] = []
    for name in secrets.CAS:
        found = secrets.certificate(folder, keys, name)
        values = {
            "name": f"{name}.crt",
            "algorithm": secrets.algorithm_of(secrets.private_key(folder, keys, f"{name}.key")),
            "begin": found.not_valid_before_utc.date(),
            "end": found.not_valid_after_utc.date(),
        }
        lines.append(said("{name}: {algorithm}, valid from {begin} to {end}", **values))
        lines.append(f"  sha256:{hashlib.sha256(_der(found)).hexdigest()}")
    service = secrets.private_key(folder, keys, "pki/sa.key")
    lines.append(said("{name}: {algorithm}, public half:", name="pki/sa.key", algorithm=secrets.algorithm_of(service)))
    lines.append(f"  sha256:{hashlib.sha256(secrets.public(service)).hexdigest()}")
    authority = secrets.certificate(folder, keys, "pki/ca")
    lines.append(said("discovery hash of the cluster: {value}", value=f"sha256:{hashlib.sha256(secrets.public(authority)).hexdigest()}"))
    lines.append(said("bootstrap token: {identity} (its public half)", identity=secrets.token_identity(folder, keys)))
    return lines


def _der(found: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return bytes(found.public_bytes(Encoding.DER))
