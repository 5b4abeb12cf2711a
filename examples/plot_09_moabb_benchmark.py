"""
A MOABB benchmark with statistics
=================================

Importing this package registers its corpora and its paradigm with MOABB, so MOABB's
evaluations, result files and plots can be used. This example runs one of the
evaluations on two corpora, with pipelines that ship with the package, and tests which
differences are significant.

Without your own copies, the corpora are replicas with synthetic signals. With
``effect_size=3``, emotions have stronger effects than in the default replicas, which
are as hard to classify as the real corpora.
"""

# License: BSD-3-Clause

import tempfile
import warnings

import mne
from matplotlib import pyplot as plt
from mne.decoding import Vectorizer
from moabb.evaluations import CrossSubjectEvaluation
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from braindecode_emossl import DEAP, SEED, Emotion, write_replica
from braindecode_emossl.evaluation import (
    compare_pipelines,
    load_pipelines,
    pipelines_folder,
    summarize_results,
)
from braindecode_emossl.visualization import plot_benchmark

# MOABB 1.7 creates its result files in a way that h5py has deprecated.
warnings.filterwarnings("ignore", module=r"moabb\.analysis")

subjects = [1, 2, 3, 4, 5, 6, 7, 8]
scratch = tempfile.TemporaryDirectory()
seed_path = mne.get_config("MNE_DATASETS_SEED_PATH") or write_replica(
    "SEED",
    f"{scratch.name}/SEED",
    subjects=subjects,
    seconds=4,
    seed=0,
    sessions=[0],
    effect_size=3,
)
deap_path = mne.get_config("MNE_DATASETS_DEAP_PATH") or write_replica(
    "DEAP",
    f"{scratch.name}/DEAP",
    subjects=subjects,
    seconds=2,
    seed=0,
    effect_size=3,
)
corpora = [SEED(subjects, sessions=[0], path=seed_path), DEAP(subjects, path=deap_path)]

# %%
# Pipelines
# ---------
#
# The package ships pipelines as YAML files in MOABB's format. These are the pipelines
# for windows of differential entropy. To keep this example short, we use two of them,
# without the search, and add one of our own.

shipped, grids = load_pipelines(pipelines_folder("de"))
print([*shipped], grids)
pipelines = {
    "DE + logistic regression": shipped["DE + logistic regression"],
    "DE + SVM": shipped["DE + SVM"].set_params(linearsvc__C=0.01),
    "DE + neighbours": make_pipeline(
        Vectorizer(), StandardScaler(), KNeighborsClassifier(15)
    ),
}

# %%
# An evaluation of MOABB
# ----------------------
#
# One subject is left out at a time. (Of MOABB's evaluations, this one and the one
# across sessions are valid for emotion; the one within sessions shuffles windows, see
# :ref:`sphx_glr_auto_examples_plot_02_honest_and_leaky_splits.py`.) With
# ``return_epochs=True``, pipelines are given Epochs with their metadata instead of
# arrays, which MEMHACL needs.

evaluation = CrossSubjectEvaluation(
    paradigm=Emotion("valence", window=1.0, features="de"),
    datasets=corpora,
    hdf5_path=scratch.name,
    overwrite=True,
)
results = evaluation.process(pipelines)
results = results.sort_values(["dataset", "pipeline", "subject"], ignore_index=True)
print(results[["dataset", "subject", "session", "pipeline", "score"]].head())

# %%
# MOABB has its own plots. Importing them changes the style of all later figures, so we
# restrict the change to this one.

with plt.rc_context():
    from moabb.analysis.plotting import score_plot

    fig, _ = score_plot(results)

# %%
# Which differences are significant?
# ----------------------------------
#
# The unit is the subject, because windows and sessions of a subject are not
# independent. Means over subjects with their confidence intervals:

print(summarize_results(results).round(3).to_string(index=False))

# %%
# Paired permutation tests over subjects, corrected for the number of pairs by Holm's
# method. With eight subjects, the smallest possible p-value is 1 in 128.

pairs = compare_pipelines(results, random_state=0)
columns = ["dataset", "pipeline_1", "pipeline_2", "difference", "effect_size"]
print(pairs[[*columns, "p_corrected"]].round(3).to_string(index=False))

# %%
# The same as a figure: brackets connect pipelines that differ significantly. MOABB's
# tables do not contain the number of classes, so we pass the chance level.

fig = plot_benchmark(results, chance=0.5, random_state=0)
fig.axes[0].set_title("Valence, leave one subject out")

# %%
# Whole corpora
# -------------
#
# MOABB's ``benchmark`` uses the corpora by name, with all their subjects and sessions,
# from the folders in ``MNE_DATASETS_SEED_PATH`` and ``MNE_DATASETS_DEAP_PATH``:
#
# .. code-block:: python
#
#     import braindecode_emossl, moabb
#     from braindecode_emossl.evaluation import pipelines_folder
#
#     moabb.benchmark(
#         pipelines=str(pipelines_folder()),
#         evaluations=["CrossSubject"],
#         include_datasets=["SEED", "DEAP"],
#     )

plt.show()
