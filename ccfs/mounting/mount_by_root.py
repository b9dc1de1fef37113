# SPDX-License-Identifier: MIT
"""Mount a FUSE file system as root, with system calls.

Knows /dev/fuse and mount(2); never which directory it is, nor the daemon.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterable

from ccfs.errors import MountError
from ccfs.linux import mount_calls, mountinfo
from ccfs.mounting import mountpoint

log = logging.getLogger(__name__)

_REASONS = {
    errno.ENODEV: ("this kernel has no FUSE", "load it with 'modprobe fuse'"),
    errno.ENXIO: ("this kernel has no FUSE", "load it with 'modprobe fuse'"),
    errno.ENOENT: (
        "there is no /dev/fuse",
        "load it with 'modprobe fuse'; give it to a container with '--device /dev/fuse'",
    ),
    errno.EPERM: ("permission denied", "it takes root with CAP_SYS_ADMIN"),
    errno.EACCES: ("permission denied", "see who may open /dev/fuse"),
}


def mount(target: str, shown: str, options: Iterable[str], flags: int) -> int:
    """Mount with mount(2); return the FUSE descriptor.  `shown`: the path in messages.

    Raises MountError.
    """
    device = _open_device()
    try:
        mount_calls.mount(
            "ccfs", target, mountinfo.FSTYPE, flags, ",".join([f"fd={device}", *options])
        )
    except OSError as error:
        os.close(device)
        raise _refused(f"cannot mount on {shown}", error) from None
    return device


def mount_beneath(path: str, top: int, options: Iterable[str], flags: int) -> int | None:
    """Mount beneath the mount with the id `top`, the topmost at `path`.

    Returns the FUSE descriptor, None where the kernel can't (before Linux 6.5).  Raises MountError.
    """
    device = _open_device()
    pairs = [option.partition("=") for option in options]
    values = {name: value if equals else None for name, equals, value in pairs}
    values |= {"source": "ccfs", "subtype": "ccfs", "fd": str(device)}
    try:
        root = mount_calls.open_root(path, top)
        try:
            mount_calls.mount_beneath(root, "fuse", values, flags)
        finally:
            os.close(root)
    except OSError as error:
        os.close(device)
        log.debug("cannot mount beneath %s: %s", path, error.strerror)
        return None
    return device


def _open_device() -> int:
    try:
        return os.open(mountpoint.FUSE_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise _refused("cannot open /dev/fuse", error) from None


def _refused(what: str, error: OSError) -> MountError:
    reason, hint = _REASONS.get(error.errno or 0, ((error.strerror or str(error)).lower(), ""))
    return MountError(f"{what}: {reason}", hint)
