"""The file `ccache` and scratch files: bytes, one inode a generation."""

from ccfs.ops.file_system import Server
from ccfs.ops.handle_numbers import opened
from ccfs.ops.handles import BytesHandle, Handle
from ccfs.ops.inodes import Ref, Slot
from ccfs.ops.node import LONG, Attributes, Node, Opening
from ccfs.store import Stamp
from ccfs.store.errors import GoneError, NotFoundError
from ccfs.store.generation import Generation

_ANOTHER = 1
"""Stands for a number that was given, and is nobody's any more."""


class Bytes(Node):
    """A generation."""

    def attributes(self, server: Server, serial: int) -> Attributes:
        generation = _known(server, serial)
        if _named(generation):
            return _attributes(generation)
        current = generation.ccache.current if generation.ccache else None
        if current and (generation.rewritten or not generation.handles):
            return _superseded(generation, current)
        held = generation
        if not generation.handles and generation.followers:
            held = generation.followers[-1].generation
        if not held.handles:
            raise GoneError("a file that is gone")
        return Attributes(len(held.data), held.mtime, 0, 0.0, 0.0)

    def open(self, server: Server, serial: int, opening: Opening) -> Handle:
        generation = known = _known(server, serial)
        if not _named(known):
            generation = _successor(server, known, opening.task)
        else:
            server.retries.pop(opening.task, None)
        if opening.truncate:
            server.store.open_files.truncate(generation, 0, opening.at)
        found = known if known is not generation else None
        return open_generation(server, generation, opening, found)

    def reopen(self, server: Server, serial: int, opening: Opening, number: int) -> Handle:
        said = opened(number)
        file = server.store.open_files.reopen(
            serial,
            number,
            opening.at.client,
            writes=opening.writes,
            append=opening.append,
            known_by=_ANOTHER if said and said.elsewhere else 0,
        )
        return BytesHandle(server.store, file, direct=True)

    def truncate(self, server: Server, serial: int, size: int, at: Stamp) -> None:
        server.store.open_files.truncate(_known(server, serial), size, at)


def open_generation(
    server: Server, generation: Generation, opening: Opening, found: Generation | None = None
) -> Handle:
    """A handle on a generation; `found`: the superseded one by whose number it was found."""
    file = server.store.open_files.open(
        generation, opening.at.client, writes=opening.writes, append=opening.append, found=found
    )
    return BytesHandle(server.store, file, direct=found is not None)


def _known(server: Server, serial: int) -> Generation:
    generation = server.store.generations.find(serial)
    if generation is None:
        raise GoneError("a number nobody knows")
    return generation


def _named(generation: Generation) -> bool:
    """Whether a name leads to it, and not only what is open."""
    ccache = generation.ccache
    return ccache.current is generation if ccache is not None else generation.named


def _successor(server: Server, generation: Generation, task: int) -> Generation:
    """What to open instead: nothing at first, so that the kernel looks the name up again."""
    if not server.retries_again(generation.number, task):
        raise GoneError("a superseded generation")
    current = generation.ccache.current if generation.ccache else None
    if current is None:
        raise gone(server, generation.number)
    return current


def gone(server: Server, serial: int) -> Exception:
    """What to say of a file that is not there, to whom "look again" was said before.

    Where the ccache itself is gone its name may mean another one by now: it is said again.
    """
    generation = server.store.generations.find(serial)
    ccache = generation.ccache if generation else None
    if ccache is not None and server.store.collection.by_serial(ccache.serial) is ccache:
        return NotFoundError("no such file")
    return GoneError("a ccache that is gone")


def _attributes(generation: Generation) -> Attributes:
    return Attributes(len(generation.data), generation.mtime, attr_timeout=LONG)


def _superseded(old: Generation, current: Generation) -> Attributes:
    """The current attributes, for who asks by an older number.

    The kernel cuts what it has cached to the size that it hears, and a reader of the old bytes
    with it, or gives them zeros up to it: while there is one the size stays theirs, unless a
    restart has lost the bytes.
    """
    size = len(old.data) if old.handles and not old.unknown else len(current.data)
    inode = Ref(current.number, Slot.BYTES).inode
    return Attributes(size, current.mtime, 1, 0.0, 0.0, inode)
