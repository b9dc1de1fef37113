# SPDX-License-Identifier: MIT
"""Records that a client has removed by overwriting them, and the placeholder that ccfs writes.

Knows the marks of a removed record; never the file around it.
"""

from dataclasses import replace
from functools import lru_cache

from ccfs.format.credential import (
    CONFIG_NAME,
    CONFIG_REALM,
    Credential,
    Keyblock,
    Times,
    decode_credential,
    encode_credential,
    scan_credential,
)
from ccfs.format.dialect import Dialect
from ccfs.format.errors import FormatError
from ccfs.format.principal import NT_PRINCIPAL, Principal, encode_principal, skip_principal
from ccfs.format.wire import U32_MAX

REMOVED_REALM = b"X-RMED-CONF:"
REMOVED_AUTHTIME = U32_MAX
_REMOVED_KEY = b"removed"

_REMOVED_TIMES = Times(REMOVED_AUTHTIME, 0, 0, 0)
_NO_PRINCIPAL = Principal(NT_PRINCIPAL, b"", ())
CACHED_LENGTHS = 64
"""Entries of the cache of placeholder records, by length: tickets of one service have the same."""


def is_removed(credential: Credential) -> bool:
    """True if a client has removed this record by overwriting it.

    endtime 0 alone is no sign of that: configuration entries have it, and credentials that gssproxy
    encrypts.
    """
    times = credential.times
    if times.endtime == 0 and times.authtime == REMOVED_AUTHTIME:
        return True
    return credential.server.realm == REMOVED_REALM


def placeholder_record(record: bytes, dialect: Dialect) -> bytes:
    """Return a placeholder record: as long as `record`, marked as removed, and without its secrets.

    MIT krb5 skips it because of its times.  Heimdal, Java, gokrb5, impacket and minikerberos know
    no removed records, but all of them skip configuration entries, so it is one if the length
    allows that: under any other name a ticket of zeros makes gokrb5 refuse the whole ccache.
    """
    size = len(record)
    end = scan_credential(record, 0, dialect, size)
    if end != size:
        raise FormatError(end or size, "one record and no bytes after it")
    client = record[: skip_principal(record, 0, dialect, size)]
    room = size - len(client) - len(_removed_config(0, dialect))
    if room < 0:
        return encode_credential(_without_secrets(decode_credential(record, dialect)[0]), dialect)
    return client + _removed_config(room, dialect)


@lru_cache(maxsize=CACHED_LENGTHS)
def _removed_config(room: int, dialect: Dialect) -> bytes:
    """Return a removed configuration entry without its client; key and value have `room` bytes."""
    key = _REMOVED_KEY[:room]
    credential = Credential(
        client=_NO_PRINCIPAL,
        server=Principal(NT_PRINCIPAL, CONFIG_REALM, (CONFIG_NAME, key)),
        keyblock=Keyblock(0, b""),
        times=_REMOVED_TIMES,
        is_skey=0,
        ticket_flags=0,
        addresses=(),
        authdata=(),
        ticket=bytes(room - len(key)),
        second_ticket=b"",
    )
    return encode_credential(credential, dialect)[len(encode_principal(_NO_PRINCIPAL, dialect)) :]


def _without_secrets(record: Credential) -> Credential:
    """Return the record with zeros for its secrets and another realm.

    For records that are too short for a configuration entry; no real ticket is.
    """
    server, key = record.server, record.keyblock
    realm = REMOVED_REALM.ljust(len(server.realm), b":")[: len(server.realm)]
    return replace(
        record,
        server=replace(server, realm=realm),
        keyblock=replace(key, contents=bytes(len(key.contents))),
        times=_REMOVED_TIMES,
        authdata=tuple(replace(a, contents=bytes(len(a.contents))) for a in record.authdata),
        ticket=bytes(len(record.ticket)),
        second_ticket=bytes(len(record.second_ticket)),
    )
