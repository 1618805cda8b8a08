"""Features depend on the clip only, and equal those of the processor for that clip."""

from __future__ import annotations

import threading

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from actors.backends.qwen import features as features_module  # noqa: E402
from actors.backends.qwen.features import (  # noqa: E402
    Ahead,
    Mel,
    audio_tokens,
    collate,
    extract,
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


def test_features_made_ahead_are_the_same(extractor, waveforms) -> None:
    """Bit for bit, in any order, started before or not."""
    made: list[str] = []

    def make(waveform: np.ndarray) -> Mel:
        made.append(threading.current_thread().name)
        return extract(extractor, waveform)

    ahead = Ahead(make, threads=3)
    first, second = waveforms[:3], waveforms[3:5]
    ahead.start(first)
    ahead.start(second)
    for waveform in [*first[::-1], *second, waveforms[5], first[0]]:
        assert torch.equal(ahead.take(waveform).features, extract(extractor, waveform).features)
    assert [name.startswith("mel") for name in made].count(True) == 5 and len(made) == 7


def test_features_belong_to_the_request_not_to_its_content() -> None:
    twins = [[1], [1]]
    ahead = Ahead(
        lambda twin: Mel(
            torch.zeros(1, 1), next(index for index, other in enumerate(twins) if other is twin)
        ),
        threads=1,
    )
    ahead.start(twins)
    assert [ahead.take(twin).frames for twin in twins[::-1]] == [1, 0]


def test_features_that_nobody_takes_are_dropped() -> None:
    ahead = Ahead(lambda request: Mel(torch.zeros(1, 1), len(request)), threads=1, calls=2)
    for requests in ([[1], [2, 2]], [[3]], [[4]]):
        ahead.start(requests)
    assert [len(batch) for batch in ahead._started] == [1, 1]


def test_features_of_the_next_table_survive_the_batches_before_it() -> None:
    """The next table's first batch is started while batches of the current one still follow."""
    made: list[int] = []

    def make(request: list[int]) -> Mel:
        made.append(request[0])
        return Mel(torch.zeros(1, 1), request[0])

    ahead = Ahead(make, threads=1)
    first, second, third, next_table = [1], [2], [3], [4]
    for batch in (first, second, next_table, third, next_table):
        ahead.start([batch])
    assert [ahead.take(batch).frames for batch in (first, second, third, next_table)] == [1, 2, 3, 4]
    assert sorted(made) == [1, 2, 3, 4]


def test_an_error_is_raised_for_its_own_request() -> None:
    def make(number: list[int]) -> Mel:
        return Mel(torch.zeros(1, 1), 10 // number[0])

    good, bad = [5], [0]
    ahead = Ahead(make, threads=2)
    ahead.start([bad, good])
    assert ahead.take(good).frames == 2
    for _ in range(2):  # made ahead, and made again
        with pytest.raises(ZeroDivisionError):
            ahead.take(bad)
