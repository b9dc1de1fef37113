"""What all objects that a caller holds have in common: they can be released, once.

It knows that a handle is released, never what it stands for.
"""

from collections.abc import Callable
from types import TracebackType
from typing import ClassVar, Self, TypeVar

from ccfs.ccapi.constants import CCAPIError, ccIteratorEnd

T = TypeVar("T")


class Handle:
    """An object of the API.  `invalid`: the code for one that is of no use any more."""

    invalid: ClassVar[int]

    def __init__(self) -> None:
        self._released = False

    def release(self) -> None:
        """Give the object back; what it stands for stays."""
        self._valid()
        self._released = True

    def __enter__(self) -> Self:
        self._valid()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if not self._released:
            self.release()

    def _valid(self) -> None:
        if self._released:
            raise CCAPIError(self.invalid)


def or_stop(fetch: Callable[[], T]) -> T:
    """What `fetch` gives, for Python's iteration: ccIteratorEnd is its end."""
    try:
        return fetch()
    except CCAPIError as error:
        if error.code == ccIteratorEnd:
            raise StopIteration from None
        raise
