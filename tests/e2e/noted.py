"""The job's stages, which also leave a note of where they run: for tests that look at where Ray really put them."""

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
"""Variable with the folder of the notes, to be set before Ray starts."""


def note(stage: str) -> None:
    """Write down the node and the GPUs of this process."""
    import ray

    context = ray.get_runtime_context()
    labels = context.get_node_labels()
    told = {
        "stage": stage,
        "node": labels.get("name", "head"),
        "cards": context.get_accelerator_ids().get("GPU", []),
    }
    Path(os.environ[FOLDER], uuid.uuid4().hex).write_text(json.dumps(told))


def decode(table: pa.Table, **arguments: Any) -> Iterator[pa.Table]:
    """See `stages.decode`."""
    note("decode")
    yield from stages.decode(table, **arguments)


class Recognise(stages.Recognise):
    """See `stages.Recognise`."""

    def __init__(self, *arguments: Any) -> None:
        note("recogniser")
        super().__init__(*arguments)


class Align(stages.Align):
    """See `stages.Align`."""

    def __init__(self, *arguments: Any) -> None:
        note("aligner")
        super().__init__(*arguments)
