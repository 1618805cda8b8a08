"""Training sets with audio and text together: Hugging Face's Parquet, WebDataset's tars, lhotse's Shar."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections import Counter
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from actors.records import SAMPLING_RATE
from pipelines.export.datasets.clips import cut_samples, shard_samples
from pipelines.export.datasets.job import DatasetJob, json_line, tally
from pipelines.export.datasets.plan import Shard
from pipelines.export.datasets.samples import Sample, compact_json
from pipelines.storage.atomic_files import streamed_file

_WORD = pa.struct(
    [("text", pa.string()), ("start", pa.float64()), ("end", pa.float64()), ("confidence", pa.float64())]
)
HF_SCHEMA = pa.schema(
    [
        ("audio", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("text", pa.string()),
        ("id", pa.string()),
        ("recording_id", pa.string()),
        ("start", pa.float64()),
        ("end", pa.float64()),
        ("duration", pa.float64()),
        ("language", pa.string()),
        ("speaker", pa.string()),
        ("confidence", pa.float64()),
        ("flags", pa.list_(pa.string())),
        ("words", pa.list_(_WORD)),
        ("text_source", pa.string()),
        ("metadata", pa.string()),
    ]
)
# Samples of a row group: readers that stream have one in memory.
_ROW_GROUP = 100


def write_hf(job: DatasetJob, shard: Shard) -> Counter[str]:
    """One Parquet file with the features of `datasets`: `data/PART-00000.parquet`."""
    counts: Counter[str] = Counter()
    schema = HF_SCHEMA.with_metadata({"huggingface": json.dumps({"info": {"features": hf_features()}})})
    rows: list[dict[str, Any]] = []
    with (
        streamed_file(job.address("data", f"{shard.split}-{shard.number:05d}.parquet")) as file,
        pq.ParquetWriter(file, schema, compression="zstd") as writer,
    ):
        for sample, data, count in _cut(job, shard, counts):
            rows.append(_hf_row(sample, data, count))
            if len(rows) == _ROW_GROUP:
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))
                rows = []
        if rows:
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    return counts


def hf_features() -> dict[str, Any]:
    """The columns in the terms of `datasets`."""

    def feature(kind: pa.DataType) -> Any:
        if pa.types.is_list(kind):
            return {"feature": feature(kind.value_type), "_type": "List"}
        if pa.types.is_struct(kind):
            return {field.name: feature(field.type) for field in kind}
        return {"dtype": {"double": "float64"}.get(str(kind), str(kind)), "_type": "Value"}

    features = {field.name: feature(field.type) for field in HF_SCHEMA}
    return features | {"audio": {"sampling_rate": SAMPLING_RATE, "_type": "Audio"}}


def write_webdataset(job: DatasetJob, shard: Shard) -> Counter[str]:
    """One tar, `PART-000000.tar`, with `KEY.flac`, `KEY.txt` and `KEY.json` for each sample."""
    counts: Counter[str] = Counter()
    with (
        streamed_file(job.address(f"{shard.split}-{shard.number:06d}.tar")) as file,
        tarfile.open(fileobj=file, mode="w|") as archive,
    ):
        for sample, data, count in _cut(job, shard, counts):
            facts = {**sample.facts(), "text": sample.text, "duration": count / SAMPLING_RATE}
            _add(archive, f"{sample.key}.flac", data)
            _add(archive, f"{sample.key}.txt", sample.text.encode("utf-8", "replace"))
            _add(archive, f"{sample.key}.json", json_line(facts))
    return counts


def write_shar(job: DatasetJob, shard: Shard) -> Counter[str]:
    """One shard of lhotse's Shar: `PART/cuts.000000.jsonl.gz` and `PART/recording.000000.tar`.

    lhotse takes every file of the folder for a field, so the card stands above it.
    """
    counts: Counter[str] = Counter()
    name = f"{shard.number:06d}"
    with (
        streamed_file(job.address(shard.split, f"recording.{name}.tar")) as audio,
        streamed_file(job.address(shard.split, f"cuts.{name}.jsonl.gz")) as text,
        tarfile.open(fileobj=audio, mode="w|") as archive,
        # Without a time of its own, the file is the same in every export.
        gzip.GzipFile(fileobj=text, mode="wb", mtime=0, filename="") as cuts,
    ):
        for sample, data, count in _cut(job, shard, counts):
            recording = {
                "id": sample.key,
                "sources": [{"type": "shar", "channels": [0], "source": ""}],
                "sampling_rate": SAMPLING_RATE,
                "num_samples": count,
                "duration": count / SAMPLING_RATE,
                "channel_ids": [0],
            }
            _add(archive, f"{sample.key}.flac", data)
            _add(archive, f"{sample.key}.json", json_line(recording))
            cuts.write(json_line(lhotse_cut(sample, recording, 0.0, count / SAMPLING_RATE, 0)))
    return counts


def lhotse_cut(
    sample: Sample, recording: dict[str, Any], start: float, duration: float, channel: int | list[int]
) -> dict[str, Any]:
    """A cut of lhotse with one supervision, whose times and words count from the start of the cut."""
    supervision: dict[str, Any] = {
        "id": sample.key,
        "recording_id": recording["id"],
        "start": 0.0,
        "duration": duration,
        "channel": channel,
        "text": sample.text,
    }
    if sample.language:
        supervision["language"] = sample.language
    if sample.speaker:
        supervision["speaker"] = sample.speaker
    custom = {
        "confidence": sample.confidence,
        "flags": sample.flags,
        "recording_id": sample.recording_id,
        "text_source": sample.text_source,
        "metadata": sample.metadata,
        "start_in_recording": round(sample.start, 3),
    }
    supervision["custom"] = {name: value for name, value in custom.items() if value not in (None, {}, [])}
    if sample.words:
        supervision["alignment"] = {
            "word": [
                [word["text"], word["start"], round(word["end"] - word["start"], 6), word["confidence"]]
                for word in sample.words
            ]
        }
    return {
        "id": sample.key,
        "start": start,
        "duration": duration,
        "channel": channel,
        "supervisions": [supervision],
        "recording": recording,
        "type": "MonoCut" if isinstance(channel, int) else "MultiCut",
    }


def _cut(job: DatasetJob, shard: Shard, counts: Counter[str]) -> Any:
    """The samples of a shard with their audio, counted."""
    skipped: Counter[str] = Counter()
    recordings = set()
    rows = shard_samples(shard, job.filters, job.samples)
    for row, sample, data, count in cut_samples(job.out, rows, skipped):
        tally(counts, shard.split, sample, len(data))
        recordings.add(row["recording_id"])
        yield sample, data, count
    counts[f"recordings_{shard.split}"] = len(recordings)
    counts.update({f"skipped_{reason}": number for reason, number in skipped.items()})


def _hf_row(sample: Sample, data: bytes, count: int) -> dict[str, Any]:
    facts = sample.facts()
    return {
        **facts,
        "audio": {"bytes": data, "path": f"{sample.key}.flac"},
        "text": sample.text,
        "duration": count / SAMPLING_RATE,
        "metadata": compact_json(facts["metadata"]),
    }


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def copy_all(source: BinaryIO, target: BinaryIO) -> None:
    """Append one open file to another."""
    while block := source.read(1 << 20):
        target.write(block)
