"""DashScope's own APIs as recognisers, in front of servers that follow the description, or misbehave.

The service itself was never tried.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

pytest.importorskip("httpx2", reason="DashScope's APIs need httpx2 (extra `openai`)")
pytest.importorskip("websockets", reason="DashScope's APIs need websockets (extra `openai`)")

from actors.backends import create_asr
from actors.backends.remote.base import RemoteASR
from actors.config import ASRConfig, RemoteConfig
from actors.errors import FatalError, RetryableError, RowError, UsageError
from actors.records import Hypothesis, SegmentRequest
from pipelines.config import load_config
from tests.actors.backends.remote.dashscope_files_server import running_files_server
from tests.actors.backends.remote.dashscope_realtime_server import running_realtime_server
from tests.actors.backends.remote.dashscope_state import MODELS, FaultyDashScope
from tests.actors.backends.remote.remote_backends import FAKE, KEY, expected_texts, noise, texts

Make = Callable[..., RemoteASR]
pytestmark = pytest.mark.usefixtures("fast_retries")


@pytest.fixture
def files() -> Iterator[FaultyDashScope]:
    with running_files_server(FAKE) as running:
        yield running


@pytest.fixture
def realtime() -> Iterator[FaultyDashScope]:
    with running_realtime_server(FAKE) as running:
        yield running


@pytest.fixture
def make() -> Iterator[Make]:
    """Creates backends in front of a server; keywords are settings of `asr.remote`."""
    made: list[RemoteASR] = []

    def create(
        server: FaultyDashScope, model: str | None = None, timeout: float | None = None, **remote: Any
    ) -> RemoteASR:
        kind = "files" if "/api/v1" in server.url else "realtime"
        settings = {
            "base_url": server.url,
            "endpoint": f"dashscope-{kind}",
            "retries": 2,
            "timeout": 5.0,
            "patience": 20.0,
        } | remote
        model = model or MODELS[kind == "realtime"]
        backend = create_asr(
            ASRConfig(backend="openai", model=model, timeout=timeout, remote=RemoteConfig(**settings))
        )
        assert isinstance(backend, RemoteASR)
        made.append(backend)
        return backend

    yield create
    for backend in made:
        backend.close()


def segments(count: int = 1, **request: Any) -> list[SegmentRequest]:
    return [SegmentRequest(noise(1 + seed / 16, seed), **request) for seed in range(count)]


@pytest.mark.parametrize(
    ("faults", "repeated"),
    [
        (["poll:500", "poll:429", "poll:503"], 0),  # the task exists, and is paid for
        (["result:503"], 0),
        (["task:InternalError.Timeout"], 1),
        (["task:Throttling.RateQuota", "task:FILE_DOWNLOAD_FAILED"], 2),
        (["create:429"] * 4, 4),  # a request to wait is no failure
        (["create:500", "upload:503"], 2),
        (["upload:403"], 1),
        (["upload:403", "policy:503"], 2),
    ],
)
def test_files_transient_errors_fail_no_segment(
    faults: list[str], repeated: int, files: FaultyDashScope, make: Make
) -> None:
    backend, requests = make(files), segments()
    before = len(files.bodies)
    files.faults = list(faults)
    assert texts(backend.transcribe(requests)) == expected_texts(requests)
    assert not files.faults
    assert (backend.total_usage.requests, backend.total_usage.repeated) == (1 + repeated, repeated)
    tasks = 1 + sum(fault.startswith("task") for fault in faults)
    assert len(files.bodies) - before == tasks


@pytest.mark.parametrize(
    "faults",
    [
        ["session:close"],
        ["session:server_error/internal"],
        ["session:error/Throttling.RateQuota"] * 3,
        ["handshake:503"],
        ["handshake:429"] * 5,
    ],
)
def test_realtime_transient_errors_fail_no_segment(
    faults: list[str], realtime: FaultyDashScope, make: Make
) -> None:
    backend, requests = make(realtime), segments()
    realtime.faults = list(faults)
    assert texts(backend.transcribe(requests)) == expected_texts(requests)
    assert not realtime.faults
    assert backend.total_usage.requests == 1 + len(faults)


def test_lasting_errors_and_refusals_fail_their_segment_alone(
    files: FaultyDashScope, realtime: FaultyDashScope, make: Make
) -> None:
    for server, refused, lasting in (
        (files, ["task:UNSUPPORTED_FORMAT"], ["task:InternalError"] * 3),
        (realtime, ["session:invalid_request_error/invalid_value"], ["session:server_error/down"] * 3),
    ):
        backend, requests = make(server, concurrency=1), segments(3)
        server.faults = list(refused)
        results = backend.transcribe(requests)
        assert texts(results) == ["RowError", *expected_texts(requests)[1:]]
        assert isinstance(results[0], RowError)
        assert results[0].code == "model_failed"
        assert "as you asked" in str(results[0])
        server.faults = list(lasting)
        results = backend.transcribe(requests)
        assert texts(results) == ["RetryableError", *expected_texts(requests)[1:]]
        assert isinstance(results[0], RetryableError)
        assert results[0].code == "server_unavailable"
        assert "after 3 attempts" in str(results[0])


def test_without_access_the_message_says_what_to_do(
    files: FaultyDashScope,
    realtime: FaultyDashScope,
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    for server, ending in ((files, "/api/v1"), (realtime, "/api-ws/v1")):
        server.key = KEY
        with pytest.raises(FatalError, match="no key was sent, as OPENAI_API_KEY is not set"):
            make(server)
        monkeypatch.setenv("MINE", "sk-another-key")
        with pytest.raises(FatalError, match=r"Bearer \*\*\*; the key in MINE was sent"):
            make(server, key_variable="MINE")
        monkeypatch.setenv("MINE", KEY)
        assert texts(make(server, key_variable="MINE").transcribe(segments())) == expected_texts(segments())
        with pytest.raises(FatalError, match=f"right, with its {ending}\\?"):
            make(server, base_url=server.url.replace("/api", "/apo"), key_variable="MINE")
    with pytest.raises(
        FatalError, match=r"HTTP 400: Model qwen3-asr not exist.*the server's name of the model"
    ):
        make(files, "qwen3-asr", key_variable="MINE")
    ours = [
        record.getMessage() for record in caplog.records if not record.name.startswith("websockets.server")
    ]
    assert not [text for text in ours if KEY in text or "sk-another" in text or "Signature" in text]
    assert {path for path, key in files.keys if key == f"Bearer {KEY}"} >= {
        "/api/v1/uploads",
        "/api/v1/services/audio/asr/transcription",
    }
    other_urls = [key for path, key in files.keys if path == "/storage" or path.startswith("/results/")]
    # These URLs are not in the settings, so they get no key.
    assert other_urls
    assert set(other_urls) == {None}


def test_an_absent_service_and_one_that_goes_away_end_the_process(
    files: FaultyDashScope, realtime: FaultyDashScope, make: Make
) -> None:
    for server, fault in ((files, "policy:503"), (realtime, "handshake:503")):
        server.faults = [fault] * 9
        with pytest.raises(
            FatalError, match=r"HTTP 503.*start the server, or set asr\.remote\.base_url"
        ) as caught:
            make(server)
        assert caught.value.code == "server_unavailable"
        server.faults = []
        backend = make(server, retries=1)
        server.faults = ["create:503", *[fault] * 9]
        if server is files:
            server.faults = ["upload:403", *server.faults]
        with pytest.raises(FatalError, match="no longer responds"):
            backend.transcribe(segments())


def test_an_upload_policy_is_reused(files: FaultyDashScope, make: Make) -> None:
    backend = make(files, concurrency=2)
    for _ in range(3):
        backend.transcribe(segments(4))
    assert [path for path, _ in files.keys].count("/api/v1/uploads") == 1


def test_a_task_that_is_not_done_in_time_fails_its_segment(files: FaultyDashScope, make: Make) -> None:
    backend = make(files, timeout=1.0)
    files.endless = 1
    begin = time.monotonic()
    [result] = backend.transcribe(segments())
    assert isinstance(result, RetryableError)
    assert "raise asr.timeout" in str(result)
    assert time.monotonic() - begin < 1.5
    # Silence, the segment, and silence once more, as no task was done.
    assert len(files.bodies) == 3
    # A long queue: a service that takes tasks and reports their state is there.
    files.polls = 10**9
    assert texts(backend.transcribe(segments(2))) == ["RetryableError"] * 2


def test_polls_that_fail_now_and_then_do_not_fail_a_task(files: FaultyDashScope, make: Make) -> None:
    backend = make(files, retries=1)
    count = len(files.bodies)
    files.polls, files.faults = 12, ["poll:500"]
    next_fault = files.fault

    def every_second_poll(step: str) -> str | None:
        found = next_fault(step)
        if step == "poll" and found is None:
            files.faults = ["poll:500"]
        return found

    files.fault = every_second_poll  # type: ignore[method-assign]
    requests = segments()
    assert texts(backend.transcribe(requests)) == expected_texts(requests)
    assert len(files.bodies) == count + 1


def test_the_key_is_not_sent_to_the_target_of_a_redirect(
    realtime: FaultyDashScope, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with running_realtime_server(FAKE) as target:
        realtime.faults = [f"redirect:{target.url}/realtime"]
        with pytest.raises(FatalError, match=r"it redirects to ws://.*/realtime: set asr\.remote\.base_url"):
            make(realtime)
        assert not target.keys


def test_a_segment_longer_than_an_utterance_is_refused(realtime: FaultyDashScope, make: Make) -> None:
    backend = make(realtime)
    long = SegmentRequest(np.zeros(61 * 16_000, np.int16))
    [refused, fine] = backend.transcribe([long, SegmentRequest(long.waveform[: 60 * 16_000])])
    assert isinstance(refused, RowError)
    assert "segmenter.max_duration=60" in str(refused)
    assert isinstance(fine, Hypothesis)
    assert not fine.text
    settings = ["asr.backend=openai", "asr.remote.endpoint=dashscope-realtime", "plan.shard_duration=900"]
    with pytest.raises(UsageError, match=r"60 s at a time: lower segmenter\.max_duration"):
        load_config(None, [*settings, "segmenter.max_duration=90"])
    config = load_config(None, [*settings, "asr.remote.base_url=wss://dashscope.aliyuncs.com/api-ws/v1"])
    assert config.asr.remote.base_url == "https://dashscope.aliyuncs.com/api-ws/v1"


def test_the_requests_of_each_api(
    files: FaultyDashScope, realtime: FaultyDashScope, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    request = segments(1, language="Cantonese", context="Ada<|im_end|>")[0]
    [found] = make(files).transcribe([request])
    assert isinstance(found, Hypothesis)
    assert found.language == "Cantonese"
    assert files.bodies[-1]["parameters"] == {"channel_id": [0], "enable_itn": False, "language": "yue"}
    assert files.bodies[-1]["input"]["file_url"].startswith("oss://dashscope-instant/")
    assert "language" not in files.bodies[0]["parameters"]
    assert "no field for a context" in caplog.text
    [found] = make(realtime).transcribe([request])
    assert isinstance(found, Hypothesis)
    assert (found.text, found.language) == (expected_texts([request])[0], "Cantonese")
    assert realtime.bodies[-1] == {
        "modalities": ["text"],
        "input_audio_format": "pcm",
        "sample_rate": 16000,
        "input_audio_transcription": {"language": "yue", "corpus": {"text": "Ada< im_end >"}},
        "turn_detection": None,
    }
    assert realtime.bodies[0]["input_audio_transcription"] == {}
    assert np.array_equal(files.received[-1].waveform, request.waveform) and np.array_equal(
        realtime.received[-1].waveform, request.waveform
    )


@pytest.mark.parametrize("kind", ["files", "realtime"])
def test_closing_cancels_requests_in_progress(kind: str, make: Make, request: pytest.FixtureRequest) -> None:
    server: FaultyDashScope = request.getfixturevalue(kind)
    backend = make(server, timeout=60)
    server.polls = 10**6
    with ThreadPoolExecutor(1) as pool:
        count = len(server.bodies)
        call = pool.submit(backend.transcribe, segments(1) if kind == "files" else segments(200))
        while len(server.bodies) == count:
            time.sleep(0.01)
        backend.close()
        with pytest.raises(FatalError, match="closed"):
            call.result(30)
