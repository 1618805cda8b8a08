"""The Arrow schemas of everything that is stored or passed between stages: the one place where columns are named."""

from __future__ import annotations

import pyarrow as pa

PLAN = pa.schema(
    [
        ("shard_id", pa.string()),
        ("recording_id", pa.string()),
        ("audio", pa.string()),
        ("index", pa.int32()),
        ("shard_count", pa.int32()),
        ("start", pa.float64()),
        ("end", pa.float64()),  # null: to the end of the file
        ("duration", pa.float64()),  # of the recording, as its header says; null: the header does not say
        ("language", pa.string()),
        ("context", pa.string()),
        ("text", pa.string()),
        ("channel", pa.string()),
        ("etag", pa.string()),
        ("audio_bytes", pa.int64()),
        ("codec", pa.string()),
        ("container", pa.string()),
        ("sampling_rate", pa.int32()),
        ("channels", pa.int32()),
        ("metadata", pa.string()),  # JSON object
        ("attempt", pa.int32()),
    ]
)

_OUTCOME = [
    ("status", pa.string()),  # ok | partial | no_speech | error
    ("error_stage", pa.string()),
    ("error_code", pa.string()),
    ("error_message", pa.string()),
    ("flags", pa.list_(pa.string())),
    ("decoded_start", pa.float64()),
    ("decoded_end", pa.float64()),
]

WORD = pa.struct(
    [
        ("text", pa.string()),
        ("start", pa.float64()),
        ("end", pa.float64()),
        ("char_start", pa.int32()),
        ("char_end", pa.int32()),
    ]
)

_SPAN = [("start", pa.float64()), ("end", pa.float64()), ("channel", pa.int32())]
_SAMPLES = [
    ("samples", pa.large_binary())
]  # int16 little-endian mono 16 kHz; large: Arrow's 2 GiB offset limit
_HYPOTHESIS = [
    ("language", pa.string()),
    ("text", pa.string()),
    ("raw", pa.string()),
    ("confidence", pa.float64()),
    ("flags", pa.list_(pa.string())),
]
_ASR = [("asr_model", pa.string()), ("asr_revision", pa.string())]
_WORDS = [("words", pa.list_(WORD)), ("word_source", pa.string())]


def _row(
    segment: list[tuple[str, pa.DataType]], extra: list[tuple[str, pa.DataType]] | None = None
) -> pa.Schema:
    return pa.schema([*PLAN, *_OUTCOME, ("segments", pa.list_(pa.struct(segment))), *(extra or [])])


DECODED = _row(_SPAN + _SAMPLES)
RECOGNISED = _row(_SPAN + _SAMPLES + _HYPOTHESIS, _ASR)
SHARD = _row(
    _SPAN + _HYPOTHESIS + _WORDS,
    [
        *_ASR,
        ("aligner_model", pa.string()),
        ("aligner_revision", pa.string()),
        ("run_id", pa.string()),
        ("created_at", pa.timestamp("us", tz="UTC")),
    ],
)

TRANSCRIPT_SEGMENT = pa.struct(
    [
        ("start", pa.float64()),
        ("end", pa.float64()),
        ("language", pa.string()),
        ("text", pa.string()),
        ("confidence", pa.float64()),
        ("words", pa.list_(WORD)),
        ("word_source", pa.string()),  # aligner | none
        ("flags", pa.list_(pa.string())),
    ]
)

PROVENANCE = pa.struct(
    [
        ("audio_etag", pa.string()),
        ("audio_bytes", pa.int64()),
        ("codec", pa.string()),
        ("sampling_rate", pa.int32()),
        ("channels", pa.int32()),
        ("asr_model", pa.string()),
        ("asr_revision", pa.string()),
        ("aligner_model", pa.string()),
        ("aligner_revision", pa.string()),
        ("config_hash", pa.string()),
        ("version", pa.string()),
        ("run_id", pa.string()),
        ("created_at", pa.timestamp("us", tz="UTC")),
    ]
)

TRANSCRIPT = pa.schema(
    [
        ("recording_id", pa.string()),
        ("audio", pa.string()),
        ("duration", pa.float64()),
        ("language", pa.string()),
        ("languages", pa.list_(pa.struct([("language", pa.string()), ("duration", pa.float64())]))),
        ("text", pa.string()),
        ("segments", pa.list_(TRANSCRIPT_SEGMENT)),
        ("status", pa.string()),  # ok | partial | no_speech
        ("flags", pa.list_(pa.string())),
        ("metadata", pa.string()),  # JSON object: the manifest's other columns
        ("provenance", PROVENANCE),
    ]
)

DEAD_LETTER = pa.schema(
    [
        ("recording_id", pa.string()),
        ("audio", pa.string()),
        ("error_stage", pa.string()),
        ("error_code", pa.string()),
        ("error_message", pa.string()),
        ("attempts", pa.int32()),
        ("duration", pa.float64()),
        ("metadata", pa.string()),
        ("provenance", PROVENANCE),
    ]
)
