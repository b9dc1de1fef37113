"""The process that serves one user's mount.  Knows FUSE; never the bytes of a ccache."""

from ccfs.daemon.options import MountOptions
from ccfs.daemon.session import serve
from ccfs.daemon.warm import warm

__all__ = ["MountOptions", "serve", "warm"]
