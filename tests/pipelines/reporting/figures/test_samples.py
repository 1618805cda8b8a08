"""Samples of segments by confidence."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipelines.reporting.figures.samples import COUNT, SampleChooser


def chosen(
    confidence: np.ndarray, seconds: float | np.ndarray = 10.0, recordings: int = 10**6, batch: int = 97
) -> dict[str, list[dict[str, Any]]]:
    chooser = SampleChooser()
    lengths = np.broadcast_to(np.asarray(seconds, float), confidence.shape)
    for first in range(0, len(confidence), batch):
        part = slice(first, first + batch)
        chooser.add(
            confidence[part],
            lengths[part],
            lambda index, first=first: {
                "recording_id": (first + index) % recordings,
                "start": first + index,
                "confidence": float(confidence[first + index]),
            },
        )
    return chooser.as_record()


def values(samples: list[dict[str, Any]]) -> list[float]:
    return [sample["confidence"] for sample in samples]


def test_the_extremes_and_the_middle_of_many_batches_are_found() -> None:
    confidence = np.random.default_rng(3).permutation(np.arange(10_000) / 10_000)
    found = chosen(confidence)
    assert values(found["worst"]) == [number / 10_000 for number in range(COUNT)]
    assert values(found["best"]) == [(9_999 - number) / 10_000 for number in range(COUNT)]
    assert all(abs(value - 0.5) < 0.02 for value in values(found["median"]))


def test_a_recording_is_once_among_the_samples_of_a_kind() -> None:
    found = chosen(np.linspace(0, 1, 1000), recordings=3)
    for samples in found.values():
        assert len({sample["recording_id"] for sample in samples}) == len(samples)


def test_no_segment_is_shown_twice() -> None:
    found = chosen(np.array([0.1, 0.9, 0.5]))
    shown = [sample["start"] for samples in found.values() for sample in samples]
    assert sorted(shown) == [0, 1, 2]


def test_short_segments_are_shown_only_where_there_is_nothing_else() -> None:
    lengths = np.where(np.arange(100) % 2, 0.3, 10.0)
    found = chosen(np.linspace(0, 1, 100), lengths)
    assert all(sample["start"] % 2 == 0 for samples in found.values() for sample in samples)
    assert chosen(np.array([0.5]), 0.2)["worst"]


def test_segments_without_confidence_are_samples_of_their_own_kind() -> None:
    found = chosen(np.full(500, np.nan))
    assert list(found) == ["any"] and len(found["any"]) == COUNT
    assert chosen(np.array([])) == {}


def test_all_segments_of_one_confidence_are_shown() -> None:
    found = chosen(np.ones(1000))
    assert {name: len(samples) for name, samples in found.items()} == dict.fromkeys(
        ("best", "median", "worst"), COUNT
    )
