"""The steps from a recording to labelled windows, as MOABB's fixed transformers."""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import joblib
import mne
import numpy as np
from moabb.datasets._channel_pick import pick_channels_for_modalities
from moabb.datasets.preprocessing import FixedTransformer, get_filter_pipeline

from braindecode_emossl.datasets.base import RATING_NAMES
from braindecode_emossl.features import BANDS, BandPower, DifferentialEntropy
from braindecode_emossl.paradigms.labels import Labeller

__all__ = [
    "BAND_FEATURES",
    "CutTrials",
    "CutWindows",
    "EventsToLabels",
    "FilterEEG",
    "KeepLabelled",
    "Pick",
    "Resample",
    "SubtractBaseline",
    "ToArrays",
    "without_addresses",
]

# Kinds of channel that are voltages; MOABB gives voltages in microvolts.
_VOLTAGE_TYPES = ("eeg", "eog", "emg", "ecg")

# MOABB's caches keep of a window its event alone: (sample, free column, label code).
# The free column carries the trial and the window, packed into one integer.
_MAX_WINDOWS = 2**16

# Extras of a trial that are numbers.
_NUMBERS = ("length", *RATING_NAMES)

# The message by which MOABB knows that a run has nothing to give, and passes over it.
_NO_EVENTS = "No events found"


class Pick(FixedTransformer):
    """Keep the channels asked for, by name and in their order, or by modality.

    ``source`` tells where the recordings come from. It changes nothing, but MOABB's
    caches and results would take two copies of a corpus (a replica and the real one)
    for one.
    """

    def __init__(
        self,
        source: str,
        channels: Sequence[str] | None,
        modalities: bool | dict,
        some_suffice: bool,
    ):
        self.source = source
        self.channels = channels
        self.modalities = modalities
        self.some_suffice = some_suffice

    def __repr__(self):
        values = ", ".join(map(str, vars(self).values()))
        return f"Pick({values})"

    def transform(self, raw, y=None):
        """Return the recording with these channels alone."""
        if self.channels is None:
            return raw.pick(pick_channels_for_modalities(raw.info, self.modalities))
        known = [name for name in self.channels if name in raw.ch_names]
        if not known or (len(known) < len(self.channels) and not self.some_suffice):
            missing = [name for name in self.channels if name not in known]
            raise ValueError(
                f"channels must be among {raw.ch_names}, but {missing} are not."
            )
        return raw.pick(known).reorder_channels(known)


class FilterEEG(FixedTransformer):
    """Band-pass the EEG with MOABB's filter, where there is EEG."""

    def __init__(self, fmin: float | None, fmax: float | None):
        self.fmin = fmin
        self.fmax = fmax

    def __repr__(self):
        return f"FilterEEG({self.fmin}, {self.fmax})"

    def transform(self, raw, y=None):
        """Return the filtered recording."""
        if not len(mne.pick_types(raw.info, eeg=True)):
            return raw
        return get_filter_pipeline(self.fmin, self.fmax).transform(raw)


class SubtractBaseline(FixedTransformer):
    """Subtract from each trial's EEG its mean before (or in) the trial."""

    def __init__(self, interval: Sequence[float]):
        self.interval = tuple(interval)

    def __repr__(self):
        return f"SubtractBaseline{self.interval}"

    def transform(self, raw, y=None):
        """Return the recording less the baseline of each trial."""
        if not len(mne.pick_types(raw.info, eeg=True)):
            return raw
        start, stop = self.interval
        sfreq, data = raw.info["sfreq"], raw.get_data("eeg")
        original = data.copy()  # a baseline may lie in the trial before
        for onset, trial in _trials_of(raw):
            first, last = (round((onset + t) * sfreq) for t in (start, stop))
            if not 0 <= first < last <= data.shape[1]:
                raise ValueError(
                    f"baseline {self.interval} s of trial {trial['trial']} (starts at "
                    f"{onset:g} s) leaves its recording, which lasts "
                    f"{raw.n_times / sfreq:g} s. Choose an interval that it has."
                )
            inside = slice(
                round(onset * sfreq), round((onset + trial["length"]) * sfreq)
            )
            data[:, inside] -= original[:, first:last].mean(axis=1, keepdims=True)
        return raw.load_data(verbose=False).apply_function(
            lambda _: data, picks="eeg", channel_wise=False, verbose=False
        )


class Resample(FixedTransformer):
    """Bring the recording to one sampling rate, before it is cut."""

    def __init__(self, sfreq: float):
        self.sfreq = sfreq

    def __repr__(self):
        return f"Resample({self.sfreq:g} Hz)"

    def transform(self, raw, y=None):
        """Return the recording at the sampling rate asked for."""
        if raw.info["sfreq"] == self.sfreq:
            return raw
        return raw.load_data(verbose=False).resample(self.sfreq, verbose=False)


class CutTrials(FixedTransformer):
    """Find the trials of a recording that have a label."""

    def __init__(
        self,
        event_id: Mapping[str | None, int],
        labeller: Labeller,
        tmin: float,
        tmax: float | None,
    ):
        self.event_id = event_id
        self.labeller = labeller
        self.tmin = tmin
        self.tmax = tmax

    def __repr__(self):
        part = f"tmin={self.tmin}, tmax={self.tmax}"
        return f"CutTrials({self.event_id}, {self.labeller}, {part})"

    def transform(self, raw, y=None):
        """Return one event for each of them."""
        events = [
            (round(onset * raw.info["sfreq"]), _pack(trial["trial"], 0), code)
            for onset, trial, code in self._labelled(raw)
        ]
        return np.array(events, int).reshape(-1, 3)

    def crop(self, raw) -> list[mne.io.BaseRaw]:
        """Return each of them as a raw of its own."""
        return [
            self._crop(raw, onset, trial) for onset, trial, _ in self._labelled(raw)
        ]

    def _labelled(self, raw):
        for onset, trial in _trials_of(raw):
            code = self.event_id.get(self.labeller(trial, _subject_of(raw)))
            if code is not None:
                yield onset, trial, code

    def _crop(self, raw, onset, trial):
        sfreq = raw.info["sfreq"]
        first, n_times = _span(raw, onset, trial, self.tmin, self.tmax)
        if n_times < 1:
            raise ValueError(
                f"Trial {trial['trial']} (stimulus {trial['stimulus']}) lasts "
                f"{trial['length']:g} s: nothing is left from tmin={self.tmin:g} s on."
            )
        signals = raw.get_data(start=first, stop=first + n_times)
        part = mne.io.RawArray(signals, raw.info, verbose=False)
        return part.set_annotations(
            mne.Annotations(0, n_times / sfreq, trial["emotion"], extras=[trial])
        )


class KeepLabelled(FixedTransformer):
    """Hand on a recording if a trial of it has a label."""

    def __init__(self, trials: CutTrials):
        self.trials = trials

    def __repr__(self):
        return f"KeepLabelled({self.trials})"

    def transform(self, raw, y=None):
        """Return the recording, or tell MOABB that it has nothing to give."""
        if not len(self.trials.transform(raw)):
            raise ValueError(_NO_EVENTS)
        return raw


class CutWindows(FixedTransformer):
    """Cut the labelled trials of a recording into windows of exact length."""

    def __init__(
        self,
        event_id: Mapping[str | None, int],
        labeller: Labeller,
        window: float,
        stride: float,
        tmin: float,
        tmax: float | None,
    ):
        self.event_id = event_id
        self.labeller = labeller
        self.window = window
        self.stride = stride
        self.tmin = tmin
        self.tmax = tmax

    def __repr__(self):
        values = ", ".join(f"{name}={value}" for name, value in vars(self).items())
        return f"CutWindows({values})"

    def transform(self, raw, y=None):
        """Return the windows as epochs, with trial and window in their events."""
        sfreq = raw.info["sfreq"]
        events = [
            event
            for onset, trial in _trials_of(raw)
            for code in [self.event_id.get(self.labeller(trial, _subject_of(raw)))]
            if code is not None
            for event in self._events(onset, trial, code, raw)
        ]
        if not events:
            raise ValueError(_NO_EVENTS)
        events = np.array(events, int)
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
        n_window, n_stride = round(self.window * sfreq), round(self.stride * sfreq)
        if not n_window or not n_stride:
            raise ValueError(
                f"window and stride must last at least one sample of {1 / sfreq:g} s, "
                f"but got {self.window:g} s and {self.stride:g} s."
            )
        first, n_times = _span(raw, onset, trial, self.tmin, self.tmax)
        spare = n_times - n_window
        if spare < 0:
            raise ValueError(
                f"Trial {trial['trial']} (stimulus {trial['stimulus']}) offers "
                f"{n_times / sfreq:g} s from tmin={self.tmin:g} s on, less than one "
                f"window of {self.window:g} s. Choose a shorter window."
            )
        for window in range(spare // n_stride + 1):
            yield first + window * n_stride, _pack(trial["trial"], window), code

    def _present(self, events):
        return {k: code for k, code in self.event_id.items() if code in events[:, 2]}


class ToArrays(FixedTransformer):
    """Turn windows into scaled arrays or features, beside their events."""

    def __init__(self, unit_factor, features, postprocess_pipeline, channels):
        self.unit_factor = unit_factor
        self.features = features
        self.postprocess_pipeline = postprocess_pipeline
        self.channels = channels  # to fill up to, with zeros

    def __repr__(self):
        steps = [_identity(step) for step in (self.features, self.postprocess_pipeline)]
        return f"ToArrays({self.unit_factor:g}, {', '.join(steps)}, {self.channels})"

    def transform(self, epochs, y=None):
        """Return ``X`` and ``events`` of the windows."""
        types = epochs.get_channel_types()
        factors = [self.unit_factor if t in _VOLTAGE_TYPES else 1.0 for t in types]
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
        return OrderedDict([("X", X), ("events", epochs.events)])

    def _fill(self, X, ch_names):
        """Put (n_windows, n_known, ...) in its place among all channels."""
        if X.ndim < 2 or X.shape[1] != len(ch_names):
            raise ValueError(
                "Channels that a corpus lacks can be filled if features leave them in "
                f"the second axis, of {len(ch_names)}, but its output has the shape "
                f"{X.shape}. Match the corpora by the channels that all have."
            )
        filled = np.zeros((len(X), len(self.channels), *X.shape[2:]), X.dtype)
        filled[:, [self.channels.index(name) for name in ch_names]] = X
        return filled


class EventsToLabels(FixedTransformer):
    """Read label, trial and window back from the events of the windows."""

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
    """Name a transformer by its class and all its contents, large arrays included."""
    if step is None or isinstance(step, str):
        return repr(step)
    try:
        # joblib's hash does not see the order of a dict, nor a repr all of an array.
        text = without_addresses(repr(step.get_params()))
        return f"{type(step).__name__}({text}, {joblib.hash(step)})"
    except pickle.PicklingError as error:
        raise ValueError(
            f"A transformer of windows must be picklable, so that its results can be "
            f"told from others', but {step!r} is not ({error}). Use a function with a "
            "name instead of a lambda."
        ) from error


def without_addresses(text: str) -> str:
    """Return a representation without addresses in memory, which never repeat."""
    return re.sub(r" at 0x\w+", "", text)


def _subject_of(raw) -> int | None:
    """Return the number of the subject, which MOABB's raw cache calls "sub-1"."""
    name = (raw.info["subject_info"] or {}).get("his_id", "")
    number = re.search(r"\d+$", name)
    return int(number[0]) if number else None


def _check_all_eeg(epochs, features: str) -> None:
    others = set(epochs.get_channel_types()) - {"eeg"}
    if others:
        raise ValueError(
            f"features={features!r} is made for EEG, but there are channels of the "
            f"kinds {sorted(others)} too. Name EEG channels, or leave "
            "return_all_modalities of the corpus at False."
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
    shift = raw.first_time if raw.annotations.orig_time is not None else 0.0
    for annotation in raw.annotations:
        if extras := _read_extras(annotation["extras"]):
            yield annotation["onset"] - shift, extras


def _span(raw, onset, trial, tmin, tmax) -> tuple[int, int]:
    """Return the first sample and the length of the part of a trial that is used."""
    sfreq = raw.info["sfreq"]
    stop = trial["length"] if tmax is None else min(tmax, trial["length"])
    # Durations, not end points, are rounded: a window starts on the same sample
    # of its trial wherever the trial lies in the recording.
    first = round(onset * sfreq) + round(tmin * sfreq)
    # Both may round up, to a sample more than there is.
    return first, min(round((stop - tmin) * sfreq), raw.n_times - first)


def _read_extras(extras: Mapping) -> dict:
    """Return the extras of a trial, nothing where an annotation is no trial.

    MOABB's disk cache keeps them in a table of text, with "n/a" in the empty cells.
    """
    known = {name: value for name, value in extras.items() if value != "n/a"}
    if "trial" not in known:
        return {}
    numbers = {name: float(known[name]) for name in _NUMBERS if name in known}
    return known | numbers | {"trial": int(float(known["trial"]))}


def _pack(trial: int, window: int) -> int:
    return trial * _MAX_WINDOWS + window


def _unpack(packed: int) -> tuple[int, int]:
    return divmod(packed, _MAX_WINDOWS)
