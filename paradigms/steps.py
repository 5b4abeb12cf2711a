"""The steps from a recording to labelled windows, as MOABB's fixed transformers.

They take a raw of MNE, as the caches and the corpora of others give it, or the
`Signals` of a corpus of this package, which is many times faster.
"""

from __future__ import annotations

import itertools
import pickle
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import joblib
import mne
import numpy as np
from moabb.datasets.preprocessing import FixedTransformer, get_filter_pipeline
from moabb.datasets.utils import pick_channels_for_modalities
from sklearn import config_context

from braindecode_emossl.datasets.base import RATING_NAMES
from braindecode_emossl.datasets.signals import (
    Channels,
    Signals,
    Windows,
    find_missing,
    hold,
)
from braindecode_emossl.features import BANDS, BandPower, DifferentialEntropy
from braindecode_emossl.paradigms.labels import UNLABELED, Labeller
from braindecode_emossl.paradigms.recordings import VOLTAGE_TYPES

__all__ = [
    "BAND_FEATURES",
    "CutTrials",
    "CutWindows",
    "EventsToLabels",
    "FilterEEG",
    "KeepUsed",
    "Pick",
    "Resample",
    "SubtractBaseline",
    "ToArrays",
    "UsedTrials",
    "without_addresses",
]

# MOABB's caches keep only the event of a window: (sample, free column, label code).
# The free column holds the trial and the window, packed into one integer of 31 bits,
# the most that MNE's files keep: the windows of 29 h at one window per 50 ms.
_MAX_WINDOWS = 2**21
_MAX_TRIALS = 2**10

# Extras of a trial that are numbers.
_NUMBERS = ("length", *RATING_NAMES)


class Pick(FixedTransformer):
    """Select channels: by name in order, else as MNE picks, else by modality.

    Channels that are marked as bad are kept: windows of all recordings have the same.
    ``source`` is where the recordings come from. It changes nothing here, but keeps
    MOABB's caches and results from mistaking one copy of a corpus for another.
    """

    def __init__(
        self,
        source: str,
        channels: Sequence[str] | None,
        picks: str | Sequence[str] | None,
        modalities: bool | dict,
        fill_missing: bool,
    ):
        self.source = source
        self.channels = channels
        self.picks = picks
        self.modalities = modalities
        self.fill_missing = fill_missing
        self._picked: dict[Channels, list[str]] = {}

    def __repr__(self):
        values = self.source, self.channels, self.picks, self.modalities
        return f"Pick({', '.join(map(str, (*values, self.fill_missing)))})"

    def transform(self, raw, y=None):
        """Return the recording with the selected channels."""
        if not isinstance(raw, Signals):
            return self._pick(raw)
        # All runs of a recording have the same channels: MNE picks once.
        if raw.channels not in self._picked:
            empty = mne.io.RawArray(
                np.zeros((len(raw.channels.names), 1)), raw.info, verbose=False
            )
            self._picked[raw.channels] = self._pick(empty).ch_names
        return raw.pick(self._picked[raw.channels])

    def _pick(self, raw):
        raw.info["bads"] = []  # MNE would neither filter nor pick them
        if self.channels is not None:
            return self._pick_names(raw, self.channels)
        if self.picks is not None:
            return self._pick_as_mne(raw, self.picks)
        return raw.pick(pick_channels_for_modalities(raw.info, self.modalities))

    def _pick_names(self, raw, channels: Sequence[str]):
        known = [name for name in channels if name in raw.ch_names]
        if not known or (len(known) < len(channels) and not self.fill_missing):
            missing = [name for name in channels if name not in known]
            raise ValueError(
                f"channels must be among {raw.ch_names}, but {missing} are not."
            )
        return raw.pick(known).reorder_channels(known)

    def _pick_as_mne(self, raw, picks: str | Sequence[str]):
        # MNE passes over a type that is missing if there is another one.
        types = sorted(set(raw.get_channel_types()))
        wanted = [picks] if isinstance(picks, str) else picks
        known = {*types, *raw.ch_names, "all", "data"}
        if missing := [name for name in wanted if name not in known]:
            raise ValueError(
                f"picks must be among the channel types {types} or the channels "
                f"{raw.ch_names}, but {missing} are not."
            )
        return raw.pick(picks)


class FilterEEG(FixedTransformer):
    """Apply MOABB's band-pass filter to the EEG, if there is any."""

    def __init__(self, fmin: float | None, fmax: float | None):
        self.fmin = fmin
        self.fmax = fmax

    def __repr__(self):
        return f"FilterEEG({self.fmin}, {self.fmax})"

    def transform(self, raw, y=None):
        """Return the filtered recording."""
        has_filter = (self.fmin, self.fmax) != (None, None)
        if not has_filter or "eeg" not in raw.get_channel_types():
            return raw
        is_signals = isinstance(raw, Signals)
        sfreq = raw.channels.sfreq if is_signals else raw.info["sfreq"]
        if max(self.fmin or 0.0, self.fmax or 0.0) >= sfreq / 2:
            raise ValueError(
                f"fmin and fmax must be less than half the sampling rate of {sfreq:g} "
                f"Hz, but got fmin={self.fmin} and fmax={self.fmax}."
            )
        if is_signals:
            return raw.filter(self.fmin, self.fmax)
        return get_filter_pipeline(self.fmin, self.fmax).transform(raw)


class SubtractBaseline(FixedTransformer):
    """Subtract from each trial's EEG its mean in an interval."""

    def __init__(self, interval: Sequence[float]):
        self.interval = tuple(interval)

    def __repr__(self):
        return f"SubtractBaseline{self.interval}"

    def transform(self, raw, y=None):
        """Return the recording with the baseline of each trial subtracted."""
        if "eeg" not in raw.get_channel_types():
            return raw
        if isinstance(raw, Signals):
            return raw.replace_eeg(self._subtract(raw))
        return raw.load_data(verbose=False).apply_function(
            lambda _: self._subtract(raw),
            picks="eeg",
            channel_wise=False,
            verbose=False,
        )

    def _subtract(self, raw) -> np.ndarray:
        """Return the EEG (n_eeg, n_times) of a recording without the baselines."""
        start, stop = self.interval
        sfreq, original = raw.info["sfreq"], raw.get_data("eeg")
        data = original.copy()  # a baseline may lie in the trial before
        for onset, trial in _trials_of(raw):
            first, last = (round((onset + t) * sfreq) for t in (start, stop))
            if not 0 <= first < last <= data.shape[1]:
                raise ValueError(
                    f"baseline {self.interval} s of trial {trial['trial']} (starts at "
                    f"{onset:g} s) leaves its recording, which lasts "
                    f"{raw.n_times / sfreq:g} s. Choose an interval inside it."
                )
            inside = slice(
                round(onset * sfreq), round((onset + trial["length"]) * sfreq)
            )
            data[:, inside] -= original[:, first:last].mean(axis=1, keepdims=True)
        return data


class Resample(FixedTransformer):
    """Resample the recording before it is cut."""

    def __init__(self, sfreq: float):
        self.sfreq = sfreq

    def __repr__(self):
        return f"Resample({self.sfreq:g} Hz)"

    def transform(self, raw, y=None):
        """Return the recording at the sampling rate."""
        if raw.info["sfreq"] == self.sfreq:
            return raw
        if isinstance(raw, Signals):
            return raw.resample(self.sfreq)
        data = raw.load_data(verbose=False).get_data()
        rows = find_missing(data, raw.get_channel_types())
        if not len(rows):
            return raw.resample(self.sfreq, verbose=False)
        raw.resample(self.sfreq, verbose=False)
        raw[rows] = hold(data[rows], raw.n_times)
        return raw


@dataclass(frozen=True)
class UsedTrials:
    """The trials of a recording that are used, and the part of each.

    ``event_id`` has the code of each label; with one for ``UNLABELED``, trials without
    a label are used too.
    """

    event_id: Mapping[str, int]
    labeller: Labeller
    tmin: float = 0.0
    tmax: float | None = None
    last: float | None = None

    def find(self, raw) -> Iterator[tuple[float, Mapping, int]]:
        """Yield (onset in s, extras, code) of each of them."""
        unlabeled = self.event_id.get(UNLABELED)
        for onset, trial in _trials_of(raw):
            label = self.labeller(trial, _subject_of(raw))
            code = unlabeled if label is None else self.event_id.get(label)
            if code is not None:
                yield onset, trial, code

    def describe(self) -> str:
        """Return the settings of the part that is used, for messages."""
        names = ("tmin", "tmax", "last")
        values = {name: getattr(self, name) for name in names}
        return ", ".join(f"{k}={v:g}" for k, v in values.items() if v is not None)

    def span(self, raw, onset: float, trial: Mapping) -> tuple[int, int]:
        """Return the first sample and the length of the part that is used."""
        sfreq, length = raw.info["sfreq"], trial["length"]
        start = self.tmin if self.last is None else max(self.tmin, length - self.last)
        stop = length if self.tmax is None else min(self.tmax, length)
        if round((stop - start) * sfreq) < 1:
            raise ValueError(
                f"Trial {trial['trial']} (stimulus {trial['stimulus']}) lasts "
                f"{length:g} s: nothing of it is selected by {self.describe()}."
            )
        # Durations, not end points, are rounded: a window starts on the same sample
        # of its trial wherever the trial lies in the recording.
        first = round(onset * sfreq) + round(start * sfreq)
        # Both may round up, to a sample more than there is.
        return first, min(round((stop - start) * sfreq), raw.n_times - first)


class CutTrials(FixedTransformer):
    """Find the trials of a recording that are used."""

    def __init__(self, trials: UsedTrials):
        self.trials = trials

    def __repr__(self):
        return f"CutTrials({self.trials})"

    def transform(self, raw, y=None):
        """Return one event for each of them."""
        events = [
            (round(onset * raw.info["sfreq"]), _pack(trial["trial"], 0), code)
            for onset, trial, code in self.trials.find(raw)
        ]
        return np.array(events, int).reshape(-1, 3)

    def crop(self, raw) -> list[mne.io.BaseRaw]:
        """Return each of them as a raw of its own."""
        return [
            self._crop(raw, onset, trial) for onset, trial, _ in self.trials.find(raw)
        ]

    def _crop(self, raw, onset, trial):
        sfreq = raw.info["sfreq"]
        first, n_times = self.trials.span(raw, onset, trial)
        signals = raw.get_data(start=first, stop=first + n_times)
        part = mne.io.RawArray(signals, raw.info, verbose=False)
        return part.set_annotations(
            mne.Annotations(0, n_times / sfreq, trial["emotion"], extras=[trial])
        )


class KeepUsed(FixedTransformer):
    """Return a recording if any of its trials is used."""

    def __init__(self, trials: UsedTrials):
        self.trials = trials

    def __repr__(self):
        return f"KeepUsed({self.trials})"

    def transform(self, raw, y=None):
        """Return the recording, or None, at which MOABB skips the run."""
        return raw if any(self.trials.find(raw)) else None


class CutWindows(FixedTransformer):
    """Cut the trials that are used into windows of exact length."""

    def __init__(self, trials: UsedTrials, window: float, stride: float):
        self.trials = trials
        self.window = window
        self.stride = stride

    def __repr__(self):
        return f"CutWindows({self.trials}, window={self.window}, stride={self.stride})"

    def transform(self, raw, y=None):
        """Return the windows with trial and window in their events."""
        sfreq = raw.info["sfreq"]
        events = [
            event
            for onset, trial, code in self.trials.find(raw)
            for event in self._events(onset, trial, code, raw)
        ]
        if not events:
            return None  # MOABB skips the run
        events = np.array(events, int)
        if isinstance(raw, Signals):
            return Windows(raw, events, round(self.window * sfreq))
        events[:, 0] += raw.first_samp
        return mne.Epochs(
            raw,
            events,
            event_id=self._present(events),
            tmin=0.0,
            tmax=(round(self.window * sfreq) - 1) / sfreq,  # MNE includes the end
            picks="all",
            baseline=None,
            proj=False,
            preload=True,
            verbose=False,
        )

    def _events(self, onset, trial, code, raw):
        """Yield (sample, packed trial and window, code) of a trial's windows."""
        sfreq = raw.info["sfreq"]
        n_window = round(self.window * sfreq)
        if not n_window or self.stride * sfreq < 1 - 1e-9:
            raise ValueError(
                f"window and stride must last at least one sample of {1 / sfreq:g} s, "
                f"but got {self.window:g} s and {self.stride:g} s."
            )
        first, n_times = self.trials.span(raw, onset, trial)
        spare = n_times - n_window
        if spare < 0:
            raise ValueError(
                f"Trial {trial['trial']} (stimulus {trial['stimulus']}) offers "
                f"{n_times / sfreq:g} s ({self.trials.describe()}), less than one "
                f"window of {self.window:g} s. Choose a shorter window."
            )
        for window in itertools.count():
            start = round(window * self.stride * sfreq)
            if start > spare:
                return
            yield first + start, _pack(trial["trial"], window), code

    def _present(self, events):
        event_id = self.trials.event_id
        return {name: code for name, code in event_id.items() if code in events[:, 2]}


class ToArrays(FixedTransformer):
    """Turn windows into scaled arrays or features, together with their events."""

    def __init__(self, unit_factor, features, postprocess_pipeline, channels):
        self.unit_factor = unit_factor
        self.features = features
        self.postprocess_pipeline = postprocess_pipeline
        self.channels = channels  # to fill up to, with zeros

    def __repr__(self):
        steps = [_identity(step) for step in (self.features, self.postprocess_pipeline)]
        return f"ToArrays({self.unit_factor:g}, {', '.join(steps)}, {self.channels})"

    # Under a user's set_config(transform_output="pandas"), too.
    @config_context(transform_output="default")
    def transform(self, epochs, y=None):
        """Return ``X``, ``events`` and ``ch_names`` of the windows."""
        types = epochs.get_channel_types()
        factors = [self.unit_factor if t in VOLTAGE_TYPES else 1.0 for t in types]
        X = epochs.get_data(copy=True)
        X *= np.array(factors)[:, None]  # (n_windows, n_chans, n_times)
        if isinstance(self.features, str):
            _check_all_eeg(epochs, self.features)
            X = BAND_FEATURES[self.features](X, epochs.info["sfreq"])
        elif self.features is not None:
            X = self.features.transform(X)
        if self.channels is not None:
            X = self._fill(X, epochs.ch_names)
        if self.postprocess_pipeline is not None:
            X = self.postprocess_pipeline.transform(X)
        names = self.channels or epochs.ch_names
        # MOABB's disk cache does not keep the names.
        return OrderedDict([("X", X), ("events", epochs.events), ("ch_names", names)])

    def _fill(self, X, ch_names):
        """Insert (n_windows, n_known, ...) among all channels, the others zero."""
        if X.ndim < 2 or X.shape[1] != len(ch_names):
            raise ValueError(
                "Missing channels can be filled with zeros only if features keep the "
                f"channels in the second axis, of {len(ch_names)}, but their output "
                f"has the shape {X.shape}. Match the corpora with "
                'channel_merge_strategy="intersect".'
            )
        filled = np.zeros((len(X), len(self.channels), *X.shape[2:]), X.dtype)
        filled[:, [self.channels.index(name) for name in ch_names]] = X
        return filled


class EventsToLabels(FixedTransformer):
    """Read label, trial and window from the events of the windows."""

    def __init__(self, event_id: Mapping[str, int]):
        self.event_id = event_id

    def __repr__(self):
        return f"EventsToLabels({self.event_id})"

    def transform(self, events, y=None):
        """Return label, trial and window of each event."""
        names = {code: name for name, code in self.event_id.items()}
        longest = max(map(len, names.values()))
        kinds = [("label", f"U{longest}"), ("trial", int), ("window", int)]
        rows = [(names[code], *_unpack(packed)) for _, packed, code in events.tolist()]
        return np.array(rows, kinds)


def _identity(step) -> str:
    """Return the class of a transformer and a digest of all its contents."""
    if step is None or isinstance(step, str):
        return repr(step)
    try:
        # joblib's hash does not see the order of a dict, nor a repr all of an array.
        text = without_addresses(repr(step.get_params()))
        return f"{type(step).__name__}({text}, {joblib.hash(step)})"
    except pickle.PicklingError as error:
        raise ValueError(
            "A transformer of windows must be picklable, so that the caches can "
            f"identify it, but {step!r} is not ({error}). Use a named function instead "
            "of a lambda."
        ) from error


def without_addresses(text: str) -> str:
    """Return a representation without addresses in memory, which never repeat."""
    return re.sub(r" at 0x\w+", "", text)


def _subject_of(raw) -> int | None:
    """Return the number of the subject, which MOABB's raw cache calls "sub-1"."""
    if isinstance(raw, Signals):
        return raw.subject
    name = (raw.info["subject_info"] or {}).get("his_id", "")
    number = re.search(r"\d+$", name)
    return int(number[0]) if number else None


def _check_all_eeg(epochs, features: str) -> None:
    others = set(epochs.get_channel_types()) - {"eeg"}
    if others:
        raise ValueError(
            f"features={features!r} are for EEG, but there are also channels of the "
            f'types {sorted(others)}. Pass picks="eeg", or leave return_all_modalities '
            "of the corpus at False."
        )


def _differential_entropy(X, sfreq):
    return DifferentialEntropy(sfreq, flatten=False).transform(X)


def _power_density(X, sfreq):
    widths = [high - low for low, high in BANDS.values()]
    return BandPower(sfreq, flatten=False).transform(X) / np.array(widths)


# Each maps (n_windows, n_chans, n_times) to (n_windows, n_chans, n_bands).
BAND_FEATURES = {"de": _differential_entropy, "psd": _power_density}


def _trials_of(raw):
    """Yield (onset in seconds from the first sample, extras) of the trials of a raw."""
    if isinstance(raw, Signals):
        for trial in raw.trials:
            yield trial.onset, _read_extras(trial.to_extras())
        return
    shift = raw.first_time if raw.annotations.orig_time is not None else 0.0
    for annotation in raw.annotations:
        if extras := _read_extras(annotation["extras"]):
            yield annotation["onset"] - shift, extras


def _read_extras(extras: Mapping) -> dict:
    """Return the extras of a trial, empty if the annotation is not a trial."""
    # MOABB's disk cache keeps them in a table of text, with "n/a" in empty cells.
    known = {name: value for name, value in extras.items() if value != "n/a"}
    if "trial" not in known:
        return {}
    numbers = {name: float(known[name]) for name in _NUMBERS if name in known}
    return known | numbers | {"trial": int(float(known["trial"]))}


def _pack(trial: int, window: int) -> int:
    if window >= _MAX_WINDOWS:
        raise ValueError(
            f"Trial {trial} has more than {_MAX_WINDOWS} windows. Choose a longer "
            "stride."
        )
    if not 0 <= trial < _MAX_TRIALS:
        raise ValueError(
            f"The trials of a session must be numbered from 0 to {_MAX_TRIALS - 1}, "
            f"but one is {trial}."
        )
    return trial * _MAX_WINDOWS + window


def _unpack(packed: int) -> tuple[int, int]:
    return divmod(packed, _MAX_WINDOWS)
