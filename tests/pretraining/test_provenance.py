"""Leakage from pre-training: what is refused, what warns and what passes."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from braindecode_emossl.errors import CheckpointError, LeakageError, LeakageWarning
from braindecode_emossl.pretraining import check_leakage
from braindecode_emossl.pretraining.provenance import settle_provenance


def make_provenance(sessions=None, **corpora):
    """Return a provenance of subjects by corpus."""
    more = {} if sessions is None else {"sessions": sessions}
    return {"corpora": {k: {"subjects": list(v), **more} for k, v in corpora.items()}}


def make_rows(corpus, subjects, **columns):
    """Return a table of recordings of one corpus."""
    return pd.DataFrame({"corpus": corpus, "subject": subjects, **columns})


SEED_3 = make_rows("SEED", [3])


@pytest.mark.parametrize(
    "training",
    [
        make_rows("SEED", [1, 2, 3]),
        make_rows("SEED", np.array([3, 2, 1, 1])),
        make_rows("SEED", pd.Series(["1", "2", "3"])),
        make_rows("SEED", [1, 2, 3], session="0", stimulus="a"),
        pd.concat([make_rows("SEED", [1, 2]), make_rows("DEAP", [9])]),
        pd.concat([make_rows("SEED", [1, 2]), pd.DataFrame({"subject": ["X"]})]),
        make_rows("DEAP", [1]),  # the model has not seen this corpus
        make_rows("SEED-IV", [3]),
    ],
)
def test_seen_subjects_in_the_training_set_pass_silently(training):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_leakage(make_provenance(SEED=[1, 2]), training)


@pytest.mark.parametrize(
    ("training", "leaked"),
    [
        (make_rows("SEED", [1, 3]), "subject 2"),
        (make_rows("SEED", [3, 4]), "subjects 1, 2"),
        (make_rows("SEED", np.array(["3", "4"])), "subjects 1, 2"),
        (make_rows("seed", [3]), "subjects 1, 2"),
        # Subject 2 of another corpus is another person.
        (pd.concat([make_rows("DEAP", [2]), make_rows("SEED", [1])]), "subject 2"),
    ],
)
def test_a_seen_subject_outside_the_training_set_is_refused(training, leaked):
    message = f"has seen {leaked} of SEED, which are not in the training set"
    with pytest.raises(LeakageError, match=message):
        check_leakage(make_provenance(SEED=[1, 2]), training)


@pytest.mark.parametrize("corpus", ["SEED-IV", "SEED_IV", "seediv"])
def test_a_corpus_is_recognized_by_the_name_of_its_class(corpus):
    """A hyphen in place of an underscore let every leak pass."""
    provenance = make_provenance(**{"SEED-IV": [1]})
    with pytest.raises(LeakageError, match="subject 1 of SEED-IV"):
        check_leakage(provenance, make_rows(corpus, [2, 3]))
    with pytest.raises(LeakageError, match="subject 1 of SEED-IV, which will be test"):
        check_leakage(provenance, held_out=make_rows(corpus, [1]))


def test_names_of_many_subjects_are_shortened():
    with pytest.raises(LeakageError, match=r"subjects 1, .*, 10 and 5 more of SEED"):
        check_leakage(make_provenance(SEED=range(1, 16)), make_rows("SEED", [20]))


@pytest.mark.parametrize(
    ("provenance", "training", "message"),
    [
        (None, make_rows("SEED", [1, 2]), "not fully known"),
        ({}, make_rows("SEED", [1, 2]), "not fully known"),
        ({"corpora": {}, "complete": False}, make_rows("SEED", [1]), "not fully known"),
        (make_provenance(SEED=[1]), None, "1 of SEED, but corpus and subject"),
        (
            make_provenance(SEED=[1]),
            pd.DataFrame({"subject": [1, 2]}),
            "1 of SEED, but corpus and subject",
        ),
        (
            make_provenance(SEED=[1]),
            make_rows("SEED", [1, 1]),
            "its held-out trials, and the training set has no other subject",
        ),
    ],
)
def test_an_unknown_overlap_is_warned_of(provenance, training, message):
    with pytest.warns(LeakageWarning, match=message):
        check_leakage(provenance, training)


def test_a_model_that_has_seen_nothing_passes():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_leakage({"corpora": {}})
        check_leakage({"corpora": {}}, held_out=SEED_3)


def test_a_leak_is_refused_even_if_more_is_unknown():
    provenance = {**make_provenance(SEED=[1, 2]), "complete": False}
    with pytest.raises(LeakageError, match="subject 2 of SEED"):
        check_leakage(provenance, make_rows("SEED", [1]))


# With held_out


@pytest.mark.parametrize(
    "held_out",
    [
        SEED_3,
        make_rows("DEAP", [1, 2]),
        make_rows("SEED", [1, 2], session="1"),  # the model has seen session 0
        make_rows("SEED", np.array([], int)),
    ],
)
@pytest.mark.parametrize("training", [None, make_rows("SEED", [9])])
def test_the_check_is_exact_with_held_out(held_out, training):
    """Subjects 1 and 2 do not train here, and without held_out they were refused."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_leakage(make_provenance(["0"], SEED=[1, 2]), training, held_out)


@pytest.mark.parametrize(
    ("held_out", "sessions"),
    [
        (make_rows("SEED", [2, 3]), ["0"]),
        (make_rows("SEED", ["2"], session="0"), ["0"]),
        (make_rows("SEED", [2], session=0), ["0", "1"]),
        (make_rows("SEED", [2], session="7"), None),  # of all sessions, possibly
        (make_rows("SEED", [2], session=None), ["0"]),
    ],
)
def test_a_held_out_recording_that_was_seen_is_refused(held_out, sessions):
    """Even if the subject is in the training set, as across sessions."""
    training = make_rows("SEED", [1, 2, 3])
    with pytest.raises(LeakageError, match="seen subject 2 of SEED, which will be te"):
        check_leakage(make_provenance(sessions, SEED=[1, 2]), training, held_out)


def test_an_unknown_provenance_is_warned_of_with_held_out_too():
    with pytest.warns(LeakageWarning, match="not fully known"):
        check_leakage(None, held_out=SEED_3)


def test_held_out_must_name_corpus_and_subject():
    with pytest.raises(ValueError, match=r"lacks corpus; it has \['subject'\]"):
        check_leakage(make_provenance(SEED=[1]), held_out=SEED_3[["subject"]])


# Its form


def test_a_provenance_of_another_form_is_refused():
    with pytest.raises(CheckpointError, match="provenance must be such as"):
        check_leakage({"corpora": {"SEED": [1, 2]}}, make_rows("SEED", [1]))


def test_further_training_adds_corpora_and_forgets_unknown_sessions():
    before = make_provenance(["0"], SEED=[1], DEAP=[4])
    after = settle_provenance(make_provenance(SEED=[2]), before)
    assert after["corpora"] == {
        "SEED": {"subjects": [1, 2]},
        "DEAP": {"subjects": [4], "sessions": ["0"]},
    }


@pytest.mark.parametrize("subject", [1, 1.0, "1", np.float32(1)])
def test_numbers_of_a_float_column_are_those_of_subjects(subject):
    """A column with a gap holds 1.0, which was not subject 1: no leak was found."""
    seen = {"corpora": {"SEED": {"subjects": [1], "sessions": ["0"]}}}
    held_out = pd.DataFrame({"corpus": "SEED", "subject": [subject], "session": [0.0]})
    with pytest.raises(LeakageError, match="subject 1 of SEED"):
        check_leakage(seen, held_out=held_out)
    check_leakage(seen, held_out=held_out.assign(session=1.0))
    check_leakage(seen, pd.DataFrame({"corpus": "SEED", "subject": [subject, 2]}))
