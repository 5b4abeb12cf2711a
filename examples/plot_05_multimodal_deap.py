"""
ME-MHACL on DEAP, with and without peripheral signals
=====================================================

Emotion is not in the brain alone: skin resistance, breath and skin temperature follow
it too. ME-MHACL encodes each modality by a network of its own and fuses them by
attention. Its pre-training is *group contrastive*: several subjects watch the same
second of the same video; two groups of them should look alike, and unlike groups that
watch something else. No label is needed for that, but the metadata are.

Without your own copy of DEAP (``MNE_DATASETS_DEAP_PATH``) the signals are synthetic,
and the network is a fraction of the authors', trained briefly.
"""

# License: BSD-3-Clause

import tempfile

import mne
import pandas as pd
import torch
from matplotlib import pyplot as plt

from braindecode_emossl import (
    DEAP,
    MEMHACL,
    Emotion,
    MEMHACLPretraining,
    SSLClassifier,
    SSLPretrainer,
    save_checkpoint,
    write_replica,
)
from braindecode_emossl.samplers import StimulusGroupSampler
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
# ``return_all_modalities`` picks channels by their MNE type; True would keep all of
# them, the default is the EEG alone. Here is the first trial of the first subject,
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
# Windows of a second, of the first three seconds of each video. The model scales each
# channel of a window by itself, so that ohms and microvolts can stand in one array, and
# learns from ``chs_info`` which channel is of which modality.

paradigm = Emotion("valence", window=1.0, tmax=3.0, resample=None)
X, y, metadata = paradigm.get_data(corpus)
info = paradigm.get_info(corpus)
train = (metadata["subject"] != 5).to_numpy()  # subject 5 will test
print(X.shape, "windows, channels, samples")

# %%
# Pre-train on groups of subjects
# -------------------------------
#
# :class:`~braindecode_emossl.samplers.StimulusGroupSampler` finds for each second of
# each video the windows of ``2 * group_size`` subjects; eight such seconds
# (``batch_size``) make a batch. The checkpoint remembers whom it has seen.

sizes = {"n_filters": (8, 8, 16, 16), "n_heads": 4}


def pretrain(picks):
    """Return a trainer that has pre-trained on some of the channels."""
    torch.manual_seed(0)
    model = MEMHACL(
        n_outputs=2,
        chs_info=[info["chs"][pick] for pick in picks],
        n_times=X.shape[2],
        sfreq=info["sfreq"],
        **sizes,
    )
    pretrainer = SSLPretrainer(
        MEMHACLPretraining(model, projector_widths=(64, 128)),
        sampler=StimulusGroupSampler,
        sampler__group_size=2,
        batch_size=8,
        max_epochs=3,
        random_state=0,
    )
    return pretrainer.fit(X[train][:, picks], metadata=metadata[train])


def finetune(checkpoint, picks):
    """Return a classifier that goes on from a checkpoint, with labels."""
    classifier = SSLClassifier(
        "MEMHACL",
        checkpoint=checkpoint,
        corpus="DEAP",
        chs_info=[info["chs"][pick] for pick in picks],
        sfreq=info["sfreq"],
        model_params=sizes,
        finetune_epochs=5,
        batch_size=64,
        random_state=0,
    )
    return classifier.fit(X[train][:, picks], y[train], metadata["subject"][train])


# %%
# With and without
# ----------------

channels = {
    "EEG alone": mne.pick_types(info, eeg=True),
    "EEG, skin, breath, temperature": list(range(len(info["chs"]))),
}
losses, scores = {}, {}
fig, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for ax, (name, picks) in zip(axes, channels.items(), strict=True):
    pretrainer = pretrain(picks)
    losses[name] = pretrainer.history_[:, "train_loss"]
    checkpoint = f"{scratch.name}/{name}"
    save_checkpoint(checkpoint, pretrainer.module_, pretrainer.provenance_)
    classifier = finetune(checkpoint, picks)
    print([*classifier.net_.module_.modalities])

    predicted = classifier.predict(X[~train][:, picks])
    scores[name] = (predicted == y[~train]).mean()
    plot_confusion_matrix(y[~train], predicted, ax=ax)
    ax.set_title(name)

print(pd.DataFrame(losses).rename_axis("epoch").round(2))
print(pd.Series(scores, name="accuracy of subject 5").round(2))

# %%
# One test subject is no evaluation: to compare the two, test all subjects in turn.
# ``evaluate({"ME-MHACL": SSLClassifier("MEMHACL")}, ...)`` does that in one line, but
# its pre-training takes groups of any windows, as a classifier is not told the stimuli.

plt.show()
