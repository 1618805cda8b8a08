"""Samples of a shard with their audio, cut in a child process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from actors.audio.clips import encode_clips
from actors.config import AudioConfig
from actors.errors import RetryableError, RowError
from actors.process.isolation import Child
from actors.records import Row
from pipelines.export.datasets.plan import Shard
from pipelines.export.datasets.samples import Sample, SampleOptions, samples_of
from pipelines.output.transcript_filters import Filters
from pipelines.output.transcript_reader import audio_sources, iter_transcripts

# Seconds of audio that one call of the child cuts.
_SECONDS_PER_CALL = 900.0
# Recordings whose sources are looked up at once.
_LOOKUP = 200


def shard_rows(shard: Shard, filters: Filters) -> Iterator[Row]:
    """The transcripts of a shard, in order."""
    for part, ordinals in shard.rows:
        wanted = frozenset(ordinals)
        for ordinal, row in enumerate(iter_transcripts([part], filters)):
            if ordinal in wanted:
                yield row


def shard_samples(
    shard: Shard, filters: Filters, options: SampleOptions
) -> Iterator[tuple[Row, list[Sample]]]:
    """The transcripts of a shard with their samples."""
    for row in shard_rows(shard, filters):
        yield row, list(samples_of(row, options))


def cut_samples(
    out: str,
    rows: Iterator[tuple[Row, list[Sample]]],
    skipped: Counter[str],
) -> Iterator[tuple[Row, Sample, bytes, int]]:
    """Samples with their audio.

    Args:
        out: the output directory of the run, whose plan knows where the audio is.
        rows: from `shard_samples`.
        skipped: counts samples without audio, by reason.

    Yields:
        The transcript, the sample, a FLAC file, and its number of samples at 16 kHz.
    """
    audio = AudioConfig()
    child = Child(audio.max_memory)
    try:
        for batch in _batched(rows, _LOOKUP):
            sources = audio_sources(out, [row["recording_id"] for row, _ in batch])
            for row, samples in batch:
                source = sources.get(row["recording_id"]) or {"audio": row["audio"]}
                for group in _calls(samples):
                    clips = [sample.clip for sample in group]
                    try:
                        found = child.call(
                            f"{encode_clips.__module__}:{encode_clips.__name__}",
                            source,
                            clips,
                            audio.retries,
                            timeout=audio.timeout,
                        )
                    except (RowError, RetryableError):
                        skipped["audio_unreadable"] += len(group)
                        continue
                    for sample, (data, count) in zip(group, found, strict=True):
                        if count:
                            yield row, sample, data, count
                        else:
                            skipped["audio_unreadable"] += 1
    finally:
        child.close()


def _calls(samples: Sequence[Sample]) -> Iterator[list[Sample]]:
    group: list[Sample] = []
    seconds = 0.0
    for sample in sorted(samples, key=lambda sample: sample.start):
        if group and seconds + sample.duration > _SECONDS_PER_CALL:
            yield group
            group, seconds = [], 0.0
        group.append(sample)
        seconds += sample.duration
    if group:
        yield group


def _batched(rows: Iterator[tuple[Row, list[Sample]]], size: int) -> Iterator[list[tuple[Row, list[Sample]]]]:
    batch: list[tuple[Row, list[Sample]]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
