"""Pre-trained models under a protocol: refused after a leak, told apart by weights."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from braindecode_emossl.errors import LeakageError, LeakageWarning
from braindecode_emossl.evaluation import evaluate
from braindecode_emossl.models import SCMM
from braindecode_emossl.paradigms import Emotion
from braindecode_emossl.pretraining import (
    SCMMPretraining,
    SSLClassifier,
    save_checkpoint,
)


@pytest.fixture
def paradigm():
    return Emotion(window=1.0, features="de", resample=128.0)


def write_checkpoint(path, corpus, subjects, seed=0):
    torch.manual_seed(seed)
    model = SCMM(n_outputs=2, n_chans=4, n_times=5, input_domain="de")
    objective = SCMMPretraining(model)
    objective.prepare(np.random.default_rng(0).normal(size=(10, 4, 5)))
    save_checkpoint(path, objective, {"corpora": {corpus: {"subjects": subjects}}})
    return SSLClassifier(pretrained=path, finetune_steps=4, random_state=0)


def run(classifier, dataset, paradigm, tmp_path, protocol="leave-one-subject-out"):
    folder = tmp_path / "results"
    return evaluate(
        {"SCMM": classifier}, dataset, paradigm, protocol, results_dir=folder
    )


def test_a_checkpoint_that_saw_a_test_subject_is_refused(toy, paradigm, tmp_path):
    """The classifier was not told which corpus it is given, and only warned."""
    classifier = write_checkpoint(tmp_path / "weights", toy.code, [1, 2, 10])
    with pytest.raises(LeakageError, match="subject 1 of Toy"):
        run(classifier, [toy], paradigm, tmp_path)


def test_a_checkpoint_of_subjects_who_take_no_part_is_taken(
    make_toy, paradigm, tmp_path
):
    """It was refused, as if they might be tested."""
    toy = make_toy(subjects=[1, 2])
    classifier = write_checkpoint(tmp_path / "weights", toy.code, [10])
    for protocol in ("leave-one-subject-out", "chronological"):
        with warnings.catch_warnings():
            warnings.simplefilter("error", LeakageWarning)
            run(classifier, [toy], paradigm, tmp_path, protocol)


def test_a_checkpoint_that_saw_held_out_trials_is_refused(make_toy, paradigm, tmp_path):
    """Within a subject it had seen the test trials too, and was only doubted."""
    toy = make_toy(subjects=[1])
    classifier = write_checkpoint(tmp_path / "weights", toy.code, [1, 2])
    with pytest.raises(LeakageError, match="subject 1 of Toy"):
        run(classifier, [toy], paradigm, tmp_path, "chronological")


def test_a_checkpoint_of_another_corpus_is_taken(toy, paradigm, tmp_path):
    classifier = write_checkpoint(tmp_path / "weights", "SEED", [1, 2, 10])
    with warnings.catch_warnings():
        warnings.simplefilter("error", LeakageWarning)
        assert len(run(classifier, [toy], paradigm, tmp_path)) == 6


def test_other_weights_in_the_same_folder_are_another_pipeline(toy, paradigm, tmp_path):
    """The scores of the weights of before were found again by the folder's name."""
    tables = []
    for seed in (0, 1, 0):
        classifier = write_checkpoint(tmp_path / "weights", "SEED", [1], seed)
        tables.append(run(classifier, [toy], paradigm, tmp_path))
    # The time that a fold took tells whether it was run again.
    times = [table["time"].tolist() for table in tables]
    assert times[0] != times[1]
    assert times[0] == times[2]


def test_a_copy_of_a_checkpoint_is_the_same_pipeline(toy, paradigm, tmp_path):
    """A job on another node, with its own copy and memory, ran every fold again."""
    times = []
    for node in "ab":
        classifier = write_checkpoint(tmp_path / node / "weights", "SEED", [1])
        classifier.set_params(memory=tmp_path / node / "memory")
        times.append(run(classifier, [toy], paradigm, tmp_path)["time"].tolist())
    assert times[0] == times[1]
