"""The settings of speakers: who said it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from actors.config.base import PoolConfig, Settings


class SpeakersConfig(Settings):
    """Who said it: speakers of a recording, by their voices (extra `speakers`)."""

    backend: Literal["none", "campplus", "pyannote", "fake"] = Field(
        "none",
        description="none: no speakers, but those of channel: each; campplus: CAM++ with bundled weights; "
        "pyannote: community-1, for those who have accepted its terms (extra `pyannote`)",
    )
    model: str | None = Field(
        None,
        description="campplus: folder with the weights, null: those of the extra; pyannote: hub id or "
        "folder, null: pyannote/speaker-diarization-community-1",
    )
    count: int | None = Field(
        None,
        ge=1,
        le=100,
        description="number of speakers of every recording; null: found out; a manifest's `speakers` takes "
        "precedence",
    )
    min: int = Field(
        1, ge=1, le=100, description="fewest speakers; a manifest's `speakers_min` takes precedence"
    )
    max: int | None = Field(
        None,
        ge=1,
        le=100,
        description="most speakers; null: any number; a manifest's `speakers_max` takes precedence",
    )
    threshold: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="similarity of two voices (cosine) above which they are one person; higher finds more "
        "speakers; null: the backend's",
    )
    enrolled: str | None = Field(
        None,
        description="table of known voices with the columns `name` and `audio` or `embedding` (JSONL, CSV, "
        "Parquet ...); speakers that match get the name",
    )
    enrolled_threshold: float = Field(
        0.6, gt=0, lt=1, description="similarity with a known voice from which a speaker gets its name"
    )
    device: str = Field("auto", description="auto | cpu | cuda | cuda:N")
    threads: int | None = Field(
        None, ge=1, description="CPU threads per replica; null: the cores, divided among the pools"
    )
    pool: PoolConfig = PoolConfig()

    def identity(self) -> dict[str, dict[str, object]]:
        """The settings that determine speakers, as a section; empty where there are none."""
        # Only where they are asked for, because version 0.1.0 had no speakers.
        if self.backend == "none":
            return {}
        names = {"backend", "model", "count", "min", "max", "threshold"}
        return {"speakers": self.model_dump(mode="json", include=names)}

    @model_validator(mode="after")
    def _bounds_fit(self) -> SpeakersConfig:
        if self.max is not None and self.max < self.min:
            raise ValueError(f"speakers.max is {self.max}, below speakers.min, {self.min}")
        if self.count is not None and ("min" in self.model_fields_set or self.max is not None):
            raise ValueError("speakers.count is the exact number: leave out speakers.min and speakers.max")
        return self
