"""The content of a report: tables, figures and notes of one evaluation."""

from __future__ import annotations

import base64
import io
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from braindecode_emossl.evaluation.probes import DIAGNOSED
from braindecode_emossl.evaluation.protocols import PROTOCOLS
from braindecode_emossl.evaluation.scores import score_predictions, vote
from braindecode_emossl.evaluation.statistics import (
    ChanceLevel,
    chance_level,
    compare_pipelines,
    summarize_controls,
    summarize_results,
)
from braindecode_emossl.evaluation.store import StoredEvaluation, StoredPipeline
from braindecode_emossl.features.linear_probe import NOTICEABLE, PROBED
from braindecode_emossl.paradigms.passbands import describe_cut_bands, list_bands
from braindecode_emossl.visualization import (
    plot_benchmark,
    plot_confusion_matrix,
    plot_label_fractions,
)

__all__ = ["describe_evaluation", "to_text"]

# From which the permutation tests can find something: 2 ** (1 - 6) < 0.05.
_FEW_SUBJECTS = 6
_RECORDING = ["dataset", "subject", "session"]
_TRIAL = ["corpus", "subject", "session", "trial"]
# Results that may be compared.
_COMPARABLE = ["dataset", "n_labeled_trials", "target_access"]
_UNITS = {
    "window": "s",
    "stride": "s",
    "tmin": "s",
    "tmax": "s",
    "last": "s",
    "fmin": "Hz",
    "fmax": "Hz",
    "resample": "Hz",
}
# From the least to the most access, in the order of the page.
_ACCESS = {
    "none": "Nothing of the test set was used to train or adapt the pipelines.",
    "statistics": (
        "The signals of each test recording were standardised by their own mean and "
        "variance, without labels."
    ),
    "unlabeled": (
        "The signals of the test subjects, without labels, were used to train or adapt "
        "the pipelines."
    ),
    "calibration": (
        "Some trials of each test subject, with labels, were used to train or adapt "
        "the pipelines; these trials are not among the tested ones."
    ),
}


def describe_evaluation(evaluation: StoredEvaluation) -> dict[str, Any]:
    """Return the values that the page's template shows of an evaluation."""
    run = evaluation.run
    _check_run(evaluation)
    names = _name_pipelines(evaluation.pipelines)
    scores = _score(evaluation.pipelines, names)
    common = _keep_common(scores)
    shown = _choose_number(scores)
    trials = _list_trials(evaluation.pipelines)
    chances = {
        corpus: chance_level(rows["label"], rows[_TRIAL].astype(str))
        for corpus, rows in trials.groupby("corpus", sort=False)
    }
    return {
        "title": f"{' + '.join(run['corpora'])}, {run['protocol']}",
        "anchor": evaluation.folder.name,
        "names": names,
        "settings": _list_settings(evaluation, scores, trials),
        "notes": list(_list_notes(evaluation, names, scores, common)),
        "has_numbers": scores["n_labeled_trials"].nunique(dropna=False) > 1,
        "has_seeds": scores["seed"].nunique() > 1,
        "classes": _list_classes(scores),
        "groups": _group(scores, common, shown, _describe_controls(evaluation, names)),
        "probes": _describe_probes(evaluation.pipelines, names, shown),
        "diagnosis": _describe_diagnosis(evaluation.pipelines, names, shown),
        "shown": _name_number(shown),
        "chances": [
            {"dataset": corpus, **_describe_chance(chance)}
            for corpus, chance in chances.items()
        ],
        "benchmark": _plot_scores(
            _select(common, shown), _find_largest(evaluation.pipelines)
        ),
        "curves": _plot_curves(common),
        "confusion": _plot_confusions(evaluation.pipelines, names, shown),
        "pipelines": _describe_pipelines(evaluation.pipelines, names),
        "provenance": json.dumps(run, indent=2),
    }


def to_text(value) -> str:
    """Return a setting as people write it."""
    if isinstance(value, dict):
        items = ((name, to_text(item)) for name, item in value.items())
        return ", ".join(f"{name} = {text}" for name, text in items if text)
    if isinstance(value, list | tuple):
        return ", ".join(map(to_text, value))
    return "" if value is None else str(value)


# -- scores --------------------------------------------------------------------


def _check_run(evaluation: StoredEvaluation) -> None:
    """Refuse a run.json without the settings that the page shows."""
    for name in ("corpora", "paradigm"):
        if not isinstance(evaluation.run.get(name), dict):
            raise ValueError(
                f"{evaluation.folder / 'run.json'} has no entry {name!r} of type dict. "
                f"Restore it from a copy, or delete the folder {evaluation.folder} to "
                "run this evaluation again."
            )


def _name_pipelines(pipelines: list[StoredPipeline]) -> list[str]:
    """Return names that distinguish pipelines with one name but other settings."""
    labels: dict[tuple[str, str], str] = {}
    for pipeline in sorted(pipelines, key=lambda pipeline: pipeline.folder.name):
        labels.setdefault(_find_version(pipeline), pipeline.folder.name[:8])
    counts = Counter(name for name, _ in labels)
    return [
        f"{p.name} [{labels[_find_version(p)]}]" if counts[p.name] > 1 else p.name
        for p in pipelines
    ]


def _find_version(pipeline: StoredPipeline) -> tuple[str, str]:
    """Return a key that the variants of a pipeline share."""
    return pipeline.name, _hash_settings(pipeline)


def _hash_settings(pipeline: StoredPipeline) -> str:
    """Return the hash of the settings, in which no path counts, or all of them."""
    settings = pipeline.content.get("settings")
    if isinstance(settings, dict):
        settings = settings.get("hash", settings)
    return json.dumps(settings, sort_keys=True)


def _score(pipelines: list[StoredPipeline], names: list[str]) -> pd.DataFrame:
    """Return the scores by pipeline, variant, corpus, subject and session."""
    rows = []
    for name, pipeline in zip(names, pipelines, strict=True):
        table = pipeline.predictions
        by = table.groupby(["corpus", "subject", "session"], observed=True)
        for (corpus, subject, session), part in by:
            rows.append(
                {
                    "dataset": corpus,
                    "pipeline": name,
                    "subject": str(subject),
                    "session": str(session),
                    "seed": pipeline.content.get("seed"),
                    "n_labeled_trials": pipeline.content.get("n_labeled_trials"),
                    "target_access": pipeline.target_access,
                    "n_classes": table["label"].nunique(),
                    **score_predictions(part),
                }
            )
    scores = pd.DataFrame(rows).astype({"seed": "Int64", "n_labeled_trials": "Int64"})
    by = ["dataset", "pipeline", "n_labeled_trials", "seed"]
    return scores.sort_values(by, kind="stable", ignore_index=True)


def _keep_common(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the recordings on which all comparable pipelines were tested."""
    by = scores.groupby([*_COMPARABLE, "pipeline"], dropna=False)
    n_seeds = by["seed"].transform(lambda seeds: seeds.nunique(dropna=False))
    by = scores.groupby([*_COMPARABLE, *_RECORDING[1:], "pipeline"], dropna=False)
    whole = scores[by["seed"].transform("size") == n_seeds]
    expected = scores.groupby(_COMPARABLE, dropna=False)["pipeline"].transform(
        "nunique"
    )
    here = whole.groupby([*_COMPARABLE, *_RECORDING[1:]], dropna=False)["pipeline"]
    return whole[here.transform("nunique") == expected[whole.index]]


def _choose_number(scores: pd.DataFrame):
    """Return the number of labelled trials for the details: all, else the most."""
    numbers = scores["n_labeled_trials"]
    return pd.NA if numbers.isna().any() else numbers.max()


def _select(scores: pd.DataFrame, number) -> pd.DataFrame:
    """Return the scores with one number of labelled trials."""
    numbers = scores["n_labeled_trials"]
    return scores[numbers.isna() if pd.isna(number) else (numbers == number)]


def _list_trials(pipelines: list[StoredPipeline]) -> pd.DataFrame:
    """Return the label of each tested trial."""
    tables = [p.predictions[[*_TRIAL, "label"]].drop_duplicates() for p in pipelines]
    return pd.concat(tables, ignore_index=True).drop_duplicates(ignore_index=True)


def _find_largest(pipelines: list[StoredPipeline]) -> dict[str, float]:
    """Return the share of the windows of the most frequent class by corpus."""
    windows = pd.concat([p.predictions[["corpus", "label"]] for p in pipelines])
    labels = windows.groupby("corpus")["label"]
    return labels.agg(lambda part: part.value_counts(normalize=True).max()).to_dict()


def _list_classes(scores: pd.DataFrame) -> list[str]:
    names = (name for name in scores if name.startswith("recall_"))
    return [name.removeprefix("recall_") for name in names]


# -- settings and notes --------------------------------------------------------


def _list_settings(evaluation, scores, trials) -> dict[str, str]:
    """Return the settings of an evaluation by name, as text."""
    run = evaluation.run
    known = PROTOCOLS.get(run["protocol"])
    n_windows = max(len(pipeline.predictions) for pipeline in evaluation.pipelines)
    n_recordings = len(trials[["corpus", "subject", "session"]].drop_duplicates())
    n_subjects = len(trials[["corpus", "subject"]].drop_duplicates())
    seeds = scores["seed"].dropna().unique()
    numbers = scores["n_labeled_trials"].drop_duplicates()
    settings = {
        "protocol": f"{run['protocol']}: {known.summary}" if known else run["protocol"],
        "regime": known.regime if known else "",
        "options": to_text(run.get("options")),
        "corpora": _describe_corpora(run["corpora"]),
        "unlabelled corpora": _describe_corpora(run.get("unlabeled") or {}),
        "classes": ", ".join(sorted(trials["label"].astype(str).unique())),
        **_describe_paradigm(run["paradigm"]),
        "midpoint of ratings": _describe_midpoints(run),
        "band of the release": _describe_passbands(run),
        "tested": (
            f"{n_subjects} subjects, {n_recordings} recordings, {len(trials)} trials, "
            f"{n_windows} windows"
        ),
        "labelled trials": (
            f"{', '.join(map(_name_number, numbers))} per class and training subject"
            if numbers.notna().any()
            else ""
        ),
        "seeds": ", ".join(map(str, sorted(seeds))),
        "seed of the folds": to_text(run.get("random_state")),
        "version": f"braindecode-emossl {run.get('version')}",
    }
    return {name: value for name, value in settings.items() if value}


def _describe_corpora(corpora: dict[str, Any]) -> str:
    """Return the subjects and sessions of each corpus."""
    parts = []
    for code, corpus in corpora.items():
        of = {name: to_text(corpus.get(name)) for name in ("subjects", "sessions")}
        details = "; ".join(f"{name} {text}" for name, text in of.items() if text)
        parts.append(f"{code} ({details})" if details else code)
    return "; ".join(parts)


def _describe_paradigm(paradigm: dict[str, Any]) -> dict[str, str]:
    """Return the paradigm's arguments that are set, with their units."""
    settings = {
        name: f"{to_text(value)} {_UNITS.get(name, '')}".strip()
        for name, value in paradigm.items()
        if value is not None and value is not False
    }
    if settings.get("stride") == settings.get("window"):
        settings.pop("stride", None)
    return settings


def _describe_midpoints(run: dict[str, Any]) -> str:
    """Return the threshold of each corpus where the paradigm sets none."""
    paradigm = run["paradigm"]
    if paradigm.get("threshold") is not None or paradigm.get("target") == "emotion":
        return ""
    midpoints = {code: c.get("rating_midpoint") for code, c in run["corpora"].items()}
    return to_text({code: value for code, value in midpoints.items() if value})


def _describe_passbands(run: dict[str, Any]) -> str:
    """Return the band of each corpus's release, and the used bands outside it."""
    settings = (run["paradigm"].get(name) for name in ("features", "fmin", "fmax"))
    bands = list_bands(*settings)
    parts = []
    for code, corpus in run["corpora"].items():
        if passband := corpus.get("passband"):
            cut = describe_cut_bands(bands, passband)
            band = f"{code} {passband[0]:g} to {passband[1]:g} Hz"
            parts.append(f"{band} ({cut})" if cut else band)
    return "; ".join(parts)


def _list_notes(evaluation, names, scores, common) -> Iterator[str]:
    """Yield what a reader of the numbers must know."""
    corpora = {**evaluation.run["corpora"], **(evaluation.run.get("unlabeled") or {})}
    synthetic = [code for code, c in corpora.items() if c.get("synthetic")]
    if synthetic:
        yield (
            f"Synthetic signals: {', '.join(synthetic)} was written by this software "
            "as a replica of the corpus. The numbers say nothing about emotion."
        )
    if evaluation.run["paradigm"].get("threshold") == "median":
        yield (
            "The threshold of the ratings is each subject's median, so that labels "
            "also depend on the ratings of test trials."
        )
    pipelines = list(zip(names, evaluation.pipelines, strict=True))
    unfinished = dict.fromkeys(n for n, p in pipelines if not p.complete)
    unfinished |= dict.fromkeys(
        f"{p.name} ({p.control})" for p in evaluation.controls if not p.complete
    )
    if unfinished:
        yield f"Not finished: some folds are missing of {', '.join(unfinished)}."
    if len(common) < len(scores):
        yield (
            "Not all pipelines were tested on the same recordings. Figures by subject "
            "and comparisons are restricted to recordings that all of them have."
        )
    if changed := dict.fromkeys(n for n, p in pipelines if n != p.name):
        yield (
            "Pipelines with the same name but other settings are distinguished by the "
            f"name of their folder: {', '.join(changed)}."
        )
    n_subjects = int(scores.groupby("dataset")["subject"].nunique().min())
    if n_subjects < _FEW_SUBJECTS:
        yield (
            f"With {n_subjects} subject{'s' * (n_subjects > 1)} no difference between "
            "two pipelines can have a p-value below 0.05."
        )


def _describe_pipelines(pipelines, names) -> dict[str, str]:
    """Return the settings of each pipeline as text, by name."""
    texts = {}
    for name, pipeline in zip(names, pipelines, strict=True):
        settings = pipeline.content.get("settings")
        if isinstance(settings, dict) and "repr" in settings:
            settings = settings["repr"]
        is_text = isinstance(settings, str)
        texts[name] = settings if is_text else json.dumps(settings, indent=2)
    return texts


def _name_number(number) -> str:
    """Return a number of labelled trials as text."""
    return "all" if pd.isna(number) else str(number)


# -- tables --------------------------------------------------------------------


def _group(scores, common, shown, controls) -> list[dict[str, Any]]:
    """Return the tables of each kind of target access."""
    kinds = [kind for kind in _ACCESS if kind in set(scores["target_access"])]
    groups = []
    for kind in kinds:
        own = scores[scores["target_access"] == kind]
        groups.append(
            {
                "access": kind,
                "sentence": _ACCESS[kind],
                "summary": _summarize(own),
                "comparisons": _compare(common[common["target_access"] == kind]),
                "subjects": _tabulate_subjects(_select(own, shown)),
                "controls": [row for row in controls if row["access"] == kind],
            }
        )
    return groups


def _summarize(scores: pd.DataFrame) -> list[dict[str, Any]]:
    """Return one row for each corpus, pipeline and number of labelled trials."""
    by = ["dataset", "pipeline", "n_labeled_trials"]
    others = ["balanced_accuracy", "f1_macro", "kappa", "roc_auc", "ece", "brier"]
    recalls = [name for name in scores if name.startswith("recall_")]
    # A score may be undefined for a subject, who is left out of its mean.
    means = scores.groupby([*by, "subject"], dropna=False, sort=False)
    means = means[[*others, *recalls]].mean()
    means = means.groupby(by, dropna=False, sort=False).mean()
    tables = [summarize_results(scores, name) for name in ("accuracy", "score_trial")]
    rows = []
    for windows, trials, mean in zip(
        *(table.itertuples() for table in tables), means.itertuples(), strict=True
    ):
        values = dict(zip(means.columns, mean[1:], strict=True))
        rows.append(
            {
                "dataset": windows.dataset,
                "pipeline": windows.pipeline,
                "n_labeled_trials": _name_number(windows.n_labeled_trials),
                "n_subjects": str(windows.n_subjects),
                "windows": _format_interval(windows),
                "trials": _format_interval(trials),
                "recalls": [_format(values[name]) for name in recalls],
                **{name: _format(values[name]) for name in others},
            }
        )
    return rows


def _format(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.3f}"


def _format_interval(row) -> tuple[str, ...]:
    """Return mean and standard deviation, the interval, and the deviation by seed."""
    seeds = () if np.isnan(row.sd_seeds) else (f"± {row.sd_seeds:.3f} over seeds",)
    if np.isnan(row.sd):
        return f"{row.mean:.3f}", "", *seeds
    interval = f"{row.low:.3f} to {row.high:.3f}"
    return f"{row.mean:.3f} ± {row.sd:.3f}", interval, *seeds


def _format_bounds(row) -> str:
    """Return the confidence interval of a difference, if there is one."""
    if np.isnan(row.ci_low):
        return ""
    return f"{_sign(row.ci_low, 3)} to {_sign(row.ci_high, 3)}"


def _describe_chance(chance: ChanceLevel) -> dict[str, str]:
    values = chance._asdict()
    n_trials = values.pop("n_trials")
    return {"n_trials": str(n_trials), **{k: f"{v:.3f}" for k, v in values.items()}}


def _compare(scores: pd.DataFrame) -> list[dict[str, str]]:
    """Return one row for each pair of pipelines, by windows and by trials."""
    rows = []
    for _, part in scores.groupby(_COMPARABLE, sort=False, dropna=False):
        if min(part["pipeline"].nunique(), part["subject"].nunique()) < 2:
            continue
        for what, score in (("windows", "accuracy"), ("trials", "score_trial")):
            pairs = compare_pipelines(part, score=score, random_state=0)
            rows += [
                {
                    "dataset": pair.dataset,
                    "first": pair.pipeline_1,
                    "second": pair.pipeline_2,
                    "n_labeled_trials": _name_number(pair.n_labeled_trials),
                    "of": what,
                    "n_subjects": str(pair.n_subjects),
                    "difference": _sign(pair.difference, 3),
                    "interval": _format_bounds(pair),
                    "effect_size": _sign(pair.effect_size, 2),
                    "p_value": f"{pair.p_value:.4f}",
                    "p_corrected": f"{pair.p_corrected:.4f}",
                }
                for pair in pairs.itertuples()
            ]
    return rows


def _describe_controls(evaluation: StoredEvaluation, names) -> list[dict[str, str]]:
    """Return one row for each control, pipeline and number of labelled trials."""
    if not evaluation.controls:
        return []
    name_of = {
        _identify(pipeline): name
        for name, pipeline in zip(names, evaluation.pipelines, strict=True)
    }
    scores = pd.concat(
        [
            _score_control(pipeline, name_of.get(_identify(pipeline), pipeline.name))
            for pipeline in [*evaluation.pipelines, *evaluation.controls]
        ]
    ).astype({"seed": "Int64", "n_labeled_trials": "Int64"})
    rows = []
    for what, score in (("windows", "accuracy"), ("trials", "score_trial")):
        rows += [
            {
                "dataset": row.dataset,
                "control": row.control,
                "pipeline": row.pipeline,
                "access": row.target_access,
                "n_labeled_trials": _name_number(row.n_labeled_trials),
                "of": what,
                "n_subjects": str(row.n_subjects),
                "n_draws": str(row.n_draws),
                "mean": _format(row.mean),
                "reference": _format(row.reference),
                "difference": _sign(row.difference, 3),
                "interval": _format_bounds(row),
                "p_value": "" if np.isnan(row.p_value) else f"{row.p_value:.4f}",
                "p_corrected": ""
                if np.isnan(row.p_corrected)
                else f"{row.p_corrected:.4f}",
            }
            for row in summarize_controls(scores, score).itertuples(index=False)
        ]
    return sorted(rows, key=lambda row: (row["dataset"], row["control"]))


def _identify(pipeline: StoredPipeline) -> str:
    """Return the key that a pipeline shares with its controls."""
    # One may have been renamed.
    own = ("control", "name", "other_names", "settings")
    content = {k: v for k, v in pipeline.content.items() if k not in own}
    return json.dumps([content, _hash_settings(pipeline)], sort_keys=True)


def _score_control(pipeline: StoredPipeline, name: str) -> pd.DataFrame:
    """Return the accuracies by part, corpus, subject and session."""
    by = ["corpus", "subject", "session"]
    tables = []
    for part in dict.fromkeys(pipeline.parts.tolist()):
        windows = pipeline.predictions[pipeline.parts == part]
        scores = {}
        for score, rows in (("accuracy", windows), ("score_trial", vote(windows))):
            is_right = rows["label"].astype(str) == rows["predicted"].astype(str)
            scores[score] = is_right.groupby(
                [rows[k] for k in by], observed=True
            ).mean()
        tables.append(pd.DataFrame(scores).reset_index().assign(control_part=part))
    return (
        pd.concat(tables)
        .rename(columns={"corpus": "dataset"})
        .assign(
            pipeline=name,
            control=pipeline.control,
            seed=pipeline.content.get("seed"),
            n_labeled_trials=pipeline.content.get("n_labeled_trials"),
            target_access=pipeline.target_access,
        )
    )


def _describe_probes(pipelines, names, shown) -> dict[str, Any]:
    """Return the scores of the linear probes of each pipeline."""
    means = _average(pipelines, names, shown, "probes")
    if not means:
        return {}
    first = next(iter(means.values()))
    rows = {name: _format_probes(mean, "probe") for name, mean in means.items()}
    return {
        "targets": list(PROBED),
        "chances": [_format(first[f"probe_{target}_chance"]) for target in PROBED],
        "rows": {"differential entropy": _format_probes(first, "probe_de"), **rows},
    }


def _describe_diagnosis(pipelines, names, shown) -> dict[str, Any]:
    """Return the features of each pipeline before and after pre-training."""
    means = _average(pipelines, names, shown, "diagnosis")
    rows, sentences = {}, []
    for name, mean in means.items():
        rows[name] = [
            _format(mean[f"{what}_{stage}"])
            for what in DIAGNOSED
            for stage in ("before", "after")
        ]
        before, after = mean["subject_before"], mean["subject_after"]
        if after > before + NOTICEABLE:
            sentences.append(
                f"The features of {name} identify the subject better after "
                f"pre-training ({after:.3f}) than before ({before:.3f}): the objective "
                "may be solved by recognising the subject."
            )
    return {"properties": DIAGNOSED, "rows": rows, "sentences": sentences}


def _average(pipelines, names, shown, what: str) -> dict[str, pd.Series]:
    """Return the means of a table of folds by name, of the shown number of trials."""
    tables: dict[str, list[pd.DataFrame]] = {}
    for name, pipeline in zip(names, pipelines, strict=True):
        number = pipeline.content.get("n_labeled_trials")
        is_shown = number is None if pd.isna(shown) else number == shown
        if is_shown and len(table := getattr(pipeline, what)):
            tables.setdefault(name, []).append(table)
    return {
        name: pd.concat(parts).astype(float).mean() for name, parts in tables.items()
    }


def _format_probes(means: pd.Series, prefix: str) -> list[tuple[str, str]]:
    """Return the score of each target, and its ratio to chance."""
    cells = []
    for target in PROBED:
        score, ratio = (means[f"{prefix}_{target}{end}"] for end in ("", "_ratio"))
        is_known = not np.isnan(score)
        cells.append((_format(score), f"{ratio:.1f} times chance" if is_known else ""))
    return cells


def _sign(value: float, n_digits: int) -> str:
    """Return a number with its sign, but no minus before zero."""
    return "" if np.isnan(value) else f"{round(value, n_digits) + 0.0:+.{n_digits}f}"


def _tabulate_subjects(scores: pd.DataFrame) -> dict[str, Any]:
    """Return accuracy by windows and by trials, one row per recording."""
    pipelines = scores["pipeline"].unique().tolist()
    table = scores.groupby([*_RECORDING, "pipeline"])[["accuracy", "score_trial"]]
    table = table.mean()  # over seeds
    keys = list(dict.fromkeys(table.index.droplevel("pipeline")))
    rows = [
        (
            *key,
            [
                tuple(f"{value:.3f}" for value in table.loc[(*key, name)])
                if (*key, name) in table.index
                else ("", "")
                for name in pipelines
            ],
        )
        for key in sorted(keys, key=_natural)
    ]
    return {"pipelines": pipelines, "rows": rows}


def _natural(key: tuple[str, ...]) -> list:
    """Return a key that sorts subject 2 before subject 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in key]


# -- figures -------------------------------------------------------------------


def _plot_scores(scores: pd.DataFrame, largest: dict[str, float]) -> str:
    """Return the accuracy of each subject as an image, nothing if there is none."""
    if scores.empty:
        return ""
    n_panels = scores["target_access"].nunique()
    n_slots = scores["pipeline"].nunique() * scores["dataset"].nunique()
    size = (2.5 * n_panels + 1 + max(2.0, 0.9 * n_slots), 5.0)
    return _draw(
        size,
        n_panels,
        lambda axes: plot_benchmark(
            scores.drop(columns="n_labeled_trials"),
            score="accuracy",
            chance=largest,
            random_state=0,
            ax=axes,
        ),
    )


def _plot_curves(scores: pd.DataFrame) -> str:
    """Return the label-fraction curves, or nothing for a single number."""
    if scores["n_labeled_trials"].nunique(dropna=False) < 2:
        return ""
    n_panels = len(scores[["dataset", "target_access"]].drop_duplicates())
    return _draw(
        (2.6 + 3.6 * n_panels, 3.8),
        n_panels,
        lambda axes: plot_label_fractions(scores, ax=axes),
    )


def _plot_confusions(pipelines, names, shown) -> list[dict[str, str]]:
    """Return a confusion matrix for each corpus and pipeline, over all seeds."""
    tables: dict[str, list[pd.DataFrame]] = {}
    for name, pipeline in zip(names, pipelines, strict=True):
        number = pipeline.content.get("n_labeled_trials")
        if number is None if pd.isna(shown) else number == shown:
            columns = ["corpus", "label", "predicted"]
            tables.setdefault(name, []).append(pipeline.predictions[columns])
    images = []
    for name, parts in tables.items():
        for corpus, rows in pd.concat(parts).groupby("corpus", sort=False):
            true, predicted = (rows[k].astype(str) for k in ("label", "predicted"))
            labels = np.union1d(true, predicted).tolist()
            side = 2.4 + 0.8 * len(labels)
            image = _draw(
                (side + 0.6, side),
                1,
                lambda axes, true=true, predicted=predicted, labels=labels: (
                    plot_confusion_matrix(true, predicted, labels=labels, ax=axes)
                ),
            )
            images.append({"title": f"{name}, {corpus}", "image": image})
    return images


def _draw(size: tuple[float, float], n_panels: int, plot) -> str:
    """Return a figure as the address of an image, in which nothing can run."""
    style = {
        **mpl.rcParamsDefault,
        "text.parse_math": False,  # a name with dollar signs is not a formula
        "svg.hashsalt": "emossl",
    }
    file = io.BytesIO()
    with mpl.rc_context(style):
        figure = Figure(figsize=size, layout="compressed")
        plot(figure.subplots(1, n_panels, squeeze=False)[0])
        figure.savefig(file, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(file.getvalue()).decode()}"
