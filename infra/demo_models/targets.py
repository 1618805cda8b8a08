"""What one training step needs, and the time grid of audio tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

STEP = 0.08
"""Seconds per audio token and per aligner class."""


IGNORE = -100
"""Target of positions without a loss."""


MOST_WORDS = 64
"""Classes of the auxiliary word counter."""


def audio_tokens(frames: int) -> int:
    """Number of audio tokens of a clip of so many 10 ms frames: 13 per full second, a partial second as the
    convolutions leave it.
    """
    rest = frames % 100
    for _ in range(3):
        rest = (rest - 1) // 2 + 1 if rest else 0
    return rest + frames // 100 * 13


def token_starts(count: int) -> np.ndarray:
    """Start of each audio token, seconds: the grid restarts every second."""
    index = np.arange(count)
    return index // 13 + (index % 13) * STEP


@dataclass
class Batch:
    """What one training step needs; all tensors are right-padded.

    Attributes:
        ids: token ids, (batch, length).
        features: log-mel, (batch, 128, frames).
        mask: 1 for real frames, (batch, frames).
        labels: next token for the recogniser, two neighbouring classes for the aligner, see ``weights``.
        weights: weight of the second of the aligner's classes, (batch, length).
        frame_classes: word said in each audio token, 0 for silence, packed over the batch.
        heard: the same as a causal model can know it: the word that has just ended, (batch, length), IGNORE
            elsewhere.
        heard_weights: weight of each of these, (batch, length): 1 where a word ends.
        before: the word before the one that has just ended, 0 for none, (batch, length), IGNORE elsewhere.
        counts: number of words begun in each audio token, (batch, length), IGNORE elsewhere.
        pointers: rows (kind, item, position, first, last): where a position should look. Kind 0 is the next
            thing to say, kind 1 the end of the
            word that a text token is, and for an audio token at the end of a word the end of the word before.
        seconds: audio in the batch.
    """

    ids: torch.Tensor
    features: torch.Tensor
    mask: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor
    frame_classes: torch.Tensor
    heard: torch.Tensor
    heard_weights: torch.Tensor
    before: torch.Tensor
    counts: torch.Tensor
    pointers: torch.Tensor
    seconds: float


def warped(mel: np.ndarray, factor: float) -> np.ndarray:
    """Stretches the frequency axis of a log-mel as a longer or shorter vocal tract would (VTLP, Jaitly and
    Hinton 2013).

    Unlike playing a clip faster this changes the formants and leaves the tempo alone, so every voice stands
    for many.

    Args:
        mel: log-mel, (128, frames), up to 8 kHz.
        factor: formants move to this multiple of their frequency.
    """
    top, octave = (
        15 + 27 * np.log(8) / np.log(6.4),
        np.log(6.4) / 27,
    )  # Slaney's scale: linear up to 1 kHz, then logarithmic
    scale = np.linspace(0, top, len(mel))
    hertz = np.where(scale < 15, scale * 200 / 3, 1000 * np.exp((scale - 15) * octave))
    wanted = np.minimum(hertz / factor, 8000)
    source = (
        np.where(wanted < 1000, wanted * 3 / 200, 15 + np.log(np.maximum(wanted, 1) / 1000) / octave)
        / top
        * (len(mel) - 1)
    )
    low = np.minimum(source.astype(int), len(mel) - 2)
    share = (source - low)[:, None].astype(mel.dtype)
    return mel[low] * (1 - share) + mel[low + 1] * share
