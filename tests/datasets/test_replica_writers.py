from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import loadmat, savemat, whosmat

from braindecode_emossl.datasets import (
    DEAP,
    MAHNOB_HCI,
    SEED,
    SEED_IV,
    replica_deap,
    replica_mahnob_hci,
    replica_seed,
    replica_seed_iv,
    seed,
    seed_iv,
    write_replica,
)
from braindecode_emossl.datasets.replica_seed import count_samples
from braindecode_emossl.datasets.replica_signals import LazyArrays

CLASSES = {"SEED": SEED, "SEED-IV": SEED_IV, "DEAP": DEAP, "MAHNOB-HCI": MAHNOB_HCI}


TRIALS = range(1, 25)

# One second of noise at 200 Hz, to be repeated.
NOISE = np.random.default_rng(0).normal(0, 20, 200)


@pytest.fixture(scope="module")
def cheap_signals():
    """Write noise that compresses well instead of EEG, where only lengths matter."""

    def make_eeg(subject, trial, sfreq, n_times, passband, rng):
        scale = np.linspace(1, 2, len(subject.field))
        return np.outer(scale, np.resize(NOISE, n_times))

    with pytest.MonkeyPatch.context() as patch:
        for module in (replica_seed, replica_seed_iv, replica_deap, replica_mahnob_hci):
            patch.setattr(module, "make_eeg", make_eeg)
        yield


def lengths(corpus, root, subject=1, session="0", **options):
    """Return the lengths of the trials of a session as read, in seconds."""
    dataset = CLASSES[corpus]([subject], [int(session)], path=root, **options)
    table = dataset.trial_table(subject)
    return table.sort_values("trial")["length"].tolist()


# -- lengths -------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [1, 1.495, 2.5, 7.999, 8.0])
@pytest.mark.parametrize("corpus", ["SEED", "SEED-IV"])
def test_a_part_of_a_second_of_the_seed_corpora_reads_back(
    corpus, seconds, tmp_path, cheap_signals
):
    """Trials of 2.5 s read back as 2.505 s.

    They had the sample over that the loader takes off whole seconds alone. And the eye
    features of 7.999 s, which are 8 s in whole samples, had a window too few.
    """
    options = {"subjects": [1], "sessions": [0], "seed": 0}
    write_replica(corpus, tmp_path, seconds=seconds, **options)
    expected = round(200 * seconds) / 200
    assert set(lengths(corpus, tmp_path)) == {expected}
    data = CLASSES[corpus]([1], [0], path=tmp_path, return_all_modalities=True)
    raw = data.get_data()[1]["0"]["03"]
    assert raw.n_times == round(200 * seconds)


@given(n_times=st.integers(200, 10_000))
def test_only_a_sample_over_a_whole_second_is_lost(n_times):
    written = count_samples(n_times / 200)
    read = written - (written % 200 == 1)  # the rule of the loader
    assert read == n_times - (n_times % 200 == 1)


@pytest.mark.parametrize(
    ("corpus", "variant", "sfreq", "options"),
    [
        ("DEAP", "dat", 128, {}),
        ("DEAP", "bdf", 512, {"source": "original"}),
        ("MAHNOB-HCI", "bdf", 256, {}),
    ],
)
def test_a_part_of_a_second_reads_back(
    corpus, variant, sfreq, options, tmp_path, cheap_signals
):
    """Videos of 2.3 s differed by a sample in DEAP's original recordings.

    Their starts and ends were rounded one by one.
    """
    settings = {"subjects": [1], "seconds": 2.3, "seed": 0, "variant": variant}
    write_replica(corpus, tmp_path, **settings)
    assert set(lengths(corpus, tmp_path, **options)) == {round(2.3 * sfreq) / sfreq}


@pytest.mark.parametrize(
    ("corpus", "module", "session", "seconds", "n_windows"),
    [
        ("SEED", replica_seed, 1, seed.FILM_SECONDS, 0),
        ("SEED-IV", replica_seed_iv, 0, seed_iv.FIRST_SESSION_SECONDS, 851),
        # Only the number of windows of 4 s is published of the other sessions.
        (
            "SEED-IV",
            replica_seed_iv,
            2,
            [4 * n + 2 for n in seed_iv.N_WINDOWS["2"]],
            822,
        ),
    ],
)
def test_lengths_of_the_release_are_those_of_the_seed_corpora(
    corpus, module, session, seconds, n_windows, tmp_path, monkeypatch
):
    shapes = {}

    def make_eeg(subject, trial, sfreq, n_times, passband, rng):
        return np.broadcast_to(0.0, (len(subject.field), n_times))  # no memory

    def save(file, arrays, **options):
        shapes.update({name: array.shape for name, array in arrays.items()})

    monkeypatch.setattr(module, "make_eeg", make_eeg)
    monkeypatch.setattr(module, "savemat", save)
    options = {"subjects": [1], "sessions": [session], "seed": 0}
    write_replica(corpus, tmp_path, seconds=None, **options)
    eeg = {name: shape for name, shape in shapes.items() if "_eeg" in name}
    assert eeg == {
        f"{'djc' if corpus == 'SEED' else 'cz'}_eeg{number}": (62, 200 * length + 1)
        for number, length in enumerate(seconds, start=1)
    }
    windows = [shape[1] for name, shape in shapes.items() if "eye_" in name]
    assert sum(windows) == n_windows  # as published


def test_lengths_of_the_release_are_a_minute_for_deap(tmp_path, cheap_signals):
    write_replica("DEAP", tmp_path, subjects=[1], seconds=None, seed=0)
    assert lengths("DEAP", tmp_path) == [60.0] * 40


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [None, 61])
def test_videos_of_deaps_original_recordings_last_a_minute_at_most(
    seconds, tmp_path, cheap_signals
):
    options = {"seconds": seconds, "seed": 0, "variant": "bdf"}
    write_replica("DEAP", tmp_path, subjects=[24], **options)
    found = lengths("DEAP", tmp_path, subject=24, source="original")
    assert found == [60.0] * 40


def test_lengths_of_the_release_are_those_of_mahnobs_clips(tmp_path, cheap_signals):
    write_replica("MAHNOB-HCI", tmp_path, subjects=[1], seconds=None, seed=0)
    table = MAHNOB_HCI([1], path=tmp_path).trial_table(1)
    found = dict(zip(table["stimulus"], table["length"], strict=True))
    assert len(found) == 20
    assert (min(found.values()), max(found.values())) == (34, 116)
    assert (found["107.avi"], found["138.avi"], found["53.avi"]) == (34, 116, 104)


def test_the_receipt_of_a_full_size_replica_is_understood(tmp_path, cheap_signals):
    options = {"subjects": [3], "seconds": None, "seed": 0}
    write_replica("MAHNOB-HCI", tmp_path, **options)
    receipt = tmp_path / "replica-MAHNOB-HCI.json"
    assert json.loads(receipt.read_text())["seconds"] is None
    before = receipt.stat().st_mtime_ns
    assert write_replica("MAHNOB-HCI", tmp_path, **options) == tmp_path
    assert receipt.stat().st_mtime_ns == before
    with pytest.raises(FileExistsError, match="other settings"):
        write_replica("MAHNOB-HCI", tmp_path, **options | {"seconds": 34})


@pytest.mark.parametrize("seconds", [0, 0.99, float("nan"), float("inf")])
def test_seconds_must_be_a_length(seconds, tmp_path):
    """Not-a-number passed the check, and failed half-way with a message of NumPy."""
    with pytest.raises(ValueError, match="seconds must be at least 1, but got"):
        write_replica("SEED", tmp_path, subjects=[1], seconds=seconds, seed=0)
    assert not list(tmp_path.iterdir())


# -- memory --------------------------------------------------------------------


def test_arrays_are_made_one_after_the_other(tmp_path):
    alive, most = set(), []

    class Counted(np.ndarray):
        def __del__(self):
            alive.discard(id(self))

    def make():
        array = np.zeros((2, 3)).view(Counted)
        alive.add(id(array))
        most.append(len(alive))
        return array

    arrays = LazyArrays({f"x{k}": make for k in range(9)})
    savemat(tmp_path / "x.mat", arrays)
    assert len(most) == len(arrays) == 9
    assert max(most) <= 2  # the one before, until the next one is there
    assert [name for name, *_ in whosmat(tmp_path / "x.mat")] == list(arrays)


@pytest.mark.parametrize("corpus", ["SEED", "SEED-IV"])
def test_no_two_trials_of_a_recording_are_made_before_the_first_is_saved(
    corpus, tmp_path, monkeypatch
):
    """A recording at full size takes 337 MB."""
    module = {"SEED": replica_seed, "SEED-IV": replica_seed_iv}[corpus]
    made = []

    def make_eeg(subject, trial, sfreq, n_times, passband, rng):
        made.append(1)
        return np.zeros((len(subject.field), n_times))

    def save(file, arrays, **options):
        if any("_eeg" in name for name in arrays):
            assert not made
            next(iter(arrays.values()))
            assert len(made) == 1
            made.clear()
        savemat(file, arrays, **options)
        made.clear()

    monkeypatch.setattr(module, "make_eeg", make_eeg)
    monkeypatch.setattr(module, "savemat", save)
    options = {"subjects": [1], "sessions": [0, 1], "seconds": 1, "seed": 0}
    write_replica(corpus, tmp_path, **options)


# -- trees ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def full_root(tmp_path_factory, cheap_signals):
    folder = tmp_path_factory.mktemp("seed-iv-full")
    options = {"sessions": [0, 1], "seconds": 8, "seed": 0, "variant": "full"}
    return write_replica("SEED-IV", folder, subjects=[2], **options)


def test_the_full_tree_of_seed_iv_is_that_of_the_release(full_root):
    folder = full_root / "SEED_IV"
    names = {"1": "2_20150915", "2": "2_20150920"}
    smooth = [
        f"{kind}/{session}/{name}.mat"
        for kind in ("eeg_raw_data", "eeg_feature_smooth", "eye_feature_smooth")
        for session, name in names.items()
    ]
    raw = [
        f"eye_raw_data/{name}_{kind}.mat"
        for kind in ("blink", "event", "fixation", "pupil", "saccade", "PD")
        for name in names.values()
    ]
    files = [str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()]
    assert sorted(files) == sorted(["ReadMe.txt", *smooth, *raw])


def test_features_and_raw_eye_tracking_have_the_layout_of_the_release(full_root):
    folder = full_root / "SEED_IV"
    found = whosmat(folder / "eeg_feature_smooth/1/2_20150915.mat")
    kinds = ("de_movingAve", "de_LDS", "psd_movingAve", "psd_LDS")
    assert {name for name, *_ in found} == {f"{k}{n}" for k in kinds for n in TRIALS}
    assert {(shape, kind) for _, shape, kind in found} == {((62, 2, 5), "double")}
    for kind, name, n_columns in (
        ("blink", "Eye_Blink", 1),
        ("event", "Eye_Event", 28),
        ("fixation", "Eye_Fixation", 1),
        ("pupil", "Eye_Pupil", 4),
        ("saccade", "Eye_Saccade", 2),
    ):
        file = folder / f"eye_raw_data/2_20150915_{kind}.mat"
        assert whosmat(file) == [(name, (24, 1), "cell")]
        cells = [cell for (cell,) in loadmat(file)[name]]
        assert {cell.shape[1] for cell in cells} == {n_columns}
        assert ({len(cell) for cell in cells} == {1}) == (kind == "event")


def test_seed_iv_reads_the_same_from_the_full_tree(full_root, tmp_path, cheap_signals):
    options = {"sessions": [0], "seconds": 8, "seed": 0}
    write_replica("SEED-IV", tmp_path, subjects=[2], **options)
    assert not list(tmp_path.rglob("eye_raw_data"))
    read = []
    for root in (full_root, tmp_path):
        dataset = SEED_IV([2], [0], path=root, return_all_modalities=True)
        read.append(dataset.get_data()[2]["0"])
        assert len(dataset.data_path(2)) == 1
    assert list(read[0]) == list(read[1]) == [f"{run - 1:02d}" for run in TRIALS]
    for run, raw in read[0].items():
        np.testing.assert_array_equal(raw.get_data(), read[1][run].get_data())


@pytest.fixture(scope="module")
def odd_root(tmp_path_factory, cheap_signals):
    """MAHNOB-HCI of the participants who lack something."""
    folder = tmp_path_factory.mktemp("odd")
    subjects = [3, 9, 12, 15, 16]
    return write_replica("MAHNOB-HCI", folder, subjects=subjects, seconds=1, seed=0)


@pytest.mark.parametrize(("subject", "n_trials"), [(3, 17), (9, 14), (16, 16)])
def test_participants_of_mahnob_lack_the_trials_that_the_real_ones_lack(
    subject, n_trials, odd_root
):
    table = MAHNOB_HCI([subject], path=odd_root).trial_table(subject)
    assert table["trial"].tolist() == list(range(n_trials))


def test_sessions_of_mahnob_without_physiology_have_their_published_numbers(odd_root):
    sessions = odd_root / "hci-tagging-database" / "Sessions"
    folders = {int(folder.name): folder for folder in sessions.iterdir()}
    silent = {number for number in folders if not list(folders[number].glob("*.bdf"))}
    of_12 = set(range(11 * 130 + 1, 12 * 130 + 1))
    # Participant 15: a neutral clip and 1854; 16: trial 17.
    assert silent - of_12 == {14 * 130 + 1, 1854, 1984}
    assert all((folders[number] / "session.xml").is_file() for number in silent)
    block = {number for number in folders if 14 * 130 < number <= 15 * 130}
    assert block == {14 * 130 + 1, 1854}
    assert list((folders[1984]).glob("P16-Rec1-All-Data-New_Section_*.tsv"))
