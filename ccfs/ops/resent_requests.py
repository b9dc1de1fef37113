# SPDX-License-Identifier: MIT
"""Requests that the kernel sends again after a take-over, and that the last daemon carried out.

The last daemon was killed after the step was in the journal and before the reply was sent.  Such a
request is answered anew and changes nothing.  Knows how replies are made.
"""

from collections.abc import Callable
from typing import Any, Protocol

from pyfuse3 import EntryAttributes, FileInfo, RequestContext


class Replies(Protocol):
    """Makes the replies to requests that were carried out."""

    def attributes_of(self, inode: int) -> EntryAttributes:
        """Return the attributes of an inode."""

    def entry_made(self, parent: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        """Return the entry of a name that was made."""

    def file_made(
        self, parent: int, name: bytes, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        """Return the handle and entry of a file that was made and opened."""


def answer_of(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what answers a resent request: `function` itself where the handler changes nothing."""
    return _ANSWERS.get(name, function)


def _write(replies: Replies, fh: int, offset: int, data: bytes) -> int:
    return len(data)


def _setattr(
    replies: Replies, inode: int, attr: object, fields: object, fh: object, ctx: object
) -> EntryAttributes:
    return replies.attributes_of(inode)


def _make(
    replies: Replies, parent: int, name: bytes, mode_or_target: object, ctx: RequestContext
) -> EntryAttributes:
    return replies.entry_made(parent, name, ctx)


def _create(
    replies: Replies, parent: int, name: bytes, mode: int, flags: int, ctx: RequestContext
) -> tuple[FileInfo, EntryAttributes]:
    return replies.file_made(parent, name, flags, ctx)


def _empty(*_: object) -> None:
    """Answer unlink, rmdir and rename."""


_ANSWERS: dict[str, Callable[..., Any]] = {
    "write": _write,
    "setattr": _setattr,
    "mkdir": _make,
    "symlink": _make,
    "create": _create,
    "unlink": _empty,
    "rmdir": _empty,
    "rename": _empty,
}
