"""New code in a process that goes on: all of ccfs is imported anew, and is given what the old had.

A process that holds the descriptor of a FUSE connection can't run another program (execve(2)): for
a moment it could be traced by any process of its user.  It stays undumpable this way, and what it
imports is what is installed by now.

Knows modules, and one plain value; never what that says.
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
import select
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

log = logging.getLogger(__name__)

CHECK = 20.0
"""Seconds that new code has to show that it can be imported."""

Plain = dict[str, Any]
"""What the old code has, in values that every version knows: numbers, texts, and lists of them."""


def to_the_end(keep: Callable[[], int]) -> int:
    """What `keep` returns, or new code that goes on from there (`supervisor.resume`)."""
    try:
        return keep()
    except Renewed as renewed:
        state, module = renewed.state, renewed.module
    new = imported(module)
    gc.collect()  # what the old code had open, and nobody is to have any more
    again = importlib.import_module(__name__)
    return int(again.to_the_end(lambda: new.resume(state)))


class Renewed(Exception):  # noqa: N818 - no error
    """The old code ends here, and clears nothing away: a module's `resume` goes on with `state`."""

    def __init__(self, module: str, state: Plain) -> None:
        super().__init__()
        self.module = module
        self.state = state


def imported(name: str) -> ModuleType:
    """A module of ccfs as it is installed now, with all that it imports of ccfs."""
    for known in [one for one in sys.modules if one == "ccfs" or one.startswith("ccfs.")]:
        del sys.modules[known]
    importlib.invalidate_caches()
    return importlib.import_module(name)


def is_ready(name: str, state: Plain) -> bool:
    """Whether the new code of a module says, by its `can_resume`, that it can go on with a state.

    Asked in a child: nothing of it is in this process then.
    """
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if imported(name).can_resume(state) else 1
        except BaseException as error:
            log.error("the new code cannot be used: %s", type(error).__name__)
        finally:
            os._exit(status)
    pidfd = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if not poll.poll(CHECK * 1000):
        os.kill(pid, 9)
    os.close(pidfd)
    return os.waitpid(pid, 0)[1] == 0
