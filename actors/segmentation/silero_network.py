"""The network of Silero VAD in numpy, computed over many steps at once.

The package's model computes one step of 32 ms at a time, and most of that time is overhead. Only its last
layer, an LSTM, depends on earlier steps. Here everything before it is computed for many steps together, and
the LSTM for many waveforms at a time. The probabilities are the same to 1e-5.

The weights are read from the package's file without torch, whose import costs a process 1.5 s and 160 MiB.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from actors.records import SAMPLING_RATE

# Samples that the model processes at a time: 32 ms.
STEP = 512
# Samples before a step that the network also gets.
_CONTEXT = 64
# Samples of a Fourier transform, and between two of them.
_WINDOW, _HOP = 256, 128
# Frequencies of a spectrum, channels behind each convolution, and values of the LSTM's state.
_BINS, _CHANNELS, _STATE = 129, (128, 64, 64, 128), 128
# Steps at a time: more do not fit into a core's cache.
_STEPS = 128
_FILE = "data/silero_vad.jit"


class VadNetwork(Protocol):
    """A network of Silero VAD."""

    def features(self, wave: np.ndarray) -> np.ndarray:
        """What the recurrent part gets of a waveform: float32, shape (steps, values).

        Args:
            wave: float32 in [-1, 1] at 16 kHz.
        """

    def probabilities(self, parts: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The probability of speech in each step of each part: float32, shape (steps,).

        Args:
            parts: of `features`. The network forgets what was before each.
        """


class Network:
    """The network with the weights of the package's model.

    Args:
        weights: the state of the package's model, by name.

    Raises:
        ValueError: the package's model is built in another way.
    """

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        self._basis = _weight(weights, "stft.forward_basis_buffer", (2 * _BINS, 1, _WINDOW))[:, 0].T.copy()
        self._convolutions = []
        inputs = _BINS
        for number, outputs in enumerate(_CHANNELS):
            name = f"encoder.{number}.reparam_conv"
            weight = _weight(weights, f"{name}.weight", (outputs, inputs, 3))
            bias = _weight(weights, f"{name}.bias", (outputs,))
            # One row for each place and input, so that a convolution is a product of matrices.
            self._convolutions.append((weight.transpose(2, 1, 0).reshape(3 * inputs, outputs).copy(), bias))
            inputs = outputs
        # sigmoid(x) = (1 + tanh(x / 2)) / 2, so that one call serves all gates. They are input, forget, cell
        # and output.
        halves = np.repeat(np.array([0.5, 0.5, 1.0, 0.5], np.float32), _STATE)
        square = (4 * _STATE, _STATE)
        self._from_input = (_weight(weights, "decoder.rnn.weight_ih", square).T * halves).copy()
        self._from_state = (_weight(weights, "decoder.rnn.weight_hh", square).T * halves).copy()
        biases = [_weight(weights, f"decoder.rnn.{name}", (4 * _STATE,)) for name in ("bias_ih", "bias_hh")]
        self._gate_bias = (biases[0] + biases[1]) * halves
        self._weight = _weight(weights, "decoder.decoder.2.weight", (1, _STATE, 1)).reshape(-1)
        self._bias = _weight(weights, "decoder.decoder.2.bias", (1,))

    def features(self, wave: np.ndarray) -> np.ndarray:
        """What the LSTM's gates get, see `VadNetwork`."""
        steps = -(-len(wave) // STEP)
        padded = np.zeros(_CONTEXT + steps * STEP, np.float32)
        padded[_CONTEXT : _CONTEXT + len(wave)] = wave
        features = np.empty((steps, 4 * _STATE), np.float32)
        for first in range(0, steps, _STEPS):
            last = min(steps, first + _STEPS)
            features[first:last] = self._encode(padded[first * STEP : _CONTEXT + last * STEP])
        return features

    def probabilities(self, parts: Sequence[np.ndarray]) -> list[np.ndarray]:
        """See `VadNetwork`."""
        if not parts:
            return []
        gates = np.zeros((max(map(len, parts)), len(parts), 4 * _STATE), np.float32)
        for number, part in enumerate(parts):
            gates[: len(part), number] = part
        hidden = self._lstm(gates)
        np.maximum(hidden, 0, out=hidden)
        speech = 1 / (1 + np.exp(-(hidden @ self._weight + self._bias)))
        return [speech[: len(part), number] for number, part in enumerate(parts)]

    def _encode(self, samples: np.ndarray) -> np.ndarray:
        count = (len(samples) - _CONTEXT) // STEP
        pieces = np.empty((count, _CONTEXT + STEP + _CONTEXT), np.float32)
        pieces[:, :-_CONTEXT] = np.lib.stride_tricks.sliding_window_view(samples, _CONTEXT + STEP)[::STEP]
        # Mirrored at the end of each step.
        pieces[:, -_CONTEXT:] = pieces[:, -_CONTEXT - 2 : -2 * _CONTEXT - 2 : -1]
        windows = np.lib.stride_tricks.sliding_window_view(pieces, _WINDOW, axis=1)[:, ::_HOP]
        spectra = windows.reshape(-1, _WINDOW) @ self._basis
        np.square(spectra, out=spectra)
        amplitudes = np.sqrt(spectra[:, :_BINS] + spectra[:, _BINS:])
        # Four places, of which the second and third convolution take every second one.
        first, second, third, fourth = self._convolutions
        around = np.zeros((count, 6, _BINS), np.float32)
        around[:, 1:5] = amplitudes.reshape(count, 4, _BINS)
        values: np.ndarray = _relu(_neighbours(around, 4), *first).reshape(count, 4, -1)
        around = np.zeros((count, 5, _CHANNELS[0]), np.float32)
        around[:, 1:] = values
        values = _relu(_neighbours(around, 2, stride=2), *second).reshape(count, -1)
        # One place is left: of three weights, those of the zeros around it are not needed.
        weight, bias = third
        values = _relu(values, weight[_CHANNELS[1] :], bias)
        weight, bias = fourth
        values = _relu(values, weight[_CHANNELS[2] : 2 * _CHANNELS[2]], bias)
        result: np.ndarray = values @ self._from_input
        result += self._gate_bias
        return result

    def _lstm(self, gates: np.ndarray) -> np.ndarray:
        """The outputs of the LSTM: shape (steps, waveforms, values). Overwrites `gates`."""
        steps, waveforms, _ = gates.shape
        hidden = np.empty((steps, waveforms, _STATE), np.float32)
        state, cell = np.zeros((2, waveforms, _STATE), np.float32)
        recurrent = np.empty((waveforms, 4 * _STATE), np.float32)
        for step in range(steps):
            gate = gates[step]
            np.dot(state, self._from_state, out=recurrent)
            gate += recurrent
            np.tanh(gate, out=gate)
            keep, output = gate[:, : 2 * _STATE], gate[:, 3 * _STATE :]
            keep += 1
            keep *= 0.5
            output += 1
            output *= 0.5
            cell *= gate[:, _STATE : 2 * _STATE]
            new = gate[:, :_STATE]
            new *= gate[:, 2 * _STATE : 3 * _STATE]
            cell += new
            state = hidden[step]
            np.tanh(cell, out=state)
            state *= output
        return hidden


def _neighbours(values: np.ndarray, count: int, stride: int = 1) -> np.ndarray:
    """Three neighbouring places as one row: shape (steps * count, 3 * channels).

    Args:
        values: shape (steps, places, channels).
        count: rows of each step.
        stride: places between two rows.
    """
    step, place, channel = values.strides
    rows = np.lib.stride_tricks.as_strided(
        values, (len(values), count, 3 * values.shape[2]), (step, stride * place, channel), writeable=False
    )
    return rows.reshape(-1, 3 * values.shape[2])


def _relu(values: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    result: np.ndarray = values @ weight
    result += bias
    return np.maximum(result, 0, out=result)


def _weight(weights: dict[str, np.ndarray], name: str, shape: tuple[int, ...]) -> np.ndarray:
    found = weights.get(f"_model.{name}")
    if found is None or found.shape != shape or found.dtype != np.float32:
        raise ValueError(f"the model has no {name} of shape {shape}")
    return found


class ScriptedNetwork:
    """The package's model, step by step and in torch: for versions that are built in another way."""

    def __init__(self) -> None:
        import torch
        from silero_vad import load_silero_vad

        # A decoding task owns one CPU.
        torch.set_num_threads(1)
        self._model = load_silero_vad(onnx=False)

    def features(self, wave: np.ndarray) -> np.ndarray:
        """The samples of each step."""
        steps = -(-len(wave) // STEP)
        return np.pad(wave, (0, steps * STEP - len(wave))).reshape(steps, STEP)

    def probabilities(self, parts: Sequence[np.ndarray]) -> list[np.ndarray]:
        """See `VadNetwork`."""
        import torch

        found = []
        with torch.inference_mode():
            for part in parts:
                self._model.reset_states()
                steps = [float(self._model(torch.from_numpy(step[None]), SAMPLING_RATE)) for step in part]
                found.append(np.array(steps, np.float32))
        return found


@cache
def network() -> VadNetwork:
    """The network of the installed package `silero-vad`."""
    return own_network() or ScriptedNetwork()


@cache
def own_network() -> Network | None:
    """The network in numpy; None where the installed version of the package is built in another way."""
    try:
        return Network(read_weights(package_folder() / _FILE))
    except (OSError, ValueError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile):
        return None


def package_folder() -> Path:
    """The folder of the package `silero-vad`, which is found without its import: it would import torch."""
    spec = find_spec("silero_vad")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the extra `vad` is not installed")
    return Path(spec.origin).parent


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a TorchScript file by name; all that is code in it is ignored.

    Raises:
        OSError, ValueError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile: it cannot be read.
    """
    with zipfile.ZipFile(path) as archive:
        [state] = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
        with archive.open(state) as file:
            root = _Unpickler(file, archive, state.removesuffix("data.pkl")).load()
    weights: dict[str, np.ndarray] = {}
    _collect(root, "", weights)
    return weights


class _Module:
    """A module of the archive: the tensors and modules in it by name."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


class _Unpickler(pickle.Unpickler):
    """Reads modules and tensors as such, and refuses everything else."""

    def __init__(self, file: Any, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(file)
        self._archive, self._folder = archive, folder

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return _Module
        known = {
            "torch._utils._rebuild_tensor_v2": _tensor,
            "torch.jit._pickle.build_intlist": list,
            "torch.FloatStorage": np.float32,
            "torch.LongStorage": np.int64,
            "collections.OrderedDict": dict,
        }
        if found := known.get(f"{module}.{name}"):
            return found
        raise pickle.UnpicklingError(f"the model has a {module}.{name}")

    def persistent_load(self, pid: Any) -> np.ndarray:
        _, kind, key, _, _ = pid
        return np.frombuffer(self._archive.read(f"{self._folder}data/{key}"), kind)


def _tensor(
    storage: np.ndarray, offset: int, shape: Sequence[int], strides: Sequence[int], *_: Any
) -> np.ndarray:
    size = int(np.prod(shape))
    tensor = storage[offset : offset + size].reshape(shape)
    steps = [step // storage.itemsize for step in tensor.strides]
    if any(count > 1 and step != wanted for count, step, wanted in zip(shape, steps, strides, strict=True)):
        raise pickle.UnpicklingError("a tensor is not contiguous")
    return tensor


def _collect(module: _Module, prefix: str, weights: dict[str, np.ndarray]) -> None:
    for name, value in vars(module).items():
        if isinstance(value, _Module):
            _collect(value, f"{prefix}{name}.", weights)
        elif isinstance(value, np.ndarray):
            weights[prefix + name] = value
