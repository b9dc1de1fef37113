# SPDX-License-Identifier: MIT
"""The kernel's poll handles of files of the mount, which the next daemon has to notify once.

The kernel gives an open file a handle of its own when it is polled (`kh` in linux/fuse.h), by which
it is told that there is something to read (FUSE_NOTIFY_POLL).  libfuse and pyfuse3 don't show the
number, but keep it: the last field of a PollHandle is a pointer to libfuse's, whose first field is
that number.
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
    """Keeps the handles in the handover page, as many as fit."""

    def __init__(self, device: int, handover: Handover | None) -> None:
        self._device = device
        self._handover = handover

    def note(self, polls: Iterable[object]) -> None:
        """Note all that there are: PollHandles of pyfuse3."""
        if self._handover:
            self._handover.store(POLLS, map(_kernel_handle, polls))

    def notify(self) -> None:
        """Have the kernel poll again where files were polled when another daemon served."""
        for handle in self._handover.stored(POLLS) if self._handover else ():
            with suppress(OSError):  # no poll is left
                os.write(self._device, _MESSAGE.pack(_MESSAGE.size, _NOTIFY_POLL, 0, handle))


def _kernel_handle(poll: object) -> int:
    field = id(poll) + type(poll).__basicsize__ - _POINTER
    pointer = ctypes.c_void_p.from_address(field).value
    return ctypes.c_uint64.from_address(pointer).value if pointer else 0
