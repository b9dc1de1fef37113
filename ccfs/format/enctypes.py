# SPDX-License-Identifier: MIT
"""Names for the numbers in a credential: encryption types, ticket flags, address types.

Knows tables, never a credential.
"""

# The IANA registry "Kerberos Encryption Type Numbers", by the names that MIT krb5 prints.
ENCTYPES = {
    0: "null",
    1: "des-cbc-crc",
    2: "des-cbc-md4",
    3: "des-cbc-md5",
    4: "des-cbc-raw",
    6: "des3-cbc-raw",
    8: "des-hmac-sha1",
    16: "des3-cbc-sha1",
    17: "aes128-cts-hmac-sha1-96",
    18: "aes256-cts-hmac-sha1-96",
    19: "aes128-cts-hmac-sha256-128",
    20: "aes256-cts-hmac-sha384-192",
    23: "arcfour-hmac",
    24: "arcfour-hmac-exp",
    25: "camellia128-cts-cmac",
    26: "camellia256-cts-cmac",
}

# RFC 4120 section 5.3, RFC 6112 and RFC 6806 section 11; bit 0 is the highest of 32.  The names
# are those of MIT krb5's TKT_FLG_ constants.
TICKET_FLAGS = (
    (0x40000000, "forwardable"),
    (0x20000000, "forwarded"),
    (0x10000000, "proxiable"),
    (0x08000000, "proxy"),
    (0x04000000, "may-postdate"),
    (0x02000000, "postdated"),
    (0x01000000, "invalid"),
    (0x00800000, "renewable"),
    (0x00400000, "initial"),
    (0x00200000, "pre-auth"),
    (0x00100000, "hw-auth"),
    (0x00080000, "transit-policy-checked"),
    (0x00040000, "ok-as-delegate"),
    (0x00010000, "enc-pa-rep"),
    (0x00008000, "anonymous"),
)
_KNOWN_FLAGS = sum(bit for bit, _ in TICKET_FLAGS)


def enctype_name(enctype: int) -> str:
    """Return an encryption type as `NAME (NUMBER)`."""
    return f"{ENCTYPES.get(enctype, 'unknown')} ({enctype})"


def flag_names(flags: int) -> list[str]:
    """Return the names of the flags that are set; those without a name as one number at the end."""
    names = [name for bit, name in TICKET_FLAGS if flags & bit]
    unknown = flags & ~_KNOWN_FLAGS
    if unknown:
        names.append(f"{unknown:#010x}")
    return names
