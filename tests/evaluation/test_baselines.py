"""The baselines that a claim about pre-training needs."""

from __future__ import annotations

import tempfile

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from braindecode_emossl.evaluation import (
    EEGBandFeatures,
    evaluate,
    read_predictions,
    with_baselines,
)
from braindecode_emossl.evaluation.baselines import describe_mechanism
from braindecode_emossl.features import DifferentialEntropy
from braindecode_emossl.models import SCMM
from braindecode_emossl.paradigms import Emotion
from braindecode_emossl.pretraining import (
    SCMMPretraining,
    SSLClassifier,
    save_checkpoint,
)

GENERAL = ["DE + logistic regression", "most frequent", "stratified"]


def make_scmm(**settings):
    return SSLClassifier(
        "SCMM",
        model__input_domain="de",
        pretrain_steps=2,
        finetune_steps=2,
        random_state=0,
        **settings,
    )


def test_rows():
    nested = make_pipeline(FunctionTransformer(), make_scmm())
    rows = with_baselines({"SCMM": make_scmm(), "nested": nested})
    assert list(rows) == [
        "SCMM",
        "SCMM, random weights",
        "SCMM, frozen",
        "nested",
        "nested, random weights",
        "nested, frozen",
        *GENERAL,
    ]
    random, frozen = rows["nested, random weights"][-1], rows["nested, frozen"][-1]
    assert random.objective is None and random.finetune == "full"
    assert frozen.objective == "auto" and frozen.finetune == "linear-probe"
    for name, row in (("objective", random), ("finetune", frozen)):
        params = {k: v for k, v in row.get_params().items() if k != name}
        given = nested[-1].get_params()
        assert params == {k: v for k, v in given.items() if k != name}
    assert nested[-1].objective == "auto"  # the caller's is left alone


@pytest.mark.parametrize(
    "pipeline",
    [
        LogisticRegression(),
        make_scmm(objective=None),
        SSLClassifier("SCMM", pretrain_steps=0),
        SSLClassifier("SCMM", pretrain_epochs=0),
        SSLClassifier("SCMM", pretrainer__max_steps=0),
    ],
)
def test_rows_of_supervised_pipelines(pipeline):
    assert list(with_baselines({"a": pipeline})) == ["a", *GENERAL]


@pytest.mark.parametrize("pipelines", [{"a": "SCMM"}, [DummyClassifier()], None])
def test_what_is_no_classifier_is_named(pipelines):
    """It was an attribute that a list or a string lacks."""
    with pytest.raises(ValueError, match=r"must be a (dict|scikit-learn classifier)"):
        with_baselines(pipelines)
    assert "most frequent" in with_baselines({})


def test_rows_of_the_caller_are_kept():
    mine = DummyClassifier(strategy="uniform")
    rows = with_baselines({"most frequent": mine})
    assert rows["most frequent"] is mine and len(rows) == 3
    rows = with_baselines({"SCMM, frozen": mine, "SCMM": make_scmm()})
    assert rows["SCMM, frozen"] is mine


def test_the_frozen_row_is_frozen():
    """``finetuner__finetune`` won over the strategy of the row."""
    pipeline = make_scmm(finetuner__finetune="full")
    frozen = with_baselines({"a": pipeline})["a, frozen"]
    assert frozen.get_params()["finetuner__finetune"] == "linear-probe"
    assert describe_mechanism(frozen).endswith("(linear-probe)")
    assert describe_mechanism(make_scmm(finetuner__finetune="gradual")).endswith(
        "(gradual)"
    )


def test_random_weights_of_a_checkpoint(tmp_path):
    """The architecture is that of the checkpoint, the weights are not."""
    model = SCMM(n_outputs=2, n_chans=4, n_times=5, input_domain="de", drop_prob=0.125)
    objective = SCMMPretraining(model)
    objective.prepare(np.random.default_rng(0).normal(size=(10, 4, 5)))
    save_checkpoint(tmp_path / "trained", objective)
    classifier = SSLClassifier(
        pretrained=tmp_path / "trained", finetune_steps=1, random_state=0
    )
    row = with_baselines({"SCMM": classifier})["SCMM, random weights"]
    assert row.pretrained is None and row.model is SCMM
    X = np.random.default_rng(1).normal(size=(8, 4, 5))
    fitted = row.fit(X, [0, 1] * 4).net_.module_
    assert fitted.get_config()["input_domain"] == "de"
    assert fitted.get_config()["drop_prob"] == 0.125
    name = next(k for k, v in fitted.state_dict().items() if v.ndim > 1)
    assert not torch.equal(fitted.state_dict()[name], model.state_dict()[name])


def test_band_features():
    """All-modality windows lost their EEG among the other channels."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(6, 3, 128))
    chs_info = [
        {"ch_name": name, "kind": kind}
        for name, kind in (("Fz", "eeg"), ("GSR", "gsr"), ("Cz", "eeg"))
    ]
    features = EEGBandFeatures(128.0, chs_info).fit_transform(X)
    wanted = DifferentialEntropy(128.0).fit_transform(X[:, [0, 2]])
    assert_allclose(features, wanted)
    de = rng.normal(size=(6, 3, 5))
    assert_allclose(EEGBandFeatures().fit_transform(de), de.reshape(6, 15))
    with pytest.raises(ValueError, match="sfreq must be"):
        EEGBandFeatures().fit_transform(X)
    with pytest.raises(ValueError, match="must have EEG channels"):
        EEGBandFeatures(128.0, chs_info[1:2]).fit_transform(X[:, :1])


def test_in_an_evaluation(toy, paradigm):
    table = evaluate(
        with_baselines({"SCMM": make_scmm(device="cpu")}),
        [toy],
        paradigm,
        "leave-one-subject-out",
        n_labeled_trials=[1, None],
        random_state=0,
    )
    assert len(table) == 6 * 6 * 2
    frequent = table[table["pipeline"] == "most frequent"]
    assert_allclose(frequent["accuracy"], 0.5)
    assert table["score"].notna().all()


class AsksForMore(DummyClassifier):
    """It may do anything with the windows of the test subject."""

    __metadata_request__fit = {"X_target_unlabeled": True}  # noqa: RUF012


@pytest.mark.parametrize(
    ("pipeline", "expected"),
    [
        (LogisticRegression(), "supervised on the training set"),
        (
            make_pipeline(FunctionTransformer(), make_scmm(finetune="linear-probe")),
            "self-supervised pre-training in each fold, then fine-tuning "
            "(linear-probe)",
        ),
        (make_scmm(objective=None), "supervised from random weights"),
        (
            SSLClassifier(pretrained="trained"),
            "pre-training on other data (a checkpoint), then fine-tuning (full)",
        ),
        # The classifier's own rule was another one.
        (
            SSLClassifier("SCMM", pretrainer__max_steps=0),
            "supervised from random weights",
        ),
        (
            SSLClassifier("SCMM", pretrain_steps=0, pretrain_epochs=3),
            "self-supervised pre-training in each fold, then fine-tuning (full)",
        ),
        (
            SSLClassifier(pretrained="trained", pretrain_steps=500),
            "pre-training on other data (a checkpoint), then self-supervised "
            "pre-training in each fold, then fine-tuning (full)",
        ),
        (AsksForMore(), ""),
    ],
)
def test_mechanism(pipeline, expected):
    assert describe_mechanism(pipeline) == expected


def test_other_features_are_not_called_differential_entropy(toy, fast):
    """Any five values were: the row was logistic regression of power densities."""
    paradigm = Emotion(**fast | {"features": "psd"})
    how = {"protocol": "leave-one-subject-out", "random_state": 0}
    with pytest.warns(UserWarning, match="Left out: DE .* features .* are 'psd'"):
        table = evaluate(with_baselines({}), [toy], paradigm, **how)
    assert set(table["pipeline"]) == {"most frequent", "stratified"}
    with pytest.raises(ValueError, match="DE needs signals or differential"):
        evaluate({"DE": with_baselines({})[GENERAL[0]]}, [toy], paradigm, **how)


def guess(corpus, paradigm, protocol="leave-one-subject-out", **options):
    """Return the stratified guesses of each fold and recording."""
    with tempfile.TemporaryDirectory() as folder:
        evaluate(
            {"stratified": with_baselines({})["stratified"]},
            [corpus],
            paradigm,
            protocol,
            random_state=0,
            results_dir=folder,
            **options,
        )
        table = read_predictions(folder)
    by = table.groupby(["subject", "session"])["predicted"]
    return {key: tuple(guesses) for key, guesses in by}


@pytest.mark.parametrize(
    ("protocol", "options"),
    [("leave-one-subject-out", {}), ("subject-kfold", {"n_splits": 2})],
)
def test_stratified_guesses_differ_between_recordings(protocol, options, toy, paradigm):
    """A fixed seed gave every subject the same guesses, in the same order."""
    guesses = guess(toy, paradigm, protocol, **options)
    assert len(guesses) == 6 and len(set(guesses.values())) == 6
    assert guess(toy, paradigm, protocol, **options) == guesses
    other = guess(toy, paradigm, protocol, seeds=[1], **options)
    assert not set(other.values()) & set(guesses.values())


def test_stratified_guesses_follow_the_training_set():
    """Frequencies are those of the labels, and other labels give other guesses."""
    X = np.random.default_rng(0).normal(size=(4000, 1, 1))
    row = with_baselines({})["stratified"]
    y = np.repeat(["a", "b", "c"], [500, 1500, 2000])
    proba = row.fit(X, y).predict_proba(X)
    # Four standard deviations of a proportion of 4000.
    assert_allclose(proba.mean(axis=0), [0.125, 0.375, 0.5], atol=4 * 0.5 / 4000**0.5)
    assert (row.classes_[proba.argmax(axis=1)] == row.predict(X)).all()
    assert (row.predict(X) == clone(row).fit(X, y).predict(X)).all()
    assert (row.predict(X) != clone(row).fit(X, np.roll(y, 1)).predict(X)).any()
