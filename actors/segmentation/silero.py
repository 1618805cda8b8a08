"""Speech regions by Silero VAD, for recordings where energy is a poor guide, such as music or street noise.

The package of Silero VAD contains the model. The model is recurrent and processes audio in steps of 32 ms.
Long recordings are split into pieces, each with a run-up of a few seconds, so that one step of the model
processes many pieces at once.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from actors.config import SegmenterConfig
from actors.records import SAMPLING_RATE, Span

# Samples that the model processes at a time: 32 ms.
STEP = 512
# Steps of a piece: 30 s.
_PIECE = 938
# Steps before a piece: 3 s, after which the model's state no longer depends on what was before them.
_RUN_UP = 94
# Pieces at a time.
_BATCH = 64
# Speech continues until its probability falls this far below the threshold.
_HYSTERESIS = 0.15
# Seconds. Shorter bursts are not speech.
_MIN_SPEECH = 0.1


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
    """The speech probability of every 32 ms of each waveform: float32, shape (steps,)."""
    # Number of the waveform, first step of the run-up, first step of the piece.
    pieces: list[tuple[int, int, int]] = []
    steps = [-(-len(wave) // STEP) for wave in waves]
    for number, count in enumerate(steps):
        pieces += [(number, max(0, first - _RUN_UP), first) for first in range(0, count, _PIECE)]
    results = [np.zeros(count, np.float32) for count in steps]
    for place in range(0, len(pieces), _BATCH):
        batch = pieces[place : place + _BATCH]
        found = _run(
            [waves[number][begin * STEP : (first + _PIECE) * STEP] for number, begin, first in batch]
        )
        for (number, begin, first), probabilities in zip(batch, found, strict=True):
            last = min(first + _PIECE, steps[number])
            results[number][first:last] = probabilities[first - begin : last - begin]
    return results


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


def _run(pieces: list[np.ndarray]) -> np.ndarray:
    """The probabilities of int16 pieces, shape (pieces, steps of the longest one)."""
    import torch

    steps = max(-(-len(piece) // STEP) for piece in pieces)
    audio = torch.zeros(len(pieces), steps * STEP)
    for number, piece in enumerate(pieces):
        audio[number, : len(piece)] = torch.from_numpy(piece.astype(np.float32) / 32768)
    model = _model()
    model.reset_states()
    with torch.inference_mode():
        return torch.stack(
            [
                model(audio[:, place : place + STEP], SAMPLING_RATE)[:, 0]
                for place in range(0, audio.shape[1], STEP)
            ],
            dim=1,
        ).numpy()


@cache
def _model() -> Any:
    import torch
    from silero_vad import load_silero_vad

    # A decoding task owns one CPU.
    torch.set_num_threads(1)
    return load_silero_vad(onnx=False)
