"""What the signals of the replicas hold, and how hard they are to classify.

    python benchmarks/bench_replicas.py
    python benchmarks/bench_replicas.py --corpora SEED --parts scores --effects 2
    python benchmarks/bench_replicas.py --subjects 5 --seconds 40

The script writes replicas with default knobs and prints two tables.

``structure``: statistics of the signals and of the differential entropy (DE) of windows
of 1 s, with the range that real EEG has.

``scores``: balanced accuracy of DE with logistic regression, the baseline of
``with_baselines``, under protocols of ``evaluate`` and, for comparison, with windows
split at random; and how well a linear probe reads subject, session and stimulus. The
ranges are those of the real corpora (public audits of 2026); those of
``effect_size=2`` are the range in which methods can be compared. DREAMER stands for a
corpus of its size: 23 subjects, 14 channels and 18 trials of DEAP.

Trials last ``--seconds`` (default 60; 0 for the lengths of the releases). Replicas stay
in ``--folder`` and are used again.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import mne
import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from scipy.stats import kurtosis
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from braindecode_emossl.datasets import DEAP, MAHNOB_HCI, SEED, SEED_IV, write_replica
from braindecode_emossl.evaluation import evaluate, probe, with_baselines
from braindecode_emossl.paradigms import Emotion

CORPORA = {
    "SEED": (SEED, "emotion"),
    "SEED-IV": (SEED_IV, "emotion"),
    "DEAP": (DEAP, "valence"),
    "DREAMER": (DEAP, "valence"),
    "MAHNOB-HCI": (MAHNOB_HCI, "valence"),
}
DREAMER_SUBJECTS, DREAMER_TRIALS = range(1, 24), 18
DREAMER_CHANNELS = "AF3 F7 F3 FC5 T7 P7 O1 O2 P8 T8 FC6 F4 F8 AF4".split()

# Ranges wanted, by row and effect size.
STRUCTURE = {
    "autocorrelation of DE at 1 s": (0.3, 0.6),
    "seconds to 1/e of it": (5, 20),
    "correlation of DE between subjects": (0.05, 0.2),
    "same stimulus minus same label": (0.01, 1),
    "least correlation of channels": (-1, -0.3),
    "participation ratio": (4, 9),
    "channel correlations between subjects": (0.7, 0.95),
    "alpha peak in Hz, least": (8, 12),
    "alpha peak in Hz, most": (8, 12),
    "alpha peak in dB": (3, 30),
    "slope of the spectrum": (-2, -0.5),
    "largest step of the spectrum in dB": (0, 3),
    "excess kurtosis, largest": (3, np.inf),
    "correlation of DE between bands": (0.2, 0.5),
}
SCORES = {
    ("SEED", "leave-one-subject-out", 1): (0.50, 0.65),
    ("SEED", "leave-one-subject-out", 2): (0.65, 0.78),
    ("SEED-IV", "leave-one-subject-out", 1): (0.32, 0.42),
    ("SEED-IV", "leave-one-subject-out", 2): (0.50, 0.65),
    ("SEED-IV", "within-session", 1): (0.38, 0.50),
    ("DEAP", "leave-one-subject-out", 1): (0.50, 0.55),
    ("DEAP", "leave-one-subject-out", 2): (0.60, 0.70),
    ("DEAP", "within-session", 1): (0.55, 0.62),
    ("DREAMER", "leave-one-subject-out", 1): (0.50, 0.58),
}
PROBES = {
    "subject": (0.95, 1.0),
    "session, SEED-IV": (0.9, 1.0),
    "stimulus / chance": (1.1, 2.5),
}


def main() -> None:
    """Write the replicas, measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--corpora", nargs="+", choices=CORPORA, default=[*CORPORA])
    parts = ("structure", "scores")
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument("--effects", nargs="+", type=float, default=[1.0, 2.0])
    parser.add_argument("--subjects", type=int, help="at most so many subjects")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="folder for the replicas")
    options = parser.parse_args()
    mne.set_log_level("ERROR")
    console = Console()
    with tempfile.TemporaryDirectory() as scratch:
        options.folder = options.folder or Path(scratch)
        if "structure" in options.parts:
            console.print(tabulate_structure(options))
        if "scores" in options.parts:
            console.print(tabulate_scores(options))


def make_dataset(options, corpus, effect, n_subjects=None):
    """Write a replica, unless it is there, and return its data set."""
    cls, _ = CORPORA[corpus]
    subjects = DREAMER_SUBJECTS if corpus == "DREAMER" else cls.all_subject_numbers
    subjects = [s for s in subjects if s not in cls.unreleased_subjects]
    subjects = subjects[: n_subjects or options.subjects]
    code = "DEAP" if corpus == "DREAMER" else corpus
    name = f"{code}-{effect:g}-{options.seconds:g}-{options.seed}-{len(subjects)}"
    root = write_replica(
        code,
        options.folder / name,
        subjects=subjects,
        seconds=options.seconds or None,
        seed=options.seed,
        effect_size=effect,
    )
    return cls(subjects=subjects, path=root)


# -- structure -----------------------------------------------------------------


def tabulate_structure(options) -> Table:
    """Return the table of the structure that the signals have."""
    corpora = [corpus for corpus in options.corpora if corpus != "DREAMER"]
    columns = {}
    for corpus in corpora:
        dataset = make_dataset(options, corpus, 1.0, options.subjects or 5)
        columns[corpus] = measure_structure(dataset, CORPORA[corpus][1])
    table = Table("structure, effect size 1, 5 subjects", "wanted", *corpora)
    for row, (low, high) in STRUCTURE.items():
        cells = [mark(columns[corpus][row], low, high) for corpus in corpora]
        table.add_row(row, f"{low} to {high}", *cells)
    return table


def measure_structure(dataset, target) -> dict[str, float]:
    """Return the statistics of one replica."""
    features = Emotion(target, window=1.0, features="de", picks="eeg")
    X, labels, metadata = features.get_data(dataset)
    found = measure_courses(X, metadata)
    found |= measure_patterns(X, np.asarray(labels), metadata)
    del X
    signals = Emotion(target, window=4.0, picks="eeg")
    X, _, metadata = signals.get_data(dataset)
    return found | measure_signals(X, metadata["subject"].to_numpy(), signals.resample)


def measure_courses(X, metadata) -> dict[str, float]:
    """Measure continuity and what subjects and bands share within a trial."""
    courses = {
        key: X[rows] - X[rows].mean(axis=0)
        for key, rows in group_rows(metadata, ["subject", "session", "stimulus"])
    }
    autocorrelation = {
        lag: np.mean([correlate(c[:-lag], c[lag:]) for c in courses.values()])
        for lag in range(1, 26)
        if all(len(c) > 2 * lag for c in courses.values())
    }
    fallen = [k for k, v in autocorrelation.items() if v < autocorrelation[1] / np.e]
    between = []
    for (subject, session, stimulus), course in courses.items():
        for other in {key[0] for key in courses}:
            if other > subject and (other, session, stimulus) in courses:
                pair = courses[other, session, stimulus]
                n = min(len(course), len(pair))
                between.append(np.mean(correlate(course[:n], pair[:n])))
    rows = np.concatenate([*courses.values()])  # (n_windows, n_chans, n_bands)
    bands = [np.corrcoef(rows[:, channel].T) for channel in range(rows.shape[1])]
    return {
        "autocorrelation of DE at 1 s": autocorrelation[1],
        "seconds to 1/e of it": fallen[0] if fallen else np.nan,
        "correlation of DE between subjects": np.mean(between),
        "correlation of DE between bands": np.mean(
            [matrix[np.triu_indices(len(matrix), 1)] for matrix in bands]
        ),
    }


def measure_patterns(X, labels, metadata) -> dict[str, float]:
    """Compare the mean features of trials with those of other subjects."""
    patterns = {}
    for subject, rows in group_rows(metadata, "subject"):
        one = metadata.iloc[rows]
        means = [
            (key, labels[rows][group[0]], X[rows][group].mean(axis=0).ravel())
            for key, group in group_rows(one, "stimulus")
        ]
        stimuli, classes, values = zip(*means, strict=True)
        values = np.stack(values)
        values = (values - values.mean(axis=0)) / values.std(axis=0)
        patterns[subject] = list(zip(stimuli, classes, values, strict=True))
    same_stimulus, same_label = [], []
    for subject, trials in patterns.items():
        for other, others in patterns.items():
            if other <= subject:
                continue
            matrix = np.corrcoef([v for *_, v in trials], [v for *_, v in others])[
                : len(trials), len(trials) :
            ]
            for i, (stimulus, label, _) in enumerate(trials):
                for j, (stimulus_2, label_2, _) in enumerate(others):
                    if stimulus == stimulus_2:
                        same_stimulus.append(matrix[i, j])
                    elif label == label_2:
                        same_label.append(matrix[i, j])
    difference = np.mean(same_stimulus) - np.mean(same_label)
    return {"same stimulus minus same label": difference}


def measure_signals(X, subjects, sfreq) -> dict[str, float]:
    """Measure covariances, spectra and kurtosis of windows."""
    upper = np.triu_indices(X.shape[1], 1)
    matrices, peaks, heights, least, ratios = [], [], [], [], []
    frequencies = np.fft.rfftfreq(X.shape[-1], 1 / sfreq)
    power = np.zeros(len(frequencies))
    for subject in np.unique(subjects):
        own = X[subjects == subject][::3]
        flat = own.transpose(1, 0, 2).reshape(X.shape[1], -1)
        correlation = np.corrcoef(flat)
        least.append(correlation.min())
        matrices.append(correlation[upper])
        values = np.linalg.eigvalsh(np.cov(flat))
        ratios.append(values.sum() ** 2 / (values**2).sum())
        spectrum = np.abs(np.fft.rfft(own * np.hanning(X.shape[-1]))) ** 2
        # Channels with the strongest alpha rhythm are those over the occipital lobe.
        spectrum = spectrum.mean(axis=0)
        power += spectrum.mean(axis=0)
        alpha = (frequencies >= 7.5) & (frequencies <= 12.5)
        posterior = spectrum[np.argsort(spectrum[:, alpha].sum(axis=1))[-5:]].mean(0)
        over_background = (posterior * frequencies)[alpha]
        peaks.append(frequencies[alpha][np.argmax(over_background)])
        beside = (frequencies >= 5) & (frequencies <= 6) | (
            (frequencies >= 15) & (frequencies <= 17)
        )
        ground = np.exp(np.log(posterior[beside]).mean())
        heights.append(10 * np.log10(posterior[alpha].max() / ground))
    inside = (frequencies >= 2) & (frequencies <= 44)
    line = 10 * np.log10(power[inside])
    beta = (frequencies >= 15) & (frequencies <= 40)
    slope = np.polyfit(np.log10(frequencies[beta]), np.log10(power[beta]), 1)[0]
    similarity = np.corrcoef(matrices)[np.triu_indices(len(matrices), 1)]
    by_channel = kurtosis(X.transpose(1, 0, 2).reshape(X.shape[1], -1), axis=1)
    return {
        "least correlation of channels": np.mean(least),
        "participation ratio": np.mean(ratios),
        "channel correlations between subjects": np.mean(similarity),
        "alpha peak in Hz, least": np.min(peaks),
        "alpha peak in Hz, most": np.max(peaks),
        "alpha peak in dB": np.mean(heights),
        "slope of the spectrum": slope,
        "largest step of the spectrum in dB": np.abs(np.diff(line)).max(),
        "excess kurtosis, largest": by_channel.max(),
    }


def group_rows(metadata, columns):
    """Yield keys and row numbers of groups."""
    return list(metadata.groupby(columns).indices.items())


def correlate(a, b):
    """Return the correlation over the first axis."""
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    return (a * b).sum(axis=0) / np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))


# -- scores --------------------------------------------------------------------


def tabulate_scores(options) -> Table:
    """Return the table of balanced accuracies and probes."""
    table = Table("corpus", "subjects", "effect", "row", "wanted", "measured")
    for corpus in options.corpora:
        for effect in options.effects:
            dataset = make_dataset(options, corpus, effect)
            n_subjects = len(dataset.subject_list)
            for row, wanted, score in measure_scores(dataset, corpus, effect):
                print(corpus, effect, row, round(float(score), 3), flush=True)
                low, high = wanted or (-np.inf, np.inf)
                text = f"{low} to {high}" if wanted else ""
                cells = (corpus, str(n_subjects), f"{effect:g}", row, text)
                table.add_row(*cells, mark(score, low, high))
    return table


def measure_scores(dataset, corpus, effect):
    """Yield rows, the ranges wanted and the scores of one replica."""
    name = "DE + logistic regression"
    pipelines = {name: with_baselines({})[name]}
    target = CORPORA[corpus][1]
    # Both ratings are wanted where the effect is that of the real corpus.
    targets = (
        ["valence", "arousal"] if target == "valence" and effect == 1 else [target]
    )
    for target in targets:
        paradigm = make_paradigm(corpus, target)
        for protocol in ("leave-one-subject-out", "within-session"):
            wanted = SCORES.get((corpus, protocol, effect))
            if wanted or (corpus == "MAHNOB-HCI" and protocol.startswith("leave")):
                table = evaluate(pipelines, [dataset], paradigm, protocol)
                score = table.groupby("subject")["balanced_accuracy"].mean().mean()
                yield f"{protocol}, {target}", wanted, score
    if effect == 1:
        X, labels, metadata = paradigm.get_data(dataset)
        X, labels = X.reshape(len(X), -1), np.asarray(labels)
        score = score_random_split(pipelines[name][1:], X, labels, metadata)
        yield f"windows at random, {target}", None, score
        yield from measure_probes(X, metadata, corpus)


def make_paradigm(corpus, target):
    """Return the paradigm of a corpus; of DREAMER the likeness in DEAP."""
    if corpus == "DREAMER":
        return First18(target, features="de", channels=DREAMER_CHANNELS)
    return Emotion(target, features="de", picks="eeg")


class First18(Emotion):
    """The first trials of each recording."""

    def get_data(self, *args, **kwargs):
        """Return windows, labels and metadata of these trials."""
        X, labels, metadata = super().get_data(*args, **kwargs)
        kept = metadata["trial"].astype(int).to_numpy() <= DREAMER_TRIALS
        return X[kept], np.asarray(labels)[kept], metadata[kept].reset_index(drop=True)


def score_random_split(pipeline, X, labels, metadata) -> float:
    """Return the score where windows of a trial are on both sides of a split."""
    scores = []
    for _, rows in group_rows(metadata, ["subject", "session"]):
        folds = StratifiedKFold(5, shuffle=True, random_state=0)
        predicted = cross_val_predict(pipeline, X[rows], labels[rows], cv=folds)
        scores.append(balanced_accuracy_score(labels[rows], predicted))
    return np.mean(scores)


def measure_probes(X, metadata, corpus):
    """Yield how well linear probes read subject, session and stimulus."""
    few = np.arange(0, len(X), max(1, len(X) // 10_000))
    X, metadata = X[few], metadata.iloc[few]
    trials = pd.factorize(
        metadata[["subject", "session", "run"]].astype(str).agg("/".join, axis=1)
    )[0]
    yield "probe: subject", PROBES["subject"], probe(X, metadata["subject"], trials)[0]
    if metadata["session"].nunique() > 1:
        wanted = PROBES["session, SEED-IV"] if corpus == "SEED-IV" else None
        score, _ = probe(X, metadata["session"], trials)
        yield "probe: session", wanted, score
    ratio = probe(X, metadata["stimulus"], metadata["subject"]).ratio
    yield "probe: stimulus / chance", PROBES["stimulus / chance"], ratio


def mark(value, low, high):
    """Return a number as text, in red where it is not in the range."""
    text = f"{value:.3f}"
    return text if low <= value <= high else f"[bold red]{text}[/]"


if __name__ == "__main__":
    main()
