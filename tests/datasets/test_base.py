from __future__ import annotations

import logging
import os
import re
import shutil

import mne
import numpy as np
import pandas as pd
import pytest
from moabb.datasets.metadata.schema import validate_metadata_against_dataset
from scipy.io import loadmat, savemat

from braindecode_emossl.datasets import DEAP, SEED
from braindecode_emossl.datasets.replica_deap import write_python2_pickle
from braindecode_emossl.errors import CorpusFormatError, CorpusNotFoundError

CORPORA = [SEED, DEAP]


@pytest.fixture
def roots(seed_root, deap_root):
    return {SEED: seed_root, DEAP: deap_root}


@pytest.fixture
def no_home(tmp_path, monkeypatch):
    """Give an empty home, so that no test depends on the data of the user."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    # MOABB sets MNE_DATA, in configuration and environment, when it first wants it.
    monkeypatch.setenv("_MNE_FAKE_HOME_DIR", str(tmp_path / "home"))
    monkeypatch.delenv("MNE_DATA", raising=False)
    return tmp_path / "home"


def snapshot(folder):
    return sorted((str(p), p.stat().st_mtime_ns) for p in folder.rglob("*"))


def short_corpus(cls, root, folder):
    """Write subject 1 with the first two trials whole and the others broken.

    MOABB writes a file for each run, and a run is a trial: two are enough.
    """
    if cls is SEED:
        for file in (root / "SEED_EEG" / "Preprocessed_EEG").glob("1_2013103*.mat"):
            arrays = loadmat(file)
            first = {k: v for k, v in arrays.items() if re.search(r"_eeg[12]$", k)}
            savemat(folder / file.name, first)
    else:
        dataset = DEAP(path=root)
        data, labels = dataset._read_dat(dataset._recordings(1)["0"])
        labels = np.where(np.arange(40)[:, None] < 2, labels, 0.0)
        write_python2_pickle(folder / "s01.dat", {"labels": labels, "data": data})


# -- finding the corpus --------------------------------------------------------


@pytest.mark.parametrize("cls", CORPORA)
def test_the_constructor_needs_no_data(cls, no_home, tmp_path):
    dataset = cls(path=tmp_path / "nowhere")
    assert dataset.subject_list == dataset.all_subjects
    assert cls().code == cls.__name__
    assert dataset.paradigm == "emotion"
    assert dataset.interval[0] == 0


@pytest.mark.parametrize("cls", CORPORA)
@pytest.mark.parametrize(
    "ask",
    [
        lambda dataset: dataset.get_data(),
        lambda dataset: dataset.data_path(3),
        lambda dataset: dataset.get_additional_metadata(3, "0", "00"),
    ],
    ids=["get_data", "data_path", "get_additional_metadata"],
)
@pytest.mark.parametrize("state", ["no folder", "a file", "empty", "no such subject"])
def test_what_is_missing_is_told_once_and_clearly(cls, ask, state, tmp_path, roots):
    root = tmp_path / "corpus"
    if state == "a file":
        root.write_bytes(b"")
    elif state == "empty":
        root.mkdir()
    elif state == "no such subject":
        root = roots[cls]
    with pytest.raises(CorpusNotFoundError) as error:
        ask(cls(subjects=[3], path=root))
    message = str(error.value)
    assert isinstance(error.value, FileNotFoundError)
    assert str(root) in message
    assert os.path.isabs(root)
    for name in cls.expected_files:
        assert name in message
    assert cls.access_url in message
    assert f"MNE_DATASETS_{cls.__name__}_PATH" in message
    assert f"{cls.__name__}(path=...)" in message
    if state in ("no folder", "a file"):
        assert "no such folder" in message
    else:
        assert "No file of subject 3 lies below it" in message


@pytest.mark.parametrize("cls", CORPORA)
def test_a_relative_folder_is_named_absolutely(cls, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CorpusNotFoundError, match=re.escape(str(tmp_path / "here"))):
        cls(path="here").find_root()


@pytest.mark.parametrize("cls", CORPORA)
def test_settings_are_asked_in_the_order_documented(
    cls, no_home, tmp_path, monkeypatch
):
    name = cls.__name__
    folders = {
        key: tmp_path / key for key in ("argument", "constructor", "corpus", "moabb")
    }
    folders["moabb"] = folders["moabb"] / f"MNE-{name}-data"
    folders["home"] = no_home / "mne_data" / f"MNE-{name}-data"
    for folder in folders.values():
        folder.mkdir(parents=True)
    assert cls().find_root() == folders["home"]
    monkeypatch.setenv("MNE_DATA", str(folders["moabb"].parent))
    assert cls().find_root() == folders["moabb"]
    monkeypatch.setenv(f"MNE_DATASETS_{name}_PATH", str(folders["corpus"]))
    assert cls().find_root() == folders["corpus"]
    dataset = cls(path=str(folders["constructor"]))
    assert dataset.find_root() == folders["constructor"]
    assert dataset.find_root(folders["argument"]) == folders["argument"]


def test_the_configuration_file_of_mne_is_a_setting(no_home, tmp_path, monkeypatch):
    monkeypatch.setenv("_MNE_FAKE_HOME_DIR", str(tmp_path))
    mne.set_config("MNE_DATASETS_SEED_PATH", str(tmp_path), set_env=False)
    assert SEED().find_root() == tmp_path


def test_a_tilde_is_the_home(no_home):
    (no_home / "eeg").mkdir(parents=True)
    assert SEED(path="~/eeg").find_root() == no_home / "eeg"


@pytest.mark.parametrize("cls", CORPORA)
def test_settings_lead_to_the_data(cls, roots, monkeypatch, tmp_path):
    expected = cls(path=roots[cls]).data_path(1)
    monkeypatch.setenv(f"MNE_DATASETS_{cls.__name__}_PATH", str(roots[cls]))
    assert cls().data_path(1) == expected
    monkeypatch.delenv(f"MNE_DATASETS_{cls.__name__}_PATH")
    shutil.copytree(roots[cls], tmp_path / f"MNE-{cls.__name__}-data")
    monkeypatch.setenv("MNE_DATA", str(tmp_path))
    (first, *_) = cls().data_path(1)
    assert first.startswith(str(tmp_path))


@pytest.mark.parametrize("cls", CORPORA)
def test_data_path_names_files_and_writes_nothing(cls, roots, tmp_path):
    before = snapshot(roots[cls])
    files = cls(path=roots[cls]).data_path(1)
    assert len(files) == cls.n_sessions_per_subject
    assert all(os.path.isfile(file) and os.path.isabs(file) for file in files)
    assert cls().data_path(1, path=roots[cls]) == files
    with pytest.raises(CorpusNotFoundError):
        cls(path=tmp_path / "nowhere").data_path(1)
    assert snapshot(roots[cls]) == before
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("cls", CORPORA)
def test_nothing_can_be_downloaded_again(cls, roots):
    with pytest.raises(ValueError, match="cannot be downloaded again") as error:
        cls(path=roots[cls]).data_path(1, force_update=True)
    assert cls.access_url in str(error.value)


@pytest.mark.parametrize("cls", CORPORA)
@pytest.mark.parametrize("subject", [0, 33, -1, "1"])
def test_a_wrong_subject_is_refused(cls, roots, subject):
    with pytest.raises(ValueError, match=f"subject must be .* got {subject!r}"):
        cls(path=roots[cls]).data_path(subject)
    with pytest.raises(ValueError, match="Invalid subjects"):
        cls(subjects=[subject])


def test_a_wrong_on_error_is_refused():
    with pytest.raises(ValueError, match=r"on_error must be .* got 'ignore'"):
        SEED(on_error="ignore")


# -- what is known of the trials -----------------------------------------------


@pytest.mark.parametrize("cls", CORPORA)
def test_additional_metadata_equal_the_annotations(cls, roots):
    dataset = cls(subjects=[1], path=roots[cls])
    for session, runs in dataset.get_data()[1].items():
        for run, raw in runs.items():
            (extras,) = [a["extras"] for a in raw.annotations if a["extras"]]
            table = dataset.get_additional_metadata(1, session, run)
            keys = {"subject": 1, "session": session, "run": run}
            assert table.to_dict("records") == [keys | extras]
            assert list(table.index) == [0]


@pytest.mark.parametrize("cls", CORPORA)
def test_additional_metadata_need_no_signals(cls, roots, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("signals were loaded")

    monkeypatch.setattr(cls, "_read_recording", refuse)
    monkeypatch.setattr(cls, "_make_raw", refuse)
    monkeypatch.setattr("braindecode_emossl.datasets.seed.loadmat", refuse)
    dataset = cls(path=roots[cls])
    assert len(dataset.get_additional_metadata(1, "0", "03")) == 1
    with pytest.raises(AssertionError):
        dataset._get_single_subject_data(1)


@pytest.mark.parametrize("cls", CORPORA)
def test_additional_metadata_of_a_recording_left_out_are_an_empty_table(
    cls, tmp_path, caplog
):
    """Without a single trial the table had no columns, and asking was a KeyError."""
    name = "1_20131027.mat" if cls is SEED else "s01.dat"
    (tmp_path / name).write_bytes(b"")
    dataset = cls(path=tmp_path, on_error="warn")
    with caplog.at_level(logging.WARNING):
        table = dataset.get_additional_metadata(1, "0", "00")
    assert isinstance(table, pd.DataFrame)
    assert len(table) == 0
    assert {"subject", "trial", "stimulus", *cls.ratings} <= set(table.columns)
    assert str(tmp_path / name) in caplog.text


@pytest.mark.parametrize("cls", CORPORA)
def test_metadata_agree_with_the_class_and_the_files(cls, roots):
    dataset = cls(subjects=[1], path=roots[cls])
    metadata = cls.METADATA
    assert validate_metadata_against_dataset(dataset, metadata) == []
    assert metadata.experiment.events == dataset.event_id
    assert metadata.experiment.class_labels == list(dataset.event_id)
    assert metadata.documentation.doi == dataset.doi
    sessions = dataset.get_data()[1]
    assert len(sessions) == metadata.sessions_per_subject
    for runs in sessions.values():
        assert len(runs) == metadata.runs_per_session
    raw = runs["00"]
    types = raw.get_channel_types()
    assert raw.info["sfreq"] == metadata.acquisition.sampling_rate
    assert raw.ch_names == metadata.acquisition.sensors
    assert metadata.acquisition.channel_types == {t: types.count(t) for t in types}
    assert cls._summary_table["Freq (Hz)"] == metadata.acquisition.sampling_rate


# -- through MOABB -------------------------------------------------------------


@pytest.mark.parametrize("cls", CORPORA)
def test_convert_to_bids_writes_the_trials(cls, roots, tmp_path):
    (tmp_path / "corpus").mkdir()
    short_corpus(cls, roots[cls], tmp_path / "corpus")
    dataset = cls(subjects=[1], path=tmp_path / "corpus", on_error="warn")
    data = dataset.get_data()[1]
    root = dataset.convert_to_bids(path=tmp_path)
    files = sorted(root.rglob("*_eeg.edf"))
    assert len(files) == sum(map(len, data.values()))
    for session, runs in data.items():
        for run, raw in runs.items():
            (file,) = [
                f
                for f in files
                if f"ses-{session}_" in f.name and f"run-{run}_" in f.name
            ]
            events = pd.read_csv(str(file).replace("_eeg.edf", "_events.tsv"), sep="\t")
            assert events["onset"].tolist() == raw.annotations.onset.tolist()
            assert events["duration"].tolist() == raw.annotations.duration.tolist()
            assert events["trial_type"].tolist() == list(raw.annotations.description)
            eeg = mne.io.read_raw_edf(file, preload=True)
            np.testing.assert_allclose(  # 16 bits over the range of the values
                eeg.get_data(), raw.get_data("eeg"), rtol=0, atol=2e-8
            )


@pytest.mark.parametrize("cls", CORPORA)
def test_the_disk_cache_gives_the_same_recordings_back(cls, roots, tmp_path):
    (tmp_path / "corpus").mkdir()
    short_corpus(cls, roots[cls], tmp_path / "corpus")
    dataset = cls(subjects=[1], path=tmp_path / "corpus", on_error="warn")
    config = {"save_raw": True, "use": True, "path": tmp_path}
    before = dataset.get_data(cache_config=config)[1]
    shutil.rmtree(tmp_path / "corpus")  # what follows can come from the cache alone
    after = dataset.get_data(cache_config=config)[1]
    for session, runs in before.items():
        assert list(after[session]) == list(runs)
        for run, raw in runs.items():
            cached = after[session][run]
            assert cached.ch_names == raw.ch_names
            old, new = raw.annotations, cached.annotations
            np.testing.assert_allclose(new.onset, old.onset)
            np.testing.assert_allclose(new.duration, old.duration)
            assert list(new.description) == list(old.description)
            np.testing.assert_allclose(
                cached.get_data(), raw.get_data(), rtol=0, atol=2e-8
            )


@pytest.mark.parametrize(
    ("modalities", "types"),
    [
        (False, {"eeg": 32}),
        ({"eeg": True, "eog": True, "emg": True}, {"eeg": 32, "eog": 2, "emg": 2}),
        (
            True,
            {"eeg": 32, "eog": 2, "emg": 2, "gsr": 1, "resp": 1}
            | {"bio": 1, "temperature": 1},
        ),
    ],
)
def test_moabb_keeps_the_modalities_asked_for(modalities, types, deap_root, tmp_path):
    """Respiration in the hundreds of what MNE takes for volts broke EDF's header."""
    (tmp_path / "corpus").mkdir()
    short_corpus(DEAP, deap_root, tmp_path / "corpus")
    dataset = DEAP(
        subjects=[1],
        path=tmp_path / "corpus",
        on_error="warn",
        return_all_modalities=modalities,
    )
    config = {"save_raw": True, "use": True, "path": tmp_path}
    dataset.get_data(cache_config=config)
    shutil.rmtree(tmp_path / "corpus")
    raw = dataset.get_data(cache_config=config)[1]["0"]["00"]
    # Of the types, BIDS keeps what it has a name for.
    found = raw.get_channel_types()
    assert len(found) == sum(types.values())
    assert {t: found.count(t) for t in ("eeg", "eog", "emg") if t in types} == {
        t: types[t] for t in ("eeg", "eog", "emg") if t in types
    }


def test_format_errors_are_value_errors(tmp_path):
    (tmp_path / "s01.dat").write_bytes(b"")
    with pytest.raises(ValueError, match=r"s01\.dat") as error:
        DEAP(subjects=[1], path=tmp_path).get_data()
    assert type(error.value) is CorpusFormatError
