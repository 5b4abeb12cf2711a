"""Controls on a replica without class effects, and on every shipped pipeline."""

from __future__ import annotations

import numpy as np
import pytest

from braindecode_emossl.datasets import SEED, write_replica
from braindecode_emossl.evaluation import (
    PROTOCOLS,
    FoldData,
    evaluate,
    load_pipelines,
    pipelines_folder,
    summarize_controls,
    with_baselines,
)
from braindecode_emossl.evaluation.controls import find_controls
from braindecode_emossl.evaluation.folds import make_job, run_fold
from braindecode_emossl.evaluation.signal import set_signal
from braindecode_emossl.paradigms import Emotion

SUBJECTS = [1, 2, 3, 4, 5, 6]
CHANNELS = ["Fp1", "Fp2", "F7", "F3", "F4", "F8", "T7", "C3", "C4", "T8", "P7", "P3"]
CHANNELS += ["P4", "P8", "O1", "O2"]
DE = "DE + logistic regression"
CHANCE = 1 / 3
FAST = ("de_logreg", "de_svm", "riemann")
SHORT = {
    "pretrain_steps": 10,
    "finetune_steps": 300,
    "batch_size": 16,
    "finetune_lr": 1e-3,  # five times the default, as the steps are few
    "validation": None,
}
# MaskedClusterTransformer, which has the most weights, needs more updates than a test
# can afford.
FILES = [
    pytest.param(
        file, marks=[] if file.stem in FAST else pytest.mark.slow, id=file.stem
    )
    for file in sorted(pipelines_folder().glob("*.yml"))
    if file.stem != "masked_cluster_transformer"
]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Return the folder of a replica of SEED whose signals hold no labels."""
    return write_replica(
        "SEED",
        tmp_path_factory.mktemp("seed"),
        subjects=SUBJECTS,
        seconds=6,
        seed=1,
        sessions=[0],
        effect_size=0,
    )


@pytest.mark.slow
def test_without_an_effect_every_control_says_chance(root):
    asked = [
        ("permuted-labels", {"n_permutations": 19}),
        "shuffled-time",
        "reversed-time",
        "phase-randomized",
        "stimulus-seen",
    ]
    results = evaluate(
        {DE: with_baselines({})[DE]},
        [SEED(SUBJECTS, sessions=[0], path=root)],
        Emotion(window=2.0, channels=CHANNELS, resample=128.0),
        "leave-one-subject-out",
        random_state=0,
        controls=asked,
        probes=True,
    )
    found = summarize_controls(results).set_index("control")
    assert len(found) == len(asked)
    assert (abs(found["mean"] - CHANCE) < 0.08).all()
    assert (abs(found["reference"] - CHANCE) < 0.08).all()
    assert (found["p_value"] > 0.05).all()
    probes = results[results["control"] == ""].filter(like="probe_").mean()
    assert abs(probes["probe_label"] - CHANCE) < 0.08
    assert probes["probe_subject"] > 0.9


@pytest.fixture(scope="module")
def fold(root):
    """Return a fold of five subjects, one of them tested, with an injected signal."""
    subjects = SUBJECTS[:5]
    corpus = SEED(subjects, sessions=[0], path=root)
    paradigm = Emotion(window=1.0, channels=CHANNELS[:8])
    X, y, metadata = paradigm.get_data(corpus)
    is_test = (metadata["subject"] == subjects[-1]).to_numpy()
    info = paradigm.get_info(corpus)
    data = FoldData(
        train=np.flatnonzero(~is_test),
        test=np.flatnonzero(is_test),
        X=X,
        y=y,
        metadata=metadata.reset_index(drop=True),
        sfreq=info["sfreq"],
    )
    (control,) = find_controls(
        [("injected-signal", {"snr": 0.5})], PROTOCOLS["leave-one-subject-out"], False
    )
    (changed,) = control.change(data, seed=0)
    return changed, {"sfreq": info["sfreq"], "chs_info": info["chs"]}


@pytest.mark.parametrize("file", FILES)
def test_shipped_pipelines_find_an_injected_signal(file, fold):
    """Networks are trained for fewer steps than by default, for speed."""
    data, signal = fold
    ((name, pipeline),) = load_pipelines(file, device="cpu")[0].items()
    pipeline = set_signal(name, pipeline, lambda: signal)
    names = {key: key.rpartition("__")[2] for key in pipeline.get_params()}
    short = {key: SHORT[name] for key, name in names.items() if name in SHORT}
    job = make_job(
        data,
        data,
        pipeline.set_params(**short),
        grid=None,
        scoring="accuracy",
        random_state=0,
        adapt=None,
    )
    found = run_fold(data.X, job)
    (scores,) = found.scores
    assert scores["score"] > 0.8  # chance is a third
