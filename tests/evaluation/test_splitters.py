"""Splitters: nothing shared, everything tested, and refusals that say what is wrong."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from moabb.evaluations import CrossSubjectEvaluation, WithinSessionEvaluation
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from braindecode_emossl.datasets import SEED
from braindecode_emossl.evaluation.splitters import (
    ChronologicalSplit,
    LeaveOneCorpusOut,
    StimulusKFold,
    SubjectStimulusKFold,
    TrialKFold,
    check_disjoint,
)
from braindecode_emossl.paradigms import Emotion

FAST = settings(deadline=None, max_examples=60)


def split(splitter, y, groups):
    """Return the folds, whose parts must be sorted rows, as sets."""
    folds = list(splitter.split(np.zeros(len(groups)), y, groups))
    assert len(folds) == splitter.get_n_splits(None, y, groups)
    for part in (part for fold in folds for part in fold):
        assert_array_equal(part, np.unique(part))
    return [(set(train.tolist()), set(test.tolist())) for train, test in folds]


def ids_of(groups, rows):
    return {groups[row] for row in rows}


def expand(draw, n_groups, max_rows=4):
    """Return the group of each row, where each group has some rows, in any order."""
    sizes = draw(
        st.lists(st.integers(1, max_rows), min_size=n_groups, max_size=n_groups)
    )
    rows = np.repeat(np.arange(n_groups), sizes)
    return np.array(draw(st.permutations(rows.tolist())), dtype=int)


@st.composite
def labelled_groups(draw):
    """Return groups of one label each, with at least two groups of each class."""
    n_classes = draw(st.integers(2, 4))
    extra = draw(st.lists(st.integers(0, n_classes - 1), max_size=12))
    label = np.array([*range(n_classes), *range(n_classes), *extra])
    groups = expand(draw, len(label))
    names = np.array([f"clip{i}" for i in range(len(label))], dtype=object)
    return label[groups], names[groups], label


# -- trials and stimuli --------------------------------------------------------


@pytest.mark.parametrize("cls", [TrialKFold, StimulusKFold])
@FAST
@given(data=labelled_groups(), n_splits=st.integers(2, 6), seed=st.integers(0, 99))
def test_kfold(cls, data, n_splits, seed):
    y, groups, label = data
    assume(n_splits <= len(label))
    splitter = cls(n_splits, random_state=seed)
    folds = split(splitter, y, groups)
    everything = set(range(len(y)))
    tested = [row for _, test in folds for row in test]
    assert sorted(tested) == sorted(everything)
    n_groups, n_of_class = [], []
    for train, test in folds:
        assert train | test == everything
        check_disjoint(groups[list(train)], groups[list(test)], "group")
        assert set(y[list(test)]) <= set(y[list(train)])
        test_groups = ids_of(groups, test)
        n_groups.append(len(test_groups))
        labels = [label[int(name.removeprefix("clip"))] for name in test_groups]
        n_of_class.append(np.bincount(labels, minlength=label.max() + 1))
    assert np.ptp(n_groups) <= 1
    assert np.ptp(n_of_class, axis=0).max() <= 1


@pytest.mark.parametrize("cls", [TrialKFold, StimulusKFold])
@FAST
@given(data=labelled_groups(), seed=st.integers(0, 99), shuffle=st.booleans())
def test_kfold_does_not_see_the_order_of_rows(cls, data, seed, shuffle):
    y, groups, _ = data
    splitter = cls(2, shuffle=shuffle, random_state=seed)
    order = np.random.default_rng(seed).permutation(len(y))
    folds = split(splitter, y, groups)
    assert split(splitter, y, groups) == folds
    shuffled = split(splitter, y[order], groups[order])
    for fold, other in zip(folds, shuffled, strict=True):
        for rows, other_rows in zip(fold, other, strict=True):
            assert rows == {order[row] for row in other_rows}


def test_kfold_of_seed():
    """Five folds of its trials have one trial of each class."""
    y = np.repeat([0, 1, 2] * 5, 7)
    trial = np.repeat(np.arange(15), 7)
    for _, test in split(TrialKFold(random_state=0), y, trial):
        assert len(test) == 21
        assert_array_equal(np.bincount(y[list(test)]), [7, 7, 7])


def test_kfold_depends_on_the_random_state():
    y, groups = np.arange(20) % 2, np.arange(20)
    folds = [split(TrialKFold(2, random_state=seed), y, groups) for seed in range(5)]
    assert any(fold != folds[0] for fold in folds)
    in_order = split(TrialKFold(2, shuffle=False, random_state=3), y, groups)
    assert in_order[0][1] == {0, 1, 4, 5, 8, 9, 12, 13, 16, 17}


def test_kfold_draws_every_assignment():
    """Without labels each of the six pairs of four trials tests equally often."""
    splitter = TrialKFold(2, random_state=np.random.RandomState(0))
    first = [frozenset(split(splitter, None, np.arange(4))[0][1]) for _ in range(600)]
    counts = pd.Series(first).value_counts()
    assert len(counts) == 6 and counts.between(60, 140).all()


def test_more_folds_than_a_class_has_trials():
    """StratifiedKFold refuses it, yet each trial can be the test set once."""
    y = np.repeat([0, 1, 2], 5)
    folds = split(TrialKFold(15, random_state=0), y, np.arange(15))
    assert sorted(map(tuple, (test for _, test in folds))) == [(i,) for i in range(15)]


def test_stimulus_of_several_labels():
    """Ratings differ over subjects: the majority of a stimulus stratifies."""
    stimulus = np.repeat(np.arange(4), 3)
    y = np.array([0, 0, 1, 1, 1, 0, 0, 1, 0, 1, 0, 1])
    for _, test in split(StimulusKFold(2, random_state=1), y, stimulus):
        majority = [
            np.bincount(y[stimulus == s]).argmax() for s in stimulus[list(test)]
        ]
        assert set(majority) == {0, 1}


def test_trial_of_two_labels():
    y, trial = [0, 1, 0, 1, 1], ["a", "b", "c", "c", "d"]
    message = r"Every trial must have one label, but trial 'c' has 0, 1\."
    with pytest.raises(ValueError, match=message):
        split(TrialKFold(2), y, trial)


@pytest.mark.parametrize("n_splits", [1, 0, 2.0, None, "5"])
def test_number_of_folds(n_splits):
    for splitter in (TrialKFold(n_splits), StimulusKFold(n_splits)):
        message = f"must be an integer from 2, but got {n_splits!r}"
        with pytest.raises(ValueError, match=message):
            next(splitter.split(np.zeros(8), None, np.arange(8)))


def test_fewer_groups_than_folds():
    message = re.escape("got 5 folds for 3 groups by trial: 'a', 'b', 'c'.")
    with pytest.raises(ValueError, match=message):
        split(TrialKFold(5), [0, 1, 0], ["c", "a", "b"])
    message = re.escape(
        "got 9 folds for 7 groups by stimulus: 0, 1, 2, 3, 4, ... (7 in"
    )
    with pytest.raises(ValueError, match=message):
        split(StimulusKFold(9), None, np.arange(7))


def test_class_of_one_trial():
    y = [0, 0, 0, 1, 1, 1, 2]
    message = (
        r"TrialKFold, fold \d: the training set must have every class of the test "
        r"set, but lacks 2\."
    )
    with pytest.raises(ValueError, match=message):
        split(TrialKFold(3, random_state=0), y, np.arange(7))


def test_one_class_trains():
    message = r"fold 0: .* must have at least two classes, but has only 'calm'\."
    with pytest.raises(ValueError, match=message):
        split(TrialKFold(2), ["calm"] * 4, np.arange(4))


def test_refusals_come_before_the_first_fold():
    """After hours of training on the folds before, it would come too late."""
    y = np.array([0] * 6 + [1] + [2] * 8)  # the trial of class 1 is the seventh dealt
    folds = TrialKFold(4, shuffle=False).split(y, y, np.arange(15))
    with pytest.raises(ValueError, match=r"fold 2: .* lacks 1\."):
        next(folds)


# -- first and last trials -----------------------------------------------------


@st.composite
def recordings(draw):
    """Return recording and trial number of each row, with gaps, in any order."""
    rows = []
    for recording in range(draw(st.integers(1, 3))):
        numbers = draw(
            st.lists(st.integers(0, 40), min_size=2, max_size=9, unique=True)
        )
        for number in numbers:
            rows += [(f"s{recording}", number)] * draw(st.integers(1, 3))
    return draw(st.permutations(rows))


@FAST
@given(rows=recordings(), size=st.floats(0.3, 0.7))
def test_chronological(rows, size):
    ((train, test),) = split(ChronologicalSplit(size), None, rows)
    assert not train & test and train | test == set(range(len(rows)))
    for recording in {recording for recording, _ in rows}:
        first = {rows[row][1] for row in train if rows[row][0] == recording}
        last = {rows[row][1] for row in test if rows[row][0] == recording}
        assert max(first) < min(last)
        assert len(first) == round(size * (len(first) + len(last)))


@pytest.mark.parametrize("size", [0.6, 9])
@pytest.mark.parametrize("as_text", [False, True])
def test_chronological_of_seed(size, as_text):
    """As text, trial 10 sorts before trial 2."""
    trial = np.random.default_rng(0).permutation(np.repeat(np.arange(15), 4))
    groups = trial.astype(str) if as_text else trial
    ((train, test),) = split(ChronologicalSplit(size), None, groups)
    assert_array_equal(np.unique(trial[list(train)]), np.arange(9))
    assert_array_equal(np.unique(trial[list(test)]), np.arange(9, 15))


@pytest.mark.parametrize("size", [0, 1.0, 0.0, 1.5, -1, -0.5, True, "9", None])
def test_train_size(size):
    message = f"train_size must be .*, but got {re.escape(repr(size))}"
    with pytest.raises(ValueError, match=message):
        split(ChronologicalSplit(size), None, np.arange(5))


def test_train_size_leaves_a_side_empty():
    message = r"train_size=0.1 .* puts 0 of the 2 trials in the training set"
    with pytest.raises(ValueError, match=message):
        split(ChronologicalSplit(0.1), None, [3, 4])
    rows = [("s1", 0), ("s1", 1), ("s1", 2), ("s2", 0), ("s2", 1)]
    message = r"train_size=2 .* puts 2 of the 2 trials of recording 's2' in the train"
    with pytest.raises(ValueError, match=message):
        split(ChronologicalSplit(2), None, rows)


def test_trial_numbers_are_numbers():
    with pytest.raises(ValueError, match="must be numbers, but they are 'a', 'b'"):
        split(ChronologicalSplit(), None, ["a", "b"])


def test_class_of_the_last_trials():
    message = "ChronologicalSplit, its one split: .* lacks 'sad'"
    with pytest.raises(ValueError, match=message):
        split(ChronologicalSplit(0.5), ["calm", "wild", "sad", "calm"], np.arange(4))


# -- subjects and stimuli ------------------------------------------------------


@st.composite
def subjects_and_stimuli(draw):
    """Return subject and stimulus of each row; all subjects see all stimuli."""
    n_subjects, n_stimuli = draw(st.integers(2, 4)), draw(st.integers(4, 8))
    pairs = expand(draw, n_subjects * n_stimuli, max_rows=2)
    groups = [(int(pair // n_stimuli), f"clip{pair % n_stimuli}") for pair in pairs]
    return groups, [pair % n_stimuli % 2 for pair in pairs]


@FAST
@given(
    data=subjects_and_stimuli(),
    n_splits=st.integers(2, 4),
    seed=st.integers(0, 99),
    use_y=st.booleans(),
)
def test_subject_stimulus(data, n_splits, seed, use_y):
    groups, y = data
    splitter = SubjectStimulusKFold(n_splits, random_state=seed)
    folds = split(splitter, y if use_y else None, groups)
    subjects = {subject for subject, _ in groups}
    assert len(folds) == n_splits * len(subjects)
    tested = [row for _, test in folds for row in test]
    assert sorted(tested) == list(range(len(groups)))
    for number, (train, test) in enumerate(folds):
        here, there = ([groups[row] for row in rows] for rows in (test, train))
        assert {s for s, _ in here} == {sorted(subjects)[number // n_splits]}
        held_out = {clip for _, clip in here}
        expected = {
            row
            for row, (subject, clip) in enumerate(groups)
            if subject != here[0][0] and clip not in held_out
        }
        assert train == expected
        for column, what in enumerate(["subject", "stimulus"]):
            pair = [[ids[column] for ids in part] for part in (there, here)]
            check_disjoint(*pair, what)
    # All subjects have the same folds of the stimuli.
    of_stimuli = [{groups[row][1] for row in test} for _, test in folds]
    assert of_stimuli == of_stimuli[:n_splits] * len(subjects)


@FAST
@given(data=subjects_and_stimuli(), seed=st.integers(0, 99))
def test_subject_stimulus_does_not_see_the_order_of_rows(data, seed):
    groups, y = data
    splitter = SubjectStimulusKFold(2, random_state=seed)
    order = np.random.default_rng(seed).permutation(len(y))
    folds = split(splitter, y, groups)
    shuffled = split(splitter, np.array(y)[order], [groups[row] for row in order])
    for fold, other in zip(folds, shuffled, strict=True):
        for rows, other_rows in zip(fold, other, strict=True):
            assert rows == {order[row] for row in other_rows}


def test_subject_stimulus_is_stratified():
    groups = [(subject, clip) for subject in range(3) for clip in range(6)]
    y = np.array([clip % 3 for _, clip in groups])
    for seed in range(10):
        for _, test in split(SubjectStimulusKFold(2, random_state=seed), y, groups):
            assert sorted(y[list(test)]) == [0, 1, 2]


def test_subject_without_the_stimuli_of_a_fold():
    groups = [(s, clip) for s in "ab" for clip in range(4) if (s, clip) != ("b", 3)]
    message = "subject 'b' and fold 3 of the stimuli: the test set has no rows"
    with pytest.raises(ValueError, match=message):
        split(SubjectStimulusKFold(4, shuffle=False), None, groups)


def test_one_subject():
    message = "subject 'a' and fold 0 of the stimuli: the training set has no rows"
    with pytest.raises(ValueError, match=message):
        split(SubjectStimulusKFold(2), None, [("a", clip) for clip in range(4)])


# -- corpora -------------------------------------------------------------------


@FAST
@given(rows=st.lists(st.sampled_from(["SEED", "DEAP", "SEED-IV"]), min_size=2))
def test_leave_one_corpus_out(rows):
    corpora = sorted(set(rows))
    assume(len(corpora) > 1)
    folds = split(LeaveOneCorpusOut(), None, rows)
    for corpus, (train, test) in zip(corpora, folds, strict=True):
        assert test == {row for row, name in enumerate(rows) if name == corpus}
        assert train == set(range(len(rows))) - test
    last = split(LeaveOneCorpusOut(corpora[::-1][:1]), None, rows)
    assert last == folds[-1:]
    assert split(LeaveOneCorpusOut(corpora[::-1]), None, rows) == folds[::-1]


def test_unknown_corpora():
    rows = ["SEED", "DEAP"]
    message = (
        r"must be among the corpora given, \['DEAP', 'SEED'\], but got \['AMIGOS'\]"
    )
    with pytest.raises(ValueError, match=message):
        next(LeaveOneCorpusOut(["DEAP", "AMIGOS"]).split(rows, None, rows))
    for corpora in ("SEED", []):
        with pytest.raises(ValueError, match="must be a list of corpora, but got"):
            next(LeaveOneCorpusOut(corpora).split(rows, None, rows))
    with pytest.raises(ValueError, match=r"at least two corpora, .* only \['SEED'\]"):
        split(LeaveOneCorpusOut(), None, ["SEED"] * 3)


def test_corpora_of_other_classes():
    rows, y = ["a", "a", "b", "b", "b"], ["low", "high", "low", "high", "wild"]
    with pytest.raises(ValueError, match=r"corpus 'b': .* lacks 'wild'"):
        split(LeaveOneCorpusOut(), y, rows)


# -- groups --------------------------------------------------------------------

ONE = [TrialKFold(2), StimulusKFold(2), LeaveOneCorpusOut()]
TWO = [SubjectStimulusKFold(2)]
EITHER = [ChronologicalSplit()]


@pytest.mark.parametrize("splitter", [*ONE, *TWO, *EITHER], ids=repr)
def test_groups_are_needed(splitter):
    message = f"{type(splitter).__name__} needs groups: .*, but got None"
    with pytest.raises(ValueError, match=message):
        next(splitter.split(np.zeros(4), [0, 1, 0, 1]))


@pytest.mark.parametrize("splitter", [*ONE, *TWO, *EITHER], ids=repr)
def test_shape_of_groups(splitter):
    shapes = {(4, 3), (4, 2, 2)}
    shapes |= set() if splitter in EITHER else {(4, 2)} if splitter in ONE else {(4,)}
    for shape in shapes:
        with pytest.raises(ValueError, match=re.escape(f"the shape {shape}")):
            next(splitter.split(np.zeros(4), None, np.zeros(shape)))
    with pytest.raises(ValueError, match="inconsistent numbers"):
        next(splitter.split(np.zeros(4), None, np.arange(3)))


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
@pytest.mark.parametrize("splitter", [*ONE, *TWO, *EITHER], ids=repr)
def test_missing_groups(splitter, missing):
    groups = [[1, 0], [2, 1], [1, missing], [2, missing]]
    if splitter in ONE:
        groups = [ids[1] for ids in groups]
    with pytest.raises(ValueError, match=r"row 2 has .* \(2 of 4 rows lack it\)"):
        next(splitter.split(np.zeros(4), None, groups))


def test_missing_labels():
    with pytest.raises(ValueError, match="Every row must have a label, but row 1 has"):
        split(TrialKFold(2), ["calm", None, "wild"], np.arange(3))


def test_groups_of_many_kinds():
    """A frame, a list and an array of objects are the same groups."""
    frame = pd.DataFrame(
        {"subject": np.repeat([1, 10, 2], 4), "clip": list("abcd") * 3}
    )
    splitter = SubjectStimulusKFold(2, random_state=0)
    folds = split(splitter, None, frame.to_numpy())
    assert folds[0][1] | folds[1][1] == {0, 1, 2, 3}
    assert folds[2][1] | folds[3][1] == {8, 9, 10, 11}  # subject 2 before subject 10
    assert split(splitter, None, frame.to_numpy().tolist()) == folds
    assert len(list(splitter.split(frame, None, frame))) == 6


def test_check_disjoint():
    check_disjoint(["a", "b"], ["c"], "trial")
    check_disjoint([("1", 0), ("2", 1)], [("1", 1), ("2", 0)], "trial")
    check_disjoint([], ["c"], "trial")
    message = re.escape("must not share a trial, but both have 'b', 'c'.")
    with pytest.raises(ValueError, match=message):
        check_disjoint(np.array(["a", "b", "c"]), ["c", "b", "d", "b"], "trial")
    frame = pd.DataFrame({"subject": [1, 2], "trial": ["a", "b"]})
    with pytest.raises(ValueError, match=re.escape("both have (2, 'b').")):
        check_disjoint(frame, [(2, "b"), (1, "b")], "trial")
    with pytest.raises(ValueError, match=re.escape("both have 1.")):
        check_disjoint([1, 2], [1, "a"], "trial")


def test_check_disjoint_refuses_missing_groups():
    """No two NaN are equal, so that a shared one would have passed."""
    with pytest.raises(ValueError, match="Every row must have a trial, but row 1 has"):
        check_disjoint([1.0, np.nan], [2.0, np.nan], "trial")


# -- in scikit-learn and MOABB -------------------------------------------------


@pytest.mark.parametrize(
    ("splitter", "expected"),
    [
        (TrialKFold(), "TrialKFold(n_splits=5, random_state=None, shuffle=True)"),
        (
            StimulusKFold(3, shuffle=False),
            "StimulusKFold(n_splits=3, random_state=None, shuffle=False)",
        ),
        (ChronologicalSplit(9), "ChronologicalSplit(train_size=9)"),
        (
            SubjectStimulusKFold(random_state=1),
            "SubjectStimulusKFold(n_stimulus_splits=5, random_state=1, shuffle=True)",
        ),
        (LeaveOneCorpusOut(), "LeaveOneCorpusOut(test_corpora=None)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_repr(splitter, expected):
    assert repr(splitter) == expected


def make_rows():
    """Return windows of 3 subjects, 8 trials, 2 windows, and their metadata."""
    metadata = pd.DataFrame(
        [(s, c, t) for c in "AB" for s in range(3) for t in range(8) for _ in range(2)],
        columns=["subject", "corpus", "trial"],
    )
    y = metadata["trial"].to_numpy() % 2
    X = np.random.default_rng(0).normal(size=(len(y), 3)) + y[:, None]
    return X, y, metadata


IN_SKLEARN = [
    (TrialKFold(4, random_state=0), "trial"),
    (StimulusKFold(4, random_state=0), "trial"),
    (ChronologicalSplit(), ["subject", "trial"]),
    (SubjectStimulusKFold(2, random_state=0), ["subject", "trial"]),
    (LeaveOneCorpusOut(), "corpus"),
]


@pytest.mark.parametrize(("splitter", "columns"), IN_SKLEARN, ids=repr)
def test_in_sklearn(splitter, columns):
    X, y, metadata = make_rows()
    groups = metadata[columns].to_numpy()
    folds = list(splitter.split(X, y, groups))
    expected = [
        LogisticRegression().fit(X[train], y[train]).score(X[test], y[test])
        for train, test in folds
    ]
    scores = cross_val_score(LogisticRegression(), X, y, cv=splitter, groups=groups)
    assert_array_equal(scores, expected)
    search = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=splitter)
    search.fit(X, y, groups=groups)
    assert search.n_splits_ == len(folds)
    results = [search.cv_results_[f"split{i}_test_score"][1] for i in range(len(folds))]
    assert_array_equal(results, expected)
    assert repr(clone(search).cv) == repr(splitter)


class Trace(DummyClassifier):
    """Remember how many rows were fitted, in the order of the folds."""

    n_rows = ()

    def fit(self, X, y):
        Trace.n_rows = (*Trace.n_rows, len(X))
        return super().fit(X, y)


@pytest.fixture
def make_results(seed_root, tmp_path, monkeypatch):
    monkeypatch.setattr(Trace, "n_rows", ())
    paradigm = Emotion(
        window=1.0,
        fmin=None,
        fmax=None,
        resample=None,
        channels=["Fz", "O1"],
        features=FunctionTransformer(np.std, kw_args={"axis": -1}),
    )

    def make(evaluation, **kwargs):
        dataset = SEED([1, 2, 10], sessions=[0, 1], path=seed_root)
        evaluation = evaluation(paradigm, [dataset], hdf5_path=tmp_path, **kwargs)
        return evaluation.process({"dummy": make_pipeline(Trace())})

    return make


@pytest.mark.parametrize("random_state", [None, 3])
def test_trials_in_moabb(make_results, random_state):
    results = make_results(
        WithinSessionEvaluation,
        cv_class=TrialKFold,
        groups="trial",
        n_splits=3,
        random_state=random_state,
    )
    # 15 trials of 4 windows: each fold trains on 10 of them.
    assert len(results) == 3 * 2
    assert Trace.n_rows == (40,) * (3 * 2 * 3)


def test_chronological_in_moabb(make_results):
    results = make_results(
        WithinSessionEvaluation, cv_class=ChronologicalSplit, groups="trial"
    )
    assert len(results) == 3 * 2
    assert Trace.n_rows == (36,) * 6


def test_subject_stimulus_in_moabb(make_results):
    results = make_results(
        CrossSubjectEvaluation,
        cv_class=SubjectStimulusKFold,
        cv_kwargs={"n_stimulus_splits": 3},
        groups=lambda metadata: metadata[["subject", "stimulus"]],
        random_state=0,
    )
    # Two other subjects, two sessions, 10 of 15 stimuli, 4 windows.
    assert Trace.n_rows == (160,) * 9
    assert results["subject"].value_counts().to_dict() == {"1": 6, "2": 6, "10": 6}
    assert set(results["samples_test"]) == {20}


def test_stimuli_in_moabb(make_results):
    make_results(
        CrossSubjectEvaluation,
        cv_class=StimulusKFold,
        cv_kwargs={"n_splits": 5},
        groups="stimulus",
    )
    assert Trace.n_rows == (3 * 2 * 12 * 4,) * 5
