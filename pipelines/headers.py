"""The headers of many recordings, read a few at a time: what planning knows about audio before anybody decodes it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pyarrow as pa

from actors.errors import as_row_error
from actors.results import Probe
from pipelines.schema import PLAN

FACTS = ("duration", "etag", "audio_bytes", "codec", "container", "sampling_rate", "channels")
# All null where a header was not read; `probe_error`: the code of what is wrong, where it could not be read.
HEADER = pa.schema([*(PLAN.field(name) for name in FACTS), pa.field("probe_error", pa.string())])

SCAN_BYTES = 1 << 20  # a file below this fits into one shard: not worth reading all of it to learn its length
MIN_BYTE_RATE = 8  # bytes per second: no codec says a second of sound in less, so a longer duration is a lie
LONGEST = 3600 * 24 * 60  # seconds: without a size to hold it against, a claim of more than two months is a lie too
CHUNK = 20_000  # rows turned into Arrow at once

ProbeFunction = Callable[..., Probe]
Progress = Callable[[int, int], None]  # headers read, headers to read


def read_headers(
    addresses: pa.ChunkedArray, wanted: np.ndarray, concurrency: int, probe: ProbeFunction | None = None, progress: Progress | None = None
) -> pa.Table:
    """HEADER columns, one row an address. A file that cannot be read is a row with its error code, not an exception.

    Args:
        addresses: of audio files.
        wanted: whether to read this one, bool, shape (addresses,); the others' rows are null.
        concurrency: headers read at the same time.
        probe: reads one header; by default `actors.probing.probe`.
        progress: called every hundred headers and after the last.
    """
    total, done = int(wanted.sum()), 0
    answers = _probe_all(addresses.filter(pa.array(wanted)), concurrency, probe) if total else iter(())
    tables = [HEADER.empty_table()]
    for first in range(0, len(wanted), CHUNK):
        rows: list[tuple[object, ...]] = []
        for asked in wanted[first : first + CHUNK].tolist():
            rows.append(next(answers) if asked else _UNREAD)
            done += asked
            if progress and asked and (done % 100 == 0 or done == total):
                progress(done, total)
        columns = [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), HEADER, strict=True)]
        tables.append(pa.table(columns, schema=HEADER))
    return pa.concat_tables(tables)


def plausible(duration: float | None, size_bytes: int | None) -> float | None:
    """The duration that a header claims, or None where it cannot be true: not a number, or longer than the file has bytes for."""
    if duration is None or not 0 < duration < math.inf:
        return None
    longest = LONGEST if size_bytes is None else size_bytes / MIN_BYTE_RATE
    return duration if duration <= longest else None


_UNREAD: tuple[object, ...] = (None,) * len(HEADER)


def _probe_all(addresses: pa.ChunkedArray, concurrency: int, probe: ProbeFunction | None) -> Iterator[tuple[object, ...]]:
    """HEADER rows in the order of the addresses, with a bounded number of requests under way."""
    if probe is None:
        from actors import probing

        probe = probing.probe
    waiting: deque[Future[tuple[object, ...]]] = deque()
    with ThreadPoolExecutor(concurrency) as pool:
        for address in addresses:
            waiting.append(pool.submit(_probe_one, probe, address.as_py()))
            # Some files answer late: the others may run ahead, but not so far that a million answers wait in memory.
            if len(waiting) >= 8 * concurrency:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _probe_one(probe: ProbeFunction, address: str) -> tuple[object, ...]:
    try:
        found = probe(address)
        if found.duration is None and found.size_bytes > SCAN_BYTES:
            found = probe(address, scan=True)
    except Exception as error:
        return (*_UNREAD[:-1], as_row_error(error)[0])
    duration = plausible(found.duration, found.size_bytes)
    return duration, found.etag, found.size_bytes, found.codec, found.container, found.sampling_rate, found.channels, None
