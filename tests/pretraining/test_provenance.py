"""Leakage from pre-training: what is refused, what is doubted, what passes."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from braindecode_emossl.errors import CheckpointError, LeakageError, LeakageWarning
from braindecode_emossl.pretraining import check_leakage


def make_provenance(**corpora):
    """Return a provenance of subjects by corpus."""
    return {"corpora": {name: {"subjects": list(s)} for name, s in corpora.items()}}


@pytest.mark.parametrize(
    ("corpus", "subjects"),
    [
        ("SEED", [1, 2, 3]),
        ("SEED", np.array([3, 2, 1, 1])),
        ("SEED", pd.Series(["1", "2", "3"])),
        ("SEED", ["SEED subject 1", "SEED subject 2"]),
        (None, ["SEED subject 1", "SEED subject 2", "DEAP subject 9"]),
        (["DEAP", "SEED"], ["SEED subject 1", "SEED subject 2"]),
        # Of a corpus that the model has not seen.
        ("DEAP", [1]),
        ("DEAP", None),
        ("SEED-IV", [3]),
        (["DEAP", "SEED-IV"], ["SEED-IV subject 3"]),
    ],
)
def test_what_is_no_leak_passes_without_a_word(corpus, subjects):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_leakage(make_provenance(SEED=[1, 2]), corpus, subjects)


@pytest.mark.parametrize(
    ("corpus", "subjects", "leaked"),
    [
        ("SEED", [1, 3], "2"),
        ("SEED", [3, 4], "1, 2"),
        ("SEED", np.array(["3", "4"]), "1, 2"),
        ("seed", [3], "1, 2"),
        ("SEED", ["SEED subject 1", "SEED subject 3"], "2"),
        (None, ["SEED subject 1", "DEAP subject 2"], "2"),
        # SEED only tests: none of its subjects may have been seen.
        (["DEAP", "SEED"], ["DEAP subject 1", "DEAP subject 2"], "1, 2"),
        ("SEED", ["DEAP subject 1", "DEAP subject 2"], "1, 2"),
        # Subject 2 of another corpus is someone else.
        (["DEAP", "SEED"], ["DEAP subject 2", "SEED subject 1"], "2"),
    ],
)
def test_a_subject_seen_that_does_not_train_is_refused(corpus, subjects, leaked):
    message = f"has seen subjects? {leaked} of SEED, which do not train.*SSLClassifier"
    with pytest.raises(LeakageError, match=message):
        check_leakage(make_provenance(SEED=[1, 2]), corpus, subjects)


def test_subjects_may_be_named_with_their_corpus_on_either_side():
    provenance = make_provenance(SEED=["SEED subject 1", "SEED subject 2"])
    check_leakage(provenance, "SEED", [1, 2])
    with pytest.raises(LeakageError, match="has seen subject SEED subject 2 of SEED"):
        check_leakage(provenance, "SEED", [1, 3])


@pytest.mark.parametrize("corpus", ["SEED-IV", "SEED_IV", "seediv"])
def test_a_corpus_is_known_by_the_name_of_its_class_too(corpus):
    """Else a hyphen for an underscore would let every leak pass."""
    with pytest.raises(LeakageError, match="subject 1 of SEED-IV"):
        check_leakage(make_provenance(**{"SEED-IV": [1]}), corpus, [2, 3])


def test_names_of_many_subjects_are_cut_short():
    with pytest.raises(LeakageError, match=r"subjects 1, .*, 10 and 5 more of SEED"):
        check_leakage(make_provenance(SEED=range(1, 16)), "SEED", [20])


@pytest.mark.parametrize(
    ("provenance", "corpus", "subjects", "message"),
    [
        (None, "SEED", [1, 2], "not fully known"),
        ({}, "SEED", [1, 2], "not fully known"),
        ({"corpora": {}, "complete": False}, "SEED", [1, 2], "not fully known"),
        (make_provenance(SEED=[1]), "SEED", None, "1 of SEED, but which corpora and s"),
        (make_provenance(SEED=[1]), None, [1, 2], "1 of SEED, but which corpora and s"),
        (make_provenance(SEED=[1]), ["SEED", "DEAP"], [1, 2], "but which corpora and"),
        (make_provenance(SEED=[1]), None, ["DEAP subject 1"] * 2, "but which corpora"),
        (
            make_provenance(SEED=[1]),
            "SEED",
            [1, 1],
            "held-out trials too, and no other",
        ),
    ],
)
def test_what_cannot_be_told_is_warned_of(provenance, corpus, subjects, message):
    with pytest.warns(LeakageWarning, match=message):
        check_leakage(provenance, corpus, subjects)


def test_a_model_that_has_seen_nothing_passes():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_leakage({"corpora": {}}, None, None)


def test_a_leak_is_refused_even_if_more_is_unknown():
    provenance = {**make_provenance(SEED=[1, 2]), "complete": False}
    with pytest.raises(LeakageError, match="subject 2 of SEED"):
        check_leakage(provenance, "SEED", [1])


def test_a_provenance_of_another_form_is_refused():
    with pytest.raises(CheckpointError, match="provenance must be such as"):
        check_leakage({"corpora": {"SEED": [1, 2]}}, "SEED", [1])
