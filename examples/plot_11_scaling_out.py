"""
Scaling out: folds on a cluster, pre-training on several GPUs
=============================================================

Two things take time: many folds, which do not depend on each other, and long
pre-training, which can be shared by several GPUs. This example shows both in a size for
one process; the commands for more are beside them.
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
)
corpus = SEED(subjects, sessions=[0], path=path)
paradigm = Emotion(window=1.0, features="de", cache_dir=f"{scratch.name}/features")

# %%
# Folds on a cluster
# ------------------
#
# :func:`~braindecode_emossl.evaluate` keeps each finished fold in ``results_dir``. Jobs
# that see the same folder need nothing else: each runs one *share* of the folds, with
# the same arguments and the same integer as ``random_state``. Here are two shares, one
# after the other. A job that is killed and started again runs what is missing.

settings = {
    "model": "SCMM",
    "model_params": {"input_domain": "de"},
    "finetune_epochs": 10,
    "batch_size": 64,
    "random_state": 0,
}
pipelines = {
    "SCMM": SSLClassifier(**settings, pretrain_epochs=5),
    "SCMM, random weights": SSLClassifier(**settings, pretrain_epochs=0),
}


def run(share=None):
    """Run some of the folds, or gather all of them."""
    return evaluate(
        pipelines,
        [corpus],
        paradigm,
        "leave-one-subject-out",
        random_state=0,
        results_dir=f"{scratch.name}/results",
        share=share,
        on_fold=lambda code, n_done, n_folds: print(f"  {n_done} of {n_folds} folds"),
    )


for k in range(2):
    print(f"Job {k} of 2")
    run(share=(k, 2))

# %%
# A last call without ``share`` finds all folds finished, and makes the table:

results = run()
print(results[["pipeline", "subject", "score", "score_trial", "time"]])
fig = plot_benchmark(results)
fig.axes[0].set_ylim(0, 1)

# %%
# On a cluster with Slurm this is an array job of the command line, one share a task:
#
# .. code-block:: bash
#
#     #!/bin/bash
#     #SBATCH --array=0-14
#     emossl evaluate SEED \
#         --protocol leave-one-subject-out --features de --window 1 \
#         --results "$SCRATCH/emossl-results" --seed 0 \
#         --fold "$SLURM_ARRAY_TASK_ID" --of 15
#
# On one machine ``n_jobs=4`` runs four folds at a time, and within
# ``joblib.parallel_config("dask")`` the workers of a Dask cluster take them.
#
# Pre-training on several GPUs
# ----------------------------
#
# ``DistributedPretrainer`` is an :class:`~braindecode_emossl.SSLPretrainer` for a
# script that is started once for each GPU (``pip install
# "braindecode-emossl[distributed]"``). Contrast is over the batches of all processes,
# with the gradients of one large batch. Started once, as here, it trains alone:

X, y, metadata = paradigm.get_data(corpus)
n_chans, n_bands = X.shape[1:]
torch.manual_seed(0)
model = SCMM(n_outputs=3, n_chans=n_chans, n_times=n_bands, input_domain="de")
pretrainer = DistributedPretrainer(
    SCMMPretraining(model),
    max_epochs=8,
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
# ``checkpoint_dir`` keeps the state after every epoch. With ``resume=True`` a run that
# was cut off, by the time limit of a queue, goes on where it was, and ends with the
# weights of one that never stopped. To go on longer, raise ``max_epochs``:

pretrainer.set_params(max_epochs=12).fit(X, metadata=metadata)
print(len(pretrainer.history_), "epochs in all")

# %%
# The same script as two processes on one machine, or on four GPUs of each of two:
#
# .. code-block:: bash
#
#     torchrun --nproc-per-node 2 pretrain.py
#     torchrun --nnodes 2 --nproc-per-node 4 --node-rank 0 \
#         --master-addr 10.0.0.1 --master-port 29500 pretrain.py
#
# A step then sees the windows of all processes together, so the learning rate should
# fit the batch as a whole.

plt.show()
