# SPDX-License-Identifier: MIT
"""After a restart in place: each daemon is replaced by one of the new program, one after the other.

Knows mounts and their order; never how a daemon is replaced.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from dataclasses import dataclass

from ccfs.ccfsd.mounts import Mounts
from ccfs.ccfsd.waiters import NotServedError

log = logging.getLogger(__name__)

SECONDS = 30.0
"""Seconds that a new daemon has to answer."""


@dataclass(frozen=True, slots=True)
class Replaced:
    """How many daemons are new, how many are those of before, and why one has failed ("": none)."""

    replaced: int
    kept: int
    failure: str


async def replace_all(mounts: Mounts) -> Replaced:
    """Replace all daemons; after the first that doesn't come up the others stay as they are."""
    replaced = kept = 0
    failure = ""
    for name in [*mounts.served]:
        served = mounts.served.get(name)
        if served is None or served.process is None:
            continue  # it has ended, or gets a new one anyway
        if failure or not served.replace_daemon():
            kept += 1
            continue
        try:
            await mounts.ready(name, served.owner, SECONDS)
            replaced += 1
        except NotServedError as error:
            failure = error.reason
            log.error("a new daemon does not come up: %s", failure)
    _reap()
    log.info("%d daemons replaced, %d kept", replaced, kept)
    return Replaced(replaced, kept, failure)


def _reap() -> None:
    """Reap the fork server of the old program, a child of this process."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
