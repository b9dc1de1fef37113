# SPDX-License-Identifier: MIT
"""Removed secrets in the journal's file after each step: `python -m reliability.histories`.

Random histories of all that a store does: records, incomplete ones, scratch files, files that are
open still, notes.  Each secret must be in the file as often as it can be seen, and no more.
"""

import argparse
import random
import sys

from ccfs.journal import journal
from tests.support.journal_history import History, secret
from tests.support.journals import durable_state, journaled_store, state_reloaded


def history(seed: int, steps: int) -> int:
    """One history; the number of secrets that were found where none should be, or weren't found."""
    chance = random.Random(seed)
    journal.SPARE = chance.choice([0, 4000, 262_144])
    journal.SLICE = chance.choice([1, 262_144])
    wrong = 0
    with journaled_store() as journaled:
        run = History(journaled.store, chance)
        for number in range(steps):
            run.step(number)
            journaled.commit()
            held, live = journaled.bytes(), run.live()
            wrong += sum(held.count(m) != live.count(m) for m in map(secret, range(number + 1)))
        wrong += state_reloaded(journaled) != durable_state(journaled.store)
    return wrong


def main() -> int:
    """Run; 0 where nothing was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=60)
    given = parser.parse_args()
    wrong = [seed for seed in range(given.count) if history(seed, given.steps)]
    print(f"{given.count} histories of {given.steps} steps: {len(wrong)} wrong {wrong[:9]}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
