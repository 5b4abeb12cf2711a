"""Training curves."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np

from braindecode_emossl.visualization.style import get_axes, style_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_history"]

# Entries that skorch records in addition to losses and scores.
_NOT_CURVES = ("_best", "_batch_count", "_batch_size")
_LINE_STYLES = {"train": "-", "valid": "--"}


def plot_history(history: Sequence[dict], *, axes=None) -> Figure:
    """Plot the training and validation loss and each of its terms by epoch.

    Parameters
    ----------
    history : skorch.history.History or sequence of dict
        One entry per epoch, as in the ``history_`` of
        :class:`~braindecode_emossl.pretraining.SSLPretrainer`: ``epoch``, and
        ``train_<name>`` and ``valid_<name>`` of the loss and its terms.
    axes : matplotlib.axes.Axes or array of them, shape (n_names,), optional
        Axes to draw into, in the order of the history with ``loss`` first. By default,
        a new figure is made.

    Returns
    -------
    matplotlib.figure.Figure
        One panel each for the loss and its terms, as they differ in scale; a term that
        equals the loss has none. An epoch without a value leaves a gap. Below are the
        rank of the features and the scores of linear probes, before and after the
        training, if the last epoch has them.

    Raises
    ------
    ValueError
        If the history has no epochs, or no entries with the names above.
    """
    epochs = list(history)
    curves = _find_curves(epochs)
    names = sorted(
        dict.fromkeys(curve.partition("_")[2] for curve in curves),
        key=lambda name: name != "loss",
    )
    names = [name for name in names if name == "loss" or not _is_loss(name, epochs)]
    if not names:
        raise ValueError(
            "history must have at least one epoch with a train_<name> or valid_<name>, "
            f"but got {len(epochs)} epochs, the first with {list(*epochs[:1])}."
        )
    is_own = axes is None
    text = _describe_features(epochs[-1]) if is_own else ""
    size = (max(0.8 + 3.2 * len(names), 0.085 * len(text)), 3.0)
    axes = get_axes(axes, 1, len(names), size=size)[0]
    number = [epoch.get("epoch", i) for i, epoch in enumerate(epochs, 1)]
    for ax, name in zip(axes, names, strict=True):
        for i, (part, line_style) in enumerate(_LINE_STYLES.items()):
            if (key := f"{part}_{name}") in curves:
                ax.plot(
                    number,
                    [epoch.get(key, np.nan) for epoch in epochs],
                    line_style,
                    **style_of(i),
                    markersize=4,
                    markevery=max(1, len(epochs) // 10),
                    label={"train": "training", "valid": "validation"}[part],
                )
        ax.set(title=name.replace("_", " "), xlabel="Epoch")
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("Mean over the epoch")
    axes[0].legend(frameon=False, fontsize="small")
    if text:
        axes[0].figure.supxlabel(text, fontsize="small")
    return axes[0].figure


def _describe_features(epoch: dict) -> str:
    """Describe the diagnosis in the last epoch, if there is one."""
    parts = [
        f"{name} {epoch[f'before_{name}']:.2f} → {epoch[f'after_{name}']:.2f}"
        for name in ("rank", "subject", "stimulus")
        if f"before_{name}" in epoch
    ]
    return f"Features, before → after: {', '.join(parts)}" if parts else ""


def _is_loss(name: str, epochs: list[dict]) -> bool:
    """Return whether a term equals the loss, as for an objective with one term."""
    return all(
        epoch.get(f"{part}_{name}") == epoch.get(f"{part}_loss")
        for epoch in epochs
        for part in _LINE_STYLES
    )


def _find_curves(epochs: list[dict]) -> list[str]:
    """Return the names of curves, in order of appearance."""
    return list(
        dict.fromkeys(
            key
            for epoch in epochs
            for key, value in epoch.items()
            if key.startswith(("train_", "valid_"))
            and not key.endswith(_NOT_CURVES)
            and isinstance(value, Real)
        )
    )
