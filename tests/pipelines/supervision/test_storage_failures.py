"""Storage errors that Ray raises or lets pass: told apart from all other ways to lose a task."""

import logging

import pyarrow as pa
import pytest

from actors.errors import StorageError
from pipelines.supervision import storage_failures

STACK = 'ray::Write() File "ray/data/_internal/planner/checkpoint/plan_write_op.py", line 298, in commit_checkpoints\n'


def lost(error: BaseException) -> None:
    """What Ray does with an error that `max_errored_blocks` lets pass."""
    logging.getLogger("ray.data._internal.execution.streaming_executor_state").error(
        "Ignoring this exception", exc_info=error
    )


def test_a_write_that_fails_stops_the_run_with_its_cause() -> None:
    with (
        pytest.raises(StorageError, match=r"cannot read or write s3://b/out: AWS Error ACCESS_DENIED$"),
        storage_failures.told("s3://b/out", final=False),
    ):
        raise OSError(STACK + "AWS Error ACCESS_DENIED")


def test_advice_that_ray_adds_is_not_the_cause() -> None:
    from ray.data._internal import util

    said = "AWS Error ACCESS_DENIED during PutObject operation: Access Denied."
    error = util._annotate_exception_with_retry_context(
        OSError(STACK + said),
        description="write 'x'",
        attempts=1,
        max_attempts=10,
        total_backoff_s=0.0,
        exception_str=said,
    )
    assert "To change retry" in str(error) and storage_failures.storage_trouble(error) == said


def test_other_errors_keep_their_names() -> None:
    for error in (
        OSError('File "ray/data/other.py"\nno model'),
        ValueError(STACK + "a defect"),
        ConnectionError(STACK + "a node is gone"),
    ):
        with pytest.raises(type(error)), storage_failures.told("out", final=True):
            raise error


def test_a_librarys_own_errors_are_the_stores() -> None:
    import aiohttp
    from botocore.exceptions import EndpointConnectionError

    for error in (
        aiohttp.ServerDisconnectedError(STACK + "gone"),
        EndpointConnectionError(endpoint_url=STACK + "http://s3.example"),
    ):
        assert storage_failures.storage_trouble(error)


@pytest.mark.parametrize("final", [False, True])
def test_writes_that_ray_let_pass_are_told_before_their_shards_are_given_up(final: bool) -> None:
    def lossy() -> None:
        with storage_failures.told("out", final=final):
            lost(OSError(STACK + "[Errno 28] No space left on device"))
            lost(RuntimeError("a worker died"))

    if not final:  # the next pass does them again
        return lossy()
    with pytest.raises(StorageError, match=r"No space left on device \(1 tasks could not be stored\)"):
        lossy()


def test_what_parquet_refuses_to_write_is_no_lost_process() -> None:
    error = pa.lib.ArrowNotImplementedError(STACK + "Support for codec 'foo' not built")
    assert storage_failures.storage_trouble(error) == "Support for codec 'foo' not built"
    assert (
        storage_failures.last_line([ValueError("x"), error]) == "Support for codec 'foo' not built"
        and storage_failures.last_line([]) == ""
    )
