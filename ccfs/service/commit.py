# SPDX-License-Identifier: MIT
"""Commit: the effects of a step go to the journal, then to the subscribers, then to the client.

Knows the store, the journal's interface, the clock, the caller of the present step, and the words
of the handover page that say how far a request has come; never FUSE, inodes or KCM messages.
"""

import logging
import time
from collections.abc import Callable
from typing import Protocol

from ccfs.service.caller import COMMAND_UNKNOWN, CallerLookup, process_of
from ccfs.service.errors import LIMITS
from ccfs.service.notes import Notes
from ccfs.store import Client, Stamp, Store
from ccfs.store.effects import Effects
from ccfs.store.errors import DamagedError
from ccfs.takeover.handover import MARK_NAME, MARK_STEP, NOTIFYING, Handover, words_of

log = logging.getLogger(__name__)

MarkStep = Callable[[int, int], None]
"""Records the mark of a step that is about to be committed: the journal's name, a step number."""
Subscriber = Callable[[Effects], None]


class Journal(Protocol):
    """What the effects of each step are written to (`ccfs.journal`)."""

    @property
    def mark(self) -> tuple[int, int]:
        """The mark of the next step."""

    @property
    def last(self) -> Effects:
        """The effects of the last step that was read back."""

    def has_made(self, mark: tuple[int, int]) -> bool:
        """Whether the step of a mark is in the journal."""

    def commit(self, store: Store, effects: Effects) -> None:
        """Write one step, and earlier ones that could not be written.  Raises DamagedError."""


class Committer:
    """Makes steps durable and publishes their effects.

    `client`: the process that asks for the present step.  `requests`: how many there were, by
    operation.  `journal_behind`: whether the journal lacks a step, since its last commit failed.
    """

    def __init__(
        self,
        store: Store,
        *,
        journal: Journal | None = None,
        clock: Callable[[], float] = time.time,
        handover: Handover | None = None,
    ) -> None:
        self.store = store
        self.journal = journal
        self.clock = clock
        self.handover = handover
        self.notes = Notes(store)
        self.client = Client(0, 0, "ccfs")
        self.requests: dict[str, int] = {}
        self.journal_behind = False
        self._callers = CallerLookup()
        self._subscribers: list[Subscriber] = []
        self._words = words_of(handover)

    def subscribe(self, subscriber: Subscriber) -> None:
        """Call `subscriber(effects)` after each commit, also after one that failed."""
        self._subscribers.append(subscriber)

    def stamp(self, uid: int, pid: int) -> Stamp:
        """Begin a step that changes something, for the thread `pid` of a process."""
        now = self.clock()
        self.client = Client(uid, *self._callers.process(pid, now))
        return Stamp(now, self.client)

    def stamp_read(self, uid: int, pid: int) -> Stamp:
        """Begin a step that changes nothing: the caller's command is not looked up."""
        self.client = Client(uid, pid, COMMAND_UNKNOWN)
        return Stamp(self.clock(), self.client)

    def log_refusal(self, error: Exception) -> None:
        """Add an event where a limit has stopped the present step; its caller still waits."""
        if not isinstance(error, LIMITS):
            return
        client = self.client
        if client.command is COMMAND_UNKNOWN:
            client = Client(client.uid, *process_of(client.pid))
        self.store.log_refusal(Stamp(self.clock(), client), str(error))

    @property
    def has_effects(self) -> bool:
        """Whether anything has changed since the last commit."""
        return bool(self.store.effects)

    def commit(self, *, mark_step: MarkStep | None = None) -> None:
        """Write the effects of the last steps to the journal, then publish them.

        `mark_step` is called before the journal is written: after a kill the next daemon looks
        whether the step of that mark is in the journal, and so whether the client's request was
        carried out.  Raises DamagedError where the journal can't be written: the client may not
        hear that its request is done.
        """
        effects = self.store.take_effects()
        if effects is None:
            if self.journal_behind:
                self._write_journal(Effects(), None)
            return
        try:
            self._write_journal(effects, mark_step)
        except DamagedError:
            self._renumber(effects)
            raise
        finally:
            self.publish(effects)
            self._words[NOTIFYING] = 0

    def commit_or_warn(self) -> None:
        """Commit on no client's behalf, as housekeeping does; log a failure."""
        try:
            self.commit()
        except DamagedError as error:
            log.warning("the journal can't be written: %s", error)

    def publish(self, effects: Effects) -> None:
        """Pass the effects of steps to all subscribers."""
        for subscriber in self._subscribers:
            subscriber(effects)

    def mark_request(self, name: int, step: int) -> None:
        """Record in the handover page the step that the present FUSE request makes."""
        words = self._words
        words[MARK_STEP] = 0
        words[MARK_NAME] = name
        words[MARK_STEP] = step + 1

    def has_made_request(self) -> bool:
        """Whether the last daemon made the step of the FUSE request that it did not answer."""
        step = self._words[MARK_STEP]
        return bool(step) and self.has_made(self._words[MARK_NAME], step - 1)

    def has_made(self, name: int, step: int) -> bool:
        """Whether the step of a mark is in the journal."""
        return self.journal is not None and self.journal.has_made((name, step))

    def _write_journal(self, effects: Effects, mark_step: MarkStep | None) -> None:
        """Write a step before any subscriber or client hears of it.

        NOTIFYING tells the next daemon that notifications of the last step may be unsent.
        """
        if self.journal is None or not (effects.durable or self.journal_behind):
            return
        self.notes.remove_from(effects)
        self.journal_behind = True
        self._words[NOTIFYING] = 1
        if mark_step:
            mark_step(*self.journal.mark)
        self.journal.commit(self.store, effects)
        self.journal_behind = False

    def _renumber(self, effects: Effects) -> None:
        """Give the ccaches of a step that failed new inode numbers.

        The step was made in memory and its client gets an error, so the kernel drops nothing by
        itself.  What it has cached of the bytes belongs to a number that no name leads to then.
        """
        for serial in effects.changed:
            ccache = self.store.collection.by_serial(serial)
            if ccache is not None:
                self.store.contents.renew(ccache, self.clock())
        more = self.store.take_effects()
        if more is not None:
            effects.superseded += more.superseded
