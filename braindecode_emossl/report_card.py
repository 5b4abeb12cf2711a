"""The reporting card: the choices on which the numbers of an evaluation depend."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import krippendorff
import numpy as np
import pandas as pd

from braindecode_emossl.evaluation.protocols import PROTOCOLS
from braindecode_emossl.evaluation.store import StoredEvaluation
from braindecode_emossl.paradigms.passbands import describe_cut_bands, list_bands
from braindecode_emossl.registration import DATASETS
from braindecode_emossl.report_content import to_text
from braindecode_emossl.storage import hash_object

if TYPE_CHECKING:
    from braindecode_emossl.datasets.base import EmotionDataset

__all__ = ["UNKNOWN", "describe_card", "render_card"]

#: Value of a line without data.
UNKNOWN = "unknown"
_TRIAL = ["corpus", "subject", "session", "trial"]
_RATER = ["corpus", "subject", "session"]
_PERMUTED = "permuted-labels"
_ACCESS = "access to the test subject"
_FEATURES = {"de": "differential entropy", "psd": "band power"}


def describe_card(evaluation: StoredEvaluation, content: dict[str, Any]) -> dict:
    """Return the card of an evaluation, given what the page shows of it.

    Lines are texts; the figures to read first are numbers where there are any.
    """
    run = evaluation.run
    trials = _list_trials(evaluation)
    figures = {
        "majority baseline": {
            row["dataset"]: float(row["most_frequent"]) for row in content["chances"]
        },
        "permuted labels": _list_permuted(content) or UNKNOWN,
        "protocol": content["settings"]["protocol"],
        "target access": _group_by_access(content),
    }
    axes = {
        "preprocessing": _describe_preprocessing(run),
        "features": _describe_features(run),
        "threshold": _describe_threshold(run, content),
        "label type": _describe_labels(run, trials),
        "split": _describe_split(run, trials),
        "cross-validation": _describe_folds(evaluation, content),
        "baselines": _describe_baselines(evaluation, content),
        "code and data": _describe_sources(run, content),
    }
    return {
        "evaluation": evaluation.folder.name,
        "title": content["title"],
        "notes": content["notes"],
        "first figures": figures,
        "axes": {axis: _fill(lines) for axis, lines in axes.items()},
        _ACCESS: _fill(
            {
                "regime": content["settings"].get("regime"),
                "mechanism": _describe_mechanisms(evaluation, content),
                "target access": _join(figures["target access"]),
            }
        ),
    }


def render_card(card: dict[str, Any]) -> str:
    """Return the cards of all evaluations as Markdown."""
    parts = [
        f"# Reporting card of {_escape(card['folder'])}",
        f"Written on {card['made']} by braindecode-emossl {card['version']}. The page "
        '"Reporting card" of its documentation explains each line.',
    ]
    for one in card["evaluations"]:
        parts += [f"## {_escape(one['title'])}", f"From {_escape(one['evaluation'])}."]
        parts += [f"> {_escape(note)}" for note in one["notes"]]
        parts += ["### Read first", "\n".join(_list_figures(one["first figures"]))]
        numbered = {f"{i}. {k.capitalize()}": v for i, (k, v) in _number(one["axes"])}
        for title, lines in {**numbered, _ACCESS.capitalize(): one[_ACCESS]}.items():
            text = "\n".join(f"- {name}: {_escape(v)}" for name, v in lines.items())
            parts += [f"### {title}", text]
    if card["commands"]:
        parts.append("## Commands")
    for command in card["commands"]:
        environment = ", ".join(f"{k} {v}" for k, v in command["environment"].items())
        parts += [f"    {' '.join(command['command'].split())}", _escape(environment)]
    return "\n\n".join(parts) + "\n"


def _number(axes: dict[str, Any]) -> Iterator[tuple[int, tuple[str, Any]]]:
    return enumerate(axes.items(), start=1)


def _list_figures(figures: dict[str, Any]) -> Iterator[str]:
    """Yield the items of a Markdown list of the figures to read first."""
    baselines = figures["majority baseline"].items()
    yield "- majority baseline (accuracy of trials): " + _escape(
        ", ".join(f"{value:.3f} ({corpus})" for corpus, value in baselines)
    )
    permuted = figures["permuted labels"]
    if permuted == UNKNOWN:
        yield f"- permuted labels: {UNKNOWN}"
    else:
        yield "- permuted labels (accuracy of trials):"
        yield from (f"  - {_escape(_word_permuted(row))}" for row in permuted)
    yield f"- protocol: {_escape(figures['protocol'])}"
    yield f"- target access: {_escape(_join(figures['target access']))}"


def _word_permuted(row: dict[str, Any]) -> str:
    number = row["labelled trials"]
    few = "" if number == "all" else f", {number} labelled trials"
    return (
        f"{row['pipeline']} ({row['dataset']}{few}, target access "
        f"{row['target access']}): {row['permuted']:.3f} in the mean of "
        f"{row['permutations']} permutations, {row['true']:.3f} with the true labels, "
        f"p = {row['p']:.4f}"
    )


# -- words ---------------------------------------------------------------------


def _fill(lines: dict[str, Any]) -> dict[str, str]:
    """Return lines as text; what is missing is unknown."""
    return {name: to_text(value) or UNKNOWN for name, value in lines.items()}


def _join(values: dict[str, Any], empty: str = UNKNOWN) -> str:
    """Return values by name in words."""
    return "; ".join(f"{k}: {to_text(v) or empty}" for k, v in values.items())


def _escape(text: str) -> str:
    """Return text in which nothing is markup, on one line."""
    return re.sub(r"([\\`*_\[\]<>|#~$])", r"\\\1", " ".join(text.split()))


# -- the figures to read first ---------------------------------------------------


def _list_permuted(content) -> list[dict[str, Any]]:
    """Return the accuracy over trials under permuted labels, and with the true ones."""
    return [
        {
            "dataset": row["dataset"],
            "pipeline": row["pipeline"],
            "labelled trials": row["n_labeled_trials"],
            "target access": group["access"],
            "permutations": int(row["n_draws"]),
            "permuted": float(row["mean"]),
            "true": float(row["reference"]),
            "p": float(row["p_value"]),
        }
        for group in content["groups"]
        for row in group["controls"]
        if row["control"].partition("(")[0] == _PERMUTED
        and row["of"] == "trials"
        and row["p_value"]  # empty without a result to compare with
    ]


def _group_by_access(content) -> dict[str, list[str]]:
    """Return the pipelines of each kind of target access."""
    return {
        group["access"]: [*dict.fromkeys(row["pipeline"] for row in group["summary"])]
        for group in content["groups"]
    }


# -- the eight axes --------------------------------------------------------------


def _get(settings: dict[str, Any], name: str, unset: str, unit: str = "") -> str | None:
    """Return a setting in words: ``unset`` for None, None if it is not recorded."""
    if name not in settings:
        return None
    value = settings[name]
    text = f"{value:g}" if isinstance(value, float) else to_text(value)
    return unset if value is None else f"{text} {unit}".strip()


def _describe_preprocessing(run) -> dict[str, Any]:
    paradigm = run["paradigm"]
    mapped = any("mapped" in corpus for corpus in run["corpora"].values())
    return {
        "band of the release": _join(
            {
                code: _word_band(*corpus["passband"])
                if corpus.get("passband")
                else UNKNOWN
                for code, corpus in run["corpora"].items()
            }
        ),
        "filter": _word_band(paradigm["fmin"], paradigm["fmax"])
        if {"fmin", "fmax"} <= set(paradigm)
        else None,
        "sampling rate": _get(paradigm, "resample", "that of the release", "Hz"),
        "reference": "" if mapped else "that of the release",
        "artifact rejection": "" if mapped else "none after the release",
        "channels": _word_channels(run),
        "part of each trial": _word_interval(paradigm),
        "baseline correction": _get(paradigm, "baseline", "none", "s"),
        "scaling": "each channel or feature within each recording"
        if paradigm.get("standardize")
        else _get(paradigm, "standardize", "none"),
    }


def _word_band(low, high) -> str:
    if low is None and high is None:
        return "none"
    if high is None:
        return f"from {low:g} Hz"
    return f"up to {high:g} Hz" if low is None else f"{low:g} to {high:g} Hz"


def _word_channels(run) -> str | None:
    paradigm = run["paradigm"]
    if chosen := paradigm.get("channels") or paradigm.get("picks"):
        return to_text(chosen)
    kinds = {corpus.get("modalities") for corpus in run["corpora"].values()}
    if kinds <= {True, False} and len(kinds) == 1:
        return "all of the release" if kinds == {True} else "EEG of the release"
    return None


def _word_interval(paradigm) -> str | None:
    if not {"tmin", "tmax", "last"} <= set(paradigm):
        return None
    if paradigm["last"] is not None:
        return f"the last {paradigm['last']:g} s"
    start, end = paradigm["tmin"], paradigm["tmax"]
    if not start and end is None:
        return "all"
    return f"from {start:g} s" + ("" if end is None else f" to {end:g} s")


def _describe_features(run) -> dict[str, Any]:
    paradigm = run["paradigm"]
    features = paradigm.get("features")
    bands = list_bands(features, paradigm.get("fmin"), paradigm.get("fmax"))
    named = {k: v for k, v in bands.items() if "pass-band" not in k}
    cut = {
        code: describe_cut_bands(bands, corpus["passband"]) or "none"
        if corpus.get("passband")
        else UNKNOWN
        for code, corpus in run["corpora"].items()
    }
    kind = _get(paradigm, "features", "none, signals")
    window = _get(paradigm, "window", "", "s")
    stride = _get(paradigm, "stride", "", "s")
    return {
        "kind": _FEATURES.get(features, kind),
        "bands": _join({k: _word_band(*band) for k, band in named.items()})
        if named
        else ("not applicable" if kind == "none, signals" else None),
        "bands outside the release": _join(cut) if kind else None,
        "windows": f"{window}, one every {stride}" if window and stride else window,
    }


def _describe_threshold(run, content) -> dict[str, Any]:
    paradigm = run["paradigm"]
    by_class = {_is_by_class(paradigm, code) for code in run["corpora"]}
    own = "not applicable: the classes of the corpus"
    lines = {
        "classes": content["settings"]["classes"],
        "threshold": own if by_class == {True} else _word_threshold(run),
        "ties": own if by_class == {True} else _get(paradigm, "ties", ""),
        "margin": own if by_class == {True} else _get(paradigm, "margin", ""),
    }
    return lines | {
        "majority baseline": _join(
            {row["dataset"]: row["most_frequent"] for row in content["chances"]}
        )
    }


def _find_corpus(code: str) -> type[EmotionDataset] | None:
    return {cls.code_name: cls for cls in DATASETS}.get(code)


def _is_by_class(paradigm, code: str) -> bool | None:
    """Return whether labels are a corpus's own classes, None if that is unknown."""
    corpus, target = _find_corpus(code), paradigm.get("target")
    if target == "emotion":
        return True
    if corpus is None or target is None:
        return None
    is_rated = "valence" in corpus.ratings
    takes_rating = is_rated and paradigm.get("label_source") == "self-report"
    return target == "valence" and bool(corpus.valence_of_class) and not takes_rating


def _word_threshold(run) -> str | None:
    """Return where the ratings of each corpus are cut."""
    paradigm = run["paradigm"]
    threshold = paradigm.get("threshold")
    words: dict[str, str | None] = {}
    for code, corpus in run["corpora"].items():
        if _is_by_class(paradigm, code):
            words[code] = "the classes of the corpus"
        elif paradigm.get("n_classes") == 3:
            cuts = getattr(_find_corpus(code), "rating_cuts", None)
            words[code] = to_text(corpus.get("rating_cuts") or cuts)
        elif threshold == "median":
            words[code] = "median of each subject's ratings"
        elif threshold is not None:
            words[code] = f"{threshold:g}"
        elif (midpoint := corpus.get("rating_midpoint")) is not None:
            words[code] = f"{midpoint:g}, the midpoint of the scale"
        else:
            words[code] = None
    return _join(words)


def _describe_labels(run, trials) -> dict[str, Any]:
    paradigm = run["paradigm"]
    sources = {code: _find_source(paradigm, code) for code in run["corpora"]}
    return {
        "target": paradigm.get("target"),
        "source": _join(sources),
        "agreement": _join(
            {
                code: "not applicable: a label of the stimulus"
                if sources[code] == "stimulus"
                else _measure_agreement(trials[trials["corpus"] == code])
                for code in run["corpora"]
            }
        ),
    }


def _find_source(paradigm, code: str) -> str | None:
    """Return who gave the labels: the subject or the makers, for the stimulus."""
    if paradigm.get("label_source"):
        return paradigm["label_source"]
    by_class = _is_by_class(paradigm, code)
    if by_class:
        return getattr(_find_corpus(code), "class_source", None)
    return None if by_class is None else "self-report"


def _measure_agreement(trials: pd.DataFrame) -> str | None:
    """Return Krippendorff's alpha of the labels between raters, in words."""
    if "stimulus" not in trials:
        return None
    codes = pd.Series(pd.factorize(trials["label"])[0].astype(float), trials.index)
    table = codes.groupby([*(trials[k] for k in [*_RATER, "stimulus"])]).first()
    table = table.unstack("stimulus")
    shared = table.loc[:, table.notna().sum() > 1].to_numpy()
    if len(np.unique(shared[~np.isnan(shared)])) < 2:
        return None
    alpha = krippendorff.alpha(shared, level_of_measurement="nominal")
    return f"Krippendorff's alpha {alpha:.3f} (nominal, {len(table)} recordings)"


def _list_trials(evaluation) -> pd.DataFrame:
    """Return one row for each tested trial: its label, stimulus and windows."""
    tables = []
    for pipeline in evaluation.pipelines:
        table = pipeline.predictions
        columns = [k for k in (*_TRIAL, "label", "stimulus") if k in table]
        by = table[columns].astype(str).groupby(_TRIAL, sort=False)
        tables.append(by.first().assign(n_windows=by.size()).reset_index())
    return pd.concat(tables).drop_duplicates(_TRIAL, ignore_index=True)


def _describe_split(run, trials) -> dict[str, Any]:
    protocol = PROTOCOLS.get(run["protocol"])
    fewest, most = trials["n_windows"].min(), trials["n_windows"].max()
    return {
        "unit": protocol and "whole trials, never windows of one trial",
        "held out": protocol and f"never shared: {', '.join(protocol.never_shared)}",
        "windows of a trial": str(fewest) if fewest == most else f"{fewest} to {most}",
    }


def _describe_folds(evaluation, content) -> dict[str, Any]:
    run, settings = evaluation.run, content["settings"]
    n_folds = max(len([*p.folder.glob("*.parquet")]) for p in evaluation.pipelines)
    selects = "the test recordings select nothing: they are predicted once"
    if run["protocol"] == "subject-split" and (run.get("options") or {}).get(
        "validation"
    ):
        selects += "; validation subjects, for pipelines that request them"
    return {
        "protocol": settings["protocol"],
        "options": settings.get("options") or "none",
        "folds": n_folds,
        "seed of the folds": run.get("random_state"),
        "labelled trials": settings.get("labelled trials", "all"),
        "selection of the model": selects if run["protocol"] in PROTOCOLS else None,
        "search of hyper-parameters": _describe_search(evaluation, content),
    }


def _describe_search(evaluation, content) -> str | None:
    """Return which pipelines have a search; another version hashes otherwise."""
    if evaluation.run.get("version") != version("braindecode-emossl"):
        return None
    none = hash_object(None, "no search")
    if any("search" not in pipeline.content for pipeline in evaluation.pipelines):
        return None
    pipelines = zip(content["names"], evaluation.pipelines, strict=True)
    searched = dict.fromkeys(n for n, p in pipelines if p.content["search"] != none)
    trained = "on whole trials of the training set"
    return f"{', '.join(searched)}, {trained}" if searched else "none"


def _describe_baselines(evaluation, content) -> dict[str, Any]:
    controls = dict.fromkeys(control.control for control in evaluation.controls)
    chances, permuted = content["chances"], _list_permuted(content)
    return {
        "majority baseline": _join({c["dataset"]: c["most_frequent"] for c in chances}),
        "5 % threshold of guessing": _join(
            {c["dataset"]: c["threshold"] for c in chances}
        ),
        "pipelines": ", ".join(dict.fromkeys(content["names"])),
        "permuted labels": "see the figures above" if permuted else None,
        "controls": ", ".join(controls) or "none",
    }


def _describe_sources(run, content) -> dict[str, Any]:
    settings = content["settings"]
    corpora = {**run["corpora"], **(run.get("unlabeled") or {})}
    return {
        "code": settings["version"],
        "corpora": _join(
            {code: _describe_corpus(code, corpora[code]) for code in corpora}
        ),
        "subjects and sessions": settings["corpora"],
        "unlabelled corpora": settings.get("unlabelled corpora", "none"),
        "tested": settings["tested"],
        "seeds of the pipelines": settings.get("seeds", "those of their settings"),
    }


def _describe_corpus(code: str, corpus: dict[str, Any]) -> str:
    """Return where a corpus comes from, and a hash of its contents."""
    known, contents = _find_corpus(code), corpus.get("contents")
    parts = [
        "a synthetic replica" if corpus.get("synthetic") else "",
        f"https://doi.org/{known.doi_name}" if known else "",
        f"contents {contents[:12]}" if isinstance(contents, str) else "",
    ]
    return ", ".join(filter(None, parts))


# -- access to the test subject --------------------------------------------------


def _describe_mechanisms(evaluation, content) -> str:
    """Return how the pipelines learn, and what they adapt to."""
    adapts = {
        "unlabeled": ", adapted to the unlabelled test set",
        "calibration": ", with labelled trials of the test subject",
    }
    found = {}
    for name, pipeline in zip(content["names"], evaluation.pipelines, strict=True):
        settings = pipeline.content.get("settings")
        known = settings.get("mechanism") if isinstance(settings, dict) else ""
        text = known + adapts.get(pipeline.target_access, "") if known else UNKNOWN
        found[name] = text
    return _join(found)
