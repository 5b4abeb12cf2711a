"""
Four controls that catch a wrong conclusion
===========================================

A score above chance can have many causes, and a score at chance as well. This example
produces four of them on purpose, and shows the control that reveals each:

* a leaky split, by the **audit** and by **permuted labels**;
* a corpus without any effect of the labels, by **permuted labels**;
* features that identify the subject, by a **probe**;
* a pipeline that might be unable to learn, by an **injected signal**.

The corpus is a replica of SEED with ``effect_size=0``: its signals do not depend on the
labels, but subjects and trials differ as they do in real recordings. (With your own
copy of SEED, the same code shows what your score rests on.)
"""

# License: BSD-3-Clause

import tempfile

import mne
import numpy as np
from matplotlib import pyplot as plt
from sklearn.model_selection import KFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from braindecode_emossl import SEED, Emotion, audit, evaluate, write_replica
from braindecode_emossl.evaluation import summarize_controls, with_baselines

subjects = [1, 2, 3, 4]
scratch = tempfile.TemporaryDirectory()
path = mne.get_config("MNE_DATASETS_SEED_PATH") or write_replica(
    "SEED",
    f"{scratch.name}/SEED",
    subjects=subjects,
    seconds=6,
    seed=1,
    sessions=[0],
    effect_size=0,
)
corpus = SEED(subjects, sessions=[0], path=path)
blue, orange, grey = "#0072B2", "#D55E00", "0.6"

# For speed we use sixteen channels at 128 Hz.
channels = ["Fp1", "Fp2", "F7", "F3", "F4", "F8", "T7", "C3", "C4", "T8", "P7", "P3"]
channels += ["P4", "P8", "O1", "O2"]
settings = {"window": 2.0, "channels": channels, "resample": 128.0}

# %%
# A leaky split
# -------------
#
# If windows are shuffled before they are split, windows of a trial are in the training
# set and in the test set. A nearest neighbour then recognises the trial. The score is
# far above chance, although the signals do not depend on the labels.
#
# Permuted labels reveal this. They are permuted among the trials of a subject, so that
# all windows of a trial keep one label. Nothing about emotion is left, and the score
# stays.

paradigm = Emotion(**settings, features="de")
X, y, metadata = paradigm.get_data(corpus)
windows = X.reshape(len(X), -1)
trial = ["subject", "trial"]
table = metadata[trial].assign(label=y).drop_duplicates()
rng = np.random.default_rng(0)
table["permuted"] = table.groupby("subject")["label"].transform(rng.permutation)
permuted = metadata[trial].merge(table, how="left")["permuted"].to_numpy()

neighbour = make_pipeline(StandardScaler(), KNeighborsClassifier(1))
shuffled = KFold(5, shuffle=True, random_state=0)
leaky = {
    name: cross_val_score(neighbour, windows, labels, cv=shuffled).mean()
    for name, labels in {"true labels": y, "permuted labels": permuted}.items()
}
print(leaky)

# %%
# :func:`~braindecode_emossl.audit` asks the splitter itself. It replaces the signals by
# noise with a signature for each trial, and draws random labels many times. No protocol
# of ``evaluate`` leaks in this way.

report = audit(paradigm, corpus, shuffled, random_state=0)
print(report)

fig, ax = plt.subplots(figsize=(6, 3), layout="constrained")
bars = leaky | {"audit: noise,\nrandom labels": report.score}
ax.bar(list(bars), list(bars.values()), color=[blue, grey, orange], width=0.5)
ax.axhline(1 / 3, color="black", linestyle="--", linewidth=1)
ax.set(
    ylim=(0, 1.05), ylabel="Accuracy", title="Shuffled windows of a label-free corpus"
)
ax.spines[["top", "right"]].set_visible(False)

# %%
# Controls of an evaluation
# -------------------------
#
# Under a protocol that holds out subjects, a score has other causes. With ``controls``,
# ``evaluate`` repeats the evaluation on changed folds, and with ``probes`` it measures
# what a linear classifier reads from the features.

name = "DE + logistic regression"
pipelines = {name: with_baselines({})[name]}
results = evaluate(
    pipelines,
    [corpus],
    paradigm,
    "leave-one-subject-out",
    random_state=0,
    controls=[("permuted-labels", {"n_permutations": 19})],
    probes=True,
)
compared = summarize_controls(results).iloc[0]
print(compared[["reference", "mean", "n_draws", "p_value"]])

# %%
# A corpus without an effect
# --------------------------
#
# On the replica the mean over subjects is above a third. Is that a result? After
# training on permuted labels there is nothing to learn, and the mean varies as the
# histogram shows. The score with the true labels lies among these values, and the
# p-value is large.

is_result = results["control"] == ""
null = results[results["control"].str.startswith("permuted")]
null = null.groupby("control_part")["score"].mean()
score = results.loc[is_result, "score"].mean()

fig, ax = plt.subplots(figsize=(6, 3), layout="constrained")
ax.hist(null, bins=10, color=grey, label="permuted labels")
ax.axvline(score, color=blue, linewidth=2, label="true labels")
ax.axvline(1 / 3, color="black", linestyle="--", linewidth=1, label="chance")
ax.set(xlabel="Accuracy, mean over subjects", ylabel="Permutations")
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False)

# %%
# Features that identify the subject
# ----------------------------------
#
# The same features are not empty. A linear probe reads from them who is recorded, in
# trials that it was not fitted on. It reads the label at chance. Features in which
# subjects differ so much need many subjects, or a scaling by subject, before a
# classifier can transfer.

probes = results[is_result].filter(like="probe_").mean()
targets = ["subject", "stimulus", "label"]
ratios = [probes[f"probe_{target}_ratio"] for target in targets]
print(probes[[f"probe_{target}" for target in targets]])

fig, ax = plt.subplots(figsize=(6, 2.4), layout="constrained")
bars = ax.barh(targets, ratios, color=[orange, grey, grey], height=0.6)
texts = [f" {probes[f'probe_{target}']:.2f}" for target in targets]
ax.bar_label(bars, texts)
ax.axvline(1, color="black", linestyle="--", linewidth=1)
ax.set(xlim=(0, 4.5), xlabel="Balanced accuracy of a linear probe, times chance")
ax.spines[["top", "right"]].set_visible(False)
ax.invert_yaxis()

# %%
# Could the pipeline have found anything?
# ---------------------------------------
#
# A score at chance says something about the corpus only if the pipeline finds an effect
# where there is one. ``injected-signal`` adds an oscillation of each class to training
# and test windows, at a stated ratio to the signal. It is added to the raw windows, of
# which the pipeline computes differential entropy.

injected = evaluate(
    pipelines,
    [corpus],
    Emotion(**settings),
    "leave-one-subject-out",
    random_state=0,
    controls=[("injected-signal", {"snr": snr}) for snr in (0.2, 0.5)],
)
print(summarize_controls(injected)[["control", "mean", "difference", "p_value"]])

# %%
# The pipeline finds the signal in every subject, so its score at chance is not due to
# too little data, too little training or a defect.

fig, ax = plt.subplots(figsize=(6, 3), layout="constrained")
labels = {"": "none"}
labels |= {f"injected-signal(snr={snr})": f"SNR {snr}" for snr in (0.2, 0.5)}
for place, control in enumerate(labels):
    scores = injected.loc[injected["control"] == control, "score"]
    ax.plot(np.full(len(scores), place), scores, "o", color=grey, alpha=0.7)
    ax.plot(place, scores.mean(), "_", color=blue, markersize=40, markeredgewidth=3)
ax.axhline(1 / 3, color="black", linestyle="--", linewidth=1)
ax.set_xticks(range(len(labels)), labels.values())
ax.set(xlim=(-0.5, 2.5), ylim=(0, 1.05), xlabel="Injected signal", ylabel="Accuracy")
ax.spines[["top", "right"]].set_visible(False)

plt.show()

# %%
# All of these controls are rows of the table, and ``emossl report`` shows them. Its
# reporting card states the permuted labels next to the majority baseline.
