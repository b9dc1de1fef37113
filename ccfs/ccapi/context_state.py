"""What a context and all handles that came from it share: the place of the server, and the locks.

It knows whether the context is still open, never what was asked through it.
"""

from ccfs.ccapi import constants as cc
from ccfs.ccapi.constants import CCAPIError
from ccfs.ccapi.locate import Place
from ccfs.ccapi.lock_owner import Owner


class Session:
    """One context's own."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.owner = Owner()
        self._open = True

    def close(self) -> None:
        """The context is released: its locks are gone."""
        self._open = False
        self.owner.release()

    def check(self) -> None:
        """Refuse locks for a context that is released: nobody would let go of them."""
        if not self._open:
            raise CCAPIError(cc.ccErrInvalidContext)
