"""Names of ccaches as KCM has them: `UID:x` is the ccache x, a bare `UID` the default.

So is no name at all: Heimdal's programs send what stands behind `KCM:`, MIT's ask for a name.
Knows one uid and the text of names; never which ccaches there are.
"""

from ccfs.store.errors import BadNameError


class Names:
    """The names that belong to one uid, in the one form of its number."""

    __slots__ = ("bare", "prefix")

    def __init__(self, uid: int) -> None:
        self.bare = b"%d" % uid
        self.prefix = b"%d:" % uid

    def ccache(self, name: bytes) -> bytes | None:
        """The ccache's own name, None for the default's.

        Raises BadNameError for a name without the uid, or of another one.
        """
        if name.startswith(self.prefix):
            return name[len(self.prefix) :]
        if name == self.bare or not name:
            return None
        raise BadNameError("a name that begins with the caller's uid and a colon")

    def of(self, ccache: bytes) -> bytes:
        """The name under which KCM clients know a ccache."""
        return self.prefix + ccache
