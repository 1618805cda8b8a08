"""Which storage errors are transient, how often they are retried, and which code each gets."""

import errno

import pytest

from actors import retries
from actors.config.base import StorageConfig
from actors.errors import RetryableError, RowError
from actors.retries import call_with_retries, classify, is_transient, read_with_retries


@pytest.fixture
def sleeps(monkeypatch):
    durations = []
    monkeypatch.setattr(retries.time, "sleep", durations.append)
    return durations


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (PermissionError("no"), RowError, "access_denied"),
        (type("NoCredentialsError", (Exception,), {})("none"), RowError, "access_denied"),
        (OSError(errno.EIO, "disk"), RetryableError, "storage_unavailable"),
        (ConnectionResetError("gone"), RetryableError, "storage_unavailable"),
        (TimeoutError(), RetryableError, "storage_unavailable"),
        (type("E", (Exception,), {"status": 403})("x"), RowError, "access_denied"),
        (type("E", (Exception,), {"status": 404})("x"), RowError, "audio_not_found"),
        (type("E", (Exception,), {"status": 400})("x"), RowError, "storage_unavailable"),
        (type("E", (Exception,), {"status": 429})("x"), RetryableError, "storage_unavailable"),
        (type("E", (Exception,), {"status": 503})("x"), RetryableError, "storage_unavailable"),
    ],
)
def test_storage_errors_are_classified(error, kind, code):
    known = classify(error, "s3://b/k")
    assert type(known) is kind
    assert known.code == code
    assert "s3://b/k" in known.message


def test_other_errors_are_not_classified():
    error = KeyError("ours")
    assert classify(error, "x") is error


def test_retries_end_with_success_or_at_the_limit(sleeps):
    failures = [ConnectionError("a"), TimeoutError("b")]

    def flaky():
        if failures:
            raise failures.pop()
        return "done"

    assert read_with_retries(flaky, "u", 4) == "done"
    assert len(sleeps) == 2

    def hopeless():
        raise ConnectionError("x")

    with pytest.raises(RetryableError):
        read_with_retries(hopeless, "u", 3)
    assert len(sleeps) == 5


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.ENOENT])
def test_lasting_disk_errors_are_not_retried(number, sleeps):
    def write():
        raise OSError(number, "no")

    with pytest.raises(OSError):
        call_with_retries(write)
    assert sleeps == []


def test_nested_retries_do_not_multiply(sleeps):
    calls = []

    def hopeless():
        calls.append(1)
        raise ConnectionResetError("x")

    with pytest.raises(ConnectionResetError):
        call_with_retries(lambda: call_with_retries(hopeless, 3), 3)
    assert len(calls) == 4
    with pytest.raises(RetryableError):
        call_with_retries(lambda: read_with_retries(hopeless, "u", 3), 3)
    assert len(calls) == 8


def test_s3_error_codes_decide_whether_an_error_is_transient():
    def answer(status, code):
        error = OSError(errno.EINVAL, code)
        error.__cause__ = type("ClientError", (Exception,), {})()
        error.__cause__.response = {"ResponseMetadata": {"HTTPStatusCode": status}, "Error": {"Code": code}}
        return error

    assert is_transient(answer(503, "SlowDown"))
    assert is_transient(answer(400, "RequestTimeout"))
    assert is_transient(answer(429, "TooManyRequests"))
    assert not is_transient(answer(400, "InvalidRequest"))
    assert not is_transient(answer(412, "PreconditionFailed"))
    assert classify(answer(412, "PreconditionFailed"), "s3://b/k").code == "audio_changed"


def test_errors_of_arrow_are_transient_only_if_arrow_did_not_retry():
    assert not is_transient(
        OSError("AWS Error SLOW_DOWN during PutObject operation: Please reduce your request rate.")
    )
    assert is_transient(
        OSError(
            "AWS Error UNKNOWN (HTTP status 429) during PutObject operation: Unable to parse ExceptionName"
        )
    )


def test_settings_reach_processes_that_start_later(monkeypatch):
    for name in ("SCRIPTORIUM_STORAGE_RETRIES", "SCRIPTORIUM_STORAGE_TIMEOUT"):
        monkeypatch.setenv(name, "1")
        monkeypatch.delenv(name)
    assert retries.settings() == StorageConfig()
    assert retries.variables() == {}
    retries.apply(StorageConfig(retries=3, timeout=4.5))
    assert retries.settings() == StorageConfig(retries=3, timeout=4.5)
    assert retries.variables() == {"SCRIPTORIUM_STORAGE_RETRIES": "3", "SCRIPTORIUM_STORAGE_TIMEOUT": "4.5"}
