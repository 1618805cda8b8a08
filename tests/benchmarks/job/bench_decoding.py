"""The decode stage, part by part: start of its processes, headers, decoding, cutting, and the way to a table.

Core-seconds of the process that does each, six formats, recordings of ten minutes in two shards, and clips.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa

from actors.audio.containers import open_container
from actors.audio.decoding import decode_span
from actors.audio.frames import DecodeLosses, frames_of, join_frames, take_frames
from actors.audio.probing import probe_in_child
from actors.audio.recordings.chained_reader import open_recording
from actors.audio.sources import open_audio
from actors.config import AudioConfig, SegmenterConfig
from actors.decoder import Decoder, decode_shard
from actors.process.isolation import Child
from actors.records import Row as Shard
from pipelines.execution.arrow_rows import decoded_table
from pipelines.schema import PLAN
from pipelines.storage import parquet_cells
from tests.benchmarks.workloads import archive
from tests.benchmarks.workloads.rows import Row

LIMIT_SECONDS = 540
EXPECTED_MINUTES = 1
# Seconds of the long file and clips of each format, seconds of a shard, runs of which the cheapest counts.
LONG_SECONDS, CLIPS, SHARD, RUNS = 600, 20, 300, 2
ENERGY, HYBRID = SegmenterConfig(backend="energy"), SegmenterConfig()
IMPORTS = (parquet_cells.__name__,)
AUDIO = AudioConfig()


def measure(full: bool) -> Iterator[Row]:
    """Each part on its own; the parts of a kind of recording add up to what the decode stage costs."""
    with tempfile.TemporaryDirectory() as folder:
        files = archive.build(Path(folder), LONG_SECONDS, CLIPS)
        long = [file for file in files if file.seconds >= LONG_SECONDS]
        clips = [file for file in files if file.seconds < LONG_SECONDS]
        yield from _starts(clips[0])
        hours = archive.hours(long)
        for name, seconds, note in _parts(long, _shards(long), RUNS):
            yield Row(f"long, {name}", seconds / hours, "core-s/h", note=note)
        for name, seconds, note in _parts(clips, _shards(clips), RUNS):
            yield Row(f"clips, {name}", 1000 * seconds / len(clips), "core-ms/clip", note=note)


def _starts(clip: archive.File) -> Iterator[Row]:
    headers, decoding = [], []
    for _ in range(RUNS):
        child = Child(AUDIO.max_memory, threaded=True, imports=IMPORTS)
        probe_in_child(child, [str(clip.path)], 16, 60)
        headers.append(_spent(child))
        child.close()
        decoder = Decoder(AUDIO, ENERGY, IMPORTS)
        decoder(_shards([clip]))
        decoding.append(_spent(decoder._child))
        decoder.close()
    yield Row("start of a process that reads headers, first answer", min(headers), "core-s")
    yield Row("start of a process that decodes, first answer", min(decoding), "core-s")


def _parts(files: list[archive.File], shards: list[Shard], runs: int) -> Iterator[tuple[str, float, str]]:
    """Name, core-seconds and note of each part."""
    paths = [str(file.path) for file in files]
    child = Child(AUDIO.max_memory, threaded=True, imports=IMPORTS)
    probe_in_child(child, paths, 16, 60)
    yield "headers", _best(runs, lambda: probe_in_child(child, paths, 16, 60), child), "in their process"
    child.close()
    yield "PyAV and libswresample to one array", _best(runs, lambda: _each(_peer, paths)), "for comparison"
    packets = _best(runs, lambda: _each(_packets, paths))
    yield "packets to frames", packets, "container and codec, in this process"
    samples = _best(runs, lambda: _each(_samples, paths))
    yield "frames to int16 at 16 kHz", samples - packets, "mixing, resampling, levels"
    cut = _best(runs, lambda: _each(_energy, shards))
    yield "borders and segments", cut - samples, "with segmenter.backend=energy"
    judged = _best(runs, lambda: _each(_hybrid, shards))
    yield "noise and music", judged - cut, "what segmenter.backend=hybrid adds, with the extra `vad`"
    decoder = Decoder(AUDIO, ENERGY, IMPORTS)
    decoder(shards[:6])
    began = time.process_time()
    isolated = _best(runs, lambda: _each(_ask(decoder), shards), decoder._child)
    yield "the process that decodes, in all", isolated, f"energy; in this process {cut:.3f} core-s"
    yield "its answers, in the process that asks", (time.process_time() - began) / runs, ""
    rows, plan = decoder(shards), pa.Table.from_pylist(shards, schema=PLAN)
    decoder.close()
    yield "rows to a table", _best(runs, lambda: decoded_table(rows, plan)), ""


def _shards(files: list[archive.File]) -> list[Shard]:
    rows = []
    for file in files:
        count = max(1, math.ceil(file.seconds / SHARD))
        for index in range(count):
            span = {
                "start": float(index * SHARD),
                "end": None if index == count - 1 else (index + 1.0) * SHARD,
            }
            facts = {"duration": file.seconds, "index": index, "shard_count": count, "attempt": 1}
            row = {**dict.fromkeys(PLAN.names), "audio": str(file.path), "recording_id": file.path.name}
            rows.append({**row, **span, **facts, "shard_id": f"{file.path.name}-{index}"})
    return rows


def _spent(child: Child) -> float:
    """Core-seconds of all threads of a child so far, those that have ended, too."""
    fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _best(runs: int, work: Callable[[], object], child: Child | None = None) -> float:
    """Core-seconds of this process, or of a child, for the cheapest of some runs."""
    found = []
    for _ in range(runs):
        began = _spent(child) if child else time.process_time()
        work()
        found.append((_spent(child) if child else time.process_time()) - began)
    return min(found)


def _each(work: Callable[[Any], object], items: Sequence[Any]) -> None:
    for item in items:
        work(item)


def _ask(decoder: Decoder) -> Callable[[Shard], object]:
    return lambda shard: decoder([shard])


def _peer(path: str) -> None:
    resampler, parts = av.AudioResampler("s16", "mono", 16_000), []
    with av.open(path) as container:
        for frame in container.decode(audio=0):
            parts += [piece.to_ndarray()[0] for piece in resampler.resample(frame)]
    np.concatenate(parts)


def _packets(path: str) -> None:
    with open_audio(path) as file, open_container(file) as opened:
        frames = frames_of(opened, opened.sampling_rate, DecodeLosses(), True)
        while taken := take_frames(frames, opened.sampling_rate):
            join_frames(taken)


def _samples(path: str) -> None:
    with open_audio(path) as file:
        decode_span(open_recording(file), 0, None)


def _energy(shard: Shard) -> None:
    decode_shard(shard, AUDIO, ENERGY)


def _hybrid(shard: Shard) -> None:
    decode_shard(shard, AUDIO, HYBRID)
