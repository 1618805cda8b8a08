"""What a training set is made of, and the counts that its card states."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pipelines.export.datasets.plan import PlanOptions, Shard
from pipelines.export.datasets.samples import Sample, SampleOptions
from pipelines.output.transcript_filters import Filters
from pipelines.storage import files

# Folder of the pieces from which a format's common files are joined; hidden from readers of the data set.
_PIECES = ".pieces"


@dataclass(frozen=True)
class DatasetJob:
    """What is written, and where.

    Attributes:
        out: the output directory of the run.
        form: nemo | lhotse | hf | webdataset | kaldi.
        dest: the folder.
        audio: link (point into the recordings) | cut (FLAC for each sample).
        filters: which transcripts.
        samples: what a sample is.
        plan: parts and shards.
        name: of the data set, for its card.
        license: of the data set, for its card; None: not stated.
    """

    out: str
    form: str
    dest: str
    audio: Literal["link", "cut"]
    filters: Filters = field(default_factory=Filters)
    samples: SampleOptions = field(default_factory=SampleOptions)
    plan: PlanOptions = field(default_factory=PlanOptions)
    name: str = "transcripts"
    license: str | None = None

    def address(self, *names: str) -> str:
        """An address in the destination."""
        return files.join(self.dest, "/".join(names))

    def piece(self, shard: Shard, name: str) -> str:
        """The address of a shard's piece of a common file."""
        return self.address(_PIECES, shard.split, f"{shard.number:06d}", name)


def tally(counts: Counter[str], split: str, sample: Sample, size: int) -> None:
    """Count one written sample of `size` bytes."""
    counts["written"] += 1
    counts["bytes"] += size
    counts[f"part_{split}_samples"] += 1
    counts[f"language_{sample.language or 'unknown'}_samples"] += 1
    counts[f"confidence_{_tenth(sample.confidence)}_samples"] += 1
    counts[f"characters_{split}"] += len(sample.text)
    for name in ("seconds", f"part_{split}_seconds", f"language_{sample.language or 'unknown'}_seconds"):
        counts[name] += sample.duration  # type: ignore[assignment]


def link_of(row: Mapping[str, Any]) -> str | None:
    """The address of a recording's audio as other programs can open it; None: it is inside another file."""
    audio = row["audio"] or ""
    if "#" in files.name_of(audio) and ("#" in audio.rpartition("/")[2] or ".tar#" in audio):
        return None
    return audio or None


def json_line(value: Mapping[str, Any]) -> bytes:
    """A line of JSON."""
    text = json.dumps(value, ensure_ascii=False)
    return text.encode("utf-8", "replace") + b"\n"


def _tenth(confidence: float | None) -> str:
    if confidence is None:
        return "unknown"
    tenth = min(9, int(confidence * 10))
    return f"{tenth / 10:.1f}-{(tenth + 1) / 10:.1f}"
