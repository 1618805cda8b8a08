"""Features are a clip's own, and the same as the processor's for that clip."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from actors.backends.mel import audio_tokens, collate, extract  # noqa: E402


@pytest.fixture(scope="module")
def extractor() -> transformers.Qwen3ASRFeatureExtractor:
    return transformers.Qwen3ASRFeatureExtractor()


def test_a_clips_features_do_not_depend_on_its_neighbours(extractor, waveforms) -> None:
    mels = [extract(extractor, waveform) for waveform in waveforms]
    features, mask = collate(mels)
    for row, mel in enumerate(mels):
        frames = mel.features.shape[1]
        assert torch.equal(features[row, :, :frames], mel.features)
        assert not features[row, :, frames:].any()
        assert mask[row].sum() == mel.frames and mask[row, : mel.frames].all()


def test_the_stock_batch_call_does_depend_on_them(extractor, waveforms) -> None:
    """The reason for this module: should it stop being true, the module can go."""
    clips = [waveform.astype(np.float32) / 32768 for waveform in waveforms[:3]]
    batch = extractor(clips, padding=True, sampling_rate=16_000, return_attention_mask=True)["input_features"][0]
    alone = extract(extractor, waveforms[0])
    assert not torch.equal(batch[:, : alone.features.shape[1]], alone.features)


def test_levels_are_kept(extractor) -> None:
    """int16 full scale is 1.0; no peak normalisation, which would give both clips the same features."""
    tone = np.sin(np.arange(16_000) / 16_000 * 2 * np.pi * 440)
    loud, quiet = (extract(extractor, (tone * peak).astype(np.int16)).features.max() for peak in (32_000, 320))
    assert loud - quiet == pytest.approx(1.0, abs=0.01)  # 40 dB are 4 decades of power, and features are log10 / 4


def test_short_clips_are_half_a_second_long(extractor) -> None:
    samples = np.full(1000, 500, dtype=np.int16)
    short, padded = extract(extractor, samples), extract(extractor, np.pad(samples, (0, 7000)))
    assert short.frames == 50
    assert torch.equal(short.features, padded.features)
    assert extract(extractor, np.zeros(0, dtype=np.int16)).frames == 50


@pytest.mark.parametrize(("frames", "tokens"), [(50, 7), (100, 13), (101, 14), (109, 15), (800, 104), (3000, 390), (18_000, 2340)])
def test_audio_tokens(frames: int, tokens: int) -> None:
    assert audio_tokens(frames) == tokens


def test_audio_tokens_are_the_processors(tiny_models, waveforms) -> None:
    processor = transformers.AutoProcessor.from_pretrained(tiny_models.asr)
    frames = torch.arange(1, 1000)
    assert processor._get_audio_token_length(frames).tolist() == [audio_tokens(int(number)) for number in frames]
