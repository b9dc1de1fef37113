# SPDX-License-Identifier: MIT
"""wait_for_change: the last change that a handle has seen, and the wait for the next one.

Knows positions in the log and change times, never what changed.
"""

import time
from collections.abc import Callable
from contextlib import closing

from ccfs.ccapi.ccache_by_id import UninitialisedError
from ccfs.ccapi.event_log import EventLog, LogPosition
from ccfs.ccapi.mount_client import MountClient

_NO_CHANGES = (b"expiring", b"expired", b"dropped", b"refused")
"""Events that change no ccache: time passes, a writer's data is dropped, a limit is reached."""


INITIALIZATION_SECONDS = 0.2
"""Time for a client to write a principal after it has emptied a ccache."""


class CollectionWaiter:
    """The position up to which a handle has seen the log; none at first: the first call returns."""

    def __init__(self) -> None:
        self._seen: LogPosition | None = None

    def wait(self, mount: MountClient) -> None:
        """Return once something has changed since the last call; OSError.

        Another mount counts as a change, and so does a log that was shortened: very much has
        changed then.
        """
        with closing(EventLog(mount, self._seen)) as log:
            if self._seen is not None and _is_same_log(log, self._seen):
                lines = log.read_new()
                while not _has_change(lines):
                    lines = log.wait()
            self._seen = log.position


class CCacheWaiter:
    """The last change time of a ccache that a handle has seen; none at first."""

    def __init__(self) -> None:
        self._seen: int | None = None

    def wait(self, mount: MountClient, change_time: Callable[[], int]) -> None:
        """Return once `change_time()`, which is another after each change, has changed; OSError.

        A ccache without a principal, as each kinit leaves it for a moment, is waited for.
        UninitialisedError if it stays without one.
        """
        if not self._update(change_time):
            with closing(EventLog(mount)) as log:
                log.read_new()
                while not self._update(lambda: _initialised_change_time(log, change_time)):
                    log.wait()

    def _update(self, change_time: Callable[[], int]) -> bool:
        before, self._seen = self._seen, change_time()
        return before != self._seen


def _initialised_change_time(log: EventLog, change_time: Callable[[], int]) -> int:
    deadline = time.monotonic() + INITIALIZATION_SECONDS
    while True:
        try:
            return change_time()
        except UninitialisedError:
            remaining = deadline - time.monotonic()
            if remaining <= 0 or not log.wait(seconds=remaining):
                raise


def _is_same_log(log: EventLog, seen: LogPosition) -> bool:
    position = log.position
    return (position.mount, position.edition) == (seen.mount, seen.edition)


def _has_change(lines: bytes) -> bool:
    """True if a line is about a change: number, time, event, ... separated by tabs."""
    return any(_is_change(line) for line in lines.splitlines())


def _is_change(line: bytes) -> bool:
    fields = line.split(b"\t", 3)
    return len(fields) < 3 or fields[2] not in _NO_CHANGES
