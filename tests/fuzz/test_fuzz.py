"""A short run of the fuzzer; ``python -m tests.fuzz --minutes 30`` is a long one."""

from __future__ import annotations

import os

import pytest

from .engine import fuzz
from .targets import make_targets


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the fuzzer forks")
# Python warns of a fork beside threads; the children load files alone.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_no_mutated_file_harms_the_process(tmp_path):
    """Of 62,000 mutated files, 37 crashed the process and 572 loaded altered."""
    (tmp_path / "sound").mkdir()
    names = ["pickles", "mat", "npz", "SEED", "SEED-V", "MAHNOB-HCI"]
    targets = make_targets(tmp_path / "sound", names)
    counts, bad = fuzz(targets, tmp_path / "mutated", seed=1, n_files=120)
    assert not bad
    assert counts.total() == 120
    assert {name for name, _ in counts} == set(names)
