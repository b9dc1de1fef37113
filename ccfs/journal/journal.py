# SPDX-License-Identifier: MIT
"""The journal: what was acknowledged survives the process.

Each step of the store is one frame of a log.  It has all that a client could miss: ccaches under
the numbers that the kernel knows, incomplete records of open files, scratch files and links, the
event log, and notes of the layer above.  A log that is mostly dead is replaced by a new one, which
is written a slice with each step.
"""

from __future__ import annotations

import os
import struct
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from ccfs.journal import effects_codec
from ccfs.journal.log import Log
from ccfs.journal.log_index import LogIndex
from ccfs.journal.replay import replay
from ccfs.journal.writer import Writer
from ccfs.store.effects import Effects, Listing
from ccfs.store.errors import DamagedError

if TYPE_CHECKING:
    from ccfs.store.snapshot import Saved
    from ccfs.store.store import Store

SPARE = 256 * 1024
"""Bytes that a log may have beyond twice what it had when it was written anew."""
SLICE = 256 * 1024
"""About how many bytes of the store go into a new log with each step."""
NOTES = 256
"""How many notes go into a new log at a time."""
_NEW = ".new"
"""Suffix of a log that is to replace the journal."""


class Journal:
    """One open journal: the file at `path`, locked against other processes.

    `last`: what the last step made stale that was in the journal when it was loaded.
    """

    def __init__(self, path: str, *, fresh: bool) -> None:
        """Open it, or (`fresh`) begin a new one at PATH.new, which `create` renames to `path`.

        Raises InUseError, DamagedError.
        """
        self._path = path
        self._new_writer: Writer | None = None
        self._unwritten_parts: list[Effects] = []
        self.last = Effects()
        try:
            self._writer = Writer(Log(path + _NEW * fresh, fresh=fresh), LogIndex())
        except OSError as error:
            raise DamagedError(_reason(error)) from None

    def create(self, mountpoint: str, uid: int, store: Store) -> None:
        """Write all that the store has.  DamagedError where there is no room."""
        self._mountpoint, self._uid = _path_bytes(mountpoint), uid
        try:
            self._writer.log.begin(self._mountpoint, self._uid)
            self._writer.add(store, _all(store))
            os.rename(self._path + _NEW, self._path)
        except OSError as error:
            raise DamagedError(_reason(error)) from None
        self._size_limit = 2 * self._writer.log.end + SPARE

    def load(self, mountpoint: str, uid: int) -> Saved:
        """Read everything back.

        Raises DamagedError for a journal that is damaged, of another user, or that has lost its
        end; NewerError for one of a later version, ForeignError for one of another mountpoint.
        """
        self._mountpoint, self._uid = _path_bytes(mountpoint), uid
        log = self._writer.log
        try:
            log.check(self._mountpoint, uid)
            replayed = replay(log)
            if replayed.stale is None:
                last = _all_stale(replayed.saved)
            else:
                last = effects_codec.decode(replayed.stale)
            log.wipe_rest()
            self._drop_new()
        except (OSError, struct.error, KeyError, IndexError, ValueError) as error:
            raise DamagedError(_reason(error)) from None
        self._writer, self.last = Writer(log, replayed.index), last
        self._size_limit = 2 * replayed.live_bytes + SPARE
        return replayed.saved

    def commit(self, store: Store, effects: Effects) -> None:
        """Write one step, and all that could not be written before.

        DamagedError where it can't be: what it has changed is written with the next step.
        """
        try:
            self._writer.add(store, effects, stale=effects)
        except Exception as error:
            self._drop_new()  # it would lack this step
            raise DamagedError(_reason(error)) from None
        if self._new_writer is not None:
            self._continue_new(self._new_writer, store, effects)
        elif self._writer.log.end > self._size_limit:
            self._begin_new(store, effects)

    @property
    def mark(self) -> tuple[int, int]:
        """The mark of the next step: the log's name, and the number of the frame to come.

        No other step, in this log or any other, has the same.
        """
        log = self._writer.log
        return log.name, log.step + 1

    def has_made(self, mark: tuple[int, int]) -> bool:
        """Whether the step that was next when `mark` was taken is in the journal.

        A step is in the old log before a new one replaces that.
        """
        log = self._writer.log
        return mark[0] != log.name or mark[1] <= log.step

    def is_at(self, path: str) -> bool:
        """Whether `path` leads to the open log, or PATH.new does."""
        return self._writer.log.is_file(path) or self._writer.log.is_file(path + _NEW)

    def close(self) -> None:
        """Close the file."""
        self._drop_new()
        self._writer.log.close()

    def _begin_new(self, store: Store, effects: Effects) -> None:
        """Begin a log without dead data; where there is no room for it the old one grows on."""
        self._size_limit *= 2
        try:
            self._new_writer = Writer(Log(self._path + _NEW, fresh=True), LogIndex())
            self._new_writer.log.begin(self._mountpoint, self._uid)
        except OSError:
            self._drop_new()
            return
        self._unwritten_parts = _parts(store)
        self._continue_new(self._new_writer, store, effects)

    def _continue_new(self, new: Writer, store: Store, effects: Effects) -> None:
        """Write a step and a slice of the store to the new log; replace the old one at the end.

        So a step takes longer by one slice, or by one ccache that is larger.  Where writing fails
        the old log goes on, which has the step already.
        """
        try:
            new.add(store, effects)
            slice_end = new.log.end + SLICE
            while self._unwritten_parts and new.log.end < slice_end:
                new.add(store, self._unwritten_parts.pop())
            if not self._unwritten_parts:
                new.add(store, Effects(), stale=effects, superseded=True)
                self._replace_log(new)
        except Exception:
            self._drop_new()

    def _replace_log(self, new: Writer) -> None:
        os.rename(self._path + _NEW, self._path)
        old, self._writer, self._new_writer = self._writer, new, None
        self._size_limit = 2 * new.log.end + SPARE
        old.log.wipe()
        old.log.close()

    def _drop_new(self) -> None:
        """Overwrite and remove an unfinished new log, of this process or of one that was killed."""
        if self._new_writer is not None:
            self._new_writer.log.close()
            self._new_writer = None
        with suppress(OSError):
            log = Log(self._path + _NEW, fresh=False)
            log.wipe()
            log.close()
            os.unlink(self._path + _NEW)


def _all(store: Store) -> Effects:
    """Effects that have the journal write all that a store has."""
    files = (*store.scratch.all(), *store.generations.orphans())
    return Effects(
        changed={ccache.serial for ccache in store.collection.all()},
        scratch_files={file.number: sys.maxsize for file in files},
        scratch_links=set(store.scratch.links),
        notes=dict(store.notes),
    )


def _parts(store: Store) -> list[Effects]:
    """The same, in parts."""
    whole = _all(store)
    keys = list(whole.notes)
    slices = [keys[at : at + NOTES] for at in range(0, len(keys), NOTES)]
    return [
        *(Effects(changed={serial}) for serial in whole.changed),
        *(Effects(scratch_files={number: sys.maxsize}) for number in whole.scratch_files),
        *(Effects(notes=dict.fromkeys(part, b"")) for part in slices),
        Effects(scratch_links=whole.scratch_links),
    ]


def _all_stale(saved: Saved) -> Effects:
    """What may be stale where the journal doesn't say what its last step made stale."""
    serials = {ccache.serial for ccache in saved.ccaches}
    return Effects(
        superseded=[number for ccache in saved.ccaches for number, _ in ccache.older],
        listings={Listing.COLLECTION, *serials},
        changed=set(serials),
        changed_outside_fuse=set(serials),
        logged=True,
    )


def _path_bytes(path: str) -> bytes:
    """A path as the kernel has it, in any locale."""
    return path.encode("utf-8", "surrogateescape")


def _reason(error: Exception) -> str:
    """What the kernel says of a failure; any other message may quote content."""
    strerror = isinstance(error, OSError) and error.strerror
    return strerror.lower() if strerror else "it is damaged"
