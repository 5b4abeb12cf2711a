"""
Cross-corpus transfer
=====================

Does what was learned on one corpus hold on another, with other people, another
amplifier and other stimuli? This is the hardest test there is, and the one that SCMM
was made for. Two protocols ask it here:

* ``cross-corpus``: one corpus trains, the other tests, and nothing of it is seen;
* ``cross-corpus-finetune``: the same, but the first trials of the test subject come
  with their labels, as a calibration.

Without ``MNE_DATASETS_SEED_PATH`` and ``MNE_DATASETS_DEAP_PATH`` both corpora are
replicas with synthetic signals, in which emotion does the same in both.
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
)
deap_path = mne.get_config("MNE_DATASETS_DEAP_PATH") or write_replica(
    "DEAP", f"{scratch.name}/DEAP", subjects=subjects, seconds=4, seed=0
)
corpora = [SEED(subjects, sessions=[0], path=seed_path), DEAP(subjects, path=deap_path)]

# %%
# One question for both
# ---------------------
#
# SEED has classes of emotion, DEAP has ratings. The valence can be had from both: the
# neutral films of SEED are left out, and DEAP's ratings are cut at 5. Electrodes are
# matched by name, and the lower sampling rate is taken, by the protocol itself.

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
# SCMM pre-trains on the corpus that trains. With a calibration it is fine-tuned on the
# labelled trials of the test subject alone, which is the authors' protocol; a
# classifier of scikit-learn is given the windows of both.

settings = {
    "model": "SCMM",
    "model_params": {"input_domain": "de"},
    "finetune_epochs": 10,
    "random_state": 0,
}
pipelines = {
    "SCMM": SSLClassifier(
        **settings, pretrain_epochs=10, store=f"{scratch.name}/pretrained"
    ),
    "SCMM, random weights": SSLClassifier(**settings, pretrain_epochs=0),
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
# ``dataset`` is the corpus that tests; ``train_corpora`` says which train.

print(results[["train_corpora", "dataset", "channels"]].drop_duplicates())
print(summarize_results(results).round(2).to_string(index=False))

# %%
# Scores by corpus and protocol
# -----------------------------
#
# Differences between pipelines that are significant would be marked by a bracket. With
# three subjects none can be: the least p-value that a paired permutation test can give
# is then 1 in 4, whatever the difference.

fig = plot_benchmark(results, score="balanced_accuracy", random_state=0)
fig.axes[0].set_ylim(0, 1)
fig.set_size_inches(12, 4.2)

pairs = compare_pipelines(results, score="balanced_accuracy", random_state=0)
print(pairs.drop(columns=["effect_size", "n_subjects"]).round(3).to_string(index=False))

# %%
# Electrodes that only one corpus has were left out here. With ``channels="union"`` all
# are kept, and what a corpus lacks is filled with zeros, as SCMM's authors do.

plt.show()
