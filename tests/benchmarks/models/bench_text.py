"""Text: timestamp repair against the reference's method, parsing of model output, stitching, Parquet; CPU per
audio hour on one core.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from actors.text.alignment_units import locate_units
from actors.text.parsing import parse_output
from actors.text.timestamp_repair import repair
from pipelines.output import shards, transcripts
from pipelines.schema import SHARD
from pipelines.stitching import stitch
from tests.benchmarks.workloads.rows import Row

EXPECTED_MINUTES = 0.2
RUNS = 7
# Words of a segment of 180 s of dense speech.
WORDS = 900
# Words at 2.5 per second.
WORDS_PER_HOUR = 9_000
# Seconds.
SEGMENT = 30.0
# Ten hours.
SHARD_SECONDS, SHARDS = 600.0, 60


def measure(full: bool) -> Iterator[Row]:
    """Medians of several runs in this process."""
    stamps = stamped(WORDS)
    fast, mended = timed(lambda: repair(stamps), 3 * RUNS)
    slow, expected = timed(lambda: plain_repair(stamps), RUNS)
    answer = "same answer" if mended == expected else "ANOTHER ANSWER"
    moved = sum(a != b for a, b in zip(stamps, mended, strict=True))
    yield Row(
        f"timestamp repair, {WORDS} words",
        1e3 * fast,
        "ms",
        note=f"{moved} of {2 * WORDS} stamps mended, {answer}",
    )
    yield Row(
        f"timestamp repair, {WORDS} words, as the reference does it",
        1e3 * slow,
        "ms",
        note="own re-implementation of its n^2 steps",
    )
    yield Row(
        "timestamp repair: times the reference",
        slow / fast if mended == expected else 0.0,
        "x",
        ">= 100",
        answer,
    )
    hour = stamped(WORDS_PER_HOUR)
    per_segment = 2 * int(WORDS_PER_HOUR * SEGMENT / 3600)
    pieces = [hour[start : start + per_segment] for start in range(0, len(hour), per_segment)]
    yield Row(
        "timestamp repair",
        1e3 * timed(lambda: [repair(piece) for piece in pieces], RUNS)[0],
        "CPU-ms/h",
        note="segments of 30 s",
    )

    text = spoken(WORDS_PER_HOUR)
    count = int(3600 / SEGMENT)
    words = text.split(" ")
    texts = [
        " ".join(words[place : place + len(words) // count])
        for place in range(0, len(words), len(words) // count)
    ]
    raws = [f"language English<asr_text>{one}" for one in texts]
    yield Row(
        "parsing of model output",
        1e3 * timed(lambda: [parse_output(raw) for raw in raws], RUNS)[0],
        "CPU-ms/h",
    )
    yield Row(
        "cutting text into aligner units",
        1e3 * timed(lambda: [locate_units(one, "English") for one in texts], RUNS)[0],
        "CPU-ms/h",
    )

    rows = [shard(number, texts) for number in range(SHARDS)]
    hours = SHARDS * SHARD_SECONDS / 3600
    table = pa.Table.from_pylist(rows, schema=SHARD)
    yield Row(
        "rows to Arrow",
        1e3 * timed(lambda: pa.Table.from_pylist(rows, schema=SHARD), RUNS)[0] / hours,
        "CPU-ms/h",
        note="with words",
    )
    yield Row("rows from Arrow", 1e3 * timed(table.to_pylist, RUNS)[0] / hours, "CPU-ms/h", note="with words")
    stitched = timed(lambda: stitch(rows, config_hash="", version=""), RUNS)[0]
    yield Row(
        "stitching, in memory",
        1e3 * stitched / hours,
        "CPU-ms/h",
        note=f"{SHARDS} shards of one recording of {hours:g} h",
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shards.parquet"
        took = timed(lambda: pq.write_table(table, path, compression="zstd"), RUNS)[0]
        yield Row(
            "Parquet writing, shards",
            1e3 * took / hours,
            "CPU-ms/h",
            note=f"{path.stat().st_size / hours / 1e3:.0f} kB/h",
        )
        out = str(Path(folder) / "out")
        shards.append(out, rows, "task")
        batch = transcripts.unstitched(out, 100)[0]

        def written() -> None:
            for old in Path(out, "transcripts").glob("*"):
                old.unlink()
            transcripts.stitch_batch(out, batch, "", "", "run", "zstd")

        took = timed(written, RUNS)[0]
        yield Row("second pass: shards read, stitched, transcripts written", 1e3 * took / hours, "CPU-ms/h")


def timed(action: Callable[[], Any], runs: int) -> tuple[float, Any]:
    """Median CPU seconds, and the action's result."""
    seconds, answer = [], None
    for _ in range(runs):
        began = time.process_time()
        answer = action()
        seconds.append(time.process_time() - began)
    return median(seconds), answer


def stamped(words: int) -> list[int]:
    """Starts and ends in milliseconds on the aligner's grid of 80, one in fifty at a random place."""
    rng = np.random.default_rng(0)
    stamps = np.sort(rng.integers(0, 180_000 * words // WORDS, 2 * words)) // 80 * 80
    wrong = rng.random(2 * words) < 0.02
    stamps[wrong] = rng.integers(0, 180_000 * words // WORDS, int(wrong.sum())) // 80 * 80
    return [int(stamp) for stamp in stamps]


def plain_repair(times: list[int]) -> list[int]:
    """The reference's `fix_timestamp`, step by step: n^2 comparisons for the chain, and a search from every
    wrong stamp.
    """
    n = len(times)
    length, parent = [1] * n, [-1] * n
    for i in range(1, n):
        for j in range(i):
            if times[j] <= times[i] and length[j] + 1 > length[i]:
                length[i], parent[i] = length[j] + 1, j
    i = length.index(max(length))
    good = [False] * n
    while i != -1:
        good[i] = True
        i = parent[i]
    result = list(times)
    i = 0
    while i < n:
        if good[i]:
            i += 1
            continue
        j = i
        while j < n and not good[j]:
            j += 1
        left, right = (times[i - 1] if i else None), (times[j] if j < n else None)
        for k in range(i, j):
            if left is None or right is None:
                result[k] = right if left is None else left  # type: ignore[assignment]
            elif j - i <= 2:
                result[k] = left if k - (i - 1) <= j - k else right
            else:
                result[k] = int(left + (right - left) / (j - i + 1) * (k - i + 1))
        i = j
    return result


def spoken(words: int) -> str:
    """English-like sentences."""
    rng = np.random.default_rng(0)
    vocabulary = ["".join(rng.choice(list("etaoinshrdlucmfwyp"), rng.integers(2, 10))) for _ in range(3000)]
    said = [vocabulary[int(k)] for k in rng.zipf(1.3, words) % len(vocabulary)]
    return " ".join(word + "." if number % 12 == 11 else word for number, word in enumerate(said))


def shard(number: int, texts: list[str]) -> dict[str, Any]:
    """A finished shard of a long recording, with words."""
    start = number * SHARD_SECONDS
    segments = []
    for place in range(int(SHARD_SECONDS / SEGMENT)):
        text = texts[(number + place) % len(texts)]
        begin = start + place * SEGMENT
        units = locate_units(text, "English")
        step = SEGMENT / max(1, len(units))
        words = [
            {
                "text": text[unit.char_start : unit.char_end],
                "start": round(begin + i * step, 3),
                "end": round(begin + (i + 1) * step, 3),
                "char_start": unit.char_start,
                "char_end": unit.char_end,
            }
            for i, unit in enumerate(units)
        ]
        segment = {
            "start": begin,
            "end": begin + SEGMENT,
            "language": "en",
            "text": text,
            "raw": f"language English<asr_text>{text}",
        }
        segments.append(
            {
                **segment,
                "confidence": 0.9,
                "words": words,
                "word_source": "aligner",
                "flags": [],
                "channel": None,
            }
        )
    last = number == SHARDS - 1
    return {
        "shard_id": f"{number:024x}",
        "recording_id": "recording",
        "audio": "recording.mp3",
        "index": number,
        "shard_count": SHARDS,
        "start": start,
        "end": None if last else start + SHARD_SECONDS,
        "decoded_start": start,
        "decoded_end": start + SHARD_SECONDS,
        "duration": SHARDS * SHARD_SECONDS,
        "status": "ok",
        "attempt": 1,
        "flags": [],
        "segments": segments,
        "metadata": json.dumps({}),
        "run_id": "run",
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
    }
