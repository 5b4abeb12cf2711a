"""Topographic maps: differential entropy by class and band, and attention."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import mne
import numpy as np
from sklearn.utils import check_consistent_length

from braindecode_emossl.features.bands import BANDS
from braindecode_emossl.visualization.style import COLOR_MAP, get_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_attention", "plot_band_topomaps"]


def plot_band_topomaps(
    features,
    y,
    info: mne.Info,
    *,
    bands: Iterable[str] = BANDS,
    contrast: bool = False,
    axes=None,
) -> Figure:
    """Plot the mean differential entropy of each class and band over the scalp.

    Parameters
    ----------
    features : array-like, shape (n_windows, n_chans, n_bands)
        Differential entropy in nats, as returned by
        :func:`~braindecode_emossl.features.differential_entropy`.
    y : array-like, shape (n_windows,)
        Class of each window.
    info : mne.Info
        Positions of the electrodes. The EEG channels must be those of ``features``;
        other channels are ignored.
    bands : iterable of str, default=BANDS
        Names of the bands, in the order of the last axis.
    contrast : bool, default=False
        Whether to subtract the mean over the classes, all with equal weight. Bands and
        electrodes differ more than classes do; this shows the differences between
        classes.
    axes : array of matplotlib.axes.Axes, shape (n_classes, n_bands), optional
        Axes to draw into. By default, a new figure is made.

    Returns
    -------
    matplotlib.figure.Figure
        One row of maps per class, in sorted order, and one column per band. All maps
        have the same colour scale.

    Raises
    ------
    ValueError
        If shapes do not match, a value is not finite, or an electrode has no position.
    """
    features = _to_finite_array(features, "features", "(n_windows, n_chans, n_bands)")
    bands = list(bands)
    if features.shape[2] != len(bands):
        raise ValueError(
            f"bands must name each of the {features.shape[2]} bands of features, but "
            f"got {bands}."
        )
    names, means = _average_classes(features, y)  # (n_classes, n_chans, n_bands)
    label, limit = "Differential entropy (nats)", None
    if contrast:
        means = means - means.mean(axis=0)
        label, limit = "Difference from the mean (nats)", np.abs(means).max()
    return _draw_maps(
        means.transpose(0, 2, 1),
        info,
        rows=names,
        columns=bands,
        limits=(means.min(), means.max()) if limit is None else (-limit, limit),
        label=label,
        axes=axes,
    )


def plot_attention(weights, info: mne.Info, *, y=None, axes=None) -> Figure:
    """Plot the attention to each electrode over the scalp.

    Parameters
    ----------
    weights : array-like, shape (n_chans,) or (n_windows, n_chans)
        Attention weights, as returned by
        :meth:`MoodReader.attention_weights
        <braindecode_emossl.models.MoodReader.attention_weights>`. The mean over windows
        is drawn.
    info : mne.Info
        Positions of the electrodes. The EEG channels must be those of ``weights``;
        other channels are ignored.
    y : array-like, shape (n_windows,), optional
        Class of each window, to draw one map per class.
    axes : matplotlib.axes.Axes or array of them, shape (n_classes,), optional
        Axes to draw into; a single one without ``y``. By default, a new figure is made.

    Returns
    -------
    matplotlib.figure.Figure
        One map, or one for each class in sorted order. All maps have the same colour
        scale, on which 1 is the mean over the electrodes.

    Raises
    ------
    ValueError
        If shapes do not match, a value is not finite, the weights are 0 on average, or
        an electrode has no position.
    """
    if np.ndim(weights) == 1:
        weights = np.asarray(weights)[None]
    weights = _to_finite_array(weights, "weights", "(n_windows, n_chans)")
    if y is None:
        names, means = [""], weights.mean(axis=0, keepdims=True)
    else:
        names, means = _average_classes(weights, y)  # (n_classes, n_chans)
    shares = means.mean(axis=1, keepdims=True)
    if (shares <= 0).any():
        raise ValueError("weights must be above 0 on average, but some means are not.")
    means = means / shares
    return _draw_maps(
        means[None],
        info,
        rows=[""],
        columns=names,
        limits=(means.min(), means.max()),
        label="Attention (1 = equal share)",
        axes=axes,
    )


def _to_finite_array(values, name: str, shape: str) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if values.ndim != shape.count(",") + 1 or 0 in values.shape:
        raise ValueError(
            f"{name} must be of shape {shape} and not empty, but got {values.shape}."
        )
    if not (finite := np.isfinite(values)).all():
        raise ValueError(
            f"{name} must be finite, but {(~finite).sum()} of {values.size} values are "
            f"not, the first in window {np.argwhere(~finite)[0, 0]}."
        )
    return values


def _average_classes(values: np.ndarray, y) -> tuple[list[str], np.ndarray]:
    """Return a name and the mean (n_classes, ...) of each class."""
    y = np.asarray(y)
    check_consistent_length(values, y)
    classes, counts = np.unique(y, return_counts=True)
    names = [f"{name}\n(n = {n})" for name, n in zip(classes, counts, strict=True)]
    return names, np.stack([values[y == name].mean(axis=0) for name in classes])


def _pick_electrodes(info: mne.Info, n_chans: int) -> mne.Info:
    """Return the EEG channels of info, all of which must have a position."""
    if n_chans < 2:
        raise ValueError("A map needs at least two channels, but the values have one.")
    info = mne.pick_info(info, mne.pick_types(info, eeg=True, exclude=()))
    if len(info["chs"]) != n_chans:
        raise ValueError(
            f"info must have one EEG channel for each of the {n_chans} channels of the "
            f"values, but has {len(info['chs'])}: {info.ch_names}."
        )
    missing = [
        channel["ch_name"]
        for channel in info["chs"]
        if not np.isfinite(channel["loc"][:3]).all() or not channel["loc"][:3].any()
    ]
    if missing:
        raise ValueError(
            "Every EEG channel of info must have a position, but these have none: "
            f"{missing}. Set them by info.set_montage."
        )
    return info


def _draw_maps(values, info, *, rows, columns, limits, label, axes) -> Figure:
    """Draw values (n_rows, n_columns, n_chans) on one colour scale."""
    info = _pick_electrodes(info, values.shape[-1])
    n_rows, n_columns = values.shape[:2]
    size = (2.0 + 1.6 * n_columns, max(2.8, 0.6 + 1.6 * n_rows))
    axes = get_axes(axes, n_rows, n_columns, size=size)
    # All maps share their contour levels, so that a flat map looks flat.
    contours: list | int = list(np.linspace(limits[0], limits[1], 8)[1:-1])
    if limits[0] == limits[1]:
        limits, contours = (limits[0] - 0.1, limits[1] + 0.1), 0
    for panels, maps in zip(axes, values, strict=True):
        for ax, one_map in zip(panels, maps, strict=True):
            image, _ = mne.viz.plot_topomap(
                one_map,
                info,
                axes=ax,
                cmap=COLOR_MAP,
                vlim=limits,
                contours=contours,
                show=False,
            )
    for ax, name in zip(axes[0], columns, strict=True):
        ax.set_title(name)
    for ax, name in zip(axes[:, 0], rows, strict=True):
        ax.set_ylabel(name, rotation="horizontal", ha="right", va="center")
    figure = axes[0, 0].figure
    figure.colorbar(image, ax=list(axes.flat), label=label, shrink=0.8)
    return figure
