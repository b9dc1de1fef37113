# SPDX-License-Identifier: MIT
"""A cache of replies, by the bytes of their requests.

Knows bytes and their number; never their meaning.
"""

CAPACITY = 1024 * 1024
"""Bytes of all cached replies and their requests."""
LARGEST = 64 * 1024
"""Bytes of the largest entry."""
OVERHEAD = 128
"""Bytes that an entry takes besides its own."""


class ReplyCache:
    """Replies that depend only on the store's content.

    They contain secrets: the service clears the cache at each commit, so that a removed credential
    is not kept here.
    """

    __slots__ = ("_free", "_replies", "find")

    def __init__(self) -> None:
        self._replies: dict[bytes, bytes] = {}
        self._free = CAPACITY
        self.find = self._replies.get

    def add(self, request: bytes, reply: bytes) -> None:
        """Cache a reply; where there is no room, drop all others."""
        size = len(request) + len(reply) + OVERHEAD
        if size > LARGEST:
            return
        if size > self._free:
            self.clear()
        self._replies[request] = reply
        self._free -= size

    def clear(self) -> None:
        """Drop everything."""
        self._replies.clear()
        self._free = CAPACITY
