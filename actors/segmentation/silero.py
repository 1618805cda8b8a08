"""Where somebody speaks, by Silero VAD (its package ships the model): an option where energy is a poor guide, music or street noise for instance.

The model walks through audio in steps of 32 ms and remembers. Long recordings are laid side by side in pieces, each with a run-up of a few seconds,
so that one step of the model serves many places at once.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from actors.config import SegmenterConfig
from actors.records import SAMPLING_RATE, Span

STEP = 512  # samples that the model takes at a time: 32 ms
_PIECE = 938  # steps: 30 s
_RUN_UP = 94  # steps: 3 s, after which the memory of a piece no longer matters
_BATCH = 64  # pieces at a time
_HYSTERESIS = 0.15  # speech goes on until its probability falls this far below the threshold
_SHORTEST = 0.1  # seconds: shorter bursts are no speech


def find_speech(waves: list[np.ndarray], config: SegmenterConfig) -> list[list[Span]]:
    """Speech regions of each waveform (int16 mono at 16 kHz), in order; unpadded, and apart by at least `config.min_silence`."""
    return [
        speech_regions(probabilities, config.vad_threshold, config.min_silence, len(wave))
        for probabilities, wave in zip(speech_probabilities(waves), waves, strict=True)
    ]


def speech_probabilities(waves: list[np.ndarray]) -> list[np.ndarray]:
    """Speech probability of every 32 ms of each waveform: float32, shape (steps,)."""
    pieces: list[tuple[int, int, int]] = []  # waveform, first step of the run-up, first step that counts
    steps = [-(-len(wave) // STEP) for wave in waves]
    for number, count in enumerate(steps):
        pieces += [(number, max(0, first - _RUN_UP), first) for first in range(0, count, _PIECE)]
    results = [np.zeros(count, np.float32) for count in steps]
    for place in range(0, len(pieces), _BATCH):
        batch = pieces[place : place + _BATCH]
        found = _walk(
            [waves[number][begin * STEP : (first + _PIECE) * STEP] for number, begin, first in batch]
        )
        for (number, begin, first), probabilities in zip(batch, found, strict=True):
            last = min(first + _PIECE, steps[number])
            results[number][first:last] = probabilities[first - begin : last - begin]
    return results


def speech_regions(probabilities: np.ndarray, threshold: float, min_silence: float, total: int) -> list[Span]:
    """Probabilities per step to spans of samples: speech begins at `threshold` and ends below a lower one.

    Short gaps are closed, short bursts dropped.
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
    return [region for region in closed if region.duration >= _SHORTEST]


def _walk(pieces: list[np.ndarray]) -> np.ndarray:
    """int16 pieces to probabilities of shape (pieces, steps of the longest one)."""
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

    torch.set_num_threads(1)  # a decoding task owns one CPU
    return load_silero_vad(onnx=False)
