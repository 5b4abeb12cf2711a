"""
The model zoo: weights from a folder, in and out
================================================

The models of this package are braindecode models: after the import they are available
there by name, and braindecode's ``from_pretrained`` reads their checkpoints.
Conversely, any model of braindecode, with weights of your own or of others, can be
evaluated with the protocols of this package.

Nothing is downloaded: all weights come from local folders. Names of repositories on the
Hugging Face Hub can be used instead. The signals are synthetic, with an effect of
emotion three times that of the default, which is as hard as the real corpus.
"""

# License: BSD-3-Clause

import tempfile
from pathlib import Path

import mne
import torch
from braindecode.models import ShallowFBCSPNet
from braindecode.models.util import models_dict
from matplotlib import pyplot as plt

from braindecode_emossl import (
    SCMM,
    SEED,
    Emotion,
    SCMMPretraining,
    SSLClassifier,
    SSLPretrainer,
    evaluate,
    load_checkpoint,
    save_checkpoint,
    write_replica,
)
from braindecode_emossl.visualization import plot_benchmark, plot_embeddings

subjects = [1, 2, 3, 4]
scratch = tempfile.TemporaryDirectory()
path = mne.get_config("MNE_DATASETS_SEED_PATH") or write_replica(
    "SEED",
    f"{scratch.name}/SEED",
    subjects=subjects,
    seconds=4,
    seed=0,
    sessions=[0],
    effect_size=3,
)
corpus = SEED(subjects, sessions=[0], path=path)
paradigm = Emotion(window=1.0, tmax=4.0, cache_dir=f"{scratch.name}/windows")
X, y, metadata = paradigm.get_data(corpus)

# %%
# Models by name
# --------------

print(len(models_dict), "models, among them", [n for n in models_dict if "Mood" in n])
model = models_dict["SCMM"](
    n_outputs=3, n_chans=X.shape[1], n_times=X.shape[2], sfreq=200
)
print(type(model).__name__, f"{sum(p.numel() for p in model.parameters()):,} weights")

# %%
# Save a checkpoint
# -----------------
#
# SCMM is pre-trained on subjects 1 to 3, here on signals: it computes the differential
# entropy itself. The checkpoint contains the encoder, the heads of pre-training, the
# provenance, and a model card.

train = (metadata["subject"] != 4).to_numpy()
pretrainer = SSLPretrainer(SCMMPretraining(model), max_steps=10, random_state=0)
pretrainer.fit(X[train], metadata=metadata[train])
checkpoint = Path(scratch.name, "scmm-seed")
save_checkpoint(checkpoint, pretrainer.module_, pretrainer.provenance_)
print(sorted(file.name for file in checkpoint.iterdir()))
print((checkpoint / "README.md").read_text().split("## Licence")[0])

# %%
# braindecode can load the encoder from it,

encoder = SCMM.from_pretrained(checkpoint).eval()

# %%
# and this package also the whole objective, to continue the pre-training:

objective = load_checkpoint(checkpoint)
print(type(objective).__name__, objective.provenance)
same = torch.equal(objective.encoder.blocks[0][0].weight, encoder.blocks[0][0].weight)
print("The same weights:", same)

# %%
# We compare its features of subject 4, who is not in the training set, with those of
# random weights. (In both cases, the inputs are scaled by the training windows.)

torch.manual_seed(1)
untrained = SCMM(n_outputs=3, n_chans=X.shape[1], n_times=X.shape[2], sfreq=200).eval()
untrained.fit_normalization(X[train])

fig, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
for ax, (title, network) in zip(
    axes, {"random": untrained, "pre-trained": encoder}.items(), strict=True
):
    with torch.no_grad():
        windows = torch.as_tensor(X[~train], dtype=torch.float32)
        features = network(windows, return_features=True)["features"]
    plot_embeddings(features, metadata[~train].assign(label=y[~train]), ax=ax)
    ax.set_title(f"SCMM, {title}")

# %%
# A model of braindecode with weights from a folder
# -------------------------------------------------
#
# Suppose that somebody has trained a braindecode model and gives us the folder. Here we
# save one with random weights; on the Hub it would be a name such as
# ``"braindecode/labram-pretrained"``.

theirs = Path(scratch.name, "from-elsewhere")
ShallowFBCSPNet(
    n_outputs=3, n_chans=62, n_times=X.shape[2], sfreq=200, final_conv_length="auto"
).save_pretrained(theirs)

# %%
# With ``pretrained``, :class:`~braindecode_emossl.SSLClassifier` loads these weights by
# ``from_pretrained`` of the model, and every fold fine-tunes a copy of them. A
# checkpoint of this package states its training subjects, so it can be refused if it
# has seen a test subject. Here they are unknown, which is why a warning is issued.
#
# The weights are random and trained briefly, so the scores mean nothing.

settings = {"finetune_steps": 50, "batch_size": 32, "random_state": 0}
pipelines = {
    "ShallowFBCSPNet, given weights": SSLClassifier(
        ShallowFBCSPNet, pretrained=theirs, **settings
    ),
    "SCMM, pre-trained in the fold": SSLClassifier(
        "SCMM", pretrain_steps=50, **settings
    ),
}
results = evaluate(
    pipelines,
    [corpus],
    paradigm,
    "leave-one-subject-out",
    random_state=0,
)
print(results[["pipeline", "subject", "score", "score_trial"]])
fig = plot_benchmark(results)
fig.axes[0].set_ylim(0, 1)

plt.show()
