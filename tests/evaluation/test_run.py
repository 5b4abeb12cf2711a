"""evaluate(): each protocol, its table, what it refuses, what a fit is given."""

from __future__ import annotations

import shutil
import warnings

import numpy as np
import pandas as pd
import pytest
from mne.decoding import Vectorizer
from moabb.datasets.base import LocalBIDSDataset
from moabb.evaluations import (
    CrossSessionEvaluation,
    CrossSubjectEvaluation,
    WithinSessionEvaluation,
)
from moabb.paradigms import LeftRightImagery
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import AdaBoostClassifier, StackingClassifier
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.metrics import balanced_accuracy_score, make_scorer
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from braindecode_emossl.datasets import SEED, write_replica
from braindecode_emossl.errors import FoldError
from braindecode_emossl.evaluation import (
    PROTOCOLS,
    TrialKFold,
    evaluate,
    read_predictions,
)
from braindecode_emossl.evaluation.baselines import EEGBandFeatures
from braindecode_emossl.paradigms import Emotion

ONE_CORPUS = [name for name, p in PROTOCOLS.items() if not p.across_corpora]
COLUMNS = {
    "score": "f",
    "time": "f",
    "samples": "f",
    "samples_test": "f",
    "n_classes": "i",
    "n_trials_test": "i",
    "accuracy": "f",
    "balanced_accuracy": "f",
    "f1_macro": "f",
    "kappa": "f",
    "score_trial": "f",
    "balanced_accuracy_trial": "f",
    "f1_macro_trial": "f",
    "kappa_trial": "f",
    "recall_calm": "f",
    "recall_wild": "f",
    "roc_auc": "f",
    "ece": "f",
    "brier": "f",
    "seed": "i",
    "n_labeled_trials": "i",
    "target_access": "O",
    "regime": "O",
    "control": "O",
    "control_part": "O",
    "channels": "i",
    "n_sessions": "i",
    "subject": "O",
    "session": "O",
    "dataset": "O",
    "pipeline": "O",
    "protocol": "O",
    "train_corpora": "O",
}
KEYS = ["pipeline", "subject", "session"]


class Spy(ClassifierMixin, BaseEstimator):
    """Remember what the folds gave; predict the first class."""

    seen: list = []  # noqa: RUF012

    def __init__(self, strength=1.0):
        self.strength = strength

    def fit(self, X, y):
        self.seen.append({"X": X, "y": y, "strength": self.strength})
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])


class Diverged(Spy):
    def predict_proba(self, X):
        return np.full((len(X), 2), np.nan)


class AsksForSubjects(Spy):
    seen: list = []  # noqa: RUF012
    __metadata_request__fit = {"subjects": True}  # noqa: RUF012

    def fit(self, X, y, subjects=None):
        self.seen.append({"X": X, "subjects": subjects})
        self.classes_ = np.unique(y)
        return self


class AsksForCalibration(Spy):
    seen: list = []  # noqa: RUF012
    __metadata_request__fit = {  # noqa: RUF012
        "subjects": True,
        "X_target_labeled": True,
        "y_target_labeled": True,
    }

    def fit(self, X, y, subjects=None, X_target_labeled=None, y_target_labeled=None):
        self.seen.append(
            {
                "X": X,
                "y": y,
                "subjects": subjects,
                "X_cal": X_target_labeled,
                "y_cal": y_target_labeled,
            }
        )
        self.classes_ = np.unique(y)
        return self


@pytest.fixture(autouse=True)
def forget():
    for spy in (Spy, AsksForSubjects, AsksForCalibration):
        spy.seen.clear()


def run(pipeline, corpus, paradigm, protocol="leave-one-subject-out", **kwargs):
    corpora = corpus if isinstance(corpus, list) else [corpus]
    kwargs = {"random_state": 0} | kwargs
    return evaluate({"pipeline": pipeline}, corpora, paradigm, protocol, **kwargs)


def rows_of(X, given):
    """Return the numbers of given windows, all of which differ."""
    flat = {x.tobytes(): row for row, x in enumerate(X)}
    return [flat[np.ascontiguousarray(x).tobytes()] for x in given]


# -- each protocol -------------------------------------------------------------


@pytest.mark.parametrize("protocol", ONE_CORPUS)
def test_table(protocol, toy, paradigm, classifier, tmp_path, options_of):
    """One row a recording, in order, and scores as computed by hand."""
    table = run(
        classifier,
        toy,
        paradigm,
        protocol,
        results_dir=tmp_path,
        **options_of(protocol),
    )

    assert set(table) == set(COLUMNS)
    for name, kind in COLUMNS.items():
        if kind == "O":
            assert all(isinstance(value, str) for value in table[name]), name
        else:
            assert table[name].dtype.kind == kind, name
    tested = list(zip(table["subject"], table["session"], strict=True))
    everything = [(subject, key) for subject in ("1", "2", "10") for key in "01"]
    if protocol == "subject-split":
        assert [key for _, key in tested] == ["0", "1"]
        assert len({subject for subject, _ in tested}) == 1
    else:
        assert tested == everything
    assert (table["protocol"] == protocol).all()
    assert (table["train_corpora"] == "Toy").all()
    assert (table["n_sessions"] == 2).all() and (table["channels"] == 4).all()

    predictions = read_predictions(tmp_path)
    ids = ["subject", "session", "trial", "window"]
    assert not predictions.duplicated(ids).any()
    assert len(predictions) == 3 * table["n_trials_test"].sum()
    n_test = {
        "chronological": [2] * 6,
        "subject-calibration": [4, 6] * 3,
        "subject-split": [6] * 2,
    }
    assert table["n_trials_test"].tolist() == n_test.get(protocol, [6] * 6)
    assert table[["seed", "n_labeled_trials"]].isna().all(axis=None)
    calibrated = protocol == "subject-calibration"
    assert set(table["target_access"]) == {"calibration" if calibrated else "none"}
    truth = paradigm.get_data(toy)
    merged = predictions.merge(truth[2].assign(y=truth[1]), on=ids)
    assert len(merged) == len(predictions)
    assert_array_equal(merged["label"], merged["y"])
    proba = predictions[["proba_calm", "proba_wild"]].to_numpy()
    assert_allclose(proba.sum(axis=1), 1.0)
    for _, row in table.iterrows():
        part = predictions[
            (predictions["subject"].astype(str) == row["subject"])
            & (predictions["session"] == row["session"])
        ]
        right = part["label"] == part["predicted"]
        assert_allclose(row["accuracy"], right.mean())
        wild = part.groupby("trial")["proba_wild"].mean() > 0.5
        label = part.groupby("trial")["label"].first()
        assert_allclose(row["score_trial"], ((label == "wild") == wild).mean())


@pytest.mark.parametrize(
    ("protocol", "options", "evaluation", "settings"),
    [
        ("leave-one-subject-out", {}, CrossSubjectEvaluation, {}),
        ("cross-session", {}, CrossSessionEvaluation, {}),
        (
            "within-session",
            {"n_splits": 3},
            WithinSessionEvaluation,
            {"groups": "trial", "cv_class": TrialKFold, "n_splits": 3},
        ),
    ],
)
@pytest.mark.parametrize("scorer", [None, ["balanced_accuracy", "f1_macro"]])
def test_scores_are_those_of_moabb(
    protocol, options, evaluation, settings, scorer, toy, fast, classifier, tmp_path
):
    """Of several metrics the table had no ``score``, and lost the first for its own."""
    paradigm = Emotion(**fast, scorer=scorer)
    ours = run(classifier, toy, paradigm, protocol, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = evaluation(
            paradigm=paradigm,
            datasets=[toy],
            random_state=0,
            hdf5_path=str(tmp_path),
            **settings,
        ).process({"pipeline": classifier})
    names = ["score", *(f"score_{name}" for name in scorer or ())]
    both = ours.merge(theirs, on=KEYS, suffixes=("", "_moabb"), validate="1:1")
    assert len(both) == len(ours) == len(theirs) == 6
    for name in names:
        # MOABB keeps 32 bits.
        assert_allclose(both[name], both[f"{name}_moabb"], rtol=0, atol=1e-6)


def test_seed_as_with_moabb(tmp_path):
    options = {"subjects": [1, 2], "sessions": [0, 1], "seconds": 4, "seed": 0}
    root = write_replica("SEED", tmp_path / "seed", effect_size=4, **options)
    corpus = SEED([1, 2], sessions=[0, 1], path=root)
    paradigm = Emotion(window=1.0, features="de")
    pipeline = make_pipeline(
        Vectorizer(), StandardScaler(), LogisticRegression(max_iter=500)
    )
    ours = run(pipeline, corpus, paradigm, results_dir=tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = CrossSubjectEvaluation(
            paradigm=paradigm, datasets=[corpus], hdf5_path=str(tmp_path / "moabb")
        ).process({"pipeline": pipeline})
    both = ours.merge(theirs, on=KEYS, validate="1:1", suffixes=("", "_moabb"))
    assert_allclose(both["score"], both["score_moabb"], rtol=0, atol=1e-6)
    assert len(both) == 4 and (both["n_trials_test"] == 15).all()
    assert both["score_trial"].mean() > 0.5  # chance is a third


@pytest.mark.parametrize("effect", [0.0, 3.0])
@pytest.mark.parametrize("protocol", ONE_CORPUS)
def test_chance_without_effect(protocol, effect, toy, paradigm, classifier, options_of):
    toy.effect = effect
    table = run(classifier, toy, paradigm, protocol, **options_of(protocol))
    n_trials = table["n_trials_test"].sum()
    score = np.average(table["score_trial"], weights=table["n_trials_test"])
    error = np.sqrt(0.25 / n_trials)
    if effect:
        assert score > 0.5 + 3 * error
    else:
        assert abs(score - 0.5) <= 3 * error


# -- pipelines of all kinds ----------------------------------------------------


def test_without_probabilities(toy, paradigm, tmp_path):
    """The votes of a classifier without probabilities are ones and zeros."""
    pipeline = make_pipeline(Vectorizer(), RidgeClassifier())
    table = run(pipeline, toy, paradigm, results_dir=tmp_path)
    predictions = read_predictions(tmp_path)
    votes = predictions[["proba_calm", "proba_wild"]].to_numpy()
    assert set(votes.ravel()) == {0.0, 1.0}
    assert_array_equal(
        np.array(["calm", "wild"])[votes.argmax(axis=1)], predictions["predicted"]
    )
    assert_allclose(table["score"], table["accuracy"])


def test_own_threshold(toy, paradigm, tmp_path):
    """The largest probability counted, not what the classifier predicts."""
    pipeline = FixedThresholdClassifier(
        make_pipeline(Vectorizer(), LogisticRegression()), threshold=1.0
    )
    table = run(pipeline, toy, paradigm, results_dir=tmp_path)
    assert set(read_predictions(tmp_path)["predicted"]) == {"calm"}
    assert_allclose(table["score"], 0.5)
    assert_allclose(table["accuracy"], table["score"])


def test_probabilities_that_are_no_numbers(toy, paradigm):
    """They were taken for a class of probability 0, without a word."""
    with pytest.raises(FoldError, match=r"'pipeline' failed .* finite numbers"):
        run(Diverged(), toy, paradigm)


def test_callable_metric(toy, fast, classifier):
    paradigm = Emotion(**fast, scorer=make_scorer(balanced_accuracy_score))
    table = run(classifier, toy, paradigm)
    assert_allclose(table["score"], table["balanced_accuracy"])


def test_several_pipelines_and_corpora(make_toy, toy, paradigm, classifier):
    other = type("ToyC", (type(toy),), {"code_name": "ToyC"})
    pipelines = {"logistic": classifier, "dummy": DummyClassifier()}
    table = evaluate(
        pipelines,
        [toy, make_toy(other, subjects=[1, 2])],
        paradigm,
        "leave-one-subject-out",
    )
    counts = table.groupby(["dataset", "pipeline"], sort=False).size()
    assert counts.to_dict() == {
        ("Toy", "logistic"): 6,
        ("Toy", "dummy"): 6,
        ("ToyC", "logistic"): 4,
        ("ToyC", "dummy"): 4,
    }


# -- what a fit is given -------------------------------------------------------


def test_subjects_are_given_to_who_asks(toy, paradigm):
    run(AsksForSubjects(), toy, paradigm)
    X, _, metadata = paradigm.get_data(toy)
    assert len(AsksForSubjects.seen) == 3
    for fold, left_out in zip(AsksForSubjects.seen, [1, 2, 10], strict=True):
        rows = rows_of(X, fold["X"])
        assert set(rows) == set(np.flatnonzero(metadata["subject"] != left_out))
        assert_array_equal(fold["subjects"], metadata["subject"].to_numpy()[rows])


@pytest.mark.parametrize("asks", [False, True])
def test_calibration(asks, toy, toy_b, paradigm):
    """The first trials of each recording go to who asks, or train with the others."""
    spy = AsksForCalibration if asks else Spy
    run(
        spy(),
        [toy, toy_b],
        paradigm,
        "cross-corpus-finetune",
        test_corpora="Toy",
        train_size=2,
        channels="union",
    )
    matched = Emotion(**(vars_of(paradigm)))
    matched.match_all([toy, toy_b], channel_merge_strategy="union")
    X_a, y_a, metadata = matched.get_data(toy)
    X_b, _, _ = matched.get_data(toy_b)
    assert len(spy.seen) == 3  # one fold a subject
    for fold, subject in zip(spy.seen, [1, 2, 10], strict=True):
        wanted = np.flatnonzero(
            (metadata["subject"] == subject) & (metadata["trial"] < 2)
        )
        n_b = len(X_b)
        assert_array_equal(rows_of(X_b, fold["X"][:n_b]), np.arange(n_b))
        if asks:
            assert len(fold["X"]) == len(fold["subjects"]) == n_b
            assert_array_equal(rows_of(X_a, fold["X_cal"]), wanted)
            names = np.array(["calm", "wild"])[fold["y_cal"]]
            assert_array_equal(names, y_a[wanted])
        else:
            assert_array_equal(rows_of(X_a, fold["X"][n_b:]), wanted)
            names = np.array(["calm", "wild"])[fold["y"][n_b:]]
            assert_array_equal(names, y_a[wanted])


def vars_of(paradigm):
    names = ("fmin", "fmax", "window", "resample", "features")
    return {name: getattr(paradigm, name) for name in names}


def test_search_is_grouped_by_trial(toy, paradigm):
    """MOABB's own inner search shuffles windows: a trial is on both sides of it."""
    grid = {"strength": [0.1, 10.0]}
    run(Spy(), toy, paradigm, param_grid={"pipeline": grid})
    X, y, metadata = paradigm.get_data(toy)
    ids = metadata[["subject", "session", "trial"]].astype(str).agg(" ".join, axis=1)
    # For each of 3 folds: 2 values on 3 inner folds, then the best on all.
    assert [s["strength"] for s in Spy.seen] == [*[0.1] * 3, *[10.0] * 3, 0.1] * 3
    for fold in range(3):
        *inner, refit = Spy.seen[7 * fold : 7 * fold + 7]
        all_trials = ids[rows_of(X, refit["X"])]
        for part in inner:
            rows = rows_of(X, part["X"])
            counts = ids[rows].value_counts()
            assert (counts == 3).all()  # whole trials
            assert set(counts.index) < set(all_trials)
            assert len(set(y[rows])) == 2
        left_out = [set(all_trials) - set(ids[rows_of(X, p["X"])]) for p in inner[:3]]
        assert set.union(*left_out) == set(all_trials)
        assert sum(map(len, left_out)) == len(set(all_trials))


def test_search_is_reproducible(toy, paradigm, classifier):
    """A list of grids, as scikit-learn takes it, was refused."""
    grid = [{"logisticregression__C": [1e-4, 1.0]}, {"logisticregression__C": [30.0]}]
    first, second = (
        run(classifier, toy, paradigm, param_grid={"pipeline": grid}) for _ in range(2)
    )
    pd.testing.assert_frame_equal(
        first.drop(columns="time"), second.drop(columns="time")
    )


# -- what is refused -----------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"protocol": "loso"}, "protocol must be one of .*'loso'"),
        ({"n_split": 3}, "must be among .*'n_split'"),
        ({"datasets": []}, r"each of them once, but got \[\]"),
        ({"datasets": ["SEED"]}, "datasets must hold corpora, but got 'SEED'"),
        ({"paradigm": "emotion"}, "paradigm must be an Emotion, but got 'emotion'"),
        ({"pipelines": {}}, "at least one classifier by name, but got {}"),
        (
            {"pipelines": {"a": StandardScaler()}},
            "'a' must be a scikit-learn",
        ),
        ({"pipelines": {"a": Ridge()}}, "'a' must be a scikit-learn classifier"),
        ({"pipelines": {"a": "SCMM"}}, "'a' must be a scikit-learn .* got 'SCMM'"),
        ({"overwrite": "no"}, "overwrite must be True or False, but got 'no'"),
        ({"resume": "no"}, "resume must be True or False, but got 'no'"),
        ({"param_grid": {"b": {}}}, r"param_grid must name .*\['b'\]"),
        ({"param_grid": {"a": {"C": [1]}}}, "param_grid of the pipeline 'a': .*'C'"),
        ({"param_grid": {"a": 3}}, "param_grid of the pipeline 'a': 'int'"),
        ({"seeds": 0.5}, r"integers from 0 to 2\*\*32 - 1, but got 0.5"),
        ({"seeds": [-1]}, r"but got \[-1\]"),
        ({"random_state": -1}, "random_state must be .*, but got -1"),
        ({"random_state": True}, "random_state must be .*, but got True"),
        ({"n_labeled_trials": 2.0}, "n_labeled_trials must be .*, but got 2.0"),
        ({"n_jobs": "2"}, "n_jobs must be an integer other than 0, but got '2'"),
        ({"paradigm": LeftRightImagery()}, "paradigm must be an Emotion"),
        ({"shard": 3}, "shard must be .*, but got 3"),
        ({"shard": (2, 2)}, r"shard must be .*, but got \(2, 2\)"),
        ({"shard": (0, 2)}, "shard needs results_dir"),
        ({"shard": (0, 2), "results_dir": "x", "random_state": None}, "random_state="),
        (
            {"shard": (0, 2), "results_dir": "x", "overwrite": True},
            "shard needs resume=True and overwrite=False",
        ),
        ({"protocol": "cross-corpus"}, r"at least two corpora, but got \['Toy'\]"),
    ],
)
def test_refused_arguments(changes, message, toy, paradigm, classifier, tmp_path):
    """With ``overwrite`` one shard deleted the finished folds of another."""
    arguments = {
        "pipelines": {"a": classifier},
        "datasets": [toy],
        "paradigm": paradigm,
        "protocol": "within-session",
        "random_state": 0,
    } | changes
    if "results_dir" in arguments:
        arguments["results_dir"] = tmp_path / "results"
    with pytest.raises(ValueError, match=message):
        evaluate(**arguments)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("protocol", "arguments", "options", "message"),
    [
        ("leave-one-subject-out", {"subjects": [2]}, {}, r"two subjects.*Toy has \[2"),
        ("subject-stimulus", {"subjects": [2]}, {}, r"two subjects.*Toy has \[2"),
        ("cross-session", {"sessions": [1]}, {}, "Toy, subject 1, session 1.*second"),
        ("within-session", {}, {"n_splits": 7}, "divide Toy, subject 1: .*7 folds"),
        ("within-session", {}, {"adapt": "all"}, "adapt must be .*'all'"),
        ("chronological", {}, {"train_size": 1.5}, "train_size must .*1.5"),
        ("chronological", {}, {"train_size": 1}, "Toy, subject 1: .*two classes"),
    ],
)
def test_corpora_that_do_not_suit(
    protocol, arguments, options, message, make_toy, paradigm, classifier
):
    """Of a single session asked for, ``cross-session`` gave an empty table."""
    with pytest.raises(ValueError, match=message):
        run(classifier, make_toy(**arguments), paradigm, protocol, **options)


def test_target_that_the_corpus_lacks(seed_root, fast, classifier):
    with pytest.raises(ValueError, match=r"SEED has no labels of .*'arousal'"):
        run(classifier, SEED(path=seed_root), Emotion("arousal", **fast))


@pytest.mark.parametrize("kind", [AdaBoostClassifier, StackingClassifier])
def test_ensembles(kind, toy, paradigm):
    """AdaBoost routes no metadata; a stack has no ``predict`` before it is fitted."""
    last = (
        kind(estimators=[("a", LogisticRegression())], cv=2)
        if kind is (StackingClassifier)
        else kind(n_estimators=2)
    )
    assert len(run(make_pipeline(Vectorizer(), last), toy, paradigm)) == 6


def flatten(raw, subject, session, run):
    """Leave nothing of a raw but noise."""
    noise = np.random.default_rng(0).normal(size=(len(raw.ch_names), len(raw.times)))
    return raw.load_data().apply_function(lambda _: 1e-5 * noise, channel_wise=False)


def test_mapped_raws_are_another_corpus(toy, paradigm, classifier, tmp_path):
    """Scores of the corpus itself were found for signals that were replaced."""
    tables = [
        run(classifier, corpus, paradigm, results_dir=tmp_path)
        for corpus in (toy, toy.map_raws(flatten))
    ]
    assert (tables[0]["score"] != tables[1]["score"]).any()


def test_scorers_name_the_pipeline_that_lacks_probabilities(toy, fast):
    """The message was "_Responses has none of the following attributes"."""
    paradigm = Emotion(**fast, scorer="neg_log_loss")
    pipeline = make_pipeline(Vectorizer(), RidgeClassifier())
    with pytest.raises(FoldError, match=r"Pipeline has none of .*: predict_proba"):
        run(pipeline, toy, paradigm)


def test_sessions_by_number_or_by_name(make_toy, paradigm, classifier, tmp_path):
    """Session 0 was another corpus than session "0"."""
    for sessions in ([0, 1], ["1", "0"]):
        corpus = make_toy(sessions=sessions)
        run(classifier, corpus, paradigm, results_dir=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_channels_of_a_pipeline_must_be_those_of_the_windows(toy, paradigm):
    """Arrays have no names, so that channels in another order went unnoticed."""
    chs_info = paradigm.get_info(toy)["chs"][::-1]
    pipeline = make_pipeline(EEGBandFeatures(chs_info=chs_info), LogisticRegression())
    with pytest.raises(ValueError, match=r"chs_info .*'Fz', .* names \['Oz'"):
        run(pipeline, toy, paradigm)


def test_a_bids_copy_counts_by_its_contents(make_toy, tmp_path, fast, classifier):
    """It counted by its path: a copy ran again, and changed signals went unnoticed."""
    corpus = make_toy(subjects=[1, 2], sessions=[0])
    root = corpus.convert_to_bids(path=tmp_path / "a")
    copied = shutil.copytree(root, tmp_path / "b")
    finished = []
    for place in (root, copied, copied):
        bids = LocalBIDSDataset(
            place,
            subjects=[1, 2],
            events=corpus.event_id,
            interval=corpus.interval,
            paradigm="emotion",
            code="LocalBIDSDataset-Toy",
        )
        paradigm = Emotion(**fast)
        run(classifier, bids, paradigm, results_dir=tmp_path / "results")
        finished.append(len(list(tmp_path.glob("results/*/*/*.parquet"))))
        if place == copied:
            file = next(copied.rglob("*_eeg.edf"))
            file.write_bytes(file.read_bytes()[:-2] + b"\1\1")
    assert finished == [2, 2, 4]


@pytest.mark.parametrize("where", ["pipeline", "scorer", "param_grid"])
def test_lambdas(where, toy, fast, classifier):
    """Two lambdas are alike by name: the second metric got the scores of the first."""

    def scorer(estimator, X, y):
        return 0.0

    paradigm, grids = Emotion(**fast), None
    if where == "scorer":
        paradigm = Emotion(**fast, scorer=scorer)
    elif where == "param_grid":
        grids = {"pipeline": {"logisticregression__C": [scorer]}}
    else:
        classifier = make_pipeline(Vectorizer(), DummyClassifier(constant=scorer))
    with pytest.raises(ValueError, match=r"(?s)must be picklable.*instead of lambdas"):
        run(classifier, toy, paradigm, param_grid=grids)


def test_a_broken_subject_is_left_out(make_toy, toy, paradigm, classifier):
    """One broken subject ended all protocols within subjects, on_error or not."""

    class Broken(type(toy)):
        def _read_recording(self, file, session):
            if file.stem.startswith("2_"):
                self._broken(f"{file} is broken.")
                return
            yield from super()._read_recording(file, session)

        def _read_trials(self, file, session):
            broken = file.stem.startswith("2_")
            return {} if broken else super()._read_trials(file, session)

    table = run(
        classifier, make_toy(Broken, on_error="warn"), paradigm, "cross-session"
    )
    assert sorted(set(table["subject"])) == ["1", "10"]
    with pytest.raises(ValueError, match="is broken"):
        run(classifier, make_toy(Broken), paradigm, "cross-session")


def test_progress(toy, paradigm, classifier):
    calls = []
    run(
        classifier,
        toy,
        paradigm,
        "cross-session",
        on_fold=lambda *call: calls.append(call),
    )
    assert calls == [("Toy", number, 6) for number in range(1, 7)]


def test_progress_of_a_resumed_evaluation(toy, paradigm, classifier, tmp_path):
    """It never reached its end, as finished folds of later subjects were counted."""
    calls = []
    how = {"results_dir": tmp_path, "random_state": 0}
    run(classifier, toy, paradigm, "cross-session", shard=(2, 3), **how)
    run(
        classifier,
        toy,
        paradigm,
        "cross-session",
        on_fold=lambda *call: calls.append(call),
        **how,
    )
    assert calls == [("Toy", number, 4) for number in range(1, 5)]


def test_random_state_objects(toy, paradigm, classifier, tmp_path):
    """It and NumPy's integers are what their numbers are."""
    table = run(
        classifier,
        toy,
        paradigm,
        "within-session",
        n_splits=np.int64(3),
        random_state=np.random.RandomState(3),
        results_dir=tmp_path,
    )
    again = run(
        classifier,
        toy,
        paradigm,
        "within-session",
        n_splits=3,
        random_state=np.random.RandomState(3),
        results_dir=tmp_path,
    )
    assert len(list(tmp_path.glob("Toy_*"))) == 1
    pd.testing.assert_frame_equal(table, again)


def test_subjects_without_labels_are_named(toy, make_toy, fast):
    """They were not tested, without a word."""

    class Undecided(type(toy)):
        def _read_trials(self, file, session):
            runs = super()._read_trials(file, session)
            for trial in runs["0"] if file.stem.startswith("2_") else ():
                trial.ratings["valence"] = 5.0
            return runs

    corpus = make_toy(Undecided)
    paradigm = Emotion(**fast | {"target": "valence", "margin": 1.0})
    with pytest.warns(UserWarning, match=r"Left out: .* subjects \[2\] of Toy has"):
        table = evaluate(
            {"a": DummyClassifier()}, [corpus], paradigm, "leave-one-subject-out"
        )
    assert set(table["subject"]) == {"1", "10"}


def test_only_the_score_that_is_not_defined_is_missing(toy, fast):
    """All scores of the recording were missing."""
    paradigm = Emotion(**fast, scorer=["accuracy", "neg_log_loss"])
    how = {"train_size": 5, "random_state": 0}
    with pytest.warns(UserWarning, match="not defined, and NaN: score_neg_log_loss"):
        table = evaluate(
            {"a": DummyClassifier()}, [toy], paradigm, "chronological", **how
        )
    assert table["score_neg_log_loss"].isna().all()
    assert_array_equal(table["score"], table["score_accuracy"])
    assert table["score"].notna().all()
