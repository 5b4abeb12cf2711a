"""Self-supervised EEG emotion recognition for MOABB and braindecode.

Importing the package makes its corpora, paradigm and models known to both.
"""

import warnings
from importlib.metadata import version

with warnings.catch_warnings():
    # At its import braindecode 1.8 names a montage that MNE 1.14 will have renamed.
    warnings.filterwarnings("ignore", "Montage name", FutureWarning)
    import braindecode  # noqa: F401

from braindecode_emossl import (
    augmentation,
    datasets,
    errors,
    evaluation,
    features,
    losses,
    models,
    paradigms,
    pretraining,
    samplers,
    visualization,
)
from braindecode_emossl.datasets import (
    DEAP,
    MAHNOB_HCI,
    SEED,
    SEED_IV,
    write_replica,
)
from braindecode_emossl.errors import (
    CheckpointError,
    CorpusFormatError,
    CorpusNotFoundError,
    LeakageError,
)
from braindecode_emossl.evaluation import audit, evaluate
from braindecode_emossl.models import (
    MEMHACL,
    SCMM,
    MaskedClusterTransformer,
    MoodReader,
)
from braindecode_emossl.paradigms import Emotion
from braindecode_emossl.pretraining import (
    MaskedClusterPretraining,
    MEMHACLPretraining,
    MoodReaderPretraining,
    SCMMPretraining,
    SSLClassifier,
    SSLPretrainer,
    load_checkpoint,
    save_checkpoint,
)
from braindecode_emossl.registration import register

__all__ = [
    "DEAP",
    "MAHNOB_HCI",
    "MEMHACL",
    "SCMM",
    "SEED",
    "SEED_IV",
    "CheckpointError",
    "CorpusFormatError",
    "CorpusNotFoundError",
    "Emotion",
    "LeakageError",
    "MEMHACLPretraining",
    "MaskedClusterPretraining",
    "MaskedClusterTransformer",
    "MoodReader",
    "MoodReaderPretraining",
    "SCMMPretraining",
    "SSLClassifier",
    "SSLPretrainer",
    "audit",
    "augmentation",
    "datasets",
    "errors",
    "evaluate",
    "evaluation",
    "features",
    "load_checkpoint",
    "losses",
    "models",
    "paradigms",
    "pretraining",
    "register",
    "samplers",
    "save_checkpoint",
    "visualization",
    "write_replica",
]

__version__ = version("braindecode-emossl")

register()
