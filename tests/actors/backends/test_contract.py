"""What every recogniser must do, whatever runs behind it: one suite over all backends.

The engines are the fake, transformers and vLLM with the demo model; `openai` stands in front of the first two, over HTTP and WebSockets, in each
of its ways to ask, and of vLLM's own server. Where OpenAI's server is to be another one (SGLang), CONTRACT_OPENAI_URL and CONTRACT_OPENAI_MODEL name
it, and it must serve the demo model. vLLM has an environment of its own: `make test-vllm`.

Tolerance: text, language, flags, `raw` and the number of tokens are equal; the confidence to 2e-4, which is a digit of its rounding and of the
order of sums. Over transcriptions and DashScope there is no token count and no `truncated`, over DashScope no confidence, and its API for
recorded files takes no context. What vLLM says is measured by what transformers says.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

pytest.importorskip("httpx2", reason="the backend openai needs httpx2 (extra `openai`)")

from actors.backends import create_asr
from actors.backends.base import ASRBackend
from actors.backends.remote import dashscope_files
from actors.config import ASRConfig, RemoteConfig
from actors.batching import dispatch
from actors.records import Hypothesis, SegmentRequest
from tests.actors.backends.remote.dashscope_server import FaultyDashScope, running_files_server, running_realtime_server
from tests.actors.backends.remote.openai_server import FaultyOpenAIServer, running_openai_server
from tests.actors.backends.vllm.vllm_server import vllm_serving

DEMO = Path(__file__).resolve().parents[3] / "configs/demo"
FILES = ("voice-note.ogg", "street.mp3", "hotline-8khz.wav", "message.mp3")
ENGINES = ("fake", "transformers")
ENDPOINTS = ("chat", "transcriptions", "dashscope", "dashscope-files", "dashscope-realtime")
ELSEWHERE = ("vllm", "other")  # engines whose sums depend on what else is in a step
OTHER = os.environ.get("CONTRACT_OPENAI_URL")
CONFIDENCE = 2e-4
MARKS: dict[str, list[pytest.MarkDecorator]] = {"fake": [], "transformers": [pytest.mark.slow]}


@dataclass(frozen=True)
class Case:
    """A backend, the engine that its answers come from in the end or that says what they should be, and how."""

    backend: ASRBackend
    engine: ASRBackend
    name: str  # of the engine behind it
    endpoint: str | None  # None: no server between them
    server: FaultyOpenAIServer | FaultyDashScope | None = None


@functools.cache
def engine_called(name: str) -> ASRBackend:
    """One of those that need no other, made once."""
    if name == "fake":
        return create_asr(ASRConfig(backend="fake"))
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    return create_asr(ASRConfig(model=str(DEMO / "asr"), threads=1))


def need_vllm() -> None:
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed here; it has an environment of its own: make test-vllm")


CASES = [
    *[pytest.param((name, None), id=name, marks=MARKS[name]) for name in ENGINES],
    *[
        pytest.param((name, endpoint), id=f"openai-{endpoint}-{name}", marks=MARKS[name])
        for name in ENGINES
        for endpoint in ENDPOINTS
    ],
    pytest.param(("vllm", None), id="vllm", marks=[pytest.mark.slow]),
    pytest.param(("vllm", "chat"), id="openai-chat-vllm", marks=[pytest.mark.slow]),
    pytest.param(("other", "chat"), id="openai-chat-other", marks=[pytest.mark.slow]),
]


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    name, endpoint = request.param
    if name == "other" and not OTHER:
        pytest.skip("CONTRACT_OPENAI_URL names no server")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            patch.delenv(variable, raising=False)
        server: FaultyOpenAIServer | FaultyDashScope | None = None
        url, model = OTHER, os.environ.get("CONTRACT_OPENAI_MODEL", "asr")
        engine = engine_called("fake" if name == "fake" else "transformers")
        if name == "vllm":
            need_vllm()
        if (name, endpoint) == ("vllm", None):
            backend: Any = create_asr(
                ASRConfig(backend="vllm", model=str(DEMO / "asr"), dtype="float32", threads=1)
            )
            stack.callback(backend.close)
            yield Case(backend, engine, name, None)
            return
        if endpoint is None:
            yield Case(engine, engine, name, None)
            return
        if name == "vllm":
            url, model = stack.enter_context(vllm_serving(DEMO / "asr", "asr")), "asr"
        elif endpoint == "dashscope-files":
            server = stack.enter_context(running_files_server(engine))
            url, model = server.url, "qwen3-asr-flash-filetrans"
            patch.setattr(dashscope_files, "FIRST_POLL", 0.01)
        elif endpoint == "dashscope-realtime":
            server = stack.enter_context(running_realtime_server(engine))
            url, model = server.url, "qwen3-asr-flash-realtime"
        elif name != "other":
            server = stack.enter_context(running_openai_server(engine))
            url, model = server.url, server.model
        remote = RemoteConfig(base_url=url or "", endpoint=endpoint, concurrency=4, retries=1, timeout=120)
        backend = create_asr(ASRConfig(backend="openai", model=model, remote=remote))
        stack.callback(backend.close)
        yield Case(backend, engine, name, endpoint, server)


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    """Demo recordings of different lengths, int16 at 16 kHz, and a part of one."""
    waves = []
    for name in FILES:
        samples, rate = soundfile.read(DEMO / "audio" / name, dtype="float32", always_2d=True)
        wave = soxr.resample(samples.mean(1), rate, 16_000) if rate != 16_000 else samples.mean(1)
        waves.append((wave * 32767).clip(-32768, 32767).astype(np.int16))
    return [*waves, waves[0][: len(waves[0]) // 3]]


@pytest.fixture(scope="module")
def requests(clips: list[np.ndarray]) -> list[SegmentRequest]:
    """With and without a forced language and a context."""
    languages = [None, "Chinese", None, "French", "German"]
    contexts = ["", "", "Sempre, jardim", "rouge\n<|im_end|> neuf", ""]
    return [SegmentRequest(*parts) for parts in zip(clips, languages, contexts, strict=True)]


def alike(case: Case, found: Any, expected: Any) -> bool:
    """Whether an answer is what the engine says itself, within the tolerance."""
    assert isinstance(found, Hypothesis) and isinstance(expected, Hypothesis)
    same = ["text", "language"] + (["raw", "tokens", "flags"] if case.endpoint in (None, "chat") else [])
    if (
        case.endpoint == "chat"
        and expected.raw.startswith("language ")
        and not found.raw.startswith("language ")
    ):
        same.remove("raw")  # the fake repeats the forced beginning of its answer, servers do not
    for name in same:
        assert getattr(found, name) == getattr(expected, name), name
    if not (case.endpoint or "").startswith("dashscope"):
        assert found.confidence == (
            None if expected.confidence is None else pytest.approx(expected.confidence, abs=CONFIDENCE)
        )
    return True


def test_one_result_for_each_request_in_order(case: Case, requests: list[SegmentRequest]) -> None:
    expected = [case.engine.transcribe([request])[0] for request in requests]
    order = [3, 0, 4, 2, 1, 0]
    results = case.backend.transcribe([requests[number] for number in order])
    assert [alike(case, found, expected[number]) for found, number in zip(results, order, strict=True)] == [
        True
    ] * 6
    assert len({result.text for result in expected if isinstance(result, Hypothesis)}) == len(
        expected
    )  # a wrong order would show


def test_alone_as_among_others(case: Case, requests: list[SegmentRequest]) -> None:
    together = case.backend.transcribe(requests)
    for request, expected in zip(requests, together, strict=True):
        [alone] = case.backend.transcribe([request])
        assert alike(case, alone, expected) if case.name in ELSEWHERE else alone == expected


def test_nothing_asked(case: Case) -> None:
    assert list(case.backend.transcribe([])) == []


def test_silence_says_nothing(case: Case, clips: list[np.ndarray]) -> None:
    silence = np.zeros(32_000, np.int16)
    found, spoken = case.backend.transcribe([SegmentRequest(silence), SegmentRequest(clips[0])])
    expected = case.engine.transcribe([SegmentRequest(silence)])[0]
    assert alike(case, found, expected) and isinstance(spoken, Hypothesis) and spoken.text
    assert isinstance(found, Hypothesis) and (found.text, found.language, found.confidence) == (
        "",
        None,
        None,
    )


def test_a_forced_language_is_the_answers_language(case: Case, clips: list[np.ndarray]) -> None:
    for language in ("German", "Korean"):
        [found] = case.backend.transcribe([SegmentRequest(clips[0], language)])
        assert (
            isinstance(found, Hypothesis)
            and found.text
            and found.language == language
            and "language_not_forced" not in found.flags
        )
        assert alike(case, found, case.engine.transcribe([SegmentRequest(clips[0], language)])[0])


def test_the_context_reaches_the_model(case: Case, clips: list[np.ndarray]) -> None:
    if case.server is None:
        # The fake hears only faults in it: this one shows in the text. The demo model may or may not change its mind.
        plain, told = (
            case.backend.transcribe([SegmentRequest(clips[0], context=context)])[0]
            for context in ("", "fault:align:x")
        )
        assert isinstance(plain, Hypothesis) and isinstance(told, Hypothesis)
        assert case.name != "fake" or told.text == plain.text.removesuffix(".") + " faultx."
        return
    for context in ("", "Ada, Bob\nand Çelik 漢字", "x<|im_end|>"):
        case.backend.transcribe([SegmentRequest(clips[0], context=context)])
        expected = "" if case.endpoint == "dashscope-files" else context.replace("<|im_end|>", "< im_end >")
        assert case.server.asked[-1].context == expected
        assert np.array_equal(case.server.asked[-1].waveform, clips[0])


@pytest.fixture
def spoiled(
    case: Case, clips: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> Callable[[type[Exception], str, int], None]:
    """Lets the engine raise whenever a segment of just this length is in a call, or more than so many are."""

    def spoil(error: type[Exception], message: str, most: int) -> None:
        inner: Any = case.engine
        if case.name == "vllm":
            inner = case.backend
            extract = inner._extract

            def failing(request: SegmentRequest) -> Any:
                if len(request.waveform) == len(clips[2]):
                    raise error(message)
                return extract(request)

            return monkeypatch.setattr(inner, "_extract", failing)
        real = inner._transcribe

        def breaking(requests: list[SegmentRequest]) -> list[Hypothesis]:
            if len(requests) > most or any(
                len(request.waveform) == len(clips[2]) for request in requests if most > 99
            ):
                raise error(message)
            return real(requests)

        monkeypatch.setattr(inner, "_transcribe", breaking)

    return spoil


def test_an_erring_segment_costs_itself(case: Case, requests: list[SegmentRequest], spoiled: Any) -> None:
    if case.name == "other" or (case.name, case.endpoint) == ("vllm", "chat"):
        pytest.skip("nobody can make it err")
    expected = case.backend.transcribe(requests)
    spoiled(ValueError, "a defect", 100)
    batches = (None, None) if getattr(case.backend, "batches_itself", False) else (960, 128)
    results = dispatch(requests, case.backend.transcribe, *batches)
    assert [isinstance(result, Exception) for result in results] == [False, False, True, False, False]
    assert "a defect" in str(results[2])
    good = [result for result in results if isinstance(result, Hypothesis)]
    for found, wanted in zip(good, [*expected[:2], *expected[3:]], strict=True):
        assert alike(case, found, wanted) if case.name in ELSEWHERE else found == wanted


def test_out_of_memory_costs_nothing(case: Case, requests: list[SegmentRequest], spoiled: Any) -> None:
    if case.endpoint is not None:
        pytest.skip("the memory is the server's: it answers 500 where it runs out, see test_openai_backend")
    if case.name == "vllm":
        pytest.skip("vLLM takes its memory once, and lets segments wait for room in it")
    expected = case.backend.transcribe(requests)
    guard: Any = case.engine
    spoiled(MemoryError, "CUDA out of memory", 2)
    assert case.backend.transcribe(requests) == expected
    assert guard.memory.max_seconds is not None
    guard.memory.max_seconds = None


def test_calls_one_after_the_other_leave_nothing_behind(case: Case, requests: list[SegmentRequest]) -> None:
    case.backend.transcribe(requests)
    before = threading.active_count()
    for _ in range(3):
        case.backend.transcribe(requests[:2])
    assert threading.active_count() <= before + 8  # of the server: one for each connection
