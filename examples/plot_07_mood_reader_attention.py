"""
Mood Reader with eye features and attention maps
================================================

In SEED-IV, eye tracking ran beside the EEG. :class:`~braindecode_emossl.MoodReader`
reads both: a transformer over patches of EEG, which is pre-trained by filling in masked
patches; attention over electrodes and time on differential entropy; and a branch for
the eye features. The attention over electrodes can be drawn as a map of the scalp.

An attention map says what a network looks at, which is not the same as what matters.
Without your own copy of SEED-IV (``MNE_DATASETS_SEEDIV_PATH``) it is a map of synthetic
signals, of a network that was hardly trained.
"""

# License: BSD-3-Clause

import tempfile

import mne
import pandas as pd
from matplotlib import pyplot as plt

from braindecode_emossl import SEED_IV, Emotion, SSLClassifier, evaluate, write_replica
from braindecode_emossl.visualization import (
    plot_attention,
    plot_benchmark,
    plot_history,
)

subjects = [1, 2, 3]
scratch = tempfile.TemporaryDirectory()
path = mne.get_config("MNE_DATASETS_SEEDIV_PATH") or write_replica(
    "SEED-IV",
    f"{scratch.name}/SEED-IV",
    subjects=subjects,
    seconds=4,
    seed=0,
    sessions=[0],
)

# %%
# EEG and eyes
# ------------
#
# With ``return_all_modalities=True`` the 31 eye features come as ``misc`` channels. The
# makers give them every four seconds, so windows are of four seconds, here the first
# one of each trial.

corpus = SEED_IV(subjects, sessions=[0], path=path, return_all_modalities=True)
paradigm = Emotion(window=4.0, tmax=4.0, cache_dir=f"{scratch.name}/windows")
X, y, metadata = paradigm.get_data(corpus)
info = paradigm.get_info(corpus)
print(X.shape, "windows, channels, samples")
print(info)

# %%
# Pre-train and fine-tune
# -----------------------
#
# Subjects 1 and 2 train. :class:`~braindecode_emossl.SSLClassifier` pre-trains and
# fine-tunes in one go; arrays do not tell the sampling rate and which channel is what,
# so the classifier must be told.

train = (metadata["subject"] != 3).to_numpy()
settings = {
    "model": "MoodReader",
    "model_params": {
        "embed_dim": 32,
        "n_layers": 2,
        "n_heads": 4,
        "feature_dim": 16,
        "n_feature_layers": 1,
        "n_feature_heads": 2,
    },
    "objective_params": {
        "decoder_dim": 32,
        "n_decoder_layers": 1,
        "n_decoder_heads": 4,
    },
    "pretrain_epochs": 4,
    "finetune_epochs": 6,
    "batch_size": 16,
    "random_state": 0,
}
classifier = SSLClassifier(**settings, sfreq=info["sfreq"], chs_info=info["chs"])
classifier.fit(X[train], y[train])
fig = plot_history(classifier.pretrainer_.history_)
print(f"Subject 3: {classifier.score(X[~train], y[~train]):.2f}, chance is 0.25")

# %%
# Which electrodes get attention
# ------------------------------
#
# The fine-tuned model tells, for each window, how much attention each electrode gets;
# the map shows it for the windows of each emotion of subject 3. All maps have the same
# scale, on which 1 is an equal share. Look at the numbers beside it before believing in
# a pattern.

model = classifier.net_.module_.eval()
weights = model.attention_weights(X[~train])
fig = plot_attention(weights.detach().cpu(), info, y=y[~train])

# %%
# What the eyes add
# -----------------
#
# The same model with and without them, leaving out each subject in turn. ``evaluate``
# tells pipelines the sampling rate and the channels by itself. Three subjects and a few
# epochs decide nothing, as the intervals show.

pipelines = {"Mood Reader": SSLClassifier(**settings)}
eeg = SEED_IV(subjects, sessions=[0], path=path)
results = pd.concat(
    [
        evaluate(
            pipelines, [data], paradigm, "leave-one-subject-out", random_state=0
        ).assign(pipeline=name)
        for name, data in {"EEG": eeg, "EEG and eyes": corpus}.items()
    ]
)
print(results[["pipeline", "subject", "score", "score_trial", "channels"]])
fig = plot_benchmark(results)
fig.axes[0].set_ylim(0, 1)

plt.show()
