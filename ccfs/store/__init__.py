# SPDX-License-Identifier: MIT
"""The credentials of one user, in memory.

The store knows ccaches, credentials, change times and events.  It never knows FUSE, inodes, errno
values, sockets or clocks: time and the client are passed in (`Stamp`), and each public method of
`Store` and of its parts is one atomic step of the single-threaded daemon.

    FUSE handlers (ccfs/ops), KCM opcodes (ccfs/kcm), imports (ccfs/daemon)
      |
    Store             steps on more than one part; what it makes is built from the parts below
      |- Scratch      files and links that a client makes and renames into place
      |- Collection   names of ccaches, their order, which is the default
      |- OpenFiles    read, write, truncate, close: what a write at an offset means for a ccache
      |- Edits        changes that the daemon makes: store, remove, configuration, principal
      |- Contents     gives ccaches their current content; new numbers for what the kernel caches
      '- Generations  all runs of bytes by their numbers: current, superseded, orphans

    Ccache            identity of one directory; has `current`, its Generation
    Generation        bytes under one number; of a current one they are in an Image
    Image             bytes in FILE format, and where each record is; the only place that changes
                      bytes of a ccache; names of records come from its CredentialIndex

    Changes           called by all parts: Effects (what the journal, the kernel and waiting clients
                      must hear of), the EventLog, change times
    Usage, Ids, ExpiryQueue    bytes and records against Limits, serial numbers, deadlines

Calls go downwards only.  OpenFiles and Edits change an Image, then call Contents.apply, which notes
it in Changes.  What came by another way than a write through the current number happens inside
Contents.new_number: the kernel's cache of that number stays true, and the next lookup finds the new
one.  After a step ccfs/service takes the Effects to the journal, then to the kernel.  A journal
reads a store back as values (snapshot.py), of which Store makes its parts (restore.py).
"""

from ccfs.store.store import Store
from ccfs.store.values import Client, Limits, Stamp

__all__ = ["Client", "Limits", "Stamp", "Store"]
