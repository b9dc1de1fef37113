# SPDX-License-Identifier: MIT
"""What one ccfsd passes to the next: descriptors by name, through execve(2).

    control, kcm      the sockets where clients connect
    lock              of the runtime directory
    client            connections that have no request under way
    restart           the connection of the client that asked for the restart, and waits
    link:MOUNT        the two descriptors of a mount's FUSE connection
    kcm-client:MOUNT  connections of KCM clients of a mount

The table is JSON in a memfd, whose number is in the variable CCFSD_PASSED.  Descriptors keep their
numbers: where execve(2) fails this process goes on with them.

A fork server that ccfsd executes gets one socket, whose number is in CCFSD_FORK_SERVER.

Knows names and numbers; never what a descriptor is of.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

VARIABLE = "CCFSD_PASSED"
FORK_SERVER = "CCFSD_FORK_SERVER"
KEPT = (
    "PATH", "LANG", "LC_ALL", "LC_CTYPE", "LC_MESSAGES", "JOURNAL_STREAM", "INVOCATION_ID",
    "PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH", "PYTHONDONTWRITEBYTECODE",
)  # fmt: skip
"""Variables that the next program gets, too: none of them may hold a secret."""

Passed = Mapping[str, Sequence[int]]


@dataclass(frozen=True, slots=True)
class Program:
    """How this process was started, to execute the version that is installed later alike."""

    command: list[str]
    directory: str
    environment: dict[str, str]

    @classmethod
    def present(cls) -> Program:
        """The program of this process; called before directory or environment are changed."""
        known = {name: os.environ[name] for name in KEPT if name in os.environ}
        directory = "/"
        with suppress(OSError):  # it may have been removed
            directory = os.getcwd()
        return cls([sys.executable, *sys.orig_argv[1:]], directory, known)

    def replace(self, passed: Passed) -> OSError:
        """Execute the program with these descriptors; returns the error where that fails."""
        table = -1
        numbers = [number for some in passed.values() for number in some]
        try:
            table = os.memfd_create("ccfsd-passed", 0)
            content = {"pid": os.getpid(), "passed": {k: [*v] for k, v in passed.items()}}
            with os.fdopen(os.dup(table), "w") as file:
                json.dump(content, file)
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


def fork_server_socket(environment: MutableMapping[str, str]) -> socket.socket | None:
    """The socket of a process that ccfsd executed as a fork server; None in any other."""
    number = environment.pop(FORK_SERVER, "")
    return socket.socket(fileno=int(number)) if number.isdigit() else None


def take(environment: MutableMapping[str, str], pid: int) -> Passed:
    """The descriptors that were passed to this process; they are not inherited any further."""
    number = environment.pop(VARIABLE, "")
    if not number.isdigit():
        return {}
    with open(int(number), "rb") as file:
        file.seek(0)
        content = json.load(file)
    if content["pid"] != pid:
        return {}
    passed: Passed = content["passed"]
    for some in passed.values():
        for descriptor in some:
            os.set_inheritable(descriptor, False)
    return passed


def named(passed: Passed, kind: str) -> dict[str, Sequence[int]]:
    """The descriptors of a kind (`link`), by what follows the colon (MOUNT)."""
    kind += ":"
    return {k.removeprefix(kind): some for k, some in passed.items() if k.startswith(kind)}
