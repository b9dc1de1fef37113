# SPDX-License-Identifier: MIT
"""A credential as text: `Key: value` lines for users and for grep.

Knows the text of each field, never a secret: of keys, tickets and authorization data
only types and sizes are shown.  The keys are a contract: docs/user/credential-text.md.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache

from ccfs.format.credential import Credential, TypedData
from ccfs.format.enctypes import enctype_name, flag_names
from ccfs.format.principal import Principal, unparse_name
from ccfs.format.ticket import ticket_info

ADDRTYPE_INET = 2
ADDRTYPE_INET6 = 24

# Control characters, and the line and paragraph separators of Unicode.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def credential_text(credential: Credential, ident: str) -> bytes:
    """Return the lines of a credential in UTF-8; `ident` is its identifier in the store."""
    lines = [f"{key}: {value}" if value else f"{key}:" for key, value in _fields(credential, ident)]
    return ("\n".join(lines) + "\n").encode("utf-8")


def _fields(c: Credential, ident: str) -> Iterable[tuple[str, str]]:
    info = ticket_info(c.ticket)
    kvno = info.kvno if info else None
    return (
        ("Id", ident),
        ("Client", principal_text(c.client)),
        ("Server", principal_text(c.server)),
        ("Auth-Time", timestamp(c.times.authtime)),
        ("Start-Time", timestamp(c.times.starttime)),
        ("End-Time", timestamp(c.times.endtime)),
        ("Renew-Till", timestamp(c.times.renew_till)),
        ("Flags", " ".join(flag_names(c.ticket_flags))),
        ("Session-Enctype", enctype_name(c.keyblock.enctype)),
        ("Ticket-Enctype", enctype_name(info.enctype) if info else ""),
        ("Ticket-Kvno", "" if kvno is None else str(kvno)),
        ("Ticket-Size", str(len(c.ticket))),
        ("Second-Ticket-Size", str(len(c.second_ticket))),
        ("Is-Skey", str(c.is_skey)),
        ("Addresses", " ".join(map(_address, c.addresses))),
        ("Authdata", " ".join(f"{a.type}:{len(a.contents)}" for a in c.authdata)),
    )


@lru_cache(maxsize=1024)
def timestamp(seconds: int) -> str:
    """Format seconds since the epoch as YYYY-MM-DDTHH:MM:SSZ; "" for 0, which means none."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}" if seconds else ""


def principal_text(principal: Principal) -> str:
    r"""Return a principal as krb5_unparse_name writes it, on one line.

    Other control characters become `\xNN` or `\uNNNN`, bytes that aren't UTF-8 `\xNN`; a backslash
    of the name itself is doubled, so that the text is unambiguous.
    """
    text = unparse_name(principal).decode("utf-8", "backslashreplace")
    return _UNPRINTABLE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _address(address: TypedData) -> str:
    """Return an IP address in its usual form, any other as TYPE:SIZE."""
    kind, contents = address.type, address.contents
    if kind == ADDRTYPE_INET and len(contents) == 4:
        return ".".join(map(str, contents))
    if kind == ADDRTYPE_INET6 and len(contents) == 16:
        from ipaddress import IPv6Address  # here: few tickets have addresses

        return str(IPv6Address(contents))
    return f"{kind}:{len(contents)}"
