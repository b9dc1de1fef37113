"""The records of a ccache as KCM has them: FILE version 4, whatever the ccache is written in.

Knows images and their bytes; never names of ccaches or who asks.  In version 4, which nearly all
ccaches are in, bytes are only ever copied.
"""

from collections.abc import Iterator

from ccfs.format.credential import decode_credential, encode_credential
from ccfs.format.dialect import BIG, DIALECT_V4
from ccfs.format.principal import encode_principal
from ccfs.kcm.matching import Matcher
from ccfs.store.image import Image

Located = tuple[int, bytes | bytearray, int, int]
"""A live record: its serial number, what holds it, where it begins and ends there."""

_HEADER = 4


def principal(image: Image) -> bytes:
    """The client principal of an initialised ccache."""
    if image.dialect is DIALECT_V4:
        data = image.data
        return bytes(data[_HEADER + BIG.u16.unpack_from(data, 2)[0] : image.body])
    assert image.prefix is not None
    return encode_principal(image.prefix.principal, DIALECT_V4)


def located(image: Image) -> Iterator[Located]:
    """The live records in their order."""
    if image.dialect is DIALECT_V4:
        data = image.data
        for span in image.spans:
            if span.stored is not None:
                yield span.stored.serial, data, span.start, span.end
        return
    for record, stored in image.records():
        if stored is not None:
            made = _in_version_4(record, image)
            yield stored.serial, made, 0, len(made)


def record(image: Image, serial: int) -> bytes | None:
    """One live record."""
    found = image.record(serial)
    return found if found is None or image.dialect is DIALECT_V4 else _in_version_4(found, image)


def listing(image: Image) -> bytes:
    """All live records behind their count, each behind its length: GET_CRED_LIST."""
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
        for _, made, _, end in located(image):
            parts += (pack(end), made)
    parts[0] = pack(len(parts) // 2)
    return b"".join(parts)


def first(image: Image, matcher: Matcher) -> bytes | None:
    """The first live record that matches."""
    found = next(_meant(image, matcher), None)
    return found and bytes(found[1][found[2] : found[3]])


def matching(image: Image, matcher: Matcher) -> list[int]:
    """The serial numbers of all live records that match."""
    return [found[0] for found in _meant(image, matcher)]


def _meant(image: Image, matcher: Matcher) -> Iterator[Located]:
    near = matcher.part and image.dialect is DIALECT_V4
    for found in _holding(image, matcher.part or b"") if near else located(image):
        if matcher(found[1], found[2]):
            yield found


def _holding(image: Image, part: bytes) -> Iterator[Located]:
    """The live records that have these bytes somewhere."""
    data, find = image.data, image.data.find
    at = find(part, image.body, image.complete)
    while at >= 0:
        span = image.at(at)
        assert span is not None
        if span.stored is not None:
            yield span.stored.serial, data, span.start, span.end
        at = find(part, span.end, image.complete)


def _in_version_4(record: bytes, image: Image) -> bytes:
    return encode_credential(decode_credential(record, image.dialect)[0], DIALECT_V4)
