"""The gallery: each example runs on replicas, plots, and shows what its text says."""

from __future__ import annotations

import re
import runpy
import tempfile
from pathlib import Path

import matplotlib as mpl
import mne
import numpy as np
import pytest
from matplotlib import pyplot as plt

import braindecode_emossl
from braindecode_emossl.errors import CorpusNotFoundError

FOLDER = Path(__file__).parents[1] / "examples"
EXAMPLES = {path.stem.split("_")[1]: path for path in FOLDER.glob("plot_*.py")}
SETTINGS = [
    (number, setting)
    for number, path in sorted(EXAMPLES.items())
    for setting in re.findall(r'get_config\("(\w+)"\)', path.read_text())
]
NAMES = {
    "MNE_DATASETS_SEED_PATH": "SEED",
    "MNE_DATASETS_SEEDIV_PATH": "SEED-IV",
    "MNE_DATASETS_DEAP_PATH": "DEAP",
}


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    """Plot off screen, write to a folder of the test, and leave nothing changed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    plt.switch_backend("agg")
    with mpl.rc_context(), mne.utils.use_log_level("ERROR"):
        yield tmp_path
    plt.close("all")


def run(number):
    """Run an example as a script and return its variables."""
    return runpy.run_path(str(EXAMPLES[number]), run_name="__main__")


def look_at_figures(n_figures):
    """Check the number of figures, and that none of them is empty."""
    assert len(plt.get_fignums()) == n_figures
    for number in plt.get_fignums():
        figure = plt.figure(number)
        figure.canvas.draw()
        assert any(ax.has_data() for ax in figure.axes)


def test_all_examples_are_tested():
    tested = {name[5:7] for name in globals() if re.match(r"test_\d\d_", name)}
    assert tested == set(EXAMPLES) == {f"{number:02}" for number in range(1, 13)}


@pytest.mark.parametrize(("number", "setting"), SETTINGS)
def test_takes_the_users_corpus(number, setting, monkeypatch, tmp_path):
    """If the variable is set, its folder is read and no replica is written."""
    written = []

    def write_nothing(corpus, root, **settings):
        written.append(corpus)
        return root

    monkeypatch.setattr(braindecode_emossl, "write_replica", write_nothing)
    monkeypatch.setenv(setting, str(tmp_path / "mine"))
    others = [NAMES[name] for other, name in SETTINGS if other == number]
    others.remove(NAMES[setting])
    match = None if others else re.escape(str(tmp_path / "mine"))
    with pytest.raises(CorpusNotFoundError, match=match):
        run(number)
    assert written == others


def test_each_example_names_its_variables():
    """The variables that the code reads match the corpora that it writes."""
    for number, path in EXAMPLES.items():
        written = re.findall(r'write_replica\(\s*"([\w-]+)"', path.read_text())
        assert written == [NAMES[name] for n, name in SETTINGS if n == number] != []


def test_01_load_a_corpus():
    found = run("01")
    look_at_figures(3)
    assert found["X"].shape == (3 * 15 * 10, 62, 5)
    assert found["trials"]["emotion"].value_counts().to_dict() == {
        "positive": 5,
        "neutral": 5,
        "negative": 5,
    }


@pytest.mark.slow
def test_02_honest_and_leaky_splits():
    found = run("02")
    look_at_figures(2)
    scores = found["results"].groupby("protocol")["score"].mean()
    assert scores["shuffled windows"] > 0.95
    assert scores["within-session"] < 0.5
    assert scores["leave-one-subject-out"] < 0.5
    verdicts = {name: report.passed for name, report in found["reports"].items()}
    assert not verdicts.pop("KFold, shuffled")
    assert len(verdicts) == 2 and all(verdicts.values())
    by_stimulus = found["reports"]["leave-one-subject-out"].stimulus_score
    assert by_stimulus > found["chance"].threshold


@pytest.mark.slow
def test_03_scalp_maps():
    found = run("03")
    look_at_figures(3)
    steps = found["steps"]
    assert steps["LDS"] < steps["moving average of 5 s"] < steps["unsmoothed"] / 3
    # As the text states for the replica: temporal gamma increases with valence.
    gamma = found["scaled"][:, found["channel"], found["band"]]
    positive, negative = (
        gamma[found["y"] == name] for name in ("positive", "negative")
    )
    assert positive.mean() - negative.mean() > 0.5


@pytest.mark.slow
def test_04_pretrain_and_finetune_scmm(capsys):
    found = run("04")
    assert "has seen" in capsys.readouterr().out  # the LeakageError is shown
    look_at_figures(3)
    history = found["pretrainer"].history_
    assert history[-1, "train_loss"] < history[0, "train_loss"]
    assert history[-1, "valid_loss"] < history[0, "valid_loss"]
    assert found["predictions"].groupby("pipeline").size().unique() == [4 * 15 * 6]
    scores = found["results"].groupby("pipeline")["score"].mean()
    assert scores["Pre-trained, all weights"] > 0.4  # chance is a third
    # Two of the three pipelines share one pre-training run in each of the 4 folds.
    memory = Path(found["pretrained"]["memory"])
    assert len([entry for entry in memory.iterdir() if entry.is_dir()]) == 4
    assert found["classifier"].net_.module_.input_domain == "de"


@pytest.mark.slow
def test_05_multimodal_deap():
    found = run("05")
    look_at_figures(2)
    assert found["classifier"].net_.module_.modalities.keys() == {
        "eeg",
        "gsr",
        "resp",
        "temperature",
    }
    sampler = found["classifier"].pretrainer_.sampler_
    assert type(sampler).__name__ == "StimulusGroupSampler"
    for losses in found["losses"].values():
        assert losses[-1] < losses[0]
    assert all(0.3 < score < 1 for score in found["scores"].values())


@pytest.mark.slow
def test_06_masked_clusters_on_a_hybrid():
    found = run("06")
    look_at_figures(3)
    history, reports = found["pretrainer"].history_, found["pretrainer"].module_.reports
    assert [report.features for report in reports] == ["band_power", "layer 1"]
    assert history[5, "train_loss"] < np.log([10, 20]).sum() < history[0, "train_loss"]
    assert min(reports[-1].perplexity) > 3
    assert found["pretrainer"].provenance_["corpora"].keys() == {"SEED", "DEAP"}


@pytest.mark.slow
def test_07_mood_reader_attention():
    found = run("07")
    look_at_figures(3)
    assert found["weights"].shape == (24, 62)
    np.testing.assert_allclose(found["weights"].detach().sum(dim=1), 1, rtol=1e-5)
    losses = found["classifier"].pretrainer_.history_[:, "train_loss"]
    assert losses[-1] < losses[0]
    assert sorted(found["results"]["channels"].unique()) == [62, 93]


@pytest.mark.slow
def test_08_cross_corpus_transfer():
    found = run("08")
    look_at_figures(1)
    results = found["results"]
    keys = ["protocol", "dataset", "pipeline"]
    assert (results.groupby(keys)["subject"].nunique() == 3).all()
    assert len(results) == 2 * 2 * 3 * 3
    scores = results.groupby(["protocol", "pipeline"])["balanced_accuracy"].mean()
    assert scores["cross-corpus", "SCMM"] > 0.55
    assert scores["cross-corpus-finetune", "DE + logistic regression"] > 0.7
    assert found["pairs"]["p_value"].min() >= 1 / 4
    access = results.groupby("protocol")["target_access"].unique().map(list)
    assert access["cross-corpus"] == ["none"]
    assert access["cross-corpus-finetune"] == ["calibration"]


@pytest.mark.slow
def test_09_moabb_benchmark():
    found = run("09")
    look_at_figures(2)
    assert len(found["results"]) == 2 * 3 * 8
    pairs = found["pairs"].set_index(["dataset", "pipeline_1", "pipeline_2"])
    assert len(pairs) == 2 * 3
    assert (pairs["p_corrected"] < 0.05).sum() >= 2
    means = found["results"].groupby("pipeline")["score"].mean()
    assert means["DE + logistic regression"] > 0.6  # of two classes


@pytest.mark.slow
def test_10_model_zoo():
    found = run("10")
    look_at_figures(2)
    assert found["same"]
    provenance = found["objective"].provenance
    assert provenance["corpora"]["SEED"]["subjects"] == [1, 2, 3]
    scores = found["results"].groupby("pipeline")["score"].mean()
    assert scores["SCMM, pre-trained in the fold"] > 0.35
    assert len(found["results"]) == 2 * 4


@pytest.mark.slow
def test_11_scaling_out(capsys):
    found = run("11")
    look_at_figures(2)
    assert len(found["results"]) == 2 * 4
    assert capsys.readouterr().out.count("4 of 4 folds") == 2  # none ran twice
    history = found["pretrainer"].history_
    assert found["pretrainer"].n_steps_ == 48
    assert history[-1, "valid_loss"] < history[0, "valid_loss"]


@pytest.mark.slow
def test_12_controls():
    found = run("12")
    look_at_figures(4)
    # A leaky split: permuted labels score as well as the true ones.
    assert min(found["leaky"].values()) > 0.5
    assert abs(np.diff([*found["leaky"].values()])) < 0.1
    assert not found["report"].passed
    # No effect: the score lies within the null.
    assert found["null"].min() < found["score"] < found["null"].max()
    assert found["compared"]["p_value"] > 0.1
    # The subject is read from the features, the label is not.
    assert found["probes"]["probe_subject"] > 0.9
    assert abs(found["probes"]["probe_label"] - 1 / 3) < 0.1
    # The pipeline can learn.
    injected = found["injected"].groupby("control")["score"].min()
    assert injected["injected-signal(snr=0.5)"] > 0.9
