"""
Differential entropy and scalp maps of each emotion
===================================================

Differential entropy (DE) is the feature that most work on SEED uses: for each electrode
and frequency band, the logarithm of the power up to a constant. This example computes
it, maps it over the scalp for each emotion, and smooths it over a trial.

Without your own copy of SEED, the maps show effects that a replica contains: more beta
and gamma at the temples in positive films, and more posterior alpha in neutral ones.
They imitate published findings and are not findings themselves. With
``effect_size=2``, they are stronger than the default, which is as hard to classify as
the real corpus.
"""

# License: BSD-3-Clause

import tempfile

import mne
import numpy as np
from matplotlib import pyplot as plt

from braindecode_emossl import SEED, Emotion, write_replica
from braindecode_emossl.features import (
    BANDS,
    TransductiveSubjectScaler,
    lds_smooth,
    moving_average,
)
from braindecode_emossl.visualization import plot_band_topomaps

subjects = [1, 2, 3]
scratch = tempfile.TemporaryDirectory()
path = mne.get_config("MNE_DATASETS_SEED_PATH") or write_replica(
    "SEED",
    scratch.name,
    subjects=subjects,
    seconds=20,
    seed=0,
    sessions=[0],
    effect_size=2,
)
corpus = SEED(subjects, sessions=[0], path=path)

# %%
# The bands are those of SEED's authors:

print(BANDS)
paradigm = Emotion(window=1.0, features="de")
X, y, metadata = paradigm.get_data(corpus)
info = paradigm.get_info(corpus)  # positions of the electrodes
print(X.shape, "windows, channels, bands")

# %%
# Maps of unscaled DE
# -------------------
#
# All maps share one scale. The differences between bands are large, those between
# electrodes smaller, and those between emotions hardly visible.

fig = plot_band_topomaps(X, y, info)

# %%
# Maps of differences
# -------------------
#
# Heads, caps and skins differ, so we standardise each subject by its own windows.
# ``contrast=True`` then subtracts the mean over the emotions from each map.
#
# This scaler uses all windows of a subject at once, which is appropriate for a map. In
# a classifier it would use the windows of the test subject, without their labels, which
# is why it is called *transductive*; state this if you report such a score.

scaled = TransductiveSubjectScaler().fit_transform(X, subjects=metadata["subject"])
fig = plot_band_topomaps(scaled, y, info, contrast=True)
fig.axes[-1].set_ylabel("Difference from the mean (standard deviations)")

# %%
# DE over a trial
# ---------------
#
# Emotion changes slowly, so DE is usually smoothed over time, by a moving average or,
# as SEED's authors do, by a linear dynamical system (LDS). Smoothing does not cross
# trials. It makes the windows of a trial more similar, so that splitting by window
# leaks even more. Both methods use later windows, unless ``online=True`` is set.

trials = metadata[["subject", "session", "trial"]]
versions = {
    "unsmoothed": X,
    "moving average of 5 s": moving_average(X, trials, n_windows=5),
    "LDS": lds_smooth(X, trials, variance_ratio=0.01),
    "LDS, online": lds_smooth(X, trials, variance_ratio=0.01, online=True),
}

first = (metadata["subject"] == subjects[0]) & (metadata["trial"] == 0)
channel, band = info.ch_names.index("T7"), list(BANDS).index("gamma")
fig, ax = plt.subplots(figsize=(8, 3.2), layout="constrained")
styles = zip(
    ["-", "-", "-", "--"], ["0.75", "#E69F00", "#0072B2", "#0072B2"], strict=True
)
for (name, values), (line, color) in zip(versions.items(), styles, strict=True):
    ax.plot(values[first, channel, band], line, color=color, label=name)
ax.set(
    xlabel="Time in the trial (s)",
    ylabel="DE (nats)",
    title="Gamma at T7, one trial of one subject",
)
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False, ncols=2)

steps = {
    name: np.abs(np.diff(de[first], axis=0)).mean() for name, de in versions.items()
}
print({name: round(float(step), 3) for name, step in steps.items()})

plt.show()
