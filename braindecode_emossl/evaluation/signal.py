"""The sampling rate and the channels of windows, which arrays lack, in pipelines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import mne
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.pipeline import Pipeline

from braindecode_emossl.models.modalities import find_modalities

__all__ = ["EEGChannels", "set_signal"]


class EEGChannels(TransformerMixin, BaseEstimator):
    """Keep the EEG channels of windows, and leave out those of other types.

    It is the first step of pipelines that take EEG, so that they also run on a corpus
    that is loaded with all modalities.

    Parameters
    ----------
    chs_info : list of dict or None
        Channels of the windows as in ``mne.Info["chs"]``; :func:`evaluate` sets it.
        None: all channels of arrays are EEG. Epochs have their own.
    """

    def __init__(self, chs_info=None):
        self.chs_info = chs_info

    def __sklearn_tags__(self):
        """Return the tags: windows have three dimensions, and nothing is fitted."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = True
        tags.requires_fit = False
        return tags

    def fit(self, X, y=None):
        """Do nothing.

        Parameters
        ----------
        X : array, shape (n_windows, n_chans, n_times), or mne.Epochs
            Ignored.
        y : object
            Ignored.

        Returns
        -------
        EEGChannels
            Itself.
        """
        return self

    def transform(self, X):
        """Return the windows with their EEG channels alone.

        Parameters
        ----------
        X : ndarray, shape (n_windows, n_chans, n_times), or mne.Epochs
            Windows.

        Returns
        -------
        ndarray, shape (n_windows, n_eeg_chans, n_times), or mne.Epochs
            The windows themselves if all channels are EEG.

        Raises
        ------
        ValueError
            If there is no EEG.
        """
        if isinstance(X, mne.BaseEpochs):
            return X.copy().pick("eeg")
        if self.chs_info is None:
            return X
        eeg = find_modalities(self.chs_info, X.shape[1]).get("eeg")
        if eeg is None:
            raise ValueError("The windows must have EEG channels, but have none.")
        return X if len(eeg) == X.shape[1] else X[:, eeg]


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
        where they are None; after a step :class:`EEGChannels`, to its channels.
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
    after_eeg = _find_steps_after_eeg(pipeline)
    unset = {}
    for key, value in asked.items():
        argument = key.rpartition("__")[2]
        known = signal[argument]
        if argument == "chs_info" and key.startswith(after_eeg):
            known = _keep_eeg(known)
        if value is None:
            unset[key] = known
        elif argument == "chs_info":
            _check_channels(name, key, value, known)
        elif value != known:
            raise ValueError(
                f"{key} of the pipeline {name!r} must be the sampling rate of the "
                f"windows, {known:g} Hz, but is {value:g} Hz. Set it to None or set "
                "resample of the paradigm."
            )
    return clone(pipeline).set_params(**unset)


def _find_steps_after_eeg(pipeline: BaseEstimator) -> tuple[str, ...]:
    """Return the prefixes of the parameters of all steps after an `EEGChannels`."""
    parts = {"": pipeline} | {f"{k}__": v for k, v in pipeline.get_params().items()}
    found: list[str] = []
    for prefix, part in parts.items():
        steps = part.steps if isinstance(part, Pipeline) else []
        picks = [isinstance(step, EEGChannels) for _, step in steps]
        if any(picks):
            after = steps[picks.index(True) + 1 :]
            found += [f"{prefix}{name}__" for name, _ in after]
    return tuple(found)


def _keep_eeg(chs_info) -> list:
    places = find_modalities(chs_info, len(chs_info)).get("eeg", ())
    return [chs_info[place] for place in places]


def _check_channels(name: str, key: str, value, known) -> None:
    """Refuse channels that are not those of the windows."""
    names, given = ([ch["ch_name"] for ch in channels] for channels in (known, value))
    if given != names:
        raise ValueError(
            f"{key} of the pipeline {name!r} must name the channels of the windows in "
            f"their order, {names}, but names {given}. Set it to None, or set picks of "
            "the paradigm."
        )
