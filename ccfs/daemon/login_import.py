# SPDX-License-Identifier: MIT
"""Import the ccache that a login has left in a file; it is destroyed with its session.

The file is read in a thread of its own, because it may be on a file system that doesn't answer; the
store is changed in the loop.  The content is in the journal before the file is removed: wherever
this process is killed in between, the credentials are in one of the two, or in both.

Knows the store and the files; never FUSE, nor the client.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import trio

from ccfs.daemon.valid_credentials import count_valid
from ccfs.errors import JournalError, NoAnswerError, SourceError, UserError, redaction
from ccfs.linux import foreign_file, mountinfo
from ccfs.store import Client, Stamp
from ccfs.store.errors import BadContentError, CcacheLimitError, StoreError, TotalLimitError

if TYPE_CHECKING:
    from ccfs.service.commit import Committer
    from ccfs.service.info import Owner
    from ccfs.store.ccache import Ccache

log = logging.getLogger(__name__)

DEFAULT = "default"
"""Names the default ccache, whatever its name is."""
SECONDS = 0.5
"""Less than a login waits: it must not find that the file was removed after it gave up."""
_COMMAND = "import"


class ImportWhen(Enum):
    """Whether a ccache that exists may be replaced."""

    ALWAYS = "always"
    IF_EMPTY = "if-empty"


@dataclass(slots=True)
class _Import:
    """One import.  `stored_in`: the ccache's name, once stored; `abandoned`: it is too late."""

    path: str
    into: str
    when: ImportWhen
    client_waits: Callable[[], bool]
    stored_in: bytes | None = None
    abandoned: bool = False


class Importer:
    """Imports into one store, one at a time."""

    def __init__(self, committer: Committer, owner: Owner) -> None:
        self._committer = committer
        self._uid = owner.uid
        self._limiter = trio.CapacityLimiter(1)

    async def take(
        self,
        residual: str,
        into: str,
        when: ImportWhen,
        seconds: float = SECONDS,
        client_waits: Callable[[], bool] = lambda: True,
    ) -> str | None:
        """Move the ccache of a FILE residual into the ccache `into`.

        Returns that ccache's name once the journal has everything; None where `when` is IF_EMPTY
        and it has credentials already, or where the client waits no more when it is to be stored,
        as after this process was stopped: the file stays then.  UserError says in one line why
        nothing was imported; NoAnswerError after `seconds`.  A file that can't be removed
        afterwards is a warning in the log.
        """
        request = _Import(foreign_file.path_of_residual(residual), into, when, client_waits)
        if self._target(request) is None:
            return None
        try:
            with trio.move_on_after(seconds) as scope:
                await self._run(request)
        finally:
            request.abandoned = True
        if scope.cancelled_caught and request.stored_in is None:
            raise NoAnswerError(f"{foreign_file.printable(request.path)} could not be read in time")
        return (
            None
            if request.stored_in is None
            else request.stored_in.decode("utf-8", "surrogateescape")
        )

    def destroy(self, name: str) -> None:
        """Destroy the ccache of a name; none is fine.  UserError where the journal fails."""
        found = self._find(name)
        if found is not None:
            self._committer.store.destroy(found, self._stamp())
            self._commit()

    async def _run(self, request: _Import) -> None:
        try:
            await trio.to_thread.run_sync(
                self._move, request, abandon_on_cancel=True, limiter=self._limiter
            )
        except UserError:
            raise
        except Exception as error:
            log.error("import failed: %s", redaction.describe(error))
            raise UserError("unexpected failure of the import") from None

    def _move(self, request: _Import) -> None:
        """In the thread: what may have to wait for the file system."""
        with foreign_file.open_source(
            request.path, self._committer.store.limits.ccache_bytes
        ) as source:
            if _is_ccfs(source.device()):
                raise SourceError(f"{foreign_file.printable(request.path)} is in a ccfs already")
            if trio.from_thread.run_sync(self._store, request, source.data):
                self._remove(source)

    def _remove(self, source: foreign_file.Source) -> None:
        try:
            source.remove()
        except SourceError as error:
            log.warning("imported, but %s", error.reason)

    def _store(self, request: _Import, data: bytearray) -> bool:
        """In the loop: store the bytes and commit, unless the import was abandoned."""
        target = self._target(request)
        if request.abandoned or target is None or not request.client_waits():
            return False
        is_new = self._committer.store.collection.find(target) is None
        try:
            made = self._committer.store.put(target, data, self._stamp())
        except StoreError as error:
            self._committer.log_refusal(error)
            self._commit()
            raise _refusal(request, error) from None
        try:
            self._commit()
        except JournalError:
            if is_new:
                self._destroy_uncommitted(made)
            raise
        request.stored_in = target
        return True

    def _destroy_uncommitted(self, made: Ccache) -> None:
        """Destroy a ccache that the journal could not take: the client is told of a failure."""
        self._committer.store.destroy(made, self._stamp())
        with contextlib.suppress(JournalError):
            self._commit()

    def _commit(self) -> None:
        try:
            self._committer.commit()
        except Exception as error:
            log.error("commit failed: %s", redaction.describe(error))
            raise JournalError("the journal could not keep it") from None

    def _target(self, request: _Import) -> bytes | None:
        """The name of the ccache to store into; None where it may not be replaced."""
        found = self._find(request.into)
        if (
            request.when is ImportWhen.IF_EMPTY
            and found
            and count_valid(found, self._committer.clock())
        ):
            return None
        return found.name if found else _bytes(request.into)

    def _find(self, name: str) -> Ccache | None:
        collection = self._committer.store.collection
        return collection.default if name == DEFAULT else collection.find(_bytes(name))

    def _stamp(self) -> Stamp:
        self._committer.client = Client(self._uid, 0, _COMMAND)
        return Stamp(self._committer.clock(), self._committer.client)


def _is_ccfs(device: int) -> bool:
    """True for the device number of a ccfs: a file in one was not left by a login."""
    return any(m.is_ccfs and m.device_number == device for m in mountinfo.mounts())


_REFUSALS: dict[type[StoreError], str] = {
    BadContentError: "it is no ccache",
    CcacheLimitError: "it is too large, or there are too many ccaches",
    TotalLimitError: "there is no room for it",
}


def _refusal(request: _Import, error: StoreError) -> SourceError:
    why = _REFUSALS.get(type(error), "no ccache can have that name")
    return SourceError(f"cannot import {foreign_file.printable(request.path)}: {why}")


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
