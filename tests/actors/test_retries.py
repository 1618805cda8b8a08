"""Which storage errors may pass, how often they are waited for, and what each is called in the end."""

import errno

import pytest

from actors import retries
from actors.config import StorageConfig
from actors.errors import RetryableError, RowError
from actors.retries import classify, is_hiccup, retried, with_retries


@pytest.fixture
def naps(monkeypatch):
    taken = []
    monkeypatch.setattr(retries.time, "sleep", taken.append)
    return taken


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
def test_storage_errors_have_names(error, kind, code):
    known = classify(error, "s3://b/k")
    assert type(known) is kind and known.code == code and "s3://b/k" in known.message


def test_errors_that_are_not_the_stores_stay_what_they_are():
    error = KeyError("ours")
    assert classify(error, "x") is error


def test_retries_end_with_success_or_with_the_bound(naps):
    failures = [ConnectionError("a"), TimeoutError("b")]

    def flaky():
        if failures:
            raise failures.pop()
        return "done"

    assert with_retries(flaky, "u", 4) == "done" and len(naps) == 2

    def hopeless():
        raise ConnectionError("x")

    with pytest.raises(RetryableError):
        with_retries(hopeless, "u", 3)
    assert len(naps) == 5


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.ENOENT])
def test_a_full_or_forbidden_disk_is_not_waited_for(number, naps):
    def write():
        raise OSError(number, "no")

    with pytest.raises(OSError):
        retried(write)
    assert naps == []


def test_retries_of_retries_do_not_multiply(naps):
    calls = []

    def hopeless():
        calls.append(1)
        raise ConnectionResetError("x")

    with pytest.raises(ConnectionResetError):
        retried(lambda: retried(hopeless, 3), 3)
    assert len(calls) == 4
    with pytest.raises(RetryableError):
        retried(lambda: with_retries(hopeless, "u", 3), 3)
    assert len(calls) == 8


def test_what_s3_means_by_a_status_counts():
    def answer(status, code):
        error = OSError(errno.EINVAL, code)
        error.__cause__ = type("ClientError", (Exception,), {})()
        error.__cause__.response = {"ResponseMetadata": {"HTTPStatusCode": status}, "Error": {"Code": code}}
        return error

    assert (
        is_hiccup(answer(503, "SlowDown"))
        and is_hiccup(answer(400, "RequestTimeout"))
        and is_hiccup(answer(429, "TooManyRequests"))
    )
    assert not is_hiccup(answer(400, "InvalidRequest")) and not is_hiccup(answer(412, "PreconditionFailed"))
    assert classify(answer(412, "PreconditionFailed"), "s3://b/k").code == "audio_changed"


def test_arrow_has_tried_already_unless_it_does_not_know_the_answer():
    assert not is_hiccup(
        OSError("AWS Error SLOW_DOWN during PutObject operation: Please reduce your request rate.")
    )
    assert is_hiccup(
        OSError(
            "AWS Error UNKNOWN (HTTP status 429) during PutObject operation: Unable to parse ExceptionName"
        )
    )


def test_settings_reach_processes_that_are_started_later(monkeypatch):
    for name in ("SCRIPTORIUM_STORAGE_RETRIES", "SCRIPTORIUM_STORAGE_TIMEOUT"):
        monkeypatch.setenv(name, "1")
        monkeypatch.delenv(name)
    assert retries.settings() == StorageConfig() and retries.variables() == {}
    retries.apply(StorageConfig(retries=3, timeout=4.5))
    assert retries.settings() == StorageConfig(retries=3, timeout=4.5)
    assert retries.variables() == {"SCRIPTORIUM_STORAGE_RETRIES": "3", "SCRIPTORIUM_STORAGE_TIMEOUT": "4.5"}
