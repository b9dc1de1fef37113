# SPDX-License-Identifier: MIT
"""The opcodes: one table, and a function of a few lines for each row.

Knows payloads and the store's steps; never sockets, nor how a refusal is answered.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ccfs.format.dialect import BIG, DIALECT_V4
from ccfs.format.errors import FormatError
from ccfs.format.principal import Principal, decode_principal
from ccfs.format.wire import read_count, read_data, read_int
from ccfs.kcm import records, uuids
from ccfs.kcm.client_view import ClientView
from ccfs.kcm.codes import EndError, NoMatchError, UnsupportedError
from ccfs.kcm.matching import Matcher, decode_tag
from ccfs.kcm.wire import MAX_REPLY

NUL = b"\0"
TOLERATED_OFFSET = 60
"""Seconds by which the KDC's clock may differ without effect: KDCs and services allow 300."""
_STATUS = 4


def name_at(data: bytes, at: int) -> tuple[bytes, int]:
    """Return the name at `at`, and the offset behind its NUL.  Raises FormatError."""
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


def _noop(view: ClientView, data: bytes, at: int) -> bytes:
    return b""


def _gen_new(view: ClientView, data: bytes, at: int) -> bytes:
    """Return a name that no ccache has and no client got before; INITIALIZE makes the ccache."""
    return view.names.of(view.store.unused_name()) + NUL


def _initialize(view: ClientView, data: bytes, at: int) -> bytes:
    name, at = name_at(data, at)
    principal, _ = _principal_at(data, at)
    view.store.reset_named(view.ccache_name(name), principal, view.stamp())
    return b""


def _destroy(view: ClientView, data: bytes, at: int) -> bytes:
    """Destroy a ccache; of the default ccache the name stays."""
    name, _ = name_at(data, at)
    view.store.destroy_or_reserve(view.ccache(name), view.stamp())
    return b""


def _store(view: ClientView, data: bytes, at: int) -> bytes:
    name, at = name_at(data, at)
    view.store.edits.store(view.ccache(name), data[at:], view.stamp())
    return b""


def _retrieve(view: ClientView, data: bytes, at: int) -> bytes:
    """Return the first credential that matches.

    Unsupported where the KDC's clock differs.  MIT's client then searches the ccache itself, and
    only then applies the offset to its requests; without it the KDC rejects them (clock skew).
    """
    name, at = name_at(data, at)
    image = view.image(name)
    if abs(_offset(view, name) or 0) > TOLERATED_OFFSET:
        raise UnsupportedError("no search in a ccache whose KDC's clock is off")
    flags = read_int(data, at, BIG.u32, "flags")
    matcher = Matcher(decode_tag(data, at + 4), flags, with_skeys=False)
    record = records.first(image, matcher)
    if record is None:
        raise NoMatchError("no such credential")
    return record


def _get_principal(view: ClientView, data: bytes, at: int) -> bytes:
    return records.principal(view.image(name_at(data, at)[0]))


def _get_cred_uuid_list(view: ClientView, data: bytes, at: int) -> bytes:
    image = view.image(name_at(data, at)[0])
    return uuids.listing([span.stored.serial for span in image.spans if span.stored])


def _get_cred_by_uuid(view: ClientView, data: bytes, at: int) -> bytes:
    name, at = name_at(data, at)
    record = records.record(view.image(name), uuids.serial(_uuid_at(data, at)))
    if record is None:
        raise EndError("a removed credential")
    return record


def _remove_cred(view: ClientView, data: bytes, at: int) -> bytes:
    """Remove all credentials that match, in one step."""
    name, at = name_at(data, at)
    ccache = view.ccache(name)
    flags = read_int(data, at, BIG.u32, "flags")
    matcher = Matcher(decode_tag(data, at + 4), flags, with_skeys=True)
    serials = records.matching(view.image(name), matcher)
    if not serials:
        raise NoMatchError("no such credential")
    view.store.edits.remove_all(ccache, serials, view.stamp())
    return b""


def _set_flags(view: ClientView, data: bytes, at: int) -> bytes:
    """Accept flags without effect: `klist -c` sets one."""
    view.ccache(name_at(data, at)[0])
    return b""


def _move_cache(view: ClientView, data: bytes, at: int) -> bytes:
    old, at = name_at(data, at)
    new, _ = name_at(data, at)
    source, target = view.ccache(old), view.ccache_name(new)
    view.store.move_outside_fuse(source, target, view.stamp())
    return b""


def _get_cache_uuid_list(view: ClientView, data: bytes, at: int) -> bytes:
    ccaches = view.store.collection.all()
    return uuids.listing([ccache.serial for ccache in ccaches if ccache.initialised])


def _get_cache_by_uuid(view: ClientView, data: bytes, at: int) -> bytes:
    return view.names.of(view.by_uuid(_uuid_at(data, at)).name) + NUL


def _get_default_cache(view: ClientView, data: bytes, at: int) -> bytes:
    return view.names.of(view.store.collection.default.name) + NUL


def _set_default_cache(view: ClientView, data: bytes, at: int) -> bytes:
    """Set the default; a ccache that does not exist is made, uninitialised, as by `dir/primary`."""
    view.store.set_default_name(view.ccache_name(name_at(data, at)[0]), view.stamp())
    return b""


def _get_kdc_offset(view: ClientView, data: bytes, at: int) -> bytes:
    """Return the offset in seconds; 0 where none is set."""
    return BIG.i32.pack(_offset(view, name_at(data, at)[0]) or 0)


def _set_kdc_offset(view: ClientView, data: bytes, at: int) -> bytes:
    """Set the offset; 0 clears it, and the present one is no change."""
    name, at = name_at(data, at)
    seconds = read_int(data, at, BIG.i32, "an offset") or None
    if (_offset(view, name) or None) != seconds:
        view.store.edits.set_kdc_offset(view.ccache(name), seconds, view.stamp())
    return b""


def _offset(view: ClientView, name: bytes) -> int | None:
    prefix = view.image(name).prefix
    offset = prefix.header.kdc_offset if prefix else None
    return offset[0] if offset else None


def _get_cred_list(view: ClientView, data: bytes, at: int) -> bytes:
    listing = records.listing(view.image(name_at(data, at)[0]))
    if _STATUS + len(listing) > MAX_REPLY:
        raise UnsupportedError("more than a client accepts in one reply")
    return listing


def _replace(view: ClientView, data: bytes, at: int) -> bytes:
    """Replace offset, principal and credentials of a ccache, which is made if need be: one step."""
    name, at = name_at(data, at)
    offset = read_int(data, at, BIG.i32, "an offset") or None
    principal, at = _principal_at(data, at + 4)
    credentials = []
    count = read_count(data, at, BIG, "credentials")
    at += 4
    for _ in range(count):
        record, at = read_data(data, at, BIG, "a credential")
        credentials.append(record)
    name = view.ccache_name(name)
    view.store.replace_named(name, principal, offset, credentials, view.stamp())
    return b""


Handler = Callable[[ClientView, bytes, int], bytes]


@dataclass(frozen=True, slots=True)
class Operation:
    """One row: the name that `stats` counts it by, and its function.

    `handle(view, request, at)` gets a request and the offset of its payload, and returns the
    payload of the reply.  `changes`: whether a commit is needed afterwards.  `cacheable`: whether
    all clients get the same reply to the same request until the next commit.
    """

    name: str
    handle: Handler
    changes: bool = False
    cacheable: bool = False


OPERATIONS: dict[int, Operation] = {
    0: Operation("kcm_noop", _noop),
    3: Operation("kcm_gen_new", _gen_new),
    4: Operation("kcm_initialize", _initialize, changes=True),
    5: Operation("kcm_destroy", _destroy, changes=True),
    6: Operation("kcm_store", _store, changes=True),
    7: Operation("kcm_retrieve", _retrieve, cacheable=True),
    8: Operation("kcm_get_principal", _get_principal, cacheable=True),
    9: Operation("kcm_cred_uuids", _get_cred_uuid_list, cacheable=True),
    10: Operation("kcm_cred_by_uuid", _get_cred_by_uuid, cacheable=True),
    11: Operation("kcm_remove_cred", _remove_cred, changes=True),
    12: Operation("kcm_set_flags", _set_flags),
    17: Operation("kcm_move_cache", _move_cache, changes=True),
    18: Operation("kcm_cache_uuids", _get_cache_uuid_list, cacheable=True),
    19: Operation("kcm_cache_by_uuid", _get_cache_by_uuid, cacheable=True),
    20: Operation("kcm_get_default", _get_default_cache, cacheable=True),
    21: Operation("kcm_set_default", _set_default_cache, changes=True),
    22: Operation("kcm_get_offset", _get_kdc_offset, cacheable=True),
    23: Operation("kcm_set_offset", _set_kdc_offset, changes=True),
    13001: Operation("kcm_cred_list", _get_cred_list, cacheable=True),
    13002: Operation("kcm_replace", _replace, changes=True),
}
