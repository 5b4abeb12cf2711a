"""Samplers that know what windows of an emotion corpus have in common."""

from __future__ import annotations

from braindecode_emossl.samplers.continuity_batch import ContinuityBatchSampler
from braindecode_emossl.samplers.corpus_balanced import CorpusBalancedSampler
from braindecode_emossl.samplers.stimulus_group import StimulusGroupSampler
from braindecode_emossl.samplers.trial_sequence import TrialSequenceSampler

__all__ = [
    "ContinuityBatchSampler",
    "CorpusBalancedSampler",
    "StimulusGroupSampler",
    "TrialSequenceSampler",
]
