# SPDX-License-Identifier: MIT
"""Generated values of the format, for the property tests.

Knows what values the types can hold, the odd ones too; never the bytes that stand for them.
"""

from hypothesis import settings
from hypothesis import strategies as st

from ccfs.format.ccache import TAG_DELTATIME, Ccache, Header, Tag
from ccfs.format.credential import Credential, Keyblock, Times, TypedData
from ccfs.format.dialect import Dialect
from ccfs.format.principal import NT_UNKNOWN, Principal

# The same examples in each run: a failure here is one that everybody sees.
thorough = settings(derandomize=True, database=None, deadline=None, max_examples=100)
quick = settings(thorough, max_examples=30)

DIALECTS = [Dialect(1, True), Dialect(1, False), Dialect(2, True), Dialect(2, False)]
DIALECTS += [Dialect(3), Dialect(4)]

u32 = st.integers(0, 2**32 - 1)
u16 = st.integers(0, 2**16 - 1)
i16 = st.integers(-(2**15), 2**15 - 1)
i32 = st.integers(-(2**31), 2**31 - 1)

special = st.sampled_from(b"/@\\\0\n\t\bntb0%~.\xff\x80").map(lambda byte: bytes([byte]))
names = st.one_of(st.binary(max_size=6), st.lists(special, max_size=4).map(b"".join))
dialects = st.sampled_from(DIALECTS)
components = st.lists(names, max_size=3).map(tuple)
typed = st.builds(TypedData, u16, st.binary(max_size=20))
times = st.builds(Times, u32, u32, u32, u32)


def principals(dialect: Dialect) -> st.SearchStrategy[Principal]:
    types = st.just(NT_UNKNOWN) if dialect.version == 1 else i32
    return st.builds(Principal, types, names, components)


def default_principals(dialect: Dialect) -> st.SearchStrategy[Principal]:
    """Of a whole ccache: with a component, which tells the byte order."""
    types = st.just(NT_UNKNOWN) if dialect.version == 1 else i32
    some = st.lists(names, min_size=1, max_size=3).map(tuple)
    return st.builds(Principal, types, names, some)


@st.composite
def keyblocks(draw: st.DrawFn, dialect: Dialect) -> Keyblock:
    enctype = draw(i16)
    second = draw(st.none() | i16) if dialect.version == 3 else None
    return Keyblock(enctype, draw(st.binary(max_size=32)), None if second == enctype else second)


def credentials(dialect: Dialect) -> st.SearchStrategy[Credential]:
    return st.builds(
        Credential,
        client=principals(dialect),
        server=principals(dialect),
        keyblock=keyblocks(dialect),
        times=times,
        is_skey=st.integers(0, 255),
        ticket_flags=u32,
        addresses=st.lists(typed, max_size=2).map(tuple),
        authdata=st.lists(typed, max_size=2).map(tuple),
        ticket=st.binary(max_size=60),
        second_ticket=st.binary(max_size=10),
    )


@st.composite
def headers(draw: st.DrawFn, dialect: Dialect) -> Header:
    if dialect.version < 4:
        return Header(dialect)
    offsets = st.builds(Tag, st.just(TAG_DELTATIME), st.binary(min_size=8, max_size=8))
    others = st.builds(Tag, u16.filter(TAG_DELTATIME.__ne__), st.binary(max_size=9))
    return Header(dialect, tuple(draw(st.lists(offsets | others))))


@st.composite
def ccaches(draw: st.DrawFn, among: st.SearchStrategy[Dialect] = dialects) -> Ccache:
    dialect = draw(among)
    return Ccache(
        draw(headers(dialect)),
        draw(default_principals(dialect)),
        tuple(draw(st.lists(credentials(dialect), max_size=3))),
    )


@st.composite
def written_credentials(draw: st.DrawFn) -> tuple[Dialect, Credential]:
    dialect = draw(dialects)
    return dialect, draw(credentials(dialect))


@st.composite
def mutations(draw: st.DrawFn, data: bytes) -> bytes:
    """`data` with a few bytes changed, put in or left out, mostly those of lengths and counts."""
    mutated = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(mutated) - 1, 0)))
        new = draw(st.one_of(st.sampled_from([b"", b"\0", b"\1", b"\xff"]), st.binary(max_size=4)))
        mutated[at : at + draw(st.integers(0, 4))] = new
    return bytes(mutated)
