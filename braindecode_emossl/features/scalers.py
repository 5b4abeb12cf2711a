"""Standardisation of features by subject."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

__all__ = ["SubjectScaler", "TransductiveSubjectScaler"]

# A smaller standard deviation, in rounding errors of the mean, is that of a constant.
_ROUNDING_STEPS = 10


class _SubjectMixin(OneToOneFeatureMixin, TransformerMixin):
    """Hand ``subjects`` to fit and to transform, in a pipeline too."""

    # Routed where they are given and routing is enabled, as MOABB does in its fits.
    __metadata_request__fit: ClassVar = {"subjects": True}
    __metadata_request__transform: ClassVar = {"subjects": True}

    def fit_transform(self, X, y=None, subjects=None):
        """Fit, then transform the same windows by the same subjects.

        Parameters
        ----------
        X : array-like, shape (n_windows, ...)
            Features of the training windows.
        y : None
            Ignored.
        subjects : array-like, shape (n_windows,), or None
            Subject of each window; None takes all as one subject's.

        Returns
        -------
        scaled : ndarray, shape (n_windows, ...)
            Standardised features.
        """
        return self.fit(X, y, subjects=subjects).transform(X, subjects=subjects)


class SubjectScaler(_SubjectMixin, BaseEstimator):
    """Standardise features by subject, with statistics of training windows alone.

    A training subject is scaled by the mean and standard deviation of its own training
    windows. Subjects that were not seen in training, and windows without a subject,
    are scaled by those of all training windows together. No statistic of a test
    window is used. For one scale for all, use scikit-learn's ``StandardScaler``.

    Attributes
    ----------
    statistics_ : dict
        Mean and standard deviation, each of shape (...,), by training subject; those of
        all training windows are under None.
    n_features_in_ : int
        Number of features along the second axis.

    See Also
    --------
    TransductiveSubjectScaler : Uses the test subject's unlabelled windows.

    Notes
    -----
    ``subjects`` requests metadata routing: in a pipeline of MOABB's evaluations across
    subjects, or with ``sklearn.set_config(enable_metadata_routing=True)``, it is passed
    automatically.

    Examples
    --------
    >>> import numpy as np
    >>> from braindecode_emossl.features import SubjectScaler
    >>> X = np.array([[0.0], [2.0], [10.0], [14.0]])
    >>> scaler = SubjectScaler().fit(X, subjects=[1, 1, 2, 2])
    >>> scaler.transform(X, subjects=[1, 1, 2, 2]).ravel()
    array([-1.,  1., -1.,  1.])
    """

    def fit(self, X, y=None, subjects=None):
        """Measure each training subject, and all of them together.

        Parameters
        ----------
        X : array-like, shape (n_windows, ...)
            Features of the training windows.
        y : None
            Ignored.
        subjects : array-like, shape (n_windows,), or None
            Subject of each window; None takes all as one subject's.

        Returns
        -------
        self : SubjectScaler
            The fitted scaler.
        """
        X = _check(X)
        self.n_features_in_ = X.shape[1]
        self.statistics_ = {None: _measure(X)}
        if subjects is not None:
            for subject, rows in _rows_of(subjects, len(X)):
                self.statistics_[subject] = _measure(X[rows])
        return self

    def transform(self, X, subjects=None):
        """Scale windows by what `fit` measured.

        Parameters
        ----------
        X : array-like, shape (n_windows, ...)
            Features.
        subjects : array-like, shape (n_windows,), or None
            Subject of each window; None if unknown.

        Returns
        -------
        scaled : ndarray, shape (n_windows, ...)
            Standardised features.
        """
        check_is_fitted(self)
        X = _check(X)
        if subjects is None:
            return _scale(X, self.statistics_[None])
        scaled = np.empty_like(X)
        for subject, rows in _rows_of(subjects, len(X)):
            pooled = self.statistics_[None]
            scaled[rows] = _scale(X[rows], self.statistics_.get(subject, pooled))
        return scaled


class TransductiveSubjectScaler(_SubjectMixin, BaseEstimator):
    """Standardise features by subject, a test subject by its own unlabelled windows.

    Every subject, of training or of test, is scaled by the mean and standard deviation
    of its windows that are transformed together. This is transductive: it needs all
    test windows before the first is classified, and each result depends on the others.
    Report this with the score.

    Attributes
    ----------
    n_features_in_ : int
        Number of features along the second axis.

    See Also
    --------
    SubjectScaler : Uses no statistic of a test window.

    Notes
    -----
    For SEED, leaving one subject out, 79.6 % against 67.1 % with batch normalisation
    have been reported [1]_ (figures taken from a review).

    Where the subjects of the test windows are not given, as in MOABB's evaluations,
    windows transformed together count as one subject. This is correct if one subject is
    left out at a time.

    References
    ----------
    .. [1] Fdez, J., Guttenberg, N., Witkowski, O., & Pasquali, A. (2021). Cross-subject
       EEG-based emotion recognition through neural networks with stratified
       normalization. Frontiers in Neuroscience, 15, 626277.
       https://doi.org/10.3389/fnins.2021.626277
    """

    def fit(self, X, y=None, subjects=None):
        """Check the windows; nothing is learned.

        Parameters
        ----------
        X : array-like, shape (n_windows, ...)
            Features of the training windows.
        y : None
            Ignored.
        subjects : array-like, shape (n_windows,), or None
            Ignored; `fit_transform` hands them on.

        Returns
        -------
        self : TransductiveSubjectScaler
            The scaler itself.
        """
        self.n_features_in_ = _check(X).shape[1]
        return self

    def transform(self, X, subjects=None):
        """Scale each subject by its own windows.

        Parameters
        ----------
        X : array-like, shape (n_windows, ...)
            Features.
        subjects : array-like, shape (n_windows,), or None
            Subject of each window; None takes all as one subject's.

        Returns
        -------
        scaled : ndarray, shape (n_windows, ...)
            Standardised features.
        """
        check_is_fitted(self)
        X = _check(X)
        if subjects is None:
            return _scale(X, _measure(X))
        scaled = np.empty_like(X)
        for _, rows in _rows_of(subjects, len(X)):
            scaled[rows] = _scale(X[rows], _measure(X[rows]))
        return scaled


def _check(X):
    """Convert to floating-point features (n_windows, ...)."""
    X = np.asarray(X)
    if X.ndim < 2 or not len(X):
        raise ValueError(
            f"X must have shape (n_windows, ...) with features and at least one "
            f"window, but got {X.shape}."
        )
    return X if np.issubdtype(X.dtype, np.floating) else X.astype(float)


def _rows_of(subjects, n_windows):
    """Yield each subject and the mask of its rows."""
    subjects = np.asarray(subjects)
    if subjects.shape != (n_windows,):
        raise ValueError(
            f"subjects must have shape (n_windows={n_windows},), but got "
            f"{subjects.shape}."
        )
    for subject in np.unique(subjects).tolist():
        yield subject, subjects == subject


def _measure(X):
    """Return mean and standard deviation of each feature, 1 where it is constant."""
    shifted = X - X[0]  # sums of a constant over many windows are not exact
    mean, std = X[0] + shifted.mean(axis=0), shifted.std(axis=0)
    least = _ROUNDING_STEPS * np.finfo(X.dtype).eps * np.abs(mean)
    return mean, np.where(std > least, std, 1)


def _scale(X, statistics):
    mean, std = statistics
    return (X - mean) / std
