from __future__ import annotations

import codecs
import os
import pickle
import shutil

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy._core.multiarray import _reconstruct

from braindecode_emossl.datasets import DEAP
from braindecode_emossl.datasets.replica_deap import write_python2_pickle
from braindecode_emossl.errors import CorpusFormatError

RATINGS = ["valence", "arousal", "dominance", "liking"]
N_TIMES = 512  # three seconds of baseline, one of trial


def make_content(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "labels": rng.uniform(1, 9, (40, 4)),
        "data": rng.normal(0, 20, (40, 40, N_TIMES)),
    }


def write(root, content, protocol=2):
    """Write subject 1 by Python 3's own pickle."""
    file = root / "s01.dat"
    file.write_bytes(pickle.dumps(content, protocol=protocol))
    return file


def read(root, subject=1, **options):
    return DEAP(subjects=[subject], path=root, **options).get_data()[subject]["0"]


def trial_of(raw):
    (annotation,) = raw.annotations
    return annotation


@pytest.fixture(scope="module")
def content(deap_root):
    """Subject 2, unpickled as the makers' readme says."""
    with (deap_root / "data_preprocessed_python" / "s02.dat").open("rb") as file:
        return pickle.load(file, encoding="latin1")


@pytest.fixture(scope="module")
def runs(deap_root):
    return read(deap_root, 2)


# -- what a recording becomes --------------------------------------------------


def test_runs_hold_the_values_of_the_file(runs, content):
    assert list(content) == ["labels", "data"]
    assert content["data"].shape == (40, 40, 7 * 128)
    assert list(runs) == [f"{run:02d}" for run in range(40)]
    for number, raw in enumerate(runs.values()):
        values = content["data"][number]
        np.testing.assert_array_equal(raw.get_data()[:36], values[:36] * 1e-6)
        # Respiration and blood volume as volts, ohms and degrees as they are.
        factors = np.array([1, 1e-6, 1e-6, 1])[:, None]
        np.testing.assert_array_equal(raw.get_data()[36:], values[36:] * factors)
        np.testing.assert_array_equal(raw.get_data("GSR")[0], values[36])
        assert raw.info["sfreq"] == 128


def test_channels_have_the_names_and_types_of_the_makers(runs):
    raw = runs["00"]
    names = [
        "Fp1",
        "AF3",
        "F3",
        "F7",
        "FC5",
        "FC1",
        "C3",
        "T7",
        "CP5",
        "CP1",
        "P3",
        "P7",
        "PO3",
        "O1",
        "Oz",
        "Pz",
        "Fp2",
        "AF4",
        "Fz",
        "F4",
        "F8",
        "FC6",
        "FC2",
        "Cz",
        "C4",
        "T8",
        "CP6",
        "CP2",
        "P4",
        "P8",
        "PO4",
        "O2",
        "hEOG",
        "vEOG",
        "zEMG",
        "tEMG",
        "GSR",
        "Resp",
        "Plet",
        "Temp",
    ]
    assert raw.ch_names == names
    assert raw.get_channel_types() == [
        *["eeg"] * 32,
        *["eog", "eog", "emg", "emg", "gsr", "resp", "bio", "temperature"],
    ]
    places = {c["ch_name"]: c["loc"][:3] for c in raw.info["chs"]}
    assert np.isfinite([places[name] for name in names[:32]]).all()
    assert places["Fp1"][0] < 0 < places["Fp2"][0]  # left is negative
    assert places["O1"][1] < 0 < places["Fp1"][1]  # front is positive


def test_the_trial_starts_after_the_baseline_that_is_kept(runs):
    """A mark of its own for the baseline would be a class of braindecode's windows."""
    for raw in runs.values():
        (trial,) = raw.annotations
        assert (trial["onset"], trial["duration"]) == (3, 4)
        assert raw.n_times == 7 * 128


def test_trials_carry_ratings_quadrant_stimulus_and_number(runs, content, deap_root):
    """Rows of the file are videos; the table of ratings says when each was shown."""
    table = pd.read_csv(deap_root / "metadata_csv" / "participant_ratings.csv")
    table = table[table["Participant_id"] == 2].set_index("Experiment_id")
    for number, raw in enumerate(runs.values()):
        valence, arousal, dominance, liking = content["labels"][number].tolist()
        quadrant = f"{'LH'[valence > 5]}V{'LH'[arousal > 5]}A"
        trial = trial_of(raw)
        assert trial["description"] == quadrant
        assert trial["extras"] == {
            "trial": table.loc[number + 1, "Trial"] - 1,
            "stimulus": f"{number + 1:02d}",
            "length": 4.0,
            "emotion": quadrant,
            "valence": valence,
            "arousal": arousal,
            "dominance": dominance,
            "liking": liking,
            "start": table.loc[number + 1, "Start_time"],
        }


def test_a_rating_of_exactly_five_is_low(tmp_path):
    above = np.nextafter(5.0, 6.0)
    content = make_content()
    content["labels"][:4, :2] = [[5, 5], [5, above], [above, 5], [above, above]]
    write(tmp_path, content)
    runs = read(tmp_path)
    emotions = [trial_of(runs[f"0{k}"])["description"] for k in range(4)]
    assert emotions == ["LVLA", "LVHA", "HVLA", "HVHA"]


@pytest.mark.filterwarnings("ignore:numpy.core:DeprecationWarning")
@pytest.mark.parametrize("module", ["numpy._core", "numpy.core"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_of_python_3_load_too(tmp_path, protocol, module, monkeypatch):
    """A sound copy pickled by protocol 5 was refused as hostile: its _frombuffer."""
    # Numpy 1 names the one, numpy 2 the other.
    monkeypatch.setattr(np._core.numeric._frombuffer, "__module__", f"{module}.numeric")
    content = make_content()
    file = write(tmp_path, content, protocol)
    assert (f"{module}.numeric".encode() in file.read_bytes()) == (protocol == 5)
    runs = read(tmp_path)
    np.testing.assert_array_equal(
        runs["39"].get_data("eeg"), content["data"][39, :32] * 1e-6
    )


def test_the_replica_needs_latin1_as_the_real_files_do(deap_root):
    file = deap_root / "data_preprocessed_python" / "s01.dat"
    with file.open("rb") as stream, pytest.raises(UnicodeDecodeError):
        pickle.load(stream)


def test_a_trial_of_a_minute_is_a_minute(tmp_path):
    content = make_content()
    content["data"] = np.ones((40, 40, 8064), np.float32)
    write(tmp_path, content)
    trials = DEAP(path=tmp_path).get_additional_metadata(1, "0", "39")
    assert trials["length"].tolist() == [60.0]


# -- where it is found ---------------------------------------------------------


@pytest.mark.parametrize("tree", [".", "data_preprocessed_python", "DEAP/a b/deap-dat"])
def test_any_tree_is_searched_and_junk_ignored(tmp_path, tree):
    folder = tmp_path / tree
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("s01.dat", "s02.dat", "._s01.dat", ".DS_Store", "s01.mat", "s01.bdf"):
        (folder / name).write_bytes(b"")
    assert DEAP(path=tmp_path).data_path(1) == [str(folder / "s01.dat")]


def test_a_subject_in_two_folders_is_an_error_that_names_both(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "s01.dat").write_bytes(b"")
    with pytest.raises(CorpusFormatError, match="more than once") as error:
        DEAP(path=tmp_path).data_path(1)
    assert str(tmp_path / "a" / "s01.dat") in str(error.value)
    assert str(tmp_path / "b" / "s01.dat") in str(error.value)


# -- broken files --------------------------------------------------------------

BROKEN_FILES = {
    "no labels": {"data": np.zeros((40, 40, N_TIMES))},
    "no dictionary": [1, 2],
    "39 videos": make_content() | {"data": np.zeros((39, 40, N_TIMES))},
    "32 channels": make_content() | {"data": np.zeros((40, 32, N_TIMES))},
    "no trial": make_content() | {"data": np.zeros((40, 40, N_TIMES - 1))},
    "two axes": make_content() | {"data": np.zeros((40, 40))},
    "two ratings": make_content() | {"labels": np.ones((40, 2))},
    "integers": make_content() | {"data": np.zeros((40, 40, N_TIMES), int)},
    "integer ratings": make_content() | {"labels": np.ones((40, 4), int)},
    "objects": make_content() | {"labels": np.full((40, 4), None)},
}


@pytest.mark.parametrize("kind", BROKEN_FILES)
def test_a_file_in_another_layout_is_an_error(tmp_path, kind, format_warnings):
    file = write(tmp_path, BROKEN_FILES[kind])
    check_file_is_refused(tmp_path, file, format_warnings)


@pytest.mark.parametrize("n_bytes", [0, 1, 200, -1, -(10**6)])
def test_a_truncated_file_is_an_error(tmp_path, deap_root, n_bytes, format_warnings):
    file = tmp_path / "s01.dat"
    shutil.copy(deap_root / "data_preprocessed_python" / "s01.dat", file)
    file.write_bytes(file.read_bytes()[:n_bytes])
    check_file_is_refused(tmp_path, file, format_warnings)


def check_file_is_refused(root, file, format_warnings):
    with pytest.raises(CorpusFormatError, match=r"'data'.*'labels'") as error:
        read(root)
    assert str(file) in str(error.value)
    assert 'Fetch the file again, or pass on_error="warn"' in str(error.value)
    lenient = DEAP(subjects=[1], path=root, on_error="warn")
    assert lenient.get_data() == {}
    assert (
        str(file) in format_warnings.text
        and "subject 1 is left out" in format_warnings.text
    )


def nan_signal(content):
    content["data"][11, 31, 400] = np.nan


def infinite_peripheral(content):
    content["data"][11, 39, 0] = np.inf


def zero_rating(content):
    content["labels"][11, 0] = 0.0


def high_rating(content):
    content["labels"][11, 3] = 9.01


def nan_rating(content):
    content["labels"][11, 1] = np.nan


@pytest.mark.parametrize(
    "damage", [nan_signal, infinite_peripheral, zero_rating, high_rating, nan_rating]
)
def test_a_broken_trial_is_an_error_or_left_out_by_name(
    tmp_path, damage, format_warnings
):
    content = make_content()
    damage(content)
    file = write(tmp_path, content)
    with pytest.raises(CorpusFormatError, match="trial 12 of") as error:
        read(tmp_path)
    assert str(file) in str(error.value)
    assert 'Fetch the file again, or pass on_error="warn"' in str(error.value)
    runs = read(tmp_path, on_error="warn")
    assert list(runs) == [f"{run:02d}" for run in range(40) if run != 11]
    # The trials after the broken one keep their number and their signals.
    assert trial_of(runs["12"])["extras"]["trial"] == 12
    np.testing.assert_array_equal(
        runs["12"].get_data("eeg"), content["data"][12, :32] * 1e-6
    )
    (message,) = format_warnings.messages
    assert "trial 12 of" in message
    assert str(file) in message


@pytest.mark.parametrize("rating", [1.0, 9.0])
def test_the_ends_of_the_scale_are_ratings(tmp_path, rating):
    content = make_content() | {"labels": np.full((40, 4), rating)}
    write(tmp_path, content)
    assert len(read(tmp_path)) == 40


# -- files that want to run something ------------------------------------------


class Call:
    """Pickles as the call of a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def by_opcodes(module, name, argument):
    """Pickle a call by hand, for names that this interpreter writes otherwise."""
    text = argument.encode()
    call = f"c{module}\n{name}\n(".encode() + b"X" + len(text).to_bytes(4, "little")
    return b"\x80\x02" + call + text + b"tR."


ATTACKS = {
    "os.system": lambda marker: pickle.dumps(Call(os.system, f"touch '{marker}'"), 2),
    "builtins.eval": lambda marker: pickle.dumps(
        Call(eval, f"open({str(marker)!r}, 'w')"), 2
    ),
    "builtins.eval of Python 2": lambda marker: by_opcodes(
        "__builtin__", "eval", f"open({str(marker)!r}, 'w')"
    ),
    "numpy.save": lambda marker: pickle.dumps(Call(np.save, str(marker), [1]), 2),
    "numpy.core.multiarray.fromfile": lambda marker: by_opcodes(
        "numpy.core.multiarray", "fromfile", "s01.dat"
    ),
    "a dotted name": lambda marker: b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.",
    "within the dictionary": lambda marker: pickle.dumps(
        make_content() | {"more": Call(os.system, f"touch '{marker}'")}, 2
    ),
    "within an array": lambda marker: pickle.dumps(
        {"data": np.array([Call(os.system, f"touch '{marker}'")], object)}, 2
    ),
}


@pytest.mark.parametrize("on_error", ["raise", "warn"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_refused_and_not_run(tmp_path, attack, on_error):
    marker = tmp_path / "marker.npy"
    file = tmp_path / "s01.dat"
    file.write_bytes(ATTACKS[attack](marker))
    dataset = DEAP(subjects=[1], path=tmp_path, on_error=on_error)
    for ask in (
        dataset.get_data,
        lambda: dataset.get_additional_metadata(1, "0", "00"),
    ):
        with pytest.raises(CorpusFormatError, match="Nothing in it was run") as error:
            ask()
        assert str(file) in str(error.value)
        assert "its pickle asks for" in str(error.value)
    assert not marker.exists()


@pytest.mark.parametrize("attack", ["os.system", "builtins.eval", "numpy.save"])
def test_the_attacks_would_work_on_a_plain_unpickler(tmp_path, attack):
    marker = tmp_path / "marker.npy"
    pickle.loads(ATTACKS[attack](marker))
    assert marker.exists()


@pytest.mark.parametrize(
    ("module", "name", "function"),
    [
        ("numpy.core.multiarray", "_reconstruct", _reconstruct),
        ("_codecs", "encode", codecs.encode),
    ],
)
def test_a_pickle_cannot_change_what_it_may_call(
    tmp_path, module, name, function, monkeypatch
):
    """A pickle could rename the module of numpy's own function.

    Whoever pickled an array later in the process imported the module so named.
    """
    before = function.__module__
    monkeypatch.setattr(function, "__module__", before)  # whatever happens
    state = pickle.dumps((None, {"__module__": "marker"}), 2)[2:-1]
    (tmp_path / "s01.dat").write_bytes(
        b"\x80\x02" + f"c{module}\n{name}\n".encode() + state + b"b."
    )
    with pytest.raises(CorpusFormatError):
        read(tmp_path)
    assert function.__module__ == before


# -- whatever a file holds -----------------------------------------------------


@pytest.fixture(scope="module")
def small_file(tmp_path_factory):
    root = tmp_path_factory.mktemp("mutated")
    write_python2_pickle(root / "s01.dat", make_content())
    return root / "s01.dat", (root / "s01.dat").read_bytes()


# Most bytes are samples; what steers the unpickler are the few hundred before the
# labels, between them and the data, and at the end.
N_LABEL_BYTES = 40 * 4 * 8
POSITIONS = st.one_of(
    st.integers(0, 250),
    st.integers(N_LABEL_BYTES, N_LABEL_BYTES + 400),
    st.integers(-20, -1),
    st.integers(0, 40 * 40 * N_TIMES * 8),
)
BYTES = st.integers(0, 255)


@settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    changes=st.lists(st.tuples(POSITIONS, BYTES), max_size=4),
    end=st.one_of(st.none(), POSITIONS),
)
@example(changes=[], end=None)
@example(changes=[(100_000, 7)], end=None)
def test_mutated_files_load_whole_or_raise_the_format_error(small_file, changes, end):
    file, original = small_file
    mutated = bytearray(original)
    for position, code in changes:
        mutated[position] = code
    file.write_bytes(mutated[:end])
    try:
        runs = read(file.parent)
    except CorpusFormatError as error:
        assert str(file) in str(error)
        assert bytes(mutated[:end]) != original
    else:
        assert len(runs) == 40
        assert {raw.get_data().shape for raw in runs.values()} == {(40, N_TIMES)}
