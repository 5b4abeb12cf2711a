"""The Emotion paradigm: windows inside trials, labels that corpora can share."""

from __future__ import annotations

import copy
import inspect
import json
import warnings
from collections.abc import Sequence
from functools import partial

import mne
import numpy as np
import pandas as pd
from moabb.datasets.bids_interface import StepType
from moabb.datasets.preprocessing import (
    EpochsToEvents,
    FixedPipeline,
    make_fixed_pipeline,
)
from moabb.datasets.utils import dataset_search
from moabb.paradigms.base import BaseParadigm

from braindecode_emossl.datasets.base import EmotionDataset, check_numbers
from braindecode_emossl.errors import CorpusFormatWarning, LeakageWarning
from braindecode_emossl.features import FeatureCache
from braindecode_emossl.hosts import (
    GroupsConsumerMixin,
    find_caller,
    selected_sessions,
)
from braindecode_emossl.paradigms.checks import (
    as_integer,
    check_interval,
    check_names,
    check_number,
    check_positive,
)
from braindecode_emossl.paradigms.labels import (
    LABELS,
    UNLABELED,
    Labeller,
    check_target,
    warn_of_ignored_rules,
    warn_of_threshold,
)
from braindecode_emossl.paradigms.passbands import describe_cut_bands, list_bands
from braindecode_emossl.paradigms.recordings import Part, standardize_recordings
from braindecode_emossl.paradigms.released import (
    PREFIX,
    arrange_channels,
    find_name,
    load_released,
)
from braindecode_emossl.paradigms.steps import (
    BAND_FEATURES,
    CutTrials,
    CutWindows,
    EventsToLabels,
    FilterEEG,
    KeepUsed,
    Pick,
    Resample,
    SubtractBaseline,
    ToArrays,
    UsedTrials,
    without_addresses,
)

__all__ = ["Emotion"]

# The folder of a corpus in stored warnings.
_ROOT = "<root>"

# Columns of a BIDS copy's events that repeat those of our tables.
_BIDS_COLUMNS = ["onset", "duration", "trial_type", "value"]


class Emotion(BaseParadigm):
    r"""Emotion recognition from windows of film, video or music trials.

    A trial is cut into windows of exactly ``round(window * sfreq)`` samples. A window
    never extends beyond its trial, and no window at the end of a trial is lost. The
    labels are the corpus's own classes or derive from the subject's ratings.

    Parameters
    ----------
    target : {"emotion", "valence", "arousal", "dominance", "liking", "quadrant"}
        What the labels describe. ``"emotion"``: the corpus's own classes.
        ``"valence"`` is harmonised over the corpora, see Notes. ``"quadrant"``: low
        or high valence and arousal.
    n_classes : int or None
        2 or 3 for a single dimension, 2 by default.
    threshold : float, "median" or None
        A rating above it is high, one below it low (two classes and quadrants).
        ``None`` is the midpoint of the corpus's scale (``rating_midpoint``), such as 5
        for DEAP. ``"median"`` uses the median of all ratings of the subject: nearly
        balanced classes, but labels that depend on the ratings of all trials, including
        those of a test set. With three classes it must be None: the cuts are those of
        the corpus (``rating_cuts``), 3 and 6 on scales from 1 to 9, else thirds of the
        scale.
    ties : {"low", "high", "drop"}
        Label of a rating that equals the threshold or a cut; ``"drop"`` leaves the
        trial without a label.
    margin : float
        If positive, trials whose rating is not farther than this from the threshold,
        or from a cut, have no label. ``ties`` then has no effect.
    label_source : {None, "self-report", "stimulus"}
        Whose labels are used. ``"self-report"``: what the subject felt.
        ``"stimulus"``: a label of the stimulus, the same for all subjects; for DEAP,
        the mean of the makers' online ratings, with the targets ``"valence"``,
        ``"arousal"`` and ``"quadrant"``. ``None`` accepts what the corpus has: the
        class of the film where it determines the valence, as in the SEED corpora and
        FACED, else the self-report. A corpus that lacks the source is refused.
    fmin, fmax : float or None
        Band-pass of the EEG in Hz; both None for no filter.
    window : float
        Length of a window in seconds.
    stride : float or None
        Step between windows in seconds; ``window`` by default. The window number k
        starts at sample ``round(k * stride * sfreq)`` of the part that is used.
    tmin, tmax : float
        Part of the trial that is used, in seconds from its start; by default all of
        it.
    last : float or None
        Use only the last ``last`` seconds of each trial, after ``tmin``; a shorter
        trial is used whole. Cannot be combined with ``tmax``.
    baseline : tuple of float or None
        Interval in seconds from the trial's start, such as ``(-3, 0)``, whose mean is
        subtracted from the trial's EEG, channel by channel.
    channels : list of str or None
        Channels by name, in this order. Overrides the dataset's
        ``return_all_modalities``.
    picks : str, list of str or None
        Channels by type or name as MNE's ``picks``, such as ``"eeg"`` or
        ``["eeg", "gsr"]``, in the corpus's order. Cannot be combined with
        ``channels``. By default those of the dataset's ``return_all_modalities``.
    resample : float or None
        Sampling rate in Hz of the windows; None keeps the corpus's own.
    features : None, "de", "psd", "released:<name>" or transformer
        ``None`` returns the signals. ``"de"`` computes the differential entropy of
        each window of EEG in the five bands of SEED's authors, ``"psd"`` the mean
        power spectral density there in squared microvolts per hertz. A scikit-learn
        transformer that needs no fit is applied to the windows
        ``(n_windows, n_chans, n_times)``. All are applied run by run, so that the
        signals of a corpus are never in memory together. ``"released:de_LDS"`` and the
        like read the features that the makers of a corpus released
        (``released_features`` of the corpus; SEED, SEED-IV, SEED-V, SEED-VII and
        ``FACED(source="processed")``), as windows ``(n_windows, n_chans, n_bands)``
        with the same metadata as those of signals. ``window`` must be the length of
        the makers' windows; ``fmin``, ``fmax`` and ``resample`` have no effect. The
        recordings must be on disk too, as the lengths of the trials are theirs.
        Smoothed features (``de_LDS``, ``de_movingAve``) of a window contain the other
        windows of its trial: split by trial.
    standardize : None or "recording"
        ``"recording"``: each channel, or each feature if ``features`` are given, has
        mean 0 and variance 1 within each recording, which is one subject's session.
        The statistics are those of all windows of that recording, whether or not
        their trials have a label; no label is used. A test recording is scaled by
        its own windows: ``target_access="statistics"``. A constant channel becomes
        0; values that are not finite are ignored.
    scorer : str, callable or None
        Metric of MOABB's evaluations, accuracy by default.
    cache_dir : str, Path or None
        Folder in which the arrays of each subject are kept, intended for
        ``features``. They are identified by the contents of the subject's files and
        labels, all parameters and the version of this package. Several processes may
        share the folder.

    Notes
    -----
    Valence over the corpora: where the classes of a corpus have a known valence (its
    ``valence_of_class``), trials are negative, neutral or positive by their class;
    with two classes, neutral trials have no label. Elsewhere the rating of valence is
    cut at ``threshold``, or with three classes at the corpus's ``rating_cuts``: a
    rating up to the first cut is negative, above the second one positive.

    The metadata of :meth:`get_data` have ``subject``, ``session``, ``run``, ``trial``
    (number within the session), ``window`` (number within the trial), ``stimulus``,
    ``corpus``, ``length`` of the trial in seconds, ``emotion``, the ratings and what
    the corpus adds, such as the ``intensity`` of SEED-VII within each window.

    The signals of a whole corpus are large: those of SEED take 15 GB. Use
    ``features``, or load a few subjects at a time.

    Voltages are in microvolts; other modalities keep the unit of the corpus.
    Standardised arrays have no unit. Standardised voltages of Epochs and raws, which
    are in volts, have a standard deviation of 1 microvolt.

    The default pass-band ends within the gamma band (31 to 50 Hz): raise ``fmax`` if
    the whole band matters.

    Trials without a label, among them those that ``ties="drop"`` and ``margin`` leave
    out, can be used for pre-training: ``get_data(unlabeled=True)`` returns them, and
    :func:`~braindecode_emossl.evaluation.evaluate` passes them as ``X_unlabeled``.

    A band of ``features``, or the pass-band, that lies outside the band which the
    filter of the release has left (``passband`` of the corpus) causes a warning:
    DEAP's preprocessed release was cut at 4 Hz, so that its delta band holds the
    filter's roll-off.

    Windows of one trial, and trials of one stimulus, are not independent: MOABB's
    ``WithinSessionEvaluation`` shuffles windows and so measures how well a trial is
    recognised again. Pass it ``groups="trial"`` and ``cv_class=GroupKFold``, or leave
    out subjects.

    Examples
    --------
    >>> from braindecode_emossl.datasets import SEED
    >>> X, y, metadata = Emotion(window=1.0, features="de").get_data(SEED([1]))
    """

    def __init__(
        self,
        target="emotion",
        n_classes=None,
        threshold=None,
        ties="low",
        margin=0.0,
        label_source=None,
        fmin=0.5,
        fmax=47.0,
        window=4.0,
        stride=None,
        tmin=0.0,
        tmax=None,
        last=None,
        baseline=None,
        channels=None,
        picks=None,
        resample=200.0,
        features=None,
        standardize=None,
        scorer=None,
        cache_dir=None,
    ):
        self.target = target
        self.n_classes = check_target(target, as_integer(n_classes))
        self.threshold = _check_threshold(threshold, self.n_classes)
        self.ties = _check_choice("ties", ties, ("low", "high", "drop"))
        self.margin = check_number("margin", margin)
        self.label_source = _check_choice(
            "label_source", label_source, (None, "self-report", "stimulus")
        )
        self._check_labels()
        self.fmin = None if fmin is None else check_positive("fmin", fmin)
        self.fmax = None if fmax is None else check_positive("fmax", fmax)
        self.window = check_positive("window", window)
        self.stride = (
            self.window if stride is None else check_positive("stride", stride)
        )
        self.last = None if last is None else check_positive("last", last)
        self.picks = (
            picks if isinstance(picks, str | None) else check_names("picks", picks)
        )
        self.features = _check_features(features)
        self.standardize = _check_choice(
            "standardize", standardize, (None, "recording")
        )
        self.cache_dir = cache_dir
        self.fill_missing_channels = False  # match_all may set it
        tmin = check_number("tmin", tmin)
        tmax = None if tmax is None else check_positive("tmax", tmax)
        self._check_times(tmin, tmax)
        self._check_released(tmin, tmax, baseline)
        if channels is not None and picks is not None:
            raise ValueError(
                "channels and picks cannot be combined: pass names in order as "
                f"channels, or types as picks, but got {channels!r} and {picks!r}."
            )
        super().__init__(
            filters=[(self.fmin, self.fmax)],
            tmin=tmin,
            tmax=tmax,
            baseline=_check_baseline(baseline),
            channels=None if channels is None else check_names("channels", channels),
            resample=None if resample is None else check_positive("resample", resample),
            scorer=scorer,
        )

    def _check_labels(self):
        if self.margin < 0:
            raise ValueError(f"margin must not be negative, but got {self.margin:g}.")
        rule = self.threshold, self.ties, self.margin
        if self.target == "emotion" and rule != (None, "low", 0.0):
            raise ValueError(
                "threshold, ties and margin apply to ratings, but the target "
                f'"emotion" uses the corpus\'s own classes, and got threshold='
                f"{self.threshold!r}, ties={self.ties!r} and margin={self.margin:g}. "
                'Choose a rating or "quadrant" as the target.'
            )
        if self.label_source == "stimulus" and self.threshold == "median":
            raise ValueError(
                'threshold="median" is the median of the subject\'s own ratings, but '
                'label_source is "stimulus". Pass a number or None as the threshold.'
            )

    def _check_released(self, tmin, tmax, baseline):
        """Check that nothing is asked of released features that only signals have."""
        if find_name(self.features) is None:
            return
        asked = {
            "stride": None if self.stride == self.window else self.stride,
            "tmin": tmin or None,
            "tmax": tmax,
            "last": self.last,
            "baseline": baseline,
            "picks": None if self.picks == "eeg" else self.picks,
        }
        if given := [name for name, value in asked.items() if value is not None]:
            raise ValueError(
                f"features={self.features!r} are the windows of the makers, of whole "
                f"trials, one after another: {', '.join(given)} cannot be combined "
                "with them."
            )

    def _check_times(self, tmin, tmax):
        if tmin < 0:
            raise ValueError(f"tmin must not lie before the trial, but got {tmin:g}.")
        check_interval("fmin", self.fmin, "fmax", self.fmax)
        check_interval("tmin", tmin, "tmax", tmax)
        if self.last is not None and tmax is not None:
            raise ValueError(
                f"last and tmax cannot be combined, but got last={self.last:g} and "
                f"tmax={tmax:g}. Pass one of them."
            )

    @property
    def settings(self):
        """The arguments of the constructor that determine the result, by name.

        All but ``cache_dir``, which only says where arrays are kept. They are numbers,
        strings, lists and None, except a transformer (``features``) and a callable
        (``scorer``). After ``match_all(..., channel_merge_strategy="union")`` there
        is also ``fill_missing_channels``.
        """
        names = inspect.signature(type(self).__init__).parameters
        settings = {
            name: getattr(self, name)
            for name in names
            if name not in ("self", "cache_dir")
        }
        if self.channels is not None:
            settings["picks"] = None  # overridden by match_all
        if self.baseline is not None:
            settings["baseline"] = list(self.baseline)
        if self.fill_missing_channels:
            settings["fill_missing_channels"] = True
        return settings

    # -- which corpora, which labels -------------------------------------------

    @property
    def datasets(self):
        """All known corpora that have this target, as instances."""
        return [dataset for dataset in dataset_search() if self.is_valid(dataset)]

    def is_valid(self, dataset):
        """Return whether a dataset is an emotion corpus with this target.

        Parameters
        ----------
        dataset : BaseDataset
            A dataset of MOABB.

        Returns
        -------
        bool
            True if it has labels of this target from the ``label_source``.

        Notes
        -----
        Other datasets, such as MOABB's ``LocalBIDSDataset`` of a copy written by
        ``convert_to_bids``, can be used with ``paradigm="emotion"`` and the corpus's
        events if their ``events.tsv`` have the columns ``trial``, ``stimulus``,
        ``length`` and ``emotion``. Targets other than ``"emotion"`` need the
        attributes ``ratings``, ``rating_midpoint`` and ``valence_of_class`` of the
        corpus:

        >>> copy = LocalBIDSDataset(
        ...     root, subjects=[1], events=DEAP.classes, interval=[0, 60],
        ...     paradigm="emotion"
        ... )
        >>> copy.ratings, copy.rating_midpoint = DEAP.ratings, DEAP.rating_midpoint
        >>> X, y, metadata = Emotion("valence").get_data(copy)
        """
        return self._find_obstacle(dataset) is None

    def _find_obstacle(self, dataset) -> str | None:
        """Return why a dataset has no labels of this target, None if it has."""
        ratings = getattr(dataset, "ratings", ())
        by_class = self.target == "emotion" or self._has_valence_by_class(dataset)
        needed = self._needed_ratings()
        if dataset.paradigm != "emotion" or not (by_class or needed <= {*ratings}):
            return (
                f"{dataset.code} has no target {self.target!r}; Emotion needs an "
                "emotion corpus with it."
            )
        source = getattr(dataset, "class_source", None)
        offered = {source} if by_class else {"self-report"}
        rated = getattr(dataset, "stimulus_ratings", ())
        if not by_class and needed <= {*rated}:
            offered.add("stimulus")
        if self.label_source is None or self.label_source in offered:
            return None
        return (
            f"{dataset.code} has no labels for target={self.target!r} with "
            f"label_source={self.label_source!r}: the source of its classes is "
            f"{source!r}, and its stimuli have "
            f"{f'ratings of {[*rated]}' if rated else 'no ratings'}."
        )

    def _has_valence_by_class(self, dataset) -> bool:
        """Return whether the valence of trials is that of the corpus's classes."""
        is_rated = "valence" in getattr(dataset, "ratings", ())
        by_class = getattr(dataset, "valence_of_class", {})
        takes_rating = is_rated and self.label_source == "self-report"
        return self.target == "valence" and bool(by_class) and not takes_rating

    def _needed_ratings(self) -> set[str]:
        return {"valence", "arousal"} if self.target == "quadrant" else {self.target}

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

    def _labeller(self, dataset) -> Labeller:
        by_class = self._has_valence_by_class(dataset)
        uses_ratings = self.target != "emotion" and not by_class
        if by_class:
            rules = self.threshold, self.ties, self.margin
            warn_of_ignored_rules(dataset.code, *rules)
        of_stimuli = None
        if uses_ratings and self.label_source == "stimulus":
            of_stimuli = dataset.stimulus_table().to_dict("index")
        return Labeller(
            target=self.target,
            n_classes=self.n_classes,
            cuts=self._find_cuts(dataset) if uses_ratings else None,
            ties=self.ties,
            margin=self.margin,
            label_source=self.label_source,
            valence_of_class=dict(dataset.valence_of_class) if by_class else {},
            dataset=dataset,
            stimulus_ratings=of_stimuli,
        )

    def _find_cuts(self, dataset) -> tuple:
        """Return the cuts between the classes of a corpus's ratings."""
        default = EmotionDataset.rating_cuts
        low, high = cuts = tuple(getattr(dataset, "rating_cuts", default))
        midpoint = getattr(dataset, "rating_midpoint", None)
        # The default is for scales from 1 to 9.
        has_cuts = cuts != default or midpoint in (None, 5.0)
        if self.n_classes == 3 and not has_cuts:
            raise ValueError(
                f"{dataset.code} states the midpoint {midpoint:g} of its ratings, but "
                f"no cuts in three classes, and the default {cuts} is for scales from "
                "1 to 9. Set its attribute rating_cuts."
            )
        if self.n_classes == 3:
            return cuts
        if self.threshold is not None:
            if has_cuts and midpoint is not None and self.threshold != "median":
                # The upper third of the scale begins at the upper cut.
                reach = 2 * high - low - midpoint
                warn_of_threshold(dataset.code, self.threshold, midpoint, reach)
            return (self.threshold,)
        if midpoint is None:
            raise ValueError(
                f"{dataset.code} does not state the midpoint of its ratings. Pass a "
                "threshold, or set its attribute rating_midpoint."
            )
        return (midpoint,)

    def label_trials(self, dataset, subjects=None):
        """Return the trials of a corpus with their labels, without reading signals.

        Parameters
        ----------
        dataset : EmotionDataset
            The corpus.
        subjects : list of int or None
            Subjects, all of the dataset by default.

        Returns
        -------
        DataFrame
            One row per trial: the dataset's ``trial_table`` of the subjects with the
            columns ``corpus`` and ``label``, which is ``"unlabeled"`` if the trial
            has no label for the target.

        Raises
        ------
        ValueError
            If the dataset is not one of this package or lacks the target, or if a
            subject is not one of its ``subject_list``.
        """
        if not isinstance(dataset, EmotionDataset):
            raise ValueError(
                f"dataset must be an EmotionDataset, but got {dataset!r}: trials of "
                "other datasets are known only after get_data."
            )
        self._check_valid(dataset)
        labeller = self._labeller(dataset)
        tables = []
        for subject in _check_subjects(dataset, subjects):
            table = dataset.trial_table(subject)
            labels = [labeller(trial, subject) for trial in table.to_dict("records")]
            table["label"] = [label or UNLABELED for label in labels]
            tables.append(table)
        trials = pd.concat([t for t in tables if len(t)] or tables, ignore_index=True)
        trials.insert(0, "corpus", dataset.code)
        return trials

    def class_balance(self, dataset):
        """Count the trials of each label, without reading signals.

        Parameters
        ----------
        dataset : EmotionDataset
            The corpus.

        Returns
        -------
        DataFrame
            Number of trials by subject (rows) and label (columns); ``"unlabeled"``
            counts the trials that have no label for the target.
        """
        trials = self.label_trials(dataset)
        counts = trials.groupby(["subject", "label"]).size().unstack(fill_value=0)
        return (
            counts.reindex(columns=[*self.used_events(dataset), UNLABELED])
            .reindex(dataset.subject_list)
            .fillna(0)
            .astype(int)
            .rename_axis(index="subject", columns=None)
        )

    def get_info(self, dataset):
        """Return channels and sampling rate of the windows, which arrays lack.

        Parameters
        ----------
        dataset : EmotionDataset
            The corpus, on disk; its first recording is read.

        Returns
        -------
        mne.Info
            Channels in the order of the arrays, with their types and positions.
        """
        raw = self._pick(dataset).transform(dataset.first_raw())
        if self.resample is not None:
            # Only its description is used.
            raw = raw.crop(0.0, min(1.0, raw.times[-1])).load_data(verbose=False)
            raw.resample(self.resample, verbose=False)
        return raw.info

    def match_all(
        self, datasets, shift=0.0, channel_merge_strategy="intersect", ignore=None
    ):
        """Choose the channels and the sampling rate that all corpora have.

        Parameters
        ----------
        datasets : list of EmotionDataset
            Corpora, on disk.
        shift : float
            Added to the lowest sampling rate of the corpora and ``resample``, in Hz.
            MOABB's -0.5 is not needed, as windows have exact numbers of samples.
        channel_merge_strategy : {"intersect", "union"}
            ``"intersect"`` keeps the common channels, ``"union"`` all channels: those
            that a corpus lacks are zero in its arrays, after ``features`` and
            ``standardize``, as in SCMM [inferred].
        ignore : list of str or None
            Channels to leave out.

        Raises
        ------
        ValueError
            If the corpora have no channel in common, or the strategy is unknown.
        """
        if channel_merge_strategy not in ("intersect", "union"):
            raise ValueError(
                'channel_merge_strategy must be "intersect" or "union", but got '
                f"{channel_merge_strategy!r}."
            )
        everything = copy.copy(self)
        everything.channels, everything.resample = None, None
        infos = {dataset.code: everything.get_info(dataset) for dataset in datasets}
        of_corpus = [info["ch_names"] for info in infos.values()]
        union = dict.fromkeys(name for names in of_corpus for name in names)
        self.fill_missing_channels = channel_merge_strategy == "union"
        # In the order of the first corpus, so that the choice is the same every time.
        self.channels: list[str] | None = [
            name
            for name in union
            if name not in (ignore or ())
            and (self.fill_missing_channels or all(name in c for c in of_corpus))
        ]
        if not self.channels:
            raise ValueError(f"The corpora {[*infos]} have no channel in common.")
        rates = [info["sfreq"] for info in infos.values()]
        rates += [] if self.resample is None else [self.resample]
        self.resample: float | None = min(rates) + shift

    # -- processing ------------------------------------------------------------

    def make_process_pipelines(
        self,
        dataset,
        return_epochs=False,
        return_raws=False,
        postprocess_pipeline=None,
        unlabeled=False,
    ):
        """Return MOABB's processing pipeline, from raws to windows to arrays.

        Parameters
        ----------
        dataset : BaseDataset
            The corpus.
        return_epochs, return_raws : bool
            Stop at the windows, or at the filtered raws of whole runs.
        postprocess_pipeline : transformer or None
            Applied to the arrays, run by run, after ``features``.
        unlabeled : bool
            Include trials without a label.

        Returns
        -------
        list of FixedPipeline
            One pipeline. Its representation contains every parameter, as MOABB's
            caches and result files are identified by it. ``standardize`` is not one
            of its steps, as they see one run at a time; :meth:`get_data` applies it.
        """
        if return_epochs and return_raws:
            raise ValueError("Ask for epochs or for raws, not for both.")
        if self.standardize is not None and postprocess_pipeline is not None:
            raise ValueError(
                "standardize cannot be combined with a postprocess_pipeline, which "
                "would run before it. Put the steps into the pipeline that is fitted."
            )
        _warn_of_shared_trials()
        # MOABB's own first step is left out: it would give all trials one length.
        steps = [
            (StepType.RAW, self._pick(dataset)),
            (StepType.RAW, FilterEEG(self.fmin, self.fmax)),
        ]
        if self.baseline is not None:
            steps.append((StepType.RAW, SubtractBaseline(self.baseline)))
        if self.resample is not None:
            steps.append((StepType.RAW, Resample(self.resample)))
        # The statistics of a recording include its trials without a label.
        keeps_all = unlabeled or self.standardize is not None
        trials = self._trials(dataset, keeps_all)
        if return_raws:
            steps.append((StepType.RAW, KeepUsed(trials)))
        else:
            cut = CutWindows(trials, self.window, self.stride)
            steps.append((StepType.EPOCHS, cut))
        if not return_epochs and not return_raws:
            to_arrays = ToArrays(
                dataset.unit_factor,
                self.features,
                postprocess_pipeline,
                self.channels if self.fill_missing_channels else None,
            )
            steps.append((StepType.ARRAY, to_arrays))
        identity = {
            "scorer": without_addresses(repr(self.scorer)),
            "standardize": self.standardize,
            "subjects": list(dataset.subject_list),
            "sessions": selected_sessions(dataset),
        }
        return [_IdentifiedPipeline(steps, identity, keeps_all)]

    def _pick(self, dataset) -> Pick:
        return Pick(
            source=_source_of(dataset),
            channels=self.channels,
            picks=self.picks,
            modalities=dataset.return_all_modalities,
            fill_missing=self.fill_missing_channels,
        )

    def _trials(self, dataset, unlabeled: bool) -> UsedTrials:
        """Return which trials are used, with or without those that have no label."""
        codes = self._codes(dataset)
        if not unlabeled:
            del codes[UNLABELED]
        return UsedTrials(
            codes, self._labeller(dataset), self.tmin, self.tmax, self.last
        )

    def _codes(self, dataset) -> dict[str, int]:
        """Return the codes of the labels and of UNLABELED."""
        codes = self.used_events(dataset)
        return codes | {UNLABELED: max(codes.values()) + 1}

    def make_labels_pipeline(self, dataset, return_epochs=False, return_raws=False):
        """Return the pipeline from windows or raws to their labels and trials.

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
        to_labels = EventsToLabels(self._codes(dataset))
        if return_raws:
            cut = CutTrials(self._trials(dataset, unlabeled=False))
            return make_fixed_pipeline(cut, to_labels)
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
        unlabeled=False,
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
            Return for each trial its part of the filtered recording, as ``tmin``,
            ``tmax`` and ``last`` select it, with the trial as its only annotation.
            The caches keep whole runs.
        cache_config : dict, CacheConfig or None
            MOABB's disk cache.
        postprocess_pipeline : transformer or None
            Needs no fit; applied to the arrays run by run.
        process_pipelines : list of FixedPipeline or None
            The output of :meth:`make_process_pipelines`, if MOABB has called it.
        additional_metadata : "all", list of str or None
            Columns of the metadata to keep in addition to ``subject``, ``session``
            and ``run``; all by default.
        n_jobs : int
            Number of subjects to load in parallel.
        unlabeled : bool
            Also return the windows of trials without a label for the target, such as
            SEED's neutral films in two classes. Their ``y`` is ``"unlabeled"``.

        Returns
        -------
        X : ndarray, shape (n_windows, n_chans, n_times), or mne.Epochs
            Signals in microvolts; with ``features="de"`` an array of shape
            ``(n_windows, n_chans, n_bands)``; with ``return_raws`` a list with one
            raw per trial.
        y : ndarray of str, shape (n_windows,)
            Labels; one per trial with ``return_raws``.
        metadata : DataFrame, n_windows rows
            See the class; with ``return_raws`` one row per trial, without ``window``.

        Raises
        ------
        ValueError
            If a trial is shorter than one window, if no trial has a label, or if a
            subject is not one of the dataset's ``subject_list``.
        """
        self._check_valid(dataset)
        subjects = _check_subjects(dataset, subjects)
        self._warn_of_cut_bands(dataset, return_epochs or return_raws)
        if process_pipelines is None:
            process_pipelines = self.make_process_pipelines(
                dataset, return_epochs, return_raws, postprocess_pipeline, unlabeled
            )
        how = {
            "return_epochs": return_epochs,
            "return_raws": return_raws,
            "cache_config": cache_config,
            "pipeline": _check_pipeline(process_pipelines, unlabeled),
            "n_jobs": n_jobs,
        }
        parts = self._load_parts(dataset, subjects, how)
        if self.standardize is not None:
            are_features = self.features is not None and not (
                return_epochs or return_raws
            )
            standardize_recordings(parts, are_features=are_features)
        if not unlabeled:
            parts = [part.keep(part.labels["label"] != UNLABELED) for part in parts]
        parts = [part for part in parts if len(part)]
        if not parts:
            raise ValueError(
                f"No trial of subjects {subjects} of {dataset.code} has a label for "
                f"the target {self.target!r} with {self.n_classes} classes."
            )
        X, labels, metadata = _join(parts)
        if return_raws:
            metadata = metadata.drop(columns="window")
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

    def _load_parts(self, dataset, subjects, how) -> list[Part]:
        """Return the windows from signals, from a cache or from the makers' files."""
        is_array = not (how["return_epochs"] or how["return_raws"])
        if (name := find_name(self.features)) is not None:
            if not is_array:
                raise ValueError(
                    f"features={self.features!r} are arrays: ask for neither epochs "
                    "nor raws, or for features=None."
                )
            return self._load_released(dataset, subjects, name, how["pipeline"])
        is_mapped = getattr(dataset, "is_mapped", False)
        if self.cache_dir is not None and is_array and not is_mapped:
            return self._load_cached(dataset, subjects, **how)
        return self._load(dataset, subjects, **how)

    def _check_valid(self, dataset) -> None:
        if obstacle := self._find_obstacle(dataset):
            raise ValueError(obstacle)

    def _warn_of_cut_bands(self, dataset, is_signal: bool) -> None:
        """Warn of bands in which the release of a corpus holds no signal."""
        bands = list_bands(None if is_signal else self.features, self.fmin, self.fmax)
        passband = getattr(dataset, "passband", None)
        if cut := describe_cut_bands(bands, passband):
            warnings.warn(
                f"{cut}, the cut-off of the {dataset.code} release: its values measure "
                "the filter's roll-off.",
                stacklevel=3,
            )

    def _load(
        self,
        dataset,
        subjects,
        *,
        return_epochs,
        return_raws,
        cache_config,
        pipeline,
        n_jobs,
        known=None,
    ) -> list[Part]:
        """Return the windows of each run, or the raws of its trials."""
        data = dataset.get_data(
            subjects=subjects,
            cache_config=cache_config,
            process_pipeline=pipeline,
            n_jobs=n_jobs,
        )
        to_labels = EventsToLabels(self._codes(dataset)).transform
        # Pipelines of others hold no flag.
        trials = self._trials(dataset, getattr(pipeline, "unlabeled", False))

        def split(found):
            if return_raws:
                cut = CutTrials(trials)
                return cut.crop(found), to_labels(cut.transform(found))
            if return_epochs:
                return found, to_labels(found.events)
            return found["X"], to_labels(found["events"])

        parts = []
        known = {} if known is None else known
        for subject, sessions in data.items():
            for session, runs in sessions.items():
                for run, found in runs.items():
                    if found is None:  # none of its trials is used
                        continue
                    X, labels = split(found)
                    keys = {"subject": subject, "session": session, "run": run}
                    if not return_epochs and not return_raws:
                        _check_alike(known, keys, found)
                    places = {name: labels[name] for name in ("trial", "window")}
                    parts.append(Part(X, labels, pd.DataFrame(keys | places)))
        parts = _add_trials(parts, dataset)
        if parts and not return_raws and isinstance(dataset, EmotionDataset):
            self._add_windows(parts, dataset)
        return parts

    def released_files(self, dataset):
        """Return the files of the makers' features that would be read.

        Parameters
        ----------
        dataset : EmotionDataset
            The corpus, on disk.

        Returns
        -------
        list of str
            Those of all subjects; none unless ``features`` is ``"released:<name>"``.
        """
        name = find_name(self.features)
        if name is None:
            return []
        self._check_offered(dataset, name)
        return [
            file
            for subject in dataset.subject_list
            for file in dataset.released_files(name, self.window, subject)
        ]

    def _check_offered(self, dataset, name: str) -> None:
        """Check that a corpus has released features in windows of this length."""
        offered = getattr(dataset, "released_features", {})
        if name not in offered:
            raise ValueError(
                f"The makers' features of {dataset.code} that can be read are "
                f"{sorted(offered) or 'none'}, but features={self.features!r}."
            )
        if self.window not in offered[name]:
            lengths = " or ".join(f"{length:g}" for length in offered[name])
            raise ValueError(
                f"features={self.features!r} of {dataset.code} have windows of "
                f"{lengths} s, but window={self.window:g}."
            )
        if dataset.is_mapped:
            raise ValueError(
                f"features={self.features!r} are read from the makers' files: they "
                "cannot be computed from changed signals, as controls, audits and "
                'map_raws need. Use features="de".'
            )

    def _load_released(self, dataset, subjects, name, pipeline) -> list[Part]:
        """Return the windows of the makers' features, trial by trial."""
        self._check_offered(dataset, name)
        unlabeled = getattr(pipeline, "unlabeled", False)
        labeller = self._labeller(dataset)
        parts = list(
            load_released(dataset, subjects, name, self.window, labeller, unlabeled)
        )
        known = dataset.released_channels
        arrange_channels(parts, known, self.channels, self.fill_missing_channels)
        after = pipeline.steps[-1][1].postprocess_pipeline
        for part in parts if after is not None else ():
            part.X = after.transform(part.X)
        parts = _add_trials(parts, dataset)
        if parts:
            self._add_windows(parts, dataset)
        return parts

    def _add_windows(self, parts: list[Part], dataset: EmotionDataset) -> None:
        """Add the columns of the corpus that differ within a trial."""
        metadata = pd.concat([part.metadata for part in parts], ignore_index=True)
        rows = metadata[["subject", "session", "trial"]].copy()
        rows["start"] = self.tmin + metadata["window"] * self.stride
        if self.last is not None:
            skipped = metadata["length"] - self.last - self.tmin
            rows["start"] += skipped.clip(lower=0)
        rows["stop"] = rows["start"] + self.window
        found = dataset.describe_windows(rows)
        stop = 0
        for part in parts:
            start, stop = stop, stop + len(part)
            for name, values in found.items():
                part.metadata[name] = values.to_numpy()[start:stop]

    def _load_cached(self, dataset, subjects, *, pipeline, **how) -> list[Part]:
        """Return the same per subject, from the folder of features if it is there."""
        cache = FeatureCache(self.cache_dir)
        root = str(dataset.find_root())
        # A copy elsewhere has the same features.
        steps = str(pipeline.steps).replace(f"root={root}, ", "")
        parts = []
        known: dict = {}
        for subject in subjects:
            entry = cache.get(
                partial(
                    self._compute_entry, dataset, subject, pipeline=pipeline, **how
                ),
                corpus=dataset.code,
                files=dataset.source_files(subject),
                # Labels may be in files that all subjects share.
                parameters=f"{steps} {dataset.trial_table(subject).to_json()}",
            )
            for is_format, left_out, text in json.loads(str(entry.pop("warnings"))):
                text = text.replace(_ROOT, root)
                warnings.warn(
                    CorpusFormatWarning(text, left_out)
                    if is_format
                    else RuntimeWarning(text),
                    stacklevel=4,
                )
            ch_names = json.loads(str(entry.pop("ch_names", "[]")))
            if len(entry["y"]):
                X, labels = entry.pop("X"), entry.pop("y")
                _check_alike(
                    known, {"subject": subject}, {"X": X, "ch_names": ch_names}
                )
                parts.append(Part(X, labels, pd.DataFrame(entry)))
        return parts

    def _compute_entry(self, dataset, subject, **how):
        how["n_jobs"] = 1  # for one subject
        known: dict = {}
        with warnings.catch_warnings(record=True) as caught:
            for category in (CorpusFormatWarning, RuntimeWarning):
                warnings.simplefilter("always", category)
            parts = self._load(dataset, [subject], known=known, **how)
        kept = []
        for found in caught:
            is_format = found.category is CorpusFormatWarning
            if is_format or found.category is RuntimeWarning:
                text = str(found.message).replace(str(dataset.find_root()), _ROOT)
                left_out = getattr(found.message, "left_out", False)
                kept.append((is_format, left_out, text))
            else:
                place = found.filename, found.lineno
                warnings.warn_explicit(found.message, found.category, *place)
        ch_names = known["found"]["channels"] if known else []
        texts = {
            "warnings": np.array(json.dumps(kept)),
            "ch_names": np.array(json.dumps(ch_names)),
        }
        if not parts:
            return {"X": np.empty(0), "y": np.empty(0), **texts}
        X, labels, metadata = _join(parts)
        columns = {
            name: column.to_numpy(str) if column.dtype.kind == "O" else column
            for name, column in metadata.items()
        }
        return {"X": X, "y": labels, **columns, **texts}


def _check_choice(name: str, value, choices: Sequence):
    """Return a value that must be one of a few."""
    if not isinstance(value, str | None) or value not in choices:
        *others, last = ("None" if c is None else f'"{c}"' for c in choices)
        raise ValueError(
            f"{name} must be {', '.join(others)} or {last}, but got {value!r}."
        )
    return value


def _check_subjects(dataset, subjects) -> list[int]:
    """Return the subjects to load, each of them once."""
    known = list(dict.fromkeys(dataset.subject_list))
    numbers = check_numbers("subjects", subjects)
    if numbers is None:
        return known
    if not numbers or not set(numbers) <= {*known}:
        raise ValueError(
            f"subjects must be a list of some of {known}, or None for all, but got "
            f"{subjects!r}."
        )
    return list(dict.fromkeys(numbers))


def _check_threshold(threshold, n_classes: int | None):
    if threshold is None:
        return None
    if threshold != "median":
        threshold = check_number("threshold", threshold, or_one_of=("median",))
    if n_classes == 3:
        raise ValueError(
            f"threshold={threshold!r} makes two classes, but n_classes is 3: its cuts "
            "are the corpus's own. Leave the threshold out, or pass n_classes=2."
        )
    return threshold


def _check_baseline(baseline) -> tuple[float, float] | None:
    if baseline is None:
        return None
    if not isinstance(baseline, Sequence) or len(baseline) != 2:
        raise ValueError(f"baseline must be (start, stop) in s, but got {baseline!r}.")
    start, stop = (check_number("baseline", value) for value in baseline)
    check_interval("baseline[0]", start, "baseline[1]", stop)
    return start, stop


def _check_features(features):
    is_known = features in BAND_FEATURES or find_name(features)
    if isinstance(features, str) and not is_known:
        raise ValueError(
            f"features must be None, one of {[*BAND_FEATURES]} or {PREFIX}<name> of "
            f"the makers' features, or a transformer, but got {features!r}."
        )
    # MOABB's caches identify a transformer by its parameters.
    needed = {"transform", "get_params"}
    if not isinstance(features, str | None) and needed - set(dir(features)):
        raise ValueError(
            "features must have the methods transform and get_params of "
            f"scikit-learn, but got {features!r}."
        )
    return features


def _check_pipeline(process_pipelines, unlabeled: bool):
    """Return the only pipeline after checking that it keeps unlabelled trials."""
    (pipeline,) = process_pipelines
    if unlabeled and not getattr(pipeline, "unlabeled", False):
        raise ValueError(
            "process_pipelines leave out trials without a label: pass unlabeled=True "
            "to make_process_pipelines too."
        )
    return pipeline


def _check_alike(known: dict, keys: dict, found: dict) -> None:
    """Check that a run has the channels and the length of windows of the first one."""
    here = {
        "channels": list(found.get("ch_names", ())),
        "shape of a window": found["X"].shape[1:],
    }
    first = known.setdefault("run", keys), known.setdefault("found", here)
    for name, value in here.items():
        if first[1][name] and value and value != first[1][name]:
            raise ValueError(
                f"All recordings must have the same channels and rate, but the {name} "
                f"of {keys} is {value}, that of {first[0]} is {first[1][name]}. Pass "
                'channels, picks="eeg", or resample, or load such subjects apart.'
            )


def _add_trials(parts: list[Part], dataset) -> list[Part]:
    """Add the corpus and the columns of the trials to the rows of the windows."""
    if not parts:
        return parts
    metadata = pd.concat([part.metadata for part in parts], ignore_index=True)
    runs = metadata[["subject", "session", "run"]].drop_duplicates()
    tables = [dataset.get_additional_metadata(*r) for r in runs.itertuples(index=False)]
    if any(table is None for table in tables):
        raise ValueError(
            f"{dataset.code} does not describe its trials: its "
            "get_additional_metadata must return them, as that of EmotionDataset does."
        )
    trials = pd.concat(tables).drop(columns=_BIDS_COLUMNS, errors="ignore")
    trials["stimulus"] = trials["stimulus"].astype(str)  # mne-bids makes 1 of "01"
    metadata = metadata.merge(
        trials, on=["subject", "session", "run", "trial"], how="left", validate="m:1"
    )
    metadata["corpus"] = dataset.code
    stop = 0
    for part in parts:
        start, stop = stop, stop + len(part)
        part.metadata = metadata[start:stop].reset_index(drop=True)
    return parts


def _join(parts: list[Part]):
    """Return X, labels and metadata of all parts."""
    X = [part.X for part in parts]
    if isinstance(X[0], list):
        X = [raw for raws in X for raw in raws]
    elif isinstance(X[0], mne.BaseEpochs):
        for epochs in X:  # all are of the kind of the first
            epochs.set_annotations(None)  # type: ignore[union-attr]
        X = mne.concatenate_epochs(X, verbose=False)
    else:
        X = np.concatenate(X)
    labels = np.concatenate([part.labels for part in parts])
    metadata = pd.concat([part.metadata for part in parts], ignore_index=True)
    return X, labels, metadata


class _IdentifiedPipeline(FixedPipeline):
    """A pipeline that also names what results depend on but signals do not.

    MOABB finds stored results by the code of the corpus, the number of the subject and
    this pipeline's parameters only: it would return the scores of another metric, or
    of fewer training subjects.
    """

    def __init__(self, steps, identity, unlabeled):
        super().__init__(steps)
        self.identity = identity
        self.unlabeled = unlabeled

    @property
    def takes_signals(self):
        """Whether a corpus need not make raws of MNE for it."""
        return self.steps[-1][0] is StepType.ARRAY


def _source_of(dataset) -> str:
    """Return the place of a copy of a corpus, or of a local BIDS copy."""
    if isinstance(dataset, EmotionDataset):
        return dataset._cache_key()
    return str(getattr(dataset, "bids_root", ""))


def _warn_of_shared_trials() -> None:
    """Warn if an evaluation of MOABB that shuffles windows is about to load them."""
    from moabb.evaluations import WithinSessionEvaluation, WithinSubjectEvaluation

    caller = find_caller((WithinSessionEvaluation, WithinSubjectEvaluation))
    if caller is None:
        return
    # MOABB ignores groups with other splitters, such as its default.
    takes_groups = issubclass(caller.cv_class or object, GroupsConsumerMixin)
    if caller.groups is None or not takes_groups:
        warnings.warn(
            f"{type(caller).__name__} shuffles windows: windows of one trial are in "
            "both the training and the test set, and the score measures how well a "
            "trial is recognised again, not an emotion. Hold out whole trials instead: "
            "braindecode_emossl.evaluate(pipelines, datasets, paradigm, "
            '"within-session"), or groups="trial" together with a cv_class that uses '
            "groups, such as GroupKFold.",
            LeakageWarning,
            stacklevel=4,
        )
