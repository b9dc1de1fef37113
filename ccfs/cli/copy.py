"""`ccfs copy`: a ccache of the mount once more, under another name.

Knows files of the mount; never the bytes of a ccache.  What `cp -r` would copy besides, texts and
faces, is made of them by the mount.
"""

from __future__ import annotations

import os
from argparse import Namespace
from dataclasses import dataclass, field

from ccfs.cli import import_, mountpoint_argument
from ccfs.cli.ccaches import directory_of, failures
from ccfs.errors import ExistsError, Exit, UsageError
from ccfs.mounting import mountpoint


@dataclass(frozen=True, slots=True)
class _Copy:
    data: bytes = field(repr=False)

    def put(self, path: str) -> None:
        """Write it to a new file."""
        with open(path, "xb") as file:
            file.write(self.data)


def run(arguments: Namespace) -> int:
    """Make a ccache what another is, in one step; it keeps its identifier where it was there."""
    path = mountpoint_argument.of(arguments.mountpoint)
    source, target = (directory_of(path, name) for name in (arguments.name, arguments.copy))
    if source == target:
        raise UsageError("a ccache can't be copied to itself", "name another one")
    with failures(arguments.name):
        file = os.path.join(source, "ccache")
        copied = _Copy(mountpoint.ask(path, lambda: import_.read(file)))

    def put() -> bytes:
        import_.put(target, copied, replace=arguments.replace)
        return b""

    try:
        with failures(arguments.copy):
            mountpoint.ask(path, put)
    except FileExistsError:
        raise ExistsError(
            f'ccache "{arguments.copy}" has credentials', "add '--replace', or name another"
        ) from None
    return Exit.OK
