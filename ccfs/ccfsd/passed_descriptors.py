"""What one ccfsd passes to the next: descriptors by name, through execve(2).

    control, kcm      the sockets where clients connect
    lock              of the runtime directory
    client            connections that have no request under way
    restart           the one that has asked for all this, and waits for the reply
    link:MOUNT        the two descriptors of a mount's link

A module with more descriptors to pass on adds them to `Host.passes`; the next ccfsd finds them with
`named`.

The table is JSON in memory of its own, whose descriptor is in the environment.  Descriptors keep
their numbers, so that where the program can't be executed this one goes on as before.

Knows names and numbers; never what a descriptor is of.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

VARIABLE = "CCFSD_PASSED"
KEPT = (
    "PATH", "LANG", "LC_ALL", "LC_CTYPE", "LC_MESSAGES", "JOURNAL_STREAM", "INVOCATION_ID",
    "PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH", "PYTHONDONTWRITEBYTECODE",
)  # fmt: skip
"""Variables that the next one has, too: none of them may hold a secret."""

Passed = Mapping[str, Sequence[int]]


@dataclass(frozen=True, slots=True)
class Program:
    """How this process was started: to be started again, whatever is installed by then."""

    command: list[str]
    directory: str
    environment: dict[str, str]

    @classmethod
    def present(cls) -> Program:
        """That of this process; to be asked before anything of it is changed."""
        known = {name: os.environ[name] for name in KEPT if name in os.environ}
        directory = "/"
        with suppress(OSError):  # it may have been removed
            directory = os.getcwd()
        return cls([sys.executable, *sys.orig_argv[1:]], directory, known)

    def replace(self, passed: Passed) -> OSError:
        """Be that program, with descriptors; returns, with why, where that can't be."""
        table = -1
        numbers = [number for some in passed.values() for number in some]
        try:
            table = os.memfd_create("ccfsd-passed", 0)
            told = {"pid": os.getpid(), "passed": {k: [*v] for k, v in passed.items()}}
            with os.fdopen(os.dup(table), "w") as file:
                json.dump(told, file)
            for number in numbers:
                os.set_inheritable(number, True)
            os.chdir(self.directory)
            environment = {**self.environment, VARIABLE: str(table)}
            os.execve(self.command[0], self.command, environment)  # noqa: S606 - our own
        except OSError as error:
            for number in numbers:
                os.set_inheritable(number, False)
            os.chdir("/")
            return error
        finally:
            if table >= 0:
                os.close(table)


def take(environment: MutableMapping[str, str], pid: int) -> Passed:
    """What was passed to this process; nothing of it is to be inherited any further."""
    number = environment.pop(VARIABLE, "")
    if not number.isdigit():
        return {}
    with open(int(number), "rb") as file:
        file.seek(0)
        told = json.load(file)
    if told["pid"] != pid:
        return {}
    passed: Passed = told["passed"]
    for some in passed.values():
        for one in some:
            os.set_inheritable(one, False)
    return passed


def named(passed: Passed, kind: str) -> dict[str, Sequence[int]]:
    """Those of a kind (`link`), by what stands behind the colon."""
    kind += ":"
    return {k.removeprefix(kind): some for k, some in passed.items() if k.startswith(kind)}
