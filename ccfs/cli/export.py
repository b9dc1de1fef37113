# SPDX-License-Identifier: MIT
"""`ccfs export`: write a ccache of the mount to a new file.

Knows a file of the mount and the file that is made; never the bytes of a ccache.
"""

from __future__ import annotations

import os
import sys
import tempfile
from argparse import Namespace
from contextlib import suppress

from ccfs.cli import mountpoint_argument
from ccfs.cli.ccache_directory import ccache_errors, directory_of
from ccfs.cli.ccache_files import read_file
from ccfs.commandline import messages
from ccfs.errors import ExistsError, Exit, UsageError, UserError
from ccfs.journal import location
from ccfs.mounting import mountpoint


def run(arguments: Namespace) -> int:
    """Write a ccache to a new file of mode 0600, or to stdout."""
    path = mountpoint_argument.resolve(arguments.mountpoint)
    file = os.path.join(directory_of(path, arguments.name), "ccache")
    with ccache_errors(arguments.name):
        data = mountpoint.call(path, lambda: read_file(file))
    if arguments.file == "-":
        return _write_to_stdout(data)
    target = os.path.abspath(arguments.file.removeprefix("FILE:"))
    try:
        (_replace if arguments.replace else _create)(target, data)
        on_disk = not location.in_memory(target)
    except FileExistsError:
        raise ExistsError(f"{target} exists", "add '--replace', or name another file") from None
    except OSError as error:
        raise UserError(f"cannot write {target}: {_reason(error)}") from None
    if on_disk:
        messages.say("notice", f"{target} is on a disk, where its secrets stay")
    return Exit.OK


def _write_to_stdout(data: bytes) -> int:
    """Write the ccache to stdout; UsageError if that is a terminal."""
    if sys.stdout.isatty():
        raise UsageError("a ccache is not for a terminal", "redirect the output, or name a file")
    sys.stdout.buffer.write(data)
    return Exit.OK


def _create(target: str, data: bytes) -> None:
    """Write a new file; FileExistsError if there is one."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    _write(os.open(target, flags, 0o600), target, data)


def _replace(target: str, data: bytes) -> None:
    """Write a new file and rename it over `target`."""
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
    """Write all of a new file, or remove it."""
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)
            file.write(data)
    except BaseException:
        with suppress(OSError):
            os.unlink(path)
        raise


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
