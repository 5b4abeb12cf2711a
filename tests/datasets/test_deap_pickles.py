"""Pickles of DEAP are read without being unpickled."""

from __future__ import annotations

import pickle
import pickletools
import struct
import sys
import time

import numpy as np
import pytest

from braindecode_emossl.datasets import DEAP
from braindecode_emossl.datasets.deap_pickles import ForbiddenPickleError, read_pickle
from braindecode_emossl.datasets.replica_deap import write_python2_pickle
from braindecode_emossl.errors import CorpusFormatError

DTYPE, NDARRAY = b"cnumpy\ndtype\n", b"cnumpy\nndarray\n"
DATA = np.random.default_rng(0).normal(size=(40, 40, 512))
LABELS = np.random.default_rng(1).uniform(1, 9, (40, 4))


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value):
    return b"J" + struct.pack("<i", value)


def dtype(code):
    return DTYPE + text(code) + b"K\x00K\x01\x87R"


def dtype_with_fields(fields, size, flags=0):
    """A dtype whose state describes fields, of which numpy trusts the offsets."""
    names = b"".join(text(name) for name in fields)
    entries = b"".join(
        text(name) + b"(" + kind + number(offset) + b"t"
        for name, (kind, offset) in fields.items()
    )
    state = b"(K\x03" + text("|") + b"N(" + names + b"t}(" + entries + b"u"
    state += number(size) + b"K\x01" + number(flags) + b"tb"
    return dtype(f"V{size}") + state


def structured(fields, size=8, content=b"", flags=0):
    shape = b"((K\x01t" if content else b"((t"
    raw = b"U" + bytes([len(content)]) + content if content else b""
    return NDARRAY + shape + dtype_with_fields(fields, size, flags) + raw + b"tR"


def laughs(depth):
    """Nested lists of two references each to the one below."""
    nested = b"(K\x01K\x01lq\x01"
    for k in range(1, depth):
        nested += b"(h" + bytes([k]) + b"h" + bytes([k]) + b"lq" + bytes([k + 1])
    return (
        b"\x80\x02" + nested + b"}(U\x04datah" + bytes([depth]) + b"U\x06labelsK\x01u."
    )


POINTER = struct.pack("<Q", 0x4141414141414141)
ATTACKS = {
    "an object field on bytes of the file": b"\x80\x02"
    + structured({"a": (dtype("O"), 0)}, content=POINTER)
    + b"K\x00(K\x07ts.",
    "a write 4 MB past an array": b"\x80\x02"
    + structured({"a": (dtype("O"), 2**22)})
    + b"K\x00(K\x07ts.",
    "fields of objects in place of the dictionary": b"\x80\x02"
    + structured({"data": (dtype("O"), 0), "labels": (dtype("O"), 0)}, content=POINTER)
    + b".",
    "a field of floats with a state": b"\x80\x02"
    + DTYPE
    + text("f8")
    + b"K\x00K\x01\x87R(K\x03"
    + text("<")
    + b"N(X\x01\x00\x00\x00at}X\x01\x00\x00\x00a(NK\x00tsK\x08K\x01K\x00tb.",
    "an array made by ndarray itself": b"\x80\x02"
    + NDARRAY
    + number(2**31 - 1)
    + b"\x85R.",
    "an object by an extension code": b"\x80\x02\x82\x01.",
    "an object of another file": b"Pname\n.",
    "an instance": b"(ios\nsystem\n.",
    "another codec": b"\x80\x02c_codecs\nencode\n"
    + text("abc")
    + text("zlib")
    + b"\x86R.",
    "a state of a function": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n}b.",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_names_that_arrays_need_cannot_corrupt_memory(attack, tmp_path):
    """With permitted names alone, a pickle made numpy follow bytes as pointers.

    ``numpy.dtype`` took a state with a hidden object field, and SETITEM on an array of
    it changed reference counts, wrote past the array, or crashed the interpreter.
    """
    (tmp_path / "s01.dat").write_bytes(ATTACKS[attack])
    with pytest.raises(ForbiddenPickleError, match="its pickle asks for"):
        read_pickle(tmp_path / "s01.dat")
    dataset = DEAP([1], path=tmp_path, on_error="warn")
    with pytest.raises(CorpusFormatError, match="Nothing in it was run"):
        dataset.get_data()


def test_no_reference_count_changes(tmp_path):
    """A file named the address of an object and took references from it."""
    victim = object()
    kept = [victim] * 50
    state = (
        b"(K\x01(K\x01t"
        + dtype_with_fields({"a": (dtype("O"), 0)}, 8)
        + b"\x89U\x08"
        + struct.pack("<Q", id(victim))
        + b"tb"
    )
    array = NDARRAY + b"((K\x01t" + text("f8") + b"tR" + state
    (tmp_path / "s01.dat").write_bytes(b"\x80\x02" + array + b"K\x00(K\x07ts.")
    before = sys.getrefcount(victim)
    with pytest.raises(CorpusFormatError):
        DEAP([1], path=tmp_path).get_data()
    assert sys.getrefcount(victim) == before == len(kept) + 2


BOMBS = {
    "a list that holds itself": b"\x80\x02}(U\x04data]q\x01(h\x01h\x01e"
    b"U\x06labelsK\x01u.",
    "2^30 nested lists": laughs(30),
    "a memo of 2^28 places": b"\x80\x02K\x01r\x00\x00\x00\x10.",
    "a memo of 10^12 places": b"K\x01p1000000000000\n.",
    "2^60 bytes of text": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 60) + b"x.",
    "4 GB of bytes": b"\x80\x05\x96" + struct.pack("<Q", 1 << 32) + b"x.",
    "a number of 2^31 bytes": b"\x80\x02\x8b\xff\xff\xff\x7fx.",
    "a number of 10^6 digits": b"I" + b"9" * 10**6 + b"\n.",
    "half a million nested tuples": b"\x80\x02)" + b"\x85" * 500_000 + b".",
    "a million marks": b"(" * 10**6 + b".",
    "a million dictionaries": b"\x80\x02" + b"}" * 10**6 + b".",
    "lists of numbers": pickle.dumps({"data": [[0.0] * 400] * 400, "labels": 1}, 2),
    "nothing": b".",
    "only a mark": b"(.",
    "no stop": b"\x80\x02}",
}


def test_a_nested_value_in_a_message_is_not_printed(tmp_path):
    """The order of an array was a tuple in 150 tuples, whose repr never ended.

    The fuzzer found a RecursionError of a mutated archive of SEED-V.
    """
    nested = b")" + b"\x85" * 150
    array = (
        b"cnumpy._core.numeric\n_frombuffer\n(C\x08" + bytes(8) + b"cnumpy\ndtype\n"
        b"X\x02\0\0\0f8\x89\x88\x87R)" + nested + b"tR"
    )
    (tmp_path / "s01.dat").write_bytes(b"\x80\x05}U\x04data" + array + b"s.")
    with pytest.raises(ValueError, match="in the order of type tuple"):
        read_pickle(tmp_path / "s01.dat")


@pytest.mark.parametrize("bomb", BOMBS)
def test_small_files_take_neither_time_nor_memory(bomb, tmp_path):
    """Files of 31 bytes hung the loader or filled 5 GB."""
    (tmp_path / "s01.dat").write_bytes(BOMBS[bomb])
    start = time.perf_counter()
    with pytest.raises(ValueError, match=r"^(?!.*asks for)"):
        read_pickle(tmp_path / "s01.dat")
    assert time.perf_counter() - start < 2


def test_arrays_in_fortran_order_are_refused(tmp_path):
    """One changed byte, the Fortran flag, permuted trials and channels in silence."""
    file = tmp_path / "s01.dat"
    write_python2_pickle(file, {"labels": LABELS, "data": DATA})
    content = file.read_bytes()
    flag = content.rindex(b"tb\x89T") + 2  # NEWFALSE before the samples
    file.write_bytes(content[:flag] + b"\x88" + content[flag + 1 :])
    with pytest.raises(ValueError, match="C order"):
        read_pickle(file)
    for protocol in (2, 5):
        fortran = {"labels": LABELS, "data": np.asfortranarray(DATA)}
        file.write_bytes(pickle.dumps(fortran, protocol))
        with pytest.raises(ValueError, match=r"order '[FK]'"):
            read_pickle(file)


def test_only_arrays_of_the_stated_size_are_read(tmp_path):
    """A wrong size of the samples was met by numpy, not by the reader."""
    file = tmp_path / "s01.dat"
    write_python2_pickle(file, {"labels": LABELS, "data": DATA})
    content = file.read_bytes()
    size = content.index(number(512)) + 1
    file.write_bytes(content[:size] + struct.pack("<i", 511) + content[size + 4 :])
    with pytest.raises(ValueError, match=r"must fill \(40, 40, 511\)"):
        read_pickle(file)


def with_puts(content):
    """Add what Python 2 wrote after each part: its place in the memo."""
    parts, memo = [], 0
    operations = list(pickletools.genops(content))
    ends = [position for _, _, position in operations[1:]] + [len(content)]
    for (opcode, _, position), end in zip(operations, ends, strict=True):
        parts.append(content[position:end])
        if opcode.name in ("EMPTY_DICT", "BINSTRING", "SHORT_BINSTRING", "GLOBAL"):
            parts.append(b"q" + bytes([memo]))
            memo += 1
        elif opcode.name in ("TUPLE", "TUPLE1", "TUPLE3", "REDUCE"):
            parts.append(b"r" + struct.pack("<I", memo))
            memo += 1
    return b"".join(parts)


@pytest.mark.parametrize("order", ["<f8", ">f8", "<f4"])
@pytest.mark.parametrize("protocol", ["Python 2", 1, 2, 3, 4, 5])
def test_sound_pickles_give_what_the_unpickler_gives(protocol, order, tmp_path):
    file = tmp_path / "s01.dat"
    arrays = {"labels": LABELS.astype(order), "data": DATA.astype(order)}
    if protocol == "Python 2":
        write_python2_pickle(file, arrays)
        file.write_bytes(with_puts(file.read_bytes()))
    else:
        file.write_bytes(pickle.dumps(arrays, protocol))
    expected = pickle.loads(file.read_bytes(), encoding="latin1")
    found = read_pickle(file)
    assert list(found) == ["data", "labels"]
    for name, array in found.items():
        assert array.dtype == expected[name].dtype.newbyteorder("=")
        np.testing.assert_array_equal(array, expected[name])
