"""The stage that finds speakers, between decoding and recognition; only where speakers are asked for."""

from __future__ import annotations

import functools
from typing import Any, cast

import pyarrow as pa

from actors.backends.devices import device_name
from actors.config.speakers import SpeakersConfig
from actors.speakers.actor import STAGE, SpeakerActor
from pipelines.execution.arrow_rows import to_rows, to_table
from pipelines.execution.ray_data import BYTES_PER_SECOND
from pipelines.execution.stages import SerializedStage
from pipelines.schema import DECODED
from pipelines.supervision.guarded_actor import GuardedActor


class FindSpeakers(SerializedStage):
    """DECODED rows get `turns`, `voices` and `speaker_model`."""

    def __init__(self, config: SpeakersConfig, channel: str, supervisor: Any) -> None:
        tries = config.pool.max_task_retries + 1
        make = functools.partial(SpeakerActor, config, channel)
        self.guarded = GuardedActor(STAGE, make, supervisor, tries)
        super().__init__()

    def __call__(self, table: pa.Table) -> pa.Table:
        rows = to_rows(table)
        seconds = sum(len(part["samples"]) for row in rows for part in row["segments"]) / BYTES_PER_SECOND
        rows = self.run_model(self.guarded, rows)
        if seconds:
            device = device_name(cast(Any, self.guarded.actor.backend.device))
            record = {
                "calls": 1,
                "audio_seconds": seconds,
                "busy_seconds": self._timer.take(),
                "model": self.guarded.actor.model,
            }
            self.guarded.supervisor.record_costs.remote(STAGE, device, record)
        return to_table(rows, DECODED, table)
