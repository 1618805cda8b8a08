"""Guards of a segment's text: one flag for each kind of fault. Pure functions of the evidence."""

from __future__ import annotations

import math

from actors.config.trust import GuardsConfig
from actors.guards import languages, leaks, loops
from actors.guards.evidence import TextEvidence, flag_names
from actors.records import ServerJudgement
from actors.text.syllables import count_syllables

# The text is that of the segment before, which sounds otherwise.
REPEATED = "previous_text"
# Flags of a text that is probably wrong: each calls for a repair.
SUSPECT_TEXT_FLAGS: frozenset[str] = frozenset(
    {
        # From the parser and the backends.
        "truncated",
        "loop_collapsed",
        "repetitive",
        "unreliable",
        "unknown_language",
        "language_not_forced",
        "language_none_with_text",
        # From the guards.
        "too_much_text",
        "too_little_text",
        "text_without_speech",
        "context_leaked",
        "language_doubtful",
        "language_not_allowed",
        "low_confidence",
        REPEATED,
        # From the alignment of given texts.
        "text_unlike_audio",
    }
)
DEFAULTS = GuardsConfig()

# Syllables of texts for each one that is heard. Measured on the corpus of docs/trust.md.
_SYLLABLES_PER_HEARD = {"ja": 1.35, "ko": 1.2, "nl": 1.3, "zh": 1.0, "yue": 0.95}
_OTHER_LANGUAGES = 1.1
# Heard syllables between which the limit of missing text rises, as more of them are more certain, and by how
# much.
_FEW, _MANY, _RISE = 20, 60, 0.1
# Heard syllables up to which a text is short, and syllables that it may always lack: one that is heard twice
# is a large share of it.
_SHORT, _FREE_SHORT = 10, 0.5
# Syllables that a text may always have more than is heard.
_FREE = 4.0
# Heard syllables of speech from which an empty text has missed something, and, where they are few, seconds.
_UNSAID, _FEW_UNSAID, _FEW_SECONDS = 8, 4, 1.0
# Mean log-probability below which a text is invented if its server hears no speech.
_INVENTED_LOGPROB = -1.0
# Seconds of speech that a segment has at least.
_SHORTEST_SPEECH = 0.3


def text_flags(evidence: TextEvidence, limits: GuardsConfig = DEFAULTS) -> tuple[str, ...]:
    """The flags that the guards give to a segment's text, beyond those that it has.

    Args:
        evidence: what is known about it.
        limits: the settings.
    """
    if not limits.enabled:
        return ()
    found = {
        "repetitive": _is_loop(evidence, limits),
        "truncated": evidence.budget_spent,
        "too_much_text": _is_too_long(evidence, limits),
        "too_little_text": _is_too_short(evidence, limits),
        "text_without_speech": _is_invented(evidence, limits),
        "context_leaked": _is_leak(evidence, limits),
        "language_doubtful": _is_in_another_language(evidence, limits),
        "language_not_allowed": bool(
            evidence.text
            and evidence.allowed_languages
            and evidence.language
            and evidence.language not in evidence.allowed_languages
        ),
        "low_confidence": bool(
            evidence.text and evidence.confidence is not None and evidence.confidence < limits.min_confidence
        ),
    }
    known = flag_names(evidence.flags)
    return tuple(flag for flag, is_set in found.items() if is_set and flag not in known)


def needs_speech(evidence: TextEvidence, limits: GuardsConfig = DEFAULTS) -> bool:
    """Whether cheap evidence leaves a doubt that a VAD may settle: is there speech, and how much of it?"""
    if evidence.speech_probability is not None:
        return False
    if not evidence.text:
        return (evidence.heard_syllables or 0) >= _FEW_UNSAID
    return (
        "speech_unlikely" in evidence.flags
        or _is_too_short(evidence, limits)
        or _is_too_long(evidence, limits)
        or _hears_nothing(evidence)
        or any(_hears_no_speech(part, limits) for part in evidence.server_judgements)
        or (evidence.confidence is not None and evidence.confidence < limits.min_confidence)
    )


def is_suspect(flags: tuple[str, ...] | list[str]) -> bool:
    """Whether any of a segment's flags says that its text is probably wrong."""
    return not SUSPECT_TEXT_FLAGS.isdisjoint(flag_names(flags))


def _is_loop(evidence: TextEvidence, limits: GuardsConfig) -> bool:
    return "loop_collapsed" not in evidence.flags and loops.is_looping(
        evidence.text, limits.max_compression_ratio
    )


def _expected(evidence: TextEvidence, heard: int) -> float:
    return heard * _SYLLABLES_PER_HEARD.get(evidence.language or "", _OTHER_LANGUAGES)


def _is_too_long(evidence: TextEvidence, limits: GuardsConfig) -> bool:
    """More text than can be said in the time, or than is heard."""
    if not evidence.text:
        return False
    syllables = count_syllables(evidence.text, evidence.language)
    if syllables > _FREE + limits.max_syllables_per_second * evidence.duration:
        return True
    heard = evidence.heard_syllables
    if heard is None or syllables <= _FREE + limits.max_syllable_ratio * _expected(evidence, heard):
        return False
    # Noise hides syllables, but not the seconds of speech.
    seconds = evidence.speech_seconds
    return seconds is None or syllables > _FREE + limits.max_syllables_per_second * seconds


def _is_too_short(evidence: TextEvidence, limits: GuardsConfig) -> bool:
    """Less text than is heard: a part of it is missing."""
    heard = evidence.heard_syllables if evidence.speech_syllables is None else evidence.speech_syllables
    if heard is None:
        return False
    if not evidence.text:
        # Sounds that are no speech have peaks, too: only a VAD can tell.
        is_enough = heard >= _UNSAID or (
            heard >= _FEW_UNSAID and (evidence.speech_seconds or 0.0) >= _FEW_SECONDS
        )
        return evidence.speech_syllables is not None and is_enough and _is_speech(evidence)
    share = (min(max(heard, _FEW), _MANY) - _FEW) / (_MANY - _FEW)
    limit = limits.min_syllable_ratio * (1 + _RISE * share) * _expected(evidence, heard)
    free = _FREE_SHORT if heard <= _SHORT else 0.0
    return count_syllables(evidence.text, evidence.language) < limit - free


def _is_speech(evidence: TextEvidence) -> bool:
    return (evidence.speech_probability or 0.0) >= 0.5 and (
        evidence.speech_seconds or 0.0
    ) >= _SHORTEST_SPEECH


def _hears_nothing(evidence: TextEvidence) -> bool:
    return evidence.heard_syllables == 0


def _is_invented(evidence: TextEvidence, limits: GuardsConfig) -> bool:
    if not evidence.text:
        return False
    if evidence.speech_probability is None and (
        _hears_nothing(evidence) or "speech_unlikely" in evidence.flags
    ):
        return True
    if (
        evidence.speech_probability is not None
        and evidence.speech_probability < limits.min_speech_probability
    ):
        return True
    # The server hears no speech in a part, and is not sure of what it wrote.
    return any(
        _hears_no_speech(part, limits)
        and (
            (part.compression_ratio or 0.0) > limits.max_compression_ratio
            or (part.mean_log_probability or 0.0) < _INVENTED_LOGPROB
        )
        for part in evidence.server_judgements
    )


def _hears_no_speech(part: ServerJudgement, limits: GuardsConfig) -> bool:
    return (part.no_speech_probability or 0.0) > limits.max_no_speech_probability


def _is_leak(evidence: TextEvidence, limits: GuardsConfig) -> bool:
    if not evidence.text or not evidence.context:
        return False
    found = leaks.copied(evidence.text, evidence.context)
    if found.share < limits.max_context_share:
        return False
    return found.much or _is_invented(evidence, limits) or _is_unlike(evidence)


def _is_unlike(evidence: TextEvidence) -> bool:
    """Whether a term has clearly more or fewer syllables than are heard, or may be anything."""
    heard = evidence.heard_syllables
    if heard is None:
        return True
    ratio = (count_syllables(evidence.text, evidence.language) + 1) / (_expected(evidence, heard) + 1)
    return not 0.6 < ratio < 2.0


def _is_in_another_language(evidence: TextEvidence, limits: GuardsConfig) -> bool:
    language = evidence.language or evidence.forced_language
    if not evidence.text or not language:
        return False
    return languages.doubt(evidence.text, language) > math.log(limits.max_language_odds)
