"""Directories that the kernel takes for removed although they are there.

Knows numbers only.  When a removal is accepted without effect, or another directory is renamed
over one that keeps its identity, the kernel marks the inode as dead for as long as anybody has
something open below it, and finds nothing in it any more.  The directory goes on under a new
number; the old one still means it.
"""

from collections.abc import Iterable, Mapping
from struct import Struct

from ccfs.ops.handles import Note
from ccfs.ops.inodes import Ref, Slot

_KEY = b"face "
_VALUE = Struct(">QB")


class ReissuedInodes:
    """Which number stands for a directory now, and which directory a number means.

    `notes`: what an earlier daemon has noted down; `note`: notes it for the next.
    """

    def __init__(self, note: Note, notes: Mapping[bytes, bytes]) -> None:
        self._note = note
        self._shown: dict[Ref, Ref] = {}
        self._meant: dict[Ref, Ref] = {}
        for key, value in notes.items():
            if key.startswith(_KEY):
                serial, slot = _VALUE.unpack(value)
                self._renew(Ref(serial, Slot(slot)), int(key.removeprefix(_KEY), 16))

    def renew(self, directory: Ref, number: int) -> None:
        """Show a directory under a serial number that was never given before."""
        self._renew(directory, number)
        self._note(_KEY + b"%x" % number, _VALUE.pack(*directory))

    def _renew(self, directory: Ref, number: int) -> None:
        face = Ref(number, directory.slot)
        self._shown[directory] = face
        self._meant[face] = directory

    def shown(self, directory: Ref) -> Ref:
        """What the kernel gets to see for anything."""
        return self._shown.get(directory, directory) if self._shown else directory

    def meant(self, face: Ref) -> Ref:
        """What the kernel means with anything it has seen."""
        return self._meant.get(face, face) if self._meant else face

    def forget(self, serials: Iterable[int]) -> None:
        """These ccaches are gone."""
        gone = set(serials)
        if self._meant and gone:
            for face, ref in self._meant.items():
                if ref.serial in gone:
                    self._note(_KEY + b"%x" % face.serial, b"")
            self._shown = {ref: face for ref, face in self._shown.items() if ref.serial not in gone}
            self._meant = {face: ref for face, ref in self._meant.items() if ref.serial not in gone}
