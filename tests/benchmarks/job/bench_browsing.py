"""Searches of `scriptorium browse`, and the time that its index takes to build.

    python -m tests.benchmarks browsing           100,000 segments
    python -m tests.benchmarks browsing --full    1,000,000 segments: three minutes

The transcripts are made: words of a vocabulary of 50,000 and Chinese characters, both as frequent as in
natural text (Zipf), two languages, speakers and flags. For each query the first page of hits is asked for
`RUNS` times, each time with a new connection: the median and, in the note, the slowest.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.browsing import index
from pipelines.browsing.library import Library
from pipelines.browsing.searching import Search
from pipelines.schema import TRANSCRIPT
from tests.benchmarks.workloads.rows import Row

# Seconds for a million segments on two busy cores.
LIMIT_SECONDS = 900
EXPECTED_MINUTES = 0.2
RUNS = 15
PER_RECORDING, PER_FILE = 50, 1000
VOCABULARY, CHARACTERS = 50_000, 3_000
SEARCHES = {
    "the most frequent word": Search("w0 "),
    "a word in 1 of 1,000 segments": Search("w1500 "),
    "a rare word": Search("w40000 "),
    "a word that is being typed": Search("w15"),
    "two frequent words": Search("w0 w1 "),
    "a phrase": Search('"w0 w1"'),
    "a frequent word without another": Search("w0 -w1 "),
    "one Chinese character": Search("一"),
    "two Chinese characters": Search("一丁"),
    "a rare Chinese character": Search(chr(0x4E00 + 2900)),
    "a frequent word, language, flag": Search("w0 ", languages=["en"], flags=["clipped"]),
    "a frequent word, low confidence": Search("w0 ", below=0.3),
    "a speaker and a frequent word": Search("w0 ", speakers=["Speaker 7"]),
    "a flag": Search(flags=["clipped"]),
    "nothing: all recordings": Search(),
    "no hit": Search("nosuchword "),
}


def ranks(generator: np.random.Generator, size: int, count: int) -> np.ndarray:
    """Numbers from 0 below `size`, the small ones more frequent (Zipf)."""
    return (size ** generator.random(count)).astype(np.int64) - 1


def made_rows(first: int, count: int) -> list[dict[str, Any]]:
    """TRANSCRIPT rows of recordings with segments, without words."""
    generator = np.random.default_rng(first)
    rows = []
    for number in range(first, first + count):
        is_chinese = number % 5 == 0
        segments = []
        for place in range(PER_RECORDING):
            if is_chinese:
                text = "".join(chr(0x4E00 + rank) for rank in ranks(generator, CHARACTERS, 25))
            else:
                text = " ".join(f"w{rank}" for rank in ranks(generator, VOCABULARY, 14))
            segments.append(
                {
                    "start": 10.0 * place,
                    "end": 10.0 * place + 9,
                    "language": "zh" if is_chinese else "en",
                    "text": text,
                    "confidence": float(generator.beta(8, 1)),
                    "words": [],
                    "word_source": "none",
                    "flags": ["low_confidence"] if place == 7 else [],
                    "speaker": f"Speaker {(number + place) % 40}",
                }
            )
        rows.append(
            {
                "recording_id": f"archive/{number:07}.wav",
                "audio": f"/archive/{number:07}.wav",
                "duration": 10.0 * PER_RECORDING,
                "language": "zh" if is_chinese else "en",
                "segments": segments,
                "status": "ok",
                "flags": ["clipped"] if number % 20 == 0 else [],
            }
        )
    return rows


def measure(full: bool) -> Iterator[Row]:
    """See `tests.benchmarks.__main__`."""
    count = 1_000_000 if full else 100_000
    recordings = count // PER_RECORDING
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        (out / "transcripts").mkdir()
        for first in range(0, recordings, PER_FILE):
            rows = made_rows(first, min(PER_FILE, recordings - first))
            table = pa.Table.from_pylist(rows, schema=TRANSCRIPT)
            pq.write_table(table, out / "transcripts" / f"{first:07}.parquet", row_group_size=100)
        path = index.index_path(folder)
        index.create(path)
        library = Library(folder, path)
        begun = time.perf_counter()
        library.refresh()
        yield Row(f"index of {count:,} segments", time.perf_counter() - begun, "s")
        size = sum(file.stat().st_size for file in path.parent.iterdir())
        yield Row("size of the index", size / 1e6, "MB")
        yield Row("a refresh without anything new", _milliseconds(library.refresh), "ms")
        yield Row("totals and values of filters", _milliseconds(library.overview), "ms")
        for name, search in SEARCHES.items():
            found = library.search(search)
            times = [_milliseconds(lambda search=search: library.search(search)) for _ in range(RUNS)]
            hits = f"{'more than ' if found['more'] else ''}{found['count']:,} hits"
            yield Row(name, statistics.median(times), "ms", "<= 100", f"{hits}, slowest {max(times):.1f} ms")


def _milliseconds(act: Callable[[], object]) -> float:
    begun = time.perf_counter()
    act()
    return 1000 * (time.perf_counter() - begun)
