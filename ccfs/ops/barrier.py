# SPDX-License-Identifier: MIT
"""The barrier that every FUSE handler is called through.

pyfuse3 ends the mount for any exception but FUSEError.  A refusal becomes its errno value; any
other exception is logged without its message, which might contain secrets, and becomes EIO.
"""

import errno
import functools
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Protocol, TypeVar, TypeVarTuple

import pyfuse3

from ccfs.errors import redaction
from ccfs.ops import resent_requests
from ccfs.ops.errnos import errno_of
from ccfs.ops.file_system import FileSystem

log = logging.getLogger(__name__)

Ts = TypeVarTuple("Ts")
R = TypeVar("R")


HANDLERS: list[str] = []
"""The names of all handlers, as `stats` counts them."""


class HasFileSystem(Protocol):
    """An object whose methods are handlers."""

    fs: FileSystem


H = TypeVar("H", bound=HasFileSystem)

CHANGES = frozenset(("setattr", "mkdir", "symlink", "unlink", "rmdir", "rename", "create", "write"))
"""Handlers of changes.  Asked again for a change that was made they have no effects."""
ADDS = frozenset(("mkdir", "symlink", "rename", "create", "write"))
"""Handlers that may add data: refused while the journal can't take an earlier step."""
NAMES: dict[str, tuple[tuple[int, int], ...]] = {
    **dict.fromkeys(("mkdir", "symlink", "unlink", "rmdir", "create"), ((0, 1),)),
    "rename": ((0, 1), (2, 3)),
}
"""Indices of the arguments that are a directory and a name that the handler changes."""


def handler(
    function: Callable[[H, *Ts], R],
) -> Callable[[H, *Ts], Coroutine[Any, Any, R]]:
    """Make a plain method a pyfuse3 handler: counted, and raising FUSEError only.

    The effects are committed before the reply, also those of a step that was refused midway.
    """
    name = function.__name__
    changes, adds, names = name in CHANGES, name in ADDS, NAMES.get(name, ())
    HANDLERS.append(name)

    @functools.wraps(function)
    async def guarded(self: H, /, *args: *Ts) -> R:
        fs, committer = self.fs, self.fs.committer
        committer.requests[name] += 1
        if adds and committer.journal_behind and not _commit(fs):
            raise pyfuse3.FUSEError(errno.EIO)
        call: Callable[..., R] = function
        if fs.resent:
            fs.resent = False
            call = resent_requests.answer_of(name, function)
        try:
            result = call(self, *args)
        except Exception as error:
            committer.log_refusal(error)
            _commit(fs)
            number = error.errno if isinstance(error, pyfuse3.FUSEError) else _errno(error, name)
            raise pyfuse3.FUSEError(number) from None
        commits = committer.has_effects or (changes and committer.journal_behind)
        if commits and not _commit(fs, for_request=True):
            # The kernel drops no dentry for a request that fails.
            invalidate: Callable[..., None] = fs.notifications.invalidate_entry
            for directory, entry in names:
                invalidate(args[directory], args[entry])
            raise pyfuse3.FUSEError(errno.EIO)
        return result

    return guarded


def handler_without_reply(
    function: Callable[[H, *Ts], None],
) -> Callable[[H, *Ts], Coroutine[Any, Any, None]]:
    """Make a plain method the handler of a request without reply: it raises nothing at all."""
    guarded = handler(function)

    @functools.wraps(function)
    async def silenced(self: H, /, *args: *Ts) -> None:
        with suppress(pyfuse3.FUSEError):
            await guarded(self, *args)

    return silenced


def _commit(fs: FileSystem, *, for_request: bool = False) -> bool:
    """Commit; returns whether it succeeded.

    `for_request`: the step is the present request's, and is marked as such for the next daemon.
    """
    committer = fs.committer
    try:
        committer.commit(mark_step=committer.mark_request if for_request else None)
    except Exception as error:
        _log(error, "commit")
        return False
    return True


def _errno(error: Exception, name: str) -> int:
    number = errno_of(error)
    if number is not None:
        return number
    _log(error, name)
    return errno.EIO


def _log(error: Exception, name: str) -> None:
    log.error("%s failed: %s", name, redaction.describe(error))
