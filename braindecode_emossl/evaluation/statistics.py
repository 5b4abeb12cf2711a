"""Statistics of scores: comparisons of pipelines, chance and confidence intervals.

The unit is the subject: sessions and folds of a subject are averaged first, as they are
not independent of each other. The tables are those that MOABB's evaluations return.
"""

from __future__ import annotations

from itertools import combinations
from numbers import Integral
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import gammaln
from sklearn.utils import check_consistent_length, check_random_state

__all__ = [
    "ChanceLevel",
    "chance_level",
    "compare_pipelines",
    "score_interval",
    "summarize_results",
]

# How many missing scores an error message lists before it counts the others.
_N_LISTED = 5


def compare_pipelines(
    results: pd.DataFrame,
    *,
    score: str = "score",
    n_permutations: int = 10000,
    correction: str | None = "holm",
    random_state=None,
) -> pd.DataFrame:
    r"""Compare pipelines pair by pair, by permutation tests paired over subjects.

    If two pipelines were equally good, each subject's difference of scores could as
    well have the other sign. The p-value is the share of sign patterns whose mean
    difference is at least as far from zero as the observed one (two-sided). All
    :math:`2^n` patterns of the n subjects are taken if they are at most
    ``n_permutations``; else so many are drawn, and the observed one is counted too
    [1]_. The least p-value that n subjects can give is :math:`2^{1-n}`.

    Parameters
    ----------
    results : pandas.DataFrame
        Scores with the columns ``dataset``, ``pipeline``, ``subject``, that of the
        score and, if there are several, ``session`` and ``protocol``.
    score : str, default="score"
        The column to compare.
    n_permutations : int, default=10000
        How many sign patterns to draw where all of them are more.
    correction : {"holm"} or None, default="holm"
        How p-values are corrected for the number of pairs of a data set and protocol:
        by Holm's method [2]_, or not.
    random_state : int, RandomState instance or None, default=None
        Draws the sign patterns.

    Returns
    -------
    pandas.DataFrame
        One row for each data set, protocol if there is such a column, and pair of
        pipelines, in order of appearance: ``pipeline_1``, ``pipeline_2``,
        ``n_subjects``, ``difference`` (mean score of the first less that of the
        second), ``effect_size`` (mean over standard deviation of the differences, with
        Hedges' correction for few subjects [3]_; NaN for two subjects, infinite if all
        differences are the same), ``p_value`` and ``p_corrected``.

    Raises
    ------
    ValueError
        If there are fewer than two pipelines or subjects, or if the pipelines were not
        scored on the same subjects and sessions.

    Notes
    -----
    :func:`moabb.analysis.meta_analysis.compute_pvals_perm` answers another question:
    its p-values are one-sided, uncorrected, and kept below one so that they can be
    combined over data sets. It also compares sums exactly, so that between equal sums
    the rounding of MOABB's single-precision scores decides. Here sums are equal if
    they are so in single precision.

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
    if not isinstance(n_permutations, Integral) or n_permutations < 1:
        raise ValueError(
            f"n_permutations must be an integer from 1, but got {n_permutations!r}."
        )
    rng = check_random_state(random_state)
    by = _check_results(results, score)
    comparisons = []
    for key, part in results.groupby(by, sort=False, observed=True):
        where = dict(zip(by, key, strict=True))
        _check_paired(part, where)
        scores = _average_sessions(part, score, ["pipeline"]).unstack("pipeline")
        pairs = [
            where | _compare(scores[[first, second]], n_permutations, rng)
            for first, second in combinations(part["pipeline"].unique(), 2)
        ]
        p_values = np.array([pair["p_value"] for pair in pairs])
        p_values = _correct_by_holm(p_values) if correction else p_values
        comparisons += [
            pair | {"p_corrected": p} for pair, p in zip(pairs, p_values, strict=True)
        ]
    return pd.DataFrame(comparisons)


def summarize_results(results: pd.DataFrame, score: str = "score") -> pd.DataFrame:
    """Summarise the scores of each pipeline over subjects.

    Parameters
    ----------
    results : pandas.DataFrame
        Scores with the columns ``dataset``, ``pipeline``, ``subject``, that of the
        score and, if there are several, ``session`` and ``protocol``.
    score : str, default="score"
        The column to summarise.

    Returns
    -------
    pandas.DataFrame
        One row for each data set, protocol if there is such a column, and pipeline, in
        order of appearance: ``mean``, ``sd``, ``n_subjects`` and the 95 % confidence
        interval of the mean from ``low`` to ``high``, see :func:`score_interval`. With
        one subject, ``sd``, ``low`` and ``high`` are NaN.
    """
    by = [*_check_results(results, score), "pipeline"]
    rows = []
    averages = _average_sessions(results, score, by)
    for key, scores in averages.groupby(level=by, sort=False):
        few = len(scores) < 2
        low, high = (np.nan, np.nan) if few else score_interval(scores)
        summary = {
            "mean": scores.mean(),
            "sd": scores.std(),
            "n_subjects": len(scores),
            "low": low,
            "high": high,
        }
        rows.append(dict(zip(by, key, strict=True)) | summary)
    return pd.DataFrame(rows)


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
        By Student's distribution, or by resampling subjects (bias-corrected and
        accelerated), which respects that scores are bounded but is too narrow for few
        subjects.
    random_state : int, RandomState instance or None, default=None
        Draws the samples of the bootstrap.

    Returns
    -------
    low, high : float
        The interval. It has no width if all scores are the same.
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
    """Accuracies that need no knowledge of the signals.

    Attributes
    ----------
    n_trials : int
        Number of trials.
    most_frequent : float
        Accuracy of always answering with the most frequent class.
    proportional : float
        Expected accuracy of guessing each class as often as it occurs.
    threshold : float
        Accuracy that guessing exceeds at most with the probability asked for.
    """

    n_trials: int
    most_frequent: float
    proportional: float
    threshold: float


def chance_level(y, trials, *, level: float = 0.05) -> ChanceLevel:
    """Compute what accuracy over trials is reached by chance.

    Windows of a trial have one label and resemble each other, so a thousand windows of
    ten trials are ten independent answers, not a thousand. The rows are therefore
    reduced to trials here, and the trial of each row must be given.

    Parameters
    ----------
    y : array-like, shape (n_windows,)
        Label of each row.
    trials : array-like, shape (n_windows,) or (n_windows, n_columns)
        Trial of each row. Rows of several recordings need columns for subject, session
        and trial, or identifiers that name all three.
    level : float, default=0.05
        Probability at most which guessing exceeds the threshold.

    Returns
    -------
    ChanceLevel
        Number of trials, accuracies of two ways to guess, and the threshold.

    Raises
    ------
    ValueError
        If rows of one trial have several labels, or if a label or trial is missing.

    Notes
    -----
    The threshold is the quantile of the binomial distribution [1]_ with the number of
    trials and, as guesses may know how frequent a class is, the accuracy
    ``most_frequent``. For balanced classes that is
    :func:`moabb.analysis.chance_level.adjusted_chance_level`, which assumes them, and
    which MOABB calls with the number of windows. Compare the threshold with accuracies
    over trials; where trials differ in length, that over windows weights them by it.

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


def _check_results(results: pd.DataFrame, score: str) -> list[str]:
    """Refuse a table that averages would be wrong of; return what to group it by."""
    by = ["dataset", *(["protocol"] if "protocol" in results else [])]
    keys = [*by, "pipeline", "subject"]
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
    return by


def _check_paired(part: pd.DataFrame, where: dict) -> None:
    """Refuse pipelines that were not scored on the same subjects and sessions."""
    names = part["pipeline"].unique().tolist()
    if len(names) < 2:
        raise ValueError(
            f"At least two pipelines are needed for a comparison, but {where} has only "
            f"{names}."
        )
    units = [name for name in ("subject", "session") if name in part]
    counts = part.groupby([*units, "pipeline"], observed=True, dropna=False).size()
    counts = counts.unstack("pipeline", fill_value=0)
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


def _average_sessions(results: pd.DataFrame, score: str, by: list[str]) -> pd.Series:
    """Average the scores of each subject."""
    keys = [*by, "subject"]
    return results.groupby(keys, sort=False, observed=True)[score].mean().astype(float)


def _compare(scores: pd.DataFrame, n_permutations: int, rng) -> dict:
    """Compare the two columns of scores (n_subjects, 2)."""
    first, second = scores.columns
    differences = (scores[first] - scores[second]).to_numpy()
    # Each score may be off by half a unit in the last place of single precision.
    rounding = np.finfo(np.float32).eps * np.abs(scores.to_numpy()).max()
    return {
        "pipeline_1": first,
        "pipeline_2": second,
        "n_subjects": len(scores),
        "difference": differences.mean(),
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
    # Twice: both means may be off by the rounding.
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
    """Multiply the least p-value by their number, the next by one less, and so on."""
    order = np.argsort(p_values)
    factors = np.arange(len(p_values), 0, -1)
    corrected = np.empty_like(p_values)
    corrected[order] = np.maximum.accumulate(factors * p_values[order]).clip(max=1)
    return corrected
