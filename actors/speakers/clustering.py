"""Groups voices: which embeddings are of the same person. Pure and deterministic.

Agglomerative clustering with average linkage on cosine distances gives pure groups; then groups are joined by
their means. The more speech two groups have, the more alike their means must be: the mean of a few seconds is
inexact, and a narrow band or noise makes all voices more alike. Groups that are too small to be a person of
their own join the nearest one. Memory is bounded: more than MAX_UNITS voices are first reduced to groups of
neighbours in time that are surely of one person.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

# Voices that are clustered at once, of which the distances take 9 MB, and voices of a block that is reduced.
MAX_UNITS, _BLOCK = 1500, 500
# Seconds that an embedding needs to found a group.
_STRONG_SECONDS = 1.0
# How much more alike than the threshold voices are that are surely of one person.
_SURE = 0.05
# Means of groups with at most so many seconds may be so much less alike than the threshold; it holds from so
# many seconds on. In conversations of 2 to 5 of 256 voices, means of one person had a similarity of at least
# 0.46 with 3 to 6 s, 0.64 with 6 to 12 s and 0.80 with more; those of two people of at most 0.50, and 0.44
# with more than 25 s. Over a telephone the latter were 0.37 to 0.69.
_FEW_SECONDS, _MANY_SECONDS, _LENIENCE = 5.0, 17.0, 0.2
# Cosine distance within groups from which the common part of all voices is estimated.
_STRICT = 0.25
# Speech of the least talkative speaker: this share of all speech, but at least and at most so many seconds,
# and in short recordings at most another share. What noise and overlaps leave over grows with a recording.
_LEAST_SHARE, _LEAST_SECONDS, _MOST_SECONDS, _SHORT_SHARE = 0.005, 3.0, 10.0, 0.03
# Seconds that a speaker speaks at a time at least once, in recordings with so much speech.
_LEAST_TURN, _LONG_SECONDS = 2.0, 60.0
# Rounds of moving voices to the nearest mean.
_ROUNDS = 5


@dataclass(frozen=True)
class Bounds:
    """How many speakers there are.

    Attributes:
        minimum: at least so many.
        maximum: at most so many; None: any number.
    """

    minimum: int = 1
    maximum: int | None = None


def cluster(
    embeddings: np.ndarray, seconds: np.ndarray, threshold: float, bounds: Bounds | None = None
) -> np.ndarray:
    """Group voices.

    Args:
        embeddings: unit vectors, shape (voices, dimension).
        seconds: length of what each was computed from.
        threshold: cosine similarity of the means of two groups above which they are of one person.
        bounds: on the number of groups.

    Returns:
        The number of the group of each voice, from 0, in the order of their first voices.
    """
    bounds = bounds or Bounds()
    count = len(embeddings)
    if count == 0:
        return np.zeros(0, int)
    strong = seconds >= min(_STRONG_SECONDS, float(seconds.max()))
    vectors, weights = _reduced(embeddings[strong].astype(np.float64), seconds[strong], threshold)
    threshold = _adapted(vectors, weights, threshold)
    groups = _founded(vectors, weights, threshold)
    groups = _merged(groups, vectors, weights, threshold, bounds)
    if len(groups) < bounds.minimum:
        groups = _divided(vectors, weights, bounds.minimum)
    centroids = np.stack([_mean(vectors[members], weights[members]) for members in groups])
    for _ in range(_ROUNDS):
        labels = (vectors @ centroids.T).argmax(1)
        used = np.unique(labels)
        updated = np.stack([_mean(vectors[labels == label], weights[labels == label]) for label in used])
        if updated.shape == centroids.shape and np.allclose(updated, centroids):
            break
        if len(used) < bounds.minimum:
            break
        centroids = updated
    return in_order((embeddings @ centroids.T).argmax(1))


def in_order(labels: np.ndarray) -> np.ndarray:
    """Labels renumbered from 0 by their first appearance."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    ranks = np.empty(len(first), int)
    ranks[np.argsort(first, kind="stable")] = np.arange(len(first))
    return ranks[inverse.reshape(-1)]


def _adapted(vectors: np.ndarray, weights: np.ndarray, threshold: float) -> float:
    """The threshold for a recording in which all voices have something in common, such as a telephone's band.

    What they have in common is the similarity of the two people who are least alike.
    """
    groups = [members for members in _cut(vectors, _STRICT) if weights[members].sum() >= _MANY_SECONDS]
    if len(groups) < 2:
        return threshold
    means = np.stack([_mean(vectors[members], weights[members]) for members in groups])
    common = float((means @ means.T).min())
    return threshold if common >= threshold else threshold + max(0.0, common) * (1 - threshold)


def _founded(vectors: np.ndarray, weights: np.ndarray, threshold: float) -> list[np.ndarray]:
    """Pure groups that are large enough to be a person; the largest one if none is."""
    groups = _cut(vectors, 1 - threshold - _SURE)
    least, turn = _least(weights), _LEAST_TURN if weights.sum() >= _LONG_SECONDS else 0.0
    founded = [
        members for members in groups if weights[members].sum() >= least and weights[members].max() >= turn
    ]
    return founded or [max(groups, key=lambda members: float(weights[members].sum()))]


def _merged(
    groups: list[np.ndarray], vectors: np.ndarray, weights: np.ndarray, threshold: float, bounds: Bounds
) -> list[np.ndarray]:
    """Groups, of which those of one person are joined, the most alike first."""
    means = [_mean(vectors[members], weights[members]) for members in groups]
    masses = [float(weights[members].sum()) for members in groups]
    while len(groups) > max(1, bounds.minimum):
        alike = np.stack(means) @ np.stack(means).T
        less = np.minimum.outer(masses, masses)
        enough = np.clip((less - _FEW_SECONDS) / (_MANY_SECONDS - _FEW_SECONDS), 0.0, 1.0)
        margin = alike - (threshold - _LENIENCE * (1 - enough))
        np.fill_diagonal(margin, -np.inf)
        first, second = sorted(int(index) for index in np.unravel_index(margin.argmax(), margin.shape))
        if margin[first, second] < 0 and (bounds.maximum is None or len(groups) <= bounds.maximum):
            break
        groups[first] = np.concatenate([groups[first], groups[second]])
        means[first] = _mean(vectors[groups[first]], weights[groups[first]])
        masses[first] += masses[second]
        del groups[second], means[second], masses[second]
    return groups


def _divided(vectors: np.ndarray, weights: np.ndarray, number: int) -> list[np.ndarray]:
    """So many groups, or as many as there are voices: the tree of the clustering, cut from the top."""
    count = len(vectors)
    if count == 1:
        return [np.arange(1)]
    tree = _linkage(vectors)
    children = {count + step: (int(row[0]), int(row[1])) for step, row in enumerate(tree)}
    height = {count + step: float(row[2]) for step, row in enumerate(tree)}
    mass = dict(enumerate(weights.tolist()))
    for node, (left, right) in children.items():
        mass[node] = mass[left] + mass[right]
    # Small branches are left out as long as the others suffice.
    for least in (_least(weights), _least(weights) / 4, 0.0):
        leaves = _leaves(children, height, mass, least, number)
        if len(leaves) == number:
            break
    return [np.array(sorted(_members(leaf, children))) for leaf in leaves]


def _leaves(
    children: dict[int, tuple[int, int]],
    height: dict[int, float],
    mass: dict[int, float],
    least: float,
    number: int,
) -> list[int]:
    """The nodes that remain when the tallest nodes are divided until there are `number`."""

    def peeled(node: int) -> int:
        """The node without branches below `least`."""
        while node in children:
            small, large = sorted(children[node], key=lambda child: (mass[child], child))
            if mass[small] >= least:
                break
            node = large
        return node

    top = peeled(max(children))
    queue = [(-height.get(top, 0.0), top)]
    leaves: list[int] = []
    while queue and len(queue) + len(leaves) < number:
        _, node = heapq.heappop(queue)
        if node not in children:
            leaves.append(node)
            continue
        for child in children[node]:
            inner = peeled(child)
            heapq.heappush(queue, (-height.get(inner, 0.0), inner))
    return leaves + [node for _, node in queue]


def _members(node: int, children: dict[int, tuple[int, int]]) -> list[int]:
    found, stack = [], [node]
    while stack:
        node = stack.pop()
        if node in children:
            stack.extend(children[node])
        else:
            found.append(node)
    return found


def _reduced(vectors: np.ndarray, weights: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """At most MAX_UNITS voices and their seconds: neighbours in time that are surely one are joined."""
    distance = 1 - threshold - 2 * _SURE
    while len(vectors) > MAX_UNITS:
        joined: list[np.ndarray] = []
        masses: list[float] = []
        for first in range(0, len(vectors), _BLOCK):
            block, mass = vectors[first : first + _BLOCK], weights[first : first + _BLOCK]
            for members in _cut(block, distance):
                joined.append(_mean(block[members], mass[members]))
                masses.append(float(mass[members].sum()))
        vectors, weights = np.stack(joined), np.array(masses)
        # Each round joins more; in the end everything would be one voice.
        distance = min(2.0, distance * 1.25)
    return vectors, weights


def _cut(vectors: np.ndarray, distance: float) -> list[np.ndarray]:
    from scipy.cluster.hierarchy import fcluster

    if len(vectors) < 2:
        return [np.arange(len(vectors))]
    labels = fcluster(_linkage(vectors), distance, "distance")
    return [np.flatnonzero(labels == label) for label in np.unique(labels)]


def _linkage(vectors: np.ndarray) -> np.ndarray:
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    distances = np.clip(1.0 - vectors @ vectors.T, 0.0, 2.0)
    np.fill_diagonal(distances, 0.0)
    return linkage(squareform(distances, checks=False), "average")


def _least(weights: np.ndarray) -> float:
    """Seconds of the least talkative speaker."""
    total = float(weights.sum())
    return min(max(_LEAST_SECONDS, min(_MOST_SECONDS, _LEAST_SHARE * total)), _SHORT_SHARE * total)


def _mean(vectors: np.ndarray, weights: np.ndarray) -> np.ndarray:
    mean = weights @ vectors
    norm = float(np.linalg.norm(mean))
    return mean / norm if norm else mean
