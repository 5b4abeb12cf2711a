"""
Honest and leaky splits side by side
====================================

A window of EEG is more like its neighbours than like anything else. If the windows of a
trial are spread over training and test, a classifier that recognises the *trial* again
knows the label, without any knowledge of emotion. Accuracies far over 90 % that are read
in the literature often come from such a split.

To show it, this example writes a replica of SEED with ``effect_size=0``: its signals do
not depend on the labels at all. Whatever scores over chance on it is a leak. (With your
own copy of SEED, the difference between the protocols is what the leak is worth.)
"""

# License: BSD-3-Clause

import tempfile
import warnings

import mne
import pandas as pd
from matplotlib import pyplot as plt
from mne.decoding import Vectorizer
from moabb.evaluations import WithinSessionEvaluation
from sklearn.model_selection import GroupKFold, KFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from braindecode_emossl import SEED, Emotion, audit, evaluate, write_replica
from braindecode_emossl.errors import LeakageWarning
from braindecode_emossl.evaluation import chance_level
from braindecode_emossl.visualization import plot_benchmark

subjects = [1, 2, 3, 4]
scratch = tempfile.TemporaryDirectory()
path = mne.get_config("MNE_DATASETS_SEED_PATH") or write_replica(
    "SEED",
    f"{scratch.name}/SEED",
    subjects=subjects,
    seconds=8,
    seed=0,
    sessions=[0],
    effect_size=0,
)
corpus = SEED(subjects, sessions=[0], path=path)

# %%
# One classifier, three ways to split
# -----------------------------------
#
# A nearest neighbour on differential entropy: it has no idea of emotion, but a good
# memory. First under MOABB's stock evaluation within sessions, which shuffles windows.
# It was made for tasks in which every window is a trial of its own, and warns here.

paradigm = Emotion(window=1.0, features="de")
pipelines = {
    "Nearest neighbour": make_pipeline(
        Vectorizer(), StandardScaler(), KNeighborsClassifier(1)
    )
}

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always", LeakageWarning)
    shuffled = WithinSessionEvaluation(
        paradigm=paradigm,
        datasets=[corpus],
        hdf5_path=scratch.name,
        random_state=0,
        overwrite=True,
    ).process(pipelines)
print(next(w.message for w in caught if w.category is LeakageWarning))

# %%
# Then under two protocols of this package. ``within-session`` holds out whole trials of
# a session, ``leave-one-subject-out`` a whole subject. Every fold is checked before the
# first one runs.

honest = [
    evaluate(pipelines, [corpus], paradigm, protocol, random_state=0)
    for protocol in ("within-session", "leave-one-subject-out")
]
results = pd.concat(
    [shuffled.assign(protocol="shuffled windows"), *honest], ignore_index=True
)
print(results.groupby("protocol", sort=False)["score"].agg(["mean", "min", "max"]))

# %%
# A dot is a subject, the dashed line the chance level. Hundreds of windows do not make
# chance exact: the windows of a trial stand or fall together, so that a subject of SEED
# gives 15 independent answers. This is how far guessing can come with so few:

X, y, metadata = paradigm.get_data(corpus, subjects=subjects[:1])
chance = chance_level(y, metadata["trial"])
print(chance)

fig = plot_benchmark(results, chance=chance.proportional)
fig.axes[0].axhspan(0, chance.threshold, color="0.92", zorder=0)
fig.axes[0].set(ylim=(0, 1), title="Signals that know nothing of the labels")

# %%
# Ask any way of splitting whether it leaks
# -----------------------------------------
#
# :func:`~braindecode_emossl.audit` does such a test by itself, for your corpus, your
# paradigm and any splitter. It replaces the signals by noise in which each subject,
# stimulus and trial has a signature, and draws labels anew many times.

splits = {
    "KFold, shuffled": (KFold(5, shuffle=True, random_state=0), {}),
    "GroupKFold by trial": (GroupKFold(5), {"groups": "trial"}),
    "within-session": ("within-session", {}),
    "leave-one-subject-out": ("leave-one-subject-out", {}),
    "subject-stimulus": ("subject-stimulus", {}),
}
reports = {
    name: audit(paradigm, corpus, protocol, random_state=0, **options)
    for name, (protocol, options) in splits.items()
}
for report in reports.values():
    print(report, end="\n\n")

# %%
# The filled dots must lie at chance, and do so wherever whole trials are held out. The
# open ones say what it is worth to recognise the *stimulus*. All subjects of SEED see
# the same films: leaving out a subject is not leaving out a film, and only
# ``subject-stimulus`` does both. Report both numbers.

fig, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
for row, (name, report) in enumerate(reports.items()):
    ax.plot(report.interval, [row, row], color="0.6", lw=3, solid_capstyle="round")
    ax.plot(report.score, row, "o", color="#0072B2", label="labels of trials")
    ax.plot(report.stimulus_score, row, "o", mfc="white", mec="#D55E00", label="of films")
    ax.annotate(
        "passed" if report.passed else "leaks",
        (1.02, row),
        xycoords=("axes fraction", "data"),
        va="center",
    )
ax.axvline(report.chance, color="k", ls="--", lw=1, label="chance")
ax.set_yticks(range(len(reports)), reports)
ax.set(xlim=(0, 1.03), xlabel="Accuracy of a nearest neighbour on noise")
ax.invert_yaxis()
handles, labels = ax.get_legend_handles_labels()
ax.legend(*zip(*dict(zip(labels, handles, strict=True)).items(), strict=True)[::-1])

plt.show()
