"""The benchmark of modalities, with few updates on a small replica."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

OPTIONS = "--subjects 4 --seconds 4 --seeds 0 --folds 2 --pretrain-steps 1"
ROWS = {
    "MEMHACL, all modalities": ("MEMHACL, gsr alone", "MEMHACL, eeg alone"),
    "MoodReader": ("MoodReader, EEG alone", "eye features + logistic regression"),
}


@pytest.fixture(scope="module")
def bench():
    return importlib.import_module("bench_modalities")


@pytest.mark.slow
@pytest.mark.parametrize("model", ROWS)
def test_main_prints_each_modality(bench, model, tmp_path, capsys):
    """The pipelines for all modalities were looked for where none ship."""
    options = [*OPTIONS.split(), "--finetune-steps", "1"]
    bench.main(["--models", model, *options, "--results", str(tmp_path)])
    out = capsys.readouterr().out
    assert "left out: 2" in out
    for row in (f"{model}, random weights", *ROWS[model]):
        assert f"| {row} " in out


def test_eye_features_are_the_last_channels(bench):
    X = np.zeros((2, 62 + bench.N_EYE, 4))
    X[:, 62:] = np.arange(bench.N_EYE)[:, None]
    np.testing.assert_array_equal(bench.average_eye(X), X[:, 62:, 0])
