# SPDX-License-Identifier: MIT
"""Scratch: files and links that clients make beside what they are about to replace.

A scratch file has a name in a ccache's directory or in `dir/` and belongs to no ccache: a client
writes one and renames it over `ccache`.  It is dropped ten minutes after its last use, unless it is
a whole ccache: then it stays until it is removed.  A scratch link is made in the mount's root and
renamed to `default` (`ln -sfn`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ccfs.format.names import encode_name
from ccfs.store.ccache_scan import is_whole
from ccfs.store.changes import NONE, Changes
from ccfs.store.collection import Collection
from ccfs.store.errors import CcacheLimitError, ExistsError, NotFoundError
from ccfs.store.generation import Generation, ScratchName
from ccfs.store.generations import Generations
from ccfs.store.ids import Ids
from ccfs.store.values import Client, EventKind, Limits, Stamp

LIFETIME = 600.0
"""Seconds after the last use."""
MAX_LINKS = 64
"""How many scratch links there may be."""
DIR = None
"""The directory of scratch files in `dir/`; others are named by a ccache's serial number."""
DAEMON = Client(0, 0, "ccfs")
"""Stands for the daemon as the client of its own steps."""


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link in the mount's root.  `made`: when, in seconds since the epoch."""

    number: int
    target: bytes
    made: float


class Scratch:
    """Scratch files by directory and name, and scratch links by name (`links`)."""

    def __init__(
        self,
        generations: Generations,
        collection: Collection,
        ids: Ids,
        changes: Changes,
        limits: Limits,
    ) -> None:
        self._generations = generations
        self._collection = collection
        self._ids = ids
        self._changes = changes
        self._limits = limits
        self._files: dict[ScratchName, Generation] = {}
        self._links: dict[bytes, Link] = {}
        self.links: Mapping[bytes, Link] = MappingProxyType(self._links)

    @property
    def count(self) -> int:
        """How many scratch files there are."""
        return len(self._files)

    def find(self, directory: int | None, name: bytes) -> Generation | None:
        """The scratch file of a name."""
        return self._files.get(ScratchName(directory, name))

    def get(self, directory: int | None, name: bytes) -> Generation:
        """The scratch file of a name, or NotFoundError."""
        generation = self.find(directory, name)
        if generation is None:
            raise NotFoundError("no such scratch file")
        return generation

    def names(self, directory: int | None) -> list[tuple[bytes, Generation]]:
        """All scratch files of a directory."""
        return [(key.name, g) for key, g in self._files.items() if key.directory == directory]

    def all(self) -> list[Generation]:
        """All scratch files."""
        return list(self._files.values())

    # Steps

    def create(self, directory: int | None, name: bytes, at: Stamp) -> Generation:
        """Make an empty scratch file.  ExistsError, CcacheLimitError."""
        self.check_room()
        if ScratchName(directory, name) in self._files:
            raise ExistsError("the name is taken")
        generation = self._generations.new_scratch(at.now)
        self.add(directory, name, generation)
        self._changes.scratch_file(generation.number, 0)
        self._collection.note_entry_changed(directory, at)
        return generation

    def unlink(self, directory: int | None, name: bytes) -> None:
        """Remove a scratch file; clients that have it open go on with its bytes."""
        generation = self.pop(directory, name)
        self._changes.scratch_file(generation.number, 0)
        self._generations.unlink_scratch(generation)

    def rename(
        self, source: tuple[int | None, bytes], target: tuple[int | None, bytes], at: Stamp
    ) -> None:
        """Give a scratch file another name, over a scratch file that has it."""
        if source == target:
            return
        generation = self.pop(*source)
        if self.find(*target):
            self.unlink(*target)
        self.add(*target, generation)
        generation.use(at.now)
        self._changes.scratch_file(generation.number, len(generation.data))
        self._collection.note_entry_changed(source[0], at)
        self._collection.note_entry_changed(target[0], at)

    def unlink_all(self, directory: int, at: Stamp) -> None:
        """Remove the scratch files in a ccache's directory, with an event each."""
        for name, _ in self.names(directory):
            self.unlink(directory, name)
            self._log_file(at, EventKind.DROPPED, ScratchName(directory, name))

    def create_link(self, name: bytes, target: bytes, at: Stamp) -> Link:
        """Make a scratch link in the root.  ExistsError, CcacheLimitError."""
        if name in self._links:
            raise ExistsError("the name is taken")
        if len(self._links) >= MAX_LINKS:
            raise CcacheLimitError(f"over {MAX_LINKS} scratch links")
        link = Link(self._ids.new(), target, at.now)
        self._links[name] = link
        self._changes.effects.scratch_links.add(name)
        return link

    def remove_link(self, name: bytes) -> Link:
        """Remove a scratch link, or NotFoundError."""
        link = self._links.pop(name, None)
        if link is None:
            raise NotFoundError("no such scratch link")
        self._changes.effects.scratch_links.add(name)
        return link

    def rename_link(self, name: bytes, new: bytes) -> None:
        """Give a scratch link another name, over a link that has it.  NotFoundError."""
        link = self.remove_link(name)
        self._links[new] = link
        self._changes.effects.scratch_links.add(new)

    def expire(self, now: float, client: Client = DAEMON) -> None:
        """Remove files and links not used for ten minutes, with an event for each file.

        A file that is a whole ccache stays; an event says so.
        """
        at = Stamp(now, client)
        for name, generation in list(self._files.items()):
            unopened = generation.open_count <= generation.presumed_open
            if unopened and generation.expires and generation.last_used + LIFETIME <= now:
                self._expire_file(generation, name, at)
        for link_name, link in list(self._links.items()):
            if link.made + LIFETIME <= now:
                self.remove_link(link_name)

    def _expire_file(self, generation: Generation, name: ScratchName, at: Stamp) -> None:
        if is_whole(generation.data, self._limits.ccache_bytes):
            generation.expires = False
            self._changes.scratch_file(generation.number, len(generation.data))
            self._log_file(at, EventKind.KEPT, name)
        else:
            self.unlink(*name)
            self._log_file(at, EventKind.DROPPED, name)

    def _log_file(self, at: Stamp, kind: EventKind, key: ScratchName) -> None:
        """Add an event of a scratch file: its name stands where a credential's does."""
        ccache = self._collection.by_serial(key.directory) if key.directory is not None else None
        name = ccache.name if ccache else NONE.encode("ascii")
        self._changes.log(at, kind, name, encode_name(key.name))

    # For the steps of `Store`

    def check_room(self) -> None:
        """Raise CcacheLimitError where one more scratch file is too many."""
        if len(self._files) >= self._limits.ccaches:
            raise CcacheLimitError(f"over {self._limits.ccaches} scratch files")

    def add(self, directory: int | None, name: bytes, generation: Generation) -> None:
        """Give plain bytes a free name."""
        generation.scratch_name = ScratchName(directory, name)
        self._files[generation.scratch_name] = generation

    def pop(self, directory: int | None, name: bytes) -> Generation:
        """Take the name away from a scratch file, or NotFoundError."""
        generation = self.get(directory, name)
        del self._files[ScratchName(directory, name)]
        generation.scratch_name = None
        return generation

    def restore_link(self, name: bytes, link: Link) -> None:
        """Restore a scratch link."""
        self._links[name] = link
