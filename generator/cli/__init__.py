"""The command line: options, files in, text out, exit status.  0 clean, 1 findings, 2 usage, I/O or internal error.

Everything but click is imported where it is used: ``stowage --help`` is instant.  One module a group of commands; they are the only code
that knows click, the clock, the environment and the streams.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import NoReturn

import click

from generator.cli import attest, closure, existing, inventories, keys, media, payload, reference
from generator.cli.shared import Stop, stowage
from generator.wording import said

__all__ = ["attest", "closure", "existing", "inventories", "keys", "main", "media", "payload", "reference", "stowage"]


def main() -> NoReturn:
    """Run the command line; whatever goes wrong is one line and exit status 2, with the traceback only for STOWAGE_DEBUG."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Names and values are any text; a terminal's encoding may not have it.
            stream.reconfigure(errors="backslashreplace")
    status: str | int | None = 2
    failure: click.ClickException | None = None
    stdout = sys.stdout
    try:
        status = stowage.main(prog_name="stowage", standalone_mode=False) or 0
    except SystemExit as end:
        # Who read our output has gone: click puts another stream in its place and ends with 1, which would say findings.
        status = end.code if sys.stdout is stdout else 2
    except click.ClickException as error:
        failure = error
    except click.Abort:
        failure = Stop("interrupted; bundles that were there are whole")
    except OSError as error:
        failure = Stop(f"{error.filename}: {error.strerror}" if error.filename else said("standard output: {why}", why=error.strerror))
    except Exception as error:
        if os.environ.get("STOWAGE_DEBUG"):
            raise
        failure = Stop(
            said("internal error: {kind}: {why}", kind=type(error).__name__, why=error),
            "please report it, with the output of the same command under STOWAGE_DEBUG=1",
        )
    if failure is not None:
        # Where standard error is full or closed, the status still tells.
        with suppress(OSError):
            failure.show()
    _end(status)


def _end(status: str | int | None) -> NoReturn:
    """Exit; with 2 where the last output can't be written, which Python would say with 120."""
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except OSError:
        os._exit(2)
    sys.exit(status)
