"""MATLAB 5 files are read with every tag checked."""

from __future__ import annotations

import random
import struct
import time
import zlib

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from braindecode_emossl.datasets import SEED
from braindecode_emossl.datasets.mat_files import (
    list_variables,
    read_variable,
    read_variables,
)
from braindecode_emossl.errors import CorpusFormatError

RNG = np.random.default_rng(0)
ARRAYS = {
    "djc_eeg1": RNG.normal(0, 30, (62, 401)),
    "djc_eeg2": RNG.normal(0, 30, (62, 201)),
    "de_LDS1": RNG.normal(0, 30, (62, 1, 5)),
    "single": RNG.normal(0, 30, (2, 3, 4)).astype("f4"),
    "label": np.arange(-1, 2, dtype="i2")[None],
    "empty": np.zeros((0, 4)),
    "n": 3.0,
    "flags": np.array([[True, False]]),
    "long": np.array([[2**40]]),
}
OTHERS = {
    "cells": np.array([[1.0], ["x"]], object),
    "text": "positive",
    "complex": np.ones((2, 2)) * 1j,
    "struct": {"a": 1.0},
}


def element(kind, content, order="<"):
    return (
        struct.pack(f"{order}II", kind, len(content))
        + content
        + b"\0" * (-len(content) % 8)
    )


def matrix(name, dims, numbers, n_class=6, flags=0, order="<"):
    """Return the contents of a matrix; ``numbers`` is a whole element."""
    content = element(6, struct.pack(f"{order}II", n_class | flags << 8, 0), order)
    content += element(5, struct.pack(f"{order}{len(dims)}i", *dims), order)
    return content + element(1, name.encode(), order) + numbers


def mat(*elements, order="<"):
    mark = b"IM" if order == "<" else b"MI"
    header = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(f"{order}H", 0x100) + mark
    return header + b"".join(elements)


def compressed(content, order="<"):
    packed = zlib.compress(content)
    return struct.pack(f"{order}II", 15, len(packed)) + packed


def write(path, content):
    (path / "a.mat").write_bytes(content)
    return path / "a.mat"


@pytest.mark.parametrize("do_compression", [False, True])
def test_numbers_are_those_that_scipy_reads(do_compression, tmp_path):
    file = tmp_path / "a.mat"
    savemat(file, ARRAYS | OTHERS, do_compression=do_compression)
    expected = loadmat(file)
    variables = {variable.name: variable for variable in list_variables(file)}
    assert list(variables) == [*ARRAYS, *OTHERS]
    for name in ARRAYS:
        values = read_variable(file, variables[name])
        assert values.dtype == expected[name].dtype
        assert values.flags.f_contiguous
        np.testing.assert_array_equal(values, expected[name])
        assert variables[name].shape == values.shape
    assert variables["cells"].shape == (2, 1)
    for name in OTHERS:
        with pytest.raises(ValueError, match="no real numbers"):
            read_variable(file, variables[name])


@pytest.mark.parametrize("order", ["<", ">"])
def test_whole_numbers_in_a_smaller_type_are_of_their_class(order, tmp_path):
    """MATLAB stores doubles that are whole numbers as integers, as in label.mat."""
    small = struct.pack(f"{order}I4b", 4 << 16 | 1, 1, 0, -1, 0)
    if order == ">":  # the two halves of the tag are one number
        small = struct.pack(">HH4b", 4, 1, 1, 0, -1, 0)
    inner = element(14, matrix("label", (1, 4), small, order=order), order)
    for content in (inner, compressed(inner, order)):
        file = write(tmp_path, mat(content, order=order))
        label = read_variables(file, ["label"])["label"]
        assert label.dtype == np.float64
        assert label.tolist() == loadmat(file)["label"].tolist() == [[1, 0, -1, 0]]


# The types of elements that made scipy follow a null pointer, and others.
WRONG_TYPES = [0, 8, 10, 11, 14, 15, 16, 17, 18, *range(19, 24), 50, 100, 200, 255]


@pytest.mark.parametrize("wrong", [*WRONG_TYPES, 7, 12, 13])
@pytest.mark.parametrize("do_compression", [False, True])
def test_a_wrong_type_of_the_numbers_is_an_error(wrong, do_compression, tmp_path):
    """One byte, the type of an element, crashed the interpreter (SIGSEGV)."""
    inner = element(14, matrix("djc_eeg1", (62, 2), element(9, bytes(62 * 16))))
    place = inner.rindex(struct.pack("<II", 9, 62 * 16))
    inner = inner[:place] + bytes([wrong]) + inner[place + 1 :]
    file = write(tmp_path, mat(compressed(inner) if do_compression else inner))
    with pytest.raises(ValueError, match=f"elements of type {wrong},"):
        list_variables(file)


def test_a_wrong_type_in_a_corpus_is_an_error_of_the_file(seed_root, tmp_path):
    """``emossl check`` printed nothing, as the process died."""
    name = "1_20131027.mat"
    content = bytearray(next(seed_root.rglob(name)).read_bytes())
    folder = tmp_path / "Preprocessed_EEG"
    folder.mkdir()
    size = struct.unpack_from("<I", content, 132)[0]
    inner = bytearray(zlib.decompress(content[136 : 136 + size]))
    inner[inner.index(struct.pack("<I", 9), 40)] = 50
    (folder / name).write_bytes(content[:128] + compressed(bytes(inner)))
    with pytest.raises(CorpusFormatError, match="elements of type 50"):
        SEED([1], sessions=[0], path=tmp_path).get_data()


GOOD = element(9, bytes(8 * 6))
LIES = {
    "dimensions that are not filled": matrix("x", (2, 4), GOOD),
    "dimensions of 2^60": matrix("x", (2**30, 2**30), GOOD),
    "dimensions below zero": matrix("x", (-2, -3), GOOD),
    "one dimension": matrix("x", (6,), GOOD),
    "a thousand dimensions": matrix("x", (1,) * 1000, GOOD),
    "numbers beyond the matrix": matrix("x", (2, 3), GOOD[:-8]),
    "numbers before the end of the matrix": matrix("x", (2, 3), GOOD + bytes(16)),
    "a single class with doubles": matrix("x", (2, 3), GOOD, n_class=7),
    "an integer class with doubles": matrix("x", (2, 3), GOOD, n_class=8),
    "a class that is none": matrix("x", (2, 3), GOOD, n_class=99),
    "a name of a megabyte": matrix("x" * 10**6, (2, 3), GOOD),
    "nothing": b"",
    "three bytes": b"abc",
    "half of its flags": struct.pack("<II", 6, 8) + b"abc",
    "text": b"not a matrix at all" * 10,
    "a small element of 5 bytes": matrix(
        "x", (1, 5), struct.pack("<II", 5 << 16 | 1, 0)
    ),
}


@pytest.mark.parametrize("do_compression", [False, True])
@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_lies_is_an_error(lie, do_compression, tmp_path):
    """Sizes were believed: scipy allocated and read what a header said."""
    inner = element(14, LIES[lie])
    file = write(tmp_path, mat(compressed(inner) if do_compression else inner))
    with pytest.raises(ValueError, match=r"."):
        read_variables(file, ["x"])


def test_a_bomb_is_not_inflated(tmp_path):
    """A megabyte that inflates to a gigabyte was read whole."""
    n_bytes = 2**30
    head = element(6, struct.pack("<II", 6, 0)) + element(5, struct.pack("<2i", 62, 1))
    inner = struct.pack("<II", 14, n_bytes) + head
    packer = zlib.compressobj(9)
    packed = packer.compress(inner) + packer.compress(bytes(2**20)) + packer.flush()
    file = write(tmp_path, mat(struct.pack("<II", 15, len(packed)) + packed))
    with pytest.raises(ValueError, match="no name"):
        read_variables(file, ["x"])
    numbers = struct.pack("<II", 9, 2**30 - 2**27)
    inner = matrix("x", (2**10, 7 * 2**14), numbers)
    inner = struct.pack("<II", 14, len(inner) + 2**30 - 2**27) + inner
    file = write(tmp_path, mat(compressed(inner)))
    (variable,) = list_variables(file)
    with pytest.raises(ValueError, match="more than any of the corpora"):
        read_variable(file, variable)


def test_damage_within_a_compressed_variable_is_found(tmp_path):
    """The check sum of a compressed variable must be right."""
    file = tmp_path / "a.mat"
    savemat(file, {"x": ARRAYS["djc_eeg1"]}, do_compression=True)
    content = file.read_bytes()
    rng = random.Random(0)
    for _ in range(200):
        place = rng.randrange(136, len(content))
        damaged = bytearray(content)
        damaged[place] ^= 1 << rng.randrange(8)
        file.write_bytes(damaged)
        with pytest.raises(ValueError):
            read_variables(file, ["x"])


def test_a_file_cut_short_lacks_its_last_variables(tmp_path):
    file = tmp_path / "a.mat"
    savemat(file, ARRAYS)
    content = file.read_bytes()
    ends = [variable.start + variable.size for variable in list_variables(file)]
    for n_bytes in range(128, len(content), 997):
        file.write_bytes(content[:n_bytes])
        found = [variable.name for variable in list_variables(file)]
        assert found == list(ARRAYS)[: sum(end <= n_bytes for end in ends)]


def test_files_of_other_formats_are_named(tmp_path):
    header = bytearray(mat())
    with pytest.raises(ValueError, match="no header of MATLAB 5"):
        list_variables(write(tmp_path, header[:100]))
    header[124:126] = struct.pack("<H", 0x200)
    with pytest.raises(ValueError, match=r"7\.3 \(HDF5\)"):
        list_variables(write(tmp_path, header + bytes(600)))


def test_a_list_inflates_the_headers_alone(tmp_path):
    """The variables of a whole recording were listed at the cost of reading it."""
    file = tmp_path / "a.mat"
    savemat(
        file,
        {f"djc_eeg{k}": np.tile(ARRAYS["djc_eeg1"], 5) for k in range(3)},
        do_compression=True,
    )
    assert file.stat().st_size > 10**6
    start = time.process_time()
    for _ in range(100):
        assert len(list_variables(file)) == 3
    assert time.process_time() - start < 1


@pytest.mark.parametrize("n_lost", [1, 4])
def test_a_compressed_variable_without_its_check_sum_is_refused(tmp_path, n_lost):
    """Damage in it could not have been noticed."""
    file = tmp_path / "a.mat"
    savemat(file, {"x": ARRAYS["djc_eeg1"]}, do_compression=True)
    content = file.read_bytes()
    size = len(content) - 136 - n_lost
    tag = struct.pack("<II", 15, size)
    file.write_bytes(content[:128] + tag + content[136 : 136 + size])
    with pytest.raises(ValueError, match="check sum is missing"):
        read_variables(file, ["x"])
