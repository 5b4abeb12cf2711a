"""The protocols: which windows train, which test, and what the two may share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from moabb.evaluations import (
    CrossSessionEvaluation,
    CrossSubjectEvaluation,
    WithinSessionEvaluation,
)
from moabb.evaluations.base import BaseEvaluation
from sklearn.model_selection import LeaveOneGroupOut

from braindecode_emossl.evaluation.splitters import (
    ChronologicalSplit,
    LeaveOneCorpusOut,
    SubjectStimulusKFold,
    TrialKFold,
)

__all__ = ["KEYS", "PROTOCOLS", "Protocol"]

#: Columns of the metadata that identify each thing the parts of a fold may share.
KEYS = {
    "trial": ("corpus", "subject", "session", "trial"),
    "stimulus": ("corpus", "stimulus"),
    "session": ("corpus", "subject", "session"),
    "subject": ("corpus", "subject"),
    "corpus": ("corpus",),
}


@dataclass(frozen=True)
class Protocol:
    """One way to divide the windows of a corpus, or of several.

    Attributes
    ----------
    name : str
        What :func:`evaluate` calls it.
    summary : str
        What trains, what tests, and what may be seen of the test part.
    evaluation : type
        MOABB's evaluation that it is a case of.
    splitter : type
        Cross-validator that divides the windows.
    groups : str or callable
        What the cross-validator groups by, as in MOABB: a column of the metadata or a
        function of them.
    never_shared : tuple of str
        What of ``KEYS`` the two parts of a fold must not have in common.
    options : mapping of str to object
        Settings of the protocol, with their defaults.
    by_subject : bool
        Whether a fold needs the windows of one subject alone.
    across_corpora : bool
        Whether a fold needs several corpora.
    calibrated : bool
        Whether the first trials of each recording of the test subject are given with
        their labels, beside the training part.
    """

    name: str
    summary: str
    evaluation: type[BaseEvaluation]
    splitter: type
    groups: str | Callable[[pd.DataFrame], np.ndarray]
    never_shared: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    by_subject: bool = False
    across_corpora: bool = False
    calibrated: bool = False

    def settle(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return all options, those given and the defaults of the others.

        Parameters
        ----------
        options : mapping of str to object
            What the caller set.

        Returns
        -------
        dict of str to object
            In the order of the protocol.

        Raises
        ------
        ValueError
            If the protocol has no such option.
        """
        if unknown := sorted(set(options) - set(self.options)):
            raise ValueError(
                f"The options of the protocol {self.name!r} must be among "
                f"{sorted(self.options)}, but got {unknown}."
            )
        # NumPy's numbers are not known to JSON, by which results are found again.
        return {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in {**self.options, **options}.items()
        }


class _CrossCorpusEvaluation(CrossSubjectEvaluation):
    """MOABB's evaluation over subjects, for corpora of a single subject too."""

    def is_valid(self, dataset):
        return True


def _subject_and_stimulus(metadata: pd.DataFrame) -> np.ndarray:
    return metadata[["subject", "stimulus"]].astype(str).to_numpy()


#: The protocols of :func:`evaluate` by name.
PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        protocol.name: protocol
        for protocol in (
            Protocol(
                name="within-session",
                summary="Whole trials of a session test, its other trials train.",
                evaluation=WithinSessionEvaluation,
                splitter=TrialKFold,
                groups="trial",
                never_shared=("trial",),
                options={"n_splits": 5},
                by_subject=True,
            ),
            Protocol(
                name="chronological",
                summary="The first trials of a session train, its last trials test.",
                evaluation=WithinSessionEvaluation,
                splitter=ChronologicalSplit,
                groups="trial",
                never_shared=("trial",),
                options={"train_size": 0.6},  # 9 of the 15 trials of SEED
                by_subject=True,
            ),
            Protocol(
                name="cross-session",
                summary="One session of a subject tests, the subject's others train.",
                evaluation=CrossSessionEvaluation,
                splitter=LeaveOneGroupOut,
                groups="session",
                never_shared=("session",),
                by_subject=True,
            ),
            Protocol(
                name="leave-one-subject-out",
                summary="One subject tests, all others train; the stimuli are shared.",
                evaluation=CrossSubjectEvaluation,
                splitter=LeaveOneGroupOut,
                groups="subject",
                never_shared=("subject",),
            ),
            Protocol(
                name="subject-stimulus",
                summary=(
                    "Some stimuli of one subject test; the other subjects train, on "
                    "the other stimuli."
                ),
                evaluation=CrossSubjectEvaluation,
                splitter=SubjectStimulusKFold,
                groups=_subject_and_stimulus,
                never_shared=("subject", "stimulus"),
                options={"n_stimulus_splits": 5},
            ),
            Protocol(
                name="cross-corpus",
                summary="One corpus tests, the others train; nothing of it is seen.",
                evaluation=_CrossCorpusEvaluation,
                splitter=LeaveOneCorpusOut,
                groups="corpus",
                never_shared=("corpus",),
                options={"test_corpora": None, "channels": "intersect"},
                across_corpora=True,
            ),
            Protocol(
                name="cross-corpus-finetune",
                summary=(
                    "One corpus tests, the others train, and so do the first trials "
                    "of each recording of the test subject, with their labels."
                ),
                evaluation=_CrossCorpusEvaluation,
                splitter=LeaveOneCorpusOut,
                groups="corpus",
                never_shared=("trial",),
                options={
                    "test_corpora": None,
                    "channels": "intersect",
                    "train_size": 0.6,
                },
                across_corpora=True,
                calibrated=True,
            ),
        )
    }
)
