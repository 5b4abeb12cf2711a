"""Two small corpora that take no time to read."""

from __future__ import annotations

import numpy as np
import pytest
from mne.decoding import Vectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from braindecode_emossl.datasets import EmotionDataset
from braindecode_emossl.datasets.base import Trial
from braindecode_emossl.paradigms import Emotion

RATINGS = ("valence", "arousal", "dominance", "liking")
SECONDS = 3.0


class Toy(EmotionDataset):
    """Six trials a session, one after the other, whose power follows the class."""

    code_name = "Toy"
    path_key = "TOY"
    all_subject_numbers = (1, 2, 10)
    n_sessions_per_subject = 2
    n_trials_per_session = 6
    classes = {"calm": 1, "wild": 2}  # noqa: RUF012
    common_interval = (0, SECONDS)
    doi_name = ""
    access_url = "https://example.org"
    expected_files = ("1_0.eeg", "1_1.eeg")
    ratings = RATINGS
    rating_midpoint = 5.0
    ch_names = ("Fz", "Cz", "Pz", "Oz")
    sfreq = 128.0
    effect = 1.0

    def _find_recordings(self, root, subject):
        keys = map(str, range(self.n_sessions_per_subject))
        return {key: root / f"{subject}_{key}.eeg" for key in keys}

    def source_files(self, subject):
        return []  # nothing lies on disk

    def _read_trials(self, file, session):
        session = int(session)
        trials = []
        for number in range(self.n_trials_per_session):
            emotion = ("calm", "wild")[(number + session) % 2]
            rating = {"calm": 3.0, "wild": 7.0 - number / 10}[emotion]
            ratings = dict.fromkeys(RATINGS, rating)
            onset = 1.0 + number * (SECONDS + 1.0)
            name = f"clip{number + 10 * session}"
            trials.append(Trial(number, name, emotion, SECONDS, onset, ratings))
        return {"0": trials}

    def _read_recording(self, file, session):
        (trials,) = self._read_trials(file, session).values()
        n_chans, n_times = len(self.ch_names), round(26 * self.sfreq)
        seed = [ord(self.code_name[-1]), *map(int, file.stem.split("_"))]
        rng = np.random.default_rng(seed)
        data = 1e-5 * rng.normal(size=(n_chans, n_times))
        for trial in trials:
            first = round(trial.onset * self.sfreq)
            gain = 0.3 * rng.normal(size=(n_chans, 1))
            gain += 0.3 * self.effect * (trial.emotion == "wild")
            data[:, first : first + round(SECONDS * self.sfreq)] *= np.exp(gain)
        types = ["eeg"] * n_chans
        yield "0", self._make_raw(data, self.ch_names, types, self.sfreq, trials)


class ToyB(Toy):
    """Another corpus: its channels in another order and one more, another rate."""

    code_name = "ToyB"
    path_key = "TOYB"
    all_subject_numbers = (1, 2)
    n_sessions_per_subject = 1
    ch_names = ("T7", "Oz", "Pz", "Cz")
    sfreq = 160.0


@pytest.fixture
def toy(tmp_path):
    """Subjects 1, 2 and 10 in two sessions of six trials of three windows."""
    return make(Toy, tmp_path)


@pytest.fixture
def toy_b(tmp_path):
    """Two subjects in one session."""
    return make(ToyB, tmp_path)


@pytest.fixture
def make_toy(tmp_path):
    """Return a function that makes the toy corpora with arguments."""
    return lambda cls=Toy, **kwargs: make(cls, tmp_path, **kwargs)


@pytest.fixture
def paradigm():
    """Features of windows of 1 s, without a filter, so that it is fast."""
    return Emotion(**FAST)


@pytest.fixture
def fast():
    """The arguments of ``paradigm``."""
    return dict(FAST)


@pytest.fixture
def classifier():
    """Logistic regression of the flattened features."""
    return make_pipeline(Vectorizer(), LogisticRegression(max_iter=300))


#: Options that suit the three subjects of ``Toy``.
OPTIONS = {
    "within-session": {"n_splits": 3},
    "subject-kfold": {"n_splits": 3},
    "subject-split": {"train": 1, "validation": 1, "test": 1},
    "subject-stimulus": {"n_stimulus_splits": 3},
}


@pytest.fixture
def options_of():
    """Return a function: the options of a protocol for the toy corpus."""
    return lambda protocol: dict(OPTIONS.get(protocol, {}))


FAST = {
    "fmin": None,
    "fmax": None,
    "window": 1.0,
    "resample": None,
    "features": "de",
}


def make(cls, folder, **kwargs):
    return cls(**{"path": folder, **kwargs})
