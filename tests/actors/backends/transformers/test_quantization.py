"""The language model in 8 bits: what is turned, what it still says, and where it is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from actors.backends.devices import pick_dtype  # noqa: E402
from actors.backends.transformers.aligner import TransformersAligner  # noqa: E402
from actors.backends.transformers.asr import TransformersASR  # noqa: E402
from actors.config import AlignerConfig, ASRConfig  # noqa: E402
from actors.errors import FatalError  # noqa: E402
from actors.records import AlignmentRequest, SegmentRequest  # noqa: E402

DEMO = Path(__file__).parents[4] / "configs" / "demo"
TEXT = "Please nine two seven hello music yes six no."


@pytest.fixture(scope="module")
def waveform() -> np.ndarray:
    return soundfile.read(DEMO / "audio" / "front-desk.wav", dtype="int16")[0]


@pytest.mark.parametrize("chip_has_bf16", [False, True])
def test_the_demo_recogniser_says_nearly_the_same(
    waveform: np.ndarray, chip_has_bf16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.backends.transformers.loading.cpu_multiplies_bf16", lambda: chip_has_bf16)
    backend = TransformersASR(ASRConfig(model=str(DEMO / "asr"), dtype="int8", device="cpu", threads=1))
    assert backend.network.encoder.dtype == (torch.bfloat16 if chip_has_bf16 else torch.float32)
    kinds = {type(module).__name__ for module in backend.network.decoder.modules()}
    assert "Linear" in kinds and not any(
        type(module) is torch.nn.Linear for module in backend.network.decoder.modules()
    )
    assert backend.network.head.weight().dtype == torch.qint8
    assert type(backend.network.encoder.projector.linear_1) is torch.nn.Linear
    [hypothesis] = backend.transcribe([SegmentRequest(waveform)])
    said = hypothesis.text.split()
    assert sum(word == other for word, other in zip(said, TEXT.split(), strict=True)) >= 8  # of nine
    assert hypothesis.language == "English" and hypothesis.confidence > 0.8


def test_the_demo_aligner_gives_nearly_the_same_times(waveform: np.ndarray) -> None:
    request = AlignmentRequest(waveform, tuple(TEXT.lower().rstrip(".").split()), "English")
    exact, rounded = (
        np.array(
            TransformersAligner(
                AlignerConfig(model=str(DEMO / "aligner"), dtype=dtype, device="cpu", threads=1)
            ).align([request])[0]
        )
        for dtype in ("float32", "int8")
    )
    assert np.abs(exact - rounded).max() <= 0.081  # one class


def test_not_on_a_gpu() -> None:
    with pytest.raises(FatalError, match="int8 is for CPUs"):
        pick_dtype("int8", torch.device("cuda"), 1)
    assert pick_dtype("int8", torch.device("cpu"), 1) == torch.float32
