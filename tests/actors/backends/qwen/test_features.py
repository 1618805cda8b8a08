"""Features depend on the clip only, and equal those of the processor for that clip."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from actors.backends.qwen import features as features_module  # noqa: E402
from actors.backends.qwen.features import (  # noqa: E402
    audio_tokens,
    collate,
    extract,
    frames_of,
    log_mel_on_device,
)

CPU = torch.device("cpu")


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
    batch = extractor(clips, padding=True, sampling_rate=16_000, return_attention_mask=True)[
        "input_features"
    ][0]
    single_clip = extract(extractor, waveforms[0])
    assert not torch.equal(batch[:, : single_clip.features.shape[1]], single_clip.features)


def test_levels_are_preserved(extractor) -> None:
    """int16 full scale is 1.0; no peak normalisation, which would give both clips the same features."""
    tone = np.sin(np.arange(16_000) / 16_000 * 2 * np.pi * 440)
    loud, quiet = (
        extract(extractor, (tone * peak).astype(np.int16)).features.max() for peak in (32_000, 320)
    )
    assert loud - quiet == pytest.approx(
        1.0, abs=0.01
    )  # 40 dB are 4 decades of power, and features are log10 / 4


def test_short_clips_are_half_a_second_long(extractor) -> None:
    samples = np.full(1000, 500, dtype=np.int16)
    short, padded = extract(extractor, samples), extract(extractor, np.pad(samples, (0, 7000)))
    assert short.frames == 50
    assert torch.equal(short.features, padded.features)
    assert extract(extractor, np.zeros(0, dtype=np.int16)).frames == 50


@pytest.fixture(scope="module")
def clips(waveforms) -> list[np.ndarray]:
    """Clips of many lengths, also shorter than half a second, silent, and not of whole frames."""
    random = np.random.default_rng(5)
    noise = [
        (random.standard_normal(length) * 3000).astype(np.int16) for length in (100, 8001, 16_159, 70_000)
    ]
    return [*waveforms, *noise, np.zeros(20_000, np.int16), np.zeros(0, np.int16)]


@pytest.mark.parametrize("limit", [1, 120_000, 10**9])
def test_features_on_the_device_are_those_of_the_extractor(
    limit: int, extractor, clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features_module, "SLICE_SAMPLES", limit)
    expected, mask = collate([extract(extractor, clip) for clip in clips])
    found, frames = log_mel_on_device(extractor, clips, CPU)
    assert found.shape == expected.shape and found.dtype == torch.float32
    assert frames == mask.sum(1).tolist()
    assert (found - expected).abs().max() < 1e-4


def test_features_on_the_device_do_not_depend_on_neighbours(extractor, clips) -> None:
    batch, frames = log_mel_on_device(extractor, clips, CPU)
    for row, clip in enumerate(clips):
        [single], _ = log_mel_on_device(extractor, [clip], CPU)
        assert (batch[row, :, : single.shape[1]] - single).abs().max() < 1e-5
        assert not batch[row, :, frames[row] :].any()


def test_features_with_dither_are_refused(clips) -> None:
    with pytest.raises(ValueError, match="depend on chance"):
        log_mel_on_device(transformers.Qwen3ASRFeatureExtractor(dither=1e-5), clips, CPU)


def test_slices_stay_within_their_limit() -> None:
    assert features_module._slices([5, 5, 5, 5], 10) == [(0, 2), (2, 4)]
    assert features_module._slices([9, 2, 2, 2], 6) == [(0, 1), (1, 4)]
    assert features_module._slices([50], 6) == [(0, 1)]


@pytest.mark.parametrize(
    ("frames", "tokens"), [(50, 7), (100, 13), (101, 14), (109, 15), (800, 104), (3000, 390), (18_000, 2340)]
)
def test_audio_tokens(frames: int, tokens: int) -> None:
    assert audio_tokens(frames) == tokens


def test_audio_tokens_are_the_processors(tiny_models, waveforms) -> None:
    processor = transformers.AutoProcessor.from_pretrained(tiny_models.asr)
    frames = torch.arange(1, 1000)
    assert processor._get_audio_token_length(frames).tolist() == [
        audio_tokens(int(number)) for number in frames
    ]


@pytest.mark.parametrize("samples", [0, 1, 7_999, 8_000, 8_159, 8_160, 480_000])
def test_the_number_of_frames_is_known_before_the_features(samples: int, extractor) -> None:
    assert frames_of(samples) == extract(extractor, np.zeros(samples, np.int16)).frames


def test_clips_of_one_length_have_the_features_of_clips_of_many(extractor, waveforms) -> None:
    """A batch of equal lengths needs no padding; the result is the same."""
    length = min(map(len, waveforms))
    equal, frames = log_mel_on_device(extractor, [waveform[:length] for waveform in waveforms], CPU)
    assert len(set(frames)) == 1
    longer, _ = log_mel_on_device(
        extractor, [waveforms[0][:length], np.zeros(length + 50_000, np.int16)], CPU
    )
    assert torch.allclose(equal[0], longer[0, :, : equal.shape[2]], atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")
def test_features_on_a_gpu_are_those_of_the_extractor(extractor, clips) -> None:
    expected, mask = collate([extract(extractor, clip) for clip in clips])
    found, frames = log_mel_on_device(extractor, clips, torch.device("cuda"))
    assert frames == mask.sum(1).tolist()
    assert (found.cpu() - expected).abs().max() < 1e-4
