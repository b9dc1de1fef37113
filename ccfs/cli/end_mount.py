"""End a mount in whatever state it is: the mount, its processes, and its journal.

Knows mounts, pidfds and journals; never what the mount held.  Used by `ccfs unmount` and by
`--replace`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import time

from ccfs.cli import info, output
from ccfs.control import paths
from ccfs.errors import DeniedError, JournalError, NoAnswerError
from ccfs.journal import location
from ccfs.linux import forked_call, mountinfo
from ccfs.linux.mountinfo import Mount
from ccfs.mounting import closed_directory, mount_lock, mountpoint

END_SECONDS = 3.0
"""That a daemon has to end by itself, and again after SIGTERM."""
KILLED_SECONDS = 3.0
WIPE_SECONDS = 5.0
AGAIN = 0.01
_OWN = "only its owner and root can"
_AT_LOGIN = "ccfsd has mounted it: it goes with your last session, or when nobody uses it"


def end(mount: Mount) -> None:
    """Take a mount away, and return when its processes have ended and its journal is gone.

    Raises as `replace`, and JournalError where the journal can't be removed.
    """
    daemon = _daemon(mount)
    if not _detach(mount.path, lazy=False):
        output.say("notice", f"the ccfs at {mount.path} is in use: its users lose it")
        # The daemon wakes waiters at FIFOs as long as they can be reached by a path.
        _signal(daemon, signal.SIGTERM)
        _has_ended(daemon, END_SECONDS)
    _end_processes(mount, daemon)
    _wipe_journals(mount)


def replace(mount: Mount) -> None:
    """Take a dead or hanging mount away, in use or not, and end its processes; its journal stays.

    Raises DeniedError, NoAnswerError where a process doesn't end.
    """
    _detach(mount.path, lazy=True)
    _end_processes(mount, None)


def _end_processes(mount: Mount, daemon: int | None) -> None:
    """End the daemon, given as a pidfd, and all others that have signed the lock."""
    try:
        _wait_or_detach(mount)
        _end_process(daemon, mount)
        _end_holders(mount)
    finally:
        if daemon is not None:
            os.close(daemon)


def _wait_or_detach(mount: Mount) -> None:
    """See that no ccfs is left at the path, as a dead one under the other is after a death."""
    deadline = time.monotonic() + END_SECONDS
    while (there := mountinfo.topmost(mount.path)) and there.is_ccfs:
        if there.id == mount.id or time.monotonic() > deadline:
            mountpoint.abort(there)
            _detach(mount.path, lazy=True)
        else:
            time.sleep(AGAIN)


def _end_holders(mount: Mount) -> None:
    """End the processes that have signed the lock of the mountpoint: the daemon and its parent."""
    try:
        below = os.open(mount.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # it is not there any more, or closed to us: no process can be found by it
        return
    try:
        while pid := mount_lock.holder(below):
            process = _open_process(pid, mount)
            if process is None:
                return
            try:
                _end_process(process, mount)
            finally:
                os.close(process)
        if os.geteuid() == os.fstat(below).st_uid:
            closed_directory.restore(below)
    finally:
        os.close(below)


def _end_process(process: int | None, mount: Mount) -> None:
    """End a process: it has time to do so by itself, then at SIGTERM, then it is killed."""
    if _has_ended(process, END_SECONDS):
        return
    _signal(process, signal.SIGTERM)
    if _has_ended(process, END_SECONDS):
        return
    _signal(process, signal.SIGKILL)
    if not _has_ended(process, KILLED_SECONDS):
        raise NoAnswerError(f"{mount.path} is unmounted, but its daemon has not ended", "see 'ps'")


def _daemon(mount: Mount) -> int | None:
    """A pidfd of the daemon by its own word (`info`), None when the mount won't tell."""
    try:
        said = dict(info.lines(mountpoint.read(mount.path, "info")))
        return _open_process(int(said["pid"]), mount)
    except (OSError, KeyError, ValueError):
        return None


def _open_process(pid: int, mount: Mount) -> int | None:
    """A pidfd of a process that is the mount's owner's, or root's parent of it; None for others.

    No user can have root end another user's process.
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
    """The file-system uid of a process (proc(5)): the others of root's daemons are a service's."""
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace", newline="\n") as file:
        return next(int(line.split()[4]) for line in file if line.startswith("Uid:"))


def _detach(path: str, lazy: bool) -> bool:
    """Unmount; False when it is in use, DeniedError when it is refused."""
    try:
        mountpoint.detach(path, lazy)
    except OSError as error:
        if error.errno == errno.EBUSY and not lazy:
            return False
        if error.errno == errno.EINVAL:  # it is gone already
            return True
        hint = _AT_LOGIN if os.path.dirname(path) == paths.RUNTIME else _OWN
        raise DeniedError(f"cannot unmount {path}: {error.strerror}", hint) from None
    return True


def _signal(process: int | None, number: signal.Signals) -> None:
    """Send a signal, which a stopped process gets, too; one that we may not signal is left."""
    if process is None:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        signal.pidfd_send_signal(process, number)
        signal.pidfd_send_signal(process, signal.SIGCONT)


def _has_ended(process: int | None, seconds: float) -> bool:
    """Wait for a process to end; whether it has."""
    if process is None:
        return True
    poll = select.poll()
    poll.register(process, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _wipe_journals(mount: Mount) -> None:
    """Overwrite and remove what a killed daemon has left, with the rights of the mount's owner."""
    owner = os.geteuid() if mount.owner is None else mount.owner

    def work() -> bytes:
        if os.geteuid() == 0 and owner != 0:
            os.setgroups([])
            os.setresuid(owner, owner, owner)
        return "\n".join(location.wipe_all(mount.path, owner)).encode("utf-8", "surrogateescape")

    try:
        left = forked_call.call(work, WIPE_SECONDS).decode("utf-8", "surrogateescape")
    except (OSError, TimeoutError) as error:
        raise JournalError(
            f"{mount.path} is unmounted, but its journal may be left: {error}",
            "see 'ls -d /dev/shm/ccfs-journal-*' and $XDG_RUNTIME_DIR",
        ) from None
    for path in left.split("\n") if left else ():
        output.say("notice", f"kept: {path}, a journal that could not be read")
