"""What every handler stands behind.

No input and no bug may take the mount down: pyfuse3 ends it for any exception but FUSEError.  A
refusal becomes its errno value; anything unexpected is logged, without its message, which might
hold what nobody should read, and becomes EIO.
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
from ccfs.ops.file_system import Server

log = logging.getLogger(__name__)

Ts = TypeVarTuple("Ts")
R = TypeVar("R")


HANDLERS: list[str] = []
"""The names of all handlers, as `stats` counts them."""


class HasServer(Protocol):
    """What handlers are methods of."""

    server: Server


S = TypeVar("S", bound=HasServer)

CHANGES = frozenset(("setattr", "mkdir", "symlink", "unlink", "rmdir", "rename", "create", "write"))
"""Handlers that are asked for a change, and may find that it was made already."""
ADDS = frozenset(("mkdir", "symlink", "rename", "create", "write"))
"""Those that may add something: not while the journal has no room for what was done before."""
NAMES: dict[str, tuple[tuple[int, int], ...]] = {
    **dict.fromkeys(("mkdir", "symlink", "unlink", "rmdir", "create"), ((0, 1),)),
    "rename": ((0, 1), (2, 3)),
}
"""Which of their arguments are a directory and a name that they change."""


def handler(
    function: Callable[[S, *Ts], R],
) -> Callable[[S, *Ts], Coroutine[Any, Any, R]]:
    """Make a plain method a pyfuse3 handler: counted, and nothing escapes but FUSEError.

    Afterwards the outside is told what has changed, also by a step that was refused half way.
    """
    name = function.__name__
    changes, adds, names = name in CHANGES, name in ADDS, NAMES.get(name, ())
    HANDLERS.append(name)

    @functools.wraps(function)
    async def guarded(self: S, /, *args: *Ts) -> R:
        server = self.server
        server.requests[name] += 1
        if adds and server.unkept and not _settle(server):
            raise pyfuse3.FUSEError(errno.EIO)
        act: Callable[..., R] = function
        if server.again:
            server.again = False
            act = resent_requests.of(name, function)
        try:
            result = act(self, *args)
        except Exception as error:
            server.refuse(error)
            _settle(server)
            known = error.errno if isinstance(error, pyfuse3.FUSEError) else _errno(error, name)
            raise pyfuse3.FUSEError(known) from None
        wanted = server.unsettled or (changes and server.unkept)
        if wanted and not _settle(server, asked=True):
            for directory, entry in names:  # an error tells the kernel nothing of a step
                server.kernel.forget_name(args[directory], args[entry])  # type: ignore[arg-type]
            raise pyfuse3.FUSEError(errno.EIO)
        return result

    return guarded


def notice(
    function: Callable[[S, *Ts], None],
) -> Callable[[S, *Ts], Coroutine[Any, Any, None]]:
    """Make a plain method a handler that answers nobody: not even FUSEError may escape it."""
    guarded = handler(function)

    @functools.wraps(function)
    async def silenced(self: S, /, *args: *Ts) -> None:
        with suppress(pyfuse3.FUSEError):
            await guarded(self, *args)

    return silenced


def _settle(server: Server, *, asked: bool = False) -> bool:
    """Whether all that was done is kept, and may be said to be done."""
    try:
        server.settle(note=server.note_asked if asked else None)
    except Exception as error:
        _report(error, "settle")
        return False
    return True


def _errno(error: Exception, name: str) -> int:
    known = errno_of(error)
    if known is not None:
        return known
    _report(error, name)
    return errno.EIO


def _report(error: Exception, name: str) -> None:
    log.error("%s failed: %s", name, redaction.describe(error))
