"""Windows from arrays, braindecode's data sets and corpora."""

from __future__ import annotations

from functools import partial

import mne
import numpy as np
import pandas as pd
import pytest
import torch
from braindecode.datasets import BaseConcatDataset, RawDataset
from braindecode.preprocessing import (
    create_fixed_length_windows,
    create_windows_from_target_channels,
)
from sklearn.utils import _safe_indexing
from torch.utils.data import DataLoader

from braindecode_emossl.datasets import DEAP, SEED
from braindecode_emossl.paradigms import Emotion
from braindecode_emossl.pretraining.signal_identity import Signal
from braindecode_emossl.pretraining.windows import (
    WindowArray,
    WindowDataset,
    find_metadata,
    gather_windows,
    read_epochs,
)


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(20, 3, 8))


@pytest.fixture
def concat():
    rng = np.random.default_rng(0)
    parts = []
    for subject in (1, 2):
        info = mne.create_info(3, 100.0, "eeg")
        raw = mne.io.RawArray(rng.normal(size=(3, 500)), info, verbose="error")
        parts.append(RawDataset(raw, description={"subject": subject}))
    return BaseConcatDataset(parts)


def make_loader(dataset, **settings):
    return DataLoader(dataset, collate_fn=WindowDataset.collate, **settings)


def test_a_batch_is_the_windows_of_its_numbers(X):
    for windows, numbers in make_loader(gather_windows(X), batch_size=6, shuffle=True):
        assert windows.dtype == torch.float32
        np.testing.assert_array_equal(windows, X[numbers].astype(np.float32))


def test_tuples_are_stacked_on_an_additional_axis(X):
    """Skorch's data set takes a tuple for an index along several axes."""
    order = [(0, 5, 1), (7, 7, 2), (19, 3, 4)]
    loader = make_loader(gather_windows(X), batch_size=2, sampler=order)
    shapes = []
    for windows, numbers in loader:
        np.testing.assert_array_equal(windows, X[numbers].astype(np.float32))
        shapes.append(tuple(windows.shape))
    assert shapes == [(2, 3, 3, 8), (1, 3, 3, 8)]


def test_single_items_are_like_those_of_a_batch(X):
    dataset = gather_windows(X)
    window, number = dataset[4]
    assert number == 4
    np.testing.assert_array_equal(window, X[4].astype(np.float32))
    assert dataset[(4, 2)][0].shape == (2, 3, 8)


def test_workers_give_the_same(X):
    dataset = gather_windows(X)
    for one, other in zip(
        make_loader(dataset, batch_size=5),
        make_loader(dataset, batch_size=5, num_workers=1),
        strict=True,
    ):
        assert torch.equal(one[0], other[0])


def test_a_mapped_file_is_read_in_parts_only(tmp_path, X):
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    dataset = gather_windows(mapped).take(np.arange(5, 15)).take([1, 3])
    assert dataset.windows.X is mapped
    np.testing.assert_array_equal(dataset.windows[:], X[[6, 8]].astype(np.float32))


def test_a_window_array_is_indexed_as_objectives_do(X):
    windows = WindowArray(X)
    assert windows.shape == (20, 3, 8)
    for key in (slice(2, 9), np.array([4, 1]), np.array([[4, 1], [0, 0]])):
        np.testing.assert_array_equal(windows[key], X[key].astype(np.float32))


def test_a_data_set_of_braindecode_gives_its_windows_and_metadata(concat):
    cut = create_fixed_length_windows(
        concat,
        window_size_samples=100,
        window_stride_samples=100,
        on_last_window="drop",
    )
    dataset = gather_windows(cut)
    assert dataset.windows.shape == (10, 3, 100)
    assert dataset.metadata["subject"].tolist() == [1] * 5 + [2] * 5
    raw = concat.datasets[1].raw.get_data()
    windows, _ = dataset.__getitems__([(6, 0), (7, 1)])
    assert windows.shape == (2, 2, 3, 100)
    np.testing.assert_allclose(windows[0, 0], raw[:, 100:200], rtol=1e-6)


def test_metadata_of_a_data_set_can_be_given(concat):
    """They were ignored, whatever their length."""
    sizes = {"window_size_samples": 100, "window_stride_samples": 100}
    cut = create_fixed_length_windows(concat, **sizes, on_last_window="drop")
    given = pd.DataFrame({"subject": 1, "stimulus": range(10)})
    found = gather_windows(cut, given).metadata
    assert found["stimulus"].tolist() == list(range(10))
    with pytest.raises(ValueError, match="3 rows"):
        gather_windows(cut, given[:3])


def test_a_data_set_without_windows_is_refused(concat):
    with pytest.raises(ValueError, match="create_fixed_length_windows"):
        gather_windows(concat)


def test_corpora_are_cut_by_the_paradigm_and_joined(seed_root, deap_root):
    corpora = [
        SEED([1, 2], path=seed_root, sessions=[0]),
        DEAP([1, 2], path=deap_root),
    ]
    paradigm = Emotion(target="valence", window=2.0, features="de")
    paradigm.match_all(corpora)
    dataset = gather_windows(corpora, paradigm=paradigm)
    assert dataset.provenance == {
        "corpora": {
            "DEAP": {"subjects": [1, 2], "sessions": ["0"]},
            "SEED": {"subjects": [1, 2], "sessions": ["0"]},
        }
    }
    alone, _, metadata = paradigm.get_data(corpora[1])
    np.testing.assert_array_equal(
        dataset.windows[-len(alone) :], alone.astype(np.float32)
    )
    assert dataset.describe(len(dataset) - 1) == (
        f"window {len(dataset) - 1} (corpus DEAP, subject 2, session 0, trial "
        f"{metadata['trial'].iloc[-1]}, window {metadata['window'].iloc[-1]})"
    )
    unmatched = Emotion(target="valence", window=2.0, features="de")
    with pytest.raises(ValueError, match="match_all"):
        gather_windows(corpora, paradigm=unmatched)
    with pytest.raises(ValueError, match="pass a paradigm"):
        gather_windows(corpora[0])
    with pytest.raises(ValueError, match="leave out metadata"):
        gather_windows(corpora, metadata, paradigm)


def test_windows_of_corpora_fit_the_model(seed_root):
    """Another rate was accepted, and channels stayed in the order of the corpus."""
    corpus = SEED([1], sessions=[0], path=seed_root)
    paradigm = Emotion(window=2.0)
    with pytest.raises(ValueError, match=r"rate of the model, 128 Hz, but has 200 Hz"):
        gather_windows(corpus, paradigm=paradigm, signal=Signal(128.0))
    chs_info = list(paradigm.get_info(corpus)["chs"])
    expected = gather_windows(corpus, paradigm=paradigm).windows[:]
    found = gather_windows(
        corpus, paradigm=paradigm, signal=Signal(200.0, chs_info[::-1])
    )
    torch.testing.assert_close(found.windows[:], expected.flip(1))
    features = Emotion(window=2.0, features="de")  # which have no rate
    gather_windows(corpus, paradigm=features, signal=Signal(128.0))


def test_a_window_without_metadata_is_described_by_its_index(X):
    assert gather_windows(X).take([3, 7]).describe(1) == "window 7"
    assert gather_windows(X).provenance is None


@pytest.fixture
def epochs(X):
    """Epochs of two EEG channels and one of skin conductance, with metadata."""
    info = mne.create_info(["Fz", "Cz", "GSR"], 100.0, ["eeg", "eeg", "gsr"])
    metadata = pd.DataFrame({"subject": np.arange(20) // 10, "trial": np.arange(20)})
    return mne.EpochsArray(X, info, metadata=metadata, verbose="error")


def test_epochs_bring_their_metadata_and_microvolts(epochs, X):
    """The metadata of Epochs were lost at the door of the pre-trainer."""
    dataset = gather_windows(epochs)
    assert dataset.metadata.equals(epochs.metadata.reset_index(drop=True))
    scale = np.array([1e6, 1e6, 1])[:, np.newaxis]
    np.testing.assert_allclose(dataset.windows[:], X * scale, rtol=1e-6)
    other = pd.DataFrame({"subject": np.zeros(20)})
    assert gather_windows(epochs, other).metadata.equals(other)
    assert gather_windows(epochs[5:8]).metadata["trial"].tolist() == [5, 6, 7]


def test_epochs_bring_their_signal(epochs):
    _, signal = read_epochs(epochs)
    assert signal.sfreq == 100 and signal.names == ["Fz", "Cz", "GSR"]
    _, signal = read_epochs(np.zeros((2, 3, 4)))
    assert signal.sfreq is None and signal.names is None


def test_metadata_are_taken_from_the_argument_then_from_epochs_then_from_subjects(
    epochs,
):
    given = pd.DataFrame({"subject": ["a"] * 20}, index=np.arange(20)[::-1])
    find = partial(find_metadata, epochs, 20)
    assert find(given, range(20))["subject"].tolist() == ["a"] * 20
    assert find(None, range(20)).equals(epochs.metadata.reset_index(drop=True))
    bare = find_metadata(np.zeros((20, 3, 8)), 20, None, list("ab") * 10)
    assert bare["subject"].tolist() == list("ab") * 10 and list(bare) == ["subject"]
    joined = find(pd.DataFrame({"trial": np.arange(20)}), range(20))
    assert joined["subject"].tolist() == list(range(20))
    assert find_metadata(np.zeros((2, 3, 8)), 2) is None


@pytest.mark.parametrize(
    ("metadata", "subjects", "message"),
    [
        (pd.DataFrame({"subject": [1]}), None, "has 1 rows for 2 windows"),
        ({"subject": [1, 2]}, None, "must be a DataFrame .* but got dict"),
        (None, [1, 2, 3], "each of the 2 windows, but has 3 entries"),
    ],
)
def test_metadata_of_other_windows_are_refused(metadata, subjects, message):
    with pytest.raises(ValueError, match=message):
        find_metadata(np.zeros((2, 3, 8)), 2, metadata, subjects)


def test_provenance_is_incomplete_if_some_windows_are_unknown(X):
    """Windows of unknown origin were left out, as if the model had not seen them."""
    metadata = pd.DataFrame(
        {"corpus": ["SEED"] * 10 + [None] * 10, "subject": [1] * 20}
    )
    assert gather_windows(X, metadata).provenance == {
        "corpora": {"SEED": {"subjects": [1]}},
        "complete": False,
    }


def test_subjects_of_any_type_are_named_in_the_provenance(X):
    """One unknown subject makes a column of floats, which ended the training."""
    metadata = pd.DataFrame({"corpus": "SEED", "subject": [1] * 10 + [np.nan] * 10})
    expected = {"corpora": {"SEED": {"subjects": [1]}}, "complete": False}
    assert gather_windows(X, metadata).provenance == expected
    day = pd.Timestamp("2020-01-02")
    metadata = pd.DataFrame({"corpus": "A", "subject": 1.5, "session": [day] * 20})
    entry = {"subjects": ["1.5"], "sessions": ["2020-01-02 00:00:00"]}
    assert gather_windows(X, metadata).provenance == {"corpora": {"A": entry}}


def test_epochs_that_a_split_has_taken_apart_are_joined(epochs, X):
    """scikit-learn indexes Epochs as a list, of which no search could be fitted."""
    parts = _safe_indexing(epochs, [5, 2, 7])
    assert isinstance(parts, list)
    dataset = gather_windows(parts)
    assert dataset.metadata["trial"].tolist() == [5, 2, 7]
    expected = gather_windows(epochs[[5, 2, 7]]).windows[:]
    assert torch.equal(dataset.windows[:], expected)
    projected = epochs.copy().set_eeg_reference(projection=True, verbose="error")
    parts = gather_windows(_safe_indexing(projected, [5, 2, 7])).windows[:]
    assert torch.equal(parts, expected)  # the projector stays open
    other = epochs.copy().reorder_channels(["Cz", "Fz", "GSR"])
    retyped = epochs.copy().set_channel_types({"GSR": "misc"}, verbose="error")
    for wrong in (other, retyped, epochs.copy().crop(0, 0.05)):
        with pytest.raises(ValueError, match="same channels, rate and times, but got"):
            gather_windows([epochs, wrong])


@pytest.mark.parametrize("use_mne_epochs", [False, True])
def test_windows_of_braindecode_fit_the_model(concat, use_mne_epochs):
    """Another order of the channels, or another rate, was not noticed."""
    cut = create_fixed_length_windows(
        concat,
        window_size_samples=100,
        window_stride_samples=100,
        on_last_window="drop",
        use_mne_epochs=use_mne_epochs,
    )
    chs = mne.create_info(["0", "1", "2"], 100.0, "eeg")["chs"]
    assert len(gather_windows(cut, signal=Signal(100.0, chs)).windows) == 10
    with pytest.raises(
        ValueError, match=r"in the order of the model, \['2', '1', '0'\]"
    ):
        gather_windows(cut, signal=Signal(100.0, chs[::-1]))
    with pytest.raises(ValueError, match="rate of the model, 50 Hz, but has 100 Hz"):
        gather_windows(cut, signal=Signal(50.0, chs))


def test_channels_that_are_not_in_the_windows_are_not_compared(concat):
    """A target channel, which braindecode has dropped, was to be dropped."""
    for part in concat.datasets:
        part.raw.set_channel_types({"2": "misc"}, verbose="error")
        part.raw._data[2, 99::100] = 1.0
        part.raw._data[2, ~np.isin(np.arange(500), np.arange(99, 500, 100))] = np.nan
    cut = create_windows_from_target_channels(concat, window_size_samples=50)
    chs = mne.create_info(["0", "1"], 100.0, "eeg")["chs"]
    assert gather_windows(cut, signal=Signal(100.0, chs)).windows.shape[1:] == (2, 50)


def test_windows_of_braindecode_are_not_an_array(concat):
    """SSLClassifier failed with NumPy's message on an inhomogeneous shape."""
    with pytest.raises(TypeError, match="SSLPretrainer trains on it without labels"):
        read_epochs(concat)


@pytest.mark.parametrize(
    ("X", "metadata", "error", "message"),
    [
        (np.zeros((0, 2, 3)), None, ValueError, "is empty"),
        (np.zeros((4, 2, 3)), pd.DataFrame({"subject": [1]}), ValueError, "1 rows"),
        ([object()], None, TypeError, "list of shape .* and type object"),
        ("SEED", None, TypeError, "str of shape"),
        (np.zeros(4), None, TypeError, "ndarray of shape"),
    ],
)
def test_other_data_are_refused(X, metadata, error, message):
    with pytest.raises(error, match=message):
        gather_windows(X, metadata)


@pytest.mark.parametrize("dtype", [">f4", "<f8", np.longdouble, ">i2", np.float16])
def test_numbers_of_any_type_and_byte_order_are_read(dtype, X):
    """Torch refused them, with a message that named no argument."""
    windows = (100 * X).astype(dtype)
    found = gather_windows(windows).windows[np.array([3, 1])]
    expected = torch.tensor(windows[[3, 1]].astype(np.float32).tolist())
    torch.testing.assert_close(found, expected)
