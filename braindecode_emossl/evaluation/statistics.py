"""Statistics of scores: comparisons of pipelines, chance and confidence intervals.

The unit is the subject: seeds, sessions and folds of a subject are averaged first, as
they are not independent of each other. The tables are those that MOABB's evaluations
and :func:`~braindecode_emossl.evaluation.evaluate` return.
"""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import gammaln
from sklearn.utils import check_consistent_length, check_random_state

from braindecode_emossl.checks import check_count
from braindecode_emossl.evaluation.controls import REFERENCE

__all__ = [
    "ChanceLevel",
    "chance_level",
    "compare_pipelines",
    "score_interval",
    "summarize_controls",
    "summarize_results",
]

# How many missing scores an error message lists; the others are only counted.
_N_LISTED = 5
# Scores are comparable only within these columns, where they exist.
_GROUPS = ("dataset", "protocol", "regime", "n_labeled_trials", "target_access")
# The groups that may lack a value, which is then a group of its own.
_OPTIONAL = ("n_labeled_trials", "target_access")


def compare_pipelines(
    results: pd.DataFrame,
    *,
    score: str = "score",
    n_permutations: int = 10000,
    correction: str | None = "holm",
    random_state=None,
) -> pd.DataFrame:
    r"""Compare pipelines in pairs, by permutation tests paired over subjects.

    If two pipelines were equally good, the sign of each subject's difference in score
    would be arbitrary. The p-value is the proportion of sign patterns whose mean
    difference is at least as far from zero as the observed one (two-sided). If there
    are at most ``n_permutations`` patterns of the n subjects, all :math:`2^n` are
    used; otherwise ``n_permutations`` patterns are drawn, and the observed one is
    added [1]_. With n subjects, no p-value is below :math:`2^{1-n}`.

    Parameters
    ----------
    results : pandas.DataFrame
        Scores with the columns ``dataset``, ``pipeline``, ``subject`` and ``score``,
        and optionally ``protocol``, ``regime``, ``session``, ``seed``,
        ``n_labeled_trials`` and ``target_access``. Rows of controls are left out.
    score : str, default="score"
        The column to compare.
    n_permutations : int, default=10000
        The number of sign patterns to draw if there are more than that.
    correction : {"holm"} or None, default="holm"
        Correction of the p-values for the number of pairs in a group: Holm's method
        [2]_, or none.
    random_state : int, RandomState instance or None, default=None
        Seed of the sign patterns.

    Returns
    -------
    pandas.DataFrame
        One row for each group and pair of pipelines, in order of appearance. A group
        holds the results that are comparable: those with the same data set, protocol,
        regime, number of labelled trials and target access, using the columns that
        exist. A group with a single pipeline has no row. Columns are those of the
        group, ``pipeline_1``, ``pipeline_2``, ``n_subjects``, ``difference`` (mean
        score of the first minus that of the second), its 95 % confidence interval over
        subjects from ``ci_low`` to ``ci_high`` (see :func:`score_interval`; it is not
        corrected for the number of pairs), ``effect_size`` (mean divided by standard
        deviation of the differences, with Hedges' correction for few subjects [3]_;
        NaN for two subjects, infinite if all differences are equal), ``p_value`` and
        ``p_corrected``.

    Raises
    ------
    ValueError
        If a data set and protocol has no group with two pipelines, if there are fewer
        than two subjects, if the pipelines of a group were not scored on the same
        subjects and sessions, or if the scores of a pipeline come from different
        ``train_corpora``.

    Notes
    -----
    Scores of a subject are averaged over seeds, sessions and folds before the test, so
    that more seeds do not count as more subjects. Pipelines may differ in their seeds.

    :func:`moabb.analysis.meta_analysis.compute_pvals_perm` answers another question:
    its p-values are one-sided, uncorrected, and kept below one so that they can be
    combined over data sets. It also compares sums exactly, so that ties are broken by
    the rounding of MOABB's single-precision scores. Here, sums that are equal in single
    precision are tied.

    References
    ----------
    .. [1] Phipson, B., & Smyth, G. K. (2010). Permutation P-values should never be
       zero: calculating exact P-values when permutations are randomly drawn.
       Statistical Applications in Genetics and Molecular Biology, 9(1).
       https://doi.org/10.2202/1544-6115.1585
    .. [2] Holm, S. (1979). A simple sequentially rejective multiple test procedure.
       Scandinavian Journal of Statistics, 6(2), 65-70.
    .. [3] Hedges, L. V. (1981). Distribution theory for Glass's estimator of effect
       size and related estimators. Journal of Educational Statistics, 6(2), 107-128.
       https://doi.org/10.3102/10769986006002107
    """
    if correction not in ("holm", None):
        raise ValueError(f"correction must be 'holm' or None, but got {correction!r}.")
    check_count("n_permutations", n_permutations)
    rng = check_random_state(random_state)
    results = leave_out_controls(results)
    by = _check_results(results, score)
    _check_comparable(results, by)
    comparisons = []
    for key, part in results.groupby(by, sort=False, observed=True, dropna=False):
        names = part["pipeline"].unique()
        if len(names) < 2:
            continue
        where = dict(zip(by, key, strict=True))
        _check_paired(part, where)
        scores = _average_subjects(part, score, ["pipeline"])
        scores = scores.pivot(index="subject", columns="pipeline", values=score)
        pairs = [
            where | _compare(scores[[first, second]], n_permutations, rng)
            for first, second in combinations(names, 2)
        ]
        p_values = np.array([pair["p_value"] for pair in pairs])
        p_values = _correct_by_holm(p_values) if correction else p_values
        comparisons += [
            pair | {"p_corrected": p} for pair, p in zip(pairs, p_values, strict=True)
        ]
    return _make_table(comparisons, results)


def summarize_results(results: pd.DataFrame, score: str = "score") -> pd.DataFrame:
    """Summarise the scores of each pipeline over subjects.

    Parameters
    ----------
    results : pandas.DataFrame
        Scores with the columns ``dataset``, ``pipeline``, ``subject`` and ``score``,
        and optionally ``protocol``, ``regime``, ``session``, ``seed``,
        ``n_labeled_trials`` and ``target_access``. Rows of controls are left out.
    score : str, default="score"
        The column to summarise.

    Returns
    -------
    pandas.DataFrame
        One row for each data set, protocol, regime, pipeline, number of labelled trials
        and target access, as far as these columns exist, in order of appearance:
        ``mean``, ``sd`` (the standard deviation over subjects), ``sd_seeds`` (that over
        seeds), ``n_subjects``, and the 95 % confidence interval of the mean from
        ``low`` to ``high``, see :func:`score_interval`. With one subject, ``sd``,
        ``low`` and ``high`` are NaN; with one seed, or without the column ``seed``,
        ``sd_seeds`` is NaN.

    Raises
    ------
    ValueError
        If a column is missing, a score is not finite, or the scores of a pipeline come
        from different ``train_corpora``.

    Notes
    -----
    Scores of a subject are averaged over seeds, sessions and folds first. ``sd_seeds``
    is the standard deviation of the mean over subjects that each seed gives. A subject
    that lacks a seed does not shift that seed's mean.
    """
    results = leave_out_controls(results)
    groups = _check_results(results, score)
    # The pipeline comes before the columns of its variants.
    by = [name for name in groups if name not in _OPTIONAL]
    by += ["pipeline", *(name for name in groups if name in _OPTIONAL)]
    rows = []
    for key, part in results.groupby(by, sort=False, observed=True, dropna=False):
        scores = _average_subjects(part, score, [])[score]
        few = len(scores) < 2
        low, high = (np.nan, np.nan) if few else score_interval(scores)
        summary = {
            "mean": scores.mean(),
            "sd": scores.std(),
            "sd_seeds": _deviate_over_seeds(part, score),
            "n_subjects": len(scores),
            "low": low,
            "high": high,
        }
        rows.append(dict(zip(by, key, strict=True)) | summary)
    return _make_table(rows, results)


def summarize_controls(results: pd.DataFrame, score: str = "score") -> pd.DataFrame:
    """Compare the scores of controls with those of the results, over subjects.

    Parameters
    ----------
    results : pandas.DataFrame
        Scores of results and controls, as :func:`evaluate` returns them: the columns
        of :func:`summarize_results`, ``control`` and ``control_part``.
    score : str, default="score"
        The column to compare; larger is better.

    Returns
    -------
    pandas.DataFrame
        One row for each pipeline and control, with the columns of
        :func:`summarize_results` that identify it, ``control`` and

        * ``mean``: mean score of the control over subjects;
        * ``reference``: mean score of the result on the same subjects, or of the
          reference that the control has itself, as ``"stimulus-seen"`` does;
        * ``difference``: ``mean`` minus ``reference``, with its 95 % confidence
          interval over subjects from ``ci_low`` to ``ci_high``;
        * ``n_subjects``: subjects that have both;
        * ``n_draws``: number of random draws; 0 without a null distribution;
        * ``p_value``: two-sided, of Wilcoxon's signed-rank test over subjects. For
          draws of a null distribution, such as those of ``"permuted-labels"``, it is
          the one-sided (k + 1) / (n + 1), if k of n draws reach the score of the result
          in their mean over all subjects and folds [1]_;
        * ``p_corrected``: corrected by Holm's method for the number of pipelines that
          have the same control in one group of comparable results.

        With one subject, the interval and Wilcoxon's p-value are NaN.

    Raises
    ------
    ValueError
        If a column is missing, a score is not finite, or there is no control.

    Notes
    -----
    A draw is tested as a whole, not fold by fold or subject by subject: all folds of a
    permutation are trained on much the same wrong labels and err in the same direction,
    so that scores under permutation spread more widely than the binomial distribution
    suggests. Draws that lack a subject are left out.

    References
    ----------
    .. [1] Phipson, B., & Smyth, G. K. (2010). Permutation P-values should never be
       zero: calculating exact P-values when permutations are randomly drawn.
       Statistical Applications in Genetics and Molecular Biology, 9(1).
       https://doi.org/10.2202/1544-6115.1585
    """
    if missing := {"control", "control_part"} - set(results):
        raise ValueError(
            f"results must have the columns {sorted(missing)}, as evaluate returns "
            f"them, but has {list(results)}."
        )
    results = results.assign(
        control=results["control"].fillna(""), control_part=_read_parts(results)
    )
    if not (results["control"] != "").any():
        raise ValueError(
            "results must have rows of controls: pass controls to evaluate."
        )
    groups = _check_results(results, score)
    by = [*groups, "pipeline"]
    rows = []
    for key, part in results.groupby(by, sort=False, observed=True, dropna=False):
        where = dict(zip(by, key, strict=True))
        for name, control in part.groupby("control", sort=False, observed=True):
            if name:
                plain = part[part["control"] == ""]
                compared = _compare_control(plain, control, score)
                rows.append(where | {"control": name} | compared)
    table = _make_table(rows, results)
    families = table.groupby([*groups, "control"], sort=False, dropna=False)
    corrected = families["p_value"].transform(lambda p: _correct_by_holm(p.to_numpy()))
    return table.assign(p_corrected=corrected)


def score_interval(
    scores, *, level: float = 0.95, method: str = "t", random_state=None
) -> tuple[float, float]:
    """Compute a confidence interval of the mean score over subjects.

    Parameters
    ----------
    scores : array-like, shape (n_subjects,)
        One score for each subject, not for each session, fold or window.
    level : float, default=0.95
        Probability that the interval covers the mean of the population.
    method : {"t", "bootstrap"}, default="t"
        Student's t distribution, or the bootstrap over subjects (bias-corrected and
        accelerated), which respects that scores are bounded but is too narrow for few
        subjects.
    random_state : int, RandomState instance or None, default=None
        Seed of the bootstrap.

    Returns
    -------
    low, high : float
        The interval. Its width is zero if all scores are equal.
    """
    scores = np.asarray(scores, dtype=float)
    if scores.ndim != 1 or len(scores) < 2 or not np.isfinite(scores).all():
        raise ValueError(
            "scores must be finite numbers of at least two subjects, of shape "
            f"(n_subjects,), but got the shape {scores.shape} and {scores.tolist()}."
        )
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, but got {level!r}.")
    if method not in ("t", "bootstrap"):
        raise ValueError(f"method must be 't' or 'bootstrap', but got {method!r}.")
    if np.ptp(scores) == 0:
        return float(scores[0]), float(scores[0])
    if method == "t":
        low, high = stats.t.interval(
            level, len(scores) - 1, loc=scores.mean(), scale=stats.sem(scores)
        )
    else:
        low, high = stats.bootstrap(
            (scores,),
            np.mean,
            confidence_level=level,
            random_state=check_random_state(random_state),
        ).confidence_interval
    return float(low), float(high)


class ChanceLevel(NamedTuple):
    """Accuracies that can be reached without the signals.

    Attributes
    ----------
    n_trials : int
        Number of trials.
    most_frequent : float
        Accuracy of always predicting the most frequent class.
    proportional : float
        Expected accuracy of guessing each class as often as it occurs.
    threshold : float
        Accuracy that guessing exceeds with at most the given probability.
    """

    n_trials: int
    most_frequent: float
    proportional: float
    threshold: float


def chance_level(y, trials, *, level: float = 0.05) -> ChanceLevel:
    """Compute the accuracy over trials that is reached by chance.

    Windows of a trial share one label and resemble each other, so a thousand windows of
    ten trials are ten independent predictions, not a thousand. The rows are therefore
    reduced to trials, and the trial of each row must be given.

    Parameters
    ----------
    y : array-like, shape (n_windows,)
        Label of each row.
    trials : array-like, shape (n_windows,) or (n_windows, n_columns)
        Trial of each row. Rows of several recordings need columns for subject, session
        and trial, or identifiers that name all three.
    level : float, default=0.05
        The largest probability with which guessing may exceed the threshold.

    Returns
    -------
    ChanceLevel
        Number of trials, accuracies of two ways of guessing, and the threshold.

    Raises
    ------
    ValueError
        If rows of one trial have several labels, or if a label or trial is missing.

    Notes
    -----
    The threshold is a quantile of the binomial distribution [1]_. Its parameters are
    the number of trials and, as a guess may use the frequencies of the classes, the
    accuracy ``most_frequent``. For balanced classes the threshold equals that of
    :func:`moabb.analysis.chance_level.adjusted_chance_level`, which assumes balanced
    classes and which MOABB calls with the number of windows. Compare the threshold with
    accuracies over trials: an accuracy over windows weights trials by their length.

    References
    ----------
    .. [1] Combrisson, E., & Jerbi, K. (2015). Exceeding chance level by chance: The
       caveat of theoretical chance levels in brain signal classification and
       statistical assessment of decoding accuracy. Journal of Neuroscience Methods,
       250, 126-136.
       https://doi.org/10.1016/j.jneumeth.2015.01.010
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, but got {level!r}.")
    label = _find_trial_labels(y, trials)
    n_trials = len(label)
    shares = label.value_counts(normalize=True).to_numpy()
    most_frequent = float(shares.max())
    return ChanceLevel(
        n_trials=n_trials,
        most_frequent=most_frequent,
        proportional=float((shares**2).sum()),
        threshold=float(stats.binom.isf(level, n_trials, most_frequent) / n_trials),
    )


def _find_trial_labels(y, trials) -> pd.Series:
    """Return one label for each trial."""
    check_consistent_length(y, trials)
    table = pd.DataFrame(np.asarray(trials, dtype=object)).assign(label=list(y))
    if table.empty or table.isna().any(axis=None):
        raise ValueError(
            f"Every row must have a label and a trial, but "
            f"{table.isna().any(axis=1).sum()} of {len(table)} rows lack one."
        )
    table = table.drop_duplicates()
    ids = table.columns.drop("label").tolist()
    if (mixed := table.duplicated(ids, keep=False)).any():
        trial = table.loc[mixed, ids].iloc[0]
        labels = table.loc[(table[ids] == trial).all(axis=1), "label"]
        raise ValueError(
            f"Every trial must have one label, but trial {trial.tolist()} has "
            f"{labels.tolist()}. Identifiers of rows of several recordings must name "
            f"subject and session too."
        )
    return table["label"]


def leave_out_controls(results: pd.DataFrame) -> pd.DataFrame:
    """Return the results without the rows of controls.

    Parameters
    ----------
    results : pandas.DataFrame
        Scores, with the column ``control`` if there are any.

    Returns
    -------
    pandas.DataFrame
        The rows of results.
    """
    if "control" not in results:
        return results
    return results[results["control"].isna() | (results["control"] == "")]


def _read_parts(results: pd.DataFrame) -> pd.Series:
    """Return the parts of controls as text, also if a file gave numbers."""
    parts = results["control_part"]
    if pd.api.types.is_numeric_dtype(parts):
        parts = parts.astype("Int64")
    return parts.astype("string").fillna("").astype(object)


def _compare_control(plain, control, score: str) -> dict:
    """Compare a control with its own reference, else with the result."""
    is_reference = control["control_part"] == REFERENCE
    if is_reference.any():
        plain, control = control[is_reference], control[~is_reference]
    reference = _average_subjects(plain, score, []).set_index("subject")[score]
    draws = _average_subjects(control, score, ["control_part"])
    draws = draws.pivot(index="subject", columns="control_part", values=score)
    draws = draws.loc[draws.index.isin(reference.index)].dropna(axis="columns")
    reference = reference[draws.index]
    differences = draws.mean(axis="columns") - reference
    differences = differences.dropna()  # empty if every draw lacks a subject
    few = len(differences) < 2
    low, high = (np.nan, np.nan) if few else score_interval(differences)
    is_null = bool(len(draws.columns)) and draws.columns.str.isdecimal().all()
    if is_null and len(differences):
        p_value = _compare_with_null(draws.mean().to_numpy(), reference.mean())
    else:
        p_value = np.nan if few else _rank_signs(differences.to_numpy())
    return {
        "mean": draws.mean().mean(),
        "reference": reference.mean(),
        "difference": differences.mean(),
        "ci_low": low,
        "ci_high": high,
        "n_subjects": len(differences),
        "n_draws": draws.shape[1] if is_null else 0,
        "p_value": p_value,
    }


def _compare_with_null(null: np.ndarray, observed: float) -> float:
    """Return the proportion of draws, the observed one among them, that reach it."""
    rounding = np.finfo(np.float32).eps * max(abs(observed), np.abs(null).max())
    n_reached = np.count_nonzero(null >= observed - rounding)
    return (n_reached + 1) / (len(null) + 1)


def _rank_signs(differences: np.ndarray) -> float:
    """Return the two-sided p-value of Wilcoxon's test; 1 if nothing differs."""
    rounded = np.round(differences, 9)  # equal differences are tied
    if not rounded.any():
        return 1.0
    return float(stats.wilcoxon(rounded, zero_method="wilcox").pvalue)


def _check_results(results: pd.DataFrame, score: str) -> list[str]:
    """Check a table of scores, and return the columns of comparable results."""
    by = [name for name in _GROUPS if name in results or name == "dataset"]
    keys = [*(name for name in by if name not in _OPTIONAL), "pipeline", "subject"]
    if missing := [name for name in [*keys, score] if name not in results]:
        raise ValueError(
            f"results must have the columns {[*keys, score]}, but lacks {missing}; it "
            f"has {list(results)}."
        )
    if results.empty:
        raise ValueError("results must have at least one row, but is empty.")
    whole = results[keys].notna().all(axis=1) & np.isfinite(
        results[score].astype(float)
    )
    if not whole.all():
        first = results.loc[~whole, [*keys, score]].iloc[0].to_dict()
        raise ValueError(
            f"Every row of results must name {', '.join(keys)} and have a finite "
            f"{score!r}, but {(~whole).sum()} of {len(results)} do not; the first is "
            f"{first}."
        )
    if "train_corpora" in results:
        _check_training_sets(results, by)
    return by


def _check_training_sets(results: pd.DataFrame, by: list[str]) -> None:
    """Refuse a pipeline whose scores come from different training corpora."""
    corpora = results["train_corpora"].map(
        lambda names: "+".join(sorted(str(names).split("+")))
    )
    groups = results.assign(train_corpora=corpora).groupby(
        [*by, "pipeline"], observed=True, dropna=False
    )
    trained = groups["train_corpora"].unique()
    if (mixed := trained[trained.map(len) > 1]).size:
        where = dict(zip(trained.index.names, mixed.index[0], strict=True))
        raise ValueError(
            f"Scores of a pipeline must come from the same training corpora, but those "
            f"of {where} come from {sorted(mixed.iloc[0])}. Select one by "
            "the column 'train_corpora', or give the pipeline another name for each."
        )


def _check_comparable(results: pd.DataFrame, by: list[str]) -> None:
    """Refuse a data set and protocol without two comparable pipelines."""
    outer = [name for name in by if name not in _OPTIONAL]
    inner = [name for name in by if name in _OPTIONAL]
    same = f" with the same {' and '.join(inner)}" if inner else ""
    for key, part in results.groupby(outer, sort=False, observed=True):
        groups = part.groupby(by, sort=False, observed=True, dropna=False)
        if groups["pipeline"].nunique().max() < 2:
            where = dict(zip(outer, key, strict=True))
            found = groups["pipeline"].unique().explode().reset_index()
            found = found[["pipeline", *inner]].to_dict("records")
            raise ValueError(
                f"At least two pipelines{same} are needed for a comparison, but "
                f"{where} has only {found}."
            )


def _check_paired(part: pd.DataFrame, where: dict) -> None:
    """Refuse pipelines that were not scored on the same subjects and sessions."""
    units = [name for name in ("subject", "session") if name in part]
    counts = part.groupby([*units, "pipeline"], observed=True, dropna=False).size()
    counts = counts.unstack("pipeline", fill_value=0)
    if "seed" in part:  # pipelines may differ in their number of seeds
        counts /= part.groupby("pipeline", observed=True)["seed"].nunique(dropna=False)
    lacking = counts.lt(counts.max(axis=1), axis=0).stack()
    if lacking.any():
        lacks = [
            f"{pipeline!r} lacks scores of "
            + ", ".join(f"{u} {v!r}" for u, v in zip(units, unit, strict=True))
            for *unit, pipeline in lacking[lacking].index
        ]
        raise ValueError(
            f"Pipelines must be scored on the same subjects, but in {where} pipeline "
            f"{'; '.join(lacks[:_N_LISTED])} ({len(lacks)} in all)."
        )
    if part["subject"].nunique() < 2:
        raise ValueError(
            f"At least two subjects are needed for a comparison, but {where} has one."
        )


def _average_subjects(results: pd.DataFrame, score: str, by: list[str]):
    """Average the scores of each subject over seeds, sessions and folds."""
    scores = results.groupby([*by, "subject"], sort=False, observed=True)[score]
    return scores.mean().astype(float).reset_index()


def _deviate_over_seeds(part: pd.DataFrame, score: str) -> float:
    """Return the standard deviation over seeds of the mean over subjects."""
    if "seed" not in part or part["seed"].nunique(dropna=False) < 2:
        return np.nan
    by = ["subject", "seed"]
    scores = part.groupby(by, observed=True, dropna=False)[score].mean().astype(float)
    scores = scores.unstack("seed")  # (n_subjects, n_seeds)
    # Less the mean of the subject, so that a missing subject does not shift a seed.
    return float(scores.sub(scores.mean(axis=1), axis=0).mean().std())


def _make_table(rows: list[dict], results: pd.DataFrame) -> pd.DataFrame:
    """Return a table in which numbers of labelled trials keep their type."""
    table = pd.DataFrame(rows)
    kinds = {name: results[name].dtype for name in _OPTIONAL if name in results}
    return table.astype(kinds)


def _compare(scores: pd.DataFrame, n_permutations: int, rng) -> dict:
    """Compare the two columns of scores, of shape (n_subjects, 2)."""
    first, second = scores.columns
    differences = (scores[first] - scores[second]).to_numpy()
    # A score may be wrong by half a unit in the last place of single precision.
    rounding = np.finfo(np.float32).eps * np.abs(scores.to_numpy()).max()
    low, high = score_interval(differences)
    return {
        "pipeline_1": first,
        "pipeline_2": second,
        "n_subjects": len(scores),
        "difference": differences.mean(),
        "ci_low": low,
        "ci_high": high,
        "effect_size": _effect_size(differences, rounding),
        "p_value": _flip_signs(differences, rounding, n_permutations, rng),
    }


def _flip_signs(differences, rounding, n_permutations, rng) -> float:
    """Return the two-sided p-value of the mean difference under flips of signs."""
    n = len(differences)
    is_exact = 2**n <= n_permutations
    if is_exact:
        flips = np.arange(2**n)[:, None] >> np.arange(n) & 1  # (2**n, n)
    else:
        flips = rng.randint(2, size=(n_permutations, n))
    means = np.abs((1 - 2 * flips) @ differences) / n
    observed = np.abs(differences.mean())
    # Twice, as both means may be rounded.
    n_extreme = np.count_nonzero(means >= observed - 2 * rounding)
    return n_extreme / 2**n if is_exact else (n_extreme + 1) / (n_permutations + 1)


def _effect_size(differences, rounding) -> float:
    """Return the standardised mean difference with Hedges' exact correction."""
    mean = differences.mean()
    if np.ptp(differences) <= 2 * rounding:
        return 0.0 if abs(mean) <= rounding else float(np.copysign(np.inf, mean))
    freedom = len(differences) - 1
    if freedom < 2:
        return np.nan  # no unbiased estimate exists
    log_correction = gammaln(freedom / 2) - gammaln((freedom - 1) / 2)
    correction = np.exp(log_correction) / np.sqrt(freedom / 2)
    return float(correction * mean / differences.std(ddof=1))


def _correct_by_holm(p_values: np.ndarray) -> np.ndarray:
    """Multiply the smallest p-value by their number n, the next by n - 1, and so on."""
    order = np.argsort(p_values)  # missing ones last, which do not count
    factors = np.isfinite(p_values).sum() - np.arange(len(p_values))
    corrected = np.empty_like(p_values)
    corrected[order] = np.maximum.accumulate(factors * p_values[order]).clip(max=1)
    return corrected
