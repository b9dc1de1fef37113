# SPDX-License-Identifier: MIT
"""The KCM fuzzer for a moment; docs/developer/kcm.md has the figures of a long run."""

import pytest

from ccfs.kcm import opcodes
from reliability import fuzz_kcm
from tests.support.mounting import MakeMount


def test_fuzz_kcm_passes_random_messages() -> None:
    fuzz_kcm.run(20_000, seed=7)


def test_fuzz_kcm_passes_on_sockets(make_mount: MakeMount, tmp_path: object) -> None:
    path = f"{tmp_path}/kcm"
    options = ("--max-ccache-size", "64K", "--max-total-size", "512K", "--max-ccaches", "20")
    mounted = make_mount("--no-journal", "--kcm-socket", path, *options)
    fuzz_kcm.run_sockets(fuzz_kcm.Path(path), mounted.pid, 3_000, seed=7)


def test_fuzz_kcm_catches_seeded_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes it for granted that a name ends."""

    def broken(data: bytes, at: int) -> tuple[bytes, int]:
        end = data.index(b"\0", at)
        return data[at:end], end + 1

    monkeypatch.setattr(opcodes, "name_at", broken)
    with pytest.raises(AssertionError):
        fuzz_kcm.run(2_000, seed=7)
