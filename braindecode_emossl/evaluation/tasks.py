"""The work of an evaluation: corpora that are divided together, under one protocol."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from moabb.datasets.base import BaseDataset
from moabb.paradigms.base import BaseParadigm

from braindecode_emossl.datasets.base import EmotionDataset
from braindecode_emossl.errors import CorpusFormatError, LeakageWarning
from braindecode_emossl.evaluation import mapped
from braindecode_emossl.evaluation.folds import Windows, group_ids, make_folds
from braindecode_emossl.evaluation.protocols import PROTOCOLS, Parts, Protocol
from braindecode_emossl.hosts import selected_sessions
from braindecode_emossl.paradigms import Emotion
from braindecode_emossl.paradigms.labels import UNLABELED
from braindecode_emossl.pretraining.windows import join_corpora
from braindecode_emossl.storage import digest_files, hash_object

__all__ = ["Task", "make_tasks"]

# Attributes of a corpus that the caller may set.
_OF_CORPUS = (
    "event_id",
    "valence_of_class",
    "ratings",
    "rating_midpoint",
    "rating_cuts",
    "passband",
)


@dataclass
class Task:
    """Corpora that are divided together, under one protocol.

    Attributes
    ----------
    protocol : Protocol
        The protocol.
    options : mapping of str to object
        All its options.
    paradigm : BaseParadigm
        The paradigm, for these corpora.
    corpora : sequence of BaseDataset
        One, or several for cross-corpus protocols.
    extra : sequence of BaseDataset
        Corpora whose windows are only used without labels.
    excluded : dict of str to str
        Units that are left out, with the reason.
    """

    protocol: Protocol
    options: Mapping[str, Any]
    paradigm: BaseParadigm
    corpora: Sequence[BaseDataset]
    extra: Sequence[BaseDataset] = ()
    excluded: dict[str, str] = field(default_factory=dict)
    _loaded: Windows | None = None
    _extra_loaded: list[tuple] | None = None
    _signal: dict[str, Any] | None = None

    @property
    def codes(self) -> list[str]:
        """The codes of the corpora."""
        return [dataset.code for dataset in self.corpora]

    @property
    def units(self) -> list[str]:
        """The names of the parts whose folds are made together."""
        if self.protocol.across_corpora:
            names = list(self.options["test_corpora"])
        elif self.protocol.by_subject:
            names = [str(subject) for subject in self.corpora[0].subject_list]
        else:
            names = ["all"]
        return [name for name in names if name not in self.excluded]

    def subjects_of(self, unit: str) -> list | None:
        """Return the subjects that the folds of a unit need, None for all."""
        if not self.protocol.by_subject:
            return None
        return [s for s in self.corpora[0].subject_list if str(s) == unit]

    def test_corpus_of(self, unit: str) -> BaseDataset:
        """Return the corpus that is tested in a unit."""
        if self.protocol.across_corpora:
            return self.corpora[self.codes.index(unit)]
        return self.corpora[0]

    def divide(self, unit: str, trials: pd.DataFrame, seed: int) -> list[Parts]:
        """Return the folds of a unit."""
        options = dict(self.options)
        if self.protocol.across_corpora:
            options["test_corpora"] = [unit]
        if options.get("folds") == "official":
            options["folds"] = _official_folds(self.corpora[0])
        return make_folds(self.protocol, options, trials, seed)

    # -- trials and windows ----------------------------------------------------

    def check_units(self, seed: int, on_error: str) -> dict[str, int]:
        """Divide the trials of all units before any signal is read.

        Parameters
        ----------
        seed : int
            Seed of the folds.
        on_error : {"raise", "warn"}
            Whether subjects that cannot be divided are an error, or are left out with
            a warning where the protocol works subject by subject.

        Returns
        -------
        dict of str to int
            Number of folds by unit, as far as it is known.

        Raises
        ------
        ValueError
            If a unit cannot be divided; all such units are named.
        """
        if not all(isinstance(dataset, EmotionDataset) for dataset in self.corpora):
            return {}
        counts, failed = {}, {}
        tables = [self.paradigm.label_trials(dataset) for dataset in self.corpora]
        trials = pd.concat(tables, ignore_index=True)
        if not self.protocol.by_subject:
            _warn_of_unlabeled(trials)
        for unit in self.units:
            subjects = self.subjects_of(unit)
            rows = (
                trials if subjects is None else trials[trials["subject"] == subjects[0]]
            )
            if subjects is not None and not len(rows):
                continue  # not in the release; loading logs it
            try:
                counts[unit] = len(self.divide(unit, rows.reset_index(drop=True), seed))
            except ValueError as error:
                failed[unit] = str(error)
        if failed and (
            on_error == "raise" or not self.protocol.by_subject or not counts
        ):
            first, *others = failed.values()
            more = f" {len(failed)} subjects cannot: {', '.join(failed)}."
            raise ValueError(first + more if others else first)
        for reason in failed.values():
            warnings.warn(f"Left out: {reason}", stacklevel=4)
        self.excluded |= failed
        return counts

    def load(
        self, unit: str, *, unlabeled: bool, scratch: Path, cache_config=None
    ) -> Windows | None:
        """Return the windows of a unit, None if its subjects are left out.

        Parameters
        ----------
        unit : str
            One of ``units``.
        unlabeled : bool
            Whether to also load ``extra`` and windows of trials without a label.
        scratch : Path
            Folder for signals that are too large for memory; the caller removes it.
        cache_config : CacheConfig or None
            MOABB's disk cache of signals.

        Returns
        -------
        Windows or None
            All units share them where they divide the same windows.
        """
        subjects = self.subjects_of(unit)
        if subjects is None and self._loaded is not None:
            return self._loaded
        how = {"cache_config": cache_config, "unlabeled": unlabeled}
        if subjects is None:
            size = self._estimate_size(unlabeled)
            if size > mapped.LARGE and mapped.has_room(scratch, size):
                self._loaded = self._load_mapped(how, scratch)
            else:
                self._loaded = self._load(None, how)
            return self._loaded
        return self._load(subjects, how)

    def _load(self, subjects, how) -> Windows | None:
        """Return the windows of some subjects, in memory."""
        parts = []
        for dataset in self.corpora:
            try:
                part = self.paradigm.get_data(dataset, subjects=subjects, **how)
            except CorpusFormatError:
                raise
            except ValueError:
                if (
                    subjects is None
                    or not isinstance(dataset, EmotionDataset)
                    or len(self.paradigm.label_trials(dataset, subjects))
                ):
                    raise
                return None
            parts.append(part)
        extra = self._load_extra(how, parts) if how["unlabeled"] else []
        X, y, metadata = join_corpora([*parts, *extra])
        return Windows(X, y, metadata, sum(len(part[1]) for part in extra))

    def _load_extra(self, how, parts) -> list[tuple]:
        """Return the windows of ``extra``, without labels, that are not in parts."""
        if (loaded := self._extra_loaded) is None:
            paradigm = self._paradigm_of_extra
            loaded = [paradigm.get_data(dataset, **how) for dataset in self.extra]
            if self.protocol.by_subject:  # else they are needed once
                self._extra_loaded = loaded
        known = np.concatenate([group_ids(part[2], "session") for part in parts])
        extra = []
        for X, _, metadata in loaded:
            new = ~np.isin(group_ids(metadata, "session"), known)
            if new.any():
                X = X if new.all() else X[new]
                extra.append((X, np.full(len(X), UNLABELED), metadata[new]))
        return extra

    @property
    def _paradigm_of_extra(self) -> BaseParadigm:
        """The paradigm with a target of which all trials have a label."""
        paradigm = copy.copy(self.paradigm)
        paradigm.target, paradigm.n_classes = "emotion", None
        paradigm.threshold, paradigm.ties, paradigm.margin = None, "low", 0.0
        paradigm.label_source = None
        return paradigm

    # -- signals that are too large for memory ---------------------------------

    def _estimate_size(self, unlabeled: bool) -> int:
        """Return at most how many bytes the signals take, 0 for features."""
        extra = self.extra if unlabeled else ()
        corpora = [*self.corpora, *extra]
        are_known = all(isinstance(dataset, EmotionDataset) for dataset in corpora)
        if self.paradigm.features is not None or not are_known:
            return 0
        tables = [self.paradigm.label_trials(dataset) for dataset in self.corpora]
        tables += [self._paradigm_of_extra.label_trials(dataset) for dataset in extra]
        lengths = pd.concat(tables)["length"].to_numpy()
        n_windows = int(np.ceil(lengths / self.paradigm.stride).sum())
        signal = self.describe_signal()
        n_times = round(self.paradigm.window * signal["sfreq"])
        return 4 * n_windows * n_times * len(signal["chs_info"])

    def _load_mapped(self, how, scratch: Path) -> Windows:
        """Return the windows of all subjects, mapped from a file in a folder."""
        kept: list[tuple] = []  # labels and metadata of each subject
        more: list[tuple] = []
        arrays = self._read_subjects(self.paradigm, self.corpora, how, kept)
        if how["unlabeled"]:
            extra = self._paradigm_of_extra, self.extra, how, more
            arrays = chain(arrays, self._read_subjects(*extra, known=kept))
        X = mapped.map_arrays(arrays, scratch)
        labels = [y for y, _ in kept] + [np.full(len(y), UNLABELED) for y, _ in more]
        metadata = pd.concat([rows for _, rows in [*kept, *more]], ignore_index=True)
        n_extra = sum(len(y) for y, _ in more)
        return Windows(X, np.concatenate(labels), metadata, n_extra)

    def _read_subjects(self, paradigm, corpora, how, kept, known=()):
        """Yield windows subject by subject; collect their labels and metadata.

        Recordings that are among the metadata of ``known`` are left out.
        """
        for dataset in corpora:
            trials = paradigm.label_trials(dataset)
            if not how["unlabeled"]:
                trials = trials[trials["label"] != UNLABELED]
            names = None
            for subject in trials["subject"].unique().tolist():
                part = _read_subject(paradigm, dataset, subject, how)
                if part is None:
                    continue
                names = _check_channels(paradigm, dataset, subject, names)
                X, y, metadata = part
                new = np.ones(len(y), bool)
                for _, other in known:
                    sessions = group_ids(other, "session")
                    new &= ~np.isin(group_ids(metadata, "session"), sessions)
                if new.any():
                    kept.append((y[new], metadata[new]))
                    yield X if new.all() else X[new]

    # -- description -----------------------------------------------------------

    def describe_signal(self) -> dict[str, Any]:
        """Return the ``sfreq`` and ``chs_info`` of the windows, which arrays lack."""
        if self._signal is None:  # a recording of each corpus is read
            infos = [self.paradigm.get_info(dataset) for dataset in self.corpora]
            channels = {ch["ch_name"]: ch for info in infos for ch in info["chs"]}
            names = self.paradigm.channels or list(channels)
            chs_info = [channels[name] for name in names]
            self._signal = {"sfreq": infos[0]["sfreq"], "chs_info": chs_info}
        return self._signal

    def _digest_released(self) -> dict[str, list[str]]:
        """Return the digests of the makers' features by corpus, if they are read."""
        find = getattr(self.paradigm, "released_files", None)
        files = {d.code: find(d) if find else [] for d in [*self.corpora, *self.extra]}
        return {code: digest_files(found) for code, found in files.items() if found}

    def identify(self) -> dict[str, Any]:
        """Return all that the folds depend on except the pipeline and the seed."""
        # Each test corpus is a unit by itself, whichever others are asked for.
        options = {k: v for k, v in self.options.items() if k != "test_corpora"}
        settings = self.paradigm.settings
        by_makers = options.get("folds") == "official"
        folds = _official_folds(self.corpora[0]) if by_makers else None
        return {
            "version": version("braindecode-emossl"),
            "protocol": self.protocol.name,
            "options": options,
            "official_folds": _readable(folds),
            "corpora": {d.code: _describe_corpus(d) for d in self.corpora},
            "unlabeled": {d.code: _describe_corpus(d) for d in self.extra},
            "released": self._digest_released(),
            "paradigm": {name: _readable(value) for name, value in settings.items()},
            "paradigm_hash": hash_object(
                (type(self.paradigm), settings), "The paradigm"
            ),
            "scoring": _readable(self.paradigm.scoring),
            "scoring_hash": hash_object(self.paradigm.scoring, "The paradigm's scorer"),
        }


def _read_subject(paradigm, dataset, subject, how) -> tuple | None:
    """Return the windows of one subject, None if nothing of it is intact."""
    try:
        return paradigm.get_data(dataset, subjects=[subject], **how)
    except CorpusFormatError:
        raise
    except ValueError as error:
        if dataset.on_error == "raise":
            raise
        warnings.warn(
            f"Subject {subject} of {dataset.code} is left out: {error}", stacklevel=8
        )
        return None


def _check_channels(paradigm, dataset, subject, known: list | None) -> list:
    """Return the channels of a subject, which must be the known ones."""
    if paradigm.channels is not None:
        return paradigm.channels
    alone = copy.copy(dataset)
    alone.subject_list = [subject]
    names = paradigm.get_info(alone).ch_names
    if known not in (None, names):
        raise ValueError(
            f"All recordings of {dataset.code} must have the same channels, but those "
            f"of subject {subject} are {names}, and of the subjects before {known}. "
            'Pass channels, or picks="eeg", to the paradigm.'
        )
    return names


def _warn_of_unlabeled(trials: pd.DataFrame) -> None:
    """Warn of subjects that are not tested, as none of their trials has a label."""
    has_label = trials["label"] != UNLABELED
    subjects = has_label.groupby([trials["corpus"], trials["subject"]]).any()
    for corpus, lacks in (~subjects).groupby(level="corpus"):
        if lacks.any() and not lacks.all():  # of all of them is an error
            numbers = lacks[lacks].index.get_level_values("subject").tolist()
            warnings.warn(
                f"Left out: no trial of the subjects {numbers} of {corpus} has a label "
                "for the target.",
                stacklevel=4,
            )


def _official_folds(dataset: BaseDataset) -> Mapping[tuple[str, int], int]:
    """Return the makers' fold of each trial, by session and number."""
    folds = getattr(dataset, "official_folds", None)
    if not folds:
        raise ValueError(
            f'{dataset.code} has no folds of its makers. Leave out folds="official", '
            "or set its attribute official_folds."
        )
    return folds


def _describe_corpus(dataset: BaseDataset) -> dict[str, Any]:
    """Return the identity of a corpus: its contents, never its place."""
    sessions = selected_sessions(dataset)
    described = {
        "subjects": sorted(map(int, dataset.subject_list)),
        "sessions": sessions and sorted(map(str, sessions)),
        "modalities": _readable(dataset.return_all_modalities),
        # What labels and bands depend on besides files and paradigm.
        **{name: _readable(getattr(dataset, name, None)) for name in _OF_CORPUS},
        "hash": hash_object(type(dataset), f"The corpus {dataset.code}"),
    }
    if isinstance(dataset, EmotionDataset):
        described["contents"] = dataset.fingerprint()
        if dataset.is_mapped:  # its signals are not those of the files
            what = f"The function that maps the raws of {dataset.code}"
            function = dataset.raw_map or dataset.signal_maker
            described["mapped"] = hash_object(function, what)
        # A replica says so by a file of its own.
        described["synthetic"] = any(dataset.find_root().glob("replica-*.json"))
    else:
        described["contents"] = _digest_others(dataset)
    return described


def _digest_others(dataset: BaseDataset):
    """Return the digests of a BIDS copy; of others MOABB knows the code alone."""
    root = getattr(dataset, "bids_root", None)
    if root is None:
        return None
    files = sorted(file for file in Path(root).rglob("*") if file.is_file())
    names = [file.relative_to(root).as_posix() for file in files]
    return dict(zip(names, digest_files(files), strict=True))


def _readable(value):
    """Return a setting as JSON has it, as text where JSON has nothing like it."""
    if isinstance(value, list | tuple):
        return [_readable(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _readable(item) for key, item in value.items()}
    return value if isinstance(value, str | int | float | bool | None) else repr(value)


# -- making tasks --------------------------------------------------------------


def make_tasks(
    protocol: str,
    options: Mapping[str, Any],
    datasets,
    paradigm: BaseParadigm,
    unlabeled: Sequence[BaseDataset] | None = None,
) -> list[Task]:
    """Return the corpora that are divided together, after a check that they can be.

    Parameters
    ----------
    protocol : str
        Name of the protocol.
    options : mapping of str to object
        Options that the caller set.
    datasets : BaseDataset or list of BaseDataset
        The corpora.
    paradigm : BaseParadigm
        The paradigm.
    unlabeled : list of BaseDataset or None
        Corpora whose windows are only used without labels.

    Returns
    -------
    list of Task
        One task for each corpus, or one for all corpora together.

    Raises
    ------
    ValueError
        If protocol, options, corpora and paradigm do not fit.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(
            f"protocol must be one of {list(PROTOCOLS)}, but got {protocol!r}."
        )
    kind = PROTOCOLS[protocol]
    options = kind.complete(options)
    datasets = list(datasets) if isinstance(datasets, list | tuple) else [datasets]
    extra = [] if unlabeled is None else unlabeled
    extra = list(extra) if isinstance(extra, list | tuple) else [extra]
    _check_corpora(kind, datasets, paradigm, extra)
    if getattr(paradigm, "threshold", None) == "median":
        warnings.warn(
            'With threshold="median" the label of a trial depends on the ratings of '
            "all trials of its subject, those of the test set included.",
            LeakageWarning,
            stacklevel=3,
        )
    if not kind.across_corpora:
        return [
            Task(kind, options, _match(paradigm, [dataset, *extra]), [dataset], extra)
            for dataset in datasets
        ]
    options["test_corpora"] = _find_test_corpora(options["test_corpora"], datasets)
    labels = {d.code: sorted(paradigm.used_events(d)) for d in datasets}
    if len(set(map(tuple, labels.values()))) > 1:
        raise ValueError(
            f"Across corpora the labels must be the same, but are {labels}. Choose a "
            'target that all have, such as "valence".'
        )
    paradigm = _match(paradigm, [*datasets, *extra], options["channels"])
    return [Task(kind, options, paradigm, datasets, extra)]


def _match(paradigm, datasets, channels="intersect"):
    """Return the paradigm with the channels and the rate that all corpora have."""
    if len(datasets) < 2:
        return paradigm
    chosen, paradigm = paradigm.channels, copy.copy(paradigm)
    paradigm.match_all(datasets, channel_merge_strategy=channels)
    if chosen is not None:
        paradigm.channels = chosen
    return paradigm


def _find_test_corpora(asked, datasets) -> list[str]:
    codes = [dataset.code for dataset in datasets]
    asked = codes if asked is None else [asked] if isinstance(asked, str) else asked
    if not asked or not all(code in codes for code in asked):
        raise ValueError(f"test_corpora must be among {codes}, but got {asked!r}.")
    return list(dict.fromkeys(asked))


def _check_corpora(kind: Protocol, datasets, paradigm, extra) -> None:
    if not isinstance(paradigm, Emotion):
        raise ValueError(f"paradigm must be an Emotion, but got {paradigm!r}.")
    for name, corpora in (("datasets", datasets), ("unlabeled", extra)):
        for dataset in corpora:
            if not isinstance(dataset, BaseDataset):
                raise ValueError(f"{name} must hold corpora, but got {dataset!r}.")
    for dataset in datasets:
        _check_suits(kind, dataset, paradigm)
    codes = [dataset.code for dataset in datasets]
    if not codes or len(set(codes)) < len(codes):
        raise ValueError(
            f"datasets must hold corpora, each of them once, but got {codes}."
        )
    further = [dataset.code for dataset in extra]
    if len(set(further)) < len(further):
        raise ValueError(f"unlabeled must hold each corpus once, but got {further}.")
    if kind.across_corpora and len(codes) < 2:
        raise ValueError(
            f"The protocol {kind.name!r} needs at least two corpora, but got {codes}."
        )


def _check_suits(kind: Protocol, dataset, paradigm) -> None:
    """Refuse a corpus without labels of the target, or too small for the protocol."""
    if not paradigm.is_valid(dataset):
        raise ValueError(
            f"{dataset.code} has no labels of the paradigm's target "
            f"{getattr(paradigm, 'target', None)!r}."
        )
    if kind.name == "cross-session" and dataset.n_sessions < 2:
        raise ValueError(
            f'The protocol "cross-session" needs several sessions of a subject, '
            f"but {dataset.code} has one."
        )
    one_subject = not kind.by_subject and not kind.across_corpora
    if one_subject and len(dataset.subject_list) < 2:
        raise ValueError(
            f"The protocol {kind.name!r} needs at least two subjects, but "
            f"{dataset.code} has {list(dataset.subject_list)}."
        )
