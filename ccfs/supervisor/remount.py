"""The old way to go on after a daemon's death, on kernels that can't give its requests to another.

The dead mount is replaced by a new one (`Mounter.replace`), and those who wait for an answer look
their paths up again there.  Knows processes and mounts; never what a daemon serves.
"""

from __future__ import annotations

import select
import signal
import time

from ccfs.linux.fusermount import wait_readable
from ccfs.mounting.held_requests import HeldRequests
from ccfs.mounting.mounter import Attached, Mounter
from ccfs.takeover import notifier

FAREWELL = 1.0
"""Seconds that the helper of a dead daemon has to wake those who wait at a FIFO, and to end."""


def remount(mounter: Mounter, piled: list[Attached], life: int, daemon: int) -> None:
    """Mount anew in place of a dead daemon's mount, the last of `piled`; its clients go there.

    `life` reads as closed once the daemon and its helper have ended.  Raises MountError where there
    can't be a mount.
    """
    holding = HeldRequests(piled[-1].device, daemon)
    _let_helper_end(holding, life, daemon)
    mounter.replace(piled, holding, lambda ready, seconds: _hold(holding, ready, seconds))


def _let_helper_end(holding: HeldRequests, life: int, daemon: int) -> None:
    """Wait for the helper of a dead daemon, stopped or not, which has its time and no more."""
    if _hold(holding, life, 0):
        return
    notifier.signal_left(daemon, signal.SIGCONT)
    if not _hold(holding, life, FAREWELL):
        notifier.signal_left(daemon, signal.SIGKILL)


def _hold(holding: HeldRequests, descriptor: int, seconds: float) -> bool:
    """Wait for a descriptor while clients of the dead mount are held; False after `seconds`."""
    if holding.closed:
        return wait_readable(descriptor, seconds)
    deadline = time.monotonic() + seconds
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    poll.register(holding.device, select.POLLIN)
    while True:
        left = max(0.0, deadline - time.monotonic())
        found = [number for number, _ in poll.poll(left * 1000)]
        if descriptor in found or not left:
            return descriptor in found
        if holding.device in found and not holding.answer():
            poll.unregister(holding.device)
