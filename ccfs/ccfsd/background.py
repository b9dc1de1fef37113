# SPDX-License-Identifier: MIT
"""Run coroutines side by side: an exception ends one of them, and is logged without its message.

Knows trio's nursery; never what a coroutine does.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVarTuple

import trio

from ccfs.errors import redaction

log = logging.getLogger(__name__)

Arguments = TypeVarTuple("Arguments")


@contextmanager
def logged(subject: str = "") -> Iterator[list[Exception]]:
    """Log an exception and go on after the `with`; it is appended to the list that this yields."""
    failure: list[Exception] = []
    try:
        yield failure
    except Exception as error:
        failure.append(error)
        log.error(
            "%sunexpected exception: %s", subject and f"{subject}: ", redaction.describe(error)
        )


class Background:
    """Starts coroutines that run until they return, or ccfsd ends."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    def start(
        self,
        function: Callable[[*Arguments], Awaitable[object]],
        *arguments: *Arguments,
    ) -> None:
        """Start a coroutine."""
        self._nursery.start_soon(_run, function, arguments)


async def _run(
    function: Callable[[*Arguments], Awaitable[object]],
    arguments: tuple[*Arguments],
) -> None:
    with logged():
        await function(*arguments)
