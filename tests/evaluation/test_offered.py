"""The fit parameters that evaluate() offers: labels withheld, metadata, held out."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from mne.decoding import Vectorizer
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from braindecode_emossl.errors import FoldError
from braindecode_emossl.evaluation import PROTOCOLS, evaluate
from braindecode_emossl.paradigms import Emotion

from .conftest import RATINGS, Toy, ToyB

ONE_CORPUS = [name for name, p in PROTOCOLS.items() if not p.across_corpora]
ASKED = (
    "metadata",
    "subjects",
    "X_unlabeled",
    "metadata_unlabeled",
    "X_target_labeled",
    "y_target_labeled",
    "X_target_unlabeled",
    "X_val",
    "y_val",
    "held_out",
)


class Asks(ClassifierMixin, BaseEstimator):
    """Ask for everything, remember it, and predict the first class."""

    seen: list = []  # noqa: RUF012
    __metadata_request__fit = dict.fromkeys(ASKED, True)

    def __init__(self, random_state=None):
        self.random_state = random_state

    def fit(
        self,
        X,
        y,
        metadata=None,
        subjects=None,
        X_unlabeled=None,
        metadata_unlabeled=None,
        X_target_labeled=None,
        y_target_labeled=None,
        X_target_unlabeled=None,
        X_val=None,
        y_val=None,
        held_out=None,
    ):
        given = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        self.seen.append({"seed": self.random_state, **given})
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])


class TakesLabels(Asks):
    """Ask for nothing."""

    seen: list = []  # noqa: RUF012
    __metadata_request__fit = dict.fromkeys(ASKED, False)


@pytest.fixture(autouse=True)
def forget():
    Asks.seen.clear()
    TakesLabels.seen.clear()


def run(pipeline, corpus, paradigm, protocol="leave-one-subject-out", **kwargs):
    kwargs = {"random_state": 0} | kwargs
    return evaluate({"pipeline": pipeline}, [corpus], paradigm, protocol, **kwargs)


class Known:
    """The windows of some corpora, which are recognised by their values."""

    def __init__(self, paradigm, *corpora):
        parts = [paradigm.get_data(corpus, unlabeled=True) for corpus in corpora]
        self.metadata = pd.concat([m for *_, m in parts], ignore_index=True)
        self.y = np.concatenate([y for _, y, _ in parts])
        rows = [x for X, *_ in parts for x in X]
        self._row = {x.tobytes(): i for i, x in enumerate(rows)}

    def rows(self, X):
        """Return the metadata of windows that were given to a fit."""
        if X is None:
            return self.metadata.iloc[:0]
        return self.metadata.iloc[
            [self._row[np.ascontiguousarray(x).tobytes()] for x in X]
        ]


def subjects_in(rows):
    return set(zip(rows["corpus"], rows["subject"], strict=True))


# -- metadata ------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ONE_CORPUS)
def test_metadata_are_those_of_the_windows(protocol, toy, paradigm, options_of):
    """The first edition offered ``subjects`` alone, and that under few protocols."""
    run(Asks(), toy, paradigm, protocol, **options_of(protocol))
    known = Known(paradigm, toy)
    for fit in Asks.seen:
        rows = known.rows(fit["X"]).reset_index(drop=True)
        pd.testing.assert_frame_equal(fit["metadata"], rows)
        assert (fit["subjects"] == rows["subject"]).all()
        tested = set(fit["held_out"].itertuples(index=False, name=None))
        assert {corpus for corpus, *_ in tested} == {"Toy"}
        if "subject" in PROTOCOLS[protocol].never_shared:
            assert not {s for _, s, _ in tested} & set(rows["subject"])
        if PROTOCOLS[protocol].never_shared == ("session",):
            sessions = set(zip(rows["subject"], rows["session"], strict=True))
            assert not {(s, k) for _, s, k in tested} & sessions


def test_inside_a_pipeline(toy, paradigm):
    """Windows pass through the earlier steps, metadata do not."""
    pipeline = make_pipeline(FunctionTransformer(np.negative), Asks())
    run(pipeline, toy, paradigm, n_labeled_trials=1)
    known = Known(paradigm, toy)
    for fit in Asks.seen:
        given = known.rows(-fit["X"]), known.rows(-fit["X_unlabeled"])
        pd.testing.assert_frame_equal(fit["metadata"], given[0].reset_index(drop=True))
        pd.testing.assert_frame_equal(
            fit["metadata_unlabeled"], given[1].reset_index(drop=True)
        )
    assert pipeline.transform_input is None  # the caller's is left alone


def test_inside_a_search(toy, paradigm):
    search = GridSearchCV(Asks(), {"random_state": [1]}, cv=2)
    run(search, toy, paradigm)
    known = Known(paradigm, toy)
    assert len(Asks.seen) == 9  # 3 folds, each with 2 inner ones and the refit
    for fit in Asks.seen:
        rows = known.rows(fit["X"])
        assert (fit["metadata"]["trial"].to_numpy() == rows["trial"]).all()
        assert (fit["subjects"] == rows["subject"]).all()


# -- labels --------------------------------------------------------------------


@pytest.mark.parametrize("asks", [Asks, TakesLabels])
@pytest.mark.parametrize("protocol", ONE_CORPUS)
def test_labels_of_k_trials(protocol, asks, toy, paradigm, options_of):
    """Exactly k trials a class and training subject; the others have no labels."""
    seen = []
    for number in (1, None):
        asks.seen.clear()
        options = {"n_labeled_trials": number, **options_of(protocol)}
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            table = run(asks(), toy, paradigm, protocol, **options)
        assert table["n_labeled_trials"].isna().all() == (number is None)
        seen.append([*asks.seen])
    few, all_labels = seen
    known = Known(paradigm, toy)
    assert len(few) == len(all_labels) > 0
    for one, whole in zip(few, all_labels, strict=True):
        rows, every = known.rows(one["X"]), known.rows(whole["X"])
        calibrated = protocol == "subject-calibration" and asks is TakesLabels
        if not calibrated:
            by = ["subject", "emotion"]
            trials = rows.drop_duplicates(["subject", "session", "trial"])
            assert (trials.groupby(by).size() == 1).all()
            assert len(trials) == 2 * rows["subject"].nunique()
        assert set(rows.index) < set(every.index)
        if asks is Asks:
            unlabeled = known.rows(one["X_unlabeled"])
            assert set(unlabeled.index) == set(every.index) - set(rows.index)
            assert whole["X_unlabeled"] is None


def test_labelled_trials_depend_on_the_seed_alone(toy, paradigm):
    table = run(Asks(), toy, paradigm, n_labeled_trials=1, seeds=[3, 4])
    assert table.groupby("seed").size().to_dict() == {3: 6, 4: 6}
    known = Known(paradigm, toy)
    chosen: dict = {}
    for fit in Asks.seen:
        rows = known.rows(fit["X"])
        for subject, part in rows.groupby("subject"):
            trials = frozenset(zip(part["session"], part["trial"], strict=True))
            chosen.setdefault((fit["seed"], subject), set()).add(trials)
    assert {seed for seed, _ in chosen} == {3, 4}
    assert all(len(sets) == 1 for sets in chosen.values())  # in all folds the same
    assert any(chosen[3, s] != chosen[4, s] for s in (1, 2, 10))


def test_too_few_trials(toy, paradigm):
    with pytest.warns(UserWarning, match=r"subject 1 of Toy has only 6 .*'calm'"):
        run(Asks(), toy, paradigm, n_labeled_trials=7)


@pytest.mark.parametrize("protocol", ONE_CORPUS)
def test_test_subjects_stay_away(protocol, make_toy, fast, options_of):
    """No window of the test set reaches a fit, with or without labels."""
    toy = make_toy(Neutral)
    paradigm = Emotion("valence", **fast)
    run(Asks(), toy, paradigm, protocol, n_labeled_trials=1, **options_of(protocol))
    known = Known(paradigm, toy)
    kind = PROTOCOLS[protocol]
    for fit in Asks.seen:
        tested = {tuple(row) for row in fit["held_out"].to_numpy().tolist()}
        joined = [known.rows(fit[name]) for name in ("X", "X_unlabeled")]
        labels = [set(known.y[rows.index]) for rows in joined]
        assert "unlabeled" not in labels[0]
        for rows in joined:
            if "subject" in kind.unlabeled_apart:
                assert not {s for _, s, _ in tested} & set(rows["subject"])
            if kind.never_shared == ("session",):
                sessions = rows[["corpus", "subject", "session"]].to_numpy().tolist()
                assert not tested & set(map(tuple, sessions))
    if protocol in ("leave-one-subject-out", "within-session", "cross-session"):
        # The neutral third, which valence in two classes has no label for.
        given = [set(known.y[known.rows(f["X_unlabeled"]).index]) for f in Asks.seen]
        assert all("unlabeled" in labels for labels in given)


class Neutral(Toy):
    """Every third trial is neutral, which valence in two classes leaves out."""

    code_name = "Neutral"
    n_trials_per_session = 18
    ratings = ()
    classes = {"calm": 1, "wild": 2, "none": 3}  # noqa: RUF012
    valence_of_class = {  # noqa: RUF012
        "calm": "positive",
        "wild": "negative",
        "none": "neutral",
    }

    def _read_trials(self, file, session):
        from dataclasses import replace

        (trials,) = super()._read_trials(file, session).values()
        trials = [
            replace(t, emotion="none" if t.trial % 3 == 2 else t.emotion, ratings={})
            for t in trials
        ]
        return {"0": trials}

    def _read_recording(self, file, session):
        self.n_seconds = 1 + 4 * self.n_trials_per_session
        (trials,) = self._read_trials(file, session).values()
        rng = np.random.default_rng([*map(int, file.stem.split("_"))])
        data = 1e-5 * rng.normal(size=(4, round(self.n_seconds * self.sfreq)))
        yield "0", self._make_raw(data, self.ch_names, ["eeg"] * 4, self.sfreq, trials)


# -- other corpora, adaptation, validation ------------------------------------


def test_unlabeled_corpora(toy, toy_b, fast):
    """Their windows come with common channels; the same subjects are never tested."""
    paradigm = Emotion(**fast)
    run(Asks(), toy, paradigm, unlabeled=[toy_b])
    matched = Emotion(**fast)
    matched.match_all([toy, toy_b])
    known = Known(matched, toy, toy_b)
    for fit in Asks.seen:
        assert subjects_in(known.rows(fit["X_unlabeled"])) == {("ToyB", 1), ("ToyB", 2)}
        assert set(fit["metadata_unlabeled"]["corpus"]) == {"ToyB"}
        assert set(fit["metadata"]["corpus"]) == {"Toy"}
        assert fit["X"].shape[1:] == fit["X_unlabeled"].shape[1:] == (3, 5)


def test_unlabeled_sessions_of_the_same_corpus(make_toy, paradigm):
    """A test subject among the unlabelled windows would be a leak."""
    first, second = make_toy(sessions=[0]), make_toy(sessions=[1])
    run(Asks(), first, paradigm, unlabeled=second)
    for fit in Asks.seen:
        (tested,) = set(fit["held_out"]["subject"])
        others = {1, 2, 10} - {tested}
        assert set(fit["metadata_unlabeled"]["subject"]) == others
        assert set(fit["metadata_unlabeled"]["session"]) == {"1"}


def test_unlabeled_corpus_that_is_evaluated_too(make_toy, paradigm):
    """Its windows joined the trials that they repeat, and made a class "unlabeled"."""
    toy = make_toy(sessions=[0])
    table = run(Asks(), toy, paradigm, unlabeled=[make_toy()])
    assert (table["samples_test"] == 18).all()
    known = Known(paradigm, make_toy())
    for fit in Asks.seen:
        (tested,) = set(fit["held_out"]["subject"])
        assert set(fit["y"]) == {0, 1} and len(fit["X"]) == 36
        rows = known.rows(fit["X_unlabeled"])
        assert set(rows["subject"]) == {1, 2, 10} - {tested}
        assert set(rows["session"]) == {"1"} and len(rows) == 36
    with pytest.raises(ValueError, match="each corpus once, but got"):
        run(Asks(), toy, paradigm, unlabeled=[make_toy(), make_toy()])


def test_unlabeled_corpora_are_read_once(toy, toy_b, fast, monkeypatch):
    """Protocols that go subject by subject read them again for each subject."""
    reads = []
    read = type(toy_b)._read_recording

    def spy(self, file, session):
        reads.append(self.code)
        return read(self, file, session)

    monkeypatch.setattr(type(toy_b), "_read_recording", spy)
    paradigm = Emotion(**fast | {"resample": 128.0})
    run(Asks(), toy, paradigm, "chronological", unlabeled=[toy_b])
    assert reads.count("ToyB") <= len(toy_b.subject_list) + 1  # one for the channels


def test_unlabeled_corpora_that_nobody_asks_for(toy, toy_b, paradigm):
    with pytest.raises(ValueError, match=r"asks for X_unlabeled.*\['pipeline'\]"):
        run(TakesLabels(), toy, paradigm, unlabeled=[toy_b])


class Unrated(Toy):
    """A corpus without ratings that can be a target."""

    code_name, path_key = "Unrated", "UNRATED"
    ratings, details = (), RATINGS


@pytest.mark.parametrize("features", [None, "de"])
def test_unlabeled_corpora_need_no_labels(features, toy, make_toy, fast):
    """They were refused for want of a target or a source that nobody reads."""
    rules = {"label_source": "self-report", "threshold": 4.0, "ties": "high"}
    paradigm = Emotion("arousal", **fast | rules | {"features": features})
    run(Asks(), toy, paradigm, unlabeled=[make_toy(Unrated)])
    for fit in Asks.seen:
        assert set(fit["metadata_unlabeled"]["corpus"]) == {"Unrated"}


@pytest.mark.parametrize("standardize", [None, "recording"])
def test_target_access(standardize, toy, fast):
    """It is computed for each pipeline, from what it was given."""
    paradigm = Emotion(**fast, standardize=standardize)
    table = evaluate(
        {"asks": Asks(), "takes": TakesLabels()},
        [toy],
        paradigm,
        "leave-one-subject-out",
        adapt="unlabeled",
        random_state=0,
    )
    access = table.groupby("pipeline")["target_access"].unique().map(list).to_dict()
    plain = "none" if standardize is None else "statistics"
    assert access == {"asks": ["unlabeled"], "takes": [plain]}
    known = Known(paradigm, toy)
    for fit in Asks.seen:
        (tested,) = set(fit["held_out"]["subject"])
        assert set(known.rows(fit["X_target_unlabeled"])["subject"]) == {tested}
        assert set(known.rows(fit["X"])["subject"]) == {1, 2, 10} - {tested}
    calibrated = run(Asks(), toy, paradigm, "subject-calibration")
    assert set(calibrated["target_access"]) == {"calibration"}


def test_validation_subjects_reach_those_who_ask(toy, paradigm, options_of):
    """Others train on the training subjects alone."""
    known = Known(paradigm, toy)
    for asks in (Asks, TakesLabels):
        run(asks(), toy, paradigm, "subject-split", **options_of("subject-split"))
        (fit,) = asks.seen
        train = set(known.rows(fit["X"])["subject"])
        assert len(train) == 1
        if asks is Asks:
            valid = known.rows(fit["X_val"])
            (tested,) = set(fit["held_out"]["subject"])
            assert {*train, tested, *valid["subject"]} == {1, 2, 10}
            names = np.array(["calm", "wild"])[fit["y_val"]]
            assert (names == known.y[valid.index]).all()


# -- seeds and errors ----------------------------------------------------------


class AsksForUnlabeled(Asks):
    """Count the windows of each fit."""

    seen: list = []  # noqa: RUF012
    __metadata_request__fit = dict.fromkeys(ASKED, False) | dict.fromkeys(
        ("metadata", "X_unlabeled", "metadata_unlabeled"), True
    )

    def predict_proba(self, X):
        return np.full((len(X), 2), 0.5)


@pytest.mark.parametrize("within", [None, CalibratedClassifierCV])
def test_as_many_unlabeled_windows_as_labelled_ones(within, toy, paradigm):
    """Windows as many as those of X were divided with them in inner folds."""
    AsksForUnlabeled.seen.clear()
    kwargs = {"n_labeled_trials": 3}  # of six
    if within is None:
        pipeline = AsksForUnlabeled()
        kwargs["param_grid"] = {"pipeline": {"random_state": [1, 2]}}
    else:
        pipeline = within(AsksForUnlabeled(), cv=3)
    run(pipeline, toy, paradigm, **kwargs)
    for fit in AsksForUnlabeled.seen:
        assert len(fit["metadata"]) == len(fit["X"])
        # All but one, so that the lengths differ.
        assert len(fit["X_unlabeled"]) == len(fit["metadata_unlabeled"]) == 35


def test_seeds_are_set_at_any_depth(toy, paradigm):
    pipeline = make_pipeline(FunctionTransformer(), Asks(random_state=9))
    table = run(pipeline, toy, paradigm, seeds=[0, 1])
    assert table["seed"].tolist() == [0] * 6 + [1] * 6
    assert sorted(fit["seed"] for fit in Asks.seen) == [0] * 3 + [1] * 3
    assert pipeline[-1].random_state == 9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": []}, "seeds must be None or a list"),
        ({"seeds": [1, 1]}, r"different integers .* but got \[1, 1\]"),
        ({"seeds": [0.5]}, "seeds must be"),
        ({"n_labeled_trials": 0}, "n_labeled_trials must be None.* but got 0"),
        ({"n_labeled_trials": [1, "all"]}, "n_labeled_trials must be"),
        ({"on_error": "skip"}, "on_error must be"),
        ({"unlabeled": ["DEAP"]}, "unlabeled must hold corpora, but got 'DEAP'"),
    ],
)
def test_refused(changes, message, toy, paradigm):
    with pytest.raises(ValueError, match=message):
        run(Asks(), toy, paradigm, **changes)


class FailsOnce(LogisticRegression):
    """Fail in the second fit."""

    n_fits = 0

    def fit(self, X, y, sample_weight=None):
        FailsOnce.n_fits += 1
        if FailsOnce.n_fits == 2:
            raise RuntimeError("No memory is left.")
        return super().fit(X, y, sample_weight)


def test_a_failing_pipeline_is_passed_over(toy, paradigm, tmp_path):
    """One failing fold stopped all, for ever; now the next call tries it again."""
    FailsOnce.n_fits = 0
    pipelines = {
        "good": make_pipeline(Vectorizer(), LogisticRegression()),
        "bad": make_pipeline(Vectorizer(), FailsOnce()),
    }
    arguments = (pipelines, [toy], paradigm, "leave-one-subject-out")
    where = {"random_state": 0, "results_dir": tmp_path}
    message = r"'bad' failed in fold 1 of 3, which tests Toy, subject 2: RuntimeError"
    with pytest.warns(UserWarning, match=message):
        table = evaluate(*arguments, **where, on_error="warn")
    found = table.groupby("pipeline")["subject"].unique().map(sorted).to_dict()
    assert found == {"bad": ["1", "10"], "good": ["1", "10", "2"]}
    again = evaluate(*arguments, **where, on_error="warn")
    assert len(again) == 12 and FailsOnce.n_fits == 4
    FailsOnce.n_fits = 0
    with pytest.raises(FoldError, match=message):
        evaluate(*arguments, random_state=0)


class OneClass(ToyB):
    """Subject 2 has trials of one class alone."""

    code_name = "OneClass"
    n_read = 0

    def _read_trials(self, file, session):
        from dataclasses import replace

        (trials,) = super()._read_trials(file, session).values()
        if file.stem.startswith("2_"):
            trials = [replace(trial, emotion="calm") for trial in trials]
        return {"0": trials}

    def _read_recording(self, file, session):
        OneClass.n_read += 1
        yield from super()._read_recording(file, session)


def test_a_subject_of_one_class(make_toy, paradigm, classifier):
    """The run stopped when that subject was reached."""
    OneClass.n_read = 0
    toy = make_toy(OneClass)
    options = {"n_splits": 3}
    with pytest.raises(ValueError, match=r"divide OneClass, subject 2.*two classes"):
        run(classifier, toy, paradigm, "within-session", **options)
    assert OneClass.n_read == 0  # known before any signal is read
    with pytest.warns(UserWarning, match="Left out: .*OneClass, subject 2"):
        table = run(
            classifier, toy, paradigm, "within-session", on_error="warn", **options
        )
    assert table["subject"].tolist() == ["1"]
