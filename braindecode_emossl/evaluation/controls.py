"""Controls: evaluations of changed folds that show what a result rests on.

A control is a function ``f(fold, rng, **options)`` that takes a
:class:`~braindecode_emossl.evaluation.FoldData` and a NumPy generator, and yields
changed folds. Those of this module are found by name, where underscores may be hyphens.
Each fold of a result starts the generator from the same state, so that a draw by the
name of a trial is the same in all folds.
"""

from __future__ import annotations

import inspect
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from braindecode_emossl.checks import check_count, is_number

# The names of controls complete commands, so what takes long to import is imported
# where it is used.
if TYPE_CHECKING:
    from braindecode_emossl.evaluation.folds import FoldData
    from braindecode_emossl.evaluation.protocols import Protocol

__all__ = [
    "injected_signal",
    "permuted_labels",
    "phase_randomized",
    "reversed_time",
    "shuffled_time",
    "stimulus_seen",
]

# Part of the folds with which the other folds of a control are compared.
REFERENCE = "reference"
# Hz; the classes of an injected signal are spread over this range.
_LOWEST, _HIGHEST = 6.0, 30.0
# Of the sampling rate: above it, filters leave nothing.
_MOST_OF_RATE = 0.4


def _control(*needs: str, **checks: Callable[[str, Any], None]):
    """Note what a control needs, and how the values of its options are checked."""

    def note(function):
        function.needs, function.checks = needs, checks
        return function

    return note


def _check_splits(name: str, value) -> None:
    check_count(name, value, 2)


def _check_positive(name: str, value) -> None:
    if not is_number(value) or value <= 0:
        raise ValueError(f"{name} must be a positive number, but got {value!r}.")


# -- the controls --------------------------------------------------------------


@_control(n_permutations=check_count)
def permuted_labels(fold, rng, *, n_permutations=20):
    """Permute the labels among the trials of each training subject.

    Whole trials are permuted, never windows, so that all windows of a trial keep one
    label, and each subject keeps the number of trials of each class. Calibration trials
    and those of validation subjects are permuted in the same way. Test labels stay. The
    scores are an empirical null distribution: the score that the pipeline reaches where
    there is nothing to learn. A trial has the same label in all folds of a permutation
    if they train on the same trials of its subject.

    Parameters
    ----------
    fold : FoldData
        The fold.
    rng : numpy.random.Generator
        Draws the permutations.
    n_permutations : int, default=20
        Number of permutations. The smallest p-value is 1 / (n_permutations + 1).

    Yields
    ------
    FoldData
        One fold for each permutation.
    """
    from braindecode_emossl.evaluation.folds import draw_key, group_ids

    given = np.concatenate([fold.train, fold.calibration, fold.validation])
    table = fold.metadata.iloc[given]
    names, trial_of_row = np.unique(group_ids(table, "trial"), return_inverse=True)
    _, first = np.unique(trial_of_row, return_index=True)
    subjects = group_ids(table.iloc[first], "subject")
    labels = fold.y[given[first]]
    in_order = np.argsort(subjects, kind="stable")
    for number in range(n_permutations):
        seed = int(rng.integers(2**63))
        keys = np.array([draw_key(name, seed) for name in names])
        permuted = np.empty_like(labels)
        permuted[np.lexsort((keys, subjects))] = labels[in_order]
        y = fold.y.copy()
        y[given] = permuted[trial_of_row]
        yield replace(fold, y=y, part=str(number))


@_control(snr=_check_positive)
def injected_signal(fold, rng, *, snr=0.5):
    """Add a class-dependent oscillation to the windows.

    It asks whether a pipeline can learn anything within its budget. Each class has a
    frequency, spaced evenly on a logarithmic scale from 6 to 30 Hz (at most 0.4 of the
    sampling rate), and a gain for each channel. The oscillation has another phase in
    each window. Windows without a label get none. To features, a pattern of the class
    is added instead.

    Parameters
    ----------
    fold : FoldData
        The fold.
    rng : numpy.random.Generator
        Draws gains, patterns and phases.
    snr : float, default=0.5
        Root mean square of the oscillation relative to the standard deviation of the
        channel in the window, as the root mean square over channels; for features, that
        of the pattern relative to the standard deviation of the feature over the
        training windows.

    Yields
    ------
    FoldData
        One fold, whose training and test windows contain the oscillation.
    """
    from braindecode_emossl.paradigms.labels import UNLABELED

    classes = np.unique(fold.y[fold.y != UNLABELED])
    codes = np.searchsorted(classes, fold.y)
    codes[fold.y == UNLABELED] = -1
    if fold.are_features:
        patterns = rng.standard_normal((len(classes), *fold.X.shape[1:]))
        patterns *= snr * fold.X[fold.train].std(axis=0) / _rms(patterns)
        yield fold.change_windows(_Pattern(codes, patterns))
        return
    gains = np.abs(rng.standard_normal((len(classes), fold.X.shape[1])))
    highest = min(_HIGHEST, _MOST_OF_RATE * fold.sfreq)
    yield fold.change_windows(
        _Oscillation(
            codes=codes,
            frequencies=np.geomspace(_LOWEST, highest, len(classes)),
            gains=snr * gains / _rms(gains),
            phases=_draw_seeds(fold, rng) * (2 * np.pi / 2**63),
            sfreq=fold.sfreq,
        )
    )


@_control("signals")
def shuffled_time(fold, rng):
    """Shuffle the samples of each window in time, those of all channels together.

    Amplitudes and the covariance of channels stay; spectra become flat. A pipeline that
    scores the same does not use how the signal evolves in time.

    Parameters
    ----------
    fold : FoldData
        The fold, of signals.
    rng : numpy.random.Generator
        Draws the order of the samples of each window.

    Yields
    ------
    FoldData
        One fold, in which all windows are shuffled.
    """
    yield fold.change_windows(_EachWindow(_draw_seeds(fold, rng), _shuffle))


@_control("signals")
def reversed_time(fold, rng):
    """Reverse each window in time.

    Power spectra and the covariance of channels stay. A pipeline that scores the same
    does not use the direction of time.

    Parameters
    ----------
    fold : FoldData
        The fold, of signals.
    rng : numpy.random.Generator
        Ignored.

    Yields
    ------
    FoldData
        One fold, in which all windows are reversed.
    """
    yield fold.change_windows(_reverse)


@_control("signals")
def phase_randomized(fold, rng):
    """Randomise the phases of each window, in the same way for all its channels.

    At each frequency of the window's discrete Fourier transform, one random phase is
    added to all channels [1]_, so that auto-spectra and cross-spectra over the window
    stay. A pipeline that scores the same reads spectra and linear coupling only. The
    mean of the window and, for an even number of samples, the bin at half the sampling
    rate are left as they are, as their values are real.

    Parameters
    ----------
    fold : FoldData
        The fold, of signals.
    rng : numpy.random.Generator
        Draws the phases of each window.

    Yields
    ------
    FoldData
        One fold, in which all windows have random phases.

    Notes
    -----
    Cross-spectra stay up to rounding: the largest difference is below 1e-5 of the
    largest value in single precision, and below 1e-12 in double precision.

    References
    ----------
    .. [1] Prichard, D., & Theiler, J. (1994). Generating surrogate data for time series
       with several simultaneously measured variables. Physical Review Letters, 73(7),
       951-954. https://doi.org/10.1103/PhysRevLett.73.951
    """
    yield fold.change_windows(_EachWindow(_draw_seeds(fold, rng), _randomize_phases))


@_control("held-out subjects", n_stimulus_splits=_check_splits)
def stimulus_seen(fold, rng, *, n_stimulus_splits=5):
    """Train on other subjects who have, or have not, seen the test stimuli.

    The stimuli are divided into folds, which are tested one by one. The test
    stimuli are withheld from the training of the other subjects (the reference) or
    available in it. Both training sets have the same number of windows of each class
    and subject: where test stimuli are available, they replace windows of others. The
    difference in score is the gain from recognising a stimulus. Validation windows and
    windows without labels are treated in the same way.

    Parameters
    ----------
    fold : FoldData
        A fold that holds out subjects, but no stimuli.
    rng : numpy.random.Generator
        Divides the stimuli, and draws the windows that are replaced.
    n_stimulus_splits : int, default=5
        Number of folds of the stimuli, at most the number of stimuli.

    Yields
    ------
    FoldData
        For each fold of the stimuli, one with the test stimuli available and one with
        them withheld, whose ``part`` is ``"reference"``.

    Raises
    ------
    ValueError
        If there are too few stimuli, or a class or the test stimuli are left without
        training windows.
    """
    from braindecode_emossl.evaluation.folds import group_ids
    from braindecode_emossl.evaluation.splitters import StimulusKFold

    seed = int(rng.integers(2**31))
    rows = np.concatenate([fold.train, fold.test])
    stimuli = group_ids(fold.metadata, "stimulus")
    splitter = StimulusKFold(n_stimulus_splits, random_state=seed)
    try:
        splits = list(splitter.split(rows, fold.y[rows], stimuli[rows]))
    except ValueError as error:
        raise ValueError(
            f"The control 'stimulus-seen' cannot divide the stimuli. {error}"
        ) from error
    for _, chosen in splits:
        tested = np.isin(stimuli, np.unique(stimuli[rows[chosen]]))
        test = fold.test[tested[fold.test]]
        if not len(test):
            continue
        roles = ("train", "unlabeled", "validation")
        pairs = {k: _match(fold, getattr(fold, k), tested, seed) for k in roles}
        given = fold.y[pairs["train"][1]]
        if missing := sorted(set(fold.y[test].tolist()) - set(given.tolist())):
            raise ValueError(
                f"The control 'stimulus-seen' leaves no training windows of the "
                f"classes {missing} if the {len(np.unique(stimuli[test]))} test "
                f"stimuli are withheld: increase n_stimulus_splits, which is "
                f"{n_stimulus_splits}, or use fewer classes."
            )
        if not tested[pairs["train"][0]].any():
            raise ValueError(
                "The control 'stimulus-seen' leaves no training windows of the test "
                "stimuli: no subject has others of the same class, which they could "
                f"replace. Increase n_stimulus_splits, which is {n_stimulus_splits}, "
                "or the number of labelled trials."
            )
        for place, part in enumerate(("", REFERENCE)):
            sets = {role: pair[place] for role, pair in pairs.items()}
            yield replace(fold, test=test, part=part, **sets)


def _match(fold: FoldData, rows, tested, seed) -> tuple[np.ndarray, np.ndarray]:
    """Return rows with and without the test stimuli, equal in subjects and classes."""
    import pandas as pd

    from braindecode_emossl.evaluation.folds import draw_key, group_ids

    metadata = fold.metadata.iloc[rows]
    names, trial_of_row = np.unique(group_ids(metadata, "trial"), return_inverse=True)
    order = np.array([draw_key(name, seed) for name in names], dtype=np.int64)
    table = pd.DataFrame(
        {
            "row": rows,
            "group": [*zip(group_ids(metadata, "subject"), fold.y[rows], strict=True)],
            "is_other": ~tested[rows],
            "order": order[trial_of_row],
        }
    )
    n_others = table.groupby("group")["is_other"].transform("sum")
    table = table.sort_values(["is_other", "order", "row"])
    seen = table.groupby("group").cumcount() < n_others[table.index]
    return np.sort(table["row"][seen].to_numpy()), rows[~tested[rows]]


# -- changes of windows --------------------------------------------------------


def _draw_seeds(fold: FoldData, rng: np.random.Generator) -> np.ndarray:
    """Return a number from 0 to 2**63 - 1 for each window, by its name."""
    from braindecode_emossl.evaluation.folds import draw_key, group_ids

    seed = int(rng.integers(2**63))
    names, trial_of_row = np.unique(
        group_ids(fold.metadata, "trial"), return_inverse=True
    )
    keys = np.array([draw_key(name, seed) for name in names], dtype=np.uint64)
    windows = fold.metadata["window"].to_numpy().astype(np.uint64)
    # An odd constant: different windows of a trial never have the same number.
    mixed = keys[trial_of_row] + windows * np.uint64(0x9E3779B97F4A7C15)
    return mixed >> np.uint64(1)


def _rms(values: np.ndarray) -> np.ndarray:
    """Return the root mean square of each class."""
    axes = tuple(range(1, values.ndim))
    return np.sqrt((values**2).mean(axis=axes, keepdims=True))


@dataclass(frozen=True)
class _EachWindow:
    """Change each window by a function of the window and a generator of its own."""

    seeds: np.ndarray
    function: Callable[[np.ndarray, np.random.Generator], np.ndarray]

    def __call__(self, windows, rows):
        changed = np.empty_like(windows)
        for number, row in enumerate(rows):
            rng = np.random.default_rng(int(self.seeds[row]))
            changed[number] = self.function(windows[number], rng)
        return changed


def _shuffle(window: np.ndarray, rng) -> np.ndarray:
    return window[:, rng.permutation(window.shape[1])]


def _randomize_phases(window: np.ndarray, rng) -> np.ndarray:
    n_times = window.shape[1]
    spectrum = np.fft.rfft(window.astype(np.float64), axis=1)
    n_free = (n_times - 1) // 2  # without the mean and half the sampling rate
    phases = rng.uniform(0, 2 * np.pi, n_free)
    spectrum[:, 1 : 1 + n_free] *= np.exp(1j * phases)
    return np.fft.irfft(spectrum, n_times, axis=1)


def _reverse(windows, rows):
    return windows[..., ::-1].copy()


@dataclass(frozen=True)
class _Oscillation:
    """Add the oscillation of its class to each window."""

    codes: np.ndarray
    frequencies: np.ndarray
    gains: np.ndarray
    phases: np.ndarray
    sfreq: float

    def __call__(self, windows, rows):
        changed = windows.copy()
        times = np.arange(windows.shape[-1]) / self.sfreq
        for number, row in enumerate(rows):
            if (code := self.codes[row]) < 0:
                continue
            angle = 2 * np.pi * self.frequencies[code] * times + self.phases[row]
            peaks = np.sqrt(2) * self.gains[code] * windows[number].std(axis=-1)
            changed[number] += np.outer(peaks, np.sin(angle)).astype(windows.dtype)
        return changed


@dataclass(frozen=True)
class _Pattern:
    """Add the pattern of its class to the features of each window."""

    codes: np.ndarray
    patterns: np.ndarray

    def __call__(self, windows, rows):
        changed = windows.copy()
        labeled = self.codes[rows] >= 0
        added = self.patterns[self.codes[rows][labeled]]
        changed[labeled] += added.astype(windows.dtype)
        return changed


# -- finding controls ----------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Control:
    """A control with its options.

    Attributes
    ----------
    name : str
        Name in the column ``control``, with the options that the caller set.
    function : callable
        The control.
    options : mapping of str to object
        All options.
    """

    name: str
    function: Callable[..., Iterator[FoldData]]
    options: Mapping[str, Any]

    def identify(self) -> dict[str, Any]:
        """Return everything that distinguishes the control, as JSON."""
        from braindecode_emossl.storage import as_json, hash_object

        contents = [self.function, dict(self.options)]
        return {
            "name": self.name,
            "options": as_json({k: repr(v) for k, v in self.options.items()}),
            "hash": hash_object(contents, f"The control {self.name!r}"),
        }

    def change(self, fold: FoldData, seed: int) -> Iterator[FoldData]:
        """Yield the changed folds.

        Parameters
        ----------
        fold : FoldData
            The fold.
        seed : int
            Seed of the folds.

        Yields
        ------
        FoldData
            The changed folds.

        Raises
        ------
        ValueError
            If the function yields something else, or an unknown ``part``.
        """
        from braindecode_emossl.evaluation.folds import FoldData

        # Without the options, so that 100 permutations begin with the same 20.
        name, _, _ = self.name.partition("(")
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        for changed in self.function(fold, rng, **self.options):
            if not isinstance(changed, FoldData):
                raise ValueError(
                    f"The control {self.name!r} must yield folds, made from the fold "
                    f"that it is given, but yielded {changed!r:.100}."
                )
            if changed.part not in ("", REFERENCE) and not changed.part.isdecimal():
                raise ValueError(
                    f"The part of a fold of a control must be '', {REFERENCE!r} or the "
                    f"number of a draw, but {self.name!r} yielded {changed.part!r}."
                )
            yield changed


def list_controls() -> list[str]:
    """Return the names of the controls of this module, with hyphens."""
    return [name.replace("_", "-") for name in __all__]


def find_controls(controls, protocol: Protocol, are_features: bool) -> list[Control]:
    """Return the controls that a caller asks for.

    Parameters
    ----------
    controls : None, "all", or list of str, tuple or callable
        Names, pairs of a name or function and its options, and functions.
    protocol : Protocol
        The protocol.
    are_features : bool
        Whether the windows are features.

    Returns
    -------
    list of Control
        Without those that need signals, if the windows are features; a warning names
        them. "all" also leaves out those that do not suit the protocol.

    Raises
    ------
    ValueError
        If a name or option is unknown, a value is wrong, or a control does not suit the
        protocol.
    """
    if controls is None:
        return []
    asked = list_controls() if controls == "all" else controls
    if not isinstance(asked, list | tuple):
        raise ValueError(
            'controls must be None, "all" or a list of names, functions and pairs such '
            f'as ("injected-signal", {{"snr": 0.5}}), but got {controls!r}.'
        )
    found = []
    for item in asked:
        control = _find_control(item)
        needs = getattr(control.function, "needs", ())
        if "held-out subjects" in needs and not _holds_out_subjects(protocol):
            reason = (
                f"The control {control.name!r} needs a protocol that holds out "
                "subjects but not stimuli, such as 'leave-one-subject-out', but the "
                f"protocol is {protocol.name!r}."
            )
            if controls != "all":
                raise ValueError(reason)
            warnings.warn(f"Left out: {reason}", stacklevel=3)
        elif "signals" in needs and are_features:
            warnings.warn(
                f"Left out: the control {control.name!r} is not applicable to "
                "features, as they have no time axis. Evaluate signals (features=None) "
                "to run it.",
                stacklevel=3,
            )
        else:
            found.append(control)
    names = [control.name for control in found]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(
            f"Controls must not be repeated, but got {repeated} several times."
        )
    return found


def _holds_out_subjects(protocol: Protocol) -> bool:
    return {"subject", "stimulus"} & set(protocol.never_shared) == {"subject"}


def _find_control(item) -> Control:
    """Return the control of a name, a function, or a pair of these with options."""
    is_pair = isinstance(item, list | tuple) and len(item) == 2
    what, given = item if is_pair else (item, {})
    if isinstance(what, str) and what in list_controls():
        what = getattr(sys.modules[__name__], what.replace("-", "_"))
    if not callable(what) or not isinstance(given, Mapping):
        raise ValueError(
            f"A control must be one of {list_controls()}, a function, or a pair of "
            f"these with a dict of options, but got {item!r}."
        )
    name = getattr(what, "__name__", type(what).__name__).replace("_", "-")
    options = _complete_options(what, name, given)
    for option, check in getattr(what, "checks", {}).items():
        check(f"{option} of the control {name!r}", options[option])
    shown = ", ".join(f"{option}={value}" for option, value in given.items())
    return Control(f"{name}({shown})" if shown else name, what, options)


def _complete_options(function, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options of a control: the given ones and the defaults of others."""
    _, _, *parameters = inspect.signature(function).parameters.values()
    defaults = {p.name: p.default for p in parameters}
    missing = {k for k, v in defaults.items() if v is inspect.Parameter.empty}
    if (set(given) - set(defaults)) or (missing - set(given)):
        raise ValueError(
            f"The options of the control {name!r} are {list(defaults)}, but got "
            f"{list(given)}."
        )
    return {**defaults, **given}
