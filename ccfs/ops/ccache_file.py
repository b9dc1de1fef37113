# SPDX-License-Identifier: MIT
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


class Bytes(Node):
    """A generation."""

    def attributes(self, fs: FileSystem, serial: int) -> Attributes:
        stat = fs.store.generations.stat(serial)
        if stat.has_name:
            return Attributes(stat.size, stat.mtime, attr_timeout=LONG)
        inode = Ref(stat.number, Slot.BYTES).inode if stat.number != serial else 0
        return Attributes(stat.size, stat.mtime, int(stat.linked), 0.0, 0.0, inode)

    def open(self, fs: FileSystem, serial: int, opening: Opening) -> Handle:
        generation = opened = fs.store.generations.get(serial)
        if opened.has_name:
            fs.kernel_cache.retries.complete(opening.task)
        else:
            generation = _successor(fs, opened, opening.task)
        if opening.truncate:
            fs.store.open_files.truncate(generation, 0, opening.at)
        superseded = opened if opened is not generation else None
        if superseded is not None:
            fs.kernel_cache.redirected.add(superseded.number, generation.number)
        return open_generation(fs, generation, opening, superseded)

    def reopen(self, fs: FileSystem, serial: int, opening: Opening, number: int) -> Handle:
        decoded = handle_numbers.decode(number)
        file = fs.store.open_files.reopen(
            serial,
            number,
            opening.at.client,
            writes=opening.writes,
            append=opening.append,
            by_other_number=bool(decoded and decoded.redirected),
        )
        return BytesHandle(fs.store, file, direct=True)

    def truncate(self, fs: FileSystem, serial: int, size: int, at: Stamp) -> None:
        fs.store.open_files.truncate(fs.store.generations.get(serial), size, at)


def open_generation(
    fs: FileSystem,
    generation: Generation,
    opening: Opening,
    superseded: Generation | None = None,
) -> Handle:
    """Open a generation; `superseded`: the one whose inode number the client used, if another."""
    client, writes, append = opening.at.client, opening.writes, opening.append
    file = fs.store.open_files.open(
        generation, client, writes=writes, append=append, opened_by=superseded
    )
    return BytesHandle(fs.store, file, direct=superseded is not None)


def create(fs: FileSystem, ccache: Ccache, opening: Opening) -> tuple[Ref, Handle]:
    """Create the file of a ccache that has none."""
    if ccache.current is not None:
        raise ExistsError("the file exists")
    generation = fs.store.contents.start(ccache, opening.at)
    handle = open_generation(fs, generation, opening)
    return Ref(generation.number, Slot.BYTES), handle


def create_scratch(
    fs: FileSystem, directory: int | None, name: bytes, opening: Opening
) -> tuple[Ref, Handle]:
    """Create a scratch file in the directory of a ccache, or in `dir/`."""
    generation = fs.store.scratch.create(directory, name, opening.at)
    handle = open_generation(fs, generation, opening)
    return Ref(generation.number, Slot.BYTES), handle


def _successor(fs: FileSystem, generation: Generation, task: int) -> Generation:
    """Return the generation to open in place of a superseded one.

    Raises GoneError (ESTALE) first, so that the kernel looks the name up again.
    """
    if not fs.kernel_cache.retries.is_retry(generation.number, task):
        raise GoneError("a superseded generation")
    current = fs.store.generations.current_of(generation)
    if current is None:
        raise removed(fs, generation.number)
    return current


def removed(fs: FileSystem, serial: int) -> Exception:
    """Return the refusal of a removed file for a task that was answered with ESTALE before.

    ESTALE once more where the ccache is destroyed: its name may lead to another ccache by now.
    """
    generation = fs.store.generations.find(serial)
    if generation is not None and fs.store.generations.owner(generation) is not None:
        return NotFoundError("no such file")
    return GoneError("a destroyed ccache")
