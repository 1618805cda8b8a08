"""Rows of shards for the tests of stitching."""

from datetime import UTC, datetime

import pyarrow as pa

from pipelines.schema import DEAD_LETTER, TRANSCRIPT
from pipelines.stitching import stitch


def word(text, start, end, char_start=0, char_end=None):
    return {
        "text": text,
        "start": start,
        "end": end,
        "char_start": char_start,
        "char_end": char_start + len(text) if char_end is None else char_end,
    }


def segment(start, end, text, language="en", channel=None, words=(), flags=()):
    return {
        "start": start,
        "end": end,
        "channel": channel,
        "language": language,
        "text": text,
        "raw": text,
        "confidence": 0.9,
        "flags": list(flags),
        "words": list(words),
        "word_source": "aligner" if words else "none",
    }


def shard(index=0, start=0.0, end=None, segments=(), status="ok", decoded=None, **columns):
    failed = status == "error"
    row = {
        "shard_id": f"r-{index}",
        "recording_id": "r",
        "audio": "r.wav",
        "index": index,
        "shard_count": 1,
        "start": start,
        "end": end,
        "duration": None,
        "metadata": '{"speaker": "a"}',
        "etag": "e",
        "audio_bytes": 10,
        "codec": "pcm_s16le",
        "sampling_rate": 8000,
        "channels": 2,
        "attempt": 1,
        "status": status,
        "error_stage": "decode" if failed else None,
        "error_code": "corrupt_audio" if failed else None,
        "error_message": "bad" if failed else None,
        "flags": [],
        "decoded_start": None if failed else start,
        "decoded_end": None if failed else (decoded if decoded is not None else end),
        "segments": list(segments),
        "asr_model": None if failed else "asr",
        "asr_revision": None if failed else "1",
        "aligner_model": None,
        "aligner_revision": None,
        "run_id": "run",
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
    }
    return row | columns


def stitched(*rows):
    row = stitch(list(rows), config_hash="h", version="v")
    schema = DEAD_LETTER if "error_code" in row else TRANSCRIPT
    assert set(row) == set(schema.names)
    assert pa.Table.from_pylist([row], schema=schema).num_rows == 1
    return row
