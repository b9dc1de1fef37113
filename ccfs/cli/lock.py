# SPDX-License-Identifier: MIT
"""`ccfs lock`: run a command while holding the lock of a ccache.

Knows the file `lock` of a ccache and open file description locks; never what the lock is for.
"""

from __future__ import annotations

import errno
import os
from argparse import Namespace

from ccfs.cli import mountpoint_argument
from ccfs.cli.ccache_directory import directory_of, open_file, run_on_mount
from ccfs.errors import LockedError, UsageError, UserError
from ccfs.linux import record_locks


def run(arguments: Namespace) -> int:
    """Run a command while holding the lock; return its exit status, 128+N for signal N."""
    command = arguments.argv[1:] if arguments.argv[:1] == ["--"] else arguments.argv
    if not command:
        raise UsageError("no command to run", "see 'ccfs lock --help'")
    path = mountpoint_argument.resolve(arguments.mountpoint)
    file = os.path.join(directory_of(path, arguments.name), "lock")
    with open_file(path, arguments.name, file, os.O_RDWR) as descriptor:
        _lock(descriptor, arguments)
        locked = os.fstat(descriptor)
        run_on_mount(path, arguments.name, lambda: _check_current(locked, file))
        return _run_command(command)


def _lock(descriptor: int, arguments: Namespace) -> None:
    lock_type = record_locks.READ if arguments.shared else record_locks.WRITE
    if not arguments.nonblock:
        record_locks.lock(descriptor, lock_type)
    elif not record_locks.try_lock(descriptor, lock_type):
        raise LockedError(f'ccache "{arguments.name}" is locked', "wait without --nonblock")


def _check_current(locked: os.stat_result, file: str) -> None:
    """Raise ENOENT if the ccache was destroyed, or made anew, while this process waited."""
    if not os.path.samestat(locked, os.stat(file)):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def _run_command(command: list[str]) -> int:
    import subprocess  # here: no other command needs it

    try:
        status = subprocess.run(command, check=False).returncode  # noqa: S603 - the user's own
    except OSError as error:
        reason = f"cannot run {command[0]}: {error.strerror}"
        raise UserError(reason, "name a program, and its arguments after it") from None
    return 128 - status if status < 0 else status
