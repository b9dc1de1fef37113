# SPDX-License-Identifier: MIT
"""A writer that writes down every step before it asks, and what came of it; no error is tolerated.

Knows steps and what must be in the writer's own ccache afterwards; how a step is made is its way's
(ways.py).  A step that was refused may have been done or not: the writer looks which, so that the
next steps can be judged.  The refusal itself is an error all the same.
"""

import errno
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import krb5

from ccfs.ccapi import CCAPIError
from reliability import writers
from reliability.takeover import contents, log
from reliability.takeover.contents import Servers
from reliability.takeover.log import Log
from tests.support.clients.python import records
from tests.support.kcm import RefusedError

REFUSALS = (OSError, EOFError, RefusedError, CCAPIError, krb5.Krb5Error)
OWN, SHARED = "own", "shared"
SHARE_EVERY, CHECK_EVERY = 7, 4
"""Every so many steps one in the shared ccache, and a look at the whole of the own one."""
SHARED_MOST = 12
"""So many credentials of one writer in the shared ccache, then its oldest is removed."""
AGAIN = 0.02
"""Seconds between two looks at a mount that gives errors."""
DONE_ALREADY = (errno.EEXIST, errno.ENOENT, errno.ENOTDIR, errno.ENOTEMPTY)
"""What a request answers that finds its own first try done."""


class Way(Protocol):
    """How a writer stores, removes and looks."""

    def step(self, writer: "Recorder") -> None:
        """Change the writer's own ccache by one call of `attempt`."""

    def look(self, writer: "Recorder") -> Servers:
        """What is in the writer's own ccache."""

    def store_shared(self, writer: "Recorder", server: str) -> None:
        """Store into the shared ccache."""

    def remove_shared(self, writer: "Recorder", server: str) -> None:
        """Remove from the shared ccache."""


@dataclass
class Recorder(writers.Writer):
    """A writer with a log.  `mine`: its credentials in the shared ccache, oldest first."""

    way: Way = field(kw_only=True)
    log: Log = field(kw_only=True)
    rest: float = field(kw_only=True)
    mine: list[str] = field(default_factory=list)
    steps: int = 0

    @property
    def shared(self) -> Path:
        """The directory of the ccache that all writers share."""
        return self.mount / "caches" / SHARED

    def work(self, ended: Callable[[], bool]) -> None:
        """Make steps until the end is wanted."""
        turn = 0
        while not ended():
            turn += 1
            with self.admitted():
                self.way.step(self)
                if turn % SHARE_EVERY == 0:
                    self.share()
                if turn % CHECK_EVERY == 0:
                    self.check()
            time.sleep(self.rest)

    def attempt(self, action: Callable[[], None], *after: Servers) -> None:
        """Make one step; `after`: what may be in the own ccache then, the last one if done."""
        self.servers = self._step(OWN, action, self.servers, after)

    def share(self) -> None:
        """Store one credential into the shared ccache, or remove the oldest of its own there."""
        if len(self.mine) >= SHARED_MOST:
            oldest, *left = self.mine
            self._share(lambda: self.way.remove_shared(self, oldest), left)
        else:
            server = f"host/shared-{self.name}-{self.steps}"
            self._share(lambda: self.way.store_shared(self, server), [*self.mine, server])

    def _share(self, action: Callable[[], None], after: list[str]) -> None:
        self.mine = self._step(SHARED, action, self.mine, (after,)) or []

    def _step(
        self, where: str, action: Callable[[], None], before: Servers, after: tuple[Servers, ...]
    ) -> Servers:
        self.steps += 1
        self.log.write(log.ASK, where, self.steps, change(before, after[-1]))
        try:
            action()
        except REFUSALS as error:
            self.log.error(f"step in the {where} ccache", error)
            return self._settle(where, error, (before, *after))
        self.log.write(log.ACK, where, self.steps)
        return after[-1]

    def _settle(self, where: str, error: Exception, possible: tuple[Servers, ...]) -> Servers:
        """Find out what came of a step that was refused; returns what is there."""
        found = self._look(where)
        if found not in possible:
            self._report(possible[0], found)
        elif found == possible[-1] and getattr(error, "errno", None) in DONE_ALREADY:
            self.log.wrong(contents.DOUBLED, f"step {self.steps} was done, and said {error}")
        self.log.write(log.FOUND, where, self.steps, found)
        return found

    def check(self) -> None:
        """What was acknowledged is there, in the own ccache and of its own in the shared one."""
        found = self._look(OWN)
        if found != self.servers:
            self._report(self.servers, found)
            self.log.write(log.FOUND, OWN, self.steps, found)
            self.servers = found

    def _report(self, expected: Servers, found: Servers) -> None:
        for category, text in contents.differences(expected, found):
            self.log.wrong(category, f"after step {self.steps}: {text}")

    def _look(self, where: str) -> Servers:
        """What is there, once the mount answers; each error on the way there is one."""
        deadline = time.monotonic() + writers.PATIENCE
        while True:
            try:
                return self._found(where)
            except records.TornError as error:
                self.log.wrong(contents.TORN, f"after step {self.steps}: {error}")
                raise
            except REFUSALS as error:
                self.log.error(f"look at the {where} ccache", error)
                if time.monotonic() > deadline:
                    raise
                time.sleep(AGAIN)

    def _found(self, where: str) -> Servers:
        if where == OWN:
            return self.way.look(self)
        prefix = f"host/shared-{self.name}-"
        image = (self.shared / "ccache").read_bytes()
        return [s for s in contents.servers_in(image) or [] if s.startswith(prefix)]


def change(before: Servers, after: Servers) -> list[object]:
    """What a step does to a list: ["store", name], ["remove", name] or ["replace", all]."""
    if before is not None and after is not None:
        if after[:-1] == before and after:
            return ["store", after[-1]]
        if len(after) + 1 == len(before):
            gone = next((b for b, a in zip(before, [*after, None], strict=True) if b != a), None)
            if [name for name in before if name != gone] == after:
                return ["remove", gone]
    return ["replace", after]


def run(writer: Recorder) -> None:
    """Be a process that writes until SIGTERM."""
    try:
        writer.work(writers.until_sigterm())
        writer.check()
        writer.log.write(log.DONE, writer.steps)
    except BaseException as error:
        writer.log.error("the writer ended", error)
    finally:
        os._exit(0)
