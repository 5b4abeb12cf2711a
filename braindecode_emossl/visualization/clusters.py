"""The use of the clusters in masked prediction, from clustering to clustering."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import PowerNorm

from braindecode_emossl.visualization.style import COLOR_MAP, get_axes, style_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from braindecode_emossl.pretraining.clustering import ClusterReport

__all__ = ["plot_cluster_usage"]

_MAX_TICKS = 8
_LINE_STYLES = ("-", "--", ":", "-.")


def plot_cluster_usage(reports: Sequence[ClusterReport], *, axes=None) -> Figure:
    """Plot how evenly the tokens are distributed over the clusters.

    Parameters
    ----------
    reports : sequence of ClusterReport
        One report per clustering, as in the ``reports`` of
        :class:`~braindecode_emossl.pretraining.MaskedClusterPretraining`.
    axes : array of matplotlib.axes.Axes, shape (1 + n_codebooks,), optional
        Axes to draw into. By default, a new figure is made.

    Returns
    -------
    matplotlib.figure.Figure
        The first panel shows the perplexity of each codebook divided by its number of
        clusters: 1 if all clusters have the same number of tokens. Each codebook has a
        further panel, with one column per clustering and one row per cluster, the most
        used one on top, coloured by its number of tokens relative to equal use. A
        clustering with fewer clusters has blank rows.

    Raises
    ------
    ValueError
        If there are no reports, or reports differ in their number of codebooks.
    """
    sizes = {len(report.n_clusters) for report in reports}
    if len(sizes) != 1:
        raise ValueError(
            "reports must be one or more of a single objective, all with the same "
            f"number of codebooks, but got {len(reports)} with {sorted(sizes)} "
            "codebooks."
        )
    n_codebooks = sizes.pop()
    size = (4.5 + 2.4 * n_codebooks, 3.6)
    axes = get_axes(axes, 1, 1 + n_codebooks, size=size)[0]
    _draw_perplexity(axes[0], reports)
    usages = [_usage(reports, codebook) for codebook in range(n_codebooks)]
    largest = max(np.nanmax(usage) for usage in usages)
    # On a square root scale, as a few clusters are used much more than the others.
    norm = PowerNorm(0.5, vmin=0, vmax=largest)
    for i, (ax, usage) in enumerate(zip(axes[1:], usages, strict=True), 1):
        image = ax.imshow(
            usage,
            cmap=COLOR_MAP,
            norm=norm,
            aspect="auto",
            interpolation="nearest",
            extent=(-0.5, len(reports) - 0.5, len(usage) + 0.5, 0.5),
        )
        ax.set_title(f"Codebook {i}\n{len(usage)} clusters")
        ax.yaxis.get_major_locator().set_params(integer=True)
    axes[1].set_ylabel("Cluster, by its use")
    label = "Tokens (1 = equal use)"
    axes[0].figure.colorbar(image, ax=list(axes[1:]), label=label)
    for ax in axes:
        _name_clusterings(ax, reports)
    return axes[0].figure


def _draw_perplexity(ax, reports: Sequence[ClusterReport]) -> None:
    shares = np.array(
        [np.divide(report.perplexity, report.n_clusters) for report in reports]
    )  # (n_clusterings, n_codebooks)
    for i, share in enumerate(shares.T):
        line_style = _LINE_STYLES[i % len(_LINE_STYLES)]
        ax.plot(share, line_style, **style_of(i), label=f"codebook {i + 1}")
    ax.set(title="Evenness", ylabel="Perplexity / clusters", ylim=(0, 1.05))
    ax.set_xlim(-0.5, len(reports) - 0.5)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize="small")


def _usage(reports: Sequence[ClusterReport], codebook: int) -> np.ndarray:
    """Return the relative use (n_clusters, n_clusterings), the largest first."""
    counts = [np.sort(report.counts[codebook])[::-1] for report in reports]
    usage = np.full((max(map(len, counts)), len(reports)), np.nan)
    for i, count in enumerate(counts):
        usage[: len(count), i] = count / count.mean()
    return usage


def _name_clusterings(ax, reports: Sequence[ClusterReport]) -> None:
    every = -(-len(reports) // _MAX_TICKS)
    names = [
        f"{i}: {report.features.replace('_', ' ')}"
        for i, report in enumerate(reports, 1)
    ]
    ax.set_xticks(
        range(0, len(reports), every),
        names[::every],
        rotation=45,
        ha="right",
        rotation_mode="anchor",
    )
