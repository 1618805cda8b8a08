"""Headers for raw samples that the manifest describes (`format`, `sampling_rate`, `channels`)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from actors.audio.formats.raw_pcm import frame_bytes
from actors.audio.sources import etag_of
from actors.errors import ScriptoriumError
from pipelines.planning.header_scan import HEADER


def with_raw_samples(
    facts: pa.Table, uris: pa.ChunkedArray, formats: pa.ChunkedArray, concurrency: int
) -> pa.Table:
    """Fill in what the sizes of files say that were not recognised and that the manifest describes.

    Args:
        facts: HEADER columns.
        uris: of the files.
        formats: `raw_format` of the manifest's rows; null for files with a header.
        concurrency: files that are looked at at a time.
    """
    is_raw = pc.and_(pc.is_valid(formats), pc.fill_null(pc.equal(facts["probe_error"], "not_audio"), False))
    numbers = np.flatnonzero(is_raw.to_numpy())
    if not len(numbers):
        return facts
    rows = facts.to_pylist()
    with ThreadPoolExecutor(concurrency) as pool:
        for number, found in zip(
            numbers,
            pool.map(_facts, uris.take(numbers).to_pylist(), formats.take(numbers).to_pylist()),
            strict=True,
        ):
            rows[number] = found or rows[number]
    return pa.Table.from_pylist(rows, schema=HEADER)


def _facts(uri: str, raw_format: str) -> dict[str, object] | None:
    """HEADER columns of one file; None where decoding finds out what is wrong with it."""
    try:
        etag, size = etag_of(uri)
    except ScriptoriumError:
        return None
    encoding, rate, channels = raw_format.split(":")
    frames = (size or 0) // frame_bytes(raw_format)
    if not frames:
        return None
    return {
        "duration": frames / int(rate),
        "etag": etag,
        "audio_bytes": size,
        "codec": f"pcm_{encoding}",
        "container": "raw",
        "sampling_rate": int(rate),
        "channels": int(channels),
        "probe_error": None,
    }
