"""Which recordings a model was pre-trained on, and whether they may be tested."""

from __future__ import annotations

import json
import numbers
import re
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from braindecode_emossl.errors import CheckpointError, LeakageError, LeakageWarning

__all__ = ["add_provenance", "check_leakage", "settle_provenance", "to_plain"]

# Subjects that a message names.
_MAX_NAMED = 10


def check_leakage(provenance, training=None, held_out=None) -> None:
    """Refuse a model that was pre-trained on recordings that will be tested.

    With ``held_out`` the check is exact. Without it, any subject of a training corpus
    that the model has seen and that is not in the training set is assumed to be tested;
    corpora without training windows are assumed not to be tested.

    Parameters
    ----------
    provenance : mapping or None
        Recordings that the model was pre-trained on, as
        :func:`~braindecode_emossl.pretraining.save_checkpoint` describes them. None:
        unknown.
    training : DataFrame or None
        Recordings or windows of the training set, with columns ``corpus`` and
        ``subject``. None: unknown.
    held_out : DataFrame or None
        Recordings that will be tested, with columns ``corpus``, ``subject`` and
        optionally ``session``. Sessions count where both sides name them. None:
        unknown.

    Raises
    ------
    LeakageError
        If the model has seen a recording that is, or may be, tested.
    ValueError
        If ``held_out`` lacks a column.

    Warns
    -----
    LeakageWarning
        If that is not known.

    Examples
    --------
    >>> seen = {"corpora": {"SEED": {"subjects": [1, 2]}}}
    >>> held_out = pd.DataFrame({"corpus": ["SEED"], "subject": [3]})
    >>> check_leakage(seen, held_out=held_out)
    """
    provenance = settle_provenance(provenance)
    if held_out is not None:
        doubts = _check_held_out(provenance, held_out)
    else:
        doubts = _check_training(provenance, training)
    if not provenance["complete"]:
        doubts.insert(0, "what it was pre-trained on is not fully known")
    if doubts:
        warnings.warn(
            f"The pre-trained model may have seen test data: {'; '.join(doubts)}.",
            LeakageWarning,
            stacklevel=2,
        )


def _check_held_out(provenance: dict[str, Any], held_out: pd.DataFrame) -> list[str]:
    """Raise if the model has seen a held-out recording."""
    missing = {"corpus", "subject"} - set(held_out)
    if missing:
        raise ValueError(
            "held_out must have the columns corpus and subject, but lacks "
            f"{' and '.join(sorted(missing))}; it has {list(held_out)}."
        )
    for corpus, entry in provenance["corpora"].items():
        part = held_out[held_out["corpus"].map(_simplify) == _simplify(corpus)]
        if entry.get("sessions") and "session" in part:
            seen = set(map(str, entry["sessions"]))
            is_seen = _as_text(part["session"]).isin(seen)
            part = part[part["session"].isna() | is_seen]
        tested = set(_as_text(part["subject"]))
        leaked = [who for who in entry["subjects"] if str(who) in tested]
        if leaked:
            raise LeakageError(
                f"The pre-trained model has seen {_name(leaked)} of {corpus}, which "
                f"will be tested. {_REMEDY}"
            )
    return []


def _check_training(provenance: dict[str, Any], training) -> list[str]:
    """Raise if a seen subject is outside the training set; return doubts."""
    known = training is not None and {"corpus", "subject"} <= set(training)
    doubts = []
    subjects: dict[str, set[str]] = {}
    if known:
        rows = training[["corpus", "subject"]].dropna().drop_duplicates()
        for corpus, part in rows.groupby("corpus", observed=True):
            subjects[_simplify(str(corpus))] = set(_as_text(part["subject"]))
    for corpus, entry in provenance["corpora"].items():
        seen = f"it has seen {_name(entry['subjects'])} of {corpus}"
        if not known:
            doubts.append(f"{seen}, but corpus and subject of the windows are unknown")
            continue
        trains = subjects.get(_simplify(corpus))
        if trains is None:
            continue
        leaked = [who for who in entry["subjects"] if str(who) not in trains]
        if leaked:
            raise LeakageError(
                f"The pre-trained model has seen {_name(leaked)} of {corpus}, which "
                f"are not in the training set and so may be tested. {_REMEDY}"
            )
        # A single training subject is most likely tested too, as within subjects.
        if [len(names) for names in subjects.values()] == [1] and entry["subjects"]:
            doubts.append(
                f"{seen}, including its held-out trials, and the training set has no "
                "other subject"
            )
    return doubts


_REMEDY = (
    "Pre-train on training subjects alone, as SSLClassifier does within each fold "
    "without pretrained, or use a model that was trained on other corpora."
)


def settle_provenance(provenance, before=None) -> dict[str, Any]:
    """Return a provenance in full form, joined with that of the first weights."""
    given = _check_form(provenance)
    if before is None:
        return given
    before = _check_form(before)
    corpora = dict(before["corpora"])
    for name, entry in given["corpora"].items():
        corpora[name] = _join(corpora[name], entry) if name in corpora else entry
    complete = before["complete"] and given["complete"]
    return {**before, **given, "corpora": corpora, "complete": complete}


def add_provenance(model, seen) -> None:
    """Add recordings, if they are known, to those that a model has seen."""
    # What is not known, the caller of save_checkpoint may say.
    if seen is not None:
        before = getattr(model, "provenance", None)
        model.provenance = settle_provenance(seen, before)


def name_recording(value) -> int | str:
    """Return a subject or session as a whole number or text, also of a float column."""
    if isinstance(value, numbers.Real) and float(value).is_integer():
        return int(float(value))
    return str(value)


def _as_text(names: pd.Series) -> pd.Series:
    """Return subjects or sessions as the text by which they are compared."""
    return names.map(name_recording).map(str)


def to_plain(value):
    """Return numbers and arrays of NumPy as JSON has them, for ``json.dumps``."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


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
        joined.pop("sessions", None)  # unknown means possibly all
    else:
        joined["sessions"] = list(dict.fromkeys(one["sessions"] + other["sessions"]))
    return joined


def _name(subjects: list) -> str:
    names = ", ".join(map(str, subjects[:_MAX_NAMED]))
    more = len(subjects) - _MAX_NAMED
    which = "subject" if len(subjects) == 1 else "subjects"
    return f"{which} {names}" + (f" and {more} more" if more > 0 else "")


def _simplify(corpus: str) -> str:
    """Return a code without case and punctuation, so that SEED_IV is SEED-IV."""
    return re.sub(r"[^a-z0-9]", "", corpus.lower())
