# SPDX-License-Identifier: MIT
"""Configuration entries: settings of a ccache, in records beside its credentials.

Knows their names and records, never what a setting means.

    server principal = krb5_ccache_conf_data/KEY[/PRINCIPAL]@X-CACHECONF:
    ticket           = the value

PRINCIPAL is the text of the principal that the setting applies to.
"""

from dataclasses import dataclass

from ccfs.format.credential import CONFIG_NAME, CONFIG_REALM, Credential, Keyblock, Times
from ccfs.format.principal import NT_PRINCIPAL, Principal
from ccfs.format.removed_record import is_removed


@dataclass(frozen=True, slots=True)
class ConfigKey:
    """The key of a configuration entry, and the text of its principal, None for all."""

    key: bytes
    principal: bytes | None = None


def is_config(credential: Credential) -> bool:
    """True if a record is a configuration entry that is not removed."""
    return config_key(credential.server) is not None and not is_removed(credential)


def config_key(server: Principal) -> ConfigKey | None:
    """Return the key that a server principal names; None if it is a service's name."""
    parts = server.components
    if server.realm != CONFIG_REALM or len(parts) not in (2, 3) or parts[0] != CONFIG_NAME:
        return None
    return ConfigKey(parts[1], parts[2] if len(parts) == 3 else None)


def make_config(client: Principal, key: ConfigKey, value: bytes) -> Credential:
    """Return the record that libkrb5 writes for a setting; all its other fields are zero."""
    names = (
        (CONFIG_NAME, key.key) if key.principal is None else (CONFIG_NAME, key.key, key.principal)
    )
    return Credential(
        client=client,
        server=Principal(NT_PRINCIPAL, CONFIG_REALM, names),
        keyblock=Keyblock(0, b""),
        times=Times(0, 0, 0, 0),
        is_skey=0,
        ticket_flags=0,
        addresses=(),
        authdata=(),
        ticket=value,
        second_ticket=b"",
    )
