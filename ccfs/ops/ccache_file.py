"""The file `ccache` and scratch files: bytes, one inode number a generation."""

from ccfs.ops import handle_numbers
from ccfs.ops.file_system import FileSystem
from ccfs.ops.handles import BytesHandle, Handle
from ccfs.ops.inodes import Ref, Slot
from ccfs.ops.node import LONG, Attributes, Node, Opening
from ccfs.store import Stamp
from ccfs.store.ccache import Ccache
from ccfs.store.errors import ExistsError, GoneError, NotFoundError
from ccfs.store.generation import Generation

_FORMER_NUMBER = 1
"""In place of the number of a superseded generation that no name leads to any more."""


class Bytes(Node):
    """A generation."""

    def attributes(self, fs: FileSystem, serial: int) -> Attributes:
        generation = _generation(fs, serial)
        if _is_named(generation):
            return _attributes(generation)
        current = generation.ccache.current if generation.ccache else None
        if current and (generation.rewritten or not generation.handles):
            return _superseded(generation, current)
        opened = generation
        if not generation.handles and generation.followers:
            opened = generation.followers[-1].generation
        if not opened.handles:
            raise GoneError("a removed file")
        return Attributes(len(opened.data), opened.mtime, 0, 0.0, 0.0)

    def open(self, fs: FileSystem, serial: int, opening: Opening) -> Handle:
        generation = opened = _generation(fs, serial)
        if _is_named(opened):
            fs.kernel_cache.retries.complete(opening.task)
        else:
            generation = _successor(fs, opened, opening.task)
        if opening.truncate:
            fs.store.open_files.truncate(generation, 0, opening.at)
        superseded = opened if opened is not generation else None
        return open_generation(fs, generation, opening, superseded)

    def reopen(self, fs: FileSystem, serial: int, opening: Opening, number: int) -> Handle:
        decoded = handle_numbers.decode(number)
        file = fs.store.open_files.reopen(
            serial,
            number,
            opening.at.client,
            writes=opening.writes,
            append=opening.append,
            known_by=_FORMER_NUMBER if decoded and decoded.redirected else 0,
        )
        return BytesHandle(fs.store, file, direct=True)

    def truncate(self, fs: FileSystem, serial: int, size: int, at: Stamp) -> None:
        fs.store.open_files.truncate(_generation(fs, serial), size, at)


def open_generation(
    fs: FileSystem,
    generation: Generation,
    opening: Opening,
    superseded: Generation | None = None,
) -> Handle:
    """Open a generation; `superseded`: the one whose inode number the client used, if another."""
    client, writes, append = opening.at.client, opening.writes, opening.append
    file = fs.store.open_files.open(
        generation, client, writes=writes, append=append, found=superseded
    )
    return BytesHandle(fs.store, file, direct=superseded is not None)


def create(fs: FileSystem, ccache: Ccache, opening: Opening) -> tuple[Ref, Handle]:
    """Create the file of a ccache that has none."""
    if ccache.current is not None:
        raise ExistsError("the file exists")
    generation = fs.store.generations.start(ccache, opening.at)
    handle = open_generation(fs, generation, opening)
    return Ref(generation.number, Slot.BYTES), handle


def create_scratch(
    fs: FileSystem, directory: int, name: bytes, opening: Opening
) -> tuple[Ref, Handle]:
    """Create a scratch file in the directory of a ccache, or in `dir/`."""
    generation = fs.store.create_scratch(directory, name, opening.at)
    handle = open_generation(fs, generation, opening)
    return Ref(generation.number, Slot.BYTES), handle


def _generation(fs: FileSystem, serial: int) -> Generation:
    generation = fs.store.generations.find(serial)
    if generation is None:
        raise GoneError("an unknown generation")
    return generation


def _is_named(generation: Generation) -> bool:
    """Whether a name leads to it; otherwise only handles do."""
    ccache = generation.ccache
    return ccache.current is generation if ccache is not None else generation.named


def _successor(fs: FileSystem, generation: Generation, task: int) -> Generation:
    """Return the generation to open in place of a superseded one.

    Raises GoneError (ESTALE) first, so that the kernel looks the name up again.
    """
    if not fs.kernel_cache.retries.is_retry(generation.number, task):
        raise GoneError("a superseded generation")
    current = generation.ccache.current if generation.ccache else None
    if current is None:
        raise removed(fs, generation.number)
    return current


def removed(fs: FileSystem, serial: int) -> Exception:
    """Return the refusal of a removed file for a task that was answered with ESTALE before.

    ESTALE once more where the ccache is destroyed: its name may lead to another ccache by now.
    """
    generation = fs.store.generations.find(serial)
    ccache = generation.ccache if generation else None
    if ccache is not None and fs.store.collection.by_serial(ccache.serial) is ccache:
        return NotFoundError("no such file")
    return GoneError("a destroyed ccache")


def _attributes(generation: Generation) -> Attributes:
    return Attributes(len(generation.data), generation.mtime, attr_timeout=LONG)


def _superseded(old: Generation, current: Generation) -> Attributes:
    """Return the current attributes for a getattr by an older number.

    The kernel truncates cached pages to a smaller size that it gets, and gives zeros up to a larger
    one.  So while a reader has the old bytes open the size stays theirs, unless a restart has lost
    the bytes.
    """
    size = len(old.data) if old.handles and not old.unknown else len(current.data)
    inode = Ref(current.number, Slot.BYTES).inode
    return Attributes(size, current.mtime, 1, 0.0, 0.0, inode)
