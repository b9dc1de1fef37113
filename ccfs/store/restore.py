"""Make ccaches anew from what was saved: the same ids, names, places and bytes."""

from collections.abc import Iterator

from ccfs.format.credential import Outline
from ccfs.store.ccache import Ccache
from ccfs.store.contents import Contents
from ccfs.store.describe import kind_of
from ccfs.store.image import Image
from ccfs.store.ledger import Ledger
from ccfs.store.saved import Saved, SavedCcache
from ccfs.store.scratch import Scratch
from ccfs.store.values import Stored


class _Registrar:
    """Gives records the identities that they had."""

    def __init__(self, ccache: Ccache, saved: SavedCcache) -> None:
        self._ccache = ccache
        self._records: Iterator[tuple[int, str]] = zip(saved.serials, saved.names, strict=True)

    def room(self, more: int) -> None:
        """What was there has room, whatever the limits are by now."""

    def admit(self, outline: Outline) -> Stored:
        """The next record that was saved."""
        return self._ccache.readmit(kind_of(outline), *next(self._records))

    def forget(self, stored: Stored) -> None:
        """Nothing is forgotten while it is being restored."""


def restore(saved: Saved, ledger: Ledger, contents: Contents, scratch: Scratch) -> list[Ccache]:
    """The saved ccaches in their order.  BadContentError where the bytes are no ccache."""
    ledger.change_time = max(ledger.change_time, saved.change_time)
    ledger.register.last = max(ledger.register.last, saved.last)
    for file in saved.files:
        generation = contents.plain(file.mtime)
        generation.data.extend(file.data)
        generation.kept = True
        scratch.add(file.place, file.name, generation)
        ledger.recount(generation)
    return [_restore(ccache, ledger, contents) for ccache in saved.ccaches]


def _restore(saved: SavedCcache, ledger: Ledger, contents: Contents) -> Ccache:
    ccache = Ccache(saved.name, saved.mtime, ledger.register)
    ccache.serial, ccache.rank = saved.serial, saved.rank
    ccache.change_time, ccache.last_default_time = saved.change_time, saved.last_default_time
    if saved.data:
        image = Image(ledger.limits.ccache_bytes, _Registrar(ccache, saved), saved.data)
        image.serve(ccache)
        generation = contents.plain(saved.mtime)
        generation.become(ccache, image)
        ledger.recount(generation)
    return ccache
