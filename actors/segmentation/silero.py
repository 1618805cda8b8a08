"""Speech regions by Silero VAD, for recordings where energy is a poor guide, such as music or street noise.

The package of Silero VAD contains the model, see `silero_network`. It is recurrent and processes audio in
steps of 32 ms. Long recordings are split into pieces, each with a run-up of a few seconds, so that one step
processes many pieces at once.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from actors.records import SAMPLING_RATE, Span
from actors.segmentation.silero_network import STEP, network, own_network

if TYPE_CHECKING:
    from actors.config import SegmenterConfig

# Steps of a piece: 30 s.
_PIECE = 938
# Steps before a piece: 3 s, after which the model's state no longer depends on what was before them.
_RUN_UP = 94
# Steps of the pieces at a time, padded to the longest: 64 MiB.
_BATCH = 32_768
# Speech continues until its probability falls this far below the threshold.
_HYSTERESIS = 0.15
# Seconds. Shorter bursts are not speech.
_MIN_SPEECH = 0.1
# Bytes of address space that the network needs for a shard of ten minutes, without torch and with it: other
# versions of the package need it.
_MEMORY, _MEMORY_WITH_TORCH = 3 << 26, 3 << 28


def find_speech(waves: list[np.ndarray], config: SegmenterConfig) -> list[list[Span]]:
    """The speech regions of each waveform, in order, without padding.

    Args:
        waves: int16 mono at 16 kHz.
        config: the threshold, and the shortest silence between two regions.
    """
    return [
        speech_regions(probabilities, config.vad_threshold, config.min_silence, len(wave))
        for probabilities, wave in zip(speech_probabilities(waves), waves, strict=True)
    ]


def speech_probabilities(waves: list[np.ndarray]) -> list[np.ndarray]:
    """The speech probability of every 32 ms of each waveform: float32, shape (steps,).

    Args:
        waves: int16, or float32 in [-1, 1], at 16 kHz.
    """
    return probabilities_by_memory(waves, [(_PIECE, _RUN_UP)])[0]


def probabilities_by_memory(
    waves: list[np.ndarray],
    memories: Sequence[tuple[int, int]],
    doubtful: Callable[[np.ndarray], bool] = lambda probabilities: True,
) -> list[list[np.ndarray]]:
    """The speech probabilities of each waveform, with different memories of the model.

    Args:
        waves: see `speech_probabilities`.
        memories: the steps of the pieces into which waveforms are split, and of the run-up of each piece: the
            model forgets what was before.
        doubtful: whether the probabilities with the first memory leave a doubt. Where they do not, they are
            also the answer for the other memories.

    Returns:
        For each memory, what `speech_probabilities` returns.
    """
    features = [network().features(_scaled(wave)) for wave in waves]
    first = _probabilities(features, *memories[0])
    results = [first]
    for memory in memories[1:]:
        asked = [number for number, answer in enumerate(first) if doubtful(answer)]
        answers = list(first)
        found = _probabilities([features[number] for number in asked], *memory)
        for number, answer in zip(asked, found, strict=True):
            answers[number] = answer
        results.append(answers)
    return results


def _probabilities(features: list[np.ndarray], piece: int, run_up: int) -> list[np.ndarray]:
    # Number of the waveform, first step of the run-up, first step of the piece.
    pieces = [
        (number, max(0, first - run_up), first)
        for number, rows in enumerate(features)
        for first in range(0, len(rows), piece)
    ]
    # Pieces of a batch are about equally long.
    pieces.sort(key=lambda part: min(len(features[part[0]]), part[2] + piece) - part[1])
    results = [np.zeros(len(rows), np.float32) for rows in features]
    at_a_time = max(1, _BATCH // (piece + run_up))
    for place in range(0, len(pieces), at_a_time):
        batch = pieces[place : place + at_a_time]
        parts = [features[number][begin : first + piece] for number, begin, first in batch]
        found = network().probabilities(parts)
        for (number, begin, first), probabilities in zip(batch, found, strict=True):
            last = min(first + piece, len(features[number]))
            results[number][first:last] = probabilities[first - begin : last - begin]
    return results


@cache
def is_installed() -> bool:
    """Whether the extra `vad` is installed. Asked for every recording, and a search takes 0.5 ms."""
    return find_spec("silero_vad") is not None


def fits_in_memory() -> bool:
    """Whether this process may use the memory that the network needs.

    A process that decodes has a limit (`audio.max_memory`). Torch, where it is needed, crashes where it gets
    too little.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY or "torch" in sys.modules:
        return True
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    needed = _MEMORY if own_network() else _MEMORY_WITH_TORCH
    return limit - pages * resource.getpagesize() >= needed


def speech_regions(probabilities: np.ndarray, threshold: float, min_silence: float, total: int) -> list[Span]:
    """Turn probabilities into spans of samples.

    Speech begins at the threshold and ends below a lower one. Short gaps are closed, then short bursts are
    dropped.

    Args:
        probabilities: of each step.
        threshold: probability at which speech begins.
        min_silence: seconds of the shortest gap.
        total: samples of the waveform.
    """
    regions: list[Span] = []
    begin: int | None = None
    for step, probability in enumerate(probabilities):
        if begin is None and probability >= threshold:
            begin = step
        elif begin is not None and probability < max(0.01, threshold - _HYSTERESIS):
            regions.append(Span(begin * STEP, step * STEP))
            begin = None
    if begin is not None:
        regions.append(Span(begin * STEP, total))
    closed: list[Span] = []
    for region in regions:
        if closed and region.start - closed[-1].end < min_silence * SAMPLING_RATE:
            closed[-1] = Span(closed[-1].start, region.end)
        else:
            closed.append(region)
    return [region for region in closed if region.duration >= _MIN_SPEECH]


def _scaled(wave: np.ndarray) -> np.ndarray:
    """Samples as float32 in [-1, 1]."""
    return wave if wave.dtype == np.float32 else wave.astype(np.float32) / np.float32(32768)
