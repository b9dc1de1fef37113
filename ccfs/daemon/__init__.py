# SPDX-License-Identifier: MIT
"""The process that serves one user's mount.  Knows FUSE; never the bytes of a ccache."""

from ccfs.daemon.main import serve
from ccfs.daemon.options import MountOptions
from ccfs.daemon.preload import warm_up

__all__ = ["MountOptions", "serve", "warm_up"]
