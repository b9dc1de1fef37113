# SPDX-License-Identifier: MIT
"""The fuzzers of `reliability/` for a moment; figures: docs/developer/reliability.md."""

import logging
import random
from pathlib import Path

import pytest

from ccfs.ops import tree
from reliability import files, fuzz_codec, fuzz_ops
from tests.support.mounting import Mounted
from tests.support.require import require

SHORT_STRESS = ["dentry", "flock", "inotify", "lockofd", "mmap", "rename"]


@pytest.mark.parametrize("path", sorted(fuzz_codec.CORPUS.glob("*.input")), ids=lambda p: p.stem)
def test_fuzz_codec_passes_corpus(path: Path) -> None:
    fuzz_codec.check(path.read_bytes())


def test_fuzz_codec_passes_random_bytes() -> None:
    mutator = fuzz_codec.run(20_000, seed=7)
    outcomes = {fuzz_codec.check(data)[0] for data in mutator.pool}
    assert outcomes == {"decoded", "refused"}


def test_fuzz_codec_catches_seeded_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that reads another ticket than is there."""
    decode = fuzz_codec.decode_ccache

    def broken(data: bytes) -> object:
        return decode(data.replace(b"krbtgt", b"krbtgT"))

    monkeypatch.setattr(fuzz_codec, "decode_ccache", broken)
    with pytest.raises(AssertionError, match="another encoding"):
        fuzz_codec.run(2_000, seed=7)


def test_fuzz_ops_passes_random_operations() -> None:
    fuzz_ops.run(600, seed=1)


def test_fuzz_ops_catches_seeded_bug(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "ccfs")

    def broken(*_: object) -> None:
        raise KeyError

    monkeypatch.setattr(tree.ROWS[tree.Slot.CACHES].node, "mkdir", broken, raising=False)  # type: ignore[attr-defined]
    with pytest.raises(AssertionError, match="EIO"):
        fuzz_ops.run(200, seed=1)


def test_fuzz_ops_replays_sequence_by_number() -> None:
    first, again = (fuzz_ops.Sequence(random.Random(5)) for _ in range(2))
    first.run()
    again.run()
    assert first.fs.read("events") == again.fs.read("events")
    assert len(first.done) == len(again.done) > 0


@pytest.mark.parametrize("mount", [("--max-total-size", "512K")], indirect=True)
def test_fuzz_ops_passes_in_mount(mount: Mounted) -> None:
    fuzz_ops.run_mount(mount, 800, seed=1)


def test_files_runs_fio(mount: Mounted) -> None:
    require("fio", "apt install fio", ["fio"])
    files.fio(mount, 0)
    files.fio_on_a_ccache(mount, 0)
    files.check_end(mount)


@pytest.mark.parametrize("mount", [files.OPTIONS], indirect=True)
def test_files_runs_stress_ng(mount: Mounted) -> None:
    require("stress-ng", "apt install stress-ng", ["stress-ng"])
    files.stress(mount, 1, SHORT_STRESS)
    files.check_end(mount)


def test_files_reports_skipped_programs() -> None:
    assert not set(files.EXCLUDED) & set(files.STRESSORS.split())
    assert all(files.EXCLUDED.values())
