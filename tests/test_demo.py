"""The demo: the main job, end to end, on replicas."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from braindecode_emossl.demo import CHANCE, run_demo, summarize

SMALL = {"n_subjects": 4, "seconds": 4, "pretrain_epochs": 10, "finetune_epochs": 20}
N_TRIALS = {"SEED": 15, "DEAP": 40}  # of one subject
CHANCE_LEVEL = {"SEED": 1 / 3, "DEAP": 1 / 2}


def tolerance(corpus):
    """Three standard errors of an accuracy at chance.

    The windows of a trial share its label and its drift, so that at worst they are all
    right or all wrong together: the trials count, not the windows.
    """
    chance = CHANCE_LEVEL[corpus]
    n_trials = SMALL["n_subjects"] * N_TRIALS[corpus]
    return 3 * np.sqrt(chance * (1 - chance) / n_trials)


@pytest.mark.slow
def test_with_class_effects_all_learners_are_clearly_over_chance(tmp_path):
    steps = []
    scores = run_demo(
        tmp_path, **SMALL, on_step=lambda what, n: steps.append((what, n))
    )
    assert len(steps) == 10 and {n for _, n in steps} == {10}
    for row in summarize(scores).itertuples():
        above = row.mean - CHANCE_LEVEL[row.dataset]
        if row.pipeline == CHANCE:
            assert above == pytest.approx(0, abs=tolerance(row.dataset))
        else:
            assert above > tolerance(row.dataset), row
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "scores.csv").astype({"subject": str, "session": str}),
        scores,
        check_dtype=False,
    )
    picture = imread(tmp_path / "scores.png")
    assert picture.shape[0] > 300 and picture[..., :3].std() > 0.05


@pytest.mark.slow
def test_without_class_effects_everything_is_at_chance(tmp_path):
    """Anything else is a leak: the replicas know nothing of their labels."""
    scores = run_demo(tmp_path, **SMALL, effect_size=0)
    for row in summarize(scores).itertuples():
        above = row.mean - CHANCE_LEVEL[row.dataset]
        assert above == pytest.approx(0, abs=tolerance(row.dataset)), row


@pytest.mark.slow
def test_one_seed_one_result_whatever_was_left_from_before(tmp_path):
    small = {"n_subjects": 2, "seconds": 2, "pretrain_epochs": 1, "finetune_epochs": 2}
    corpora = tmp_path / "corpora"
    first = run_demo(tmp_path / "a", corpora, **small)
    again = run_demo(tmp_path / "a", corpora, **small)  # replicas are there already
    pd.testing.assert_frame_equal(first, again)
    other = run_demo(tmp_path / "b", **small, random_state=1)
    assert not first["score"].equals(other["score"])
