# SPDX-License-Identifier: MIT
"""A daemon that is killed is not noticed: a small form of `python -m reliability.takeover`.

Every client here tolerates no error at all, and whatever is held open must be alive afterwards.
"""

import os

import pytest

from reliability import large
from reliability.takeover import run
from reliability.takeover.run import Options

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts without fusermount3")


def unnoticed(options: Options) -> None:
    """Run, and fail with all figures unless no client noticed anything."""
    report = run.run(options)
    assert report.good(), "\n" + "\n".join(report.lines())
    assert len(report.kills) >= options.kills
    if "writers" in options.parts:
        assert all(report.steps.values()), report.steps


def test_run_without_kill_reports_no_failure() -> None:
    """The program itself sees nothing where there is nothing to see."""
    unnoticed(Options(kills=0, seconds=3.0, others=()))


def test_writers_and_open_files_survive_kills() -> None:
    """Ten kills under three writers, and three while nothing changes."""
    unnoticed(
        Options(
            kills=10,
            every=0.3,
            parts=("writers", "held"),
            writers=("append", "kcm-kept", "credentials"),
        )
    )


def test_unanswered_request_is_not_repeated() -> None:
    """Eight daemons die around a journal write, each in the middle of a request."""
    names = ("replace", "names", "credentials", "append")
    unnoticed(Options(kills=8, dying=True, parts=("writers",), writers=names, rest=0.001))


def test_kerberos_programs_survive_kills() -> None:
    """klist, kvno and kinit in loops over ten kills."""
    unnoticed(Options(kills=10, every=0.3, parts=("clients",), others=()))


def test_large_collection_survives_kills() -> None:
    """The same bytes afterwards, and in time."""
    found = large.large(kills=1, ccaches=64, credentials=4000)
    assert found.good(), found
