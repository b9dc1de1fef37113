"""One ccache on a server, by its identifier: every operation surely meets this one.

A ccache is reached through `caches/NAME`, and NAME may come to mean another one at any time.
`by-id/ID` says where it is, and ids never mean another one; so what was opened by name is this
ccache's if the link said the same before and after.  Methods raise OSError, with ENOENT or ESTALE
where the ccache is gone.
"""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from ccfs.ccapi.error_codes import GONE
from ccfs.ccapi.mount_client import Info, Server, read_all, unique, write_all

T = TypeVar("T")

_ATTEMPTS = 100
"""How often a ccache may be renamed while one file of it is opened."""


class UninitialisedError(OSError):
    """The ccache is there and has no principal: for the CCAPI there is none."""

    def __init__(self) -> None:
        super().__init__(errno.ESTALE, "the ccache is not initialised")


@dataclass(frozen=True, slots=True)
class CcacheById:
    """A ccache's identifier and its server."""

    server: Server
    ident: str

    @property
    def link(self) -> str:
        """The name under which it is surely found, or nothing."""
        return f"by-id/{self.ident}"

    def directory(self) -> str:
        """The path of its directory, at this moment."""
        return self.server.readlink(self.link).removeprefix("../")

    def is_there(self) -> bool:
        """Whether it exists, initialised or not."""
        try:
            self.directory()
        except OSError as error:
            if error.errno in GONE:
                return False
            raise
        return True

    def info(self) -> Info:
        """Its `info`, as it is at one moment."""
        for _ in range(_ATTEMPTS):
            said = self._found(lambda path: self.server.info(f"{path}/info"))
            if said["id"] == self.ident:
                return said
        raise OSError(errno.EBUSY, "renamed all the time")

    def live(self) -> Info:
        """Its `info`; UninitialisedError where it counts for no one."""
        said = self.info()
        if said["initialised"] != "yes":
            raise UninitialisedError
        return said

    def open(self, name: str, flags: int) -> int:
        """A descriptor of one of its files."""
        for _ in range(_ATTEMPTS):
            before = self.directory()
            descriptor = self._found(lambda path: self.server.open(f"{path}/{name}", flags))
            if self._is_still(before, descriptor):
                return descriptor
            os.close(descriptor)
        raise OSError(errno.EBUSY, "renamed all the time")

    def _is_still(self, directory: str, descriptor: int) -> bool:
        """Whether it is where it was; the descriptor is closed where it is gone."""
        try:
            return self.directory() == directory
        except OSError:
            os.close(descriptor)
            raise

    def _found(self, operate: Callable[[str], T]) -> T:
        """Do something below its path; what isn't found there may only have been renamed."""
        for _ in range(_ATTEMPTS):
            before = self.directory()
            try:
                return operate(before)
            except OSError as error:
                if error.errno not in GONE or self.directory() == before:
                    raise
        raise OSError(errno.EBUSY, "renamed all the time")

    @contextmanager
    def opened(self, name: str, flags: int) -> Iterator[int]:
        """A descriptor for a while."""
        descriptor = self.open(name, flags)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def read(self, name: str) -> bytes:
        """All bytes of one of its files."""
        with self.opened(name, os.O_RDONLY) as descriptor:
            return read_all(descriptor)

    def write(self, name: str, data: bytes) -> None:
        """Write to one of its files, which takes it as a whole."""
        with self.opened(name, os.O_WRONLY) as descriptor:
            write_all(descriptor, data)

    def store(self, record: bytes) -> None:
        """Add one marshalled credential."""
        name = f"credentials/{unique('new')}"
        with self.opened(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as descriptor:
            write_all(descriptor, record)

    def record(self, ident: str) -> bytes:
        """The marshalled bytes of a credential; ENOENT or ESTALE where that is gone."""
        return self._found(lambda path: self.server.read(f"{path}/credentials/{ident}.raw"))

    def remove(self, ident: str) -> None:
        """Remove a credential; ENOENT or ESTALE where that is gone."""
        self._found(lambda path: self.server.unlink(f"{path}/credentials/{ident}"))

    def contents(self) -> tuple[str, list[str]]:
        """How often it began anew, and the identifiers of its credentials in stored order."""
        for _ in range(_ATTEMPTS):
            before = self.live()["lineage"]
            lines = self.read("ids").decode("utf-8", "surrogateescape").splitlines()
            if self.live()["lineage"] == before:
                return before, [line.partition("\t")[0] for line in lines]
        raise OSError(errno.EBUSY, "begun anew all the time")

    def destroy(self) -> None:
        """Remove it."""
        self.server.unlink(self.link)

    def become(self, source: "CcacheById") -> None:
        """Take over the content of another, which is gone then."""
        flags = os.O_RDONLY | os.O_DIRECTORY
        with source.opened(".", flags) as old, self.opened(".", flags) as new:
            os.rename("ccache", "ccache", src_dir_fd=old, dst_dir_fd=new)

    def lead(self) -> None:
        """Be the default."""
        self.server.replace_link("default", self.link)
