"""Pipelines from YAML files: those of the package, and malformed ones."""

from __future__ import annotations

import re
import shutil
import sys

import mne
import numpy as np
import pytest
from moabb.pipelines.utils import parse_pipelines_from_directory
from numpy.testing import assert_array_equal

from braindecode_emossl.datasets import DEAP, SEED_IV, write_replica
from braindecode_emossl.evaluation import (
    EEGChannels,
    evaluate,
    load_pipelines,
    pipelines_folder,
    with_baselines,
)
from braindecode_emossl.evaluation.baselines import DE_BASELINE
from braindecode_emossl.features import DifferentialEntropy
from braindecode_emossl.paradigms import Emotion
from braindecode_emossl.pretraining import SSLClassifier
from braindecode_emossl.registration import MODELS

MODEL_NAMES = {model.__name__ for model in MODELS}
# Large networks, which have quick tests in their own files.
LARGE = {"MEMHACL", "MaskedClusterTransformer", "MoodReader"}

GOOD = """
name: DE + LR
paradigms:
  - Emotion
pipeline:
  - name: Vectorizer
    from: mne.decoding
  - name: LogisticRegression
    from: sklearn.linear_model
    parameters:
      max_iter: 20
"""


@pytest.fixture
def windows():
    """Loud and soft windows of noise, and their labels."""
    X = np.random.default_rng(0).normal(size=(48, 6, 400))
    X[24:] *= 3
    return X, np.repeat(["negative", "positive"], 24)


# -- the pipelines of the package ----------------------------------------------


@pytest.mark.parametrize("features", [None, "de"])
def test_shipped_pipelines_learn(features, windows):
    pipelines, grids = load_pipelines(pipelines_folder(features))
    assert {DE_BASELINE, "DE + SVM", "DGCNN", "SCMM"} <= set(pipelines)
    assert set(grids) == {"DE + SVM"}
    X, y = windows
    if features == "de":
        X = DifferentialEntropy(200, flatten=False).transform(X)
    for name in set(pipelines) - LARGE:
        pipeline = pipelines[name]
        if isinstance(pipeline[-1], SSLClassifier):
            pipeline[-1].set_params(pretrain_steps=2, finetune_steps=4)
        score = pipeline.fit(X, y).score(X, y)
        assert score > 0.8 or isinstance(pipeline[-1], SSLClassifier), name
        assert set(pipeline.predict(X)) <= {"negative", "positive"}


def test_memhacl_stops_on_bare_arrays(windows):
    """It was trained on groups of windows that have nothing in common."""
    pipelines, _ = load_pipelines(pipelines_folder() / "memhacl.yml")
    with pytest.raises(ValueError, match="run the pipeline in braindecode_emossl's ev"):
        pipelines["MEMHACL"].fit(*windows)


def test_memhacl_of_all_modalities_names_those_that_are_missing(windows):
    """It is in a folder of its own, as it cannot run on a corpus of EEG alone."""
    folder = pipelines_folder() / "all_modalities"
    pipelines, grids = load_pipelines(folder)
    assert list(pipelines) == ["MEMHACL, all modalities"] and not grids
    with pytest.raises(ValueError, match=r"'resp', 'temperature'\]: load all modaliti"):
        pipelines["MEMHACL, all modalities"].fit(*windows)


def test_the_baseline_of_differential_entropy_is_not_added_twice():
    for features in (None, "de"):
        pipelines, _ = load_pipelines(pipelines_folder(features))
        added = set(with_baselines(pipelines)) - set(pipelines)
        models = MODEL_NAMES if features is None else {"SCMM"}
        kinds = ("random weights", "frozen")
        of_models = {f"{model}, {kind}" for model in models for kind in kinds}
        assert added == {*of_models, "most frequent", "stratified"}


def test_moabb_reads_the_same_pipelines(tmp_path):
    """MOABB runs each .py file of the folder, and an ``__init__.py`` made it crash."""
    ignored = shutil.ignore_patterns("__pycache__")
    folder = shutil.copytree(pipelines_folder(), tmp_path / "p", ignore=ignored)
    configs = parse_pipelines_from_directory(str(folder))
    ours, _ = load_pipelines(pipelines_folder())
    found = {config["name"]: str(config["pipeline"]) for config in configs}
    assert found == {name: str(pipeline) for name, pipeline in ours.items()}
    assert {"Riemannian tangent space", "TSception", *MODEL_NAMES} <= set(found)
    assert all(config["paradigms"] == ["Emotion"] for config in configs)
    assert not list(pipelines_folder().rglob("*.lock"))  # reading leaves nothing behind


def test_device_and_rate_are_set_at_any_depth():
    file = pipelines_folder() / "tsception.yml"
    kept = load_pipelines(file)[0]["TSception"][-1]
    moved = load_pipelines(file, device="cuda:1", keep_sfreq=False)[0]["TSception"][-1]
    assert (kept.sfreq, kept.device) == (200, "auto")
    assert (moved.sfreq, moved.device) == (None, "cuda:1")


def test_no_pipelines_ship_for_other_features():
    with pytest.raises(ValueError, match="features='psd'"):
        pipelines_folder("psd")


# -- what a pipeline needs of the paradigm -------------------------------------


@pytest.mark.parametrize(
    ("file", "settings", "says"),
    [
        (
            "memhacl.yml",
            {},
            r"needs window=1\.0 .* is 4\.0: pass Emotion\(window=1\.0\)",
        ),
        ("scmm.yml", {"features": "de"}, "needs features=None .* but it is 'de'"),
        ("de/scmm.yml", {}, "needs features='de' of the paradigm, but it is None"),
        ("de/dgcnn.yml", {"features": "psd"}, "'DGCNN' needs .* but it is 'psd'"),
    ],
)
def test_evaluate_stops_where_a_pipeline_needs_another_paradigm(
    file, settings, says, toy
):
    """ME-MHACL ran in windows of 4 s, and DE was taken for signals of five samples."""
    pipelines, _ = load_pipelines(pipelines_folder() / file, keep_sfreq=False)
    for chosen in (pipelines, with_baselines(pipelines)):
        with pytest.raises(ValueError, match=says) as error:
            evaluate(chosen, [toy], Emotion(**settings), "leave-one-subject-out")
        assert "\n" not in str(error.value)


def test_needs_are_kept_as_the_paradigm_has_them(tmp_path):
    needs = "paradigm: {window: 1, standardize: recording, features: null}\n"
    (tmp_path / "a.yml").write_text(GOOD + needs)
    (pipeline,) = load_pipelines(tmp_path)[0].values()
    wanted = {"window": 1.0, "standardize": "recording", "features": None}
    assert pipeline.requires_paradigm == wanted


def test_rows_of_a_pipeline_have_its_needs():
    """A clone loses the attribute, so that the frozen probe ran in other windows."""
    rows = with_baselines(load_pipelines(pipelines_folder() / "memhacl.yml")[0])
    for name, row in rows.items():
        needs = getattr(row, "requires_paradigm", {})
        assert needs.get("window") == (1.0 if name.startswith("MEMHACL") else None)


def test_features_of_the_makers_meet_the_need_of_entropy(toy):
    """The pipelines of features="de" take them as well."""
    pipelines, _ = load_pipelines(pipelines_folder("de") / "de_logreg.yml")
    paradigm = Emotion(features="released:de_LDS")
    with pytest.raises(ValueError, match="released:de_LDS"):
        evaluate(pipelines, [toy], paradigm, "leave-one-subject-out")


# -- all modalities ------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("corpus", "n_chans"), [(DEAP, 40), (SEED_IV, 93)])
def test_shipped_pipelines_run_on_all_modalities(corpus, n_chans, tmp_path):
    """DGCNN failed on NaN, and others took skin conductance for EEG."""
    pipelines, _ = load_pipelines(pipelines_folder(), keep_sfreq=False)
    if corpus is DEAP:
        folder = pipelines_folder() / "all_modalities"
        pipelines |= load_pipelines(folder, keep_sfreq=False)[0]
    subjects = [1, 2, 3]
    settings = {"subjects": subjects, "sessions": [0], "seconds": 4, "seed": 0}
    root = write_replica(corpus.code_name, tmp_path, **settings)
    for pipeline in pipelines.values():
        if isinstance(pipeline[-1], SSLClassifier):
            pipeline[-1].set_params(pretrain_steps=1, finetune_steps=1, batch_size=8)
    for name in ("MaskedClusterTransformer", "MoodReader"):  # which are deep
        pipelines[name][-1].set_params(model__n_layers=1)
    table = evaluate(
        pipelines,
        [corpus(subjects, [0], path=root, return_all_modalities=True)],
        Emotion(window=1.0, last=1.0, fmin=None, fmax=None),
        "subject-split",
        train=2,
        validation=0,
        test=1,
        random_state=0,
    )
    assert set(table["pipeline"]) == set(pipelines)
    assert set(table["channels"]) == {n_chans}


def test_only_eeg_channels_are_kept():
    X = np.arange(24.0).reshape(2, 4, 3)
    names = ("Fz", "gsr", "Cz", "temp")
    kinds = ("eeg", "gsr", "eeg", "temperature")
    info = mne.create_info(list(names), 100.0, list(kinds))
    kept = EEGChannels(info["chs"]).fit_transform(X)
    assert_array_equal(kept, X[:, [0, 2]])
    assert EEGChannels().fit_transform(X) is X
    epochs = EEGChannels().fit_transform(mne.EpochsArray(X, info, verbose=False))
    assert epochs.ch_names == ["Fz", "Cz"]
    with pytest.raises(ValueError, match="must have EEG channels"):
        EEGChannels(info["chs"][1:2]).transform(X[:, 1:2])


# -- files ---------------------------------------------------------------------


def test_all_endings_are_read(tmp_path):
    """.yaml and .YML were skipped without a message."""
    for name in ("a.yml", "b.yaml", "c.YML"):
        (tmp_path / name).write_text(GOOD.replace("DE + LR", name))
    (tmp_path / "readme.txt").write_text("not a pipeline")
    (tmp_path / "folder.yml").mkdir()
    assert list(load_pipelines(tmp_path)[0]) == ["a.yml", "b.yaml", "c.YML"]
    assert list(load_pipelines(tmp_path / "b.yaml")[0]) == ["b.yaml"]


def test_folders_without_pipelines(tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path))):
        load_pipelines(tmp_path)
    with pytest.raises(FileNotFoundError, match="no pipeline file or folder nowhere"):
        load_pipelines("nowhere")
    (tmp_path / "a.yml").write_text(GOOD.replace("- Emotion", "- emotion"))
    with pytest.raises(FileNotFoundError, match=r"only of \['emotion'\]"):
        load_pipelines(tmp_path)


def test_subfolders_are_named_but_not_searched(tmp_path):
    """A folder with all pipelines in subfolders held none, without a word on these."""
    for name in ("signals/a.yml", "de/b.YAML", "notes/readme.txt"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(GOOD)
    with pytest.raises(FileNotFoundError, match=r"pass one of de, signals\.$"):
        load_pipelines(tmp_path)
    (tmp_path / "c.yml").write_text(GOOD)
    assert list(load_pipelines(tmp_path)[0]) == ["DE + LR"]


def test_two_pipelines_of_one_name(tmp_path):
    for name in ("a.yml", "b.yml"):
        (tmp_path / name).write_text(GOOD)
    with pytest.raises(ValueError, match="are named 'DE \\+ LR'"):
        load_pipelines(tmp_path)


def test_other_paradigms_are_left_out_before_anything_is_imported(
    tmp_path, monkeypatch
):
    """A file for another paradigm was imported and called, then left out."""
    module = "a_module_that_must_not_run"
    (tmp_path / f"{module}.py").write_text("class Thing: ...")
    monkeypatch.syspath_prepend(tmp_path)
    text = GOOD.replace("Vectorizer", "Thing").replace("mne.decoding", module)
    (tmp_path / "a.yml").write_text(text.replace("- Emotion", "- LeftRightImagery"))
    (tmp_path / "b.yml").write_text(GOOD)
    assert list(load_pipelines(tmp_path)[0]) == ["DE + LR"]
    assert module not in sys.modules


GRID = GOOD + "param_grid:\n  logisticregression__"
FAULTS = {
    "no paradigms": (
        GOOD.replace("paradigms:\n  - Emotion\n", ""),
        "lacks the key paradigms",
    ),
    "no name": (GOOD.replace("name: DE + LR\n", ""), "lacks the key name"),
    "no pipeline": (GOOD.split("pipeline:")[0], "lacks the key pipeline"),
    "no from": (
        GOOD.replace("    from: mne.decoding\n", ""),
        "lacks the key from of step 1 of pipeline",
    ),
    "misspelt key": (
        GOOD.replace("parameters", "parameter"),
        "step 2 of pipeline in .* must be among .* but there is 'parameter'",
    ),
    "parameters a list": (
        GOOD.replace("max_iter: 20", "- max_iter"),
        "parameters of step 2 of pipeline in .* must be a mapping",
    ),
    "unknown class": (
        GOOD.replace("Vectorizer", "Vectorise"),
        r"mne\.decoding\.Vectorise, named by step 1 of pipeline in .* cannot be called",
    ),
    "unknown module": (
        GOOD.replace("mne.decoding", "mne.decodinng"),
        "The module 'mne.decodinng', named by step 1 .* cannot be imported",
    ),
    "unknown parameter": (
        GOOD.replace("max_iter", "max_iters"),
        "LogisticRegression, named by step 2 .* unexpected keyword argument",
    ),
    "empty": ("", "must be a mapping with the keys name, paradigms and pipeline"),
    "a comment": ("# to do\n", "must be a mapping with the keys"),
    "a list": ("- a\n- b\n", "must be a mapping with the keys"),
    "tabs": (GOOD.replace("  - Emotion", "\t- Emotion"), "not a YAML .* in line 4"),
    "two documents": (f"{GOOD}---\n{GOOD}", "not a YAML .* a single document"),
    "paradigms a word": (
        GOOD.replace("paradigms:\n  - Emotion\n", "paradigms: Emotion\n"),
        "paradigms in .* must be a list of names",
    ),
    "pipeline a word": (
        GOOD.split("pipeline:")[0] + "pipeline: LogisticRegression",
        "pipeline in .* must be a list of steps",
    ),
    "a number as name": (GOOD.replace("DE + LR", "12"), "name in .* must be text"),
    "Python object": (
        GOOD.replace("20", "!!python/object/apply:os.getpid []"),
        "not a YAML document: could not determine a constructor",
    ),
    "unknown parameter in the grid": (
        GRID + "CC: [1, 2]\n",
        "param_grid in .* names logisticregression__CC, which is not a parameter",
    ),
    "paradigm a word": (
        GOOD + "paradigm: de\n",
        "paradigm in .* must be a mapping of arguments of Emotion",
    ),
    "unknown argument of the paradigm": (
        GOOD + "paradigm: {windows: 1}\n",
        "paradigm in .* must hold arguments of Emotion: .* argument 'windows'",
    ),
    "wrong value of the paradigm": (
        GOOD + "paradigm: {window: -1}\n",
        "paradigm in .* must hold arguments of Emotion: window must be",
    ),
    "grid a number": (GOOD + "param_grid: 3\n", "param_grid in .* is not a grid"),
    "no list in the grid": (GRID + "C: 1\n", "param_grid in .* is not a grid"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_malformed_files(fault, tmp_path):
    """They ended in a KeyError, a TypeError or an AttributeError without a file."""
    text, message = FAULTS[fault]
    file = tmp_path / "broken.yml"
    file.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        load_pipelines(tmp_path)
    assert str(file) in str(error.value) and "\n" not in str(error.value)


def test_files_in_another_encoding(tmp_path):
    (tmp_path / "a.yml").write_bytes(GOOD.replace("DE", "Dé").encode("latin-1"))
    with pytest.raises(ValueError, match=r"a\.yml must be text in UTF-8"):
        load_pipelines(tmp_path)


def test_the_pipelines_of_entropies_also_take_the_makers():
    assert pipelines_folder("released:de_LDS") == pipelines_folder("de")
    with pytest.raises(ValueError, match="released:psd_LDS"):
        pipelines_folder("released:psd_LDS")
