# The public names. Each is imported when it is first used.
from .benchmarks import plot_benchmark as plot_benchmark
from .clusters import plot_cluster_usage as plot_cluster_usage
from .confusion import plot_confusion_matrix as plot_confusion_matrix
from .curves import plot_history as plot_history
from .embeddings import plot_embeddings as plot_embeddings
from .label_fractions import plot_label_fractions as plot_label_fractions
from .topomaps import plot_attention as plot_attention
from .topomaps import plot_band_topomaps as plot_band_topomaps
