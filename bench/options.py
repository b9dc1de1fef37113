# SPDX-License-Identifier: MIT
"""The command line of the benchmark."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench.scale import FULL, PARTS, SHORT, WORKS, Scale

EXAMPLES = """examples:
  python -m bench                                  everything, about ten minutes
  python -m bench --only operations --peers file,ccfs --sizes 42
                                                   ccfs against tmpfs, a few seconds
  python -m bench --only requests --peers ccfs,ccfs-default --works principal,store
  python -m bench --short                          everything once or twice, for the harness
"""


def options(arguments: Sequence[str]) -> argparse.Namespace:
    """What was asked for; exits with a message where that makes no sense."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure ccfs and its peers in one run, in random order. Needs root.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=EXAMPLES,
    )
    listed = _listed
    parser.add_argument("--only", type=listed, metavar="PART,...", help=", ".join(PARTS))
    parser.add_argument("--peers", type=listed, metavar="PEER,...", help="such as file,ccfs,sssd")
    parser.add_argument("--works", type=listed, metavar="WORK,...", help=", ".join(WORKS))
    parser.add_argument(
        "--sizes", type=_numbers, metavar="N,...", help="credentials in a ccache: 1,42,500"
    )
    parser.add_argument("--repetitions", type=int, metavar="N", help="samples of each: 60")
    parser.add_argument("--seconds", type=float, metavar="S", help="of one case in one part: 5")
    parser.add_argument(
        "--output", type=Path, metavar="DIRECTORY", help="write the results there, with plots"
    )
    parser.add_argument("--short", action="store_true", help="few repetitions, small sizes")
    return parser.parse_args(arguments)


def scale(given: argparse.Namespace) -> Scale:
    """How much is to be measured."""
    found = SHORT if given.short else FULL
    if given.repetitions:
        found = replace(found, repetitions=given.repetitions)
        found = replace(found, rounds=min(found.rounds, given.repetitions))
    if given.sizes:
        sizes = tuple(given.sizes)
        found = replace(found, sizes=sizes, wire=sizes)
    return replace(found, seconds=given.seconds) if given.seconds else found


def _listed(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def _numbers(text: str) -> list[int]:
    return [int(word) for word in _listed(text)]
