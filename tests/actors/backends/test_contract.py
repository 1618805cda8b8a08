"""The contract of a recogniser: one suite over all backends.

The engines are the fake, transformers and vLLM with the demo model. The backend `openai` runs in front of the
first two, over HTTP and WebSockets, with each of its endpoints, and in front of vLLM's own server. For
another server with OpenAI's API (SGLang), CONTRACT_OPENAI_URL and CONTRACT_OPENAI_MODEL name it; it must
serve the demo model. vLLM has an environment of its own: `make test-vllm`.

Tolerance: text, language, flags, `raw` and the number of tokens are equal. The confidence is equal to 2e-4,
which is a digit of its rounding and of the order of sums. Transcriptions and DashScope have no token count
and no `truncated`, DashScope has no confidence, and its API for recorded files takes no context. vLLM is
compared with transformers.
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
from actors.batching import dispatch
from actors.config import ASRConfig, RemoteConfig
from actors.records import Hypothesis, SegmentRequest
from tests.actors.backends.remote.dashscope_files_server import running_files_server
from tests.actors.backends.remote.dashscope_realtime_server import running_realtime_server
from tests.actors.backends.remote.dashscope_state import FaultyDashScope
from tests.actors.backends.remote.openai_server import FaultyOpenAIServer, running_openai_server
from tests.actors.backends.vllm.vllm_server import vllm_serving

DEMO = Path(__file__).resolve().parents[3] / "configs/demo"
FILES = ("voice-note.ogg", "street.mp3", "hotline-8khz.wav", "message.mp3")
ENGINES = ("fake", "transformers")
ENDPOINTS = ("chat", "transcriptions", "dashscope", "dashscope-files", "dashscope-realtime")
# Engines whose sums depend on the other segments of a step.
INEXACT = ("vllm", "other")
OTHER = os.environ.get("CONTRACT_OPENAI_URL")
CONFIDENCE = 2e-4
MARKS: dict[str, list[pytest.MarkDecorator]] = {"fake": [], "transformers": [pytest.mark.slow]}


@dataclass(frozen=True)
class Case:
    """A backend, and the engine behind it or the one that it is compared with."""

    backend: ASRBackend
    engine: ASRBackend
    name: str  # of the engine behind the backend
    endpoint: str | None  # None: there is no server between them
    server: FaultyOpenAIServer | FaultyDashScope | None = None


@functools.cache
def load_engine(name: str) -> ASRBackend:
    """An engine in this process, loaded once."""
    if name == "fake":
        return create_asr(ASRConfig(backend="fake"))
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    return create_asr(ASRConfig(model=str(DEMO / "asr"), threads=1))


def require_vllm() -> None:
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
        engine = load_engine("fake" if name == "fake" else "transformers")
        if name == "vllm":
            require_vllm()
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
    """Demo recordings of different lengths, int16 at 16 kHz, and a part of one of them."""
    waves = []
    for name in FILES:
        samples, rate = soundfile.read(DEMO / "audio" / name, dtype="float32", always_2d=True)
        wave = soxr.resample(samples.mean(1), rate, 16_000) if rate != 16_000 else samples.mean(1)
        waves.append((wave * 32767).clip(-32768, 32767).astype(np.int16))
    return [*waves, waves[0][: len(waves[0]) // 3]]


@pytest.fixture(scope="module")
def requests(clips: list[np.ndarray]) -> list[SegmentRequest]:
    """Requests with and without a forced language and a context."""
    languages = [None, "Chinese", None, "French", "German"]
    contexts = ["", "", "Sempre, jardim", "rouge\n<|im_end|> neuf", ""]
    return [SegmentRequest(*parts) for parts in zip(clips, languages, contexts, strict=True)]


def is_equal(case: Case, found: Any, expected: Any) -> bool:
    """Whether a hypothesis equals that of the engine, within the tolerance."""
    assert isinstance(found, Hypothesis)
    assert isinstance(expected, Hypothesis)
    fields = ["text", "language"] + (["raw", "tokens", "flags"] if case.endpoint in (None, "chat") else [])
    if (
        case.endpoint == "chat"
        and expected.raw.startswith("language ")
        and not found.raw.startswith("language ")
    ):
        # The fake repeats the forced beginning of its output, servers do not.
        fields.remove("raw")
    for name in fields:
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
    for found, number in zip(results, order, strict=True):
        assert is_equal(case, found, expected[number])
    assert len(results) == 6
    # All texts differ, so a wrong order would show.
    assert len({result.text for result in expected if isinstance(result, Hypothesis)}) == len(expected)


def test_a_segment_does_not_depend_on_the_others_of_its_batch(
    case: Case, requests: list[SegmentRequest]
) -> None:
    batched = case.backend.transcribe(requests)
    for request, expected in zip(requests, batched, strict=True):
        [single] = case.backend.transcribe([request])
        assert is_equal(case, single, expected) if case.name in INEXACT else single == expected


def test_no_request_gives_no_result(case: Case) -> None:
    assert list(case.backend.transcribe([])) == []


def test_silence_has_no_text(case: Case, clips: list[np.ndarray]) -> None:
    silence = np.zeros(32_000, np.int16)
    found, spoken = case.backend.transcribe([SegmentRequest(silence), SegmentRequest(clips[0])])
    expected = case.engine.transcribe([SegmentRequest(silence)])[0]
    assert is_equal(case, found, expected)
    assert isinstance(spoken, Hypothesis)
    assert spoken.text
    assert isinstance(found, Hypothesis)
    assert (found.text, found.language, found.confidence) == ("", None, None)


def test_a_forced_language_is_the_language_of_the_hypothesis(case: Case, clips: list[np.ndarray]) -> None:
    for language in ("German", "Korean"):
        [found] = case.backend.transcribe([SegmentRequest(clips[0], language)])
        assert isinstance(found, Hypothesis)
        assert found.text
        assert found.language == language
        assert "language_not_forced" not in found.flags
        assert is_equal(case, found, case.engine.transcribe([SegmentRequest(clips[0], language)])[0])


def test_the_context_reaches_the_model(case: Case, clips: list[np.ndarray]) -> None:
    if case.server is None:
        # The fake only obeys faults in it: this one shows in the text. The demo model's text may change or
        # not.
        plain, with_context = (
            case.backend.transcribe([SegmentRequest(clips[0], context=context)])[0]
            for context in ("", "fault:align:x")
        )
        assert isinstance(plain, Hypothesis)
        assert isinstance(with_context, Hypothesis)
        assert case.name != "fake" or with_context.text == plain.text.removesuffix(".") + " faultx."
        return
    for context in ("", "Ada, Bob\nand Çelik 漢字", "x<|im_end|>"):
        case.backend.transcribe([SegmentRequest(clips[0], context=context)])
        expected = "" if case.endpoint == "dashscope-files" else context.replace("<|im_end|>", "< im_end >")
        assert case.server.received[-1].context == expected
        assert np.array_equal(case.server.received[-1].waveform, clips[0])


@pytest.fixture
def break_engine(
    case: Case, clips: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> Callable[[type[Exception], str, int], None]:
    """Makes the engine raise where a call has the third clip, or more than `max_size` segments."""

    def break_it(error: type[Exception], message: str, max_size: int) -> None:
        inner: Any = case.engine
        if case.name == "vllm":
            inner = case.backend
            extract = inner._extract

            def failing_extract(request: SegmentRequest) -> Any:
                if len(request.waveform) == len(clips[2]):
                    raise error(message)
                return extract(request)

            return monkeypatch.setattr(inner, "_extract", failing_extract)
        transcribe = inner._transcribe

        def failing_transcribe(requests: list[SegmentRequest]) -> list[Hypothesis]:
            if len(requests) > max_size or any(
                len(request.waveform) == len(clips[2]) for request in requests if max_size > 99
            ):
                raise error(message)
            return transcribe(requests)

        monkeypatch.setattr(inner, "_transcribe", failing_transcribe)

    return break_it


def test_a_segment_on_which_the_engine_fails_fails_alone(
    case: Case, requests: list[SegmentRequest], break_engine: Any
) -> None:
    if case.name == "other" or (case.name, case.endpoint) == ("vllm", "chat"):
        pytest.skip("this engine cannot be made to fail")
    expected = case.backend.transcribe(requests)
    break_engine(ValueError, "a defect", 100)
    batches = (None, None) if case.backend.batches_itself else (960, 128)
    results = dispatch(requests, case.backend.transcribe, *batches)
    assert [isinstance(result, Exception) for result in results] == [False, False, True, False, False]
    assert "a defect" in str(results[2])
    good = [result for result in results if isinstance(result, Hypothesis)]
    for found, same in zip(good, [*expected[:2], *expected[3:]], strict=True):
        assert is_equal(case, found, same) if case.name in INEXACT else found == same


def test_running_out_of_memory_fails_no_segment(
    case: Case, requests: list[SegmentRequest], break_engine: Any
) -> None:
    if case.endpoint is not None:
        pytest.skip("the memory is the server's: it responds with 500 where it runs out, see test_openai")
    if case.name == "vllm":
        pytest.skip("vLLM allocates its memory once, and lets segments wait for it")
    expected = case.backend.transcribe(requests)
    guard: Any = case.engine
    break_engine(MemoryError, "CUDA out of memory", 2)
    assert case.backend.transcribe(requests) == expected
    assert guard.memory.max_seconds is not None
    guard.memory.max_seconds = None


def test_consecutive_calls_leave_no_threads(case: Case, requests: list[SegmentRequest]) -> None:
    case.backend.transcribe(requests)
    before = threading.active_count()
    for _ in range(3):
        case.backend.transcribe(requests[:2])
    # The server has a thread for each connection.
    assert threading.active_count() <= before + 8
