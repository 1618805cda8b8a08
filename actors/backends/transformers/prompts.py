"""Prompts of several requests, packed for one forward pass: tokens, and the features of the audio."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from actors.backends.qwen import features as mel
from actors.backends.qwen.features import Mel
from actors.backends.transformers.decoder import Decoder
from actors.backends.transformers.encoder import slices
from actors.backends.transformers.kernels.attention import Packing, attend_packed, to_device

if TYPE_CHECKING:
    from actors.backends.transformers.loading import Network

# Tokens of one forward pass on a GPU: enough to fill any, 2 GB of activations (1.7B, bf16).
PASS_TOKENS = 32_768
# Receives keys and values of each layer: (layer, keys, values), each (tokens, key heads, head size).
KeyWriter = Callable[[int, torch.Tensor, torch.Tensor], None]


@dataclass(frozen=True)
class Prompt:
    """One request as the model gets it.

    Attributes:
        tokens: with one placeholder for each audio token.
        features: of the audio.
    """

    tokens: list[int]
    features: Mel


@dataclass(frozen=True)
class PromptBatch:
    """Prompts on the device.

    Attributes:
        chunks: features, (chunks, mel bins, frames of a chunk), in the encoder's precision.
        frames: valid frames of each clip.
        tokens: of all prompts, one behind the other, (tokens,).
        positions: of each token in its prompt, (tokens,).
        audio: places of the audio tokens, (audio tokens,).
        packing: bounds of the prompts.
    """

    chunks: torch.Tensor
    frames: tuple[int, ...]
    tokens: torch.Tensor
    positions: torch.Tensor
    audio: torch.Tensor
    packing: Packing

    @property
    def last(self) -> list[int]:
        """Place of the last token of each prompt."""
        return [end - 1 for end in itertools.accumulate(self.packing.lengths)]


def extract_features(extractor: Any, waveforms: Sequence[np.ndarray], network: Network) -> list[Mel]:
    """Features of clips for a model: on its device where that is CUDA, else as the processor makes them.

    Args:
        extractor: the model's.
        waveforms: int16, mono, 16 kHz, each (samples,).
        network: the model.
    """
    encoder = network.encoder
    window = encoder.chunk // 2
    if encoder.device.type != "cuda" or extractor.dither:
        return [mel.extract(extractor, waveform, window) for waveform in waveforms]
    features, frames = mel.log_mel_on_device(extractor, waveforms, encoder.device, window)
    widths = [-(-count // encoder.chunk) * encoder.chunk for count in frames]
    return [Mel(clip[:, :width], count) for clip, width, count in zip(features, widths, frames, strict=True)]


def stage(prompts: Sequence[Prompt], network: Network) -> PromptBatch:
    """Pack prompts and begin to copy them to the device; the host does not wait for the copies.

    Raises:
        ValueError: a prompt has not as many audio tokens as its audio.
    """
    device, chunk = network.encoder.device, network.encoder.chunk
    rows = [np.array(prompt.tokens) for prompt in prompts]
    for prompt, row in zip(prompts, rows, strict=True):
        places, expected = (
            int((row == network.audio_token).sum()),
            network.encoder.tokens(prompt.features.frames),
        )
        if places != expected:
            raise ValueError(f"the prompt has {places} places for audio, the encoder makes {expected} tokens")
    tokens = np.concatenate(rows)
    clips = [prompt.features.features.unflatten(1, (-1, chunk)).transpose(0, 1) for prompt in prompts]
    return PromptBatch(
        _joined(clips, device).to(network.encoder.dtype),
        tuple(prompt.features.frames for prompt in prompts),
        to_device(tokens, device),
        to_device(np.concatenate([np.arange(len(row)) for row in rows]), device),
        to_device(np.flatnonzero(tokens == network.audio_token), device),
        Packing.of([len(prompt.tokens) for prompt in prompts], device),
    )


class Stager:
    """Prepares prompts on a stream of its own, so that the host and their copies do not wait for the model.

    Args:
        network: the model.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        device = network.encoder.device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def preparing(self) -> AbstractContextManager[Any]:
        """Run what a block does on the device on the stream of its own."""
        return torch.cuda.stream(self._stream)

    def hand_over(self, batch: PromptBatch) -> None:
        """Let the current stream wait for a batch that was staged, and keep its memory until it was read."""
        if self._stream is None:
            return
        current = torch.cuda.current_stream(self.network.encoder.device)
        current.wait_stream(self._stream)
        for tensor in (batch.chunks, batch.tokens, batch.positions, batch.audio, batch.packing.bounds):
            tensor.record_stream(current)


def run(
    network: Network, decoder: Decoder, batch: PromptBatch, *, flash: bool, write: KeyWriter | None = None
) -> torch.Tensor:
    """Encode the audio of prompts and run them through a language model.

    Args:
        network: whose encoder makes the audio tokens.
        decoder: the language model.
        batch: the prompts.
        flash: whether to use flash attention.
        write: receives the keys and values of each layer.

    Returns:
        Hidden states behind the last norm, (tokens, hidden size).
    """
    audio = network.encoder(batch.chunks, batch.frames)
    embeds = decoder.embed(batch.tokens)
    embeds.index_copy_(0, batch.audio, audio.to(embeds.dtype))

    def attend(layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        if write is not None:
            write(layer, key, value)
        return attend_packed(query, key, value, batch.packing, causal=True, flash=flash)

    hidden: torch.Tensor = decoder(embeds, batch.positions, attend)
    return hidden


def passes(
    tokens: Sequence[int], seconds: Sequence[float], most_tokens: int, most_seconds: float
) -> list[tuple[int, int]]:
    """Cut a list of prompts into forward passes within limits, as (start, end); a larger one stands alone.

    Args:
        tokens: of each prompt.
        seconds: of the audio of each.
        most_tokens: of a pass.
        most_seconds: of a pass.
    """
    shares = [
        max(count / most_tokens, length / most_seconds) for count, length in zip(tokens, seconds, strict=True)
    ]
    return slices(shares, 1.0)


def _joined(parts: Sequence[torch.Tensor], device: torch.device) -> torch.Tensor:
    """Tensors joined along their first dimension, on the device."""
    if device.type != "cuda" or parts[0].is_cuda:
        return torch.cat(list(parts)).to(device)
    shape = (sum(len(part) for part in parts), *parts[0].shape[1:])
    joined = torch.empty(shape, dtype=parts[0].dtype, pin_memory=True)
    torch.cat(list(parts), out=joined)
    return joined.to(device, non_blocking=True)
