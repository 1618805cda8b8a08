"""Groups of voices: who is one person."""

import time
import tracemalloc

import numpy as np
import pytest

from actors.speakers.clustering import MAX_UNITS, Bounds, cluster

THRESHOLD = 0.5


def voices(people: int, each: int, noise: float = 0.4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of people who take turns, and who they are of."""
    rng = np.random.default_rng(seed)
    centres = np.linalg.qr(rng.normal(size=(192, people)))[0].T
    truth = np.tile(np.arange(people), each)
    vectors = centres[truth] + noise * rng.normal(size=(len(truth), 192)) / np.sqrt(192)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), truth


@pytest.mark.parametrize("people", [1, 2, 3, 5, 20])
def test_as_many_groups_as_people_in_order_of_appearance(people: int) -> None:
    vectors, truth = voices(people, 12)
    assert cluster(vectors, np.full(len(vectors), 3.0), THRESHOLD).tolist() == truth.tolist()


def test_a_single_voice_is_one_group() -> None:
    assert cluster(np.eye(1, 192), np.array([0.5]), THRESHOLD).tolist() == [0]


def test_no_voices_are_no_groups() -> None:
    assert cluster(np.zeros((0, 192)), np.zeros(0), THRESHOLD).tolist() == []


def test_a_short_noise_founds_no_group() -> None:
    vectors, truth = voices(2, 20)
    outlier = np.eye(1, 192, 191)
    labels = cluster(np.vstack([vectors, outlier]), np.array([3.0] * len(vectors) + [1.2]), THRESHOLD)
    assert labels[:-1].tolist() == truth.tolist() and labels.max() == 1


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [(Bounds(2, 2), 2), (Bounds(6, 6), 6), (Bounds(1, 3), 3), (Bounds(5), 5), (Bounds(1, 10), 4)],
)
def test_bounds_hold(bounds: Bounds, expected: int) -> None:
    vectors, _ = voices(4, 15)
    labels = cluster(vectors, np.full(len(vectors), 3.0), THRESHOLD, bounds)
    assert len(set(labels.tolist())) == expected


def test_more_groups_than_voices_are_impossible() -> None:
    vectors, _ = voices(1, 2)
    assert cluster(vectors, np.full(2, 3.0), THRESHOLD, Bounds(5, 5)).max() <= 1


def test_voices_with_much_in_common_are_told_apart() -> None:
    vectors, truth = voices(3, 20, noise=0.2)
    common = np.full((1, 192), 1 / np.sqrt(192))
    vectors = vectors + 0.8 * common
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert cluster(vectors, np.full(len(vectors), 4.0), 0.5).tolist() == truth.tolist()


def test_equal_input_gives_equal_groups() -> None:
    vectors, _ = voices(5, 30, noise=1.2)
    seconds = np.full(len(vectors), 2.0)
    assert (cluster(vectors, seconds, 0.5) == cluster(vectors, seconds, 0.5)).all()


def test_thousands_of_voices_need_bounded_time_and_memory() -> None:
    vectors, truth = voices(4, MAX_UNITS)
    tracemalloc.start()
    began = time.process_time()
    labels = cluster(vectors, np.full(len(vectors), 1.5), THRESHOLD)
    seconds = time.process_time() - began
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert labels.tolist() == truth.tolist()
    assert seconds < 30 and peak < 500e6


def test_leftovers_of_a_long_recording_found_no_group() -> None:
    vectors, truth = voices(2, 150)
    leftovers = np.tile(np.eye(1, 192, 191), (3, 1))  # alike, but never two seconds at a time
    labels = cluster(np.vstack([vectors, leftovers]), np.array([3.0] * len(vectors) + [1.5] * 3), THRESHOLD)
    assert labels[: len(truth)].tolist() == truth.tolist() and labels.max() == 1


def test_somebody_who_says_little_is_found() -> None:
    vectors, truth = voices(3, 40)
    kept = np.flatnonzero((truth < 2) | (np.arange(len(truth)) < 9))
    labels = cluster(vectors[kept], np.full(len(kept), 3.0), THRESHOLD)
    assert labels.tolist() == truth[kept].tolist()
