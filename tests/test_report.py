"""The page of results."""

from __future__ import annotations

import base64
import json
import re
import shutil
from html.parser import HTMLParser

import pandas as pd
import pytest
from mne.decoding import Vectorizer
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from braindecode_emossl.datasets import SEED
from braindecode_emossl.evaluation import (
    chance_level,
    compare_pipelines,
    evaluate,
    read_predictions,
    summarize_results,
)
from braindecode_emossl.paradigms import Emotion
from braindecode_emossl.report import save_scores, write_report

HOSTILE = "<script>alert('1')</script> $\\bad{$"
PIPELINES = {
    "LogReg": make_pipeline(Vectorizer(), LogisticRegression(max_iter=1000)),
    HOSTILE: make_pipeline(Vectorizer(), DummyClassifier()),
}


class Page(HTMLParser):
    """Tags, and the texts of table cells."""

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
    """Rows of the summary by pipeline; their third cell is the number of subjects."""
    rows = [row for row in page.rows if len(row) == 8 and row[2][0].isdigit()]
    return {row[1][0]: row for row in rows}


@pytest.fixture(scope="module")
def results(seed_root, tmp_path_factory):
    """Folder of results and table of scores."""
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
    """A copy of the results that a test may change."""
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
    assert row[6] == row[7] == [f"{pair['p_value']:.4f}"]
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
        "seed": "3",
        "classes": "negative, neutral, positive",
        "tested": "3 subjects, 3 recordings, 45 trials, 180 windows",
    }.items():
        assert f"<dt>{name}</dt><dd>{value}</dd>" in text
    assert "is a replica of SEED" in text and "With 3 subjects no difference" in text
    assert "emossl evaluate &#39;SEED=&lt;b&gt;&#39;" in text


def test_a_hostile_name_is_but_text(page):
    assert "script" not in [tag for tag, _ in page.tags]
    assert HOSTILE in {text for row in page.rows for cell in row for text in cell}


def test_the_page_holds_all_that_it_shows(page):
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
        pages.append(re.sub(r"Made on [^ ]+ [^ ]+", "", page.text))
    assert pages[0] == pages[1]


def find_stores(folder):
    files = folder.glob("*/*/pipeline.json")
    return {json.loads(file.read_text())["name"]: file.parent for file in files}


def test_missing_folds_are_told(copied, tmp_path):
    store = find_stores(copied)["LogReg"]
    next(store.glob("*_0001of*.parquet")).unlink()
    page = read_page(copied, tmp_path / "report.html")
    assert "some folds are missing of LogReg." in page.text
    assert "Not all pipelines were tested on the same recordings" in page.text


def test_pipelines_of_one_name_are_told_apart(copied, tmp_path):
    """A pipeline that was changed has a folder of its own, but the same name."""
    store = find_stores(copied)["LogReg"]
    shutil.copytree(store, store.with_name("0123456789abcdef"))
    page = read_page(copied, tmp_path / "report.html")
    names = set(find_summary(page))
    assert names == {"LogReg [01234567]", f"LogReg [{store.name[:8]}]", HOSTILE}


def test_one_pipeline_of_one_subject_makes_a_page(copied, tmp_path):
    stores = find_stores(copied)
    shutil.rmtree(stores[HOSTILE])
    for file in sorted(stores["LogReg"].glob("*.parquet"))[1:]:
        file.unlink()
    page = read_page(copied, tmp_path / "report.html")
    assert "It takes two pipelines" in page.text and "nan" not in page.text.lower()


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
        ("*/run.json", "[]", "no 'protocol' of type str"),
        ("*/run.json", '{"protocol": "x"}', "no 'corpora' of type list"),
        ("*/*/pipeline.json", '{"name": 1}', "no 'name' of type str"),
        ("*/*/all_0000*.parquet", "x", "is no finished fold.*evaluate again"),
        ("scores-x.json", "{}", "no 'command' of type str"),
    ],
)
def test_a_foreign_file_is_named(copied, tmp_path, name, content, message):
    next(copied.glob(name)).write_text(content)
    with pytest.raises(ValueError, match=message):
        write_report(copied, tmp_path / "page.html")


def test_a_fold_without_a_column_is_named(copied, tmp_path):
    file = next(copied.glob("*/*/all_0000*.parquet"))
    table = pd.read_parquet(file)
    smaller = table.drop(columns="label")
    smaller.attrs = table.attrs
    smaller.to_parquet(file)
    with pytest.raises(ValueError, match=r"all_0000.*lacks \['label'\]"):
        write_report(copied, tmp_path / "page.html")
