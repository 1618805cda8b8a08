"""Guards of a segment's word times: one flag for each kind of fault. Pure functions of the evidence."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from actors.config.trust import GuardsConfig
from actors.guards.evidence import WordEvidence, flag_names
from actors.text.syllables import count_syllables

# Flags of word times that are probably wrong: each calls for a repair. `speech_without_words` is about the
# text: it misses what is said.
SUSPECT_WORD_FLAGS: frozenset[str] = frozenset(
    {
        "zero_length_run",
        "words_piled_up",
        "words_in_silence",
        "many_times_repaired",
        "speech_without_words",
    }
)
# Sound at an end of a segment that no word covers. It is no reason to doubt the text, as people breathe and
# hesitate there, but one to decode it again: a word may be missing where the recording was cut.
EDGE = "edge_without_words"
# Flags that only word times can tell, and that call for another text.
WORD_FAULTS = SUSPECT_WORD_FLAGS | {EDGE}
DEFAULTS = GuardsConfig()

# Words without duration in a row, and in all, with their share of the words.
_ZERO_RUN, _ZERO_WORDS, _ZERO_SHARE = 3, 4, 0.3
# Words in a row that nobody says in so many seconds.
_PILE, _PILE_SECONDS = 6, 0.3
# Share of a word that is in silence, and words of which that is true, all of a text or several.
_SILENT_SHARE, _SILENT_WORDS = 0.8, 2
# Seconds around a word in which a syllable still belongs to it.
_AROUND = 0.05
# Syllables at an end of a segment, before its first word or behind its last one.
_EDGE_SYLLABLES = 2
# Syllables that no word covers in all, and their share of those that are heard, in a short segment.
_MISSING, _MISSING_SHARE = 3, 1 / 3
# Heard syllables that a word may cover for each of its own, and more: some voices have two peaks in one.
_PEAKS, _MORE_PEAKS = 2, 1
# Time stamps that are repaired, at least.
_REPAIRED = 4


def word_flags(evidence: WordEvidence, limits: GuardsConfig = DEFAULTS) -> tuple[str, ...]:
    """The flags that the guards give to a segment's words, beyond those that it has.

    Args:
        evidence: what is known about them.
        limits: the settings.
    """
    if not limits.enabled or not evidence.words:
        return ()
    stamps = 2 * len(evidence.words)
    found = {
        "zero_length_run": _has_zero_run(evidence),
        "words_piled_up": _has_pile(evidence),
        "words_in_silence": _silent_words(evidence) >= min(_SILENT_WORDS, len(evidence.words)),
        "many_times_repaired": evidence.repaired >= max(_REPAIRED, limits.max_repaired_share * stamps),
        "speech_without_words": _misses_speech(evidence, limits),
        EDGE: _at_edge(evidence) >= _EDGE_SYLLABLES,
    }
    if found["speech_without_words"]:
        del found[EDGE]
    known = flag_names(evidence.flags)
    return tuple(flag for flag, is_set in found.items() if is_set and flag not in known)


def needs_speech(evidence: WordEvidence, limits: GuardsConfig = DEFAULTS) -> bool:
    """Whether syllables are heard where no word is: a VAD can tell whether that is speech."""
    return (
        evidence.speech_syllables is None
        and bool(evidence.words)
        and (_misses_speech(evidence, limits) or _at_edge(evidence) >= _EDGE_SYLLABLES)
    )


def withdrawn_flags(evidence: WordEvidence) -> tuple[str, ...]:
    """Flags of a text that its words disprove.

    A text with fewer syllables than are heard lacks nothing if every syllable is in a word, and no word is
    stretched over several: then the voice has more peaks than syllables.

    Args:
        evidence: what is known about the words; its flags are all that the segment has.
    """
    known = flag_names(evidence.flags)
    if "too_little_text" not in known or known & SUSPECT_WORD_FLAGS or not evidence.words:
        return ()
    syllables = evidence.heard_syllables
    if not syllables or any(end <= start for _, start, end in evidence.words):
        return ()
    if any(not _is_covered(time, evidence) for time in syllables):
        return ()
    for text, start, end in evidence.words:
        inside = bisect_right(syllables, end) - bisect_left(syllables, start)
        if inside > _PEAKS * max(1.0, count_syllables(text, evidence.language)) + _MORE_PEAKS:
            return ()
    return ("too_little_text", "repair_refused")


def needs_silences(evidence: WordEvidence) -> bool:
    """Whether so many words have no syllable that some may be in silence."""
    syllables = evidence.heard_syllables or ()
    unheard = 0
    for _, start, end in evidence.words:
        place = bisect_left(syllables, start - _AROUND)
        unheard += place == len(syllables) or syllables[place] > end + _AROUND
    return unheard >= min(_SILENT_WORDS, len(evidence.words))


def _has_zero_run(evidence: WordEvidence) -> bool:
    run = longest = total = 0
    for _, start, end in evidence.words:
        run = run + 1 if end <= start else 0
        longest, total = max(longest, run), total + (end <= start)
    return longest >= _ZERO_RUN or (total >= _ZERO_WORDS and total >= _ZERO_SHARE * len(evidence.words))


def _has_pile(evidence: WordEvidence) -> bool:
    starts = [start for _, start, _ in evidence.words]
    ends = [end for _, _, end in evidence.words]
    return any(end - start <= _PILE_SECONDS for start, end in zip(starts, ends[_PILE - 1 :], strict=False))


def _silent_words(evidence: WordEvidence) -> int:
    return sum(
        any(
            min(end, silence_end) - max(start, silence_start) >= _SILENT_SHARE * (end - start)
            for silence_start, silence_end in evidence.silences
            # A word without duration is where it stands.
            if silence_start <= (start + end) / 2 <= silence_end
        )
        for _, start, end in evidence.words
    )


def _misses_speech(evidence: WordEvidence, limits: GuardsConfig) -> bool:
    """Whether several syllables in a row, or a good part of all of them, are in no word."""
    syllables = _syllables(evidence)
    if len(syllables) < _MISSING:
        return False
    if _uncovered(evidence) >= limits.max_uncovered_syllables:
        return True
    missing = sum(not _is_covered(time, evidence) for time in syllables)
    return missing >= _MISSING and missing >= _MISSING_SHARE * len(syllables)


def _is_covered(time: float, evidence: WordEvidence) -> bool:
    return any(start - _AROUND <= time <= end + _AROUND for _, start, end in evidence.words)


def _at_edge(evidence: WordEvidence) -> int:
    """Syllables that are heard before the first word, or behind the last one; the larger number."""
    syllables = _syllables(evidence)
    first = min(start for _, start, _ in evidence.words) - _AROUND
    last = max(end for _, _, end in evidence.words) + _AROUND
    return max(sum(time < first for time in syllables), sum(time > last for time in syllables))


def _syllables(evidence: WordEvidence) -> tuple[float, ...]:
    spoken = evidence.speech_syllables
    return (evidence.heard_syllables if spoken is None else spoken) or ()


def _uncovered(evidence: WordEvidence) -> int:
    """The longest row of syllables that are heard where no word is."""
    longest = run = position = 0
    words = sorted((start, end) for _, start, end in evidence.words)
    latest_end = float("-inf")
    for time in _syllables(evidence):
        while position < len(words) and words[position][0] - _AROUND <= time:
            latest_end = max(latest_end, words[position][1])
            position += 1
        run = 0 if time <= latest_end + _AROUND else run + 1
        longest = max(longest, run)
    return longest
