from __future__ import annotations

import hashlib
import shutil
import time
from xml.etree import ElementTree

import edfio
import numpy as np
import pytest
from moabb.datasets.metadata.schema import validate_metadata_against_dataset
from sklearn.dummy import DummyClassifier

from braindecode_emossl.datasets import MAHNOB_HCI, replica_mahnob_hci, write_replica
from braindecode_emossl.datasets.inspection import inspect_corpus
from braindecode_emossl.datasets.replica_mahnob_hci import make_status, write_bdf
from braindecode_emossl.errors import CorpusFormatError, CorpusNotFoundError
from braindecode_emossl.evaluation import evaluate
from braindecode_emossl.paradigms import Emotion

KEYWORDS = {
    0: "neutral",
    1: "anger",
    2: "disgust",
    3: "fear",
    4: "joy",
    5: "sadness",
    6: "surprise",
    7: "scream",
    8: "bored",
    9: "sleepy",
    10: "unknown",
    11: "amusement",
    12: "anxiety",
}
EEG = (
    "Fp1 AF3 F3 F7 FC5 FC1 C3 T7 CP5 CP1 P3 P7 PO3 O1 Oz Pz Fp2 AF4 Fz F4 F8 FC6 FC2 "
    "Cz C4 T8 CP6 CP2 P4 P8 PO4 O2"
).split()
RUNS = [f"{run:02d}" for run in range(20)]
SECONDS = 8


def read(root, subject=1, **options):
    dataset = MAHNOB_HCI(subjects=[subject], path=root, **options)
    return dataset.get_data()[subject]["0"]


def session_folder(root, subject, number):
    """Return the folder of a stimulus by the makers' numbering."""
    (folder,) = root.rglob(f"Sessions/{130 * (subject - 1) + 2 * number}")
    return folder


def attributes_of(folder):
    return ElementTree.parse(folder / "session.xml").getroot().attrib


def bdf_of(folder):
    (file,) = folder.glob("*.bdf")
    return file


def edit(folder, **changes):
    """Change attributes of a session.xml; None takes one out."""
    tree = ElementTree.parse(folder / "session.xml")
    attributes = tree.getroot().attrib
    attributes.update({name: text for name, text in changes.items() if text})
    for name in [name for name, text in changes.items() if text is None]:
        del attributes[name]
    tree.write(folder / "session.xml")


def edit_text(folder, old, new):
    file = folder / "session.xml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def rewrite(folder, pulses, n_times=65 * 256, idle=0, **options):
    """Write noise in the place of a recording, with pulses at these samples."""
    signals = np.random.default_rng(0).normal(0, 20, (46, n_times))
    write_bdf(bdf_of(folder), signals, make_status(n_times, pulses, idle), **options)
    return signals


def log_power(raw, low, high):
    x = raw.get_data("eeg", tmin=30, tmax=30 + SECONDS)
    frequencies = np.fft.rfftfreq(x.shape[1], 1 / 256)
    inside = (frequencies >= low) & (frequencies < high)
    return np.log((np.abs(np.fft.rfft(x)[:, inside]) ** 2).sum(axis=1))


def digests(root):
    return {
        str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in root.rglob("*")
        if file.is_file() and file.suffix != ".json"
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Subjects 1 and 2, clips of 8 s. Not to be changed."""
    folder = tmp_path_factory.mktemp("mahnob")
    return write_replica("MAHNOB-HCI", folder, subjects=[1, 2], seconds=SECONDS, seed=0)


@pytest.fixture(scope="module")
def data(root):
    dataset = MAHNOB_HCI(subjects=[1, 2], path=root, return_all_modalities=True)
    return {subject: runs["0"] for subject, runs in dataset.get_data().items()}


@pytest.fixture
def copied(root, tmp_path):
    """Trials 1, 2 and 3 of subject 1, to be changed, by number."""
    folders = {}
    for number in (1, 2, 3):
        folder = session_folder(root, 1, number)
        folders[number] = tmp_path / "Sessions" / folder.name
        shutil.copytree(folder, folders[number])
    return folders


# -- what a recording becomes --------------------------------------------------


@pytest.mark.parametrize("subject", [1, 2])
def test_trials_carry_what_their_session_says(root, data, subject):
    assert list(data[subject]) == RUNS
    for number, raw in enumerate(data[subject].values()):
        said = attributes_of(session_folder(root, subject, number + 1))
        (trial,) = raw.annotations
        emotion = KEYWORDS[int(said["feltEmo"])]
        assert trial["description"] == emotion
        assert trial["extras"] == {
            "trial": number,
            "stimulus": said["mediaFile"].strip().lower(),
            "length": SECONDS,
            "emotion": emotion,
            "valence": int(said["feltVlnc"]),
            "arousal": int(said["feltArsl"]),
            "dominance": int(said["feltCtrl"]),
            "predictability": int(said["feltPred"]),
        }
        assert (trial["onset"], trial["duration"]) == (30, SECONDS)
        assert raw.n_times == (60 + SECONDS) * 256


def test_event_codes_are_those_of_the_makers_plus_one():
    expected = {name: code + 1 for code, name in KEYWORDS.items()}
    assert MAHNOB_HCI().event_id == expected


def test_stimuli_are_normalised_and_in_an_order_of_each_subjects_own(root, data):
    stimuli = {
        subject: [raw.annotations.extras[0]["stimulus"] for raw in runs.values()]
        for subject, runs in data.items()
    }
    assert stimuli[1] != stimuli[2]
    assert sorted(stimuli[1]) == sorted(stimuli[2])
    assert len(set(stimuli[1])) == 20
    folder = session_folder(root, 1, stimuli[1].index("53.avi") + 1)
    assert attributes_of(folder)["mediaFile"] == " 53.AVI "


def test_channels_have_names_types_and_places(data):
    raw = data[1]["00"]
    others = ["EXG1", "EXG2", "EXG3", "ECG", "GSR1", "Resp", "Temp"]
    types = ["ecg"] * 4 + ["gsr", "resp", "temperature"]
    assert raw.ch_names == EEG + others
    assert raw.get_channel_types() == ["eeg"] * 32 + types
    assert raw.info["sfreq"] == 256
    places = {c["ch_name"]: c["loc"][:3] for c in raw.info["chs"]}
    assert np.isfinite([places[name] for name in EEG]).all()
    assert places["Fp1"][0] < 0 < places["Fp2"][0]


def test_runs_hold_the_values_of_the_file(root, data):
    raw = data[2]["04"]
    bdf = edfio.read_bdf(bdf_of(session_folder(root, 2, 5)))
    values = {signal.label: signal.data for signal in bdf.signals}
    for name in (*EEG, "EXG1", "EXG2", "EXG3", "Resp"):
        np.testing.assert_allclose(raw.get_data(name)[0], values[name] * 1e-6)
    for name in ("GSR1", "Temp"):  # ohms and degrees as they are
        np.testing.assert_allclose(raw.get_data(name)[0], values[name])
    assert 3e4 < raw.get_data("GSR1").mean() < 3e5
    assert 30 < raw.get_data("Temp").mean() < 36
    lead = (values["EXG2"] - values["EXG3"]) * 1e-6
    np.testing.assert_allclose(raw.get_data("ECG")[0], lead, atol=1e-15)
    assert np.ptp(lead) > 5e-4


def test_eeg_alone_is_given_unless_more_is_asked_for(root):
    X, _, _ = Emotion(window=8.0).get_data(MAHNOB_HCI([1], path=root))
    assert X.shape == (20, 32, 1600)
    dataset = MAHNOB_HCI([1], path=root, return_all_modalities=True)
    X, _, _ = Emotion(window=8.0).get_data(dataset)
    assert X.shape == (20, 39, 1600)


@pytest.mark.parametrize(
    ("dimensions", "resp"),
    [
        ({"GSR1": "Ohm", "Temp": "Degree"}, 1e-6),
        ({"GSR1": "nS", "Resp": "", "Temp": "mV"}, 1e-6),
        ({"Resp": "mV"}, 1e-6),
    ],
)
def test_units_do_not_hang_on_what_the_header_calls_a_sensor(
    copied, tmp_path, dimensions, resp
):
    signals = rewrite(copied[1], (30 * 256, 35 * 256), dimensions=dimensions)
    raw = read(tmp_path, return_all_modalities=True)["00"]
    for name, factor in {"GSR1": 1, "Resp": resp, "Temp": 1}.items():
        row = replica_mahnob_hci.FILE_NAMES.index(name)
        np.testing.assert_allclose(
            raw.get_data(name)[0], signals[row] * factor, atol=0.05 * factor
        )


# -- where a trial lies --------------------------------------------------------


@pytest.mark.parametrize("idle", [0, 0x18FF00, 0x18FF03])
def test_the_pulses_say_where_a_trial_lies(copied, tmp_path, idle):
    start, end = 7700, 9001
    rewrite(copied[2], (start, end), idle=idle)
    (trial,) = read(tmp_path)["01"].annotations
    assert trial["onset"] == start / 256
    assert trial["duration"] == trial["extras"]["length"] == (end - start) / 256


def test_the_replica_has_both_idle_values(root):
    for subject, idle in ((1, 0), (2, 0x18FF00)):
        bdf = edfio.read_bdf(bdf_of(session_folder(root, subject, 1)))
        status = bdf.signals[-1].data.astype(int)
        assert np.unique(status).tolist() == [idle, idle | 16]


@pytest.mark.parametrize("pulses", [(), (30 * 256,), (40 * 256,)])
def test_a_missing_pulse_is_a_warning_and_the_usual_margins(
    copied, tmp_path, pulses, format_warnings
):
    rewrite(copied[2], pulses)
    runs = read(tmp_path)
    (trial,) = runs["01"].annotations
    assert (trial["onset"], trial["duration"]) == (30, 5)
    (message,) = format_warnings.messages
    assert str(bdf_of(copied[2])) in message
    assert f"has {len(pulses)} pulses" in message


# -- broken trials -------------------------------------------------------------


def three_pulses(folder):
    rewrite(folder, (7680, 8000, 9000))


def pulses_at_once(folder):
    rewrite(folder, (7680, 7900))


def no_pulse_and_short(folder):
    rewrite(folder, (), n_times=60 * 256)


def wrong_rate(folder):
    rewrite(folder, (30 * 512, 35 * 512), n_times=65 * 512, sfreq=512)


def no_voltage(folder):
    rewrite(folder, (7680, 9000), dimensions={"Oz": "Ohm"})


def missing_channel(folder):
    file = bdf_of(folder)
    file.write_bytes(file.read_bytes().replace(b"GSR1   ", b"GSR3   ", 1))


def cut(n_bytes):
    def damage(folder):
        file = bdf_of(folder)
        file.write_bytes(file.read_bytes()[:n_bytes])

    return damage


def no_bdf(folder):
    bdf_of(folder).write_bytes(b"\x93NUMPY" * 1000)


def cut_xml(folder):
    file = folder / "session.xml"
    file.write_bytes(file.read_bytes()[:-30])


def empty_xml(folder):
    (folder / "session.xml").write_bytes(b"")


def other_root(folder):
    (folder / "session.xml").write_text("<html><body/></html>")


def no_subject(folder):
    edit_text(folder, '<subject id="1"', "<subject")


def other_subject(folder):
    edit_text(folder, '<subject id="1"', '<subject id="7"')


def subject_99(folder):
    edit_text(folder, '<subject id="1"', '<subject id="99"')


BROKEN = {
    "no arousal": (lambda f: edit(f, feltArsl=None), "feltArsl .* but is None"),
    "no emotion": (lambda f: edit(f, feltEmo=None), "feltEmo .* but is None"),
    "rating 0": (lambda f: edit(f, feltVlnc="0"), "feltVlnc .* but is '0'"),
    "rating 10": (lambda f: edit(f, feltCtrl="10"), "feltCtrl .* but is '10'"),
    "rating 5.5": (lambda f: edit(f, feltPred="5.5"), r"feltPred .* but is '5\.5'"),
    "rating -1": (lambda f: edit(f, feltArsl="-1"), "feltArsl .* but is '-1'"),
    "huge rating": (lambda f: edit(f, feltArsl="9" * 5000), "feltArsl"),
    "emotion 13": (lambda f: edit(f, feltEmo="13"), "feltEmo .* but is '13'"),
    "no clip": (lambda f: edit(f, mediaFile=None), "names no mediaFile"),
    "blank clip": (lambda f: edit(f, mediaFile="  "), "names no mediaFile"),
    "three pulses": (three_pulses, "two pulses, .* but has 3"),
    "pulses at once": (pulses_at_once, "must last at least 1 s"),
    "no pulse, short": (no_pulse_and_short, "must last at least 1 s"),
    "512 Hz": (wrong_rate, "must be 256 Hz"),
    "not a voltage": (no_voltage, "Oz must be a voltage, .* 'Ohm'"),
    "no GSR1": (missing_channel, "has no channels GSR1"),
    "no bytes": (cut(0), "not a BDF file"),
    "half a header": (cut(300), "BDF header|has no channels"),
    "header alone": (cut(256 * 48), "cut short"),
    "one record less": (cut(-47 * 256 * 3), "cut short"),
    "one byte less": (cut(-1), "cut short"),
    "another format": (no_bdf, "not a BDF file"),
    "cut XML": (cut_xml, "cannot be read"),
    "empty XML": (empty_xml, "cannot be read"),
    "HTML": (other_root, "must be <session>, but is <html>"),
    "no subject": (no_subject, "must have a <subject id"),
    "subject 99": (subject_99, "must have a <subject id.* '99'"),
    "other subject": (other_subject, "names participant 7"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_trial_is_an_error_or_left_out_by_name(
    copied, tmp_path, kind, format_warnings
):
    damage, message = BROKEN[kind]
    damage(copied[2])
    dataset = MAHNOB_HCI([1], path=tmp_path)
    for ask in (
        dataset.get_data,
        lambda: dataset.get_additional_metadata(1, "0", "00"),
    ):
        with pytest.raises(CorpusFormatError, match=message) as error:
            ask()
        assert str(bdf_of(copied[2])) in str(error.value)
        assert 'Fetch the file again, or pass on_error="warn"' in str(error.value)
    runs = read(tmp_path, on_error="warn")
    assert list(runs) == ["00", "02"]
    # The trial after the broken one keeps its number.
    assert runs["02"].annotations.extras[0]["trial"] == 2
    (message,) = format_warnings.messages
    assert str(bdf_of(copied[2])) in message


@pytest.mark.parametrize("rating", ["1", "9", " 5 "])
def test_the_ends_of_the_scale_are_ratings(copied, tmp_path, rating):
    edit(copied[1], feltVlnc=rating)
    assert read(tmp_path)["00"].annotations.extras[0]["valence"] == int(rating)


BOMB = """<?xml version="1.0"?>
<!DOCTYPE session [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<session isStim="1" feltEmo="1"><subject id="1"/>&b;</session>
"""
EXTERNAL = """<?xml version="1.0"?>
<!DOCTYPE session [<!ENTITY a SYSTEM "file:///etc/passwd">]>
<session isStim="1" feltEmo="1"><subject id="1"/>&a;</session>
"""


@pytest.mark.parametrize("on_error", ["raise", "warn"])
@pytest.mark.parametrize("content", [BOMB, EXTERNAL])
def test_xml_with_entities_is_refused(copied, tmp_path, content, on_error):
    file = copied[2] / "session.xml"
    file.write_text(content)
    dataset = MAHNOB_HCI([1], path=tmp_path, on_error=on_error)
    for ask in (dataset.get_data, lambda: dataset.data_path(1)):
        with pytest.raises(CorpusFormatError, match="Nothing of it was used") as error:
            ask()
        assert str(file) in str(error.value)


def test_a_broken_file_of_another_subject_is_no_matter(copied, root, tmp_path):
    shutil.copytree(session_folder(root, 2, 1), tmp_path / "Sessions" / "132")
    (copied[2] / "session.xml").write_text(BOMB)
    assert len(MAHNOB_HCI([2], path=tmp_path).data_path(2)) == 1


# -- which sessions are trials -------------------------------------------------


def test_neutral_clips_and_tagging_are_no_trials(root):
    names = {file.name for file in root.rglob("*.bdf")}
    others = {"Part_1_N_Trial1_emotion.bdf", "Part_1_Trial1_taggingImages1.bdf"}
    assert others < names
    files = MAHNOB_HCI(path=root).data_path(1)
    stimuli = [str(bdf_of(session_folder(root, 1, number))) for number in range(1, 21)]
    assert files == stimuli


@pytest.mark.parametrize(
    "changes",
    [
        {"isStim": "0"},
        {"isStim": "2"},
        {"isStim": "yes"},
        {"tagValid": "1"},
        {"tagAgree": "1"},
        {"experimentType": "video tagging"},
    ],
)
@pytest.mark.parametrize("kind", ["S_", ""])
def test_a_stimulus_that_says_it_is_none_is_an_error(
    copied, tmp_path, changes, kind, format_warnings
):
    """One changed attribute removed a trial in silence."""
    edit(copied[2], **changes)
    bdf = bdf_of(copied[2])
    bdf.rename(bdf.with_name(bdf.name.replace("_S_", f"_{kind}")))
    if not kind and "isStim" not in changes:  # then it is tagging, as all says
        assert list(read(tmp_path)) == ["00", "02"]
        return
    with pytest.raises(CorpusFormatError, match=r"Trial2_.*session\.xml"):
        read(tmp_path)
    assert list(read(tmp_path, on_error="warn")) == ["00", "02"]
    assert "session.xml" in format_warnings.text


def test_a_session_without_felt_ratings_is_an_error(copied, tmp_path):
    """A session whose felt ratings had gone was taken for a neutral clip."""
    felt = ("feltEmo", "feltArsl", "feltVlnc", "feltCtrl", "feltPred")
    bdf = bdf_of(copied[2])
    bdf.rename(bdf.with_name("Part_1_Trial2_emotion.bdf"))
    edit(copied[2], **dict.fromkeys(felt))
    with pytest.raises(CorpusFormatError, match="feltVlnc"):
        read(tmp_path)
    edit(copied[2], isStim=None)
    with pytest.raises(CorpusFormatError, match="neither isStim nor feltEmo"):
        read(tmp_path)


def test_a_folder_named_session_xml_is_an_error(copied, tmp_path):
    """Its trial was passed over without a word."""
    (copied[2] / "session.xml").unlink()
    (copied[2] / "session.xml").mkdir()
    with pytest.raises(CorpusFormatError, match=r"must have a session\.xml beside it"):
        read(tmp_path)


def test_a_huge_session_xml_is_not_parsed(copied, tmp_path):
    """An XML file of a million tags took 15 s."""
    file = copied[2] / "session.xml"
    file.write_bytes(file.read_bytes().replace(b"<track", b"<a/>" * 10**6 + b"<track"))
    start = time.perf_counter()
    with pytest.raises(CorpusFormatError, match="a few thousand"):
        read(tmp_path)
    assert time.perf_counter() - start < 5


def test_the_session_number_tells_the_order_where_the_name_does_not(copied, tmp_path):
    for number, folder in copied.items():
        bdf_of(folder).rename(folder / f"{'cab'[number - 1]}.BDF")
        folder.rename(folder.with_name(f"unzipped {'bca'[number - 1]}"))
    runs = read(tmp_path)
    assert list(runs) == ["00", "01", "02"]
    names = [file[-5:] for file in MAHNOB_HCI(path=tmp_path).data_path(1)]
    assert names == ["c.BDF", "a.BDF", "b.BDF"]


@pytest.mark.parametrize("session", ["5", "44", "134", "x", "1" * 5000])
def test_a_trial_without_number_is_an_error(copied, tmp_path, session):
    bdf_of(copied[2]).rename(copied[2] / "x.bdf")
    edit(copied[2], sessionId=session)
    dataset = MAHNOB_HCI(path=tmp_path)
    with pytest.raises(CorpusFormatError, match="must lie between 1 and 20") as error:
        dataset.data_path(1)
    assert str(copied[2] / "x.bdf") in str(error.value)


def test_a_trial_that_is_there_twice_is_an_error(copied, tmp_path):
    shutil.copytree(copied[2], tmp_path / "copy of 4")
    with pytest.raises(CorpusFormatError, match=r"trial 2 .* more than once") as error:
        read(tmp_path, on_error="warn")
    assert str(tmp_path / "copy of 4") in str(error.value)
    assert str(copied[2]) in str(error.value)


def test_junk_beside_the_files_is_ignored(copied, tmp_path):
    for folder in copied.values():
        (folder / ("._" + bdf_of(folder).name)).write_bytes(b"")
        (folder / ".DS_Store").write_bytes(b"")
    (tmp_path / ".trash").mkdir()
    (tmp_path / ".trash" / "session.xml").write_bytes(b"")
    assert len(read(tmp_path)) == 3


def test_a_stimulus_without_physiology_is_left_out_and_named(
    copied, tmp_path, format_warnings
):
    bdf_of(copied[2]).unlink()
    runs = read(tmp_path)
    assert list(runs) == ["00", "02"]
    (message,) = format_warnings.messages
    assert "sessions 4 (eye tracking alone) of participant 1" in message
    assert "no physiology (.bdf file)" in message


# -- participants without physiology -------------------------------------------


@pytest.fixture(scope="module")
def silent_root(tmp_path_factory):
    """Participant 12, of whom there are sessions without physiology."""
    folder = tmp_path_factory.mktemp("silent")
    return write_replica("MAHNOB-HCI", folder, subjects=[12], seconds=1, seed=0)


def test_a_participant_without_physiology_is_said_to_have_none(silent_root):
    assert not list(silent_root.rglob("*.bdf"))
    with pytest.raises(CorpusNotFoundError) as error:
        read(silent_root, 12, on_error="warn")
    message = str(error.value)
    assert "No physiology (.bdf file) of participant 12" in message
    assert "the stimulus sessions 1432 (eye tracking alone), 1434 " in message
    assert "This is known" in message
    for text in (str(silent_root), "MNE_DATASETS_MAHNOBHCI_PATH", "may have moved"):
        assert text in message


@pytest.mark.parametrize(("subject", "known"), [(15, True), (26, True), (4, False)])
def test_a_participant_of_whom_there_is_nothing_is_not_found(root, subject, known):
    with pytest.raises(CorpusNotFoundError) as error:
        MAHNOB_HCI(path=root).data_path(subject)
    assert f"participant {subject}" in str(error.value) or not known
    assert ("This is known" in str(error.value)) == known


def test_known_gaps_do_not_stop_who_asks_for_everybody(
    copied, tmp_path, format_warnings
):
    """Participant 12 was offered as if there were data, and so evaluated."""

    class Small(MAHNOB_HCI):
        all_subject_numbers = (1, 12)

    assert Small(path=tmp_path).subject_list == [1]

    data = Small(path=tmp_path).get_data()
    assert len(data[1]["0"]) == 3
    assert list(data) == [1] and not format_warnings.messages
    X, _, metadata = Emotion(window=2.0).get_data(Small(path=tmp_path))
    assert set(metadata["subject"]) == {1}
    assert len(X) == 3 * SECONDS // 2
    with pytest.raises(CorpusNotFoundError):
        Small([12], path=tmp_path).get_data()


def test_known_gaps_have_no_files_and_no_trials(root, tmp_path):
    """All that asks for files and trials failed on the release as it is."""

    class Small(MAHNOB_HCI):
        all_subject_numbers = (1, 2, 12)

    dataset = Small(path=root)
    assert dataset.subject_list == [1, 2]
    with pytest.raises(CorpusNotFoundError, match="This is known"):
        dataset.trial_table(12)
    paradigm = Emotion("valence", window=2.0, features="de", cache_dir=tmp_path)
    assert paradigm.class_balance(dataset).sum(axis=1).to_dict() == {
        1: 20,
        2: 20,
    }
    for _ in range(2):  # the second time from the folder
        X, _, metadata = paradigm.get_data(dataset)
        assert len(X) == 40 * SECONDS // 2
        assert set(metadata["subject"]) == {1, 2}
    for few in (Small([12], path=root), Small([1, 12], path=root)):
        for ask in (few.source_files, few.trial_table):
            with pytest.raises(CorpusNotFoundError, match="This is known"):
                ask(12)
    with pytest.raises(CorpusNotFoundError, match="There is no such folder"):
        Small(path=tmp_path / "none").source_files(12)


@pytest.mark.parametrize("protocol", ["leave-one-subject-out", "chronological"])
@pytest.mark.parametrize("cached", [False, True])
def test_the_release_can_be_evaluated_with_its_known_gaps(
    root, tmp_path, protocol, cached
):
    """It stopped at participant 12, of whom nobody has physiology."""

    class Small(MAHNOB_HCI):
        all_subject_numbers = (1, 2, 12)

    results = evaluate(
        {"majority": DummyClassifier()},
        Small(path=root),
        Emotion(
            "valence",
            window=8.0,
            channels=["Fz"],
            fmin=None,
            fmax=None,
            cache_dir=tmp_path / "cache" if cached else None,
        ),
        protocol,
        results_dir=tmp_path,
    )
    assert set(results["subject"].astype(str)) == {"1", "2"}


def test_inspection_counts_what_is_there(copied, tmp_path):
    edit(copied[3], feltVlnc="0")
    dataset = MAHNOB_HCI(path=tmp_path, on_error="warn")
    report = inspect_corpus(dataset, read_signals=True)
    assert (report.n_subjects, report.n_sessions, report.n_trials) == (1, 1, 2)
    without = (12, 15, 26)
    assert report.missing_subjects == [k for k in range(2, 31) if k not in without]
    (problem,) = report.problems
    assert "feltVlnc" in problem


def test_the_folder_that_was_searched_is_named(tmp_path):
    with pytest.raises(CorpusNotFoundError, match="There is no such folder") as error:
        MAHNOB_HCI([1], path=tmp_path / "none").get_data()
    assert str(tmp_path / "none") in str(error.value)
    assert "Part_1_S_Trial1_emotion.bdf" in str(error.value)


# -- through the paradigm ------------------------------------------------------


@pytest.mark.parametrize("target", ["emotion", "valence", "arousal", "dominance"])
def test_the_paradigm_makes_its_labels(root, data, target):
    paradigm = Emotion(target=target, window=2.0, features="de")
    dataset = MAHNOB_HCI([1], path=root)
    X, y, metadata = paradigm.get_data(dataset)
    assert X.shape == (20 * SECONDS // 2, 32, 5)
    names = ("negative", "positive") if target == "valence" else ("low", "high")
    for (_, row), label in zip(metadata.iterrows(), y, strict=True):
        extras = data[1][row["run"]].annotations.extras[0]
        expected = extras[target]
        if target != "emotion":
            expected = names[int(expected > 5)]
        assert label == expected
        assert row["stimulus"] == extras["stimulus"]
        assert row["predictability"] == extras["predictability"]
    assert set(metadata["corpus"]) == {"MAHNOB-HCI"}


def test_the_paradigm_can_use_the_baseline(root):
    paradigm = Emotion(window=8.0, baseline=(-30, 0), fmin=None, fmax=None)
    X, _, _ = paradigm.get_data(MAHNOB_HCI([1], path=root))
    assert np.abs(X.mean(axis=2)).max() < 20  # of an offset of 4000 microvolts


def test_liking_was_not_asked_for():
    assert not Emotion(target="liking").is_valid(MAHNOB_HCI())
    assert Emotion(target="quadrant").is_valid(MAHNOB_HCI())


def test_trials_are_known_without_their_signals(root, data):
    table = MAHNOB_HCI(path=root).get_additional_metadata(2, "0", "07")
    (row,) = table.to_dict("records")
    keys = {"subject": 2, "session": "0", "run": "07"}
    assert row == keys | data[2]["07"].annotations.extras[0]


def test_metadata_agree_with_the_class_and_the_files(data):
    metadata = MAHNOB_HCI.METADATA
    assert validate_metadata_against_dataset(MAHNOB_HCI(), metadata) == []
    assert metadata.experiment.events == MAHNOB_HCI().event_id
    assert metadata.experiment.class_labels == list(MAHNOB_HCI().event_id)
    assert metadata.documentation.doi == MAHNOB_HCI().doi
    assert metadata.runs_per_session == len(data[1])
    raw = data[1]["00"]
    types = raw.get_channel_types()
    assert metadata.acquisition.sensors == raw.ch_names
    assert metadata.acquisition.channel_types == {t: types.count(t) for t in types}
    assert metadata.acquisition.sampling_rate == raw.info["sfreq"]
    assert MAHNOB_HCI.summary_table["Total_trials"] == 24 * 20 + 17 + 14 + 16


# -- the replica ---------------------------------------------------------------


def test_the_replica_has_the_tree_and_the_channels_of_the_release(root):
    folder = root / "hci-tagging-database"
    assert (folder / "Subjects" / "subject1.xml").is_file()
    ids = [int(path.name) for path in (folder / "Sessions").iterdir()]
    stimuli = [*range(2, 41, 2), *range(132, 171, 2)]
    assert sorted(ids) == sorted([*stimuli, 1, 42, 131, 172])
    assert (folder / "Sessions" / "2" / "P1-Rec1-Guide-Cut.tsv").is_file()
    orders = {tuple(attributes_of(session_folder(root, 1, k))) for k in range(1, 21)}
    assert len(orders) > 10
    bdf = edfio.read_bdf(folder / "Sessions" / "2" / "Part_1_S_Trial1_emotion.bdf")
    exg = [f"EXG{number}" for number in range(1, 9)]
    rest = ["GSR1", "GSR2", "Erg1", "Erg2", "Resp", "Temp", "Status"]
    assert [signal.label for signal in bdf.signals] == EEG + exg + rest
    assert {signal.sampling_frequency for signal in bdf.signals} == {256}
    assert bdf.data_record_duration == 1
    offsets = [signal.data.mean() for signal in bdf.signals[:32]]
    assert -6000 < np.mean(offsets) < -2000


def test_a_part_of_a_second_is_written(tmp_path):
    write_replica("MAHNOB-HCI", tmp_path, subjects=[1], seconds=1.5, seed=0)
    assert MAHNOB_HCI([1], path=tmp_path).get_additional_metadata(1, "0", "00")[
        "length"
    ].tolist() == [1.5]


def test_classes_differ_in_the_documented_direction(tmp_path, effect_alone):
    options = {"subjects": [1, 2], "seconds": SECONDS, "seed": 0, "effect_size": 12}
    write_replica("MAHNOB-HCI", tmp_path, **options, **effect_alone)
    dataset = MAHNOB_HCI([1, 2], path=tmp_path, return_all_modalities=True)
    data = {subject: runs["0"] for subject, runs in dataset.get_data().items()}

    def contrast(values, name):
        """Return by how many standard errors high and low ratings differ."""
        highs, lows = [], []
        for subject, runs in data.items():
            ratings = [raw.annotations.extras[0][name] for raw in runs.values()]
            x = values[subject] - values[subject].mean()
            highs += x[np.array(ratings) > 5].tolist()
            lows += x[np.array(ratings) < 5].tolist()
        error = np.sqrt(np.var(highs) / len(highs) + np.var(lows) / len(lows))
        return (np.mean(highs) - np.mean(lows)) / error

    def band(low, high, plus, minus):
        plus, minus = ([EEG.index(name) for name in names] for names in (plus, minus))
        return {
            subject: np.array(
                [
                    power[plus].mean() - power[minus].mean()
                    for power in (log_power(raw, low, high) for raw in runs.values())
                ]
            )
            for subject, runs in data.items()
        }

    def level(name):
        """Return the logarithm of a channel's mean over the clip."""
        return {
            subject: np.array(
                [
                    np.log(raw.get_data(name, tmin=30, tmax=30 + SECONDS).mean())
                    for raw in runs.values()
                ]
            )
            for subject, runs in data.items()
        }

    found = {
        "asymmetry": contrast(band(8, 14, ["F8", "F4"], ["F7", "F3"]), "valence"),
        "gamma": contrast(band(31, 45, ["T7", "T8"], ["Fz", "Cz"]), "valence"),
        "alpha": -contrast(band(8, 14, ["O1", "O2"], ["Cz", "Fz"]), "arousal"),
        "beta": contrast(band(14, 31, ["Fp1", "Fp2"], ["O1", "O2"]), "arousal"),
        "skin": -contrast(level("GSR1"), "arousal"),
        "warmth": contrast(level("Temp"), "valence"),
    }
    assert min(found.values()) > 3, found


@pytest.mark.parametrize(("effect_size", "same"), [(0, True), (1, False)])
def test_signals_depend_on_the_ratings_only_by_the_effect(
    tmp_path, monkeypatch, effect_size, same
):
    options = {"subjects": [1], "seconds": 1, "seed": 3, "effect_size": effect_size}
    write_replica("MAHNOB-HCI", tmp_path / "a", **options)
    opposite = {
        emotion: (-valence, -arousal)
        for emotion, (valence, arousal) in replica_mahnob_hci._STATES.items()
    }
    monkeypatch.setattr(replica_mahnob_hci, "_STATES", opposite)
    write_replica("MAHNOB-HCI", tmp_path / "b", **options)
    a, b = (digests(tmp_path / name) for name in "ab")
    assert set(a) == set(b)
    stimuli = [name for name in a if "_S_Trial" in name]
    assert len(stimuli) == 20
    assert all((a[name] == b[name]) == same for name in stimuli)
    assert any(a[name] != b[name] for name in a if name.endswith("session.xml"))


def test_same_seed_same_bytes_in_any_company(root, tmp_path):
    options = {"seconds": SECONDS}
    write_replica("MAHNOB-HCI", tmp_path / "a", subjects=[2], seed=0, **options)
    write_replica("MAHNOB-HCI", tmp_path / "b", subjects=[2], seed=1, **options)
    before = digests(root)
    a, b = (digests(tmp_path / name) for name in "ab")
    assert a
    assert all(before[name] == digest for name, digest in a.items())
    recordings = [name for name in a if name.endswith(".bdf")]
    assert all(a[name] != b[name] for name in recordings)
    assert len({a[name] for name in recordings}) == len(recordings) == 22
