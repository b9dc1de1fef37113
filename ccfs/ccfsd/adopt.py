"""Going on where another ccfsd has ended: daemons that still serve, sessions that still last.

Knows the state file, the mount table and the sockets of daemons, and believes them in the order in
which they can't lie: the kernel's word on a mount and on who listens, then what was written down.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import replace

from ccfs.ccfsd import state_file
from ccfs.ccfsd.mount import Served
from ccfs.ccfsd.mounts import Host
from ccfs.ccfsd.registry import Mount, Owner, Registry, Session
from ccfs.ccfsd.runtime_dir import NAME
from ccfs.linux import mountinfo, processes
from ccfs.linux.processes import Process
from ccfs.takeover.fuse_connection import FuseConnection

log = logging.getLogger(__name__)


def adopt(host: Host, links: Mapping[str, FuseConnection]) -> None:
    """Have the host know all mounts and sessions that are there, and end mounts without a session.

    `links`: what the one before has passed on of mounts, by their names.
    """
    remembered = _remembered(host)
    # Logins of a state that was lost still have their numbers, and will close them.
    told = host.registry = remembered or Registry(following=_beyond())
    mounts = mountinfo.mounts()
    for name in sorted(host.runtime.names() | {*told.mounts}):
        known = told.mounts.get(name)
        if known is None:
            # One that the state file lacks was started for a login; but one that was to be a
            # session's own can't be asked for any more: that session has never begun.
            asked = "." not in name or remembered is None
            owner = _owner(name, mountinfo.topmost(host.runtime.mountpoint(name), mounts))
            known = Mount(name, owner, asked=asked)
            host.guessed.add(name)
        _adopt_mount(host, known, told, mounts, links.get(name))
    for session in told.sessions.values():
        _adopt_session(host, session)
    for name in [*host.served]:
        if host.served[name].process is not None and not host.registry.sessions_of(name):
            host.begin_grace(name)  # when it began is not in the state file
        if not host.consider(name):
            host.destroy_doomed(name)


def _remembered(host: Host) -> Registry | None:
    """What the ccfsd before has left; None where its state file is lost or can't be read."""
    try:
        told = state_file.read(host.runtime.state)
    except (ValueError, OSError) as error:
        log.error("cannot use %s, sessions are forgotten: %s", host.runtime.state, error)
        return None
    return told or (None if host.runtime.names() else Registry())


def _beyond() -> int:
    """A number that no session has had while this system runs: they never come that fast."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def _adopt_mount(
    host: Host,
    known: Mount,
    told: Registry,
    mounts: list[mountinfo.Mount],
    link: FuseConnection | None,
) -> None:
    name, owner = known.name, known.owner
    there = mountinfo.topmost(host.runtime.mountpoint(name), mounts)
    host.registry = host.registry.has(replace(known, daemon=None))
    served = host.served[name] = Served(host, name, owner)
    daemon = _daemon(host, known, there)
    if daemon is not None:
        process, pidfd = daemon
        # Its mount may have been taken away, or covered: that is seen when somebody asks for it.
        device = known.device if process == known.daemon else ""
        device = device or f"0:{there.connection if there else 0}"
        served.adopt(process, pidfd, device, link)
        log.info("%s goes on with pid %d", name, process.pid)
        return
    is_told = name in told.mounts
    wanted = bool(told.sessions_of(name)) or (is_told and (known.asked or host.lingers(known)))
    # One that ends in order wipes its journal, and mostly because its mount was taken away.
    has_died = there is not None or host.runtime.has_journal(name)
    log.info("%s has no daemon%s", name, ", replacing it" if wanted and has_died else "")
    served.take_over(known.daemon, known.device, link, replace=wanted and has_died)


def _owner(name: str, there: mountinfo.Mount | None) -> Owner:
    """Whose a mount is that nobody has written down: its name says so, and only root made it."""
    found = NAME.fullmatch(name)
    assert found is not None
    uid = int(found[1])
    return Owner(uid, _group(there) if there and there.owner == uid else uid)


def _group(there: mountinfo.Mount) -> int:
    """The group_id of a FUSE mount."""
    options = dict(option.partition("=")[::2] for option in there.options)
    return int(options.get("group_id", there.owner or 0))


def _daemon(host: Host, known: Mount, there: mountinfo.Mount | None) -> tuple[Process, int] | None:
    """The process that serves a mount, and a pidfd; None where nobody does."""
    pidfd = processes.open_pidfd(known.daemon) if known.daemon else None
    if known.daemon is not None and pidfd is not None:
        return known.daemon, pidfd
    # It may have been replaced when that could not be written down.
    if there is None or not there.is_ccfs or there.owner != known.owner.uid:
        return None
    return _listener(host.runtime.socket(known.name), known.owner.uid)


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
        found = processes.peer(client)
    if found is None:
        return None
    if found[0].pid == os.getpid() or processes.filesystem_uid(found[0]) != uid:
        os.close(found[1])
        return None
    return found


def _adopt_session(host: Host, session: Session) -> None:
    """Its leader may have ended meanwhile, and its mount may be one that could not be kept."""
    pidfd = processes.open_pidfd(session.leader)
    if pidfd is not None:
        host.lead(session, pidfd)
    if pidfd is None or session.mount not in host.registry.mounts:
        host.close(session.number)
