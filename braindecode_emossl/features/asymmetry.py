"""Differences and ratios of features between pairs of electrodes."""

from __future__ import annotations

from collections.abc import Sequence

from array_api_compat import array_namespace

__all__ = [
    "FRONTAL_POSTERIOR_PAIRS",
    "LEFT_RIGHT_PAIRS",
    "asm",
    "dasm",
    "dcau",
    "find_pairs",
    "rasm",
]


def _parse(text: str) -> tuple[tuple[str, str], ...]:
    pairs = (pair.split("-") for pair in text.split())
    return tuple((first, second) for first, second in pairs)


#: The 27 pairs of left and right electrodes of SEED's 62. Their number is that of the
#: authors [paper]; that many pairs of homologous electrodes exist, so these are they,
#: in the order of the montage [inferred].
LEFT_RIGHT_PAIRS: tuple[tuple[str, str], ...] = _parse(
    "Fp1-Fp2 AF3-AF4 F7-F8 F5-F6 F3-F4 F1-F2 FT7-FT8 FC5-FC6 FC3-FC4 FC1-FC2 T7-T8 "
    "C5-C6 C3-C4 C1-C2 TP7-TP8 CP5-CP6 CP3-CP4 CP1-CP2 P7-P8 P5-P6 P3-P4 P1-P2 PO7-PO8 "
    "PO5-PO6 PO3-PO4 CB1-CB2 O1-O2"
)
#: The 23 pairs of frontal and posterior electrodes of SEED's 62. Their number is that
#: of the authors [paper]; the list was written from memory of theirs and not checked
#: against it again [inferred].
FRONTAL_POSTERIOR_PAIRS: tuple[tuple[str, str], ...] = _parse(
    "FT7-TP7 FC5-CP5 FC3-CP3 FC1-CP1 FCz-CPz FC2-CP2 FC4-CP4 FC6-CP6 FT8-TP8 F7-P7 "
    "F5-P5 F3-P3 F1-P1 Fz-Pz F2-P2 F4-P4 F6-P6 F8-P8 Fp1-O1 Fp2-O2 Fpz-Oz AF3-CB1 "
    "AF4-CB2"
)


def find_pairs(
    ch_names: Sequence[str], pairs: Sequence[tuple[str, str]] = LEFT_RIGHT_PAIRS
) -> tuple[tuple[str, str], ...]:
    """Keep the pairs whose electrodes are both in a montage.

    Parameters
    ----------
    ch_names : list of str, length n_chans
        Names of the electrodes, in any case.
    pairs : list of (str, str)
        Pairs of electrodes.

    Returns
    -------
    found : tuple of (str, str)
        The pairs found, in the order of ``pairs``.

    Examples
    --------
    >>> from braindecode_emossl.features import find_pairs
    >>> find_pairs(["F3", "Fz", "F4", "P3"])
    (('F3', 'F4'),)
    """
    known = {name.casefold() for name in ch_names}
    return tuple(pair for pair in pairs if {name.casefold() for name in pair} <= known)


def dasm(features, ch_names, pairs=LEFT_RIGHT_PAIRS):
    """Compute differential asymmetry: left minus right.

    Parameters
    ----------
    features : numpy.ndarray or torch.Tensor, shape (..., n_chans, n_bands)
        Differential entropy, as `differential_entropy` gives it.
    ch_names : list of str, length n_chans
        Names of the channels, in any case.
    pairs : list of (str, str)
        Left and right electrode of each pair; `find_pairs` names those that a smaller
        montage than SEED's has.

    Returns
    -------
    asymmetry : numpy.ndarray or torch.Tensor, shape (..., n_pairs, n_bands)
        The differences [1]_. With DE they do not depend on the unit of the signal.

    References
    ----------
    .. [1] Duan, R.-N., Zhu, J.-Y., & Lu, B.-L. (2013). Differential entropy feature
       for EEG-based emotion classification. 6th International IEEE/EMBS Conference
       on Neural Engineering, 81-84. https://doi.org/10.1109/NER.2013.6695876
    """
    left, right = _select(features, ch_names, pairs)
    return left - right


def rasm(features, ch_names, pairs=LEFT_RIGHT_PAIRS):
    """Compute rational asymmetry: left over right.

    Parameters
    ----------
    features : numpy.ndarray or torch.Tensor, shape (..., n_chans, n_bands)
        Differential entropy, as `differential_entropy` gives it.
    ch_names : list of str, length n_chans
        Names of the channels, in any case.
    pairs : list of (str, str)
        Left and right electrode of each pair; `find_pairs` names those that a smaller
        montage than SEED's has.

    Returns
    -------
    asymmetry : numpy.ndarray or torch.Tensor, shape (..., n_pairs, n_bands)
        The ratios. That of DE depends on the unit of the signal and has a pole where
        the DE is zero, for a standard deviation of 0.24 units: give the signal in
        microvolts, where DE is positive.

    See Also
    --------
    dasm : The difference instead, which has neither fault.
    """
    left, right = _select(features, ch_names, pairs)
    return left / right


def asm(features, ch_names, pairs=LEFT_RIGHT_PAIRS):
    """Compute asymmetry: the differences of `dasm`, then the ratios of `rasm`.

    Parameters
    ----------
    features : numpy.ndarray or torch.Tensor, shape (..., n_chans, n_bands)
        Differential entropy, as `differential_entropy` gives it.
    ch_names : list of str, length n_chans
        Names of the channels, in any case.
    pairs : list of (str, str)
        Left and right electrode of each pair; `find_pairs` names those that a smaller
        montage than SEED's has.

    Returns
    -------
    asymmetry : numpy.ndarray or torch.Tensor, shape (..., 2 * n_pairs, n_bands)
        Differences and ratios, 54 for the 27 pairs of SEED.

    See Also
    --------
    dasm : The differences.
    rasm : The ratios.
    """
    left, right = _select(features, ch_names, pairs)
    return array_namespace(features).concat([left - right, left / right], axis=-2)


def dcau(features, ch_names, pairs=FRONTAL_POSTERIOR_PAIRS):
    """Compute differential caudality: frontal minus posterior.

    Parameters
    ----------
    features : numpy.ndarray or torch.Tensor, shape (..., n_chans, n_bands)
        Differential entropy, as `differential_entropy` gives it.
    ch_names : list of str, length n_chans
        Names of the channels, in any case.
    pairs : list of (str, str)
        Frontal and posterior electrode of each pair; `find_pairs` names those that a
        smaller montage than SEED's has.

    Returns
    -------
    caudality : numpy.ndarray or torch.Tensor, shape (..., n_pairs, n_bands)
        The differences [1]_.

    References
    ----------
    .. [1] Zheng, W.-L., & Lu, B.-L. (2015). Investigating critical frequency bands
       and channels for EEG-based emotion recognition with deep neural networks.
       IEEE Transactions on Autonomous Mental Development, 7(3), 162-175.
       https://doi.org/10.1109/TAMD.2015.2431497
    """
    return dasm(features, ch_names, pairs)


def _select(features, ch_names, pairs):
    """Return the features of the first and of the second electrodes."""
    if features.ndim < 2 or features.shape[-2] != len(ch_names):
        raise ValueError(
            f"features must have shape (..., n_chans={len(ch_names)}, n_bands), as "
            f"ch_names has that many names, but got {tuple(features.shape)}."
        )
    pairs = list(pairs)  # which may be an iterator
    index = {name.casefold(): i for i, name in enumerate(ch_names)}
    missing = {name for pair in pairs for name in pair if name.casefold() not in index}
    if missing or not pairs:
        raise ValueError(
            f"pairs must be electrodes of ch_names, but got {pairs}, of which "
            f"{sorted(missing)} are missing; find_pairs(ch_names, pairs) keeps the "
            "pairs that exist."
        )
    first = [index[name.casefold()] for name, _ in pairs]
    second = [index[name.casefold()] for _, name in pairs]
    return features[..., first, :], features[..., second, :]
