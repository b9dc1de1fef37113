"""What a daemon does that has taken a mount over from another.

The kernel may ask once more for what was done and not answered: then the answer is made anew, and
nothing else is done.  It comes with numbers of files that the other daemon has opened: they are
opened anew, as far as the number and the journal say how.  And clients may wait for a
notification that the other daemon had no time to send.

Knows the tree, the server and how requests are answered; never the bytes of a ccache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ccfs.ops import tree
from ccfs.ops.handle_numbers import opened
from ccfs.ops.handles import Handle, ListHandle
from ccfs.ops.inodes import Ref, Slot
from ccfs.ops.node import Directory, Opening
from ccfs.store.effects import Effects
from ccfs.takeover.handover import KICKS, NOTIFYING, TOUCHES, Handover

if TYPE_CHECKING:
    from pyfuse3 import EntryAttributes, FileInfo, RequestContext

    from ccfs.ops.file_system import Server
    from ccfs.ops.operations import Operations


def of(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """How to answer a request that has been carried out: its own handler where nothing changes."""
    return _ANSWERS.get(name, function)


def reopen(server: Server, number: int, *, to_close: bool = False) -> Handle | None:
    """An open file of another daemon's, by its number; None where there is none that is known.

    `to_close`: only one whose end matters.  StoreError where what it is of is gone.
    """
    said = opened(number)
    if said is None or (to_close and not said.writes):
        return None
    node, serial = tree.ROWS[said.found.slot].node, said.found.serial
    if isinstance(node, Directory):
        return ListHandle(list(tree.entries(server, said.found)))
    at = server.glance(server.owner.uid, 0)
    opening = Opening(at, 0, said.writes, said.append, truncate=False)
    handle = node.reopen(server, serial, opening, number)
    handle.who = at.client
    handle.known_as(number)
    return handle


def resume(server: Server, handover: Handover, last: Effects | None) -> None:
    """Send the other daemon's last notifications; `last`: what its last step has changed."""
    kicks, touches = handover.stored(KICKS), handover.stored(TOUCHES)
    server.armed = {0, *(ccache.serial for ccache in server.store.collection.all())}
    server.armed = {
        serial for serial in server.armed if server.kernel.knows(Ref(serial, Slot.CHANGED).inode)
    }
    _forget_unknown(server)
    if handover.words[NOTIFYING] and last is not None:
        server.tell(last)
        handover.words[NOTIFYING] = 0
    for kick in kicks:
        server.kernel.kick(kick - 1)
    for touch in touches:
        ccache = server.store.collection.by_serial(touch - 1)
        if ccache is not None and ccache.current:
            server.kernel.touch(ccache.ident)


def _forget_unknown(server: Server) -> None:
    """Superseded bytes whose inode the kernel doesn't have are not open: they go.

    A file may be open by an older number of its ccache than that of its bytes.
    """
    contents = server.store.generations
    known = [n for n in contents.numbers() if server.kernel.knows(Ref(n, Slot.BYTES).inode)]
    for number in contents.unopened(known):
        contents.forget(number)
    server.tend()


def _write(ops: Operations, fh: int, offset: int, data: bytes) -> int:
    return len(data)


def _setattr(
    ops: Operations, inode: int, attr: object, fields: object, fh: object, ctx: object
) -> EntryAttributes:
    return ops.attributes_of(inode)


def _make(
    ops: Operations, parent: int, name: bytes, more: object, ctx: RequestContext
) -> EntryAttributes:
    """The answer to mkdir and symlink."""
    return ops.shown_at(parent, name, ctx)


def _create(
    ops: Operations, parent: int, name: bytes, mode: int, flags: int, ctx: RequestContext
) -> tuple[FileInfo, EntryAttributes]:
    return ops.opened_at(parent, name, flags, ctx)


def _nothing(*_: object) -> None:
    """The answer to unlink, rmdir and rename."""


_ANSWERS: dict[str, Callable[..., Any]] = {
    "write": _write,
    "setattr": _setattr,
    "mkdir": _make,
    "symlink": _make,
    "create": _create,
    "unlink": _nothing,
    "rmdir": _nothing,
    "rename": _nothing,
}
