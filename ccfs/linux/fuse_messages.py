"""The heads of FUSE messages (linux/fuse.h), for who talks to /dev/fuse without libfuse."""

import struct

BUFFER = 2 << 20
"""Bytes.  The kernel refuses a read that has no room for the largest write it may send."""
REQUEST = struct.Struct("<IIQQIIII")
"""Length, opcode, unique, node, uid, gid, pid, and 4 bytes that say nothing here."""
REPLY = struct.Struct("<IiQ")
"""Length, error (an errno value below 0) or the code of a notification, unique."""
RESEND = REPLY.pack(REPLY.size, 7, 0)
"""FUSE_NOTIFY_RESEND (Linux 6.9): queue again what a daemon has read and not answered."""
WITHOUT_REPLY = frozenset({2, 36, 42})
"""FUSE_FORGET, FUSE_INTERRUPT, FUSE_BATCH_FORGET: the kernel sends them ahead of others."""


def refusal(unique: int, error: int) -> bytes:
    """The reply to a request that fails with an errno value."""
    return REPLY.pack(REPLY.size, -error, unique)
