# SPDX-License-Identifier: MIT
"""A new mount after a daemon's death, on kernels that can't resend its requests to another daemon.

The dead mount is replaced by a new one (`Mounter.replace`), and clients that wait for a reply look
their paths up again there.  Knows processes and mounts; never what a daemon serves.
"""

from __future__ import annotations

import select
import signal
import time

from ccfs.linux.descriptors import wait_readable
from ccfs.mounting.held_requests import HeldRequests
from ccfs.mounting.mounter import FuseMount, Mounter
from ccfs.takeover import notifier


def remount(mounter: Mounter, mounts: list[FuseMount], liveness: int, daemon: int) -> None:
    """Replace a dead daemon's mount, the last of `mounts`; its clients go to the new one.

    `liveness` reads as closed once the daemon and its notifier have ended.  Raises MountError where
    no mount can be made.
    """
    requests = HeldRequests(mounts[-1].device, daemon)
    _end_notifier(requests, liveness, daemon)
    mounter.replace(mounts, requests, lambda ended, seconds: _wait(requests, ended, seconds))


def _end_notifier(requests: HeldRequests, liveness: int, daemon: int) -> None:
    """Let the notifier of a dead daemon end, which its user may have stopped; then kill it."""
    if _wait(requests, liveness, 0):
        return
    notifier.signal_orphan(daemon, signal.SIGCONT)
    if not _wait(requests, liveness, notifier.END_SECONDS):
        notifier.signal_orphan(daemon, signal.SIGKILL)


def _wait(requests: HeldRequests, descriptor: int, seconds: float) -> bool:
    """Wait for a descriptor and take the dead mount's requests meanwhile; False after `seconds`."""
    if requests.closed:
        return wait_readable(descriptor, seconds)
    deadline = time.monotonic() + seconds
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    poll.register(requests.device, select.POLLIN)
    while True:
        left = max(0.0, deadline - time.monotonic())
        ready = [number for number, _ in poll.poll(left * 1000)]
        if descriptor in ready or not left:
            return descriptor in ready
        if requests.device in ready and not requests.take_all():
            poll.unregister(requests.device)
