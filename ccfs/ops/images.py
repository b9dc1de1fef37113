"""The file `ccache` and scratch files: bytes, one inode a generation."""

from ccfs.ops.handles import BytesHandle, Handle
from ccfs.ops.node import LONG, Attributes, Node, Opening
from ccfs.ops.refs import Ref, Slot
from ccfs.ops.server import Server
from ccfs.store import Stamp
from ccfs.store.errors import GoneError
from ccfs.store.generation import Generation

GRACE = 0.02
"""Seconds for which a superseded number is still answered with the current bytes.

The kernel looks a name up again after ESTALE, but only once; under many changes it may come late
twice.
"""


class Bytes(Node):
    """A generation."""

    def attributes(self, server: Server, serial: int) -> Attributes:
        generation = _known(server, serial)
        if _named(generation):
            return _attributes(generation)
        current = generation.ccache.current if generation.ccache else None
        if current and (generation.rewritten or not generation.handles):
            return _superseded(generation, current)
        held = next((g for g in (generation, generation.alias) if g and g.handles), None)
        if held is None:
            raise GoneError("a file that is gone")
        return Attributes(len(held.data), held.mtime, 0, 0.0, 0.0)

    def open(self, server: Server, serial: int, opening: Opening) -> Handle:
        generation = known = _known(server, serial)
        if not _named(known):
            generation = known.alias = _successor(known, opening.at.now)
        if opening.truncate:
            server.store.files.truncate(generation, 0, opening.at)
        return open_generation(
            server, generation, opening, direct=generation is not known, number=serial
        )

    def truncate(self, server: Server, serial: int, size: int, at: Stamp) -> None:
        server.store.files.truncate(_known(server, serial), size, at)


def open_generation(
    server: Server, generation: Generation, opening: Opening, *, direct: bool = False, number: int
) -> Handle:
    """A handle on a generation that was found by `number`."""
    file = server.store.files.open(
        generation,
        opening.at.who,
        writes=opening.writes,
        append=opening.append,
        number=number,
    )
    return BytesHandle(server.store, file, direct=direct)


def _known(server: Server, serial: int) -> Generation:
    generation = server.store.contents.find(serial)
    if generation is None:
        raise GoneError("a number nobody knows")
    return generation


def _named(generation: Generation) -> bool:
    """Whether a name leads to it, and not only what is open."""
    return generation.current or generation.named


def _successor(generation: Generation, now: float) -> Generation:
    current = generation.ccache.current if generation.ccache else None
    if current is None or now - (generation.superseded or 0.0) > GRACE:
        raise GoneError("a superseded generation")
    return current


def _attributes(generation: Generation) -> Attributes:
    return Attributes(len(generation.data), generation.mtime, attr_timeout=LONG)


def _superseded(old: Generation, current: Generation) -> Attributes:
    """The current attributes, for who asks by an older number.

    The kernel cuts what it has cached to the size that it hears, and a reader of the old bytes
    with it: while there is one the size is not less than theirs.
    """
    size = len(current.data)
    if old.handles:
        size = max(size, len(old.data))
    inode = Ref(current.number, Slot.BYTES).inode
    return Attributes(size, current.mtime, 1, 0.0, 0.0, inode)
