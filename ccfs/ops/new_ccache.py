# SPDX-License-Identifier: MIT
"""`new`: one open is one transaction, which makes a ccache and answers with its id.

Requests:

    default PRINCIPAL       reset or initialise the default ccache
    new PRINCIPAL           make a ccache with a new name
    create NAME PRINCIPAL   make or reset the ccache of an encoded name; a tab follows the name
                            where it contains a space
"""

from ccfs.ops.file_system import FileSystem
from ccfs.ops.handles import Handle, TransactionHandle, transaction_key
from ccfs.ops.node import LONG, Attributes, Node, Opening, decoded
from ccfs.ops.texts import parse_principal
from ccfs.store import Stamp
from ccfs.store.ccache import Ccache
from ccfs.store.errors import BadContentError


class New(Node):
    """The file `new`."""

    def attributes(self, fs: FileSystem, serial: int) -> Attributes:
        return Attributes(mtime=fs.store.collection.mtime, attr_timeout=LONG)

    def open(self, fs: FileSystem, serial: int, opening: Opening) -> Handle:
        return self.reopen(fs, serial, opening, 0)

    def reopen(self, fs: FileSystem, serial: int, opening: Opening, number: int) -> Handle:
        client, notes = opening.at.client, fs.committer.notes

        def transact(request: bytes, now: float) -> bytes:
            return _make(fs, request, Stamp(now, client)).ident.encode("ascii") + b"\n"

        return TransactionHandle(transact, notes, notes.get(transaction_key(number)))

    def truncate(self, fs: FileSystem, serial: int, size: int, at: Stamp) -> None:
        """Accept size 0: the file is empty before the first write."""
        if size:
            super().truncate(fs, serial, size, at)


def _make(fs: FileSystem, request: bytes, at: Stamp) -> Ccache:
    word, _, rest = request.removesuffix(b"\n").partition(b" ")
    store = fs.store
    if word == b"create":
        name, _, principal = rest.partition(b"\t" if b"\t" in rest else b" ")
        return store.reset_named(decoded(name), parse_principal(principal), at)
    if word == b"default":
        store.reset(store.collection.default, parse_principal(rest), at)
        return store.collection.default
    if word == b"new":
        return store.reset_named(store.collection.unique_name(), parse_principal(rest), at)
    raise BadContentError("neither default, new nor create")
