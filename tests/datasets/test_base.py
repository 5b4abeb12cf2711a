from __future__ import annotations

import os
import re
import shutil
from dataclasses import replace

import mne
import moabb.datasets.download
import numpy as np
import pandas as pd
import pytest
from moabb.datasets.metadata.schema import validate_metadata_against_dataset
from numpy.testing import assert_allclose

from braindecode_emossl.datasets import (
    DEAP,
    DREAMER,
    FACED,
    MAHNOB_HCI,
    SEED,
    SEED_IV,
    SEED_V,
    SEED_VII,
    write_replica,
)
from braindecode_emossl.datasets.base import EmotionDataset, Trial
from braindecode_emossl.datasets.inspection import inspect_corpus
from braindecode_emossl.datasets.signals import Channels, Signals
from braindecode_emossl.errors import (
    CorpusFormatError,
    CorpusFormatWarning,
    CorpusNotFoundError,
)
from braindecode_emossl.paradigms import Emotion
from braindecode_emossl.registration import DATASETS

CORPORA = list(DATASETS)


@pytest.fixture(scope="module")
def roots(seed_root, deap_root, tmp_path_factory):
    """Replicas without subject 3. Not to be changed."""
    roots = {SEED: seed_root, DEAP: deap_root}
    for cls in set(CORPORA) - set(roots):
        folder = tmp_path_factory.mktemp(cls.code_name)
        options = {"subjects": [1, 2], "seconds": 1, "seed": 0}
        roots[cls] = write_replica(cls.code_name, folder, **options)
    return roots


@pytest.fixture
def no_home(tmp_path, monkeypatch):
    """Give an empty home, so that no test depends on the data of the user."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    # MOABB sets MNE_DATA, in configuration and environment, when it first wants it.
    monkeypatch.setenv("_MNE_FAKE_HOME_DIR", str(tmp_path / "home"))
    monkeypatch.delenv("MNE_DATA", raising=False)
    return tmp_path / "home"


@pytest.fixture
def no_network(monkeypatch):
    """Let the downloads of open corpora fail at once."""

    def refuse(**_):
        raise OSError("no network")

    monkeypatch.setattr(moabb.datasets.download.nemar, "download", refuse)


def snapshot(folder):
    return sorted((str(p), p.stat().st_mtime_ns) for p in folder.rglob("*"))


# -- finding the corpus --------------------------------------------------------


@pytest.mark.parametrize("cls", CORPORA)
def test_the_constructor_needs_no_data(cls, no_home, tmp_path):
    dataset = cls(path=tmp_path / "nowhere")
    assert dataset.subject_list == dataset.all_subjects
    assert cls().code == cls.code_name == cls.__name__.replace("_", "-")
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
def test_what_is_missing_is_told_once_and_clearly(
    cls, ask, state, tmp_path, roots, no_network
):
    if cls.is_open and state == "a file":
        pytest.skip("nothing can be downloaded into a file")
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
    if "could not be downloaded" in message:
        assert cls.is_open and "no network" in message
        return
    for name in cls.expected_files:
        assert name in message
    assert cls.access_url in message
    assert f"MNE_DATASETS_{cls.path_key}_PATH" in message
    assert f"{cls.__name__}(path=...)" in message
    if state == "a file":
        assert "It is a file" in message
    elif state == "no folder":
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
    name = cls.code_name
    folders = {
        key: tmp_path / key for key in ("argument", "constructor", "corpus", "moabb")
    }
    # MOABB downloads to a folder in small letters.
    name = f"MNE-{name.lower() if cls.is_open else name}-data"
    folders["moabb"] = folders["moabb"] / name
    folders["home"] = no_home / "mne_data" / name
    for folder in folders.values():
        folder.mkdir(parents=True)
    assert cls().find_root() == folders["home"]
    monkeypatch.setenv("MNE_DATA", str(folders["moabb"].parent))
    assert cls().find_root() == folders["moabb"]
    monkeypatch.setenv(f"MNE_DATASETS_{cls.path_key}_PATH", str(folders["corpus"]))
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


@pytest.mark.parametrize("path", ["", " ", 5, b"corpus", "~no-such-user/corpus"])
def test_what_is_no_folder_is_refused(path):
    """An empty path was the working directory, others a bare error of pathlib."""
    with pytest.raises(ValueError, match=re.escape(f"{path!r}")):
        DEAP(path=path)


def test_an_empty_setting_is_not_set(no_home, monkeypatch):
    """It was the working directory."""
    monkeypatch.setenv("MNE_DATASETS_DEAP_PATH", "")
    with pytest.raises(CorpusNotFoundError, match="MNE-DEAP-data"):
        DEAP().find_root()


def test_a_relative_path_is_that_of_the_constructor(deap_root, tmp_path, monkeypatch):
    """It was looked for where the process was when data were read."""
    monkeypatch.chdir(deap_root.parent)
    dataset = DEAP([1], path=deap_root.name)
    monkeypatch.chdir(tmp_path)
    assert len(dataset.trial_table(1)) == 40


@pytest.mark.parametrize("subject", [1.0, np.int64(1), np.float32(1)])
def test_a_subject_of_any_type_of_number_is_the_same(deap_root, subject):
    """The table of subject 1.0 held 1.0, which no other table has."""
    dataset = DEAP([1], path=deap_root)
    expected = dataset.trial_table(1)
    pd.testing.assert_frame_equal(dataset.trial_table(subject), expected)


@pytest.mark.parametrize(
    ("cls", "old", "new"),
    [
        (DEAP, "s02.dat", "S02.DAT"),
        (SEED, "2_20140404.mat", "2_20140404.MAT"),
        (SEED_IV, "2_20150915.mat", "2_20150915.MAT"),
    ],
)
def test_names_in_capitals_are_found(cls, old, new, roots, tmp_path):
    """Windows and old archives write them so."""
    shutil.copytree(roots[cls], tmp_path / "corpus")
    for file in (tmp_path / "corpus").rglob(old):
        file.rename(file.with_name(new))
    found, expected = (cls([2], path=p) for p in (tmp_path / "corpus", roots[cls]))
    assert found.trial_table(2).equals(expected.trial_table(2))
    raws = [d.get_data()[2]["0"]["03"].get_data() for d in (found, expected)]
    np.testing.assert_array_equal(*raws)


@pytest.mark.parametrize("cls", CORPORA)
def test_settings_lead_to_the_data(cls, roots, monkeypatch, tmp_path):
    expected = cls(path=roots[cls]).data_path(1)
    monkeypatch.setenv(f"MNE_DATASETS_{cls.path_key}_PATH", str(roots[cls]))
    assert cls().data_path(1) == expected
    monkeypatch.delenv(f"MNE_DATASETS_{cls.path_key}_PATH")
    name = cls.code_name.lower() if cls.is_open else cls.code_name
    shutil.copytree(roots[cls], tmp_path / f"MNE-{name}-data")
    monkeypatch.setenv("MNE_DATA", str(tmp_path))
    (first, *_) = cls().data_path(1)
    assert first.startswith(str(tmp_path))


@pytest.mark.parametrize("cls", CORPORA)
def test_data_path_names_files_and_writes_nothing(cls, roots, tmp_path, no_network):
    before = snapshot(roots[cls])
    files = cls(path=roots[cls]).data_path(1)
    # A file for each trial, or one for all sessions.
    n_files = {MAHNOB_HCI: 20, SEED_VII: 1}.get(cls, cls.n_sessions_per_subject)
    assert len(files) == n_files
    assert all(os.path.isfile(file) and os.path.isabs(file) for file in files)
    assert cls().data_path(1, path=roots[cls]) == files
    with pytest.raises(CorpusNotFoundError):
        cls(path=tmp_path / "nowhere").data_path(1)
    assert snapshot(roots[cls]) == before
    assert not list(tmp_path.rglob("*.*"))


@pytest.mark.parametrize("cls", [cls for cls in CORPORA if not cls.is_open])
def test_nothing_can_be_downloaded_again(cls, roots):
    with pytest.raises(ValueError, match="cannot be downloaded again") as error:
        cls(path=roots[cls]).data_path(1, force_update=True)
    assert cls.access_url in str(error.value)


@pytest.mark.parametrize("cls", CORPORA)
@pytest.mark.parametrize("subject", [0, 133, -1, "1"])
def test_a_wrong_subject_is_refused(cls, roots, subject):
    with pytest.raises(ValueError, match=f"subject must be .* got {subject!r}"):
        cls(path=roots[cls]).data_path(subject)
    with pytest.raises(ValueError, match="Invalid subjects"):
        cls(subjects=[subject])


def test_wrong_subjects_of_an_iterator_are_named():
    """It was read twice, so that the error was one of zip."""
    with pytest.raises(ValueError, match=r"Invalid subjects: \['x'\] are not whole"):
        DEAP(subjects=iter([1, "x"]))


@pytest.mark.parametrize("cls", CORPORA)
def test_selections_must_be_of_the_corpus(cls):
    """An unknown session was looked for, and no subjects gave no data."""
    n_sessions = cls.n_sessions_per_subject
    for wrong in ([n_sessions], ["-1"], [-1]):
        with pytest.raises(ValueError, match=r"sessions must be a list|Invalid sess"):
            cls(sessions=wrong)
    assert cls(sessions=range(n_sessions)).sessions == list(range(n_sessions))
    for name in ("subjects", "sessions"):
        with pytest.raises(ValueError, match=f"{name} is empty"):
            cls(**{name: []})


def test_a_wrong_on_error_is_refused():
    with pytest.raises(ValueError, match=r"on_error must be .* got 'ignore'"):
        SEED(on_error="ignore")


# -- what is known of the trials -----------------------------------------------


LINKS = {
    SEED: "1_20131027.mat",
    SEED_IV: "1_20160518.mat",
    DEAP: "s01.dat",
    MAHNOB_HCI: "2/session.xml",
    DREAMER: "DREAMER.mat",
    FACED: "sub-000*_eeg.bdf",
    SEED_V: "1_1_20180804.cnt",
    SEED_VII: "EEG_preprocessed/1.mat",
}


@pytest.mark.parametrize("cls", CORPORA)
def test_a_file_that_cannot_be_read_is_not_called_broken(cls, roots, tmp_path):
    """Without permission, or as a link without a target, it was to be fetched again."""
    shutil.copytree(roots[cls], tmp_path / "corpus")
    (file, *_) = sorted((tmp_path / "corpus").rglob(LINKS[cls]))
    file.unlink()
    file.symlink_to(tmp_path / "nowhere")
    with pytest.raises(CorpusFormatError) as error:
        cls([1], sessions=[0], path=tmp_path).get_data()
    text = str(error.value)
    assert text.startswith(f"{cls.code_name}: {file} cannot be read: No such file")
    assert "Check its permissions" in text and "Fetch" not in text
    with pytest.warns(CorpusFormatWarning, match="cannot be read: No such file"):
        cls([1], sessions=[0], path=tmp_path, on_error="warn").get_data()


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
    monkeypatch.setattr(
        "braindecode_emossl.datasets.seed_family.read_variables", refuse
    )
    dataset = cls(path=roots[cls])
    assert len(dataset.get_additional_metadata(1, "0", "03")) == 1
    with pytest.raises(AssertionError):
        dataset._get_single_subject_data(1)


@pytest.mark.parametrize("cls", CORPORA)
def test_additional_metadata_of_a_recording_left_out_are_an_empty_table(
    cls, tmp_path, format_warnings
):
    """Without a single trial the table had no columns, and asking was a KeyError."""
    # Of MAHNOB-HCI, the two make a recording; the second is of another subject else.
    for name in cls.expected_files[: 2 if cls is MAHNOB_HCI else 1]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    dataset = cls(path=tmp_path, on_error="warn")
    table = dataset.get_additional_metadata(1, "0", "00")
    assert isinstance(table, pd.DataFrame)
    assert len(table) == 0
    assert {"subject", "trial", "stimulus", *cls.ratings} <= set(table.columns)
    assert str(tmp_path / name) in format_warnings.text


@pytest.mark.parametrize("cls", CORPORA)
def test_metadata_agree_with_the_class_and_the_files(cls, roots):
    # The eye features of SEED-IV are there only if they are asked for.
    dataset = cls([1], path=roots[cls], return_all_modalities=True)
    metadata = cls.METADATA
    assert validate_metadata_against_dataset(dataset, metadata) == []
    assert metadata.experiment.events == dataset.event_id
    assert metadata.experiment.class_labels == list(dataset.event_id)
    assert metadata.documentation.doi == dataset.doi
    sessions = dataset.get_data()[1]
    if cls is FACED:  # whose other channels are not those of all subjects
        sessions["0"]["00"].pick("eeg")
    assert len(sessions) == metadata.sessions_per_subject
    for runs in sessions.values():
        assert len(runs) == metadata.runs_per_session
    raw = runs["00"]
    types = raw.get_channel_types()
    assert raw.info["sfreq"] == metadata.acquisition.sampling_rate
    assert raw.ch_names == metadata.acquisition.sensors
    assert metadata.acquisition.channel_types == {t: types.count(t) for t in types}
    assert cls.summary_table["Freq (Hz)"] == metadata.acquisition.sampling_rate


def touch(root):
    file = min(root.rglob("*.dat"))
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))


def lengthen(root):
    file = min(root.rglob("*.dat"))
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns
    file.write_bytes(file.read_bytes() + b" ")
    os.utime(file, ns=times)


def label_beside(root):
    (file,) = root.rglob("participant_ratings.csv")
    cells = pd.read_csv(file)
    cells["Familiarity"] = 6 - cells["Familiarity"]
    cells.to_csv(file, index=False)


@pytest.mark.parametrize("change", [lengthen, label_beside])
def test_the_fingerprint_changes_with_the_contents(change, deap_root, tmp_path):
    """Results were taken for those of files that had been replaced since."""
    root = tmp_path / "corpus"
    shutil.copytree(deap_root, root)
    fingerprint = DEAP(path=root).fingerprint()
    assert len(fingerprint) == 16
    assert fingerprint != DEAP([1], path=root).fingerprint()
    change(root)
    assert fingerprint != DEAP(path=root).fingerprint()


def test_the_fingerprint_of_a_copy_is_the_same(deap_root, tmp_path):
    """On a cluster each job copies the corpus to a folder of its own, at another time.

    Every result was then computed again, as name, size and time of the files counted.
    """
    copy, link = tmp_path / "node-a", tmp_path / "link"
    shutil.copytree(deap_root, copy, copy_function=shutil.copyfile)
    link.symlink_to(copy)
    expected = DEAP([1, 2], path=deap_root).fingerprint()
    touch(copy)
    assert DEAP([1, 2], path=copy).fingerprint() == expected
    assert DEAP([2, 1], path=link).fingerprint() == expected
    # Most of the 32 subjects have no files here.
    assert DEAP(path=copy).fingerprint() == expected


def test_the_fingerprint_needs_no_files(tmp_path):
    missing = DEAP(path=tmp_path / "nowhere")
    assert missing.fingerprint() == DEAP(path=tmp_path).fingerprint()


# -- through MOABB -------------------------------------------------------------


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
    shutil.copytree(deap_root, tmp_path / "corpus")
    dataset = DEAP([1], path=tmp_path / "corpus", return_all_modalities=modalities)
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


def test_replaced_signals_do_not_use_caches(deap_root, tmp_path):
    """A cache took the signals of a copy for those of the corpus."""
    dataset = DEAP([1], path=deap_root)

    def silence(trials, subject, session, run):
        names, seconds = ("Fz", "Cz"), max(t.onset + t.length for t in trials)
        channels = Channels(names, ("eeg", "eeg"), 128.0)
        return Signals(np.zeros((2, round(128 * seconds))), channels, trials)

    replaced = dataset.replace_signals(silence)
    raws = replaced.get_data([1], cache_config={"path": tmp_path, "save_raw": True})
    assert not any(raw.get_data().any() for raw in raws[1]["0"].values())
    assert replaced.is_mapped and not dataset.is_mapped
    assert not any(tmp_path.iterdir())


def test_map_raws_changes_signals_and_nothing_else(deap_root, tmp_path):
    dataset = DEAP([2, 1], path=deap_root)
    calls = []

    def double(raw, subject, session, run):
        calls.append((subject, session, run))
        return raw.apply_function(lambda x: 2 * x, picks="all", verbose=False)

    mapped = dataset.map_raws(double)
    assert mapped.is_mapped and not dataset.is_mapped
    found = mapped.get_data()
    expected = dataset.get_data()
    assert list(found) == [2, 1]
    runs = [(s, "0", run) for s in (2, 1) for run in expected[s]["0"]]
    assert calls == runs
    raw, original = found[2]["0"]["03"], expected[2]["0"]["03"]
    assert_allclose(raw.get_data(), 2 * original.get_data())
    assert raw.annotations == original.annotations
    pd.testing.assert_frame_equal(mapped.trial_table(1), dataset.trial_table(1))


def test_the_description_of_a_mapped_copy_is_that_of_its_raws(deap_root):
    """get_info and match_all described the raws of the files."""
    dataset = DEAP([1], path=deap_root)

    def reduce(raw, *_):
        return raw.pick(["Fz", "Cz"]).resample(100, verbose=False)

    def make(trials, *_):
        channels = Channels(("Fz", "Cz"), ("eeg", "eeg"), 100.0)
        return Signals(np.zeros((2, 7000)), channels, trials)

    for mapped in (dataset.map_raws(reduce), dataset.replace_signals(make)):
        paradigm = Emotion("valence", window=1.0, fmin=None, fmax=None, resample=None)
        info = paradigm.get_info(mapped)
        assert (info["sfreq"], info["ch_names"]) == (100.0, ["Fz", "Cz"])
        assert paradigm.get_data(mapped)[0].shape[1:] == (2, 100)
        paradigm.match_all([mapped])
        assert (paradigm.resample, paradigm.channels) == (100.0, ["Fz", "Cz"])


def test_a_mapped_copy_uses_no_cache(deap_root, tmp_path):
    """Signals of an audit must never be returned for those of the corpus."""
    dataset = DEAP([1], path=deap_root)
    config = {"save_raw": True, "use": True, "path": tmp_path}
    mapped = dataset.map_raws(lambda raw, *_: raw.crop(0, 1))
    assert mapped.get_data(cache_config=config)[1]["0"]["00"].n_times == 129
    assert not list(tmp_path.rglob("*.edf"))
    assert dataset.get_data(cache_config=config)[1]["0"]["00"].n_times > 129


@pytest.mark.parametrize("subjects", [(3,), [3], 1, np.int64(1), "1", ["1"], [True]])
def test_subjects_of_get_data_are_checked(subjects, deap_root):
    message = r"subjects must be a list|Invalid subjects: \['?(1|True)'?\]"
    with pytest.raises(ValueError, match=message):
        DEAP([1, 2], path=deap_root).get_data(subjects)


# -- a corpus of the user's own ------------------------------------------------


class Own(EmotionDataset):
    """The least that a corpus needs; one run with the ``trials``."""

    code_name = "Own"
    path_key = "OWN"
    all_subject_numbers = (1,)
    n_sessions_per_subject = 1
    n_trials_per_session = 2
    classes = {"calm": 1, "joy": 2}  # noqa: RUF012
    common_interval = (0, 2)
    doi_name = ""
    access_url = "https://example.org"
    expected_files = ("1.npy", "2.npy")
    trials = (Trial(0, "a", "calm", 2.0), Trial(1, "b", "joy", 2.0, onset=3.0))

    def _find_recordings(self, root, subject):
        return {"0": root / "1.npy"}

    def _read_trials(self, file, session):
        return {"00": list(self.trials)}

    def _read_recording(self, file, session):
        noise = 1e-5 * np.random.default_rng(0).standard_normal((2, 500))
        yield "00", self._make_raw(noise, ["Fz", "Cz"], ["eeg"] * 2, 100.0, self.trials)


OWN_TRIAL = Own.trials[1]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"emotion": "Joy"}, r"emotion='Joy', none of \['calm', 'joy'\]"),
        ({"trial": 0}, "the number of another trial of its session"),
        ({"ratings": {"valence": 3.0}}, r"\['valence'\], named in neither ratings nor"),
        (
            {"details": {"film": "x"}},
            r"\['film'\], named in neither ratings nor det",
        ),
    ],
)
def test_a_wrong_trial_of_an_own_corpus_is_named(wrong, message, tmp_path):
    """A misspelt class dropped its trials silently, and so did unnamed ratings."""

    class Wrong(Own):
        trials = (Own.trials[0], replace(OWN_TRIAL, **wrong))

    corpus = Wrong(path=tmp_path)
    message = rf"^Own, subject 1, session 0, run 00: trial . .* has {message}"
    paradigm = Emotion(window=1.0, fmax=40.0)
    for function in (
        lambda: corpus.trial_table(1),
        lambda: paradigm.get_data(corpus),
        lambda: paradigm.class_balance(corpus),
    ):
        with pytest.raises(ValueError, match=message):
            function()


def test_a_trial_beyond_its_recording_is_named(tmp_path):
    """It was cut silently."""

    class Long(Own):
        trials = (Own.trials[0], replace(OWN_TRIAL, length=50.0))

    message = r"run 00: trial 1 .* ends at 53 s, but its recording lasts 5 s"
    with pytest.raises(ValueError, match=message):
        Emotion(window=1.0, fmax=40.0).get_data(Long(path=tmp_path))


def test_classes_may_be_left_out_on_purpose(tmp_path):
    """An emotion is wrong only if it is not a class of the corpus."""
    corpus = Own(path=tmp_path)
    corpus.event_id = {"joy": 2}
    _, y, _ = Emotion(window=1.0, fmax=40.0).get_data(corpus)
    assert y.tolist() == ["joy"] * 2


def test_an_own_corpus_without_metadata_is_inspected(tmp_path):
    """It was an AttributeError of None."""
    found = inspect_corpus(Own(path=tmp_path, on_error="warn"), read_signals=True)
    assert (found.n_trials, found.expected_trials) == (2, 2)
    assert found.verdict == "complete"
