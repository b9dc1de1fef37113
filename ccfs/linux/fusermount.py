# SPDX-License-Identifier: MIT
"""fusermount3, the setuid program that mounts and unmounts FUSE file systems for users.

Knows its arguments and how it fails; never what is mounted.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence

from ccfs.linux.descriptors import wait_readable

SECONDS = 10.0

Wait = Callable[[int, float], bool]
"""Wait until a descriptor is readable or closed at its other end; False after some seconds."""


def run(
    arguments: Sequence[str],
    wait: Wait = wait_readable,
    passed: Sequence[int] = (),
    **variables: str,
) -> None:
    """Run fusermount3 with descriptors to inherit and additional environment variables.

    Raises OSError with its last line as strerror, EBUSY where the mount is in use.
    """
    import subprocess  # takes long to import, and most commands don't need it

    with subprocess.Popen(  # noqa: S603 - each argument is one word, paths behind `--`
        ["fusermount3", *arguments],  # noqa: S607 - as libfuse finds it
        env={**os.environ, "LC_ALL": "C", **variables},
        pass_fds=passed,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        pidfd = os.pidfd_open(process.pid)
        try:
            if not wait(pidfd, SECONDS):
                process.kill()
        finally:
            os.close(pidfd)
        _, output = process.communicate()
    if process.returncode != 0:
        line = output.decode(errors="replace").strip().rpartition("\n")[2]
        line = line.removeprefix("fusermount3: ") or f"fusermount3 failed ({process.returncode})"
        raise OSError(errno.EBUSY if "busy" in line else errno.EPERM, line)


def unmount(path: str, *, lazy: bool, wait: Wait = wait_readable) -> None:
    """Unmount the topmost mount at a path, which is the caller's.  Raises OSError."""
    run(["-uz" if lazy else "-u", "--", path], wait)
