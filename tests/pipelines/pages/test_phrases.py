"""Durations, amounts, shares and money as people read them."""

from __future__ import annotations

import pytest

from pipelines.pages import phrases


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "unknown"),
        (0, "0 s"),
        (0.44, "0.4 s"),
        (9.97, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (724, "12 min 4 s"),
        (3599.7, "1 h"),
        (3660, "1 h 1 min"),
        (86399, "1 d"),
        (90061, "1 d 1 h"),
        (100 * 86400, "100 d"),
    ],
)
def test_a_duration_has_two_units_at_most(seconds: float | None, said: str) -> None:
    assert phrases.duration(seconds) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0.0 s"), (41.26, "41.3 s"), (282, "4.7 min"), (44640, "12.4 h"), (3.6e8, "100,000 h")],
)
def test_an_amount_of_audio_is_never_zero_hours(seconds: float, said: str) -> None:
    assert phrases.amount(seconds) == said


@pytest.mark.parametrize(
    ("share", "said"), [(None, "unknown"), (0, "0 %"), (0.0003, "<0.1 %"), (0.0312, "3.1 %"), (0.973, "97 %")]
)
def test_small_shares_keep_a_decimal(share: float | None, said: str) -> None:
    assert phrases.percent(share) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [(0, "0.00 EUR"), (1234.5, "1,234.50 EUR"), (0.0061, "0.0061 EUR"), (1e-7, "under 0.0001 EUR")],
)
def test_fractions_of_a_cent_are_not_nothing(value: float, said: str) -> None:
    assert phrases.money(value, "EUR") == said


def test_moments_and_speeds() -> None:
    assert phrases.moment("2026-11-27T22:10:08+00:00") == "2026-11-27 22:10:08"
    assert (phrases.moment(None), phrases.moment("soon")) == ("not finished", "soon")
    assert [phrases.speed(value) for value in (None, 2.84, 3.0, 3363.4)] == [
        "unknown",
        "2.8x",
        "3x",
        "3,363x",
    ]
