from __future__ import annotations

import numpy as np
import pytest
from moabb.analysis.results import get_digest
from moabb.datasets.metadata.schema import validate_metadata_against_dataset
from scipy.io import loadmat, savemat

from braindecode_emossl.datasets import SEED, SEED_IV, seed_iv, write_replica
from braindecode_emossl.errors import CorpusFormatError, CorpusNotFoundError
from braindecode_emossl.paradigms import Emotion

# As in the makers' ReadMe.txt.
LABELS = {
    "0": [1, 2, 3, 0, 2, 0, 0, 1, 0, 1, 2, 1, 1, 1, 2, 3, 2, 2, 3, 3, 0, 3, 0, 3],
    "1": [2, 1, 3, 0, 0, 2, 0, 2, 3, 3, 2, 3, 2, 0, 1, 1, 2, 1, 0, 3, 0, 1, 3, 1],
    "2": [1, 2, 2, 1, 3, 3, 3, 1, 1, 2, 1, 0, 2, 3, 3, 0, 2, 3, 0, 0, 2, 0, 1, 0],
}
NAMES = ["neutral", "sad", "fear", "happy"]
FILES = {"1": "1_20160518.mat", "2": "1_20161125.mat", "3": "1_20161126.mat"}
TRIALS = range(1, 25)
RUNS = [f"{run:02d}" for run in range(24)]


def make_arrays(trials=TRIALS, n_times=401, prefix="cz"):
    return {
        f"{prefix}_eeg{k}": np.random.default_rng(k).normal(0, 30, (62, n_times))
        for k in trials
    }


def make_eye(trials=TRIALS, n_windows=1):
    return {
        f"eye_{k}": np.random.default_rng(100 + k).normal(0, 1, (31, n_windows))
        for k in trials
    }


def write(root, arrays=None, kind="eeg_raw_data", session="1", **options):
    file = root / kind / session / FILES[session]
    file.parent.mkdir(parents=True, exist_ok=True)
    arrays = make_arrays() if arrays is None else arrays
    savemat(file, arrays, **options)
    return file


def read(root, subject=1, **options):
    return SEED_IV(subjects=[subject], path=root, **options).get_data()[subject]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Subject 1, all sessions, trials of 9 s: two eye windows and one second."""
    folder = tmp_path_factory.mktemp("seed-iv")
    return write_replica("SEED-IV", folder, subjects=[1], seconds=9, seed=0)


@pytest.fixture(scope="module")
def data(root):
    return read(root)


@pytest.fixture(scope="module")
def multimodal(root):
    return read(root, return_all_modalities=True)


def contents(root, kind, session):
    return loadmat(root / "SEED_IV" / kind / session / FILES[session])


# -- what a recording becomes --------------------------------------------------


@pytest.mark.parametrize("session", ["0", "1", "2"])
def test_runs_hold_the_values_of_the_file_in_volts(root, data, session):
    arrays = contents(root, "eeg_raw_data", str(int(session) + 1))
    assert list(data) == ["0", "1", "2"]
    assert list(data[session]) == RUNS
    for run, raw in data[session].items():
        expected = arrays[f"cz_eeg{int(run) + 1}"]
        assert expected.shape == (62, 1801)
        np.testing.assert_array_equal(raw.get_data(), expected[:, :1800] * 1e-6)
        assert raw.info["sfreq"] == 200
        assert set(raw.get_channel_types()) == {"eeg"}
        assert raw.ch_names[:4] == ["Fp1", "Fpz", "Fp2", "AF3"]
        assert raw.get_montage() is not None


def test_every_trial_is_one_annotation_with_its_extras(data):
    stimuli = []
    for session, runs in data.items():
        for number, (raw, label) in enumerate(
            zip(runs.values(), LABELS[session], strict=True)
        ):
            (annotation,) = raw.annotations
            assert (annotation["onset"], annotation["duration"]) == (0, 9)
            assert annotation["description"] == NAMES[label]
            assert annotation["extras"] == {
                "trial": number,
                "stimulus": f"{int(session) + 1}-{number + 1:02d}",
                "length": 9.0,
                "emotion": NAMES[label],
            }
            stimuli.append(annotation["extras"]["stimulus"])
    assert len(set(stimuli)) == 72
    assert (stimuli[0], stimuli[-1]) == ("1-01", "3-24")


def test_published_labels_and_lengths():
    assert {key: list(row) for key, row in seed_iv.LABELS.items()} == LABELS
    for row in LABELS.values():
        assert [row.count(label) for label in range(4)] == [6, 6, 6, 6]
    seconds = seed_iv.FIRST_SESSION_SECONDS
    assert len(seconds) == 24
    # Windows of four seconds in the first session, as two holders of it report.
    assert sum(n // 4 for n in seconds) == 851
    assert min(seconds) == 48


def test_the_interval_leaves_room_for_the_sessions_of_unknown_lengths():
    """It was that of the first session, and ran past clips of the others."""
    assert SEED_IV().interval == [0, 40]


def test_variables_are_matched_by_their_number(tmp_path):
    order = [10, 1, 24, 15, 2, 3, 14, *range(16, 24), 4, 5, 13, 6, 7, 12, 8, 9, 11]
    arrays = make_arrays(order, prefix="any_eeg1")
    write(tmp_path, arrays)
    runs = read(tmp_path)["0"]
    for trial in TRIALS:
        np.testing.assert_array_equal(
            runs[f"{trial - 1:02d}"].get_data(),
            arrays[f"any_eeg1_eeg{trial}"][:, :-1] * 1e-6,
        )


def test_additional_metadata_need_no_signals(root, data, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("signals were loaded")

    monkeypatch.setattr(SEED_IV, "_read_recording", refuse)
    monkeypatch.setattr(
        "braindecode_emossl.datasets.seed_family.read_variables", refuse
    )
    dataset = SEED_IV(path=root, return_all_modalities=True)
    for session, run in (("0", "00"), ("2", "23")):
        table = dataset.get_additional_metadata(1, session, run)
        keys = {"subject": 1, "session": session, "run": run}
        extras = data[session][run].annotations[0]["extras"]
        assert table.to_dict("records") == [keys | extras]


def test_metadata_are_valid_and_hold_for_the_data(multimodal):
    assert validate_metadata_against_dataset(SEED_IV(), SEED_IV.METADATA) == []
    acquisition = SEED_IV.METADATA.acquisition
    raw = multimodal["0"]["00"]
    assert acquisition.sensors == raw.ch_names
    types = raw.get_channel_types()
    assert acquisition.channel_types == {t: types.count(t) for t in set(types)}
    assert SEED_IV.METADATA.experiment.events == SEED_IV().event_id
    assert SEED_IV._summary_table["Total_trials"] == 15 * 3 * 24


# -- where it is found ---------------------------------------------------------


@pytest.mark.parametrize("tree", ["", "SEED_IV", "data/SEED_IV/SEED_IV", "renamed"])
def test_any_tree_is_searched_and_junk_ignored(tmp_path, tree):
    release = tmp_path / tree
    files = [write(release, {}, session=session) for session in "123"]
    if tree == "renamed":
        (release / "eeg_raw_data").rename(release / "EEG")
        files = [release / "EEG" / file.parent.name / file.name for file in files]
    for junk in (
        files[0].parent / "._1_20160518.mat",
        files[0].parent / ".DS_Store",
        files[0].parent / "1_20160518 (1).mat",
        files[0].parents[1] / "1_20160518.mat",
        files[0].parents[1] / "4" / "1_20160518.mat",
        release / "eeg_feature_smooth" / "1" / "1_20160518.mat",
        release / "eye_feature_smooth" / "1" / "1_20160518.mat",
        release / "eye_raw_data" / "1_20160518_blink.mat",
        release / "Preprocessed_EEG" / "1_20131027.mat",
        release / "ExtractedFeatures" / "1" / "1_20131027.mat",
    ):
        junk.parent.mkdir(parents=True, exist_ok=True)
        junk.write_bytes(b"junk")
    assert SEED_IV(path=tmp_path).data_path(1) == [str(file) for file in files]


@pytest.mark.parametrize("below", ["SEED_IV", "SEED_IV/eeg_raw_data"])
def test_the_path_may_name_an_inner_folder(root, below):
    runs = read(root / below, sessions=[1], return_all_modalities=True)["1"]
    assert len(runs) == 24
    assert len(runs["00"].ch_names) == 93


def test_seed_and_seed_iv_below_one_folder_are_told_apart(tmp_path):
    file = write(tmp_path / "SEED_IV", {})
    seed = tmp_path / "SEED" / "Preprocessed_EEG" / "1_20131027.mat"
    seed.parent.mkdir(parents=True)
    seed.write_bytes(b"")
    assert SEED_IV(path=tmp_path, sessions=[0]).data_path(1) == [str(file)]
    assert SEED(path=tmp_path, sessions=[0]).data_path(1) == [str(seed)]


def test_session_is_the_folder_whatever_the_day(tmp_path):
    names = {"1": "7_20200103.mat", "2": "7_20200101.mat", "3": "7_20200102.mat"}
    for session, name in names.items():
        file = write(tmp_path, {}, session=session)
        file.rename(file.with_name(name))
    found = SEED_IV(path=tmp_path)._recordings(7)
    assert {key: file.name for key, file in found.items()} == {
        str(int(session) - 1): name for session, name in names.items()
    }


def test_a_missing_folder_is_logged_and_the_others_load(tmp_path, format_warnings):
    for session in "12":
        write(tmp_path, session=session)
    sessions = read(tmp_path)
    assert list(sessions) == ["0", "1"]
    assert [len(runs) for runs in sessions.values()] == [24, 24]
    assert any(
        "essions ['2'] of subject 1 are missing" in m for m in format_warnings.messages
    )
    with pytest.raises(CorpusNotFoundError, match=r"sessions \[2\]") as error:
        read(tmp_path, sessions=[2])
    assert "eeg_raw_data/1/1_20160518.mat" in str(error.value)
    assert "MNE_DATASETS_SEEDIV_PATH" in str(error.value)


def test_two_releases_or_two_files_a_session_are_an_error(tmp_path):
    file = write(tmp_path / "a", {})
    (file.parent / "1_20161125.mat").write_bytes(b"")
    with pytest.raises(CorpusFormatError, match=r"20160518.*20161125"):
        SEED_IV(path=tmp_path).data_path(1)
    write(tmp_path / "b", {})
    with pytest.raises(CorpusFormatError, match="more than one folder"):
        SEED_IV(path=tmp_path).data_path(1)


# -- ReadMe.txt ----------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Notes of a user: session1, session2.",
        f"session1_label = {LABELS['0']};\r\nsession3_label={LABELS['2']}",
        "\xff\xfe no UTF-8",
        # A number of 5000 digits was an error of Python, many brackets took minutes.
        f"session{'9' * 5000}_label = [1]",
        "session1_label = [" * 200_000,
    ],
)
@pytest.mark.parametrize("name", ["ReadMe.txt", "README.TXT"])
def test_a_readme_that_says_nothing_else_is_accepted(tmp_path, text, name):
    write(tmp_path)
    (tmp_path / name).write_bytes(text.encode("latin1"))
    assert len(read(tmp_path)["0"]) == 24


@pytest.mark.parametrize(
    "line",
    [
        f"session1_label = {LABELS['0'][::-1]};",
        f"session1_label = {LABELS['0'][:23]};",
        f"session2_label = {LABELS['0']};",
        f"session4_label = {LABELS['0']};",
        "session3_label = [];",
        "session1_label = [happy, sad];",
    ],
)
def test_other_labels_in_the_readme_are_an_error(tmp_path, line):
    write(tmp_path)
    (tmp_path / "ReadMe.txt").write_text(f"Label:\n{line}\n")
    with pytest.raises(CorpusFormatError, match=f"{line[:14]} in .*ReadMe.txt must be"):
        read(tmp_path)


# -- eye features --------------------------------------------------------------


def test_eye_features_are_aligned_with_the_eeg(root, data, multimodal):
    for session, runs in multimodal.items():
        arrays = contents(root, "eye_feature_smooth", str(int(session) + 1))
        for run, raw in runs.items():
            eeg = data[session][run]
            assert raw.ch_names == [*eeg.ch_names, *seed_iv.EYE_FEATURES]
            assert raw.get_channel_types() == ["eeg"] * 62 + ["misc"] * 31
            np.testing.assert_array_equal(raw.get_data("eeg"), eeg.get_data())
            assert list(raw.annotations.extras) == list(eeg.annotations.extras)
            features = arrays[f"eye_{int(run) + 1}"]
            assert features.shape == (31, 2)
            held = raw.get_data("misc")
            for sample in (0, 799, 800, 1599, 1600, 1799):
                expected = features[:, min(int(sample / 200 // 4), 1)]
                known = ~np.isnan(expected)
                np.testing.assert_array_equal(held[known, sample], expected[known])


def test_eye_features_have_31_names_that_the_edf_format_can_hold():
    assert len(seed_iv.EYE_FEATURES) == 31
    assert max(map(len, seed_iv.EYE_FEATURES)) <= 16
    # The makers' groups of rows: 12 pupil, 4 dispersion, 2 fixation, 4 saccade, 9.
    groups = [name.split("_")[0] for name in seed_iv.EYE_FEATURES]
    assert groups == (
        ["pupil"] * 12 + ["disp"] * 4 + ["fix"] * 2 + ["sacc"] * 4 + ["ev"] * 9
    )


def test_missing_values_stay_missing(tmp_path, format_warnings):
    """They became medians of the trial, so that no model could mask them."""
    eye = make_eye(n_windows=4)
    eye["eye_3"][5, [0, 2]] = np.nan
    eye["eye_3"][7] = np.nan
    eye["eye_9"][30, 3] = np.nan
    write(tmp_path, make_arrays(n_times=3201))
    file = write(tmp_path, eye, "eye_feature_smooth")
    runs = read(tmp_path, return_all_modalities=True)["0"]
    windows = runs["02"].get_data("misc")[:, ::800]
    np.testing.assert_array_equal(windows[:, :4], eye["eye_3"])
    assert np.isnan(runs["08"].get_data("misc")[30, 2400:]).all()
    assert all(np.isfinite(raw.get_data("eeg")).all() for raw in runs.values())
    (message,) = [m for m in format_warnings.messages if "NaN" in m]
    assert f"7 values of {file} are missing (number by trial: {{3: 6, 9: 1}})," in (
        message
    )


def test_the_replica_has_one_missing_value(root, multimodal, format_warnings):
    arrays = contents(root, "eye_feature_smooth", "1")
    values = [arrays[f"eye_{k}"] for k in TRIALS]
    assert sum(np.isnan(v).sum() for v in values) == 1
    (held,) = multimodal["0"]["04"].copy().pick(["fix_dur_mean"]).get_data()
    np.testing.assert_array_equal(np.isnan(held), np.arange(len(held)) >= 800)
    for session in "23":
        arrays = contents(root, "eye_feature_smooth", session)
        assert all(np.isfinite(arrays[f"eye_{k}"]).all() for k in TRIALS)


@pytest.mark.parametrize(
    ("modalities", "n_channels"),
    [
        (False, 62),
        ({"eeg": True}, 62),
        ({"eeg": True, "misc": True}, 93),
        ({"eeg": True, "include": ["ev_blink_freq"]}, 93),
    ],
)
def test_eye_files_are_read_only_when_asked_for(tmp_path, modalities, n_channels):
    write(tmp_path)
    if n_channels == 93:
        write(tmp_path, make_eye(), "eye_feature_smooth")
    raw = read(tmp_path, return_all_modalities=modalities)["0"]["00"]
    assert len(raw.ch_names) == n_channels


def test_a_cache_of_the_eeg_alone_is_not_taken_for_both(root):
    plain, both = (
        get_digest(Emotion().make_process_pipelines(dataset)[0])
        for dataset in (SEED_IV(), SEED_IV(return_all_modalities=True))
    )
    assert plain != both


def with_eye(trial, value):
    return make_eye() | {f"eye_{trial}": value}


BROKEN_EYES = {
    "not there": ({k: v for k, v in make_eye().items() if k != "eye_7"}, "not there"),
    "33 rows": (with_eye(7, np.zeros((33, 1))), r"\(31, 1\).*has \(33, 1\)"),
    "transposed": (with_eye(7, np.zeros((1, 31))), r"has \(1, 31\)"),
    "a window more": (with_eye(7, np.zeros((31, 2))), r"has \(31, 2\)"),
    "infinite": (with_eye(7, np.full((31, 1), np.inf)), "neither finite"),
    "integers": (with_eye(7, np.ones((31, 1), np.int16)), "int16"),
}


@pytest.mark.parametrize("kind", BROKEN_EYES)
def test_broken_eye_features_are_an_error_or_left_out(tmp_path, kind, format_warnings):
    arrays, message = BROKEN_EYES[kind]
    write(tmp_path)
    file = write(tmp_path, arrays, "eye_feature_smooth")
    with pytest.raises(CorpusFormatError, match=rf"eye_7 of .*{message}") as error:
        read(tmp_path, return_all_modalities=True)
    assert str(file) in str(error.value)
    runs = read(tmp_path, return_all_modalities=True, on_error="warn")["0"]
    assert list(runs) == [run for run in RUNS if run != "06"]
    assert (
        sum("on_error" in m and str(file) in m for m in format_warnings.messages) == 1
    )
    assert len(read(tmp_path)["0"]) == 24


def test_missing_eye_files_are_an_error_or_leave_the_recording_out(
    tmp_path, format_warnings
):
    for session in "12":
        write(tmp_path, session=session)
    write(tmp_path, make_eye(), "eye_feature_smooth", "2")
    missing = tmp_path / "eye_feature_smooth" / "1" / FILES["1"]
    with pytest.raises(CorpusFormatError, match=r"eye features .* but do not") as e:
        read(tmp_path, return_all_modalities=True)
    assert str(missing) in str(e.value)
    assert "return_all_modalities=False" in str(e.value)
    sessions = read(tmp_path, return_all_modalities=True, on_error="warn")
    assert list(sessions) == ["1"]
    assert any(str(missing) in message for message in format_warnings.messages)


def test_eeg_in_place_of_the_eye_features_is_named(tmp_path):
    write(tmp_path)
    write(tmp_path, make_arrays(), "eye_feature_smooth")
    with pytest.raises(CorpusFormatError, match=r"eye_1 to .*eye_24, but has .*cz_eeg"):
        read(tmp_path, return_all_modalities=True)


# -- broken files --------------------------------------------------------------


def with_trial(trial, value):
    return make_arrays() | {f"cz_eeg{trial}": value}


def nan_trial():
    trial = make_arrays([7])["cz_eeg7"]
    trial[61, 200] = np.nan
    return trial


BROKEN_TRIALS = {
    "not there": ({k: v for k, v in make_arrays().items() if k[-2:] != "g7"}, "_eeg7"),
    "transposed": (with_trial(7, np.zeros((401, 62))), r"\(401, 62\)"),
    "three axes": (with_trial(7, np.zeros((62, 401, 2))), r"\(62, 401, 2\)"),
    "not finite": (with_trial(7, nan_trial()), "trial 7 .* not finite numbers"),
    "still": (with_trial(7, np.ones((62, 401))), "trial 7 .* stands still"),
}


@pytest.mark.parametrize("kind", BROKEN_TRIALS)
def test_a_broken_trial_is_an_error_or_left_out_by_name(
    tmp_path, kind, format_warnings
):
    arrays, message = BROKEN_TRIALS[kind]
    file = write(tmp_path, arrays)
    with pytest.raises(CorpusFormatError, match=f"SEED-IV: .*{message}") as error:
        read(tmp_path)
    assert str(file) in str(error.value)
    runs = read(tmp_path, on_error="warn")["0"]
    assert list(runs) == [run for run in RUNS if run != "06"]
    assert runs["07"].annotations[0]["extras"]["stimulus"] == "1-08"
    assert sum("on_error" in m for m in format_warnings.messages) == 1


@pytest.mark.parametrize("kind", ["eeg_raw_data", "eye_feature_smooth"])
def test_a_file_cut_short_is_an_error_or_left_out(tmp_path, kind, format_warnings):
    for session in "12":
        write(tmp_path, session=session)
        write(tmp_path, make_eye(), "eye_feature_smooth", session)
    file = tmp_path / kind / "1" / FILES["1"]
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(CorpusFormatError) as error:
        read(tmp_path, return_all_modalities=True)
    assert str(file) in str(error.value)
    data = read(tmp_path, return_all_modalities=True, on_error="warn")
    assert 0 < len(data["0"]) < 24 == len(data["1"])
    assert any(str(file) in message for message in format_warnings.messages)


@pytest.mark.parametrize(
    "arrays", [{"de_LDS1": np.zeros((62, 3, 5))}, make_arrays(range(1, 26))]
)
def test_a_file_of_something_else_is_named(tmp_path, arrays):
    file = write(tmp_path, arrays)
    with pytest.raises(CorpusFormatError, match="one variable a trial") as error:
        read(tmp_path)
    assert str(file) in str(error.value)
    assert "eeg_raw_data" in str(error.value)


def test_a_recording_of_seed_iv_is_no_recording_of_seed(root, tmp_path):
    """Its first 15 trials were read under the labels of SEED."""
    source = root / "SEED_IV" / "eeg_raw_data" / "1" / FILES["1"]
    (tmp_path / source.name).write_bytes(source.read_bytes())
    with pytest.raises(CorpusFormatError, match=r"SEED: .*_eeg15, but has"):
        SEED(subjects=[1], path=tmp_path).get_data()


# -- replica -------------------------------------------------------------------


def test_replica_has_the_files_of_the_release(tmp_path):
    write_replica("SEED-IV", tmp_path, subjects=[2, 15], seconds=1, seed=0)
    files = [p for p in (tmp_path / "SEED_IV").rglob("*") if p.is_file()]
    assert {str(p.relative_to(tmp_path / "SEED_IV")) for p in files} == {
        "ReadMe.txt",
        *(
            f"{kind}/{name}"
            for kind in ("eeg_raw_data", "eye_feature_smooth")
            for name in (
                *("1/2_20150915.mat", "2/2_20150920.mat", "3/2_20151012.mat"),
                *("1/15_20150508.mat", "2/15_20150514.mat", "3/15_20150527.mat"),
            )
        ),
    }
    text = (tmp_path / "SEED_IV" / "ReadMe.txt").read_text()
    assert f"session1_label = [{','.join(map(str, LABELS['0']))}];\n" in text
    eeg = loadmat(tmp_path / "SEED_IV/eeg_raw_data/3/15_20150527.mat")
    names = [name for name in eeg if not name.startswith("__")]
    assert sorted(names) == sorted(f"zjy_eeg{k}" for k in TRIALS)
    assert names not in (sorted(names), [f"zjy_eeg{k}" for k in TRIALS])


def contents_of(folder):
    """Return the bytes by file name, less MATLAB's text with the time of writing."""
    return {
        str(file.relative_to(folder)): file.read_bytes()[128:]
        for file in folder.rglob("*.mat")
    }


@pytest.mark.parametrize(("effect_size", "same"), [(0, True), (1, False)])
def test_signals_depend_on_the_labels_only_by_the_effect(
    tmp_path, monkeypatch, effect_size, same
):
    options = {"subjects": [1], "sessions": [0], "seconds": 1, "seed": 0}
    a, b = tmp_path / "a", tmp_path / "b"
    write_replica("SEED-IV", a, **options, effect_size=effect_size)
    other = {key: tuple((x + 1) % 4 for x in row) for key, row in LABELS.items()}
    monkeypatch.setattr(seed_iv, "LABELS", other)
    write_replica("SEED-IV", b, **options, effect_size=effect_size)
    a, b = contents_of(a), contents_of(b)
    assert len(a) == 2
    for name in a:
        assert (a[name] == b[name]) == same


def standard_errors(a, b):
    return (a.mean() - b.mean()) / np.sqrt(a.var() / len(a) + b.var() / len(b))


def test_eeg_and_eye_features_follow_the_emotion(tmp_path, effect_alone):
    options = {"subjects": [1], "seconds": 9, "seed": 0, "effect_size": 5}
    write_replica("SEED-IV", tmp_path, **options, **effect_alone)
    sessions = read(tmp_path, return_all_modalities=True)
    raws = [raw for runs in sessions.values() for raw in runs.values()]
    emotions = np.array([raw.annotations.description[0] for raw in raws])
    pupil, blink = (
        np.log([raw.copy().pick([name]).get_data().mean() for raw in raws])
        for name in ("pupil_x_mean", "ev_blink_freq")
    )
    calm, alert = emotions == "neutral", emotions == "fear"
    assert standard_errors(pupil[alert], pupil[calm]) > 5
    assert standard_errors(blink[alert], blink[calm]) < -5
    gamma = []
    for raw in raws:
        eeg = raw.copy().pick(["T7", "T8", "Fz", "Cz"]).get_data()
        power = np.abs(np.fft.rfft(eeg)[:, 31 * 9 : 75 * 9]) ** 2
        side, middle = np.log(power.mean(axis=1)).reshape(2, 2).mean(axis=1)
        gamma.append(side - middle)
    gamma, happy = np.array(gamma), emotions == "happy"
    sad = (emotions == "sad") | alert
    assert standard_errors(gamma[happy], gamma[sad]) > 4


# -- with the paradigm ---------------------------------------------------------


def test_valence_by_class(root):
    dataset = SEED_IV(subjects=[1], sessions=[0], path=root)
    negative = {"sad": "negative", "fear": "negative", "happy": "positive"}
    for n_classes, rule in ((2, negative), (3, negative | {"neutral": "neutral"})):
        paradigm = Emotion(target="valence", n_classes=n_classes)
        X, y, metadata = paradigm.get_data(dataset)
        assert X.shape == (2 * 6 * len(rule), 62, 800)
        assert y.tolist() == [rule[emotion] for emotion in metadata["emotion"]]
        assert set(metadata["corpus"]) == {"SEED-IV"}
    assert Emotion().used_events(dataset) == dict(zip(NAMES, range(1, 5), strict=True))


def test_windows_hold_the_eye_features_of_their_time(root):
    dataset = SEED_IV([1], [1], path=root, return_all_modalities=True)
    X, _, metadata = Emotion(window=4.0, fmin=1.0, fmax=40.0).get_data(dataset)
    assert X.shape == (48, 93, 800)
    arrays = contents(root, "eye_feature_smooth", "2")
    for window, row in zip(X, metadata.itertuples(), strict=True):
        expected = arrays[f"eye_{row.trial + 1}"][:, [row.window]]
        # Neither filtered nor scaled as a voltage.
        np.testing.assert_array_equal(window[62:], np.repeat(expected, 800, axis=1))
