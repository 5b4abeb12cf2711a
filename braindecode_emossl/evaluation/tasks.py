"""What is evaluated: corpora that are divided together, under one protocol."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from moabb.analysis.results import get_string_rep
from moabb.datasets.base import BaseDataset
from moabb.paradigms.base import BaseParadigm

from braindecode_emossl.datasets.base import EmotionDataset
from braindecode_emossl.errors import LeakageWarning
from braindecode_emossl.evaluation.protocols import PROTOCOLS, Protocol
from braindecode_emossl.evaluation.store import hash_object

__all__ = ["Task", "make_tasks"]


@dataclass(frozen=True)
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
        One, or several under the protocols over corpora.
    """

    protocol: Protocol
    options: Mapping[str, Any]
    paradigm: BaseParadigm
    corpora: Sequence[BaseDataset]

    @property
    def codes(self) -> list[str]:
        """The codes of the corpora."""
        return [dataset.code for dataset in self.corpora]

    @property
    def units(self) -> list[str]:
        """The names of the parts whose folds are made together."""
        if self.protocol.across_corpora:
            return list(self.options["test_corpora"])
        if self.protocol.by_subject:
            return [str(subject) for subject in self.corpora[0].subject_list]
        return ["all"]

    def subjects_of(self, unit: str) -> list | None:
        """Return the subjects that the folds of a unit need, None for all.

        Parameters
        ----------
        unit : str
            One of ``units``.

        Returns
        -------
        list or None
            Subjects of the one corpus.
        """
        if not self.protocol.by_subject:
            return None
        return [s for s in self.corpora[0].subject_list if str(s) == unit]

    def test_corpus_of(self, unit: str) -> BaseDataset:
        """Return the corpus that tests in a unit.

        Parameters
        ----------
        unit : str
            One of ``units``.

        Returns
        -------
        BaseDataset
            One of ``corpora``.
        """
        if self.protocol.across_corpora:
            return self.corpora[self.codes.index(unit)]
        return self.corpora[0]

    def options_of(self, unit: str) -> dict[str, Any]:
        """Return the options for one unit.

        Parameters
        ----------
        unit : str
            One of ``units``.

        Returns
        -------
        dict of str to object
            Across corpora with the unit as the only test corpus.
        """
        if self.protocol.across_corpora:
            return {**self.options, "test_corpora": [unit]}
        return dict(self.options)

    def describe_signal(self) -> dict[str, Any]:
        """Return what arrays do not tell: ``sfreq``, ``chs_info`` and ``corpus``."""
        infos = [self.paradigm.get_info(dataset) for dataset in self.corpora]
        channels = {ch["ch_name"]: ch for info in infos for ch in info["chs"]}
        names = self.paradigm.channels or list(channels)
        return {
            "sfreq": infos[0]["sfreq"],
            "chs_info": [channels[name] for name in names],
            "corpus": {c.code: list(c.subject_list) for c in self.corpora},
        }

    def identify(self) -> dict[str, Any]:
        """Return all that the folds depend on beside the pipeline and the seed."""
        # Each test corpus is a unit by itself, whichever others are asked for.
        options = {k: v for k, v in self.options.items() if k != "test_corpora"}
        return {
            "version": version("braindecode-emossl"),
            "protocol": self.protocol.name,
            "options": options,
            "corpora": self.codes,
            "processing": [self._describe(dataset) for dataset in self.corpora],
            "files": [_stamp(dataset) for dataset in self.corpora],
            "scoring": hash_object(self.paradigm.scoring, "The paradigm's scorer"),
        }

    def _describe(self, dataset) -> str:
        return get_string_rep(self.paradigm.make_process_pipelines(dataset)[0]).decode()


def _stamp(dataset: BaseDataset) -> str | None:
    """Return what tells whether files of a corpus of ours have changed."""
    return dataset.file_stamp() if isinstance(dataset, EmotionDataset) else None


def make_tasks(
    protocol: str, options: Mapping[str, Any], datasets, paradigm: BaseParadigm
) -> list[Task]:
    """Return what is to be divided, after a check that it can be.

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

    Returns
    -------
    list of Task
        One a corpus, or one of all corpora.

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
    options = kind.settle(options)
    if getattr(paradigm, "threshold", None) == "median":
        warnings.warn(
            'With threshold="median" the label of a trial depends on the ratings of '
            "all trials of its subject, those of the test part included.",
            LeakageWarning,
            stacklevel=3,
        )
    datasets = list(datasets) if isinstance(datasets, list | tuple) else [datasets]
    _check_corpora(kind, datasets, paradigm)
    if not kind.across_corpora:
        return [Task(kind, options, paradigm, [dataset]) for dataset in datasets]
    options["test_corpora"] = _find_test_corpora(options["test_corpora"], datasets)
    labels = {d.code: sorted(paradigm.used_events(d)) for d in datasets}
    if len(set(map(tuple, labels.values()))) > 1:
        raise ValueError(
            f"Across corpora the labels must be the same, but are {labels}. Choose a "
            'target that all have, such as "valence".'
        )
    chosen, paradigm = paradigm.channels, copy.copy(paradigm)
    paradigm.match_all(datasets, channel_merge_strategy=options["channels"])
    if chosen is not None:
        paradigm.channels = chosen
    return [Task(kind, options, paradigm, datasets)]


def _find_test_corpora(asked, datasets) -> list[str]:
    codes = [dataset.code for dataset in datasets]
    asked = codes if asked is None else [asked] if isinstance(asked, str) else asked
    if not asked or not all(code in codes for code in asked):
        raise ValueError(f"test_corpora must be among {codes}, but got {asked!r}.")
    return list(dict.fromkeys(asked))


def _check_corpora(kind: Protocol, datasets, paradigm) -> None:
    if not isinstance(paradigm, BaseParadigm):
        raise ValueError(f"paradigm must be an Emotion, but got {paradigm!r}.")
    for dataset in datasets:
        if not isinstance(dataset, BaseDataset):
            raise ValueError(f"datasets must hold corpora, but got {dataset!r}.")
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
        if kind.never_shared[0] == "subject" and len(dataset.subject_list) < 2:
            raise ValueError(
                f"The protocol {kind.name!r} needs at least two subjects, but "
                f"{dataset.code} has {list(dataset.subject_list)}."
            )
    codes = [dataset.code for dataset in datasets]
    if not codes or len(set(codes)) < len(codes):
        raise ValueError(
            f"datasets must hold corpora, each of them once, but got {codes}."
        )
    if kind.across_corpora and len(codes) < 2:
        raise ValueError(
            f"The protocol {kind.name!r} needs at least two corpora, but got {codes}."
        )
