"""Probes: what a linear classifier reads from features, with groups held out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from braindecode_emossl import SSLClassifier
from braindecode_emossl.evaluation import (
    evaluate,
    probe,
    read_evaluations,
    with_baselines,
)
from braindecode_emossl.evaluation.probes import (
    extract_features,
    read_diagnosis,
    thin_out,
)
from braindecode_emossl.features.linear_probe import PROBED

LOSO = "leave-one-subject-out"


def flatten(X):
    return X.reshape(len(X), -1)


def make_linear():
    return make_pipeline(
        FunctionTransformer(flatten), StandardScaler(), LogisticRegression()
    )


# -- the probe -----------------------------------------------------------------


def test_separable_classes_are_read():
    target = np.repeat([0, 1, 2], 40)
    groups = np.arange(120) // 4
    features = np.eye(3)[target] + 0.01 * np.random.default_rng(0).normal(size=(120, 3))
    found = probe(features, target, groups)
    assert found == (1.0, 1 / 3)
    assert_allclose(found.ratio, 3.0)


def test_a_signature_of_the_trial_is_not_read_as_the_label():
    """Windows of a trial on both sides gave nearly 1 where there is nothing to read."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(200), 3)
    target = rng.integers(2, size=200)[groups]
    features = rng.normal(size=(200, 300))[groups]
    features += 0.01 * rng.normal(size=features.shape)
    rows = np.arange(len(groups))
    leaky = [(rows[rows % 3 > 0], rows[rows % 3 == 0])]
    assert probe(features, target, rows, splits=leaky).score > 0.9
    assert abs(probe(features, target, groups).score - 0.5) < 0.15


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**31), n_classes=st.integers(2, 5))
def test_chance_is_one_over_the_number_of_classes(seed, n_classes):
    """Constant features: the probe predicts the most frequent class.

    Of classes of about the same size, each fold predicted another one, which is the
    rarer one in its test set: by chance the score was below the tolerance.
    """
    rng = np.random.default_rng(seed)
    sizes = rng.integers(4, 20, n_classes)
    sizes[0] += 30
    target = np.repeat(np.arange(n_classes), sizes)
    found = probe(np.ones((len(target), 2)), target, np.arange(len(target)))
    assert_allclose(found.chance, 1 / n_classes)
    assert_allclose(found.score, found.chance)


def test_a_class_in_one_group_is_left_out():
    target = np.repeat([0, 1, 2], 20)
    groups = np.where(target == 2, 0, np.arange(60) % 2)
    noise = 0.01 * np.random.default_rng(0).normal(size=(60, 3))
    assert probe(np.eye(3)[target] + noise, target, groups) == (1.0, 0.5)


@pytest.mark.parametrize(
    ("target", "groups"), [([0, 0, 0, 0], [0, 1, 2, 3]), ([0, 0, 1, 1], [0, 0, 1, 1])]
)
def test_what_cannot_be_probed_is_missing(target, groups):
    found = probe(np.eye(4), target, groups)
    assert np.isnan(found).all() and np.isnan(found.ratio)


def test_refuses_groups_on_both_sides_and_lengths():
    rows = np.arange(4)
    splits = [(rows[:3], rows[3:])]
    with pytest.raises(ValueError, match="No group may be on both sides"):
        probe(np.eye(4), [0, 1, 0, 1], [0, 1, 2, 2], splits=splits)
    with pytest.raises(ValueError, match="have 4, 3 and 4"):
        probe(np.eye(4), [0, 1, 0], [0, 1, 2, 2])


def test_thinned_out_rows_span_all():
    rows = np.arange(10_001) * 2
    thin = thin_out(rows)
    assert len(thin) == 2000 and {0, 20_000} <= {*thin.tolist()}
    assert_array_equal(thin_out(rows[:100]), rows[:100])


# -- features of pipelines -----------------------------------------------------


def test_features_are_the_input_of_the_classifier():
    X = np.random.default_rng(0).normal(size=(12, 2, 3))
    y = np.arange(12) % 2
    pipeline = make_linear()
    search = GridSearchCV(pipeline, {"logisticregression__C": [1.0]}, cv=2)
    expected = StandardScaler().fit_transform(flatten(X))
    for estimator in (pipeline.fit(X, y), search.fit(X, y)):
        assert_allclose(extract_features(estimator, X), expected)
    assert extract_features(DummyClassifier().fit(X, y), X) is None


@pytest.mark.filterwarnings("ignore")
def test_features_of_a_network():
    X = np.random.default_rng(0).normal(size=(40, 4, 128)).astype(np.float32)
    y = np.arange(40) % 2
    network = SSLClassifier(
        "SCMM",
        sfreq=128.0,
        objective=None,
        finetune_steps=1,
        batch_size=8,
        random_state=0,
    )
    pipeline = make_pipeline(FunctionTransformer(np.negative), network).fit(X, y)
    features = extract_features(pipeline, X)
    assert features.ndim == 2 and len(features) == 40
    assert_allclose(extract_features(pipeline[-1], -X), features)
    head = [*pipeline[-1].net_.module_.children()][-1]
    assert features.shape[1] != 2 and head is not None


# -- in an evaluation ----------------------------------------------------------


class Counting(ClassifierMixin, BaseEstimator):
    n_fits = 0

    def fit(self, X, y):
        type(self).n_fits += 1
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])


def test_columns(toy, paradigm):
    """Features that are differential entropy are read like differential entropy."""
    pipelines = with_baselines({"a": Counting()})
    table = evaluate(pipelines, [toy], paradigm, LOSO, random_state=0, probes=True)
    columns = {
        f"{prefix}_{target}{end}"
        for prefix in ("probe", "probe_de")
        for target in PROBED
        for end in ("", "_ratio")
    } | {f"probe_{target}_chance" for target in PROBED}
    assert {name for name in table if name.startswith("probe")} == columns
    rows = {name: part.iloc[0] for name, part in table.groupby("pipeline")}
    linear, other = rows["DE + logistic regression"], rows["a"]
    for target, n_classes in (("subject", 3), ("session", 2), ("label", 2)):
        assert_allclose(linear[f"probe_{target}_chance"], 1 / n_classes)
        assert_allclose(linear[f"probe_{target}"], linear[f"probe_de_{target}"])
        assert_allclose(other[f"probe_de_{target}"], linear[f"probe_de_{target}"])
        assert np.isnan(other[f"probe_{target}"])
        assert_allclose(
            linear[f"probe_{target}_ratio"], n_classes * linear[f"probe_{target}"]
        )
    assert_allclose(linear["probe_stimulus_chance"], 1 / 12)
    assert linear["probe_label"] > 0.6


def test_one_subject_cannot_be_probed(toy, paradigm):
    table = evaluate(
        {"linear": make_linear()},
        [toy],
        paradigm,
        "within-session",
        n_splits=3,
        random_state=0,
        probes=True,
    )
    for target in ("subject", "session", "stimulus"):
        assert table[f"probe_{target}"].isna().all()
    assert table["probe_label"].notna().all()


def test_folds_without_probes_are_run_again(toy, paradigm, tmp_path):
    counts = []
    for probes in (False, True, True, False):
        before = Counting.n_fits
        table = evaluate(
            {"a": Counting()},
            [toy],
            paradigm,
            LOSO,
            random_state=0,
            results_dir=tmp_path,
            probes=probes,
        )
        counts.append(Counting.n_fits - before)
        assert ("probe_label" in table) is probes
    assert counts == [3, 3, 0, 0]
    assert len([*tmp_path.glob("*/*/pipeline.json")]) == 1


def test_probes_must_be_a_bool(toy, paradigm):
    with pytest.raises(ValueError, match="probes must be True or False"):
        evaluate({"a": Counting()}, [toy], paradigm, LOSO, probes="all")


# -- features before and after pre-training ------------------------------------


def make_pretrained():
    network = SSLClassifier(
        "SCMM",
        model__input_domain="de",
        sfreq=128.0,
        pretrain_steps=2,
        finetune_steps=1,
        random_state=0,
    )
    return make_pipeline(FunctionTransformer(), network)


@pytest.mark.filterwarnings("ignore")
def test_the_diagnosis_of_a_pipeline_is_that_of_its_pretrainer(toy, paradigm):
    X, y, metadata = paradigm.get_data(toy)
    network = make_pretrained()[-1].fit(X, y, metadata=metadata)
    pipeline = make_pipeline(FunctionTransformer(), network)
    # All windows, of which there are fewer than fit diagnoses at most.
    found = network.pretrainer_.diagnose(X, metadata)
    expected = {
        f"{name}_{stage}": found[stage][name]
        for name in ("rank", "subject", "stimulus")
        for stage in ("before", "after")
    }
    assert read_diagnosis(pipeline) == pytest.approx(expected)
    assert read_diagnosis(network.set_params(objective=None).fit(X, y)) is None
    assert read_diagnosis(make_linear().fit(X, y)) is None


@pytest.mark.filterwarnings("ignore")
def test_the_table_has_the_diagnosis_of_pretraining(toy, paradigm, tmp_path):
    """A falling loss was all that an evaluation showed of its pre-trainings."""
    pipelines = {"SCMM": make_pretrained(), "linear": make_linear()}
    tables = [
        evaluate(pipelines, [toy], paradigm, LOSO, random_state=0, results_dir=tmp_path)
        for _ in range(2)  # the second reads the folds
    ]
    assert_array_equal(*(table["rank_after"] for table in tables))
    table = tables[0].set_index("pipeline")
    names = ("rank_before", "rank_after", "subject_before", "subject_after")
    assert table.loc["SCMM", [*names]].notna().all(axis=None)
    assert table.loc["linear", [*names]].isna().all(axis=None)
    (stored,) = read_evaluations(tmp_path)
    first, second = stored.pipelines
    assert len(first.diagnosis) == 3 and not len(second.diagnosis)
    assert_allclose(
        first.diagnosis["rank_after"], table.loc["SCMM", "rank_after"].unique()
    )
