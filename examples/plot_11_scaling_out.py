"""
Scaling out: folds on a cluster, pre-training on several GPUs
=============================================================

Two things take time: many folds, which are independent of each other, and long
pre-training, which can use several GPUs. This example shows both at a size for one
process, with the commands for more. The signals are synthetic, with an effect of
emotion three times that of the default, which is as hard as the real corpus.
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
    SCMMPretraining,
    SSLClassifier,
    evaluate,
    write_replica,
)
from braindecode_emossl.pretraining.distributed import DistributedPretrainer
from braindecode_emossl.visualization import plot_benchmark, plot_history

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
paradigm = Emotion(window=1.0, features="de", cache_dir=f"{scratch.name}/features")

# %%
# Folds on a cluster
# ------------------
#
# :func:`~braindecode_emossl.evaluate` stores each finished fold in ``results_dir``.
# Jobs only have to share this folder: each runs one *shard* of the folds, with the same
# arguments and the same integer as ``random_state``. Here we run two shards, one after
# the other. If a job is interrupted, run it again to complete the missing folds.

settings = {
    "model": "SCMM",
    "model__input_domain": "de",
    "finetune_steps": 40,
    "batch_size": 64,
    "random_state": 0,
}
pipelines = {
    "SCMM": SSLClassifier(**settings, pretrain_steps=20),
    "SCMM, random weights": SSLClassifier(**settings, pretrain_steps=0),
}


def run(shard=None):
    """Run some of the folds, or collect all of them."""
    return evaluate(
        pipelines,
        [corpus],
        paradigm,
        "leave-one-subject-out",
        random_state=0,
        results_dir=f"{scratch.name}/results",
        shard=shard,
        on_fold=lambda code, n_done, n_folds: print(f"  {n_done} of {n_folds} folds"),
    )


for k in range(2):
    print(f"Job {k} of 2")
    run(shard=(k, 2))

# %%
# A last call without ``shard`` finds all folds finished and returns the table:

results = run()
print(results[["pipeline", "subject", "score", "score_trial", "time"]])
fig = plot_benchmark(results)
fig.axes[0].set_ylim(0, 1)

# %%
# On a cluster with Slurm, this is an array job with one shard per task:
#
# .. code-block:: bash
#
#     #!/bin/bash
#     #SBATCH --array=0-14
#     emossl evaluate SEED \
#         --protocol leave-one-subject-out --features de --window 1 \
#         --results "$SCRATCH/emossl-results" --seed 0 \
#         --shard "$SLURM_ARRAY_TASK_ID/15"
#
# On one machine, ``n_jobs=4`` runs four folds at a time. Within
# ``joblib.parallel_config("dask")``, the folds run on a Dask cluster.
#
# Pre-training on several GPUs
# ----------------------------
#
# ``DistributedPretrainer`` is an :class:`~braindecode_emossl.SSLPretrainer` for a
# script that is started once per GPU (``pip install
# "braindecode-emossl[distributed]"``). Contrastive losses use the batches of all
# processes, and the gradients are those of one large batch. Here it is started once,
# and trains in one process:

X, y, metadata = paradigm.get_data(corpus)
n_chans, n_bands = X.shape[1:]
torch.manual_seed(0)
model = SCMM(n_outputs=3, n_chans=n_chans, n_times=n_bands, input_domain="de")
pretrainer = DistributedPretrainer(
    SCMMPretraining(model),
    max_steps=32,
    batch_size=64,
    validation=0.25,
    checkpoint_dir=f"{scratch.name}/pretraining",
    resume=True,
    random_state=0,
    device="cpu",
)
pretrainer.fit(X, metadata=metadata)
fig = plot_history(pretrainer.history_)

# %%
# ``checkpoint_dir`` holds the state of the training. With ``resume=True``, a training
# that was interrupted, for example by the time limit of a queue, resumes from it, and
# ends with the same weights as an uninterrupted one. To train longer, raise
# ``max_steps``:

pretrainer.set_params(max_steps=48).fit(X, metadata=metadata)
print(pretrainer.n_steps_, "steps in all")

# %%
# The same script in two processes on one machine, or on two machines with four GPUs
# each:
#
# .. code-block:: bash
#
#     torchrun --nproc-per-node 2 pretrain.py
#     torchrun --nnodes 2 --nproc-per-node 4 --node-rank 0 \
#         --master-addr 10.0.0.1 --master-port 29500 pretrain.py
#
# A step then uses the windows of all processes together, so choose the learning rate
# for the whole batch.

plt.show()
