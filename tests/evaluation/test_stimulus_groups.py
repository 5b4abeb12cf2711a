"""MEMHACL within folds: groups of subjects at the same second of a stimulus."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from moabb.evaluations import CrossSubjectEvaluation

from braindecode_emossl.datasets import DEAP, write_replica
from braindecode_emossl.evaluation import evaluate, load_pipelines, pipelines_folder
from braindecode_emossl.paradigms import Emotion
from braindecode_emossl.pretraining import MEMHACLPretraining, SSLClassifier

N_SUBJECTS = 5
GROUP = 4  # 2 * group_size


@pytest.fixture(scope="module")
def deap(tmp_path_factory):
    """All modalities of five subjects; trials of two seconds."""
    root = tmp_path_factory.mktemp("DEAP")
    subjects = list(range(1, N_SUBJECTS + 1))
    write_replica("DEAP", root, subjects=subjects, seconds=2, seed=0)
    return DEAP(subjects, path=root, return_all_modalities=True)


@pytest.fixture
def items(monkeypatch):
    """Return the list of batches that reach the objective."""
    seen = []
    forward = MEMHACLPretraining.forward

    def note(self, x, generator=None):
        seen.append(x.detach().cpu().numpy())
        return forward(self, x, generator)

    monkeypatch.setattr(MEMHACLPretraining, "forward", note)
    return seen


def make_classifier(**settings):
    return SSLClassifier(
        "MEMHACL",
        model__n_filters=(4, 4, 8, 8),
        model__n_heads=4,
        objective__projector_widths=(16, 16),
        pretrain_steps=2,
        finetune_steps=1,
        random_state=0,
        **settings,
    )


def check_items(batches, windows, metadata, n_folds):
    """Check that an item holds one second of a stimulus, seen by different subjects."""
    rows = {w.astype(np.float32).tobytes(): i for i, w in enumerate(windows)}
    assert len(rows) == len(windows)
    everyone = set(range(1, N_SUBJECTS + 1))
    left_out = []
    for fold in np.array_split(np.arange(len(batches)), n_folds):
        in_fold = set()
        for number in fold:
            batch = batches[number]
            assert batch.shape[1] == GROUP
            for item in batch:
                found = metadata.iloc[[rows[window.tobytes()] for window in item]]
                assert found["subject"].nunique() == GROUP
                seconds = found[["stimulus", "window"]].drop_duplicates()
                assert len(seconds) == 1
                in_fold |= set(found["subject"])
        assert in_fold < everyone and len(in_fold) == N_SUBJECTS - 1
        left_out += everyone - in_fold
    assert sorted(left_out) == sorted(everyone)


def test_in_every_fold_of_evaluate(deap, items):
    """The groups were of shuffled windows: 0 of 120 shared a stimulus."""
    paradigm = Emotion("valence", window=1.0, fmin=None, fmax=None, resample=None)
    table = evaluate(
        {"MEMHACL": make_classifier()},
        [deap],
        paradigm,
        "leave-one-subject-out",
        random_state=0,
    )
    assert len(table) == N_SUBJECTS
    X, _, metadata = paradigm.get_data(deap)
    assert X.shape[1] > 32  # EEG and peripheral channels
    check_items(items, X, metadata, N_SUBJECTS)


@pytest.mark.parametrize(("n_subjects", "folder"), [(3, ""), (5, "all_modalities")])
def test_shipped_pipelines_run_on_small_training_sets(deap, items, n_subjects, folder):
    """Folds of two training subjects stopped with an error."""
    pipelines, _ = load_pipelines(pipelines_folder() / folder / "memhacl.yml")
    (pipeline,) = pipelines.values()
    pipeline[-1].set_params(pretrain_steps=1, finetune_steps=1)
    subjects = list(range(1, n_subjects + 1))
    corpus = DEAP(subjects, path=deap.path, return_all_modalities=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = evaluate(
            pipelines,
            [corpus],
            Emotion("valence", window=1.0, fmin=None, fmax=None, resample=None),
            "leave-one-subject-out",
        )
    assert table["subject"].nunique() == n_subjects
    size = 2 if n_subjects < 5 else GROUP
    assert {batch.shape[1] for batch in items} == {size}


def test_in_every_fold_of_moabb(deap, items, tmp_path):
    """Epochs carry the metadata through MOABB's own evaluation."""
    paradigm = Emotion("valence", window=1.0, fmin=None, fmax=None, resample=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = CrossSubjectEvaluation(
            paradigm=paradigm,
            datasets=[deap],
            return_epochs=True,
            hdf5_path=str(tmp_path),
        ).process({"MEMHACL": make_classifier()})
    assert len(table) == N_SUBJECTS
    X, _, metadata = paradigm.get_data(deap)
    check_items(items, X, metadata, N_SUBJECTS)


def test_arrays_of_moabb_are_refused(deap, tmp_path):
    """Shuffled groups went unnoticed; now one sentence says what to do."""
    paradigm = Emotion("valence", window=1.0, fmin=None, fmax=None, resample=None)
    evaluation = CrossSubjectEvaluation(
        paradigm=paradigm, datasets=[deap], hdf5_path=str(tmp_path)
    )
    with (
        warnings.catch_warnings(),
        pytest.raises(ValueError, match=r"(?s)stimulus.*evaluate.*return_epochs=True"),
    ):
        warnings.simplefilter("ignore")
        evaluation.process({"MEMHACL": make_classifier(sfreq=128.0)})


def test_metadata_of_epochs(deap):
    paradigm = Emotion("valence", window=1.0, fmin=None, fmax=None, resample=None)
    epochs, _, metadata = paradigm.get_data(deap, subjects=[1], return_epochs=True)
    pd.testing.assert_frame_equal(
        epochs.metadata.reset_index(drop=True), metadata, check_dtype=False
    )
