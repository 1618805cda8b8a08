"""The backends on a real vLLM, beyond the contract suite. `make test-vllm` runs it."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.backends import create_aligner, create_asr
from actors.config import AlignerConfig, ASRConfig, VLLMConfig
from actors.errors import FatalError, RowError
from actors.records import AlignmentRequest, Hypothesis, SegmentRequest
from tests.benchmarks.workloads.checkpoints import to_original

pytestmark = pytest.mark.slow

DEMO = Path(__file__).resolve().parents[4] / "configs/demo"
FILES = ("voice-note.ogg", "street.mp3", "hotline-8khz.wav", "message.mp3")
CLIP = 16_000 * 4


@pytest.fixture(scope="module", autouse=True)
def vllm() -> None:
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed here; it has an environment of its own: make test-vllm")


@pytest.fixture(scope="module")
def original_aligner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return to_original(DEMO / "aligner", tmp_path_factory.mktemp("original") / "aligner")


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    """Demo recordings, int16 at 16 kHz."""
    import soundfile
    import soxr

    waves = []
    for name in FILES:
        samples, rate = soundfile.read(DEMO / "audio" / name, dtype="float32", always_2d=True)
        wave = soxr.resample(samples.mean(1), rate, 16_000) if rate != 16_000 else samples.mean(1)
        waves.append((wave * 32767).clip(-32768, 32767).astype(np.int16))
    return waves


@pytest.fixture(scope="module")
def asr() -> Iterator[Any]:
    backend: Any = create_asr(
        ASRConfig(backend="vllm", model=str(DEMO / "asr"), threads=1, vllm=VLLMConfig(max_duration=15))
    )
    yield backend
    backend.close()


@pytest.fixture(scope="module")
def aligner(original_aligner: Path) -> Iterator[Any]:
    backend: Any = create_aligner(AlignerConfig(backend="vllm", model=str(original_aligner), threads=1))
    yield backend
    backend.close()


def test_many_segments_at_once_come_back_in_order(asr: Any, clips: list[np.ndarray]) -> None:
    """Far more segments than the engine works on at a time, of many lengths: none is lost or swapped."""
    rng = np.random.default_rng(1)
    lengths = rng.integers(8_000, len(clips[0]), 20)
    requests = [SegmentRequest(clips[0][:length]) for length in [*lengths] * 3]
    results = asr.transcribe(requests)
    assert all(isinstance(result, Hypothesis) for result in results)
    texts = [result.text for result in results]
    assert texts[:20] == texts[20:40] == texts[40:]
    assert texts[:20] == [asr.transcribe([request])[0].text for request in requests[:20]]
    assert len(set(texts)) > 3


def test_two_calls_share_the_engine(asr: Any, clips: list[np.ndarray]) -> None:
    """The engine fills up with the second call when the first one runs out; answers are not mixed."""
    calls = [
        [SegmentRequest(clip[: 8_000 * length]) for length in range(2, 8) for clip in clips[start::2]]
        for start in range(2)
    ]
    separate = [asr.transcribe(requests) for requests in calls]
    with ThreadPoolExecutor(2) as pool:
        concurrent = list(pool.map(asr.transcribe, calls))
    assert [[one.text for one in results] for results in concurrent] == [
        [one.text for one in results] for results in separate
    ]


def test_a_segment_that_vllm_refuses_fails_alone(asr: Any, clips: list[np.ndarray]) -> None:
    """A segment with more context than the engine allows, between two others."""
    requests = [
        SegmentRequest(clips[0]),
        SegmentRequest(clips[1], context="uvw " * 20_000),
        SegmentRequest(clips[2]),
    ]
    first, refused, last = asr.transcribe(requests)
    assert isinstance(first, Hypothesis) and isinstance(last, Hypothesis)
    assert (
        isinstance(refused, RowError)
        and refused.code == "model_failed"
        and "vLLM refuses a segment" in str(refused)
    )


def test_a_used_up_budget_is_flagged(clips: list[np.ndarray], asr: Any) -> None:
    [whole] = asr.transcribe([SegmentRequest(clips[0])])
    assert "truncated" not in whole.flags and whole.tokens > 4
    config = asr.processor.config
    asr.processor.config = config.model_copy(update={"max_tokens_per_second": 0.01, "min_tokens": 3})
    try:
        [cut] = asr.transcribe([SegmentRequest(clips[0])])
    finally:
        asr.processor.config = config
    assert cut.tokens <= 4 and "truncated" in cut.flags


def test_an_answer_continues_its_prefix(asr: Any, clips: list[np.ndarray]) -> None:
    [whole] = asr.transcribe([SegmentRequest(clips[0])])
    prefix = whole.raw[: len(whole.raw) // 2]
    [rest] = asr.transcribe([SegmentRequest(clips[0], prefix=prefix, unsettled_tokens=2)])
    assert rest.raw.startswith(prefix) and rest.settled.startswith(prefix) and rest.tokens < whole.tokens


def test_word_times_equal_those_of_transformers(aligner: Any, clips: list[np.ndarray]) -> None:
    units = [("uno", "due", "tre"), ("one",), ("eins", "zwei", "drei", "vier"), ("two", "three")]
    requests = [AlignmentRequest(clip, of_clip) for clip, of_clip in zip(clips, units, strict=True)]
    other = create_aligner(AlignerConfig(model=str(DEMO / "aligner")))
    expected = other.align(requests)
    assert aligner.align(requests) == expected and aligner.max_duration == other.max_duration
    assert aligner.align(requests[::-1]) == expected[::-1]


def test_each_alignment_has_its_own_error(aligner: Any, clips: list[np.ndarray]) -> None:
    long = AlignmentRequest(np.zeros(16_000 * 31, np.int16), ("one",))
    wrong = AlignmentRequest(clips[0], ("one<timestamp>",))
    found = aligner.align([AlignmentRequest(clips[0], ("one",)), long, wrong, AlignmentRequest(clips[1], ())])
    assert len(found[0]) == 1 and found[3] == []
    assert (
        isinstance(found[1], RowError)
        and found[1].code == "alignment_failed"
        and "longer than the 30 s" in str(found[1])
    )
    assert isinstance(found[2], ValueError) and "control token" in str(found[2])


def test_an_aligner_in_the_other_layout_is_refused() -> None:
    with pytest.raises(FatalError, match=r"set aligner\.model to the original"):
        create_aligner(AlignerConfig(backend="vllm", model=str(DEMO / "aligner")))


def test_an_engine_that_cannot_start_is_fatal() -> None:
    config = VLLMConfig(engine={"max_model_len": 10_000_000})
    with pytest.raises(FatalError, match="vLLM cannot start"):
        create_asr(ASRConfig(backend="vllm", model=str(DEMO / "asr"), vllm=config))


def test_a_dead_engine_is_fatal(clips: list[np.ndarray]) -> None:
    backend: Any = create_asr(ASRConfig(backend="vllm", model=str(DEMO / "asr"), threads=1))
    try:
        assert backend.transcribe([SegmentRequest(clips[0])])[0].text
        for child in children(os.getpid()):
            if "EngineCore" in command(child):
                os.kill(child, signal.SIGKILL)
        with pytest.raises(FatalError, match="died"):
            for _ in range(20):
                backend.transcribe([SegmentRequest(clips[0])])
                time.sleep(0.5)
    finally:
        backend.close()


def test_no_engine_outlives_its_process() -> None:
    """Otherwise the pool's next process would find the card occupied."""
    script = (
        "import os, sys, time\nfrom actors.backends import create_asr\nfrom actors.config import ASRConfig\n"
        "if __name__ == '__main__':\n"
        f"    backend = create_asr(ASRConfig(backend='vllm', model={str(DEMO / 'asr')!r}, threads=1))\n"
        "    print('ready', flush=True)\n    time.sleep(600)\n"
    )
    root = str(DEMO.parents[1])
    process = subprocess.Popen([sys.executable, "-c", script], cwd=root, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and any(
            line == "ready\n" for line in process.stdout
        )  # after vLLM's own output
        family = descendants(process.pid)
        assert any("EngineCore" in command(child) for child in family)
    finally:
        process.kill()
        process.wait()
    for _ in range(100):
        left = [child for child in family if command(child)]
        if not left:
            return
        time.sleep(0.1)
    raise AssertionError(f"these processes are left: {[command(child) for child in left]}")


def children(parent: int) -> list[int]:
    """Processes that a process started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            found.append(int(stat.parent.name))
    return found


def descendants(parent: int) -> list[int]:
    """Those, and the processes that they started."""
    return [pid for child in children(parent) for pid in (child, *descendants(child))]


def command(pid: int) -> str:
    """A process's command line; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    except OSError:
        return ""
