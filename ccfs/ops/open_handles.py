# SPDX-License-Identifier: MIT
"""The open files and directories of a mount, by the number that the kernel knows them by."""

from ccfs.ops.handle_numbers import HandleNumbers
from ccfs.ops.handles import Handle
from ccfs.ops.inodes import Ref
from ccfs.service.errors import HandleLimitError
from ccfs.takeover.handover import OPENED, Handover, words_of


class OpenHandles:
    """`by_number`: all open handles.

    `unfinished`: handles of new files whose content is not complete, by serial number.  `limit`:
    how many handles may be open.
    """

    def __init__(self, limit: int, handover: Handover | None) -> None:
        self.by_number: dict[int, Handle] = {}
        self.unfinished: dict[int, Handle] = {}
        self._limit = limit
        self._numbers = HandleNumbers(self.by_number, words_of(handover), OPENED)

    def __len__(self) -> int:
        return len(self.by_number)

    def check_limit(self, spare: int = 0) -> None:
        """Raise HandleLimitError where `spare` handles above the limit are open."""
        if len(self.by_number) >= self._limit + spare:
            raise HandleLimitError(f"over {self._limit} open files")

    def add(self, handle: Handle, ref: Ref, *, writes: bool = False, append: bool = False) -> int:
        """Register a handle of an inode until it is released; returns its number."""
        number = self._numbers.allocate(
            handle.redirected_to or ref,
            writes=writes,
            append=append,
            redirected=handle.redirected_to is not None,
        )
        self.by_number[number] = handle
        handle.set_number(number)
        return number
