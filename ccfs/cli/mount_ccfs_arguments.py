# SPDX-License-Identifier: MIT
"""The command line of mount.ccfs: `SOURCE DIRECTORY [-sfnvrw] [-o OPTIONS]`.

Knows what mount(8) passes to its helpers (its section EXTERNAL HELPERS), and users by name; never
how a ccfs is mounted.
"""

from __future__ import annotations

import getopt
import pwd
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, field

from ccfs.cli import arguments
from ccfs.errors import UsageError
from ccfs.mounting import mount_directory

FLAGS = {"ro": 1, "sync": 16, "dirsync": 128, "noatime": 1024, "nodiratime": 2048}
FLAGS |= {"relatime": 1 << 21, "strictatime": 1 << 24, "lazytime": 1 << 25}
"""Flags of mount(2) (linux/mount.h)."""

IGNORED = {"rw", "defaults", "async", "atime", "diratime", "nosuid", "nodev", "noexec"}
IGNORED |= {"auto", "noauto", "nofail", "_netdev", "users", "nouser", "owner", "group"}
IGNORED |= {"suid", "dev", "exec"}
"""Options that are a ccfs's anyway, or that only mount(8) and systemd read.

mount(8) itself adds suid, dev and exec; a ccfs is always mounted without them.
"""

CCFS_OPTIONS = {
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
class MountRequest:
    """What to mount, where, and for which user.

    `path`: resolved.  `flags`: of mount(2).  `options`: as `ccfs mount` parses them.  `dry_run`:
    check everything and mount nothing (-f).
    """

    path: str
    user: pwd.struct_passwd
    flags: int
    options: Namespace = field(repr=False)
    dry_run: bool = False


def parse(argv: Sequence[str]) -> MountRequest:
    """Parse the command line; UsageError."""
    try:
        options, positional = getopt.gnu_getopt([*argv], "sfnvrwo:t:N:")
    except getopt.GetoptError as error:
        raise UsageError(error.msg, _HINT) from None
    if len(positional) != 2:
        raise UsageError("wrong arguments", _HINT)
    letters = {letter for letter, _ in options}
    mount_options = [o for letter, v in options if letter == "-o" for o in v.split(",") if o]
    mount_options += ["ro"] * ("-r" in letters)
    return _request(positional[1], mount_options, dry_run="-f" in letters, sloppy="-s" in letters)


def _request(
    directory: str, mount_options: Sequence[str], *, dry_run: bool, sloppy: bool
) -> MountRequest:
    """Return the request; UsageError for an unknown option unless `sloppy` (-s)."""
    flags, user, argv = 0, "", ["mount"]
    for option in mount_options:
        name, has_value, value = option.partition("=")
        if name == "user" and has_value:
            user = value
        elif name in FLAGS and not has_value:
            flags |= FLAGS[name]
        elif name in CCFS_OPTIONS and CCFS_OPTIONS[name] == bool(has_value):
            argv += [f"--{name.replace('_', '-')}", *[value] * CCFS_OPTIONS[name]]
        elif not (sloppy or option in IGNORED or option == "user" or name.startswith("x-")):
            raise UsageError(f"unknown option {option!r}", "see mount.ccfs(8)")
    path = mount_directory.resolve(directory)
    options = arguments.parse([*argv, "--", path])
    return MountRequest(path, _find_user(user), flags, options, dry_run)


def _find_user(user: str) -> pwd.struct_passwd:
    """Return the passwd entry of a user name or uid; UsageError."""
    if not user:
        raise UsageError("the option user= is missing", _HINT)
    try:
        return pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except (KeyError, OverflowError):
        raise UsageError(f"there is no user {user}", "see 'getent passwd'") from None
