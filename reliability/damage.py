# SPDX-License-Identifier: MIT
"""Damage journals at random and load them: `python -m reliability.damage --count N`.

Each case takes a journal as a killed daemon leaves it, damages it, and loads it as the next daemon
does.  It must be refused, or give exactly what was kept.
"""

import argparse
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ccfs.errors import JournalError
from ccfs.journal import journal as journals
from ccfs.journal.journal import Journal
from ccfs.journal.open_journal import OpenJournal
from ccfs.store import Limits, Store
from ccfs.store.scratch import DIR
from tests.support.storing import at, fill, record, serials, whole

MOUNT = "/run/user/1000/ccfs"


@dataclass
class Result:
    """How the cases ended.  `wrong`: those that gave something else than was kept."""

    refused: int = 0
    right: int = 0
    wrong: list[str] = field(default_factory=list)
    ways: Counter[str] = field(default_factory=Counter)


def flip(data: bytearray, chance: random.Random) -> None:
    """Flip one bit."""
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def flip_many(data: bytearray, chance: random.Random) -> None:
    """Flip a bit here and there."""
    for _ in range(chance.randrange(2, 40)):
        flip(data, chance)


def cut(data: bytearray, chance: random.Random) -> None:
    """Cut it off anywhere."""
    del data[chance.randrange(len(data)) :]


def cut_pages(data: bytearray, chance: random.Random) -> None:
    """Cut it off at the end of a page."""
    del data[chance.randrange(len(data)) // 4096 * 4096 :]


def blank(data: bytearray, chance: random.Random) -> None:
    """Zeros over a stretch of it."""
    start = chance.randrange(len(data))
    stop = min(start + chance.randrange(1, 8192), len(data))
    data[start:stop] = bytes(stop - start)


def swap(data: bytearray, chance: random.Random) -> None:
    """Two of its pages in each other's place."""
    count = len(data) // 4096
    if count < 2:
        return flip(data, chance)
    a, b = (chance.randrange(count) * 4096 for _ in range(2))
    data[a : a + 4096], data[b : b + 4096] = data[b : b + 4096], data[a : a + 4096]
    return None


WAYS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flip,
    flip_many,
    cut,
    cut_pages,
    blank,
    swap,
)


def main() -> int:
    """Run, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="how many journals are damaged")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    result = cases(given.count, given.seed)
    print(f"damaged: {given.count} ({', '.join(f'{w} {n}' for w, n in result.ways.items())})")
    print(f"refused: {result.refused}; the right content: {result.right}")
    print(f"wrong content: {len(result.wrong)}", *result.wrong, sep="\n")
    return 1 if result.wrong else 0


def cases(count: int, seed: int) -> Result:
    """Damage and load `count` journals."""
    result, chance = Result(), random.Random(seed)
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="ccfs-damage-") as directory:
        for number in range(count):
            if number % 25 == 0:
                origin = Path(directory) / f"origin{number}"
                wanted = _make(origin, chance)
            _case(origin, wanted, Path(directory) / "case", chance, result)
    return result


def _make(origin: Path, chance: random.Random) -> list[object]:
    """A journal after some steps, perhaps written anew among them."""
    origin.mkdir()
    path = str(origin / "journal")
    store = Store(Limits(), at())
    journal = Journal(path, fresh=True)
    journal.create(MOUNT, at().client.uid, store)
    journal._size_limit = chance.choice([5_000, journals.SPARE])
    _work(store, journal, chance)
    journal.close()
    return _seen(store)


def _work(store: Store, journal: Journal, chance: random.Random) -> None:
    for number in range(chance.randrange(1, 60)):
        name = b"%d" % chance.randrange(4)
        ccache = store.collection.find(name)
        if ccache is None or not ccache.initialised or chance.random() < 0.05:
            fill(store, whole(*(record(b"host/%d@R" % n) for n in range(5))), name)
        elif serials(ccache) and chance.random() < 0.3:
            store.edits.remove(ccache, chance.choice(list(serials(ccache))), at(number))
        else:
            ticket = chance.randbytes(chance.choice([200, 600, 5000]))
            store.edits.store(ccache, record(b"host/new@R", ticket=ticket), at(number))
        if chance.random() < 0.1 and ccache is not None:
            store.collection.set_default(ccache, at(number))
        _work_beside(store, number, chance)
        effects = store.take_effects()
        if effects:
            journal.commit(store, effects)


def _work_beside(store: Store, number: int, chance: random.Random) -> None:
    """Scratch files, written in pieces, and notes."""
    store.set_note(b"%d" % chance.randrange(4), chance.randbytes(chance.randrange(30)))
    name = b"%d" % chance.randrange(3)
    found = store.scratch.find(DIR, name)
    if found is None:
        found = store.scratch.create(DIR, name, at(number))
    file = store.open_files.open(found, at().client, writes=True, append=chance.random() < 0.7)
    store.open_files.write(file, 0, chance.randbytes(200), at(number).now)
    store.close(file, at(number).now)


def _seen(store: Store) -> list[object]:
    files = [(file.scratch_name, file.number, bytes(file.data)) for file in store.scratch.all()]
    events = store.events.read(store.events.edition, 0, 1 << 30)
    return [
        *[_ccache(ccache) for ccache in store.collection.all()],
        (sorted(files, key=str), dict(store.notes), events),
    ]


def _ccache(ccache: object) -> tuple[object, ...]:
    from ccfs.store.ccache import Ccache

    assert isinstance(ccache, Ccache)
    image = ccache.image
    number = ccache.current.number if ccache.current else 0
    times = (ccache.change_time, ccache.last_default_time)
    records = image.records() if image else []
    return ccache.name, ccache.serial, ccache.rank, times, ccache.prefix, number, records


def _case(
    origin: Path, wanted: list[object], place: Path, chance: random.Random, result: Result
) -> None:
    place.mkdir()
    try:
        shutil.copy(origin / "journal", place / "journal")
        way = _damage(place / "journal", chance)
        result.ways[way] += 1
        found = _load(place / "journal")
        if found is None:
            result.refused += 1
            left = [p.name for p in place.iterdir() if ".damaged-" in p.name]
            if not left:
                result.wrong.append(f"{way}: refused, and not put aside")
        elif found == wanted:
            result.right += 1
        else:
            result.wrong.append(way)
    finally:
        shutil.rmtree(place)


def _damage(path: Path, chance: random.Random) -> str:
    """Damage what is in use of the file; behind it there are zeros only."""
    data, way = bytearray(path.read_bytes()), chance.choice(WAYS)
    used, rest = data.rstrip(b"\0"), len(data)
    way(used, chance)
    path.write_bytes(used if way in (cut, cut_pages) else used.ljust(rest, b"\0"))
    return way.__name__


def _load(path: Path) -> list[object] | None:
    """What the next daemon would serve; None where it refuses."""
    try:
        kept = OpenJournal.open(str(path), MOUNT)
    except JournalError:
        return None
    try:
        return _seen(kept.store(Limits(), at(100)))
    except JournalError:
        return None
    finally:
        kept.close(wipe=False)


if __name__ == "__main__":
    sys.exit(main())
