# SPDX-License-Identifier: MIT
"""The records of a ccache in KCM's form: FILE version 4, whatever the version of the ccache.

Of a ccache in version 4, as nearly all are, bytes are only copied.  Knows images and their bytes;
never names of ccaches or clients.
"""

from collections.abc import Iterator

from ccfs.format.credential import decode_credential, encode_credential
from ccfs.format.dialect import BIG, DIALECT_V4
from ccfs.format.principal import encode_principal
from ccfs.kcm.matching import Matcher
from ccfs.store.image import Image

Located = tuple[int, bytes | bytearray, int, int]
"""A record that was not removed: serial number, a buffer, begin and end in the buffer."""

_HEADER = 4


def principal(image: Image) -> bytes:
    """Return the client principal of an initialised ccache."""
    if image.dialect is DIALECT_V4:
        data = image.data
        return bytes(data[_HEADER + BIG.u16.unpack_from(data, 2)[0] : image.records_start])
    assert image.prefix is not None
    return encode_principal(image.prefix.principal, DIALECT_V4)


def located(image: Image) -> Iterator[Located]:
    """Yield the records in their order."""
    if image.dialect is DIALECT_V4:
        data = image.data
        for span in image.spans:
            if span.stored is not None:
                yield span.stored.serial, data, span.start, span.end
        return
    for record, stored in image.records():
        if stored is not None:
            encoded = _in_version_4(record, image)
            yield stored.serial, encoded, 0, len(encoded)


def record(image: Image, serial: int) -> bytes | None:
    """Return a record by its serial number; None where it was removed."""
    data = image.record(serial)
    return data if data is None or image.dialect is DIALECT_V4 else _in_version_4(data, image)


def listing(image: Image) -> bytes:
    """Return the count of records, then each record after its length: GET_CRED_LIST."""
    pack = BIG.u32.pack
    parts: list[bytes | bytearray] = [b""]
    add = parts.append
    if image.dialect is DIALECT_V4:
        data = image.data
        for span in image.spans:
            if span.stored is not None:
                start, end = span.start, span.end
                add(pack(end - start))
                add(data[start:end])
    else:
        for _, encoded, _, end in located(image):
            parts += (pack(end), encoded)
    parts[0] = pack(len(parts) // 2)
    return b"".join(parts)


def first(image: Image, matcher: Matcher) -> bytes | None:
    """Return the first record that matches; None for none."""
    for _, data, start, end in _matches(image, matcher):
        return bytes(data[start:end])
    return None


def matching(image: Image, matcher: Matcher) -> list[int]:
    """Return the serial numbers of all records that match."""
    return [serial for serial, *_ in _matches(image, matcher)]


def _matches(image: Image, matcher: Matcher) -> Iterator[Located]:
    part = matcher.part if image.dialect is DIALECT_V4 else None
    for record in _containing(image, part) if part else located(image):
        if matcher(record[1], record[2]):
            yield record


def _containing(image: Image, part: bytes) -> Iterator[Located]:
    """Yield the records that contain these bytes."""
    data, find = image.data, image.data.find
    at = find(part, image.records_start, image.records_end)
    while at >= 0:
        span = image.span_at(at)
        assert span is not None
        if span.stored is not None:
            yield span.stored.serial, data, span.start, span.end
        at = find(part, span.end, image.records_end)


def _in_version_4(record: bytes, image: Image) -> bytes:
    return encode_credential(decode_credential(record, image.dialect)[0], DIALECT_V4)
