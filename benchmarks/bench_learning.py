"""Whether pre-training without labels helps: a linear probe on frozen features.

    python benchmarks/bench_learning.py
    python benchmarks/bench_learning.py --models SCMM MoodReader --seeds 5
    python benchmarks/bench_learning.py --first-seed 100 --seeds 2
    python benchmarks/bench_learning.py --quick

For each model, a replica of a corpus is written whose signals depend on the labels.
Each seed draws the weights and two test subjects of six. The model is pre-trained on
the other subjects without labels. A logistic regression on its frozen, standardised
features is trained on the labels of these subjects and scored on the two test subjects.
The same is done with the initial weights: they are trained with a learning rate of
zero, so that statistics of the windows (scaling, batch normalisation) are the same.

The seeds from 0 are for the report, and are used once: settings chosen on them would
make the gain look larger than it is. Choose settings on others, such as those from 100.

The settings and the preprocessing are not those that a user of ``evaluate`` gets. Each
channel is standardised by recording. Where ``SETTINGS`` say so, all its frequencies are
brought to the same power, because heads differ more in their spectra than emotions do,
and contrasts or clusters would separate the subjects.

The table has the balanced accuracy over seeds, and the mean of the differences with its
95 % interval by Student's t. The networks are small, to take minutes on two cores. The
signals are synthetic and say nothing about emotion.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
import warnings
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import torch
from braindecode.models.util import models_dict
from rich.box import MARKDOWN
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GroupShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from braindecode_emossl.datasets import DEAP, SEED, SEED_IV, write_replica
from braindecode_emossl.paradigms import Emotion
from braindecode_emossl.pretraining import SSLPretrainer
from braindecode_emossl.pretraining.registry import OBJECTIVES
from braindecode_emossl.samplers import StimulusGroupSampler

N_SUBJECTS, N_TEST_SUBJECTS = 6, 2
SECONDS = 12

#: For each model the corpus, with all modalities if the model uses more than EEG, the
#: paradigm, whether the spectra are flattened, and the arguments of model, objective
#: and pre-trainer.
SETTINGS = {
    "SCMM": {
        "corpus": SEED,
        "effect_size": 1.0,
        "paradigm": {"window": 1.0},
        "flatten": True,
        "model": {},
        "objective": {"normalize": True, "temperature": 0.2},
        "trainer": {"max_epochs": 60, "batch_size": 64, "lr": 1e-3},
    },
    "MaskedClusterTransformer": {
        "corpus": SEED,
        "effect_size": 2.0,
        "paradigm": {"window": 2.0, "resample": 100.0},
        "flatten": True,
        "model": {
            "pre_emphasis": 0.0,  # in flat spectra, slow rhythms are not the strongest
            "n_filters": 64,
            "emb_dim": 64,
            "n_layers": 3,
            "n_heads": 4,
            "dim_feedforward": 128,
        },
        "objective": {
            "n_clusters": (10, 20),
            "code_dim": 32,
            "recluster_every": None,
        },
        "trainer": {"max_epochs": 16, "batch_size": 16, "lr": 1e-3},
    },
    "MEMHACL": {
        "corpus": DEAP,
        "effect_size": 1.0,
        "paradigm": {"window": 2.0, "resample": 64.0, "fmax": 31.0},
        "model": {"n_filters": (8, 16, 24, 32), "normalization": None},
        "objective": {"projector_widths": (128, 128)},
        "trainer": {"max_epochs": 16, "batch_size": 16, "lr": 1e-3},
    },
    "MoodReader": {
        "corpus": SEED_IV,
        "effect_size": 1.0,
        "paradigm": {"window": 2.0, "resample": 100.0},
        "model": {"patch_size": 50, "embed_dim": 64, "n_layers": 3, "n_heads": 4},
        "objective": {"decoder_dim": 32, "n_decoder_layers": 1, "n_decoder_heads": 4},
        "trainer": {"max_epochs": 60, "batch_size": 32, "lr": 1e-3},
    },
}
#: Corpora of which all modalities are used.
WITH_MODALITIES = (DEAP, SEED_IV)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--models", nargs="+", choices=OBJECTIVES, default=[*OBJECTIVES]
    )
    parser.add_argument("--seeds", type=int, default=5, help="at least 2 (default 5)")
    parser.add_argument(
        "--first-seed", type=int, default=0, help="0 for the report, others for trials"
    )
    parser.add_argument("--quick", action="store_true", help="two seeds, two epochs")
    options = parser.parse_args()
    n_seeds = 2 if options.quick else options.seeds
    seeds = range(options.first_seed, options.first_seed + n_seeds)
    table = Table(
        *("model", "corpus", "effect", "chance", "random weights", "pre-trained"),
        *("difference", "95 % interval", "s per seed"),
        box=MARKDOWN,
    )
    for name in options.models:
        settings = SETTINGS[name]
        if options.quick:
            trainer = {**settings["trainer"], "max_epochs": 2}
            settings = {**settings, "trainer": trainer}
        with tempfile.TemporaryDirectory() as folder:
            windows = load(settings, Path(folder, "replica"))
        start = time.perf_counter()
        scores = np.array(
            [
                compare(name, settings, *windows, seed)
                for seed in track(seeds, name, transient=True)
            ]
        )  # (n_seeds, 2)
        seconds = (time.perf_counter() - start) / n_seeds
        add_row(table, name, settings, windows[1], scores, seconds)
    Console(width=140).print(table)


def load(settings: dict, root: Path):
    """Return windows, labels, metadata and channels of a replica."""
    corpus = settings["corpus"]
    subjects = list(range(1, N_SUBJECTS + 1))
    write_replica(
        corpus.code_name,
        root,
        subjects=subjects,
        seconds=SECONDS,
        seed=0,
        sessions=[0],
        effect_size=settings["effect_size"],
    )
    dataset = corpus(
        subjects, path=root, return_all_modalities=corpus in WITH_MODALITIES
    )
    paradigm = Emotion(**settings["paradigm"])
    X, y, metadata = paradigm.get_data(dataset)
    info = paradigm.get_info(dataset)
    X = standardize(X, metadata, settings.get("flatten", False))
    return X, y, metadata.reset_index(drop=True), info


def standardize(X: np.ndarray, metadata: pd.DataFrame, flatten: bool) -> np.ndarray:
    """Return windows whose channels have mean 0 and variance 1 in each recording.

    With ``flatten``, every frequency of a channel has the same power there as well.
    """
    X = X.astype(np.float32)
    for rows in metadata.reset_index().groupby(["subject", "session"]).indices.values():
        recording = X[rows]
        if flatten:
            spectrum = np.fft.rfft(recording)  # (n_windows, n_chans, n_frequencies)
            power = (np.abs(spectrum) ** 2).mean(axis=0)
            # Do not amplify frequencies that the filters of the corpus have removed.
            power[power <= 1e-3 * power.mean(axis=1, keepdims=True)] = np.inf
            recording = np.fft.irfft(spectrum / np.sqrt(power), X.shape[2])
        mean = recording.mean(axis=(0, 2), keepdims=True)
        std = recording.std(axis=(0, 2), keepdims=True)
        X[rows] = (recording - mean) / np.where(std > 0, std, 1)
    return X


def compare(
    name: str, settings: dict, X, y, metadata, info, seed: int
) -> tuple[float, float]:
    """Return the scores of random and of pre-trained weights on new subjects."""
    splitter = GroupShuffleSplit(1, test_size=N_TEST_SUBJECTS, random_state=seed)
    train, test = next(splitter.split(X, groups=metadata["subject"]))
    torch.manual_seed(seed)
    model = models_dict[name](
        n_outputs=2,  # of the head, which is not used
        chs_info=info["chs"],
        n_times=X.shape[2],
        sfreq=info["sfreq"],
        **settings["model"],
    )
    objective = OBJECTIVES[name](model, **settings["objective"])
    batches = make_items(name, X[train], metadata.iloc[train], seed)
    scores = []
    for lr in (0.0, settings["trainer"]["lr"]):
        trainer = {**settings["trainer"], "lr": lr}
        if not lr:  # sufficient for the statistics
            trainer["max_epochs"] = min(trainer["max_epochs"], 3)
        pretrainer = SSLPretrainer(
            objective, sampler=None, random_state=seed, **trainer
        ).fit(batches)
        features = extract(pretrainer.module_.encoder, X)
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        probe.fit(features[train], y[train])
        scores.append(balanced_accuracy_score(y[test], probe.predict(features[test])))
    return tuple(scores)


def make_items(name: str, X: np.ndarray, metadata: pd.DataFrame, seed: int):
    """Return the windows, or for MEMHACL groups of windows of the same second."""
    if name != "MEMHACL":
        return X
    sampler = StimulusGroupSampler(
        metadata.reset_index(drop=True), n_stimuli=1, random_state=seed
    )
    return X[np.array([item for item in sampler])]  # (n_items, 2Q, n_chans, n_times)


@torch.no_grad()
def extract(encoder: torch.nn.Module, X: np.ndarray) -> np.ndarray:
    """Return the representation (n_windows, n_features) of a frozen model.

    If a model has a class token, it is returned, because the features of MoodReader
    also come from layers that only learn with labels.
    """
    encoder.eval()
    found = []
    for batch in torch.as_tensor(X).split(256):
        output = encoder(batch, return_features=True)
        token = output["cls_token"]
        found.append(output["features"].flatten(1) if token is None else token)
    return torch.cat(found).numpy()


def add_row(table: Table, name: str, settings: dict, y, scores, seconds: float):
    """Add the scores of a model over the seeds."""
    differences = scores[:, 1] - scores[:, 0]
    mean = differences.mean()
    low, high = stats.t.interval(
        0.95, len(differences) - 1, loc=mean, scale=stats.sem(differences)
    )
    table.add_row(
        name,
        settings["corpus"].code_name,
        f"{settings['effect_size']:.0f}",
        f"{1 / len(np.unique(y)):.3f}",
        *(f"{value:.3f}" for value in scores.mean(axis=0)),
        f"{mean:+.3f}",
        f"{low:+.3f} to {high:+.3f}",
        f"{seconds:.0f}",
    )


if __name__ == "__main__":
    mne.set_log_level("ERROR")
    logging.disable(logging.WARNING)  # a replica of one session lacks the others
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    main()
