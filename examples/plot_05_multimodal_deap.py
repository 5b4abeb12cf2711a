"""
ME-MHACL on DEAP, with and without peripheral signals
=====================================================

Emotion also affects skin resistance, respiration and skin temperature. ME-MHACL encodes
each modality with a network of its own and fuses them by attention. Its pre-training is
*group contrastive*: when several subjects watch the same second of the same video, two
groups of them should have similar features, and differ from groups that watch something
else. This needs no labels, but it needs the metadata of the windows.

Without your own copy of DEAP (``MNE_DATASETS_DEAP_PATH``), the signals are synthetic.
The network is much smaller than the authors', and is trained briefly.
"""

# License: BSD-3-Clause

import tempfile

import mne
import pandas as pd
from matplotlib import pyplot as plt

from braindecode_emossl import DEAP, Emotion, SSLClassifier, write_replica
from braindecode_emossl.visualization import plot_confusion_matrix

subjects = [1, 2, 3, 4, 5]
scratch = tempfile.TemporaryDirectory()
path = mne.get_config("MNE_DATASETS_DEAP_PATH") or write_replica(
    "DEAP", f"{scratch.name}/DEAP", subjects=subjects, seconds=3, seed=0
)

corpus = DEAP(
    subjects,
    path=path,
    return_all_modalities={"eeg": True, "gsr": True, "resp": True, "temperature": True},
)

# %%
# Modalities
# ----------
#
# ``return_all_modalities`` picks channels by their MNE type; True keeps all of them,
# and by default only EEG is returned. This is the first trial of the first subject,
# without the three seconds that DEAP's files have before each video:

raw = corpus.get_data([1])[1]["0"]["00"].crop(3.0)
shown = {
    "Fz": (1e6, "µV"),
    "GSR": (1e-3, "kohm"),
    "Resp": (1e6, "µV"),
    "Temp": (1, "°C"),
}
fig, axes = plt.subplots(len(shown), sharex=True, figsize=(8, 5), layout="constrained")
for ax, (name, (factor, unit)) in zip(axes, shown.items(), strict=True):
    ax.plot(raw.times, factor * raw.get_data(name)[0], color="#0072B2", linewidth=0.8)
    ax.set_ylabel(f"{name} ({unit})")
    ax.spines[["top", "right"]].set_visible(False)
axes[-1].set_xlabel("Time from the start of the video (s)")
fig.align_ylabels()

# %%
# We use one-second windows of the first three seconds of each video, with all
# modalities or with the EEG only. The model scales each channel of a window separately,
# so that ohms and microvolts can be in one array. The modality of each channel is read
# from ``chs_info``.

settings = {"window": 1.0, "tmax": 3.0, "resample": None}
paradigms = {
    "EEG": Emotion("valence", picks="eeg", **settings),
    "EEG, skin, respiration, temperature": Emotion("valence", **settings),
}

# %%
# Pre-train on groups of subjects
# -------------------------------
#
# The objective of ME-MHACL names the sampler that it needs: for each second of each
# video, :class:`~braindecode_emossl.samplers.StimulusGroupSampler` draws the windows of
# several subjects. Eight such seconds (``pretrainer__batch_size``) form a batch. All
# that the sampler needs is ``metadata``; without them, ``fit`` stops with an error.


def fit(paradigm):
    """Train on subjects 1 to 4; return the classifier and the windows of subject 5."""
    X, y, metadata = paradigm.get_data(corpus)
    info = paradigm.get_info(corpus)
    classifier = SSLClassifier(
        "MEMHACL",
        model__n_filters=(8, 8, 16, 16),
        model__n_heads=4,
        objective__projector_widths=(64, 128),
        pretrainer__batch_size=8,
        pretrain_steps=45,
        finetune_steps=40,
        batch_size=64,
        sfreq=info["sfreq"],
        chs_info=info["chs"],
        random_state=0,
    )
    train = (metadata["subject"] != 5).to_numpy()
    classifier.fit(X[train], y[train], metadata=metadata[train])
    return classifier, X[~train], y[~train]


# %%
# With and without peripheral signals
# -----------------------------------

losses, scores = {}, {}
fig, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for ax, (name, paradigm) in zip(axes, paradigms.items(), strict=True):
    classifier, X, y = fit(paradigm)
    print([*classifier.net_.module_.modalities], "-", X.shape, "test windows")
    losses[name] = classifier.pretrainer_.history_[:, "train_loss"]

    predicted = classifier.predict(X)
    scores[name] = (predicted == y).mean()
    plot_confusion_matrix(y, predicted, ax=ax)
    ax.set_title(name)

print(type(classifier.pretrainer_.sampler_).__name__)
print(pd.DataFrame(losses).rename_axis("epoch").round(2))
print(pd.Series(scores, name="accuracy of subject 5").round(2))

# %%
# One test subject is not an evaluation: to compare the two, test all subjects in turn.
# ``evaluate({"ME-MHACL": SSLClassifier("MEMHACL")}, ...)`` does this, and passes the
# metadata of the training windows to the sampler in every fold.

plt.show()
