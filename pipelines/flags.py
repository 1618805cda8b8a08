"""The registry of flags: what a transcript, a shard or a segment may say about itself."""

from __future__ import annotations

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
        "too_much_text": "the text has more syllables than are heard, or than anybody can say in the time",
        "too_little_text": "the text has clearly fewer syllables than are heard: a part may be missing",
        "text_without_speech": "the segment has text, but no speech is heard in it: it may be invented",
        "context_leaked": "the text is mostly copied from the context",
        "previous_text": "the text is that of the segment before it, which sounds otherwise",
        "low_confidence": "the confidence of the segment is below `guards.min_confidence`",
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
        "language_doubtful": "the script or the words of the text are not those of the segment's language",
        "language_not_allowed": "the language is none of those that are expected (`languages`)",
    },
    "words": {
        "too_long_to_align": "the segment is too long for the aligner",
        "alignment_failed": "the aligner failed on this segment",
        "zero_length_words": "some words have no duration",
        "zero_length_run": "several words in a row, or a third of them, have no duration",
        "words_piled_up": "more words at one place than anybody can say",
        "words_in_silence": "words stand where nothing is heard",
        "many_times_repaired": "many of the aligner's times were out of order and were repaired",
        "speech_without_words": "speech is heard where no word is: text is missing, or its times are wrong",
        "edge_without_words": "syllables are heard before the first word or behind the last one: a word may "
        "be missing where the recording was cut; no reason to doubt the text",
    },
    "repair": {
        "repaired:STEP": "the text comes from a step of the repair: language, recut, no_context, penalty or "
        "second_model; `candidates` has the texts that were rejected",
        "words_realigned": "bad times of some words were found anew, between the words around them",
        "second_model": "the text is that of the second model, which is the better one in its language",
        "confirmed": "a second model has nearly the same words as this doubtful text",
        "repair_failed": "the second model could not recognise this segment: the first text stays",
        "repair_refused": "not decoded again, because `repair.max_share` of the audio was",
        "languages_mixed": "probably several languages in one segment, which the repair could not separate",
    },
    "speakers": {
        "overlapped_speech": "several people speak at once: those words have no speaker",
        "speakers_failed": "speakers of a shard could not be found; its text is complete",
    },
}
