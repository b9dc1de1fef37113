"""Whom a client may trust: what the kernel says of the file system behind a descriptor.

It knows the mount table, never what a mount holds.  Nothing that a file in a mount says counts
here: type, owner and place are the kernel's word, looked up by the mount that a descriptor is of,
so that nobody can put another one in between.
"""

import os
from dataclasses import dataclass

FSTYPE = "fuse.ccfs"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of /proc/self/mountinfo (proc(5)).

    `root`: the directory of the file system that is mounted; `owner`: a FUSE mount's user_id, None
    for others.
    """

    root: str
    fstype: str
    owner: int | None


def mount_id(descriptor: int) -> int:
    """The number of the mount that a descriptor is in."""
    with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii", errors="replace") as file:
        fields = dict(line.split(":", 1) for line in file if ":" in line)
    return int(fields["mnt_id"])


def entry(number: int) -> Entry | None:
    """The line of a mount; None where it is in no place that this process sees."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            if line.startswith(f"{number} "):
                return parse(line)
    return None


def parse(line: str) -> Entry:
    """`ID PARENT MAJOR:MINOR ROOT PATH OPTIONS [TAG...] - FSTYPE SOURCE SUPEROPTIONS`."""
    head, _, tail = line.rstrip("\n").partition(" - ")
    fstype, _, rest = tail.partition(" ")
    options = dict(o.partition("=")[::2] for o in rest.rpartition(" ")[2].split(","))
    owner = options.get("user_id", "")
    return Entry(head.split(" ")[3], fstype, int(owner) if owner.isdigit() else None)


def is_mountpoint(descriptor: int) -> bool:
    """Whether a directory's descriptor is the root of a mount."""
    above = os.open("..", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=descriptor)
    try:
        return mount_id(above) != mount_id(descriptor)
    finally:
        os.close(above)


def is_ccfs(descriptor: int) -> bool:
    """Whether a descriptor is in a ccfs, anybody's."""
    found = entry(mount_id(descriptor))
    return found is not None and found.fstype == FSTYPE


def is_trusted(descriptor: int) -> bool:
    """Whether a descriptor is the root of a ccfs that serves the caller's own uid.

    Its daemon runs as the caller, or as root, who could do anything anyway.
    """
    found, uid = entry(mount_id(descriptor)), os.geteuid()
    return (
        found is not None
        and (found.fstype, found.root) == (FSTYPE, "/")
        and found.owner in (uid, 0)
        and os.fstat(descriptor).st_uid == uid
    )
