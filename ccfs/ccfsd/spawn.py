"""A daemon for a mount: everything it needs made ready, the fork, and what the child does.

Knows the order of it; never who wants the mount.
"""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from ccfs import daemon, journals
from ccfs.ccfsd import launch, logs, processes
from ccfs.ccfsd.registry import Owner, Process
from ccfs.ccfsd.runtime import Runtime
from ccfs.errors import Exit, UserError

BACKLOG = 64


@dataclass(frozen=True, slots=True)
class Spawned:
    """A daemon that was started.

    `life`: reads as closed once it and its helper have ended.  `device`: MAJOR:MINOR of its mount.
    """

    process: Process
    pidfd: int
    life: int
    device: str


def spawn(runtime: Runtime, name: str, owner: Owner) -> Spawned:
    """Mount, and fork a daemon that serves it.  Raises UserError, OSError: nothing is left then."""
    with ExitStack() as undo, ExitStack() as ours:
        runtime.remove_socket(name)
        undo.callback(runtime.remove_socket, name)
        path = runtime.make_mountpoint(name)
        life, held = _life(runtime.life(name))
        undo.callback(os.close, life)
        ours.callback(os.close, held)
        listener = ours.enter_context(_listen(runtime.socket(name)))
        device = launch.attach(path, owner.uid, owner.gid)
        ours.callback(os.close, device)
        undo.callback(launch.detach, path)
        options = daemon.MountOptions(
            mountpoint=path,
            allow_other=True,
            journal=runtime.journal(name),
            held=held,
            device=device,
            control=listener.fileno(),
        )
        kept = {held, device, listener.fileno()}
        pid = launch.fork(owner.uid, owner.gid, kept, lambda: _serve(name, options))
        process = processes.of(pid, ended=True)
        assert process is not None  # nobody but us can have reaped it
        spawned = Spawned(process, os.pidfd_open(pid), life, runtime.device(name))
        undo.pop_all()
        return spawned


def wiper(runtime: Runtime, name: str, owner: Owner) -> int:
    """Have a journal overwritten that its daemon has left, by a process of its owner; a pidfd."""
    directory = runtime.journals(name)
    pid = launch.fork(owner.uid, owner.gid, (), lambda: _wipe(directory))
    return os.pidfd_open(pid)


def _serve(name: str, options: daemon.MountOptions) -> int:
    logs.speak_as(f"ccfs {name}")
    try:
        return daemon.serve(options, lambda: None)
    except UserError as error:
        logs.fail(error)
        return int(error.status)


def _wipe(directory: str) -> int:
    """Only regular files of one name, and none by a link: it runs as the user who may write there.

    Names that journals have, whole or set aside.
    """
    for name in os.listdir(directory):
        with suppress(OSError):
            journals.wipe(os.path.join(directory, name))
    return Exit.OK


def _life(path: str) -> tuple[int, int]:
    os.mkfifo(path, 0o600)
    life = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    return life, os.open(path, os.O_WRONLY | os.O_CLOEXEC)


def _listen(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        listener.bind(path)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener
