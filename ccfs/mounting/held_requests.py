# SPDX-License-Identifier: MIT
"""Hold the requests to a dead daemon's connection until there is another mount at its path.

In the end each gets the reply ESTALE: the kernel looks a path up once more after that
(path_openat, retry_estale) and finds the new mount, so that a client which opens a file sees a
pause and no error.

Knows the heads of FUSE requests; never what they ask.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress

from ccfs.linux import fuse_messages


class HeldRequests:
    """Holds the requests of a connection by its descriptor of /dev/fuse, which it owns.

    `daemon`: the pid of the dead daemon, which led a process group.  Requests of its notifier are
    refused at once, so that the notifier can wake readers and end.
    """

    def __init__(self, device: int, daemon: int) -> None:
        self.device = device
        self.closed = False
        self._daemon = daemon
        self._held: list[int] = []
        os.set_blocking(device, False)
        with suppress(OSError):  # EINVAL before Linux 6.9
            os.write(device, fuse_messages.RESEND)

    def take_all(self) -> bool:
        """Take the requests that wait; False when the connection has ended."""
        while True:
            try:
                request = os.read(self.device, fuse_messages.BUFFER)
            except BlockingIOError:
                return True
            except InterruptedError:
                continue
            except OSError as error:
                if error.errno == errno.ENOENT:  # interrupted before it was read
                    continue
                return False
            self._take(request)

    def close(self) -> None:
        """Let the clients look their paths up again, and end the connection.

        Before Linux 6.9 requests that the dead daemon has read fail with ENOTCONN.
        """
        self.take_all()
        self.closed = True
        for unique in self._held:
            self._refuse(unique, errno.ESTALE)
        os.close(self.device)

    def _take(self, request: bytes) -> None:
        _, opcode, unique, _, _, _, pid, _ = fuse_messages.REQUEST.unpack_from(request)
        if opcode in fuse_messages.WITHOUT_REPLY:
            return
        if self._is_of_notifier(pid):
            self._refuse(unique, errno.ENOTCONN)
        else:
            self._held.append(unique)

    def _is_of_notifier(self, pid: int) -> bool:
        with suppress(ProcessLookupError):
            return os.getpgid(pid) == self._daemon
        return False

    def _refuse(self, unique: int, error: int) -> None:
        with suppress(OSError):  # the client may have been interrupted
            os.write(self.device, fuse_messages.refusal(unique, error))
