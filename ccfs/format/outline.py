# SPDX-License-Identifier: MIT
"""The outline of a record: server, end time and removal, without decoding the rest.

Knows where these are in a record's bytes.  `outline_credential` runs at each append: it copies no
secret, and makes no objects but those it returns.
"""

from struct import error
from typing import NamedTuple

from ccfs.format.credential import enctype_size
from ccfs.format.dialect import Dialect
from ccfs.format.errors import FormatError
from ccfs.format.principal import Principal, principal_of, skip_principal
from ccfs.format.removed_record import REMOVED_AUTHTIME, REMOVED_REALM
from ccfs.format.wire import Buffer, skip_data


class Outline(NamedTuple):
    """The fields of a complete record that a list of records needs.

    `endtime`: seconds since the epoch, 0 for none.
    """

    server: Principal
    endtime: int
    removed: bool


def outline_credential(data: Buffer, offset: int, dialect: Dialect) -> Outline:
    """Return the outline of the complete record at `offset`; reads no further than its times."""
    order = dialect.order
    size = len(data)
    try:
        start = skip_principal(data, offset, dialect, size)
        end = skip_principal(data, start, dialect, size)
        server = principal_of(bytes(data[start:end]), dialect)
        at = skip_data(data, end + enctype_size(dialect), order, size)
        authtime, _, endtime, _ = order.u32x4.unpack_from(data, at)
    except error:
        raise FormatError(offset, "a complete record") from None
    removed = server.realm == REMOVED_REALM or (endtime == 0 and authtime == REMOVED_AUTHTIME)
    return Outline(server, endtime, removed)


def removed_at(data: Buffer, offset: int, dialect: Dialect) -> bool:
    """Return `is_removed` of the complete record at `offset`."""
    return outline_credential(data, offset, dialect).removed
