"""The Arrow schemas of everything that is stored or passed between stages."""

from __future__ import annotations

import pyarrow as pa

from pipelines.flags import FLAGS as FLAGS

# Seconds of a file; `end` is null where the window goes to the end of the file.
WINDOW = pa.struct([("start", pa.float64()), ("end", pa.float64())])

PLAN = pa.schema(
    [
        ("shard_id", pa.string()),
        ("recording_id", pa.string()),
        ("audio", pa.string()),
        ("index", pa.int32()),
        ("shard_count", pa.int32()),
        ("start", pa.float64()),
        ("end", pa.float64()),  # null: to the end of the file
        # Of the recording, as its header says, or of its window; null: the header does not say.
        ("duration", pa.float64()),
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
        # The part of the file that the manifest narrows the recording to; null: the whole file.
        ("window", WINDOW),
        # Where the bytes are, if `audio` is a part of another file: see `actors.audio.files.slices`.
        ("location", pa.string()),
        # auto | each | mix | a number; null: auto.
        ("track", pa.string()),
        # ENCODING:HZ:CHANNELS of samples without a header; null: the file has a header.
        ("raw_format", pa.string()),
        # ISO codes with commas, of the languages that are expected; null: `asr.languages`.
        ("languages", pa.string()),
        # The row of an earlier pass as JSON, for the second model; null in plans and in stored rows.
        ("earlier", pa.string()),
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
    # Seconds that are in no segment; null in rows of version 0.1.0 and where decoding failed.
    ("silence", pa.float64()),
    # Seconds of audio that the repair decoded again for this row; null: none.
    ("repair_seconds", pa.float64()),
]

WORD = pa.struct(
    [
        ("text", pa.string()),
        ("start", pa.float64()),
        ("end", pa.float64()),
        ("char_start", pa.int32()),
        ("char_end", pa.int32()),
        # Probability that the word is right, 0..1; null: the model gave no token probabilities.
        ("confidence", pa.float64()),
        # S1, S2 ... in order of appearance; null: not asked for, or several people speak at once.
        ("speaker", pa.string()),
    ]
)

# What the repair of a segment tried and rejected.
CANDIDATE = pa.struct(
    [
        ("source", pa.string()),  # the step of the repair that this text comes from
        ("text", pa.string()),
        ("language", pa.string()),
        ("confidence", pa.float64()),
        ("flags", pa.list_(pa.string())),
    ]
)

# A turn as it is found in a shard: `track` is a number that a voice keeps for a while, `stretch` that of
# turns of a track with short pauses between them.
TURN = pa.struct(
    [
        ("start", pa.float64()),
        ("end", pa.float64()),
        ("channel", pa.int32()),
        ("track", pa.int32()),
        ("stretch", pa.int32()),
    ]
)
# A piece of a stretch in which nobody else speaks. `seconds` are without pauses; `embedding` is float16,
# little-endian.
VOICE = pa.struct(
    [
        ("start", pa.float64()),
        ("end", pa.float64()),
        ("seconds", pa.float64()),
        ("stretch", pa.int32()),
        ("embedding", pa.binary()),
    ]
)

# Who speaks when in a shard; null: not looked for. Embeddings of different models cannot be compared.
_TURNS = [("turns", pa.list_(TURN)), ("voices", pa.list_(VOICE)), ("speaker_model", pa.string())]

_SPAN = [("start", pa.float64()), ("end", pa.float64()), ("channel", pa.int32())]
# int16, little-endian, mono, 16 kHz. The offsets of `binary` are limited to 2 GiB, those of `large_binary`
# are not.
_SAMPLES = [("samples", pa.large_binary())]
_HYPOTHESIS = [
    ("language", pa.string()),
    ("text", pa.string()),
    ("raw", pa.string()),
    # Geometric mean of the token probabilities; null where there are none, or where they say nothing.
    ("confidence", pa.float64()),
    ("flags", pa.list_(pa.string())),
    # Of the least certain word of the text.
    ("min_confidence", pa.float64()),
    # Probability of the language tag; null where the language was forced.
    ("language_confidence", pa.float64()),
    # Texts that were tried and rejected; null: there was nothing to repair.
    ("candidates", pa.list_(CANDIDATE)),
]
_ASR = [("asr_model", pa.string()), ("asr_revision", pa.string())]
_WORDS = [("words", pa.list_(WORD)), ("word_source", pa.string())]


def _row(
    segment: list[tuple[str, pa.DataType]], extra: list[tuple[str, pa.DataType]] | None = None
) -> pa.Schema:
    columns = [("segments", pa.list_(pa.struct(segment))), *(extra or []), *_TURNS]
    return pa.schema([*PLAN, *_OUTCOME, *columns])


DECODED = _row([*_SPAN, *_SAMPLES, ("flags", pa.list_(pa.string()))])
# Where the tokens end in the text, and their log-probabilities: see `actors.confidence.token_spans`.
_TOKENS = [("token_ends", pa.list_(pa.int32())), ("token_log_probabilities", pa.list_(pa.float64()))]
# What of a given text is said; null: the text is not given. See `actors.text.given_text.spoken_text`.
_PART = [("kind", pa.string()), ("start", pa.int32()), ("end", pa.int32()), ("text", pa.string())]
_PARTS = [("parts", pa.list_(pa.struct(_PART)))]
RECOGNISED = _row(_SPAN + _SAMPLES + _HYPOTHESIS + _TOKENS + _PARTS, _ASR)
SHARD = _row(
    _SPAN + _HYPOTHESIS + _WORDS,
    [
        *_ASR,
        ("aligner_model", pa.string()),
        ("aligner_revision", pa.string()),
        # Seconds of segments that are still doubtful, and of those in `repair.languages`: for a second model.
        # Null in its own rows.
        ("doubtful_seconds", pa.float64()),
        ("language_seconds", pa.float64()),
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
        # As in the rows of shards.
        ("min_confidence", pa.float64()),
        ("language_confidence", pa.float64()),
        ("candidates", pa.list_(CANDIDATE)),
        # As in words; null also where several speakers have words in the segment.
        ("speaker", pa.string()),
    ]
)

# One speaker of a recording.
SPEAKER = pa.struct(
    [
        ("speaker", pa.string()),  # as in segments and words
        ("name", pa.string()),  # of the enrolled voice that matches; null: none does
        ("score", pa.float64()),  # similarity with the enrolled voice
        ("duration", pa.float64()),  # seconds of speech
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
        # Digest of the file that the confidences are calibrated with; null: as the model has them. Rows of
        # shards always have those.
        ("calibration", pa.string()),
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
        # Seconds that were not sent to the model: silence, and noise where the recording has the flag
        # speech_unlikely. Null in rows of version 0.1.0.
        ("silence", pa.float64()),
        ("provenance", PROVENANCE),
        ("window", WINDOW),  # null: the recording is a whole file
        # model | given (the manifest's text) | corrected (by people); null: no text, or not known (0.1.0).
        ("text_source", pa.string()),
        ("speakers", pa.list_(SPEAKER)),  # null: speakers were not asked for
    ]
)

# OUT/speakers: one row a speaker of a recording.
RECORDING_SPEAKER = pa.schema(
    [
        ("recording_id", pa.string()),
        ("speaker", pa.string()),  # as in the transcript
        ("name", pa.string()),
        ("score", pa.float64()),
        ("duration", pa.float64()),  # seconds of speech
        # What the voice sounds like: a unit vector; null where channels are speakers.
        ("centroid", pa.list_(pa.float32())),
        # Mean similarity of the speaker's windows with the centroid, 0..1; low: several people, or noise.
        ("quality", pa.float64()),
        ("turns", pa.list_(pa.struct([("start", pa.float64()), ("end", pa.float64())]))),
        ("model", pa.string()),  # null where channels are speakers
        ("run_id", pa.string()),
        ("created_at", pa.timestamp("us", tz="UTC")),
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
        ("window", WINDOW),
    ]
)

# OUT/corrections: one row a corrected segment. Rows are only ever added; the newest one of a segment counts.
CORRECTION = pa.schema(
    [
        ("recording_id", pa.string()),
        ("segment", pa.int32()),  # its number in the transcript that was corrected
        ("start", pa.float64()),  # of the segment: with `end` they say which one is meant
        ("end", pa.float64()),
        ("original", pa.string()),  # what the model said, or the given text
        ("before", pa.string()),  # the text that was corrected: `original`, or that of an earlier correction
        ("after", pa.string()),  # the right text; empty: nothing is said
        ("language", pa.string()),  # ISO code; null: that of the transcript
        ("speaker", pa.string()),  # name, or `speaker` of the transcript; null: as in the transcript
        ("words", pa.list_(WORD)),  # of `after`
        ("word_source", pa.string()),  # aligner | carried (words that stayed have their times) | none
        ("who", pa.string()),
        ("source", pa.string()),  # where it was corrected: `browse`, or the name of an imported file
        ("created_at", pa.timestamp("us", tz="UTC")),
    ]
)
