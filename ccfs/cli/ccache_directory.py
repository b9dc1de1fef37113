"""`ccfs switch`, `destroy`, `wait` and `lock`: one ccache of the collection at a time.

Knows the file operations that the mount has for them, which a shell has as well; never the bytes of
a ccache.  Names are those of the directories in `caches/`, as `ccfs list` shows them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
from argparse import Namespace
from collections.abc import Callable, Iterator

from ccfs.cli import mountpoint_argument
from ccfs.errors import Exit, LockedError, NoCcacheError, UsageError, UserError
from ccfs.linux import record_locks
from ccfs.mounting import mountpoint

_SCRATCH = ".ccfs-switch-{}"


def switch(arguments: Namespace) -> int:
    """Make a ccache the default."""
    path = mountpoint_argument.of(arguments.mountpoint)
    directory = directory_of(path, arguments.name)
    _do(path, arguments.name, lambda: make_default(path, directory))
    return Exit.OK


def destroy(arguments: Namespace) -> int:
    """Destroy a ccache with everything in it."""
    path = mountpoint_argument.of(arguments.mountpoint)
    directory = directory_of(path, arguments.name)
    _do(path, arguments.name, lambda: os.rmdir(directory))
    return Exit.OK


def wait(arguments: Namespace) -> int:
    """Return at the next change of a ccache, or of the collection."""
    path = mountpoint_argument.of(arguments.mountpoint)
    where = path if arguments.name is None else directory_of(path, arguments.name)
    with _opened(path, arguments.name, os.path.join(where, "changed"), os.O_NONBLOCK) as fifo:
        poll = select.poll()
        poll.register(fifo, 0)
        poll.poll()
    mountpoint.ask(path, lambda: b"")
    return Exit.OK


def lock(arguments: Namespace) -> int:
    """Run a command while holding the lock of a ccache; returns the command's exit status."""
    command = arguments.argv[1:] if arguments.argv[:1] == ["--"] else arguments.argv
    if not command:
        raise UsageError("no command to run", "see 'ccfs lock --help'")
    path = mountpoint_argument.of(arguments.mountpoint)
    file = os.path.join(directory_of(path, arguments.name), "lock")
    with _opened(path, arguments.name, file, os.O_RDWR) as descriptor:
        _lock(descriptor, arguments)
        held = os.fstat(descriptor)
        _do(path, arguments.name, lambda: _check_same(held, file))
        return _run(command)


def make_default(path: str, directory: str) -> None:
    """Make the ccache of a directory the default of the mount at `path`; OSError."""
    os.stat(directory)
    scratch = os.path.join(path, _SCRATCH.format(os.getpid()))
    os.symlink(os.path.relpath(directory, path), scratch)
    os.rename(scratch, os.path.join(path, "default"))


def directory_of(path: str, name: str) -> str:
    """The directory of a ccache; NoCcacheError for what can't be one's name."""
    if not name or "/" in name or name in (".", ".."):
        raise NoCcacheError(f"cannot open ccache {name!r}: no ccache has such a name", _HINT)
    return os.path.join(path, "caches", name)


_HINT = "list them with 'ccfs list'"


def _do(path: str, name: str | None, work: Callable[[], object]) -> None:
    """Do some work on the mount, its failures as a person would name them."""

    def bounded() -> bytes:
        work()
        return b""

    with failures(name):
        mountpoint.ask(path, bounded)


@contextlib.contextmanager
def failures(name: str | None) -> Iterator[None]:
    """Around work on a ccache of a name: its failures as a person would name them."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESTALE, errno.ENOTDIR):
            raise NoCcacheError(f'cannot open ccache "{name}": no such ccache', _HINT) from None
        raise UserError(f'cannot use ccache "{name}": {error.strerror}') from None


@contextlib.contextmanager
def _opened(path: str, name: str | None, file: str, flags: int) -> Iterator[int]:
    """A descriptor of a file of the mount, which answers."""
    _do(path, name, lambda: os.stat(file))
    with failures(name):
        descriptor = os.open(file, flags | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(descriptor: int, arguments: Namespace) -> None:
    kind = record_locks.READ if arguments.shared else record_locks.WRITE
    if not arguments.nonblock:
        record_locks.lock(descriptor, kind)
    elif not record_locks.try_lock(descriptor, kind):
        raise LockedError(f'ccache "{arguments.name}" is locked', "wait without --nonblock")


def _check_same(held: os.stat_result, file: str) -> None:
    """The ccache may have been destroyed, and made anew, while we waited."""
    if not os.path.samestat(held, os.stat(file)):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def _run(command: list[str]) -> int:
    import subprocess

    try:
        status = subprocess.run(command, check=False).returncode  # noqa: S603 - the user's own
    except OSError as error:
        what = f"cannot run {command[0]}: {error.strerror}"
        raise UserError(what, "name a program, and its arguments behind it") from None
    return 128 - status if status < 0 else status
