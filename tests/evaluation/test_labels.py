"""The description of labels, by closed forms on small tables of ratings."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from braindecode_emossl import cli
from braindecode_emossl.datasets import EmotionDataset
from braindecode_emossl.datasets.base import Trial
from braindecode_emossl.errors import CorpusNotFoundError
from braindecode_emossl.evaluation import describe_labels
from braindecode_emossl.paradigms import Emotion


class Rated(EmotionDataset):
    """A corpus of ratings (n_subjects, n_stimuli) of valence; NaN is not shown."""

    code_name = "Rated"
    path_key = "RATED"
    all_subject_numbers = (1, 2, 3, 4)
    n_sessions_per_subject = 1
    classes = {"low": 1, "high": 2}  # noqa: RUF012
    common_interval = (0, 1)
    doi_name = ""
    access_url = "https://example.org"
    expected_files = ("a", "b")
    ratings = ("valence", "familiarity")
    rating_midpoint = 5.0
    class_source = "self-report"
    stimulus_ratings = ("valence",)

    def __init__(self, table, of_stimuli=None, path="."):
        self.table = np.asarray(table, float)
        self.of_stimuli = of_stimuli
        super().__init__([*range(1, len(table) + 1)], path=path)

    def _find_recordings(self, root, subject):
        return {"0": root / str(subject)}

    def _read_recording(self, file, session):
        raise AssertionError("The signals must not be read.")

    def _read_trials(self, file, session):
        row = self.table[int(file.name) - 1]
        return {
            f"{k:02d}": [
                Trial(
                    trial=k,
                    stimulus=f"clip{k}",
                    emotion="high" if value > 5 else "low",
                    length=1.0,
                    ratings=dict(zip(self.ratings, (value, 1.0), strict=False)),
                )
            ]
            for k, value in enumerate(row)
            if not np.isnan(value)
        }

    def stimulus_table(self):
        if self.of_stimuli is None:
            raise CorpusNotFoundError("Rated: its list of stimuli is missing.")
        names = [f"clip{k}" for k in range(len(self.of_stimuli))]
        return pd.DataFrame({"valence": self.of_stimuli}, index=names)


TABLE = [[2.0, 5.0, 6.5, 9.0], [4.5, 4.0, 5.0, 7.0], [1.0, 5.5, 8.0, np.nan]]


def alpha_by_pairs(table, distance):
    """Krippendorff's alpha from its definition: 1 - observed / expected."""
    columns = [[v for v in column if not np.isnan(v)] for column in np.transpose(table)]
    columns = [column for column in columns if len(column) > 1]
    observed = sum(
        distance(a, b) / (len(column) - 1)
        for column in columns
        for a, b in itertools.permutations(column, 2)
    )
    values = [value for column in columns for value in column]
    expected = sum(distance(a, b) for a, b in itertools.permutations(values, 2))
    return 1 - observed / (expected / (len(values) - 1))


def test_majority_and_ratings_near_each_threshold():
    found = describe_labels(Emotion("valence", ties="high"), Rated(TABLE))
    rows = found.thresholds.set_index("threshold")
    assert rows.index.tolist() == [4.0, 4.5, 5.0, 5.5, 6.0]
    assert set(rows["rating"]) == {"valence"}  # familiarity is no target
    assert rows["n_high"].tolist() == [9, 8, 7, 5, 4]
    assert rows["n_low"].tolist() == [2, 3, 4, 6, 7]
    assert rows["majority"].tolist() == [9 / 11, 8 / 11, 7 / 11, 6 / 11, 7 / 11]
    assert rows.loc[5.0, "n_near"] == 5  # 4, 4.5, 5, 5 and 5.5
    assert rows.loc[5.0, "share_near"] == 5 / 11


@pytest.mark.parametrize(
    ("ties", "margin", "low", "high"),
    [("low", 0, 6, 5), ("high", 0, 4, 7), ("drop", 0, 4, 5), ("low", 0.5, 3, 4)],
)
def test_counts_follow_the_paradigm(ties, margin, low, high):
    paradigm = Emotion("valence", ties=ties, margin=margin)
    found = describe_labels(paradigm, Rated(TABLE), thresholds=[5])
    assert found.counts.sum().tolist() == [low, high, 11 - low - high]
    assert found.counts.loc[1].sum() == 4
    assert found.majority == max(low, high) / (low + high)
    (row,) = found.thresholds.to_dict("records")
    assert (row["n_low"], row["n_high"]) == (low, high)


def test_alpha_is_that_of_its_definition_at_both_levels():
    found = describe_labels(Emotion("valence"), Rated(TABLE)).agreement
    alpha = found.set_index(["rating", "level"])["alpha"]
    squares = alpha_by_pairs(TABLE, lambda a, b: (a - b) ** 2)
    assert alpha["valence", "interval"] == pytest.approx(squares)
    binary = np.where(np.isnan(TABLE), np.nan, np.greater(TABLE, 5))
    nominal = alpha_by_pairs(binary, lambda a, b: a != b)
    assert alpha["valence", "nominal"] == pytest.approx(nominal)
    assert alpha["emotion", "nominal"] == pytest.approx(nominal)
    assert found["n_raters"].tolist() == [3, 3, 3]
    assert found["n_stimuli"].tolist() == [4, 4, 4]


@pytest.mark.parametrize(
    ("table", "alpha"),
    [([[1, 9], [1, 9]], 1.0), ([[1, 9], [9, 1]], -0.5), ([[7, 7], [7, 7]], np.nan)],
)
def test_alpha_of_agreement_disagreement_and_constant_ratings(table, alpha):
    """Alpha of constant ratings is not defined; the package raised an error."""
    found = describe_labels(Emotion("valence"), Rated(table)).agreement
    np.testing.assert_allclose(found["alpha"], alpha)


def test_median_is_that_of_each_subject():
    table = [[1.0, 2.0, 3.0, 4.0], [6.0, 7.0, 8.0, 9.0]]
    paradigm = Emotion("valence", threshold="median")
    found = describe_labels(paradigm, Rated(table, [1, 1, 9, 9]))
    assert found.majority == 0.5
    nominal = found.agreement.query("rating == 'valence' and level == 'nominal'")
    assert nominal["alpha"].item() == 1.0


def test_label_of_the_stimulus_against_self_report():
    found = describe_labels(Emotion("valence"), Rated(TABLE, [2.0, 6.0, 7.0, 8.0]))
    (row,) = found.stimulus.to_dict("records")
    # The second clip is high; two of three subjects have it low. So has one the third.
    assert row == {
        "rating": "valence",
        "n_trials": 11,
        "n_differ": 3,
        "share_differ": 3 / 11,
    }
    assert not found.notes


def test_missing_ratings_of_stimuli_are_a_note():
    found = describe_labels(Emotion(), Rated(TABLE))
    assert found.stimulus.empty
    assert found.notes == ["Rated: its list of stimuli is missing."]
    assert "its list of stimuli" in str(found)


def test_corpus_without_ratings():
    class Classed(Rated):
        ratings = ()
        stimulus_ratings = ()
        class_source = "stimulus"
        rating_midpoint = None

    found = describe_labels(Emotion(), Classed(TABLE))
    assert found.thresholds.empty and found.agreement.empty
    assert found.notes == [
        "Rated has no ratings: its classes are those of the stimuli."
    ]
    assert found.counts.sum().tolist() == [6, 5, 0]


@pytest.mark.parametrize("near", [-1, np.nan])
def test_near_must_be_a_distance(near):
    with pytest.raises(ValueError, match="near must be a number of at least 0, but"):
        describe_labels(Emotion(), Rated(TABLE), near=near)


def test_command(monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(
        cli, "_find_corpus", lambda code: lambda subjects, path: Rated(TABLE, path=path)
    )

    def run(*options):
        return CliRunner().invoke(cli.app, ["labels", "Rated", str(tmp_path), *options])

    text = run("--target", "valence", "--ties", "high")
    assert text.exit_code == 0
    assert "Majority baseline of these labels: 0.636" in text.output
    assert "interval" in text.output and "nominal" in text.output
    found = json.loads(run("--target", "valence", "--threshold", "4", "--json").output)
    assert found["settings"]["threshold"] == 4.0
    assert found["counts"][0] == {
        "subject": 1,
        "negative": 1,
        "positive": 3,
        "unlabeled": 0,
    }
    failed = run("--ties", "high")
    assert failed.exit_code == 2
    assert "ties and margin apply to ratings" in failed.output
