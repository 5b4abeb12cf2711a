"""Features as a step of braindecode's preprocessing."""

from __future__ import annotations

from collections.abc import Mapping

import mne

from braindecode_emossl.features.bands import BANDS
from braindecode_emossl.features.transformers import DifferentialEntropy

__all__ = ["differential_entropy_epochs"]


def differential_entropy_epochs(
    epochs: mne.BaseEpochs,
    *,
    bands: Mapping[str, tuple[float, float]] = BANDS,
    method: str = "fft",
) -> mne.EpochsArray:
    """Replace the samples of epochs by their differential entropy.

    Parameters
    ----------
    epochs : mne.BaseEpochs
        Windows (n_windows, n_chans, n_times).
    bands : dict of str to (float, float)
        Name and edges in Hz of each band.
    method : {"fft", "filter", "window-filter"}, default="fft"
        How the variance in a band is measured, see `differential_entropy`.

    Returns
    -------
    mne.EpochsArray
        DE (n_windows, n_chans, n_bands) of the signal in the unit that it has, volts in
        MNE. Its axis of times holds the bands; events, metadata, channels and sampling
        frequency are those of ``epochs``.

    Examples
    --------
    A step on windowed data of braindecode, in microvolts:

    >>> from braindecode.preprocessing import Preprocessor, preprocess
    >>> from braindecode_emossl.features import differential_entropy_epochs
    >>> steps = [
    ...     Preprocessor("apply_function", fun=lambda x: 1e6 * x),
    ...     Preprocessor(differential_entropy_epochs, apply_on_array=False),
    ... ]
    >>> preprocess(windows, steps)  # doctest: +SKIP
    """
    extractor = DifferentialEntropy(
        epochs.info["sfreq"], bands=bands, method=method, flatten=False
    )
    return mne.EpochsArray(
        extractor.transform(epochs.get_data(copy=False)),
        epochs.info,
        events=epochs.events,
        event_id=epochs.event_id,
        metadata=epochs.metadata,
        proj=False,
        verbose=False,
    )
