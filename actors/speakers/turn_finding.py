"""Finds turns in a shard: who speaks when, with numbers of speakers that hold for a while, and their voices.

Chunks lie on a grid of the recording's own time, so that a shard that begins elsewhere finds the same turns.
Pure but for the calls of the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, permutations

import numpy as np

from actors.records import SAMPLING_RATE
from actors.speakers.base import (
    CHUNK_FRAMES,
    CHUNK_SAMPLES,
    FRAME_SAMPLES,
    FRAME_STEP,
    LOCAL_SPEAKERS,
    WINDOW_SAMPLES,
)

# Frames between the starts of two chunks: half a chunk.
CHUNK_STEP = 296
# Samples between the start of a frame and the middle of what it sees, less half a step.
_FRAME_OFFSET = (FRAME_SAMPLES - FRAME_STEP) // 2
# Samples of silence after which a new region begins, whose speakers are not linked with those before.
_REGION_GAP = 5 * SAMPLING_RATE
# Frames of shared speech by which a speaker of one chunk is recognised in the next one: 0.17 s.
_LINK_FRAMES = 10
# Frames of a pause within a turn, and of the shortest turn: 0.2 s and 0.1 s.
_PAUSE_FRAMES, _SHORTEST_FRAMES = 12, 6
# Samples of a pause after which a speaker begins a new stretch.
_STRETCH_GAP = SAMPLING_RATE
# Samples between two windows of a stretch, and the shortest one that is embedded: 1 s and 0.4 s.
WINDOW_STEP, _SHORTEST_WINDOW = SAMPLING_RATE, 2 * SAMPLING_RATE // 5

Spans = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Turn:
    """A span in which one speaker speaks without a pause; others may speak as well.

    Attributes:
        start: first sample.
        end: sample after the last one.
        track: number of the speaker. Turns of different tracks may be of one person, turns of one track
            mostly are.
        stretch: number of the stretch: turns of a track with short pauses between them.
    """

    start: int
    end: int
    track: int
    stretch: int


@dataclass(frozen=True, slots=True)
class VoiceWindow:
    """A piece of a stretch in which nobody else speaks.

    Attributes:
        spans: where, at most WINDOW_SAMPLES in all; pauses are left out.
        stretch: number of the stretch.
    """

    spans: Spans
    stretch: int


class Region:
    """Audio of one channel without a long silence.

    Args:
        pieces: position of the first sample in the recording and int16 samples of each segment, in order.
    """

    def __init__(self, pieces: Sequence[tuple[int, np.ndarray]]) -> None:
        self.start = pieces[0][0]
        self.end = max(start + len(samples) for start, samples in pieces)
        self.samples = np.zeros(self.end - self.start, np.int16)
        for start, samples in pieces:
            self.samples[start - self.start : start - self.start + len(samples)] = samples
        step = CHUNK_STEP * FRAME_STEP
        first = self.start // step
        last = max(first, -(-(self.end - CHUNK_SAMPLES) // step))
        self.chunk_numbers = range(first, last + 1)

    def cut(self, start: int, samples: int) -> np.ndarray:
        """Samples from a position of the recording on in [-1, 1], with silence where there are none."""
        wave = np.zeros(samples, np.float32)
        begin, end = max(start, self.start), min(start + samples, self.end)
        if end > begin:
            wave[begin - start : end - start] = self.samples[begin - self.start : end - self.start]
        return wave / np.float32(32768)

    def chunks(self) -> Iterator[np.ndarray]:
        """The waveforms for `SpeakerBackend.activities`."""
        for number in self.chunk_numbers:
            yield self.cut(number * CHUNK_STEP * FRAME_STEP, CHUNK_SAMPLES)

    def window(self, window: VoiceWindow) -> np.ndarray:
        """The waveform of a window for `SpeakerBackend.embed`; a short one is repeated."""
        wave = np.concatenate([self.cut(start, end - start) for start, end in window.spans])
        return wave if len(wave) == WINDOW_SAMPLES else np.resize(wave, WINDOW_SAMPLES)


def regions_of(pieces: Sequence[tuple[int, np.ndarray]]) -> list[Region]:
    """Divide the segments of one channel at long silences.

    Args:
        pieces: position of the first sample in the recording and int16 samples of each segment, in order.
    """
    groups: list[list[tuple[int, np.ndarray]]] = []
    end = 0
    for start, samples in pieces:
        if not groups or start - end > _REGION_GAP:
            groups.append([])
        groups[-1].append((start, samples))
        end = max(end, start + len(samples))
    return [Region(group) for group in groups]


def find_turns(region: Region, activities: np.ndarray, first_track: int, first_stretch: int) -> list[Turn]:
    """The turns of a region, by start.

    Args:
        region: where to look.
        activities: from `SpeakerBackend.activities`, for the region's chunks.
        first_track: the number of the first speaker.
        first_stretch: the number of the first stretch.
    """
    active = _linked(activities)
    offset = region.chunk_numbers[0] * CHUNK_STEP
    turns: list[Turn] = []
    stretch = first_stretch - 1
    for track in range(active.shape[1]):
        end_before: int | None = None
        for start, end in _spans(active[:, track]):
            begin, finish = ((offset + frame) * FRAME_STEP + _FRAME_OFFSET for frame in (start, end))
            begin, finish = max(begin, region.start), min(finish, region.end)
            if finish <= begin:
                continue
            if end_before is None or begin - end_before > _STRETCH_GAP:
                stretch += 1
            turns.append(Turn(begin, finish, first_track + track, stretch))
            end_before = finish
    return sorted(turns, key=lambda turn: (turn.start, turn.end, turn.track))


def voice_windows(turns: Sequence[Turn]) -> list[VoiceWindow]:
    """The windows of all stretches: WINDOW_SAMPLES of what is spoken alone, every WINDOW_STEP.

    Args:
        turns: of one channel, by start.
    """
    alone: dict[int, list[tuple[int, int]]] = {}
    for turn in turns:
        alone.setdefault(turn.stretch, []).extend(_solo_spans(turn, turns))
    windows = []
    for stretch, spans in sorted(alone.items()):
        total = sum(end - start for start, end in spans)
        if total < _SHORTEST_WINDOW:
            continue
        last = max(0, total - WINDOW_SAMPLES)
        # The last window ends with the stretch, unless the one before it nearly does.
        positions = [*range(0, last - WINDOW_STEP // 4, WINDOW_STEP), last]
        windows += [
            VoiceWindow(_part(spans, position, min(total, position + WINDOW_SAMPLES)), stretch)
            for position in positions
        ]
    return windows


def _part(spans: Sequence[tuple[int, int]], first: int, last: int) -> Spans:
    """The samples from `first` to `last` of all spans, one behind the other."""
    part, position = [], 0
    for start, end in spans:
        begin, finish = max(first - position, 0), min(last - position, end - start)
        if finish > begin:
            part.append((start + begin, start + finish))
        position += end - start
    return tuple(part)


def _spans(active: np.ndarray) -> list[tuple[int, int]]:
    """First and last frames of speech, without short pauses and very short sounds."""
    spans: list[tuple[int, int]] = []
    for start, end in _runs(active):
        if spans and start - spans[-1][1] <= _PAUSE_FRAMES:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    return [(start, end) for start, end in spans if end - start >= _SHORTEST_FRAMES]


def _solo_spans(turn: Turn, turns: Sequence[Turn]) -> list[tuple[int, int]]:
    """The parts of a turn in which no other turn runs."""
    spans, position = [], turn.start
    for other in turns:
        if other is turn or other.end <= position or other.start >= turn.end:
            continue
        if other.start > position:
            spans.append((position, other.start))
        position = max(position, other.end)
        if position >= turn.end:
            break
    if position < turn.end:
        spans.append((position, turn.end))
    return spans


def _linked(activities: np.ndarray) -> np.ndarray:
    """One table of activity from those of overlapping chunks: each frame from the chunk it is deepest in.

    Args:
        activities: shape (chunks, CHUNK_FRAMES, LOCAL_SPEAKERS).

    Returns:
        Booleans of shape (frames, tracks).
    """
    chunks = len(activities)
    frames = (chunks - 1) * CHUNK_STEP + CHUNK_FRAMES
    shared = CHUNK_FRAMES - CHUNK_STEP
    tracks = list(range(LOCAL_SPEAKERS))
    names = [tracks]
    count = LOCAL_SPEAKERS
    for before, after in pairwise(activities):
        together = before[CHUNK_STEP:].astype(np.int32).T @ after[:shared].astype(np.int32)
        best = max(
            permutations(range(LOCAL_SPEAKERS)),
            key=lambda order: sum(together[speaker, order[speaker]] for speaker in range(LOCAL_SPEAKERS)),
        )
        following = [-1] * LOCAL_SPEAKERS
        for speaker, partner in enumerate(best):
            if together[speaker, partner] >= _LINK_FRAMES:
                following[partner] = names[-1][speaker]
        for speaker in range(LOCAL_SPEAKERS):
            if following[speaker] < 0:
                following[speaker] = count
                count += 1
        names.append(following)
    active = np.zeros((frames, count), bool)
    margin = shared // 2
    for number, (activity, tracks) in enumerate(zip(activities, names, strict=True)):
        start = 0 if number == 0 else margin
        end = CHUNK_FRAMES if number == chunks - 1 else margin + CHUNK_STEP
        first = number * CHUNK_STEP
        active[first + start : first + end, tracks] = activity[start:end]
    return active[:, active.any(0)]


def _runs(active: np.ndarray) -> list[tuple[int, int]]:
    """Start and end of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], active, [False]]).astype(np.int8)))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]
