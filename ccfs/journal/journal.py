"""The journal: what was acknowledged survives the process.

Each step of the store is one frame of a log.  It has all that a client could miss: ccaches under
the numbers that the kernel knows, what open files have left incomplete, scratch files and links,
the log of changes, and notes of the layer above.  A log that is mostly dead is written anew, a
slice with each step.
"""

from __future__ import annotations

import os
import struct
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from ccfs.journal import effects_codec
from ccfs.journal.log import Log
from ccfs.journal.replay import Held, replay
from ccfs.journal.writer import Writer
from ccfs.store.effects import Effects, Listing
from ccfs.store.errors import DamagedError

if TYPE_CHECKING:
    from ccfs.store.snapshot import Saved
    from ccfs.store.store import Store

SPARE = 256 * 1024
"""Bytes that a log may have beside twice what it had when it was written anew."""
SLICE = 256 * 1024
"""Bytes of the store that go into a new log with each step, a little more or less."""
NOTES = 256
"""How many notes go into a new log at a time."""
_BESIDE = ".new"
"""Behind the name of the journal: a log that is to take its place."""


class Journal:
    """One open journal: the file at `path`, which no other process has open as one.

    `last`: what the last step made stale that was in the journal when it was loaded.
    """

    def __init__(self, path: str, *, fresh: bool) -> None:
        """Open it, or begin a new one beside it, which `create` puts in its place.

        Raises InUseError, DamagedError.
        """
        self._path = path
        self._next: Writer | None = None
        self._left: list[Effects] = []
        self.last = Effects()
        try:
            self._writer = Writer(Log(path + _BESIDE * fresh, fresh=fresh), Held())
        except OSError as error:
            raise DamagedError(_reason(error)) from None

    def create(self, mountpoint: str, uid: int, store: Store) -> None:
        """Begin a new one with what the store has now.  DamagedError where there is no room."""
        self._mountpoint, self._uid = _blob(mountpoint), uid
        try:
            self._writer.log.begin(self._mountpoint, self._uid)
            self._writer.add(store, _all(store))
            os.rename(self._path + _BESIDE, self._path)
        except OSError as error:
            raise DamagedError(_reason(error)) from None
        self._most = 2 * self._writer.log.end + SPARE

    def load(self, mountpoint: str, uid: int) -> Saved:
        """Read everything back.

        Raises DamagedError for a journal that is damaged, of another owner, or that has lost its
        end; NewerError for one of a later version, ForeignError for one of another mountpoint.
        """
        self._mountpoint, self._uid = _blob(mountpoint), uid
        log = self._writer.log
        try:
            log.check(self._mountpoint, uid)
            found = replay(log)
            made = (
                _everything(found.saved) if found.made is None else effects_codec.decode(found.made)
            )
            log.forget_rest()
            self._drop_next()
        except (OSError, struct.error, KeyError, IndexError, ValueError) as error:
            raise DamagedError(_reason(error)) from None
        self._writer, self.last = Writer(log, found.held), made
        self._most = 2 * found.alive + SPARE
        return found.saved

    def commit(self, store: Store, effects: Effects) -> None:
        """Have one step in the journal, and all that could not be before.

        DamagedError where it can't be: what it has changed is written anew with the next step.
        """
        try:
            self._writer.add(store, effects, made=effects)
        except Exception as error:
            self._drop_next()  # it would never hear of this step
            raise DamagedError(_reason(error)) from None
        if self._next is not None:
            self._go_on(self._next, store, effects)
        elif self._writer.log.end > self._most:
            self._begin_anew(store, effects)

    @property
    def mark(self) -> tuple[int, int]:
        """What tells the next step from all others, in this log and any other: see `has_made`."""
        log = self._writer.log
        return log.name, log.step + 1

    def has_made(self, mark: tuple[int, int]) -> bool:
        """Whether the step that was next when `mark` was taken is in the journal.

        One log takes the place of another only after a step that is in both.
        """
        log = self._writer.log
        return mark[0] != log.name or mark[1] <= log.step

    def is_at(self, path: str) -> bool:
        """Whether a path leads to what is open here, or is to do so."""
        return self._writer.log.is_file(path) or self._writer.log.is_file(path + _BESIDE)

    def close(self) -> None:
        """Let the file go."""
        self._drop_next()
        self._writer.log.close()

    def _begin_anew(self, store: Store, effects: Effects) -> None:
        """Begin a log without what is dead; where there is no room this one grows on."""
        self._most *= 2
        try:
            self._next = Writer(Log(self._path + _BESIDE, fresh=True), Held())
            self._next.log.begin(self._mountpoint, self._uid)
        except OSError:
            self._drop_next()
            return
        self._left = _parts(store)
        self._go_on(self._next, store, effects)

    def _go_on(self, new: Writer, store: Store, effects: Effects) -> None:
        """Have a step in the new log, too, and some more of the store; change over at the end.

        So a step takes longer by one slice, or by one ccache that is larger.  Where it can't be the
        old log goes on: the step is in that already.
        """
        try:
            new.add(store, effects)
            most = new.log.end + SLICE
            while self._left and new.log.end < most:
                new.add(store, self._left.pop())
            if not self._left:
                new.add(store, Effects(), made=effects, older=True)
                self._change_over(new)
        except Exception:
            self._drop_next()

    def _change_over(self, new: Writer) -> None:
        os.rename(self._path + _BESIDE, self._path)
        old, self._writer, self._next = self._writer, new, None
        self._most = 2 * new.log.end + SPARE
        old.log.wipe()
        old.log.close()

    def _drop_next(self) -> None:
        """Overwrite and remove what a log beside has, of this process or of one that was killed."""
        if self._next is not None:
            self._next.log.close()
            self._next = None
        with suppress(OSError):
            log = Log(self._path + _BESIDE, fresh=False)
            log.wipe()
            log.close()
            os.unlink(self._path + _BESIDE)


def _all(store: Store) -> Effects:
    """All that a store has, as if it had changed."""
    return Effects(
        changed={ccache.serial for ccache in store.collection.all()},
        scratch_files={
            file.number: sys.maxsize for file in (*store.scratch.all(), *store.generations.left())
        },
        scratch_links=set(store.scratch.links),
        notes=dict(store.notes),
    )


def _parts(store: Store) -> list[Effects]:
    """The same in parts."""
    whole = _all(store)
    keys = list(whole.notes)
    some = [keys[at : at + NOTES] for at in range(0, len(keys), NOTES)]
    return [
        *(Effects(changed={serial}) for serial in whole.changed),
        *(Effects(scratch_files={number: sys.maxsize}) for number in whole.scratch_files),
        *(Effects(notes=dict.fromkeys(part, b"")) for part in some),
        Effects(scratch_links=whole.scratch_links),
    ]


def _everything(saved: Saved) -> Effects:
    """What a step has made stale of which nothing is known."""
    serials = {ccache.serial for ccache in saved.ccaches}
    return Effects(
        superseded=[number for ccache in saved.ccaches for number, _ in ccache.older],
        listings={Listing.COLLECTION, *serials},
        changed=set(serials),
        changed_outside_fuse=set(serials),
        logged=True,
    )


def _blob(path: str) -> bytes:
    """A path as the kernel has it: any bytes."""
    return path.encode("utf-8", "surrogateescape")


def _reason(error: Exception) -> str:
    """What the kernel says of a failure; nothing else may quote content."""
    said = isinstance(error, OSError) and error.strerror
    return said.lower() if said else "it is damaged"
