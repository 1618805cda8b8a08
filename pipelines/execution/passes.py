"""What a run cost stands in run.json however it ends: servers that are paid were asked all the same."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

from pipelines.output import run_record
from pipelines.supervision import shutdown
from pipelines.supervision.supervisor import PassLosses


@contextlib.contextmanager
def noted(out: str, record: dict[str, Any], run_id: str) -> Iterator[list[PassLosses]]:
    """Note in a run what its passes cost, once a `with` block ends; they put it into the list.

    Nothing is written where the lease was lost: run.json is somebody else's then.
    """
    passes: list[PassLosses] = []
    try:
        yield passes
    except BaseException as error:
        if passes and (isinstance(error, Exception) or shutdown.may_store()):
            with contextlib.suppress(
                Exception
            ):  # what ended the run is told, not that this could not be written either
                _note(out, record, run_id, passes)
        raise
    _note(out, record, run_id, passes)


def _note(out: str, record: dict[str, Any], run_id: str, passes: list[PassLosses]) -> None:
    sums = functools.reduce(PassLosses.and_then, passes, PassLosses())
    run_record.note(
        out,
        record,
        run_id,
        processes_died=sums.processes,
        shards_again=sums.again,
        asked_of_servers=sums.usage,
    )
