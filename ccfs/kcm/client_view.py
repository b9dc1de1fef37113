# SPDX-License-Identifier: MIT
"""The store as one KCM client sees it: ccaches under KCM's names.

Knows the store and the client; never opcodes, nor the bytes of messages and records.
"""

from ccfs.kcm import uuids
from ccfs.kcm.codes import EndError
from ccfs.kcm.names import Names
from ccfs.service.commit import Committer
from ccfs.store import Client, Stamp
from ccfs.store.ccache import Ccache
from ccfs.store.errors import NotFoundError
from ccfs.store.image import Image


class ClientView:
    """The ccaches of the user `owner`, for the process `pid`, whose uid is `uid`."""

    __slots__ = ("_client", "_committer", "_credentials", "names", "store")

    def __init__(self, committer: Committer, owner: int, uid: int, pid: int) -> None:
        self._committer = committer
        self._credentials = (uid, pid)
        self._client: Client | None = None
        self.store = committer.store
        self.names = Names(owner)

    def stamp(self) -> Stamp:
        """Begin a step; the client's command is looked up once, at its first change."""
        committer = self._committer
        if self._client is None:
            self._client = committer.stamp(*self._credentials).client
        committer.client = self._client
        return Stamp(committer.clock(), self._client)

    def ccache_name(self, name: bytes) -> bytes:
        """Return the name of the ccache that KCM calls `name`.  Raises BadNameError."""
        ccache = self.names.ccache(name)
        return self.store.collection.default.name if ccache is None else ccache

    def image(self, name: bytes) -> Image:
        """Return the content of the ccache of a KCM name.  Raises NotFoundError, BadNameError."""
        image = self.ccache(name).image
        assert image is not None
        return image

    def ccache(self, name: bytes) -> Ccache:
        """Return the initialised ccache of a KCM name.  Raises NotFoundError, BadNameError."""
        ccache = self.store.collection.find(self.ccache_name(name))
        if ccache is None or not ccache.initialised:
            raise NotFoundError("no such ccache")
        return ccache

    def by_uuid(self, uuid: bytes) -> Ccache:
        """Return the initialised ccache of a UUID.  Raises EndError."""
        ccache = self.store.collection.by_serial(uuids.serial(uuid))
        if ccache is None or not ccache.initialised:
            raise EndError("a destroyed ccache")
        return ccache
