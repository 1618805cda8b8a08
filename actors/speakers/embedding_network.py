"""The network of CAM++, which turns a second or more of one voice into a vector.

Method: Wang et al., "CAM++: A Fast and Efficient Network for Speaker Verification Using Context-Aware
Masking" (Interspeech 2023). The weights are those of `speech_campplus_sv_zh_en_16k-common_advanced`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# Dilation of each dense block.
_DILATIONS = (1, 2, 2)
# Frames over which a context is averaged, after the first layer has halved the frame rate: two seconds.
_CONTEXT = 100
_EPSILON = 1e-5


class EmbeddingNetwork:
    """The network with its weights; batch normalisation is folded into scales and offsets when it is loaded.

    Args:
        weights: the published state, by name.
        device: where it runs.

    Raises:
        KeyError: the weights are those of another network.
    """

    def __init__(self, weights: Mapping[str, Tensor], device: torch.device | str = "cpu") -> None:
        self._weights = {name: value.to(device) for name, value in weights.items() if value.ndim}
        self._norms = {
            name.removesuffix(".running_var"): self._norm(name.removesuffix(".running_var"))
            for name in self._weights
            if name.endswith(".running_var")
        }
        self._layers = [_count(weights, f"xvector.block{number}.tdnnd") for number in (1, 2, 3)]
        self._convolutions = {
            name: self._folded(name, norm)
            for name, norm in {
                "head.conv1": "head.bn1",
                "head.conv2": "head.bn2",
                "xvector.tdnn.linear": "xvector.tdnn.nonlinear.batchnorm",
                "xvector.dense.linear": "xvector.dense.nonlinear.batchnorm",
                **{
                    f"head.layer{layer}.{block}.{conv}": f"head.layer{layer}.{block}.{norm}"
                    for layer in (1, 2)
                    for block in (0, 1)
                    for conv, norm in (("conv1", "bn1"), ("conv2", "bn2"), ("shortcut.0", "shortcut.1"))
                    if f"head.layer{layer}.{block}.{conv}.weight" in weights
                },
                **{
                    f"xvector.block{block}.tdnnd{layer + 1}.linear1": (
                        f"xvector.block{block}.tdnnd{layer + 1}.nonlinear2.batchnorm"
                    )
                    for block in (1, 2, 3)
                    for layer in range(self._layers[block - 1])
                },
            }.items()
        }
        self.dimension = int(weights["xvector.dense.linear.weight"].shape[0])

    def __call__(self, features: Tensor) -> Tensor:
        """Embed windows of equal length.

        Args:
            features: log mel energies without their mean, shape (windows, frames, 80), on the device.

        Returns:
            Shape (windows, dimension), not normalised.
        """
        import torch
        from torch.nn import functional

        # Channels last: the convolutions of the head take half the time.
        image = features.transpose(1, 2)[:, None].contiguous(memory_format=torch.channels_last)
        values = self._head(image)
        weight, bias = self._convolutions["xvector.tdnn.linear"]
        values = functional.conv1d(values, weight, bias, stride=2, padding=weight.shape[-1] // 2).relu_()
        for number, (layers, dilation) in enumerate(zip(self._layers, _DILATIONS, strict=True), 1):
            values = self._dense_block(values, f"xvector.block{number}", layers, dilation)
            values = self._activated(values, f"xvector.transit{number}.nonlinear.batchnorm")
            values = functional.conv1d(values, self._weights[f"xvector.transit{number}.linear.weight"])
        values = self._activated(values, "xvector.out_nonlinear.batchnorm")
        return self._pooled(values)

    def _head(self, image: Tensor) -> Tensor:
        """The two-dimensional part: (windows, 1, mel bands, frames) to (windows, channels, frames)."""
        image = self._convolve(image, "head.conv1").relu_()
        for layer in (1, 2):
            for block in (0, 1):
                name = f"head.layer{layer}.{block}"
                stride = 2 if block == 0 else 1
                inner = self._convolve(image, f"{name}.conv1", stride).relu_()
                inner = self._convolve(inner, f"{name}.conv2")
                shortcut = f"{name}.shortcut.0"
                if shortcut in self._convolutions:
                    image = self._convolve(image, shortcut, stride)
                image = inner.add_(image).relu_()
        image = self._convolve(image, "head.conv2", stride=2).relu_()
        return image.flatten(1, 2)

    def _dense_block(self, values: Tensor, name: str, layers: int, dilation: int) -> Tensor:
        """A block in which each layer gets the outputs of all layers before it."""
        import torch
        from torch.nn import functional

        width = int(self._weights[f"{name}.tdnnd1.cam_layer.linear_local.weight"].shape[0])
        windows, channels, frames = values.shape
        outputs = values.new_empty((windows, channels + layers * width, frames))
        outputs[:, :channels] = values
        for number in range(layers):
            layer = f"{name}.tdnnd{number + 1}"
            scale, offset = self._norms[f"{layer}.nonlinear1.batchnorm"]
            hidden = torch.addcmul(offset, outputs[:, :channels], scale).relu_()
            weight, bias = self._convolutions[f"{layer}.linear1"]
            hidden = functional.conv1d(hidden, weight, bias).relu_()
            outputs[:, channels : channels + width] = self._masked(hidden, f"{layer}.cam_layer", dilation)
            channels += width
        return outputs

    def _masked(self, hidden: Tensor, name: str, dilation: int) -> Tensor:
        """A convolution whose output is weighted by the context: of the whole window, and of two seconds."""
        import torch
        from torch.nn import functional

        weights = self._weights
        local = weights[f"{name}.linear_local.weight"]
        output = functional.conv1d(
            hidden, local, padding=(local.shape[-1] - 1) // 2 * dilation, dilation=dilation
        )
        frames = hidden.shape[-1]
        context = hidden.mean(-1, keepdim=True)
        context = context + functional.avg_pool1d(hidden, _CONTEXT, _CONTEXT, ceil_mode=True)
        mask = functional.conv1d(context, weights[f"{name}.linear1.weight"], weights[f"{name}.linear1.bias"])
        mask = functional.conv1d(
            mask.relu_(), weights[f"{name}.linear2.weight"], weights[f"{name}.linear2.bias"]
        )
        mask = torch.sigmoid(mask)
        if mask.shape[-1] > 1:
            mask = mask.repeat_interleave(_CONTEXT, -1)[..., :frames]
        return output.mul_(mask)

    def _pooled(self, values: Tensor) -> Tensor:
        """Mean and standard deviation over time, and the last layer."""
        import torch

        statistics = torch.cat([values.mean(-1), values.std(-1, unbiased=True)], 1)
        weight, bias = self._convolutions["xvector.dense.linear"]
        return torch.addmm(bias, statistics, weight[:, :, 0].T)

    def _activated(self, values: Tensor, norm: str) -> Tensor:
        import torch

        scale, offset = self._norms[norm]
        return torch.addcmul(offset, values, scale).relu_()

    def _convolve(self, image: Tensor, name: str, stride: int = 1) -> Tensor:
        """A two-dimensional convolution that keeps the number of frames."""
        from torch.nn import functional

        weight, bias = self._convolutions[name]
        return functional.conv2d(image, weight, bias, stride=(stride, 1), padding=weight.shape[-1] // 2)

    def _norm(self, name: str) -> tuple[Tensor, Tensor]:
        """Scale and offset of a batch normalisation, shape (channels, 1)."""
        import torch

        mean, variance = self._weights[f"{name}.running_mean"], self._weights[f"{name}.running_var"]
        # The last layer has no weights of its own.
        weight = self._weights.get(f"{name}.weight", torch.ones_like(mean))
        bias = self._weights.get(f"{name}.bias", torch.zeros_like(mean))
        scale = weight / torch.sqrt(variance + _EPSILON)
        return scale[:, None], (bias - mean * scale)[:, None]

    def _folded(self, convolution: str, norm: str) -> tuple[Tensor, Tensor]:
        """Weight and bias of a convolution that a batch normalisation follows."""
        scale, offset = self._norms[norm]
        weight = self._weights[f"{convolution}.weight"]
        return weight * scale.reshape(-1, *[1] * (weight.ndim - 1)), offset[:, 0]


def _count(weights: Mapping[str, Tensor], prefix: str) -> int:
    return len({name[len(prefix) :].split(".")[0] for name in weights if name.startswith(prefix)})
