"""`mount.ccfs`, which mount(8) runs for `mount -t ccfs` and for lines of fstab(5).

Knows mount(8)'s words for its helpers, and a user by name; never how the daemon serves.  It mounts
as root; what serves is the user's process.  A keeper stays with root's rights, since only root can
mount again where the daemon has died; it holds no descriptor of the mount.
"""

from __future__ import annotations

import dataclasses
import getopt
import os
import pwd
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ccfs.cli import arguments, daemonize, mount, output
from ccfs.errors import DeniedError, Exit, UsageError, UserError
from ccfs.linux import standard_streams
from ccfs.mounting import mount_directory
from ccfs.mounting.mounter import Mounter

if TYPE_CHECKING:
    from ccfs.supervisor.reimport import Plain
    from ccfs.supervisor.supervisor import Job, Life

EX_USAGE = 1
EX_SYSTEM = 2
EX_SOFTWARE = 4
EX_USER = 8
EX_FAILED = 32
"""The exit statuses of mount(8)."""

_STATUS = {Exit.USAGE: EX_USAGE, Exit.PERMISSION: EX_USAGE, Exit.NO_FUSE: EX_SYSTEM}

FLAGS = {"ro": 1, "sync": 16, "dirsync": 128, "noatime": 1024, "nodiratime": 2048}
FLAGS |= {"relatime": 1 << 21, "strictatime": 1 << 24, "lazytime": 1 << 25}
"""What mount(2) is told (linux/mount.h)."""

PASSED_OVER = {"rw", "defaults", "async", "atime", "diratime", "nosuid", "nodev", "noexec"}
PASSED_OVER |= {"auto", "noauto", "nofail", "_netdev", "users", "nouser", "owner", "group"}
PASSED_OVER |= {"suid", "dev", "exec"}
"""What goes without saying, or is said to mount(8) and systemd alone.  The last three are what
mount(8) adds by itself, and what a ccfs never is."""

OURS = {
    "allow_root": False,
    "debug": False,
    "mount_anew": False,
    "max_ccaches": True,
    "max_ccache_size": True,
    "max_total_size": True,
    "max_credentials": True,
    "max_open": True,
    "max_events": True,
}
"""Options of `ccfs mount`, with `_` for `-`, and whether they take a value."""

_HINT = "as in: mount -t ccfs -o user=alice ccfs /home/alice/tickets"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line says: where, for whom, and how.

    `flags` are those of mount(2), `given` the options as `ccfs mount` takes them.  `fake`: check
    everything and mount nothing.
    """

    path: str
    user: pwd.struct_passwd
    flags: int
    given: Namespace = field(repr=False)
    fake: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Run `mount.ccfs SOURCE DIRECTORY [-sfnvrw] [-o OPTIONS]`; returns mount(8)'s exit status."""
    standard_streams.prepare()
    try:
        return _run(parse(sys.argv[1:] if argv is None else argv))
    except UserError as error:
        output.fail(error)
        return _STATUS.get(error.status, EX_FAILED)
    except KeyboardInterrupt:
        return EX_USER
    except Exception as error:
        output.crash(error, debug=False)
        return EX_SOFTWARE


def parse(argv: Sequence[str]) -> Wanted:
    """Understand mount(8) (its section EXTERNAL HELPERS); UsageError where that can't be done."""
    try:
        given, words = getopt.gnu_getopt([*argv], "sfnvrwo:t:N:")
    except getopt.GetoptError as error:
        raise UsageError(str(error), _HINT) from None
    if len(words) != 2:
        raise UsageError("wrong arguments", _HINT)
    options = [o for letter, value in given if letter == "-o" for o in value.split(",") if o]
    letters = {letter for letter, _ in given}
    options += ["ro"] * ("-r" in letters)
    return _wanted(words[1], options, fake="-f" in letters, sloppy="-s" in letters)


def _wanted(directory: str, options: Sequence[str], *, fake: bool, sloppy: bool) -> Wanted:
    flags, user, given = 0, "", ["mount"]
    for option in options:
        name, has_value, value = option.partition("=")
        if name == "user" and has_value:
            user = value
        elif name in FLAGS and not has_value:
            flags |= FLAGS[name]
        elif name in OURS and OURS[name] == bool(has_value):
            given += [f"--{name.replace('_', '-')}", *[value] * OURS[name]]
        elif not (sloppy or option in PASSED_OVER or option == "user" or name.startswith("x-")):
            raise UsageError(f"unknown option {option!r}", "see mount.ccfs(8)")
    path = mount_directory.resolve(directory)
    return Wanted(path, _find(user), flags, arguments.parse([*given, "--", path]), fake)


def _find(user: str) -> pwd.struct_passwd:
    """The user whose mount it is to be, by name or number."""
    if not user:
        raise UsageError("whose mount is it to be", f"add the option user=, {_HINT}")
    try:
        return pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except (KeyError, OverflowError):
        raise UsageError(f"there is no user {user}", "see 'getent passwd'") from None


def _run(wanted: Wanted) -> int:
    if os.geteuid() != 0:
        raise DeniedError("only root can do that", "as yourself: 'ccfs mount'")
    mount_directory.check_descriptors()
    mount.clear_the_way(wanted.path, replace=True)
    uid, gid = wanted.user.pw_uid, wanted.user.pw_gid
    directory = mount_directory.open_for(wanted.path, uid)
    if wanted.fake:
        return 0
    mounter = Mounter(directory, uid, gid, allow_other=True, flags=wanted.flags)
    daemonize.start(mounter, job_of({"path": wanted.path, "uid": uid, "given": vars(wanted.given)}))
    mount.check_answer(wanted.path)
    return 0


def job_of(state: Plain) -> Job:
    """What the keeper does, of plain values: `path`, the user's `uid`, and options as `given`."""
    from ccfs.cli import logs
    from ccfs.linux import capabilities
    from ccfs.supervisor.supervisor import Job

    user, path = pwd.getpwuid(state["uid"]), state["path"]
    given = Namespace(**{**vars(arguments.parse(["mount"])), **state["given"]})

    def first() -> None:
        logs.to_syslog(given.debug)
        capabilities.drop_all_but(capabilities.KEPT_BY_MOUNT_CCFS)

    def serve(ready: Callable[[], None], life: Life) -> int:
        return _serve(path, user, given, ready, life)

    return Job(
        daemonize.telling(serve),
        warm=mount.warm,
        first=first,
        anew=given.mount_anew,
        state=lambda: {**state, "job": __name__},
    )


def _serve(
    path: str,
    user: pwd.struct_passwd,
    given: Namespace,
    ready: Callable[[], None],
    life: Life,
) -> int:
    """Become the user, and serve: in a process that was forked for it."""
    from ccfs import daemon
    from ccfs.ccfsd import launch
    from ccfs.cli import logs
    from ccfs.journal import location

    logs.to_syslog(given.debug)
    launch.become(user.pw_uid, user.pw_gid, _open_descriptors())
    journal = location.choose(path, None, on_disk=False)
    options = mount.options(given, journal, life)
    return daemon.serve(dataclasses.replace(options, allow_other=True, journal_of=path), ready)


def _open_descriptors() -> set[int]:
    """What the keeper has left open is for us: who waits, what is printed, the end of our life."""
    return {number for name in os.listdir("/proc/self/fd") if (number := int(name)) > 2}
