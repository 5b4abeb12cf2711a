"""Band features as scikit-learn transformers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from braindecode_emossl.features.band_power import _make_measure, band_power
from braindecode_emossl.features.bands import BANDS
from braindecode_emossl.features.differential_entropy import differential_entropy

__all__ = ["BandPower", "DifferentialEntropy"]


class _BandFeature(TransformerMixin, BaseEstimator):
    """What the transformers of windows share; subclasses set ``_function``."""

    def __init__(
        self,
        sfreq: float,
        *,
        bands: Mapping[str, tuple[float, float]] = BANDS,
        method: str = "fft",
        flatten: bool = True,
    ):
        self.sfreq = sfreq
        self.bands = bands
        self.method = method
        self.flatten = flatten

    def fit(self, X, y=None):
        """Check that the parameters suit the windows and count the channels.

        Parameters
        ----------
        X : array-like, shape (n_windows, n_chans, n_times)
            Windows of EEG.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The transformer itself.
        """
        X = _check_windows(X)
        _make_measure(X.shape[-1], self.sfreq, bands=self.bands, method=self.method)
        self.n_chans_ = X.shape[1]
        return self

    def transform(self, X):
        """Compute the feature of each window as a whole.

        Parameters
        ----------
        X : array-like, shape (n_windows, n_chans, n_times)
            Windows of EEG.

        Returns
        -------
        features : ndarray, shape (n_windows, n_chans * n_bands)
            One value per channel and band; shape (n_windows, n_chans, n_bands) with
            ``flatten=False``.
        """
        X = _check_windows(X)
        features = type(self)._function(
            X, self.sfreq, window=None, bands=self.bands, method=self.method
        )[:, 0]  # (n_windows, n_chans, n_bands)
        if self.flatten:
            n_windows, n_chans, n_bands = features.shape
            return features.reshape(n_windows, n_chans * n_bands)
        return features

    def get_feature_names_out(self, input_features=None):
        """Name the columns of the output, which ``set_output`` needs.

        Parameters
        ----------
        input_features : array-like of str or None, shape (n_chans,)
            Names of the channels; ``"ch0"``, ``"ch1"``, ... by default.

        Returns
        -------
        names : ndarray of str, shape (n_chans * n_bands,)
            Channel and band, such as ``"Fp1_delta"``.
        """
        check_is_fitted(self, "n_chans_")
        if input_features is None:
            input_features = [f"ch{i}" for i in range(self.n_chans_)]
        if len(input_features) != self.n_chans_:
            raise ValueError(
                f"input_features must name the {self.n_chans_} channels, "
                f"but got {len(input_features)} names."
            )
        names = [f"{chan}_{band}" for chan in input_features for band in self.bands]
        return np.array(names, dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        return tags

    def __repr__(self) -> str:
        # MOABB names cached results by the repr. That of scikit-learn leaves out
        # defaults and sorts the bands, whose order is the order of the features.
        params = ", ".join(f"{k}={v!r}" for k, v in self.get_params().items())
        return f"{type(self).__name__}({params})"


class DifferentialEntropy(_BandFeature):
    """Turn windows of EEG into their differential entropy.

    ``X (n_windows, n_chans, n_times)`` -> ``(n_windows, n_chans * n_bands)``. Nothing
    is learned: `transform` works without `fit`.

    Parameters
    ----------
    sfreq : float
        Sampling frequency in Hz.
    bands : dict of str to (float, float)
        Name and edges in Hz of each band.
    method : {"fft", "filter", "window-filter"}, default="fft"
        How the variance in a band is measured, see `differential_entropy`. No method
        sees samples outside the window here; ``"filter"`` invents some by reflection.
    flatten : bool, default=True
        Whether the output is 2-D, as the estimators of scikit-learn need it, with
        feature ``chan * n_bands + band``. If False, it is 3-D.

    Attributes
    ----------
    n_chans_ : int
        Number of channels seen by `fit`; only the names of the features need it.

    See Also
    --------
    differential_entropy : The function that this class wraps.
    BandPower : The same without the logarithm.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from braindecode_emossl.features import DifferentialEntropy
    >>> pipeline = make_pipeline(DifferentialEntropy(sfreq=200), LogisticRegression())
    """

    _function = staticmethod(differential_entropy)


class BandPower(_BandFeature):
    """Turn windows of EEG into their power in frequency bands.

    ``X (n_windows, n_chans, n_times)`` -> ``(n_windows, n_chans * n_bands)``. Nothing
    is learned: `transform` works without `fit`.

    Parameters
    ----------
    sfreq : float
        Sampling frequency in Hz.
    bands : dict of str to (float, float)
        Name and edges in Hz of each band.
    method : {"fft", "filter", "window-filter"}, default="fft"
        How the power is measured, see `differential_entropy`.
    flatten : bool, default=True
        Whether the output is 2-D, as the estimators of scikit-learn need it, with
        feature ``chan * n_bands + band``. If False, it is 3-D.

    Attributes
    ----------
    n_chans_ : int
        Number of channels seen by `fit`; only the names of the features need it.

    See Also
    --------
    band_power : The function that this class wraps.
    DifferentialEntropy : Half the logarithm of this, up to a constant.
    """

    _function = staticmethod(band_power)


def _check_windows(X):
    """Convert to an array of windows (n_windows, n_chans, n_times)."""
    X = np.asarray(X)
    if X.ndim != 3:
        raise ValueError(
            f"X must have shape (n_windows, n_chans, n_times), but got {X.shape}."
        )
    return X
