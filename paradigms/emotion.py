"""The Emotion paradigm: windows inside trials, labels that corpora can share."""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import joblib
import mne
import numpy as np
import pandas as pd
from moabb.datasets._channel_pick import pick_channels_for_modalities
from moabb.datasets.bids_interface import StepType
from moabb.datasets.preprocessing import (
    EpochsToEvents,
    FixedPipeline,
    FixedTransformer,
    get_filter_pipeline,
    make_fixed_pipeline,
)
from moabb.datasets.utils import dataset_search
from moabb.paradigms.base import BaseParadigm

from braindecode_emossl.datasets.base import RATING_NAMES
from braindecode_emossl.features import DifferentialEntropy

__all__ = ["Emotion"]

# Labels by target and number of classes, in the order of their event codes.
LABELS = {
    ("valence", 2): ("negative", "positive"),
    ("valence", 3): ("negative", "neutral", "positive"),
    **{
        (rating, n_classes): names
        for rating in ("arousal", "dominance", "liking")
        for n_classes, names in (
            (2, ("low", "high")),
            (3, ("low", "medium", "high")),
        )
    },
    ("quadrant", 4): ("LVLA", "LVHA", "HVLA", "HVHA"),
}
TARGETS = ("emotion", *dict.fromkeys(target for target, _ in LABELS))

# Ratings from 1 to 9 in three classes: up to 3, up to 6, above.
THREE_CLASS_CUTS = (3.0, 6.0)

# Kinds of channel that are voltages; MOABB gives voltages in microvolts.
_VOLTAGE_TYPES = ("eeg", "eog", "emg", "ecg")

# MOABB's caches keep of a window its event alone: (sample, free column, label code).
# The free column carries the trial and the window, packed into one integer.
_MAX_WINDOWS = 2**16

# Extras of a trial that are numbers.
_NUMBERS = ("length", *RATING_NAMES)

# The message by which MOABB knows that a run has nothing to give, and passes over it.
_NO_EVENTS = "No events found"


class Emotion(BaseParadigm):
    r"""Emotion recognition from windows of film, video or music trials.

    A trial is cut into windows of exactly ``round(window * sfreq)`` samples; a window
    never leaves its trial and no trial loses a window at its end. The labels come from
    the corpus's own classes or from the subject's ratings.

    Parameters
    ----------
    target : {"emotion", "valence", "arousal", "dominance", "liking", "quadrant"}
        What the labels say. ``"emotion"``: the corpus's own classes. ``"valence"`` is
        harmonised over the corpora, see Notes. ``"quadrant"``: low or high valence
        and arousal.
    n_classes : int or None
        2 or 3 for a single dimension, 2 by default.
    threshold : float
        A rating is high if it is ``> threshold`` (two classes and quadrants); a
        rating of exactly the threshold is low. With three classes the cuts are
        ``<= 3``, ``3 < r <= 6`` and ``> 6``.
    fmin, fmax : float or None
        Band-pass of the EEG in Hz, both None for no filter.
    window : float
        Length of a window in seconds.
    stride : float or None
        Step from window to window in seconds; ``window`` by default.
    tmin, tmax : float
        Part of the trial that is used, in seconds from its start; to its end by
        default.
    baseline : tuple of float or None
        Interval in seconds from the trial's start, such as ``(-3, 0)``, whose mean is
        subtracted from the trial's EEG, channel by channel.
    channels : list of str or None
        Channels by name, in this order. By default those that the dataset's
        ``return_all_modalities`` asks for.
    resample : float or None
        Sampling rate in Hz of the windows; None keeps the corpus's own.
    features : None, "de" or transformer
        ``None`` gives the signals. ``"de"`` gives the differential entropy of each
        window in the five bands of SEED's authors. A scikit-learn transformer that
        needs no fit is applied to the windows ``(n_windows, n_chans, n_times)``. Any
        of them is applied run by run, so that the signals of the whole corpus are
        never in memory together.
    scorer : str, callable or None
        Metric of MOABB's evaluations, accuracy by default.

    Notes
    -----
    Valence over the corpora, with two classes (trials without a label are left out)
    and with three:

    ========== ==================== ============== ===============================
    corpus     rule                 two classes    three classes
    ========== ==================== ============== ===============================
    SEED       its classes          neutral out    negative, neutral, positive
    SEED-IV    sad, fear: negative; neutral out    negative, neutral, positive
               happy: positive
    DEAP       valence rating       ``threshold``  ``<= 3``, ``3 < r <= 6``, ``> 6``
    MAHNOB-HCI valence rating       ``threshold``  ``<= 3``, ``3 < r <= 6``, ``> 6``
    ========== ==================== ============== ===============================

    The metadata of :meth:`get_data` have ``subject``, ``session``, ``run``, ``trial``
    (number within the session), ``window`` (number within the trial), ``stimulus``,
    ``corpus``, ``length`` of the trial in seconds, ``emotion`` and the ratings.

    The signals of a whole corpus are large: those of SEED take 15 GB. Ask for
    ``features``, or load subjects in turn.

    Voltages are in microvolts; other modalities keep the unit of the corpus.

    The default pass-band ends within the gamma band (31 to 50 Hz): raise ``fmax`` if
    the whole of it matters.

    Windows of one trial, and trials of one stimulus, are not independent: MOABB's
    ``WithinSessionEvaluation`` shuffles windows and so measures how well a trial is
    recognised again. Group by ``trial``, or leave out subjects.

    Examples
    --------
    >>> from braindecode_emossl.datasets import SEED
    >>> X, y, metadata = Emotion(window=1.0, features="de").get_data(SEED([1]))
    """

    def __init__(
        self,
        target="emotion",
        n_classes=None,
        threshold=5.0,
        fmin=0.5,
        fmax=47.0,
        window=4.0,
        stride=None,
        tmin=0.0,
        tmax=None,
        baseline=None,
        channels=None,
        resample=200.0,
        features=None,
        scorer=None,
    ):
        super().__init__(
            filters=[(fmin, fmax)],
            tmin=tmin,
            tmax=tmax,
            baseline=baseline,
            channels=channels,
            resample=resample,
            scorer=scorer,
        )
        self.target = target
        self.n_classes = _check_target(target, n_classes)
        self.threshold = threshold
        self.fmin = fmin
        self.fmax = fmax
        self.window = window
        self.stride = window if stride is None else stride
        self.features = features
        self._check()

    def _check(self):
        numbers = {"window": self.window, "stride": self.stride}
        if self.resample is not None:
            numbers["resample"] = self.resample
        for name, value in numbers.items():
            if not isinstance(value, int | float | np.number) or value <= 0:
                raise ValueError(
                    f"{name} must be a positive number, but got {value!r}."
                )
        if self.channels is not None and len(set(self.channels)) < len(self.channels):
            raise ValueError(f"channels must differ, but got {self.channels}.")
        if self.tmin < 0:
            raise ValueError(
                f"tmin must not lie before the trial, but got {self.tmin}."
            )
        if isinstance(self.features, str) and self.features != "de":
            raise ValueError(
                f'features must be None, "de" or a transformer, but got '
                f"{self.features!r}."
            )
        # MOABB's caches know a transformer by its parameters.
        needed = {"transform", "get_params"}
        if not isinstance(self.features, str | None) and needed - set(
            dir(self.features)
        ):
            raise ValueError(
                "features must have the methods transform and get_params of "
                f"scikit-learn, but got {self.features!r}."
            )

    # -- which corpora, which labels -------------------------------------------

    @property
    def datasets(self):
        """All known corpora that have this target, as instances."""
        return [dataset for dataset in dataset_search() if self.is_valid(dataset)]

    def is_valid(self, dataset):
        """Say whether a dataset is an emotion corpus that has this target.

        Parameters
        ----------
        dataset : BaseDataset
            A dataset of MOABB.

        Returns
        -------
        bool
            True if labels of this target can be made.
        """
        if dataset.paradigm != "emotion":
            return False
        ratings = set(getattr(dataset, "ratings", ()))
        if self.target == "emotion":
            return True
        if self.target == "quadrant":
            return {"valence", "arousal"} <= ratings
        by_class = getattr(dataset, "valence_of_class", {})
        return self.target in ratings or (self.target == "valence" and bool(by_class))

    def used_events(self, dataset):
        """Return the codes of the labels by name.

        Parameters
        ----------
        dataset : BaseDataset
            The corpus.

        Returns
        -------
        dict of str to int
            With ``target="emotion"`` the corpus's own ``event_id``.
        """
        if self.target == "emotion":
            return dict(dataset.event_id)
        names = LABELS[self.target, self.n_classes]
        return {name: code for code, name in enumerate(names, start=1)}

    @property
    def scoring(self):
        """Metric of MOABB's evaluations."""
        return "accuracy" if self.scorer is None else self.scorer

    def _labeller(self, dataset) -> _Labeller:
        return _Labeller(
            target=self.target,
            n_classes=self.n_classes,
            threshold=self.threshold,
            valence_of_class=dict(getattr(dataset, "valence_of_class", {})),
        )

    # -- processing ------------------------------------------------------------

    def make_process_pipelines(
        self, dataset, return_epochs=False, return_raws=False, postprocess_pipeline=None
    ):
        """Return MOABB's processing pipeline, from raw to windows to arrays.

        Parameters
        ----------
        dataset : BaseDataset
            The corpus.
        return_epochs, return_raws : bool
            Stop at the windows, or at the filtered raws.
        postprocess_pipeline : transformer or None
            Applied to the arrays, run by run, after ``features``.

        Returns
        -------
        list of FixedPipeline
            One pipeline; its representation names every parameter, as MOABB's caches
            and result files go by it.
        """
        if return_epochs and return_raws:
            raise ValueError("Ask for epochs or for raws, not for both.")
        # MOABB's own first step is left out: it would give all trials one length.
        pick = _Pick(_root_of(dataset), self.channels, dataset.return_all_modalities)
        steps = [
            (StepType.RAW, pick),
            (StepType.RAW, _FilterEEG(self.fmin, self.fmax)),
        ]
        if self.baseline is not None:
            steps.append((StepType.RAW, _SubtractBaseline(self.baseline)))
        if self.resample is not None:
            steps.append((StepType.RAW, _Resample(self.resample)))
        if return_raws:
            steps.append((StepType.RAW, _KeepLabelled(self._trials(dataset))))
        else:
            steps.append((StepType.EPOCHS, self._windows(dataset)))
        if not return_epochs and not return_raws:
            to_arrays = _ToArrays(
                dataset.unit_factor, self.features, postprocess_pipeline
            )
            steps.append((StepType.ARRAY, to_arrays))
        identity = {
            "scorer": _without_addresses(repr(self.scorer)),
            "subjects": list(dataset.subject_list),
            "sessions": getattr(dataset, "_selected_sessions", None),
        }
        return [_IdentifiedPipeline(steps, identity)]

    def _windows(self, dataset) -> _CutWindows:
        return _CutWindows(
            event_id=self.used_events(dataset),
            labeller=self._labeller(dataset),
            window=self.window,
            stride=self.stride,
            tmin=self.tmin,
            tmax=self.tmax,
        )

    def _trials(self, dataset) -> _CutTrials:
        return _CutTrials(self.used_events(dataset), self._labeller(dataset))

    def _get_events_pipeline(self, dataset):
        return make_fixed_pipeline(self._windows(dataset), EpochsToEvents())

    def make_labels_pipeline(self, dataset, return_epochs=False, return_raws=False):
        """Return the pipeline from what was asked for to labels, trials and windows.

        Parameters
        ----------
        dataset : BaseDataset
            The corpus.
        return_epochs, return_raws : bool
            As in :meth:`make_process_pipelines`.

        Returns
        -------
        FixedPipeline
            Its output is a structured array with ``label``, ``trial`` and ``window``.
        """
        to_labels = _EventsToLabels(self.used_events(dataset))
        if return_raws:
            return make_fixed_pipeline(self._trials(dataset), to_labels)
        if return_epochs:
            return make_fixed_pipeline(EpochsToEvents(), to_labels)
        return to_labels

    def get_data(
        self,
        dataset,
        subjects=None,
        return_epochs=False,
        return_raws=False,
        cache_config=None,
        postprocess_pipeline=None,
        process_pipelines=None,
        additional_metadata=None,
        n_jobs=1,
    ):
        """Return windows, labels and metadata of some subjects.

        Parameters
        ----------
        dataset : BaseDataset
            The corpus.
        subjects : list of int or None
            Subjects to load, all of the dataset by default.
        return_epochs : bool
            Return :class:`mne.Epochs` with the metadata in them; ``features`` are
            then not computed.
        return_raws : bool
            Return the filtered raws that hold a labelled trial.
        cache_config : dict, CacheConfig or None
            MOABB's disk cache.
        postprocess_pipeline : transformer or None
            Needs no fit; applied to the arrays run by run.
        process_pipelines : list of FixedPipeline or None
            What :meth:`make_process_pipelines` returned, when MOABB has made it.
        additional_metadata : "all", list of str or None
            Columns of the metadata to keep beside ``subject``, ``session`` and
            ``run``; all by default.
        n_jobs : int
            Subjects to load in parallel.

        Returns
        -------
        X : ndarray, shape (n_windows, n_chans, n_times), or mne.Epochs
            Signals in microvolts; with ``features="de"`` an array of shape
            ``(n_windows, n_chans, n_bands)``; a list of raws if asked for.
        y : ndarray of str, shape (n_windows,)
            Labels; one a raw if raws were asked for.
        metadata : DataFrame, n_windows rows
            See the class.

        Raises
        ------
        ValueError
            If a trial is shorter than one window, or if no trial has a label.
        """
        if not self.is_valid(dataset):
            raise ValueError(
                f"{dataset.code} has no target {self.target!r}; Emotion needs an "
                "emotion corpus with it."
            )
        subjects = dataset.subject_list if subjects is None else list(subjects)
        try:
            X, labels, metadata = super().get_data(
                dataset,
                subjects=subjects,
                return_epochs=return_epochs,
                return_raws=return_raws,
                cache_config=cache_config,
                postprocess_pipeline=postprocess_pipeline,
                process_pipelines=process_pipelines,
                n_jobs=n_jobs,
            )
        except ValueError as error:
            if "No objects to concatenate" not in str(error):
                raise
            raise ValueError(
                f"No trial of subjects {subjects} of {dataset.code} has a label for "
                f"the target {self.target!r} with {self.n_classes} classes."
            ) from error
        metadata["trial"] = labels["trial"]
        if not return_raws:
            metadata["window"] = labels["window"]
        metadata = _add_trials(metadata, dataset)
        if isinstance(additional_metadata, list):
            if unknown := set(additional_metadata) - set(metadata):
                raise ValueError(
                    f"additional_metadata must be among {list(metadata)}, but got "
                    f"{sorted(unknown)}."
                )
            metadata = metadata[["subject", "session", "run", *additional_metadata]]
        if return_epochs:
            X.metadata = metadata
        return X, labels["label"], metadata


def _check_target(target: str, n_classes: int | None) -> int | None:
    if target not in TARGETS:
        raise ValueError(f"target must be one of {TARGETS}, but got {target!r}.")
    possible = [n for name, n in LABELS if name == target]
    if n_classes is None:
        return possible[0] if possible else None
    if n_classes not in possible:
        raise ValueError(
            f"n_classes of the target {target!r} must be "
            f"{' or '.join(map(str, possible)) or 'left at None'}, but got {n_classes}."
        )
    return n_classes


def _add_trials(metadata: pd.DataFrame, dataset) -> pd.DataFrame:
    """Add the corpus and what it knows of each trial to the rows of the windows."""
    runs = metadata[["subject", "session", "run"]].drop_duplicates()
    tables = [dataset.get_additional_metadata(*r) for r in runs.itertuples(index=False)]
    if any(table is None for table in tables):
        raise ValueError(
            f"{dataset.code} does not say what its trials are: its "
            "get_additional_metadata must return them, as that of EmotionDataset does."
        )
    trials = pd.concat(tables)
    metadata = metadata.merge(
        trials, on=["subject", "session", "run", "trial"], how="left", validate="m:1"
    )
    metadata["corpus"] = dataset.code
    return metadata


class _Labeller:
    """Name the label of a trial, or None where it has none."""

    def __init__(self, target, n_classes, threshold, valence_of_class):
        self.target = target
        self.n_classes = n_classes
        self.threshold = threshold
        self.valence_of_class = valence_of_class

    def __repr__(self):
        return (
            f"Labeller({self.target}, n_classes={self.n_classes}, "
            f"threshold={self.threshold}, valence_of_class={self.valence_of_class})"
        )

    def __call__(self, trial: Mapping) -> str | None:
        if self.target == "emotion":
            return trial["emotion"]
        if self.target == "quadrant":
            valence, arousal = (self._level(trial[k]) for k in ("valence", "arousal"))
            return f"{'LH'[valence]}V{'LH'[arousal]}A"
        names = LABELS[self.target, self.n_classes]
        if self.target in trial:
            return names[self._level(trial[self.target])]
        label = self.valence_of_class[trial["emotion"]]
        return label if label in names else None

    def _level(self, rating: float) -> int:
        cuts = THREE_CLASS_CUTS if self.n_classes == 3 else (self.threshold,)
        return sum(rating > cut for cut in cuts)


class _IdentifiedPipeline(FixedPipeline):
    """A pipeline that also names what results depend on, but signals do not.

    MOABB finds stored results by the code of the corpus, the number of the subject and
    this pipeline's parameters alone: it would give the scores of another metric, or of
    fewer training subjects, for those asked for.
    """

    def __init__(self, steps, identity):
        super().__init__(steps)
        self.identity = identity


class _Pick(FixedTransformer):
    """Keep the channels asked for, by name and in their order, or by modality.

    ``root`` is the folder of the corpus. It changes nothing, but MOABB's caches and
    results would take two copies of a corpus (a replica and the real one) for one.
    """

    def __init__(
        self, root: str, channels: Sequence[str] | None, modalities: bool | dict
    ):
        self.root = root
        self.channels = channels
        self.modalities = modalities

    def __repr__(self):
        return f"Pick({self.root}, {self.channels}, {self.modalities})"

    def transform(self, raw, y=None):
        if self.channels is None:
            return raw.pick(pick_channels_for_modalities(raw.info, self.modalities))
        missing = [name for name in self.channels if name not in raw.ch_names]
        if missing:
            raise ValueError(
                f"channels must be among {raw.ch_names}, but {missing} are not."
            )
        return raw.pick(list(self.channels)).reorder_channels(list(self.channels))


class _FilterEEG(FixedTransformer):
    """Band-pass the EEG with MOABB's filter, where there is EEG."""

    def __init__(self, fmin: float | None, fmax: float | None):
        self.fmin = fmin
        self.fmax = fmax

    def __repr__(self):
        return f"FilterEEG({self.fmin}, {self.fmax})"

    def transform(self, raw, y=None):
        if not len(mne.pick_types(raw.info, eeg=True)):
            return raw
        return get_filter_pipeline(self.fmin, self.fmax).transform(raw)


class _SubtractBaseline(FixedTransformer):
    """Subtract from each trial's EEG its mean before (or in) the trial."""

    def __init__(self, interval: Sequence[float]):
        self.interval = tuple(interval)

    def __repr__(self):
        return f"SubtractBaseline{self.interval}"

    def transform(self, raw, y=None):
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


class _Resample(FixedTransformer):
    """Bring the recording to one sampling rate, before it is cut."""

    def __init__(self, sfreq: float):
        self.sfreq = sfreq

    def __repr__(self):
        return f"Resample({self.sfreq:g} Hz)"

    def transform(self, raw, y=None):
        if raw.info["sfreq"] == self.sfreq:
            return raw
        return raw.load_data(verbose=False).resample(self.sfreq, verbose=False)


class _CutTrials(FixedTransformer):
    """Return one event for each trial that has a label."""

    def __init__(self, event_id: Mapping[str, int], labeller: _Labeller):
        self.event_id = event_id
        self.labeller = labeller

    def __repr__(self):
        return f"CutTrials({self.event_id}, {self.labeller})"

    def transform(self, raw, y=None):
        events = [
            (round(onset * raw.info["sfreq"]), _pack(trial["trial"], 0), code)
            for onset, trial in _trials_of(raw)
            if (code := self.event_id.get(self.labeller(trial))) is not None
        ]
        return np.array(events, int).reshape(-1, 3)


class _KeepLabelled(FixedTransformer):
    """Hand on a recording if a trial of it has a label."""

    def __init__(self, trials: _CutTrials):
        self.trials = trials

    def __repr__(self):
        return f"KeepLabelled({self.trials})"

    def transform(self, raw, y=None):
        if not len(self.trials.transform(raw)):
            raise ValueError(_NO_EVENTS)
        return raw


class _CutWindows(FixedTransformer):
    """Cut the labelled trials of a recording into windows of exact length."""

    def __init__(
        self,
        event_id: Mapping[str, int],
        labeller: _Labeller,
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
        sfreq = raw.info["sfreq"]
        events = [
            event
            for onset, trial in _trials_of(raw)
            if (code := self.event_id.get(self.labeller(trial))) is not None
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
        stop = trial["length"] if self.tmax is None else min(self.tmax, trial["length"])
        n_window, n_stride = round(self.window * sfreq), round(self.stride * sfreq)
        if not n_window or not n_stride:
            raise ValueError(
                f"window and stride must last at least one sample of {1 / sfreq:g} s, "
                f"but got {self.window:g} s and {self.stride:g} s."
            )
        # Durations, not end points, are rounded: a window starts on the same sample
        # of its trial wherever the trial lies in the recording.
        first = round(onset * sfreq) + round(self.tmin * sfreq)
        # Both may round up, to a sample more than there is.
        n_times = min(round((stop - self.tmin) * sfreq), raw.n_times - first)
        spare = n_times - n_window
        if spare < 0:
            raise ValueError(
                f"Trial {trial['trial']} (stimulus {trial['stimulus']}) offers "
                f"{stop - self.tmin:g} s from tmin={self.tmin:g} s on, less than one "
                f"window of {self.window:g} s. Choose a shorter window."
            )
        for window in range(spare // n_stride + 1):
            yield first + window * n_stride, _pack(trial["trial"], window), code

    def _present(self, events):
        return {k: code for k, code in self.event_id.items() if code in events[:, 2]}


class _ToArrays(FixedTransformer):
    """Turn windows into scaled arrays or features, beside their events."""

    def __init__(self, unit_factor, features, postprocess_pipeline):
        self.unit_factor = unit_factor
        self.features = features
        self.postprocess_pipeline = postprocess_pipeline

    def __repr__(self):
        steps = [_identity(step) for step in (self.features, self.postprocess_pipeline)]
        return f"ToArrays({self.unit_factor:g}, {', '.join(steps)})"

    def transform(self, epochs, y=None):
        types = epochs.get_channel_types()
        factors = [self.unit_factor if t in _VOLTAGE_TYPES else 1.0 for t in types]
        X = epochs.get_data(copy=True) * np.array(factors)[:, None]
        # (n_windows, n_chans, n_times)
        if self.features == "de":
            extractor = DifferentialEntropy(epochs.info["sfreq"], flatten=False)
            X = extractor.transform(X)  # (n_windows, n_chans, n_bands)
        elif self.features is not None:
            X = self.features.transform(X)
        if self.postprocess_pipeline is not None:
            X = self.postprocess_pipeline.transform(X)
        return OrderedDict([("X", X), ("events", epochs.events)])


class _EventsToLabels(FixedTransformer):
    """Read label, trial and window back from the events of the windows."""

    def __init__(self, event_id: Mapping[str, int]):
        self.event_id = event_id

    def __repr__(self):
        return f"EventsToLabels({self.event_id})"

    def transform(self, events, y=None):
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
        return f"{type(step).__name__}({joblib.hash(step)})"
    except pickle.PicklingError as error:
        raise ValueError(
            f"A transformer of windows must be picklable, so that its results can be "
            f"told from others', but {step!r} is not ({error}). Use a function with a "
            "name instead of a lambda."
        ) from error


def _root_of(dataset) -> str:
    return str(dataset._named_root()) if hasattr(dataset, "_named_root") else ""


def _without_addresses(text: str) -> str:
    return re.sub(r" at 0x\w+", "", text)


def _trials_of(raw):
    """Yield (onset in seconds from the first sample, extras) of the trials of a raw."""
    shift = raw.first_time if raw.annotations.orig_time is not None else 0.0
    for annotation in raw.annotations:
        if extras := _read_extras(annotation["extras"]):
            yield annotation["onset"] - shift, extras


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
