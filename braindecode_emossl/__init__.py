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
    features,
    losses,
    models,
    paradigms,
    pretraining,
)
from braindecode_emossl.registration import register

__all__ = [
    "augmentation",
    "datasets",
    "errors",
    "features",
    "losses",
    "models",
    "paradigms",
    "pretraining",
    "register",
]

__version__ = version("braindecode-emossl")

register()
