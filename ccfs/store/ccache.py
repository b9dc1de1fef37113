# SPDX-License-Identifier: MIT
"""One ccache: its identity is its directory, its content a sequence of generations.

Knows its own names, numbers and times; never the other ccaches, nor how content changes.
"""

from ccfs.format.ccache import Prefix
from ccfs.store.credential_index import CredentialIndex
from ccfs.store.generation import Generation
from ccfs.store.image import Image
from ccfs.store.values import Stored, ident


class Ccache:
    """A directory of `caches/`.

    `current`: its current generation, None where there is no file `ccache`; `index`: the names of
    its records.  A ccache is initialised once its file has a complete header and principal.

    `rank`: its place in the list, the default has the smallest.  `lineage`: how often the file was
    unlinked or replaced.  `reserved`: whether it exists only because a KCM client made its name the
    default.  `change_time` and `last_default_time`: whole seconds since the epoch, as the CCAPI
    counts them; `mtime`: when an entry of the directory last came or went.
    """

    def __init__(self, serial: int, name: bytes, now: float, index: CredentialIndex) -> None:
        self.serial = serial
        self.rank = serial
        self.name = name
        self.current: Generation | None = None
        self.index = index
        self.lineage = 0
        self.reserved = False
        self.change_time = int(now)
        self.last_default_time = 0
        self.mtime = now

    @property
    def ident(self) -> str:
        """The identifier that users see; never reused."""
        return ident(self.serial)

    @property
    def credentials(self) -> dict[str, Stored]:
        """The credentials by file name, in stored order."""
        return self.index.credentials

    @property
    def config(self) -> dict[str, Stored]:
        """The configuration entries by file name, in stored order."""
        return self.index.config

    @property
    def image(self) -> Image | None:
        """The current content, if it has any."""
        return self.current.image if self.current else None

    @property
    def prefix(self) -> Prefix | None:
        """Header and principal, once they are complete."""
        return self.image.prefix if self.image else None

    @property
    def initialised(self) -> bool:
        """Whether clients take it for a ccache: it has a complete header and principal."""
        return self.prefix is not None

    @property
    def size(self) -> int:
        """Bytes of the FILE format."""
        return len(self.current.data) if self.current else 0

    def find(self, serial: int) -> Stored | None:
        """The credential or configuration entry of a serial number."""
        image = self.image
        return image.find(serial) if image else None

    def advance_change_time(self, now: float) -> None:
        """Move the change time: never back, never twice the same."""
        self.change_time = max(int(now), self.change_time + 1)

    def expires(self) -> int:
        """When it expires: the end time of its last TGT, else of its last credential.

        Seconds since the epoch; 0 where it has no credential.
        """
        live = self.credentials.values()
        tgts = [s.endtime for s in live if s.tgt]
        return max(tgts or [s.endtime for s in live], default=0)
