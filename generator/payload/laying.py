"""Each host's part of a payload, laid into a bundle that is being written: by hard link, or by one copy where links can't reach."""

# A Path object a file would take as long as its link.
# ruff: noqa: PTH103, PTH116, PTH120, PTH121

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from generator.bundle import digest_of, linked


@dataclass(frozen=True, slots=True)
class Carried:
    """A file of a payload: where it lies, and the size and SHA-256 that it was found to have."""

    source: str
    size: int
    sha256: str


class Overlay:
    """The payload of hosts by name, each file by its path below ``hosts/<host>/payload/``; hosts with the same needs share one mapping."""

    def __init__(self, shares: Mapping[str, Mapping[str, Carried]]) -> None:
        self.shares = shares
        # Where a file's next link comes from, once that isn't the file itself: another file system, or as many links as one file may have.
        self.nearest: dict[str, str] = {}
        self.digests: dict[tuple[int, int], str] = {}

    def sums(self) -> Iterator[tuple[str, bytes]]:
        """Every host that gets anything, with the ``SHA256SUMS`` of it."""
        texts: dict[int, bytes] = {}
        for host, files in self.shares.items():
            if files and id(files) not in texts:
                texts[id(files)] = "".join(f"{file.sha256}  {path}\n" for path, file in sorted(files.items())).encode()
            if files:
                yield host, texts[id(files)]

    def lay(self, host: str, target: str, staging: str) -> Iterator[str]:
        """
        Fill ``payload/`` of *host*, which is there, below *staging*; what is right already below *target* is taken from there.

        Yields a word for each file: ``same``, where it was right already, else ``changed`` or ``added``.
        """
        folder = f"hosts/{host}/payload/"
        for path, file in self.shares[host].items():
            os.makedirs(os.path.dirname(f"{staging}{folder}{path}"), exist_ok=True)
            present, fresh = f"{target}{folder}{path}", f"{staging}{folder}{path}"
            same = self._is(present, file)
            yield "same" if same else "changed" if os.path.lexists(present) else "added"
            if same and linked(present, fresh):
                self._nearer(file.source, fresh)
            elif not linked(self.nearest.get(file.source, file.source), fresh):
                shutil.copyfile(file.source, fresh)
                self.nearest[file.source] = fresh

    def _nearer(self, source: str, fresh: str) -> None:
        """What was copied once is not copied again."""
        if not os.path.samefile(source, fresh):
            self.nearest[source] = fresh

    def _is(self, present: str, file: Carried) -> bool:
        """Whether *file* lies at *present* already: as the file itself, or as another with the same bytes."""
        try:
            status = os.lstat(present)
        except (FileNotFoundError, NotADirectoryError):
            return False
        if not stat.S_ISREG(status.st_mode) or status.st_size != file.size:
            return False
        # The file itself was hashed a moment ago.
        if os.path.samestat(status, os.stat(file.source)):
            return True
        key = (status.st_dev, status.st_ino)
        if key not in self.digests:
            self.digests[key] = digest_of(present)
        return self.digests[key] == file.sha256
