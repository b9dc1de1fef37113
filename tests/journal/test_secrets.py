# SPDX-License-Identifier: MIT
"""Removed secrets are overwritten in the journal with the step that removed them."""

import random

import pytest

from ccfs.journal import journal as journals
from ccfs.journal.log import Log
from ccfs.store.ccache import Ccache
from tests.support.journal_history import secret
from tests.support.journals import assert_survives_kill, journaled_store
from tests.support.storing import (
    ALICE,
    TGT,
    at,
    fill,
    record,
    serials,
    whole,
)

SIZES = [[0, 100], [100, 600, 3000], [1000, 1200, 1500], [3000, 3900, 9000], [0, 600, 30_000]]


@pytest.mark.parametrize("seed", range(24))
def test_removed_secrets_are_overwritten_with_the_step(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Right after the step that removed it, in random histories of several ccaches."""
    chance = random.Random(seed)
    sizes = SIZES[seed % len(SIZES)]
    monkeypatch.setattr(journals, "SPARE", chance.choice([1000, journals.SPARE]))
    with journaled_store() as journaled:
        ccaches = [fill(journaled.store, whole(), name) for name in (b"tkt", b"a", b"b", b"c")]
        live: dict[int, tuple[Ccache, int]] = {}
        for number in range(120):
            ccache, said = chance.choice(ccaches), chance.random()
            if said < 0.65 or not live:
                ticket = secret(number) * (1 + (chance.choice(sizes) + chance.randrange(50)) // 23)
                new = record(b"h/%d@R" % number, ticket=ticket)
                stored = journaled.store.edits.store(ccache, new, at())
                assert stored is not None
                live[number] = (ccache, stored.serial)
            elif said < 0.95:
                journaled.store.edits.remove(*live.pop(chance.choice(list(live))), at())
            else:
                journaled.store.reset(ccache, ALICE, at())
                live = {n: where for n, where in live.items() if where[0] is not ccache}
            journaled.commit()
            data = journaled.bytes()
            assert {n for n in range(120) if secret(n) in data} == set(live)
        assert_survives_kill(journaled)


def test_load_overwrites_secrets_of_killed_process(monkeypatch: pytest.MonkeyPatch) -> None:
    with journaled_store() as journaled:
        ccache = fill(
            journaled.store, whole(record(TGT, ticket=secret(1)), record(TGT, ticket=secret(2)))
        )
        journaled.commit()
        with monkeypatch.context() as patched:
            patched.setattr(Log, "erase", lambda *_: None)
            journaled.store.edits.remove(ccache, min(serials(ccache)), at())
            journaled.commit()
            assert secret(1) in journaled.bytes()
        restarted = journaled.restart_after_kill()
        assert secret(1) not in restarted.bytes()
        assert secret(2) in restarted.bytes()
        restarted.close()
