"""Our encoder and decoder over packed weights against transformers' own forward pass."""

from __future__ import annotations

import copy
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from actors.backends.qwen.features import Mel  # noqa: E402
from actors.backends.transformers import encoder as encoder_module  # noqa: E402
from actors.backends.transformers.decoder import Decoder, pack_linear  # noqa: E402
from actors.backends.transformers.encoder import convolve_patches, slices  # noqa: E402
from actors.backends.transformers.kernels.attention import Packing, attend_packed  # noqa: E402
from actors.backends.transformers.loading import Network  # noqa: E402
from tests.actors.backends.transformers.reference_decoding import reference_encode  # noqa: E402

# Frames of clips: less than a chunk, whole chunks, a window of 8 s and more, many windows, odd lengths.
CLIPS = [[50], [1], [99], [100], [350], [800], [801], [2950], [1700, 350, 801, 99], [800, 800, 7]]


@pytest.fixture(scope="module")
def models(tiny_models) -> tuple[Any, Any]:
    """transformers' model, and one that was packed."""
    model = transformers.Qwen3ASRForConditionalGeneration.from_pretrained(tiny_models.asr).float().eval()
    return copy.deepcopy(model), model


@pytest.fixture(scope="module")
def network(models) -> Network:
    return Network.of(models[1])


def features(frames: list[int]) -> list[Mel]:
    """Random features, zero behind the last frame as the extractor pads them."""
    generator = torch.Generator().manual_seed(sum(frames))
    made = []
    for count in frames:
        clip = torch.randn(128, -(-count // 100) * 100, generator=generator)
        clip[:, count:] = 0
        made.append(Mel(clip, count))
    return made


def chunks(clips: list[Mel]) -> torch.Tensor:
    return torch.cat([clip.features.unflatten(1, (-1, 100)).transpose(0, 1) for clip in clips])


@torch.inference_mode()
@pytest.mark.parametrize("frames", CLIPS, ids=str)
def test_clips_are_encoded_as_by_transformers(models, network, frames: list[int]) -> None:
    clips = features(frames)
    found = network.encoder(chunks(clips), frames)
    wanted = torch.cat([reference_encode(models[0], clip) for clip in clips])
    # The weights of the tiny model are blown up: the values are around 10.
    assert found.shape == wanted.shape
    assert torch.allclose(found, wanted, atol=2e-4, rtol=1e-5)


@torch.inference_mode()
def test_a_clip_is_encoded_the_same_bit_for_bit_with_itself(network) -> None:
    [clip] = features([1234])
    assert torch.equal(network.encoder(chunks([clip]), [1234]), network.encoder(chunks([clip]), [1234]))


@torch.inference_mode()
def test_convolutions_in_padded_slices_give_the_same(network, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU does: slices of few shapes; what is added to fill them is dropped."""
    monkeypatch.setattr(encoder_module, "CONVOLUTION_SECONDS", 64)
    sizes: list[int] = []
    convolve = network.encoder._convolve_slice
    monkeypatch.setattr(
        network.encoder, "_convolve_slice", lambda part: sizes.append(len(part)) or convolve(part)
    )
    for count in (1, 63, 64, 65, 130):
        parts = torch.randn(count, 128, 100)
        assert torch.allclose(network.encoder.convolve_padded(parts), convolve(parts), atol=1e-4)
    assert sizes == [64] * (1 + 1 + 1 + 2 + 3)


def test_lengths_are_those_of_the_processor(network) -> None:
    from actors.backends.qwen.features import audio_tokens

    assert [network.encoder.tokens(frames) for frames in range(1, 1000)] == [
        audio_tokens(frames) for frames in range(1, 1000)
    ]


def test_features_of_other_clips_are_refused(network) -> None:
    with pytest.raises(ValueError, match="convolved tokens"):
        network.encoder(torch.zeros(3, 128, 100), [100, 100])


def test_slices_of_a_list_of_clips() -> None:
    assert slices([1, 2, 3], None) == [(0, 1), (1, 2), (2, 3)]
    assert slices([1, 2, 3], 1000) == [(0, 3)]
    assert slices([3, 3, 2, 9, 1], 6) == [(0, 2), (2, 3), (3, 4), (4, 5)]
    assert slices([50], 6) == [(0, 1)]
    assert slices([], 6) == []


@torch.inference_mode()
def test_packed_sequences_are_decoded_as_by_transformers(models, network) -> None:
    ids = [
        torch.randint(0, 300, (1, length), generator=torch.Generator().manual_seed(length))
        for length in (57, 3, 20)
    ]
    decoder: Decoder = network.decoder
    packing = Packing.of([57, 3, 20], torch.device("cpu"))
    positions = torch.cat([torch.arange(part.shape[1]) for part in ids])
    found = decoder(
        decoder.embed(torch.cat(ids, 1)[0]),
        positions,
        lambda layer, query, key, value: attend_packed(query, key, value, packing, causal=True, flash=False),
    )
    wanted = torch.cat([models[0].model.language_model(input_ids=part).last_hidden_state[0] for part in ids])
    assert torch.allclose(found, wanted, atol=2e-5, rtol=1e-5)


@torch.inference_mode()
def test_packing_keeps_weights_in_memory_once(models, network) -> None:
    """The separate layers are views of the packed ones, and transformers' own forward pass still works."""
    stock, packed = models
    for layer, ours in zip(packed.model.language_model.layers, network.decoder.layers, strict=True):
        parts = [layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj]
        assert torch.equal(torch.cat([part.weight for part in parts]), ours.qkv.weight)
        storages = {part.weight.untyped_storage().data_ptr() for part in parts}
        assert storages == {ours.qkv.weight.untyped_storage().data_ptr()}
        gate = layer.mlp.gate_proj.weight
        assert gate.untyped_storage().data_ptr() == ours.gate_up.weight.untyped_storage().data_ptr()
    ids = torch.arange(20)[None]
    found = packed.model.language_model(input_ids=ids).last_hidden_state
    assert torch.equal(found, stock.model.language_model(input_ids=ids).last_hidden_state)


def test_a_packed_layer_has_the_biases_too() -> None:
    first, second = torch.nn.Linear(6, 4), torch.nn.Linear(6, 2)
    values = torch.randn(3, 6)
    wanted = torch.cat([first(values), second(values)], 1)
    packed = pack_linear(first, second)
    assert torch.allclose(packed(values), wanted, atol=1e-6)
    assert (packed.in_features, packed.out_features) == (6, 6)
    assert torch.allclose(torch.cat([first(values), second(values)], 1), wanted, atol=1e-6)


def test_windowed_attention_of_a_language_model_is_refused(models) -> None:
    model = copy.deepcopy(models[0].model.language_model)
    model.config.layer_types = ["full_attention", "sliding_attention"]
    with pytest.raises(ValueError, match="windowed attention"):
        Decoder(model)


@pytest.mark.parametrize(("height", "width"), [(128, 100), (7, 10), (8, 9)])
def test_a_convolution_as_a_product_of_patches_is_the_convolution(height: int, width: int) -> None:
    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(1, 6, 3, 2, 1)
    chunks = torch.randn(3, height, width)
    found = convolve_patches(convolution, chunks)
    torch.testing.assert_close(found, convolution(chunks[:, None]), atol=1e-5, rtol=1e-5)
    assert found.is_contiguous(memory_format=torch.channels_last)
