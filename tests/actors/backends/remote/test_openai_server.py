"""The recogniser behind HTTP where its server is not there, goes, is busy, or has not what is wanted."""

from __future__ import annotations

import threading
import time

import pytest

pytest.importorskip("httpx2", reason="the backend openai needs httpx2 (extra `openai`)")

from actors.backends.remote import retry_policy
from actors.errors import FatalError
from tests.actors.backends.remote.asking import Make, asked, said, texts
from tests.actors.backends.remote.speaking_server import SpeakingServer

pytestmark = pytest.mark.usefixtures("quick")


def test_a_model_that_the_server_has_not(server: SpeakingServer, make: Make) -> None:
    with pytest.raises(FatalError, match=r"'other' its name of the model \(asr\.model\).*it offers asr$"):
        make("other")


def test_a_model_that_is_not_listed_but_answers(server: SpeakingServer, make: Make) -> None:
    server.lists_models = False
    assert texts(make().transcribe(asked(""))) == said(asked(""))
    [probe, _] = server.asked
    assert len(probe.waveform) == 8000 and not probe.waveform.any()


@pytest.mark.parametrize(
    ("fault", "why"),
    [("402", "HTTP 402: as you asked"), ("quota", "exceeded your current quota"), ("404", "HTTP 404")],
)
def test_a_server_that_refuses_everybody_is_found_out_before_a_segment_is_in_hand(
    fault: str, why: str, server: SpeakingServer, make: Make
) -> None:
    """It lists the model all the same. What ends the process later is charged to its shards, and each new process would be given them."""
    server.fault = fault
    with pytest.raises(FatalError, match=why):
        make()


@pytest.mark.parametrize("fault", ["400", "500", "empty"])
def test_a_server_that_cannot_do_silence_may_do_speech(
    fault: str, server: SpeakingServer, make: Make
) -> None:
    server.fault = fault
    backend = make(retries=1)
    server.fault = None
    assert texts(backend.transcribe(asked(""))) == said(asked(""))
    assert backend.usage()["requests"] == 1  # what was asked before is not the segments'


def test_nobody_there(make: Make) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with pytest.raises(
            FatalError, match=r"ConnectError.*start the server, or set asr\.remote\.base_url"
        ) as caught:
            make(base_url=url, retries=1)
    assert caught.value.code == "server_unavailable"


def test_no_such_server(server: SpeakingServer, make: Make) -> None:
    with pytest.raises(FatalError, match="base_url right, with its /v1"):
        make(base_url=server.url.removesuffix("/v1"))


def test_a_server_that_goes_away_ends_the_process_and_its_segments_are_not_lost(
    server: SpeakingServer, make: Make
) -> None:
    backend = make(retries=1)
    server.outage = 503
    with pytest.raises(FatalError, match="HTTP 503: out of order"):
        backend.transcribe(asked("", ""))
    server.outage = None
    assert texts(backend.transcribe(asked("", ""))) == said(asked("", ""))


def test_a_server_that_goes_away_in_the_middle_of_a_batch_loses_none_of_it(
    server: SpeakingServer, make: Make
) -> None:
    """Some were answered before it went."""
    backend = make(retries=1, concurrency=1)
    requests = asked("", "", "server:503", "")
    server.seconds = 0.1

    def go() -> None:
        while len(server.asked) < 4:  # one was silence
            time.sleep(0.01)
        server.outage = 503

    thread = threading.Thread(target=go)
    thread.start()
    with pytest.raises(FatalError, match="answers nothing any more") as caught:
        backend.transcribe(requests)
    thread.join()
    assert caught.value.code == "server_unavailable"


@pytest.mark.parametrize("fault", ["error", "429", "502"])
def test_a_server_that_lists_its_models_but_answers_nobody_is_gone(
    fault: str, server: SpeakingServer, make: Make
) -> None:
    """What stands in front of an engine knows its models also when the engine is not there: the archive is not to end as dead letters."""
    backend = make(retries=1, patience=0.5)
    server.fault = fault
    with pytest.raises(FatalError, match="answers nothing any more") as caught:
        backend.transcribe(asked("", ""))
    assert caught.value.code == "server_unavailable"


def test_a_server_that_is_only_busy_is_waited_for(server: SpeakingServer, make: Make) -> None:
    """Being told to wait is no failure: `retries` is 0."""
    requests = asked(*[f"server:busy:{1 + number % 3}" for number in range(9)])
    assert texts(make(retries=0, concurrency=3).transcribe(requests)) == said(requests)


def test_a_wait_that_is_asked_for_does_not_use_up_the_patience(
    server: SpeakingServer, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does the run take it for silence."""
    signs: list[int] = []
    monkeypatch.setattr(retry_policy, "_SIGN", 0.1)
    monkeypatch.setattr(retry_policy, "heartbeat", lambda: signs.append(1))
    requests = asked("server:busy:2", "", "")
    backend = make(patience=0.25, concurrency=1)
    server.retry_after = 0.5
    assert texts(backend.transcribe(requests)) == said(requests)
    assert len(signs) > 2  # in two waits


def test_a_wait_beyond_what_a_call_may_take_ends_the_process_and_costs_no_segment(
    server: SpeakingServer, make: Make
) -> None:
    """Otherwise the rest of the archive would be given up within a second, without being asked about."""
    backend = make(patience=5)
    server.retry_after = 3600
    with pytest.raises(
        FatalError, match=r"asks to wait for 3600 s, which goes beyond the 610 s .*\(asr\.timeout\)"
    ) as caught:
        backend.transcribe(asked("server:busy"))
    assert caught.value.code == "server_unavailable"
    assert server.times["server:busy"] == 1
