# SPDX-License-Identifier: MIT
"""Restore the content of a ccache from a journal, with the same serial numbers and names.

Knows saved values and the codec; never how a journal keeps them.
"""

from collections.abc import Iterator

from ccfs.format.errors import FormatError
from ccfs.format.outline import outline_credential
from ccfs.store.credential_index import CredentialIndex
from ccfs.store.errors import BadContentError
from ccfs.store.image import Image, Span
from ccfs.store.record_names import kind_of
from ccfs.store.snapshot import SavedCcache


def restore_content(image: Image, index: CredentialIndex, saved: SavedCcache) -> None:
    """Fill an empty image and its index.  BadContentError where the bytes are no ccache."""
    image.restore_prefix(saved.data)
    try:
        image.restore_records(_spans(image, index, saved))
    except FormatError as error:
        raise BadContentError(str(error)) from None


def _spans(image: Image, index: CredentialIndex, saved: SavedCcache) -> Iterator[Span]:
    start, data, dialect = image.records_start, image.data, image.dialect
    for serial, name, size in saved.records:
        stored = None
        if serial is not None:
            kind = kind_of(outline_credential(data, start, dialect))
            stored = index.restore(kind, serial, name)
        yield Span(start, start + size, stored)
        start += size
