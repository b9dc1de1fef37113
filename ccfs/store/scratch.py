"""Scratch: files and links that clients make beside what they mean to replace.

A scratch file has a name in a directory and is no ccache.  It goes ten minutes after its last use,
unless it has the bytes of one: then it is kept until it is removed, by the journal, too.
"""

from dataclasses import dataclass

from ccfs.store.errors import ExistsError, NotFoundError
from ccfs.store.generation import Generation
from ccfs.store.values import Stamp

LIFETIME = 600.0
"""Seconds after the last use."""

COLLECTION = 0
"""The place of scratch files in `dir/`; in a ccache's directory the place is its serial."""


@dataclass(slots=True)
class Link:
    """A symbolic link in the mount's root that is to become `default`."""

    number: int
    target: bytes
    made: float


class Scratch:
    """Scratch files by place and name, and scratch links by name.

    `written`: files that were closed by their last writer, and when; in that order.
    """

    def __init__(self) -> None:
        self.written: dict[Generation, Stamp] = {}
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

    def place_of(self, generation: Generation) -> tuple[int, bytes] | None:
        """Where a scratch file is, by its bytes."""
        return next((key for key, g in self._files.items() if g is generation), None)

    def add(self, place: int, name: bytes, generation: Generation) -> None:
        """Give plain bytes a name; ExistsError where it is taken."""
        if (place, name) in self._files:
            raise ExistsError("the name is taken")
        self._files[(place, name)] = generation
        generation.named = True

    def pop(self, place: int, name: bytes) -> Generation:
        """Take the name away from a scratch file."""
        generation = self.get(place, name)
        del self._files[(place, name)]
        generation.named = False
        return generation

    def kept(self) -> list[tuple[tuple[int, bytes], Generation]]:
        """The files that the journal has."""
        return [(key, g) for key, g in self._files.items() if g.kept]

    def expired(self, now: float) -> list[tuple[int, bytes]]:
        """Scratch files that are no ccaches, not open, and were not used for a while."""
        files = self._files.items()
        unused = [(key, g) for key, g in files if not (g.kept or g.handles)]
        return [key for key, g in unused if g.used + LIFETIME <= now]

    def expired_links(self, now: float) -> list[bytes]:
        """Scratch links that were not renamed for a while."""
        return [name for name, link in self.links.items() if link.made + LIFETIME <= now]
