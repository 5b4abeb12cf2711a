from __future__ import annotations

import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from scipy.io import loadmat

from braindecode_emossl.datasets import (
    DEAP,
    MAHNOB_HCI,
    SEED,
    replica_deap,
    replica_seed,
    replicas,
    write_replica,
)
from braindecode_emossl.datasets import seed as seed_corpus
from braindecode_emossl.registration import DATASETS

READERS = {cls.code_name: cls for cls in DATASETS}
ONE = {"subjects": [1], "sessions": [0], "seconds": 1, "seed": 3}
SMALL = {code: ONE for code in READERS}


def digests(root, pattern="*.[mdbc][adn][tf]"):
    """Return the hash of the contents by file name.

    MATLAB files bear the time of their writing in the first 116 bytes. The features
    of SEED-IV bear the name of the recording that they go with.
    """
    return {
        file.name
        if "eye" not in str(file.relative_to(root))
        else f"eye {file.name}": hashlib.sha256(
            file.read_bytes()[128 if file.suffix == ".mat" else 0 :]
        ).hexdigest()
        for file in root.rglob(pattern)
    }


def list_files(root):
    """Return all that is there but the lock, which stays."""
    return [path for path in root.rglob("*") if path.suffix != ".lock"]


def log_power(raws, low, high, start=0.0):
    """Return the log band power (n_raws, n_chans) from ``start`` seconds on."""
    rows = []
    for raw in raws:
        x = raw.get_data("eeg", tmin=start) * 1e6
        frequencies = np.fft.rfftfreq(x.shape[1], 1 / raw.info["sfreq"])
        inside = (frequencies >= low) & (frequencies < high)
        rows.append(np.log((np.abs(np.fft.rfft(x)[:, inside]) ** 2).sum(axis=1)))
    return np.array(rows)


def standard_errors(values, high, low):
    """Return by how many standard errors the means of the two groups differ."""
    a, b = values[high], values[low]
    error = np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
    return (a.mean() - b.mean()) / error


def contrasts(corpus, root, subjects):
    """Return the effects that the documentation names, in standard errors."""
    dataset = READERS[corpus](subjects=subjects, path=root)
    found = {}
    for sessions in dataset.get_data().values():
        raws = [raw for runs in sessions.values() for raw in runs.values()]
        names = [name for name in raws[0].ch_names if name not in ("CB1", "CB2")]
        sites = {name: raws[0].ch_names.index(name) for name in names}

        def mean(power, *channels, sites=sites):
            return power[:, [sites[name] for name in channels]].mean(axis=1)

        start = 3.0 if corpus == "DEAP" else 0.0
        alpha, beta = log_power(raws, 8, 14, start), log_power(raws, 14, 31, start)
        gamma, theta = log_power(raws, 31, 45, start), log_power(raws, 4, 8, start)
        values = {
            # Trials differ in the power of a whole band: compare regions within it.
            "valence: alpha right over left": mean(alpha, "F8", "F4")
            - mean(alpha, "F7", "F3"),
            "valence: temporal gamma": mean(gamma, "T7", "T8")
            - mean(gamma, "Fz", "Cz"),
            "arousal: posterior alpha": mean(alpha, "O1", "O2", "P3", "P4")
            - mean(alpha, "Cz", "Fz"),
            "arousal: frontal beta": mean(beta, "Fp1", "Fp2", "Fz")
            - mean(beta, "O1", "O2", "Pz"),
            "arousal: frontal theta": mean(theta, "Fz") - mean(theta, "Pz", "O1", "O2"),
        }
        trials = [a for raw in raws for a in raw.annotations]
        if corpus == "SEED":
            labels = [trial["description"] for trial in trials]
            scale = {"negative": -1, "neutral": 0, "positive": 1}
            valence = np.array([scale[label] for label in labels])
            arousal = 2 * np.abs(valence) - 1
        else:
            valence, arousal = (
                np.sign([trial["extras"][name] - 5 for trial in trials])
                for name in ("valence", "arousal")
            )
        for name, value in values.items():
            label = valence if name.startswith("valence") else arousal
            value = value - value.mean()  # the head of the subject
            found.setdefault(name, []).append((value, label))
    result = {}
    for name, parts in found.items():
        value, label = map(np.concatenate, zip(*parts, strict=True))
        result[name] = standard_errors(value, label == 1, label == -1)
    return result


# Signs of the documented effects.
DIRECTIONS = {
    "valence: alpha right over left": 1,
    "valence: temporal gamma": 1,
    "arousal: posterior alpha": -1,
    "arousal: frontal beta": 1,
    "arousal: frontal theta": 1,
}


# -- the signals ---------------------------------------------------------------


@pytest.mark.parametrize("corpus", ["SEED", "DEAP"])
def test_classes_differ_in_the_documented_direction(corpus, tmp_path, effect_alone):
    # The effect is far beyond that of a real corpus, so that two subjects suffice.
    effect_size = {"SEED": 5, "DEAP": 12}[corpus]
    options = {"subjects": [1, 2], "seconds": 4, "seed": 0, "effect_size": effect_size}
    write_replica(corpus, tmp_path, **options, **effect_alone)
    found = contrasts(corpus, tmp_path, [1, 2])
    for name, direction in DIRECTIONS.items():
        assert direction * found[name] > 3, found


@pytest.mark.parametrize("corpus", ["SEED", "DEAP"])
def test_without_effect_classes_do_not_differ(corpus, tmp_path):
    write_replica(corpus, tmp_path, subjects=[1, 2], seconds=2, seed=1, effect_size=0)
    # Of five contrasts that know nothing of the labels, the largest stays below 3.5
    # standard errors in all but three of a thousand draws.
    assert np.abs(list(contrasts(corpus, tmp_path, [1, 2]).values())).max() < 3.5


def test_without_effect_seed_signals_do_not_depend_on_the_labels(tmp_path, monkeypatch):
    options = SMALL["SEED"] | {"effect_size": 0}
    write_replica("SEED", tmp_path / "a", **options)
    reverse = tuple(-label for label in seed_corpus.LABELS)
    monkeypatch.setattr(seed_corpus, "LABELS", reverse)
    write_replica("SEED", tmp_path / "b", **options)
    a, b = (digests(tmp_path / name) for name in "ab")
    assert a["1_20131027.mat"] == b["1_20131027.mat"]
    assert a["label.mat"] != b["label.mat"]


@pytest.mark.parametrize(("effect_size", "same"), [(0, True), (1, False)])
def test_deap_signals_depend_on_the_ratings_only_by_the_effect(
    tmp_path, monkeypatch, effect_size, same
):
    options = SMALL["DEAP"] | {"effect_size": effect_size}
    write_replica("DEAP", tmp_path / "a", **options)
    original = replica_deap._make_video

    def with_opposite_ratings(viewer, video, ratings, settings, rng):
        return original(viewer, video, 10 - ratings, settings, rng)

    monkeypatch.setattr(replica_deap, "_make_video", with_opposite_ratings)
    write_replica("DEAP", tmp_path / "b", **options)
    assert (digests(tmp_path / "a") == digests(tmp_path / "b")) == same


def test_quadrants_of_deap_are_all_there(deap_root):
    dataset = DEAP(path=deap_root)
    for subject in (1, 2):
        runs = [f"{run:02d}" for run in range(40)]
        emotions = [
            dataset.get_additional_metadata(subject, "0", run)["emotion"].item()
            for run in runs
        ]
        assert min(map(emotions.count, dataset.event_id)) >= 5


# -- the same bytes ------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Return a function: the folder of a corpus with the settings of SMALL."""
    known = {}

    def write(corpus):
        if corpus not in known:
            folder = tmp_path_factory.mktemp(corpus)
            known[corpus] = write_replica(corpus, folder, **SMALL[corpus])
        return known[corpus]

    return write


@pytest.mark.parametrize("corpus", READERS)
def test_same_seed_same_bytes(corpus, written, tmp_path):
    for folder, seed in (("b", 3), ("c", 4)):
        write_replica(corpus, tmp_path / folder, **SMALL[corpus] | {"seed": seed})
    a, b, c = map(digests, (written(corpus), tmp_path / "b", tmp_path / "c"))
    assert a == b
    recordings = set(a) - {"label.mat"}
    assert recordings
    assert all(a[name] != c[name] for name in recordings)


@pytest.mark.parametrize(
    ("corpus", "shared"), [("SEED", "10_20131130.mat"), ("DEAP", "s10.dat")]
)
def test_a_subject_has_the_same_bytes_in_any_company(corpus, shared, tmp_path):
    for folder, subjects in (("a", [10]), ("b", [2, 10])):
        options = SMALL[corpus] | {"subjects": subjects}
        write_replica(corpus, tmp_path / folder, **options)
    a, b = (digests(tmp_path / folder) for folder in "ab")
    assert a[shared] == b[shared]
    assert len(set(b.values())) == len(b)  # no two recordings are alike


def test_a_session_of_seed_has_the_same_bytes_in_any_company(tmp_path):
    write_replica("SEED", tmp_path / "a", **SMALL["SEED"] | {"sessions": [2]})
    write_replica("SEED", tmp_path / "b", **SMALL["SEED"] | {"sessions": [0, 2]})
    name = "1_20131107.mat"
    assert digests(tmp_path / "a")[name] == digests(tmp_path / "b")[name]


# -- the files -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("release", "tree"),
    [("new", "SEED_EEG/Preprocessed_EEG"), ("old", "Preprocessed_EEG")],
)
def test_both_release_trees_are_written_and_read(tmp_path, release, tree):
    root = write_replica("SEED", tmp_path, **SMALL["SEED"], variant=release)
    assert root == tmp_path
    names = {file.name for file in (tmp_path / tree).iterdir()}
    assert names == {"1_20131027.mat", "label.mat", "readme.txt"}
    arrays = loadmat(tmp_path / tree / "1_20131027.mat")
    names = [name for name in arrays if not name.startswith("__")]
    assert names[:3] == ["djc_eeg1", "djc_eeg10", "djc_eeg11"]
    assert {arrays[name].shape for name in names} == {(62, 201)}
    assert {arrays[name].dtype for name in names} == {np.dtype(float)}
    label = loadmat(tmp_path / tree / "label.mat")["label"]
    assert label.shape == (1, 15)
    runs = SEED(subjects=[1], sessions=[0], path=tmp_path).get_data()[1]["0"]
    assert len(runs) == 15


def test_amplitudes_are_those_of_an_eeg(seed_root, deap_root):
    for cls, root in ((SEED, seed_root), (DEAP, deap_root)):
        for sessions in cls(subjects=[1, 2], path=root).get_data().values():
            deviation = sessions["0"]["00"].get_data("eeg").std(axis=1) * 1e6
            assert 3 < deviation.min() < deviation.max() < 60


@pytest.mark.parametrize("corpus", READERS)
def test_a_second_call_changes_nothing(corpus, written):
    root = written(corpus)
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    assert write_replica(corpus, str(root), **SMALL[corpus]) == root
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*")} == before


@pytest.mark.parametrize(
    ("corpus", "change"),
    [
        ("SEED", {"seed": 4}),
        ("SEED", {"subjects": [2]}),
        ("SEED", {"variant": "old"}),
        ("SEED", {"effect_size": 0}),
        ("DEAP", {"seed": 4}),
        ("DEAP", {"subjects": [2]}),
        ("DEAP", {"subjects": [2], "seconds": 2}),
        ("SEED-IV", {"sessions": [1]}),
        ("MAHNOB-HCI", {"subjects": [2]}),
    ],
)
def test_other_settings_in_the_same_folder_are_refused(
    corpus, change, written, tmp_path
):
    """New subjects of DEAP, and SEED's other tree, were written beside the old ones.

    No file was in the way of another, so that two replicas lay in one folder under
    the receipt of the second.
    """
    shutil.copytree(written(corpus), tmp_path, dirs_exist_ok=True)
    before = digests(tmp_path, "*.*")
    with pytest.raises(FileExistsError, match="name an empty folder") as error:
        write_replica(corpus, tmp_path, **SMALL[corpus] | change)
    assert str(tmp_path) in str(error.value)
    assert digests(tmp_path, "*.*") == before


@pytest.mark.parametrize(
    ("corpus", "name"),
    [
        ("SEED", "SEED_EEG/Preprocessed_EEG/label.mat"),
        ("DEAP", "data_preprocessed_python/s01.dat"),
    ],
)
def test_files_of_others_are_never_overwritten(corpus, name, tmp_path):
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_bytes(b"the real corpus")
    with pytest.raises(FileExistsError, match="never overwrites"):
        write_replica(corpus, tmp_path, **SMALL[corpus])
    files = [p for p in list_files(tmp_path) if p.is_file()]
    assert files == [tmp_path / name]
    assert files[0].read_bytes() == b"the real corpus"


def test_corpora_may_share_a_folder(tmp_path):
    for corpus in READERS:
        write_replica(corpus, tmp_path, **SMALL[corpus])
    for cls in READERS.values():
        own = cls(sessions=[0], path=tmp_path).data_path(1)
        assert len(own) == (20 if cls is MAHNOB_HCI else 1)
    assert json.loads((tmp_path / "replica-DEAP.json").read_text())["seed"] == 3


@pytest.mark.parametrize(
    ("corpus", "module", "writer"),
    [
        ("SEED", replica_seed, "savemat"),
        ("DEAP", replica_deap, "write_python2_pickle"),
    ],
)
def test_an_interrupted_call_leaves_nothing(
    corpus, module, writer, tmp_path, monkeypatch
):
    original = getattr(module, writer)
    written = []

    def interrupted(file, *args, **kwargs):
        if len(written) == 2:  # of SEED: the labels and the first recording
            file.write_bytes(b"half a file")
            raise KeyboardInterrupt
        original(file, *args, **kwargs)
        written.append(file)

    options = SMALL[corpus] | {"subjects": [1, 2, 3]}
    with monkeypatch.context() as patched:
        patched.setattr(module, writer, interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_replica(corpus, tmp_path, **options)
    assert len(written) == 2
    assert not list_files(tmp_path)
    write_replica(corpus, tmp_path, **options)
    assert READERS[corpus](path=tmp_path, sessions=[0]).data_path(3)


# -- the receipt ---------------------------------------------------------------


def run_script(script, *args):
    script = textwrap.dedent(script)
    return subprocess.Popen([sys.executable, "-c", script, *map(str, args)])


@pytest.mark.parametrize("n_moves", [None, 0, 1])
def test_a_killed_call_is_completed_by_the_next(n_moves, written, tmp_path):
    """After a folder was moved, it was "not this very replica" for ever.

    What was half written stayed in a hidden folder for ever.
    """
    process = run_script(
        """
        import os, pathlib, signal, sys
        from braindecode_emossl.datasets import replica_deap, write_replica

        root, n_moves = pathlib.Path(sys.argv[1]), sys.argv[2]
        replace, moved = pathlib.Path.replace, []

        def die(*args, **kwargs):
            os.kill(os.getpid(), signal.SIGKILL)

        def replace_or_die(self, target):
            if self.is_dir() and len(moved) == int(n_moves):
                die()
            moved.extend([target] * self.is_dir())
            return replace(self, target)

        if n_moves == "None":
            replica_deap.write_python2_pickle = die
        else:
            pathlib.Path.replace = replace_or_die
        options = {"subjects": [1], "sessions": [0], "seconds": 1, "seed": 3}
        write_replica("DEAP", root, **options)
        """,
        tmp_path,
        n_moves,
    )
    assert process.wait() == -signal.SIGKILL
    assert len([*tmp_path.glob(".replica-*.tmp")]) == 1
    assert len([*tmp_path.glob("[!.]*/")]) == (n_moves or 0)
    write_replica("DEAP", tmp_path, **ONE)
    assert not [*tmp_path.glob(".*.tmp")]
    assert digests(tmp_path) == digests(written("DEAP"))


def test_a_call_waits_for_another_one(written, tmp_path):
    """The second of two processes read what the first had not finished."""
    script = """
        import sys, time
        from braindecode_emossl.datasets import DEAP, replica_deap, write_replica

        write_pickle = replica_deap.write_python2_pickle

        def write_slowly(*args, **kwargs):
            time.sleep(1)
            write_pickle(*args, **kwargs)

        replica_deap.write_python2_pickle = write_slowly
        options = {"subjects": [1], "sessions": [0], "seconds": 1, "seed": 3}
        root = write_replica("DEAP", sys.argv[1], **options)
        assert DEAP(path=root, sessions=[0]).data_path(1)
        """
    processes = [run_script(script, tmp_path) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert digests(tmp_path) == digests(written("DEAP"))


@pytest.mark.parametrize("content", ["", "{", '{"seed": 3}'])
def test_a_damaged_receipt_is_named_with_the_remedy(content, written, tmp_path):
    """It was a JSONDecodeError, which named no file."""
    shutil.copytree(written("SEED"), tmp_path, dirs_exist_ok=True)
    receipt = tmp_path / "replica-SEED.json"
    receipt.write_text(content)
    with pytest.raises(ValueError, match=f"{re.escape(str(receipt))} .*Remove it and"):
        write_replica("SEED", tmp_path, **ONE)


def test_a_receipt_without_its_folders_does_not_count(written, tmp_path):
    """A replica that was deleted, in whole or in part, was returned as finished."""
    shutil.copytree(written("DEAP"), tmp_path, dirs_exist_ok=True)
    for folders in ([tmp_path / "metadata_csv"], [*tmp_path.glob("[!.]*/")]):
        for folder in folders:
            shutil.rmtree(folder)
        write_replica("DEAP", tmp_path, **ONE)
        assert digests(tmp_path, "*.*") == digests(written("DEAP"), "*.*")
    for folder in folders:
        shutil.rmtree(folder)
    write_replica("DEAP", tmp_path, **ONE | {"seed": 4})
    assert digests(tmp_path) != digests(written("DEAP"))


@pytest.mark.parametrize("name", ["effect", "version"])
def test_a_replica_of_another_version_is_refused(name, written, tmp_path, monkeypatch):
    """The receipt did not say with which effect and version it had been written."""
    shutil.copytree(written("SEED"), tmp_path, dirs_exist_ok=True)
    if name == "effect":
        monkeypatch.setattr(SEED, "replica_effect", 0.5)
    else:
        monkeypatch.setattr(replicas, "version", lambda package: "0.0")
    with pytest.raises(FileExistsError, match=rf"other settings \({name}; see"):
        write_replica("SEED", tmp_path, **ONE)


# -- arguments -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"corpus": "MNIST"}, "corpus must be one of .* got 'MNIST'"),
        ({"subjects": []}, "subjects must be among"),
        ({"subjects": [1, 16]}, r"subjects must be among .* got \[1, 16\]"),
        ({"subjects": [0]}, "subjects must be among"),
        ({"subjects": None}, "subjects must be among .* got None"),
        ({"subjects": 1}, "subjects must be a list of numbers .* got 1"),
        ({"subjects": [True]}, r"Invalid subjects: \[True\]"),
        ({"seconds": "2"}, "seconds must be at least 1, but got '2'"),
        ({"isc": "high"}, "isc must be a number, but got 'high'"),
        ({"sessions": [3]}, r"sessions must be among .* got \[3\]"),
        ({"sessions": []}, "sessions must be among"),
        ({"variant": "newest"}, "variant must be among"),
        ({"seconds": 0.5}, r"seconds must be at least 1, but got 0\.5"),
        ({"seed": None}, "seed must be an integer from 0 on, but got None"),
        ({"effect_size": -1}, "effect_size must not be negative, but got -1"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(
    change, message, tmp_path
):
    options = {"corpus": "SEED"} | SMALL["SEED"] | change
    with pytest.raises(ValueError, match=message):
        write_replica(options.pop("corpus"), tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_deap_has_one_session(tmp_path):
    with pytest.raises(ValueError, match="sessions must be among"):
        write_replica("DEAP", tmp_path / "new", **SMALL["DEAP"] | {"sessions": [0, 1]})


def test_a_replica_that_is_there_is_returned_without_writing(tmp_path):
    """In a folder that may only be read, the lock could not be made."""
    settings = {"subjects": [1], "sessions": [0], "seconds": 2, "seed": 0}
    write_replica("SEED", tmp_path, **settings)
    (tmp_path / ".replica-SEED.lock").unlink()
    assert write_replica("SEED", tmp_path, **settings) == tmp_path
    assert not (tmp_path / ".replica-SEED.lock").exists()
