# SPDX-License-Identifier: MIT
"""New code in a running process: all of ccfs is imported again, and gets the state of the old code.

A process that holds the descriptor of a FUSE connection can't run another program (execve(2)): for
a moment any process of its user could trace it.  It stays undumpable this way, and what it imports
is what is installed by now.

Knows modules, and one plain value; never what that says.
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from ccfs.linux import processes

log = logging.getLogger(__name__)

CHECK_SECONDS = 20.0
"""That new code has to show that it can be imported."""

State = dict[str, Any]
"""What the old code has, in values that every version knows: numbers, texts, and lists of them."""


class ReimportRequest(Exception):  # noqa: N818 - no error
    """Ends the old code, which cleans nothing up: `module.resume(state)` of the new goes on."""

    def __init__(self, module: str, state: State) -> None:
        super().__init__()
        self.module = module
        self.state = state


def run(main: Callable[[], int]) -> int:
    """Return what `main` returns, or what new code returns that goes on with its state."""
    try:
        return main()
    except ReimportRequest as request:
        state, module = request.state, request.module
    new = import_anew(module)
    gc.collect()  # closes what only the old code had open
    again = importlib.import_module(__name__)
    return int(again.run(lambda: new.resume(state)))


def import_anew(name: str) -> ModuleType:
    """Import a module of ccfs as it is installed now, with all that it imports of ccfs."""
    for known in [module for module in sys.modules if module.split(".")[0] == "ccfs"]:
        del sys.modules[known]
    importlib.invalidate_caches()
    return importlib.import_module(name)


def can_resume(name: str, state: State) -> bool:
    """True if the new code of a module says, by its `can_resume`, that it can go on with a state.

    It is imported in a child, so that nothing of it is in this process.
    """
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if import_anew(name).can_resume(state) else 1
        except BaseException as error:
            log.error("the new code cannot be used: %s", type(error).__name__)
        finally:
            os._exit(status)
    if not processes.wait_for_end(pid, CHECK_SECONDS):
        os.kill(pid, 9)
    return os.waitpid(pid, 0)[1] == 0
