"""What a login brings: a ccache in a file moves into the mount, and goes with its session.

Knows the store and files that were left for it; never FUSE, nor who asks.  The file is looked at
in a thread of its own, because it may be on a file system that doesn't answer; the store is changed
in the loop.  Before the file is removed its content is in the journal: whatever ends us in between,
it is in one of the two, or in both.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import trio

from ccfs.daemon.control_endpoint import valid_credentials
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
"""Stands for the default ccache, whatever its name."""
SECONDS = 0.5
"""Less than a login waits: a file that goes later goes behind its back."""
_COMMAND = "import"


class When(Enum):
    """What becomes of a ccache that is there."""

    ALWAYS = "always"
    IF_EMPTY = "if-empty"


@dataclass(slots=True)
class _Job:
    """One import.  `stored`: the name of the ccache that has it; `over`: nobody waits for it."""

    path: str
    into: str
    when: When
    waits: Callable[[], bool]
    stored: bytes | None = None
    over: bool = False


class Importer:
    """Imports into one store, one at a time."""

    def __init__(self, committer: Committer, owner: Owner) -> None:
        self._committer = committer
        self._uid = owner.uid
        self._one = trio.CapacityLimiter(1)

    async def take(
        self,
        residual: str,
        into: str,
        when: When,
        seconds: float = SECONDS,
        waits: Callable[[], bool] = lambda: True,
    ) -> str | None:
        """Move the ccache of a FILE residual into that of a name, or into the default.

        Returns the ccache's name once everything is kept; None where `when` is IF_EMPTY and it has
        credentials already, or where nobody `waits` any more when it comes to be stored, as after
        this process has stood still: the file stays then.  UserError says in one line why nothing
        was imported; NoAnswerError after `seconds`.  A file that can't be removed afterwards is a
        warning in the log.
        """
        job = _Job(foreign_file.path_of(residual), into, when, waits)
        if self._target(job) is None:
            return None
        try:
            with trio.move_on_after(seconds) as scope:
                await self._run(job)
        finally:
            job.over = True
        if scope.cancelled_caught and job.stored is None:
            raise NoAnswerError(f"{foreign_file.shown(job.path)} could not be read in time")
        return None if job.stored is None else job.stored.decode("utf-8", "surrogateescape")

    def destroy(self, name: str) -> None:
        """Destroy the ccache of a name; none is fine.  UserError where the journal fails."""
        found = self._find(name)
        if found is not None:
            self._committer.store.destroy(found, self._stamp())
            self._commit()

    async def _run(self, job: _Job) -> None:
        try:
            await trio.to_thread.run_sync(
                self._move, job, abandon_on_cancel=True, limiter=self._one
            )
        except UserError:
            raise
        except Exception as error:
            log.error("import failed: %s", redaction.describe(error))
            raise UserError("unexpected failure of the import") from None

    def _move(self, job: _Job) -> None:
        """In the thread: nothing here but what may wait for the file."""
        with foreign_file.opened(job.path, self._committer.store.limits.ccache_bytes) as source:
            if _is_ours(source.device()):
                raise SourceError(f"{foreign_file.shown(job.path)} is in a ccfs already")
            if trio.from_thread.run_sync(self._store, job, source.data):
                self._remove(source)

    def _remove(self, source: foreign_file.Source) -> None:
        try:
            source.remove()
        except SourceError as error:
            log.warning("imported, but %s", error.reason)

    def _store(self, job: _Job, data: bytearray) -> bool:
        """In the loop: have the bytes stored and kept, unless nobody wants that any more."""
        target = self._target(job)
        if job.over or target is None or not job.waits():
            return False
        is_new = self._committer.store.collection.find(target) is None
        try:
            made = self._committer.store.put(target, data, self._stamp())
        except StoreError as error:
            self._committer.log_refusal(error)
            self._commit()
            raise _refusal(job, error) from None
        try:
            self._commit()
        except JournalError:
            if is_new:
                self._take_back(made)
            raise
        job.stored = target
        return True

    def _take_back(self, made: Ccache) -> None:
        """Nobody hears of a ccache that could not be kept."""
        self._committer.store.destroy(made, self._stamp())
        with contextlib.suppress(JournalError):
            self._commit()

    def _commit(self) -> None:
        try:
            self._committer.commit()
        except Exception as error:
            log.error("commit failed: %s", redaction.describe(error))
            raise JournalError("the journal could not keep it") from None

    def _target(self, job: _Job) -> bytes | None:
        """The name of the ccache that is to have it; None where that has something already."""
        found = self._find(job.into)
        if (
            job.when is When.IF_EMPTY
            and found
            and valid_credentials(found, self._committer.clock())
        ):
            return None
        return found.name if found else _bytes(job.into)

    def _find(self, name: str) -> Ccache | None:
        collection = self._committer.store.collection
        return collection.default if name == DEFAULT else collection.find(_bytes(name))

    def _stamp(self) -> Stamp:
        self._committer.client = Client(self._uid, 0, _COMMAND)
        return Stamp(self._committer.clock(), self._committer.client)


def _is_ours(device: int) -> bool:
    """Whether a file system is a ccfs: what is in one was not left by a login."""
    mounts = mountinfo.mounts()
    return any(m.is_ccfs and os.makedev(0, m.connection) == device for m in mounts)


_REFUSALS: dict[type[StoreError], str] = {
    BadContentError: "it is no ccache",
    CcacheLimitError: "it is too large, or there are too many ccaches",
    TotalLimitError: "there is no room for it",
}


def _refusal(job: _Job, error: StoreError) -> SourceError:
    why = _REFUSALS.get(type(error), "no ccache can have that name")
    return SourceError(f"cannot import {foreign_file.shown(job.path)}: {why}")


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
