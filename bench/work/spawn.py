# SPDX-License-Identifier: MIT
"""Whole processes, timed from their start to their end."""

import os
import time
from collections.abc import Mapping, Sequence


class ProcessError(Exception):
    """A command that ended with another status than 0."""


def spawn(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """Run a command, its output thrown away; the seconds it took."""
    quiet = [(os.POSIX_SPAWN_OPEN, number, "/dev/null", os.O_RDWR, 0) for number in (0, 1, 2)]
    began = time.perf_counter()
    pid = os.posix_spawn(command[0], [*command], dict(environment), file_actions=quiet)
    _, how = os.waitpid(pid, 0)
    took = time.perf_counter() - began
    if how:
        status = os.waitstatus_to_exitcode(how)
        raise ProcessError(f"{os.path.basename(command[0])} ended with status {status}")
    return took
