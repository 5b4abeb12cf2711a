"""The Emotion paradigm: windows inside trials, labels that corpora can share."""

from __future__ import annotations

import copy
import math
import sys
import warnings
from functools import partial
from numbers import Real

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

from braindecode_emossl.datasets.base import EmotionDataset
from braindecode_emossl.errors import LeakageWarning
from braindecode_emossl.features import FeatureCache
from braindecode_emossl.paradigms.labels import LABELS, Labeller, check_target
from braindecode_emossl.paradigms.steps import (
    BAND_FEATURES,
    CutTrials,
    CutWindows,
    EventsToLabels,
    FilterEEG,
    KeepLabelled,
    Pick,
    Resample,
    SubtractBaseline,
    ToArrays,
    without_addresses,
)

__all__ = ["Emotion"]

# Columns of a BIDS copy's events that say of the trial what ours say of it as well.
_BIDS_COLUMNS = ["onset", "duration", "trial_type", "value"]


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
    threshold : float or "median"
        A rating is high if it is ``> threshold`` (two classes and quadrants); a
        rating of exactly the threshold is low. ``"median"`` takes the median of all
        ratings of the subject: nearly balanced classes, but a label that depends on
        the ratings of all trials, those of a test part included. With three classes
        the cuts are ``<= 3``, ``3 < r <= 6`` and ``> 6``.
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
    features : None, "de", "psd" or transformer
        ``None`` gives the signals. ``"de"`` gives the differential entropy of each
        window of EEG in the five bands of SEED's authors, ``"psd"`` the mean power
        spectral density there in squared microvolts per hertz. A scikit-learn
        transformer that needs no fit is applied to the windows
        ``(n_windows, n_chans, n_times)``. Any of them is applied run by run, so that
        the signals of the whole corpus are never in memory together.
    scorer : str, callable or None
        Metric of MOABB's evaluations, accuracy by default.
    cache_dir : str, Path or None
        Folder that keeps the arrays of each subject, meant for ``features``. They are
        found again by the contents of the subject's files and labels, all parameters
        and the version of this package. Several processes may share it.

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
        cache_dir=None,
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
        self.fill_missing_channels = False  # match_all may set it
        self.target = target
        self.n_classes = check_target(target, n_classes)
        self.threshold = threshold
        self.fmin = fmin
        self.fmax = fmax
        self.window = window
        self.stride = window if stride is None else stride
        self.features = features
        self.cache_dir = cache_dir
        self._check()

    def _check(self):
        numbers = {"window": self.window, "stride": self.stride}
        if self.resample is not None:
            numbers["resample"] = self.resample
        for name, value in numbers.items():
            if not _is_number(value) or value <= 0:
                raise ValueError(
                    f"{name} must be a positive number, but got {value!r}."
                )
        if self.channels is not None and len(set(self.channels)) < len(self.channels):
            raise ValueError(f"channels must differ, but got {self.channels}.")
        if self.tmin < 0:
            raise ValueError(
                f"tmin must not lie before the trial, but got {self.tmin}."
            )
        if self.threshold == "median" and self.n_classes == 3:
            raise ValueError(
                'threshold="median" makes two classes, but n_classes is 3.'
            )
        if self.threshold != "median" and not _is_number(self.threshold):
            raise ValueError(
                f'threshold must be a number or "median", but got {self.threshold!r}.'
            )
        if isinstance(self.features, str) and self.features not in BAND_FEATURES:
            raise ValueError(
                f"features must be None, one of {[*BAND_FEATURES]} or a transformer, "
                f"but got {self.features!r}."
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

        Notes
        -----
        Another dataset than ours, such as MOABB's ``LocalBIDSDataset`` of what
        ``convert_to_bids`` wrote, takes part with ``paradigm="emotion"`` and the
        corpus's events if its ``events.tsv`` have the columns ``trial``,
        ``stimulus``, ``length`` and ``emotion``. For the other targets it needs the
        attributes ``ratings`` and ``valence_of_class`` of the corpus:

        >>> copy = LocalBIDSDataset(
        ...     root, subjects=[1], events=DEAP.classes, interval=[0, 60],
        ...     paradigm="emotion"
        ... )
        >>> copy.ratings = DEAP.ratings
        >>> X, y, metadata = Emotion("valence").get_data(copy)
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

    def _labeller(self, dataset) -> Labeller:
        return Labeller(
            target=self.target,
            n_classes=self.n_classes,
            threshold=self.threshold,
            valence_of_class=dict(getattr(dataset, "valence_of_class", {})),
            dataset=dataset,
        )

    def class_balance(self, dataset):
        """Count the trials of each label, without reading signals.

        Parameters
        ----------
        dataset : EmotionDataset
            The corpus.

        Returns
        -------
        DataFrame
            Number of trials by subject (rows) and label (columns); ``"no label"``
            counts those that the target leaves out.
        """
        labeller, names = self._labeller(dataset), list(self.used_events(dataset))
        counts = {
            subject: pd.Series(
                labeller(trial, subject) or "no label"
                for trial in dataset.trial_table(subject).to_dict("records")
            ).value_counts()
            for subject in dataset.subject_list
        }
        table = pd.DataFrame(counts).T.reindex(columns=[*names, "no label"])
        return table.fillna(0).astype(int).rename_axis("subject")

    def get_info(self, dataset):
        """Return channels and sampling rate of the windows, which arrays do not tell.

        Parameters
        ----------
        dataset : EmotionDataset
            The corpus, on disk; its first recording is read.

        Returns
        -------
        mne.Info
            Channels in the order of the arrays, with their kinds and places.
        """
        pick = Pick(
            "", self.channels, dataset.return_all_modalities, self.fill_missing_channels
        )
        info = pick.transform(dataset.first_raw()).info
        if self.resample is not None:
            with info._unlock():
                info["sfreq"] = self.resample
        return info

    def match_all(
        self, datasets, shift=0.0, channel_merge_strategy="intersect", ignore=None
    ):
        """Choose the channels and the sampling rate that all corpora can give.

        Parameters
        ----------
        datasets : list of EmotionDataset
            Corpora, on disk.
        shift : float
            Added to the lowest sampling rate of the corpora and ``resample``, in Hz.
            MOABB's -0.5 is not needed, as windows have an exact number of samples.
        channel_merge_strategy : {"intersect", "union"}
            ``"intersect"`` keeps the channels that all have, ``"union"`` all channels:
            those that a corpus lacks are zero in its arrays, after ``features``, as
            the authors of SCMM did it [inferred].
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
        self, dataset, return_epochs=False, return_raws=False, postprocess_pipeline=None
    ):
        """Return MOABB's processing pipeline, from raw to windows to arrays.

        Parameters
        ----------
        dataset : BaseDataset
            The corpus.
        return_epochs, return_raws : bool
            Stop at the windows, or at the filtered raws of whole runs.
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
        modalities = dataset.return_all_modalities
        pick = Pick(
            _source_of(dataset), self.channels, modalities, self.fill_missing_channels
        )
        _warn_of_shared_trials()
        steps = [
            (StepType.RAW, pick),
            (StepType.RAW, FilterEEG(self.fmin, self.fmax)),
        ]
        if self.baseline is not None:
            steps.append((StepType.RAW, SubtractBaseline(self.baseline)))
        if self.resample is not None:
            steps.append((StepType.RAW, Resample(self.resample)))
        if return_raws:
            steps.append((StepType.RAW, KeepLabelled(self._trials(dataset))))
        else:
            steps.append((StepType.EPOCHS, self._windows(dataset)))
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
            "subjects": list(dataset.subject_list),
            "sessions": getattr(dataset, "_selected_sessions", None),
        }
        return [_IdentifiedPipeline(steps, identity)]

    def _windows(self, dataset) -> CutWindows:
        return CutWindows(
            event_id=self.used_events(dataset),
            labeller=self._labeller(dataset),
            window=self.window,
            stride=self.stride,
            tmin=self.tmin,
            tmax=self.tmax,
        )

    def _trials(self, dataset) -> CutTrials:
        return CutTrials(
            event_id=self.used_events(dataset),
            labeller=self._labeller(dataset),
            tmin=self.tmin,
            tmax=self.tmax,
        )

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
        to_labels = EventsToLabels(self.used_events(dataset))
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
            Return for each labelled trial its part of the filtered recording, from
            ``tmin`` to ``tmax``, with the trial as its only annotation. The caches
            keep whole runs.
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
            ``(n_windows, n_chans, n_bands)``; a list of raws, one a trial, if asked
            for.
        y : ndarray of str, shape (n_windows,)
            Labels; one a trial if raws were asked for.
        metadata : DataFrame, n_windows rows
            See the class; one row a trial, without ``window``, if raws were asked for.

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
        if process_pipelines is None:
            process_pipelines = self.make_process_pipelines(
                dataset, return_epochs, return_raws, postprocess_pipeline
            )
        load = self._load
        if self.cache_dir is not None and not return_epochs and not return_raws:
            load = self._load_cached
        X, y, metadata = load(
            dataset,
            subjects,
            return_epochs=return_epochs,
            return_raws=return_raws,
            cache_config=cache_config,
            process_pipelines=process_pipelines,
            n_jobs=n_jobs,
        )
        if not len(y):
            raise ValueError(
                f"No trial of subjects {subjects} of {dataset.code} has a label for "
                f"the target {self.target!r} with {self.n_classes} classes."
            )
        if isinstance(additional_metadata, list):
            if unknown := set(additional_metadata) - set(metadata):
                raise ValueError(
                    f"additional_metadata must be among {list(metadata)}, but got "
                    f"{sorted(unknown)}."
                )
            metadata = metadata[["subject", "session", "run", *additional_metadata]]
        if return_epochs:
            X.metadata = metadata
        return X, y, metadata

    def _load(self, dataset, subjects, **how):
        """Return windows, labels and all metadata, nothing where there is no label."""
        try:
            X, labels, metadata = super().get_data(dataset, subjects=subjects, **how)
        except ValueError as error:
            if "No objects to concatenate" not in str(error):
                raise
            return np.empty(0), np.empty(0, "U1"), pd.DataFrame()
        if how["return_raws"]:
            # MOABB gives one raw and one row a run, but the label of every trial.
            parts = [self._trials(dataset).crop(raw) for raw in X]
            metadata = metadata.loc[metadata.index.repeat([*map(len, parts)])]
            metadata = metadata.reset_index(drop=True)
            X = [part for parts_of_run in parts for part in parts_of_run]
        metadata["trial"] = labels["trial"]
        if not how["return_raws"]:
            metadata["window"] = labels["window"]
        return X, labels["label"], _add_trials(metadata, dataset)

    def _load_cached(self, dataset, subjects, *, process_pipelines, **how):
        """Return the same, from the folder of features where it is there."""
        cache = FeatureCache(self.cache_dir)
        (pipeline,) = process_pipelines
        parts = []
        for subject in subjects:
            entry = cache.get(
                partial(
                    self._compute_entry,
                    dataset,
                    subject,
                    process_pipelines=process_pipelines,
                    **how,
                ),
                corpus=dataset.code,
                files=dataset.source_files(subject),
                # Labels may lie in files that all subjects share.
                parameters=f"{pipeline.steps} {dataset.trial_table(subject).to_json()}",
            )
            if len(entry["y"]):
                parts.append((entry.pop("X"), entry.pop("y"), pd.DataFrame(entry)))
        if not parts:
            return np.empty(0), np.empty(0, "U1"), pd.DataFrame()
        X, y, metadata = zip(*parts, strict=True)
        return (
            np.concatenate(X),
            np.concatenate(y),
            pd.concat(metadata, ignore_index=True),
        )

    def _compute_entry(self, dataset, subject, **how):
        X, y, metadata = self._load(dataset, [subject], **how)
        columns = {
            name: column.to_numpy(str) if column.dtype.kind == "O" else column
            for name, column in metadata.items()
        }
        return {"X": X, "y": y, **columns}


def _is_number(value) -> bool:
    is_real = isinstance(value, Real) and not isinstance(value, bool | np.bool_)
    return is_real and math.isfinite(value)


def _add_trials(metadata: pd.DataFrame, dataset) -> pd.DataFrame:
    """Add the corpus and what it knows of each trial to the rows of the windows."""
    runs = metadata[["subject", "session", "run"]].drop_duplicates()
    tables = [dataset.get_additional_metadata(*r) for r in runs.itertuples(index=False)]
    if any(table is None for table in tables):
        raise ValueError(
            f"{dataset.code} does not say what its trials are: its "
            "get_additional_metadata must return them, as that of EmotionDataset does."
        )
    trials = pd.concat(tables).drop(columns=_BIDS_COLUMNS, errors="ignore")
    trials["stimulus"] = trials["stimulus"].astype(str)  # mne-bids makes 1 of "01"
    metadata = metadata.merge(
        trials, on=["subject", "session", "run", "trial"], how="left", validate="m:1"
    )
    metadata["corpus"] = dataset.code
    return metadata


class _IdentifiedPipeline(FixedPipeline):
    """A pipeline that also names what results depend on, but signals do not.

    MOABB finds stored results by the code of the corpus, the number of the subject and
    this pipeline's parameters alone: it would give the scores of another metric, or of
    fewer training subjects, for those asked for.
    """

    def __init__(self, steps, identity):
        super().__init__(steps)
        self.identity = identity


def _source_of(dataset) -> str:
    """Name the copy of a corpus; of other datasets, a local BIDS copy has a name."""
    if isinstance(dataset, EmotionDataset):
        return dataset._cache_key()
    return str(getattr(dataset, "bids_root", ""))


def _warn_of_shared_trials() -> None:
    """Warn if an evaluation of MOABB that shuffles windows asks for them."""
    from moabb.evaluations import WithinSessionEvaluation, WithinSubjectEvaluation

    # MOABB does not tell a paradigm who asks.
    caller = sys._getframe(2).f_locals.get("self")
    shuffling = (WithinSessionEvaluation, WithinSubjectEvaluation)
    if isinstance(caller, shuffling) and caller.groups is None:
        warnings.warn(
            f"{type(caller).__name__} shuffles windows: those of one trial are in both "
            "training and test part, and the score says how well a trial is recognised "
            "again, not an emotion. Hold out whole trials instead: "
            "braindecode_emossl.evaluate(pipelines, datasets, paradigm, "
            '"within-session").',
            LeakageWarning,
            stacklevel=4,
        )
