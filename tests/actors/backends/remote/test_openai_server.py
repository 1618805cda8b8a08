"""The recogniser behind HTTP when its server is absent, goes away, is busy, or lacks the model."""

from __future__ import annotations

import threading
import time

import pytest

pytest.importorskip("httpx2", reason="the backend openai needs httpx2 (extra `openai`)")

from actors.backends.remote import retry_policy
from actors.errors import FatalError
from tests.actors.backends.remote.openai_server import FaultyOpenAIServer
from tests.actors.backends.remote.remote_backends import Make, expected_texts, segments, texts

pytestmark = pytest.mark.usefixtures("fast_retries")


def test_a_model_that_the_server_lacks_ends_the_process(server: FaultyOpenAIServer, make: Make) -> None:
    with pytest.raises(
        FatalError, match=r"'other' the server's name of the model \(asr\.model\).*it offers asr$"
    ):
        make("other")


def test_a_model_that_is_not_listed_but_responds_is_used(server: FaultyOpenAIServer, make: Make) -> None:
    server.lists_models = False
    assert texts(make().transcribe(segments(""))) == expected_texts(segments(""))
    [silence, _] = server.received
    assert len(silence.waveform) == 8000
    assert not silence.waveform.any()


@pytest.mark.parametrize(
    ("fault", "why"),
    [("402", "HTTP 402: as you asked"), ("quota", "exceeded your current quota"), ("404", "HTTP 404")],
)
def test_a_server_that_refuses_every_request_is_detected_before_any_segment(
    fault: str, why: str, server: FaultyOpenAIServer, make: Make
) -> None:
    """It lists the model all the same.

    A later end of the process would be charged to its shards, and each new process would get them again.
    """
    server.fault = fault
    with pytest.raises(FatalError, match=why):
        make()


@pytest.mark.parametrize("fault", ["400", "500", "empty"])
def test_a_server_that_fails_at_silence_may_recognise_speech(
    fault: str, server: FaultyOpenAIServer, make: Make
) -> None:
    server.fault = fault
    backend = make(retries=1)
    server.fault = None
    assert texts(backend.transcribe(segments(""))) == expected_texts(segments(""))
    # The requests of the check do not count.
    assert backend.usage()["requests"] == 1


def test_an_absent_server_ends_the_process(make: Make) -> None:
    import socket

    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        with pytest.raises(
            FatalError, match=r"ConnectError.*start the server, or set asr\.remote\.base_url"
        ) as caught:
            make(base_url=url, retries=1)
    assert caught.value.code == "server_unavailable"


def test_a_wrong_path_ends_the_process(server: FaultyOpenAIServer, make: Make) -> None:
    with pytest.raises(FatalError, match="base_url right, with its /v1"):
        make(base_url=server.url.removesuffix("/v1"))


def test_a_server_that_goes_away_ends_the_process_and_loses_no_segment(
    server: FaultyOpenAIServer, make: Make
) -> None:
    backend = make(retries=1)
    server.outage = 503
    with pytest.raises(FatalError, match="HTTP 503: out of order"):
        backend.transcribe(segments("", ""))
    server.outage = None
    assert texts(backend.transcribe(segments("", ""))) == expected_texts(segments("", ""))


def test_a_server_that_goes_away_within_a_batch_loses_none_of_it(
    server: FaultyOpenAIServer, make: Make
) -> None:
    """Some segments were recognised before."""
    backend = make(retries=1, concurrency=1)
    requests = segments("", "", "server:503", "")
    server.seconds = 0.1

    def go_away() -> None:
        while len(server.received) < 4:  # one of them is silence
            time.sleep(0.01)
        server.outage = 503

    thread = threading.Thread(target=go_away)
    thread.start()
    with pytest.raises(FatalError, match="no longer responds") as caught:
        backend.transcribe(requests)
    thread.join()
    assert caught.value.code == "server_unavailable"


@pytest.mark.parametrize("fault", ["error", "429", "502"])
def test_a_server_that_lists_its_models_but_recognises_nothing_counts_as_gone(
    fault: str, server: FaultyOpenAIServer, make: Make
) -> None:
    """A proxy lists the models also when the engine is gone: the archive must not become dead letters."""
    backend = make(retries=1, patience=0.5)
    server.fault = fault
    with pytest.raises(FatalError, match="no longer responds") as caught:
        backend.transcribe(segments("", ""))
    assert caught.value.code == "server_unavailable"


def test_a_busy_server_is_waited_for(server: FaultyOpenAIServer, make: Make) -> None:
    """A request to wait is no failure: `retries` is 0."""
    requests = segments(*[f"server:busy:{1 + number % 3}" for number in range(9)])
    assert texts(make(retries=0, concurrency=3).transcribe(requests)) == expected_texts(requests)


def test_a_wait_that_the_server_asks_for_does_not_use_up_the_patience(
    server: FaultyOpenAIServer, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does the run take it for a stall."""
    heartbeats: list[int] = []
    monkeypatch.setattr(retry_policy, "_HEARTBEAT_INTERVAL", 0.1)
    monkeypatch.setattr(retry_policy, "heartbeat", lambda: heartbeats.append(1))
    requests = segments("server:busy:2", "", "")
    backend = make(patience=0.25, concurrency=1)
    server.retry_after = 0.5
    assert texts(backend.transcribe(requests)) == expected_texts(requests)
    assert len(heartbeats) > 2  # in two waits


def test_a_wait_beyond_the_limit_of_a_call_ends_the_process_and_fails_no_segment(
    server: FaultyOpenAIServer, make: Make
) -> None:
    """Otherwise the rest of the archive would be given up within a second, without any request."""
    backend = make(patience=5)
    server.retry_after = 3600
    with pytest.raises(
        FatalError, match=r"asks to wait for 3600 s, which goes beyond the 610 s .*\(asr\.timeout\)"
    ) as caught:
        backend.transcribe(segments("server:busy"))
    assert caught.value.code == "server_unavailable"
    assert server.times["server:busy"] == 1
