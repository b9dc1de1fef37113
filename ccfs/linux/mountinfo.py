# SPDX-License-Identifier: MIT
"""The kernel's mount table, /proc/self/mountinfo (proc(5)): its one parser.

Type, owner and mountpoint of a mount are the kernel's word: a path is a ccfs and has an owner
because this table says so, not because a file in the mount does.

Knows lines of the table; never touches a mount, which might not answer.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

FSTYPE = "fuse.ccfs"
PATH = "/proc/self/mountinfo"


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of the table.

    `major`, `connection`: the device number.  Of a FUSE mount the minor number names the directory
    in /sys/fs/fuse/connections.  `owner`: a FUSE mount's `user_id`, None for others.  `options`:
    those of the mount and of the file system.  `id`: the kernel's number of the mount; `parent`:
    that of the mount that it is mounted on.  `root`: the directory of the file system that is
    mounted.
    """

    path: str
    fstype: str
    connection: int
    owner: int | None
    options: frozenset[str] = field(default=frozenset(), compare=False)
    id: int = field(default=0, compare=False)
    parent: int = field(default=-1, compare=False)
    major: int = field(default=0, compare=False)
    root: str = field(default="/", compare=False)

    @property
    def is_ccfs(self) -> bool:
        return self.fstype == FSTYPE

    @property
    def device_number(self) -> int:
        """The device number as stat(2) has it."""
        return os.makedev(self.major, self.connection)


def parse(text: str) -> list[Mount]:
    """Parse a table, in its order; a line of another shape is left out.

    Only a newline ends a line: the kernel writes other separators (a vertical tab) as they are.
    """
    mounts = (_parse_line(line) for line in text.split("\n"))
    return [mount for mount in mounts if mount is not None]


def mounts(process: int | str = "self") -> list[Mount]:
    """Return the mounts that a process sees, by its pid; without one, this process."""
    return parse("\n".join(_lines(f"/proc/{process}/mountinfo")))


def topmost(path: str, among: Iterable[Mount] | None = None) -> Mount | None:
    """Return the mount that a lookup of `path` finds: the one that no other is mounted on.

    None where nothing is mounted there.  `among`: the mounts, if they have been read already.  The
    table isn't in that order: a mount can be made beneath another.
    """
    piled = [mount for mount in (mounts() if among is None else among) if mount.path == path]
    below = {mount.parent for mount in piled}
    return next((mount for mount in reversed(piled) if mount.id not in below), None)


def of_descriptor(descriptor: int) -> Mount | None:
    """Return the mount that a descriptor is in; None for a mount of another namespace."""
    return by_id(id_of(descriptor))


def by_id(number: int) -> Mount | None:
    """Return the mount with an id; None where this process sees no such mount.

    One line is parsed: on a host with many users there are thousands.
    """
    begin = f"{number} "
    return next((_parse_line(line) for line in _lines() if line.startswith(begin)), None)


def id_of(descriptor: int) -> int:
    """Return the id of the mount that a descriptor is in (proc(5), fdinfo)."""
    with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii", errors="replace") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("mnt_id:"))


def device_at(path: str) -> str:
    """Return MAJOR:MINOR of the last mount in the table at a path; "" where there is none.

    `path`: without characters that the table escapes.  The table is searched, not parsed: ccfsd
    asks for each of many mounts.
    """
    with open(PATH, "rb") as file:
        before, found, _ = file.read().rpartition(b" %s " % os.fsencode(path))
    return before.rpartition(b"\n")[2].split(b" ")[2].decode("ascii") if found else ""


def _lines(path: str = PATH) -> Iterator[str]:
    with open(path, "rb") as file:
        yield from file.read().decode("utf-8", "surrogateescape").split("\n")


def _parse_line(line: str) -> Mount | None:
    """Parse `ID PARENT MAJOR:MINOR ROOT PATH OPTIONS [TAG...] - FSTYPE SOURCE SUPEROPTIONS`."""
    head, separator, tail = line.partition(" - ")
    fields, super_fields = head.split(" "), tail.split(" ")
    if not separator or len(fields) < 6 or len(super_fields) < 3:
        return None
    major, _, minor = fields[2].partition(":")
    return Mount(
        path=_unescape(fields[4]),
        fstype=super_fields[0],
        connection=_number(minor),
        owner=_owner(super_fields[2]),
        options=frozenset(f"{fields[5]},{super_fields[2]}".split(",")),
        id=_number(fields[0]),
        parent=_number(fields[1]),
        major=_number(major),
        root=_unescape(fields[3]),
    )


def _number(field: str) -> int:
    return int(field) if field.isdigit() else -1


def _owner(options: str) -> int | None:
    for option in options.split(","):
        name, _, value = option.partition("=")
        if name == "user_id" and value.isdigit():
            return int(value)
    return None


def _unescape(field: str) -> str:
    r"""Undo the kernel's `\ooo` for space, tab, newline and backslash."""
    first, *rest = field.split("\\")
    return first + "".join(chr(int(part[:3], 8)) + part[3:] for part in rest)
