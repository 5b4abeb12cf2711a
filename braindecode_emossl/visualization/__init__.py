"""Figures of features, models and results, readable in print and by the colour-blind.

Each function draws into the given axes or into a new figure, and returns the figure;
none of them changes matplotlib's settings. No figure relies on colour alone: groups
also differ in marker or line style, and every colour map goes from dark to light.
"""

from braindecode_emossl.visualization.benchmarks import plot_benchmark
from braindecode_emossl.visualization.clusters import plot_cluster_usage
from braindecode_emossl.visualization.confusion import plot_confusion_matrix
from braindecode_emossl.visualization.curves import plot_history
from braindecode_emossl.visualization.embeddings import plot_embeddings
from braindecode_emossl.visualization.label_fractions import plot_label_fractions
from braindecode_emossl.visualization.topomaps import (
    plot_attention,
    plot_band_topomaps,
)

__all__ = [
    "plot_attention",
    "plot_band_topomaps",
    "plot_benchmark",
    "plot_cluster_usage",
    "plot_confusion_matrix",
    "plot_embeddings",
    "plot_history",
    "plot_label_fractions",
]
