"""
The model zoo: weights from a folder, in and out
================================================

The models of this package are models of braindecode: after the import they are found
there by name, and a checkpoint is a folder that braindecode's ``from_pretrained``
reads. The other way round, any model of braindecode's zoo, with weights of your own or
of others, can be evaluated under the protocols of this package.

Nothing is downloaded here: all weights come from local folders. Names of the Hugging
Face Hub would work in their place.
"""

# License: BSD-3-Clause

import tempfile
from pathlib import Path

import mne
import torch
from braindecode import EEGClassifier
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
)
corpus = SEED(subjects, sessions=[0], path=path)
paradigm = Emotion(window=1.0, tmax=4.0, cache_dir=f"{scratch.name}/windows")
X, y, metadata = paradigm.get_data(corpus)

# %%
# Found by name
# -------------

print(len(models_dict), "models, among them", [n for n in models_dict if "Mood" in n])
model = models_dict["SCMM"](
    n_outputs=3, n_chans=X.shape[1], n_times=X.shape[2], sfreq=200
)
print(type(model).__name__, f"{sum(p.numel() for p in model.parameters()):,} weights")

# %%
# Out: a checkpoint
# -----------------
#
# Subjects 1 to 3 pre-train SCMM, here on signals: it computes differential entropy by
# itself. The folder holds the encoder, the heads of pre-training, what it was trained
# on, and a model card.

train = (metadata["subject"] != 4).to_numpy()
pretrainer = SSLPretrainer(SCMMPretraining(model), max_epochs=10, random_state=0)
pretrainer.fit(X[train], metadata=metadata[train])
checkpoint = Path(scratch.name, "scmm-seed")
save_checkpoint(checkpoint, pretrainer.module_, pretrainer.provenance_)
print(sorted(file.name for file in checkpoint.iterdir()))
print((checkpoint / "README.md").read_text().split("## Licence")[0])

# %%
# In: whoever has braindecode reads the encoder from it,

encoder = SCMM.from_pretrained(checkpoint).eval()

# %%
# and with this package the whole objective, to go on with the pre-training:

objective = load_checkpoint(checkpoint)
print(type(objective).__name__, objective.provenance)
same = torch.equal(objective.encoder.blocks[0][0].weight, encoder.blocks[0][0].weight)
print("The same weights:", same)

# %%
# Its features of subject 4, whom it has not seen, beside those of random weights. (The
# scaling of the inputs comes from the training windows in both.)

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
# Say somebody has trained a network of the zoo and gives us the folder. We make one,
# with random weights; on the Hub it would be a name such as
# ``"braindecode/labram-pretrained"``.

theirs = Path(scratch.name, "from-elsewhere")
ShallowFBCSPNet(
    n_outputs=3, n_chans=62, n_times=X.shape[2], sfreq=200, final_conv_length="auto"
).save_pretrained(theirs)

# %%
# A network that is built already is a module of :class:`~braindecode.EEGClassifier` as
# any other, and every fold fine-tunes a copy of it from these very weights. Nobody but
# its makers can say whether a test subject was among those who trained it: of the
# checkpoints of this package, :class:`~braindecode_emossl.SSLClassifier` can.
#
# What is compared here is random weights, trained for five epochs: mind the way, not
# the numbers.

torch.manual_seed(0)
zoo = EEGClassifier(
    ShallowFBCSPNet.from_pretrained(theirs),
    train_split=None,
    max_epochs=5,
    batch_size=32,
    lr=1e-3,
    verbose=0,
)
ours = SSLClassifier(
    "SCMM", pretrain_epochs=10, finetune_epochs=10, batch_size=32, random_state=0
)
results = evaluate(
    {"ShallowFBCSPNet, given weights": zoo, "SCMM, pre-trained in the fold": ours},
    [corpus],
    paradigm,
    "leave-one-subject-out",
    random_state=0,
)
print(results[["pipeline", "subject", "score", "score_trial"]])
fig = plot_benchmark(results)
fig.axes[0].set_ylim(0, 1)

plt.show()
