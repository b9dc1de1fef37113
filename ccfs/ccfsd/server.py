# SPDX-License-Identifier: MIT
"""ccfsd at work: its coroutines, what they share, and how they all end.

Knows which coroutines there are; never what any of them does.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import partial

import trio

from ccfs import __version__
from ccfs.ccfsd import daemon_replacement, passed_descriptors
from ccfs.ccfsd.adopt import adopt
from ccfs.ccfsd.background import Background
from ccfs.ccfsd.clients import Clients, Connection
from ccfs.ccfsd.fork_client import ForkClient
from ccfs.ccfsd.kcm_handover import KcmHandover
from ccfs.ccfsd.listening import Gate
from ccfs.ccfsd.mounts import Mounts
from ccfs.ccfsd.passed_descriptors import Passed, Program
from ccfs.ccfsd.requests import Requests
from ccfs.ccfsd.restart import Restart
from ccfs.ccfsd.runtime_dir import Runtime
from ccfs.ccfsd.settings import Settings
from ccfs.control import messages
from ccfs.takeover.fuse_connection import FuseConnection

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Start:
    """What ccfsd begins with.  `listeners`: sockets where clients connect, `control` and `kcm`."""

    settings: Settings
    runtime: Runtime
    program: Program
    forks: ForkClient
    listeners: Mapping[str, socket.socket]


async def serve(start: Start, passed: Passed, failure: str = "") -> dict[str, list[int]] | None:
    """Serve until SIGTERM, SIGINT, `stop` or `restart`.

    `passed`: what the program before has passed on.  `failure`: why no other program could be
    executed: this one goes on in its place.  Returns what the next program is to be passed; None
    where ccfsd ends.
    """
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            end = nursery.cancel_scope.cancel
            nursery.start_soon(_end_at_signal, signals, nursery.cancel_scope)
            mounts = Mounts(Background(nursery), start.runtime, start.settings, start.forks)
            gate = Gate()
            restart = Restart(mounts, gate, start.program, end)
            requests = Requests(mounts, restart.run, end)
            clients = Clients(mounts.background, gate, requests.handle, mounts.save_before_reply)
            restart.clients = clients
            kcm = KcmHandover(mounts, gate, passed_descriptors.named(passed, "kcm-client"))
            connections = passed_descriptors.named(passed, "link")
            adopt(mounts, {name: FuseConnection(*pair) for name, pair in connections.items()})
            for number in passed.get("client", ()):
                clients.welcome(socket.socket(fileno=number))
            _finish_restart(mounts, clients, passed, failure)
            _listen(start, mounts, clients, kcm)
            log.info("listening at %s as pid %d", start.runtime.control, os.getpid())
    mounts.save()
    for served in mounts.served.values():
        served.close()
    if restart.passed is None:
        log.info("ending, %d daemons go on", len(mounts.served))
        return None
    log.info("restarting, %d daemons go on", len(mounts.served))
    found = restart.passed | {f"kcm-client:{name}": some for name, some in kcm.detach().items()}
    for name, served in mounts.served.items():
        if served.fuse_connection is not None:
            found[f"link:{name}"] = served.fuse_connection.descriptors
    return found


def _listen(start: Start, mounts: Mounts, clients: Clients, kcm: KcmHandover) -> None:
    """Start the coroutines that run until ccfsd ends."""
    background = mounts.background
    background.start(mounts.keep_saved)
    background.start(start.forks.keep_running)
    background.start(clients.accept, start.listeners["control"])
    if "kcm" in start.listeners:
        mounts.kcm = kcm
        background.start(kcm.accept, start.listeners["kcm"])
        background.start(kcm.drop_ended)


async def _end_at_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for _ in signals:
        scope.cancel()


def _finish_restart(mounts: Mounts, clients: Clients, passed: Passed, failure: str) -> None:
    """Replace the daemons after a restart, and reply to the client that has asked for it."""
    if "restart" not in passed:
        return
    if failure:
        log.error("not restarted: %s", failure)
        finish = partial(_refuse, failure)
    else:
        finish = partial(_replace_daemons, mounts)
    if passed["restart"]:
        clients.welcome(socket.socket(fileno=passed["restart"][0]), finish)
    elif not failure:
        mounts.background.start(daemon_replacement.replace_all, mounts)


async def _refuse(failure: str, connection: Connection) -> None:
    await connection.reply(messages.refusal(failure))


async def _replace_daemons(mounts: Mounts, connection: Connection) -> None:
    done = await daemon_replacement.replace_all(mounts)
    if done.failure:
        why = f"a daemon of the new ccfsd does not come up, {done.kept} go on as they were"
        await connection.reply(messages.refusal(why))
    else:
        count, kept = done.replaced, done.kept
        await connection.reply(messages.encode("ok", renewed=count, kept=kept, version=__version__))
