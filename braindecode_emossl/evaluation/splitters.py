"""Cross-validators that hold out whole trials, stimuli, subjects or corpora.

All of them follow scikit-learn and group rows by the argument ``groups`` of ``split``.
They can be used in :func:`sklearn.model_selection.cross_val_score`, in
:class:`sklearn.model_selection.GridSearchCV` and as the ``cv_class`` of MOABB's
evaluations, where ``groups`` is a column of the metadata or, for groups of two
columns, a function such as ``lambda metadata: metadata[["subject", "stimulus"]]``.
"""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils import check_random_state, column_or_1d, indexable

from braindecode_emossl.checks import is_count, is_number
from braindecode_emossl.hosts import GroupsConsumerMixin

__all__ = [
    "ChronologicalSplit",
    "LeaveOneCorpusOut",
    "StimulusKFold",
    "SubjectSplit",
    "SubjectStimulusKFold",
    "TrialKFold",
    "check_disjoint",
    "first_trials",
]

# How many identifiers an error message lists before it counts the others.
_N_LISTED = 5


def check_disjoint(train_groups, test_groups, what: str) -> None:
    """Check that two parts of a data set have no group in common.

    Parameters
    ----------
    train_groups, test_groups : array-like, shape (n,) or (n, n_columns)
        Group of each row. Several columns identify a group together, as subject,
        session and trial do.
    what : str
        Kind of the groups, such as ``"trial"``, for the message.

    Raises
    ------
    ValueError
        If a group is in both parts, or missing for some row.
    """
    train, test = (
        set(
            pd.DataFrame(_as_columns(groups, what))
            .drop_duplicates()
            .itertuples(index=False, name=None)
        )
        for groups in (train_groups, test_groups)
    )
    if shared := train & test:
        names = [ids[0] if len(ids) == 1 else ids for ids in shared]
        raise ValueError(
            f"Training set and test set must not share a {what}, but both have "
            f"{_listing(names)}."
        )


class _Ids(NamedTuple):
    """One column of groups, or the labels: the sorted values and the code of a row."""

    ids: np.ndarray
    codes: np.ndarray

    @classmethod
    def read(cls, column) -> _Ids:
        """Find the values of a column."""
        codes, ids = pd.factorize(column, sort=True)
        return cls(ids, codes)


class _GroupSplitter(GroupsConsumerMixin, BaseCrossValidator):
    """Split rows by groups; all folds are checked before the first one is returned."""

    # A subclass states in `_layouts` which columns `groups` may have, and yields from
    # `_iter_folds` the name, the training rows and the test rows of each fold.

    _layouts: tuple[tuple[str, ...], ...]

    def split(self, X, y=None, groups=None):
        """Generate the rows of each fold.

        Parameters
        ----------
        X : array-like of n rows
            Only its length is used.
        y : array-like, shape (n,), optional
            Labels. Without them nothing is stratified, and no class is checked.
        groups : array-like, shape (n,) or (n, 2)
            Groups of each row; see the class.

        Yields
        ------
        train, test : numpy.ndarray of int
            Rows of the training set and of the test set.

        Raises
        ------
        ValueError
            If the groups or the settings do not fit, if a set has no rows, if the
            training set has a single class, or if it lacks a class of the test set.
        """
        _, y, groups = indexable(X, y, groups)
        columns = self._read_groups(groups)
        if y is not None:
            y = _Ids.read(_as_columns(column_or_1d(y), "label")[:, 0])
        folds = list(self._iter_folds(y, *columns))
        for name, train, test in folds:
            self._check_fold(name, y, train, test)
        for _, train, test in folds:
            yield np.flatnonzero(train), np.flatnonzero(test)

    def _iter_folds(
        self, y: _Ids | None, *columns: Any, **kwargs: Any
    ) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """Yield name, training mask and test mask of each fold."""
        raise NotImplementedError

    def _read_groups(self, groups) -> list[_Ids]:
        """Return the columns of groups, once their number is known to fit."""
        owner = type(self).__name__
        wanted = " or ".join(
            f"{layout[0]} of shape (n,)"
            if len(layout) == 1
            else f"({', '.join(layout)}) of shape (n, {len(layout)})"
            for layout in self._layouts
        )
        if groups is None:
            raise ValueError(f"{owner} needs groups: {wanted}, but got None.")
        columns = _as_columns(groups, "group")
        if columns.shape[1] not in map(len, self._layouts):
            raise ValueError(
                f"The groups of {owner} must be {wanted}, but got the shape "
                f"{np.shape(groups)}."
            )
        return [_Ids.read(column) for column in columns.T]

    def _check_fold(self, name, y, train, test) -> None:
        """Refuse a fold that cannot be fitted or scored."""
        where = f"{type(self).__name__}, {name}"
        for part, rows in (("training", train), ("test", test)):
            if not rows.any():
                raise ValueError(f"{where}: the {part} set has no rows.")
        if y is None:
            return
        trained, tested = (
            np.bincount(y.codes[rows], minlength=len(y.ids)) > 0
            for rows in (train, test)
        )
        if trained.sum() < 2:
            raise ValueError(
                f"{where}: the training set must have at least two classes, but has "
                f"only {_listing(y.ids[trained])}."
            )
        if len(missing := y.ids[tested & ~trained]):
            raise ValueError(
                f"{where}: the training set must have every class of the test set, "
                f"but lacks {_listing(missing)}. Take other folds or another "
                f"random_state, or leave the class out."
            )


class _StratifiedGroupKFold(_GroupSplitter):
    """Hold out whole groups, each class dealt evenly to the folds."""

    _one_label = False

    def __init__(self, n_splits=5, *, shuffle=True, random_state=None):
        self.n_splits = n_splits
        self.shuffle = shuffle
        self.random_state = random_state

    def get_n_splits(self, X=None, y=None, groups=None):
        """Return the number of folds.

        Parameters
        ----------
        X, y, groups : object
            Ignored.

        Returns
        -------
        int
            ``n_splits``.
        """
        return self.n_splits

    def _iter_folds(self, y, groups):
        what = self._layouts[0][0]
        if self._one_label and y is not None:
            _check_one_label(y, groups, what)
        fold_of_group = _deal_groups(
            y, groups, what, self.n_splits, self.shuffle, self.random_state
        )
        for fold in range(self.n_splits):
            test = (fold_of_group == fold)[groups.codes]
            yield f"fold {fold}", ~test, test


class TrialKFold(_StratifiedGroupKFold):
    """K-fold over whole trials, stratified by their labels.

    Windows of one trial resemble each other far more than those of two trials. If they
    were in both sets, a model could score by recognising the trial. ``groups`` is the
    trial of each row. It must distinguish all trials, so rows of several recordings
    need identifiers that name subject, session and trial.

    Two folds differ by at most one in their number of trials, and in the number of
    trials of each class. The folds do not depend on the order of the rows.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at most the number of trials.
    shuffle : bool, default=True
        Whether the folds are drawn at random. If not, trials are dealt to the folds in
        the order of their identifiers, class by class.
    random_state : int, RandomState instance or None, default=None
        Draws the folds if ``shuffle`` is true.

    See Also
    --------
    sklearn.model_selection.StratifiedGroupKFold : Balances rows rather than groups,
        and guarantees nothing about the groups of a fold.
    """

    _layouts = (("trial",),)
    _one_label = True


class StimulusKFold(_StratifiedGroupKFold):
    """K-fold over whole stimuli: no stimulus is in both sets.

    If all subjects saw the same stimuli, a model could score by recognising a stimulus,
    even with different subjects in the two sets. ``groups`` is the stimulus of each
    row. As subjects may have rated it differently, folds are stratified by the label
    that most of its rows have (the first in sorted order, if several are equal).

    Two folds differ by at most one in their number of stimuli. The folds do not depend
    on the order of the rows.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at most the number of stimuli.
    shuffle : bool, default=True
        Whether the folds are drawn at random. If not, stimuli are dealt to the folds in
        the order of their identifiers, class by class.
    random_state : int, RandomState instance or None, default=None
        Draws the folds where ``shuffle`` is true.

    See Also
    --------
    SubjectStimulusKFold : Holds out subjects at the same time.
    """

    _layouts = (("stimulus",),)


class _OneSplit(_GroupSplitter):
    """Split rows once."""

    def get_n_splits(self, X=None, y=None, groups=None):
        """Return the number of splits, which is one.

        Parameters
        ----------
        X, y, groups : object
            Ignored.

        Returns
        -------
        int
            1.
        """
        return 1


class ChronologicalSplit(_OneSplit):
    """Train on the first trials of each recording, test on its last ones.

    There is one split, in the order of the trial numbers, not of the rows. ``groups``
    is the trial number of each row, or recording and trial number; a recording is one
    session of one subject.

    Parameters
    ----------
    train_size : float or int, default=0.6
        Number of training trials of a recording, or their share, rounded to whole
        trials. The default trains on 9 of the 15 trials of SEED.
    """

    _layouts = (("trial number",), ("recording", "trial number"))

    def __init__(self, train_size=0.6):
        self.train_size = train_size

    def _iter_folds(self, y, *columns):
        *recording, (trials, trial) = columns
        numbers = _as_numbers(trials)[trial]
        recordings, of_row = (
            recording[0] if recording else ([None], np.zeros_like(trial))
        )
        train = np.zeros(len(numbers), dtype=bool)
        for code, name in enumerate(recordings):
            rows = of_row == code
            order = np.unique(numbers[rows])
            train[rows] = numbers[rows] < order[self._count_training(len(order), name)]
        yield "its one split", train, ~train

    def _count_training(self, n_trials, recording) -> int:
        """Return how many trials of a recording train."""
        size = self.train_size
        is_share = is_number(size) and 0 < size < 1
        if not is_count(size) and not is_share:
            raise ValueError(
                "train_size must be a share of the trials between 0 and 1 or a number "
                f"of trials from 1, but got {size!r}."
            )
        n_training = round(size * n_trials) if is_share else int(size)
        if not 0 < n_training < n_trials:
            where = "" if recording is None else f" of recording {recording!r}"
            raise ValueError(
                f"train_size={size!r} must leave trials on both sides, but puts "
                f"{min(n_training, n_trials)} of the {n_trials} trials{where} in the "
                f"training set."
            )
        return n_training


class SubjectStimulusKFold(_GroupSplitter):
    """Test one subject on some stimuli, train on other subjects and other stimuli.

    ``groups`` is the subject and the stimulus of each row. For each subject and each
    fold of the stimuli there is one split: it tests on that subject's rows of those
    stimuli and trains on the other subjects' rows of the other stimuli. **Rows that
    share only one of the two with the test set are left out.** Over all splits each
    row is tested once.

    Stimuli are stratified by the label that most of their rows have. The splits do not
    depend on the order of the rows; they come subject by subject.

    Parameters
    ----------
    n_stimulus_splits : int, default=5
        Number of folds of the stimuli, at most the number of stimuli.
    shuffle : bool, default=True
        Whether the stimuli of a fold are drawn at random, see :class:`StimulusKFold`.
    random_state : int, RandomState instance or None, default=None
        Draws the folds where ``shuffle`` is true.

    See Also
    --------
    StimulusKFold : Holds out stimuli alone.
    """

    _layouts = (("subject", "stimulus"),)

    def __init__(self, n_stimulus_splits=5, *, shuffle=True, random_state=None):
        self.n_stimulus_splits = n_stimulus_splits
        self.shuffle = shuffle
        self.random_state = random_state

    def get_n_splits(self, X=None, y=None, groups=None):
        """Return the number of subjects times the number of folds of the stimuli.

        Parameters
        ----------
        X, y : object
            Ignored.
        groups : array-like, shape (n, 2)
            Subject and stimulus of each row.

        Returns
        -------
        int
            Number of splits.
        """
        subjects, _ = self._read_groups(groups)
        return len(subjects.ids) * self.n_stimulus_splits

    def _iter_folds(self, y, subjects, stimuli):
        fold_of_stimulus = _deal_groups(
            y,
            stimuli,
            "stimulus",
            self.n_stimulus_splits,
            self.shuffle,
            self.random_state,
        )
        for code, subject in enumerate(subjects.ids):
            of_subject = subjects.codes == code
            for fold in range(self.n_stimulus_splits):
                of_stimuli = (fold_of_stimulus == fold)[stimuli.codes]
                yield (
                    f"subject {subject!r} and fold {fold} of the stimuli",
                    ~of_subject & ~of_stimuli,
                    of_subject & of_stimuli,
                )


class SubjectSplit(_OneSplit):
    """Divide subjects once, into a training, a validation and a test set.

    ``groups`` is the subject of each row. The three sizes are all counts, all shares,
    or all lists of subjects; one of them may be None, which means the other
    subjects. Examples are 80/20/23 subjects of FACED, ``0.8, 0.1, 0.1``, or
    ``train=None, validation=[], test=[1, 2]``.

    Parameters
    ----------
    train, validation, test : int, float, list or None
        Number of subjects, share of the subjects, or the subjects. Counts must add up
        to the number of subjects and shares to 1. A share gives at least one subject.
        Only ``validation`` may be 0 or empty.
    random_state : int, RandomState instance or None, default=None
        Draws the subjects where counts or shares are given.
    """

    _layouts = (("subject",),)

    def __init__(self, train=0.8, validation=0.1, test=0.1, *, random_state=None):
        self.train = train
        self.validation = validation
        self.test = test
        self.random_state = random_state

    def divide(self, groups) -> dict[str, np.ndarray]:
        """Return the rows of the three sets.

        Parameters
        ----------
        groups : array-like, shape (n,)
            Subject of each row.

        Returns
        -------
        dict of str to ndarray of int
            Rows of ``"train"``, ``"validation"`` and ``"test"``.

        Raises
        ------
        ValueError
            If the sizes do not fit the subjects.
        """
        (subjects,) = self._read_groups(groups)
        return {
            name: np.flatnonzero(np.isin(subjects.codes, codes))
            for name, codes in self._assign(subjects.ids).items()
        }

    def _iter_folds(self, y, subjects):
        parts = self._assign(subjects.ids)
        train, test = (np.isin(subjects.codes, parts[k]) for k in ("train", "test"))
        yield "its one split", train, test

    def _assign(self, ids) -> dict[str, np.ndarray]:
        """Return the codes of the subjects of each set."""
        sizes = {n: getattr(self, n) for n in ("train", "validation", "test")}
        given = {name: size for name, size in sizes.items() if size is not None}
        kinds = {*map(_kind_of_size, given.values())}
        if len(given) < 2 or len(kinds) > 1 or kinds == {"unknown"}:
            raise ValueError(
                "train, validation and test must be all counts, all shares or all "
                f"lists of subjects, at most one of them None, but got {sizes}."
            )
        if kinds == {"list"}:
            parts = {name: _find_subjects(size, ids) for name, size in given.items()}
            order = np.arange(len(ids))
        else:
            counts = self._count(given, len(ids), sizes)
            order = check_random_state(self.random_state).permutation(len(ids))
            bounds = np.cumsum([0, *counts.values()])
            parts = {
                name: order[first:last]
                for name, first, last in zip(counts, bounds, bounds[1:], strict=False)
            }
        taken = np.concatenate([*parts.values()]).astype(int)
        rest = np.setdiff1d(order, taken)
        for name in set(sizes) - set(parts):
            parts[name], rest = rest, rest[:0]
        _check_parts(parts, taken, rest, ids, sizes)
        return parts

    @staticmethod
    def _count(given, n_subjects, sizes) -> dict[str, int]:
        """Return the number of subjects of each set whose size is given."""
        counts = dict(given)
        if not all(isinstance(size, Integral) for size in given.values()):
            rest = round(1 - sum(given.values()), 9)
            shares = {k: rest if size is None else size for k, size in sizes.items()}
            if not (min(shares.values()) >= 0 and abs(sum(shares.values()) - 1) < 1e-8):
                raise ValueError(
                    f"Shares of subjects must add up to 1, but got {sizes}."
                )
            counts = {
                k: max(1, round(v * n_subjects)) if v else 0 for k, v in shares.items()
            }
            if counts["train"]:  # it takes what rounding leaves
                counts["train"] = n_subjects - counts["validation"] - counts["test"]
        left = n_subjects - sum(counts.values())
        if min(counts.values()) < 0 or left < 0 or (len(counts) == 3 and left):
            raise ValueError(
                f"There are {n_subjects} subjects, which cannot be divided as {sizes}: "
                "counts, or shares in whole subjects, must add up to that number."
            )
        return {name: counts[name] for name in sizes if name in counts}


def _kind_of_size(size) -> str:
    """Return whether a size is a number or a list; counts and shares do not mix."""
    if isinstance(size, str | bool):
        return "unknown"
    # Counts and shares do not differ here, as 0 is both.
    return "number" if isinstance(size, Real) else "list"


def _find_subjects(names, ids) -> np.ndarray:
    """Return the codes of named subjects."""
    known = {str(name): code for code, name in enumerate(ids)}
    if unknown := [name for name in names if str(name) not in known]:
        raise ValueError(
            f"Subjects must be among {_listing(ids)}, but got {_listing(unknown)}."
        )
    return np.array([known[str(name)] for name in names], int)


def _check_parts(parts, taken, rest, ids, sizes) -> None:
    """Refuse empty sets, subjects in two sets, and subjects in none."""
    if len(np.unique(taken)) < len(taken):
        raise ValueError(
            f"Each subject must be named once, in one set, but got {sizes}."
        )
    if len(rest):
        raise ValueError(
            f"Every subject must be in a set, but {_listing(ids[rest])} are not: "
            "choose fewer subjects of the corpus, or set one of the sizes to None."
        )
    for name in ("train", "test"):
        if not len(parts[name]):
            raise ValueError(
                f"The {name} set must have a subject, but there are {len(ids)} "
                f"subjects, divided as {sizes}."
            )


def first_trials(trials: pd.DataFrame, n_trials: int) -> np.ndarray:
    """Return which trials are the first of their class.

    Parameters
    ----------
    trials : DataFrame
        Trials of one subject, one row a trial, with ``session``, ``trial`` and
        ``label``.
    n_trials : int
        How many trials of each class.

    Returns
    -------
    ndarray of bool, shape (n_rows,)
        True for the first ``n_trials`` of each class, in the order of sessions and
        trials.

    Raises
    ------
    ValueError
        If ``n_trials`` is not a positive integer, or leaves no trial of any class.
    """
    if not is_count(n_trials):
        raise ValueError(f"n_trials must be an integer from 1, but got {n_trials!r}.")
    ordered = trials.reset_index(drop=True).sort_values(["session", "trial"])
    first = ordered.groupby("label").cumcount().sort_index().to_numpy() < n_trials
    if first.all():
        raise ValueError(
            f"n_trials={n_trials} leaves none of the {len(trials)} trials to test."
        )
    return first


class LeaveOneCorpusOut(_GroupSplitter):
    """Test on one corpus, train on all others.

    ``groups`` is the corpus of each row.

    Parameters
    ----------
    test_corpora : list of str or None, default=None
        Corpora to test on, in this order; the others are only used for training. None
        tests on each corpus, in sorted order.
    """

    _layouts = (("corpus",),)

    def __init__(self, test_corpora=None):
        self.test_corpora = test_corpora

    def get_n_splits(self, X=None, y=None, groups=None):
        """Return the number of corpora to test on.

        Parameters
        ----------
        X, y : object
            Ignored.
        groups : array-like, shape (n,)
            Corpus of each row.

        Returns
        -------
        int
            Number of splits.
        """
        return len(self._find_test_corpora(*self._read_groups(groups)))

    def _iter_folds(self, y, corpora):
        if len(corpora.ids) < 2:
            raise ValueError(
                "LeaveOneCorpusOut needs at least two corpora, but got only "
                f"{corpora.ids.tolist()}."
            )
        for name in self._find_test_corpora(corpora):
            test = (corpora.ids == name)[corpora.codes]
            yield f"corpus {name!r}", ~test, test

    def _find_test_corpora(self, corpora) -> list:
        """Return the corpora to test on, once they are known to be there."""
        known = corpora.ids.tolist()
        wanted = known if self.test_corpora is None else self.test_corpora
        if not (isinstance(wanted, list | tuple) and wanted):
            raise ValueError(
                f"test_corpora must be a list of corpora, but got {wanted!r}."
            )
        if unknown := [name for name in wanted if name not in known]:
            raise ValueError(
                f"test_corpora must be among the corpora given, {known}, but "
                f"got {unknown}."
            )
        return list(dict.fromkeys(wanted))


def _as_columns(groups, what: str) -> np.ndarray:
    """Return groups as an (n, n_columns) array; numbers beside text stay numbers."""
    columns = np.asarray(groups, dtype=object)
    columns = columns[:, None] if columns.ndim == 1 else columns
    if columns.ndim != 2:
        raise ValueError(
            f"Every row must have one {what} or one row of them, but the {what}s have "
            f"the shape {np.shape(groups)}."
        )
    if len(rows := np.flatnonzero(pd.isna(columns).any(axis=1))):
        raise ValueError(
            f"Every row must have a {what}, but row {rows[0]} has "
            f"{columns[rows[0]].tolist()} ({len(rows)} of {len(columns)} rows lack it)."
        )
    return columns


def _as_numbers(trials: np.ndarray) -> np.ndarray:
    """Return trial numbers as numbers, as "10" sorts before "2"."""
    try:
        return np.asarray(pd.to_numeric(trials))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Trial numbers must be numbers, but they are {_listing(trials)}."
        ) from error


def _count_labels(y: _Ids, groups: _Ids) -> np.ndarray:
    """Return how often each group (row) has each label (column)."""
    counts = np.zeros((len(groups.ids), len(y.ids)), dtype=int)
    np.add.at(counts, (groups.codes, y.codes), 1)
    return counts


def _check_one_label(y: _Ids, groups: _Ids, what: str) -> None:
    """Refuse a group whose rows have several labels."""
    has_label = _count_labels(y, groups) > 0
    mixed = np.flatnonzero(has_label.sum(axis=1) > 1)
    if len(mixed):
        raise ValueError(
            f"Every {what} must have one label, but {what} {groups.ids[mixed[0]]!r} "
            f"has {_listing(y.ids[has_label[mixed[0]]])}. Identifiers of rows of "
            f"several recordings must name subject and session too."
        )


def _deal_groups(
    y: _Ids | None, groups: _Ids, what: str, n_splits, shuffle, random_state
) -> np.ndarray:
    """Return the fold of each group: dealt like cards, class by class.

    Unlike ``StratifiedKFold`` over the groups this also serves more folds than a class
    has groups.
    """
    n_groups = len(groups.ids)
    if not is_count(n_splits, 2):
        raise ValueError(
            f"The number of folds must be an integer from 2, but got {n_splits!r}."
        )
    if n_splits > n_groups:
        raise ValueError(
            f"The number of folds must be at most that of the groups, but got "
            f"{n_splits} folds for {n_groups} groups by {what}: {_listing(groups.ids)}."
        )
    order = np.arange(n_groups)
    if shuffle:
        check_random_state(random_state).shuffle(order)
    if y is not None:
        label = _count_labels(y, groups).argmax(axis=1)
        order = order[np.argsort(label[order], kind="stable")]
    folds = np.empty(n_groups, dtype=int)
    folds[order] = np.arange(n_groups) % n_splits
    return folds


def _listing(names) -> str:
    """Return the first few names, and how many there are if that is not all."""
    names = sorted(map(repr, names))
    listed = ", ".join(names[:_N_LISTED])
    return listed if len(names) <= _N_LISTED else f"{listed}, ... ({len(names)} in all)"
