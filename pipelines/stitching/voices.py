"""From the turns and voices of all shards of a recording to who speaks when. Pure and deterministic.

The voices are grouped over the whole recording; then each stretch of speech is divided among the groups by
the Viterbi algorithm, because two people with similar voices may be one track of a shard.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from actors.records import Row
from actors.speakers.clustering import Bounds, cluster

Span = tuple[float, float]

# Similarity of neighbouring pieces of a stretch below which they may be two people.
_ALIKE = 0.55
# What a change of the speaker within a stretch costs, in similarity of a whole window.
_CHANGE = 0.3
# Seconds of a window, and of a turn's part that is cut off because of another voice.
_WINDOW_SECONDS, _SHORTEST_PART = 1.5, 0.6
# Seconds of a voice that tell too little: such a stretch goes with its neighbours of the same track, which
# are at most so many seconds away, unless its own voice is so much more like somebody else's.
_WEAK_SECONDS, _NEAR, _MARGIN = 1.0, 10.0, 0.15


@dataclass
class Stretch:
    """Turns of one track with short pauses between them, and the windows of its voice.

    Attributes:
        track: index of the shard, channel and number of the track.
        turns: spans in seconds.
        centres: the middle of each window in seconds.
        seconds: of speech in each window.
        vectors: embedding of each window.
    """

    track: tuple[int, int, int]
    turns: list[Span] = field(default_factory=list)
    centres: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    vectors: list[np.ndarray] = field(default_factory=list)

    @property
    def length(self) -> float:
        """Seconds in which nobody else speaks, up to one window."""
        return max(self.seconds, default=0.0)

    @property
    def span(self) -> Span:
        """From the first turn to the last."""
        return self.turns[0][0], self.turns[-1][1]


@dataclass(frozen=True)
class SpokenBy:
    """Who speaks when.

    Attributes:
        spans: of each speaker, by number.
        centroids: what each sounds like, shape (speakers, dimension).
        qualities: mean similarity of each speaker's windows with it.
    """

    spans: dict[int, list[Span]]
    centroids: np.ndarray
    qualities: dict[int, float]


def tell_apart(rows: Sequence[Row], threshold: float, bounds: Bounds) -> SpokenBy:
    """Tell the speakers of a recording apart.

    Args:
        rows: its SHARD rows, in order.
        threshold: see `cluster`.
        bounds: on the number of speakers.
    """
    stretches = stretches_of(rows)
    vectors, seconds = [], []
    for stretch in stretches:
        for piece in _pieces(stretch.vectors):
            vectors.append(_unit(np.sum([stretch.vectors[window] for window in piece], axis=0)))
            # Windows overlap by a third.
            seconds.append(
                sum(stretch.seconds[window] for window in piece) * (2 / 3 if len(piece) > 1 else 1)
            )
    if not vectors:
        return SpokenBy({}, np.zeros((0, 0)), {})
    units, lengths = np.stack(vectors), np.array(seconds)
    labels = cluster(units, lengths, threshold, bounds)
    centroids = np.stack(
        [_unit(lengths[labels == label] @ units[labels == label]) for label in range(labels.max() + 1)]
    )
    decoded = [_decode(stretch, centroids) for stretch in stretches]
    _settle_weak(stretches, decoded, centroids)
    spans: dict[int, list[Span]] = defaultdict(list)
    alike: dict[int, list[float]] = defaultdict(list)
    for stretch, speakers in zip(stretches, decoded, strict=True):
        for turn in stretch.turns:
            for span, speaker in _divided(turn, stretch.centres, speakers):
                spans[speaker].append(span)
        for vector, speaker in zip(stretch.vectors, speakers, strict=False):
            alike[speaker].append(float(vector @ centroids[speaker]))
    qualities = {speaker: float(np.mean(values)) for speaker, values in alike.items()}
    return SpokenBy({speaker: sorted(spans[speaker]) for speaker in sorted(spans)}, centroids, qualities)


def stretches_of(rows: Sequence[Row]) -> list[Stretch]:
    """The stretches of all shards, in order of time."""
    found: dict[tuple[int, int], Stretch] = {}
    for row in rows:
        for turn in row.get("turns") or []:
            channel = -1 if turn["channel"] is None else turn["channel"]
            track = (row["index"], channel, turn["track"])
            stretch = found.setdefault((row["index"], turn["stretch"]), Stretch(track))
            stretch.turns.append((turn["start"], turn["end"]))
        for voice in row.get("voices") or []:
            stretch = found[row["index"], voice["stretch"]]
            stretch.centres.append((voice["start"] + voice["end"]) / 2)
            stretch.seconds.append(voice["seconds"])
            stretch.vectors.append(np.frombuffer(voice["embedding"], "<f2").astype(np.float64))
    return sorted(found.values(), key=lambda stretch: (stretch.span, stretch.track))


def _pieces(vectors: Sequence[np.ndarray]) -> list[range]:
    """Runs of neighbouring windows that are of one person: the most alike neighbours are joined first."""
    pieces = [range(number, number + 1) for number in range(len(vectors))]
    sums = [vector.copy() for vector in vectors]
    units = [_unit(vector) for vector in vectors]
    alike = [float(left @ right) for left, right in pairwise(units)]
    while alike and (most := max(alike)) >= _ALIKE:
        best = alike.index(most)
        pieces[best : best + 2] = [range(pieces[best].start, pieces[best + 1].stop)]
        sums[best : best + 2] = [sums[best] + sums[best + 1]]
        units[best : best + 2] = [_unit(sums[best])]
        del alike[best]
        # Only the neighbours of the joined piece are compared anew.
        for left in (best - 1, best):
            if 0 <= left < len(alike):
                alike[left] = float(units[left] @ units[left + 1])
    return pieces


def _decode(stretch: Stretch, centroids: np.ndarray) -> list[int]:
    """The speaker of each window: the best sequence, in which a change has its price."""
    if not stretch.vectors:
        return []
    weights = np.minimum(np.array(stretch.seconds) / _WINDOW_SECONDS, 1.0)
    scores = (np.stack(stretch.vectors) @ centroids.T) * weights[:, None]
    total, steps = scores[0], []
    for score in scores[1:]:
        best = int(total.argmax())
        stays = total >= total[best] - _CHANGE
        steps.append(np.where(stays, np.arange(len(total)), best))
        total = np.where(stays, total, total[best] - _CHANGE) + score
    path = [int(total.argmax())]
    for step in reversed(steps):
        path.append(int(step[path[-1]]))
    return path[::-1]


def _settle_weak(stretches: Sequence[Stretch], decoded: list[list[int]], centroids: np.ndarray) -> None:
    """Stretches whose own voice tells too little get the speaker of the same track nearby, if there is one.

    A stretch with neither a voice nor a neighbour stays without a speaker.
    """
    strong: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    for number, stretch in enumerate(stretches):
        if stretch.length >= _WEAK_SECONDS:
            strong[stretch.track].append(number)
    for number, stretch in enumerate(stretches):
        if stretch.length >= _WEAK_SECONDS:
            continue
        near = min(
            strong[stretch.track],
            key=lambda other: (_gap(stretches[other].span, stretch.span), other),
            default=None,
        )
        if near is None or _gap(stretches[near].span, stretch.span) > _NEAR:
            continue
        before = stretches[near].span[0] < stretch.span[0]
        speaker = decoded[near][-1 if before else 0]
        if stretch.vectors:
            alike = centroids @ stretch.vectors[0]
            if alike[decoded[number][0]] - alike[speaker] > _MARGIN:
                continue
        decoded[number] = [speaker]


def _divided(turn: Span, centres: Sequence[float], speakers: Sequence[int]) -> list[tuple[Span, int]]:
    """The parts of a turn with their speakers: each moment goes with the nearest window.

    A part that is too short goes with the longest one.
    """
    if not speakers:
        return []
    borders = [
        ((left + right) / 2, after)
        for left, right, before, after in zip(
            centres[:-1], centres[1:], speakers[:-1], speakers[1:], strict=False
        )
        if before != after
    ]
    parts: list[tuple[Span, int]] = []
    start, speaker = turn[0], speakers[0]
    for border, after in borders:
        if start < border < turn[1]:
            parts.append(((start, border), speaker))
            start = border
        if border < turn[1]:
            speaker = after
    parts.append(((start, turn[1]), speaker))
    shares: dict[int, float] = defaultdict(float)
    for (begin, end), who in parts:
        shares[who] += end - begin
    main = max(sorted(shares), key=lambda who: shares[who])
    kept = [
        (span, who if span[1] - span[0] >= _SHORTEST_PART or who == main else main) for span, who in parts
    ]
    joined = kept[:1]
    for span, who in kept[1:]:
        if who == joined[-1][1]:
            joined[-1] = ((joined[-1][0][0], span[1]), who)
        else:
            joined.append((span, who))
    return joined


def joined_spans(spans: Mapping[int, Sequence[Span]], pause: float) -> dict[int, list[Span]]:
    """Spans of each speaker; a short pause in which nobody else speaks does not end one.

    Args:
        spans: by speaker, in order.
        pause: its seconds.
    """
    everything = sorted((start, end, speaker) for speaker in spans for start, end in spans[speaker])
    result: dict[int, list[Span]] = defaultdict(list)
    latest: dict[int, float] = {}  # end of each speaker's last span so far
    for start, end, speaker in everything:
        own = result[speaker]
        if own and start - own[-1][1] <= pause:
            quiet_since = own[-1][1]
            if not any(other != speaker and until > quiet_since for other, until in latest.items()):
                own[-1] = (own[-1][0], max(own[-1][1], end))
                latest[speaker] = own[-1][1]
                continue
        own.append((max(start, own[-1][1]) if own else start, end))
        latest[speaker] = max(latest.get(speaker, end), end)
    return {speaker: [span for span in own if span[1] > span[0]] for speaker, own in result.items()}


def _gap(first: Span, second: Span) -> float:
    return max(0.0, first[0] - second[1], second[0] - first[1])


def _unit(vector: np.ndarray) -> np.ndarray:
    norm = float(np.linalg.norm(vector))
    return vector / norm if norm else vector
