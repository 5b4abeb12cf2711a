"""The demo: the main job, end to end, on replicas."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from braindecode_emossl.demo import LEAKY_SPLIT, PROTOCOL, run_demo
from braindecode_emossl.evaluation import summarize_results
from braindecode_emossl.evaluation.baselines import DE_BASELINE

SMALL = {"seconds": 4, "pretrain_steps": 10, "finetune_steps": 40}
N_TRIALS = {"SEED": 15, "DEAP": 40}  # per subject
CHANCE = {"SEED": 1 / 3, "DEAP": 1 / 2}
GUESSING = {"most frequent", "stratified"}
LEARNERS = {"SCMM", "SCMM, random weights", DE_BASELINE}
NAMES = {*LEARNERS, "SCMM, frozen", *GUESSING}


def tolerance(corpus, n_subjects=4):
    """Return three standard errors of an accuracy at chance.

    The windows of a trial share its label and its drift, so that in the worst case they
    are all right or all wrong together: trials count, not windows.
    """
    n_trials = n_subjects * N_TRIALS[corpus]
    return 3 * np.sqrt(CHANCE[corpus] * (1 - CHANCE[corpus]) / n_trials)


@pytest.mark.slow
def test_learners_are_clearly_above_chance(tmp_path):
    folds = []
    scores = run_demo(
        tmp_path, **SMALL, effect_size=10, on_fold=lambda *done: folds.append(done)
    )
    # Six pipelines, two numbers of labels and four subjects for each corpus.
    assert [done for done in folds if done[1]][-1] == ("DEAP", 48, 48)
    assert set(scores["pipeline"]) == NAMES
    assert set(scores["n_labeled_trials"].fillna(0)) == {0, 1}
    honest = scores[scores["protocol"] == PROTOCOL]
    table = summarize_results(honest[honest["n_labeled_trials"].isna()], "accuracy")
    for row in table.itertuples():
        above = row.mean - CHANCE[row.dataset]
        # Four subjects of DEAP do not suffice, as each responds in a way of their own.
        if row.pipeline in LEARNERS and row.dataset == "SEED":
            assert above > tolerance(row.dataset), row
        elif row.pipeline in GUESSING:
            assert above == pytest.approx(0, abs=tolerance(row.dataset))
    kept = pd.read_csv(tmp_path / "scores.csv")
    assert kept["score"].tolist() == pytest.approx(scores["score"].tolist())
    picture = imread(tmp_path / "scores.png")
    assert picture.shape[0] > 300 and picture[..., :3].std() > 0.05


@pytest.mark.slow
def test_without_class_effects_everything_is_at_chance(tmp_path):
    """Anything else is a leak: the signals do not depend on the labels."""
    scores = run_demo(tmp_path, **SMALL, effect_size=0, n_labeled_trials=[None])
    table = summarize_results(scores, "accuracy")
    for row in table[table["protocol"] == PROTOCOL].itertuples():
        above = row.mean - CHANCE[row.dataset]
        assert above == pytest.approx(0, abs=tolerance(row.dataset)), row


@pytest.mark.slow
def test_the_leaky_split_scores_higher(tmp_path):
    """Otherwise the second table of the demo would show nothing."""
    small = {"n_labeled_trials": [None], "pretrain_steps": 1, "finetune_steps": 1}
    scores = run_demo(tmp_path, **small)
    table = summarize_results(scores[scores["pipeline"] == DE_BASELINE], "accuracy")
    means = table.set_index(["dataset", "protocol"])["mean"]
    assert means["SEED", LEAKY_SPLIT] > means["SEED", PROTOCOL] + 0.1
    assert means["DEAP", LEAKY_SPLIT] > means["DEAP", PROTOCOL] + 0.05


@pytest.mark.slow
def test_the_same_seed_gives_the_same_scores(tmp_path):
    small = {"n_subjects": 2, "seconds": 1, "n_labeled_trials": [1]}
    small |= {"pretrain_steps": 2, "finetune_steps": 2}
    corpora = tmp_path / "corpora"
    first = run_demo(tmp_path / "a", corpora, **small)
    again = run_demo(tmp_path / "a", corpora, **small)  # the replicas exist already
    pd.testing.assert_frame_equal(
        first.drop(columns="time"), again.drop(columns="time")
    )
    other = run_demo(tmp_path / "b", **small, random_state=1)
    assert not first["score"].equals(other["score"])
