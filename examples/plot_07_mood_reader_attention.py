"""
Mood Reader with eye features and attention maps
================================================

In SEED-IV, eye movements were recorded together with the EEG.
:class:`~braindecode_emossl.MoodReader` uses both: a transformer over patches of EEG;
attention over electrodes and time on the differential entropy; and a branch for the eye
features. Pre-training reconstructs masked parts of all three. The attention to each
electrode can be plotted as a map of the scalp.

An attention map shows what a network attends to, which is not the same as what matters.
Without your own copy of SEED-IV (``MNE_DATASETS_SEEDIV_PATH``), it is a map of
synthetic signals and of a network that was trained only briefly.
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
# ``return_all_modalities=True`` adds the 31 eye features as ``misc`` channels. The
# release has one value every four seconds, so we use windows of four seconds, here the
# first one of each trial.

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
# Subjects 1 and 2 are the training set. :class:`~braindecode_emossl.SSLClassifier`
# pre-trains and fine-tunes in one call. Arrays contain neither the sampling rate nor
# the types of the channels, so the classifier needs ``sfreq`` and ``chs_info``. The
# metadata name the recordings, within which pre-training standardises its targets.
# Arguments of the model and of the objective have a prefix.

train = (metadata["subject"] != 3).to_numpy()
settings = {
    "model": "MoodReader",
    "model__embed_dim": 32,
    "model__n_layers": 2,
    "model__n_heads": 4,
    "model__feature_dim": 16,
    "model__n_feature_layers": 1,
    "model__n_feature_heads": 2,
    "objective__decoder_dim": 32,
    "objective__n_decoder_layers": 1,
    "objective__n_decoder_heads": 4,
    "pretrain_steps": 12,
    "finetune_steps": 20,
    "batch_size": 16,
    "random_state": 0,
}
classifier = SSLClassifier(**settings, sfreq=info["sfreq"], chs_info=info["chs"])
classifier.fit(X[train], y[train], metadata=metadata[train])
fig = plot_history(classifier.pretrainer_.history_)
print(f"Subject 3: {classifier.score(X[~train], y[~train]):.2f}, chance is 0.25")

# %%
# Which electrodes get attention
# ------------------------------
#
# The fine-tuned model returns the attention to each electrode for each window. The maps
# show its mean over the windows of each emotion of subject 3. All maps have the same
# scale, on which 1 means equal attention to all electrodes. Check the range of the
# colour bar before you interpret a pattern.

model = classifier.net_.module_.eval()
weights = model.attention_weights(X[~train])
fig = plot_attention(weights.detach().cpu(), info, y=y[~train])

# %%
# With and without eye features
# -----------------------------
#
# The same model with and without them, leaving out each subject in turn. ``evaluate``
# sets the sampling rate and the channels of the pipelines. Three subjects and a few
# steps prove nothing, as the intervals show.

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
