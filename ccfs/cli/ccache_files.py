# SPDX-License-Identifier: MIT
"""Read a file of a mount, and write a ccache into a mount in one step.

Knows that a file that is renamed over `ccache` replaces the ccache; never the bytes of a ccache.
The functions run in a child process (`mountpoint.ask`), which passes only an errno on.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from ccfs.cli import info

_SCRATCH = ".ccfs-import-{}"


class Writable(Protocol):
    """A ccache that can be written to a new file."""

    def write_to(self, path: str) -> None:
        """Write the ccache to a new file in FILE format; OSError.  Called in a child process."""


@dataclass(frozen=True, slots=True)
class CcacheBytes:
    """A ccache as bytes in FILE format."""

    data: bytes = field(repr=False)

    def write_to(self, path: str) -> None:
        """Write the bytes to a new file."""
        with open(path, "xb") as file:
            file.write(self.data)


def read_file(path: str) -> bytes:
    """Return all bytes of a file."""
    with open(path, "rb") as file:
        return file.read()


def write_ccache(directory: str, ccache: Writable, *, replace: bool) -> None:
    """Make `ccache` the content of the ccache in `directory`, which is made if it is missing.

    FileExistsError if it has credentials, unless `replace`.
    """
    is_new = False
    with suppress(FileExistsError):
        os.mkdir(directory)
        is_new = True
    scratch = os.path.join(directory, _SCRATCH.format(os.getpid()))
    try:
        ccache.write_to(scratch)
        values = info.of_ccache(read_file(os.path.join(directory, "info")))
        if values.get("credentials") and not replace:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        os.rename(scratch, os.path.join(directory, "ccache"))
    except BaseException:
        with suppress(OSError):
            os.unlink(scratch)
        if is_new:
            with suppress(OSError):
                os.rmdir(directory)
        raise
