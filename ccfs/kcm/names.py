# SPDX-License-Identifier: MIT
"""Names of ccaches in KCM: `UID:x` is the ccache x, `UID` alone or an empty name the default.

Heimdal's programs send the residual behind `KCM:`, which may be empty; MIT's ask for the default's
name.  Knows one uid and the text of names; never which ccaches exist.
"""

from ccfs.store.errors import BadNameError


class Names:
    """The names of one uid: its number in decimal, without leading zeros."""

    __slots__ = ("bare", "prefix")

    def __init__(self, uid: int) -> None:
        self.bare = b"%d" % uid
        self.prefix = b"%d:" % uid

    def ccache(self, name: bytes) -> bytes | None:
        """Return the name of the ccache; None for the default ccache.

        Raises BadNameError for a name without the uid, or with another.
        """
        if name.startswith(self.prefix):
            return name[len(self.prefix) :]
        if name == self.bare or not name:
            return None
        raise BadNameError("a name that begins with the caller's uid and a colon")

    def of(self, ccache: bytes) -> bytes:
        """Return the KCM name of a ccache."""
        return self.prefix + ccache
