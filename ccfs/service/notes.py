# SPDX-License-Identifier: MIT
"""Notes: small values that front ends keep in the journal for the next daemon.

Knows keys and bytes; never what they mean.
"""

from ccfs.store import Store
from ccfs.store.effects import Effects


class Notes:
    """The notes in the store, and the keys whose removal waits for the next step.

    A removal alone is not worth a frame in the journal.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._removed: set[bytes] = set()

    def save(self, key: bytes, value: bytes) -> None:
        """Save a note with the step that is being made, in place of an earlier one of its key.

        b"" removes the note with the next step.
        """
        if value:
            self._removed.discard(key)
            self._store.set_note(key, value)
        elif key in self._store.notes:
            self._removed.add(key)

    def get(self, key: bytes) -> bytes:
        """Return a note; b"" for none."""
        return b"" if key in self._removed else self._store.notes.get(key, b"")

    def items(self) -> list[tuple[bytes, bytes]]:
        """Return all notes, those included that the next step removes, oldest first."""
        return list(self._store.notes.items())

    def remove_from(self, effects: Effects) -> None:
        """Add the removals that are due to the effects of a step."""
        for key in self._removed:
            if self._store.notes.pop(key, b""):
                effects.notes[key] = b""
        self._removed.clear()
