"""Error rates, accuracies and word times of groups of recordings, with bootstrap intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluation.metrics.word_times import LIMITS_MS
from pipelines.evaluation.protocol import Protocol
from pipelines.evaluation.scoring import FIELDS, ScoreTable

RESAMPLES = 1000
PERCENTILES = (2.5, 97.5)
Numbers = NDArray[np.float64]

_AT = {name: place for place, name in enumerate(FIELDS)}
_ERRORS = ("substitutions", "deletions", "insertions")
_REFERENCE = ("hits", "substitutions", "deletions")
# Figure: fields of the numerator, fields of the denominator, factor of the denominator.
_RATIOS: dict[str, tuple[tuple[str, ...], tuple[str, ...], float]] = {
    **{
        name: (
            tuple(f"{unit}_{kind}" for kind in _ERRORS),
            tuple(f"{unit}_{kind}" for kind in _REFERENCE),
            1.0,
        )
        for name, unit in (("wer", "word"), ("cer", "character"), ("error_rate", "unit"))
    },
    "language_accuracy": (("language_right",), ("language_known",), 1.0),
    # A word has two times.
    "aas_ms": (("shift_ms",), ("matched_words",), 2.0),
    **{f"within_{limit}_ms": ((f"within_{limit}",), ("matched_words",), 1.0) for limit in LIMITS_MS},
}
_WITH_INTERVAL = ("wer", "cer", "error_rate", "aas_ms")


def figures(numbers: Numbers, seed: int) -> tuple[dict[str, Any], Numbers]:
    """The figures of a group of recordings.

    Rates are sums over all recordings divided by sums, so that long recordings count more.

    Args:
        numbers: float64 [recordings, FIELDS].
        seed: of the bootstrap.

    Returns:
        The figures, and the bootstrap's values of `error_rate`, float64 [RESAMPLES].
    """
    totals = numbers.sum(axis=0)
    errors = numbers[:, [_AT[f"unit_{kind}"] for kind in _ERRORS]].sum(axis=1)
    result: dict[str, Any] = {"recordings": len(numbers), "exact": int((errors == 0).sum())}
    for name, unit in (("words", "word"), ("characters", "character")):
        result[name] = _whole(totals, [f"{unit}_{kind}" for kind in _REFERENCE])
    for kind in _ERRORS:
        result[kind] = _whole(totals, [f"unit_{kind}"])
    result["units"] = _whole(totals, [f"unit_{kind}" for kind in _REFERENCE])
    resampled = resampled_totals(numbers, seed)
    for name in _RATIOS:
        result[name] = _number(ratio(totals[None, :], name)[0])
        if name in _WITH_INTERVAL:
            # One recording has no spread to learn from.
            several = len(numbers) > 1
            result[f"{name}_interval"] = interval(ratio(resampled, name)) if several else None
    result["languages_judged"] = _whole(totals, ["language_known"])
    result["timed_words"] = _whole(totals, ["timed_words"])
    result["matched_words"] = _whole(totals, ["matched_words"])
    return result, ratio(resampled, "error_rate")


def resampled_totals(numbers: Numbers, seed: int) -> Numbers:
    """Totals of RESAMPLES samples of as many recordings, drawn with replacement; float64 [RESAMPLES, FIELDS].

    Source: Bisani and Ney, Bootstrap estimates for confidence intervals in ASR performance evaluation (2004).
    """
    random, count = np.random.default_rng(seed), len(numbers)
    totals = np.empty((RESAMPLES, numbers.shape[1]))
    for sample in range(RESAMPLES):
        times = np.bincount(random.integers(0, count, count), minlength=count)
        totals[sample] = times @ numbers
    return totals


def ratio(totals: Numbers, name: str) -> Numbers:
    """One of the ratios for each row of totals; NaN where its denominator is 0."""
    above, below, factor = _RATIOS[name]
    numerator = totals[:, [_AT[field] for field in above]].sum(axis=1)
    denominator = factor * totals[:, [_AT[field] for field in below]].sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(denominator > 0, numerator / denominator, np.nan)


def interval(values: Numbers) -> list[float] | None:
    """The middle 95 % of bootstrap values; None if there are none."""
    known = values[~np.isnan(values)]
    return [float(value) for value in np.percentile(known, PERCENTILES)] if len(known) else None


def tables(
    scores: ScoreTable, columns: list[str], protocol: Protocol, seed: int
) -> tuple[dict[str, Any], dict[str, Any], dict[str, dict[str, Any]]]:
    """The figures of all recordings, the macro average over languages, and the figures of each group.

    Args:
        scores: of all recordings; `language` is one of its columns.
        columns: of the groups, `language` among them.
        protocol: the metric of each language.
        seed: of the bootstrap.
    """
    matrix = scores.matrix()
    total, _ = figures(matrix, seed)
    by: dict[str, dict[str, Any]] = {}
    rates, samples = [], []
    for column in columns:
        by[column] = {}
        for name, mask in scores.groups(column).items():
            part, resampled = figures(matrix[mask], seed)
            if column == "language":
                part["metric"] = protocol.metric(name)
                if part["error_rate"] is not None and name != "-":
                    rates.append(part["error_rate"])
                    samples.append(resampled)
            by[column][name] = part
    macro = {
        "languages": len(rates),
        "error_rate": float(np.mean(rates)) if rates else None,
        "error_rate_interval": interval(np.mean(samples, axis=0)) if 0 < len(samples) < len(scores) else None,
    }
    return total, macro, by


def _whole(totals: Numbers, fields: list[str]) -> int:
    return int(sum(totals[_AT[field]] for field in fields))


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
