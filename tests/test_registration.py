"""The package through the front doors of MOABB and braindecode."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import braindecode.models.util
import mne
import moabb
import moabb.datasets
import moabb.datasets.utils
import moabb.paradigms
import numpy as np
import pandas as pd
import pytest
import yaml
from braindecode import EEGClassifier
from braindecode.datasets import MOABBDataset
from braindecode.preprocessing import create_windows_from_events
from numpy.testing import assert_array_equal
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import braindecode_emossl
from braindecode_emossl.datasets import DEAP, SEED, write_replica
from braindecode_emossl.features import DifferentialEntropy
from braindecode_emossl.models import SCMM
from braindecode_emossl.paradigms import Emotion

PIPELINES = Path(braindecode_emossl.__file__).parent / "pipelines"

# Makes a run of MOABB small; the pipelines that ship need 200 Hz.
CONTEXT = {
    "Emotion": {
        "target": "valence",
        "window": 1.0,
        "fmin": None,
        "fmax": None,
        "channels": ["F3", "F4", "T7", "T8"],
    }
}


@pytest.fixture(scope="module")
def whole_corpora(tmp_path_factory):
    """Both corpora with all their subjects, found through MNE's settings.

    MOABB's front doors make the datasets themselves, so nothing smaller will do:
    across sessions SEED needs two.
    """
    root = tmp_path_factory.mktemp("whole")
    kwargs = {"seconds": 1, "seed": 0, "effect_size": 2.0}
    seed = write_replica(
        "SEED", root / "seed", subjects=range(1, 16), sessions=[0, 1], **kwargs
    )
    deap = write_replica("DEAP", root / "deap", subjects=range(1, 33), **kwargs)
    settings = {"MNE_DATASETS_SEED_PATH": seed, "MNE_DATASETS_DEAP_PATH": deap}
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name, folder in settings.items():
            monkeypatch.setenv(name, str(folder))
        yield


@pytest.fixture
def contexts(tmp_path):
    file = tmp_path / "contexts.yml"
    file.write_text(yaml.safe_dump(CONTEXT))
    return str(file)


# -- MOABB ---------------------------------------------------------------------


@pytest.mark.parametrize("cls", [SEED, DEAP])
def test_datasets_are_those_of_moabb(cls):
    assert getattr(moabb.datasets, cls.__name__) is cls
    assert moabb.datasets.utils.dataset_list.count(cls) == 1
    assert moabb.datasets.utils.dataset_dict[cls.__name__] is cls
    found = moabb.datasets.utils.dataset_search()
    assert [type(dataset) for dataset in found].count(cls) == 1
    assert cls().metadata == cls.METADATA


def test_paradigm_is_that_of_moabb():
    assert moabb.paradigms.Emotion is Emotion
    types = {type(dataset) for dataset in Emotion().datasets}
    assert {SEED, DEAP} <= types
    assert {dataset.paradigm for dataset in Emotion().datasets} == {"emotion"}


def snapshot():
    return {
        "datasets": dict(vars(moabb.datasets)),
        "paradigms": dict(vars(moabb.paradigms)),
        "list": list(moabb.datasets.utils.dataset_list),
        "dict": dict(moabb.datasets.utils.dataset_dict),
        "models": dict(braindecode.models.util.models_dict),
    }


def test_registering_again_changes_nothing():
    before = snapshot()
    lists = moabb.datasets.utils.dataset_list, moabb.datasets.utils.dataset_dict
    braindecode_emossl.register()
    assert snapshot() == before
    assert moabb.datasets.utils.dataset_list is lists[0]
    assert moabb.datasets.utils.dataset_dict is lists[1]


def test_foreign_classes_are_kept(monkeypatch):
    foreign = type("Foreign", (), {})
    for registry, name in [
        (vars(moabb.datasets), "SEED"),
        (vars(moabb.datasets), "DEAP"),
        (vars(moabb.paradigms), "Emotion"),
        (braindecode.models.util.models_dict, "SCMM"),
    ]:
        with monkeypatch.context() as patch:
            patch.setitem(registry, name, foreign)
            with pytest.raises(ValueError, match=f"already has another {name}: .*"):
                braindecode_emossl.register()
            assert registry[name] is foreign
        assert registry[name] is not foreign
    braindecode_emossl.register()
    assert SEED in moabb.datasets.utils.dataset_list


@pytest.mark.slow
def test_benchmark(whole_corpora, contexts, tmp_path):
    pipeline = make_pipeline(
        DifferentialEntropy(200), LogisticRegression(max_iter=1000)
    )
    level = mne.set_log_level("ERROR", return_old_level=True)
    try:
        table = moabb.benchmark(
            pipelines=[
                {"name": "ours", "paradigms": ["Emotion"], "pipeline": pipeline}
            ],
            evaluations=["CrossSubject"],
            include_datasets=["SEED"],
            results=str(tmp_path / "results"),
            output=str(tmp_path / "output"),
            contexts=contexts,
            n_jobs=1,
        )
    finally:
        mne.set_log_level(level)  # the benchmark turns it down for good
    assert set(table["dataset"]) == {"SEED"} and set(table["paradigm"]) == {"Emotion"}
    assert sorted(map(int, table["subject"])) == sorted([*range(1, 16)] * 2)
    assert set(table["session"]) == {"0", "1"}
    assert table["channels"].unique() == 4
    assert 0.55 < table["score"].mean() <= 1  # chance is a half
    file = tmp_path / "results/results/Emotion/CrossSubjectEvaluation/results_.hdf5"
    assert file.is_file()


# MOABB's command takes all corpora of a paradigm, and whole ones; two are enough here.
TWO_CORPORA = """
import moabb.datasets
from sklearn.dummy import DummyClassifier

from braindecode_emossl.registration import DATASETS

for cls in DATASETS:
    if cls.__name__ not in ("SEED", "DEAP"):
        delattr(moabb.datasets, cls.__name__)
moabb.datasets.utils._init_dataset()

PIPELINE = {"name": "Dummy", "paradigms": ["Emotion"], "pipeline": DummyClassifier()}
"""


@pytest.mark.slow
def test_command_line_of_moabb(whole_corpora, contexts, tmp_path):
    """The pipelines' ``from`` makes the plug-in known; MOABB 1.7 cannot read -e."""
    folder = tmp_path / "pipelines"
    folder.mkdir()
    (folder / "de_logreg.yml").write_text((PIPELINES / "de_logreg.yml").read_text())
    (folder / "two_corpora.py").write_text(TWO_CORPORA)
    options = {"-p": folder, "-r": "results", "-o": "output", "-c": contexts}
    command = [sys.executable, "-m", "moabb.run", *sum(options.items(), ())]
    result = subprocess.run(
        list(map(str, command)),
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert "Datasets considered for Emotion paradigm ['DEAP', 'SEED']" in result.stdout
    for evaluation in ("WithinSession", "CrossSession", "CrossSubject"):
        folder = tmp_path / "results/results/Emotion" / f"{evaluation}Evaluation"
        assert (folder / "results_.hdf5").is_file()
    # Only the last evaluation's table stays: 15 subjects in 2 sessions, 32 in one,
    # each with two pipelines.
    table = pd.read_csv(tmp_path / "output/Emotion/analysis/data.csv")
    assert table["dataset"].value_counts().to_dict() == {"DEAP": 64, "SEED": 60}
    assert set(table["pipeline"]) == {"DE + logistic regression", "Dummy"}


# -- orders of import, in fresh interpreters ------------------------------------

CHECKS = """
import importlib, sys, threading

def check_moabb():
    import braindecode_emossl as ours, moabb.datasets, moabb.paradigms
    from moabb.datasets.utils import dataset_dict, dataset_list
    assert moabb.datasets.SEED is dataset_dict["SEED"] is ours.SEED
    assert dataset_list.count(ours.SEED) == 1
    assert dataset_list == sorted(dataset_list, key=lambda cls: cls.__name__)
    assert moabb.paradigms.Emotion is ours.Emotion

def check_braindecode():
    import braindecode.models.util, braindecode_emossl as ours
    assert braindecode.models.util.models_dict["SCMM"] is ours.SCMM
"""


def run_python(code: str, *arguments) -> None:
    command = [sys.executable, "-c", CHECKS + textwrap.dedent(code), *arguments]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]


def test_hosts_imported_later():
    """Each host is given our classes alone, and a reload changes nothing."""
    run_python(
        """
        import braindecode_emossl
        assert not {"moabb", "braindecode", "torch"} & set(sys.modules)
        import moabb.datasets
        check_moabb()
        assert "braindecode" not in sys.modules
        loader = moabb.datasets.__loader__
        assert loader is moabb.datasets.__spec__.loader
        assert type(loader) is type(sys.modules["moabb.datasets.base"].__loader__)
        import braindecode
        check_braindecode()
        finders = list(sys.meta_path)
        for module in (braindecode_emossl, moabb.datasets, moabb.paradigms):
            importlib.reload(module)
            check_moabb()
        assert sys.meta_path == finders
        """
    )


def test_a_class_imported_first_in_several_threads():
    """Its module imports MOABB, which needs the class in turn.

    Nobody gets the class before it is registered. All threads import the same module
    first, as MOABB alone cannot be imported by threads through different modules.
    """
    run_python(
        """
        def use():
            from braindecode_emossl.paradigms.emotion import Emotion
            import moabb.paradigms
            found.append(moabb.paradigms.Emotion is Emotion)

        found = []
        threads = [threading.Thread(target=use) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [True] * 4, found
        check_moabb()
        """
    )


def test_import_during_that_of_a_host():
    """The host is incomplete by then, and is given our classes when one is used."""
    run_python(
        """
        class Finder:
            def find_spec(self, name, path=None, target=None):
                if name == "moabb.datasets.base":
                    import braindecode_emossl

        sys.meta_path.insert(0, Finder())
        import moabb
        import braindecode_emossl
        braindecode_emossl.SEED
        check_moabb()
        """
    )


def test_errors_of_a_host_are_shown_as_without_the_package(tmp_path):
    (tmp_path / "moabb").mkdir()
    (tmp_path / "moabb/__init__.py").touch()
    (tmp_path / "moabb/datasets.py").write_text("1 / 0")
    run_python(
        """
        import traceback
        import braindecode_emossl

        sys.path.insert(0, sys.argv[1])
        try:
            import moabb.datasets
        except ZeroDivisionError as error:
            frames = traceback.extract_tb(error.__traceback__)
        files = [frame.filename for frame in frames]
        assert files == ["<string>", sys.argv[1] + "/moabb/datasets.py"], files
        """,
        tmp_path,
    )


def test_start_help_and_completion_load_no_host():
    run_python(
        """
        heavy = {
            "braindecode", "matplotlib", "mne", "moabb", "pandas", "scipy", "sklearn",
            "skorch", "torch",
        }
        import braindecode_emossl
        assert not heavy & set(sys.modules), heavy & set(sys.modules)

        from typer.testing import CliRunner
        from braindecode_emossl.cli import app

        def run(*arguments, **environment):
            result = CliRunner().invoke(
                app, arguments, prog_name="emossl", env=environment
            )
            assert result.exit_code == 0 and result.output.strip(), result
            assert not heavy & set(sys.modules), heavy & set(sys.modules)

        for arguments in (["--help"], ["--version"], ["evaluate", "--help"]):
            run(*arguments)
        for typed in (
            "emossl ",
            "emossl pretrain ",
            "emossl evaluate ",
            "emossl evaluate SEED --protocol ",
            "emossl evaluate SEED --target ",
        ):
            run(
                _EMOSSL_COMPLETE="complete_bash",
                COMP_WORDS=typed,
                COMP_CWORD=str(typed.count(" ")),
            )
        """
    )


# -- braindecode ---------------------------------------------------------------


def test_model_is_that_of_braindecode():
    assert braindecode.models.util.models_dict["SCMM"] is SCMM


def make_classifier(**kwargs):
    return EEGClassifier(
        "SCMM", max_epochs=2, batch_size=8, train_split=None, verbose=0, **kwargs
    )


def test_classifier_by_name_on_arrays():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(24, 4, 200)).astype("float32"), np.repeat([0, 1, 2], 8)
    classifier = make_classifier(module__sfreq=200).fit(X, y)
    assert isinstance(classifier.module_, SCMM)
    assert classifier.module_.sfreq == 200
    assert classifier.predict_proba(X).shape == (24, 3)


def test_classifier_by_name_on_epochs():
    rng = np.random.default_rng(0)
    info = mne.create_info(["Fz", "Cz", "Pz"], 200.0, "eeg")
    events = np.column_stack([np.arange(16) * 200, np.zeros(16, int), [0, 1] * 8])
    epochs = mne.EpochsArray(1e-5 * rng.normal(size=(16, 3, 200)), info, events)
    classifier = make_classifier().fit(epochs, epochs.events[:, 2])
    model = classifier.module_
    assert (model.n_chans, model.n_times, model.sfreq) == (3, 200, 200.0)
    assert [channel["ch_name"] for channel in model.chs_info] == ["Fz", "Cz", "Pz"]
    assert classifier.predict(epochs).shape == (16,)


@pytest.mark.parametrize("by_name", [False, True])
def test_moabb_dataset_of_seed(seed_root, by_name):
    kwargs = {"subjects": [1], "sessions": [0], "path": seed_root}
    if by_name:
        corpus = MOABBDataset("SEED", subject_ids=[1], dataset_kwargs=kwargs)
    else:
        corpus = MOABBDataset(SEED(**kwargs), subject_ids=[1])
    assert len(corpus.datasets) == 15
    assert corpus.description["run"].tolist() == [f"{run:02d}" for run in range(15)]

    event_id = SEED().event_id
    windows = create_windows_from_events(
        corpus,
        window_size_samples=200,
        window_stride_samples=200,
        on_last_window="drop",
        mapping=event_id,
        preload=True,
    )
    assert len(windows) == 15 * 4
    trials = SEED(**kwargs).get_additional_metadata(1, "0", "02")
    X, y, _ = windows.datasets[2][3]
    assert y == event_id[trials["emotion"].item()]
    raw = SEED(**kwargs).get_data()[1]["0"]["02"]
    np.testing.assert_allclose(X, raw.get_data()[:, 600:], rtol=1e-6)


def test_moabb_dataset_of_deap(deap_root):
    """The three seconds before the video are no trial."""
    kwargs = {"subjects": [2], "path": deap_root}
    corpus = MOABBDataset("DEAP", subject_ids=2, dataset_kwargs=kwargs)
    assert len(corpus.datasets) == 40
    windows = create_windows_from_events(
        corpus,
        window_size_samples=128,
        window_stride_samples=128,
        on_last_window="drop",
        mapping=DEAP().event_id,
        preload=True,
    )
    assert len(windows) == 40 * 4
    trials = DEAP(**kwargs).get_data()[2]["0"]
    first = windows.datasets[7][0]
    np.testing.assert_allclose(first[0], trials["07"].get_data()[:, 384:512], rtol=1e-6)
    labels = [windows.datasets[run][0][1] for run in range(40)]
    table = [
        DEAP(**kwargs).get_additional_metadata(2, "0", f"{run:02d}") for run in (0, 39)
    ]
    expected = [DEAP().event_id[rows["emotion"].item()] for rows in table]
    assert_array_equal([labels[0], labels[39]], expected)
