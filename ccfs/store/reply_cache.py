"""What was made of the store's content, for whoever wants the same again before it changes.

Knows bytes and how many there are; never what they mean.
"""

ROOM = 1024 * 1024
"""Bytes that are kept in all."""
LARGEST = 64 * 1024
"""Bytes of the largest that is kept."""
OVERHEAD = 128
"""Bytes that keeping one takes besides its own."""


class ReplyCache:
    """Bytes made of the content, by the bytes that asked for them.

    Holds secrets, so nothing stays in it when the content goes: the ledger empties it.
    """

    __slots__ = ("_left", "_made", "find")

    def __init__(self) -> None:
        self._made: dict[bytes, bytes] = {}
        self._left = ROOM
        self.find = self._made.get

    def keep(self, asked: bytes, made: bytes) -> None:
        """Keep what was made; where there is no room, what was kept goes."""
        size = len(asked) + len(made) + OVERHEAD
        if size > LARGEST:
            return
        if size > self._left:
            self.clear()
        self._made[asked] = made
        self._left -= size

    def clear(self) -> None:
        """Forget everything."""
        self._made.clear()
        self._left = ROOM
