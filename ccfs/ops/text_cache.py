# SPDX-License-Identifier: MIT
"""Texts of credentials, cached by serial number: a credential never changes."""

from ccfs.store.effects import Effects

MAX_TEXTS = 4096
"""How many texts are cached."""
MAX_SIZES = 65_536
"""How many sizes are cached: `ls -l` and readdir need nothing else."""


class TextCache:
    """The texts and, for more credentials, their sizes in bytes."""

    def __init__(self) -> None:
        self.texts: dict[int, bytes] = {}
        self.sizes: dict[int, int] = {}

    def add(self, serial: int, text: bytes) -> None:
        """Cache the text of a credential."""
        if len(self.texts) >= MAX_TEXTS:
            del self.texts[next(iter(self.texts))]
        if len(self.sizes) >= MAX_SIZES:
            self.sizes.clear()
        self.texts[serial] = text
        self.sizes[serial] = len(text)

    def drop_removed(self, effects: Effects) -> None:
        """Drop the texts of removed credentials."""
        if effects.removed_records and (self.sizes or self.texts):
            for serial in effects.removed_serials:
                self.texts.pop(serial, None)
                self.sizes.pop(serial, None)
