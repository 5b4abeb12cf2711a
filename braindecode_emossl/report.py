"""A page that shows the evaluations in a folder of results."""

from __future__ import annotations

import base64
import io
import json
import platform
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from braindecode_emossl.evaluation.protocols import PROTOCOLS
from braindecode_emossl.evaluation.scores import score_predictions
from braindecode_emossl.evaluation.statistics import (
    ChanceLevel,
    chance_level,
    compare_pipelines,
    summarize_results,
)
from braindecode_emossl.evaluation.store import read_fold
from braindecode_emossl.report_page import render_page
from braindecode_emossl.visualization import plot_benchmark, plot_confusion_matrix

__all__ = ["save_scores", "write_report"]

# From which the permutation tests can find something: 2 ** (1 - 6) < 0.05.
_FEW_SUBJECTS = 6
_RECORDING = ["dataset", "subject", "session"]
_TRIAL = ["corpus", "subject", "session", "trial"]
_PACKAGES = (
    "braindecode-emossl",
    "braindecode",
    "moabb",
    "mne",
    "torch",
    "scikit-learn",
    "numpy",
)
# What the processing of a corpus, as kept in run.json, says of the settings.
_SETTINGS = {
    "target": r"Labeller\(([^,]+), n_classes=",
    "window": r"'Epochs__window': ([^,}]+)",
    "stride": r"'Epochs__stride': ([^,}]+)",
    "features": r"'Array__features': '([^']+)'",
    "sampling rate": r"'Raw__sfreq': ([^,}]+)",
    "threshold": r"n_classes=[23], threshold=([^,]+)",
    "subjects": r"'subjects': \[([^\]]*)\]",
}
_UNITS = {"window": " s", "stride": " s", "sampling rate": " Hz"}
_ROOT = r"Pick\(root=(.*?), sessions="


def write_report(
    results_dir,
    output,
    *,
    on_evaluation: Callable[[str, int, int], None] = lambda name, n_done, n_all: None,
) -> None:
    """Write one HTML page of all evaluations in a folder of results.

    For each evaluation: what was run, a summary with chance level and confidence
    intervals, plots, paired comparisons and the scores of each subject; then commands,
    environment and where the numbers come from. Scores are computed from the
    predictions that are kept there. The page holds its plots and needs no network.

    Parameters
    ----------
    results_dir : path
        Folder that :func:`~braindecode_emossl.evaluation.evaluate`, or the command line
        by ``emossl evaluate --results``, was given.
    output : path
        File to write.
    on_evaluation : callable
        Called with the name of an evaluation, how many are done and how many there are.

    Raises
    ------
    FileNotFoundError
        If the folder has no finished fold.
    ValueError
        If a file in it is not of an evaluation.
    """
    root = Path(results_dir).expanduser().absolute()
    folders = [file.parent for file in sorted(root.glob("*/run.json"))]
    evaluations = []
    for n_done, folder in enumerate(folders):
        on_evaluation(folder.name, n_done, len(folders))
        evaluation = _read_evaluation(folder)
        if evaluation.predictions:
            evaluations.append(_show(evaluation))
    if not evaluations:
        raise FileNotFoundError(
            f"There is no finished fold below {root}: name the folder that was given "
            "to emossl evaluate as --results, or to evaluate as results_dir."
        )
    output = Path(output).expanduser()
    output.parent.mkdir(parents=True, exist_ok=True)
    page = render_page(
        title=f"Results in {root.name}",
        folder=str(root),
        made=_now(),
        evaluations=evaluations,
        records=_read_records(root),
        environment=_describe_environment(),
    )
    output.write_text(page, encoding="utf-8")


def save_scores(scores: pd.DataFrame, stem: Path, record: dict[str, Any]) -> list[Path]:
    """Write a table of scores, and beside it what it was made of.

    Parameters
    ----------
    scores : DataFrame
        What :func:`~braindecode_emossl.evaluation.evaluate` returned.
    stem : Path
        File to write, but for the suffix; its name begins with ``scores-``.
    record : dict of str to object
        ``command`` and ``settings``; time and environment are added.

    Returns
    -------
    list of Path
        The ``.csv``, the ``.parquet`` and the ``.json``.
    """
    files = [stem.with_name(f"{stem.name}.{s}") for s in ("csv", "parquet", "json")]
    scores.to_csv(files[0], index=False)
    scores.to_parquet(files[1])
    record = {**record, "finished": _now(), "environment": _describe_environment()}
    files[2].write_text(json.dumps(record, indent=2) + "\n")
    return files


# -- reading -------------------------------------------------------------------


@dataclass
class _Evaluation:
    """The finished folds of one evaluation, by name of the pipeline."""

    folder: Path
    run: dict[str, Any]
    predictions: dict[str, pd.DataFrame] = field(default_factory=dict)
    descriptions: dict[str, str] = field(default_factory=dict)
    unfinished: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)


def _read_evaluation(folder: Path) -> _Evaluation:
    run = _read_json(folder / "run.json", {"protocol": str, "corpora": list})
    evaluation = _Evaluation(folder, run)
    told = {
        file.parent: _read_json(file, {"name": str, "pipeline": str})
        for file in folder.glob("*/pipeline.json")
    }
    names = [content["name"] for content in told.values()]
    for store, content in sorted(
        told.items(), key=lambda item: (item[1]["name"], item[0].name)
    ):
        files = sorted(store.glob("*_*of*.parquet"))
        if not files:
            continue
        name = content["name"]
        if names.count(name) > 1:  # it was changed between two calls
            name = f"{name} [{store.name[:8]}]"
            evaluation.changed.append(name)
        evaluation.predictions[name] = pd.concat(
            [_read_predictions(file) for file in files], ignore_index=True
        )
        evaluation.descriptions[name] = content["pipeline"]
        if not _is_complete(files):
            evaluation.unfinished.append(name)
    return evaluation


def _read_json(file: Path, kinds: dict[str, type]) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}.") from error
    for name, kind in kinds.items():
        if not isinstance(content, dict) or not isinstance(content.get(name), kind):
            raise ValueError(
                f"{file} is not of an evaluation: it has no {name!r} of type "
                f"{kind.__name__}."
            )
    return content


def _read_predictions(file: Path) -> pd.DataFrame:
    try:
        table = read_fold(file).predictions
    except (ValueError, TypeError, OSError) as error:
        raise ValueError(
            f"{file} is no finished fold: {error}. Delete it and evaluate again."
        ) from error
    if missing := {*_TRIAL, "label", "predicted"} - set(table):
        raise ValueError(f"{file} is no finished fold: it lacks {sorted(missing)}.")
    return table


def _is_complete(files: list[Path]) -> bool:
    """Say whether a pipeline has all folds of what was begun: subjects, or corpora."""
    parts = [re.fullmatch(r"(.+)_\d+of(\d+)\.parquet", file.name) for file in files]
    found = pd.Series([part[1] for part in parts if part]).value_counts()
    return all(found[part[1]] == int(part[2]) for part in parts if part)


def _read_records(root: Path) -> list[dict[str, Any]]:
    """Return what the command line kept beside its tables."""
    kinds: dict[str, type] = {
        "command": str,
        "settings": dict,
        "environment": dict,
        "finished": str,
    }
    records = []
    for file in sorted(root.glob("scores-*.json")):
        record = {"file": file.name, **_read_json(file, kinds)}
        record["settings"] = {k: _to_text(v) for k, v in record["settings"].items()}
        records.append(record)
    return records


def _to_text(value) -> str:
    """Return a setting as people write it."""
    if isinstance(value, dict):
        return ", ".join(f"{name} = {item}" for name, item in value.items())
    return "" if value is None else str(value)


def _describe_environment() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name: version(name) for name in _PACKAGES},
    }


def _now() -> str:
    return datetime.now().astimezone().isoformat(" ", "seconds")


# -- what the page shows -------------------------------------------------------


def _show(evaluation: _Evaluation) -> dict[str, Any]:
    """Return what the page's template is filled with."""
    run = evaluation.run
    scores = _score(evaluation.predictions)
    common = _keep_common(scores)
    tested = pd.concat(evaluation.predictions.values(), ignore_index=True)
    chances = {
        corpus: chance_level(rows["label"], rows[_TRIAL].astype(str))
        for corpus, rows in tested.groupby("corpus", sort=False)
    }
    return {
        "title": f"{' + '.join(map(str, run['corpora']))}, {run['protocol']}",
        "anchor": evaluation.folder.name,
        "settings": _list_settings(evaluation, tested),
        "notes": list(_list_notes(evaluation, scores, common)),
        "summary": _summarize(scores),
        "chances": [
            {"dataset": corpus, **_describe_chance(chance)}
            for corpus, chance in chances.items()
        ],
        "benchmark": _plot_scores(common, chances),
        "confusion": _plot_confusions(evaluation.predictions),
        "comparisons": _compare(common),
        "subjects": _tabulate_subjects(scores),
        "pipelines": evaluation.descriptions,
        "provenance": json.dumps(run, indent=2),
    }


def _score(predictions: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the scores by corpus, pipeline, subject and session."""
    rows = []
    for pipeline, table in predictions.items():
        by = table.groupby(["corpus", "subject", "session"], sort=True)
        for (corpus, subject, session), part in by:
            rows.append(
                {
                    "dataset": corpus,
                    "pipeline": pipeline,
                    "subject": str(subject),
                    "session": str(session),
                    "n_classes": table["label"].nunique(),
                    **score_predictions(part),
                }
            )
    return pd.DataFrame(rows).sort_values("dataset", kind="stable", ignore_index=True)


def _keep_common(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the recordings that all pipelines of their corpus were tested on."""
    n_pipelines = scores.groupby("dataset")["pipeline"].transform("nunique")
    n_here = scores.groupby(_RECORDING)["pipeline"].transform("nunique")
    return scores[n_here == n_pipelines]


def _list_settings(evaluation: _Evaluation, rows: pd.DataFrame) -> dict[str, str]:
    run = evaluation.run
    protocol = run["protocol"]
    known = PROTOCOLS.get(protocol)
    trials = rows[_TRIAL].drop_duplicates()
    n_windows = max(map(len, evaluation.predictions.values()))
    settings = {
        "protocol": f"{protocol}: {known.summary}" if known else protocol,
        "options": _to_text(run.get("options")),
        "classes": ", ".join(sorted(rows["label"].astype(str).unique())),
        **_parse_processing(_processing_of(run)),
        "tested": (
            f"{len(trials[['corpus', 'subject']].drop_duplicates())} subjects, "
            f"{len(trials[['corpus', 'subject', 'session']].drop_duplicates())} "
            f"recordings, {len(trials)} trials, {n_windows} windows"
        ),
        "seed": str(run.get("random_state")),
        "version": f"braindecode-emossl {run.get('version')}",
    }
    return {name: value for name, value in settings.items() if value}


def _processing_of(run: dict[str, Any]) -> str:
    return " ".join(map(str, run.get("processing", [])))


def _parse_processing(text: str) -> dict[str, str]:
    found = {name: re.search(regex, text) for name, regex in _SETTINGS.items()}
    settings = {
        name: match[1] + _UNITS.get(name, "") for name, match in found.items() if match
    }
    if settings.get("stride") == settings.get("window"):
        settings.pop("stride", None)
    return settings


def _list_notes(evaluation, scores, common) -> Iterator[str]:
    """Yield what a reader of the numbers must know."""
    for root in dict.fromkeys(re.findall(_ROOT, _processing_of(evaluation.run))):
        for file in sorted(Path(root).glob("replica-*.json")):
            yield (
                f"Synthetic signals: {root} is a replica of "
                f"{file.stem.removeprefix('replica-')} that this software wrote. The "
                "numbers say nothing about emotion."
            )
    if "threshold=median" in _processing_of(evaluation.run):
        yield (
            "The threshold of the ratings is each subject's median, so that labels "
            "depend on the ratings of test trials too."
        )
    if evaluation.unfinished:
        names = ", ".join(evaluation.unfinished)
        yield f"Not finished: some folds are missing of {names}."
    if len(common) < len(scores):
        yield (
            "Not all pipelines were tested on the same recordings. Plot and "
            "comparisons are of those that all have."
        )
    if evaluation.changed:
        yield (
            "Pipelines of one name but with other settings are told apart by the name "
            f"of their folder: {', '.join(evaluation.changed)}."
        )
    n_subjects = int(scores.groupby("dataset")["subject"].nunique().min())
    if n_subjects < _FEW_SUBJECTS:
        yield (
            f"With {n_subjects} subject{'s' * (n_subjects > 1)} no difference of two "
            "pipelines can have a p-value below 0.05."
        )


def _describe_chance(chance: ChanceLevel) -> dict[str, str]:
    values = chance._asdict()
    n_trials = values.pop("n_trials")
    return {"n_trials": str(n_trials), **{k: f"{v:.3f}" for k, v in values.items()}}


def _summarize(scores: pd.DataFrame) -> list[dict[str, str]]:
    """Return one row a corpus and pipeline."""
    tables = [summarize_results(scores, name) for name in ("accuracy", "score_trial")]
    others = ["balanced_accuracy", "f1_macro", "kappa"]
    # Kappa is not defined for a subject of one class, who is left out of its mean.
    of_subject = scores.groupby(["dataset", "pipeline", "subject"])[others].mean()
    means = of_subject.groupby(["dataset", "pipeline"]).mean()
    rows = []
    for windows, trials in zip(*(t.itertuples() for t in tables), strict=True):
        mean = means.loc[(windows.dataset, windows.pipeline)]
        rows.append(
            {
                "dataset": windows.dataset,
                "pipeline": windows.pipeline,
                "n_subjects": str(windows.n_subjects),
                "windows": _format(windows),
                "trials": _format(trials),
                **{name: f"{mean[name]:.3f}" for name in others},
            }
        )
    return rows


def _format(row) -> tuple[str, str]:
    """Return mean with standard deviation, and the interval."""
    if np.isnan(row.sd):
        return f"{row.mean:.3f}", ""
    return f"{row.mean:.3f} ± {row.sd:.3f}", f"{row.low:.3f} to {row.high:.3f}"


def _compare(scores: pd.DataFrame) -> list[dict[str, str]]:
    """Return one row a corpus and pair of pipelines, of windows and of trials."""
    rows = []
    for _, part in scores.groupby("dataset", sort=False):
        if min(part["pipeline"].nunique(), part["subject"].nunique()) < 2:
            continue
        for what, score in (("windows", "accuracy"), ("trials", "score_trial")):
            pairs = compare_pipelines(part, score=score, random_state=0)
            rows += [
                {
                    "dataset": pair.dataset,
                    "first": pair.pipeline_1,
                    "second": pair.pipeline_2,
                    "of": what,
                    "n_subjects": str(pair.n_subjects),
                    "difference": _sign(pair.difference, 3),
                    "effect_size": _sign(pair.effect_size, 2),
                    "p_value": f"{pair.p_value:.4f}",
                    "p_corrected": f"{pair.p_corrected:.4f}",
                }
                for pair in pairs.itertuples()
            ]
    return rows


def _sign(value: float, n_digits: int) -> str:
    """Return a number with its sign, but no minus before zero."""
    return "" if np.isnan(value) else f"{round(value, n_digits) + 0.0:+.{n_digits}f}"


def _tabulate_subjects(scores: pd.DataFrame) -> dict[str, Any]:
    """Return accuracy by windows and by trials, one row a recording."""
    pipelines = scores["pipeline"].unique().tolist()
    table = scores.set_index([*_RECORDING, "pipeline"])[["accuracy", "score_trial"]]
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
    """Return what sorts subject 2 before subject 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in key]


# -- plots ---------------------------------------------------------------------


def _plot_scores(scores: pd.DataFrame, chances: dict[str, ChanceLevel]) -> str:
    """Return the accuracy of each subject as an image, nothing if there is none."""
    if scores.empty:
        return ""
    n_slots = scores["pipeline"].nunique() * scores["dataset"].nunique()
    with _own_style():
        figure = Figure(figsize=(3.5 + max(2.0, 0.9 * n_slots), 4), layout="compressed")
        plot_benchmark(
            scores,
            score="accuracy",
            chance={name: chance.most_frequent for name, chance in chances.items()},
            random_state=0,
            ax=figure.subplots(),
        )
        return _as_image(figure)


def _plot_confusions(predictions: dict[str, pd.DataFrame]) -> list[dict[str, str]]:
    """Return an image for each corpus and pipeline."""
    images = []
    for pipeline, table in predictions.items():
        for corpus, rows in table.groupby("corpus", sort=False):
            labels = np.union1d(
                rows["label"].astype(str), rows["predicted"].astype(str)
            )
            side = 2.4 + 0.8 * len(labels)
            with _own_style():
                figure = Figure(figsize=(side + 0.6, side), layout="compressed")
                plot_confusion_matrix(
                    rows["label"].astype(str),
                    rows["predicted"].astype(str),
                    labels=labels.tolist(),
                    ax=figure.subplots(),
                )
                image = _as_image(figure)
            images.append({"title": f"{pipeline}, {corpus}", "image": image})
    return images


def _own_style():
    """Return a context for drawing: a name with dollar signs is no formula."""
    return mpl.rc_context(
        {**mpl.rcParamsDefault, "text.parse_math": False, "svg.hashsalt": "emossl"}
    )


def _as_image(figure: Figure) -> str:
    """Return a figure as the address of an image, in which nothing can run."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(file.getvalue()).decode()}"
