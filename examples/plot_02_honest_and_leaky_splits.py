"""
Honest and leaky splits side by side
====================================

A window of EEG resembles its neighbours more than anything else. If the windows of a
trial are in both the training and the test set, a classifier that recognises the
*trial* knows the label, without any knowledge of emotion. Published accuracies far
above 90 % often come from such a split.

To demonstrate this, the example writes a replica of SEED with ``effect_size=0``, whose
signals do not depend on the labels. Any score above chance on it is due to a leak.
(With your own copy of SEED, the difference between the protocols shows the effect of
the leak.)
"""

# License: BSD-3-Clause

import tempfile
import warnings

import mne
import pandas as pd
from matplotlib import pyplot as plt
from moabb.evaluations import WithinSessionEvaluation
from sklearn.model_selection import KFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from braindecode_emossl import SEED, Emotion, audit, evaluate, write_replica
from braindecode_emossl.errors import LeakageWarning
from braindecode_emossl.evaluation import chance_level
from braindecode_emossl.features import DifferentialEntropy, moving_average
from braindecode_emossl.visualization import plot_benchmark

subjects = [1, 2, 3]
scratch = tempfile.TemporaryDirectory()
path = mne.get_config("MNE_DATASETS_SEED_PATH") or write_replica(
    "SEED",
    f"{scratch.name}/SEED",
    subjects=subjects,
    seconds=6,
    seed=0,
    sessions=[0],
    effect_size=0,
)
corpus = SEED(subjects, sessions=[0], path=path)

# %%
# The usual features
# ------------------
#
# Differential entropy of each second, smoothed over five seconds. Steps that need no
# fit belong to the paradigm, which applies them run by run. A run of SEED is a trial,
# so smoothing does not cross trials.

paradigm = Emotion(
    window=1.0,
    features=make_pipeline(
        DifferentialEntropy(200), FunctionTransformer(moving_average)
    ),
)

# %%
# One classifier, three ways to split
# -----------------------------------
#
# A nearest-neighbour classifier knows nothing about emotion, but remembers every
# window. First, we use MOABB's evaluation within sessions, which shuffles windows. It
# is intended for tasks in which every window is a trial of its own, so a warning is
# issued here.

pipelines = {
    "Nearest neighbour": make_pipeline(StandardScaler(), KNeighborsClassifier(1))
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
# Then we use two protocols of this package. ``within-session`` holds out whole trials
# of a session, ``leave-one-subject-out`` a whole subject. All folds are checked before
# the first one is run.

honest = [
    evaluate(pipelines, [corpus], paradigm, protocol, random_state=0)
    for protocol in ("within-session", "leave-one-subject-out")
]
results = pd.concat(
    [
        shuffled.assign(
            protocol="shuffled windows",
            regime="subject-dependent",
            target_access="none",
        ),
        *honest,
    ],
    ignore_index=True,
)
print(results.groupby("protocol", sort=False)["score"].agg(["mean", "min", "max"]))

# %%
# Each dot is a subject, and the dashed line is the chance level. Even with hundreds of
# windows, scores vary around chance: the windows of a trial are not independent, so a
# subject of SEED gives only 15 independent answers. This is the accuracy that guessing
# rarely exceeds with so few:

X, y, metadata = paradigm.get_data(corpus, subjects=subjects[:1])
chance = chance_level(y, metadata["trial"])
print(chance)

fig = plot_benchmark(results, chance=chance.proportional)
fig.axes[0].axhspan(0, chance.threshold, color="0.93", zorder=0)
fig.axes[0].set(ylim=(0, 1.05), title="One classifier, three ways to split")

# %%
# Ask any way of splitting whether it leaks
# -----------------------------------------
#
# :func:`~braindecode_emossl.audit` performs such a test for your corpus, your paradigm
# and any splitter. It replaces the signals by noise in which each subject, stimulus and
# trial has a signature, and draws random labels many times. (For a splitter that uses
# groups, name them: ``audit(paradigm, corpus, GroupKFold(5), groups="trial")``.)

splits = {
    "KFold, shuffled": KFold(5, shuffle=True, random_state=0),
    "leave-one-subject-out": "leave-one-subject-out",
    "subject-stimulus": "subject-stimulus",
}
reports = {
    name: audit(paradigm, corpus, protocol, random_state=0)
    for name, protocol in splits.items()
}
for report in reports.values():
    print(report, end="\n\n")

# %%
# The dots must lie at chance, which they do wherever whole trials are held out; the
# grey bars contain the score in 95 % of the draws of labels. The diamonds show the
# score of a classifier that recognises the *stimulus*. All subjects of SEED see the
# same films, so leaving out a subject does not leave out a film; only
# ``subject-stimulus`` does both. Report both scores.

fig, ax = plt.subplots(figsize=(8, 3.2), layout="constrained")
rows = range(len(reports))
scores = [report.score for report in reports.values()]
of_stimuli = [report.stimulus_score for report in reports.values()]
low, high = zip(*(report.interval for report in reports.values()), strict=True)
ax.hlines(rows, low, high, color="0.7", linewidth=4)
ax.plot(scores, rows, "o", color="#0072B2", label="trials recognised")
ax.plot(
    of_stimuli, rows, "D", mfc="none", mec="#D55E00", ms=9, label="films recognised"
)
ax.axvline(report.chance, color="black", linestyle="--", linewidth=1, label="chance")
verdicts = ["passed" if report.passed else "leaks" for report in reports.values()]
names = [f"{name}: {verdict}" for name, verdict in zip(reports, verdicts, strict=True)]
ax.set_yticks(rows, names)
ax.set(xlim=(0, 1.03), xlabel="Accuracy of a nearest neighbour on noise")
ax.invert_yaxis()
ax.spines[["top", "right"]].set_visible(False)
fig.legend(loc="outside upper center", ncols=3, frameon=False)

plt.show()
