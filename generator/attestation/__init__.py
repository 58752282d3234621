"""What hosts say that they are, and what the bundle planned: both read here, and compared in ``generator.attestation.comparison``.

``90-verify.sh --attest FILE`` writes an attestation on a host (``schema/attestation.v1.schema.json``) and a person carries it back.  It is
what a host says of itself: nothing vouches for it but the way that it came.
"""

from __future__ import annotations

import calendar
import json
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from generator import resources
from generator.bundle import FORMAT, MANIFEST, SUMS, BundleError, digest_of
from generator.model import CONTROL_PLANE, LOAD_BALANCER, WORKER
from generator.wording import said

if TYPE_CHECKING:
    # jsonschema's own class: its attributes are typed as unset or anything, which says nothing here.
    Validator = Any

SCHEMA = "schema/attestation.v1.schema.json"
MAX_BYTES = 1 << 20


class AttestationError(Exception):
    """A file that is no attestation, or not one of this cluster; *remedy* says what to do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Attestation:
    """An attestation and the *name* of its file; *data* is as the schema has it."""

    name: str
    data: Mapping[str, Any]

    @property
    def host(self) -> str:
        """The host that says so."""
        return str(self.data["host"])

    @property
    def written(self) -> int:
        """When, by the clock of the host."""
        return seconds(self.data["time"])


@dataclass(frozen=True, slots=True)
class Planned:
    """
    What a bundle says of its hosts.

    *roles* are in the order of the inventory, *files* those that each host is to have, by path; *sums* digests of each ``SHA256SUMS``.
    """

    cluster: str
    roles: Mapping[str, str]
    steps: Sequence[Mapping[str, Any]]
    files: Mapping[str, Mapping[str, Mapping[str, Any]]]
    sums: Mapping[str, str]

    def steps_of(self, host: str) -> dict[int, str]:
        """Numbers and scripts of the steps that *host* runs."""
        role = self.roles[host]
        first = next((name for name, other in self.roles.items() if other == CONTROL_PLANE), "")
        hosts = {
            "all": True,
            "kubernetes": role != LOAD_BALANCER,
            "load-balancers": self.balances(host),
            "first": host == first,
            "other": role == CONTROL_PLANE and host != first,
            "control-planes": role == CONTROL_PLANE,
            "workers": role == WORKER,
        }
        return {step["number"]: step["script"].removesuffix(".sh") for step in self.steps if hosts.get(step["hosts"])}

    def balances(self, host: str) -> bool:
        """Whether *host* is a load balancer: it lays files of step 40."""
        return any(entry["step"] == 40 for entry in self.files[host].values())


def seconds(time: str) -> int:
    """Seconds since 1970 of ``2026-11-23T23:40:05Z``."""
    fields = [int(time[at : at + 2]) for at in (5, 8, 11, 14, 17)]
    return calendar.timegm((int(time[:4]), *fields))


# --- reading ------------------------------------------------------------------------------------------------------------------------------


def read_planned(bundle: Path) -> Planned:
    """What the bundle at *bundle* plans; raises :class:`BundleError`."""
    manifest = bundle / MANIFEST
    try:
        data = json.loads(manifest.read_text(encoding="utf-8") if stat.S_ISREG(manifest.stat().st_mode) else "")
        if data["stowage"] != FORMAT:
            raise BundleError(
                said("{file}: format {form}", file=manifest, form=data["stowage"]),
                said("this stowage reads format {form}: use the one that made it", form=FORMAT),
            )
        roles = {str(host["name"]): str(host["role"]) for host in data["hosts"]}
        files: dict[str, dict[str, Any]] = {host: {} for host in roles}
        for entry in data["files"]:
            if "destination" in entry:
                _, host, _ = entry["path"].split("/", 2)
                texts = {key: str(entry[key]) for key in ("sha256", "mode", "owner")}
                files[host][str(entry["destination"])] = {**texts, "step": int(entry["step"])}
        steps = [{"number": int(step["number"]), "hosts": str(step["hosts"]), "script": str(step["script"])} for step in data["steps"]]
        sums = {host: digest_of(bundle / "hosts" / host / SUMS) for host in roles}
    except OSError as error:
        raise BundleError(
            f"{error.filename or manifest}: {error.strerror}", "name the folder of one cluster, such as out/example"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BundleError(
            said("{file}: not a manifest of stowage's", file=manifest), "name the folder of one cluster, such as out/example"
        ) from None
    return Planned(str(data["cluster"]), roles, steps, files, sums)


def read(path: Path, cluster: str) -> Attestation:
    """The attestation at *path*, of a host of *cluster*; raises :class:`AttestationError`."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise AttestationError(said("{file}: not a regular file", file=path), "name the files that `90-verify.sh --attest` wrote")
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise AttestationError(f"{path}: {error.strerror}", "name the files that `90-verify.sh --attest` wrote") from None
    data = parsed(str(path), text)
    if data["cluster"] != cluster:
        raise AttestationError(
            said("{file}: of cluster {other}, the bundle is of {cluster}", file=path, other=data["cluster"], cluster=cluster),
            "name the bundle of its cluster, or leave the file out",
        )
    return Attestation(str(path), data)


def parsed(name: str, text: bytes) -> Mapping[str, Any]:
    """*text*, the content of the file *name*, as an attestation; raises :class:`AttestationError` for anything else."""
    remedy = "copy it again from the host, or write it again: run.sh 90 --attest FILE"
    if len(text) > MAX_BYTES:
        raise AttestationError(said("{file}: longer than {size} bytes, no attestation", file=name, size=MAX_BYTES), remedy)
    try:
        data: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise AttestationError(said("{file}: damaged, or no attestation: not JSON", file=name), remedy) from None
    if not isinstance(data, dict) or "stowage-attestation" not in data:
        raise AttestationError(said("{file}: not an attestation", file=name), remedy)
    error = next(_validator().iter_errors(data), None)
    if error is not None:
        where = "/".join(map(str, error.absolute_path)) or error.validator
        raise AttestationError(said("{file}: not as an attestation has it: {where}", file=name, where=where), remedy)
    return data


@cache
def _validator() -> Validator:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(json.loads(resources.text(SCHEMA)))
