"""Fixtures of all tests: miniature corpora, and settings apart from the user's."""

from __future__ import annotations

import os

import mne
import pytest
import torch

from braindecode_emossl.datasets import write_replica


def pytest_collection_modifyitems(items):
    """Skip the tests of a GPU where there is none."""
    if torch.cuda.is_available():
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session", autouse=True)
def own_mne_settings(tmp_path_factory):
    """Keep MNE and the package off the settings, data and caches of the user."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in list(os.environ):
            if name.startswith(("MNE_DATA", "MNE_DATASETS_")):
                monkeypatch.delenv(name)
        home = str(tmp_path_factory.mktemp("mne-home"))
        monkeypatch.setenv("_MNE_FAKE_HOME_DIR", home)
        monkeypatch.setenv("EMOSSL_CACHE_DIR", home)
        old_level = mne.set_log_level("ERROR", return_old_level=True)
        yield
        mne.set_log_level(old_level)


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread():
    """Small networks are slower with several threads, above all on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def seed_root(tmp_path_factory):
    """SEED of subjects 1, 2 and 10, all sessions, trials of 4 s. Not to be changed."""
    return write_replica(
        "SEED",
        tmp_path_factory.mktemp("seed"),
        subjects=[1, 2, 10],
        seconds=4,
        seed=0,
        sessions=[0, 1, 2],
    )


@pytest.fixture(scope="session")
def deap_root(tmp_path_factory):
    """DEAP of subjects 1 and 2, trials of 4 s. Not to be changed."""
    return write_replica(
        "DEAP", tmp_path_factory.mktemp("deap"), subjects=[1, 2], seconds=4, seed=0
    )
