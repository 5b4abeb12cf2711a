"""
Load a corpus and look at it
============================

The corpora of emotional EEG are behind licence forms, so nothing is downloaded here:
you ask their makers for the files, put them into a folder, and say where it is. Without
the files, a *replica* lets you try everything: a small copy in the same file format,
whose signals are synthetic. Nothing that a replica shows is a finding about emotion.

This example reads SEED, in which 15 subjects watched 15 film clips each, and looks at
its trials, its signals and its windows.
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
# (or MNE's setting of the same name) says where your copy of SEED lies, it is read;
# otherwise a replica is written to a temporary folder. ``SEED()`` alone would find your
# copy too, and take all subjects and sessions.

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
# The table of trials is read without the signals. A stimulus has one name for all who
# saw it: every subject of SEED sees the same 15 films in the same order, which matters
# as soon as subjects are compared.

trials = corpus.trial_table(subjects[0])
print(trials[["subject", "session", "trial", "stimulus", "length", "emotion"]])

# %%
# How often does each label come? A paradigm says what a label is: here the corpus's own
# classes, below the valence alone, for which neutral films have no label.

print(Emotion().class_balance(corpus))
print(Emotion("valence").class_balance(corpus))

# %%
# Signals
# -------
#
# As everywhere in MOABB, the data are :class:`mne.io.Raw` objects by subject, session
# and run; here a run is a trial. They know their electrodes, so that everything in MNE
# works on them.

raw = corpus.get_data([subjects[0]])[subjects[0]]["0"]["00"]
print(raw)
print(raw.annotations.description, raw.annotations.duration)

fig = raw.plot(
    duration=5.0, n_channels=12, scalings={"eeg": 6e-5}, show_scrollbars=False
)

# %%
# The power spectrum of each electrode, coloured by its place on the head:

fig = raw.compute_psd(fmax=60.0, n_fft=400).plot(amplitude=False)

# %%
# Windows
# -------
#
# The paradigm cuts trials into windows. A window never leaves its trial, and the
# metadata say where each one comes from. ``features="de"`` gives the differential
# entropy of five frequency bands in place of the signals, which needs a hundredth of
# the memory: the signals of the whole of SEED take 15 GB.

X, y, metadata = Emotion(window=1.0, features="de").get_data(corpus)
print(X.shape, "windows, channels, bands")
print(metadata[["corpus", "subject", "session", "trial", "stimulus", "window"]].head())

# %%
# In two dimensions, the windows lie together by subject and not by label. This is so in
# real recordings, and the replica imitates it: whoever mixes the windows of a subject,
# or of a trial, into training and test will find out who or which trial it is, and take
# it for emotion. :ref:`The next example
# <sphx_glr_auto_examples_plot_02_honest_and_leaky_splits.py>` shows how much that is.

fig, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
table = metadata.assign(label=y)
for ax, color in zip(axes, ["subject", "label"], strict=True):
    plot_embeddings(X, table, color=color, ax=ax)

plt.show()
