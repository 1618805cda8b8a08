"""The network of Silero VAD, computed over many steps at once.

The package's model computes one step of 32 ms at a time, and most of that time is overhead. Only its last
layer, an LSTM, depends on earlier steps. Here everything before it is computed for many steps together, and
the LSTM for a whole waveform in one call: the probabilities are the same to 1e-6, a fifth of the time is
needed, and a short clip costs little more than its share of a long one.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from actors.records import SAMPLING_RATE

# Samples that the model processes at a time: 32 ms.
STEP = 512
# Samples before a step that the network also gets.
_CONTEXT = 64
# Samples of a Fourier transform, and between two of them.
_WINDOW, _HOP = 256, 128
# Strides of the convolutions.
_STRIDES = (1, 2, 2, 1)
# Steps at a time: more do not fit into a core's cache.
_STEPS = 512


class Network:
    """The network with the weights of the package's model.

    Args:
        weights: the state of the package's model, by name.

    Raises:
        KeyError: the package's model is built in another way.
    """

    def __init__(self, weights: dict[str, Any]) -> None:
        import torch

        self._window = weights["_model.stft.forward_basis_buffer"][0, 0]
        self._convolutions = [
            (
                weights[f"_model.encoder.{number}.reparam_conv.weight"],
                weights[f"_model.encoder.{number}.reparam_conv.bias"],
                stride,
            )
            for number, stride in enumerate(_STRIDES)
        ]
        size = weights["_model.decoder.rnn.weight_hh"].shape[1]
        self._lstm = torch.nn.LSTM(size, size)
        with torch.no_grad():
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                getattr(self._lstm, f"{name}_l0").copy_(weights[f"_model.decoder.rnn.{name}"])
        self._weight = weights["_model.decoder.decoder.2.weight"].reshape(-1)
        self._bias = weights["_model.decoder.decoder.2.bias"]

    def features(self, wave: np.ndarray) -> Any:
        """What the LSTM gets.

        Args:
            wave: float32 in [-1, 1].

        Returns:
            A tensor of shape (steps, features).
        """
        import torch

        steps = -(-len(wave) // STEP)
        padded = torch.zeros(_CONTEXT + steps * STEP)
        padded[_CONTEXT : _CONTEXT + len(wave)] = torch.from_numpy(wave)
        parts = [
            self._encode(padded[first * STEP : _CONTEXT + min(steps, first + _STEPS) * STEP])
            for first in range(0, steps, _STEPS)
        ]
        return torch.cat(parts) if parts else torch.zeros(0, self._lstm.input_size)

    def probabilities(self, features: Any) -> np.ndarray:
        """The probability of speech in each step.

        Args:
            features: a tensor of shape (steps, waveforms, features).

        Returns:
            float32, shape (waveforms, steps).
        """
        import torch

        hidden, _ = self._lstm(features)
        probabilities: np.ndarray = torch.sigmoid(torch.relu(hidden) @ self._weight + self._bias).T.numpy()
        return probabilities

    def _encode(self, samples: Any) -> Any:
        import torch
        from torch.nn import functional

        pieces = samples.unfold(0, _CONTEXT + STEP, STEP)
        pieces = functional.pad(pieces[:, None], (0, _CONTEXT), mode="reflect")[:, 0]
        values = torch.fft.rfft(pieces.unfold(1, _WINDOW, _HOP) * self._window).abs().transpose(1, 2)
        for weight, bias, stride in self._convolutions:
            values = torch.relu(functional.conv1d(values, weight, bias, stride=stride, padding=1))
        return values[:, :, 0]


class ScriptedNetwork:
    """The package's model, step by step: for versions that are built in another way.

    Args:
        model: the package's model.
    """

    def __init__(self, model: Any) -> None:
        self._model = model

    def features(self, wave: np.ndarray) -> Any:
        """The samples of each step: a tensor of shape (steps, samples)."""
        import torch

        steps = -(-len(wave) // STEP)
        return torch.from_numpy(np.pad(wave, (0, steps * STEP - len(wave)))).view(steps, STEP)

    def probabilities(self, features: Any) -> np.ndarray:
        """See `Network.probabilities`."""
        import torch

        self._model.reset_states()
        steps = [self._model(step, SAMPLING_RATE)[:, 0] for step in features]
        probabilities: np.ndarray = torch.stack(steps, dim=1).numpy()
        return probabilities


@cache
def network() -> Network | ScriptedNetwork:
    """The network of the installed package `silero-vad`."""
    import torch
    from silero_vad import load_silero_vad

    # A decoding task owns one CPU.
    torch.set_num_threads(1)
    model = load_silero_vad(onnx=False)
    try:
        return Network(model.state_dict())
    except (KeyError, RuntimeError):
        return ScriptedNetwork(model)
