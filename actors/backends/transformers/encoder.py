"""The audio encoder over packed clips: real chunks only, all attention windows in one call.

A clip is cut into chunks of a second, which three convolutions halve to 13 tokens each; its tokens attend
within windows of 8 s. transformers' own forward convolves chunks of padding too, runs the windows one by one
and asks the device for their lengths in every layer. Here all lengths are computed on the host from the
number of frames. A clip's encoding does not depend on its neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from actors.backends.transformers.decoder import pack_linear
from actors.backends.transformers.kernels.attention import Packing, attend_packed, to_device

# The convolutions take about 6 MB for each second (0.6B, bf16), many times what all else needs.
CONVOLUTION_SECONDS = 512
# Seconds of clips in one call on a GPU: enough to fill any, 1.3 GB at 0.1 MB for each second of attention
# layers.
CALL_SECONDS = 1920
# cuDNN plans each shape anew, so a GPU gets multiples of this many chunks.
_CHUNK_MULTIPLE = 64
_BINS = 128


class EncoderLayer(nn.Module):
    """One layer: attention and an MLP, each behind a norm and beside a residual.

    Args:
        layer: a Qwen3ASRAudioEncoderLayer; its projections become views of the packed weights of this one.
    """

    def __init__(self, layer: Any) -> None:
        super().__init__()
        attention = layer.self_attn
        self.heads: int = attention.num_heads
        self.qkv = pack_linear(attention.q_proj, attention.k_proj, attention.v_proj)
        self.output = attention.out_proj
        self.attention_norm, self.mlp_norm = layer.self_attn_layer_norm, layer.final_layer_norm
        self.up, self.activation, self.down = layer.fc1, layer.activation_fn, layer.fc2

    def forward(self, hidden: torch.Tensor, windows: Packing, flash: bool) -> torch.Tensor:
        """(tokens, width) to the same."""
        heads = self.qkv(self.attention_norm(hidden)).unflatten(-1, (3, self.heads, -1))
        query, key, value = heads.unbind(1)
        attended = attend_packed(query, key, value, windows, causal=False, flash=flash)
        hidden = hidden + self.output(attended.flatten(1))
        hidden = hidden + self.down(self.activation(self.up(self.mlp_norm(hidden))))
        if hidden.dtype == torch.float16:
            largest = torch.finfo(torch.float16).max - 1000
            hidden = hidden.clamp(-largest, largest)
        return hidden


class Encoder(nn.Module):
    """The audio encoder with its projection into the language model.

    Args:
        tower: transformers' Qwen3ASREncoder, on its device and in its precision.
        projector: Qwen3ASRMultiModalProjector.
        flash: whether to use flash attention.
    """

    def __init__(self, tower: Any, projector: Any, *, flash: bool) -> None:
        super().__init__()
        self.flash = flash
        self.chunk: int = 2 * tower.n_window
        self.chunk_tokens = convolved(self.chunk)
        self.window = self.chunk_tokens * (tower.n_window_infer // self.chunk)
        self.convolutions = nn.ModuleList([tower.conv2d1, tower.conv2d2, tower.conv2d3])
        if tower.conv_out.weight.device.type != "cpu":
            # Channels last is what tensor cores take: in any other layout cuDNN converts both ways.
            for convolution in (tower.conv2d2, tower.conv2d3):
                convolution.weight.data = convolution.weight.data.to(memory_format=torch.channels_last)
        self.conv_out = tower.conv_out
        # transformers keeps it in float32, see `loading`.
        self.positions: torch.Tensor = tower.positional_embedding.positional_embedding
        self.layers = nn.ModuleList(EncoderLayer(layer) for layer in tower.layers)
        self.norm = tower.ln_post
        self.projector = projector

    @property
    def dtype(self) -> torch.dtype:
        """Precision of its activations, and of the features that it wants."""
        dtype: torch.dtype = self.conv_out.weight.dtype
        return dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = self.conv_out.weight.device
        return device

    def tokens(self, frames: int) -> int:
        """Number of tokens of a clip of so many frames."""
        chunks, rest = divmod(frames, self.chunk)
        return chunks * self.chunk_tokens + convolved(rest)

    def forward(self, chunks: torch.Tensor, frames: Sequence[int]) -> torch.Tensor:
        """Encode clips.

        Args:
            chunks: features of all clips, one clip behind the other, (chunks, mel bins, frames of a chunk),
                on the device and in its precision. The last chunk of a clip is filled up with zeros.
            frames: valid frames of each clip, known to the host.

        Returns:
            (tokens, width of the language model): the tokens of all clips, one clip behind the other.
        """
        lengths = [self.tokens(count) for count in frames]
        convolve = self._convolve_slice if chunks.device.type == "cpu" else self.convolve_padded
        hidden = self._select(convolve(chunks), frames, lengths)
        windows = Packing.of([part for length in lengths for part in self._windows(length)], self.device)
        for layer in self.layers:
            hidden = layer(hidden, windows, self.flash)
        projected: torch.Tensor = self.projector(self.norm(hidden))
        return projected

    def convolve_padded(self, chunks: torch.Tensor) -> torch.Tensor:
        """Convolve chunks in slices of few shapes, each filled up with zeros.

        Args:
            chunks: (chunks, mel bins, frames of a chunk).

        Returns:
            (chunks, tokens of a chunk, width).
        """
        count = len(chunks)
        if missing := -count % _CHUNK_MULTIPLE:
            chunks = torch.cat([chunks, chunks.new_zeros(missing, *chunks.shape[1:])])
        slices = chunks.split(CONVOLUTION_SECONDS * 100 // self.chunk)
        return torch.cat([self._convolve_slice(part) for part in slices])[:count]

    def _convolve_slice(self, chunks: torch.Tensor) -> torch.Tensor:
        first = self.convolutions[0]
        on_cpu = chunks.device.type == "cpu"
        hidden = functional.gelu(first(chunks[:, None]) if on_cpu else convolve_patches(first, chunks))
        for convolution in self.convolutions[1:]:
            hidden = functional.gelu(convolution(hidden))
        hidden = self.conv_out(hidden.permute(0, 3, 1, 2).flatten(2))
        return hidden + self.positions[: hidden.shape[1]].to(hidden.dtype)

    def _select(self, hidden: torch.Tensor, frames: Sequence[int], lengths: Sequence[int]) -> torch.Tensor:
        """The valid tokens, (tokens, width): the last chunk of a clip has fewer than the others."""
        flat = hidden.flatten(0, 1)
        per_clip = [-(-count // self.chunk) * self.chunk_tokens for count in frames]
        if sum(per_clip) != len(flat):
            raise ValueError(f"{len(flat)} convolved tokens for clips of {sum(per_clip)}")
        if len(lengths) == 1:
            return flat[: lengths[0]]
        places: list[int] = []
        start = 0
        for length, padded in zip(lengths, per_clip, strict=True):
            places.extend(range(start, start + length))
            start += padded
        return flat.index_select(0, to_device(places, flat.device))

    def _windows(self, length: int) -> list[int]:
        """Lengths of the attention windows of a clip of so many tokens."""
        whole, rest = divmod(length, self.window)
        return [self.window] * whole + [rest] * (rest > 0)


def convolve_patches(convolution: Any, chunks: torch.Tensor) -> torch.Tensor:
    """A 3 x 3 convolution of stride 2 with one channel of input, as a product of its patches.

    cuDNN has no fast kernel for one channel: 4.7 ms for 512 chunks on an H200, as long as the convolution
    with 480 channels that follows.

    Args:
        convolution: with a padding of 1.
        chunks: (chunks, height, width).

    Returns:
        (chunks, channels, height / 2, width / 2), with its channels last in memory.
    """
    padded = functional.pad(chunks, (1, 1, 1, 1))
    patches = padded.unfold(1, 3, 2).unfold(2, 3, 2).flatten(3)
    # Nine numbers a patch, filled up to a length that tensor cores take.
    patches = functional.pad(patches, (0, 7))
    weight = functional.pad(convolution.weight.flatten(1), (0, 7))
    return functional.linear(patches, weight, convolution.bias).permute(0, 3, 1, 2)


def convolved(frames: int) -> int:
    """Length of so many frames after three convolutions of stride 2."""
    for _ in range(3):
        frames = (frames + 1) // 2
    return frames


def slices(durations: Sequence[float], seconds: float | None) -> list[tuple[int, int]]:
    """Cut a list of clips into runs of at most so many seconds, as (start, end); a longer clip stands alone.

    Args:
        durations: of each clip, in seconds.
        seconds: most of a run; None: every clip alone.
    """
    bounds: list[tuple[int, int]] = []
    start, total = 0, 0.0
    for index, duration in enumerate(durations):
        if index > start and (seconds is None or total + duration > seconds):
            bounds.append((start, index))
            start, total = index, 0.0
        total += duration
    return [*bounds, (start, len(durations))] if durations else []


def peak_bytes(encoder: Encoder, seconds: float) -> int:
    """About what one call with so many seconds of clips takes beside its result, in bytes.

    Its first convolution makes channels * mel bins / 2 * frames / 2 numbers, which exist twice while they are
    activated; the layers keep some ten vectors of the width of the MLP.
    """
    first: Any = encoder.convolutions[0]
    layer: Any = encoder.layers[0]
    convolution = 2.5 * first.out_channels * _BINS / 2 * 50
    layers = 13 * 4 * layer.up.out_features
    sliced = min(seconds, CONVOLUTION_SECONDS)
    return math.ceil((convolution * sliced + layers * seconds) * encoder.dtype.itemsize)
