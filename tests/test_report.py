"""The report: an evaluation, and stored folds of all kinds."""

from __future__ import annotations

import base64
import errno
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mne.decoding import Vectorizer
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from braindecode_emossl import report_content
from braindecode_emossl.datasets import SEED
from braindecode_emossl.evaluation import (
    chance_level,
    compare_pipelines,
    evaluate,
    read_predictions,
    score_predictions,
    summarize_controls,
    summarize_results,
)
from braindecode_emossl.evaluation.folds import FoldResult
from braindecode_emossl.evaluation.store import FoldStore
from braindecode_emossl.paradigms import Emotion
from braindecode_emossl.report import save_scores, write_report

HOSTILE = "<script>alert('1')</script> $\\bad{$"
PIPELINES = {
    "LogReg": make_pipeline(Vectorizer(), LogisticRegression(max_iter=1000)),
    HOSTILE: make_pipeline(Vectorizer(), DummyClassifier()),
}


class Page(HTMLParser):
    """Tags, and the texts of the cells of tables."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.rows, self.open = [], [], []
        self.feed(text)
        self.text = text

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append([])
        self.open.append(tag)

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if {"td", "th"} & set(self.open) and data.strip():
            self.rows[-1][-1].append(data.strip())


def read_page(folder, output):
    write_report(folder, output)
    return Page(output.read_text(encoding="utf-8"))


def find_summary(page):
    """Return the rows of the summary by pipeline."""
    rows = [row for row in page.rows if len(row) == 8 and len(row[3]) == 2]
    return {row[1][0]: row for row in rows}


@pytest.fixture(scope="module")
def results(seed_root, tmp_path_factory):
    """Return the folder and the scores of an evaluation."""
    folder = tmp_path_factory.mktemp("results")
    scores = evaluate(
        PIPELINES,
        [SEED([1, 2, 10], sessions=[0], path=seed_root)],
        Emotion(window=1.0, features="de"),
        "leave-one-subject-out",
        random_state=3,
        results_dir=folder,
    )
    save_scores(
        scores,
        folder / "scores-x",
        {"command": "emossl evaluate 'SEED=<b>'", "settings": {"target": "emotion"}},
    )
    return folder, scores


@pytest.fixture(scope="module")
def page(results, tmp_path_factory):
    return read_page(results[0], tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture
def copied(results, tmp_path):
    """Return a copy of the results that a test may change."""
    shutil.copytree(results[0], tmp_path / "copy")
    return tmp_path / "copy"


def test_the_summary_is_that_of_evaluate(page, results):
    _, scores = results
    windows = summarize_results(scores, "accuracy").set_index("pipeline")
    trials = summarize_results(scores, "score_trial").set_index("pipeline")
    kappa = scores.groupby("pipeline")["kappa"].mean()
    rows = find_summary(page)
    assert set(rows) == set(PIPELINES)
    for name, row in rows.items():
        for cell, table in zip(row[3:5], (windows, trials), strict=True):
            of = table.loc[name]
            assert cell[0] == f"{of['mean']:.3f} ± {of['sd']:.3f}"
            assert cell[1] == f"{of['low']:.3f} to {of['high']:.3f}"
        assert row[7] == [f"{kappa[name]:.3f}"]


def test_comparisons_and_chance_are_those_of_the_statistics(page, results):
    folder, scores = results
    pair = compare_pipelines(scores, score="accuracy").iloc[0]
    sign = 1 if pair["pipeline_1"] < pair["pipeline_2"] else -1  # the page is sorted
    row = next(row for row in page.rows if row[2:3] == [["windows"]])
    assert row[4] == [f"{sign * pair['difference']:+.3f}"]
    low, high = sorted((sign * pair["ci_low"], sign * pair["ci_high"]))
    assert row[5] == [f"{low:+.3f} to {high:+.3f}"]
    assert row[7] == row[8] == [f"{pair['p_value']:.4f}"]
    predictions = read_predictions(folder)
    one = predictions[predictions["pipeline"] == "LogReg"]
    chance = chance_level(one["label"], one[["subject", "session", "trial"]])
    assert [
        ["SEED"],
        [str(chance.n_trials)],
        [f"{chance.most_frequent:.3f}"],
        [f"{chance.proportional:.3f}"],
        [f"{chance.threshold:.3f}"],
    ] in page.rows


def test_subjects_are_in_the_order_of_their_numbers(page, results):
    _, scores = results
    rows = [row for row in page.rows if row[0] == ["SEED"] and row[2] == ["0"]]
    assert [row[1] for row in rows] == [["1"], ["2"], ["10"]]
    of = scores.set_index(["pipeline", "subject"]).loc[("LogReg", "10")]
    assert [f"{of['accuracy']:.3f}", f"{of['score_trial']:.3f}"] in rows[2]


def test_it_says_what_was_run(page):
    text = " ".join(page.text.split())
    for name, value in {
        "target": "emotion",
        "window": "1.0 s",
        "features": "de",
        "corpora": "SEED (subjects 1, 2, 10; sessions 0)",
        "seed of the folds": "3",
        "classes": "negative, neutral, positive",
        "tested": "3 subjects, 3 recordings, 45 trials, 180 windows",
    }.items():
        assert f"<dt>{name}</dt><dd>{value}</dd>" in text
    assert "Synthetic signals: SEED was written" in text
    assert "With 3 subjects no difference" in text
    assert "emossl evaluate &#39;SEED=&lt;b&gt;&#39;" in text


def test_a_hostile_name_is_escaped(page):
    assert "script" not in [tag for tag, _ in page.tags]
    assert HOSTILE in {text for row in page.rows for cell in row for text in cell}


def test_the_page_needs_no_network(page):
    links = [a[k] for _, a in page.tags for k in ("src", "href") if k in a]
    images = [link for link in links if link.startswith("data:image/svg+xml;base64,")]
    assert len(images) == 1 + len(PIPELINES)  # one plot and the confusions
    assert all(link.startswith("#") for link in set(links) - set(images))
    for image in images:
        assert b"<svg" in base64.b64decode(image.partition(",")[2])
    assert not re.search(r"url\(|@import", page.text)


def test_the_same_results_give_the_same_page(results, tmp_path):
    pages = []
    for name in ("one", "two"):
        page = read_page(results[0], tmp_path / name)
        pages.append(re.sub(r"Written on [^ ]+ [^ ]+", "", page.text))
    assert pages[0] == pages[1]


def find_stores(folder):
    files = folder.glob("*/*/pipeline.json")
    return {json.loads(file.read_text())["name"]: file.parent for file in files}


def test_missing_folds_are_noted(copied, tmp_path):
    store = find_stores(copied)["LogReg"]
    next(store.glob("*_0001of*.parquet")).unlink()
    page = read_page(copied, tmp_path / "report.html")
    assert "some folds are missing of LogReg." in page.text
    assert "Not all pipelines were tested on the same recordings" in page.text


def test_one_pipeline_of_one_subject_makes_a_page(copied, tmp_path):
    stores = find_stores(copied)
    shutil.rmtree(stores[HOSTILE])
    for file in sorted(stores["LogReg"].glob("*.parquet"))[1:]:
        file.unlink()
    page = read_page(copied, tmp_path / "report.html")
    assert "A comparison needs two pipelines" in page.text
    assert not re.search(r"\bnan\b", page.text.lower())


@pytest.mark.parametrize("made", [False, True])
def test_a_folder_without_results_is_refused(tmp_path, made):
    if made:
        (tmp_path / "results" / "sub").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"no finished fold below .*results"):
        write_report(tmp_path / "results", tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("*/run.json", "{", "run.json is not JSON"),
        ("*/run.json", "[]", "no entry 'protocol' of type str"),
        ("*/run.json", '{"protocol": "x"}', "no entry 'corpora' of type dict"),
        ("*/*/pipeline.json", '{"name": 1}', "no entry 'name' of type str"),
        ("scores-x.json", "{}", "no entry 'command' of type str"),
        ("scores-x.json", "", "scores-x.json is empty"),
    ],
)
def test_a_damaged_file_is_named(copied, tmp_path, name, content, message):
    next(copied.glob(name)).write_text(content)
    with pytest.raises(ValueError, match=message):
        write_report(copied, tmp_path / "page.html")


def test_a_damaged_fold_is_unfinished(copied, tmp_path):
    next(find_stores(copied)["LogReg"].glob("*.parquet")).write_bytes(b"x")
    page = read_page(copied, tmp_path / "report.html")
    assert "some folds are missing of LogReg." in page.text


def test_a_full_disk_keeps_the_old_files(results, tmp_path, monkeypatch):
    """Report and tables were truncated, and the error did not name them."""
    folder, scores = results
    page, table = tmp_path / "report.html", tmp_path / "scores-x.csv"
    for file in (page, table):
        file.write_text("old")

    def fail(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", fail)
    monkeypatch.setattr(pd.DataFrame, "to_csv", fail)
    with pytest.raises(OSError, match=r"No space left.*report\.html"):
        write_report(folder, page)
    with pytest.raises(OSError, match=r"No space left.*scores-x\.csv"):
        save_scores(scores, tmp_path / "scores-x", {"command": "", "settings": {}})
    assert page.read_text() == table.read_text() == "old"
    assert {file.name for file in tmp_path.iterdir()} == {page.name, table.name}


# -- stored folds ----------------------------------------------------------------

CLASSES = ("neg", "neu", "pos")
RUN = {
    "version": "0",
    "protocol": "leave-one-subject-out",
    "options": {"adapt": None},
    "corpora": {"Toy": {"subjects": [1, 2, 3], "sessions": None, "synthetic": False}},
    "paradigm": {"target": "emotion", "window": 2.0, "stride": 2.0, "threshold": None},
}


def predict(subject, accuracy, rng):
    """Return the predictions of twelve trials of two windows."""
    truth = np.repeat(np.arange(12) % 3, 2)
    wrong = rng.random(24) > accuracy
    predicted = (truth + wrong * rng.integers(1, 3, size=24)) % 3
    proba = 0.1 + 0.7 * np.eye(3)[predicted]
    table = {
        "corpus": "Toy",
        "subject": subject,
        "session": "0",
        "trial": np.repeat(np.arange(12), 2),
        "label": np.array(CLASSES)[truth],
        "predicted": np.array(CLASSES)[predicted],
    }
    proba = {f"proba_{name}": proba[:, i] for i, name in enumerate(CLASSES)}
    return pd.DataFrame(table | proba)


def store_folds(
    folder, pipelines, *, seeds=(None,), numbers=(None,), run=RUN, diagnosis=None
):
    """Store the folds of pipelines, given the accuracy and target access of each."""
    diagnosis = diagnosis or {}
    rng = np.random.default_rng(0)
    store = FoldStore(folder, run, 3)
    for name, (accuracy, access) in pipelines.items():
        for seed in seeds:
            for number in numbers:
                identity = {"hash": name, "seed": seed, "n_labeled_trials": number}
                folds = store.open_pipeline(name, identity, {"repr": f"<{name}>"})
                less = 0 if number is None else 0.2 / number
                for index, subject in enumerate((1, 2, 3)):
                    table = predict(subject, accuracy - less, rng)
                    result = FoldResult(table, [], 1.0, 9, 4, access)
                    result.diagnosis = diagnosis.get(name)
                    folds.write("all", index, 3, result)
    return folder


def read_scores(folder):
    """Return the scores of stored folds by pipeline, seed, number and subject."""
    predictions = read_predictions(folder)
    by = ["pipeline", "seed", "n_labeled_trials", "subject"]
    return pd.DataFrame(
        [
            dict(zip(by, key, strict=True)) | score_predictions(rows)
            for key, rows in predictions.groupby(by, dropna=False)
        ]
    ).assign(dataset="Toy")


def test_seeds_are_averaged_first(tmp_path):
    folder = store_folds(tmp_path / "r", {"a": (0.8, "none")}, seeds=(0, 1, 2))
    page = read_page(folder, tmp_path / "report.html")
    (row,) = summarize_results(read_scores(folder), "accuracy").itertuples()
    (cells,) = [row for row in page.rows if len(row) == 8 and len(row[3]) == 3]
    assert cells[3] == [
        f"{row.mean:.3f} ± {row.sd:.3f}",
        f"{row.low:.3f} to {row.high:.3f}",
        f"± {row.sd_seeds:.3f} over seeds",
    ]
    assert "<dt>seeds</dt><dd>0, 1, 2</dd>" in page.text


def test_recall_area_and_calibration(tmp_path):
    folder = store_folds(tmp_path / "r", {"a": (0.7, "none")})
    page = read_page(folder, tmp_path / "report.html")
    means = read_scores(folder).mean(numeric_only=True)
    names = [*(f"recall_{name}" for name in CLASSES), "roc_auc", "ece", "brier"]
    expected = [["Toy"], ["a"], *([f"{means[name]:.3f}"] for name in names)]
    assert expected in page.rows
    heads = [["corpus"], ["pipeline"], *([f"recall, {name}"] for name in CLASSES)]
    assert [*heads, ["ROC-AUC"], ["calibration error"], ["Brier score"]] in page.rows


def test_numbers_of_labelled_trials_have_rows_and_curves(tmp_path):
    pipelines = {"a": (0.9, "none"), "b": (0.7, "none")}
    folder = store_folds(tmp_path / "r", pipelines, numbers=(1, 2, None))
    page = read_page(folder, tmp_path / "report.html")
    rows = [row for row in page.rows if len(row) == 9 and row[1] == ["a"]]
    assert [row[2] for row in rows if len(row[4]) == 2] == [["1"], ["2"], ["all"]]
    assert "Balanced accuracy by number of labelled trials" in page.text
    assert "trained with all labelled trials" in page.text
    pairs = [row for row in page.rows if row[3:4] == [["windows"]]]
    assert [row[2] for row in pairs] == [["1"], ["2"], ["all"]]
    images = [a for tag, a in page.tags if tag == "img"]
    assert len(images) == 2 + 2  # curves, scores by subject, a confusion matrix each


def test_target_access_is_never_ranked_together(tmp_path):
    """A pipeline that adapts to the test subject stood first in the table."""
    pipelines = {"a": (0.7, "none"), "b": (0.6, "none"), "c": (0.9, "unlabeled")}
    folder = store_folds(tmp_path / "r", pipelines)
    page = read_page(folder, tmp_path / "report.html")
    none, unlabeled = page.text.split("<h4>Target access: unlabeled</h4>")[:2]
    assert "<td>a</td>" in none and "<td>c</td>" not in none
    assert "<td>c</td>" in unlabeled
    assert "without labels, were used to train or adapt" in page.text
    assert "must not be ranked together" in " ".join(page.text.split())
    pairs = [row[1] for row in page.rows if row[2:3] == [["windows"]]]
    assert pairs == [["a \N{MINUS SIGN} b"]]


def test_features_that_identify_the_subject_are_noted(tmp_path):
    """The report did not show what pre-training had made of the features."""
    names = ("rank", "subject", "stimulus")
    columns = [f"{name}_{stage}" for name in names for stage in ("before", "after")]
    diagnosis = {
        "worse": dict(
            zip(columns, (6.1, 2.3, 0.88, 0.94, np.nan, np.nan), strict=True)
        ),
        "better": dict(zip(columns, (6.1, 8.2, 0.88, 0.9, 0.2, 0.3), strict=True)),
    }
    kinds = dict.fromkeys(("worse", "better", "linear"), (0.7, "none"))
    store_folds(tmp_path, kinds, diagnosis=diagnosis)
    page = read_page(tmp_path, tmp_path / "report.html")
    rows = {row[0][0]: row[1:] for row in page.rows if len(row) == 7 and row[0]}
    assert rows["worse"] == [["6.100"], ["2.300"], ["0.880"], ["0.940"], [], []]
    assert rows["better"][-2:] == [["0.200"], ["0.300"]] and "linear" not in rows
    says = "identify the subject better after pre-training (0.940) than before (0.880)"
    assert f"The features of worse {says}" in page.text
    assert page.text.count("identify the subject better") == 1


def test_pipelines_with_one_name_are_distinguished(tmp_path):
    """A pipeline that was changed has other folders, but the same name."""
    folder = store_folds(tmp_path / "r", {"a": (0.7, "none")}, seeds=(0, 1))
    store = FoldStore(folder, RUN, 3)
    for seed in (0, 1):
        identity = {"hash": "other", "seed": seed, "n_labeled_trials": None}
        folds = store.open_pipeline("a", identity, {"repr": "changed"})
        table = predict(1, 0.5, np.random.default_rng(seed))
        folds.write("all", 0, 1, FoldResult(table, [], 1.0, 9, 4, "none"))
    page = read_page(folder, tmp_path / "report.html")
    names = {row[1][0] for row in page.rows if len(row) == 8 and row[0] == ["Toy"]}
    assert len(names) == 2 and all(re.fullmatch(r"a \[\w{8}\]", n) for n in names)
    assert "same name but other settings" in page.text


def test_a_pipeline_in_another_folder_is_the_same(tmp_path):
    """Seeds of jobs with other folders for their memory were several pipelines."""
    folder = store_folds(tmp_path / "r", {"a": (0.7, "none")}, seeds=(0,))
    store = FoldStore(folder, RUN, 3)
    for seed in (1, 2):
        identity = {"hash": "other", "seed": seed, "n_labeled_trials": None}
        settings = {"repr": f"memory='/tmp/{seed}'", "hash": "f00"}
        folds = store.open_pipeline("b", identity, settings)
        table = predict(1, 0.5, np.random.default_rng(seed))
        folds.write("all", 0, 1, FoldResult(table, [], 1.0, 9, 4, "none"))
    page = read_page(folder, tmp_path / "report.html")
    names = {row[1][0] for row in page.rows if len(row) == 8 and row[0] == ["Toy"]}
    assert names == {"a", "b"}
    assert "same name but other settings" not in page.text


def test_run_settings_are_data(tmp_path):
    """They were parsed from a repr, which any other wording broke."""
    run = {
        **RUN,
        "options": {"n_splits": 3, "adapt": None},
        "corpora": {"Toy": {"subjects": [1], "sessions": [0, 1], "synthetic": True}},
        "unlabeled": {"Other": {"subjects": [4, 5], "synthetic": False}},
        "paradigm": {"target": "valence", "fmin": 4.0, "threshold": "median"},
    }
    folder = store_folds(tmp_path / "r", {"a": (0.7, "none")}, run=run)
    text = read_page(folder, tmp_path / "report.html").text
    for name, value in {
        "options": "n_splits = 3",
        "corpora": "Toy (subjects 1; sessions 0, 1)",
        "unlabelled corpora": "Other (subjects 4, 5)",
        "target": "valence",
        "fmin": "4.0 Hz",
        "threshold": "median",
    }.items():
        assert f"<dt>{name}</dt><dd>{value}</dd>" in text
    assert "Synthetic signals: Toy was" in text
    assert "labels also depend on the ratings of test trials" in text
    assert "<pre>&lt;a&gt;</pre>" in text


# -- the card --------------------------------------------------------------------

AXES = {
    "preprocessing",
    "features",
    "threshold",
    "label type",
    "split",
    "cross-validation",
    "baselines",
    "code and data",
}


def read_cards(folder, output):
    """Return the entries of ``card.json``, and ``card.md``."""
    _, text, data = write_report(folder, output / "report.html")
    return json.loads(data.read_text())["evaluations"], text.read_text()


@pytest.fixture(scope="module")
def card(results, tmp_path_factory):
    (card,), _ = read_cards(results[0], tmp_path_factory.mktemp("card"))
    return card


def test_the_card_states_the_settings(card):
    assert set(card["axes"]) == AXES
    for axis, lines in {
        "preprocessing": {
            "band of the release": "SEED: 0 to 75 Hz",
            "filter": "0.5 to 47 Hz",
            "sampling rate": "200 Hz",
            "channels": "EEG of the release",
            "part of each trial": "all",
            "scaling": "none",
        },
        "features": {
            "kind": "differential entropy",
            "windows": "1 s, one every 1 s",
            "bands outside the release": "SEED: none",
        },
        "threshold": {
            "threshold": "not applicable: the classes of the corpus",
            "majority baseline": "SEED: 0.333",
        },
        "label type": {
            "source": "SEED: stimulus",
            "agreement": "SEED: not applicable: a label of the stimulus",
        },
        "split": {
            "held out": "never shared: subject",
            "windows of a trial": "4",
        },
        "cross-validation": {
            "folds": "3",
            "seed of the folds": "3",
            "search of hyper-parameters": "none",
        },
        "baselines": {"permuted labels": "unknown", "controls": "none"},
        "code and data": {
            "subjects and sessions": "SEED (subjects 1, 2, 10; sessions 0)"
        },
    }.items():
        assert lines.items() <= card["axes"][axis].items()
    access = card["access to the test subject"]
    assert access["regime"] == "subject-disjoint"
    assert "LogReg: supervised on the training set" in access["mechanism"]
    assert (
        "a synthetic replica, https://doi.org/"
        in (card["axes"]["code and data"]["corpora"])
    )
    assert any("Synthetic signals" in note for note in card["notes"])


def test_the_figures_to_read_first(seed_root, tmp_path):
    scores = evaluate(
        {"LogReg": PIPELINES["LogReg"]},
        [SEED([1, 2, 10], sessions=[0], path=seed_root)],
        Emotion(window=1.0, features="de"),
        "leave-one-subject-out",
        random_state=3,
        results_dir=tmp_path,
        controls=[("permuted-labels", {"n_permutations": 3})],
    )
    (card,), text = read_cards(tmp_path, tmp_path)
    figures = card["first figures"]
    assert figures["majority baseline"] == {"SEED": 0.333}
    assert figures["protocol"].startswith("leave-one-subject-out: ")
    assert figures["target access"] == {"none": ["LogReg"]}
    (expected,) = summarize_controls(scores, "score_trial").to_dict("records")
    (found,) = figures["permuted labels"]
    assert found["permutations"] == 3
    assert found["permuted"] == round(expected["mean"], 3)
    assert found["true"] == round(expected["reference"], 3)
    assert found["p"] == round(expected["p_value"], 4)
    assert f"{found['permuted']:.3f} in the mean of 3 permutations" in text


def store_control(folder, name, of):
    """Store three permutations of the labels of a pipeline, under a name."""
    identity = {"hash": of, "seed": None, "n_labeled_trials": None}
    identity["control"] = {"name": "permuted-labels"}
    store = FoldStore(folder, RUN, 3)
    folds = store.open_pipeline(name, identity, {"repr": f"<{of}>"})
    for index in range(9):
        table = predict(1 + index // 3, 0.3, np.random.default_rng(index))
        part = str(index % 3)
        folds.write("all", index, 9, FoldResult(table, [], 1.0, 9, 4, part=part))


def test_a_control_without_a_result_makes_a_page(tmp_path):
    """There was no report, as the card had no number of it."""
    folder = store_folds(tmp_path / "r", {"a": (0.9, "none")})
    store_control(folder, "b", "b")
    (card,), _ = read_cards(folder, tmp_path)
    assert card["first figures"]["permuted labels"] == "unknown"


def test_a_control_of_a_renamed_pipeline_is_that_of_its_result(tmp_path):
    """Controls under the old name had no result to compare with."""
    folder = store_folds(tmp_path / "r", {"a": (0.9, "none")})
    store_control(folder, "old name", "a")
    (card,), _ = read_cards(folder, tmp_path)
    (row,) = card["first figures"]["permuted labels"]
    assert row["pipeline"] == "a" and row["true"] > 0.7


def test_dashed_line_is_that_of_windows(tmp_path, monkeypatch):
    """It was the share of the trials of a class, which may be longer ones."""
    store = FoldStore(tmp_path / "r", RUN, 3)
    identity = {"hash": "a", "seed": None, "n_labeled_trials": None}
    folds = store.open_pipeline("a", identity, {"repr": "a"})
    table = predict(1, 0.9, np.random.default_rng(0))
    table = pd.concat([table, *[table[:2]] * 8], ignore_index=True)
    folds.write("all", 0, 1, FoldResult(table, [], 1.0, 9, 4))
    drawn = {}
    monkeypatch.setattr(
        report_content, "plot_benchmark", lambda *_, chance, **__: drawn.update(chance)
    )
    write_report(tmp_path / "r", tmp_path / "report.html")
    assert drawn == {"Toy": pytest.approx((8 + 16) / (24 + 16))}


def test_what_nobody_recorded_is_unknown(tmp_path):
    """Nothing is guessed for a corpus of the user, or for folds of older versions."""
    folder = store_folds(tmp_path / "r", {"a": (0.7, "none"), "b": (0.7, "unlabeled")})
    (card,), text = read_cards(folder, tmp_path)
    unknown = {
        f"{axis}, {name}"
        for axis, lines in card["axes"].items()
        for name, value in lines.items()
        if "unknown" in value
    }
    assert unknown == {
        "preprocessing, band of the release",
        "preprocessing, filter",
        "preprocessing, sampling rate",
        "preprocessing, channels",
        "preprocessing, part of each trial",
        "preprocessing, baseline correction",
        "preprocessing, scaling",
        "features, kind",
        "features, bands",
        "features, bands outside the release",
        "label type, source",
        "label type, agreement",
        "cross-validation, search of hyper-parameters",
        "baselines, permuted labels",
        "code and data, corpora",
    }
    assert card["first figures"]["permuted labels"] == "unknown"
    assert card["first figures"]["target access"] == {"none": ["a"], "unlabeled": ["b"]}
    mechanism = card["access to the test subject"]["mechanism"]
    assert mechanism == "a: unknown; b: unknown"
    assert "- permuted labels: unknown" in text


@pytest.mark.parametrize(
    ("paradigm", "expected"),
    [
        ({"threshold": 4.5}, "DEAP: 4.5"),
        ({"threshold": None}, "DEAP: 5, the midpoint of the scale"),
        ({"threshold": "median"}, "DEAP: median of each subject's ratings"),
        ({"threshold": None, "n_classes": 3}, "DEAP: 3.5, 6.5"),
        ({"target": "emotion"}, "not applicable"),
    ],
)
def test_threshold_and_source_of_ratings(paradigm, expected, tmp_path):
    paradigm = {"target": "valence", "ties": "high", "margin": 0.5, **paradigm}
    corpora = {
        "DEAP": {
            "rating_midpoint": 5.0,
            "rating_cuts": [3.5, 6.5],
            "passband": [4.0, 45.0],
        }
    }
    run = {**RUN, "corpora": corpora, "paradigm": paradigm}
    folder = store_folds(tmp_path / "r", {"a": (0.7, "none")}, run=run)
    (card,), _ = read_cards(folder, tmp_path)
    lines = card["axes"]["threshold"]
    assert lines["threshold"].startswith(expected)
    if paradigm["target"] == "valence":
        assert (lines["ties"], lines["margin"]) == ("high", "0.5")
    assert card["axes"]["label type"]["source"] == "DEAP: self-report"


def test_agreement_of_self_report(tmp_path):
    """Two raters, A A B B and A B B B: 1 - (2 / 8) / (2 * 3 * 5 / (8 * 7))."""
    corpora = {"DEAP": {}}
    run = {**RUN, "corpora": corpora, "paradigm": {"target": "valence"}}
    folds = FoldStore(tmp_path / "r", run, 0).open_pipeline("a", {"hash": "a"}, "a")
    for index, labels in enumerate(("AABB", "ABBB")):
        table = pd.DataFrame({"label": [*labels], "predicted": "A"}).assign(
            corpus="DEAP",
            subject=index,
            session="0",
            trial=range(4),
            stimulus=[*"wxyz"],
            proba_A=1.0,
            proba_B=0.0,
        )
        folds.write("all", index, 2, FoldResult(table, [], 1.0, 9, 4, "none"))
    (card,), _ = read_cards(tmp_path / "r", tmp_path)
    alpha = 1 - (2 / 8) / (2 * 3 * 5 / (8 * 7))
    expected = f"DEAP: Krippendorff's alpha {alpha:.3f} (nominal, 2 recordings)"
    assert card["axes"]["label type"]["agreement"] == expected


def test_nothing_in_the_card_is_markup(results, tmp_path):
    _, text = read_cards(results[0], tmp_path)
    assert "script" in text
    assert not re.search(r"(?<!\\)<", text.partition("## Commands")[0])


def test_the_docs_explain_each_line(card):
    page = (Path(__file__).parents[1] / "docs" / "card.md").read_text()
    sections = dict(
        re.findall(r"^## (?:\d\. )?(.+)\n((?:.*\n)+?)(?=^## |\Z)", page, re.M)
    )
    sections = {title.lower(): text for title, text in sections.items()}
    access = "access to the test subject"
    for title, lines in {
        "read first": card["first figures"],
        **card["axes"],
        access: card[access],
    }.items():
        assert re.findall(r"^\| \*\*(.+?)\*\* ", sections[title], re.M) == [*lines]


def test_the_page_cannot_be_called_like_the_card(results, tmp_path):
    with pytest.raises(ValueError, match=r"must not be called card\.md"):
        write_report(results[0], tmp_path / "card.md")
    assert not any(tmp_path.iterdir())


def test_the_page_cannot_be_a_folder(results, tmp_path):
    with pytest.raises(ValueError, match=r"is a folder. Name a file in it"):
        write_report(results[0], tmp_path)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["card.md", "card.json"])
def test_files_of_others_that_are_called_like_the_card_stay(results, tmp_path, name):
    """They were replaced, although the user had named the page alone."""
    (tmp_path / name).write_text("[1]")
    with pytest.raises(FileExistsError, match=rf"{name} would be replaced by the card"):
        write_report(results[0], tmp_path / "seed.html")
    assert (tmp_path / name).read_text() == "[1]"
    assert [file.name for file in tmp_path.iterdir()] == [name]
    (tmp_path / name).unlink()
    for _ in "ab":  # those of an earlier report are replaced
        files = write_report(results[0], tmp_path / "seed.html")
        assert all(file.exists() for file in files)
