# SPDX-License-Identifier: MIT
"""One ccache of a mount by its name: its directory, operations on it, and their errors.

Knows the layout of `caches/NAME`; never the bytes of a ccache.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator

from ccfs.errors import NoCcacheError, UserError
from ccfs.mounting import mountpoint

LIST_HINT = "list them with 'ccfs list'"
_SCRATCH = ".ccfs-switch-{}"


def directory_of(path: str, name: str) -> str:
    """Return the directory of a ccache; NoCcacheError if no ccache can have the name."""
    if not name or "/" in name or name in (".", ".."):
        raise NoCcacheError(f"cannot open ccache {name!r}: no ccache has such a name", LIST_HINT)
    return os.path.join(path, "caches", name)


def run_on_mount(path: str, name: str | None, operation: Callable[[], object]) -> None:
    """Run an operation on the mount at `path`, with a bound on time (`mountpoint.ask`).

    Raises as `ccache_errors` for the ccache `name`.
    """

    def run() -> bytes:
        operation()
        return b""

    with ccache_errors(name):
        mountpoint.call(path, run)


@contextlib.contextmanager
def ccache_errors(name: str | None) -> Iterator[None]:
    """Convert an OSError of the body to NoCcacheError or UserError; FileExistsError passes."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESTALE, errno.ENOTDIR):
            raise NoCcacheError(f'cannot open ccache "{name}": no such ccache', LIST_HINT) from None
        raise UserError(f'cannot use ccache "{name}": {error.strerror}') from None


@contextlib.contextmanager
def open_file(path: str, name: str | None, file: str, flags: int) -> Iterator[int]:
    """Open a file of the mount and yield its descriptor; raises as `run_on_mount`."""
    run_on_mount(path, name, lambda: os.stat(file))
    with ccache_errors(name):
        descriptor = os.open(file, flags | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def make_default(path: str, directory: str) -> None:
    """Make the ccache in `directory` the default of the mount at `path`; OSError."""
    os.stat(directory)
    scratch = os.path.join(path, _SCRATCH.format(os.getpid()))
    os.symlink(os.path.relpath(directory, path), scratch)
    os.rename(scratch, os.path.join(path, "default"))
