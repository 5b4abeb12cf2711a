"""Protocols that cannot leak, the audit that shows it, and statistics."""

from braindecode_emossl.evaluation.audit import AuditReport, audit
from braindecode_emossl.evaluation.baselines import EEGBandFeatures, with_baselines
from braindecode_emossl.evaluation.pipelines import (
    load_pipelines,
    pipelines_folder,
)
from braindecode_emossl.evaluation.protocols import PROTOCOLS, Protocol
from braindecode_emossl.evaluation.run import evaluate
from braindecode_emossl.evaluation.scores import score_predictions, vote
from braindecode_emossl.evaluation.splitters import (
    ChronologicalSplit,
    LeaveOneCorpusOut,
    StimulusKFold,
    SubjectSplit,
    SubjectStimulusKFold,
    TrialKFold,
    check_disjoint,
)
from braindecode_emossl.evaluation.statistics import (
    ChanceLevel,
    chance_level,
    compare_pipelines,
    score_interval,
    summarize_results,
)
from braindecode_emossl.evaluation.store import read_evaluations, read_predictions

__all__ = [
    "PROTOCOLS",
    "AuditReport",
    "ChanceLevel",
    "ChronologicalSplit",
    "EEGBandFeatures",
    "LeaveOneCorpusOut",
    "Protocol",
    "StimulusKFold",
    "SubjectSplit",
    "SubjectStimulusKFold",
    "TrialKFold",
    "audit",
    "chance_level",
    "check_disjoint",
    "compare_pipelines",
    "evaluate",
    "load_pipelines",
    "pipelines_folder",
    "read_evaluations",
    "read_predictions",
    "score_interval",
    "score_predictions",
    "summarize_results",
    "vote",
    "with_baselines",
]
