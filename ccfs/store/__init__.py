"""The credentials of one user, in memory.

The store knows ccaches, credentials, change times and events.  It never knows FUSE, inodes, errno
values, sockets or clocks: time and the caller are passed in (`Stamp`), and each public method of
`Store` is one atomic step of the single-threaded server.
"""

from ccfs.store.store import Store
from ccfs.store.values import Client, Limits, Stamp

__all__ = ["Client", "Limits", "Stamp", "Store"]
