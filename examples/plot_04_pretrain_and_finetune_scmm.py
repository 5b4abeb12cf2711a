"""
Pre-train and fine-tune SCMM
============================

Self-supervised pre-training needs no labels: SCMM learns to tell masked windows apart
and to restore what was masked, and is fine-tuned with labels afterwards. What makes it
easy to fool oneself is *whose* windows it was pre-trained on. If a test subject is
among them, the test is no longer one of an unknown subject, labels or not.

This example pre-trains step by step, keeps the result as a checkpoint that knows whom
it has seen, and then lets :class:`~braindecode_emossl.SSLClassifier` do both steps
inside every fold. The networks are trained far too briefly, on synthetic signals: the
scores say nothing about the method.
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
)
corpus = SEED(subjects, sessions=[0], path=path)

# %%
# Step by step
# ------------
#
# The fourth subject will test, so the windows of the first three train. As in the
# authors' code, the model is given differential entropy by the second. With
# ``cache_dir`` it is computed once.

paradigm = Emotion(window=1.0, features="de", cache_dir=f"{scratch.name}/features")
X, y, metadata = paradigm.get_data(corpus)
train = (metadata["subject"] != 4).to_numpy()
n_chans, n_bands = X.shape[1:]

torch.manual_seed(0)
model = SCMM(n_outputs=3, n_chans=n_chans, n_times=n_bands, input_domain="de")
print(f"{sum(p.numel() for p in model.parameters()):,} weights")

# %%
# An *objective* is the model with what pre-training adds to it: heads and losses. The
# trainer is a :class:`skorch.NeuralNet`, so that callbacks and the like work as usual.
# ``validation`` holds out a share of the *subjects*, for a loss that was not trained
# on.

pretrainer = SSLPretrainer(
    SCMMPretraining(model),
    max_epochs=20,
    batch_size=64,
    warmup_epochs=2,
    schedule="cosine",
    validation=0.3,
    checkpoint_dir=f"{scratch.name}/pretraining",
    random_state=0,
)
pretrainer.fit(X[train], metadata=metadata[train])

# %%
# The loss is the sum of the two terms, weighed against each other by weights that are
# learned too.

fig = plot_history(pretrainer.history_)

# %%
# A checkpoint that knows whom it has seen
# ----------------------------------------
#
# ``checkpoint_dir`` now holds the trained objective, with its weights as safetensors
# and a *provenance*. A classifier that starts from it fine-tunes with labels:

checkpoint = f"{scratch.name}/pretraining/trained"
print(pretrainer.provenance_)

classifier = SSLClassifier(
    "SCMM",
    checkpoint=checkpoint,
    corpus="SEED",
    model_params={"input_domain": "de"},
    finetune_epochs=10,
    random_state=0,
)
classifier.fit(X[train], y[train], subjects=metadata["subject"][train])
print(f"Subject 4: {classifier.score(X[~train], y[~train]):.2f}, chance is 0.33")

# %%
# The same checkpoint for a test of subject 3, whose windows it was pre-trained on, is
# refused:

others = (metadata["subject"] != 3).to_numpy()
try:
    classifier.fit(X[others], y[others], subjects=metadata["subject"][others])
except LeakageError as error:
    print(error)

# %%
# Inside every fold
# -----------------
#
# Usually there is no need for any of this. Without a checkpoint the classifier
# pre-trains in ``fit``, on the windows it is given, so that under any protocol the
# pre-training is part of the fold. With ``store``, pipelines that differ in
# fine-tuning alone share it. Read nothing into who wins here: the windows are few and
# synthetic, and the epochs fewer.

settings = {
    "model": "SCMM",
    "model_params": {"input_domain": "de"},
    "batch_size": 64,
    "finetune_epochs": 10,
    "random_state": 0,
}
pretrained = {**settings, "pretrain_epochs": 10, "store": f"{scratch.name}/store"}
pipelines = {
    "Random weights": SSLClassifier(**settings, pretrain_epochs=0),
    "Pre-trained, all weights": SSLClassifier(**pretrained),
    "Pre-trained, head alone": SSLClassifier(**pretrained, finetune="linear-probe"),
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
# Which emotion is taken for which? The predictions of every fold are on disk:

predictions = read_predictions(f"{scratch.name}/results")
shown = predictions[predictions["pipeline"] == "Pre-trained, all weights"]
fig = plot_confusion_matrix(shown["label"], shown["predicted"])

plt.show()
