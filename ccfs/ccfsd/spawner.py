# SPDX-License-Identifier: MIT
"""A daemon for a mount: everything it needs is made ready, it is forked, and what the child does.

Knows the order of it; never which client asked for the mount.
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from ccfs import daemon
from ccfs.ccfsd import fork_client, launch, logs, scope
from ccfs.ccfsd.fork_client import ForkClient, RunningForkServer
from ccfs.ccfsd.registry import Owner
from ccfs.ccfsd.runtime_dir import Runtime
from ccfs.ccfsd.settings import Settings
from ccfs.errors import Exit, UserError
from ccfs.journal import location
from ccfs.linux import capabilities, inherited_state, mount_calls, processes
from ccfs.linux.processes import Process
from ccfs.takeover import fork_server
from ccfs.takeover.fork_server import Child
from ccfs.takeover.fuse_connection import FuseConnection
from ccfs.takeover.handover import Handover

BACKLOG = 64


@dataclass(frozen=True, slots=True)
class Spawned:
    """A daemon that was started.

    `liveness`: reads as closed once it and its notifier have ended.  `fuse_connection`: what its
    successor needs to take the mount over; None where that can't be.
    """

    process: Process
    pidfd: int
    liveness: int
    fuse_connection: FuseConnection | None


async def spawn(
    forks: ForkClient,
    runtime: Runtime,
    name: str,
    owner: Owner,
    settings: Settings,
    connection: FuseConnection | None = None,
) -> Spawned:
    """Fork a daemon that takes over the mount of a FUSE connection, or serves a new one.

    Raises UserError, OSError: nothing is left then that was not there before.
    """
    with ExitStack() as undo:
        runtime.remove_socket(name)
        undo.callback(runtime.remove_socket, name)
        liveness, liveness_of_daemon = _liveness_pipe(runtime.liveness(name))
        undo.callback(os.close, liveness)
        with ExitStack() as of_daemon:
            of_daemon.callback(os.close, liveness_of_daemon)
            listener = of_daemon.enter_context(_listen(runtime.socket(name)))
            values: dict[str, object] = {"serve": name, "path": runtime.mountpoint(name)}
            values |= {"live": connection is not None, "allow_root": settings.allow_root}
            values |= {"journal": runtime.journal(name), "uid": owner.uid, "gid": owner.gid}
            given = connection or _mount(runtime, name, owner, settings)
            if connection is None:
                undo.callback(_unmount, runtime.mountpoint(name))
                connection = given if given.can_resend else None
                (undo if connection else of_daemon).callback(given.close)
            passed = [liveness_of_daemon, listener.fileno(), *given.descriptors]
            forked = await forks.fork(values, passed)
        undo.callback(os.close, forked.pidfd)
        process = processes.find(forked.pid, ended=True)
        if process is None:
            raise OSError(errno.ESRCH, "the daemon has ended at once")
        undo.pop_all()
        return Spawned(process, forked.pidfd, liveness, connection)


async def fork_wiper(forks: ForkClient, runtime: Runtime, name: str, owner: Owner) -> Child:
    """Fork a process of the owner that overwrites the journal which a daemon has left."""
    values = {"uid": owner.uid, "gid": owner.gid, "wipe": runtime.journal_dir(name)}
    return await forks.fork(values, [])


def fork_fork_server() -> RunningForkServer:
    """Fork the process that all daemons are forked from.

    Called when ccfsd has nothing yet that a daemon must not have.
    """
    return fork_client.fork_from_here(_prepare, _fork)


def be_fork_server(orders: socket.socket) -> None:
    """Fork daemons, in a process that was executed to do that; never returns."""
    fork_server.run(orders, _prepare, _fork)


def _prepare() -> None:
    """Let go, in the fork server, of all that no daemon is to have."""
    scope.enter(os.getpid())
    launch.prepare()
    with suppress(OSError):  # each child sees to it again
        capabilities.empty_bounding_set()
    capabilities.drop_all_but(capabilities.KEPT_BY_FORK_SERVER)
    inherited_state.set_name("ccfsd-forkserv")


def _fork(values: dict[str, object], passed: list[int]) -> int:
    uid, gid = int(str(values["uid"])), int(str(values["gid"]))
    return launch.fork(uid, gid, passed, lambda: _work(values, passed), prepared=True)


def _work(values: dict[str, object], passed: list[int]) -> int:
    """Do what a child of the fork server was forked for, as the user; returns its exit status."""
    if "wipe" in values:
        return _wipe(str(values["wipe"]))
    liveness, listener, device, *shared = passed
    name = str(values["serve"])
    options = daemon.MountOptions(
        mountpoint=str(values["path"]),
        allow_root=bool(values["allow_root"]),
        allow_other=True,
        journal=str(values["journal"]),
        liveness=liveness,
        device=device,
        control=listener,
        handover=Handover(*shared) if shared else None,
        takes_over=bool(values["live"]),
    )
    logs.speak_as(f"ccfs {name}")
    try:
        return daemon.serve(options, lambda: None)
    except UserError as error:
        logs.fail(error)
        return int(error.status)


def _wipe(directory: str) -> int:
    """Overwrite all files there: journals, and damaged ones that were set aside."""
    for name in os.listdir(directory):
        with suppress(OSError):
            location.wipe(os.path.join(directory, name))
    return Exit.OK


def _mount(runtime: Runtime, name: str, owner: Owner, settings: Settings) -> FuseConnection:
    """Make a mount.  Raises MountError, OSError."""
    path = runtime.make_mountpoint(name)
    device = launch.mount(path, owner.uid, owner.gid)
    if settings.mount_anew:
        return FuseConnection(device)
    try:
        return FuseConnection.of_new_mount(device)
    except BaseException:
        os.close(device)
        _unmount(path)
        raise


def _unmount(path: str) -> None:
    """Take away the topmost mount; a dead one that was there before stays."""
    with suppress(OSError):
        mount_calls.umount(path, lazy=True)


def _liveness_pipe(path: str) -> tuple[int, int]:
    os.mkfifo(path, 0o600)
    liveness = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return liveness, os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except BaseException:
        os.close(liveness)
        raise


def _listen(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        listener.bind(path)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener
