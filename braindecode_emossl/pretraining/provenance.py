"""What a model was pre-trained on, and whether that may be tested."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from braindecode_emossl.errors import CheckpointError, LeakageError, LeakageWarning

__all__ = ["check_leakage", "settle_provenance", "to_plain"]

# Subjects that a message names.
_MAX_NAMED = 10


def check_leakage(provenance, corpus, subjects) -> None:
    """Refuse a model that has seen subjects who are not in the training part.

    Such a subject may be in the test part, which the caller of a classifier's ``fit``
    does not tell. Sessions are not looked at.

    Parameters
    ----------
    provenance : mapping or None
        What the model was pre-trained on, as
        :func:`~braindecode_emossl.pretraining.save_checkpoint` describes it. None: not
        known.
    corpus : str, sequence of str, mapping or None
        Code of the corpus, or of all corpora, that train and test; or, by code, the
        subjects that do, where others take no part. May be None where ``subjects`` name
        it and no other corpus tests.
    subjects : array-like or None
        Subjects that train, as the corpus counts them, or with the corpus in front, as
        in "SEED subject 1". None: not known.

    Raises
    ------
    LeakageError
        If the model has seen a subject of these corpora that does not train.

    Warns
    -----
    LeakageWarning
        If that cannot be told.
    """
    provenance = settle_provenance(provenance)
    named = [corpus] if isinstance(corpus, str) else list(corpus or [])
    named = {_simplify(name) for name in named}
    taking_part = _list_subjects(corpus)
    training = _by_corpus(subjects, named)
    told = bool(training) and None not in training
    doubts = []
    if not provenance["complete"]:
        doubts.append("what it was pre-trained on is not fully known")
    for name, entry in provenance["corpora"].items():
        key = _simplify(name)
        seen = f"it has seen {_name(entry['subjects'])} of {name}"
        if named and key not in named and key not in training:
            continue  # it takes no part
        if not told or (not named and key not in training):
            doubts.append(f"{seen}, but which corpora and subjects train was not told")
            continue
        trains = training.get(key, ())
        leaked = [
            subject
            for subject, number in ((s, _split(s)[1]) for s in entry["subjects"])
            if number not in trains and number in taking_part.get(key, (number,))
        ]
        if leaked:
            raise LeakageError(
                f"The pre-trained model has seen {_name(leaked)} of {name}, which do "
                "not train and so may be tested. Pre-train on training subjects alone, "
                "as SSLClassifier does within each fold if it is given no checkpoint, "
                "or take a model that has seen other corpora."
            )
        # Where but one subject trains, it is most likely the one that tests, too.
        known = any(_split(s)[1] in trains for s in entry["subjects"])
        if known and [len(names) for names in training.values()] == [1]:
            doubts.append(f"{seen}, held-out trials too, and no other subject trains")
    if doubts:
        warnings.warn(
            f"The pre-trained model may have seen test data: {'; '.join(doubts)}.",
            LeakageWarning,
            stacklevel=2,
        )


def settle_provenance(provenance, before=None) -> dict[str, Any]:
    """Return a provenance in its full form, of values that JSON has.

    Parameters
    ----------
    provenance : mapping or None
        As the user wrote it. None: not known.
    before : mapping or None
        Provenance of the weights that the training started from; None for random
        weights.

    Returns
    -------
    dict
        With "corpora", those of ``before`` too, and "complete": whether these are all.

    Raises
    ------
    CheckpointError
        If it is not of the form that is asked for.
    """
    given = _check_form(provenance)
    if before is None:
        return given
    before = _check_form(before)
    corpora = dict(before["corpora"])
    for name, entry in given["corpora"].items():
        corpora[name] = _join(corpora[name], entry) if name in corpora else entry
    complete = before["complete"] and given["complete"]
    return {**before, **given, "corpora": corpora, "complete": complete}


def to_plain(value):
    """Return numbers and arrays of NumPy as JSON has them, for :func:`json.dumps`.

    Parameters
    ----------
    value : object
        What JSON has not.

    Returns
    -------
    object
        What it has.
    """
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no type of JSON")


def _check_form(provenance) -> dict[str, Any]:
    if provenance is None:
        return {"corpora": {}, "complete": False}
    try:
        plain = json.loads(json.dumps(provenance, default=to_plain))
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"provenance must hold what JSON can hold, but {error}."
        ) from error
    corpora = plain.get("corpora", {}) if isinstance(plain, dict) else None
    if not isinstance(corpora, dict) or not all(map(_is_entry, corpora.values())):
        raise CheckpointError(
            'provenance must be such as {"corpora": {"SEED": {"subjects": [1, 2], '
            f'"sessions": ["0"]}}}}}}, but got {provenance!r:.200}.'
        )
    complete = "corpora" in plain and plain.get("complete", True) is True
    return {**plain, "corpora": corpora, "complete": complete}


def _is_entry(entry) -> bool:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("subjects"), list):
        return False
    sessions = entry.get("sessions") or []
    if not isinstance(sessions, list):
        return False
    return all(isinstance(name, int | str) for name in entry["subjects"] + sessions)


def _join(one: dict, other: dict) -> dict:
    """Return all subjects and sessions of two entries of a corpus."""
    joined = {**one, **other}
    joined["subjects"] = list(dict.fromkeys(one["subjects"] + other["subjects"]))
    if not (one.get("sessions") and other.get("sessions")):
        joined.pop("sessions", None)  # all, as far as is known
    else:
        joined["sessions"] = list(dict.fromkeys(one["sessions"] + other["sessions"]))
    return joined


def _list_subjects(corpus) -> dict[str, set[str]]:
    """Return who takes part, by corpus, as far as it is told."""
    if not isinstance(corpus, Mapping):
        return {}
    return {_simplify(name): set(map(str, who)) for name, who in corpus.items()}


def _by_corpus(subjects, named: set[str]) -> dict[str | None, set[str]]:
    """Return the subjects of each corpus, of None where the corpus is not known."""
    by_corpus: dict[str | None, set[str]] = {}
    only = next(iter(named)) if len(named) == 1 else None
    for subject in set([] if subjects is None else subjects):
        corpus, name = _split(subject)
        by_corpus.setdefault(corpus or only, set()).add(name)
    return by_corpus


def _split(subject) -> tuple[str | None, str]:
    """Return corpus and number of a subject such as 1 or "SEED subject 1"."""
    parts = re.fullmatch("(.+) subject (.+)", str(subject))
    return (_simplify(parts[1]), parts[2]) if parts else (None, str(subject))


def _name(subjects: list) -> str:
    names = ", ".join(map(str, subjects[:_MAX_NAMED]))
    more = len(subjects) - _MAX_NAMED
    which = "subject" if len(subjects) == 1 else "subjects"
    return f"{which} {names}" + (f" and {more} more" if more > 0 else "")


def _simplify(corpus: str) -> str:
    """Return a code without what is easily written otherwise, as in SEED_IV."""
    return re.sub(r"[^a-z0-9]", "", corpus.lower())
