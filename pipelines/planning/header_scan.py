"""The headers of many recordings: what planning knows about audio before it is decoded.

A header can crash or hang the library that reads it, just as audio can. So headers are read in child
processes, many at a time. If a child crashes, its files are read again one by one, so that a bad file affects
only itself.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import os
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pyarrow as pa

from actors.audio.probing import Answer, probe_in_child, probe_many, worth_counting
from actors.config import AudioConfig
from actors.errors import UsageError, as_row_error
from actors.process.child_pool import ChildPool
from actors.process.isolation import Child
from actors.records import Probe
from pipelines.config_sections import PlanConfig
from pipelines.schema import PLAN
from pipelines.storage import parquet_cells

FACTS = ("duration", "etag", "audio_bytes", "codec", "container", "sampling_rate", "channels")
# All columns are null if a header was not read. `probe_error` is the error code if it could not be read.
HEADER = pa.schema([*(PLAN.field(name) for name in FACTS), pa.field("probe_error", pa.string())])

# Bytes per second. No codec needs less for sound, so a longer duration is wrong, unless it was counted.
MIN_BYTE_RATE = 8
# Seconds. If the size of the file is unknown, a claim of more than two months is wrong too.
LONGEST = 3600 * 24 * 60
CHUNK = 20_000  # rows converted to Arrow at once
# Headers for which one more child process is started.
HEADERS_EACH = 1024
# Files that a child process reads in one call. If it crashes, they are read again one by one.
PART = 128

ProbeFunction = Callable[..., Probe]
Progress = Callable[[int, int], None]  # headers read, headers to read


def read_headers(
    addresses: pa.ChunkedArray,
    wanted: np.ndarray,
    plan: PlanConfig,
    audio: AudioConfig,
    probe: ProbeFunction | None = None,
    progress: Progress | None = None,
) -> pa.Table:
    """Read headers. A file that cannot be read becomes a row with its error code, not an exception.

    Args:
        addresses: of audio files.
        wanted: which of them to read, bool, shape (addresses,); the rows of the others are null.
        plan: the concurrency, and the time limit of a header.
        audio: whether to use child processes, and their memory limit.
        probe: reads one header, in this process; by default `actors.audio.probing.probe_many` reads them.
        progress: called after every 100 headers and after the last.

    Returns:
        HEADER columns, one row per address.
    """
    total, done = int(wanted.sum()), 0
    left = (address.as_py() for address in addresses.filter(pa.array(wanted)))
    answers = (
        _probe_all(left, plan.probe_concurrency, probe)
        if probe
        else _probe_isolated(left, total, plan, audio)
    )
    tables = [HEADER.empty_table()]
    with contextlib.closing(answers):
        for first in range(0, len(wanted), CHUNK):
            rows: list[tuple[object, ...]] = []
            for is_wanted in wanted[first : first + CHUNK].tolist():
                rows.append(next(answers) if is_wanted else _UNREAD)
                done += is_wanted
                if progress and is_wanted and (done % 100 == 0 or done == total):
                    progress(done, total)
            columns = [
                pa.array(column, field.type)
                for column, field in zip(zip(*rows, strict=True), HEADER, strict=True)
            ]
            tables.append(pa.table(columns, schema=HEADER))
    return pa.concat_tables(tables)


def plausible(duration: float | None, size_bytes: int | None, counted: bool = False) -> float | None:
    """The duration that a header claims; None if it is not a positive number or too long for the file's size.

    Args:
        duration: seconds.
        size_bytes: of the file, if known.
        counted: the duration was counted and is not a claim: silence can take very few bytes.
    """
    if duration is None or not 0 < duration < math.inf:
        return None
    longest = LONGEST if size_bytes is None or counted else min(LONGEST, size_bytes / MIN_BYTE_RATE)
    return duration if duration <= longest else None


_UNREAD: tuple[object, ...] = (None,) * len(HEADER)


def _probe_isolated(
    addresses: Iterator[str], total: int, plan: PlanConfig, audio: AudioConfig
) -> Generator[tuple[object, ...], None, None]:
    """HEADER rows in the order of the addresses, from child processes."""
    if not audio.isolate:
        yield from itertools.chain.from_iterable(
            map(_row, probe_many(part, plan.probe_concurrency, None)) for part in _parts(addresses)
        )
        return
    _require_temporary_folder()
    # Python's lock limits what one process can read; its start costs as much as several hundred headers.
    processes = max(1, min(4, os.cpu_count() or 1, plan.probe_concurrency, -(-total // HEADERS_EACH)))
    concurrency = -(-plan.probe_concurrency // processes)

    def read(part: list[str], child: Child) -> list[tuple[object, ...]]:
        return [_row(answer) for answer in probe_in_child(child, part, concurrency, plan.probe_timeout)]

    pool = ChildPool(
        [Child(audio.max_memory, threaded=True, imports=(parquet_cells.__name__,)) for _ in range(processes)]
    )
    waiting: deque[Future[list[tuple[object, ...]]]] = deque()
    try:
        for part in _parts(addresses):
            waiting.append(pool.submit(functools.partial(read, part)))
            if len(waiting) > 2 * processes:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.close()


def _require_temporary_folder() -> None:
    """Say at once that the child processes could not start.

    Raises:
        UsageError: there is none.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        raise UsageError(
            "no temporary folder can be written: set TMPDIR to one. Where the size of files is limited, "
            "`ulimit -f unlimited` removes the limit"
        ) from None


def _row(answer: Answer) -> tuple[object, ...]:
    if isinstance(answer, str):
        return (*_UNREAD[:-1], "decode_timeout")
    if isinstance(answer, tuple):
        return (*_UNREAD[:-1], answer[0])
    duration = plausible(answer.duration, answer.size_bytes, "duration_scanned" in answer.flags)
    return (
        duration,
        answer.etag,
        answer.size_bytes,
        answer.codec,
        answer.container,
        answer.sampling_rate,
        answer.channels,
        None,
    )


def _parts(addresses: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(addresses)
    while part := list(itertools.islice(rest, PART)):
        yield part


def _probe_all(
    addresses: Iterator[str], concurrency: int, probe: ProbeFunction
) -> Generator[tuple[object, ...], None, None]:
    """HEADER rows in the order of the addresses, with a bounded number of concurrent requests."""
    waiting: deque[Future[tuple[object, ...]]] = deque()
    with ThreadPoolExecutor(concurrency) as pool:
        for address in addresses:
            waiting.append(pool.submit(_probe_one, probe, address))
            # Some files answer late: the others may run ahead, but not so far that a million answers wait in
            # memory.
            if len(waiting) >= 8 * concurrency:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _probe_one(probe: ProbeFunction, address: str) -> tuple[object, ...]:
    try:
        found = probe(address)
        return _row(probe(address, scan=True) if worth_counting(found) else found)
    except Exception as error:
        return _row(as_row_error(error))
