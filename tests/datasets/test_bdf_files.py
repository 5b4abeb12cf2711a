"""Headers of BioSemi files are compared with what BioSemi's software writes."""

from __future__ import annotations

import shutil
import warnings

import numpy as np
import pytest

from braindecode_emossl.datasets import DEAP, MAHNOB_HCI, write_replica
from braindecode_emossl.datasets.bdf_files import read_bdf_header
from braindecode_emossl.datasets.mahnob_hci import EEG_NAMES
from braindecode_emossl.errors import CorpusFormatError, CorpusFormatWarning

# Offsets of the fields of each channel in the header, per channel, and their widths.
FIELDS = {
    "label": (0, 16),
    "dimension": (96, 8),
    "physical_min": (104, 8),
    "physical_max": (112, 8),
    "digital_min": (120, 8),
    "digital_max": (128, 8),
    "n_samples": (216, 8),
}


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """One subject each of MAHNOB-HCI and of DEAP's original recordings."""
    folder = tmp_path_factory.mktemp("bdf")
    options = {"seconds": 1, "seed": 0}
    return {
        "MAHNOB-HCI": write_replica(
            "MAHNOB-HCI", folder / "m", subjects=[1], **options
        ),
        "Twente": write_replica(
            "DEAP", folder / "t", subjects=[1], variant="bdf", **options
        ),
        "Geneva": write_replica(
            "DEAP", folder / "g", subjects=[29], variant="bdf", **options
        ),
    }


NAMES = {
    "MAHNOB-HCI": "Part_1_S_Trial2_emotion.bdf",
    "Twente": "s01.bdf",
    "Geneva": "s29.bdf",
}


@pytest.fixture(params=NAMES)
def copied(request, roots, tmp_path):
    """Return a file of a corpus, and a function that loads what it is of."""
    name = request.param
    source = next(roots[name].rglob(NAMES[name]))
    if name == "MAHNOB-HCI":
        folder = tmp_path / source.parent.name
        shutil.copytree(source.parent, folder)
        return folder / source.name, lambda: MAHNOB_HCI([1], path=tmp_path).get_data()
    shutil.copy(source, tmp_path)
    shutil.copy(next(roots[name].rglob("participant_ratings.csv")), tmp_path)
    subject = int(source.stem[1:])
    return tmp_path / source.name, lambda: DEAP(
        [subject], path=tmp_path, source="original"
    ).get_data()


def field(content, name, channel):
    """Return where a field of a channel is; the channel by name or number."""
    n_chans = int(content[252:256])
    if isinstance(channel, str):
        labels = content[256 : 256 + 16 * n_chans].decode("latin-1")
        channel = [labels[16 * k :][:16].strip() for k in range(n_chans)].index(channel)
    offset, width = FIELDS[name]
    start = 256 + n_chans * offset + width * channel
    return slice(start, start + width)


def write(file, *changes):
    """Set fields of a header, each (name, channel, text)."""
    content = bytearray(file.read_bytes())
    for name, channel, value in changes:
        place = field(content, name, channel)
        content[place] = value.encode("latin-1").ljust(place.stop - place.start)
    file.write_bytes(content)


RANGES = {
    "digital minimum and maximum swapped": (
        ("digital_min", "Cz", "8388607"),
        ("digital_max", "Cz", "-8388608"),
    ),
    "physical minimum and maximum swapped": (
        ("physical_min", "Cz", "262144"),
        ("physical_max", "Cz", "-262144"),
    ),
    "another physical maximum": (("physical_max", "Cz", "962144"),),
    "another physical minimum": (("physical_min", "EXG1", "-2621"),),
    "a physical maximum that is no number": (("physical_max", "Oz", "nan"),),
    "an infinite physical maximum": (("physical_max", "Oz", "inf"),),
    "garbage": (("physical_max", "Oz", "26?1\x00"),),
    "another digital maximum": (("digital_max", "Oz", "8388"),),
    "another digital maximum of a sensor": (("digital_max", "Temp", "8388"),),
    "no range": (("digital_min", "Oz", "8388607"),),
    "millivolts": (("dimension", "Fz", "mV"),),
    "a blank that is not ASCII": (("dimension", "EXG1", "uV\xa0"),),
    "no channels": (("n_samples", 0, "-1"),),
}


@pytest.mark.parametrize("change", RANGES)
def test_a_range_that_no_amplifier_has_is_an_error(change, copied):
    """A header rescaled or inverted a channel in silence (231 of 62,000 files).

    A blank of another alphabet after the unit, which MNE does not strip, made volts of
    a channel (1 of 100,000 files).
    """
    file, load = copied
    write(file, *RANGES[change])
    with pytest.raises(CorpusFormatError, match=str(file)):
        load()


@pytest.mark.parametrize(
    ("one", "other"), [("Fp1", "AF3"), ("Oz", "EXG3"), ("GSR1", "Resp"), ("Cz", "Fz")]
)
def test_two_labels_exchanged_are_an_error(one, other, copied):
    """The signals of two channels were exchanged in silence."""
    file, load = copied
    write(file, ("label", one, "?"), ("label", other, one), ("label", "?", other))
    with pytest.raises(CorpusFormatError, match="published order"):
        load()


def remove(file, *names):
    """Remove channels from a file, with their samples."""
    content = file.read_bytes()
    n_chans = int(content[252:256])
    keep = np.ones(n_chans, bool)
    for name in names:
        start = field(content, "label", name).start - 256
        keep[start // 16] = False
    fields, place = [], 256
    for width in (16, 80, 8, 8, 8, 8, 8, 80, 8, 32):
        parts = np.frombuffer(content, f"S{width}", n_chans, place)
        fields.append(b"".join(part.ljust(width) for part in parts[keep]))
        place += width * n_chans
    n_samples = int(content[field(content, "n_samples", 0)])
    data = np.frombuffer(content, np.uint8, offset=place)
    data = data.reshape(-1, n_chans, 3 * n_samples)[:, keep]
    start = bytearray(content[:256])
    start[184:192] = f"{256 * (keep.sum() + 1):<8}".encode()
    start[252:256] = f"{keep.sum():<4}".encode()
    file.write_bytes(bytes(start) + b"".join(fields) + data.tobytes())


def read_run(load):
    """Return the raw of the first run that is loaded, and all warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CorpusFormatWarning)
        data = load()
    runs = next(iter(data.values()))["0"]
    return next(iter(runs.values())), [str(warning.message) for warning in caught]


def test_absent_electrodes_are_bad_channels_of_zeros(copied):
    """A file without one electrode was refused as a whole."""
    file, load = copied
    whole, _ = read_run(load)
    remove(file, "Cz", "O2")
    raw, messages = read_run(load)
    assert raw.ch_names == whole.ch_names and set(raw.info["bads"]) == {"Cz", "O2"}
    for name, expected in zip(whole.ch_names, whole.get_data(), strict=True):
        expected = np.zeros_like(expected) if name in ("Cz", "O2") else expected
        np.testing.assert_array_equal(raw.get_data([name])[0], expected)
    (message,) = (m for m in messages if "absent" in m)
    assert "2 EEG channels are absent and filled with zeros: " in message
    assert "Cz (trial" in message and "O2 (trial" in message
    assert "listed in raw.info['bads']" in message and not any(
        "flat" in m for m in messages
    )


@pytest.mark.parametrize("names", [("GSR1",), ("EXG2",), ("Temp",), EEG_NAMES[:9]])
def test_a_file_without_other_channels_is_an_error(names, copied):
    file, load = copied
    remove(file, *names)
    with pytest.raises(CorpusFormatError, match="it has no channels"):
        load()


@pytest.mark.parametrize("name", ["Cz", "O2", "Fp1"])
def test_a_label_that_no_electrode_has_is_an_error(name, copied):
    """It is a damaged header, not a file without an electrode."""
    file, load = copied
    write(file, ("label", name, "C?"))
    with pytest.raises(CorpusFormatError, match="published order"):
        load()


def test_mahnob_channels_without_a_sensor_may_be_missing(roots, tmp_path):
    """A file without a channel that nobody reads was refused."""
    source = next(roots["MAHNOB-HCI"].rglob(NAMES["MAHNOB-HCI"]))
    shutil.copytree(source.parent, tmp_path / "4")
    options = {"path": tmp_path, "return_all_modalities": True}
    whole, _ = read_run(lambda: MAHNOB_HCI([1], **options).get_data())
    remove(tmp_path / "4" / source.name, "Erg1", "GSR2", "EXG7")
    raw, messages = read_run(lambda: MAHNOB_HCI([1], **options).get_data())
    np.testing.assert_array_equal(raw.get_data(), whole.get_data())
    assert any(
        "EXG7, GSR2, Erg1, which are not used, are missing" in m for m in messages
    )


def test_names_of_mahnob_may_be_in_any_case(roots, tmp_path):
    source = next(roots["MAHNOB-HCI"].rglob(NAMES["MAHNOB-HCI"]))
    shutil.copytree(source.parent, tmp_path / "4")
    options = {"path": tmp_path, "return_all_modalities": True}
    whole, _ = read_run(lambda: MAHNOB_HCI([1], **options).get_data())
    write(
        tmp_path / "4" / source.name, ("label", "Fp1", "FP1"), ("label", "Temp", "TEMP")
    )
    raw, _ = read_run(lambda: MAHNOB_HCI([1], **options).get_data())
    np.testing.assert_array_equal(raw.get_data(), whole.get_data())


def test_a_converted_file_with_the_same_steps_is_warned_of(copied):
    """Its values are right, but the range of 24 bits was demanded."""
    file, load = copied
    whole, _ = read_run(load)
    labels = read_bdf_header(file).labels
    changes = {"digital_min": "-4194304", "digital_max": "4194304"}
    changes |= {"physical_min": "-131072", "physical_max": "131072"}
    electrodes = [
        label
        for label in labels
        if label.startswith("EXG") or label in MAHNOB_HCI.METADATA.acquisition.sensors
    ]
    electrodes = [n for n in electrodes if n not in ("GSR1", "Resp", "Temp")]
    write(file, *((name, one, v) for one in electrodes for name, v in changes.items()))
    raw, messages = read_run(load)
    np.testing.assert_allclose(raw.get_data(), whole.get_data(), rtol=0, atol=6e-7)
    assert any("digital range (-4194304, 4194304)" in message for message in messages)


def test_a_sensor_with_a_skewed_range_is_warned_of(copied):
    """The range of a sensor is not known, but it has its zero in the middle."""
    file, load = copied
    write(file, ("physical_max", "Temp", "962144"))
    with pytest.warns(CorpusFormatWarning, match="ranges of Temp are not symmetric"):
        load()


def test_electrodes_with_other_steps_are_warned_of(copied):
    """A header that scales all electrodes alike is not BioSemi's."""
    file, load = copied
    electrodes = [
        label
        for label in read_bdf_header(file).labels
        if label.startswith("EXG") or label in MAHNOB_HCI.METADATA.acquisition.sensors
    ]
    electrodes = [
        label for label in electrodes if label not in ("GSR1", "Resp", "Temp")
    ]
    write(
        file,
        *(("physical_min", label, "-1000") for label in electrodes),
        *(("physical_max", label, "1000") for label in electrodes),
    )
    with pytest.warns(CorpusFormatWarning, match=r"steps of 0\.0001192 microvolts"):
        load()


@pytest.mark.parametrize(
    ("place", "n_bytes"), [(-1, 1), (-40_000, 3), (-300_000, 256 * 3)]
)
def test_inserted_bytes_are_an_error(place, n_bytes, copied):
    """They shifted all channels into noise, or garbage was read after the end."""
    file, load = copied
    content = file.read_bytes()
    file.write_bytes(content[:place] + bytes(n_bytes) + content[place:])
    with pytest.raises(CorpusFormatError, match="is longer than its header says"):
        load()


def test_a_file_of_the_other_site_is_an_error(roots, tmp_path):
    """Its skin conductance was taken for resistance, or the reverse."""
    for name, new in (("Twente", "s23.bdf"), ("Geneva", "s22.bdf")):
        folder = tmp_path / name
        folder.mkdir()
        shutil.copy(next(roots[name].rglob("*.bdf")), folder / new)
        table = next(roots[name].rglob("*.csv")).read_text()
        old, subject = NAMES[name][1:3], int(new[1:3])
        table = table.replace(f"\n{int(old)},", f"\n{subject},")
        (folder / "participant_ratings.csv").write_text(table)
        with pytest.raises(CorpusFormatError, match="where the subject was"):
            DEAP([subject], path=folder, source="original").get_data()


@pytest.mark.parametrize(
    ("place", "value"),
    [(0, b"\x00"), (184, b"9999    "), (252, b"9999"), (252, b"-1  "), (244, b"nan ")],
)
def test_a_header_of_no_bdf_is_an_error(place, value, copied):
    file, load = copied
    content = bytearray(file.read_bytes())
    content[place : place + len(value)] = value
    file.write_bytes(content)
    with pytest.raises(CorpusFormatError, match=r"BDF header|header starts"):
        load()
