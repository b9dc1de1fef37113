"""Scratch: files and links that clients make beside what they mean to replace.

A scratch file has a name in a directory and is no ccache.  It goes ten minutes after its last use,
unless it has the bytes of one: then it is kept until it is removed.
"""

import math
from dataclasses import dataclass

from ccfs.store.errors import ExistsError, NotFoundError
from ccfs.store.generation import Generation

LIFETIME = 600.0
"""Seconds after the last use."""
KEPT = math.inf
"""`Generation.used` of a file that stays although it was not used: it is a whole ccache."""

COLLECTION = 0
"""The place of scratch files in `dir/`; in a ccache's directory the place is its serial."""


@dataclass(slots=True)
class Link:
    """A symbolic link in the mount's root that is to become `default`."""

    number: int
    target: bytes
    made: float


class Scratch:
    """Scratch files by place and name, and scratch links by name."""

    def __init__(self) -> None:
        self._files: dict[tuple[int, bytes], Generation] = {}
        self.links: dict[bytes, Link] = {}

    @property
    def count(self) -> int:
        """How many scratch files there are."""
        return len(self._files)

    def find(self, place: int, name: bytes) -> Generation | None:
        """The scratch file of a name."""
        return self._files.get((place, name))

    def get(self, place: int, name: bytes) -> Generation:
        """The scratch file of a name, or NotFoundError."""
        found = self.find(place, name)
        if found is None:
            raise NotFoundError("no such scratch file")
        return found

    def names(self, place: int) -> list[tuple[bytes, Generation]]:
        """All scratch files of a place."""
        return [(name, g) for (where, name), g in self._files.items() if where == place]

    def all(self) -> list[Generation]:
        """All scratch files."""
        return list(self._files.values())

    def add(self, place: int, name: bytes, generation: Generation) -> None:
        """Give plain bytes a name; ExistsError where it is taken."""
        if (place, name) in self._files:
            raise ExistsError("the name is taken")
        self._files[(place, name)] = generation
        generation.place = (place, name)

    def pop(self, place: int, name: bytes) -> Generation:
        """Take the name away from a scratch file."""
        generation = self.get(place, name)
        del self._files[(place, name)]
        generation.place = None
        return generation

    def expired(self, now: float) -> list[Generation]:
        """Scratch files that are not open, and were not used for a while."""
        return [
            g for g in self._files.values() if g.handles <= g.presumed and g.used + LIFETIME <= now
        ]

    def expired_links(self, now: float) -> list[bytes]:
        """Scratch links that were not renamed for a while."""
        return [name for name, link in self.links.items() if link.made + LIFETIME <= now]
