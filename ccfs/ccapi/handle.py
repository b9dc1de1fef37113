# SPDX-License-Identifier: MIT
"""The base of all objects of the CCAPI: each can be released, once.

Knows that a handle is released, never what it refers to.
"""

from collections.abc import Callable
from types import TracebackType
from typing import ClassVar, Self, TypeVar

from ccfs.ccapi.constants import CCAPIError, ccIteratorEnd

T = TypeVar("T")


class Handle:
    """An object of the API.  `invalid`: the code for a handle that can't be used any more."""

    invalid: ClassVar[int]

    def __init__(self) -> None:
        self._released = False

    def release(self) -> None:
        """Release the handle; the object that it refers to stays."""
        self._check_valid()
        self._released = True

    def __enter__(self) -> Self:
        self._check_valid()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if not self._released:
            self.release()

    def _check_valid(self) -> None:
        if self._released:
            raise CCAPIError(self.invalid)


def next_or_stop(fetch: Callable[[], T]) -> T:
    """Return `fetch()`; StopIteration in place of ccIteratorEnd."""
    try:
        return fetch()
    except CCAPIError as error:
        if error.code == ccIteratorEnd:
            raise StopIteration from None
        raise
