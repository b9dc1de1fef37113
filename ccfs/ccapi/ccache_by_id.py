# SPDX-License-Identifier: MIT
"""One ccache of a mount by its identifier, so that every operation is on this ccache and no other.

A ccache's files are below `caches/NAME`, and NAME may get another ccache at any time.  The link
`by-id/ID` points to the directory, and an ID never gets another ccache.  So a file that was opened
by name is this ccache's if the link was the same before and after.  Methods raise OSError, with
ENOENT or ESTALE if the ccache is gone.
"""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from ccfs.ccapi.error_codes import MISSING
from ccfs.ccapi.mount_client import Info, MountClient, read_all, unique, write_all

T = TypeVar("T")

_ATTEMPTS = 100
"""How often a ccache may be renamed, or begin anew, during one operation."""


class UninitialisedError(OSError):
    """The ccache has no principal: the CCAPI has no such ccache."""

    def __init__(self) -> None:
        super().__init__(errno.ESTALE, "the ccache is not initialised")


@dataclass(frozen=True, slots=True)
class CcacheById:
    """A ccache's identifier and its mount."""

    mount: MountClient
    ident: str

    @property
    def link(self) -> str:
        """The path of the link to the ccache's directory."""
        return f"by-id/{self.ident}"

    def directory(self) -> str:
        """Return the current path of the ccache's directory."""
        return self.mount.readlink(self.link).removeprefix("../")

    def exists(self) -> bool:
        """True if the ccache exists, initialised or not."""
        try:
            self.directory()
        except OSError as error:
            if error.errno in MISSING:
                return False
            raise
        return True

    def info(self) -> Info:
        """Return the ccache's `info`, as of one moment."""
        for _ in range(_ATTEMPTS):
            info = self._run_in_directory(lambda path: self.mount.info(f"{path}/info"))
            if info["id"] == self.ident:
                return info
        raise OSError(errno.EBUSY, "the ccache is renamed again and again")

    def initialised_info(self) -> Info:
        """Return the ccache's `info`; UninitialisedError if it has no principal."""
        info = self.info()
        if info["initialised"] != "yes":
            raise UninitialisedError
        return info

    def open(self, name: str, flags: int) -> int:
        """Open a file of the ccache and return its descriptor."""
        for _ in range(_ATTEMPTS):
            before = self.directory()
            descriptor = self._run_in_directory(
                lambda path: self.mount.open(f"{path}/{name}", flags)
            )
            if self._has_directory(before, descriptor):
                return descriptor
            os.close(descriptor)
        raise OSError(errno.EBUSY, "the ccache is renamed again and again")

    def _has_directory(self, directory: str, descriptor: int) -> bool:
        """True if the ccache's directory is still `directory`; closes `descriptor` on an error."""
        try:
            return self.directory() == directory
        except OSError:
            os.close(descriptor)
            raise

    def _run_in_directory(self, operation: Callable[[str], T]) -> T:
        """Call `operation` with the ccache's directory; again if that was renamed meanwhile."""
        for _ in range(_ATTEMPTS):
            before = self.directory()
            try:
                return operation(before)
            except OSError as error:
                if error.errno not in MISSING or self.directory() == before:
                    raise
        raise OSError(errno.EBUSY, "the ccache is renamed again and again")

    @contextmanager
    def opened(self, name: str, flags: int) -> Iterator[int]:
        """Open a file of the ccache for the body of a `with`."""
        descriptor = self.open(name, flags)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def read(self, name: str) -> bytes:
        """Return all bytes of a file."""
        with self.opened(name, os.O_RDONLY) as descriptor:
            return read_all(descriptor)

    def write(self, name: str, data: bytes) -> None:
        """Write a file, which the mount takes as a whole."""
        with self.opened(name, os.O_WRONLY) as descriptor:
            write_all(descriptor, data)

    def add_credential(self, record: bytes) -> None:
        """Add a credential, encoded in FILE version 4."""
        name = f"credentials/{unique('new')}"
        with self.opened(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as descriptor:
            write_all(descriptor, record)

    def read_credential(self, ident: str) -> bytes:
        """Return the record of a credential; ENOENT or ESTALE if the credential is gone."""
        return self._run_in_directory(
            lambda path: self.mount.read(f"{path}/credentials/{ident}.raw")
        )

    def remove_credential(self, ident: str) -> None:
        """Remove a credential; ENOENT or ESTALE if the credential is gone."""
        self._run_in_directory(lambda path: self.mount.unlink(f"{path}/credentials/{ident}"))

    def list_credentials(self) -> tuple[str, list[str]]:
        """Return the lineage, and the identifiers of the credentials in stored order.

        The lineage is another one whenever the ccache was initialised anew.
        """
        for _ in range(_ATTEMPTS):
            before = self.initialised_info()["lineage"]
            lines = self.read("ids").decode("utf-8", "surrogateescape").splitlines()
            if self.initialised_info()["lineage"] == before:
                return before, [line.partition("\t")[0] for line in lines]
        raise OSError(errno.EBUSY, "the ccache begins anew again and again")

    def destroy(self) -> None:
        """Remove the ccache."""
        self.mount.unlink(self.link)

    def move_content_from(self, source: "CcacheById") -> None:
        """Replace the ccache's content by that of another ccache, which is removed."""
        flags = os.O_RDONLY | os.O_DIRECTORY
        with source.opened(".", flags) as old, self.opened(".", flags) as new:
            os.rename("ccache", "ccache", src_dir_fd=old, dst_dir_fd=new)

    def make_default(self) -> None:
        """Make the ccache the default."""
        self.mount.replace_link("default", self.link)
