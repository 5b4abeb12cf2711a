"""SSLClassifier: pre-train and fine-tune as one scikit-learn classifier."""

from __future__ import annotations

import pickle

import mne
import numpy as np
import pytest
import torch
from braindecode import EEGClassifier
from moabb.evaluations import CrossSubjectEvaluation
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from braindecode_emossl.datasets import DEAP
from braindecode_emossl.paradigms import Emotion
from braindecode_emossl.pretraining import SSLClassifier, SSLPretrainer

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
        ({"X": np.full((10, 4, 100), np.nan)}, "not finite"),
        ({"X": np.zeros((0, 4, 100))}, r"shape \(0, 4, 100\)"),
        ({"y": np.zeros(10)}, "1 classes"),
        ({"y": np.arange(9) % 2}, "9 labels"),
        ({"settings": {"model": "SCMMM"}}, "'SCMMM'"),
        ({"settings": {"sfreq": None}}, "sfreq"),
    ],
)
def test_bad_input_is_named(change, message):
    X = change.get("X", np.ones((10, 4, 100)))
    y = change.get("y", np.arange(10) % 2)
    classifier = make_classifier().set_params(**change.get("settings", {}))
    with pytest.raises(ValueError, match=message):
        classifier.fit(X, y)


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
    assert probabilities.shape == (60, 2) and not hasattr(classifier, "pretrainer_")
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
