"""The place that writes, replaces, locks and hashes files."""

from __future__ import annotations

import errno
import functools
import importlib.util
import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import BaseEstimator
from sklearn.ensemble import RandomForestClassifier
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from braindecode_emossl import storage
from braindecode_emossl.storage import (
    digest_file,
    find_folder,
    hash_arrays,
    hash_json,
    hash_object,
    is_sealed,
    lock,
    read_json,
    remove_leftovers,
    seal,
    write_file,
    write_folder,
    write_json,
)


def hash_of(thing):
    return hash_object(thing, "It")


def write_text(text):
    return lambda scratch: scratch.write_text(text)


def fail(code):
    def write(scratch):
        (scratch if scratch.is_dir() else scratch.parent).joinpath("x").touch()
        raise OSError(code, os.strerror(code))

    return write


# -- writing -------------------------------------------------------------------


def test_a_file_is_replaced_in_one_step(tmp_path):
    file = tmp_path / "new" / "file"
    write_file(file, write_text("old"))

    def write(scratch):
        assert file.read_text() == "old"
        scratch.write_text("new")
        assert file.read_text() == "old"

    write_file(file, write)
    assert file.read_text() == "new"
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_disk_is_named_and_leaves_the_old_file(code, tmp_path):
    """The error said that no space was left, but not where."""
    file = tmp_path / "file"
    write_file(file, write_text("old"))
    with pytest.raises(OSError, match=f"{os.strerror(code)}.*{file}") as error:
        write_file(file, fail(code))
    assert error.value.errno == code
    with pytest.raises(OSError, match=f"cannot.*{file}|{file} cannot"):
        write_file(file, lambda scratch: (_ for _ in ()).throw(OSError("cannot")))
    assert file.read_text() == "old" and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("below", [".", "folder"])
def test_a_file_in_the_place_of_a_folder_is_named(below, tmp_path):
    """A cache, results or checkpoint folder that is a file: a bare FileExistsError."""
    (tmp_path / "file").touch()
    path = tmp_path / "file" / below / "new"
    words = f"^{tmp_path}/file must be a folder, but is a file: give another folder"
    with pytest.raises(NotADirectoryError, match=words):
        write_file(path, write_text(""))
    with pytest.raises(NotADirectoryError, match=words):
        write_folder(path, Path.touch)
    with pytest.raises(NotADirectoryError, match=words), lock(path):
        pass
    assert (tmp_path / "file").read_text() == ""


@pytest.mark.parametrize("code", [None, errno.ENOSYS, errno.EPERM, errno.EXDEV])
def test_the_first_file_stays_without_replace(code, tmp_path, monkeypatch):
    """Cloud mounts, exFAT and the like have no hard links: nothing was written."""

    def refuse(*args):
        raise OSError(code, os.strerror(code))

    if code is not None:
        monkeypatch.setattr(os, "link", refuse)
    for text in ("first", "second"):
        write_json(tmp_path / "file", {"text": text}, replace=False)
    assert json.loads((tmp_path / "file").read_text()) == {"text": "first"}
    assert not list(tmp_path.glob("*.tmp"))


def test_a_folder_is_replaced_or_stays(tmp_path):
    folder = tmp_path / "folder"
    for text in ("old", "new"):
        write_folder(folder, lambda scratch, text=text: (scratch / text).touch())
        assert [file.name for file in folder.iterdir()] == [text]
    with pytest.raises(OSError, match=f"No space.*{folder}"):
        write_folder(folder, fail(errno.ENOSPC))
    write_folder(folder, lambda scratch: (scratch / "late").touch(), replace=False)
    assert [file.name for file in folder.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_is_found_if_its_replacement_was_interrupted(tmp_path):
    folder = tmp_path / "folder"
    write_folder(folder, lambda scratch: (scratch / "old").touch())
    folder.rename(tmp_path / ".folder.previous")
    assert [file.name for file in find_folder(folder).iterdir()] == ["old"]
    write_folder(folder, lambda scratch: (scratch / "new").touch())
    assert [file.name for file in find_folder(folder).iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [folder]


def test_two_writers_of_a_folder_take_turns(tmp_path):
    """Between the two moves of one, the other put its folder there: the first failed.

    Or it deleted the old folder, which the first had just put aside.
    """
    folder = tmp_path / "folder"
    script = textwrap.dedent(
        """
        import sys
        from braindecode_emossl.storage import write_folder

        for text in map(str, range(200)):
            write_folder(sys.argv[1], lambda scratch: (scratch / text).touch())
        """
    )
    command = [sys.executable, "-c", script, folder]
    writers = [subprocess.Popen(command) for _ in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert [file.name for file in folder.iterdir()] == ["199"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_killed_process_leaves_what_is_deleted_later(tmp_path):
    """What a killed process had half written stayed for ever."""
    script = textwrap.dedent(
        """
        import os, runpy, signal, sys
        write_file = runpy.run_path(sys.argv[2])["write_file"]

        def die(scratch):
            scratch.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)

        write_file(sys.argv[1], die)
        """
    )
    file = tmp_path / "file"
    subprocess.run([sys.executable, "-c", script, file, storage.__file__], check=False)
    assert len(list(tmp_path.iterdir())) == 1 and not file.exists()
    own = storage._scratch_of(file)
    own.touch()
    (tmp_path / ".file.tmp").touch()  # not one of ours
    remove_leftovers(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([own, tmp_path / ".file.tmp"])
    os.utime(own, (0, 0))
    remove_leftovers(tmp_path)
    assert not own.exists()
    remove_leftovers(tmp_path / "missing")


@pytest.mark.parametrize(
    "content", [b"", b"\0\0", b"{", b"[1]", b'{"a": "1"}', b"\xff"]
)
def test_a_damaged_file_is_named_with_the_remedy(content, tmp_path):
    """A JSONDecodeError named neither file nor remedy."""
    file = tmp_path / "file.json"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{file} .*Delete it\.$"):
        read_json(file, {"a": int}, remedy="Delete it.")
    write_json(file, {"a": np.int64(1), "b": [np.float32(0.5)], "c": tmp_path})
    assert read_json(file, {"a": int}, remedy="") == {
        "a": 1,
        "b": [0.5],
        "c": str(tmp_path),
    }


def test_a_lock_is_held_by_one(tmp_path):
    file, order = tmp_path / "new" / "lock", []

    def wait():
        with lock(file):
            order.append("second")

    other = threading.Thread(target=wait)
    with lock(file):
        other.start()
        time.sleep(0.1)
        order.append("first")
    other.join()
    assert order == ["first", "second"]


def test_a_lock_that_is_held_is_an_error_if_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "_PATIENCE", 0)
    busy = RuntimeError("in use")
    with lock(tmp_path / "lock", busy=busy):
        other = functools.partial(lock, tmp_path / "lock", busy=busy)
        with pytest.raises(RuntimeError, match="in use"), other():
            pass
    with lock(tmp_path / "lock", busy=busy):
        pass


def test_without_locks_the_work_is_done(tmp_path, monkeypatch, caplog):
    def refuse(self):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(storage.FileLock, "acquire", refuse)
    with lock(tmp_path / "lock"):
        pass
    assert "has no locks" in caplog.text


# -- digests -------------------------------------------------------------------


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A file worth remembering, in a process that remembers nothing yet."""
    monkeypatch.setenv("EMOSSL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(storage, "_digests", {})
    file = tmp_path / "large"
    file.write_bytes(bytes(storage._WORTH_REMEMBERING))
    os.utime(file, (10**9, 10**9))
    return file


def test_a_large_file_is_read_once(large, tmp_path, monkeypatch):
    """Also by another process, and again after a change."""
    first = digest_file(large)
    with monkeypatch.context() as patch:
        patch.setattr(storage.hashlib, "file_digest", pytest.fail)
        assert digest_file(large) == first
        patch.setattr(storage, "_digests", {})
        assert digest_file(str(large)) == first
        link = tmp_path / "link"
        link.symlink_to(large)
        assert digest_file(link) == first
    large.write_bytes(b"1" + large.read_bytes()[1:])
    assert digest_file(large) != first


def test_a_file_that_has_just_changed_is_not_remembered(large):
    """It may change again within the resolution of the file system's clock."""
    large.touch()
    first = digest_file(large)
    times = large.stat().st_mtime_ns
    large.write_bytes(b"1" + large.read_bytes()[1:])
    os.utime(large, ns=(times, times))
    assert digest_file(large) != first


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"a": 1}'])
def test_damaged_or_read_only_memory_costs_a_read(content, large, tmp_path):
    memory = tmp_path / "cache" / "digests.json"
    memory.parent.mkdir()
    memory.write_bytes(content)
    first = digest_file(large)
    assert json.loads(memory.read_text())[str(large)][2] == first
    memory.unlink()
    memory.mkdir()
    storage._digests.clear()
    assert digest_file(large) == first


def test_hashes_of_json_and_arrays():
    assert hash_json({"a": 1, "b": (2, np.int64(3))}) == hash_json(
        {"b": [2, 3], "a": np.float64(1) // 1 == 1 and 1}
    )
    assert hash_json({"a": 1}) != hash_json({"a": 2})
    x = np.arange(6.0)
    assert hash_arrays([x, x[::2]]) == hash_arrays([x.copy(), x[::2].copy()])
    hashes = [[x], [x, x], [x.reshape(2, 3)], [x.astype("f4")], [x + 1], [x[:0]]]
    assert len(set(map(hash_arrays, hashes))) == 6


def test_a_sealed_file_is_sealed_to_the_byte():
    data = seal(b"abc " + storage.UNSEALED.encode() + b" def")
    assert is_sealed(data) and not is_sealed(b"abc")
    for place in range(len(data)):
        assert not is_sealed(
            data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        )
    assert not is_sealed(data + data)


# -- hashes of objects: values -------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.complex64])
def test_hash_of_any_tensor(dtype):
    """NumPy has no bfloat16: such weights were called not picklable."""
    values = torch.arange(6.0).reshape(2, 3).to(dtype)
    assert hash_of(values) == hash_of(values.clone())
    assert hash_of(values) != hash_of(values + 1)
    assert hash_of(values) != hash_of(values.reshape(3, 2))
    assert hash_of(torch.tensor(1.0)) != hash_of(torch.tensor(2.0))


def test_the_order_of_any_dict_counts():
    """That of an OrderedDict did not: features in another order were found."""
    a, b = (OrderedDict(pairs) for pairs in ([(1, 2), (3, 4)], [(3, 4), (1, 2)]))
    assert hash_of(a) != hash_of(b)
    assert hash_of(a) == hash_of(OrderedDict(a))


def test_tables_count_by_value():
    table = pd.DataFrame({"a": ["x", None, "x"], "b": [1, 2, 3], "c": [[1], [2], [3]]})
    same = pd.concat([table[["a"]].astype(object), table[["b", "c"]]], axis=1)
    assert hash_of(table) == hash_of(same)
    assert hash_of(table) == hash_of(table.assign(a=table["a"].astype("category")))
    for other in (
        table[["b", "a", "c"]],
        table.assign(b=[1, 2, 4]),
        table.assign(a=["x", None, "y"]),
        table.assign(c=[[1], [2], [4]]),
        table.rename(columns={"a": "d"}),
    ):
        assert hash_of(table) != hash_of(other)


def test_steps_that_a_repr_does_not_distinguish():
    """A repr shortens arrays and names some objects by their address."""
    steps = [
        FunctionTransformer(np.log1p),
        FunctionTransformer(np.sqrt),
        StandardScaler(),
        RandomForestClassifier(random_state=np.random.RandomState(0)),
        RandomForestClassifier(random_state=np.random.RandomState(1)),
    ]
    hashes = [hash_of(step) for step in steps]
    assert len(set(hashes)) == len(hashes)
    again = RandomForestClassifier(random_state=np.random.RandomState(0))
    assert hash_of(again) == hashes[3]


# -- hashes of objects: the user's code ----------------------------------------

MODULE = """
    import functools
    import logging

    import numpy as np
    import torch
    from sklearn.base import BaseEstimator, TransformerMixin

    import {helpers}
    from {helpers} import scale

    log = logging.getLogger(__name__)
    GAIN = 1.0
    BANDS = {{"alpha": (8, 13)}}
    NAMES = frozenset({{"a", "b", "c", "d"}})
    square = lambda x: x * x

    def plain(x):
        return np.abs(x)

    def reads_a_global(x):
        log.info("called")
        return x * GAIN + BANDS["alpha"][0] + len(NAMES)

    def calls_a_helper(x):
        return reads_a_global(x)

    def calls_a_lambda(x):
        return [square(item) for item in x]

    def calls_another_module(x):
        return scale(x)

    def calls_by_attribute(x):
        return {helpers}.scale(x)

    def imports_inside(x):
        from {helpers} import scale as f
        return f(x)

    @functools.lru_cache
    def cached(n):
        return GAIN * n

    def calls_a_cached_one(x):
        return x * cached(2)

    @torch.no_grad()
    def decorated(x):
        return reads_a_global(x)

    def has_a_default(x, gain=GAIN):
        return x * gain

    def even(n):
        return n == 0 or odd(n - 1)

    def odd(n):
        return n > 0 and even(n - 1)

    def make():
        gain = GAIN
        def inner(x):
            return gain * x
        return inner

    closure = make()

    def calls_a_closure(x):
        return closure(x)

    CALLS = {{"n": 0, "gain": 3.0}}

    def counts(x):
        CALLS["n"] += 1
        return x * CALLS["gain"]

    class Base(TransformerMixin, BaseEstimator):
        power = 1

        def fit(self, X, y=None):
            return self

        @property
        def gain(self):
            return GAIN

        @functools.cached_property
        def other(self):
            return 1

        @staticmethod
        def apply(x):
            return reads_a_global(x)

    class Step(Base):
        def __init__(self, a=1):
            self.a = a

        def transform(self, X):
            return self.apply(X) ** self.power
"""
HELPERS = """
    FACTOR = 1.0

    def scale(x):
        return x * FACTOR
"""
FUNCTIONS = {
    "plain",
    "reads_a_global",
    "calls_a_helper",
    "calls_a_lambda",
    "calls_another_module",
    "calls_by_attribute",
    "imports_inside",
    "calls_a_cached_one",
    "decorated",
    "has_a_default",
    "even",
    "calls_a_closure",
    "counts",
    "Step",
}
OF_GAIN = {
    "reads_a_global",
    "calls_a_helper",
    "decorated",
    "calls_a_cached_one",
    "Step",
}
EDITS = {
    "nothing": ("", "", set()),
    "GAIN = 1.0": ("GAIN = 1.0", "GAIN = 2.0", OF_GAIN | {"has_a_default", "closure"}),
    "BANDS": ("(8, 13)", "(9, 13)", OF_GAIN - {"calls_a_cached_one"}),
    "helper": ("x * GAIN +", "x / GAIN +", OF_GAIN - {"calls_a_cached_one"}),
    "lambda": ("x: x * x", "x: x * x * x", {"calls_a_lambda"}),
    "other module": (
        "x * FACTOR",
        "x / FACTOR",
        {"calls_another_module", "calls_by_attribute", "imports_inside"},
    ),
    "global of the other": (
        "FACTOR = 1.0",
        "FACTOR = 0.0",
        {"calls_another_module", "calls_by_attribute", "imports_inside"},
    ),
    "cached": ("GAIN * n", "GAIN / n", {"calls_a_cached_one"}),
    "one of a cycle": ("n > 0 and", "n > 1 and", {"even"}),
    "closure": ("gain * x", "gain / x", {"calls_a_closure"}),
    "attribute of a base": ("power = 1", "power = 2", {"Step"}),
    "value in a log": ("3.0", "4.0", {"counts"}),
    "method": ("** self.power", "* self.power", {"Step"}),
    "unused": ("np.abs(x)", "np.abs(x) + 1", {"plain"}),
    "comment": ("    GAIN = 1.0", "    # a comment\n\n    GAIN = 1.0", set()),
}


def load(folder, name, text):
    """Import a module of the user's from a new file."""
    file = Path(folder, f"{name}.py")
    file.write_text(textwrap.dedent(text))
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def hash_functions(folder, edit=("", "")):
    folder.mkdir()
    texts = [text.replace(*edit) for text in (HELPERS, MODULE)]
    names = ["emossl_test_helpers", "emossl_test_module"]
    try:
        load(folder, names[0], texts[0])
        module = load(folder, names[1], texts[1].format(helpers=names[0]))
        return {name: hash_of(getattr(module, name)) for name in FUNCTIONS}
    finally:
        for name in names:
            sys.modules.pop(name, None)


@pytest.mark.parametrize("edit", EDITS)
def test_the_users_code_counts_with_all_that_it_uses(edit, tmp_path):
    """Only the function itself did: an edited helper gave the old scores."""
    old, new, expected = EDITS[edit]
    before = hash_functions(tmp_path / "a")
    after = hash_functions(tmp_path / "b", (old, new) if old else ("", ""))
    changed = {name for name in FUNCTIONS if before[name] != after[name]}
    expected = {"calls_a_closure" if name == "closure" else name for name in expected}
    assert changed == expected


def test_the_users_code_has_one_hash_in_all_processes(tmp_path):
    """Sets have another order in each process; a script is __main__ or a module."""
    end = f"""
    if __name__ == "__main__":
        import runpy
        hash_object = runpy.run_path({storage.__file__!r})["hash_object"]
        for name in {sorted(FUNCTIONS)}:
            print(hash_object(globals()[name], name))
    """
    script = MODULE.format(helpers="emossl_test_helpers") + end
    (tmp_path / "script.py").write_text(textwrap.dedent(script))
    (tmp_path / "emossl_test_helpers.py").write_text(textwrap.dedent(HELPERS))
    found = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    here = hash_functions(tmp_path / "here")
    assert found.stdout.split() == [here[name] for name in sorted(FUNCTIONS)]


def test_functions_without_a_file_count_by_code():
    """A cell of a notebook defines a function again, under the same name."""
    hashes = []
    for gain in (1.0, 2.0, 1.0):
        cell = {"__name__": "__main__", "K": gain}
        exec("def helper(x): return x * K\ndef f(x): return helper(x)", cell)
        hashes.append(hash_of(FunctionTransformer(cell["f"])))
    assert hashes[0] == hashes[2] != hashes[1]


N_CALLS = {"n": 0}


class Counting(BaseEstimator):
    n_fits = 0

    def fit(self, X, y=None):
        Counting.n_fits += 1
        N_CALLS["n"] += 1
        return self


def test_counters_of_the_users_do_not_count():
    """After each fit the pipeline was another one, and nothing was found again."""
    before = hash_of(Counting())
    Counting().fit(None)
    assert Counting.n_fits == N_CALLS["n"] == 1
    assert hash_of(Counting()) == before


MISTAKEN = {
    "key": "def f(x): x[:, VALUE] = 0",
    "key in place": "def f(x): x[:, VALUE] *= 2",
    "key of two": "def f(x, c): x[VALUE if c else 0] = 0",
    "entry": 'TABLE = {"add": VALUE}\ndef f(x): return x + TABLE["add"]',
    "function of a module": "def f(x): return helpers.remove(x)",
    "function of a class": "def f(x): return Cleaner.remove(x)",
    "attribute with the name of a global": """
        scale = Cleaner.remove
        class f:
            def fit(self, x): self.scale = scale(x)
        """,
    "attribute that starts as a global": """
        class f:
            alpha = VALUE
            def fit(self, x): self.alpha = self.alpha + x
        """,
    "attribute without a source": """
        exec("class f:\\n alpha = VALUE\\n def fit(self): self.alpha = 1")
        """,
    "value that starts a log": """
        LOG = {"n": 0, "gain": VALUE}
        def f(x): LOG["n"] += 1; return LOG["gain"]
        """,
    "imported log": """
        from emossl_test_helpers import SETTINGS
        def f(x): SETTINGS["seen"] = x
        """,
}


@pytest.mark.parametrize("name", MISTAKEN)
def test_what_looks_like_a_log_counts_by_value(name, tmp_path):
    """Values and functions that code only reads were taken for its counters."""
    head = """
        import emossl_test_helpers as helpers
        from emossl_test_helpers import VALUE, Cleaner
        """
    text = f"{textwrap.dedent(head)}\n{textwrap.dedent(MISTAKEN[name])}"
    hashes = []
    try:
        for value in (3, 5):
            helpers = f"""
            VALUE, SETTINGS = {value}, {{"gain": {value}}}

            def remove(x):
                return x * {value}

            class Cleaner:
                remove = staticmethod(remove)
            """
            load(tmp_path, "emossl_test_helpers", helpers)
            hashes.append(hash_of(load(tmp_path, f"emossl_test_{value}", text).f))
    finally:
        for module in ("emossl_test_helpers", "emossl_test_3", "emossl_test_5"):
            sys.modules.pop(module, None)
    assert hashes[0] != hashes[1]


def test_logs_of_any_kind_do_not_count(tmp_path):
    """Logs that code changes by a method, a key or an attribute are its own."""
    text = """
    N, NAMES, TABLE = 0, [], {}

    class Step:
        seen, n_fits = [], 0

        def fit(self, x):
            global N
            N += 1
            NAMES.append(x)
            TABLE[x, len(NAMES)] = x
            self.seen.append(x)
            Step.n_fits += 1
    """
    try:
        step = load(tmp_path, "emossl_test_logs", text).Step
        before = hash_of(step)
        step().fit("a")
        assert hash_of(step) == before
    finally:
        sys.modules.pop("emossl_test_logs", None)


LOCK = threading.Lock()


def locks(x):
    with LOCK:
        return x


def test_a_global_that_cannot_be_hashed_is_named():
    message = r"The pipeline 'a' .* the function locks uses LOCK, a lock, .*Create it"
    with pytest.raises(ValueError, match=message):
        hash_object(FunctionTransformer(locks), "The pipeline 'a'")


def test_lambdas_and_local_functions_are_refused():
    def local(x):
        return x

    for function in (lambda x: x, local):
        with pytest.raises(ValueError, match=r"It must be picklable.*with a name"):
            hash_of(FunctionTransformer(function))


def test_installed_code_counts_by_name():
    """Walking through all of it would take minutes."""
    start = time.perf_counter()
    steps = [FunctionTransformer(f) for f in (np.log1p, np.sqrt, pd.isna, pd.notna)]
    assert len(set(map(hash_of, steps))) == 4
    hash_of([StandardScaler, torch.nn.Linear(2, 2), storage.hash_object, BaseEstimator])
    assert time.perf_counter() - start < 5


@dataclass
class Settings:
    a: int = 1
    b: list = field(default_factory=list)


def test_instances_of_the_users_classes_count_by_their_state():
    assert hash_of(Settings()) == hash_of(Settings(b=[]))
    assert hash_of(Settings()) != hash_of(Settings(2))
