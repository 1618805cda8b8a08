"""The job's stages, which also record where they run, for tests of Ray's real placement."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines.execution import stages

FOLDER = "SCRIPTORIUM_TEST_NOTES"
"""Environment variable with the folder of the records; set it before Ray starts."""


def record(stage: str) -> None:
    """Write down the node and the GPUs of this process."""
    import ray

    context = ray.get_runtime_context()
    labels = context.get_node_labels()
    place = {
        "stage": stage,
        "node": labels.get("name", "head"),
        "cards": context.get_accelerator_ids().get("GPU", []),
    }
    Path(os.environ[FOLDER], uuid.uuid4().hex).write_text(json.dumps(place))


def decode(table: pa.Table, **arguments: Any) -> Iterator[pa.Table]:
    """See `stages.decode`."""
    record("decode")
    yield from stages.decode(table, **arguments)


class Recognise(stages.Recognise):
    """See `stages.Recognise`."""

    def __init__(self, *arguments: Any) -> None:
        record("recogniser")
        super().__init__(*arguments)


class Align(stages.Align):
    """See `stages.Align`."""

    def __init__(self, *arguments: Any) -> None:
        record("aligner")
        super().__init__(*arguments)
