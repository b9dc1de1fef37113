# SPDX-License-Identifier: MIT
"""Cached replies are equal to those that would be made now.

Knows the service's cache and its table of opcodes; never a socket.
"""

from ccfs.kcm import wire
from ccfs.kcm.opcodes import OPERATIONS
from ccfs.kcm.service import Responder


def check_cached(responder: Responder) -> int:
    """Make every cached reply anew, and compare; returns how many there are."""
    cached = responder._replies._replies
    rows = {wire.head(opcode): operation for opcode, operation in OPERATIONS.items()}
    for request, reply in cached.items():
        operation = rows[request[: wire.HEAD]]
        assert operation.cacheable, operation.name
        payload = operation.handle(responder._view, request, wire.HEAD)
        assert wire.reply(0, payload) == reply, operation.name
    return len(cached)
