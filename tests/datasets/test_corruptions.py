"""Damaged corpora: each must end in one clear error, or be left out and logged.

One table for all loaders; what each loader does with sound files is tested elsewhere.
"""

from __future__ import annotations

import collections
import hashlib
import os
import pickle
import re
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.io import loadmat, savemat

from braindecode_emossl.datasets import (
    DEAP,
    MAHNOB_HCI,
    SEED,
    SEED_IV,
    write_replica,
)
from braindecode_emossl.datasets.seed import FILM_SECONDS
from braindecode_emossl.errors import CorpusFormatError, CorpusNotFoundError

HTML = b"<!DOCTYPE html>\n<html><title>Please log in</title></html>\n"
REMEDY = re.compile(
    "[Ff]etch (it|the file|both)|on_error=|[Rr]emove (it|what|the)|Put it|"
    "[Ll]et the path|[Uu]npack|say where"
)


# -- how to load, and what is lost ---------------------------------------------

# Replicas by name: corpus, arguments of the replica, how it is loaded.
REPLICAS = {
    "SEED": ("SEED", {"sessions": [0, 1]}, SEED, {"sessions": [0, 1]}),
    "SEED-IV": ("SEED-IV", {"sessions": [0, 1]}, SEED_IV, {"sessions": [0, 1]}),
    "SEED-IV eye": (
        "SEED-IV",
        {"sessions": [0, 1]},
        SEED_IV,
        {"sessions": [0, 1], "return_all_modalities": True},
    ),
    "DEAP dat": ("DEAP", {}, DEAP, {}),
    "DEAP mat": ("DEAP", {"variant": "mat"}, DEAP, {}),
    "DEAP bdf": ("DEAP", {"variant": "bdf"}, DEAP, {"source": "original"}),
    "MAHNOB-HCI": ("MAHNOB-HCI", {}, MAHNOB_HCI, {}),
}


def load(name, root, on_error="raise"):
    """Return (hash of the signals, onset, emotion) by session, run and stimulus."""
    _, _, dataset, options = REPLICAS[name]
    data = dataset(subjects=[1], path=root, on_error=on_error, **options).get_data()
    return {
        (session, run, trial["extras"]["stimulus"]): (
            hashlib.sha256(np.ascontiguousarray(raw.get_data())).hexdigest(),
            trial["onset"],
            trial["extras"]["emotion"],
        )
        for session, runs in data.get(1, {}).items()  # nothing may be left
        for run, raw in runs.items()
        for trial in raw.annotations
    }


def everything(key):
    return True


def nothing(key):
    return False


def of_session(session):
    return lambda key: key[0] == session


def of_run(run, session="0"):
    return lambda key: key[:2] == (session, run)


SECOND_RUN = of_run("01")


def of_stimulus(stimulus):
    return lambda key: key[2] == stimulus


@pytest.fixture(scope="session")
def replica(tmp_path_factory):
    """Return folder and content of a sound replica by name; made once, not changed."""
    known = {}

    def make(name):
        if name not in known:
            corpus, arguments, _, _ = REPLICAS[name]
            root = tmp_path_factory.mktemp("sound")
            write_replica(corpus, root, subjects=[1], seconds=2, seed=0, **arguments)
            for folder in root.rglob("Sessions/*"):  # three of the trials are enough
                if folder.name not in ("2", "4", "6"):
                    shutil.rmtree(folder)
            known[name] = root, load(name, root)
        return known[name]

    return make


# -- corruptions ---------------------------------------------------------------


def find(root, name):
    found = [file for file in root.rglob(name) if "feature" not in str(file)]
    assert len(found) == 1, found
    return found[0]


def on(name, change, *arguments):
    """Return a corruption: call ``change`` with the one file of this name."""
    return lambda root: change(find(root, name), *arguments)


def cut_short(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def to_bytes(content):
    return lambda file: file.write_bytes(content)


def to_archive(file):
    content = file.read_bytes()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(file.name, content)


def to_remains(suffix):
    return lambda file: file.rename(file.with_name(file.name + suffix))


def to_folder(file):
    file.unlink()
    file.mkdir()


def to_dangling_link(file):
    file.unlink()
    file.symlink_to(file.with_name("nowhere"))


def copy_to(name):
    def copy(file):
        target = (file.parent / name).resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)

    return copy


def arrays_of(file):
    return {k: v for k, v in loadmat(file).items() if not k.startswith("__")}


def mat(change):
    """Change the variables of a MATLAB file by their number."""

    def edit(file):
        arrays = arrays_of(file)
        names = {re.search(r"(\d*)$", name)[1]: name for name in arrays}
        change(arrays, names)
        savemat(file, arrays)

    return edit


def trial(change, number="3"):
    """Change the array of one trial."""

    def edit(arrays, names):
        arrays[names[number]] = change(arrays[names[number]])

    return mat(edit)


def rename(old, new):
    """Name a variable anew, or drop it."""

    def edit(arrays, names):
        array = arrays.pop(names[old])
        if new is not None:
            arrays[new] = array

    return mat(edit)


def add(number, new):
    def edit(arrays, names):
        arrays[new] = arrays[names[number]]

    return mat(edit)


def of_other_names(arrays, names):
    for number, name in names.items():
        arrays[f"x{number}"] = arrays.pop(name)


def at_another_rate(arrays, names):
    for number, seconds in enumerate(FILM_SECONDS, start=1):
        noise = np.random.default_rng(number).normal(size=(62, 10 * seconds))
        arrays[names[str(number)]] = noise


def twice_the_same_name(file):
    other = file.with_name("other.mat")
    name = next(name for name in arrays_of(file) if name.endswith("_eeg3"))
    savemat(other, {name: np.random.default_rng(0).normal(size=(62, 401))})
    with file.open("ab") as stream:
        stream.write(other.read_bytes()[128:])
    other.unlink()


def with_value(value):
    def change(array):
        array = array.copy()
        array[5, 100] = value
        return array

    return change


def cells(array):
    return np.array([list(array[:, 0])], dtype=object)


def labels(values):
    return lambda file: savemat(file, {"label": np.atleast_2d(values)})


SEED_LABELS = [1, 0, -1, -1, 0, 1, -1, 0, 1, 1, 0, -1, 0, 1, -1]


def text(old, new):
    def edit(file):
        content = file.read_text()
        assert re.search(old, content)
        file.write_text(re.sub(old, new, content, count=1))

    return edit


def dat(change):
    """Change data and labels of a preprocessed file of DEAP."""

    def edit(file):
        if file.suffix == ".mat":
            content = arrays_of(file)
        else:
            content = pickle.loads(file.read_bytes(), encoding="latin1")
        content = change(dict(content)) or content
        if file.suffix == ".mat":
            savemat(file, content)
        else:
            file.write_bytes(pickle.dumps(content, protocol=2))

    return edit


def data(change):
    return dat(lambda content: content | {"data": change(content["data"])})


def ratings(change):
    return dat(lambda content: content | {"labels": change(content["labels"])})


def transposed(labels):
    return np.ascontiguousarray(labels.T)


def at(index, value):
    def change(array):
        array = array.copy()
        array[index] = value
        return array

    return change


def without(key):
    return dat(lambda content: {k: v for k, v in content.items() if k != key})


def hostile(call):
    """Pickle a call that would leave a file beside the pickle."""

    def edit(file):
        class Call:
            def __reduce__(self):
                return call, (f"touch {file.parent / 'executed'}",)

        file.write_bytes(pickle.dumps({"data": Call(), "labels": 0}, protocol=2))

    return edit


def other_class(file):
    content = collections.OrderedDict(data=np.zeros(3), labels=np.zeros(3))
    file.write_bytes(pickle.dumps(content, protocol=2))


def of_subject_2(file):
    folder = file.parents[1] / "x"
    other = write_replica("DEAP", folder, subjects=[2], seconds=2, seed=0)
    shutil.copy(find(other, "s02.dat"), file)
    shutil.rmtree(other)


def table(change):
    """Change the table participant_ratings."""

    def edit(file):
        rows = pd.read_csv(file)
        changed = change(rows)
        (rows if changed is None else changed).to_csv(file, index=False)

    return edit


def cell(column, value, video=12):
    def change(rows):
        rows[column] = rows[column].astype(object)
        rows.loc[rows["Experiment_id"] == video, column] = value

    return table(change)


def bdf(change):
    """Change header (bytearray) and records (n, channels, samples, 3) of a file."""

    def edit(file):
        content = file.read_bytes()
        n_chans = int(content[252:256])
        header = bytearray(content[: 256 * (n_chans + 1)])
        n_samples = int(header[256 + 216 * n_chans :][:8])
        records = np.frombuffer(content[len(header) :], np.uint8).copy()
        records = records.reshape(-1, n_chans, n_samples, 3)
        change(header, records)
        file.write_bytes(bytes(header) + records.tobytes())

    return edit


def header_field(start, new):
    def change(header, records):
        header[start : start + 8] = new.ljust(8)

    return bdf(change)


def append(n_after):
    """Insert a byte this many bytes before the end."""

    def edit(file):
        content = file.read_bytes()
        place = len(content) - n_after
        file.write_bytes(content[:place] + b"?" + content[place:])

    return edit


def label(old, new):
    def change(header, records):
        place = header.index(old.ljust(16))
        header[place : place + 16] = new.ljust(16)

    return bdf(change)


def one_channel_slower(header, records):
    n_chans = records.shape[1]
    place = 256 + 216 * n_chans
    header[place : place + 8] = b"256".ljust(8)


def one_start_less(header, records):
    status = records[:, -1].reshape(-1, 3)
    codes = status[:, 0].copy()
    last = np.flatnonzero((codes == 4) & (np.roll(codes, 1) != 4))[-1]
    status[last : last + 20] = 0
    records[:, -1] = status.reshape(records[:, -1].shape)


def without_pulses(header, records):
    records[:, -1] = 0


def third_pulse(header, records):
    records[31, -1, 100:106, 0] = 16


def unwritten(start, stop):
    """Zeros, where a download reserved room and never filled it."""

    def change(header, records):
        records[start:stop, :-1] = 0

    return bdf(change)


def session(root, number):
    return next(root.rglob(f"Sessions/{2 * number}"))


def of_trial(number, pattern, change):
    def edit(root):
        (file,) = session(root, number).glob(pattern)
        change(file)

    return edit


def xml(change, number=2):
    return of_trial(number, "session.xml", change)


def recording(change, number=2):
    return of_trial(number, "*.bdf", change)


def another_session_xml(root):
    shutil.copy(session(root, 3) / "session.xml", session(root, 2) / "session.xml")


BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "ha">'
    + b"".join(
        b'<!ENTITY %c "%s">' % (97 + k, b"&%c;" % (96 + k) * 20) for k in range(1, 9)
    )
    + b']><session feltEmo="&i;"><subject id="1"/></session>'
)
EXTERNAL = (
    b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]>'
    b'<session><subject id="1"/>&a;</session>'
)


# -- the table -----------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One corruption.

    ``says`` must all be in the message. ``lost`` says of (session, run, stimulus)
    whether it may be missing under ``on_error="warn"``; None where that is an error
    too.
    """

    replica: str
    name: str
    corrupt: Callable[[Path], object]
    says: tuple[str, ...]
    lost: Callable[[tuple], bool] | None
    error: type = CorpusFormatError
    # Whether some of it can be read, such as the start of a file cut short.
    partly: bool = False


FIRST, SECOND = "1_20131027.mat", "1_20131030.mat"
IV = "1_20160518.mat"
TRIAL_3 = (FIRST, "trial 3 ")
RATINGS = "participant_ratings.csv"
NO_MAT = (FIRST, "not a readable MATLAB 5 file")
NO_DICT = ("s01.dat", "'data' and 'labels'")
IN_2 = ("Part_1_S_Trial2_emotion.bdf",)


def seed(name, change, says, lost, file=FIRST, **options):
    return Case("SEED", name, on(file, change), says, lost, **options)


def seed_iv(name, change, says, lost, file=IV, **options):
    return Case("SEED-IV", name, on(file, change), says, lost, **options)


def eye(name, change, says, lost, **options):
    def corrupt(root):
        change(next(root.rglob(f"eye_feature_smooth/1/{IV}")))

    return Case("SEED-IV eye", name, corrupt, (IV, "eye", *says), lost, **options)


def deap(form, name, change, says, lost, file=None):
    file = file or f"s01.{form}"
    return Case(f"DEAP {form}", name, on(file, change), (file, *says), lost)


def mahnob(name, corrupt, says, lost=SECOND_RUN):
    return Case("MAHNOB-HCI", name, corrupt, says, lost)


SEED_CASES = [
    seed("truncated", cut_short, (FIRST,), of_session("0"), partly=True),
    seed("empty", to_bytes(b""), NO_MAT, of_session("0")),
    seed("web page", to_bytes(HTML), NO_MAT, of_session("0")),
    seed("archive under its name", to_archive, NO_MAT, of_session("0")),
    seed("link to nothing", to_dangling_link, ("cannot be read",), of_session("0")),
    *(
        seed(
            f"remains {suffix}",
            to_remains(suffix),
            (f"{FIRST}{suffix}", "['0'] of subject 1 are missing"),
            of_session("0"),
            error=CorpusNotFoundError,
        )
        for suffix in (".zip", ".part", ".crdownload")
    ),
    seed(
        "folder in its place",
        to_folder,
        ("['0'] of subject 1 are missing",),
        of_session("0"),
        error=CorpusNotFoundError,
    ),
    seed("text", trial(lambda x: "no signal"), TRIAL_3, of_run("02")),
    seed("cells", trial(cells), TRIAL_3, of_run("02")),
    seed(
        "complex",
        trial(lambda x: x * 1j),
        (FIRST, "_eeg3", "complex"),
        of_run("02"),
    ),
    seed("NaN", trial(with_value(np.nan)), TRIAL_3, of_run("02")),
    seed("infinite", trial(with_value(np.inf)), TRIAL_3, of_run("02")),
    seed("still", trial(np.zeros_like), (*TRIAL_3, "stands still"), of_run("02")),
    seed(
        "half still",
        trial(lambda x: np.hstack([x[:, :200], np.zeros((62, 201))])),
        (*TRIAL_3, "stands still for 1 of 2 s, from 1 s on"),
        of_run("02"),
    ),
    seed("no samples", trial(lambda x: x[:, :0]), TRIAL_3, of_run("02")),
    seed("61 channels", trial(lambda x: x[:61]), (*TRIAL_3, "(61, "), of_run("02")),
    seed("transposed", trial(np.transpose), (*TRIAL_3, ", 62)"), of_run("02")),
    seed(
        "longer than any film",
        trial(lambda x: np.tile(x, 150)),
        (*TRIAL_3, "200 Hz"),
        of_run("02"),
    ),
    seed(
        "another sampling rate", mat(at_another_rate), (FIRST, "10 Hz"), of_session("0")
    ),
    seed("no trial 3", rename("3", None), (FIRST, "_eeg3"), of_run("02")),
    seed(
        "trial 3 of a wrong name", rename("3", "djc_3"), (FIRST, "_eeg3"), of_run("02")
    ),
    seed("no names of SEED", mat(of_other_names), (FIRST, "x15"), None),
    seed("trial 3 twice", add("4", "zz_eeg3"), (FIRST, "zz_eeg3"), None),
    seed("one name twice", twice_the_same_name, (FIRST, "_eeg3"), None),
    seed("16 trials", add("4", "zz_eeg16"), (FIRST, "_eeg16"), None),
    seed("an unknown day", copy_to("1_20140101.mat"), ("1_20140101.mat",), None),
    seed("two folders", copy_to(f"../../b/Preprocessed_EEG/{FIRST}"), ("b",), None),
    *(
        seed(f"labels {name}", change, ("label.mat",), None, file="label.mat")
        for name, change in {
            "out of range": labels([7, *SEED_LABELS[1:]]),
            "of another order": labels(SEED_LABELS[::-1]),
            "one too few": labels(SEED_LABELS[:14]),
            "one too many": labels([*SEED_LABELS, 1]),
            "no whole numbers": labels(np.array(SEED_LABELS) + 0.4),
            "NaN": labels([np.nan, *SEED_LABELS[1:]]),
            "text": labels("positive"),
            "a web page": to_bytes(HTML),
            "empty": to_bytes(b""),
        }.items()
    ),
]

SEED_IV_CASES = [
    seed_iv("truncated", cut_short, (IV,), of_session("0"), partly=True),
    seed_iv("web page", to_bytes(HTML), NO_MAT[1:], of_session("0")),
    seed_iv("NaN", trial(with_value(np.nan)), (IV, "trial 3 "), of_run("02")),
    seed_iv("text", trial(lambda x: "x"), (IV, "trial 3 "), of_run("02")),
    seed_iv("transposed", trial(np.transpose), (IV, "trial 3 "), of_run("02")),
    seed_iv(
        "minutes too long",
        trial(lambda x: np.tile(x, 200)),
        (IV, "trial 3 ", "200 Hz"),
        of_run("02"),
    ),
    seed_iv("25 trials", add("4", "zz_eeg25"), (IV, "_eeg25"), None),
    seed_iv("same day in two sessions", copy_to(f"../2/{IV}"), (IV,), None),
    seed_iv("two files a session", copy_to("1_20990101.mat"), ("1_20990101",), None),
    seed_iv(
        "another label",
        text(r"session2_label = \[2", "session2_label = [3"),
        ("ReadMe.txt", "session2_label"),
        None,
        file="ReadMe.txt",
    ),
    seed_iv(
        "a label too few",
        text(r"session1_label = \[1,", "session1_label = ["),
        ("ReadMe.txt", "session1_label"),
        None,
        file="ReadMe.txt",
    ),
    eye("truncated", cut_short, (), of_session("0"), partly=True),
    eye("web page", to_bytes(HTML), (), of_session("0")),
    eye("gone", Path.unlink, ("return_all_modalities",), of_session("0")),
    eye("infinite", trial(at((3, 0), np.inf)), ("eye_3 ",), of_run("02")),
    eye("text", trial(lambda x: "x"), ("eye_3 ",), of_run("02")),
    eye("33 rows", trial(lambda x: np.ones((33, 1))), ("eye_3 ",), of_run("02")),
    eye("a window more", trial(lambda x: np.ones((31, 2))), ("eye_3",), of_run("02")),
]

DEAP_CASES = [
    *(
        deap(form, name, change, says, everything)
        for form in ("dat", "mat")
        for name, change, says in [
            ("truncated", cut_short, NO_DICT[1:]),
            ("empty", to_bytes(b""), NO_DICT[1:]),
            ("web page", to_bytes(HTML), NO_DICT[1:]),
            ("archive under its name", to_archive, NO_DICT[1:]),
            ("no labels", without("labels"), ("labels",)),
            ("39 videos", data(lambda x: x[:39]), ("(39, 40,",)),
            ("39 rows of labels", ratings(lambda y: y[:39]), ("(39, 4)",)),
            ("labels transposed", ratings(transposed), ("(4, 40)",)),
            ("axes swapped", data(lambda x: x.swapaxes(1, 2)), ("'data'",)),
            ("integers", data(lambda x: x.astype("int32")), ("int32",)),
        ]
    ),
    *(
        deap("dat", name, change, says, everything)
        for name, change, says in [
            ("a list", to_bytes(pickle.dumps([1, 2], protocol=2)), NO_DICT[1:]),
            ("objects", data(lambda x: x[:, :, :512].astype(object)), ("parts",)),
            ("labels of text", ratings(lambda y: y.astype(str)), ("'U",)),
            ("39 channels", data(lambda x: x[:, :39]), ("(40, 39,",)),
            ("128 samples", data(lambda x: x[:, :, :128]), ("(40, 40, 128)",)),
            ("512 Hz", data(lambda x: np.ones((40, 40, 8065), "f2")), ("128 Hz",)),
            ("of another subject", of_subject_2, (RATINGS[:-4],)),
        ]
    ),
    *(
        deap(form, name, change, ("trial 3 ",), of_run("02"))
        for form, name, change in [
            ("dat", "NaN", data(at((2, 5, 9), np.nan))),
            ("mat", "NaN", data(at((2, 5, 9), np.nan))),
            ("dat", "infinite", data(at((2, 39, 9), -np.inf))),
            ("dat", "1 V of EEG", data(at((2, 31, 9), 1e6))),
            ("dat", "1e300 V of EEG", data(at((2, 0, 400), 1e300))),
            ("mat", "1e300 V of EEG", data(at((2, 0, 400), 1e300))),
            ("dat", "impossible EOG", data(at((2, 32, 400), -1e7))),
            ("mat", "impossible resistance", data(at((2, 36, 0), 1e300))),
            ("dat", "impossible temperature", data(at((2, 39, 0), 1e6))),
            ("dat", "still", data(at((2, slice(None), slice(300, None)), 0))),
            ("dat", "label 9.5", ratings(at((2, 1), 9.5))),
            ("dat", "label 0", ratings(at((2, 3), 0))),
            ("dat", "label NaN", ratings(at((2, 0), np.nan))),
        ]
    ),
    deap("dat", "runs a command", hostile(os.system), ("system",), None),
    deap("dat", "evaluates", hostile(eval), ("eval",), None),
    deap("dat", "another class", other_class, ("OrderedDict",), None),
    deap("dat", "twice", copy_to("../b/s01.dat"), ("more than once",), None),
    Case(
        "DEAP dat",
        "table: another rating",
        on(RATINGS, cell("Arousal", 0.5)),
        ("s01.dat", "Experiment_id 12 ", "participant_ratings"),
        of_run("11"),
    ),
    *(
        deap("bdf", name, change, says, everything)
        for name, change, says in [
            ("truncated", cut_short, ("cut short",)),
            ("empty", to_bytes(b""), ()),
            ("web page", to_bytes(HTML), ()),
            ("archive under its name", to_archive, ()),
            ("39 starts", bdf(one_start_less), ("40 starts", "has 39")),
            ("no status pulses", bdf(without_pulses), ("40 starts", "has 0")),
            ("no channel Fz", label(b"Fz", b"XX"), ("'XX'",)),
            ("no channel GSR1", label(b"GSR1", b"GSR"), ("no channels GSR1",)),
            ("two channels Cz", label(b"Fz", b"Cz"), ("'Cz'",)),
            ("7 records", header_field(236, b"7"), ("is longer",)),
            ("byte at the end", append(0), ("is longer",)),
            ("byte in the middle", append(40_000), ("is longer",)),
            ("256 Hz", header_field(244, b"2"), ("512 Hz",)),
            ("one channel of 256 Hz", bdf(one_channel_slower), ("one rate",)),
            ("no number of records", header_field(236, b"many"), ()),
            ("header of no channels", header_field(252, b"0   "), ()),
        ]
    ),
    Case(
        "DEAP bdf",
        "table: gone",
        on(RATINGS, Path.unlink),
        ("s01.bdf", "participant_ratings"),
        everything,
    ),
    *(
        deap("bdf", f"table: {name}", change, says, everything, file=RATINGS)
        for name, change, says in [
            ("empty", to_bytes(b""), ()),
            ("web page", to_bytes(HTML), ()),
            ("binary", to_bytes(b"\xff\xfe\x00\x01"), ()),
            ("no header", text("Experiment_id", "Video"), ("experiment_id",)),
            ("row gone", table(lambda t: t[t["Trial"] != 7]), ("subject 1 ",)),
            (
                "row twice",
                table(lambda t: pd.concat([t, t[t["Trial"] == 7]])),
                ("subject 1 ",),
            ),
            ("text", cell("Trial", "seven"), ("seven",)),
            ("text for a number", cell("Familiarity", "much"), ("much",)),
            ("familiarity 9", cell("Familiarity", 9), ("id 12 ",)),
        ]
    ),
    Case(
        "DEAP bdf",
        "table: rating 12",
        on(RATINGS, cell("Valence", 12)),
        ("Experiment_id 12 ", "participant_ratings"),
        of_stimulus("12"),
    ),
]

MAHNOB_CASES = [
    mahnob("truncated", recording(cut_short), IN_2),
    mahnob("empty", recording(to_bytes(b"")), IN_2),
    mahnob("web page", recording(to_bytes(HTML)), IN_2),
    mahnob("archive under its name", recording(to_archive), IN_2),
    mahnob("128 Hz", recording(header_field(244, b"2")), (*IN_2, "256 Hz")),
    mahnob("no channel Fz", recording(label(b"Fz", b"XX")), (*IN_2, "'XX'")),
    mahnob("two channels Cz", recording(label(b"Fz", b"Cz")), (*IN_2, "Cz")),
    mahnob("three pulses", recording(bdf(third_pulse)), (*IN_2, "has 3")),
    mahnob("never written", recording(unwritten(30, 62)), (*IN_2, "stands still")),
    mahnob("records", recording(header_field(236, b"70")), (*IN_2, "70 records")),
    mahnob("7 records", recording(header_field(236, b"7")), (*IN_2, "is longer")),
    mahnob("byte at the end", recording(append(0)), (*IN_2, "is longer")),
    mahnob("byte in the middle", recording(append(40_000)), (*IN_2, "is longer")),
    mahnob("recording twice", recording(copy_to("Part_1_S_Trial3.bdf")), (), None),
    mahnob("trial twice", recording(copy_to("Part_1_S_Trial02_emotion.bdf")), (), None),
    *(
        mahnob(f"xml: {name}", xml(change), (*says, "session.xml"))
        for name, change, says in [
            ("malformed", cut_short, IN_2),
            ("empty", to_bytes(b""), IN_2),
            ("no text", to_bytes(b"\x89PNG\r\n\x1a\n\x00\xff"), IN_2),
            ("unknown encoding", text("utf-8", "utf-9"), IN_2),
            ("web page", to_bytes(HTML), IN_2),
            ("no feltArsl", text(r'feltArsl="\d"', ""), (*IN_2, "feltArsl")),
            ("no feltEmo", text(r'feltEmo="\d+"', ""), (*IN_2, "feltEmo")),
            ("no mediaFile", text("mediaFile", "file"), (*IN_2, "mediaFile")),
            ("rating 10", text(r'feltVlnc="\d"', 'feltVlnc="10"'), (*IN_2, "feltVlnc")),
            ("rating 5.5", text(r'feltCtrl="\d"', 'feltCtrl="5.5"'), (*IN_2, "feltC")),
            ("emotion 13", text(r'feltEmo="\d+"', 'feltEmo="13"'), (*IN_2, "feltEmo")),
            ("no subject", text(r"<subject [^>]*>", ""), (*IN_2, "subject")),
            ("subject 99", text('subject id="1"', 'subject id="99"'), (*IN_2, "99")),
            ("subject 2", text('subject id="1"', 'subject id="2"'), (*IN_2, "2")),
            ("gone", Path.unlink, IN_2),
        ]
    ),
    mahnob("xml: of another trial", another_session_xml, (*IN_2, "6", "session.xml")),
    mahnob("xml: bomb", xml(to_bytes(BOMB)), ("session.xml", "entities"), None),
    mahnob("xml: external", xml(to_bytes(EXTERNAL)), ("session.xml", "entities"), None),
]

CASES = [*SEED_CASES, *SEED_IV_CASES, *DEAP_CASES, *MAHNOB_CASES]


@pytest.mark.parametrize(
    "case", CASES, ids=[f"{case.replica}: {case.name}" for case in CASES]
)
def test_no_corruption_loads_as_if_it_were_sound(
    case, replica, tmp_path, format_warnings
):
    sound_root, sound = replica(case.replica)
    root = tmp_path / "corpus"
    shutil.copytree(sound_root, root)
    case.corrupt(root)
    with pytest.raises((CorpusFormatError, CorpusNotFoundError)) as caught:
        load(case.replica, root)
    check_message(case, caught)
    format_warnings.clear()
    if case.lost is None:
        with pytest.raises(CorpusFormatError) as caught:
            load(case.replica, root, "warn")
        check_message(case, caught)
    else:
        found = load(case.replica, root, "warn")
        expected = {key: sound[key] for key in sound if not case.lost(key)}
        if case.partly:
            assert expected.items() < found.items() < sound.items()
        else:
            assert found == expected
        assert len(expected) < len(sound) or case.lost is nothing
        for words in case.says:
            assert words in format_warnings.text
    assert not list(tmp_path.rglob("executed"))


def check_message(case, caught):
    assert type(caught.value) is case.error
    message = str(caught.value)
    for words in case.says:
        assert words in message
    assert REMEDY.search(message), message


# -- what must load ------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (to_bytes(HTML), "is not a table of the release"),
        (table(lambda t: t[t["Trial"] != 7]), "rows of subject 1 must have"),
        (cell("Familiarity", 9), "Experiment_id 12 for subject 1"),
    ],
)
def test_a_broken_table_of_deap_costs_no_preprocessed_trial(
    change, says, replica, tmp_path, format_warnings
):
    """It stopped the loading of recordings that are sound without it."""
    sound_root, sound = replica("DEAP dat")
    shutil.copytree(sound_root, tmp_path / "corpus")
    change(find(tmp_path, RATINGS))
    assert load("DEAP dat", tmp_path) == sound
    assert says in format_warnings.text and RATINGS in format_warnings.text


def loop(root):
    (next(root.rglob("*.mat")).parent / "loop").symlink_to(root)


def renamed(root):
    inner = [child for child in root.iterdir() if child.is_dir()]
    (root / "Données d'Émotion 情绪").mkdir()
    for child in inner:
        child.rename(root / "Données d'Émotion 情绪" / child.name)


def beside_remains(root):
    folder = next(root.rglob(FIRST)).parent
    (folder / "1_20131107.mat.part").write_bytes(b"MATLAB")
    (root / "SEED.zip").write_bytes(b"PK")
    (folder / "._1_20131027.mat").write_bytes(b"")
    (folder / "99_20131027.mat").write_bytes(b"of nobody")


@pytest.mark.parametrize("change", [loop, renamed, beside_remains])
def test_what_is_no_corruption_loads(change, replica, tmp_path):
    sound_root, sound = replica("SEED")
    root = tmp_path / "my corpora"
    shutil.copytree(sound_root, root)
    change(root)
    assert load("SEED", root) == sound


@pytest.mark.parametrize("name", ["DEAP dat", "DEAP bdf", "MAHNOB-HCI", "SEED-IV eye"])
def test_paths_may_have_any_characters(name, replica, tmp_path):
    sound_root, sound = replica(name)
    root = tmp_path / "Données d'Émotion 情绪"
    shutil.copytree(sound_root, root)
    assert load(name, root) == sound


def test_without_pulses_a_clip_of_mahnob_lies_between_the_margins(
    replica, tmp_path, format_warnings
):
    """That is documented and logged, and no error."""
    sound_root, sound = replica("MAHNOB-HCI")
    shutil.copytree(sound_root, tmp_path / "corpus")
    bdf(without_pulses)(find(tmp_path, "Part_1_S_Trial2_emotion.bdf"))
    assert load("MAHNOB-HCI", tmp_path) == sound
    assert "Part_1_S_Trial2_emotion.bdf has 0 pulses" in format_warnings.text


@pytest.mark.parametrize("name", ["SEED", "DEAP dat", "DEAP bdf", "MAHNOB-HCI"])
def test_a_file_that_may_not_be_read_is_an_error(
    name, replica, tmp_path, format_warnings
):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    sound_root, _ = replica(name)
    shutil.copytree(sound_root, tmp_path / "corpus")
    pattern = {"SEED": FIRST, "DEAP dat": "s01.dat", "DEAP bdf": "s01.bdf"}
    find(tmp_path, pattern.get(name, "Part_1_S_Trial2_emotion.bdf")).chmod(0)
    with pytest.raises(CorpusFormatError, match="ermission"):
        load(name, tmp_path)


def test_a_folder_that_may_not_be_read_is_named(
    replica, tmp_path, format_warnings, monkeypatch
):
    """It was passed over without a word."""
    sound_root, _ = replica("SEED")
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "Preprocessed_EEG":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(CorpusNotFoundError):
        load("SEED", sound_root)
    assert re.search(
        "cannot be read.*Permission denied.*Preprocessed_EEG", format_warnings.text
    )


def test_an_archive_in_place_of_the_folder_is_named(tmp_path):
    archive = tmp_path / "SEED.zip"
    archive.write_bytes(b"PK")
    with pytest.raises(CorpusNotFoundError, match=r"SEED\.zip.*It is a file"):
        load("SEED", archive)


# -- lengths of the films ------------------------------------------------------


def wrong_lengths(seconds, sfreq=200):
    shapes = {k: (62, round(s * sfreq) + 1) for k, s in enumerate(seconds, start=1)}
    return SEED()._find_wrong_lengths(shapes, "0")


@pytest.mark.parametrize("seconds", [FILM_SECONDS, [4] * 15, [265] * 15, [60]])
def test_whole_and_miniature_recordings_have_right_lengths(seconds):
    assert wrong_lengths(seconds) == {}


@pytest.mark.parametrize("sfreq", [100, 128, 190, 250, 512, 1000])
def test_a_recording_at_another_rate_is_known_by_its_lengths(sfreq):
    assert sorted(wrong_lengths(FILM_SECONDS, sfreq)) == list(range(1, 16))


@pytest.mark.parametrize("change", [-100, -2, 2, 100])
def test_a_trial_that_is_no_whole_film_is_known_among_others(change):
    seconds = [*FILM_SECONDS[:6], FILM_SECONDS[6] + change, *FILM_SECONDS[7:]]
    (wrong,) = wrong_lengths(seconds).items()
    assert wrong[0] == 7 and f"{FILM_SECONDS[6] + change}" in wrong[1]
