from __future__ import annotations

import errno
import multiprocessing
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from braindecode_emossl import storage
from braindecode_emossl.features import FeatureCache, cache


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "1_20131027.mat"
    path.write_bytes(b"signals")
    return path


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


class Computation:
    """Count how often features are computed."""

    def __init__(self):
        self.count = 0

    def __call__(self):
        self.count += 1
        return {"X": np.arange(6.0).reshape(2, 3), "label": np.array(["sad", "happy"])}


def get(folder, compute, source, corpus="SEED", parameters="window=1"):
    return FeatureCache(folder).get(
        compute, corpus=corpus, files=[source], parameters=parameters
    )


def test_computes_once(folder, source):
    compute = Computation()
    first, second = (get(folder, compute, source) for _ in range(2))
    assert compute.count == 1
    for entry in (first, second):
        np.testing.assert_array_equal(entry["X"], [[0, 1, 2], [3, 4, 5]])
        assert entry["label"].tolist() == ["sad", "happy"]


def test_everything_counts(folder, source, monkeypatch):
    compute = Computation()
    get(folder, compute, source)
    get(folder, compute, source, corpus="SEED-IV")
    get(folder, compute, source, parameters="window=4")
    source.write_bytes(b"signalz")  # of the same length
    os.utime(source, ns=(1, 1))
    get(folder, compute, source)
    monkeypatch.setattr(cache, "version", lambda name: "99.0")
    get(folder, compute, source)
    assert compute.count == 5


def test_a_moved_corpus_keeps_its_entries(folder, source):
    compute = Computation()
    get(folder, compute, source)
    get(folder, compute, source.rename(source.with_name("moved.mat")))
    assert compute.count == 1


def test_boundaries_between_parts_count(folder, source):
    compute = Computation()
    get(folder, compute, source, corpus="SEED", parameters="-IV")
    get(folder, compute, source, corpus="SEED-", parameters="IV")
    assert compute.count == 2


def test_a_failed_write_leaves_nothing(folder, source, monkeypatch):
    """A full disk leaves no half entry, and the error names the file."""

    def write_half(file, **arrays):
        file.write(b"PK half of a zip")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", write_half)
        with pytest.raises(OSError, match=rf"No space .*{folder}"):
            get(folder, Computation(), source)
    assert list(folder.iterdir()) == []
    compute = Computation()
    get(folder, compute, source)
    assert compute.count == 1


def test_an_entry_has_no_name_until_it_is_whole(folder, source, monkeypatch):
    savez = np.savez
    names = []

    def spy(file, **arrays):
        savez(file, **arrays)
        names.extend(path.suffix for path in folder.iterdir())

    monkeypatch.setattr(np, "savez", spy)
    get(folder, Computation(), source)
    assert names == [".tmp"]  # the scratch file
    assert [path.suffix for path in folder.iterdir()] == [".npz"]


@pytest.mark.parametrize("damage", ["cut", "empty", "zeros", "shorter", "flipped"])
def test_a_damaged_entry_is_computed_again(damage, folder, source):
    """It stayed there for ever, and each call stopped with BadZipFile or EOFError."""
    compute = Computation()
    get(folder, compute, source)
    (entry,) = folder.iterdir()
    good = entry.read_bytes()
    bad = {"cut": good[:100], "empty": b"", "zeros": bytes(len(good))}
    bad["shorter"] = good.replace(b"(2, 3)", b"(2, 2)")
    bad["flipped"] = good.replace(b"happy", b"hoppy").replace(
        np.float64(5).tobytes(), b"8bytes!!"
    )
    assert bad[damage] != good
    entry.write_bytes(bad[damage])
    for _ in range(2):
        again = get(folder, compute, source)
        np.testing.assert_array_equal(again["X"], [[0, 1, 2], [3, 4, 5]])
    assert compute.count == 2


def test_a_read_only_folder_is_read(folder, source, monkeypatch, caplog):
    """New features could not be used, only because they could not be stored."""

    def refuse(path, write):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    compute = Computation()
    get(folder, compute, source)
    monkeypatch.setattr(cache, "write_file", refuse)
    get(folder, compute, source)
    assert compute.count == 1
    assert len(get(folder, compute, source, parameters="window=2")["X"]) == 2
    assert f"Permission denied: '{folder}" in caplog.text


def test_a_file_in_place_of_the_folder_is_named(tmp_path, source):
    """It was a bare FileExistsError, raised after the features were computed."""
    (tmp_path / "cache").write_text("")
    compute = Computation()
    with pytest.raises(NotADirectoryError, match=f"^{tmp_path}/cache must be a folder"):
        get(tmp_path / "cache", compute, source)
    assert compute.count == 0


def test_the_folder_may_be_below_the_home(tmp_path, monkeypatch, source):
    """A folder named "~" was made in the working directory."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    get("~/cache", Computation(), source)
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_leftovers_of_a_killed_process_are_deleted(folder, source):
    """They stayed for ever and filled the disk."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    scratch = storage._scratch_of(folder / "a.npz").name
    folder.mkdir()
    (folder / scratch.replace(f"-{os.getpid()}-", f"-{process.pid}-")).touch()
    (folder / scratch).touch()  # of a process that is still writing
    get(folder, Computation(), source)
    assert sorted(path.suffix for path in folder.iterdir()) == [".npz", ".tmp"]


def read_and_write(folder, source, barrier, failures):
    def compute():
        time.sleep(0.05)
        return {"X": np.full((200, 62, 5), 3.0)}

    barrier.wait()
    for i in range(5):
        entry = get(folder, compute, source, parameters=f"window={i}")
        if entry["X"].shape != (200, 62, 5) or not (entry["X"] == 3.0).all():
            failures.put(i)


def test_two_processes_at_once(folder, source):
    context = multiprocessing.get_context("fork")
    barrier, failures = context.Barrier(2), context.Queue()
    processes = [
        context.Process(target=read_and_write, args=(folder, source, barrier, failures))
        for _ in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert failures.empty()
    assert len(list(folder.iterdir())) == 5


def test_python_objects_are_refused(folder, source):
    with pytest.raises(ValueError, match=r"\['label'\] hold Python objects"):
        get(folder, lambda: {"label": np.array([None, "sad"])}, source)
    assert not folder.exists()
