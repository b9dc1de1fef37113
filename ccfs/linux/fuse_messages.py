# SPDX-License-Identifier: MIT
"""The heads of FUSE messages (linux/fuse.h), for code that uses /dev/fuse without libfuse."""

import struct

BUFFER = 2 << 20
"""Bytes.  The kernel refuses a read that has no room for the largest write it may send."""
REQUEST = struct.Struct("<IIQQIIII")
"""struct fuse_in_header: length, opcode, unique, node, uid, gid, pid, and 4 bytes not used here."""
REPLY = struct.Struct("<IiQ")
"""struct fuse_out_header: length, error (a negative errno value) or notify code, unique."""
RESEND = REPLY.pack(REPLY.size, 7, 0)
"""FUSE_NOTIFY_RESEND (Linux 6.9): the kernel queues requests without a reply again."""
WITHOUT_REPLY = frozenset({2, 36, 42})
"""FUSE_FORGET, FUSE_INTERRUPT, FUSE_BATCH_FORGET: the kernel wants no reply to them."""


def refusal(unique: int, error: int) -> bytes:
    """Return the reply to a request that fails with an errno value."""
    return REPLY.pack(REPLY.size, -error, unique)
