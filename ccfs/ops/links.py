# SPDX-License-Identifier: MIT
"""Symbolic links: `default`, `by-id/ID`, and scratch links in the root."""

from ccfs.ops.file_system import FileSystem
from ccfs.ops.node import Attributes, Node, ccache_of, decoded, encoded, mtime_of
from ccfs.store.ccache import Ccache
from ccfs.store.errors import (
    BadContentError,
    GoneError,
    NotFoundError,
    NotPermittedError,
    StoreError,
)


class IdLink(Node):
    """`by-id/ID`: a link to the ccache's directory."""

    def attributes(self, fs: FileSystem, serial: int) -> Attributes:
        return Attributes(len(self.readlink(fs, serial)), mtime_of(fs, serial))

    def readlink(self, fs: FileSystem, serial: int) -> bytes:
        return b"../caches/" + encoded(ccache_of(fs, serial).name)


class Default(Node):
    """`default`: the link to the default ccache."""

    def attributes(self, fs: FileSystem, serial: int) -> Attributes:
        return Attributes(len(self.readlink(fs, serial)), mtime_of(fs, 0))

    def readlink(self, fs: FileSystem, serial: int) -> bytes:
        return b"caches/" + encoded(fs.store.collection.default.name)


class ScratchLink(Node):
    """A link under another name, which `ln -sfn` makes before it renames it to `default`."""

    def attributes(self, fs: FileSystem, serial: int) -> Attributes:
        return Attributes(len(self.readlink(fs, serial)), entry_timeout=0.0)

    def readlink(self, fs: FileSystem, serial: int) -> bytes:
        links = fs.store.scratch.links.values()
        target = next((link.target for link in links if link.number == serial), None)
        if target is None:
            raise GoneError("a removed link")
        return target


def linked_ccache(fs: FileSystem, target: bytes) -> Ccache:
    """Return the ccache of a link's target: caches/NAME or by-id/ID, relative or absolute."""
    root = fs.info.mountpoint.encode("utf-8", "surrogateescape") + b"/"
    path = target.rstrip(b"/").removeprefix(root).removeprefix(b"./")
    directory, _, name = path.partition(b"/")
    collection = fs.store.collection
    if directory == b"by-id":
        ccache = collection.by_ident(name)
    elif directory == b"caches" and name and b"/" not in name:
        ccache = collection.find(decoded(name))
    else:
        raise BadContentError("a link that does not point to caches/NAME")
    if ccache is None:
        raise NotFoundError("no such ccache")
    return ccache


def new_link_ccache(fs: FileSystem, target: bytes) -> Ccache:
    """Return the ccache of the target of a new link; NotPermittedError for any other target."""
    try:
        return linked_ccache(fs, target)
    except NotFoundError:
        raise
    except StoreError:
        raise NotPermittedError("a link here leads to caches/NAME or by-id/ID") from None
