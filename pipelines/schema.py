"""The Arrow schemas of everything that is stored or passed between stages, and the registry of flags."""

from __future__ import annotations

import pyarrow as pa

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
    return pa.schema([*PLAN, *_OUTCOME, ("segments", pa.list_(pa.struct(segment))), *(extra or [])])


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

# Every flag of a transcript or a segment, by subject. A flag never changes its meaning.
# tests/docs compare this registry with the code that emits flags and with docs/output.md.
FLAGS: dict[str, dict[str, str]] = {
    "file": {
        "truncated": "the file ends too early; on a segment: the model's answer was cut off",
        "decode_errors": "the file is damaged: audio that could not be decoded became silence",
        "beyond_end": "the file ends before a planned shard, or before the window of the recording does",
        "gap_filled": "a gap in the time stamps was filled with silence",
        "stamps_unreliable": "time stamps and audio drift apart: "
        "audio may be missing or repeated at shard boundaries",
        "header_duration_wrong": "the header claims a duration that decoding did not find",
        "header_says_less": "the header describes less audio than the file has: all of it was read",
        "files_joined": "several files in one, joined byte for byte: all of them were read",
        "audio_unread": "behind the audio are bytes that could not be read: speech may be missing",
        "several_audio_streams": "one of several audio streams was used, the one that FFmpeg selects",
        "silent_track_replaced": (
            "the audio stream that was selected is silent here, and the next one with sound was used"
        ),
    },
    "signal": {
        "clipped": "the signal is clipped",
        "peak_scaled": "the signal was louder than full scale and was scaled down",
        "dc_offset_removed": "a DC offset was removed",
        "phase_cancelled": "mixing the channels would cancel the signal: one channel was used",
        "phase_cancelled_partly": "mixing the channels would cancel parts of the signal: mixed two to one",
        "non_finite_samples": "samples that were not finite numbers became silence",
        "speech_unlikely": "noise or music without speech was not recognised; "
        "on a segment: it was recognised, but may be no speech",
        "channel:N": "the segment comes from channel N, counted from 0",
        "track:N": "the segment comes from audio track N, counted from 0",
    },
    "missing": {
        "lost:START-END": "this span in seconds was not recognised",
        "error:CODE": "a shard failed with this error code",
        "failed": "recognition of this segment failed",
        "overlap_removed": "two shards had the same span, one copy was removed",
        "seam_mismatch": "the end of a shard and the start of the next one do not meet",
    },
    "text": {
        "loop_collapsed": "the model repeated itself, and the repetition was collapsed",
        "repetitive": "the model may have repeated itself",
        "unreliable": "the model repeated itself without end, and named no language or left no text: "
        "text is wrong or missing",
        "tag_removed": "the model wrote its own markup into the text, and it was removed",
        "text_given": "the text comes from the manifest",
        "text_unlike_audio:SHARE": "this share of the given text's words is not said; they have no times",
        "speech_without_text:SHARE": "this share of the recognised words is not in the given text",
    },
    "language": {
        "no_language_tag": "the model named no language",
        "unknown_language:NAME": "the model named a language that is not known",
        "several_languages": "the model named several languages, the first known one was taken",
        "language_not_forced": "the model named another language than the forced one",
        "language_none_with_text": "the model reported no speech but wrote text",
    },
    "words": {
        "too_long_to_align": "the segment is too long for the aligner",
        "alignment_failed": "the aligner failed on this segment",
        "zero_length_words": "some words have no duration",
    },
    "repair": {
        "repaired:STEP": "the text comes from a step of the repair: language, recut, no_context, penalty or "
        "second_model; `candidates` has the texts that were rejected",
        "repair_refused": "not decoded again, because `repair.max_share` of the audio was",
        "languages_mixed": "several languages in one segment, which the repair could not separate",
    },
}
