"""DREAMER: one nested MATLAB file, read as a stream."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.io import loadmat, savemat

from braindecode_emossl.datasets import DREAMER, replica_dreamer, write_replica
from braindecode_emossl.errors import CorpusFormatError, CorpusNotFoundError
from braindecode_emossl.paradigms import Emotion

SMALL = {"seconds": 2, "seed": 0}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Subjects 1, 2 and 23. Not to be changed."""
    folder = tmp_path_factory.mktemp("dreamer")
    return write_replica("DREAMER", folder, subjects=[1, 2, 23], **SMALL)


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write subject 2 after a change of the content."""

    def write(change, **options):
        def save(file, content, **_):
            change(content["DREAMER"])
            savemat(file, content, **{"do_compression": True} | options)

        monkeypatch.setattr(replica_dreamer, "savemat", save)
        return write_replica("DREAMER", tmp_path, subjects=[2], **SMALL)

    return write


def load_with_scipy(root, subject):
    content = loadmat(root / "DREAMER" / "DREAMER.mat", simplify_cells=True)
    return content["DREAMER"]["Data"][subject - 1]


# -- reading ------------------------------------------------------------------


@pytest.mark.parametrize("subject", [23, 1, 2])
def test_signals_are_those_that_scipy_reads(subject, root):
    runs = DREAMER([subject], path=root, return_all_modalities=True).get_data()
    runs, person = runs[subject]["0"], load_with_scipy(root, subject)
    assert [*runs] == [f"{k:02d}" for k in range(18)]
    for film in (0, 7, 17):
        raw = runs[f"{film:02d}"]
        parts = [person["EEG"][part][film] for part in ("baseline", "stimuli")]
        assert_allclose(raw.get_data("eeg") * 1e6, np.vstack(parts).T, rtol=1e-12)
        assert raw.info["sfreq"] == 128
        assert raw.get_channel_types()[14:] == ["ecg", "ecg"]
        (trial,) = raw.annotations
        assert trial["onset"] == len(parts[0]) / 128 == 1.0
        assert trial["duration"] == len(parts[1]) / 128 == 2.0
        ratings = [person[f"Score{k}"][film] for k in ("Valence", "Arousal")]
        assert [trial["extras"][k] for k in ("valence", "arousal")] == ratings
        expected = "".join(
            f"{'LH'[int(rating > 3)]}{axis}"
            for rating, axis in zip(ratings, "VA", strict=True)
        )
        assert trial["description"] == expected


def test_the_ecg_has_the_rate_of_the_eeg(root):
    raw = DREAMER([1], path=root, return_all_modalities=True).get_data()[1]["0"]["03"]
    ecg = load_with_scipy(root, 1)["ECG"]["stimuli"][3]
    found = raw.get_data("ecg")[:, 128:] * 1e6
    assert found.shape == (2, 256)
    # The beats are wider than a sample: every second value is nearly the same.
    assert_allclose(found[:, 5:-5], ecg[10:-10:2].T, atol=20)


def test_the_first_pass_reads_no_signals_and_the_second_one_subject(root, monkeypatch):
    """Reading a subject began at the start of the file, 2 GB before its end."""
    from braindecode_emossl.datasets import dreamer_files

    dreamer_files._read_index.cache_clear()
    read = dreamer_files._Stream.read
    n_bytes = []

    def count(self, n):
        n_bytes.append(n)
        return read(self, n)

    monkeypatch.setattr(dreamer_files._Stream, "read", count)
    dataset = DREAMER(path=root)
    dataset.trial_table(1)
    first_pass = sum(n_bytes)
    n_bytes.clear()
    dataset.trial_table(23)
    assert n_bytes == []
    dataset.get_data([23])
    assert sum(n_bytes) < 0.4 * first_pass


def test_an_uncompressed_file_reads_the_same(root, write):
    other = write(lambda content: None, do_compression=False)
    for expected, found in zip(
        DREAMER([2], path=root).get_data()[2]["0"].values(),
        DREAMER([2], path=other).get_data()[2]["0"].values(),
        strict=True,
    ):
        assert_array_equal(found.get_data(), expected.get_data())


def test_films_have_the_emotion_they_were_chosen_for(root):
    trials = DREAMER([1], path=root).trial_table(1)
    assert trials["film_emotion"].value_counts().tolist() == [2] * 9
    assert trials["stimulus"].tolist() == [f"{k:02d}" for k in range(1, 19)]


def test_the_midpoint_is_three_and_the_cuts_are_thirds(write):
    def change(content):
        content["Data"][0, 1]["ScoreValence"][:5, 0] = [1, 2, 3, 4, 5]

    dataset = DREAMER([2], path=write(change))

    def labels(**options):
        trials = Emotion("valence", **options).label_trials(dataset)
        return trials["label"].tolist()[:5]

    assert labels() == ["negative"] * 3 + ["positive"] * 2
    assert labels(ties="drop")[2] == "unlabeled"
    expected = ["negative"] * 2 + ["neutral"] + ["positive"] * 2
    assert labels(n_classes=3) == expected


def test_the_neutral_clip_is_a_baseline(root):
    dataset = DREAMER([1], path=root)
    options = {"window": 1.0, "resample": None, "fmin": None, "fmax": None}
    plain, *_ = Emotion(**options).get_data(dataset)
    X, *_ = Emotion(**options, baseline=(-1, 0)).get_data(dataset)
    raw = dataset.get_data()[1]["0"]["00"].get_data("eeg") * 1e6
    mean = raw[:, :128].mean(axis=1, keepdims=True)
    assert_allclose(X[0], plain[0] - mean, atol=1e-6)
    assert abs(X.mean()) < 50 and plain.mean() > 4000


def test_a_subject_that_is_not_in_the_file_is_not_found(root):
    with pytest.raises(CorpusNotFoundError, match=r"access is granted on request"):
        DREAMER([3], path=root).get_data()


# -- broken files --------------------------------------------------------------


def _set(*keys, value):
    def change(content):
        *path, last = keys
        for key in path:
            content = content[key]
        content[last] = value

    return change


PERSON = ("Data", (0, 1))
BROKEN = {
    "rate": (_set("EEG_SamplingRate", value=256.0), "EEG_SamplingRate must be 128"),
    "electrodes": (
        _set("EEG_Electrodes", (0, 0), value="AF4"),
        "must have the electrodes AF3, F7",
    ),
    "films": (
        _set(*PERSON, "EEG", "stimuli", value=np.zeros((17, 1), object)),
        "a subject must have 18 films",
    ),
    "no modality": (_set(*PERSON, "ECG", value=1.0), "ECG is not a single structure"),
    "no person": (_set(*PERSON, value=np.ones((2, 2))), "is not a single structure"),
    "no data": (_set("Data", value=1.0), "Data is not a list of cells"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_of_another_layout_is_an_error(name, write):
    change, says = BROKEN[name]
    with pytest.raises(CorpusFormatError, match=f"DREAMER.mat.*{says}"):
        DREAMER([2], path=write(change)).trial_table(2)


FLAWS = {
    "rating": (
        _set(*PERSON, "ScoreArousal", (4, 0), value=6.0),
        r"must have whole ratings of 1 to 5, but has .*6\.0",
    ),
    "half": (
        _set(*PERSON, "ScoreArousal", (4, 0), value=2.5),
        r"must have whole ratings of 1 to 5, but has .*2\.5",
    ),
    "channels": (
        _set(*PERSON, "EEG", "stimuli", (4, 0), value=np.zeros((256, 13))),
        r"stimuli EEG \(samples, 14 channels\), but has \(256, 13\)",
    ),
    "short": (
        _set(*PERSON, "EEG", "baseline", (4, 0), value=np.zeros((100, 14))),
        r"baseline EEG of 1 to 400 s at 128 Hz, but has 0\.78125 s",
    ),
    "not finite": (
        _set(*PERSON, "EEG", "stimuli", (4, 0), value=np.full((256, 14), np.nan)),
        "holds values that are not finite",
    ),
}


@pytest.mark.parametrize("name", FLAWS)
def test_a_broken_film_is_an_error_or_left_out(name, write, format_warnings):
    change, says = FLAWS[name]
    root = write(change)
    with pytest.raises(CorpusFormatError, match=f"film 5 of subject 2 in .*{says}"):
        DREAMER([2], path=root).get_data()
    runs = DREAMER([2], path=root, on_error="warn").get_data()[2]["0"]
    assert len(runs) == 17 and "04" not in runs
    assert "film 5" in format_warnings.text


def test_a_file_that_is_cut_short_is_an_error(root, tmp_path):
    content = (root / "DREAMER" / "DREAMER.mat").read_bytes()
    (tmp_path / "DREAMER.mat").write_bytes(content[: len(content) // 2])
    with pytest.raises(CorpusFormatError, match="has no variable DREAMER, or is cut"):
        DREAMER([1], path=tmp_path).get_data()


def test_altered_bytes_never_escape_the_checks(write, tmp_path):
    """A wrong tag leads to an error of the package, or to numbers."""
    source = write(lambda content: None, do_compression=False)
    content = (source / "DREAMER" / "DREAMER.mat").read_bytes()
    file = tmp_path / "altered" / "DREAMER.mat"
    file.parent.mkdir()
    rng = np.random.default_rng(0)
    n_errors = 0
    # Most tags lie before the first signals.
    for place in rng.integers(128, 1200, 100):
        altered = bytearray(content)
        altered[place] = rng.integers(256)
        file.write_bytes(altered)
        try:
            DREAMER([2], path=file.parent).trial_table(2)
        except (CorpusFormatError, CorpusNotFoundError):
            n_errors += 1
    assert n_errors > 20
