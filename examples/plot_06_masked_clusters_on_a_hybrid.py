"""
Masked cluster pre-training on a hybrid of corpora
==================================================

Emotion corpora are small, and each has its own amplifier, cap and stimuli. Pre-training
needs no labels, so several corpora can be combined. Here, SEED and DEAP are used to
train one :class:`~braindecode_emossl.MaskedClusterTransformer`: short segments of the
signal are clustered, most of a window is masked, and the model predicts the clusters of
the masked segments. After some epochs, the model's own features are clustered instead.

Both corpora are replicas with synthetic signals, unless ``MNE_DATASETS_SEED_PATH`` and
``MNE_DATASETS_DEAP_PATH`` are set to the folders of yours.
"""

# License: BSD-3-Clause

import tempfile

import mne
import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from sklearn.manifold import TSNE

from braindecode_emossl import (
    DEAP,
    SEED,
    Emotion,
    MaskedClusterPretraining,
    MaskedClusterTransformer,
    SSLPretrainer,
    write_replica,
)
from braindecode_emossl.samplers import CorpusBalancedSampler
from braindecode_emossl.visualization import (
    plot_cluster_usage,
    plot_embeddings,
    plot_history,
)

subjects = [1, 2, 3]
scratch = tempfile.TemporaryDirectory()
seed_path = mne.get_config("MNE_DATASETS_SEED_PATH") or write_replica(
    "SEED",
    f"{scratch.name}/SEED",
    subjects=subjects,
    seconds=4,
    seed=0,
    sessions=[0],
)
deap_path = mne.get_config("MNE_DATASETS_DEAP_PATH") or write_replica(
    "DEAP", f"{scratch.name}/DEAP", subjects=subjects, seconds=4, seed=0
)
corpora = [SEED(subjects, sessions=[0], path=seed_path), DEAP(subjects, path=deap_path)]

# %%
# Common channels and rate
# ------------------------
#
# SEED has 62 electrodes at 200 Hz, DEAP 32 at 128 Hz. ``match_all`` sets the paradigm
# to the common electrodes and the lower rate. Both corpora have labels of valence,
# which pre-training does not use. The files of DEAP are filtered from 4 to 45 Hz, so we
# filter SEED in the same way. We use the first four seconds of each trial.
#
# Amplifiers and heads differ in amplitude, and the clusters would reflect this. With
# ``standardize="recording"`` each channel is standardised within each recording.

paradigm = Emotion(
    "valence", window=2.0, tmax=4.0, fmin=4.0, fmax=45.0, standardize="recording"
)
paradigm.match_all(corpora)
print(len(paradigm.channels), "channels at", paradigm.resample, "Hz")

parts = [paradigm.get_data(corpus) for corpus in corpora]
X = np.concatenate([X for X, _, _ in parts])
metadata = pd.concat(
    [table.assign(label=y) for _, y, table in parts], ignore_index=True
)
print(X.shape, metadata["corpus"].value_counts().to_dict())

# %%
# Pre-train
# ---------
#
# ``CorpusBalancedSampler`` prevents the larger corpus from dominating: at a temperature
# of 0 both corpora are drawn equally often, at 1 in proportion to their size. It reads
# the corpus of each window from the metadata. If the windows are not needed otherwise,
# ``fit(corpora, paradigm=paradigm)`` loads them itself.

torch.manual_seed(0)
model = MaskedClusterTransformer(
    n_outputs=2,
    chs_info=paradigm.get_info(corpora[0])["chs"],
    n_times=X.shape[2],
    sfreq=paradigm.resample,
    n_filters=32,
    emb_dim=32,
    n_layers=2,
    n_heads=4,
    dim_feedforward=64,
)
pretrainer = SSLPretrainer(
    MaskedClusterPretraining(
        model, n_clusters=(10, 20), recluster_every=6, code_dim=32
    ),
    sampler=CorpusBalancedSampler,
    sampler__temperature=0.5,
    max_epochs=12,
    batch_size=32,
    lr=2e-3,
    gradient_clip_value=1.0,
    random_state=0,
)
pretrainer.fit(X, metadata=metadata)
print("Windows of an epoch:", pretrainer.sampler_.n_samples_of_corpus)
print(pretrainer.provenance_)

# %%
# Loss and clusters
# -----------------
#
# Each codebook is a separate clustering, and the loss is the sum over both. Guessing
# has a loss of the sum of ``log(n_clusters)``. By default the first clusters stay. Here
# they are replaced after six epochs by those of a layer of the encoder: the task
# changes and the loss jumps.

fig = plot_history(pretrainer.history_)
print("Guessing:", np.log([10, 20]).sum().round(2))

# %%
# Such training can fail by collapse: if nearly all tokens are in one cluster, it is
# easily predicted and nothing is learned. So check whether all clusters are used, each
# time that they were computed:

fig = plot_cluster_usage(pretrainer.module_.reports)

# %%
# What do the features encode?
# ----------------------------
#
# The features of all windows, reduced to two dimensions by t-SNE and coloured by
# corpus, subject and valence. No label was used, and none is needed to separate the
# corpora, even though they are standardised. Keep this in mind when you combine
# corpora: a label that is more frequent in one of them can be guessed from the corpus.

encoder = pretrainer.module_.encoder.eval()
with torch.no_grad():
    windows = torch.as_tensor(X, dtype=torch.float32)
    features = encoder(windows, return_features=True)["features"]
points = TSNE(random_state=0).fit_transform(features)

fig, axes = plt.subplots(1, 3, figsize=(14, 3.6), layout="constrained")
for ax, color in zip(axes, ["corpus", "subject", "label"], strict=True):
    plot_embeddings(points, metadata, color=color, method=None, ax=ax)
    ax.set(xlabel="t-SNE 1", ylabel="t-SNE 2", title=color)

plt.show()
