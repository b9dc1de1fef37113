"""After a restart in place: each daemon is replaced by one of the new program, one after the other.

Knows mounts and their order; never how a daemon is replaced.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from ccfs.ccfsd.mount import Served
from ccfs.ccfsd.mounts import Host

log = logging.getLogger(__name__)

SECONDS = 30.0
"""That a new daemon has to answer."""

Over = Callable[[int, int, str], None]
"""Called with how many daemons are others now, how many go on as they were, and what failed."""


class Renewal:
    """Replaces all daemons; at the first that doesn't come up the others are left as they are."""

    def __init__(self, host: Host, over: Over) -> None:
        self._host = host
        self._over = over
        self._left = deque(host.served)
        self._renewed = self._kept = 0
        self._next()

    def _next(self) -> None:
        while self._left:
            served = self._host.served.get(self._left.popleft())
            if served is None or served.process is None:
                continue  # it has ended, or has a new one anyway
            if served.renew():
                self._host.want(served.name, served.owner, SECONDS, self._ready, self._failed)
                return
            self._kept += 1
        self._end("")

    def _ready(self, served: Served) -> None:
        self._renewed += 1
        self._next()

    def _failed(self, why: str) -> None:
        self._kept += len(self._left)
        self._end(why)

    def _end(self, why: str) -> None:
        with suppress(ChildProcessError):  # the nursery of the old program
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if why:
            log.error("a new daemon does not come up: %s", why)
        log.info("%d daemons replaced, %d kept", self._renewed, self._kept)
        self._over(self._renewed, self._kept, why)
