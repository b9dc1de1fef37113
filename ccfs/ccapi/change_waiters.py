"""wait_for_change: what one handle has seen, and waiting until there is more.

It knows positions in the log and change times, never what changed.
"""

import time
from collections.abc import Callable

from ccfs.ccapi.ccache_by_id import UninitialisedError
from ccfs.ccapi.mount_client import Server
from ccfs.ccapi.watching import Position, Watch

_NO_CHANGES = (b"expiring", b"expired", b"dropped", b"refused")
"""Events that change no ccache: time passes, a writer gives up, a limit is reached."""


BEGINNING = 0.2
"""Seconds that a writer has between emptying a ccache and beginning it anew."""


class CollectionWaiter:
    """How far one handle has read the log: nowhere at first, so that the first call returns."""

    def __init__(self) -> None:
        self._seen: Position | None = None

    def wait(self, server: Server) -> None:
        """Return once something has changed since the last call.

        A new server counts as a change, and so does a log that was shortened meanwhile: very much
        has happened then.  Raises OSError.
        """
        with Watch(server, self._seen) as watch:
            if self._seen is not None and _is_on(watch, self._seen):
                news = watch.news()
                while not _tells_of_a_change(news):
                    news = watch.wait()
            self._seen = watch.position


class CCacheWaiter:
    """The last change of a ccache that one handle knows of: none at first."""

    def __init__(self) -> None:
        self._seen: int | None = None

    def wait(self, server: Server, change_time: Callable[[], int]) -> None:
        """Return once `change_time()`, which never shows a time twice, isn't what was seen last.

        A ccache that is about to begin anew, as every kinit has it for a moment, is waited for.
        Raises OSError; UninitialisedError where it stays without a principal.
        """
        if not self._news(change_time):
            with Watch(server) as watch:
                watch.news()
                while not self._news(lambda: _begun(watch, change_time)):
                    watch.wait()

    def _news(self, change_time: Callable[[], int]) -> bool:
        before, self._seen = self._seen, change_time()
        return before != self._seen


def _begun(watch: Watch, change_time: Callable[[], int]) -> int:
    deadline = time.monotonic() + BEGINNING
    while True:
        try:
            return change_time()
        except UninitialisedError:
            left = deadline - time.monotonic()
            if left <= 0 or not watch.wait(seconds=left):
                raise


def _is_on(watch: Watch, seen: Position) -> bool:
    now = watch.position
    return (now.server, now.edition) == (seen.server, seen.edition)


def _tells_of_a_change(lines: bytes) -> bool:
    """Whether some line is of a change: number, time, what, ... behind tabs."""
    return any(_is_a_change(line) for line in lines.splitlines())


def _is_a_change(line: bytes) -> bool:
    fields = line.split(b"\t", 3)
    return len(fields) < 3 or fields[2] not in _NO_CHANGES
