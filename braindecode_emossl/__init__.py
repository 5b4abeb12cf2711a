"""Self-supervised EEG emotion recognition for MOABB and braindecode.

Importing the package makes its corpora, paradigm and models known to both.
"""

from importlib.metadata import version

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
