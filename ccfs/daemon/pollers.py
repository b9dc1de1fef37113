"""Who polls a file of the mount, as the kernel calls them: the next daemon has to wake them once.

The kernel gives an open file a number of its own when it is polled (`kh` in linux/fuse.h), by which
it is told that there is something to read.  libfuse and pyfuse3 have no word for it, but keep it:
the last field of a PollHandle is a pointer to libfuse's, whose first is that number.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable
from contextlib import suppress

from ccfs.takeover.handover import POLLS, Handover

_NOTIFY_POLL = 1
_MESSAGE = struct.Struct("<IiQQ")
_POINTER = ctypes.sizeof(ctypes.c_void_p)


class Pollers:
    """Keeps them in the hand-over, as many as it has room for."""

    def __init__(self, device: int, handover: Handover | None) -> None:
        self._device = device
        self._handover = handover

    def note(self, polls: Iterable[object]) -> None:
        """These are all of them: pyfuse3's PollHandles."""
        if self._handover:
            self._handover.store(POLLS, map(_name, polls))

    def wake(self) -> None:
        """Have all of them ask again."""
        for name in self._handover.stored(POLLS) if self._handover else ():
            with suppress(OSError):  # it polls no more
                os.write(self._device, _MESSAGE.pack(_MESSAGE.size, _NOTIFY_POLL, 0, name))


def _name(poll: object) -> int:
    field = id(poll) + type(poll).__basicsize__ - _POINTER
    pointer = ctypes.c_void_p.from_address(field).value
    return ctypes.c_uint64.from_address(pointer).value if pointer else 0
