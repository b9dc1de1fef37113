"""Replies that are kept are those that would be given now.

Knows the server's memo and its table of opcodes; never a socket.
"""

from ccfs.kcm import wire
from ccfs.kcm.opcodes import OPERATIONS
from ccfs.kcm.service import Peer


def check_kept(peer: Peer) -> int:
    """Make every kept reply anew, and compare; returns how many there are."""
    kept = peer._memo._made
    rows = {wire.head(opcode): operation for opcode, operation in OPERATIONS.items()}
    for asked, made in kept.items():
        operation = rows[asked[: wire.HEAD]]
        assert operation.repeats, operation.name
        assert wire.reply(0, operation.handle(peer._view, asked, wire.HEAD)) == made, operation.name
    return len(kept)
