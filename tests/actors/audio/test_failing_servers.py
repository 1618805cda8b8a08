"""A web server that fails is retried and then unavailable; only what is not there is not found."""

import contextlib
import http.server
import socket

import pytest

from actors import retries
from actors.audio.probing import probe_many
from actors.audio.sources import open_audio
from actors.errors import CODES, RetryableError, RowError, UsageError, as_row_error
from tests.actors.audio.loopback_http import running


@pytest.fixture
def sleeps(monkeypatch):
    durations = []
    monkeypatch.setattr(retries.time, "sleep", durations.append)
    return durations


@contextlib.contextmanager
def serve(answer):
    """A server on a port of its own whose requests `answer` answers; yields its address and the requests."""
    requests = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def handle_request(self):
            requests.append(self.command)
            answer(self)

        do_GET = do_HEAD = handle_request

        def log_message(self, *arguments):
            pass

    with running(Handler) as address:
        yield f"{address}/a.wav", requests


def status(code):
    return lambda request: request.send_error(code)


def drop(request):
    request.connection.shutdown(socket.SHUT_RDWR)
    request.close_connection = True


def failure(uri, attempts=2):
    with pytest.raises((RowError, RetryableError)) as raised, open_audio(uri, retries=attempts):
        pass
    return raised.value


@pytest.mark.parametrize("code", [500, 502, 503, 504, 429, 408])
def test_a_status_that_may_pass_is_retried_and_then_unavailable(sleeps, code):
    with serve(status(code)) as (uri, _):
        error = failure(uri)
    assert type(error) is RetryableError
    assert error.code == "storage_unavailable"
    assert str(code) in error.message
    assert len(sleeps) == 2


@pytest.mark.parametrize(
    ("code", "name"),
    [(404, "audio_not_found"), (410, "audio_not_found"), (401, "access_denied"), (403, "access_denied")],
)
def test_a_lasting_status_is_not_retried(sleeps, code, name):
    with serve(status(code)) as (uri, _):
        error = failure(uri)
    assert type(error) is RowError
    assert error.code == name
    assert sleeps == []


@pytest.mark.parametrize("code", [400, 402, 451])
def test_a_refused_request_is_not_reported_as_not_found(sleeps, code):
    with serve(status(code)) as (uri, _):
        error = failure(uri)
    assert error.code == "storage_unavailable"
    assert sleeps == []


def test_a_dropped_connection_is_retried_and_then_unavailable(sleeps):
    with serve(drop) as (uri, requests):
        error = failure(uri)
    assert type(error) is RetryableError
    assert len(requests) >= 3
    assert len(sleeps) == 2


def test_a_refused_port_is_retried_and_then_unavailable(sleeps):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    assert type(failure(f"http://127.0.0.1:{port}/a.wav")) is RetryableError
    assert len(sleeps) == 2


def test_a_tls_error_is_retried_and_then_unavailable(sleeps):
    with serve(status(200)) as (uri, _):
        error = failure(uri.replace("http://", "https://"))
    assert type(error) is RetryableError
    assert len(sleeps) == 2


def test_a_host_without_an_address_is_retried_and_then_unavailable(sleeps):
    assert type(failure("http://there-is-no-such-host.invalid/a.wav")) is RetryableError
    assert len(sleeps) == 2


def test_a_server_that_recovers_is_read(sleeps):
    content = b"RIFF" + bytes(2000)
    failures = [503, 500]

    def answer(request):
        # The library asks twice before it gives up.
        if failures:
            request.send_error(failures[0])
            if request.command == "GET":
                failures.pop(0)
            return
        request.send_response(200)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(content)

    with serve(answer) as (uri, _), open_audio(uri, retries=4) as file:
        assert file.read(5000) == content
    assert len(sleeps) == 2


def test_the_scheme_is_case_insensitive(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"RIFF")
    with open_audio(f"FILE://{path}") as file:
        assert file.read(4) == b"RIFF"
    with serve(status(410)) as (uri, _):
        assert failure(uri.replace("http", "HTTP")).code == "audio_not_found"


@pytest.mark.parametrize("uri", ["nosuch://bucket/a.wav", "sftp+x://host/a.wav"])
def test_an_unknown_scheme_in_a_row_is_no_internal_error(uri):
    with pytest.raises(UsageError) as raised, open_audio(uri, retries=0):
        pass
    assert as_row_error(raised.value)[0] == "audio_not_found"
    assert probe_many([uri], 1, 10)[0][0] == "audio_not_found"


def test_a_usage_error_of_a_row_is_never_internal():
    code, message = as_row_error(UsageError("this setting does not fit"))
    assert code in CODES
    assert code != "internal_error"
    assert message == "this setting does not fit"


def not_found_from(cause):
    try:
        raise FileNotFoundError("https://x/a.wav") from cause
    except FileNotFoundError as error:
        return error


def library_error(module, name, **attributes):
    return type(name, (Exception,), {"__module__": module, **attributes})("it failed")


@pytest.mark.parametrize(
    ("error", "code", "is_transient"),
    [
        (
            library_error("google.api_core.exceptions", "ServiceUnavailable", code=503),
            "storage_unavailable",
            True,
        ),
        (library_error("gcsfs.retry", "HttpError", code="404"), "audio_not_found", False),
        (
            library_error("azure.core.exceptions", "ServiceRequestError", status_code=None),
            "storage_unavailable",
            True,
        ),
        (library_error("azure.core.exceptions", "ClientAuthenticationError"), "access_denied", False),
        (
            library_error("azure.core.exceptions", "ResourceNotFoundError", status_code=404),
            "audio_not_found",
            False,
        ),
        (library_error("oss2.exceptions", "ServerError", status=503), "storage_unavailable", True),
        (library_error("oss2.exceptions", "RequestError", status=-2), "storage_unavailable", True),
        (not_found_from(library_error("oss2.exceptions", "NoSuchKey", status=404)), "audio_not_found", False),
        (not_found_from(library_error("aiohttp", "ClientPayloadError")), "storage_unavailable", True),
        (not_found_from(ConnectionResetError("gone")), "storage_unavailable", True),
        (not_found_from(None), "audio_not_found", False),
        (not_found_from(KeyError("ours")), "audio_not_found", False),
    ],
)
def test_errors_of_every_store_are_classified_by_their_cause(error, code, is_transient):
    known = retries.classify(error, "gs://b/k")
    assert known.code == code
    assert retries.is_transient(error) == is_transient
