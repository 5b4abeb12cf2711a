"""FACED: the four kinds of the BIDS release, the processed files, the download."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import moabb.datasets.download
import numpy as np
import pytest
from nemar.errors import TransferError
from numpy.testing import assert_allclose

from braindecode_emossl.datasets import FACED, replica_faced, write_replica
from braindecode_emossl.datasets.faced import EMOTIONS, VALENCES
from braindecode_emossl.datasets.faced_files import EEG_NAMES
from braindecode_emossl.datasets.replica_head import Head
from braindecode_emossl.datasets.replica_signals import make_generator, make_subject
from braindecode_emossl.errors import CorpusFormatError, CorpusNotFoundError
from braindecode_emossl.paradigms import Emotion

# By kind: rate, other channels. Subject 5 is stored in volts, 6 in microvolts.
KINDS = {
    1: (1000, {"A1": "misc", "A2": "misc"}),
    5: (250, {"A1": "misc", "A2": "misc"}),
    6: (250, {"A1": "misc", "A2": "misc"}),
    37: (250, {"A1": "misc", "A2": "misc"}),
    62: (1000, {"HEOR": "eog", "HEOL": "eog"}),
}
SETTINGS = {
    **{"corpus": "FACED", "seed": 3, "seconds": 2.0},
    "effect": FACED.replica_effect,
    **dict.fromkeys(
        ("effect_size", "isc", "continuity", "subject_variance", "artifacts"), 1.0
    ),
}
UNFILTERED = {"fmin": None, "fmax": None}  # which is fast
pytestmark = pytest.mark.filterwarnings("ignore:.*channels.tsv states no unit")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """One subject of each kind, two of the kind without a unit. Not to be changed."""
    folder = tmp_path_factory.mktemp("faced")
    return write_replica("FACED", folder, subjects=KINDS, seconds=2, seed=3)


@pytest.fixture
def one(root, tmp_path):
    """A copy of subject 37, to be damaged."""
    return Path(
        shutil.copytree(root / "nm000112" / "sub-036", tmp_path / "sub-036"),
        "eeg",
    )


def table(folder, kind):
    return next(folder.glob(f"*_{kind}.tsv"))


def edit(folder, kind, change):
    """Change the text of a table."""
    file = table(folder, kind)
    text = file.read_text(encoding="utf-8-sig")
    changed = change(text)
    assert changed != text
    file.write_text(changed, encoding="utf-8-sig")


def edit_film(folder, film, column, value):
    """Change one cell of the row of a film in events.tsv."""

    def change(text):
        header, *rows = text.splitlines()
        names = header.split("\t")
        cells = [row.split("\t") for row in rows]
        row = next(c for c in cells if c[names.index("video_index")] == str(film))
        row[names.index(column)] = value
        return "\n".join([header, *("\t".join(c) for c in cells)]) + "\n"

    edit(folder, "events", change)


# -- the four kinds ------------------------------------------------------------


@pytest.mark.parametrize("subject", KINDS)
def test_signals_are_those_of_the_film_in_volts(subject, root):
    """Old names, order of channels, unit and place of a film, in every kind."""
    sfreq, others = KINDS[subject]
    runs = FACED([subject], path=root).get_data()[subject]["0"]
    assert [*runs] == [f"{k:02d}" for k in range(28)]
    head = Head.of(EEG_NAMES, {})
    viewer = make_subject(head, SETTINGS, subject)
    for run in ("00", "13", "27"):
        raw = runs[run]
        assert raw.info["sfreq"] == sfreq
        eeg_and_others = ["eeg"] * 30 + [*others.values()]
        assert raw.ch_names == [*EEG_NAMES, *others]
        assert raw.get_channel_types() == eeg_and_others
        (trial,) = raw.annotations
        film = int(trial["extras"]["stimulus"])
        assert trial["description"] == EMOTIONS[film - 1]
        rng = make_generator(SETTINGS, subject, film)
        n_times, band = 2 * sfreq, (0.1, sfreq / 2.5)
        expected = replica_faced._make_film(
            viewer, film, SETTINGS, n_times, sfreq, band, rng
        )
        start = round(trial["onset"] * sfreq)
        found = raw.get_data("eeg")[:, start : start + n_times] * 1e6
        # Electrodes have offsets, and 24 bits of the amplifier have steps.
        offset = (found - expected).mean(axis=1, keepdims=True)
        assert np.abs(offset).max() > 100
        assert_allclose(found - offset, expected, atol=0.05)


def test_a_run_holds_five_seconds_around_its_film(root):
    raw = FACED([37], path=root).get_data()[37]["0"]["10"]
    assert raw.annotations[0]["onset"] == 5.0
    assert raw.annotations[0]["duration"] == 2.0
    assert raw.n_times == 12 * 250
    # The first film of the replica begins after 4 s: no more is recorded.
    first = FACED([37], path=root).get_data()[37]["0"]["00"]
    assert first.annotations[0]["onset"] == 4.0
    Emotion(window=1, baseline=(-1, 0)).get_data(FACED([37], path=root))


def test_the_size_of_the_signals_decides_where_no_unit_is_stated(root, format_warnings):
    FACED([5, 6, 37], path=root).get_data()
    volts, microvolts = [m for m in format_warnings.messages if "no unit" in m]
    assert "sub-004" in volts and "taken as volts" in volts
    assert "sub-005" in microvolts and "taken as microvolts" in microvolts


def test_windows_of_all_kinds_are_alike(root):
    X, y, metadata = Emotion(window=1.0, **UNFILTERED).get_data(
        FACED([*KINDS], path=root)
    )
    assert X.shape == (len(KINDS) * 28 * 2, 30, 200)
    deviations = np.median(X.std(axis=2), axis=1)  # electrodes have offsets
    by_subject = [np.median(deviations[metadata["subject"] == k]) for k in KINDS]
    assert min(by_subject) > 3 and max(by_subject) < 60  # microvolts
    assert sorted(set(y)) == sorted(set(EMOTIONS))


@pytest.mark.parametrize("is_cached", [False, True])
def test_recordings_that_differ_are_not_joined(is_cached, root, tmp_path):
    """Mastoids and EOG were in one column; 2000 samples did not fit to 500.

    With ``cache_dir`` they still were.
    """
    mixed = FACED([1, 62], path=root, return_all_modalities=True)
    cache_dir = tmp_path if is_cached else None
    for _ in range(2):  # the second time from the cache
        with pytest.raises(ValueError, match=r"the same channels and rate.*HEOR"):
            Emotion(window=1.0, cache_dir=cache_dir, **UNFILTERED).get_data(mixed)
    assert (
        Emotion(window=1.0, picks="eeg", **UNFILTERED).get_data(mixed)[0].shape[1] == 30
    )
    with pytest.raises(ValueError, match=r"shape of a window.*\(30, 250\)"):
        Emotion(window=1.0, resample=None, **UNFILTERED).get_data(
            FACED([1, 5], path=root)
        )


# -- events --------------------------------------------------------------------


def test_films_are_told_apart_by_their_index(root):
    """Films named Blue, triggers and a byte order mark are handled."""
    file = next(root.rglob("sub-036*events.tsv"))
    assert file.read_bytes().startswith(b"\xef\xbb\xbfonset\t")
    assert file.read_text().count("\tBlue\t") == 4
    assert "\t\\\tneutral" in file.read_text()
    trials = FACED([37], path=root).trial_table(37)
    assert sorted(trials["stimulus"]) == [f"{k:02d}" for k in range(1, 29)]
    assert trials["trial"].tolist() == list(range(28))
    assert (trials["emotion"] == "neutral").sum() == 4
    assert trials[[*FACED.ratings]].notna().all(axis=None)


def test_thousands_of_triggers_are_no_trials(tmp_path):
    write_replica("FACED", tmp_path, subjects=[30], seconds=1, seed=0)
    file = next(tmp_path.rglob("*events.tsv"))
    assert len(file.read_text().splitlines()) > 1195
    assert len(FACED([30], path=tmp_path).trial_table(30)) == 28


def test_ratings_are_those_of_the_row(one):
    edit_film(one, 5, "Valence", "1.25")
    edit_film(one, 5, "Joy", "6.5")
    trials = FACED([37], path=one.parent).trial_table(37).set_index("stimulus")
    assert trials.loc["05", ["valence", "joy"]].tolist() == [1.25, 6.5]


def test_a_missing_rating_is_warned_of(one, format_warnings):
    edit_film(one, 5, "Valence", "n/a")
    trials = FACED([37], path=one.parent).trial_table(37).set_index("stimulus")
    assert np.isnan(trials.loc["05", "valence"])
    assert "lacks ratings of the films [5]" in format_warnings.text


def test_a_table_without_byte_order_mark_reads_the_same(one):
    before = FACED([37], path=one.parent).trial_table(37)
    for kind in ("events", "channels"):
        file = table(one, kind)
        file.write_bytes(file.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    assert FACED([37], path=one.parent).trial_table(37).equals(before)


BROKEN_FILMS = {
    "outside": ("onset", "9999.0", "the events .* are not at the 250 Hz"),
    "too long": ("duration", "150.0", "must last 1 to 140 s, but lasts 150 s"),
    "beyond the end": ("duration", "130.0", "lies at .* but the recording lasts"),
    "rating": ("Arousal", "7.5", "ratings between 0 and 7, but has {'arousal': 7.5}"),
    "infinite": ("Arousal", "inf", "film 7 .* has infinite numbers"),
    "number": ("onset", "start", "could not convert"),
    "twice": ("video_index", "8", "must be 1 to 28, once each"),
    "unknown": ("video_index", "29", "must be 1 to 28, once each"),
}


@pytest.mark.parametrize("name", BROKEN_FILMS)
def test_a_broken_event_is_an_error(name, one, format_warnings):
    column, value, says = BROKEN_FILMS[name]
    edit_film(one, 7, column, value)
    with pytest.raises(CorpusFormatError, match=f"FACED.*{says}"):
        FACED([37], path=one.parent).trial_table(37)
    left = FACED([37], path=one.parent, on_error="warn").trial_table(37)
    whole_trial = ("too long", "beyond the end", "rating")
    assert len(left) == (27 if name in whole_trial else 0)
    assert "Left out" in format_warnings.text


@pytest.mark.parametrize(
    "column, value", [("emotion_label", "Joy"), ("binary_label", "positive")]
)
def test_labels_that_contradict_are_never_left_out(column, value, one):
    edit_film(one, 7, column, value)
    dataset = FACED([37], path=one.parent, on_error="warn")
    with pytest.raises(CorpusFormatError, match=r"film 7 .* is of fear \(negative\)"):
        dataset.trial_table(37)


def test_a_missing_film_is_an_error(one):
    lines = table(one, "events").read_text(encoding="utf-8-sig").splitlines()
    table(one, "events").write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(CorpusFormatError, match="must have 28 films, but lacks"):
        FACED([37], path=one.parent).get_data()


# -- channels ------------------------------------------------------------------

BROKEN_CHANNELS = {
    "rate": (("\t250.0", "\t1000.0"), "at 250 Hz, but by channels.tsv at 1000.0 Hz"),
    "electrode": (("T5\t", "T9\t"), "must have the 30 electrodes"),
    "unit": (("\u00b5V", "pT"), "channels.tsv has the units"),
}


@pytest.mark.parametrize("name", BROKEN_CHANNELS)
def test_channels_that_do_not_fit_are_an_error(name, one):
    (old, new), says = BROKEN_CHANNELS[name]
    edit(one, "channels", lambda text: text.replace(old, new))
    with pytest.raises(CorpusFormatError, match=says):
        FACED([37], path=one.parent).get_data()


def test_the_table_names_the_channels_of_a_file_with_other_names(one, format_warnings):
    before = FACED([37], path=one.parent).get_data()[37]["0"]["00"]
    (file,) = one.glob("*.bdf")
    content = bytearray(file.read_bytes())
    for k in range(32):  # the first field of the channels
        content[256 + 16 * k : 272 + 16 * k] = f"EEG {k + 1}".ljust(16).encode()
    file.write_bytes(content)
    after = FACED([37], path=one.parent).get_data()[37]["0"]["00"]
    assert after.ch_names == before.ch_names
    assert_allclose(after.get_data(), before.get_data())
    assert "other names than in channels.tsv" in format_warnings.text


def test_channels_in_another_order_than_in_the_table_are_warned_of(
    one, format_warnings
):
    """Two names that were exchanged in the file exchanged the signals silently."""
    (file,) = one.glob("*.bdf")
    content = bytearray(file.read_bytes())
    content[256:272], content[272:288] = content[272:288], content[256:272]
    file.write_bytes(content)
    FACED([37], path=one.parent).trial_table(37)
    assert "another order than in channels.tsv" in format_warnings.text


@pytest.mark.parametrize("kind", ["physical", "digital"])
def test_channels_of_another_range_are_warned_of(kind, one, format_warnings):
    """A channel whose range was changed in the file was scaled silently."""
    (file,) = one.glob("*.bdf")
    content = bytearray(file.read_bytes())
    field = {"physical": 1, "digital": 3}[kind]
    place = 256 + 32 * (16 + 80 + 8 * field)
    content[place : place + 8] = b"-262144 "
    file.write_bytes(content)
    FACED([37], path=one.parent).trial_table(37)
    assert f"differ in their {kind} range" in format_warnings.text


def test_signals_of_no_unit_are_an_error(one, root):
    """A file that states no unit may hold neither volts nor microvolts."""
    edit(one, "channels", lambda text: text.replace("\u00b5V", "n/a"))
    (file,) = one.glob("*.bdf")
    content = bytearray(file.read_bytes())
    first = 256 + 32 * (16 + 80)
    for k in range(32):
        content[first + 8 * k : first + 8 * (k + 1)] = b" " * 8
        for field, limit in enumerate((b"-500", b"500")):
            place = first + 32 * 8 * (field + 1) + 8 * k
            content[place : place + 8] = limit.ljust(8)
    file.write_bytes(content)
    with pytest.raises(CorpusFormatError, match="neither that of EEG in volts nor"):
        FACED([37], path=one.parent).get_data()


def test_a_file_that_is_cut_short_is_an_error(one):
    (file,) = one.glob("*.bdf")
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(CorpusFormatError, match=r"sub-036.*cut short or damaged"):
        FACED([37], path=one.parent).trial_table(37)


def test_a_subject_twice_is_an_error(one, tmp_path):
    shutil.copytree(one.parent, tmp_path / "copy" / "sub-036")
    with pytest.raises(CorpusFormatError, match="holds subject 37 more than once"):
        FACED([37], path=tmp_path).data_path(37)


# -- labels --------------------------------------------------------------------


def test_valence_is_that_of_the_film_or_the_rating(one):
    edit_film(one, 1, "Valence", "6.0")  # an angry film, liked
    edit_film(one, 23, "Valence", "3.5")  # joy, on the midpoint
    edit_film(one, 24, "Valence", "4.7")
    dataset = FACED([37], path=one.parent)

    def label(**options):
        trials = Emotion("valence", **options).label_trials(dataset)
        return trials.set_index("stimulus")["label"]

    by_film = label(n_classes=3)
    assert [by_film[f"{k + 1:02d}"] for k in range(28)] == [
        VALENCES[emotion] for emotion in EMOTIONS
    ]
    assert (label() == "unlabeled").sum() == 4  # neutral films, in two classes
    rated = label(label_source="self-report")
    assert rated[["01", "23", "24"]].tolist() == ["positive", "negative", "positive"]
    thirds = label(label_source="self-report", n_classes=3)
    assert thirds[["01", "23", "24"]].tolist() == ["positive", "neutral", "positive"]


# -- the processed files -------------------------------------------------------


@pytest.fixture(scope="module")
def processed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processed")
    options = {"subjects": [1, 123], "seconds": 2, "seed": 0, "variant": "pkl"}
    return write_replica("FACED", folder, **options)


def test_processed_files_hold_films_in_their_own_order(processed):
    dataset = FACED([123], path=processed, source="processed")
    data = pickle.loads((processed / "Processed_data" / "sub122.pkl").read_bytes())
    runs = dataset.get_data()[123]["0"]
    assert dataset.code == "FACED-processed"
    assert_allclose(runs["27"].get_data() * 1e6, data[27, :30], rtol=1e-12)
    trials = dataset.trial_table(123)
    assert trials["emotion"].tolist() == list(EMOTIONS)
    with pytest.raises(ValueError, match="no target 'arousal'"):
        Emotion("arousal").get_data(dataset)


@pytest.mark.parametrize("name", ["de", "psd"])
@pytest.mark.parametrize("is_renamed", [False, True])
def test_the_features_of_the_makers_are_read(name, is_renamed, processed, tmp_path):
    """Public loaders rename them to the name of the signals, which was an error."""
    root = shutil.copytree(processed, tmp_path / "corpus")
    (file,) = (root / "EEG_Features" / name.upper()).glob("sub122*")
    values = pickle.loads(file.read_bytes())
    if is_renamed:
        file.rename(file.with_suffix(""))
    dataset = FACED([123], path=root, source="processed")
    paradigm = Emotion(features=f"released:{name}", window=1.0)
    X, y, metadata = paradigm.get_data(dataset)
    assert X.shape == (28 * 2, 30, 5)
    for film in (0, 27):
        rows = metadata["stimulus"] == f"{film + 1:02d}"
        assert_allclose(X[rows], values[film, :30].transpose(1, 0, 2))
        assert set(y[rows]) == {EMOTIONS[film]}


def test_features_in_a_folder_of_any_case_are_found(processed, tmp_path):
    """In a folder "de", they were taken for a second recording of the signals."""
    root = shutil.copytree(processed, tmp_path / "corpus")
    (file,) = (root / "EEG_Features" / "DE").glob("sub122*")
    folder = file.parent.rename(root / "EEG_Features" / "small").with_name("de")
    folder.with_name("small").rename(folder)
    (folder / file.name).rename(folder / "sub122.pkl")
    dataset = FACED([123], path=root, source="processed")
    X, _, _ = Emotion(features="released:de", window=1.0).get_data(dataset)
    assert X.shape == (28 * 2, 30, 5)


def test_several_files_of_features_are_an_error(processed, tmp_path):
    """The first one was taken in silence."""
    root = shutil.copytree(processed, tmp_path / "corpus")
    (file,) = (root / "EEG_Features" / "DE").glob("sub122*")
    other = root / "other" / "de" / "sub122.pkl"
    other.parent.mkdir(parents=True)
    other.write_bytes(pickle.dumps(np.zeros((28, 32, 2, 5))))
    dataset = FACED([123], path=root, source="processed")
    with pytest.raises(CorpusFormatError, match="subject 123 more than once") as error:
        Emotion(features="released:de", window=1.0).get_data(dataset)
    assert str(file) in str(error.value) and str(other) in str(error.value)


def test_the_bids_release_has_no_features(root):
    with pytest.raises(ValueError, match="FACED"):
        Emotion(features="released:de", window=1.0).get_data(FACED([37], path=root))


class _Attack:
    def __reduce__(self):
        return print, ("run",)


def test_code_in_a_pickle_is_refused(processed, tmp_path, capsys):
    (tmp_path / "sub000.pkl").write_bytes(pickle.dumps(_Attack()))
    dataset = FACED([1], path=tmp_path, source="processed", on_error="warn")
    with pytest.raises(CorpusFormatError, match=r"builtins.print. Nothing in it was"):
        dataset.get_data()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "value, says",
    [
        (np.zeros((28, 30, 500)), r"must hold .* but holds float64 \(28, 30, 500\)"),
        (np.zeros((28, 32, 500), int), "but holds int64"),
        ({"data": np.zeros((28, 32, 500))}, "it holds no array\\)"),
    ],
)
def test_a_pickle_of_another_layout_is_an_error(value, says, tmp_path):
    (tmp_path / "sub000.pkl").write_bytes(pickle.dumps(value))
    with pytest.raises(CorpusFormatError, match=says):
        FACED([1], path=tmp_path, source="processed").get_data()


# -- download ------------------------------------------------------------------


@pytest.fixture
def client(root, monkeypatch):
    """Replace the client of MOABB by one that copies from the replica."""
    calls = []

    def download(*, dataset, target_dir, subject, trust_existing):
        calls.append((dataset, subject, trust_existing))
        source = root / "nm000112" / f"sub-{subject}"
        shutil.copytree(source, Path(target_dir, source.name), dirs_exist_ok=True)

    monkeypatch.setattr(moabb.datasets.download.nemar, "download", download)
    return calls


def test_a_subject_is_downloaded_once(client, tmp_path, monkeypatch):
    monkeypatch.setenv("MNE_DATA", str(tmp_path))
    dataset = FACED([5])
    with pytest.raises(CorpusNotFoundError, match=r"=\[1\]\) fetches subject 1"):
        dataset.get_data()
    assert client == []  # only a download downloads
    dataset.download(subject_list=[5])
    assert client == [("nm000112", "004", True)]
    (file,) = dataset.data_path(5)
    assert Path(file).relative_to(tmp_path).parts[:2] == ("MNE-faced-data", "nm000112")
    assert len(dataset.trial_table(5)) == 28
    dataset.download(subject_list=[5])
    assert len(client) == 1
    dataset.data_path(5, force_update=True)
    assert client[1] == ("nm000112", "004", False)


def test_a_download_completes_what_is_missing(client, tmp_path):
    """A recording without its tables was taken for the whole subject."""
    dataset = FACED([37], path=tmp_path / "data")
    dataset.data_path(37)
    next(tmp_path.rglob("*events.tsv")).unlink()
    assert not dataset.is_downloaded(37)
    dataset.data_path(37)
    assert len(client) == 2
    assert len(dataset.trial_table(37)) == 28


def test_the_processed_files_are_not_downloaded(tmp_path):
    """``is_open`` was True, and ``is_downloaded`` False for files on disk."""
    replica = write_replica(
        "FACED", tmp_path, subjects=[1], seconds=1, seed=0, variant="pkl"
    )
    dataset = FACED([1], path=replica, source="processed")
    assert dataset.is_downloaded(1) and not dataset.is_downloaded(2)
    assert not dataset.is_open and FACED().is_open
    with pytest.raises(ValueError, match=r"makers \(https://www.synapse.org.*; they"):
        dataset.data_path(1, force_update=True)


def test_a_failed_download_says_why(tmp_path, monkeypatch):
    def fail(**_):
        raise TransferError("connection reset")

    monkeypatch.setattr(moabb.datasets.download.nemar, "download", fail)
    with pytest.raises(CorpusNotFoundError, match=r"connection reset\). Call again to"):
        FACED([1], path=tmp_path).data_path(1)
    with pytest.raises(ValueError, match="subject must be one of"):
        FACED(path=tmp_path).data_path(124)
