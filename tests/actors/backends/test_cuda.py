"""What only a GPU can show: `make test-gpu`. The demo models, which need next to no memory, against themselves on the CPU."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from actors.aligner import AlignerActor  # noqa: E402
from actors.asr import ASRActor  # noqa: E402
from actors.backends.transformers.loading import load  # noqa: E402
from actors.config import AlignerConfig, ASRConfig, PoolConfig  # noqa: E402
from actors.records import SegmentRequest  # noqa: E402

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here"),
]

DEMO = Path(__file__).resolve().parents[3] / "configs/demo"
ENGINE = """
import sys
from actors.backends import create_asr
from actors.config import ASRConfig, PoolConfig

if __name__ == "__main__":
    create_asr(ASRConfig(backend="vllm", model=sys.argv[1], pool=PoolConfig(num_gpus=float(sys.argv[2])))).close()
"""
FILES = ("hotline-8khz.wav", "voice-note.ogg")


def clips() -> list[np.ndarray]:
    """Demo recordings, int16 at 16 kHz."""
    import soundfile
    import soxr

    found = []
    for name in FILES:
        samples, rate = soundfile.read(DEMO / "audio" / name, dtype="float32", always_2d=True)
        found.append(
            (soxr.resample(samples.mean(1), rate, 16_000) * 32767).clip(-32768, 32767).astype(np.int16)
        )
    return found


def heard(**settings: Any) -> list[str]:
    actor = ASRActor(ASRConfig(model=str(DEMO / "asr"), **settings))
    return [result.text for result in actor.recognise([SegmentRequest(clip) for clip in clips()])]


@pytest.mark.parametrize("dtype", ["float32", "auto"])
def test_a_gpu_hears_what_the_cpu_hears(dtype: str) -> None:
    assert heard(device="cuda", dtype=dtype) == heard(device="cpu", dtype="float32")


def test_positions_keep_their_precision_on_the_card() -> None:
    model = load(str(DEMO / "asr"), "asr", ASRConfig(device="cuda")).model
    assert {buffer.dtype for name, buffer in model.named_buffers() if name.endswith("inv_freq")} == {
        torch.float32
    }


def test_a_part_of_a_card_is_a_part_of_its_memory() -> None:
    total = torch.cuda.get_device_properties(0).total_memory
    try:
        ASRActor(ASRConfig(model=str(DEMO / "asr"), device="cuda", pool=PoolConfig(num_gpus=0.5)))
        with pytest.raises(torch.OutOfMemoryError):
            torch.empty(int(total * 0.6), dtype=torch.uint8, device="cuda")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_a_batch_that_does_not_fit_is_halved() -> None:
    actor = ASRActor(
        ASRConfig(model=str(DEMO / "asr"), device="cuda", max_batch_size=64, max_batch_seconds=960)
    )
    whole = [result.text for result in actor.recognise([SegmentRequest(clip) for clip in clips() * 16])]
    torch.cuda.empty_cache()
    room = torch.cuda.memory_allocated() + (48 << 20)
    torch.cuda.set_per_process_memory_fraction(room / torch.cuda.get_device_properties(0).total_memory)
    try:
        assert [
            result.text for result in actor.recognise([SegmentRequest(clip) for clip in clips() * 16])
        ] == whole
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_words_are_where_the_cpu_finds_them() -> None:
    times = []
    for device in ("cuda", "cpu"):
        actor = AlignerActor(AlignerConfig(model=str(DEMO / "aligner"), device=device, dtype="float32"))
        clip = clips()[0]
        segment = {
            "samples": clip.tobytes(),
            "text": heard(device="cpu")[0],
            "language": "pt",
            "start": 0.0,
            "end": len(clip) / 16_000,
        }
        [(done, error)] = actor.align([segment])
        assert error is None
        times.append([(word["text"], word["start"], word["end"]) for word in done["words"]])
    assert times[0] == times[1] and times[0]


@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed here")
def test_two_engines_begin_on_one_card() -> None:
    """vLLM measures a card's memory while it starts, as if nobody else were there: ours start one after the other."""
    engines = [
        subprocess.Popen([sys.executable, "-c", ENGINE, DEMO / "asr", share]) for share in ("0.6", "0.3")
    ]
    assert [engine.wait(timeout=600) for engine in engines] == [0, 0]
