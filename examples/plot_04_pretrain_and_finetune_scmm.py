"""
Pre-train and fine-tune SCMM
============================

Self-supervised pre-training needs no labels: SCMM learns to distinguish masked windows
and to reconstruct the masked parts, and is then fine-tuned with labels. It matters
whose windows it was pre-trained on. If a test subject is among them, the score is no
longer that of an unknown subject, even though no labels were used.

This example pre-trains step by step, saves the result as a checkpoint that records its
training subjects, and then uses :class:`~braindecode_emossl.SSLClassifier` to do both
steps within every fold. The networks are trained far too briefly and on synthetic
signals, so the scores say nothing about the method. (With ``effect_size=3``, the
emotions have stronger effects than by default, where the replica is as hard to classify
as the real corpus.)
"""

# License: BSD-3-Clause

import tempfile

import mne
import torch
from matplotlib import pyplot as plt

from braindecode_emossl import (
    SCMM,
    SEED,
    Emotion,
    LeakageError,
    SCMMPretraining,
    SSLClassifier,
    SSLPretrainer,
    evaluate,
    write_replica,
)
from braindecode_emossl.evaluation import read_predictions
from braindecode_emossl.visualization import (
    plot_benchmark,
    plot_confusion_matrix,
    plot_history,
)

subjects = [1, 2, 3, 4]
scratch = tempfile.TemporaryDirectory()
path = mne.get_config("MNE_DATASETS_SEED_PATH") or write_replica(
    "SEED",
    f"{scratch.name}/SEED",
    subjects=subjects,
    seconds=6,
    seed=0,
    sessions=[0],
    effect_size=3,
)
corpus = SEED(subjects, sessions=[0], path=path)

# %%
# Step by step
# ------------
#
# The fourth subject is the test set, and the first three are the training set. As in
# the authors' code, the input is the differential entropy of each second. With
# ``cache_dir`` it is computed once.

paradigm = Emotion(window=1.0, features="de", cache_dir=f"{scratch.name}/features")
X, y, metadata = paradigm.get_data(corpus)
train = (metadata["subject"] != 4).to_numpy()
n_chans, n_bands = X.shape[1:]

torch.manual_seed(0)
model = SCMM(n_outputs=3, n_chans=n_chans, n_times=n_bands, input_domain="de")
print(f"{sum(p.numel() for p in model.parameters()):,} weights")

# %%
# An *objective* adds heads and losses to the model. The pre-trainer is a
# :class:`skorch.NeuralNet`, so callbacks and history work as usual. ``validation``
# holds out a share of the *subjects* for a validation loss.

pretrainer = SSLPretrainer(
    SCMMPretraining(model),
    max_steps=50,
    batch_size=64,
    warmup_steps=5,
    schedule="cosine",
    validation=0.3,
    checkpoint_dir=f"{scratch.name}/pretraining",
    random_state=0,
)
pretrainer.fit(X[train], metadata=metadata[train])

# %%
# The loss is the weighted sum of two terms, whose weights are learned as well.

fig = plot_history(pretrainer.history_)

# %%
# A checkpoint that records its training subjects
# -----------------------------------------------
#
# ``checkpoint_dir`` now contains the trained objective, with its weights as safetensors
# and its *provenance*. A classifier builds the model from the configuration of the
# checkpoint, and fine-tunes it with labels. The metadata identify the training
# subjects:

checkpoint = f"{scratch.name}/pretraining/trained"
print(pretrainer.provenance_)

classifier = SSLClassifier(pretrained=checkpoint, finetune_steps=50, random_state=0)
classifier.fit(X[train], y[train], metadata=metadata[train])
print(f"Subject 4: {classifier.score(X[~train], y[~train]):.2f}, chance is 0.33")

# %%
# If subject 3 is to be tested, the same checkpoint is refused, because it was
# pre-trained on windows of this subject:

others = (metadata["subject"] != 3).to_numpy()
try:
    classifier.fit(X[others], y[others], metadata=metadata[others])
except LeakageError as error:
    print(error)

# %%
# Within every fold
# -----------------
#
# Usually none of this is necessary. Without a checkpoint, the classifier pre-trains in
# ``fit`` on its training windows, so that pre-training is part of the fold in every
# protocol. With ``memory``, identical pre-training runs are computed once and reused by
# pipelines that differ only in fine-tuning. ``pretrain_steps=0`` trains the same
# network from random weights. The ranking is meaningless here: the windows are few and
# synthetic, and the steps are few.

settings = {
    "model": "SCMM",
    "model__input_domain": "de",
    "batch_size": 64,
    "finetune_steps": 50,
    "random_state": 0,
}
pretrained = {**settings, "pretrain_steps": 40, "memory": f"{scratch.name}/memory"}
pipelines = {
    "Random weights": SSLClassifier(**settings, pretrain_steps=0),
    "Pre-trained, all weights": SSLClassifier(**pretrained),
    "Pre-trained, head only": SSLClassifier(**pretrained, finetune="linear-probe"),
}
results = evaluate(
    pipelines,
    [corpus],
    paradigm,
    "leave-one-subject-out",
    results_dir=f"{scratch.name}/results",
    random_state=0,
)
print(results[["pipeline", "subject", "score", "score_trial", "f1_macro", "kappa"]])

fig = plot_benchmark(results)
fig.axes[0].set_ylim(0, 1)

# %%
# Which emotions are confused? The predictions of every fold are on disk:

predictions = read_predictions(f"{scratch.name}/results")
shown = predictions[predictions["pipeline"] == "Pre-trained, all weights"]
fig = plot_confusion_matrix(shown["label"], shown["predicted"])

plt.show()
