"""
Cross-corpus transfer
=====================

Does a classifier that was trained on one corpus work on another, with other people,
another amplifier and other stimuli? This is the hardest test, and the one that SCMM was
designed for. There are two protocols for it:

* ``cross-corpus``: one corpus is the training set and the other the test set;
* ``cross-corpus-finetune``: in addition, the first trials of the test subject are given
  with labels, as a calibration.

Without ``MNE_DATASETS_SEED_PATH`` and ``MNE_DATASETS_DEAP_PATH``, both corpora are
replicas with synthetic signals, in which an emotion affects the same regions and bands.
With ``effect_size=3``, it does so more strongly than in the default replicas, which are
as hard to classify as the real corpora.
"""

# License: BSD-3-Clause

import tempfile

import mne
import pandas as pd
from matplotlib import pyplot as plt
from mne.decoding import Vectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from braindecode_emossl import (
    DEAP,
    SEED,
    Emotion,
    SSLClassifier,
    evaluate,
    write_replica,
)
from braindecode_emossl.evaluation import compare_pipelines, summarize_results
from braindecode_emossl.visualization import plot_benchmark

subjects = [1, 2, 3]
scratch = tempfile.TemporaryDirectory()
seed_path = mne.get_config("MNE_DATASETS_SEED_PATH") or write_replica(
    "SEED",
    f"{scratch.name}/SEED",
    subjects=subjects,
    seconds=8,
    seed=0,
    sessions=[0],
    effect_size=3,
)
deap_path = mne.get_config("MNE_DATASETS_DEAP_PATH") or write_replica(
    "DEAP",
    f"{scratch.name}/DEAP",
    subjects=subjects,
    seconds=4,
    seed=0,
    effect_size=3,
)
corpora = [SEED(subjects, sessions=[0], path=seed_path), DEAP(subjects, path=deap_path)]

# %%
# Common labels
# -------------
#
# SEED has classes of emotion, DEAP has ratings. Valence is available for both: the
# neutral films of SEED are left out, and DEAP's ratings are divided at 5. The protocol
# matches the electrodes by name and uses the lower sampling rate.

paradigm = Emotion(
    "valence",
    window=1.0,
    features="de",
    fmin=4.0,
    fmax=45.0,
    cache_dir=f"{scratch.name}/features",
)
for corpus in corpora:
    print(corpus.code, paradigm.class_balance(corpus).sum().to_dict())

# %%
# Zero-shot, and with a calibration
# ---------------------------------
#
# SCMM is pre-trained on the training corpus. With a calibration, it is fine-tuned on
# the labelled trials of the test subject only, which is the authors' protocol. A
# classifier of scikit-learn is trained on the windows of both. The column
# ``target_access`` of the table states what a pipeline was given of the test subject:
# scores of different kinds are not comparable.

settings = {
    "model": "SCMM",
    "model__input_domain": "de",
    "finetune_steps": 50,
    "batch_size": 64,
    "random_state": 0,
}
pipelines = {
    "SCMM": SSLClassifier(
        **settings, pretrain_steps=50, memory=f"{scratch.name}/memory"
    ),
    "SCMM, random weights": SSLClassifier(**settings, pretrain_steps=0),
    "DE + logistic regression": make_pipeline(
        Vectorizer(), StandardScaler(), LogisticRegression(max_iter=1000)
    ),
}
results = pd.concat(
    [
        evaluate(pipelines, corpora, paradigm, protocol, random_state=0)
        for protocol in ("cross-corpus", "cross-corpus-finetune")
    ],
    ignore_index=True,
)

# %%
# ``dataset`` is the test corpus, ``train_corpora`` the training corpus.

columns = ["protocol", "train_corpora", "dataset", "channels", "target_access"]
print(results[columns].drop_duplicates().to_string(index=False))
print(summarize_results(results).round(2).to_string(index=False))

# %%
# Scores by corpus and protocol
# -----------------------------
#
# Significant differences between pipelines would be marked by a bracket. With three
# subjects none can be significant: the smallest possible p-value of a paired
# permutation test is then 1 in 4.

fig = plot_benchmark(results, score="balanced_accuracy", random_state=0)
fig.axes[0].set_ylim(0, 1)
fig.set_size_inches(12, 4.2)

pairs = compare_pipelines(results, score="balanced_accuracy", random_state=0)
print(pairs.drop(columns=["effect_size", "n_subjects"]).round(3).to_string(index=False))

# %%
# Electrodes that only one corpus has were left out. ``channels="union"`` keeps all of
# them and fills those that a corpus lacks with zeros, as SCMM's authors do.

plt.show()
