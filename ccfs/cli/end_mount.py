# SPDX-License-Identifier: MIT
"""End a mount in whatever state it is: the mount itself, its processes and its journal.

Knows mounts, pidfds and journals; never what the mount holds.  For `ccfs unmount` and `--replace`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import time

from ccfs.cli import info
from ccfs.commandline import messages
from ccfs.control.paths import RUNTIME
from ccfs.errors import DeniedError, JournalError, NoAnswerError
from ccfs.journal import location
from ccfs.linux import forked_call, mountinfo
from ccfs.linux.mountinfo import Mount
from ccfs.mounting import closed_directory, mount_lock, mountpoint

END_SECONDS = 3.0
"""For a daemon to end by itself, and again after SIGTERM."""
KILL_SECONDS = 3.0
WIPE_SECONDS = 5.0
POLL_SECONDS = 0.01
_OWNER_HINT = "only its owner and root can unmount it"
_CCFSD_HINT = "ccfsd unmounts it when your last session ends and no process uses it"


def end(mount: Mount) -> None:
    """Unmount; return when its processes have ended and its journal is removed.

    Raises as `replace`, and JournalError if the journal can't be removed.
    """
    daemon = _open_daemon(mount)
    if not _unmount(mount.path, lazy=False):
        messages.say("notice", f"the ccfs at {mount.path} is in use: its users lose it")
        # SIGTERM before the lazy unmount: the daemon wakes readers of FIFOs through their paths.
        _signal(daemon, signal.SIGTERM)
        _has_ended(daemon, END_SECONDS)
    _end_processes(mount, daemon)
    _wipe_journals(mount)


def replace(mount: Mount) -> None:
    """Unmount a dead or hanging mount, in use or not, and end its processes; its journal stays.

    Raises DeniedError, and NoAnswerError if a process doesn't end.
    """
    _unmount(mount.path, lazy=True)
    _end_processes(mount, None)


def _end_processes(mount: Mount, daemon: int | None) -> None:
    """End the daemon (a pidfd, which is closed) and all processes that signed the lock."""
    try:
        _wait_for_unmount(mount)
        _end_process(daemon, mount)
        _end_lock_holders(mount)
    finally:
        if daemon is not None:
            os.close(daemon)


def _wait_for_unmount(mount: Mount) -> None:
    """Wait until no ccfs is mounted at the path, then unmount what is left.

    A mount that was replaced after a daemon's death may have another, dead one below it.
    """
    deadline = time.monotonic() + END_SECONDS
    while (topmost := mountinfo.topmost(mount.path)) and topmost.is_ccfs:
        if topmost.id == mount.id or time.monotonic() > deadline:
            mountpoint.abort(topmost)
            _unmount(mount.path, lazy=True)
        else:
            time.sleep(POLL_SECONDS)


def _end_lock_holders(mount: Mount) -> None:
    """End the processes that signed the lock of the mountpoint: daemon and supervisor."""
    try:
        directory = os.open(mount.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # removed, or closed to this user: the lock can't be read
        return
    try:
        while pid := mount_lock.holder(directory):
            process = _open_process(pid, mount)
            if process is None:
                return
            try:
                _end_process(process, mount)
            finally:
                os.close(process)
        if os.geteuid() == os.fstat(directory).st_uid:
            closed_directory.restore(directory)
    finally:
        os.close(directory)


def _end_process(process: int | None, mount: Mount) -> None:
    """Wait for a process to end; then send SIGTERM, then SIGKILL.  NoAnswerError."""
    if _has_ended(process, END_SECONDS):
        return
    _signal(process, signal.SIGTERM)
    if _has_ended(process, END_SECONDS):
        return
    _signal(process, signal.SIGKILL)
    if not _has_ended(process, KILL_SECONDS):
        raise NoAnswerError(f"{mount.path} is unmounted, but its daemon has not ended", "see 'ps'")


def _open_daemon(mount: Mount) -> int | None:
    """Return a pidfd of the daemon that `info` names; None if `info` can't be read."""
    try:
        values = dict(info.lines(mountpoint.read(mount.path, "info")))
        return _open_process(int(values["pid"]), mount)
    except (OSError, KeyError, ValueError):
        return None


def _open_process(pid: int, mount: Mount) -> int | None:
    """Return a pidfd of a process of the mount's owner or of the caller; None for any other.

    A user's mount must not have root end another user's process.
    """
    try:
        process = os.pidfd_open(pid)
    except OSError:
        return None
    with contextlib.suppress(OSError):
        if _filesystem_uid(pid) in (mount.owner, os.geteuid()):
            return process
    os.close(process)
    return None


def _filesystem_uid(pid: int) -> int:
    """Return the file-system uid of a process (proc(5)).

    ccfsd's daemons have the owner's there, and the uids of a system user otherwise.
    """
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace", newline="\n") as file:
        return next(int(line.split()[4]) for line in file if line.startswith("Uid:"))


def _unmount(path: str, lazy: bool) -> bool:
    """Unmount; return False if the mount is in use.  DeniedError."""
    try:
        mountpoint.unmount(path, lazy)
    except OSError as error:
        if error.errno == errno.EBUSY and not lazy:
            return False
        if error.errno == errno.EINVAL:  # not mounted any more
            return True
        hint = _CCFSD_HINT if os.path.dirname(path) == RUNTIME else _OWNER_HINT
        raise DeniedError(f"cannot unmount {path}: {error.strerror}", hint) from None
    return True


def _signal(process: int | None, number: signal.Signals) -> None:
    """Send a signal, and SIGCONT so that a stopped process gets it; ignore a lack of permission."""
    if process is None:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        signal.pidfd_send_signal(process, number)
        signal.pidfd_send_signal(process, signal.SIGCONT)


def _has_ended(process: int | None, seconds: float) -> bool:
    """Wait for a process to end; return whether it has."""
    if process is None:
        return True
    poll = select.poll()
    poll.register(process, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _wipe_journals(mount: Mount) -> None:
    """Overwrite and remove what a killed daemon has left, with the rights of the mount's owner."""
    owner = os.geteuid() if mount.owner is None else mount.owner

    def wipe() -> bytes:
        if os.geteuid() == 0 and owner != 0:
            os.setgroups([])
            os.setresuid(owner, owner, owner)
        return "\n".join(location.wipe_all(mount.path, owner)).encode("utf-8", "surrogateescape")

    try:
        unreadable = forked_call.call(wipe, WIPE_SECONDS).decode("utf-8", "surrogateescape")
    except (OSError, TimeoutError) as error:
        reason = error.strerror or "no end in time"
        raise JournalError(
            f"{mount.path} is unmounted, but its journal may be left: {reason.lower()}",
            "see 'ls -d /dev/shm/ccfs-journal-*' and $XDG_RUNTIME_DIR",
        ) from None
    for path in unreadable.split("\n") if unreadable else ():
        messages.say("notice", f"kept {path}, a journal that could not be read")
