"""Rates of groups and their bootstrap intervals, against numbers computed by hand."""

import numpy as np
import pytest

from pipelines.evaluation.metrics.edits import Edits
from pipelines.evaluation.metrics.word_times import Shifts
from pipelines.evaluation.protocol import Protocol
from pipelines.evaluation.scoring import Score, ScoreTable
from pipelines.evaluation.summary import RESAMPLES, figures, interval, ratio, resampled_totals, tables


def scored(
    hits: int, errors: int, language: str = "en", right: bool | None = None, shifts: Shifts | None = None
) -> Score:
    """A recording with this many right and substituted words."""
    edits = Edits(hits, errors, 0, 0)
    return Score(language, edits, Edits(), edits, right, shifts or Shifts(), [], [], [], " ")


def table_of(*scores: Score) -> ScoreTable:
    table = ScoreTable(["language"])
    for score in scores:
        table.add(score, {"language": score.language or "-"})
    return table


def test_long_recordings_count_more() -> None:
    part, _ = figures(table_of(scored(9, 1), scored(0, 2)).matrix(), seed=0)
    assert part["wer"] == pytest.approx(3 / 12)
    assert (part["recordings"], part["exact"], part["words"]) == (2, 0, 12)


def test_equal_recordings_have_an_interval_of_no_width() -> None:
    part, _ = figures(table_of(*[scored(3, 1)] * 5).matrix(), seed=0)
    assert part["wer_interval"] == [0.25, 0.25]


def test_one_recording_has_no_interval() -> None:
    part, _ = figures(table_of(scored(3, 1)).matrix(), seed=0)
    assert (part["wer"], part["wer_interval"]) == (0.25, None)


def test_the_interval_is_that_of_the_binomial_distribution() -> None:
    # 400 recordings of one word, 100 wrong: the standard error is sqrt(0.25 * 0.75 / 400) = 0.0217.
    part, _ = figures(table_of(*[scored(0, 1)] * 100, *[scored(1, 0)] * 300).matrix(), seed=0)
    low, high = part["wer_interval"]
    assert low == pytest.approx(0.25 - 1.96 * 0.0217, abs=0.006)
    assert high == pytest.approx(0.25 + 1.96 * 0.0217, abs=0.006)


def test_every_sample_has_as_many_recordings_as_there_are() -> None:
    totals = resampled_totals(np.ones((7, 3)), seed=5)
    assert totals.shape == (RESAMPLES, 3)
    assert (totals == 7).all()


def test_a_rate_without_a_reference_is_missing() -> None:
    part, _ = figures(table_of(scored(0, 0), scored(0, 0)).matrix(), seed=0)
    assert (part["wer"], part["wer_interval"], part["language_accuracy"], part["aas_ms"]) == (None,) * 4
    assert interval(np.array([np.nan])) is None


def test_language_accuracy_and_word_times_are_averages() -> None:
    shifts = Shifts(words=3, matched=2, shift_ms=120.0, within=(1, 1, 2))
    part, _ = figures(
        table_of(scored(1, 0, right=True, shifts=shifts), scored(1, 0, right=False)).matrix(), 0
    )
    assert part["language_accuracy"] == 0.5
    assert part["aas_ms"] == 120 / (2 * 2)
    assert (part["within_50_ms"], part["within_200_ms"]) == (0.5, 1.0)
    assert (part["timed_words"], part["matched_words"]) == (3, 2)


def test_groups_are_sorted_by_size_and_no_value_comes_last() -> None:
    table = table_of(*[scored(1, 0, "")] * 3, scored(1, 0, "de"), *[scored(1, 0, "en")] * 2)
    assert list(table.groups("language")) == ["en", "de", "-"]


def test_the_macro_average_leaves_out_recordings_without_a_language() -> None:
    table = table_of(scored(1, 1, "de"), scored(3, 1, "en"), scored(0, 4, ""))
    _, macro, by = tables(table, ["language"], Protocol(), seed=0)
    assert (macro["languages"], macro["error_rate"]) == (2, pytest.approx((0.5 + 0.25) / 2))
    assert by["language"]["de"]["metric"] == "WER"


def test_ratios_are_taken_row_by_row() -> None:
    matrix = table_of(scored(1, 1), scored(0, 0), scored(4, 1)).matrix()
    assert ratio(matrix, "wer") == pytest.approx([0.5, np.nan, 0.2], nan_ok=True)
