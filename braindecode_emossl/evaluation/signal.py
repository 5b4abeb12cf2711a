"""Telling estimators what arrays do not: sampling rate, channels and corpus."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sklearn.base import BaseEstimator, clone

__all__ = ["tell_signal"]


def tell_signal(
    name: str, pipeline: BaseEstimator, describe: Callable[[], Mapping[str, Any]]
) -> BaseEstimator:
    """Return a clone that knows rate, channels and corpus of its windows.

    Parameters
    ----------
    name : str
        Name of the pipeline, for the message.
    pipeline : BaseEstimator
        A classifier; its parameters ``sfreq`` and ``chs_info``, and ``corpus`` beside a
        ``checkpoint``, at any depth, are set where they are None.
    describe : callable
        Returns ``sfreq`` in Hz, ``chs_info`` and ``corpus``, the subjects of each;
        called if a parameter asks for it.

    Returns
    -------
    BaseEstimator
        The clone, or the pipeline itself if it has no such parameter.

    Raises
    ------
    ValueError
        If a parameter ``sfreq`` is not the sampling rate of the windows.
    """
    parameters = pipeline.get_params()
    asked = {
        key: value
        for key, value in parameters.items()
        if key.rpartition("__")[2] in ("sfreq", "chs_info")
        # Who takes part matters to a checkpoint alone, which may have seen them.
        or (
            key.rpartition("__")[2] == "corpus"
            and parameters.get(f"{key.removesuffix('corpus')}checkpoint") is not None
        )
    }
    if not asked:
        return pipeline
    signal = describe()
    for key, value in asked.items():
        if key.endswith("sfreq") and value not in (None, signal["sfreq"]):
            raise ValueError(
                f"{key} of the pipeline {name!r} must be the sampling rate of the "
                f"windows, {signal['sfreq']:g} Hz, but is {value:g} Hz. Set it to "
                "None or set resample of the paradigm."
            )
    unset = {k: signal[k.rpartition("__")[2]] for k, v in asked.items() if v is None}
    return clone(pipeline).set_params(**unset)
