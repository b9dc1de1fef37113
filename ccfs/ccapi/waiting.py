"""wait_for_change: what one handle has seen, and waiting until there is more.

It knows change times, never what changed.
"""

from collections.abc import Callable

from ccfs.ccapi.server import Server
from ccfs.ccapi.watching import Watch


class Waiter:
    """The last change that a handle knows of: none at first, so that the first call returns."""

    def __init__(self) -> None:
        self._seen: tuple[str, int] | None = None

    def wait(self, server: Server, change_time: Callable[[], int]) -> None:
        """Return once `change_time()`, which never shows a time twice, is not what was seen last.

        A server that was replaced counts as a change.  Raises OSError.
        """
        if not self._news(server, change_time):
            with Watch(server) as watch:
                while not self._news(server, change_time):
                    watch.wait()

    def _news(self, server: Server, change_time: Callable[[], int]) -> bool:
        before, self._seen = self._seen, (server.identity, change_time())
        return before != self._seen
