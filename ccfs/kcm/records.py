"""The records of a ccache as KCM has them: FILE version 4, whatever the ccache is written in.

Knows images and their bytes; never names of ccaches or who asks.  In version 4, which nearly all
ccaches are in, bytes are only ever copied.
"""

from collections.abc import Callable, Iterator

from ccfs.format.credential import decode_credential, encode_credential
from ccfs.format.dialect import BIG, DIALECT_V4
from ccfs.format.principal import encode_principal
from ccfs.store.image import Image

Matches = Callable[[bytes | bytearray, int], bool]
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
    for _, data, start, end in located(image):
        parts += (pack(end - start), data[start:end])
    parts[0] = pack(len(parts) // 2)
    return b"".join(parts)


def first(image: Image, matches: Matches) -> bytes | None:
    """The first live record that matches."""
    for _, data, start, end in located(image):
        if matches(data, start):
            return bytes(data[start:end])
    return None


def matching(image: Image, matches: Matches) -> list[int]:
    """The serial numbers of all live records that match."""
    return [serial for serial, data, start, _ in located(image) if matches(data, start)]


def _in_version_4(record: bytes, image: Image) -> bytes:
    return encode_credential(decode_credential(record, image.dialect)[0], DIALECT_V4)
