"""What each opcode does: one table, and a function of a few lines for each of its rows.

Knows the payloads and the store's steps; never sockets, nor how a refusal is answered.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ccfs.format.dialect import BIG, DIALECT_V4
from ccfs.format.errors import FormatError
from ccfs.format.principal import Principal, decode_principal
from ccfs.format.wire import read_count, read_data, read_int
from ccfs.kcm import records, uuids
from ccfs.kcm.client_view import View
from ccfs.kcm.codes import EndError, NoMatchError, UnsupportedError
from ccfs.kcm.matching import Matcher, decode_tag
from ccfs.kcm.wire import MAX_REPLY

NUL = b"\0"
TOLERATED = 60
"""Seconds that the KDC's clock may be off without any harm: KDCs and services allow 300."""
_STATUS = 4


def name_at(data: bytes, at: int) -> tuple[bytes, int]:
    """The name at `at`, and the offset behind its NUL.  Raises FormatError."""
    end = data.find(NUL, at)
    if end < 0:
        raise FormatError(at, "a name that ends with NUL")
    return data[at:end], end + 1


def _uuid_at(data: bytes, at: int) -> bytes:
    if len(data) - at < uuids.SIZE:
        raise FormatError(at, "a UUID of 16 bytes")
    return data[at : at + uuids.SIZE]


def _principal_at(data: bytes, at: int) -> tuple[Principal, int]:
    return decode_principal(data, at, DIALECT_V4)


def _noop(view: View, data: bytes, at: int) -> bytes:
    return b""


def _gen_new(view: View, data: bytes, at: int) -> bytes:
    """A name that nobody has and nobody was told before; the ccache comes with INITIALIZE."""
    return view.names.of(view.store.unused_name()) + NUL


def _initialize(view: View, data: bytes, at: int) -> bytes:
    name, at = name_at(data, at)
    principal, _ = _principal_at(data, at)
    view.store.reset_named(view.own_name(name), principal, view.stamp())
    return b""


def _destroy(view: View, data: bytes, at: int) -> bytes:
    """The default's name stays what it is; any other ccache goes altogether."""
    name, _ = name_at(data, at)
    view.store.vacate(view.ccache(name), view.stamp())
    return b""


def _store(view: View, data: bytes, at: int) -> bytes:
    name, at = name_at(data, at)
    view.store.edits.store(view.ccache(name), data[at:], view.stamp())
    return b""


def _retrieve(view: View, data: bytes, at: int) -> bytes:
    """Not for a ccache of a KDC whose clock is off, which MIT's client asks for as it iterates.

    It does so where it hears that this is unsupported; else the KDC finds its requests too old.
    """
    name, at = name_at(data, at)
    image = view.image(name)
    if abs(_offset(view, name) or 0) > TOLERATED:
        raise UnsupportedError("no search in a ccache whose KDC's clock is off")
    flags = read_int(data, at, BIG.u32, "flags")
    matcher = Matcher(decode_tag(data, at + 4), flags, with_skeys=False)
    found = records.first(image, matcher)
    if found is None:
        raise NoMatchError("no such credential")
    return found


def _get_principal(view: View, data: bytes, at: int) -> bytes:
    return records.principal(view.image(name_at(data, at)[0]))


def _get_cred_uuid_list(view: View, data: bytes, at: int) -> bytes:
    image = view.image(name_at(data, at)[0])
    return uuids.listing([span.stored.serial for span in image.spans if span.stored])


def _get_cred_by_uuid(view: View, data: bytes, at: int) -> bytes:
    name, at = name_at(data, at)
    found = records.record(view.image(name), uuids.serial(_uuid_at(data, at)))
    if found is None:
        raise EndError("a credential that is gone")
    return found


def _remove_cred(view: View, data: bytes, at: int) -> bytes:
    """All that match, in one step."""
    name, at = name_at(data, at)
    ccache = view.ccache(name)
    flags = read_int(data, at, BIG.u32, "flags")
    matcher = Matcher(decode_tag(data, at + 4), flags, with_skeys=True)
    found = records.matching(view.image(name), matcher)
    if not found:
        raise NoMatchError("no such credential")
    view.store.edits.remove_all(ccache, found, view.stamp())
    return b""


def _set_flags(view: View, data: bytes, at: int) -> bytes:
    """There is none that means anything here; `klist -c` sets one."""
    view.ccache(name_at(data, at)[0])
    return b""


def _move_cache(view: View, data: bytes, at: int) -> bytes:
    old, at = name_at(data, at)
    new, _ = name_at(data, at)
    source, target = view.ccache(old), view.own_name(new)
    view.store.relocate(source, target, view.stamp())
    return b""


def _get_cache_uuid_list(view: View, data: bytes, at: int) -> bytes:
    ccaches = view.store.collection.all()
    return uuids.listing([ccache.serial for ccache in ccaches if ccache.initialised])


def _get_cache_by_uuid(view: View, data: bytes, at: int) -> bytes:
    return view.names.of(view.by_uuid(_uuid_at(data, at)).name) + NUL


def _get_default_cache(view: View, data: bytes, at: int) -> bytes:
    return view.names.of(view.store.collection.default.name) + NUL


def _set_default_cache(view: View, data: bytes, at: int) -> bytes:
    """A ccache to come is made, uninitialised, as by `dir/primary`."""
    view.store.name_default(view.own_name(name_at(data, at)[0]), view.stamp())
    return b""


def _get_kdc_offset(view: View, data: bytes, at: int) -> bytes:
    """Seconds; 0 where none is set."""
    return BIG.i32.pack(_offset(view, name_at(data, at)[0]) or 0)


def _set_kdc_offset(view: View, data: bytes, at: int) -> bytes:
    """0 is none, and the same again no change."""
    name, at = name_at(data, at)
    seconds = read_int(data, at, BIG.i32, "an offset") or None
    if (_offset(view, name) or None) != seconds:
        view.store.edits.set_kdc_offset(view.ccache(name), seconds, view.stamp())
    return b""


def _offset(view: View, name: bytes) -> int | None:
    prefix = view.image(name).prefix
    offset = prefix.header.kdc_offset if prefix else None
    return offset[0] if offset else None


def _get_cred_list(view: View, data: bytes, at: int) -> bytes:
    found = records.listing(view.image(name_at(data, at)[0]))
    if _STATUS + len(found) > MAX_REPLY:
        raise UnsupportedError("more than a client takes at a time")
    return found


def _replace(view: View, data: bytes, at: int) -> bytes:
    """Offset, principal and credentials of a ccache, which is made where it is not: one step."""
    name, at = name_at(data, at)
    offset = read_int(data, at, BIG.i32, "an offset") or None
    principal, at = _principal_at(data, at + 4)
    found = []
    count = read_count(data, at, BIG, "credentials")
    at += 4
    for _ in range(count):
        record, at = read_data(data, at, BIG, "a credential")
        found.append(record)
    own = view.own_name(name)
    view.store.replace_named(own, principal, offset, found, view.stamp())
    return b""


Handler = Callable[[View, bytes, int], bytes]


@dataclass(frozen=True, slots=True)
class Operation:
    """One row: the name that `stats` counts it by, and what it does.

    `handle(view, data, at)` gets a request and where its payload begins, and returns the reply's
    payload.  `changes`: whether there may be something to settle afterwards.  `repeats`: whether
    the same request gets the same reply, whoever asks, until there is.
    """

    name: str
    handle: Handler
    changes: bool = False
    repeats: bool = False


OPERATIONS: dict[int, Operation] = {
    0: Operation("kcm_noop", _noop),
    3: Operation("kcm_gen_new", _gen_new),
    4: Operation("kcm_initialize", _initialize, changes=True),
    5: Operation("kcm_destroy", _destroy, changes=True),
    6: Operation("kcm_store", _store, changes=True),
    7: Operation("kcm_retrieve", _retrieve, repeats=True),
    8: Operation("kcm_get_principal", _get_principal, repeats=True),
    9: Operation("kcm_cred_uuids", _get_cred_uuid_list, repeats=True),
    10: Operation("kcm_cred_by_uuid", _get_cred_by_uuid, repeats=True),
    11: Operation("kcm_remove_cred", _remove_cred, changes=True),
    12: Operation("kcm_set_flags", _set_flags),
    17: Operation("kcm_move_cache", _move_cache, changes=True),
    18: Operation("kcm_cache_uuids", _get_cache_uuid_list, repeats=True),
    19: Operation("kcm_cache_by_uuid", _get_cache_by_uuid, repeats=True),
    20: Operation("kcm_get_default", _get_default_cache, repeats=True),
    21: Operation("kcm_set_default", _set_default_cache, changes=True),
    22: Operation("kcm_get_offset", _get_kdc_offset, repeats=True),
    23: Operation("kcm_set_offset", _set_kdc_offset, changes=True),
    13001: Operation("kcm_cred_list", _get_cred_list, repeats=True),
    13002: Operation("kcm_replace", _replace, changes=True),
}
