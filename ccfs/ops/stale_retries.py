# SPDX-License-Identifier: MIT
"""Tasks that were answered with ESTALE for a superseded generation.

The kernel looks a name up again after ESTALE, but only once per system call.  While a ccache
changes often the generation of the second lookup may be superseded again; a second ESTALE would
reach the client.  Knows numbers of generations and ids of tasks.
"""

from collections.abc import Callable

MAX_TASKS = 1024
"""How many tasks are remembered."""


class StaleRetries:
    """Which tasks come with the number of their second lookup.

    `clock`: seconds.  `unknown_until`: until then any task may have had its ESTALE from an earlier
    daemon.  Both orders are counted in lookups: when a number was last looked up, and when a task
    was answered with ESTALE.
    """

    def __init__(self, clock: Callable[[], float], unknown_until: float = 0.0) -> None:
        self._clock = clock
        self._unknown_until = unknown_until
        self._lookups = 0
        self._looked_up: dict[int, int] = {}
        self._answered: dict[int, int] = {}

    def record_lookup(self, number: int) -> None:
        """The kernel gets the number of a generation for a name."""
        self._lookups += 1
        self._looked_up[number] = self._lookups

    def forget(self, number: int) -> None:
        """The kernel has dropped the inode of a generation."""
        self._looked_up.pop(number, None)

    def complete(self, task: int) -> None:
        """The retry of a task, if it was one, has reached the current generation."""
        self._answered.pop(task, None)

    def is_retry(self, number: int, task: int) -> bool:
        """Whether a task may not be answered with ESTALE, since it has had one.

        Another task's lookup of the name serves it as well.  False: the caller answers with ESTALE,
        which is remembered.
        """
        answered = self._answered.pop(task, None)
        retry = answered is not None and self._looked_up.get(number, 0) > answered
        retry = retry or self._clock() < self._unknown_until
        if not retry:
            if len(self._answered) >= MAX_TASKS:
                self._answered.clear()
            self._answered[task] = self._lookups
        return retry
