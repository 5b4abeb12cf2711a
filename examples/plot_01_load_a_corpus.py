"""
Load a corpus and look at it
============================

Most corpora of emotional EEG require a signed licence: you request the files from their
authors and set the folder that contains them. FACED can be downloaded. Without the
files, you can try everything on a *replica*: a small copy in the same file format with
synthetic signals. What a replica shows is not a finding about emotion.

This example reads SEED, in which 15 subjects watched 15 film clips each, and shows its
trials, its signals and its windows.
"""

# License: BSD-3-Clause

import tempfile

import mne
from matplotlib import pyplot as plt

from braindecode_emossl import SEED, Emotion, write_replica
from braindecode_emossl.visualization import plot_embeddings

# %%
# Your copy, or a replica
# -----------------------
#
# All examples begin like this. If the environment variable ``MNE_DATASETS_SEED_PATH``
# (or MNE's setting of the same name) contains the path of your copy of SEED, it is
# read; otherwise a replica is written to a temporary folder. ``SEED()`` also finds your
# copy, and uses all subjects and sessions.

subjects = [1, 2, 3]
scratch = tempfile.TemporaryDirectory()
path = mne.get_config("MNE_DATASETS_SEED_PATH") or write_replica(
    "SEED", scratch.name, subjects=subjects, seconds=10, seed=0, sessions=[0]
)
corpus = SEED(subjects, sessions=[0], path=path)

# %%
# Trials
# ------
#
# The table of trials is read without the signals. A stimulus has the same name for all
# subjects. Every subject of SEED sees the same 15 films in the same order, which
# matters when subjects are compared.

trials = corpus.trial_table(subjects[0])
print(trials[["subject", "session", "trial", "stimulus", "length", "emotion"]])

# %%
# How often does each label occur? A paradigm defines the labels: first the corpus's own
# classes, then valence, for which neutral films have no label.

print(Emotion().class_balance(corpus))
print(Emotion("valence").class_balance(corpus))

# %%
# Signals
# -------
#
# As everywhere in MOABB, the data are :class:`mne.io.Raw` objects by subject, session
# and run; here a run is a trial. They contain the positions of their electrodes, so all
# functions of MNE work.

raw = corpus.get_data([subjects[0]])[subjects[0]]["0"]["00"]
print(raw)
print(raw.annotations.description, raw.annotations.duration)

fig = raw.plot(
    duration=5.0, n_channels=12, scalings={"eeg": 6e-5}, show_scrollbars=False
)

# %%
# The power spectrum of each electrode, coloured by its position on the head:

fig = raw.compute_psd(fmax=60.0, n_fft=400).plot(amplitude=False)

# %%
# Windows
# -------
#
# The paradigm cuts trials into windows. A window never extends beyond its trial, and
# the metadata have one row per window with its origin. ``features="de"`` returns the
# differential entropy of five frequency bands instead of the signals, which takes a
# hundredth of the memory: the signals of all of SEED take 15 GB.

X, y, metadata = Emotion(window=1.0, features="de").get_data(corpus)
print(X.shape, "windows, channels, bands")
print(metadata[["corpus", "subject", "session", "trial", "stimulus", "window"]].head())

# %%
# In two dimensions, the windows group by subject rather than by label. This is so in
# real recordings, and the replica imitates it. If windows of a subject, or of a trial,
# are in both the training and the test set, a classifier can recognise the subject or
# the trial instead of the emotion. :ref:`The next example
# <sphx_glr_auto_examples_plot_02_honest_and_leaky_splits.py>` shows the size of this
# effect.

fig, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
table = metadata.assign(label=y)
for ax, color in zip(axes, ["subject", "label"], strict=True):
    plot_embeddings(X, table, color=color, ax=ax)

plt.show()
