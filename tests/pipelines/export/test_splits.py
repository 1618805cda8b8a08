"""Parts of a training set: no leak, close to the shares, the same every time."""

from __future__ import annotations

import random

import pytest

from pipelines.export.datasets.splits import components, split, within_hours

SHARES = {"train": 0.8, "dev": 0.1, "test": 0.1}


def make(count: int, speakers: int) -> tuple[list[str], list[float], list[tuple[str, ...]]]:
    rng = random.Random(count)
    ids = [f"r{number}" for number in range(count)]
    keys = [tuple(f"s{rng.randrange(speakers)}" for _ in range(rng.randint(0, 2))) for _ in ids]
    return ids, [rng.uniform(1, 60) for _ in ids], keys


def test_recordings_that_share_a_key_are_one_group() -> None:
    assert components([("a",), ("b",), ("a", "c"), ("c",), ()]) == [0, 1, 0, 0, 4]


@pytest.mark.parametrize("speakers", [40, 3000])
def test_no_speaker_is_in_two_parts(speakers: int) -> None:
    ids, seconds, keys = make(400, speakers)
    parts = split(ids, seconds, keys, SHARES, seed=1)
    part_of: dict[str, str] = {}
    for of, part in zip(keys, parts, strict=True):
        for key in of:
            assert part_of.setdefault(key, part) == part


def test_parts_have_their_shares() -> None:
    ids, seconds, keys = make(2000, 5000)
    parts = split(ids, seconds, keys, SHARES, seed=3)
    total = sum(seconds)
    for part, share in SHARES.items():
        hours = sum(length for length, of in zip(seconds, parts, strict=True) if of == part)
        assert hours / total == pytest.approx(share, abs=0.01)


def test_the_seed_decides() -> None:
    ids, seconds, keys = make(50, 500)
    assert split(ids, seconds, keys, SHARES, 1) == split(ids, seconds, keys, SHARES, 1)
    assert split(ids, seconds, keys, SHARES, 1) != split(ids, seconds, keys, SHARES, 2)


def test_no_value_has_more_hours_than_allowed() -> None:
    ids, seconds, _ = make(500, 1)
    values = ["de" if number % 3 else "en" for number in range(500)]
    kept = within_hours(ids, seconds, values, 1.0, seed=0)
    for value in ("de", "en"):
        hours = sum(s for s, v, keep in zip(seconds, values, kept, strict=True) if keep and v == value) / 3600
        assert 0.97 < hours <= 1.0
