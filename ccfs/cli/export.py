"""`ccfs export`: a ccache of the mount as a file of its own.

Knows a file of the mount and the one that is made; never the bytes of a ccache.
"""

from __future__ import annotations

import os
import sys
import tempfile
from argparse import Namespace
from contextlib import suppress

from ccfs.cli import mountpoint_argument, output
from ccfs.cli.ccaches import directory_of, failures
from ccfs.errors import ExistsError, Exit, UsageError, UserError
from ccfs.journal import location
from ccfs.mounting import mountpoint


def run(arguments: Namespace) -> int:
    """Write a ccache out, to a new file of mode 0600."""
    path = mountpoint_argument.of(arguments.mountpoint)
    file = os.path.join(directory_of(path, arguments.name), "ccache")
    with failures(arguments.name):
        data = mountpoint.ask(path, lambda: _read(file))
    if arguments.file == "-":
        return _print(data)
    target = os.path.abspath(arguments.file.removeprefix("FILE:"))
    try:
        (_replace if arguments.replace else _make)(target, data)
        on_disk = not location.in_memory(target)
    except FileExistsError:
        raise ExistsError(f"{target} exists", "add '--replace', or name another file") from None
    except OSError as error:
        raise UserError(f"cannot write {target}: {_why(error)}") from None
    if on_disk:
        output.say("notice", f"{target} is on a disk, where its secrets stay")
    return Exit.OK


def _print(data: bytes) -> int:
    """Write the ccache to stdout; UsageError where that is a terminal."""
    if sys.stdout.isatty():
        raise UsageError("a ccache is not for a terminal", "redirect the output, or name a file")
    sys.stdout.buffer.write(data)
    return Exit.OK


def _make(target: str, data: bytes) -> None:
    """Make a new file; FileExistsError where there is one."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    _write(os.open(target, flags, 0o600), target, data)


def _replace(target: str, data: bytes) -> None:
    """Put a new file in place of what is there, in one step."""
    if os.path.isdir(target):
        raise IsADirectoryError(0, "it is a directory")
    directory, name = os.path.split(target)
    descriptor, scratch = tempfile.mkstemp(prefix=f".{name}.", dir=directory)
    _write(descriptor, scratch, data)
    try:
        os.rename(scratch, target)
    except BaseException:
        os.unlink(scratch)
        raise


def _write(descriptor: int, path: str, data: bytes) -> None:
    """Write all of a new file, or leave none behind."""
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)
            file.write(data)
    except BaseException:
        with suppress(OSError):
            os.unlink(path)
        raise


def _read(file: str) -> bytes:
    with open(file, "rb") as opened:
        return opened.read()


def _why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
