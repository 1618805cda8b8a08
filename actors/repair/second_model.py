"""The last step of the ladder: a second model hears what is still doubtful; both texts become one. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from actors.confidence.words import word_confidences
from actors.config.repair import RepairConfig
from actors.guards.evidence import flag_names
from actors.guards.text import SUSPECT_TEXT_FLAGS
from actors.guards.words import WORD_FAULTS
from actors.records import SAMPLING_RATE, CandidateRow, Hypothesis, Row, SegmentRequest, SegmentRow
from actors.repair.agreement import AGREEMENT, Word, agreement, merged, words_of
from actors.repair.choice import ORIGINAL, Candidate, as_row, best
from actors.repair.steps import Check
from actors.repair.words import faults
from actors.text.languages import name_of

SECOND = "second_model"
# Word times are doubtful because words are missing, or are not said: only another text can help.
_OF_TEXT = SUSPECT_TEXT_FLAGS | WORD_FAULTS
# Flags that the alignment sets again.
_OF_WORDS = WORD_FAULTS | {
    "zero_length_words",
    "too_long_to_align",
    "alignment_failed",
    "words_realigned",
}
# Seconds by which times may be rounded.
_ROUNDING = 0.002


def is_doubtful(segment: SegmentRow) -> bool:
    """Whether the repair of a segment has not helped."""
    flags = flag_names(segment.get("flags") or [])
    return bool(_OF_TEXT & flags) and "text_given" not in flags


def has_model(repair: RepairConfig) -> bool:
    """Whether it is another model that hears doubtful segments in the second pass."""
    return repair.enabled and repair.model is not None


def is_wanted_by(repair: RepairConfig) -> Callable[[SegmentRow], bool]:
    """Which segments of finished shards the second pass hears again: for a second model all doubtful ones."""
    return is_doubtful if has_model(repair) or not repair.second_look else faults.has_word_faults


def seconds_again(
    segments: Sequence[SegmentRow],
    languages: Sequence[str],
    is_wanted: Callable[[SegmentRow], bool] = is_doubtful,
) -> tuple[float, float]:
    """Seconds of segments for the second pass: of those that are doubtful, and of those in these languages.

    Args:
        segments: of a finished shard.
        languages: ISO codes; a segment in one of them counts as that, doubtful or not.
        is_wanted: see `is_wanted_by`.
    """
    of_languages = [one for one in segments if one.get("language") in languages]
    doubtful = [one for one in segments if one.get("language") not in languages and is_wanted(one)]
    return _seconds(doubtful), _seconds(of_languages)


def segments_again(
    segments: Sequence[SegmentRow],
    languages: Sequence[str],
    *,
    doubtful: bool,
    is_wanted: Callable[[SegmentRow], bool] = is_doubtful,
) -> list[int]:
    """Numbers of the segments for the second pass.

    Args:
        segments: of a finished shard.
        languages: see `seconds_again`.
        doubtful: whether the budget allows those that are only doubtful.
        is_wanted: see `is_wanted_by`.
    """
    return [
        number
        for number, one in enumerate(segments)
        if one.get("language") in languages or (doubtful and is_wanted(one))
    ]


def with_audio(segment: SegmentRow, decoded: Sequence[Row]) -> Row | None:
    """A segment of an earlier pass with its samples, from the segments of the same audio decoded again.

    Returns:
        None where none of them has it: the audio has changed.
    """
    for one in decoded:
        same = one.get("channel") == segment.get("channel")
        if same and one["start"] <= segment["start"] + _ROUNDING and one["end"] >= segment["end"] - _ROUNDING:
            samples = memoryview(one["samples"])
            first = max(0, round((segment["start"] - one["start"]) * SAMPLING_RATE))
            last = min(len(samples) // 2, round((segment["end"] - one["start"]) * SAMPLING_RATE))
            return {
                **segment,
                "samples": bytes(samples[2 * first : 2 * last]),
                "flags": one.get("flags") or [],
            }
    return None


def combined(
    segment: SegmentRow,
    request: SegmentRequest,
    second: Hypothesis,
    check: Check,
    languages: Sequence[str],
) -> Hypothesis:
    """The text of a segment from those of two models.

    In the languages of the second model its text is taken, unless only the first one passes all guards.
    Else, if nothing but doubts speaks against either text, spans in which they differ are taken from the more
    confident model; if both agree, the first text stays and is `confirmed`. Where one of them is broken, the
    rule of `actors.repair.choice` says which one stays.

    Args:
        segment: with the first model's text and words.
        request: what the second model was given.
        second: its answer, with all its flags.
        check: gives an answer its flags.
        languages: ISO codes of the languages for which the second model is the better one.
    """
    first = first_text(segment)
    ours, theirs = Candidate(ORIGINAL, first), Candidate(SECOND, second)
    earlier: list[CandidateRow] = list(segment.get("candidates") or [])
    if segment.get("language") in languages:
        if theirs.suspects and not ours.suspects:
            return replace(first, candidates=(*earlier, as_row(theirs)))
        return replace(second, flags=(*second.flags, "second_model"), candidates=(*earlier, as_row(ours)))
    if ours.is_sound and theirs.is_sound and first.text and second.text:
        if agreement(first.text, second.text) >= AGREEMENT:
            return replace(first, flags=(*first.flags, "confirmed"), candidates=(*earlier, as_row(theirs)))
        words = _words(first.text, segment), _words_of(second)
        text, kept = merged(first.text, second.text, *words, (first.confidence, second.confidence))
        if kept and text not in (first.text, second.text):
            plain = replace(
                second, text=text, flags=(), token_ends=(), token_log_probabilities=(), raw=second.raw
            )
            both = Candidate(SECOND, check(request, plain))
            if both.faults <= min(ours.faults, theirs.faults):
                rejected = (*earlier, as_row(ours), as_row(theirs))
                flags = (*both.hypothesis.flags, f"repaired:{SECOND}")
                return replace(both.hypothesis, flags=flags, candidates=rejected)
    if best([ours, theirs]):
        flags = (*second.flags, f"repaired:{SECOND}")
        return replace(second, flags=flags, candidates=(*earlier, as_row(ours)))
    return replace(first, candidates=(*earlier, as_row(theirs)))


def first_text(segment: SegmentRow) -> Hypothesis:
    """The answer of the first model, from its row."""
    return Hypothesis(
        text=segment["text"] or "",
        language=name_of(segment.get("language")),
        raw=segment.get("raw") or "",
        confidence=segment.get("confidence"),
        flags=without_word_flags(segment.get("flags") or []),
        language_confidence=segment.get("language_confidence"),
    )


def without_word_flags(flags: Sequence[str]) -> tuple[str, ...]:
    """Flags without those that the alignment sets again."""
    return tuple(flag for flag in flags if not flag_names([flag]) & _OF_WORDS)


def merged_row(row: Row, earlier: Row, again: Sequence[int], *, own: bool = False) -> Row:
    """A finished row of the second pass: the earlier row, with the segments that were recognised again.

    Args:
        row: what the second pass found; its segments are those that were recognised again.
        earlier: the row of the first pass.
        again: numbers of its segments that were to be recognised again.
        own: whether the first model heard them again: its texts are only taken where their words are better.
    """
    found = {} if row["status"] == "error" else {_key(one): one for one in row["segments"] or []}
    segments = []
    for number, segment in enumerate(earlier["segments"]):
        if number in again:
            flags = [*(segment.get("flags") or [])]
            other = found.get(_key(segment))
            if other is None:
                segment = {**segment, "flags": [*flags, "repair_failed"]}
            else:
                segment = faults.better(segment, other) if own else other
        segments.append(segment)
    status = earlier["status"]
    wrong = {flag for one in segments for flag in one.get("flags") or []}
    if status == "partial" and not earlier.get("error_code") and not wrong & {"failed", "unreliable"}:
        status = "ok"
    seconds = _seconds([earlier["segments"][number] for number in again])
    if own:
        seconds = row.get("repair_seconds") or 0.0
    columns = {name: row[name] for name in ("shard_id", "run_id", "created_at")}
    return {**row, **earlier, **columns, "segments": segments, "status": status, "repair_seconds": seconds}


def _key(segment: SegmentRow) -> tuple[float, float, int | None]:
    return round(segment["start"], 3), round(segment["end"], 3), segment.get("channel")


def _seconds(segments: Sequence[SegmentRow]) -> float:
    return sum(one["end"] - one["start"] for one in segments)


def _words(text: str, segment: SegmentRow) -> list[Word]:
    """The words of a text with the confidence that the row's words have."""
    rows = [one for one in segment.get("words") or [] if one.get("confidence") is not None]
    return [
        replace(
            word,
            confidence=min(
                (
                    one["confidence"] or 0.0
                    for one in rows
                    if one["char_start"] < word.end and one["char_end"] > word.start
                ),
                default=None,
            ),
        )
        for word in words_of(text)
    ]


def _words_of(hypothesis: Hypothesis) -> list[Word]:
    words = words_of(hypothesis.text)
    confidences = word_confidences(
        hypothesis.token_ends,
        hypothesis.token_log_probabilities,
        hypothesis.text,
        [(word.start, word.end) for word in words],
    )
    return [replace(word, confidence=value) for word, value in zip(words, confidences, strict=True)]
