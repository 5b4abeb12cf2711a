"""SSLClassifier: pre-train and fine-tune as one scikit-learn classifier."""

from __future__ import annotations

import pickle

import mne
import numpy as np
import pytest
import torch
from braindecode import EEGClassifier
from moabb.evaluations import CrossSubjectEvaluation
from scipy.sparse import issparse
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks

from braindecode_emossl.datasets import DEAP
from braindecode_emossl.errors import CheckpointError, LeakageError, LeakageWarning
from braindecode_emossl.features import SubjectScaler
from braindecode_emossl.paradigms import Emotion
from braindecode_emossl.pretraining import (
    SSLClassifier,
    SSLPretrainer,
    load_checkpoint,
    save_checkpoint,
)
from braindecode_emossl.pretraining.finetuning import FineTuner

N_CHANS, SFREQ = 4, 100.0


@pytest.fixture(scope="module")
def windows():
    """Sixty 1-s windows (60, 4, 100) in microvolts; alpha on two sensors is a class."""
    rng = np.random.default_rng(0)
    y = np.array(["calm", "tense"])[np.arange(60) % 2]
    time = np.arange(100) / SFREQ
    alpha = 30 * np.sin(2 * np.pi * 10 * time + rng.uniform(0, 6, (60, 1, 1)))
    X = rng.normal(0, 10, (60, N_CHANS, 100))
    X[y == "calm", :2] += alpha[y == "calm"]
    return X, y


def make_classifier(**settings):
    settings = {
        "sfreq": SFREQ,
        "pretrain_epochs": 2,
        "finetune_epochs": 15,
        "batch_size": 16,
        "random_state": 0,
        **settings,
    }
    return SSLClassifier("SCMM", **settings)


def test_it_learns_and_gives_probabilities_of_the_given_labels(windows):
    X, y = windows
    classifier = make_classifier().fit(X[:40], y[:40])
    assert classifier.classes_.tolist() == ["calm", "tense"]
    probabilities = classifier.predict_proba(X[40:])
    assert probabilities.shape == (20, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert classifier.score(X[40:], y[40:]) >= 0.9
    expected = classifier.classes_[probabilities.argmax(axis=1)]
    assert classifier.predict(X[40:]).tolist() == expected.tolist()


def test_fine_tuning_starts_from_the_pretrained_weights_and_leaves_them(windows):
    """Fine-tuning changed the pretrainer's own encoder, which then knew the labels."""
    X, y = windows
    classifier = make_classifier(pretrain_epochs=3).fit(X, y)
    assert len(classifier.pretrainer_.history) == 3
    assert len(classifier.net_.history) == 15
    untuned = make_classifier(pretrain_epochs=3, finetune_epochs=0).fit(X, y)
    encoder = classifier.pretrainer_.module_.encoder
    for name, tensor in untuned.net_.module_.state_dict().items():
        assert torch.equal(tensor, encoder.state_dict()[name]), name
    tuned = classifier.net_.module_.state_dict()
    assert not torch.equal(tuned["final_layer.0.weight"], encoder.final_layer[0].weight)


def test_pretraining_sees_no_label(windows):
    """The weights after pre-training must not depend on y in any way."""
    X, y = windows
    shuffled = np.random.default_rng(1).permutation(y)
    found = [
        make_classifier(finetune_epochs=0).fit(X, labels).net_.module_.state_dict()
        for labels in (y, shuffled)
    ]
    for name, tensor in found[0].items():
        assert torch.equal(tensor, found[1][name]), name


def test_same_seed_same_result_other_seed_another(windows):
    X, y = windows
    torch.manual_seed(0)
    first = make_classifier().fit(X, y).predict_proba(X)
    torch.manual_seed(99)
    assert np.array_equal(first, make_classifier().fit(X, y).predict_proba(X))
    other = make_classifier(random_state=1).fit(X, y).predict_proba(X)
    assert not np.array_equal(first, other)


def test_refitting_forgets_and_takes_another_size(windows):
    X, y = windows
    classifier = make_classifier()
    expected = classifier.fit(X, y).predict_proba(X)
    classifier.fit(X[:, :3, :50], np.where(y == "calm", 1, 2))
    assert classifier.classes_.tolist() == [1, 2]
    assert np.array_equal(classifier.fit(X, y).predict_proba(X), expected)


def test_clone_pickle_and_pipeline(windows):
    X, y = windows
    params = make_classifier(model_params={"drop_prob": 0.1}).get_params()
    assert clone(SSLClassifier(**params)).get_params() == params
    pipeline = make_pipeline(FunctionTransformer(np.negative), make_classifier())
    pipeline.fit(X, y)
    again = pickle.loads(pickle.dumps(pipeline))
    assert np.array_equal(again.predict_proba(X), pipeline.predict_proba(X))


def test_epochs_give_what_their_array_in_microvolts_gives(windows):
    X, y = windows
    info = mne.create_info(N_CHANS, SFREQ, "eeg")
    epochs = mne.EpochsArray(X * 1e-6, info, verbose=False)
    from_array = make_classifier().fit(X, y).predict_proba(X)
    from_epochs = make_classifier(sfreq=None).fit(epochs, y).predict_proba(epochs)
    np.testing.assert_allclose(from_epochs, from_array, rtol=1e-3, atol=1e-4)


def test_differential_entropy_as_input():
    X = np.random.default_rng(0).normal(size=(30, N_CHANS, 5))
    y = np.arange(30) % 3
    classifier = make_classifier(sfreq=None, model_params={"input_domain": "de"})
    assert classifier.fit(X, y).predict_proba(X).shape == (30, 3)


@pytest.mark.parametrize("part", ["pre-training", "fine-tuning"])
def test_an_interrupt_is_not_taken_for_the_end_of_training(windows, monkeypatch, part):
    """Skorch swallows Ctrl-C, and an evaluation went on with half-trained models."""

    def interrupt(self, *args, **kwargs):
        raise KeyboardInterrupt

    net = SSLPretrainer if part == "pre-training" else EEGClassifier
    monkeypatch.setattr(net, "train_step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make_classifier().fit(*windows)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": np.zeros((10, 4))}, r"shape \(10, 4\)"),
        ({"X": np.full((10, 4, 100), np.nan)}, "X contains NaN"),
        ({"X": np.zeros((0, 4, 100))}, "0 sample"),
        ({"X": np.zeros((10, 0, 100))}, r"shape \(10, 0, 100\)"),
        ({"y": np.zeros(10)}, "at least two classes, but got 1 class: .*0.0"),
        ({"y": np.arange(9) % 2}, r"inconsistent numbers of samples: \[10, 9\]"),
        ({"y": np.linspace(0, 1, 10)}, "Unknown label type: continuous"),
        ({"subjects": np.arange(9)}, r"inconsistent numbers of samples: \[10, 9\]"),
        ({"settings": {"model": "SCMMM"}}, "'SCMMM'"),
        ({"settings": {"sfreq": None}}, "sfreq"),
        ({"settings": {"finetune": "half"}}, "finetune must be one of .* 'half'"),
        ({"settings": {"layer_decay": 2}}, "layer_decay must be"),
        ({"settings": {"class_weight": "even"}}, "class_weight .*'even'"),
        ({"settings": {"validation": 0.2}}, "fit needs the subjects .* no subjects"),
        ({"settings": {"store": "s", "random_state": None}}, "random_state must be"),
        ({"settings": {"unlabelled": np.ones((3, 4, 99))}}, r"unlabelled .*3, 4, 99"),
    ],
)
def test_bad_input_is_named_before_anything_is_trained(change, message, monkeypatch):
    monkeypatch.setattr(SSLPretrainer, "fit", None)
    X = change.get("X", np.ones((10, 4, 100)))
    y = change.get("y", np.arange(10) % 2)
    classifier = make_classifier().set_params(**change.get("settings", {}))
    with pytest.raises(ValueError, match=message):
        classifier.fit(X, y, subjects=change.get("subjects"))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((10, 3, 100), "3 features, but SSLClassifier is expecting 4 features"),
        ((10, 4, 99), r"4 channels and 100 samples.* shape \(10, 4, 99\)"),
        ((9, 4), r"shape \(n_windows, n_chans, n_times\).* shape \(9, 4\)"),
    ],
)
def test_windows_of_another_size_are_refused(windows, shape, message):
    """Those of another length went into the model, which named a layer or took them."""
    classifier = make_classifier(pretrain_epochs=0, finetune_epochs=0).fit(*windows)
    assert classifier.n_features_in_ == N_CHANS
    with pytest.raises(ValueError, match=message):
        classifier.predict(np.zeros(shape))


@pytest.mark.slow
def test_each_fold_of_moabb_pretrains_on_its_training_subjects_alone(
    deap_root, tmp_path, monkeypatch
):
    """No window of the test subject may reach pre-training, in any fold."""
    dataset = DEAP(subjects=[1, 2], path=deap_root)
    paradigm = Emotion("valence", window=2.0, features="de")
    X, _, metadata = paradigm.get_data(dataset)
    rows = {row.tobytes(): i for i, row in enumerate(X.astype(np.float32))}
    fits = []

    def fit(self, windows, *args, **kwargs):
        seen = metadata["subject"].iloc[[rows[row.tobytes()] for row in windows]]
        fits.append((set(seen), len(windows)))
        return original(self, windows, *args, **kwargs)

    original = SSLPretrainer.fit
    monkeypatch.setattr(SSLPretrainer, "fit", fit)
    classifier = make_classifier(
        sfreq=None,
        pretrain_epochs=1,
        finetune_epochs=1,
        model_params={"input_domain": "de"},
    )
    evaluation = CrossSubjectEvaluation(paradigm, [dataset], hdf5_path=tmp_path)
    results = evaluation.process({"SCMM": make_pipeline(classifier)})
    n_windows = metadata["subject"].value_counts()
    # The fold that tests subject 1 comes first.
    assert fits == [({2}, n_windows[2]), ({1}, n_windows[1])]
    assert len(results) == 2


def test_moabb_routes_the_subjects_of_the_training_windows(
    deap_root, tmp_path, monkeypatch
):
    """The subjects must reach ``fit`` also within a pipeline."""
    routed = []

    def fit(self, X, y, subjects=None):
        routed.append(set(subjects))
        self.classes_ = np.unique(y)
        return self

    monkeypatch.setattr(SSLClassifier, "fit", fit)
    monkeypatch.setattr(
        SSLClassifier, "predict", lambda self, X: np.repeat(self.classes_[0], len(X))
    )
    evaluation = CrossSubjectEvaluation(
        Emotion("valence", window=2.0, features="de"),
        [DEAP(subjects=[1, 2], path=deap_root)],
        hdf5_path=tmp_path,
    )
    evaluation.process({"SCMM": make_pipeline(SSLClassifier())})
    assert routed == [{2}, {1}]


# -- models without an objective, and the target's labelled windows ------------


@pytest.mark.parametrize("model", ["DGCNN", "TSception"])
def test_a_model_of_braindecode_with_labels_alone(windows, model, caplog):
    X, y = windows
    classifier = SSLClassifier(
        model, sfreq=SFREQ, pretrain_epochs=0, finetune_epochs=2, random_state=0
    )
    probabilities = classifier.fit(X, y).predict_proba(X)
    assert probabilities.shape == (60, 2) and classifier.pretrainer_ is None
    # DGCNN starts from the places of the electrodes, of which an array knows nothing.
    assert ("spread evenly" in caplog.text) == (model == "DGCNN")


def test_known_places_are_used(windows, caplog):
    X, y = windows
    info = mne.create_info(["Fz", "Cz", "Pz", "Oz"], SFREQ, "eeg")
    info.set_montage("colin27_1005")
    classifier = SSLClassifier(
        "DGCNN", chs_info=info["chs"], pretrain_epochs=0, finetune_epochs=1
    ).fit(X, y)
    assert "spread evenly" not in caplog.text
    assert [c["ch_name"] for c in classifier.net_.module_.chs_info] == info["ch_names"]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("DGCNN", "DGCNN has no pre-training objective, .* pretrain_epochs=0"),
        ("Unheard", "model must be the name of a model of braindecode.*'Unheard'"),
    ],
)
def test_refused_models(windows, model, message):
    with pytest.raises(ValueError, match=message):
        SSLClassifier(model, sfreq=SFREQ).fit(*windows)


def test_labelled_windows_of_the_target_alone_fine_tune(windows):
    """Across corpora the others pre-train; their labels may even contradict."""
    X, y = windows
    wrong = np.where(y == "calm", "tense", "calm")
    classifier = make_classifier()
    classifier.fit(X[:40], wrong[:40], X_target_labeled=X[:40], y_target_labeled=y[:40])
    assert classifier.score(X[40:], y[40:]) >= 0.9
    plain = make_classifier().fit(X[:40], wrong[:40])
    a, b = (c.pretrainer_.module_.encoder.state_dict() for c in (classifier, plain))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_calibration_that_does_not_fit_is_named_before_pre_training(
    windows, monkeypatch
):
    X, y = windows
    monkeypatch.setattr(SSLPretrainer, "fit", None)
    classifier = make_classifier()
    for X_known, y_known, message in (
        (X[:2], ["calm", "sad"], "unseen labels.*'sad'"),
        (X[:2, :3], y[:2], r"X_target_labeled .*\(2, 3, 100\)"),
        (X[:2], y[:3], r"inconsistent numbers of samples: \[2, 3\]"),
    ):
        with pytest.raises(ValueError, match=message):
            classifier.fit(X, y, X_target_labeled=X_known, y_target_labeled=y_known)


# -- fine-tuning ---------------------------------------------------------------


@pytest.mark.parametrize("finetune", ["linear-probe", "layer-decay", "gradual"])
def test_ways_to_fine_tune(windows, finetune):
    X, y = windows
    classifier = make_classifier(finetune=finetune, finetune_lr=0.01).fit(
        X[:40], y[:40]
    )
    assert classifier.score(X[40:], y[40:]) >= 0.8
    before = classifier.pretrainer_.module_.encoder.state_dict()
    after = classifier.net_.module_.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    head = {name for name in before if name.startswith("final_layer")}
    assert head <= changed
    assert (changed == head) == (finetune == "linear-probe")


def test_a_fine_tuning_that_diverges_is_an_error(windows):
    """Its probabilities were NaN, of which ``predict`` made the first class."""
    with pytest.raises(FloatingPointError, match=r"Lower finetune_lr, which is 1e\+30"):
        make_classifier(finetune_lr=1e30, pretrain_epochs=0).fit(*windows)


def test_balanced_weights_are_those_of_scikit_learn(windows):
    """Thirty windows of one class and ten of the other: 40 / (2 * n)."""
    X, y = windows
    rows = (
        np.flatnonzero(y == "tense").tolist()
        + np.flatnonzero(y == "calm")[:10].tolist()
    )
    settings = {"pretrain_epochs": 0, "finetune_epochs": 1}
    found = [
        make_classifier(class_weight=class_weight, **settings)
        .fit(X[rows], y[rows])
        .net_.criterion_.weight
        for class_weight in (None, "balanced", {"calm": 3.0})
    ]
    assert found[0] is None
    np.testing.assert_allclose(found[1], [40 / 20, 40 / 60], rtol=1e-6)
    np.testing.assert_allclose(found[2], [3, 1])


def test_a_calibration_may_lack_a_class_that_has_a_weight(windows):
    X, y = windows
    calm = np.flatnonzero(y == "calm")
    classifier = make_classifier(class_weight="balanced", pretrain_epochs=0)
    classifier.fit(X, y, X_target_labeled=X[calm], y_target_labeled=y[calm])
    assert set(classifier.predict(X)) == {"calm"}


def test_epochs_are_picked_on_training_subjects_that_did_not_train(
    windows, monkeypatch
):
    """The number is that of the least loss, and the rest as if it had been given."""
    X, y = windows
    subjects = np.arange(60) // 12
    y = np.where(subjects == 3, y[::-1], y)  # learning goes on too long
    seen = []

    def fit(self, X, y):
        seen.append(X)
        return original(self, X, y)

    original = FineTuner.fit
    monkeypatch.setattr(FineTuner, "fit", fit)
    classifier = make_classifier(validation=0.4).fit(X, y, subjects=subjects)
    held_out = classifier.validation_subjects_
    assert len(held_out) == 2
    expected = X[~np.isin(subjects, held_out)].astype(np.float32)
    assert np.array_equal(seen[0], expected) and len(seen[1]) == 60
    losses = classifier.validation_history_[:, "valid_loss"]
    assert len(losses) == 15 and classifier.n_epochs_ == 1 + np.argmin(losses)
    plain = make_classifier(finetune_epochs=classifier.n_epochs_).fit(X, y)
    assert np.array_equal(classifier.predict_proba(X), plain.predict_proba(X))


@pytest.mark.parametrize(("validation", "n_subjects"), [(0.2, 1), (0.9, 3), (0.0, 5)])
def test_a_validation_that_cannot_be_is_refused(windows, validation, n_subjects):
    subjects = np.arange(60) % n_subjects
    message = f"got {validation} of {n_subjects} subjects"
    with pytest.raises(ValueError, match=message):
        make_classifier(validation=validation).fit(*windows, subjects=subjects)


# -- what is pre-trained elsewhere ---------------------------------------------


def test_further_windows_pre_train_and_nothing_else(windows):
    X, y = windows
    other = np.random.default_rng(5).normal(0, 10, (20, N_CHANS, 100))
    classifier = make_classifier(unlabelled=[other[:8], other[8:]], finetune_epochs=1)
    classifier = clone(classifier).fit(X, y)
    together = make_classifier(finetune_epochs=0).fit(
        np.concatenate([X, other]), np.concatenate([y, y[:20]])
    )
    found, expected = (
        c.pretrainer_.module_.state_dict() for c in (classifier, together)
    )
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert (
        sum(b["train_batch_size"] for b in classifier.net_.history[0, "batches"]) == 60
    )


def test_the_pretrainer_is_told_of_settings_and_subjects(windows):
    """Its validation holds out subjects, of the further windows too."""
    X, y = windows
    classifier = make_classifier(
        unlabelled=X[:20],
        pretrainer_params={"validation": 0.5, "clip_norm": 1.0},
        finetune_epochs=0,
    ).fit(X, y, subjects=np.arange(60) // 20)
    batches = classifier.pretrainer_.history[0, "batches"]
    assert sum(b.get("valid_batch_size", 0) for b in batches) == 40
    assert classifier.pretrainer_.clip_norm == 1.0


@pytest.fixture
def checkpoint(windows, tmp_path):
    """A model that has seen the subjects 1 and 2 of SEED."""
    classifier = make_classifier(finetune_epochs=0).fit(*windows)
    provenance = {"corpora": {"SEED": {"subjects": [1, 2]}}}
    folder = tmp_path / "checkpoint"
    save_checkpoint(folder, classifier.pretrainer_.module_, provenance)
    return folder


def test_a_checkpoint_takes_the_place_of_pre_training(windows, checkpoint):
    X, y = windows
    saved = load_checkpoint(checkpoint).encoder.state_dict()
    settings = {"checkpoint": checkpoint, "corpus": "SEED", "pretrain_epochs": None}
    subjects = 1 + np.arange(60) % 3
    classifier = make_classifier(**settings, finetune_epochs=0, random_state=7)
    found = classifier.fit(X, y, subjects=subjects).net_.module_.state_dict()
    for name, tensor in saved.items():
        same = torch.equal(found[name], tensor)
        assert same != name.startswith("final_layer"), name
    assert classifier.pretrainer_ is None
    classifier = make_classifier(**settings).fit(X[:40], y[:40], subjects=subjects[:40])
    assert classifier.score(X[40:], y[40:]) >= 0.9
    asked = classifier.set_params(pretrain_epochs=1, finetune_epochs=0)
    further = asked.fit(X, y, subjects=subjects).pretrainer_
    assert len(further.history) == 1
    start = further.objective.encoder.state_dict()["blocks.0.0.weight"]
    assert torch.equal(start, saved["blocks.0.0.weight"])


@pytest.mark.parametrize(
    ("corpus", "subjects"),
    [("SEED", [1, 3]), (["SEED", "DEAP"], ["SEED subject 1", "DEAP subject 2"])],
)
def test_a_checkpoint_that_knows_a_test_subject_is_refused(
    windows, checkpoint, corpus, subjects, monkeypatch
):
    monkeypatch.setattr(FineTuner, "fit", None)
    classifier = make_classifier(
        checkpoint=checkpoint, corpus=corpus, pretrain_epochs=None
    )
    with pytest.raises(LeakageError, match="seen subject 2 of SEED"):
        classifier.fit(*windows, subjects=np.resize(subjects, 60))


def test_a_checkpoint_that_cannot_be_judged_is_warned_of(windows, checkpoint):
    classifier = make_classifier(checkpoint=checkpoint, pretrain_epochs=None)
    with pytest.warns(LeakageWarning, match="may have seen test data"):
        classifier.fit(*windows)


@pytest.mark.parametrize(
    "settings", [{"model": "MaskedClusterTransformer"}, {"sfreq": 128.0}]
)
def test_a_checkpoint_of_another_model_is_refused(windows, checkpoint, settings):
    classifier = make_classifier(checkpoint=checkpoint).set_params(**settings)
    with pytest.raises(CheckpointError, match="another architecture"):
        classifier.fit(*windows)


def test_variants_of_fine_tuning_share_their_pre_training(
    windows, tmp_path, monkeypatch
):
    """Five variants pre-trained five times; results must be the same as then."""
    X, y = windows
    n_fits = []

    def fit(self, *args, **kwargs):
        n_fits.append(1)
        return original(self, *args, **kwargs)

    original = SSLPretrainer.fit
    monkeypatch.setattr(SSLPretrainer, "fit", fit)
    variants = [
        {"finetune": "full"},
        {"finetune": "linear-probe", "finetune_epochs": 5},
        {"finetune": "gradual", "class_weight": "balanced"},
    ]
    alone = [make_classifier(**v).fit(X, y) for v in variants]
    assert len(n_fits) == 3
    store = tmp_path / "store"
    shared = [make_classifier(**v, store=store).fit(X, y) for v in variants]
    assert len(n_fits) == 4
    for one, other in zip(alone, shared, strict=True):
        assert np.array_equal(one.predict_proba(X), other.predict_proba(X))
        losses = [c.pretrainer_.history[:, "train_loss"] for c in (one, other)]
        assert losses[0] == losses[1]
    make_classifier(store=store).fit(X[:50], y[:50])
    assert len(n_fits) == 5


@pytest.mark.slow
def test_folds_in_parallel_are_the_folds_one_by_one(deap_root, tmp_path):
    """Two pipelines of two folds each, in processes of their own, with a scaler."""
    paradigm = Emotion("valence", window=2.0, features="de")
    pipelines = {
        finetune: make_pipeline(
            SubjectScaler(),
            make_classifier(
                sfreq=None,
                pretrain_epochs=1,
                finetune_epochs=2,
                model_params={"input_domain": "de"},
                finetune=finetune,
                store=tmp_path / "store",
            ),
        )
        for finetune in ("full", "gradual")
    }
    scores = []
    for n_jobs in (2, 1):
        dataset = DEAP(subjects=[1, 2], path=deap_root)
        evaluation = CrossSubjectEvaluation(
            paradigm, [dataset], hdf5_path=tmp_path / str(n_jobs), n_jobs=n_jobs
        )
        results = evaluation.process(pipelines)
        scores.append(results.sort_values(["pipeline", "subject"])["score"].tolist())
    assert len(scores[0]) == 4 and scores[0] == scores[1]
    assert len(list((tmp_path / "store").glob("*/checkpoint"))) == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_it_trains_on_a_gpu_and_predicts_the_same_again(windows, tmp_path):
    X, y = windows
    settings = {"device": "cuda", "validation": 0.4, "store": tmp_path}
    subjects = np.arange(60) // 12
    classifier = make_classifier(**settings).fit(X, y, subjects=subjects)
    assert next(classifier.net_.module_.parameters()).is_cuda
    again = make_classifier(**settings).fit(X, y, subjects=subjects)
    for other in (again, pickle.loads(pickle.dumps(classifier))):
        np.testing.assert_allclose(
            other.predict_proba(X), classifier.predict_proba(X), atol=1e-4
        )


# -- scikit-learn --------------------------------------------------------------


class FlatClassifier(SSLClassifier):
    """The classifier for tables, (n, n_chans), as scikit-learn's checks give them."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.three_d_array = True, False
        return tags

    def fit(self, X, y):
        return super().fit(_unfold(X), y)

    def predict_proba(self, X):
        return super().predict_proba(_unfold(X))


def _unfold(X):
    if issparse(X):
        return X
    X = np.asarray(X)
    return X[..., np.newaxis] if X.ndim == 2 else X


NETWORK = {"input_domain": "de", "n_filters": (16,), "n_hidden": 16, "kernel_size": 2}
EXCEPTIONS = {
    "check_estimators_empty_data_messages": (
        "windows without channels are refused with their shape of three dimensions, "
        "where the check wants that of a table"
    ),
}


@parametrize_with_checks(
    [
        FlatClassifier(
            model_params=NETWORK,
            pretrain_epochs=1,
            finetune_epochs=10,
            finetune_lr=0.03,
            batch_size=32,
            random_state=0,
        )
    ],
    expected_failed_checks=lambda estimator: EXCEPTIONS,
    xfail_strict=True,
)
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


def test_scikit_learn_is_told_that_windows_have_three_dimensions():
    tags = get_tags(SSLClassifier(random_state=0))
    assert tags.input_tags.three_d_array and not tags.input_tags.two_d_array
    assert not tags.non_deterministic and get_tags(SSLClassifier()).non_deterministic
