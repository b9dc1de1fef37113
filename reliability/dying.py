# SPDX-License-Identifier: MIT
"""`ccfs` whose daemons kill themselves around a journal write: `python -m reliability.dying mount`.

Random kills hardly ever meet the moment between the journal and the reply, in which a request is
done and its client has not heard of it.  Here each daemon dies there, or just before the journal,
at a random one of its steps, and writes down when: a line "TIME PID POINT" in the file that
CCFS_DEATHS names.
"""

import os
import random
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import NoReturn

from ccfs.cli.main import main
from ccfs.journal.journal import Journal
from ccfs.store.effects import Effects
from ccfs.store.store import Store

DEATHS = "CCFS_DEATHS"
FIRST, LAST = 20, 300
"""A daemon dies at a step between these two, counted from its start."""
BEFORE, AFTER = "before", "after"


@dataclass
class Fate:
    """At which step this process dies, and on which side of the journal."""

    pid: int = 0
    left: int = 0
    point: str = ""
    chance: random.Random = field(default_factory=random.SystemRandom)

    def step(self) -> None:
        """Count a step; a process that was forked since the last one begins anew."""
        if self.pid != os.getpid():
            self.pid = os.getpid()
            self.left = self.chance.randrange(FIRST, LAST)
            self.point = self.chance.choice((BEFORE, AFTER, AFTER))
        self.left -= 1

    def die_if(self, point: str) -> None:
        """Die where this is the step and the point."""
        if self.left == 0 and self.point == point:
            die(point)


def die(point: str) -> NoReturn:
    """Write down when, and kill this process as the kernel would."""
    with open(os.environ[DEATHS], "a") as file:
        file.write(f"{time.monotonic()} {os.getpid()} {point}\n")
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")


def patch() -> None:
    """Have every commit to a journal of this process, and of those it forks, counted."""
    fate, commit = Fate(), Journal.commit

    def dying(self: Journal, store: Store, effects: Effects) -> None:
        fate.step()
        fate.die_if(BEFORE)
        commit(self, store, effects)
        fate.die_if(AFTER)

    Journal.commit = dying  # type: ignore[method-assign]


if __name__ == "__main__":
    patch()
    sys.exit(main())
