"""What is asked of a candidate, and why one is dropped. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.curation.candidates import Candidate

# Flags that say that a text is wrong or incomplete, or that the sound is damaged.
BAD_FLAGS = (
    *(
        "truncated",
        "decode_errors",
        "beyond_end",
        "gap_filled",
        "stamps_unreliable",
        "audio_unread",
        "clipped",
    ),
    *("non_finite_samples", "speech_unlikely", "lost", "error", "failed", "seam_mismatch"),
    *(
        "loop_collapsed",
        "repetitive",
        "unreliable",
        "too_much_text",
        "too_little_text",
        "text_without_speech",
    ),
    *("context_leaked", "low_confidence", "text_unlike_audio", "speech_without_text"),
    *("language_none_with_text", "language_doubtful", "language_not_allowed", "languages_mixed"),
    *("alignment_failed", "words_piled_up", "words_in_silence", "speech_without_words"),
)
# The logarithm of the odds of another language from which a text is in it.
_OTHER_LANGUAGE = math.log(1e4)
# Candidates of a language from which its usual rate is known; the least spread that is assumed, as a share.
_ENOUGH, _LEAST_SPREAD = 20, 0.12
# Syllables of the text for each one that is heard: least, usual, most. In 80 recordings of the corpus in 19
# languages they were 0.69 to 1.9; see tests/benchmarks/RESULTS.md.
_LEAST_RATIO, _USUAL_RATIO, _MOST_RATIO = 0.5, 1.25, 2.1
# A recording ends in the middle of speech if it is so loud at its end (dB relative to speech), and its text
# has so many syllables for each one that is heard.
_LOUD_END, _MANY_SYLLABLES = -13.0, 1.4
# Syllables of a text in a second: nobody speaks so fast for a whole segment.
_MOST_SYLLABLES = 9.0
# Share of the words of a given text that may be unheard.
_UNHEARD = 0.15
# Bits, of 256, in which the fingerprints of copies differ at most, and the difference of their lengths.
_BITS, _SECONDS = 60, 0.15


@dataclass(frozen=True)
class Limits:
    """See the options of `scriptorium select`; None: no limit."""

    statuses: tuple[str, ...] = ("ok",)
    languages: tuple[str, ...] = ()
    flags: tuple[str, ...] = BAD_FLAGS
    min_confidence: float | None = 0.5
    min_agreement: float | None = 0.8
    min_chars_per_second: float | None = 1.0
    max_chars_per_second: float | None = 27.0
    max_rate_deviation: float | None = 6.0
    min_snr: float | None = 8.0
    min_bandwidth: float | None = 2500.0
    max_clipped: float | None = 0.002
    min_level: float | None = -55.0
    min_duration: float | None = 0.3
    max_duration: float | None = None
    min_speech: float | None = 0.1
    max_speakers: float | None = None
    min_purity: float | None = None
    keep_copies: bool = False
    max_same_text: float | None = 5.0


def judge(candidate: Candidate, limits: Limits, voices: Mapping[str, int]) -> list[str]:
    """Why a candidate is dropped, by itself: the worst reasons first; empty: it is good."""
    sample = candidate.sample
    if not sample.text:
        return ["no_text"]
    signal = candidate.signal
    total = sum(voices.values())
    checks = {
        "status": candidate.status not in limits.statuses,
        "language": bool(limits.languages) and sample.language not in limits.languages,
        **{f"flag:{flag}": True for flag in _bad_flags(sample.flags, limits.flags)},
        "confidence": _below(sample.confidence, limits.min_confidence),
        "agreement": _below(candidate.agreement, limits.min_agreement),
        "too_slow": _below(candidate.characters_per_second, limits.min_chars_per_second),
        "too_fast": _above(candidate.characters_per_second, limits.max_chars_per_second)
        or (limits.max_chars_per_second is not None and candidate.syllables_per_second > _MOST_SYLLABLES),
        "text_in_other_language": candidate.language_doubt > _OTHER_LANGUAGE,
        "duration": _below(sample.duration, limits.min_duration)
        or _above(sample.duration, limits.max_duration),
        "little_speech": _below(candidate.speech_share, limits.min_speech),
        "speakers": bool(total) and _above(len(voices), limits.max_speakers),
        "speaker_purity": bool(total) and _below(max(voices.values()) / total, limits.min_purity),
    }
    if signal is not None:
        ratio = candidate.syllable_ratio or 1.0
        checks |= {
            "silence": signal.snr_db is None,
            "noise": _below(signal.snr_db, limits.min_snr),
            "bandwidth": _below(signal.bandwidth_hz, limits.min_bandwidth),
            "clipping": _above(signal.clipped_share, limits.max_clipped),
            "level": _below(signal.level_dbfs, limits.min_level),
            "cut_off": candidate.ends_recording
            and _above(signal.end_db, _LOUD_END)
            and ratio > _MANY_SYLLABLES,
            "text_unlike_sound": not _LEAST_RATIO <= ratio <= _MOST_RATIO,
        }
    return [reason for reason, is_true in checks.items() if is_true]


def judge_together(candidates: Sequence[Candidate], limits: Limits) -> None:
    """Add the reasons that need all candidates: unusual rates, copies, repeated texts."""
    good = [candidate for candidate in candidates if not candidate.reasons]
    if limits.max_rate_deviation is not None:
        for candidate, deviation in zip(good, _deviations(good), strict=True):
            if deviation > limits.max_rate_deviation:
                candidate.reasons.append("unusual_rate")
    good = [candidate for candidate in good if not candidate.reasons]
    if not limits.keep_copies:
        _find_copies(good, candidates)
    if limits.max_same_text is not None:
        seen: Counter[str] = Counter()
        for candidate in good:
            text = text_key(candidate.sample.text)
            if candidate.reasons or len(candidate.sample.text.split()) < 4:
                continue
            seen[text] += 1
            if seen[text] > limits.max_same_text:
                candidate.reasons.append("same_text")


def text_key(text: str) -> str:
    """What texts share that differ in case, punctuation and white space only."""
    return "".join(char for char in text.casefold() if char.isalnum())


def _deviations(candidates: Sequence[Candidate]) -> list[float]:
    """How far each one's rate is from the median of its language, in robust standard deviations."""
    by_language: dict[str | None, list[float]] = {}
    for candidate in candidates:
        by_language.setdefault(candidate.sample.language, []).append(candidate.characters_per_second)
    usual = {}
    for language, rates in by_language.items():
        if len(rates) >= _ENOUGH:
            middle = float(np.median(rates))
            spread = 1.4826 * float(np.median(np.abs(np.array(rates) - middle)))
            usual[language] = middle, max(spread, _LEAST_SPREAD * middle)
    found = []
    for candidate in candidates:
        middle, spread = usual.get(candidate.sample.language, (candidate.characters_per_second, 1.0))
        found.append(abs(candidate.characters_per_second - middle) / spread)
    return found


def _find_copies(candidates: Sequence[Candidate], everyone: Sequence[Candidate]) -> None:
    """The best one of each set of copies stays: they may have different texts.

    The text that most copies have is the best, also if those with it were dropped for other reasons.
    """
    votes = _votes(everyone)
    by_file: set[tuple[str | None, float, float]] = set()
    by_length: dict[int, list[Candidate]] = {}
    for candidate in sorted(candidates, key=lambda one: (-votes.get(id(one), 0), _preference(one))):
        sample = candidate.sample
        place = (candidate.etag, round(sample.start, 2), round(sample.end, 2))
        if candidate.etag is not None and place in by_file:
            candidate.reasons.append("same_audio")
            continue
        by_file.add(place)
        print_ = candidate.signal.fingerprint if candidate.signal is not None else b""
        if not print_:
            continue
        if _alike(candidate, by_length):
            candidate.reasons.append("same_sound")
            continue
        by_length.setdefault(round(sample.duration / _SECONDS), []).append(candidate)


def _votes(candidates: Sequence[Candidate]) -> dict[int, int]:
    """How many copies of a candidate have its text, by its `id()`; those without copies are missing."""
    by_length: dict[int, list[Candidate]] = {}
    groups: dict[int, list[Candidate]] = {}  # by the first one of each set of copies
    for candidate in candidates:
        if candidate.signal is None or not candidate.signal.fingerprint:
            continue
        same = _alike(candidate, by_length)
        if same:
            groups[id(same[0])].append(candidate)
            continue
        by_length.setdefault(round(candidate.sample.duration / _SECONDS), []).append(candidate)
        groups[id(candidate)] = [candidate]
    votes: dict[int, int] = {}
    for group in groups.values():
        texts = Counter(text_key(member.sample.text) for member in group)
        votes |= {id(member): texts[text_key(member.sample.text)] for member in group if len(group) > 1}
    return votes


def _alike(candidate: Candidate, by_length: Mapping[int, Sequence[Candidate]]) -> list[Candidate]:
    """Those of about the same length that sound the same."""
    assert candidate.signal is not None
    near = round(candidate.sample.duration / _SECONDS)
    others = [other for key in (near - 1, near, near + 1) for other in by_length.get(key, ())]
    print_ = candidate.signal.fingerprint
    return [other for other in others if _differing_bits(print_, other) <= _BITS]


def _preference(candidate: Candidate) -> tuple[float, float, float]:
    ratio = candidate.syllable_ratio
    return (
        -(candidate.agreement or 0.0),
        -(candidate.sample.confidence or 0.0),
        abs(math.log(ratio / _USUAL_RATIO)) if ratio else 0.0,
    )


def _differing_bits(fingerprint: bytes, other: Candidate) -> int:
    assert other.signal is not None
    return (int.from_bytes(fingerprint) ^ int.from_bytes(other.signal.fingerprint)).bit_count()


def _bad_flags(flags: Sequence[str], bad: Sequence[str]) -> list[str]:
    found = []
    for flag in flags:
        name, _, value = flag.partition(":")
        if name == "text_unlike_audio" and _is_number(value) and float(value) <= _UNHEARD:
            continue
        if name in bad or flag in bad:
            found.append(name)
    return list(dict.fromkeys(found))


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _below(value: float | None, limit: float | None) -> bool:
    return value is not None and limit is not None and value < limit


def _above(value: float | None, limit: float | None) -> bool:
    return value is not None and limit is not None and value > limit
