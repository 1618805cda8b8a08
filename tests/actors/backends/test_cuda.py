"""What only a GPU can show: `make test-gpu`. The demo models, which need little memory, against the CPU."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from actors.aligner import AlignerActor  # noqa: E402
from actors.asr import ASRActor  # noqa: E402
from actors.backends.transformers.asr import TransformersASR  # noqa: E402
from actors.backends.transformers.generation import Generator, Limits  # noqa: E402
from actors.backends.transformers.kernels.attention import _difference, flash_problem  # noqa: E402
from actors.backends.transformers.kernels.fused import difference, triton_problem  # noqa: E402
from actors.backends.transformers.loading import load  # noqa: E402
from actors.backends.transformers.scheduler import Generated  # noqa: E402
from actors.config import AlignerConfig, ASRConfig  # noqa: E402
from actors.config.base import PoolConfig  # noqa: E402
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
    pool = PoolConfig(num_gpus=float(sys.argv[2]))
    create_asr(ASRConfig(backend="vllm", model=sys.argv[1], pool=pool)).close()
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


def many_clips(count: int) -> list[np.ndarray]:
    """Pieces of the demo recordings, of 2 to 9 s."""
    speech = np.concatenate(clips())
    random = np.random.default_rng(0)
    lengths = (random.uniform(2, 9, count) * 16_000).astype(int)
    return [np.roll(speech, 7919 * number)[:length] for number, length in enumerate(lengths)]


def recognise(waveforms: list[np.ndarray], **settings: Any) -> list[str]:
    actor = ASRActor(ASRConfig(model=str(DEMO / "asr"), **settings))
    return [result.text for result in actor.recognise([SegmentRequest(wave) for wave in waveforms])]


@pytest.fixture
def memory_limit() -> Iterator[Any]:
    """`memory_limit(bytes)`: cap this process's share of the card."""
    total = torch.cuda.get_device_properties(0).total_memory
    yield lambda size: torch.cuda.set_per_process_memory_fraction(min(1.0, size / total))
    torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.fixture(scope="module")
def backend() -> TransformersASR:
    return TransformersASR(ASRConfig(model=str(DEMO / "asr"), device="cuda", dtype="float32"))


def generate(
    backend: TransformersASR, generator: Generator, waveforms: list[np.ndarray], rows: int
) -> list[Generated]:
    requests = [SegmentRequest(wave) for wave in waveforms]
    prompts = backend.prompts(requests)
    answers: dict[int, Any] = {}
    generator.generate(
        [backend.job(request) for request in requests],
        lambda numbers: [prompts[number] for number in numbers],
        Limits(10_000, rows),
        answers.__setitem__,
    )
    return [answers[number] for number in range(len(requests))]


@pytest.mark.parametrize("dtype", ["float32", "auto"])
def test_a_gpu_recognises_what_the_cpu_recognises(dtype: str) -> None:
    waveforms = clips()
    assert recognise(waveforms, device="cuda", dtype=dtype) == recognise(
        waveforms, device="cpu", dtype="float32"
    )


def test_many_segments_get_the_texts_of_a_cpu() -> None:
    """More segments than slots, of many lengths: refills, moved rows, graphs of several sizes."""
    waveforms = many_clips(40)
    found = recognise(waveforms, device="cuda", dtype="float32", max_batch_size=16)
    wanted = recognise(waveforms, device="cpu", dtype="float32", max_batch_size=16)
    assert sum(text == other for text, other in zip(found, wanted, strict=True)) >= 39


def test_steps_as_graphs_are_the_same_as_eager_steps(backend: TransformersASR) -> None:
    waveforms = many_clips(20)
    answers = []
    for graphs in (True, False):
        generator = Generator(backend.network, backend.processor.ends)
        generator.graphs.enabled = graphs
        answers.append(generate(backend, generator, waveforms, 16))
        assert generator.graphs.enabled == graphs, "the capture failed"
        assert bool(generator.graphs._graphs) == graphs
        generator.release()
    graph, eager = answers
    assert [answer.tokens for answer in graph] == [answer.tokens for answer in eager]
    for found, wanted in zip(graph, eager, strict=True):
        assert found.logprobs == pytest.approx(wanted.logprobs, abs=1e-3)


@pytest.mark.skipif(
    torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 0), reason="Ampere or later"
)
@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_flash_attention_is_what_sdpa_gives(dtype: Any, size: int) -> None:
    device = torch.device("cuda")
    assert _difference(device, dtype, 16, 8, size) < 0.06
    assert flash_problem(device, dtype, 16, 8, size) is None


@pytest.mark.skipif(
    torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 0), reason="Ampere or later"
)
def test_an_engine_with_flash_attention_gives_the_texts_of_sdpa() -> None:
    flash = TransformersASR(ASRConfig(model=str(DEMO / "asr"), device="cuda", dtype="bfloat16"))
    assert flash.network.flash and flash.network.encoder.flash
    waveforms = many_clips(20)
    found = generate(flash, Generator(flash.network, flash.processor.ends), waveforms, 16)
    network = replace(flash.network, flash=False)
    network.encoder.flash, network.decoder.fused = False, None
    wanted = generate(flash, Generator(network, flash.processor.ends), waveforms, 16)
    same = sum(answer.tokens == other.tokens for answer, other in zip(found, wanted, strict=True))
    # Half precision: a near tie may fall differently.
    assert same >= 17


@pytest.mark.skipif(
    torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 0), reason="Ampere or later"
)
@pytest.mark.parametrize(("hidden", "heads", "groups", "size"), [(1024, 16, 8, 128), (96, 4, 2, 64)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_triton_kernels_compute_what_torch_computes(
    dtype: Any, hidden: int, heads: int, groups: int, size: int
) -> None:
    pytest.importorskip("triton")
    device = torch.device("cuda")
    assert triton_problem(device, dtype, hidden, heads, groups, size) is None
    from actors.backends.transformers.kernels import triton_kernels

    assert difference(triton_kernels, device, dtype, hidden, heads, groups, size) < 0.03


def test_positions_keep_their_precision_on_the_card() -> None:
    model = load(str(DEMO / "asr"), "asr", ASRConfig(device="cuda")).model
    assert {buffer.dtype for name, buffer in model.named_buffers() if name.endswith("inv_freq")} == {
        torch.float32
    }


def test_cudnn_attention_is_off_on_the_card() -> None:
    load(str(DEMO / "asr"), "asr", ASRConfig(device="cuda"))
    assert not torch.backends.cuda.cudnn_sdp_enabled()


def test_a_part_of_a_card_is_a_part_of_its_memory() -> None:
    total = torch.cuda.get_device_properties(0).total_memory
    try:
        ASRActor(ASRConfig(model=str(DEMO / "asr"), device="cuda", pool=PoolConfig(num_gpus=0.5)))
        with pytest.raises(torch.OutOfMemoryError):
            torch.empty(int(total * 0.6), dtype=torch.uint8, device="cuda")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_a_batch_that_does_not_fit_is_halved(backend: TransformersASR, memory_limit: Any) -> None:
    """A cache for 64 rows does not fit: fewer slots, the same texts (float32, so that nothing ties)."""
    waveforms = clips() * 32
    roomy = Generator(backend.network, backend.processor.ends)
    whole = generate(backend, roomy, waveforms, 64)
    with torch.inference_mode():
        cache = roomy.workspace(1, 16, 1).cache
    size = cache.tokens * 2 * len(backend.network.decoder.layers) * 4
    size *= backend.network.decoder.key_heads * backend.network.decoder.head_dim
    roomy.release()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    # The encoder of a demo model takes less than 128 MiB for a group of few clips; the allocator has segments
    # of up to 20 MiB.
    memory_limit(torch.cuda.memory_reserved() + size // 2 + (192 << 20))
    small = Generator(backend.network, backend.processor.ends)
    answers = generate(backend, small, waveforms, 64)
    assert [answer.tokens for answer in answers] == [answer.tokens for answer in whole]
    small.release()


def test_words_are_where_the_cpu_finds_them() -> None:
    times = []
    text = recognise(clips(), device="cpu")[0]
    for device in ("cuda", "cpu"):
        actor = AlignerActor(AlignerConfig(model=str(DEMO / "aligner"), device=device, dtype="float32"))
        clip = clips()[0]
        segment = {
            "samples": clip.tobytes(),
            "text": text,
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
    """vLLM measures a card's memory while it starts, as if it were the only one there."""
    engines = [
        subprocess.Popen([sys.executable, "-c", ENGINE, DEMO / "asr", share]) for share in ("0.6", "0.3")
    ]
    assert [engine.wait(timeout=600) for engine in engines] == [0, 0]
