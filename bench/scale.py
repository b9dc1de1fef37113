# SPDX-License-Identifier: MIT
"""How much is measured: of everything in a full run, and of the harness alone in a short one."""

from dataclasses import dataclass

PARTS = (
    "requests",
    "operations",
    "growth",
    "processes",
    "wire",
    "crowd",
    "listing",
    "servers",
    "starts",
)
WORKS = ("principal", "iterate", "retrieve", "initialize", "store")


@dataclass(frozen=True, slots=True)
class Scale:
    """Repetitions, sizes and seconds of a run.

    `repetitions`: samples of each case.  `rounds`: of those that are a figure of many operations
    each.  `seconds`: of one case, from when on it gets no more than a few samples.
    """

    repetitions: int = 60
    rounds: int = 10
    sizes: tuple[int, ...] = (1, 42, 500)
    growth: tuple[int, ...] = (10, 100, 1000, 10000)
    ccaches: tuple[int, ...] = (10, 100, 1000)
    wire: tuple[int, ...] = (42,)
    listed: int = 1000
    full: int = 1000
    seconds: float = 5.0
    crowd_seconds: float = 0.1
    idle_seconds: float = 10.0
    settle_seconds: float = 2.0


FULL = Scale()
SHORT = Scale(
    repetitions=2,
    rounds=1,
    sizes=(1, 5),
    growth=(3, 10),
    ccaches=(2, 4),
    wire=(3,),
    listed=5,
    full=3,
    crowd_seconds=0.05,
    idle_seconds=0.1,
    settle_seconds=0.0,
)
