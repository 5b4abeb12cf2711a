"""Setting the sampling rate and the channels of pipelines, which arrays lack."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sklearn.base import BaseEstimator, clone

__all__ = ["set_signal"]


def set_signal(
    name: str, pipeline: BaseEstimator, describe: Callable[[], Mapping[str, Any]]
) -> BaseEstimator:
    """Return a clone whose sampling rate and channels are those of the windows.

    Parameters
    ----------
    name : str
        Name of the pipeline, for the message.
    pipeline : BaseEstimator
        A classifier. Its parameters ``sfreq`` and ``chs_info``, at any depth, are set
        where they are None.
    describe : callable
        Returns ``sfreq`` in Hz and ``chs_info``; called only if it is needed.

    Returns
    -------
    BaseEstimator
        The clone, or the pipeline itself if it has no such parameter.

    Raises
    ------
    ValueError
        If a parameter ``sfreq`` or ``chs_info`` is not that of the windows.
    """
    asked = {
        key: value
        for key, value in pipeline.get_params().items()
        if key.rpartition("__")[2] in ("sfreq", "chs_info")
    }
    if not asked:
        return pipeline
    signal = describe()
    names = [ch["ch_name"] for ch in signal["chs_info"]]
    for key, value in asked.items():
        if key.endswith("chs_info") and value is not None:
            given = [ch["ch_name"] for ch in value]
            if given != names:
                raise ValueError(
                    f"{key} of the pipeline {name!r} must name the channels of the "
                    f"windows in their order, {names}, but names {given}. Set it to "
                    "None, or set picks of the paradigm."
                )
        if key.endswith("sfreq") and value not in (None, signal["sfreq"]):
            raise ValueError(
                f"{key} of the pipeline {name!r} must be the sampling rate of the "
                f"windows, {signal['sfreq']:g} Hz, but is {value:g} Hz. Set it to "
                "None or set resample of the paradigm."
            )
    unset = {k: signal[k.rpartition("__")[2]] for k, v in asked.items() if v is None}
    return clone(pipeline).set_params(**unset)
