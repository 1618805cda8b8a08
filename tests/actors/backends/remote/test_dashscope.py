"""DashScope's own APIs as recognisers, in front of servers that answer as described, or do not. The service itself was never asked."""

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
from actors.backends.remote import dashscope_protocol, http, openai_protocol
from actors.backends.remote.base import RemoteASR
from actors.config import ASRConfig, RemoteConfig
from actors.errors import FatalError, RetryableError, RowError, UsageError
from actors.records import Hypothesis, SegmentRequest
from pipelines.config import load_config
from tests.actors.backends.remote.asking import FAKE, KEY, noise, said, texts
from tests.actors.backends.remote.dashscope_server import MODELS, DashScope, serving_files, serving_realtime

Make = Callable[..., RemoteASR]
pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def files() -> Iterator[DashScope]:
    with serving_files(FAKE) as running:
        yield running


@pytest.fixture
def realtime() -> Iterator[DashScope]:
    with serving_realtime(FAKE) as running:
        yield running


@pytest.fixture
def make() -> Iterator[Make]:
    """A backend in front of a server; settings of `asr.remote` as keywords."""
    made: list[RemoteASR] = []

    def create(
        server: DashScope, model: str | None = None, timeout: float | None = None, **remote: Any
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


def asked(count: int = 1, **request: Any) -> list[SegmentRequest]:
    return [SegmentRequest(noise(1 + seed / 16, seed), **request) for seed in range(count)]


@pytest.mark.parametrize(
    ("faults", "again"),
    [
        (["look:500", "look:429", "look:503"], 0),  # the task is there, and paid for
        (["result:503"], 0),
        (["task:InternalError.Timeout"], 1),
        (["task:Throttling.RateQuota", "task:FILE_DOWNLOAD_FAILED"], 2),
        (["order:429", "order:429", "order:429", "order:429"], 4),  # being told to wait is no failure
        (["order:500", "upload:503"], 2),
        (["upload:403"], 1),
        (["upload:403", "policy:503"], 2),
    ],
)
def test_files_what_passes_costs_no_segment(
    faults: list[str], again: int, files: DashScope, make: Make
) -> None:
    backend, requests = make(files), asked()
    before = len(files.seen)
    files.faults = list(faults)
    assert texts(backend.transcribe(requests)) == said(requests)
    assert not files.faults
    assert (backend.cost.requests, backend.cost.repeated) == (1 + again, again)
    orders = 1 + sum(fault.startswith("task") for fault in faults)
    assert len(files.seen) - before == orders


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
def test_realtime_what_passes_costs_no_segment(faults: list[str], realtime: DashScope, make: Make) -> None:
    backend, requests = make(realtime), asked()
    realtime.faults = list(faults)
    assert texts(backend.transcribe(requests)) == said(requests)
    assert not realtime.faults and backend.cost.requests == 1 + len(faults)


def test_what_lasts_or_is_refused_costs_its_segment_alone(
    files: DashScope, realtime: DashScope, make: Make
) -> None:
    for server, refused, lasting in (
        (files, ["task:UNSUPPORTED_FORMAT"], ["task:InternalError"] * 3),
        (realtime, ["session:invalid_request_error/invalid_value"], ["session:server_error/down"] * 3),
    ):
        backend, requests = make(server, concurrency=1), asked(3)
        server.faults = list(refused)
        results = backend.transcribe(requests)
        assert texts(results) == ["RowError", *said(requests)[1:]]
        assert (
            isinstance(results[0], RowError)
            and results[0].code == "model_failed"
            and "as you asked" in str(results[0])
        )
        server.faults = list(lasting)
        results = backend.transcribe(requests)
        assert texts(results) == ["RetryableError", *said(requests)[1:]]
        assert (
            isinstance(results[0], RetryableError)
            and results[0].code == "server_unavailable"
            and "after 3 attempts" in str(results[0])
        )


def test_who_is_not_let_in_is_told_what_to_do(
    files: DashScope,
    realtime: DashScope,
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    for server, end in ((files, "/api/v1"), (realtime, "/api-ws/v1")):
        server.key = KEY
        with pytest.raises(FatalError, match="no key was sent, as OPENAI_API_KEY is not set"):
            make(server)
        monkeypatch.setenv("MINE", "sk-another-key")
        with pytest.raises(FatalError, match=r"Bearer \*\*\*; the key in MINE was sent"):
            make(server, key_variable="MINE")
        monkeypatch.setenv("MINE", KEY)
        assert texts(make(server, key_variable="MINE").transcribe(asked())) == said(asked())
        with pytest.raises(FatalError, match=f"right, with its {end}\\?"):
            make(server, base_url=server.url.replace("/api", "/apo"), key_variable="MINE")
    with pytest.raises(FatalError, match=r"HTTP 400: Model qwen3-asr not exist.*its name of the model"):
        make(files, "qwen3-asr", key_variable="MINE")
    ours = [
        record.getMessage() for record in caplog.records if not record.name.startswith("websockets.server")
    ]
    assert not [text for text in ours if KEY in text or "sk-another" in text or "Signature" in text]
    assert {path for path, key in files.keys if key == f"Bearer {KEY}"} >= {
        "/api/v1/uploads",
        "/api/v1/services/audio/asr/transcription",
    }
    elsewhere = [key for path, key in files.keys if path == "/storage" or path.startswith("/results/")]
    assert elsewhere and set(elsewhere) == {None}  # these addresses are not of the settings: they get no key


def test_nobody_there_and_gone(files: DashScope, realtime: DashScope, make: Make) -> None:
    for server, fault in ((files, "policy:503"), (realtime, "handshake:503")):
        server.faults = [fault] * 9
        with pytest.raises(
            FatalError, match=r"HTTP 503.*start the server, or set asr\.remote\.base_url"
        ) as caught:
            make(server)
        assert caught.value.code == "server_unavailable"
        server.faults = []
        backend = make(server, retries=1)
        server.faults = ["order:503", *[fault] * 9]
        if server is files:
            server.faults = ["upload:403", *server.faults]
        with pytest.raises(FatalError, match="answers nothing any more"):
            backend.transcribe(asked())


def test_a_permission_to_upload_is_kept(files: DashScope, make: Make) -> None:
    backend = make(files, concurrency=2)
    for _ in range(3):
        backend.transcribe(asked(4))
    assert [path for path, _ in files.keys].count("/api/v1/uploads") == 1


def test_a_task_that_is_not_done_in_time_costs_its_segment(files: DashScope, make: Make) -> None:
    backend = make(files, timeout=1.0)
    files.endless = 1
    begin = time.monotonic()
    [result] = backend.transcribe(asked())
    assert isinstance(result, RetryableError) and "raise asr.timeout" in str(result)
    assert (
        time.monotonic() - begin < 1.5 and len(files.seen) == 3
    )  # that of silence, one, and silence once more, as nothing was good
    files.looks = 10**9  # a long queue: a service that takes tasks and tells of them is there
    assert texts(backend.transcribe(asked(2))) == ["RetryableError"] * 2


def test_looks_that_fail_now_and_then_do_not_cost_a_task(files: DashScope, make: Make) -> None:
    backend = make(files, retries=1)
    count = len(files.seen)
    files.looks, files.faults = 12, ["look:500"]
    real = files.fault

    def now_and_then(step: str) -> str | None:
        found = real(step)
        if step == "look" and found is None:
            files.faults = ["look:500"]  # every second one
        return found

    files.fault = now_and_then  # type: ignore[method-assign]
    requests = asked()
    assert texts(backend.transcribe(requests)) == said(requests) and len(files.seen) == count + 1


def test_the_key_is_not_sent_where_a_redirect_leads(
    realtime: DashScope, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving_realtime(FAKE) as elsewhere:
        realtime.faults = [f"redirect:{elsewhere.url}/realtime"]
        with pytest.raises(FatalError, match=r"it redirects to ws://.*/realtime: set asr\.remote\.base_url"):
            make(realtime)
        assert not elsewhere.keys


def test_longer_than_an_utterance(realtime: DashScope, make: Make) -> None:
    backend = make(realtime)
    long = SegmentRequest(np.zeros(61 * 16_000, np.int16))
    [refused, fine] = backend.transcribe([long, SegmentRequest(long.waveform[: 60 * 16_000])])
    assert isinstance(refused, RowError) and "segmenter.max_duration=60" in str(refused)
    assert isinstance(fine, Hypothesis) and not fine.text
    settings = ["asr.backend=openai", "asr.remote.endpoint=dashscope-realtime", "plan.shard_duration=900"]
    with pytest.raises(UsageError, match=r"60 s at a time: lower segmenter\.max_duration"):
        load_config(None, [*settings, "segmenter.max_duration=90"])
    config = load_config(None, [*settings, "asr.remote.base_url=wss://dashscope.aliyuncs.com/api-ws/v1"])
    assert config.asr.remote.base_url == "https://dashscope.aliyuncs.com/api-ws/v1"


def test_what_is_sent(
    files: DashScope, realtime: DashScope, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    request = asked(1, language="Cantonese", context="Ada<|im_end|>")[0]
    [found] = make(files).transcribe([request])
    assert isinstance(found, Hypothesis) and found.language == "Cantonese"
    assert files.seen[-1]["parameters"] == {"channel_id": [0], "enable_itn": False, "language": "yue"}
    assert (
        files.seen[-1]["input"]["file_url"].startswith("oss://dashscope-instant/")
        and "language" not in files.seen[0]["parameters"]
    )
    assert "no field for a context" in caplog.text
    [found] = make(realtime).transcribe([request])
    assert isinstance(found, Hypothesis) and (found.text, found.language) == (said([request])[0], "Cantonese")
    assert realtime.seen[-1] == {
        "modalities": ["text"],
        "input_audio_format": "pcm",
        "sample_rate": 16000,
        "input_audio_transcription": {"language": "yue", "corpus": {"text": "Ada< im_end >"}},
        "turn_detection": None,
    }
    assert realtime.seen[0]["input_audio_transcription"] == {}
    assert np.array_equal(files.asked[-1].waveform, request.waveform) and np.array_equal(
        realtime.asked[-1].waveform, request.waveform
    )


@pytest.mark.parametrize("kind", ["files", "realtime"])
def test_closing_ends_what_is_under_way(kind: str, make: Make, request: pytest.FixtureRequest) -> None:
    server: DashScope = request.getfixturevalue(kind)
    backend = make(server, timeout=60)
    server.looks = 10**6
    with ThreadPoolExecutor(1) as pool:
        count = len(server.seen)
        call = pool.submit(backend.transcribe, asked(1) if kind == "files" else asked(200))
        while len(server.seen) == count:
            time.sleep(0.01)
        backend.close()
        with pytest.raises(FatalError, match="closed"):
            call.result(30)


def test_the_language_of_a_file_is_that_of_most_of_its_text() -> None:
    sentences = [{"text": "ja", "language": "de"}, {"text": "well, then", "language": "en"}, {"text": "x"}]
    result = {"transcripts": [{"channel_id": 0, "text": "ja well, then x", "sentences": sentences}]}
    request = asked()[0]
    found = dashscope_protocol.hypothesis_of_file(result, request)
    assert (found.text, found.language, found.confidence, found.flags) == (
        "ja well, then x",
        "English",
        None,
        (),
    )
    assert dashscope_protocol.hypothesis_of_file({"transcripts": []}, request).text == ""
    for wrong in ({}, {"transcripts": None}, {"transcripts": ["text"]}):
        with pytest.raises(openai_protocol.Malformed):
            dashscope_protocol.hypothesis_of_file(wrong, request)


@pytest.mark.parametrize(
    "answer",
    [{}, {"data": None}, {"data": []}, {"data": {"policy": "p"}}, {"data": dict.fromkeys(
        ("oss_access_key_id", "signature", "policy", "x_oss_object_acl", "x_oss_forbid_overwrite", "upload_dir", "upload_host"), "x")}],
)  # fmt: skip
def test_no_permission(answer: dict[str, Any]) -> None:
    with pytest.raises(openai_protocol.Malformed):
        dashscope_protocol.permission(answer)


@pytest.mark.parametrize(
    ("output", "state", "code"),
    [
        ({"task_status": "PENDING", "task_id": "7"}, "running", ""),
        ({"task_status": "SUCCEEDED", "result": {"transcription_url": "https://a/b"}}, "done", ""),
        (
            {"task_status": "SUCCEEDED", "result": {"transcription_url": "file:///etc/passwd"}},
            "failed",
            "SUCCEEDED",
        ),
        ({"task_status": "SUCCEEDED"}, "failed", "SUCCEEDED"),
        (
            {"task_status": "FAILED", "code": "InvalidFile.NoAudio", "message": "a\nb"},
            "failed",
            "InvalidFile.NoAudio",
        ),
        ({"task_status": "UNKNOWN"}, "failed", "UNKNOWN"),
    ],
)
def test_how_a_task_is_doing(output: dict[str, Any], state: str, code: str) -> None:
    found = dashscope_protocol.task({"output": output})
    assert (found.state, found.code) == (state, code) and "\n" not in found.message


def test_codes() -> None:
    assert dashscope_protocol.is_silence("SUCCESS_WITH_NO_VALID_FRAGMENT") and dashscope_protocol.is_silence(
        "ASR_RESPONSE_HAVE_NO_WORDS"
    )
    assert not dashscope_protocol.is_silence("") and not dashscope_protocol.is_silence("InvalidFile.NoAudio")
    assert [
        dashscope_protocol.may_pass(code)
        for code in ("UNKNOWN", "InternalError", "insufficient_quota", "UNSUPPORTED_FORMAT")
    ] == [True] * 3 + [False]
    quota = b'{"code": "insufficient_quota", "message": "You exceeded your current quota"}'
    assert (
        http.meaning_of(429, quota)[0] == "fatal"
        and http.meaning_of(429, quota, of_dashscope=True)[0] == "busy"
    )
    assert (
        http.meaning_of(400, b'{"code": "Arrearage", "message": "Access denied"}', of_dashscope=True)[0]
        == "fatal"
    )
