# SPDX-License-Identifier: MIT
"""Going on where another ccfsd has ended: daemons that still serve, sessions that still last.

Knows the state file, the mount table and the sockets of daemons.  What the kernel says of a mount
and of the process that listens at a socket is believed before the state file.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import replace

from ccfs.ccfsd import state_file
from ccfs.ccfsd.mount import ServedMount
from ccfs.ccfsd.mounts import Mounts
from ccfs.ccfsd.registry import Mount, Owner, Registry, Session
from ccfs.ccfsd.runtime_dir import NAME
from ccfs.linux import mountinfo, processes
from ccfs.linux.processes import Process
from ccfs.takeover.fuse_connection import FuseConnection

log = logging.getLogger(__name__)


def adopt(mounts: Mounts, connections: Mapping[str, FuseConnection]) -> None:
    """Go on with all mounts and sessions that are there, and end mounts that nothing needs.

    `connections`: FUSE connections that the program before has passed on, by their mounts.
    """
    saved = _saved(mounts)
    # Logins of a state that was lost still have their numbers, and will close them.
    registry = mounts.registry = saved or Registry(next_number=_unused_number())
    table = mountinfo.mounts()
    for name in sorted(mounts.runtime.names() | {*registry.mounts}):
        known = registry.mounts.get(name)
        if known is None:
            # One that the state file lacks was started for a login; but one that was to be a
            # session's own can't be asked for any more: that session has never begun.
            requested = "." not in name or saved is None
            owner = _owner(name, mountinfo.topmost(mounts.runtime.mountpoint(name), table))
            known = Mount(name, owner, requested=requested)
            mounts.guessed.add(name)
        _adopt_mount(mounts, known, registry, table, connections.get(name))
    for session in registry.sessions.values():
        _adopt_session(mounts, session)
    for name, served in [*mounts.served.items()]:
        if served.process is not None and not mounts.registry.sessions_of(name):
            mounts.begin_grace(name)  # when it began is not in the state file
        if not mounts.end_unused(name):
            mounts.destroy_doomed(name)


def _saved(mounts: Mounts) -> Registry | None:
    """The registry of the ccfsd before; None where its state file is lost or can't be read."""
    try:
        registry = state_file.read(mounts.runtime.state)
    except (ValueError, OSError) as error:
        log.error("cannot use %s, sessions are forgotten: %s", mounts.runtime.state, error)
        return None
    return registry or (None if mounts.runtime.names() else Registry())


def _unused_number() -> int:
    """A number that no session has had while this system runs: they never come that fast."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def _adopt_mount(
    mounts: Mounts,
    known: Mount,
    saved: Registry,
    table: list[mountinfo.Mount],
    connection: FuseConnection | None,
) -> None:
    name, owner = known.name, known.owner
    topmost = mountinfo.topmost(mounts.runtime.mountpoint(name), table)
    mounts.registry = mounts.registry.with_mount(replace(known, daemon=None))
    served = ServedMount(mounts, name, owner)
    daemon = _daemon(mounts, known, topmost)
    if daemon is not None:
        process, pidfd = daemon
        # Its mount may have been taken away, or covered: that is seen when a client asks for it.
        device = known.device if process == known.daemon else ""
        device = device or f"0:{topmost.connection if topmost else 0}"
        served.adopt(process, pidfd, device, connection)
        log.info("%s goes on with pid %d", name, process.pid)
    else:
        is_saved = name in saved.mounts
        is_needed = is_saved and (known.requested or mounts.lingers(known))
        is_needed = is_needed or bool(saved.sessions_of(name))
        # One that ends in order wipes its journal, and mostly because its mount was taken away.
        has_died = topmost is not None or mounts.runtime.has_journal(name)
        replaced = is_needed and has_died
        log.info("%s has no daemon%s", name, ", replacing it" if replaced else "")
        leader = known.daemon.pid if known.daemon else 0
        served.adopt_dead(leader, known.device, connection, replace=replaced)
    mounts.add(served)


def _owner(name: str, topmost: mountinfo.Mount | None) -> Owner:
    """The owner of a mount that the state file lacks: its name says so, and only root made it."""
    match = NAME.fullmatch(name)
    assert match is not None
    uid = int(match[1])
    return Owner(uid, _group(topmost) if topmost and topmost.owner == uid else uid)


def _group(mount: mountinfo.Mount) -> int:
    """The group_id of a FUSE mount."""
    options = dict(option.partition("=")[::2] for option in mount.options)
    return int(options.get("group_id", mount.owner or 0))


def _daemon(
    mounts: Mounts, known: Mount, topmost: mountinfo.Mount | None
) -> tuple[Process, int] | None:
    """The process that serves a mount, and a pidfd; None where there is none."""
    pidfd = processes.open_pidfd(known.daemon) if known.daemon else None
    if known.daemon is not None and pidfd is not None:
        return known.daemon, pidfd
    # It may have been replaced when that could not be saved.
    if topmost is None or not topmost.is_ccfs or topmost.owner != known.owner.uid:
        return None
    return _listener(mounts.runtime.socket(known.name), known.owner.uid)


def _listener(path: str, uid: int) -> tuple[Process, int] | None:
    """The daemon that listens at a socket, by the kernel's word; not the ccfsd that has bound it.

    The uid of a listener (SO_PEERCRED) is the daemons' common one: what tells a daemon from another
    user's is its file-system uid.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.setblocking(False)
        try:
            client.connect(path)
        except OSError:
            return None
        peer = processes.peer(client)
    if peer is None:
        return None
    process, pidfd = peer
    if process.pid == os.getpid() or processes.filesystem_uid(process) != uid:
        os.close(pidfd)
        return None
    return process, pidfd


def _adopt_session(mounts: Mounts, session: Session) -> None:
    """Go on with a session; its leader may have ended meanwhile, or its mount may be lost."""
    pidfd = processes.open_pidfd(session.leader)
    if pidfd is not None:
        mounts.watch_leader(session, pidfd)
    if pidfd is None or session.mount not in mounts.registry.mounts:
        mounts.close(session.number)
