"""Storage errors that Ray raises or tolerates are distinguished from other failed tasks."""

import logging

import pyarrow as pa
import pytest

from actors.errors import StorageError
from pipelines.supervision.storage_failures import (
    last_error_line,
    raise_storage_failures,
    storage_error_message,
)

STACK = (
    'ray::Write() File "ray/data/_internal/planner/checkpoint/plan_write_op.py", line 298, '
    "in commit_checkpoints\n"
)


def tolerate(error: BaseException) -> None:
    """Log an error as Ray does that `max_errored_blocks` tolerates."""
    from pipelines.supervision.ray_internals import TOLERATED_ERRORS_LOGGER

    logging.getLogger(TOLERATED_ERRORS_LOGGER).error("Ignoring this exception", exc_info=error)


def test_a_write_that_fails_stops_the_run_with_its_cause() -> None:
    with (
        pytest.raises(StorageError, match=r"cannot read or write s3://b/out: AWS Error ACCESS_DENIED$"),
        raise_storage_failures("s3://b/out", final=False),
    ):
        raise OSError(STACK + "AWS Error ACCESS_DENIED")


def test_advice_that_ray_adds_is_not_the_cause() -> None:
    from ray.data._internal import util

    cause = "AWS Error ACCESS_DENIED during PutObject operation: Access Denied."
    error = util._annotate_exception_with_retry_context(
        OSError(STACK + cause),
        description="write 'x'",
        attempts=1,
        max_attempts=10,
        total_backoff_s=0.0,
        exception_str=cause,
    )
    assert "To change retry" in str(error)
    assert storage_error_message(error) == cause


def test_other_errors_are_raised_unchanged() -> None:
    for error in (
        OSError('File "ray/data/other.py"\nno model'),
        ValueError(STACK + "a defect"),
        ConnectionError(STACK + "a node is gone"),
    ):
        with pytest.raises(type(error)), raise_storage_failures("out", final=True):
            raise error


def test_errors_of_a_stores_library_are_storage_errors() -> None:
    import aiohttp
    from botocore.exceptions import EndpointConnectionError

    for error in (
        aiohttp.ServerDisconnectedError(STACK + "gone"),
        EndpointConnectionError(endpoint_url=STACK + "http://s3.example"),
    ):
        assert storage_error_message(error)


@pytest.mark.parametrize("final", [False, True])
def test_tolerated_write_errors_are_raised_before_their_shards_are_given_up(final: bool) -> None:
    def write() -> None:
        with raise_storage_failures("out", final=final):
            tolerate(OSError(STACK + "[Errno 28] No space left on device"))
            tolerate(RuntimeError("a worker died"))

    if not final:  # the next pass does the shards again
        return write()
    with pytest.raises(StorageError, match=r"No space left on device \(1 task could not be stored\)"):
        write()


def test_rows_that_parquet_refuses_to_write_are_a_storage_error() -> None:
    error = pa.lib.ArrowNotImplementedError(STACK + "Support for codec 'foo' not built")
    assert storage_error_message(error) == "Support for codec 'foo' not built"
    assert last_error_line([ValueError("x"), error]) == "Support for codec 'foo' not built"
    assert last_error_line([]) == ""
