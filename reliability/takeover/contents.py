# SPDX-License-Identifier: MIT
"""What stands in a ccache, and how it differs from what must stand there.

Knows the credentials of tests/support/clients/python/records.py: session key and ticket follow
from the server's name, so that half of one, or a mixture of two, is told from a whole one.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from ccfs.format.ccache import decode_ccache
from ccfs.format.config import is_config
from ccfs.format.credential import Credential
from ccfs.format.errors import FormatError
from ccfs.format.removed_record import is_removed
from tests.support.clients.python import records

LOST, DOUBLED, TORN = "lost", "doubled", "torn"

Servers = list[str] | None


def servers_in(image: bytes) -> Servers:
    """The servers of a ccache in stored order, None of an empty file; records.TornError.

    Other than records.servers_in it takes the name types and the header as each client writes them.
    """
    if not image:
        return None
    try:
        decoded = decode_ccache(image)
    except FormatError as error:
        raise records.TornError(f"{error}, {len(image)} bytes") from error
    kept = (c for c in decoded.credentials if not is_removed(c) and not is_config(c))
    return [server_of(credential) for credential in kept]


def server_of(credential: Credential) -> str:
    """The name of a whole credential; records.TornError for any other."""
    name = b"/".join(credential.server.components).decode(errors="backslashreplace")
    check(name, credential.keyblock.contents, credential.ticket)
    return name


def check(server: str, key: bytes, ticket: bytes) -> None:
    """records.TornError unless these are the secrets of this server."""
    if (key, ticket) != records.secrets_of(server):
        raise records.TornError(f"the credential of {server} has another's key or ticket")


def differences(expected: Servers, found: Servers) -> Iterator[tuple[str, str]]:
    """(LOST or DOUBLED, what) for each difference; nothing where both are the same."""
    wanted, there = Counter(expected or ()), Counter(found or ())
    for name in wanted - there:
        yield LOST, f"{name} was acknowledged and is not there"
    for name, count in (there - wanted).items():
        if there[name] > 1:
            yield DOUBLED, f"{name} is there {there[name]} times"
        else:
            yield LOST, f"{name} is there, {count} more than acknowledged (a removal was lost)"
    if wanted == there and expected != found:
        yield LOST, f"the order or the header: {short(found)}, not {short(expected)}"


def short(servers: Sequence[str] | None) -> str:
    """A list with its middle left out."""
    if servers is None or len(servers) < 8:
        return str(servers)
    return f"{list(servers[:3])} ... {list(servers[-3:])} ({len(servers)})"
